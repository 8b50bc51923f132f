//! A document at rest: a few small numbers, the numbers of its kind and owner, and the body as it
//! is. The link is the key.

use bytes::Bytes;
use protocol::varint::{put as put_number, take};
use protocol::{Action, Body, Document, Epoch, Moment, Position, Term};
use query::Candidate;
use serde::Deserialize;
use serde::de::value::{BytesDeserializer, Error};
use storage::StoreError;

use crate::family::HEAD;
use crate::names::Names;

/// The bits of the first byte that say how the version was made, and what they say of a tombstone.
const ACTION: u8 = 0b11;
const DELETE: u8 = 3;

/// Bits of the first byte. The two lowest are the action, the highest is the format (0).
const FLAG_TASK: u8 = 1 << 2;
const FLAG_EXPIRES: u8 = 1 << 3;
const FLAG_HISTORY: u8 = 1 << 4;
const FLAG_AUTHOR: u8 = 1 << 5;
const FLAG_POSITION: u8 = 1 << 6;
const FLAGS_UNKNOWN: u8 = 1 << 7;

/// Whether a pair of a partition's state is the latest version of a document that was not deleted.
/// The key begins with its family.
///
/// # Errors
/// When it is a document of a later format.
pub(crate) fn is_living(key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
    match (key.first(), value.first()) {
        (Some(&HEAD), Some(flags)) if flags & FLAGS_UNKNOWN == 0 => Ok(flags & ACTION != DELETE),
        (Some(&HEAD), _) => Err(StoreError::failed("a document at rest cannot be read")),
        _ => Ok(false),
    }
}

/// A document as it lies in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) version: u64,
    pub(crate) epoch: Epoch,
    pub(crate) kind: &'a str,
    pub(crate) action: Action,
    pub(crate) updated: Moment,
    pub(crate) expires: Moment,
    pub(crate) owner: &'a str,
    pub(crate) author: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// Of a head: the oldest version that is retained.
    pub(crate) oldest: u64,
    /// Of a head: a task that is in progress.
    pub(crate) task: bool,
    /// Where in the log it was written; 0 if that is not known.
    pub(crate) position: Position,
}

impl<'a> Record<'a> {
    pub(crate) fn of(document: &'a Document, oldest: u64, task: bool) -> Self {
        Self {
            version: document.version,
            epoch: document.epoch,
            kind: &document.kind,
            action: document.action,
            updated: document.updated,
            expires: document.expires,
            owner: &document.owner,
            author: document.author.as_deref(),
            body: document.body.as_bytes(),
            oldest,
            task,
            position: Position(0),
        }
    }

    pub(crate) fn at(self, position: Position) -> Self {
        Self { position, ..self }
    }

    /// The record of a head's document, as the index keeps it.
    pub(crate) fn plain(document: &'a Document) -> Self {
        Self::of(document, document.version, false)
    }

