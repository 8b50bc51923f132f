//! How far numbered messages to another group have come on their way, as their sender knows it.
//!
//! The sender asks the receiver how far it is, sends on from there as much as its window lets, and
//! sends again or asks again when an answer is missing. Nothing of it is durable: the next owner of
//! the sender begins with a question.

use std::collections::VecDeque;

/// A receiver that does not answer is asked again after this long, in microseconds.
pub const ASK_AGAIN_MICROS: u64 = 300_000;

/// A message that is longer than the window is given more time, in bytes for each microsecond.
const LONG_BYTES_PER_MICRO: usize = 10;

/// A receiver that takes nothing for longer does not take it by itself, as far as can be told, in
/// microseconds.
pub const STANDS_MICROS: u64 = 5_000_000;

/// Messages are sent again from the same number at most this often, in microseconds.
const RESEND_MICROS: u64 = 50_000;

/// How a receiver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is to be asked how far it is.
    Unknown,
    Asked {
        at: u64,
    },
    /// Messages go out from this number on.
    Open {
        next: u64,
    },
}

/// The way to one receiver.
#[derive(Debug)]
pub struct Flow {
    pub progress: Progress,
    /// How many bytes may be on their way without being confirmed.
    window_bytes: usize,
    /// What is on its way: the last number of each run, and its bytes.
    sent: VecDeque<(u64, usize)>,
    sent_bytes: usize,
    /// When the receiver last said something that it owed.
    heard: u64,
    /// From where messages were last sent again, and when.
    resent: (u64, u64),
    /// The last number that was sent, and the last one that the receiver has durable.
    sent_last: u64,
    logged: u64,
    /// Since when the receiver has taken nothing, although there was something.
    stands_since: Option<u64>,
}

impl Flow {
    pub fn new(window_bytes: usize) -> Self {
        Self {
            progress: Progress::Unknown,
            window_bytes,
            sent: VecDeque::new(),
            sent_bytes: 0,
            heard: 0,
            resent: (0, 0),
            sent_last: 0,
            logged: 0,
            stands_since: None,
        }
    }

    /// How many bytes more may be on their way.
    pub fn room(&self) -> usize {
        self.window_bytes.saturating_sub(self.sent_bytes)
    }

