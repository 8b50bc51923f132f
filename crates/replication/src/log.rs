//! The log of one group, as raft-rs sees it: every entry from the base on, durable or not. The
//! newest ones are held in memory, a *window*; the others are read from the disk when somebody
//! wants them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use protocol::{GroupId, Position, Term};
use raft::eraftpb;
use raft::eraftpb::HardState;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use storage::{Entry, EntryKind, LogError, LogReader, ReadLimits};

use crate::convert::{entry_to_raft, snapshot_to_raft};
use crate::{Members, Restored, SnapshotMeta};

/// What an entry takes in memory beside its data, in bytes, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// One read from the disk brings no more data than this, in bytes (but at least one entry): the
/// rest comes with the next. The node stands still meanwhile.
const READ_DATA_BYTES_MAX: usize = 1 << 20;

/// For followers no more of the log's files is read in a tick than this, in bytes. They get the
/// rest with the next ticks: a node that has to fill another one must not stand still for it.
pub(crate) const READ_FILE_BYTES_PER_TICK_MAX: usize = 2 << 20;

/// The entries of one group. What is here is not durable yet, necessarily: raft-rs keeps count of
/// that by itself.
pub(crate) struct GroupLog {
    group: GroupId,
    base: Position,
    base_term: Term,
    last: Position,
    /// From which position on which term is in force, in order. The first covers base + 1.
    terms: VecDeque<(Position, Term)>,
    /// Which entries change the membership.
    memberships: VecDeque<Position>,
    /// The newest entries, up to `last` and without gaps.
    window: VecDeque<Entry>,
    window_bytes: usize,
    /// How many bytes of entries were appended since this replica began, and were here when it did.
    appended_bytes: u64,
    state: StateAt,
    disk: OnDisk,
}

/// What is known about the state machine, and where snapshots stand.
struct StateAt {
    /// How far the state machine has come: where a snapshot would stand.
    applied: Position,
    /// Memberships and the positions from which on they are in force, in order; the first is the
    /// one in force at `applied`.
    history: VecDeque<(Position, Members)>,
    /// Where a snapshot would stand, if not at `applied`.
    snapshot: Option<SnapshotMeta>,
    /// As it was at the start; raft-rs asks once.
    start: HardState,
}

/// How the entries that are not in the window are read. raft-rs reads through a shared reference.
struct OnDisk {
    reader: Arc<dyn LogReader>,
    /// How many bytes of files may still be read for followers in this tick.
    left: Cell<usize>,
    /// Somebody waits for the next tick.
    is_awaited: Cell<bool>,
    /// The first read that failed. Nothing that was read is believed then.
    damage: RefCell<Option<LogError>>,
}

