//! What owners do at leisure: bring new replicas in, let retired ones go, and give groups back to
//! the replica that is first in line, slowly and one at a time.

use protocol::{GroupId, ReplicaId};
use replication::MembershipChange;

use crate::io::Level;
use crate::node::Node;
use crate::office::name_of;
use crate::placement;

/// A node must have been up for this long before it is given groups back, in microseconds.
const SETTLED_MICROS: u64 = 2_000_000;

/// The least time between two hand-overs by one node, in microseconds.
const MOVE_PAUSE_MICROS: u64 = 250_000;

/// How long a node waits before it asks again whether it may stand, in microseconds. Only the asking
/// is repeated, which writes nothing; votes on their way to a slow disk are not broken off by it.
const STAND_PAUSE_MICROS: u64 = 100_000;

/// A learner this close to the end of the log is made a voter, in entries.
const CAUGHT_UP_ENTRIES: u64 = 64;

impl Node {
    /// For each owned group: members as the directory has them.
    pub(crate) fn mind_members(&mut self) {
        if self.map.cluster.is_none() {
            return;
        }
        let owned: Vec<GroupId> =
            self.offices.keys().chain(self.immortals.open.keys()).copied().collect();
        for group in owned {
            if let Some(change) = self.change_needed(group) {
                let replica = self.replicas.get_mut(&group).expect("an owned group is here");
                match replica.group.change(&change) {
                    Ok(_) => {
                        let text = format!("members of {} change: {change:?}", name_of(group));
                        self.note(Level::Info, text);
                    }
                    Err(why) => {
                        let text = format!("members of {} stay: {why}", name_of(group));
                        self.note(Level::Debug, text);
                    }
                }
            }
        }
    }

    fn change_needed(&self, group: GroupId) -> Option<MembershipChange> {
        let consensus = &self.replicas.get(&group)?.group;
        let members = consensus.members();
        if !members.outgoing.is_empty() || !members.learners_next.is_empty() {
            return None;
        }
        let line = self.line_of(group);
        let is_settled = members.learners.is_empty() && members.voters.len() == line.len();
        if is_settled && line.iter().all(|id| members.voters.contains(id)) {
            return None;
        }
        let wanted = || line.iter().copied();
        let is_member =
            |id: &ReplicaId| members.voters.contains(id) || members.learners.contains(id);
        let add_learners: Vec<ReplicaId> =
            wanted().filter(|id| !is_member(id) && self.is_up(*id)).collect();
        if !add_learners.is_empty() {
            return Some(MembershipChange { add_learners, ..MembershipChange::default() });
        }
        let last = consensus.last();
        let caught_up = |id: &ReplicaId| {
            consensus.progress().iter().any(|(other, progress)| {
                other == id
                    && progress.learner
                    && progress.active
                    && progress.matched.0 + CAUGHT_UP_ENTRIES >= last.0
            })
        };
        let promote: Vec<ReplicaId> = wanted().filter(caught_up).collect();
        let all = members.voters.iter().chain(&members.learners).copied();
        let gone = |id: &ReplicaId| {
            self.map.retired.contains(id) || (group.is_instance() && !line.contains(id))
        };
        let mut remove: Vec<ReplicaId> = all.filter(gone).collect();
        // A retired voter goes when its successor comes in, so that there are never fewer voters.
        let missing = wanted().any(|id| !members.voters.contains(&id) && !promote.contains(&id));
        if missing {
            remove.truncate(promote.len());
        }
        let change = MembershipChange { promote, remove, ..MembershipChange::default() };
        (change != MembershipChange::default()).then_some(change)
    }

    /// Hands one group over to the replica that should own it, if there is one to hand.
    pub(crate) fn mind_placement(&mut self) {
        let now = self.now.steady_micros;
        if now.saturating_sub(self.moved_last) < MOVE_PAUSE_MICROS {
            return;
        }
        let owned: Vec<GroupId> = self.offices.keys().copied().collect();
        for group in owned {
            if let Some(heir) = self.rightful_owner(group) {
                self.moved_last = now;
                let name = self.map.node_id(heir).unwrap_or("?").to_owned();
                self.note(Level::Info, format!("{} goes to node {name}", name_of(group)));
                self.hand_over(group, heir);
                return;
            }
        }
    }

