//! What is stuck is told by whichever node is asked, with what would free it.

use protocol::{Method, Request};
use random::Random;
use serde_json::{Value, json};

use crate::program::Program;
use crate::quiet::get;
use crate::served::{COUNTERS, with_a_counter};
use crate::setup::Setup;
use crate::{GROUP, MANAGEMENT, formed, patch, spread};

/// The findings about something, as a node tells them.
fn findings(setup: &mut Setup, number: usize, link: &str) -> Vec<Value> {
    let (status, told) = get(setup, number, &format!("{link}/explain"));
    assert_eq!(status, 200, "{told}");
    told["findings"].as_array().expect("a list").clone()
}

/// The first finding with these words.
fn finding(setup: &mut Setup, number: usize, link: &str, words: &str) -> Option<Value> {
    let findings = findings(setup, number, link);
    findings.into_iter().find(|it| it["text"].as_str().is_some_and(|text| text.contains(words)))
}

fn refuses_writes(setup: &mut Setup, number: usize) -> bool {
    findings(setup, number, MANAGEMENT).iter().any(|it| it["refusesWrites"] == true)
}

fn put(setup: &mut Setup, number: usize) -> u16 {
    let body = json!({ "documentSelfLink": "one", "name": "x" });
    let put = Request::new(Method::Post, "/core/examples").with_json(&body);
    let ticket = setup.ask(number, put);
    setup.until("it is answered", |setup| setup.answer(number, ticket).is_some());
    setup.answer(number, ticket).map_or(0, |answer| answer.status)
}

/// Its state gets nowhere, and the next start has it from the log.
#[test]
fn a_node_with_a_full_disk_ends_when_it_is_told_to() {
    let mut setup = formed(1);
    assert_eq!(put(&mut setup, 0), 200);
    setup.set_full(0, true);
    setup.tell_to_stop(0);
    setup.run(2_000);
    assert!(!setup.has_stopped(0), "there may be room before long");
    setup.until("it has ended", |setup| setup.has_stopped(0));
    setup.start(0);
    setup.until("it serves", |setup| setup.look(0, "/core/examples/one")["name"] == "x");
}

/// The routine persist begins 30 s after the last one, and logs are cut every 10 s. A log that is
/// cut up to a state on its way makes the sandbox useless when the power goes then.
#[test]
fn a_log_is_cut_only_up_to_a_state_that_is_on_the_disk() {
    for is_full in [false, true] {
        let mut setup = formed(1);
        assert_eq!(put(&mut setup, 0), 200);
        setup.keep_state_back(0, true);
        setup.run(31_000);
        if is_full {
            // Now nothing that is not needed is kept.
            setup.set_full(0, true);
        }
        setup.run(11_000);
        setup.lose_power(0, &mut Random::new(1, "power"));
        setup.start(0);
        setup.until("it serves", |setup| setup.look(0, "/core/examples/one")["name"] == "x");
    }
}

#[test]
fn a_node_whose_own_disk_is_full_says_that_writes_are_refused() {
    let mut alone = formed(1);
    assert!(!refuses_writes(&mut alone, 0));
    alone.set_full(0, true);
    alone.run(3_000);
    assert_eq!(put(&mut alone, 0), 503);
    assert!(refuses_writes(&mut alone, 0));
    let full = finding(&mut alone, 0, MANAGEMENT, "the disk of node n1").expect("it is named");
    assert!(full["forMillis"].as_u64().is_some_and(|millis| millis > 2_000), "{full}");
    alone.set_full(0, false);
    alone.run(100);
    assert!(!refuses_writes(&mut alone, 0) && put(&mut alone, 0) == 200);

    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    setup.set_full(0, true);
    setup.until("the others own everything", |setup| spread(setup, 1) == [0, 2, 2]);
    setup.run(500);
    assert!((0..3).all(|number| !refuses_writes(&mut setup, number)), "the others take them");
    setup.set_full(1, true);
    setup.run(3_000);
    for number in 0..3 {
        assert!(put(&mut setup, number) >= 500, "two of three disks are full");
        assert!(refuses_writes(&mut setup, number), "as node {number} knows");
    }
    let quorum = finding(&mut setup, 0, GROUP, "1 of 3 nodes can be reached and take writes");
    let quorum = quorum.expect("it is told");
    assert_eq!(quorum["remedy"], "free space on n1, n2");
    assert!(quorum["forMillis"].as_u64().is_some_and(|millis| millis > 2_000), "{quorum}");
}

