//! What each message of an LB and each frame of the core does, and the state that this needs.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::immortal::{
    Garbled, Hello, Message, ToNode, ToProgram, VERSION, blocks, messages, put_message,
};

use super::decoder::Word;
use super::kind;
use super::options::AmbrosiaOptions;
use super::record::Records;
use super::rpc::Outgoing;

/// The size up to which consecutive messages to one destination go on in one SEND. A message that
/// is longer has a SEND of its own.
pub const SEND_BYTES: usize = 256 << 10;

/// How many bytes of impulses wait for the core to say PRIMARY; a single one may be longer. More
/// are dropped: an impulse that was not logged may be lost.
pub const IMPULSE_BYTES_HELD_MAX: usize = 1 << 20;

/// How many checkpoints may be asked for and not have come. One more ends the connection: the core
/// asks for one at a time.
pub const CHECKPOINTS_AWAITED_MAX: usize = 16;

/// The role of the program, as the core sees it and as the program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Neither GENESIS nor LOAD has come.
    Nobody,
    /// A standby that knows it.
    Follower,
    /// The primary, which does not know it: the upgrade that it waits for will tell it.
    Upgrader,
    /// A program that takes itself for the primary before the core has said so. AMBROSIA's request
    /// for the first checkpoint, and its request for an upgrade, mean that too.
    Believer,
    /// The primary.
    Primary,
    /// A program that takes itself for the primary and no longer is the primary.
    Ousted,
}

/// A checkpoint that the LB was told to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first state.
    First,
    /// The core asked for it after this input was told.
    Asked { request: u64, input: u64 },
    /// AMBROSIA's protocol wants it and the core does not, so it is dropped. The checkpoint still
    /// proves that the inputs before it are handled.
    Unwanted { input: u64 },
    /// The checkpoint is of a state that was replaced since then, so it proves nothing.
    Stale,
}

/// What happens with the checkpoint that is coming.
#[derive(Debug)]
enum Coming {
    Nothing,
    Passed(crc32fast::Hasher),
    Dropped,
}

/// A state that is being loaded, with the bytes that are to come.
#[derive(Debug)]
struct Load {
    bytes: u64,
    crc: crc32fast::Hasher,
}

/// When the program is told to upgrade its state.
#[derive(Debug, PartialEq, Eq)]
enum Upgrade {
    Never,
    /// At its place in the log.
    InLog,
    /// Right after loading, to see how the new code does with an old log.
    Tested,
}

/// The impulses of the program.
#[derive(Debug, Default)]
struct Impulses {
    /// The impulses that came before PRIMARY: destination and message.
    held: Vec<(String, Bytes)>,
    held_bytes: usize,
    /// The number of the last one.
    last: u64,
    lost: u64,
}

impl Impulses {
    fn next(&mut self, destination: String, message: Bytes) -> ToNode {
        self.last += 1;
        ToNode::Impulse { number: self.last, destination, message }
    }

    /// Keeps an impulse until the core says PRIMARY, if there is room.
    fn hold(&mut self, destination: String, message: Bytes) {
        let bytes = self.held_bytes + destination.len() + message.len();
        if bytes > IMPULSE_BYTES_HELD_MAX && !self.held.is_empty() {
            self.lost += 1;
            return;
        }
        self.held_bytes = bytes;
        self.held.push((destination, message));
    }

    fn take_held(&mut self) -> Vec<(String, Bytes)> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    fn drop_held(&mut self) {
        self.lost += self.take_held().len() as u64;
    }
}

/// The checkpoints that the LB was told to take.
#[derive(Debug)]
struct Checkpoints {
    /// An initial message comes with the first one.
    initial_awaited: bool,
    awaited: VecDeque<Awaited>,
    coming: Coming,
}

impl Checkpoints {
    fn new() -> Self {
        Self { initial_awaited: false, awaited: VecDeque::new(), coming: Coming::Nothing }
    }

