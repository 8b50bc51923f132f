//! A node whose sandbox was emptied, cut or set back must not vote with what is left of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, available, uri};
use crate::http::Ask;

const DOCUMENTS: usize = 60;
const VICTIM: usize = 1;

/// How long the two nodes that do not have the newest writes are watched.
const WATCHED: Duration = Duration::from_secs(3);

/// What is done to the sandbox of the stopped victim, given a copy from before the last writes.
type Harm = fn(sandbox: &Path, older: &Path);

fn link(number: usize) -> String {
    format!("/core/examples/kept-{number}")
}

fn write_all(cluster: &Cluster, name: &str) {
    for number in 0..DOCUMENTS {
        let (link, key) = (link(number), format!("{name}-{number}"));
        let patch = Ask::new("PATCH", &link).json(&json!({ "name": name })).key(&key);
        cluster.wait_for("a write to be acknowledged", || {
            patch.send(cluster.port(0)).ok().filter(|reply| reply.status == 200)
        });
    }
}

/// A cluster whose newest writes are on n1 and n2 only, with all nodes stopped. Gives a copy of
/// n2's sandbox from before those writes.
fn written_by_two() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::started(3);
    for number in 0..DOCUMENTS {
        let body = json!({"documentSelfLink": format!("kept-{number}"), "name": "old"});
        let made = cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body));
        assert_eq!(made.status, 200, "{}", made.body);
    }
    assert!(cluster.stop(VICTIM).success());
    let older = cluster.folder().join("older");
    copy(&cluster.member(VICTIM).sandbox, &older);
    cluster.start(VICTIM);
    cluster.wait_until_whole();
    assert!(cluster.stop(2).success());
    write_all(&cluster, "new");
    cluster.kill(VICTIM);
    cluster.kill(0);
    (cluster, older)
}

/// The victim must take no part with what is left of its data, and be filled when n1 is back.
fn nothing_is_lost_after(harm: Harm) {
    let (mut cluster, older) = written_by_two();
    harm(&cluster.member(VICTIM).sandbox, &older);
    cluster.start(VICTIM);
    cluster.start(2);
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        for number in 0..DOCUMENTS {
            let Ok(reply) = Ask::get(&link(number)).send(cluster.port(2)) else { continue };
            let is_old = reply.status == 200 && reply.body["name"] != "new";
            assert!(!is_old, "an old value is served: {}\n{}", reply.body, cluster.log(VICTIM));
            if reply.status != 200 {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.start(0);
    cluster.wait_until_whole();
    for which in 0..3 {
        for number in 0..DOCUMENTS {
            let reply = cluster.get(which, &link(number));
            assert_eq!(reply.body["name"], "new", "{}", reply.body);
        }
    }
    let log = cluster.log(VICTIM);
    assert!(log.contains("cannot prove"), "it does not say so:\n{log}");
    // It counts again.
    cluster.kill(0);
    let link = link(0);
    cluster.wait_for("a write with the filled node in the majority", || {
        let ask = Ask::new("PATCH", &link).json(&json!({"name": "after"})).key("after");
        ask.send(cluster.port(2)).ok().filter(|reply| reply.status == 200)
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("an entry can be read");
        let to = to.join(entry.file_name());
        let kind = entry.file_type().expect("it has a kind");
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            fs::copy(entry.path(), to).expect("a file can be copied");
        }
    }
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).expect("a folder can be removed");
}

fn put_back(sandbox: &Path, older: &Path, folder: &str) {
    remove(&sandbox.join(folder));
    copy(&older.join(folder), &sandbox.join(folder));
}

#[test]
fn a_log_that_was_deleted() {
    nothing_is_lost_after(|sandbox, _| remove(&sandbox.join("log")));
}

#[test]
fn a_log_and_a_state_that_were_deleted() {
    nothing_is_lost_after(|sandbox, _| {
        remove(&sandbox.join("log"));
        remove(&sandbox.join("state"));
    });
}

#[test]
fn a_state_that_was_deleted() {
    nothing_is_lost_after(|sandbox, _| remove(&sandbox.join("state")));
}

#[test]
fn a_sandbox_set_back_to_a_copy() {
    nothing_is_lost_after(|sandbox, older| {
        remove(sandbox);
        copy(older, sandbox);
    });
}

#[test]
fn a_copy_over_the_files_of_the_sandbox() {
    nothing_is_lost_after(|sandbox, older| copy(older, sandbox));
}

#[test]
fn an_older_log_under_a_newer_state() {
    nothing_is_lost_after(|sandbox, older| put_back(sandbox, older, "log"));
}

#[test]
fn a_log_without_its_newest_segments() {
    nothing_is_lost_after(|sandbox, _| {
        let log = sandbox.join("log");
        for file in fs::read_dir(&log).expect("the log can be read") {
            fs::remove_file(file.expect("an entry can be read").path()).expect("it can be removed");
        }
    });
}

// State stores that rot: the same way back as for a log.

/// Every file of the state store that has something in it, but what the store does not read.
fn state_files(sandbox: &Path) -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                below(&path, found);
            } else if fs::metadata(&path).is_ok_and(|known| known.len() > 0) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(&sandbox.join("state"), &mut found);
    found.retain(|path| path.components().any(|part| part.as_os_str() == "tables"));
    assert!(!found.is_empty(), "the store has files");
    found
}

