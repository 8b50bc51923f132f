//! Readers of changes: nothing is missing and nothing comes twice, whichever nodes die.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, uri};
use crate::http::Ask;

const EXAMPLES: &str = "/core/examples";
const DOCUMENTS: usize = 8;

/// What a reader was told: of each document the versions, in order.
#[derive(Default)]
struct Told(BTreeMap<String, Vec<u64>>);

impl Told {
    fn take(&mut self, change: &Value) {
        let link = change["link"].as_str().expect("a link").to_owned();
        assert_eq!(change["document"]["documentVersion"], change["version"], "{change}");
        self.0.entry(link).or_default().push(change["version"].as_u64().expect("a version"));
    }

    /// Each version once and in order, up to the newest.
    fn is_everything_of(&self, cluster: &Cluster) {
        for number in 0..DOCUMENTS {
            let link = format!("{EXAMPLES}/w{number}");
            let newest = cluster.wait_for("a document", || {
                let reply = cluster.get(0, &link);
                reply.is_success().then(|| reply.version())
            });
            let told = self.0.get(&link).map(Vec::as_slice).unwrap_or_default();
            let all: Vec<u64> = (0..=newest).collect();
            assert_eq!(told, all, "{link}");
        }
    }
}

fn token_of(cluster: &Cluster) -> String {
    let reply = cluster.get(0, &format!("{EXAMPLES}?watch=true"));
    reply.body["token"].as_str().expect("a token").to_owned()
}

/// Writes to its documents through whichever node answers, until it is told to stop.
fn write_on(ports: Vec<u16>, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let (document, round) = (number % DOCUMENTS, number / DOCUMENTS);
        let (name, path) = (format!("w{document}"), format!("{EXAMPLES}/w{document}"));
        let body = json!({"documentSelfLink": name, "name": name, "counter": round});
        let key = format!("write-{number}");
        let ask = match round {
            0 => Ask::new("POST", EXAMPLES),
            _ => Ask::new("PATCH", &path),
        };
        let ask = ask.json(&body).key(&key).within(Duration::from_secs(2));
        let done = ports.iter().any(|port| ask.send(*port).is_ok_and(|reply| reply.is_success()));
        if done {
            number += 1;
        }
    }
}

/// Asks for what comes after the token, at some node that still knows it.
fn poll(cluster: &Cluster, first: usize, token: &str) -> Option<Value> {
    let path = format!("{EXAMPLES}?watch=true&wait=1&after={token}");
    (0..cluster.len()).find_map(|offset| {
        let port = cluster.port((first + offset) % cluster.len());
        let reply = Ask::get(&path).within(Duration::from_secs(5)).send(port).ok()?;
        assert!([200, 410, 503].contains(&reply.status), "{} {}", reply.status, reply.body);
        reply.is_success().then_some(reply.body)
    })
}

#[test]
fn a_reader_that_goes_from_node_to_node_is_told_each_version_once_whoever_dies() {
    let mut cluster = Cluster::started(3);
    let mut token = token_of(&cluster);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (ports, stop) = (cluster.ports(), Arc::clone(&stop));
        std::thread::spawn(move || write_on(ports, &stop))
    };
    let (mut told, mut rounds) = (Told::default(), 0);
    let mut take = |cluster: &Cluster, told: &mut Told| {
        rounds += 1;
        let Some(body) = poll(cluster, rounds, &token) else { return 0 };
        let changes = body["changes"].as_array().expect("changes");
        changes.iter().for_each(|change| told.take(change));
        body["token"].as_str().expect("a token").clone_into(&mut token);
        changes.len()
    };
    for victim in [0, 1, 2, 0] {
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            take(&cluster, &mut told);
        }
        cluster.kill(victim);
        for _ in 0..20 {
            take(&cluster, &mut told);
        }
        cluster.start(victim);
        cluster.wait_until_whole();
    }
    // What is written now is in no node's memory when it is asked for.
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends well");
    (0..3).for_each(|node| cluster.kill(node));
    cluster.start_all();
    cluster.wait_until_whole();
    let mut quiet = 0;
    while quiet < 2 * cluster.len() {
        quiet = if take(&cluster, &mut told) == 0 { quiet + 1 } else { 0 };
    }
    told.is_everything_of(&cluster);
}

/// A stream of events, as a browser holds one.
struct Events {
    lines: std::io::Lines<BufReader<TcpStream>>,
    last_id: String,
}

