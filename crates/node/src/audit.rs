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

use crate::frame::{Audit, Comparison, Found, Frame};
use crate::hosted::name_of;
use crate::io::{Level, Output};
use crate::jobs::{DigestJob, Job};
use crate::placement::Surroundings;
use crate::shard::{Conditions, Shard};
use crate::work::Effects;

/// How long the others may take to read their states, in microseconds.
const ROUND_MICROS_MAX: u64 = 600_000_000;

/// A group of which not all replicas could be compared is looked at again after this part of the
/// time that others have.
const SOONER: u64 = 10;

/// What an audit works with, lent for one step.
pub(crate) struct Around<'a, 'b> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) surroundings: Surroundings<'a>,
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
    /// The number of the last round.
    last_round: u64,
    /// For whom a state is being read here, and what was asked; one for each.
    reading: BTreeMap<ReplicaId, Comparison>,
}

/// Where a group has stood of late, and when it is to be compared.
#[derive(Clone, Copy)]
struct Quiet {
    position: Position,
    due: u64,
}

struct Round {
    asked: Comparison,
    until: u64,
    voters: usize,
    waits_for: BTreeSet<ReplicaId>,
    found: BTreeMap<ReplicaId, Found>,
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

fn judge(found: &BTreeMap<ReplicaId, Found>, voters: usize) -> Verdict {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for Found { digest, .. } in found.values() {
        *counts.entry(*digest).or_default() += 1;
    }
    if counts.len() <= 1 {
        return Verdict::Equal;
    }
    match counts.into_iter().find(|(_, count)| *count > voters / 2) {
        Some((right, _)) => {
            let wrong = found.iter().filter(|(_, found)| found.digest != right);
            Verdict::Differ(wrong.map(|(replica, _)| *replica).collect())
        }
        None => Verdict::Unclear,
    }
}

impl Audits {
    /// Time goes on.
    pub(crate) fn tick(&mut self, around: &mut Around<'_, '_>) -> Result<(), StoreError> {
        let now = around.conditions.now.steady_micros;
        let timing = around.surroundings.timing;
        self.watch(around.shard, now, timing.audit_ticks * timing.tick_micros);
        if let Some(round) = self.round.take_if(|round| now > round.until) {
            self.conclude(&round, around)?;
        }
        self.ask_again(around);
        let due = self.quiet.iter().find(|(_, quiet)| now >= quiet.due);
        let due = due.map(|(group, quiet)| (*group, quiet.position));
        if let (Some((group, position)), None) = (due, &self.round) {
            self.begin(group, position, around);
        }
        Ok(())
    }

    /// Links break, and what was on its way is lost.
    fn ask_again(&self, around: &mut Around<'_, '_>) {
        let Some(Round { asked, waits_for, .. }) = &self.round else { return };
        let me = around.conditions.me;
        for other in waits_for.iter().filter(|id| **id != me) {
            around.effects.outbox.send(*other, Frame::Audit(Audit::Ask(*asked)));
        }
    }

    /// Notes where the groups stand that are served here.
    fn watch(&mut self, shard: &Shard, now: u64, quiet_micros: u64) {
        let is_compared = |group: &GroupId| shard.is_serving(*group) && !shard.is_astray(*group);
        self.quiet.retain(|group, _| is_compared(group));
        self.round.take_if(|round| !is_compared(&round.asked.group));
        for group in shard.document_groups().filter(is_compared) {
            let consensus = shard.get(group).expect("it was listed").consensus();
            let position = consensus.applied_position();
            let fresh = Quiet { position, due: now + quiet_micros };
            let quiet = self.quiet.entry(group).or_insert(fresh);
            if quiet.position != position || consensus.last() != position {
                *quiet = fresh;
            }
        }
    }

    /// That group is looked at again in `micros`, if it stays quiet.
    fn look_again(&mut self, group: GroupId, now: u64, micros: u64) {
        if let Some(quiet) = self.quiet.get_mut(&group) {
            quiet.due = now + micros;
        }
    }

