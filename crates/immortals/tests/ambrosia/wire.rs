//! AMBROSIA's wire format as its document has it, and short ways to say what tests say often.

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use protocol::Moment;
use protocol::immortal::{
    BlockHead, Message, SourceKind, ToNode, ToProgram, messages, put_block_head, put_message,
};

pub(crate) fn options() -> AmbrosiaOptions {
    AmbrosiaOptions {
        instance: "server".to_owned(),
        active_active: false,
        committer_id: 7,
        program_version: 3,
        upgrade_to: 3,
    }
}

/// An adapter whose HELLO was said.
pub(crate) fn adapter(options: AmbrosiaOptions) -> AmbrosiaAdapter {
    let mut adapter = AmbrosiaAdapter::new(options);
    let mut said = Vec::new();
    adapter.hear(Bytes::new(), &mut said).unwrap();
    assert!(matches!(said[..], [ToNode::Hello(_)]));
    adapter
}

/// An adapter with a program that has loaded a state of three bytes, as of this input.
pub(crate) fn loaded_adapter(options: AmbrosiaOptions, input: u64) -> AmbrosiaAdapter {
    let mut adapter = adapter(options);
    load(&mut adapter, input, b"abc");
    adapter
}

/// Tells a state, and gives what went to the LB.
pub(crate) fn load(adapter: &mut AmbrosiaAdapter, input: u64, state: &'static [u8]) -> Vec<u8> {
    let crc = crc32(state);
    let mut bytes = tell(adapter, &ToProgram::Load { input, bytes: state.len() as u64 });
    bytes.extend(tell(adapter, &ToProgram::Chunk(Bytes::from_static(state))));
    bytes.extend(tell(adapter, &ToProgram::LoadEnd { crc }));
    bytes
}

pub(crate) fn tell(adapter: &mut AmbrosiaAdapter, frame: &ToProgram) -> Vec<u8> {
    let mut out = Vec::new();
    adapter.tell(frame, &mut out);
    assert_eq!(adapter.trouble(), None);
    out.concat()
}

pub(crate) fn hear(adapter: &mut AmbrosiaAdapter, bytes: impl Into<Bytes>) -> Vec<ToNode> {
    let mut said = Vec::new();
    adapter.hear(bytes.into(), &mut said).unwrap();
    said
}

/// What the adapter complains about.
pub(crate) fn complaint(adapter: &mut AmbrosiaAdapter, bytes: impl Into<Bytes>) -> String {
    adapter.hear(bytes.into(), &mut Vec::new()).unwrap_err().0
}

/// Bitwise, so that it is not the code of the adapter.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

// What an LB writes.

/// A number in zigzag form, seven bits a byte.
pub(crate) fn zigzag(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

pub(crate) fn size(bytes: usize) -> Vec<u8> {
    zigzag(i64::try_from(bytes).unwrap())
}

/// A message: its size, its type, its data.
pub(crate) fn message(kind: u8, data: &[u8]) -> Vec<u8> {
    [&size(1 + data.len())[..], &[kind], data].concat()
}

fn name(name: &str) -> Vec<u8> {
    [&size(name.len()), name.as_bytes()].concat()
}

pub(crate) fn outgoing(destination: &str, method: i64, rpc: u8, arguments: &[u8]) -> Vec<u8> {
    let data = [&name(destination)[..], &[0], &zigzag(method), &[rpc], arguments].concat();
    message(0, &data)
}

pub(crate) fn fork(destination: &str, method: i64, arguments: &[u8]) -> Vec<u8> {
    outgoing(destination, method, 1, arguments)
}

pub(crate) fn impulse(destination: &str, method: i64, arguments: &[u8]) -> Vec<u8> {
    outgoing(destination, method, 2, arguments)
}

pub(crate) fn call(
    destination: &str,
    method: i64,
    me: &str,
    sequence: i64,
    arguments: &[u8],
) -> Vec<u8> {
    let rest = [&name(me)[..], &zigzag(sequence), arguments].concat();
    outgoing(destination, method, 0, &rest)
}

pub(crate) fn returned(
    destination: &str,
    ret: u8,
    me: &str,
    sequence: i64,
    value: &[u8],
) -> Vec<u8> {
    message(0, &[&name(destination)[..], &[ret], &name(me), &zigzag(sequence), value].concat())
}

pub(crate) fn batch(rpcs: &[Vec<u8>]) -> Vec<u8> {
    message(5, &[size(rpcs.len()), rpcs.concat()].concat())
}

pub(crate) fn checkpoint(state: &[u8]) -> Vec<u8> {
    [&message(8, &size(state.len()))[..], state].concat()
}

// What an LB reads.

/// One log record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) number: i64,
    pub(crate) payload: Vec<u8>,
}