impl GroupLog {
    pub(crate) fn new(
        group: GroupId,
        restored: &Restored,
        start: HardState,
        reader: Arc<dyn LogReader>,
    ) -> Self {
        Self {
            group,
            base: restored.base,
            base_term: restored.base_term,
            last: restored.last,
            terms: restored.terms.iter().copied().collect(),
            memberships: restored.memberships.iter().copied().collect(),
            window: VecDeque::new(),
            window_bytes: 0,
            appended_bytes: restored.bytes,
            state: StateAt {
                applied: restored.applied,
                history: VecDeque::from([(restored.applied, restored.members.clone())]),
                snapshot: None,
                start,
            },
            disk: OnDisk {
                reader,
                left: Cell::new(READ_FILE_BYTES_PER_TICK_MAX),
                is_awaited: Cell::new(false),
                damage: RefCell::default(),
            },
        }
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// What the window takes in memory.
    pub(crate) fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// `None` when the position is before the base or after the last.
    pub(crate) fn term_at(&self, position: Position) -> Option<Term> {
        if position == self.base {
            return Some(self.base_term);
        }
        if position < self.base || position > self.last {
            return None;
        }
        let at = self.terms.partition_point(|(from, _)| *from <= position);
        self.terms.get(at.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// The first position that is in the window: last + 1 when it is empty.
    pub(crate) fn window_first(&self) -> Position {
        let held = u64::try_from(self.window.len()).expect("a length fits");
        Position(self.last.0 + 1 - held)
    }

    /// The entry replaces the one at its position and all after it.
    pub(crate) fn append(&mut self, entry: Entry) {
        let position = entry.position;
        assert!(position > self.base, "an entry at or below the base is in the state already");
        assert!(position <= self.last.next(), "the log has no gaps");
        while self.window.back().is_some_and(|last| last.position >= position) {
            let replaced = self.window.pop_back();
            self.window_bytes -= replaced.as_ref().map_or(0, bytes_of);
        }
        while self.terms.back().is_some_and(|(from, _)| *from >= position) {
            self.terms.pop_back();
        }
        while self.memberships.back().is_some_and(|last| *last >= position) {
            self.memberships.pop_back();
        }
        if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
            self.terms.push_back((position, entry.term));
        }
        if entry.kind == EntryKind::Membership {
            self.memberships.push_back(position);
        }
        let bytes = bytes_of(&entry);
        self.window_bytes += bytes;
        self.appended_bytes += u64::try_from(bytes).expect("a length fits");
        self.window.push_back(entry);
        self.last = position;
    }

    /// Everything up to there is in a state that came from elsewhere.
    pub(crate) fn restart(&mut self, meta: &SnapshotMeta) {
        self.base = meta.position;
        self.base_term = meta.term;
        self.last = meta.position;
        self.terms.clear();
        self.memberships.clear();
        self.window.clear();
        self.window_bytes = 0;
        self.members_from(meta.position, meta.members.clone());
    }

    /// Forgets the entries up to there and returns the term of that position.
    pub(crate) fn compact(&mut self, up_to: Position) -> Term {
        assert!(up_to <= self.state.applied, "only what is applied can be forgotten");
        self.base_term = self.term_at(up_to).expect("what is applied is in the log");
        self.base = up_to;
        while self.terms.get(1).is_some_and(|(from, _)| *from <= up_to.next()) {
            self.terms.pop_front();
        }
        if self.base == self.last {
            self.terms.clear();
        }
        while self.memberships.front().is_some_and(|first| *first <= up_to) {
            self.memberships.pop_front();
        }
        while self.window.front().is_some_and(|first| first.position <= up_to) {
            self.drop_first();
        }
        self.fit_window();
        self.base_term
    }

    /// Takes the oldest entries out of memory, about that many bytes of them. What is not
    /// durable stays, and what the state machine has not applied. Gives what the window takes now.
    pub(crate) fn shrink_window(&mut self, bytes: usize) -> usize {
        let wanted = self.window_bytes.saturating_sub(bytes);
        let (mut left, mut up_to) = (self.window_bytes, None);
        for entry in &self.window {
            if left <= wanted || entry.position > self.state.applied {
                break;
            }
            left -= bytes_of(entry);
            up_to = Some((entry.position, entry.term));
        }
        let Some((position, term)) = up_to else { return self.window_bytes };
        // **Invariant:** only what is durable leaves the window. If the disk has an entry of this
        // term at this position, then it has all before it as they are here: so says Raft.
        if self.disk.reader.term(self.group, position) == Some(term) {
            while self.window.front().is_some_and(|first| first.position <= position) {
                self.drop_first();
            }
            self.fit_window();
        }
        self.window_bytes
    }

    fn drop_first(&mut self) {
        let gone = self.window.pop_front();
        self.window_bytes -= gone.as_ref().map_or(0, bytes_of);
    }

    /// A burst leaves a large empty buffer behind.
    fn fit_window(&mut self) {
        if self.window.is_empty() || self.window.capacity() > 4 * self.window.len().max(256) {
            self.window.shrink_to_fit();
        }
    }

    /// From now on snapshots stand there.
    pub(crate) fn snapshots_stand_at(&mut self, meta: SnapshotMeta) {
        self.state.snapshot = Some(meta);
    }

    /// From that position on these members are in force.
    pub(crate) fn members_from(&mut self, position: Position, members: Members) {
        self.state.history.push_back((position, members));
    }

    pub(crate) fn applied_to(&mut self, position: Position) {
        self.state.applied = position;
        while self.state.history.get(1).is_some_and(|(from, _)| *from <= position) {
            self.state.history.pop_front();
        }
    }

    fn members_at_applied(&self) -> &Members {
        let first = self.state.history.front();
        let (_, members) = first.expect("the history always holds one membership");
        members
    }

    /// The entries after a position and up to another: at least one if there is any, and more up to
    /// `bytes_max` bytes. None when the disk has failed.
    pub(crate) fn after(
        &self,
        position: Position,
        up_to: Position,
        bytes_max: usize,
    ) -> Vec<Entry> {
        let (from, end) = (position.max(self.base).next(), up_to.min(self.last).next());
        let bytes_max = bytes_max.min(READ_DATA_BYTES_MAX);
        self.range(from, end, bytes_max, &Cell::new(usize::MAX))
    }

    pub(crate) fn applied_after(&self, position: Position, bytes_max: usize) -> Vec<Entry> {
        self.after(position, self.state.applied, bytes_max)
    }

    /// Somebody waits for the next tick.
    pub(crate) fn is_awaited(&self) -> bool {
        self.disk.is_awaited.get()
    }

    /// Why the log cannot be read.
    pub(crate) fn damage(&self) -> Option<LogError> {
        self.disk.damage.borrow().clone()
    }

    /// A tick: more may be read for followers. True when some wait for that.
    pub(crate) fn refill(&self) -> bool {
        self.disk.left.set(READ_FILE_BYTES_PER_TICK_MAX);
        self.disk.is_awaited.take()
    }

    /// Entries from `from` on and before `end`: at least one if there is any, and more up to that
    /// many bytes. What is read from the disk is counted off `budget`.
    fn range(
        &self,
        from: Position,
        end: Position,
        bytes_max: usize,
        budget: &Cell<usize>,
    ) -> Vec<Entry> {
        if from >= end {
            return Vec::new();
        }
        let first = self.window_first();
        if from < first {
            return self.read(from, end.min(first), bytes_max, budget);
        }
        let skipped = usize::try_from(from.0 - first.0).expect("the window is in memory");
        let count = usize::try_from(end.0 - from.0).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(bytes_of(entry));
            is_first || bytes <= bytes_max
        };
        self.window.iter().skip(skipped).take(count).take_while(fits).cloned().collect()
    }

    fn read(
        &self,
        from: Position,
        end: Position,
        bytes_max: usize,
        budget: &Cell<usize>,
    ) -> Vec<Entry> {
        let data_bytes = bytes_max.min(READ_DATA_BYTES_MAX);
        let limits = ReadLimits { data_bytes, file_bytes: budget.get() };
        let read = self.disk.reader.entries(self.group, from, end, limits).and_then(|read| {
            self.check(&read.entries, from)?;
            Ok(read)
        });
        match read {
            Ok(read) => {
                budget.set(budget.get().saturating_sub(read.file_bytes));
                read.entries
            }
            Err(error) => {
                self.disk.damage.borrow_mut().get_or_insert(error);
                Vec::new()
            }
        }
    }

    /// What was read must be what was appended here.
    fn check(&self, entries: &[Entry], from: Position) -> Result<(), LogError> {
        let mut due = from;
        for entry in entries {
            if entry.position != due || Some(entry.term) != self.term_at(due) {
                let why = format!(
                    "the log of group {} gives entry {} of term {} for entry {due}",
                    self.group, entry.position, entry.term
                );
                return Err(LogError::Disk(storage::DiskError::Failed(why)));
            }
            due = due.next();
        }
        Ok(())
    }

    /// raft-rs asks for all that is committed and not applied, without any limit of size, when it
    /// is about to campaign, and only counts the membership changes in it. So it gets those
    /// alone: a few bytes in place of a log that may not fit into memory. When the range ends where
    /// raft-rs's own entries begin, and there is no change before, stand-ins make up the number, or
    /// raft-rs would not look at its own.
    fn membership_changes(&self, low: Position, high: Position) -> Vec<eraftpb::Entry> {
        let entry = |position: Position, kind| {
            let term = self.term_at(position).unwrap_or_default();
            entry_to_raft(Entry { position, term, kind, data: bytes::Bytes::new() })
        };
        let within = |position: &&Position| (low..high).contains(*position);
        let changes = self.memberships.iter().filter(within);
        let found: Vec<_> = changes.map(|at| entry(*at, EntryKind::Membership)).collect();
        if !found.is_empty() || high <= self.last {
            return found;
        }
        (low.0..high.0).map(|at| entry(Position(at), EntryKind::Normal)).collect()
    }
}

fn bytes_of(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.state.start.clone(), self.members_at_applied().to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        let (low, high) = (Position(low), Position(high));
        let max = max_size.into().unwrap_or(u64::MAX);
        if max == u64::MAX {
            return Ok(self.membership_changes(low, high));
        }
        let bytes_max = usize::try_from(max).unwrap_or(usize::MAX);
        if !context.can_async() {
            let all = Cell::new(usize::MAX);
            let found = self.range(low, high, bytes_max, &all);
            return Ok(found.into_iter().map(entry_to_raft).collect());
        }
        // For a follower. It can wait.
        let is_held = low >= self.window_first();
        if !is_held && (self.disk.left.get() == 0 || self.disk.damage.borrow().is_some()) {
            self.disk.is_awaited.set(true);
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        let found = self.range(low, high, bytes_max, &self.disk.left);
        if found.is_empty() && low < high {
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        Ok(found.into_iter().map(entry_to_raft).collect())
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
        Ok(self.last.0)
    }

    /// Only says where a snapshot would stand: the state goes another way. At the applied position
    /// not yet for a replica that is not a member there, as it would not take it. A stand may lie
    /// before the entry that made it one; see [`Members::with_learner`].
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        let to = protocol::ReplicaId(to);
        let (position, members) = match &self.state.snapshot {
            Some(stand) => (stand.position, stand.members.with_learner(to)),
            None => (self.state.applied, self.members_at_applied().clone()),
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
#[expect(clippy::disallowed_types, reason = "a reader is shared, as the real one is")]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use bytes::Bytes;
    use protocol::ReplicaId;
    use storage::{DiskError, ReadEntries};

    use super::*;

    const GROUP: GroupId = GroupId(3);

    fn entry(position: u64, term: u64) -> Entry {
        Entry {
            position: Position(position),
            term: Term(term),
            kind: if position == 7 { EntryKind::Membership } else { EntryKind::Normal },
            data: Bytes::from(vec![u8::try_from(position).unwrap(); 10]),
        }
    }

    /// What is durable.
    #[derive(Default)]
    struct Stored(Mutex<BTreeMap<Position, Entry>>);

    impl Stored {
        fn put(&self, entry: Entry) {
            let mut held = self.0.lock().unwrap();
            held.retain(|position, _| *position < entry.position);
            held.insert(entry.position, entry);
        }
    }

    impl LogReader for Stored {
        fn entries(
            &self,
            _group: GroupId,
            from: Position,
            end: Position,
            limits: ReadLimits,
        ) -> Result<ReadEntries, LogError> {
            let held = self.0.lock().unwrap();
            let mut entries = Vec::new();
            let mut bytes = 0;
            for (_, entry) in held.range(from..end) {
                if bytes > 0 && bytes >= limits.data_bytes {
                    break;
                }
                bytes += entry.data.len();
                entries.push(entry.clone());
            }
            if entries.is_empty() {
                return Err(DiskError::Failed("it is not there".into()).into());
            }
            Ok(ReadEntries { entries, file_bytes: 1 << 20 })
        }

        fn term(&self, _group: GroupId, position: Position) -> Option<Term> {
            Some(self.0.lock().unwrap().get(&position)?.term)
        }
    }

    /// Entries 5 to 9 on the disk, 7 of them a membership, and applied as well.
    fn started() -> (GroupLog, Arc<Stored>) {
        let stored = Arc::new(Stored::default());
        (5..=9).for_each(|position| stored.put(entry(position, 2)));
        let restored = Restored {
            base: Position(4),
            base_term: Term(1),
            last: Position(9),
            terms: vec![(Position(5), Term(2))],
            memberships: vec![Position(7)],
            applied: Position(7),
            members: Members::of_voters([ReplicaId(1)]),
            ..Restored::default()
        };
        let start = HardState::default();
        let reader: Arc<dyn LogReader> = Arc::<Stored>::clone(&stored);
        (GroupLog::new(GROUP, &restored, start, reader), stored)
    }

    /// The same with all in memory.
    fn held() -> (GroupLog, Arc<Stored>) {
        let (mut log, stored) = started();
        (5..=9).for_each(|position| log.append(entry(position, 2)));
        (log, stored)
    }

    fn positions(log: &GroupLog, low: u64, high: u64, max: u64) -> Vec<u64> {
        let entries = log.entries(low, high, max, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn an_entry_replaces_those_from_its_position_on() {
        for (mut log, _) in [started(), held()] {
            log.append(entry(8, 3));
            assert_eq!(log.last(), Position(8));
            assert_eq!(log.term(8).unwrap(), 3);
            assert_eq!(log.term(7).unwrap(), 2);
            assert!(log.term(9).is_err());
            assert_eq!(positions(&log, 8, 9, 1_000), [8]);
            log.append(entry(6, 4));
            assert_eq!((log.term(5).unwrap(), log.term(6).unwrap()), (2, 4));
            assert_eq!(log.window_bytes(), log.window.len() * bytes_of(&entry(6, 4)));
        }
    }

    #[test]
    fn at_least_one_entry_is_read_and_more_up_to_the_size() {
        for (log, _) in [started(), held()] {
            assert_eq!(positions(&log, 5, 10, 1_000_000), [5, 6, 7, 8, 9]);
            assert_eq!(positions(&log, 6, 8, 1_000_000), [6, 7]);
            assert_eq!(positions(&log, 6, 10, 0), [6]);
            assert!(log.entries(4, 6, 9, GetEntriesContext::empty(false)).is_err());
        }
    }

    #[test]
    fn what_is_forgotten_leaves_the_term_of_the_base() {
        for (mut log, _) in [started(), held()] {
            assert_eq!(log.compact(Position(6)), Term(2));
            assert_eq!(log.first_index().unwrap(), 7);
            assert_eq!(log.term(6).unwrap(), 2);
            assert!(log.term(5).is_err());
            assert_eq!(positions(&log, 7, 10, 1_000_000), [7, 8, 9]);
            log.applied_to(Position(9));
            assert_eq!(log.compact(Position(9)), Term(2));
            assert_eq!((log.window_bytes(), log.term(9).unwrap()), (0, 2));
            log.append(entry(10, 5));
            assert_eq!((log.term(9).unwrap(), log.term(10).unwrap()), (2, 5));
        }
    }

    #[test]
    fn what_is_not_durable_or_not_applied_stays_in_memory() {
        let (mut log, stored) = held();
        let one = bytes_of(&entry(5, 2));
        stored.0.lock().unwrap().clear();
        assert_eq!(log.shrink_window(usize::MAX), 5 * one, "nothing of it is durable");
        stored.put(entry(5, 1));
        assert_eq!(log.shrink_window(1), 5 * one, "another entry is durable in its place");
        (5..=9).for_each(|position| stored.put(entry(position, 2)));
        assert_eq!(log.shrink_window(1), 4 * one, "the oldest goes");
        assert_eq!(log.shrink_window(usize::MAX), 2 * one, "8 and 9 are not applied");
        assert_eq!(log.window_first(), Position(8));
        assert_eq!(
            positions(&log, 5, 10, 1_000_000),
            [5, 6, 7],
            "a read ends where the window begins"
        );
        assert_eq!(positions(&log, 8, 10, 1_000_000), [8, 9]);
        let applied = log.applied_after(Position(4), usize::MAX);
        assert_eq!(applied, [5, 6, 7].map(|position| entry(position, 2)));
    }

    #[test]
    fn followers_wait_for_a_tick_when_much_was_read_and_others_do_not() {
        let (log, _) = started();
        let follower = || GetEntriesContext::empty(true);
        assert_eq!(log.entries(5, 10, 0, follower()).unwrap().len(), 1);
        assert_eq!(log.entries(6, 10, 0, follower()).unwrap().len(), 1);
        let later = log.entries(7, 10, 0, follower()).unwrap_err();
        assert_eq!(later, StorageError::LogTemporarilyUnavailable.into());
        assert_eq!(positions(&log, 7, 10, 1_000), [7, 8, 9]);
        assert!(log.refill());
        assert!(!log.refill());
        assert_eq!(log.entries(7, 10, 0, follower()).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_damage_and_nothing_wrong_is_given_out() {
        for wrong in [None, Some(entry(6, 1)), Some(entry(5, 2))] {
            let (log, stored) = started();
            stored.0.lock().unwrap().remove(&Position(6));
            if let Some(wrong) = wrong {
                stored.0.lock().unwrap().insert(Position(6), wrong);
            }
            assert!(log.damage().is_none());
            assert!(positions(&log, 6, 7, 1_000).is_empty());
            assert!(log.damage().is_some());
            assert!(log.entries(6, 7, 1_000, GetEntriesContext::empty(true)).is_err());
        }
    }

    #[test]
    fn before_an_election_only_memberships_are_read() {
        let (log, stored) = started();
        stored.0.lock().unwrap().clear();
        let all =
            |low, high| log.entries(low, high, None, GetEntriesContext::empty(false)).unwrap();
        assert_eq!(all(5, 10).iter().map(|entry| entry.index).collect::<Vec<_>>(), [7]);
        assert!(all(8, 9).is_empty());
        assert_eq!(all(8, 10).len(), 2, "raft-rs's own entries follow");
        assert!(log.damage().is_none());
    }

    #[test]
    fn a_snapshot_stands_at_the_applied_position_with_the_members_of_that_time() {
        let (mut log, _) = started();
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
        let (mut log, _) = started();
        let members = Members::of_voters([ReplicaId(1)]);
        log.snapshots_stand_at(SnapshotMeta { position: Position(6), term: Term(2), members });
        let snapshot = log.snapshot(0, 3).unwrap();
        let state = snapshot.get_metadata().get_conf_state();
        assert_eq!(snapshot.get_metadata().index, 6);
        assert_eq!((&*state.voters, &*state.learners), (&[1][..], &[3][..]));
        assert!(log.snapshot(7, 3).is_err(), "a later one was asked for");
    }
}
