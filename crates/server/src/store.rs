//! The state store: the layers of `storage` over fjall, a log-structured tree in pure Rust, in one
//! folder.
//!
//! It is behind the node's own log: what it lost in a crash is applied again from there. So what is
//! written stays in memory, where reads find it, until there is much of it or the state has to be
//! durable. Then a thread makes one sorted file of it and adds that file to the tree, which is
//! durable at once. The tree's own journal and its memory for writes have nothing to do.

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, PartitioningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable, Snapshot};
use storage::{Batch, Layers, Reader, Run, StateStore, StoreError, Tables, Visit};

/// The blocks of its files that are kept in memory, in bytes. The system keeps the files' pages as
/// well, so this mostly saves the unpacking.
const CACHE_BYTES: u64 = 4 << 20;

/// How much is unpacked to read one value, in bytes.
const BLOCK_BYTES: u32 = 4 << 10;

/// How long a file gets when files are merged, in bytes. With longer ones each merge would read and
/// write more that has not changed.
const FILE_BYTES: u64 = 8 << 20;

/// How many of its files it keeps open.
const OPEN_FILES_MAX: usize = 128;

/// The threads that merge files. With two of them, one does nothing but pass the work to the other,
/// over and over, as long as that is busy.
const WORKERS: usize = 1;

/// How many bytes may have gathered in memory before they are moved to the tree. A routine persist
/// mostly comes first.
const RUN_BYTES: usize = 16 << 20;

/// How many bytes may be in memory, with those that are on their way to the tree. When there are
/// more, writing waits.
const TABLES_BYTES_MAX: usize = 48 << 20;

/// When nothing was written for so long, what has gathered is moved, and its memory given back.
const QUIET: Duration = Duration::from_secs(2);

/// How many files may wait to be merged before the next one waits for them.
const FILES_UNMERGED_MAX: usize = 16;

/// How long it waits for them, one time after the other, and how often at most: it gets slow then,
/// but does not stand still.
const MERGE_WAIT: Duration = Duration::from_millis(5);
const MERGE_WAITS_MAX: usize = 200;

/// So much more than a run must be free before it is moved, in bytes: what was begun and found no room stays
/// there, and takes room, until the tree is opened anew.
const ROOM_BYTES: u64 = 4 << 20;

/// How often it is looked whether there is room.
const FULL_PAUSE: Duration = Duration::from_millis(200);

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
    folder: PathBuf,
    database: Database,
    keyspace: Keyspace,
}

/// How the store is, for whoever watches the disk.
#[derive(Clone)]
pub(crate) struct StoreHealth(Arc<Shared>);

/// What is to be known of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreState {
    /// What it has in memory is not moved to the disk, as there is no room.
    pub(crate) is_full: bool,
    /// It merges no files any more, as one merge found no room, until it is opened anew.
    pub(crate) is_worn: bool,
    /// What it has in memory, in bytes.
    pub(crate) waiting_bytes: u64,
}

impl StoreHealth {
    pub(crate) fn look(&self) -> StoreState {
        let waiting = self.0.lock();
        let waiting_bytes = u64::try_from(waiting.layers.bytes()).expect("a length fits");
        StoreState { waiting_bytes, ..waiting.state }
    }
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something is waiting.
    work: Condvar,
    /// Something was moved, or that has failed.
    moved: Condvar,
}

/// What waits for the tree.
#[derive(Default)]
struct Waiting {
    layers: Layers,
    /// Somebody waits for it.
    urgent: bool,
    closed: bool,
    state: StoreState,
    failed: Option<StoreError>,
}

impl FjallStore {
    /// Opens the store in that folder, or makes one.
    ///
    /// # Errors
    /// When it cannot be opened, or another process has it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let tree = unharmed(|| Tree::open(folder))?;
        sync_folders(folder).map_err(|error| {
            StoreError::failed(format!("{} cannot be synced: {error}", folder.display()))
        })?;
        let shared = Arc::new(Shared::default());
        let (its_tree, its_shared) = (tree.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("amrita-state".into());
        let thread = thread
            .spawn(move || its_shared.serve(&its_tree))
            .map_err(|error| StoreError::failed(format!("no thread can be started: {error}")))?;
        Ok(Self { tree, shared, thread: Some(thread) })
    }

