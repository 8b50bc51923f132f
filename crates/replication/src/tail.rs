//! How much of a group's log is kept behind the state, for replicas that lack it: a node that was
//! away for a minute goes on from the log, and does not need the whole state.

use std::collections::VecDeque;

use protocol::Position;

/// What may be kept for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailLimits {
    /// At most this many bytes are kept as long as a replica needs them...
    pub bytes_max: u64,
    /// ... and at least what was appended in this time, in microseconds.
    pub micros_min: u64,
}

impl TailLimits {
    /// Nothing is kept: the disk has no room for it.
    pub const NOTHING: Self = Self { bytes_max: 0, micros_min: 0 };

    /// What each of several logs may keep, if all of them together may keep as much as this.
    /// `kept`: what each of them keeps now. A log that keeps less than its share leaves the rest
    /// to others.
    #[must_use]
    pub fn shared(self, mut kept: Vec<u64>) -> Self {
        kept.sort_unstable();
        let mut rest = self.bytes_max;
        let mut sharers = u64::try_from(kept.len()).expect("a length fits");
        for bytes in &kept {
            if *bytes > rest / sharers {
                return Self { bytes_max: rest / sharers, ..self };
            }
            rest -= bytes;
            sharers -= 1;
        }
        // All of it fits, and the largest may take what is left.
        Self { bytes_max: rest + kept.last().copied().unwrap_or(0), ..self }
    }
}

impl Default for TailLimits {
    fn default() -> Self {
        Self { bytes_max: TAIL_BYTES_MAX, micros_min: TAIL_MICROS_MIN }
    }
}

/// See [`TailLimits::bytes_max`]. Of all groups of a node.
const TAIL_BYTES_MAX: u64 = 1 << 30;

/// See [`TailLimits::micros_min`].
const TAIL_MICROS_MIN: u64 = 60_000_000;

/// What is known of the others' need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// All other replicas have the log up to here; only an owner knows that.
    Matched(Position),
    /// A replica is away, and how far it has come is not known here.
    SomebodyAway,
    /// All are there, so they lack little. One that goes now may come back in a minute.
    NobodyAway,
}

/// How long the log was, some time ago.
#[derive(Clone, Copy, Debug)]
struct Mark {
    micros: u64,
    position: Position,
    /// What had been appended up to there, in bytes.
    bytes: u64,
}

/// How the log of one group grew.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// In order of time and of positions.
    marks: VecDeque<Mark>,
}

/// How far the log reaches now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) micros: u64,
    pub(crate) base: Position,
    pub(crate) last: Position,
    /// What was appended up to there, in bytes, with what there was at the start.
    pub(crate) bytes: u64,
}

impl Tail {
    /// Up to which position the log may be cut, and not beyond `durable`, where the state stands.
    pub(crate) fn cut(
        &mut self,
        reach: Reach,
        durable: Position,
        need: Need,
        limits: &TailLimits,
    ) -> Position {
        self.mark(reach, limits);
        let old = |mark: &&Mark| reach.micros - mark.micros >= limits.micros_min;
        let large = |mark: &&Mark| reach.bytes - mark.bytes > limits.bytes_max;
        // What came after the first of these is young, after the second it fits.
        let young = self.marks.iter().rev().find(old).map_or(reach.base, |mark| mark.position);
        let fitting = self.marks.iter().find(|mark| !large(mark));
        let fitting = fitting.map_or(reach.last, |mark| mark.position);
        let cut = match need {
            Need::Matched(position) => position.max(young.min(fitting)),
            Need::SomebodyAway => young.min(fitting),
            Need::NobodyAway => young.max(fitting),
        };
        cut.min(durable)
    }

    /// About how many bytes are kept behind that base.
    pub(crate) fn kept(&self, base: Position, bytes: u64) -> u64 {
        let before = self.marks.iter().rev().find(|mark| mark.position <= base);
        bytes.saturating_sub(before.or(self.marks.front()).map_or(0, |mark| mark.bytes))
    }

