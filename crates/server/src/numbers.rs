//! Numbers that are given once in the life of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives every link and every program of the process a number of its own.
#[derive(Clone, Default)]
pub(crate) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
