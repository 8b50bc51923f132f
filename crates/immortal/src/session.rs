//! One connection, from HELLO to its end. A session begins with nothing: its state comes from the
//! node, or is made anew when there is none.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, Bytes};
use crc32fast::Hasher;
use protocol::Moment;
use protocol::immortal::{
    BlockView, Garbled, Hello, MessageView, SourceKind, ToNode, ToProgram, VERSION, View, Welcome,
};

use crate::effects::{Effects, text_of};
use crate::impulses::{Impulses, InHandler};
use crate::inbox::{Inbox, limit, read_frames};
use crate::incoming::{Sender, SenderKind};
use crate::link::{Broken, Link, Socket};
use crate::machine::{Stage, Versions};
use crate::outputs::Outputs;
use crate::program::Place;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The connection broke.
    Lost(String),
    /// The node ended it, and said why.
    Said { code: String, text: String },
    /// The program failed at this input; the node was told.
    Fault { input: u64, text: String },
}

impl From<Broken> for Ended {
    fn from(Broken(why): Broken) -> Self {
        Self::Lost(why)
    }
}

impl From<Garbled> for Ended {
    fn from(garbled: Garbled) -> Self {
        Self::Lost(format!("the node sent garbage: {garbled}"))
    }
}

/// What a session is to be.
pub(crate) struct Plan<'a, S> {
    pub(crate) instance: &'a str,
    pub(crate) versions: Versions,
    /// The payload of the START input.
    pub(crate) initial: &'a [u8],
    pub(crate) fresh: &'a dyn Fn() -> S,
    pub(crate) impulses: &'a Impulses,
}

/// What became of it.
pub(crate) struct Told {
    pub(crate) ended: Ended,
    /// It came as far as the end of replay: the program works.
    pub(crate) caught_up: bool,
}

/// Runs one session on a connected socket.
pub(crate) fn run<S: Stage>(plan: &Plan<'_, S>, socket: Socket) -> Told {
    let link = Link::new(socket);
    let inbox = Inbox::default();
    std::thread::scope(|scope| {
        plan.impulses.connected(&link);
        scope.spawn(|| inbox.end(read_frames(&link, &inbox, plan.impulses)));
        let mut caught_up = false;
        let Err(ended) = Session::begin(plan, &link, &inbox)
            .and_then(|mut session| session.serve(&mut caught_up));
        if let Ended::Fault { input, text } = &ended {
            // If it cannot be told, the node sees the connection end.
            drop(link.write_frame(&ToNode::Fault { input: *input, text: text.clone() }));
        }
        link.shut();
        inbox.close();
        plan.impulses.disconnected();
        Told { ended, caught_up }
    })
}

struct Session<'a, S> {
    plan: &'a Plan<'a, S>,
    link: &'a Link,
    frames: Frames<'a>,
    outputs: Outputs,
    /// None before GENESIS or LOAD, and for a moment in an upgrade.
    stage: Option<S>,
    /// The last input that was handled, or that is being handled.
    input: u64,
    /// While this copy is the primary.
    effects: Option<Effects>,
    /// It became the primary before its first input.
    primary_is_due: bool,
}

/// The frames in the order in which they came.
struct Frames<'a> {
    inbox: &'a Inbox,
    here: VecDeque<ToProgram>,
}

impl Frames<'_> {
    fn next(&mut self) -> Result<ToProgram, Ended> {
        loop {
            match self.here.pop_front() {
                Some(ToProgram::Error { code, text }) => return Err(Ended::Said { code, text }),
                Some(frame) => return Ok(frame),
                None => self.inbox.take(&mut self.here)?,
            }
        }
    }
}

impl<'a, S: Stage> Session<'a, S> {
    fn begin(plan: &'a Plan<'a, S>, link: &'a Link, inbox: &'a Inbox) -> Result<Self, Ended> {
        link.write_frame(&ToNode::Hello(Hello {
            version_min: VERSION,
            version_max: VERSION,
            instance: plan.instance.to_owned(),
            program_version: plan.versions.program,
            upgrade_to: plan.versions.upgrade_to,
        }))?;
        let mut frames = Frames { inbox, here: VecDeque::new() };
        let welcome = match frames.next()? {
            ToProgram::Welcome(welcome) => welcome,
            other => return Err(unexpected(&other)),
        };
        let Welcome { version, frame_bytes_max, .. } = welcome;
        if version != VERSION {
            return Err(Ended::Lost(format!("the node wants to speak version {version}")));
        }
        let outputs = Outputs::new(link.clone(), limit(frame_bytes_max));
        Ok(Self {
            plan,
            link,
            frames,
            outputs,
            stage: None,
            input: 0,
            effects: None,
            primary_is_due: false,
        })
    }

