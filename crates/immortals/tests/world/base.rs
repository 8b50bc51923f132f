//! A world of instances in one thread, under one seed, without a clock: replicas with their stores,
//! programs as processes, a fake consensus, and networks that lose, repeat and delay.

use std::collections::BTreeMap;

use bytes::Bytes;
use immortals::{
    Between, Context, Input, Instance, KeptLimits, Lead, Options, Output, Peer, Response, Settings,
};
use protocol::{GroupId, Moment, Now, Position, ReplicaId, Term};
use random::{Random, digest};
use storage::{Batch, MemoryStore, Space, StateStore};

use crate::log::{Log, View};
use crate::program::{Manners, Process};
use crate::script::Script;
use crate::watch::Watch;

/// The place of a replica: the index of its group, and its own in the group.
pub(crate) type Site = (usize, usize);

/// The wall clock when the world begins.
pub(crate) const BEGIN: u64 = 1_700_000_000_000_000;

#[derive(Debug)]
pub(crate) enum Event {
    Tick {
        at: Site,
        boot: u64,
    },
    Commit {
        group: usize,
    },
    Apply {
        at: Site,
        boot: u64,
    },
    /// The program does something.
    Wake {
        at: Site,
        program: u64,
    },
    /// The node reads what the program said.
    Hear {
        at: Site,
        program: u64,
    },
    Detached {
        at: Site,
        boot: u64,
        program: u64,
    },
    Attach {
        at: Site,
    },
    Peer {
        to: Site,
        from: ReplicaId,
        message: Peer,
    },
    Between {
        to: usize,
        from: usize,
        message: Between,
    },
    Moved {
        at: Site,
        group: usize,
    },
    HandOver {
        group: usize,
        term: u64,
        to: usize,
    },
    Closed {
        at: Site,
        boot: u64,
        term: u64,
    },
    Elect {
        group: usize,
        term: u64,
    },
    Start {
        at: Site,
    },
    Release {
        at: Site,
    },
    Fault,
    Load,
}

pub(crate) struct Replica {
    pub(crate) instance: Option<Instance>,
    pub(crate) lead: Option<Lead>,
    pub(crate) store: MemoryStore,
    pub(crate) space: Space,
    pub(crate) boot: u64,
    pub(crate) process: Option<Process>,
    /// The entries applied in the present life, those ever received by this disk, and those cut
    /// from it.
    pub(crate) applied: usize,
    pub(crate) received: usize,
    pub(crate) cut: usize,
    pub(crate) term: Option<u64>,
    /// How far its wall clock is ahead.
    pub(crate) skew: u64,
    pub(crate) hearing: bool,
    pub(crate) waking: bool,
    pub(crate) applying: bool,
    pub(crate) attaching: bool,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    pub(crate) logs: Vec<Log>,
    pub(crate) groups: Vec<Vec<Replica>>,
    pub(crate) scripts: Vec<Script>,
    pub(crate) settings: Vec<Settings>,
    pub(crate) limits: KeptLimits,
    pub(crate) names: BTreeMap<String, GroupId>,
    /// The instance that nobody finds before `hidden_until`.
    hidden: Option<GroupId>,
    hidden_until: u64,
    pub(crate) watch: Watch,
    /// How the programs of each group behave, and which versions they may have.
    pub(crate) manners: Vec<Manners>,
    pub(crate) versions: Vec<Vec<(u64, u64)>>,
    /// No more faults.
    pub(crate) calm: bool,
    pub(crate) rough: usize,
    pub(crate) impulses_left: u64,
    pub(crate) programs: u64,
    pub(crate) tags: u64,
    pub(crate) trace: u64,
    pub(crate) verbose: bool,
    pub(crate) told: Vec<(u64, Response)>,
    pub(crate) notes: Vec<(Site, String)>,
}

/// An instance to be made.
pub(crate) struct Plan {
    pub(crate) script: Script,
    pub(crate) replicas: usize,
    pub(crate) checkpoint_bytes: u64,
}

pub(crate) fn group_id(group: usize) -> GroupId {
    GroupId(u32::try_from(group + 100).expect("small"))
}

fn replica_id(replica: usize) -> ReplicaId {
    ReplicaId(u64::try_from(replica + 1).expect("small"))
}

