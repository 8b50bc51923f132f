//! What AMBROSIA's real bindings depend on at its door, said byte by byte to a real node.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, free_ports};
use crate::http::Ask;
use crate::programs::{instance, register};

/// What the C# binding says at its first start, after the request for a checkpoint.
const HELLO: &[u8] = b"\x0e\x09\x0ahello";

const TAKE_CHECKPOINT: &[u8] = b"\x02\x02";
const TAKE_BECOMING_PRIMARY_CHECKPOINT: &[u8] = b"\x02\x0b";

/// No message of AMBROSIA's.
const END: &[u8] = b"\x02\xff";

struct Binding {
    read_half: TcpStream,
    write_half: TcpStream,
}

impl Binding {
    fn connected(cluster: &Cluster, ports: &[u16]) -> Self {
        let connect = |port: u16| {
            let socket =
                cluster.wait_for("a port", || TcpStream::connect(("127.0.0.1", port)).ok());
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time can be set");
            socket
        };
        Self { read_half: connect(ports[0]), write_half: connect(ports[1]) }
    }

    /// One that has given its first state and has been told its own initial message.
    fn started(cluster: &Cluster, ports: &[u16]) -> Self {
        let mut binding = Self::connected(cluster, ports);
        assert_eq!(binding.record(), TAKE_BECOMING_PRIMARY_CHECKPOINT);
        binding.say(&[HELLO, &checkpoint(b"abc")].concat());
        assert_eq!(binding.record(), HELLO);
        binding
    }

    /// One that has been given the state of a former one, and what was logged since.
    fn recovered(cluster: &Cluster, ports: &[u16]) -> Self {
        // Until the former one is gone, nobody else is let in.
        cluster.wait_for("its place to be free", || {
            let state = instance(cluster, 0, "server")?;
            (state["replicas"][0]["attached"] == false).then_some(())
        });
        let mut binding = Self::connected(cluster, ports);
        let mut state = [0; 3];
        let loaded = binding.record();
        assert_eq!(loaded[1], 8, "a checkpoint comes first: {loaded:?}");
        binding.write_half.read_exact(&mut state).expect("all of the state comes");
        assert_eq!(&state, b"abc");
        binding
    }

    fn say(&mut self, bytes: &[u8]) {
        self.read_half.write_all(bytes).expect("the node listens");
    }

    /// The messages of the next record.
    fn record(&mut self) -> Vec<u8> {
        let mut head = [0; 24];
        self.write_half.read_exact(&mut head).expect("a record comes");
        let size = i32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        let mut messages = vec![0; usize::try_from(size).expect("a size") - head.len()];
        self.write_half.read_exact(&mut messages).expect("all of it comes");
        messages
    }