    fn serve(&mut self, caught_up: &mut bool) -> Result<Infallible, Ended> {
        loop {
            match self.frames.next()? {
                ToProgram::Deliver { first, time, blocks } => self.deliver(first, time, &blocks)?,
                ToProgram::Genesis => self.genesis()?,
                ToProgram::Load { input, bytes } => self.load(input, bytes)?,
                ToProgram::TakeCheckpoint { request } => self.checkpoint(request)?,
                ToProgram::EndOfReplay { .. } => *caught_up = true,
                ToProgram::Primary { .. } => self.primary()?,
                ToProgram::Standby => self.standby()?,
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// The first state. What cannot be read back the same would be found out after the first crash,
    /// so it is tried at once.
    fn genesis(&mut self) -> Result<(), Ended> {
        let versions = self.plan.versions;
        let fresh = self.plan.fresh;
        let stage = self.guarded(|_| {
            let stage = fresh();
            let mut saved = Vec::new();
            stage.save(&mut saved)?;
            let mut again = Vec::new();
            S::load(&mut &saved[..], versions)?.save(&mut again)?;
            if saved != again {
                return Err(io::Error::other(
                    "the first state, saved and loaded, is another one: a HashMap in it, perhaps",
                ));
            }
            Ok(stage)
        })?;
        self.stage = Some(stage);
        self.input = 0;
        if !self.plan.initial.is_empty() {
            let initial = Bytes::copy_from_slice(self.plan.initial);
            self.outputs.frame(&ToNode::Initial(initial));
        }
        self.checkpoint(0)
    }

    fn load(&mut self, input: u64, bytes: u64) -> Result<(), Ended> {
        self.input = input;
        let was_primary = self.effects.take().is_some();
        let mut chunks = Chunks {
            frames: &mut self.frames,
            chunk: Bytes::new(),
            left: bytes,
            crc: Hasher::new(),
            ended: None,
        };
        let versions = self.plan.versions;
        let loaded = catch_unwind(AssertUnwindSafe(|| S::load(&mut chunks, versions)));
        // The rest is read in any case: whether the bytes are right comes before what they mean.
        let rest = io::copy(&mut chunks, &mut io::sink());
        let Chunks { crc, ended, .. } = chunks;
        if let Some(ended) = ended {
            return Err(ended);
        }
        let fault = |text: String| Ended::Fault { input, text };
        let rest = rest.map_err(|error| fault(error.to_string()))?;
        let found = crc.finalize();
        match self.frames.next()? {
            ToProgram::LoadEnd { crc } if crc == found => {}
            ToProgram::LoadEnd { crc } => {
                return Err(fault(format!(
                    "the checkpoint is damaged: its checksum is {found:08x} and should be {crc:08x}"
                )));
            }
            other => return Err(unexpected(&other)),
        }
        let stage = loaded
            .map_err(|panic| fault(text_of(&*panic)))?
            .map_err(|error| fault(error.to_string()))?;
        if rest > 0 {
            return Err(fault(format!("{rest} bytes of the checkpoint were not read by `load`")));
        }
        self.stage = Some(stage);
        if was_primary { self.begin_effects() } else { Ok(()) }
    }

    fn checkpoint(&mut self, request: u64) -> Result<(), Ended> {
        self.outputs.frame(&ToNode::Checkpoint { request });
        let stage = self.stage.take().ok_or_else(too_early)?;
        let crc = self.guarded(|outputs| {
            let mut cutter = Cutter::new(outputs);
            stage.save(&mut cutter)?;
            cutter.finish()
        })?;
        self.stage = Some(stage);
        self.outputs.frame(&ToNode::CheckpointEnd { crc });
        Ok(self.outputs.flush()?)
    }

    /// Only after START: before it there is nothing that a program could go by.
    fn primary(&mut self) -> Result<(), Ended> {
        self.primary_is_due = self.input == 0;
        if self.primary_is_due {
            return Ok(());
        }
        self.plan.impulses.set_primary(true);
        self.begin_effects()?;
        let impulses = self.plan.impulses;
        self.with_stage(|stage| stage.primary(impulses))
    }

    fn standby(&mut self) -> Result<(), Ended> {
        self.primary_is_due = false;
        self.plan.impulses.set_primary(false);
        self.effects = None;
        self.with_stage(|stage| stage.standby())
    }

    /// Does all that is awaited and has no result, also what another primary may have done already.
    fn begin_effects(&mut self) -> Result<(), Ended> {
        let effects = Effects::new(self.link.clone());
        let stage = self.stage.as_ref().ok_or_else(too_early)?;
        stage.all_effects().into_iter().for_each(|job| effects.begin(job));
        self.effects = Some(effects);
        Ok(())
    }

    /// Calls what a program may have to say about its role.
    fn with_stage(&mut self, call: impl FnOnce(&S)) -> Result<(), Ended> {
        let stage = self.stage.take().ok_or_else(too_early)?;
        self.guarded(|_| {
            call(&stage);
            Ok(())
        })?;
        self.stage = Some(stage);
        Ok(())
    }

    /// Runs what may fail or panic; either is a fault at the input that stands.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Outputs) -> io::Result<T>) -> Result<T, Ended> {
        let outputs = &mut self.outputs;
        let done = catch_unwind(AssertUnwindSafe(|| work(outputs)));
        let fault = |text| Ended::Fault { input: self.input, text };
        done.map_err(|panic| fault(text_of(&*panic)))?.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionAborted => Ended::Lost(error.to_string()),
            _ => fault(error.to_string()),
        })
    }

