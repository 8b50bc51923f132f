//! A partition of documents as the machine of its group: what it is asked, what happens to it, and
//! what it wants done.

use std::sync::Arc;

use access::Guard;
use bytes::Bytes;
use documents::{AppliedCommand, Partition, Wanted};
use group::{Context, Entry, Leader, Machine, Output, Refusal};
use protocol::{Document, Epoch, GroupId, Principal, Problem, Request, Response, Source, Term};
use query::{Cursor, HitFilter, Page};
use serde::{Deserialize, Serialize};
use storage::{Batch, StoreError};

use crate::kinds::is_kind;
use crate::leader::PartitionLeader;
use crate::{Catalogue, Invocation, Invoked};

/// How much of the latest documents each partition keeps in memory, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// How many bytes of changes each partition keeps if nothing else is said.
const CHANGES_BYTES: usize = 4 << 20;

/// The state of one partition.
pub struct PartitionMachine {
    pub(crate) partition: Partition,
    group: GroupId,
    limits: Limits,
    rules: RulesNews,
}

/// What has become of the documents that a node goes by since it looked: the rules ([`access`]), and
/// the definitions of kinds.
#[derive(Debug)]
pub enum RulesNews {
    /// All of them are to be read anew.
    Anew,
    /// These versions have been applied.
    Changed(Vec<Arc<Document>>),
}

/// How much one leader takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many requests may wait for one document; more are BUSY.
    pub document_queue_max: usize,
    /// How many tasks take steps at the same time; others wait.
    pub tasks_running_max: usize,
    /// How many bytes of the newest changes are kept for those who watch.
    pub changes_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_queue_max: crate::leader::DOCUMENT_QUEUE_MAX,
            tasks_running_max: crate::leader::TASKS_RUNNING_MAX,
            changes_bytes: CHANGES_BYTES,
        }
    }
}

/// The handlers of this node's services, and where they run.
pub struct Handlers {
    pub catalogue: Arc<Catalogue>,
    pub invoker: Arc<dyn Invoker>,
    /// Becomes `documentOwner`.
    pub node_id: Arc<str>,
    /// Who may do what, as this node knows it.
    pub guard: Guard,
}

/// Runs handlers, or says that they must run elsewhere.
pub trait Invoker: Send + Sync {
    fn invoke(&self, catalogue: &Catalogue, invocation: Invocation) -> Ran;
}

/// What became of a handler that was to be run.
pub enum Ran {
    Done(Invoked),
    /// It may take long, so that it must not hold up the node:
    /// [`PartitionAction::Invoke`] has it run elsewhere.
    Elsewhere(Invocation),
}

/// Runs every handler at once, but for those whose service says that it is slow.
pub struct QuickInvoker;

impl Invoker for QuickInvoker {
    fn invoke(&self, catalogue: &Catalogue, invocation: Invocation) -> Ran {
        if catalogue.is_slow(&invocation) {
            Ran::Elsewhere(invocation)
        } else {
            Ran::Done(catalogue.invoke(invocation))
        }
    }
}

/// What the owner of a partition is asked.
#[derive(Clone, Debug)]
pub enum PartitionQuestion {
    /// A request for a document or a utility of one. For a POST to a factory the path is the new
    /// document's link, chosen by the node that took the request in. For a utility of a factory the
    /// path is the factory's, and the answer is this partition's part.
    Rest(Request),
    /// The same, and another owner may have begun it and been stopped by it.
    Resent(Request),
    /// One partition's part of a query: at most so many hits and bytes.
    Query {
        spec_json: Bytes,
        cursor: Option<Cursor>,
        limit: usize,
        bytes: usize,
        effort: Effort,
        /// How long it may take, in microseconds, if it is run elsewhere.
        left_micros: u64,
        principal: Principal,
    },
    /// Refuse what comes from older owners of that partition.
    Fence(Source),
    /// Is this partition's owner at work? Answered with 200 when a quorum agrees.
    Available,
}

/// The answer to a [`PartitionQuestion`].
#[derive(Clone, Debug)]
pub enum PartitionAnswer {
    Response(Response),
    /// To a write that changed nothing: nothing but the owner's memory tells that it was answered.
    Unchanged(Response),
    /// For a query that succeeded.
    Page(Page),
    /// See [`Effort`].
    TooLong,
}

/// What can happen to a partition from outside of its group.
#[derive(Debug)]
pub enum PartitionEvent {
    /// A handler that ran elsewhere is done.
    Invoked(Invoked),
    /// The answer to a task's call.
    Called { opening: u64, call: u64, response: Response },
    /// All partitions have this owner's fence.
    Fenced { opening: u64 },
    /// What became of [`PartitionAction::Search`].
    Searched { opening: u64, ticket: u64, found: PartitionAnswer },
    /// See [`PartitionAction::GoOn`].
    GoOn { opening: u64 },
}

