//! An empty sandbox becomes that of the first node of a cluster that is made of a backup: at the
//! first start of the node, or by a command that starts none.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use node::Restored;
use protocol::Address;
use storage::{Log, LogError, LogOptions, LogOwner, LogRecord, Recovered, Sealer};

use crate::backup;
use crate::disk::{FileDisk, SEGMENT_BYTES};
use crate::keyring::sealer;
use crate::sandbox::{Sandbox, Wanted};
use crate::{Encryption, Failure};

/// What was made of a backup.
#[derive(Clone, Debug)]
pub struct Made {
    pub node_id: String,
    /// The name of the new cluster.
    pub cluster: u64,
    pub partitions: u32,
    pub sandbox: PathBuf,
}

/// Makes the sandbox of the first node of a new cluster of a backup. No node is started.
///
/// # Errors
/// When something is wrong with the backup, the sandbox is not empty, or it cannot be written.
pub fn restore_into(
    folder: &Path,
    sandbox: &Path,
    node_id: Option<String>,
    encryption: Encryption,
) -> Result<Made, Failure> {
    let wanted = Wanted { node_id, peers: Vec::new(), trusts_sandbox: false, encryption };
    let mut sandbox = Sandbox::open(sandbox, &wanted)?;
    check_is_empty(&sandbox)?;
    // The first start says where the node is.
    let nowhere = Address::new("127.0.0.1", crate::PORT_DEFAULT);
    let Restored { cluster, partitions, .. } = restore(folder, &mut sandbox, &nowhere)?;
    let node_id = sandbox.identity().node_id.clone();
    Ok(Made { node_id, cluster, partitions, sandbox: sandbox.root().to_owned() })
}

/// # Errors
/// When there is something in it.
pub(crate) fn check_is_empty(sandbox: &Sandbox) -> Result<(), Failure> {
    if !sandbox.identity().has_begun {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the sandbox {} is not empty, and a backup is restored into an empty one only",
        sandbox.root().display()
    ))
    .advise(
        "name another --sandbox; or, if the backup was restored into this one before, start the node \
         without --restore",
    ))
}

/// `public`: where the node is.
///
/// # Errors
/// When something is wrong with the backup, or it cannot be written. Nothing is left then.
pub(crate) fn restore(
    folder: &Path,
    sandbox: &mut Sandbox,
    public: &Address,
) -> Result<Restored, Failure> {
    // Before anything is written: this takes long, and may be killed.
    let contents = backup::verify(folder, &mut |_, _| {})?;
    clear(sandbox)?;
    let identity = sandbox.identity();
    let (sandbox_id, boot) = (identity.sandbox_id, identity.boot);
    let node = (identity.node_id.clone(), public.to_string(), sandbox_id);
    let (mut log, _) = open_log(&sandbox.log_folder(), true, sandbox.key().map(sealer))
        .map_err(|error| Failure::new(error.to_string()))?;
    let owner = LogRecord::Owner(LogOwner { sandbox_id, boot });
    log.append(&[owner]).map_err(|error| Failure::new(error.to_string()))?;
    let state = (sandbox.state_folder(), sandbox.key().map(sealer));
    let made = backup::restore(folder, &contents, &mut log, state, node);
    drop(log);
    let made = made.inspect_err(|_| {
        // What was begun is removed, so that it can be tried again.
        if let Err(why) = clear(sandbox) {
            tracing::error!(target: "amrita", "{why}");
        }
    })?;
    sandbox.begin()?;
    Ok(made)
}

/// Removes log and state of a sandbox that has not begun: of a restore that was killed. Nobody was
/// promised anything by it.
fn clear(sandbox: &Sandbox) -> Result<(), Failure> {
    for folder in [sandbox.log_folder(), sandbox.state_folder()] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let shown = folder.display();
                return Err(Failure::new(format!("{shown} cannot be removed: {error}"))
                    .advise("it is left of a restore that was killed: remove it"));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn open_log(
    folder: &Path,
    trusts: bool,
    sealer: Option<Sealer>,
) -> Result<(Log<FileDisk>, Recovered), LogError> {
    let disk = FileDisk::open(folder)?;
    let disk = if trusts { disk.trusting() } else { disk };
    Log::open_with(disk, LogOptions { segment_bytes: SEGMENT_BYTES }, sealer)
}
