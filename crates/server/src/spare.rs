//! Room for a start on a disk that has none: a file which is only there to be given up.
//!
//! A start writes before it can serve: it counts itself in `node.json`, which must be durable
//! before anything is said to other nodes, and log and state store write a little as they are
//! opened. On a disk that somebody has filled there is no room for that, and the node could not
//! even be read from. So each sandbox keeps some room for it, and a start that finds none takes it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const NAME: &str = "spare";

/// More than a few starts write before they serve.
const BYTES: usize = 4 << 20;

/// It is made only where so much is free, so that it is nobody's last room.
const FREE_BYTES_MIN: u64 = 16 * BYTES as u64;

/// Makes the file if it is not there, with that mode. What comes of it is not important: without
/// it, a start on a full disk fails and says why.
pub(crate) fn keep(sandbox: &Path, mode: u32) {
    let file = sandbox.join(NAME);
    let is_roomy = || {
        let disk = rustix::fs::statvfs(sandbox).ok();
        disk.is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= FREE_BYTES_MIN)
    };
    if !file.exists() && is_roomy() {
        let made = fill(&file, mode);
        if let Err(error) = made {
            tracing::debug!("{} cannot be made: {error}", file.display());
            give_up(sandbox);
        }
    }
}

fn fill(file: &Path, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(file)?;
    // Ones, as zeros may take no room.
    file.write_all(&vec![0xff; BYTES])?;
    file.sync_all()
}

/// There is room for a start now, if there was such a file.
pub(crate) fn give_up(sandbox: &Path) -> bool {
    fs::remove_file(sandbox.join(NAME)).is_ok()
}
