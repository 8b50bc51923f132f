//! The requests that an owner has under way: who asked, under which key, and what the answer still
//! waits for. One table for the whole way of a request, from the question to the answer.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Code, KeyName, Position, Problem, ReplicaId, RequestKey};

/// How many repeats may wait for the answer of one request. More are told `BUSY`.
pub const REPEATS_MAX: usize = 1_024;

/// Who waits for an answer: a request as the node that took it in has numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    pub node: ReplicaId,
    /// Counts the starts of that node.
    pub boot: u64,
    pub number: u64,
}

/// A request that is not answered yet.
struct Pending {
    caller: Caller,
    /// The same request, asked again meanwhile.
    repeats: Vec<Caller>,
    key: Option<KeyName>,
    digest: u64,
    is_write: bool,
    /// How many replicas must hold it by its client's wish.
    quorum: usize,
}

/// What is left of a request that is answered.
pub struct Finished {
    /// The first caller, and then those that have asked again.
    pub callers: Vec<Caller>,
    pub is_write: bool,
}

/// An answer that waits until enough replicas hold what it tells of.
pub(crate) struct Unheld<A> {
    pub(crate) ticket: u64,
    pub(crate) position: Position,
    pub(crate) answer: A,
    /// As many replicas as its client asks for.
    pub(crate) quorum: usize,
    /// When it began to wait, in steady microseconds.
    pub(crate) since: u64,
}

/// What became of a new request.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It has this ticket from now on.
    New(u64),
    /// It is a repeat of one that is under way, and gets the same answer.
    Repeat,
    Refused(Problem),
}

/// All requests that one leader has under way.
pub struct Requests<A> {
    open: BTreeMap<u64, Pending>,
    /// The first ticket with each key under way.
    keys: BTreeMap<KeyName, u64>,
    /// Tickets whose ownership is confirmed, and the position that must be applied first.
    confirmed: Vec<(Position, u64)>,
    /// In order of their positions.
    unheld: VecDeque<Unheld<A>>,
    /// The last ticket that was given out.
    last: u64,
}

impl<A> Requests<A> {
    /// Tickets begin after `last`, so that no two leaders of a replica give out the same one.
    pub fn new(last: u64) -> Self {
        Self {
            open: BTreeMap::new(),
            keys: BTreeMap::new(),
            confirmed: Vec::new(),
            unheld: VecDeque::new(),
            last,
        }
    }

