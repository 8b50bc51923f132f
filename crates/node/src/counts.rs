//! What a node counts of messages that came once more.

use services::WritesOfInstances;

use crate::member::Member;

impl Member {
    pub(crate) fn repeats_dropped(&self) -> u64 {
        let leaders = self.membership.shard.instances.values().filter_map(|it| it.leader());
        leaders.map(|leader| leader.lead().repeats()).sum()
    }

    pub(crate) fn writes_of_instances(&self) -> WritesOfInstances {
        let leaders = self.membership.shard.partitions.values().filter_map(|it| it.leader());
        leaders.fold(WritesOfInstances::default(), |sum, leader| sum + leader.writes_of_instances())
    }
}
