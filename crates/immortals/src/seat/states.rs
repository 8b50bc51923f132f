//! The states of the place for a program.

use bytes::Bytes;
use protocol::Position;
use protocol::immortal::ToProgram;
use storage::StoreError;

use crate::base::record::{BaseRecord, BlobWriter, names, read_chunk, read_output};
use crate::base::replica_base::Base;
use crate::context::Context;
use crate::history::applied::History;
use crate::io::Output;
use crate::output::output_state::OutputState;
use crate::output::spill::SpillBlockId;
use crate::output::stream::KeptLimits;
use crate::seat::connection::Connection;
use crate::seat::running::Running;
use crate::seat::taking::Taking;
use crate::seat::window::WINDOW_BYTES;

pub(crate) enum Seat {
    /// No program is attached.
    Vacant,
    /// A program is attached, and there is no state to begin with.
    Waiting(Connection),
    /// The program is asked for the state that all programs begin with. Only a leader's seat is
    /// here.
    Genesis(Genesis),
    /// The program is given the state of the base.
    Loading(Box<Loading>),
    /// The program has a state.
    Running(Box<Running>),
}

pub(crate) struct Genesis {
    pub(crate) connection: Connection,
    pub(crate) initial: Bytes,
    pub(crate) part: GenesisPart,
}

/// How far the first state has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GenesisPart {
    Asked,
    Giving,
    /// All of it has come.
    Given,
}

pub(crate) struct Loading {
    connection: Connection,
    base: BaseRecord,
    output: OutputState,
    /// The number of the next piece.
    next: u32,
}

/// The result of giving a program more of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    Well,
    /// The base was replaced by a later one meanwhile.
    Outdated,
}

