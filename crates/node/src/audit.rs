//! Whether the replicas of a group have the same state: compared in idle moments.
//!
//! When a group has been quiet for a while, its owner reads its own state through, a piece at a
//! time on another thread, and asks the others to do the same. A replica that stands at another
//! position says so and is not compared. Whoever differs from a majority puts its state aside: it
//! does not serve the group any more, and asks the owner for the state, which comes as a snapshot
//! and takes the place of what was there. The log and the votes of the replica stay, so nothing
//! that it promised is lost by it, and replicas of any number of groups may be filled at a time.
//! See `docs/design/0016-states-are-compared.md`.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{GroupId, Position, ReplicaId};
use storage::{Digest, StoreError};

use crate::control::Control;
use crate::frame::{Audit, Frame};
use crate::hosted::name_of;
use crate::io::{Level, Output, Timing};
use crate::jobs::{DigestJob, Job};
use crate::shard::{Conditions, Shard};
use crate::work::Effects;

/// How long the others may take to read their states, in microseconds.
const ROUND_MICROS_MAX: u64 = 600_000_000;

/// What an audit works with, lent for one step.
pub(crate) struct Around<'a, 'b> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) control: &'a Control,
    pub(crate) conditions: &'a Conditions<'b>,
    pub(crate) effects: &'a mut Effects,
}

/// What this node knows of its audits.
#[derive(Default)]
pub(crate) struct Audits {
    /// Of the groups served here.
    quiet: BTreeMap<GroupId, Quiet>,
    /// One group at a time.
    round: Option<Round>,
    rounds: u64,
    /// For whom a state is being read here, and the number of its round; one for each.
    reading: BTreeMap<ReplicaId, u64>,
}

/// Where a group has stood, since when, and when it was compared there.
#[derive(Clone, Copy)]
struct Quiet {
    position: Position,
    since: u64,
    compared: Option<u64>,
}

struct Round {
    number: u64,
    group: GroupId,
    position: Position,
    until: u64,
    /// How many digests are a majority.
    majority: usize,
    waits_for: BTreeSet<ReplicaId>,
    found: BTreeMap<ReplicaId, u64>,
}

/// What the digests of a group's replicas say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    /// These differ from a majority.
    Differ(Vec<ReplicaId>),
    /// There is no majority.
    Unclear,
}

fn judge(found: &BTreeMap<ReplicaId, u64>, majority: usize) -> Verdict {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for digest in found.values() {
        *counts.entry(*digest).or_default() += 1;
    }
    if counts.len() <= 1 {
        return Verdict::Equal;
    }
    match counts.into_iter().find(|(_, count)| *count >= majority) {
        Some((right, _)) => {
            let wrong = found.iter().filter(|(_, digest)| **digest != right);
            Verdict::Differ(wrong.map(|(replica, _)| *replica).collect())
        }
        None => Verdict::Unclear,
    }
}

impl Audits {
    /// Time goes on.
    pub(crate) fn tick(
        &mut self,
        around: &mut Around<'_, '_>,
        timing: &Timing,
    ) -> Result<(), StoreError> {
        let now = around.conditions.now.steady_micros;
        fill_anew(around)?;
        if let Some(round) = self.round.take_if(|round| now > round.until) {
            conclude(&round, around)?;
        }
        self.ask_again(around);
        self.watch(around.shard, now);
        let quiet_micros = timing.audit_ticks * timing.tick_micros;
        let again_micros = timing.audit_again_ticks * timing.tick_micros;
        let is_due = |(_, quiet): &(&GroupId, &Quiet)| {
            let waited = quiet.compared.is_none_or(|at| now.saturating_sub(at) > again_micros);
            waited && now.saturating_sub(quiet.since) >= quiet_micros
        };
        let due = self.quiet.iter().find(is_due).map(|(group, quiet)| (*group, quiet.position));
        if let (Some((group, position)), None) = (due, &self.round) {
            self.begin(group, position, around);
        }
        Ok(())
    }

    /// Links break, and what was on its way is lost.
    fn ask_again(&self, around: &mut Around<'_, '_>) {
        let Some(Round { number, group, position, waits_for, .. }) = &self.round else { return };
        let me = around.conditions.me;
        for other in waits_for.iter().filter(|id| **id != me) {
            let ask = Audit::Ask { round: *number, group: *group, position: *position };
            around.effects.outbox.send(*other, Frame::Audit(ask));
        }
    }

