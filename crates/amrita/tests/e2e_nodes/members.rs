//! Nodes that ask to come in, and nodes that are removed, as a person sees it: by the commands of
//! the program, while clients write and processes are killed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bad_days::flip_a_bit;
use crate::cluster::{Cluster, Ended, available, free_ports, uri};
use crate::http::Ask;

const GROUP: &str = "/core/node-groups/default";

/// Runs a command against the nodes at these ports.
fn run(ports: &[u16], words: &[&str]) -> Ended {
    let uris: Vec<String> = ports.iter().map(|port| uri(*port)).collect();
    let mut arguments = vec!["--address".to_owned(), uris.join(",")];
    arguments.extend(words.iter().map(|word| (*word).to_owned()));
    Cluster::run_to_its_end(&arguments)
}

fn ok(ports: &[u16], words: &[&str]) -> String {
    let ended = run(ports, words);
    assert!(ended.status.success(), "{words:?}: {}", ended.said);
    ended.said
}

fn refused(ports: &[u16], words: &[&str], why: &[&str]) {
    let ended = run(ports, words);
    ended.refused_with(why);
    assert_eq!(ended.status.code(), Some(1), "{words:?}: {}", ended.said);
}

fn waits_for_available(cluster: &Cluster, port: u16, count: usize) {
    cluster.wait_for(&format!("{count} nodes to be available"), || {
        let group = Ask::get(GROUP).send(port).ok()?;
        let nodes = group.body["nodes"].as_object()?.len();
        (available(&group.body) == count && nodes == count).then_some(())
    });
}

/// Makes documents one after the other, at all these nodes in turn, until it is told to stop.
struct Writer {
    ports: Arc<Mutex<Vec<u16>>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Writer {
    fn at(ports: &[u16]) -> Self {
        let ports = Arc::new(Mutex::new(ports.to_vec()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&ports), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut written = BTreeSet::new();
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let all = shared.lock().expect("nobody panics with it").clone();
                let port = all[number % all.len()];
                let link = format!("/core/examples/w{number}");
                let body = json!({ "documentSelfLink": link, "name": "kept" });
                let post = Ask::new("POST", "/core/examples").json(&body);
                if post.send(port).is_ok_and(|reply| reply.status == 200) {
                    written.insert(link);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            written
        });
        Self { ports, is_over, thread }
    }

    fn goes_to(&self, ports: &[u16]) {
        *self.ports.lock().expect("nobody panics with it") = ports.to_vec();
    }

    /// All that was acknowledged.
    fn ends(self) -> BTreeSet<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends")
    }
}

