//! What is known of the index in memory: how far it has come, its fields, and the dirty links. How
//! it follows the documents is in `indexing`.
//!
//! The state of the index is a key of its own. Where it is absent (a new partition, a snapshot
//! that came in, an index that was thrown away) all postings are cleared and made from the
//! documents, in order of links. Links behind that front need no marks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use storage::{Batch, Reader, Space, StoreError};

use crate::bounds::Bounds;
use crate::family;
use crate::fields::{Fields, postings};
use crate::record::{Record, take_number};

/// The form of postings and marks. An index of another form is thrown away.
const FORMAT: u8 = 3;

/// The first byte of a mark.
pub(crate) const MARK_NOTHING: u8 = 0;
pub(crate) const MARK_VERSION: u8 = 1;
pub(crate) const MARK_STASHED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) progress: Progress,
    pub(crate) bounds: Bounds,
    /// Shared with the views of queries under way.
    pub(crate) fields: Arc<Fields>,
    /// Dirty links. All of them, unless some were spilled.
    pub(crate) pending: BTreeMap<String, Mark>,
    /// There may be marks in the store that are not in `pending`.
    pub(crate) is_spilled: bool,
    /// A document was written since `Partition::index_at_leisure` was last called.
    pub(crate) is_written: bool,
}

/// How far the index has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
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
pub(crate) enum Mark {
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
    pub(crate) fn encode(&self) -> Vec<u8> {
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
        let fields = Arc::new(Fields::open(store, space)?);
        let pending = BTreeMap::new();
        let bounds = Bounds::USUAL;
        let (is_spilled, is_written) = (true, false);
        let mut index = Self { progress, bounds, fields, pending, is_spilled, is_written };
        index.load(store, space)?;
        Ok(index)
    }

    pub(crate) fn postings(
        &mut self,
        space: Space,
        batch: &mut Batch,
        record: &Record<'_>,
    ) -> Vec<Vec<u8>> {
        postings(Arc::make_mut(&mut self.fields), self.bounds, space, batch, record)
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

    pub(crate) fn mark(
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

    pub(crate) fn remember(&mut self, link: &str, mark: Mark) {
        if self.pending.len() < self.bounds.pending || self.pending.contains_key(link) {
            self.pending.insert(link.to_owned(), mark);
        } else {
            self.is_spilled = true;
        }
    }

    /// Takes dirty links from the store, when some may be there and there is room for all.
    pub(crate) fn load(&mut self, store: &dyn Reader, space: Space) -> Result<(), StoreError> {
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
