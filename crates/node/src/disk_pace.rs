//! How long this node's log takes to become durable, and how much of it waits for that.

use std::collections::VecDeque;

/// A disk that takes longer than this is slow: what is owned here goes to nodes with quicker ones.
const SLOW_MICROS: u64 = 1_000_000;

/// How long a disk counts as slow, so that groups do not come back at its first quick write.
const SLOW_FOR_MICROS: u64 = 10_000_000;

/// What a record takes in memory beside its data, in bytes, roughly.
const RECORD_BYTES: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct DiskPace {
    /// The last batch that is durable.
    durable: u64,
    /// Since when the batches after `durable` have waited.
    waits_since: Option<u64>,
    /// How long the slow write took, and until when the disk counts as slow.
    slow: Option<(u64, u64)>,
    /// What was given out and is not durable: the number of each batch, and its bytes.
    waiting: VecDeque<(u64, usize)>,
    waiting_bytes: usize,
    /// Above this nothing more is taken in.
    waiting_bytes_max: usize,
    /// How many frames were not taken in since half of that was last enough.
    left_out: u64,
}

impl DiskPace {
    pub(crate) fn new(waiting_bytes_max: usize) -> Self {
        Self { waiting_bytes_max, ..Self::default() }
    }

    /// A batch is on its way to the disk.
    pub(crate) fn given_out(&mut self, batch: u64, records: usize, data_bytes: usize) {
        let bytes = data_bytes + records * RECORD_BYTES;
        self.waiting.push_back((batch, bytes));
        self.waiting_bytes += bytes;
    }

    /// How many bytes wait for the disk, if they are too many for more to be taken in. What was
    /// proposed here or came from an owner is in memory until then: a disk that hangs must not
    /// take all of it.
    pub(crate) fn is_behind(&self) -> Option<usize> {
        (self.waiting_bytes > self.waiting_bytes_max).then_some(self.waiting_bytes)
    }

    /// True when that is news.
    pub(crate) fn leave_out(&mut self) -> bool {
        self.left_out += 1;
        self.left_out == 1
    }
    /// Time goes on; so far `last` batches were given out.
    pub(crate) fn tick(&mut self, last: u64, now: u64) {
        if last > self.durable {
            let since = *self.waits_since.get_or_insert(now);
            self.took(now.saturating_sub(since), now);
        }
        self.slow.take_if(|(_, until)| *until <= now);
    }

    /// All up to this batch are durable.
    pub(crate) fn durable(&mut self, batch: u64, last: u64, now: u64) {
        let since = self.waits_since.take().unwrap_or(now);
        self.took(now.saturating_sub(since), now);
        self.durable = batch;
        while let Some((_, bytes)) = self.waiting.pop_front_if(|(number, _)| *number <= batch) {
            self.waiting_bytes -= bytes;
        }
        if self.waiting_bytes <= self.waiting_bytes_max / 2 {
            self.left_out = 0;
        }
        if last > batch {
            self.waits_since = Some(now);
        }
    }

    fn took(&mut self, micros: u64, now: u64) {
        if micros >= SLOW_MICROS {
            self.slow = Some((micros, now + SLOW_FOR_MICROS));
        }
    }

    /// How long a write took of late, in milliseconds, if that is too long.
    pub(crate) fn slow_millis(&self) -> Option<u64> {
        self.slow.map(|(micros, _)| micros / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_disk_is_bounded_by_bytes() {
        let mut pace = DiskPace::new(1_000);
        pace.given_out(1, 1, 1_000 - RECORD_BYTES);
        assert_eq!(pace.is_behind(), None);
        pace.given_out(2, 2, 0);
        assert_eq!(pace.is_behind(), Some(1_000 + 2 * RECORD_BYTES));
        assert!(pace.leave_out() && !pace.leave_out(), "it is said once");
        pace.durable(1, 2, 5);
        assert_eq!(pace.is_behind(), None);
        assert!(pace.leave_out(), "it was well meanwhile");
        pace.durable(2, 2, 6);
        assert_eq!(pace.waiting_bytes, 0);
    }

    #[test]
    fn a_disk_is_slow_while_a_write_takes_long_and_for_a_while_after() {
        let mut pace = DiskPace::default();
        pace.tick(1, 10);
        pace.durable(1, 2, 300_000);
        assert_eq!(pace.slow_millis(), None, "300 ms are not slow");
        pace.tick(2, 1_200_000);
        assert_eq!(pace.slow_millis(), None);
        pace.tick(2, 1_400_000);
        assert_eq!(pace.slow_millis(), Some(1_100), "it waits still");
        pace.durable(2, 2, 2_300_000);
        pace.tick(2, 12_200_000);
        assert_eq!(pace.slow_millis(), Some(2_000));
        pace.tick(2, 12_300_000);
        assert_eq!(pace.slow_millis(), None);
    }
}
