//! The loop of the node's own thread: takes what happened, lets the node step, and does what it
//! says.
//!
//! The links to other nodes live on the same thread, as tasks beside this loop: a frame goes from
//! the socket into the node and from the node into the socket without another thread being woken.
//! One round takes all that waits, steps through it, then hands everything over at once: frames to
//! the links, records to the log. Frames go first, as the way over another node is the longer one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use node::{Input, Level, Node, Output};
use protocol::{Moment, Now, Response};
use services::Invocation;
use storage::LogRecord;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::ambrosia_ports::AmbrosiaPorts;
use crate::attached::Attached;
use crate::callbacks::Callbacks;
use crate::dial::Dialer;
use crate::inbox::{Event, Inbox};
use crate::invoker::Handlers;
use crate::job_threads::JobThreads;
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::open_links::OpenLinks;
use crate::persister::Persister;
use crate::program::Program;
use crate::repros::{self, Repros};
use crate::space::Space;
use crate::store::StoreHealth;

/// How long a stop in good order may take.
const STOP_MAX: Duration = Duration::from_secs(10);

/// After how many ticks the room on the disk is looked at again.
const SPACE_TICKS: u32 = 20;

/// What the engine is made of.
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) tick: Duration,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) log: LogWriter,
    pub(crate) persister: Persister,
    pub(crate) beside: Beside,
    pub(crate) dialer: Dialer,
    pub(crate) ports: AmbrosiaPorts,
    pub(crate) room: Room,
    pub(crate) repros: Repros,
    pub(crate) metrics: Arc<Metrics>,
}

/// The threads for what takes longer.
pub(crate) struct Beside {
    pub(crate) jobs: JobThreads,
    pub(crate) callbacks: Callbacks,
}

/// The room that there is for what it writes.
pub(crate) struct Room {
    pub(crate) space: Space,
    pub(crate) store: StoreHealth,
}

pub(crate) struct Engine {
    /// These two close what they hold before the other parts end, which may take its time.
    links: OpenLinks,
    programs: Attached,
    parts: Parts,
    born: Instant,
    ticks_until_space: u32,
    tickets: Tickets,
    outputs: Vec<Output>,
    /// What happened and was not taken by the node so far.
    inputs: Vec<Input>,
    unwritten: Unwritten,
    stop: Option<Stop>,
    pause: Option<Pause>,
}

/// Who waits for an answer, by ticket. Bounded by the number of connections.
#[derive(Default)]
struct Tickets {
    waiting: HashMap<u64, oneshot::Sender<Response>>,
    last: u64,
}

impl Tickets {
    fn give(&mut self, answer: oneshot::Sender<Response>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, answer);
        self.last
    }

    fn answer(&mut self, ticket: u64, response: Response) {
        let waiting = self.waiting.remove(&ticket);
        let waiting = waiting.expect("the node answers each ticket once, and no other");
        // The client may have gone meanwhile; then no one wants the answer.
        drop(waiting.send(response));
    }
}

/// What this round is to write to the log.
#[derive(Default)]
struct Unwritten {
    records: Vec<LogRecord>,
    batch: Option<u64>,
}

/// The node was told to stop.
#[derive(Clone, Copy)]
struct Stop {
    /// When the engine ends without a stop in good order.
    by: Instant,
    /// It stops in order to open its store anew.
    reopens: bool,
}

/// Why the engine does not run for the moment.
pub(crate) enum Pause {
    /// This is to be durable in the sandbox before it goes on.
    Members(Vec<String>),
    Ended(End),
}

