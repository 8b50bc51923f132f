//! Programs beside the nodes that have the handlers of the tallies, in scenarios that are about
//! these: they come and go, are slow, answer late, twice or with nonsense, and die of calls. What
//! they must not do is harm: each entry that was acknowledged is there once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use node::{Input, ProgramDoor};
use protocol::hash::hash;
use protocol::immortal::split_frame;
use protocol::links;
use protocol::service::{Answer, Call, FromNode, FromProgram, Handler, Has, Serve, VERSION};
use random::Random;
use serde_json::{Value, json};

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::checkers::Broken;
use crate::jobs::Making;
use crate::network::Process;
use crate::settings::Settings;
use crate::tallies::TALLIES;
use crate::world::{Event, World};

/// The numbers of these programs; those of immortals are below.
const FIRST_PROGRAM: u64 = 1 << 40;

/// The longest frame of a node that is taken.
const FRAME_BYTES_MAX: usize = 64 << 20;

const KEEPS_TO_PROTOCOL: &str = "a node keeps to the service protocol";

/// What a program does, or what happens to it.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Start,
    /// Bytes of the node reach it.
    Hear,
    /// It says this.
    Say(FromProgram),
    /// It says bytes that are no frame.
    Babble,
    Die,
    /// The node has closed the connection.
    Lose,
}

/// One program, or the place where it is to run.
struct Copy {
    machine: usize,
    /// Counts starts and ends; what was planned for a former one is void.
    epoch: u64,
    connection: Option<Connection>,
}

struct Connection {
    program: u64,
    process: Process,
    /// On its way to the program.
    told: Vec<u8>,
    buffer: BytesMut,
    is_welcome: bool,
    /// A version of the program that has not got the handler that is asked for.
    is_old: bool,
    /// The calls that it has, by their numbers: what is the same when one is made again.
    calls: BTreeMap<u64, u64>,
}

pub(crate) struct Copies {
    rng: Random,
    copies: Vec<Copy>,
    next_program: u64,
    /// The calls that programs had when they died.
    died_with: BTreeSet<u64>,
    /// From now on they do all that is asked, well and soon.
    is_calm: bool,
}

/// Whether the tallies of a scenario have their handlers in programs.
pub(crate) fn has_copies(settings: &Settings) -> bool {
    settings.scenario.starts_with("services")
}

/// The definition of the tallies. A node does not know how to add to one.
pub(crate) fn definition() -> Making {
    let schema = json!({"type": "object", "properties": {
        "entries": {"type": "array", "items": {"type": "string"}}}});
    let body = json!({"link": TALLIES, "schema": schema, "handlers": ["patch"],
        "retentionLimit": 10});
    Making::new(links::KINDS, links::kind_name(TALLIES), body)
}

impl Copies {
    pub(crate) fn new(settings: &Settings) -> Self {
        let rng = Random::new(settings.seed, "copies");
        let (copies, died_with) = (Vec::new(), BTreeSet::new());
        let mut copies = Self { rng, copies, next_program: 0, died_with, is_calm: false };
        if !has_copies(settings) {
            return copies;
        }
        // Now and then only one machine has any, so that the others must ask there.
        let machines = if copies.rng.chance(400) { 1 } else { settings.nodes };
        for machine in 0..machines {
            for _ in 0..copies.rng.between(1, 2) {
                copies.copies.push(Copy { machine, epoch: 0, connection: None });
            }
        }
        copies
    }

    fn of_program(&self, program: u64) -> Option<usize> {
        let has = |copy: &Copy| copy.connection.as_ref().is_some_and(|it| it.program == program);
        self.copies.iter().position(has)
    }
}

/// Whether a program is one of these.
pub(crate) fn is_copy(program: u64) -> bool {
    program >= FIRST_PROGRAM
}

/// Every program dies of such a call: one of a hundred.
fn is_deadly(call: &Call) -> bool {
    hash(&call.body).is_multiple_of(100)
}

/// What a good program makes of a call: the tally with one more entry.
fn added(call: &Call) -> Answer {
    let read = |text: &Bytes| serde_json::from_slice::<Value>(text).unwrap_or_default();
    let (mut state, body) = (read(&call.before), read(&call.body));
    let Some(entry) = body["add"].as_str() else {
        return Answer::Refused { status: 400, message: "'add' must be a text".into() };
    };
    let mut entries = state["entries"].as_array().cloned().unwrap_or_default();
    entries.push(entry.into());
    state["entries"] = Value::Array(entries);
    Answer::State(state.to_string().into())
}

impl World {
    pub(crate) fn begin_copies(&mut self) {
        for copy in 0..self.copies.copies.len() {
            let delay = self.copies.rng.between(300, 2_000) * MILLISECOND;
            self.plan_deed(copy, delay, Deed::Start);
        }
    }

    fn plan_deed(&mut self, copy: usize, delay: Time, deed: Deed) {
        let epoch = self.copies.copies[copy].epoch;
        self.agenda.after(delay, Event::Copy { copy, epoch, deed });
    }

