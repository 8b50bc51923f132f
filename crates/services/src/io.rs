//! What the owner of a partition is asked, what happens to the partition, and what it wants done.

use bytes::Bytes;
use documents::Wanted;
use group::Refusal;
use protocol::service::Call;
use protocol::{GroupId, Principal, Problem, Request, Response, Source};
use query::{Cursor, HitFilter, Page};
use serde::{Deserialize, Serialize};

use crate::{Invocation, Invoked, Said};

/// What the owner of a partition is asked.
#[derive(Clone, Debug)]
pub enum PartitionQuestion {
    /// A request for a document or a utility of one. For a POST to a factory the path is the new
    /// document's link, chosen by the node that took the request in. For a utility of a factory the
    /// path is the factory's, and the answer is this partition's part.
    Rest(Request),
    /// The same, and another owner may have begun it and been stopped by it.
    Resent(Request),
    /// One partition's part of a query, with at most `limit` hits and `bytes` bytes.
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
    /// That partition has not taken the fence. It is tried again.
    FenceLate { opening: u64, lacking: GroupId, why: String },
    /// What became of [`PartitionAction::Search`].
    Searched { opening: u64, ticket: u64, found: PartitionAnswer },
    /// See [`PartitionAction::GoOn`].
    GoOn { opening: u64 },
    /// What came of [`PartitionAction::Ask`]. Only the first is taken.
    Said { opening: u64, number: u64, link: String, said: Said },
    /// The owner of an instance has all messages up to `logged`, durable. With `resend_from` it
    /// wants all from that number on, whatever was sent before.
    Acked { instance: String, logged: u64, resend_from: Option<u64> },
    /// The instance has another owner, or its owner is reached again.
    InstanceMoved { instance: String },
    /// There is no such instance to send to.
    NoInstance { instance: String },
    /// The owner of an instance asks which of its writes to documents here are taken.
    InstanceAsks { instance: GroupId },
    /// The owner of an instance sends writes to documents here.
    InstanceWrites(FromInstance),
}

/// Messages of an instance to documents of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromInstance {
    /// The group of the instance.
    pub instance: GroupId,
    pub name: String,
    /// The lowest number that the instance still has. All before it were confirmed.
    pub floor: u64,
    pub first: u64,
    pub count: u64,
    pub messages: Bytes,
}

/// What the owner of a partition says to the owner of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToInstance {
    /// Which of the messages do you have?
    Probe,
    Send {
        /// The link of the document that has sent them.
        from: String,
        /// The lowest number that is kept. All before it were confirmed.
        floor: u64,
        first: u64,
        count: u64,
        /// As in a block of DELIVER.
        messages: Bytes,
    },
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
    /// Ask a program outside that has the handlers of the document's kind, then
    /// [`PartitionEvent::Said`].
    Ask { opening: u64, number: u64, call: Box<Call> },
    /// A task's request, to be routed like a client's; comes back as [`PartitionEvent::Called`].
    Call { opening: u64, call: u64, request: Box<Request> },
    /// Write this fence in all partitions, then [`PartitionEvent::Fenced`]. Until then
    /// [`PartitionEvent::FenceLate`] each time that one does not take it.
    Fence { opening: u64, source: Source },
    /// Run the query elsewhere, on the partition as it is or later, then
    /// [`PartitionEvent::Searched`].
    Search(Box<WantedSearch>),
    /// To the owner of an instance, if there is one: [`PartitionEvent::Acked`] answers it. May be
    /// lost.
    Send { instance: String, message: ToInstance },
    /// To the owner of an instance: its writes up to `logged` are taken. With `resend_from` it goes
    /// on from that number, whatever it has sent before. May be lost.
    Ack { instance: GroupId, logged: u64, resend_from: Option<u64> },
    /// There is more to do for what came already: [`PartitionEvent::GoOn`], after what has come
    /// meanwhile.
    GoOn { opening: u64 },
    /// This number of tasks have not ended, and nothing will take their next step. To be counted.
    WithoutNextEvent { count: usize },
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
