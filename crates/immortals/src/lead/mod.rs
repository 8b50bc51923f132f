//! What only the owner of an instance has and does: inputs into the log, receipts for their
//! senders, what the program sends, upgrades, who owns the instance next.
//!
//! `state` holds the data and the files under it their parts. `leader` joins them with the machine;
//! the files above it say what a leader does.

pub(crate) mod clock;
pub(crate) mod inbound;
pub(crate) mod log_queue;
pub(crate) mod outbound;
pub(crate) mod own_inputs;
pub(crate) mod schedule;
pub(crate) mod state;
pub(crate) mod upgrade;

pub(crate) mod flow_control;
pub(crate) mod leader;
pub(crate) mod log_writing;
pub(crate) mod next_wake;
pub(crate) mod program;
pub(crate) mod receiving;
pub(crate) mod requests;
pub(crate) mod sending;
pub(crate) mod settling;
pub(crate) mod succession;
pub(crate) mod upgrading;
