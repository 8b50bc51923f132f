//! What the log of an instance says. No program is needed to know it, and every replica knows the
//! same at the same position.

pub(crate) mod applied;
pub(crate) mod delivery;
pub(crate) mod entry;
pub(crate) mod indexed;
pub(crate) mod input_state;
pub(crate) mod keys;
