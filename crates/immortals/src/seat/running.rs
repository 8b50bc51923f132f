//! A program that has its state. It is given what is logged, and sends messages.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::immortal::{Garbled, ToProgram};
use protocol::{Moment, Position};

use crate::base::record::BaseRecord;
use crate::context::Context;
use crate::history::applied::History;
use crate::history::delivery::{one_by_one, without_skipped};
use crate::history::entry::{Lane, Mark};
use crate::history::indexed::{BadEntry, IndexedEntry, OwnInput};
use crate::history::input_state::{InputState, Logged};
use crate::identity::Identity;
use crate::output::output_state::{Grain, OutputState};
use crate::output::stream::copied_if_short;
use crate::seat::checks::Checks;
use crate::seat::connection::Connection;
use crate::seat::cursor::Cursor;
use crate::seat::taking::{CHECKPOINT_MICROS_MAX, CheckpointWork, Part, Taking};
use crate::seat::window::{WINDOW_BYTES, Window};

/// A program that is more inputs behind than this counts as one that has not caught up.
const LAG_MAX: u64 = 1_000;

/// How far a program is in taking part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is given what was logged before it came.
    Replaying(Replaying),
    /// It is given what is logged now.
    Live,
    /// The program is live beside the owner, and was told that it is the primary. Only a leader
    /// makes it so.
    Primary,
}

/// Where a replay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaying {
    /// The last input that was applied here when the replay began.
    applied: u64,
    /// The end of the log, as soon as it is known.
    goal: Option<Position>,
    /// The last input that belongs to the replay, once the goal is applied.
    until: Option<u64>,
}

/// Inputs that make one DELIVER.
#[derive(Debug)]
struct Portion {
    first: u64,
    count: u64,
    time: Moment,
    blocks: Bytes,
    /// Timers and side effects that are awaited no longer.
    resolved: Vec<u64>,
    upgrade: Option<u64>,
}

pub(crate) struct Running {
    pub(crate) connection: Connection,
    pub(crate) output: OutputState,
    pub(crate) stage: Stage,
    pub(crate) cursor: Cursor,
    portions: VecDeque<Portion>,
    pub(crate) window: Window,
    /// The last input that was in the state it began with.
    began: u64,
    /// The last input it was told.
    pub(crate) told: u64,
    /// The version of its state.
    version: u64,
    /// It is given one input at a time.
    is_careful: bool,
    pub(crate) checks: Checks,
    pub(crate) checkpoint: CheckpointWork,
}

/// The result of feeding a program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    Well,
    /// The program sent something else than was recorded, found at this mark.
    Differs(Mark),
    /// From here on the state is of another version, into which the program cannot turn its own.
    Outdated(u64),
}

