//! Whole partitions against a naive model, and by hand.

mod aggregates;
mod changes;
mod commands;
mod equality;
mod exact;
mod generate;
mod inbox;
mod model;
mod outbox;
mod queries;
mod since;

use protocol::{GroupId, Position, Term};
use storage::{Applied, Batch, MemoryStore, Space, StateStore};

use crate::{AppliedCommand, Command, Partition};

/// A partition with its store and the end of its log.
pub(crate) struct Site {
    pub(crate) store: MemoryStore,
    pub(crate) partition: Partition,
    pub(crate) applied: Applied,
}

impl Site {
    pub(crate) fn new(group: u32) -> Self {
        let store = MemoryStore::new();
        let (space, applied) = Space::open(&store, GroupId(group)).unwrap();
        let partition = Partition::open(&store, space).unwrap();
        Self { store, partition, applied: Applied { term: Term(1), ..applied } }
    }

    pub(crate) fn apply(&mut self, command: &Command) -> AppliedCommand {
        self.applied.position = self.applied.position.next();
        let applied = self.applied.clone();
        self.partition.apply(&mut self.store, applied, &command.encode()).unwrap()
    }

    /// As after a restart.
    pub(crate) fn reopen(&mut self) {
        let group = self.partition.space.group;
        let bounds = self.partition.index.bounds;
        let (space, applied) = Space::open(&self.store, group).unwrap();
        self.partition = Partition::open(&self.store, space).unwrap();
        self.partition.index.bounds = bounds;
        self.applied = applied;
    }

    pub(crate) fn index_wholly(&mut self) {
        while !self.partition.index(&mut self.store, 7).unwrap() {}
        assert!(self.partition.is_indexed());
    }

    /// Exports a snapshot and takes it in again, in pieces.
    pub(crate) fn install_own_snapshot(&mut self, bytes: usize) {
        let space = self.partition.space;
        let staging = space.staging();
        let view = self.store.view();
        let mut after = Vec::new();
        loop {
            let chunk = space.export(&*view, &after, bytes).unwrap();
            after = chunk.pairs.last().map(|(key, _)| key.clone()).unwrap_or(after);
            let mut batch = Batch::new();
            staging.stage(&mut batch, chunk.pairs);
            self.store.write(batch).unwrap();
            if chunk.done {
                break;
            }
        }
        let mut batch = Batch::new();
        staging.install(&mut batch, &self.applied);
        self.store.write(batch).unwrap();
        self.reopen();
        loop {
            let mut batch = Batch::new();
            let done = self.partition.space.clean(&self.store, &mut batch, 100).unwrap();
            self.store.write(batch).unwrap();
            if done {
                break;
            }
        }
    }

    /// All that a snapshot has.
    pub(crate) fn state(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let chunk = self.partition.space.export(&self.store, b"", usize::MAX).unwrap();
        assert!(chunk.done);
        chunk.pairs
    }

    pub(crate) fn digest(&self) -> u64 {
        self.partition.digest(&self.store).unwrap()
    }

    pub(crate) fn position(&self) -> Position {
        self.applied.position
    }
}
