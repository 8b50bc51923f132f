//! The service protocol: what a program that has the handlers of a kind and the node beside it say
//! to one another. The page is `api/service-protocol.md`; this is its codec, used by both ends.
//! Frames, numbers and texts have the form that they have in the immortal protocol.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::immortal::{Garbled, Taker, begin, check_end, end, put_number, put_signed, put_text};
use crate::{InstanceMessage, Moment};

/// The version of the protocol that is spoken here.
pub const VERSION: u64 = 2;

/// The first text in a SERVE.
pub const MAGIC: &str = "amrita-service";

/// The type of the frame by which a node knows that a program speaks this protocol.
pub const SERVE: u8 = 0x21;

/// What a program may do for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Handler {
    Create = 0,
    Put = 1,
    Patch = 2,
    Delete = 3,
    Action = 4,
}

impl Handler {
    /// Those that a definition names by their words.
    pub const VERBS: [Self; 4] = [Self::Create, Self::Put, Self::Patch, Self::Delete];

    /// The word for it in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Action => "action",
        }
    }

    fn from_byte(byte: u8) -> Result<Self, Garbled> {
        match byte {
            0 => Ok(Self::Create),
            1 => Ok(Self::Put),
            2 => Ok(Self::Patch),
            3 => Ok(Self::Delete),
            4 => Ok(Self::Action),
            other => Err(Garbled(format!("a handler from 0 to 4, not {other}"))),
        }
    }
}

/// What a program has for a kind, or several programs together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    /// Of the verbs.
    pub handlers: BTreeSet<Handler>,
    /// The names of the actions.
    pub actions: BTreeSet<String>,
}

impl Has {
    /// Whether a call for that handler can be answered.
    pub fn answers(&self, handler: Handler, action: &str) -> bool {
        match handler {
            Handler::Action => self.actions.contains(action),
            verb => self.handlers.contains(&verb),
        }
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Self) {
        self.handlers.extend(&other.handlers);
        self.actions.extend(other.actions.iter().cloned());
    }

    /// Whether it has all that another one has.
    pub fn has_all_of(&self, other: &Self) -> bool {
        self.handlers.is_superset(&other.handlers) && self.actions.is_superset(&other.actions)
    }
}

/// The first frame of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    pub version_min: u64,
    pub version_max: u64,
    /// The factory of the kind.
    pub factory: String,
    /// Of the program, for people.
    pub program_version: String,
    /// How many calls the program takes at a time.
    pub calls_max: u64,
    /// What it has; another version of the program may have more.
    pub has: Has,
}

/// What a program is asked. Texts of JSON are empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub handler: Handler,
    /// The name of the action, if it is one.
    pub action: String,
    pub link: String,
    /// The version that is being made.
    pub version: u64,
    /// The owner's wall clock.
    pub time: Moment,
    /// The link of the user on whose behalf it is; empty if it is not known who asks.
    pub user: String,
    /// The state as it is; none for a new document.
    pub before: Bytes,
    /// The state as the node would write it; none for DELETE and actions.
    pub after: Bytes,
    /// What the client has sent with a PATCH or to an action, without the system's fields.
    pub body: Bytes,
}

/// What a program makes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// This state is to be written: a JSON object.
    State(Bytes),
    /// What the node would write; for an action, nothing.
    AsItIs,
    /// Nothing is to be written. The status is one of [`REFUSALS`].
    Refused { status: u16, message: String },
    /// The handler has failed. Nothing is to be written.
    Failed { message: String },
    /// What is to be written, which is one of the first two; these messages go with it.
    Sending { messages: Vec<InstanceMessage>, answer: Box<Self> },
}

impl Answer {
    /// The state that it gives.
    pub fn state(&self) -> Option<&Bytes> {
        match self {
            Self::State(state) => Some(state),
            Self::Sending { answer, .. } => answer.state(),
            Self::AsItIs | Self::Refused { .. } | Self::Failed { .. } => None,
        }
    }

    pub fn state_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::State(state) => Some(state),
            Self::Sending { answer, .. } => answer.state_mut(),
            Self::AsItIs | Self::Refused { .. } | Self::Failed { .. } => None,
        }
    }
}

/// The HTTP statuses with which a program may refuse.
pub const REFUSALS: [u16; 4] = [400, 403, 404, 409];