    pub(crate) fn health(&self) -> StoreHealth {
        StoreHealth(Arc::clone(&self.shared))
    }
}

impl Drop for FjallStore {
    /// What was written gets into the tree.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread catches its panics");
        }
    }
}

/// The library syncs what it writes, but not the name of the folder of a new keyspace: when the power
/// failed soon after the first start, the store was not found any more.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    fs::File::open(folder)?.sync_all()
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        // In one piece they would be pinned in memory or push everything else out of the cache.
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(FILE_BYTES)))
}

fn is_full(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io))) = error else {
        return false;
    };
    matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn wrong(error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::failed("another process has it open"),
        fjall::Error::Poisoned => {
            StoreError::failed("an earlier write to the disk has failed; is it full?")
        }
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io))
            if !matches!(io.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) =>
        {
            StoreError::failed(io.to_string())
        }
        // Files are missing or cut, or are not what was written.
        other => StoreError::damaged(other.to_string()),
    }
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
            Err(_) => {
                Some(StoreError::failed("it has panicked, see the output of the node".to_owned()))
            }
        };
        self.lock().failed = failed;
        self.moved.notify_all();
    }

    fn move_all(&self, tree: &Tree) -> Result<(), StoreError> {
        while let Some(run) = self.take() {
            self.add(tree, &run)?;
            self.lock().layers.end_run(&run);
            self.moved.notify_all();
            // The memory is given back here, while nobody waits for the lock.
            drop(run);
        }
        Ok(())
    }

    /// Moves a run as soon as there is room. Reads find it in memory meanwhile.
    fn add(&self, tree: &Tree, run: &Run) -> Result<(), StoreError> {
        loop {
            let is_worn = tree.wait_for_merges()?;
            self.lock().state.is_worn |= is_worn;
            let bytes = u64::try_from(self.lock().layers.bytes()).expect("a length fits");
            if tree.has_room_for(bytes) {
                match tree.add(run) {
                    Err(error) if is_full(&error) => {}
                    added => {
                        self.lock().state.is_full = false;
                        return added.map_err(|error| wrong(&error));
                    }
                }
            }
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(StoreError::failed("the disk is full"));
            }
            waiting.state.is_full = true;
            // Nobody is kept waiting for room in memory: the log takes nothing more before long.
            self.moved.notify_all();
            let is_open = |waiting: &mut Waiting| !waiting.closed;
            drop(self.work.wait_timeout_while(waiting, FULL_PAUSE, is_open).expect(NO_PANIC));
        }
    }

    /// All that waits, when there is enough of it or somebody waits for it. It stays where reads
    /// find it. Nothing when the store is closed and nothing is left.
    fn take(&self) -> Option<Run> {
        let mut waiting = self.lock();
        loop {
            let nothing = |waiting: &mut Waiting| !waiting.has_work() && !waiting.closed;
            waiting = self.work.wait_while(waiting, nothing).expect(NO_PANIC);
            let seen = waiting.layers.written();
            let little = |waiting: &mut Waiting| {
                waiting.layers.waiting_bytes() < RUN_BYTES && !waiting.urgent && !waiting.closed
            };
            let (guard, timeout) =
                self.work.wait_timeout_while(waiting, QUIET, little).expect(NO_PANIC);
            waiting = guard;
            if timeout.timed_out() && waiting.layers.written() != seen {
                continue;
            }
            waiting.urgent = false;
            let run = waiting.layers.begin_run();
            if run.is_some() || waiting.closed {
                return run;
            }
        }
    }

    /// Waits until all that was written is in the tree, where it is durable.
    fn drain(&self) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        let target = waiting.layers.written();
        waiting.urgent = waiting.layers.in_tree() < target;
        self.work.notify_one();
        let behind =
            |waiting: &mut Waiting| waiting.layers.in_tree() < target && waiting.failed.is_none();
        self.moved.wait_while(waiting, behind).expect(NO_PANIC).check()
    }
}

