//! Checkpoints on their way between replicas, in pieces, so that no message is long.

use std::collections::BTreeMap;

use protocol::{Position, ReplicaId};

use crate::base::record::{BaseRecord, BlobWriter};
use crate::output::spill::{SpillBlockId, SpilledBlock};

/// A replica that does not take the next piece within this time is given up, in microseconds.
const PIECE_MICROS_MAX: u64 = 2_000_000;

/// A checkpoint that comes in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: ReplicaId,
    pub(crate) position: Position,
    pub(crate) writer: BlobWriter,
    /// Present when all pieces are here.
    pub(crate) record: Option<BaseRecord>,
    /// The spilled blocks that the store lacks. The last one is asked for.
    pub(crate) lacks: Vec<SpilledBlock>,
    /// When something last came, in steady microseconds.
    pub(crate) since: u64,
}

/// A checkpoint that goes out: the base, as long as it is at that position.
#[derive(Debug)]
struct Outgoing {
    position: Position,
    /// The number of the piece that was sent last.
    number: u32,
    moved: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Transfers {
    pub(crate) incoming: Option<Incoming>,
    outgoing: BTreeMap<ReplicaId, Outgoing>,
}

impl Incoming {
    /// All pieces and all spilled blocks are here.
    pub(crate) fn is_complete(&self) -> bool {
        self.record.is_some() && self.lacks.is_empty()
    }

    /// Its sender has given up.
    pub(crate) fn is_stale(&self, now: u64) -> bool {
        !self.is_complete() && now.saturating_sub(self.since) > 2 * PIECE_MICROS_MAX
    }

    /// Whether this transfer goes on when `from` also offers a checkpoint at `position`. When two
    /// replicas send the same checkpoint, the first transfer goes on as long as it makes progress.
    pub(crate) fn outlasts(&self, from: ReplicaId, position: Position, now: u64) -> bool {
        let moves = now.saturating_sub(self.since) < 2 * PIECE_MICROS_MAX;
        let lasts = self.record.is_some() || (moves && self.from != from);
        self.position >= position && lasts
    }
}

impl Transfers {
    /// Begins to send the base at that position. The first piece is to be sent.
    pub(crate) fn begin(&mut self, to: ReplicaId, position: Position, now: u64) {
        self.outgoing.insert(to, Outgoing { position, number: 0, moved: now });
    }

    pub(crate) fn is_sending_to(&self, to: ReplicaId) -> bool {
        self.outgoing.contains_key(&to)
    }

    /// The number of the piece to be sent to a replica. None when nothing goes there, or the base
    /// has moved.
    pub(crate) fn piece_for(&mut self, to: ReplicaId, base: Position) -> Option<u32> {
        let out = self.outgoing.get(&to)?;
        if out.position != base {
            self.outgoing.remove(&to);
            return None;
        }
        Some(out.number)
    }

    /// A replica has stored a piece. The result says whether the next one is to be sent.
    pub(crate) fn stored(
        &mut self,
        from: ReplicaId,
        position: Position,
        number: u32,
        pieces: u32,
        now: u64,
    ) -> bool {
        let Some(out) = self.outgoing.get_mut(&from) else { return false };
        if (out.position, out.number) != (position, number) {
            return false;
        }
        out.number += 1;
        out.moved = now;
        let goes_on = out.number < pieces;
        if !goes_on {
            self.outgoing.remove(&from);
        }
        goes_on
    }

    /// Gives up replicas that do not answer.
    pub(crate) fn forget_silent(&mut self, now: u64) {
        self.outgoing.retain(|_, out| now.saturating_sub(out.moved) < PIECE_MICROS_MAX);
    }

    /// Whether the checkpoint that comes in refers to that block.
    pub(crate) fn refers_to(&self, id: &SpillBlockId) -> bool {
        let record = self.incoming.as_ref().and_then(|incoming| incoming.record.as_ref());
        record.is_some_and(|record| record.refers_to(id))
    }

    /// When there is something to do that only time brings.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let silent = self.outgoing.values().map(|out| out.moved + PIECE_MICROS_MAX).min();
        let incoming = self.incoming.as_ref().filter(|incoming| !incoming.is_complete());
        let stale = incoming.map(|incoming| incoming.since + 2 * PIECE_MICROS_MAX + 1);
        [silent, stale].into_iter().flatten().min()
    }
}
