//! Scripts of text: blocks with a blank line between them. A block has comments (`#`), lines that
//! say what happens, `---`, and what comes out.
//!
//! The tests of `services` use this file too.

use std::fs;
use std::path::{Path, PathBuf};

/// What a script is played with.
pub(crate) trait Player {
    /// Plays one line, and gives what came out.
    fn play(&mut self, line: &str) -> Vec<String>;
}

/// Plays all scripts of a folder, each with a player of its own, and compares what comes out with
/// what stands there; with `UPDATE=1` it is put there.
pub(crate) fn check_all<P: Player>(folder: &Path, player: impl Fn() -> P) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are no scripts in {}", folder.display());
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let played = play(&mut player(), &text);
        if is_update() {
            fs::write(&path, &played).unwrap();
        } else if played != text {
            differing.push(format!("{name}:\n{}", difference(&text, &played)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[expect(clippy::disallowed_methods, reason = "a test is told by its environment to rewrite")]
fn is_update() -> bool {
    std::env::var("UPDATE").is_ok()
}

/// Plays a script and gives it back with what really came out.
pub(crate) fn play(player: &mut impl Player, text: &str) -> String {
    let blocks: Vec<String> = text.trim_end().split("\n\n").map(|it| block(player, it)).collect();
    format!("{}\n", blocks.join("\n\n"))
}

fn block(player: &mut impl Player, block: &str) -> String {
    let inputs: Vec<&str> = block.lines().take_while(|line| *line != "---").collect();
    if inputs.iter().all(|line| line.starts_with('#')) {
        return inputs.join("\n");
    }
    let mut lines: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    lines.push("---".into());
    for input in inputs.iter().filter(|line| !line.starts_with('#')) {
        lines.append(&mut player.play(input));
    }
    lines.join("\n")
}

/// The first lines that differ.
fn difference(expected: &str, found: &str) -> String {
    let (mut left, mut right) = (expected.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (None, None) => return "no line differs".into(),
            (one, two) if one == two => {}
            (one, two) => {
                let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return format!("line {number}\n  -{}\n  +{}", shown(one), shown(two));
            }
        }
    }
}