impl Running {
    /// A program that has the state of that record.
    pub(crate) fn new(
        connection: Connection,
        output: OutputState,
        base: &BaseRecord,
        history: &History,
        is_careful: bool,
        now: u64,
    ) -> Self {
        let (version, told) = (connection.hello.program_version, base.input_state.inputs);
        let backlog = history.log_bytes;
        let replaying = Replaying { applied: history.input_state.inputs, goal: None, until: None };
        let mut running = Self {
            connection,
            output,
            stage: Stage::Replaying(replaying),
            cursor: Cursor::new(base.position, base.term, base.input_state.clone(), backlog),
            portions: VecDeque::new(),
            window: Window::new(now),
            began: told,
            told,
            version,
            is_careful,
            checks: Checks::default(),
            checkpoint: CheckpointWork::default(),
        };
        running.output.done = told;
        running
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live | Stage::Primary)
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.stage == Stage::Primary
    }

    // Feeding.

    /// Delivers what there is room for.
    ///
    /// # Errors
    /// When the log holds what cannot be read.
    pub(crate) fn feed(
        &mut self,
        cx: &Context<'_>,
        history: &History,
        own: &Identity,
    ) -> Result<Fed, BadEntry> {
        let applied = &history.input_state;
        while !self.waits() {
            while !self.window_is_full() && !self.waits() && !self.waits_for_upgrade(applied) {
                let Some(portion) = self.portions.pop_front() else { break };
                if let Some(fed) = self.deliver(portion, cx.now.steady_micros) {
                    return Ok(fed);
                }
            }
            self.end_replay(cx, history);
            if !self.portions.is_empty() || self.checkpoint.is_pausing || self.window_is_full() {
                return Ok(Fed::Well);
            }
            let entries = self.cursor.next(cx, history)?;
            if entries.is_empty() {
                return Ok(Fed::Well);
            }
            for (position, term, entry) in entries {
                let logged = self.cursor.read(position, term, &entry)?;
                if let Some(mark) = self.take_in(&entry, logged, applied, own)? {
                    return Ok(Fed::Differs(mark));
                }
            }
        }
        Ok(Fed::Well)
    }

    /// Nothing is delivered while a checkpoint is asked for. To a program that does not confirm
    /// inputs nothing is delivered before the whole checkpoint has come, because AMBROSIA's C#
    /// binding writes its outputs from another thread. When the adapter itself has asked for a
    /// checkpoint, the wait has no bound in time, since a program of AMBROSIA's may wait for a
    /// person in a handler before it takes the checkpoint.
    fn waits(&self) -> bool {
        let is_asked = |taking: &Taking| match taking.part {
            Part::Asked => true,
            Part::Given(_) | Part::Ended(..) => !self.connection.confirms(),
        };
        // Only the primary waits for receivers. What a standby keeps shrinks by the receipts in the
        // entries that it is given.
        (self.is_primary() && self.output.is_full())
            || self.checkpoint.taking.as_ref().is_some_and(is_asked)
            || self.is_busy_with_checkpoint()
    }

    fn is_busy_with_checkpoint(&self) -> bool {
        self.connection.adapter.is_taking_checkpoint() || self.checkpoint.is_resting()
    }

    fn window_is_full(&self) -> bool {
        let on_way = if self.connection.confirms() {
            self.window.bytes()
        } else {
            usize::try_from(self.connection.unwritten).unwrap_or(usize::MAX)
        };
        on_way >= WINDOW_BYTES || (self.is_careful && on_way > 0)
    }

    /// Whether an upgrade comes next that the program cannot make. The program is closed when
    /// another program has made the upgrade, and goes on when no program could.
    fn waits_for_upgrade(&self, applied: &InputState) -> bool {
        let (Some(upgrading), Some(next)) = (&applied.upgrading, self.portions.front()) else {
            return false;
        };
        (next.first..next.first + next.count).contains(&upgrading.input)
            && !self.can_become(upgrading.to)
    }

    /// Whether the program's code is that of this version, or can turn the state into this version.
    pub(crate) fn can_become(&self, version: u64) -> bool {
        self.connection.hello.upgrade_to == version || self.version == version
    }

    /// A replay ends when the program was told all that was committed at the moment when the end of
    /// the replay became known. That end is not known at once: a node that has just started reads
    /// its own log and hears from an owner what it lacks. What is committed later belongs to no
    /// replay, since otherwise a replay might never end.
    fn end_replay(&mut self, cx: &Context<'_>, history: &History) {
        let Stage::Replaying(replay) = &mut self.stage else { return };
        replay.goal = replay.goal.or_else(|| cx.entries.known_committed());
        if replay.until.is_none() && replay.goal.is_some_and(|goal| history.position >= goal) {
            replay.until = Some(history.input_state.inputs);
        }
        if replay.until.is_some_and(|until| self.told >= until) {
            self.stage = Stage::Live;
            self.connection.tell(&ToProgram::EndOfReplay { input: self.told });
        }
    }

    /// What an entry means for the program. The result is a mark that differs.
    fn take_in(
        &mut self,
        entry: &IndexedEntry,
        logged: Logged,
        applied: &InputState,
        own: &Identity,
    ) -> Result<Option<Mark>, BadEntry> {
        for (destination, up_to) in &logged.trims {
            self.output.confirm(destination, *up_to)?;
        }
        if entry.has_stream_of(own.group) {
            let up_to = self.cursor.input_state.logged_of(own.group, Lane::Stream);
            self.output.confirm(&own.name, up_to)?;
        }
        if logged.count > 0 {
            self.queue(&logged, applied)?;
        }
        let confirms = self.connection.confirms();
        Ok(logged.mark.and_then(|mark| self.checks.check(mark, &self.output, confirms)))
    }

    fn queue(&mut self, logged: &Logged, applied: &InputState) -> Result<(), Garbled> {
        let blocks = without_skipped(logged, &applied.skipped)?;
        let Logged { first, count, time, .. } = *logged;
        let portion = |first, count, blocks| {
            let range = first..first + count;
            let own = logged.own.iter().filter(|(input, _)| range.contains(input));
            let (mut resolved, mut upgrade) = (Vec::new(), None);
            for (input, own) in own {
                match own {
                    // A timer or result that was taken out is resolved all the same. Otherwise it
                    // would come again.
                    OwnInput::Resolved(id) => resolved.push(*id),
                    OwnInput::Upgrade(version) if !applied.skipped.contains(input) => {
                        upgrade = Some(*version);
                    }
                    OwnInput::Upgrade(_) | OwnInput::Start => {}
                }
            }
            Portion { first, count, time, blocks, resolved, upgrade }
        };
        let whole = portion(first, count, blocks);
        // An adapter of AMBROSIA's asks for a checkpoint at an upgrade: what follows has to wait.
        let is_split = self.is_careful || !self.connection.confirms() && whole.upgrade.is_some();
        if !is_split {
            self.portions.push_back(whole);
            return Ok(());
        }
        for (place, block) in (0..).zip(one_by_one(&whole.blocks)?) {
            self.portions.push_back(portion(first + place, 1, block));
        }
        Ok(())
    }

    fn deliver(&mut self, portion: Portion, now: u64) -> Option<Fed> {
        let Portion { first, count, time, blocks, resolved, upgrade } = portion;
        assert_eq!(
            first,
            self.told + 1,
            "Invariant: a program is told every input, in order, once"
        );
        resolved.into_iter().for_each(|id| self.output.resolved(id));
        if let Some(version) = upgrade.filter(|version| !self.can_become(*version)) {
            return Some(Fed::Outdated(version));
        }
        self.told = first + count - 1;
        if self.connection.confirms() {
            self.window.delivered(self.told, blocks.len(), now);
        }
        self.connection.tell(&ToProgram::Deliver { first, time, blocks });
        if let Some(version) = upgrade {
            self.version = version;
        }
        None
    }

    // What the program says.

    /// The program has sent messages.
    ///
    /// # Errors
    /// When there are fewer messages than `count`.
    pub(crate) fn sent(
        &mut self,
        destination: &str,
        count: u64,
        messages: Bytes,
    ) -> Result<(), Garbled> {
        let confirms = self.connection.confirms();
        if let Some(Taking { part: Part::Given(_) | Part::Ended(..), is_spoilt, .. }) =
            &mut self.checkpoint.taking
        {
            *is_spoilt |= !confirms;
        }
        // One copy serves for both: what is kept for the receiver, and what is shown when programs
        // differ.
        let messages = copied_if_short(messages);
        let first = self.output.streams.get(destination).map_or(1, |stream| stream.count + 1);
        self.checks.remember(destination, first, messages.clone());
        let grain = if confirms { Grain::Input } else { Grain::Message };
        self.output.send(destination, count, messages, grain)
    }

    /// The program has handled all inputs up to this one.
    ///
    /// # Errors
    /// When the program was not told that many inputs.
    pub(crate) fn done(&mut self, input: u64) -> Result<(), Garbled> {
        if input > self.told || input < self.output.done {
            return Err(Garbled(format!(
                "DONE {input}, but inputs {} to {} were delivered",
                self.output.done + 1,
                self.told
            )));
        }
        self.window.confirmed(input, self.connection.heard);
        self.output.done(input);
        Ok(())
    }

    /// The program has come past the input at which the last one failed.
    pub(crate) fn needs_no_care(&mut self) {
        self.is_careful = false;
    }

    /// Whether what it sent differs from what was recorded, as far as it has come.
    pub(crate) fn check_again(&mut self) -> Option<Mark> {
        self.checks.check_again(&self.output, self.connection.confirms())
    }

    /// What it has sent, as a mark for others to compare with.
    pub(crate) fn mark(&self) -> Option<Mark> {
        if self.connection.confirms() {
            let (input, digest) = self.output.last_point()?;
            return Some(Mark::Input { input, digest });
        }
        let (destination, count, outline) = self.output.last_stream_point()?.clone();
        Some(Mark::Stream { destination, count, outline })
    }

    // How far it has come.

    /// Whether the program began before that input and has been given it, or will be.
    pub(crate) fn has_read(&self, input: u64) -> bool {
        self.began < input && self.cursor.input_state.inputs >= input
    }

    /// Whether the program has been given all up to there, and nothing after it.
    pub(crate) fn is_live_at(&self, position: Position) -> bool {
        self.is_live() && self.cursor.position == position && self.checkpoint.taking.is_none()
    }

    /// The last input that it has handled. For programs that do not confirm, the last one it was
    /// told.
    pub(crate) fn done_input(&self) -> u64 {
        if self.connection.confirms() { self.output.done } else { self.told }
    }

    /// The input that it was told next after those it has handled, if it confirms inputs.
    pub(crate) fn unhandled(&self) -> Option<u64> {
        (self.connection.confirms() && self.told > self.output.done).then_some(self.output.done + 1)
    }

    /// It was told all that was applied when it came, and is not far behind.
    pub(crate) fn has_caught_up(&self, inputs: u64) -> bool {
        let was_told_all = match self.stage {
            Stage::Replaying(replay) => self.told >= replay.applied,
            Stage::Live | Stage::Primary => true,
        };
        was_told_all && inputs - self.done_input() < LAG_MAX
    }

    /// Whether the program may be told now that it is the primary of an owner that began after that
    /// input. When told so, an adapter may ask for a checkpoint.
    pub(crate) fn may_become_primary(&self, input: u64) -> bool {
        self.stage == Stage::Live && self.done_input() >= input && !self.is_busy_with_checkpoint()
    }

    /// It has handled all that it was told, or does not say so.
    pub(crate) fn has_handled_all(&self) -> bool {
        !self.connection.confirms() || self.output.done == self.told
    }

    /// When a tick has something to do for it. 0: at the next one.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let is_replaying = matches!(self.stage, Stage::Replaying(_));
        if is_replaying || self.checkpoint.waits_for_ticks() {
            return Some(0);
        }
        let taking = self.checkpoint.taking.as_ref()?;
        Some(taking.since.saturating_add(CHECKPOINT_MICROS_MAX + 1))
    }

    /// Asks for a checkpoint, if it is at a place where one can be taken.
    pub(crate) fn ask_checkpoint(&mut self, request: u64, now: u64) -> bool {
        // While an upgrade is open, no state after it may be kept.
        let is_open = self.cursor.input_state.upgrading.is_some();
        let is_able = self.is_live() && !is_open;
        let is_free = self.checkpoint.taking.is_none() && !self.is_busy_with_checkpoint();
        let is_ready = is_able && is_free && self.portions.is_empty();
        // Under load there is always more to deliver, so no more is read until the program is
        // asked.
        self.checkpoint.is_pausing = is_able && !is_ready;
        if is_ready {
            self.checkpoint.taking = Some(Taking {
                request,
                position: self.cursor.position,
                term: self.cursor.term,
                input_state: self.cursor.input_state.clone(),
                since: now,
                part: Part::Asked,
                is_spoilt: false,
            });
            self.connection.tell(&ToProgram::TakeCheckpoint { request });
        }
        is_ready
    }
}

