//! The line at each document: writes run one at a time, in order of arrival, ahead of the log.
//!
//! A write that the handler has made is proposed at once; the next one runs on its result while it
//! is in flight. When a proposal comes back refused or fenced, what was built on it is run again.
//! Answers that write nothing but depend on the state (409, 412, "it is there already") wait for
//! the writes that they saw, or for a quorum's word.

use std::sync::Arc;

use documents::{AppliedCommand, Command, Noted};
use group::Output;
use protocol::instance_write::Numbered;
use protocol::{Code, Document, Method, Position, Problem, Request, Response, Source};
use storage::StoreError;

use super::asked::{Asked, Unchanged};
use super::awaited::Waiting;
use super::context::StepContext;
use super::line::{Cargo, Flight, Item, Line, Running, Who};
use super::proposals::Proposed;
use super::question::Question;
use super::recorded::with_location;
use super::revert;
use super::runners::{Admission, TRIES_TOLD, Why};
use super::state::{PartitionLeader, outdated};
use crate::control::Control;
use crate::handlers::Step;
use crate::instance_write::answer_to;
use crate::invocation::{Ask, Invocation, Invoked, NewVersion, Verdict, Work};
use crate::invoker::Ran;
use crate::io::PartitionAction;
use crate::outside::Said;

/// How many versions of one document may be in flight.
const AHEAD_MAX: usize = 64;
/// How often a write is run again because its proposal came back fenced.
pub(super) const RUNS_MAX: u8 = 4;

impl PartitionLeader {
    pub(super) fn enqueue(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: Asked,
    ) -> Result<(), StoreError> {
        let link = asked.request.path.clone();
        let waiting = self.lines.get(&link).map_or(0, Line::len) + self.tasks.deferred(&link);
        if waiting >= self.duty.limits.document_queue_max {
            let message = format!("{waiting} requests wait for {link} already; try again");
            self.refuse(cx, asked.ticket, &link, Problem::new(Code::Busy, message));
            return Ok(());
        }
        self.lines.entry(link.clone()).or_default().push(Item::client(asked));
        self.pump(cx, &link)
    }

