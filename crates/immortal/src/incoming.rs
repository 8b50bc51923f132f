//! What handlers are given and give back.

use std::fmt;
use std::marker::PhantomData;

use protocol::immortal::Status;
use serde::{Deserialize, Serialize};

/// Who sent an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    /// An instance, `client/...`, or empty for the node.
    pub name: &'a str,
    pub kind: SenderKind,
}

/// What an input's sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderKind {
    /// The node: a start, a timer, the result of an effect.
    Node,
    /// Another instance, or this one.
    Instance,
    /// An impulse: of a thread beside an instance, or from outside.
    Outside,
}

/// A message with its arguments still as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    pub method: i64,
    pub payload: &'a [u8],
    /// The id of a call that wants an answer.
    pub(crate) call: Option<u64>,
}

impl<'a> Incoming<'a> {
    /// The arguments, which stand in a JSON array.
    ///
    /// # Errors
    /// When they are others.
    pub fn arguments<T: Deserialize<'a>>(&self) -> Result<T, Refused> {
        // No arguments are `()`, which JSON has as null.
        let json = if self.payload == b"[]" { b"null" } else { self.payload };
        serde_json::from_slice(json)
            .map_err(|error| Refused(format!("the arguments of method {}: {error}", self.method)))
    }

    /// Where an answer of this type is to go: kept in the state or in a `Next` when it comes later.
    pub fn reply<T>(&self, sender: Sender<'_>) -> Reply<T> {
        let to = self.call.map(|id| (sender.name.to_owned(), id));
        Reply { to, answer: PhantomData }
    }
}

/// Somebody waits for an answer, or nobody does: then it is dropped. Answered with
/// [`Context::answer`](crate::Context::answer).
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
#[must_use = "somebody may wait for the answer"]
pub struct Reply<T> {
    pub(crate) to: Option<(String, u64)>,
    #[serde(skip)]
    answer: PhantomData<fn(T)>,
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.to).finish()
    }
}

/// An answer that is an error, with a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// What came of a call, a timer or an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    pub(crate) status: Status,
    pub(crate) payload: &'a [u8],
}

impl<'a> Outcome<'a> {
    /// What a timer gives.
    pub(crate) const FIRED: Outcome<'static> = Outcome { status: Status::Empty, payload: &[] };

    /// The value, or why there is none.
    ///
    /// # Errors
    /// What the other side said, or that the value is of another type.
    pub fn value<T: Deserialize<'a>>(&self) -> Result<T, Refused> {
        let json = match self.status {
            Status::Value => self.payload,
            // No value is JSON's null: what a method without a result gives.
            Status::Empty => b"null",
            Status::Error => return Err(Refused(String::from_utf8_lossy(self.payload).into())),
        };
        serde_json::from_slice(json).map_err(|error| Refused(format!("the answer: {error}")))
    }

    /// The bytes of a value, for those who do without JSON.
    pub fn bytes(&self) -> &'a [u8] {
        self.payload
    }
}

/// What an effect gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performed {
    pub(crate) status: Status,
    pub(crate) payload: Vec<u8>,
}

impl Performed {
    /// It gave this value.
    pub fn value(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(payload) => Self { status: Status::Value, payload },
            Err(error) => Self::refused(&format!("the result cannot be written: {error}")),
        }
    }

    /// It is done, and gave nothing.
    pub fn done() -> Self {
        Self { status: Status::Empty, payload: Vec::new() }
    }

    /// It did not work, for this reason. The program is told; it is not tried again by itself.
    pub fn refused(why: &str) -> Self {
        Self { status: Status::Error, payload: why.into() }
    }
}
