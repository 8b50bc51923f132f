//! What a batch is made of, once it was looked at.

use protocol::{GroupId, Request};

/// The parts of a batch, each for the owner of a partition.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) atoms: Vec<Part>,
    /// How many requests it has.
    pub(crate) count: usize,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) group: GroupId,
    pub(crate) request: Request,
    /// The places of its requests in the batch.
    pub(crate) places: Vec<usize>,
}
