//! The log in memory, as raft-rs sees it: every entry from the base on, durable or not.

use std::collections::VecDeque;

use protocol::{Position, Term};
use raft::eraftpb;
use raft::eraftpb::HardState;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use storage::Entry;

use crate::convert::{entry_to_raft, snapshot_to_raft};
use crate::{Members, SnapshotMeta};

/// What an entry takes in memory beside its data, in bytes, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The entries of one group. What is here is not durable yet, necessarily: raft-rs keeps count of
/// that by itself.
pub(crate) struct MemoryLog {
    base: Position,
    base_term: Term,
    /// From base + 1 on, without gaps.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How far the state machine has come: where a snapshot would stand.
    applied: Position,
    /// Memberships and the positions from which on they are in force, in order; the first is the
    /// one in force at `applied`.
    history: VecDeque<(Position, Members)>,
    /// Where a snapshot would stand, if not at `applied`.
    stand: Option<SnapshotMeta>,
    /// As it was at the start; raft-rs asks once.
    start: HardState,
}

impl MemoryLog {
    pub(crate) fn new(base: Position, base_term: Term, entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(bytes_of).sum();
        Self {
            base,
            base_term,
            entries: entries.into(),
            bytes,
            applied: base,
            history: VecDeque::from([(Position(0), Members::default())]),
            stand: None,
            start: HardState::default(),
        }
    }

