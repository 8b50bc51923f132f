//! Is there an order of these operations that one careful clerk, doing one at a time, could have
//! produced?
//!
//! The search is Wing and Gong's with Lowe's cache: take any operation that began before the first
//! end still to come, see whether the model allows it, go on; when stuck, step back. What was tried
//! is remembered as the set of operations done (a bit for each) and the state they led to, so no
//! situation is searched twice. A history here belongs to one document, which keeps it short.
//!
//! Two things keep the search short when many answers were lost: an operation without an answer is
//! tried only where no answered one fits, and a state is given up at once when it has left some
//! operation behind for good.

use std::collections::{BTreeMap, BTreeSet};

use crate::agenda::Time;

/// What one document may do.
pub trait Model {
    type State: Clone + Ord;
    type Operation;

    /// The state after the operation, if its recorded answer fits the state before. For an
    /// operation without a known answer: the state after it took effect, if it could.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// Whether the operation, which has a known answer, can fit neither this state nor any that may
    /// come after it.
    fn is_past(&self, state: &Self::State, operation: &Self::Operation) -> bool {
        let _unused = (state, operation);
        false
    }
}

/// An operation and when it was under way.
#[derive(Clone, Debug)]
pub struct Call<O> {
    pub operation: O,
    pub began: Time,
    /// When its answer was known. None: it may take effect at any time after it began, or never.
    pub ended: Option<Time>,
}

/// The longest part of the history for which there is an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Indices of calls, in the order in which they could have happened.
    pub explained: Vec<usize>,
    /// The call whose end came and that no order explains.
    pub unexplained: usize,
}

/// Why no order was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoOrder {
    /// There is none.
    Impossible(Stuck),
    /// There may be one: the search gave up.
    Unknown(Stuck),
}

/// The number of steps after which the search gives up.
pub const STEPS_MAX: u64 = 4_000_000;

/// # Errors
/// When no order explains the history, or none was found in [`STEPS_MAX`] steps.
pub fn check<M: Model>(
    model: &M,
    initial: M::State,
    calls: &[Call<M::Operation>],
    steps_max: u64,
) -> Result<(), NoOrder> {
    Search::new(model, initial, calls).run(steps_max)
}

/// A beginning or an end, in a doubly linked list ordered by time.
#[derive(Clone, Copy)]
struct Entry {
    call: usize,
    is_end: bool,
    before: usize,
    after: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Operation>],
    /// The first is a sentinel, so that the list is never empty.
    entries: Vec<Entry>,
    /// Where the end of a call is in the list; none if its answer is not known.
    ends: Vec<Option<usize>>,
    known_left: usize,
    done: Vec<u64>,
    /// States by number, so that the cache compares numbers.
    numbers: BTreeMap<M::State, u32>,
    cache: BTreeSet<(Vec<u64>, u32)>,
    /// The entries taken, and the state before each.
    taken: Vec<(usize, M::State)>,
    state: M::State,
    best: Option<Stuck>,
}

const SENTINEL: usize = 0;

