//! The leader of a partition: handles the requests for its documents while this node owns it.
//!
//! Writes of one document run one at a time, in order of arrival ([`lines`]). The leader works
//! ahead on versions that are not committed yet and answers when they are applied. Reads wait for a
//! quorum to confirm the ownership and then see the applied state ([`reads`]). Repeats are found by
//! their keys ([`repeats`]). Several writes are made together in [`batches`]. Tasks take their
//! steps here too ([`tasks`]). What versions send to instances leaves from here
//! ([`outbox`]), and what instances write comes in ([`inbox`]).

mod asked;
mod awaited;
mod batch;
mod batches;
mod context;
mod controls;
mod expiry;
mod explain;
mod flows;
mod inbox;
mod line;
mod lines;
mod next_events;
mod outbox;
mod past;
mod permission;
mod proposals;
mod query;
mod question;
mod reads;
mod recorded;
mod repeats;
mod revert;
mod runners;
mod searches;
mod senders;
mod state;
mod tasks;
mod unchanged;
mod undefined;

pub use next_events::NextEvents;
pub use query::compile;
pub use senders::WritesOfInstances;
pub use state::PartitionLeader;

use std::sync::Arc;

use documents::{AppliedCommand, Atom, Command};
use group::{Context, LeaderInput, Output};
use protocol::{BATCH_LINK, Code, Outcome, Position, Problem, Request, Source, links};
use storage::StoreError;

use crate::invoker::Handlers;
use crate::io::{PartitionEvent, PartitionQuestion};
use crate::machine::PartitionMachine;
use asked::{Asked, Known};
use batches::knows_all;
use context::StepContext;
use proposals::Proposed;
use query::Query;
use question::Question;
use state::{nothing, outdated};
use undefined::Waiting;

