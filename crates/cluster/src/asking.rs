//! Nodes that ask to be let in, as far as one member has heard of them. They are listed until a
//! person admits or refuses them, or until they ask no more.
//!
//! The list is not in the directory's log: whoever reaches a node could fill that. A member tells
//! the others which nodes ask it, so that all of them show the same.

use std::collections::BTreeMap;

use crate::greeting::Candidate;

/// How many nodes that ask are listed. One more is not heard until another one has gone.
pub const ASKING_MAX: usize = 16;

/// A node that was not heard for this long asks no more, in microseconds.
const ASKING_MICROS: u64 = 5_000_000;

struct Asker {
    candidate: Candidate,
    heard: u64,
    /// By this node itself, and not from another member.
    is_here: bool,
}

/// Those who ask, by their sandboxes.
#[derive(Default)]
pub struct Asking(BTreeMap<u64, Asker>);

impl Asking {
    /// A node asks this one. True when it is listed from now on.
    pub fn asked(&mut self, candidate: Candidate, now: u64) -> bool {
        let is_news = !self.0.contains_key(&candidate.sandbox_id);
        self.put(candidate, now, true) && is_news
    }

    /// Another member tells who asks it.
    pub fn told(&mut self, candidates: Vec<Candidate>, now: u64) {
        for candidate in candidates.into_iter().take(ASKING_MAX) {
            let is_here = self.0.get(&candidate.sandbox_id).is_some_and(|asker| asker.is_here);
            self.put(candidate, now, is_here);
        }
    }

    fn put(&mut self, candidate: Candidate, now: u64, is_here: bool) -> bool {
        if self.0.len() >= ASKING_MAX && !self.0.contains_key(&candidate.sandbox_id) {
            return false;
        }
        self.0.insert(candidate.sandbox_id, Asker { candidate, heard: now, is_here });
        true
    }

    /// Forgets those who ask no more, and those that are known by now.
    pub fn forget(&mut self, now: u64, is_known: impl Fn(u64) -> bool) {
        self.0.retain(|sandbox, asker| {
            now.saturating_sub(asker.heard) < ASKING_MICROS && !is_known(*sandbox)
        });
    }

    pub fn all(&self) -> impl Iterator<Item = &Candidate> {
        self.0.values().map(|asker| &asker.candidate)
    }

    /// Those who ask this very node.
    pub fn here(&self) -> Vec<Candidate> {
        let here = self.0.values().filter(|asker| asker.is_here);
        here.map(|asker| asker.candidate.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(sandbox_id: u64) -> Candidate {
        let (node_id, uri) = (format!("n{sandbox_id}"), format!("http://n{sandbox_id}"));
        Candidate { node_id, uri, sandbox_id }
    }

    #[test]
    fn those_who_ask_are_listed_once_and_are_not_more_than_so_many() {
        let mut asking = Asking::default();
        assert!(asking.asked(candidate(1), 0) && !asking.asked(candidate(1), 5));
        for other in 2..100 {
            asking.asked(candidate(other), 5);
        }
        assert_eq!(asking.all().count(), ASKING_MAX);
        asking.forget(5, |sandbox| sandbox == 1);
        assert!(asking.asked(candidate(99), 6), "there is room again");
    }

    #[test]
    fn who_asks_no_more_is_forgotten_and_what_others_tell_is_not_told_on() {
        let mut asking = Asking::default();
        asking.asked(candidate(1), 0);
        asking.told(vec![candidate(1), candidate(2)], 4_000_000);
        assert_eq!(asking.here(), [candidate(1)]);
        asking.forget(8_000_000, |_| false);
        assert_eq!(asking.all().count(), 2);
        asking.forget(9_000_000, |_| false);
        assert_eq!(asking.all().count(), 0);
    }
}
