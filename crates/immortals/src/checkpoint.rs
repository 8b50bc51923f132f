//! Checkpoints: who takes them, and how they come to the other replicas.
//!
//! The owner says when one is due, a standby takes it while the primary goes on, and hands it to
//! all others, in pieces, so that no message is long. When there is no standby, the primary itself takes
//! it. A replica that was away when it was handed on gets it from the owner later.

use bytes::Bytes;
use protocol::immortal::Garbled;
use protocol::{Position, ReplicaId};
use storage::StoreError;

use crate::base::{BaseRecord, Blob, BlobWriter, read_chunk};
use crate::instance::Instance;
use crate::io::{Context, Output, Peer, Settings};
use crate::session::{Ended, Taking};
use crate::shelf::{SpillBlockId, SpilledBlock};
use crate::stream::Run;

/// A checkpoint that is not taken within so long is asked for again, in microseconds.
const CHECKPOINT_MICROS_MAX: u64 = 10_000_000;

/// A program that does not confirm inputs is told nothing for so long after its checkpoint, in
/// microseconds. AMBROSIA's C# binding writes a checkpoint past what its other thread has not sent yet,
/// and that follows at once.
const QUIET_MICROS: u64 = 200_000;

/// And so many ticks must pass in which nothing is heard of it: the clock goes on while this node stands
/// still, and what has come meanwhile is heard only after that.
const QUIET_TICKS: u32 = 10;

/// After so many it counts also when there are always impulses: those need not be in a state, and what
/// came before them was heard.
const LOUD_TICKS: u32 = 50;

/// Such a program is told nothing for so long after any checkpoint, in microseconds. AMBROSIA's
/// coordinator writes it to a disk in that time, and the JavaScript binding dies when it is asked for
/// the next one before it has noticed the end of the last.
const REST_MICROS: u64 = 50_000;

/// A replica that does not take the next piece within so long is given up, in microseconds.
const PIECE_MICROS_MAX: u64 = 2_000_000;

/// A replica whose checkpoint is an earlier one for so long is sent the owner's, in microseconds.
const LATE_MICROS_MAX: u64 = 3_000_000;

/// A checkpoint that comes in.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: ReplicaId,
    position: Position,
    writer: BlobWriter,
    /// All its pieces are here.
    pub(crate) whole: Option<BaseRecord>,
    /// The cells that are not on the shelf here; the last one is asked for.
    lacks: Vec<SpilledBlock>,
    /// When the last piece came.
    since: u64,
}

