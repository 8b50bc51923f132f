//! A program that is attached: what it was told, what it has said, how far it has come.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::immortal::{
    Garbled, Hello, Message, SourceKind, ToNode, ToProgram, Welcome, blocks, messages,
};
use protocol::{GroupId, Moment, Position, Term};
use storage::{Space, StateStore, StoreError};

use crate::base::{BaseRecord, read_chunk, read_voice};
use crate::door::{Adapter, FRAME_BYTES_MAX};
use crate::entry::{Entry, Mark, Origin};
use crate::io::Context;
use crate::ledger::{InputState, Logged, one_by_one};
use crate::shelf::SpilledBlock;
use crate::stream::{KeptLimits, copied_if_short};
use crate::voice::{Compared, OutputState};

/// So many bytes of inputs may be on their way to a program.
pub const WINDOW_BYTES: usize = 4 << 20;

/// So many outputs are remembered, to show them when two copies differ, in bytes.
const RECENT_BYTES_MAX: usize = 64 << 10;

/// How much of the log is read at a time, in bytes.
const READ_BYTES: usize = 2 << 20;

/// Where a program stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has begun yet, and another replica's program will.
    Waiting,
    /// It is asked for the state that all copies begin with.
    Genesis(Genesis),
    /// It gets the state of a checkpoint.
    Loading {
        base: Box<BaseRecord>,
        next: u32,
    },
    /// It gets what was logged before it came: all that was applied when it was loaded, and all that there
    /// is, as soon as that is known.
    Replaying {
        applied: u64,
        goal: Option<Position>,
        until: Option<u64>,
    },
    Live,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Genesis {
    pub(crate) initial: Bytes,
    pub(crate) begun: bool,
    /// All of it was given and is on its way into the log.
    pub(crate) given: bool,
}

/// A checkpoint that the program is asked for. While it is, nothing is delivered.
#[derive(Debug)]
pub(crate) struct Taking {
    pub(crate) request: u64,
    pub(crate) position: Position,
    pub(crate) term: Term,
    pub(crate) ledger: InputState,
    pub(crate) since: u64,
    /// Its outputs up to there, once it has begun to answer.
    pub(crate) spoken: Option<Spoken>,
    /// All of it has come.
    pub(crate) ended: Option<Ended>,
    /// The program said something after it had begun to give its state: that is not in the state, and
    /// was said because of inputs that are.
    pub(crate) spoilt: bool,
}

/// What a program had said, as it goes into a checkpoint.
#[derive(Debug)]
pub(crate) struct Spoken {
    /// The voice, encoded.
    pub(crate) voice: Bytes,
    pub(crate) cells: Vec<SpilledBlock>,
}

/// The end of a checkpoint after which something may still be said that is not in it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) at: u64,
    pub(crate) crc: u32,
    /// So often was it looked at since.
    pub(crate) ticks: u32,
    /// So often since anything was heard.
    pub(crate) silent_ticks: u32,
}

/// Inputs that make one DELIVER.
#[derive(Debug)]
struct Portion {
    first: u64,
    count: u64,
    time: Moment,
    blocks: Bytes,
    /// Timers and side effects that were resolved by inputs that were taken out.
    resolved: Vec<u64>,
}

/// Some outputs, to be shown when copies differ.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    pub(crate) destination: String,
    pub(crate) first: u64,
    pub(crate) messages: Bytes,
}

