//! A node that was away for a while: it gets what it lacks from the logs, as long as they are kept,
//! and else the states.

use node::TailLimits;
use protocol::{Method, Request};
use serde_json::json;

use crate::setup::Setup;
use crate::{GROUP, patch};

const DOCUMENTS: usize = 20;

fn link(number: usize) -> String {
    format!("/core/examples/a{number}")
}

/// All documents are made.
fn filled(tail: TailLimits) -> Setup {
    let mut setup = Setup::new(3);
    setup.tail = tail;
    (0..3).for_each(|number| setup.start(number));
    settled(&mut setup);
    let posts = (0..DOCUMENTS).map(|number| {
        let body = json!({ "documentSelfLink": link(number), "name": "before" });
        Request::new(Method::Post, "/core/examples").with_json(&body)
    });
    let tickets = setup.ask_all(0, posts.collect());
    setup.until("all are made", |setup| {
        tickets.iter().all(|ticket| setup.answer(0, *ticket).is_some())
    });
    setup
}

/// All three see each other, and every partition has an owner.
fn settled(setup: &mut Setup) {
    setup.until("the cluster has settled", |setup| {
        (0..3).all(|number| {
            let group = setup.look(number, GROUP);
            let nodes = group["nodes"].as_object().cloned().unwrap_or_default();
            let owners = group["partitionOwners"].as_array().cloned().unwrap_or_default();
            nodes.values().filter(|node| node["status"] == "AVAILABLE").count() == 3
                && owners.iter().all(|owner| owner.is_string())
        })
    });
}

/// Time goes by, and each second one of the documents is changed. The last names are told.
fn writes_go_on(setup: &mut Setup, at: usize, seconds: usize) -> Vec<String> {
    let mut names = vec!["before".to_owned(); DOCUMENTS];
    for second in 0..seconds {
        let (number, name) = (second % DOCUMENTS, format!("at {second}"));
        let ticket = setup.ask(at, patch(&link(number), &json!({ "name": name })));
        setup.run(1_000);
        setup.until("it is written", |setup| setup.answer(at, ticket).is_some());
        assert_eq!(setup.answer(at, ticket).map(|answer| answer.status), Some(200));
        names[number] = name;
    }
    names
}

/// That node has the documents under these names, as it says by itself.
fn has(setup: &mut Setup, number: usize, names: &[String]) {
    setup.until("it has them", |setup| {
        (0..DOCUMENTS).all(|n| {
            let target = format!("{}?consistency=local", link(n));
            let ticket = setup.ask(number, Request::get(&target));
            let answer = setup.answer(number, ticket);
            answer.is_some_and(|answer| answer.to_json()["name"] == names[n].as_str())
        })
    });
}

#[test]
fn a_node_that_was_away_gets_the_log_and_not_the_state() {
    for seconds in [10, 60] {
        let mut setup = filled(TailLimits::default());
        setup.kill(2);
        let names = writes_go_on(&mut setup, 0, seconds);
        setup.start(2);
        has(&mut setup, 2, &names);
        settled(&mut setup);
        assert_eq!(setup.snapshots, [], "after {seconds} s");
    }
}

/// What the test above would see if the logs were not kept, or the limits were not obeyed.
#[test]
fn a_node_that_was_away_gets_the_state_where_no_log_is_kept() {
    let mut setup = filled(TailLimits { bytes_max: 0, micros_min: 0 });
    setup.kill(2);
    let names = writes_go_on(&mut setup, 0, 60);
    setup.start(2);
    has(&mut setup, 2, &names);
    let groups = setup.snapshots.iter().filter(|(to, group, _)| *to == 2 && group.is_partition());
    assert!(groups.count() >= 4, "{:?}", setup.snapshots);
}

#[test]
fn where_there_is_little_room_nothing_is_kept() {
    let mut setup = filled(TailLimits::default());
    setup.kill(2);
    let names = writes_go_on(&mut setup, 0, 60);
    setup.set_room_low(0, true);
    setup.set_room_low(1, true);
    setup.start(2);
    has(&mut setup, 2, &names);
    assert!(setup.snapshots.len() >= 4, "{:?}", setup.snapshots);
}

/// Two minutes later than that is kept for those who are there, it is back, and the owners do not
/// reach it. Another node becomes the owner before it has what it lacks.
#[test]
fn a_log_is_kept_until_who_was_away_is_level() {
    let mut setup = filled(TailLimits::default());
    for number in [1, 2] {
        let body = json!({ "isDrained": true });
        setup.ask(0, patch(&format!("{GROUP}/n{}", number + 1), &body));
    }
    setup.until("the first owns all", |setup| {
        let group = setup.look(0, GROUP);
        let owners = group["partitionOwners"].as_array().expect("a list").clone();
        owners.iter().all(|owner| *owner == "n1")
    });
    setup.kill(2);
    let names = writes_go_on(&mut setup, 0, 20);
    setup.run(120_000);
    setup.hold(0, 2);
    setup.start(2);
    // Logs are cut meanwhile.
    setup.run(25_000);
    setup.kill(0);
    has(&mut setup, 2, &names);
    assert_eq!(setup.snapshots, []);
}
