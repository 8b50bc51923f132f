//! Attending to the program: what it says is taken in, what it needs is delivered.

use bytes::Bytes;
use protocol::immortal::{Fate, Garbled, Message, ToNode, ToProgram, count_messages, messages};
use storage::StoreError;

use crate::door::MESSAGE_BYTES_MAX;
use crate::entry::{Entry, GenesisEnd, Mark};
use crate::instance::{Instance, encode_voice};
use crate::io::{Context, Diverged, Held, Output, describe};
use crate::session::{Ended, Fed, Genesis, Phase, Spoken};
use crate::voice::{AWAITS_MAX, DESTINATIONS_MAX};

/// A program that fails so often in a row on the same input is not let in again.
const TRIES_MAX: u32 = 3;

/// What an instance may be called, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

impl Instance {
    /// Bytes of the program.
    pub(crate) fn heard(
        &mut self,
        ground: &mut Context<'_>,
        program: u64,
        bytes: &Bytes,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(session) = self.session.as_mut().filter(|s| s.program == program) else {
            return Ok(());
        };
        session.heard = ground.now.steady_micros;
        let mut said = Vec::new();
        let heard = session.hear(bytes, &mut said);
        for frame in said {
            // It may have been closed by the frame before.
            if self.session.as_ref().is_none_or(|s| s.program != program) {
                return Ok(());
            }
            if let Err(why) = self.said(ground, frame, outputs)? {
                self.close_session("BAD_FRAME", &why.0, outputs);
                return Ok(());
            }
        }
        if let Err(why) = heard {
            self.close_session("BAD_FRAME", &why.0, outputs);
        }
        Ok(())
    }

    fn said(
        &mut self,
        ground: &mut Context<'_>,
        frame: ToNode,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<(), Garbled>, StoreError> {
        let session = self.session.as_mut().expect("the caller has looked");
        let speaks = matches!(session.phase, Phase::Replaying { .. } | Phase::Live);
        let taken = match frame {
            ToNode::Send { destination, count, messages } if speaks => {
                self.sent(destination, count, messages)
            }
            ToNode::Await { .. } if speaks && session.voice.awaits.len() >= AWAITS_MAX => {
                Err(Garbled(format!("at most {AWAITS_MAX} timers and side effects at a time")))
            }
            ToNode::Await { id, due } if speaks => {
                session.voice.await_for(id, due);
                Ok(())
            }
            ToNode::Cancel { id } if speaks => {
                session.voice.cancel(id);
                Ok(())
            }
            ToNode::Done { input } if speaks => {
                let done = session.done(input);
                self.look_again(outputs);
                done
            }
            ToNode::Impulse { number, destination, message } => {
                self.impulse(number, destination, message)
            }
            ToNode::Result { payload, .. } if payload.len() > MESSAGE_BYTES_MAX => {
                Err(Garbled(format!("a RESULT of up to {MESSAGE_BYTES_MAX} bytes")))
            }
            ToNode::Result { id, status, payload } => self.take_result(id, status, payload),
            ToNode::Checkpoint { request } => return self.checkpoint_begins(ground, request),
            ToNode::Chunk(bytes) => return self.chunk_said(ground, bytes, outputs),
            ToNode::CheckpointEnd { crc } => return self.checkpoint_ends(ground, crc, outputs),
            ToNode::Initial(bytes) => match &mut session.phase {
                Phase::Genesis(_) if bytes.len() > MESSAGE_BYTES_MAX => {
                    Err(Garbled(format!("an INITIAL of up to {MESSAGE_BYTES_MAX} bytes")))
                }
                Phase::Genesis(genesis) => {
                    genesis.initial = bytes;
                    Ok(())
                }
                _ => Err(Garbled::expected("INITIAL only after GENESIS")),
            },
            ToNode::AskCheckpoint => {
                self.checkpoint_wanted = true;
                Ok(())
            }
            ToNode::Pong { .. } => Ok(()),
            ToNode::Fault { input, text } => {
                self.program_failed(input, text, outputs);
                self.close_session("FAULT", "the program said that it failed", outputs);
                Ok(())
            }
            ToNode::Hello(_) => Err(Garbled("a second HELLO".into())),
            _ => Err(Garbled("outputs before a state was loaded".into())),
        };
        Ok(taken)
    }

    fn sent(&mut self, destination: String, count: u64, bytes: Bytes) -> Result<(), Garbled> {
        let session = self.session.as_mut().expect("the caller has looked");
        if destination.len() > NAME_BYTES_MAX {
            return Err(Garbled(format!("a destination of up to {NAME_BYTES_MAX} bytes")));
        }
        let found = count_messages(&bytes)?;
        if found != count || count == 0 {
            return Err(Garbled(format!("{count} messages in a SEND, not {found}")));
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Garbled(format!("a SEND of up to {MESSAGE_BYTES_MAX} bytes")));
        }
        let destination = if destination.is_empty() { self.name.clone() } else { destination };
        if let Some(taking) = session.taking.as_mut().filter(|taking| taking.spoken.is_some()) {
            taking.spoilt |= !session.door.confirms();
        }
        let streams = &session.voice.streams;
        if streams.len() >= DESTINATIONS_MAX && !streams.contains_key(&destination) {
            return Err(Garbled(format!("at most {DESTINATIONS_MAX} destinations")));
        }
        let first = streams.get(&destination).map_or(1, |stream| stream.count + 1);
        session.remember(&destination, first, &bytes);
        let fine = !session.door.confirms();
        session.voice.send(&destination, count, bytes, fine)?;
        if let Some(office) = &mut self.office {
            office.touched.insert((destination, false));
        }
        Ok(())
    }