const NO_PANIC: &str = "no one panics while holding what waits";

impl Waiting {
    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn has_work(&self) -> bool {
        self.layers.waiting_bytes() > 0
    }
}

/// The tree's library takes some damage for a mistake of its own, and panics.
fn unharmed<T>(read: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| wrong(&error)),
        Err(_) => Err(StoreError::damaged("it cannot be read, see the output of the node")),
    }
}

impl Tree {
    fn open(folder: &Path) -> fjall::Result<Self> {
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(WORKERS)
            .open()?;
        let keyspace = database.keyspace(KEYSPACE, options)?;
        Ok(Self { folder: folder.to_owned(), database, keyspace })
    }

    /// Makes a file of the run and adds it to the tree, durably.
    fn add(&self, run: &Run) -> fjall::Result<()> {
        let mut file = self.keyspace.start_ingestion()?;
        run.each(|key, value| match value {
            Some(value) => file.write(key, value),
            None => file.write_tombstone(key),
        })?;
        file.finish()
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        // A disk that does not even answer this will be noticed by the write.
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return true };
        disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes + ROOM_BYTES
    }

    /// True when nothing is merged any more. The files are all there, and more can be added.
    fn wait_for_merges(&self) -> Result<bool, StoreError> {
        for _ in 0..MERGE_WAITS_MAX {
            // When the thread that merges has failed, this says so.
            match self.database.persist(PersistMode::Buffer) {
                Err(fjall::Error::Poisoned) => return Ok(true),
                Err(error) if is_full(&error) => break,
                said => said.map_err(|error| wrong(&error))?,
            }
            if self.keyspace.l0_table_count() < FILES_UNMERGED_MAX {
                break;
            }
            std::thread::sleep(MERGE_WAIT);
        }
        Ok(false)
    }
}

impl Reader for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let waiting = self.shared.lock();
        waiting.check()?;
        if let Some(value) = waiting.layers.get(key) {
            return Ok(value.map(<[u8]>::to_vec));
        }
        drop(waiting);
        let found = unharmed(|| self.tree.keyspace.get(key))?;
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
        if from >= to {
            return Ok(());
        }
        let waiting = self.shared.lock();
        waiting.check()?;
        let tables = waiting.layers.tables();
        drop(waiting);
        scan(&tables, self.tree.keyspace.range(from..to), (from, to), reverse, visit)
    }
}

impl StateStore for FjallStore {
    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        let full = |waiting: &mut Waiting| {
            waiting.layers.bytes() > TABLES_BYTES_MAX
                && waiting.failed.is_none()
                && !waiting.state.is_full
        };
        let mut waiting = self.shared.moved.wait_while(self.shared.lock(), full).expect(NO_PANIC);
        waiting.check()?;
        let before = waiting.layers.waiting_bytes();
        waiting.layers.write(batch);
        let after = waiting.layers.waiting_bytes();
        if before == 0 || (before < RUN_BYTES && after >= RUN_BYTES) {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn view(&self) -> Box<dyn Reader + Send> {
        let mut waiting = self.shared.lock();
        let tables = waiting.layers.view();
        if waiting.layers.is_crowded() {
            // The next view would be followed by a copy of the table that is written to.
            waiting.urgent = true;
            self.shared.work.notify_one();
        }
        // While the lock is held nothing is forgotten, so what is not in the tables is in the tree.
        let snapshot = self.tree.database.snapshot();
        drop(waiting);
        Box::new(View { tables, snapshot, keyspace: self.tree.keyspace.clone() })
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.shared.drain()
    }

    fn persister(&self) -> storage::Persister {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.drain())
    }
}

/// The store as it was.
struct View {
    tables: Tables,
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.tables.get(key) {
            return Ok(value.map(<[u8]>::to_vec));
        }
        let found = unharmed(|| self.snapshot.get(&self.keyspace, key))?;
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
        let range = self.snapshot.range(&self.keyspace, from..to);
        scan(&self.tables, range, (from, to), reverse, visit)
    }
}

