//! Several contestants in turn in one run, so that they see the same machine: a machine that is
//! slow for a minute is slow for all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::{Cluster, Protection};
use crate::etcd::{self, Etcd};
use crate::load::{self, Measured, Rounds, Verb};

/// This many syncs are timed before each round.
const SYNCS: usize = 500;

#[derive(clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    rounds: Rounds,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "patch,post,get")]
    verbs: Vec<Verb>,
    /// Another binary of Amrita, measured beside the first.
    #[arg(long)]
    other: Option<PathBuf>,
    /// This binary once more, with encrypted sandboxes.
    #[arg(long)]
    encrypted: bool,
    /// etcd with three members beside it; `etcd` must be on the path.
    #[arg(long)]
    etcd: bool,
}

enum Contestant {
    Amrita(Cluster),
    Etcd(Etcd),
}

impl Contestant {
    async fn load(&self, clients: usize, time: Duration, verb: Verb) -> io::Result<Measured> {
        match self {
            Self::Amrita(cluster) => cluster.load(clients, time, verb).await,
            Self::Etcd(etcd) => etcd.load(clients, time, verb).await,
        }
    }
}

/// # Errors
/// When a contestant cannot be started or does not answer.
pub(crate) async fn run(binary: &Path, scratch: Option<&Path>, plan: &Plan) -> io::Result<()> {
    let mut contestants =
        vec![("this", Contestant::Amrita(Cluster::start(binary, 3, scratch).await?))];
    if let Some(other) = &plan.other {
        contestants.push(("other", Contestant::Amrita(Cluster::start(other, 3, scratch).await?)));
    }
    if plan.encrypted {
        let protection = Protection { is_encrypted: true, ..Protection::default() };
        let cluster = Cluster::begin(binary, 3, scratch, protection)?;
        cluster.first_write(Duration::from_secs(20)).await?;
        contestants.push(("encr.", Contestant::Amrita(cluster)));
    }
    if plan.etcd {
        contestants.push(("etcd", Contestant::Etcd(Etcd::start(scratch).await?)));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut syncs = Vec::new();
    println!("            clients     per second   p50 ms   p99 ms   worst ms   errors   CPU us");
    for &verb in &plan.verbs {
        for &clients in &plan.rounds.clients {
            let mut all: Vec<Vec<Measured>> = contestants.iter().map(|_| Vec::new()).collect();
            for _ in 0..plan.rounds.rounds {
                syncs.push(etcd::sync_time(scratch, SYNCS)?);
                for ((_, contestant), measured) in contestants.iter().zip(&mut all) {
                    let time = Duration::from_secs(plan.rounds.seconds);
                    measured.push(contestant.load(clients, time, verb).await?);
                }
            }
            let medians: Vec<Measured> = all.into_iter().map(crate::median).collect();
            for ((name, _), median) in contestants.iter().zip(&medians) {
                crate::show(&format!("{name:<5} {verb:?}"), clients, median);
            }
            for ((name, _), median) in contestants.iter().zip(&medians).skip(1) {
                let ratio = medians[0].per_second / median.per_second.max(1.0);
                println!("            this / {name}: {ratio:.2} times the rate");
            }
        }
    }
    syncs.sort_unstable();
    let sync = load::percentile(&syncs, 0.5);
    println!("one sync of 4 KiB into blocks that are there: {:.3} ms", sync.as_secs_f64() * 1e3);
    Ok(())
}
