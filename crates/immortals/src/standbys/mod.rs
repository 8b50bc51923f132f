//! What this replica knows of the others, and the checkpoints that go between them.

pub(crate) mod statuses;
pub(crate) mod transfers;