    /// Runs what can be run at a document.
    pub(super) fn pump(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        let now = cx.now().steady_micros;
        while let Some(item) = self.next_item(link) {
            let is_ahead = self.lines.get(link).is_some_and(|line| !line.flights.is_empty());
            let is_write_ahead = match &item.who {
                Who::Client(asked) => match self.tasks.admit(link, &asked.request, (now, is_ahead))
                {
                    Admission::Run => true,
                    Admission::Replan => {
                        self.lines.entry(link.to_owned()).or_default().push(Item::step(Step::Plan));
                        true
                    }
                    Admission::Defer => {
                        self.tasks.defer(link, item);
                        continue;
                    }
                    Admission::Wait => false,
                },
                Who::Step(step) if cx.at.quorum.up < cx.at.quorum.needed => {
                    let tries = self.tasks.await_quorum(link, now, step.clone());
                    let (up, needed) = (cx.at.quorum.up, cx.at.quorum.needed);
                    let why = format!("{up} nodes are up, and the membership quorum is {needed}");
                    tell_of_waiting(cx, link, tries, &why);
                    continue;
                }
                Who::Step(_) => false,
                Who::Batch(_) => unreachable!("a batch stays in its lines until it holds them"),
            };
            let line = self.lines.entry(link.to_owned()).or_default();
            if !is_write_ahead && !line.flights.is_empty() {
                // A step sees committed versions only: what it asks of others cannot be undone. So
                // does a change of a task that is held.
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
        let is_busy = line.running.is_some() || line.held_by.is_some();
        if is_busy || line.flights.len() >= AHEAD_MAX {
            return None;
        }
        if let Some(Item { who: Who::Batch(id), .. }) = line.waiting.front() {
            let id = *id;
            self.begin_if_ready(id);
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
        let latest = match self.lines.get(link).and_then(Line::head) {
            Some(ahead) => ahead,
            None => cx.latest(link)?,
        };
        let current = match item.method() {
            Some(method) => self.current_for(cx, latest, (method, item.runs)),
            None => latest,
        };
        let permitted = match &item.who {
            Who::Client(asked) => cx.permit_write(&asked.request, current.as_deref()),
            Who::Step(_) | Who::Batch(_) => Ok(()),
        };
        let work = match &item.who {
            Who::Client(asked) => revert::resolved(cx, &asked.request, current.as_deref())?,
            Who::Step(_) | Who::Batch(_) => Ok(None),
        };
        let (permitted, work) = match (permitted, work) {
            (Err(problem), _) | (Ok(()), Err(problem)) => (Err(problem), item.work()),
            (Ok(()), Ok(work)) => (Ok(()), work.unwrap_or_else(|| self.work(cx, link, &item))),
        };
        let user_made = match &item.who {
            Who::Client(asked) => cx.made_of(&asked.request.principal),
            Who::Step(_) | Who::Batch(_) => None,
        };
        let is_resent = matches!(&item.who, Who::Client(asked) if asked.known.is_resent);
        let version = current.as_ref().map(|current| current.version);
        let invocation = self.invocation(cx, link, current, (work, is_resent, user_made));
        let number = invocation.number;
        let line = self.lines.entry(link.to_owned()).or_default();
        let since_micros = cx.now().steady_micros;
        let asked = None;
        line.running = Some(Running { invocation: number, item, since_micros, version, asked });
        if let Err(problem) = permitted {
            return Ok(Some(invocation.refused(problem)));
        }
        Ok(self.run_handler(cx, invocation))
    }

    /// The version that a client's write sees, if there is a live one.
    ///
    /// What has expired and is still there is purged before a new life begins, which must not go on
    /// with the old history. Others may have expired before it, and many: it goes by itself.
    pub(super) fn current_for(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        mut latest: Option<Arc<Document>>,
        (method, runs): (Method, u8),
    ) -> Option<Arc<Document>> {
        if method == Method::Post
            && let Some(expired) = latest.take_if(|it| it.is_expired(cx.now().wall))
        {
            self.propose_purge(cx, &expired);
            if runs > 0 {
                // There is more of its history than a purge may remove.
                self.propose_expiration(cx);
            }
        }
        latest
    }

    pub(super) fn invocation(
        &mut self,
        cx: &StepContext<'_, '_>,
        link: &str,
        current: Option<Arc<Document>>,
        (work, is_resent, user_made): (Work, bool, Option<u64>),
    ) -> Invocation {
        Invocation {
            partition: self.duty.partition,
            epoch: self.duty.epoch,
            opening: self.duty.opening,
            number: self.next_number(),
            link: link.to_owned(),
            node_id: Arc::clone(&cx.handlers().node_id),
            now: self.time_of_write(cx, current.as_deref()),
            current,
            is_resent,
            work,
            user_made,
            said: None,
        }
    }

    fn work(&self, cx: &StepContext<'_, '_>, link: &str, item: &Item) -> Work {
        let is_task = || cx.handlers().catalogue.spec_of(link).is_some_and(|spec| spec.is_task);
        match &item.who {
            Who::Client(asked) if asked.request.method == Method::Patch && is_task() => {
                let request = &asked.request;
                Control::of(&request.body).map_or_else(
                    || item.work(),
                    |it| Work::Control(Arc::clone(request), it, self.tasks.under_way(link)),
                )
            }
            _ => item.work(),
        }
    }

    /// `None`: it runs elsewhere, or a program outside is asked first.
    fn run_handler(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        invocation: Invocation,
    ) -> Option<Invoked> {
        let handlers = cx.handlers();
        match handlers.invoker.invoke(&handlers.catalogue, invocation) {
            Ran::Done(invoked) => self.not_asked(cx, invoked),
            Ran::Elsewhere(invocation) => {
                cx.put(Output::Do(PartitionAction::Invoke(Box::new(invocation))));
                None
            }
        }
    }

    /// Asks the program outside, if the handler is there.
    fn not_asked(&mut self, cx: &mut StepContext<'_, '_>, invoked: Invoked) -> Option<Invoked> {
        let Invoked { link, number, verdict, .. } = invoked;
        let Verdict::Ask(ask) = verdict else {
            return Some(Invoked { link, number, verdict, ..invoked });
        };
        let Ask { call, invocation } = *ask;
        let line = self.lines.get_mut(&link);
        let running = line.and_then(|line| line.running.as_mut());
        let running = running.expect("a verdict belongs to what runs at its document");
        running.asked = Some(Box::new(invocation));
        let opening = self.duty.opening;
        cx.put(Output::Do(PartitionAction::Ask { opening, number, call: Box::new(call) }));
        None
    }

    /// What came of a call to the program outside.
    pub(super) fn program_said(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        (link, number): (&str, u64),
        said: Said,
    ) -> Result<(), StoreError> {
        let running = self.lines.get_mut(link).and_then(|line| line.running.as_mut());
        // One that was given up is no longer here; one that was answered is not asked any more.
        let running = running.filter(|running| running.invocation == number);
        let Some(invocation) = running.and_then(|running| running.asked.take()) else {
            return Ok(());
        };
        let invocation = Invocation { said: Some(said), ..*invocation };
        if let Some(invoked) = self.run_handler(cx, invocation) {
            self.take_verdict(cx, link, invoked.verdict)?;
            self.pump(cx, link)?;
        }
        Ok(())
    }

    /// A handler that ran elsewhere is done.
    pub(super) fn invoked(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        invoked: Invoked,
    ) -> Result<(), StoreError> {
        if (invoked.epoch, invoked.opening) != (self.duty.epoch, self.duty.opening) {
            return Ok(());
        }
        let Some(invoked) = self.invoked_for_batch(cx, invoked) else { return Ok(()) };
        let Invoked { epoch, opening, number, verdict, link, partition } = invoked;
        let running = self.lines.get(&link).and_then(|line| line.running.as_ref());
        // One that was given up is no longer here.
        if running.is_none_or(|running| running.invocation != number) {
            return Ok(());
        }
        let invoked = Invoked { epoch, opening, number, verdict, link, partition };
        let Some(Invoked { link, verdict, .. }) = self.not_asked(cx, invoked) else {
            return Ok(());
        };
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
        let Running { item: Item { who, runs }, version, .. } = running;
        match who {
            Who::Client(asked) => {
                let verdict = revert::checked(cx, &asked.request, verdict)?;
                if matches!(verdict, Verdict::Shown(_)) {
                    self.try_now_or_skip(cx, link, &asked.request)?;
                }
                self.client_verdict(cx, link, (asked, runs), verdict);
                Ok(())
            }
            Who::Step(step) => {
                let item = Item { who: Who::Step(step), runs };
                self.step_verdict(cx, link, (item, version), verdict)
            }
            Who::Batch(_) => unreachable!("a batch is run by itself"),
        }
    }

    fn client_verdict(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        (asked, runs): (Asked, u8),
        verdict: Verdict,
    ) {
        match cx.permit_result(&asked.request, verdict) {
            Verdict::Write(version) => {
                let asker = asked.request.numbered().and_then(|it| it.asker.as_ref());
                let not_told = asker.and_then(|asker| self.why_not_told(cx, &asker.instance));
                let problem = not_told.or_else(|| {
                    let (code, why) = self.why_not_sent(cx, &version.messages)?;
                    Some(Problem::new(code, format!("{}; {}", why.text, why.remedy)))
                });
                if let Some(problem) = problem {
                    self.refuse(cx, asked.ticket, link, problem);
                    return;
                }
                if version.task == Some(false) {
                    self.tasks.ending(link, cx.now().steady_micros);
                }
                self.propose_version(cx, link, Item { who: Who::Client(asked), runs }, version);
            }
            Verdict::Refused(problem) => self.refuse(cx, asked.ticket, link, problem),
            Verdict::AsItIs(response) => self.hold(cx, link, (asked, runs), response),
            Verdict::Shown(document) => {
                let response = cx.answer_to(&asked.request.principal, 200, &document);
                self.hold(cx, link, (asked, runs), response);
            }
            Verdict::Calls(_) | Verdict::Ended | Verdict::Held { .. } | Verdict::Ask(_) => {
                let problem = Problem::internal("a write was run as a task's step");
                self.refuse(cx, asked.ticket, link, problem);
            }
        }
    }

    /// Nothing is written. The answer waits for the writes that it saw, or for a quorum's word.
    fn hold(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        (asked, runs): (Asked, u8),
        response: Response,
    ) {
        let line = self.lines.entry(link.to_owned()).or_default();
        if !line.flights.is_empty() {
            let item = Item { who: Who::Client(asked), runs };
            let since_micros = cx.now().steady_micros;
            line.flights.push_back(Flight { item, cargo: Cargo::Held(response), since_micros });
            return;
        }
        let left = self.absent.awaited.add(link, asked, response, cx.now().steady_micros);
        if let Some((asked, response)) = left {
            self.confirm(cx, asked.ticket, Question::Held(Unchanged { asked, response }));
        }
    }

    fn step_verdict(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        (item, seen): (Item, Option<u64>),
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        match verdict {
            Verdict::Write(version) => {
                if let Some((_, why)) = self.why_not_sent(cx, &version.messages)
                    && let Who::Step(step) = item.who
                {
                    self.step_again_later(cx, link, step, why);
                    return Ok(());
                }
                self.propose_version(cx, link, item, version);
                Ok(())
            }
            Verdict::Calls(calls) => self.start_calls(cx, link, seen.unwrap_or_default(), calls),
            Verdict::Held { in_mid_step } => self.enter_held(cx, link, in_mid_step),
            Verdict::Refused(_)
            | Verdict::AsItIs(_)
            | Verdict::Shown(_)
            | Verdict::Ended
            | Verdict::Ask(_) => self.end_runner(cx, link),
        }
    }

    fn propose_version(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        item: Item,
        version: Box<NewVersion>,
    ) {
        let (key, source, noted) = match &item.who {
            Who::Client(Asked { known, request, .. }) => {
                (known.key.clone(), request.source(), noted(cx, request, &version))
            }
            Who::Step(_) | Who::Batch(_) => (None, None, None),
        };
        let write = version.to_write(key, source, noted);
        let proposed = Proposed::Write(link.to_owned());
        let proposal = self.propose(cx, proposed, &Command::Write(write));
        let line = self.lines.entry(link.to_owned()).or_default();
        let (cargo, since_micros) = (Cargo::Write { proposal, version }, cx.now().steady_micros);
        line.flights.push_back(Flight { item, cargo, since_micros });
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
                let numbered = flight.item.numbered().cloned();
                self.written(cx, flight.item, &version, (&document, position));
                self.send_messages(cx, &version.messages)?;
                if let Some(Numbered { instance, asker, .. }) = numbered {
                    asker.map_or(Ok(()), |asker| self.send_to(cx, &asker.instance))?;
                    self.write_taken(cx, instance)?;
                }
                self.answer_held(cx, link, position);
                if !document.is_deleted() {
                    self.has_come(cx, link)?;
                }
                self.task_written(cx, link, *version, (document, position))?;
            }
            AppliedCommand::Fenced
            | AppliedCommand::AllWritten(_)
            | AppliedCommand::Expired(_)
            | AppliedCommand::Other => {
                self.fall_back(cx, link, 0);
                self.run_again(cx, link, flight.item)?;
            }
        }
        self.pump(cx, link)
    }

    /// The document is there now: whoever waits for it is asked again.
    pub(super) fn has_come(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        for Waiting { asked, .. } in self.absent.awaited.take(link) {
            if asked.request.method.is_write() {
                self.enqueue(cx, asked)?;
            } else {
                self.read(cx, asked);
            }
        }
        Ok(())
    }

    fn written(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        item: Item,
        version: &NewVersion,
        made: (&Document, Position),
    ) {
        let Who::Client(Asked { ticket, request, .. }) = item.who else { return };
        let (document, position) = made;
        if version.is_direct && version.task == Some(true) && request.method == Method::Post {
            self.tasks.wait_for_end(&document.link, ticket, document.expires);
            return;
        }
        let response = cx.answer_to(&request.principal, version.status, document);
        let response = with_location(response, &request, &document.link);
        self.respond(cx, ticket, &document.link, response, Some(position));
    }

    pub(super) fn answer_held(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        position: Position,
    ) {
        while let Some(line) = self.lines.get_mut(link)
            && let Some(flight) = line.flights.pop_front()
        {
            match (flight.cargo, flight.item.who) {
                (Cargo::Held(response), Who::Client(asked)) => {
                    self.leave_unchanged(cx, Unchanged { asked, response }, Some(position));
                }
                (cargo, who) => {
                    let item = Item { who, runs: flight.item.runs };
                    line.flights.push_front(Flight { item, cargo, ..flight });
                    break;
                }
            }
        }
    }

    /// What was built on a write that failed is run again: everything in flight from there on.
    pub(super) fn fall_back(&mut self, cx: &StepContext<'_, '_>, link: &str, from: usize) {
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
            self.proposals.give_up(proposal);
        }
        if self.tasks.is_not_ended(link, cx.now().steady_micros) {
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
        match &mut item.who {
            Who::Client(asked) => {
                asked.known.is_retry = true;
                if self.repeat(cx, asked)? {
                    return Ok(());
                }
                let numbered = asked.request.numbered();
                let not_taken = numbered.and_then(|it| self.why_not_taken(cx, it));
                if let Some(problem) = not_taken.or_else(|| fatal(cx, &asked.request, is_last)) {
                    self.refuse(cx, asked.ticket, link, problem);
                    return Ok(());
                }
            }
            Who::Step(step) if is_last => {
                self.step_again_later(cx, link, step.clone(), Why::without_effect());
                return Ok(());
            }
            Who::Step(_) | Who::Batch(_) => {}
        }
        let line = self.lines.entry(link.to_owned()).or_default();
        line.push_first(std::iter::once(item));
        Ok(())
    }

    fn step_again_later(&mut self, cx: &mut StepContext<'_, '_>, link: &str, step: Step, why: Why) {
        let text = why.text.clone();
        let tries = self.tasks.again_later(link, cx.now().steady_micros, step, why);
        tell_of_waiting(cx, link, tries, &text);
    }

    pub(super) fn write_refused(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        proposal: u64,
        problem: Problem,
    ) -> Result<(), StoreError> {
        let Some(line) = self.lines.get_mut(link) else { return Ok(()) };
        let index = line.flights.iter().position(|flight| flight.is_of(proposal));
        let Some(index) = index else { return Ok(()) };
        self.fall_back(cx, link, index + 1);
        let line = self.lines.get_mut(link).expect("it was there just now");
        let flight = line.flights.pop_back().expect("the refused one is the last now");
        match flight.item.who {
            Who::Client(asked) => self.refuse(cx, asked.ticket, link, problem),
            Who::Step(step) => self.step_again_later(cx, link, step, Why::no_room()),
            Who::Batch(_) => unreachable!("a batch is refused as a whole"),
        }
        self.pump(cx, link)
    }
}

/// A task whose step is not written again and again is told to the log, less and less often.
fn tell_of_waiting(cx: &mut StepContext<'_, '_>, link: &str, tries: u32, why: &str) {
    if tries >= TRIES_TOLD && tries.is_power_of_two() {
        cx.put(Output::Note(format!(
            "the task {link} waits: its next step was not written {tries} times: {why}"
        )));
    }
}

/// What the entry of a version says of the instance whose write it is, if it is one.
fn noted(cx: &StepContext<'_, '_>, request: &Request, version: &NewVersion) -> Option<Noted> {
    let Numbered { instance, after, number, asker, .. } = request.numbered()?;
    let answer = asker.as_ref().map(|asker| {
        let response = cx.answer_to(&request.principal, version.status, &version.document);
        answer_to(asker, &response)
    });
    Some(Noted { instance: *instance, after: *after, number: *number, answer })
}

/// Why a write that came back without effect cannot be run again, if it cannot.
pub(super) fn fatal(cx: &StepContext<'_, '_>, request: &Request, is_last: bool) -> Option<Problem> {
    let fence = |source: &Source| cx.partition().fence(source.partition);
    let source = request.source().filter(|source| source.epoch < fence(source));
    match source {
        Some(source) => Some(outdated(source)),
        None if is_last => Some(Problem::new(
            Code::NoOwner,
            "this node is no longer the owner of the document; try again",
        )),
        None => None,
    }
}
