//! Nodes that ask to come in, and nodes that are removed for good.

use protocol::{Method, Request};
use serde_json::{Value, json};

use crate::setup::{AWAY_MILLIS, Setup};
use crate::{GROUP, is_whole, number_of, patch, replica_id};

/// `nodes` nodes, of which the first `founders` form a cluster.
fn formed(nodes: usize, founders: usize) -> Setup {
    let mut setup = Setup::with_founders(nodes, founders);
    (0..founders).for_each(|number| setup.start(number));
    setup.until("the cluster has formed", |setup| {
        (0..founders).all(|number| is_whole(setup, number, founders))
    });
    setup
}

fn name(number: usize) -> String {
    format!("n{}", number + 1)
}

/// What a node answers, and with which status.
fn ask(setup: &mut Setup, number: usize, method: Method, path: &str) -> (u16, Value) {
    answered(setup, number, Request::new(method, path))
}

fn answered(setup: &mut Setup, number: usize, request: Request) -> (u16, Value) {
    let ticket = setup.ask(number, request);
    setup.until("it is answered", |setup| setup.answer(number, ticket).is_some());
    let answer = setup.answer(number, ticket).expect("it was just there");
    (answer.status, answer.to_json())
}

fn ok(setup: &mut Setup, number: usize, method: Method, path: &str) {
    let (status, body) = ask(setup, number, method, path);
    assert_eq!(status, 200, "{path}: {body}");
}

fn refused(setup: &mut Setup, number: usize, method: Method, path: &str) -> String {
    let (status, body) = ask(setup, number, method, path);
    assert_eq!(status, 409, "{path}: {body}");
    body["message"].as_str().expect("it says why").to_owned()
}

fn remove(setup: &mut Setup, asked: usize, removed: usize) {
    ok(setup, asked, Method::Delete, &format!("{GROUP}/{}", name(removed)));
}

/// The ids of those who ask, as that node shows them.
fn asking(setup: &mut Setup, number: usize) -> Vec<String> {
    let group = setup.look(number, GROUP);
    let all = group["asking"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| one["id"].as_str().expect("it has an id").to_owned()).collect()
}