/// What a program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProgram {
    Serve(Serve),
    Answer {
        call: u64,
        answer: Answer,
    },
    /// It wants no more calls, and will answer those that it has.
    Leave,
    Pong {
        number: u64,
    },
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNode {
    Welcome { version: u64, node: String, frame_bytes_max: u64 },
    Call { number: u64, call: Call },
    Ping { number: u64 },
    Error { code: String, text: String },
}

impl FromProgram {
    /// Writes the frame with its length.
    pub fn put(&self, out: &mut Vec<u8>) {
        let at = begin(out, self.kind());
        match self {
            Self::Serve(serve) => {
                put_text(out, MAGIC);
                put_number(out, serve.version_min);
                put_number(out, serve.version_max);
                put_text(out, &serve.factory);
                put_text(out, &serve.program_version);
                put_number(out, serve.calls_max);
                put_has(out, &serve.has);
            }
            Self::Answer { call, answer } => {
                put_number(out, *call);
                put_answer(out, answer);
            }
            Self::Leave => {}
            Self::Pong { number } => put_number(out, *number),
        }
        end(out, at);
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Serve(_) => SERVE,
            Self::Answer { .. } => 0x22,
            Self::Leave => 0x23,
            Self::Pong { .. } => 0x0d,
        }
    }

    /// Reads a frame that [`crate::immortal::split_frame`] gave.
    ///
    /// # Errors
    /// What was expected in it.
    pub fn read(frame: Bytes) -> Result<Self, Garbled> {
        let mut from = Taker::new(frame);
        let kind = from.byte("the type of a frame")?;
        let said = match kind {
            SERVE => return take_serve(&mut from).map(Self::Serve),
            0x22 => Self::Answer {
                call: from.number("the number of a call")?,
                answer: take_answer(&mut from)?,
            },
            0x23 => Self::Leave,
            0x0d => Self::Pong { number: from.number("a number")? },
            other => {
                let text = format!("no program of a service sends a frame of type {other:#04x}");
                return Err(Garbled(text));
            }
        };
        check_end(kind, &from)?;
        Ok(said)
    }
}

fn take_serve(from: &mut Taker) -> Result<Serve, Garbled> {
    if from.text("the word amrita-service")? != MAGIC {
        return Err(Garbled(format!("the word {MAGIC} at the beginning")));
    }
    let version_min = from.number("the lowest version")?;
    let version_max = from.number("the highest version")?;
    let factory = from.text("the link of a factory")?;
    let program_version = from.text("the version of the program")?;
    let calls_max = from.number("a number of calls")?;
    // In version 1 nothing more was said; the node tells such a program that it is too old.
    let has = if version_max < 2 { Has::default() } else { take_has(from)? };
    Ok(Serve { version_min, version_max, factory, program_version, calls_max, has })
}

fn put_has(out: &mut Vec<u8>, has: &Has) {
    put_number(out, has.handlers.len() as u64);
    has.handlers.iter().for_each(|handler| put_text(out, handler.name()));
    put_number(out, has.actions.len() as u64);
    has.actions.iter().for_each(|action| put_text(out, action));
}

fn take_has(from: &mut Taker) -> Result<Has, Garbled> {
    let mut has = Has::default();
    for _ in 0..from.number("a number of handlers")? {
        let name = from.text("the name of a handler")?;
        let known = Handler::VERBS.into_iter().find(|verb| verb.name() == name);
        let wrong = || Garbled(format!("create, put, patch or delete for a handler, not '{name}'"));
        has.handlers.insert(known.ok_or_else(wrong)?);
    }
    for _ in 0..from.number("a number of actions")? {
        has.actions.insert(from.text("the name of an action")?);
    }
    Ok(has)
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::State(state) => {
            out.push(1);
            out.extend_from_slice(state);
        }
        Answer::AsItIs => out.push(2),
        Answer::Refused { status, message } => {
            out.push(3);
            put_number(out, u64::from(*status));
            put_text(out, message);
        }
        Answer::Failed { message } => {
            out.push(4);
            put_text(out, message);
        }
        Answer::Sending { messages, answer } => {
            out.push(5);
            put_number(out, messages.len() as u64);
            for InstanceMessage { to, method, payload } in messages {
                put_text(out, to);
                put_signed(out, *method);
                put_number(out, payload.len() as u64);
                out.extend_from_slice(payload);
            }
            put_answer(out, answer);
        }
    }
}

