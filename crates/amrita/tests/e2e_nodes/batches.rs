//! Batches on real nodes: what they do, and that no atom is half done when owners are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::Ask;

const BATCH: &str = "/core/batch";
const PAIRS: usize = 4;
const CLIENTS: usize = 3;
const KILLS: usize = 8;

fn patch(pair: usize, side: &str, name: &str) -> Value {
    let path = format!("/core/examples/%7Bpair-{pair}%7D/{side}");
    json!({"method": "PATCH", "path": path, "body": {"name": name}})
}

#[test]
fn many_writes_are_one_request() {
    let cluster = Cluster::started(3);
    let post = |name: &str| {
        let body = json!({"documentSelfLink": name, "name": "a", "counter": 1});
        json!({"method": "POST", "path": "/core/examples", "body": body})
    };
    let batch = |requests: &[Value], atomic: &str| {
        let body = json!({"requests": requests, "atomic": atomic});
        cluster.ask(1, &Ask::new("POST", BATCH).json(&body))
    };
    let made = batch(&[post("{k}/a"), post("{k}/b")], "all");
    assert_eq!(made.status, 200, "{}", made.body);
    let etag = made.body["requests"][0]["etag"].as_str().unwrap().to_owned();
    for which in 0..3 {
        // In a URI braces are to be encoded; many clients send them as they are.
        for link in ["/core/examples/%7Bk%7D/a", "/core/examples/{k}/b"] {
            assert_eq!(cluster.get(which, link).status, 200, "{link}");
        }
    }
    let change = |side: &str, etag: &str| {
        json!({"method": "PATCH", "path": format!("/core/examples/{{k}}/{side}"),
            "body": {"counter": 2}, "ifMatch": etag})
    };
    let refused = batch(&[change("b", "*"), change("a", "\"1.9.9\"")], "partition");
    assert_eq!(refused.status, 412, "{}", refused.body);
    assert_eq!(refused.body["request"], 1);
    assert_eq!(refused.body["requests"][0]["error"]["code"], "BATCH_FAILED");
    assert_eq!(cluster.get(0, "/core/examples/{k}/b").body["counter"], 1);
    let changed = batch(&[change("b", "*"), change("a", &etag)], "all");
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.body["requests"][1]["body"]["documentVersion"], 1);
    // A list, a query and a watch find them as any other.
    let list = cluster.get(2, "/core/examples?$filter=counter%20eq%202");
    assert_eq!(list.body["documentCount"], 2, "{}", list.body);
    let apart = batch(&[post("x1"), post("x2"), post("x3"), post("x4"), post("x5")], "all");
    assert_eq!(apart.status, 409, "{}", apart.body);
    let many: Vec<Value> = (0..1_000).map(|number| post(&format!("m{number}"))).collect();
    let many = batch(&many, "partition");
    assert_eq!((many.status, many.body["outcome"].as_str()), (200, Some("applied")));
    let count = cluster.get(0, "/core/examples?$count=true");
    assert_eq!(count.body["documentCount"], 1_002, "{}", count.body);
    // What is over the limits is refused by name, and nothing of it is done.
    let short = r#"{"method":"POST","path":"/core/examples","body":{"name":"0123456789"}}"#;
    for (count, named) in [(10_001, "10000"), (150_000, "8388608")] {
        let body = format!("{{\"requests\":[{}]}}", vec![short; count].join(","));
        let reply = cluster.ask(0, &Ask::new("POST", BATCH).raw(body.as_bytes()));
        assert_eq!(reply.status, 413, "{}", reply.body);
        assert!(reply.message().contains(named), "{}", reply.body);
    }
    let count = cluster.get(0, "/core/examples?$count=true");
    assert_eq!(count.body["documentCount"], 1_002, "{}", count.body);
}

/// Each batch changes both documents of two pairs. It is sent again, under its key, until all of it
/// is applied.
struct Client {
    ports: Vec<u16>,
    name: usize,
}

