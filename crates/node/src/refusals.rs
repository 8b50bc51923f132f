//! Writes that were refused, remembered for a while by the owner that refused them.
//!
//! An edge that waits too long asks again, so a request may reach its owner twice. What was written
//! is recorded with the document; what was *refused* is recorded nowhere, and the second copy could
//! find that it would now be possible (the document is there by now), after the client was told
//! that it was surely not applied. So the owner gives the second copy the answer of the first. A
//! copy that was meant for an owner of another term is not taken at all (`Frame::Ask`, `term`), which
//! is why memory is enough for this.
//!
//! The answer holds for its term only. It may have been lost on the way; then the edge asks the next
//! owner, who may do what was refused before. When the first owner owns again, its old refusal says
//! nothing any more: what was done meanwhile is in the records.

use std::collections::{BTreeMap, VecDeque};

use protocol::{ReplicaId, Term};

use crate::frame::Told;

/// How long a refusal is remembered, in microseconds: six times as long as an edge waits.
const REMEMBERED_MICROS: u64 = 60_000_000;

/// One request on its way, as its edge numbered it, and the term of the owner it was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ErrandId {
    pub(crate) edge: ReplicaId,
    pub(crate) boot: u64,
    pub(crate) number: u64,
    pub(crate) term: Term,
}

#[derive(Default)]
pub(crate) struct Refusals {
    answers: BTreeMap<ErrandId, Told>,
    /// In order of time.
    times: VecDeque<(u64, ErrandId)>,
}

impl Refusals {
    /// Keeps the answer if it is an error: a success is recorded with what was written.
    pub(crate) fn remember(&mut self, errand: ErrandId, answer: &Told, now_micros: u64) {
        let Told::Response(response) = answer else { return };
        if response.is_success() || self.answers.contains_key(&errand) {
            return;
        }
        self.answers.insert(errand, answer.clone());
        self.times.push_back((now_micros, errand));
    }

    pub(crate) fn find(&self, errand: ErrandId) -> Option<Told> {
        self.answers.get(&errand).cloned()
    }

    pub(crate) fn forget(&mut self, now_micros: u64) {
        while let Some((at, errand)) = self.times.front().copied() {
            if now_micros.saturating_sub(at) < REMEMBERED_MICROS {
                return;
            }
            self.times.pop_front();
            self.answers.remove(&errand);
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Code, Problem};

    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_a_while_and_a_success_is_not() {
        let errand = |number| ErrandId { edge: ReplicaId(1), boot: 1, number, term: Term(1) };
        let mut refusals = Refusals::default();
        let refused = Told::Response(Problem::new(Code::NotFound, "gone").into());
        let done = Told::Response(protocol::Response::bytes(200, bytes::Bytes::new()));
        refusals.remember(errand(1), &refused, 5);
        refusals.remember(errand(2), &done, 5);
        assert!(refusals.find(errand(1)).is_some());
        assert!(refusals.find(errand(2)).is_none());
        let later = ErrandId { term: Term(2), ..errand(1) };
        assert!(refusals.find(later).is_none(), "another owner may have done it meanwhile");
        refusals.forget(5 + REMEMBERED_MICROS - 1);
        assert!(refusals.find(errand(1)).is_some());
        refusals.forget(5 + REMEMBERED_MICROS);
        assert!(refusals.find(errand(1)).is_none());
    }
}
