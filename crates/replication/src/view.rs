//! What can be seen of a replica from outside.

use protocol::{Position, ReplicaId, Term};
use raft::{ProgressState, StateRole, Storage};
use storage::Entry;

use crate::{Group, GroupOptions, Members, Progress, Role, Status};

impl Group {
    pub fn status(&self) -> Status {
        let log = &self.raw.raft.raft_log;
        Status {
            term: self.term(),
            role: self.role(),
            owner: self.owner(),
            commit: Position(log.committed),
            applied: Position(log.applied),
            persisted: Position(log.persisted),
            last: Position(log.last_index()),
            ready_to_serve: self.ready_to_serve(),
            handing_over: self.raw.raft.lead_transferee.map(ReplicaId),
            members: self.members.clone(),
        }
    }

    pub fn options(&self) -> &GroupOptions {
        &self.options
    }

    pub fn is_owner(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Owner,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if self.members.is_voter(self.options.me) => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// As far as this replica knows.
    pub fn owner(&self) -> Option<ReplicaId> {
        let id = self.raw.raft.leader_id;
        (id != raft::INVALID_ID).then_some(ReplicaId(id))
    }

    /// See [`Status::ready_to_serve`].
    pub fn ready_to_serve(&self) -> bool {
        self.is_owner() && self.raw.raft.apply_to_current_term()
    }

    /// What is known to be committed, once an owner has said how far it is: what was committed
    /// before its term, what it has said since, and what was here when this replica began, so much
    /// of it as is still here.
    pub fn known_committed(&self) -> Option<Position> {
        let (committed, term) = self.heard.told_committed;
        let is_told = self.is_owner() || term == self.term();
        let known =
            committed.max(self.heard.began_at.min(self.last())).max(self.committed_position());
        // Of its own term something must be committed: it may not know how far the one before it
        // came.
        (is_told && self.raw.raft.commit_to_current_term()).then_some(known)
    }

    /// There is nothing to do, as long as nothing goes in: no ready, no ticket that waits, no
    /// hand-over under way.
    pub fn is_at_rest(&self) -> bool {
        self.notes.is_empty()
            && self.first_records.is_empty()
            && self.reads.is_empty()
            && !self.elections.rest.has_messages()
            && self.raw.raft.lead_transferee.is_none()
            && !self.raw.store().is_awaited()
            && !self.raw.has_ready()
    }

    /// These are being removed.
    pub fn set_leaving(&mut self, leaving: Vec<ReplicaId>) {
        self.options.leaving = leaving;
    }

    /// In force now.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// How many voters are known to hold that position durably, without those that are being
    /// removed. Only an owner knows of others.
    pub fn held_by(&self, position: Position) -> usize {
        let raft = &self.raw.raft;
        let holds = |voter: &&ReplicaId| {
            if voter.0 == raft.id {
                raft.raft_log.persisted >= position.0
            } else {
                let progress = raft.prs().get(voter.0).filter(|_| self.is_owner());
                progress.is_some_and(|progress| progress.matched >= position.0)
            }
        };
        self.staying().filter(holds).count()
    }

    /// The majority of the voters that are not being removed.
    pub fn staying_majority(&self) -> usize {
        self.staying().count() / 2 + 1
    }

    fn staying(&self) -> impl Iterator<Item = &ReplicaId> {
        self.members.voters.iter().filter(|voter| !self.options.leaving.contains(voter))
    }

    /// The other replicas, as the owner sees them; empty for others.
    pub fn progress(&self) -> Vec<(ReplicaId, Progress)> {
        if !self.is_owner() {
            return Vec::new();
        }
        let me = self.raw.raft.id;
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != me);
        let mut seen: Vec<_> = others
            .map(|(id, progress)| {
                let replica = ReplicaId(*id);
                let progress = Progress {
                    matched: Position(progress.matched),
                    active: progress.recent_active,
                    snapshotting: progress.state == ProgressState::Snapshot,
                    learner: !self.members.is_voter(replica),
                };
                (replica, progress)
            })
            .collect();
        seen.sort_by_key(|(replica, _)| *replica);
        seen
    }

    /// The first position in the log: the base + 1.
    pub fn first(&self) -> Position {
        self.raw.store().base().next()
    }

    /// The last position here, durable or not.
    pub fn last(&self) -> Position {
        Position(self.raw.raft.raft_log.last_index())
    }

    /// As far as this replica knows.
    pub fn committed_position(&self) -> Position {
        Position(self.raw.raft.raft_log.committed)
    }

    pub fn applied_position(&self) -> Position {
        Position(self.raw.raft.raft_log.applied)
    }

    /// The term of the entry there, if it is in the log (or the base).
    pub fn term_at(&self, position: Position) -> Option<Term> {
        self.raw.store().term(position.0).ok().map(Term)
    }

    /// Applied entries that a user proposed, after a position: at least one if there is any, and
    /// more up to `bytes_max` bytes. None, too, when the log cannot be read, which the next ready
    /// says.
    pub fn applied_after(&self, position: Position, bytes_max: usize) -> Vec<Entry> {
        let ours = |e: &Entry| e.kind == storage::EntryKind::Normal && !e.data.is_empty();
        let mut position = position;
        loop {
            let mut found = self.raw.store().applied_after(position, bytes_max);
            let Some(last) = found.last().map(|entry| entry.position) else { return found };
            found.retain(ours);
            if !found.is_empty() {
                return found;
            }
            // A stretch without any: look behind it.
            position = last;
        }
    }

    /// All applied entries behind that position, of whatever kind: at least one if there is any,
    /// and more up to `bytes_max` bytes. None, too, when the log cannot be read, which the next
    /// ready says.
    pub fn all_applied_after(&self, position: Position, bytes_max: usize) -> Vec<Entry> {
        self.raw.store().applied_after(position, bytes_max)
    }

    /// The entries behind that position, durable or not. To be asked when there is no ready left,
    /// and for a few: all of them are in memory at once.
    pub fn entries_after(&self, position: Position) -> Vec<Entry> {
        let (log, mut found) = (self.raw.store(), Vec::new());
        let mut position = position;
        loop {
            let mut more = log.after(position, log.last(), usize::MAX);
            let Some(last) = more.last() else { return found };
            position = last.position;
            found.append(&mut more);
        }
    }

    /// Memory held by the entries, in bytes, roughly.
    pub fn log_bytes(&self) -> usize {
        self.raw.store().window_bytes()
    }
}
