//! Documents made per second by batches of several sizes, beside one request for each document. All
//! sizes in turn in one run, so that they see the same machine.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::Connection;
use crate::load::percentile;
use crate::millis;

#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How many documents a request makes; 1 is a request of its own for each.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    sizes: Vec<usize>,
    /// How many clients send at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    clients: Vec<usize>,
    /// All documents of a batch have one partition key.
    #[arg(long)]
    one_partition: bool,
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Runs of each, in turn; the median is shown.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// What one client did.
#[derive(Default)]
struct Sent {
    took: Vec<Duration>,
    refused: usize,
}

/// # Errors
/// When a node does not answer.
pub(crate) async fn run(cluster: &Cluster, plan: &Plan) -> io::Result<()> {
    println!("documents   clients   documents/s   requests/s   p50 ms   p99 ms   refused");
    for clients in &plan.clients {
        let mut found: Vec<Vec<(f64, Sent)>> = plan.sizes.iter().map(|_| Vec::new()).collect();
        for _ in 0..plan.runs {
            for (size, found) in plan.sizes.iter().zip(&mut found) {
                found.push(measure(cluster, plan, (*size, *clients)).await?);
            }
        }
        for (size, mut found) in plan.sizes.iter().zip(found) {
            found.sort_by(|one, other| one.0.total_cmp(&other.0));
            let middle = found.swap_remove(found.len() / 2);
            show(*size, *clients, middle);
        }
    }
    Ok(())
}

fn show(size: usize, clients: usize, (requests, mut sent): (f64, Sent)) {
    sent.took.sort_unstable();
    let documents = requests * f64::from(u32::try_from(size).unwrap_or(u32::MAX));
    println!(
        "{size:>9}   {clients:>7}   {documents:>11.0}   {requests:>10.0}   {:>6.1}   {:>6.1}   \
         {:>7}",
        millis(percentile(&sent.took, 0.5)),
        millis(percentile(&sent.took, 0.99)),
        sent.refused
    );
}

/// Requests per second, and how long each took.
async fn measure(
    cluster: &Cluster,
    plan: &Plan,
    (size, clients): (usize, usize),
) -> io::Result<(f64, Sent)> {
    let time = Duration::from_secs(plan.seconds);
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let port = cluster.ports[client % cluster.ports.len()];
            let key = plan.one_partition.then(|| format!("{client}-{size}"));
            tokio::spawn(send(port, (size, key), time))
        })
        .collect();
    let mut all = Sent::default();
    for task in tasks {
        let mut one = task.await.map_err(io::Error::other)??;
        all.took.append(&mut one.took);
        all.refused += one.refused;
    }
    let requests = f64::from(u32::try_from(all.took.len()).unwrap_or(u32::MAX));
    Ok((requests / began.elapsed().as_secs_f64(), all))
}

async fn send(port: u16, (size, key): (usize, Option<String>), time: Duration) -> io::Result<Sent> {
    let mut connection = Connection::open(port).await?;
    let mut sent = Sent::default();
    let mut made = 0_u64;
    let until = Instant::now() + time;
    // Names that no other run makes.
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos());
    while Instant::now() < until {
        let mut one = || {
            made += 1;
            let mut body = json!({ "name": "a document of a batch", "counter": made });
            if let Some(key) = &key {
                body["documentSelfLink"] = format!("{{{key}}}/{nonce:x}-{made}").into();
            }
            body
        };
        let (path, body) = match size {
            1 => ("/core/examples", one()),
            _ => {
                let path = "/core/examples";
                let post = |body: Value| json!({"method": "POST", "path": path, "body": body});
                let requests: Vec<Value> = (0..size).map(|_| post(one())).collect();
                ("/core/batch", json!({ "requests": requests }))
            }
        };
        let body = body.to_string();
        let began = Instant::now();
        let answer = connection.ask("POST", path, None, &body).await?;
        if answer.status == 200 {
            sent.took.push(began.elapsed());
        } else {
            sent.refused += 1;
        }
    }
    Ok(sent)
}
