//! Scripts of text, by which several crates test their cores: blocks with a blank line between
//! them. A block has comments (`#`), lines that say what happens, `---`, and what comes out.
//!
//! With `UPDATE=1` in the environment what really comes out is written into the files; read the
//! difference before you keep it.

use std::fs;
use std::path::{Path, PathBuf};

/// What a script is played with.
pub trait Player {
    /// Plays one line, and gives what came out.
    fn play(&mut self, line: &str) -> Vec<String>;
}

/// Plays all scripts of a folder, each with a player of its own, and compares what comes out with
/// what stands there; with `UPDATE=1` it is put there.
///
/// # Panics
/// When something else comes out, with the first lines that differ.
pub fn check_all<P: Player>(folder: &Path, player: impl Fn() -> P) {
    let entries = fs::read_dir(folder).expect("the folder of the scripts can be read");
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry of it can be read").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are no scripts in {}", folder.display());
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a script can be read");
        let played = play(&mut player(), &text);
        if is_update() {
            fs::write(&path, &played).expect("a script can be written");
        } else if played != text {
            differing.push(format!("{name}:\n{}", difference(&text, &played)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn is_update() -> bool {
    std::env::var("UPDATE").is_ok()
}

/// Plays a script and gives it back with what really came out.
pub fn play(player: &mut impl Player, text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Player for Echo {
        fn play(&mut self, line: &str) -> Vec<String> {
            line.split_whitespace().map(str::to_owned).collect()
        }
    }

    #[test]
    fn what_really_came_out_stands_under_each_block() {
        let text = "# all\n\n# one\na b\n---\nwrong\n\nc\n";
        let played = play(&mut Echo, text);
        assert_eq!(played, "# all\n\n# one\na b\n---\na\nb\n\nc\n---\nc\n");
        assert_eq!(play(&mut Echo, &played), played);
        assert_eq!(difference(text, &played), "line 6\n  -wrong\n  +a");
    }
}
