//! How fast a program is given a long log again, and how long an instance with such a log takes to
//! serve when everything was killed.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::attached::{
    Attached, PATIENCE, attach, micros, post, primary_of, register, replicas, seen, until,
};
use crate::cluster::Cluster;
use crate::figures::{Rate, as_f64, median};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    #[arg(long, value_delimiter = ',', default_value = "16,64,1024,65536")]
    sizes: Vec<u64>,
    /// How much is in the log, in MiB.
    #[arg(long, default_value_t = 128)]
    megabytes: u64,
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// How often a program is attached again at each size; the median is shown.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

const SINK: (&str, &str) = ("sink", "source");

/// An instance with a long log and no checkpoint after its first state.
struct Filled {
    cluster: Cluster,
    sinks: Vec<Attached>,
    size: u64,
    inputs: u64,
    log_bytes: u64,
}

/// # Errors
/// When something does not come up or go on.
pub(crate) async fn run(binary: &Path, scratch: Option<&Path>, plan: &Plan) -> io::Result<()> {
    for size in &plan.sizes {
        let mut filled = Filled::new(binary, scratch, plan, *size).await?;
        let mut rates = Vec::new();
        for _ in 0..plan.runs {
            rates.push(filled.attach_again().await?);
        }
        if !rates.is_empty() {
            let (least, middle, most) = median(&mut rates);
            println!(
                "  replay: {middle}  ({:.0} to {:.0} of {} runs)",
                least.messages, most.messages, plan.runs
            );
        }
        filled.recover().await?;
    }
    Ok(())
}

impl Filled {
    /// The source would say everything again in a replay, so its program is gone for good when the
    /// log is filled; its own log is short.
    async fn new(
        binary: &Path,
        scratch: Option<&Path>,
        plan: &Plan,
        size: u64,
    ) -> io::Result<Self> {
        let cluster = Cluster::start(binary, plan.replicas, scratch).await?;
        let nodes: Vec<usize> = (0..plan.replicas).collect();
        register(&cluster, "source", &[0]).await?;
        register(&cluster, "sink", &nodes).await?;
        let mut sinks = attach(&cluster, &nodes, SINK, false).await?;
        let sources = attach(&cluster, &[0], ("source", "sink"), false).await?;
        let count = (plan.megabytes << 20) / (size + 4);
        let node = primary_of(&cluster, "sink").await?;
        let began = Instant::now();
        let run = json!({ "method": 1, "payload": { "size": size, "count": count } });
        post(&cluster, "/core/immortals/source/impulses", &run).await?;
        while sinks[node].line("load").await?.first() < Some(&count) {}
        let took = began.elapsed().as_secs_f64();
        drop(sources);
        let what = "all its programs have handled everything";
        let state = until(&cluster, "sink", what, |state| {
            replicas(state).all(|replica| replica["lag"] == 0)
        });
        let state = state.await?;
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let log_bytes = replicas(&state).map(|replica| number(&replica["logBytes"])).max();
        let (inputs, log_bytes) = (number(&state["inputs"]), log_bytes.unwrap_or(0));
        println!(
            "{size} B, {} replicas: {inputs} inputs, {:.0} MB of log, filled in {took:.1} s, node \
             {:.0} MiB",
            plan.replicas,
            as_f64(log_bytes) / 1e6,
            as_f64(cluster.resident_kib(0)?) / 1024.0
        );
        Ok(Self { cluster, sinks, size, inputs, log_bytes })
    }

    /// One program is killed and started again: a standby's, if there is one. From its HELLO to the
    /// end of the replay.
    async fn attach_again(&mut self) -> io::Result<Rate> {
        let primary = primary_of(&self.cluster, "sink").await?;
        let node = (primary + 1) % self.sinks.len();
        self.sinks[node].kill().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.sinks[node] = Attached::start(&self.cluster, node, SINK, false)?;
        let replayed = self.sinks[node].line("replayed").await?;
        let Replayed { inputs, since_hello, .. } = Replayed::read(&replayed)?;
        let rate = Rate::of(inputs, self.size, since_hello);
        primary_of(&self.cluster, "sink").await?;
        Ok(rate)
    }