/// One after the other has its state store harmed while it is stopped, and comes back by itself.
fn stores_heal_after(harm: fn(&Path)) {
    let mut cluster = Cluster::started(3);
    for number in 0..DOCUMENTS {
        let body = json!({"documentSelfLink": format!("kept-{number}"), "name": "new"});
        let made = cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body));
        assert_eq!(made.status, 200, "{}", made.body);
    }
    for victim in [1, 2] {
        assert!(cluster.stop(victim).success());
        state_files(&cluster.member(victim).sandbox).iter().for_each(|file| harm(file));
        cluster.start(victim);
        cluster.wait_until_whole();
        assert!(cluster.log(victim).contains("cannot prove"), "{}", cluster.log(victim));
    }
    // The two that were filled are a majority.
    cluster.kill(0);
    for number in 0..DOCUMENTS {
        let link = link(number);
        let reply = cluster.wait_for("a document", || {
            Ask::get(&link).send(cluster.port(1)).ok().filter(|reply| reply.status == 200)
        });
        assert_eq!(reply.body["name"], "new");
    }
}

#[test]
fn flipped_bits_in_two_state_stores() {
    stores_heal_after(|file| {
        let mut bytes = fs::read(file).expect("it can be read");
        (0..bytes.len()).step_by(97).for_each(|at| bytes[at] ^= 0x10);
        fs::write(file, bytes).expect("it can be written");
    });
}

#[test]
fn cut_files_in_two_state_stores() {
    stores_heal_after(|file| {
        let bytes = fs::read(file).expect("it can be read");
        fs::write(file, &bytes[..bytes.len() / 2]).expect("it can be written");
    });
}

#[test]
fn missing_files_in_two_state_stores() {
    stores_heal_after(|file| fs::remove_file(file).expect("it can be removed"));
}

#[test]
fn a_majority_that_forgot_says_who_and_what_can_be_done() {
    let mut cluster = Cluster::started(3);
    (0..3).for_each(|which| assert!(cluster.stop(which).success() || which > 0));
    for which in [1, 2] {
        remove(&cluster.member(which).sandbox.join("log"));
    }
    (0..3).for_each(|which| cluster.start(which));
    for which in 0..3 {
        cluster.wait_for("each node to say who forgot", || {
            let log = cluster.log(which);
            let says = |word: &str| log.contains(word);
            (says("n2 (its log is missing)") && says("n3 (its log is missing)")).then_some(())
        });
        assert!(cluster.log(which).contains("--trust-sandbox"), "{}", cluster.log(which));
    }
    assert_ne!(cluster.get(0, "/core/examples").status, 200, "nothing is served");
    // A person decides that one of them goes on with what is left.
    cluster.kill(1);
    let sandbox = cluster.member(1).sandbox.clone();
    remove(&sandbox.join("log"));
    remove(&sandbox.join("state"));
    for part in ["state", "node.json"] {
        fs::rename(sandbox.join("damaged-1").join(part), sandbox.join(part)).expect("it is there");
    }
    cluster.start_with(1, &["--trust-sandbox", "yes"]);
    cluster.wait_until_whole();
}

/// A node that begins alone, and two that join it; all are stopped. Gives a copy of the first one's
/// sandbox from before the others joined.
fn grown_from_one() -> (Cluster, [Cluster; 2], PathBuf) {
    let mut first = Cluster::started(1);
    let made = first.ask(0, &Ask::new("POST", "/core/examples").json(&json!({"name": "old"})));
    assert_eq!(made.status, 200, "{}", made.body);
    assert!(first.stop(0).success());
    let older = first.folder().join("older");
    copy(&first.member(0).sandbox, &older);
    first.start(0);
    first.wait_until_whole();
    let mut others = ["p", "q"].map(|id| first.another_called(id));
    for other in &others {
        let join = json!({"kind": "JoinPeerRequest", "memberGroupReference": uri(first.port(0))});
        let reply = other.ask(0, &Ask::new("POST", "/core/node-groups/default").json(&join));
        assert_eq!(reply.status, 200, "{}", reply.body);
        first.let_in(0, &other.member(0).id);
    }
    wait_for_all_three(&first);
    // It is restarted once, so that its log of today is not that of the copy.
    assert!(first.stop(0).success());
    first.start(0);
    wait_for_all_three(&first);
    assert!(first.stop(0).success());
    others.iter_mut().for_each(|other| assert!(other.stop(0).success()));
    (first, others, older)
}

fn wait_for_all_three(cluster: &Cluster) {
    cluster.wait_for("three nodes to be there", || {
        let group = Ask::get("/core/node-groups/default").send(cluster.port(0)).ok()?;
        let owned =
            group.body["partitionOwners"].as_array()?.iter().all(serde_json::Value::is_string);
        (owned && available(&group.body) == 3).then_some(())
    });
}

#[test]
fn a_cluster_that_grew_from_one_node_takes_no_older_log_and_state_there() {
    let (mut first, mut others, older) = grown_from_one();
    let sandbox = first.member(0).sandbox.clone();
    put_back(&sandbox, &older, "log");
    put_back(&sandbox, &older, "state");
    first.start(0);
    first.wait_for("it to put aside what it has", || {
        first.log(0).contains("what is left was put aside").then_some(())
    });
    others.iter_mut().for_each(|other| other.start(0));
    wait_for_all_three(&first);
}