pub(crate) struct Session {
    pub(crate) program: u64,
    pub(crate) door: Adapter,
    pub(crate) hello: Hello,
    /// Of the instance itself, for self-calls.
    own_group: GroupId,
    pub(crate) phase: Phase,
    pub(crate) voice: OutputState,
    limits: KeptLimits,
    /// The version of its state.
    pub(crate) version: u64,
    /// How far the log was read for it.
    pub(crate) position: Position,
    term: Term,
    ledger: InputState,
    portions: VecDeque<Portion>,
    /// The last input that was in the state it began with.
    began: u64,
    /// The last input it was told.
    pub(crate) told: u64,
    on_way: VecDeque<(u64, usize)>,
    on_way_bytes: usize,
    /// How long it was busy with inputs since the checkpoint, in microseconds, and since when it is
    /// again. Known of programs that confirm only.
    pub(crate) busy_micros: u64,
    busy_since: u64,
    /// Bytes told and not yet gone from here.
    pub(crate) undrained: u64,
    expected: VecDeque<Mark>,
    /// Bytes of the log that were not read for it yet.
    pub(crate) backlog: u64,
    pub(crate) taking: Option<Taking>,
    /// Since when the checkpoint is here for which its door has waited. A binding may still be busy with
    /// the end of it.
    pub(crate) rests_since: Option<u64>,
    /// Nothing more is read, so that a checkpoint can be asked for.
    pausing: bool,
    /// One input at a time.
    pub(crate) careful: bool,
    pub(crate) is_primary: bool,
    /// When it last gave a sign of life, and the last ping, in steady microseconds.
    pub(crate) heard: u64,
    pub(crate) pinged: u64,
    pub(crate) recent: VecDeque<Recent>,
    recent_bytes: usize,
    pub(crate) out: Vec<Bytes>,
}

/// What feeding a program came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    Well,
    /// It said something else than was recorded, found when this mark was looked at.
    Differs(Mark),
    /// The state is of another version now, which it cannot follow.
    Outdated(u64),
}

impl Session {
    pub(crate) fn new(
        (own_group, own): (GroupId, &str),
        program: u64,
        door: Adapter,
        hello: Hello,
        limits: KeptLimits,
        now: u64,
    ) -> Self {
        let version = hello.program_version;
        Self {
            program,
            door,
            hello,
            own_group,
            phase: Phase::Waiting,
            voice: OutputState::default().of(own, limits),
            limits,
            version,
            position: Position(0),
            term: Term(0),
            ledger: InputState::default(),
            portions: VecDeque::new(),
            began: 0,
            told: 0,
            on_way: VecDeque::new(),
            on_way_bytes: 0,
            busy_micros: 0,
            busy_since: now,
            undrained: 0,
            expected: VecDeque::new(),
            backlog: 0,
            taking: None,
            rests_since: None,
            pausing: false,
            careful: false,
            is_primary: false,
            heard: now,
            pinged: now,
            recent: VecDeque::new(),
            recent_bytes: 0,
            out: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, frame: &ToProgram) {
        let before = self.out.len();
        self.door.tell(frame, &mut self.out);
        self.undrained += self.out[before..].iter().map(|bytes| bytes.len() as u64).sum::<u64>();
    }

    pub(crate) fn welcome(&mut self, node: &str, replica: u64, state_version: u64) {
        self.tell(&ToProgram::Welcome(Welcome {
            version: protocol::immortal::VERSION,
            node: node.to_owned(),
            replica,
            frame_bytes_max: FRAME_BYTES_MAX as u64,
            window_bytes: WINDOW_BYTES as u64,
            state_version,
        }));
    }

    /// Begins to give it the state at the base. What was logged since follows.
    pub(crate) fn load(
        &mut self,
        store: &dyn StateStore,
        space: &Space,
        base: &BaseRecord,
    ) -> Result<(), StoreError> {
        let blob = base.blob.expect("a program is loaded when there is something to load");
        self.tell(&ToProgram::Load { input: base.ledger.inputs, bytes: blob.bytes });
        self.voice = read_voice(store, space, base)?.of(&self.hello.instance, self.limits);
        self.phase = Phase::Loading { base: Box::new(base.clone()), next: 0 };
        Ok(())
    }

    /// Gives it more of the state, as much as its socket takes. False when that state was replaced
    /// by a later one meanwhile.
    pub(crate) fn go_on_loading(
        &mut self,
        store: &dyn StateStore,
        space: &Space,
        applied: u64,
    ) -> Result<bool, StoreError> {
        let Phase::Loading { base, next } = &self.phase else { return Ok(true) };
        let (blob, mut to_come) = (base.blob.expect("it is being loaded"), *next);
        while to_come < blob.chunks && self.undrained < WINDOW_BYTES as u64 {
            let Some(chunk) = read_chunk(store, space, &blob, to_come)? else { return Ok(false) };
            self.tell(&ToProgram::Chunk(chunk));
            to_come += 1;
        }
        match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Loading { base, .. } if to_come == blob.chunks => {
                self.tell(&ToProgram::LoadEnd { crc: blob.crc });
                self.begin(&base, applied);
            }
            Phase::Loading { base, .. } => self.phase = Phase::Loading { base, next: to_come },
            other => self.phase = other,
        }
        Ok(true)
    }

