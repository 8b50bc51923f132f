//! Courses of events that the simulation found, each written down as what happens in it, without
//! the seed.

mod away;
mod copy;
mod members;
mod program;
mod quiet;
mod served;
mod setup;
mod stuck;

use protocol::{GroupId, Method, Request};
use random::Random;
use serde_json::{Value, json};
use setup::Setup;

const GROUP: &str = "/core/node-groups/default";
const MANAGEMENT: &str = "/core/management";

/// All nodes run, have formed a cluster, and every partition has an owner.
fn formed(nodes: usize) -> Setup {
    let mut setup = Setup::new(nodes);
    (0..nodes).for_each(|number| setup.start(number));
    setup.until("the cluster has formed", |setup| (0..nodes).all(|n| is_whole(setup, n, nodes)));
    setup
}

fn is_whole(setup: &mut Setup, number: usize, nodes: usize) -> bool {
    let group = setup.look(number, GROUP);
    let owned = |owners: &Vec<Value>| !owners.is_empty() && owners.iter().all(Value::is_string);
    group["partitionOwners"].as_array().is_some_and(owned)
        && group["nodes"].as_object().is_some_and(|all| all.len() == nodes)
}

fn replica_id(setup: &mut Setup, number: usize) -> Value {
    setup.look(number, MANAGEMENT)["replicaId"].clone()
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
fn document_of(setup: &mut Setup, owner: usize) -> String {
    for name in 0..100 {
        let link = format!("/core/examples/d{name}");
        let key = json!({ "key": link });
        let select = Request::new(Method::Post, "/core/node-selectors/default").with_json(&key);
        let ticket = setup.ask(owner, select);
        let owned = setup.answer(owner, ticket).expect("it is answered at once").to_json();
        if owned["isLocalHostOwner"] == true {
            let body = json!({ "documentSelfLink": link, "name": "x" });
            let post = Request::new(Method::Post, "/core/examples").with_json(&body);
            let ticket = setup.ask(owner, post);
            setup.until("it is made", |setup| setup.answer(owner, ticket).is_some());
            assert_eq!(setup.answer(owner, ticket).map(|answer| answer.status), Some(200));
            return link;
        }
    }
    panic!("node {owner} owns nothing");
}

fn patch(link: &str, body: &Value) -> Request {
    Request::new(Method::Patch, link).with_json(body)
}

/// How many partitions each node owns, the fewest first; those without an owner are not counted.
fn spread(setup: &mut Setup, asked: usize) -> Vec<usize> {
    let group = setup.look(asked, GROUP);
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
        let mut setup = formed(3);
        let asked = (lost + 1) % 3;
        setup.until("three share", |setup| spread(setup, asked) == [1, 1, 2]);
        setup.kill(lost);
        setup.until("the two share", |setup| spread(setup, asked) == [0, 2, 2]);
        setup.start(lost);
        setup.until("three share again", |setup| spread(setup, asked) == [1, 1, 2]);
    }
}

#[test]
fn a_raised_quorum_counts_for_an_owner_that_has_not_heard_of_it() {
    let mut setup = formed(3);
    let directory = number_of(&setup.look(0, GROUP)["documentOwner"]);
    let (owner, third) = ((directory + 1) % 3, (directory + 2) % 3);
    let link = document_of(&mut setup, owner);

    setup.hold(directory, owner);
    let raise = patch(GROUP, &json!({ "kind": "UpdateQuorumRequest", "membershipQuorum": 3 }));
    let raised = setup.ask(third, raise);
    setup.run(20);
    assert_eq!(setup.answer(third, raised).map(|answer| answer.status), Some(200));
    assert_eq!(setup.look(owner, GROUP)["membershipQuorum"], 2, "it has not heard of it");

    let written = setup.ask(owner, patch(&link, &json!({ "name": "y" })));
    setup.run(100);
    assert!(setup.answer(owner, written).is_none(), "two nodes hold it, and three must");

    setup.let_go(directory, owner);
    setup.run(50);
    assert_eq!(setup.answer(owner, written).map(|answer| answer.status), Some(200));
    assert_eq!(setup.look(owner, GROUP)["membershipQuorum"], 3);
}

