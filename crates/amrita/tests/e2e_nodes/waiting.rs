//! A destination that is away slows nobody else, however much waits for it, and gets all of it when
//! it is there.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use protocol::immortal::{Message, ToNode, blocks, messages, put_message};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::Ask;
use crate::native::Native;
use crate::programs::{instance, register, wait_until_moved, wait_until_served};

/// More than is kept in memory, in messages of a MiB each.
const MESSAGES: u64 = 100;

/// The numbers in the payloads of the messages in a DELIVER.
fn numbers(bytes: &Bytes) -> Vec<u64> {
    let all = blocks(bytes.clone()).flatten();
    let all = all.flat_map(|block| messages(block.messages).flatten());
    let payloads = all.filter_map(|message| match message {
        Message::Fork { payload, .. } | Message::Impulse { payload, .. } => Some(payload),
        _ => None,
    });
    let number = |payload: Bytes| {
        std::str::from_utf8(&payload[..payload.len().min(8)]).ok()?.trim().parse().ok()
    };
    payloads.filter_map(number).collect()
}

fn send(to: &str, number: u64, bytes: usize) -> ToNode {
    let mut payload = format!("{number:8}").into_bytes();
    payload.resize(bytes.max(8), b'.');
    let mut all = Vec::new();
    put_message(&mut all, &Message::Fork { method: 1, payload: payload.into() });
    ToNode::Send { destination: to.into(), count: 1, messages: all.into() }
}

/// Lives on that node, from the time when the node has heard of the instance.
fn serve_inputs(
    sandbox: &Path,
    name: &'static str,
    mut say: impl FnMut(u64) -> Vec<ToNode> + Send + 'static,
) {
    let sandbox = sandbox.to_owned();
    std::thread::spawn(move || {
        loop {
            let code = Native::attach(&sandbox, name, 0).live_and_say(|bytes| {
                numbers(bytes).into_iter().flat_map(&mut say).collect::<Vec<_>>()
            });
            if code.is_none() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// For each number that it is given it sends much to one that is away and little to one that is
/// near.
fn source(sandbox: &Path) {
    serve_inputs(sandbox, "source", |number| {
        vec![send("away", number, 1 << 20), send("near", number, 8)]
    });
}

/// It tells what it gets.
fn listener(sandbox: &Path, name: &'static str) -> Receiver<u64> {
    let (heard, hears) = channel();
    serve_inputs(sandbox, name, move |number| {
        // The test may have ended.
        heard.send(number).unwrap_or_default();
        Vec::new()
    });
    hears
}

fn push(cluster: &Cluster, asked: usize, number: u64) {
    let impulse = json!({ "method": 1, "payload": number });
    let reply =
        cluster.ask(asked, &Ask::new("POST", "/core/immortals/source/impulses").json(&impulse));
    assert!(reply.is_success(), "{}", reply.message());
}

fn output(state: &Value, to: &str, field: &str) -> Option<u64> {
    let outputs = state["outputs"].as_array()?;
    outputs.iter().find(|output| output["to"] == to)?[field].as_u64()
}

fn all(hears: &Receiver<u64>, cluster: &Cluster) -> Vec<u64> {
    let mut got = Vec::new();
    while got.len() < usize::try_from(MESSAGES).expect("a hundred") {
        got.push(cluster.wait_for("the next message", || hears.try_recv().ok()));
    }
    got
}

#[test]
fn what_waits_for_a_destination_is_on_disk_and_holds_up_nobody_else() {
    let mut cluster = Cluster::started(3);
    register(&cluster, "source", &json!({ "logTriggerBytes": 2_000 }));
    (0..3).for_each(|which| source(&cluster.member(which).sandbox));
    let owner = wait_until_served(&cluster, 0, "source", 2);
    let other = (owner + 1) % 3;
    let there = json!({ "replicas": [cluster.member(other).id] });
    register(&cluster, "near", &there);
    let near = listener(&cluster.member(other).sandbox, "near");
    let in_order: Vec<u64> = (1..=MESSAGES).collect();
    in_order.iter().for_each(|number| push(&cluster, owner, *number));
    assert_eq!(all(&near, &cluster), in_order);
    let state = cluster.wait_for("much to be on disk, and nothing to wait for 'near'", || {
        let state = instance(&cluster, owner, "source")?;
        let confirmed = output(&state, "near", "confirmed")? == MESSAGES;
        (confirmed && output(&state, "away", "onDiskBytes")? > MESSAGES << 18).then_some(state)
    });
    assert!(output(&state, "away", "keptBytes") >= Some(MESSAGES << 20), "{state}");
    assert_eq!(state["waitsFor"], json!([]));
    // The next owner has it, too, also what was said before the last checkpoint.
    let node = cluster.member(owner).id.clone();
    cluster.wait_for("a checkpoint to be there", || {
        let state = instance(&cluster, owner, "source")?;
        let mut replicas = state["replicas"].as_array()?.iter();
        let here = replicas.find(|replica| replica["node"] == node)?;
        (here["checkpoint"]["input"].as_u64()? > 0).then_some(())
    });
    cluster.kill(owner);
    wait_until_moved(&cluster, other, "source", Some(owner), 1);
    let made = cluster.ask(
        other,
        &Ask::new("POST", "/core/immortals").json(&json!({
            "name": "away", "replicas": [cluster.member(other).id],
        })),
    );
    assert!(made.is_success(), "{}", made.message());
    let away = listener(&cluster.member(other).sandbox, "away");
    assert_eq!(all(&away, &cluster), in_order);
    let state = cluster.wait_for("all to be confirmed", || {
        let state = instance(&cluster, other, "source")?;
        (output(&state, "away", "keptBytes")? == 0).then_some(state)
    });
    assert_eq!(output(&state, "away", "confirmed"), Some(MESSAGES), "{state}");
    assert!(away.try_recv().is_err(), "nothing comes twice");
}
