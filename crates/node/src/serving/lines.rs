//! The calls that wait for a copy, in lines. Those that one copy can answer and another one cannot
//! stand in different lines, so that none holds up the others. A call at which copies have failed
//! stands in a line of its own kind: it goes to a copy alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::service::{Call, Handler, Has};

/// What a copy must have for a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) factory: String,
    pub(super) handler: Handler,
    pub(super) action: String,
}

impl Wanted {
    pub(super) fn of(factory: &str, call: &Call) -> Self {
        let (handler, action) = (call.handler, call.action.clone());
        Self { factory: factory.to_owned(), handler, action }
    }

    /// Whether that is enough for it.
    pub(super) fn is_in(&self, has: &Has) -> bool {
        has.answers(self.handler, &self.action)
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match self.handler {
            Handler::Action => format!("the action '{}'", self.action),
            verb => format!("a handler of {}", verb.name()),
        }
    }
}

/// Who stands in a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) wanted: Wanted,
    /// Copies have failed at each of them, or have died while they had it.
    pub(super) is_suspect: bool,
}

/// The calls that are nowhere, by their numbers.
#[derive(Default)]
pub(super) struct Lines {
    lines: BTreeMap<Line, VecDeque<u64>>,
}

impl Lines {
    pub(super) fn push_back(&mut self, line: Line, number: u64) {
        self.lines.entry(line).or_default().push_back(number);
    }

    /// It has waited before: it stands before those for which `is_behind` holds.
    pub(super) fn insert(&mut self, line: Line, number: u64, is_behind: impl Fn(u64) -> bool) {
        let queue = self.lines.entry(line).or_default();
        let place = queue.iter().position(|other| is_behind(*other)).unwrap_or(queue.len());
        queue.insert(place, number);
    }

    pub(super) fn of(&self, line: &Line) -> impl Iterator<Item = u64> {
        self.lines.get(line).into_iter().flatten().copied()
    }

    pub(super) fn remove(&mut self, line: &Line, number: u64) {
        let Some(queue) = self.lines.get_mut(line) else { return };
        if let Some(place) = queue.iter().position(|other| *other == number) {
            queue.remove(place);
        }
        if queue.is_empty() {
            self.lines.remove(line);
        }
    }

    /// The lines of a kind, with the first of each. None is empty.
    pub(super) fn of_kind(&self, factory: &str) -> Vec<(Line, u64)> {
        let lines = self.lines.iter().filter(|(line, _)| line.wanted.factory == factory);
        lines.filter_map(|(line, queue)| Some((line.clone(), *queue.front()?))).collect()
    }

    /// The kinds that somebody waits for.
    pub(super) fn factories(&self) -> BTreeSet<String> {
        self.lines.keys().map(|line| line.wanted.factory.clone()).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.lines.values().flatten().copied()
    }
}