    /// SIGKILL of all programs and nodes, then all are started again at once.
    async fn recover(mut self) -> io::Result<()> {
        for program in &mut self.sinks {
            program.start_kill()?;
        }
        let nodes = self.sinks.len();
        self.cluster.kill_all().await?;
        self.sinks.clear();
        let (began, at) = (Instant::now(), micros());
        let mut programs = JoinSet::new();
        for node in 0..nodes {
            self.cluster.start_node(node)?;
            let program = Attached::start(&self.cluster, node, SINK, false)?;
            programs.spawn(recovered(program));
        }
        let probe = json!({ "method": 5 });
        let probe = post(&self.cluster, "/core/immortals/sink/impulses", &probe);
        let (back, probe) = tokio::join!(self.log_is_back(began), probe);
        let (first, last) = back?;
        probe?;
        let Recovered { replayed, primary, probed } = first_of(programs).await?;
        let Replayed { inputs, since_first, .. } = Replayed::read(&replayed)?;
        let rate = Rate::of(inputs, self.size, since_first);
        let since = |moment: u64| as_f64(moment.saturating_sub(at)) / 1e6;
        println!("  recovery of {:.0} MB, everything killed:", as_f64(self.log_bytes) / 1e6);
        println!(
            "    nodes: the log is back after {:.2} s (the first {:.2} s)",
            last.as_secs_f64(),
            first.as_secs_f64()
        );
        println!("    primary's program: replayed {inputs} inputs, from the first on {rate}");
        println!(
            "    it is the primary after {:.2} s, and has handled a new message after {:.2} s",
            since(primary),
            since(probed)
        );
        Ok(())
    }

    /// When the first and the last node have applied their logs.
    async fn log_is_back(&self, began: Instant) -> io::Result<(Duration, Duration)> {
        let mut waiting = self.cluster.ports.clone();
        let mut first = None;
        while began.elapsed() < PATIENCE {
            let mut still = Vec::new();
            for port in waiting {
                let state = seen(port, "sink").await.unwrap_or_default();
                if state["inputs"].as_u64() >= Some(self.inputs) {
                    first.get_or_insert_with(|| began.elapsed());
                } else {
                    still.push(port);
                }
            }
            if still.is_empty() {
                return Ok((first.unwrap_or_default(), began.elapsed()));
            }
            waiting = still;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other(format!("after {PATIENCE:?} not all nodes have their log back")))
    }
}

/// What the program that becomes the primary tells.
struct Recovered {
    replayed: Vec<u64>,
    primary: u64,
    probed: u64,
}

/// A new message may be handled a moment before the program is told that it is the primary.
async fn recovered(mut program: Attached) -> io::Result<Recovered> {
    let (mut replayed, mut primary, mut probed) = (Vec::new(), None, None);
    loop {
        let (kind, numbers) = program.next().await?;
        match kind.as_str() {
            "replayed" => replayed = numbers,
            "primary" => primary = numbers.first().copied(),
            "probe" => probed = numbers.first().copied(),
            _ => {}
        }
        if let (Some(primary), Some(probed)) = (primary, probed) {
            return Ok(Recovered { replayed, primary, probed: probed.max(primary) });
        }
    }
}

async fn first_of(mut programs: JoinSet<io::Result<Recovered>>) -> io::Result<Recovered> {
    let mut last = io::Error::other("no program");
    while let Some(end) = programs.join_next().await {
        match end.map_err(io::Error::other)? {
            Ok(recovered) => return Ok(recovered),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What a program tells at the end of its replay.
struct Replayed {
    inputs: u64,
    /// A program that attaches while its node is still at work waits for it; what it waits is in
    /// here...
    since_hello: Duration,
    /// ... and not in here.
    since_first: Duration,
}

impl Replayed {
    fn read(numbers: &[u64]) -> io::Result<Self> {
        let [inputs, hello, first] = numbers[..] else {
            return Err(io::Error::other(format!("not the line of a replay: {numbers:?}")));
        };
        let micros = Duration::from_micros;
        // Nothing is divided by zero when there was nothing to replay.
        Ok(Self { inputs, since_hello: micros(hello), since_first: micros(first.max(1)) })
    }
}
