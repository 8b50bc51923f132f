//! The processes of programs: one for each replica, beside the node on its machine. They connect,
//! read and write a socket whose bytes are cut anywhere, work slowly, die, and are started again.

use std::sync::Arc;

use bytes::Bytes;
use node::{Input, ProgramDoor};
use protocol::immortal::{Fate, Message, SourceKind};

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::checkers::Broken;
use crate::checkers::immortals::{Books, InputSeen, book_of};
use crate::immortals::instances::Instance;
use crate::immortals::operator::Operator;
use crate::immortals::script::{Heard, POISON, Part, Role, Said, mix, numbers};
use crate::immortals::talk::{Came, Talk, Versions};
use crate::network::Process;
use crate::served::is_copy;
use crate::settings::Settings;
use crate::world::{Event, World};
use random::Random;

const KEEPS_TO_PROTOCOL: &str = "a node keeps to the immortal protocol";
const EXACTLY_ONCE: &str = "a program is told everything once and in order";

/// What a process does, or what happens to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Start,
    Connect,
    /// Bytes on their way to the node.
    Flow,
    /// Bytes on their way to the program.
    Hear,
    Work,
    /// A side effect is done.
    Effect {
        id: u64,
    },
    /// Somebody presses a key.
    Impulse,
}

/// A connection to the node.
struct Socket {
    program: u64,
    process: Process,
    to_node: Vec<u8>,
    flows: bool,
    to_program: Vec<u8>,
    hears: bool,
    /// The node has closed it: what is on its way is still read.
    ended: bool,
}

/// A program's process (or the place where one is to run).
pub(crate) struct Actor {
    pub(crate) machine: usize,
    pub(crate) role: Arc<Role>,
    pub(crate) versions: Versions,
    /// Counts starts, connections and their ends; events of former ones are void.
    epoch: u64,
    pub(crate) is_up: bool,
    /// Its replica was removed: it is not started any more.
    pub(crate) is_gone: bool,
    pub(crate) stalled_until: Time,
    /// How long it takes for an input, about.
    work: Time,
    socket: Option<Socket>,
    pub(crate) talk: Option<Talk>,
    works: bool,
    lives: u64,
    /// How often it was killed or paused by a fault.
    pub(crate) blows: u64,
    /// The inputs at which it told the time, and the time, since it was last given a state.
    pub(crate) times_told: Vec<(u64, u64)>,
}

/// All programs of a run, and who looks after them.
pub(crate) struct Programs {
    pub(crate) rng: Random,
    pub(crate) instances: Vec<Instance>,
    pub(crate) actors: Vec<Actor>,
    pub(crate) books: Books,
    pub(crate) operator: Operator,
    next_program: u64,
    next_impulse: u64,
    /// Nobody presses keys any more.
    pub(crate) is_closing: bool,
}

impl Programs {
    pub(crate) fn new(settings: &Settings) -> Self {
        let instances = settings.setup.map(|setup| setup.instances()).unwrap_or_default();
        let mut programs = Self {
            rng: Random::new(settings.seed, "programs"),
            operator: Operator::new(settings.seed, instances.len()),
            instances,
            actors: Vec::new(),
            books: Books::default(),
            next_program: 0,
            next_impulse: 0,
            is_closing: false,
        };
        for number in 0..programs.instances.len() {
            let Instance { role, machines, .. } = programs.instances[number].clone();
            if !role.is_deterministic() {
                programs.books.may_differ(&role.name);
            }
            for machine in machines {
                programs.hire(&role, machine);
            }
        }
        programs
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// A place for one more process.
    pub(crate) fn hire(&mut self, role: &Role, machine: usize) -> usize {
        self.actors.push(Actor {
            machine,
            role: Arc::new(role.clone()),
            versions: Versions { program: 0, upgrade_to: 0 },
            epoch: 0,
            is_up: false,
            is_gone: false,
            stalled_until: 0,
            work: self.rng.between(5, 400),
            socket: None,
            talk: None,
            works: false,
            lives: 0,
            blows: 0,
            times_told: Vec::new(),
        });
        self.actors.len() - 1
    }

    fn of_program(&self, program: u64) -> Option<usize> {
        self.actors
            .iter()
            .position(|actor| actor.socket.as_ref().is_some_and(|s| s.program == program))
    }

    pub(crate) fn of(&self, instance: &str) -> impl Iterator<Item = &Actor> {
        self.actors.iter().filter(move |actor| actor.role.name == instance && !actor.is_gone)
    }

    /// A name for an impulse that nobody else uses. `once`: not to a second life of its
    /// destination.
    pub(crate) fn name_impulse(&mut self, kind: &str, destination: &str, once: bool) -> String {
        self.next_impulse += 1;
        let id = format!("{kind}-{}", self.next_impulse);
        self.books.pushed(&id, destination, once);
        id
    }
}

impl World {
    fn plan_act(&mut self, actor: usize, delay: Time, act: Act) {
        let epoch = self.programs.actors[actor].epoch;
        self.agenda.after(delay, Event::Actor { actor, epoch, act });
    }

