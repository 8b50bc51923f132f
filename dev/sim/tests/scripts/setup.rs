//! A setup for a few nodes: nothing goes wrong here but what a script asks for.
//!
//! Disks are quick, frames arrive in order and at once, unless the script holds a path; then they
//! wait on it until it is let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use node::{
    Input, KeptLimits, Node, NodeConfig, Output, ProgramDoor, SandboxState, TailLimits, Timing,
    Upkeep,
};
use protocol::service::{Answer, Call, FromProgram};
use protocol::{GroupId, Method, Moment, Now, Request, Response};
use random::Random;
use replication::MessageKind;
use serde_json::Value;
use services::Catalogue;
use sim::media::{SimDisk, SimStore};
use storage::{Log, LogOptions, LogOwner, LogRecord};

use crate::copy::{Copy, bytes_of};
use crate::program::Program;

/// What clocks show at the beginning, in microseconds.
pub(crate) const WALL_AT_START: u64 = 1_795_000_000_000_000;

/// How long a member must have been away before its place is taken without a person.
pub(crate) const AWAY_MILLIS: u64 = 3_000;

/// More rounds than this without coming to rest are a loop.
const ROUNDS_MAX: usize = 10_000;

#[derive(Default)]
struct Actor {
    disk: SimDisk,
    store: SimStore,
    sandbox: u64,
    boot: u64,
    /// For that start a person said that the sandbox is as it should be.
    trusted_boot: u64,
    snapshot: Option<(u64, SimDisk, SimStore)>,
    running: Option<Running>,
    /// By how much its clock is ahead, in microseconds.
    ahead: u64,
    /// Its program has none of the examples' services.
    is_older: bool,
    /// It says that it is that node, at that address.
    disguise: Option<(String, String)>,
    /// Why it halted.
    halted: Option<String>,
    /// It stopped in good order.
    has_stopped: bool,
    /// It is started without a list of peers.
    has_no_list: bool,
    /// Whose cluster it is to join.
    join: Option<String>,
    /// Where the other members are, as it has said.
    others: Option<Vec<String>>,
}

struct Running {
    node: Node,
    log: Log<SimDisk>,
    inputs: Vec<Input>,
    /// Each link: the node at the other end, and that one's number for it.
    links: BTreeMap<u64, (usize, u64)>,
    dials: BTreeSet<usize>,
    answers: BTreeMap<u64, Response>,
    programs: BTreeMap<u64, Program>,
    /// Programs that serve kinds.
    copies: BTreeMap<u64, Copy>,
    /// What its slow disk will have synced, and when.
    syncing: VecDeque<(u64, Input)>,
    /// What it has said in its log.
    notes: Vec<String>,
    /// Nothing of the state gets to the disk.
    keeps_state_back: bool,
    /// The persist that waits for that.
    unpersisted: Option<u64>,
}

impl Running {
    fn new(node: Node, log: Log<SimDisk>, dials: BTreeSet<usize>) -> Self {
        Self {
            node,
            log,
            inputs: Vec::new(),
            links: BTreeMap::new(),
            dials,
            answers: BTreeMap::new(),
            programs: BTreeMap::new(),
            copies: BTreeMap::new(),
            syncing: VecDeque::new(),
            notes: Vec::new(),
            keeps_state_back: false,
            unpersisted: None,
        }
    }

    /// The records are durable at once, or at that time.
    fn append(&mut self, batch: u64, records: &[LogRecord], later: Option<u64>) {
        self.log.append(records).expect("the disk takes it");
        self.log.sync().expect("the disk takes it");
        let durable = Input::LogDurable { batch, frames: self.log.frames() };
        match later {
            Some(time) => self.syncing.push_back((time, durable)),
            None => self.inputs.push(durable),
        }
    }

    /// A program is told this, and says what it says to it.
    fn tell(&mut self, program: u64, bytes: &[Bytes]) {
        if let Some(copy) = self.copies.get_mut(&program) {
            let bytes = copy.told(bytes);
            self.inputs.push(Input::ProgramSaid { program, bytes });
            return;
        }
        let Some(known) = self.programs.get_mut(&program) else { return };
        let (length, says) = (bytes.iter().map(Bytes::len).sum::<usize>(), known.told(bytes));
        self.inputs.push(Input::ProgramDrained { program, bytes: length as u64 });
        if !says.is_empty() {
            self.inputs.push(Input::ProgramSaid { program, bytes: says });
        }
    }
}