/// Mostly so little that blocks are spilled to the store.
fn limits(seed: u64) -> KeptLimits {
    let mut random = Random::of_seed(seed ^ 0x5e1f);
    if random.index(4) == 0 {
        return KeptLimits::default();
    }
    let memory = random.index(3_000);
    let block = 20 + random.index(1_000);
    KeptLimits { block, memory, memory_max: memory + 2_000, all_max: 1 << 20 }
}

impl World {
    pub(crate) fn new(seed: u64, plans: Vec<Plan>) -> Self {
        let mut random = Random::of_seed(seed);
        let rough = 1 + random.index(4);
        let mut world = Self {
            random,
            now: 20_000_000,
            events: BTreeMap::new(),
            count: 0,
            logs: Vec::new(),
            groups: Vec::new(),
            scripts: Vec::new(),
            settings: Vec::new(),
            limits: limits(seed),
            names: BTreeMap::new(),
            hidden: None,
            hidden_until: 0,
            watch: Watch::default(),
            manners: vec![Manners::Good; plans.len()],
            versions: vec![vec![(1, 1)]; plans.len()],
            calm: false,
            rough,
            impulses_left: 60,
            programs: 0,
            tags: 0,
            trace: 0,
            verbose: false,
            told: Vec::new(),
            notes: Vec::new(),
        };
        for plan in plans {
            world.add(plan);
        }
        world
    }

    fn add(&mut self, plan: Plan) {
        let group = self.groups.len();
        self.names.insert(plan.script.name.clone(), group_id(group));
        self.scripts.push(plan.script);
        self.settings.push(Settings {
            replicas: (0..plan.replicas).map(replica_id).collect(),
            checkpoint_bytes: plan.checkpoint_bytes,
            recovery_micros: if group == 0 { 300_000 } else { 0 },
            program_timeout_micros: 1_000_000,
            divergence_alarm: true,
            upgrade_version: None,
            upgrade_wish: 0,
            first_version: 1,
            paused: false,
            partitions: 4,
            memory: false,
        });
        self.logs.push(Log::default());
        self.groups.push(Vec::new());
        for replica in 0..plan.replicas {
            let store = MemoryStore::new();
            let (space, _) = Space::open(&store, group_id(group)).expect("an empty store opens");
            let skew = u64::try_from(self.random.index(40_000)).expect("small");
            self.groups[group].push(Replica {
                instance: None,
                lead: None,
                store,
                space,
                boot: 0,
                process: None,
                applied: 0,
                received: 0,
                cut: 0,
                term: None,
                skew,
                hearing: false,
                waking: false,
                applying: false,
                attaching: false,
            });
            self.start((group, replica));
        }
        self.after(1000, Event::Elect { group, term: 0 });
    }

    /// The other instances do not find the last one at first.
    pub(crate) fn hide_last(&mut self, micros: u64) {
        self.hidden = Some(group_id(self.groups.len() - 1));
        self.hidden_until = self.now + micros;
    }

    // Time.

