//! One node as one value: groups, documents and services joined behind one `step`.
//!
//! Nothing here has a socket, a file, a thread, a clock or a random source. [`Node::step`] takes
//! everything that happened since the last call ([`Input`]) and says what must be done
//! ([`Output`]). The shell carries that out with a real disk and real sockets, the simulator with
//! treacherous ones; both run this code as it is.
//!
//! The way of a request: it enters at the *edge* of any node (`client`, `edge`), goes to the owner
//! of its group, is taken on by the *office* there, which has the *desk* (`services`) deal with
//! it. What the desk proposes goes through the group's log (`replica`), and the answer comes back
//! to the edge when enough replicas hold it.
//!
//! Instances of immortals have a way of their own: `registry` says which there are, `programs` lets
//! programs in, and `immortals` brings to each instance what happens.
//!
//! Where to read on: [`Node`] for the order of things in a step, `cluster` for how nodes find one
//! another, `movement` for who owns what.

mod ambrosia_registry;
mod behind;
mod client;
mod cluster;
mod directory;
mod disk;
mod edge;
mod frame;
mod immortal_rest;
mod immortals;
mod io;
mod leaving;
mod life;
mod movement;
mod node;
mod office;
mod outbox;
mod peers;
mod placement;
mod programs;
mod quorum;
mod recording;
mod refusals;
mod registry;
mod replica;
mod replicas;
mod rest;
mod scatter;

pub use ::immortals::KeptLimits;
pub use edge::ERRANDS_MAX;
pub use frame::FRAME_BYTES_MAX;
pub use io::{Input, Level, NodeConfig, Output, ProgramDoor, ProgramPorts, Timing, Upkeep};
pub use node::Node;
pub use office::REQUESTS_PER_GROUP_MAX;
pub use programs::PROGRAMS_MAX;
pub use scatter::{ANSWER_BYTES_MAX, HITS_MAX};
