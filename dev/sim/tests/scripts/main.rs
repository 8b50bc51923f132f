//! Courses of events that the simulation found, each written down as what happens in it, without
//! the seed.

mod stage;

use protocol::{Method, Request};
use random::Random;
use serde_json::{Value, json};
use stage::Stage;

const GROUP: &str = "/core/node-groups/default";
const MANAGEMENT: &str = "/core/management";

/// All nodes run, have formed a cluster, and every partition has an owner.
fn formed(nodes: usize) -> Stage {
    let mut stage = Stage::new(nodes);
    (0..nodes).for_each(|number| stage.start(number));
    stage.until("the cluster has formed", |stage| (0..nodes).all(|n| is_whole(stage, n, nodes)));
    stage
}

fn is_whole(stage: &mut Stage, number: usize, nodes: usize) -> bool {
    let group = stage.look(number, GROUP);
    let owned = |owners: &Vec<Value>| !owners.is_empty() && owners.iter().all(Value::is_string);
    group["partitionOwners"].as_array().is_some_and(owned)
        && group["nodes"].as_object().is_some_and(|all| all.len() == nodes)
}

fn replica_id(stage: &mut Stage, number: usize) -> Value {
    stage.look(number, MANAGEMENT)["replicaId"].clone()
}

fn number_of(name: &Value) -> usize {
    match name.as_str() {
        Some("n1") => 0,
        Some("n2") => 1,
        Some("n3") => 2,
        other => panic!("a node called {other:?}"),
    }
}

/// A document whose partition that node owns, made already.
fn document_of(stage: &mut Stage, owner: usize) -> String {
    for name in 0..100 {
        let link = format!("/core/examples/d{name}");
        let key = json!({ "key": link });
        let select = Request::new(Method::Post, "/core/node-selectors/default").with_json(&key);
        let ticket = stage.ask(owner, select);
        let owned = stage.answer(owner, ticket).expect("it is answered at once").to_json();
        if owned["isLocalHostOwner"] == true {
            let body = json!({ "documentSelfLink": link, "name": "x" });
            let post = Request::new(Method::Post, "/core/examples").with_json(&body);
            let ticket = stage.ask(owner, post);
            stage.until("it is made", |stage| stage.answer(owner, ticket).is_some());
            assert_eq!(stage.answer(owner, ticket).map(|answer| answer.status), Some(200));
            return link;
        }
    }
    panic!("node {owner} owns nothing");
}

fn patch(link: &str, body: &Value) -> Request {
    Request::new(Method::Patch, link).with_json(body)
}

