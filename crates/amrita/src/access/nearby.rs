//! A node on this machine, by its sandbox: where it listens, whom to believe, and how the first
//! admin logs in.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::outcome::Trouble;

/// A node that was just started gets this long to write these files.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct Nearby {
    pub(super) address: String,
    /// In PEM, if the cluster makes the certificates of its nodes.
    pub(super) authority: Option<String>,
}

impl Nearby {
    pub(super) async fn find(sandbox: &Path) -> Result<Self, Trouble> {
        let file = sandbox.join("address");
        let address = read_when_there(&file).await.map_err(|error| {
            let shown = file.display();
            let why = "Is this the sandbox of a node that runs here?";
            Trouble::usage(format!("{shown} cannot be read: {error}. {why}"))
        })?;
        let authority = fs::read_to_string(sandbox.join("tls/ca.pem")).ok();
        Ok(Self { address: address.trim().to_owned(), authority })
    }
}

/// The password that the node has made up for the first admin.
pub(super) async fn first_password(sandbox: &Path) -> Result<String, Trouble> {
    let file = sandbox.join("first-login");
    let text = read_when_there(&file).await.map_err(|error| {
        let shown = file.display();
        let why = "It is there on the node that has made the first admin, until somebody deletes it. \
                   To log in with a password of your own, name the user: --user NAME";
        Trouble::usage(format!("{shown} cannot be read: {error}. {why}"))
    })?;
    Ok(text.trim().to_owned())
}

async fn read_when_there(file: &Path) -> io::Result<String> {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return Ok(text),
            Ok(_) => {}
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
