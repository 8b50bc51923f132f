//! Starts that must be refused with clear words, and damage that must be noticed and mended.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, available, free_ports, node_arguments, uri};
use crate::http::{Ask, Reply};

#[test]
fn a_flipped_bit_in_the_log_is_noticed_and_the_node_is_mended_from_its_peers() {
    let mut cluster = Cluster::started(3);
    let links = make_documents(&cluster, 40);
    let victim = 1;
    assert!(cluster.stop(victim).success());
    flip_a_bit(&cluster.member(victim).sandbox);
    cluster.start(victim);
    cluster.wait_until_whole();
    let log = cluster.log(victim).to_lowercase();
    assert!(log.contains("corrupt"), "it does not say so:\n{}", cluster.end_of_log(victim));
    for link in &links {
        let path = format!("{link}?consistency=local");
        cluster.wait_for(&format!("the mended node to have {link}"), || {
            let reply = Ask::get(&path).send(cluster.port(victim)).ok()?;
            (reply.status == 200).then_some(())
        });
    }
    let after = cluster.ask(victim, &Ask::new("PATCH", &links[0]).json(&json!({"name": "after"})));
    assert_eq!(after.status, 200, "{}", after.body);
    // The mended node counts again: with another one gone, the two make a majority.
    cluster.kill(2);
    let link = &links[1];
    cluster.wait_for("a write with the mended node in the majority", || {
        let ask = Ask::new("PATCH", link).json(&json!({"name": "two"})).key("two");
        ask.send(cluster.port(victim)).ok().filter(|reply| reply.status == 200)
    });
}

fn make_documents(cluster: &Cluster, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            let body = json!({"documentSelfLink": format!("kept-{number}"), "name": "kept"});
            let which = number % cluster.len();
            let made = cluster.ask(which, &Ask::new("POST", "/core/examples").json(&body));
            assert_eq!(made.status, 200, "{}", made.body);
            made.body["documentSelfLink"].as_str().expect("a link").to_owned()
        })
        .collect()
}

/// Changes one bit well before the end of what was written to the oldest segment.
pub(crate) fn flip_a_bit(sandbox: &std::path::Path) {
    let mut segments: Vec<PathBuf> = files_under(sandbox)
        .into_iter()
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("wal-")
        })
        .collect();
    segments.sort();
    let segment = segments.first().expect("a log has a segment");
    let mut bytes = fs::read(segment).expect("a segment can be read");
    let written = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    // Not in the zeros between two frames: those mean nothing.
    let at = (written / 2..written).find(|at| bytes[*at] != 0).unwrap_or(written);
    bytes[at] ^= 0x10;
    fs::write(segment, bytes).expect("a segment can be written");
}

