//! How the other replicas are, and what they were told of this one.

use std::collections::BTreeMap;

use protocol::ReplicaId;

use crate::io::{Output, Settings};
use crate::wire::{Held, Peer, ReplicaStatus};

/// A status that is older than this is ignored, in microseconds.
const STATUS_MICROS_MAX: u64 = 1_500_000;

/// A replica tells the others of its progress at most this often, in microseconds.
const STATUS_MICROS: u64 = 200_000;

/// A replica with a program tells the others this often that nothing has changed, in microseconds.
const REST_MICROS: u64 = 500_000;

/// A status, and when it came.
#[derive(Clone, Debug)]
struct Known {
    status: ReplicaStatus,
    at: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Standbys {
    known: BTreeMap<ReplicaId, Known>,
    /// What the others were told last, and when.
    told: Option<(ReplicaStatus, u64)>,
    /// When they are to be told again.
    tell_at: Option<u64>,
}

impl Standbys {
    pub(crate) fn learn(&mut self, from: ReplicaId, status: ReplicaStatus, now: u64) {
        self.known.insert(from, Known { status, at: now });
    }

    pub(crate) fn lost(&mut self, replica: ReplicaId) {
        self.known.remove(&replica);
    }

    /// Forgets what is too old. A replica at rest says nothing, so its status stays.
    pub(crate) fn forget_old(&mut self, now: u64) {
        self.known.retain(|_, known| known.expires_at().is_none_or(|at| now < at));
    }

    pub(crate) fn status_of(&self, replica: ReplicaId) -> Option<&ReplicaStatus> {
        self.known.get(&replica).map(|known| &known.status)
    }

    pub(crate) fn statuses(&self) -> impl Iterator<Item = (ReplicaId, &ReplicaStatus)> {
        self.known.iter().map(|(id, known)| (*id, &known.status))
    }

    /// Whether the program of that replica could become the primary now.
    pub(crate) fn is_ready(&self, replica: ReplicaId) -> bool {
        self.status_of(replica).is_some_and(ReplicaStatus::is_ready)
    }

    /// The replicas whose programs could become the primary now, the one that has come furthest
    /// first.
    pub(crate) fn ready(&self, settings: &Settings, me: ReplicaId) -> Vec<ReplicaId> {
        let mut ready: Vec<ReplicaId> =
            settings.others(me).filter(|id| self.is_ready(*id)).collect();
        let done = |id: &ReplicaId| self.status_of(*id).map_or(0, |status| status.done);
        ready.sort_by_key(|id| std::cmp::Reverse(done(id)));
        ready
    }

    /// The failure that keeps a program of another replica from running, if there is one.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Held> {
        self.known.values().filter_map(|known| known.status.trouble.held.as_ref())
    }

    /// The last input that a program of another replica is known to have handled.
    pub(crate) fn done_max(&self) -> u64 {
        let done = self.known.values().map(|known| known.status.done.max(known.status.base_input));
        done.max().unwrap_or(0)
    }

    /// Tells the others how this replica is, when it is time.
    pub(crate) fn tell(
        &mut self,
        status: ReplicaStatus,
        now: u64,
        others: impl Iterator<Item = ReplicaId>,
        outputs: &mut Vec<Output>,
    ) {
        let due = due_at(self.told.as_ref(), &status);
        if due.is_none_or(|due| now < due) {
            self.tell_at = due;
            return;
        }
        for to in others {
            outputs.push(Output::Peer { to, message: Peer::Status(status.clone()) });
        }
        let told = self.told.insert((status, now));
        self.tell_at = due_at(Some(&*told), &told.0);
    }

    /// When there is something to do that only time brings.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let expires = self.known.values().filter_map(Known::expires_at).min();
        [expires, self.tell_at].into_iter().flatten().min()
    }
}

impl Known {
    fn expires_at(&self) -> Option<u64> {
        (!self.status.is_at_rest()).then(|| self.at.saturating_add(STATUS_MICROS_MAX))
    }
}

/// When a status is to be told. Never, when the status is at rest and was told already.
fn due_at(told: Option<&(ReplicaStatus, u64)>, status: &ReplicaStatus) -> Option<u64> {
    let Some((told, at)) = told else { return Some(0) };
    let matters = |status: &ReplicaStatus| (status.attached, status.caught_up, status.is_good());
    if matters(status) != matters(told) || status.trouble.held != told.trouble.held {
        return Some(0);
    }
    if status != told {
        return Some(at.saturating_add(STATUS_MICROS));
    }
    (!status.is_at_rest()).then(|| at.saturating_add(REST_MICROS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_at(standbys: &mut Standbys, status: &ReplicaStatus, now: u64) -> bool {
        let mut outputs = Vec::new();
        standbys.tell(status.clone(), now, [ReplicaId(2)].into_iter(), &mut outputs);
        !outputs.is_empty()
    }

    #[test]
    fn a_replica_at_rest_is_told_of_once_and_one_with_a_program_again_and_again() {
        let mut standbys = Standbys::default();
        let rest = ReplicaStatus::default();
        assert!(told_at(&mut standbys, &rest, 10));
        assert!(!told_at(&mut standbys, &rest, 10_000_000));
        assert_eq!(standbys.next_wake(), None);
        let program = ReplicaStatus { attached: true, ..rest };
        assert!(told_at(&mut standbys, &program, 10_000_000));
        assert_eq!(standbys.next_wake(), Some(10_000_000 + REST_MICROS));
        assert!(!told_at(&mut standbys, &program, 10_000_000 + REST_MICROS - 1));
        let further = ReplicaStatus { done: 1, ..program };
        assert!(told_at(&mut standbys, &further, 10_000_000 + STATUS_MICROS));
        assert!(told_at(&mut standbys, &further, 10_000_000 + STATUS_MICROS + REST_MICROS));
    }

    #[test]
    fn a_status_counts_for_a_while_and_that_of_a_replica_at_rest_for_longer() {
        let mut standbys = Standbys::default();
        standbys.learn(ReplicaId(2), ReplicaStatus::default(), 0);
        let program = ReplicaStatus { attached: true, ..ReplicaStatus::default() };
        standbys.learn(ReplicaId(3), program, 0);
        assert_eq!(standbys.next_wake(), Some(STATUS_MICROS_MAX));
        standbys.forget_old(STATUS_MICROS_MAX);
        let known: Vec<ReplicaId> = standbys.statuses().map(|(id, _)| id).collect();
        assert_eq!(known, [ReplicaId(2)]);
    }
}
