//! Readers of changes: how many events reach them, how long an event takes from the write to the
//! reader, and what the readers cost the writers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::http::Connection;
use crate::load::{self, Verb, percentile};
use crate::millis;

/// How many clients write meanwhile.
const WRITERS: usize = 16;

/// What one reader saw.
#[derive(Default)]
struct Seen {
    events: usize,
    delays: Vec<Duration>,
    began_anew: usize,
}

/// Measures with each number of readers, in turn.
///
/// # Errors
/// When a node does not answer.
pub(crate) async fn run(cluster: &Cluster, readers: &[usize], time: Duration) -> io::Result<()> {
    println!("readers   writes/s   write p99 ms   events/s   delay p50 ms   p99 ms   fell behind");
    for &count in readers {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let port = cluster.ports[number % cluster.ports.len()];
                tokio::spawn(read(port, Arc::clone(&stop)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let written = load::run(&cluster.ports, WRITERS, time, Verb::Patch).await?;
        stop.store(true, Ordering::Relaxed);
        let (mut events, mut began_anew, mut delays) = (0, 0, Vec::new());
        for task in tasks {
            let mut seen = task.await.map_err(io::Error::other)??;
            events += seen.events;
            began_anew += seen.began_anew;
            delays.append(&mut seen.delays);
        }
        delays.sort_unstable();
        let per_second = f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / time.as_secs_f64();
        let at = |part| if delays.is_empty() { 0.0 } else { millis(percentile(&delays, part)) };
        println!(
            "{count:>7} {:>10.0} {:>14.2} {per_second:>10.0} {:>14.2} {:>8.2} {began_anew:>13}",
            written.per_second,
            millis(written.p99),
            at(0.5),
            at(0.99),
        );
    }
    Ok(())
}

async fn read(port: u16, stop: Arc<AtomicBool>) -> io::Result<Seen> {
    let mut connection = Connection::open(port).await?;
    let mut seen = Seen::default();
    let mut token = String::new();
    while !stop.load(Ordering::Relaxed) {
        let after = if token.is_empty() { String::new() } else { format!("&after={token}") };
        let path = format!("/core/examples?watch=true&wait=1{after}");
        let answer = connection.ask("GET", &path, None, "").await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if answer.status == 410 {
            seen.began_anew += 1;
            token.clear();
            continue;
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(io::Error::other)?;
        token = body["token"].as_str().unwrap_or_default().to_owned();
        for change in body["changes"].as_array().into_iter().flatten() {
            seen.events += 1;
            let written = change["document"]["documentUpdateTimeMicros"].as_u64();
            let written = Duration::from_micros(written.unwrap_or_default());
            seen.delays.push(now.saturating_sub(written));
        }
    }
    Ok(seen)
}
