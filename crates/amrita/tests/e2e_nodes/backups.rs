//! Backups of a cluster that works and loses nodes meanwhile, and new clusters that are made of
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Ended};
use crate::http::Ask;
use crate::programs::{amrita, example, instance, register, wait_until_served};

/// How many clients write at a time.
const WRITERS: usize = 4;

/// Writes one document after the other, each when the one before is acknowledged. So whatever is in
/// a backup of one moment is a beginning of this, without a gap.
struct Writers {
    acknowledged: Vec<AtomicU64>,
    is_over: AtomicBool,
}

fn link(writer: usize, number: u64) -> String {
    format!("/core/examples/w{writer}-{number}")
}

impl Writers {
    fn new() -> Self {
        Self {
            acknowledged: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
            is_over: AtomicBool::new(false),
        }
    }

    fn write(&self, writer: usize, ports: &[u16]) {
        let (mut number, mut which) = (1, writer);
        while !self.is_over.load(Ordering::Relaxed) {
            let key = format!("w{writer}-{number}");
            let body = json!({ "documentSelfLink": key, "name": key, "counter": number });
            let ask = Ask::new("POST", "/core/examples").json(&body).key(&key);
            let answer = ask.within(Duration::from_secs(3)).send(ports[which % ports.len()]);
            match answer {
                Ok(reply) if reply.is_success() => {
                    self.acknowledged[writer].store(number, Ordering::SeqCst);
                    number += 1;
                }
                _ => which += 1,
            }
        }
    }

    fn so_far(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

fn backup(cluster: &Cluster, to: &Path) -> Ended {
    amrita(cluster, &["backup", "--to", &to.display().to_string()])
}

fn verify(dir: &Path) -> Ended {
    let dir = dir.display().to_string();
    Cluster::run_to_its_end(&["backup", "verify", &dir].map(str::to_owned))
}

fn made(cluster: &Cluster, name: &str) -> PathBuf {
    let to = cluster.folder().join(name);
    let ended = backup(cluster, &to);
    assert!(ended.status.success(), "{}", ended.said);
    to
}

/// How many documents of each writer there are, without a gap.
fn numbers(cluster: &Cluster) -> Vec<u64> {
    let reply = cluster.get(0, "/core/examples?$top=100000");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let links = reply.body["documentLinks"].as_array().expect("there are links");
    let links: std::collections::BTreeSet<&str> =
        links.iter().filter_map(Value::as_str).filter(|it| it.contains("/w")).collect();
    let counts: Vec<u64> = (0..WRITERS)
        .map(|writer| {
            (1..).find(|number| !links.contains(&*link(writer, *number))).expect("they end") - 1
        })
        .collect();
    let all: u64 = counts.iter().sum();
    assert_eq!(
        u64::try_from(links.len()).ok(),
        Some(all),
        "there are gaps: after {counts:?} come others"
    );
    counts
}

/// A cluster of one that is made of a backup.
fn restored(cluster: &Cluster, dir: &Path) -> Cluster {
    cluster.another_with(&["--restore", &dir.display().to_string()])
}

/// Makes backups while clients write; before each it is noted what was acknowledged.
fn under_load(
    cluster: &mut Cluster,
    rounds: usize,
    make: impl Fn(&mut Cluster, usize, &Path),
) -> Vec<(PathBuf, Vec<u64>)> {
    let (writers, ports) = (Writers::new(), cluster.ports());
    let mut dirs = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (writers, ports) = (&writers, &ports);
            scope.spawn(move || writers.write(writer, ports));
        }
        // Whatever fails in here, the writers end.
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                let least = writers.so_far().into_iter().max().unwrap_or(0);
                let enough = || writers.so_far().iter().all(|count| *count > least);
                cluster.wait_for("more writes", || enough().then_some(()));
                let (to, before) =
                    (cluster.folder().join(format!("backup-{round}")), writers.so_far());
                make(cluster, round, &to);
                dirs.push((to, before));
            }
        }));
        writers.is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = work {
            std::panic::resume_unwind(panic);
        }
    });
    dirs
}

/// Each of these is sound, and becomes a cluster that has everything and no gap.
fn all_become_clusters(cluster: &Cluster, dirs: Vec<(PathBuf, Vec<u64>)>) {
    for (dir, before) in dirs {
        let sound = verify(&dir);
        assert!(sound.status.success() && sound.said.contains("is whole"), "{}", sound.said);
        let other = restored(cluster, &dir);
        let there = numbers(&other);
        let has_all = there.iter().zip(&before).all(|(there, before)| there >= before);
        assert!(has_all, "{there:?} of {before:?}");
    }
}

