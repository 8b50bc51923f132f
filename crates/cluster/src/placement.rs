//! Who should own what. Every node computes the same order from the directory alone.

use protocol::{GroupId, ReplicaId};

/// The replicas in the order in which they should own a group: the first that is up does. Each
/// partition begins with another replica, and goes round the other way on every second round, so
/// that the partitions of a node that dies are spread over those that live.
pub fn order(group: GroupId, members: &[ReplicaId]) -> Vec<ReplicaId> {
    let count = members.len();
    if count == 0 {
        return Vec::new();
    }
    let number = usize::try_from(group.0).expect("a group number fits");
    let (first, backwards) = (number % count, (number / count) % 2 == 1);
    let step = if backwards { count - 1 } else { 1 };
    (0..count).map(|i| members[(first + i * step) % count]).collect()
}

/// A node that may get a replica of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLoad {
    pub id: ReplicaId,
    pub node: String,
    /// As the node sees it that was asked.
    pub up: bool,
    /// How many replicas of instances it has already.
    pub replicas: usize,
}

/// The nodes for `count` replicas of a new instance: nodes that are up come first, of these those
/// with the fewest replicas, then by name. A node that is down is taken only when the others do not
/// suffice. The result is in the order of ids, so that replica 0 is where people look for it.
pub fn choose_nodes(mut all: Vec<NodeLoad>, count: usize) -> Vec<(ReplicaId, String)> {
    all.sort_by(|a, b| (!a.up, a.replicas, &a.node).cmp(&(!b.up, b.replicas, &b.node)));
    all.truncate(count);
    all.sort_by_key(|node| (!node.up, node.id));
    all.into_iter().map(|node| (node.id, node.node)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn replicas_go_to_nodes_that_are_up_and_have_few() {
        let node = |id: u64, up, replicas| NodeLoad {
            id: ReplicaId(id),
            node: format!("n{id}"),
            up,
            replicas,
        };
        let chosen = |all: &[NodeLoad], count| -> Vec<u64> {
            choose_nodes(all.to_vec(), count).into_iter().map(|(id, _)| id.0).collect()
        };
        let even = [node(1, true, 2), node(2, true, 2), node(3, true, 2)];
        assert_eq!(chosen(&even, 1), [1], "by name");
        assert_eq!(chosen(&even, 3), [1, 2, 3]);
        let uneven = [node(1, true, 2), node(2, true, 1), node(3, false, 0)];
        assert_eq!(chosen(&uneven, 1), [2], "the emptiest is down");
        assert_eq!(chosen(&uneven, 2), [1, 2]);
        assert_eq!(chosen(&uneven, 3), [1, 2, 3], "all were asked for");
        let first_down = [node(1, false, 0), node(2, true, 0), node(3, true, 0)];
        assert_eq!(chosen(&first_down, 3), [2, 3, 1], "replica 0 is on a node that is up");
    }

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