#[test]
fn a_document_whose_handlers_are_in_a_program_waits_for_one() {
    let (mut setup, link) = with_a_counter(0);
    for number in 0..3 {
        let none = finding(&mut setup, number, &link, "are in a program, and none is attached");
        assert_eq!(none.expect("it waits")["waitsFor"], "PROGRAM");
        assert!(finding(&mut setup, number, COUNTERS, "none is attached").is_some());
    }
    setup.serve(1, COUNTERS);
    setup.run(1_000);
    for number in 0..3 {
        assert_eq!(findings(&mut setup, number, &link), Vec::<Value>::new());
        assert_eq!(findings(&mut setup, number, COUNTERS), Vec::<Value>::new());
    }
}

fn register(setup: &mut Setup, name: &str, replicas: &[&str]) {
    let body = json!({ "name": name, "replicas": replicas });
    let post = Request::new(Method::Post, "/core/immortals").with_json(&body);
    let ticket = setup.ask(0, post);
    setup.until("it is registered", |setup| setup.answer(0, ticket).is_some());
    setup.until("it has an owner", |setup| {
        setup.look(0, &format!("/core/immortals/{name}"))["owner"].is_string()
    });
}

/// Something from outside, for a program to handle.
fn impulse(setup: &mut Setup, name: &str) {
    let body = json!({ "method": 1, "payload": "aGVsbG8=" });
    let path = format!("/core/immortals/{name}/impulses");
    let ticket = setup.ask(0, Request::new(Method::Post, &path).with_json(&body));
    setup.until("it is taken", |setup| setup.answer(0, ticket).is_some());
    let answer = setup.answer(0, ticket).expect("it was just there");
    assert!(answer.is_success(), "{}", answer.to_json());
}

#[test]
fn a_node_without_a_replica_tells_what_instances_of_others_wait_for() {
    let mut setup = formed(3);
    register(&mut setup, "one", &["n1"]);
    register(&mut setup, "two", &["n1", "n2"]);
    setup.run(1_000);
    for number in 0..3 {
        for name in ["one", "two"] {
            let words = format!("no program is attached to '{name}'");
            let none = finding(&mut setup, number, GROUP, &words);
            let none = none.unwrap_or_else(|| panic!("node {number} does not tell of {name}"));
            assert!(none["remedy"].as_str().is_some_and(|it| it.contains("n1")), "{none}");
        }
    }
    // What it sends to nobody is known to its owner alone.
    setup.attach_one(0, "one", Program::that_tells("nobody"));
    setup.run(1_000);
    impulse(&mut setup, "one");
    setup.run(500);
    for number in 0..3 {
        let lost = finding(&mut setup, number, GROUP, "there is no instance of that name");
        let lost = lost.unwrap_or_else(|| panic!("node {number} does not tell"));
        assert_eq!(lost["remedy"], "register it: amrita immortal register nobody");
    }
    let ticket = setup.ask(0, patch("/core/immortals/two", &json!({ "paused": true })));
    setup.until("it is paused", |setup| setup.answer(0, ticket).is_some());
    setup.run(3_000);
    for number in 0..3 {
        let paused = finding(&mut setup, number, GROUP, "'two' is paused").expect("it is told");
        assert_eq!(paused["remedy"], "amrita immortal set two --resume");
        assert!(paused["forMillis"].as_u64().is_some_and(|it| it > 1_000), "{paused}");
    }
    setup.kill(0);
    setup.run(3_000);
    let gone = finding(&mut setup, 2, GROUP, "immortal 'one' has no owner").expect("it is told");
    assert!(gone["remedy"].as_str().is_some_and(|it| it.contains("n1")), "{gone}");
}

#[test]
fn a_program_that_hangs_in_an_input_is_found_although_it_answers() {
    let mut setup = formed(3);
    register(&mut setup, "one", &["n1", "n2"]);
    setup.attach_one(0, "one", Program::that_hangs());
    setup.attach(1, "one");
    setup.run(1_000);
    impulse(&mut setup, "one");
    setup.run(20_000);
    let words = "the program on n1 has been at input 1";
    assert!(finding(&mut setup, 0, "/core/immortals/one", words).is_none(), "it may end");
    setup.run(12_000);
    for number in 0..3 {
        let hangs = finding(&mut setup, number, "/core/immortals/one", words);
        let hangs = hangs.unwrap_or_else(|| panic!("node {number} does not tell"));
        assert!(hangs["forMillis"].as_u64().is_some_and(|it| it > 30_000), "{hangs}");
        let other = "the program on n2 has been";
        assert!(finding(&mut setup, number, "/core/immortals/one", other).is_none());
    }
}
