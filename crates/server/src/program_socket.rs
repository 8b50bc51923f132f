//! The door for programs beside the node: a Unix socket in its sandbox. The user that runs the node
//! may attach programs there, and nobody else.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::dial::Ends;
use crate::disk::FILE_MODE;

/// The name of the socket in the sandbox.
const SOCKET: &str = "immortals.sock";

/// The longest path that the system takes for a socket, with its end mark.
const PATH_BYTES_MAX: usize = 108;

/// How long to wait when no connection can be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The socket's place; taken away when the node ends.
pub(crate) struct ProgramSocket {
    path: PathBuf,
}

impl ProgramSocket {
    /// Listens in this sandbox, which is ours: what is left of a former process is removed. Without
    /// the socket the node goes on, as programs can come over HTTP too.
    pub(crate) fn open(sandbox: &Path, ends: &Ends, closing: watch::Receiver<()>) -> Option<Self> {
        let path = std::path::absolute(sandbox).unwrap_or_else(|_| sandbox.to_owned()).join(SOCKET);
        let _entered = ends.runtime.enter();
        match listen(&path) {
            Ok(listener) => {
                ends.runtime.spawn(serve(listener, ends.clone(), closing));
                Some(Self { path })
            }
            Err(why) => {
                tracing::warn!(
                    target: "amrita",
                    "programs cannot attach at {}: {why}. They can attach over this node's port \
                     (GET /core/immortals/NAME/attach)",
                    path.display()
                );
                None
            }
        }
    }
}

impl Drop for ProgramSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener, String> {
    let bytes = path.as_os_str().len();
    if bytes >= PATH_BYTES_MAX {
        return Err(format!(
            "the path has {bytes} bytes, and the system takes {} for a socket; a --sandbox with a \
             shorter path helps",
            PATH_BYTES_MAX - 1
        ));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!("what is there cannot be removed: {error}"));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| error.to_string())?;
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
        .map_err(|error| format!("it cannot be kept to this user: {error}"))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, ends: Ends, mut closing: watch::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.changed() => return,
        };
        match accepted {
            Ok((socket, _)) => attach(socket, &ends, &closing),
            Err(error) => pause(&error).await,
        }
    }
}

fn attach(socket: UnixStream, ends: &Ends, closing: &watch::Receiver<()>) {
    if !ends.has_room_for_a_program() {
        tracing::warn!(target: "amrita", "a program is turned away: too many are connected");
        return;
    }
    let (ends, closing) = (ends.clone(), closing.clone());
    tokio::spawn(async move { ends.take_in(socket, Bytes::new(), None, closing).await });
}

async fn pause(error: &io::Error) {
    tracing::warn!("no program can be accepted: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
