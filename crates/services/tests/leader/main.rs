//! The leader of a partition by scripts: what goes in, what comes out, with real handlers and a
//! real partition over a store in memory. `UPDATE=1 cargo test -p services` rewrites what is under
//! each `---`.

#![expect(clippy::unwrap_used, reason = "a script that cannot be played fails the test")]

mod histories;
mod inbox;
mod owner;
mod rights;
mod services;
mod world;

use std::path::Path;

use protocol::{Action, Body, Document, Moment, Term};
use serde_json::json;
use world::World;

#[test]
fn the_leader_does_what_the_scripts_say() {
    script::check_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts"), World::new);
}

/// More than go with one entry of the log; the last one to go is the first that is wanted again.
#[test]
fn what_has_expired_with_many_others_begins_anew_when_it_is_created_again() {
    const MANY: usize = 1_100;
    let mut text = String::new();
    for number in 1..=MANY {
        let link = format!("/core/things/{number:04}");
        let expires = "\"documentExpirationTimeMicros\":1000050000";
        text += &format!("ask {number} POST {link} {{\"name\":\"old\",{expires}}}\n");
    }
    let link = format!("/core/things/{MANY:04}");
    let (first, second) = (MANY + 1, MANY + 2);
    text += &format!("ask {first} PATCH {link} {{\"counter\":1}}\nwait 100000\n");
    text += &format!("ask {second} POST {link} {{\"name\":\"new\"}}\n---\n");
    let played = script::play(&mut World::new(), &text);
    let answer = |number: usize| {
        let start = format!("answer {number} ");
        played.lines().find(|line| line.starts_with(&start)).unwrap_or_default().to_owned()
    };
    assert!(answer(first).contains(" v1 e1 PATCH"), "{}", answer(first));
    assert!(answer(second).contains(" v0 e1 POST"), "{}", answer(second));
}

/// More than are asked in one step, with another owner in between.
#[test]
fn all_that_a_task_did_is_undone_in_several_steps() {
    let (mut text, many) = (String::new(), services::MANY_LEGS);
    text += &format!("ask 1 POST /core/trips/x {{\"legs\":{many}}}\n");
    text += "call 1 404 {\"message\":\"nothing there\"}\n";
    // The first step's calls, and some of the second's, which the next owner makes again.
    for call in 2..=300 {
        text += &format!("call {call} 200 {{}}\n");
    }
    text += "takeover\nfenced\n";
    let (first, step) = (1 + many, 256);
    for call in first + 1..=first + many - step {
        text += &format!("call {call} 200 {{}}\n");
    }
    text += "show /core/trips/x\n---\n";
    let played = script::play(&mut World::new(), &text);
    for number in 0..many {
        let call = format!("DELETE /core/things/seat-{number} ");
        let count = played.lines().filter(|line| line.contains(&call)).count();
        let expected = if number < step { 1 } else { 2 };
        assert_eq!(count, usize::try_from(expected).unwrap(), "{call}");
    }
    let end = played.lines().last().unwrap();
    assert!(end.contains("\"stage\":\"FAILED\"") && !end.contains("undo"), "{end}");
}

/// Messages are on their way to 64 destinations; the next one has its turn when one is done.
#[test]
fn immortals_that_have_no_turn_are_sent_to_when_another_one_is_done() {
    let name = |number: u64| format!("d{number:02}");
    let mut text = String::from("ask 1000 POST /core/orders/a {\"amount\":1}\n");
    for number in 0..65 {
        let to = name(number);
        text += &format!("ask {number} PATCH /core/orders/a {{\"to\":\"{to}\"}}\nacked {to} 0 1\n");
    }
    let first = script::play(&mut World::new(), &text);
    assert!(first.contains("to d63: 1 to 1"), "{first}");
    assert!(!first.contains("to d64: 1 to 1"), "{first}");
    let then = script::play(&mut World::new(), &format!("{text}acked d07 1\ntick\n"));
    assert!(then.contains("to d64: 1 to 1"), "{then}");
}

fn rule(link: String, expires: u64, body: serde_json::Value) -> Document {
    let serde_json::Value::Object(fields) = body else { panic!("{body}") };
    Document {
        link,
        version: 0,
        epoch: Term(1),
        kind: String::new(),
        action: Action::Post,
        updated: Moment(1),
        expires: Moment(expires),
        owner: "n1".into(),
        author: None,
        body: Body::from_map(fields),
    }
}

