//! The timers and side effects that a program awaits.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Moment;
use serde::{Deserialize, Serialize};

/// How many timers and side effects may be awaited at a time. A program that awaits more is closed.
pub(crate) const AWAITS_MAX: usize = 1 << 20;

/// What is awaited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Awaits {
    /// Timers with the time at which they fire, and side effects without one.
    open: BTreeMap<u64, Option<Moment>>,
    /// The highest id that was ever awaited.
    last: u64,
    /// Timers and side effects that the log has resolved before the program, in replay, has said
    /// that it awaits them.
    resolved_early: BTreeSet<u64>,
    /// How often the program began or cancelled an await, and a checksum of all that.
    pub(crate) said: (u64, u32),
    /// The timers by time.
    #[serde(skip)]
    by_time: BTreeSet<(Moment, u64)>,
}

impl Awaits {
    /// Builds what is not stored.
    pub(crate) fn index(&mut self) {
        let timers = self.open.iter().filter_map(|(id, due)| Some(((*due)?, *id)));
        self.by_time = timers.collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn begin(&mut self, id: u64, due: Option<Moment>) {
        self.last = self.last.max(id);
        if self.resolved_early.remove(&id) {
            return;
        }
        if let Some(former) = self.open.insert(id, due).flatten() {
            self.by_time.remove(&(former, id));
        }
        self.by_time.extend(due.map(|due| (due, id)));
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        self.remove(id);
    }

    pub(crate) fn resolve(&mut self, id: u64) {
        if !self.remove(id) && id > self.last {
            self.resolved_early.insert(id);
        }
    }

    fn remove(&mut self, id: u64) -> bool {
        let Some(due) = self.open.remove(&id) else { return false };
        if let Some(due) = due {
            self.by_time.remove(&(due, id));
        }
        true
    }

    /// Whether the result of that side effect is awaited.
    pub(crate) fn awaits_effect(&self, id: u64) -> bool {
        self.open.get(&id) == Some(&None)
    }

    /// The timers by the time at which they fire, the first one first.
    pub(crate) fn timers(&self) -> impl Iterator<Item = (Moment, u64)> {
        self.by_time.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_the_log_has_fired_is_not_awaited_again_in_replay() {
        let mut awaits = Awaits::default();
        awaits.resolve(1);
        awaits.begin(1, Some(Moment(5)));
        awaits.begin(2, None);
        assert_eq!((awaits.len(), awaits.awaits_effect(2)), (1, true));
        awaits.resolve(2);
        awaits.resolve(1);
        assert_eq!((awaits.len(), awaits.timers().count()), (0, 0));
    }

    #[test]
    fn timers_come_in_the_order_of_their_times_also_after_they_were_stored() {
        let mut awaits = Awaits::default();
        for (id, due) in [(1, 50), (2, 20), (3, 30), (4, 20)] {
            awaits.begin(id, Some(Moment(due)));
        }
        awaits.begin(2, Some(Moment(40)));
        awaits.cancel(3);
        let ids = |awaits: &Awaits| awaits.timers().map(|(_, id)| id).collect::<Vec<_>>();
        assert_eq!(ids(&awaits), [4, 2, 1]);
        let stored = postcard::to_stdvec(&awaits).unwrap();
        let mut again: Awaits = postcard::from_bytes(&stored).unwrap();
        again.index();
        assert_eq!((ids(&again), &again), (vec![4, 2, 1], &awaits));
    }
}