    pub(crate) fn start_actor_later(&mut self, actor: usize, delay: Time) {
        self.plan_act(actor, delay, Act::Start);
    }

    pub(crate) fn act(&mut self, actor: usize, epoch: u64, act: Act) -> Result<(), Broken> {
        let now = self.agenda.now();
        let one = &mut self.programs.actors[actor];
        if one.epoch != epoch {
            return Ok(());
        }
        if one.stalled_until > now && !matches!(act, Act::Flow | Act::Start) {
            let until = one.stalled_until;
            self.agenda.at(until, Event::Actor { actor, epoch, act });
            return Ok(());
        }
        match act {
            Act::Start => self.start_actor(actor),
            Act::Connect => self.connect_actor(actor),
            Act::Flow => self.flow(actor),
            Act::Hear => self.hear(actor),
            Act::Work => self.work(actor),
            Act::Effect { id } => self.effect_done(actor, id),
            Act::Impulse => self.press_a_key(actor),
        }
    }

    fn start_actor(&mut self, actor: usize) -> Result<(), Broken> {
        let one = &mut self.programs.actors[actor];
        if one.is_up || one.is_gone {
            return Ok(());
        }
        one.is_up = true;
        one.epoch += 1;
        one.lives += 1;
        one.stalled_until = 0;
        self.plan_act(actor, 0, Act::Connect);
        Ok(())
    }

    fn connect_actor(&mut self, actor: usize) -> Result<(), Broken> {
        let one = &mut self.programs.actors[actor];
        if one.is_gone {
            // Its replica was taken away, and its connection has ended: it would be in the way of
            // the program that is started if the replica comes back.
            one.is_up = false;
            return Ok(());
        }
        let machine = one.machine;
        let Some(process) = self.machines[machine].process(machine) else {
            let pause = self.programs.rng.between(10, 200) * MILLISECOND;
            self.plan_act(actor, pause, Act::Connect);
            return Ok(());
        };
        self.programs.next_program += 1;
        let program = self.programs.next_program;
        one.epoch += 1;
        one.works = false;
        let talk = Talk::new(&one.role, one.versions);
        one.talk = Some(talk);
        one.socket = Some(Socket {
            program,
            process,
            to_node: Vec::new(),
            flows: false,
            to_program: Vec::new(),
            hears: false,
            ended: false,
        });
        self.input(machine, Input::ProgramOpened { program, door: ProgramDoor::Native })?;
        self.write_out(actor);
        Ok(())
    }

    /// What the program has to say goes into its socket.
    fn write_out(&mut self, actor: usize) {
        let one = &mut self.programs.actors[actor];
        let (Some(talk), Some(socket)) = (&mut one.talk, &mut one.socket) else { return };
        socket.to_node.append(&mut talk.out);
        if !socket.to_node.is_empty() && !socket.flows {
            socket.flows = true;
            let delay = self.programs.rng.between(5, 200);
            self.plan_act(actor, delay, Act::Flow);
        }
    }

    fn flow(&mut self, actor: usize) -> Result<(), Broken> {
        let Programs { actors, rng, .. } = &mut self.programs;
        let Some(socket) = &mut actors[actor].socket else { return Ok(()) };
        let bytes = cut(rng, &mut socket.to_node);
        let (program, process) = (socket.program, socket.process);
        socket.flows = !socket.to_node.is_empty();
        if socket.flows {
            let delay = rng.between(5, 200);
            self.plan_act(actor, delay, Act::Flow);
        }
        if self.is_alive(process) {
            self.input(process.machine, Input::ProgramSaid { program, bytes })?;
        }
        Ok(())
    }

