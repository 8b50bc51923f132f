//! Checkpoints: who takes them, and how they come to the other replicas.
//!
//! The owner says when one is due, a standby takes it while the primary goes on, and hands it to
//! all others. When there is no standby, the primary itself takes it.

use bytes::Bytes;
use protocol::immortal::Garbled;
use protocol::{Position, ReplicaId};
use storage::StoreError;

use crate::base::{BaseRecord, BlobWriter, read_chunk};
use crate::instance::Instance;
use crate::io::{Ground, Handed, Output, Peer};
use crate::session::Taking;

/// A checkpoint that is not taken within so long is asked for again, in microseconds.
const CHECKPOINT_MICROS_MAX: u64 = 10_000_000;

/// A replica that does not take the next piece within so long is given up, in microseconds.
const PIECE_MICROS_MAX: u64 = 2_000_000;

/// A checkpoint that comes in.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: ReplicaId,
    position: Position,
    writer: BlobWriter,
    /// All is here; it waits until this replica has applied as much.
    whole: Option<Handed>,
}

/// A checkpoint that goes out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    record: BaseRecord,
    voice: Bytes,
    number: u32,
    moved: u64,
}

impl Instance {
    /// The owner looks whether a checkpoint is due, and says who takes it.
    pub(crate) fn mind_checkpoint(&mut self, ground: &mut Ground<'_>, outputs: &mut Vec<Output>) {
        let now = ground.now.steady_micros;
        self.outgoing.retain(|_, out| now.saturating_sub(out.moved) < PIECE_MICROS_MAX);
        if let Some(session) = &mut self.session
            && let Some(taking) = &session.taking
            && now.saturating_sub(taking.since) > CHECKPOINT_MICROS_MAX
        {
            outputs.push(Output::Note(format!(
                "the program of '{}' has not answered a TAKE_CHECKPOINT for {} s",
                self.name,
                CHECKPOINT_MICROS_MAX / 1_000_000
            )));
            self.close_session("RELOAD", "a checkpoint was asked for and did not come", outputs);
        }
        if self.office.is_none() {
            self.take_if_wanted(now);
            return;
        }
        let due = self.settings.checkpoint_bytes > 0
            && self.log_bytes >= self.settings.checkpoint_bytes
            || self.base.ledger.program_version != self.ledger.program_version;
        let pause = now.saturating_sub(self.checkpoint_asked) < CHECKPOINT_MICROS_MAX;
        if self.base.blob.is_none() || !(due && !pause || self.checkpoint_wanted) {
            return;
        }
        self.checkpoint_asked = now;
        let standby = self.standbys().next();
        match standby {
            Some(standby) => {
                self.checkpoint_wanted = false;
                outputs.push(Output::Peer { to: standby, message: Peer::TakeCheckpoint });
            }
            None => {
                self.checkpoint_wanted = true;
                self.take_if_wanted(now);
            }
        }
    }

    fn take_if_wanted(&mut self, now: u64) {
        if !self.checkpoint_wanted {
            return;
        }
        let request = self.requests + 1;
        if let Some(session) = &mut self.session
            && session.take_checkpoint(request, now)
        {
            self.requests = request;
            self.checkpoint_wanted = false;
        }
    }

