//! Each flag of `amrita immortal` does what it says, in AMBROSIA's spelling as in ours; and what is
//! done with versions: up, back, and not at all when no program can do it.

use std::net::TcpStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use protocol::immortal::{Hello, Message, ToNode, blocks, messages};
use serde_json::{Value, json};

use crate::cluster::{Cluster, free_ports};
use crate::http::Ask;
use crate::native::{Native, hello};
use crate::programs::{amrita, instance, register, role, wait_until_served};

fn done(cluster: &Cluster, words: &[&str]) -> String {
    let all: Vec<&str> = ["immortal"].iter().chain(words).copied().collect();
    let ended = amrita(cluster, &all);
    assert!(ended.status.success(), "{words:?}: {}", ended.said);
    ended.said
}

fn state(cluster: &Cluster, name: &str) -> Value {
    instance(cluster, 0, name).expect("it is registered")
}

/// A program that lives until it is let go; the code with which that was done.
fn program(
    sandbox: &Path,
    name: &str,
    version: u64,
    upgrade_to: u64,
) -> JoinHandle<Option<String>> {
    let mut program = Native::connect(sandbox);
    program.say(&ToNode::Hello(Hello { upgrade_to, ..hello(name, version) }));
    std::thread::spawn(move || program.live(|_, _| true))
}

/// One that dies of an upgrade, and is started again until it is turned away.
fn frail(sandbox: &Path, name: &str, version: u64, upgrade_to: u64) -> JoinHandle<()> {
    let (sandbox, name) = (sandbox.to_owned(), name.to_owned());
    std::thread::spawn(move || {
        loop {
            let mut program = Native::connect(&sandbox);
            program.say(&ToNode::Hello(Hello { upgrade_to, ..hello(&name, version) }));
            let is_upgrade = |bytes: &bytes::Bytes| {
                let all = blocks(bytes.clone()).flatten();
                all.flat_map(|block| messages(block.messages).flatten())
                    .any(|message| matches!(message, Message::Upgrade { .. }))
            };
            let code = program.live(|_, bytes| !is_upgrade(bytes));
            if code.is_some_and(|code| code == "HELD" || code == "UNKNOWN_INSTANCE") {
                return;
            }
        }
    })
}

#[test]
fn an_instance_of_ambrosias_is_registered_with_its_words() {
    let cluster = Cluster::started(2);
    let ports = free_ports(4);
    let flag = |name: &str, value: u16| format!("{name}={value}");
    done(
        &cluster,
        &[
            "register",
            "--instanceName=server",
            &flag("--receivePort", ports[0]),
            &flag("-sp", ports[1]),
            "--replicas=n1",
            "--currentVersion=3",
            "--logTriggerSize=5",
        ],
    );
    let listens = |port: u16| TcpStream::connect(("127.0.0.1", port)).ok();
    cluster.wait_for("the port of n1", || listens(ports[0]));
    let registered = state(&cluster, "server");
    assert_eq!(registered["currentVersion"], 3);
    assert_eq!(registered["logTriggerBytes"], 5 << 20);
    assert_eq!(registered["activeActive"], false, "as AMBROSIA has it, without a word for it");
    assert_eq!(registered["replicas"].as_array().map(Vec::len), Some(1));
    done(
        &cluster,
        &[
            "add-replica",
            "-i=server",
            "--replicaNum=1",
            &flag("-rp", ports[2]),
            &flag("--sendPort", ports[3]),
            "--activeActive",
        ],
    );
    cluster.wait_for("the port of n2", || listens(ports[2]));
    let registered = state(&cluster, "server");
    assert_eq!(registered["activeActive"], true);
    assert_eq!(registered["replicas"][1]["replicaNumber"], 1);
    assert_eq!(registered["replicas"][1]["node"], "n2");
    done(&cluster, &["register", "-i=other", "-aa=false", "--replicas", "1"]);
    assert_eq!(state(&cluster, "other")["activeActive"], false);
}