fn ids(setup: &mut Setup, number: usize) -> Vec<String> {
    let group = setup.look(number, GROUP);
    group["nodes"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// All of them see exactly these nodes, and all of those as available.
fn is_settled(setup: &mut Setup, numbers: &[usize]) -> bool {
    numbers.iter().all(|number| {
        let group = setup.look(*number, GROUP);
        let nodes = group["nodes"].as_object().cloned().unwrap_or_default();
        let owners = group["partitionOwners"].as_array().cloned().unwrap_or_default();
        nodes.len() == numbers.len()
            && nodes.values().all(|node| node["status"] == "AVAILABLE")
            && owners.iter().all(|owner| owner.is_string())
    })
}

fn settled(setup: &mut Setup, numbers: &[usize]) {
    setup.until("the cluster has settled", |setup| is_settled(setup, numbers));
}

/// A write through each of these nodes is acknowledged, and each reads it.
fn serves(setup: &mut Setup, numbers: &[usize]) {
    for number in numbers {
        let link = format!("/core/examples/of-{number}");
        let body = json!({ "documentSelfLink": link, "name": "x" });
        let post = Request::new(Method::Post, "/core/examples").with_json(&body);
        let (mut status, mut body) = answered(setup, *number, post);
        // It is there since an earlier call, and something is to be written all the same.
        if status == 409 {
            (status, body) = answered(setup, *number, patch(&link, &json!({ "name": "y" })));
        }
        assert_eq!(status, 200, "{link}: {body}");
        for reader in numbers {
            ok(setup, *reader, Method::Get, &link);
        }
    }
}

fn admit(setup: &mut Setup, asked: usize, number: usize) {
    setup.start(number);
    let wanted = [name(number)];
    setup.until("it is seen to ask", |setup| asking(setup, asked) == wanted);
    ok(setup, asked, Method::Post, &format!("{GROUP}/asking/{}", name(number)));
}

#[test]
fn a_node_that_asks_waits_for_a_person_and_every_member_shows_it() {
    let mut setup = formed(4, 3);
    setup.start(3);
    setup.until("all show it", |setup| (0..3).all(|number| asking(setup, number) == ["n4"]));
    let shown = setup.look(1, GROUP)["asking"][0].clone();
    assert_eq!((&shown["address"], &shown["replaces"]), (&json!("http://n4"), &json!([])));
    setup.run(8_000);
    assert_eq!(ids(&mut setup, 0), ["n1", "n2", "n3"], "nobody has let it in");
    assert_eq!(asking(&mut setup, 2), ["n4"], "it asks on");
    let (status, body) = ask(&mut setup, 3, Method::Get, "/core/examples/one");
    assert_eq!(status, 503);
    assert!(body["message"].as_str().is_some_and(|said| said.contains("amrita admit")), "{body}");
    let (status, body) = ask(&mut setup, 0, Method::Post, &format!("{GROUP}/asking/n5"));
    assert_eq!(status, 404, "{body}");

    ok(&mut setup, 1, Method::Post, &format!("{GROUP}/asking/n4"));
    settled(&mut setup, &[0, 1, 2, 3]);
    assert!(asking(&mut setup, 0).is_empty() && asking(&mut setup, 2).is_empty());
    assert_eq!(replica_id(&mut setup, 3), json!(4));
    serves(&mut setup, &[0, 3]);
}

/// A node that was let in counts as a member at once, and votes only when it has the state.
#[test]
fn writes_do_not_wait_until_a_new_node_is_filled() {
    for (nodes, dead) in [(1, None), (3, Some(2))] {
        let mut setup = formed(nodes + 1, nodes);
        serves(&mut setup, &[0]);
        if let Some(dead) = dead {
            setup.kill(dead);
            setup.run(2_000);
        }
        admit(&mut setup, 0, nodes);
        setup.until("it is up", |setup| setup.look(nodes, GROUP)["nodes"].is_object());
        // It gets what it needs, and has it on its disk only later.
        setup.keep_state_back(nodes, true);
        for count in 0..20 {
            let body = json!({ "documentSelfLink": format!("during-{count}"), "name": "x" });
            let post = Request::new(Method::Post, "/core/examples").with_json(&body);
            let ticket = setup.ask(0, post);
            setup.run(1_000);
            let Some(answer) = setup.answer(0, ticket) else {
                panic!("write {count} with {nodes} nodes and a new one is not answered")
            };
            let (status, told) = (answer.status, answer.to_json());
            assert_eq!(status, 200, "write {count} with {nodes} nodes and a new one: {told}");
        }
        setup.keep_state_back(nodes, false);
        let living: Vec<usize> = (0..=nodes).filter(|number| Some(*number) != dead).collect();
        setup.until("it is filled", |setup| {
            let seen = setup.look(0, GROUP);
            seen["nodes"][name(nodes)]["status"] == "AVAILABLE"
        });
        serves(&mut setup, &living);
    }
}

#[test]
fn a_node_that_is_refused_ends_and_stays_out() {
    let mut setup = formed(4, 3);
    setup.start(3);
    setup.until("it is seen to ask", |setup| asking(setup, 2) == ["n4"]);
    ok(&mut setup, 2, Method::Delete, &format!("{GROUP}/asking/n4"));
    setup.until("it has ended", |setup| setup.why_halted(3).is_some());
    assert!(setup.why_halted(3).is_some_and(|why| why.contains("a person has refused it")));
    setup.start(3);
    setup.until("it has ended again", |setup| !setup.is_up(3));
    assert!(asking(&mut setup, 0).is_empty());
    // Another sandbox is another node.
    setup.wipe(3);
    admit(&mut setup, 0, 3);
    settled(&mut setup, &[0, 1, 2, 3]);
}

#[test]
fn who_asks_no_more_is_forgotten() {
    let mut setup = formed(4, 3);
    setup.start(3);
    setup.until("it is seen to ask", |setup| asking(setup, 0) == ["n4"]);
    setup.kill(3);
    setup.until("it is forgotten", |setup| (0..3).all(|number| asking(setup, number).is_empty()));
}

#[test]
fn a_node_with_an_empty_sandbox_takes_its_own_place_without_a_person_when_it_was_away_for_long() {
    let mut setup = formed(3, 3);
    setup.wipe(1);
    setup.start(1);
    setup.until("it is seen to ask", |setup| asking(setup, 0) == ["n2"]);
    setup.run(AWAY_MILLIS / 2);
    assert!(replica_id(&mut setup, 1).is_null(), "it is too early");
    settled(&mut setup, &[0, 1, 2]);
    assert_eq!(replica_id(&mut setup, 1), json!(4));
}

/// The first node of a cluster that grew was started without a list, and so it is again.
#[test]
fn a_node_that_lost_its_disk_and_began_alone_leaves_its_own_cluster() {
    let mut setup = formed(3, 1);
    for number in 1..3 {
        admit(&mut setup, 0, number);
        settled(&mut setup, &(0..=number).collect::<Vec<_>>());
    }
    serves(&mut setup, &[0, 1, 2]);
    setup.wipe(0);
    setup.forget_the_list(0);
    setup.run(2_000);
    setup.start(0);
    setup.until("it leaves it", |setup| setup.is_to_join(0).is_some());
    setup.start(0);
    settled(&mut setup, &[0, 1, 2]);
    assert_eq!(replica_id(&mut setup, 0), json!(4));
    serves(&mut setup, &[0, 1, 2]);
}

#[test]
fn a_cluster_of_one_that_nobody_misses_or_that_has_something_stays() {
    let mut setup = formed(3, 3);
    for has_something in [true, false] {
        setup.hold(0, 2);
        setup.hold(1, 2);
        setup.wipe(2);
        setup.forget_the_list(2);
        setup.start(2);
        setup.until("it serves", |setup| is_settled(setup, &[2]));
        if has_something {
            serves(&mut setup, &[2]);
        } else {
            remove(&mut setup, 0, 2);
            setup.until("it is removed", |setup| ids(setup, 0) == ["n1", "n2"]);
        }
        setup.let_go(0, 2);
        setup.let_go(1, 2);
        setup.run(3_000);
        assert!(setup.is_up(2) && setup.is_to_join(2).is_none(), "{has_something}");
        assert!(is_settled(&mut setup, &[2]) && setup.is_up(0) && setup.is_up(1));
    }
}

#[test]
fn each_member_has_kept_where_the_others_are() {
    let mut setup = formed(3, 3);
    assert_eq!(setup.others(0), Some(&["http://n2".to_owned(), "http://n3".to_owned()][..]));
    for (removed, left) in [(2, vec!["http://n1".to_owned()]), (0, vec![])] {
        remove(&mut setup, 1, removed);
        setup.until("it has ended", |setup| setup.has_stopped(removed));
        setup.until("it is known", |setup| setup.others(1) == Some(&left[..]));
    }
    setup.kill(1);
    setup.start(1);
    setup.run(1_000);
    assert_eq!(setup.others(1), Some(&[][..]), "and so it stays");
}

#[test]
fn a_person_lets_a_node_with_an_empty_sandbox_in_at_once() {
    let mut setup = formed(3, 3);
    setup.wipe(1);
    setup.start(1);
    setup.until("it is seen to ask", |setup| asking(setup, 0) == ["n2"]);
    ok(&mut setup, 0, Method::Post, &format!("{GROUP}/asking/n2"));
    settled(&mut setup, &[0, 1, 2]);
    assert_eq!(replica_id(&mut setup, 1), json!(4));
}

/// The third stands still for a moment, or nobody hears it; another machine says that it is it.
#[test]
fn a_node_that_is_thought_dead_for_a_moment_is_not_replaced() {
    let mut setup = formed(4, 3);
    serves(&mut setup, &[0, 1, 2]);
    setup.freeze(2);
    setup.until("it is thought dead", |setup| {
        (0..2).all(|number| setup.look(number, GROUP)["nodes"]["n3"]["status"] == "UNAVAILABLE")
    });
    setup.disguise(3, "n3", "http://n3");
    setup.start(3);
    setup.until("the stranger is seen to ask", |setup| asking(setup, 0) == ["n3"]);
    setup.run(AWAY_MILLIS / 3);
    setup.thaw(2);
    setup.run(300);
    let said = refused(&mut setup, 0, Method::Post, &format!("{GROUP}/asking/n3"));
    assert!(said.contains("which is alive"), "nor does a person do it by mistake: {said}");
    setup.run(2 * AWAY_MILLIS);
    assert!(setup.is_up(2) && setup.why_halted(2).is_none(), "{:?}", setup.why_halted(2));
    assert_eq!(replica_id(&mut setup, 2), json!(3));
    assert!(replica_id(&mut setup, 3).is_null());
    settled(&mut setup, &[0, 1, 2]);
    serves(&mut setup, &[0, 1, 2]);
}

#[test]
fn a_node_that_is_alive_is_not_replaced() {
    let mut setup = formed(4, 3);
    // The same name elsewhere.
    setup.disguise(3, "n3", "http://elsewhere");
    setup.start(3);
    setup.until("it has ended", |setup| setup.why_halted(3).is_some());
    let why = setup.why_halted(3).expect("it was just there").to_owned();
    assert!(why.contains("another node is called 'n3', at http://n3"), "{why}");
    setup.wipe(3);
    // The same name at the same address.
    setup.disguise(3, "n3", "http://n3");
    setup.start(3);
    setup.run(2 * AWAY_MILLIS);
    let waits = "it has to wait until that one has ended";
    assert!((0..3).any(|number| setup.has_noted(number, waits)), "its member says so");
    assert!(asking(&mut setup, 0).is_empty() && setup.why_halted(2).is_none());
    assert_eq!(replica_id(&mut setup, 2), json!(3));
    settled(&mut setup, &[0, 1, 2]);
    // It has ended.
    setup.kill(2);
    setup.until("it has come in", |setup| replica_id(setup, 3) == json!(4));
    settled(&mut setup, &[0, 1, 3]);
    serves(&mut setup, &[0, 1, 3]);
}

#[test]
fn a_member_leaves_while_it_is_up_and_its_process_ends() {
    for removed in 0..3 {
        let mut setup = formed(3, 3);
        let rest: Vec<usize> = (0..3).filter(|number| *number != removed).collect();
        // Asked itself, or another.
        remove(&mut setup, if removed == 1 { removed } else { rest[0] }, removed);
        assert_eq!(setup.look(rest[1], GROUP)["membershipQuorum"], 2);
        setup.until("it has ended", |setup| setup.has_stopped(removed));
        settled(&mut setup, &rest);
        serves(&mut setup, &rest);
    }
}

#[test]
fn a_member_that_is_down_for_good_is_removed_and_does_not_come_back() {
    let mut setup = formed(3, 3);
    setup.kill(2);
    remove(&mut setup, 0, 2);
    settled(&mut setup, &[0, 1]);
    serves(&mut setup, &[0, 1]);
    setup.start(2);
    setup.until("it has ended", |setup| setup.why_halted(2).is_some());
    let why = setup.why_halted(2).expect("it was just there").to_owned();
    assert!(why.contains("was removed from the cluster") && why.contains("--sandbox"), "{why}");
    // With it and without another one there is no majority.
    setup.kill(1);
    setup.start(2);
    setup.run(3_000);
    let (status, _) = ask(&mut setup, 0, Method::Get, "/core/examples/of-0");
    assert_eq!(status, 503);
    assert!(!setup.is_up(2));
    setup.start(1);
    settled(&mut setup, &[0, 1]);
    // With an empty sandbox it is new, and asks.
    setup.wipe(2);
    admit(&mut setup, 1, 2);
    settled(&mut setup, &[0, 1, 2]);
    assert_eq!(replica_id(&mut setup, 2), json!(4));
}

#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_to_one() {
    let mut setup = formed(5, 1);
    serves(&mut setup, &[0]);
    for number in 1..5 {
        admit(&mut setup, number - 1, number);
        let all: Vec<usize> = (0..=number).collect();
        settled(&mut setup, &all);
        serves(&mut setup, &all);
    }
    assert_eq!(setup.look(4, GROUP)["membershipQuorum"], 3);
    for (removed, rest) in
        [(0, vec![1, 2, 3, 4]), (2, vec![1, 3, 4]), (4, vec![1, 3]), (1, vec![3])]
    {
        remove(&mut setup, rest[0], removed);
        setup.until("it has ended", |setup| setup.has_stopped(removed));
        settled(&mut setup, &rest);
        serves(&mut setup, &rest);
    }
    assert_eq!(setup.look(3, GROUP)["membershipQuorum"], 1);
    let said = refused(&mut setup, 3, Method::Delete, &format!("{GROUP}/n4"));
    assert!(said.contains("the last one"), "{said}");
    // What was written at the beginning is still there.
    ok(&mut setup, 3, Method::Get, "/core/examples/of-0");
    setup.kill(3);
    setup.start(3);
    setup.until("it serves alone", |setup| is_settled(setup, &[3]));
}

#[test]
fn a_removal_that_would_take_the_majority_is_refused_and_says_what_to_do() {
    let mut setup = formed(3, 3);
    setup.kill(2);
    setup.until("it is seen to be down", |setup| {
        setup.look(0, GROUP)["nodes"]["n3"]["status"] == "UNAVAILABLE"
    });
    let said = refused(&mut setup, 0, Method::Delete, &format!("{GROUP}/n2"));
    assert!(said.contains("n3 down") && said.contains("remove one that is down"), "{said}");
    remove(&mut setup, 0, 2);
    settled(&mut setup, &[0, 1]);
}

#[test]
fn a_quorum_of_all_is_lowered_first() {
    let mut setup = formed(3, 3);
    let set = |number| {
        patch(GROUP, &json!({ "kind": "UpdateQuorumRequest", "membershipQuorum": number }))
    };
    setup.ask(0, set(3));
    setup.run(50);
    let said = refused(&mut setup, 0, Method::Delete, &format!("{GROUP}/n3"));
    assert!(said.contains("amrita quorum 2"), "{said}");
    setup.ask(0, set(2));
    setup.run(50);
    remove(&mut setup, 0, 2);
    settled(&mut setup, &[0, 1]);
}

#[test]
fn a_removal_waits_when_another_one_dies_in_the_middle_of_it() {
    let mut setup = formed(3, 3);
    serves(&mut setup, &[0, 1, 2]);
    remove(&mut setup, 0, 2);
    setup.kill(1);
    setup.run(5_000);
    assert!(setup.is_up(2), "its vote is needed");
    // With it, two of three confirm who owns what.
    ok(&mut setup, 0, Method::Get, "/core/examples/of-0");
    serves_with_quorum_of_two_is_refused(&mut setup);
    setup.start(1);
    setup.until("it has ended", |setup| setup.has_stopped(2));
    settled(&mut setup, &[0, 1]);
    serves(&mut setup, &[0, 1]);
}

/// One that stays is down, and the copy of one that goes does not count.
fn serves_with_quorum_of_two_is_refused(setup: &mut Setup) {
    let body = json!({ "documentSelfLink": "/core/examples/late", "name": "x" });
    let post = Request::new(Method::Post, "/core/examples").with_json(&body);
    let ticket = setup.ask(0, post);
    setup.until("the write is answered", |setup| setup.answer(0, ticket).is_some());
    let answer = setup.answer(0, ticket).expect("it was just there");
    assert_eq!((answer.status, &answer.to_json()["code"]), (503, &json!("QUORUM_NOT_MET")));
}

#[test]
fn the_copy_of_a_member_that_goes_does_not_count() {
    let mut setup = formed(3, 3);
    setup.until("the first owns all", |setup| {
        for number in [1, 2] {
            let body = json!({ "isDrained": true });
            setup.ask(0, patch(&format!("{GROUP}/{}", name(number)), &body));
        }
        setup.run(100);
        let group = setup.look(0, GROUP);
        let owners = group["partitionOwners"].as_array().expect("a list").clone();
        owners.iter().all(|owner| *owner == "n1") && group["documentOwner"] == "n1"
    });
    setup.hold(0, 1);
    setup.hold(1, 2);
    remove(&mut setup, 0, 2);
    let body = json!({ "documentSelfLink": "/core/examples/held", "name": "x" });
    let post = Request::new(Method::Post, "/core/examples").with_json(&body);
    let ticket = setup.ask(0, post);
    setup.run(300);
    assert!(setup.answer(0, ticket).is_none(), "only the one that goes has it as well");
    setup.let_go(0, 1);
    setup.let_go(1, 2);
    setup.run(100);
    assert_eq!(setup.answer(0, ticket).map(|answer| answer.status), Some(200));
    setup.until("it has ended", |setup| setup.has_stopped(2));
    serves(&mut setup, &[0, 1]);
}

/// With one node being removed and another away, the commands that help are answered at once: what
/// consensus has committed is done.
#[test]
fn what_helps_a_cluster_in_trouble_waits_for_nobody() {
    let mut setup = formed(3, 3);
    setup.until("the first owns the directory", |setup| {
        for number in [1, 2] {
            let body = json!({ "isDrained": true });
            setup.ask(0, patch(&format!("{GROUP}/{}", name(number)), &body));
        }
        setup.run(100);
        setup.look(0, GROUP)["documentOwner"] == "n1"
    });
    setup.hold(0, 1);
    setup.hold(1, 2);
    remove(&mut setup, 0, 2);
    let body = json!({ "isDrained": false });
    let ticket = setup.ask(0, patch(&format!("{GROUP}/{}", name(1)), &body));
    setup.run(100);
    let answer = setup.answer(0, ticket).map(|answer| (answer.status, answer.to_json()));
    assert_eq!(answer.as_ref().map(|it| it.0), Some(200), "{answer:?}");
}

#[test]
fn two_removals_at_once_are_both_carried_out() {
    let mut setup = formed(5, 5);
    remove(&mut setup, 0, 3);
    remove(&mut setup, 1, 4);
    setup.until("both have ended", |setup| setup.has_stopped(3) && setup.has_stopped(4));
    settled(&mut setup, &[0, 1, 2]);
    serves(&mut setup, &[0, 1, 2]);
}

/// Each is asked of a node that does not know of the other, at all moments at which that is so.
#[test]
fn of_two_removals_that_together_take_the_majority_one_is_refused() {
    for pause in [0, 10, 20, 30] {
        let mut setup = formed(4, 4);
        let owner = number_of(&setup.look(0, GROUP)["documentOwner"]);
        let others: Vec<usize> = (0..3).filter(|number| *number != owner).collect();
        setup.kill(3);
        setup.until("it is seen to be down", |setup| {
            (0..3).all(|number| setup.look(number, GROUP)["nodes"]["n4"]["status"] == "UNAVAILABLE")
        });
        setup.set_slow(true);
        let removal = |number| Request::new(Method::Delete, format!("{GROUP}/{}", name(number)));
        let first = (owner, setup.ask(owner, removal(others[0])));
        setup.run(pause);
        let second = (others[1], setup.ask(others[1], removal(others[1])));
        let answers = [first, second].map(|(number, ticket)| {
            setup.until("it is answered", |setup| setup.answer(number, ticket).is_some());
            let answer = setup.answer(number, ticket).expect("it was just there");
            (answer.status, answer.to_json().to_string())
        });
        let refused = answers.iter().position(|(status, _)| *status != 200);
        let refused = refused.unwrap_or_else(|| panic!("both were taken up, after {pause} ms"));
        let (status, said) = &answers[refused];
        assert!(*status == 409 || said.contains("ask again"), "{answers:?}");
        assert_eq!(answers[1 - refused].0, 200, "{answers:?}");
        setup.set_slow(false);
        setup.start(3);
        let gone = others[1 - refused];
        setup.until("it has left", |setup| setup.has_stopped(gone));
        let rest: Vec<usize> = (0..4).filter(|number| *number != gone).collect();
        settled(&mut setup, &rest);
        serves(&mut setup, &rest);
    }
}

/// The instance has taken its replica away from the node, and has not let it go so far.
#[test]
fn a_removal_ends_beside_an_instance_that_lets_the_same_node_go() {
    let mut setup = formed(3, 3);
    let one = json!({ "name": "one", "replicas": ["n1", "n2", "n3"] });
    let register = Request::new(Method::Post, "/core/immortals").with_json(&one);
    let ticket = setup.ask(0, register);
    setup.until("it is registered", |setup| setup.answer(0, ticket).is_some());
    setup.until("it has an owner", |setup| {
        setup.look(0, "/core/immortals/one")["owner"].is_string()
    });
    let taken = setup.ask(0, patch("/core/immortals/one", &json!({ "removeReplica": "n3" })));
    setup.until("it is taken away", |setup| setup.answer(0, taken).is_some());
    remove(&mut setup, 0, 2);
    setup.until("the node has left", |setup| setup.has_stopped(2));
    settled(&mut setup, &[0, 1]);
    // The instance has the two others, and serves with one of them.
    setup.kill(1);
    setup.start(1);
    setup.until("it has an owner again", |setup| {
        setup.look(0, "/core/immortals/one")["owner"].is_string()
    });
}

#[test]
fn a_member_is_removed_while_it_is_being_filled() {
    let mut setup = formed(4, 3);
    serves(&mut setup, &[0, 1, 2]);
    admit(&mut setup, 0, 3);
    setup.run(20);
    remove(&mut setup, 1, 3);
    setup.until("it has ended", |setup| !setup.is_up(3));
    settled(&mut setup, &[0, 1, 2]);
    serves(&mut setup, &[0, 1, 2]);
}

#[test]
fn a_node_that_is_drained_owns_nothing_until_that_is_undone() {
    let mut setup = formed(3, 3);
    setup.run(3_000);
    let drain = |number: usize, is_drained: bool| {
        patch(&format!("{GROUP}/{}", name(number)), &json!({ "isDrained": is_drained }))
    };
    let owned = |setup: &mut Setup| {
        let group = setup.look(1, GROUP);
        let owners = group["partitionOwners"].as_array().expect("a list").clone();
        let count = owners.iter().filter(|owner| **owner == "n1").count();
        count + usize::from(group["documentOwner"] == "n1")
    };
    assert!(owned(&mut setup) > 0);
    let ticket = setup.ask(2, drain(0, true));
    setup.until("it owns nothing", |setup| owned(setup) == 0);
    assert_eq!(setup.answer(2, ticket).map(|answer| answer.status), Some(200));
    assert_eq!(setup.look(0, GROUP)["nodes"]["n1"]["isDrained"], true);
    setup.kill(0);
    setup.run(500);
    setup.start(0);
    setup.run(8_000);
    assert_eq!(owned(&mut setup), 0, "also after a new start");
    serves(&mut setup, &[0, 1, 2]);
    // Where nobody is left who should own something, somebody owns it all the same.
    for number in [1, 2] {
        assert_eq!(answered(&mut setup, 0, drain(number, true)).0, 200);
    }
    for number in 0..3 {
        setup.kill(number);
        setup.run(500);
        setup.start(number);
        settled(&mut setup, &[0, 1, 2]);
    }
    serves(&mut setup, &[0, 1, 2]);
    for number in 0..3 {
        assert_eq!(answered(&mut setup, 2, drain(number, false)).0, 200);
    }
    setup.until("it has its share again", |setup| owned(setup) > 0);
}

#[test]
fn a_member_that_owns_everything_is_removed_while_it_is_written_to() {
    let mut setup = formed(3, 3);
    for number in [1, 2] {
        let body = json!({ "isDrained": true });
        setup.ask(0, patch(&format!("{GROUP}/{}", name(number)), &body));
    }
    setup.until("it owns all", |setup| {
        let group = setup.look(0, GROUP);
        let owners = group["partitionOwners"].as_array().expect("a list").clone();
        owners.iter().all(|owner| *owner == "n1")
    });
    let writes = (0..200).map(|n| {
        let body = json!({ "documentSelfLink": format!("/core/examples/w{n}"), "name": "x" });
        Request::new(Method::Post, "/core/examples").with_json(&body)
    });
    let tickets = setup.ask_all(1, writes.collect());
    remove(&mut setup, 2, 0);
    setup.until("it has ended", |setup| setup.has_stopped(0));
    settled(&mut setup, &[1, 2]);
    for (n, ticket) in tickets.into_iter().enumerate() {
        let status = setup.answer(1, ticket).map(|answer| answer.status);
        assert_eq!(status, Some(200), "write {n}");
        ok(&mut setup, 2, Method::Get, &format!("/core/examples/w{n}"));
    }
}
