//! The leader of a partition by scripts: what goes in, what comes out, with real handlers and a
//! real partition over a store in memory. `UPDATE=1 cargo test -p services` rewrites what is under
//! each `---`.

#![expect(clippy::unwrap_used, reason = "a script that cannot be played fails the test")]

mod histories;
mod owner;
mod services;
mod world;

use std::path::Path;

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
