//! Figures of calls between immortals: the latency of one, and how long a caller waits when the
//! program that answers, or its node, is killed, or is moved away from.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::attached::{Attached, attach, micros, post, primary_of, register};
use crate::cluster::Cluster;
use crate::load::percentile;

/// Latency of a call and its answer, one at a time.
///
/// # Errors
/// When something does not come up or go on.
pub(crate) async fn calls(
    binary: &Path,
    scratch: Option<&Path>,
    count: usize,
    replicas: usize,
) -> io::Result<()> {
    let cluster = Cluster::start(binary, replicas, scratch).await?;
    let nodes: Vec<usize> = (0..replicas).collect();
    register(&cluster, "source", &nodes).await?;
    register(&cluster, "sink", &nodes).await?;
    let mut sources = attach(&cluster, &nodes, ("source", "sink"), false).await?;
    let _sinks = attach(&cluster, &nodes, ("sink", "source"), false).await?;
    let node = primary_of(&cluster, "source").await?;
    let run = json!({ "method": 4, "payload": { "count": count } });
    post(&cluster, "/core/immortals/source/impulses", &run).await?;
    let mut took = Vec::new();
    while took.len() + 1 < count {
        let Call { began, ended } = call(&mut sources[node]).await?;
        took.push(Duration::from_micros(ended - began));
    }
    took.sort_unstable();
    show(&format!("a call and its answer, {replicas} replicas of each"), &took);
    Ok(())
}

/// In microseconds since 1970.
#[derive(Clone, Copy)]
struct Call {
    began: u64,
    ended: u64,
}

/// The next call that was answered.
async fn call(caller: &mut Attached) -> io::Result<Call> {
    let numbers = caller.line("call").await?;
    let [began, ended] = numbers[..] else {
        return Err(io::Error::other(format!("not the line of a call: {numbers:?}")));
    };
    // The clock may be set back under it.
    Ok(Call { began, ended: ended.max(began) })
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
    /// Each of them, one after the other, each with a cluster of its own.
    All,
}

/// How failovers are measured.
#[derive(clap::Args)]
pub(crate) struct Trial {
    #[arg(long, value_enum, default_value = "all")]
    harm: Harm,
    #[arg(long, default_value_t = 100)]
    times: usize,
    /// How long all is well before each.
    #[arg(long, default_value_t = 500)]
    calm_millis: u64,
}

/// The p50, p99 and worst time that a caller waits.
///
/// # Errors
/// As [`calls`].
pub(crate) async fn failovers(
    binary: &Path,
    scratch: Option<&Path>,
    trial: &Trial,
) -> io::Result<()> {
    let each = match trial.harm {
        Harm::All => vec![Harm::Program, Harm::Node, Harm::Move],
        one => vec![one],
    };
    for harm in each {
        let took = failover(binary, scratch, harm, trial).await?;
        show(&format!("{harm:?}"), &took);
    }
    Ok(())
}

/// The caller lives on a node that nothing is done to, and calls over and over, one at a time.
async fn failover(
    binary: &Path,
    scratch: Option<&Path>,
    harm: Harm,
    trial: &Trial,
) -> io::Result<Vec<Duration>> {
    let mut cluster = Cluster::start(binary, 4, scratch).await?;
    register(&cluster, "source", &[3]).await?;
    register(&cluster, "sink", &[0, 1, 2]).await?;
    let mut sinks = attach(&cluster, &[0, 1, 2], ("sink", "source"), false).await?;
    let mut caller = Attached::start(&cluster, 3, ("source", "sink"), false)?;
    primary_of(&cluster, "source").await?;
    let run = json!({ "method": 4, "payload": { "count": 100_000_000_u64 } });
    post(&cluster, "/core/immortals/source/impulses", &run).await?;
    let mut outages = Vec::new();
    for _ in 0..trial.times {
        let node = calm_primary(&cluster, &mut caller, trial).await?;
        let (at, over) = do_harm(&mut cluster, &mut sinks, node, harm).await?;
        outages.push(outage(&mut caller, harm, at, over).await?);
        if harm == Harm::Node {
            cluster.start_node(node)?;
        }
        if harm != Harm::Move {
            sinks[node] = Attached::start(&cluster, node, ("sink", "source"), false)?;
        }
    }
    outages.sort_unstable();
    Ok(outages)
}

/// The primary of the sink, when it was that for as long as all is to be well.
async fn calm_primary(
    cluster: &Cluster,
    caller: &mut Attached,
    trial: &Trial,
) -> io::Result<usize> {
    let calm = Duration::from_millis(trial.calm_millis);
    let mut node = primary_of(cluster, "sink").await?;
    loop {
        let began = Instant::now();
        while began.elapsed() < calm {
            call(caller).await?;
        }
        let now = primary_of(cluster, "sink").await?;
        if now == node {
            return Ok(node);
        }
        node = now;
    }
}

/// When it was done, and when nothing was left of what was there before.
async fn do_harm(
    cluster: &mut Cluster,
    sinks: &mut [Attached],
    node: usize,
    harm: Harm,
) -> io::Result<(u64, u64)> {
    let at = micros();
    match harm {
        Harm::Program | Harm::All => sinks[node].kill().await?,
        Harm::Node => {
            cluster.kill(node).await?;
            sinks[node].kill().await?;
        }
        Harm::Move => {
            let to = (node + 1) % sinks.len();
            let body = json!({ "node": format!("n{}", to + 1) });
            let (at, _) = post(cluster, "/core/immortals/sink/move", &body).await?;
            loop {
                let became = sinks[to].line("primary").await?;
                if let Some(became) = became.first().filter(|became| **became >= at) {
                    return Ok((at, *became));
                }
            }
        }
    }
    Ok((at, micros()))
}

/// Of the calls that were answered after the harm, up to the first that began when it was over, the
/// slowest is the one that met it. A call that was under way may have been answered just before.
async fn outage(caller: &mut Attached, harm: Harm, at: u64, over: u64) -> io::Result<Duration> {
    let mut slowest = Call { began: at, ended: at };
    loop {
        let found = call(caller).await?;
        if found.ended <= at {
            continue;
        }
        if found.ended - found.began >= slowest.ended - slowest.began {
            slowest = found;
        }
        if found.began >= over {
            break;
        }
    }
    // A move begins some time after it was asked for; until then nobody waits.
    let since = if harm == Harm::Move { at.max(slowest.began) } else { at };
    Ok(Duration::from_micros(slowest.ended - since))
}

fn show(what: &str, sorted: &[Duration]) {
    let at = |part| percentile(sorted, part).as_secs_f64() * 1_000.0;
    println!(
        "{what}: {} times, p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