#[test]
fn a_backup_under_load_is_of_one_moment_and_has_what_was_acknowledged() {
    let mut cluster = Cluster::started(3);
    let dirs = under_load(&mut cluster, 6, |cluster, _, to| {
        let ended = backup(cluster, to);
        assert!(ended.status.success(), "{}", ended.said);
    });
    all_become_clusters(&cluster, dirs);
}

#[test]
fn a_backup_is_made_although_a_node_dies_in_the_middle_of_it() {
    let mut cluster = Cluster::started(3);
    let dirs = under_load(&mut cluster, 6, |cluster, round, to| {
        let addresses: Vec<String> = cluster.ports().into_iter().map(crate::cluster::uri).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_amrita"));
        command.arg("backup").arg("--to").arg(to).args(["--address", &addresses.join(",")]);
        let nobody = std::process::Stdio::null();
        let child = command.stdout(nobody).stderr(std::process::Stdio::piped()).spawn();
        let child = child.expect("the program can be started");
        // Each time at another point: while the logs are held, or while pages are read.
        let round_millis = u64::try_from(round).expect("a few") * 13;
        std::thread::sleep(Duration::from_millis(5 + round_millis));
        cluster.kill(round % 3);
        let output = child.wait_with_output().expect("it can be awaited");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        cluster.start(round % 3);
        cluster.wait_until_whole();
    });
    all_become_clusters(&cluster, dirs);
}

#[test]
fn what_was_written_before_goes_on_in_the_new_cluster() {
    let cluster = Cluster::started(3);
    let keyed = || {
        let body = json!({ "documentSelfLink": "one", "name": "first", "counter": 1 });
        Ask::new("POST", "/core/examples").json(&body).key("the-key")
    };
    let first = cluster.ask(0, &keyed());
    assert!(first.is_success(), "{}", first.body);
    for counter in 2..5 {
        let patch = Ask::new("PATCH", "/core/examples/one").json(&json!({ "counter": counter }));
        assert_eq!(cluster.ask(1, &patch).status, 200);
    }
    let known = cluster.get(0, "/core/examples/one");
    let dir = made(&cluster, "backup");
    let after = Ask::new("PATCH", "/core/examples/one").json(&json!({ "counter": 99 }));
    assert_eq!(cluster.ask(1, &after).status, 200);
    let other = restored(&cluster, &dir);
    let there = other.get(0, "/core/examples/one");
    assert_eq!((&there.body["counter"], there.version()), (&json!(4), 3), "{}", there.body);
    assert_eq!(there.header("etag"), known.header("etag"));
    let old = other.get(0, "/core/examples/one?documentVersion=1");
    assert_eq!(old.body["counter"], 2, "{}", old.body);
    let again = other.ask(0, &keyed());
    assert_eq!((again.status, again.version()), (first.status, 0), "{}", again.body);
    assert_eq!(other.get(0, "/core/examples/one").version(), 3, "it was no second write");
    // Nobody mistakes one for the other.
    let name = |cluster: &Cluster| cluster.get(0, "/core/management").body["clusterId"].clone();
    assert_ne!(name(&cluster), name(&other));
    // And it grows.
    let joiner = cluster.another_called("j1");
    let body = json!({
        "kind": "com:vmware:xenon:services:common:NodeGroupService:JoinPeerRequest",
        "memberGroupReference": crate::cluster::uri(other.port(0)),
    });
    let joined = joiner.ask(0, &Ask::new("POST", "/core/node-groups/default").json(&body));
    assert_eq!(joined.status, 200, "{}", joined.body);
    other.let_in(0, "j1");
    joiner.wait_for("the other node to be filled", || {
        let group = Ask::get("/core/node-groups/default").send(other.port(0)).ok()?;
        (crate::cluster::available(&group.body) == 2).then_some(())
    });
    let there = joiner.get(0, "/core/examples/one?consistency=local");
    assert_eq!(there.body["counter"], 4, "{}", there.body);
}

