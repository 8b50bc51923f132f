//! The index follows behind the documents.
//!
//! Applying a command only marks a link as dirty, and sees to it that the version which the index
//! reflects can still be read: the mark names it, or holds it when the version itself goes. The
//! steps of [`Partition::index`] then take out what that version had and put in what the latest
//! has. Each step is one batch, so after a crash marks and postings still agree.
//!
//! The state of the index is a key of its own. Where it is absent (a new partition, a snapshot
//! that came in, an index that was thrown away) all postings are cleared and made from the
//! documents, in order of links. Links behind that front need no marks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use storage::{Batch, Reader, Space, StateStore, StoreError};

use crate::apply::plain;
use crate::cache::Head;
use crate::family;
use crate::fields::{Fields, postings};
use crate::partition::Partition;
use crate::record::{Record, put_number, take_number};

/// The form of postings and marks. An index of another form is thrown away.
const FORMAT: u8 = 1;

/// How many documents the index may be behind while the partition is written to. A document that
/// is written again and again is indexed once for all of it, when that ends or a query comes.
const BEHIND_MAX: usize = 4096;

/// How many keys are cleared for each document of a step's budget.
const CLEARED_PER_DOCUMENT: usize = 16;

/// The first byte of a mark.
const MARK_NOTHING: u8 = 0;
const MARK_VERSION: u8 = 1;
const MARK_STASHED: u8 = 2;

/// The bounds of the index: constants, but for tests. What was indexed under others must be thrown
/// away, so a change needs another [`FORMAT`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many dirty links are kept in memory. The others are found in the store.
    pub(crate) pending: usize,
    /// How many documents it may be behind while documents are written.
    pub(crate) behind: usize,
    /// How many fields a partition's index knows. Those that come later are not in it: queries
    /// on them look at the documents.
    pub(crate) fields: usize,
    /// How many leaves of a document are in the index. A document with more is listed apart and
    /// looked at by every query.
    pub(crate) leaves: usize,
    /// How many postings are counted of each clause, in turn, to find a short one (see `plan`).
    pub(crate) listed: [usize; 3],
}

impl Bounds {
    pub(crate) const USUAL: Self = Self {
        pending: 65_536,
        behind: BEHIND_MAX,
        fields: 4096,
        leaves: 1024,
        listed: [128, 2048, 32_768],
    };
}

#[derive(Debug)]
pub(crate) struct Index {
    progress: Progress,
    pub(crate) bounds: Bounds,
    pub(crate) fields: Fields,
    /// Dirty links. All of them, unless some were spilled.
    pending: BTreeMap<String, Mark>,
    /// There may be marks in the store that are not in `pending`.
    is_spilled: bool,
    /// A document was written since [`Partition::index_at_leisure`] was last called.
    is_written: bool,
    /// Another after each time that postings were thrown away.
    pub(crate) life: u64,
}

/// How far the index has come.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// There may be remains of an old one.
    Absent,
    /// All links up to this one (none, if empty) were indexed; marks exist for these only.
    Building {
        after: String,
    },
    Complete,
}

/// What the index holds of a dirty link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Nothing,
    /// What this retained version has.
    Version(u64),
    /// What the document in the mark has.
    Stashed,
}

impl Mark {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (&tag, mut rest) = bytes.split_first()?;
        match tag {
            MARK_NOTHING => Some(Self::Nothing),
            MARK_VERSION => take_number(&mut rest).map(Self::Version),
            MARK_STASHED => Some(Self::Stashed),
            _ => None,
        }
    }
}

impl Progress {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        if let Self::Building { after } = self {
            bytes.push(0);
            bytes.extend_from_slice(after.as_bytes());
        }
        bytes
    }

    /// `Absent` for anything that it does not know.
    fn decode(bytes: &[u8]) -> Self {
        match bytes {
            [FORMAT] => Self::Complete,
            [FORMAT, 0, after @ ..] => std::str::from_utf8(after)
                .map_or(Self::Absent, |after| Self::Building { after: after.to_owned() }),
            _ => Self::Absent,
        }
    }
}

impl Index {
    pub(crate) fn open(store: &dyn Reader, space: Space) -> Result<Self, StoreError> {
        let state = store.get(&space.key(family::INDEX_STATE, b""))?;
        let progress = state.map_or(Progress::Absent, |bytes| Progress::decode(&bytes));
        let fields = Fields::open(store, space)?;
        let pending = BTreeMap::new();
        let bounds = Bounds::USUAL;
        let (is_spilled, is_written) = (true, false);
        let mut index = Self { progress, bounds, fields, pending, is_spilled, is_written, life: 0 };
        index.load(store, space)?;
        Ok(index)
    }

