//! `amrita top`: what the nodes of a cluster do at this moment, again and again until Ctrl-C. It is
//! made of what each node counts (`/metrics`) and of the node group.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use client::Client;
use protocol::node_group::{self, NodeGroupState, NodeState, NodeStatus};
use serde_json::{Value, json};

use crate::access::session;
use crate::admin;
use crate::arguments::{Cluster, TopOptions};
use crate::counts::Counts;
use crate::outcome::Outcome;
use crate::screen;
use crate::verbs;

/// How long one node may take to say what it counts.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How many of the last changes of owners are shown.
const CHANGES_SHOWN: usize = 6;

/// Takes the cursor to the top, and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

const HEADING: [&str; 14] = [
    "node", "status", "owns", "req/s", "5xx/s", "p50 ms", "p99 ms", "sync p99", "queue", "conns",
    "progs", "log MiB", "held MiB", "free GiB",
];

pub(crate) async fn run(cluster: &Cluster, options: &TopOptions) -> Outcome {
    let client = verbs::client(cluster)?;
    let interval = Duration::from_secs(options.interval);
    let mut watched = Watched::default();
    let (_, group) = admin::group(&client).await?;
    watched.look(&group).await;
    let mut looks = 0;
    while options.count.is_none_or(|count| looks < count) {
        tokio::time::sleep(interval).await;
        looks += 1;
        let text = match admin::group(&client).await {
            Ok((_, group)) => {
                watched.look(&group).await;
                if cluster.json { watched.to_json(&group) } else { watched.in_words(&group) }
            }
            // It may be there again at the next look.
            Err(trouble) if options.count.is_none() => trouble.why,
            Err(trouble) => return Err(trouble),
        };
        let clear = !cluster.json && std::io::stdout().is_terminal();
        let text = if clear { format!("{CLEAR}{text}") } else { text };
        if !screen::is_said(&text) {
            break;
        }
    }
    Ok(())
}

/// What was seen at the last look, and at the one before.
#[derive(Default)]
struct Watched {
    nodes: BTreeMap<String, Node>,
    owners: Vec<Option<String>>,
    /// The newest last.
    changes: VecDeque<(Instant, String)>,
}

#[derive(Default)]
struct Node {
    before: Option<Look>,
    now: Option<Look>,
}

struct Look {
    at: Instant,
    counts: Counts,
}

/// What a node has done between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    requests: f64,
    failures: f64,
    /// In seconds; without one nothing was done.
    median: Option<f64>,
    p99: Option<f64>,
    sync_p99: Option<f64>,
}

impl Watched {
    async fn look(&mut self, group: &NodeGroupState) {
        self.note_owners(&group.partition_owners);
        self.nodes.retain(|id, _| group.nodes.values().any(|node| node.id == *id));
        for node in group.nodes.values() {
            let seen = self.nodes.entry(node.id.clone()).or_default();
            seen.before = seen.now.take();
            if node.status != NodeStatus::Unavailable {
                seen.now = look_at(node).await;
            }
        }
    }

    /// Owners that are others than at the look before.
    fn note_owners(&mut self, owners: &[Option<String>]) {
        let name = |owner: &Option<String>| owner.clone().unwrap_or_else(|| "nobody".into());
        for (number, (old, new)) in self.owners.iter().zip(owners).enumerate() {
            if old != new {
                let text = format!("partition {}: {} -> {}", number + 1, name(old), name(new));
                self.changes.push_back((Instant::now(), text));
            }
        }
        self.owners = owners.to_vec();
        while self.changes.len() > CHANGES_SHOWN {
            self.changes.pop_front();
        }
    }

    fn in_words(&self, group: &NodeGroupState) -> String {
        let rows: Vec<Vec<String>> = group.nodes.values().map(|node| self.row(node)).collect();
        let mut lines = vec![screen::table(&HEADING, &rows), String::new(), admin::summary(group)];
        if !self.changes.is_empty() {
            lines.push("\nOwners that have changed:".into());
        }
        lines.extend(self.changes_in_words());
        lines.join("\n")
    }

    fn changes_in_words(&self) -> impl Iterator<Item = String> {
        let line =
            |at: &Instant, text: &str| format!("  {text} ({} s ago)", at.elapsed().as_secs());
        self.changes.iter().rev().map(move |(at, text)| line(at, text))
    }

    fn row(&self, node: &NodeState) -> Vec<String> {
        let mut row = vec![
            node.id.clone(),
            admin::status(node.status).to_owned(),
            node.owned_partitions.to_string(),
        ];
        let seen = self.nodes.get(&node.id);
        let Some(now) = seen.and_then(|seen| seen.now.as_ref()) else {
            row.resize(HEADING.len(), String::new());
            return row;
        };
        let figures = seen.and_then(Node::figures);
        let millis = |seconds: Option<f64>| seconds.map_or_else(String::new, as_millis);
        row.extend(match figures {
            Some(it) => [
                format!("{:.0}", it.requests),
                format!("{:.0}", it.failures),
                millis(it.median),
                millis(it.p99),
                millis(it.sync_p99),
            ],
            None => Default::default(),
        });
        for name in ["amrita_queue_depth", "amrita_connections", "amrita_programs"] {
            row.push(format!("{:.0}", now.counts.value(name)));
        }
        for (name, unit) in [
            ("amrita_log_bytes", 1 << 20),
            ("amrita_bytes_held", 1 << 20),
            ("amrita_disk_free_bytes", 1 << 30),
        ] {
            row.push(format!("{:.1}", now.counts.value(name) / f64::from(unit)));
        }
        row
    }

