//! A program as a process: bytes in, bytes out, at its own pace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use protocol::immortal::{
    Fate, Message, Status, ToNode, ToProgram, blocks, messages, put_message, split_frame,
};
use random::Random;

use crate::script::{BOMB, Given, RecentOutput, Script, State, Word};

/// How a program behaves in one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Good,
    /// What the program sends depends on when it is run.
    Clock,
    /// Some messages kill the program.
    Frail,
    NoCheckpoint,
    /// Upgrades kill the program.
    Stuck,
    /// The program sends what is no frame.
    Broken,
}

/// What the program does with the next frame.
#[derive(Debug)]
enum Work {
    Input(Given),
    Frame(ToProgram),
}

/// Something that the world wants to look at.
#[derive(Debug)]
pub(crate) enum Sight {
    /// The program has handled an input. With the digest of its state and of all its outputs.
    Handled {
        given: Given,
        trail: u64,
    },
    RecentOutput {
        to: String,
        number: u64,
        message: Bytes,
    },
    Fate {
        tag: u64,
        fate: Fate,
        input: u64,
    },
    Loaded {
        input: u64,
        trail: u64,
    },
    Error {
        code: String,
        text: String,
    },
    Wrong(String),
    Crashed,
}

pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) manners: Manners,
    pub(crate) script: Script,
    pub(crate) versions: (u64, u64),
    /// Bytes from the node that are not read.
    pub(crate) pipe: VecDeque<Bytes>,
    /// Bytes for the node that are not read.
    pub(crate) out: VecDeque<u8>,
    buffer: BytesMut,
    work: VecDeque<Work>,
    pub(crate) state: Option<State>,
    load: Vec<u8>,
    load_input: u64,
    chunks: VecDeque<ToNode>,
    asked: Option<u64>,
    done: u64,
    pub(crate) primary: bool,
    performed: BTreeSet<u64>,
    impulses: u64,
    /// Numbers of impulses without a fate, and their tags.
    pub(crate) open: BTreeMap<u64, u64>,
    pub(crate) slow: u64,
    pub(crate) asleep_until: u64,
    pub(crate) closed: bool,
}

impl Process {
    pub(crate) fn new(id: u64, manners: Manners, script: Script, versions: (u64, u64)) -> Self {
        Self {
            id,
            manners,
            script,
            versions,
            pipe: VecDeque::new(),
            out: VecDeque::new(),
            buffer: BytesMut::new(),
            work: VecDeque::new(),
            state: None,
            load: Vec::new(),
            load_input: 0,
            chunks: VecDeque::new(),
            asked: None,
            done: 0,
            primary: false,
            performed: BTreeSet::new(),
            impulses: 0,
            open: BTreeMap::new(),
            slow: 0,
            asleep_until: 0,
            closed: false,
        }
    }