    fn postings(&mut self, space: Space, batch: &mut Batch, record: &Record<'_>) -> Vec<Vec<u8>> {
        postings(&mut self.fields, self.bounds, space, batch, record)
    }

    /// There may be fields in documents that it has no number for.
    pub(crate) fn is_short_of_fields(&self) -> bool {
        self.fields.count() >= self.bounds.fields
    }

    /// Everything that was applied is in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.progress == Progress::Complete && self.pending.is_empty() && !self.is_spilled
    }

    /// A change of this document has to be marked.
    pub(crate) fn is_watched(&self, link: &str) -> bool {
        match &self.progress {
            Progress::Absent => false,
            Progress::Building { after } => link <= after.as_str(),
            Progress::Complete => true,
        }
    }

    fn mark(
        &self,
        store: &dyn Reader,
        space: Space,
        link: &str,
    ) -> Result<Option<Mark>, StoreError> {
        match self.pending.get(link) {
            Some(mark) => Ok(Some(*mark)),
            None if self.is_spilled => {
                let bytes = store.get(&space.key(family::DIRTY, link.as_bytes()))?;
                Ok(bytes.and_then(|bytes| Mark::of(&bytes)))
            }
            None => Ok(None),
        }
    }

    fn remember(&mut self, link: &str, mark: Mark) {
        if self.pending.len() < self.bounds.pending || self.pending.contains_key(link) {
            self.pending.insert(link.to_owned(), mark);
        } else {
            self.is_spilled = true;
        }
    }

    /// Takes dirty links from the store, when some may be there and there is room for all.
    fn load(&mut self, store: &dyn Reader, space: Space) -> Result<(), StoreError> {
        if !self.is_spilled || !self.pending.is_empty() {
            return Ok(());
        }
        self.is_spilled = false;
        let (from, to) = space.range(family::DIRTY);
        store.scan(&from, &to, false, &mut |key, value| {
            if self.pending.len() == self.bounds.pending {
                self.is_spilled = true;
                return ControlFlow::Break(());
            }
            let link = String::from_utf8_lossy(space.rest(key)).into_owned();
            self.pending.insert(link, Mark::of(value).unwrap_or(Mark::Nothing));
            ControlFlow::Continue(())
        })
    }
}

impl Partition {
    /// Before `new` takes the place of `old`: marks the link, so that what the index holds of it
    /// can be taken out later.
    pub(crate) fn index_keep(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        link: &str,
        old: Option<&Head>,
        new: Option<&Head>,
    ) -> Result<(), StoreError> {
        self.index.is_written = true;
        let version = |head: Option<&Head>| head.map(|head| head.document.version);
        let oldest = new.map_or(u64::MAX, |new| new.oldest);
        let mut value = Vec::new();
        let known = self.index.mark(store, self.space, link)?;
        let mark = match (known, old) {
            // Only the history got shorter.
            (None, _) if version(old) == version(new) => return Ok(()),
            (None, None) => Mark::Nothing,
            (None, Some(old)) if old.document.version >= oldest => {
                Mark::Version(old.document.version)
            }
            (None, Some(old)) => {
                value = plain(&old.document).encode(&self.names);
                Mark::Stashed
            }
            (Some(Mark::Version(kept)), _) if kept < oldest => {
                let document = self.retained(store, link, kept)?;
                value = plain(&document).encode(&self.names);
                Mark::Stashed
            }
            (Some(_), _) => return Ok(()),
        };
        let mut bytes = Vec::with_capacity(value.len() + 10);
        match mark {
            Mark::Nothing => bytes.push(MARK_NOTHING),
            Mark::Version(version) => {
                bytes.push(MARK_VERSION);
                put_number(&mut bytes, version);
            }
            Mark::Stashed => {
                bytes.push(MARK_STASHED);
                bytes.append(&mut value);
            }
        }
        let key = self.space.key(family::DIRTY, link.as_bytes());
        if known.is_some() {
            batch.put(key, bytes);
        } else {
            batch.put_new(key, bytes);
        }
        self.index.remember(link, mark);
        Ok(())
    }

