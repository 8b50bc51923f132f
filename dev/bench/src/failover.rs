//! How long a document cannot be written when its owner is killed with SIGKILL.
//!
//! One writer increments one document over and over through a node that lives, with a key for each
//! write. The outage is the time from the kill to the answer of the first write that began after
//! it: one that was under way may have been answered by the owner just before it died. At the end
//! the document must have as many versions as writes were acknowledged.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::http::Connection;

pub(crate) struct Outages {
    pub(crate) sorted: Vec<Duration>,
    /// The long ones, with the seconds since 1970 of their kills: to be looked up in the nodes'
    /// logs.
    pub(crate) long: Vec<(f64, Duration)>,
    pub(crate) acknowledged: u64,
    pub(crate) final_version: u64,
}

/// An outage that is worth a look.
const LONG: Duration = Duration::from_millis(60);

/// How long a restarted node is given before the next kill.
const REST: Duration = Duration::from_millis(3_000);

/// # Errors
/// When the cluster does not come back.
pub(crate) async fn run(cluster: &mut Cluster, kills: usize) -> io::Result<Outages> {
    let link = "/core/examples/failover";
    let (mut sorted, mut long) = (Vec::new(), Vec::new());
    let mut acknowledged = 0;
    let alive = cluster.ports[0];
    let mut first = Connection::open(alive).await?;
    let body = r#"{"documentSelfLink":"failover","name":"f","counter":0}"#;
    first.ask("POST", "/core/examples", None, body).await?;
    for kill in 0..kills {
        let owner = cluster.owner_of(link).await?;
        let through = cluster.ports[(owner + 1) % cluster.ports.len()];
        let mut connection = Connection::open(through).await?;
        for warm in 0..20 {
            acknowledged += write(&mut connection, link, &format!("{kill}-warm-{warm}")).await?;
        }
        let writer = tokio::spawn(async move {
            let (mut done, mut writes) = (0, Vec::new());
            let end = Instant::now() + Duration::from_millis(1_500);
            let mut number = 0;
            while Instant::now() < end {
                number += 1;
                let began = Instant::now();
                done += write(&mut connection, link, &format!("{kill}-{number}")).await?;
                writes.push((began, Instant::now()));
            }
            Ok::<_, io::Error>((done, writes))
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let killed = Instant::now();
        cluster.kill(owner).await?;
        let (done, writes) = writer.await.map_err(io::Error::other)??;
        acknowledged += done;
        let next = writes.iter().find(|(began, _)| *began >= killed);
        let (_, ended) = next.ok_or_else(|| io::Error::other("no write began after the kill"))?;
        let outage = ended.duration_since(killed);
        sorted.push(outage);
        if outage > LONG {
            long.push((at, outage));
        }
        cluster.start_node(owner)?;
        tokio::time::sleep(REST).await;
    }
    sorted.sort_unstable();
    let mut connection = Connection::open(cluster.ports[0]).await?;
    let answer = connection.ask("GET", link, None, "").await?;
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let final_version = document["documentVersion"].as_u64().unwrap_or(0);
    Ok(Outages { sorted, long, acknowledged, final_version })
}

/// 1 when it was acknowledged. The same key until it is.
async fn write(connection: &mut Connection, link: &str, key: &str) -> io::Result<u64> {
    let key = format!("{}-{key}", std::process::id());
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let answer = connection.ask("PATCH", link, Some(&key), r#"{"name":"g"}"#).await?;
        if answer.status == 200 {
            return Ok(1);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(io::Error::other("a write was not acknowledged within 20 s"))
}
