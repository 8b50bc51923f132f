//! Feeds what was recorded to a program that somebody has started, under a debugger perhaps, and
//! compares what it says with what is recorded. The same steps as a recovery, one input at a time, and
//! nothing of it leaves.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::immortal::{
    BlockHead, Fate, Garbled, Hello, Message, SourceKind, ToNode, ToProgram, VERSION, Welcome,
    blocks, count_messages, messages, put_block_head, put_message,
};
use protocol::{Moment, Position};

use crate::door::{Adapter, FRAME_BYTES_MAX};
use crate::entry::{Entry, Mark, Origin};
use crate::io::describe;
use crate::ledger::{InputState, one_by_one};
use crate::recording::{Recorded, Recording};
use crate::session::WINDOW_BYTES;
use crate::voice::{Compared, OutputState};

/// So many of the last messages are shown where a program differs.
const SHOWN_MAX: usize = 20;

/// How far to go, and how to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Not further than this input.
    pub until: Option<u64>,
    /// The program is a newer one than the one that was recorded.
    pub test_upgrade: bool,
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Give the piece of the checkpoint with this number.
    Chunk(u32),
    /// Give what was logged after this position; nothing ends the replay.
    Entries(Position),
    /// Bring what the program says.
    Hear,
    /// The program has handled all.
    Over,
}

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Attached(Hello),
    Loaded {
        input: u64,
        bytes: u64,
    },
    Upgraded {
        version: u64,
    },
    Differs(Difference),
    /// The end of the replay was told to the program.
    EndOfReplay {
        input: u64,
    },
}

/// The program has said something else than is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Up to there all was equal, as far as it was compared.
    pub after: u64,
    /// It differs in what was said up to the end of this input.
    pub input: u64,
    /// What it has said in that time, in short.
    pub said: Vec<String>,
    /// What another program has said in that time, where that is known.
    pub expected: Vec<String>,
}

/// What was said at each input: by the first of two programs that are compared.
pub type Reference = BTreeMap<u64, Vec<String>>;

struct Delivery {
    input: u64,
    time: Moment,
    block: Bytes,
}

pub struct Replay {
    recording: Recording,
    wanted: Wanted,
    door: Adapter,
    hello: Option<Hello>,
    voice: OutputState,
    ledger: InputState,
    /// Knows what was taken out.
    applied: InputState,
    position: Position,
    next_chunk: u32,
    is_loaded: bool,
    pending: VecDeque<Delivery>,
    told: u64,
    /// The digest after each input since the last mark.
    digests: VecDeque<(u64, u64)>,
    /// Marks of streams that the program has not come to.
    expected: VecDeque<Mark>,
    equal_up_to: u64,
    pub compared: u64,
    differs: bool,
    /// What was said since the last input was handled.
    saying: Vec<String>,
    /// What was said at the last inputs, or at all of them if they are wanted.
    said: Reference,
    keeps_all: bool,
    against: Option<Reference>,
    has_no_more: bool,
    is_over: bool,
    pub events: Vec<Event>,
    out: Vec<Bytes>,
}

impl Replay {
    /// `door` leads to a program that has connected. With a reference, what it says is compared with that
    /// at each input.
    pub fn new(
        recording: Recording,
        wanted: Wanted,
        door: Adapter,
        against: Option<Reference>,
    ) -> Self {
        let base = &recording.base;
        Self {
            wanted,
            door,
            hello: None,
            voice: recording.voice.clone(),
            ledger: base.ledger.clone(),
            applied: InputState { skipped: recording.skipped.clone(), ..InputState::default() },
            position: base.position,
            next_chunk: 0,
            is_loaded: false,
            pending: VecDeque::new(),
            told: base.ledger.inputs,
            digests: VecDeque::new(),
            expected: VecDeque::new(),
            equal_up_to: base.ledger.inputs,
            compared: 0,
            differs: false,
            saying: Vec::new(),
            said: Reference::new(),
            keeps_all: false,
            against,
            has_no_more: false,
            is_over: false,
            events: Vec::new(),
            out: Vec::new(),
            recording,
        }
    }

    /// Remembers what is said at every input, for [`Self::reference`].
    #[must_use]
    pub fn keeping_all(mut self) -> Self {
        self.keeps_all = true;
        self
    }

    /// What was said at each input.
    pub fn reference(self) -> Reference {
        self.said
    }

