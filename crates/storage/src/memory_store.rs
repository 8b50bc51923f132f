//! A state store in memory, for tests and the simulator, that knows what would survive a crash.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::layers::{Layers, Run, Tables};
use crate::state::{Batch, Persister, Reader, StateStore, StoreError, Visit, Write};

/// When this many bytes have gathered in the tables, a run is begun, and the one before it ends.
/// Few, so that even a short test has keys in both tables and in the tree.
const RUN_BYTES: usize = 16 << 10;

type Pairs = BTreeMap<Bytes, Bytes>;

/// A state store in memory: the layers that the real one has, over a tree that is a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    layers: Layers,
    /// What the tree has. A view shares it, and the first run after the view copies it (not the
    /// bytes in it).
    tree: Arc<Pairs>,
    /// On its way to the tree.
    run: Option<Run>,
    /// The pairs as the batch number `settled` left them.
    durable: Pairs,
    settled: u64,
    /// The batches after `settled`.
    pending: VecDeque<Batch>,
    marks: Arc<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// How many batches were ever written.
    written: AtomicU64,
    /// How many of them are durable.
    durable: AtomicU64,
}

impl Clone for MemoryStore {
    /// A store of its own, with the same content.
    fn clone(&self) -> Self {
        let Self { layers, tree, run, durable, settled, pending, marks } = self;
        let marks = Marks {
            written: AtomicU64::new(marks.written.load(Ordering::SeqCst)),
            durable: AtomicU64::new(marks.durable.load(Ordering::SeqCst)),
        };
        Self {
            layers: layers.clone(),
            tree: Arc::clone(tree),
            run: run.clone(),
            durable: durable.clone(),
            settled: *settled,
            pending: pending.clone(),
            marks: Arc::new(marks),
        }
    }
}

impl Marks {
    fn persist(&self) {
        let written = self.written.load(Ordering::SeqCst);
        self.durable.fetch_max(written, Ordering::SeqCst);
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes back to what was last persisted, plus that many of the batches written since (all of
    /// them if there are fewer). What is left is durable. Persisters made before have no effect
    /// any more.
    pub fn crash(&mut self, keep_unsynced_batches: usize) {
        self.settle();
        let kept = keep_unsynced_batches.min(self.pending.len());
        for batch in self.pending.drain(..).take(kept) {
            write_to(&mut self.durable, batch);
        }
        self.layers = Layers::new();
        self.run = None;
        self.tree = Arc::new(self.durable.clone());
        self.settled = 0;
        self.marks = Arc::default();
    }

    /// How many batches a crash could lose.
    pub fn unsynced_batches(&self) -> usize {
        let durable = self.marks.durable.load(Ordering::SeqCst);
        let durable_pending = usize::try_from(durable - self.settled).unwrap_or(usize::MAX);
        self.pending.len().saturating_sub(durable_pending)
    }

    /// Moves the batches that were persisted meanwhile out of the pending ones.
    fn settle(&mut self) {
        let durable = self.marks.durable.load(Ordering::SeqCst);
        while self.settled < durable {
            let batch = self.pending.pop_front().expect("a batch is pending until it is settled");
            write_to(&mut self.durable, batch);
            self.settled += 1;
        }
    }

    /// Ends the run that is on its way, and begins the next one.
    fn run(&mut self) {
        if let Some(run) = self.run.take() {
            let tree = Arc::make_mut(&mut self.tree);
            let moved = run.each(|key, value| {
                match value {
                    Some(value) => {
                        tree.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
                    }
                    None => tree.remove(key),
                };
                Ok::<(), StoreError>(())
            });
            moved.expect("a map takes every pair");
            self.layers.end_run(&run);
        }
        self.run = self.layers.begin_run();
    }

    /// A key that is said to be new must not be there. Where one is, its deletion would bring an
    /// older value back to light.
    fn check(&self, batch: &Batch) {
        for (number, (key, write)) in batch.writes.iter().enumerate() {
            if !matches!(write, Write::PutNew(_)) {
                continue;
            }
            let earlier = batch.writes[..number].iter().rev().find(|(same, _)| same == key);
            let is_there = match earlier {
                Some((_, earlier)) => earlier.value().is_some(),
                None => matches!(self.get(key), Ok(Some(_))),
            };
            assert!(!is_there, "the key {key:02x?} was written as new, but it is there");
        }
    }
}

fn write_to(pairs: &mut Pairs, batch: Batch) {
    for (key, write) in batch.writes {
        match write {
            Write::Put(value) | Write::PutNew(value) => pairs.insert(key.into(), value.into()),
            Write::Delete => pairs.remove(key.as_slice()),
        };
    }
}

impl StateStore for MemoryStore {
    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.check(&batch);
        self.settle();
        self.pending.push_back(batch.clone());
        self.layers.write(batch);
        self.marks.written.fetch_add(1, Ordering::SeqCst);
        if self.layers.waiting_bytes() >= RUN_BYTES {
            self.run();
        }
        Ok(())
    }

    fn view(&self) -> Box<dyn Reader + Send> {
        Box::new(View { tables: self.layers.tables(), tree: Arc::clone(&self.tree) })
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.marks.persist();
        self.settle();
        Ok(())
    }

    fn persister(&self) -> Persister {
        let marks = Arc::clone(&self.marks);
        Box::new(move || {
            marks.persist();
            Ok(())
        })
    }
}

impl Reader for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(get(self.layers.get(key), &self.tree, key))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        scan(&self.layers.tables(), &self.tree, (from, to), reverse, visit)
    }
}

