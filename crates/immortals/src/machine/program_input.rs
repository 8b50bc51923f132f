//! What an attached program says. Frames that only a leader can act on are returned to the caller.

use bytes::Bytes;
use protocol::immortal::{Garbled, Message, Status, ToNode, count_messages, messages};
use protocol::instance_write::is_link;
use protocol::links::LINK_BYTES_MAX;
use storage::StoreError;

use crate::adapter::MESSAGE_BYTES_MAX;
use crate::base::record::encode_output;
use crate::context::Context;
use crate::io::Output;
use crate::machine::instance::Instance;
use crate::output::awaits::AWAITS_MAX;
use crate::output::links::{ToStream, to_partitions};
use crate::output::output_state::DESTINATIONS_MAX;
use crate::seat::running::Running;
use crate::seat::states::{Genesis, GenesisPart, Seat};
use crate::seat::taking::{End, Given, Part, Taking};
use crate::wire::LetGo;

/// The longest name of an instance, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// Something that a program said and that only a leader acts on.
#[derive(Debug)]
pub(crate) enum ForLeader {
    /// There is something new to send to these destinations.
    Sent {
        destinations: Vec<String>,
    },
    Impulse {
        number: u64,
        destination: String,
        message: Bytes,
    },
    Result {
        id: u64,
        status: Status,
        payload: Bytes,
    },
    /// The first state begins.
    GenesisBegins,
    GenesisChunk(Bytes),
    GenesisEnds {
        crc: u32,
        initial: Bytes,
        program_version: u64,
    },
}

/// Why a frame of a program cannot be taken.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The program does not keep to the protocol. It is closed, and the replica goes on.
    Program(Garbled),
    Store(StoreError),
}

impl From<Garbled> for Fault {
    fn from(why: Garbled) -> Self {
        Self::Program(why)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn broken<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Program(Garbled(text.into())))
}