    /// How things stood when the replica started.
    pub(crate) fn started(mut self, start: HardState, applied: Position, members: Members) -> Self {
        self.start = start;
        self.applied = applied;
        self.history = VecDeque::from([(applied, members)]);
        self
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `None` when the position is before the base or after the last.
    pub(crate) fn term_at(&self, position: Position) -> Option<Term> {
        if position == self.base { Some(self.base_term) } else { Some(self.get(position)?.term) }
    }

    fn get(&self, position: Position) -> Option<&Entry> {
        let offset = position.0.checked_sub(self.base.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        let gone = usize::try_from(position.0.saturating_sub(self.base.0)).unwrap_or(usize::MAX);
        self.entries.iter().skip(gone)
    }

    /// The entry replaces the one at its position and all after it.
    pub(crate) fn append(&mut self, entry: Entry) {
        while self.last() >= entry.position {
            let replaced = self.entries.pop_back();
            self.bytes -= replaced.as_ref().map_or(0, bytes_of);
            assert!(replaced.is_some(), "an entry at or below the base is in the state already");
        }
        assert!(entry.position == self.last().next(), "the log has no gaps");
        self.bytes += bytes_of(&entry);
        self.entries.push_back(entry);
    }

    /// Everything up to there is in a state that came from elsewhere.
    pub(crate) fn restart(&mut self, meta: &SnapshotMeta) {
        self.base = meta.position;
        self.base_term = meta.term;
        self.entries.clear();
        self.bytes = 0;
        self.members_from(meta.position, meta.members.clone());
    }

    /// Forgets the entries up to there and returns the term of that position.
    pub(crate) fn compact(&mut self, up_to: Position) -> Term {
        assert!(up_to <= self.applied, "only what is applied can be forgotten");
        while self.base < up_to {
            let gone = self.entries.pop_front().expect("what is applied is at most the last entry");
            self.bytes -= bytes_of(&gone);
            self.base = gone.position;
            self.base_term = gone.term;
        }
        // A burst leaves a large empty buffer behind.
        if self.entries.capacity() > 4 * self.entries.len().max(256) {
            self.entries.shrink_to_fit();
        }
        self.base_term
    }

    /// From now on snapshots stand there.
    pub(crate) fn snapshots_stand_at(&mut self, meta: SnapshotMeta) {
        self.stand = Some(meta);
    }

    /// The entries after a position and up to the applied one: at least one if there is any, and
    /// more up to so many bytes.
    pub(crate) fn applied_after(
        &self,
        position: Position,
        bytes_max: usize,
    ) -> impl Iterator<Item = &Entry> {
        let skipped = position.0.saturating_sub(self.base.0);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(skipped)
            .take_while(|entry| entry.position <= self.applied)
            .take_while(move |entry| {
                let fits = bytes == 0 || bytes < bytes_max;
                bytes += bytes_of(entry);
                fits
            })
    }

    /// From that position on these members are in force.
    pub(crate) fn members_from(&mut self, position: Position, members: Members) {
        self.history.push_back((position, members));
    }

    pub(crate) fn applied_to(&mut self, position: Position) {
        self.applied = position;
        while self.history.get(1).is_some_and(|(from, _)| *from <= position) {
            self.history.pop_front();
        }
    }

    fn members_at_applied(&self) -> &Members {
        let (_, members) = self.history.front().expect("the history always holds one membership");
        members
    }
}

fn bytes_of(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.start.clone(), self.members_at_applied().to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let Some(skipped) = low.checked_sub(self.base.0 + 1) else {
            return Err(StorageError::Compacted.into());
        };
        let max = max_size.into().unwrap_or(u64::MAX);
        let count = usize::try_from(high - low).unwrap_or(usize::MAX);
        let mut bytes = 0_u64;
        let mut found = Vec::new();
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        for entry in self.entries.iter().skip(skipped).take(count) {
            bytes = bytes.saturating_add(u64::try_from(bytes_of(entry)).unwrap_or(u64::MAX));
            if !found.is_empty() && bytes > max {
                break;
            }
            found.push(entry_to_raft(entry.clone()));
        }
        Ok(found)
    }

    fn term(&self, position: u64) -> raft::Result<u64> {
        match self.term_at(Position(position)) {
            Some(term) => Ok(term.0),
            None if position < self.base.0 => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// Only says where a snapshot would stand: the state goes another way. At the applied position not
    /// yet for a replica that is not a member there, as it would not take it. A stand may lie before
    /// the entry that made it one; see [`Members::with_learner`].
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        let to = protocol::ReplicaId(to);
        let (position, members) = match &self.stand {
            Some(stand) => (stand.position, stand.members.with_learner(to)),
            None => (self.applied, self.members_at_applied().clone()),
        };
        let known = members.contains(to);
        match self.term_at(position) {
            Some(term) if position.0 >= request_index.max(1) && known => {
                Ok(snapshot_to_raft(&SnapshotMeta { position, term, members }))
            }
            _ => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::ReplicaId;
    use storage::EntryKind;

    use super::*;

    fn entry(position: u64, term: u64) -> Entry {
        Entry {
            position: Position(position),
            term: Term(term),
            kind: EntryKind::Normal,
            data: Bytes::from(vec![0; 10]),
        }
    }

    fn log() -> MemoryLog {
        MemoryLog::new(Position(4), Term(1), (5..=9).map(|position| entry(position, 2)).collect())
            .started(HardState::default(), Position(7), Members::of_voters([ReplicaId(1)]))
    }

    fn positions(log: &MemoryLog, low: u64, high: u64, max: Option<u64>) -> Vec<u64> {
        let entries = log.entries(low, high, max, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn an_entry_replaces_those_from_its_position_on() {
        let mut log = log();
        let before = log.bytes();
        log.append(entry(8, 3));
        assert_eq!(log.last(), Position(8));
        assert_eq!(log.term(8).unwrap(), 3);
        assert!(log.term(9).is_err());
        assert_eq!(log.bytes(), before - bytes_of(&entry(9, 2)));
    }

    #[test]
    fn at_least_one_entry_is_read_and_more_up_to_the_size() {
        let log = log();
        assert_eq!(positions(&log, 5, 10, None), [5, 6, 7, 8, 9]);
        assert_eq!(positions(&log, 6, 8, Some(u64::MAX)), [6, 7]);
        assert_eq!(positions(&log, 6, 10, Some(0)), [6]);
        let two = u64::try_from(2 * bytes_of(&entry(6, 2))).unwrap();
        assert_eq!(positions(&log, 6, 10, Some(two)), [6, 7]);
        assert!(log.entries(4, 6, None, GetEntriesContext::empty(false)).is_err());
    }

    #[test]
    fn what_is_forgotten_leaves_the_term_of_the_base() {
        let mut log = log();
        assert_eq!(log.compact(Position(6)), Term(2));
        assert_eq!(log.first_index().unwrap(), 7);
        assert_eq!(log.term(6).unwrap(), 2);
        assert!(log.term(5).is_err());
        assert_eq!(log.bytes(), 3 * bytes_of(&entry(7, 2)));
    }

    #[test]
    fn a_snapshot_stands_at_the_applied_position_with_the_members_of_that_time() {
        let mut log = log();
        log.members_from(Position(8), Members::of_voters([ReplicaId(1), ReplicaId(2)]));
        let snapshot = log.snapshot(0, 1).unwrap();
        assert_eq!(snapshot.get_metadata().index, 7);
        assert_eq!(snapshot.get_metadata().get_conf_state().voters, [1]);
        assert!(log.snapshot(8, 1).is_err(), "a later one was asked for");
        assert!(log.snapshot(0, 2).is_err(), "not a member yet");
        log.applied_to(Position(8));
        assert_eq!(log.snapshot(8, 2).unwrap().get_metadata().index, 8);
    }

    #[test]
    fn a_snapshot_that_stands_before_its_receiver_was_admitted_has_it_as_a_learner() {
        let mut log = log();
        let members = Members::of_voters([ReplicaId(1)]);
        log.snapshots_stand_at(SnapshotMeta { position: Position(6), term: Term(2), members });
        let snapshot = log.snapshot(0, 3).unwrap();
        let state = snapshot.get_metadata().get_conf_state();
        assert_eq!(snapshot.get_metadata().index, 6);
        assert_eq!((&*state.voters, &*state.learners), (&[1][..], &[3][..]));
        assert!(log.snapshot(7, 3).is_err(), "a later one was asked for");
    }
}