/// Takes a record from the front, and checks its header.
pub(crate) fn take_record(bytes: &mut Vec<u8>) -> Option<Record> {
    let size = usize::try_from(i32::from_le_bytes(bytes.get(4..8)?.try_into().unwrap())).unwrap();
    if bytes.len() < size {
        return None;
    }
    assert_eq!(bytes[0..4], [7, 0, 0, 0], "the committer");
    assert_eq!(bytes[8..16], [0; 8], "the check bytes");
    let record: Vec<u8> = bytes.drain(..size).collect();
    let number = i64::from_le_bytes(record[16..24].try_into().unwrap());
    Some(Record { number, payload: record[24..].to_vec() })
}

/// All records, of which the last one must be whole.
pub(crate) fn records(mut bytes: Vec<u8>) -> Vec<Record> {
    let mut found = Vec::new();
    while let Some(record) = take_record(&mut bytes) {
        found.push(record);
    }
    assert!(bytes.is_empty());
    found
}

/// A number in zigzag form from the front.
pub(crate) fn take_zigzag(bytes: &mut &[u8]) -> i64 {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number ends") + 1;
    let (number, rest) = bytes.split_at(end);
    *bytes = rest;
    let number = number.iter().rev().fold(0_u64, |sum, byte| (sum << 7) | u64::from(byte & 0x7f));
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// A message from the front: its type and its data.
pub(crate) fn take_message<'a>(bytes: &mut &'a [u8]) -> (u8, &'a [u8]) {
    let size = usize::try_from(take_zigzag(bytes)).unwrap();
    let (message, rest) = bytes.split_at(size);
    *bytes = rest;
    (message[0], &message[1..])
}

// What the core says and hears.

pub(crate) fn block(kind: SourceKind, name: &str, inputs: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    inputs.iter().for_each(|message| put_message(&mut bytes, message));
    let count = inputs.len() as u64;
    let first = u64::from(kind == SourceKind::Instance);
    let mut block = Vec::new();
    put_block_head(
        &mut block,
        &BlockHead { kind, name: name.to_owned(), first, count },
        bytes.len(),
    );
    block.extend(bytes);
    block
}

pub(crate) fn deliver(first: u64, blocks: impl Into<Bytes>) -> ToProgram {
    ToProgram::Deliver { first, time: Moment(1), blocks: blocks.into() }
}

pub(crate) fn from_client(first: u64, inputs: &[Message]) -> ToProgram {
    deliver(first, block(SourceKind::Instance, "client", inputs))
}

pub(crate) fn from_node(first: u64, inputs: &[Message]) -> ToProgram {
    deliver(first, block(SourceKind::Node, "", inputs))
}

pub(crate) fn a_fork(method: i64, payload: &'static [u8]) -> Message {
    Message::Fork { method, payload: Bytes::from_static(payload) }
}

pub(crate) fn a_send(destination: &str, inputs: &[Message]) -> ToNode {
    let mut bytes = Vec::new();
    inputs.iter().for_each(|message| put_message(&mut bytes, message));
    let count = inputs.len() as u64;
    ToNode::Send { destination: destination.to_owned(), count, messages: bytes.into() }
}

pub(crate) fn an_impulse(
    number: u64,
    destination: &str,
    method: i64,
    payload: &'static [u8],
) -> ToNode {
    let mut message = Vec::new();
    let payload = Bytes::from_static(payload);
    put_message(&mut message, &Message::Impulse { method, payload });
    ToNode::Impulse { number, destination: destination.to_owned(), message: message.into() }
}

/// What was said, with neighbouring SENDs to one destination and neighbouring pieces of a
/// checkpoint joined: how far they are joined is free.
pub(crate) fn joined(said: Vec<ToNode>) -> Vec<ToNode> {
    let mut whole: Vec<ToNode> = Vec::new();
    for frame in said {
        match (whole.last_mut(), frame) {
            (
                Some(ToNode::Send { destination: to, count, messages: before }),
                ToNode::Send { destination, count: more, messages },
            ) if *to == destination => {
                *count += more;
                *before = [&before[..], &messages].concat().into();
            }
            (Some(ToNode::Chunk(before)), ToNode::Chunk(more)) => {
                *before = [&before[..], &more].concat().into();
            }
            (_, frame) => whole.push(frame),
        }
    }
    whole
}

/// The forks in what was said, by destination.
pub(crate) fn forks(said: &[ToNode]) -> Vec<(String, i64, Vec<u8>)> {
    let mut found = Vec::new();
    for frame in said {
        let ToNode::Send { destination, messages: sent, .. } = frame else { continue };
        for message in messages(sent.clone()) {
            match message.unwrap() {
                Message::Fork { method, payload } => {
                    found.push((destination.clone(), method, payload.to_vec()));
                }
                other => panic!("a fork, not {other:?}"),
            }
        }
    }
    found
}
