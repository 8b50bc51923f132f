//! What the groups of a shard keep of refused writes, all together. Each group bounds its own, and
//! a node may have ten thousand groups.

use std::collections::BTreeMap;

use protocol::GroupId;

/// How many bytes of refusals all groups of a node keep together. More: the group that keeps most
/// forgets its oldest, and what may be a copy of one of them gets 503 `BUSY` with an unknown
/// outcome.
pub const REFUSED_OF_ALL_MAX: usize = 32 << 20;

/// How much each group keeps.
#[derive(Default)]
pub(crate) struct Refusals {
    bytes: BTreeMap<GroupId, usize>,
    total: usize,
}

impl Refusals {
    /// The group keeps that many bytes now.
    pub(crate) fn note(&mut self, group: GroupId, bytes: usize) {
        let before = match bytes {
            0 => self.bytes.remove(&group),
            _ => self.bytes.insert(group, bytes),
        };
        self.total = self.total + bytes - before.unwrap_or(0);
    }

    /// When all together keep too much: the group that keeps most, and how much of it may stay.
    /// (Half, so that it is not the next group's turn at once.)
    pub(crate) fn too_many(&self) -> Option<(GroupId, usize)> {
        if self.total <= REFUSED_OF_ALL_MAX {
            return None;
        }
        let most = self.bytes.iter().max_by_key(|(_, bytes)| **bytes);
        most.map(|(group, bytes)| (*group, bytes / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_together_keep_no_more_than_a_node_may() {
        let mut refusals = Refusals::default();
        for group in 1..=1_000 {
            refusals.note(GroupId(group), 100_000 + usize::try_from(group).unwrap());
            while let Some((most, left)) = refusals.too_many() {
                assert!(left >= 10_000, "{most} keeps most, and that is not so little");
                refusals.note(most, left);
            }
            assert!(refusals.total <= REFUSED_OF_ALL_MAX);
            assert_eq!(refusals.total, refusals.bytes.values().sum::<usize>());
        }
        for group in 1..=1_000 {
            refusals.note(GroupId(group), 0);
        }
        assert_eq!((refusals.total, refusals.bytes.len()), (0, 0));
    }
}
