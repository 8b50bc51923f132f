//! What will happen, and when: the only clock of the simulated world.

use std::collections::BTreeMap;

/// Simulated microseconds since the beginning of the run.
pub type Time = u64;

pub const MILLISECOND: Time = 1_000;
pub const SECOND: Time = 1_000_000;

/// Events in the order of their time; those of the same time in the order they were planned.
#[derive(Debug)]
pub struct Agenda<E> {
    now: Time,
    planned: u64,
    events: BTreeMap<(Time, u64), E>,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { now: 0, planned: 0, events: BTreeMap::new() }
    }
}

impl<E> Agenda<E> {
    pub fn now(&self) -> Time {
        self.now
    }

    /// Plans an event `delay` microseconds from now.
    pub fn after(&mut self, delay: Time, event: E) {
        self.at(self.now + delay, event);
    }

    /// Plans an event at a time, or now if that has gone by.
    pub fn at(&mut self, time: Time, event: E) {
        self.planned += 1;
        self.events.insert((time.max(self.now), self.planned), event);
    }

    /// The next event; the time is then that of the event.
    pub fn pop(&mut self) -> Option<E> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_the_order_they_were_planned() {
        let mut agenda = Agenda::default();
        agenda.after(20, 'c');
        agenda.after(10, 'a');
        agenda.after(10, 'b');
        let order: String = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, "abc");
        assert_eq!(agenda.now(), 20);
    }

    #[test]
    fn an_event_in_the_past_happens_now() {
        let mut agenda = Agenda::default();
        agenda.after(20, 'a');
        agenda.pop();
        agenda.at(5, 'b');
        assert_eq!(agenda.pop(), Some('b'));
        assert_eq!(agenda.now(), 20);
    }
}