    /// Whether the receiver owes an answer to something that was sent.
    pub fn is_sending(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Messages up to that number have left now.
    pub fn sent(&mut self, last: u64, bytes: usize, now: u64) {
        if self.sent.is_empty() {
            // Nothing was to be answered until now.
            self.heard = now;
        }
        self.stands_since.get_or_insert(now);
        self.sent_last = self.sent_last.max(last);
        self.sent.push_back((last, bytes));
        self.sent_bytes += bytes;
    }

    /// Since when the receiver has taken nothing, although there was something.
    pub fn stands_since(&self) -> Option<u64> {
        self.stands_since
    }

    /// The receiver has everything up to this number, durable.
    pub fn logged(&self) -> u64 {
        self.logged
    }

    /// The receiver has said that it has everything up to `logged`, durable.
    pub fn acked(&mut self, logged: u64, resend_from: Option<u64>, now: u64) {
        self.heard = now;
        if let Some(next) = resend_from {
            self.resend(next, now);
        }
        while let Some((_, bytes)) = self.sent.pop_front_if(|(last, _)| *last <= logged) {
            self.sent_bytes -= bytes;
        }
        // A receiver that answers, and has no more than before, stands as before.
        if logged >= self.sent_last {
            self.stands_since = None;
        } else if logged > self.logged {
            self.stands_since = Some(now);
        }
        self.logged = self.logged.max(logged);
    }

    /// The receiver wants all messages from there on. It says so for each message that came too
    /// early, but sending them again once is enough. If they are lost again, the receiver is asked
    /// when it is silent.
    fn resend(&mut self, next: u64, now: u64) {
        let (former, at) = self.resent;
        let is_open = matches!(self.progress, Progress::Open { .. });
        if is_open && former == next && now.saturating_sub(at) < RESEND_MICROS {
            return;
        }
        self.resent = (next, now);
        self.begin_anew(Progress::Open { next });
        // What the receiver has but has not logged counts as on its way, too, since the receiver
        // must confirm it at some time.
        self.sent.push_back((next.saturating_sub(1), 0));
    }

    pub fn begin_anew(&mut self, progress: Progress) {
        if let Progress::Asked { at } = progress {
            self.stands_since.get_or_insert(at);
        }
        self.progress = progress;
        self.sent.clear();
        self.sent_bytes = 0;
    }

    /// Whether an answer has been missing for too long.
    pub fn is_silent(&self, now: u64) -> bool {
        // To send a long message once more before it can have come would only hold it up.
        let more = self.sent_bytes.saturating_sub(self.window_bytes) / LONG_BYTES_PER_MICRO;
        let patience = ASK_AGAIN_MICROS.saturating_add(more as u64);
        let is_long = |since: u64| now.saturating_sub(since) > patience;
        match self.progress {
            Progress::Unknown => true,
            Progress::Asked { at } => is_long(at),
            Progress::Open { .. } => !self.sent.is_empty() && is_long(self.heard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1 << 20;

    #[test]
    fn a_receiver_is_silent_when_it_owes_an_answer_for_long() {
        let mut flow = Flow::new(WINDOW);
        assert!(flow.is_silent(1), "it was never asked");
        flow.acked(0, Some(1), 1_000);
        flow.acked(0, None, 1_000);
        let idle = 1_000 + 10 * ASK_AGAIN_MICROS;
        assert!(!flow.is_silent(idle), "nothing was sent");
        flow.sent(1, 10, idle);
        assert!(!flow.is_silent(idle + ASK_AGAIN_MICROS));
        assert!(flow.is_silent(idle + ASK_AGAIN_MICROS + 1));
        flow.acked(1, None, idle + ASK_AGAIN_MICROS);
        assert!(!flow.is_silent(idle + 9 * ASK_AGAIN_MICROS));
    }

    #[test]
    fn a_receiver_stands_from_when_it_took_something_last() {
        let mut flow = Flow::new(WINDOW);
        flow.begin_anew(Progress::Asked { at: 5 });
        assert_eq!(flow.stands_since(), Some(5), "it does not even say how far it is");
        flow.acked(0, Some(1), 7);
        assert_eq!(flow.stands_since(), None, "nothing was sent");
        flow.sent(1, 10, 8);
        flow.sent(2, 10, 9);
        assert_eq!(flow.stands_since(), Some(8));
        flow.begin_anew(Progress::Asked { at: 20 });
        flow.acked(0, Some(1), 21);
        assert_eq!(flow.stands_since(), Some(8), "it answers, and takes nothing");
        flow.sent(2, 20, 22);
        flow.acked(1, None, 30);
        assert_eq!(flow.stands_since(), Some(30), "it has taken some");
        flow.acked(2, None, 40);
        assert_eq!(flow.stands_since(), None, "it has all");
        flow.sent(3, 10, 50);
        assert_eq!(flow.stands_since(), Some(50));
        flow.acked(1, None, 60);
        assert_eq!(flow.logged(), 2, "what is durable stays durable");
        assert_eq!(flow.stands_since(), Some(50));
    }

    #[test]
    fn a_message_that_is_longer_than_the_window_has_more_time() {
        let mut flow = Flow::new(WINDOW);
        flow.acked(0, Some(1), 0);
        flow.acked(0, None, 0);
        flow.sent(1, WINDOW + 5_000_000, 0);
        assert!(!flow.is_silent(ASK_AGAIN_MICROS + 500_000));
        assert!(flow.is_silent(ASK_AGAIN_MICROS + 500_001));
    }

    #[test]
    fn what_is_on_its_way_takes_room_until_it_is_confirmed() {
        let mut flow = Flow::new(WINDOW);
        flow.acked(0, Some(1), 0);
        flow.sent(4, WINDOW - 10, 0);
        flow.sent(5, 100, 0);
        assert_eq!(flow.room(), 0);
        flow.acked(4, None, 0);
        assert_eq!(flow.room(), WINDOW - 100);
        flow.acked(5, None, 0);
        assert_eq!((flow.room(), flow.is_sending()), (WINDOW, false));
    }

    #[test]
    fn messages_are_sent_again_once_for_many_that_came_too_early() {
        let mut flow = Flow::new(WINDOW);
        flow.acked(0, Some(1), 1);
        flow.sent(9, 10, 1);
        flow.progress = Progress::Open { next: 10 };
        flow.acked(2, Some(3), 100_000);
        assert_eq!(flow.progress, Progress::Open { next: 3 });
        flow.progress = Progress::Open { next: 10 };
        flow.acked(2, Some(3), 100_001);
        assert_eq!(flow.progress, Progress::Open { next: 10 });
        flow.acked(2, Some(3), 100_000 + RESEND_MICROS);
        assert_eq!(flow.progress, Progress::Open { next: 3 });
    }
}
