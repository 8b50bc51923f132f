//! The newest changes of a partition, in the order of its log, for those who watch documents.
//!
//! They are in memory only, up to a bound in bytes. Every replica that applies the log has the same
//! ones at the same places, so that a reader can go on at any node with what it was told by
//! another. A reader that is further behind is told so.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::{Document, Position};

/// What a change takes beside its documents, in bytes.
const CHANGE_BYTES: usize = 256;

/// How many bytes of changes are kept if nothing else is said.
const CHANGES_BYTES_MAX: usize = 4 << 20;

/// A place between two changes. One entry of the log can change several documents; `taken` is how
/// many of its changes come before the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub position: Position,
    pub taken: u32,
}

impl Place {
    /// After all changes of the entries up to that position.
    pub fn after(position: Position) -> Self {
        Self { position, taken: u32::MAX }
    }
}

/// What happened to one document.
#[derive(Clone, Debug)]
pub struct Change {
    /// The place right after it.
    pub place: Place,
    /// The latest version before; `None` if there was none.
    pub before: Option<Arc<Document>>,
    /// The version that was written; `None` if the document expired.
    pub after: Option<Arc<Document>>,
}

impl Change {
    fn bytes(&self) -> usize {
        let documents = self.before.iter().chain(&self.after);
        CHANGE_BYTES + documents.map(|it| it.link.len() + it.body.len()).sum::<usize>()
    }
}

/// The newest changes.
#[derive(Debug)]
pub struct Changes {
    kept: VecDeque<Change>,
    bytes: usize,
    bytes_max: usize,
    /// All changes after this place are kept; `None` before the first one since the start.
    from: Option<Place>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { kept: VecDeque::new(), bytes: 0, bytes_max: CHANGES_BYTES_MAX, from: None }
    }
}

impl Changes {
    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.shrink();
    }

    /// An entry is applied: whatever it changes comes after the places of all entries before.
    pub(crate) fn entry(&mut self, position: Position) {
        if self.from.is_none() {
            self.from = Some(Place::after(Position(position.0.saturating_sub(1))));
        }
    }

    pub(crate) fn note(
        &mut self,
        position: Position,
        before: Option<Arc<Document>>,
        after: Option<Arc<Document>>,
    ) {
        if before.is_none() && after.is_none() {
            return;
        }
        let last = self.kept.back().map(|change| change.place);
        let taken = last.filter(|last| last.position == position).map_or(1, |last| last.taken + 1);
        let change = Change { place: Place { position, taken }, before, after };
        self.bytes += change.bytes();
        self.kept.push_back(change);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.from = Some(oldest.place);
        }
    }

    /// The changes after a place, in order. `None`: some of them are not kept any more. `applied`
    /// is how far the log is applied here.
    pub fn after(&self, place: Place, applied: Position) -> Option<impl Iterator<Item = &Change>> {
        let from = self.from.unwrap_or(Place::after(applied));
        if place < from {
            return None;
        }
        let first = self.kept.partition_point(|change| change.place <= place);
        Some(self.kept.range(first..))
    }

    /// The place after the newest one, if any is kept.
    pub fn newest(&self) -> Option<Place> {
        self.kept.back().map(|change| change.place)
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
