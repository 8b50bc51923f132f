//! One replicated group, whatever lives in it.
//!
//! Everything that lives is a group: one replicated log with one owner. What differs is the
//! *machine* that its entries change: the cluster's directory, a partition of documents, an
//! instance of an immortal. [`Replica`] is a node's copy of a group and is the same for all three.
//!
//! | part | what it knows |
//! |---|---|
//! | [`Machine`] | the state of a group |
//! | [`Leader`] | what serves the machine while this replica owns the group |
//! | [`Replica`] | consensus, the machine, and which of the two roles this replica has |
//! | [`Requests`] | the requests that an owner has under way, from the question to the answer |
//! | `refused` | which requests were refused in this term, so that a late copy is not carried out |
//! | `durable` | what must not leave before it is on the disk |
//! | `transfer`, `snapshots` | snapshots that come and go |
//! | `standstill`, `held` | a log that is held for a moment, for a backup |
//!
//! # What a replica promises
//!
//! - A message that depends on the disk leaves when the disk has what it depends on.
//! - Entries are applied once and in order, by every replica alike.
//! - A leader exists only while this replica owns its group, has applied all that was committed
//!   before its term, and hands the group to nobody. When one of these ends, the leader is dropped,
//!   and whoever still waits is told to ask the next owner.
//! - An answer to a write leaves when as many replicas hold the write as the membership quorum asks
//!   for.

mod durable;
mod held;
mod io;
mod leading;
mod machine;
mod members;
mod quorum;
mod refused;
mod replica;
mod requests;
mod snapshots;
mod standstill;
mod transfer;

pub use io::{Io, Outputs, PeerMessage, Question, Reply, Restart, Touch};
pub use leading::REQUESTS_PER_GROUP_MAX;
pub use machine::{Context, Entry, Leader, LeaderInput, LogView, Machine, Output};
pub use members::{Members as MemberHistory, decode_members, encode_members};
pub use quorum::Quorum;
pub use refused::{REFUSED_MAX, Refusal};
pub use replica::Replica;
pub use requests::{Caller, Finished, Opened, REPEATS_MAX, Requests, key_reused};
pub use transfer::{Chunk, Tuning};
