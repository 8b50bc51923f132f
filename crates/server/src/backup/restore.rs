//! A backup becomes log and state of the first node of a new cluster.

use std::path::{Path, PathBuf};

use node::{Restored, Restorer};
use storage::{Log, LogRecord, Sealer, StateStore};

use super::files::read_group;
use super::verify::Contents;
use crate::{Failure, FileDisk, FjallStore};

/// Writes the node's log and state, from a backup that was verified and has these contents; the
/// node is known by id, address and sandbox. What ends in the middle is no sandbox of a cluster: no
/// start takes it for one.
///
/// # Errors
/// What is wrong with the backup, or why it cannot be written.
pub(crate) fn restore(
    folder: &Path,
    contents: &Contents,
    log: &mut Log<FileDisk>,
    (state, sealer): (PathBuf, Option<Sealer>),
    (id, uri, sandbox_id): (String, String, u64),
) -> Result<Restored, Failure> {
    let mut store =
        FjallStore::open_with(&state, sealer).map_err(|error| Failure::new(error.to_string()))?;
    let mut restorer = Restorer::new(&mut store as &mut dyn StateStore, (id, uri), sandbox_id);
    for (file, _) in &contents.groups {
        read_group(folder, &contents.manifest, file, &mut |page, _| {
            let begins = matches!(page.block, node::Block::Head(_));
            append(log, &restorer.take(page.block)?)?;
            // A log that has groups, whose state does not know the node, is taken for nothing.
            // Nothing of a group may be in the state before that is so.
            if begins { log.sync().map_err(|error| error.to_string()) } else { Ok(()) }
        })?;
    }
    let last = restorer.end().map_err(Failure::new)?;
    append(log, &last).map_err(Failure::new)?;
    log.sync().map_err(|error| Failure::new(error.to_string()))?;
    restorer.seal().map_err(Failure::new)
}

fn append(log: &mut Log<FileDisk>, records: &[LogRecord]) -> Result<(), String> {
    if records.is_empty() {
        return Ok(());
    }
    log.append(records).map_err(|error| error.to_string())
}
