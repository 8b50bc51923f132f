//! AMBROSIA's words for registrations, its upgrades, and its long messages, with real nodes.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::ambrosia_door::{
    Binding, HELLO, TAKE_BECOMING_PRIMARY_CHECKPOINT, TAKE_CHECKPOINT, checkpoint, message, number,
};
use crate::cluster::{Cluster, free_ports};
use crate::programs::{amrita, instance, register};

const UPGRADE_TAKE_CHECKPOINT: &[u8] = b"\x02\x0a";

fn done(cluster: &Cluster, words: &[&str]) -> String {
    let all: Vec<&str> = ["immortal"].iter().chain(words).copied().collect();
    let ended = amrita(cluster, &all);
    assert!(ended.status.success(), "{words:?}: {}", ended.said);
    ended.said
}

/// All Linux scripts of AMBROSIA's write it like this, and start the program in the next line.
#[test]
fn a_program_may_be_started_as_soon_as_it_is_registered() {
    let cluster = Cluster::started(3);
    for turn in 0..3 {
        let ports = free_ports(2);
        let (name, receive, send) =
            (format!("server{turn}"), ports[0].to_string(), ports[1].to_string());
        let words =
            ["register", "-i", &name, "--rp", &receive, "--sp", &send, "-l", "/ambrosia_logs/"];
        let said = done(&cluster, &words);
        assert!(said.contains("'-l' is left away"), "{said}");
        TcpStream::connect(("127.0.0.1", ports[0])).expect("the port is open");
    }
}

fn version_at(cluster: &Cluster, which: usize) -> (Option<String>, Option<String>) {
    let blob = cluster.get(which, "/core/ambrosia/cra/AmbrosiaBinaries/server-server0");
    let text = blob.body.as_str().unwrap_or_default().to_owned();
    let (_, rest) = text.split_once("<currentVersion>").unwrap_or_default();
    let in_blob = rest.split_once('<').map(|(version, _)| version.to_owned());
    let filter = "%24filter=(PartitionKey%20eq%20%27(Default)%27)%20and%20(RowKey%20eq%20%27\
                  CurrentVersion%27)&%24select=value";
    let rows = cluster.get(which, &format!("/core/ambrosia/server?{filter}")).body;
    (in_blob, rows["value"][0]["value"].as_str().map(str::to_owned))
}

/// The JavaScript binding looks for the version in two places, and registers once more after an
/// upgrade.
#[test]
fn after_an_upgrade_the_new_version_is_where_a_binding_looks_for_it() {
    let cluster = Cluster::started(2);
    let ports = free_ports(2);
    let (receive, send) = (format!("-rp={}", ports[0]), format!("-sp={}", ports[1]));
    let again = |versions: [&str; 2]| {
        done(&cluster, &["register", "-i=server", &receive, &send, versions[0], versions[1]])
    };
    done(&cluster, &["register", "-i=server", &receive, &send, "--replicas", "n1", "-cv=0"]);
    let mut binding = Binding::connected(&cluster, &ports);
    assert_eq!(binding.record(), TAKE_BECOMING_PRIMARY_CHECKPOINT);
    binding.say(&[HELLO, &checkpoint(b"old")].concat());
    assert_eq!(binding.record(), HELLO);
    drop(binding);

    let said = again(["-cv=0", "-uv=1"]);
    assert!(said.contains("upgradeVersion is 1"), "{said}");
    let mut binding = Binding::connected(&cluster, &ports);
    binding.record();
    binding.raw(3);
    while binding.record() != UPGRADE_TAKE_CHECKPOINT {}
    binding.say(&checkpoint(b"new"));
    let new = || (Some("1".to_owned()), Some("1".to_owned()));
    assert_eq!(binding.record(), TAKE_CHECKPOINT, "the state of the new version is kept");
    binding.say(&checkpoint(b"new"));
    for which in 0..2 {
        cluster
            .wait_for("the new version", || (version_at(&cluster, which) == new()).then_some(()));
    }
    cluster.wait_for("the checkpoint of the new version", || {
        let state = instance(&cluster, 0, "server")?;
        (state["replicas"][0]["checkpoint"]["input"] == 2).then_some(())
    });
    drop(binding);

    let said = again(["-cv=1", "-uv=1"]);
    assert!(said.contains("as it was"), "{said}");
    let ended = amrita(&cluster, &["immortal", "register", "-i=server", &receive, &send, "-cv=7"]);
    assert!(!ended.status.success() && ended.said.contains("at version 1"), "{}", ended.said);
    let mut binding = Binding::connected(&cluster, &ports);
    binding.record();
    assert_eq!(binding.raw(3), b"new");
}

