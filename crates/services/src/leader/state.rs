//! What the leader of a partition knows, and how it numbers, proposes and answers.

use std::collections::BTreeMap;

use documents::Command;
use group::Output;
use protocol::{
    Code, Document, Epoch, GroupId, Moment, Outcome, Position, Problem, Response, Source, links,
};

use super::awaited::Awaited;
use super::batch::Batches;
use super::context::StepContext;
use super::flows::Flows;
use super::line::Line;
use super::proposals::{Proposals, Proposed};
use super::query::Searches;
use super::question::Question;
use super::runners::Tasks;
use super::senders::{Inbox, WritesOfInstances};
use super::undefined::Waiting;
use crate::limits::Limits;
use crate::utilities::Stats;

/// What this leader is made for.
pub(super) struct Duty {
    pub(super) partition: GroupId,
    /// The term in which this node owns the partition.
    pub(super) epoch: Epoch,
    /// Tells this leader from others that the same owner had in the same term: handlers that were
    /// begun for those may still be running.
    pub(super) opening: u64,
    pub(super) limits: Limits,
}

/// Handles the requests for one partition.
pub struct PartitionLeader {
    pub(super) duty: Duty,
    /// The last number given to an invocation, a proposal or a call.
    number: u64,
    pub(super) lines: BTreeMap<String, Line>,
    pub(super) batches: Batches,
    pub(super) proposals: Proposals,
    /// What waits for a quorum's word, by ticket.
    pub(super) questions: BTreeMap<u64, Question>,
    pub(super) searches: Searches,
    pub(super) tasks: Tasks,
    pub(super) stats: Stats,
    pub(super) clock: Clock,
    pub(super) absent: Absent,
    pub(super) instances: Instances,
}

/// What goes to instances, and what comes from them.
#[derive(Default)]
pub(super) struct Instances {
    pub(super) flows: Flows,
    pub(super) inbox: Inbox,
}

/// Requests that wait for what is not there.
#[derive(Default)]
pub(super) struct Absent {
    /// For a document.
    pub(super) awaited: Awaited,
    /// For kinds that this node does not know. Each has a place in the table of requests.
    pub(super) undefined: Vec<Waiting>,
    /// Since when there have been too few nodes for writes.
    pub(super) quorum_since: Option<u64>,
}

/// The time of this leader's writes. No two have the same, whatever the wall clock does: the time
/// is in a document's entity tag, which must not come again.
#[derive(Default)]
pub(super) struct Clock {
    last: Moment,
    /// When to look for expired documents again.
    pub(super) expire_at_micros: u64,
}

impl Clock {
    pub(super) fn tick(&mut self, wall: Moment) -> Moment {
        self.last = Moment(wall.0.max(self.last.0 + 1));
        self.last
    }
}

impl PartitionLeader {
    /// What has become of the writes of instances since this leader began.
    pub fn writes_of_instances(&self) -> WritesOfInstances {
        self.instances.inbox.counts
    }

    pub(crate) fn new(partition: GroupId, epoch: Epoch, opening: u64, limits: Limits) -> Self {
        Self {
            duty: Duty { partition, epoch, opening, limits },
            number: 0,
            lines: BTreeMap::new(),
            batches: Batches::default(),
            proposals: Proposals::default(),
            questions: BTreeMap::new(),
            searches: Searches::default(),
            tasks: Tasks::new(limits.tasks_running_max),
            stats: Stats::default(),
            clock: Clock::default(),
            absent: Absent::default(),
            instances: Instances::default(),
        }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// **Invariant:** the time of a document's versions only goes forward, whoever owned it: what
    /// the document was at a time is the last version up to then (see `documents::past`).
    pub(super) fn time_of_write(
        &mut self,
        cx: &StepContext<'_, '_>,
        current: Option<&Document>,
    ) -> Moment {
        let before = current.map_or(0, |current| current.updated.0);
        Moment(self.clock.tick(cx.now().wall).0.max(before.saturating_add(1)))
    }

    pub(super) fn source(&self) -> Source {
        Source { partition: self.duty.partition, epoch: self.duty.epoch }
    }

    /// Proposes a command. What comes of it comes back with the number.
    pub(super) fn propose(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        proposed: Proposed,
        command: &Command,
    ) -> u64 {
        let proposal = self.next_number();
        self.proposals.push(proposal, proposed);
        cx.put(Output::Propose { proposal, data: command.encode() });
        proposal
    }

    /// Answers a request about a document.
    pub(super) fn respond(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        link: &str,
        response: Response,
        position: Option<Position>,
    ) {
        self.count_failure(cx, link, response.status);
        cx.answer(ticket, response, position);
    }

    /// Answers with an error; a write was surely not applied, unless the problem says otherwise.
    pub(super) fn refuse(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        path: &str,
        problem: Problem,
    ) {
        self.count_failure(cx, path, problem.status());
        cx.put(Output::Refuse { ticket, problem });
    }

    pub(super) fn count_failure(&mut self, cx: &StepContext<'_, '_>, path: &str, status: u16) {
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

pub(super) fn outdated(source: Source) -> Problem {
    let message = format!(
        "this request comes from the owner of partition {} in term {}, which was replaced",
        source.partition, source.epoch
    );
    Problem::new(Code::Fenced, message).with_outcome(Outcome::NotApplied)
}

pub(super) fn nothing() -> Response {
    Response::bytes(200, bytes::Bytes::new())
}
