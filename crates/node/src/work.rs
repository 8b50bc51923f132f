//! What is still to be done before a step is over, and what the step says must be done outside.

use std::collections::VecDeque;

use access::Session;
use cluster::{DirectoryAnswer, DirectoryChange};
use group::{Caller, Reply};
use immortals::Adapter;
use protocol::immortal::Hello;
use protocol::{GroupId, ReplicaId, Request, Response, Source, Term};
use services::{PartitionEvent, WantedSearch};
use storage::StoreError;

use crate::backup::words::BackupFrame;
use crate::frame::{Answer, Frame, Question};
use crate::io::{Level, Output};
use crate::jobs::Job;
use crate::outbox::Outbox;
use crate::rest::broadcast::Receivers;
use crate::serving::words::ServiceWork;

pub(crate) type GatherId = u64;

/// The number of a batch at the node that took it in.
pub(crate) type BatchId = u64;

/// The number of a query at the node that took it in.
pub(crate) type QueryId = u64;

/// On whose behalf a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A client's request.
    Client { ticket: u64 },
    /// A call of a task; of no use once the leader of that opening is gone.
    Call { group: GroupId, opening: u64, call: u64 },
    /// One of several that are gathered.
    Part { gather: GatherId, group: GroupId },
    /// A part of a batch.
    Atom { batch: BatchId, group: GroupId },
    /// A piece of one partition's hits.
    Piece { query: QueryId, group: GroupId },
    /// Is the factory of a request defined? Then the request goes on.
    Seek(Box<Sought>),
    /// Who shows that token? Then the request goes on.
    LookUp(Box<Unproved>),
    /// How far is the directory? Then the request is looked at again.
    Level(Box<(Self, Request)>),
    /// A document of the cluster is told of a change.
    Notify { number: u64 },
    /// May somebody see what that one wants to be told of? Then the subscription is made.
    Subscribe(Box<(Self, Request)>),
    /// What does a query task ask? Then another one is made that asks the same.
    Copy(Box<(Self, Request)>),
    /// How many documents has a kind? If none, its definition is deleted.
    Undefine(Box<(Self, Request)>),
    /// The answer is to be that of all nodes.
    Broadcast(Box<(Self, Receivers)>),
    /// The node's own housekeeping; the answer does not matter.
    Own,
}

/// A request whose token is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Unproved {
    pub(crate) purpose: Purpose,
    pub(crate) request: Request,
    /// Its token is known, and the password that it was made by is looked for.
    pub(crate) session: Option<Box<Session>>,
}

/// A request whose factory is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    pub(crate) purpose: Purpose,
    pub(crate) request: Request,
    /// What its factory may be, the likeliest first.
    pub(crate) factories: Vec<String>,
    /// Which of them is asked for at present.
    pub(crate) asked: usize,
}

/// What is to be done before the step is over.
pub(crate) enum Work {
    /// A question for the owner of a group that may be this node.
    Ask {
        group: GroupId,
        asked: Asked,
    },
    Partition(GroupId, PartitionEvent),
    Instance(GroupId, immortals::Input),
    /// A program wants to be a copy of an instance.
    Attach(GroupId, u64, Box<(Adapter, Hello)>),
    /// A request has entered the cluster here, from a client or from a task of this node.
    Enter(Purpose, Request),
    /// The owner of a token's document, or of a password's, has answered.
    LookedUp(Box<Unproved>, Response),
    /// This node's directory has come as far as its owner's.
    Leveled(Box<(Purpose, Request)>, Response),
    /// The documents of a kind were counted, whose definition is to be deleted.
    Undefine(Box<(Purpose, Request)>, Response),
    /// About those who are told of changes.
    Feed(FeedWork),
    Submit(Purpose, GroupId, Question),
    /// The owner of a definition has answered.
    Found(Box<Sought>, Response),
    /// An owner has answered a request of this node.
    Answered {
        from: ReplicaId,
        number: u64,
        answer: Answer,
    },
    /// A part of what is gathered has come.
    Gathered((GatherId, GroupId), Answer),
    /// The owner of a partition has answered its part of a batch.
    Atom((BatchId, GroupId), Answer),
    /// A piece of one partition's hits has come.
    Piece(QueryId, GroupId, Answer),
    /// A partition that is owned here has a query that takes long.
    Search(GroupId, Box<WantedSearch>),
    /// Every partition is to refuse what comes from older owners of this one.
    Fence {
        group: GroupId,
        opening: u64,
        source: Source,
    },
    /// The directory's owner answers.
    DirectoryReply(Caller, Reply<DirectoryAnswer>),
    /// The owner of an instance answers.
    InstanceReply(GroupId, Caller, Reply<InstanceAnswer>),
    /// An instance wants another owner.
    HandOverInstance {
        group: GroupId,
        to: ReplicaId,
    },
    /// An instance that is owned here takes messages from now on.
    Accepts(GroupId),
    /// From an instance here to the owner of another one.
    Between {
        from: GroupId,
        to: GroupId,
        message: immortals::Between,
    },
    /// From a partition that is owned here to the owner of the instance with that name.
    SendToInstance {
        from: GroupId,
        instance: String,
        message: services::ToInstance,
    },
    /// The node lets a program go.
    ProgramGone(u64),
    /// About programs that have the handlers of kinds.
    Service(Box<ServiceWork>),
    /// This node says something about a backup to itself.
    Backup(ReplicaId, Box<BackupFrame>),
}

/// About those who are told of changes.
pub(crate) enum FeedWork {
    /// What somebody wants to be told of, as it is.
    Seen(Box<(Purpose, Request)>, Response),
    /// A query task was looked at that another one is to be like.
    Copied(Box<(Purpose, Request)>, Response),
    /// A document of the cluster has answered a notification.
    Notified(u64, Response),
}

