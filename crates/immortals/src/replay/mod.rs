//! Feeds a recording to a program that somebody has started, under a debugger perhaps, and compares
//! what the program sends with what is recorded. The steps are those of a recovery, with one input
//! at a time, and nothing that the program sends leaves.

pub(crate) mod comparison;
pub(crate) mod driver;
pub(crate) mod events;
pub(crate) mod tape;
