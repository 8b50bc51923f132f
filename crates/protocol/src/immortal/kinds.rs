//! The few kinds that blocks and messages come in.

use super::bytes_of::Garbled;

/// Where the inputs of a block come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// The node: start, timers, results of side effects, upgrades.
    Node = 0,
    /// An instance, numbered without gaps from 1.
    Instance = 1,
    /// Impulses of an instance or of somebody outside.
    Impulses = 2,
}

/// How a call or a side effect went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Value = 1,
    /// Done, and there is nothing to give back.
    Empty = 2,
    /// The payload is a text for people.
    Error = 3,
}

impl Status {
    /// # Errors
    /// When it is none of the three.
    pub fn from_byte(byte: u8) -> Result<Self, Garbled> {
        match byte {
            1 => Ok(Self::Value),
            2 => Ok(Self::Empty),
            3 => Ok(Self::Error),
            other => Err(Garbled(format!("a status of 1, 2 or 3, not {other}"))),
        }
    }
}
