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
mod attach_paths;
mod attached;
mod authority;
pub mod backup;
mod base64;
mod browsers;
mod budget;
mod callbacks;
mod caller;
mod carrier;
mod client_socket;
mod config;
mod config_values;
mod connections;
mod console;
mod demands;
mod descriptors;
mod dial;
mod disk;
mod disk_files;
mod encryption;
mod engine;
mod error;
mod events;
#[cfg(test)]
mod fake_node;
mod fields;
mod first_admin;
mod framing;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod h2c;
mod host;
mod http_answer;
mod http_request;
mod in_flight;
mod inbox;
mod invoker;
mod issuer_keys;
mod job_threads;
mod joining;
mod jwks;
mod jwt_settings;
mod keyring;
mod link;
mod link_secret;
mod lives;
mod log_writer;
mod logging;
mod login;
#[cfg(test)]
mod login_tests;
mod mesh_end;
mod metrics;
mod named_program;
mod neighbours;
mod numbers;
mod open_links;
mod outgoing;
mod outside;
mod own_tls;
mod owners;
mod pace;
mod pages;
mod passwords;
mod peer_ids;
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
mod readiness;
mod renewal;
mod repros;
mod restoring;
mod rewriting;
mod roll_call;
mod sandbox;
mod served;
mod settings;
mod shares;
mod signals;
mod space;
mod spare;
mod standing_right;
mod store;
mod taking;
mod throttle;
mod tls;
mod trail;
mod trail_places;
mod tree;
mod tree_errors;
mod web;
mod whereabouts;

pub use access::{AuditEnd, AuditRecord, Chain, verify_audit};
pub use config::{
    BrowserSettings, CallbackSettings, Certificates, Config, Founding, LogFormat, LogSettings,
    MachineUsers, PARTITIONS_DEFAULT, PARTITIONS_MAX, PORT_DEFAULT, Room, Security, Tuning,
    sandbox_default,
};
pub use disk::{FileDisk, FolderFiles};
pub use encryption::Encryption;
pub use error::Failure;
pub use host::{Host, Stopper};
pub use http_request::BODY_BYTES_MAX;
pub use jwt_settings::{JwtSettings, KeyPlace};
pub use logging::start_logging;
pub use peer_ids::PeerId;
pub use random::random;
pub use restoring::{Made, restore_into};
pub use rewriting::unseal;
pub use sandbox::keep_files_private;
pub use settings::{SETTINGS, Setting, variables};
pub use store::FjallStore;
