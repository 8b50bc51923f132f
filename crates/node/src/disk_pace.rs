//! How long this node's log takes to become durable.

/// A disk that takes longer than this is slow: what is owned here goes to nodes with quicker ones.
const SLOW_MICROS: u64 = 1_000_000;

/// How long a disk counts as slow, so that groups do not come back at its first quick write.
const SLOW_FOR_MICROS: u64 = 10_000_000;

#[derive(Debug, Default)]
pub(crate) struct DiskPace {
    /// The last batch that is durable.
    durable: u64,
    /// Since when the batches after `durable` have waited.
    waits_since: Option<u64>,
    /// How long the slow write took, and until when the disk counts as slow.
    slow: Option<(u64, u64)>,
}

impl DiskPace {
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