    /// Whether the program that is attached is as the one that was recorded: of its version, and of no
    /// other.
    pub fn is_as_recorded(&self) -> bool {
        let version = self.recording.base.ledger.program_version;
        self.hello
            .as_ref()
            .is_some_and(|hello| hello.program_version == version && hello.upgrade_to == version)
    }

    /// The last input that it was told.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// The bytes for the program.
    pub fn take_out(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.out)
    }

    fn tell(&mut self, frame: &ToProgram) {
        self.door.tell(frame, &mut self.out);
    }

    /// Closes the connection with a reason.
    pub fn say_error(&mut self, code: &str, text: &str) {
        self.tell(&ToProgram::Error { code: code.into(), text: text.into() });
    }

    /// Goes on as far as possible without anybody.
    ///
    /// # Errors
    /// When the recording cannot be read, or the program cannot follow it.
    pub fn step(&mut self) -> Result<Next, String> {
        if self.hello.is_none() {
            return Ok(Next::Hear);
        }
        if !self.is_loaded {
            let chunks = self.recording.base.blob.map_or(0, |blob| blob.chunks);
            if self.next_chunk < chunks {
                return Ok(Next::Chunk(self.next_chunk));
            }
            self.end_of_loading()?;
        }
        let confirms = self.door.confirms();
        while (!confirms || self.voice.done == self.told) && !self.door.is_taking_checkpoint() {
            let Some(delivery) = self.pending.pop_front() else { break };
            self.deliver(delivery)?;
        }
        if confirms && self.voice.done < self.told || self.door.is_taking_checkpoint() {
            return Ok(Next::Hear);
        }
        if !self.is_at_the_end() {
            return Ok(Next::Entries(self.position));
        }
        if !self.is_over {
            self.is_over = true;
            self.tell(&ToProgram::EndOfReplay { input: self.told });
            self.events.push(Event::EndOfReplay { input: self.told });
        }
        Ok(Next::Over)
    }

    fn is_at_the_end(&self) -> bool {
        self.has_no_more || self.wanted.until.is_some_and(|until| self.told >= until)
    }

    /// A piece of the checkpoint.
    pub fn give_chunk(&mut self, chunk: Bytes) {
        self.next_chunk += 1;
        self.tell(&ToProgram::Chunk(chunk));
    }

    fn end_of_loading(&mut self) -> Result<(), String> {
        let blob = self.recording.base.blob.ok_or("the recording has no state")?;
        self.tell(&ToProgram::LoadEnd { crc: blob.crc });
        self.is_loaded = true;
        let input = self.recording.base.ledger.inputs;
        self.events.push(Event::Loaded { input, bytes: blob.bytes });
        if let Some(version) = self.upgrades_at_once() {
            let mut body = Vec::new();
            put_message(&mut body, &Message::Upgrade { version });
            let head =
                BlockHead { kind: SourceKind::Node, name: String::new(), first: 0, count: 1 };
            let mut block = Vec::new();
            put_block_head(&mut block, &head, body.len());
            block.extend_from_slice(&body);
            let time = self.recording.base.ledger.time;
            // It takes the number of the last input that is in the state.
            self.pending.push_back(Delivery { input, time, block: block.into() });
            self.events.push(Event::Upgraded { version });
        }
        Ok(())
    }

    /// The version to which a program that can do both is brought before the first input.
    fn upgrades_at_once(&self) -> Option<u64> {
        let hello = self.hello.as_ref()?;
        let native = matches!(self.door, Adapter::Native(_));
        let wants = self.wanted.test_upgrade && hello.upgrade_to != hello.program_version;
        (native && wants).then_some(hello.upgrade_to)
    }

    /// What was logged after the position that was asked about.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn give_entries(&mut self, entries: Vec<Recorded>) -> Result<(), String> {
        self.has_no_more = entries.is_empty();
        for (position, bytes) in entries {
            self.read(position, bytes)
                .map_err(|why| format!("the entry at {position} cannot be read: {}", why.0))?;
        }
        Ok(())
    }

    fn read(&mut self, position: Position, bytes: Bytes) -> Result<(), Garbled> {
        self.position = position;
        let entry = Entry::decode(bytes)?;
        let logged = self.ledger.log(&entry).unwrap_or_default();
        for (destination, up_to) in &logged.trims {
            self.voice.confirmed(destination, *up_to)?;
        }
        if let Entry::Inputs(inputs) = &entry {
            let own = Origin::Stream { from: self.recording.group };
            if inputs.origins.contains(&own) {
                let up_to = self.ledger.received.get(&self.recording.group).copied().unwrap_or(0);
                let name = self.recording.name.clone();
                self.voice.confirmed(&name, up_to)?;
            }
        }
        if let Some(mark) = logged.mark.clone() {
            self.expected.push_back(mark);
        }
        if logged.count > 0 {
            let all = self.applied.without_skipped(&logged)?;
            for (input, block) in (logged.first..).zip(one_by_one(&all)?) {
                self.pending.push_back(Delivery { input, time: logged.time, block });
            }
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: Delivery) -> Result<(), String> {
        let Delivery { input, time, block } = delivery;
        if self.wanted.until.is_some_and(|until| input > until) {
            self.has_no_more = true;
            self.pending.clear();
            return Ok(());
        }
        let is_replayed = input > self.recording.base.ledger.inputs;
        for part in blocks(block.clone()).flatten() {
            for message in messages(part.messages).flatten() {
                match message {
                    Message::Timer { id } | Message::Result { id, .. } => self.voice.resolved(id),
                    Message::Upgrade { version } if is_replayed => self.follow(input, version)?,
                    _ => {}
                }
            }
        }
        self.told = input;
        // What is compared before an input is what was said before it.
        self.look_at_marks();
        self.tell(&ToProgram::Deliver { first: input, time, blocks: block });
        Ok(())
    }

    /// An upgrade that is in the log.
    fn follow(&self, input: u64, version: u64) -> Result<(), String> {
        let hello = self.hello.as_ref().expect("it is attached");
        if self.wanted.test_upgrade || hello.upgrade_to == version {
            return Ok(());
        }
        Err(format!(
            "input {input} is the upgrade to version {version}, which this program (version {}) cannot \
             follow: stop before it with --until {}",
            hello.program_version,
            input - 1
        ))
    }

    /// Bytes of the program.
    ///
    /// # Errors
    /// When it does not keep to the protocol, is not the right one, or says that it failed.
    pub fn hear(&mut self, bytes: &Bytes) -> Result<(), String> {
        let mut said = Vec::new();
        let heard = self.door.hear(bytes, &mut said);
        for frame in said {
            self.heard(frame)?;
        }
        heard.map_err(|why| format!("the program does not keep to the protocol: {}", why.0))
    }

    fn heard(&mut self, frame: ToNode) -> Result<(), String> {
        let garbled =
            |why: Garbled| format!("the program does not keep to the protocol: {}", why.0);
        match frame {
            ToNode::Hello(hello) => return self.greet(hello),
            ToNode::Send { destination, count, messages } => {
                self.sent(&destination, count, messages).map_err(garbled)?;
            }
            ToNode::Await { id, due } => {
                self.saying.push(match due {
                    Some(due) => format!("a timer {id} for {}", due.0),
                    None => format!("a side effect {id}"),
                });
                self.voice.await_for(id, due);
            }
            ToNode::Cancel { id } => {
                self.saying.push(format!("{id} cancelled"));
                self.voice.cancel(id);
            }
            ToNode::Done { input } => self.done(input)?,
            ToNode::Impulse { number, .. } => {
                let fate = ToProgram::Fate { number, fate: Fate::Lost, input: 0 };
                self.tell(&fate);
            }
            ToNode::Fault { input, text } => {
                return Err(format!("the program failed on input {input}: {text}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn greet(&mut self, hello: Hello) -> Result<(), String> {
        let (version, name) =
            (self.recording.base.ledger.program_version, self.recording.name.clone());
        if hello.version_min > VERSION || hello.version_max < VERSION {
            return Err(format!("the program does not speak version {VERSION} of the protocol"));
        }
        if hello.instance != name {
            return Err(format!(
                "the program is for the instance '{}', and this is a recording of '{name}'",
                hello.instance
            ));
        }
        if hello.program_version != version && !self.wanted.test_upgrade {
            return Err(format!(
                "the recording is of program version {version}, and this program has version {}: \
                 --test-upgrade tries a newer one",
                hello.program_version
            ));
        }
        let blob = self.recording.base.blob.ok_or("the recording has no state")?;
        let inputs = self.recording.base.ledger.inputs;
        self.hello = Some(hello.clone());
        let upgrades = self.upgrades_at_once().is_some();
        if upgrades && inputs == 0 {
            return Err(
                "the checkpoint stands before the first input, where there is no state to \
                        upgrade yet: take another one (`amrita immortal checkpoint`)"
                    .into(),
            );
        }
        self.tell(&ToProgram::Welcome(Welcome {
            version: VERSION,
            node: "debug".into(),
            replica: 0,
            frame_bytes_max: FRAME_BYTES_MAX as u64,
            window_bytes: WINDOW_BYTES as u64,
            state_version: version,
        }));
        let input = if upgrades { inputs - 1 } else { inputs };
        self.tell(&ToProgram::Load { input, bytes: blob.bytes });
        self.told = input;
        self.voice.done = input;
        self.events.push(Event::Attached(hello));
        Ok(())
    }

    fn sent(&mut self, destination: &str, count: u64, bytes: Bytes) -> Result<(), Garbled> {
        let found = count_messages(&bytes)?;
        if found != count {
            return Err(Garbled(format!("{count} messages in a SEND, not {found}")));
        }
        let name =
            if destination.is_empty() { self.recording.name.clone() } else { destination.into() };
        let wanted = self.keeps_all || self.against.is_some() || self.saying.len() < SHOWN_MAX;
        if wanted {
            for message in messages(bytes.clone()).flatten() {
                self.saying.push(format!("to {name}: {}", describe(&message)));
            }
        }
        self.voice.send(&name, count, bytes, !self.door.confirms())?;
        if !self.door.confirms() {
            self.note_said(self.told);
            self.look_at_marks();
        }
        Ok(())
    }

    fn done(&mut self, input: u64) -> Result<(), String> {
        if input != self.told {
            return Err(format!("the program says DONE {input}, and was told input {}", self.told));
        }
        self.voice.done(input);
        self.digests.push_back((input, self.voice.digest()));
        if input > self.recording.base.ledger.inputs {
            self.compare_with_reference(input);
            self.note_said(input);
        } else {
            self.saying.clear();
        }
        self.look_at_marks();
        Ok(())
    }

    fn note_said(&mut self, input: u64) {
        let saying = std::mem::take(&mut self.saying);
        if !saying.is_empty() {
            self.said.entry(input).or_default().extend(saying);
        }
        while !self.keeps_all && self.said.len() > SHOWN_MAX {
            self.said.pop_first();
        }
    }

    fn compare_with_reference(&mut self, input: u64) {
        let Some(reference) = &self.against else { return };
        let expected = reference.get(&input).cloned().unwrap_or_default();
        self.compared += 1;
        if expected != self.saying {
            self.differs = true;
            self.events.push(Event::Differs(Difference {
                after: input - 1,
                input,
                said: self.saying.clone(),
                expected,
            }));
        }
    }

    fn look_at_marks(&mut self) {
        while let Some(mark) = self.expected.front() {
            let compared = self.compare(mark);
            if compared == Compared::Ahead {
                return;
            }
            let mark = self.expected.pop_front().expect("it was just looked at");
            // After the first difference all sums differ; and a reference is better than a sum.
            if self.differs || self.against.is_some() {
                continue;
            }
            let at = match &mark {
                Mark::Input { input, .. } => *input,
                Mark::Stream { .. } => self.told,
            };
            match compared {
                Compared::Equal => {
                    self.compared += 1;
                    self.equal_up_to = at;
                    self.digests.retain(|(input, _)| *input > at);
                }
                Compared::Differs => self.differs_at(at),
                Compared::Ahead | Compared::Forgotten => {}
            }
        }
    }

    fn compare(&self, mark: &Mark) -> Compared {
        match mark {
            Mark::Input { input, digest } if self.door.confirms() => {
                if *input > self.voice.done {
                    return Compared::Ahead;
                }
                match self.digests.iter().find(|(at, _)| at == input) {
                    Some((_, found)) if found == digest => Compared::Equal,
                    Some(_) => Compared::Differs,
                    None => Compared::Forgotten,
                }
            }
            Mark::Stream { destination, count, crc } if !self.door.confirms() => {
                self.voice.compare_stream(destination, *count, *crc)
            }
            _ => Compared::Forgotten,
        }
    }

    fn differs_at(&mut self, input: u64) {
        self.differs = true;
        let after = self.equal_up_to;
        let since = self.said.range(after + 1..=input.max(after + 1));
        let said =
            since.flat_map(|(at, all)| all.iter().map(move |text| format!("input {at}: {text}")));
        let said = said.take(SHOWN_MAX).collect();
        self.events.push(Event::Differs(Difference { after, input, said, expected: Vec::new() }));
    }
}
