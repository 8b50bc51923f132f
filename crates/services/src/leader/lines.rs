//! The line at each document: writes run one at a time, in order of arrival, ahead of the log.
//!
//! A write that the handler has made is proposed at once; the next one runs on its result while it
//! is in flight. When a proposal comes back refused or fenced, what was built on it is run again.
//! Answers that write nothing but depend on the state (409, 412, "it is there already") wait for
//! the writes that they saw, or for a quorum's word.

use std::collections::VecDeque;
use std::sync::Arc;

use documents::{AppliedCommand, Command, Write};
use group::Output;
use protocol::{Code, Document, Method, Position, Problem, Request, RequestKey, Response, Source};
use storage::StoreError;

use super::awaited::Waiter;
use super::reads::Question;
use super::repeats::with_location;
use super::tasks::Admission;
use super::unchanged::Unchanged;
use super::{Known, PartitionLeader, Proposed, StepContext, outdated};
use crate::catalogue::{Invocation, Invoked, NewVersion, Verdict, Work};
use crate::handlers::Step;
use crate::machine::{PartitionAction, Ran};

/// How many versions of one document may be in flight.
const AHEAD_MAX: usize = 64;
/// How often a write is run again because its proposal came back fenced.
const RUNS_MAX: u8 = 4;

/// The line at one document.
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Item>,
    running: Option<Running>,
    flights: VecDeque<Flight>,
}

/// What stands in a line.
pub(super) struct Item {
    pub(super) who: Who,
    runs: u8,
}

pub(super) enum Who {
    Client(Client),
    Step(Step),
}

pub(super) struct Client {
    ticket: u64,
    request: Arc<Request>,
    key: Option<RequestKey>,
    /// See `Known`.
    is_resent: bool,
}

struct Running {
    invocation: u64,
    item: Item,
    /// The version that the handler sees.
    version: Option<u64>,
}

/// What has been run and waits for the log.
struct Flight {
    item: Item,
    cargo: Cargo,
}

enum Cargo {
    Write {
        proposal: u64,
        version: Box<NewVersion>,
    },
    /// An answer that is true once the writes before it are applied.
    Held(Response),
}

impl Item {
    pub(super) fn step(step: Step) -> Self {
        Self { who: Who::Step(step), runs: 0 }
    }

    fn is_post(&self) -> bool {
        matches!(&self.who, Who::Client(client) if client.request.method == Method::Post)
    }

    fn work(&self) -> Work {
        match &self.who {
            Who::Client(client) => Work::Update(Arc::clone(&client.request)),
            Who::Step(step) => Work::Step(step.clone()),
        }
    }
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.flights.len() + usize::from(self.running.is_some())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, item: Item) {
        self.waiting.push_back(item);
    }

    /// Puts items before all others, in their order.
    pub(super) fn push_first(&mut self, items: impl DoubleEndedIterator<Item = Item>) {
        for item in items.rev() {
            self.waiting.push_front(item);
        }
    }

    /// The newest version in flight, if there is one; `Some(None)` when it removed the document.
    fn head(&self) -> Option<Option<Arc<Document>>> {
        self.flights.iter().rev().find_map(|flight| match &flight.cargo {
            Cargo::Write { version, .. } if version.purge => Some(None),
            Cargo::Write { version, .. } => Some(Some(Arc::clone(&version.document))),
            Cargo::Held(_) => None,
        })
    }

    fn take_flights_from(&mut self, index: usize) -> impl Iterator<Item = Flight> {
        self.flights.split_off(index).into_iter()
    }
}

impl PartitionLeader {
    pub(super) fn enqueue(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: Arc<Request>,
        Known { key, is_resent, .. }: Known,
    ) -> Result<(), StoreError> {
        let link = request.path.clone();
        let waiting = self.lines.get(&link).map_or(0, Line::len) + self.tasks.deferred(&link);
        if waiting >= self.duty.limits.document_queue_max {
            let message = format!("{waiting} requests wait for {link} already; try again");
            self.refuse(cx, ticket, &link, Problem::new(Code::Busy, message));
            return Ok(());
        }
        let who = Who::Client(Client { ticket, request, key, is_resent });
        self.lines.entry(link.clone()).or_default().push(Item { who, runs: 0 });
        self.pump(cx, &link)
    }

