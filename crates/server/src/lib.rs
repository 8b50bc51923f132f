//! The shell of a node: everything that touches the outside world.
//!
//! [`Host`] starts one node in this process. A request comes in over HTTP (`web`), is put into the
//! inbox of the node's thread (`engine`), and the node says what is to be done: records for the
//! log (`log_writer`), frames for other nodes (`link`, `dial`), answers for clients, words for the
//! programs that are attached (`program`, `programs`, through the doors `program_socket`, `web` and
//! `ambrosia_ports`). Nothing is decided here; what can be decided is in the crate `node`, which
//! knows none of this.

mod allow;
mod ambrosia_ports;
mod ask;
mod attached;
mod authority;
mod base64;
mod browsers;
mod budget;
mod caller;
mod carrier;
mod client_socket;
mod config;
mod connections;
mod demands;
mod descriptors;
mod dial;
mod disk;
mod engine;
mod error;
mod events;
mod first_admin;
mod framing;
mod gate;
mod h2c;
mod host;
mod http_answer;
mod http_request;
mod in_flight;
mod inbox;
mod invoker;
mod job_threads;
mod joining;
mod link;
mod link_secret;
mod log_writer;
mod logging;
mod login;
mod mesh_end;
mod metrics;
mod named_program;
mod numbers;
mod open_links;
mod outgoing;
mod own_tls;
mod owners;
mod passwords;
mod persister;
mod pinned;
mod principal;
mod program;
mod program_socket;
#[cfg(test)]
mod program_tests;
mod programs;
mod protection;
mod random;
mod renewal;
mod repros;
mod sandbox;
mod served;
mod signals;
mod space;
mod spare;
mod store;
mod throttle;
mod tls;
mod trail;
mod web;

pub use access::{AuditEnd, AuditRecord, Chain, verify_audit};
pub use config::{
    Config, Founding, PARTITIONS_DEFAULT, PARTITIONS_MAX, PORT_DEFAULT, Room, SETTINGS, Security,
    Setting, Tuning, sandbox_default, variables,
};
pub use disk::{FileDisk, FolderFiles};
pub use error::Failure;
pub use host::{Host, Stopper};
pub use http_request::BODY_BYTES_MAX;
pub use logging::start_logging;
pub use random::random;
pub use sandbox::keep_files_private;
pub use store::FjallStore;
