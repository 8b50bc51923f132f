//! What the library of the tree says when something is wrong, in our words.
//!
//! What is damaged is put aside, and the node is filled by its peers. So what is merely written by
//! another version of the library must not count as damage: an older program over a newer sandbox,
//! after an upgrade was taken back, would put sound data aside.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::LsmError;
use storage::StoreError;

/// The file of the tree that says which format the tree has, what it begins with, and the format
/// that the library here reads and writes. With another one, the format of `node.json` is to be
/// raised, so that a program of before says at once that it cannot read the sandbox.
const MARK: &str = "version";
const MARK_BEGINS: &[u8] = b"FJL";
const FORMAT: u8 = 3;

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
        fjall::Error::InvalidVersion(Some(found)) => of_another_version(found),
        fjall::Error::Storage(LsmError::InvalidVersion(found)) => of_another_version(found),
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

fn of_another_version(found: impl Display) -> StoreError {
    StoreError::failed(format!(
        "its files have format {found}, this program reads format {FORMAT}: another version of \
         amrita wrote them. Nothing was touched; use that version"
    ))
}

/// Before the tree is opened: the library tells a later format as it tells a mark that is damaged,
/// and what follows in a later format it may take for damage, too.
pub(crate) fn check_format(folder: &Path) -> Result<(), StoreError> {
    // One that is missing or cannot be read is for the library to judge.
    let Ok(mark) = fs::read(folder.join(MARK)) else { return Ok(()) };
    match mark.strip_prefix(MARK_BEGINS).and_then(<[u8]>::first) {
        Some(found) if *found != FORMAT => Err(of_another_version(found)),
        _ => Ok(()),
    }
}

/// The tree's library takes some damage for a mistake of its own, and panics.
pub(crate) fn unharmed<T>(read: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| wrong(&error)),
        Err(_) => Err(StoreError::damaged("it cannot be read, see the output of the node")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_another_version_are_no_damage() {
        for error in [
            fjall::Error::Storage(LsmError::InvalidVersion(FORMAT + 1)),
            fjall::Error::InvalidVersion(None),
        ] {
            let is_version = matches!(error, fjall::Error::Storage(_));
            let error = wrong(&error);
            assert_eq!(error.is_damage, !is_version, "{error}");
        }
    }
}