    fn deliver(&mut self, first: u64, time: Moment, blocks: &[u8]) -> Result<(), Ended> {
        if first != self.input + 1 {
            let text = format!("input {} was expected, and {first} came", self.input + 1);
            return Err(Ended::Fault { input: self.input, text });
        }
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let _in_handler = InHandler::enter();
            self.handle_blocks(time, blocks)
        }));
        match handled {
            Ok(handled) => handled?,
            Err(panic) => {
                return Err(Ended::Fault { input: self.input, text: text_of(&*panic) });
            }
        }
        self.outputs.frame(&ToNode::Done { input: self.input });
        self.outputs.flush()?;
        let new = self.stage.as_mut().map(S::new_effects).unwrap_or_default();
        if let Some(effects) = &self.effects {
            new.into_iter().for_each(|job| effects.begin(job));
        }
        if self.primary_is_due { self.primary() } else { Ok(()) }
    }

    fn handle_blocks(&mut self, time: Moment, blocks: &[u8]) -> Result<(), Ended> {
        let mut blocks = View::new(blocks);
        while let Some(block) = blocks.block()? {
            self.handle_block(time, block)?;
        }
        Ok(())
    }

    fn handle_block(&mut self, time: Moment, mut block: BlockView<'_>) -> Result<(), Ended> {
        let kind = match block.kind {
            SourceKind::Node => SenderKind::Node,
            SourceKind::Instance => SenderKind::Instance,
            SourceKind::Impulses => SenderKind::Outside,
        };
        let sender = Sender { name: block.name, kind };
        while let Some(message) = block.messages.message()? {
            self.input += 1;
            if let MessageView::Upgrade { version } = message {
                let stage = self.stage.take().ok_or_else(too_early)?;
                let upgraded = stage.upgrade(version);
                self.stage =
                    Some(upgraded.map_err(|text| Ended::Fault { input: self.input, text })?);
                continue;
            }
            let place = Place { me: self.plan.instance, input: self.input, now: time, sender };
            let stage = self.stage.as_mut().ok_or_else(too_early)?;
            stage.message(place, &mut self.outputs, message);
        }
        Ok(())
    }
}

fn unexpected(frame: &ToProgram) -> Ended {
    Ended::Lost(format!("the node sent something that has no place here: {frame:?}"))
}

fn too_early() -> Ended {
    Ended::Lost("the node sent something before the program has a state".into())
}

/// Reads a checkpoint out of the chunks in which it comes.
struct Chunks<'a, 'b> {
    frames: &'a mut Frames<'b>,
    chunk: Bytes,
    /// How many bytes are still to come, beside the chunk.
    left: u64,
    crc: Hasher,
    /// The connection ended in between.
    ended: Option<Ended>,
}

impl Read for Chunks<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && self.left > 0 && self.ended.is_none() {
            match self.frames.next() {
                Ok(ToProgram::Chunk(chunk)) if chunk.len() as u64 <= self.left => {
                    self.left -= chunk.len() as u64;
                    self.crc.update(&chunk);
                    self.chunk = chunk;
                }
                Ok(other) => self.ended = Some(unexpected(&other)),
                Err(ended) => self.ended = Some(ended),
            }
        }
        if self.ended.is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let count = into.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

/// Cuts a checkpoint into chunks as it is written.
struct Cutter<'a> {
    outputs: &'a mut Outputs,
    chunk: Vec<u8>,
    crc: Hasher,
}

impl<'a> Cutter<'a> {
    fn new(outputs: &'a mut Outputs) -> Self {
        Self { outputs, chunk: Vec::new(), crc: Hasher::new() }
    }

    fn cut(&mut self) -> io::Result<()> {
        self.crc.update(&self.chunk);
        let chunk = std::mem::take(&mut self.chunk);
        let sent = self.outputs.chunk(chunk.into());
        sent.map_err(|Broken(why)| io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }

    fn finish(mut self) -> io::Result<u32> {
        if !self.chunk.is_empty() {
            self.cut()?;
        }
        Ok(self.crc.finalize())
    }
}

impl Write for Cutter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.outputs.chunk_bytes() - self.chunk.len();
        let count = bytes.len().min(room);
        self.chunk.extend_from_slice(&bytes[..count]);
        if count == room {
            self.cut()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
