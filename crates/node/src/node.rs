//! The node: a newcomer until it is known who it is, then a member of its cluster for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use cluster::{
    Hello, Home, Identity, Judgement, Links, Newcomer, NewcomerWish, Profile, Witnesses, judge,
};
use protocol::{GroupId, Now, Principal, Request, Response};
use services::{Catalogue, Handlers, Invoker, WritesOfInstances};
use storage::{LogReader, Recovered, StateStore, Witness};

use crate::admission;
use crate::control::dial;
use crate::frame::{self, Frame};
use crate::groups;
use crate::io::{Input, Level, NodeConfig, Output, ProgramDoor, SandboxState};
use crate::log_batch::{LogBatch, Logs};
use crate::member::Member;
use crate::membership::{Fate, Host};
use crate::programs::{PROGRAMS_MAX, turn_away_early};
use crate::proof::{self, Proof, StartError};
use crate::rest::{Plan, plan_of_newcomer};
use crate::work::{Effects, Ending, Purpose};

/// How often a newcomer says what it waits for, and how often when that is a person, in ticks.
const WAITING_TICKS: u64 = 300;
const LISTED_TICKS: u64 = 6_000;

/// What a newcomer will begin with as a member.
struct Seed {
    store: Box<dyn StateStore>,
    handlers: Handlers,
    logs: Logs,
    log: LogBatch,
    witnesses: Witnesses,
}

/// Where a node stands in its life.
enum Life {
    /// It belongs to no cluster so far.
    Newcomer {
        seed: Box<Seed>,
        newcomer: Newcomer,
    },
    /// It knows who it is, and waits until its identity is on the disk. Before, nothing is done in
    /// its name.
    Settling {
        seed: Box<Seed>,
        identity: Identity,
        mark: u64,
    },
    Member(Box<Member>),
    /// It takes no more inputs.
    Ended,
}

/// One node as one value.
pub struct Node {
    config: NodeConfig,
    profile: Profile,
    now: Now,
    links: Links,
    effects: Effects,
    life: Life,
    /// Programs that have connected to a newcomer and said nothing so far.
    early: BTreeMap<u64, ProgramDoor>,
    /// The addresses that a newcomer has links to.
    dialed: Vec<String>,
    ticks: u64,
}

macro_rules! host {
    ($self:expr) => {
        Host {
            config: &$self.config,
            profile: &$self.profile,
            now: $self.now,
            links: &mut $self.links,
            effects: &mut $self.effects,
        }
    };
}

impl Node {
    /// Makes a node. `reader` reads what was recovered, and what is written to the log from now on.
    ///
    /// Before the first step the shell must durably write whose log it is
    /// ([`storage::LogRecord::Owner`]), and after that it must write that the sandbox [has
    /// begun](crate::SandboxState::has_begun).
    ///
    /// # Errors
    /// Why it cannot start.
    pub fn new(
        config: NodeConfig,
        (catalogue, invoker): (Arc<Catalogue>, Arc<dyn Invoker>),
        recovered: Recovered,
        reader: Arc<dyn LogReader>,
        mut store: Box<dyn StateStore>,
    ) -> Result<Self, StartError> {
        check_config(&config).map_err(StartError::Impossible)?;
        let identity = proof::check(&config.sandbox, &recovered, &*store)?;
        let profile = profile_of(&config, recovered.frames, &catalogue);
        if identity.is_some() {
            // The identity can be read, but a process that was killed may have left it only in the
            // page cache. If it were lost later while the entries that are logged from here on
            // stayed, nobody could tell whose entries they are.
            store.persist().map_err(|error| StartError::Impossible(error.to_string()))?;
        }
        let node_id: Arc<str> = config.node_id.as_str().into();
        let guard = access::Guard::default();
        let attached = BTreeSet::new();
        let handlers = Handlers { catalogue, invoker, node_id, guard, attached };
        let logs = Logs::new(recovered.groups, reader, config.upkeep.log_memory_bytes);
        let log = LogBatch::after_start(recovered.frames, config.upkeep.log_waiting_bytes);
        let witnesses = Witnesses::new(recovered.witnesses);
        let seed = Box::new(Seed { store, handlers, logs, log, witnesses });
        let newcomer = Newcomer::new(&profile);
        let mut node = Self {
            config,
            profile,
            now: Now::default(),
            links: Links::default(),
            effects: Effects::default(),
            life: Life::Newcomer { seed, newcomer },
            early: BTreeMap::new(),
            dialed: Vec::new(),
            ticks: 0,
        };
        node.begin(identity).map_err(StartError::Forgot)?;
        Ok(node)
    }

