//! What the library of the tree says when something is wrong, in our words.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fjall::LsmError;
use storage::StoreError;

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Yes,
    /// Nothing of it is in the tree. It can be tried again.
    NoRoom,
}

pub(crate) fn is_full(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io))) = error else {
        return false;
    };
    matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

pub(crate) fn wrong(error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::failed("another process has it open"),
        fjall::Error::Poisoned => {
            StoreError::failed("an earlier write to the disk has failed; is it full?")
        }
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io))
            if !matches!(io.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) =>
        {
            StoreError::failed(io.to_string())
        }
        // Files are missing or cut, or are not what was written.
        other => StoreError::damaged(other.to_string()),
    }
}

/// The tree's library takes some damage for a mistake of its own, and panics.
pub(crate) fn unharmed<T>(read: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| wrong(&error)),
        Err(_) => Err(StoreError::damaged("it cannot be read, see the output of the node")),
    }
}
