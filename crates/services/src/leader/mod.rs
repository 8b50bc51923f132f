//! The leader of a partition: handles the requests for its documents while this node owns it.
//!
//! Writes of one document run one at a time, in order of arrival ([`lines`]). The leader works
//! ahead on versions that are not committed yet and answers when they are applied. Reads wait for a
//! quorum to confirm the ownership and then see the applied state ([`reads`]). Repeats are found by
//! their keys ([`repeats`]). Tasks take their steps here too ([`tasks`]).

mod awaited;
mod lines;
mod permission;
mod reads;
mod repeats;
mod searches;
mod tasks;
mod unchanged;
mod undefined;

pub use searches::compile;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use documents::{AppliedCommand, Command, Partition, Retention, Write};
use group::{Context, LeaderInput, Output};
use protocol::{
    Action, Body, Code, Document, Epoch, GroupId, Moment, Now, Outcome, Position, Problem, Request,
    RequestKey, Response, Source, links,
};
use storage::{Reader, Space, StoreError};

use crate::machine::{
    Handlers, Limits, PartitionAnswer, PartitionEvent, PartitionMachine, PartitionQuestion,
};
use crate::utilities::Stats;
use awaited::Awaited;
use lines::Line;
use reads::Question;
use searches::{Query, Searches};
use tasks::Tasks;
use unchanged::Unchanged;

/// How many requests may wait for one document. More are answered with BUSY.
pub const DOCUMENT_QUEUE_MAX: usize = 1_000;
/// How many tasks of one partition take steps at the same time. Others wait their turn.
pub const TASKS_RUNNING_MAX: usize = 256;
/// How many expired documents go with one entry of the log.
const EXPIRE_LINKS_MAX: u32 = 500;
/// How often the leader looks for expired documents.
const EXPIRE_EVERY_MICROS: u64 = 1_000_000;

/// What this leader is made for.
struct Duty {
    partition: GroupId,
    /// The term in which this node owns the partition.
    epoch: Epoch,
    /// Tells this leader from others that the same owner had in the same term: handlers that were
    /// begun for those may still be running.
    opening: u64,
    limits: Limits,
}

/// Handles the requests for one partition.
pub struct PartitionLeader {
    duty: Duty,
    /// The last number given to an invocation, a proposal or a call.
    number: u64,
    lines: BTreeMap<String, Line>,
    /// What is in the log and not applied yet, in order.
    proposals: VecDeque<(u64, Proposed)>,
    /// What waits for a quorum's word, by ticket.
    questions: BTreeMap<u64, Question>,
    searches: Searches,
    tasks: Tasks,
    stats: Stats,
    /// When to look for expired documents again.
    expire_at_micros: u64,
    clock: Clock,
    awaited: Awaited,
    /// For kinds that this node does not know. Each has a place in the table of requests.
    undefined: Vec<undefined::Waiting>,
}

/// The time of this leader's writes. No two have the same, whatever the wall clock does: the time
/// is in a document's entity tag, which must not come again.
#[derive(Default)]
struct Clock(Moment);

impl Clock {
    fn tick(&mut self, wall: Moment) -> Moment {
        self.0 = Moment(wall.0.max(self.0.0 + 1));
        self.0
    }
}

/// What a proposal was made for.
enum Proposed {
    /// A new version of the document with that link.
    Write(String),
    Fence {
        ticket: u64,
    },
    /// What is answered to a write that changed nothing.
    Remember(Box<Unchanged>),
    /// What has expired goes.
    Expire,
    /// One before it came back without effect, so it will have none either.
    GivenUp,
}

/// What the leader works with in one step.
struct StepContext<'a, 'b> {
    machine: &'a mut PartitionMachine,
    at: &'a mut Context<'b, Handlers>,
    out: &'a mut Vec<Output<PartitionMachine>>,
}

impl<'b> StepContext<'_, 'b> {
    fn now(&self) -> Now {
        self.at.now
    }

    fn put(&mut self, output: Output<PartitionMachine>) {
        self.out.push(output);
    }

    fn reader(&self) -> &dyn Reader {
        &*self.at.store
    }

    fn handlers(&self) -> &'b Handlers {
        self.at.around
    }

    fn partition(&self) -> &Partition {
        &self.machine.partition
    }

    fn latest(&self, link: &str) -> Result<Option<Arc<Document>>, StoreError> {
        self.machine.partition.latest(&*self.at.store, link)
    }

    /// Up to where the partition's log is applied.
    fn position(&self, partition: GroupId) -> Result<Position, StoreError> {
        let (_, applied) = Space::open(self.reader(), partition)?;
        Ok(applied.position)
    }
}

impl PartitionLeader {
    pub(crate) fn new(partition: GroupId, epoch: Epoch, opening: u64, limits: Limits) -> Self {
        Self {
            duty: Duty { partition, epoch, opening, limits },
            number: 0,
            lines: BTreeMap::new(),
            proposals: VecDeque::new(),
            questions: BTreeMap::new(),
            searches: Searches::default(),
            tasks: Tasks::new(limits.tasks_running_max),
            stats: Stats::default(),
            expire_at_micros: 0,
            clock: Clock::default(),
            awaited: Awaited::default(),
            undefined: Vec::new(),
        }
    }

