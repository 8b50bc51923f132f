//! The replicas of this node, and which of them there is something to do for. A node may have ten thousand:
//! what happens to one of them must not cost a look at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use protocol::GroupId;
use storage::LogRecord;

use crate::outbox::Outbox;
use crate::replica::Replica;

/// Reading them is like reading a map. Who takes one to change it is taken at his word: it is settled
/// before the step is over.
#[derive(Default)]
pub(crate) struct Replicas {
    all: BTreeMap<GroupId, Replica>,
    /// Something was done to them since they were settled last, or they are gone since.
    touched: BTreeSet<GroupId>,
    /// Something of them waits for the disk.
    waiting: BTreeSet<GroupId>,
    /// They have a commit position that was not worth a sync.
    lazy: BTreeSet<GroupId>,
}

impl Deref for Replicas {
    type Target = BTreeMap<GroupId, Replica>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Replicas {
    pub(crate) fn get_mut(&mut self, group: &GroupId) -> Option<&mut Replica> {
        let replica = self.all.get_mut(group)?;
        self.touched.insert(*group);
        Some(replica)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Replica> {
        self.touched.extend(self.all.keys());
        self.all.values_mut()
    }

    pub(crate) fn insert(&mut self, group: GroupId, replica: Replica) {
        self.touched.insert(group);
        self.all.insert(group, replica);
    }

    pub(crate) fn remove(&mut self, group: GroupId) -> Option<Replica> {
        self.touched.insert(group);
        self.all.remove(&group)
    }

    /// For what gives consensus nothing to do.
    pub(crate) fn get_still(&mut self, group: GroupId) -> Option<&mut Replica> {
        self.all.get_mut(&group)
    }

    /// Does something to all. Those are touched for which it says so.
    pub(crate) fn each(&mut self, mut doing: impl FnMut(&mut Replica) -> Touch) {
        for (group, replica) in &mut self.all {
            if doing(replica) == Touch::Touched {
                self.touched.insert(*group);
            }
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.touched.is_empty()
    }

    /// Those that are to be settled now.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.touched)
    }

    /// A replica was settled.
    pub(crate) fn note(&mut self, group: GroupId) {
        let Some(replica) = self.all.get(&group) else { return };
        if replica.waits_for_the_disk() {
            self.waiting.insert(group);
        }
        if replica.has_lazy() {
            self.lazy.insert(group);
        }
    }

    /// What waited for the disk up to that batch is let go.
    pub(crate) fn release(&mut self, outbox: &mut Outbox, batch: u64) {
        let Self { all, touched, waiting, .. } = self;
        waiting.retain(|group| {
            let Some(replica) = all.get_mut(group) else { return false };
            if replica.release(outbox, batch) {
                touched.insert(*group);
            }
            replica.waits_for_the_disk()
        });
    }

    /// The commit positions that go along with other records.
    pub(crate) fn take_lazy(&mut self) -> Vec<LogRecord> {
        let groups = std::mem::take(&mut self.lazy).into_iter();
        groups.filter_map(|group| self.all.get_mut(&group)?.take_lazy()).collect()
    }
}

/// Whether consensus may have something to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Touched,
    Still,
}
