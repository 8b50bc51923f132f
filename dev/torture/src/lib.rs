//! What the table of faults and the losses of power have in common, and the latter, which a test of
//! the program plays as well.

pub mod client;
pub mod power;