    fn begin(&mut self, group: GroupId, position: Position, around: &mut Around<'_, '_>) {
        let Around { shard, conditions, effects, surroundings } = around;
        let (now, timing) = (conditions.now, surroundings.timing);
        let again_micros = timing.audit_again_ticks * timing.tick_micros;
        let Some(replica) = shard.get(group) else { return };
        let members = replica.consensus().members();
        if members.voters.len() < 2 {
            self.look_again(group, now.steady_micros, again_micros);
            return;
        }
        if self.reading.contains_key(&conditions.me) {
            return;
        }
        // No two lives of a node number their rounds alike, or an answer to the last one would
        // count.
        self.last_round = now.wall.0.max(self.last_round + 1);
        let asked = Comparison { round: self.last_round, group, position };
        for other in members.voters.iter().filter(|id| **id != conditions.me) {
            effects.outbox.send(*other, Frame::Audit(Audit::Ask(asked)));
        }
        self.round = Some(Round {
            asked,
            until: now.steady_micros + ROUND_MICROS_MAX,
            voters: members.voters.len(),
            waits_for: members.voters.iter().copied().collect(),
            found: BTreeMap::new(),
        });
        self.read(conditions.me, asked, shard, effects);
    }

    /// Begins to read a state, for whoever asks.
    fn read(&mut self, asker: ReplicaId, asked: Comparison, shard: &Shard, effects: &mut Effects) {
        let Some(replica) = shard.get(asked.group) else { return };
        self.reading.insert(asker, asked);
        let (digest, store) = (Digest::of(replica.space()), shard.store.view());
        effects.job(Job::digest(Box::new(DigestJob { asker, asked, digest, store })));
    }

    /// A state has been read on.
    pub(crate) fn read_on(
        &mut self,
        job: Box<DigestJob>,
        sum: Option<u64>,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let Some(digest) = sum else {
            around.effects.job(Job::digest(job));
            return Ok(());
        };
        let DigestJob { asker, asked, .. } = *job;
        self.reading.remove(&asker);
        let found = Some(Found { digest, generation: job.digest.space().generation });
        if asker == around.conditions.me {
            return self.came(asker, asked, found, around);
        }
        around.effects.outbox.send(asker, Frame::Audit(Audit::Answer { asked, found }));
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
            Audit::Ask(asked) => {
                let group = asked.group;
                let stands_there = shard
                    .get(group)
                    .is_some_and(|it| it.consensus().applied_position() == asked.position);
                let reading = self.reading.get(&from);
                if reading == Some(&asked) {
                    // It is asked again and again, as questions and answers get lost.
                } else if stands_there && !shard.is_astray(group) && reading.is_none() {
                    self.read(from, asked, shard, effects);
                } else {
                    let answer = Audit::Answer { asked, found: None };
                    effects.outbox.send(from, Frame::Audit(answer));
                }
                Ok(())
            }
            Audit::Answer { asked, found } => self.came(from, asked, found, around),
            Audit::Differs { group, position, generation } => {
                put_aside(group, position, generation, around);
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
        asked: Comparison,
        found: Option<Found>,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let Some(round) = self.round.as_mut().filter(|round| round.asked == asked) else {
            return Ok(());
        };
        if round.waits_for.remove(&from)
            && let Some(found) = found
        {
            round.found.insert(from, found);
        }
        match self.round.take_if(|round| round.waits_for.is_empty()) {
            Some(round) => self.conclude(&round, around),
            None => Ok(()),
        }
    }

    /// Says what the digests say, and has wrong states put aside.
    fn conclude(&mut self, round: &Round, around: &mut Around<'_, '_>) -> Result<(), StoreError> {
        let Around { surroundings, effects, .. } = around;
        let Comparison { group, position, .. } = round.asked;
        let (name, timing) = (name_of(group), surroundings.timing);
        let again_ticks = match judge(&round.found, round.voters) {
            Verdict::Equal => {
                let count = round.found.len();
                let text = format!("{name}: the states of {count} replicas are equal");
                effects.note(Level::Debug, text);
                let is_whole = count == round.voters;
                timing.audit_again_ticks / if is_whole { 1 } else { SOONER }
            }
            Verdict::Unclear => {
                let text = format!(
                    "{name}: the states of its replicas differ at position {position}, and no \
                     majority says which is right: {}",
                    shown(&round.found, surroundings)
                );
                effects.note(Level::Error, text);
                timing.audit_again_ticks / SOONER
            }
            Verdict::Differ(wrong) => {
                let text = format!(
                    "{name}: the state of {} differs from that of a majority at position \
                     {position}",
                    names(wrong.iter(), surroundings)
                );
                effects.note(Level::Error, text);
                for replica in wrong {
                    let generation = round.found[&replica].generation;
                    if replica == around.conditions.me {
                        put_aside(group, position, generation, around);
                    } else {
                        let differs = Audit::Differs { group, position, generation };
                        around.effects.outbox.send(replica, Frame::Audit(differs));
                    }
                }
                fill_anew(around)?;
                // Soon: what was said of it may be lost on its way, or forgotten by a restart.
                timing.audit_ticks
            }
        };
        let now = around.conditions.now.steady_micros;
        self.look_again(group, now, again_ticks * timing.tick_micros);
        Ok(())
    }
}

/// Instances compare what their programs send: what they have in the store depends on where a
/// checkpoint stands.
fn group_is_audited(group: GroupId) -> bool {
    !group.is_instance()
}

/// The state here is not what follows from the log.
fn put_aside(group: GroupId, position: Position, generation: u32, around: &mut Around<'_, '_>) {
    let Around { shard, effects, .. } = around;
    if !group_is_audited(group) || !shard.put_aside(group, generation) {
        return;
    }
    let text = format!(
        "{}: the state here differs from that of a majority of the replicas at position \
         {position}; it is put aside and filled anew",
        name_of(group)
    );
    effects.note(Level::Error, text);
    effects.outputs.push(Output::StateAside { group });
}

/// Sees to it that what was put aside is filled: by the owner, so this node must not be it.
pub(crate) fn fill_anew(around: &mut Around<'_, '_>) -> Result<(), StoreError> {
    let Around { shard, conditions, effects, surroundings } = around;
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
                if let Some(heir) = surroundings.heir(group, shard) {
                    shard.hand_over(group, heir, conditions, effects)?;
                }
            }
            None => {}
        }
    }
    Ok(())
}

