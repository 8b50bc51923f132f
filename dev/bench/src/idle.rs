//! What instances cost that nobody uses: their registration, the memory they take, and the
//! processor time of nodes that have nothing to do.

use std::io;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::http::Connection;

/// How long the nodes are watched while nothing is asked of them.
const WATCHED: Duration = Duration::from_secs(20);
/// The nodes' work of the registrations has ended when this long has passed.
const SETTLED: Duration = Duration::from_secs(10);

/// Registers this many instances, in four equal parts, and prints what they cost.
///
/// # Errors
/// When a node refuses a registration or is gone.
pub(crate) async fn run(cluster: &Cluster, instances: usize, replicas: usize) -> io::Result<()> {
    tokio::time::sleep(SETTLED).await;
    show(cluster, "no instance").await?;
    let part = instances / PARTS;
    for index in 0..PARTS {
        let began = Instant::now();
        register(cluster, (index * part, part), replicas).await?;
        let took = began.elapsed();
        println!(
            "{part} registrations, one after the other: {:.2} ms each",
            took.as_secs_f64() * 1_000.0 / f64::from(u32::try_from(part).unwrap_or(u32::MAX))
        );
    }
    tokio::time::sleep(SETTLED).await;
    show(cluster, &format!("{} instances", part * PARTS)).await
}

const PARTS: usize = 4;

async fn register(
    cluster: &Cluster,
    (first, count): (usize, usize),
    replicas: usize,
) -> io::Result<()> {
    let mut connection = Connection::open(cluster.ports[0]).await?;
    let nodes: Vec<String> = (1..=replicas).map(|node| format!("\"n{node}\"")).collect();
    let nodes = nodes.join(",");
    for number in first..first + count {
        let body = format!("{{\"name\":\"idle-{number}\",\"replicas\":[{nodes}]}}");
        let answer = connection.ask("POST", "/core/immortals", None, &body).await?;
        if answer.status >= 300 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(io::Error::other(format!("{}: {text}", answer.status)));
        }
    }
    Ok(())
}

async fn show(cluster: &Cluster, when: &str) -> io::Result<()> {
    let before = cluster.cpu_micros()?;
    tokio::time::sleep(WATCHED).await;
    let used = (cluster.cpu_micros()? - before) / 1_000.0 / WATCHED.as_secs_f64();
    let resident: io::Result<Vec<String>> = (0..cluster.ports.len())
        .map(|node| cluster.resident_kib(node).map(|kib| format!("{:.1}", crate::kib_to_mib(kib))))
        .collect();
    println!(
        "{when}: {used:.1} ms of processor time in a second, all nodes; resident MiB of each {}",
        resident?.join(", ")
    );
    Ok(())
}