impl Client {
    fn run(self, stop: &AtomicBool) -> Result<Vec<usize>, String> {
        let mut done = vec![0; PAIRS];
        let mut at = self.name;
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let name = format!("client-{}-{number}", self.name);
            let pairs = [number % PAIRS, (number + 1 + self.name % (PAIRS - 1)) % PAIRS];
            let requests: Vec<Value> = pairs
                .into_iter()
                .flat_map(|pair| ["left", "right"].map(|side| patch(pair, side, &name)))
                .collect();
            let ask = Ask::new("POST", BATCH).json(&json!({"requests": requests})).key(&name);
            let began = Instant::now();
            loop {
                let why = match ask.send(self.ports[at % self.ports.len()]) {
                    Ok(reply) if reply.status == 200 => break,
                    Ok(reply) if reply.status < 500 && reply.status != 207 => {
                        return Err(format!("{name}: {} {}", reply.status, reply.body));
                    }
                    Ok(reply) => reply.body.to_string(),
                    Err(why) => why,
                };
                if began.elapsed() > Duration::from_secs(30) {
                    return Err(format!("{name} is not done; the last: {why}"));
                }
                at += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            pairs.iter().for_each(|pair| done[*pair] += 1);
            number += 1;
        }
        Ok(done)
    }
}

#[test]
fn no_atom_is_half_done_and_no_batch_is_done_twice_when_owners_are_killed() {
    let mut cluster = Cluster::started(3);
    let post = |pair: usize, side: &str| {
        let body = json!({"documentSelfLink": format!("{{pair-{pair}}}/{side}"), "name": "new"});
        json!({"method": "POST", "path": "/core/examples", "body": body})
    };
    let all: Vec<Value> =
        (0..PAIRS).flat_map(|pair| ["left", "right"].map(|side| post(pair, side))).collect();
    let made = cluster.ask(0, &Ask::new("POST", BATCH).json(&json!({"requests": all})));
    assert_eq!(made.status, 200, "{}", made.body);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<JoinHandle<Result<Vec<usize>, String>>> = (0..CLIENTS)
        .map(|name| {
            let (stop, ports) = (Arc::clone(&stop), cluster.ports());
            std::thread::spawn(move || Client { ports, name }.run(&stop))
        })
        .collect();
    for number in 0..KILLS {
        std::thread::sleep(Duration::from_millis(150 + (number as u64 * 37) % 200));
        let link = format!("/core/examples/{{pair-{}}}/left", number % PAIRS);
        let asked = number % cluster.len();
        let owner = cluster.wait_for("an owner to kill", || cluster.owner_of(asked, &link));
        cluster.kill(owner);
        std::thread::sleep(Duration::from_millis(50 + (number as u64 * 53) % 300));
        cluster.start(owner);
        cluster.wait_until_whole();
    }
    stop.store(true, Ordering::Relaxed);
    let mut done = vec![0_usize; PAIRS];
    for client in clients {
        let one = client.join().expect("a client does not panic").expect("its batches are done");
        done.iter_mut().zip(one).for_each(|(all, one)| *all += one);
    }
    assert!(done.iter().sum::<usize>() > KILLS, "too little load to say anything: {done:?}");
    for (pair, done) in done.iter().enumerate() {
        let get = |side: &str, query: &str| {
            cluster.get(1, &format!("/core/examples/%7Bpair-{pair}%7D/{side}{query}")).body
        };
        let (left, right) = (get("left", ""), get("right", ""));
        // Nothing but batches writes them: each one made one version of both.
        assert_eq!(left["documentVersion"], *done, "{left}");
        assert_eq!(right["documentVersion"], *done, "{right}");
        for version in done.saturating_sub(4)..=*done {
            let query = format!("?documentVersion={version}");
            assert_eq!(get("left", &query)["name"], get("right", &query)["name"], "{version}");
        }
    }
}
