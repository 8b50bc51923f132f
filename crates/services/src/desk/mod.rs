//! The desk: handles the requests for one partition on its owner.

mod io;

pub use io::{Answer, DeskInput, DeskOptions, DeskOutput, DeskRequest, Ground, OpenRequest};

use protocol::Now;
use storage::StoreError;

/// How many requests may wait for one document. More are answered with BUSY.
pub const DOCUMENT_QUEUE_MAX: usize = 1_000;
/// How many requests may wait at one desk. More are answered with BUSY.
pub const REQUESTS_MAX: usize = 20_000;
/// How many tasks of one partition take steps at the same time. Others wait their turn.
pub const TASKS_RUNNING_MAX: usize = 256;

/// Handles the requests for one partition. Made when this node becomes the serving owner, closed
/// when it ceases to be.
pub struct Desk {
    options: DeskOptions,
}

impl Desk {
    pub fn new(options: DeskOptions) -> Self {
        Self { options }
    }

    pub fn options(&self) -> &DeskOptions {
        &self.options
    }

    /// Takes one input and says what must be done.
    ///
    /// # Errors
    /// When the store cannot be read or written; the node cannot go on then.
    pub fn step(
        &mut self,
        _now: Now,
        _input: DeskInput,
        _at: &mut Ground<'_>,
        _outputs: &mut Vec<DeskOutput>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// The node is no longer the owner: which requests are left without an answer.
    pub fn close(self) -> Vec<OpenRequest> {
        Vec::new()
    }
}
