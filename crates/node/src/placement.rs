//! What owners do when nothing presses: they bring new replicas in, let retired ones go, and give
//! groups back to the replica that should own them, slowly and one at a time. This file also has
//! what every replica does when a group has no owner: it asks to own the group, if it is the first
//! in line.

use std::collections::BTreeMap;

use cluster::Links;
use protocol::{GroupId, Now, ReplicaId};
use replication::MembershipChange;

use crate::control::Control;
use crate::hosted::{AnyReplica, name_of};
use crate::io::{Level, Timing};
use crate::shard::{Conditions, Shard};
use crate::since::Since;
use crate::work::Effects;

/// A node must have been up and well reached for this long before it is given groups back, in
/// microseconds.
const SETTLED_MICROS: u64 = 2_000_000;

/// The least time between two hand-overs by one node, in microseconds.
const MOVE_PAUSE_MICROS: u64 = 250_000;

/// How long a node waits before it asks again whether it may campaign, in microseconds. Only the
/// question is repeated, which writes nothing, so votes on their way to a slow disk are not broken
/// off.
const CAMPAIGN_PAUSE_MICROS: u64 = 100_000;

/// How long a replica of an instance waits, when it has no program, for a replica with a program to
/// become the owner, in microseconds.
const RELUCTANT_MICROS: u64 = 2_000_000;

/// A learner this close to the end of the log is made a voter, in entries.
const CAUGHT_UP_ENTRIES: u64 = 64;

#[derive(Default)]
pub(crate) struct Placement {
    /// When this node last campaigned for each group without an owner, in steady microseconds.
    campaigned: BTreeMap<GroupId, u64>,
    /// Since when each group has been without an owner.
    free_since: BTreeMap<GroupId, u64>,
    moved_last: u64,
    /// Since when this node is not well.
    pub(crate) since: Since,
}

/// What placement looks at.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) control: &'a Control,
    pub(crate) links: &'a Links,
    pub(crate) now: Now,
    pub(crate) timing: Timing,
    /// It is stopping, or is being removed.
    pub(crate) is_going: bool,
}

/// Whether that replica is a voter and has nearly all of the log, as this owner sees it.
pub(crate) fn is_close(here: &dyn AnyReplica, replica: ReplicaId) -> bool {
    let consensus = here.consensus();
    let last = consensus.last();
    consensus.progress().iter().any(|(id, progress)| {
        *id == replica
            && !progress.learner
            && !progress.snapshotting
            && progress.active
            && progress.matched.0 + CAUGHT_UP_ENTRIES >= last.0
    })
}

