//! Messages per second from one immortal to another, and the same with gRPC beside it in the same
//! run.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::attached::{Attached, attach, checkpoint, post, primary_of, register};
use crate::cluster::Cluster;
use crate::figures::{Rate, median};
use crate::grpc::{Servers, Way};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    #[arg(long, value_delimiter = ',', default_value = "16,64,1024,65536")]
    sizes: Vec<u64>,
    /// How much is sent at each size in each round, in MiB.
    #[arg(long, default_value_t = 64)]
    megabytes: u64,
    /// The replicas of each of the two, on as many nodes; several numbers are measured in turn.
    #[arg(long, value_delimiter = ',', default_value = "3")]
    replicas: Vec<usize>,
    /// Each message is sent back.
    #[arg(long)]
    echo: bool,
    /// How many times all sizes are measured in turn; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// gRPC streaming in the same run, in turn with the immortals, and the ratio.
    #[arg(long)]
    beside_grpc: bool,
    /// How long gRPC streams each time.
    #[arg(long, default_value_t = 1_000)]
    grpc_millis: u64,
}

/// The rates of all rounds at one size.
#[derive(Default)]
struct Found {
    immortals: Vec<Rate>,
    grpc: Vec<Rate>,
}

/// Two instances, a program for each of their replicas, and the sum of what was sent.
struct Pair {
    cluster: Cluster,
    sources: Vec<Attached>,
    sinks: Vec<Attached>,
    echo: bool,
    total: u64,
}

/// # Errors
/// When something does not come up or go on.
pub(crate) async fn run(binary: &Path, scratch: Option<&Path>, plan: &Plan) -> io::Result<()> {
    let servers = if plan.beside_grpc { Some(Servers::start().await?) } else { None };
    for replicas in &plan.replicas {
        let mut pair = Pair::start(binary, scratch, *replicas, plan.echo).await?;
        let mut found: BTreeMap<u64, Found> = BTreeMap::new();
        for _ in 0..plan.rounds {
            for size in &plan.sizes {
                let found = found.entry(*size).or_default();
                let count = (plan.megabytes << 20) / (size + 4);
                found.immortals.push(pair.measure(*size, count).await?);
                if let Some(servers) = &servers {
                    let way = if plan.echo { Way::Both } else { Way::Stream };
                    let time = Duration::from_millis(plan.grpc_millis);
                    found.grpc.push(servers.better(way, *size, time).await?);
                }
            }
        }
        let ways = if plan.echo { "both ways, each way" } else { "one way" };
        println!("{replicas} replicas of each, {ways}, medians of {} rounds", plan.rounds);
        for (size, found) in found {
            show(size, found);
        }
    }
    Ok(())
}

fn show(size: u64, mut found: Found) {
    let (least, middle, most) = median(&mut found.immortals);
    print!("{size:>6} B: {middle}  ({:.0} to {:.0})", least.messages, most.messages);
    if !found.grpc.is_empty() {
        let (_, beside, _) = median(&mut found.grpc);
        let ratio = middle.messages / beside.messages;
        print!("  gRPC {beside}  {ratio:.2} of gRPC");
    }
    println!();
}

impl Pair {
    async fn start(
        binary: &Path,
        scratch: Option<&Path>,
        replicas: usize,
        echo: bool,
    ) -> io::Result<Self> {
        let cluster = Cluster::start(binary, replicas, scratch).await?;
        let nodes: Vec<usize> = (0..replicas).collect();
        register(&cluster, "source", &nodes).await?;
        register(&cluster, "sink", &nodes).await?;
        let sources = attach(&cluster, &nodes, ("source", "sink"), false).await?;
        let sinks = attach(&cluster, &nodes, ("sink", "source"), echo).await?;
        Ok(Self { cluster, sources, sinks, echo, total: 0 })
    }

    /// From the request until the last message is handled, where it goes in the end.
    async fn measure(&mut self, size: u64, count: u64) -> io::Result<Rate> {
        let ends = if self.echo { "source" } else { "sink" };
        let node = primary_of(&self.cluster, ends).await?;
        let programs = if self.echo { &mut self.sources } else { &mut self.sinks };
        let began = Instant::now();
        let run = json!({ "method": 1, "payload": { "size": size, "count": count } });
        post(&self.cluster, "/core/immortals/source/impulses", &run).await?;
        self.total += count;
        while programs[node].line("load").await?.first() < Some(&self.total) {}
        let rate = Rate::of(count, size, began.elapsed());
        // Each round begins with an empty log.
        checkpoint(&self.cluster, "sink").await?;
        checkpoint(&self.cluster, "source").await?;
        Ok(rate)
    }
}
