//! Who has subscribed is told of every change, whichever nodes die.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, uri};
use crate::http::Ask;

const EXAMPLES: &str = "/core/examples";

/// One notification.
#[derive(Clone, Debug)]
struct Notified {
    verb: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Notified {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn version(&self) -> u64 {
        self.body["documentVersion"].as_u64().unwrap_or_else(|| panic!("no version: {self:?}"))
    }
}

/// A server that takes note of all that comes.
struct Receiver {
    port: u16,
    all: Arc<Mutex<Vec<Notified>>>,
    /// It answers 500.
    refuses: Arc<AtomicBool>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let all: Arc<Mutex<Vec<Notified>>> = Arc::default();
        let refuses = Arc::new(AtomicBool::new(false));
        let (into, refused) = (Arc::clone(&all), Arc::clone(&refuses));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (into, refused) = (Arc::clone(&into), Arc::clone(&refused));
                std::thread::spawn(move || serve(socket, &into, &refused));
            }
        });
        Self { port, all, refuses }
    }

    fn reference(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn all(&self) -> Vec<Notified> {
        self.all.lock().expect("nobody panics with it").clone()
    }
}

fn serve(socket: TcpStream, into: &Mutex<Vec<Notified>>, refuses: &AtomicBool) {
    let mut answers = socket.try_clone().expect("a socket can be cloned");
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let status = if refuses.load(Ordering::Relaxed) { "500 No" } else { "200 OK" };
        if status == "200 OK" {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            into.lock().expect("nobody panics").push(Notified { verb, path, headers, body });
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn done(cluster: &Cluster, which: usize, ask: &Ask<'_>) -> Value {
    let reply = cluster.ask(which, ask);
    assert!(reply.is_success(), "{} {}", reply.status, reply.body);
    reply.body
}

fn subscribe(cluster: &Cluster, link: &str, body: &Value) -> String {
    let path = format!("{link}/subscriptions");
    let made = done(cluster, 0, &Ask::new("POST", &path).json(body));
    made["documentSelfLink"].as_str().expect("a link").to_owned()
}

/// Patches the document until it is told to stop.
fn write_on(ports: Vec<u16>, path: String, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let (body, key) = (json!({"counter": number}), format!("write-{number}"));
        let ask = Ask::new("PATCH", &path).json(&body).key(&key).within(Duration::from_secs(2));
        if ports.iter().any(|port| ask.send(*port).is_ok_and(|reply| reply.is_success())) {
            number += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Each version is there, and comes first after those before it.
fn is_in_order(all: &[Notified], newest: u64) {
    let mut next = 1;
    for notified in all {
        let version = notified.version();
        assert!(version <= next, "{version} came, and {next} was to come: {notified:?}");
        assert_eq!(notified.header("pragma"), "xn-nt", "nothing is missing");
        assert!(!notified.header("idempotency-key").is_empty());
        next = next.max(version + 1);
    }
    assert_eq!(next, newest + 1);
}

#[test]
fn a_subscriber_is_told_of_each_version_in_order_whoever_dies() {
    let mut cluster = Cluster::started(3);
    let receiver = Receiver::start();
    let link = format!("{EXAMPLES}/told");
    let make = json!({"documentSelfLink": "told", "name": "told"});
    done(&cluster, 0, &Ask::new("POST", EXAMPLES).json(&make));
    let subscription = subscribe(&cluster, &link, &json!({"reference": receiver.reference()}));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (ports, link, stop) = (cluster.ports(), link.clone(), Arc::clone(&stop));
        std::thread::spawn(move || write_on(ports, link, &stop))
    };
    for _ in 0..2 {
        let before = receiver.all().len();
        cluster
            .wait_for("some notifications", || (receiver.all().len() > before + 20).then_some(()));
        let asked = 0;
        let victim = cluster.wait_for("an owner", || cluster.owner_of(asked, &subscription));
        cluster.kill(victim);
        let before = receiver.all().len();
        cluster.wait_for("more of them", || (receiver.all().len() > before + 20).then_some(()));
        cluster.start(victim);
        cluster.wait_until_whole();
    }
    // Everybody at once: nobody has anything in memory.
    (0..3).for_each(|which| cluster.kill(which));
    (0..3).for_each(|which| cluster.start(which));
    cluster.wait_until_whole();
    let before = receiver.all().len();
    cluster.wait_for("more of them", || (receiver.all().len() > before + 20).then_some(()));
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends well");
    let newest = cluster.get(0, &link).version();
    cluster.wait_for("the last one", || {
        receiver.all().iter().any(|it| it.version() == newest).then_some(())
    });
    is_in_order(&receiver.all(), newest);
}

#[test]
fn what_happens_while_the_subscriber_and_then_all_nodes_are_away_is_told_afterwards() {
    let mut cluster = Cluster::started(3);
    let receiver = Receiver::start();
    let link = format!("{EXAMPLES}/away");
    let make = json!({"documentSelfLink": "away", "name": "away"});
    done(&cluster, 0, &Ask::new("POST", EXAMPLES).json(&make));
    // For all documents of the factory.
    let subscription = subscribe(&cluster, EXAMPLES, &json!({"reference": receiver.reference()}));
    receiver.refuses.store(true, Ordering::Relaxed);
    for counter in 0..30 {
        done(&cluster, 1, &Ask::new("PATCH", &link).json(&json!({"counter": counter})));
    }
    let failed = |cluster: &Cluster| {
        let shown = cluster.get(0, &subscription);
        shown.body["failedNotificationCount"].as_u64().filter(|count| *count > 2)
    };
    cluster.wait_for("failures that are shown", || failed(&cluster));
    let shown = cluster.get(1, &format!("{EXAMPLES}/subscriptions")).body;
    let one = &shown["subscribers"][receiver.reference()];
    assert!(one["lastFailure"].as_str().is_some_and(|why| why.contains("500")), "{shown}");
    (0..3).for_each(|which| cluster.kill(which));
    receiver.refuses.store(false, Ordering::Relaxed);
    (0..3).for_each(|which| cluster.start(which));
    cluster.wait_until_whole();
    cluster.wait_for("all of them", || (receiver.all().len() >= 30).then_some(()));
    is_in_order(&receiver.all(), 30);
    cluster.wait_for("that it is well again", || {
        let shown = cluster.get(0, &subscription).body;
        let count = shown["notificationCount"].as_u64().unwrap_or_default();
        (count >= 30 && shown["lastFailure"].is_null()).then_some(())
    });
    // It is ended, and told no more.
    let end = format!("{EXAMPLES}/subscriptions");
    let body = json!({"reference": receiver.reference()});
    done(&cluster, 2, &Ask::new("DELETE", &end).json(&body));
    assert_eq!(cluster.get(0, &end).body["subscribers"], json!({}));
    done(&cluster, 1, &Ask::new("PATCH", &link).json(&json!({"counter": 99})));
    std::thread::sleep(Duration::from_millis(500));
    assert!(receiver.all().iter().all(|it| it.body["counter"] != 99));
}

#[test]
fn the_verb_the_state_the_replay_and_the_limit_are_as_in_xenon() {
    let cluster = Cluster::started(1);
    let receiver = Receiver::start();
    let make = json!({"documentSelfLink": "x", "name": "x", "counter": 1});
    done(&cluster, 0, &Ask::new("POST", EXAMPLES).json(&make));
    let link = format!("{EXAMPLES}/x");
    let body =
        json!({"reference": receiver.reference(), "replayState": true, "notificationLimit": 4});
    let subscription = subscribe(&cluster, &link, &body);
    done(&cluster, 0, &Ask::new("PATCH", &link).json(&json!({"counter": 2})));
    done(&cluster, 0, &Ask::new("PUT", &link).json(&json!({"name": "y"})));
    done(&cluster, 0, &Ask::new("DELETE", &link));
    cluster.wait_for("four", || (receiver.all().len() >= 4).then_some(()));
    let all = receiver.all();
    let verbs: Vec<&str> = all.iter().map(|it| it.verb.as_str()).collect();
    assert_eq!(verbs, ["PUT", "PATCH", "PUT", "DELETE"]);
    assert_eq!(all[0].body["counter"], 1);
    assert_eq!(all[1].body["counter"], 2);
    assert_eq!(all[2].body["name"], "y");
    assert_eq!(all[3].body["documentUpdateAction"], "DELETE");
    assert_eq!(all[0].path, "/hook");
    assert_eq!(all[0].header("referer"), format!("{}{link}", uri(cluster.port(0))));
    cluster.wait_for("its end", || (cluster.get(0, &subscription).status == 404).then_some(()));
}

#[test]
fn a_query_that_goes_on_tells_what_matches_and_what_matches_no_more() {
    let mut cluster = Cluster::started(3);
    let receiver = Receiver::start();
    let spec = json!({"options": ["EXPAND_CONTENT", "CONTINUOUS", "CONTINUOUS_STOP_MATCH"],
        "query": {"term": {"propertyName": "name", "matchValue": "hot"}}});
    let task =
        done(&cluster, 0, &Ask::new("POST", "/core/query-tasks").json(&json!({"querySpec": spec})));
    let task = task["documentSelfLink"].as_str().expect("a link").to_owned();
    let subscription = subscribe(&cluster, &task, &json!({"reference": receiver.reference()}));
    for (name, body) in [("q1", json!({"name": "cold"})), ("q2", json!({"name": "hot"}))] {
        let mut body = body;
        body["documentSelfLink"] = name.into();
        done(&cluster, 1, &Ask::new("POST", EXAMPLES).json(&body));
    }
    let one = format!("{EXAMPLES}/q2");
    cluster.wait_for("the first", || (!receiver.all().is_empty()).then_some(()));
    let victim = cluster.wait_for("an owner", || cluster.owner_of(0, &subscription));
    cluster.kill(victim);
    let other = (victim + 1) % 3;
    cluster.wait_for("a write", || {
        let ask =
            Ask::new("PATCH", &one).json(&json!({"counter": 1})).key("k").send(cluster.port(other));
        ask.ok().filter(crate::http::Reply::is_success)
    });
    cluster.start(victim);
    cluster.wait_until_whole();
    done(&cluster, 0, &Ask::new("PATCH", &one).json(&json!({"name": "cold"})));
    let counts = |it: &Notified| {
        let counts = &it.body["results"]["continuousResults"];
        let of = |name: &str| counts[format!("documentCount{name}")].as_u64().unwrap_or_default();
        (of("Added"), of("Updated"), of("Deleted"))
    };
    let ends = |it: &Notified| counts(it).2 == 1;
    cluster.wait_for("the last", || receiver.all().iter().any(ends).then_some(()));
    let all = receiver.all();
    assert!(
        all.iter().all(|it| it.verb == "PATCH" && it.body["documentSelfLink"] == task.as_str())
    );
    assert!(all.iter().all(|it| it.body["results"]["documentLinks"] == json!([one])), "{all:?}");
    let mut seen: Vec<(u64, u64, u64)> = all.iter().map(counts).collect();
    seen.dedup();
    let expected = [(1, 0, 0), (0, 1, 0), (0, 0, 1)];
    // The new owner may have told some of it again.
    let mut firsts: Vec<(u64, u64, u64)> = Vec::new();
    seen.into_iter().for_each(|it| {
        if !firsts.contains(&it) {
            firsts.push(it);
        }
    });
    assert_eq!(firsts, expected, "{all:?}");
    assert_eq!(cluster.get(0, &task).body["taskInfo"]["stage"], "STARTED");
    let cancel = json!({"taskInfo": {"stage": "CANCELLED"}});
    done(&cluster, 0, &Ask::new("PATCH", &task).json(&cancel));
    cluster.wait_for("its end", || (cluster.get(0, &subscription).status == 404).then_some(()));
}

/// What matches already comes first, then what comes to match.
#[test]
fn what_a_query_finds_already_is_replayed() {
    let cluster = Cluster::started(1);
    let receiver = Receiver::start();
    let make = |name: &str, of: &str| {
        let body = json!({"documentSelfLink": name, "name": of});
        done(&cluster, 0, &Ask::new("POST", EXAMPLES).json(&body));
    };
    for (name, of) in [("r1", "hot"), ("r2", "cold"), ("r3", "hot")] {
        make(name, of);
    }
    let spec = json!({"options": ["EXPAND_SELECTED_FIELDS", "CONTINUOUS"],
        "selectTerms": [{"propertyName": "name"}],
        "query": {"term": {"propertyName": "name", "matchValue": "hot"}}});
    let task =
        done(&cluster, 0, &Ask::new("POST", "/core/query-tasks").json(&json!({"querySpec": spec})));
    let task = task["documentSelfLink"].as_str().expect("a link").to_owned();
    let subscriber = json!({"reference": receiver.reference(), "replayState": true});
    subscribe(&cluster, &task, &subscriber);
    let told = || {
        let links: std::collections::BTreeSet<String> = receiver
            .all()
            .iter()
            .filter_map(|it| it.body["results"]["documentLinks"][0].as_str().map(str::to_owned))
            .collect();
        links
    };
    let link = |name: &str| format!("{EXAMPLES}/{name}");
    let both = [link("r1"), link("r3")].into();
    cluster.wait_for("what is there", || (told() == both).then_some(()));
    make("r4", "hot");
    let all = [link("r1"), link("r3"), link("r4")].into();
    cluster.wait_for("what comes", || (told() == all).then_some(()));
    for it in receiver.all() {
        let results = &it.body["results"];
        let one = results["documentLinks"][0].as_str().expect("a link");
        assert_eq!(results["documents"][one]["name"], "hot", "{results}");
        assert!(results["documents"][one]["counter"].is_null(), "{results}");
        let is_new = one == link("r4");
        assert_eq!(results["continuousResults"]["documentCountAdded"], u64::from(is_new));
    }
}

#[test]
fn nobody_is_told_where_nobody_may_be_and_a_document_is_told_without_a_loop() {
    let cluster = Cluster::started(1);
    for name in ["a", "b", "c"] {
        let make = json!({"documentSelfLink": name, "name": name});
        done(&cluster, 0, &Ask::new("POST", EXAMPLES).json(&make));
    }
    let refused = |link: &str, reference: &str, named: &str| {
        let path = format!("{link}/subscriptions");
        let reply = cluster.ask(0, &Ask::new("POST", &path).json(&json!({"reference": reference})));
        let message = reply.body["message"].as_str().unwrap_or_default();
        assert!((400..500).contains(&reply.status) && message.contains(named), "{}", reply.body);
    };
    let (a, b) = (format!("{EXAMPLES}/a"), format!("{EXAMPLES}/b"));
    refused(&a, "http://169.254.169.254/latest", "--callback-allow");
    refused(&a, "https://127.0.0.1:9/x", "--callback-ca");
    refused(&a, "gopher://127.0.0.1/", "http://host:port");
    refused(&a, &a, "over and over");
    refused(EXAMPLES, &b, "over and over");
    refused(&a, EXAMPLES, "no document");
    refused("/core/examples/none", &b, "none");
    refused("/core/subscriptions", &b, "subscriptions");
    let forged = json!({"subscribedLink": a, "reference": b});
    let reply = cluster.ask(0, &Ask::new("POST", "/core/subscriptions").json(&forged));
    assert_eq!(reply.status, 403, "{}", reply.body);
    // By the address of the node, or by the link alone.
    let at_node = format!("{}{b}", uri(cluster.port(0)));
    subscribe(&cluster, &a, &json!({"reference": at_node}));
    done(&cluster, 0, &Ask::new("PATCH", &a).json(&json!({"counter": 5})));
    cluster.wait_for("the mirror", || (cluster.get(0, &b).body["counter"] == 5).then_some(()));
    let version = cluster.get(0, &b).version();
    assert_eq!(version, 1, "told once");
    let back = subscribe(&cluster, &b, &json!({"reference": a}));
    done(&cluster, 0, &Ask::new("PATCH", &b).json(&json!({"counter": 6})));
    cluster.wait_for("the loop that is named", || {
        let shown = cluster.get(0, &back).body;
        shown["lastFailure"].as_str().filter(|why| why.contains("loop")).map(str::to_owned)
    });
    assert_eq!(cluster.get(0, &a).body["counter"], 5);
}