    /// The program has given its state.
    pub(crate) fn checkpoint_taken(
        &mut self,
        ground: &mut Ground<'_>,
        taking: Taking,
        writer: BlobWriter,
        crc: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<(), Garbled>, StoreError> {
        if writer.crc() != crc {
            writer.drop_all(ground.store, &ground.space)?;
            return Ok(Err(Garbled("a checkpoint whose checksum is right".into())));
        }
        if taking.position <= self.base.position {
            writer.drop_all(ground.store, &ground.space)?;
            return Ok(Ok(()));
        }
        let Taking { position, term, ledger, voice, .. } = taking;
        let voice = voice.expect("a checkpoint ends after it has begun");
        let (blob, log_bytes) = (writer.end(), self.log_bytes);
        let record = BaseRecord { position, term, ledger, blob: Some(blob) };
        outputs.push(Output::Note(format!(
            "checkpoint of '{}' at input {}: {} bytes, for {log_bytes} bytes of log",
            self.name, record.ledger.inputs, blob.bytes
        )));
        self.adopt(ground, record.clone(), Some(&voice))?;
        let others: Vec<ReplicaId> =
            self.settings.replicas.iter().copied().filter(|id| *id != self.me).collect();
        for to in others {
            let (record, voice) = (record.clone(), voice.clone());
            let moved = ground.now.steady_micros;
            self.outgoing.insert(to, Outgoing { record, voice, number: 0, moved });
            self.send_piece(ground, to, outputs)?;
        }
        Ok(Ok(()))
    }

    fn send_piece(
        &mut self,
        ground: &mut Ground<'_>,
        to: ReplicaId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(out) = self.outgoing.get(&to) else { return Ok(()) };
        let blob = out.record.blob.expect("what is handed on has a state");
        if self.base.position != out.record.position {
            self.outgoing.remove(&to);
            return Ok(());
        }
        let bytes = if out.number < blob.chunks {
            let chunk = read_chunk(ground.store, &ground.space, &blob, out.number)?;
            chunk.unwrap_or_default()
        } else {
            Bytes::new()
        };
        let is_last = out.number + 1 >= blob.chunks;
        let handed = || Handed { record: out.record.clone(), voice: out.voice.clone() };
        let message = Peer::Chunk {
            position: out.record.position,
            number: out.number,
            bytes,
            last: is_last.then(|| Box::new(handed())),
        };
        outputs.push(Output::Peer { to, message });
        Ok(())
    }

    pub(crate) fn chunk_taken(
        &mut self,
        ground: &mut Ground<'_>,
        from: ReplicaId,
        position: Position,
        number: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(out) = self.outgoing.get_mut(&from) else { return Ok(()) };
        if out.record.position != position || out.number != number {
            return Ok(());
        }
        out.number += 1;
        out.moved = ground.now.steady_micros;
        if out.number >= out.record.blob.map_or(0, |blob| blob.chunks) {
            self.outgoing.remove(&from);
            return Ok(());
        }
        self.send_piece(ground, from, outputs)
    }

    /// A piece of another replica's checkpoint.
    pub(crate) fn chunk_came(
        &mut self,
        ground: &mut Ground<'_>,
        from: ReplicaId,
        (position, number): (Position, u32),
        bytes: &Bytes,
        last: Option<Box<Handed>>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if number == 0 {
            if let Some(former) = self.incoming.take() {
                former.writer.drop_all(ground.store, &ground.space)?;
            }
            // One that this replica is writing itself lies under the same name.
            if position <= self.base.position || self.writing.is_some() {
                return Ok(());
            }
            let writer = BlobWriter::new(position);
            self.incoming = Some(Incoming { from, position, writer, whole: None });
        }
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        let expected = (incoming.from, incoming.position, incoming.writer.next());
        if expected != (from, position, number) || incoming.whole.is_some() {
            return Ok(());
        }
        if !bytes.is_empty() {
            incoming.writer.put(ground.store, &ground.space, bytes)?;
        }
        incoming.whole = last.map(|handed| *handed);
        outputs.push(Output::Peer { to: from, message: Peer::ChunkTaken { position, number } });
        self.adopt_incoming(ground)
    }

    /// A checkpoint that is here as a whole comes into force when this replica has come so far.
    pub(crate) fn adopt_incoming(&mut self, ground: &mut Ground<'_>) -> Result<(), StoreError> {
        let ready = self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.whole.is_some() && incoming.position <= self.position);
        if !ready {
            return Ok(());
        }
        let incoming = self.incoming.take().expect("it is ready");
        let Handed { record, voice } = incoming.whole.expect("it is whole");
        let good = record.blob.is_some_and(|blob| blob.crc == incoming.writer.crc());
        if !good || record.position <= self.base.position {
            incoming.writer.drop_all(ground.store, &ground.space)?;
            return Ok(());
        }
        self.adopt(ground, record, Some(&voice))?;
        Ok(())
    }
}
