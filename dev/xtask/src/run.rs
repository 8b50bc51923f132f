//! Starting `cargo`, showing what it says, and keeping some of its lines.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One call of `cargo`.
pub(crate) struct Step<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
}

/// Why a step failed, and the lines that were kept all the same.
type Failed = (String, Vec<String>);

impl<'a> Step<'a> {
    pub(crate) fn new(name: &'a str, arguments: &[&'a str]) -> Self {
        Self { name, arguments: arguments.to_vec() }
    }

    pub(crate) fn run(&self) -> Result<(), String> {
        let mut command = self.announce();
        let began = Instant::now();
        let status = command.status().map_err(|error| format!("cargo cannot start: {error}"))?;
        self.close(began, status.success())
    }

    /// Runs the step, passes its output on, and gives back the lines that `keep` wants.
    pub(crate) fn run_and_keep(&self, keep: fn(&str) -> bool) -> Result<Vec<String>, Failed> {
        let mut kept = Vec::new();
        match self.run_and_see(&mut |line| {
            say(line);
            if keep(line) {
                kept.push(line.to_owned());
            }
        }) {
            Ok(()) => Ok(kept),
            Err(why) => Err((why, kept)),
        }
    }

    fn run_and_see(&self, see: &mut dyn FnMut(&str)) -> Result<(), String> {
        let mut command = self.announce();
        let began = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cargo cannot start: {error}"))?;
        let output = child.stdout.take().expect("the output was asked for");
        for line in BufReader::new(output).lines() {
            see(&line.map_err(|error| format!("cargo's output cannot be read: {error}"))?);
        }
        let status = child.wait().map_err(|error| format!("cargo cannot be awaited: {error}"))?;
        self.close(began, status.success())
    }

    fn announce(&self) -> Command {
        say(&format!("\n== {}: cargo {}", self.name, self.arguments.join(" ")));
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(&self.arguments);
        command
    }

    fn close(&self, began: Instant, passed: bool) -> Result<(), String> {
        if passed {
            say(&format!("== {}: passed in {:.1} s", self.name, began.elapsed().as_secs_f64()));
            return Ok(());
        }
        Err(format!("{} (cargo {})", self.name, self.arguments.join(" ")))
    }
}

/// One line to the terminal. A closed pipe is no reason to stop a test run.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
