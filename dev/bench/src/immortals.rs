//! Figures of immortals: messages per second from one program to another, the latency of a call, and
//! how long a caller waits when the program that answers, or its node, is killed.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::cluster::Cluster;
use crate::http::Connection;
use crate::load::percentile;

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program beside a node, and what it tells.
struct Attached {
    node: usize,
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Attached {
    fn start(
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

    /// The next line it says, as words.
    async fn line(&mut self) -> io::Result<Vec<String>> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.map_err(|_| io::Error::other("a program has nothing to say"))??;
        let line = line.ok_or_else(|| io::Error::other("a program has ended"))?;
        Ok(line.split(' ').map(str::to_owned).collect())
    }
}

async fn post(cluster: &Cluster, path: &str, body: &Value) -> io::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for port in &cluster.ports {
            let Ok(mut connection) = Connection::open(*port).await else { continue };
            if let Ok(answer) = connection.ask("POST", path, None, &body.to_string()).await
                && answer.status == 200
            {
                return Ok(serde_json::from_slice(&answer.body).unwrap_or_default());
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("POST {path} {body} is not taken")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn register(cluster: &Cluster, name: &str, nodes: &[usize]) -> io::Result<()> {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("n{}", node + 1)).collect();
    // No checkpoint in the middle of a short measurement.
    let body = json!({ "name": name, "replicas": nodes, "logTriggerBytes": 1_u64 << 31 });
    post(cluster, "/core/immortals", &body).await.map(|_| ())
}

/// The node whose program is the primary.
async fn primary_of(cluster: &Cluster, name: &str) -> io::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for port in &cluster.ports {
            let Ok(mut connection) = Connection::open(*port).await else { continue };
            let path = format!("/core/immortals/{name}");
            let Ok(answer) = connection.ask("GET", &path, None, "").await else { continue };
            let state: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let replicas = state["replicas"].as_array().cloned().unwrap_or_default();
            let ready = replicas.iter().all(|r| r["role"] == "PRIMARY" || r["role"] == "STANDBY");
            let primary = replicas.iter().find(|replica| replica["role"] == "PRIMARY");
            let node = primary.and_then(|replica| replica["node"].as_str()?.strip_prefix('n'));
            if let (true, Some(number)) = (ready, node.and_then(|n| n.parse::<usize>().ok())) {
                return Ok(number - 1);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(io::Error::other(format!("'{name}' has no primary, or not all its programs are ready")))
}

/// Starts a program for each replica; the one of the first node is there first, and leads.
async fn attach(
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

/// Messages per second at several sizes.
///
/// # Errors
/// When something does not come up or go on.
pub(crate) async fn throughput(
    binary: &Path,
    scratch: Option<&Path>,
    sizes: &[u64],
    megabytes: u64,
    (replicas, echo): (usize, bool),
) -> io::Result<Vec<(u64, f64, f64)>> {
    let cluster = Cluster::start(binary, replicas, scratch).await?;
    let nodes: Vec<usize> = (0..replicas).collect();
    register(&cluster, "source", &nodes).await?;
    register(&cluster, "sink", &nodes).await?;
    let mut sources = attach(&cluster, &nodes, ("source", "sink"), false).await?;
    let mut sinks = attach(&cluster, &nodes, ("sink", "source"), echo).await?;
    let mut found = Vec::new();
    let (mut total, mut began_at) = (0, 0);
    for size in sizes {
        let count = (megabytes << 20) / (size + 4);
        let node = if echo {
            primary_of(&cluster, "source").await?
        } else {
            primary_of(&cluster, "sink").await?
        };
        let counted = if echo { &mut sources[node] } else { &mut sinks[node] };
        let began = Instant::now();
        let payload = json!({ "size": size, "count": count });
        let run = json!({ "method": 1, "payload": payload });
        post(&cluster, "/core/immortals/source/impulses", &run).await?;
        total += count;
        loop {
            let words = counted.line().await?;
            let handled: u64 = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            if handled >= total {
                break;
            }
        }
        let took = began.elapsed().as_secs_f64();
        let messages = as_f64(total - began_at);
        began_at = total;
        found.push((*size, messages / took, messages * as_f64(*size) / took / 1e6));
        println!(
            "{size:>6} B: {:>10.0} messages/s {:>8.1} MB/s of payload  ({count} in {took:.2} s)",
            messages / took,
            messages * as_f64(*size) / took / 1e6
        );
    }
    Ok(found)
}

/// Latency of a call and its answer, one at a time.
///
/// # Errors
/// As [`throughput`].
pub(crate) async fn calls(
    binary: &Path,
    scratch: Option<&Path>,
    count: usize,
    replicas: usize,
) -> io::Result<Vec<Duration>> {
    let cluster = Cluster::start(binary, replicas, scratch).await?;
    let nodes: Vec<usize> = (0..replicas).collect();
    register(&cluster, "source", &nodes).await?;
    register(&cluster, "sink", &nodes).await?;
    let mut sources = attach(&cluster, &nodes, ("source", "sink"), false).await?;
    let _sinks = attach(&cluster, &nodes, ("sink", "source"), false).await?;
    let run = json!({ "method": 4, "payload": { "count": count } });
    post(&cluster, "/core/immortals/source/impulses", &run).await?;
    let node = primary_of(&cluster, "source").await?;
    let mut took = Vec::new();
    while took.len() + 1 < count {
        let (began, ended) = call(&sources[node].line().await?)?;
        took.push(Duration::from_micros(ended - began));
    }
    drop(sources.drain(..));
    took.sort_unstable();
    Ok(took)
}

/// When a call began and when it was answered, in microseconds since 1970.
fn call(words: &[String]) -> io::Result<(u64, u64)> {
    let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok());
    match (number(1), number(2)) {
        (Some(began), Some(ended)) => Ok((began, ended)),
        _ => Err(io::Error::other(format!("not the line of a call: {words:?}"))),
    }
}

/// What is done to the primary that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Harm {
    /// SIGKILL of its program.
    Program,
    /// SIGKILL of its node and its program.
    Node,
    /// A planned move to another replica.
    Move,
}

/// From the harm to the answer of the first call that began after it.
///
/// # Errors
/// As [`throughput`].
pub(crate) async fn failover(
    binary: &Path,
    scratch: Option<&Path>,
    harm: Harm,
    times: usize,
) -> io::Result<Vec<Duration>> {
    let mut cluster = Cluster::start(binary, 4, scratch).await?;
    // The caller lives on a node that nothing is done to.
    register(&cluster, "source", &[3]).await?;
    register(&cluster, "sink", &[0, 1, 2]).await?;
    let mut sinks = attach(&cluster, &[0, 1, 2], ("sink", "source"), false).await?;
    let mut caller = Attached::start(&cluster, 3, ("source", "sink"), false)?;
    primary_of(&cluster, "source").await?;
    let run = json!({ "method": 4, "payload": { "count": 100_000_000_u64 } });
    post(&cluster, "/core/immortals/source/impulses", &run).await?;
    let mut outages = Vec::new();
    for _ in 0..times {
        let calm = Instant::now();
        while calm.elapsed() < Duration::from_millis(1_500) {
            caller.line().await?;
        }
        let node = primary_of(&cluster, "sink").await?;
        let place = sinks.iter().position(|program| program.node == node).unwrap_or(0);
        let at = micros();
        match harm {
            Harm::Program => sinks[place].child.kill().await?,
            Harm::Node => {
                sinks[place].child.start_kill()?;
                cluster.kill(node).await?;
            }
            Harm::Move => {
                let to = json!({ "node": format!("n{}", (node + 1) % 3 + 1) });
                post(&cluster, "/core/immortals/sink/move", &to).await?;
            }
        }
        let outage = loop {
            let (began, ended) = call(&caller.line().await?)?;
            // One that was under way may have been answered before.
            if ended > at && (began >= at || ended - began > 5_000) {
                break ended - at;
            }
        };
        outages.push(Duration::from_micros(outage));
        if harm == Harm::Node {
            cluster.start_node(node)?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if harm != Harm::Move {
            sinks[place] = Attached::start(&cluster, node, ("sink", "source"), false)?;
        }
    }
    outages.sort_unstable();
    Ok(outages)
}

pub(crate) fn show(what: &str, sorted: &[Duration]) {
    let at = |part| percentile(sorted, part).as_secs_f64() * 1_000.0;
    println!(
        "{what}: {} times, p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "counts of messages are far below 2^52")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