    /// Brings the index further: about `budget` documents. True when nothing is left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn index(&mut self, store: &mut dyn StateStore, budget: usize) -> Result<bool, StoreError> {
        let budget = budget.max(1);
        let mut batch = Batch::new();
        match &self.index.progress {
            Progress::Absent => self.index_clear(&*store, &mut batch, budget)?,
            Progress::Building { after } => {
                let after = after.clone();
                self.index_build(&*store, &mut batch, &after, budget)?;
            }
            Progress::Complete => self.index_follow(&*store, &mut batch, budget)?,
        }
        if !batch.is_empty() {
            store.write(batch)?;
        }
        self.index.load(&*store, self.space)?;
        Ok(self.index.is_complete())
    }

    /// The same from time to time, when nobody waits for it: while documents are written it waits,
    /// unless it is far behind, so that writing pays nearly nothing for it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn index_at_leisure(
        &mut self,
        store: &mut dyn StateStore,
        budget: usize,
    ) -> Result<bool, StoreError> {
        let is_written = std::mem::take(&mut self.index.is_written);
        let follows = self.index.progress == Progress::Complete;
        if follows && is_written && self.index.pending.len() < self.index.bounds.behind {
            return Ok(self.index.is_complete());
        }
        self.index(store, budget)
    }

    /// Whether the index reflects all that was applied.
    pub fn is_indexed(&self) -> bool {
        self.index.is_complete()
    }

    /// Throws the index away; it is made again by the next calls of [`Partition::index`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget_index(&mut self, store: &mut dyn StateStore) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(self.space.key(family::INDEX_STATE, b""));
        store.write(batch)?;
        self.index.progress = Progress::Absent;
        self.index.life += 1;
        Ok(())
    }

    fn index_clear(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<(), StoreError> {
        let mut left = budget.saturating_mul(CLEARED_PER_DOCUMENT);
        let from = self.space.key(family::POSTING, b"");
        let to = self.space.key(family::INDEX_STATE, b"");
        store.scan(&from, &to, false, &mut |key, _| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            batch.delete(key);
            ControlFlow::Continue(())
        })?;
        if left > 0 {
            self.index.fields = Fields::default();
            self.index.pending.clear();
            self.index.is_spilled = false;
            self.index_progress(batch, Progress::Building { after: String::new() });
        }
        Ok(())
    }

    fn index_build(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        after: &str,
        budget: usize,
    ) -> Result<(), StoreError> {
        let space = self.space;
        let from = space.key(family::HEAD, &[after.as_bytes(), &[0]].concat());
        let (_, to) = space.range(family::HEAD);
        let (mut left, mut last) = (budget, after.to_owned());
        let mut outcome = Ok(());
        store.scan(&from, &to, false, &mut |key, value| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            let link = space.rest(key);
            last = String::from_utf8_lossy(link).into_owned();
            match Record::decode(value, &self.names) {
                Ok(record) => {
                    for posting in self.index.postings(space, batch, &record) {
                        batch.put(posting_key(space, &posting, link), []);
                    }
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome?;
        let progress =
            if left > 0 { Progress::Complete } else { Progress::Building { after: last } };
        self.index_progress(batch, progress);
        Ok(())
    }

    fn index_follow(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<(), StoreError> {
        for _ in 0..budget {
            let Some((link, mark)) = self.index.pending.pop_first() else { break };
            let before = self.indexed(store, batch, &link, mark)?;
            let after = match self.head(store, &link)? {
                None => Vec::new(),
                Some(head) => self.index.postings(self.space, batch, &plain(&head.document)),
            };
            for posting in before.iter().filter(|posting| after.binary_search(posting).is_err()) {
                batch.delete(posting_key(self.space, posting, link.as_bytes()));
            }
            for posting in after.iter().filter(|posting| before.binary_search(posting).is_err()) {
                batch.put(posting_key(self.space, posting, link.as_bytes()), []);
            }
            batch.delete(self.space.key(family::DIRTY, link.as_bytes()));
        }
        Ok(())
    }

    /// The postings that the index holds of a dirty link.
    fn indexed(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        link: &str,
        mark: Mark,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        match mark {
            Mark::Nothing => Ok(Vec::new()),
            Mark::Version(version) => {
                let document = self.retained(store, link, version)?;
                Ok(self.index.postings(self.space, batch, &plain(&document)))
            }
            Mark::Stashed => {
                let bytes = store.get(&self.space.key(family::DIRTY, link.as_bytes()))?;
                let record =
                    bytes.as_deref().and_then(|bytes| bytes.get(1..)).ok_or_else(|| {
                        StoreError(format!("the mark of {link} for the index is missing"))
                    })?;
                let record = Record::decode(record, &self.names)?;
                Ok(self.index.postings(self.space, batch, &record))
            }
        }
    }

    fn index_progress(&mut self, batch: &mut Batch, progress: Progress) {
        batch.put(self.space.key(family::INDEX_STATE, b""), progress.encode());
        self.index.progress = progress;
    }
}

/// The key of a posting (which begins with its family).
fn posting_key(space: Space, posting: &[u8], link: &[u8]) -> Vec<u8> {
    let (&family, rest) = posting.split_first().expect("a posting begins with its family");
    space.key(family, &[rest, link].concat())
}
