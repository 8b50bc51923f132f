//! Since when something is amiss at this node, for people who ask why it does not go on.

use std::collections::BTreeMap;

use group::Quorum;
use protocol::{GroupId, Now};

use crate::control::Control;
use crate::shard::Shard;

/// In steady microseconds. `None`: all is well.
#[derive(Debug, Default)]
pub(crate) struct Since {
    /// Too few nodes are up that take writes.
    pub(crate) quorum: Option<u64>,
    /// The disk takes no writes.
    pub(crate) full: Option<u64>,
    /// The disk is slow.
    pub(crate) slow: Option<u64>,
    /// The clock is off.
    pub(crate) clock: Option<u64>,
    /// The program lacks services.
    pub(crate) services: Option<u64>,
    /// Instances are paused.
    pub(crate) paused: BTreeMap<GroupId, u64>,
    /// When the instances were looked at last.
    looked_at: u64,
}

/// How often all instances are looked at, in microseconds: there may be many.
const INSTANCES_EVERY_MICROS: u64 = 1_000_000;

impl Since {
    /// `quorum`: for writes of documents.
    pub(crate) fn look(&mut self, control: &Control, quorum: Quorum, shard: &Shard, now: Now) {
        let now = now.steady_micros;
        let majority = control.members().len() / 2 + 1;
        note(&mut self.quorum, quorum.up < quorum.needed.max(majority), now);
        note(&mut self.full, shard.log.full().is_some(), now);
        note(&mut self.slow, shard.log.pace.slow_millis().is_some(), now);
        note(&mut self.clock, control.clock.is_off(), now);
        note(&mut self.services, control.services.lacks_any(), now);
        if now.saturating_sub(self.looked_at) < INSTANCES_EVERY_MICROS {
            return;
        }
        self.looked_at = now;
        let entries = control.map.topology.instances().filter(|entry| entry.options.paused);
        let since = |group: GroupId| self.paused.get(&group).copied().unwrap_or(now);
        self.paused = entries.map(|entry| (entry.group, since(entry.group))).collect();
    }
}

fn note(since: &mut Option<u64>, is_so: bool, now: u64) {
    *since = is_so.then(|| since.unwrap_or(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_counts_from_when_it_was_first_seen_and_no_longer_when_it_is_well() {
        let mut since = None;
        note(&mut since, true, 5);
        note(&mut since, true, 9);
        assert_eq!(since, Some(5));
        note(&mut since, false, 10);
        assert_eq!(since, None);
        note(&mut since, true, 11);
        assert_eq!(since, Some(11));
    }
}