    pub fn last_ticket(&self) -> u64 {
        self.last
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes a request on, unless it is a repeat of one that is under way.
    pub fn open(&mut self, caller: Caller, key: Option<&RequestKey>, is_write: bool) -> Opened {
        let (mut name, mut digest) = (None, 0);
        if let Some(key) = key.filter(|_| is_write) {
            match self.join(caller, key) {
                Some(joined) => return joined,
                None => (name, digest) = (Some(key.name()), key.digest()),
            }
        }
        self.last += 1;
        if let Some(name) = &name {
            self.keys.insert(name.clone(), self.last);
        }
        let repeats = Vec::new();
        let pending = Pending { caller, repeats, key: name, digest, is_write, quorum: 0 };
        self.open.insert(self.last, pending);
        Opened::New(self.last)
    }

    /// `None`: nothing is under way with that key.
    fn join(&mut self, caller: Caller, key: &RequestKey) -> Option<Opened> {
        let first = self.keys.get(&key.name())?;
        let first = self.open.get_mut(first).expect("a key under way has an open request");
        if first.digest != key.digest() {
            return Some(Opened::Refused(key_reused(key)));
        }
        if first.caller == caller || first.repeats.contains(&caller) {
            return Some(Opened::Repeat);
        }
        if first.repeats.len() >= REPEATS_MAX {
            let message = "too many repeats of this request wait for its answer; wait with them";
            // The first one may be done, so this says nothing about the outcome.
            let problem = Problem::new(Code::Busy, message);
            return Some(Opened::Refused(problem.with_outcome(protocol::Outcome::Unknown)));
        }
        first.repeats.push(caller);
        Some(Opened::Repeat)
    }

    pub fn is_write(&self, ticket: u64) -> bool {
        self.open.get(&ticket).is_some_and(|pending| pending.is_write)
    }

    pub(crate) fn is_open(&self, ticket: u64) -> bool {
        self.open.contains_key(&ticket)
    }

    /// Lets an answer wait until this number of replicas holds the write; the membership quorum is
    /// needed in any case.
    pub(crate) fn set_quorum(&mut self, ticket: u64, quorum: usize) {
        if let Some(pending) = self.open.get_mut(&ticket) {
            pending.quorum = quorum;
        }
    }

    pub(crate) fn quorum(&self, ticket: u64) -> usize {
        self.open.get(&ticket).map_or(0, |pending| pending.quorum)
    }

    /// `None`: it was answered before.
    pub fn finish(&mut self, ticket: u64) -> Option<Finished> {
        let Pending { caller, mut repeats, key, is_write, .. } = self.open.remove(&ticket)?;
        if let Some(key) = key {
            self.keys.remove(&key);
        }
        repeats.insert(0, caller);
        Some(Finished { callers: repeats, is_write })
    }

    /// A quorum has confirmed the ownership for that ticket.
    pub(crate) fn confirm(&mut self, ticket: u64, position: Position) {
        self.confirmed.push((position, ticket));
    }

    /// The confirmed tickets whose position is applied.
    pub(crate) fn take_confirmed(&mut self, applied: Position) -> Vec<u64> {
        if self.confirmed.is_empty() {
            return Vec::new();
        }
        let due = self.confirmed.extract_if(.., |(position, _)| *position <= applied);
        due.map(|(_, ticket)| ticket).collect()
    }

    pub(crate) fn hold_back(&mut self, unheld: Unheld<A>) {
        self.unheld.push_back(unheld);
    }

    pub(crate) fn take_unheld(&mut self) -> VecDeque<Unheld<A>> {
        std::mem::take(&mut self.unheld)
    }

    pub(crate) fn has_unheld(&self) -> bool {
        !self.unheld.is_empty()
    }

    /// Everyone who still waits.
    pub fn into_callers(self) -> impl Iterator<Item = Caller> {
        let open = self.open.into_values();
        open.flat_map(|pending| std::iter::once(pending.caller).chain(pending.repeats))
    }
}

/// A key was used for another request before.
pub fn key_reused(key: &RequestKey) -> Problem {
    let message = format!(
        "the Idempotency-Key '{}' was used for another request; a key is for one request and its \
         repeats",
        key.shown()
    );
    Problem::new(Code::KeyReused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(number: u64) -> Caller {
        Caller { node: ReplicaId(1), boot: 1, number }
    }

    fn key(text: &str, digest: u64) -> RequestKey {
        RequestKey::User { key: text.into(), digest }
    }

    #[test]
    fn repeats_of_a_request_share_its_ticket() {
        let mut requests = Requests::<()>::new(7);
        assert_eq!(requests.open(caller(1), Some(&key("a", 5)), true), Opened::New(8));
        assert_eq!(requests.open(caller(2), Some(&key("a", 5)), true), Opened::Repeat);
        assert_eq!(requests.open(caller(2), Some(&key("a", 5)), true), Opened::Repeat);
        assert_eq!(requests.open(caller(3), Some(&key("b", 5)), true), Opened::New(9));
        let done = requests.finish(8).expect("it is open");
        assert_eq!(done.callers, [caller(1), caller(2)], "each is answered once");
        assert!(requests.finish(8).is_none());
        assert_eq!(requests.open(caller(4), Some(&key("a", 6)), true), Opened::New(10));
    }

    #[test]
    fn a_key_is_for_one_request_only() {
        let mut requests = Requests::<()>::new(0);
        requests.open(caller(1), Some(&key("a", 5)), true);
        let Opened::Refused(problem) = requests.open(caller(2), Some(&key("a", 6)), true) else {
            panic!("another digest is another request")
        };
        assert_eq!(problem.code, Code::KeyReused);
    }

    #[test]
    fn repeats_are_bounded_and_an_overflow_does_not_guess_the_outcome() {
        let mut requests = Requests::<()>::new(0);
        for number in 0..=REPEATS_MAX as u64 {
            assert!(!matches!(
                requests.open(caller(number), Some(&key("a", 1)), true),
                Opened::Refused(_)
            ));
        }
        let Opened::Refused(problem) = requests.open(caller(99_999), Some(&key("a", 1)), true)
        else {
            panic!("one more than may wait")
        };
        assert_eq!(problem.outcome, Some(protocol::Outcome::Unknown));
    }

    #[test]
    fn a_confirmed_read_waits_until_its_position_is_applied() {
        let mut requests = Requests::<()>::new(0);
        requests.confirm(1, Position(5));
        requests.confirm(2, Position(3));
        assert_eq!(requests.take_confirmed(Position(4)), [2]);
        assert_eq!(requests.take_confirmed(Position(4)), [0_u64; 0]);
        assert_eq!(requests.take_confirmed(Position(5)), [1]);
    }
}
