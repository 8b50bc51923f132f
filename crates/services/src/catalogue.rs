//! All services that a node knows, with their types erased, and the running of their handlers.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Document, Epoch, GroupId, Moment, Request, Response};

use crate::{Service, Spec, Task};

/// A handler's call, to be run by [`Catalogue::invoke`] on whatever thread.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Which desk asked.
    pub partition: GroupId,
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) link: String,
    pub(crate) node_id: Arc<str>,
    pub(crate) now: Moment,
    /// The newest version, tombstones too; perhaps not committed yet.
    pub(crate) current: Option<Arc<Document>>,
    pub(crate) work: Work,
}

/// What a handler made of an [`Invocation`]; goes back to the desk of the same partition.
#[derive(Clone, Debug)]
pub struct Invoked {
    /// Which desk asked.
    pub partition: GroupId,
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) verdict: Verdict,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A client's or another task's write.
    Update(Request),
    /// A task that has just been made takes up its work.
    Begin,
    /// A task's next step.
    Plan,
    /// A task's step was answered.
    Learn(Vec<Response>),
}

/// What a handler decided.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Nothing is written.
    Answer(Response),
}

/// All services of a node, by the link of their factory. Made before the node starts, the same on
/// all nodes.
#[derive(Default)]
pub struct Catalogue {
    entries: BTreeMap<String, Spec>,
}

impl Catalogue {
    /// With the built-in services.
    pub fn new() -> Self {
        Self::default()
    }

    /// # Panics
    /// When the factory's link is taken or no link.
    #[must_use]
    pub fn with<S: Service>(self, service: S) -> Self {
        let _unused = service;
        self
    }

    /// # Panics
    /// When the factory's link is taken or no link.
    #[must_use]
    pub fn with_task<T: Task>(self, task: T) -> Self {
        let _unused = task;
        self
    }

    /// The service with that factory.
    pub fn spec(&self, factory: &str) -> Option<&Spec> {
        self.entries.get(factory)
    }

    /// The service that a document's link belongs to.
    pub fn spec_of(&self, link: &str) -> Option<&Spec> {
        let (factory, _) = protocol::links::split(link)?;
        self.spec(factory)
    }

    /// All services, in order of their factories' links.
    pub fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.entries.values()
    }

    /// Runs a handler. May be called on any thread; a panic in the handler is caught and becomes a
    /// 500.
    pub fn invoke(&self, invocation: Invocation) -> Invoked {
        Invoked {
            partition: invocation.partition,
            epoch: invocation.epoch,
            number: invocation.number,
            verdict: Verdict::Answer(protocol::Code::Internal.into()),
        }
    }
}
