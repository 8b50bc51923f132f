//! Every line of docs/queries.md, on real nodes, and what it shows.

use std::process::{Command, Stdio};

use crate::cluster::{Cluster, uri};

const GUIDE: &str = include_str!("../../../../docs/queries.md");

/// A command with the lines that are to be under it.
#[derive(Debug)]
struct Step<'a> {
    command: &'a str,
    shows: Vec<&'a str>,
}

fn steps() -> Vec<Step<'static>> {
    let mut steps: Vec<Step<'static>> = Vec::new();
    let mut is_console = false;
    for line in GUIDE.lines() {
        match line.strip_prefix("```") {
            Some(fence) => is_console = fence == "console",
            None if !is_console => {}
            None => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command, shows: Vec::new() }),
                None => steps.last_mut().expect("a command comes first").shows.push(line),
            },
        }
    }
    steps
}

/// Whether a line is like the one of the guide, where `...` may be anything.
fn is_like(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

/// The same for several lines, where one that is `...` alone stands for any of them.
fn are_like(lines: &[&str], wanted: &[&str]) -> bool {
    match (lines, wanted) {
        ([], []) => true,
        (_, ["...", rest @ ..]) => (0..=lines.len()).any(|at| are_like(&lines[at..], rest)),
        ([line, lines @ ..], [first, wanted @ ..]) => {
            is_like(line, first) && are_like(lines, wanted)
        }
        _ => false,
    }
}

#[test]
fn each_line_of_the_guide_shows_what_the_guide_says() {
    let cluster = Cluster::started(3);
    let addresses: Vec<String> = cluster.ports().into_iter().map(uri).collect();
    let address = addresses.join(",");
    let steps = steps();
    assert!(steps.len() > 25, "the guide has few commands: {}", steps.len());
    for step in &steps {
        assert!(step.command.starts_with("amrita "), "{}", step.command);
        let words = step.command.split(' ').map(|word| match word.strip_suffix("amrita") {
            // Also in a command within the command.
            Some(before) if before.is_empty() || before.ends_with("$(") => {
                format!("{before}\"$AMRITA\"")
            }
            _ => word.to_owned(),
        });
        let script = words.collect::<Vec<_>>().join(" ");
        let output = Command::new("sh")
            .args(["-c", &format!("{script} 2>&1")])
            .env("AMRITA", env!("CARGO_BIN_EXE_amrita"))
            .env("AMRITA_ADDRESS", &address)
            .stdin(Stdio::null())
            .output()
            .expect("there is a shell");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        // A write shows the document; that is no matter of this guide.
        if step.shows.is_empty() {
            assert!(output.status.success(), "{}\n{shown}", step.command);
            continue;
        }
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        let is_right = are_like(&lines, &step.shows);
        assert!(
            is_right,
            "{}\nshows\n{shown}\nand the guide says\n{:#?}",
            step.command, step.shows
        );
    }
}