    pub(crate) fn deed(&mut self, copy: usize, epoch: u64, deed: Deed) -> Result<(), Broken> {
        if self.copies.copies[copy].epoch != epoch {
            return Ok(());
        }
        match deed {
            Deed::Start => self.start_copy(copy),
            Deed::Hear => self.copy_hears(copy),
            Deed::Say(frame) => self.copy_says_frame(copy, &frame),
            Deed::Babble => self.copy_says(copy, b"\x03\0\0\0???".to_vec()),
            Deed::Die => self.end_copy(copy, true),
            Deed::Lose => self.end_copy(copy, false),
        }
    }

    fn start_copy(&mut self, copy: usize) -> Result<(), Broken> {
        let machine = self.copies.copies[copy].machine;
        let Some(process) = self.machines[machine].process(machine) else {
            let pause = self.copies.rng.between(10, 200) * MILLISECOND;
            self.plan_deed(copy, pause, Deed::Start);
            return Ok(());
        };
        self.copies.next_program += 1;
        let program = FIRST_PROGRAM + self.copies.next_program;
        let is_old = !self.copies.is_calm && self.copies.rng.chance(100);
        self.copies.copies[copy].connection = Some(Connection {
            program,
            process,
            told: Vec::new(),
            buffer: BytesMut::new(),
            is_welcome: false,
            is_old,
            calls: BTreeMap::new(),
        });
        self.input(machine, Input::ProgramOpened { program, door: ProgramDoor::Native })?;
        let serve = Serve {
            version_min: VERSION,
            version_max: VERSION,
            factory: TALLIES.into(),
            program_version: format!("{}", self.copies.next_program % 2),
            calls_max: self.copies.rng.between(1, 4),
            has: Has {
                handlers: [if is_old { Handler::Delete } else { Handler::Patch }].into(),
                actions: BTreeSet::new(),
            },
        };
        self.plan_deed(copy, 100, Deed::Say(FromProgram::Serve(serve)));
        if !self.copies.is_calm && (is_old || self.copies.rng.chance(400)) {
            let life = self.copies.rng.between(100, 5_000) * MILLISECOND;
            self.plan_deed(copy, life, Deed::Die);
        }
        Ok(())
    }

    fn copy_says_frame(&mut self, copy: usize, frame: &FromProgram) -> Result<(), Broken> {
        if let FromProgram::Answer { call, .. } = frame
            && let Some(connection) = &mut self.copies.copies[copy].connection
        {
            connection.calls.remove(call);
        }
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        self.copy_says(copy, bytes)
    }

    fn copy_says(&mut self, copy: usize, bytes: Vec<u8>) -> Result<(), Broken> {
        let Some(connection) = &self.copies.copies[copy].connection else { return Ok(()) };
        let (program, process) = (connection.program, connection.process);
        if self.is_alive(process) {
            let bytes = bytes.into();
            self.input(process.machine, Input::ProgramSaid { program, bytes })?;
        }
        Ok(())
    }

    /// A node says something to a program.
    pub(crate) fn copy_told(&mut self, program: u64, bytes: &[Bytes]) {
        let Some(copy) = self.copies.of_program(program) else { return };
        let one = &mut self.copies.copies[copy];
        let connection = one.connection.as_mut().expect("it was found by it");
        let is_first = connection.told.is_empty();
        bytes.iter().for_each(|piece| connection.told.extend_from_slice(piece));
        if is_first {
            let delay = self.copies.rng.between(5, 300);
            self.plan_deed(copy, delay, Deed::Hear);
        }
    }

    /// A node closes the connection of a program; what was told before is still read.
    pub(crate) fn copy_closed_by_node(&mut self, program: u64) {
        if let Some(copy) = self.copies.of_program(program) {
            self.plan_deed(copy, 400, Deed::Lose);
        }
    }

    /// The process of a node has ended, and its sockets with it.
    pub(crate) fn copies_lose_node(&mut self, machine: usize) {
        for copy in 0..self.copies.copies.len() {
            let one = &self.copies.copies[copy];
            if one.machine == machine && one.connection.is_some() {
                self.plan_deed(copy, 5, Deed::Lose);
            }
        }
    }

    fn copy_hears(&mut self, copy: usize) -> Result<(), Broken> {
        let Some(connection) = &mut self.copies.copies[copy].connection else { return Ok(()) };
        let told = std::mem::take(&mut connection.told);
        connection.buffer.extend_from_slice(&told);
        let broken = |why: protocol::immortal::Garbled| Broken::new(KEEPS_TO_PROTOCOL, why.0);
        let mut heard = Vec::new();
        while let Some(frame) =
            split_frame(&mut connection.buffer, FRAME_BYTES_MAX).map_err(broken)?
        {
            heard.push(FromNode::read(frame).map_err(broken)?);
        }
        for frame in heard {
            self.copy_is_told(copy, frame)?;
        }
        Ok(())
    }

