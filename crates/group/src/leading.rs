//! What an owner has beside its machine: the leader, its proposals, and the requests under way.

use std::collections::VecDeque;

use protocol::{Code, Outcome, Position, Problem, Term};

use crate::machine::Machine;
use crate::requests::{Requests, Unheld};

/// How many requests an owner takes on for one group before it says that it is busy.
pub const REQUESTS_PER_GROUP_MAX: usize = 20_000;

/// How long a written answer waits for the membership quorum after too few replicas are left, in
/// microseconds.
const QUORUM_PATIENCE_MICROS: u64 = 1_500_000;

/// The membership quorum as it is in force, and how many nodes are up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// How many replicas must hold a write before it is acknowledged.
    pub needed: usize,
    pub up: usize,
}

/// This replica owns its group.
pub(crate) struct Leading<M: Machine> {
    pub(crate) leader: M::Leader,
    pub(crate) term: Term,
    /// Tells this leader from others of the same group, even of the same term.
    pub(crate) opening: u64,
    pub(crate) requests: Requests<M::Answer>,
    /// The leader's proposals and the positions that they will have, in order.
    pub(crate) proposals: VecDeque<(Position, u64)>,
}

/// What is to be done with an answer that has waited for the membership quorum.
pub(crate) enum Verdict {
    Release,
    Wait,
    /// The write is done, but not on as many replicas as were asked for.
    GiveUp(Problem),
}

impl Quorum {
    /// Whether an answer that waits may leave.
    pub(crate) fn judge<A>(self, unheld: &Unheld<A>, held: usize, now: u64) -> Verdict {
        if held >= self.needed {
            return Verdict::Release;
        }
        let waited = now.saturating_sub(unheld.since);
        if self.up >= self.needed || waited <= QUORUM_PATIENCE_MICROS {
            return Verdict::Wait;
        }
        let text = format!(
            "the write is committed on {held} replicas, but the membership quorum is {} and a node \
             went away meanwhile; it will be seen, and is safe on a majority",
            self.needed
        );
        let problem = Problem::new(Code::QuorumNotMet, text);
        Verdict::GiveUp(problem.with_outcome(Outcome::Unknown))
    }
}

impl<M: Machine> Leading<M> {
    /// The proposal that has this position, if the leader made one. The second value is false when
    /// an entry of another owner stands in its place.
    pub(crate) fn take_proposal(&mut self, position: Position, term: Term) -> Option<(u64, bool)> {
        let (first, _) = self.proposals.front()?;
        assert!(*first >= position, "the entry at {first} was passed over");
        if *first > position {
            return None;
        }
        let (_, proposal) = self.proposals.pop_front().expect("it was just looked at");
        Some((proposal, term == self.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_the_quorum_as_long_as_that_can_be_met() {
        let unheld = Unheld { ticket: 1, position: Position(1), answer: (), since: 0 };
        let late = QUORUM_PATIENCE_MICROS + 1;
        let quorum = |up| Quorum { needed: 3, up };
        assert!(matches!(quorum(2).judge(&unheld, 3, 0), Verdict::Release));
        assert!(matches!(quorum(3).judge(&unheld, 2, late), Verdict::Wait), "it can still be met");
        assert!(matches!(quorum(2).judge(&unheld, 2, 5), Verdict::Wait));
        let Verdict::GiveUp(problem) = quorum(2).judge(&unheld, 2, late) else {
            panic!("too few nodes are left")
        };
        assert_eq!(problem.outcome, Some(Outcome::Unknown), "it is committed");
    }
}
