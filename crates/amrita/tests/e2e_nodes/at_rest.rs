//! Encryption at rest: who has the files of a node has nothing of what was written.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, node_arguments};
use crate::http::{Ask, Reply};
use crate::native::Native;
use crate::programs::{register, wait_until_served};

/// What is looked for in all files. Compression would hide a repetition, so each one is different.
const PLANTED: &str = "planted";

/// How many documents are made at a time.
const DOCUMENTS: usize = 60;

fn key_file(folder: &Path, name: &str) -> String {
    let file = folder.join(name);
    if !file.exists() {
        let mut options = fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&file);
        let key = format!("{name} {:032x}\n", std::process::id());
        opened.expect("a file can be made").write_all(key.as_bytes()).expect("it can be written");
    }
    file.display().to_string()
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        match entry.file_type().expect("it has a kind") {
            kind if kind.is_dir() => found.extend(files_under(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// Segments are mostly zeros, which need no look at each byte.
fn is_in(content: &[u8]) -> bool {
    const CHUNK: usize = 4096;
    let begins = (0..content.len()).step_by(CHUNK);
    let mut not_empty = begins.filter(|begin| {
        let chunk = &content[*begin..(*begin + CHUNK).min(content.len())];
        chunk != &[0; CHUNK][..chunk.len()]
    });
    not_empty.any(|begin| {
        let end = (begin + CHUNK + PLANTED.len() - 1).min(content.len());
        let begin = begin.saturating_sub(PLANTED.len() - 1);
        content[begin..end].windows(PLANTED.len()).any(|part| part == PLANTED.as_bytes())
    })
}

/// The files of all sandboxes with something planted in them, or in their names.
fn with_planted(cluster: &Cluster) -> Vec<PathBuf> {
    let sandboxes = (0..cluster.len()).map(|which| &cluster.member(which).sandbox);
    let files: Vec<PathBuf> = sandboxes.flat_map(|sandbox| files_under(sandbox)).collect();
    assert!(files.len() > 10, "only {} files", files.len());
    let has = |file: &PathBuf| {
        // A file of the store may go meanwhile.
        let content = fs::read(file).unwrap_or_default();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.contains(PLANTED) || is_in(&content)
    };
    files.into_iter().filter(has).collect()
}

fn link(round: usize, number: usize) -> String {
    format!("/core/examples/{PLANTED}-link-{round}-{number}")
}

/// The answer of a node; while an owner is on its way, it is asked again. Each write here may be
/// done twice.
fn served(cluster: &Cluster, which: usize, ask: &Ask<'_>) -> Reply {
    cluster.wait_for("an owner", || {
        let reply = cluster.ask(which, ask);
        if reply.status == 503 {
            return None;
        }
        assert_eq!(reply.status, 200, "{}", reply.body);
        Some(reply)
    })
}

/// Documents with something planted in links, fields, keys of maps, keys of retries, versions.
fn plant(cluster: &Cluster, round: usize) {
    for number in 0..DOCUMENTS {
        let which = number % cluster.len();
        let body = json!({
            "documentSelfLink": format!("{PLANTED}-link-{round}-{number}"),
            "name": format!("{PLANTED}-name-{number}"),
            "counter": number,
            "keyValues": {
                format!("{PLANTED}-field-{number}"): format!("{PLANTED}-value-{number}"),
            },
        });
        let key = format!("{PLANTED}-key-{round}-{number}");
        let post = Ask::new("POST", "/core/examples").json(&body).key(&key);
        served(cluster, which, &post);
        let long = format!("{PLANTED}-long-{number} ").repeat(if number == 7 { 5_000 } else { 30 });
        let link = link(round, number);
        let patch = Ask::new("PATCH", &link).json(&json!({ "name": long }));
        served(cluster, which, &patch);
    }
}

fn check(cluster: &Cluster, rounds: usize) {
    for round in 0..rounds {
        for number in 0..DOCUMENTS {
            let reply = served(cluster, number % cluster.len(), &Ask::get(&link(round, number)));
            let name = reply.body["name"].as_str().unwrap_or_default();
            assert!(name.starts_with(&format!("{PLANTED}-long-{number}")), "{name}");
        }
    }
}

/// Inputs with something planted, and a checkpoint.
fn send_impulses(cluster: &Cluster) -> std::thread::JoinHandle<Option<String>> {
    register(cluster, "server", &json!({ "replicas": ["n1"], "logTriggerBytes": 65_536 }));
    let mut program = Native::attach(&cluster.member(0).sandbox, "server", 0);
    program.state = format!("{PLANTED}-checkpoint").into_bytes();
    let served = std::thread::spawn(move || program.live(|_, _| true));
    wait_until_served(cluster, 0, "server", 0);
    for number in 0..40 {
        let payload = format!("{PLANTED}-impulse-{number} ").repeat(300);
        let impulse = json!({ "method": 1, "payload": payload });
        let sent =
            cluster.ask(0, &Ask::new("POST", "/core/immortals/server/impulses").json(&impulse));
        assert!(sent.is_success(), "{}", sent.body);
    }
    served
}

/// Queries, so that there is an index.
fn query(cluster: &Cluster) {
    let task = json!({ "taskInfo": { "isDirect": true }, "querySpec": { "query": { "term": {
        "propertyName": "name", "matchValue": format!("{PLANTED}-long-3*"), "matchType": "WILDCARD"
    }}}});
    let reply = cluster.ask(0, &Ask::new("POST", "/core/query-tasks").json(&task));
    assert!(reply.is_success(), "{}", reply.body);
}

fn live(cluster: &mut Cluster) {
    cluster.start_all();
    plant(cluster, 0);
    query(cluster);
    let served = send_impulses(cluster);
    // As it is in the middle, and as SIGKILL leaves it.
    let in_the_middle = with_planted(cluster);
    for which in 0..cluster.len() {
        cluster.kill(which);
    }
    served.join().expect("its node is gone");
    let killed = with_planted(cluster);
    cluster.start_all();
    check(cluster, 1);
    for round in 1..4 {
        plant(cluster, round);
    }
    query(cluster);
    for which in 0..cluster.len() {
        assert!(cluster.stop(which).success());
    }
    let stopped = with_planted(cluster);
    let is_encrypted = cluster.member(0).sandbox.join("encryption.json").exists();
    for (when, found) in [("running", in_the_middle), ("killed", killed), ("stopped", stopped)] {
        if is_encrypted {
            assert!(found.is_empty(), "{when}: {found:?}");
        } else {
            // Otherwise this test looks at the wrong place.
            let is_in = |folder: &str| {
                found.iter().any(|file| file.iter().any(|part| part.to_string_lossy() == folder))
            };
            assert!(is_in("log"), "{when}: {found:?}");
            // What was killed early may have all of it in the log.
            assert!(when != "stopped" || is_in("state"), "{when}: {found:?}");
        }
    }
}

#[test]
fn what_was_written_is_in_the_files_without_a_key_and_in_none_with_one() {
    let mut clear = Cluster::of(1);
    live(&mut clear);
    drop(clear);
    let mut cluster = Cluster::of(3);
    let key = key_file(cluster.folder(), "key-one");
    cluster.always(&["--encryption-key-file", &key]);
    live(&mut cluster);
    // Damage is damage as without encryption: it is noticed, put aside, and mended from the peers.
    let sandbox = cluster.member(1).sandbox.clone();
    crate::bad_days::flip_a_bit(&sandbox);
    cluster.start_all();
    assert!(cluster.log(1).contains("CORRUPT LOG"), "{}", cluster.end_of_log(1));
    check(&cluster, 4);
    assert!(sandbox.join("damaged-1/encryption.json").exists());
    assert!(with_planted(&cluster).is_empty());
    // The mended node has all of it, under its key.
    cluster.kill(0);
    cluster.wait_for("a read with the mended node in the majority", || {
        Ask::get(&link(3, 5)).send(cluster.port(1)).ok().filter(|reply| reply.status == 200)
    });
}

/// Every file of a folder, with what is in it.
fn content_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = files_under(folder)
        .into_iter()
        // Says who holds it at present.
        .filter(|file| !file.ends_with("lock"))
        .map(|file| (file.clone(), fs::read(&file).expect("it can be read")))
        .collect();
    files.sort();
    files
}

#[test]
fn a_wrong_or_missing_key_is_refused_and_nothing_is_touched() {
    let mut cluster = Cluster::of(1);
    let one = key_file(cluster.folder(), "key-one");
    let two = key_file(cluster.folder(), "key-two");
    cluster.start_all();
    plant(&cluster, 0);
    cluster.kill(0);
    let sandbox = cluster.member(0).sandbox.clone();
    let port = cluster.port(0);
    let refused = |flags: &[&str], words: &[&str]| {
        let before = content_of(&sandbox);
        let mut arguments = node_arguments("n1", port, &sandbox);
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Cluster::run_to_its_end(&arguments).refused_with(words);
        assert!(content_of(&sandbox) == before, "something was touched: {flags:?}");
    };
    let key = "--encryption-key-file";
    refused(&[key, &one], &["not encrypted", "--encryption-convert yes", "Nothing was touched"]);
    cluster.start_with(0, &[key, &one, "--encryption-convert", "yes"]);
    cluster.wait_until_whole();
    check(&cluster, 1);
    cluster.kill(0);
    assert!(with_planted(&cluster).is_empty(), "{:?}", with_planted(&cluster));
    refused(&[], &["is encrypted under the key", "no key was given", key]);
    refused(&[key, &two], &["is encrypted under the key", "--encryption-old-key-file"]);
    refused(&[key, "/nowhere"], &["/nowhere", "cannot be read", "make one"]);
    refused(&["--encryption-key-command", "exit 1"], &["exit 1", "has failed"]);
    let print = format!("cat {one}");
    refused(&[key, &one, "--encryption-key-command", &print], &["are both given"]);
    cluster.start_with(0, &["--encryption-key-command", &print]);
    cluster.wait_until_whole();
    check(&cluster, 1);
    cluster.kill(0);
    // And back.
    let back = ["--encryption-old-key-file", &one, "--encryption-convert", "yes"];
    cluster.start_with(0, &back);
    cluster.wait_until_whole();
    check(&cluster, 1);
    assert!(!with_planted(&cluster).is_empty());
}

/// Longer than the rotation of a small sandbox takes on a slow machine.
const ROTATED_WITHIN: Duration = Duration::from_secs(40);

#[test]
fn a_rotation_that_is_killed_at_any_moment_goes_on_and_nothing_is_lost() {
    let mut cluster = Cluster::of(1);
    let keys: Vec<String> =
        (0..5).map(|n| key_file(cluster.folder(), &format!("key-{n}"))).collect();
    cluster.start_with(0, &["--encryption-key-file", &keys[0]]);
    cluster.wait_until_whole();
    for round in 0..3 {
        plant(&cluster, round);
    }
    cluster.kill(0);
    let mut kills = 0;
    for (number, pair) in (0..).zip(keys.windows(2)) {
        let rotation = ["--encryption-key-file", &pair[1], "--encryption-old-key-file", &pair[0]];
        // Either it says that it has ended, or it was killed before it could say so, and the next
        // one finds nothing to do.
        let ends = |cluster: &Cluster| {
            let log = cluster.log(0);
            ["is needed no more", "already: leave out"]
                .map(|end| log.matches(end).count())
                .iter()
                .sum()
        };
        let before: usize = ends(&cluster);
        // Later and later, until one comes to its end: in small steps where a rotation is quick.
        let mut at = Duration::ZERO;
        while ends(&cluster) == before {
            cluster.start_with(0, &rotation);
            std::thread::sleep(at + Duration::from_millis(number));
            cluster.kill(0);
            kills += 1;
            at = (at + Duration::from_millis(6)).max(at.mul_f64(1.15));
            assert!(at < ROTATED_WITHIN, "{}", cluster.end_of_log(0));
        }
        cluster.start_with(0, &["--encryption-key-file", &pair[1]]);
        cluster.wait_until_whole();
        check(&cluster, 3);
        cluster.kill(0);
        assert!(with_planted(&cluster).is_empty());
    }
    assert!(kills > 12, "only {kills} kills");
    let mut arguments = node_arguments("n1", cluster.port(0), &cluster.member(0).sandbox);
    arguments.extend(["--encryption-key-file".to_owned(), keys[0].clone()]);
    Cluster::run_to_its_end(&arguments).refused_with(&["is encrypted under the key"]);
}