    /// Notes how far the log reaches. There are few marks: about one for each eighth of the time
    /// and one for each eighth of the bytes.
    fn mark(&mut self, reach: Reach, limits: &TailLimits) {
        let Reach { micros, base, last, bytes } = reach;
        if self.marks.is_empty() {
            // What was there at the start is as old as this.
            self.marks.push_back(Mark { micros, position: base, bytes: 0 });
        }
        while self.marks.len() > 1 && self.marks.back().is_some_and(|mark| mark.position > last) {
            self.marks.pop_back();
        }
        let newest = *self.marks.back().expect("there is always a mark");
        let long = micros - newest.micros >= limits.micros_min / 8;
        let far = bytes.saturating_sub(newest.bytes) >= limits.bytes_max / 8;
        let is_longer = last > newest.position || last == newest.position && bytes != newest.bytes;
        if (long || far) && is_longer {
            self.marks.push_back(Mark { micros, position: last, bytes });
        }
        // A mark is of no use when the one after it is old and large, too.
        while self.marks.get(1).is_some_and(|next| {
            micros - next.micros >= limits.micros_min && bytes - next.bytes > limits.bytes_max
        }) {
            self.marks.pop_front();
        }
        // Of what is old only the bytes count, and of what is large only the time.
        let mut index = 1;
        while let Some(next) = self.marks.get(index + 1) {
            let before = self.marks[index - 1];
            let is_old = micros - next.micros >= limits.micros_min;
            let is_large = bytes - next.bytes > limits.bytes_max;
            let is_close = is_old || next.micros - before.micros < limits.micros_min / 8;
            let is_small = is_large || next.bytes - before.bytes < limits.bytes_max / 8;
            if is_close && is_small {
                self.marks.remove(index);
            } else {
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TailLimits = TailLimits { bytes_max: 1_000, micros_min: 60 };

    /// A log that grows by one entry of that many bytes in each microsecond.
    struct Growing {
        tail: Tail,
        reach: Reach,
        entry_bytes: u64,
    }

    impl Growing {
        fn new(entry_bytes: u64) -> Self {
            let reach = Reach { micros: 0, base: Position(0), last: Position(0), bytes: 0 };
            Self { tail: Tail::default(), reach, entry_bytes }
        }

        /// How many entries are left after the cut.
        fn go_on(&mut self, micros: u64, need: impl Fn(Position) -> Need) -> u64 {
            for _ in 0..micros {
                self.reach.micros += 1;
                self.reach.last = self.reach.last.next();
                self.reach.bytes += self.entry_bytes;
                self.cut(need(self.reach.last));
            }
            self.reach.last.0 - self.reach.base.0
        }

        fn rest(&mut self, micros: u64, need: Need) -> u64 {
            for _ in 0..micros {
                self.reach.micros += 1;
                self.cut(need);
            }
            self.reach.last.0 - self.reach.base.0
        }

        fn cut(&mut self, need: Need) {
            let cut = self.tail.cut(self.reach, self.reach.last, need, &LIMITS);
            self.reach.base = self.reach.base.max(cut);
            assert!(self.tail.marks.len() <= 30, "{} marks", self.tail.marks.len());
        }
    }

    #[test]
    fn an_idle_log_has_few_marks_whatever_is_kept() {
        for limits in [TailLimits::NOTHING, TailLimits::default()] {
            let mut tail = Tail::default();
            let (base, last) = (Position(0), Position(9));
            for micros in (0..10_000).map(|second| second * 1_000_000) {
                let reach = Reach { micros, base, last, bytes: 900 };
                tail.cut(reach, last, Need::NobodyAway, &limits);
            }
            assert!(tail.marks.len() <= 3, "{}", tail.marks.len());
        }
    }

    #[test]
    fn many_logs_share_one_bound() {
        let limits = |bytes_max| TailLimits { bytes_max, micros_min: 60 };
        let shared = |kept: &[u64]| limits(1_000).shared(kept.to_vec());
        assert_eq!(shared(&[]), limits(1_000));
        assert_eq!(shared(&[0, 400, 0]), limits(1_000), "it is alone");
        assert_eq!(shared(&[100, 400, 300]), limits(600), "what is left over goes to one of them");
        assert_eq!(shared(&[800, 800, 100]), limits(450));
        assert_eq!(shared(&[9_000; 20]), limits(50));
        let (small, large) = ([10; 50], [5_000; 5]);
        let bytes_max = shared(&[&small[..], &large[..]].concat()).bytes_max;
        assert_eq!(bytes_max * 5 + 500, 1_000);
        assert_eq!(shared(&[0; 7]), limits(1_000));
    }

    #[test]
    fn what_is_kept_is_known_about() {
        let mut growing = Growing::new(10);
        let kept = growing.go_on(2_000, |_| Need::SomebodyAway) * 10;
        let Growing { tail, reach, .. } = growing;
        let known = tail.kept(reach.base, reach.bytes);
        assert!(known >= kept && known <= kept + LIMITS.bytes_max / 4, "{known} of {kept}");
    }

    #[test]
    fn nothing_is_kept_without_room() {
        for need in [Need::Matched(Position(7)), Need::SomebodyAway, Need::NobodyAway] {
            let mut growing = Growing::new(10);
            growing.go_on(50, |_| Need::SomebodyAway);
            let Growing { tail, reach, .. } = &mut growing;
            let cut = tail.cut(*reach, reach.last, need, &TailLimits::NOTHING);
            assert_eq!(cut, reach.last, "{need:?}");
            let cut = tail.cut(*reach, Position(20), need, &TailLimits::NOTHING);
            assert_eq!(cut, Position(20), "the state has no more");
        }
    }

    #[test]
    fn an_owner_keeps_what_others_need_and_no_more() {
        assert_eq!(Growing::new(1).go_on(500, |last| Need::Matched(Position(last.0 - 1))), 1);
        let away = |_| Need::Matched(Position(7));
        assert_eq!(Growing::new(1).go_on(500, away), 493, "all of it fits");
    }

    #[test]
    fn what_is_needed_is_kept_up_to_the_bound() {
        for need in [Need::Matched(Position(7)), Need::SomebodyAway] {
            // Ten bytes each: a hundred of them fit, and in a minute there are sixty.
            let kept = Growing::new(10).go_on(2_000, |_| need);
            assert!((85..=100).contains(&kept), "{kept} entries");
        }
    }

    #[test]
    fn a_minute_is_kept_whatever_its_size_while_somebody_is_away() {
        for need in [Need::Matched(Position(7)), Need::SomebodyAway] {
            let kept = Growing::new(100).go_on(2_000, |_| need);
            assert!((60..=70).contains(&kept), "{kept} entries");
        }
    }

    #[test]
    fn while_nobody_is_away_a_minute_is_kept_if_it_fits() {
        let kept = Growing::new(1).go_on(2_000, |_| Need::NobodyAway);
        assert!((60..=70).contains(&kept), "{kept} entries");
        let kept = Growing::new(100).go_on(2_000, |_| Need::NobodyAway);
        assert!((7..=10).contains(&kept), "{kept} entries");
    }

    #[test]
    fn a_quiet_group_keeps_its_last_minute_and_is_empty_after_it() {
        let mut quiet = Growing::new(10);
        quiet.go_on(5, |_| Need::NobodyAway);
        assert_eq!(quiet.rest(55, Need::NobodyAway), 5);
        assert_eq!(quiet.rest(30, Need::NobodyAway), 0);
        let mut missed = Growing::new(10);
        missed.go_on(5, |_| Need::SomebodyAway);
        assert_eq!(missed.rest(10_000, Need::SomebodyAway), 5, "while somebody is away");
        assert_eq!(missed.rest(1, Need::NobodyAway), 0);
    }

    #[test]
    fn nothing_is_cut_that_the_state_does_not_have() {
        let mut tail = Tail::default();
        let reach = Reach { micros: 0, base: Position(3), last: Position(9), bytes: 60 };
        for (durable, cut) in [(Position(3), Position(3)), (Position(5), Position(5))] {
            assert_eq!(tail.cut(reach, durable, Need::Matched(Position(9)), &LIMITS), cut);
        }
    }

    #[test]
    fn what_was_there_at_the_start_counts() {
        let mut tail = Tail::default();
        let reach = Reach { micros: 5, base: Position(3), last: Position(9), bytes: 60 };
        let cut =
            |tail: &mut Tail, reach| tail.cut(reach, Position(9), Need::SomebodyAway, &LIMITS);
        assert_eq!(cut(&mut tail, reach), Position(3));
        assert_eq!(cut(&mut tail, Reach { micros: 900, ..reach }), Position(3));
        let large = Reach { micros: 900, bytes: 9_000, ..reach };
        assert_eq!(cut(&mut Tail::default(), large), Position(3), "it may be young");
        assert_eq!(
            cut(&mut tail, Reach { micros: 960, last: Position(20), bytes: 9_000, ..reach }),
            Position(9)
        );
    }

    #[test]
    fn a_log_that_lost_its_end_in_an_election_is_told_by_what_is_left() {
        let mut tail = Growing::new(10);
        tail.go_on(50, |_| Need::SomebodyAway);
        tail.reach.last = Position(20);
        tail.rest(100, Need::SomebodyAway);
        assert!(tail.tail.marks.iter().all(|mark| mark.position <= Position(20)));
        assert_eq!(tail.rest(1, Need::NobodyAway), 0);
    }
}