/// A checkpoint that goes out: the base, as long as it is that one.
#[derive(Debug)]
pub(crate) struct Outgoing {
    position: Position,
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
        ground: &mut Context<'_>,
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
        self.send_to_late_ones(ground, outputs)?;
        let asked = self.checkpoint_asked;
        let pause = asked > 0 && now.saturating_sub(asked) < CHECKPOINT_MICROS_MAX;
        if self.base.blob.is_none() || !(self.is_due() && !pause || self.checkpoint_wanted) {
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

    /// There is so much log that the next recovery would take too long, or a program of another version
    /// could not begin from the last one.
    fn is_due(&self) -> bool {
        let Settings { checkpoint_bytes, recovery_micros, .. } = self.settings;
        let busy = self.session.as_ref().map_or(0, |session| session.busy_micros);
        checkpoint_bytes > 0 && self.log_bytes >= checkpoint_bytes
            || recovery_micros > 0 && busy >= recovery_micros
            || self.ledger.upgrading.is_none()
                && self.base.ledger.program_version != self.ledger.program_version
    }

    /// A replica that was away when the last checkpoint was handed on has a longer log than the others,
    /// and after an upgrade its programs could not begin.
    fn send_to_late_ones(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        let (base, known) = (self.base.position, &self.known);
        if self.base.blob.is_none() {
            return Ok(());
        }
        let is_late = |id: &ReplicaId| known.get(id).is_some_and(|known| known.status.base < base);
        let replicas = self.settings.replicas.iter().copied();
        let late: Vec<ReplicaId> = replicas.filter(is_late).collect();
        self.late.retain(|id, _| late.contains(id));
        for to in late {
            let since = *self.late.entry(to).or_insert(now);
            if now.saturating_sub(since) < LATE_MICROS_MAX || self.outgoing.contains_key(&to) {
                continue;
            }
            self.late.insert(to, now);
            self.outgoing.insert(to, Outgoing { position: base, number: 0, moved: now });
            self.send_piece(ground, to, outputs)?;
        }
        Ok(())
    }

    fn take_if_wanted(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(session) = self.session.as_mut().filter(|_| self.checkpoint_wanted) else {
            return Ok(());
        };
        if self.base.blob.is_some() && session.is_live_at(self.base.position) {
            // Nothing has come since the last one; others may not have it.
            session.go_on();
            self.checkpoint_wanted = false;
            return self.hand_on(ground, outputs);
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
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        let quiet = |taking: &mut Taking| {
            let spoilt = taking.spoilt;
            taking.ended.as_mut().is_some_and(|ended| is_quiet(ended, now) || spoilt)
        };
        let Some(session) = &mut self.session else { return Ok(()) };
        session.rests_since.take_if(|since| now.saturating_sub(*since) > REST_MICROS);
        let Some(taking) = session.taking.take_if(quiet) else { return Ok(()) };
        let (Some(writer), Some(ended)) = (self.writing.take(), &taking.ended) else {
            return Ok(());
        };
        let crc = ended.crc;
        if taking.spoilt {
            self.checkpoint_wanted = true;
            self.shelf.doubt();
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
        ground: &mut Context<'_>,
        taking: Taking,
        mut writer: BlobWriter,
        crc: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<(), Garbled>, StoreError> {
        if writer.crc() != crc {
            writer.drop_all(ground.store, &ground.space)?;
            return Ok(Err(Garbled("a checkpoint whose checksum is right".into())));
        }
        if taking.position <= self.base.position {
            self.shelf.doubt();
            writer.drop_all(ground.store, &ground.space)?;
            return Ok(Ok(()));
        }
        let Taking { position, term, ledger, spoken, .. } = taking;
        let said = spoken.expect("a checkpoint ends after it has begun");
        let (blob, log_bytes) = (writer.blob(), self.log_bytes);
        let state_bytes = blob.bytes;
        let voice = writer.put_voice(ground.store, &ground.space, &said.voice)?;
        let (blob, cells) = (Some(blob), said.cells);
        let record = BaseRecord { position, term, ledger, blob, voice, cells };
        outputs.push(Output::Note(format!(
            "checkpoint of '{}' at input {}: {} bytes, for {log_bytes} bytes of log",
            self.name, record.ledger.inputs, state_bytes
        )));
        self.adopt(ground, record)?;
        self.hand_on(ground, outputs)?;
        Ok(Ok(()))
    }

    /// Gives the base to all others.
    fn hand_on(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let others: Vec<ReplicaId> =
            self.settings.replicas.iter().copied().filter(|id| *id != self.me).collect();
        for to in others {
            let (position, moved) = (self.base.position, ground.now.steady_micros);
            self.outgoing.insert(to, Outgoing { position, number: 0, moved });
            self.send_piece(ground, to, outputs)?;
        }
        Ok(())
    }

    fn send_piece(
        &mut self,
        ground: &mut Context<'_>,
        to: ReplicaId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(out) = self.outgoing.get(&to) else { return Ok(()) };
        let blob = self.base.blob.expect("what is handed on has a state");
        let (position, number) = (out.position, out.number);
        if self.base.position != position {
            self.outgoing.remove(&to);
            return Ok(());
        }
        let pieces = self.base.pieces();
        let bytes = if number < pieces {
            read_chunk(ground.store, &ground.space, &blob, number)?.unwrap_or_default()
        } else {
            Bytes::new()
        };
        let last = (number + 1 >= pieces).then(|| Box::new(self.base.clone()));
        outputs.push(Output::Peer { to, message: Peer::Chunk { position, number, bytes, last } });
        Ok(())
    }

    pub(crate) fn chunk_taken(
        &mut self,
        ground: &mut Context<'_>,
        from: ReplicaId,
        position: Position,
        number: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(out) = self.outgoing.get_mut(&from) else { return Ok(()) };
        if out.position != position || out.number != number {
            return Ok(());
        }
        out.number += 1;
        out.moved = ground.now.steady_micros;
        if out.number >= self.base.pieces() {
            self.outgoing.remove(&from);
            return Ok(());
        }
        self.send_piece(ground, from, outputs)
    }

    /// A piece of another replica's checkpoint.
    pub(crate) fn chunk_came(
        &mut self,
        ground: &mut Context<'_>,
        from: ReplicaId,
        (position, number): (Position, u32),
        bytes: &Bytes,
        last: Option<Box<BaseRecord>>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        if number == 0 {
            // Two send the same one: the first goes on, as long as it does.
            let is_coming = self.incoming.as_ref().is_some_and(|incoming| {
                let moves = now.saturating_sub(incoming.since) < 2 * PIECE_MICROS_MAX;
                let lasts = incoming.whole.is_some() || (moves && incoming.from != from);
                incoming.position >= position && lasts
            });
            if is_coming {
                return Ok(());
            }
            if let Some(former) = self.incoming.take() {
                former.writer.drop_all(ground.store, &ground.space)?;
                self.shelf.doubt();
            }
            if position <= self.base.position {
                return Ok(());
            }
            let writer = self.new_state();
            let (whole, lacks) = (None, Vec::new());
            self.incoming = Some(Incoming { from, position, writer, whole, lacks, since: now });
        }
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        let expected = (incoming.from, incoming.position, incoming.writer.next());
        if expected != (from, position, number) || incoming.whole.is_some() {
            return Ok(());
        }
        if !bytes.is_empty() {
            incoming.writer.put(ground.store, &ground.space, bytes)?;
        }
        incoming.since = now;
        if let Some(record) = last {
            let said = self.session.as_mut().map(|session| &mut session.voice);
            self.shelf.put_those_of(ground.store, &ground.space, &record.cells, said)?;
            let lacks = record.cells.iter().filter(|cell| !self.shelf.has(cell));
            incoming.lacks = lacks.rev().cloned().collect();
            incoming.whole = Some(*record);
        }
        outputs.push(Output::Peer { to: from, message: Peer::ChunkStored { position, number } });
        self.ask_for_cell(outputs);
        self.adopt_incoming(ground, outputs)
    }

    /// A checkpoint's record names the cells that belong to it. Those that are not here are asked for.
    fn ask_for_cell(&self, outputs: &mut Vec<Output>) {
        let Some(Incoming { from, position, lacks, .. }) = &self.incoming else { return };
        if let Some(cell) = lacks.last() {
            let message = Peer::WantBlock { position: *position, id: cell.id.clone() };
            outputs.push(Output::Peer { to: *from, message });
        }
    }

    /// Another replica lacks a cell of the checkpoint that it was given. Of an earlier one it is not
    /// sought: the replica will be given this one.
    pub(crate) fn cell_wanted(
        &self,
        ground: &Context<'_>,
        from: ReplicaId,
        (position, id): (Position, SpillBlockId),
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if self.base.position != position {
            return Ok(());
        }
        if let Some(piece) = self.shelf.read(ground.store, &ground.space, &id)? {
            outputs.push(Output::Peer {
                to: from,
                message: Peer::SpillBlock { position, id, run: piece },
            });
        }
        Ok(())
    }

    pub(crate) fn cell_came(
        &mut self,
        ground: &mut Context<'_>,
        from: ReplicaId,
        (position, id, piece): (Position, SpillBlockId, Run),
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        let expected = (incoming.from, incoming.position) == (from, position);
        let wanted = incoming.lacks.last().filter(|cell| expected && cell.id == id);
        if wanted.is_none_or(|wanted| piece.first > wanted.first) {
            return Ok(());
        }
        incoming.lacks.pop();
        incoming.since = ground.now.steady_micros;
        self.shelf.put(ground.store, &ground.space, vec![(id, piece)])?;
        self.ask_for_cell(outputs);
        self.adopt_incoming(ground, outputs)
    }

    /// A checkpoint that is here as a whole comes into force when this replica has come so far, and its
    /// program, too: the log before it may be cut then. A standby's program that does not come so far
    /// for long begins anew from there.
    pub(crate) fn adopt_incoming(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(incoming) = &self.incoming else { return Ok(()) };
        let position = incoming.position;
        let waited = ground.now.steady_micros.saturating_sub(incoming.since);
        let is_here = incoming.whole.is_some() && incoming.lacks.is_empty();
        if !is_here && waited > 2 * PIECE_MICROS_MAX {
            // Its sender has given up, too.
            self.shelf.doubt();
            self.discarded.extend(self.incoming.take().map(|incoming| incoming.writer));
            return Ok(());
        }
        if !is_here || position > self.position {
            return Ok(());
        }
        if self.session.as_ref().is_some_and(|session| !session.is_past(position)) {
            if self.office.is_some() || waited < CHECKPOINT_MICROS_MAX {
                return Ok(());
            }
            self.close_session("RELOAD", "a later checkpoint is here", outputs);
        }
        let incoming = self.incoming.take().expect("it is ready");
        self.shelf.doubt();
        let mut record = incoming.whole.expect("it is whole");
        let good = record.is_told_by(&incoming.writer);
        if !good {
            outputs.push(Output::Note(format!(
                "a checkpoint of '{}' came from replica {} with a wrong checksum: it is not taken",
                self.name, incoming.from
            )));
        }
        if !good || record.position <= self.base.position {
            return incoming.writer.drop_all(ground.store, &ground.space);
        }
        // Its pieces have a name of their own here.
        let name = incoming.writer.blob().name;
        record.blob = record.blob.map(|blob| Blob { name, ..blob });
        self.adopt(ground, record)
    }
}

/// Once in each tick.
fn is_quiet(ended: &mut Ended, now: u64) -> bool {
    ended.ticks += 1;
    ended.silent_ticks += 1;
    let is_heard = ended.silent_ticks > QUIET_TICKS || ended.ticks > LOUD_TICKS;
    is_heard && now.saturating_sub(ended.at) > QUIET_MICROS
}
