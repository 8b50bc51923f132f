//! The time that decides over data: expirations, how long keys of requests are kept.
//!
//! No node trusts its own clock for that. The time has come to T when the clocks of a majority of
//! the members say T or later, as far as is known here. It never goes back, and goes by at least
//! half as fast and at most twice as fast as the steady clock: so a clock that jumps, or a majority
//! of them that is set, changes no more than that.
//!
//! A node that has just started hears one clock after another, and the first may be far behind. So
//! its time leaps forward once: when it hears all of them for the first time.

use std::collections::BTreeMap;

use protocol::{Moment, Now, ReplicaId};

/// A clock that was not heard of for this long says nothing, in microseconds.
const SILENCE_MICROS_MAX: u64 = 5_000_000;

/// See [`ClusterClock::soon`].
const SOON_MICROS: u64 = 2_000;

/// A node whose clock is further off than this from the cluster's time owns nothing if another can,
/// in microseconds.
pub const OFF_MICROS_MAX: u64 = 1_000_000;

/// A node is well again when it is not further off than this.
const WELL_MICROS_MAX: u64 = 500_000;

/// What the clocks of others said last: the time, and when that was heard, in steady microseconds.
#[derive(Default)]
pub struct ClusterClock {
    heard: BTreeMap<ReplicaId, (u64, u64)>,
    told: Option<Told>,
    /// By how much this node's own clock is off from those of a majority, in microseconds, if that
    /// is too much.
    off: Option<i64>,
}

/// The time as it was told last.
#[derive(Clone, Copy)]
struct Told {
    time: u64,
    /// When that was, in steady microseconds.
    at: u64,
    /// Whether all clocks had been heard then.
    by_all: bool,
}

/// What the clocks say that were heard of late.
struct Shown {
    /// The latest time that a majority of them has reached.
    agreed: Option<u64>,
    /// No clock is missing.
    by_all: bool,
}

impl ClusterClock {
    /// Another node said at `at`, in steady microseconds, what its clock shows.
    pub fn heard(&mut self, replica: ReplicaId, wall: Moment, at: u64) {
        self.heard.insert(replica, (wall.0, at));
    }

    /// A majority was heard once, so that no single clock decides. Before, nobody may own anything.
    pub fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// What time it is, when that was told a moment ago: it is asked for at every step.
    pub fn soon(&self, now: Now) -> Option<Moment> {
        let Told { time, at, .. } = self.told?;
        let gone = now.steady_micros.saturating_sub(at);
        (gone < SOON_MICROS).then(|| Moment(time + gone / 2))
    }

    /// What time it is, where `members` are all that have a clock, and this one is `me`.
    pub fn tell(&mut self, now: Now, me: ReplicaId, members: &[ReplicaId]) -> Moment {
        let steady = now.steady_micros;
        let Shown { agreed, by_all } = self.shown(now, me, members);
        self.off = agreed.and_then(|agreed| self.how_far_off(now.wall.0, agreed));
        let Some(told) = self.told else {
            // Until then nobody owns anything, so that its own clock has to do.
            let Some(time) = agreed else { return now.wall };
            self.told = Some(Told { time, at: steady, by_all });
            return Moment(time);
        };
        let gone = steady.saturating_sub(told.at);
        let slowest = told.time + gone / 2;
        let fastest = if by_all && !told.by_all { u64::MAX } else { told.time + 2 * gone };
        let time = agreed.unwrap_or(told.time + gone).clamp(slowest, fastest);
        self.told = Some(Told { time, at: steady, by_all: by_all || told.by_all });
        Moment(time)
    }

    /// The clocks are compared with one another, and not with the time that was told: that lags
    /// behind for as long as the step was when all clocks are set together, and nobody is off then.
    fn how_far_off(&self, own: u64, agreed: u64) -> Option<i64> {
        let bound = if self.is_off() { WELL_MICROS_MAX } else { OFF_MICROS_MAX };
        let off = i64::try_from(own.abs_diff(agreed)).unwrap_or(i64::MAX);
        let is_too_much = own.abs_diff(agreed) > bound;
        is_too_much.then_some(if own > agreed { off } else { -off })
    }

    pub fn is_off(&self) -> bool {
        self.off.is_some()
    }

    /// By how much this node's own clock is off, in milliseconds, if that is too much.
    pub fn off_millis(&self) -> Option<i64> {
        self.off.map(|micros| micros / 1_000)
    }

