//! Disks that somebody else fills: real file systems of a few megabytes, made and mounted by the
//! test. That needs root; without it these tests say so and pass.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Cluster;
use crate::http::Ask;

const DISK_MIB: usize = 192;

/// A file system in memory at the place of a sandbox; gone when the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder can be made");
        let size = format!("size={DISK_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("of-somebody-else")
    }

    /// Nothing more fits.
    fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file can be made");
        let piece = vec![1; 1 << 16];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the file is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A node that was just killed may hold it for a moment.
        for _ in 0..50 {
            let unmounted = Command::new("umount").arg(&self.0).status();
            if unmounted.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A cluster of three with a small disk for each node; `None` where that cannot be had.
fn on_small_disks(test: &str) -> Option<(Vec<SmallDisk>, Cluster)> {
    of_size(3, test)
}

fn of_size(size: usize, test: &str) -> Option<(Vec<SmallDisk>, Cluster)> {
    let mut cluster = Cluster::of(size);
    let mut disks = Vec::new();
    for which in 0..size {
        let Some(disk) = SmallDisk::at(&cluster.member(which).sandbox) else {
            #[expect(clippy::print_stderr, reason = "a person reads why nothing was tried")]
            {
                eprintln!("skipped {test}: only root may mount a file system");
            }
            return None;
        };
        disks.push(disk);
    }
    for which in 0..size {
        cluster.start_with(which, &["--free-space-min", "16"]);
    }
    cluster.wait_until_whole();
    Some((disks, cluster))
}

/// Whether that node says that it serves, and writes are taken.
fn is_ready(cluster: &Cluster, which: usize) -> Option<u16> {
    Ask::get("/readyz").send(cluster.port(which)).ok().map(|reply| reply.status)
}

fn put(cluster: &Cluster, which: usize, number: usize, bytes: usize) -> u16 {
    let body = json!({"documentSelfLink": format!("d-{number}"), "name": "n".repeat(bytes)});
    let ask = Ask::new("POST", "/core/examples").json(&body);
    cluster.ask(which, &ask).status
}

#[test]
fn full_disks_refuse_writes_and_take_them_again() {
    let Some((disks, mut cluster)) = on_small_disks("full_disks_refuse") else { return };
    assert_eq!(put(&cluster, 0, 1, 1_000), 200);
    disks.iter().for_each(SmallDisk::fill);
    let refused = cluster.wait_for("a refusal", || {
        let ask = Ask::new("PATCH", "/core/examples/d-1").json(&json!({"name": "x"}));
        let reply = ask.send(cluster.port(0)).ok()?;
        matches!(reply.status, 503 | 507).then_some(reply)
    });
    assert!(["STORAGE", "QUORUM_NOT_MET"].contains(&refused.code()), "{}", refused.body);
    // However many ask, nobody dies of it, and all go on reading.
    let began = Instant::now();
    let mut number = 100;
    while began.elapsed() < Duration::from_secs(4) {
        for which in 0..3 {
            number += 1;
            assert_ne!(put(&cluster, which, number, 200_000), 200, "there is no room for it");
            assert_eq!(cluster.get(which, "/core/examples/d-1").status, 200);
            assert_eq!(is_ready(&cluster, which), Some(503), "writes fail");
        }
    }
    disks.iter().for_each(SmallDisk::make_room);
    cluster.wait_for("writes to be taken again", || {
        let ask = Ask::new("PATCH", "/core/examples/d-1").json(&json!({"name": "y"}));
        ask.send(cluster.port(1)).ok().filter(|reply| reply.status == 200)
    });
    cluster.wait_until_whole();
    assert_eq!(cluster.get(2, "/core/examples/d-1").body["name"], "y");
    for which in 0..3 {
        cluster.wait_for("it to be ready", || {
            is_ready(&cluster, which).filter(|status| *status == 200)
        });
    }
    (0..3).for_each(|which| cluster.kill(which));
}

#[test]
fn a_node_alone_is_not_ready_while_its_disk_is_full() {
    let Some((disks, mut cluster)) = of_size(1, "a_node_alone_is_not_ready") else { return };
    assert_eq!((put(&cluster, 0, 1, 1_000), is_ready(&cluster, 0)), (200, Some(200)));
    disks[0].fill();
    cluster.wait_for("a refusal", || (put(&cluster, 0, 2, 1_000) == 503).then_some(()));
    cluster.wait_for("it to say so", || is_ready(&cluster, 0).filter(|status| *status == 503));
    disks[0].make_room();
    cluster.wait_for("it to be ready", || is_ready(&cluster, 0).filter(|status| *status == 200));
    assert_eq!(put(&cluster, 0, 3, 1_000), 200);
    cluster.kill(0);
}

#[test]
fn writes_that_fill_the_disks_end_no_node() {
    let Some((disks, mut cluster)) = on_small_disks("writes_that_fill") else { return };
    let mut refused = 0;
    for number in 0..1_500 {
        match put(&cluster, number % 3, number, 200_000) {
            200 => {}
            503 | 507 => refused += 1,
            other => panic!("write {number}: {other}"),
        }
        if refused > 100 {
            break;
        }
    }
    assert!(refused > 0, "{DISK_MIB} MiB take no 300 MB");
    for which in 0..3 {
        assert_eq!(cluster.get(which, "/core/examples/d-0").status, 200);
    }
    assert!(cluster.stop(1).success());
    (0..3).filter(|which| *which != 1).for_each(|which| cluster.kill(which));
    drop(disks);
}

#[test]
fn a_node_starts_on_a_full_disk_reads_and_takes_writes_when_there_is_room() {
    let Some((disks, mut cluster)) = on_small_disks("a_node_starts_on_a_full") else { return };
    assert_eq!(put(&cluster, 0, 1, 1_000), 200);
    (0..3).for_each(|which| cluster.kill(which));
    disks.iter().for_each(SmallDisk::fill);
    (0..3).for_each(|which| cluster.start_with(which, &["--free-space-min", "16"]));
    // It starts, and what it has can be read.
    let read = |cluster: &Cluster, which: usize| {
        let ask = Ask::new("GET", "/core/examples/d-1?consistency=local");
        ask.send(cluster.port(which)).ok().filter(|reply| reply.status == 200)
    };
    for which in 0..3 {
        cluster.wait_for("a node on a full disk to read", || read(&cluster, which));
    }
    let change = Ask::new("PATCH", "/core/examples/d-1").json(&json!({"name": "x"}));
    for which in 0..3 {
        let reply = cluster.wait_for("an answer", || change.send(cluster.port(which)).ok());
        assert_eq!(reply.status / 100, 5, "there is no room for it: {}", reply.body);
        assert!(cluster.log(which).contains("disk"), "it says why: {}", cluster.log(which));
    }
    disks.iter().for_each(SmallDisk::make_room);
    cluster.wait_for("writes to be taken again", || {
        change.send(cluster.port(1)).ok().filter(|reply| reply.status == 200)
    });
    cluster.wait_until_whole();
    assert_eq!(cluster.get(2, "/core/examples/d-1").body["name"], "x");
    (0..3).for_each(|which| cluster.kill(which));
}

/// A node that dies in the middle of finding its disk full has what it had.
#[test]
fn kills_on_a_full_disk_lose_nothing() {
    let Some((disks, mut cluster)) = on_small_disks("kills_on_a_full_disk") else { return };
    let mut acknowledged = Vec::new();
    for time in 0..6 {
        for number in (time * 10)..(time * 10 + 5) {
            if put(&cluster, number % 3, number, 20_000) == 200 {
                acknowledged.push(number);
            }
        }
        let which = time % 3;
        disks[which].fill();
        for number in (time * 10 + 5)..(time * 10 + 8) {
            if put(&cluster, (which + 1) % 3, number, 20_000) == 200 {
                acknowledged.push(number);
            }
        }
        cluster.kill(which);
        if time % 2 == 0 {
            cluster.start_with(which, &["--free-space-min", "16"]);
            std::thread::sleep(Duration::from_millis(700));
            cluster.kill(which);
        }
        disks[which].make_room();
        cluster.start_with(which, &["--free-space-min", "16"]);
        cluster.wait_until_whole();
    }
    assert!(acknowledged.len() > 12, "too few writes to say anything: {acknowledged:?}");
    for number in acknowledged {
        let reply = cluster.get(number % 3, &format!("/core/examples/d-{number}"));
        assert_eq!(reply.status, 200, "{number}: {}", reply.body);
    }
    (0..3).for_each(|which| cluster.kill(which));
}