    /// It has the state of that record.
    pub(crate) fn begin(&mut self, base: &BaseRecord, applied: u64) {
        (self.position, self.term) = (base.position, base.term);
        self.ledger = base.ledger.clone();
        (self.began, self.told) = (base.ledger.inputs, base.ledger.inputs);
        self.voice.done = self.told;
        self.phase = Phase::Replaying { applied, goal: None, until: None };
    }

    fn window_is_full(&self) -> bool {
        let on_way = if self.door.confirms() {
            self.on_way_bytes
        } else {
            usize::try_from(self.undrained).unwrap_or(usize::MAX)
        };
        on_way >= WINDOW_BYTES || (self.careful && on_way > 0)
    }

    /// Delivers what there is room for.
    ///
    /// # Errors
    /// When the log holds what cannot be read; that is a mistake of ours.
    pub(crate) fn feed(
        &mut self,
        ground: &Context<'_>,
        applied: &InputState,
        name: &str,
        end: (Position, Term),
    ) -> Result<Fed, Garbled> {
        loop {
            if !matches!(self.phase, Phase::Replaying { .. } | Phase::Live) || self.waits() {
                return Ok(Fed::Well);
            }
            while !self.window_is_full()
                && !self.waits()
                && !self.waits_for_upgrade(applied)
                && let Some(portion) = self.portions.pop_front()
            {
                if let Some(fed) = self.deliver(portion, ground.now.steady_micros) {
                    return Ok(fed);
                }
            }
            self.mind_end_of_replay(ground, applied.inputs, end.0);
            if !self.portions.is_empty() || self.pausing || self.window_is_full() {
                return Ok(Fed::Well);
            }
            let entries = ground.entries.after(self.position, READ_BYTES);
            if entries.is_empty() {
                // What may stand there is not for programs: a checkpoint is of that place, too.
                (self.position, self.term) = self.position_or(end);
                return Ok(Fed::Well);
            }
            for (position, term, bytes) in entries {
                let fed = self.read((position, term), bytes, applied, name)?;
                if fed != Fed::Well {
                    return Ok(fed);
                }
            }
        }
    }

    fn position_or(&self, end: (Position, Term)) -> (Position, Term) {
        if end.0 > self.position { end } else { (self.position, self.term) }
    }

    /// It began before that input and has been given it, or will be.
    pub(crate) fn has_read(&self, input: u64) -> bool {
        self.began < input && self.ledger.inputs >= input
    }

    /// It needs no entry of the log up to there any more, and no state at an earlier place.
    pub(crate) fn is_past(&self, position: Position) -> bool {
        match self.phase {
            Phase::Waiting | Phase::Genesis(_) => true,
            Phase::Loading { .. } => false,
            Phase::Replaying { .. } | Phase::Live => self.position >= position,
        }
    }

    /// It has been given all up to there, and nothing that comes after.
    pub(crate) fn is_live_at(&self, position: Position) -> bool {
        self.phase == Phase::Live && self.position == position && self.taking.is_none()
    }

