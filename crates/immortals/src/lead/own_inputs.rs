//! What the owner and its program put into their own log: START, timers, results, messages of the
//! program to itself.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct OwnInputs {
    /// START is on its way into the log.
    pub(crate) has_started: bool,
    /// The number of the next message of the program to itself. All before it are on their way into
    /// the log, even those of a program that is gone.
    pub(crate) next_to_self: u64,
    /// Timers and results that this owner has put on their way into the log, and as which input
    /// they were logged. They are remembered until the program is told, because only then its
    /// output state knows them.
    resolved: BTreeMap<u64, Option<u64>>,
}

impl OwnInputs {
    pub(crate) fn is_resolved(&self, id: u64) -> bool {
        self.resolved.contains_key(&id)
    }

    pub(crate) fn resolve(&mut self, id: u64) {
        self.resolved.insert(id, None);
    }

    /// The timer or result is in the log, as that input.
    pub(crate) fn landed(&mut self, id: u64, input: u64) {
        self.resolved.insert(id, Some(input));
    }

    /// The program was told all inputs up to this one.
    pub(crate) fn told(&mut self, told: u64) {
        self.resolved.retain(|_, input| input.is_none_or(|input| told < input));
    }
}