    fn copy_is_told(&mut self, copy: usize, frame: FromNode) -> Result<(), Broken> {
        match frame {
            FromNode::Welcome { .. } => {
                if let Some(connection) = &mut self.copies.copies[copy].connection {
                    connection.is_welcome = true;
                    if connection.is_old {
                        self.paths.reached("a program that lacks the handler was there");
                    }
                }
                Ok(())
            }
            FromNode::Ping { number } => {
                let is_silent = !self.copies.is_calm && self.copies.rng.chance(30);
                let delay = if is_silent { 5 * SECOND } else { 100 };
                self.plan_deed(copy, delay, Deed::Say(FromProgram::Pong { number }));
                Ok(())
            }
            FromNode::Error { code, text } => self.copy_is_let_go(&code, &text),
            FromNode::Call { number, call } => {
                self.copy_has_call(copy, number, &call)?;
                self.copy_is_called(copy, number, &call);
                Ok(())
            }
        }
    }

    fn copy_is_let_go(&mut self, code: &str, text: &str) -> Result<(), Broken> {
        let path = match code {
            "BAD_ANSWER" => "a program that answered wrongly was let go",
            "BAD_FRAME" => "a program that babbled was let go",
            "LATE" => "a program that was late was let go",
            "SILENT" => "a program that was silent was let go",
            "UNKNOWN_KIND" | "NO_HANDLERS" | "RELOAD" | "STOPPING" => {
                "a program was turned away for now"
            }
            _ => {
                let what = format!("{code}: {text}");
                return Err(Broken::new("a node takes what a good program says", what));
            }
        };
        self.paths.reached(path);
        Ok(())
    }

    fn copy_has_call(&mut self, copy: usize, number: u64, call: &Call) -> Result<(), Broken> {
        let Some(connection) = &mut self.copies.copies[copy].connection else { return Ok(()) };
        if !connection.is_welcome || connection.is_old {
            let what = format!("call {number} before WELCOME, or for what the program has not got");
            return Err(Broken::new(KEEPS_TO_PROTOCOL, what));
        }
        let same = hash(format!("{} {} {:?}", call.link, call.version, call.body).as_bytes());
        let is_alone = connection.calls.is_empty();
        connection.calls.insert(number, same);
        if is_alone && self.copies.died_with.contains(&same) {
            self.paths.reached("a call that a program had died with went to another one alone");
        }
        Ok(())
    }

    fn copy_is_called(&mut self, copy: usize, number: u64, call: &Call) {
        let answer = FromProgram::Answer { call: number, answer: added(call) };
        let rng = &mut self.copies.rng;
        let soon = rng.delay(MILLISECOND, 60 * MILLISECOND);
        let choice = match self.copies.is_calm {
            true => 1_000,
            false if is_deadly(call) => 20,
            false => rng.below(1_000),
        };
        match choice {
            0..20 => {
                self.paths.reached("a program answered twice");
                self.plan_deed(copy, soon, Deed::Say(answer.clone()));
                self.plan_deed(copy, soon + 200, Deed::Say(answer));
            }
            20..40 => {
                self.paths.reached("a program died of a call");
                self.plan_deed(copy, soon, Deed::Die);
            }
            40..60 => {
                // It has answered, and dies at once.
                self.plan_deed(copy, soon, Deed::Say(answer));
                self.plan_deed(copy, soon + 1, Deed::Die);
            }
            60..70 => {
                self.paths.reached("a program answered late");
                self.plan_deed(copy, soon + 8_500 * MILLISECOND, Deed::Say(answer));
            }
            70..80 => self.plan_deed(copy, soon, Deed::Babble),
            80..90 => {
                let answer = Answer::State(Bytes::from_static(b"{\"entries\": ["));
                let answer = FromProgram::Answer { call: number, answer };
                self.plan_deed(copy, soon, Deed::Say(answer));
            }
            90..150 => {
                let slow = rng.between(200, 3_000) * MILLISECOND;
                self.plan_deed(copy, slow, Deed::Say(answer));
            }
            150..160 => {
                self.paths.reached("a program left in good order");
                self.plan_deed(copy, 0, Deed::Say(FromProgram::Leave));
                self.plan_deed(copy, soon, Deed::Say(answer));
                self.plan_deed(copy, soon + SECOND, Deed::Die);
            }
            _ => self.plan_deed(copy, soon, Deed::Say(answer)),
        }
    }

    /// The process of a program ends, or its connection; then it comes again.
    fn end_copy(&mut self, copy: usize, dies: bool) -> Result<(), Broken> {
        let one = &mut self.copies.copies[copy];
        one.epoch += 1;
        let connection = one.connection.take();
        if let Some(Connection { program, process, calls, .. }) = connection
            && dies
            && self.is_alive(process)
        {
            self.copies.died_with.extend(calls.into_values());
            self.input(process.machine, Input::ProgramClosed { program })?;
        }
        let longest = if self.copies.rng.chance(700) { 200 } else { 6_000 };
        let longest = if self.copies.is_calm { 200 } else { longest };
        let pause = self.copies.rng.between(5, longest) * MILLISECOND;
        self.plan_deed(copy, pause, Deed::Start);
        Ok(())
    }

    /// The faults are over.
    pub(crate) fn calm_copies(&mut self) {
        self.copies.is_calm = true;
        for copy in 0..self.copies.copies.len() {
            // Those that hang are started anew, and those that have yet to come come now.
            self.plan_deed(copy, 100 * MILLISECOND, Deed::Die);
        }
    }
}