/// A question as it comes in.
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    /// The term of the owner that is meant; `None` means any owner.
    pub(crate) term: Option<Term>,
    pub(crate) key: Option<protocol::RequestKey>,
    pub(crate) is_retry: bool,
    pub(crate) question: Question,
}

/// What the owner of an instance has to say.
#[derive(Clone, Debug)]
pub(crate) enum InstanceAnswer {
    Told(immortals::Response),
    Problem(protocol::Problem),
}

/// How a node ends that cannot go on, and why.
pub(crate) enum Ending {
    Halt(String),
    /// It does not have any more what it promised.
    Renew {
        why: String,
        contact: Option<String>,
    },
}

/// What a step has brought about so far.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) outbox: Outbox,
    pub(crate) outputs: Vec<Output>,
    pub(crate) work: VecDeque<Work>,
    /// What has changed in the directory, in order.
    pub(crate) directory: Vec<DirectoryChange>,
    /// Links to be closed after what was sent on them.
    pub(crate) closing: Vec<u64>,
    /// Set when the node cannot go on.
    pub(crate) ending: Option<Ending>,
}

impl Effects {
    pub(crate) fn push(&mut self, work: Work) {
        self.work.push_back(work);
    }

    pub(crate) fn instance(&mut self, group: GroupId, input: immortals::Input) {
        self.work.push_back(Work::Instance(group, input));
    }

    pub(crate) fn service(&mut self, work: ServiceWork) {
        self.work.push_back(Work::Service(Box::new(work)));
    }

    pub(crate) fn job(&mut self, job: Job) {
        self.outputs.push(Output::Run(job));
    }

    pub(crate) fn note(&mut self, level: Level, text: String) {
        self.outputs.push(Output::Note { level, text });
    }

    /// The node cannot go on. The first reason is kept.
    pub(crate) fn halt(&mut self, why: String) {
        self.ending.get_or_insert(Ending::Halt(why));
    }

    /// As [`Effects::halt`]; the sandbox is not used any more.
    pub(crate) fn renew(&mut self, why: String, contact: Option<String>) {
        self.ending.get_or_insert(Ending::Renew { why, contact });
    }

    /// The state store, or the log, cannot be used.
    pub(crate) fn failed(&mut self, error: &StoreError) {
        if error.is_damage {
            self.renew(error.to_string(), None);
        } else {
            self.halt(format!("{error}. The other nodes carry on"));
        }
    }

    /// Tells the other end why, and closes the link.
    pub(crate) fn refuse(&mut self, link: u64, why: String) {
        self.note(Level::Warn, format!("refused a link: {why}"));
        self.outbox.send_on(link, Frame::Refused { why });
        self.closing.push(link);
    }

    /// Tells the other end that it belongs to the cluster no more, and closes the link.
    pub(crate) fn removed(&mut self, link: u64) {
        self.outbox.send_on(link, Frame::Removed);
        self.closing.push(link);
    }

    /// Brings an answer to whoever waits for it.
    pub(crate) fn finish(&mut self, purpose: &Purpose, answer: Answer) {
        match purpose {
            Purpose::Client { ticket } => {
                let response = answer.into_response();
                self.outputs.push(Output::Answer { ticket: *ticket, response });
            }
            Purpose::Call { group, opening, call } => {
                let (opening, call, response) = (*opening, *call, answer.into_response());
                let event = PartitionEvent::Called { opening, call, response };
                self.push(Work::Partition(*group, event));
            }
            Purpose::Part { gather, group } => {
                self.push(Work::Gathered((*gather, *group), answer));
            }
            Purpose::Atom { batch, group } => self.push(Work::Atom((*batch, *group), answer)),
            Purpose::Piece { query, group } => self.push(Work::Piece(*query, *group, answer)),
            Purpose::LookUp(waiting) => {
                let (waiting, response) = (waiting.clone(), answer.into_response());
                self.push(Work::LookedUp(waiting, response));
            }
            Purpose::Seek(sought) => {
                let response = answer.into_response();
                self.push(Work::Found(sought.clone(), response));
            }
            Purpose::Level(waiting) => {
                let (waiting, response) = (waiting.clone(), answer.into_response());
                self.push(Work::Leveled(waiting, response));
            }
            Purpose::Notify { number } => {
                let work = FeedWork::Notified(*number, answer.into_response());
                self.push(Work::Feed(work));
            }
            Purpose::Subscribe(waiting) => {
                let work = FeedWork::Seen(waiting.clone(), answer.into_response());
                self.push(Work::Feed(work));
            }
            Purpose::Copy(waiting) => {
                let work = FeedWork::Copied(waiting.clone(), answer.into_response());
                self.push(Work::Feed(work));
            }
            Purpose::Undefine(waiting) => {
                let (waiting, response) = (waiting.clone(), answer.into_response());
                self.push(Work::Undefine(waiting, response));
            }
            Purpose::Broadcast(waiting) => {
                let (purpose, receivers) = &**waiting;
                self.respond(purpose, receivers.answer(&answer.into_response()));
            }
            Purpose::Own => {}
        }
    }

    pub(crate) fn respond(&mut self, purpose: &Purpose, response: impl Into<Response>) {
        self.finish(purpose, Answer::Response(response.into()));
    }

    /// Brings an owner's answer to the node that took the request in.
    pub(crate) fn reply(&mut self, me: ReplicaId, caller: Caller, answer: Answer) {
        let Caller { node, boot, number } = caller;
        if node == me {
            self.push(Work::Answered { from: me, number, answer });
        } else {
            self.outbox.send(node, Frame::Answer { boot, number, answer });
        }
    }
}
