//! A replay: a recording on one side, a program on the other.

use bytes::Bytes;
use protocol::Position;
use protocol::immortal::{
    Fate, Garbled, Hello, ToNode, ToProgram, VERSION, Welcome, count_messages, messages,
};
use protocol::instance_write::is_link;

use crate::adapter::{Adapter, FRAME_BYTES_MAX};
use crate::describe::describe;
use crate::history::indexed::OwnInput;
use crate::output::links::to_partitions;
use crate::output::output_state::{Grain, OutputState};
use crate::recording::{Recorded, Recording};
use crate::replay::comparison::Comparison;
use crate::replay::events::{Event, Next, Reference, Wanted};
use crate::replay::tape::{Delivery, Tape};
use crate::seat::window::WINDOW_BYTES;

/// How far a replay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The program is given the pieces of the checkpoint, from this one on.
    Loading {
        next: u32,
    },
    Running,
    Over,
}

/// See the module.
pub struct Replay {
    recording: Recording,
    wanted: Wanted,
    adapter: Adapter,
    hello: Option<Hello>,
    stage: Stage,
    output: OutputState,
    tape: Tape,
    comparison: Comparison,
    /// The last input that the program was told.
    told: u64,
    pub events: Vec<Event>,
    out: Vec<Bytes>,
}

fn broken(why: &Garbled) -> String {
    format!("the program does not keep to the protocol: {}", why.0)
}

impl Replay {
    /// A replay for the program behind `adapter`. With a reference, what the program sends is
    /// compared with the reference at each input.
    pub fn new(
        recording: Recording,
        wanted: Wanted,
        adapter: Adapter,
        against: Option<Reference>,
    ) -> Self {
        let inputs = recording.base.input_state.inputs;
        Self {
            wanted,
            adapter,
            hello: None,
            stage: Stage::Loading { next: 0 },
            output: recording.output.clone(),
            tape: Tape::new(&recording.base, recording.skipped.clone()),
            comparison: Comparison::new(inputs, against),
            told: inputs,
            events: Vec::new(),
            out: Vec::new(),
            recording,
        }
    }

    /// Remembers what is sent at every input, for [`Self::reference`].
    #[must_use]
    pub fn keeping_all(mut self) -> Self {
        self.comparison.keep_all();
        self
    }

    /// What was sent at each input.
    pub fn reference(self) -> Reference {
        self.comparison.said
    }

    /// How often something was compared.
    pub fn compared(&self) -> u64 {
        self.comparison.compared
    }

    /// Whether the program that is attached is of the version that was recorded, and can become no
    /// other.
    pub fn is_as_recorded(&self) -> bool {
        let version = self.recording.base.input_state.program_version;
        self.hello
            .as_ref()
            .is_some_and(|hello| hello.program_version == version && hello.upgrade_to == version)
    }

