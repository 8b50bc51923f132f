//! A checkpoint that a program is asked for.

use bytes::Bytes;
use protocol::{Position, Term};

use crate::base::record::BlobWriter;
use crate::history::input_state::InputState;
use crate::output::spill::SpilledBlock;

/// A program that was asked for a checkpoint and gives nothing for this long is closed, in
/// microseconds. An owner asks for a checkpoint again after this long.
pub(crate) const CHECKPOINT_MICROS_MAX: u64 = 10_000_000;

/// A program that does not confirm inputs is told nothing for this long after its checkpoint, in
/// microseconds. AMBROSIA's C# binding may write a checkpoint before outputs that its other thread
/// has not sent, and these outputs follow at once.
const QUIET_MICROS: u64 = 200_000;

/// This many ticks must also pass in which nothing comes from the program. The clock goes on while
/// this node is paused, and outputs that came during the pause are read only after it.
const QUIET_TICKS: u32 = 10;

/// After this many ticks the checkpoint counts although impulses keep coming. Impulses need not be
/// in a state, and what came before them was read.
const LOUD_TICKS: u32 = 50;

/// Such a program is also told nothing for this long after a checkpoint that its adapter has asked
/// for, in microseconds. AMBROSIA's coordinator writes the checkpoint to a disk in that time, and
/// the JavaScript binding dies when it is asked for the next one before it has noticed the end of
/// the last.
const REST_MICROS: u64 = 50_000;

/// What a running program is about to do, or does, for a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct CheckpointWork {
    /// The checkpoint that it is asked for. Meanwhile nothing is delivered.
    pub(crate) taking: Option<Taking>,
    /// When the adapter last got the end of a checkpoint.
    rests_since: Option<u64>,
    /// Nothing more is read from the log, so that a checkpoint can be asked for.
    pub(crate) is_pausing: bool,
}

impl CheckpointWork {
    pub(crate) fn adapter_got_one(&mut self, now: u64) {
        self.rests_since = Some(now);
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.rests_since.is_some()
    }

    pub(crate) fn end_rest(&mut self, now: u64) {
        self.rests_since.take_if(|since| now.saturating_sub(*since) > REST_MICROS);
    }

    /// Whether the checkpoint needs ticks to go on.
    pub(crate) fn waits_for_ticks(&self) -> bool {
        let ends =
            self.taking.as_ref().is_some_and(|taking| matches!(taking.part, Part::Ended(..)));
        ends || self.is_resting()
    }

    /// Bytes came from the program.
    pub(crate) fn heard(&mut self) {
        if let Some(Taking { part: Part::Ended(_, end), .. }) = &mut self.taking {
            end.silent_ticks = 0;
        }
    }

    /// Once in each tick: the checkpoint, if nothing will follow it any more.
    pub(crate) fn take_ended(&mut self, now: u64) -> Option<Taking> {
        let is_over = |taking: &mut Taking| match &mut taking.part {
            Part::Ended(_, end) => end.is_quiet(now) || taking.is_spoilt,
            Part::Asked | Part::Given(_) => false,
        };
        self.taking.take_if(is_over)
    }
}

#[derive(Debug)]
pub(crate) struct Taking {
    pub(crate) request: u64,
    pub(crate) position: Position,
    pub(crate) term: Term,
    pub(crate) input_state: InputState,
    /// When something last came for it, in steady microseconds.
    pub(crate) since: u64,
    pub(crate) part: Part,
    /// The program sent something after it had begun to give its state. What it sent is not in the
    /// state, but follows from inputs that are.
    pub(crate) is_spoilt: bool,
}

/// How far a checkpoint has come.
#[derive(Debug)]
pub(crate) enum Part {
    Asked,
    /// The program gives its state.
    Given(Given),
    /// The whole state has come, but the program may still send something that is not in it.
    Ended(Given, End),
}

/// What a program has given, and what it had sent when it began to.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) writer: BlobWriter,
    /// The output state, encoded.
    pub(crate) output: Bytes,
    pub(crate) blocks: Vec<SpilledBlock>,
}

/// The end of a checkpoint after which something may still be sent.
#[derive(Debug)]
pub(crate) struct End {
    at: u64,
    pub(crate) crc: u32,
    /// The ticks since then.
    ticks: u32,
    /// The ticks since anything came.
    silent_ticks: u32,
}

impl End {
    pub(crate) fn new(at: u64, crc: u32) -> Self {
        Self { at, crc, ticks: 0, silent_ticks: 0 }
    }

    fn is_quiet(&mut self, now: u64) -> bool {
        self.ticks += 1;
        self.silent_ticks += 1;
        let is_heard = self.silent_ticks > QUIET_TICKS || self.ticks > LOUD_TICKS;
        is_heard && now.saturating_sub(self.at) > QUIET_MICROS
    }
}

impl Taking {
    /// What was given so far, if anything.
    pub(crate) fn given(&self) -> Option<&Given> {
        match &self.part {
            Part::Asked => None,
            Part::Given(given) | Part::Ended(given, _) => Some(given),
        }
    }

    /// The state that was being written.
    pub(crate) fn into_writer(self) -> Option<BlobWriter> {
        match self.part {
            Part::Asked => None,
            Part::Given(given) | Part::Ended(given, _) => Some(given.writer),
        }
    }
}
