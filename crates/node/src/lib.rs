//! One node as one value: groups, documents and services joined behind one `step`.
//!
//! Nothing here has a socket, a file, a thread, a clock or a random source. [`Node::step`] takes
//! everything that happened since the last call ([`Input`]) and says what must be done
//! ([`Output`]). The shell carries out these outputs with a real disk and real sockets, the
//! simulator with ones that fail on purpose; both run this code as it is.
//!
//! | part | what it does |
//! |---|---|
//! | `node` | a newcomer until it is known who it is, then a member of its cluster |
//! | `member` | a member's parts, and the order in which they get their turn |
//! | `membership` | a member's part in the cluster: its groups, the others, its stop |
//! | `shard` | the groups with a replica here, and the store and log that they share |
//! | `marks`, `log_upkeep` | which groups have something to do; what is kept of their logs |
//! | `hosted`, `instance`, `groups` | how replicas of each kind look, begin and end |
//! | `router` | requests that came in here, until they are answered |
//! | `refusals` | what all groups keep of refused writes |
//! | `gather` | requests that concern every partition |
//! | `queries`, `pages` | queries that came in here, and how their answers look |
//! | `searches`, `jobs` | queries of the partitions owned here that are run on other threads |
//! | `feeds` | both kinds of those who are told of changes |
//! | `subscriptions` | who is told of changes by requests, and how far |
//! | `watches`, `change_token` | requests that wait for changes of documents |
//! | `missed` | changes that are not in memory any more, for those requests |
//! | `entry` | what a plan says is given to the part that does it |
//! | `undefined` | requests for factories that may have been defined just now |
//! | `admission` | who asks, and whether the request may come in |
//! | `rest` | the resources of the REST surface: a request and a view in, a plan out |
//! | `control`, `placement` | who is there, who should own what |
//! | `joining` | leaving one cluster for another |
//! | `members`, `living` | nodes that come in, and nodes that are removed; who was alive when |
//! | `member_services` | which services the programs of other members have |
//! | `audit` | whether the replicas of a group have the same state |
//! | `backup`, `backups`, `standstill` | the state of everything at one moment, and its restore |
//! | `programs` | programs that have connected, until it is known which instance they are |
//! | `view` | a read-only view of all this |
//! | `work`, `log_batch` | what to do, what to write to the log |
//! | `outbox`, `frame` | what to send to other nodes |
//!
//! A request goes this way: `rest` plans it, `router` brings it to the owner of its group, `shard`
//! brings it to the replica there, and the replica's leader (`services`) deals with it. What the
//! leader proposes goes through the group's log (`group`). The answer comes back to the router when
//! enough replicas hold the entry.

mod admission;
mod audit;
mod backup;
mod backups;
mod batches;
mod between;
mod change_token;
mod control;
mod counts;
mod disk_pace;
mod entry;
mod feeds;
mod foreigners;
mod frame;
mod gather;
mod groups;
mod hosted;
mod instance;
mod io;
mod jobs;
mod joining;
mod leaving;
mod living;
mod log_batch;
mod log_upkeep;
mod marks;
mod member;
mod member_services;
mod members;
mod membership;
mod missed;
mod node;
mod outbox;
mod pages;
mod placement;
mod programs;
mod proof;
mod queries;
mod query_times;
mod refusals;
mod replies;
mod rest;
mod router;
mod rules;
mod searches;
mod serving;
mod shard;
mod since;
mod standstill;
mod subscriptions;
mod survey;
mod undefined;
mod view;
mod watches;
mod work;

pub use ::immortals::KeptLimits;
pub use ::replication::TailLimits;
pub use backup::census::Census;
pub use backup::page::{Block, Head, PAGE_FORMAT, Page};
pub use backup::restore::{DirectorySeen, Restored, Restorer, Source, groups_of, read_sandbox};
pub use frame::{FRAME_BYTES_MAX, LinkFrame, consensus_in};
pub use io::{
    Input, Level, NodeConfig, Notification, Output, Permits, ProgramDoor, ProgramPorts,
    SandboxState, Timing, Upkeep,
};
pub use jobs::{Job, JobDone, Lane};
pub use node::Node;
pub use pages::{ANSWER_BYTES_MAX, HITS_MAX};
pub use programs::PROGRAMS_MAX;
pub use proof::{StartError, is_set_back, why_in_doubt};
pub use queries::{GATHERED_BYTES_MAX, QUERIES_MAX, QUERY_BYTES_MAX};
pub use refusals::REFUSED_OF_ALL_MAX;
pub use rest::watch::is_watch;
pub use rest::{Header, Resource, SURFACE, Verb};
pub use router::IN_FLIGHT_MAX;
pub use searches::{WAITING_BYTES_MAX, WAITING_MAX};
pub use subscriptions::{
    FAILING_MICROS_MAX, NOTIFICATIONS_BYTES_MAX, NOTIFICATIONS_MAX, SUBSCRIPTIONS_MAX,
    SUBSCRIPTIONS_OF_USER_MAX,
};
pub use survey::Files;
pub use watches::WATCHES_MAX;
