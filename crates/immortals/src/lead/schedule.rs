//! When the owner asks for checkpoints, and for a successor.

use std::collections::BTreeMap;

use protocol::{Position, ReplicaId};

use crate::seat::taking::CHECKPOINT_MICROS_MAX;

/// A replica that has an earlier checkpoint than the owner for this long, in microseconds, is sent
/// the owner's.
const LATE_MICROS_MAX: u64 = 3_000_000;

/// A hand-over that fails is tried again after this long, in microseconds.
const HAND_OVER_MICROS: u64 = 500_000;

/// How long a wish to move the ownership is tried, in microseconds.
const MOVE_MICROS: u64 = 5_000_000;

/// A checkpoint that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: u64,
    /// The base at that time. When the base moves, the checkpoint is there.
    base: Position,
}

#[derive(Debug, Default)]
pub(crate) struct CheckpointSchedule {
    asked: Option<Asked>,
    /// Replicas with an earlier checkpoint than this one, and since when.
    late: BTreeMap<ReplicaId, u64>,
}

impl CheckpointSchedule {
    pub(crate) fn asked(&mut self, now: u64, base: Position) {
        self.asked = Some(Asked { at: now, base });
    }

    /// Until when the owner waits for the checkpoint that was asked for. None when it is there.
    pub(crate) fn waits_until(&self, base: Position) -> Option<u64> {
        let asked = self.asked.filter(|asked| asked.base == base)?;
        Some(asked.at.saturating_add(CHECKPOINT_MICROS_MAX))
    }

    /// Those of the late replicas that have been late for long.
    pub(crate) fn too_late(&mut self, late: &[ReplicaId], now: u64) -> Vec<ReplicaId> {
        self.late.retain(|id, _| late.contains(id));
        let mut too_late = Vec::new();
        for id in late {
            let since = *self.late.entry(*id).or_insert(now);
            if now.saturating_sub(since) >= LATE_MICROS_MAX {
                too_late.push(*id);
            }
        }
        too_late
    }

    /// A replica is sent the checkpoint now.
    pub(crate) fn sent_to(&mut self, id: ReplicaId, now: u64) {
        self.late.insert(id, now);
    }

    /// When a late replica will have been late for long. 0 when that is not known.
    pub(crate) fn too_late_at(&self, id: ReplicaId) -> u64 {
        self.late.get(&id).map_or(0, |since| since.saturating_add(LATE_MICROS_MAX))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Succession {
    /// When the ownership was last handed over, in steady microseconds.
    handed_at: u64,
    /// A person wants the ownership there, until that time.
    wish: Option<(ReplicaId, u64)>,
}

impl Succession {
    /// The ownership is on its way to another replica.
    pub(crate) fn hand_over(&mut self, now: u64) {
        self.handed_at = now;
    }

    /// The hand-over was not begun.
    pub(crate) fn failed(&mut self) {
        self.handed_at = 0;
    }

    pub(crate) fn wish_for(&mut self, to: ReplicaId, now: u64) {
        self.wish = Some((to, now.saturating_add(MOVE_MICROS)));
    }

    pub(crate) fn wish(&self, now: u64) -> Option<ReplicaId> {
        self.wish.filter(|(_, until)| now < *until).map(|(to, _)| to)
    }

    /// When the ownership may be handed over, again.
    pub(crate) fn next_at(&self) -> u64 {
        self.handed_at.saturating_add(HAND_OVER_MICROS)
    }
}