/// Visits the pairs of the tree, with those of the tables in their place.
fn scan(
    tables: &Tables,
    tree: fjall::Iter,
    range: (&[u8], &[u8]),
    reverse: bool,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    let mut tree = tree;
    let mut next = || {
        let next = if reverse { tree.next_back() } else { tree.next() };
        next.map(fjall::Guard::into_inner).transpose()
    };
    let pairs = std::iter::from_fn(|| unharmed(&mut next).transpose());
    tables.scan(range, reverse, pairs, visit)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::PathBuf;

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
        let mut held = None;
        for round in 0..400 {
            if round % 40 == 0 {
                held = Some((real.view(), all(&memory, &[0], &[9], false)));
            }
            if let Some((view, then)) = &held {
                assert_eq!(&all(view.as_ref(), &[0], &[9], false), then, "round {round}");
            }
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
                real.persist().unwrap();
            }
            if round % 90 == 50 {
                held = None;
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
    fn what_was_persisted_is_there_after_a_crash_and_what_came_later_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(&folder.path().join("store")).unwrap();
        // Few, so that no files are merged while they are copied.
        for round in 0..3_u8 {
            for number in 0..3 {
                let mut batch = Batch::new();
                batch.put("a", [round, number]);
                batch.put([b'b', round], [number]);
                batch.delete([b'b', round.wrapping_sub(1)]);
                store.write(batch).unwrap();
                if number == 1 {
                    store.persist().unwrap();
                }
            }
            // What is on the disk now is what a crash would leave.
            let copy = folder.path().join(format!("copy-{round}"));
            copy_at_one_moment(&folder.path().join("store"), &copy);
            let copy = FjallStore::open(&copy).unwrap();
            let found = copy.get(b"a").unwrap().unwrap();
            assert!(found == [round, 1] || found == [round, 2], "round {round}: {found:?}");
            let all = all(&copy, b"b", b"c", false);
            assert_eq!(all, [(vec![b'b', round], vec![found[1]])], "round {round}");
        }
    }

    /// Copies the folder again until nothing in it changed meanwhile: the tree names files anew
    /// from a thread of its own, and a crash sees one moment.
    fn copy_at_one_moment(from: &Path, to: &Path) {
        for _ in 0..1_000 {
            let before = files_of(from);
            let copied = copy_folder(from, to);
            if copied.is_ok()
                && before.is_ok_and(|before| files_of(from).is_ok_and(|now| now == before))
            {
                return;
            }
            fs::remove_dir_all(to).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the folder never stood still");
    }

    /// The folder's files, also those in its folders, each with its length in bytes.
    fn files_of(folder: &Path) -> std::io::Result<std::collections::BTreeMap<PathBuf, u64>> {
        let mut files = std::collections::BTreeMap::new();
        for file in fs::read_dir(folder)? {
            let file = file?;
            if file.file_type()?.is_dir() {
                files.append(&mut files_of(&file.path())?);
            } else {
                files.insert(file.path(), file.metadata()?.len());
            }
        }
        Ok(files)
    }

    fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
        fs::create_dir(to)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            let to = to.join(file.file_name());
            if file.file_type()?.is_dir() {
                copy_folder(&file.path(), &to)?;
            } else {
                fs::copy(file.path(), to)?;
            }
        }
        Ok(())
    }

    #[test]
    fn writing_waits_when_the_tree_is_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(folder.path()).unwrap();
        for number in 0..100_u32 {
            let mut batch = Batch::new();
            batch.put(number.to_be_bytes(), vec![1; 1 << 20]);
            store.write(batch).unwrap();
            assert!(store.shared.lock().layers.bytes() <= TABLES_BYTES_MAX + (2 << 20));
        }
        store.persist().unwrap();
        assert_eq!(store.shared.lock().layers.bytes(), 0);
        assert_eq!(store.get(&99_u32.to_be_bytes()).unwrap().unwrap().len(), 1 << 20);
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
            assert_eq!(store.shared.lock().layers.in_tree(), round);
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
        assert!(error.why.contains("another process"), "{error}");
    }
}