    /// As a query sees it.
    pub(crate) fn candidate(&self, link: &'a str) -> Candidate<'a> {
        Candidate {
            link,
            version: self.version,
            epoch: self.epoch,
            kind: self.kind,
            action: self.action,
            updated: self.updated,
            expires: self.expires,
            owner: self.owner,
            author: self.author,
            body: self.body,
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.action == Action::Delete
    }

    pub(crate) fn is_expired(&self, at: Moment) -> bool {
        self.expires.0 != 0 && self.expires <= at
    }

    pub(crate) fn encode(&self, names: &Names) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.len() + 32);
        let mut flags = match self.action {
            Action::Post => 0,
            Action::Put => 1,
            Action::Patch => 2,
            Action::Delete => DELETE,
        };
        for (is_set, flag) in [
            (self.task, FLAG_TASK),
            (self.expires.0 != 0, FLAG_EXPIRES),
            (self.oldest != self.version, FLAG_HISTORY),
            (self.author.is_some(), FLAG_AUTHOR),
            (self.position.0 != 0, FLAG_POSITION),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        bytes.push(flags);
        put_number(&mut bytes, self.version);
        put_number(&mut bytes, self.epoch.0);
        if self.position.0 != 0 {
            put_number(&mut bytes, self.position.0);
        }
        put_name(&mut bytes, names, self.kind);
        put_name(&mut bytes, names, self.owner);
        put_number(&mut bytes, self.updated.0);
        if self.expires.0 != 0 {
            put_number(&mut bytes, self.expires.0);
        }
        if self.oldest != self.version {
            put_number(&mut bytes, self.version - self.oldest);
        }
        if let Some(author) = self.author {
            put_name(&mut bytes, names, author);
        }
        bytes.extend_from_slice(self.body);
        bytes
    }

    /// # Errors
    /// When the bytes are not a record, or one of a later format.
    pub(crate) fn decode(bytes: &'a [u8], names: &'a Names) -> Result<Self, StoreError> {
        Self::take(bytes, names)
            .ok_or_else(|| StoreError::failed("a document at rest cannot be read".to_owned()))
    }

    fn take(bytes: &'a [u8], names: &'a Names) -> Option<Self> {
        let (&flags, mut rest) = bytes.split_first()?;
        if flags & FLAGS_UNKNOWN != 0 {
            return None;
        }
        let rest = &mut rest;
        let version = take_number(rest)?;
        let epoch = Term(take_number(rest)?);
        let position = if flags & FLAG_POSITION == 0 { 0 } else { take_number(rest)? };
        let kind = take_name(rest, names)?;
        let owner = take_name(rest, names)?;
        let updated = Moment(take_number(rest)?);
        let expires = if flags & FLAG_EXPIRES == 0 { 0 } else { take_number(rest)? };
        let history = if flags & FLAG_HISTORY == 0 { 0 } else { take_number(rest)? };
        let author = if flags & FLAG_AUTHOR == 0 { None } else { Some(take_name(rest, names)?) };
        Some(Self {
            version,
            epoch,
            kind,
            action: [Action::Post, Action::Put, Action::Patch, Action::Delete]
                [usize::from(flags & 3)],
            updated,
            expires: Moment(expires),
            owner,
            author,
            body: rest,
            oldest: version.checked_sub(history)?,
            task: flags & FLAG_TASK != 0,
            position: Position(position),
        })
    }

    pub(crate) fn to_document(self, link: &str) -> Document {
        Document {
            link: link.to_owned(),
            version: self.version,
            epoch: self.epoch,
            kind: self.kind.to_owned(),
            action: self.action,
            updated: self.updated,
            expires: self.expires,
            owner: self.owner.to_owned(),
            author: self.author.map(Into::into),
            body: body_of(self.body),
        }
    }
}

/// A body of bytes that were a body's before.
fn body_of(bytes: &[u8]) -> Body {
    Body::deserialize(BytesDeserializer::<Error>::new(bytes)).unwrap_or_else(|_| Body::empty())
}

pub(crate) fn take_number(from: &mut &[u8]) -> Option<u64> {
    take(from).ok()
}

/// The name's number plus 1, or 0 and the name itself.
fn put_name(into: &mut Vec<u8>, names: &Names, name: &str) {
    if let Some(number) = names.number(name) {
        put_number(into, u64::from(number) + 1);
    } else {
        put_number(into, 0);
        put_number(into, u64::try_from(name.len()).expect("a length fits"));
        into.extend_from_slice(name.as_bytes());
    }
}

fn take_name<'a>(from: &mut &'a [u8], names: &'a Names) -> Option<&'a str> {
    if let Some(number) = usize::try_from(take_number(from)?).ok()?.checked_sub(1) {
        return names.text(number);
    }
    let length = usize::try_from(take_number(from)?).ok()?;
    let (name, rest) = from.split_at_checked(length)?;
    *from = rest;
    std::str::from_utf8(name).ok()
}

/// The document as JSON; whoever answers with it puts the present owner in.
pub(crate) fn shown(record: Record<'_>, link: &str) -> Bytes {
    record.to_document(link).to_json_bytes(record.owner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use storage::{Batch, MemoryStore, Space};

    use super::*;

    fn document() -> Document {
        Document {
            link: "/core/examples/one".into(),
            version: 300,
            epoch: Term(7),
            kind: "com:example:State".into(),
            action: Action::Patch,
            updated: Moment(1_700_000_000_000_000),
            expires: Moment(9),
            owner: "node-1".into(),
            author: None,
            body: Body::from_state(&json!({"name": "x", "tags": ["a"]})).unwrap(),
        }
    }

    fn space() -> Space {
        Space::open(&MemoryStore::new(), protocol::GroupId(1)).unwrap().0
    }

    #[test]
    fn a_document_comes_back_as_it_was_with_its_names_numbered_or_not() {
        let mut names = Names::default();
        for learned in [false, true] {
            let document = document();
            let bytes = Record::of(&document, 250, true).at(Position(77)).encode(&names);
            let record = Record::decode(&bytes, &names).unwrap();
            assert_eq!(record.to_document(&document.link), document);
            assert_eq!((record.oldest, record.task, record.position.0), (250, true, 77));
            assert_eq!(bytes.len() < 60, learned);
            names.learn(&document.kind, space(), &mut Batch::new());
            names.learn(&document.owner, space(), &mut Batch::new());
        }
    }

    #[test]
    fn every_cut_in_the_head_of_a_record_is_noticed() {
        let names = Names::default();
        let document = document();
        let bytes = Record::of(&document, 300, false).at(Position(300)).encode(&names);
        let head = bytes.len() - document.body.len();
        for length in 0..head {
            assert!(Record::decode(&bytes[..length], &names).is_err(), "{length}");
        }
        let mut later = bytes;
        later[0] |= 1 << 7;
        assert!(Record::decode(&later, &names).is_err(), "a later format");
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        for number in [0, 1, 127, 128, 1 << 35, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(take_number(&mut bytes.as_slice()), Some(number));
        }
        assert_eq!(take_number(&mut [0x80; 11].as_slice()), None);
    }
}
