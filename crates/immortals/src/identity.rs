//! Who this replica is.

use protocol::{GroupId, ReplicaId};

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The name of the instance.
    pub(crate) name: String,
    pub(crate) group: GroupId,
    pub(crate) me: ReplicaId,
    /// The name of the node, for programs and people.
    pub(crate) node: String,
}