    /// The last input that the program was told.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// The bytes for the program.
    pub fn take_out(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.out)
    }

    fn tell(&mut self, frame: &ToProgram) {
        self.adapter.tell(frame, &mut self.out);
    }

    /// Closes the connection with a reason.
    pub fn say_error(&mut self, code: &str, text: &str) {
        self.tell(&ToProgram::Error { code: code.into(), text: text.into() });
    }

    // Giving.

    /// Goes on as far as possible without something from the program or from the recording.
    ///
    /// # Errors
    /// When the recording cannot be read, or the program cannot follow it.
    pub fn step(&mut self) -> Result<Next, String> {
        if self.hello.is_none() {
            return Ok(Next::Hear);
        }
        if let Stage::Loading { next } = self.stage {
            let chunks = self.recording.base.blob.map_or(0, |blob| blob.chunks);
            if next < chunks {
                return Ok(Next::Chunk(next));
            }
            self.end_loading()?;
        }
        while self.may_deliver() {
            let Some(delivery) = self.tape.next() else { break };
            self.deliver(delivery)?;
        }
        if !self.may_deliver() {
            return Ok(Next::Hear);
        }
        let is_at_the_end =
            self.tape.is_over() || self.wanted.until.is_some_and(|until| self.told >= until);
        if !is_at_the_end {
            return Ok(Next::Entries(self.tape.position));
        }
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.tell(&ToProgram::EndOfReplay { input: self.told });
            self.events.push(Event::EndOfReplay { input: self.told });
        }
        Ok(Next::Over)
    }

    /// One input at a time.
    fn may_deliver(&self) -> bool {
        let has_handled_all = !self.adapter.confirms() || self.output.done == self.told;
        has_handled_all && !self.adapter.is_taking_checkpoint()
    }

    /// A piece of the checkpoint.
    pub fn give_chunk(&mut self, chunk: Bytes) {
        if let Stage::Loading { next } = &mut self.stage {
            *next += 1;
        }
        self.tell(&ToProgram::Chunk(chunk));
    }

    fn end_loading(&mut self) -> Result<(), String> {
        let blob = self.recording.base.blob.ok_or("the recording has no state")?;
        self.tell(&ToProgram::LoadEnd { crc: blob.crc });
        self.stage = Stage::Running;
        let input = self.recording.base.input_state.inputs;
        self.events.push(Event::Loaded { input, bytes: blob.bytes });
        if let Some(version) = self.upgrades_at_once() {
            self.tape.put_upgrade(version);
            self.events.push(Event::Upgraded { version });
        }
        Ok(())
    }

    /// The version to which a program that can do both is brought before the first input.
    fn upgrades_at_once(&self) -> Option<u64> {
        let hello = self.hello.as_ref()?;
        let is_native = matches!(self.adapter, Adapter::Native(_));
        let wants = self.wanted.test_upgrade && hello.upgrade_to != hello.program_version;
        (is_native && wants).then_some(hello.upgrade_to)
    }

    /// What was logged after the position that was asked about.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn give_entries(&mut self, entries: Vec<Recorded>) -> Result<(), String> {
        if entries.is_empty() {
            self.tape.has_no_more();
        }
        for (position, bytes) in entries {
            self.read(position, bytes)?;
        }
        Ok(())
    }

    fn read(&mut self, position: Position, bytes: Bytes) -> Result<(), String> {
        let mark = self
            .tape
            .read(position, bytes, &self.recording, &mut self.output)
            .map_err(|why| format!("the entry at {position} cannot be replayed: {why}"))?;
        if let Some(mark) = mark {
            self.comparison.expect(mark);
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: Delivery) -> Result<(), String> {
        let Delivery { input, time, block, own } = delivery;
        if self.wanted.until.is_some_and(|until| input > until) {
            self.tape.end();
            return Ok(());
        }
        match own {
            Some(OwnInput::Resolved(id)) => self.output.resolved(id),
            Some(OwnInput::Upgrade(version)) => self.may_follow(input, version)?,
            Some(OwnInput::Start) | None => {}
        }
        self.told = input;
        // What was sent before an input is compared before the input is given.
        self.check_marks();
        self.tell(&ToProgram::Deliver { first: input, time, blocks: block });
        Ok(())
    }

    /// An upgrade that is in the log.
    fn may_follow(&self, input: u64, version: u64) -> Result<(), String> {
        let hello = self.hello.as_ref().expect("a program is attached");
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

    // Hearing.

    /// Bytes of the program.
    ///
    /// # Errors
    /// When the program does not keep to the protocol, is not the right one, or says that it
    /// failed.
    pub fn hear(&mut self, bytes: &Bytes) -> Result<(), String> {
        let mut frames = Vec::new();
        let heard = self.adapter.hear(bytes, &mut frames);
        for frame in frames {
            self.take(frame)?;
        }
        heard.map_err(|why| broken(&why))
    }

    fn take(&mut self, frame: ToNode) -> Result<(), String> {
        match frame {
            ToNode::Hello(hello) => return self.greet(hello),
            ToNode::Send { destination, count, messages } => {
                self.sent(&destination, count, messages).map_err(|why| broken(&why))?;
            }
            ToNode::Await { id, due } => {
                self.comparison.say(match due {
                    Some(due) => format!("a timer {id} for {}", due.0),
                    None => format!("a side effect {id}"),
                });
                self.output.await_for(id, due);
            }
            ToNode::Cancel { id } => {
                self.comparison.say(format!("{id} cancelled"));
                self.output.cancel(id);
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
        let base = &self.recording.base;
        let (version, inputs) = (base.input_state.program_version, base.input_state.inputs);
        let blob = base.blob.ok_or("the recording has no state")?;
        self.is_welcome(&hello)?;
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
        self.output.done = input;
        self.events.push(Event::Attached(hello));
        Ok(())
    }

    fn is_welcome(&self, hello: &Hello) -> Result<(), String> {
        let name = &self.recording.name;
        let version = self.recording.base.input_state.program_version;
        if hello.version_min > VERSION || hello.version_max < VERSION {
            return Err(format!("the program does not speak version {VERSION} of the protocol"));
        }
        if hello.instance != *name {
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
        Ok(())
    }

    fn sent(&mut self, destination: &str, count: u64, bytes: Bytes) -> Result<(), Garbled> {
        let found = count_messages(&bytes)?;
        if found != count {
            return Err(Garbled(format!("{count} messages in a SEND, not {found}")));
        }
        let name =
            if destination.is_empty() { self.recording.name.clone() } else { destination.into() };
        if self.comparison.wants_words() {
            for message in messages(bytes.clone()).flatten() {
                self.comparison.say(format!("to {name}: {}", describe(&message)));
            }
        }
        let grain = if self.adapter.confirms() { Grain::Input } else { Grain::Message };
        if is_link(&name) {
            for sent in to_partitions(&name, bytes, self.recording.partitions)? {
                self.output.send(&sent.name, sent.count, sent.messages, grain)?;
            }
        } else {
            self.output.send(&name, count, bytes, grain)?;
        }
        if grain == Grain::Message {
            self.comparison.note_said(self.told);
            self.check_marks();
        }
        Ok(())
    }

    fn done(&mut self, input: u64) -> Result<(), String> {
        if input != self.told {
            return Err(format!("the program says DONE {input}, and was told input {}", self.told));
        }
        self.output.done(input);
        self.comparison.note_digest(input, self.output.digest());
        if input > self.recording.base.input_state.inputs {
            let difference = self.comparison.compare_with_reference(input);
            self.events.extend(difference.map(Event::Differs));
            self.comparison.note_said(input);
        } else {
            self.comparison.forget_words();
        }
        self.check_marks();
        Ok(())
    }

    fn check_marks(&mut self) {
        let confirms = self.adapter.confirms();
        let difference = self.comparison.check_marks(&self.output, confirms, self.told);
        self.events.extend(difference.map(Event::Differs));
    }
}