    /// Runs what can be run at a document.
    pub(super) fn pump(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        while let Some(item) = self.next_item(link) {
            let is_write_ahead = match &item.who {
                Who::Client(client) => match self.tasks.admit(link, &client.request) {
                    Admission::Run => true,
                    Admission::Replan => {
                        self.lines.entry(link.to_owned()).or_default().push(Item::step(Step::Plan));
                        true
                    }
                    Admission::Defer => {
                        self.tasks.defer(link, item);
                        continue;
                    }
                },
                Who::Step(step) if cx.at.quorum.up < cx.at.quorum.needed => {
                    self.tasks.await_quorum(link, cx.now().steady_micros, step.clone());
                    continue;
                }
                Who::Step(_) => false,
            };
            let line = self.lines.entry(link.to_owned()).or_default();
            if !is_write_ahead && !line.flights.is_empty() {
                // A step sees committed versions only: what it asks of others cannot be undone.
                line.waiting.push_front(item);
                break;
            }
            match self.invoke(cx, link, item)? {
                Some(invoked) => self.take_verdict(cx, link, invoked.verdict)?,
                None => break,
            }
        }
        if self.lines.get(link).is_some_and(Line::is_idle) {
            self.lines.remove(link);
        }
        Ok(())
    }

    fn next_item(&mut self, link: &str) -> Option<Item> {
        let line = self.lines.get_mut(link)?;
        if line.running.is_some() || line.flights.len() >= AHEAD_MAX {
            return None;
        }
        line.waiting.pop_front()
    }

    /// Runs the handler. `None`: it runs elsewhere, and [`PartitionLeader::invoked`] takes what
    /// comes of it.
    fn invoke(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        item: Item,
    ) -> Result<Option<Invoked>, StoreError> {
        let number = self.next_number();
        let mut current = match self.lines.get(link).and_then(Line::head) {
            Some(ahead) => ahead,
            None => cx.latest(link)?,
        };
        // What has expired and is still there is purged before a new life begins, which must not go
        // on with the old history. Others may have expired before it, and many: it goes by itself.
        if item.is_post()
            && let Some(expired) = current.take_if(|it| it.is_expired(cx.now().wall))
        {
            self.propose_purge(cx, &expired);
            if item.runs > 0 {
                // There is more of its history than a purge may remove.
                self.propose_expiration(cx);
            }
        }
        let permitted = match &item.who {
            Who::Client(client) => cx.permit_write(&client.request, current.as_deref()),
            Who::Step(_) => Ok(()),
        };
        let handlers = cx.handlers();
        let invocation = Invocation {
            partition: self.duty.partition,
            epoch: self.duty.epoch,
            opening: self.duty.opening,
            number,
            link: link.to_owned(),
            node_id: Arc::clone(&handlers.node_id),
            now: self.clock.tick(cx.now().wall),
            current: current.clone(),
            is_resent: matches!(&item.who, Who::Client(client) if client.is_resent),
            work: item.work(),
        };
        let version = current.map(|current| current.version);
        let line = self.lines.entry(link.to_owned()).or_default();
        line.running = Some(Running { invocation: number, item, version });
        if let Err(problem) = permitted {
            return Ok(Some(invocation.refused(problem)));
        }
        match handlers.invoker.invoke(&handlers.catalogue, invocation) {
            Ran::Done(invoked) => Ok(Some(invoked)),
            Ran::Elsewhere(invocation) => {
                cx.put(Output::Do(PartitionAction::Invoke(Box::new(invocation))));
                Ok(None)
            }
        }
    }

    /// A handler that ran elsewhere is done.
    pub(super) fn invoked(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        invoked: Invoked,
    ) -> Result<(), StoreError> {
        let Invoked { epoch, opening, number, verdict, link, .. } = invoked;
        if (epoch, opening) != (self.duty.epoch, self.duty.opening) {
            return Ok(());
        }
        let running = self.lines.get(&link).and_then(|line| line.running.as_ref());
        // One that was given up is no longer here.
        if running.is_none_or(|running| running.invocation != number) {
            return Ok(());
        }
        self.take_verdict(cx, &link, verdict)?;
        self.pump(cx, &link)
    }