    fn is_taking(&self) -> bool {
        !self.awaited.is_empty() || !matches!(self.coming, Coming::Nothing)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Translator {
    options: AmbrosiaOptions,
    upgrade: Upgrade,
    greeted: bool,
    role: Role,
    records: Records,
    sending: Sending,
    impulses: Impulses,
    inputs_ignored: u64,
    checkpoints: Checkpoints,
    load: Option<Load>,
    /// The last input that was told, or that the loaded state contains.
    told: u64,
    /// The last input that is known to be handled.
    done: u64,
}

impl Translator {
    pub(super) fn new(options: AmbrosiaOptions) -> Self {
        let upgrade = match options.upgrade_to == options.program_version {
            true => Upgrade::Never,
            false => Upgrade::InLog,
        };
        Self {
            records: Records::new(options.committer_id),
            options,
            upgrade,
            greeted: false,
            role: Role::Nobody,
            sending: Sending::default(),
            impulses: Impulses::default(),
            inputs_ignored: 0,
            checkpoints: Checkpoints::new(),
            load: None,
            told: 0,
            done: 0,
        }
    }

    pub(super) fn test_upgrade(&mut self) {
        self.upgrade = Upgrade::Tested;
    }

    pub(super) fn is_ousted(&self) -> bool {
        self.role == Role::Ousted
    }

    pub(super) fn is_taking_checkpoint(&self) -> bool {
        self.checkpoints.is_taking()
    }

    pub(super) fn impulses_lost(&self) -> u64 {
        self.impulses.lost
    }

    pub(super) fn inputs_ignored(&self) -> u64 {
        self.inputs_ignored
    }

    // From the LB to the core.

    /// Gives the frames that do not come from the bytes that are to be read next.
    pub(super) fn begin(&mut self, said: &mut Vec<ToNode>) {
        if !self.greeted {
            self.greeted = true;
            said.push(ToNode::Hello(Hello {
                version_min: VERSION,
                version_max: VERSION,
                instance: self.options.instance.clone(),
                program_version: self.options.program_version,
                upgrade_to: self.options.upgrade_to,
            }));
        }
        if self.role == Role::Primary {
            for (destination, message) in self.impulses.take_held() {
                said.push(self.impulses.next(destination, message));
            }
        }
    }

    /// There are no more bytes at the moment, so nothing more can be joined.
    pub(super) fn end(&mut self, said: &mut Vec<ToNode>) {
        self.sending.end(said);
    }

    pub(super) fn word(&mut self, word: Word, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        if let Word::Rpc(outgoing) = word {
            return self.rpc(outgoing, said);
        }
        self.sending.end(said);
        match word {
            Word::Rpc(_) | Word::AttachTo => {}
            Word::TakeCheckpoint => said.push(ToNode::AskCheckpoint),
            Word::Initial(payload) => return self.initial(payload, said),
            Word::Checkpoint => return self.checkpoint(said),
            Word::Chunk(piece) => self.piece(piece, said),
            Word::CheckpointEnd => self.checkpoint_end(said),
        }
        Ok(())
    }

    fn rpc(&mut self, outgoing: Outgoing, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        let Outgoing { mut destination, message } = outgoing;
        // AMBROSIA counts a call to oneself by name as one without a name.
        if destination == self.options.instance.as_bytes() {
            destination.clear();
        }
        if !matches!(message, Message::Impulse { .. }) {
            return self.sending.add(&destination, &message, said);
        }
        self.sending.end(said);
        let mut bytes = Vec::new();
        put_message(&mut bytes, &message);
        self.impulse(name(&destination)?, bytes.into(), said);
        Ok(())
    }

    fn impulse(&mut self, destination: String, message: Bytes, said: &mut Vec<ToNode>) {
        match self.role {
            Role::Primary => said.push(self.impulses.next(destination, message)),
            Role::Believer => self.impulses.hold(destination, message),
            Role::Nobody | Role::Follower | Role::Upgrader | Role::Ousted => {
                self.impulses.lost += 1;
            }
        }
    }

    fn initial(&mut self, payload: Bytes, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        if self.checkpoints.initial_awaited {
            self.checkpoints.initial_awaited = false;
            said.push(ToNode::Initial(payload));
            return Ok(());
        }
        // One of the bindings sends it each time that it is told to take a checkpoint and become
        // primary. A coordinator passes over all but the first.
        if self
            .checkpoints
            .awaited
            .iter()
            .any(|awaited| matches!(awaited, Awaited::Unwanted { .. }))
        {
            return Ok(());
        }
        let text = "an initial message once, when the first checkpoint is asked for";
        Err(Garbled(text.to_owned()))
    }

    fn checkpoint(&mut self, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        let Some(awaited) = self.checkpoints.awaited.pop_front() else {
            return Err(Garbled("a checkpoint only when one was asked for".to_owned()));
        };
        self.checkpoints.coming = match awaited {
            Awaited::First => {
                self.checkpoints.initial_awaited = false;
                said.push(ToNode::Checkpoint { request: 0 });
                Coming::Passed(crc32fast::Hasher::new())
            }
            Awaited::Asked { request, input } => {
                self.is_done(input, said);
                said.push(ToNode::Checkpoint { request });
                Coming::Passed(crc32fast::Hasher::new())
            }
            Awaited::Unwanted { input } => {
                self.is_done(input, said);
                Coming::Dropped
            }
            Awaited::Stale => Coming::Dropped,
        };
        Ok(())
    }

    /// A checkpoint is the one place where an LB shows what it has handled: it takes a checkpoint
    /// after the inputs that were told before the request, and its outputs come before the
    /// checkpoint in the stream.
    fn is_done(&mut self, input: u64, said: &mut Vec<ToNode>) {
        if input > self.done {
            self.done = input;
            said.push(ToNode::Done { input });
        }
    }

    fn piece(&mut self, piece: Bytes, said: &mut Vec<ToNode>) {
        if let Coming::Passed(crc) = &mut self.checkpoints.coming {
            crc.update(&piece);
            said.push(ToNode::Chunk(piece));
        }
    }

    fn checkpoint_end(&mut self, said: &mut Vec<ToNode>) {
        if let Coming::Passed(crc) =
            std::mem::replace(&mut self.checkpoints.coming, Coming::Nothing)
        {
            said.push(ToNode::CheckpointEnd { crc: crc.finalize() });
        }
    }

    // From the core to the LB.

    pub(super) fn frame(&mut self, frame: &ToProgram, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        match frame {
            ToProgram::Chunk(bytes) => return self.chunk(bytes, out),
            ToProgram::LoadEnd { crc } => return self.load_end(*crc, out),
            ToProgram::Welcome(_)
            | ToProgram::EndOfReplay { .. }
            | ToProgram::Fate { .. }
            | ToProgram::Credit { .. }
            | ToProgram::Ping { .. } => return Ok(()),
            ToProgram::Error { .. } => {
                self.farewell(out);
                return Ok(());
            }
            _ if self.load.is_some() => {
                // The frame would be in the middle of the state, and the program would load
                // rubbish.
                return Err(Garbled("CHUNK or LOAD_END after a LOAD".to_owned()));
            }
            ToProgram::Genesis => return self.genesis(out),
            ToProgram::Load { input, bytes } => self.load(*input, *bytes, out),
            ToProgram::Deliver { first, blocks, .. } => return self.deliver(*first, blocks, out),
            ToProgram::Primary { .. } => return self.primary(out),
            ToProgram::Standby => self.standby(),
            ToProgram::TakeCheckpoint { request } => {
                let awaited = Awaited::Asked { request: *request, input: self.told };
                return self.ask(kind::TAKE_CHECKPOINT, awaited, out);
            }
        }
        Ok(())
    }

    /// Makes the program end. AMBROSIA has no message for that, and no binding ends when its
    /// sockets do: the C# one reads zeros from a closed socket without end, and the JavaScript one
    /// notes the fact and lives on. All of them end at a message of a type that does not exist. In
    /// the middle of a state the message would be taken for a part of the state.
    fn farewell(&mut self, out: &mut Vec<Bytes>) {
        if self.load.is_none() {
            self.records.control(kind::NONE, out);
        }
    }

    /// Tells the LB to take a checkpoint, with one of the three messages for it.
    fn ask(&mut self, kind: u8, awaited: Awaited, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        if self.role == Role::Nobody {
            return Err(Garbled("GENESIS or LOAD first".to_owned()));
        }
        if self.checkpoints.awaited.len() >= CHECKPOINTS_AWAITED_MAX {
            return Err(Garbled(format!("at most {CHECKPOINTS_AWAITED_MAX} checkpoints to come")));
        }
        self.checkpoints.awaited.push_back(awaited);
        self.records.control(kind, out);
        Ok(())
    }

    fn genesis(&mut self, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        if self.role != Role::Nobody {
            return Err(Garbled("GENESIS once, and first".to_owned()));
        }
        self.role = Role::Believer;
        self.checkpoints.initial_awaited = true;
        self.ask(kind::TAKE_BECOMING_PRIMARY_CHECKPOINT, Awaited::First, out)
    }

    fn load(&mut self, input: u64, bytes: u64, out: &mut Vec<Bytes>) {
        self.role = Role::Follower;
        self.impulses.drop_held();
        self.checkpoints.awaited.iter_mut().for_each(|awaited| *awaited = Awaited::Stale);
        self.told = input;
        self.done = input;
        self.load = Some(Load { bytes, crc: crc32fast::Hasher::new() });
        self.records.checkpoint(bytes, out);
    }

    fn chunk(&mut self, bytes: &Bytes, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        let Some(load) = &mut self.load else { return Err(Garbled::expected("LOAD first")) };
        load.bytes = load
            .bytes
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Garbled("no more bytes than LOAD has told".to_owned()))?;
        load.crc.update(bytes);
        if !bytes.is_empty() {
            out.push(bytes.clone());
        }
        Ok(())
    }

    /// Checks the state, since an LB cannot. When it is wrong, the connection has to end before the
    /// program does something with it.
    fn load_end(&mut self, crc: u32, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        let Some(load) = self.load.take() else { return Err(Garbled::expected("LOAD first")) };
        if load.bytes > 0 {
            return Err(Garbled(format!("{} more bytes before LOAD_END", load.bytes)));
        }
        let found = load.crc.finalize();
        if found != crc {
            return Err(Garbled(format!("a state with checksum {crc:08x}, not {found:08x}")));
        }
        if self.upgrade == Upgrade::Tested {
            self.records.control(kind::UPGRADE_SERVICE, out);
        }
        Ok(())
    }

    fn deliver(&mut self, first: u64, bytes: &Bytes, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        if self.role == Role::Nobody {
            return Err(Garbled("GENESIS or LOAD first".to_owned()));
        }
        let mut input = first;
        for block in blocks(bytes.clone()) {
            let block = block?;
            for message in messages(block.messages) {
                self.told = input;
                self.input(&block.head.name, &message?, out)?;
                input = input.saturating_add(1);
            }
        }
        self.records.end(out);
        Ok(())
    }

    fn input(
        &mut self,
        sender: &str,
        message: &Message,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Garbled> {
        match message {
            // An LB never asks for a timer or a side effect.
            Message::Timer { .. } | Message::Result { .. } | Message::Skipped => Ok(()),
            Message::Upgrade { version } => self.upgrade(*version, out),
            _ => {
                let told = self.records.input(sender, message, out);
                self.inputs_ignored += u64::from(!told);
                Ok(())
            }
        }
    }

    fn upgrade(&mut self, version: u64, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        if self.upgrade != Upgrade::InLog || version != self.options.upgrade_to {
            return Ok(());
        }
        self.upgrade = Upgrade::Never;
        self.role = match self.role {
            Role::Follower => Role::Believer,
            Role::Upgrader => Role::Primary,
            other => other,
        };
        let awaited = Awaited::Unwanted { input: self.told };
        self.ask(kind::UPGRADE_TAKE_CHECKPOINT, awaited, out)
    }

    fn primary(&mut self, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        match self.role {
            Role::Nobody => Err(Garbled("GENESIS or LOAD first".to_owned())),
            // The JavaScript binding takes an upgrade only while it replays, and the upgrade tells
            // it that it is the primary. Until then it handles inputs, and starts no impulses.
            Role::Follower if self.upgrade == Upgrade::InLog => {
                self.role = Role::Upgrader;
                Ok(())
            }
            Role::Follower => {
                self.role = Role::Primary;
                self.become_primary(out)
            }
            Role::Believer | Role::Ousted => {
                self.role = Role::Primary;
                Ok(())
            }
            Role::Upgrader | Role::Primary => Ok(()),
        }
    }

    /// The older bindings, which run without standbys, know only the message with a checkpoint.
    fn become_primary(&mut self, out: &mut Vec<Bytes>) -> Result<(), Garbled> {
        if self.options.active_active {
            self.records.control(kind::BECOMING_PRIMARY, out);
            return Ok(());
        }
        let awaited = Awaited::Unwanted { input: self.told };
        self.ask(kind::TAKE_BECOMING_PRIMARY_CHECKPOINT, awaited, out)
    }

    fn standby(&mut self) {
        self.impulses.drop_held();
        self.role = match self.role {
            Role::Nobody => Role::Nobody,
            Role::Follower | Role::Upgrader => Role::Follower,
            Role::Believer | Role::Primary | Role::Ousted => Role::Ousted,
        };
    }
}

/// Consecutive messages to one destination.
#[derive(Debug, Default)]
struct Sending {
    destination: String,
    count: u64,
    messages: Vec<u8>,
}

impl Sending {
    fn add(
        &mut self,
        destination: &Bytes,
        message: &Message,
        said: &mut Vec<ToNode>,
    ) -> Result<(), Garbled> {
        let bytes = self.messages.len() + message.payload_bytes();
        if self.destination.as_bytes() != destination || bytes >= SEND_BYTES {
            self.end(said);
        }
        if self.count == 0 {
            self.destination = name(destination)?;
        }
        self.count += 1;
        put_message(&mut self.messages, message);
        Ok(())
    }

    fn end(&mut self, said: &mut Vec<ToNode>) {
        if self.count > 0 {
            let Self { destination, count, messages } = std::mem::take(self);
            said.push(ToNode::Send { destination, count, messages: messages.into() });
        }
    }
}

fn name(bytes: &Bytes) -> Result<String, Garbled> {
    match std::str::from_utf8(bytes) {
        Ok(name) => Ok(name.to_owned()),
        // The JavaScript binding counts UTF-16 units where it should count bytes: with a name
        // outside ASCII, what it sends is cut in the wrong place.
        Err(_) => Err(Garbled::expected("the name of an instance in UTF-8")),
    }
}