impl Events {
    fn of(port: u16, path: &str, last_id: &str) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the node listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let id = if last_id.is_empty() {
            String::new()
        } else {
            format!("Last-Event-ID: {last_id}\r\n")
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{id}\r\n"
        );
        socket.write_all(head.as_bytes()).expect("the request is sent");
        let mut lines = BufReader::new(socket).lines();
        let first = lines.next().expect("an answer").expect("it can be read");
        assert_eq!(first, "HTTP/1.1 200 OK");
        let head: Vec<String> =
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        assert!(head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
        Self { lines, last_id: last_id.to_owned() }
    }

    /// Reads up to the next event with data.
    fn next(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("the stream goes on").expect("it can be read");
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.last_id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("each event is JSON");
            }
        }
    }

    /// Reads up to the first id, so that the stream has begun.
    fn begin(&mut self) {
        while self.last_id.is_empty() {
            let line = self.lines.next().expect("the stream goes on").expect("it can be read");
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.last_id);
            }
        }
    }
}

#[test]
fn events_go_on_at_another_node_with_the_last_id() {
    let cluster = Cluster::started(3);
    let write = |which: usize, ask: &Ask<'_>| {
        let reply = cluster.ask(which, ask);
        assert!(reply.is_success(), "{} {}", reply.status, reply.body);
    };
    let watch = format!("{EXAMPLES}?watch=true&$filter=name%20eq%20in&before=true");
    let mut events = Events::of(cluster.port(0), &watch, "");
    events.begin();
    let one = format!("{EXAMPLES}/e");
    let make = json!({"documentSelfLink": "e", "name": "out"});
    write(1, &Ask::new("POST", EXAMPLES).json(&make));
    write(2, &Ask::new("PATCH", &one).json(&json!({"name": "in"})));
    write(0, &Ask::new("PATCH", &one).json(&json!({"counter": 7})));
    let first = events.next();
    assert_eq!((&first["version"], &first["isMatch"]), (&json!(1), &json!(true)), "{first}");
    assert_eq!(
        (&first["before"]["name"], &first["document"]["name"]),
        (&json!("out"), &json!("in"))
    );
    let id = events.last_id.clone();
    drop(events);
    // The next version has happened meanwhile; it comes first, and once.
    let mut events = Events::of(cluster.port(1), &watch, &id);
    let second = events.next();
    assert_eq!((&second["version"], &second["document"]["counter"]), (&json!(2), &json!(7)));
    write(2, &Ask::new("PUT", &one).json(&json!({"name": "out"})));
    let left = events.next();
    assert_eq!((&left["version"], &left["isMatch"]), (&json!(3), &json!(false)), "{left}");
    write(2, &Ask::new("DELETE", &one));
    let again = json!({"documentSelfLink": "e2", "name": "in"});
    write(0, &Ask::new("POST", EXAMPLES).json(&again));
    // What neither met the filter before nor meets it now is not told.
    let other = events.next();
    assert_eq!(other["link"], format!("{EXAMPLES}/e2"));
}

#[test]
fn the_command_line_shows_changes_and_ends_when_it_has_seen_enough() {
    let cluster = Cluster::started(3);
    let token = token_of(&cluster);
    for name in ["a", "b"] {
        let body = json!({"documentSelfLink": name, "name": name});
        assert!(cluster.ask(0, &Ask::new("POST", EXAMPLES).json(&body)).is_success());
    }
    let watch = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(["--address", &uri(cluster.port(2)), "watch"])
            .args(arguments)
            .output()
            .expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, _) =
        watch(&["--after", &token, "--count", "2", "--json", "--prefix", EXAMPLES]);
    assert_eq!(code, Some(0));
    let changes: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let mut links: Vec<&str> =
        changes.iter().map(|change| change["link"].as_str().unwrap()).collect();
    links.sort_unstable();
    assert_eq!(links, ["/core/examples/a", "/core/examples/b"]);
    let (code, out, _) = watch(&["/core/examples/b", "--after", &token, "--count", "1"]);
    assert_eq!(
        (code, out.as_str().starts_with("POST   /core/examples/b v0")),
        (Some(0), true),
        "{out}"
    );
    let (code, _, why) = watch(&["--after", "nonsense"]);
    assert!(code == Some(1) && why.contains("no token of changes"), "{code:?} {why}");
    let (code, _, why) = watch(&["--filter", "counter gt"]);
    assert!(code == Some(1) && why.contains("$filter is wrong"), "{code:?} {why}");
}
