//! Who belongs to a group, and how that is changed.

use std::collections::BTreeSet;

use protocol::ReplicaId;
use raft::eraftpb::ConfState;
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

impl Members {
    /// A group as it begins: all of them vote.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        let voters = BTreeSet::from_iter(voters).into_iter().collect();
        Self { voters, ..Self::default() }
    }

    /// True for a replica that waits to be admitted.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.outgoing.is_empty() && self.learners.is_empty()
    }

    /// True while a joint change is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// True when its vote counts, in either half of a joint membership.
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        self.voters.contains(&replica) || self.outgoing.contains(&replica)
    }

    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.is_voter(replica) || self.learners.contains(&replica)
    }

    /// These, and that replica as a learner if it is none of them. For a snapshot that stands
    /// before the entry which admits its receiver: raft-rs takes none in which the receiver is
    /// nobody.
    ///
    /// That is no lie that matters. A learner more changes no majority; the receiver is the only
    /// one who believes it, and only until it has applied that entry, to which it changes nothing
    /// as it is a learner already. Changes before it do not name the receiver, or they would have
    /// admitted it. And a learner does not campaign.
    #[must_use]
    pub fn with_learner(&self, replica: ReplicaId) -> Self {
        let mut members = self.clone();
        if !members.contains(replica) {
            members.learners.push(replica);
            members.learners.sort_unstable();
        }
        members
    }

    /// Whether this is a membership that a group can be in, or what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let unique = |list: &[ReplicaId]| BTreeSet::from_iter(list).len() == list.len();
        let lists = [&self.voters, &self.outgoing, &self.learners, &self.learners_next];
        if lists.iter().any(|list| !unique(list)) {
            Err("a replica is named twice")
        } else if lists.iter().any(|list| list.contains(&ReplicaId(0))) {
            Err("replica 0 is nobody")
        } else if self.voters.is_empty() && !(self.is_empty() && self.learners_next.is_empty()) {
            Err("nobody votes")
        } else if self.learners.iter().any(|learner| self.is_voter(*learner)) {
            Err("a learner votes")
        } else if self
            .learners_next
            .iter()
            .any(|next| !self.outgoing.contains(next) || self.voters.contains(next))
        {
            Err("a future learner is not one of those who stop voting")
        } else if self.auto_leave && !self.is_joint() {
            Err("a joint change is to be ended that is not under way")
        } else {
            Ok(())
        }
    }

    pub(crate) fn from_raft(state: &ConfState) -> Self {
        let sorted =
            |list: &[u64]| BTreeSet::from_iter(list).into_iter().map(|id| ReplicaId(*id)).collect();
        Self {
            voters: sorted(&state.voters),
            outgoing: sorted(&state.voters_outgoing),
            learners: sorted(&state.learners),
            learners_next: sorted(&state.learners_next),
            auto_leave: state.auto_leave,
        }
    }

    pub(crate) fn to_raft(&self) -> ConfState {
        let ids = |list: &[ReplicaId]| list.iter().map(|replica| replica.0).collect();
        ConfState {
            voters: ids(&self.voters),
            voters_outgoing: ids(&self.outgoing),
            learners: ids(&self.learners),
            learners_next: ids(&self.learners_next),
            auto_leave: self.auto_leave,
            ..ConfState::default()
        }
    }
}
