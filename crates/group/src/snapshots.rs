//! How a replica gives its state to another one, and takes another's state in place of its own.

use protocol::ReplicaId;
use replication::{Install, Message, SnapshotOffer};
use storage::{Applied, Batch, StateStore, StoreError};

use crate::io::{Io, Outputs, PeerMessage};
use crate::machine::Machine;
use crate::members::{Members, encode_members};
use crate::refused::Refusal;
use crate::replica::Replica;
use crate::transfer::{Chunk, Next};

impl<M: Machine> Replica<M>
where
    M::Answer: Refusal,
{
    pub(crate) fn begin_transfer(
        &mut self,
        io: &mut Io<'_, M::Around>,
        offer: SnapshotOffer,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let (machine, _, mut at) = self.parts(io);
        machine.write_snapshot(&mut at)?;
        let stands_behind = self.machine.snapshot_point().is_some();
        let (position, term) = self.snapshot_point();
        let mut members = self.members.at(position).clone();
        if stands_behind {
            members = members.with_learner(offer.to);
        }
        // The state may be further than the offer by now; what is sent is the state as it is.
        let (to, offer) = (offer.to, offer.at(position, term, members));
        let now = io.now.steady_micros;
        let view = io.store.view();
        let chunk_bytes = self.tuning.chunk_bytes;
        let chunk = self.transfers.begin(&self.space, view, offer, now, chunk_bytes)?;
        out.messages.push((to, PeerMessage::Chunk(chunk)));
        Ok(())
    }

    /// The receiver has stored a chunk: send the next, or tell consensus that all went out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn chunk_taken(
        &mut self,
        from: ReplicaId,
        (transfer, number): (u64, u32),
        now: u64,
        out: &mut Vec<(ReplicaId, PeerMessage)>,
    ) -> Result<(), StoreError> {
        let (space, chunk_bytes) = (&self.space, self.tuning.chunk_bytes);
        match self.transfers.taken(space, from, (transfer, number), now, chunk_bytes)? {
            Next::Chunk(chunk) => out.push((from, PeerMessage::Chunk(chunk))),
            Next::Done => self.end_transfer(from, true),
            Next::Nothing => {}
        }
        Ok(())
    }

    /// The transfer to that replica has ended, well or not.
    pub fn end_transfer(&mut self, to: ReplicaId, well: bool) {
        if self.transfers.end(to) {
            self.consensus.snapshot_sent(to, well);
        }
    }

    /// A piece of a snapshot has come.
    ///
    /// # Errors
    /// When the store fails.
    pub fn chunk(
        &mut self,
        store: &mut dyn StateStore,
        from: ReplicaId,
        chunk: Chunk,
        out: &mut Vec<(ReplicaId, PeerMessage)>,
    ) -> Result<(), StoreError> {
        let (transfer, number) = (chunk.transfer, chunk.number);
        let Some(last) = self.transfers.store(&self.space, store, from, chunk)? else {
            return Ok(());
        };
        out.push((from, PeerMessage::ChunkTaken { transfer, number }));
        let stands = |offer: &Message| offer.snapshot.as_ref().map(|meta| meta.position);
        if let Some(offer) = last
            && stands(&offer).is_some_and(|position| self.transfers.offer(position))
        {
            self.consensus.receive(offer);
        }
        Ok(())
    }

    /// Consensus has taken the snapshot: what was staged becomes the state.
    pub(crate) fn install(
        &mut self,
        io: &mut Io<'_, M::Around>,
        install: Install,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        self.resign(io, out)?;
        let Install { position, term, members } = install;
        let staged = self.transfers.take_staged(position);
        let applied = Applied { position, term, members: encode_members(&members) };
        let mut batch = Batch::default();
        staged.install(&mut batch, &applied);
        io.store.write(batch)?;
        self.space = staged;
        self.progress.term = term;
        self.members = Members::new(position, members);
        let mut outputs = Vec::new();
        let (machine, _, mut at) = self.parts(io);
        machine.installed(&mut at, &mut outputs)?;
        self.tell_snapshot_point();
        self.consensus.applied(position);
        self.carry_out(io, outputs, out)
    }
}