    /// A node says something to a program.
    pub(crate) fn program_told(&mut self, program: u64, bytes: &[Bytes]) {
        if is_copy(program) {
            return self.copy_told(program, bytes);
        }
        let Some(actor) = self.programs.of_program(program) else { return };
        let one = &mut self.programs.actors[actor];
        if let (Some(running), Some(talk)) = (&self.machines[one.machine].running, &mut one.talk)
            && talk.group == 0
        {
            talk.group = running.node.group_of_program(program).map_or(0, |group| group.0);
        }
        let socket = one.socket.as_mut().expect("it was found by it");
        bytes.iter().for_each(|piece| socket.to_program.extend_from_slice(piece));
        if !socket.hears {
            socket.hears = true;
            let delay = self.programs.rng.between(5, 200);
            self.plan_act(actor, delay, Act::Hear);
        }
    }

    /// A node closes the connection of a program.
    pub(crate) fn program_closed_by_node(&mut self, program: u64) {
        if is_copy(program) {
            return self.copy_closed_by_node(program);
        }
        let Some(actor) = self.programs.of_program(program) else { return };
        let socket = self.programs.actors[actor].socket.as_mut().expect("it was found by it");
        socket.ended = true;
        if !socket.hears {
            socket.hears = true;
            self.plan_act(actor, 5, Act::Hear);
        }
    }

    fn hear(&mut self, actor: usize) -> Result<(), Broken> {
        let Programs { actors, rng, .. } = &mut self.programs;
        let one = &mut actors[actor];
        let (Some(socket), Some(talk)) = (&mut one.socket, &mut one.talk) else { return Ok(()) };
        let bytes = cut(rng, &mut socket.to_program);
        let (program, process, ended) = (socket.program, socket.process, socket.ended);
        socket.hears = !socket.to_program.is_empty();
        let (hears, at) = (socket.hears, format!("{} of {}", one.role.name, one.machine + 1));
        let mut came = Vec::new();
        let broken = |why: String| Broken::new(KEEPS_TO_PROTOCOL, format!("{at}: {why}"));
        talk.hear(&one.role, &bytes, &mut came).map_err(broken)?;
        if hears {
            let delay = rng.between(5, 200);
            self.plan_act(actor, delay, Act::Hear);
        }
        if self.is_alive(process) && !ended && !bytes.is_empty() {
            let bytes = bytes.len() as u64;
            self.input(process.machine, Input::ProgramDrained { program, bytes })?;
        }
        for came in came {
            self.came(actor, came)?;
        }
        self.write_out(actor);
        if ended && !hears {
            self.lose_socket(actor);
        }
        Ok(())
    }

    fn came(&mut self, actor: usize, came: Came) -> Result<(), Broken> {
        let role = Arc::clone(&self.programs.actors[actor].role);
        let name = role.name.as_str();
        match came {
            Came::Loaded { life, input, digest } => {
                self.programs.actors[actor].times_told.clear();
                self.programs.books.loaded(&book_of(name, life), input, digest)?;
            }
            Came::Begun { life, digest } => {
                self.programs.books.begun(&book_of(name, life), digest)?;
            }
            Came::Input(heard) => {
                let talk = self.programs.actors[actor].talk.as_ref();
                let program_state = talk.and_then(|talk| talk.program_state.as_ref());
                let life = program_state.map_or(0, |program_state| program_state.life);
                self.given(&book_of(name, life), &heard)?;
                self.go_to_work(actor);
            }
            Came::Fate { impulse, fate: Fate::Logged, input } => {
                self.programs.books.impulse_logged(&impulse, input)?;
            }
            Came::Fate { impulse, fate: Fate::Lost, .. } => {
                self.programs.books.impulse_lost(&impulse)?;
            }
            Came::Fate { .. } => {}
            Came::Primary => {
                let pending = self.programs.actors[actor].talk.as_ref();
                let pending = pending.and_then(|talk| talk.program_state.as_ref());
                if pending.is_some_and(|program_state| !program_state.timers.is_empty()) {
                    self.paths.reached("timers waited for the next primary");
                }
                let pending: Vec<u64> = pending
                    .iter()
                    .flat_map(|program_state| &program_state.effects)
                    .copied()
                    .collect();
                for id in pending {
                    self.paths.reached("the next primary begins a side effect");
                    self.begin_effect(actor, id);
                }
                self.plan_act(actor, 20 * MILLISECOND, Act::Impulse);
            }
            Came::Error { code, text } => self.turned_away(actor, &code, &text)?,
        }
        Ok(())
    }

