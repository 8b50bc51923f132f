//! A task that is stuck on its requests is held, goes on under another owner, is tried again, and
//! skipped. It is stuck because fewer nodes are up than the membership quorum asks for; its pauses
//! between attempts are long by then, so that there is time when the quorum is low again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Ended, uri};
use crate::http::Ask;

const PAUSING: &str = "/core/bootstrap-tasks";

fn amrita(cluster: &Cluster, which: usize, words: &[&str]) -> Ended {
    let address = uri(cluster.port(which));
    let words = [words, &["--address", &address]].concat();
    Cluster::run_to_its_end(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

fn does(cluster: &Cluster, which: usize, words: &[&str], said: &str) {
    let ended = amrita(cluster, which, words);
    assert!(ended.status.success() && ended.said.contains(said), "{words:?}: {}", ended.said);
}

fn findings(cluster: &Cluster, which: usize, link: &str) -> Vec<Value> {
    let told = cluster.get(which, &format!("{link}/explain"));
    told.body["findings"].as_array().cloned().unwrap_or_default()
}

fn explained(cluster: &Cluster, which: usize, link: &str, word: &str) {
    cluster.wait_for(&format!("'{word}' in what is told of {link}"), || {
        let told = Ask::get(&format!("{link}/explain")).send(cluster.port(which)).ok()?;
        told.body.to_string().contains(word).then_some(())
    });
}

/// Three tasks that the first node owns, each with this number of users to make. Each makes a
/// counter, pauses, and then makes a user and adds one to the counter in each step.
fn begun(cluster: &Cluster, users: [u64; 3]) -> Vec<String> {
    let names = (0..).map(|number| format!("{PAUSING}/t{number}"));
    let owned = names.filter(|link| cluster.owner_of(0, link) == Some(0));
    let links: Vec<String> = owned.take(users.len()).collect();
    for (link, users) in links.iter().zip(users) {
        let body = json!({ "documentSelfLink": link, "userCount": users, "pauseMillis": 4_000 });
        let made = cluster.ask(0, &Ask::new("POST", PAUSING).json(&body));
        assert_eq!(made.status, 202, "{}", made.body);
    }
    for link in &links {
        explained(cluster, 0, link, "the task pauses");
    }
    links
}

/// What the task has added one by one.
fn count(cluster: &Cluster, which: usize, link: &str) -> Value {
    let name = link.rsplit('/').next().unwrap_or_default();
    cluster.get(which, &format!("/core/counters/{name}")).body["count"].clone()
}

fn set_quorum(cluster: &Cluster, which: usize, quorum: usize) {
    let kind = "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest";
    let body = json!({ "kind": kind, "isGroupUpdate": true, "membershipQuorum": quorum });
    let ask = Ask::new("PATCH", "/core/node-groups/default").json(&body);
    let reply = cluster.ask(which, &ask);
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Whether none of its requests is made again within three seconds, and some wait for that.
fn waits_for_long(cluster: &Cluster, link: &str) -> bool {
    let all = findings(cluster, 0, link);
    let calls = all.iter().filter(|it| it["waitsFor"] == "CALL").map(|it| it["text"].to_string());
    let is_long = |text: &String| {
        let long = ["once more in 3", "once more in 4"].iter().any(|it| text.contains(it));
        long && text.len() > text.find("once more in ").unwrap_or(0) + "once more in 3000 ms".len()
    };
    let calls: Vec<String> = calls.collect();
    !calls.is_empty() && calls.iter().all(is_long)
}

fn ended(cluster: &Cluster, which: usize, link: &str, stage: &str) -> Value {
    cluster.wait_for(&format!("{link} to be {stage}"), || {
        let task = Ask::get(link).send(cluster.port(which)).ok()?.body;
        (task["taskInfo"]["stage"] == stage).then_some(task)
    })
}

#[test]
fn a_stuck_task_is_held_and_goes_on_elsewhere_and_others_are_tried_again_and_skipped() {
    let mut cluster = Cluster::started(3);
    cluster.wait_for("each node to own its share", || {
        let nodes = cluster.get(0, "/core/node-groups/default").body["nodes"].clone();
        let has_share = |node: &Value| node["ownedPartitions"].as_u64().is_some_and(|it| it >= 2);
        nodes.as_object()?.values().all(has_share).then_some(())
    });
    let links = begun(&cluster, [2, 1, 1]);
    let [held, retried, skipped] = &links[..] else { panic!("{links:?}") };
    set_quorum(&cluster, 0, 3);
    cluster.kill(2);
    cluster.wait_for("long pauses between attempts", || {
        links.iter().all(|link| waits_for_long(&cluster, link)).then_some(())
    });
    set_quorum(&cluster, 0, 2);
    does(&cluster, 0, &["task", "hold", held], "held");
    does(&cluster, 0, &["task", "skip", skipped], "skipped");
    does(&cluster, 0, &["task", "retry", retried], "tried now");

    explained(&cluster, 1, held, "is held in the middle of a step");
    ended(&cluster, 0, retried, "FINISHED");
    assert_eq!(count(&cluster, 0, retried), 1);
    let task = ended(&cluster, 0, skipped, "FAILED");
    assert!(task["failureMessage"].to_string().contains("somebody has skipped"), "{task}");
    let refused = amrita(&cluster, 0, &["task", "retry", skipped]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.said);
    assert!(refused.said.contains("POST a new one"), "{}", refused.said);

    // Longer than any pause between attempts.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(findings(&cluster, 0, held).len(), 1, "nothing of it is under way");
    assert_eq!(count(&cluster, 0, held), 0, "nothing was done meanwhile");
    let refused = amrita(&cluster, 0, &["task", "retry", held]);
    assert!(refused.said.contains("is held and tries nothing"), "{}", refused.said);

    cluster.start(2);
    cluster.wait_until_whole();
    let owner = cluster.owner_of(1, held).expect("it has an owner");
    cluster.kill(owner);
    let asked = (owner + 1) % 3;
    cluster.wait_for("another owner", || cluster.owner_of(asked, held).filter(|it| *it != owner));
    explained(&cluster, asked, held, "is held in the middle of a step");
    let task = cluster.get(asked, held).body;
    assert_eq!((&task["madeCount"], count(&cluster, asked, held)), (&0.into(), 0.into()), "{task}");

    does(&cluster, asked, &["task", "release", held], "released");
    let task = ended(&cluster, asked, held, "FINISHED");
    assert_eq!((&task["madeCount"], count(&cluster, asked, held)), (&2.into(), 2.into()), "{task}");
}

#[test]
fn all_tasks_of_a_factory_are_held_released_and_cancelled() {
    let cluster = Cluster::started(1);
    for (name, pause) in [("a", 600_000), ("b", 600_000), ("c", 600_000), ("d", 0)] {
        let body = json!({ "documentSelfLink": name, "userCount": 1, "pauseMillis": pause });
        assert_eq!(cluster.ask(0, &Ask::new("POST", PAUSING).json(&body)).status, 202);
    }
    let (a, b, d) = (format!("{PAUSING}/a"), format!("{PAUSING}/b"), format!("{PAUSING}/d"));
    ended(&cluster, 0, &d, "FINISHED");

    let some = ["--of", PAUSING, "--filter", "documentSelfLink eq /core/bootstrap-tasks/a"];
    does(&cluster, 0, &[&["task", "hold"], &some[..]].concat(), "1 tasks held; 0 refused");
    let held = cluster.get(0, &format!("{PAUSING}?$filter=taskInfo.held%20eq%20true")).body;
    assert_eq!(held["documentLinks"], json!([a]), "{held}");
    explained(&cluster, 0, &a, "the task is held");
    does(&cluster, 0, &["task", "hold", "--of", PAUSING], "3 tasks held; 0 refused, 0 with");
    let told = amrita(&cluster, 0, &["task", "retry", "--of", PAUSING, "--json"]);
    assert_eq!(told.status.code(), Some(1), "{}", told.said);
    assert!(told.said.contains(r#""refused":3"#), "{}", told.said);
    let told = amrita(&cluster, 0, &["task", "retry", &d]);
    assert!(!told.status.success() && told.said.contains("FINISHED"), "{}", told.said);
    does(&cluster, 0, &["task", "release", &a, &b], "b: released");
    explained(&cluster, 0, &a, "the task pauses");
    does(&cluster, 0, &["task", "cancel", "--of", PAUSING], "3 tasks cancelled; 0 refused, 0");
    let words = "0 tasks held; 0 refused, 0 with an unknown outcome, 4 had";
    does(&cluster, 0, &["task", "hold", "--of", PAUSING], words);
}
