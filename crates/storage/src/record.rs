//! What the log holds, and what is left of it after a start.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use serde::{Deserialize, Serialize};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// For the group's state machine (empty: the mark of a new owner).
    Normal,
    /// Another membership of the group.
    Membership,
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    pub term: Term,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// One thing to be written to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// The next entry of a group. One at or below the last position replaces that entry and all
    /// after it. Never at or below the group's base, and never beyond last + 1.
    Entry { group: GroupId, entry: Entry },
    /// Raft's hard state; `voted_for` 0 means nobody.
    Vote { group: GroupId, term: Term, voted_for: ReplicaId, commit: Position },
    /// All up to here is in the state store, durably; the log goes on after it. If it is beyond
    /// the last entry, or the entry there is of another term, the log is empty and starts there.
    /// One at or below the present base changes nothing.
    Base { group: GroupId, position: Position, term: Term },
    /// Whose log this is, and which start of it began here.
    Owner(LogOwner),
    /// What another replica was heard to have.
    Witness { of: ReplicaId, said: Witness },
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOwner {
    pub sandbox_id: u64,
    /// Counts the starts.
    pub boot: u64,
}

/// The newest that a replica said about its own log. Frames are numbered for as long as the log
/// lives, so one number stands for all that the replica has promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    pub boot: u64,
    /// Made by chance at that start: two starts with one number can be told apart.
    pub start: u64,
    /// The log had this many frames, durably.
    pub frames: u64,
}

/// A group as the log knows it. Its entries stay on the disk: see
/// [`LogReader`](crate::LogReader).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    pub term: Term,
    /// 0: nobody.
    pub voted_for: ReplicaId,
    pub commit: Position,
    pub base: Position,
    pub base_term: Term,
    /// The entries are those from base + 1 to here, without gaps.
    pub last: Position,
    /// From which position on which term is in force; the first is that of base + 1.
    pub terms: Vec<(Position, Term)>,
    /// Which of the entries change the membership.
    pub memberships: Vec<Position>,
    /// What the entries take on the disk, roughly.
    pub bytes: u64,
}

impl RecoveredGroup {
    /// The term of the last entry, or of the base.
    pub fn last_term(&self) -> Term {
        self.terms.last().map_or(self.base_term, |(_, term)| *term)
    }
}

/// What the log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Whose log it is, as its newest start has said. `None`: the log has just been begun.
    pub owner: Option<LogOwner>,
    /// What other replicas were heard to have.
    pub witnesses: BTreeMap<ReplicaId, Witness>,
    /// How many frames the log has had since it was begun.
    pub frames: u64,
    /// How many bytes of an unfinished last write were cut. Nobody was told that they are durable.
    pub torn_bytes: u64,
}