    fn shown(&self, now: Now, me: ReplicaId, members: &[ReplicaId]) -> Shown {
        let steady = now.steady_micros;
        let shown = |id: &ReplicaId| {
            if *id == me {
                return Some(now.wall.0);
            }
            let (wall, at) = self.heard.get(id)?;
            let gone = steady.saturating_sub(*at);
            (gone < SILENCE_MICROS_MAX).then(|| wall.saturating_add(gone))
        };
        let mut clocks: Vec<u64> = members.iter().filter_map(shown).collect();
        clocks.sort_unstable_by(|one, other| other.cmp(one));
        let agreed = clocks.get(members.len() / 2).copied();
        Shown { agreed, by_all: clocks.len() == members.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const HOUR: u64 = 3_600 * SECOND;
    const START: u64 = 1_000 * HOUR;
    const ALL: [ReplicaId; 3] = [ReplicaId(1), ReplicaId(2), ReplicaId(3)];

    fn now(steady: u64, wall: u64) -> Now {
        Now { steady_micros: steady, wall: Moment(wall) }
    }

    fn told(clock: &mut ClusterClock, steady: u64, wall: u64) -> u64 {
        clock.tell(now(steady, wall), ALL[0], &ALL).0
    }

    fn all_say(clock: &mut ClusterClock, steady: u64, wall: u64) {
        for id in &ALL[1..] {
            clock.heard(*id, Moment(wall), steady);
        }
    }

    #[test]
    fn a_clock_that_is_ahead_decides_nothing() {
        let mut clock = ClusterClock::default();
        clock.heard(ALL[1], Moment(START), 0);
        assert_eq!(told(&mut clock, 0, START + 26 * HOUR), START, "the lower of two");
        all_say(&mut clock, SECOND, START + SECOND);
        assert_eq!(told(&mut clock, SECOND, START + 26 * HOUR), START + SECOND);
        assert_eq!(clock.off_millis(), Some(26 * 3_600_000 - 1_000));
        assert_eq!(told(&mut clock, 2 * SECOND, START + 2 * SECOND), START + 2 * SECOND);
        assert_eq!(clock.off_millis(), None);
    }

    #[test]
    fn the_first_clock_that_is_heard_may_be_behind() {
        let mut clock = ClusterClock::default();
        clock.heard(ALL[1], Moment(START - HOUR), 0);
        assert_eq!(told(&mut clock, 0, START), START - HOUR, "the lower of two");
        clock.heard(ALL[2], Moment(START), 0);
        assert_eq!(told(&mut clock, 0, START), START, "as soon as all are heard");
        // That was once: from now on time does not run.
        clock.heard(ALL[1], Moment(START - HOUR + 6 * SECOND), 6 * SECOND);
        assert_eq!(told(&mut clock, 6 * SECOND, START + 6 * SECOND), START + 3 * SECOND);
        clock.heard(ALL[2], Moment(START + 6 * SECOND), 6 * SECOND);
        let later = told(&mut clock, 7 * SECOND, START + 7 * SECOND);
        assert_eq!(later, START + 5 * SECOND, "twice as fast");
    }

    #[test]
    fn time_never_goes_back_and_never_runs() {
        let mut clock = ClusterClock::default();
        all_say(&mut clock, 0, START);
        told(&mut clock, 0, START);
        // All clocks are set two hours ahead, and back again.
        all_say(&mut clock, SECOND, START + 2 * HOUR);
        let ahead = told(&mut clock, SECOND, START + 2 * HOUR);
        assert_eq!(ahead, START + 2 * SECOND);
        all_say(&mut clock, 3 * SECOND, START - HOUR);
        assert_eq!(told(&mut clock, 3 * SECOND, START - HOUR), ahead + SECOND, "half as fast");
    }

    #[test]
    fn without_a_majority_time_goes_on_at_its_own_pace() {
        let mut clock = ClusterClock::default();
        assert_eq!(told(&mut clock, 0, START + 5), START + 5, "nothing is known");
        all_say(&mut clock, 0, START);
        assert_eq!(told(&mut clock, 0, START + 9), START);
        let later = 10 * SECOND;
        assert_eq!(told(&mut clock, later, START + 9 * HOUR), START + later);
        assert_eq!(clock.off_millis(), None, "nobody can say");
    }

    #[test]
    fn its_own_clock_alone_tells_nothing() {
        let mut clock = ClusterClock::default();
        told(&mut clock, 0, START + 26 * HOUR);
        assert!(!clock.is_told(), "nobody else was heard");
        all_say(&mut clock, 0, START);
        told(&mut clock, 0, START + 26 * HOUR);
        assert!(clock.is_told());
        let mut alone = ClusterClock::default();
        alone.tell(now(0, START), ALL[0], &ALL[..1]);
        assert!(alone.is_told(), "a cluster of one");
    }

    #[test]
    fn nobody_is_off_when_all_clocks_are_set_together() {
        for set in [START + 2 * HOUR, START - 2 * HOUR] {
            let mut clock = ClusterClock::default();
            all_say(&mut clock, 0, START);
            told(&mut clock, 0, START);
            for seconds in 1..20 {
                let (steady, wall) = (seconds * SECOND, set + seconds * SECOND);
                all_say(&mut clock, steady, wall);
                let time = told(&mut clock, steady, wall);
                assert!(time.abs_diff(wall) > HOUR, "the time lags behind");
                assert_eq!(clock.off_millis(), None);
            }
            // One alone is off all the same.
            told(&mut clock, 20 * SECOND, START + 20 * SECOND);
            assert!(clock.is_off());
        }
    }
}
