//! Immortals in the simulated world: programs as scripted state machines, one process for each
//! replica, which speak the native protocol with the node beside them through bytes that are cut
//! anywhere.
//!
//! [`cast`] says which instances there are, [`script`] is what their programs do, [`talk`] is a
//! program's end of the protocol, [`troupe`] are the processes, [`operator`] is the person who
//! registers, moves and changes instances, [`brief`] is how one of them comes and goes, and
//! [`rest`] looks whether all has come to rest.

pub(crate) mod brief;
pub(crate) mod cast;
pub(crate) mod operator;
pub(crate) mod rest;
pub(crate) mod script;
pub(crate) mod talk;
pub(crate) mod troupe;
