//! What is in the log of a partition, and what comes of applying it.

use std::sync::Arc;

use bytes::Bytes;
pub use protocol::RequestKey;
use protocol::varint::take;
use protocol::{Code, Document, Epoch, GroupId, InstanceMessage, Moment, Problem, Source};
use serde::{Deserialize, Serialize};

/// How long a key that an edge gave is remembered, by the owner's wall clock, at least.
pub const AUTO_KEY_MINUTES: u32 = 5;

/// How long a key that a user or a task gave is remembered, by the owner's wall clock, at least.
pub const USER_KEY_HOURS: u64 = 24;

/// The first byte of an encoded command, as programs wrote it that did not note at rest where in
/// the log a version was written.
const FORMAT_OF_OLD: u8 = 1;

/// The same, when the link of the author stands before the command.
const FORMAT_OF_OLD_WITH_AUTHOR: u8 = 2;

/// The first byte of what is written now. What a version of a document has only now and then stands
/// before the command.
const FORMAT: u8 = 3;

/// The same for what comes of a write of an instance, which an older program does not know.
const FORMAT_OF_INSTANCES: u8 = 4;

/// The same for the writes of a batch, which an older program does not know.
const FORMAT_OF_BATCHES: u8 = 5;

/// What stands there.
#[derive(Default, Serialize, Deserialize)]
struct Parts {
    author: Option<Arc<str>>,
    messages: Vec<InstanceMessage>,
}

/// A write of an instance that is taken with an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The group of the instance.
    pub instance: GroupId,
    /// The number of the last one that was taken before it.
    pub after: u64,
    pub number: u64,
    /// What the instance is told of it, if it wants to be told.
    pub answer: Option<InstanceAnswer>,
}

/// The answer to a call of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAnswer {
    /// The name of the instance.
    pub to: String,
    /// The link that it has called.
    pub from: String,
    /// Of the call.
    pub id: u64,
    pub payload: Bytes,
}

/// One entry of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "nearly all commands are writes")]
pub enum Command {
    Write(Write),
    /// From now on, effects of older owners of that partition are refused.
    Fence(Source),
    /// Documents whose expiration is due at that time go with their whole history, at most
    /// `links_max` of them.
    Expire {
        at: Moment,
        links_max: u32,
    },
    Noop,
    /// What was answered to a write that changed nothing.
    Remember(Remember),
    /// Instances have all messages up to these numbers, durable.
    Confirm(Vec<(String, u64)>),
    /// A write of an instance was refused, or has changed nothing. The term is that of the owner
    /// who says so.
    Note(Epoch, Noted),
    /// All of these writes, or none.
    Batch(#[serde(skip)] Box<Batch>),
}

/// The writes of one batch to documents of one partition, each to another document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub head: BatchHead,
    pub writes: Vec<Write>,
}

/// What is said of a batch beside its writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHead {
    /// The term of the owner that has made it.
    pub epoch: Epoch,
    /// Under which key the outcomes are recorded. The writes may have keys of their own.
    pub key: Option<RequestKey>,
    /// The outcomes, as they are recorded.
    pub outcomes: Bytes,
    /// The owner's wall clock.
    pub at: Moment,
    /// The owner on whose behalf a task has asked for it.
    pub source: Option<Source>,
}

/// An answer that goes with no new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remember {
    /// The term of the owner that answers.
    pub epoch: Epoch,
    pub key: RequestKey,
    /// The `digest` is that of the key.
    pub answer: Recorded,
    /// The owner's wall clock.
    pub at: Moment,
}

/// A new version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The new version, whole.
    pub document: Document,
    /// Under which key the answer is recorded, if under any.
    pub key: Option<RequestKey>,
    /// The status of the answer.
    pub status: u16,
    pub retention: Retention,
    /// The owner on whose behalf a task wrote this.
    pub source: Option<Source>,
    /// Whether a task is in progress after this; `None` for what is not a task.
    pub task: Option<bool>,
    /// Nothing shall remain of the document, neither this version nor its history.
    pub purge: bool,
    /// The body of the answer, when it is not the document itself.
    pub response: Option<Bytes>,
    /// What is sent with this version.
    #[serde(skip)]
    pub messages: Vec<InstanceMessage>,
    /// It is a write of an instance.
    #[serde(skip)]
    pub noted: Option<Noted>,
}

/// How many versions are kept: when there are more than `limit`, the oldest go until `floor` are
/// left. The latest always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    pub limit: u32,
    pub floor: u32,
}

/// What was answered to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub link: String,
    pub version: u64,
    pub status: u16,
    /// Of the request that was answered; 0 for [`RequestKey::Auto`].
    pub digest: u64,
    /// `None`: the body was the document at that version.
    pub response: Option<Bytes>,
    /// When that version was written, if it is known: a document that was deleted for good and made
    /// anew has the same versions again.
    #[serde(skip)]
    pub written: Option<Moment>,
}

/// Few writes take more beside the body of their document. Less room than is needed only costs a
/// copy.
const WRITE_BYTES: usize = 256;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppliedCommand {
    Written(Arc<Document>),
    /// Nothing was changed: the source is older than the fence of its partition, the epoch is not
    /// the term of the entry, the version is not the next one, the key is recorded already, or it
    /// is not the next write of its instance.
    Fenced,
    /// All writes of a batch were made, in their order.
    AllWritten(Vec<Arc<Document>>),
    /// These documents are not there any more, as their time has come.
    Expired(Vec<Arc<Document>>),
    Other,
}