    /// Holds an input against what other copies were given in the same life.
    fn given(&mut self, name: &str, heard: &Heard) -> Result<(), Broken> {
        let words = format!("{heard:?}");
        let seen = InputSeen {
            number: heard.number,
            digest: mix(0, words.as_bytes()),
            words: &words,
            is_placeholder: heard.message == Message::Skipped,
        };
        let books = &mut self.programs.books;
        books.given(name, seen)?;
        if let Message::Impulse { payload, .. } = &heard.message {
            books.impulse_came(name, &impulse_id(payload), heard.number)?;
        }
        let is_of_document = heard.source.name.starts_with('/');
        if heard.source.kind == SourceKind::Instance
            && heard.message != Message::Skipped
            && !is_of_document
        {
            let digest = mix(0, format!("{:?}", heard.message).as_bytes());
            let from = book_of(&heard.source.name, life_of_sender(&heard.message));
            books.received(name, &from, heard.source.first, digest)?;
        }
        Ok(())
    }

    fn go_to_work(&mut self, actor: usize) {
        let one = &mut self.programs.actors[actor];
        if !one.works {
            one.works = true;
            let delay = self.programs.rng.delay(one.work, one.work * 40);
            self.plan_act(actor, delay, Act::Work);
        }
    }

    /// Handles some inputs.
    fn work(&mut self, actor: usize) -> Result<(), Broken> {
        self.programs.actors[actor].works = false;
        let count =
            if self.programs.rng.chance(600) { 1 } else { self.programs.rng.between(2, 30) };
        let mut handled = 0;
        while handled < count && self.handle_next(actor)? {
            handled += 1;
        }
        if let Some(talk) = &mut self.programs.actors[actor].talk {
            if handled > 0 {
                talk.say_done();
            }
            if self.programs.rng.chance(2) {
                talk.ask_checkpoint();
            }
            if !talk.queue.is_empty() {
                self.go_to_work(actor);
            }
        }
        self.write_out(actor);
        Ok(())
    }

    /// Handles the next input; false when there is none, or the program died of it.
    fn handle_next(&mut self, actor: usize) -> Result<bool, Broken> {
        let now = self.agenda.now();
        let clock = self.machines[self.programs.actors[actor].machine].now(now).wall.0;
        let one = &mut self.programs.actors[actor];
        let role = Arc::clone(&one.role);
        let Some(talk) = &mut one.talk else { return Ok(false) };
        let Some(heard) = talk.queue.pop_front() else { return Ok(false) };
        let path = match (&heard.message, talk.is_primary, role.part == Part::Delicate) {
            (Message::Upgrade { .. }, true, true) => Some("an upgrade failed at the primary"),
            (Message::Upgrade { .. }, false, true) => Some("an upgrade failed at a standby"),
            (Message::Upgrade { .. }, true, false) => Some("the primary was upgraded"),
            (Message::Upgrade { .. }, false, false) => Some("a standby was upgraded"),
            (Message::Skipped, ..) => Some("an input was taken out"),
            (Message::Timer { .. }, ..) => Some("a timer fired"),
            _ => None,
        };
        path.into_iter().for_each(|path| self.paths.reached(path));
        if role.part == Part::Delicate && is_deadly(&heard.message) {
            if self.programs.rng.chance(500) {
                talk.say_fault(heard.number);
                self.write_out(actor);
                self.flow(actor)?;
            }
            self.kill_actor(actor)?;
            return Ok(false);
        }
        let program_state = talk.program_state.as_mut().expect("inputs come after a state");
        let at = format!("{} of n{}", role.name, one.machine + 1);
        let says = program_state
            .handle(&role, &heard, clock)
            .map_err(|why| Broken::new(EXACTLY_ONCE, format!("{at}: {why}")))?;
        let digests = digests(&says);
        if role.part == Part::Clock && !digests.is_empty() {
            one.times_told.push((heard.number, clock));
        }
        let book = book_of(&role.name, program_state.life);
        if !self.programs.books.is_void(&book, program_state.upgraded_at) {
            self.programs.books.handled(&book, heard.number, program_state.digest(), &digests)?;
        }
        talk.say_all(&role, &says);
        let is_primary = talk.is_primary;
        for said in &says {
            if let Said::Await { id, due: None } = said
                && is_primary
            {
                self.begin_effect(actor, *id);
            }
        }
        Ok(true)
    }

