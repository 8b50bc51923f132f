//! Writes that this owner has refused in its term, or that changed nothing, remembered for a while.
//!
//! A node that waits too long asks again, so a request may reach its owner twice. What was written
//! is recorded with the document. What was *refused* is recorded nowhere, and a late copy could
//! find that the write would now be possible, after the client was told that it was surely not
//! applied. A write that had nothing to do, as the deletion of what was not there, is like that: a
//! late copy could delete what was made since. So the owner gives a late copy the answer of the
//! first.
//!
//! The answers hold for one term. An owner of a later term has its own; a copy that was meant for
//! an owner of another term is not taken on at all.
//!
//! The memory is bounded by bytes. When it is full the oldest answer goes, and the owner remembers
//! how far each caller's forgotten numbers reach: a request at or under that mark may be a copy of
//! a forgotten one, and is not carried out.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Code, Outcome, Problem, ReplicaId, Term};

use crate::requests::Caller;

/// How long a refusal is remembered, in microseconds: six times as long as a request may take.
const REMEMBERED_MICROS: u64 = 60_000_000;

/// How many bytes of refusals one group keeps, or fewer where many groups of a node have some. With
/// more the oldest are forgotten, and what may be a copy of them is answered with `BUSY` and an
/// unknown outcome.
pub const REFUSED_MAX: usize = 2 << 20;

/// A longer answer is replaced by a short one.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// What an entry takes beside its answer, roughly.
const ENTRY_BYTES: usize = 128;

/// An answer that can be remembered.
pub trait Refusal: Clone + From<Problem> {
    /// The length of the answer, if it tells of nothing that was written.
    fn refused_bytes(&self) -> Option<usize>;
}

struct Known {
    caller: Caller,
    at: u64,
    bytes: usize,
}

pub(crate) struct Refused<A> {
    term: Term,
    answers: BTreeMap<Caller, A>,
    /// In order of time.
    order: VecDeque<Known>,
    bytes: usize,
    /// The highest number of each caller's node and boot that was forgotten for want of room.
    forgotten: BTreeMap<(ReplicaId, u64), u64>,
}

impl<A> Default for Refused<A> {
    fn default() -> Self {
        Self {
            term: Term(0),
            answers: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            forgotten: BTreeMap::new(),
        }
    }
}

impl<A: Refusal> Refused<A> {
    /// Keeps the answer, unless what was written records it.
    pub(crate) fn remember(&mut self, term: Term, caller: Caller, answer: &A, now: u64) {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        let Some(length) = answer.refused_bytes() else { return };
        if self.answers.contains_key(&caller) {
            return;
        }
        let (answer, length) = if length > ANSWER_BYTES_MAX {
            (A::from(forgotten()), ENTRY_BYTES)
        } else {
            (answer.clone(), length)
        };
        let bytes = length + ENTRY_BYTES;
        self.answers.insert(caller, answer);
        self.order.push_back(Known { caller, at: now, bytes });
        self.bytes += bytes;
        self.shrink(REFUSED_MAX);
    }

    /// Forgets the oldest answers until they take at most that many bytes.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let oldest = self.drop_oldest();
            let mark = self.forgotten.entry((oldest.node, oldest.boot)).or_default();
            *mark = (*mark).max(oldest.number);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answer to a request that was, or may have been, refused in this term.
    pub(crate) fn find(&self, term: Term, caller: Caller) -> Option<A> {
        if self.term != term {
            return None;
        }
        if let Some(answer) = self.answers.get(&caller) {
            return Some(answer.clone());
        }
        let mark = self.forgotten.get(&(caller.node, caller.boot))?;
        (caller.number <= *mark).then(|| A::from(forgotten()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Time goes on.
    pub(crate) fn forget(&mut self, now: u64) {
        while let Some(first) = self.order.front()
            && now.saturating_sub(first.at) >= REMEMBERED_MICROS
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> Caller {
        let oldest = self.order.pop_front().expect("what takes room is in the order");
        self.bytes -= oldest.bytes;
        self.answers.remove(&oldest.caller);
        oldest.caller
    }
}

fn forgotten() -> Problem {
    let message = "this request was refused, and the owner has forgotten why; send it again as a \
                   new request";
    Problem::new(Code::Busy, message).with_outcome(Outcome::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Answer(usize, Option<Outcome>);

    impl From<Problem> for Answer {
        fn from(problem: Problem) -> Self {
            Self(problem.message.len(), problem.outcome)
        }
    }

    impl Refusal for Answer {
        fn refused_bytes(&self) -> Option<usize> {
            (self.0 > 0).then_some(self.0)
        }
    }

    fn caller(number: u64) -> Caller {
        Caller { node: ReplicaId(1), boot: 1, number }
    }

    const REFUSED: Answer = Answer(10, Some(Outcome::NotApplied));
    const DONE: Answer = Answer(0, None);

    #[test]
    fn a_refusal_is_remembered_for_a_while_and_a_success_is_not() {
        let mut refused = Refused::default();
        refused.remember(Term(1), caller(1), &REFUSED, 5);
        refused.remember(Term(1), caller(2), &DONE, 5);
        assert_eq!(refused.find(Term(1), caller(1)), Some(REFUSED));
        assert_eq!(refused.find(Term(1), caller(2)), None);
        assert_eq!(refused.find(Term(2), caller(1)), None, "it may be done meanwhile");
        refused.forget(5 + REMEMBERED_MICROS - 1);
        assert!(refused.find(Term(1), caller(1)).is_some());
        refused.forget(5 + REMEMBERED_MICROS);
        assert!(refused.find(Term(1), caller(1)).is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_what_was_forgotten_is_not_carried_out() {
        let mut refused = Refused::default();
        for number in 1..=200_000 {
            refused.remember(Term(1), caller(number), &REFUSED, 5);
        }
        assert!(refused.bytes <= REFUSED_MAX && refused.order.len() < 20_000);
        let late = refused.find(Term(1), caller(1)).expect("it may be a copy of a refused one");
        assert_eq!(late.1, Some(Outcome::Unknown));
        assert!(refused.find(Term(1), caller(200_001)).is_none(), "a new one is taken on");
        assert_eq!(refused.find(Term(1), caller(200_000)), Some(REFUSED));
    }

    #[test]
    fn what_is_forgotten_for_the_sake_of_other_groups_is_not_carried_out_either() {
        let mut refused = Refused::default();
        for number in 1..=100 {
            refused.remember(Term(1), caller(number), &REFUSED, 5);
        }
        let all = refused.bytes();
        refused.shrink(all / 2);
        assert!(refused.bytes() <= all / 2 && refused.bytes() > all / 3);
        let late = refused.find(Term(1), caller(1)).expect("it may be a copy of a refused one");
        assert_eq!(late.1, Some(Outcome::Unknown));
        assert_eq!(refused.find(Term(1), caller(100)), Some(REFUSED));
    }

    #[test]
    fn a_long_answer_is_not_kept() {
        let mut refused = Refused::default();
        refused.remember(Term(1), caller(1), &Answer(200_000, None), 5);
        assert!(refused.bytes < 1_000);
        assert!(refused.find(Term(1), caller(1)).is_some());
    }
}
