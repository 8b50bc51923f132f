//! Who belongs to a group, and how that is changed.

use protocol::ReplicaId;
use serde::{Deserialize, Serialize};

/// The replicas of a group. All lists are sorted. Empty: a replica that waits to be admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// They elect owners, and a majority of them must hold an entry before it is committed.
    pub voters: Vec<ReplicaId>,
    /// During a joint change: the voters before it, of whom a majority is needed as well.
    pub outgoing: Vec<ReplicaId>,
    /// They receive everything and decide nothing.
    pub learners: Vec<ReplicaId>,
    /// Outgoing voters that will be learners when the joint change is over.
    pub learners_next: Vec<ReplicaId>,
    /// The owner ends the joint change by itself.
    pub auto_leave: bool,
}

/// A wish to change the membership. Several steps at once go through a joint membership, which the
/// owner ends by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// Newcomers, to be sent everything.
    pub add_learners: Vec<ReplicaId>,
    /// Learners that become voters.
    pub promote: Vec<ReplicaId>,
    /// Voters or learners that leave.
    pub remove: Vec<ReplicaId>,
}
