//! The state store: fjall, a log-structured tree in pure Rust, in one folder.
//!
//! It is behind the node's own log: what it lost in a crash is applied again from there. So its
//! writes wait for nothing, and only the persister makes them durable.

use std::collections::BTreeSet;
use std::path::Path;

use fjall::config::{BlockSizePolicy, PartitioningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use storage::{Batch, Reader, StateStore, StoreError, Visit};

/// The blocks of its files that are kept in memory, in bytes. The system keeps the files' pages as
/// well, so this mostly saves the unpacking.
const CACHE_BYTES: u64 = 4 << 20;

/// How much is gathered in memory before it is written to a file of its own, in bytes. Up to four
/// of these wait while a file is written; at rest there is at most one.
const MEMTABLE_BYTES: u64 = 4 << 20;

/// The length of its journals at which it writes out what pins them, in bytes. Its least.
const JOURNALS_BYTES: u64 = 64 << 20;

/// How much is unpacked to read one value, in bytes.
const BLOCK_BYTES: u32 = 4 << 10;

/// How many of its files it keeps open.
const OPEN_FILES_MAX: usize = 128;

/// The threads that write files out and merge them: one of each at a time.
const WORKERS: usize = 2;

/// The one keyspace, where the keys of all groups are.
const KEYSPACE: &str = "state";

/// The state of all groups of a node.
pub struct FjallStore {
    database: Database,
    keyspace: Keyspace,
}

impl FjallStore {
    /// Opens the store in that folder, or makes one.
    ///
    /// # Errors
    /// When it cannot be opened, or another process has it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNALS_BYTES)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(WORKERS)
            // Batches need not reach the system one by one: they are in the node's log.
            .manual_journal_persist(true)
            .open()
            .map_err(|error| wrong(&error))?;
        let keyspace = database.keyspace(KEYSPACE, options).map_err(|error| wrong(&error))?;
        Ok(Self { database, keyspace })
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        // In one piece they would be pinned in memory or push everything else out of the cache.
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .manual_journal_persist(true)
}

fn wrong(error: &fjall::Error) -> StoreError {
    StoreError(match error {
        fjall::Error::Locked => "another process has it open".to_owned(),
        fjall::Error::Poisoned => "an earlier write to the disk has failed".to_owned(),
        other => other.to_string(),
    })
}

impl Reader for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.keyspace.get(key).map_err(|error| wrong(&error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        // The tree takes a range that ends before it begins for a mistake.
        if from < to { visit_all(self.keyspace.range(from..to), reverse, visit) } else { Ok(()) }
    }
}

impl StateStore for FjallStore {
    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        // When the threads that write files out have failed, it would wait for them for ever.
        if self.keyspace.sealed_memtable_count() > 0 {
            self.database.persist(PersistMode::Buffer).map_err(|error| wrong(&error))?;
        }
        let mut ours = self.database.batch();
        // All writes of a batch have the same age in the tree, so a key must be there only once.
        let mut seen = BTreeSet::new();
        for (key, value) in batch.writes.iter().rev() {
            if seen.insert(key) {
                match value {
                    Some(value) => ours.insert(&self.keyspace, key.as_slice(), value.as_slice()),
                    None => ours.remove(&self.keyspace, key.as_slice()),
                }
            }
        }
        ours.commit().map_err(|error| wrong(&error))
    }

    fn view(&self) -> Box<dyn Reader + Send> {
        Box::new(View { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() })
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(|error| wrong(&error))
    }

    fn persister(&self) -> storage::Persister {
        let database = self.database.clone();
        Box::new(move || database.persist(PersistMode::SyncAll).map_err(|error| wrong(&error)))
    }
}

/// The store as it was.
struct View {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.snapshot.get(&self.keyspace, key).map_err(|error| wrong(&error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        visit_all(self.snapshot.range(&self.keyspace, from..to), reverse, visit)
    }
}

fn visit_all(pairs: fjall::Iter, reverse: bool, visit: Visit<'_>) -> Result<(), StoreError> {
    let mut visit_one = |pair: fjall::Guard| {
        let (key, value) = pair.into_inner().map_err(|error| wrong(&error))?;
        Ok(visit(&key, &value).is_continue())
    };
    if reverse {
        for pair in pairs.rev() {
            if !visit_one(pair)? {
                break;
            }
        }
    } else {
        for pair in pairs {
            if !visit_one(pair)? {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use storage::MemoryStore;

    use super::*;

    fn all(reader: &dyn Reader, from: &[u8], to: &[u8], reverse: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut pairs = Vec::new();
        reader
            .scan(from, to, reverse, &mut |key, value| {
                pairs.push((key.to_vec(), value.to_vec()));
                if pairs.len() < 50 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        pairs
    }

    #[test]
    fn it_does_what_the_store_in_memory_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut real = FjallStore::open(folder.path()).unwrap();
        let mut memory = MemoryStore::new();
        let mut state = 1_u64;
        let mut random = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % end
        };
        for round in 0..400 {
            let mut batch = Batch::new();
            for _ in 0..random(20) {
                let key = random(300).to_be_bytes();
                if random(3) == 0 {
                    batch.delete(key);
                } else {
                    batch.put(key, random(1 << 30).to_le_bytes());
                }
            }
            real.write(batch.clone()).unwrap();
            memory.write(batch).unwrap();
            if round % 90 == 50 {
                real.persist().unwrap();
                drop(real);
                real = FjallStore::open(folder.path()).unwrap();
            }
            let (from, to) = (random(300).to_be_bytes(), random(300).to_be_bytes());
            let reverse = random(2) == 0;
            assert_eq!(all(&real, &from, &to, reverse), all(&memory, &from, &to, reverse));
            assert_eq!(real.get(&from).unwrap(), memory.get(&from).unwrap());
            assert_eq!(
                all(real.view().as_ref(), &from, &to, reverse),
                all(&real, &from, &to, reverse)
            );
        }
    }

    #[test]
    fn a_view_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        let mut batch = Batch::new();
        batch.put("a", "1");
        store.write(batch).unwrap();
        let view = store.view();
        let mut batch = Batch::new();
        batch.put("a", "2");
        batch.put("b", "2");
        store.write(batch).unwrap();
        assert_eq!(view.get(b"a").unwrap().unwrap(), b"1");
        assert_eq!(all(view.as_ref(), b"a", b"z", false), [(b"a".to_vec(), b"1".to_vec())]);
        assert_eq!(all(&store, b"a", b"z", false).len(), 2);
    }

    #[test]
    fn the_last_write_of_a_batch_to_a_key_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        let mut batch = Batch::new();
        batch.put("a", "1");
        batch.put("a", "2");
        batch.delete("b");
        batch.put("b", "1");
        batch.put("c", "1");
        batch.delete("c");
        store.write(batch).unwrap();
        let expected = [(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), b"1".to_vec())];
        assert_eq!(all(&store, b"a", b"z", false), expected);
    }

    #[test]
    fn a_persister_works_from_another_thread() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        let mut persister = store.persister();
        let mut batch = Batch::new();
        batch.put("a", "1");
        store.write(batch).unwrap();
        std::thread::spawn(move || persister().unwrap()).join().unwrap();
        drop(store);
        let store = FjallStore::open(folder.path()).unwrap();
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"1");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _store = FjallStore::open(folder.path()).unwrap();
        let error = FjallStore::open(folder.path()).err().unwrap();
        assert!(error.0.contains("another process"), "{error}");
    }
}
