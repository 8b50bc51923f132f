//! The base of a replica: the checkpoint from which its program would begin.

pub(crate) mod record;
pub(crate) mod replica_base;
