//! What has to be done now.

use bytes::Bytes;
use protocol::{Position, ReplicaId, Term};
use storage::{LogError, LogRecord};

use crate::{Members, Message, SnapshotMeta};

/// What a group wants done. Readys are carried out in the order of their numbers, and several may
/// be waiting for the disk at a time.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// To be given back to [`crate::Group::persisted`] when the records of this and of all earlier
    /// readys are durable (and the state too, if there is something to install). Not needed for a
    /// ready without `must_sync` and `send_durable`, but harmless.
    pub number: u64,
    /// For the log, in this order.
    pub records: Vec<LogRecord>,
    /// False when the records need no sync of their own: there are none, or only the commit
    /// position moved. `send_durable` is then empty, unless earlier readys are still on their way
    /// to the disk: for these it waits all the same.
    pub must_sync: bool,
    /// May leave before the records are durable.
    pub send_now: Vec<Message>,
    /// May leave only after this ready and all earlier ones were persisted.
    pub send_durable: Vec<Message>,
    /// Each is answered by one [`crate::Group::snapshot_sent`], or ended by `peer_lost`.
    pub send_snapshot: Vec<SnapshotOffer>,
    /// Make the staged state the current one, durably, and only then write the records: a log that
    /// begins after a state that is not there has lost what this replica promised to hold.
    pub install: Option<Install>,
    /// In order; after `install`, if there is one. None of them ever again in this life of the
    /// replica.
    pub committed: Vec<Committed>,
    /// Tickets whose owner was confirmed, and the position that must be applied before the read.
    pub confirmed: Vec<(u64, Position)>,
    /// Tickets that failed because the ownership was lost.
    pub refused: Vec<u64>,
    /// For the node's own log: what was dropped, and why.
    pub notes: Vec<String>,
    /// The log cannot be read back. This replica cannot keep its promises: it says nothing any
    /// more, and there is no further ready. The node does with it what it does with a log that is
    /// damaged when it starts.
    pub damage: Option<LogError>,
}

/// A follower needs the state, because the entries it lacks are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    pub to: ReplicaId,
    /// To be given to the receiver's `receive` when it has staged the state.
    pub message: Message,
    pub position: Position,
    pub term: Term,
    /// In force at `position`.
    pub members: Members,
}

impl SnapshotOffer {
    /// The same offer for a later state: the one that is really sent, when the node has applied
    /// more since.
    ///
    /// # Panics
    /// When the position is before the offered one.
    #[must_use]
    pub fn at(mut self, position: Position, term: Term, members: Members) -> Self {
        assert!(position >= self.position, "a state does not go back");
        self.message.snapshot = Some(SnapshotMeta { position, term, members: members.clone() });
        Self { position, term, members, ..self }
    }
}

/// The state staged for this position comes into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    pub position: Position,
    pub term: Term,
    pub members: Members,
}

/// An entry that will never be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub position: Position,
    pub term: Term,
    pub data: CommittedData,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedData {
    /// Nothing to do but to note the position.
    Empty,
    /// For the state machine.
    Normal(Bytes),
    /// The membership in force from here on, to be kept with the applied position.
    Members(Members),
}
