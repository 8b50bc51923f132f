//! What an LB says, each type of message by itself, and what it must not say.

use bytes::Bytes;
use immortals::ambrosia::{
    CHUNK_BYTES_MAX, IMPULSE_BYTES_HELD_MAX, MESSAGE_BYTES_MAX, PING_METHOD, PING_RETURN_METHOD,
    SEND_BYTES,
};
use protocol::Term;
use protocol::immortal::{Hello, Message, Status, ToNode, ToProgram, VERSION};

use crate::wire::*;

#[test]
fn the_first_call_says_hello_also_without_bytes() {
    let mut options = options();
    options.upgrade_to = 4;
    let mut adapter = immortals::ambrosia::AmbrosiaAdapter::new(options);
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        instance: "server".to_owned(),
        program_version: 3,
        upgrade_to: 4,
    };
    assert_eq!(hear(&mut adapter, ""), [ToNode::Hello(hello)]);
    assert_eq!(hear(&mut adapter, ""), []);
}

#[test]
fn a_fork_is_a_fork() {
    let mut adapter = loaded_adapter(options(), 9);
    // The bytes as the document describes them, by hand: 20 of them, to "other", method -2.
    let bytes = b"\x1e\x00\x0aother\x00\x03\x01hello";
    assert_eq!(hear(&mut adapter, &bytes[..]), [a_send("other", &[a_fork(-2, b"hello")])]);
}

#[test]
fn an_empty_destination_and_the_own_name_are_the_program_itself() {
    let mut adapter = loaded_adapter(options(), 9);
    let bytes = [fork("", 1, b"a"), fork("server", 2, b"b")].concat();
    assert_eq!(hear(&mut adapter, bytes), [a_send("", &[a_fork(1, b"a"), a_fork(2, b"b")])]);
}

#[test]
fn neighbours_with_one_destination_are_joined() {
    let mut adapter = loaded_adapter(options(), 9);
    let bytes =
        [fork("a", 1, b"1"), fork("a", 1, b"2"), fork("b", 1, b"3"), fork("a", 1, b"4")].concat();
    let wanted = [
        a_send("a", &[a_fork(1, b"1"), a_fork(1, b"2")]),
        a_send("b", &[a_fork(1, b"3")]),
        a_send("a", &[a_fork(1, b"4")]),
    ];
    assert_eq!(hear(&mut adapter, bytes), wanted);
}

#[test]
fn a_join_has_a_bound() {
    let mut adapter = loaded_adapter(options(), 9);
    let one = fork("a", 1, &vec![0; SEND_BYTES]);
    let said = hear(&mut adapter, [&one[..], &one, &one].concat());
    assert_eq!(said.len(), 3);
    // With what came before it, the longest message would be too long for the core.
    let short = fork("a", 1, b"x");
    assert_eq!(hear(&mut adapter, [&short[..], &short, &one].concat()).len(), 2);
}

#[test]
fn a_call_and_its_return_keep_their_number() {
    let mut adapter = loaded_adapter(options(), 9);
    let bytes = [
        call("other", 5, "server", 77, b"arguments"),
        returned("other", 1, "server", -3, b"value"),
    ]
    .concat();
    let payload = Bytes::from_static(b"arguments");
    let wanted = a_send(
        "other",
        &[
            Message::Call { id: 77, method: 5, payload },
            Message::Answer {
                id: (-3_i64).cast_unsigned(),
                status: Status::Value,
                payload: Bytes::from_static(b"value"),
            },
        ],
    );
    assert_eq!(hear(&mut adapter, bytes), [wanted]);
}

#[test]
fn each_kind_of_return_has_its_status() {
    let mut adapter = loaded_adapter(options(), 9);
    for (ret, status) in [(1, Status::Value), (2, Status::Empty), (3, Status::Error)] {
        let payload = Bytes::from_static(b"x");
        let wanted = a_send("other", &[Message::Answer { id: 1, status, payload }]);
        assert_eq!(hear(&mut adapter, returned("other", ret, "server", 1, b"x")), [wanted]);
    }
    assert!(complaint(&mut adapter, returned("other", 4, "server", 1, b"x")).contains("status"));
}

#[test]
fn impulses_of_a_primary_are_counted_from_one() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &ToProgram::Primary { term: Term(1) });
    let bytes = [impulse("", 4, b"a"), fork("", 5, b"b"), impulse("other", 6, b"c")].concat();
    let wanted = [
        an_impulse(1, "", 4, b"a"),
        a_send("", &[a_fork(5, b"b")]),
        an_impulse(2, "other", 6, b"c"),
    ];
    assert_eq!(hear(&mut adapter, bytes), wanted);
}

#[test]
fn impulses_of_a_copy_are_dropped() {
    let mut adapter = loaded_adapter(options(), 9);
    assert_eq!(hear(&mut adapter, impulse("", 4, b"a")), []);
    assert_eq!(adapter.impulses_lost(), 1);
}

