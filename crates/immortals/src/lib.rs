//! Immortals: ordinary programs that go on when they die.
//!
//! An *instance* is a group whose log holds the inputs of a program. Every replica has a copy of the
//! program attached; all copies get the same inputs in the same order and so have the same state and
//! say the same. The copy beside the owner is the *primary*: what it says leaves the machine. When it
//! dies, the next owner's copy has already said it, too.
//!
//! | part | what it knows |
//! |---|---|
//! | [`InputState`] | the sum of the log: the number of inputs, how far each sender has come. No program is needed |
//! | [`OutputState`] | the sum of what the program here has said: numbered streams, timers, a digest |
//! | `session` | the attached program: what it was told, what it confirmed |
//! | `office` | what only the owner does: inputs into the log, receipts, sending |
//! | `upgrade` | how programs of another version take over, or do not |
//! | `stream`, `shelf` | what is kept until its destination confirms it: in memory, and what is too much in the state store |
//! | `base`, `checkpoint` | the state from which a program begins, in the state store |
//! | [`Instance`] | all of these behind one `step` |
//!
//! Exactly once, in short. A message is durable in the *receiver's* log before it is confirmed, and
//! only there. The sender numbers what its program says to each destination, and keeps it until it
//! is confirmed; after a crash the program says it again in replay, under the same numbers. The
//! receiver takes only what follows. Nothing is delivered before it is committed, so nothing that a
//! program says can outlive its cause.
//!
//! [`ambrosia`] is the door for programs that were written for AMBROSIA's coordinator; our own is
//! `api/immortal-protocol.md`. Behind the doors all programs are alike.
//!
//! The idea is AMBROSIA's ("virtual resiliency"); logs, elections and membership are this project's
//! groups.

pub mod ambrosia;
mod attend;
mod base;
mod checkpoint;
mod credit;
mod diverge;
mod door;
mod entry;
mod instance;
mod io;
mod ledger;
mod mind;
mod office;
mod outgoing;
pub mod recording;
mod replay;
mod senders;
mod session;
mod shelf;
mod stream;
mod upgrade;
mod voice;

pub use attend::NAME_BYTES_MAX;
pub use base::{BaseRecord, Blob, CHUNK_BYTES, OutputPieces, read_chunk, read_record};
pub use door::{Adapter, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, NativeAdapter};
pub use entry::{ENTRY_BYTES_MAX, Entry, GenesisEnd, Inputs, Mark, Origin, UpgradeOutcome};
pub use instance::{Instance, Options};
pub use io::{
    Between, Context, Diverged, Entries, Held, Input, Lane, Output, Peer, RecentOutput,
    ReplicaStatus, Request, Response, Settings, Standing,
};
pub use ledger::{ImpulsesTaken, InputState, Logged, Upgrading};
pub use mind::DestinationStatus;
pub use office::Lead;
pub use recording::Recording;
pub use replay::{Difference, Event, Next, Reference, Replay, Wanted};
pub use session::WINDOW_BYTES;
pub use shelf::{SpillBlockId, SpilledBlock};
pub use stream::{BlockKey, KeptLimits, KeptRun, Location, Run, Stream};
pub use voice::{Compared, OutputState};
