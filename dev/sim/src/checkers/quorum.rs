//! The membership quorum: when the client of a write was told, the write was durable on at least
//! that number of machines.

use crate::agenda::Time;

use super::Broken;

/// A change of the quorum, as an operator saw it.
#[derive(Clone, Copy, Debug)]
struct Change {
    quorum: usize,
    began: Time,
    /// When it was known to be in force; none if that was never known.
    ended: Option<Time>,
}

/// What the quorum may have been, and when.
#[derive(Debug)]
pub struct Quorum {
    changes: Vec<Change>,
    /// Less is never allowed.
    majority: usize,
}

impl Quorum {
    /// As the cluster was formed.
    pub fn new(nodes: usize, quorum: Option<usize>) -> Self {
        let majority = nodes / 2 + 1;
        let quorum = quorum.unwrap_or(0).max(majority);
        Self { changes: vec![Change { quorum, began: 0, ended: Some(0) }], majority }
    }

    /// An operator asks for another quorum. From now on it may be in force; the number is for
    /// [`Self::confirmed`] and [`Self::refused`].
    pub fn asked(&mut self, quorum: usize, began: Time) -> usize {
        self.changes.push(Change { quorum, began, ended: None });
        self.changes.len() - 1
    }

    /// It was answered with yes, so it is in force.
    pub fn confirmed(&mut self, change: usize, at: Time) {
        self.changes[change].ended = Some(at);
    }

    /// It was surely not made.
    pub fn refused(&mut self, change: usize) {
        self.changes[change].began = Time::MAX;
    }

    /// The least that may have been in force at some time between.
    pub fn least(&self, from: Time, to: Time) -> usize {
        let over = |old: &Change| {
            // Surely replaced before `from`: something was asked after it and in force by then.
            self.changes.iter().any(|new| {
                new.ended.is_some_and(|ended| ended < from)
                    && old.ended.is_some_and(|ended| ended < new.began)
            })
        };
        let possible = self.changes.iter().filter(|change| change.began <= to && !over(change));
        possible.map(|change| change.quorum).min().unwrap_or(0).max(self.majority)
    }

    /// # Errors
    /// When fewer machines held the write than the quorum then in force allows.
    pub fn acknowledged(
        &self,
        what: &str,
        holders: usize,
        began: Time,
        now: Time,
    ) -> Result<(), Broken> {
        let least = self.least(began, now);
        if holders >= least {
            return Ok(());
        }
        let text = format!("{what} was acknowledged with {holders} holders, the quorum is {least}");
        Err(Broken::new("an acknowledged write is held by the membership quorum", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_with_too_few_holders_is_found() {
        let quorum = Quorum::new(3, None);
        quorum.acknowledged("w", 2, 10, 20).unwrap();
        assert!(quorum.acknowledged("w", 1, 10, 20).is_err());
    }

    #[test]
    fn a_raised_quorum_counts_for_writes_that_began_after_it() {
        let mut quorum = Quorum::new(3, None);
        let change = quorum.asked(3, 100);
        quorum.confirmed(change, 200);
        assert_eq!(quorum.least(50, 150), 2);
        assert_eq!(quorum.least(150, 250), 2, "it may have begun to count after the write");
        assert_eq!(quorum.least(201, 250), 3);
    }

    #[test]
    fn a_change_of_unknown_outcome_may_count_or_not() {
        let mut quorum = Quorum::new(3, Some(3));
        assert_eq!(quorum.least(0, 10), 3);
        quorum.asked(2, 100);
        assert_eq!(quorum.least(500, 600), 2);
        let change = quorum.asked(3, 700);
        quorum.confirmed(change, 800);
        assert_eq!(quorum.least(900, 901), 2, "the lost change may still come into force");
    }

    #[test]
    fn a_refused_change_never_counts() {
        let mut quorum = Quorum::new(3, Some(3));
        let change = quorum.asked(2, 100);
        quorum.refused(change);
        assert_eq!(quorum.least(500, 600), 3);
    }
}