/// The store as it was.
struct View {
    tables: Tables,
    tree: Arc<Pairs>,
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(get(self.tables.get(key), &self.tree, key))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        scan(&self.tables, &self.tree, (from, to), reverse, visit)
    }
}

fn get(newer: Option<Option<&[u8]>>, tree: &Pairs, key: &[u8]) -> Option<Vec<u8>> {
    match newer {
        Some(newer) => newer.map(<[u8]>::to_vec),
        None => tree.get(key).map(|value| value.to_vec()),
    }
}

fn scan(
    tables: &Tables,
    tree: &Pairs,
    (from, to): (&[u8], &[u8]),
    reverse: bool,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    if from >= to {
        return Ok(());
    }
    let range = tree.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))).map(Ok);
    if reverse {
        tables.scan((from, to), reverse, range.rev(), visit)
    } else {
        tables.scan((from, to), reverse, range, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    fn put(store: &mut MemoryStore, key: &str, value: &str) {
        let mut batch = Batch::new();
        batch.put(key, value);
        store.write(batch).unwrap();
    }

    fn keys(reader: &dyn Reader, from: &str, to: &str, reverse: bool) -> String {
        let mut keys = String::new();
        reader
            .scan(from.as_bytes(), to.as_bytes(), reverse, &mut |key, _| {
                keys.push_str(std::str::from_utf8(key).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        keys
    }

    #[test]
    fn a_scan_goes_from_the_first_key_to_before_the_last_and_back() {
        let mut store = MemoryStore::new();
        for key in ["c", "a", "d", "b"] {
            put(&mut store, key, "");
        }
        assert_eq!(keys(&store, "b", "d", false), "bc");
        assert_eq!(keys(&store, "a", "z", true), "dcba");
        assert_eq!(keys(&store, "d", "b", false), "");
        assert_eq!(keys(&store, "b", "b", false), "");
    }

    #[test]
    fn a_view_does_not_see_later_writes() {
        let mut store = MemoryStore::new();
        put(&mut store, "a", "1");
        let view = store.view();
        put(&mut store, "a", "2");
        assert_eq!(view.get(b"a").unwrap().unwrap(), b"1");
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"2");
    }

    #[test]
    fn a_crash_keeps_what_was_persisted_and_as_many_batches_as_told() {
        let mut store = MemoryStore::new();
        put(&mut store, "a", "1");
        store.persist().unwrap();
        put(&mut store, "b", "1");
        put(&mut store, "c", "1");
        assert_eq!(store.unsynced_batches(), 2);
        store.crash(1);
        assert_eq!(keys(&store, "a", "z", false), "ab");
        store.crash(0);
        assert_eq!(keys(&store, "a", "z", false), "ab", "what survived a crash is durable");
    }

    #[test]
    fn a_persister_makes_durable_what_was_written_before_it_ran() {
        let mut store = MemoryStore::new();
        let mut persister = store.persister();
        put(&mut store, "a", "1");
        persister().unwrap();
        put(&mut store, "b", "1");
        assert_eq!(store.unsynced_batches(), 1);
        store.crash(0);
        assert_eq!(keys(&store, "a", "z", false), "a");
        put(&mut store, "c", "1");
        persister().unwrap();
        assert_eq!(store.unsynced_batches(), 1, "a persister of before the crash has no effect");
    }

    #[test]
    #[should_panic(expected = "written as new, but it is there")]
    fn a_key_that_is_there_is_not_new() {
        let mut store = MemoryStore::new();
        put(&mut store, "a", "1");
        let mut batch = Batch::new();
        batch.delete("a");
        batch.put_new("a", "2");
        batch.put_new("a", "3");
        store.write(batch).unwrap();
    }
}