    /// What the handler that runs at a document has decided.
    fn take_verdict(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let running = self.lines.get_mut(link).and_then(|line| line.running.take());
        let running = running.expect("a verdict belongs to what runs at its document");
        match running.item.who {
            Who::Client(_) => {
                self.client_verdict(cx, link, running.item, verdict);
                Ok(())
            }
            Who::Step(_) => self.step_verdict(cx, link, running, verdict),
        }
    }

    fn client_verdict(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        item: Item,
        verdict: Verdict,
    ) {
        let Who::Client(client) = &item.who else { return };
        let ticket = client.ticket;
        match cx.permit_result(&client.request, verdict) {
            Verdict::Write(version) => {
                if version.task == Some(false) {
                    self.tasks.ending(link);
                }
                self.propose(cx, link, item, version);
            }
            Verdict::Refused(problem) => self.refuse(cx, ticket, link, problem),
            Verdict::AsItIs(response) => {
                let line = self.lines.entry(link.to_owned()).or_default();
                if line.flights.is_empty() {
                    let (request, key) = (Arc::clone(&client.request), client.key.clone());
                    let is_resent = client.is_resent;
                    let known = Known { key, is_retry: false, is_resent };
                    let waiter = Waiter { ticket, request, known };
                    let now_micros = cx.now().steady_micros;
                    if let Some((waiter, response)) =
                        self.awaited.add(link, waiter, response, now_micros)
                    {
                        let Waiter { request, known: Known { key, .. }, .. } = waiter;
                        let unchanged = Unchanged { ticket, request, key, response };
                        self.confirm(cx, ticket, Question::Held(unchanged));
                    }
                } else {
                    line.flights.push_back(Flight { item, cargo: Cargo::Held(response) });
                }
            }
            Verdict::Calls(_) | Verdict::Ended => {
                let problem = Problem::internal("a write was run as a task's step");
                self.refuse(cx, ticket, link, problem);
            }
        }
    }

    fn step_verdict(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        running: Running,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        match verdict {
            Verdict::Write(version) => {
                self.propose(cx, link, running.item, version);
                Ok(())
            }
            Verdict::Calls(calls) => {
                self.start_calls(cx, link, running.version.unwrap_or_default(), calls)
            }
            Verdict::Refused(_) | Verdict::AsItIs(_) | Verdict::Ended => self.end_runner(cx, link),
        }
    }

    fn propose(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        item: Item,
        version: Box<NewVersion>,
    ) {
        let proposal = self.next_number();
        self.proposals.push_back((proposal, Proposed::Write(link.to_owned())));
        let (key, source) = match &item.who {
            Who::Client(client) => (client.key.clone(), client.request.source),
            Who::Step(_) => (None, None),
        };
        let write = Write {
            document: Document::clone(&version.document),
            key,
            status: version.status,
            retention: version.retention,
            source,
            task: version.task,
            purge: version.purge,
            response: None,
        };
        cx.put(Output::Propose { proposal, data: Command::Write(write).encode() });
        let line = self.lines.entry(link.to_owned()).or_default();
        line.flights.push_back(Flight { item, cargo: Cargo::Write { proposal, version } });
    }

    pub(super) fn write_applied(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        proposal: u64,
        came_back: (Position, AppliedCommand),
    ) -> Result<(), StoreError> {
        let line = self.lines.get_mut(link).expect("a proposal in flight has a line");
        let flight = line.flights.pop_front().expect("a proposal in flight is in its line");
        let Cargo::Write { proposal: first, version } = flight.cargo else {
            unreachable!("answers are not held before the first write in flight");
        };
        assert!(first == proposal, "proposals come back in order: {proposal}, awaited {first}");
        let (position, outcome) = came_back;
        match outcome {
            AppliedCommand::Written(document) => {
                self.written(cx, flight.item, &version, (&document, position));
                self.answer_held(cx, link, position);
                if !document.is_deleted() {
                    self.has_come(cx, link)?;
                }
                self.task_written(cx, link, *version, (document, position))?;
            }
            AppliedCommand::Fenced | AppliedCommand::Other => {
                self.fall_back(link, 0);
                self.run_again(cx, link, flight.item)?;
            }
        }
        self.pump(cx, link)
    }

