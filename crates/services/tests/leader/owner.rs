//! A partition with its leader, as a `group::Replica` holds them, but without consensus: whoever
//! plays it says when handlers run, entries apply and a quorum has confirmed.

use std::sync::Arc;

use bytes::Bytes;
use documents::{AppliedCommand, Partition, Search, Wanted};
use group::{
    Caller, Context, Entry, Leader, LeaderInput, LogView, Machine, MemberHistory, Output, Quorum,
    Requests,
};
use protocol::{Action, Body, Document, Epoch, GroupId, Moment, Now, Position, ReplicaId, Term};
use query::{CompiledQuery, Page};
use replication::{Group, GroupOptions, Members, Restored};
use services::{
    Catalogue, Handlers, Invocation, Invoked, Invoker, Limits, PartitionAnswer, PartitionEvent,
    PartitionLeader, PartitionMachine, Ran,
};
use storage::{Applied, MemoryStore, Space};

pub(crate) const PARTITION: GroupId = GroupId(1);

pub(crate) type Said = Vec<Output<PartitionMachine>>;

/// Has every handler run by whoever plays the owner, when that is told to.
pub(crate) struct Elsewhere;

impl Invoker for Elsewhere {
    fn invoke(&self, _: &Catalogue, invocation: Invocation) -> Ran {
        Ran::Elsewhere(invocation)
    }
}

pub(crate) struct Owner {
    store: MemoryStore,
    machine: PartitionMachine,
    leader: Option<PartitionLeader>,
    pub(crate) requests: Requests<PartitionAnswer>,
    pub(crate) handlers: Handlers,
    pub(crate) now: Now,
    pub(crate) quorum: Quorum,
    pub(crate) epoch: Epoch,
    pub(crate) opening: u64,
    pub(crate) position: Position,
    space: Space,
    /// Has no part in anything: a leader must be lent a log.
    consensus: Group,
    members: MemberHistory,
}

impl Owner {
    pub(crate) fn new(node_id: &str) -> Self {
        let store = MemoryStore::new();
        let (space, _) = Space::open(&store, PARTITION).unwrap();
        let me = ReplicaId(1);
        let members = Members::of_voters([me]);
        let restored = Restored { members: members.clone(), ..Restored::default() };
        Self {
            machine: machine(&store, space, Limits::default()),
            store,
            leader: None,
            requests: Requests::new(0),
            handlers: Handlers {
                catalogue: Arc::new(crate::services::catalogue()),
                invoker: Arc::new(Elsewhere),
                node_id: node_id.into(),
                guard: access::Guard::default(),
                attached: Default::default(),
            },
            quorum: Quorum::default(),
            now: Now { steady_micros: 0, wall: Moment(1_000_000_000) },
            epoch: Term(1),
            opening: 0,
            position: Position(0),
            space,
            consensus: {
                let reader = storage::MemoryLog::default().reader();
                Group::new(GroupOptions::new(PARTITION, me), restored, reader).unwrap()
            },
            members: MemberHistory::new(Position(0), members),
        }
    }

    fn with(
        &mut self,
        run: impl FnOnce(
            &mut PartitionMachine,
            &mut Option<PartitionLeader>,
            &mut Context<'_, Handlers>,
            &mut Said,
        ),
    ) -> Said {
        let mut said = Vec::new();
        let mut at = Context {
            now: self.now,
            quorum: self.quorum,
            store: &mut self.store,
            space: self.space,
            log: LogView::new(&self.consensus, &self.members),
            around: &self.handlers,
        };
        run(&mut self.machine, &mut self.leader, &mut at, &mut said);
        said
    }

    /// A leader for the present epoch. Tickets go on where the last one has ended.
    pub(crate) fn open(&mut self) -> Said {
        self.opening += 1;
        self.requests = Requests::new(self.requests.last_ticket());
        let (epoch, opening) = (self.epoch, self.opening);
        self.with(|machine, leader, at, out| {
            *leader = Some(machine.lead(at, epoch, opening, out).unwrap());
        })
    }

    /// The leader is dropped: who still waits.
    pub(crate) fn close(&mut self) -> Vec<Caller> {
        let said = self.with(|machine, leader, at, out| {
            machine.follow(leader.take().expect("there is a leader"), at, out).unwrap();
        });
        assert!(said.is_empty(), "a leader of documents says nothing when it goes");
        let requests = Requests::new(self.requests.last_ticket());
        std::mem::replace(&mut self.requests, requests).into_callers().collect()
    }

    pub(crate) fn step(&mut self, input: LeaderInput<PartitionMachine>) -> Said {
        self.with(|machine, leader, at, out| {
            let leader = leader.as_mut().expect("there is a leader");
            leader.step(machine, at, input, out).unwrap();
        })
    }

    pub(crate) fn happened(&mut self, event: PartitionEvent) -> Said {
        self.with(|machine, leader, at, out| {
            machine.happened(leader.as_mut(), at, event, out).unwrap();
        })
    }

    /// The next entry of the log is applied.
    pub(crate) fn apply(&mut self, command: Bytes) -> AppliedCommand {
        self.position = self.position.next();
        let (position, term) = (self.position, self.epoch);
        let applied = Applied { position, term, ..Applied::default() };
        let entry = Entry { position, term, data: Some(command), applied };
        let mut effect = None;
        let said = self.with(|machine, leader, at, out| {
            effect = Some(machine.apply(leader.as_mut(), at, entry, out).unwrap());
        });
        assert!(said.is_empty(), "what an entry leads to is said when the leader hears of it");
        effect.expect("it was just applied")
    }

    pub(crate) fn search(&self, query: Arc<CompiledQuery>, wanted: Wanted) -> Page {
        let mut search = Search::new(self.machine.partition().view(), query, wanted);
        loop {
            if let Some(page) = search.step(&self.store, usize::MAX).unwrap() {
                return page;
            }
        }
    }

    /// The node has heard of a definition.
    /// `/app/things`, or with more of the definition: `/app/things {"handlers":["patch"]}`.
    pub(crate) fn define(&mut self, text: &str) {
        let (factory, more) = text.split_once(' ').unwrap_or((text, "{}"));
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(more).unwrap();
        fields.insert("link".into(), factory.into());
        let definition = Document {
            link: protocol::links::definition_of(factory),
            version: 0,
            epoch: self.epoch,
            kind: "amrita:KindState".into(),
            action: Action::Post,
            updated: self.now.wall,
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_map(fields),
        };
        assert!(Arc::make_mut(&mut self.handlers.catalogue).define(&definition));
    }

    pub(crate) fn invoke(&self, invocation: Invocation) -> Invoked {
        self.handlers.catalogue.invoke(invocation)
    }

    /// Tasks that have not ended and have no next event, each with what is missing.
    pub(crate) fn without_next_event(&self) -> Vec<String> {
        let Some(leader) = &self.leader else { return Vec::new() };
        let (catalogue, wall) = (&self.handlers.catalogue, self.now.wall);
        leader.next_events(&self.machine, &self.store, catalogue, wall).unwrap().without
    }

    pub(crate) fn partition(&self) -> &Partition {
        self.machine.partition()
    }

    pub(crate) fn latest(&self, link: &str) -> Option<Arc<Document>> {
        self.machine.partition().latest(&self.store, link).unwrap()
    }

    /// The next leader has these limits.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.machine = machine(&self.store, self.space, limits);
    }
}

fn machine(store: &MemoryStore, space: Space, limits: Limits) -> PartitionMachine {
    PartitionMachine::new(Partition::open(store, space).unwrap(), PARTITION, limits)
}
