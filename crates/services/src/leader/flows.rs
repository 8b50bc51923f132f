//! How far messages to instances have come on their way: one flow to each destination, with a
//! window of its own, so that a destination that is away holds up no other. Nothing here is
//! durable: a new owner asks each destination how far it is.

use std::collections::{BTreeMap, BTreeSet};

use protocol::flow::{Flow, Progress};

/// How many bytes may be on their way to a destination without being confirmed.
pub(super) const WINDOW_BYTES: usize = 1 << 20;

/// To how many destinations messages may be on their way at a time. The others take turns.
const SENDING_MAX: usize = 64;

/// The way to one destination.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) flow: Flow,
    /// No instance has that name, as the node has said.
    pub(super) is_absent: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self { flow: Flow::new(WINDOW_BYTES), is_absent: false }
    }
}

/// The ways to all destinations.
#[derive(Debug, Default)]
pub(super) struct Flows {
    ways: BTreeMap<String, Way>,
    /// Those with messages on their way.
    sending: BTreeSet<String>,
    /// Those that wait for one of these to be done.
    waiting: BTreeSet<String>,
    /// Those that have said to have something, which the outbox may still hold.
    logged: BTreeSet<String>,
    /// An entry is on its way into the log that removes what is confirmed.
    pub(super) is_confirming: bool,
}

impl Flows {
    pub(super) fn way(&mut self, destination: &str) -> &mut Way {
        if !self.ways.contains_key(destination) {
            self.ways.insert(destination.to_owned(), Way::default());
        }
        self.ways.get_mut(destination).expect("it was just made sure")
    }

    pub(super) fn known(&self, destination: &str) -> Option<&Way> {
        self.ways.get(destination)
    }

    /// Whether something may be sent there now. What has no turn is noted, and has one later.
    pub(super) fn has_turn(&mut self, destination: &str) -> bool {
        if self.sending.len() < SENDING_MAX || self.sending.contains(destination) {
            return true;
        }
        self.waiting.insert(destination.to_owned());
        false
    }

    /// Messages may be on their way there, or none any more.
    pub(super) fn note_turn(&mut self, destination: &str) {
        if self.known(destination).is_some_and(|way| way.flow.is_sending()) {
            self.sending.insert(destination.to_owned());
        } else {
            self.sending.remove(destination);
        }
    }

    /// Those that had no turn, as many as may have one now.
    pub(super) fn take_waiting(&mut self) -> Vec<String> {
        let free = SENDING_MAX.saturating_sub(self.sending.len());
        (0..free).map_while(|_| self.waiting.pop_first()).collect()
    }

    /// A destination has said how far it is.
    pub(super) fn acked(
        &mut self,
        destination: &str,
        (logged, resend_from): (u64, Option<u64>),
        now: u64,
    ) {
        let way = self.way(destination);
        way.is_absent = false;
        way.flow.acked(logged, resend_from, now);
        self.note_turn(destination);
        self.logged.insert(destination.to_owned());
    }

    /// What destinations have that the outbox still holds, by `held`, at most so much at a time.
    pub(super) fn take_confirmed(
        &mut self,
        count_max: usize,
        held: impl Fn(&str, u64) -> Option<u64>,
    ) -> Vec<(String, u64)> {
        let Self { ways, logged, .. } = self;
        let mut confirmed = Vec::new();
        logged.retain(|to| {
            if confirmed.len() >= count_max {
                return true;
            }
            let up_to = ways.get(to).and_then(|way| held(to, way.flow.logged()));
            // It is looked at again when that is applied.
            let is_held = up_to.is_some();
            confirmed.extend(up_to.map(|up_to| (to.clone(), up_to)));
            is_held
        });
        confirmed
    }

    pub(super) fn is_absent(&mut self, destination: &str) {
        self.way(destination).is_absent = true;
    }

    /// Begins those anew that do not answer.
    pub(super) fn take_silent(&mut self, now: u64) -> Vec<String> {
        let Self { ways, sending, .. } = self;
        let silent = ways.iter_mut().filter(|(_, way)| way.flow.is_silent(now));
        silent
            .map(|(destination, way)| {
                way.flow.begin_anew(Progress::Unknown);
                sending.remove(destination);
                destination.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use protocol::flow::ASK_AGAIN_MICROS;

    use super::*;

    #[test]
    fn destinations_beyond_those_that_are_sent_to_wait_for_their_turn() {
        let mut flows = Flows::default();
        let name = |number: usize| format!("d{number:03}");
        for number in 0..SENDING_MAX {
            assert!(flows.has_turn(&name(number)));
            flows.way(&name(number)).flow.sent(1, 10, 0);
            flows.note_turn(&name(number));
        }
        assert!(flows.has_turn(&name(0)), "what is sent to goes on");
        assert!(!flows.has_turn("late") && !flows.has_turn("later"));
        assert!(flows.take_waiting().is_empty());
        flows.acked(&name(7), (1, None), 5);
        assert_eq!(flows.take_waiting(), ["late"]);
        // Those that do not answer make room as well.
        assert_eq!(flows.take_silent(5 + ASK_AGAIN_MICROS).len(), SENDING_MAX);
        assert_eq!(flows.take_waiting(), ["later"]);
    }

    #[test]
    fn what_is_confirmed_is_looked_at_until_the_outbox_does_not_hold_it() {
        let mut flows = Flows::default();
        for name in ["a", "b", "c"] {
            flows.acked(name, (5, None), 1);
        }
        let all = |_: &str, logged| Some(logged);
        let two = [("a".to_owned(), 5), ("b".to_owned(), 5)];
        assert_eq!(flows.take_confirmed(2, all), two);
        assert_eq!(flows.take_confirmed(3, all).len(), 3, "what is held still comes again");
        let only_c = |name: &str, logged| (name == "c").then_some(logged);
        assert_eq!(flows.take_confirmed(2, only_c), [("c".to_owned(), 5)]);
        assert!(flows.take_confirmed(2, |_, _| None).is_empty());
        assert!(flows.take_confirmed(2, all).is_empty(), "nobody has said anything since");
    }
}
