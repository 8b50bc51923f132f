//! What a writer of an immortal implements, and what handlers are given and give back.

use std::fmt;
use std::marker::PhantomData;

use protocol::immortal::Status;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::format;
use crate::impulses::Impulses;

/// A program that does not die: a state that is changed by its inputs and by nothing else.
///
/// Every copy is given the same inputs in the same order, and must reach the same state and say the
/// same things. So a handler has no clock, no random numbers, no files, no sockets and no `HashMap` to
/// iterate over: what it needs of these the [`Context`] gives it.
///
/// `handle` is the raw level: a method's number and bytes. Most programs write
/// `server::dispatch(self, context, incoming)` there, with an [`interface!`](crate::interface) that
/// decodes the arguments and calls a method of the program.
pub trait Immortal: Serialize + DeserializeOwned + Send + Sized + 'static {
    /// What to go on with when an answer comes, a timer fires or an effect is done: an enum, with
    /// what has to be remembered until then. It is kept in the checkpoint. `()` when there is none.
    type Next: Serialize + DeserializeOwned + Send;

    /// What is done outside, once for the whole history: an enum with what it needs to know. It is kept
    /// in the checkpoint until its result has come. `()` when there is none.
    type Effect: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// The very first input of the instance.
    fn start(&mut self, _context: &mut Context<'_, Self>, _initial: &[u8]) {}

    /// A message: a fork, a call or an impulse.
    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>);

    /// The answer to a call, a timer, or the result of an effect.
    fn resume(
        &mut self,
        _context: &mut Context<'_, Self>,
        _next: Self::Next,
        _outcome: Outcome<'_>,
    ) {
    }

    /// Does an effect, on a thread of its own, on the primary only. Here, and only here, a clock, the
    /// network and chance are allowed: what it gives is logged, and every copy gets that.
    ///
    /// When a primary dies in between, the next one does the effect again: what it does outside must bear
    /// to be done twice. Its result is taken once.
    fn perform(_effect: Self::Effect) -> Performed {
        Performed::refused("this program does not say how an effect is performed")
    }

    /// This copy is the primary now. Threads that take in what comes from outside are started here. The
    /// state can be looked at, not changed: the other copies know nothing of this moment.
    fn primary(&self, _impulses: &Impulses) {}

    /// This copy is not the primary any more.
    fn standby(&self) {}

    /// Writes the state for a checkpoint: CBOR unless you do better. The bytes go out as they come.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        format::save(self, to)
    }

    /// Reads what `save` has written, and not a byte more.
    ///
    /// # Errors
    /// When it is something else.
    fn load(from: &mut dyn std::io::Read) -> std::io::Result<Self> {
        format::load(from)
    }
}

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
/// [`Context::answer`].
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
