//! What the program says that only a leader acts on: impulses, results of side effects, the first
//! state.

use bytes::Bytes;
use protocol::immortal::{BlockHead, Fate, Garbled, Message, SourceKind, Status, ToProgram};

use crate::context::Context;
use crate::history::entry::{GenesisEnd, Origin};
use crate::lead::leader::{Leader, Primary, Reach};
use crate::lead::log_queue::{ImpulseNumber, Pending, Receipt};
use crate::lead::outbound::FlowId;
use crate::lead::state::GenesisUpload;
use crate::machine::program_input::{Fault, ForLeader};
use crate::seat::states::{Genesis, GenesisPart, Seat};

impl Leader<'_> {
    /// # Errors
    /// When the program does not keep to the protocol, or the store fails.
    pub(crate) fn program_said(
        &mut self,
        cx: &mut Context<'_>,
        said: ForLeader,
    ) -> Result<(), Fault> {
        match said {
            ForLeader::Sent { destinations } => {
                let flows = destinations.iter().map(|name| FlowId::stream(name));
                flows.for_each(|id| self.lead.outbound.touch(id));
                Ok(())
            }
            ForLeader::Impulse { number, destination, message } => {
                self.impulse(number, &destination, message);
                Ok(())
            }
            ForLeader::Result { id, status, payload } => self.result(id, status, payload),
            ForLeader::GenesisBegins => {
                let state = self.machine.base.new_state(cx)?;
                let upload = GenesisUpload { state, next: 0, in_flight: 0, end: None };
                let former = self.lead.genesis.replace(upload);
                assert!(
                    former.is_none(),
                    "Invariant: a first state is asked for when no other one is on its way"
                );
                Ok(())
            }
            ForLeader::GenesisChunk(bytes) => self.genesis_chunk(cx, &bytes),
            ForLeader::GenesisEnds { crc, initial, program_version } => {
                self.genesis_ends(GenesisEnd { crc, initial, program_version })
            }
        }
    }

    /// Asks the waiting program for the first state, but not while an earlier program's first state
    /// may be on its way into the log.
    pub(crate) fn ask_for_genesis(&mut self) {
        let has_state =
            self.machine.base.has_state() || self.machine.history.input_state.genesis.is_some();
        if has_state || !self.lead.is_idle() || self.machine.settings.paused {
            return;
        }
        match std::mem::replace(&mut self.machine.seat, Seat::Vacant) {
            Seat::Waiting(mut connection) => {
                connection.tell(&ToProgram::Genesis);
                let (initial, part) = (Bytes::new(), GenesisPart::Asked);
                self.machine.seat = Seat::Genesis(Genesis { connection, initial, part });
            }
            other => self.machine.seat = other,
        }
    }

    fn genesis_chunk(&mut self, cx: &mut Context<'_>, bytes: &Bytes) -> Result<(), Fault> {
        if let Some(genesis) = &mut self.lead.genesis
            && !bytes.is_empty()
        {
            genesis.state.put(cx.store, &cx.space, bytes)?;
        }
        Ok(())
    }

    fn genesis_ends(&mut self, end: GenesisEnd) -> Result<(), Fault> {
        let Some(genesis) = &mut self.lead.genesis else { return Ok(()) };
        if genesis.state.crc() != end.crc {
            return Err(Garbled("a checkpoint whose checksum is right".into()).into());
        }
        genesis.end = Some(end);
        Ok(())
    }

    /// An impulse is taken only from the primary, and only when there is room for it.
    fn impulse(&mut self, number: u64, destination: &str, message: Bytes) {
        let taken = match self.primary() {
            Some(mut primary) => {
                let is_taken = primary.take_impulse(number, destination, message);
                if !is_taken {
                    // The program is told first that there is no room, because a program that hears
                    // the fate then waits for room.
                    primary.is_short(destination);
                }
                is_taken
            }
            None => false,
        };
        if !taken && let Some(connection) = self.machine.seat.connection_mut() {
            connection.tell(&ToProgram::Fate { number, fate: Fate::Lost, input: 0 });
        }
    }

    /// A result goes into the log, or waits for the outcome of an upgrade. A standby's result, or a
    /// second result, is dropped: the log has one already, or will have one.
    ///
    /// # Errors
    /// When too much waits.
    fn result(&mut self, id: u64, status: Status, payload: Bytes) -> Result<(), Fault> {
        let Some(mut primary) = self.primary() else { return Ok(()) };
        if !primary.running.output.awaits.awaits_effect(id) {
            return Ok(());
        }
        if primary.reach == Reach::Nowhere {
            return Ok(primary.lead.upgrade.keep_result(id, status, payload)?);
        }
        primary.log_result(id, status, payload);
        Ok(())
    }
}

impl Primary<'_> {
    /// Puts a result on its way into the log, if the result is still awaited.
    pub(crate) fn log_result(&mut self, id: u64, status: Status, payload: Bytes) {
        let is_awaited = self.running.output.awaits.awaits_effect(id);
        if is_awaited && !self.lead.own.is_resolved(id) {
            self.resolve(id, &Message::Result { id, status, payload });
        }
    }

    /// Puts an impulse on its way. False when there is no room for it.
    fn take_impulse(&mut self, number: u64, destination: &str, message: Bytes) -> bool {
        let id = ImpulseNumber { program: self.running.connection.program, number };
        if destination != self.identity.name {
            let is_kept = self.lead.outbound.impulses.keep(id, destination, message);
            if is_kept {
                self.lead.outbound.touch(FlowId::impulses(destination));
            }
            return is_kept;
        }
        if self.lead.queue.is_full() {
            return false;
        }
        let (kind, name) = (SourceKind::Impulses, self.identity.name.clone());
        let head = BlockHead { kind, name, first: 0, count: 1 };
        let (origin, receipt) = (Origin::Outside, Receipt::Impulse(id));
        self.lead.queue.put(Pending { head, origin, messages: message, receipt });
        true
    }
}
