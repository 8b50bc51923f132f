//! Clients that write while nodes die, and the account they keep: what was acknowledged, under
//! which version and by which owner. At the end the account must be what the documents say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

/// Documents that all clients write to.
pub(crate) const SHARED: usize = 4;

/// A client repeats one request no longer than this.
const TRIED_FOR: Duration = Duration::from_secs(20);

/// One acknowledged write.
pub(crate) struct Ack {
    pub(crate) link: String,
    pub(crate) version: u64,
    pub(crate) epoch: u64,
    pub(crate) owner: String,
    pub(crate) at: Instant,
}

/// What one client did.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) acks: Vec<Ack>,
    /// How often a request had to be sent again.
    pub(crate) repeats: usize,
    /// What must not happen.
    pub(crate) wrongs: Vec<String>,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Account>>,
}

pub(crate) fn shared_link(number: usize) -> String {
    format!("/core/examples/shared-{number}")
}

impl Load {
    /// Makes the shared documents and lets `clients` write: each makes documents of its own and
    /// patches shared ones, in turn, every request with a key and sent again until it is answered.
    pub(crate) fn begin(cluster: &Cluster, clients: usize) -> Self {
        for number in 0..SHARED {
            let body = json!({"documentSelfLink": format!("shared-{number}"), "name": "shared"});
            let made = cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body));
            assert_eq!(made.status, 200, "{}", made.body);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients)
            .map(|client| {
                let (stop, ports) = (Arc::clone(&stop), cluster.ports());
                std::thread::spawn(move || Client { name: client, ports, at: client }.run(&stop))
            })
            .collect();
        Self { stop, clients }
    }

    pub(crate) fn end(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Account::default();
        for client in self.clients {
            let one = client.join().expect("a client does not panic");
            all.acks.extend(one.acks);
            all.repeats += one.repeats;
            all.wrongs.extend(one.wrongs);
        }
        all
    }
}

struct Client {
    name: usize,
    ports: Vec<u16>,
    /// The node it speaks to; another one after each failure.
    at: usize,
}

impl Client {
    fn run(mut self, stop: &AtomicBool) -> Account {
        let mut account = Account::default();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) && account.wrongs.is_empty() {
            let key = format!("client-{}-{number}", self.name);
            let own = format!("own-{}-{number}", self.name);
            let link = shared_link((self.name + number) % SHARED);
            let (ask, expected) = if number % 2 == 0 {
                let body = json!({"documentSelfLink": own, "name": key, "counter": number});
                (Ask::new("POST", "/core/examples").json(&body), format!("/core/examples/{own}"))
            } else {
                (Ask::new("PATCH", &link).json(&json!({"name": key})), link.clone())
            };
            self.until_acknowledged(&ask.key(&key), &expected, &mut account);
            number += 1;
        }
        account
    }

    fn until_acknowledged(&mut self, ask: &Ask<'_>, link: &str, account: &mut Account) {
        let began = Instant::now();
        loop {
            let port = self.ports[self.at % self.ports.len()];
            let why = match ask.send(port) {
                Ok(reply) if reply.is_success() => {
                    account.write_down(&reply, link);
                    return;
                }
                Ok(reply) if reply.status >= 500 => format!("{}: {}", reply.status, reply.body),
                Ok(reply) => {
                    let wrong = format!("{link}: {} {}", reply.status, reply.body);
                    account.wrongs.push(wrong);
                    return;
                }
                Err(why) => why,
            };
            if began.elapsed() > TRIED_FOR {
                account.wrongs.push(format!("{link}: tried for {TRIED_FOR:?}; the last: {why}"));
                return;
            }
            account.repeats += 1;
            self.at += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Account {
    fn write_down(&mut self, reply: &Reply, link: &str) {
        let document = &reply.body;
        if document["documentSelfLink"] != link {
            self.wrongs.push(format!("asked for {link}, answered with {document}"));
            return;
        }
        self.acks.push(Ack {
            link: link.to_owned(),
            version: reply.version(),
            epoch: document["documentEpoch"].as_u64().unwrap_or_default(),
            owner: document["documentUpdateNode"].as_str().unwrap_or_default().to_owned(),
            at: Instant::now(),
        });
    }

    /// No write was acknowledged twice under one version, and no epoch of a document had two
    /// owners. Versions count from 0 without a gap: every write is acknowledged in the end, so
    /// what is in the document and was not acknowledged was done twice.
    pub(crate) fn is_consistent(&self) -> BTreeMap<String, u64> {
        assert!(self.wrongs.is_empty(), "{}", self.wrongs.join("\n"));
        let mut versions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut owners: BTreeMap<(&str, u64), &str> = BTreeMap::new();
        for ack in &self.acks {
            versions.entry(&ack.link).or_default().push(ack.version);
            let owner = owners.entry((&ack.link, ack.epoch)).or_insert(&ack.owner);
            assert_eq!(*owner, ack.owner, "two owners of {} in epoch {}", ack.link, ack.epoch);
        }
        let mut last = BTreeMap::new();
        for (link, mut found) in versions {
            found.sort_unstable();
            // The first version of a shared document was made before the clients began.
            let first = u64::from(link.contains("/shared-"));
            for (version, wanted) in found.iter().zip(first..) {
                assert!(
                    *version == wanted,
                    "{link}: version {wanted} was {}",
                    if *version < wanted { "acknowledged twice" } else { "never acknowledged" }
                );
            }
            last.insert(link.to_owned(), found.last().copied().unwrap_or_default());
        }
        last
    }

    /// What was acknowledged is what every node has, no more and no less.
    pub(crate) fn agrees_with(&self, cluster: &Cluster) {
        let last = self.is_consistent();
        for (number, (link, version)) in last.iter().enumerate() {
            let reply = cluster.get(number % cluster.len(), link);
            assert_eq!(reply.status, 200, "{link}: an acknowledged write is gone");
            assert_eq!(reply.version(), *version, "{link}: the newest version");
        }
        for which in 0..cluster.len() {
            for (link, version) in &last {
                // A replica may be a moment behind; it must get there.
                cluster.wait_for(&format!("node {which} to have {link} at {version}"), || {
                    let path = format!("{link}?consistency=local");
                    let reply = Ask::get(&path).send(cluster.port(which)).ok()?;
                    assert!(
                        reply.status != 200 || reply.version() <= *version,
                        "{link}: node {which} has a version that was never acknowledged"
                    );
                    (reply.status == 200 && reply.version() == *version).then_some(())
                });
            }
            let count = count_examples(cluster, which);
            assert_eq!(count, last.len() as u64, "documents found by a query at node {which}");
        }
    }
}

/// How many example documents a query finds.
pub(crate) fn count_examples(cluster: &Cluster, which: usize) -> u64 {
    let kind = "com:vmware:xenon:services:common:ExampleService:ExampleServiceState";
    let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {"options": ["COUNT"],
        "query": {"term": {"propertyName": "documentKind", "matchValue": kind}}}});
    let reply = cluster.ask(which, &Ask::new("POST", "/core/query-tasks").json(&query));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body["results"]["documentCount"].as_u64().expect("a count")
}