#[test]
fn a_task_goes_on_in_the_new_cluster_and_does_nothing_twice() {
    const USERS: u64 = 150;
    let cluster = Cluster::started(3);
    let body = json!({ "documentSelfLink": "boot", "userCount": USERS, "pauseMillis": 10 });
    let begun = cluster.ask(0, &Ask::new("POST", "/core/bootstrap-tasks").json(&body));
    assert!(begun.is_success(), "{}", begun.body);
    let made_so_far = |cluster: &Cluster| {
        let reply = Ask::get("/core/bootstrap-tasks/boot").send(cluster.port(0)).ok()?;
        reply.body["madeCount"].as_u64()
    };
    for round in 0..3 {
        let enough = (round + 1) * 20;
        cluster.wait_for("some steps", || (made_so_far(&cluster)? >= enough).then_some(()));
        let dir = made(&cluster, &format!("backup-{round}"));
        let other = restored(&cluster, &dir);
        other.wait_for("the task to end", || {
            let reply = other.get(0, "/core/bootstrap-tasks/boot");
            assert_ne!(reply.body["taskInfo"]["stage"], "FAILED", "{}", reply.body);
            (reply.body["taskInfo"]["stage"] == "FINISHED").then_some(())
        });
        let counter = other.get(0, "/core/counters/boot");
        assert_eq!(counter.body["count"], USERS, "{}", counter.body);
    }
}

#[test]
fn immortals_go_on_in_the_new_cluster_and_handle_each_message_once() {
    let cluster = Cluster::started(3);
    register(&cluster, "server", &json!({}));
    register(&cluster, "client", &json!({}));
    let mut running = Vec::new();
    for which in 0..2 {
        running.push(example(&cluster, which, "hello-server", "server"));
        running.push(example(&cluster, which, "hello-numbers", "client"));
    }
    wait_until_served(&cluster, 0, "server", 1);
    let received = |cluster: &Cluster| {
        let state = instance(cluster, 0, "server")?;
        state["senders"][0]["received"].as_u64()
    };
    for round in 0..3 {
        if round == 1 {
            let taken = amrita(&cluster, &["immortal", "checkpoint", "server"]);
            assert!(taken.status.success(), "{}", taken.said);
        }
        let before = received(&cluster).unwrap_or(0);
        cluster.wait_for("messages", || (received(&cluster)? > before + 10).then_some(()));
        let before = received(&cluster).expect("it is registered");
        let dir = made(&cluster, &format!("backup-{round}"));
        let other = restored(&cluster, &dir);
        let mut server = example(&other, 0, "hello-server", "server");
        let client = example(&other, 0, "hello-numbers", "client");
        wait_until_served(&other, 0, "server", 0);
        wait_until_served(&other, 0, "client", 0);
        let then = received(&other).expect("it is registered");
        assert!(then >= before, "{then} of {before}");
        other.wait_for("more messages", || (received(&other)? > then + 20).then_some(()));
        let handled: Vec<u64> = server.said().iter().filter_map(|line| number(line)).collect();
        let in_order = handled.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(in_order && handled.len() > 20, "{handled:?}");
        let state = instance(&other, 0, "client").expect("it is registered");
        assert!(state["outputs"][0]["said"].as_u64() >= Some(then), "{state}");
        drop(client);
    }
}

fn number(line: &str) -> Option<u64> {
    let (_, message) = line.split_once(" client: Number ")?;
    message.trim_end_matches('!').parse().ok()
}

