//! The state store: fjall, a log-structured tree in pure Rust, in one folder.
//!
//! It is behind the node's own log: what it lost in a crash is applied again from there. So a batch
//! need not wait for it. What is written gathers in memory, where reads find it, and a thread moves
//! all of it into the tree at once, every few milliseconds. So a key that is written again and again
//! gets into the tree once, and the node's thread does not stand still when the tree writes out a
//! file or syncs. Only the persister makes things durable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, PartitioningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use storage::{Batch, Reader, StateStore, StoreError, Visit};

/// The blocks of its files that are kept in memory, in bytes. The system keeps the files' pages as
/// well, so this mostly saves the unpacking.
const CACHE_BYTES: u64 = 4 << 20;

/// How much the tree gathers in memory before it writes it to a file of its own, in bytes. Up to
/// four of these wait while a file is written; at rest there is at most one.
const MEMTABLE_BYTES: u64 = 4 << 20;

/// The length of the tree's journals at which it writes out what pins them, in bytes. Its least.
const JOURNALS_BYTES: u64 = 64 << 20;

/// How much is unpacked to read one value, in bytes.
const BLOCK_BYTES: u32 = 4 << 10;

/// How many of its files it keeps open.
const OPEN_FILES_MAX: usize = 128;

/// The threads that write files out and merge them: one of each at a time.
const WORKERS: usize = 2;

/// How long writes gather before they are moved into the tree.
const GATHER: Duration = Duration::from_millis(5);

/// How many bytes may have gathered before they are moved at once.
const GATHERED_BYTES: usize = 1 << 20;

/// How many bytes may wait for the tree. When there are more, writing waits.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The one keyspace, where the keys of all groups are.
const KEYSPACE: &str = "state";

/// The state of all groups of a node.
pub struct FjallStore {
    tree: Tree,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Tree {
    database: Database,
    keyspace: Keyspace,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something is waiting.
    work: Condvar,
    /// Something was moved, or that has failed.
    moved: Condvar,
}

/// The last values of some keys; `None` stands for a deletion.
type Pairs = BTreeMap<Bytes, Option<Bytes>>;

/// The same in the order of the keys, or against it.
type Writes = Vec<(Bytes, Option<Bytes>)>;

/// What is perhaps not in the tree yet.
#[derive(Clone, Default)]
struct Pending {
    gathered: Pairs,
    /// What is being moved right now; what has gathered since counts before it.
    moving: Arc<Pairs>,
}

/// What waits for the tree.
#[derive(Default)]
struct Waiting {
    pending: Pending,
    /// How many bytes have gathered, and how many are being moved.
    gathered_bytes: usize,
    moving_bytes: usize,
    /// The number of the last batch that was written, and of the last one that is in the tree.
    written: u64,
    in_tree: u64,
    /// Somebody waits for it.
    urgent: bool,
    closed: bool,
    failed: Option<StoreError>,
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
        let tree = Tree { database, keyspace };
        let shared = Arc::new(Shared::default());
        let (its_tree, its_shared) = (tree.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("amrita-state".into());
        let thread = thread
            .spawn(move || its_shared.serve(&its_tree))
            .map_err(|error| StoreError(format!("no thread can be started: {error}")))?;
        Ok(Self { tree, shared, thread: Some(thread) })
    }
}

impl Drop for FjallStore {
    /// What was written gets into the tree; it does not get durable.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread catches its panics");
        }
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
        fjall::Error::Poisoned => "an earlier write to the disk has failed; is it full?".to_owned(),
        other => other.to_string(),
    })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no one panics while holding what waits")
    }

    /// Moves what waits into the tree until the store is closed and nothing is left.
    fn serve(&self, tree: &Tree) {
        let moved = catch_unwind(AssertUnwindSafe(|| self.move_all(tree)));
        let failed = match moved {
            Ok(done) => done.err(),
            Err(_) => Some(StoreError("it has panicked, see the output of the node".to_owned())),
        };
        self.lock().failed = failed;
        self.moved.notify_all();
    }

    fn move_all(&self, tree: &Tree) -> Result<(), StoreError> {
        while let Some((number, pairs)) = self.take() {
            tree.write(&pairs)?;
            self.lock().moved(number);
            self.moved.notify_all();
            // The memory is given back here, while nobody waits for the lock.
            drop(pairs);
        }
        Ok(())
    }

    /// All that waits when there is enough of it, and the number of its last batch. It stays where
    /// reads find it. Nothing when the store is closed.
    fn take(&self) -> Option<(u64, Arc<Pairs>)> {
        let idle = |waiting: &mut Waiting| waiting.pending.gathered.is_empty() && !waiting.closed;
        let waiting = self.work.wait_while(self.lock(), idle);
        let waiting = waiting.expect("no one panics while holding what waits");
        let little = |waiting: &mut Waiting| {
            waiting.gathered_bytes < GATHERED_BYTES && !waiting.urgent && !waiting.closed
        };
        let waiting = self.work.wait_timeout_while(waiting, GATHER, little);
        let (mut waiting, _) = waiting.expect("no one panics while holding what waits");
        waiting.urgent = false;
        if waiting.pending.gathered.is_empty() {
            return None;
        }
        waiting.moving_bytes = std::mem::take(&mut waiting.gathered_bytes);
        let pairs = Arc::new(std::mem::take(&mut waiting.pending.gathered));
        waiting.pending.moving = Arc::clone(&pairs);
        Some((waiting.written, pairs))
    }

    /// Waits until all that was written is in the tree.
    fn drain(&self) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        let target = waiting.written;
        waiting.urgent = true;
        self.work.notify_one();
        let behind = |waiting: &mut Waiting| waiting.in_tree < target && waiting.failed.is_none();
        let waiting = self.moved.wait_while(waiting, behind);
        waiting.expect("no one panics while holding what waits").check()
    }
}