fn files_under(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the sandbox can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_second_node_with_the_same_id_is_refused() {
    let cluster = Cluster::started(3);
    let port = free_ports(1)[0];
    let mut arguments = node_arguments("n2", port, &cluster.folder().join("second"));
    arguments.extend(["--peer-nodes".into(), format!("{},{}", cluster.peers(), uri(port))]);
    let ended = Cluster::run_to_its_end(&arguments);
    ended.refused_with(&["n2"]);
    // The first one is as it was.
    let body = json!({"name": "still"});
    assert_eq!(cluster.ask(1, &Ask::new("POST", "/core/examples").json(&body)).status, 200);
}

#[test]
fn a_list_of_peers_without_the_node_itself_is_refused() {
    let cluster = Cluster::of(1);
    let ports = free_ports(3);
    let mut arguments = node_arguments("n1", ports[0], &cluster.folder().join("alone"));
    let peers = format!("{},{}", uri(ports[1]), uri(ports[2]));
    arguments.extend(["--peer-nodes".into(), peers]);
    Cluster::run_to_its_end(&arguments).refused_with(&["peer", &ports[0].to_string()]);
}

#[test]
fn a_sandbox_in_use_is_refused() {
    let cluster = Cluster::started(1);
    let member = cluster.member(0);
    let arguments = node_arguments(&member.id, free_ports(1)[0], &member.sandbox);
    Cluster::run_to_its_end(&arguments).refused_with(&["in use"]);
    assert_eq!(cluster.get(0, "/core/management").status, 200);
}

#[test]
fn a_sandbox_of_another_node_is_refused() {
    let mut cluster = Cluster::started(1);
    assert!(cluster.stop(0).success());
    let arguments = node_arguments("other", free_ports(1)[0], &cluster.member(0).sandbox);
    Cluster::run_to_its_end(&arguments).refused_with(&["n1", "other"]);
}

#[test]
fn a_port_in_use_is_refused() {
    let cluster = Cluster::started(1);
    let arguments = node_arguments("n9", cluster.port(0), &cluster.folder().join("n9"));
    let port = cluster.port(0).to_string();
    Cluster::run_to_its_end(&arguments).refused_with(&[&port, "in use"]);
}

#[test]
fn a_node_with_documents_cannot_join_and_loses_nothing() {
    let cluster = Cluster::started(1);
    let links = make_documents(&cluster, 3);
    let other = cluster.another(1);
    let join = json!({
        "kind": "com:vmware:xenon:services:common:NodeGroupService:JoinPeerRequest",
        "memberGroupReference": format!("{}/core/node-groups/default", uri(other.port(0))),
    });
    let reply = cluster.ask(0, &Ask::new("POST", "/core/node-groups/default").json(&join));
    assert_eq!((reply.status, reply.code()), (409, "REFUSED"), "{}", reply.body);
    for link in &links {
        assert_eq!(cluster.get(0, link).status, 200);
    }
}

fn join(cluster: &Cluster, port: u16) -> Reply {
    let body = json!({"kind": "JoinPeerRequest", "memberGroupReference": uri(port)});
    cluster.ask(0, &Ask::new("POST", "/core/node-groups/default").json(&body))
}

#[test]
fn a_node_that_is_to_join_an_address_without_a_cluster_stays_as_it_is() {
    let mut cluster = Cluster::started(1);
    cluster.wait_until_whole();
    let before = replica_of(&cluster, 0);
    let refused = |port: u16, words: &str| {
        let reply = join(&cluster, port);
        assert_eq!((reply.status, reply.code()), (409, "REFUSED"), "{}", reply.body);
        assert_eq!(reply.body["outcome"], "notApplied", "{}", reply.body);
        let message = reply.message();
        assert!(message.contains(words) && message.contains("Nothing was changed"), "{message}");
    };
    let nobody = free_ports(1)[0];
    refused(nobody, "Start it, see that it can be reached");
    // Somebody takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    refused(silent.local_addr().expect("it is bound").port(), "no node of a cluster answers");
    // A node that waits for another to form a cluster with.
    let waiting = cluster.another_that_waits();
    refused(waiting.port(0), "belongs to no cluster yet");
    // One of the same name.
    let twin = cluster.another_called(&cluster.member(0).id.clone());
    refused(twin.port(0), "another --id");
    let post =
        Ask::new("POST", "/core/examples").json(&json!({"name": "n", "documentSelfLink": "n"}));
    assert_eq!(cluster.ask(0, &post).status, 200);
    assert!(!cluster.member(0).sandbox.join("left-1").exists(), "nothing was put aside");
    cluster.kill(0);
    cluster.start(0);
    cluster.wait_until_whole();
    assert_eq!(cluster.get(0, "/core/examples/n").body["name"], "n");
    assert_eq!(replica_of(&cluster, 0), before);
}

#[test]
fn a_node_whose_new_cluster_has_gone_says_so_and_may_be_told_another() {
    let cluster = Cluster::started(1);
    // It answers and cannot admit anybody, as its majority is gone.
    let mut others = cluster.another(3);
    (1..3).for_each(|which| others.kill(which));
    assert_eq!(join(&cluster, others.port(0)).status, 200);
    others.kill(0);
    let post = Ask::new("POST", "/core/examples").json(&json!({"name": "n"}));
    let refused = cluster.wait_for("a refusal", || {
        post.send(cluster.port(0)).ok().filter(|reply| reply.code() == "NO_OWNER")
    });
    assert!(refused.message().contains("has reached no node of that"), "{}", refused.body);
    cluster.wait_for("a line in the log", || {
        cluster.log(0).contains("no node of that cluster is reached").then_some(())
    });
    let other = cluster.another(1);
    assert_eq!(join(&cluster, other.port(0)).status, 200);
    other.let_in(0, &cluster.member(0).id);
    cluster.wait_for("both to be one cluster", || {
        let group = Ask::get("/core/node-groups/default").send(cluster.port(0)).ok()?;
        (available(&group.body) == 2).then_some(())
    });
}

#[test]
fn a_node_with_an_immortal_cannot_join_either() {
    let cluster = Cluster::started(1);
    let register = Ask::new("POST", "/core/immortals").json(&json!({"name": "kept"}));
    cluster.wait_for("the instance to be registered", || {
        register.send(cluster.port(0)).ok().filter(Reply::is_success)
    });
    let other = cluster.another(1);
    let join = json!({
        "kind": "JoinPeerRequest",
        "memberGroupReference": uri(other.port(0)),
    });
    let reply = cluster.ask(0, &Ask::new("POST", "/core/node-groups/default").json(&join));
    assert_eq!((reply.status, reply.code()), (409, "REFUSED"), "{}", reply.body);
    assert_eq!(cluster.get(0, "/core/immortals/kept").status, 200);
}

#[test]
fn a_sandbox_of_another_cluster_is_refused() {
    let mut cluster = Cluster::started(1);
    make_documents(&cluster, 1);
    assert!(cluster.stop(0).success());
    let others = cluster.another(2);
    let member = cluster.member(0);
    let mut arguments = node_arguments(&member.id, member.port, &member.sandbox);
    arguments.extend(["--peer-nodes".into(), format!("{},{}", others.peers(), uri(member.port))]);
    Cluster::run_to_its_end(&arguments).refused_with(&["cluster"]);
}

#[test]
fn a_full_disk_refuses_writes_and_reads_go_on() {
    let mut cluster = Cluster::started(1);
    let links = make_documents(&cluster, 2);
    assert!(cluster.stop(0).success());
    // More than any disk has: to the node it is as full as can be.
    cluster.start_with(0, &["--free-space-min", "1000000000"]);
    let ask = Ask::new("PATCH", &links[0]).json(&json!({"name": "more"}));
    let refused = cluster.wait_for("a refusal for the disk's sake", || {
        let reply = ask.send(cluster.port(0)).ok()?;
        assert!(reply.status == 503, "{}", reply.body);
        (reply.code() == "STORAGE").then_some(reply)
    });
    assert_eq!(refused.body["outcome"], "notApplied", "{}", refused.body);
    assert_eq!(cluster.get(0, &links[0]).body["name"], "kept", "reading goes on");
    // With room again it is as it was.
    cluster.kill(0);
    cluster.start(0);
    cluster.wait_until_whole();
    assert_eq!(cluster.ask(0, &ask).status, 200);
}

#[test]
fn a_node_whose_disk_was_lost_comes_back_under_its_name_and_is_filled() {
    let mut cluster = Cluster::started(3);
    let links = make_documents(&cluster, 30);
    let before = replica_of(&cluster, 2);
    cluster.kill(2);
    fs::remove_dir_all(&cluster.member(2).sandbox).expect("a sandbox can be removed");
    cluster.start(2);
    // It could be alive and cut off: for two minutes a person says that it is not.
    cluster.let_in(0, "n3");
    cluster.wait_until_whole();
    for link in &links {
        let path = format!("{link}?consistency=local");
        cluster.wait_for(&format!("the new replica to have {link}"), || {
            let reply = Ask::get(&path).send(cluster.port(2)).ok()?;
            (reply.status == 200).then_some(())
        });
    }
    assert_ne!(replica_of(&cluster, 2), before, "it must not pass for its former self");
}

fn replica_of(cluster: &Cluster, which: usize) -> u64 {
    let management = cluster.get(which, "/core/management");
    management.body["replicaId"].as_u64().expect("a node of a cluster has a replica id")
}

#[test]
fn an_empty_node_joins_a_cluster_and_gets_its_documents() {
    let cluster = Cluster::started(3);
    let links = make_documents(&cluster, 20);
    let other = cluster.another(1);
    let join = json!({
        "kind": "com:vmware:xenon:services:common:NodeGroupService:JoinPeerRequest",
        "memberGroupReference": format!("{}/core/node-groups/default", uri(cluster.port(0))),
    });
    let reply = other.ask(0, &Ask::new("POST", "/core/node-groups/default").json(&join));
    assert_eq!(reply.status, 200, "{}", reply.body);
    cluster.let_in(1, &other.member(0).id);
    for (which, asked) in [(0, &other), (0, &cluster), (2, &cluster)] {
        asked.wait_for("all to see four nodes", || {
            let group = Ask::get("/core/node-groups/default").send(asked.port(which)).ok()?;
            (available(&group.body) == 4).then_some(())
        });
    }
    for link in &links {
        let path = format!("{link}?consistency=local");
        other.wait_for(&format!("the newcomer to have {link}"), || {
            let reply = Ask::get(&path).send(other.port(0)).ok()?;
            (reply.status == 200).then_some(())
        });
    }
    let quorum = other.get(0, "/core/node-groups/default").body["membershipQuorum"].clone();
    assert_eq!(quorum, 3, "the majority of four");
    let ask = Ask::new("PATCH", &links[0]).json(&json!({"name": "four"}));
    assert_eq!(other.ask(0, &ask).status, 200);
}

/// Some say nothing at all, some send the head of a request a byte at a time, and some have asked
/// once and stay for ever.
#[test]
fn ten_thousand_connections_that_say_nothing_shut_nobody_out() {
    const WANTED: usize = 10_000;
    let cluster = Cluster::started(3);
    let write = |which: usize, name: &str| {
        let body = json!({ "documentSelfLink": format!("{name}-{which}"), "name": name });
        Ask::new("POST", "/core/examples").json(&body).send(cluster.port(which))
    };
    let mut silent = Vec::new();
    // Where this process may not have as many descriptors, there are fewer.
    while silent.len() < WANTED
        && let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", cluster.port(0)))
    {
        let said: &[u8] = match silent.len() % 10 {
            0 => b"G",
            1 => b"GET /core/management HTTP/1.1\r\nHost: x\r\n\r\n",
            _ => b"",
        };
        // One that is turned away is closed.
        drop(socket.write_all(said));
        silent.push(socket);
    }
    assert!(silent.len() > 500, "only {} connections can be had here", silent.len());
    // Some descriptors for the requests below, if they were the last ones.
    silent.truncate(silent.len() - 50);
    let began = Instant::now();
    for which in 0..3 {
        let reply = cluster.wait_for("a write", || write(which, "beside").ok());
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // The others see it, and it sees them.
    for which in 0..3 {
        let group = cluster.get(which, "/core/node-groups/default");
        let nodes = group.body["nodes"].as_object().expect("it has nodes").clone();
        assert!(nodes.values().all(|node| node["status"] == "AVAILABLE"), "{}", group.body);
    }
    for socket in silent.iter_mut().step_by(10) {
        drop(socket.write_all(b"E"));
    }
    assert_eq!(cluster.wait_for("a write", || write(0, "still").ok()).status, 200);
    drop(silent);
    assert_eq!(cluster.wait_for("a write", || write(0, "after").ok()).status, 200);
}

/// A stranger that says it is a node of the cluster, by its name or by its address, is none as long
/// as that node lives.
#[test]
fn a_stranger_takes_the_place_of_nobody_who_lives() {
    let cluster = Cluster::started(3);
    cluster.wait_until_whole();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let before: Vec<u64> = (0..3).map(|which| replica_of(&cluster, which)).collect();
    // It says that it is at that address, and listens elsewhere.
    let start = |name: &str, id: &str, address: &str| {
        let peers = format!("{},{address}", uri(cluster.port(0)));
        std::process::Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(["node", "--port", "0", "--stop-with-stdin", "--id", id, "--public-uri", address])
            .args(["--peer-nodes", &peers, "--sandbox"])
            .arg(folder.path().join(name))
            .stdin(std::process::Stdio::piped())
            .stderr(fs::File::create(folder.path().join(format!("{name}.log"))).expect("a log"))
            .spawn()
            .expect("the program can be run")
    };
    let log = |name: &str| {
        fs::read_to_string(folder.path().join(format!("{name}.log"))).unwrap_or_default()
    };
    // It asks the very node whose name it has.
    let elsewhere = uri(free_ports(1)[0]);
    let mut twin = start("twin", &cluster.member(0).id, &elsewhere);
    cluster.wait_for("it to be refused", || log("twin").contains("its own --id").then_some(()));
    drop(twin.wait());
    let address = uri(cluster.port(1));
    let mut squatter = start("squatter", "squatter", &address);
    cluster.wait_for("a line in a log", || {
        (0..3).any(|which| cluster.log(which).contains("it has to wait until")).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    let after: Vec<u64> = (0..3).map(|which| replica_of(&cluster, which)).collect();
    assert_eq!(after, before, "all are who they were");
    drop(squatter.kill());
    drop(squatter.wait());
}