/// How long a slow disk takes for a sync, in microseconds.
const SLOW_SYNC_MICROS: u64 = 60_000;

pub(crate) struct Setup {
    actors: Vec<Actor>,
    /// The number of them that form the cluster.
    founders: usize,
    catalogue: Arc<Catalogue>,
    micros: u64,
    next: u64,
    /// What waits on a path that is held.
    held: BTreeMap<(usize, usize), VecDeque<(u64, Input)>>,
    /// Frames take until the next tick, and are on their way: from, to, the link there.
    is_slow: bool,
    on_the_way: Vec<(usize, usize, u64, Input)>,
    /// Processes that stand still.
    frozen: BTreeSet<usize>,
    /// Nodes whose disks are slow.
    slow: BTreeSet<usize>,
    /// Whose state of which group was put aside, and whose was filled anew.
    pub(crate) put_aside: Vec<(usize, GroupId)>,
    /// Snapshots that went to a node: of which group, from whom.
    pub(crate) snapshots: Vec<(usize, GroupId, usize)>,
    /// What each node keeps of its logs for others, from its next start on.
    pub(crate) tail: TailLimits,
    pub(crate) filled: Vec<(usize, GroupId)>,
}

fn uri(number: usize) -> String {
    format!("http://n{}", number + 1)
}

/// Notes those that a frame brings from one node to another.
fn note_snapshots(
    all: &mut Vec<(usize, GroupId, usize)>,
    (from, to): (usize, usize),
    frame: &[Bytes],
) {
    let messages = node::consensus_in(frame).into_iter();
    let snapshots = messages.filter(|(_, message)| message.kind == MessageKind::Snapshot);
    all.extend(snapshots.map(|(group, _)| (to, group, from)));
}

