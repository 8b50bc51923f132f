//! The tree of the state store: fjall, in one folder. Its own form has the keys and values as they
//! are; the encrypted one has sealed pages.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, CompressionPolicy, PartitioningPolicy};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot,
};
use storage::{Run, Sealer, StoreError, Tables, Visit};

use crate::pages::{PageView, Pages};
use crate::tree_errors::{Added, check_format, is_full, unharmed, wrong};

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

/// How many files may wait to be merged before the next one waits for them.
const FILES_UNMERGED_MAX: usize = 16;

/// How long it waits for them, one time after the other, and how often at most: it gets slow then,
/// but does not stand still.
const MERGE_WAIT: Duration = Duration::from_millis(5);
const MERGE_WAITS_MAX: usize = 200;

/// So much more than a run must be free before it is moved, in bytes: what was begun and found no
/// room stays there, and takes room, until the tree is opened anew.
const ROOM_BYTES: u64 = 4 << 20;

/// The one keyspace, where the keys of all groups are.
const KEYSPACE: &str = "state";

/// The one of an encrypted store, where its pages are.
const PAGES: &str = "pages";

#[derive(Clone)]
pub(crate) struct Tree {
    folder: PathBuf,
    database: Database,
    keyspace: Keyspace,
    /// Of an encrypted tree.
    pages: Option<Arc<Pages>>,
}

/// The tree as it was.
pub(crate) enum TreeView {
    Clear(Snapshot, Keyspace),
    Sealed(Arc<PageView>),
}

impl TreeView {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sealed(view) => view.get(key),
            Self::Clear(snapshot, keyspace) => {
                let found = unharmed(|| snapshot.get(keyspace, key))?;
                Ok(found.map(|value| value.to_vec()))
            }
        }
    }

    pub(crate) fn scan(
        &self,
        tables: &Tables,
        range: (&[u8], &[u8]),
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sealed(view) => view.scan(tables, range, reverse, visit),
            Self::Clear(snapshot, keyspace) => {
                let tree = snapshot.range(keyspace, range.0..range.1);
                scan(tables, tree, range, reverse, visit)
            }
        }
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        // In one piece they would be pinned in memory or push everything else out of the cache.
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(FILE_BYTES)))
}

/// What is encrypted is as long when it is compressed.
fn page_options() -> KeyspaceCreateOptions {
    let none = || CompressionPolicy::all(CompressionType::None);
    options().data_block_compression_policy(none()).index_block_compression_policy(none())
}

impl Tree {
    /// With a sealer it is an encrypted one.
    pub(crate) fn open(folder: &Path, sealer: Option<Sealer>) -> Result<Self, StoreError> {
        let (name, other) = if sealer.is_some() { (PAGES, KEYSPACE) } else { (KEYSPACE, PAGES) };
        let make: fn() -> KeyspaceCreateOptions = match &sealer {
            Some(_) => page_options,
            None => options,
        };
        check_format(folder)?;
        let (database, keyspace) = unharmed(|| {
            let database = Database::builder(folder)
                .cache_size(CACHE_BYTES)
                .max_cached_files(Some(OPEN_FILES_MAX))
                .worker_threads(WORKERS)
                .open()?;
            if database.keyspace_exists(other) {
                return Ok((database, None));
            }
            let keyspace = database.keyspace(name, make)?;
            Ok((database, Some(keyspace)))
        })?;
        let Some(keyspace) = keyspace else {
            let is = if sealer.is_some() { "is not encrypted" } else { "is encrypted" };
            return Err(StoreError::failed(format!("it {is}, and the log is otherwise")));
        };
        let pages = sealer.map(|sealer| Pages::open(&database, &keyspace, sealer)).transpose()?;
        Ok(Self { folder: folder.to_owned(), database, keyspace, pages: pages.map(Arc::new) })
    }

    /// Makes a file of the run and adds it to the tree, durably.
    pub(crate) fn add(&self, run: &Run) -> Result<Added, StoreError> {
        if let Some(pages) = &self.pages {
            return pages.add(run, |bytes| self.has_room_for(bytes));
        }
        match self.add_in_clear(run) {
            Err(error) if is_full(&error) => Ok(Added::NoRoom),
            added => added.map(|()| Added::Yes).map_err(|error| wrong(&error)),
        }
    }

    fn add_in_clear(&self, run: &Run) -> fjall::Result<()> {
        let mut file = self.keyspace.start_ingestion()?;
        run.each(|key, value| match value {
            Some(value) => file.write(key, value),
            None => file.write_tombstone(key),
        })?;
        file.finish()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(pages) = &self.pages {
            return pages.view().get(key);
        }
        let found = unharmed(|| self.keyspace.get(key))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Visits the pairs of the tree, with those of the tables in their place.
    pub(crate) fn scan(
        &self,
        tables: &Tables,
        range: (&[u8], &[u8]),
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        if let Some(pages) = &self.pages {
            return pages.view().scan(tables, range, reverse, visit);
        }
        scan(tables, self.keyspace.range(range.0..range.1), range, reverse, visit)
    }

    /// The tree as it is; what is added later does not change it.
    pub(crate) fn view(&self) -> TreeView {
        match &self.pages {
            Some(pages) => TreeView::Sealed(pages.view()),
            None => TreeView::Clear(self.database.snapshot(), self.keyspace.clone()),
        }
    }

    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        // A disk that does not even answer this will be noticed by the write.
        let Ok(disk) = rustix::fs::statvfs(&self.folder) else { return true };
        disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes + ROOM_BYTES
    }

    /// True when nothing is merged any more. The files are all there, and more can be added.
    pub(crate) fn wait_for_merges(&self) -> Result<bool, StoreError> {
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
