//! Starting `cargo`, and showing what it says.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One call of `cargo`.
pub(crate) struct Step<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    /// Beside that of this process.
    environment: Vec<(&'a str, &'a str)>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(name: &'a str, arguments: &[&'a str]) -> Self {
        Self { name, arguments: arguments.to_vec(), environment: Vec::new() }
    }

    /// With a variable of the environment.
    pub(crate) fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.environment.push((name, value));
        self
    }

    pub(crate) fn run(&self) -> Result<(), String> {
        let mut command = self.announce();
        let began = Instant::now();
        let status = command.status().map_err(|error| format!("cargo cannot start: {error}"))?;
        self.close(began, status.success())
    }

    /// Runs the step, and shows each line of its output to `see`.
    pub(crate) fn run_and_see(&self, see: &mut dyn FnMut(&str)) -> Result<(), String> {
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
        command.args(&self.arguments).envs(self.environment.iter().copied());
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