#[test]
fn a_backup_that_is_not_as_it_was_written_is_refused_by_name() {
    let cluster = Cluster::started(1);
    for number in 0..20 {
        let body = json!({ "name": format!("n{number}") });
        assert!(cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).is_success());
    }
    let dir = made(&cluster, "good");
    let second = made(&cluster, "second");
    let whole = verify(&dir);
    assert!(whole.status.success() && whole.said.contains("20 documents"), "{}", whole.said);
    assert!(whole.said.contains("partition 6"), "{}", whole.said);
    let harm = |name: &str, harm: &dyn Fn(&Path)| {
        let copy = cluster.folder().join(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        harm(&copy);
        copy
    };
    let change = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    };
    let flipped = harm("flipped", &|dir| {
        change(&dir.join("group-1"), &|bytes| {
            let at = bytes.len() - 30;
            bytes[at] ^= 4;
        });
    });
    verify(&flipped).refused_with(&["group-1", "partition 1"]);
    let cut = harm("cut", &|dir| {
        change(&dir.join("group-2"), &|bytes| bytes.truncate(bytes.len() - 9));
    });
    verify(&cut).refused_with(&["group-2", "it was cut"]);
    let gone = harm("gone", &|dir| fs::remove_file(dir.join("group-3")).unwrap());
    verify(&gone).refused_with(&["group-3", "the file is missing"]);
    let short = harm("short", &|dir| fs::remove_file(dir.join("manifest.json")).unwrap());
    verify(&short).refused_with(&["cut short"]);
    let mixed = harm("mixed", &|copy| {
        fs::copy(second.join("group-4"), copy.join("group-4")).unwrap();
    });
    verify(&mixed).refused_with(&["group-4", "another backup"]);
    let later = harm("later", &|dir| {
        change(&dir.join("manifest.json"), &|bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("\"format\": 1", "\"format\": 7").into_bytes();
        });
    });
    verify(&later).refused_with(&["manifest.json"]);
    // None of them becomes a cluster, and the sandbox can be used for a good one then.
    let sandbox = cluster.folder().join("new");
    let port = crate::cluster::free_ports(1)[0];
    let mut start = crate::cluster::node_arguments("r1", port, &sandbox);
    start.extend(["--restore".to_owned(), flipped.display().to_string()]);
    Cluster::run_to_its_end(&start).refused_with(&["group-1"]);
    let other = restored(&cluster, &dir);
    let again = other.member(0).sandbox.clone();
    let mut start = crate::cluster::node_arguments("m1", port, &again);
    start.extend(["--restore".to_owned(), dir.display().to_string()]);
    drop(other);
    // It is gone with its cluster; a folder with anything in it is refused.
    fs::create_dir_all(again.join("log")).unwrap();
    Cluster::run_to_its_end(&start).refused_with(&["sandbox"]);
    backup(&cluster, &dir).refused_with(&["has a backup already"]);
    backup(&cluster, cluster.folder()).refused_with(&["has something else"]);
    assert!(backup(&cluster, &short).status.success(), "what was cut short is begun anew");
    assert!(verify(&short).status.success());
}

#[test]
fn two_clusters_of_one_backup_have_two_names_and_refuse_each_other() {
    let cluster = Cluster::started(1);
    let body = json!({ "documentSelfLink": "/core/examples/kept", "name": "kept" });
    assert!(cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).is_success());
    let dir = made(&cluster, "backup");
    let (one, other) = (restored(&cluster, &dir), restored(&cluster, &dir));
    let name = |of: &Cluster| of.get(0, "/core/management").body["clusterId"].clone();
    let names = [name(&cluster), name(&one), name(&other)];
    assert!(names.iter().all(Value::is_string), "{names:?}");
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
    // A node of one of them dials the other.
    let mut third = cluster.one_that_asks("q1");
    let uris = [&third, &one, &other].map(|of| crate::cluster::uri(of.port(0))).join(",");
    third.kill(0);
    third.start_with(0, &["--peer-nodes", &uris]);
    let id = "q1";
    let admitted = cluster.wait_for("it to ask one of them", || {
        [&one, &other].into_iter().position(|of| {
            let group = Ask::get("/core/node-groups/default").send(of.port(0));
            group.is_ok_and(|group| group.body["asking"][0]["id"] == id)
        })
    });
    [&one, &other][admitted].let_in(0, id);
    cluster.wait_for("it to be refused by the other one", || {
        third.log(0).contains("belongs to another cluster").then_some(())
    });
    // A node that has just come in may still wait for an owner.
    for of in [&one, &other, &third] {
        let read = || (of.get(0, "/core/examples/kept").status == 200).then_some(());
        of.wait_for("the document", read);
    }
    let nodes = [&one, &other].map(|of| {
        of.get(0, "/core/node-groups/default").body["nodes"].as_object().map_or(0, |all| all.len())
    });
    assert_eq!(nodes.iter().sum::<usize>(), 3, "{nodes:?}");
}