impl Waiting {
    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn bytes(&self) -> usize {
        self.gathered_bytes + self.moving_bytes
    }

    fn put(&mut self, batch: Batch) {
        self.written += 1;
        for (key, value) in batch.writes {
            let key_bytes = key.len();
            self.gathered_bytes += key_bytes + value.as_ref().map_or(0, Vec::len);
            let former = self.pending.gathered.insert(Bytes::from(key), value.map(Bytes::from));
            if let Some(former) = former {
                self.gathered_bytes -= key_bytes + former.map_or(0, |former| former.len());
            }
        }
        if self.pending.gathered.is_empty() && self.moving_bytes == 0 {
            self.in_tree = self.written;
        }
    }

    /// The batches up to that one are in the tree.
    fn moved(&mut self, number: u64) {
        self.pending.moving = Arc::default();
        self.moving_bytes = 0;
        // Later batches that write nothing need no moving.
        self.in_tree = if self.pending.gathered.is_empty() { self.written } else { number };
    }
}

impl Pending {
    /// The value if it is in here; a deletion is one, too.
    fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.gathered.get(key).or_else(|| self.moving.get(key))
    }

    /// What is in here of a range, in order.
    fn range(&self, from: &[u8], to: &[u8]) -> Writes {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut newer = self.gathered.range::<[u8], _>(range).peekable();
        let mut found = Writes::new();
        for older in self.moving.range::<[u8], _>(range) {
            while let Some(pair) = newer.next_if(|pair| pair.0 < older.0) {
                found.push(owned(pair));
            }
            let pair = newer.next_if(|pair| pair.0 == older.0);
            found.push(owned(pair.unwrap_or(older)));
        }
        found.extend(newer.map(owned));
        found
    }
}

fn owned((key, value): (&Bytes, &Option<Bytes>)) -> (Bytes, Option<Bytes>) {
    (key.clone(), value.clone())
}

