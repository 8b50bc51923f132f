//! The rules that no run may break, each in a file of its own.

use std::fmt;

pub mod changes;
pub mod document;
pub mod immortals;
pub mod ledger;
pub mod linearizable;
pub mod listener;
pub mod moment;
pub mod mortals;
pub mod next_events;
pub mod once;
pub mod promises;
pub mod quorum;
pub mod replicas;
pub mod rights;

pub mod versions;

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: &'static str,
    /// How, with names and values.
    pub what: String,
}

impl Broken {
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }

    /// Says on which machine.
    #[must_use]
    pub fn at(self, machine: &str) -> Self {
        Self { what: format!("{machine}: {}", self.what), ..self }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl std::error::Error for Broken {}
