//! A page of a backup: a piece of what a group is at one position of its log.
//!
//! A group is its state at some position (of a partition and the directory, that of the backup; of
//! an instance, that of its last checkpoint) and what was logged since then, up to the position of
//! the backup. The first page is the head, then come pairs of the state, then entries.

use bytes::Bytes;
use protocol::{GroupId, Position, Term};
use serde::{Deserialize, Serialize};
use storage::{Chunk, Entry, EntryKind};

/// The first byte of every page. Raised when the bytes of pages change, or those of what is in
/// them.
pub const PAGE_FORMAT: u8 = 1;

/// How long a page is, in bytes. A single pair or entry may be longer.
pub(super) const PAGE_BYTES: usize = 512 << 10;

/// Where a group stands in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub group: GroupId,
    /// Where the state stands.
    pub applied: (Position, Term),
    /// Where the backup stands: the entries go up to there.
    pub position: (Position, Term),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Block {
    Head(Head),
    /// Keys (family and rest) and values, as a snapshot has them.
    State(Vec<(Vec<u8>, Vec<u8>)>),
    /// What was logged, with no position missing. One without bytes means nothing to the state.
    Entries(Vec<(Position, Term, Bytes)>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub block: Block,
    /// How to ask for the next page; empty when there is none.
    pub next: Vec<u8>,
}

impl Page {
    /// Pairs of the state at `base`; entries up to `end` come after the last ones.
    pub(super) fn of_state(chunk: Chunk, base: Position, end: Position) -> Self {
        let next = if !chunk.done {
            let last = chunk.pairs.last().map(|(key, _)| key.clone()).unwrap_or_default();
            Cursor::State(base, last).encode()
        } else if base < end {
            Cursor::Entries(base, base).encode()
        } else {
            Vec::new()
        };
        Self { block: Block::State(chunk.pairs), next }
    }

    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![PAGE_FORMAT]);
        bytes.expect("a page is plain data").into()
    }

    /// # Errors
    /// What is wrong with the bytes, for people.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&PAGE_FORMAT, rest)) => postcard::from_bytes(rest)
                .map_err(|error| format!("a page of a backup cannot be read: {error}")),
            Some((other, _)) => Err(format!(
                "a page of a backup has format {other}, and this version of amrita reads format \
                 {PAGE_FORMAT}: use the version that wrote it, or a later one"
            )),
            None => Err("a page of a backup is empty".into()),
        }
    }
}

/// An entry as a page has it.
pub(super) fn logged(entry: Entry) -> (Position, Term, Bytes) {
    let is_proposed = entry.kind == EntryKind::Normal;
    (entry.position, entry.term, if is_proposed { entry.data } else { Bytes::new() })
}

/// Which page comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cursor {
    Head,
    /// Pairs behind this key, of the state at that position.
    State(Position, Vec<u8>),
    /// Entries behind that position, on top of the state at the first one.
    Entries(Position, Position),
}

impl Cursor {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a cursor is plain data")
    }

    /// Without bytes: the beginning.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() { Some(Self::Head) } else { postcard::from_bytes(bytes).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_and_one_of_a_later_format_is_refused_by_its_number() {
        let entries = Block::Entries(vec![(Position(7), Term(2), Bytes::from_static(b"x"))]);
        let page =
            Page { block: entries, next: Cursor::Entries(Position(1), Position(7)).encode() };
        assert_eq!(Page::decode(&page.encode()), Ok(page.clone()));
        let mut later = page.encode().to_vec();
        later[0] = PAGE_FORMAT + 1;
        assert!(Page::decode(&later).unwrap_err().contains("format 2"));
        assert!(Page::decode(&page.encode()[..5]).is_err() && Page::decode(b"").is_err());
    }

    #[test]
    fn a_cursor_comes_back_and_nothing_is_the_beginning() {
        for cursor in [Cursor::Head, Cursor::State(Position(3), vec![1, 2])] {
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
        assert_eq!(Cursor::decode(b""), Some(Cursor::Head));
        assert_eq!(Cursor::decode(&[77]), None);
    }
}