    /// From now on nobody does anything here without a right to it ([`access`]).
    #[must_use]
    pub fn demanding_login(mut self) -> Self {
        match &mut self.life {
            Life::Newcomer { seed, .. } | Life::Settling { seed, .. } => {
                seed.handlers.guard.is_on = true;
            }
            Life::Member(member) => member.demand_login(),
            Life::Ended => {}
        }
        self
    }

    /// A sandbox that knows who it is goes on as that; a new one alone is a cluster at once.
    fn begin(&mut self, identity: Option<Identity>) -> Result<(), String> {
        if let Some(identity) = identity {
            let life = std::mem::replace(&mut self.life, Life::Ended);
            let Life::Newcomer { seed, .. } = life else { unreachable!("it has just begun") };
            return self.become_member(*seed, &identity, Proof::of_one_that_is_back());
        }
        self.dial();
        if self.config.peers.len() <= 1 && self.config.join.is_none() {
            self.try_to_found();
        }
        Ok(())
    }

    /// The group of the instance that a program is attached to.
    pub fn group_of_program(&self, program: u64) -> Option<GroupId> {
        match &self.life {
            Life::Member(member) => member.group_of_program(program),
            Life::Newcomer { .. } | Life::Settling { .. } | Life::Ended => None,
        }
    }

