//! Checkpoints: who takes them, and how they come to the other replicas.
//!
//! The owner says when one is due, a standby takes it while the primary goes on, and hands it to
//! all others. When there is no standby, the primary itself takes it.

use bytes::Bytes;
use protocol::immortal::Garbled;
use protocol::{Position, ReplicaId};
use storage::StoreError;

use crate::base::{BaseRecord, BlobWriter, read_chunk, voice_bytes};
use crate::instance::Instance;
use crate::io::{Ground, Handed, Output, Peer};
use crate::session::Taking;

/// A checkpoint that is not taken within so long is asked for again, in microseconds.
const CHECKPOINT_MICROS_MAX: u64 = 10_000_000;

/// A program that does not confirm inputs is told nothing for so long after its checkpoint, in
/// microseconds. AMBROSIA's C# binding writes a checkpoint past what its other thread has not sent yet,
/// and that follows at once.
const QUIET_MICROS: u64 = 200_000;

/// Such a program is told nothing for so long after any checkpoint, in microseconds. AMBROSIA's
/// coordinator writes it to a disk in that time, and the JavaScript binding dies when it is asked for
/// the next one before it has noticed the end of the last.
const REST_MICROS: u64 = 50_000;

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
    /// When the last piece came.
    since: u64,
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
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn mind_checkpoint(
        &mut self,
        ground: &mut Ground<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
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
        self.mind_quiet_after(ground, outputs)?;
        if self.office.is_none() {
            return self.take_if_wanted(ground, outputs);
        }
        let due = self.settings.checkpoint_bytes > 0
            && self.log_bytes >= self.settings.checkpoint_bytes
            || self.base.ledger.program_version != self.ledger.program_version;
        let pause = now.saturating_sub(self.checkpoint_asked) < CHECKPOINT_MICROS_MAX;
        if self.base.blob.is_none() || !(due && !pause || self.checkpoint_wanted) {
            return Ok(());
        }
        self.checkpoint_asked = now;
        let standby = self.standbys().next();
        match standby {
            Some(standby) => {
                self.checkpoint_wanted = false;
                // It may have been told to pause when there was no standby.
                if let Some(session) = &mut self.session {
                    session.go_on();
                }
                outputs.push(Output::Peer { to: standby, message: Peer::TakeCheckpoint });
                Ok(())
            }
            None => {
                self.checkpoint_wanted = true;
                self.take_if_wanted(ground, outputs)
            }
        }
    }

    fn take_if_wanted(
        &mut self,
        ground: &mut Ground<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(session) = self.session.as_mut().filter(|_| self.checkpoint_wanted) else {
            return Ok(());
        };
        if self.base.blob.is_some() && session.is_live_at(self.base.position) {
            // Nothing has come since the last one; others may not have it.
            session.go_on();
            self.checkpoint_wanted = false;
            let voice = voice_bytes(ground.store, &ground.space)?.unwrap_or_default();
            return self.hand_on(ground, &voice, outputs);
        }
        let request = self.requests + 1;
        if session.take_checkpoint(request, ground.now.steady_micros) {
            self.requests = request;
            self.checkpoint_wanted = false;
        }
        Ok(())
    }

    /// A checkpoint of a program that does not confirm inputs counts when nothing has followed it. What
    /// has followed is not in it, and would not be said again by a program that begins with it: another
    /// one is asked for.
    fn mind_quiet_after(
        &mut self,
        ground: &mut Ground<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        let quiet = |taking: &mut Taking| {
            taking
                .ended
                .is_some_and(|(at, _)| taking.spoilt || now.saturating_sub(at) > QUIET_MICROS)
        };
        let Some(session) = &mut self.session else { return Ok(()) };
        session.rests_since.take_if(|since| now.saturating_sub(*since) > REST_MICROS);
        let Some(taking) = session.taking.take_if(quiet) else { return Ok(()) };
        let (Some(writer), Some((_, crc))) = (self.writing.take(), taking.ended) else {
            return Ok(());
        };
        if taking.spoilt {
            self.checkpoint_wanted = true;
            return writer.drop_all(ground.store, &ground.space);
        }
        if let Err(why) = self.checkpoint_taken(ground, taking, writer, crc, outputs)? {
            self.close_session("BAD_FRAME", &why.0, outputs);
        }
        Ok(())
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
        self.adopt(ground, record, Some(&voice))?;
        self.hand_on(ground, &voice, outputs)?;
        Ok(Ok(()))
    }

    /// Gives the base to all others.
    fn hand_on(
        &mut self,
        ground: &mut Ground<'_>,
        voice: &Bytes,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let others: Vec<ReplicaId> =
            self.settings.replicas.iter().copied().filter(|id| *id != self.me).collect();
        for to in others {
            let (record, voice) = (self.base.clone(), voice.clone());
            let moved = ground.now.steady_micros;
            self.outgoing.insert(to, Outgoing { record, voice, number: 0, moved });
            self.send_piece(ground, to, outputs)?;
        }
        Ok(())
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
            if position <= self.base.position {
                return Ok(());
            }
            let (writer, since) = (self.new_state(), ground.now.steady_micros);
            self.incoming = Some(Incoming { from, position, writer, whole: None, since });
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
        incoming.since = ground.now.steady_micros;
        outputs.push(Output::Peer { to: from, message: Peer::ChunkTaken { position, number } });
        self.adopt_incoming(ground, outputs)
    }

    /// A checkpoint that is here as a whole comes into force when this replica has come so far, and its
    /// program, too: the log before it may be cut then. A standby's program that does not come so far
    /// for long begins anew from there.
    pub(crate) fn adopt_incoming(
        &mut self,
        ground: &mut Ground<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(incoming) = &self.incoming else { return Ok(()) };
        let position = incoming.position;
        let waited = ground.now.steady_micros.saturating_sub(incoming.since);
        if incoming.whole.is_none() && waited > 2 * PIECE_MICROS_MAX {
            // Its sender has given up, too.
            self.discarded.extend(self.incoming.take().map(|incoming| incoming.writer));
            return Ok(());
        }
        if incoming.whole.is_none() || position > self.position {
            return Ok(());
        }
        if self.session.as_ref().is_some_and(|session| !session.is_past(position)) {
            if self.office.is_some() || waited < CHECKPOINT_MICROS_MAX {
                return Ok(());
            }
            self.close_session("RELOAD", "a later checkpoint is here", outputs);
        }
        let incoming = self.incoming.take().expect("it is ready");
        let Handed { mut record, voice } = incoming.whole.expect("it is whole");
        let good = record.blob.is_some_and(|blob| blob.crc == incoming.writer.crc());
        if !good || record.position <= self.base.position {
            incoming.writer.drop_all(ground.store, &ground.space)?;
            return Ok(());
        }
        // Its pieces have a name of their own here.
        record.blob = Some(incoming.writer.end());
        self.adopt(ground, record, Some(&voice))
    }
}
