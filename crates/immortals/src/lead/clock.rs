//! The time of the instance while this replica leads.

use protocol::{Moment, Now};

/// The wall clock, kept from going back. When the wall clock was set back, or the node that led
/// before was ahead, the time goes on with the steady clock, so that timers need not wait for the
/// wall clock.
#[derive(Debug)]
pub(crate) struct Clock {
    time: Moment,
    /// When the time was last read, in steady microseconds.
    at: u64,
}

impl Clock {
    pub(crate) fn new(logged: Moment, now: Now) -> Self {
        Self { time: logged.max(now.wall), at: now.steady_micros }
    }

    pub(crate) fn now(&mut self, now: Now) -> Moment {
        let gone = now.steady_micros.saturating_sub(self.at);
        let time = Moment(self.time.0.saturating_add(gone)).max(now.wall);
        assert!(time >= self.time, "Invariant: the time of an instance never goes back");
        (self.time, self.at) = (time, now.steady_micros);
        time
    }

    /// When that moment comes, in steady microseconds, if the wall clock runs as the steady one
    /// does.
    pub(crate) fn steady_at(&self, moment: Moment) -> u64 {
        self.at.saturating_add(moment.0.saturating_sub(self.time.0))
    }
}
