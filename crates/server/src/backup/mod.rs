//! Backups as folders of files: written page by page as a cluster hands them out, read and checked
//! again, made of the sandboxes that are left, and turned into the first node of a new cluster.
//!
//! | in the folder | what |
//! |---|---|
//! | `group-N` | a line that says whose pages follow; the pages of group N, each after its length |
//! | `manifest.json` | the groups and their positions, and the length and checksum of each file |
//!
//! The manifest is written last: a folder without one is a backup that was cut short.

mod files;
mod manifest;
mod recover;
mod restore;
mod verify;

pub use files::{BackupWriter, GroupWriter};
pub use manifest::{GroupFile, Manifest};
pub use recover::{Findings, Found, look_at_sandboxes, save_findings};
pub(crate) use restore::restore;
pub use verify::{Contents, verify};
