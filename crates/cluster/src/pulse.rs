//! How regularly another node is heard, and how long a round trip to it takes: from that follows
//! how long silence may last before it means something.

use serde::{Deserialize, Serialize};

/// A pause between two signs of life that lasted longer was an outage, and teaches nothing about
/// how regularly the node is heard, in microseconds.
const PAUSE_MICROS_MAX: u64 = 500_000;

/// A peak is remembered for at least this long and at most twice as long, in microseconds.
const PEAK_MICROS: u64 = 30_000_000;

/// A round trip that took longer is not believed, in microseconds.
const ROUND_TRIP_MICROS_MAX: u64 = 5_000_000;

/// The highest value of the last minute.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    before: u64,
    present: u64,
    since: u64,
}

impl Peak {
    fn add(&mut self, value: u64, now: u64) {
        self.turn(now);
        self.present = self.present.max(value);
    }

    fn turn(&mut self, now: u64) {
        let passed = now.saturating_sub(self.since);
        if passed >= PEAK_MICROS {
            self.before = if passed < 2 * PEAK_MICROS { self.present } else { 0 };
            (self.present, self.since) = (0, now);
        }
    }

    fn get(&self) -> u64 {
        self.before.max(self.present)
    }
}

/// The shortest round trip is that of the last this many microseconds, or of twice as many.
const LOW_MICROS: u64 = 5_000_000;

/// The lowest value of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Low {
    before: Option<u64>,
    present: Option<u64>,
    since: u64,
}

impl Low {
    fn add(&mut self, value: u64, now: u64) {
        if now.saturating_sub(self.since) >= LOW_MICROS {
            (self.before, self.present, self.since) = (self.present, None, now);
        }
        self.present = Some(self.present.map_or(value, |present| present.min(value)));
    }

    fn get(&self) -> u64 {
        self.before.into_iter().chain(self.present).min().unwrap_or(0)
    }
}

/// What a ping says of the last one that came the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// When it was sent, by the clock of its sender.
    pub sent: u64,
    /// How long ago it came, in microseconds.
    pub held: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulse {
    heard: Option<Heard>,
    pauses: Peak,
    round_trips: Low,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: u64,
    /// How long this process itself had stood still until then.
    standstill: u64,
}

impl Pulse {
    /// `standstill`: how long this process itself has stood still in all. While it does, nobody
    /// can be heard.
    pub(crate) fn heard(&mut self, now: u64, standstill: u64) {
        if let Some(before) = self.heard {
            let own = standstill - before.standstill;
            let pause = now.saturating_sub(before.at).saturating_sub(own);
            if pause <= PAUSE_MICROS_MAX {
                self.pauses.add(pause, now);
            }
        }
        self.heard = Some(Heard { at: now, standstill });
    }

    pub(crate) fn echoed(&mut self, echo: Echo, now: u64) {
        let took = now.saturating_sub(echo.sent).saturating_sub(echo.held);
        self.round_trips.add(took.min(ROUND_TRIP_MICROS_MAX), now);
    }

    pub(crate) fn heard_at(&self) -> Option<u64> {
        self.heard.map(|heard| heard.at)
    }

    /// The longest pause of the last minute.
    pub(crate) fn pause(&self) -> u64 {
        self.pauses.get()
    }

    /// The shortest round trip of the last seconds: that of the network, without what was lost on
    /// the way and sent again, or had to wait for a processor.
    pub(crate) fn round_trip(&self) -> u64 {
        self.round_trips.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts_but_neither_an_outage_nor_the_own_standstill() {
        let mut pulse = Pulse::default();
        for at in [0, 50_000, 130_000, 180_000] {
            pulse.heard(at, 0);
        }
        assert_eq!(pulse.pause(), 80_000);
        pulse.heard(680_000, 450_000);
        assert_eq!(pulse.pause(), 80_000, "this process stood still");
        pulse.heard(6_000_000, 450_000);
        assert_eq!(pulse.pause(), 80_000, "it was away");
    }

    #[test]
    fn a_peak_is_forgotten_after_a_minute_and_a_round_trip_sooner() {
        let mut pulse = Pulse::default();
        pulse.heard(0, 0);
        pulse.heard(300_000, 0);
        pulse.echoed(Echo { sent: 100, held: 50 }, 400_150);
        assert_eq!((pulse.pause(), pulse.round_trip()), (300_000, 400_000));
        pulse.echoed(Echo { sent: 499_000, held: 0 }, 500_000);
        assert_eq!(pulse.round_trip(), 1_000, "the shortest counts");
        for tenth in 4..800 {
            pulse.heard(tenth * 100_000, 0);
        }
        assert_eq!(pulse.pause(), 100_000);
        for second in 1..4 {
            let now = second * 20_000_000;
            pulse.echoed(Echo { sent: now - 700_000, held: 0 }, now);
        }
        assert_eq!(pulse.round_trip(), 700_000);
    }
}