    /// Looks at all tasks whose owner this node is, and that have not ended. Each must have a next
    /// event.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_events(&self) -> Result<services::NextEvents, storage::StoreError> {
        match &self.life {
            Life::Member(member) => member.next_events(self.now.wall),
            Life::Newcomer { .. } | Life::Settling { .. } | Life::Ended => Ok(Default::default()),
        }
    }

    /// How many messages came once more to the instances that are owned here, and were dropped.
    pub fn repeats_dropped(&self) -> u64 {
        match &self.life {
            Life::Member(member) => member.repeats_dropped(),
            Life::Newcomer { .. } | Life::Settling { .. } | Life::Ended => 0,
        }
    }

    /// What has become of the writes of instances to documents that are owned here.
    pub fn writes_of_instances(&self) -> WritesOfInstances {
        match &self.life {
            Life::Member(member) => member.writes_of_instances(),
            Life::Newcomer { .. } | Life::Settling { .. } | Life::Ended => {
                WritesOfInstances::default()
            }
        }
    }

    /// Takes everything that happened since the last step and says what must be done.
    pub fn step(&mut self, now: Now, inputs: &mut Vec<Input>, outputs: &mut Vec<Output>) {
        self.now = now;
        self.links.stepped(now.steady_micros);
        if let Life::Member(member) = &mut self.life {
            self.now.wall = member.time(now);
        }
        for input in inputs.drain(..) {
            self.take(input);
            self.end_if_halted();
            if matches!(self.life, Life::Ended) {
                break;
            }
        }
        if let Life::Member(member) = &mut self.life
            && let Err(error) = member.settle(&mut host!(self))
        {
            self.effects.failed(&error);
        }
        self.end_if_halted();
        self.flush(outputs);
    }

    fn take(&mut self, input: Input) {
        if let Input::Received { link, frame } = input {
            return self.received(link, &frame);
        }
        match &mut self.life {
            Life::Member(member) => {
                let fate = member.take(input, &mut host!(self));
                self.follow(fate);
            }
            Life::Newcomer { .. } | Life::Settling { .. } => self.take_as_newcomer(input),
            Life::Ended => {}
        }
    }

    fn follow(&mut self, fate: Result<Fate, storage::StoreError>) {
        match fate {
            Ok(Fate::GoesOn) => {}
            Ok(Fate::Ended) => self.end(),
            Err(error) => self.effects.failed(&error),
        }
    }

    /// The node takes no more inputs. What it has still to write goes out with this step.
    fn end(&mut self) {
        if let Life::Member(mut member) = std::mem::replace(&mut self.life, Life::Ended) {
            member.flush(&mut self.effects.outputs);
        }
    }

    fn end_if_halted(&mut self) {
        if let Some(ending) = self.effects.ending.take()
            && !matches!(self.life, Life::Ended)
        {
            self.end();
            self.effects.outputs.push(match ending {
                Ending::Halt(why) => Output::Halt { why },
                Ending::Renew { why, contact } => Output::Renew { why, contact },
            });
        }
    }

    fn flush(&mut self, outputs: &mut Vec<Output>) {
        match &mut self.life {
            Life::Member(member) => member.flush(&mut self.effects.outputs),
            Life::Newcomer { seed, .. } | Life::Settling { seed, .. } => {
                if let Some(mark) = seed.log.take_persist() {
                    self.effects.outputs.push(Output::Persist { mark });
                }
            }
            Life::Ended => {}
        }
        let links = &self.links;
        let outputs_here = &mut self.effects.outputs;
        self.effects.outbox.flush(|replica| links.link_to(replica), outputs_here);
        for link in std::mem::take(&mut self.effects.closing) {
            self.effects.outputs.push(Output::Close { link });
        }
        outputs.append(&mut self.effects.outputs);
    }

    // Frames of other nodes.

    fn received(&mut self, link: u64, bytes: &Bytes) {
        if self.links.get(link).is_none() {
            return;
        }
        self.links.heard(link, self.now.steady_micros);
        match frame::decode(bytes) {
            Ok(frames) => {
                for frame in frames {
                    self.frame(link, frame);
                }
            }
            Err(why) => {
                self.effects.note(Level::Warn, format!("closing a link: {why}"));
                self.effects.outputs.push(Output::Close { link });
            }
        }
    }

    fn frame(&mut self, link: u64, frame: Frame) {
        if let Life::Member(member) = &mut self.life {
            let fate = member.frame(link, frame, &mut host!(self));
            return self.follow(fate);
        }
        match frame {
            Frame::Hello(hello) => self.greeted(link, hello),
            Frame::Refused { why } => self.effects.halt(why),
            Frame::Ping(ping) => self.links.pinged(link, &ping, self.now.steady_micros),
            Frame::Known { replica, initial } => {
                if matches!(self.life, Life::Newcomer { .. }) {
                    let text = format!("known to the cluster as replica {replica}");
                    self.effects.note(Level::Info, text);
                    self.settle_as(Identity { replica, initial });
                }
            }
            Frame::Stranger => {
                if let Life::Newcomer { newcomer, .. } = &mut self.life
                    && newcomer.is_stranger()
                {
                    let text = "this sandbox is not known to the cluster: asking to be admitted";
                    self.effects.note(Level::Info, text.into());
                }
            }
            Frame::Listed => {
                if let Life::Newcomer { newcomer, .. } = &mut self.life
                    && newcomer.is_listed()
                {
                    let text = cluster::waits_for_a_person(&self.profile.node_id);
                    self.effects.note(Level::Warn, text);
                }
            }
            // A newcomer takes no part in anything.
            _ => {}
        }
    }

    // A newcomer.

    fn take_as_newcomer(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick_as_newcomer(),
            Input::Request { ticket, request } => self.request_as_newcomer(ticket, request),
            Input::LinkOpened { link, dialed, is_detour: _ } => {
                if self.links.admit(link, dialed, self.now.steady_micros) {
                    let hello = self.hello();
                    self.effects.outbox.send_on(link, Frame::Hello(hello));
                } else {
                    self.effects.outputs.push(Output::Close { link });
                }
            }
            Input::LinkClosed { link } => drop(self.links.closed(link)),
            Input::StatePersisted { mark } => self.state_persisted(mark),
            Input::ProgramOpened { program, door } if self.early.len() < PROGRAMS_MAX => {
                self.early.insert(program, door);
            }
            Input::ProgramOpened { program, door } => {
                turn_away_early(program, door, &mut self.effects);
            }
            Input::ProgramSaid { program, .. } => {
                if let Some(door) = self.early.remove(&program) {
                    turn_away_early(program, door, &mut self.effects);
                }
            }
            Input::ProgramClosed { program } => drop(self.early.remove(&program)),
            Input::StorageFailed { why, full: true } => {
                self.effects.note(Level::Error, format!("the disk takes no writes ({why})"));
            }
            Input::StorageFailed { why, full: false } => {
                self.effects.halt(format!("the disk failed: {why}. The other nodes carry on"));
            }
            Input::StateFailed(error) => self.effects.failed(&error),
            Input::Stop => self.stop_as_newcomer(),
            Input::Received { .. }
            | Input::LogDurable { .. }
            | Input::Invoked(_)
            | Input::Ran(_)
            | Input::Notified { .. }
            | Input::GoOn { .. }
            | Input::Measured
            | Input::ProgramDrained { .. }
            | Input::DialFailed { .. }
            | Input::StorageRecovered
            | Input::Room { .. } => {}
        }
    }

    fn request_as_newcomer(&mut self, ticket: u64, request: Request) {
        let why = self.why_not_serving();
        let purpose = Purpose::Client { ticket };
        let (Life::Newcomer { seed, .. } | Life::Settling { seed, .. }) = &self.life else {
            return;
        };
        let catalogue = &seed.handlers.catalogue;
        if seed.handlers.guard.is_on && request.principal != Principal::System {
            let problem = admission::nobody_is_known(&request);
            return self.effects.respond(&purpose, problem);
        }
        match plan_of_newcomer(&request, catalogue, &self.config, why) {
            Ok(Plan::Respond(response)) => self.effects.respond(&purpose, response),
            Ok(Plan::Stop) => {
                let accepted = Response::bytes(202, Bytes::new());
                self.effects.respond(&purpose, accepted);
                self.stop_as_newcomer();
            }
            Ok(Plan::Join(contact)) => {
                let nothing = Response::bytes(200, Bytes::new());
                self.effects.respond(&purpose, nothing);
                self.effects.outputs.push(Output::Rejoin { contact });
                self.life = Life::Ended;
            }
            Ok(_) => unreachable!("a newcomer has no groups"),
            Err(problem) => self.effects.respond(&purpose, problem),
        }
    }

    /// It owns nothing, and has acknowledged nothing.
    fn stop_as_newcomer(&mut self) {
        self.effects.note(Level::Info, "stopping".into());
        self.effects.outputs.push(Output::Stopped);
        self.life = Life::Ended;
    }

    fn tick_as_newcomer(&mut self) {
        self.ticks += 1;
        let Life::Newcomer { newcomer, .. } = &self.life else { return };
        let every = if newcomer.waits_for_a_person() { LISTED_TICKS } else { WAITING_TICKS };
        if self.ticks % every == every / 6
            && let Some(text) = newcomer.waits_for(&self.profile, &self.links)
        {
            let level = match newcomer.wish() {
                NewcomerWish::Form => Level::Info,
                NewcomerWish::Join => Level::Warn,
            };
            self.effects.note(level, text);
        }
        if newcomer.wish() == NewcomerWish::Join
            && self.ticks.is_multiple_of(20)
            && let Some(link) = Newcomer::a_member(&self.links)
        {
            let candidate = Newcomer::candidate(&self.profile);
            self.effects.outbox.send_on(link, Frame::Admit(candidate));
        }
    }

    fn why_not_serving(&self) -> &'static str {
        match &self.life {
            Life::Newcomer { newcomer, .. } => newcomer.why_not_serving(&self.links),
            Life::Settling { .. } => "it has just learned who it is",
            Life::Member(_) | Life::Ended => "it has ended",
        }
    }

    fn hello(&self) -> Hello {
        Hello::new(&self.profile, None, None)
    }

    fn dial(&mut self) {
        let named = self.config.peers.iter().chain(&self.config.join);
        let known = self.config.sandbox.others.iter().flatten();
        let addresses = named.chain(known).cloned().collect();
        dial(&mut self.dialed, addresses, &self.profile, &mut self.effects);
    }

    fn greeted(&mut self, link: u64, hello: Hello) {
        let knows = |_| false;
        let home = Home { profile: &self.profile, cluster: None, is_served: false, knows: &knows };
        match judge(&home, &hello) {
            Judgement::Welcome => {}
            Judgement::Itself => return self.effects.outputs.push(Output::Close { link }),
            Judgement::Refuse(why) => return self.effects.refuse(link, why),
            Judgement::Yield(why) => return self.effects.halt(why),
            Judgement::Leave(why) => {
                self.effects.outputs.push(Output::Close { link });
                return self.effects.note(Level::Warn, why);
            }
        }
        for outdated in self.links.outdated_by(&hello) {
            self.links.closed(outdated);
            self.effects.outputs.push(Output::Close { link: outdated });
        }
        if let Some(link) = self.links.get_mut(link) {
            link.hello = Some(hello);
        }
        self.try_to_found();
    }

    fn try_to_found(&mut self) {
        let Life::Newcomer { newcomer, .. } = &self.life else { return };
        let Some(identity) = newcomer.found(&self.profile, &self.links) else { return };
        let all = identity.initial.founders.len();
        let text = format!("all {all} named peers are here: forming a cluster");
        self.effects.note(Level::Info, text);
        self.settle_as(identity);
    }

    /// The sandbox gets its replica id, for good.
    fn settle_as(&mut self, identity: Identity) {
        match std::mem::replace(&mut self.life, Life::Ended) {
            Life::Newcomer { mut seed, .. } => {
                if let Err(error) = identity.write(&mut *seed.store) {
                    self.life = Life::Settling { seed, identity, mark: u64::MAX };
                    return self.effects.failed(&error);
                }
                let mark = seed.log.next_mark();
                seed.log.want_persist = true;
                self.life = Life::Settling { seed, identity, mark };
            }
            other => self.life = other,
        }
    }

    fn state_persisted(&mut self, mark: u64) {
        match std::mem::replace(&mut self.life, Life::Ended) {
            Life::Settling { seed, identity, mark: wanted } if mark >= wanted => {
                if let Err(why) = self.become_member(*seed, &identity, Proof::default()) {
                    self.effects.outputs.push(Output::Halt { why });
                }
            }
            other => self.life = other,
        }
    }

    fn become_member(
        &mut self,
        seed: Seed,
        identity: &Identity,
        proof: Proof,
    ) -> Result<(), String> {
        let Seed { store, handlers, logs, log, witnesses } = seed;
        let shard = groups::begin_all(identity, store, handlers, logs, log, &self.config)?;
        let mut member = Member::new(identity, shard, (witnesses, proof), &mut host!(self))?;
        for (program, door) in std::mem::take(&mut self.early) {
            member.program_opened(program, door, &mut host!(self));
        }
        self.life = Life::Member(Box::new(member));
        Ok(())
    }
}

