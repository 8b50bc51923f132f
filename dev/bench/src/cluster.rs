//! Real processes of the binary, on this machine, in a folder that goes when they do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::http::Connection;

pub(crate) struct Cluster {
    binary: PathBuf,
    folder: tempfile::TempDir,
    pub(crate) ports: Vec<u16>,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `count` nodes and waits until a first write is acknowledged.
    ///
    /// # Errors
    /// When a process cannot be started or the cluster does not form.
    pub(crate) async fn start(
        binary: &Path,
        count: usize,
        scratch: Option<&Path>,
    ) -> io::Result<Self> {
        let folder = match scratch {
            Some(parent) => tempfile::tempdir_in(parent)?,
            None => tempfile::tempdir()?,
        };
        let ports = free_ports(count)?;
        let nodes = (0..count).map(|_| None).collect();
        let mut cluster = Self { binary: binary.to_owned(), folder, ports, nodes };
        for index in 0..count {
            cluster.start_node(index)?;
        }
        cluster.first_write(Duration::from_secs(20)).await?;
        Ok(cluster)
    }

    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start_node(&mut self, index: usize) -> io::Result<()> {
        let peers: Vec<String> =
            self.ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("n{}.log", index + 1)))?;
        let mut command = Command::new(&self.binary);
        command
            .args(["node", "--id", &format!("n{}", index + 1)])
            .args(["--port", &self.ports[index].to_string()])
            .arg("--sandbox")
            .arg(self.folder.path().join(format!("n{}", index + 1)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if self.ports.len() > 1 {
            command.args(["--peer-nodes", &peers.join(",")]);
        }
        self.nodes[index] = Some(command.spawn()?);
        Ok(())
    }

    /// SIGKILL, and wait until the process is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub(crate) async fn kill(&mut self, index: usize) -> io::Result<()> {
        let mut child = self.nodes[index].take().ok_or_else(|| io::Error::other("not running"))?;
        child.kill().await
    }

    /// SIGKILL of all nodes at once.
    ///
    /// # Errors
    /// When they cannot be killed.
    pub(crate) async fn kill_all(&mut self) -> io::Result<()> {
        for child in self.nodes.iter_mut().flatten() {
            child.start_kill()?;
        }
        for node in &mut self.nodes {
            if let Some(mut child) = node.take() {
                child.wait().await?;
            }
        }
        Ok(())
    }

    /// Where programs attach to a node.
    pub(crate) fn socket(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{}", index + 1)).join("immortals.sock")
    }

    pub(crate) fn pid(&self, index: usize) -> Option<u32> {
        self.nodes[index].as_ref().and_then(Child::id)
    }

    /// Tries to write until it is acknowledged; how long that took.
    ///
    /// # Errors
    /// When it takes longer than `patience`.
    pub(crate) async fn first_write(&self, patience: Duration) -> io::Result<Duration> {
        let began = Instant::now();
        loop {
            for port in &self.ports {
                let body = r#"{"name":"first","counter":1}"#;
                if let Ok(mut connection) = Connection::open(*port).await
                    && let Ok(answer) = connection.ask("POST", "/core/examples", None, body).await
                    && answer.status == 200
                {
                    return Ok(began.elapsed());
                }
            }
            if began.elapsed() > patience {
                return Err(io::Error::other(format!(
                    "no write was acknowledged within {patience:?}; the nodes' logs: {}",
                    self.logs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Which node owns a document, as an index.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn owner_of(&self, link: &str) -> io::Result<usize> {
        let body = format!("{{\"key\":\"{link}\"}}");
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            for (index, port) in self.ports.iter().enumerate() {
                if self.nodes[index].is_none() {
                    continue;
                }
                let Ok(mut connection) = Connection::open(*port).await else { continue };
                let path = "/core/node-selectors/default";
                let Ok(answer) = connection.ask("POST", path, None, &body).await else { continue };
                let answer: serde_json::Value =
                    serde_json::from_slice(&answer.body).unwrap_or_default();
                let owner = answer["ownerNodeId"].as_str().and_then(|id| id.strip_prefix('n'));
                if let Some(owner) = owner.and_then(|number| number.parse::<usize>().ok()) {
                    return Ok(owner - 1);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other("nobody knows the owner"))
    }

    /// Resident memory of a node, in KiB.
    ///
    /// # Errors
    /// When it is not running.
    pub(crate) fn resident_kib(&self, index: usize) -> io::Result<u64> {
        let pid = self.pid(index).ok_or_else(|| io::Error::other("not running"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// How long all nodes have been on the processors, in microseconds.
    ///
    /// # Errors
    /// When one is not running.
    pub(crate) fn cpu_micros(&self) -> io::Result<f64> {
        (0..self.ports.len())
            .map(|index| {
                let pid = self.pid(index).ok_or_else(|| io::Error::other("not running"))?;
                cpu_micros_of(pid)
            })
            .sum()
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for index in 0..self.ports.len() {
            let path = self.folder.path().join(format!("n{}.log", index + 1));
            let log = std::fs::read_to_string(path).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            text.push_str(&format!("\n[n{}] {}", index + 1, last.join("\n     ")));
        }
        text
    }
}

/// How long a process has been on the processors, in microseconds.
///
/// # Errors
/// When it is not running.
pub(crate) fn cpu_micros_of(pid: u32) -> io::Result<f64> {
    /// The kernel counts in hundredths of a second.
    const TICK_MICROS: f64 = 10_000.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // What comes after the name, which may contain anything; user and system time are the 14th and
    // 15th of all.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let times = fields.split(' ').skip(11).take(2);
    let ticks: u32 = times.filter_map(|word| word.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) * TICK_MICROS)
}

/// Ports that nobody uses at the moment.
///
/// # Errors
/// When there are none.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<std::net::TcpListener> = (0..count)
        .map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)))
        .collect::<io::Result<_>>()?;
    held.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}
