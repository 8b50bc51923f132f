//! Immortals in the simulated world: programs as scripted state machines, one process for each
//! replica, which speak the native protocol with the node beside them through bytes that are cut
//! anywhere.
//!
//! [`instances`] says which instances there are, [`script`] is what their programs do, [`talk`] is
//! a program's end of the protocol, [`programs`] are the processes, [`operator`] is the person who
//! registers, moves and changes instances, [`short_lived`] is how one of them comes and goes, and
//! [`rest`] looks whether all has come to rest.

pub(crate) mod instances;
pub(crate) mod operator;
pub(crate) mod programs;
pub(crate) mod rest;
pub(crate) mod script;
pub(crate) mod short_lived;
pub(crate) mod talk;
