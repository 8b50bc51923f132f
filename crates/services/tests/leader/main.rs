//! The leader of a partition by scripts: what goes in, what comes out, with real handlers and a real partition over
//! a store in memory. `UPDATE=1 cargo test -p services` rewrites what is under each `---`.

#![expect(clippy::unwrap_used, reason = "a script that cannot be played fails the test")]

mod owner;
mod random;
mod script;
mod services;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[expect(clippy::disallowed_methods, reason = "a test is told by its environment to rewrite")]
fn is_update() -> bool {
    std::env::var("UPDATE").is_ok()
}

#[test]
fn the_leader_does_what_the_scripts_say() {
    let mut differing = Vec::new();
    for path in scripts() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let played = script::play(&text);
        if is_update() {
            fs::write(&path, &played).unwrap();
        } else if played != text {
            differing.push(format!("{name}:\n{}", script::difference(&text, &played)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
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
    let played = script::play(&text);
    let answer = |number: usize| {
        let start = format!("answer {number} ");
        played.lines().find(|line| line.starts_with(&start)).unwrap_or_default().to_owned()
    };
    assert!(answer(first).contains(" v1 e1 PATCH"), "{}", answer(first));
    assert!(answer(second).contains(" v0 e1 POST"), "{}", answer(second));
}
