//! What can go wrong with the log, in words that an operator can act on.

use std::error::Error;
use std::fmt;

use crate::disk::DiskError;

/// Why the log could not be opened or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The disk refused. After [`DiskError::Full`] the log can go on; after
    /// [`DiskError::Failed`] it must be opened anew.
    Disk(DiskError),
    /// Something that was durable is not what was written. The log is not opened, as nobody can
    /// say what was lost.
    Corrupt {
        /// The file.
        segment: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// The log is encrypted and no key was given, or the other way round. Nothing was touched.
    Sealed {
        /// The file that shows it.
        segment: String,
        /// The log is encrypted.
        is_sealed: bool,
    },
    /// The log is encrypted under another key. Nothing was touched.
    OtherKey {
        /// The file that shows it.
        segment: String,
    },
    /// The log was written by another version of this program.
    Version {
        /// The format of the file.
        found: u32,
        /// The format that this program reads and writes.
        known: u32,
    },
}

impl LogError {
    /// True when it can be tried again once there is room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Corrupt { segment, offset, why } => write!(
                f,
                "the log is damaged: {segment} at byte {offset}: {why}. What this node promised \
                 cannot be read any more; let it begin anew and be mended from its peers"
            ),
            Self::Sealed { segment, is_sealed: true } => {
                write!(f, "the log is encrypted ({segment}), and there is no key for it")
            }
            Self::Sealed { segment, is_sealed: false } => {
                write!(f, "the log is not encrypted ({segment}), but the sandbox should be")
            }
            Self::OtherKey { segment } => write!(
                f,
                "the log is encrypted under another key ({segment}) than that in encryption.json, \
                 which is perhaps that of another sandbox: put the right one back. Nothing was \
                 touched"
            ),
            Self::Version { found, known } if found > known => write!(
                f,
                "the log has format {found}, this program knows format {known}: it was written by \
                 a newer version; start that one"
            ),
            Self::Version { found, known } => write!(
                f,
                "the log has format {found}, this program knows format {known}: it was written by \
                 an older version, and there is no conversion"
            ),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => Some(error),
            Self::Corrupt { .. }
            | Self::Sealed { .. }
            | Self::OtherKey { .. }
            | Self::Version { .. } => None,
        }
    }
}
