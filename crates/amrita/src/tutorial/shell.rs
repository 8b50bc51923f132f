//! What a person would type: shown, done by this same program, and its words shown.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::screen::quoted;
use crate::tutorial::ask;
use crate::tutorial::cluster::Cluster;
use crate::tutorial::story::Story;

/// Runs `amrita` with these words, as a person would.
///
/// # Errors
/// When it fails: with its words.
pub(crate) async fn amrita(
    story: &Story,
    cluster: &Cluster,
    words: &[&str],
) -> Result<String, String> {
    let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    story.shell(&format!("amrita {}", typed.join(" ")));
    let mut command = Command::new(cluster.program());
    command.args(words).args(["--address", &cluster.addresses()]).stdin(Stdio::null());
    // Beside the runtime, whose only thread must go on listening to the programs.
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ran
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("amrita cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for row in said.lines() {
        story.row(row);
    }
    if output.status.success() {
        return Ok(said);
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("amrita {} failed: {}", typed.join(" "), why.trim_end()))
}

/// An instance as that node sees it.
pub(crate) async fn instance(cluster: &Cluster, asked: usize, name: &str) -> Result<Value, String> {
    let uri = cluster.uri(asked, &format!("/core/immortals/{name}"));
    Ok(ask::get(&uri).await?.expect(200)?.body)
}

/// The replica of it on a node.
pub(crate) fn replica<'a>(state: &'a Value, node: &str) -> &'a Value {
    let replicas = state["replicas"].as_array().into_iter().flatten();
    replicas.into_iter().find(|replica| replica["node"] == node).unwrap_or(&Value::Null)
}

/// The node of the primary.
pub(crate) fn primary(state: &Value) -> Option<String> {
    let mut replicas = state["replicas"].as_array().into_iter().flatten();
    let primary = replicas.find(|replica| replica["role"] == "PRIMARY")?;
    primary["node"].as_str().map(str::to_owned)
}

pub(crate) fn standbys(state: &Value) -> usize {
    let replicas = state["replicas"].as_array().into_iter().flatten();
    replicas.filter(|replica| replica["role"] == "STANDBY").count()
}
