//! The index follows behind the documents.
//!
//! Applying a command only marks a link as dirty, and sees to it that the version which the index
//! reflects can still be read: the mark names it, or holds it when the version itself goes. The
//! steps of [`Partition::index`] then take out what that version had and put in what the latest
//! has. Each step is one batch, so after a crash marks and postings still agree.

use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::varint;
use storage::{Batch, Reader, Space, StateStore, StoreError};

use crate::cache::Head;
use crate::family;
use crate::index::{MARK_NOTHING, MARK_STASHED, MARK_VERSION, Mark, Progress};
use crate::partition::Partition;
use crate::record::Record;

/// How many keys are cleared for each document of a step's budget.
const CLEARED_PER_DOCUMENT: usize = 16;

/// How many bytes of bodies are indexed for each document of a step's budget, at most.
const BYTES_PER_DOCUMENT: usize = 1 << 10;

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
                value = Record::plain(&old.document).encode(&self.names);
                Mark::Stashed
            }
            (Some(Mark::Version(kept)), _) if kept < oldest => {
                let document = self.retained(store, link, kept)?;
                value = Record::plain(&document).encode(&self.names);
                Mark::Stashed
            }
            (Some(_), _) => return Ok(()),
        };
        let mut bytes = Vec::with_capacity(value.len() + 10);
        match mark {
            Mark::Nothing => bytes.push(MARK_NOTHING),
            Mark::Version(version) => {
                bytes.push(MARK_VERSION);
                varint::put(&mut bytes, version);
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

    /// Whether the index only has to follow what was written last: it is not being made anew.
    pub fn index_follows(&self) -> bool {
        self.index.progress == Progress::Complete
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
            self.index.fields = Arc::default();
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
        let (mut left, mut last) = (Budget::of(budget), after.to_owned());
        let mut outcome = Ok(());
        store.scan(&from, &to, false, &mut |key, value| {
            if left.is_spent() {
                return ControlFlow::Break(());
            }
            left.spend(value.len());
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
            if left.is_spent() { Progress::Building { after: last } } else { Progress::Complete };
        self.index_progress(batch, progress);
        Ok(())
    }

    fn index_follow(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<(), StoreError> {
        let mut left = Budget::of(budget);
        while !left.is_spent() {
            let Some((link, mark)) = self.index.pending.pop_first() else { break };
            let before = self.indexed(store, batch, &link, mark)?;
            let after = match self.head(store, &link)? {
                None => {
                    left.spend(0);
                    Vec::new()
                }
                Some(head) => {
                    left.spend(head.document.body.as_bytes().len());
                    self.index.postings(self.space, batch, &Record::plain(&head.document))
                }
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
                Ok(self.index.postings(self.space, batch, &Record::plain(&document)))
            }
            Mark::Stashed => {
                let bytes = store.get(&self.space.key(family::DIRTY, link.as_bytes()))?;
                let record =
                    bytes.as_deref().and_then(|bytes| bytes.get(1..)).ok_or_else(|| {
                        StoreError::failed(format!("the mark of {link} for the index is missing"))
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

/// What one step may do.
struct Budget {
    documents: usize,
    bytes: usize,
}

impl Budget {
    fn of(documents: usize) -> Self {
        Self { documents, bytes: documents.saturating_mul(BYTES_PER_DOCUMENT) }
    }

    fn spend(&mut self, bytes: usize) {
        self.documents = self.documents.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_spent(&self) -> bool {
        self.documents == 0 || self.bytes == 0
    }
}

/// The key of a posting (which begins with its family).
fn posting_key(space: Space, posting: &[u8], link: &[u8]) -> Vec<u8> {
    let (&family, rest) = posting.split_first().expect("a posting begins with its family");
    space.key(family, &[rest, link].concat())
}
