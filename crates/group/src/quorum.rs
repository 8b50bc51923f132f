//! How many replicas must hold a write before it is acknowledged.

use protocol::{Code, Outcome, Problem};

use crate::requests::Unheld;

/// How long a written answer waits for the membership quorum after too few replicas are left, in
/// microseconds.
const QUORUM_PATIENCE_MICROS: u64 = 1_500_000;

/// The membership quorum as it is in force, and how many nodes are up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// With fewer nodes up, writes are refused at once.
    pub needed: usize,
    /// What a person has set: how many replicas must hold a write before it is acknowledged. 0 if
    /// nothing is set: the majority of the group's voters counts, without those that are being
    /// removed. The majority of the nodes may be more for a while, until a node that was let in is
    /// filled.
    pub set: usize,
    pub up: usize,
}

/// What is to be done with an answer that has waited for the membership quorum.
pub(crate) enum Verdict {
    Release,
    Wait,
    /// The write is done, but not on as many replicas as were asked for.
    GiveUp(Problem),
}

impl Quorum {
    /// Whether an answer that waits may leave. `least`: what is needed whatever is set.
    pub(crate) fn judge<A>(
        self,
        unheld: &Unheld<A>,
        (held, least): (usize, usize),
        now: u64,
    ) -> Verdict {
        let needed = self.set.max(unheld.quorum).max(least);
        if held >= needed {
            return Verdict::Release;
        }
        let waited = now.saturating_sub(unheld.since);
        if self.up >= needed || waited <= QUORUM_PATIENCE_MICROS {
            return Verdict::Wait;
        }
        let text = format!(
            "the write is committed on {held} replicas, but {needed} are needed and a node went away \
             meanwhile; it will be seen, and is safe on a majority"
        );
        let problem = Problem::new(Code::QuorumNotMet, text);
        Verdict::GiveUp(problem.with_outcome(Outcome::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use protocol::Position;

    use super::*;

    #[test]
    fn an_answer_waits_for_the_quorum_as_long_as_that_can_be_met() {
        let unheld = Unheld { ticket: 1, position: Position(1), answer: (), quorum: 0, since: 0 };
        let late = QUORUM_PATIENCE_MICROS + 1;
        let quorum = |up| Quorum { needed: 3, set: 3, up };
        assert!(matches!(quorum(2).judge(&unheld, (3, 2), 0), Verdict::Release));
        assert!(
            matches!(quorum(3).judge(&unheld, (2, 2), late), Verdict::Wait),
            "it can still be met"
        );
        assert!(matches!(quorum(2).judge(&unheld, (2, 2), 5), Verdict::Wait));
        let Verdict::GiveUp(problem) = quorum(2).judge(&unheld, (2, 2), late) else {
            panic!("too few nodes are left")
        };
        assert_eq!(problem.outcome, Some(Outcome::Unknown), "it is committed");
        let all = Unheld { quorum: 3, ..unheld };
        let quorum = Quorum { needed: 2, set: 0, up: 3 };
        assert!(matches!(quorum.judge(&all, (2, 2), 5), Verdict::Wait), "its client wants all");
        assert!(matches!(quorum.judge(&all, (3, 2), 5), Verdict::Release));
        let usual = Unheld { quorum: 0, ..all };
        assert!(
            matches!(quorum.judge(&usual, (1, 1), 5), Verdict::Release),
            "one votes, and it stays"
        );
        assert!(
            matches!(quorum.judge(&usual, (1, 2), 5), Verdict::Wait),
            "the other one is leaving"
        );
    }
}
