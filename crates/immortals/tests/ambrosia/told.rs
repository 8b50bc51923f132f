//! What an LB is told: each frame and each kind of input, as bytes.

use bytes::Bytes;
use immortals::ambrosia::{
    AmbrosiaAdapter, CHECKPOINTS_AWAITED_MAX, PING_METHOD, PING_RETURN_METHOD, RECORD_BYTES,
};
use protocol::immortal::{Fate, Message, SourceKind, Status, ToNode, ToProgram, Welcome};
use protocol::{Moment, Term};

use crate::wire::*;

fn payload_of(adapter: &mut AmbrosiaAdapter, frame: &ToProgram) -> Vec<u8> {
    let mut records = records(tell(adapter, frame));
    assert_eq!(records.len(), 1);
    records.remove(0).payload
}

/// Why the adapter refuses a frame.
fn refusal(adapter: &mut AmbrosiaAdapter, frame: &ToProgram) -> String {
    adapter.tell(frame, &mut Vec::new());
    adapter.trouble().expect("it refuses").0.clone()
}

#[test]
fn each_kind_of_input_has_its_bytes() {
    let value = Bytes::from_static(b"v");
    for (input, wanted) in [
        (a_fork(-2, b"v"), &b"\x0a\x00\x00\x03\x01v"[..]),
        (a_fork(300, b""), b"\x0a\x00\x00\xd8\x04\x01"),
        (Message::Impulse { method: 1, payload: value.clone() }, b"\x0a\x00\x00\x02\x02v"),
        (
            Message::Call { id: 64, method: 1, payload: value.clone() },
            b"\x1c\x00\x00\x02\x00\x0cclient\x80\x01v",
        ),
        (
            Message::Answer { id: 3, status: Status::Value, payload: value.clone() },
            b"\x16\x00\x01\x0cclient\x06v",
        ),
        (
            Message::Answer { id: 3, status: Status::Empty, payload: Bytes::new() },
            b"\x14\x00\x02\x0cclient\x06",
        ),
        (
            Message::Answer { id: 3, status: Status::Error, payload: value.clone() },
            b"\x16\x00\x03\x0cclient\x06v",
        ),
        (Message::Start { payload: Bytes::from_static(b"\x0ahello") }, b"\x0e\x09\x0ahello"),
        (a_fork(PING_METHOD, b"\x00\x02\x01t"), b"\x0a\x06\x00\x02\x01t"),
        (a_fork(PING_RETURN_METHOD, b"\x00\x02\x01t"), b"\x0a\x07\x00\x02\x01t"),
    ] {
        let mut adapter = loaded_adapter(options(), 9);
        let payload = payload_of(&mut adapter, &from_client(10, std::slice::from_ref(&input)));
        assert_eq!(payload, wanted, "{input:?}");
        assert_eq!(adapter.inputs_ignored(), 0);
    }
}

#[test]
fn inputs_of_the_node_that_no_lb_knows_are_passed_over_and_counted_as_told() {
    let mut adapter = loaded_adapter(options(), 9);
    let payload = Bytes::new();
    let inputs = [
        Message::Timer { id: 1 },
        Message::Result { id: 1, status: Status::Empty, payload },
        Message::Skipped,
        Message::Upgrade { version: 9 },
    ];
    assert_eq!(tell(&mut adapter, &from_node(10, &inputs)), b"");
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 1 });
    assert_eq!(hear(&mut adapter, checkpoint(b""))[0], ToNode::Done { input: 13 });
    assert_eq!(adapter.inputs_ignored(), 0);
}

#[test]
fn a_method_beyond_32_bits_is_passed_over_like_an_unknown_one() {
    let mut adapter = loaded_adapter(options(), 9);
    let method = i64::from(i32::MAX) + 1;
    let payload = Bytes::new();
    let inputs = [
        a_fork(method, b""),
        Message::Call { id: 1, method, payload: payload.clone() },
        a_fork(1, b"told"),
        Message::Impulse { method: -method - 1, payload },
    ];
    assert_eq!(payload_of(&mut adapter, &from_client(10, &inputs)), b"\x10\x00\x00\x02\x01told");
    assert_eq!(adapter.inputs_ignored(), 3);
}