    fn to_json(&self, group: &NodeGroupState) -> String {
        let nodes: Vec<Value> = group.nodes.values().map(|node| self.node_to_json(node)).collect();
        json!({ "nodes": nodes, "partitionOwners": group.partition_owners }).to_string()
    }

    fn node_to_json(&self, node: &NodeState) -> Value {
        let seen = self.nodes.get(&node.id);
        let figures = seen.and_then(Node::figures);
        let now = seen.and_then(|seen| seen.now.as_ref());
        let value = |name: &str| now.map(|now| now.counts.value(name));
        json!({
            "id": node.id,
            "status": admin::status(node.status),
            "ownedPartitions": node.owned_partitions,
            "requestsPerSecond": figures.map(|it| it.requests),
            "failuresPerSecond": figures.map(|it| it.failures),
            "requestSecondsP50": figures.and_then(|it| it.median),
            "requestSecondsP99": figures.and_then(|it| it.p99),
            "logSyncSecondsP99": figures.and_then(|it| it.sync_p99),
            "queueDepth": value("amrita_queue_depth"),
            "connections": value("amrita_connections"),
            "programs": value("amrita_programs"),
            "logBytes": value("amrita_log_bytes"),
            "bytesHeld": value("amrita_bytes_held"),
            "diskFreeBytes": value("amrita_disk_free_bytes"),
        })
    }
}

/// A node that does not answer is shown without figures.
async fn look_at(node: &NodeState) -> Option<Look> {
    let address = node.group_reference.trim_end_matches(node_group::LINK);
    let client: Client = session::client_of(&[address]).ok()?.patience(LOOK_MAX);
    let answer = client.get("/metrics").await.ok().filter(|answer| answer.is_success())?;
    let counts = Counts::read(&String::from_utf8_lossy(&answer.body));
    Some(Look { at: Instant::now(), counts })
}

impl Node {
    fn figures(&self) -> Option<Figures> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        let since = now.counts.since(&before.counts)?;
        let requests = "amrita_request_seconds";
        Some(Figures {
            requests: since.sum("amrita_requests_total", "") / seconds,
            failures: since.sum("amrita_requests_total", "status=\"5") / seconds,
            median: since.quantile(requests, 0.5),
            p99: since.quantile(requests, 0.99),
            sync_p99: since.quantile("amrita_log_sync_seconds", 0.99),
        })
    }
}

fn as_millis(seconds: f64) -> String {
    format!("{:.1}", seconds * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(owners: &[&str]) -> Vec<Option<String>> {
        owners.iter().map(|owner| Some((*owner).to_owned()).filter(|it| !it.is_empty())).collect()
    }

    #[test]
    fn owners_that_change_are_told_the_newest_first_and_not_without_end() {
        let mut watched = Watched::default();
        watched.note_owners(&owners(&["n1", "n2"]));
        assert!(watched.changes.is_empty(), "the first look has nothing to compare with");
        watched.note_owners(&owners(&["", "n2"]));
        watched.note_owners(&owners(&["n3", "n2"]));
        let lines: Vec<String> = watched.changes_in_words().collect();
        let expected = ["partition 1: nobody -> n3", "partition 1: n1 -> nobody"];
        assert_eq!(lines.len(), 2, "{lines:?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.contains(expected), "{lines:?}");
        }
        for number in 0..50 {
            watched.note_owners(&owners(&[&format!("n{number}")]));
        }
        assert_eq!(watched.changes.len(), CHANGES_SHOWN);
    }

    #[test]
    fn figures_are_of_the_time_between_two_looks() {
        let at = Instant::now();
        let look = |after: u64, done: u64, failed: u64| {
            let page = format!(
                "amrita_requests_total{{method=\"GET\",status=\"200\"}} {done}\n\
                 amrita_requests_total{{method=\"GET\",status=\"503\"}} {failed}\n"
            );
            Some(Look { at: at + Duration::from_secs(after), counts: Counts::read(&page) })
        };
        let node = Node { before: look(0, 100, 5), now: look(2, 140, 7) };
        let figures = node.figures().expect("there were two looks");
        assert!((figures.requests - 21.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.failures - 1.0).abs() < 1e-9, "{figures:?}");
        assert!(figures.median.is_none(), "{figures:?}");
        let restarted = Node { before: look(0, 100, 5), now: look(2, 3, 0) };
        assert!(restarted.figures().is_none(), "it counts from nought again");
    }
}