impl Surroundings<'_> {
    fn is_up(&self, replica: ReplicaId) -> bool {
        self.control.is_up(replica, self.links, self.now)
    }

    /// Whether that replica should own something, as far as its disk, its clock and its states are
    /// concerned.
    fn is_well(&self, replica: ReplicaId, shard: &Shard) -> bool {
        if self.control.map.topology.is_drained(replica) {
            false
        } else if replica == self.control.me {
            let is_slow = shard.log.pace.slow_millis().is_some();
            let is_filled = shard.astray().next().is_some();
            let is_able = !self.control.clock.is_off() && !self.control.services.lacks_any();
            shard.log.full().is_none() && !is_slow && !is_filled && is_able
        } else {
            self.links.is_well(replica)
        }
    }

    /// Sets how long this replica waits before it campaigns: each replica of a group waits for
    /// another time, by its place in line behind the owner.
    pub(crate) fn set_rank(&self, group: GroupId, shard: &mut Shard) {
        let mut order = self.control.order_of(group, shard);
        let me = self.control.me;
        let owner = shard.get(group).and_then(|replica| replica.consensus().owner());
        order.retain(|id| *id == me || Some(*id) != owner);
        let rank = order.iter().position(|id| *id == me).unwrap_or(order.len());
        let ticks = self.timing.election_ticks + rank * self.timing.stagger_ticks;
        if let Some(replica) = shard.get_mut(group) {
            replica.consensus_mut().set_election_ticks(ticks);
        }
    }

    pub(crate) fn set_ranks(&self, shard: &mut Shard) {
        for group in shard.groups().collect::<Vec<_>>() {
            self.set_rank(group, shard);
        }
    }

    /// Makes the members of each served group those that the directory has.
    pub(crate) fn change_members(&self, shard: &mut Shard, effects: &mut Effects) {
        if !self.control.map.topology.is_formed() {
            return;
        }
        for group in shard.awake() {
            let Some(here) = shard.get(group).filter(|here| here.serving().is_some()) else {
                continue;
            };
            let Some(change) = self.change_needed(group, here) else { continue };
            let here = shard.get_mut(group).expect("it was just there");
            let (level, text) = match here.consensus_mut().change(&change) {
                Ok(_) => (
                    Level::Info,
                    format!("members of {} change: {}", name_of(group), words(&change)),
                ),
                Err(why) => (Level::Debug, format!("members of {} stay: {why}", name_of(group))),
            };
            effects.note(level, text);
        }
        shard.doze(|group, here| here.serving().is_none() || self.has_its_members(group, here));
    }

    fn has_its_members(&self, group: GroupId, here: &dyn AnyReplica) -> bool {
        let members = here.consensus().members();
        let rest = [&members.outgoing, &members.learners, &members.learners_next];
        let wanted = self.control.replicas_of(group);
        rest.iter().all(|list| list.is_empty())
            && members.voters.len() == wanted.len()
            && wanted.iter().all(|id| members.voters.contains(id))
    }

    fn change_needed(&self, group: GroupId, here: &dyn AnyReplica) -> Option<MembershipChange> {
        let consensus = here.consensus();
        let members = consensus.members();
        if !members.outgoing.is_empty() || !members.learners_next.is_empty() {
            return None;
        }
        if self.has_its_members(group, here) {
            return None;
        }
        let wanted = self.control.replicas_of(group);
        let is_member =
            |id: &ReplicaId| members.voters.contains(id) || members.learners.contains(id);
        let add_learners: Vec<ReplicaId> =
            wanted.iter().copied().filter(|id| !is_member(id) && self.is_up(*id)).collect();
        if !add_learners.is_empty() {
            return Some(MembershipChange { add_learners, ..MembershipChange::default() });
        }
        let last = consensus.last();
        let progress = consensus.progress();
        let caught_up = |id: &ReplicaId| {
            progress.iter().any(|(other, progress)| {
                other == id
                    && progress.learner
                    && progress.active
                    // It has the state: where the log is short, nothing is not far behind either.
                    && progress.matched.0 > 0
                    && progress.matched.0 + CAUGHT_UP_ENTRIES >= last.0
            })
        };
        let promote: Vec<ReplicaId> = wanted.iter().copied().filter(caught_up).collect();
        let all = members.voters.iter().chain(&members.learners).copied();
        let topology = &self.control.map.topology;
        let is_gone = |id: &ReplicaId| {
            topology.is_retired(*id) || (group.is_instance() && !wanted.contains(id))
        };
        let mut remove: Vec<ReplicaId> = all.filter(is_gone).collect();
        // A retired voter goes when its successor comes in, so that there are never fewer voters.
        let is_missing = |id: &ReplicaId| !members.voters.contains(id) && !promote.contains(id);
        if wanted.iter().any(is_missing) {
            remove.truncate(promote.len());
        }
        remove.extend(self.that_can_leave(here, &promote, &remove));
        // An owner does not remove itself, and can hand over only to a voter that stays. If there
        // is no such voter, other replicas are let in first.
        let me = self.control.me;
        if members.voters.iter().all(|id| *id == me || remove.contains(id)) {
            remove.retain(|id| *id != me);
        }
        let change = MembershipChange { promote, remove, ..MembershipChange::default() };
        (change != MembershipChange::default()).then_some(change)
    }

    /// The members of a group that are being removed, if the group can do without them: those that
    /// stay are up and have nearly all of the log, as far as a majority of them needs it.
    fn that_can_leave(
        &self,
        here: &dyn AnyReplica,
        promote: &[ReplicaId],
        remove: &[ReplicaId],
    ) -> Vec<ReplicaId> {
        let topology = &self.control.map.topology;
        let members = here.consensus().members();
        let is_leaving = |id: &ReplicaId| topology.is_leaving(*id);
        let voters = members.voters.iter().chain(promote).copied();
        let stay: Vec<ReplicaId> =
            voters.filter(|id| !is_leaving(id) && !remove.contains(id)).collect();
        let could = |id: &&ReplicaId| {
            **id == self.control.me
                || promote.contains(id)
                || (self.is_up(**id) && self.links.takes_writes(**id) && is_close(here, **id))
        };
        if stay.iter().filter(could).count() <= stay.len() / 2 {
            return Vec::new();
        }
        let all = members.voters.iter().chain(&members.learners).copied();
        // An instance may be letting one of them go already, which is named once.
        all.filter(|id| is_leaving(id) && !remove.contains(id)).collect()
    }

    /// Says in each group of documents whose copy counts for the quorum no more.
    pub(crate) fn set_leaving(&self, shard: &mut Shard) {
        let leaving: Vec<ReplicaId> = self.control.map.topology.leaving().collect();
        for group in shard.document_groups().collect::<Vec<_>>() {
            if let Some(replica) = shard.get_mut(group) {
                replica.consensus_mut().set_leaving(leaving.clone());
            }
        }
    }

    fn can_take(&self, group: GroupId, replica: ReplicaId, shard: &Shard) -> bool {
        let now = self.now.steady_micros;
        let since = self.links.steady_since(replica, now);
        let is_settled = since.is_some_and(|since| now.saturating_sub(since) > SETTLED_MICROS);
        is_settled
            && self.links.is_well(replica)
            && shard.get(group).is_some_and(|here| is_close(here, replica))
    }

    /// The first in line that could take the group now; `None` when that is this node itself.
    fn rightful_owner(&self, group: GroupId, shard: &Shard) -> Option<ReplicaId> {
        let me = self.control.me;
        let order = self.control.order_of(group, shard);
        let heir = order.into_iter().find(|id| *id == me || self.can_take(group, *id, shard))?;
        (heir != me).then_some(heir)
    }

    /// The replica that gets an owned group when this node cannot own it any more, if there is one.
    pub(crate) fn heir(&self, group: GroupId, shard: &Shard) -> Option<ReplicaId> {
        let here = shard.get(group)?;
        let order = self.control.order_of(group, shard);
        let could =
            |id: &ReplicaId| *id != self.control.me && self.is_up(*id) && is_close(here, *id);
        let well = |id: &&ReplicaId| could(id) && self.is_well(**id, shard);
        order.iter().find(well).copied().or_else(|| order.iter().copied().find(could))
    }
}

