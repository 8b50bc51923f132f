//! Real processes of the binary, on this machine, in a folder that goes when they do.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;

use crate::http::{Access, Connection};
use crate::load::{self, Measured, Verb};

pub(crate) struct Cluster {
    binary: PathBuf,
    folder: tempfile::TempDir,
    pub(crate) ports: Vec<u16>,
    nodes: Vec<Option<Child>>,
    protection: Protection,
    /// Encrypted under the key in that file.
    key: Option<PathBuf>,
    /// How clients speak to it.
    pub(crate) access: Access,
}

/// How nodes are protected: not at all, unless something is said.
#[derive(Clone, Default)]
pub(crate) struct Protection {
    /// Flags of the nodes.
    pub(crate) flags: Vec<String>,
    /// If they speak TLS: by what clients know them.
    pub(crate) tls: Option<TlsConnector>,
    /// Sandboxes are encrypted.
    pub(crate) is_encrypted: bool,
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
        let cluster = Self::begin(binary, count, scratch, Protection::default())?;
        cluster.first_write(Duration::from_secs(20)).await?;
        Ok(cluster)
    }

    /// Starts them, and does not wait for anything.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub(crate) fn begin(
        binary: &Path,
        count: usize,
        scratch: Option<&Path>,
        protection: Protection,
    ) -> io::Result<Self> {
        let folder = match scratch {
            Some(parent) => tempfile::tempdir_in(parent)?,
            None => tempfile::tempdir()?,
        };
        let (ports, binary) = (free_ports(count)?, binary.to_owned());
        let nodes = (0..count).map(|_| None).collect();
        let key = protection.is_encrypted.then(|| folder.path().join("key"));
        if let Some(key) = &key {
            let mut options = std::fs::File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(key)?;
            file.write_all(b"no secret: a key for figures, in a folder that goes")?;
        }
        let access = Access::by(protection.tls.clone());
        let mut cluster = Self { binary, folder, ports, nodes, protection, key, access };
        for index in 0..count {
            cluster.start_node(index)?;
        }
        Ok(cluster)
    }

    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start_node(&mut self, index: usize) -> io::Result<()> {
        let scheme = if self.protection.tls.is_some() { "https" } else { "http" };
        let peers: Vec<String> =
            self.ports.iter().map(|port| format!("{scheme}://127.0.0.1:{port}")).collect();
        let log = std::fs::File::options().create(true).append(true).open(self.log(index))?;
        let mut command = Command::new(&self.binary);
        command
            .args(["node", "--id", &format!("n{}", index + 1)])
            .args(["--port", &self.ports[index].to_string()])
            .arg("--sandbox")
            .arg(self.sandbox(index))
            .args(&self.protection.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if self.ports.len() > 1 {
            command.args(["--peer-nodes", &peers.join(",")]);
        }
        if let Some(key) = &self.key {
            command.arg("--encryption-key-file").arg(key);
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

    /// The sandbox of a node.
    pub(crate) fn sandbox(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{}", index + 1))
    }

    /// What a node has printed.
    fn log(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{}.log", index + 1))
    }

    /// Where programs attach to a node.
    pub(crate) fn socket(&self, index: usize) -> PathBuf {
        self.sandbox(index).join("immortals.sock")
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
                if let Ok(mut connection) = Connection::open_by(*port, &self.access).await
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

    /// What clients get of it, and what of the processors it needs for each request.
    ///
    /// # Errors
    /// When no connection can be made, or a node is not running.
    pub(crate) async fn load(
        &self,
        clients: usize,
        time: Duration,
        verb: Verb,
    ) -> io::Result<Measured> {
        let before = self.cpu_micros()?;
        let mut run = load::run_by(&self.access, &self.ports, clients, time, verb).await?;
        run.cpu_micros = (self.cpu_micros()? - before) / run.count.max(1.0);
        Ok(run)
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
            let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
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
