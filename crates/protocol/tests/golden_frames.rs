//! The golden frames in `api/frames/`: each file is read, decoded to what stands here, and encoded
//! to the same bytes again. The files were written by another program than this codec, from the
//! page.

mod golden;

use bytes::{Bytes, BytesMut};
use golden::{Golden, only_frame};
use protocol::immortal::{
    BlockHead, Fate, Hello, Message, SourceKind, Status, ToNode, ToProgram, View, Welcome, blocks,
    messages, put_block_head, put_message,
};
use protocol::{Moment, Term};

const GOLDEN: Golden = Golden("frames");

fn golden(name: &str) -> Bytes {
    GOLDEN.bytes(name)
}

fn payload(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn fork() -> Message {
    Message::Fork { method: 1, payload: payload(r#"["Hello World 1!"]"#) }
}

fn call() -> Message {
    Message::Call { id: 300, method: -2, payload: payload("[]") }
}

fn impulse() -> Message {
    Message::Impulse { method: 7, payload: payload("[true]") }
}

fn joined(messages: &[Message]) -> Bytes {
    let mut out = Vec::new();
    for message in messages {
        put_message(&mut out, message);
    }
    out.into()
}

fn to_node() -> Vec<(&'static str, ToNode)> {
    let send = |destination: &str, parts: &[Message]| ToNode::Send {
        destination: destination.into(),
        count: parts.len() as u64,
        messages: joined(parts),
    };
    vec![
        (
            "01-hello",
            ToNode::Hello(Hello {
                version_min: 1,
                version_max: 1,
                instance: "server".into(),
                program_version: 3,
                upgrade_to: 4,
            }),
        ),
        ("02-send", send("server", &[fork(), call()])),
        ("02-send-itself", send("", &[fork()])),
        ("03-await-timer", ToNode::Await { id: 5, due: Some(Moment(1_700_000_000_000_000)) }),
        ("03-await-effect", ToNode::Await { id: 6, due: None }),
        ("04-cancel", ToNode::Cancel { id: 5 }),
        ("05-done", ToNode::Done { input: 16_384 }),
        (
            "06-impulse",
            ToNode::Impulse {
                number: 1,
                destination: String::new(),
                message: joined(&[impulse()]),
            },
        ),
        ("07-result", ToNode::Result { id: 6, status: Status::Value, payload: payload("42") }),
        ("08-checkpoint", ToNode::Checkpoint { request: 9 }),
        ("09-chunk", ToNode::Chunk(payload("123456789"))),
        ("0a-checkpoint-end", ToNode::CheckpointEnd { crc: 0xcbf4_3926 }),
        ("0b-initial", ToNode::Initial(payload("[]"))),
        ("0c-ask-checkpoint", ToNode::AskCheckpoint),
        ("0d-pong", ToNode::Pong { number: 127 }),
        ("0e-fault", ToNode::Fault { input: 12, text: "a handler panicked: no such user".into() }),
    ]
}

/// Frames that end with bytes of any number have no end of their own.
fn is_open(frame: &str) -> bool {
    ["02-", "06-", "07-", "09-", "0b-", "84-", "86-"].iter().any(|open| frame.starts_with(open))
}

/// A field that is not known is refused, and the frame is named. What is said before a version is
/// agreed on may be longer in a later one.
#[test]
fn each_frame_names_what_it_does_not_know() {
    let longer = |name: &str| {
        let mut bytes = BytesMut::from(&golden(name)[4..]);
        bytes.extend_from_slice(&[0x77]);
        bytes.freeze()
    };
    for (name, frame) in to_node() {
        let read = ToNode::read(longer(name));
        match name {
            "01-hello" => assert_eq!(read, Ok(frame)),
            _ if is_open(name) => assert_ne!(read, Ok(frame), "{name}"),
            _ => assert!(read.unwrap_err().0.contains(&format!("0x{}", &name[..2])), "{name}"),
        }
    }
    for (name, frame) in to_program() {
        let read = ToProgram::read(longer(name));
        match frame {
            ToProgram::Welcome(_) | ToProgram::Error { .. } => assert_eq!(read, Ok(frame)),
            _ if is_open(name) => assert_ne!(read, Ok(frame), "{name}"),
            _ => assert!(read.unwrap_err().0.contains(&format!("0x{}", &name[..2])), "{name}"),
        }
    }
    for kind in [0x00, 0x0f, 0x7f, 0x80, 0x8e, 0xfe] {
        let named = format!("{kind:#04x}");
        let frame = Bytes::copy_from_slice(&[kind]);
        assert!(ToNode::read(frame.clone()).unwrap_err().0.contains(&named));
        assert!(ToProgram::read(frame).unwrap_err().0.contains(&named));
    }
}

fn deliver() -> ToProgram {
    let mut body = Vec::new();
    let mut block = |kind, name: &str, first, parts: &[Message]| {
        let count = parts.len() as u64;
        let bytes = joined(parts);
        put_block_head(
            &mut body,
            &BlockHead { kind, name: name.into(), first, count },
            bytes.len(),
        );
        body.extend_from_slice(&bytes);
    };
    block(SourceKind::Instance, "client", 41, &[fork(), call()]);
    block(SourceKind::Impulses, "client/7", 0, &[impulse()]);
    block(SourceKind::Node, "", 0, &[Message::Timer { id: 5 }]);
    ToProgram::Deliver { first: 1_001, time: Moment(1_700_000_000_000_001), blocks: body.into() }
}

fn to_program() -> Vec<(&'static str, ToProgram)> {
    let fate = |number, fate, input| ToProgram::Fate { number, fate, input };
    vec![
        (
            "81-welcome",
            ToProgram::Welcome(Welcome {
                version: 1,
                node: "n1".into(),
                replica: 2,
                frame_bytes_max: 1 << 20,
                window_bytes: 4 << 20,
                state_version: 3,
            }),
        ),
        ("82-genesis", ToProgram::Genesis),
        ("83-load", ToProgram::Load { input: 1_000, bytes: 9 }),
        ("84-chunk", ToProgram::Chunk(payload("123456789"))),
        ("85-load-end", ToProgram::LoadEnd { crc: 0xcbf4_3926 }),
        ("86-deliver", deliver()),
        ("87-end-of-replay", ToProgram::EndOfReplay { input: 1_004 }),
        ("88-primary", ToProgram::Primary { term: Term(17) }),
        ("89-standby", ToProgram::Standby),
        ("8a-take-checkpoint", ToProgram::TakeCheckpoint { request: 9 }),
        ("8b-fate-logged", fate(1, Fate::Logged, 1_003)),
        ("8b-fate-not-logged", fate(2, Fate::Lost, 0)),
        ("8b-fate-unknown", fate(3, Fate::Unknown, 0)),
        ("8c-credit", ToProgram::Credit { destination: "server".into(), bytes: 65_536 }),
        ("8d-ping", ToProgram::Ping { number: 127 }),
        (
            "ff-error",
            ToProgram::Error {
                code: "ATTACHED".into(),
                text: "another program is attached: end it first".into(),
            },
        ),
    ]
}

fn all_messages() -> Vec<(&'static str, Message)> {
    let answer = |id, status, text| Message::Answer { id, status, payload: payload(text) };
    vec![
        ("message-0-fork", fork()),
        ("message-1-call", call()),
        ("message-2-answer-value", answer(300, Status::Value, "3")),
        ("message-2-answer-empty", answer(301, Status::Empty, "")),
        ("message-2-answer-error", answer(302, Status::Error, "no such user: Jörg")),
        ("message-3-impulse", impulse()),
        ("message-4-start", Message::Start { payload: payload("[]") }),
        ("message-5-timer", Message::Timer { id: 5 }),
        (
            "message-6-result",
            Message::Result { id: 6, status: Status::Value, payload: payload("42") },
        ),
        ("message-7-upgrade", Message::Upgrade { version: 4 }),
        ("message-8-skipped", Message::Skipped),
    ]
}

/// The one frame in a file, without its length.
#[test]
fn each_golden_frame_of_a_program_is_read_and_written_alike() {
    for (name, frame) in to_node() {
        assert_eq!(ToNode::read(only_frame(&golden(name))), Ok(frame.clone()), "{name}");
        let mut out = Vec::new();
        frame.put(&mut out);
        assert_eq!(out, golden(name), "{name}");
    }
}

#[test]
fn each_golden_frame_of_a_node_is_read_and_written_alike() {
    for (name, frame) in to_program() {
        assert_eq!(ToProgram::read(only_frame(&golden(name))), Ok(frame.clone()), "{name}");
        let mut out = Vec::new();
        frame.put(&mut out);
        assert_eq!(out, golden(name), "{name}");
    }
}

#[test]
fn each_golden_message_is_read_and_written_alike() {
    for (name, message) in all_messages() {
        let read: Vec<_> = messages(golden(name)).collect();
        assert_eq!(read, [Ok(message.clone())], "{name}");
        assert_eq!(joined(&[message]), golden(name), "{name}");
    }
}

#[test]
fn the_golden_delivery_has_its_inputs_in_order() {
    let ToProgram::Deliver { blocks: body, .. } = deliver() else { unreachable!() };
    let mut found = Vec::new();
    for block in blocks(body.clone()) {
        let block = block.unwrap();
        for message in messages(block.messages) {
            found.push((block.head.name.clone(), message.unwrap()));
        }
    }
    let timer = Message::Timer { id: 5 };
    let wanted = [("client", fork()), ("client", call()), ("client/7", impulse()), ("", timer)];
    assert_eq!(found, wanted.map(|(name, message)| (name.to_owned(), message)));
    let mut names = Vec::new();
    let mut view = View::new(&body);
    while let Some(block) = view.block().unwrap() {
        names.push((block.name, block.first, block.count));
    }
    assert_eq!(names, [("client", 41, 2), ("client/7", 0, 1), ("", 0, 1)]);
}

#[test]
fn every_golden_file_is_tested() {
    let (to_node, to_program, messages) = (to_node(), to_program(), all_messages());
    let names = to_node.iter().map(|(name, _)| *name);
    let names = names.chain(to_program.iter().map(|(name, _)| *name));
    GOLDEN.check_names(names.chain(messages.iter().map(|(name, _)| *name)));
}