fn words(change: &MembershipChange) -> String {
    let list = |what: &str, ids: &[ReplicaId]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        (!ids.is_empty()).then(|| format!("{what} {}", ids.join(", ")))
    };
    let parts = [
        list("in as learners", &change.add_learners),
        list("made voters", &change.promote),
        list("removed", &change.remove),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

impl Placement {
    /// Since when the group is known here to have no owner, in steady microseconds.
    pub(crate) fn free_since(&self, group: GroupId) -> Option<u64> {
        self.free_since.get(&group).copied()
    }

    /// The next group that should go to another owner, and to whom.
    pub(crate) fn next_move(
        &mut self,
        surroundings: &Surroundings<'_>,
        shard: &Shard,
    ) -> Option<(GroupId, ReplicaId)> {
        let now = surroundings.now.steady_micros;
        if now.saturating_sub(self.moved_last) < MOVE_PAUSE_MICROS {
            return None;
        }
        let served = shard.document_groups().filter(|group| shard.is_serving(*group));
        let next = served
            .filter_map(|group| Some((group, surroundings.rightful_owner(group, shard)?)))
            .next()?;
        self.moved_last = now;
        Some(next)
    }

    /// A group without an owner gets one at once if this node is the first in line that is up and a
    /// majority is there. (A node that is cut off from an owner that lives loses the vote, so
    /// asking does no harm.)
    pub(crate) fn campaign(&mut self, surroundings: &Surroundings<'_>, shard: &mut Shard) {
        let is_free = |group: &GroupId| {
            shard.get(*group).is_some_and(|replica| replica.consensus().owner().is_none())
        };
        self.campaigned.retain(|group, _| is_free(group));
        self.free_since.retain(|group, _| is_free(group));
        let free: Vec<GroupId> = shard.awake().into_iter().filter(is_free).collect();
        let now = surroundings.now.steady_micros;
        for group in free {
            let order = surroundings.control.order_of(group, shard);
            let up = order.iter().filter(|id| surroundings.is_up(**id)).count();
            if up <= order.len() / 2 {
                continue;
            }
            let mut those_up = order.into_iter().filter(|id| surroundings.is_up(*id));
            let well = those_up.clone().find(|id| surroundings.is_well(*id, shard));
            // Where all disks are slow, some node must own the group all the same.
            let first = well.or_else(|| those_up.next());
            let since = *self.free_since.entry(group).or_insert(now);
            let is_reluctant =
                shard.instance(group).is_some_and(|it| it.has_begun() && !it.is_served());
            if is_reluctant && now.saturating_sub(since) < RELUCTANT_MICROS {
                continue;
            }
            let last = self.campaigned.get(&group);
            // The answers to the last asking must have had the time to come.
            let pause = CAMPAIGN_PAUSE_MICROS + surroundings.links.patience().round_trip_micros;
            let waits = last.is_some_and(|at| now.saturating_sub(*at) < pause);
            if first == Some(surroundings.control.me) && !waits {
                self.campaigned.insert(group, now);
                if let Some(replica) = shard.get_mut(group) {
                    replica.consensus_mut().campaign_if_free();
                }
            }
        }
    }
}

/// Hands over everything that this node owns, as far as another replica can take it. True when
/// nothing that could go is left.
///
/// # Errors
/// When the store fails.
pub(crate) fn hand_over_all(
    surroundings: &Surroundings<'_>,
    shard: &mut Shard,
    conditions: &Conditions<'_>,
    effects: &mut Effects,
) -> Result<bool, storage::StoreError> {
    let is_owned =
        |group: &GroupId| shard.get(*group).is_some_and(|replica| replica.consensus().is_owner());
    let owned: Vec<GroupId> = shard.groups().filter(is_owned).collect();
    let mut is_left = false;
    for group in owned {
        // Who is about to end goes by any heir; who only has a bad disk, by one that has a better
        // one, and with a program: without it, it would give the instance back at once.
        let is_ready = |id: &ReplicaId| {
            !group.is_instance() || shard.instance(group).is_some_and(|it| it.is_ready(*id))
        };
        let is_better = |id: &ReplicaId| surroundings.is_well(*id, shard) && is_ready(id);
        let may_take = |id: &ReplicaId| surroundings.is_going || is_better(id);
        let heir = surroundings.heir(group, shard).filter(may_take);
        is_left |= heir.is_some();
        let is_going = shard.get(group).is_some_and(AnyReplica::is_handing_over);
        if let Some(heir) = heir
            && !is_going
        {
            shard.hand_over(group, heir, conditions, effects)?;
        }
    }
    Ok(!is_left)
}
