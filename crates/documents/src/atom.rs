//! The part of a batch that lies in one partition: what its owner is asked, and what is recorded of
//! the outcomes. Both are bytes that only this program reads.

use bytes::Bytes;
use protocol::{Code, Moment, Problem, Request, RequestKey};
use serde::{Deserialize, Serialize};

/// What the owner of a partition is to do, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Atom {
    /// Of the batch that it is a part of: the same key with another batch is a mistake.
    pub digest: u64,
    /// Each for another document. Who asks is said once, with the question.
    pub requests: Vec<AtomRequest>,
}

/// One write of an atom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtomRequest {
    pub request: Request,
    /// A key that the client has given to this request alone.
    pub key: Option<RequestKey>,
}

/// What was answered to one write of an atom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOutcome {
    pub status: u16,
    /// The version that was written, or shown.
    pub version: u64,
    /// When that version was written: a link that was deleted for good has the same ones again.
    pub written: Moment,
    /// The body, when it was not a version of the document.
    pub body: Option<Bytes>,
}

impl Atom {
    pub fn encode(&self) -> Bytes {
        encoded(self)
    }

    /// # Errors
    /// When the bytes are no atom.
    pub fn decode(bytes: &[u8]) -> Result<Self, Problem> {
        decoded(bytes)
    }
}

impl KeptOutcome {
    pub fn encode(all: &[Self]) -> Bytes {
        encoded(all)
    }

    /// # Errors
    /// When the bytes are no outcomes.
    pub fn decode(bytes: &[u8]) -> Result<Vec<Self>, Problem> {
        decoded(bytes)
    }
}

fn encoded(value: &(impl Serialize + ?Sized)) -> Bytes {
    let bytes = postcard::to_stdvec(value);
    bytes.expect("an atom is made of plain data, which can always be encoded").into()
}

fn decoded<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    let wrong = |error| Problem::new(Code::Internal, format!("an atom cannot be read: {error}"));
    postcard::from_bytes(bytes).map_err(wrong)
}