    /// Reads some of what the node has written. The result is how many bytes.
    pub(crate) fn read(&mut self, random: &mut Random) -> u64 {
        let Some(bytes) = self.pipe.pop_front() else { return 0 };
        let cut = if random.one_in(3) { 1 + random.index(bytes.len()) } else { bytes.len() };
        let cut = cut.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..cut]);
        if cut < bytes.len() {
            self.pipe.push_front(bytes.slice(cut..));
        }
        while let Some(frame) = split_frame(&mut self.buffer, 32 << 20).expect("a node keeps to it")
        {
            let frame = ToProgram::read(frame).expect("a node keeps to the protocol");
            match frame {
                ToProgram::Deliver { first, time, blocks } => self.given(first, time.0, blocks),
                ToProgram::Ping { number } => self.put(&ToNode::Pong { number }),
                frame => self.work.push_back(Work::Frame(frame)),
            }
        }
        u64::try_from(cut).expect("small")
    }

    fn given(&mut self, first: u64, time: u64, bytes: Bytes) {
        let mut number = first;
        for block in blocks(bytes) {
            let block = block.expect("a good block");
            for (place, message) in (block.head.first..).zip(messages(block.messages)) {
                let message = message.expect("a good message");
                let (kind, name) = (block.head.kind, block.head.name.clone());
                self.work.push_back(Work::Input(Given {
                    number,
                    time,
                    kind,
                    name,
                    place,
                    message,
                }));
                number += 1;
            }
        }
    }

    pub(crate) fn put(&mut self, frame: &ToNode) {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        self.out.extend(bytes);
    }

    /// Does some of its work.
    pub(crate) fn run(&mut self, random: &mut Random, sights: &mut Vec<Sight>) {
        for _ in 0..1 + random.index(6) {
            if let Some(chunk) = self.chunks.front()
                && random.one_in(2)
            {
                let chunk = chunk.clone();
                self.put(&chunk);
                self.chunks.pop_front();
            }
            let Some(work) = self.work.pop_front() else { break };
            match work {
                Work::Input(given) => {
                    if !self.handle(given, random, sights) {
                        return;
                    }
                }
                Work::Frame(frame) => self.frame(frame, random, sights),
            }
        }
        self.finish(random);
        if self.manners == Manners::Broken && random.one_in(40) {
            self.out.extend(
                (0..5 + random.index(20)).map(|_| u8::try_from(random.index(256)).unwrap()),
            );
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        let handled = self.state.as_ref().map_or(0, |state| state.inputs);
        let effects = self.state.as_ref().is_some_and(|state| {
            self.primary && state.effects.iter().any(|id| !self.performed.contains(id))
        });
        !self.pipe.is_empty()
            || !self.work.is_empty()
            || !self.chunks.is_empty()
            || self.asked.is_some() && self.manners != Manners::NoCheckpoint
            || handled > self.done
            || effects
    }

    fn finish(&mut self, random: &mut Random) {
        let Some(state) = &self.state else { return };
        let handled = state.inputs;
        if handled > self.done && random.one_in(2) {
            self.done = handled;
            self.put(&ToNode::Done { input: handled });
        }
        if let Some(request) = self.asked
            && self.work.is_empty()
            && self.chunks.is_empty()
            && self.manners != Manners::NoCheckpoint
        {
            self.asked = None;
            self.checkpoint(request, random);
        }
        if self.primary && self.chunks.is_empty() | random.one_in(3) {
            self.perform(random);
        }
    }

    fn perform(&mut self, random: &mut Random) {
        let Some(state) = &self.state else { return };
        let effects: Vec<u64> = state.effects.difference(&self.performed).copied().collect();
        for id in effects {
            if random.one_in(2) {
                self.performed.insert(id);
                let payload = Bytes::from(random.draw().to_le_bytes().to_vec());
                let result = ToNode::Result { id, status: Status::Value, payload };
                for _ in 0..1 + random.index(2) {
                    self.put(&result);
                }
            }
        }
    }

    fn checkpoint(&mut self, request: u64, random: &mut Random) {
        let state = self.state.as_ref().expect("it has a state");
        if state.inputs > self.done {
            self.done = state.inputs;
            let input = state.inputs;
            self.put(&ToNode::Done { input });
        }
        let state = self.state.as_ref().expect("it has a state").encode();
        self.put(&ToNode::Checkpoint { request });
        let size = 1 + random.index(state.len());
        for piece in state.chunks(size) {
            self.chunks.push_back(ToNode::Chunk(Bytes::copy_from_slice(piece)));
            if random.one_in(6) {
                self.chunks.push_back(ToNode::Chunk(Bytes::new()));
            }
        }
        self.chunks.push_back(ToNode::CheckpointEnd { crc: crc32fast::hash(&state) });
    }

    /// Handles an input. False when that has crashed the program.
    fn handle(&mut self, given: Given, random: &mut Random, sights: &mut Vec<Sight>) -> bool {
        if let Message::Fork { payload, .. } | Message::Impulse { payload, .. } = &given.message
            && self.manners == Manners::Frail
            && Word::of(payload).tag == BOMB
        {
            if random.one_in(2) {
                self.put(&ToNode::Fault { input: given.number, text: "a bomb".into() });
            }
            sights.push(Sight::Crashed);
            return false;
        }
        if self.manners == Manners::Stuck && matches!(given.message, Message::Upgrade { .. }) {
            sights.push(Sight::Crashed);
            return false;
        }
        let Some(state) = &mut self.state else {
            sights.push(Sight::Wrong("an input before a state".into()));
            return false;
        };
        let mut said = match state.handle(&self.script, &given) {
            Ok(said) => said,
            Err(why) => {
                sights.push(Sight::Wrong(format!("{why}: {given:?}")));
                return false;
            }
        };
        if self.manners == Manners::Clock && random.one_in(10) {
            said.push(RecentOutput::Cancel { id: random.draw() });
        }
        let trail = self.state.as_ref().expect("it is there").trail;
        sights.push(Sight::Handled { given, trail });
        self.say(said, random, sights);
        if random.one_in(3) {
            self.done = self.state.as_ref().expect("it is there").inputs;
            self.put(&ToNode::Done { input: self.done });
        }
        true
    }

    fn say(&mut self, said: Vec<RecentOutput>, random: &mut Random, sights: &mut Vec<Sight>) {
        let mut joined: Option<(String, u64, Vec<u8>)> = None;
        for said in said {
            let destination = joined.as_ref().map(|(name, ..)| name);
            let goes_on = matches!(&said, RecentOutput::Send { to, .. } if Some(to) == destination);
            if !goes_on || random.one_in(3) {
                self.send(joined.take());
            }
            match said {
                RecentOutput::Send { to, message } => {
                    let mut bytes = Vec::new();
                    put_message(&mut bytes, &message);
                    let number = match &message {
                        Message::Fork { payload, .. }
                        | Message::Call { payload, .. }
                        | Message::Answer { payload, .. } => Word::of(payload).tag,
                        _ => 0,
                    };
                    let message = Bytes::from(bytes.clone());
                    sights.push(Sight::RecentOutput { to: to.clone(), number, message });
                    let (_, count, all) = joined.get_or_insert((to, 0, Vec::new()));
                    *count += 1;
                    all.extend_from_slice(&bytes);
                }
                RecentOutput::Await { id, due } => self.put(&ToNode::Await { id, due }),
                RecentOutput::Cancel { id } => self.put(&ToNode::Cancel { id }),
            }
        }
        self.send(joined.take());
    }

    fn send(&mut self, joined: Option<(String, u64, Vec<u8>)>) {
        let Some((mut destination, count, messages)) = joined else { return };
        if destination == self.script.name && messages.len() % 2 == 0 {
            destination.clear();
        }
        self.put(&ToNode::Send { destination, count, messages: messages.into() });
    }

    /// A key was pressed.
    pub(crate) fn impulse(&mut self, destination: &str, word: Word) {
        self.impulses += 1;
        self.open.insert(self.impulses, word.tag);
        let mut message = Vec::new();
        put_message(&mut message, &Message::Impulse { method: 7, payload: word.bytes(3) });
        let (number, destination) = (self.impulses, destination.to_owned());
        self.put(&ToNode::Impulse { number, destination, message: message.into() });
    }

    fn frame(&mut self, frame: ToProgram, random: &mut Random, sights: &mut Vec<Sight>) {
        match frame {
            ToProgram::Genesis => {
                self.state = Some(State::new(self.versions.0));
                self.put(&ToNode::Initial(Bytes::from_static(b"hello")));
                self.checkpoint(0, random);
            }
            ToProgram::Load { input, .. } => {
                self.load.clear();
                self.load_input = input;
            }
            ToProgram::Chunk(bytes) => self.load.extend_from_slice(&bytes),
            ToProgram::LoadEnd { crc } => self.loaded(crc, sights),
            ToProgram::Primary { .. } => {
                self.primary = true;
                self.performed.clear();
            }
            ToProgram::Standby => self.primary = false,
            ToProgram::TakeCheckpoint { request } => self.asked = Some(request),
            ToProgram::Fate { number, fate, input } => match self.open.remove(&number) {
                Some(tag) => sights.push(Sight::Fate { tag, fate, input }),
                None => sights.push(Sight::Wrong(format!("a fate for impulse {number}"))),
            },
            ToProgram::Error { code, text } => {
                self.closed = true;
                sights.push(Sight::Error { code, text });
            }
            ToProgram::EndOfReplay { .. } | ToProgram::Credit { .. } => {}
            ToProgram::Welcome(_) | ToProgram::Ping { .. } | ToProgram::Deliver { .. } => {}
        }
    }

    fn loaded(&mut self, crc: u32, sights: &mut Vec<Sight>) {
        if crc32fast::hash(&self.load) != crc {
            sights.push(Sight::Wrong("a loaded state has a wrong checksum".into()));
            return;
        }
        let state = State::decode(&self.load);
        if state.inputs != self.load_input {
            let (is, told) = (state.inputs, self.load_input);
            sights.push(Sight::Wrong(format!(
                "a state after input {is} was told to be after {told}"
            )));
        }
        self.done = state.inputs;
        sights.push(Sight::Loaded { input: state.inputs, trail: state.trail });
        self.state = Some(state);
    }
}