    /// Notes where the groups stand that are served here.
    fn watch(&mut self, shard: &Shard, now: u64) {
        let is_compared = |group: &GroupId| shard.is_serving(*group) && !shard.is_astray(*group);
        self.quiet.retain(|group, _| is_compared(group));
        for group in shard.document_groups().filter(is_compared) {
            let consensus = shard.get(group).expect("it was listed").consensus();
            let position = consensus.applied_position();
            let fresh = Quiet { position, since: now, compared: None };
            let quiet = self.quiet.entry(group).or_insert(fresh);
            if quiet.position != position || consensus.last() != position {
                *quiet = fresh;
            }
        }
    }

    fn begin(&mut self, group: GroupId, position: Position, around: &mut Around<'_, '_>) {
        let Around { shard, conditions, effects, .. } = around;
        let now = conditions.now.steady_micros;
        if let Some(quiet) = self.quiet.get_mut(&group) {
            quiet.compared = Some(now);
        }
        let Some(replica) = shard.get(group) else { return };
        let members = replica.consensus().members();
        if members.voters.len() < 2 || self.reading.contains_key(&conditions.me) {
            return;
        }
        self.rounds += 1;
        let round = Round {
            number: self.rounds,
            group,
            position,
            until: now + ROUND_MICROS_MAX,
            majority: members.voters.len() / 2 + 1,
            waits_for: members.voters.iter().copied().collect(),
            found: BTreeMap::new(),
        };
        for other in members.voters.iter().filter(|id| **id != conditions.me) {
            let ask = Audit::Ask { round: round.number, group, position };
            effects.outbox.send(*other, Frame::Audit(ask));
        }
        self.round = Some(round);
        self.read(conditions.me, self.rounds, group, shard, effects);
    }

    /// Begins to read a state, for whoever asks.
    fn read(
        &mut self,
        asker: ReplicaId,
        round: u64,
        group: GroupId,
        shard: &Shard,
        effects: &mut Effects,
    ) {
        let Some(replica) = shard.get(group) else { return };
        self.reading.insert(asker, round);
        let (digest, store) = (Digest::of(replica.space()), shard.store.view());
        effects.job(Job::digest(Box::new(DigestJob { asker, round, digest, store })));
    }

    /// A state has been read on.
    pub(crate) fn read_on(
        &mut self,
        job: Box<DigestJob>,
        sum: Option<u64>,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let Some(sum) = sum else {
            around.effects.job(Job::digest(job));
            return Ok(());
        };
        self.reading.remove(&job.asker);
        if job.asker == around.conditions.me {
            return self.came(job.asker, job.round, Some(sum), around);
        }
        let answer = Audit::Answer { round: job.round, digest: Some(sum) };
        around.effects.outbox.send(job.asker, Frame::Audit(answer));
        Ok(())
    }

    /// Another node says something about an audit.
    pub(crate) fn heard(
        &mut self,
        from: ReplicaId,
        audit: Audit,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let Around { shard, effects, .. } = around;
        match audit {
            Audit::Ask { round, group, position } => {
                let stands_there = shard
                    .get(group)
                    .is_some_and(|it| it.consensus().applied_position() == position);
                let reading = self.reading.get(&from).copied();
                if reading == Some(round) {
                    // It is asked again and again, as questions and answers get lost.
                } else if stands_there && !shard.is_astray(group) && reading.is_none() {
                    self.read(from, round, group, shard, effects);
                } else {
                    let answer = Audit::Answer { round, digest: None };
                    effects.outbox.send(from, Frame::Audit(answer));
                }
                Ok(())
            }
            Audit::Answer { round, digest } => self.came(from, round, digest, around),
            Audit::Differs { group, position } => {
                put_aside(group, position, shard, effects);
                Ok(())
            }
            Audit::Refill { group } => {
                if let Some(replica) = shard.get_mut(group).filter(|_| group_is_audited(group)) {
                    replica.consensus_mut().expect_refill(from);
                }
                Ok(())
            }
        }
    }

    /// A digest has come, or the news that there is none.
    fn came(
        &mut self,
        from: ReplicaId,
        number: u64,
        digest: Option<u64>,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let Some(round) = self.round.as_mut().filter(|round| round.number == number) else {
            return Ok(());
        };
        if round.waits_for.remove(&from)
            && let Some(digest) = digest
        {
            round.found.insert(from, digest);
        }
        match self.round.take_if(|round| round.waits_for.is_empty()) {
            Some(round) => conclude(&round, around),
            None => Ok(()),
        }
    }
}

