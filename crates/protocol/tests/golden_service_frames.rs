//! The golden frames in `api/service-frames/`: each file is read, decoded to what stands here, and
//! encoded to the same bytes again. The files were written by another program than this codec, from
//! the page.

mod golden;

use bytes::Bytes;
use golden::{Golden, only_frame};
use protocol::service::{Answer, Call, FromNode, FromProgram, Handler, Has, Serve};
use protocol::{InstanceMessage, Moment};

const GOLDEN: Golden = Golden("service-frames");

/// Where the state begins in `22-answer-sending`.
const SENDING_BYTES: usize = 28;

fn golden(name: &str) -> Bytes {
    GOLDEN.bytes(name)
}

fn of_program() -> Vec<(&'static str, FromProgram)> {
    let answer = |answer| FromProgram::Answer { call: 300, answer };
    vec![
        (
            "21-serve",
            FromProgram::Serve(Serve {
                version_min: 2,
                version_max: 2,
                factory: "/app/seats".into(),
                program_version: "2.1".into(),
                calls_max: 8,
                has: Has {
                    handlers: [Handler::Create, Handler::Delete].into(),
                    actions: ["hold".to_owned()].into(),
                },
            }),
        ),
        ("22-answer-state", answer(Answer::State(Bytes::from_static(br#"{"row":"A"}"#)))),
        ("22-answer-as-it-is", answer(Answer::AsItIs)),
        (
            "22-answer-refused",
            answer(Answer::Refused { status: 409, message: "held by Jörg".into() }),
        ),
        ("22-answer-failed", answer(Answer::Failed { message: "KeyError: who".into() })),
        (
            "22-answer-sending",
            answer(Answer::Sending {
                messages: vec![
                    InstanceMessage {
                        to: "ledger".into(),
                        method: 1,
                        payload: Bytes::from_static(b"[5]"),
                    },
                    InstanceMessage {
                        to: "mail".into(),
                        method: 300,
                        payload: Bytes::from_static(b"[]"),
                    },
                ],
                answer: Box::new(Answer::State(Bytes::from_static(br#"{"row":"A"}"#))),
            }),
        ),
        ("23-leave", FromProgram::Leave),
        ("0d-pong", FromProgram::Pong { number: 127 }),
    ]
}

fn call(number: u64, handler: Handler, version: u64, states: [&'static str; 3]) -> FromNode {
    let [before, after, body] = states.map(|text| Bytes::from_static(text.as_bytes()));
    let is_action = handler == Handler::Action;
    let user = if handler == Handler::Delete { "" } else { "/core/authz/users/jane" };
    let call = Call {
        handler,
        action: if is_action { "hold".into() } else { String::new() },
        link: "/app/seats/A1".into(),
        version,
        time: Moment(1_700_000_000_000_000),
        user: user.into(),
        before,
        after,
        body,
    };
    FromNode::Call { number, call }
}

fn of_node() -> Vec<(&'static str, FromNode)> {
    const ROW: &str = r#"{"row":"A"}"#;
    let patched = [ROW, r#"{"price":5,"row":"A"}"#, r#"{"price":5}"#];
    let error = FromNode::Error { code: "LATE".into(), text: "too late".into() };
    let welcome = FromNode::Welcome { version: 2, node: "n1".into(), frame_bytes_max: 9 << 20 };
    vec![
        ("a1-welcome", welcome),
        ("a2-call-create", call(1, Handler::Create, 0, ["", ROW, ""])),
        ("a2-call-patch", call(2, Handler::Patch, 3, patched)),
        ("a2-call-delete", call(3, Handler::Delete, 4, [ROW, "", ""])),
        ("a2-call-action", call(300, Handler::Action, 5, [ROW, "", r#"{"who":"jane"}"#])),
        ("8d-ping", FromNode::Ping { number: 127 }),
        ("ff-error", error),
    ]
}

#[test]
fn each_golden_frame_of_a_service_is_read_and_written_alike() {
    for (name, frame) in of_program() {
        assert_eq!(FromProgram::read(only_frame(&golden(name))), Ok(frame.clone()), "{name}");
        let mut out = Vec::new();
        frame.put(&mut out);
        assert_eq!(out, golden(name), "{name}");
    }
}

#[test]
fn each_golden_frame_of_a_node_is_read_and_written_alike() {
    for (name, frame) in of_node() {
        assert_eq!(FromNode::read(only_frame(&golden(name))), Ok(frame.clone()), "{name}");
        let mut out = Vec::new();
        frame.put(&mut out);
        assert_eq!(out, golden(name), "{name}");
    }
}

#[test]
fn every_golden_file_is_tested() {
    let (of_program, of_node) = (of_program(), of_node());
    let names = of_program.iter().map(|(name, _)| *name);
    GOLDEN.check_names(names.chain(of_node.iter().map(|(name, _)| *name)));
}

/// What would be passed over is refused; only the first frame of each end may say more.
#[test]
fn bytes_behind_the_last_field_are_refused_and_so_is_what_is_cut_short() {
    for (name, _) in of_program() {
        let whole = only_frame(&golden(name));
        let more: Bytes = [&whole[..], b"x"].concat().into();
        let is_open = matches!(name, "21-serve" | "22-answer-state" | "22-answer-sending");
        let kind = format!("{:#04x}", whole[0]);
        let read = FromProgram::read(more).map_err(|garbled| garbled.0);
        assert_eq!(read.is_ok(), is_open, "{name}");
        assert!(read.map_or_else(|why| why.contains(&kind), |_| true), "{name} names itself");
        for end in 0..whole.len() {
            let is_state = name == "22-answer-state" && end >= 4
                || name == "22-answer-sending" && end >= SENDING_BYTES;
            assert_eq!(FromProgram::read(whole.slice(..end)).is_ok(), is_state, "{name} {end}");
        }
    }
    for (name, _) in of_node() {
        let whole = only_frame(&golden(name));
        let more: Bytes = [&whole[..], b"x"].concat().into();
        let is_open = matches!(name, "a1-welcome" | "ff-error");
        let kind = format!("{:#04x}", whole[0]);
        let read = FromNode::read(more).map_err(|garbled| garbled.0);
        assert_eq!(read.is_ok(), is_open, "{name}");
        assert!(read.map_or_else(|why| why.contains(&kind), |_| true), "{name} names itself");
        for end in 0..whole.len() {
            assert!(FromNode::read(whole.slice(..end)).is_err(), "{name} {end}");
        }
    }
    let refused = FromProgram::Answer {
        call: 1,
        answer: Answer::Refused { status: 500, message: String::new() },
    };
    let mut out = Vec::new();
    refused.put(&mut out);
    assert!(FromProgram::read(only_frame(&out)).is_err(), "no program gives a 500");
}