impl PartitionLeader {
    /// Looks for tasks that the last owner has left in progress, and for messages to instances.
    pub(crate) fn resume_tasks(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        let cx = &mut StepContext { machine, at, out };
        self.open_outbox(cx)?;
        self.opened(cx)
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
        }?;
        self.settle_batches(cx)
    }

    pub(crate) fn happened(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        event: PartitionEvent,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        let cx = &mut StepContext { machine, at, out };
        self.take_event(cx, event)?;
        self.settle_batches(cx)
    }

    fn take_event(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        event: PartitionEvent,
    ) -> Result<(), StoreError> {
        let mine = self.duty.opening;
        match event {
            PartitionEvent::Invoked(invoked) => self.invoked(cx, invoked),
            PartitionEvent::Called { opening, call, response } if opening == mine => {
                if self.write_answered(cx, call, &response)? {
                    return Ok(());
                }
                self.called(cx, call, response)
            }
            PartitionEvent::Fenced { opening } if opening == mine => self.fenced(cx),
            PartitionEvent::FenceLate { opening, lacking, why } => {
                if opening == mine {
                    self.fence_is_late(lacking, why);
                }
                Ok(())
            }
            PartitionEvent::Searched { opening, ticket, found } if opening == mine => {
                searches::found(cx, ticket, found);
                Ok(())
            }
            PartitionEvent::GoOn { opening } if opening == mine => {
                self.batches_go_on();
                self.search_on(cx)
            }
            PartitionEvent::Said { opening, number, link, said } if opening == mine => {
                self.program_said(cx, (&link, number), said)
            }
            PartitionEvent::Acked { instance, logged, resend_from } => {
                self.acked(cx, &instance, logged, resend_from)
            }
            PartitionEvent::InstanceMoved { instance } => self.instance_moved(cx, &instance),
            PartitionEvent::NoInstance { instance } => {
                self.instances.flows.is_absent(&instance);
                Ok(())
            }
            PartitionEvent::InstanceAsks { instance } => {
                self.instance_asks(cx, instance);
                Ok(())
            }
            PartitionEvent::InstanceWrites(sent) => self.instance_writes(cx, sent),
            // It was begun by a leader that is gone.
            PartitionEvent::Called { .. }
            | PartitionEvent::Fenced { .. }
            | PartitionEvent::Searched { .. }
            | PartitionEvent::Said { .. }
            | PartitionEvent::GoOn { .. } => Ok(()),
        }
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
                self.rest(cx, Asked { ticket, request: Arc::new(request), known })
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

    fn rest(&mut self, cx: &mut StepContext<'_, '_>, asked: Asked) -> Result<(), StoreError> {
        let request = &asked.request;
        if request.path == BATCH_LINK {
            return self.batch(cx, asked);
        }
        let (link, utility) = links::split_utility(&request.path);
        let catalogue = &cx.handlers().catalogue;
        let of_factory = if utility.is_some() { catalogue.spec(link) } else { None };
        let Some(spec) = of_factory.or_else(|| catalogue.spec_of(link)) else {
            self.not_known(cx, asked);
            return Ok(());
        };
        let document = of_factory.is_none().then_some(link);
        self.stats.count(&spec.factory, document, count_name(request), cx.now().wall);
        if utility == Some("explain") && document.is_some() && !request.method.is_write() {
            return self.explain(cx, &asked);
        }
        if utility.is_some() || !request.method.is_write() {
            self.read(cx, asked);
            return Ok(());
        }
        self.write(cx, asked)
    }

    /// Counts a write of a batch.
    fn count(&mut self, cx: &StepContext<'_, '_>, request: &Request) {
        let (link, catalogue) = (request.path.as_str(), &cx.handlers().catalogue);
        if let Some(spec) = catalogue.spec_of(link) {
            self.stats.count(&spec.factory, Some(link), count_name(request), cx.now().wall);
        }
    }

    /// There is no service here for a request: it may be on its way.
    fn not_known(&mut self, cx: &mut StepContext<'_, '_>, asked: Asked) {
        match Waiting::new(asked, cx.now().steady_micros) {
            Ok(waiting) => self.absent.undefined.push(waiting),
            Err(Asked { ticket, request, .. }) => {
                let (link, _) = links::split_utility(&request.path);
                // The node that has passed it on has the service.
                let text = format!(
                    "the program of node {}, which owns {link}, has no service for it, and that of \
                     another node has: run the same program on all nodes",
                    cx.handlers().node_id
                );
                let mut problem = Problem::new(Code::NoOwner, text);
                problem.outcome = request.method.is_write().then_some(Outcome::NotApplied);
                self.refuse(cx, ticket, link, problem);
            }
        }
    }

    /// Looks whether the definitions have come.
    fn look_for_definitions(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        for waiting in std::mem::take(&mut self.absent.undefined) {
            let Asked { ticket, request, .. } = &waiting.asked;
            let (link, _) = links::split_utility(&request.path);
            let catalogue = &cx.handlers().catalogue;
            let is_known = match request.path.as_str() {
                BATCH_LINK => Atom::decode(&request.body).is_ok_and(|atom| knows_all(cx, &atom)),
                _ => catalogue.spec_of(link).is_some() || catalogue.spec(link).is_some(),
            };
            if is_known {
                self.rest(cx, waiting.asked)?;
            } else if cx.now().steady_micros < waiting.until_micros {
                self.absent.undefined.push(waiting);
            } else {
                let text = format!(
                    "the owner of {link} does not know its factory: it was defined or removed just \
                     now; try again"
                );
                let mut problem = Problem::new(Code::NoOwner, text);
                problem.outcome = request.method.is_write().then_some(Outcome::NotApplied);
                cx.put(Output::Refuse { ticket: *ticket, problem });
            }
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut StepContext<'_, '_>, asked: Asked) -> Result<(), StoreError> {
        let asked = self.is_to_be_done(cx, asked)?;
        asked.map_or(Ok(()), |asked| self.enqueue(cx, asked))
    }

    /// A write: is it new, and may it be made? It comes back if so; else it is answered.
    fn is_to_be_done(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: Asked,
    ) -> Result<Option<Asked>, StoreError> {
        // A repeat first: what a replaced owner has done before it was replaced is done.
        if self.repeat(cx, &asked)? {
            return Ok(None);
        }
        if let Some(source) = asked.request.source()
            && source.epoch < cx.partition().fence(source.partition)
        {
            self.refuse(cx, asked.ticket, &asked.request.path, outdated(source));
            return Ok(None);
        }
        if let Some(numbered) = asked.request.numbered()
            && let Some(problem) = self.why_not_taken(cx, numbered)
        {
            self.refuse(cx, asked.ticket, &asked.request.path, problem);
            return Ok(None);
        }
        Ok(Some(asked))
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
            cx.answer(ticket, nothing(), Some(position));
        } else {
            self.propose(cx, Proposed::Fence { ticket }, &Command::Fence(source));
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
        match self.proposals.came_back(proposal) {
            Proposed::GivenUp => assert!(
                !matches!(effect, AppliedCommand::Written(_) | AppliedCommand::AllWritten(_)),
                "proposal {proposal} was given up and is written all the same"
            ),
            Proposed::Write(link) => {
                return self.write_applied(cx, &link, proposal, (position, effect));
            }
            Proposed::Batch(id) => return self.batch_applied(cx, id, (position, effect)),
            Proposed::Fence { ticket } if effect == AppliedCommand::Fenced => {
                let message = "a newer owner of that partition has fenced it";
                let problem = Problem::new(Code::Fenced, message);
                cx.put(Output::Refuse { ticket, problem });
            }
            Proposed::Fence { ticket } => cx.answer(ticket, nothing(), Some(position)),
            Proposed::Remember(unchanged) => {
                return self.remembered(cx, *unchanged, (position, effect));
            }
            Proposed::Confirm => return self.confirmed_applied(cx),
            Proposed::Note(instance, to) => {
                return self.outcome_noted(cx, (instance, to), &effect);
            }
            Proposed::Expire => {}
        }
        Ok(())
    }

    /// The last proposal was surely not put into the log: too much is under way.
    fn refused(&mut self, cx: &mut StepContext<'_, '_>, proposal: u64) -> Result<(), StoreError> {
        let Some(proposed) = self.proposals.take(proposal) else { return Ok(()) };
        let text =
            format!("partition {} has too many writes under way; try again", self.duty.partition);
        let problem = Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied);
        match proposed {
            Proposed::Write(link) => self.write_refused(cx, &link, proposal, problem),
            Proposed::Batch(id) => {
                self.batch_not_proposed(cx, id, problem);
                Ok(())
            }
            Proposed::Fence { ticket } => {
                cx.put(Output::Refuse { ticket, problem });
                Ok(())
            }
            Proposed::Remember(unchanged) => {
                let Asked { ticket, request, .. } = &unchanged.asked;
                self.refuse(cx, *ticket, &request.path, problem);
                Ok(())
            }
            Proposed::Confirm => {
                self.instances.flows.is_confirming = false;
                Ok(())
            }
            Proposed::Note(instance, _) => {
                self.try_again(cx, instance, &problem.into());
                Ok(())
            }
            Proposed::Expire | Proposed::GivenUp => Ok(()),
        }
    }

    fn tick(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tick_tasks(cx)?;
        self.tick_quorum(cx);
        self.tick_next_events(cx)?;
        self.tick_awaited(cx);
        self.look_for_definitions(cx)?;
        self.tick_expiry(cx)?;
        self.tick_outbox(cx)?;
        self.tick_inbox(cx)?;
        self.tick_index(cx)
    }

    /// Notes since when writes have been refused for want of nodes.
    fn tick_quorum(&mut self, cx: &StepContext<'_, '_>) {
        let since = self.absent.quorum_since.unwrap_or(cx.now().steady_micros);
        self.absent.quorum_since = (cx.at.quorum.up < cx.at.quorum.needed).then_some(since);
    }

    /// Whoever has waited for a document long enough is answered.
    fn tick_awaited(&mut self, cx: &mut StepContext<'_, '_>) {
        for (link, late) in self.absent.awaited.take_late(cx.now().steady_micros) {
            self.respond(cx, late.asked.ticket, &link, late.answer, None);
        }
    }
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
