//! What the replicas of an instance say to one another.

use bytes::Bytes;
use protocol::{Position, ReplicaId};
use storage::StoreError;

use crate::base::record::{BaseRecord, Blob, read_chunk};
use crate::context::Context;
use crate::io::Output;
use crate::machine::instance::Instance;
use crate::output::spill::SpillBlockId;
use crate::output::stream::Run;
use crate::seat::states::Seat;
use crate::seat::taking::CHECKPOINT_MICROS_MAX;
use crate::standbys::transfers::Incoming;
use crate::wire::Peer;

/// Whether this replica leads. A leader's program does not begin anew for a checkpoint that came
/// in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    Follower,
}

/// A piece of a checkpoint that came in.
struct Chunk {
    from: ReplicaId,
    position: Position,
    number: u32,
    bytes: Bytes,
    last: Option<Box<BaseRecord>>,
}

impl Instance {
    /// A message of another replica.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn peer(
        &mut self,
        cx: &mut Context<'_>,
        role: Role,
        from: ReplicaId,
        message: Peer,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        match message {
            Peer::Status(status) => {
                let is_copy = status.attached && status.is_good();
                let is_same_case = status.trouble.overlooked.is_some();
                self.standbys.learn(from, status, now);
                // Of two that were let in again for want of another, the first replica's stays.
                if is_copy && (!is_same_case || from < self.identity.me) {
                    self.is_not_the_last_copy(outputs);
                }
            }
            Peer::Differs { outputs: theirs } => self.show_difference(from, theirs, outputs),
            Peer::Difference { expected, found } => {
                self.difference_shown(expected, found, outputs);
            }
            Peer::Release => self.health.release(),
            Peer::TakeCheckpoint => self.checkpoint.is_wanted = true,
            Peer::Chunk { position, number, bytes, last } => {
                let chunk = Chunk { from, position, number, bytes, last };
                self.chunk_came(cx, chunk, outputs)?;
                return self.adopt_incoming(cx, role, outputs);
            }
            Peer::ChunkStored { position, number } => {
                let pieces = self.base.record.pieces();
                if self.transfers.stored(from, position, number, pieces, now) {
                    return self.send_piece(cx, from, outputs);
                }
            }
            Peer::WantBlock { position, id } => {
                return self.block_wanted(cx, from, position, id, outputs);
            }
            Peer::SpillBlock { position, id, run } => {
                if self.block_came(cx, from, position, id, run)? {
                    self.ask_for_block(outputs);
                    return self.adopt_incoming(cx, role, outputs);
                }
            }
        }
        Ok(())
    }

    /// Tells one replica how this one is. If the other replica becomes the owner soon, it knows at
    /// once which program could become the primary.
    pub(crate) fn tell_status(&self, to: ReplicaId, outputs: &mut Vec<Output>) {
        if self.settings.replicas.contains(&to) {
            outputs.push(Output::Peer { to, message: Peer::Status(self.status()) });
        }
    }

    // Checkpoints that go out.

    /// Gives the base to all others.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn hand_on(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let others: Vec<ReplicaId> = self.settings.others(self.identity.me).collect();
        for to in others {
            self.send_base_to(cx, to, outputs)?;
        }
        Ok(())
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn send_base_to(
        &mut self,
        cx: &mut Context<'_>,
        to: ReplicaId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.transfers.begin(to, self.base.position(), cx.now.steady_micros);
        self.send_piece(cx, to, outputs)
    }

    fn send_piece(
        &mut self,
        cx: &Context<'_>,
        to: ReplicaId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let position = self.base.position();
        let Some(number) = self.transfers.piece_for(to, position) else { return Ok(()) };
        let blob = self.base.record.blob.expect("what is handed on has a state");
        let pieces = self.base.record.pieces();
        let bytes = if number < pieces {
            read_chunk(cx.store, &cx.space, &blob, number)?.unwrap_or_default()
        } else {
            Bytes::new()
        };
        let last = (number + 1 >= pieces).then(|| Box::new(self.base.record.clone()));
        outputs.push(Output::Peer { to, message: Peer::Chunk { position, number, bytes, last } });
        Ok(())
    }

    /// Another replica lacks a block of the checkpoint that it was given. A block of an earlier
    /// checkpoint is not looked for, since the replica will be given the present checkpoint.
    fn block_wanted(
        &self,
        cx: &Context<'_>,
        from: ReplicaId,
        position: Position,
        id: SpillBlockId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if self.base.position() != position {
            return Ok(());
        }
        if let Some(run) = self.spill.read(cx.store, &cx.space, &id)? {
            let message = Peer::SpillBlock { position, id, run };
            outputs.push(Output::Peer { to: from, message });
        }
        Ok(())
    }

    // Checkpoints that come in.

    fn chunk_came(
        &mut self,
        cx: &mut Context<'_>,
        chunk: Chunk,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Chunk { from, position, number, bytes, last } = chunk;
        if number == 0 && !self.begin_incoming(cx, from, position)? {
            return Ok(());
        }
        let Some(incoming) = &mut self.transfers.incoming else { return Ok(()) };
        let expected = (incoming.from, incoming.position, incoming.writer.next());
        if expected != (from, position, number) || incoming.record.is_some() {
            return Ok(());
        }
        if !bytes.is_empty() {
            incoming.writer.put(cx.store, &cx.space, &bytes)?;
        }
        incoming.since = cx.now.steady_micros;
        if let Some(record) = last {
            // A block that the program here has sent, too, and that is in memory need not be asked
            // for.
            if let Seat::Running(running) = &mut self.seat {
                for block in &record.blocks {
                    if let Some(run) = running.output.spill_block(&block.id) {
                        self.spill.put(cx.store, &cx.space, vec![(block.id.clone(), run)])?;
                    }
                }
            }
            let lacks = record.blocks.iter().filter(|block| !self.spill.has(block));
            incoming.lacks = lacks.rev().cloned().collect();
            incoming.record = Some(*record);
        }
        outputs.push(Output::Peer { to: from, message: Peer::ChunkStored { position, number } });
        self.ask_for_block(outputs);
        Ok(())
    }

    /// The first piece of a checkpoint came. The result says whether it is taken.
    ///
    /// # Errors
    /// When the store fails.
    fn begin_incoming(
        &mut self,
        cx: &mut Context<'_>,
        from: ReplicaId,
        position: Position,
    ) -> Result<bool, StoreError> {
        let now = cx.now.steady_micros;
        let former = self.transfers.incoming.as_ref();
        if former.is_some_and(|incoming| incoming.outlasts(from, position, now)) {
            return Ok(false);
        }
        if let Some(former) = self.transfers.incoming.take() {
            self.base.discard(Some(former.writer));
            self.spill.look_for_garbage();
        }
        if position <= self.base.position() {
            return Ok(false);
        }
        let (writer, record, lacks) = (self.base.new_state(cx)?, None, Vec::new());
        self.transfers.incoming =
            Some(Incoming { from, position, writer, record, lacks, since: now });
        Ok(true)
    }

    /// A checkpoint's record names the spilled blocks that belong to it. Those that the store lacks
    /// are asked for, one after the other.
    fn ask_for_block(&self, outputs: &mut Vec<Output>) {
        let Some(Incoming { from, position, lacks, .. }) = &self.transfers.incoming else { return };
        if let Some(block) = lacks.last() {
            let message = Peer::WantBlock { position: *position, id: block.id.clone() };
            outputs.push(Output::Peer { to: *from, message });
        }
    }

    /// A block came. The result says whether it was the one that was asked for.
    fn block_came(
        &mut self,
        cx: &mut Context<'_>,
        from: ReplicaId,
        position: Position,
        id: SpillBlockId,
        run: Run,
    ) -> Result<bool, StoreError> {
        let Some(incoming) = &mut self.transfers.incoming else { return Ok(false) };
        let is_expected = (incoming.from, incoming.position) == (from, position);
        let wanted = incoming.lacks.last().filter(|block| is_expected && block.id == id);
        if wanted.is_none_or(|wanted| run.first > wanted.first) {
            return Ok(false);
        }
        incoming.lacks.pop();
        incoming.since = cx.now.steady_micros;
        self.spill.put(cx.store, &cx.space, vec![(id, run)])?;
        Ok(true)
    }

    /// A complete checkpoint comes into force when this replica and its program have reached its
    /// position. From then on the log before it may be cut. A standby's program that does not reach
    /// the position for long begins anew from the checkpoint.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn adopt_incoming(
        &mut self,
        cx: &mut Context<'_>,
        role: Role,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        let Some(incoming) = &self.transfers.incoming else { return Ok(()) };
        if incoming.is_stale(now) {
            self.spill.look_for_garbage();
            let state = self.transfers.incoming.take().map(|incoming| incoming.writer);
            self.base.discard(state);
            return Ok(());
        }
        if !incoming.is_complete() || incoming.position > self.history.position {
            return Ok(());
        }
        if !self.seat.is_past(incoming.position) {
            let waited = now.saturating_sub(incoming.since);
            if role == Role::Leader || waited < CHECKPOINT_MICROS_MAX {
                return Ok(());
            }
            self.close_seat("RELOAD", "a later checkpoint is here", outputs);
        }
        let incoming = self.transfers.incoming.take().expect("it was just looked at");
        self.spill.look_for_garbage();
        let mut record = incoming.record.expect("a complete checkpoint has a record");
        let is_whole = record.matches(&incoming.writer);
        if !is_whole {
            outputs.push(Output::Note(format!(
                "a checkpoint of '{}' came from replica {} with a wrong checksum: it is not taken",
                self.identity.name, incoming.from
            )));
        }
        if !is_whole || record.position <= self.base.position() {
            self.base.discard(Some(incoming.writer));
            return Ok(());
        }
        // Its pieces have a name of their own here.
        let name = incoming.writer.blob().name;
        record.blob = record.blob.map(|blob| Blob { name, ..blob });
        self.adopt(cx, record)
    }
}
