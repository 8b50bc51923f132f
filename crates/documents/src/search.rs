//! A query under way, run in steps so that a long one does not hold up everything else.

/// A query under way in one partition; see [`crate::Partition::search`].
#[derive(Debug)]
pub struct Search {}
