//! What happened in a run: a hash of everything, to compare two runs of one seed, and on demand a
//! line for each thing, for people.

use std::fmt::{self, Write};

use bytes::Bytes;
use node::{Input, Output};
use protocol::hash::Hash;

use crate::agenda::Time;

/// Hashes (FNV-1a) every input and output; prints them if asked.
#[derive(Default)]
pub struct Trace {
    hash: Hash,
    things: u64,
    /// Takes the lines; none when nobody reads them.
    lines: Option<Reader>,
}

/// Who reads the lines of a trace.
type Reader = Box<dyn FnMut(&str)>;

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x} of {} things)", self.hash.sum(), self.things)
    }
}

/// Feeds text into the hash without making a string of it.
struct Feed<'a>(&'a mut Hash);

impl Write for Feed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.add(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    /// Prints each thing through `show`.
    pub fn shown(show: impl FnMut(&str) + 'static) -> Self {
        Self { lines: Some(Box::new(show)), ..Self::default() }
    }

    pub fn hash(&self) -> u64 {
        self.hash.sum()
    }

    /// How many inputs, outputs and faults there were.
    pub fn things(&self) -> u64 {
        self.things
    }

    pub fn input(&mut self, now: Time, machine: &str, input: &Input) {
        self.begin(now, machine);
        match input {
            Input::Tick => self.hash.add(b"tick"),
            Input::Received { link, frame } => {
                self.hash.add(&link.to_le_bytes());
                self.hash.add(frame);
            }
            other => self.feed(format_args!("{other:?}")),
        }
        match input {
            Input::Tick => {}
            Input::Received { link, frame } => {
                self.line(now, machine, format_args!("<- link {link}: {} bytes", frame.len()));
            }
            other => self.line(now, machine, format_args!("<- {other:?}")),
        }
    }

    pub fn output(&mut self, now: Time, machine: &str, output: &Output) {
        self.begin(now, machine);
        match output {
            Output::Send { link, frame } => {
                self.hash.add(&link.to_le_bytes());
                frame.iter().for_each(|piece| self.hash.add(piece));
                let bytes: usize = frame.iter().map(Bytes::len).sum();
                self.line(now, machine, format_args!("-> link {link}: {bytes} bytes"));
            }
            other => {
                self.feed(format_args!("{other:?}"));
                self.line(now, machine, format_args!("-> {other:?}"));
            }
        }
    }

    /// Something the world did: a fault, a start, a client's step.
    pub fn event(&mut self, now: Time, machine: &str, what: fmt::Arguments<'_>) {
        self.begin(now, machine);
        self.feed(what);
        self.line(now, machine, format_args!("** {what}"));
    }

    fn begin(&mut self, now: Time, machine: &str) {
        self.things += 1;
        self.hash.add(&now.to_le_bytes());
        self.hash.add(machine.as_bytes());
    }

    fn feed(&mut self, what: fmt::Arguments<'_>) {
        Feed(&mut self.hash).write_fmt(what).expect("hashing cannot fail");
    }

    fn line(&mut self, now: Time, machine: &str, what: fmt::Arguments<'_>) {
        if let Some(show) = &mut self.lines {
            const SHOWN_MAX: usize = 600;
            let mut text = format!("{:>11.6} {machine:<3} {what}", seconds(now));
            if text.len() > SHOWN_MAX {
                let end = (0..=SHOWN_MAX).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or(0));
                text.push('…');
            }
            show(&text);
        }
    }
}

/// For people.
pub fn seconds(time: Time) -> f64 {
    std::time::Duration::from_micros(time).as_secs_f64()
}
