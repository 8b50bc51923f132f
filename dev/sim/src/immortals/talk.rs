//! A program's end of the native protocol: frames in, frames out, and what is in between. All of it
//! is gone when the connection ends.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use protocol::immortal::{
    Fate, Hello, Message, Status, ToNode, ToProgram, VERSION, blocks, messages, put_message,
    split_frame,
};

use crate::immortals::script::{Heard, ProgramState, Role, Said};

/// The longest frame that a node may send here.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Which versions of the state a program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) program: u64,
    pub(crate) upgrade_to: u64,
}

#[derive(Debug)]
struct Loading {
    input: u64,
    bytes: u64,
    state: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Talk {
    versions: Versions,
    /// The group of the instance that it is attached to.
    pub(crate) group: u32,
    buffer: BytesMut,
    /// What is to be written to the socket.
    pub(crate) out: Vec<u8>,
    pub(crate) program_state: Option<ProgramState>,
    loading: Option<Loading>,
    pub(crate) queue: VecDeque<Heard>,
    told: u64,
    pub(crate) is_live: bool,
    pub(crate) is_primary: bool,
    asked: Option<u64>,
    next_impulse: u64,
    /// Those without a fate.
    pub(crate) impulses: BTreeMap<u64, String>,
    /// Side effects that are under way or done here.
    pub(crate) effects: BTreeMap<u64, bool>,
}

/// What a frame of the node came to.
#[derive(Debug)]
pub(crate) enum Came {
    Loaded { life: u32, input: u64, digest: u64 },
    Begun { life: u32, digest: u64 },
    Input(Heard),
    Fate { impulse: String, fate: Fate, input: u64 },
    Primary,
    Error { code: String, text: String },
}

impl Talk {
    pub(crate) fn new(role: &Role, versions: Versions) -> Self {
        let mut talk = Self {
            versions,
            group: 0,
            buffer: BytesMut::new(),
            out: Vec::new(),
            program_state: None,
            loading: None,
            queue: VecDeque::new(),
            told: 0,
            is_live: false,
            is_primary: false,
            asked: None,
            next_impulse: 0,
            impulses: BTreeMap::new(),
            effects: BTreeMap::new(),
        };
        talk.say(&ToNode::Hello(Hello {
            version_min: VERSION,
            version_max: VERSION,
            instance: role.name.clone(),
            program_version: versions.program,
            upgrade_to: versions.upgrade_to,
        }));
        talk
    }

    fn say(&mut self, frame: &ToNode) {
        frame.put(&mut self.out);
    }

    /// Bytes of the node.
    ///
    /// # Errors
    /// When the node does not keep to the protocol.
    pub(crate) fn hear(
        &mut self,
        role: &Role,
        bytes: &[u8],
        came: &mut Vec<Came>,
    ) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        loop {
            let frame = split_frame(&mut self.buffer, FRAME_BYTES_MAX).map_err(|why| why.0)?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = ToProgram::read(frame).map_err(|why| why.0)?;
            self.frame(role, frame, came)?;
        }
    }

    fn frame(&mut self, role: &Role, frame: ToProgram, came: &mut Vec<Came>) -> Result<(), String> {
        match frame {
            ToProgram::Welcome(_) | ToProgram::Credit { .. } => {}
            ToProgram::Genesis => {
                let mut program_state = ProgramState::new(role, self.group);
                program_state.version = self.versions.program;
                came.push(Came::Begun { life: program_state.life, digest: program_state.digest() });
                self.program_state = Some(program_state);
                self.say(&ToNode::Initial(Bytes::from_static(b"begin")));
                self.give_state(0);
            }
            ToProgram::Load { input, bytes } => {
                self.loading = Some(Loading { input, bytes, state: Vec::new() });
                self.queue.clear();
                (self.program_state, self.asked, self.is_live) = (None, None, false);
            }
            ToProgram::Chunk(bytes) => {
                let loading = self.loading.as_mut().ok_or("CHUNK without LOAD")?;
                loading.state.extend_from_slice(&bytes);
            }
            ToProgram::LoadEnd { crc } => self.loaded(crc, came)?,
            ToProgram::Deliver { first, time, blocks } => {
                self.delivered(first, time, blocks, came)?;
            }
            ToProgram::EndOfReplay { input } if input != self.told => {
                return Err(format!("END_OF_REPLAY {input}, but {} was told", self.told));
            }
            ToProgram::EndOfReplay { .. } => self.is_live = true,
            ToProgram::Primary { .. } if !self.is_live => {
                return Err("PRIMARY before END_OF_REPLAY".into());
            }
            ToProgram::Primary { .. } => {
                self.is_primary = true;
                came.push(Came::Primary);
            }
            ToProgram::Standby => {
                self.is_primary = false;
                self.effects.clear();
            }
            ToProgram::TakeCheckpoint { request } => {
                self.asked = Some(request);
                self.take_due_checkpoint();
            }
            ToProgram::Fate { number, fate, input } => {
                let impulse = self.impulses.remove(&number);
                let impulse =
                    impulse.ok_or(format!("a FATE of impulse {number}, which has none"))?;
                came.push(Came::Fate { impulse, fate, input });
            }
            ToProgram::Ping { number } => self.say(&ToNode::Pong { number }),
            ToProgram::Error { code, text } => came.push(Came::Error { code, text }),
        }
        Ok(())
    }

