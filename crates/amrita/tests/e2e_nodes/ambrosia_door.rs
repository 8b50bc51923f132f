//! What AMBROSIA's real bindings depend on at its door, said byte by byte to a real node.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, free_ports};
use crate::http::Ask;
use crate::programs::{amrita, instance, register};

/// What the C# binding says at its first start, after the request for a checkpoint.
pub(crate) const HELLO: &[u8] = b"\x0e\x09\x0ahello";

pub(crate) const TAKE_CHECKPOINT: &[u8] = b"\x02\x02";
pub(crate) const TAKE_BECOMING_PRIMARY_CHECKPOINT: &[u8] = b"\x02\x0b";

/// No message of AMBROSIA's.
const END: &[u8] = b"\x02\xff";

pub(crate) struct Binding {
    read_half: TcpStream,
    write_half: TcpStream,
}

impl Binding {
    pub(crate) fn connected(cluster: &Cluster, ports: &[u16]) -> Self {
        let connect = |port: u16| {
            let socket =
                cluster.wait_for("a port", || TcpStream::connect(("127.0.0.1", port)).ok());
            socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time can be set");
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

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.read_half.write_all(bytes).expect("the node listens");
    }

    /// The messages of the next record.
    pub(crate) fn record(&mut self) -> Vec<u8> {
        let mut head = [0; 24];
        self.write_half.read_exact(&mut head).expect("a record comes");
        let size = i32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        self.raw(usize::try_from(size).expect("a size") - head.len())
    }

    /// The same; None when the node has ended the connection.
    pub(crate) fn record_or_end(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 24];
        self.write_half.read_exact(&mut head).ok()?;
        let size = i32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        let mut messages = vec![0; usize::try_from(size).expect("a size") - head.len()];
        self.write_half.read_exact(&mut messages).ok()?;
        (messages != END).then_some(messages)
    }

    /// Whether something comes, or the connection ends, before this time is over.
    pub(crate) fn is_spoken_to(&self, within: Duration) -> bool {
        let wait = |time| self.write_half.set_read_timeout(Some(time)).expect("a time can be set");
        wait(within);
        let peeked = self.write_half.peek(&mut [0; 1]);
        wait(Duration::from_secs(60));
        let is_late = |error: &std::io::Error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        };
        !peeked.is_err_and(|error| is_late(&error))
    }

    /// Bytes without a head, as those of a state that is loaded.
    pub(crate) fn raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.write_half.read_exact(&mut bytes).expect("all of it comes");
        bytes
    }

    fn hears_nothing_for(&mut self, time: Duration) {
        self.write_half.set_read_timeout(Some(time)).expect("a time can be set");
        let heard = self.write_half.read(&mut [0; 1]).expect_err("nothing is said");
        assert!(matches!(heard.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{heard}");
        self.write_half.set_read_timeout(Some(Duration::from_secs(20))).expect("a time can be set");
    }
}

/// A number as AMBROSIA writes those that are never negative.
pub(crate) fn number(number: usize) -> Vec<u8> {
    let (mut rest, mut bytes) = (number * 2, Vec::new());
    while rest > 0x7f {
        bytes.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).expect("seven bits"));
    bytes
}

pub(crate) fn message(kind: u8, data: &[u8]) -> Vec<u8> {
    [&number(data.len() + 1)[..], &[kind], data].concat()
}

pub(crate) fn checkpoint(state: &[u8]) -> Vec<u8> {
    [message(8, &number(state.len())), state.to_vec()].concat()
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
    let state = instance(&cluster, 0, "server").expect("it is registered");
    let let_go = &state["replicas"][0]["letGo"];
    assert_eq!(let_go["code"], "BAD_FRAME", "{let_go}");
    assert!(let_go["text"].as_str().is_some_and(|text| text.contains("type 99")), "{let_go}");
    let shown = amrita(&cluster, &["immortal", "show", "server"]).said;
    assert!(shown.contains("BAD_FRAME") && shown.contains("type 99"), "{shown}");
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
    let erased =
        cluster.ask(0, &Ask::new("DELETE", "/core/ambrosia/cra/AmbrosiaBinaries/server-server0"));
    assert!(erased.is_success(), "{}", erased.body);
    cluster.wait_for("its end", || {
        (cluster.get(0, "/core/immortals/server").status == 404).then_some(())
    });
}
