//! A handler's call and what came of it: how the leader of a partition and the thread that runs
//! handlers speak with each other.

use std::sync::Arc;

use documents::{Noted, Write};
use protocol::service::Call;
use protocol::{
    Document, Epoch, GroupId, InstanceMessage, Moment, Problem, Request, RequestKey, Response,
    Source, links,
};

use crate::control::{Control, Controlled, UnderWay};
use crate::handlers::{Calls, Step};
use crate::outside::Said;

/// A handler's call, to be run by [`crate::Catalogue::invoke`] on whatever thread.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Which leader asked.
    pub partition: GroupId,
    pub(crate) epoch: Epoch,
    pub(crate) opening: u64,
    pub(crate) number: u64,
    pub(crate) link: String,
    pub(crate) node_id: Arc<str>,
    pub(crate) now: Moment,
    /// The newest version, tombstones too; perhaps not committed yet.
    pub(crate) current: Option<Arc<Document>>,
    /// Another owner may have begun it and been stopped by it.
    pub is_resent: bool,
    pub(crate) work: Work,
    /// When the user who asks was made, if that is known.
    pub(crate) user_made: Option<u64>,
    /// What the program outside has said, if it was asked.
    pub(crate) said: Option<Said>,
}

impl Invocation {
    /// The document that it is for.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// The factory of the service whose handler it is.
    pub fn factory(&self) -> &str {
        links::split(&self.link).map_or("", |(factory, _)| factory)
    }

    /// Tells leaders of a partition apart.
    pub fn leader(&self) -> (Epoch, u64) {
        (self.epoch, self.opening)
    }
}

/// What a handler made of an [`Invocation`]; goes back to the leader of the same partition.
#[derive(Clone, Debug)]
pub struct Invoked {
    /// Which leader asked.
    pub partition: GroupId,
    pub(crate) epoch: Epoch,
    pub(crate) opening: u64,
    pub(crate) number: u64,
    pub(crate) link: String,
    pub(crate) verdict: Verdict,
}

impl Invocation {
    /// The handler is not run: the state as it is does not allow it.
    pub(crate) fn refused(self, problem: Problem) -> Invoked {
        let Self { partition, epoch, opening, number, link, .. } = self;
        let verdict = Verdict::AsItIs(problem.into());
        Invoked { partition, epoch, opening, number, link, verdict }
    }
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A client's or another task's write.
    Update(Arc<Request>),
    /// A task is held, released or the like.
    Control(Arc<Request>, Control, UnderWay),
    /// A task goes on.
    Step(Step),
}

/// What a handler decided.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Write(Box<NewVersion>),
    /// Nothing is written, whatever the state is.
    Refused(Problem),
    /// Nothing is written, because of the state as it is.
    AsItIs(Response),
    /// Nothing is written, and the answer is the document as it is.
    Shown(Arc<Document>),
    /// A task's next calls; nothing is written.
    Calls(Calls),
    /// A task's step that came too late: the task has ended or is gone.
    Ended,
    /// A task's step that is not taken: somebody holds the task. Is a step begun?
    Held {
        in_mid_step: bool,
    },
    /// The program outside is to be asked, and then the invocation is run with what it has said.
    Ask(Box<Ask>),
}

/// A call of a program outside, and what goes on with the answer.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) call: Call,
    pub(crate) invocation: Invocation,
}

/// A version that a handler made.
#[derive(Clone, Debug)]
pub(crate) struct NewVersion {
    pub(crate) document: Arc<Document>,
    pub(crate) status: u16,
    /// Whether a task is in progress after this; `None` for what is not a task.
    pub(crate) task: Option<bool>,
    /// The POST wants to be answered when the task has ended.
    pub(crate) is_direct: bool,
    pub(crate) purge: bool,
    pub(crate) retention: documents::Retention,
    /// A task made it by itself.
    pub(crate) is_step: bool,
    /// The task has ended, and what it did is to be undone.
    pub(crate) is_undoing: bool,
    pub(crate) control: Controlled,
    /// What the task asks once this version is committed; without it, it must be planned.
    pub(crate) calls: Option<Calls>,
    /// What goes to immortals with it.
    pub(crate) messages: Vec<InstanceMessage>,
}

impl NewVersion {
    /// What goes into the log.
    pub(crate) fn to_write(
        &self,
        key: Option<RequestKey>,
        source: Option<Source>,
        noted: Option<Noted>,
    ) -> Write {
        Write {
            document: Document::clone(&self.document),
            key,
            status: self.status,
            retention: self.retention,
            source,
            task: self.task,
            purge: self.purge,
            response: None,
            messages: self.messages.clone(),
            noted,
        }
    }
}
