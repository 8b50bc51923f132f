//! The time that decides over data: expirations, how long keys of requests are kept.
//!
//! No node trusts its own clock for that. The time has come to T when the clocks of a majority of
//! the members say T or later, as far as is known here. It never goes back, and goes by at least
//! half as fast and at most twice as fast as the steady clock: so a clock that jumps, or a majority
//! of them that is set, changes no more than that.

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
    /// The time as it was told last, and when, in steady microseconds.
    told: Option<(u64, u64)>,
    is_off: bool,
}

impl ClusterClock {
    /// Another node says what its clock shows.
    pub fn heard(&mut self, replica: ReplicaId, wall: Moment, now: Now) {
        self.heard.insert(replica, (wall.0, now.steady_micros));
    }

    /// What time it is, when that was told a moment ago: it is asked for at every step.
    pub fn soon(&self, now: Now) -> Option<Moment> {
        let (time, at) = self.told?;
        let gone = now.steady_micros.saturating_sub(at);
        (gone < SOON_MICROS).then(|| Moment(time + gone / 2))
    }

    /// What time it is, where `members` are all that have a clock, and this one is `me`.
    pub fn tell(&mut self, now: Now, me: ReplicaId, members: &[ReplicaId]) -> Moment {
        let steady = now.steady_micros;
        let agreed = self.majority(now, me, members);
        let Some((time, at)) = self.told else {
            // Nobody owns anything before a majority is heard; until then its own clock has to do.
            let Some(agreed) = agreed else { return now.wall };
            self.told = Some((agreed, steady));
            return Moment(agreed);
        };
        let gone = steady.saturating_sub(at);
        let (slowest, fastest) = (time + gone / 2, time + 2 * gone);
        let time = agreed.unwrap_or(time + gone).clamp(slowest, fastest);
        self.told = Some((time, steady));
        let off = time.abs_diff(now.wall.0);
        let bound = if self.is_off { WELL_MICROS_MAX } else { OFF_MICROS_MAX };
        self.is_off = agreed.is_some() && off > bound;
        Moment(time)
    }

    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// By how much this node's own clock is off, in milliseconds, if that is too much.
    pub fn off_millis(&self, now: Now) -> Option<i64> {
        let (time, _) = self.told.filter(|_| self.is_off)?;
        let millis = |micros: u64| i64::try_from(micros / 1_000).unwrap_or(i64::MAX);
        Some(millis(now.wall.0).saturating_sub(millis(time)))
    }

    /// The latest time that a majority of the clocks has reached.
    fn majority(&self, now: Now, me: ReplicaId, members: &[ReplicaId]) -> Option<u64> {
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
        clocks.get(members.len() / 2).copied()
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
            clock.heard(*id, Moment(wall), now(steady, 0));
        }
    }

    #[test]
    fn a_clock_that_is_ahead_decides_nothing() {
        let mut clock = ClusterClock::default();
        clock.heard(ALL[1], Moment(START), now(0, 0));
        assert_eq!(told(&mut clock, 0, START + 26 * HOUR), START, "the lower of two");
        all_say(&mut clock, SECOND, START + SECOND);
        assert_eq!(told(&mut clock, SECOND, START + 26 * HOUR), START + SECOND);
        assert_eq!(clock.off_millis(now(SECOND, START + 26 * HOUR)), Some(26 * 3_600_000 - 1_000));
        assert_eq!(told(&mut clock, 2 * SECOND, START + 2 * SECOND), START + 2 * SECOND);
        assert_eq!(clock.off_millis(now(2 * SECOND, START + 2 * SECOND)), None);
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
        assert_eq!(clock.off_millis(now(later, START + 9 * HOUR)), None, "nobody can say");
    }
}