#[test]
fn a_stranger_waits_for_a_person_who_lets_it_in_or_refuses_it() {
    let cluster = Cluster::started(3);
    let ports = cluster.ports();
    let mut stranger = cluster.one_that_asks("n4");
    cluster.wait_for("it to be listed", || {
        let said = ok(&ports[2..], &["nodes"]);
        (said.contains("ASKS TO JOIN") && said.contains(&uri(stranger.port(0)))).then_some(())
    });
    let asking: Value = serde_json::from_str(&ok(&ports, &["--json", "admit"])).expect("JSON");
    assert_eq!(asking["asking"][0]["id"], "n4", "{asking}");
    let said = stranger.log(0);
    assert!(said.contains("waits until a person lets it in"), "{said}");
    refused(&ports, &["admit", "n9"], &["no node 'n9' asks", "these do: n4"]);
    assert_eq!(available(&cluster.get(0, GROUP).body), 3, "nobody has let it in");

    let said = ok(&ports, &["admit", "--refuse", "n4"]);
    assert!(said.contains("is refused"), "{said}");
    let ended = stranger.ends(0);
    assert!(!ended.success() && stranger.log(0).contains("a person has refused it"));
    // What it had said before it was told so may still be on its way.
    cluster.wait_for("nobody to ask any more", || {
        (ok(&ports, &["admit"]).trim() == "No node asks to join the cluster.").then_some(())
    });

    // Another one is let in by its address.
    let stranger = cluster.one_that_asks("n5");
    let at = uri(stranger.port(0));
    cluster.wait_for("it to ask", || ok(&ports[1..2], &["admit"]).contains("n5").then_some(()));
    refused(&ports[1..2], &["admit", "n5", "--at", "http://10.0.0.1:1"], &["at http://10.0.0.1:1"]);
    let said = ok(&ports[1..2], &["--json", "admit", "n5", "--at", &at]);
    assert!(said.contains(r#""admitted":"n5""#) && said.contains(r#""isFilled":true"#), "{said}");
    waits_for_available(&cluster, stranger.port(0), 4);
}

#[test]
fn a_node_that_admits_who_asks_needs_no_person() {
    let mut cluster = Cluster::of(1);
    cluster.start_with(0, &["--admit-who-asks"]);
    let newcomer = cluster.one_that_asks("n2");
    waits_for_available(&cluster, newcomer.port(0), 2);
}

#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_to_one_while_it_is_written_to() {
    let mut first = Cluster::started(1);
    let writer = Writer::at(&first.ports());
    let mut others = Vec::new();
    let ports = |first: &Cluster, others: &[Cluster]| {
        let mut ports = first.ports();
        ports.extend(others.iter().map(|other| other.port(0)));
        ports
    };
    for id in ["n2", "n3", "n4", "n5"] {
        others.push(first.one_that_asks(id));
        let all = ports(&first, &others);
        first.wait_for("it to ask", || ok(&all[..1], &["admit"]).contains(id).then_some(()));
        ok(&all[..1], &["admit", id]);
        writer.goes_to(&all);
    }
    let all = ports(&first, &others);
    waits_for_available(&first, all[4], 5);
    // One that is down for good, while another one is killed and comes back.
    others[3].kill(0);
    others[2].kill(0);
    others[2].start_again(0);
    ok(&all[..3], &["remove", "n5"]);
    waits_for_available(&first, all[0], 4);
    // The founder, at itself, while it owns whatever it owns.
    ok(&all[..1], &["remove", "n1"]);
    assert!(first.ends(0).success(), "{}", first.end_of_log(0));
    assert!(first.log(0).contains("was removed from the cluster"), "{}", first.end_of_log(0));
    waits_for_available(&first, all[1], 3);
    writer.goes_to(&all[1..4]);
    refused(&all[1..2], &["remove", "n1"], &["there is no node 'n1'", "n2, n3, n4"]);
    for (removed, which) in [("n4", 2), ("n3", 1)] {
        ok(&all[1..2], &["remove", removed]);
        assert!(others[which].ends(0).success(), "{}", others[which].end_of_log(0));
        writer.goes_to(&all[1..=which]);
    }
    waits_for_available(&first, all[1], 1);
    refused(&all[1..2], &["remove", "n2"], &["is the last one"]);
    let written = writer.ends();
    assert!(written.len() > 50, "{} were acknowledged", written.len());
    for link in &written {
        assert_eq!(others[0].get(0, link).status, 200, "{link} was acknowledged");
    }
    // What was removed does not come back with what it had.
    others[3].start_again(0);
    let ended = others[3].ends(0);
    assert!(!ended.success(), "{}", others[3].end_of_log(0));
    assert!(others[3].log(0).contains("start it with an empty"), "{}", others[3].end_of_log(0));
    // With nothing, it asks again.
    fs::remove_dir_all(&others[3].member(0).sandbox).expect("a sandbox can be removed");
    others[3].start_asking(0, all[1]);
    first.wait_for("it to ask", || ok(&all[1..2], &["admit"]).contains("n5").then_some(()));
    ok(&all[1..2], &["admit", "n5"]);
    waits_for_available(&first, all[4], 2);
}

/// Grown from one node, which was started without a list, as a restored one is.
#[test]
fn the_first_node_takes_a_list_once_it_has_peers_and_comes_back_without_one() {
    let mut first = Cluster::started(1);
    let body = json!({ "documentSelfLink": "/core/examples/kept", "name": "kept" });
    assert_eq!(first.ask(0, &Ask::new("POST", "/core/examples").json(&body)).status, 200);
    let mut ports = first.ports();
    let mut others = Vec::new();
    for id in ["n2", "n3"] {
        let other = first.one_that_asks(id);
        first.wait_for("it to ask", || ok(&ports[..1], &["admit"]).contains(id).then_some(()));
        ok(&ports[..1], &["admit", id]);
        ports.push(other.port(0));
        others.push(other);
    }
    waits_for_available(&first, ports[0], 3);
    let uris: Vec<String> = ports.iter().map(|port| uri(*port)).collect();
    first.wait_for("it to say how to start it", || {
        let said = first.log(0);
        let list = said.rsplit_once("from now on with --peer-nodes ")?.1.lines().next()?.to_owned();
        uris.iter().all(|uri| list.contains(uri)).then_some(())
    });
    assert!(first.stop(0).success());
    first.start_with(0, &["--peer-nodes", &uris.join(",")]);
    waits_for_available(&first, ports[1], 3);
    // Its disk is lost, and it is started as it was at first.
    first.kill(0);
    fs::remove_dir_all(&first.member(0).sandbox).expect("a sandbox can be removed");
    first.start_again(0);
    // It would be let in after two minutes, too.
    first.wait_for("it to ask", || ok(&ports[1..2], &["admit"]).contains("n1").then_some(()));
    ok(&ports[1..2], &["admit", "n1"]);
    waits_for_available(&first, ports[1], 3);
    first.wait_for("it to be filled", || {
        let kept = Ask::get("/core/examples/kept?consistency=local").send(ports[0]).ok()?;
        (kept.status == 200).then_some(())
    });
    assert!(first.log(0).contains("its disk was lost"), "{}", first.end_of_log(0));
    assert!(ok(&ports[2..], &["remove", "n2"]).contains("n2") && others.len() == 2);
}

#[test]
fn the_last_node_of_a_cluster_keeps_its_only_copy_whatever_is_damaged() {
    let mut cluster = Cluster::started(3);
    let ports = cluster.ports();
    let body = json!({ "documentSelfLink": "/core/examples/kept", "name": "kept" });
    assert_eq!(cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body)).status, 200);
    for (which, id) in [(2, "n3"), (1, "n2")] {
        ok(&ports[..1], &["remove", id]);
        assert!(cluster.ends(which).success());
    }
    waits_for_available(&cluster, ports[0], 1);
    cluster.kill(0);
    let sandbox = cluster.member(0).sandbox.clone();
    flip_a_bit(&sandbox);
    cluster.start(0);
    let ended = cluster.ends(0);
    let said = cluster.end_of_log(0);
    assert!(!ended.success() && said.contains("nobody else has what is in it"), "{said}");
    assert!(sandbox.join("log").exists() && !sandbox.join("damaged-1").exists(), "{said}");
}

