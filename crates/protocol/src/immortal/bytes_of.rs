//! Numbers and texts as bytes: LEB128 varints, zigzag, and strings after their length.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::varint::{self, NoNumber};

pub use crate::varint::put as put_number;

/// Bytes that are not what the protocol says; the text says what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbled(pub String);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Garbled {}

impl Garbled {
    pub fn expected(what: &str) -> Self {
        Self(format!("expected {what}"))
    }

    pub(super) fn no_number(why: NoNumber, what: &str) -> Self {
        match why {
            NoNumber::CutShort => Self::expected(what),
            NoNumber::TooLong => Self(format!("{what} is longer than 64 bits")),
        }
    }
}

/// Writes a signed number: zigzag, so that small negative ones stay short.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
}

/// Writes a text after its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Takes one thing after the other from the front of some bytes. Texts and rests share the memory.
#[derive(Clone, Debug)]
pub struct Taker(Bytes);

impl Taker {
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// # Errors
    /// When there is no byte left.
    pub fn byte(&mut self, what: &str) -> Result<u8, Garbled> {
        if self.0.is_empty() {
            return Err(Garbled::expected(what));
        }
        Ok(self.0.get_u8())
    }

    /// # Errors
    /// When there are not four bytes left.
    pub fn fixed_u32(&mut self, what: &str) -> Result<u32, Garbled> {
        self.0.try_get_u32_le().map_err(|_| Garbled::expected(what))
    }

    /// # Errors
    /// When it is cut short, or longer than 64 bits.
    pub fn number(&mut self, what: &str) -> Result<u64, Garbled> {
        let (number, length) =
            varint::read(&self.0).map_err(|why| Garbled::no_number(why, what))?;
        self.0.advance(length);
        Ok(number)
    }

    /// # Errors
    /// As [`Taker::number`].
    pub fn signed(&mut self, what: &str) -> Result<i64, Garbled> {
        let number = self.number(what)?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// # Errors
    /// When there are fewer bytes left.
    pub fn bytes(&mut self, count: u64, what: &str) -> Result<Bytes, Garbled> {
        match usize::try_from(count) {
            Ok(count) if count <= self.0.len() => Ok(self.0.split_to(count)),
            _ => Err(Garbled(format!("{what} of {count} bytes is cut short: {} left", self.len()))),
        }
    }

    /// # Errors
    /// When it is cut short or not UTF-8.
    pub fn text(&mut self, what: &str) -> Result<String, Garbled> {
        let count = self.number(what)?;
        let bytes = self.bytes(count, what)?;
        String::from_utf8(bytes.into()).map_err(|_| Garbled(format!("{what} is not UTF-8")))
    }

    /// Everything that is left; nothing is left then.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    /// All that is left.
    pub fn rest(self) -> Bytes {
        self.0
    }
}
