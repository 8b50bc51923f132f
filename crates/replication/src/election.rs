//! What is on a replica's mind between elections: the hint that the owner is gone, messages
//! that came a moment too early, and whether the group rests.

use protocol::Position;
use raft::eraftpb::Message;

/// A replica that lost its owner asks again after this many ticks (and its delay on top, so that
/// two of them do not ask at the same moment for ever). So long it also waits when another asks.
pub(crate) const HINT_RETRY_TICKS: usize = 2;

/// When an election has begun, here or elsewhere, it has this many ticks (and the delay) before
/// this replica begins another: votes must be written to disk on both sides.
pub(crate) const ELECTION_TICKS: usize = 10;

/// After this many tries the hint is forgotten, and the ordinary timeouts go on.
pub(crate) const HINT_TRIES_MAX: usize = 8;

/// A message that came too early is kept for this many ticks.
pub(crate) const HELD_TICKS: usize = 5;

/// An owner waits for its quorum this many times as long as a follower waits for its owner.
const OWNER_PACE: usize = 4;

/// How fast the time of elections goes by. Where messages take long or come irregularly, an owner
/// may be silent for longer, and has longer to hear from a majority: then some ticks do not count.
pub(crate) struct Pace {
    /// How many ticks of an election timeout count, and how many ticks it lasts.
    counted: usize,
    lasting: usize,
    saved: usize,
    /// How long a question and its answer are under way, in ticks.
    pub(crate) round_trip: usize,
}

impl Pace {
    pub(crate) fn new(ticks: usize) -> Self {
        Self { counted: ticks, lasting: ticks, saved: 0, round_trip: 0 }
    }

    pub(crate) fn set(&mut self, lasting: usize, round_trip: usize) {
        self.lasting = lasting.max(self.counted);
        self.round_trip = round_trip;
    }

    /// How many of these ticks count.
    pub(crate) fn counted_of(&self, ticks: usize) -> usize {
        ticks.saturating_mul(self.counted) / self.lasting
    }

    /// Whether this tick counts. An owner without a quorum is `slow` to give up: nothing depends on
    /// its giving up early, as its followers look for another one by themselves, and what it takes
    /// for silence may be a network that has just become slow.
    pub(crate) fn tick(&mut self, slow: bool) -> bool {
        let lasting = if slow { OWNER_PACE * self.lasting } else { self.lasting };
        self.saved += self.counted;
        let counts = self.saved >= lasting;
        self.saved %= lasting;
        counts
    }
}

/// The connection to the owner broke, so it will hardly be heard of again.
pub(crate) struct Hint {
    delay_ticks: usize,
    ticks_left: usize,
    tries_left: usize,
}

impl Hint {
    pub(crate) fn new(delay_ticks: usize) -> Self {
        Self { delay_ticks, ticks_left: delay_ticks, tries_left: HINT_TRIES_MAX }
    }

    /// Not before this many ticks and the delay.
    pub(crate) fn wait(&mut self, ticks: usize) {
        self.ticks_left = self.ticks_left.max(ticks.saturating_add(self.delay_ticks));
    }

    /// There is nobody else to wait for.
    pub(crate) fn hurry(&mut self) {
        self.ticks_left = 0;
    }

    pub(crate) fn tick(&mut self) {
        self.ticks_left = self.ticks_left.saturating_sub(1);
    }

    /// Whether to campaign now; counts as a try. The next one may come when the answers to this one
    /// can be there, after `round_trip` ticks.
    pub(crate) fn is_due(&mut self, round_trip: usize) -> bool {
        let due = self.ticks_left == 0 && self.tries_left > 0;
        if due {
            self.tries_left -= 1;
            self.ticks_left = (HINT_RETRY_TICKS + round_trip).saturating_add(self.delay_ticks);
        }
        due
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.tries_left == 0
    }
}

/// A message that may be of use in a moment.
#[derive(Default)]
pub(crate) struct Held {
    message: Option<(Message, usize)>,
}

impl Held {
    /// One is kept, the last.
    pub(crate) fn put(&mut self, message: Message) {
        self.message = Some((message, HELD_TICKS));
    }

    pub(crate) fn tick(&mut self) {
        if let Some((_, ticks_left)) = &mut self.message {
            *ticks_left -= 1;
        }
        self.message.take_if(|(_, ticks_left)| *ticks_left == 0);
    }

    pub(crate) fn is_there(&self) -> bool {
        self.message.is_some()
    }

    pub(crate) fn take(&mut self) -> Option<Message> {
        self.message.take().map(|(message, _)| message)
    }
}

/// Whether a replica rests.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) is_resting: bool,
    /// How long an owner has seen nothing happen.
    pub(crate) quiet_ticks: usize,
    /// The last entry that it saw.
    pub(crate) last: Position,
    /// What the followers are still to be told.
    pub(crate) messages: Vec<crate::Message>,
}

impl Rest {
    pub(crate) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    pub(crate) fn take_messages(&mut self) -> Vec<crate::Message> {
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_lasts_as_many_ticks_as_it_was_set_to() {
        for (lasting, slow, expected) in
            [(0, false, 25), (30, false, 30), (95, false, 95), (30, true, 120)]
        {
            let mut pace = Pace::new(25);
            pace.set(lasting, 0);
            let mut counted = 0;
            let mut ticks = 0;
            while counted < 25 {
                ticks += 1;
                counted += usize::from(pace.tick(slow));
            }
            assert_eq!(ticks, expected);
        }
    }
}