/// After the first start an LB takes itself for the primary at once.
#[test]
fn impulses_before_primary_wait_for_it_and_have_a_bound() {
    let mut adapter = adapter(options());
    tell(&mut adapter, &ToProgram::Genesis);
    assert_eq!(hear(&mut adapter, impulse("", 4, b"a")), []);
    let long = impulse("", 4, &vec![0; IMPULSE_BYTES_HELD_MAX]);
    assert_eq!(hear(&mut adapter, long), []);
    assert_eq!(hear(&mut adapter, impulse("", 4, b"b")), []);
    assert_eq!(adapter.impulses_lost(), 1);
    tell(&mut adapter, &ToProgram::Primary { term: Term(1) });
    let wanted = [an_impulse(1, "", 4, b"a"), an_impulse(2, "", 4, b"b")];
    assert_eq!(hear(&mut adapter, ""), wanted);
    assert_eq!(hear(&mut adapter, impulse("", 4, b"c")), [an_impulse(3, "", 4, b"c")]);
}

#[test]
fn an_ousted_primary_loses_its_impulses_until_it_is_one_again() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &ToProgram::Primary { term: Term(1) });
    assert!(!adapter.is_ousted());
    assert_eq!(tell(&mut adapter, &ToProgram::Standby), b"");
    assert!(adapter.is_ousted());
    assert_eq!(hear(&mut adapter, impulse("", 4, b"a")), []);
    assert_eq!(adapter.impulses_lost(), 1);
    assert_eq!(tell(&mut adapter, &ToProgram::Primary { term: Term(2) }), b"", "it knows already");
    assert!(!adapter.is_ousted());
    assert_eq!(hear(&mut adapter, impulse("", 4, b"b")), [an_impulse(1, "", 4, b"b")]);
}

#[test]
fn batches_of_both_kinds_are_unpacked() {
    let mut adapter = loaded_adapter(options(), 9);
    let rpcs = [fork("a", 1, b"1"), fork("a", 2, b"2")];
    let wanted = [a_send("a", &[a_fork(1, b"1"), a_fork(2, b"2")])];
    assert_eq!(hear(&mut adapter, batch(&rpcs)), wanted);
    let counted = message(13, &[size(2), size(2), rpcs.concat()].concat());
    assert_eq!(hear(&mut adapter, counted), wanted);
    assert_eq!(hear(&mut adapter, batch(&[])), []);
    assert_eq!(hear(&mut adapter, batch(&rpcs[..1])), [a_send("a", &[a_fork(1, b"1")])]);
}

#[test]
fn a_batch_may_be_longer_than_a_message() {
    let mut adapter = loaded_adapter(options(), 9);
    let rpcs = vec![fork("a", 1, &vec![0; MESSAGE_BYTES_MAX / 2]); 3];
    assert_eq!(hear(&mut adapter, batch(&rpcs)).len(), 3);
}

#[test]
fn a_batch_holds_rpcs_and_ends_with_them() {
    let rpc = fork("a", 1, b"1");
    let short = [&message(5, &[size(2), rpc.clone()].concat())[..], &rpc].concat();
    let long = message(5, &[&size(1)[..], &rpc, b"x"].concat());
    let wrong = batch(&[message(1, b"a")]);
    let nested = batch(&[batch(&[])]);
    let negative = message(5, &zigzag(-1));
    for (bad, words) in [
        (short, "ends with its batch"),
        (long, "not 1 bytes later"),
        (wrong, "an RPC in a batch"),
        (nested, "an RPC in a batch"),
        (negative, "-1 messages"),
    ] {
        let mut adapter = loaded_adapter(options(), 9);
        let said = complaint(&mut adapter, bad);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn pings_travel_as_forks_with_a_reserved_method() {
    let mut adapter = loaded_adapter(options(), 9);
    let bytes =
        [message(6, b"\x0aother\x00\x02\x01times"), message(7, b"\x0aother\x00\x02\x01more times")]
            .concat();
    let wanted = a_send(
        "other",
        &[
            a_fork(PING_METHOD, b"\x00\x02\x01times"),
            a_fork(PING_RETURN_METHOD, b"\x00\x02\x01more times"),
        ],
    );
    assert_eq!(hear(&mut adapter, bytes), [wanted]);
}

#[test]
fn attaching_needs_no_word_of_ours() {
    let mut adapter = loaded_adapter(options(), 9);
    assert_eq!(hear(&mut adapter, message(1, b"other")), []);
    assert!(complaint(&mut adapter, message(1, b"\xff")).contains("UTF-8"));
}

#[test]
fn an_lb_may_ask_for_a_checkpoint() {
    let mut adapter = loaded_adapter(options(), 9);
    assert_eq!(hear(&mut adapter, message(2, b"")), [ToNode::AskCheckpoint]);
}

#[test]
fn a_checkpoint_that_was_asked_for_proves_what_is_handled() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &from_client(10, &[a_fork(1, b"a"), a_fork(1, b"b")]));
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 5 });
    // This is told after the request, so the checkpoint says nothing about it.
    tell(&mut adapter, &from_client(12, &[a_fork(1, b"c")]));
    let said = hear(&mut adapter, [fork("client", 1, b"b"), checkpoint(b"123456789")].concat());
    let wanted = [
        a_send("client", &[a_fork(1, b"b")]),
        ToNode::Done { input: 11 },
        ToNode::Checkpoint { request: 5 },
        ToNode::Chunk(Bytes::from_static(b"123456789")),
        ToNode::CheckpointEnd { crc: 0xcbf4_3926 },
    ];
    assert_eq!(said, wanted);
    // Nothing new was handled since.
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 6 });
    let said = hear(&mut adapter, checkpoint(b""));
    assert_eq!(said[..2], [ToNode::Done { input: 12 }, ToNode::Checkpoint { request: 6 }]);
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 7 });
    let said = hear(&mut adapter, checkpoint(b""));
    assert_eq!(said, [ToNode::Checkpoint { request: 7 }, ToNode::CheckpointEnd { crc: 0 }]);
    assert!(!adapter.confirms());
}