fn names<'a>(
    replicas: impl Iterator<Item = &'a ReplicaId>,
    surroundings: &Surroundings<'_>,
) -> String {
    let topology = &surroundings.control.map.topology;
    let name = |id: &ReplicaId| format!("node {}", topology.node_id(*id).unwrap_or("?"));
    replicas.map(name).collect::<Vec<_>>().join(", ")
}

fn shown(found: &BTreeMap<ReplicaId, Found>, surroundings: &Surroundings<'_>) -> String {
    let one = |(id, found): (&ReplicaId, &Found)| {
        format!("{} has {:016x}", names(std::iter::once(id), surroundings), found.digest)
    };
    found.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(digests: &[u64]) -> BTreeMap<ReplicaId, Found> {
        let found = digests.iter().map(|digest| Found { digest: *digest, generation: 1 });
        (1..).map(ReplicaId).zip(found).collect()
    }

    #[test]
    fn who_differs_from_a_majority_is_wrong_and_without_one_nobody_is() {
        assert_eq!(judge(&found(&[7, 7, 7]), 3), Verdict::Equal);
        assert_eq!(judge(&found(&[7]), 3), Verdict::Equal, "the others stand elsewhere");
        assert_eq!(judge(&found(&[7, 8, 7]), 3), Verdict::Differ(vec![ReplicaId(2)]));
        assert_eq!(judge(&found(&[8, 7, 7]), 3), Verdict::Differ(vec![ReplicaId(1)]), "the owner");
        assert_eq!(judge(&found(&[7, 8, 9]), 3), Verdict::Unclear);
        assert_eq!(judge(&found(&[7, 8]), 3), Verdict::Unclear, "one of three is away");
        assert_eq!(judge(&found(&[7, 7, 8]), 5), Verdict::Unclear, "two of five are away");
    }
}
