//! Nodes as processes, in a temporary folder that goes when the test ends well.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Ask, Reply};

/// Holds the machine for one test after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// For tests that start nodes without a [`Cluster`].
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longer than anything here may take on a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) port: u16,
    pub(crate) sandbox: PathBuf,
    child: Option<Child>,
}

pub(crate) struct Cluster {
    folder: PathBuf,
    members: Vec<Member>,
    /// What every node is started with beside the usual.
    flags: Vec<String>,
    /// None for a second cluster of the same test.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Cluster {
    /// The nodes' names, ports and folders; none runs yet.
    pub(crate) fn of(count: usize) -> Self {
        Self::make(count, Some(turn()))
    }

    /// One more cluster, in a test that has one; running and serving.
    pub(crate) fn another(&self, count: usize) -> Self {
        assert!(self._turn.is_some(), "only the first cluster of a test makes another");
        let mut cluster = Self::make(count, None);
        cluster.start_all();
        cluster
    }

    /// One node of two: it waits for the other to form a cluster with.
    pub(crate) fn another_that_waits(&self) -> Self {
        assert!(self._turn.is_some(), "only the first cluster of a test makes another");
        let mut cluster = Self::make(2, None);
        cluster.start(0);
        cluster
            .wait_for("it to answer", || Ask::get("/core/management").send(cluster.port(0)).ok());
        cluster
    }

    /// One node, that has a name which another one has.
    pub(crate) fn another_called(&self, id: &str) -> Self {
        assert!(self._turn.is_some(), "only the first cluster of a test makes another");
        let mut cluster = Self::make(1, None);
        id.clone_into(&mut cluster.members[0].id);
        cluster.start_all();
        cluster
    }

    /// One node, started with these flags the first time; running and serving.
    pub(crate) fn another_with(&self, flags: &[&str]) -> Self {
        assert!(self._turn.is_some(), "only the first cluster of a test makes another");
        let mut cluster = Self::make(1, None);
        cluster.start_with(0, flags);
        cluster.wait_until_whole();
        cluster
    }

    /// One node with an empty sandbox, that asks to join this cluster and waits for a person.
    pub(crate) fn one_that_asks(&self, id: &str) -> Self {
        assert!(self._turn.is_some(), "only the first cluster of a test makes another");
        let mut other = Self::make(1, None);
        id.clone_into(&mut other.members[0].id);
        other.start_asking(0, self.port(0));
        other
    }

    /// Starts a node that asks to join the cluster of the node at that port.
    pub(crate) fn start_asking(&mut self, which: usize, contact: u16) {
        let peers = format!("{},{}", uri(self.port(which)), uri(contact));
        self.start_with(which, &["--peer-nodes", &peers]);
    }

    /// From its next start on it is at another port.
    pub(crate) fn move_to(&mut self, which: usize, port: u16) {
        self.members[which].port = port;
    }

    /// Starts a node on what its sandbox has, which knows its peers.
    pub(crate) fn start_again(&mut self, which: usize) {
        self.start_with(which, &[]);
    }

    /// Waits until the node has ended by itself.
    pub(crate) fn ends(&mut self, which: usize) -> ExitStatus {
        let mut child = self.members[which].child.take().expect("the node runs");
        ended(&mut child).unwrap_or_else(|| {
            self.members[which].child = Some(child);
            panic!("it goes on:\n{}", self.end_of_log(which))
        })
    }

    /// Lets a node in that asks to join.
    pub(crate) fn let_in(&self, which: usize, id: &str) {
        let path = format!("/core/node-groups/default/asking/{id}");
        let post = Ask::new("POST", &path).json(&json!({}));
        self.wait_for(&format!("{id} to be let in"), || {
            let reply = post.send(self.port(which)).ok()?;
            (reply.status == 200).then_some(())
        });
    }