#[test]
fn a_checkpoint_goes_on_in_pieces_while_it_comes() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 5 });
    let state = vec![1; 2 * CHUNK_BYTES_MAX + 1];
    let bytes = checkpoint(&state);
    let said = hear(&mut adapter, Bytes::copy_from_slice(&bytes[..bytes.len() - 1]));
    let lengths: Vec<usize> = said
        .iter()
        .filter_map(|frame| match frame {
            ToNode::Chunk(piece) => Some(piece.len()),
            _ => None,
        })
        .collect();
    assert_eq!(lengths, [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX]);
    let said = hear(&mut adapter, Bytes::from_static(b"\x01"));
    let end = ToNode::CheckpointEnd { crc: crc32(&state) };
    assert_eq!(said, [ToNode::Chunk(Bytes::from_static(b"\x01")), end]);
}

/// The C client writes the size of its checkpoint in 8 fixed bytes.
#[test]
fn the_size_of_a_checkpoint_may_be_fixed() {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 5 });
    let bytes = [&message(8, &9_i64.to_le_bytes())[..], b"dummyckpt"].concat();
    let said = hear(&mut adapter, bytes);
    assert_eq!(said[1], ToNode::Chunk(Bytes::from_static(b"dummyckpt")));
}

#[test]
fn what_nobody_asked_for_is_refused() {
    let mut adapter = loaded_adapter(options(), 9);
    assert!(complaint(&mut adapter, checkpoint(b"a")).contains("asked for"));
    let mut adapter = loaded_adapter(options(), 9);
    assert!(complaint(&mut adapter, message(9, b"hello")).contains("initial message"));
}

#[test]
fn types_that_only_coordinators_send_are_refused() {
    for kind in [3, 4, 10, 11, 12, 14, 15, 16, 255] {
        let mut adapter = loaded_adapter(options(), 9);
        let said = complaint(&mut adapter, message(kind, b"\x02\x02"));
        assert_eq!(said, format!("no program sends a message of type {kind}"));
    }
}

#[test]
fn sizes_have_bounds() {
    for (bad, words) in [
        (size(MESSAGE_BYTES_MAX + 1), "at most"),
        (zigzag(0), "not 0"),
        (zigzag(-1), "not -1"),
        (zigzag(i64::from(i32::MAX) + 1), "not 2147483648"),
        (vec![0xff; 5], "longer than 32 bits"),
    ] {
        let mut adapter = loaded_adapter(options(), 9);
        let said = complaint(&mut adapter, [&bad[..], b"\x00"].concat());
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn cut_fields_are_refused() {
    let whole = call("other", 300, "server", 77, b"");
    for length in 1..whole.len() - 2 {
        let mut adapter = loaded_adapter(options(), 9);
        complaint(&mut adapter, message(0, &whole[2..2 + length]));
    }
    for bad in [&b"\x02\xff\x00\x02\x01"[..], b"\x01a\x00\x02\x01", b"\x02a\x00\x02\x03"] {
        let mut adapter = loaded_adapter(options(), 9);
        complaint(&mut adapter, message(0, bad));
    }
    let mut adapter = loaded_adapter(options(), 9);
    assert!(complaint(&mut adapter, fork("a", 1 << 31, b"")).contains("32 bits"));
}

#[test]
fn trouble_stays() {
    let mut adapter = loaded_adapter(options(), 9);
    let mut said = Vec::new();
    let bytes = [fork("a", 1, b"1"), message(3, b""), fork("a", 1, b"2")].concat();
    let first = adapter.hear(bytes.into(), &mut said).unwrap_err();
    assert_eq!(said, [a_send("a", &[a_fork(1, b"1")])], "what came before it is said");
    assert_eq!(complaint(&mut adapter, fork("a", 1, b"3")), first.0);
    assert_eq!(adapter.trouble(), Some(&first));
    let mut out = Vec::new();
    adapter.tell(&from_client(10, &[a_fork(1, b"a")]), &mut out);
    assert!(out.is_empty());
}
