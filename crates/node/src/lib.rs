//! One node as one value: groups, documents and services joined behind one `step`.
//!
//! Nothing here has a socket, a file, a thread, a clock or a random source. [`Node::step`] takes
//! everything that happened since the last call ([`Input`]) and says what must be done
//! ([`Output`]). The shell carries that out with a real disk and real sockets, the simulator with
//! treacherous ones; both run this code as it is.
//!
//! | part | what it does |
//! |---|---|
//! | `node` | a newcomer until it is known who it is, then a member of its cluster |
//! | `member` | a member's parts, and the order in which they get their turn |
//! | `membership` | a member's part in the cluster: its groups, the others, its stop |
//! | `shard` | the groups with a replica here, and the store and log that they share |
//! | `hosted`, `instance`, `groups` | how replicas of each kind are held, begun and ended |
//! | `router` | requests that came in here, until they are answered |
//! | `gather` | requests that concern every partition |
//! | `queries`, `pages` | queries that came in here, and how their answers look |
//! | `searches`, `jobs` | queries of the partitions owned here that are run on other threads |
//! | `admission` | who asks, and whether the request may come in |
//! | `rest` | the resources of the REST surface: a request and a view in, a plan out |
//! | `control`, `placement`, `joining` | who is there, who should own what, leaving one cluster for another |
//! | `programs` | programs that have connected, until it is known which instance they are |
//! | `view` | what can be seen of all this by who only looks |
//! | `work`, `outbox`, `frame`, `log_batch` | what is to be done, said to other nodes, written to the log |
//!
//! The way of a request: `rest` plans it, `router` brings it to the owner of its group, `shard` to
//! the replica there, whose leader (`services`) deals with it. What the leader proposes goes through
//! the group's log (`group`), and the answer comes back to the router when enough replicas hold it.

mod admission;
mod control;
mod disk_pace;
mod frame;
mod gather;
mod groups;
mod hosted;
mod instance;
mod io;
mod jobs;
mod joining;
mod leaving;
mod log_batch;
mod member;
mod membership;
mod node;
mod outbox;
mod pages;
mod placement;
mod programs;
mod proof;
mod queries;
mod replies;
mod rest;
mod router;
mod rules;
mod searches;
mod shard;
mod view;
mod work;

pub use ::immortals::KeptLimits;
pub use ::replication::TailLimits;
pub use frame::{FRAME_BYTES_MAX, LinkFrame, consensus_in};
pub use io::{
    Input, Level, NodeConfig, Output, ProgramDoor, ProgramPorts, SandboxState, Timing, Upkeep,
};
pub use jobs::{Job, JobDone, Lane};
pub use node::Node;
pub use pages::{ANSWER_BYTES_MAX, HITS_MAX};
pub use programs::PROGRAMS_MAX;
pub use proof::StartError;
pub use queries::{GATHERED_BYTES_MAX, QUERIES_MAX, QUERY_BYTES_MAX};
pub use rest::{Header, Resource, SURFACE, Verb};
pub use router::IN_FLIGHT_MAX;
pub use searches::{WAITING_BYTES_MAX, WAITING_MAX};
