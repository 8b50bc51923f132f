//! What goes into a desk and what comes out of it.

use bytes::Bytes;
use documents::{AppliedCommand, Partition, RequestKey};
use protocol::{Epoch, GroupId, Position, Problem, Request, Response, Source};
use query::{Cursor, Page};
use storage::StateStore;

use crate::{Catalogue, Invocation, Invoked};

/// What a desk is made for.
#[derive(Clone, Debug)]
pub struct DeskOptions {
    pub partition: GroupId,
    /// The term in which this node owns the partition.
    pub epoch: Epoch,
    /// Tells this desk from others that the same owner had in the same term: handlers that were
    /// begun for those may still be running.
    pub opening: u64,
    /// Becomes `documentOwner`.
    pub node_id: String,
    /// How many requests may wait for one document; more are BUSY.
    pub document_queue_max: usize,
    /// How many requests may wait at the desk in all; more are BUSY.
    pub requests_max: usize,
    /// How many tasks take steps at the same time; others wait.
    pub tasks_running_max: usize,
}

impl DeskOptions {
    /// With the usual limits.
    pub fn new(partition: GroupId, epoch: Epoch, node_id: impl Into<String>) -> Self {
        Self {
            partition,
            epoch,
            opening: 0,
            node_id: node_id.into(),
            document_queue_max: super::DOCUMENT_QUEUE_MAX,
            requests_max: super::REQUESTS_MAX,
            tasks_running_max: super::TASKS_RUNNING_MAX,
        }
    }
}

/// What the desk stands on, lent for one step.
pub struct Ground<'a> {
    pub partition: &'a mut Partition,
    pub store: &'a mut dyn StateStore,
    pub catalogue: &'a Catalogue,
}

/// What the desk is asked.
#[derive(Clone, Debug)]
pub enum DeskRequest {
    /// A request for a document or a utility of one. For a POST to a factory the path is the new
    /// document's link, chosen by the edge. For a utility of a factory the path is the factory's,
    /// and the answer is this partition's part.
    Rest(Request),
    /// One partition's part of a query.
    Query { spec_json: Bytes, cursor: Option<Cursor>, limit: usize },
    /// Refuse what comes from older owners of that partition.
    Fence(Source),
    /// Is this partition's owner at work? Answered with 200 when a quorum agrees.
    Available,
}

/// What can happen to a desk.
#[derive(Debug)]
pub enum DeskInput {
    /// The first input: looks for tasks to resume.
    Opened,
    Request {
        ticket: u64,
        request: DeskRequest,
        key: Option<RequestKey>,
        /// It may be a repeat: look into the records first. (With a user's key, always.)
        again: bool,
    },
    Invoked(Invoked),
    /// A proposal came back through the log.
    Applied {
        proposal: u64,
        position: Position,
        outcome: AppliedCommand,
    },
    /// A proposal was surely not put into the log.
    Refused {
        proposal: u64,
        problem: Problem,
    },
    /// A quorum confirmed the ownership, and all that was committed then is applied.
    Confirmed {
        ticket: u64,
    },
    /// The answer to a task's call.
    Called {
        call: u64,
        response: Response,
    },
    /// All partitions have this owner's fence.
    Fenced,
    /// Every 10 ms or so.
    Tick,
}

/// What must be done.
#[derive(Debug)]
pub enum DeskOutput {
    /// Run the handler and give back [`DeskInput::Invoked`].
    Invoke(Box<Invocation>),
    /// Put the command through the log; comes back as [`DeskInput::Applied`], or as
    /// [`DeskInput::Refused`] when it could surely not be proposed.
    Propose { proposal: u64, command: Bytes },
    /// A quorum must confirm the ownership; then [`DeskInput::Confirmed`].
    Confirm { ticket: u64 },
    /// Answer the request. With a position: not before the membership quorum holds it.
    Answer { ticket: u64, answer: Answer, position: Option<Position> },
    /// A task's request, to be routed like a client's; comes back as [`DeskInput::Called`].
    Call { call: u64, request: Request },
    /// Write this fence in all partitions, then [`DeskInput::Fenced`].
    Fence(Source),
    /// A line for the log of the node.
    Note(String),
}

/// The answer to a [`DeskRequest`].
#[derive(Clone, Debug)]
pub enum Answer {
    Response(Response),
    /// For a query that succeeded.
    Page(Page),
}

/// A request that a closed desk has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    pub ticket: u64,
    /// Its write was proposed, so its outcome is unknown. Otherwise it was surely not applied.
    pub proposed: bool,
}