    pub(crate) fn after(&mut self, micros: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + micros, self.count), event);
    }

    pub(crate) fn below(&mut self, end: usize) -> u64 {
        u64::try_from(self.random.index(end)).expect("small")
    }

    /// Lets one event happen. False when there is none before `until`.
    pub(crate) fn step(&mut self, until: u64) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        if at > until {
            self.events.insert((at, 0), event);
            self.now = until;
            return false;
        }
        self.now = at;
        if self.verbose && !matches!(event, Event::Tick { .. }) {
            self.show(&format!("{event:?}"));
        }
        // The times of events come from the generator that everything uses, so they show any
        // difference between two runs.
        self.trace = digest(&[self.trace, at, self.count], &[]);
        self.happen(event);
        true
    }

    pub(crate) fn run_for(&mut self, micros: u64) {
        let until = self.now + micros;
        while self.step(until) {}
    }

    pub(crate) fn show(&self, text: &str) {
        if self.verbose {
            let text: String = text.chars().take(600).collect();
            #[expect(clippy::print_stderr, reason = "somebody looks for a bug")]
            {
                eprintln!("{:>9} {text}", self.now);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { at, boot } => self.tick(at, boot),
            Event::Commit { group } => self.commit(group),
            Event::Apply { at, boot } => self.apply(at, boot),
            Event::Wake { at, program } => self.wake(at, program),
            Event::Hear { at, program } => self.hear(at, program),
            Event::Detached { at, boot, program } => {
                if self.groups[at.0][at.1].boot == boot {
                    self.input(at, Input::Detached { program });
                }
            }
            Event::Attach { at } => self.attach(at),
            Event::Peer { to, from, message } => self.input(to, Input::Peer { from, message }),
            Event::Between { to, from, message } => self.between(to, from, message),
            Event::Moved { at, group } => {
                self.input(at, Input::OwnerChanged { group: group_id(group) });
            }
            Event::HandOver { group, term, to } => {
                self.hand_over(group, term, to);
            }
            Event::Closed { at, boot, term } => {
                let replica = &self.groups[at.0][at.1];
                if replica.boot == boot && replica.term == Some(term) {
                    self.close(at);
                }
            }
            Event::Elect { group, term } => self.campaign(group, term),
            Event::Start { at } => self.start(at),
            Event::Release { at } => {
                let (from, message) = (replica_id(at.1), Peer::Release);
                self.input(at, Input::Peer { from, message });
            }
            Event::Fault => self.fault(),
            Event::Load => self.load(),
        }
    }

    // A replica's node.

    pub(crate) fn start(&mut self, at: Site) {
        let options = Options {
            name: self.scripts[at.0].name.clone(),
            group: group_id(at.0),
            me: replica_id(at.1),
            node: format!("node-{}", at.1),
            settings: self.settings[at.0].clone(),
            limits: self.limits,
        };
        let replica = &mut self.groups[at.0][at.1];
        if replica.instance.is_some() {
            return;
        }
        let (space, applied) = Space::open(&replica.store, group_id(at.0)).expect("it opens");
        replica.space = space;
        let instance = Instance::open(options, &replica.store, &space).expect("it opens");
        assert_eq!(instance.base().0, applied.position, "the record and the position agree");
        replica.applied = usize::try_from(applied.position.0).expect("small");
        replica.received = replica.received.max(replica.applied);
        assert!(replica.applied >= replica.cut, "entries are gone that the base needs");
        replica.instance = Some(instance);
        replica.boot += 1;
        (replica.hearing, replica.waking, replica.applying, replica.attaching) =
            (false, false, false, false);
        let boot = replica.boot;
        let wait = self.below(20_000);
        self.after(wait, Event::Tick { at, boot });
        self.want_apply(at);
        self.want_program(at);
    }

    pub(crate) fn crash(&mut self, at: Site, wiped: bool) {
        self.show(&format!("crash of {at:?}, wiped {wiped}"));
        let replica = &mut self.groups[at.0][at.1];
        (replica.instance, replica.lead) = (None, None);
        replica.term = None;
        replica.process = None;
        replica.boot += 1;
        if wiped {
            replica.store = MemoryStore::new();
            (replica.received, replica.cut) = (0, 0);
        } else {
            let kept = self.random.index(replica.store.unsynced_batches() + 1);
            replica.store.crash(kept);
        }
        if self.logs[at.0].owner == Some(at.1) {
            let kept = self.random.index(self.logs[at.0].proposals.len() + 1);
            for _ in 0..kept {
                self.logs[at.0].commit();
            }
            self.logs[at.0].proposals.clear();
            self.logs[at.0].owner = None;
            let (wait, term) = (50_000 + self.below(300_000), self.logs[at.0].term);
            self.after(wait, Event::Elect { group: at.0, term });
        }
        let wait = 20_000 + self.below(2_000_000);
        self.after(wait, Event::Start { at });
    }

    pub(crate) fn up(&self, group: usize) -> Vec<usize> {
        let replicas = self.groups[group].iter().enumerate();
        replicas.filter(|(_, replica)| replica.instance.is_some()).map(|(place, _)| place).collect()
    }

    /// Calls a replica with what it needs of its node.
    pub(crate) fn with(
        &mut self,
        at: Site,
        doing: impl FnOnce(&mut Instance, &mut Context<'_>, &mut Option<Lead>, &mut Vec<Output>),
    ) {
        let replica = &mut self.groups[at.0][at.1];
        let Some(instance) = &mut replica.instance else { return };
        let wall = Moment(BEGIN + self.now + replica.skew);
        let entries = View {
            log: &self.logs[at.0],
            applied: replica.applied,
            cut: replica.cut,
            names: &self.names,
            hidden: self.hidden.filter(|_| self.now < self.hidden_until),
        };
        let mut cx = Context {
            now: Now { steady_micros: self.now, wall },
            store: &mut replica.store,
            space: replica.space,
            entries: &entries,
        };
        let mut outputs = Vec::new();
        doing(instance, &mut cx, &mut replica.lead, &mut outputs);
        self.outputs(at, outputs);
    }

    pub(crate) fn input(&mut self, at: Site, input: Input) {
        self.with(at, |instance, cx, lead, outputs| {
            instance
                .step(cx, lead.as_mut(), input, outputs)
                .expect("a store in memory does not fail");
        });
    }

    fn tick(&mut self, at: Site, boot: u64) {
        if self.groups[at.0][at.1].boot != boot {
            return;
        }
        self.input(at, Input::Tick);
        if self.random.one_in(8) {
            self.persist(at);
        }
        let wait = 10_000 + self.below(30_000);
        self.after(wait, Event::Tick { at, boot });
    }

    fn persist(&mut self, at: Site) {
        let mut base = Position(0);
        self.with(at, |instance, cx, _, _| {
            base = instance.write_base(cx).expect("a store in memory does not fail");
            cx.store.persist().expect("a store in memory does not fail");
        });
        let base = usize::try_from(base.0).expect("small");
        let (cuts, replica) = (self.random.one_in(2), &mut self.groups[at.0][at.1]);
        if cuts {
            replica.cut = replica.cut.max(base);
        }
    }

    // Consensus.

    fn commit(&mut self, group: usize) {
        let up = self.up(group).len();
        if self.logs[group].owner.is_none() || up * 2 <= self.groups[group].len() {
            if !self.logs[group].proposals.is_empty() {
                self.after(10_000, Event::Commit { group });
            }
            return;
        }
        if self.logs[group].commit() {
            self.want_apply_all(group);
        }
    }

    fn want_apply_all(&mut self, group: usize) {
        for replica in 0..self.groups[group].len() {
            self.want_apply((group, replica));
        }
    }

    fn want_apply(&mut self, at: Site) {
        let slow = self.random.one_in(30);
        let wait = if slow { self.below(50_000) } else { self.below(2_000) };
        let replica = &mut self.groups[at.0][at.1];
        let behind = replica.applied < self.logs[at.0].entries.len();
        if replica.instance.is_none() || replica.applying || !behind {
            return;
        }
        replica.applying = true;
        let boot = replica.boot;
        self.after(wait, Event::Apply { at, boot });
    }

    fn apply(&mut self, at: Site, boot: u64) {
        let replica = &mut self.groups[at.0][at.1];
        if replica.boot != boot {
            return;
        }
        replica.applying = false;
        if replica.applied >= replica.received && self.needs_snapshot(at) {
            self.install(at);
        }
        for _ in 0..1 + self.random.index(6) {
            let place = self.groups[at.0][at.1].applied;
            let Some((term, data)) = self.logs[at.0].entries.get(place).cloned() else { break };
            if self.groups[at.0][at.1].term.is_some_and(|own| own < term.0) {
                self.close(at);
            }
            let replica = &mut self.groups[at.0][at.1];
            replica.applied += 1;
            replica.received = replica.received.max(replica.applied);
            let position = Position(u64::try_from(place + 1).expect("small"));
            self.with(at, |instance, cx, lead, outputs| {
                instance
                    .apply(cx, lead.as_mut(), position, term, data, outputs)
                    .expect("it does not fail");
            });
        }
        self.with(at, |instance, cx, lead, outputs| {
            instance.settle(cx, lead.as_mut(), outputs).expect("it does not fail");
        });
        self.maybe_open(at);
        self.want_apply(at);
    }

    fn maybe_open(&mut self, at: Site) {
        let log = &self.logs[at.0];
        let (term, replica) = (log.term, &mut self.groups[at.0][at.1]);
        if log.owner == Some(at.1)
            && replica.instance.is_some()
            && replica.term != Some(term)
            && replica.applied == log.entries.len()
            && log.proposals.is_empty()
        {
            replica.term = Some(term);
            self.with(at, |instance, cx, lead, outputs| {
                let former = lead.replace(instance.lead(cx, Term(term), outputs));
                assert!(former.is_none(), "the former ownership has ended");
                instance.settle(cx, lead.as_mut(), outputs).expect("it does not fail");
            });
        }
    }

    fn close(&mut self, at: Site) {
        self.groups[at.0][at.1].term = None;
        self.with(at, |instance, cx, lead, outputs| {
            if let Some(lead) = lead.take() {
                instance.follow(cx, lead, outputs);
                instance.settle(cx, None, outputs).expect("it does not fail");
            }
        });
    }

    /// Whether the owner's log lacks what this replica needs.
    fn needs_snapshot(&self, at: Site) -> bool {
        let Some(owner) = self.logs[at.0].owner else { return false };
        self.groups[at.0][owner].cut > self.groups[at.0][at.1].applied
    }

    pub(crate) fn install(&mut self, at: Site) {
        let owner = self.logs[at.0].owner.expect("the caller has looked");
        if owner == at.1 {
            return;
        }
        let source = &self.groups[at.0][owner];
        let view = source.store.view();
        let (space, applied) = Space::open(view.as_ref(), group_id(at.0)).expect("it opens");
        let mut pairs = Vec::new();
        loop {
            let after = pairs.last().map_or(Vec::new(), |(key, _): &(Vec<u8>, _)| key.clone());
            let chunk = space.export(view.as_ref(), &after, 200).expect("it can be read");
            pairs.extend(chunk.pairs);
            if chunk.done {
                break;
            }
        }
        let replica = &mut self.groups[at.0][at.1];
        let position = usize::try_from(applied.position.0).expect("small");
        if position <= replica.applied {
            return;
        }
        self.close(at);
        let replica = &mut self.groups[at.0][at.1];
        let staged = replica.space.staging();
        let mut batch = Batch::new();
        replica.space.clean(&replica.store, &mut batch, usize::MAX).expect("it can be read");
        staged.stage(&mut batch, pairs);
        staged.install(&mut batch, &applied);
        replica.store.write(batch).expect("it does not fail");
        replica.store.persist().expect("it does not fail");
        replica.space = staged;
        (replica.applied, replica.cut) = (position, position);
        replica.received = replica.received.max(position);
        replica.term = None;
        self.show(&format!("{at:?} gets a snapshot at {position}"));
        self.watch.snapshots += 1;
        self.with(at, |instance, cx, _, outputs| {
            instance.installed(&*cx.store, &cx.space, outputs).expect("it does not fail");
        });
    }

    pub(crate) fn elect(&mut self, group: usize, owner: usize) {
        let kept = self.random.index(self.logs[group].proposals.len() + 1);
        let (former, term) = (self.logs[group].owner, self.logs[group].term);
        self.logs[group].elect(owner, kept);
        self.show(&format!("{group} has owner {owner} in term {}", self.logs[group].term));
        if let Some(former) = former {
            let (at, wait) = ((group, former), self.below(200_000));
            let boot = self.groups[group][former].boot;
            self.after(wait, Event::Closed { at, boot, term });
        }
        self.want_apply_all(group);
    }

    fn hand_over(&mut self, group: usize, term: u64, to: usize) {
        let Some(owner) = self.logs[group].owner.filter(|_| self.logs[group].term == term) else {
            return;
        };
        if self.groups[group][to].instance.is_some() && !self.random.one_in(6) {
            self.elect(group, to);
        } else {
            let boot = self.groups[group][owner].boot;
            self.after(100_000, Event::Apply { at: (group, owner), boot });
        }
    }

    fn campaign(&mut self, group: usize, term: u64) {
        if self.logs[group].term != term || self.logs[group].owner.is_some() {
            return;
        }
        let up = self.up(group);
        // A replica with a wiped disk has not voted for anybody's log, so it does not become the
        // owner at once.
        let full: Vec<usize> =
            (up.iter().copied()).filter(|place| !self.would_need_snapshot(group, *place)).collect();
        match self.random.any(&full).copied() {
            Some(owner) if up.len() * 2 > self.groups[group].len() => self.elect(group, owner),
            _ => self.after(50_000, Event::Elect { group, term }),
        }
    }

    pub(crate) fn would_need_snapshot(&self, group: usize, place: usize) -> bool {
        let replica = &self.groups[group][place];
        let cuts = self.groups[group].iter().map(|replica| replica.cut).max().unwrap_or(0);
        replica.received < cuts
    }

    // Networks.

    fn between(&mut self, to: usize, from: usize, message: Between) {
        let any = self.random.index(self.groups[to].len());
        let to_any = !self.calm && self.random.one_in(15);
        let Some(owner) = (if to_any { Some(any) } else { self.logs[to].owner }) else { return };
        self.input((to, owner), Input::Between { from: group_id(from), message });
    }

    fn delay(&mut self) -> u64 {
        match self.random.index(12) {
            0 if !self.calm => self.below(300_000),
            1 => self.below(20_000),
            _ => self.below(1_500),
        }
    }

    /// How often a message arrives.
    fn times(&mut self) -> usize {
        if self.calm {
            return 1;
        }
        match self.random.index(30 * self.rough) {
            0 | 1 => 0,
            2 => 2,
            _ => 1,
        }
    }

    pub(crate) fn outputs(&mut self, at: Site, outputs: Vec<Output>) {
        for output in outputs {
            self.show(&format!("{at:?} {output:?}"));
            self.output(at, output);
        }
    }

    fn output(&mut self, at: Site, output: Output) {
        match output {
            Output::Propose(bytes) => self.propose(at, bytes),
            Output::Write { program, bytes } => self.tell(at, program, bytes),
            Output::Close { program } => self.closed(at, program),
            Output::Peer { to, message } => {
                for _ in 0..self.times() {
                    let to = (at.0, usize::try_from(to.0 - 1).expect("small"));
                    let (wait, message) = (self.delay(), message.clone());
                    self.after(wait, Event::Peer { to, from: replica_id(at.1), message });
                }
            }
            Output::Between { to, message } => self.send(at, to, message),
            Output::HandOver { to } => {
                let (group, to) = (at.0, usize::try_from(to.0 - 1).expect("small"));
                let (wait, term) = (self.delay(), self.groups[at.0][at.1].term.unwrap_or(0));
                self.watch.hand_overs += 1;
                // The node ends the ownership at once, and begins it again if nobody takes over.
                let boot = self.groups[at.0][at.1].boot;
                self.after(0, Event::Closed { at, boot, term });
                match self.times() {
                    0 => self.after(100_000, Event::Apply { at, boot }),
                    _ => self.after(wait, Event::HandOver { group, term, to }),
                }
            }
            Output::Respond { ticket, response: told } => {
                self.watch.answered(ticket, &told);
                self.told.push((ticket, told));
            }
            Output::Note(text) => {
                self.watch.note(&text);
                self.notes.push((at, text));
            }
            Output::Accepting => self.tell_all_that_it_moved(at.0),
            Output::Repro { .. } => {}
        }
    }

    fn propose(&mut self, at: Site, bytes: Bytes) {
        let log = &mut self.logs[at.0];
        if log.owner == Some(at.1) && self.groups[at.0][at.1].term == Some(log.term) {
            log.proposals.push_back(bytes);
            let slow = if self.random.one_in(20) { 30_000 } else { 3_000 };
            let wait = self.below(slow);
            self.after(wait, Event::Commit { group: at.0 });
        }
    }

    fn send(&mut self, at: Site, to: GroupId, message: Between) {
        self.watch.sent(&self.scripts[at.0].name, &self.names, to, &message);
        let Some(to) = (0..self.groups.len()).find(|group| group_id(*group) == to) else { return };
        for _ in 0..self.times() {
            let (wait, message) = (self.delay(), message.clone());
            self.after(wait, Event::Between { to, from: at.0, message });
        }
    }

    fn tell_all_that_it_moved(&mut self, group: usize) {
        for other in 0..self.groups.len() {
            for replica in 0..self.groups[other].len() {
                let at = (other, replica);
                if other != group && self.groups[other][replica].term.is_some() && self.times() > 0
                {
                    let wait = self.delay();
                    self.after(wait, Event::Moved { at, group });
                }
            }
        }
    }
}