    fn hears_nothing_for(&mut self, time: Duration) {
        self.write_half.set_read_timeout(Some(time)).expect("a time can be set");
        let heard = self.write_half.read(&mut [0; 1]).expect_err("nothing is said");
        assert!(matches!(heard.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{heard}");
        self.write_half.set_read_timeout(Some(Duration::from_secs(20))).expect("a time can be set");
    }
}

/// With up to 63 bytes of state.
fn checkpoint(state: &[u8]) -> Vec<u8> {
    let size = u8::try_from(state.len() * 2).expect("a short state");
    [&[4, 8, size], state].concat()
}

/// A fork to an instance that is not there, of up to 50 bytes.
fn fork(method: u8, arguments: &[u8]) -> Vec<u8> {
    let size = u8::try_from(6 + arguments.len()).expect("a short message") * 2;
    [&[size, 0, 2, b'x', 0, method * 2, 1], arguments].concat()
}

fn started_cluster() -> (Cluster, Vec<u16>) {
    let cluster = Cluster::started(1);
    let ports = free_ports(2);
    register(&cluster, "server", &json!({ "receivePort": ports[0], "sendPort": ports[1] }));
    (cluster, ports)
}

/// The JavaScript binding must not be told anything before its checkpoint has left, and the C# one
/// says after a checkpoint what its other thread had not sent before it.
#[test]
fn a_checkpoint_counts_when_nothing_has_followed_it() {
    let (cluster, ports) = started_cluster();
    let mut binding = Binding::started(&cluster, &ports);
    let post = |path: &str, body| {
        let reply = cluster.ask(0, &Ask::new("POST", path).json(&body));
        assert!(reply.is_success(), "{}", reply.body);
    };
    post("/core/immortals/server/checkpoint", json!({}));
    assert_eq!(binding.record(), TAKE_CHECKPOINT);
    post("/core/immortals/server/impulses", json!({ "method": 7, "payload": 1 }));
    binding.hears_nothing_for(Duration::from_millis(300));
    let late = b"\x0c\x00\x02x\x00\x02\x01";
    binding.say(&[&checkpoint(b"defg")[..], late].concat());
    assert_eq!(binding.record(), TAKE_CHECKPOINT, "once more, and before the impulse");
    binding.say(&checkpoint(b"hijkl"));
    assert_eq!(binding.record()[1..3], [0, 0], "the impulse");
    cluster.wait_for("the second checkpoint", || {
        let state = instance(&cluster, 0, "server")?;
        let checkpoint = &state["replicas"][0]["checkpoint"];
        (checkpoint == &json!({ "input": 1, "bytes": 5 })).then_some(())
    });
}

/// Closing the sockets does not end a program of the C# or the JavaScript binding.
#[test]
fn a_program_that_is_let_go_is_told_a_message_that_ends_it() {
    let (cluster, ports) = started_cluster();
    let mut binding = Binding::started(&cluster, &ports);
    binding.say(b"\x02\x63");
    assert_eq!(binding.record(), END);
    assert_eq!(binding.write_half.read(&mut [0; 1]).expect("it is closed"), 0);
    cluster.wait_for("the log to say so", || {
        cluster.log(0).contains("the program of 'server' is let go").then_some(())
    });
}

/// The JavaScript binding looks there, whatever its configuration says.
#[test]
fn a_registration_is_where_a_binding_looks_for_it() {
    let (cluster, ports) = started_cluster();
    let blob = cluster.get(0, "/core/ambrosia/cra/AmbrosiaBinaries/server-server0");
    let wanted = format!("<serviceReceiveFromPort>{}</serviceReceiveFromPort>", ports[0]);
    assert!(blob.body.as_str().is_some_and(|text| text.contains(&wanted)), "{}", blob.body);
    let nobody = cluster.get(0, "/core/ambrosia/cra/AmbrosiaBinaries/client-client0");
    assert_eq!(nobody.status, 404);
    let filter = "%24filter=PartitionKey%20eq%20%27server%27&%24select=RowKey";
    let ends = cluster.get(0, &format!("/core/ambrosia/craendpointtable?{filter}"));
    assert_eq!(ends.body["value"].as_array().map(Vec::len), Some(4), "{}", ends.body);
    let connections = cluster.get(0, &format!("/core/ambrosia/craconnectiontable?{filter}"));
    assert_eq!(connections.body, json!({ "value": [] }));
    let filter = "%24filter=(PartitionKey%20eq%20%27(Default)%27)%20and%20(RowKey%20eq%20\
                  %27CurrentVersion%27)&%24select=value";
    let version = cluster.get(0, &format!("/core/ambrosia/server?{filter}"));
    assert_eq!(version.body["value"][0]["value"], "0", "{}", version.body);
    let written = cluster.ask(0, &Ask::new("POST", "/core/ambrosia/craendpointtable").raw(b"{}"));
    assert_eq!(written.status, 405, "{}", written.body);
}

/// AMBROSIA's own test program sends the time as an argument. And whatever a program says
/// otherwise: where it is the only copy, keeping it away would be the end of its instance.
#[test]
#[ignore = "the third program is not fenced: why is not known yet"]
fn arguments_may_differ_and_the_last_copy_is_never_locked_out() {
    let (cluster, ports) = started_cluster();
    let post = |payload: u64| {
        let body = json!({ "method": 7, "payload": payload });
        let reply =
            cluster.ask(0, &Ask::new("POST", "/core/immortals/server/impulses").json(&body));
        assert!(reply.is_success(), "{}", reply.body);
    };
    let mut first = Binding::started(&cluster, &ports);
    post(1);
    first.record();
    first.say(&fork(1, b"12:00:01"));
    // What it has said is recorded with the next input.
    for payload in 2..4 {
        post(payload);
        first.record();
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(first);

    let replica = || instance(&cluster, 0, "server").map(|state| state["replicas"][0].clone());
    let mut second = Binding::recovered(&cluster, &ports);
    second.say(&fork(1, b"12:34:56 and more"));
    cluster
        .wait_for("it is the primary", || replica().filter(|it| it["role"] == "PRIMARY").map(drop));
    drop(second);

    let mut third = Binding::recovered(&cluster, &ports);
    third.say(&fork(2, b"12:00:01"));
    std::thread::sleep(Duration::from_millis(300));
    // What was said is compared when the next input is done. Whether this one is, is not the point.
    let body = json!({ "method": 7, "payload": 4 });
    cluster.ask(0, &Ask::new("POST", "/core/immortals/server/impulses").json(&body));
    cluster.wait_for("it is fenced", || replica().filter(|it| it["role"] == "DIVERGED").map(drop));
    let why = replica().expect("it is there")["letGo"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("something else than was recorded"), "{why}");
    drop(third);

    let mut fourth = Binding::recovered(&cluster, &ports);
    fourth.say(&fork(2, b"12:00:01"));
    let shown =
        cluster.wait_for("it is let in again", || replica().filter(|it| it["role"] == "PRIMARY"));
    assert!(shown["overlooked"]["found"].is_string(), "{shown}");
    assert!(shown["diverged"].is_null() && shown["letGo"].is_null(), "{shown}");
}