/// How many partitions each node owns, the fewest first; those without an owner are not counted.
fn spread(stage: &mut Stage, asked: usize) -> Vec<usize> {
    let group = stage.look(asked, GROUP);
    let owners = group["partitionOwners"].as_array().expect("a list");
    let count =
        |name: &String| owners.iter().filter(|owner| owner.as_str() == Some(name.as_str())).count();
    let nodes = group["nodes"].as_object().into_iter().flatten();
    let mut counts: Vec<usize> = nodes.map(|(name, _)| count(name)).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn owners_are_spread_evenly_also_when_a_node_leaves_and_comes_back() {
    for lost in 0..3 {
        let mut stage = formed(3);
        let asked = (lost + 1) % 3;
        stage.until("three share", |stage| spread(stage, asked) == [1, 1, 2]);
        stage.kill(lost);
        stage.until("the two share", |stage| spread(stage, asked) == [0, 2, 2]);
        stage.start(lost);
        stage.until("three share again", |stage| spread(stage, asked) == [1, 1, 2]);
    }
}

#[test]
fn a_raised_quorum_counts_for_an_owner_that_has_not_heard_of_it() {
    let mut stage = formed(3);
    let directory = number_of(&stage.look(0, GROUP)["documentOwner"]);
    let (owner, third) = ((directory + 1) % 3, (directory + 2) % 3);
    let link = document_of(&mut stage, owner);

    stage.hold(directory, owner);
    let raise = patch(GROUP, &json!({ "kind": "UpdateQuorumRequest", "membershipQuorum": 3 }));
    let raised = stage.ask(third, raise);
    stage.run(20);
    assert_eq!(stage.answer(third, raised).map(|answer| answer.status), Some(200));
    assert_eq!(stage.look(owner, GROUP)["membershipQuorum"], 2, "it has not heard of it");

    let written = stage.ask(owner, patch(&link, &json!({ "name": "y" })));
    stage.run(100);
    assert!(stage.answer(owner, written).is_none(), "two nodes hold it, and three must");

    stage.let_go(directory, owner);
    stage.run(50);
    assert_eq!(stage.answer(owner, written).map(|answer| answer.status), Some(200));
    assert_eq!(stage.look(owner, GROUP)["membershipQuorum"], 3);
}

#[test]
fn a_lowered_quorum_counts_at_once() {
    let mut stage = formed(3);
    let set = |number| {
        patch(GROUP, &json!({ "kind": "UpdateQuorumRequest", "membershipQuorum": number }))
    };
    let directory = number_of(&stage.look(0, GROUP)["documentOwner"]);
    stage.ask(directory, set(3));
    stage.run(20);
    let dead = (directory + 1) % 3;
    stage.kill(dead);
    stage.until("the others go on", |stage| {
        let group = stage.look(directory, GROUP);
        let owners = group["partitionOwners"].as_array().expect("a list");
        owners.iter().all(|owner| owner.is_string() && number_of(owner) != dead)
    });
    let link = "/core/examples/one";
    let body = json!({ "documentSelfLink": link, "name": "x" });
    let post = || Request::new(Method::Post, "/core/examples").with_json(&body);
    let refused = stage.ask(directory, post());
    assert_eq!(stage.answer(directory, refused).map(|answer| answer.status), Some(503));
    let lowered = stage.ask(directory, set(2));
    assert_eq!(stage.answer(directory, lowered).map(|answer| answer.status), Some(200));
    let taken = stage.ask(directory, post());
    assert_eq!(stage.answer(directory, taken).map(|answer| answer.status), Some(200));
}

#[test]
fn ten_thousand_writes_of_one_document_at_once_are_done_or_refused_and_none_is_forgotten() {
    for through in 0..2 {
        let mut stage = formed(3);
        let link = document_of(&mut stage, 0);
        let writes = (0..10_000).map(|n| patch(&link, &json!({ "counter": n }))).collect();
        let tickets = stage.ask_all(through, writes);
        stage.run(1_000);
        let mut done = 0;
        for ticket in tickets {
            let answer = stage.answer(through, ticket).expect("every request is answered");
            let body = answer.to_json();
            match answer.status {
                200 => done += 1,
                503 => {
                    assert_eq!(
                        (&body["code"], &body["outcome"]),
                        (&json!("BUSY"), &json!("notApplied"))
                    );
                    assert!(answer.retry_after_seconds.is_some(), "{body}");
                }
                other => panic!("{other}: {body}"),
            }
        }
        assert!((1_000..2_000).contains(&done), "{done} were done");
        let ticket = stage.ask(0, Request::new(Method::Get, link.as_str()));
        let document = stage.answer(0, ticket).expect("it is answered").to_json();
        assert_eq!(document["documentVersion"], done, "each counts once");
    }
}

#[test]
fn a_local_read_says_how_far_behind_it_may_be() {
    let mut stage = formed(3);
    let link = document_of(&mut stage, 0);
    let behind = |stage: &mut Stage, number: usize| {
        let mut get = Request::new(Method::Get, link.as_str());
        get.query = "consistency=local".into();
        let ticket = stage.ask(number, get);
        let answer = stage.answer(number, ticket).expect("it is answered at once");
        (answer.behind.expect("it says so"), answer.to_json()["name"].clone())
    };
    stage.run(200);
    let (level, _) = behind(&mut stage, 1);
    assert_eq!(level.entries, 0);
    assert!(level.millis.is_some_and(|millis| millis <= 110), "{level}");
    assert_eq!(behind(&mut stage, 0).0.to_string(), "entries=0, ms=0");

    stage.hold(0, 1);
    let written = stage.ask(0, patch(&link, &json!({ "name": "y" })));
    stage.run(150);
    assert_eq!(stage.answer(0, written).map(|answer| answer.status), Some(200));
    let (late, name) = behind(&mut stage, 1);
    assert!(late.millis.is_some_and(|millis| millis >= 150), "{late}");
    assert_eq!(name, "x", "it is as old as it says");
    stage.let_go(0, 1);
    stage.run(110);
    assert_eq!(behind(&mut stage, 1).1, "y");
}

#[test]
fn founders_that_have_not_seen_each_other_are_founders_all_the_same() {
    let mut stage = Stage::new(3);
    stage.hold(1, 2);
    (0..3).for_each(|number| stage.start(number));
    let bound = |stage: &mut Stage| (0..3).all(|number| !replica_id(stage, number).is_null());
    stage.until("the one that sees both tells them who they are", bound);
    stage.let_go(1, 2);
    stage.until("all are in", |stage| (0..3).all(|number| is_whole(stage, number, 3)));
    for number in 0..3 {
        assert_eq!(replica_id(&mut stage, number), number + 1);
    }
}

#[test]
fn nothing_is_served_while_a_founder_could_still_begin_another_cluster() {
    let mut stage = Stage::new(3);
    // They hear the third, and it hears nothing.
    stage.hold_one_way(0, 2);
    stage.hold_one_way(1, 2);
    (0..3).for_each(|number| stage.start(number));
    let begun = |stage: &mut Stage| (0..2).all(|number| !replica_id(stage, number).is_null());
    stage.until("two know who they are", begun);
    stage.run(1_000);
    assert!(replica_id(&mut stage, 2).is_null());
    assert_eq!(stage.look(0, GROUP)["nodes"], json!({}), "the third does not belong to it yet");

    // It loses its disk, and comes as a newcomer into what the others have begun.
    stage.wipe(2);
    stage.let_go(0, 2);
    stage.let_go(1, 2);
    stage.start(2);
    stage.until("all are in", |stage| (0..3).all(|number| is_whole(stage, number, 3)));
    let ids: Vec<Value> = (0..3).map(|number| replica_id(&mut stage, number)).collect();
    assert_eq!(ids, [1, 2, 4]);
    assert!((0..3).all(|number| stage.why_halted(number).is_none()));
}

#[test]
fn who_a_node_is_survives_a_kill_and_a_loss_of_power_after_it() {
    for seed in 1..20 {
        let mut random = Random::new(seed, "power");
        let mut stage = formed(1);
        // It is killed before anything of its state was made durable by the system.
        stage.kill(0);
        stage.start(0);
        assert!(stage.is_settled(0), "it acts in the name of something that may be lost");
        stage.run(20);
        stage.lose_power(0, &mut random);
        stage.start(0);
        stage.until("it is back", |stage| is_whole(stage, 0, 1));
        assert_eq!(replica_id(&mut stage, 0), 1);
    }
}