fn take_answer(from: &mut Taker) -> Result<Answer, Garbled> {
    match from.byte("what became of the call")? {
        1 => Ok(Answer::State(from.take_rest())),
        2 => Ok(Answer::AsItIs),
        3 => {
            let number = from.number("the status of a refusal")?;
            let status = REFUSALS.into_iter().find(|status| u64::from(*status) == number);
            let wrong = || Garbled(format!("a status of 400, 403, 404 or 409, not {number}"));
            Ok(Answer::Refused {
                status: status.ok_or_else(wrong)?,
                message: from.text("a message")?,
            })
        }
        4 => Ok(Answer::Failed { message: from.text("a message")? }),
        5 => take_sending(from),
        other => Err(Garbled(format!("1 to 5 for what became of the call, not {other}"))),
    }
}

fn take_sending(from: &mut Taker) -> Result<Answer, Garbled> {
    let mut messages = Vec::new();
    for _ in 0..from.number("a number of messages")? {
        let (to, method) = (from.text("the name of an instance")?, from.signed("a method")?);
        let length = from.number("the length of a payload")?;
        let payload = from.bytes(length, "a payload")?;
        messages.push(InstanceMessage { to, method, payload });
    }
    let answer = match from.byte("what is to be written")? {
        1 => Answer::State(from.take_rest()),
        2 => Answer::AsItIs,
        other => return Err(Garbled(format!("1 or 2 for what is to be written, not {other}"))),
    };
    Ok(Answer::Sending { messages, answer: Box::new(answer) })
}

impl FromNode {
    /// Writes the frame with its length.
    pub fn put(&self, out: &mut Vec<u8>) {
        let at = begin(out, self.kind());
        match self {
            Self::Welcome { version, node, frame_bytes_max } => {
                put_number(out, *version);
                put_text(out, node);
                put_number(out, *frame_bytes_max);
            }
            Self::Call { number, call } => {
                put_number(out, *number);
                put_call(out, call);
            }
            Self::Ping { number } => put_number(out, *number),
            Self::Error { code, text } => {
                put_text(out, code);
                put_text(out, text);
            }
        }
        end(out, at);
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Welcome { .. } => 0xa1,
            Self::Call { .. } => 0xa2,
            Self::Ping { .. } => 0x8d,
            Self::Error { .. } => 0xff,
        }
    }

    /// Reads a frame that [`crate::immortal::split_frame`] gave.
    ///
    /// # Errors
    /// What was expected in it.
    pub fn read(frame: Bytes) -> Result<Self, Garbled> {
        let mut from = Taker::new(frame);
        let kind = from.byte("the type of a frame")?;
        let said = match kind {
            0xa1 => Self::Welcome {
                version: from.number("a version")?,
                node: from.text("the name of a node")?,
                frame_bytes_max: from.number("the longest frame")?,
            },
            0xa2 => Self::Call {
                number: from.number("the number of a call")?,
                call: take_call(&mut from)?,
            },
            0x8d => Self::Ping { number: from.number("a number")? },
            0xff => Self::Error { code: from.text("a code")?, text: from.text("a text")? },
            other => {
                let text = format!("no node sends a service a frame of type {other:#04x}");
                return Err(Garbled(text));
            }
        };
        // Only before a version is agreed on may more be said than the other end knows.
        if !matches!(said, Self::Welcome { .. } | Self::Error { .. }) {
            check_end(kind, &from)?;
        }
        Ok(said)
    }
}

fn put_call(out: &mut Vec<u8>, call: &Call) {
    out.push(call.handler as u8);
    put_text(out, &call.action);
    put_text(out, &call.link);
    put_number(out, call.version);
    put_number(out, call.time.0);
    put_text(out, &call.user);
    for json in [&call.before, &call.after, &call.body] {
        put_number(out, json.len() as u64);
        out.extend_from_slice(json);
    }
}

fn take_call(from: &mut Taker) -> Result<Call, Garbled> {
    let handler = Handler::from_byte(from.byte("a handler")?)?;
    let action = from.text("the name of an action")?;
    let link = from.text("the link of a document")?;
    let version = from.number("a version")?;
    let time = Moment(from.number("a time")?);
    let user = from.text("the link of a user")?;
    let mut json = |what: &str| {
        let count = from.number(what)?;
        from.bytes(count, what)
    };
    let (before, after) = (json("the state before")?, json("the state after")?);
    Ok(Call { handler, action, link, version, time, user, before, after, body: json("the body")? })
}
