//! The world: machines, the network between them, clients and faults, all moved by one agenda.
//!
//! One thread, one seed: what happens next is always the first thing on the agenda, and every
//! choice is drawn from a stream of the seed. So a run is the same each time it is made.

use std::sync::Arc;

use bytes::Bytes;
use node::{Files, Input, Job};
use protocol::{Principal, Request};
use services::{Catalogue, Invocation};

use crate::agenda::{Agenda, MILLISECOND, SECOND, Time};
use crate::backups::Backups;
use crate::checkers::Broken;
use crate::faults::{Faults, NOBODY};
use crate::immortals::operator::FIRST_ATTEMPT;
use crate::immortals::programs::{Act, Programs};
use crate::machine::{Machine, Started, Wanted, uri};
use crate::network::{DIAL_PATIENCE, Network, Packet, Plan, Process};
use crate::orders::sends;
use crate::paths::Paths;
use crate::referee::Referee;
use crate::served::{Copies, Deed, has_copies};
use crate::settings::{Fault, Settings};
use crate::subscribers::{Delivery, Subscribers};
use crate::trace::Trace;
use crate::workload::{Reply, Workload};
use random::Random;

/// About the time between two ticks.
const TICK: Time = 10 * MILLISECOND;

/// The longest pause between two dials of one address.
const DIAL_PAUSE_MAX: Time = 500 * MILLISECOND;

/// The attempt of the world's own looks at the node group.
pub(crate) const PROBE: u64 = u64::MAX;

/// The attempt of who wants to be told of changes.
pub(crate) const SUBSCRIBER: u64 = u64::MAX - 2;

/// The attempt of who makes backups.
pub(crate) const BACKUP: u64 = u64::MAX - 1;

/// What can be on the agenda.
pub(crate) enum Event {
    Tick {
        process: Process,
    },
    /// The node takes what has happened.
    Step {
        process: Process,
    },
    /// Something the machine's kernel has for the process.
    Tell {
        process: Process,
        input: Input,
    },
    Packet(Packet),
    Datagram {
        machine: usize,
        packet: Bytes,
    },
    Dial {
        process: Process,
        address: String,
    },
    DialPatience {
        process: Process,
        connection: u64,
    },
    LogSynced {
        process: Process,
    },
    LogRetry {
        process: Process,
    },
    StatePersisted {
        process: Process,
        mark: u64,
        written: usize,
    },
    Invoke {
        process: Process,
        invocation: Box<Invocation>,
    },
    /// A thread of the process runs a job.
    Run {
        process: Process,
        job: Box<Job>,
    },
    /// A client's request reaches the machine.
    Knock {
        machine: usize,
        attempt: u64,
        request: Box<Request>,
    },
    /// Its process takes it from the connection.
    Ask {
        process: Process,
        attempt: u64,
        request: Box<Request>,
    },
    /// Something reaches the client of that attempt.
    Reply {
        attempt: u64,
        reply: Reply,
    },
    /// A client goes on.
    Client {
        client: usize,
    },
    Start {
        machine: usize,
    },
    /// An operator asks the machine to join the cluster.
    Join {
        machine: usize,
    },
    /// The end of a process, planned.
    Die {
        process: Process,
        power: bool,
    },
    Fault,
    /// A fault that lasts is over.
    Relief(Relief),
    /// The checkers look at the whole.
    Look,
    /// The process of an immortal's program.
    Actor {
        actor: usize,
        epoch: u64,
        act: Act,
    },
    /// A program that has the handlers of a kind.
    Copy {
        copy: usize,
        epoch: u64,
        deed: Deed,
    },
    /// A notification reaches its subscriber.
    Deliver(Box<Delivery>),
    /// Who looks after immortals goes on.
    Operator,
}