const LONG: usize = 64 << 20;

/// How long a long message may take, on a busy machine with a slow disk.
const HEARD_MAX: Duration = Duration::from_secs(240);

/// A program that is started again when it is let go: on a slow machine another node may become the
/// owner while so much is on its way.
struct Restarted<'a> {
    cluster: &'a Cluster,
    ports: &'a [u16],
    binding: Binding,
    state_bytes: usize,
    /// What it says when it is told its own initial message.
    says: Vec<u8>,
}

impl Restarted<'_> {
    fn started(mut self, state: &[u8]) -> Self {
        assert_eq!(self.binding.record(), TAKE_BECOMING_PRIMARY_CHECKPOINT);
        self.binding.say(&[HELLO, &checkpoint(state)].concat());
        self
    }

    /// Takes the next record, and gives it back if it is a long message.
    fn take(&mut self) -> Option<Vec<u8>> {
        match self.binding.record_or_end() {
            None => self.binding = Binding::connected(self.cluster, self.ports),
            Some(record) if record == HELLO => {
                let says = self.says.clone();
                self.binding.say(&says);
            }
            Some(record) if record.len() < 20 && record[1] == 8 => {
                self.binding.raw(self.state_bytes);
            }
            Some(record) if record.len() > LONG => return Some(record),
            Some(_) => {}
        }
        None
    }

    /// Reads on until that long message comes.
    fn hears(&mut self, fill: u8) {
        let begun = Instant::now();
        let is_it = |record: Vec<u8>| record.ends_with(&vec![fill; LONG]);
        while !self.take().is_some_and(is_it) {
            assert!(begun.elapsed() < HEARD_MAX, "the message of {fill} does not come");
        }
    }

    /// Goes on with whatever comes until that is over.
    fn lives(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            if self.binding.is_spoken_to(Duration::from_millis(200)) {
                self.take();
            }
        }
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn long_fork(to: &str, fill: u8) -> Vec<u8> {
    let head = [&number(to.len())[..], to.as_bytes(), &[0, 2, 1]].concat();
    message(0, &[head, vec![fill; LONG]].concat())
}

/// AMBROSIA's own tests send such messages, and have such states.
#[test]
fn long_messages_and_long_first_states_pass() {
    let cluster = Cluster::started(3);
    let (server_ports, client_ports) = (free_ports(2), free_ports(2));
    for (name, ports, nodes) in [
        ("server", &server_ports, ["n1", "n2", "n3"]),
        ("client", &client_ports, ["n2", "n3", "n1"]),
    ] {
        let body = json!({ "replicas": nodes, "receivePort": ports[0], "sendPort": ports[1],
                           "logTriggerBytes": 0 });
        register(&cluster, name, &body);
    }
    let program = |ports, state_bytes, says| {
        let binding = Binding::connected(&cluster, ports);
        Restarted { cluster: &cluster, ports, binding, state_bytes, says }
    };
    let state = vec![7; 100 << 20];
    let mut server = program(&server_ports, state.len(), Vec::new()).started(&state);
    let says = [long_fork("server", 1), long_fork("server", 2), long_fork("", 3)].concat();
    let mut client = program(&client_ports, 5, says).started(b"short");
    client.hears(3);
    // It lives on: if it is let go now, what it has said comes only when it is there again.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| client.lives(&is_over));
        // Also when the server does not hear it.
        let _at_the_end = Over(&is_over);
        server.hears(1);
        server.hears(2);
    });
}
