//! Blocks and messages as a program reads and writes them a million times a second: they borrow
//! from the frame, and nothing is allocated. Says the same as [`super::Message`]; the tests compare
//! the two.

use crate::varint;

use super::bytes_of::{Garbled, put_number, put_signed};
use super::kinds::{SourceKind, Status};

/// Takes one thing after the other from the front of borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(&'a [u8]);

/// Inputs from one source.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    pub kind: SourceKind,
    /// The sender; empty for the node.
    pub name: &'a str,
    /// The number of the first message in the sender's stream; 0 when they have none.
    pub first: u64,
    pub count: u64,
    /// To be read with [`View::message`].
    pub messages: View<'a>,
}

/// One input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageView<'a> {
    Fork { method: i64, payload: &'a [u8] },
    Call { id: u64, method: i64, payload: &'a [u8] },
    Answer { id: u64, status: Status, payload: &'a [u8] },
    Impulse { method: i64, payload: &'a [u8] },
    Start { payload: &'a [u8] },
    Timer { id: u64 },
    Result { id: u64, status: Status, payload: &'a [u8] },
    Upgrade { version: u64 },
    Skipped,
}

impl<'a> View<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was not looked at yet.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The next block of a DELIVER; None at the end.
    ///
    /// # Errors
    /// What was expected.
    pub fn block(&mut self) -> Result<Option<BlockView<'a>>, Garbled> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let kind = match self.byte("the kind of a block")? {
            0 => SourceKind::Node,
            1 => SourceKind::Instance,
            2 => SourceKind::Impulses,
            other => return Err(Garbled(format!("a block of kind {other}"))),
        };
        let length = self.number("the source of a block")?;
        let name = std::str::from_utf8(self.bytes(length, "the source of a block")?)
            .map_err(|_| Garbled("the source of a block is not UTF-8".into()))?;
        let first = self.number("the first number of a block")?;
        let count = self.number("the count of a block")?;
        let length = self.number("the length of a block")?;
        let messages = View(self.bytes(length, "a block")?);
        Ok(Some(BlockView { kind, name, first, count, messages }))
    }

    /// The next message of a block or a SEND; None at the end.
    ///
    /// # Errors
    /// What was expected.
    pub fn message(&mut self) -> Result<Option<MessageView<'a>>, Garbled> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = self.number("the length of a message")?;
        View(self.bytes(length, "a message")?).whole_message().map(Some)
    }

    /// Passes over a message, whatever is in it.
    ///
    /// # Errors
    /// When there is none, or it is cut short.
    pub(super) fn skip_message(&mut self) -> Result<(), Garbled> {
        let length = self.number("the length of a message")?;
        self.bytes(length, "a message").map(|_| ())
    }

    fn whole_message(mut self) -> Result<MessageView<'a>, Garbled> {
        let message = match self.byte("the kind of a message")? {
            0 => MessageView::Fork { method: self.signed("a method")?, payload: self.0 },
            1 => MessageView::Call {
                id: self.number("the id of a call")?,
                method: self.signed("a method")?,
                payload: self.0,
            },
            2 => MessageView::Answer {
                id: self.number("the id of an answer")?,
                status: Status::from_byte(self.byte("a status")?)?,
                payload: self.0,
            },
            3 => MessageView::Impulse { method: self.signed("a method")?, payload: self.0 },
            4 => MessageView::Start { payload: self.0 },
            5 => MessageView::Timer { id: self.number("the id of a timer")? },
            6 => MessageView::Result {
                id: self.number("the id of a result")?,
                status: Status::from_byte(self.byte("a status")?)?,
                payload: self.0,
            },
            7 => MessageView::Upgrade { version: self.number("a program version")? },
            8 => MessageView::Skipped,
            other => return Err(Garbled(format!("a message of kind {other}"))),
        };
        Ok(message)
    }

    fn byte(&mut self, what: &str) -> Result<u8, Garbled> {
        let (first, rest) = self.0.split_first().ok_or_else(|| Garbled::expected(what))?;
        self.0 = rest;
        Ok(*first)
    }

    fn bytes(&mut self, count: u64, what: &str) -> Result<&'a [u8], Garbled> {
        let split = usize::try_from(count).ok().and_then(|count| self.0.split_at_checked(count));
        let Some((bytes, rest)) = split else {
            let left = self.0.len();
            return Err(Garbled(format!("{what} of {count} bytes is cut short: {left} left")));
        };
        self.0 = rest;
        Ok(bytes)
    }

    /// # Errors
    /// When it is cut short, or longer than 64 bits.
    pub fn number(&mut self, what: &str) -> Result<u64, Garbled> {
        varint::take(&mut self.0).map_err(|why| Garbled::no_number(why, what))
    }

    fn signed(&mut self, what: &str) -> Result<i64, Garbled> {
        let number = self.number(what)?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

fn zigzag(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

/// Writes a FORK.
pub fn put_fork(out: &mut Vec<u8>, method: i64, payload: &[u8]) {
    put_number(out, (1 + varint::length(zigzag(method)) + payload.len()) as u64);
    out.push(0);
    put_signed(out, method);
    out.extend_from_slice(payload);
}

/// Writes a CALL.
pub fn put_call(out: &mut Vec<u8>, id: u64, method: i64, payload: &[u8]) {
    let head = 1 + varint::length(id) + varint::length(zigzag(method));
    put_number(out, (head + payload.len()) as u64);
    out.push(1);
    put_number(out, id);
    put_signed(out, method);
    out.extend_from_slice(payload);
}

/// Writes an ANSWER.
pub fn put_answer(out: &mut Vec<u8>, id: u64, status: Status, payload: &[u8]) {
    put_number(out, (2 + varint::length(id) + payload.len()) as u64);
    out.push(2);
    put_number(out, id);
    out.push(status as u8);
    out.extend_from_slice(payload);
}

/// Writes an IMPULSE message.
pub fn put_impulse(out: &mut Vec<u8>, method: i64, payload: &[u8]) {
    put_number(out, (1 + varint::length(zigzag(method)) + payload.len()) as u64);
    out.push(3);
    put_signed(out, method);
    out.extend_from_slice(payload);
}