/// What comes to an end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Relief {
    Network,
    Disk(usize),
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) workload: Workload,
    pub(crate) faults: Faults,
    pub(crate) referee: Referee,
    pub(crate) programs: Programs,
    pub(crate) trace: Trace,
    pub(crate) catalogue: Arc<Catalogue>,
    /// For disks and handlers.
    pub(crate) rng: Random,
    pub(crate) plan: Plan,
    pub(crate) paths: Paths,
    pub(crate) service: Service,
    pub(crate) backups: Backups,
    pub(crate) copies: Copies,
    pub(crate) subscribers: Subscribers,
}

/// The longest time in which writes were asked for and none was acknowledged, since the first one
/// was: a cluster forms only when all its nodes are there.
#[derive(Default)]
pub(crate) struct Service {
    has_begun: bool,
    /// When the first of those was sent that were sent since the last acknowledgement.
    wanted: Option<Time>,
    longest: Time,
}

impl Service {
    fn wanted(&mut self, now: Time) {
        self.wanted.get_or_insert(now);
    }

    fn given(&mut self, now: Time) {
        if self.has_begun {
            self.longest = self.longest(now);
        }
        self.has_begun = true;
        self.wanted = None;
    }

    pub(crate) fn longest(&self, now: Time) -> Time {
        let wanted = self.wanted.filter(|_| self.has_begun);
        self.longest.max(wanted.map_or(0, |wanted| now - wanted))
    }
}