/// Which operations are tried: those with an answer come first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Known,
    Unknown,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, initial: M::State, calls: &'a [Call<M::Operation>]) -> Self {
        let mut moments: Vec<(Time, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        for (index, call) in calls.iter().enumerate() {
            moments.push((call.began, false, index));
            if let Some(ended) = call.ended {
                moments.push((ended, true, index));
            }
        }
        // At the same time beginnings come first: such calls are taken to overlap.
        moments.sort_unstable();
        let sentinel = Entry { call: usize::MAX, is_end: true, before: 0, after: 0 };
        let mut entries = vec![sentinel];
        let mut ends = vec![None; calls.len()];
        for (_, is_end, call) in moments {
            let at = entries.len();
            entries[at - 1].after = at;
            entries.push(Entry { call, is_end, before: at - 1, after: SENTINEL });
            if is_end {
                ends[call] = Some(at);
            }
        }
        Self {
            model,
            calls,
            entries,
            known_left: ends.iter().flatten().count(),
            ends,
            done: vec![0; calls.len().div_ceil(64)],
            numbers: BTreeMap::new(),
            cache: BTreeSet::new(),
            taken: Vec::new(),
            state: initial,
            best: None,
        }
    }

    fn run(mut self, steps_max: u64) -> Result<(), NoOrder> {
        let mut at = self.entries[SENTINEL].after;
        let mut pass = Pass::Known;
        let mut steps = 0_u64;
        // While an answer is unexplained, its end is in the list, and no entry behind the first
        // end is ever taken: so `at` never runs off the list.
        while self.known_left > 0 {
            steps += 1;
            let entry = self.entries[at];
            let is_stuck = if entry.is_end {
                pass == Pass::Unknown
            } else {
                let operation = &self.calls[entry.call].operation;
                let is_known = self.ends[entry.call].is_some();
                if is_known && pass == Pass::Known && self.model.is_past(&self.state, operation) {
                    true
                } else if is_known == (pass == Pass::Known) && self.take(at) {
                    (at, pass) = (self.entries[SENTINEL].after, Pass::Known);
                    continue;
                } else {
                    at = entry.after;
                    continue;
                }
            };
            if !is_stuck {
                (at, pass) = (self.entries[SENTINEL].after, Pass::Unknown);
                continue;
            }
            self.note_stuck(entry.call);
            let Some(back) = self.give_back() else {
                return Err(NoOrder::Impossible(self.stuck()));
            };
            if steps >= steps_max {
                return Err(NoOrder::Unknown(self.stuck()));
            }
            let was_known = self.ends[self.entries[back].call].is_some();
            pass = if was_known { Pass::Known } else { Pass::Unknown };
            at = self.entries[back].after;
        }
        Ok(())
    }

    /// Takes the call that begins there as the next in the order, if the model and the cache allow.
    fn take(&mut self, at: usize) -> bool {
        let call = self.entries[at].call;
        let Some(next) = self.model.step(&self.state, &self.calls[call].operation) else {
            return false;
        };
        self.done[call / 64] |= 1 << (call % 64);
        let count = u32::try_from(self.numbers.len()).expect("fewer states than 2^32");
        let number = *self.numbers.entry(next.clone()).or_insert(count);
        if !self.cache.insert((self.done.clone(), number)) {
            self.done[call / 64] &= !(1 << (call % 64));
            return false;
        }
        self.taken.push((at, std::mem::replace(&mut self.state, next)));
        self.unlink(at);
        if let Some(end) = self.ends[call] {
            self.unlink(end);
            self.known_left -= 1;
        }
        true
    }

    /// Takes back the last call of the order and says where it began.
    fn give_back(&mut self) -> Option<usize> {
        let (at, state) = self.taken.pop()?;
        let call = self.entries[at].call;
        self.state = state;
        self.done[call / 64] &= !(1 << (call % 64));
        if let Some(end) = self.ends[call] {
            self.relink(end);
            self.known_left += 1;
        }
        self.relink(at);
        Some(at)
    }

    fn unlink(&mut self, at: usize) {
        let Entry { before, after, .. } = self.entries[at];
        self.entries[before].after = after;
        self.entries[after].before = before;
    }

    fn relink(&mut self, at: usize) {
        let Entry { before, after, .. } = self.entries[at];
        self.entries[before].after = at;
        self.entries[after].before = at;
    }

    fn stuck(self) -> Stuck {
        self.best.expect("it was noted where the search is stuck")
    }

    fn note_stuck(&mut self, unexplained: usize) {
        if self.best.as_ref().is_none_or(|best| best.explained.len() < self.taken.len()) {
            let explained = self.taken.iter().map(|&(at, _)| self.entries[at].call).collect();
            self.best = Some(Stuck { explained, unexplained });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: writes put a number, reads show it.
    struct Register;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(u32),
        Read(u32),
    }

    impl Model for Register {
        type State = u32;
        type Operation = Step;

        fn step(&self, state: &u32, operation: &Step) -> Option<u32> {
            match *operation {
                Step::Write(value) => Some(value),
                Step::Read(value) => (value == *state).then_some(value),
            }
        }
    }

    fn known(operation: Step, began: Time, ended: Time) -> Call<Step> {
        Call { operation, began, ended: Some(ended) }
    }

    fn unknown(operation: Step, began: Time) -> Call<Step> {
        Call { operation, began, ended: None }
    }

    fn found(calls: &[Call<Step>]) -> Result<(), NoOrder> {
        check(&Register, 0, calls, STEPS_MAX)
    }

    #[test]
    fn a_search_that_gives_up_does_not_say_that_there_is_no_order() {
        // Of these writes nobody knows whether they happened, and no order explains the read.
        let mut calls: Vec<Call<Step>> = (0..20).map(|n| unknown(Step::Write(n), 0)).collect();
        calls.push(known(Step::Read(99), 10, 20));
        assert!(matches!(check(&Register, 0, &calls, 50), Err(NoOrder::Unknown(_))));
    }

    #[test]
    fn overlapping_calls_may_happen_in_either_order() {
        let calls = [
            known(Step::Write(1), 0, 10),
            known(Step::Write(2), 0, 10),
            known(Step::Read(1), 20, 30),
        ];
        assert_eq!(found(&calls), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        let calls = [
            known(Step::Write(1), 0, 10),
            known(Step::Write(2), 20, 30),
            known(Step::Read(1), 40, 50),
        ];
        let stuck = Stuck { explained: vec![0, 1], unexplained: 2 };
        assert_eq!(found(&calls), Err(NoOrder::Impossible(stuck)));
    }

    #[test]
    fn a_value_that_comes_back_is_found() {
        let calls = [
            known(Step::Write(1), 0, 100),
            known(Step::Write(2), 0, 100),
            known(Step::Read(1), 110, 120),
            known(Step::Read(2), 130, 140),
            known(Step::Read(1), 150, 160),
        ];
        assert!(found(&calls).is_err());
    }

    #[test]
    fn a_write_without_an_answer_may_happen_late_or_never() {
        let late = [unknown(Step::Write(1), 0), known(Step::Read(0), 10, 20)];
        assert_eq!(found(&late), Ok(()));
        let seen = [
            unknown(Step::Write(1), 0),
            known(Step::Read(0), 10, 20),
            known(Step::Read(1), 30, 40),
            known(Step::Read(1), 50, 60),
        ];
        assert_eq!(found(&seen), Ok(()));
    }

    #[test]
    fn a_write_without_an_answer_happens_once_only_and_not_before_it_began() {
        let twice = [
            unknown(Step::Write(1), 0),
            known(Step::Read(1), 10, 20),
            known(Step::Write(2), 30, 40),
            known(Step::Read(1), 50, 60),
        ];
        assert!(found(&twice).is_err());
        let early = [known(Step::Read(1), 0, 10), unknown(Step::Write(1), 20)];
        assert!(found(&early).is_err());
    }

    #[test]
    fn a_long_history_with_many_lost_answers_is_checked_quickly() {
        let mut calls = Vec::new();
        for round in 0..400_u32 {
            let at = Time::from(round) * 100;
            let value = round + 1;
            calls.push(known(Step::Write(value), at, at + 30));
            calls.push(known(Step::Read(value), at + 40, at + 60));
            if round % 10 == 0 {
                calls.push(unknown(Step::Write(1_000_000 + round), at + 5));
            }
        }
        assert_eq!(found(&calls), Ok(()));
    }
}
