//! Who should own what. Every node computes the same order from the directory alone.

use protocol::{GroupId, ReplicaId};

/// The replicas in the order in which they should own a group: the first that is up does. Each
/// partition begins with another replica, and goes round the other way on every second round, so
/// that the partitions of a node that dies are spread over those that live.
pub(crate) fn order(group: GroupId, members: &[ReplicaId]) -> Vec<ReplicaId> {
    let count = members.len();
    if count == 0 {
        return Vec::new();
    }
    let number = usize::try_from(group.0).expect("a group number fits");
    let (first, backwards) = (number % count, (number / count) % 2 == 1);
    let step = if backwards { count - 1 } else { 1 };
    (0..count).map(|i| members[(first + i * step) % count]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn owners_are_spread_evenly_also_when_one_is_gone() {
        let members = [ReplicaId(1), ReplicaId(2), ReplicaId(3)];
        for dead in [None, Some(ReplicaId(1)), Some(ReplicaId(2)), Some(ReplicaId(3))] {
            let mut owned = BTreeMap::<_, usize>::new();
            for group in (1..=18).map(GroupId) {
                let order = order(group, &members);
                let owner = order.into_iter().find(|id| Some(*id) != dead).expect("two live");
                *owned.entry(owner).or_default() += 1;
            }
            let expected = if dead.is_some() { 9 } else { 6 };
            assert!(owned.values().all(|count| *count == expected), "{dead:?}: {owned:?}");
        }
    }
}
