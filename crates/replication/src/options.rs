//! What a group is made from: its settings and what is left of its past.

use std::fmt;

use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{Entry, RecoveredGroup};

use crate::Members;

/// The settings of one replica of one group. Times are in ticks.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    pub group: GroupId,
    /// Never 0.
    pub me: ReplicaId,
    /// How long an owner may be silent. Give each replica of a group another number: there is no
    /// randomness on top. More than `heartbeat_ticks`.
    pub election_ticks: usize,
    /// How often an owner shows that it lives.
    pub heartbeat_ticks: usize,
    /// How many appends may be on their way to one follower.
    pub inflight_max: usize,
    /// An append carries at least one entry, and more up to this many bytes.
    pub entry_bytes_per_message_max: usize,
    /// How many entries an owner may have taken and not yet applied.
    pub unapplied_max: u64,
    /// How many bytes of data an owner may have taken and not yet committed.
    pub uncommitted_bytes_max: usize,
}

impl GroupOptions {
    /// The usual settings: 10 ms ticks, a heartbeat each 50 ms, an owner silent for 500 ms is given
    /// up.
    pub fn new(group: GroupId, me: ReplicaId) -> Self {
        Self {
            group,
            me,
            election_ticks: 50,
            heartbeat_ticks: 5,
            inflight_max: 256,
            entry_bytes_per_message_max: 1 << 20,
            unapplied_max: 1 << 16,
            uncommitted_bytes_max: 64 << 20,
        }
    }
}

/// What a replica knows when it starts: its log, and how far its state had come.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub term: Term,
    /// 0: nobody.
    pub voted_for: ReplicaId,
    pub commit: Position,
    pub base: Position,
    pub base_term: Term,
    /// From `base` + 1 on, without gaps.
    pub entries: Vec<Entry>,
    /// How far the state has come; entries after it are reported as committed again.
    pub applied: Position,
    /// The term of the entry there.
    pub applied_term: Term,
    /// In force at `applied`.
    pub members: Members,
}

impl Restored {
    /// What the log and the state store say about a group.
    pub fn new(
        log: RecoveredGroup,
        applied: Position,
        applied_term: Term,
        members: Members,
    ) -> Self {
        let RecoveredGroup { term, voted_for, commit, base, base_term, entries } = log;
        Self { term, voted_for, commit, base, base_term, entries, applied, applied_term, members }
    }
}

/// The log and the state of a replica contradict each other: it must not take part any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError(pub String);

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log and state contradict each other: {}", self.0)
    }
}

impl std::error::Error for RestoreError {}