    fn make(count: usize, turn: Option<MutexGuard<'static, ()>>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("amrita-e2e-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be made");
        // Two clusters of one test may meet: no two nodes have one name.
        let letter = if turn.is_some() { 'n' } else { 'm' };
        let members = free_ports(count)
            .into_iter()
            .zip(1..)
            .map(|(port, number)| {
                let id = format!("{letter}{number}");
                Member { sandbox: folder.join(&id), id, port, child: None }
            })
            .collect();
        Self { folder, members, flags: Vec::new(), _turn: turn }
    }

    /// All of them running, seeing one another and serving.
    pub(crate) fn started(count: usize) -> Self {
        let mut cluster = Self::of(count);
        cluster.start_all();
        cluster
    }

    /// From now on every node is started with these flags beside the usual ones.
    pub(crate) fn always(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    pub(crate) fn start_all(&mut self) {
        for which in 0..self.len() {
            self.start(which);
        }
        self.wait_until_whole();
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn member(&self, which: usize) -> &Member {
        &self.members[which]
    }

    pub(crate) fn port(&self, which: usize) -> u16 {
        self.members[which].port
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.port).collect()
    }

    pub(crate) fn peers(&self) -> String {
        let uris: Vec<String> = self.ports().iter().map(|port| uri(*port)).collect();
        uris.join(",")
    }

    fn arguments(&self, which: usize) -> Vec<String> {
        let member = &self.members[which];
        let mut arguments = node_arguments(&member.id, member.port, &member.sandbox);
        if self.len() > 1 {
            arguments.extend(["--peer-nodes".to_owned(), self.peers()]);
        }
        arguments
    }

    pub(crate) fn start(&mut self, which: usize) {
        self.start_with(which, &[]);
    }

    /// With flags that it does not have otherwise.
    pub(crate) fn start_with(&mut self, which: usize, flags: &[&str]) {
        let path = self.log_path(which);
        let log = File::options().create(true).append(true).open(path);
        let log = log.expect("a log can be opened");
        let copy = log.try_clone().expect("a handle can be copied");
        let child = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(self.arguments(which))
            .args(&self.flags)
            .args(flags)
            // The node stops when this end of the pipe is closed, so it never outlives the test.
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .expect("the program can be started");
        self.members[which].child = Some(child);
    }

    fn log_path(&self, which: usize) -> PathBuf {
        self.folder.join(format!("{}.log", self.members[which].id))
    }

    /// All that a node said since the test began.
    pub(crate) fn log(&self, which: usize) -> String {
        fs::read_to_string(self.log_path(which)).unwrap_or_default()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, which: usize) {
        let mut child = self.members[which].child.take().expect("the node runs");
        child.kill().expect("a child of ours can be killed");
        child.wait().expect("a child of ours can be awaited");
    }

    /// SIGSTOP: the node is there, and does nothing until [`Self::go_on`].
    pub(crate) fn pause(&self, which: usize) {
        self.signal(which, "STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self, which: usize) {
        self.signal(which, "CONT");
    }

    fn signal(&self, which: usize, name: &str) {
        let child = self.members[which].child.as_ref().expect("the node runs");
        // The shell's own `kill`: there need not be a program of that name.
        let line = format!("kill -{name} {}", child.id());
        let status = Command::new("sh").args(["-c", &line]).status();
        assert!(status.is_ok_and(|status| status.success()), "{line} failed");
    }

    /// Asks the node to stop, and waits until it has.
    pub(crate) fn stop(&mut self, which: usize) -> ExitStatus {
        let reply = self.ask(which, &Ask::new("DELETE", "/core/management"));
        assert_eq!(reply.status, 202, "{}", reply.body);
        let mut child = self.members[which].child.take().expect("the node runs");
        ended(&mut child).expect("a node that is asked to stop ends")
    }

    /// What the node answers; a node that does not answer fails the test.
    pub(crate) fn ask(&self, which: usize, ask: &Ask<'_>) -> Reply {
        ask.send(self.port(which)).unwrap_or_else(|why| {
            panic!("{} does not answer: {why}\n{}", self.members[which].id, self.end_of_log(which))
        })
    }

    pub(crate) fn get(&self, which: usize, path: &str) -> Reply {
        self.ask(which, &Ask::get(path))
    }

    pub(crate) fn end_of_log(&self, which: usize) -> String {
        let log = self.log(which);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Every node that runs sees all nodes, and every factory serves on each of them.
    pub(crate) fn wait_until_whole(&self) {
        for which in 0..self.len() {
            self.wait_for(&format!("{} to see all nodes", self.members[which].id), || {
                let group = Ask::get("/core/node-groups/default").send(self.port(which)).ok()?;
                (available(&group.body) == self.len()).then_some(())
            });
            self.wait_for(&format!("{} to serve", self.members[which].id), || {
                let ask = Ask::get("/core/examples/available").send(self.port(which)).ok()?;
                (ask.status == 200).then_some(())
            });
        }
    }

    /// Looks until there is something; shows all logs when there is nothing for too long.
    pub(crate) fn wait_for<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if began.elapsed() > SOON {
                let logs: Vec<String> =
                    (0..self.len()).map(|which| self.end_of_log(which)).collect();
                panic!("waited {SOON:?} for {what}; the logs end with\n{}", logs.join("\n--\n"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The node that owns a document now, as `asked` knows it.
    pub(crate) fn owner_of(&self, asked: usize, link: &str) -> Option<usize> {
        let ask = Ask::new("POST", "/core/node-selectors/default").json(&json!({"key": link}));
        let reply = ask.send(self.port(asked)).ok()?;
        let id = reply.body["ownerNodeId"].as_str()?.to_owned();
        self.members.iter().position(|member| member.id == id)
    }

    /// Runs the program once more, beside the cluster, and waits for its end.
    pub(crate) fn run_to_its_end(arguments: &[String]) -> Ended {
        let child = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("the program can be started");
        let began = Instant::now();
        let status = ended(&mut child);
        let took = began.elapsed();
        if status.is_none() {
            child.kill().expect("a child of ours can be killed");
        }
        let output = child.wait_with_output().expect("the output can be read");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let status = status.unwrap_or_else(|| panic!("still running after {took:?}:\n{said}"));
        Ended { status, said, took }
    }
}

/// How a process ended that was run to its end.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
    pub(crate) took: Duration,
}

impl Ended {
    /// It must have failed, soon, and its words must have each of these in them.
    pub(crate) fn refused_with(&self, words: &[&str]) {
        assert!(!self.status.success(), "it ended with success:\n{}", self.said);
        assert!(self.took < Duration::from_secs(10), "it took {:?}", self.took);
        assert!(!self.said.contains("panicked"), "{}", self.said);
        for word in words {
            assert!(self.said.contains(word), "'{word}' is not in\n{}", self.said);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                drop(child.kill());
                drop(child.wait());
            }
        }
        if !std::thread::panicking() {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < SOON {
        if let Some(status) = child.try_wait().expect("a child of ours can be awaited") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

pub(crate) fn uri(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// What every node is started with.
pub(crate) fn node_arguments(id: &str, port: u16, sandbox: &Path) -> Vec<String> {
    let port = port.to_string();
    let sandbox = sandbox.display().to_string();
    ["node", "--id", id, "--port", &port, "--sandbox", &sandbox].map(str::to_owned).to_vec()
}

/// How many nodes a node group shows as available.
pub(crate) fn available(group: &Value) -> usize {
    let nodes = group["nodes"].as_object().into_iter().flatten();
    nodes.filter(|(_, node)| node["status"] == "AVAILABLE").count()
}

/// Ports that nobody listens on, below those that the system gives to outgoing connections: a
/// killed node must find its port free when it is started again.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let mut ports = Vec::new();
    while ports.len() < count {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("a port of that range");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
