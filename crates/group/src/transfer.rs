//! Snapshots: the state of a group on its way to a replica that is too far behind for the log.
//!
//! A snapshot goes in chunks, one at a time; the receiver stores each in the next generation of the
//! group's space, where nobody sees it. The last chunk carries the offer, which the receiver gives
//! to consensus. When consensus takes it, the staged generation becomes the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::{Members, Message, SnapshotOffer};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StateStore, StoreError};

/// A transfer that has not moved for this long is given up, in microseconds.
const PATIENCE_MICROS: u64 = 5_000_000;

/// How snapshots travel.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How much of a snapshot is sent at a time, in bytes.
    pub chunk_bytes: usize,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub group: GroupId,
    /// Names one snapshot of one sender.
    pub transfer: u64,
    /// From 0.
    pub number: u32,
    pub pairs: Vec<(Bytes, Bytes)>,
    /// On the last chunk: the offer itself, given to consensus once all is stored.
    pub last: Option<Message>,
    pub position: Position,
    pub term: Term,
    pub members: Members,
}

/// A snapshot on its way to one replica.
struct Outgoing {
    id: u64,
    view: Box<dyn Reader + Send>,
    offer: SnapshotOffer,
    /// The key after which the next chunk begins.
    after: Vec<u8>,
    number: u32,
    is_last_sent: bool,
    /// When the receiver last confirmed a chunk, in steady microseconds.
    moved: u64,
}

/// A snapshot that comes in.
struct Incoming {
    transfer: u64,
    from: ReplicaId,
    next: u32,
    space: Space,
    position: Position,
    /// All of it is here and consensus was given the offer, but has not said whether it takes it.
    is_offered: bool,
}

/// What a confirmed chunk leads to.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment only")]
pub(crate) enum Next {
    Chunk(Chunk),
    /// Everything has arrived.
    Done,
    /// It was the confirmation of something else.
    Nothing,
}

#[derive(Default)]
pub(crate) struct Transfers {
    outgoing: BTreeMap<ReplicaId, Outgoing>,
    incoming: Option<Incoming>,
}

impl Transfers {
    /// The first chunk for the replica that the offer is for.
    pub(crate) fn begin(
        &mut self,
        space: &Space,
        view: Box<dyn Reader + Send>,
        offer: SnapshotOffer,
        now: u64,
        chunk_bytes: usize,
    ) -> Result<Chunk, StoreError> {
        let to = offer.to;
        let outgoing = Outgoing {
            id: now.wrapping_mul(64).wrapping_add(u64::from(space.group.0)),
            view,
            offer,
            after: Vec::new(),
            number: 0,
            is_last_sent: false,
            moved: now,
        };
        self.outgoing.insert(to, outgoing);
        let outgoing = self.outgoing.get_mut(&to).expect("it was just put there");
        outgoing.next(space, chunk_bytes)
    }

    /// The receiver has stored a chunk.
    pub(crate) fn taken(
        &mut self,
        space: &Space,
        from: ReplicaId,
        (id, number): (u64, u32),
        now: u64,
        chunk_bytes: usize,
    ) -> Result<Next, StoreError> {
        match self.outgoing.get_mut(&from) {
            Some(outgoing) if outgoing.id == id && outgoing.number == number => {
                outgoing.moved = now;
                outgoing.number += 1;
                if outgoing.is_last_sent {
                    return Ok(Next::Done);
                }
                outgoing.next(space, chunk_bytes).map(Next::Chunk)
            }
            _ => Ok(Next::Nothing),
        }
    }

    /// True when there was one.
    pub(crate) fn end(&mut self, to: ReplicaId) -> bool {
        self.outgoing.remove(&to).is_some()
    }

    /// The receivers that have not confirmed anything for too long.
    pub(crate) fn stuck(&self, now: u64) -> Vec<ReplicaId> {
        let stuck = |out: &Outgoing| now.saturating_sub(out.moved) > PATIENCE_MICROS;
        self.outgoing.iter().filter(|(_, out)| stuck(out)).map(|(to, _)| *to).collect()
    }

    /// Stores a chunk where nobody sees it yet. `None`: it is not the next one of the snapshot
    /// that is coming in, or comes before consensus has decided on the last one; the sender begins
    /// again. Otherwise the offer, if it was the last one.
    pub(crate) fn store(
        &mut self,
        space: &Space,
        store: &mut dyn StateStore,
        from: ReplicaId,
        chunk: Chunk,
    ) -> Result<Option<Option<Message>>, StoreError> {
        if self.incoming.as_ref().is_some_and(|incoming| incoming.is_offered) {
            return Ok(None);
        }
        if chunk.number == 0 {
            let mut batch = Batch::default();
            while !space.clean(&*store, &mut batch, usize::MAX)? {}
            store.write(batch)?;
            self.incoming = Some(Incoming {
                transfer: chunk.transfer,
                from,
                next: 0,
                space: space.staging(),
                position: chunk.position,
                is_offered: false,
            });
        }
        let Some(incoming) = &mut self.incoming else { return Ok(None) };
        let expected = (incoming.transfer, incoming.from, incoming.next);
        if expected != (chunk.transfer, from, chunk.number) {
            return Ok(None);
        }
        incoming.next += 1;
        let mut batch = Batch::default();
        let pairs = chunk.pairs.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        incoming.space.stage(&mut batch, pairs.collect());
        store.write(batch)?;
        Ok(Some(chunk.last))
    }

    /// Whether the snapshot that came in stands at that position, so that it may be offered to
    /// consensus. A snapshot message without its pieces, from whoever sent it, must not be.
    ///
    /// **Invariant:** what is offered is not touched before [`Transfers::decided`], as it may
    /// become the state.
    pub(crate) fn offer(&mut self, position: Position) -> bool {
        let Some(incoming) = &mut self.incoming else { return false };
        incoming.is_offered = incoming.position == position;
        incoming.is_offered
    }

    /// Consensus has taken what was offered, or will never take it.
    pub(crate) fn decided(&mut self) {
        self.incoming.take_if(|incoming| incoming.is_offered);
    }

    /// The staged state is to become the state: its space.
    pub(crate) fn take_staged(&mut self, position: Position) -> Space {
        let incoming = self.incoming.take().expect("a snapshot is offered only after its chunks");
        assert_eq!(incoming.position, position, "the staged state is not the offered one");
        incoming.space
    }
}

impl Outgoing {
    fn next(&mut self, space: &Space, chunk_bytes: usize) -> Result<Chunk, StoreError> {
        let exported = space.export(self.view.as_ref(), &self.after, chunk_bytes)?;
        if let Some((key, _)) = exported.pairs.last() {
            self.after.clone_from(key);
        }
        self.is_last_sent = exported.done;
        let pairs = exported.pairs.into_iter();
        Ok(Chunk {
            group: space.group,
            transfer: self.id,
            number: self.number,
            pairs: pairs.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).collect(),
            last: exported.done.then(|| self.offer.message.clone()),
            position: self.offer.position,
            term: self.offer.term,
            members: self.offer.members.clone(),
        })
    }
}