#[test]
fn a_checkpoint_comes_by_the_size_of_the_log_unless_that_is_zero() {
    let cluster = Cluster::started(1);
    let here = &cluster.member(0).sandbox;
    for (name, trigger) in [("often", "--log-trigger-size=1"), ("never", "-lts=-1")] {
        done(&cluster, &["register", name, trigger, "--recovery-target=0"]);
        program(here, name, 0, 0);
        wait_until_served(&cluster, 0, name, 0);
    }
    assert_eq!(state(&cluster, "never")["logTriggerBytes"], 0);
    let long = format!("[\"{}\"]", "x".repeat(100_000));
    for _ in 0..12 {
        for name in ["often", "never"] {
            done(&cluster, &["send", name, "1", &long]);
        }
    }
    let at = |name: &str| state(&cluster, name)["replicas"][0]["checkpoint"]["input"].clone();
    cluster.wait_for("a checkpoint of 'often'", || at("often").as_u64().filter(|input| *input > 5));
    assert_eq!(at("never"), 0, "nobody asked for one");
    done(&cluster, &["checkpoint", "-i", "never"]);
    assert_eq!(at("never"), 13);
}

#[test]
fn a_paused_instance_and_one_in_memory_are_so() {
    let cluster = Cluster::started(1);
    let here = &cluster.member(0).sandbox;
    done(&cluster, &["register", "quick", "--no-persist-logs", "--pause-at-start"]);
    let quick = state(&cluster, "quick");
    assert_eq!((&quick["durability"], &quick["paused"]), (&json!("memory"), &json!(true)));
    program(here, "quick", 0, 0);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(role(&state(&cluster, "quick"), "n1"), "RECOVERING", "it is told nothing");
    done(&cluster, &["set", "quick", "--resume"]);
    wait_until_served(&cluster, 0, "quick", 0);
    assert!(done(&cluster, &["send", "quick", "1", "[1]"]).contains("Logged as input 2"));
    assert!(done(&cluster, &["show", "quick"]).contains("a majority of its nodes dies"));
}

