//! What the replicas of a group say to each other.

use bytes::Bytes;
use protocol::{Position, ReplicaId, Term};
use serde::{Deserialize, Serialize};
use storage::Entry;

use crate::Members;

/// What a message is for. The numbers of the variants are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageKind {
    Append,
    AppendAnswer,
    Vote,
    VoteAnswer,
    PreVote,
    PreVoteAnswer,
    Heartbeat,
    HeartbeatAnswer,
    /// Metadata only: the state itself is streamed by the node, before this.
    Snapshot,
    /// From an owner that hands over: campaign at once.
    Campaign,
    /// From an owner: nothing happens in this group, and no heartbeats follow.
    Rest,
}

impl MessageKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "an append",
            Self::AppendAnswer => "the answer to an append",
            Self::Vote => "a request for a vote",
            Self::VoteAnswer => "a vote",
            Self::PreVote => "a request for a pre-vote",
            Self::PreVoteAnswer => "a pre-vote",
            Self::Heartbeat => "a heartbeat",
            Self::HeartbeatAnswer => "the answer to a heartbeat",
            Self::Snapshot => "a snapshot",
            Self::Campaign => "a handover",
            Self::Rest => "a message that the group is quiet",
        }
    }
}

/// Where a snapshot stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    pub position: Position,
    pub term: Term,
    /// In force at that position.
    pub members: Members,
}

/// One message between two replicas of a group, without loss to and from Raft's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub kind: MessageKind,
    pub to: ReplicaId,
    pub from: ReplicaId,
    pub term: Term,
    pub log_term: Term,
    pub index: Position,
    #[serde(with = "entries")]
    pub entries: Vec<Entry>,
    pub commit: Position,
    pub commit_term: Term,
    pub snapshot: Option<SnapshotMeta>,
    pub reject: bool,
    pub reject_hint: Position,
    /// A follower that can only go on from a snapshot at this position or later; 0: none wanted.
    pub request_snapshot: Position,
    pub context: Bytes,
    pub priority: i64,
}

impl Message {
    /// A message that says nothing but what it is for.
    pub fn new(kind: MessageKind, from: ReplicaId, to: ReplicaId, term: Term) -> Self {
        Self {
            kind,
            to,
            from,
            term,
            log_term: Term(0),
            index: Position(0),
            entries: Vec::new(),
            commit: Position(0),
            commit_term: Term(0),
            snapshot: None,
            reject: false,
            reject_hint: Position(0),
            request_snapshot: Position(0),
            context: Bytes::new(),
            priority: 0,
        }
    }
}

/// Entries on the wire: position, term, whether it changes the membership, data.
mod entries {
    use bytes::Bytes;
    use protocol::{Position, Term};
    use serde::{Deserialize, Deserializer, Serializer};
    use storage::{Entry, EntryKind};

    pub(super) fn serialize<S: Serializer>(entries: &[Entry], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            entries.iter().map(|e| (e.position, e.term, e.kind == EntryKind::Membership, &e.data)),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Entry>, D::Error> {
        let entries = Vec::<(Position, Term, bool, Bytes)>::deserialize(from)?;
        let entry = |(position, term, membership, data)| {
            let kind = if membership { EntryKind::Membership } else { EntryKind::Normal };
            Entry { position, term, kind, data }
        };
        Ok(entries.into_iter().map(entry).collect())
    }
}
