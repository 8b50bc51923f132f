//! A task that is stuck on a call is held, goes on under another owner, is tried again, and skipped.

use serde_json::json;

use crate::cluster::{Cluster, Ended, uri};
use crate::http::Ask;

const TASKS: &str = "/core/example-tasks";
const TASK: &str = "/core/example-tasks/stuck";
const SEAT: &str = "/app/seats/one";

fn amrita(words: &[&str]) -> Ended {
    Cluster::run_to_its_end(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

fn task(cluster: &Cluster, which: usize, words: &[&str]) -> Ended {
    let address = uri(cluster.port(which));
    amrita(&[&["task"], words, &["--address", &address]].concat())
}

fn does(cluster: &Cluster, which: usize, words: &[&str], said: &str) {
    let ended = task(cluster, which, words);
    assert!(ended.status.success() && ended.said.contains(said), "{words:?}: {}", ended.said);
}

/// Waits until that is told of the task.
fn explained(cluster: &Cluster, which: usize, word: &str) {
    cluster.wait_for(&format!("'{word}' in what is told of {TASK}"), || {
        let told = Ask::get(&format!("{TASK}/explain")).send(cluster.port(which)).ok()?;
        told.body.to_string().contains(word).then_some(())
    });
}

/// How often the seat was asked to go.
fn tries(cluster: &Cluster, which: usize) -> f64 {
    let stats = cluster.get(which, &format!("{SEAT}/stats"));
    stats.body["entries"]["DELETErequestCount"]["latestValue"].as_f64().unwrap_or(0.0)
}

/// A task that deletes the seat. What decides whether it may go is a program, and none is there.
fn start(cluster: &Cluster, name: &str) {
    let clause = json!({ "term": { "propertyName": "documentSelfLink", "matchValue": SEAT } });
    let body = json!({ "documentSelfLink": name, "customQueryClause": clause });
    let made = cluster.ask(0, &Ask::new("POST", TASKS).json(&body));
    assert_eq!(made.status, 202, "{}", made.body);
}

fn seat(cluster: &Cluster) {
    let kind = "com:vmware:xenon:services:common:ExampleService:ExampleServiceState";
    let schema = r#"{"type":"object"}"#;
    let address = uri(cluster.port(0));
    let words = ["kind", "create", "/app/seats", "--kind", kind, "--handlers", "delete"];
    let made = amrita(&[&words, &["--schema", schema, "--address", &address][..]].concat());
    assert!(made.status.success(), "{}", made.said);
    let body = json!({ "documentSelfLink": "one", "name": "seat" });
    cluster.wait_for("the kind to be there", || {
        let made = Ask::new("POST", "/app/seats").json(&body).send(cluster.port(0)).ok()?;
        (made.status == 200).then_some(())
    });
}

#[test]
fn a_stuck_task_is_held_goes_on_elsewhere_is_tried_again_and_skipped() {
    let mut cluster = Cluster::started(3);
    seat(&cluster);
    start(&cluster, "stuck");
    explained(&cluster, 0, "which was not possible");

    does(&cluster, 0, &["hold", TASK], "stuck: held");
    explained(&cluster, 1, "is held in the middle of a step");
    cluster.wait_for("the last attempt to come back", || {
        let told = cluster.get(0, &format!("{TASK}/explain")).body.to_string();
        (!told.contains("CALL")).then_some(())
    });
    let before = tries(&cluster, 0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(before > 0.0 && (tries(&cluster, 0) - before).abs() < 0.5, "it was tried meanwhile");
    let refused = task(&cluster, 0, &["retry", TASK]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.said);
    assert!(refused.said.contains("is held and tries nothing"), "{}", refused.said);

    let owner = cluster.owner_of(0, TASK).expect("it has an owner");
    cluster.kill(owner);
    let asked = (owner + 1) % 3;
    cluster.wait_for("another owner", || cluster.owner_of(asked, TASK).filter(|it| *it != owner));
    explained(&cluster, asked, "is held in the middle of a step");

    does(&cluster, asked, &["release", TASK], "stuck: released");
    explained(&cluster, asked, "which was not possible");
    cluster.wait_for("a retry while no attempt is out", || {
        task(&cluster, asked, &["retry", TASK]).status.success().then_some(())
    });
    does(&cluster, asked, &["skip", TASK], "stuck: skipped");
    cluster.wait_for("the end of the task", || {
        let task = Ask::get(TASK).send(cluster.port(asked)).ok()?.body;
        let has_failed = task["taskInfo"]["stage"] == "FAILED";
        (has_failed && task["failureMessage"] == "1 deletes failed").then_some(())
    });
    assert_eq!(cluster.get(asked, SEAT).status, 200, "nobody has let it go");
    let ended = task(&cluster, asked, &["retry", TASK]);
    assert!(!ended.status.success() && ended.said.contains("POST a new one"), "{}", ended.said);
}

#[test]
fn all_tasks_of_a_factory_are_held_released_and_cancelled() {
    let cluster = Cluster::started(1);
    seat(&cluster);
    for name in ["stuck", "b", "c"] {
        start(&cluster, name);
    }
    let body = json!({ "documentSelfLink": "d", "customQueryClause": { "term": {
        "propertyName": "name", "matchValue": "nobody has this" } } });
    assert_eq!(cluster.ask(0, &Ask::new("POST", TASKS).json(&body)).status, 202);
    let stages = |stage: &str| {
        let list = cluster.get(0, &format!("{TASKS}?expand")).body;
        let tasks = list["documents"].as_object().cloned().unwrap_or_default();
        tasks.values().filter(|task| task["taskInfo"]["stage"] == stage).count()
    };
    cluster.wait_for("one to end", || (stages("FINISHED") == 1).then_some(()));
    explained(&cluster, 0, "which was not possible");

    let some = ["--of", TASKS, "--filter", "documentSelfLink eq /core/example-tasks/stuck"];
    does(&cluster, 0, &[&["hold"], &some[..]].concat(), "1 tasks held; 0 refused");
    let held = cluster.get(0, &format!("{TASKS}?expand&$filter=taskInfo.held%20eq%20true")).body;
    assert_eq!(held["documentLinks"], json!([TASK]), "{held}");
    does(&cluster, 0, &["hold", "--of", TASKS], "3 tasks held; 0 refused, 0 with");
    let told = task(&cluster, 0, &["retry", "--of", TASKS, "--json"]);
    assert_eq!(told.status.code(), Some(1), "{}", told.said);
    assert!(told.said.contains(r#""refused":3"#), "{}", told.said);
    does(&cluster, 0, &["release", TASK, "/core/example-tasks/b"], "b: released");
    does(&cluster, 0, &["cancel", "--of", TASKS], "3 tasks cancelled; 0 refused, 0 with an");
    assert_eq!((stages("CANCELLED"), stages("FINISHED")), (3, 1));
    does(
        &cluster,
        0,
        &["hold", "--of", TASKS],
        "0 tasks held; 0 refused, 0 with an unknown outcome, 4",
    );
}
