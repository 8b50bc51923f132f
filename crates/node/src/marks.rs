//! Which replicas of a shard have something to do, when they want to be told that time goes on, and
//! who speaks to whom. A node may have ten thousand replicas of which nearly all are idle, so each
//! of these questions is answered without a look at those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::GroupId;

use crate::hosted::AnyReplica;
use crate::refusals::Refusals;

/// Which replicas have something to do.
#[derive(Default)]
pub(crate) struct Marks {
    /// Groups to which something was done since they were last settled, or which are gone since
    /// then.
    pub(crate) touched: BTreeSet<GroupId>,
    /// Groups that have something waiting for the disk.
    pub(crate) waiting: BTreeSet<GroupId>,
    /// Groups with a new commit position that was not worth a sync.
    pub(crate) lazy: BTreeSet<GroupId>,
    /// Groups whose clock goes on. All others are at rest, and have the members that they should
    /// have. Whoever is settled is awake again.
    pub(crate) awake: BTreeSet<GroupId>,
    pub(crate) wakes: Wakes,
    /// What is kept of refused writes, as of when each group was settled last.
    pub(crate) refusals: Refusals,
}

impl Marks {
    /// Its machine or its leader did something by itself: it may have proposed something, or keep
    /// something for a time.
    pub(crate) fn stir(&mut self, group: GroupId, replica: &dyn AnyReplica) {
        if !replica.consensus().is_at_rest() {
            self.touched.insert(group);
        }
        if !replica.is_asleep() {
            self.awake.insert(group);
        }
    }
}

/// When instances want to be told that time goes on.
#[derive(Default)]
pub(crate) struct Wakes {
    by_time: BTreeSet<(u64, GroupId)>,
    of_group: BTreeMap<GroupId, u64>,
}

impl Wakes {
    pub(crate) fn set(&mut self, group: GroupId, at: Option<u64>) {
        let before = match at {
            Some(at) => self.of_group.insert(group, at),
            None => self.of_group.remove(&group),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, group));
        }
        if let Some(at) = at {
            self.by_time.insert((at, group));
        }
    }

    pub(crate) fn due(&self, now: u64) -> Vec<GroupId> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, group)| *group).collect()
    }
}

/// Which of the instances that are owned here have sent something to which name, so that only
/// those are told when the instance with that name has another owner.
#[derive(Default)]
pub(crate) struct Speakers {
    by_destination: BTreeMap<Arc<str>, BTreeSet<GroupId>>,
    known: BTreeMap<GroupId, Speaker>,
}

struct Speaker {
    /// Which leader was asked for its destinations, and how many it had begun to send to by then.
    leader: (u64, u64),
    destinations: BTreeSet<Arc<str>>,
}

impl Speakers {
    /// The instances that send to the one with that name. Some may have ceased to.
    pub(crate) fn to<'a>(&'a self, name: &str) -> impl Iterator<Item = GroupId> + use<'a> {
        self.by_destination.get(name).into_iter().flatten().copied()
    }

    /// The leader with the number `opening` has begun to send to `begun` destinations so far;
    /// without one this node does not own the group.
    pub(crate) fn note<'a, I: Iterator<Item = &'a str>>(
        &mut self,
        group: GroupId,
        leader: Option<(u64, u64)>,
        destinations: impl FnOnce() -> I,
    ) {
        let leader = leader.filter(|(_, begun)| *begun > 0);
        let before = self.known.get(&group).map(|known| known.leader);
        if before == leader {
            return;
        }
        if before.map(|(opening, _)| opening) != leader.map(|(opening, _)| opening) {
            self.forget(group);
        }
        let Some(leader) = leader else { return };
        let new = || Speaker { leader, destinations: BTreeSet::new() };
        let speaker = self.known.entry(group).or_insert_with(new);
        speaker.leader = leader;
        for name in destinations() {
            if !speaker.destinations.contains(name) {
                let name: Arc<str> = name.into();
                self.by_destination.entry(Arc::clone(&name)).or_default().insert(group);
                speaker.destinations.insert(name);
            }
        }
    }

    fn forget(&mut self, group: GroupId) {
        let Some(speaker) = self.known.remove(&group) else { return };
        for name in speaker.destinations {
            if let Some(speakers) = self.by_destination.get_mut(&name) {
                speakers.remove(&group);
                if speakers.is_empty() {
                    self.by_destination.remove(&name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(GroupId::INSTANCES.0 + 1);
    const B: GroupId = GroupId(GroupId::INSTANCES.0 + 2);

    fn to(speakers: &Speakers, name: &str) -> Vec<GroupId> {
        speakers.to(name).collect()
    }

    #[test]
    fn those_who_speak_to_a_name_are_found_while_they_are_owned_here() {
        let mut speakers = Speakers::default();
        speakers.note(A, Some((1, 0)), || [].into_iter());
        assert!(to(&speakers, "x").is_empty());
        speakers.note(A, Some((1, 2)), || ["x", "y"].into_iter());
        speakers.note(B, Some((2, 1)), || ["x"].into_iter());
        assert_eq!(to(&speakers, "x"), [A, B]);
        assert_eq!(to(&speakers, "y"), [A]);
        // Nothing new: nobody is asked.
        speakers.note(A, Some((1, 2)), || -> std::array::IntoIter<&str, 0> { unreachable!() });
        // Another leader begins with nothing.
        speakers.note(A, Some((3, 1)), || ["y"].into_iter());
        assert_eq!(to(&speakers, "x"), [B]);
        assert_eq!(to(&speakers, "y"), [A]);
        speakers.note(A, None, || [].into_iter());
        assert!(to(&speakers, "y").is_empty());
    }

    #[test]
    fn only_the_last_time_counts() {
        let mut wakes = Wakes::default();
        wakes.set(A, Some(10));
        wakes.set(B, Some(20));
        wakes.set(A, Some(30));
        assert_eq!(wakes.due(25), [B]);
        wakes.set(B, None);
        assert_eq!(wakes.due(30), [A]);
        assert!(wakes.due(9).is_empty());
    }
}