    fn written(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        item: Item,
        version: &NewVersion,
        made: (&Document, Position),
    ) {
        let Who::Client(Client { ticket, request, .. }) = item.who else { return };
        let (document, position) = made;
        if version.is_direct && version.task == Some(true) && request.method == Method::Post {
            self.tasks.wait_for_end(&document.link, ticket, document.expires);
            return;
        }
        let owner = &cx.handlers().node_id;
        let shown = access::shown(&request.principal, document);
        let response = Response::document(version.status, &shown, owner);
        let response = with_location(response, &request, &document.link);
        self.respond(cx, ticket, &document.link, response, Some(position));
    }

    fn answer_held(&mut self, cx: &mut StepContext<'_, '_>, link: &str, position: Position) {
        while let Some(line) = self.lines.get_mut(link)
            && let Some(flight) = line.flights.pop_front()
        {
            match (flight.cargo, flight.item.who) {
                (Cargo::Held(response), Who::Client(client)) => {
                    let Client { ticket, request, key, .. } = client;
                    let unchanged = Unchanged { ticket, request, key, response };
                    self.leave_unchanged(cx, unchanged, Some(position));
                }
                (cargo, who) => {
                    let item = Item { who, runs: flight.item.runs };
                    line.flights.push_front(Flight { item, cargo });
                    break;
                }
            }
        }
    }

    /// What was built on a write that failed is run again: everything in flight from there on.
    fn fall_back(&mut self, link: &str, from: usize) {
        let Some(line) = self.lines.get_mut(link) else { return };
        let running = line.running.take();
        let (mut items, mut given_up) = (Vec::new(), Vec::new());
        for flight in line.take_flights_from(from) {
            if let Cargo::Write { proposal, .. } = flight.cargo {
                given_up.push(proposal);
            }
            items.push(flight.item);
        }
        items.extend(running.map(|running| running.item));
        line.push_first(items.into_iter());
        for proposal in given_up {
            self.give_up(proposal);
        }
        if self.tasks.is_not_ended(link) {
            // The write that would have ended the task may be refused this time: if so, it goes on.
            let line = self.lines.entry(link.to_owned()).or_default();
            line.push(Item::step(Step::Plan));
        }
    }

    /// A write came back without effect: it is a repeat of one that was still on its way, its
    /// source is outdated, or it was built on what is not.
    fn run_again(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        mut item: Item,
    ) -> Result<(), StoreError> {
        item.runs += 1;
        let is_last = item.runs >= RUNS_MAX;
        match &item.who {
            Who::Client(client) => {
                let is_resent = client.is_resent;
                let known = Known { key: client.key.clone(), is_retry: true, is_resent };
                if self.repeat(cx, client.ticket, &client.request, &known)? {
                    return Ok(());
                }
                if let Some(problem) = fatal(cx, client, is_last) {
                    self.refuse(cx, client.ticket, link, problem);
                    return Ok(());
                }
            }
            Who::Step(step) if is_last => {
                self.tasks.again_later(link, cx.now().steady_micros, step.clone());
                return Ok(());
            }
            Who::Step(_) => {}
        }
        let line = self.lines.entry(link.to_owned()).or_default();
        line.push_first(std::iter::once(item));
        Ok(())
    }

    pub(super) fn write_refused(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        proposal: u64,
        problem: Problem,
    ) -> Result<(), StoreError> {
        let Some(line) = self.lines.get_mut(link) else { return Ok(()) };
        let is_it = |flight: &Flight| matches!(flight.cargo, Cargo::Write { proposal: it, .. } if it == proposal);
        let Some(index) = line.flights.iter().position(is_it) else { return Ok(()) };
        self.fall_back(link, index + 1);
        let line = self.lines.get_mut(link).expect("it was there just now");
        let flight = line.flights.pop_back().expect("the refused one is the last now");
        match flight.item.who {
            Who::Client(client) => {
                self.refuse(cx, client.ticket, link, problem);
            }
            Who::Step(step) => self.tasks.again_later(link, cx.now().steady_micros, step),
        }
        self.pump(cx, link)
    }
}

/// Why a write that came back without effect cannot be run again, if it cannot.
fn fatal(cx: &StepContext<'_, '_>, client: &Client, is_last: bool) -> Option<Problem> {
    let fence = |source: &Source| cx.partition().fence(source.partition);
    let source = client.request.source.filter(|source| source.epoch < fence(source));
    match source {
        Some(source) => Some(outdated(source)),
        None if is_last => Some(Problem::new(
            Code::NoOwner,
            "this node is no longer the owner of the document; try again",
        )),
        None => None,
    }
}
