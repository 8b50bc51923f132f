//! The codec of the immortal protocol under generated frames and messages: what is written is read
//! back, both readers of messages agree, and damaged bytes are an error, never a panic.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::immortal::{
    BlockHead, Fate, Garbled, Hello, Message, MessageView, SourceKind, Status, Taker, ToNode,
    ToProgram, View, Welcome, blocks, count_messages, messages, put_answer, put_block_head,
    put_call, put_fork, put_impulse, put_message, put_number, put_signed, skip_messages,
    split_frame,
};
use protocol::{Moment, Term};

const LIMIT: usize = 1 << 20;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Value), Just(Status::Empty), Just(Status::Error)]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<i64>(), bytes()).prop_map(|(method, payload)| Message::Fork { method, payload }),
        (any::<u64>(), any::<i64>(), bytes()).prop_map(|(id, method, payload)| Message::Call {
            id,
            method,
            payload
        }),
        (any::<u64>(), status(), bytes()).prop_map(|(id, status, payload)| Message::Answer {
            id,
            status,
            payload
        }),
        (any::<i64>(), bytes()).prop_map(|(method, payload)| Message::Impulse { method, payload }),
        bytes().prop_map(|payload| Message::Start { payload }),
        any::<u64>().prop_map(|id| Message::Timer { id }),
        (any::<u64>(), status(), bytes()).prop_map(|(id, status, payload)| Message::Result {
            id,
            status,
            payload
        }),
        any::<u64>().prop_map(|version| Message::Upgrade { version }),
        Just(Message::Skipped),
    ]
}

fn to_node() -> impl Strategy<Value = ToNode> {
    let number = any::<u64>;
    prop_oneof![
        (number(), number(), ".*", number(), number()).prop_map(|(a, b, instance, c, d)| {
            ToNode::Hello(Hello {
                version_min: a,
                version_max: b,
                instance,
                program_version: c,
                upgrade_to: d,
            })
        }),
        (".*", number(), bytes()).prop_map(|(destination, count, messages)| ToNode::Send {
            destination,
            count,
            messages
        }),
        (number(), number())
            .prop_map(|(id, due)| ToNode::Await { id, due: (due > 0).then_some(Moment(due)) }),
        number().prop_map(|id| ToNode::Cancel { id }),
        number().prop_map(|input| ToNode::Done { input }),
        (number(), ".*", bytes()).prop_map(|(number, destination, message)| ToNode::Impulse {
            number,
            destination,
            message
        }),
        (number(), status(), bytes()).prop_map(|(id, status, payload)| ToNode::Result {
            id,
            status,
            payload
        }),
        number().prop_map(|request| ToNode::Checkpoint { request }),
        bytes().prop_map(ToNode::Chunk),
        any::<u32>().prop_map(|crc| ToNode::CheckpointEnd { crc }),
        bytes().prop_map(ToNode::Initial),
        Just(ToNode::AskCheckpoint),
        number().prop_map(|number| ToNode::Pong { number }),
        (number(), ".*").prop_map(|(input, text)| ToNode::Fault { input, text }),
    ]
}

fn to_program() -> impl Strategy<Value = ToProgram> {
    let number = any::<u64>;
    let fate = prop_oneof![Just(Fate::Logged), Just(Fate::Lost), Just(Fate::Unknown)];
    prop_oneof![
        (number(), ".*", number(), number(), number(), number()).prop_map(
            |(version, node, replica, frame_bytes_max, window_bytes, state_version)| {
                ToProgram::Welcome(Welcome {
                    version,
                    node,
                    replica,
                    frame_bytes_max,
                    window_bytes,
                    state_version,
                })
            }
        ),
        Just(ToProgram::Genesis),
        (number(), number()).prop_map(|(input, bytes)| ToProgram::Load { input, bytes }),
        bytes().prop_map(ToProgram::Chunk),
        any::<u32>().prop_map(|crc| ToProgram::LoadEnd { crc }),
        (number(), number(), bytes()).prop_map(|(first, time, blocks)| ToProgram::Deliver {
            first,
            time: Moment(time),
            blocks
        }),
        number().prop_map(|input| ToProgram::EndOfReplay { input }),
        number().prop_map(|term| ToProgram::Primary { term: Term(term) }),
        Just(ToProgram::Standby),
        number().prop_map(|request| ToProgram::TakeCheckpoint { request }),
        (number(), fate, number()).prop_map(|(number, fate, input)| ToProgram::Fate {
            number,
            fate,
            input
        }),
        (".*", number()).prop_map(|(destination, bytes)| ToProgram::Credit { destination, bytes }),
        number().prop_map(|number| ToProgram::Ping { number }),
        (".*", ".*").prop_map(|(code, text)| ToProgram::Error { code, text }),
    ]
}