#[test]
fn one_deliver_is_one_record_and_records_are_numbered_without_a_gap() {
    let mut adapter = loaded_adapter(options(), 9);
    let blocks = [
        block(SourceKind::Instance, "client", &[a_fork(1, b"a"), a_fork(2, b"b")]),
        block(SourceKind::Node, "", &[Message::Skipped]),
        block(SourceKind::Instance, "other", &[a_fork(3, b"c")]),
    ];
    let first = records(tell(&mut adapter, &deliver(10, blocks.concat())));
    let payload = b"\x0a\x00\x00\x02\x01a\x0a\x00\x00\x04\x01b\x0a\x00\x00\x06\x01c".to_vec();
    assert_eq!(first, [Record { number: 0, payload }]);
    let request = records(tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 1 }));
    assert_eq!(request, [Record { number: -1, payload: b"\x02\x02".to_vec() }]);
    let second = records(tell(&mut adapter, &from_client(14, &[a_fork(1, b"d")])));
    assert_eq!(second[0].number, 1);
}

#[test]
fn a_long_deliver_is_more_than_one_record() {
    let mut adapter = loaded_adapter(options(), 9);
    let half = Message::Fork { method: 1, payload: vec![0; RECORD_BYTES / 2].into() };
    let inputs = [half.clone(), half.clone(), half];
    let records = records(tell(&mut adapter, &from_client(10, &inputs)));
    let numbers: Vec<i64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn frames_without_a_word_of_ambrosia_give_no_bytes() {
    let mut adapter = loaded_adapter(options(), 9);
    let welcome = Welcome {
        version: 1,
        node: "node".to_owned(),
        replica: 0,
        frame_bytes_max: 1 << 20,
        window_bytes: 1 << 20,
        state_version: 3,
    };
    for frame in [
        ToProgram::Welcome(welcome),
        ToProgram::EndOfReplay { input: 9 },
        ToProgram::Fate { number: 1, fate: Fate::Lost, input: 0 },
        ToProgram::Credit { destination: "other".to_owned(), bytes: 1 },
        ToProgram::Ping { number: 1 },
        ToProgram::Standby,
    ] {
        assert_eq!(tell(&mut adapter, &frame), b"", "{frame:?}");
    }
    assert_eq!(hear(&mut adapter, ""), [], "a ping has no answer");
    assert!(!adapter.is_ousted(), "it never took itself for the primary");
}

/// Neither the C# nor the JavaScript binding ends when its sockets are closed. Both do when they
/// read a message of a type that they do not know.
#[test]
fn an_error_is_a_message_that_ends_the_program() {
    let error = ToProgram::Error { code: "STOPPING".to_owned(), text: String::new() };
    let end = [Record { number: -1, payload: b"\x02\xff".to_vec() }];
    assert_eq!(records(tell(&mut adapter(options()), &error)), end, "before it was given anything");
    let mut loaded = loaded_adapter(options(), 9);
    assert_eq!(records(tell(&mut loaded, &error)), end);
    assert!(loaded.hear(b"\x02\x63"[..].into(), &mut Vec::new()).is_err());
    assert!(loaded.trouble().is_some());
    let mut out = Vec::new();
    loaded.tell(&error, &mut out);
    assert_eq!(records(out.concat()), end, "also when it has said something that makes no sense");
}

/// The message would be taken for a part of the state.
#[test]
fn nothing_ends_a_program_in_the_middle_of_a_state() {
    let mut adapter = adapter(options());
    tell(&mut adapter, &ToProgram::Load { input: 9, bytes: 100 });
    let error = ToProgram::Error { code: "RELOAD".to_owned(), text: String::new() };
    assert_eq!(tell(&mut adapter, &error), b"");
}

#[test]
fn becoming_primary_is_told_once() {
    for (active_active, wanted) in [(true, b"\x02\x0f"), (false, b"\x02\x0b")] {
        let mut adapter =
            loaded_adapter(immortals::ambrosia::AmbrosiaOptions { active_active, ..options() }, 9);
        let told = records(tell(&mut adapter, &ToProgram::Primary { term: Term(1) }));
        assert_eq!(told, [Record { number: -1, payload: wanted.to_vec() }]);
        assert_eq!(tell(&mut adapter, &ToProgram::Primary { term: Term(2) }), b"");
    }
}

/// AMBROSIA's standalone coordinator takes a checkpoint when it becomes primary; ours takes them
/// when it likes.
#[test]
fn the_checkpoint_of_becoming_primary_is_dropped() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &from_client(10, &[a_fork(1, b"a")]));
    tell(&mut adapter, &ToProgram::Primary { term: Term(1) });
    let said = hear(&mut adapter, [checkpoint(b"state"), fork("a", 1, b"x")].concat());
    assert_eq!(said, [ToNode::Done { input: 10 }, a_send("a", &[a_fork(1, b"x")])]);
}