/// Says what the digests say, and has wrong states put aside.
fn conclude(round: &Round, around: &mut Around<'_, '_>) -> Result<(), StoreError> {
    let Around { shard, control, conditions, effects } = around;
    let Round { group, position, .. } = *round;
    match judge(&round.found, round.majority) {
        Verdict::Equal => {
            let (name, count) = (name_of(group), round.found.len());
            let text = format!("{name}: the states of {count} replicas are equal");
            effects.note(Level::Debug, text);
        }
        Verdict::Unclear => effects.note(
            Level::Error,
            format!(
                "{}: the states of its replicas differ at position {position}, and no majority \
                 says which is right: {}",
                name_of(group),
                shown(&round.found, control)
            ),
        ),
        Verdict::Differ(wrong) => {
            let text = format!(
                "{}: the state of {} differs from that of a majority at position {position}",
                name_of(group),
                names(wrong.iter(), control)
            );
            effects.note(Level::Error, text);
            for replica in wrong {
                if replica == conditions.me {
                    put_aside(group, position, shard, effects);
                } else {
                    let differs = Audit::Differs { group, position };
                    effects.outbox.send(replica, Frame::Audit(differs));
                }
            }
            fill_anew(around)?;
        }
    }
    Ok(())
}

/// Instances compare what their programs send: what they have in the store depends on where a
/// checkpoint stands.
fn group_is_audited(group: GroupId) -> bool {
    !group.is_instance()
}

/// The state here is not what follows from the log.
fn put_aside(group: GroupId, position: Position, shard: &mut Shard, effects: &mut Effects) {
    if group_is_audited(group) && shard.put_aside(group) {
        let text = format!(
            "{}: the state here differs from that of a majority of the replicas at position \
             {position}; it is put aside and filled anew",
            name_of(group)
        );
        effects.note(Level::Error, text);
    }
}

/// Sees to it that what was put aside is filled: by the owner, so this node must not be it.
fn fill_anew(around: &mut Around<'_, '_>) -> Result<(), StoreError> {
    let Around { shard, conditions, effects, .. } = around;
    for group in shard.take_filled() {
        effects.note(Level::Info, format!("{}: the state was filled anew", name_of(group)));
        effects.outputs.push(Output::StateFilled { group });
    }
    for group in shard.astray().collect::<Vec<_>>() {
        let Some(replica) = shard.get_mut(group) else { continue };
        let consensus = replica.consensus_mut();
        match consensus.owner() {
            Some(owner) if owner != conditions.me => {
                effects.outbox.send(owner, Frame::Audit(Audit::Refill { group }));
                consensus.ask_for_state();
            }
            Some(_) if replica.is_handing_over() => {}
            Some(_) => {
                let progress = replica.consensus().progress();
                let furthest = progress.iter().filter(|(id, _)| *id != conditions.me);
                if let Some((to, _)) = furthest.max_by_key(|(_, progress)| progress.matched) {
                    shard.hand_over(group, *to, conditions, effects)?;
                }
            }
            None => {}
        }
    }
    Ok(())
}

fn names<'a>(replicas: impl Iterator<Item = &'a ReplicaId>, control: &Control) -> String {
    let topology = &control.map.topology;
    let name = |id: &ReplicaId| format!("node {}", topology.node_id(*id).unwrap_or("?"));
    replicas.map(name).collect::<Vec<_>>().join(", ")
}

fn shown(found: &BTreeMap<ReplicaId, u64>, control: &Control) -> String {
    let one = |(id, digest): (&ReplicaId, &u64)| {
        format!("{} has {digest:016x}", names(std::iter::once(id), control))
    };
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(digests: &[u64]) -> BTreeMap<ReplicaId, u64> {
        (1..).map(ReplicaId).zip(digests.iter().copied()).collect()
    }

    #[test]
    fn who_differs_from_a_majority_is_wrong_and_without_one_nobody_is() {
        assert_eq!(judge(&found(&[7, 7, 7]), 2), Verdict::Equal);
        assert_eq!(judge(&found(&[7]), 2), Verdict::Equal, "the others stand elsewhere");
        assert_eq!(judge(&found(&[7, 8, 7]), 2), Verdict::Differ(vec![ReplicaId(2)]));
        assert_eq!(judge(&found(&[8, 7, 7]), 2), Verdict::Differ(vec![ReplicaId(1)]), "the owner");
        assert_eq!(judge(&found(&[7, 8, 9]), 2), Verdict::Unclear);
        assert_eq!(judge(&found(&[7, 8]), 2), Verdict::Unclear, "one of three is away");
        assert_eq!(judge(&found(&[7, 7, 8]), 3), Verdict::Unclear, "two of five are away");
    }
}
