//! Losses of power, with real nodes: all of them lose at once what they had not synced, files,
//! lengths and names, and start again on what is left.
//!
//! A node runs over a library (`unsynced.c`) that notes what is overwritten and which names are
//! durable. When the power goes, the processes are killed, and [`restore`] takes back what was not
//! synced: all of it, none of it, or some of the sectors, by chance. The files themselves stay the
//! same ones, since a node knows a copy of its sandbox.

mod counter;
mod known;
mod play;
mod restore;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use play::{Play, Report};
pub use restore::{Taken, restore};

/// The library's text, to be built where it is used.
const LIBRARY: &str = include_str!("unsynced.c");

/// Builds the library in a folder.
///
/// # Errors
/// As [`crate::built`].
pub fn build(folder: &Path) -> Result<PathBuf, String> {
    crate::built(folder, "unsynced", LIBRARY)
}

/// Makes a command note what it writes in `root` and does not sync.
///
/// # Errors
/// When the folder for the notes cannot be made.
pub fn watch(
    command: &mut Command,
    library: &Path,
    root: &Path,
    notes: &Path,
) -> Result<(), String> {
    for kind in ["u", "s", "f", "d"] {
        std::fs::create_dir_all(notes.join(kind)).map_err(|error| error.to_string())?;
    }
    std::fs::create_dir_all(root).map_err(|error| error.to_string())?;
    command.env("LD_PRELOAD", library);
    command.env("UNSYNCED_ROOT", root).env("UNSYNCED_NOTES", notes);
    Ok(())
}