#[cfg(test)]
mod tests {
    use protocol::immortal::{Hello, Message, put_message};

    use super::*;
    use crate::adapter::{Adapter, NativeAdapter};
    use crate::output::stream::Location;

    fn running() -> Running {
        let (version_min, version_max) = (1, 1);
        let (program_version, upgrade_to) = (0, 0);
        let instance = "a".into();
        let hello = Hello { version_min, version_max, instance, program_version, upgrade_to };
        let adapter = Adapter::Native(NativeAdapter::default());
        let connection = Connection::new(1, adapter, hello, 0);
        let base = BaseRecord::default();
        let history = History::new(base.input_state.clone(), base.position, base.term);
        Running::new(connection, OutputState::default(), &base, &history, false, 0)
    }

    #[test]
    fn what_is_sent_is_copied_once_and_does_not_hold_the_buffer_it_came_in() {
        let mut short = Vec::new();
        put_message(&mut short, &Message::Fork { method: 1, payload: Bytes::from_static(b"x") });
        let buffer = Bytes::from([&short[..], &[0; 1 << 20][..]].concat());
        let mut running = running();
        running.sent("b", 1, buffer.slice(..short.len())).unwrap();
        assert!(buffer.is_unique());
        let Location::Memory(kept) = &running.output.streams["b"].kept[0].location else {
            panic!("it is in memory")
        };
        let recent = &running.checks.recent()[0].messages;
        assert_eq!((kept, kept.as_ptr()), (recent, recent.as_ptr()));
    }
}