impl Tree {
    fn write(&self, pairs: &Pairs) -> Result<(), StoreError> {
        // When the threads that write files out have failed, it would wait for them for ever.
        if self.keyspace.sealed_memtable_count() > 0 {
            self.database.persist(PersistMode::Buffer).map_err(|error| wrong(&error))?;
        }
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            match value {
                Some(value) => batch.insert(&self.keyspace, &key[..], &value[..]),
                None => batch.remove(&self.keyspace, &key[..]),
            }
        }
        batch.commit().map_err(|error| wrong(&error))
    }
}

impl Reader for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let waiting = self.shared.lock();
        waiting.check()?;
        if let Some(value) = waiting.pending.get(key) {
            return Ok(value.as_ref().map(|value| value.to_vec()));
        }
        drop(waiting);
        let found = self.tree.keyspace.get(key).map_err(|error| wrong(&error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        // Both maps take a range that ends before it begins for a mistake.
        if from >= to {
            return Ok(());
        }
        let waiting = self.shared.lock();
        waiting.check()?;
        // What gets into the tree from here on is the same as what is taken here.
        let pending = waiting.pending.range(from, to);
        drop(waiting);
        merge(self.tree.keyspace.range(from..to), pending, reverse, visit)
    }
}

impl StateStore for FjallStore {
    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        let full =
            |waiting: &mut Waiting| waiting.bytes() > WAITING_BYTES_MAX && waiting.failed.is_none();
        let waiting = self.shared.moved.wait_while(self.shared.lock(), full);
        let mut waiting = waiting.expect("no one panics while holding what waits");
        waiting.check()?;
        let idle = waiting.pending.gathered.is_empty();
        let little = waiting.gathered_bytes < GATHERED_BYTES;
        waiting.put(batch);
        if idle || (little && waiting.gathered_bytes >= GATHERED_BYTES) {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn view(&self) -> Box<dyn Reader + Send> {
        let waiting = self.shared.lock();
        let pending = waiting.pending.clone();
        // While the lock is held nothing is forgotten, so what is not in there is in the tree.
        let snapshot = self.tree.database.snapshot();
        drop(waiting);
        Box::new(View { pending, snapshot, keyspace: self.tree.keyspace.clone() })
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        persist(&self.shared, &self.tree.database)
    }

    fn persister(&self) -> storage::Persister {
        let (shared, database) = (Arc::clone(&self.shared), self.tree.database.clone());
        Box::new(move || persist(&shared, &database))
    }
}

fn persist(shared: &Shared, database: &Database) -> Result<(), StoreError> {
    shared.drain()?;
    database.persist(PersistMode::SyncAll).map_err(|error| wrong(&error))
}

/// The store as it was.
struct View {
    pending: Pending,
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.pending.get(key) {
            return Ok(value.as_ref().map(|value| value.to_vec()));
        }
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
        let pending = self.pending.range(from, to);
        merge(self.snapshot.range(&self.keyspace, from..to), pending, reverse, visit)
    }
}

/// Visits the pairs of the tree, with those that wait in their place.
fn merge(
    tree: fjall::Iter,
    mut pending: Writes,
    reverse: bool,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    if reverse {
        pending.reverse();
        merge_ordered(tree.rev(), pending, |one, other| one > other, visit)
    } else {
        merge_ordered(tree, pending, |one, other| one < other, visit)
    }
}

