//! What the directory keeps of members that go, and of members that rest; see `leaving`.

use std::collections::BTreeSet;

use protocol::ReplicaId;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Departures {
    /// Members that are being removed for good.
    pub(crate) leaving: BTreeSet<ReplicaId>,
    /// Those of the retired replicas that a person removed.
    pub(crate) removed: BTreeSet<ReplicaId>,
    /// Members that shall own nothing.
    pub(crate) drained: BTreeSet<ReplicaId>,
    /// Sandboxes of nodes that a person refused, the newest last.
    pub(crate) refused: Vec<u64>,
}

impl Departures {
    /// A replica is retired, and another takes its place: a node that shall own nothing does so
    /// with another disk, too.
    pub(crate) fn is_succeeded(&mut self, former: ReplicaId, fresh: ReplicaId) {
        self.leaving.remove(&former);
        if self.drained.remove(&former) {
            self.drained.insert(fresh);
        }
    }
}
