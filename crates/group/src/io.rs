//! What a node gives to a replica, and what a replica wants of its node.

use protocol::{Now, Problem, ReplicaId, RequestKey};
use replication::{Group, Message};
use storage::{Applied, LogRecord, Space, StateStore};

use crate::machine::Machine;
use crate::quorum::Quorum;
use crate::requests::Caller;
use crate::transfer::{Chunk, Tuning};

/// Between the replicas of a group.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    Consensus(Message),
    Chunk(Chunk),
    ChunkTaken { transfer: u64, number: u32 },
}

/// An answer as it goes to a caller.
#[derive(Clone, Debug)]
pub enum Reply<A> {
    Answer(A),
    /// Not the owner, or no longer: ask again. The request may have been written all the same, so
    /// it must be marked as a retry.
    NotOwner,
}

/// What a node lends to a replica for one step.
pub struct Io<'a, A: ?Sized> {
    pub now: Now,
    pub store: &'a mut dyn StateStore,
    pub around: &'a A,
    /// The number that this step's batch of the log will have.
    pub batch: u64,
    /// The mark that the next persist of the state store will have.
    pub next_mark: u64,
    pub quorum: Quorum,
    /// Whether this node may serve as the owner of the group at present.
    pub may_lead: bool,
}

/// What a replica wants done.
pub struct Outputs<M: Machine> {
    pub messages: Vec<(ReplicaId, PeerMessage)>,
    /// For the log, in this order.
    pub records: Vec<LogRecord>,
    /// A persist of the state store with [`Io::next_mark`] is needed.
    pub wants_persist: bool,
    pub replies: Vec<(Caller, Reply<M::Answer>)>,
    pub actions: Vec<M::Action>,
    /// For people.
    pub notes: Vec<String>,
    /// For those who look closely.
    pub details: Vec<String>,
}

impl<M: Machine> Default for Outputs<M> {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            records: Vec::new(),
            wants_persist: false,
            replies: Vec::new(),
            actions: Vec::new(),
            notes: Vec::new(),
            details: Vec::new(),
        }
    }
}

/// Whether consensus may have something to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    Touched,
    Still,
}

/// What a replica begins with.
pub struct Restart<M> {
    pub consensus: Group,
    pub machine: M,
    pub space: Space,
    pub applied: Applied,
    pub members: replication::Members,
    pub tuning: Tuning,
}

/// A question as it comes to the owner.
pub struct Question<Q> {
    pub caller: Caller,
    pub key: Option<RequestKey>,
    /// It may have been asked before, of this owner or another.
    pub is_retry: bool,
    pub is_write: bool,
    /// How many replicas must hold a write by the wish of who asks; the membership quorum is needed
    /// in any case.
    pub quorum: usize,
    /// Why the node cannot take the question on at present, if it cannot.
    pub refusal: Option<Problem>,
    pub question: Q,
}
