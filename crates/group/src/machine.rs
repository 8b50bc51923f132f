//! What lives in a group: a machine, and the leader that serves it while this replica is the owner.

use bytes::Bytes;
use protocol::{Now, Position, Problem, RequestKey, Term};
use replication::Group;
use storage::{Applied, Space, StateStore, StoreError};

use crate::members::Members;
use crate::quorum::Quorum;

/// The state of a group. Entries of the log change it, on every replica alike.
///
/// **Invariant:** what [`Machine::apply`] writes depends on the state and the entry alone.
pub trait Machine: Sized {
    /// Serves the group while this replica is the owner.
    type Leader: Leader<Machine = Self>;
    /// What the machine needs of its node beside the store: services, the cluster's map.
    type Around: ?Sized;
    /// What an entry did.
    type Effect;
    /// What an owner may be asked.
    type Question;
    /// What an owner answers.
    type Answer: Clone + From<Problem>;
    /// What can happen to a machine from outside of its group: a handler is done, a program spoke.
    type Event;
    /// What a machine wants done outside of its group.
    type Action;

    /// Takes a committed entry. The leader is the one of the entry's term, if this replica has it.
    ///
    /// # Errors
    /// When the store fails, or the entry cannot be read: this replica cannot go on then.
    fn apply(
        &mut self,
        leader: Option<&mut Self::Leader>,
        at: &mut Context<'_, Self::Around>,
        entry: Entry,
        out: &mut Vec<Output<Self>>,
    ) -> Result<Self::Effect, StoreError>;

    /// Called when a run of entries was applied.
    ///
    /// # Errors
    /// When the store fails.
    fn settle(
        &mut self,
        _leader: Option<&mut Self::Leader>,
        _at: &mut Context<'_, Self::Around>,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Something has happened that does not come through the log.
    ///
    /// # Errors
    /// When the store fails.
    fn happened(
        &mut self,
        leader: Option<&mut Self::Leader>,
        at: &mut Context<'_, Self::Around>,
        event: Self::Event,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError>;

    /// This replica is the owner from now on, and has applied all that was committed before.
    /// `opening` tells leaders of the same term apart.
    ///
    /// # Errors
    /// When the store fails.
    fn lead(
        &mut self,
        at: &mut Context<'_, Self::Around>,
        term: Term,
        opening: u64,
        out: &mut Vec<Output<Self>>,
    ) -> Result<Self::Leader, StoreError>;

    /// This replica is not the owner any more. Tickets that the leader does not answer here are
    /// answered by the replica: the caller asks the next owner.
    ///
    /// # Errors
    /// When the store fails.
    fn follow(
        &mut self,
        _leader: Self::Leader,
        _at: &mut Context<'_, Self::Around>,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Writes what a snapshot of the state needs beside what is in the store already.
    ///
    /// # Errors
    /// When the store fails.
    fn write_snapshot(&mut self, _at: &mut Context<'_, Self::Around>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where a snapshot of the state stands; `None` when that is wherever the machine has come to.
    fn snapshot_point(&self) -> Option<(Position, Term)> {
        None
    }

    /// Another replica's state has taken the place of this one's: it is in the store.
    ///
    /// # Errors
    /// When the store fails.
    fn installed(
        &mut self,
        at: &mut Context<'_, Self::Around>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError>;

    /// Whether what is acknowledged may be in memory only.
    fn is_in_memory(&self) -> bool {
        false
    }
}

/// What only the owner of a group has. It is made by [`Machine::lead`] and dropped with the
/// ownership, so nothing in it can outlive its term.
pub trait Leader {
    type Machine: Machine<Leader = Self>;

    /// Takes one thing that happened.
    ///
    /// # Errors
    /// When the store fails.
    fn step(
        &mut self,
        machine: &mut Self::Machine,
        at: &mut Context<'_, <Self::Machine as Machine>::Around>,
        input: LeaderInput<Self::Machine>,
        out: &mut Vec<Output<Self::Machine>>,
    ) -> Result<(), StoreError>;
}

/// What a machine works with, lent for one step.
pub struct Context<'a, A: ?Sized> {
    pub now: Now,
    /// The membership quorum, and how many nodes are up.
    pub quorum: Quorum,
    pub store: &'a mut dyn StateStore,
    pub space: Space,
    pub log: LogView<'a>,
    pub around: &'a A,
}

/// The log of the group, as far as it is applied.
#[derive(Clone, Copy)]
pub struct LogView<'a> {
    pub(crate) consensus: &'a Group,
    pub(crate) members: &'a Members,
}

impl<'a> LogView<'a> {
    pub fn new(consensus: &'a Group, members: &'a Members) -> Self {
        Self { consensus, members }
    }

    /// The entries for the machine after a position, in order, up to `bytes_max` and at least one.
    pub fn after(&self, position: Position, bytes_max: usize) -> Vec<(Position, Term, Bytes)> {
        let entries = self.consensus.applied_after(position, bytes_max).into_iter();
        entries.map(|entry| (entry.position, entry.term, entry.data)).collect()
    }

    /// How far the log is known to be committed: what was here when this node began, and what an
    /// owner has said since. `None` before an owner has said anything.
    pub fn known_committed(&self) -> Option<Position> {
        self.consensus.known_committed()
    }

    /// The encoded membership in force at a position that is at or after the snapshot point.
    pub fn members_at(&self, position: Position) -> Vec<u8> {
        crate::members::encode_members(self.members.at(position))
    }

    pub fn applied(&self) -> Position {
        self.consensus.applied_position()
    }
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: Position,
    pub term: Term,
    /// `None`: the entry opens a term or changes the members, and means nothing to the machine.
    pub data: Option<Bytes>,
    /// To be written in the same batch as what the entry changes.
    pub applied: Applied,
}

/// What can happen to a leader.
pub enum LeaderInput<M: Machine> {
    /// A question of somebody who waits. With a key the question may be a repeat.
    Ask {
        ticket: u64,
        question: M::Question,
        key: Option<RequestKey>,
        is_retry: bool,
    },
    /// A proposal came back through the log.
    Applied {
        proposal: u64,
        position: Position,
        effect: M::Effect,
    },
    /// A proposal was surely not put into the log, as too much is under way.
    Refused {
        proposal: u64,
    },
    /// A quorum confirmed the ownership, and all that was committed then is applied.
    Confirmed {
        ticket: u64,
    },
    Tick,
}

/// What a machine or its leader wants done.
pub enum Output<M: Machine> {
    /// Put this through the log. Comes back as `Applied`, or as `Refused`.
    Propose {
        proposal: u64,
        data: Bytes,
    },
    /// A quorum must confirm the ownership; then `Confirmed`.
    Confirm {
        ticket: u64,
    },
    /// Answer a question. With a position: not before the membership quorum holds it.
    Answer {
        ticket: u64,
        answer: M::Answer,
        position: Option<Position>,
    },
    /// Answer with an error. A write was surely not applied, unless the problem says otherwise.
    Refuse {
        ticket: u64,
        problem: Problem,
    },
    /// Whoever asked asks the next owner.
    NotOwner {
        ticket: u64,
    },
    /// Something outside of the group.
    Do(M::Action),
    /// The leader's view is of no use any more: it is dropped, and another one is made when the log
    /// has come to rest.
    Resign,
    Note(String),
}