    fn begin_effect(&mut self, actor: usize, id: u64) {
        let Some(talk) = &mut self.programs.actors[actor].talk else { return };
        if talk.effects.insert(id, false).is_none() {
            let delay = self.programs.rng.delay(MILLISECOND, 200 * MILLISECOND);
            self.plan_act(actor, delay, Act::Effect { id });
        }
    }

    fn effect_done(&mut self, actor: usize, id: u64) -> Result<(), Broken> {
        let now = self.agenda.now();
        let one = &mut self.programs.actors[actor];
        if let Some(talk) = one.talk.as_mut().filter(|talk| talk.is_primary) {
            talk.say_result(id, format!("done on n{} at {now}", one.machine + 1));
        }
        self.write_out(actor);
        Ok(())
    }

    /// The primary gets an impulse from outside, and gives it to the node.
    fn press_a_key(&mut self, actor: usize) -> Result<(), Broken> {
        let programs = &mut self.programs;
        let one = &mut programs.actors[actor];
        let primary = one.talk.as_ref().is_some_and(|talk| talk.is_primary);
        if programs.is_closing || !primary {
            return Ok(());
        }
        let role = Arc::clone(&one.role);
        for _ in 0..programs.rng.between(1, 3) {
            let own = role.targets.is_empty() || programs.rng.chance(600);
            let target = if own { &role.name } else { programs.rng.pick(&role.targets) };
            let id = programs.name_impulse("key", target, own);
            let talk = programs.actors[actor].talk.as_mut().expect("it was just there");
            talk.say_impulse(&id, if own { "" } else { target });
        }
        let pause = programs.rng.between(20, 1_500) * MILLISECOND;
        self.plan_act(actor, pause, Act::Impulse);
        self.write_out(actor);
        Ok(())
    }

    fn turned_away(&mut self, actor: usize, code: &str, text: &str) -> Result<(), Broken> {
        let now = self.agenda.now();
        let one = &mut self.programs.actors[actor];
        let at = format!("{} of n{}", one.role.name, one.machine + 1);
        self.trace.event(now, "", format_args!("{at} is told {code}: {text}"));
        let wrong = |rule| Err(Broken::new(rule, format!("{at}: {code}: {text}")));
        match code {
            "UPGRADED" | "PROGRAM_VERSION" => {
                let all = [(0, 1), (1, 1), (0, 0), (1, 0)];
                let (program, upgrade_to) = *self.programs.rng.pick(&all);
                one.versions = Versions { program, upgrade_to };
            }
            "BAD_FRAME" | "VERSION" => return wrong("a node takes what a good program says"),
            "DIVERGED" if one.role.is_deterministic() => {
                return wrong("no good program is said to have diverged");
            }
            "HELD" if one.role.part != Part::Delicate && one.blows < 3 => {
                return wrong("no good program is held");
            }
            _ => {}
        }
        Ok(())
    }

    /// The connection of a program is gone; it connects again.
    fn lose_socket(&mut self, actor: usize) {
        let one = &mut self.programs.actors[actor];
        one.socket = None;
        one.talk = None;
        one.works = false;
        one.epoch += 1;
        let pause = self.programs.rng.between(5, 300) * MILLISECOND;
        self.plan_act(actor, pause, Act::Connect);
    }

