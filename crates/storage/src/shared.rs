//! The index of the log, held by the log that is written and by those who read it.
#![expect(
    clippy::disallowed_types,
    reason = "the shell writes the log on one thread and steps the groups on others; where an entry \
              lies must be known there at once, and a message to them could come after the segment \
              is gone"
)]

use std::sync::{Arc, Mutex, MutexGuard};

use crate::index::Index;

/// Nobody holds it while a disk is at work: it is looked up, or changed when a frame is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedIndex(Arc<Mutex<Index>>);

impl SharedIndex {
    pub(crate) fn of(index: Index) -> Self {
        Self(Arc::new(Mutex::new(index)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().expect("nobody panics while holding the index of the log")
    }
}
