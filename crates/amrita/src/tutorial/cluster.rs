//! The tutorial's nodes: processes of this same program, in a temporary folder.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Place;
use super::ask::{self, until};
use super::story::line;

/// How long a node may take to end after it was asked to.
const END_WITHIN: Duration = Duration::from_secs(10);

/// One node of the cluster, running or not.
struct Member {
    id: String,
    port: u16,
    child: Option<Child>,
}

/// Three nodes in one folder. What still runs when this goes out of scope is killed.
pub(crate) struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    keep: bool,
    members: Vec<Member>,
    /// Arguments that every node gets beside its own.
    extra: Vec<String>,
}

impl Cluster {
    /// Makes the folder and finds the ports; no node runs yet.
    pub(crate) fn prepare(place: &Place, name: &str) -> Result<Self, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("this program cannot find its own file: {error}"))?;
        let folder =
            std::env::temp_dir().join(format!("amrita-tutorial-{name}-{}", std::process::id()));
        let ports = match place.base_port {
            Some(base) => (1..=3).map(|number| base.saturating_add(number)).collect(),
            None => free_ports()?,
        };
        let members = ports
            .iter()
            .zip(1..)
            .map(|(port, number)| Member { id: format!("n{number}"), port: *port, child: None })
            .collect();
        let cluster = Self { program, folder, keep: place.keep, members, extra: Vec::new() };
        cluster.empty_folder()?;
        Ok(cluster)
    }

    /// A new beginning: no data, and these arguments for every node.
    pub(crate) fn start_over(&mut self, extra: &[&str]) -> Result<(), String> {
        self.kill_all();
        self.empty_folder()?;
        self.extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        Ok(())
    }

    fn empty_folder(&self) -> Result<(), String> {
        let failed =
            |error| format!("the folder {} cannot be made: {error}", self.folder.display());
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(failed)?;
        }
        fs::create_dir_all(&self.folder).map_err(failed)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The tutorial failed: what the nodes wrote may tell why.
    pub(crate) fn keep_folder(&mut self) {
        self.keep = true;
    }

    pub(crate) fn id(&self, which: usize) -> &str {
        &self.members[which].id
    }

    pub(crate) fn which(&self, id: &str) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    pub(crate) fn uri(&self, which: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.members[which].port)
    }

    pub(crate) fn is_running(&self, which: usize) -> bool {
        self.members[which].child.is_some()
    }

    /// The id of a node's process.
    pub(crate) fn process(&self, which: usize) -> Result<u32, String> {
        let child = self.members[which].child.as_ref();
        child.map(Child::id).ok_or_else(|| format!("node {} does not run", self.id(which)))
    }

    /// The nodes that run, by number.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.len()).filter(|which| self.is_running(*which)).collect()
    }

    fn arguments(&self, which: usize) -> Vec<String> {
        let member = &self.members[which];
        let sandbox = self.sandbox(which);
        let port = member.port.to_string();
        let mut arguments: Vec<String> = ["node", "--id", &member.id, "--port", &port]
            .map(str::to_owned)
            .into_iter()
            .chain(["--peer-nodes".to_owned(), self.addresses()])
            .chain(["--sandbox".to_owned(), sandbox.display().to_string()])
            .collect();
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    /// The line that starts that node by hand.
    pub(crate) fn command_line(&self, which: usize) -> String {
        format!("amrita {}", self.arguments(which).join(" "))
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn sandbox(&self, which: usize) -> PathBuf {
        self.folder.join(&self.members[which].id)
    }

    /// All nodes, as `--address` takes them.
    pub(crate) fn addresses(&self) -> String {
        let uris: Vec<String> = (0..self.len()).map(|which| self.uri(which, "")).collect();
        uris.join(",")
    }

    pub(crate) fn log_path(&self, which: usize) -> PathBuf {
        self.folder.join(format!("{}.log", self.members[which].id))
    }

    /// Starts the process; says nothing about whether it is ready.
    pub(crate) fn start(&mut self, which: usize) -> Result<(), String> {
        let path = self.log_path(which);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
        let copy = log.try_clone().map_err(|error| format!("{}: {error}", path.display()))?;
        let mut command = Command::new(&self.program);
        // What is set for nodes of the user's own is not for these.
        for variable in server::variables() {
            command.env_remove(variable);
        }
        let child = command
            .args(self.arguments(which))
            // The node stops when this end of the pipe is closed, so it never outlives us.
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(|error| format!("node {} cannot be started: {error}", self.id(which)))?;
        self.members[which].child = Some(child);
        Ok(())
    }

    /// SIGKILL: the process gets no chance to say anything.
    pub(crate) fn kill(&mut self, which: usize) -> Result<(), String> {
        let Some(mut child) = self.members[which].child.take() else {
            return Err(format!("node {} does not run", self.id(which)));
        };
        let failed = |error| format!("node {} cannot be killed: {error}", self.id(which));
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        Ok(())
    }

    /// Waits until the process has ended by itself, and says how and after what time.
    pub(crate) async fn ended(&mut self, which: usize) -> Result<(ExitStatus, Duration), String> {
        let began = Instant::now();
        let id = self.members[which].id.clone();
        let Some(mut child) = self.members[which].child.take() else {
            return Err(format!("node {id} does not run"));
        };
        while began.elapsed() < END_WITHIN {
            let status = child.try_wait().map_err(|error| format!("node {id}: {error}"))?;
            if let Some(status) = status {
                return Ok((status, began.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.members[which].child = Some(child);
        Err(format!("node {id} still runs {END_WITHIN:?} after it was asked to stop"))
    }

    /// Complains when a node has ended that should be running.
    pub(crate) fn all_well(&mut self) -> Result<(), String> {
        for which in 0..self.len() {
            let path = self.log_path(which);
            let member = &mut self.members[which];
            let Some(child) = &mut member.child else { continue };
            if let Ok(Some(status)) = child.try_wait() {
                member.child = None;
                let log = fs::read_to_string(&path).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(5).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                return Err(format!(
                    "node {} has ended ({status}); its last lines:\n{}",
                    member.id,
                    end.join("\n")
                ));
            }
        }
        Ok(())
    }

    /// Starts every node and waits until each sees all of them.
    pub(crate) async fn start_all(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        for which in 0..self.len() {
            self.start(which)?;
        }
        let count = self.len();
        for which in 0..count {
            self.wait_until_available(which, count).await?;
        }
        Ok(began.elapsed())
    }

    /// Waits until `which` sees `wanted` nodes as available.
    pub(crate) async fn wait_until_available(
        &mut self,
        which: usize,
        wanted: usize,
    ) -> Result<(), String> {
        let uri = self.uri(which, "/core/node-groups/default");
        let seen = until(Duration::from_secs(20), async || {
            let group = ask::get(&uri).await?;
            let available = available(&group.body);
            if available.len() == wanted {
                return Ok(());
            }
            Err(format!("{uri} shows {available:?} as available, not {wanted} nodes"))
        })
        .await;
        self.all_well()?;
        seen
    }

    fn kill_all(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                // It may have ended by itself in this moment; then there is nothing to do.
                drop(child.kill());
                drop(child.wait());
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        if self.keep {
            line(&format!("Logs and data are in {}.", self.folder.display()));
        } else {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// The ids of the nodes that a node group shows as available.
pub(crate) fn available(group: &serde_json::Value) -> Vec<String> {
    let Some(nodes) = group["nodes"].as_object() else { return Vec::new() };
    nodes
        .iter()
        .filter(|(_, node)| node["status"] == "AVAILABLE")
        .map(|(id, _)| id.clone())
        .collect()
}

/// Three ports that nobody listens on, below those that the system gives to outgoing connections:
/// a killed node must find its port free when it is started again.
fn free_ports() -> Result<Vec<u16>, String> {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    let begin = std::process::id().wrapping_mul(97);
    let candidates = (0..COUNT).map(|offset| FIRST + begin.wrapping_add(offset) % COUNT);
    let ports: Vec<u16> = candidates
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(3)
        .collect();
    if ports.len() == 3 { Ok(ports) } else { Err("no free ports on 127.0.0.1".into()) }
}
