//! The desk by scripts: what goes in, what comes out, with real handlers and a real partition over
//! a store in memory. `UPDATE=1 cargo test -p services` rewrites what is under each `---`.

#![expect(clippy::unwrap_used, reason = "a script that cannot be played fails the test")]

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
fn the_desk_does_what_the_scripts_say() {
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