impl Command {
    /// The owner of another partition on whose behalf this is, or whose older ones it shuts out.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::Write(write) => write.source,
            Self::Batch(batch) => batch.head.source,
            Self::Fence(source) => Some(*source),
            Self::Expire { .. }
            | Self::Noop
            | Self::Remember(_)
            | Self::Confirm(_)
            | Self::Note(..) => None,
        }
    }

    /// The form that goes into the log.
    pub fn encode(&self) -> Bytes {
        let room = match self {
            Self::Batch(batch) => return batch.encode(),
            Self::Write(write) => write.document.body.len() + WRITE_BYTES,
            Self::Remember(_) | Self::Confirm(_) | Self::Note(..) => WRITE_BYTES,
            Self::Fence(_) | Self::Expire { .. } | Self::Noop => 0,
        };
        let mut bytes = Vec::with_capacity(3 + room);
        let noted = match self {
            Self::Write(write) => write.noted.as_ref(),
            _ => None,
        };
        let is_of_instance = noted.is_some() || matches!(self, Self::Note(..));
        bytes.push(if is_of_instance { FORMAT_OF_INSTANCES } else { FORMAT });
        if is_of_instance {
            bytes = put_plain(&noted, bytes);
        }
        let parts = match self {
            Self::Write(write) => {
                let (author, messages) = (write.document.author.clone(), write.messages.clone());
                Parts { author, messages }
            }
            _ => Parts::default(),
        };
        Bytes::from(put_plain(self, put_plain(&parts, bytes)))
    }

    /// Whether what an encoded command makes says at rest where in the log it was written. What
    /// older programs wrote does not, whichever program applies it: replicas must be equal.
    pub(crate) fn is_placed(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|format| *format >= FORMAT)
    }

    /// # Errors
    /// When the bytes are not a command, or one of a later format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Problem> {
        let wrong = |why: String| Problem::new(Code::Internal, why);
        match bytes.split_first() {
            Some((&FORMAT_OF_OLD, rest)) => postcard::from_bytes(rest)
                .map_err(|error| wrong(format!("a command cannot be read: {error}"))),
            Some((&FORMAT_OF_OLD_WITH_AUTHOR, rest)) => {
                let (author, rest) = take_author(rest)
                    .ok_or_else(|| wrong("the author of a command cannot be read".into()))?;
                let mut command = postcard::from_bytes(rest)
                    .map_err(|error| wrong(format!("a command cannot be read: {error}")))?;
                if let Self::Write(write) = &mut command {
                    write.document.author = Some(author);
                }
                Ok(command)
            }
            Some((&FORMAT, rest)) => take_parts(rest)
                .map_err(|error| wrong(format!("a command cannot be read: {error}"))),
            Some((&FORMAT_OF_INSTANCES, rest)) => take_noted(rest)
                .map_err(|error| wrong(format!("a command cannot be read: {error}"))),
            Some((&FORMAT_OF_BATCHES, rest)) => Batch::decode(rest)
                .map(|batch| Self::Batch(Box::new(batch)))
                .map_err(|error| wrong(format!("a batch cannot be read: {error}"))),
            Some((other, _)) => Err(wrong(format!(
                "a command has format {other}; this version knows {FORMAT_OF_OLD} to \
                 {FORMAT_OF_BATCHES}: \
                 upgrade this node"
            ))),
            None => Err(wrong("a command is empty".into())),
        }
    }
}

impl Batch {
    fn encode(&self) -> Bytes {
        let bodies = self.writes.iter().map(|write| write.document.body.len() + WRITE_BYTES);
        let room = bodies.sum::<usize>() + self.head.outcomes.len() + WRITE_BYTES;
        let mut bytes = Vec::with_capacity(room);
        bytes.push(FORMAT_OF_BATCHES);
        bytes = put_plain(&(&self.head, self.writes.len()), bytes);
        for write in &self.writes {
            let (author, messages) = (write.document.author.clone(), write.messages.clone());
            bytes = put_plain(write, put_plain(&Parts { author, messages }, bytes));
        }
        Bytes::from(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let ((head, count), mut rest): ((BatchHead, usize), _) = postcard::take_from_bytes(bytes)?;
        let mut writes = Vec::new();
        for _ in 0..count {
            let (parts, after): (Parts, _) = postcard::take_from_bytes(rest)?;
            let (mut write, after): (Write, _) = postcard::take_from_bytes(after)?;
            write.document.author = parts.author;
            write.messages = parts.messages;
            writes.push(write);
            rest = after;
        }
        Ok(Self { head, writes })
    }
}

fn put_plain(value: &impl Serialize, bytes: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, bytes)
        .expect("a command is made of plain data, which can always be encoded")
}

fn take_parts(bytes: &[u8]) -> Result<Command, postcard::Error> {
    let (Parts { author, messages }, rest) = postcard::take_from_bytes(bytes)?;
    let mut command = postcard::from_bytes(rest)?;
    if let Command::Write(write) = &mut command {
        write.document.author = author;
        write.messages = messages;
    }
    Ok(command)
}

fn take_noted(bytes: &[u8]) -> Result<Command, postcard::Error> {
    let (noted, rest) = postcard::take_from_bytes(bytes)?;
    let mut command = take_parts(rest)?;
    if let Command::Write(write) = &mut command {
        write.noted = noted;
    }
    Ok(command)
}

fn take_author(mut bytes: &[u8]) -> Option<(Arc<str>, &[u8])> {
    let length = usize::try_from(take(&mut bytes).ok()?).ok()?;
    let (author, rest) = bytes.split_at_checked(length)?;
    Some((std::str::from_utf8(author).ok()?.into(), rest))
}