#[test]
fn a_state_may_be_loaded_in_the_middle() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &from_client(10, &[a_fork(1, b"a")]));
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 1 });
    load(&mut adapter, 50, b"newer");
    // The answer to the old request is of the state before, and is nobody's any more.
    assert_eq!(hear(&mut adapter, checkpoint(b"old")), []);
    let told = records(tell(&mut adapter, &from_client(51, &[a_fork(1, b"b")])));
    assert_eq!(told[0].number, 1);
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 2 });
    assert_eq!(hear(&mut adapter, checkpoint(b""))[0], ToNode::Done { input: 51 });
}

#[test]
fn a_state_that_is_not_what_was_told_ends_the_connection() {
    let frames = |bytes, chunk: &'static [u8], crc| {
        let chunk = ToProgram::Chunk(Bytes::from_static(chunk));
        [ToProgram::Load { input: 1, bytes }, chunk, ToProgram::LoadEnd { crc }]
    };
    for (frames, words) in [
        (frames(2, b"abc", 0), "no more bytes"),
        (frames(4, b"abc", 0), "1 more bytes"),
        (frames(3, b"abc", 1), "checksum"),
    ] {
        let mut adapter = adapter(options());
        frames.iter().for_each(|frame| adapter.tell(frame, &mut Vec::new()));
        let trouble = &adapter.trouble().expect("it is noticed").0;
        assert!(trouble.contains(words), "{trouble}");
    }
}

#[test]
fn an_empty_state_is_a_state() {
    let mut adapter = adapter(options());
    let bytes = load(&mut adapter, 1, b"");
    assert_eq!(records(bytes), [Record { number: -2, payload: b"\x04\x08\x00".to_vec() }]);
}

#[test]
fn frames_in_the_wrong_order_are_refused() {
    let load = ToProgram::Load { input: 1, bytes: 3 };
    let inputs = from_client(1, &[a_fork(1, b"a")]);
    assert!(refusal(&mut adapter(options()), &inputs).contains("first"));
    assert!(
        refusal(&mut adapter(options()), &ToProgram::Primary { term: Term(1) }).contains("first")
    );
    assert!(refusal(&mut adapter(options()), &ToProgram::Chunk(Bytes::new())).contains("first"));
    assert!(refusal(&mut adapter(options()), &ToProgram::LoadEnd { crc: 0 }).contains("first"));
    let request = ToProgram::TakeCheckpoint { request: 1 };
    assert!(refusal(&mut adapter(options()), &request).contains("first"));
    let mut loading = adapter(options());
    tell(&mut loading, &load);
    assert!(refusal(&mut loading, &inputs).contains("CHUNK"));
    let mut twice = adapter(options());
    tell(&mut twice, &ToProgram::Genesis);
    assert!(refusal(&mut twice, &ToProgram::Genesis).contains("once"));
}

#[test]
fn garbled_blocks_are_refused() {
    let mut adapter = loaded_adapter(options(), 9);
    let blocks = Bytes::from_static(b"\x09");
    refusal(&mut adapter, &ToProgram::Deliver { first: 10, time: Moment(1), blocks });
}

#[test]
fn checkpoints_to_come_have_a_bound() {
    let mut adapter = loaded_adapter(options(), 9);
    for _ in 0..CHECKPOINTS_AWAITED_MAX {
        tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 1 });
    }
    assert!(refusal(&mut adapter, &ToProgram::TakeCheckpoint { request: 1 }).contains("at most"));
}
