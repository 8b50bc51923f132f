//! Blocks of inputs and the messages in them (section 4 of the page).

use bytes::Bytes;

use super::bytes_of::{Garbled, Taker, put_number, put_signed, put_text};
use super::kinds::{SourceKind, Status};
use super::view::View;

/// What stands before the messages of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHead {
    pub kind: SourceKind,
    /// The sender; empty for the node.
    pub name: String,
    /// The number of the first message in the sender's stream; 0 when they have none.
    pub first: u64,
    pub count: u64,
}

/// Inputs from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub head: BlockHead,
    pub messages: Bytes,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Fork { method: i64, payload: Bytes },
    Call { id: u64, method: i64, payload: Bytes },
    Answer { id: u64, status: Status, payload: Bytes },
    Impulse { method: i64, payload: Bytes },
    Start { payload: Bytes },
    Timer { id: u64 },
    Result { id: u64, status: Status, payload: Bytes },
    Upgrade { version: u64 },
    Skipped,
}

impl Message {
    /// How long its payload is.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Fork { payload, .. }
            | Self::Call { payload, .. }
            | Self::Answer { payload, .. }
            | Self::Impulse { payload, .. }
            | Self::Start { payload }
            | Self::Result { payload, .. } => payload.len(),
            Self::Timer { .. } | Self::Upgrade { .. } | Self::Skipped => 0,
        }
    }
}

/// Writes the head of a block; `bytes` of messages are to follow.
pub fn put_block_head(out: &mut Vec<u8>, head: &BlockHead, bytes: usize) {
    out.push(head.kind as u8);
    put_text(out, &head.name);
    put_number(out, head.first);
    put_number(out, head.count);
    put_number(out, bytes as u64);
}

/// The blocks in the body of a DELIVER.
pub fn blocks(bytes: Bytes) -> Blocks {
    Blocks(Taker::new(bytes))
}

/// See [`blocks`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Blocks(Taker);

impl Iterator for Blocks {
    type Item = Result<Block, Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let block = take_block(&mut self.0);
        if block.is_err() {
            self.0 = Taker::new(Bytes::new());
        }
        Some(block)
    }
}

fn take_block(from: &mut Taker) -> Result<Block, Garbled> {
    let kind = match from.byte("the kind of a block")? {
        0 => SourceKind::Node,
        1 => SourceKind::Instance,
        2 => SourceKind::Impulses,
        other => return Err(Garbled(format!("a block of kind {other}"))),
    };
    let name = from.text("the source of a block")?;
    let first = from.number("the first number of a block")?;
    let count = from.number("the count of a block")?;
    let bytes = from.number("the length of a block")?;
    let messages = from.bytes(bytes, "a block")?;
    Ok(Block { head: BlockHead { kind, name, first, count }, messages })
}

/// Writes a message with its length.
pub fn put_message(out: &mut Vec<u8>, message: &Message) {
    let mut head = Vec::with_capacity(16);
    let payload = match message {
        Message::Fork { method, payload } => {
            head.push(0);
            put_signed(&mut head, *method);
            payload
        }
        Message::Call { id, method, payload } => {
            head.push(1);
            put_number(&mut head, *id);
            put_signed(&mut head, *method);
            payload
        }
        Message::Answer { id, status, payload } => {
            head.push(2);
            put_number(&mut head, *id);
            head.push(*status as u8);
            payload
        }
        Message::Impulse { method, payload } => {
            head.push(3);
            put_signed(&mut head, *method);
            payload
        }
        Message::Start { payload } => {
            head.push(4);
            payload
        }
        Message::Timer { id } => {
            head.push(5);
            put_number(&mut head, *id);
            &Bytes::new()
        }
        Message::Result { id, status, payload } => {
            head.push(6);
            put_number(&mut head, *id);
            head.push(*status as u8);
            payload
        }
        Message::Upgrade { version } => {
            head.push(7);
            put_number(&mut head, *version);
            &Bytes::new()
        }
        Message::Skipped => {
            head.push(8);
            &Bytes::new()
        }
    };
    put_number(out, (head.len() + payload.len()) as u64);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

/// The messages of a block or of a SEND.
pub fn messages(bytes: Bytes) -> Messages {
    Messages(Taker::new(bytes))
}

/// See [`messages`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Messages(Taker);

impl Messages {
    /// What was not looked at yet.
    pub fn rest(self) -> Bytes {
        self.0.rest()
    }

    fn next_message(&mut self) -> Result<Message, Garbled> {
        let length = self.0.number("the length of a message")?;
        take_message(self.0.bytes(length, "a message")?)
    }
}

impl Iterator for Messages {
    type Item = Result<Message, Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.next_message();
        if message.is_err() {
            self.0 = Taker::new(Bytes::new());
        }
        Some(message)
    }
}

fn take_message(bytes: Bytes) -> Result<Message, Garbled> {
    let mut from = Taker::new(bytes);
    let message = match from.byte("the kind of a message")? {
        0 => Message::Fork { method: from.signed("a method")?, payload: from.rest() },
        1 => Message::Call {
            id: from.number("the id of a call")?,
            method: from.signed("a method")?,
            payload: from.rest(),
        },
        2 => Message::Answer {
            id: from.number("the id of an answer")?,
            status: Status::from_byte(from.byte("a status")?)?,
            payload: from.rest(),
        },
        3 => Message::Impulse { method: from.signed("a method")?, payload: from.rest() },
        4 => Message::Start { payload: from.rest() },
        5 => Message::Timer { id: from.number("the id of a timer")? },
        6 => Message::Result {
            id: from.number("the id of a result")?,
            status: Status::from_byte(from.byte("a status")?)?,
            payload: from.rest(),
        },
        7 => Message::Upgrade { version: from.number("a program version")? },
        8 => Message::Skipped,
        other => return Err(Garbled(format!("a message of kind {other}"))),
    };
    Ok(message)
}

/// How many messages there are; each is looked at only as far as its length.
///
/// # Errors
/// When the last one is cut short.
pub fn count_messages(bytes: &Bytes) -> Result<u64, Garbled> {
    let mut rest = View::new(bytes);
    let mut count = 0;
    while !rest.is_empty() {
        rest.skip_message()?;
        count += 1;
    }
    Ok(count)
}

/// The bytes after the first `count` messages.
///
/// # Errors
/// When there are fewer.
pub fn skip_messages(bytes: &Bytes, count: u64) -> Result<Bytes, Garbled> {
    let mut rest = View::new(bytes);
    for _ in 0..count {
        rest.skip_message()?;
    }
    Ok(bytes.slice(bytes.len() - rest.rest().len()..))
}