#[test]
fn a_restore_that_was_killed_is_done_again() {
    let cluster = Cluster::started(1);
    let post = |cluster: &Cluster, name: &str| {
        let body = json!({ "documentSelfLink": name, "name": name });
        cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).status
    };
    assert_eq!(post(&cluster, "before"), 200);
    let dir = made(&cluster, "good").display().to_string();
    let mut other = cluster.another_with(&["--restore", &dir]);
    assert_eq!(post(&other, "after"), 200);
    other.kill(0);
    // As a kill leaves it: there are log and state, and the sandbox has not begun.
    let sandbox = other.member(0).sandbox.clone();
    let identity = sandbox.join("node.json");
    let text = fs::read_to_string(&identity).unwrap();
    let mut known: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(known["hasBegun"], true);
    known["hasBegun"] = json!(false);
    fs::write(&identity, known.to_string()).unwrap();
    fs::remove_dir_all(sandbox.join("state")).unwrap();
    other.start_with(0, &["--restore", &dir]);
    other.wait_until_whole();
    assert_eq!(other.get(0, "/core/examples/before").status, 200);
    assert_eq!(other.get(0, "/core/examples/after").status, 404, "it was done again");
    // A backup that is not sound leaves nothing behind, and one that has begun is let be.
    other.kill(0);
    let port = crate::cluster::free_ports(1)[0];
    let mut start = crate::cluster::node_arguments("fresh", port, &cluster.folder().join("fresh"));
    let nothing = cluster.folder().join("nothing").display().to_string();
    start.extend(["--restore".to_owned(), nothing]);
    assert!(!Cluster::run_to_its_end(&start).status.success());
    assert!(!cluster.folder().join("fresh/log").exists());
    let mut start = crate::cluster::node_arguments(&other.member(0).id, port, &sandbox);
    start.extend(["--restore".to_owned(), dir]);
    Cluster::run_to_its_end(&start).refused_with(&["not empty", "without --restore"]);
    other.start(0);
    other.wait_until_whole();
    assert_eq!(other.get(0, "/core/examples/before").status, 200);
}

fn recover(from: &[&Path], to: &Path, yes: bool) -> Ended {
    let mut words = vec!["recover".to_owned()];
    for one in from {
        words.extend(["--from".to_owned(), one.display().to_string()]);
    }
    words.extend(["--to".to_owned(), to.display().to_string()]);
    if yes {
        words.push("--yes".to_owned());
    }
    Cluster::run_to_its_end(&words)
}

#[test]
fn of_what_is_left_of_a_cluster_another_one_is_made() {
    let mut cluster = Cluster::started(3);
    register(&cluster, "server", &json!({}));
    let post = |cluster: &Cluster, which: usize, name: &str| {
        let body = json!({ "documentSelfLink": name, "name": name });
        cluster.ask(which, &Ask::new("POST", "/core/examples").json(&body)).status
    };
    for number in 0..30 {
        assert_eq!(post(&cluster, number % 3, &format!("all-{number}")), 200);
    }
    cluster.wait_for("n3 to have it all", || {
        let there = cluster.get(2, "/core/examples/all-29?consistency=local");
        (there.status == 200).then_some(())
    });
    cluster.kill(2);
    cluster.wait_for("the others to serve", || (post(&cluster, 0, "try") < 500).then_some(()));
    for number in 0..10 {
        assert_eq!(post(&cluster, 0, &format!("two-{number}")), 200);
    }
    let sandboxes: Vec<PathBuf> =
        (0..3).map(|which| cluster.member(which).sandbox.clone()).collect();
    let to = cluster.folder().join("left");
    recover(&[&sandboxes[0]], &to, false).refused_with(&["in use"]);
    cluster.kill(0);
    cluster.kill(1);
    let before = contents_of(&sandboxes[0]);

    // One of three: what it has is there, and it is said that more may have been.
    let told = recover(&[&sandboxes[2]], &to, false);
    assert!(told.status.success() && told.said.contains("Nothing was done"), "{}", told.said);
    assert!(told.said.contains("1 of 3") && told.said.contains("cannot be"), "{}", told.said);
    assert!(!to.exists());
    let done = recover(&[&sandboxes[2]], &to, true);
    assert!(done.status.success(), "{}", done.said);
    let other = restored(&cluster, &to);
    for number in 0..30 {
        assert_eq!(other.get(0, &format!("/core/examples/all-{number}")).status, 200);
    }
    assert_eq!(post(&other, 0, "new"), 200);
    assert!(instance(&other, 0, "server").is_some());
    drop(other);

    // Two that differ: the furthest of each group has everything.
    let to = cluster.folder().join("both");
    let done = recover(&[&sandboxes[2], &sandboxes[0]], &to, true);
    assert!(done.status.success(), "{}", done.said);
    assert!(done.said.contains("nothing that was acknowledged"), "{}", done.said);
    let other = restored(&cluster, &to);
    for number in 0..10 {
        assert_eq!(other.get(0, &format!("/core/examples/two-{number}")).status, 200);
    }
    assert_eq!(contents_of(&sandboxes[0]), before, "the sandboxes were only read");
    assert!(!cluster.folder().join("both.work").exists());
    let twice = cluster.folder().join("twice");
    recover(&[&sandboxes[0], &sandboxes[0]], &twice, true).refused_with(&["n1"]);
    recover(&[cluster.folder()], &twice, true).refused_with(&["no sandbox"]);
}

