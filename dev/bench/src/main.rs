//! Figures for `docs/performance.md`: load against real processes of the release binary.
//!
//! `cargo run --release -p bench -- writes` and so on. Run it under `dev/bench/short-slice` when
//! figures are compared with those of other programs.
#![expect(clippy::print_stdout, reason = "figures are for people to read")]

mod attached;
mod batches;
mod cluster;
mod etcd;
mod failover;
mod feed;
mod figures;
mod grpc;
mod grpc_client;
mod grpc_service;
mod http;
mod idle;
mod immortals;
mod load;
mod program;
mod queries;
mod replay;
mod security;
mod throughput;
mod turns;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use cluster::Cluster;
use load::{Measured, Verb};

/// The same as the nodes have, so that the clients' share of the cores is not another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        #[arg(long, value_enum, value_delimiter = ',', default_value = "patch,post,get")]
        verbs: Vec<Verb>,
    },
    /// The same load on this binary, on another one, and on etcd, in turn in one run.
    Turns(turns::Plan),
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
    /// Readers of changes: events per second, their delay, and what they cost the writers.
    Feed {
        #[arg(long, value_delimiter = ',', default_value = "0,1,100,1000")]
        readers: Vec<usize>,
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// Documents per second by batches of several sizes, beside single requests.
    Batch(batches::Plan),
    /// What heavy queries cost those who write beside them.
    Queries(queries::Plan),
    /// What instances cost that nobody uses: registration, memory, processor time at rest.
    Idle {
        #[arg(long, default_value_t = 10_000)]
        instances: usize,
        #[arg(long, default_value_t = 3)]
        replicas: usize,
    },
    /// Messages per second from one immortal to another, every one durable.
    Immortals(throughput::Plan),
    /// gRPC (tonic) between two processes, without any resilience: calls and streams.
    Grpc(grpc::Plan),
    /// How fast a program is given a long log again, and how long it takes to serve after a SIGKILL
    /// of everything.
    Replay(replay::Plan),
    /// Latency of a call from one immortal to another and its answer.
    Calls {
        #[arg(long, default_value_t = 5_000)]
        count: usize,
        #[arg(long, default_value_t = 3)]
        replicas: usize,
    },
    /// From the end of the primary's program, or of its node, to the next answered call; and how
    /// long a call takes that meets a planned move.
    ImmortalFailover(immortals::Trial),
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
    /// The server of `grpc`.
    #[command(hide = true)]
    GrpcServer {
        #[arg(long, value_enum)]
        threads: grpc::Threads,
    },
    /// The client of `grpc`.
    #[command(hide = true)]
    GrpcClient {
        #[arg(long, value_enum)]
        threads: grpc::Threads,
        #[arg(long)]
        port: u16,
        #[arg(long, value_enum)]
        way: grpc::Way,
        #[arg(long)]
        size: usize,
        #[arg(long)]
        millis: u64,
    },
    /// What logins, permission and TLS cost: with and without each, in turn.
    Security(security::Plan),
    /// From nothing to the first acknowledged write.
    Start {
        #[arg(long, default_value_t = 10)]
        runs: usize,
    },
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.what {
        What::Program { socket, instance, peer, echo } => {
            program::run(socket, instance, peer, *echo)
        }
        What::GrpcServer { threads } => threads.runtime()?.block_on(grpc_service::serve()),
        What::GrpcClient { threads, port, way, size, millis } => {
            let run = grpc_client::run(*port, *way, *size, Duration::from_millis(*millis));
            threads.runtime()?.block_on(run)
        }
        _ => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).enable_all().build()?.block_on(measure(&arguments))
        }
    }
}

async fn measure(arguments: &Arguments) -> io::Result<()> {
    let (binary, scratch) = (&arguments.binary, arguments.scratch.as_deref());
    match &arguments.what {
        What::Load { clients, seconds, runs, verbs } => {
            loads(arguments, (verbs, clients), Duration::from_secs(*seconds), *runs).await
        }
        What::Turns(plan) => turns::run(binary, scratch, plan).await,
        What::Failover { kills } => failovers(arguments, *kills).await,
        What::Memory { documents } => memory(arguments, *documents).await,
        What::Start { runs } => starts(arguments, *runs).await,
        What::Feed { readers, seconds } => {
            let cluster = start(arguments).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            feed::run(&cluster, readers, Duration::from_secs(*seconds)).await
        }
        What::Batch(plan) => {
            let cluster = start(arguments).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            batches::run(&cluster, plan).await
        }
        What::Queries(plan) => {
            let cluster = start(arguments).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            queries::run(&cluster, plan).await
        }
        What::Idle { instances, replicas } => {
            idle::run(&start(arguments).await?, *instances, *replicas).await
        }
        What::Security(plan) => security::run(binary, scratch, arguments.nodes, plan).await,
        What::Immortals(plan) => throughput::run(binary, scratch, plan).await,
        What::Grpc(plan) => grpc::run(plan).await,
        What::Replay(plan) => replay::run(binary, scratch, plan).await,
        What::Calls { count, replicas } => {
            immortals::calls(binary, scratch, *count, *replicas).await
        }
        What::ImmortalFailover(trial) => immortals::failovers(binary, scratch, trial).await,
        What::Program { .. } | What::GrpcServer { .. } | What::GrpcClient { .. } => Ok(()),
    }
}

async fn start(arguments: &Arguments) -> io::Result<Cluster> {
    Cluster::start(&arguments.binary, arguments.nodes, arguments.scratch.as_deref()).await
}

async fn loads(
    arguments: &Arguments,
    (verbs, clients): (&[Verb], &[usize]),
    time: Duration,
    runs: usize,
) -> io::Result<()> {
    let cluster = start(arguments).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("verb        clients     per second   p50 ms   p99 ms   worst ms   errors   CPU us");
    for &verb in verbs {
        for clients in clients {
            let mut measured = Vec::new();
            for _ in 0..runs {
                measured.push(cluster.load(*clients, time, verb).await?);
            }
            show(&format!("{verb:?}"), *clients, &median(measured));
        }
    }
    Ok(())
}

pub(crate) fn median(mut measured: Vec<Measured>) -> Measured {
    measured.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    measured.swap_remove(measured.len() / 2)
}

pub(crate) fn show(verb: &str, clients: usize, measured: &Measured) {
    println!(
        "{verb:<11} {clients:>7} {:>14.0} {:>8.2} {:>8.2} {:>10.1} {:>8} {:>8.0}",
        measured.per_second,
        millis(measured.p50),
        millis(measured.p99),
        millis(measured.worst),
        measured.errors,
        measured.cpu_micros
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
        "{} nodes from nothing to the first acknowledged write, {runs} runs: median {:.0} ms, \
         worst {:.0} ms",
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
