//! An owner is paused and wakes again. While it sleeps another takes over; when it wakes it must
//! neither show what it last knew nor acknowledge anything as if it still were the owner.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const PAUSES: usize = 5;

/// Questions that wait in the sockets of the paused node.
const QUESTIONS: usize = 4;

const LINK: &str = "/core/examples/paused";

#[test]
fn an_owner_that_was_paused_shows_nothing_stale_and_there_are_never_two() {
    let cluster = Cluster::started(3);
    let body = json!({"documentSelfLink": "paused", "name": "0"});
    let made = cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body));
    assert_eq!(made.status, 200, "{}", made.body);
    let mut answers = Answers::default();
    answers.add(&made);
    for round in 0..PAUSES {
        let asked = round % cluster.len();
        let owner = cluster.wait_for("an owner", || cluster.owner_of(asked, LINK));
        let other = (owner + 1) % cluster.len();
        cluster.pause(owner);
        let newest = write_until_done(&cluster, other, &format!("round {round}"));
        answers.add(&newest);
        let questions = ask_the_paused_one(&cluster, owner, round);
        cluster.go_on(owner);
        for question in questions {
            // No answer, or an error, is an honest answer.
            let Ok(reply) = question.join().expect("a client does not panic") else { continue };
            if reply.status != 200 {
                continue;
            }
            let (got, least) = (reply.version(), newest.version());
            assert!(got >= least, "version {got} was shown after {least} was acknowledged");
            answers.add(&reply);
        }
        cluster.wait_until_whole();
        let now = write_until_done(&cluster, owner, &format!("after round {round}"));
        answers.add(&now);
    }
    for which in 0..cluster.len() {
        let last = cluster.get(which, LINK);
        assert_eq!(last.body["name"], format!("after round {}", PAUSES - 1));
    }
}

/// A write through a node that lives, with a key, until it is acknowledged.
fn write_until_done(cluster: &Cluster, which: usize, name: &str) -> Reply {
    let ask = Ask::new("PATCH", LINK).json(&json!({"name": name})).key(name);
    let ask = ask.within(Duration::from_secs(3));
    cluster.wait_for(&format!("a write through node {which}"), || {
        ask.send(cluster.port(which)).ok().filter(Reply::is_success)
    })
}

type Question = std::thread::JoinHandle<Result<Reply, String>>;

/// Reads and writes that arrive while the node sleeps, and that it finds when it wakes.
fn ask_the_paused_one(cluster: &Cluster, which: usize, round: usize) -> Vec<Question> {
    let port = cluster.port(which);
    let questions = (0..QUESTIONS)
        .map(|number| {
            std::thread::spawn(move || {
                if number % 2 == 0 {
                    return Ask::get(LINK).send(port);
                }
                let key = format!("woken {round} {number}");
                Ask::new("PATCH", LINK).json(&json!({"name": key})).key(&key).send(port)
            })
        })
        .collect();
    // Long enough for them to have left.
    std::thread::sleep(Duration::from_millis(100));
    questions
}

/// What was shown and acknowledged: one version has one content and one author.
#[derive(Default)]
struct Answers {
    versions: BTreeMap<u64, (String, String, u64)>,
    owners: BTreeMap<u64, String>,
}

impl Answers {
    fn add(&mut self, reply: &Reply) {
        let text = |name: &str| reply.body[name].as_str().unwrap_or_default().to_owned();
        let epoch = reply.body["documentEpoch"].as_u64().unwrap_or_default();
        let this = (text("name"), text("documentUpdateNode"), epoch);
        let known = self.versions.entry(reply.version()).or_insert_with(|| this.clone());
        assert_eq!(*known, this, "version {} was shown in two forms", reply.version());
        let owner = self.owners.entry(epoch).or_insert_with(|| this.1.clone());
        assert_eq!(*owner, this.1, "two owners in epoch {epoch}");
    }
}
