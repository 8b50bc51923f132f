//! `amrita restore`: of a backup, the sandbox of the first node of a new cluster is made.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use server::{Made, restore_into};

use crate::key_options::KeyOptions;
use crate::outcome::{Outcome, Trouble};
use crate::screen;

#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The folder of the backup
    pub(crate) dir: PathBuf,
    /// Folder that becomes the sandbox of the first node: empty, or not there so far
    #[arg(long, value_name = "DIR")]
    pub(crate) sandbox: PathBuf,
    /// The node's name [default: one that is made up]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    key: KeyOptions,
}

pub(crate) fn run(options: &RestoreOptions, json: bool) -> Outcome {
    server::keep_files_private();
    let RestoreOptions { dir, sandbox, id, key } = options;
    let made = restore_into(dir, sandbox, id.clone(), key.encryption());
    let made = made.map_err(|failure| Trouble::from(failure.to_string()))?;
    let Made { node_id, cluster, partitions, sandbox } = made;
    let shown = sandbox.display();
    if json {
        let said = json!({
            "cluster": format!("{cluster:016x}"), "partitions": partitions, "id": node_id,
            "sandbox": sandbox,
        });
        screen::say(&said.to_string());
        return Ok(());
    }
    screen::say(&format!(
        "{shown} is the sandbox of node {node_id} now, which is the new cluster {cluster:016x}, with \
         {partitions} partitions. Start it with: amrita node --id {node_id} --sandbox {shown}. Other \
         nodes join it then; when one has, start it with --peer-nodes from then on."
    ));
    Ok(())
}