impl World {
    pub(crate) fn new(settings: Settings, trace: Trace) -> Self {
        let seed = settings.seed;
        let mut rng = Random::new(seed, "machines");
        let uris: Vec<String> = (0..settings.nodes).map(uri).collect();
        let peers = if settings.nodes == 1 { Vec::new() } else { uris };
        let machines = (0..settings.nodes)
            .map(|number| {
                let drift = i64::try_from(rng.below(2_000)).expect("small") - 1_000;
                Machine::new(number, &peers, rng.draw() | 1, drift)
            })
            .collect();
        let mut world = Self {
            agenda: Agenda::default(),
            machines,
            network: Network::new(settings.network, Random::new(seed, "network")),
            workload: Workload::new(&settings),
            faults: Faults::new(seed),
            referee: Referee::new(&settings),
            programs: Programs::new(&settings),
            trace,
            catalogue: Arc::new(match () {
                () if has_copies(&settings) => crate::catalogue_without_tallies(),
                () if sends(&settings) => crate::catalogue_of_orders(),
                () => crate::catalogue(),
            }),
            rng,
            plan: Plan::new(),
            paths: Paths::default(),
            service: Service::default(),
            backups: Backups::default(),
            copies: Copies::new(&settings),
            subscribers: Subscribers::new(&settings),
            settings,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for machine in 0..self.machines.len() {
            // Nodes do not start at once; now and then one is late by far.
            let late = if self.rng.chance(50) { 3 * SECOND } else { 300 * MILLISECOND };
            let delay = self.rng.below(late);
            self.agenda.after(delay, Event::Start { machine });
        }
        for client in 0..self.workload.clients() {
            let delay = self.rng.between(200, 1_500) * MILLISECOND;
            self.agenda.after(delay, Event::Client { client });
        }
        self.agenda.after(SECOND, Event::Fault);
        self.agenda.after(200 * MILLISECOND, Event::Look);
        self.begin_copies();
        if !self.programs.is_empty() {
            self.agenda.after(500 * MILLISECOND, Event::Operator);
        }
    }

    /// Lets the world go on until that time.
    ///
    /// # Errors
    /// When a rule was broken.
    pub(crate) fn run_until(&mut self, time: Time) -> Result<(), Broken> {
        while self.agenda.now() < time {
            let Some(event) = self.agenda.pop() else { return Ok(()) };
            self.happen(event)?;
            for (time, packet) in std::mem::take(&mut self.plan) {
                self.agenda.at(time, Event::Packet(packet));
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let Some(event) = self.defer(event) else { return Ok(()) };
        match event {
            Event::Tick { process } => self.tick(process),
            Event::Step { process } => self.step(process),
            Event::Tell { process, input } => self.tell(process, input),
            Event::Packet(packet) => self.packet(packet),
            Event::Datagram { machine, packet } => self.datagram(machine, packet),
            Event::Dial { process, address } => self.dial(process, address),
            Event::DialPatience { process, connection } => {
                if self.network.give_up(self.agenda.now(), connection, &mut self.plan) {
                    return self.dial_failed(process, connection);
                }
                Ok(())
            }
            Event::LogSynced { process } => self.log_synced(process),
            Event::LogRetry { process } => self.retry_log(process),
            Event::StatePersisted { process, mark, written } => {
                self.machines[process.machine].store.persisted(written);
                self.agenda
                    .after(0, Event::Tell { process, input: Input::StatePersisted { mark } });
                Ok(())
            }
            Event::Invoke { process, invocation } => {
                let invoked = self.machines[process.machine].served.invoke(*invocation);
                self.tell(process, Input::Invoked(invoked))
            }
            Event::Run { process, job } => self.tell(process, Input::Ran(job.run(&Files::default))),
            Event::Knock { machine, attempt, request } => {
                self.knock(machine, attempt, request);
                Ok(())
            }
            Event::Ask { process, attempt, request } => self.ask(process, attempt, *request),
            Event::Reply { attempt, reply } => self.reply(attempt, reply),
            Event::Client { client } => self.client_goes_on(client),
            Event::Start { machine } => self.start(machine),
            Event::Join { machine } => {
                self.ask_to_join(machine);
                Ok(())
            }
            Event::Die { process, power } => {
                if self.is_alive(process) {
                    self.die(process.machine, power, "planned");
                }
                Ok(())
            }
            Event::Fault => self.fault(),
            Event::Relief(relief) => self.relieve(relief),
            Event::Look => self.look(),
            Event::Actor { actor, epoch, act } => self.act(actor, epoch, act),
            Event::Copy { copy, epoch, deed } => self.deed(copy, epoch, deed),
            Event::Deliver(delivery) => self.deliver(*delivery),
            Event::Operator => {
                self.operate();
                Ok(())
            }
        }
    }

    /// What is for a stopped process waits until it goes on; ticks are lost.
    fn defer(&mut self, event: Event) -> Option<Event> {
        let machine = match &event {
            Event::Tick { process }
            | Event::Step { process }
            | Event::Tell { process, .. }
            | Event::Dial { process, .. }
            | Event::DialPatience { process, .. }
            | Event::LogRetry { process }
            | Event::Run { process, .. }
            | Event::Invoke { process, .. } => {
                if !self.is_alive(*process) {
                    return None;
                }
                process.machine
            }
            Event::LogSynced { process } | Event::StatePersisted { process, .. } => {
                return self.is_alive(*process).then_some(event);
            }
            Event::Packet(packet) => self.network.process(packet.connection, packet.to)?.machine,
            Event::Ask { process, .. } if self.is_alive(*process) => process.machine,
            _ => return Some(event),
        };
        let until = self.machines[machine].stalled_until;
        if until <= self.agenda.now() {
            return Some(event);
        }
        self.agenda.at(until, event);
        None
    }

    pub(crate) fn is_alive(&self, process: Process) -> bool {
        self.machines[process.machine].process(process.machine) == Some(process)
    }

    fn tick(&mut self, process: Process) -> Result<(), Broken> {
        let jitter = self.rng.below(MILLISECOND);
        self.agenda.after(TICK + jitter, Event::Tick { process });
        self.tick_links(process)?;
        self.tell(process, Input::Tick)
    }

    fn tell(&mut self, process: Process, input: Input) -> Result<(), Broken> {
        if self.is_alive(process) { self.input(process.machine, input) } else { Ok(()) }
    }

    // Starting and ending.

    pub(crate) fn start(&mut self, machine: usize) -> Result<(), Broken> {
        let now = self.agenda.now();
        if self.machines[machine].is_up() || self.faults.stays_down(machine) {
            return Ok(());
        }
        let wanted = Wanted {
            seed: self.rng.draw(),
            is_encrypted: self.settings.seed % 7 == 5,
            segment_bytes: self.settings.segment_bytes,
            upkeep: self.settings.upkeep,
            kept: self.settings.kept,
            partitions: self.settings.partitions,
            audit_ticks: self.settings.audit_ticks,
            membership_quorum: self
                .settings
                .membership_quorum
                .filter(|_| machine < self.settings.nodes),
            demands_login: self.settings.demands_login(),
        };
        self.network.back(now, machine, &mut self.plan);
        let mut catalogue = Arc::clone(&self.catalogue);
        if self.settings.may_be_older(machine) && self.faults.is_bad() && self.rng.chance(500) {
            catalogue = Arc::new(crate::older_catalogue());
            self.paths.reached("a node ran an older program");
        }
        let started = self.machines[machine].start(now, &catalogue, &wanted)?;
        let name = self.machines[machine].name.clone();
        match started {
            Started::Running => {
                self.trace.event(now, &name, format_args!("started"));
                if wanted.is_encrypted && self.machines[machine].lives() > 1 {
                    self.paths.reached("an encrypted log was opened again");
                }
                let process = self.machines[machine].process(machine).expect("it was started");
                self.machines[machine].stalled_until = 0;
                self.agenda.after(self.rng.below(TICK), Event::Tick { process });
                if self.settings.has(Fault::Kill) && self.faults.is_bad() && self.rng.chance(80) {
                    // Starting is a good moment to die.
                    let (at, power) = (self.rng.below(60 * MILLISECOND), self.rng.chance(500));
                    self.agenda.after(at, Event::Die { process, power });
                    self.agenda.after(at + 50 * MILLISECOND, Event::Start { machine });
                }
            }
            Started::Later => self.agenda.after(500 * MILLISECOND, Event::Start { machine }),
            Started::Forgot(why) => {
                self.trace.event(now, &name, format_args!("its sandbox is put aside: {why}"));
                self.paths.reached("a log was put aside");
                let sandbox = self.rng.draw() | 1;
                self.machines[machine].renew_as_it_forgot(sandbox, why);
                // It asks the others to let it in.
                (self.machines[machine].foreign, self.machines[machine].has_no_list) =
                    (false, false);
                self.agenda.after(10 * MILLISECOND, Event::Start { machine });
            }
        }
        Ok(())
    }

    /// The process of a machine ends here and now.
    pub(crate) fn die(&mut self, machine: usize, power: bool, why: &str) {
        let now = self.agenda.now();
        let Some(process) = self.machines[machine].process(machine) else { return };
        let name = self.machines[machine].name.clone();
        self.trace.event(now, &name, format_args!("dies ({why}), power lost: {power}"));
        let running = self.machines[machine].running.take().expect("it is alive");
        self.network.process_ended(now, process, power, &mut self.plan);
        self.programs_lose_node(machine, power);
        self.copies_lose_node(machine);
        self.lose_unsaved(machine, power);
        for attempt in running.tickets.into_values() {
            self.agenda.after(MILLISECOND, Event::Reply { attempt, reply: Reply::Broken });
        }
    }

    fn lose_unsaved(&mut self, machine: usize, power: bool) {
        let machine = &mut self.machines[machine];
        if power {
            machine.disk.lose_power(&mut self.rng);
            machine.store.lose_power(&mut self.rng);
        } else if self.rng.chance(300) {
            // A store may keep batches in the process until it persists them.
            machine.store.lose_power(&mut self.rng);
        }
    }

    // Clients.

    /// The machine takes the connection and the request for its process, whatever that does.
    pub(crate) fn knock(&mut self, machine: usize, attempt: u64, request: Box<Request>) {
        let Some(process) = self.machines[machine].process(machine) else {
            self.agenda.after(MILLISECOND, Event::Reply { attempt, reply: Reply::Refused });
            return;
        };
        self.workload.sent(attempt, self.agenda.now(), &mut self.referee);
        self.agenda.after(0, Event::Ask { process, attempt, request });
    }

    fn ask(&mut self, process: Process, attempt: u64, mut request: Request) -> Result<(), Broken> {
        if self.settings.demands_login() && (attempt == NOBODY || attempt > FIRST_ATTEMPT) {
            request.principal = Principal::System;
        }
        let machine = process.machine;
        let alive = self.is_alive(process);
        let Some(running) = self.machines[machine].running.as_mut().filter(|_| alive) else {
            self.agenda.after(MILLISECOND, Event::Reply { attempt, reply: Reply::Broken });
            return Ok(());
        };
        running.next_ticket += 1;
        let ticket = running.next_ticket;
        running.tickets.insert(ticket, attempt);
        self.input(machine, Input::Request { ticket, request })
    }

    fn reply(&mut self, attempt: u64, reply: Reply) -> Result<(), Broken> {
        if attempt > FIRST_ATTEMPT && attempt < SUBSCRIBER {
            return self.operator_told(attempt, &reply);
        }
        let next = self.workload.reply(self.agenda.now(), attempt, reply, &mut self.referee)?;
        if let Some((client, pause)) = next {
            self.agenda.after(pause, Event::Client { client });
        }
        Ok(())
    }

    fn client_goes_on(&mut self, client: usize) -> Result<(), Broken> {
        let now = self.agenda.now();
        let count = self.machines.len();
        let machines: Vec<usize> =
            (0..count).filter(|number| !self.machines[*number].foreign).collect();
        let Some(sending) = self.workload.next(now, client, &machines, &self.referee) else {
            return Ok(());
        };
        let machine = sending.machine;
        self.trace.event(now, "", format_args!("{}", sending.what));
        let way = self.rng.between(20, 300);
        let (attempt, request) = (sending.attempt, Box::new(sending.request));
        if self.workload.about(attempt).is_some_and(|(work, _)| work.is_write()) {
            self.service.wanted(now);
        }
        self.agenda.after(way, Event::Knock { machine, attempt, request });
        self.agenda.after(sending.patience, Event::Reply { attempt, reply: Reply::TooLate });
        Ok(())
    }

    /// A node has answered a client of its own.
    pub(crate) fn answered(
        &mut self,
        machine: usize,
        ticket: u64,
        response: protocol::Response,
    ) -> Result<(), Broken> {
        let now = self.agenda.now();
        let Some(running) = &mut self.machines[machine].running else { return Ok(()) };
        let Some(attempt) = running.tickets.remove(&ticket) else {
            let what = format!("{} answered ticket {ticket} twice", self.machines[machine].name);
            return Err(Broken::new("a request is answered once", what));
        };
        if attempt == PROBE {
            self.probed(machine, &response);
            return Ok(());
        }
        if attempt == BACKUP {
            return self.backup_told(machine, &response);
        }
        if attempt == SUBSCRIBER {
            return self.subscriber_told(&response);
        }
        self.referee.acknowledged(now, &self.workload, attempt, &response, &self.machines)?;
        let is_write = self.workload.about(attempt).is_some_and(|(work, _)| work.is_write());
        if is_write && response.is_success() {
            self.service.given(now);
        }
        let words = b"has no service at";
        if response.status == 503 && response.body.windows(words.len()).any(|it| it == words) {
            self.paths.reached("a node lacked a service");
        }
        let lost =
            self.settings.has(Fault::LostAnswer) && self.faults.is_bad() && self.rng.chance(50);
        if lost {
            self.paths.reached("an answer was lost");
        }
        let reply = if lost { Reply::Broken } else { Reply::Answer { at: now, response } };
        let way = self.rng.between(20, 300);
        self.agenda.after(way, Event::Reply { attempt, reply });
        Ok(())
    }

    // Connections.

    fn packet(&mut self, packet: Packet) -> Result<(), Broken> {
        use crate::network::Arrival;
        let now = self.agenda.now();
        let (connection, end) = (packet.connection, packet.to);
        let Some(target) = self.network.process(connection, end) else { return Ok(()) };
        let alive = self.machines[target.machine].process(target.machine);
        let arrival = self.network.arrive(now, packet, alive, &mut self.plan);
        let Some(running) = &mut self.machines[target.machine].running else { return Ok(()) };
        match arrival {
            Arrival::Nothing => Ok(()),
            Arrival::Opened { dialed } => {
                let dialed = if dialed { running.dialed(connection) } else { None };
                let link = running.open_link(connection, end);
                if let Some(dial) = dialed.as_ref().and_then(|to| running.dials.get_mut(to)) {
                    dial.failures = 0;
                }
                let process = alive.unwrap_or(target);
                self.input(target.machine, Input::LinkOpened { link, dialed, is_detour: false })?;
                self.mesh(process, mesh::Input::LinkOpened { link })
            }
            Arrival::Frame(frame) => match running.link_of(connection, end) {
                Some(link) => {
                    self.heard_link(target.machine, link);
                    self.input(target.machine, Input::Received { link, frame })
                }
                None => Ok(()),
            },
            Arrival::Aside(bytes) => match running.link_of(connection, end) {
                Some(link) => {
                    self.heard_link(target.machine, link);
                    let packet = mesh::Input::Packet { link: Some(link), bytes };
                    self.mesh(alive.unwrap_or(target), packet)
                }
                None => Ok(()),
            },
            Arrival::Closed => {
                let link = running.link_of(connection, end);
                self.connection_gone(target.machine, connection);
                match link {
                    Some(link) => self.link_closed(target.machine, link),
                    None => Ok(()),
                }
            }
            Arrival::Refused => self.dial_failed(alive.unwrap_or(target), connection),
        }
    }

    pub(crate) fn link_closed(&mut self, machine: usize, link: u64) -> Result<(), Broken> {
        if let Some(running) = &mut self.machines[machine].running {
            running.links.remove(&link);
        }
        if let Some(process) = self.machines[machine].process(machine) {
            self.mesh(process, mesh::Input::LinkClosed { link })?;
        }
        self.input(machine, Input::LinkClosed { link })
    }

    fn dial(&mut self, process: Process, address: String) -> Result<(), Broken> {
        let now = self.agenda.now();
        let to = (0..self.machines.len()).find(|number| self.machines[*number].uri == address);
        let Some(running) = &mut self.machines[process.machine].running else { return Ok(()) };
        let Some(dial) = running.dials.get_mut(&address) else { return Ok(()) };
        if dial.connection.is_some() {
            return Ok(());
        }
        let Some(to) = to else {
            dial.failures += 1;
            let next = Event::Dial { process, address: address.clone() };
            self.agenda.after(DIAL_PAUSE_MAX, next);
            return self.input(process.machine, Input::DialFailed { address });
        };
        let connection = self.network.dial(now, process, to, &mut self.plan);
        dial.connection = Some(connection);
        self.agenda.after(DIAL_PATIENCE, Event::DialPatience { process, connection });
        Ok(())
    }

    fn dial_failed(&mut self, process: Process, connection: u64) -> Result<(), Broken> {
        if !self.is_alive(process) {
            return Ok(());
        }
        let running = self.machines[process.machine].running.as_ref().expect("it is alive");
        let address = running.dialed(connection);
        self.connection_gone(process.machine, connection);
        match address {
            Some(address) => self.input(process.machine, Input::DialFailed { address }),
            None => Ok(()),
        }
    }

    /// If it was a dialed one that is to be kept, it is dialed again after a pause.
    pub(crate) fn connection_gone(&mut self, machine: usize, connection: u64) {
        let Some(process) = self.machines[machine].process(machine) else { return };
        let running = self.machines[machine].running.as_mut().expect("it is alive");
        let Some(address) = running.dialed(connection) else { return };
        let dial = running.dials.get_mut(&address).expect("it was just found");
        dial.connection = None;
        dial.failures += 1;
        let pause = ((5 * MILLISECOND) << dial.failures.min(8)).min(DIAL_PAUSE_MAX);
        self.agenda.after(pause, Event::Dial { process, address });
    }
}
