//! A program written for AMBROSIA (`examples/ambrosia/hello.c`), compiled here, against real nodes
//! through its two ports.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::cluster::{Cluster, free_ports};
use crate::http::Ask;
use crate::programs::{Program, register, wait_until_moved, wait_until_served};

/// None where there is no C compiler; then there is nothing to test with.
pub(crate) fn compiled(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ambrosia/hello.c");
    let program = folder.join("hello");
    let made = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status().ok()?;
    assert!(made.success(), "hello.c does not compile");
    Some(program)
}

pub(crate) struct Ports {
    pub(crate) receive: u16,
    pub(crate) send: u16,
}

/// A replica on each node, each with two ports.
pub(crate) fn registered(cluster: &Cluster, name: &str) -> Vec<Ports> {
    register(cluster, name, &json!({ "activeActive": true }));
    let mut all = Vec::new();
    for number in 0..cluster.len() {
        let ports = free_ports(2);
        let (receive, send) = (ports[0], ports[1]);
        let body = json!({ "addReplica":
            { "replicaNumber": number, "receivePort": receive, "sendPort": send } });
        let path = format!("/core/immortals/{name}");
        let reply = cluster.ask(0, &Ask::new("PATCH", &path).json(&body));
        assert_eq!(reply.status, 200, "{}", reply.body);
        all.push(Ports { receive, send });
    }
    all
}

pub(crate) fn hello(binary: &Path, role: &str, ports: &Ports) -> Program {
    let mut command = Command::new(binary);
    command.args([role, &ports.receive.to_string(), &ports.send.to_string()]);
    Program::start(role, &mut command)
}

/// The texts that a server has printed, in its order.
fn received(lines: &[String]) -> Vec<String> {
    const WORDS: &str = "Received message from a client: ";
    let text = |line: &String| Some(line.split_once(WORDS)?.1.to_owned());
    lines.iter().filter_map(text).collect()
}

#[test]
fn a_c_program_of_ambrosias_survives_the_death_of_its_primary() {
    let mut cluster = Cluster::started(3);
    let Some(binary) = compiled(cluster.folder()) else { return };
    let server_ports = registered(&cluster, "server");
    let client_ports = registered(&cluster, "client");
    let mut servers: Vec<Option<Program>> =
        server_ports.iter().map(|ports| Some(hello(&binary, "server", ports))).collect();
    let first = wait_until_served(&cluster, 0, "server", 2);
    let mut keyboard = hello(&binary, "keyboard", &client_ports[0]);
    keyboard.wait_for("now primary");

    let lines = |from: u32, to: u32| (from..to).map(|n| format!("message {n}"));
    for line in lines(0, 20) {
        keyboard.type_line(&line);
    }
    servers[first].as_mut().expect("it runs").wait_for("message 19");
    let before = servers[first].take().expect("it runs").kill();
    for line in lines(20, 40) {
        keyboard.type_line(&line);
    }
    let second = wait_until_moved(&cluster, 0, "server", Some(first), 1);
    servers[second].as_mut().expect("it runs").wait_for("message 39");

    // The one that was killed recovers from the log, the node of the primary goes.
    servers[first] = Some(hello(&binary, "server", &server_ports[first]));
    wait_until_served(&cluster, 0, "server", 2);
    if second != 0 {
        cluster.kill(second);
        drop(servers[second].take());
    }
    for line in lines(40, 60) {
        keyboard.type_line(&line);
    }
    let all: Vec<String> = lines(0, 60).collect();
    assert_eq!(received(&before), all[..20]);
    for (which, server) in servers.into_iter().enumerate() {
        let Some(mut server) = server else { continue };
        server.wait_for("message 59");
        // One that began from a checkpoint has printed only what came after it.
        let printed = received(server.said());
        assert!(printed.len() >= 20 && all.ends_with(&printed), "on node {which}: {printed:?}");
    }
}
