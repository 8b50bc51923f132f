//! What heavy queries cost those who write beside them: the writes alone and beside each shape of
//! query, in turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::Connection;
use crate::load::{self, Measured, Verb, percentile};
use crate::{median, millis};

/// How many clients make the documents.
const MAKERS: usize = 32;

#[derive(Args)]
pub(crate) struct Plan {
    /// How many documents are queried.
    #[arg(long, default_value_t = 100_000)]
    documents: usize,
    /// How many queries of a shape are under way at a time.
    #[arg(long, default_value_t = 20)]
    queries: usize,
    /// How many clients write meanwhile.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Runs of each, in turn; the median is shown.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// A shape of query: its name and its specification.
type Shape = (&'static str, Value);

fn term(value: &str, kind: &str) -> Value {
    json!({ "propertyName": "name", "matchType": kind, "matchValue": value })
}

fn shapes() -> Vec<Shape> {
    let all = json!({
        "propertyName": "documentKind",
        "matchType": "WILDCARD",
        "matchValue": "*Example*",
    });
    let clause = |n: usize| {
        let term = term(&format!("*{n}*q"), "WILDCARD");
        json!({ "occurance": "SHOULD_OCCUR", "term": term })
    };
    let clauses: Vec<Value> = (0..256).map(clause).collect();
    let sorted = json!({ "propertyName": "name", "propertyType": "STRING" });
    vec![
        ("wildcard", json!({ "query": { "term": term("*x*y*z*", "WILDCARD") } })),
        ("expanded", json!({ "query": { "term": all }, "options": ["EXPAND_CONTENT"] })),
        (
            "sorted",
            json!({
                "query": { "term": all },
                "options": ["EXPAND_CONTENT", "SORT"],
                "sortTerm": sorted,
                "resultLimit": 10_000,
            }),
        ),
        ("256 clauses", json!({ "query": { "booleanClauses": clauses } })),
    ]
}

/// What the queries beside the writes gave.
#[derive(Default)]
struct Asked {
    took: Vec<Duration>,
    bytes: usize,
    refused: usize,
}

/// # Errors
/// When a node does not answer.
pub(crate) async fn run(cluster: &Cluster, plan: &Plan) -> io::Result<()> {
    fill(cluster, plan.documents).await?;
    println!(
        "beside          writes/s   p50 ms   p99 ms   worst ms   queries/s   p50 ms   MB/s   refused"
    );
    let time = Duration::from_secs(plan.seconds);
    let mut shapes = shapes();
    shapes.insert(0, ("nothing", Value::Null));
    let mut measured: Vec<Vec<(Measured, Asked)>> = shapes.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.runs {
        for ((_, shape), runs) in shapes.iter().zip(&mut measured) {
            runs.push(beside(cluster, plan, shape, time).await?);
        }
    }
    for ((name, _), runs) in shapes.iter().zip(measured) {
        let (writes, asked): (Vec<Measured>, Vec<Asked>) = runs.into_iter().unzip();
        let (mut took, mut bytes, mut refused) = (Vec::new(), 0, 0);
        for mut one in asked {
            took.append(&mut one.took);
            bytes += one.bytes;
            refused += one.refused;
        }
        took.sort_unstable();
        let all = time.as_secs_f64() * f64::from(u32::try_from(plan.runs).unwrap_or(u32::MAX));
        let writes = median(writes);
        println!(
            "{name:<13} {:>10.0} {:>8.2} {:>8.2} {:>10.1} {:>11.1} {:>8.1} {:>6.1} {refused:>9}",
            writes.per_second,
            millis(writes.p50),
            millis(writes.p99),
            millis(writes.worst),
            number(took.len()) / all,
            millis(percentile(&took, 0.5)),
            number(bytes) / all / 1e6,
        );
    }
    Ok(())
}

/// Makes the documents that are queried.
async fn fill(cluster: &Cluster, documents: usize) -> io::Result<()> {
    let tasks: Vec<_> = (0..MAKERS)
        .map(|maker| {
            let port = cluster.ports[maker % cluster.ports.len()];
            tokio::spawn(async move {
                let mut connection = Connection::open(port).await?;
                for number in (maker..documents).step_by(MAKERS) {
                    let name = format!("{} {number}", "x".repeat(60));
                    let body = json!({ "name": name, "counter": number }).to_string();
                    connection.ask("POST", "/core/examples", None, &body).await?;
                }
                io::Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(())
}

/// Writes beside queries of one shape, or beside none.
async fn beside(
    cluster: &Cluster,
    plan: &Plan,
    shape: &Value,
    time: Duration,
) -> io::Result<(Measured, Asked)> {
    let stop = Arc::new(AtomicBool::new(false));
    let count = if shape.is_null() { 0 } else { plan.queries };
    let body = json!({ "querySpec": shape, "taskInfo": { "isDirect": true } }).to_string();
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let port = cluster.ports[number % cluster.ports.len()];
            tokio::spawn(ask(port, body.clone(), Arc::clone(&stop)))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written = load::run(&cluster.ports, plan.writers, time, Verb::Patch).await?;
    stop.store(true, Ordering::Relaxed);
    let mut all = Asked::default();
    for task in tasks {
        let mut one = task.await.map_err(io::Error::other)??;
        all.took.append(&mut one.took);
        all.bytes += one.bytes;
        all.refused += one.refused;
    }
    Ok((written, all))
}

async fn ask(port: u16, body: String, stop: Arc<AtomicBool>) -> io::Result<Asked> {
    let mut connection = Connection::open(port).await?;
    let mut asked = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = connection.ask("POST", "/core/query-tasks", None, &body).await?;
        asked.bytes += answer.body.len();
        if answer.status == 200 {
            asked.took.push(began.elapsed());
        } else {
            asked.refused += 1;
        }
    }
    Ok(asked)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