    fn loaded(&mut self, crc: u32, came: &mut Vec<Came>) -> Result<(), String> {
        let Loading { input, bytes, state } = self.loading.take().ok_or("LOAD_END without LOAD")?;
        if crc32fast::hash(&state) != crc || state.len() as u64 != bytes {
            return Err(format!("a state of {bytes} bytes, {} came", state.len()));
        }
        let program_state: ProgramState =
            serde_json::from_slice(&state).map_err(|error| error.to_string())?;
        if program_state.version != self.versions.program {
            let (has, knows) = (program_state.version, self.versions.program);
            return Err(format!("a state of version {has} for a program of version {knows}"));
        }
        self.told = input;
        came.push(Came::Loaded { life: program_state.life, input, digest: program_state.digest() });
        self.program_state = Some(program_state);
        Ok(())
    }

    fn delivered(
        &mut self,
        first: u64,
        time: protocol::Moment,
        all: Bytes,
        came: &mut Vec<Came>,
    ) -> Result<(), String> {
        if self.program_state.is_none() || first != self.told + 1 || self.asked.is_some() {
            return Err(format!("DELIVER {first} after {} (or before a state)", self.told));
        }
        for block in blocks(all) {
            let block = block.map_err(|why| why.0)?;
            let mut place = 0;
            for message in messages(block.messages) {
                let message = message.map_err(|why| why.0)?;
                let mut source = block.head.clone();
                if source.first > 0 {
                    source.first += place;
                }
                // How inputs were put together in blocks is nothing that a program may look at.
                source.count = 1;
                place += 1;
                self.told += 1;
                let heard = Heard { number: self.told, time, source, message };
                came.push(Came::Input(heard.clone()));
                self.queue.push_back(heard);
            }
            if place != block.head.count {
                return Err(format!("{place} messages in a block of {}", block.head.count));
            }
        }
        Ok(())
    }

    /// What follows from an input.
    pub(crate) fn say_all(&mut self, role: &Role, says: &[Said]) {
        for said in says {
            let frame = match said {
                Said::Send { destination, messages } => {
                    let mut bytes = Vec::new();
                    messages.iter().for_each(|message| put_message(&mut bytes, message));
                    let own = *destination == role.name;
                    let destination = if own { String::new() } else { destination.clone() };
                    let count = messages.len() as u64;
                    ToNode::Send { destination, count, messages: bytes.into() }
                }
                Said::Await { id, due } => ToNode::Await { id: *id, due: *due },
                Said::Cancel { id } => ToNode::Cancel { id: *id },
            };
            self.say(&frame);
        }
    }

    /// All that was handled is confirmed.
    pub(crate) fn say_done(&mut self) {
        let Some(program_state) = &self.program_state else { return };
        let input = program_state.inputs;
        self.say(&ToNode::Done { input });
        self.take_due_checkpoint();
    }

    fn take_due_checkpoint(&mut self) {
        if self.queue.is_empty()
            && let Some(request) = self.asked.take()
        {
            let input = self.program_state.as_ref().map_or(0, |program_state| program_state.inputs);
            self.say(&ToNode::Done { input });
            self.give_state(request);
        }
    }

    fn give_state(&mut self, request: u64) {
        let state = self.program_state.as_ref().map(ProgramState::encode).unwrap_or_default();
        self.say(&ToNode::Checkpoint { request });
        for piece in state.chunks(100_000) {
            self.say(&ToNode::Chunk(Bytes::copy_from_slice(piece)));
        }
        self.say(&ToNode::CheckpointEnd { crc: crc32fast::hash(&state) });
    }

    pub(crate) fn say_impulse(&mut self, id: &str, destination: &str) {
        self.next_impulse += 1;
        self.impulses.insert(self.next_impulse, id.to_owned());
        let mut bytes = Vec::new();
        let payload = Bytes::copy_from_slice(id.as_bytes());
        put_message(&mut bytes, &Message::Impulse { method: 3, payload });
        let destination = destination.to_owned();
        let (number, message) = (self.next_impulse, bytes.into());
        self.say(&ToNode::Impulse { number, destination, message });
    }

    pub(crate) fn say_result(&mut self, id: u64, text: String) {
        let payload = Bytes::from(text);
        self.say(&ToNode::Result { id, status: Status::Value, payload });
    }

    pub(crate) fn say_fault(&mut self, input: u64) {
        self.say(&ToNode::Fault { input, text: "that was poison".into() });
    }

    pub(crate) fn ask_checkpoint(&mut self) {
        self.say(&ToNode::AskCheckpoint);
    }
}