#[test]
fn a_lowered_quorum_counts_at_once() {
    let mut setup = formed(3);
    let set = |number| {
        patch(GROUP, &json!({ "kind": "UpdateQuorumRequest", "membershipQuorum": number }))
    };
    let directory = number_of(&setup.look(0, GROUP)["documentOwner"]);
    setup.ask(directory, set(3));
    setup.run(20);
    let dead = (directory + 1) % 3;
    setup.kill(dead);
    setup.until("the others go on", |setup| {
        let group = setup.look(directory, GROUP);
        let owners = group["partitionOwners"].as_array().expect("a list");
        owners.iter().all(|owner| owner.is_string() && number_of(owner) != dead)
    });
    let link = "/core/examples/one";
    let body = json!({ "documentSelfLink": link, "name": "x" });
    let post = || Request::new(Method::Post, "/core/examples").with_json(&body);
    let refused = setup.ask(directory, post());
    assert_eq!(setup.answer(directory, refused).map(|answer| answer.status), Some(503));
    let lowered = setup.ask(directory, set(2));
    assert_eq!(setup.answer(directory, lowered).map(|answer| answer.status), Some(200));
    let taken = setup.ask(directory, post());
    assert_eq!(setup.answer(directory, taken).map(|answer| answer.status), Some(200));
}