    /// No checkpoint is wanted of it any more.
    pub(crate) fn go_on(&mut self) {
        self.pausing = false;
    }

    /// Nothing is delivered while a checkpoint is asked for. To a program that does not confirm
    /// inputs (AMBROSIA's C# binding writes its outputs from another thread) not before it has come
    /// as a whole. Its door may have asked for one of its own; that has no bound in time, since a
    /// program of AMBROSIA's may wait for a person in a handler before it comes to the request.
    fn waits(&self) -> bool {
        let confirms = self.door.confirms();
        // Only the primary: what a standby keeps shrinks by what it reads.
        (self.is_primary && self.voice.is_full())
            || self.taking.as_ref().is_some_and(|taking| taking.spoken.is_none() || !confirms)
            || self.is_busy_with_checkpoint()
    }

    fn is_busy_with_checkpoint(&self) -> bool {
        self.door.is_taking_checkpoint() || self.rests_since.is_some()
    }

    /// An upgrade comes next that it cannot make: it is let go when another program has made it, and goes
    /// on when none could.
    fn waits_for_upgrade(&self, applied: &InputState) -> bool {
        let (Some(upgrading), Some(next)) = (&applied.upgrading, self.portions.front()) else {
            return false;
        };
        (next.first..next.first + next.count).contains(&upgrading.input)
            && !self.can_become(upgrading.to)
    }

    /// Its code is that of this version, or it can turn its state into it.
    pub(crate) fn can_become(&self, version: u64) -> bool {
        self.hello.upgrade_to == version || self.version == version
    }

    /// A node that has just begun reads its own log, and hears from an owner what it lacks: a program that
    /// came meanwhile is not told that this is all. What is committed later belongs to no replay, or it
    /// might never end.
    fn mind_end_of_replay(&mut self, ground: &Context<'_>, logged: u64, applied_to: Position) {
        let Phase::Replaying { goal, until, .. } = &mut self.phase else { return };
        *goal = goal.or_else(|| ground.entries.known_committed());
        if until.is_none() && goal.is_some_and(|goal| applied_to >= goal) {
            *until = Some(logged);
        }
        if until.is_some_and(|until| self.told >= until) {
            self.phase = Phase::Live;
            self.tell(&ToProgram::EndOfReplay { input: self.told });
        }
    }

    fn read(
        &mut self,
        (position, term): (Position, Term),
        bytes: Bytes,
        applied: &InputState,
        name: &str,
    ) -> Result<Fed, Garbled> {
        self.backlog = self.backlog.saturating_sub(bytes.len() as u64);
        let entry = Entry::decode(bytes)?;
        // What cannot be read counts for nothing in every ledger.
        let logged = self.ledger.log(&entry).unwrap_or_default();
        (self.position, self.term) = (position, term);
        for (destination, up_to) in &logged.trims {
            self.voice.confirmed(destination, *up_to)?;
        }
        if let Entry::Inputs(inputs) = &entry {
            for origin in &inputs.origins {
                if *origin == (Origin::Stream { from: self.own_group }) {
                    let up_to = self.ledger.received.get(&self.own_group).copied().unwrap_or(0);
                    self.voice.confirmed(name, up_to)?;
                }
            }
        }
        if logged.count > 0 {
            self.queue(&logged, applied)?;
        }
        match logged.mark {
            Some(mark) => Ok(self.look_at(mark)),
            None => Ok(Fed::Well),
        }
    }

    fn queue(&mut self, logged: &Logged, applied: &InputState) -> Result<(), Garbled> {
        let blocks = applied.without_skipped(logged)?;
        let Logged { first, count, time, .. } = *logged;
        let mut resolved = applied.resolved_by_skipped(logged);
        // Its door asks for a checkpoint at an upgrade: what follows has to wait.
        let in_pieces = self.careful || !self.door.confirms() && has_upgrade(&blocks);
        if !in_pieces {
            self.portions.push_back(Portion { first, count, time, blocks, resolved });
            return Ok(());
        }
        for (place, blocks) in (0..).zip(one_by_one(&blocks)?) {
            let (first, resolved) = (first + place, std::mem::take(&mut resolved));
            self.portions.push_back(Portion { first, count: 1, time, blocks, resolved });
        }
        Ok(())
    }

