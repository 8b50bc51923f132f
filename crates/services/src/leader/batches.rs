//! Batches: writes of several documents of this partition that are done together or not at all.
//!
//! A batch stands in the line at each of its documents. When it is the first in all of them and
//! nothing of them is on its way, it holds the lines, its handlers run one after the other on
//! committed versions, and one entry of the log has what they have made. The writes behind it run
//! on these versions at once, as behind any other write.
//!
//! **Invariant:** a batch waits in all of its lines, or holds all of them, or is the first in
//! flight in those where it has made a version. Two batches stand in the same order wherever they
//! meet, so none waits for the other in a circle.

use std::sync::Arc;

use documents::{AppliedCommand, Atom, AtomRequest, Command, KeptOutcome};
use group::{Output, key_reused};
use protocol::{Code, Document, Outcome, Position, Problem, Request, RequestKey, Response};
use storage::StoreError;

use super::asked::{Asked, Unchanged};
use super::batch::{Batch, Batches, Made, Part, Run, Stage};
use super::context::StepContext;
use super::line::{Cargo, Flight, Item, Line};
use super::lines::{RUNS_MAX, fatal};
use super::proposals::Proposed;
use super::question::Question;
use super::recorded::{Outcomes, recorded_response, with_location};
use super::state::PartitionLeader;
use crate::invocation::{Invoked, NewVersion, Verdict, Work};
use crate::invoker::Ran;
use crate::io::{PartitionAction, PartitionAnswer};

/// How many bytes the versions and answers of one atom may have together. More are refused.
const ATOM_BYTES_MAX: usize = 8 << 20;

/// How many handlers of a batch run in a row. Then others have their turn.
const HANDLERS_PER_TURN_MAX: usize = 256;

impl PartitionLeader {
    /// A batch is asked for.
    pub(super) fn batch(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: Asked,
    ) -> Result<(), StoreError> {
        let atom = match Atom::decode(&asked.request.body) {
            Ok(atom) => atom,
            Err(problem) => {
                self.refuse(cx, asked.ticket, &asked.request.path, problem);
                return Ok(());
            }
        };
        if !knows_all(cx, &atom) {
            self.not_known(cx, asked);
            return Ok(());
        }
        let may_run = self.is_to_be_done(cx, asked)?;
        may_run.map_or(Ok(()), |asked| self.enqueue_batch(cx, asked, atom))
    }

    fn enqueue_batch(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: Asked,
        atom: Atom,
    ) -> Result<(), StoreError> {
        let envelope = Arc::clone(&asked.request);
        let part = |AtomRequest { request, key }: AtomRequest| {
            let (principal, maker) = (envelope.principal.clone(), envelope.maker.clone());
            Part { request: Arc::new(Request { principal, maker, ..request }), key }
        };
        let requests: Vec<Part> = atom.requests.into_iter().map(part).collect();
        let most = self.duty.limits.document_queue_max;
        let is_full = |part: &&Part| {
            let link = &part.request.path;
            self.lines.get(link).map_or(0, Line::len) + self.tasks.deferred(link) >= most
        };
        if let Some(Part { request, .. }) = requests.iter().find(is_full) {
            let link = request.path.clone();
            let message = format!("{most} requests wait for {link} already; try again");
            self.refuse(cx, asked.ticket, &link, Problem::new(Code::Busy, message));
            return Ok(());
        }
        let id = self.next_number();
        for Part { request, .. } in &requests {
            self.count(cx, request);
            self.lines.entry(request.path.clone()).or_default().push(Item::batch(id));
        }
        let stage = Stage::Waiting { ready: 0 };
        self.batches.open.insert(id, Batch { asked, requests, runs: 0, stage });
        self.begin_if_ready(id);
        Ok(())
    }

