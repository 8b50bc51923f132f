//! The state of a group changes on one node's disk, and nothing says so: it is found in an idle
//! moment and filled anew from the others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::{Address, GroupId};
use server::{Config, FjallStore, Founding, Host};
use services::Catalogue;
use storage::{Batch, Space, StateStore};
use tempfile::TempDir;

/// How long anything may take: a group is compared when it was quiet for ten seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// A family of keys of the state that nobody has.
const STRAY: u8 = 0x7e;

fn start(folder: &TempDir, ports: &[u16], which: usize) -> Host {
    let address = |port: &u16| Address::parse(&format!("127.0.0.1:{port}")).expect("it is one");
    let port = ports[which];
    let sandbox = Some(folder.path().join(port.to_string()));
    let founding =
        Founding { peer_nodes: ports.iter().map(address).collect(), ..Default::default() };
    let config = Config { port, sandbox, founding, ..Config::default() };
    Host::start(config, Catalogue::new()).expect("it starts")
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn alter(state: &Path, group: GroupId) {
    let mut store = FjallStore::open(state).expect("nobody else has it");
    let (space, applied) = Space::open(&store, group).expect("it can be read");
    assert!(applied.position.0 > 0, "the group is there");
    let mut batch = Batch::default();
    batch.put(space.key(STRAY, b""), b"?");
    store.write(batch).expect("it can be written");
    store.persist().expect("it can be made durable");
}

#[test]
fn a_state_that_was_altered_is_found_and_filled_anew() {
    let folder = tempfile::tempdir().unwrap();
    let sockets: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    let ports: Vec<u16> =
        sockets.iter().map(|socket| socket.local_addr().expect("it is bound").port()).collect();
    drop(sockets);
    let mut hosts: Vec<Host> = (0..3).map(|which| start(&folder, &ports, which)).collect();
    let is_whole = |port: u16| {
        let group = get(port, "/core/node-groups/default").unwrap_or_default();
        group.matches("\"AVAILABLE\"").count() == 3
    };
    wait_for("the cluster", || ports.iter().all(|port| is_whole(*port)));
    let host = hosts.remove(2);
    host.stop();
    host.wait().expect("it stops in good order");
    alter(&folder.path().join(ports[2].to_string()).join("state"), GroupId(1));
    hosts.push(start(&folder, &ports, 2));
    let filled = |port: u16| {
        let metrics = get(port, "/metrics").unwrap_or_default();
        let line = metrics.lines().find(|line| line.starts_with("amrita_states_filled_total "));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
    };
    wait_for("the state to be filled anew", || filled(ports[2]) == Some(1));
    assert_eq!((filled(ports[0]), filled(ports[1])), (Some(0), Some(0)), "theirs is right");
    wait_for("the cluster to be whole", || ports.iter().all(|port| is_whole(*port)));
    for host in hosts {
        host.stop();
        host.wait().expect("it stops in good order");
    }
    let store = FjallStore::open(&folder.path().join(ports[2].to_string()).join("state"));
    let store = store.expect("nobody else has it");
    let (space, _) = Space::open(&store, GroupId(1)).expect("it can be read");
    let stray = storage::Reader::get(&store, &space.key(STRAY, b"")).expect("it can be read");
    assert_eq!(stray, None, "what was altered is gone");
}