    fn deliver(&mut self, portion: Portion, now: u64) -> Option<Fed> {
        let Portion { first, count, time, blocks: bytes, resolved } = portion;
        for id in resolved {
            self.voice.resolved(id);
        }
        let upgrade = self.see_own(&bytes);
        if let Some(version) = upgrade.filter(|version| !self.can_become(*version)) {
            return Some(Fed::Outdated(version));
        }
        self.told = first + count - 1;
        if self.door.confirms() {
            if self.on_way.is_empty() {
                self.busy_since = now;
            }
            self.on_way.push_back((self.told, bytes.len()));
            self.on_way_bytes += bytes.len();
        }
        self.tell(&ToProgram::Deliver { first, time, blocks: bytes });
        if let Some(version) = upgrade {
            self.version = version;
        }
        None
    }

    /// What the node itself put among the inputs: what is awaited no longer, and upgrades.
    fn see_own(&mut self, bytes: &Bytes) -> Option<u64> {
        let mut upgrade = None;
        for message in own_messages(bytes) {
            match message {
                Message::Timer { id } | Message::Result { id, .. } => self.voice.resolved(id),
                Message::Upgrade { version } => upgrade = Some(version),
                _ => {}
            }
        }
        upgrade
    }

    /// What it said is compared with what is recorded, now or when it has come that far.
    fn look_at(&mut self, mark: Mark) -> Fed {
        match self.compare(&mark) {
            Compared::Differs => Fed::Differs(mark),
            Compared::Ahead => {
                self.expected.push_back(mark);
                Fed::Well
            }
            Compared::Equal | Compared::Forgotten => Fed::Well,
        }
    }

    fn compare(&self, mark: &Mark) -> Compared {
        match mark {
            Mark::Input { input, digest } if self.door.confirms() => {
                self.voice.compare(*input, *digest)
            }
            Mark::Stream { destination, count, crc } if !self.door.confirms() => {
                self.voice.compare_stream(destination, *count, *crc)
            }
            // The copies came through different doors.
            _ => Compared::Forgotten,
        }
    }

    /// The program has said more: are there marks that can be looked at now?
    pub(crate) fn look_again(&mut self) -> Fed {
        while let Some(mark) = self.expected.front() {
            match self.compare(mark) {
                Compared::Ahead => break,
                Compared::Differs => {
                    return Fed::Differs(self.expected.pop_front().expect("there is one"));
                }
                Compared::Equal | Compared::Forgotten => drop(self.expected.pop_front()),
            }
        }
        Fed::Well
    }

    /// All inputs up to there are handled.
    ///
    /// # Errors
    /// When it was not told so many.
    pub(crate) fn done(&mut self, input: u64) -> Result<(), Garbled> {
        if input > self.told || input < self.voice.done {
            return Err(Garbled(format!(
                "DONE {input}, but inputs {} to {} were delivered",
                self.voice.done + 1,
                self.told
            )));
        }
        let was_busy = !self.on_way.is_empty();
        while self.on_way.front().is_some_and(|(last, _)| *last <= input) {
            let (_, bytes) = self.on_way.pop_front().expect("there is a front");
            self.on_way_bytes -= bytes;
        }
        if was_busy {
            self.busy_micros += self.heard.saturating_sub(self.busy_since);
            self.busy_since = self.heard;
        }
        self.voice.done(input);
        Ok(())
    }

    /// Was told all that was applied here when it came.
    pub(crate) fn has_caught_up(&self) -> bool {
        match self.phase {
            Phase::Replaying { applied, .. } => self.told >= applied,
            Phase::Live => true,
            _ => false,
        }
    }