    /// Looks for tasks that the last owner has left in progress.
    pub(crate) fn resume_tasks(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        self.opened(&mut StepContext { machine, at, out })
    }

    /// Takes one input and says what must be done.
    pub(crate) fn take(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        input: LeaderInput<PartitionMachine>,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        let cx = &mut StepContext { machine, at, out };
        match input {
            LeaderInput::Ask { ticket, question, key, is_retry } => {
                let is_resent = matches!(question, PartitionQuestion::Resent(_));
                self.ask(cx, ticket, question, Known { key, is_retry, is_resent })
            }
            LeaderInput::Applied { proposal, position, effect } => {
                self.applied(cx, proposal, position, effect)
            }
            LeaderInput::Refused { proposal } => self.refused(cx, proposal),
            LeaderInput::Confirmed { ticket } => self.confirmed(cx, ticket),
            LeaderInput::Tick => self.tick(cx),
        }
    }

    pub(crate) fn happened(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        event: PartitionEvent,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        let cx = &mut StepContext { machine, at, out };
        let mine = self.duty.opening;
        match event {
            PartitionEvent::Invoked(invoked) => self.invoked(cx, invoked),
            PartitionEvent::Called { opening, call, response } if opening == mine => {
                self.called(cx, call, response)
            }
            PartitionEvent::Fenced { opening } if opening == mine => self.fenced(cx),
            PartitionEvent::Searched { opening, ticket, found } if opening == mine => {
                searches::found(cx, ticket, found);
                Ok(())
            }
            PartitionEvent::GoOn { opening } if opening == mine => self.search_on(cx),
            // It was begun by a leader that is gone.
            PartitionEvent::Called { .. }
            | PartitionEvent::Fenced { .. }
            | PartitionEvent::Searched { .. }
            | PartitionEvent::GoOn { .. } => Ok(()),
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn source(&self) -> Source {
        Source { partition: self.duty.partition, epoch: self.duty.epoch }
    }

    fn ask(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        question: PartitionQuestion,
        known: Known,
    ) -> Result<(), StoreError> {
        match question {
            PartitionQuestion::Rest(request) | PartitionQuestion::Resent(request) => {
                self.rest(cx, ticket, Arc::new(request), known)
            }
            PartitionQuestion::Query {
                spec_json,
                cursor,
                limit,
                bytes,
                effort,
                left_micros,
                principal,
            } => {
                let filter = cx.handlers().guard.filter(&principal);
                let (text, after) = (spec_json, cursor);
                let query = Query { text, after, limit, bytes, effort, left_micros, filter };
                self.query(cx, ticket, query);
                Ok(())
            }
            PartitionQuestion::Fence(source) => self.fence(cx, ticket, source),
            PartitionQuestion::Available => {
                self.confirm(cx, ticket, Question::Available);
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
        let (link, utility) = links::split_utility(&request.path);
        let catalogue = &cx.handlers().catalogue;
        let of_factory = if utility.is_some() { catalogue.spec(link) } else { None };
        let Some(spec) = of_factory.or_else(|| catalogue.spec_of(link)) else {
            self.not_known(cx, ticket, request, known);
            return Ok(());
        };
        let document = of_factory.is_none().then_some(link);
        self.stats.count(&spec.factory, document, count_name(&request), cx.now().wall);
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
        // A repeat first: what a replaced owner has done before it was replaced is done.
        if self.repeat(cx, ticket, &request, &known)? {
            return Ok(());
        }
        if let Some(source) = request.source
            && source.epoch < cx.partition().fence(source.partition)
        {
            self.refuse(cx, ticket, &request.path, outdated(source));
            return Ok(());
        }
        self.enqueue(cx, ticket, request, known)
    }

    fn fence(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        source: Source,
    ) -> Result<(), StoreError> {
        let present = cx.partition().fence(source.partition);
        if present > source.epoch {
            cx.put(Output::Refuse { ticket, problem: outdated(source) });
        } else if present == source.epoch {
            let position = cx.position(self.duty.partition)?;
            answer(cx, ticket, nothing(), Some(position));
        } else {
            let proposal = self.next_number();
            self.proposals.push_back((proposal, Proposed::Fence { ticket }));
            cx.put(Output::Propose { proposal, data: Command::Fence(source).encode() });
        }
        Ok(())
    }

    fn applied(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        proposal: u64,
        position: Position,
        effect: AppliedCommand,
    ) -> Result<(), StoreError> {
        let (first, proposed) = self.proposals.pop_front().expect("what comes back was proposed");
        assert!(first == proposal, "proposals come back in order: {proposal}, awaited {first}");
        match proposed {
            Proposed::GivenUp => assert!(
                !matches!(effect, AppliedCommand::Written(_)),
                "proposal {proposal} was given up and is written all the same"
            ),
            Proposed::Write(link) => {
                return self.write_applied(cx, &link, proposal, (position, effect));
            }
            Proposed::Fence { ticket } if effect == AppliedCommand::Fenced => {
                let message = "a newer owner of that partition has fenced it";
                let problem = Problem::new(Code::Fenced, message);
                cx.put(Output::Refuse { ticket, problem });
            }
            Proposed::Fence { ticket } => answer(cx, ticket, nothing(), Some(position)),
            Proposed::Remember(unchanged) => {
                return self.remembered(cx, *unchanged, (position, effect));
            }
            Proposed::Expire => {}
        }
        Ok(())
    }

    /// The last proposal was surely not put into the log: too much is under way.
    fn refused(&mut self, cx: &mut StepContext<'_, '_>, proposal: u64) -> Result<(), StoreError> {
        let at = self.proposals.iter().position(|(number, _)| *number == proposal);
        let Some((_, proposed)) = at.and_then(|at| self.proposals.remove(at)) else {
            return Ok(());
        };
        let text =
            format!("partition {} has too many writes under way; try again", self.duty.partition);
        let problem = Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied);
        match proposed {
            Proposed::Write(link) => self.write_refused(cx, &link, proposal, problem),
            Proposed::Fence { ticket } => {
                cx.put(Output::Refuse { ticket, problem });
                Ok(())
            }
            Proposed::Remember(unchanged) => {
                self.refuse(cx, unchanged.ticket, &unchanged.request.path, problem);
                Ok(())
            }
            Proposed::Expire | Proposed::GivenUp => Ok(()),
        }
    }

    /// Whatever comes of a proposal has no effect here any more.
    fn give_up(&mut self, proposal: u64) {
        if let Ok(at) = self.proposals.binary_search_by_key(&proposal, |(number, _)| *number) {
            self.proposals[at].1 = Proposed::GivenUp;
        }
    }

    fn tick(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tick_tasks(cx)?;
        self.tick_awaited(cx);
        self.look_for_definitions(cx)?;
        if cx.now().steady_micros >= self.expire_at_micros {
            self.expire_at_micros = cx.now().steady_micros + EXPIRE_EVERY_MICROS;
            self.expire(cx)?;
        }
        self.tick_index(cx)
    }

    /// Proposes that expired documents go, when there are any.
    fn expire(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tasks_expired(cx)?;
        let under_way = self.proposals.iter().any(|(_, it)| matches!(it, Proposed::Expire));
        if !under_way && cx.partition().expiration_due(cx.reader(), cx.now().wall)? {
            self.propose_expiration(cx);
        }
        Ok(())
    }

    /// Proposes that an expired document goes, whatever else has expired. With a long history it is
    /// only the first to go then.
    fn propose_purge(&mut self, cx: &mut StepContext<'_, '_>, expired: &Document) {
        let document = Document {
            link: expired.link.clone(),
            version: expired.version + 1,
            epoch: self.duty.epoch,
            kind: expired.kind.clone(),
            action: Action::Delete,
            updated: cx.now().wall,
            expires: Moment(0),
            owner: cx.handlers().node_id.to_string(),
            author: None,
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
        self.proposals.push_back((proposal, Proposed::Expire));
        cx.put(Output::Propose { proposal, data: Command::Write(write).encode() });
    }

    fn propose_expiration(&mut self, cx: &mut StepContext<'_, '_>) {
        let proposal = self.next_number();
        self.proposals.push_back((proposal, Proposed::Expire));
        let command = Command::Expire { at: cx.now().wall, links_max: EXPIRE_LINKS_MAX };
        cx.put(Output::Propose { proposal, data: command.encode() });
    }

    /// Answers a request about a document.
    fn respond(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        link: &str,
        response: Response,
        position: Option<Position>,
    ) {
        self.count_failure(cx, link, response.status);
        answer(cx, ticket, response, position);
    }

    /// Answers with an error; a write was surely not applied, unless the problem says otherwise.
    fn refuse(&mut self, cx: &mut StepContext<'_, '_>, ticket: u64, path: &str, problem: Problem) {
        self.count_failure(cx, path, problem.status());
        cx.put(Output::Refuse { ticket, problem });
    }

    fn count_failure(&mut self, cx: &StepContext<'_, '_>, path: &str, status: u16) {
        if status < 400 {
            return;
        }
        let (link, _) = links::split_utility(path);
        let catalogue = &cx.handlers().catalogue;
        let Some(spec) = catalogue.spec_of(link).or_else(|| catalogue.spec(link)) else { return };
        let name = if status == Code::Busy.status() {
            "requestFailureQueueLimitExceededCount"
        } else {
            "requestFailureCount"
        };
        let document = catalogue.spec(link).is_none().then_some(link);
        self.stats.count(&spec.factory, document, name, cx.now().wall);
    }
}

/// How a request can be known again.
#[derive(Default)]
struct Known {
    key: Option<RequestKey>,
    /// It may be a repeat.
    is_retry: bool,
    /// Another owner may have begun it and been stopped by it.
    is_resent: bool,
}

fn answer(
    cx: &mut StepContext<'_, '_>,
    ticket: u64,
    response: Response,
    position: Option<Position>,
) {
    let answer = PartitionAnswer::Response(response);
    cx.put(Output::Answer { ticket, answer, position });
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