/// The same message as a program would read it.
fn viewed(message: &Message) -> MessageView<'_> {
    match message {
        Message::Fork { method, payload } => MessageView::Fork { method: *method, payload },
        Message::Call { id, method, payload } => {
            MessageView::Call { id: *id, method: *method, payload }
        }
        Message::Answer { id, status, payload } => {
            MessageView::Answer { id: *id, status: *status, payload }
        }
        Message::Impulse { method, payload } => MessageView::Impulse { method: *method, payload },
        Message::Start { payload } => MessageView::Start { payload },
        Message::Timer { id } => MessageView::Timer { id: *id },
        Message::Result { id, status, payload } => {
            MessageView::Result { id: *id, status: *status, payload }
        }
        Message::Upgrade { version } => MessageView::Upgrade { version: *version },
        Message::Skipped => MessageView::Skipped,
    }
}

fn joined(list: &[Message]) -> Bytes {
    let mut out = Vec::new();
    for message in list {
        put_message(&mut out, message);
    }
    out.into()
}

/// Reads all that can be read of some bytes as everything that they could be.
fn read_all(bytes: &Bytes) {
    drop(ToNode::read(bytes.clone()));
    drop(ToProgram::read(bytes.clone()));
    assert!(messages(bytes.clone()).filter(Result::is_err).count() <= 1);
    assert!(blocks(bytes.clone()).filter(Result::is_err).count() <= 1);
    drop(count_messages(bytes));
    drop(skip_messages(bytes, 3));
    let mut view = View::new(bytes);
    while let Ok(Some(block)) = view.block() {
        let mut inner = block.messages;
        while let Ok(Some(_)) = inner.message() {}
    }
    let mut view = View::new(bytes);
    while let Ok(Some(_)) = view.message() {}
    let mut from = BytesMut::from(&bytes[..]);
    while let Ok(Some(_)) = split_frame(&mut from, LIMIT) {}
}

/// The whole frames in some bytes.
fn split_all(from: &mut BytesMut) -> Result<Vec<Bytes>, Garbled> {
    let mut found = Vec::new();
    while let Some(frame) = split_frame(from, LIMIT)? {
        found.push(frame);
    }
    Ok(found)
}

