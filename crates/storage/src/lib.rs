//! What a node keeps: the write-ahead log of all its groups, and the ordered store of their state.
//!
//! Nothing here opens a file. The log works on a [`Disk`], one flat folder of files, which the
//! shell makes of real files and the simulator of memory. The state store is a trait as well:
//! [`Layers`] hold what was written to it of late, over a tree that is the shell's, or a map in
//! [`MemoryStore`] for tests and simulation. [`Space`] says how the keys of one group lie in it.

mod codec;
mod digest;
mod disk;
mod entries;
mod error;
mod frame;
mod index;
mod layers;
mod log;
mod memory_disk;
mod memory_log;
mod memory_store;
mod reader;
mod record;
mod recovery;
mod seal;
mod sectors;
mod segment;
mod shared;
mod space;
mod state;
mod table;
mod tally;

pub use digest::Digest;
pub use disk::{Disk, DiskError, Files};
pub use error::LogError;
pub use layers::{Layers, Run, Tables};
pub use log::{Log, LogOptions};
pub use memory_disk::{Fate, MemoryDisk};
pub use memory_log::MemoryLog;
pub use memory_store::MemoryStore;
pub use reader::{LogReader, ReadEntries, ReadLimits};
pub use record::{Entry, EntryKind, LogOwner, LogRecord, Recovered, RecoveredGroup, Witness};
pub use seal::{DataKey, KEY_BYTES, Purpose, SALT_BYTES, Salt, Sealer};
pub use segment::{NextSegment, is_sealed_segment};
pub use space::{Applied, Chunk, DERIVED, Space};
pub use state::{Batch, Persister, Reader, StateStore, StoreError, Visit, Write};
