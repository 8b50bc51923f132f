//! How far the log is applied on this replica, and the sum of the log up to there.

use protocol::{Position, Term};

use crate::history::input_state::InputState;

#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) input_state: InputState,
    pub(crate) position: Position,
    /// The term of the last applied entry.
    pub(crate) term: Term,
    /// The bytes of log since the base, for deciding when the next checkpoint is due.
    pub(crate) log_bytes: u64,
}

impl History {
    pub(crate) fn new(input_state: InputState, position: Position, term: Term) -> Self {
        Self { input_state, position, term, log_bytes: 0 }
    }

    /// Moves to the next entry.
    pub(crate) fn advance(&mut self, position: Position, term: Term, bytes: usize) {
        assert!(
            position > self.position && term >= self.term,
            "Invariant: entries are applied in order, not {position} (term {term}) after {} ({})",
            self.position,
            self.term
        );
        (self.position, self.term) = (position, term);
        self.log_bytes += bytes as u64;
    }
}