/// How much work a query may be. One that is more is answered with
/// [`PartitionAnswer::TooLong`], and can be asked again with more effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Effort {
    /// A millisecond or so, within the step.
    Step,
    /// A tenth of a second or so, elsewhere.
    Short,
    /// Seconds, elsewhere.
    Long,
}

/// A query that is run elsewhere. It is read there, too: one of many clauses is long.
#[derive(Clone, Debug)]
pub struct WantedSearch {
    pub opening: u64,
    pub ticket: u64,
    pub text: Bytes,
    pub wanted: Wanted,
    pub effort: Effort,
    pub left_micros: u64,
    pub filter: Option<HitFilter>,
}

/// What a partition wants done outside of its group.
#[derive(Debug)]
pub enum PartitionAction {
    /// Run the handler and give back [`PartitionEvent::Invoked`].
    Invoke(Box<Invocation>),
    /// A task's request, to be routed like a client's; comes back as [`PartitionEvent::Called`].
    Call { opening: u64, call: u64, request: Box<Request> },
    /// Write this fence in all partitions, then [`PartitionEvent::Fenced`].
    Fence { opening: u64, source: Source },
    /// Run the query elsewhere, on the partition as it is or later, then
    /// [`PartitionEvent::Searched`].
    Search(Box<WantedSearch>),
    /// There is more to do for what came already: [`PartitionEvent::GoOn`], after what has come
    /// meanwhile.
    GoOn { opening: u64 },
}

impl From<Problem> for PartitionAnswer {
    fn from(problem: Problem) -> Self {
        Self::Response(problem.into())
    }
}

impl Refusal for PartitionAnswer {
    fn refused_bytes(&self) -> Option<usize> {
        match self {
            Self::Unchanged(response) => Some(response.body.len()),
            Self::Response(response) if !response.is_success() => Some(response.body.len()),
            Self::Response(_) | Self::Page(_) | Self::TooLong => None,
        }
    }
}

impl PartitionMachine {
    pub fn new(mut partition: Partition, group: GroupId, limits: Limits) -> Self {
        partition.set_cache_bytes(CACHE_BYTES);
        partition.set_changes_bytes(limits.changes_bytes);
        Self { partition, group, limits, rules: RulesNews::Anew }
    }

    /// What has become of the rules. `None`: nothing.
    pub fn take_rules(&mut self) -> Option<RulesNews> {
        match &self.rules {
            RulesNews::Changed(changed) if changed.is_empty() => None,
            RulesNews::Changed(_) | RulesNews::Anew => {
                Some(std::mem::replace(&mut self.rules, RulesNews::Changed(Vec::new())))
            }
        }
    }

    fn note_rules(&mut self, applied: &AppliedCommand) {
        if let AppliedCommand::Written(document) = applied
            && (access::is_policy(&document.link) || is_kind(&document.link))
            && let RulesNews::Changed(changed) = &mut self.rules
        {
            changed.push(Arc::clone(document));
        }
    }

    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    pub fn partition_mut(&mut self) -> &mut Partition {
        &mut self.partition
    }
}

impl Machine for PartitionMachine {
    type Leader = PartitionLeader;
    type Around = Handlers;
    type Effect = AppliedCommand;
    type Question = PartitionQuestion;
    type Answer = PartitionAnswer;
    type Event = PartitionEvent;
    type Action = PartitionAction;

    fn apply(
        &mut self,
        _leader: Option<&mut PartitionLeader>,
        at: &mut Context<'_, Handlers>,
        entry: Entry,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<AppliedCommand, StoreError> {
        match &entry.data {
            Some(data) => {
                let applied = self.partition.apply(at.store, entry.applied, data)?;
                self.note_rules(&applied);
                Ok(applied)
            }
            None => {
                self.partition.passed(entry.position);
                let mut batch = Batch::default();
                at.space.put_applied(&mut batch, &entry.applied);
                at.store.write(batch)?;
                Ok(AppliedCommand::Other)
            }
        }
    }

    fn happened(
        &mut self,
        leader: Option<&mut PartitionLeader>,
        at: &mut Context<'_, Handlers>,
        event: PartitionEvent,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        match leader {
            Some(leader) => leader.happened(self, at, event, out),
            // It was begun by a leader that is gone.
            None => Ok(()),
        }
    }

    fn lead(
        &mut self,
        at: &mut Context<'_, Handlers>,
        term: Term,
        opening: u64,
        out: &mut Vec<Output<Self>>,
    ) -> Result<PartitionLeader, StoreError> {
        let epoch: Epoch = term;
        let mut leader = PartitionLeader::new(self.group, epoch, opening, self.limits);
        leader.resume_tasks(self, at, out)?;
        Ok(leader)
    }

    fn installed(
        &mut self,
        at: &mut Context<'_, Handlers>,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        let partition = Partition::open(&*at.store, at.space)?;
        *self = Self::new(partition, self.group, self.limits);
        Ok(())
    }
}

impl Leader for PartitionLeader {
    type Machine = PartitionMachine;

    fn step(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        input: group::LeaderInput<PartitionMachine>,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        self.take(machine, at, input, out)
    }
}