impl Seat {
    pub(crate) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Vacant => None,
            Self::Waiting(connection) => Some(connection),
            Self::Genesis(genesis) => Some(&genesis.connection),
            Self::Loading(loading) => Some(&loading.connection),
            Self::Running(running) => Some(&running.connection),
        }
    }

    pub(crate) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Vacant => None,
            Self::Waiting(connection) => Some(connection),
            Self::Genesis(genesis) => Some(&mut genesis.connection),
            Self::Loading(loading) => Some(&mut loading.connection),
            Self::Running(running) => Some(&mut running.connection),
        }
    }

    /// The connection of that program, if it is the one that is attached.
    pub(crate) fn connection_of(&mut self, program: u64) -> Option<&mut Connection> {
        self.connection_mut().filter(|connection| connection.program == program)
    }

    pub(crate) fn is_vacant(&self) -> bool {
        matches!(self, Self::Vacant)
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        if let Self::Running(running) = self { Some(running) } else { None }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        if let Self::Running(running) = self { Some(running) } else { None }
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.running().is_some_and(Running::is_primary)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.running().is_some_and(Running::is_live)
    }

    /// The last input that the program was told; 0 when it has no state.
    pub(crate) fn told(&self) -> u64 {
        self.running().map_or(0, |running| running.told)
    }

    /// The last input that the program has handled; 0 when it has no state.
    pub(crate) fn done(&self) -> u64 {
        self.running().map_or(0, Running::done_input)
    }

    /// The version that the program can turn its state into; 0 when there is no program.
    pub(crate) fn upgrade_to(&self) -> u64 {
        self.connection().map_or(0, |connection| connection.hello.upgrade_to)
    }

    /// Whether the program could go on from an upgrade to that version.
    pub(crate) fn can_become(&self, version: u64) -> bool {
        let by_code = |connection: &Connection| {
            let hello = &connection.hello;
            hello.upgrade_to == version || hello.program_version == version
        };
        match self {
            Self::Running(running) => running.can_become(version),
            other => other.connection().is_some_and(by_code),
        }
    }

    /// The bytes of log that the program was not given.
    pub(crate) fn backlog(&self, history: &History) -> u64 {
        match self {
            Self::Vacant => 0,
            Self::Waiting(_) | Self::Genesis(_) | Self::Loading(_) => history.log_bytes,
            Self::Running(running) => running.cursor.backlog,
        }
    }

    /// The program needs no entry of the log up to there any more, and no state of an earlier
    /// place.
    pub(crate) fn is_past(&self, position: Position) -> bool {
        match self {
            Self::Vacant | Self::Waiting(_) | Self::Genesis(_) => true,
            Self::Loading(_) => false,
            Self::Running(running) => running.cursor.position >= position,
        }
    }

    /// Whether what the program has sent, or is about to put into a checkpoint, refers to that
    /// block.
    pub(crate) fn refers_to(&self, id: &SpillBlockId) -> bool {
        let output = match self {
            Self::Vacant | Self::Waiting(_) | Self::Genesis(_) => return false,
            Self::Loading(loading) => &loading.output,
            Self::Running(running) => &running.output,
        };
        let taking = self.running().and_then(|running| running.checkpoint.taking.as_ref());
        let given = taking.and_then(Taking::given);
        output.refers_to(id) || given.is_some_and(|given| names(&given.blocks, id))
    }

    /// Puts what is to be written to the program among the outputs.
    pub(crate) fn flush(&mut self, outputs: &mut Vec<Output>) {
        if let Some(connection) = self.connection_mut() {
            connection.flush(outputs);
        }
    }

    /// Takes the program out. With it comes the state that was being written for a checkpoint.
    pub(crate) fn vacate(&mut self) -> Option<(Connection, Option<BlobWriter>)> {
        match std::mem::replace(self, Self::Vacant) {
            Self::Vacant => None,
            Self::Waiting(connection) => Some((connection, None)),
            Self::Genesis(genesis) => Some((genesis.connection, None)),
            Self::Loading(loading) => Some((loading.connection, None)),
            Self::Running(running) => {
                let Running { connection, checkpoint, .. } = *running;
                Some((connection, checkpoint.taking.and_then(Taking::into_writer)))
            }
        }
    }

    /// Begins to give the program that waits the state of the base.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn load(
        &mut self,
        cx: &Context<'_>,
        base: &Base,
        limits: KeptLimits,
    ) -> Result<(), StoreError> {
        let Self::Waiting(_) = self else { return Ok(()) };
        let Some(blob) = base.record.blob else { return Ok(()) };
        let output = read_output(cx.store, &cx.space, &base.record)?;
        let Some((mut connection, _)) = self.vacate() else { return Ok(()) };
        let output = output.of(&connection.hello.instance, limits);
        let input = base.record.input_state.inputs;
        connection.tell(&ToProgram::Load { input, bytes: blob.bytes });
        let base = base.record.clone();
        let loading = Loading { connection, base, output, next: 0 };
        *self = Self::Loading(Box::new(loading));
        Ok(())
    }

    /// Gives a program that is loading more of its state, as much as its socket takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn go_on_loading(
        &mut self,
        cx: &Context<'_>,
        history: &History,
        is_careful: bool,
    ) -> Result<Loaded, StoreError> {
        let Self::Loading(loading) = self else { return Ok(Loaded::Well) };
        let blob = loading.base.blob.expect("a program is loaded with a state");
        while loading.next < blob.chunks && loading.connection.unwritten < WINDOW_BYTES as u64 {
            let Some(chunk) = read_chunk(cx.store, &cx.space, &blob, loading.next)? else {
                return Ok(Loaded::Outdated);
            };
            loading.connection.tell(&ToProgram::Chunk(chunk));
            loading.next += 1;
        }
        if loading.next < blob.chunks {
            return Ok(Loaded::Well);
        }
        if let Self::Loading(loading) = std::mem::replace(self, Self::Vacant) {
            let Loading { mut connection, base, output, .. } = *loading;
            connection.tell(&ToProgram::LoadEnd { crc: blob.crc });
            let now = cx.now.steady_micros;
            let running = Running::new(connection, output, &base, history, is_careful, now);
            *self = Self::Running(Box::new(running));
        }
        Ok(Loaded::Well)
    }

    /// The first state is the base now. The program that gave it has it.
    pub(crate) fn end_genesis(
        &mut self,
        base: &BaseRecord,
        history: &History,
        limits: KeptLimits,
        is_careful: bool,
        now: u64,
    ) {
        match std::mem::replace(self, Self::Vacant) {
            Self::Genesis(Genesis { connection, .. }) => {
                let output = OutputState::default().of(&connection.hello.instance, limits);
                let running = Running::new(connection, output, base, history, is_careful, now);
                *self = Self::Running(Box::new(running));
            }
            other => *self = other,
        }
    }
}
