//! What is kept of the logs of a node's groups, on the disk and in memory.

use std::collections::BTreeSet;

use group::Touch;
use protocol::{GroupId, ReplicaId};
use replication::TailLimits;

use crate::shard::Shard;

impl Shard {
    /// Cuts the logs. The log up to the durable state is not needed, except for a tail that saves
    /// followers which are behind from a snapshot. `limits`: of all logs together. Those in `there`
    /// lack little, as far as is known here. What `is_used` is not cut: it is read for a backup.
    pub(crate) fn cut_logs(
        &mut self,
        limits: TailLimits,
        (there, is_used): (&BTreeSet<ReplicaId>, &dyn Fn(GroupId) -> bool),
        now: u64,
    ) {
        let mut kept = Vec::new();
        self.each(|_, replica| {
            kept.push(replica.consensus().tail_bytes());
            Touch::Still
        });
        let limits = if self.log.is_room_low() { TailLimits::NOTHING } else { limits.shared(kept) };
        let mut records = Vec::new();
        self.each(|group, replica| {
            if is_used(group) {
                return Touch::Still;
            }
            let up_to = replica.persisted_up_to();
            let members = replica.consensus().members();
            let lists =
                [&members.voters, &members.outgoing, &members.learners, &members.learners_next];
            let is_away = lists.into_iter().flatten().any(|id| !there.contains(id));
            records.extend(replica.consensus_mut().cut_tail(up_to, now, is_away, &limits));
            Touch::Still
        });
        self.log.records.append(&mut records);
    }

    /// Keeps what the logs take in memory within its bound.
    pub(crate) fn shrink_windows(&mut self) {
        let Self { directory, partitions, instances, logs, .. } = self;
        logs.window.shrink(|group, bytes| {
            let consensus = if group.is_directory() {
                Some(&mut directory.consensus)
            } else if group.is_partition() {
                partitions.get_mut(&group).map(|replica| &mut replica.consensus)
            } else {
                instances.get_mut(&group).map(|replica| &mut replica.consensus)
            };
            consensus.map_or(0, |consensus| consensus.shrink_window(bytes))
        });
    }
}
