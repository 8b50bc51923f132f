//! How a group stands, and why it refuses.

use std::fmt;

use protocol::{Position, ReplicaId, Term};

use crate::Members;

/// What a replica is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    /// Asks the others whether it may own the group, or may be voted for.
    Candidate,
    Follower,
    /// Has no vote.
    Learner,
}

/// How a replica of a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub term: Term,
    pub role: Role,
    /// As far as this replica knows.
    pub owner: Option<ReplicaId>,
    pub commit: Position,
    pub applied: Position,
    /// Of the entries here that are durable.
    pub persisted: Position,
    /// Of all entries here.
    pub last: Position,
    /// It is the owner and has applied an entry of its own term.
    pub ready_to_serve: bool,
    /// To whom the owner is handing over; it takes no proposals meanwhile.
    pub handing_over: Option<ReplicaId>,
    /// In force now.
    pub members: Members,
}

/// What an owner knows about another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Up to here its log is the owner's, durably.
    pub matched: Position,
    /// It was heard of in the last election timeout.
    pub active: bool,
    /// It waits for a snapshot.
    pub snapshotting: bool,
    pub learner: bool,
}

/// Why a proposal was not taken. It is surely not in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// Ask the owner, if it is known.
    NotOwner { owner: Option<ReplicaId> },
    /// Too much is on its way already.
    Full,
    /// The owner is handing over: wait until that is done or given up.
    HandingOver { to: ReplicaId },
    /// Only for changes of the membership: the last one is not through yet.
    ChangePending,
    /// Only for changes of the membership: it makes no sense, and why.
    Refused(String),
}

/// Why a ticket was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfirmError {
    /// Ask the owner, if it is known.
    NotOwner { owner: Option<ReplicaId> },
    /// Too many tickets are waiting already.
    Full,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwner { owner: Some(owner) } => write!(f, "the owner is {owner}"),
            Self::NotOwner { owner: None } => write!(f, "no owner is known"),
            Self::Full => write!(f, "too many proposals are on their way"),
            Self::HandingOver { to } => write!(f, "the owner is handing over to {to}"),
            Self::ChangePending => write!(f, "another change of the membership is not through yet"),
            Self::Refused(why) => write!(f, "the membership cannot be changed so: {why}"),
        }
    }
}

impl std::error::Error for ProposeError {}

impl fmt::Display for ConfirmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwner { owner: Some(owner) } => write!(f, "the owner is {owner}"),
            Self::NotOwner { owner: None } => write!(f, "no owner is known"),
            Self::Full => write!(f, "too many reads are waiting"),
        }
    }
}

impl std::error::Error for ConfirmError {}
