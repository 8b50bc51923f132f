//! The desk: handles the requests for one partition on its owner.
//!
//! Writes of one document run one at a time, in order of arrival ([`lines`]); the desk works ahead
//! on versions that are not committed yet and answers when they are applied. Reads wait for a
//! quorum to confirm the ownership and then see the applied state ([`reads`]). Repeats are found
//! by their keys ([`tickets`]). Tasks take their steps here too ([`tasks`]).

mod io;
mod lines;
mod reads;
mod tasks;
mod tickets;

pub use io::{Answer, DeskInput, DeskOptions, Output, DeskRequest, Ground, OpenRequest};
pub use tasks::CALL_TRIES_MAX;

use std::collections::BTreeMap;
use std::sync::Arc;

use documents::{AppliedCommand, Command, Retention, Write};
use protocol::{
    Action, Body, Code, Document, GroupId, Moment, Now, Outcome, Position, Problem, Request,
    Response, Source, links,
};
use storage::{Reader, Space, StoreError};

use crate::utilities::Stats;
use lines::Line;
use reads::{Question, Searches};
use tasks::Tasks;
use tickets::{Known, Tickets};

/// How many requests may wait for one document. More are answered with BUSY.
pub const DOCUMENT_QUEUE_MAX: usize = 1_000;
/// How many requests may wait at one desk. More are answered with BUSY.
pub const REQUESTS_MAX: usize = 20_000;
/// How many tasks of one partition take steps at the same time. Others wait their cx.
pub const TASKS_RUNNING_MAX: usize = 256;
/// How many expired documents go with one entry of the log.
const EXPIRE_LINKS_MAX: u32 = 500;
/// How often the desk looks for expired documents.
const EXPIRE_EVERY_MICROS: u64 = 1_000_000;

/// Handles the requests for one partition. Made when this node becomes the serving owner, closed
/// when it ceases to be.
pub struct PartitionLeader {
    options: DeskOptions,
    node_id: Arc<str>,
    /// The last number given to an invocation, a proposal or a call.
    number: u64,
    tickets: Tickets,
    lines: BTreeMap<String, Line>,
    /// The link that each running handler works for.
    invocations: BTreeMap<u64, String>,
    proposals: BTreeMap<u64, Proposed>,
    /// What waits for a quorum's word, by ticket.
    questions: BTreeMap<u64, Question>,
    searches: Searches,
    tasks: Tasks,
    stats: Stats,
    /// When to look for expired documents again.
    expire_at_micros: u64,
}

/// What a proposal was made for.
enum Proposed {
    /// A new version of the document with that link.
    Write(String),
    Fence {
        ticket: u64,
    },
    /// What has expired goes.
    Expire,
}

/// One step's surroundings.
struct Turn<'a, 'b> {
    now: Now,
    at: &'a mut Ground<'b>,
    outputs: &'a mut Vec<Output>,
}

impl Turn<'_, '_> {
    fn put(&mut self, output: Output) {
        self.outputs.push(output);
    }

    fn reader(&self) -> &dyn Reader {
        &*self.at.store
    }

    fn latest(&self, link: &str) -> Result<Option<Arc<Document>>, StoreError> {
        self.at.partition.latest(self.reader(), link)
    }

    /// Up to where the partition's log is applied.
    fn position(&self, partition: GroupId) -> Result<Position, StoreError> {
        let (_, applied) = Space::open(self.reader(), partition)?;
        Ok(applied.position)
    }
}

impl PartitionLeader {
    pub fn new(options: DeskOptions) -> Self {
        Self {
            node_id: options.node_id.clone().into(),
            tasks: Tasks::new(options.tasks_running_max),
            options,
            number: 0,
            tickets: Tickets::default(),
            lines: BTreeMap::new(),
            invocations: BTreeMap::new(),
            proposals: BTreeMap::new(),
            questions: BTreeMap::new(),
            searches: Searches::default(),
            stats: Stats::default(),
            expire_at_micros: 0,
        }
    }

    pub fn options(&self) -> &DeskOptions {
        &self.options
    }

    /// Takes one input and says what must be done.
    ///
    /// # Errors
    /// When the store cannot be read or written; the node cannot go on then.
    pub fn step(
        &mut self,
        now: Now,
        input: DeskInput,
        at: &mut Ground<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let turn = &mut StepContext { now, at, outputs };
        match input {
            DeskInput::Opened => self.opened(cx),
            DeskInput::Request { ticket, request, key, again } => {
                self.request(cx, ticket, request, Known { key, again })
            }
            DeskInput::Invoked(invoked) => self.invoked(cx, invoked),
            DeskInput::Applied { proposal, position, outcome } => {
                self.applied(cx, proposal, position, outcome)
            }
            DeskInput::Refused { proposal, problem } => self.refused(cx, proposal, problem),
            DeskInput::Confirmed { ticket } => self.confirmed(cx, ticket),
            DeskInput::Called { call, response } => self.called(cx, call, response),
            DeskInput::Fenced => self.fenced(cx),
            DeskInput::Tick => self.tick(cx),
        }
    }