    /// The process of a program ends here and now; the kernel closes its socket.
    pub(crate) fn kill_actor(&mut self, actor: usize) -> Result<(), Broken> {
        let now = self.agenda.now();
        let Programs { actors, rng, .. } = &mut self.programs;
        let one = &mut actors[actor];
        if !one.is_up {
            return Ok(());
        }
        let at = format!("{} of n{}", one.role.name, one.machine + 1);
        self.trace.event(now, "", format_args!("{at} dies"));
        let socket = one.socket.take();
        one.talk = None;
        one.is_up = false;
        one.works = false;
        one.epoch += 1;
        let longest = if rng.chance(500) { 50 } else { 2_000 };
        let pause = rng.between(5, longest) * MILLISECOND;
        if let Some(mut socket) = socket
            && !socket.ended
        {
            let (program, process) = (socket.program, socket.process);
            let bytes = cut(&mut self.programs.rng, &mut socket.to_node);
            if self.is_alive(process) {
                if !bytes.is_empty() {
                    self.input(process.machine, Input::ProgramSaid { program, bytes })?;
                }
                self.input(process.machine, Input::ProgramClosed { program })?;
            }
        }
        self.start_actor_later(actor, pause);
        Ok(())
    }

    /// The process of a node has ended: its sockets are closed, or the whole machine is gone.
    pub(crate) fn programs_lose_node(&mut self, machine: usize, power: bool) {
        for actor in 0..self.programs.actors.len() {
            let one = &mut self.programs.actors[actor];
            if one.machine != machine || !one.is_up {
                continue;
            }
            if power {
                one.socket = None;
                one.talk = None;
                one.is_up = false;
                one.works = false;
                one.epoch += 1;
                let pause = self.programs.rng.between(20, 3_000) * MILLISECOND;
                self.start_actor_later(actor, pause);
            } else if let Some(socket) = &mut one.socket {
                socket.ended = true;
                if !socket.hears {
                    socket.hears = true;
                    self.plan_act(actor, 5, Act::Hear);
                }
            }
        }
    }

    /// A fault strikes one program.
    pub(crate) fn strike_program(&mut self, stall: bool) -> Result<(), Broken> {
        let up: Vec<usize> =
            (0..self.programs.actors.len()).filter(|n| self.programs.actors[*n].is_up).collect();
        if up.is_empty() {
            return Ok(());
        }
        let actor = *self.programs.rng.pick(&up);
        self.programs.actors[actor].blows += 1;
        if !stall {
            return self.kill_actor(actor);
        }
        let until = self.programs.rng.between(20, 3_000) * MILLISECOND;
        self.programs.actors[actor].stalled_until = self.agenda.now() + until;
        Ok(())
    }

    /// The faults are over.
    pub(crate) fn calm_programs(&mut self) {
        let now = self.agenda.now();
        self.programs.is_closing = true;
        for actor in 0..self.programs.actors.len() {
            self.programs.actors[actor].stalled_until = now;
            self.start_actor_later(actor, SECOND);
        }
    }
}

fn life_of_sender(message: &Message) -> u32 {
    let (Message::Fork { payload, .. }
    | Message::Call { payload, .. }
    | Message::Answer { payload, .. }) = message
    else {
        return 0;
    };
    numbers(&String::from_utf8_lossy(payload)).map_or(0, |(_, life)| life)
}

fn impulse_id(payload: &Bytes) -> String {
    String::from_utf8_lossy(payload).trim_matches('"').to_owned()
}

/// A delicate program dies of poison, and of any upgrade.
fn is_deadly(message: &Message) -> bool {
    match message {
        Message::Impulse { payload, .. } => impulse_id(payload).starts_with(POISON),
        Message::Upgrade { .. } => true,
        _ => false,
    }
}

/// Each message that is said, in short.
fn digests(says: &[Said]) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for said in says {
        if let Said::Send { destination, messages } = said {
            let digest = |message: &Message| mix(0, format!("{message:?}").as_bytes());
            all.extend(messages.iter().map(|message| (destination.clone(), digest(message))));
        }
    }
    all
}

/// Some bytes from the front: mostly all.
fn cut(rng: &mut Random, from: &mut Vec<u8>) -> Bytes {
    if from.is_empty() || rng.chance(700) {
        return std::mem::take(from).into();
    }
    let count = rng.index(from.len()) + 1;
    from.drain(..count).collect::<Vec<u8>>().into()
}
