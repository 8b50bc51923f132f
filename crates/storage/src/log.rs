//! The write-ahead log of a node, for all its groups.

use crate::disk::Disk;
use crate::error::LogError;
use crate::record::{LogRecord, Recovered};

/// How the log is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The length of a segment's file. A frame that does not fit gets a longer one.
    pub segment_bytes: u64,
}

/// The write-ahead log of a node.
pub struct Log<D: Disk> {
    disk: D,
}

impl<D: Disk> Log<D> {
    /// # Errors
    /// When the disk fails, or the log is damaged or of another version.
    pub fn open(_disk: D, _options: LogOptions) -> Result<(Self, Recovered), LogError> {
        unimplemented!("comes with the next commit")
    }

    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, _records: &[LogRecord]) -> Result<(), LogError> {
        unimplemented!("comes with the next commit")
    }

    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), LogError> {
        unimplemented!("comes with the next commit")
    }

    /// # Errors
    /// When the disk refuses.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        unimplemented!("comes with the next commit")
    }

    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    pub fn into_disk(self) -> D {
        self.disk
    }
}
