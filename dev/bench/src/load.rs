//! Closed-loop load: each client sends its next request when the last is answered.

use std::io;
use std::time::{Duration, Instant};

use crate::http::{Access, Connection};

/// How often and how long contestants are measured in turn.
#[derive(clap::Args)]
pub(crate) struct Rounds {
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    #[arg(long, default_value_t = 2)]
    pub(crate) seconds: u64,
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    pub(crate) clients: Vec<usize>,
}

/// What one run gave.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
    pub(crate) errors: usize,
    /// How many requests were answered.
    pub(crate) count: f64,
    /// The time that all nodes together took on the processors for each of them. It says more
    /// than the rate where others use the machine too.
    pub(crate) cpu_micros: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verb {
    /// A new document each time.
    Post,
    /// PATCH of one of the client's own documents.
    Patch,
    /// A linearizable GET of one of the client's own documents.
    Get,
}

/// Each client has this many documents of its own.
const DOCUMENTS_PER_CLIENT: usize = 4;

/// # Errors
/// When no connection can be made.
pub(crate) async fn run(
    ports: &[u16],
    clients: usize,
    time: Duration,
    verb: Verb,
) -> io::Result<Measured> {
    run_by(&Access::default(), ports, clients, time, verb).await
}

/// The same, by clients that speak to nodes in another way.
///
/// # Errors
/// When no connection can be made.
pub(crate) async fn run_by(
    access: &Access,
    ports: &[u16],
    clients: usize,
    time: Duration,
    verb: Verb,
) -> io::Result<Measured> {
    let mut tasks = Vec::new();
    for client in 0..clients {
        let port = ports[client % ports.len()];
        tasks.push(tokio::spawn(one_client((access.clone(), port), client, time, verb)));
    }
    let mut all = Vec::new();
    let mut errors = 0;
    for task in tasks {
        let (latencies, failed) = task.await.map_err(io::Error::other)??;
        all.extend(latencies);
        errors += failed;
    }
    Ok(summary(all, errors, time))
}

/// What the latencies of a run come to.
pub(crate) fn summary(mut all: Vec<Duration>, errors: usize, time: Duration) -> Measured {
    all.sort_unstable();
    let at = |part: f64| percentile(&all, part);
    Measured {
        per_second: count(all.len()) / time.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        worst: at(1.0),
        errors,
        count: count(all.len()),
        cpu_micros: 0.0,
    }
}

async fn one_client(
    (access, port): (Access, u16),
    client: usize,
    time: Duration,
    verb: Verb,
) -> io::Result<(Vec<Duration>, usize)> {
    let mut connection = Connection::open_by(port, &access).await?;
    let run = std::process::id();
    let names: Vec<String> =
        (0..DOCUMENTS_PER_CLIENT).map(|n| format!("bench-{run}-{client}-{n}")).collect();
    let filler = "x".repeat(60);
    if verb != Verb::Post {
        for name in &names {
            let body =
                format!("{{\"documentSelfLink\":\"{name}\",\"name\":\"{filler}\",\"counter\":0}}");
            connection.ask("POST", "/core/examples", None, &body).await?;
        }
    }
    let (mut latencies, mut errors, mut number) = (Vec::new(), 0, 0_u64);
    let end = Instant::now() + time;
    while Instant::now() < end {
        number += 1;
        let name = &names[usize::try_from(number).unwrap_or(0) % names.len()];
        let link = format!("/core/examples/{name}");
        let began = Instant::now();
        let answer = match verb {
            Verb::Post => {
                let body = format!("{{\"name\":\"{filler}\",\"counter\":{number}}}");
                connection.ask("POST", "/core/examples", None, &body).await?
            }
            Verb::Patch => {
                let body = format!("{{\"name\":\"{filler}\",\"counter\":{number}}}");
                connection.ask("PATCH", &link, None, &body).await?
            }
            Verb::Get => connection.ask("GET", &link, None, "").await?,
        };
        if answer.status == 200 {
            latencies.push(began.elapsed());
        } else {
            errors += 1;
        }
    }
    Ok((latencies, errors))
}

/// The value below which a part of the sorted values lie.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Duration {
    if sorted.is_empty() {
        return Duration::ZERO;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list of measured values"
    )]
    let place = (count(sorted.len() - 1) * part).round() as usize;
    sorted[place.min(sorted.len() - 1)]
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
