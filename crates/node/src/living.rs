//! When this node has seen which member alive.

use std::collections::BTreeMap;

use protocol::ReplicaId;

/// Which members this node has seen alive.
#[derive(Default)]
pub(crate) struct Living {
    /// The sandbox of a newcomer that wants the place of a living node, as the log has said.
    pub(crate) told: Option<u64>,
    /// When each was seen alive last; at first, when this node began to look.
    seen: BTreeMap<ReplicaId, u64>,
}

impl Living {
    /// A look at the members, each with whether it is alive.
    pub(crate) fn see(&mut self, members: impl Iterator<Item = (ReplicaId, bool)>, now: u64) {
        let before = std::mem::take(&mut self.seen);
        self.seen = members
            .map(|(id, is_up)| match before.get(&id) {
                Some(seen) if !is_up => (id, *seen),
                _ => (id, now),
            })
            .collect();
    }

    /// For how long a member was not seen alive.
    pub(crate) fn away_micros(&self, replica: ReplicaId, now: u64) -> u64 {
        now.saturating_sub(self.seen.get(&replica).copied().unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_away_since_it_was_seen_last_or_since_this_node_looks() {
        let (one, other) = (ReplicaId(1), ReplicaId(2));
        let mut living = Living::default();
        assert_eq!(living.away_micros(one, 100), 0, "it was not looked at");
        living.see([(one, true), (other, false)].into_iter(), 100);
        living.see([(one, true), (other, false)].into_iter(), 200);
        assert_eq!((living.away_micros(one, 250), living.away_micros(other, 250)), (50, 150));
        living.see([(one, false), (other, true)].into_iter(), 300);
        assert_eq!((living.away_micros(one, 400), living.away_micros(other, 400)), (200, 100));
        living.see([(one, false)].into_iter(), 400);
        living.see([(one, false), (other, false)].into_iter(), 500);
        assert_eq!(living.away_micros(other, 600), 100, "another one may have its number");
    }
}