fn merge_ordered(
    tree: impl Iterator<Item = fjall::Guard>,
    pending: Writes,
    before: fn(&[u8], &[u8]) -> bool,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    let mut pending = pending.into_iter().peekable();
    let mut goes_on = |key: &[u8], value: Option<&[u8]>| {
        value.is_none_or(|value| visit(key, value).is_continue())
    };
    for pair in tree {
        let (key, value) = pair.into_inner().map_err(|error| wrong(&error))?;
        while let Some((earlier, value)) = pending.next_if(|(waits, _)| before(waits, &key)) {
            if !goes_on(&earlier, value.as_deref()) {
                return Ok(());
            }
        }
        let newer = pending.next_if(|(waits, _)| waits[..] == key[..]);
        let value = newer.as_ref().map_or(Some(&value[..]), |(_, value)| value.as_deref());
        if !goes_on(&key, value) {
            return Ok(());
        }
    }
    for (key, value) in pending {
        if !goes_on(&key, value.as_deref()) {
            return Ok(());
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
            if random(10) == 0 {
                // So that at times some is in the tree, and some is not.
                std::thread::sleep(GATHER);
            }
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
    fn writing_waits_when_the_tree_is_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        for number in 0..40_u32 {
            let mut batch = Batch::new();
            batch.put(number.to_be_bytes(), vec![1; 1 << 20]);
            store.write(batch).unwrap();
            assert!(store.shared.lock().bytes() <= WAITING_BYTES_MAX + (2 << 20));
        }
        store.persist().unwrap();
        assert_eq!(store.shared.lock().bytes(), 0);
        assert_eq!(store.get(&39_u32.to_be_bytes()).unwrap().unwrap().len(), 1 << 20);
    }

    #[test]
    fn what_has_gathered_counts_before_what_is_being_moved() {
        let pairs = |text: &str| -> Pairs {
            let pair = |word: &str| {
                let (key, value) = word.split_once('=').unwrap();
                let value = (value != "-").then(|| Bytes::copy_from_slice(value.as_bytes()));
                (Bytes::copy_from_slice(key.as_bytes()), value)
            };
            text.split(' ').map(pair).collect()
        };
        let pending =
            Pending { gathered: pairs("b=2 d=2 f=- h=2"), moving: Arc::new(pairs("c=1 d=1 f=1")) };
        assert_eq!(pending.get(b"b"), Some(&Some(Bytes::from("2"))));
        assert_eq!(pending.get(b"c"), Some(&Some(Bytes::from("1"))));
        assert_eq!(pending.get(b"d"), Some(&Some(Bytes::from("2"))));
        assert_eq!(pending.get(b"f"), Some(&None), "deleted");
        assert_eq!(pending.get(b"x"), None, "not in here");
        assert_eq!(pending.range(b"a", b"z"), Vec::from_iter(pairs("b=2 c=1 d=2 f=- h=2")));
        assert_eq!(pending.range(b"c", b"f"), Vec::from_iter(pairs("c=1 d=2")));
    }

    #[test]
    fn a_batch_without_writes_is_in_the_tree_with_the_one_before() {
        let mut waiting = Waiting::default();
        let mut batch = Batch::new();
        batch.put("a", "1");
        waiting.put(batch);
        waiting.moving_bytes = std::mem::take(&mut waiting.gathered_bytes);
        waiting.pending.moving = Arc::new(std::mem::take(&mut waiting.pending.gathered));
        waiting.put(Batch::new());
        assert_eq!((waiting.written, waiting.in_tree), (2, 0));
        waiting.moved(1);
        assert_eq!((waiting.in_tree, waiting.bytes()), (2, 0));
    }

    #[test]
    fn nothing_waits_for_the_tree_after_a_persist() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        let mut persister = store.persister();
        for round in 1..=20 {
            let mut batch = Batch::new();
            batch.put("a", "1");
            store.write(batch).unwrap();
            persister().unwrap();
            assert_eq!(store.shared.lock().in_tree, round);
        }
    }

    #[test]
    fn an_empty_batch_does_not_keep_anybody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        store.write(Batch::new()).unwrap();
        store.persist().unwrap();
        let mut batch = Batch::new();
        batch.put("a", "1");
        store.write(batch).unwrap();
        store.write(Batch::new()).unwrap();
        store.persist().unwrap();
    }

    #[test]
    fn what_was_written_last_is_there_after_an_orderly_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        let mut batch = Batch::new();
        batch.put("a", "1");
        store.write(batch).unwrap();
        let mut persister = store.persister();
        drop(store);
        persister().unwrap();
        drop(persister);
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
