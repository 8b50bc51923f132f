//! The machine: what every replica of an instance has and does, whether it owns the instance or
//! not.

pub(crate) mod apply;
pub(crate) mod checkpoints;
pub(crate) mod divergence;
pub(crate) mod feeding;
pub(crate) mod inputs;
pub(crate) mod instance;
pub(crate) mod peers;
pub(crate) mod program_input;
