//! Figures for `docs/performance.md`: load against real processes of the release binary.
//!
//! `cargo run --release -p bench -- writes` and so on. Run it under `dev/bench/short-slice` when
//! figures are compared with those of other programs.
#![expect(clippy::print_stdout, reason = "figures are for people to read")]

mod cluster;
mod failover;
mod http;
mod immortals;
mod load;
mod program;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use cluster::Cluster;
use load::{Measured, Verb};

#[derive(Parser)]
struct Arguments {
    /// The binary to measure.
    #[arg(long, default_value = "target/release/amrita", global = true)]
    binary: PathBuf,
    /// Where the nodes' folders are made (a real disk, not memory).
    #[arg(long, global = true)]
    scratch: Option<PathBuf>,
    /// How many nodes.
    #[arg(long, default_value_t = 3, global = true)]
    nodes: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Replicated durable writes and linearizable reads at several numbers of clients.
    Load {
        #[arg(long, value_delimiter = ',', default_value = "1,16,100,256")]
        clients: Vec<usize>,
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Runs of each, in turn; the median is shown.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// From SIGKILL of an owner to the next acknowledged write of its document.
    Failover {
        #[arg(long, default_value_t = 50)]
        kills: usize,
    },
    /// Resident memory at rest and with documents.
    Memory {
        #[arg(long, default_value_t = 100_000)]
        documents: usize,
    },
    /// Messages per second from one immortal to another.
    Immortals {
        #[arg(long, value_delimiter = ',', default_value = "16,64,1024,65536")]
        sizes: Vec<u64>,
        /// How much is sent at each size, in MiB.
        #[arg(long, default_value_t = 64)]
        megabytes: u64,
        /// The replicas of each of the two, on as many nodes.
        #[arg(long, default_value_t = 3)]
        replicas: usize,
        /// Each message is sent back.
        #[arg(long)]
        echo: bool,
    },
    /// Latency of a call from one immortal to another and its answer.
    Calls {
        #[arg(long, default_value_t = 5_000)]
        count: usize,
        #[arg(long, default_value_t = 3)]
        replicas: usize,
    },
    /// From the end of the primary's program, or of its node, to the next answered call.
    ImmortalFailover {
        #[arg(long, value_enum, default_value = "program")]
        harm: immortals::Harm,
        #[arg(long, default_value_t = 100)]
        times: usize,
    },
    /// One of the programs that are measured.
    #[command(hide = true)]
    Program {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        instance: String,
        #[arg(long)]
        peer: String,
        #[arg(long)]
        echo: bool,
    },
    /// From nothing to the first acknowledged write.
    Start {
        #[arg(long, default_value_t = 10)]
        runs: usize,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.what {
        What::Load { clients, seconds, runs } => {
            loads(&arguments, clients, Duration::from_secs(*seconds), *runs).await
        }
        What::Failover { kills } => failovers(&arguments, *kills).await,
        What::Memory { documents } => memory(&arguments, *documents).await,
        What::Start { runs } => starts(&arguments, *runs).await,
        What::Program { socket, instance, peer, echo } => {
            program::run(socket, instance, peer, *echo)
        }
        What::Immortals { sizes, megabytes, replicas, echo } => {
            let (binary, scratch) = (&arguments.binary, arguments.scratch.as_deref());
            let how = (*replicas, *echo);
            immortals::throughput(binary, scratch, sizes, *megabytes, how).await.map(|_| ())
        }
        What::Calls { count, replicas } => {
            let (binary, scratch) = (&arguments.binary, arguments.scratch.as_deref());
            let took = immortals::calls(binary, scratch, *count, *replicas).await?;
            immortals::show("a call and its answer", &took);
            Ok(())
        }
        What::ImmortalFailover { harm, times } => {
            let (binary, scratch) = (&arguments.binary, arguments.scratch.as_deref());
            let took = immortals::failover(binary, scratch, *harm, *times).await?;
            immortals::show(&format!("{harm:?}"), &took);
            Ok(())
        }
    }
}

async fn start(arguments: &Arguments) -> io::Result<Cluster> {
    Cluster::start(&arguments.binary, arguments.nodes, arguments.scratch.as_deref()).await
}

async fn loads(
    arguments: &Arguments,
    clients: &[usize],
    time: Duration,
    runs: usize,
) -> io::Result<()> {
    let cluster = start(arguments).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("verb   clients     per second   p50 ms   p99 ms   worst ms   errors");
    for verb in [Verb::Patch, Verb::Post, Verb::Get] {
        for clients in clients {
            let mut measured = Vec::new();
            for _ in 0..runs {
                measured.push(load::run(&cluster.ports, *clients, time, verb).await?);
            }
            show(&format!("{verb:?}"), *clients, &median(measured));
        }
    }
    Ok(())
}

fn median(mut measured: Vec<Measured>) -> Measured {
    measured.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    measured.swap_remove(measured.len() / 2)
}

fn show(verb: &str, clients: usize, measured: &Measured) {
    println!(
        "{verb:<6} {clients:>7} {:>14.0} {:>8.2} {:>8.2} {:>10.1} {:>8}",
        measured.per_second,
        millis(measured.p50),
        millis(measured.p99),
        millis(measured.worst),
        measured.errors
    );
}

async fn failovers(arguments: &Arguments, kills: usize) -> io::Result<()> {
    let mut cluster = start(arguments).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let outages = failover::run(&mut cluster, kills).await?;
    let at = |part| millis(load::percentile(&outages.sorted, part));
    println!(
        "{kills} kills: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    for (at, outage) in &outages.long {
        println!("long: {:.1} ms after the kill at {at:.3}", millis(*outage));
    }
    println!(
        "acknowledged writes {}, versions written {}: {}",
        outages.acknowledged,
        outages.final_version,
        if outages.acknowledged == outages.final_version {
            "nothing lost, nothing doubled"
        } else {
            "NOT THE SAME"
        }
    );
    Ok(())
}

async fn memory(arguments: &Arguments, documents: usize) -> io::Result<()> {
    let cluster = start(arguments).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let show = |when: &str| -> io::Result<()> {
        let all: io::Result<Vec<String>> = (0..arguments.nodes)
            .map(|node| cluster.resident_kib(node).map(|kib| format!("{:.1}", kib_to_mib(kib))))
            .collect();
        println!("{when}: resident MiB of each node {}", all?.join(", "));
        Ok(())
    };
    show("at rest")?;
    let clients = 32;
    let each = documents / clients;
    let mut tasks = Vec::new();
    for client in 0..clients {
        let port = cluster.ports[client % cluster.ports.len()];
        tasks.push(tokio::spawn(async move {
            let mut connection = http::Connection::open(port).await?;
            for number in 0..each {
                let body = format!("{{\"name\":\"document {client} {number}\",\"counter\":1}}");
                connection.ask("POST", "/core/examples", None, &body).await?;
            }
            Ok::<_, io::Error>(())
        }));
    }
    let began = Instant::now();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    println!("{} documents written in {:.1} s", each * clients, began.elapsed().as_secs_f64());
    show("right after")?;
    tokio::time::sleep(Duration::from_secs(45)).await;
    show("45 s later")
}

async fn starts(arguments: &Arguments, runs: usize) -> io::Result<()> {
    let mut took = Vec::new();
    for _ in 0..runs {
        let began = Instant::now();
        let cluster = start(arguments).await?;
        took.push(began.elapsed());
        drop(cluster);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    took.sort_unstable();
    println!(
        "{} nodes from nothing to the first acknowledged write, {runs} runs: median {:.0} ms, worst {:.0} ms",
        arguments.nodes,
        millis(load::percentile(&took, 0.5)),
        millis(load::percentile(&took, 1.0))
    );
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn kib_to_mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}