    /// Is out of replay and has handled (or, if it does not say so, was told) so much.
    pub(crate) fn has_come_to(&self, input: u64) -> bool {
        self.phase == Phase::Live && self.done_input() >= input
    }

    /// It may be told now that it is the primary. A door may ask for a checkpoint with that.
    pub(crate) fn may_become_primary(&self, input: u64) -> bool {
        self.has_come_to(input) && !self.is_busy_with_checkpoint()
    }

    /// Everything it was told is handled, or it is a program that does not say so.
    pub(crate) fn is_told_all_done(&self) -> bool {
        !self.door.confirms() || self.voice.done == self.told
    }

    pub(crate) fn done_input(&self) -> u64 {
        if self.door.confirms() { self.voice.done } else { self.told }
    }

    /// Messages were said; remembers them for a while.
    pub(crate) fn remember(&mut self, destination: &str, first: u64, messages: &Bytes) {
        let messages = copied_if_short(messages.clone());
        self.recent_bytes += messages.len();
        self.recent.push_back(Recent { destination: destination.to_owned(), first, messages });
        while self.recent_bytes > RECENT_BYTES_MAX && self.recent.len() > 1 {
            let gone = self.recent.pop_front().expect("there is one");
            self.recent_bytes -= gone.messages.len();
        }
    }

    /// Asks for a checkpoint, if it is at a place where one can be taken.
    pub(crate) fn take_checkpoint(&mut self, request: u64, now: u64) -> bool {
        // While it is open what becomes of an upgrade, no state after it may be kept.
        let is_open = self.ledger.upgrading.is_some();
        let is_live = self.phase == Phase::Live && !is_open;
        let is_free = self.taking.is_none() && !self.is_busy_with_checkpoint();
        let ready = is_live && is_free && self.portions.is_empty();
        // Under load there is always more to deliver: no more is read until it is asked.
        self.pausing = is_live && !ready;
        if ready {
            self.taking = Some(Taking {
                request,
                position: self.position,
                term: self.term,
                ledger: self.ledger.clone(),
                since: now,
                spoken: None,
                ended: None,
                spoilt: false,
            });
            self.tell(&ToProgram::TakeCheckpoint { request });
        }
        ready
    }

    /// # Errors
    /// When the program does not keep to the protocol.
    pub(crate) fn hear(&mut self, bytes: &Bytes, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        if let Some(ended) = self.taking.as_mut().and_then(|taking| taking.ended.as_mut())
            && !bytes.is_empty()
        {
            ended.silent_ticks = 0;
        }
        let was_taking = self.door.is_taking_checkpoint();
        let heard = self.door.hear(bytes, said);
        if was_taking && !self.door.is_taking_checkpoint() {
            self.rests_since = Some(self.heard);
        }
        heard
    }
}

/// What stands in the blocks of the node itself.
fn own_messages(bytes: &Bytes) -> impl Iterator<Item = Message> {
    blocks(bytes.clone())
        .flatten()
        .filter(|block| block.head.kind == SourceKind::Node)
        .flat_map(|block| messages(block.messages).flatten())
}

fn has_upgrade(bytes: &Bytes) -> bool {
    own_messages(bytes).any(|message| matches!(message, Message::Upgrade { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::NativeAdapter;

    #[test]
    fn what_is_remembered_does_not_hold_the_buffer_it_came_in() {
        let door = Adapter::Native(NativeAdapter::default());
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            instance: "a".into(),
            program_version: 0,
            upgrade_to: 0,
        };
        let limits = KeptLimits::default();
        let mut session = Session::new((GroupId(7), "a"), 1, door, hello, limits, 0);
        let buffer = Bytes::from(vec![7; 1 << 20]);
        session.remember("b", 1, &buffer.slice(..100));
        assert_eq!(session.recent[0].messages, buffer[..100]);
        assert!(buffer.is_unique());
    }
}