proptest! {
    #[test]
    fn a_program_s_frames_come_back(frames in prop::collection::vec(to_node(), 1..5)) {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut out));
        let found = split_all(&mut BytesMut::from(&out[..])).unwrap();
        let found: Vec<_> = found.into_iter().map(|frame| ToNode::read(frame).unwrap()).collect();
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn a_node_s_frames_come_back(frames in prop::collection::vec(to_program(), 1..5)) {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut out));
        let found = split_all(&mut BytesMut::from(&out[..])).unwrap();
        let found: Vec<_> =
            found.into_iter().map(|frame| ToProgram::read(frame).unwrap()).collect();
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn messages_come_back_from_both_readers(list in prop::collection::vec(message(), 0..8)) {
        let bytes = joined(&list);
        let found: Vec<_> = messages(bytes.clone()).map(Result::unwrap).collect();
        prop_assert_eq!(&found, &list);
        let mut view = View::new(&bytes);
        for message in &list {
            prop_assert_eq!(view.message().unwrap(), Some(viewed(message)));
        }
        prop_assert_eq!(view.message().unwrap(), None);
        prop_assert_eq!(count_messages(&bytes).unwrap(), list.len() as u64);
        let rest = skip_messages(&bytes, list.len() as u64 / 2).unwrap();
        prop_assert_eq!(rest, joined(&list[list.len() / 2..]));
    }

    #[test]
    fn the_quick_writers_write_the_same(
        id in any::<u64>(),
        method in any::<i64>(),
        status in status(),
        payload in bytes(),
    ) {
        let quick = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            Bytes::from(out)
        };
        let shared = || payload.clone();
        prop_assert_eq!(
            quick(&|out| put_fork(out, method, &payload)),
            joined(&[Message::Fork { method, payload: shared() }])
        );
        prop_assert_eq!(
            quick(&|out| put_call(out, id, method, &payload)),
            joined(&[Message::Call { id, method, payload: shared() }])
        );
        prop_assert_eq!(
            quick(&|out| put_answer(out, id, status, &payload)),
            joined(&[Message::Answer { id, status, payload: shared() }])
        );
        prop_assert_eq!(
            quick(&|out| put_impulse(out, method, &payload)),
            joined(&[Message::Impulse { method, payload: shared() }])
        );
    }

    #[test]
    fn blocks_come_back_from_both_readers(
        name in ".*",
        first in any::<u64>(),
        list in prop::collection::vec(message(), 0..5),
    ) {
        let inner = joined(&list);
        let kind = SourceKind::Instance;
        let head = BlockHead { kind, name: name.clone(), first, count: list.len() as u64 };
        let mut out = Vec::new();
        put_block_head(&mut out, &head, inner.len());
        out.extend_from_slice(&inner);
        let found: Vec<_> = blocks(Bytes::from(out.clone())).map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].head, &head);
        prop_assert_eq!(&found[0].messages, &inner);
        let mut view = View::new(&out);
        let block = view.block().unwrap().unwrap();
        prop_assert_eq!((block.kind, block.name, block.first), (kind, &name[..], first));
        prop_assert_eq!(block.count, list.len() as u64);
        prop_assert_eq!(block.messages.rest(), &inner[..]);
        prop_assert!(view.block().unwrap().is_none());
    }

    #[test]
    fn a_frame_that_is_cut_short_waits_for_more(
        frame in to_program(), cut in any::<prop::sample::Index>()
    ) {
        let mut out = Vec::new();
        frame.put(&mut out);
        let cut = cut.index(out.len());
        let mut from = BytesMut::from(&out[..cut]);
        prop_assert_eq!(split_frame(&mut from, LIMIT), Ok(None));
        from.extend_from_slice(&out[cut..]);
        let whole = split_frame(&mut from, LIMIT).unwrap().unwrap();
        prop_assert_eq!(ToProgram::read(whole), Ok(frame));
    }

    #[test]
    fn a_body_that_is_cut_short_never_panics(
        frame in to_node(),
        answer in to_program(),
        list in prop::collection::vec(message(), 1..4),
    ) {
        let mut out = Vec::new();
        frame.put(&mut out);
        answer.put(&mut out);
        out.extend_from_slice(&joined(&list));
        let out = Bytes::from(out);
        for start in [0, 4] {
            for end in start..out.len().min(120) {
                read_all(&out.slice(start..end));
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic(
        list in prop::collection::vec(message(), 1..4),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = joined(&list).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        read_all(&bytes.into());
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes.into());
    }

    #[test]
    fn numbers_come_back(number in any::<u64>(), signed in any::<i64>()) {
        let mut out = Vec::new();
        put_number(&mut out, number);
        put_signed(&mut out, signed);
        let mut from = Taker::new(out.into());
        prop_assert_eq!(from.number("a number"), Ok(number));
        prop_assert_eq!(from.signed("a number"), Ok(signed));
        prop_assert!(from.is_empty());
    }
}

#[test]
fn a_number_over_64_bits_is_refused_by_both_readers() {
    for (bytes, good) in [
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], true),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..], false),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..], false),
        (&[0x80, 0x80][..], false),
        (&[][..], false),
    ] {
        let taken = Taker::new(Bytes::copy_from_slice(bytes)).number("a number");
        let viewed = View::new(bytes).number("a number");
        assert_eq!(taken.is_ok(), good, "{bytes:x?}");
        assert_eq!(viewed.is_ok(), good, "{bytes:x?}");
    }
}

#[test]
fn an_empty_frame_and_one_that_is_too_long_are_refused() {
    let mut empty = BytesMut::from(&[0, 0, 0, 0][..]);
    assert!(split_frame(&mut empty, LIMIT).is_err());
    let mut long = BytesMut::from(&[11, 0, 0, 0, 1][..]);
    assert!(split_frame(&mut long.clone(), 10).is_err());
    assert_eq!(split_frame(&mut long, 11), Ok(None));
}
