//! Immortals: ordinary programs that go on when they die.
//!
//! An *instance* is a group whose log holds the inputs of a program. Every replica has a program
//! attached. All programs get the same inputs in the same order, and so have the same state and
//! send the same messages. The program beside the owner is the *primary*: what it sends leaves the
//! machine. When the primary dies, the next owner's program has already sent the same messages,
//! too.
//!
//! An [`Instance`] is one replica as a value, the machine. While the replica owns its group, the
//! group holds a [`Lead`] beside the machine: what only an owner has. The two meet in `step`.
//!
//! | part | what it knows |
//! |---|---|
//! | `history` | what the log says: entries, the number of inputs, how far each sender has come |
//! | `output` | what the program here has sent: numbered streams, timers, a digest |
//! | `base` | the checkpoint from which a program begins, in the store |
//! | `seat` | the place for one program: what it was told, what it confirmed |
//! | `standbys` | how the other replicas are, and checkpoints on their way between them |
//! | `machine` | all of these together, and what every replica does |
//! | `lead` | what only the owner does: inputs into the log, sending, upgrades, succession |
//! | `adapter`, [`ambrosia`] | how a program speaks: our protocol, or AMBROSIA's |
//! | [`recording`], `replay` | a checkpoint and the log since, replayed under a debugger |
//!
//! Each part imports only parts above it in this table, apart from the last two.
//!
//! How each message is handled exactly once, in short: before a message is confirmed, it is durable
//! in the *receiver's* log, and only there. The sender's node numbers the messages of its program
//! to each destination, and keeps each message until it is confirmed. After a crash the program
//! sends its messages again in replay, under the same numbers. The receiver takes only the number
//! that follows. No input is delivered before it is committed, so no message can outlive its cause.
//!
//! The idea is AMBROSIA's ("virtual resiliency"). Logs, elections and membership are those of this
//! project's groups.

mod adapter;
pub mod ambrosia;
mod base;
mod context;
mod describe;
mod history;
mod identity;
mod io;
mod lead;
mod machine;
mod output;
pub mod recording;
mod replay;
mod seat;
mod standbys;
mod step;
mod wire;

pub use adapter::{Adapter, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, NativeAdapter};
pub use base::record::{BaseRecord, Blob, CHUNK_BYTES, OutputPieces, read_chunk, read_record};
pub use context::{Context, Entries, Standing};
pub use history::entry::{
    ENTRY_BYTES_MAX, Entry, GenesisEnd, Inputs, Lane, Mark, Origin, UpgradeOutcome,
};
pub use history::indexed::{BadEntry, IndexedEntry};
pub use history::input_state::{ImpulsesTaken, InputState, Logged, Upgrading};
pub use history::keys::{ImpulseKey, KEYS_MAX};
pub use io::{Input, Output, Request, Response, Settings};
pub use lead::state::Lead;
pub use machine::instance::{DestinationStatus, Instance, Options};
pub use machine::program_input::NAME_BYTES_MAX;
pub use output::output_state::{Compared, Grain, OutputState};
pub use output::spill::{SpillBlockId, SpilledBlock};
pub use output::stream::{BlockKey, KeptLimits, KeptRun, Location, Run, Stream};
pub use recording::Recording;
pub use replay::driver::Replay;
pub use replay::events::{Difference, Event, Next, Reference, Wanted};
pub use seat::window::WINDOW_BYTES;
pub use standbys::statuses::Since;
pub use wire::{Between, Diverged, Held, LetGo, Peer, RecentOutput, ReplicaStatus, Sizes};