#[test]
fn ten_thousand_writes_of_one_document_at_once_are_done_or_refused_and_none_is_forgotten() {
    for through in 0..2 {
        let mut setup = formed(3);
        let link = document_of(&mut setup, 0);
        let writes = (0..10_000).map(|n| patch(&link, &json!({ "counter": n }))).collect();
        let tickets = setup.ask_all(through, writes);
        setup.run(1_000);
        let mut done = 0;
        for ticket in tickets {
            let answer = setup.answer(through, ticket).expect("every request is answered");
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
        let ticket = setup.ask(0, Request::new(Method::Get, link.as_str()));
        let document = setup.answer(0, ticket).expect("it is answered").to_json();
        assert_eq!(document["documentVersion"], done, "each counts once");
    }
}

#[test]
fn a_local_read_says_how_far_behind_it_may_be() {
    let mut setup = formed(3);
    let link = document_of(&mut setup, 0);
    let behind = |setup: &mut Setup, number: usize| {
        let mut get = Request::new(Method::Get, link.as_str());
        get.query = "consistency=local".into();
        let ticket = setup.ask(number, get);
        let answer = setup.answer(number, ticket).expect("it is answered at once");
        (answer.behind.expect("it says so"), answer.to_json()["name"].clone())
    };
    setup.run(200);
    let (level, _) = behind(&mut setup, 1);
    assert_eq!(level.entries, 0);
    assert!(level.millis.is_some_and(|millis| millis <= 110), "{level}");
    assert_eq!(behind(&mut setup, 0).0.to_string(), "entries=0, ms=0");

    setup.hold(0, 1);
    let written = setup.ask(0, patch(&link, &json!({ "name": "y" })));
    setup.run(150);
    assert_eq!(setup.answer(0, written).map(|answer| answer.status), Some(200));
    let (late, name) = behind(&mut setup, 1);
    assert!(late.millis.is_some_and(|millis| millis >= 150), "{late}");
    assert_eq!(name, "x", "it is as old as it says");
    setup.let_go(0, 1);
    setup.run(110);
    assert_eq!(behind(&mut setup, 1).1, "y");
}

#[test]
fn founders_that_have_not_seen_each_other_are_founders_all_the_same() {
    let mut setup = Setup::new(3);
    setup.hold(1, 2);
    (0..3).for_each(|number| setup.start(number));
    let bound = |setup: &mut Setup| (0..3).all(|number| !replica_id(setup, number).is_null());
    setup.until("the one that sees both tells them who they are", bound);
    setup.let_go(1, 2);
    setup.until("all are in", |setup| (0..3).all(|number| is_whole(setup, number, 3)));
    for number in 0..3 {
        assert_eq!(replica_id(&mut setup, number), number + 1);
    }
}

#[test]
fn nothing_is_served_while_a_founder_could_still_begin_another_cluster() {
    let mut setup = Setup::new(3);
    // They hear the third, and it hears nothing.
    setup.hold_one_way(0, 2);
    setup.hold_one_way(1, 2);
    (0..3).for_each(|number| setup.start(number));
    let begun = |setup: &mut Setup| (0..2).all(|number| !replica_id(setup, number).is_null());
    setup.until("two know who they are", begun);
    setup.run(1_000);
    assert!(replica_id(&mut setup, 2).is_null());
    assert_eq!(setup.look(0, GROUP)["nodes"], json!({}), "the third does not belong to it yet");

    // It loses its disk, and comes as a newcomer into what the others have begun.
    setup.wipe(2);
    setup.let_go(0, 2);
    setup.let_go(1, 2);
    setup.start(2);
    setup.until("all are in", |setup| (0..3).all(|number| is_whole(setup, number, 3)));
    let ids: Vec<Value> = (0..3).map(|number| replica_id(&mut setup, number)).collect();
    assert_eq!(ids, [1, 2, 4]);
    assert!((0..3).all(|number| setup.why_halted(number).is_none()));
}

#[test]
fn an_owner_whose_clock_is_ahead_ends_nothing_before_it_has_heard_the_others() {
    const HOUR_MICROS: u64 = 3_600_000_000;
    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    let directory = number_of(&setup.look(0, GROUP)["documentOwner"]);
    let (ahead, third) = ((directory + 1) % 3, (directory + 2) % 3);
    let link = document_of(&mut setup, ahead);
    let until = setup::WALL_AT_START + HOUR_MICROS;
    let put = || {
        let body = json!({ "name": "y", "documentExpirationTimeMicros": until });
        let put = Request::new(Method::Put, link.as_str()).with_json(&body);
        Request { idempotency_key: Some("once".into()), ..put }
    };
    assert_eq!(answered(&mut setup, third, put()), Some(200));
    setup.run(1_000);
    (0..3).for_each(|number| setup.kill(number));
    setup.set_ahead(ahead, 26 * HOUR_MICROS / 1_000);
    (0..3).for_each(|number| setup.start(number));
    // Who is to own the directory hears what one of the others remembers of it later: all nodes
    // give signs of life when that group has an owner.
    setup.set_slow(true);
    setup.run(20);
    setup.hold_one_way(third, directory);
    setup.set_slow(false);
    setup.run(200);
    setup.let_go(third, directory);
    setup.until("all are back", |setup| (0..3).all(|number| is_whole(setup, number, 3)));
    setup.run(1_000);
    assert_eq!(answered(&mut setup, third, put()), Some(200));
    let read = setup.ask(third, Request::new(Method::Get, link.as_str()));
    setup.run(20);
    let document = setup.answer(third, read).expect("it is answered").to_json();
    assert_eq!(document["documentVersion"], 1, "the retry was done again: {document}");
}

#[test]
fn who_a_node_is_survives_a_kill_and_a_loss_of_power_after_it() {
    for seed in 1..20 {
        let mut random = Random::new(seed, "power");
        let mut setup = formed(1);
        // It is killed before anything of its state was made durable by the system.
        setup.kill(0);
        setup.start(0);
        assert!(setup.is_settled(0), "it acts in the name of something that may be lost");
        setup.run(20);
        setup.lose_power(0, &mut random);
        setup.start(0);
        setup.until("it is back", |setup| is_whole(setup, 0, 1));
        assert_eq!(replica_id(&mut setup, 0), 1);
    }
}

/// With time between the writes, so that every node remembers what the others have.
fn write_thrice(setup: &mut Setup, link: &str) {
    for _ in 0..3 {
        assert_eq!(answered(setup, 0, patch(link, &json!({ "name": "y" }))), Some(200));
        setup.run(1_000);
    }
}

#[test]
fn a_sandbox_that_a_person_trusts_is_trusted_by_those_who_were_away_as_well() {
    let mut setup = formed(3);
    let link = document_of(&mut setup, 0);
    setup.kill(1);
    setup.take_snapshot(1);
    setup.start(1);
    write_thrice(&mut setup, &link);
    // n3 remembers what n2 had, and n1 is told to forget it.
    setup.kill(2);
    setup.kill(1);
    setup.set_back(1);
    setup.start_trusted(1);
    setup.run(2_000);
    assert_eq!(answered(&mut setup, 0, patch(&link, &json!({ "name": "z" }))), Some(200));
    setup.kill(1);
    setup.start(1);
    setup.start(2);
    setup.until("all are back", |setup| (0..3).all(|number| is_whole(setup, number, 3)));
    setup.run(1_000);
    assert_eq!(setup.why_halted(1), None);
    // Of what came after that it may forget nothing.
    setup.kill(1);
    setup.take_snapshot(1);
    setup.start(1);
    write_thrice(&mut setup, &link);
    setup.kill(1);
    setup.set_back(1);
    setup.start(1);
    setup.until("it is told", |setup| setup.why_halted(1).is_some());
}

#[test]
fn a_node_that_was_set_back_waits_for_one_that_is_reached_slowly_and_knows_better() {
    let mut setup = formed(3);
    let link = document_of(&mut setup, 0);
    setup.kill(2);
    setup.kill(1);
    setup.take_snapshot(1);
    setup.start(1);
    setup.run(2_000);
    assert_eq!(answered(&mut setup, 0, patch(&link, &json!({ "name": "y" }))), Some(200));
    setup.run(500);
    setup.kill(1);
    setup.set_back(1);
    // It takes a while until anything comes from n1, the only one that has the write.
    setup.hold(0, 1);
    setup.hold(0, 2);
    setup.start(1);
    setup.start(2);
    setup.run(600);
    let read = setup.ask(2, Request::new(Method::Get, link.as_str()));
    setup.run(600);
    let read = setup.answer(2, read).map(|answer| (answer.status, answer.to_json()));
    assert!(read.as_ref().is_none_or(|(status, _)| *status == 503), "{read:?}");
    setup.let_go(0, 1);
    setup.let_go(0, 2);
    setup.until("it is told", |setup| setup.why_halted(1).is_some());
}

/// What a node answers in the end.
fn answered(setup: &mut Setup, number: usize, request: Request) -> Option<u16> {
    let ticket = setup.ask(number, request);
    setup.until("it is answered", |setup| setup.answer(number, ticket).is_some());
    setup.answer(number, ticket).map(|answer| answer.status)
}

/// An instance with one replica, on the first node.
fn registered(setup: &mut Setup) {
    let one = json!({ "name": "one", "replicas": ["n1"] });
    let register = Request::new(Method::Post, "/core/immortals").with_json(&one);
    assert_eq!(answered(setup, 0, register), Some(200));
}

#[test]
fn an_instance_leaves_its_only_node_also_when_nobody_else_is_a_voter_so_far() {
    let mut setup = formed(3);
    registered(&mut setup);
    setup.run(500);
    for change in [json!({ "addReplica": { "node": "n3" } }), json!({ "removeReplica": "n1" })] {
        assert_eq!(answered(&mut setup, 1, patch("/core/immortals/one", &change)), Some(200));
    }
    setup.until("the new replica is the owner", |setup| {
        setup.look(2, "/core/immortals/one")["owner"] == "n3"
    });
}

#[test]
fn an_owner_that_pauses_for_a_moment_stays_the_owner_if_nobody_else_has_a_program() {
    let mut setup = formed(3);
    let one = json!({ "name": "one", "replicas": ["n1", "n2", "n3"] });
    let register = Request::new(Method::Post, "/core/immortals").with_json(&one);
    assert_eq!(answered(&mut setup, 0, register), Some(200));
    setup.attach(0, "one");
    let owner =
        |setup: &mut Setup, at: usize| setup.look(at, "/core/immortals/one")["owner"].clone();
    setup.until("the owner is where the program is", |setup| owner(setup, 1) == "n1");
    setup.run(1_000);
    setup.freeze(0);
    setup.run(900);
    setup.thaw(0);
    setup.run(1_500);
    assert_eq!((owner(&mut setup, 0), owner(&mut setup, 1)), (json!("n1"), json!("n1")));
    // When it is gone for good, another one takes its place all the same.
    setup.kill(0);
    setup.until("there is another owner", |setup| owner(setup, 1) != "n1");
    setup.run(4_000);
    assert!(owner(&mut setup, 1).is_string());
}

#[test]
fn a_node_with_a_full_disk_hands_over_as_soon_as_somebody_can_take_its_groups() {
    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    // The one that is told last has nobody who could take what it owns.
    [1, 2, 0].into_iter().for_each(|number| setup.set_full(number, true));
    setup.run(500);
    (1..3).for_each(|number| setup.set_full(number, false));
    setup.until("the two others own everything", |setup| {
        let owners = setup.look(1, GROUP)["partitionOwners"].clone();
        owners.as_array().expect("a list").iter().all(|it| it == "n2" || it == "n3")
    });
}

#[test]
fn an_owner_whose_clock_is_off_keeps_an_instance_that_nobody_else_has_a_program_of() {
    let mut setup = formed(3);
    let one = json!({ "name": "one", "replicas": ["n1", "n2", "n3"] });
    let register = Request::new(Method::Post, "/core/immortals").with_json(&one);
    assert_eq!(answered(&mut setup, 0, register), Some(200));
    setup.attach(0, "one");
    let owner = |setup: &mut Setup| setup.look(1, "/core/immortals/one")["owner"].clone();
    setup.until("the owner is where the program is", |setup| owner(setup) == "n1");
    setup.run(1_000);
    setup.set_ahead(0, 10_000);
    for _ in 0..300 {
        setup.run(10);
        assert_eq!(owner(&mut setup), "n1");
    }
    setup.attach(1, "one");
    setup.until("it goes to the other program", |setup| owner(setup) == "n2");
}

#[test]
fn who_owns_an_instance_is_known_everywhere_also_when_its_settings_have_changed() {
    let mut setup = formed(3);
    registered(&mut setup);
    setup.attach(0, "one");
    setup.run(1_000);
    let impulse = || {
        let body = json!({ "method": 1, "payload": "x" });
        Request::new(Method::Post, "/core/immortals/one/impulses").with_json(&body)
    };
    assert_eq!(answered(&mut setup, 1, impulse()), Some(200));
    let change = patch("/core/immortals/one", &json!({ "logTriggerBytes": 1_000 }));
    assert_eq!(answered(&mut setup, 2, change), Some(200));
    setup.run(1_000);
    assert_eq!(answered(&mut setup, 1, impulse()), Some(200));
}

/// A slow disk: the directory's owner says that it is done before the node that was asked has
/// applied it.
#[test]
fn a_node_knows_what_it_has_confirmed() {
    let mut setup = formed(3);
    for asked in 0..3 {
        setup.slow_down(asked);
        for number in 0..5 {
            let name = format!("i-{asked}-{number}");
            let body = json!({ "name": name, "replicas": 1 });
            let post = Request::new(Method::Post, "/core/immortals").with_json(&body);
            assert_eq!(answered(&mut setup, asked, post), Some(200));
            let link = format!("/core/immortals/{name}");
            let change = patch(&link, &json!({ "logTriggerBytes": 1_000 }));
            assert_eq!(answered(&mut setup, asked, change), Some(200), "{name}");
        }
        setup.speed_up(asked);
    }
}

/// The names of the owners of all partitions, in order.
fn owners(setup: &mut Setup, asked: usize) -> Vec<Value> {
    setup.look(asked, GROUP)["partitionOwners"].as_array().expect("a list").clone()
}

/// A node that owns one partition only, that partition, and its place in the list of owners.
fn owner_of_one(setup: &mut Setup) -> (usize, GroupId, usize) {
    let owners = owners(setup, 0);
    let is_only = |name: &Value| owners.iter().filter(|it| *it == name).count() == 1;
    let index = owners.iter().position(is_only).expect("three nodes share four partitions");
    let group = GroupId(u32::try_from(index).expect("there are few") + 1);
    (number_of(&owners[index]), group, index)
}

#[test]
fn an_owner_whose_state_is_wrong_gets_its_group_back_when_the_state_is_filled() {
    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    let (wrong, group, index) = owner_of_one(&mut setup);
    let asked = (wrong + 1) % 3;
    let link = document_of(&mut setup, wrong);
    let local = || Request::get(&format!("{link}?consistency=local"));
    setup.set_slow(true);
    setup.alter(wrong, group);
    let mut seen = vec![owners(&mut setup, asked)[index].clone()];
    let mut refused = 0;
    for _ in 0..3_000 {
        setup.run(10);
        let owner = owners(&mut setup, asked)[index].clone();
        if owner.is_string() && Some(&owner) != seen.last() {
            seen.push(owner);
        }
        let is_aside = setup.put_aside.len() > setup.filled.len();
        if is_aside && answered(&mut setup, wrong, local()) == Some(503) {
            refused += 1;
        }
    }
    assert_eq!(setup.put_aside, [(wrong, group)]);
    assert_eq!(setup.filled, [(wrong, group)]);
    assert_eq!(seen.len(), 3, "to another node and back, and no more: {seen:?}");
    assert_eq!(seen[0], seen[2]);
    assert!(refused > 0, "nobody is shown the wrong state");
}

/// What the owner says to the replica is lost when that one starts again.
#[test]
fn a_wrong_state_that_is_forgotten_by_a_restart_is_found_again_soon() {
    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    let owner = number_of(&owners(&mut setup, 0)[0]);
    let (wrong, group) = ((owner + 1) % 3, GroupId(1));
    setup.alter(wrong, group);
    setup.set_slow(true);
    for _ in 0..2_000 {
        if !setup.put_aside.is_empty() {
            break;
        }
        setup.run(10);
    }
    setup.kill(wrong);
    setup.run(100);
    setup.start(wrong);
    setup.run(60_000);
    assert_eq!(setup.put_aside, [(wrong, group), (wrong, group)]);
    assert_eq!(setup.filled, [(wrong, group)]);
}
