//! Programs of our own beside the nodes, and the words with which their instances are managed.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::cluster::Cluster;
use crate::http::Connection;

/// How long anything may take before the measurement is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// More log than any measurement writes: no checkpoint comes in the middle of one.
const TRIGGER_BYTES: u64 = 1 << 40;

/// A program beside a node, and what it tells.
pub(crate) struct Attached {
    pub(crate) node: usize,
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Attached {
    /// It tries to attach until the node lets it in.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start(
        cluster: &Cluster,
        node: usize,
        (instance, peer): (&str, &str),
        echo: bool,
    ) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("program").arg("--socket").arg(cluster.socket(node));
        command.args(["--instance", instance, "--peer", peer]);
        if echo {
            command.arg("--echo");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = child.spawn()?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        Ok(Self { node, child, lines: BufReader::new(out).lines() })
    }

    /// The next line that it says: its kind, and the numbers in it.
    ///
    /// # Errors
    /// When it has ended, or has nothing to say for too long.
    pub(crate) async fn next(&mut self) -> io::Result<(String, Vec<u64>)> {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let silent = format!("the program at n{} says nothing more", self.node + 1);
            let line = line.map_err(|_| io::Error::other(silent))??;
            let line = line.ok_or_else(|| io::Error::other("a program has ended"))?;
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or_default();
            if kind == "again" {
                println!("(the program at n{} began anew: {line})", self.node + 1);
                continue;
            }
            let numbers: Result<Vec<u64>, _> = words.map(str::parse).collect();
            let numbers = numbers.map_err(|_| io::Error::other(format!("not numbers: {line}")))?;
            return Ok((kind.to_owned(), numbers));
        }
    }

    /// The numbers of the next line of that kind.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(crate) async fn line(&mut self, kind: &str) -> io::Result<Vec<u64>> {
        loop {
            let (found, numbers) = self.next().await?;
            if found == kind {
                return Ok(numbers);
            }
        }
    }

    /// SIGKILL, without waiting for its end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub(crate) fn start_kill(&mut self) -> io::Result<()> {
        self.child.start_kill()
    }

    /// SIGKILL, and wait until the process is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// Asks one node after the other until one takes it. Gives when that one was asked, in microseconds
/// since 1970, and its answer.
///
/// # Errors
/// When none takes it.
pub(crate) async fn post(cluster: &Cluster, path: &str, body: &Value) -> io::Result<(u64, Value)> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::from("no node answers");
    while Instant::now() < deadline {
        for port in &cluster.ports {
            let Ok(mut connection) = Connection::open(*port).await else { continue };
            let at = micros();
            match connection.ask("POST", path, None, &body.to_string()).await {
                Ok(answer) if answer.status == 200 => {
                    return Ok((at, serde_json::from_slice(&answer.body).unwrap_or_default()));
                }
                Ok(answer) => last = String::from_utf8_lossy(&answer.body).into_owned(),
                Err(error) => last = error.to_string(),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(io::Error::other(format!("POST {path} {body} is not taken: {last}")))
}

/// # Errors
/// When no node takes it.
pub(crate) async fn register(cluster: &Cluster, name: &str, nodes: &[usize]) -> io::Result<()> {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("n{}", node + 1)).collect();
    let body = json!({ "name": name, "replicas": nodes, "logTriggerBytes": TRIGGER_BYTES });
    post(cluster, "/core/immortals", &body).await.map(|_| ())
}

/// How a node sees an instance.
pub(crate) async fn seen(port: u16, name: &str) -> Option<Value> {
    let mut connection = Connection::open(port).await.ok()?;
    let path = format!("/core/immortals/{name}");
    let answer = connection.ask("GET", &path, None, "").await.ok()?;
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Waits until a node sees an instance as it is wanted, and gives what that node sees.
///
/// # Errors
/// When none does.
pub(crate) async fn until(
    cluster: &Cluster,
    name: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> io::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = Value::Null;
    while Instant::now() < deadline {
        for port in &cluster.ports {
            let Some(state) = seen(*port, name).await else { continue };
            if is_so(&state) {
                return Ok(state);
            }
            last = state;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(io::Error::other(format!("'{name}' does not come so far that {what}: {last}")))
}

/// The replicas of an instance, as a node sees them.
pub(crate) fn replicas(state: &Value) -> impl Iterator<Item = &Value> {
    state["replicas"].as_array().into_iter().flatten()
}

/// The node whose program is the primary, when all programs are ready.
///
/// # Errors
/// When that does not come.
pub(crate) async fn primary_of(cluster: &Cluster, name: &str) -> io::Result<usize> {
    let what = "it has a primary and all its programs are ready";
    let state = until(cluster, name, what, |state| {
        let is = |replica: &Value, role: &str| replica["role"] == role;
        replicas(state).all(|r| is(r, "PRIMARY") || is(r, "STANDBY"))
            && replicas(state).any(|r| is(r, "PRIMARY"))
    });
    let state = state.await?;
    let primary = replicas(&state).find(|replica| replica["role"] == "PRIMARY");
    let node = primary.and_then(|replica| replica["node"].as_str()?.strip_prefix('n'));
    let number: Option<usize> = node.and_then(|number| number.parse().ok());
    number.map(|number| number - 1).ok_or_else(|| io::Error::other("a node of another name"))
}

/// Starts a program for each replica; the one of the first node is there first, and leads.
///
/// # Errors
/// When they do not get ready.
pub(crate) async fn attach(
    cluster: &Cluster,
    nodes: &[usize],
    named: (&str, &str),
    echo: bool,
) -> io::Result<Vec<Attached>> {
    let mut programs = Vec::new();
    for node in nodes {
        programs.push(Attached::start(cluster, *node, named, echo)?);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    primary_of(cluster, named.0).await?;
    Ok(programs)
}

/// Takes a checkpoint, so that the log is cut, and waits until every replica has it.
///
/// # Errors
/// When it does not come.
pub(crate) async fn checkpoint(cluster: &Cluster, name: &str) -> io::Result<()> {
    let path = format!("/core/immortals/{name}/checkpoint");
    let (_, answer) = post(cluster, &path, &json!({})).await?;
    let input = answer["input"].as_u64().unwrap_or(0);
    let what = format!("all have the checkpoint at input {input}");
    let reached = until(cluster, name, &what, |state| {
        replicas(state).all(|replica| replica["checkpoint"]["input"].as_u64() >= Some(input))
    });
    reached.await.map(|_| ())
}

/// Microseconds since 1970, as the programs tell them.
pub(crate) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
