//! One replica of a group.

use bytes::Bytes;
use protocol::{Position, ReplicaId, Term};
use storage::LogRecord;

use crate::{
    ConfirmError, GroupOptions, Members, MembershipChange, Message, Progress, ProposeError, Ready,
    RestoreError, Restored, Role, Status,
};

/// One replica of a group.
pub struct Group {
    options: GroupOptions,
}

#[allow(unused_variables, clippy::allow_attributes, reason = "signatures first")]
impl Group {
    /// # Errors
    /// When what was restored contradicts itself.
    pub fn new(options: GroupOptions, restored: Restored) -> Result<Self, RestoreError> {
        Ok(Self { options })
    }

    /// Time goes on.
    pub fn tick(&mut self) {
        unimplemented!()
    }

    /// A message from another replica. One that makes no sense is dropped with a note.
    pub fn receive(&mut self, message: Message) {
        unimplemented!()
    }

    /// The position that the entry will have if this owner stays.
    ///
    /// # Errors
    /// Everything but `ChangePending` and `Refused`.
    pub fn propose(&mut self, data: Bytes) -> Result<Position, ProposeError> {
        unimplemented!()
    }

    /// Asks a quorum whether this is still the owner; answered by `confirmed` or `refused` of some
    /// later ready.
    ///
    /// # Errors
    /// When it is not the owner even now, or has too many tickets.
    pub fn confirm(&mut self, ticket: u64) -> Result<(), ConfirmError> {
        unimplemented!()
    }

    /// Proposes another membership; the position of the entry.
    ///
    /// # Errors
    /// All of them.
    pub fn change(&mut self, change: &MembershipChange) -> Result<Position, ProposeError> {
        unimplemented!()
    }

    /// Lets another voter become the owner, as soon as it has everything. Given up after an
    /// election timeout. Does nothing when this is not the owner or that is not a voter.
    pub fn hand_over(&mut self, to: ReplicaId) {
        unimplemented!()
    }

    /// The connection to that replica broke. If it owns the group: forget it, and stand for election
    /// in `delay_ticks` (0: now).
    pub fn peer_lost(&mut self, peer: ReplicaId, delay_ticks: usize) {
        unimplemented!()
    }

    /// There is a connection to that replica again: an owner goes on sending at once.
    pub fn peer_back(&mut self, peer: ReplicaId) {
        unimplemented!()
    }

    /// What has to be done now. To be called after any input, until there is nothing.
    pub fn ready(&mut self) -> Option<Ready> {
        unimplemented!()
    }

    /// That ready and all earlier ones are durable.
    pub fn persisted(&mut self, number: u64) {
        unimplemented!()
    }

    /// The state machine has applied everything up to here.
    pub fn applied(&mut self, position: Position) {
        unimplemented!()
    }

    /// The snapshot that was offered for that replica has arrived there, or has not.
    pub fn snapshot_sent(&mut self, to: ReplicaId, ok: bool) {
        unimplemented!()
    }

    /// Forgets the entries up to there (at most up to the applied position). The record is for the
    /// log; none when there is nothing to forget.
    pub fn compact(&mut self, up_to: Position) -> Option<LogRecord> {
        unimplemented!()
    }

    pub fn status(&self) -> Status {
        unimplemented!()
    }

    pub fn options(&self) -> &GroupOptions {
        &self.options
    }

    pub fn is_owner(&self) -> bool {
        unimplemented!()
    }

    pub fn role(&self) -> Role {
        unimplemented!()
    }

    pub fn term(&self) -> Term {
        unimplemented!()
    }

    pub fn owner(&self) -> Option<ReplicaId> {
        unimplemented!()
    }

    /// See [`Status::ready_to_serve`].
    pub fn ready_to_serve(&self) -> bool {
        unimplemented!()
    }

    /// In force now.
    pub fn members(&self) -> &Members {
        unimplemented!()
    }

    /// How many voters are known to hold that position durably. Only an owner knows of others.
    pub fn held_by(&self, position: Position) -> usize {
        unimplemented!()
    }

    /// The other replicas, as the owner sees them; empty for others.
    pub fn progress(&self) -> Vec<(ReplicaId, Progress)> {
        unimplemented!()
    }

    /// The first position in memory: the base + 1.
    pub fn first(&self) -> Position {
        unimplemented!()
    }

    /// The last position in memory.
    pub fn last(&self) -> Position {
        unimplemented!()
    }

    pub fn applied_position(&self) -> Position {
        unimplemented!()
    }

    /// Memory held by the entries, in bytes, roughly.
    pub fn log_bytes(&self) -> usize {
        unimplemented!()
    }
}
