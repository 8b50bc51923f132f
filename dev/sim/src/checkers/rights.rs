//! Who may do what, while that changes: what was taken away counts no more, and nobody does
//! anything.
//!
//! A node decides by its own replicas of the rules, so a change takes effect everywhere only some
//! time after its acknowledgement. How long that may take is what is checked here.

use std::collections::BTreeMap;

use super::Broken;
use crate::agenda::{SECOND, Time};

/// After this long each owner goes by a change that was acknowledged. A node that has no majority
/// acknowledges nothing meanwhile, whatever it believes.
pub const APPLIED_MAX: Time = 2 * SECOND;

const TAKEN: &str = "a right that was taken away is honoured by nobody";
const TASK: &str = "nothing is done for somebody without a right, by no task either";

/// A change of one user's right.
#[derive(Clone, Copy, Debug)]
struct Change {
    user: usize,
    is_given: bool,
    began: Time,
    /// When it was acknowledged; none: nobody knows whether and when it is done.
    ended: Option<Time>,
    is_refused: bool,
}

/// A tally of what was done for one user, as it was seen.
#[derive(Clone, Copy, Debug)]
struct Look {
    began: Time,
    count: usize,
}

/// What was learnt of one answer, for the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was as it had to be, and could have been otherwise.
    Refused,
    Honoured,
    /// The change is so young that both are right.
    Either,
    /// It was refused by a node that has not heard of the right.
    Behind,
}

#[derive(Debug, Default)]
pub struct Rights {
    changes: Vec<Change>,
    looks: BTreeMap<usize, Look>,
}

impl Rights {
    /// A change has reached a node: from then on it may be done at any time.
    pub fn asked(&mut self, user: usize, is_given: bool, began: Time) -> usize {
        self.changes.push(Change { user, is_given, began, ended: None, is_refused: false });
        self.changes.len() - 1
    }

    pub fn acknowledged(&mut self, change: usize, ended: Time) {
        self.changes[change].ended = Some(ended);
    }

    /// It was surely not done, and never will be.
    pub fn refused(&mut self, change: usize) {
        self.changes[change].is_refused = true;
    }

    /// Whether the right was surely there (or surely not) in all of that time. At first nobody has
    /// it.
    fn is_surely(&self, user: usize, has: bool, (from, to): (Time, Time)) -> bool {
        let changes = || self.changes.iter().filter(|it| it.user == user && !it.is_refused);
        let settled = |change: &&Change| {
            change.is_given == has && change.ended.is_some_and(|ended| ended + APPLIED_MAX <= from)
        };
        let last = changes().filter(settled).map(|change| change.began).max();
        let since = match last {
            Some(began) => began,
            None if !has => 0,
            None => return false,
        };
        let is_over = |change: &Change| change.ended.is_some_and(|ended| ended < since);
        changes().filter(|it| it.is_given != has).all(|it| is_over(it) || it.began > to)
    }

    /// An act of a user was done (or refused) at some time in this span.
    ///
    /// # Errors
    /// When it was done and had to be refused.
    pub fn acted(&self, user: usize, is_done: bool, span: (Time, Time)) -> Result<Seen, Broken> {
        if is_done && self.is_surely(user, false, span) {
            return Err(Broken::new(TAKEN, format!("user {user} acted from {span:?}")));
        }
        Ok(match is_done {
            // A refusal needs no quorum's word: a node that is cut off refuses by what it knew.
            false if self.is_surely(user, true, span) => Seen::Behind,
            true if self.is_surely(user, true, span) => Seen::Honoured,
            false if self.is_surely(user, false, span) => Seen::Refused,
            _ => Seen::Either,
        })
    }

    /// This much was done for a user, by itself or by its tasks, at some time in this span. True:
    /// that could be compared with what was seen before.
    ///
    /// # Errors
    /// When something was done while the user had no right.
    pub fn looked(
        &mut self,
        user: usize,
        count: usize,
        span: (Time, Time),
    ) -> Result<bool, Broken> {
        let (began, at) = span;
        let before = self.looks.get(&user).copied();
        let compared = before.filter(|before| self.is_surely(user, false, (before.began, at)));
        if let Some(before) = compared
            && before.count != count
        {
            let what = format!(
                "for user {user} there were {} entries at {} and {count} at {at}",
                before.count, before.began
            );
            return Err(Broken::new(TASK, what));
        }
        self.looks.insert(user, Look { began, count });
        Ok(compared.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given from 10 to 11 s, taken from 20 to 21 s.
    fn rights() -> Rights {
        let mut rights = Rights::default();
        for (is_given, began) in [(true, 10), (false, 20)] {
            let change = rights.asked(1, is_given, began * SECOND);
            rights.acknowledged(change, (began + 1) * SECOND);
        }
        rights
    }

    #[test]
    fn what_is_honoured_when_it_must_not_be_is_found() {
        let rights = rights();
        let of = |is_done, from, to| rights.acted(1, is_done, (from * SECOND, to * SECOND));
        assert!(of(true, 1, 9).is_err(), "before it was given");
        assert_eq!(of(false, 1, 9), Ok(Seen::Refused));
        assert_eq!(of(true, 9, 10), Ok(Seen::Either), "while it is given");
        assert_eq!(of(true, 14, 15), Ok(Seen::Honoured));
        assert_eq!(of(false, 14, 15), Ok(Seen::Behind));
        assert_eq!(of(false, 12, 12), Ok(Seen::Either), "it is new");
        assert_eq!(of(false, 19, 20), Ok(Seen::Either), "while it is taken away");
        assert_eq!(of(true, 22, 22), Ok(Seen::Either), "it has just gone");
        assert!(of(true, 23, 24).is_err());
        assert!(rights.acted(2, true, (0, SECOND)).is_err(), "another never had it");
    }

    #[test]
    fn what_nobody_knows_of_is_not_held_against_anybody() {
        let mut rights = rights();
        rights.asked(1, true, 30 * SECOND);
        let of =
            |rights: &Rights, is_done, at| rights.acted(1, is_done, (at * SECOND, at * SECOND));
        assert!(of(&rights, true, 29).is_err());
        assert_eq!(of(&rights, true, 90), Ok(Seen::Either));
        assert_eq!(of(&rights, false, 90), Ok(Seen::Either));
        let change = rights.asked(1, true, 91 * SECOND);
        rights.acknowledged(change, 92 * SECOND);
        assert_eq!(of(&rights, false, 95), Ok(Seen::Behind));
        let change = rights.asked(1, false, 96 * SECOND);
        assert_eq!(of(&rights, false, 97), Ok(Seen::Either), "it is under way");
        rights.refused(change);
        assert_eq!(of(&rights, false, 97), Ok(Seen::Behind));
    }

    #[test]
    fn what_a_task_does_after_the_right_has_gone_is_found() {
        let mut rights = rights();
        let mut look = |count, at| rights.looked(1, count, (at * SECOND, at * SECOND));
        assert_eq!(look(3, 15), Ok(false));
        assert_eq!(look(5, 22), Ok(false), "it may have been before");
        assert_eq!(look(6, 23), Ok(false));
        assert_eq!(look(6, 24), Ok(true));
        assert!(look(7, 25).is_err());
    }
}