/// Why the engine ended.
#[derive(Debug)]
pub(crate) enum End {
    Stopped,
    /// The node cannot go on.
    Halted(String),
    /// Begin anew with an empty sandbox, and join the cluster of this address.
    Rejoin(String),
    /// Begin anew with the same sandbox.
    Reopen,
    /// The sandbox does not have what it must; begin anew with an empty one, if others can fill it.
    Renew {
        why: String,
        contact: Option<String>,
    },
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            links: OpenLinks::default(),
            programs: Attached::default(),
            parts,
            born: Instant::now(),
            ticks_until_space: 0,
            tickets: Tickets::default(),
            outputs: Vec::new(),
            inputs: Vec::new(),
            unwritten: Unwritten::default(),
            stop: None,
            pause: None,
        }
    }

    /// Runs until the node ends, or something else is to be done first. What was asked and not
    /// answered is answered by the drop.
    pub(crate) async fn run(&mut self) -> Pause {
        let mut events = Vec::new();
        let inbox = Arc::clone(&self.parts.inbox);
        let mut ticks = tokio::time::interval(self.parts.tick);
        // Ticks that were missed are not made up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ticked = tokio::select! {
                biased;
                _ = ticks.tick() => true,
                () = inbox.wait() => false,
            };
            inbox.take(&mut events);
            self.round(events.drain(..), ticked);
            if let Some(pause) = self.pause.take() {
                return pause;
            }
            // The links' tasks get their turn, and what they read is in the next round.
            tokio::task::yield_now().await;
        }
    }

    fn round(&mut self, events: impl Iterator<Item = Event>, ticked: bool) {
        self.parts.metrics.thread.rounds.fetch_add(1, Ordering::Relaxed);
        let present = Instant::now();
        for event in events {
            self.happened(event);
        }
        if ticked {
            self.inputs.push(Input::Tick);
            self.parts.dialer.tick();
            self.watch_space();
            self.watch_the_stop(present);
        }
        self.step();
        self.hand_over();
    }

    fn look_at_clocks(&self, present: Instant) -> Now {
        let steady = present.duration_since(self.born).as_micros();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let micros = |micros: u128| u64::try_from(micros).expect("584,000 years are not over");
        Now { steady_micros: micros(steady), wall: Moment(micros(wall)) }
    }

    fn happened(&mut self, event: Event) {
        let input = match event {
            Event::Request { request, answer } => {
                Input::Request { ticket: self.tickets.give(answer), request }
            }
            Event::LinkOpened { link, dialed, is_detour } => {
                Input::LinkOpened { link: self.links.add(link), dialed, is_detour }
            }
            Event::LinkClosed { link } if self.links.remove(link) => Input::LinkClosed { link },
            Event::DialFailed { address } => Input::DialFailed { address },
            Event::Received { link, frames, .. } if self.links.knows(link) => {
                return self
                    .inputs
                    .extend(frames.into_iter().map(|frame| Input::Received { link, frame }));
            }
            Event::ProgramOpened { program } => self.program_opened(program),
            Event::ProgramSaid { program, bytes, .. } if self.programs.knows(program) => {
                Input::ProgramSaid { program, bytes }
            }
            Event::ProgramDrained { program, bytes } if self.programs.knows(program) => {
                Input::ProgramDrained { program, bytes }
            }
            Event::ProgramClosed { program } if self.programs.remove(program) => {
                Input::ProgramClosed { program }
            }
            Event::Ran { life, done } if self.parts.beside.jobs.did(life) => Input::Ran(*done),
            Event::Notified { life, number, outcome } if self.parts.beside.callbacks.did(life) => {
                Input::Notified { number, outcome }
            }
            // A link or a program of an earlier life of the node may still have something to say,
            // and a program that the node has let go too.
            Event::LinkClosed { .. }
            | Event::Ran { .. }
            | Event::Notified { .. }
            | Event::Received { .. }
            | Event::ProgramSaid { .. }
            | Event::ProgramDrained { .. }
            | Event::ProgramClosed { .. } => return,
            Event::LogDurable { batch, frames } => Input::LogDurable { batch, frames },
            Event::LogFailed { why, full } => self.parts.room.space.log_failed(why, full),
            Event::LogRecovered => {
                self.inputs.extend(self.parts.room.space.log_recovered());
                return;
            }
            Event::StatePersisted { mark } => Input::StatePersisted { mark },
            Event::Invoked(invoked) => Input::Invoked(*invoked),
            Event::GoOn { group, opening } => Input::GoOn { group, opening },
            Event::StateFailed(error) => Input::StateFailed(error),
            Event::Stop => {
                let by = self.stop.map_or_else(|| Instant::now() + STOP_MAX, |stop| stop.by);
                self.stop = Some(Stop { by, reopens: false });
                Input::Stop
            }
        };
        self.inputs.push(input);
    }

    /// Lets the node take what has come. Each turn has its own time: one that was asked for with
    /// [`Output::Measure`] comes right after what is to be measured.
    fn step(&mut self) {
        while !self.inputs.is_empty() && !self.has_ended() {
            let count = u64::try_from(self.inputs.len()).expect("a length fits");
            self.parts.metrics.thread.inputs.fetch_add(count, Ordering::Relaxed);
            let mut outputs = std::mem::take(&mut self.outputs);
            let now = self.look_at_clocks(Instant::now());
            self.parts.node.step(now, &mut self.inputs, &mut outputs);
            for output in outputs.drain(..) {
                self.act(output);
            }
            self.outputs = outputs;
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Append { batch, mut records } => {
                self.unwritten.records.append(&mut records);
                self.unwritten.batch = Some(batch);
            }
            Output::Persist { mark } => self.parts.persister.put(mark),
            Output::Dial { addresses } => self.parts.dialer.keep(addresses),
            Output::Send { link, frame } => self.links.queue(link, frame, &self.parts.metrics),
            Output::Close { link } => self.links.close_after_sending(link),
            Output::Answer { ticket, response } => self.tickets.answer(ticket, response),
            Output::Catalogue(catalogue) => self.parts.handlers.serve(catalogue),
            Output::Invoke(invocation) => self.invoke(invocation),
            Output::Run(job) => self.parts.beside.jobs.put(job),
            Output::Notify(notification) => self.parts.beside.callbacks.put(notification),
            // The node's log says so.
            Output::StateAside { .. } => {}
            Output::StateFilled { .. } => {
                self.parts.metrics.work.states_filled.fetch_add(1, Ordering::Relaxed);
            }
            Output::WithoutNextEvent { count } => {
                let found = &self.parts.metrics.work.tasks_without_next_event;
                found.fetch_add(count.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            Output::GoOn { group, opening } => {
                self.parts.inbox.put(Event::GoOn { group, opening });
            }
            Output::Measure => self.inputs.push(Input::Measured),
            Output::ProgramTell { program, bytes } => self.programs.tell(program, bytes),
            Output::ProgramClose { program } => {
                self.programs.let_go(program, &self.parts.inbox, &self.parts.metrics);
            }
            Output::ProgramPorts { ports } => self.parts.ports.keep(&ports),
            Output::Repro { name, text } => self.keep_repro(name, text),
            Output::Note { level, text } => note(level, &text),
            Output::Rejoin { contact } => self.ends(End::Rejoin(contact)),
            Output::Others { addresses } => self.keep_others(addresses),
            Output::Renew { why, contact } => self.ends(End::Renew { why, contact }),
            Output::Stopped if self.stop.is_some_and(|stop| stop.reopens) => self.ends(End::Reopen),
            Output::Stopped => self.ends(End::Stopped),
            Output::Halt { why } => self.ends(End::Halted(why)),
        }
    }

    /// Where the others were said to be a moment ago counts no more.
    fn keep_others(&mut self, addresses: Vec<String>) {
        if !self.has_ended() {
            self.pause = Some(Pause::Members(addresses));
        }
    }

    /// How many there may be is bounded by the leaders, which run one at a time for each document.
    fn invoke(&mut self, invocation: Invocation) {
        self.parts.handlers.run_elsewhere(invocation);
    }

    /// The first reason counts.
    fn ends(&mut self, end: End) {
        if !self.has_ended() {
            self.pause = Some(Pause::Ended(end));
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.pause, Some(Pause::Ended(_)))
    }

    fn program_opened(&mut self, program: Arc<Program>) -> Input {
        let (id, door) = (program.id, program.door);
        self.programs.add(program);
        Input::ProgramOpened { program: id, door }
    }

    /// Written on another thread: the disk may be slow, and nobody waits for it.
    fn keep_repro(&self, name: String, text: String) {
        let repros = self.parts.repros.clone();
        drop(tokio::task::spawn_blocking(move || repros::keep(&repros, &name, &text)));
    }

    fn hand_over(&mut self) {
        self.links.flush();
        self.programs.flush(&self.parts.inbox, &self.parts.metrics);
        if let Some(batch) = self.unwritten.batch.take() {
            self.parts.log.put(&mut self.unwritten.records, batch);
        }
    }

    fn watch_space(&mut self) {
        if self.ticks_until_space == 0 {
            self.ticks_until_space = SPACE_TICKS;
            self.look_at_the_disk();
        }
        self.ticks_until_space -= 1;
    }

    fn look_at_the_disk(&mut self) {
        let store = self.parts.room.store.look();
        self.inputs.extend(self.parts.room.space.look(store.waiting_bytes));
        self.inputs.extend(self.parts.room.space.store_is(store.is_full));
        let room = &self.parts.room.space;
        self.parts.metrics.disk.note(room.free(), room.is_roomy(), store.waiting_bytes);
        if store.is_worn && self.parts.room.space.is_roomy() && self.stop.is_none() {
            tracing::warn!(
                target: "amrita",
                "a merge of the state store found no room on the disk; now that there is some, the \
                 store is opened anew"
            );
            self.stop = Some(Stop { by: Instant::now() + STOP_MAX, reopens: true });
            self.inputs.push(Input::Stop);
        }
    }

    fn watch_the_stop(&mut self, present: Instant) {
        if let Some(Stop { by, reopens }) = self.stop
            && present >= by
        {
            tracing::warn!("the stop in good order took too long; the node ends without it");
            self.ends(if reopens { End::Reopen } else { End::Stopped });
        }
    }
}

fn note(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::debug!(target: "amrita", "{text}"),
        Level::Info => tracing::info!(target: "amrita", "{text}"),
        Level::Warn => tracing::warn!(target: "amrita", "{text}"),
        Level::Error => tracing::error!(target: "amrita", "{text}"),
    }
}
