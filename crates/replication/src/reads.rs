//! Tickets of reads that wait for a quorum to confirm the owner.
//!
//! At most one round is on its way; the tickets that come meanwhile share the next. raft-rs puts
//! the round on every heartbeat until a quorum has answered, so a lost one is retried with the
//! next heartbeat.

use std::mem;

use protocol::{Position, Term};

/// More tickets than this are refused: the caller says "busy".
pub(crate) const TICKETS_MAX: usize = 1 << 16;

/// The tickets of one replica. They belong to one ownership, and fall with it.
#[derive(Default)]
pub(crate) struct Reads {
    /// The term in which this replica owns the group, or none.
    term_owned: Option<Term>,
    waiting: Vec<u64>,
    round: Option<Round>,
    rounds_begun: u64,
    confirmed: Vec<(u64, Position)>,
    refused: Vec<u64>,
}

struct Round {
    number: u64,
    tickets: Vec<u64>,
}

impl Reads {
    /// To be told before anything else is done: tickets of another ownership are refused.
    pub(crate) fn watch(&mut self, term_owned: Option<Term>) {
        if term_owned != self.term_owned {
            self.term_owned = term_owned;
            self.refused.extend(self.round.take().into_iter().flat_map(|round| round.tickets));
            self.refused.append(&mut self.waiting);
        }
    }

    /// False when there are too many already.
    pub(crate) fn add(&mut self, ticket: u64) -> bool {
        let tickets = self.round.as_ref().map_or(0, |round| round.tickets.len());
        let room = self.waiting.len() + tickets < TICKETS_MAX;
        if room {
            self.waiting.push(ticket);
        }
        room
    }

    /// The context of the round that shall begin now, if one shall.
    pub(crate) fn begin(&mut self) -> Option<Vec<u8>> {
        if self.round.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.rounds_begun += 1;
        let number = self.rounds_begun;
        self.round = Some(Round { number, tickets: mem::take(&mut self.waiting) });
        Some(number.to_le_bytes().to_vec())
    }

    /// A quorum has answered. An answer to another round than the present one changes nothing.
    pub(crate) fn end(&mut self, context: &[u8], position: Position) {
        if let Some(round) = self.round.take_if(|round| context == round.number.to_le_bytes()) {
            self.confirmed.extend(round.tickets.into_iter().map(|ticket| (ticket, position)));
        }
    }

    /// Nobody waits, and nobody is to be answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_none() && self.waiting.is_empty() && !self.has_answers()
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.confirmed.is_empty() || !self.refused.is_empty()
    }

    pub(crate) fn take_confirmed(&mut self) -> Vec<(u64, Position)> {
        mem::take(&mut self.confirmed)
    }

    pub(crate) fn take_refused(&mut self) -> Vec<u64> {
        mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_that_come_during_a_round_share_the_next() {
        let mut reads = Reads::default();
        reads.watch(Some(Term(1)));
        assert!(reads.add(1));
        let first = reads.begin().unwrap();
        assert!(reads.add(2) && reads.add(3));
        assert!(reads.begin().is_none());
        reads.end(b"another", Position(8));
        assert!(!reads.has_answers());
        reads.end(&first, Position(9));
        assert_eq!(reads.take_confirmed(), [(1, Position(9))]);
        let second = reads.begin().unwrap();
        reads.end(&second, Position(9));
        assert_eq!(reads.take_confirmed(), [(2, Position(9)), (3, Position(9))]);
    }

    #[test]
    fn tickets_fall_with_the_ownership() {
        let mut reads = Reads::default();
        reads.watch(Some(Term(1)));
        assert!(reads.add(1));
        reads.begin().unwrap();
        assert!(reads.add(2));
        reads.watch(Some(Term(3)));
        assert_eq!(reads.take_refused(), [1, 2]);
    }

    #[test]
    fn too_many_tickets_are_not_taken() {
        let mut reads = Reads::default();
        assert!((0..TICKETS_MAX).all(|_| reads.add(0)));
        assert!(!reads.add(0));
    }
}