#[test]
fn versions_go_up_and_back_and_nothing_is_lost() {
    let cluster = Cluster::started(2);
    let sandbox = |which: usize| cluster.member(which).sandbox.clone();
    done(&cluster, &["register", "server", "--current-version=4", "--replicas=n1,n2"]);
    let (code, text) = Native::attach(&sandbox(0), "server", 1).hear_refusal();
    assert!(code == "PROGRAM_VERSION" && text.contains("begins with program version 4"), "{text}");
    let old = program(&sandbox(0), "server", 4, 4);
    wait_until_served(&cluster, 0, "server", 0);
    done(&cluster, &["send", "server", "1", "[1]"]);
    // The next version comes up beside the standby, and takes over.
    let new = program(&sandbox(1), "server", 4, 5);
    wait_until_served(&cluster, 0, "server", 1);
    done(&cluster, &["set", "server", "--upgrade-version=5"]);
    let version = |wanted: u64, primary: &str| {
        cluster.wait_for(&format!("version {wanted} on {primary}"), || {
            let state = instance(&cluster, 0, "server")?;
            let is_there = state["replicas"][0]["programVersion"] == wanted;
            (is_there && role(&state, primary) == "PRIMARY").then_some(())
        });
    };
    version(5, "n2");
    assert_eq!(old.join().expect("it ends").as_deref(), Some("UPGRADED"), "the old one is let go");
    let said = done(&cluster, &["send", "server", "1", "[2]"]);
    assert!(said.contains("Logged as input 4"), "START, two impulses, UPGRADE between: {said}");
    // And back, by a program that can do that: what was handled since stays handled.
    cluster.wait_for("n1 to have a checkpoint of the new version", || {
        let state = instance(&cluster, 0, "server")?;
        state["replicas"][0]["checkpoint"]["input"].as_u64().filter(|input| *input >= 3)
    });
    let back = program(&sandbox(0), "server", 5, 4);
    wait_until_served(&cluster, 0, "server", 1);
    done(&cluster, &["set", "server", "--upgrade-version=4"]);
    version(4, "n1");
    assert_eq!(new.join().expect("it ends").as_deref(), Some("UPGRADED"));
    let said = done(&cluster, &["send", "server", "1", "[3]"]);
    assert!(said.contains("Logged as input 6"), "{said}");
    done(&cluster, &["deregister", "server", "--yes-remove", "server"]);
    back.join().expect("it ends");
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_version_serving() {
    let cluster = Cluster::started(2);
    let sandbox = |which: usize| cluster.member(which).sandbox.clone();
    register(&cluster, "server", &json!({ "programTimeoutMillis": 2_000 }));
    let old = program(&sandbox(0), "server", 0, 0);
    wait_until_served(&cluster, 0, "server", 0);
    let new = frail(&sandbox(1), "server", 0, 1);
    wait_until_served(&cluster, 0, "server", 1);
    done(&cluster, &["set", "server", "-uv=1"]);
    // It is tried three times, and given up.
    cluster.wait_for("the upgrade to be given up", || {
        let state = instance(&cluster, 0, "server")?;
        (state["upgradeGivenUp"] == true).then_some(())
    });
    assert_eq!(old.join().expect("it is told to come again").as_deref(), Some("RELOAD"));
    let old = program(&sandbox(0), "server", 0, 0);
    wait_until_served(&cluster, 0, "server", 0);
    assert!(done(&cluster, &["send", "server", "1", "[1]"]).contains("Logged as input"));
    let shown = done(&cluster, &["show", "server"]);
    for words in ["given up", "version 0 goes on", "set server --upgrade-version 1"] {
        assert!(shown.contains(words), "'{words}' is not in\n{shown}");
    }
    done(&cluster, &["deregister", "server", "--yes-remove", "server"]);
    old.join().expect("it ends");
    new.join().expect("it ends");
}

#[test]
fn a_full_disk_refuses_impulses_and_with_room_again_all_goes_on() {
    let mut cluster = Cluster::started(1);
    register(&cluster, "server", &json!({}));
    let here = cluster.member(0).sandbox.clone();
    let first = program(&here, "server", 0, 0);
    wait_until_served(&cluster, 0, "server", 0);
    done(&cluster, &["send", "server", "1", "[1]"]);
    assert!(cluster.stop(0).success());
    first.join().expect("it is told that the node stops");
    cluster.start_with(0, &["--free-space-min", "1000000000"]);
    let second = cluster.wait_for("the socket", || {
        std::os::unix::net::UnixStream::connect(here.join("immortals.sock")).ok()?;
        Some(program(&here, "server", 0, 0))
    });
    cluster.wait_for("a refusal for the disk's sake", || {
        let refused = amrita(&cluster, &["immortal", "send", "server", "1", "[2]"]);
        assert!(!refused.status.success(), "{}", refused.said);
        refused.said.contains("the disk of node n1 takes no writes").then_some(())
    });
    cluster.kill(0);
    second.join().expect("its node is gone");
    cluster.start(0);
    cluster.wait_until_whole();
    let third = program(&here, "server", 0, 0);
    wait_until_served(&cluster, 0, "server", 0);
    let said = done(&cluster, &["send", "server", "1", "[2]"]);
    assert!(said.contains("Logged as input 3"), "what was refused is not there: {said}");
    drop(cluster);
    third.join().expect("it ends");
}

/// What was logged of it is more than the state holds that survives, and both are to go.
#[test]
fn a_node_that_is_killed_after_a_deregistration_starts_again() {
    let mut cluster = Cluster::started(1);
    register(&cluster, "brief", &json!({ "logTriggerBytes": 0, "recoveryTargetMillis": 0 }));
    let gone = program(&cluster.member(0).sandbox, "brief", 0, 0);
    wait_until_served(&cluster, 0, "brief", 0);
    let push = |bytes: usize| {
        let impulse = json!({ "method": 1, "payload": "x".repeat(bytes) });
        let reply =
            cluster.ask(0, &Ask::new("POST", "/core/immortals/brief/impulses").json(&impulse));
        assert!(reply.is_success(), "{}", reply.message());
    };
    // After so much the state is made durable, once; what follows is in the log alone.
    (0..3).for_each(|_| push(3 << 20));
    std::thread::sleep(Duration::from_millis(500));
    (0..5).for_each(|_| push(1));
    done(&cluster, &["deregister", "brief", "--yes-remove", "brief"]);
    gone.join().expect("it is let go");
    std::thread::sleep(Duration::from_millis(200));
    cluster.kill(0);
    cluster.start(0);
    cluster.wait_until_whole();
    assert_eq!(instance(&cluster, 0, "brief"), None);
}

#[test]
fn replicas_go_to_nodes_that_are_up_and_what_is_known_is_said_at_once() {
    let mut cluster = Cluster::started(3);
    register(&cluster, "all", &json!({}));
    register(&cluster, "lonely", &json!({ "replicas": ["n3"] }));
    cluster.kill(2);
    cluster.wait_for("n3 to be seen as down", || {
        let state = instance(&cluster, 0, "all")?;
        (state["replicas"][2]["up"] == false).then_some(())
    });
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1")] {
        register(&cluster, name, &json!({ "replicas": 1 }));
        let seen = cluster.wait_for("the new one", || instance(&cluster, 0, name));
        assert_eq!(seen["replicas"][0]["node"], node, "{name}");
    }
    register(&cluster, "b", &json!({ "replicas": 1 }));
    assert_eq!(state(&cluster, "b")["replicas"][0]["node"], "n2", "the same again is no change");

    let began = Instant::now();
    let list = done(&cluster, &["list"]);
    assert!(list.contains("lonely") && list.contains("NO OWNER"), "{list}");
    let shown = done(&cluster, &["show", "lonely"]);
    assert!(shown.contains("n3 (down)") && shown.contains("away: n3"), "{shown}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let reply = cluster.ask(0, &Ask::new("POST", "/core/immortals/lonely/checkpoint"));
    assert_eq!(reply.status, 503, "{}", reply.body);
    let said = reply.message();
    for words in ["immortal 'lonely' has no owner", "0 of its 1 replicas", "Start the node n3"] {
        assert!(said.contains(words), "'{words}' is not in {said}");
    }
}

#[test]
fn a_port_that_something_else_has_is_refused_with_its_name() {
    let cluster = Cluster::started(1);
    let ports = free_ports(4);
    let post = |name: &str, receive: u16, send: u16| {
        let body = json!({ "name": name, "receivePort": receive, "sendPort": send });
        cluster.ask(0, &Ask::new("POST", "/core/immortals").json(&body))
    };
    assert_eq!(post("first", ports[0], ports[1]).status, 200);
    assert_eq!(post("first", ports[0], ports[1]).status, 200, "the same again");
    for (port, words) in [(ports[1], "instance 'first'"), (cluster.port(0), "the node's own")] {
        let reply = post("second", port, ports[2]);
        assert_eq!((reply.status, reply.code()), (409, "REFUSED"), "{}", reply.body);
        assert!(reply.message().contains(words), "{}", reply.body);
    }
    assert_eq!(post("second", ports[2], ports[3]).status, 200);
    let flag = |name: &str, value: u16| format!("{name}={value}");
    let number = ["add-replica", "second", "--replica-num", "0"];
    let (receive, send) = (flag("-rp", ports[0]), flag("-sp", ports[3]));
    let words: Vec<&str> =
        ["immortal"].into_iter().chain(number).chain([&*receive, &*send]).collect();
    amrita(&cluster, &words).refused_with(&["instance 'first'"]);
}