/// `frames`: of the log, as it was found.
fn profile_of(config: &NodeConfig, frames: u64, catalogue: &Catalogue) -> Profile {
    let SandboxState { id, boot, trusted_boot, forgot, .. } = &config.sandbox;
    Profile {
        node_id: config.node_id.clone(),
        uri: config.public_uri.clone(),
        sandbox_id: *id,
        start: Witness {
            boot: *boot,
            start: protocol::hash::hash_parts([config.seed.to_be_bytes().as_slice()]),
            frames,
        },
        trusted_boot: *trusted_boot,
        forgot: forgot.clone(),
        peers: config.peers.clone(),
        partitions: config.partitions,
        join: config.join.clone(),
        services: catalogue.specs().map(|spec| spec.factory.clone()).collect(),
    }
}

fn check_config(config: &NodeConfig) -> Result<(), String> {
    if config.partitions == 0 || config.partitions > protocol::links::SLOTS {
        return Err(format!(
            "--partitions must be from 1 to {}, not {}",
            protocol::links::SLOTS,
            config.partitions
        ));
    }
    if !config.peers.is_empty() && !config.peers.contains(&config.public_uri) {
        return Err(format!(
            "--peer-nodes must name all nodes, this one included: {} is not among {}. Add it, or \
             set --public-uri to the address the others use",
            config.public_uri,
            config.peers.join(", ")
        ));
    }
    let count = config.peers.len().max(1);
    let least = count / 2 + 1;
    match config.membership_quorum {
        // This has an effect when a cluster forms; a node that joins one takes what is in force
        // there.
        Some(_) if config.join.is_some() => Ok(()),
        Some(quorum) if !(least..=count).contains(&quorum) => Err(format!(
            "--membership-quorum {quorum} is not possible with {count} nodes: from {least} (the \
             majority) to {count}"
        )),
        _ => Ok(()),
    }
}