    /// The node is no longer the owner: which requests are left without an answer.
    pub fn close(self) -> Vec<OpenRequest> {
        self.tickets.close()
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn source(&self) -> Source {
        Source { partition: self.options.partition, epoch: self.options.epoch }
    }

    fn request(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: DeskRequest,
        known: Known,
    ) -> Result<(), StoreError> {
        let is_full = self.tickets.len() >= self.options.requests_max;
        self.tickets.open(ticket);
        if is_full {
            let limit = self.options.requests_max;
            let message = format!("{limit} requests wait for this partition already; try again");
            self.refuse(cx, ticket, Problem::new(Code::Busy, message));
            return Ok(());
        }
        match request {
            DeskRequest::Rest(request) => self.rest(cx, ticket, Arc::new(request), known),
            DeskRequest::Query { spec_json, cursor, limit } => {
                self.query(cx, ticket, &spec_json, (cursor, limit));
                Ok(())
            }
            DeskRequest::Fence(source) => self.fence(cx, ticket, source),
            DeskRequest::Available => {
                self.ask(cx, ticket, Question::Available);
                Ok(())
            }
        }
    }

    fn rest(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: Arc<Request>,
        known: Known,
    ) -> Result<(), StoreError> {
        self.tickets.set_request(ticket, Arc::clone(&request));
        let (link, utility) = links::split_utility(&request.path);
        let catalogue = cx.catalogue();
        let of_factory = if utility.is_some() { catalogue.spec(link) } else { None };
        let Some(spec) = of_factory.or_else(|| catalogue.spec_of(link)) else {
            self.refuse(cx, ticket, catalogue.unknown_service(link));
            return Ok(());
        };
        self.stats.count(&spec.factory, count_name(&request), cx.now.wall);
        if utility.is_some() || !request.method.is_write() {
            self.read(cx, ticket, request);
            return Ok(());
        }
        self.write(cx, ticket, request, known)
    }

    /// A write: is it new, and may it be made?
    fn write(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: Arc<Request>,
        known: Known,
    ) -> Result<(), StoreError> {
        match self.tickets.join(ticket, &known) {
            tickets::Joined::First => {}
            tickets::Joined::Repeat => return Ok(()),
            tickets::Joined::Refused(problem) => {
                self.refuse(cx, ticket, problem);
                return Ok(());
            }
        }
        // A repeat first: what a replaced owner has done before it was replaced is done.
        if self.repeat(cx, ticket, &request, &known)? {
            return Ok(());
        }
        if let Some(source) = request.source
            && source.epoch < cx.partition().fence(source.partition)
        {
            self.refuse(cx, ticket, outdated(source));
            return Ok(());
        }
        self.enqueue(cx, ticket, request, known.key)
    }

    fn fence(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        source: Source,
    ) -> Result<(), StoreError> {
        let present = cx.partition().fence(source.partition);
        if present > source.epoch {
            self.refuse(cx, ticket, outdated(source));
        } else if present == source.epoch {
            let position = cx.position(self.options.partition)?;
            self.answer(cx, ticket, Answer::Response(nothing()), Some(position));
        } else {
            let proposal = self.next_number();
            self.proposals.insert(proposal, Proposed::Fence { ticket });
            self.tickets.set_proposed(ticket);
            cx.put(Output::Propose { proposal, command: Command::Fence(source).encode() });
        }
        Ok(())
    }

    fn applied(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        proposal: u64,
        position: Position,
        outcome: AppliedCommand,
    ) -> Result<(), StoreError> {
        match self.proposals.remove(&proposal) {
            // It was given up because one before it was fenced, so it could not be written either.
            None => assert!(
                !matches!(outcome, AppliedCommand::Written(_)),
                "proposal {proposal} was given up and is written all the same"
            ),
            Some(Proposed::Write(link)) => {
                return self.write_applied(cx, &link, proposal, (position, outcome));
            }
            Some(Proposed::Fence { ticket }) if outcome == AppliedCommand::Fenced => {
                let message = "a newer owner of that partition has fenced it";
                self.refuse(cx, ticket, Problem::new(Code::Fenced, message));
            }
            Some(Proposed::Fence { ticket }) => {
                self.answer(cx, ticket, Answer::Response(nothing()), Some(position));
            }
            Some(Proposed::Expire) => {}
        }
        Ok(())
    }

    fn refused(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        proposal: u64,
        problem: Problem,
    ) -> Result<(), StoreError> {
        match self.proposals.remove(&proposal) {
            Some(Proposed::Write(link)) => self.write_refused(cx, &link, proposal, problem),
            Some(Proposed::Fence { ticket }) => {
                self.refuse(cx, ticket, problem);
                Ok(())
            }
            Some(Proposed::Expire) | None => Ok(()),
        }
    }

    fn tick(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tick_tasks(cx)?;
        if cx.now.steady_micros >= self.expire_at_micros {
            self.expire_at_micros = cx.now.steady_micros + EXPIRE_EVERY_MICROS;
            self.expire(cx)?;
        }
        self.tick_index(cx)
    }

    /// Proposes that expired documents go, when there are any.
    fn expire(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tasks_expired(cx)?;
        let under_way = self.proposals.values().any(|it| matches!(it, Proposed::Expire));
        if !under_way && cx.partition().expiration_due(cx.reader(), cx.now.wall)? {
            self.propose_expiration(cx);
        }
        Ok(())
    }

    /// Proposes that a document goes which has expired, whoever else has. With a long history it is only
    /// the first to go then.
    fn propose_purge(&mut self, cx: &mut StepContext<'_, '_>, expired: &Document) {
        let document = Document {
            link: expired.link.clone(),
            version: expired.version + 1,
            epoch: self.options.epoch,
            kind: expired.kind.clone(),
            action: Action::Delete,
            updated: cx.now.wall,
            expires: Moment(0),
            owner: self.options.node_id.clone(),
            body: Body::empty(),
        };
        let write = Write {
            document,
            key: None,
            status: 200,
            retention: Retention { limit: 1, floor: 1 },
            source: None,
            task: None,
            purge: true,
            response: None,
        };
        let proposal = self.next_number();
        self.proposals.insert(proposal, Proposed::Expire);
        let command = Command::Write(write).encode();
        cx.put(Output::Propose { proposal, command });
    }

    fn propose_expiration(&mut self, cx: &mut StepContext<'_, '_>) {
        let proposal = self.next_number();
        self.proposals.insert(proposal, Proposed::Expire);
        let command = Command::Expire { at: cx.now.wall, links_max: EXPIRE_LINKS_MAX }.encode();
        cx.put(Output::Propose { proposal, command });
    }

    /// Answers a request and all its repeats.
    fn answer(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        answer: Answer,
        position: Option<Position>,
    ) {
        let done = self.tickets.done(ticket);
        if let (Answer::Response(response), Some(request)) = (&answer, &done.request) {
            self.count_failure(cx, request, response);
        }
        for repeat in done.repeats {
            cx.put(Output::Answer { ticket: repeat, answer: answer.clone(), position });
        }
        cx.put(Output::Answer { ticket, answer, position });
    }

    fn respond(&mut self, cx: &mut StepContext<'_, '_>, ticket: u64, response: Response) {
        self.answer(cx, ticket, Answer::Response(response), None);
    }

    /// Answers with an error; a write was surely not applied.
    fn refuse(&mut self, cx: &mut StepContext<'_, '_>, ticket: u64, problem: Problem) {
        let is_write = self.tickets.request(ticket).is_some_and(|it| it.method.is_write());
        let outcome = problem.outcome.or(is_write.then_some(Outcome::NotApplied));
        self.respond(cx, ticket, Problem { outcome, ..problem }.into());
    }

    fn count_failure(&mut self, cx: &StepContext<'_, '_>, request: &Request, response: &Response) {
        if response.is_success() {
            return;
        }
        let (link, _) = links::split_utility(&request.path);
        let catalogue = cx.catalogue();
        let Some(spec) = catalogue.spec_of(link).or_else(|| catalogue.spec(link)) else { return };
        let name = if response.status == Code::Busy.status() {
            "requestFailureQueueLimitExceededCount"
        } else {
            "requestFailureCount"
        };
        self.stats.count(&spec.factory, name, cx.now.wall);
    }
}

fn outdated(source: Source) -> Problem {
    let message = format!(
        "this request comes from the owner of partition {} in term {}, which was replaced",
        source.partition, source.epoch
    );
    Problem::new(Code::Fenced, message).with_outcome(Outcome::NotApplied)
}

fn nothing() -> Response {
    Response::bytes(200, bytes::Bytes::new())
}

fn count_name(request: &Request) -> &'static str {
    use protocol::Method;
    match request.method {
        Method::Get => "GETrequestCount",
        Method::Post => "POSTrequestCount",
        Method::Put => "PUTrequestCount",
        Method::Patch => "PATCHrequestCount",
        Method::Delete => "DELETErequestCount",
        Method::Options => "OPTIONSrequestCount",
    }
}