    /// The first in line that could take the group now; None when that is this node itself.
    fn rightful_owner(&self, group: GroupId) -> Option<ReplicaId> {
        let me = self.me?;
        let heir = placement::order(group, &self.map.line())
            .into_iter()
            .find(|id| *id == me || self.can_take(group, *id))?;
        (heir != me).then_some(heir)
    }

    fn can_take(&self, group: GroupId, replica: ReplicaId) -> bool {
        let now = self.now.steady_micros;
        let settled = self
            .peers
            .up_since(replica, now)
            .is_some_and(|since| now.saturating_sub(since) > SETTLED_MICROS);
        settled && self.peers.takes_writes(replica) && self.is_close(group, replica)
    }

    /// It is a voter and has nearly all of the log.
    pub(crate) fn is_close(&self, group: GroupId, replica: ReplicaId) -> bool {
        let Some(here) = self.replicas.get(&group) else { return false };
        let last = here.group.last();
        here.group.progress().iter().any(|(id, progress)| {
            *id == replica
                && !progress.learner
                && !progress.snapshotting
                && progress.active
                && progress.matched.0 + CAUGHT_UP_ENTRIES >= last.0
        })
    }

    /// Whoever waits for this group is told to ask the next owner, then consensus moves it.
    pub(crate) fn hand_over(&mut self, group: GroupId, to: ReplicaId) {
        self.close_office(group);
        self.close_instance(group);
        if let Some(replica) = self.replicas.get_mut(&group) {
            replica.group.hand_over(to);
        }
    }

    pub(crate) fn handing_over(&self, group: GroupId) -> bool {
        self.replicas.get(&group).is_some_and(|r| r.group.status().handing_over.is_some())
    }

    /// Hands over everything, as far as there is somebody to take it. True when nothing is owned.
    pub(crate) fn hand_over_all(&mut self) -> bool {
        let owned: Vec<GroupId> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.group.is_owner())
            .map(|(group, _)| *group)
            .collect();
        let mut left = false;
        for group in owned {
            let heir = self
                .order_of(group)
                .into_iter()
                .find(|id| Some(*id) != self.me && self.is_up(*id) && self.is_close(group, *id));
            left |= heir.is_some();
            if let Some(heir) = heir
                && !self.handing_over(group)
            {
                self.hand_over(group, heir);
            }
        }
        !left
    }

    /// Each replica of a group waits for another time before it stands, by its place in line.
    pub(crate) fn set_ranks(&mut self) {
        for group in self.replicas.keys().copied().collect::<Vec<_>>() {
            self.set_rank(group);
        }
    }

    pub(crate) fn set_rank(&mut self, group: GroupId) {
        let Some(me) = self.me else { return };
        let timing = self.config.timing;
        let order = self.order_of(group);
        let rank = order.iter().position(|id| *id == me).unwrap_or(order.len());
        if let Some(replica) = self.replicas.get_mut(&group) {
            replica.group.set_election_ticks(timing.election_ticks + rank * timing.stagger_ticks);
        }
    }

    /// A group without an owner gets one at once if this node is the first in line that is up and a
    /// majority is there. (Who is cut off from an owner that lives loses the vote, so asking does no
    /// harm.)
    pub(crate) fn mind_elections(&mut self) {
        let replicas = &self.replicas;
        self.stood.retain(|group, _| {
            replicas.get(group).is_some_and(|replica| replica.group.owner().is_none())
        });
        let groups: Vec<GroupId> = replicas
            .iter()
            .filter(|(_, replica)| replica.group.owner().is_none())
            .map(|(group, _)| *group)
            .collect();
        for group in groups {
            let order = self.order_of(group);
            let up = order.iter().filter(|id| self.is_up(**id)).count();
            if up <= order.len() / 2 {
                continue;
            }
            let first =
                order.into_iter().find(|id| self.is_up(*id) && self.peers.takes_writes(*id));
            let now = self.now.steady_micros;
            let waits = self
                .stood
                .get(&group)
                .is_some_and(|at| now.saturating_sub(*at) < STAND_PAUSE_MICROS);
            if first == self.me && first.is_some() && !waits {
                self.stood.insert(group, now);
                let replica = self.replicas.get_mut(&group).expect("it was listed");
                replica.group.campaign_if_free();
            }
        }
    }
}