    /// If the batch is the first in all of its lines and nothing of its documents is on its way, it
    /// holds the lines and its handlers are due.
    pub(super) fn begin_if_ready(&mut self, id: u64) {
        let Self { batches, lines, .. } = self;
        let batch = batches.batch_mut(id);
        let Batch { requests, stage: Stage::Waiting { ready }, .. } = batch else { return };
        let is_ready = |part: &Part| {
            lines.get(&part.request.path).is_some_and(|line: &Line| line.is_ready_for(id))
        };
        // A batch of many documents is not looked at as a whole each time that one of them moves.
        *ready += requests[*ready..].iter().take_while(|part| is_ready(part)).count();
        if *ready < requests.len() {
            return;
        }
        // A task's step may have come before it where it was the first.
        *ready = requests.iter().take_while(|part| is_ready(part)).count();
        if *ready < requests.len() {
            return;
        }
        for Part { request, .. } in requests.iter() {
            let line = lines.get_mut(&request.path).expect("it was ready just now");
            line.waiting.pop_front();
            line.held_by = Some(id);
        }
        batch.stage = Stage::Running(Run::default());
        batches.due.push_back(id);
    }

    /// Does what has become possible. Called when all else of a step is done, so that one batch
    /// that ends does not begin the next one within itself.
    pub(super) fn settle_batches(
        &mut self,
        cx: &mut StepContext<'_, '_>,
    ) -> Result<(), StoreError> {
        loop {
            if let Some(id) = self.batches.due.pop_front() {
                self.run_batch(cx, id)?;
            } else if let Some(link) = self.batches.free.pop_front() {
                self.pump(cx, &link)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Those that have had their turn have it again.
    pub(super) fn batches_go_on(&mut self) {
        self.batches.due.extend(std::mem::take(&mut self.batches.later));
    }

    fn run_batch(&mut self, cx: &mut StepContext<'_, '_>, id: u64) -> Result<(), StoreError> {
        for _ in 0..HANDLERS_PER_TURN_MAX {
            let Batch { requests, stage: Stage::Running(run), .. } = self.batches.batch_mut(id)
            else {
                unreachable!("only what holds its lines is due");
            };
            if run.made.len() == requests.len() {
                self.propose_batch(cx, id);
                return Ok(());
            }
            let Some(verdict) = self.run_next(cx, id)? else { return Ok(()) };
            if !self.take_verdict_of_batch(cx, id, verdict) {
                return Ok(());
            }
        }
        self.batches.later.push(id);
        let opening = self.duty.opening;
        cx.put(Output::Do(PartitionAction::GoOn { opening }));
        Ok(())
    }

    /// Runs the handler of the next write. `None`: it runs elsewhere.
    fn run_next(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        id: u64,
    ) -> Result<Option<Verdict>, StoreError> {
        let batch = self.batches.batch_mut(id);
        let Stage::Running(run) = &batch.stage else { return Ok(None) };
        let Part { request, key } = &batch.requests[run.made.len()];
        let (request, is_resent, runs) =
            (Arc::clone(request), batch.asked.known.is_resent, batch.runs);
        if let Some(key) = key
            && let Some(recorded) = cx.partition().recorded(cx.reader(), key)?
        {
            let is_other =
                matches!(key, RequestKey::User { digest, .. } if *digest != recorded.digest);
            if is_other {
                return Ok(Some(Verdict::Refused(key_reused(key))));
            }
            self.batches.run_mut(id).made.push(Made::Before(recorded));
            return Ok(Some(Verdict::Ended));
        }
        let link = request.path.as_str();
        let latest = cx.latest(link)?;
        let current = self.current_for(cx, latest, (request.method, runs));
        let permitted = cx.permit_write(&request, current.as_deref());
        let user_made = cx.made_of(&request.principal);
        let work = Work::Update(Arc::clone(&request));
        let invocation = self.invocation(cx, link, current, (work, is_resent, user_made));
        if let Err(problem) = permitted {
            return Ok(Some(invocation.refused(problem).verdict));
        }
        let (handlers, number) = (cx.handlers(), invocation.number);
        match handlers.invoker.invoke(&handlers.catalogue, invocation) {
            Ran::Done(invoked) => Ok(Some(invoked.verdict)),
            Ran::Elsewhere(invocation) => {
                self.batches.elsewhere.insert(number, id);
                cx.put(Output::Do(PartitionAction::Invoke(Box::new(invocation))));
                Ok(None)
            }
        }
    }

    /// A handler that ran elsewhere is done. It comes back if it was not for a batch.
    pub(super) fn invoked_for_batch(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        invoked: Invoked,
    ) -> Option<Invoked> {
        let Some(id) = self.batches.elsewhere.remove(&invoked.number) else { return Some(invoked) };
        if self.take_verdict_of_batch(cx, id, invoked.verdict) {
            self.batches.due.push_back(id);
        }
        None
    }

    /// What came of the next write. False when the batch is refused by it.
    fn take_verdict_of_batch(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        id: u64,
        verdict: Verdict,
    ) -> bool {
        let batch = self.batches.batch_mut(id);
        let Stage::Running(run) = &batch.stage else { return false };
        if matches!(verdict, Verdict::Ended) && matches!(run.made.last(), Some(Made::Before(_))) {
            return true;
        }
        let index = run.made.len();
        let request = Arc::clone(&batch.requests[index].request);
        let (made, bytes) = match cx.permit_result(&request, verdict) {
            Verdict::Write(version) => match self.why_not_in_batch(cx, &request, &version) {
                Some(problem) => return self.refuse_batch(cx, id, Ending::Said(problem.into())),
                None => {
                    let sent = version.messages.iter().map(|it| it.to.len() + it.payload.len());
                    let bytes = version.document.body.len() + sent.sum::<usize>();
                    (Made::New(version), bytes)
                }
            },
            Verdict::Refused(problem) => {
                return self.refuse_batch(cx, id, Ending::Said(problem.into()));
            }
            // It is true only while this node is the owner, as a quorum has to say.
            Verdict::AsItIs(response) if !response.is_success() => {
                return self.refuse_batch(cx, id, Ending::Held(response));
            }
            Verdict::AsItIs(response) => {
                let bytes = response.body.len();
                (Made::Said(response), bytes)
            }
            Verdict::Shown(document) => {
                let bytes = document.body.len();
                (Made::Shown(document), bytes)
            }
            Verdict::Ask(_) => {
                let problem = Problem::bad_request(format!(
                    "the handlers of {} are in a program outside, and a batch does not wait for \
                     one: send it by itself",
                    request.path
                ));
                return self.refuse_batch(cx, id, Ending::Said(problem.into()));
            }
            Verdict::Calls(_) | Verdict::Ended | Verdict::Held { .. } => {
                let problem = Problem::internal("a write was run as a task's step");
                return self.refuse_batch(cx, id, Ending::Said(problem.into()));
            }
        };
        let run = self.batches.run_mut(id);
        run.bytes += bytes;
        run.made.push(made);
        if run.bytes <= ATOM_BYTES_MAX {
            return true;
        }
        run.made.pop();
        let text = format!(
            "with this request the versions of the batch, and what they send, have more than \
             {ATOM_BYTES_MAX} bytes in one partition: send it in several batches"
        );
        self.refuse_batch(cx, id, Ending::Said(Problem::new(Code::TooLarge, text).into()))
    }

    /// Why a version cannot be one of several.
    fn why_not_in_batch(
        &self,
        cx: &StepContext<'_, '_>,
        request: &Request,
        version: &NewVersion,
    ) -> Option<Problem> {
        if version.is_direct && version.task == Some(true) {
            let text = format!(
                "{} is a direct task, which is answered when it has ended: leave out \
                 taskInfo.isDirect, or send it by itself",
                request.path
            );
            return Some(Problem::bad_request(text));
        }
        let (code, why) = self.why_not_sent(cx, &version.messages)?;
        Some(Problem::new(code, format!("{}; {}", why.text, why.remedy)))
    }

    /// Nothing of the batch is done, because of its next write. Gives false.
    fn refuse_batch(&mut self, cx: &mut StepContext<'_, '_>, id: u64, ending: Ending) -> bool {
        let index = self.batches.run_mut(id).made.len();
        let Batch { asked, requests, .. } = self.close_batch(id);
        self.let_go(id, &requests);
        match ending {
            Ending::Said(response) => {
                let answer = PartitionAnswer::Response(refused_at(index, &response));
                cx.put(Output::Answer { ticket: asked.ticket, answer, position: None });
            }
            Ending::Held(response) => {
                let (ticket, response) = (asked.ticket, refused_at(index, &response));
                self.confirm(cx, ticket, Question::Held(Unchanged { asked, response }));
            }
        }
        false
    }

    fn close_batch(&mut self, id: u64) -> Batch {
        self.batches.open.remove(&id).expect("a batch is open until it is answered")
    }

    /// The lines go on.
    fn let_go(&mut self, id: u64, requests: &[Part]) {
        for Part { request, .. } in requests {
            let Some(line) = self.lines.get_mut(&request.path) else { continue };
            if line.held_by == Some(id) {
                line.held_by = None;
            }
            self.batches.free.push_back(request.path.clone());
        }
    }

    fn propose_batch(&mut self, cx: &mut StepContext<'_, '_>, id: u64) {
        let made = std::mem::take(&mut self.batches.run_mut(id).made);
        let batch = self.batches.batch_mut(id);
        let (key, source) = (batch.asked.known.key.clone(), batch.asked.request.source());
        let kept: Vec<KeptOutcome> = made.iter().map(Made::kept).collect();
        let parts = made.iter().zip(&batch.requests);
        let writes = parts.filter_map(|(made, part)| made.write(part.key.clone(), source));
        let writes = writes.collect();
        let outcomes = KeptOutcome::encode(&kept);
        let (epoch, at) = (self.duty.epoch, self.clock.tick(cx.now().wall));
        let head = documents::BatchHead { epoch, key, outcomes, at, source };
        let command = Command::Batch(Box::new(documents::Batch { head, writes }));
        let proposal = self.propose(cx, Proposed::Batch(id), &command);
        let since_micros = cx.now().steady_micros;
        let Self { batches: Batches { open, free, .. }, lines, .. } = self;
        let batch = open.get_mut(&id).expect("a batch is open until it is answered");
        let mut flying = Vec::with_capacity(made.len());
        for (made, Part { request, .. }) in made.into_iter().zip(&batch.requests) {
            let line = lines.get_mut(&request.path).expect("a batch holds its lines");
            line.held_by = None;
            if !line.waiting.is_empty() || line.is_idle() {
                free.push_back(request.path.clone());
            }
            flying.push(match made {
                Made::New(version) => {
                    let in_flight = Made::InFlight {
                        status: version.status,
                        written: version.document.updated,
                        version: version.document.version,
                    };
                    let cargo = Cargo::Write { proposal, version };
                    line.flights.push_back(Flight { item: Item::batch(id), cargo, since_micros });
                    in_flight
                }
                other => other,
            });
        }
        batch.stage = Stage::InFlight { proposal, made: flying };
    }

    /// What was proposed came back through the log.
    pub(super) fn batch_applied(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        id: u64,
        (position, effect): (Position, AppliedCommand),
    ) -> Result<(), StoreError> {
        let mut batch = self.close_batch(id);
        let versions = self.take_flights(&batch);
        let AppliedCommand::AllWritten(documents) = effect else {
            for (link, _) in &versions {
                self.fall_back(cx, link, 0);
            }
            batch.runs += 1;
            return self.run_batch_again(cx, id, batch);
        };
        self.answer_batch(cx, &batch, &documents, position);
        for ((link, version), document) in versions.into_iter().zip(documents) {
            self.send_messages(cx, &version.messages)?;
            self.answer_held(cx, &link, position);
            if !document.is_deleted() {
                self.has_come(cx, &link)?;
            }
            self.task_written(cx, &link, *version, (document, position))?;
            self.batches.free.push_back(link);
        }
        Ok(())
    }

    /// The versions of a batch that were in flight, with their links.
    fn take_flights(&mut self, batch: &Batch) -> Vec<(String, Box<NewVersion>)> {
        let Stage::InFlight { proposal, made } = &batch.stage else {
            unreachable!("what comes back was proposed");
        };
        let mut versions = Vec::with_capacity(made.len());
        for (made, link) in made.iter().zip(batch.links()) {
            if !matches!(made, Made::InFlight { .. }) {
                continue;
            }
            let line = self.lines.get_mut(link).expect("a proposal in flight has a line");
            let flight = line.flights.pop_front().expect("a proposal in flight is in its line");
            match flight.cargo {
                Cargo::Write { proposal: it, version } if it == *proposal => {
                    versions.push((link.to_owned(), version));
                }
                _ => unreachable!("a batch is the first in flight in each of its lines"),
            }
        }
        versions
    }

    fn run_batch_again(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        id: u64,
        mut batch: Batch,
    ) -> Result<(), StoreError> {
        batch.asked.known.is_retry = true;
        let is_done = self.repeat(cx, &batch.asked)?;
        let fatal = (!is_done).then(|| fatal(cx, &batch.asked.request, batch.runs >= RUNS_MAX));
        if let Some(problem) = fatal.flatten() {
            self.refuse(cx, batch.asked.ticket, &batch.asked.request.path, problem);
            self.let_go(id, &batch.requests);
        } else if is_done {
            self.let_go(id, &batch.requests);
        } else {
            for link in batch.links() {
                let line = self.lines.entry(link.to_owned()).or_default();
                line.push_first(std::iter::once(Item::batch(id)));
            }
            batch.stage = Stage::Waiting { ready: 0 };
            self.batches.open.insert(id, batch);
            self.begin_if_ready(id);
        }
        Ok(())
    }

    /// It was surely not put into the log: too much is under way.
    pub(super) fn batch_not_proposed(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        id: u64,
        problem: Problem,
    ) {
        let batch = self.close_batch(id);
        for (link, _) in self.take_flights(&batch) {
            self.fall_back(cx, &link, 0);
        }
        self.refuse(cx, batch.asked.ticket, &batch.asked.request.path, problem);
        self.let_go(id, &batch.requests);
    }

    fn answer_batch(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        batch: &Batch,
        documents: &[Arc<Document>],
        position: Position,
    ) {
        let Stage::InFlight { made, .. } = &batch.stage else { return };
        let mut written = documents.iter();
        let mut outcomes = Outcomes::default();
        for (made, Part { request, .. }) in made.iter().zip(&batch.requests) {
            let principal = &request.principal;
            let response = match made {
                Made::InFlight { status, .. } => {
                    let document = written.next().expect("each version in flight was written");
                    Ok(cx.answer_to(principal, *status, document))
                }
                Made::Shown(document) => Ok(cx.answer_to(principal, 200, document)),
                Made::Said(response) => Ok(response.clone()),
                Made::Before(recorded) => recorded_response(cx, request, recorded),
                Made::New(_) => unreachable!("it is in flight"),
            };
            let response = response.unwrap_or_else(|error| {
                Problem::new(Code::Storage, error.to_string()).with_outcome(Outcome::Unknown).into()
            });
            outcomes.push(&with_location(response, request, &request.path));
        }
        self.respond(
            cx,
            batch.asked.ticket,
            &batch.asked.request.path,
            outcomes.answer(),
            Some(position),
        );
    }
}

/// How a batch ends that is not done.
enum Ending {
    /// Whatever the state is.
    Said(Response),
    /// Because of the state as it is.
    Held(Response),
}

/// Whether this node has services for all documents of a batch.
pub(super) fn knows_all(cx: &StepContext<'_, '_>, atom: &Atom) -> bool {
    let catalogue = &cx.handlers().catalogue;
    atom.requests.iter().all(|part| catalogue.spec_of(&part.request.path).is_some())
}

/// The answer to a batch that is not done because of this write of it.
fn refused_at(index: usize, response: &Response) -> Response {
    let mut body = response.to_json();
    if let Some(fields) = body.as_object_mut() {
        fields.insert("request".into(), index.into());
        fields.entry("outcome").or_insert_with(|| "notApplied".into());
    }
    let retry_after_seconds = response.retry_after_seconds;
    Response { retry_after_seconds, ..Response::json(response.status, &body) }
}
