//! How a tutorial speaks: steps, sentences, the lines to type, and what came of them.

use std::io::Write;
use std::time::{Duration, Instant};

use client::Method;
use serde_json::Value;

/// Columns of a sentence.
const WIDTH: usize = 92;

/// Characters of a JSON answer that are shown.
const SHOWN_MAX: usize = 400;

pub(crate) struct Story {
    steps: usize,
    step: usize,
    step_began: Instant,
}

impl Story {
    pub(crate) fn begin(title: &str, steps: usize) -> Self {
        line("");
        line(&format!("{title}\n{}", "=".repeat(title.chars().count())));
        Self { steps, step: 0, step_began: Instant::now() }
    }

    /// Closes the step before, and opens the next one.
    pub(crate) fn step(&mut self, title: &str) {
        self.close_step();
        self.step += 1;
        self.step_began = Instant::now();
        line("");
        line(&format!("--- {} of {}: {title} ---", self.step, self.steps));
    }

    pub(crate) fn close_step(&self) {
        if self.step > 0 {
            line(&format!("    (this step took {})", shown(self.step_began.elapsed())));
        }
    }

    /// Puts the number of the step before what went wrong.
    pub(crate) fn where_it_broke(&self, why: &str) -> String {
        format!("step {} of {}: {why}", self.step, self.steps)
    }

    /// A paragraph, broken at blanks.
    pub(crate) fn say(&self, text: &str) {
        let mut row = String::new();
        for word in text.split_whitespace() {
            if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > WIDTH {
                line(&row);
                row.clear();
            }
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(word);
        }
        line(&row);
    }

    /// A line that the reader could type.
    pub(crate) fn shell(&self, command: &str) {
        line(&format!("  $ {command}"));
    }

    pub(crate) fn curl(&self, method: Method, uri: &str, body: Option<&Value>) {
        let verb = match method {
            Method::Get => String::new(),
            other => format!(" -X {}", other.name()),
        };
        match body {
            None => self.shell(&format!("curl -s{verb} '{uri}'")),
            Some(body) => self.shell(&format!(
                "curl -s{verb} '{uri}' -H 'Content-Type: application/json' \\\n      -d '{body}'"
            )),
        }
    }

    /// What came back, or a row of a table.
    pub(crate) fn row(&self, text: &str) {
        line(&format!("    {text}"));
    }

    pub(crate) fn answer(&self, status: u16, body: &Value, took: Duration) {
        let mut text = if body.is_null() { String::new() } else { body.to_string() };
        if text.chars().count() > SHOWN_MAX {
            text = text.chars().take(SHOWN_MAX).collect::<String>() + " ...";
        }
        self.row(&format!("{status} after {}  {text}", shown(took)));
    }

    /// Something was checked and holds.
    pub(crate) fn holds(&self, what: &str) {
        line(&format!("  ok: {what}"));
    }
}

/// `3.1 ms`, `1.24 s`.
pub(crate) fn shown(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
    } else {
        format!("{:.2} s", took.as_secs_f64())
    }
}

/// A terminal that went away is no reason to stop.
pub(crate) fn line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}
