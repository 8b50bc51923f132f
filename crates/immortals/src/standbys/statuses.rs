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
    since: Since,
}

/// Since when a replica has been as it is, as seen from here, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Since when its program has been there or away, has caught up or not, is held or not.
    pub condition: u64,
    /// Since when its program has handled no further input, although there were more.
    pub input: u64,
}

/// What [`Since`] goes by.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    condition: (bool, bool, bool),
    done: u64,
    is_idle: bool,
}

impl Seen {
    fn of(status: &ReplicaStatus) -> Self {
        let condition = (status.attached, status.caught_up, status.is_good());
        Self { condition, done: status.done, is_idle: status.done >= status.inputs }
    }

    fn since(&self, before: Option<(&Self, Since)>, now: u64) -> Since {
        let Some((before, since)) = before else { return Since { condition: now, input: now } };
        let is_so = before.condition == self.condition;
        let stands = is_so && before.done == self.done && !before.is_idle;
        Since {
            condition: if is_so { since.condition } else { now },
            input: if stands { since.input } else { now },
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Standbys {
    known: BTreeMap<ReplicaId, Known>,
    /// What the others were told last, and when.
    told: Option<(ReplicaStatus, u64)>,
    /// When they are to be told again.
    tell_at: Option<u64>,
    /// How this replica was when it was last looked at, and since when.
    own: Option<(Seen, Since)>,
}

impl Standbys {
    pub(crate) fn learn(&mut self, from: ReplicaId, status: ReplicaStatus, now: u64) {
        let before = self.known.get(&from).map(|known| (Seen::of(&known.status), known.since));
        let before = before.as_ref().map(|(seen, since)| (seen, *since));
        let since = Seen::of(&status).since(before, now);
        self.known.insert(from, Known { status, at: now, since });
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

    /// Since when another replica has been as it is.
    pub(crate) fn since(&self, replica: ReplicaId) -> Option<Since> {
        self.known.get(&replica).map(|known| known.since)
    }

    /// Since when this one has been as it is.
    pub(crate) fn own_since(&self) -> Option<Since> {
        self.own.as_ref().map(|(_, since)| *since)
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

    /// Whether a program of another replica runs, and nothing speaks against it.
    pub(crate) fn has_good_program(&self, settings: &Settings, me: ReplicaId) -> bool {
        self.others_status(settings, me).any(|status| status.attached && status.is_good())
    }

    /// Whether such a program has handled that input.
    pub(crate) fn has_good_program_at(
        &self,
        settings: &Settings,
        me: ReplicaId,
        input: u64,
    ) -> bool {
        let is_past = |status: &ReplicaStatus| status.done >= input;
        let mut others = self.others_status(settings, me);
        others.any(|status| status.attached && status.is_good() && is_past(status))
    }

    fn others_status(
        &self,
        settings: &Settings,
        me: ReplicaId,
    ) -> impl Iterator<Item = &ReplicaStatus> {
        settings.others(me).filter_map(|id| self.status_of(id))
    }

    /// The failure that keeps a program of another replica from running, if there is one.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Held> {
        self.known.values().filter_map(|known| known.status.held.as_ref())
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
        let seen = Seen::of(&status);
        let since = seen.since(self.own.as_ref().map(|(seen, since)| (seen, *since)), now);
        self.own = Some((seen, since));
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
    if matters(status) != matters(told) || status.held != told.held || status.let_go != told.let_go
    {
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
    fn a_program_stands_at_an_input_from_when_it_was_given_it() {
        let mut standbys = Standbys::default();
        let (other, at) = (ReplicaId(2), |standbys: &Standbys| standbys.since(ReplicaId(2)));
        let status = |done, inputs| ReplicaStatus {
            attached: true,
            done,
            inputs,
            ..ReplicaStatus::default()
        };
        standbys.learn(other, status(3, 3), 10);
        standbys.learn(other, status(3, 3), 20);
        standbys.learn(other, status(3, 5), 30);
        assert_eq!(at(&standbys), Some(Since { condition: 10, input: 30 }));
        standbys.learn(other, status(3, 6), 40);
        assert_eq!(at(&standbys), Some(Since { condition: 10, input: 30 }));
        standbys.learn(other, status(4, 6), 50);
        assert_eq!(at(&standbys), Some(Since { condition: 10, input: 50 }));
        standbys.learn(other, ReplicaStatus::default(), 60);
        assert_eq!(at(&standbys), Some(Since { condition: 60, input: 60 }));
        assert_eq!(standbys.own_since(), None);
        told_at(&mut standbys, &status(1, 2), 70);
        told_at(&mut standbys, &status(1, 2), 80);
        assert_eq!(standbys.own_since(), Some(Since { condition: 70, input: 70 }));
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
