//! The state store: the layers of `storage` over fjall, a log-structured tree in pure Rust, in one
//! folder.
//!
//! It is behind the node's own log: what it lost in a crash is applied again from there. So what is
//! written stays in memory, where reads find it, until there is much of it or the state has to be
//! durable. Then a thread makes one sorted file of it and adds that file to the tree, which is
//! durable at once. The tree's own journal and its memory for writes have nothing to do.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use storage::{Batch, Layers, Reader, Run, Sealer, StateStore, StoreError, Tables, Visit};

use crate::tree::{Tree, TreeView};
use crate::tree_errors::Added;

/// How many bytes may have gathered in memory before they are moved to the tree. A routine persist
/// mostly comes first.
const RUN_BYTES: usize = 16 << 20;

/// How many bytes may be in memory, with those that are on their way to the tree. When there are
/// more, writing waits.
const TABLES_BYTES_MAX: usize = 48 << 20;

/// When nothing was written for so long, what has gathered is moved, and its memory given back.
const QUIET: Duration = Duration::from_secs(2);

/// How often it is looked whether there is room.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// The state of all groups of a node.
pub struct FjallStore {
    tree: Tree,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
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
        Self::open_with(folder, None)
    }

    /// The same for an encrypted store: `sealer` has its key. It must not have sealed anything for
    /// another store.
    ///
    /// # Errors
    /// Also when the store is encrypted and there is no sealer, or the other way round.
    pub fn open_with(folder: &Path, sealer: Option<Sealer>) -> Result<Self, StoreError> {
        let tree = Tree::open(folder, sealer)?;
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

    /// As `write`, for somebody who writes on and on and can give up: without room on the disk it
    /// is an error, as all of it would have to stay in memory.
    pub(crate) fn write_if_room(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.write(batch)?;
        self.shared.lock().check_room()
    }

    /// As `persist`, but does not wait for somebody to make room.
    pub(crate) fn persist_if_room(&mut self) -> Result<(), StoreError> {
        self.shared.drain_while(|waiting| !waiting.state.is_full)?;
        self.shared.lock().check_room()
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

/// The library syncs what it writes, but not the name of the folder of a new keyspace: when the
/// power failed soon after the first start, the store was not found any more.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    crate::disk::sync_folder(folder)
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
                    Ok(Added::NoRoom) => {}
                    added => {
                        self.lock().state.is_full = false;
                        return added.map(drop);
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
        self.drain_while(|_| true)
    }

    /// The same as long as that holds.
    fn drain_while(&self, waits: impl Fn(&Waiting) -> bool) -> Result<(), StoreError> {
        let mut waiting = self.lock();
        let target = waiting.layers.written();
        waiting.urgent = waiting.layers.in_tree() < target;
        self.work.notify_one();
        let behind = |waiting: &mut Waiting| {
            waiting.layers.in_tree() < target && waiting.failed.is_none() && waits(waiting)
        };
        self.moved.wait_while(waiting, behind).expect(NO_PANIC).check()
    }
}

const NO_PANIC: &str = "no one panics while holding what waits";

impl Waiting {
    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn check_room(&self) -> Result<(), StoreError> {
        if self.state.is_full && self.layers.in_tree() < self.layers.written() {
            return Err(StoreError::failed("the disk has no room for it".to_owned()));
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        self.layers.waiting_bytes() > 0
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
        self.tree.get(key)
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
        self.tree.scan(&tables, (from, to), reverse, visit)
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
        let tree = self.tree.view();
        drop(waiting);
        Box::new(View { tables, tree })
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
    tree: TreeView,
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.tables.get(key) {
            return Ok(value.map(<[u8]>::to_vec));
        }
        self.tree.get(key)
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
        self.tree.scan(&self.tables, (from, to), reverse, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::PathBuf;

    use storage::{DataKey, MemoryStore};

    use super::*;
    use crate::keyring::sealer;

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

    fn open(folder: &Path, sealed: bool) -> FjallStore {
        let sealer = sealed.then(|| sealer(&DataKey::new(&[4; 32])));
        FjallStore::open_with(folder, sealer).unwrap()
    }

    #[test]
    fn it_does_what_the_store_in_memory_does() {
        does_what_the_store_in_memory_does(false);
    }

    #[test]
    fn an_encrypted_one_does_what_the_store_in_memory_does() {
        does_what_the_store_in_memory_does(true);
    }

    fn does_what_the_store_in_memory_does(sealed: bool) {
        let folder = tempfile::tempdir().unwrap();
        let mut real = open(folder.path(), sealed);
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
                    // Some are as long as a page and more.
                    let length = if random(9) == 0 { random(20_000) } else { random(300) };
                    let value = random(1 << 30).to_le_bytes();
                    let count = usize::try_from(length).unwrap() / value.len() + 1;
                    batch.put(key, value.repeat(count));
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
                real = open(folder.path(), sealed);
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
        for sealed in [false, true] {
            what_was_persisted_is_there_after_a_crash(sealed);
        }
    }

    fn what_was_persisted_is_there_after_a_crash(sealed: bool) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder.path().join("store"), sealed);
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
            let copy = open(&copy, sealed);
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
    fn who_can_give_up_is_told_that_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder.path().join("store"), true);
        // As if the disk were full, with nobody who moves what waits.
        let mut batch = Batch::new();
        batch.put("a", "b");
        store.write(batch.clone()).unwrap();
        store.persist_if_room().unwrap();
        store.shared.lock().state.is_full = true;
        let stuck = store.write_if_room(batch).and_then(|()| store.persist_if_room());
        let why = stuck.unwrap_err().to_string();
        assert!(why.contains("no room"), "{why}");
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

    /// All files of a folder, and of those in it.
    fn content_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let files = files_of(folder).unwrap();
        files.into_keys().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
    }

    #[test]
    fn the_files_of_an_encrypted_store_show_neither_keys_nor_values() {
        for (sealed, shown) in [(false, true), (true, false)] {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(folder.path(), sealed);
            for round in 0..40_u32 {
                let mut batch = Batch::new();
                for number in 0..200_u32 {
                    let key = format!("planted-key-{}-{number}", number % 7 * 31 + round);
                    batch.put(key, format!("planted-value-{round}-{number}").repeat(3));
                }
                store.write(batch).unwrap();
                store.persist().unwrap();
            }
            drop(store);
            let files = content_of(folder.path());
            let is_shown =
                files.iter().any(|(_, file)| file.windows(8).any(|part| part == b"planted-"));
            assert_eq!(is_shown, shown);
        }
    }

    #[test]
    fn a_store_that_is_not_what_it_should_be_is_no_damage() {
        for sealed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            drop(open(folder.path(), sealed));
            let other = (!sealed).then(|| sealer(&DataKey::new(&[4; 32])));
            let error = FjallStore::open_with(folder.path(), other).err().unwrap();
            assert!(!error.is_damage, "{error}");
            drop(open(folder.path(), sealed));
        }
    }

    /// When this fails with a newer library, raise the format of `node.json`.
    #[test]
    fn a_store_of_a_later_version_is_no_damage_and_is_not_touched() {
        for sealed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            drop(open(folder.path(), sealed));
            let mark = folder.path().join("version");
            assert_eq!(fs::read(&mark).unwrap(), b"FJL\x03");
            fs::write(&mark, b"FJL\x04 and more").unwrap();
            let before = content_of(folder.path());
            let key = sealed.then(|| sealer(&DataKey::new(&[4; 32])));
            let error = FjallStore::open_with(folder.path(), key).err().unwrap();
            assert!(!error.is_damage && error.why.contains("format 4"), "{error}");
            assert_eq!(content_of(folder.path()), before);
            fs::write(&mark, b"FJL").unwrap();
            let error = FjallStore::open_with(folder.path(), None).err().unwrap();
            assert!(error.is_damage, "a mark that was cut: {error}");
        }
    }

    #[test]
    fn a_changed_byte_of_an_encrypted_store_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole");
        let mut store = open(&whole, true);
        let mut batch = Batch::new();
        for number in 0..2_000_u32 {
            batch.put(number.to_be_bytes(), [7; 40]);
        }
        store.write(batch).unwrap();
        store.persist().unwrap();
        drop(store);
        // Not the journal, which is long and empty.
        let length = |content: &[u8]| content.iter().filter(|byte| **byte != 0).count();
        let (file, content) =
            content_of(&whole).into_iter().max_by_key(|(_, content)| length(content)).unwrap();
        let mut damaged = 0;
        for part in 1..20 {
            let mut changed = content.clone();
            changed[content.len() / 20 * part] ^= 4;
            fs::write(&file, &changed).unwrap();
            let opened = FjallStore::open_with(&whole, Some(sealer(&DataKey::new(&[4; 32]))));
            let read = opened.and_then(|store| {
                let mut count = 0;
                store.scan(b"", &[0xff; 8], false, &mut |_, value| {
                    assert_eq!(value, [7; 40]);
                    count += 1;
                    ControlFlow::Continue(())
                })?;
                Ok(count)
            });
            match read {
                Ok(count) => assert_eq!(count, 2_000),
                Err(error) => {
                    assert!(error.is_damage, "{error}");
                    damaged += 1;
                }
            }
        }
        assert!(damaged > 10, "only {damaged} were noticed");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _store = FjallStore::open(folder.path()).unwrap();
        let error = FjallStore::open(folder.path()).err().unwrap();
        assert!(error.why.contains("another process"), "{error}");
    }
}