    /// A checkpoint begins: of the first state, or one that was asked for.
    fn checkpoint_begins(
        &mut self,
        ground: &mut Context<'_>,
        request: u64,
    ) -> Result<Result<(), Garbled>, StoreError> {
        let session = self.session.as_mut().expect("the caller has looked");
        if let Phase::Genesis(genesis) = &mut session.phase
            && !genesis.begun
        {
            genesis.begun = true;
            self.writing = Some(self.new_state());
            return Ok(Ok(()));
        }
        let handled = session.is_told_all_done();
        match &mut session.taking {
            Some(taking) if taking.request == request && taking.spoken.is_none() => {
                if !handled {
                    return Ok(Err(Garbled("DONE for all inputs before CHECKPOINT".into())));
                }
                // The checkpoint only names them.
                let cells = session.voice.shelve_down_to(0);
                self.shelf.put(ground.store, &ground.space, cells)?;
                let voice = encode_voice(&session.voice);
                taking.spoken = Some(Spoken { voice, cells: session.voice.shelved() });
                self.writing = Some(self.new_state());
                Ok(Ok(()))
            }
            _ => Ok(Err(Garbled("a checkpoint that nobody asked for".into()))),
        }
    }

    fn chunk_said(
        &mut self,
        ground: &mut Context<'_>,
        bytes: Bytes,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<(), Garbled>, StoreError> {
        let session = self.session.as_mut().expect("the caller has looked");
        let Some(writer) = &mut self.writing else {
            return Ok(Err(Garbled("CHECKPOINT before its chunks".into())));
        };
        if let Phase::Genesis(_) = session.phase {
            let first = writer.next() == 0;
            writer.count_only(&bytes);
            let entry = Entry::Genesis { first, chunk: bytes, last: None };
            self.propose_bare(entry, outputs);
        } else if !bytes.is_empty() {
            writer.put(ground.store, &ground.space, &bytes)?;
        }
        if let Some(session) = &mut self.session
            && let Some(taking) = &mut session.taking
        {
            taking.since = ground.now.steady_micros;
        }
        Ok(Ok(()))
    }

    fn checkpoint_ends(
        &mut self,
        ground: &mut Context<'_>,
        crc: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<Result<(), Garbled>, StoreError> {
        let session = self.session.as_mut().expect("the caller has looked");
        let Some(writer) = self.writing.take() else {
            return Ok(Err(Garbled("CHECKPOINT before its end".into())));
        };
        let empty = writer.next() == 0;
        if let Phase::Genesis(genesis) = &mut session.phase {
            if writer.crc() != crc {
                return Ok(Err(Garbled("a checkpoint whose checksum is right".into())));
            }
            genesis.given = true;
            let initial = genesis.initial.clone();
            let program_version = session.hello.program_version;
            let last = Some(GenesisEnd { crc, initial, program_version });
            let entry = Entry::Genesis { first: empty, chunk: Bytes::new(), last };
            self.propose_bare(entry, outputs);
            return Ok(Ok(()));
        }
        if !session.door.confirms()
            && let Some(taking) = &mut session.taking
        {
            // What it has still to say comes now, if there is something.
            let at = ground.now.steady_micros;
            taking.ended = Some(Ended { at, crc, ticks: 0, silent_ticks: 0 });
            self.writing = Some(writer);
            return Ok(Ok(()));
        }
        match session.taking.take() {
            Some(taking) => self.checkpoint_taken(ground, taking, writer, crc, outputs),
            None => {
                writer.drop_all(ground.store, &ground.space)?;
                Ok(Ok(()))
            }
        }
    }

    /// The program has gone, or its connection.
    pub(crate) fn detached(&mut self, program: u64, outputs: &mut Vec<Output>) {
        let Some(session) = self.session.as_ref().filter(|s| s.program == program) else { return };
        let (done, told) = (session.voice.done, session.told);
        let confirms = session.door.confirms();
        let may_fail = confirms && !matches!(session.phase, Phase::Genesis(_));
        // Of a program that does not confirm inputs it is known only of an upgrade at what it failed: it is
        // told nothing after it before it has made it.
        let upgrading = self.open_upgrade_told().filter(|upgrading| upgrading.input > done);
        if may_fail && told > done {
            self.program_failed(done + 1, "it went without a word".into(), outputs);
        } else if let Some(upgrading) = upgrading.filter(|_| !confirms) {
            let text = "it went in the upgrade without a word".into();
            self.program_failed(upgrading.input, text, outputs);
        }
        self.session = None;
        self.shelf.doubt();
        self.discarded.extend(self.writing.take());
        self.forget_primary();
    }

    /// A program failed on an input. After a few times it is held.
    pub(crate) fn program_failed(&mut self, input: u64, text: String, outputs: &mut Vec<Output>) {
        let (last, tries) = self.failing;
        self.failing = if last == input { (input, tries + 1) } else { (input, 1) };
        let tries = self.failing.1;
        outputs.push(Output::Note(format!(
            "the program of '{}' failed on input {input} ({tries} times in a row): {text}",
            self.name
        )));
        if tries >= TRIES_MAX {
            let message = String::new();
            self.held = Some(Held { input, tries, text, message });
        }
    }

    /// The message on which programs fail, for people.
    pub(crate) fn name_the_message(&mut self, ground: &Context<'_>) {
        let Some(held) = self.held.as_ref().filter(|held| held.message.is_empty()) else { return };
        let found = self.logged_message(ground, held.input).map(|(name, message)| {
            let from = if name.is_empty() { "the node".to_owned() } else { format!("'{name}'") };
            format!("{} from {from}", describe(&message))
        });
        if let Some(held) = &mut self.held {
            held.message =
                found.unwrap_or_else(|| "a message that is no longer in the log".to_owned());
        }
    }

    /// An input, and who sent it, if the log still has it.
    pub(crate) fn logged_message(
        &self,
        ground: &Context<'_>,
        input: u64,
    ) -> Option<(String, Message)> {
        let mut ledger = self.base.ledger.clone();
        let mut position = self.base.position;
        loop {
            let entries = ground.entries.after(position, 1 << 20);
            (position, ..) = *entries.last()?;
            for (_, _, bytes) in entries {
                let Ok(entry) = Entry::decode(bytes) else { continue };
                let Ok(logged) = ledger.log(&entry) else { continue };
                if (logged.first..logged.first + logged.count).contains(&input) {
                    let place = usize::try_from(input - logged.first).ok()?;
                    return nth_message(&logged.blocks, place);
                }
            }
        }
    }

    pub(crate) fn drained(&mut self, program: u64, bytes: u64) {
        if let Some(session) = self.session.as_mut().filter(|s| s.program == program) {
            session.undrained = session.undrained.saturating_sub(bytes);
        }
    }

    fn look_again(&mut self, outputs: &mut Vec<Output>) {
        let Some(session) = &mut self.session else { return };
        if session.voice.done >= self.failing.0 {
            self.failing = (0, 0);
            session.careful = false;
        }
        if let Fed::Differs(mark) = session.look_again() {
            self.has_diverged(&mark, outputs);
        }
    }

    fn has_diverged(&mut self, mark: &Mark, outputs: &mut Vec<Output>) {
        if !self.settings.divergence_alarm {
            return;
        }
        let Some(session) = &self.session else { return };
        let (input, expected, found) = match mark {
            Mark::Input { input, digest } => {
                let mine = session.voice.digest_at(*input).unwrap_or_default();
                (*input, format!("digest {digest:016x}"), format!("digest {mine:016x}"))
            }
            Mark::Stream { destination, count, crc } => (
                session.told,
                format!("checksum {crc:08x} after {count} messages to {destination}"),
                "another one".to_owned(),
            ),
        };
        let after = session.voice.point_before(input);
        let found = match session.recent.back() {
            Some(last) => format!("{found}; it said last: {}", last_said(last)),
            None => format!("{found}; it has said nothing"),
        };
        let diverged = Diverged { input, after, expected, found };
        outputs.push(Output::Note(format!(
            "DIVERGED: the program of '{}' on this node said something else than was recorded, in \
             handling inputs {} to {input}: expected {}, found {}",
            self.name,
            after + 1,
            diverged.expected,
            diverged.found
        )));
        self.diverged = Some(diverged);
        outputs.push(self.repro());
        self.ask_what_differs(outputs);
        self.close_session(
            "DIVERGED",
            "this program said something else than was recorded; see the document of the instance",
            outputs,
        );
    }

    /// Brings the program on: the first state, a loaded state, what was logged.
    pub(crate) fn mind_session(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.name_the_message(ground);
        let Some(session) = &mut self.session else { return Ok(()) };
        if self.settings.paused {
            return Ok(());
        }
        if session.phase == Phase::Waiting {
            if self.base.blob.is_some() {
                session.load(ground.store, &ground.space, &self.base)?;
                session.backlog = self.log_bytes;
            } else if self.office.as_ref().is_some_and(crate::office::Office::is_idle)
                && self.ledger.genesis.is_none()
            {
                // Idle: an earlier program's first state may be on its way into the log.
                session.phase = Phase::Genesis(Genesis::default());
                session.tell(&ToProgram::Genesis);
            }
        }
        if !session.go_on_loading(ground.store, &ground.space, self.ledger.inputs)? {
            let text = "a later checkpoint has taken the place of the one that was being loaded";
            self.close_session("RELOAD", text, outputs);
            return Ok(());
        }
        let fed = session.feed(ground, &self.ledger, &self.name, (self.position, self.term));
        if let Some(why) = session.door.why_close() {
            self.close_session("RELOAD", &why, outputs);
            return Ok(());
        }
        match fed {
            Ok(Fed::Well) => {}
            Ok(Fed::Differs(mark)) => self.has_diverged(&mark, outputs),
            Ok(Fed::Outdated(version)) => {
                let text = format!("'{}' is at program version {version} now", self.name);
                self.close_session("UPGRADED", &text, outputs);
            }
            Err(why) => {
                outputs.push(Output::Note(format!("an entry cannot be delivered: {why}")));
                self.close_session("RELOAD", &why.0, outputs);
            }
        }
        Ok(())
    }

    /// An impulse, of the primary's program only.
    fn impulse(&mut self, number: u64, destination: String, message: Bytes) -> Result<(), Garbled> {
        let session = self.session.as_mut().expect("the caller has looked");
        if destination.len() > NAME_BYTES_MAX {
            return Err(Garbled(format!("a destination of up to {NAME_BYTES_MAX} bytes")));
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Garbled(format!("an IMPULSE of up to {MESSAGE_BYTES_MAX} bytes")));
        }
        let mut all = messages(message.clone());
        let one = matches!(all.next(), Some(Ok(Message::Impulse { .. }))) && all.next().is_none();
        if !one {
            return Err(Garbled::expected("one message of kind IMPULSE"));
        }
        let destination = if destination.is_empty() { self.name.clone() } else { destination };
        let (is_primary, number_of) = (session.is_primary, (session.program, number));
        let taken = is_primary && self.take_impulse(number_of, &destination, message);
        if !taken {
            // First that there is no room: whoever hears the fate waits for it.
            self.is_short(&destination);
        }
        if !taken && let Some(session) = &mut self.session {
            session.tell(&ToProgram::Fate { number, fate: Fate::Lost, input: 0 });
        }
        Ok(())
    }
}

fn nth_message(blocks: &Bytes, place: usize) -> Option<(String, Message)> {
    let all = protocol::immortal::blocks(blocks.clone()).flatten();
    all.flat_map(|block| {
        messages(block.messages).flatten().map(move |m| (block.head.name.clone(), m))
    })
    .nth(place)
}

fn last_said(recent: &crate::session::Recent) -> String {
    let all: Vec<Message> = messages(recent.messages.clone()).flatten().collect();
    let number = recent.first + all.len() as u64 - 1;
    let what = all.last().map_or_else(String::new, describe);
    format!("message {number} to '{}': {what}", recent.destination)
}
