//! One replica with its disk and its state store, up or down.

use std::collections::VecDeque;

use group::{Io, Outputs, PeerMessage, Quorum, Replica, Restart, Tuning, decode_members};
use protocol::{GroupId, Now, Position, ReplicaId};
use replication::{Group, GroupOptions, Members, Restored};
use storage::{LogRecord, MemoryLog, MemoryStore, Space, StateStore};

use crate::counter::{Counter, Kind};

pub(crate) const GROUP: GroupId = GroupId(7);

/// A snapshot of a few changes takes several chunks.
const CHUNK_BYTES: usize = 40;

pub(crate) struct Node {
    pub(crate) id: u64,
    kind: Kind,
    options: GroupOptions,
    /// The members that the node was told of when it was made.
    members: Members,
    pub(crate) replica: Option<Replica<Counter>>,
    pub(crate) store: MemoryStore,
    /// What a start would find in the log.
    log: MemoryLog,
    /// Batches that are not durable.
    pub(crate) unsynced: VecDeque<(u64, Vec<LogRecord>)>,
    next_batch: u64,
    /// Persists of the state store that are not done.
    pub(crate) persists: VecDeque<u64>,
    next_mark: u64,
}

/// How much an owner may have under way, where that is not the default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Room {
    pub(crate) unapplied_max: Option<u64>,
    pub(crate) uncommitted_bytes_max: Option<usize>,
}

/// What a step of a replica works with beside its node.
#[derive(Clone, Copy)]
pub(crate) struct Around {
    pub(crate) now: Now,
    pub(crate) quorum: Quorum,
    pub(crate) may_lead: bool,
}

impl Node {
    pub(crate) fn new(id: u64, kind: Kind, voters: &[u64], room: Room) -> Self {
        let mut options = GroupOptions::new(GROUP, ReplicaId(id));
        (options.heartbeat_ticks, options.election_ticks) = (2, 10);
        options.unapplied_max = room.unapplied_max.unwrap_or(options.unapplied_max);
        if let Some(bytes) = room.uncommitted_bytes_max {
            options.uncommitted_bytes_max = bytes;
            options.entry_bytes_per_message_max = bytes;
        }
        let mut node = Self {
            id,
            kind,
            options,
            members: Members::of_voters(voters.iter().copied().map(ReplicaId)),
            replica: None,
            store: MemoryStore::new(),
            log: MemoryLog::default(),
            unsynced: VecDeque::new(),
            next_batch: 1,
            persists: VecDeque::new(),
            next_mark: 1,
        };
        node.start();
        node
    }

    pub(crate) fn start(&mut self) {
        let (space, applied) = Space::open(&self.store, GROUP).unwrap();
        let members = match applied.members.as_slice() {
            [] => self.members.clone(),
            bytes => decode_members(bytes).unwrap(),
        };
        let (position, term) = (applied.position, applied.term);
        let restored = Restored::new(self.log.recovered(), position, term, members.clone());
        let mut consensus = Group::new(self.options.clone(), restored, self.log.reader()).unwrap();
        // Each replica waits longer for a silent owner than the one before it.
        let rank = usize::try_from(self.id).unwrap();
        consensus.set_election_ticks(self.options.election_ticks + 2 * rank);
        let machine = Counter::open(self.kind, &self.store, space, &applied).unwrap();
        let tuning = Tuning { chunk_bytes: CHUNK_BYTES };
        let restart = Restart { consensus, machine, space, applied, members, tuning };
        self.replica = Some(Replica::new(GROUP, restart));
    }

    /// Only what is durable is left.
    pub(crate) fn crash(&mut self) {
        self.replica = None;
        self.unsynced.clear();
        self.persists.clear();
        self.store.crash(0);
    }

    pub(crate) fn replica(&mut self) -> &mut Replica<Counter> {
        self.replica.as_mut().expect("the replica is up")
    }

    /// One step of the replica, and all that consensus wants done after it.
    pub(crate) fn step(
        &mut self,
        around: Around,
        step: impl FnOnce(&mut Replica<Counter>, &mut Io<'_, ()>, &mut Outputs<Counter>),
    ) -> Outputs<Counter> {
        let Around { now, quorum, may_lead } = around;
        let mut io = Io {
            now,
            store: &mut self.store,
            around: &(),
            batch: self.next_batch,
            next_mark: self.next_mark,
            quorum,
            may_lead,
        };
        let replica = self.replica.as_mut().expect("the replica is up");
        let mut out = Outputs::default();
        step(replica, &mut io, &mut out);
        replica.settle(&mut io, &mut out).unwrap();
        if out.wants_persist {
            self.persists.push_back(self.next_mark);
            self.next_mark += 1;
        }
        if !out.records.is_empty() {
            let mut records: Vec<LogRecord> = replica.take_lazy_record().into_iter().collect();
            records.append(&mut out.records);
            self.unsynced.push_back((self.next_batch, records));
            self.next_batch += 1;
        }
        out
    }

    /// The oldest batch is durable: what has waited for it leaves.
    pub(crate) fn sync(&mut self) -> Vec<(ReplicaId, PeerMessage)> {
        let (batch, records) = self.unsynced.pop_front().expect("a batch waits");
        records.into_iter().for_each(|record| self.log.write(record));
        let mut messages = Vec::new();
        self.replica().log_durable(batch, &mut messages);
        messages
    }

    /// The oldest persist of the state store is done. Gives the log's records that waited for it.
    pub(crate) fn persist(&mut self) -> Vec<LogRecord> {
        let mark = self.persists.pop_front().expect("a persist waits");
        self.store.persist().unwrap();
        let batch = self.next_batch;
        self.replica().state_persisted(mark, batch)
    }

    /// The log is cut as far as the state is durable.
    pub(crate) fn compact(&mut self, around: Around) -> (Outputs<Counter>, Position) {
        let (mark, before) = (self.next_mark, self.replica().persisted_up_to());
        let out = self.step(around, |replica, io, _| replica.prepare_persist(io).unwrap());
        assert_eq!(self.replica().persisted_up_to(), before, "it is not durable so far");
        self.store.persist().unwrap();
        let batch = self.next_batch;
        let released = self.replica().state_persisted(mark, batch);
        assert!(released.is_empty(), "no snapshot waits for this persist");
        let up_to = self.replica().persisted_up_to();
        if let Some(record) = self.replica().consensus.compact(up_to) {
            self.unsynced.push_back((self.next_batch, vec![record]));
            self.next_batch += 1;
        }
        (out, up_to)
    }
}