/// Every node holds every token.
#[test]
fn a_user_has_a_bound_of_tokens_and_those_that_count_no_more_are_not_counted() {
    const MOST: usize = 10_000;
    const LATER: u64 = 2_000_000_000;
    let user = |name: &str| format!("{}/{name}", access::USERS);
    let tokens = |name: &str, count: usize, expires: u64, more: serde_json::Value| {
        let link = user(name);
        let made = (0..count).map(move |number| {
            let mut body = json!({"userLink": link, "digest": "d"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let name = link.rsplit('/').next().unwrap();
            rule(format!("{}/{name}-{expires}-{number}", access::TOKENS), expires, body)
        });
        made.collect::<Vec<_>>()
    };
    let answered = |live: usize| {
        let mut world = World::new();
        let ended = json!({"passwordLink": format!("{}/jane", access::CREDENTIALS),
            "passwordMark": "of a former one"});
        let all = [
            ["jane", "joe"].map(|it| rule(user(it), 0, json!({"email": it}))).to_vec(),
            tokens("jane", live, LATER, json!({})),
            tokens("jane", 50, 1, json!({})),
            tokens("jane", 60, LATER + 1, ended),
            tokens("joe", MOST, 0, json!({})),
        ];
        world.guard(access::Policy::of(all.concat()));
        let body = json!({"userLink": user("jane"), "digest": "d"});
        let text = format!("ask 1 POST {}/new user={} {body}\n---\n", access::TOKENS, user("jane"));
        script::play(&mut world, &text)
    };
    let below = answered(MOST - 1);
    assert!(below.contains(" 200 ") && below.contains("v0"), "{below}");
    let full = answered(MOST);
    assert!(full.contains(" 409 REFUSED [no write]") && full.contains("10000 tokens"), "{full}");
}

/// An immortal writes with the rights of its owner: a user who may change documents of one name.
#[test]
fn an_immortal_may_write_what_its_owner_may() {
    let user = |name: &str| format!("{}/{name}", access::USERS);
    let owners = |of: &str, owners: &[&str]| {
        let users: Vec<String> = owners.iter().map(|owner| user(owner)).collect();
        rule(format!("{}/{of}", access::INSTANCE_OWNERS), 0, json!({"userLinks": users}))
    };
    let select = |query: serde_json::Value| json!({"query": query});
    let of_user = json!({"term": {"propertyName": "email", "matchValue": "jane"}});
    let things = json!({"term": {"propertyName": "documentSelfLink",
        "matchType": "PREFIX", "matchValue": "/core/things/janes"}});
    let all = [
        rule(user("jane"), 0, json!({"email": "jane"})),
        rule(user("joe"), 0, json!({"email": "joe"})),
        rule(format!("{}/janes", access::USER_GROUPS), 0, select(of_user)),
        rule(format!("{}/janes", access::RESOURCE_GROUPS), 0, select(things)),
        rule(
            format!("{}/janes", access::ROLES),
            0,
            json!({"userGroupLink": format!("{}/janes", access::USER_GROUPS),
                "resourceGroupLink": format!("{}/janes", access::RESOURCE_GROUPS),
                "verbs": ["GET", "POST", "PATCH"], "policy": "ALLOW", "priority": 1}),
        ),
        owners("ledger", &["jane"]),
        owners("shared", &["jane", "joe"]),
    ];
    let mut world = World::new();
    world.guard(access::Policy::of(all));
    let text = "writes ledger 1 1 1#1 /core/things/janes-1 {\"name\":\"x\"}\n\
                writes ledger 1 2 3#2 /core/things/janes-1 {\"counter\":2}\n\
                writes ledger 1 3 1#3 /core/things/other {\"name\":\"x\"}\n\
                writes archive 1 1 1#1 /core/things/janes-2 {\"name\":\"x\"}\n\
                writes shared 1 1 1#1 /core/things/janes-3 {\"name\":\"x\"}\n\
                wait 10000000\nwait 10000000\nwait 10000000\nwait 10000000\nwait 10000000\n\
                wait 10000000\nwait 10000000\ninbox\nacked ledger 0 1\nacked archive 0 1\n\
                acked shared 0 1\n\
                show /core/things/janes-2\n---\n";
    let played = script::play(&mut world, text);
    let told = |what: &str| assert!(played.contains(what), "{what} in:\n{played}");
    told("as /core/authz/users/jane");
    told("answer 1: 200 /core/things/janes-1 v0");
    told("answer 2: 200 /core/things/janes-1 v1");
    told("answer 3: 403 ACCESS_DENIED");
    // It belongs to nobody.
    told("amrita immortal owners archive --set USER");
    // What belongs to jane and joe could do for joe what only jane may.
    told("amrita immortal owners shared --set USER");
    told("ledger: 3 noted\narchive: 1 noted\nshared: 1 noted");
    assert!(!played.contains("/core/things/janes-3 v0"), "{played}");
    assert!(played.ends_with("nothing\n") || played.contains("\nnothing"), "{played}");
}