#[test]
fn a_disk_that_was_set_back_does_not_count_as_one_that_has_everything() {
    let mut cluster = Cluster::started(3);
    let post = |cluster: &Cluster, name: &str| {
        let body = json!({ "documentSelfLink": name, "name": name });
        cluster.ask(1, &Ask::new("POST", "/core/examples").json(&body)).status
    };
    assert_eq!(post(&cluster, "early"), 200);
    cluster.stop(0);
    let sandbox = cluster.member(0).sandbox.clone();
    let former = contents_of(&sandbox);
    cluster.start(0);
    cluster.wait_until_whole();
    assert_eq!(post(&cluster, "late"), 200);
    cluster.wait_for("n1 to have it", || {
        (cluster.get(0, "/core/examples/late?consistency=local").status == 200).then_some(())
    });
    (0..3).for_each(|which| cluster.kill(which));
    let others: Vec<PathBuf> = (1..3).map(|which| cluster.member(which).sandbox.clone()).collect();
    let to = cluster.folder().join("left");
    let told = recover(&[&sandbox, &others[0]], &to, false);
    assert!(told.said.contains("nothing that was acknowledged"), "{}", told.said);
    // The files stay the same ones, as on a disk that is set back to a snapshot.
    for (path, _) in contents_of(&sandbox) {
        if !former.iter().any(|(known, _)| *known == path) {
            fs::remove_file(path).unwrap();
        }
    }
    former.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let told = recover(&[&sandbox, &others[0]], &to, false);
    assert!(told.status.success(), "{}", told.said);
    assert!(!told.said.contains("nothing that was acknowledged"), "{}", told.said);
    assert!(
        told.said.contains("'n1' does not count") && told.said.contains("1 of 3"),
        "{}",
        told.said
    );
    let told = recover(&[&sandbox, &others[0], &others[1]], &to, false);
    assert!(told.said.contains("nothing that was acknowledged"), "{}", told.said);
}

#[test]
fn what_is_left_of_an_encrypted_cluster_is_read_with_its_key() {
    let cluster = Cluster::started(1);
    let key = cluster.folder().join("key").display().to_string();
    fs::write(&key, "0123456789012345678901234567890123456789").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let flags = ["--encryption-key-file", &key];
    let mut sealed = cluster.another_with(&flags);
    let body = json!({ "documentSelfLink": "one", "name": "one" });
    assert!(sealed.ask(0, &Ask::new("POST", "/core/examples").json(&body)).is_success());
    sealed.kill(0);
    let (sandbox, to) = (sealed.member(0).sandbox.clone(), cluster.folder().join("left"));
    recover(&[&sandbox], &to, true).refused_with(&["is encrypted", "--encryption-key-file"]);
    let [sandbox, dir] = [&sandbox, &to].map(|path| path.display().to_string());
    let words = ["recover", "--from", &sandbox, "--to", &dir, "--yes", flags[0], flags[1]];
    let done = Cluster::run_to_its_end(&words.map(str::to_owned));
    assert!(done.status.success(), "{}", done.said);
    // What it was encrypted with has no say in what the new sandbox is.
    let other = cluster.another_with(&["--restore", &dir, flags[0], flags[1]]);
    assert_eq!(other.get(0, "/core/examples/one").status, 200);
    assert!(other.member(0).sandbox.join("encryption.json").exists());
    drop(other);
    assert_eq!(restored(&cluster, &to).get(0, "/core/examples/one").status, 200);
}

/// Names and contents of all files of a folder.
fn contents_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("it can be read").flatten() {
            match entry.file_type().expect("it is there") {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => {
                    found.push((entry.path(), fs::read(entry.path()).expect("it can be read")));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}