#[test]
fn a_removal_that_makes_no_sense_is_refused_and_says_what_to_do() {
    let mut cluster = Cluster::started(3);
    let ports = cluster.ports();
    ok(&ports, &["quorum", "3"]);
    refused(&ports, &["remove", "n1"], &["amrita quorum 2"]);
    ok(&ports, &["quorum", "2"]);
    ok(&ports, &["immortal", "register", "kept", "--replicas", "n1,n3"]);
    refused(&ports, &["remove", "n3"], &["kept", "remove-replica kept --node n3"]);
    ok(&ports, &["immortal", "remove-replica", "kept", "--node", "n3"]);
    cluster.kill(1);
    cluster.wait_for("it to be seen as down", || {
        let group = Ask::get(GROUP).send(ports[0]).ok()?;
        (group.body["nodes"]["n2"]["status"] == "UNAVAILABLE").then_some(())
    });
    refused(&ports[..1], &["remove", "n3"], &["n2 down", "remove one that is down"]);
    ok(&ports[..1], &["remove", "n2"]);
    let group = cluster.get(0, GROUP).body;
    assert_eq!((available(&group), &group["membershipQuorum"]), (2, &json!(2)));
}

#[test]
fn a_node_that_is_drained_owns_nothing_until_that_is_undone() {
    let cluster = Cluster::started(3);
    let ports = cluster.ports();
    let owned = || {
        let group = Ask::get(GROUP).send(ports[1]).ok()?;
        group.body["nodes"]["n1"]["ownedPartitions"].as_u64()
    };
    cluster.wait_for("it to own something", || owned().filter(|owned| *owned > 0));
    let said = ok(&ports, &["drain", "n1"]);
    assert!(said.contains("owns no partition"), "{said}");
    assert_eq!(owned(), Some(0));
    assert!(ok(&ports[2..], &["nodes"]).contains("drained: is to own nothing"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(owned(), Some(0), "it stays so");
    ok(&ports, &["drain", "--undo", "n1"]);
    cluster.wait_for("it to own something again", || owned().filter(|owned| *owned > 0));
    refused(&ports, &["drain", "n9"], &["there is no node 'n9'"]);
}

#[test]
fn a_node_that_comes_back_at_another_address_is_found_and_listed_there() {
    let mut cluster = Cluster::started(3);
    let body = json!({ "documentSelfLink": "/core/examples/kept", "name": "kept" });
    let made = cluster.ask(0, &Ask::new("POST", "/core/examples").json(&body));
    assert_eq!(made.status, 200, "{}", made.body);
    let before = cluster.get(2, "/core/management").body["replicaId"].clone();
    let (old, new) = (cluster.port(2), free_ports(1)[0]);
    assert!(cluster.stop(2).success());
    cluster.move_to(2, new);
    cluster.start(2);
    cluster.wait_until_whole();
    for which in 0..3 {
        cluster.wait_for("it to be listed at its new address", || {
            let group = Ask::get(GROUP).send(cluster.port(which)).ok()?.body.to_string();
            (group.contains(&uri(new)) && !group.contains(&uri(old))).then_some(())
        });
    }
    assert_eq!(cluster.get(2, "/core/management").body["replicaId"], before, "it is the same one");
    // The others find it there after a start, too: they know the address from the directory.
    cluster.kill(0);
    cluster.kill(1);
    cluster.start(0);
    cluster.start(1);
    cluster.wait_until_whole();
    assert_eq!(cluster.get(2, "/core/examples/kept").status, 200);
    ok(&cluster.ports()[..1], &["stop", "n3"]);
    assert!(cluster.ends(2).success());
}