impl Setup {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            actors: (0..nodes).map(|_| Actor::default()).collect(),
            founders: nodes,
            catalogue: Arc::new(examples::catalogue()),
            micros: 1,
            next: 0,
            held: BTreeMap::new(),
            is_slow: false,
            on_the_way: Vec::new(),
            frozen: BTreeSet::new(),
            slow: BTreeSet::new(),
            put_aside: Vec::new(),
            snapshots: Vec::new(),
            tail: TailLimits::default(),
            filled: Vec::new(),
        }
    }

    /// The cluster is formed by the first of the nodes; the others can ask to join it.
    pub(crate) fn with_founders(nodes: usize, founders: usize) -> Self {
        Self { founders, ..Self::new(nodes) }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A process starts on what its sandbox has, with the founders and itself as its peers.
    pub(crate) fn start(&mut self, number: usize) {
        let mut peers: Vec<String> = (0..self.founders).map(uri).collect();
        if number >= self.founders {
            peers.push(uri(number));
        }
        if let Some((_, uri)) = &self.actors[number].disguise
            && !peers.contains(uri)
        {
            peers.push(uri.clone());
        }
        let fresh = self.number();
        let actor = &mut self.actors[number];
        if actor.has_no_list {
            peers.clear();
        }
        if actor.sandbox == 0 {
            actor.sandbox = 1_000 + fresh;
        }
        actor.boot += 1;
        let (node_id, public_uri) = match &actor.disguise {
            Some((id, uri)) => (id.clone(), uri.clone()),
            None => (format!("n{}", number + 1), uri(number)),
        };
        let options = LogOptions { segment_bytes: 64 << 10 };
        let (mut log, recovered) =
            Log::open(actor.disk.clone(), options).expect("its disk is well");
        let config = NodeConfig {
            node_id,
            public_uri,
            peers,
            join: actor.join.clone(),
            sandbox: SandboxState {
                id: actor.sandbox,
                boot: actor.boot,
                has_begun: actor.boot > 1,
                is_trusted: actor.boot == actor.trusted_boot,
                trusted_boot: actor.trusted_boot,
                others: actor.others.clone(),
                ..SandboxState::default()
            },
            seed: fresh,
            membership_quorum: None,
            partitions: 4,
            timing: Timing { away_ticks: AWAY_MILLIS / 10, ..Timing::default() },
            upkeep: Upkeep { tail: self.tail, ..Upkeep::default() },
            kept: KeptLimits::default(),
            permits: Default::default(),
        };
        let reader = log.reader(actor.disk.clone());
        let store = Box::new(actor.store.clone());
        let older = || Arc::new(Catalogue::new());
        let catalogue = if actor.is_older { older() } else { Arc::clone(&self.catalogue) };
        let handlers = (catalogue, Arc::new(services::QuickInvoker) as Arc<dyn services::Invoker>);
        let node = Node::new(config, handlers, recovered, reader, store).expect("it can start");
        let owner = LogOwner { sandbox_id: actor.sandbox, boot: actor.boot };
        let written = log.append(&[LogRecord::Owner(owner)]).and_then(|()| log.sync());
        written.expect("the disk takes it");
        let running = Running::new(node, log, self.dials(number));
        self.actors[number].running = Some(running);
        self.round(number);
    }

    /// Whom a node that starts is to dial.
    fn dials(&mut self, number: usize) -> BTreeSet<usize> {
        let mut dials: BTreeSet<usize> = (0..self.actors.len()).collect();
        dials.remove(&number);
        if self.actors[number].has_no_list && self.actors[number].join.is_none() {
            // It knows of no other, and the others dial it.
            dials.clear();
            let running = self.actors.iter_mut().filter_map(|actor| actor.running.as_mut());
            for running in running {
                running.dials.insert(number);
            }
        }
        dials
    }

    /// Whether an older program starts from then on, which lacks services.
    pub(crate) fn set_older(&mut self, number: usize, is_older: bool) {
        self.actors[number].is_older = is_older;
    }

    /// From its next start on it says that it is that node, at that address.
    pub(crate) fn disguise(&mut self, number: usize, id: &str, uri: &str) {
        self.actors[number].disguise = Some((id.to_owned(), uri.to_owned()));
    }

    /// A start of a node of which a person says that the sandbox is as it should be.
    pub(crate) fn start_trusted(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        actor.boot += 1_000;
        actor.trusted_boot = actor.boot + 1;
        self.start(number);
    }

    /// A snapshot of its machine's disk is made.
    pub(crate) fn take_snapshot(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        actor.snapshot = Some((actor.boot, actor.disk.copy(), actor.store.copy()));
    }

    /// The disk is set back to the snapshot.
    pub(crate) fn set_back(&mut self, number: usize) {
        let actor = &mut self.actors[number];
        let (boot, disk, store) = actor.snapshot.take().expect("one was made");
        (actor.boot, actor.disk, actor.store) = (boot, disk, store);
    }

    /// The process is gone; what it wrote is still there.
    pub(crate) fn kill(&mut self, number: usize) {
        let running = self.actors[number].running.take();
        let links = running.map(|running| running.links).unwrap_or_default();
        for (peer, link) in links.into_values() {
            self.give(number, peer, link, Input::LinkClosed { link });
        }
    }

    /// Its disk takes no more writes, or takes them again.
    pub(crate) fn set_full(&mut self, number: usize, is_full: bool) {
        self.keep_state_back(number, is_full);
        let running = self.actors[number].running.as_mut().expect("a node that runs is told");
        running.inputs.push(match is_full {
            true => Input::StorageFailed { why: "no room".into(), full: true },
            false => Input::StorageRecovered,
        });
        self.settle();
    }

    /// Nothing of its state gets to the disk, however long that takes, or it does again.
    pub(crate) fn keep_state_back(&mut self, number: usize, is_kept: bool) {
        let actor = &mut self.actors[number];
        let running = actor.running.as_mut().expect("a node that runs is told");
        running.keeps_state_back = is_kept;
        if let Some(mark) = running.unpersisted.take_if(|_| !is_kept) {
            actor.store.persisted(actor.store.written());
            running.inputs.push(Input::StatePersisted { mark });
        }
        self.settle();
    }

    /// There is little room on its disk, or enough again.
    pub(crate) fn set_room_low(&mut self, number: usize, is_low: bool) {
        let running = self.actors[number].running.as_mut().expect("a node that runs is told");
        running.inputs.push(Input::Room { is_low });
        self.settle();
    }

    /// Its clock is so much ahead from now on, in milliseconds.
    pub(crate) fn set_ahead(&mut self, number: usize, millis: u64) {
        self.actors[number].ahead = millis * 1_000;
    }

    /// What was not made durable is lost.
    pub(crate) fn lose_power(&mut self, number: usize, random: &mut Random) {
        self.kill(number);
        self.actors[number].disk.lose_power(random);
        self.actors[number].store.lose_power(random);
    }

    /// The state of that group is not what follows from its log any more.
    pub(crate) fn alter(&mut self, number: usize, group: GroupId) {
        self.actors[number].store.alter(group).expect("the store takes it");
    }

    /// The sandbox is gone as well.
    pub(crate) fn wipe(&mut self, number: usize) {
        self.kill(number);
        self.actors[number] = Actor::default();
    }

    /// From its next start on, it is started without a list of peers.
    pub(crate) fn forget_the_list(&mut self, number: usize) {
        self.actors[number].has_no_list = true;
    }

    /// It has put its sandbox aside, and is to join that cluster.
    pub(crate) fn is_to_join(&self, number: usize) -> Option<&str> {
        self.actors[number].join.as_deref()
    }

    /// Where the other members are, as it has said last.
    pub(crate) fn others(&self, number: usize) -> Option<&[String]> {
        self.actors[number].others.as_deref()
    }

    /// Frames wait on the way between two nodes, in both directions.
    pub(crate) fn hold(&mut self, one: usize, other: usize) {
        self.hold_one_way(one, other);
        self.hold_one_way(other, one);
    }

    pub(crate) fn hold_one_way(&mut self, from: usize, to: usize) {
        self.held.entry((from, to)).or_default();
    }

    pub(crate) fn let_go(&mut self, one: usize, other: usize) {
        for path in [(one, other), (other, one)] {
            for (link, input) in self.held.remove(&path).unwrap_or_default() {
                self.give(path.0, path.1, link, input);
            }
        }
    }

    /// Frames take until the next tick from now on, or come at once again.
    pub(crate) fn set_slow(&mut self, is_slow: bool) {
        self.is_slow = is_slow;
        if !is_slow {
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        for (from, to, link, input) in std::mem::take(&mut self.on_the_way) {
            self.bring(from, to, link, input);
        }
    }

    fn give(&mut self, from: usize, to: usize, link: u64, input: Input) {
        if self.is_slow {
            self.on_the_way.push((from, to, link, input));
        } else {
            self.bring(from, to, link, input);
        }
    }

    /// Brings something to the other end of a link, if that is still there.
    fn bring(&mut self, from: usize, to: usize, link: u64, input: Input) {
        if let Some(waiting) = self.held.get_mut(&(from, to)) {
            waiting.push_back((link, input));
            return;
        }
        let Some(running) = &mut self.actors[to].running else { return };
        let known = match &input {
            Input::LinkClosed { .. } => running.links.remove(&link).is_some(),
            _ => running.links.contains_key(&link),
        };
        if known {
            running.inputs.push(input);
        }
    }

    /// The process stands still, with its sockets open.
    pub(crate) fn freeze(&mut self, number: usize) {
        self.frozen.insert(number);
    }

    pub(crate) fn thaw(&mut self, number: usize) {
        self.frozen.remove(&number);
        self.settle();
    }

    /// From now on the disk of that node takes its time.
    pub(crate) fn slow_down(&mut self, number: usize) {
        self.slow.insert(number);
    }

    pub(crate) fn speed_up(&mut self, number: usize) {
        self.slow.remove(&number);
        self.run(SLOW_SYNC_MICROS / 1_000);
    }

    /// Time goes on for so long.
    pub(crate) fn run(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(10) {
            self.micros += 10_000;
            self.arrive();
            self.dial();
            for (number, actor) in self.actors.iter_mut().enumerate() {
                if let Some(running) = &mut actor.running
                    && !self.frozen.contains(&number)
                {
                    running.inputs.push(Input::Tick);
                    let micros = self.micros;
                    while let Some((_, synced)) =
                        running.syncing.pop_front_if(|(due, _)| *due <= micros)
                    {
                        running.inputs.push(synced);
                    }
                }
            }
            self.settle();
        }
    }

    /// Time goes on until that is so.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1_000 {
            if is_so(self) {
                return;
            }
            self.run(10);
        }
        panic!("within ten seconds it was not so that {what}");
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let frozen = &self.frozen;
            let waits = |(number, actor): (usize, &Actor)| {
                let running = actor.running.as_ref();
                !frozen.contains(&number) && running.is_some_and(|r| !r.inputs.is_empty())
            };
            let Some(number) = self.actors.iter().enumerate().position(waits) else { return };
            self.round(number);
        }
        panic!("the nodes do not come to rest");
    }

    fn dial(&mut self) {
        for number in 0..self.actors.len() {
            let dials = match &self.actors[number].running {
                Some(running) => running.dials.clone(),
                None => continue,
            };
            for to in dials {
                if self.held.contains_key(&(number, to)) {
                    continue;
                }
                if self.actors[to].running.is_some() {
                    self.open(number, to);
                } else if let Some(running) = &mut self.actors[number].running {
                    running.inputs.push(Input::DialFailed { address: uri(to) });
                }
            }
        }
    }

    fn open(&mut self, number: usize, to: usize) {
        let (mine, theirs) = (self.number(), self.number());
        for (at, own, peer, link, dialed) in
            [(number, mine, to, theirs, Some(uri(to))), (to, theirs, number, mine, None)]
        {
            let running = self.actors[at].running.as_mut().expect("both run");
            running.links.insert(own, (peer, link));
            running.inputs.push(Input::LinkOpened { link: own, dialed, is_detour: false });
        }
        let running = self.actors[number].running.as_mut().expect("both run");
        running.dials.remove(&to);
    }

    fn round(&mut self, number: usize) {
        self.micros += 10;
        let wall = Moment(WALL_AT_START + self.micros + self.actors[number].ahead);
        let now = Now { steady_micros: self.micros, wall };
        let Some(running) = &mut self.actors[number].running else { return };
        let mut outputs = Vec::new();
        running.node.step(now, &mut running.inputs, &mut outputs);
        for output in outputs {
            self.carry_out(number, output);
        }
    }

    fn carry_out(&mut self, number: usize, output: Output) {
        let actor = &mut self.actors[number];
        let Some(running) = &mut actor.running else { return };
        match output {
            Output::Append { batch, records } => {
                let is_slow = self.slow.contains(&number);
                let later = is_slow.then_some(self.micros + SLOW_SYNC_MICROS);
                running.append(batch, &records, later);
            }
            Output::Persist { mark } if running.keeps_state_back => {
                running.unpersisted = Some(mark);
            }
            Output::Persist { mark } => {
                actor.store.persisted(actor.store.written());
                running.inputs.push(Input::StatePersisted { mark });
            }
            Output::Send { link, frame } => {
                if let Some((peer, link)) = running.links.get(&link).copied() {
                    note_snapshots(&mut self.snapshots, (number, peer), &frame);
                    let frame = frame.concat().into();
                    self.give(number, peer, link, Input::Received { link, frame });
                }
            }
            Output::Close { link } => {
                if let Some((peer, theirs)) = running.links.remove(&link) {
                    running.inputs.push(Input::LinkClosed { link });
                    self.give(number, peer, theirs, Input::LinkClosed { link: theirs });
                }
            }
            Output::Answer { ticket, response } => {
                running.answers.insert(ticket, response);
            }
            Output::Invoke(invocation) => {
                running.inputs.push(Input::Invoked(self.catalogue.invoke(invocation)));
            }
            Output::Run(job) => running.inputs.push(Input::Ran(job.run(&node::Files::default))),
            Output::Notify(notification) => {
                let outcome = Err("nobody is there".to_owned());
                running.inputs.push(Input::Notified { number: notification.number, outcome });
            }
            Output::GoOn { group, opening } => {
                running.inputs.push(Input::GoOn { group, opening });
            }
            Output::Measure => running.inputs.push(Input::Measured),
            Output::Note { text, .. } => running.notes.push(text),
            Output::Halt { why } | Output::Renew { why, .. } => {
                actor.halted = Some(why);
                self.kill(number);
            }
            Output::ProgramTell { program, bytes } => running.tell(program, &bytes),
            Output::ProgramClose { program } => {
                running.programs.remove(&program);
            }
            Output::StateAside { group } => self.put_aside.push((number, group)),
            Output::StateFilled { group } => self.filled.push((number, group)),
            Output::WithoutNextEvent { count } => panic!("{count} tasks without a next event"),
            Output::ProgramPorts { .. }
            | Output::Repro { .. }
            | Output::Catalogue(_)
            | Output::Dial { .. } => {}
            Output::Stopped => {
                actor.has_stopped = true;
                self.kill(number);
            }
            Output::Others { addresses } => actor.others = Some(addresses),
            Output::Rejoin { contact } => {
                self.wipe(number);
                self.actors[number].join = Some(contact);
            }
        }
    }

    /// A program connects to a node as a copy of that instance.
    pub(crate) fn attach(&mut self, number: usize, instance: &str) {
        self.attach_one(number, instance, Program::default());
    }

    /// The same for that program.
    pub(crate) fn attach_one(&mut self, number: usize, instance: &str, one: Program) {
        let program = self.number();
        let running = self.actors[number].running.as_mut().expect("a node that runs is asked");
        running.programs.insert(program, one);
        running.inputs.extend([
            Input::ProgramOpened { program, door: ProgramDoor::Native },
            Input::ProgramSaid { program, bytes: Program::hello(instance) },
        ]);
        self.settle();
    }

    /// A program connects to a node and serves a kind.
    pub(crate) fn serve(&mut self, number: usize, factory: &str) -> u64 {
        let program = self.number();
        let running = self.actors[number].running.as_mut().expect("a node that runs is asked");
        running.copies.insert(program, Copy::default());
        running.inputs.extend([
            Input::ProgramOpened { program, door: ProgramDoor::Native },
            Input::ProgramSaid { program, bytes: Copy::serve(factory) },
        ]);
        self.settle();
        program
    }

    /// What a program was asked and has not answered.
    pub(crate) fn calls(&self, number: usize, program: u64) -> &[(u64, Call)] {
        let running = self.actors[number].running.as_ref();
        running.and_then(|it| it.copies.get(&program)).map_or(&[][..], |copy| &copy.calls)
    }

    /// A program answers a call.
    pub(crate) fn program_answers(&mut self, number: usize, program: u64, call: u64, says: Answer) {
        let running = self.actors[number].running.as_mut().expect("its node runs");
        let copy = running.copies.get_mut(&program).expect("it was attached");
        copy.calls.retain(|(known, _)| *known != call);
        let bytes = bytes_of(&FromProgram::Answer { call, answer: says });
        running.inputs.push(Input::ProgramSaid { program, bytes });
        self.settle();
    }

    pub(crate) fn is_up(&self, number: usize) -> bool {
        self.actors[number].running.is_some()
    }

    pub(crate) fn has_stopped(&self, number: usize) -> bool {
        self.actors[number].has_stopped
    }

    /// A person tells the node to stop.
    pub(crate) fn tell_to_stop(&mut self, number: usize) {
        let running = self.actors[number].running.as_mut().expect("a node that runs is told");
        running.inputs.push(Input::Stop);
        self.settle();
    }

    /// Whether the log of a node that runs has such a line.
    pub(crate) fn has_noted(&self, number: usize, text: &str) -> bool {
        let running = self.actors[number].running.as_ref();
        running.is_some_and(|running| running.notes.iter().any(|note| note.contains(text)))
    }

    pub(crate) fn why_halted(&self, number: usize) -> Option<&str> {
        self.actors[number].halted.as_deref()
    }

    /// Something that a crash now could take from the state store.
    pub(crate) fn is_settled(&self, number: usize) -> bool {
        self.actors[number].store.is_settled()
    }

    /// Asks a node many things at once.
    pub(crate) fn ask_all(&mut self, number: usize, requests: Vec<Request>) -> Vec<u64> {
        let first = self.next + 1;
        let running = self.actors[number].running.as_mut().expect("a node that runs is asked");
        for (ticket, request) in (first..).zip(requests) {
            running.inputs.push(Input::Request { ticket, request });
            self.next = ticket;
        }
        self.settle();
        (first..=self.next).collect()
    }

    /// Asks a node; the answer is fetched with the ticket.
    pub(crate) fn ask(&mut self, number: usize, request: Request) -> u64 {
        let ticket = self.number();
        let running = self.actors[number].running.as_mut().expect("a node that runs is asked");
        running.inputs.push(Input::Request { ticket, request });
        self.settle();
        ticket
    }

    pub(crate) fn answer(&self, number: usize, ticket: u64) -> Option<&Response> {
        self.actors[number].running.as_ref()?.answers.get(&ticket)
    }

    /// Asks something that a node answers at once.
    pub(crate) fn look(&mut self, number: usize, path: &str) -> Value {
        let ticket = self.ask(number, Request::new(Method::Get, path));
        self.answer(number, ticket).map_or(Value::Null, Response::to_json)
    }
}