impl Instance {
    /// Takes bytes of the program. What only a leader acts on goes to `lead`.
    pub(crate) fn read_program(
        &mut self,
        cx: &mut Context<'_>,
        program: u64,
        bytes: &Bytes,
        outputs: &mut Vec<Output>,
        lead: &mut dyn FnMut(&mut Self, &mut Context<'_>, ForLeader) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        let Some(connection) = self.seat.connection_of(program) else { return Ok(()) };
        let was_taking = connection.adapter.is_taking_checkpoint();
        let mut frames = Vec::new();
        let heard = connection.read(bytes, now, &mut frames);
        let is_taking = connection.adapter.is_taking_checkpoint();
        if let Seat::Running(running) = &mut self.seat {
            if !bytes.is_empty() {
                running.checkpoint.heard();
            }
            if was_taking && !is_taking {
                running.checkpoint.adapter_got_one(now);
            }
        }
        for frame in frames {
            // The frame before may have closed the connection.
            if self.seat.connection_of(program).is_none() {
                return Ok(());
            }
            let taken = self.take_frame(cx, frame, outputs).and_then(|more| match more {
                Some(more) => lead(self, cx, more),
                None => Ok(()),
            });
            match taken {
                Ok(()) => {}
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::Program(why)) => {
                    self.close_seat("BAD_FRAME", &why.0, outputs);
                    return Ok(());
                }
            }
        }
        if let Err(why) = heard {
            self.close_seat("BAD_FRAME", &why.0, outputs);
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        cx: &mut Context<'_>,
        frame: ToNode,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<ForLeader>, Fault> {
        match frame {
            ToNode::Send { destination, count, messages } => {
                return self.take_send(destination, count, messages).map(Some);
            }
            ToNode::Await { id, due } => {
                let output = &mut self.running()?.output;
                if output.awaits.len() >= AWAITS_MAX {
                    return broken(format!(
                        "at most {AWAITS_MAX} timers and side effects at a time"
                    ));
                }
                output.await_for(id, due);
            }
            ToNode::Cancel { id } => self.running()?.output.cancel(id),
            ToNode::Done { input } => self.take_done(input, outputs)?,
            ToNode::Impulse { number, destination, message } => {
                return self.take_impulse(number, destination, message).map(Some);
            }
            ToNode::Result { payload, .. } if payload.len() > MESSAGE_BYTES_MAX => {
                return broken(format!("a RESULT of up to {MESSAGE_BYTES_MAX} bytes"));
            }
            ToNode::Result { id, status, payload } => {
                return Ok(Some(ForLeader::Result { id, status, payload }));
            }
            ToNode::Checkpoint { request } => return self.checkpoint_begins(cx, request),
            ToNode::Chunk(bytes) => return self.chunk_said(cx, bytes),
            ToNode::CheckpointEnd { crc } => return self.checkpoint_ends(cx, crc, outputs),
            ToNode::Initial(bytes) => self.take_initial(bytes)?,
            ToNode::AskCheckpoint => self.checkpoint.is_wanted = true,
            ToNode::Pong { .. } => {}
            ToNode::Fault { input, text } => {
                self.program_failed(input, text, outputs);
                self.close_seat("FAULT", "the program said that it failed", outputs);
            }
            ToNode::Hello(_) => return broken("a second HELLO"),
        }
        Ok(None)
    }

    fn running(&mut self) -> Result<&mut Running, Fault> {
        match self.seat.running_mut() {
            Some(running) => Ok(running),
            None => broken("outputs before a state was loaded"),
        }
    }

    fn destination(&self, name: String) -> Result<String, Fault> {
        let most = if is_link(&name) { LINK_BYTES_MAX } else { NAME_BYTES_MAX };
        if name.len() > most {
            return broken(format!("a destination of up to {most} bytes"));
        }
        Ok(if name.is_empty() { self.identity.name.clone() } else { name })
    }

    fn take_send(
        &mut self,
        destination: String,
        count: u64,
        bytes: Bytes,
    ) -> Result<ForLeader, Fault> {
        let destination = self.destination(destination)?;
        let found = count_messages(&bytes)?;
        if found != count || count == 0 {
            return broken(format!("{count} messages in a SEND, not {found}"));
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return broken(format!("a SEND of up to {MESSAGE_BYTES_MAX} bytes"));
        }
        let partitions = self.settings.partitions;
        let running = self.running()?;
        let streams = if is_link(&destination) {
            to_partitions(&destination, bytes, partitions)?
        } else {
            vec![ToStream { name: destination, count, messages: bytes }]
        };
        let mut destinations = Vec::new();
        for ToStream { name, count, messages } in streams {
            let known = &running.output.streams;
            if known.len() >= DESTINATIONS_MAX && !known.contains_key(&name) {
                return broken(format!("at most {DESTINATIONS_MAX} destinations"));
            }
            running.sent(&name, count, messages)?;
            destinations.push(name);
        }
        Ok(ForLeader::Sent { destinations })
    }

    fn take_done(&mut self, input: u64, outputs: &mut Vec<Output>) -> Result<(), Fault> {
        let done = self.running()?.done(input);
        let Seat::Running(running) = &mut self.seat else { return Ok(()) };
        if self.health.handled(running.output.done) {
            running.needs_no_care();
        }
        if let Some(mark) = running.check_again() {
            self.has_diverged(&mark, outputs);
        }
        Ok(done?)
    }

    fn take_impulse(
        &self,
        number: u64,
        destination: String,
        message: Bytes,
    ) -> Result<ForLeader, Fault> {
        let destination = self.destination(destination)?;
        if is_link(&destination) {
            return broken("an IMPULSE to an instance: a document takes messages of handlers only");
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return broken(format!("an IMPULSE of up to {MESSAGE_BYTES_MAX} bytes"));
        }
        let mut all = messages(message.clone());
        let is_one =
            matches!(all.next(), Some(Ok(Message::Impulse { .. }))) && all.next().is_none();
        if !is_one {
            return Err(Garbled::expected("one message of kind IMPULSE").into());
        }
        Ok(ForLeader::Impulse { number, destination, message })
    }

    fn take_initial(&mut self, bytes: Bytes) -> Result<(), Fault> {
        match &mut self.seat {
            Seat::Genesis(_) if bytes.len() > MESSAGE_BYTES_MAX => {
                broken(format!("an INITIAL of up to {MESSAGE_BYTES_MAX} bytes"))
            }
            Seat::Genesis(genesis) => {
                genesis.initial = bytes;
                Ok(())
            }
            _ => Err(Garbled::expected("INITIAL only after GENESIS").into()),
        }
    }

    // Checkpoints.

    /// A checkpoint begins: the first state, or one that was asked for.
    fn checkpoint_begins(
        &mut self,
        cx: &mut Context<'_>,
        request: u64,
    ) -> Result<Option<ForLeader>, Fault> {
        let running = match &mut self.seat {
            Seat::Genesis(Genesis { part: part @ GenesisPart::Asked, .. }) => {
                *part = GenesisPart::Giving;
                return Ok(Some(ForLeader::GenesisBegins));
            }
            Seat::Running(running) => running,
            _ => return broken("a checkpoint that nobody asked for"),
        };
        let has_handled_all = running.has_handled_all();
        match &mut running.checkpoint.taking {
            Some(taking) if taking.request == request && matches!(taking.part, Part::Asked) => {
                if !has_handled_all {
                    return broken("DONE for all inputs before CHECKPOINT");
                }
                // The checkpoint only names the blocks in the store.
                let blocks = running.output.spill_down_to(0);
                self.spill.put(cx.store, &cx.space, blocks)?;
                let (output, blocks) = (encode_output(&running.output), running.output.spilled());
                let writer = self.base.new_state(cx)?;
                taking.part = Part::Given(Given { writer, output, blocks });
                Ok(None)
            }
            _ => broken("a checkpoint that nobody asked for"),
        }
    }

    fn chunk_said(
        &mut self,
        cx: &mut Context<'_>,
        bytes: Bytes,
    ) -> Result<Option<ForLeader>, Fault> {
        match &mut self.seat {
            Seat::Genesis(Genesis { part: GenesisPart::Giving, .. }) => {
                return Ok(Some(ForLeader::GenesisChunk(bytes)));
            }
            Seat::Running(running) => {
                if let Some(Taking { part: Part::Given(given), since, .. }) =
                    &mut running.checkpoint.taking
                {
                    *since = cx.now.steady_micros;
                    if !bytes.is_empty() {
                        given.writer.put(cx.store, &cx.space, &bytes)?;
                    }
                    return Ok(None);
                }
            }
            _ => {}
        }
        broken("CHECKPOINT before its chunks")
    }

    fn checkpoint_ends(
        &mut self,
        cx: &mut Context<'_>,
        crc: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<ForLeader>, Fault> {
        let running = match &mut self.seat {
            Seat::Genesis(genesis) if genesis.part == GenesisPart::Giving => {
                genesis.part = GenesisPart::Given;
                let initial = std::mem::take(&mut genesis.initial);
                let program_version = genesis.connection.hello.program_version;
                return Ok(Some(ForLeader::GenesisEnds { crc, initial, program_version }));
            }
            Seat::Running(running) => running,
            _ => return broken("CHECKPOINT before its end"),
        };
        let (confirms, now) = (running.connection.confirms(), cx.now.steady_micros);
        let given = |taking: &mut Taking| matches!(taking.part, Part::Given(_));
        let Some(mut taking) = running.checkpoint.taking.take_if(given) else {
            return broken("CHECKPOINT before its end");
        };
        let Part::Given(given) = taking.part else {
            unreachable!("it was looked at when it was taken")
        };
        if confirms {
            taking.part = Part::Given(given);
            self.checkpoint_taken(cx, taking, crc, outputs)?;
        } else {
            // If the program still has something to send, it comes now.
            taking.part = Part::Ended(given, End::new(now, crc));
            running.checkpoint.taking = Some(taking);
        }
        Ok(None)
    }

    // Failures.

    /// The program has gone, or its connection.
    pub(crate) fn detached(&mut self, program: u64, outputs: &mut Vec<Output>) {
        if self.seat.connection_of(program).is_none() {
            return;
        }
        let (code, text) = ("GONE".to_owned(), "it went, or its connection ended".to_owned());
        self.health.let_go = Some(LetGo { code, text, input: self.seat.done() });
        if let Seat::Running(running) = &self.seat {
            let confirms = running.connection.confirms();
            let done = running.output.done;
            if let Some(input) = running.unhandled() {
                self.program_failed(input, "it went without a word".into(), outputs);
            } else if let Some(upgrading) =
                self.open_upgrade_told().filter(|upgrading| !confirms && upgrading.input > done)
            {
                // For a program that does not confirm inputs, the input of the failure is known
                // only if it is an upgrade, since the program is told nothing more before it has
                // made the upgrade.
                let text = "it went in the upgrade without a word".into();
                self.program_failed(upgrading.input, text, outputs);
            }
        }
        if let Some((_, state)) = self.seat.vacate() {
            self.base.discard(state);
        }
        self.spill.look_for_garbage();
    }

    /// A program failed at an input. After a few times it is held.
    pub(crate) fn program_failed(&mut self, input: u64, text: String, outputs: &mut Vec<Output>) {
        let tries = self.health.failed_at(input, text.clone());
        outputs.push(Output::Note(format!(
            "the program of '{}' failed on input {input} ({tries} times in a row): {text}",
            self.identity.name
        )));
    }
}
