//! The three kinds of replicas that a node hosts, as the rest of the node sees them: what all kinds
//! can do, and how the answers and wishes of each kind reach the node.

use cluster::DirectoryMachine;
use group::{Caller, Chunk, Machine, PeerMessage, Refusal, Replica, Reply, Touch};
use immortals::{Between, Lane};
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::{Group, Message};
use services::{PartitionAction, PartitionAnswer, PartitionMachine};
use storage::{LogRecord, Space, StateStore, StoreError};

use crate::frame::{Answer, Frame};
use crate::instance::{InstanceAction, InstanceMachine};
use crate::io::Output;
use crate::serving::words::ServiceWork;
use crate::work::{Effects, InstanceAnswer, Purpose, Work};

/// A machine that a node hosts.
pub(crate) trait Hosted: Machine<Answer: Refusal> {
    /// Brings an answer to its caller.
    fn reply(
        group: GroupId,
        me: ReplicaId,
        caller: Caller,
        reply: Reply<Self::Answer>,
        effects: &mut Effects,
    );

    /// Has something done outside of the group.
    fn act(group: GroupId, action: Self::Action, effects: &mut Effects);
}

impl Hosted for DirectoryMachine {
    fn reply(
        _group: GroupId,
        _me: ReplicaId,
        caller: Caller,
        reply: Reply<Self::Answer>,
        effects: &mut Effects,
    ) {
        effects.push(Work::DirectoryReply(caller, reply));
    }

    fn act(_group: GroupId, action: Self::Action, effects: &mut Effects) {
        effects.directory.push(action);
    }
}

impl Hosted for PartitionMachine {
    fn reply(
        _group: GroupId,
        me: ReplicaId,
        caller: Caller,
        reply: Reply<PartitionAnswer>,
        effects: &mut Effects,
    ) {
        let answer = match reply {
            Reply::NotOwner => Answer::NotOwner,
            Reply::Answer(
                PartitionAnswer::Response(response) | PartitionAnswer::Unchanged(response),
            ) => Answer::Response(response),
            Reply::Answer(PartitionAnswer::Page(page)) => Answer::Page(page),
            Reply::Answer(PartitionAnswer::TooLong) => Answer::TooLong,
        };
        effects.reply(me, caller, answer);
    }

    fn act(group: GroupId, action: PartitionAction, effects: &mut Effects) {
        match action {
            PartitionAction::Invoke(invocation) => {
                effects.outputs.push(Output::Invoke(*invocation));
            }
            PartitionAction::Ask { opening, number, call } => {
                effects.service(ServiceWork::Ask { group, opening, number, call: *call });
            }
            PartitionAction::Call { opening, call, request } => {
                effects.push(Work::Enter(Purpose::Call { group, opening, call }, *request));
            }
            PartitionAction::Fence { opening, source } => {
                effects.push(Work::Fence { group, opening, source });
            }
            PartitionAction::Search(wanted) => effects.push(Work::Search(group, wanted)),
            PartitionAction::Send { instance, message } => {
                effects.push(Work::SendToInstance { from: group, instance, message });
            }
            PartitionAction::Ack { instance, logged, resend_from } => {
                let message = Between::Ack { lane: Lane::Stream, logged, resend_from };
                effects.push(Work::Between { from: group, to: instance, message });
            }
            PartitionAction::GoOn { opening } => {
                effects.outputs.push(Output::GoOn { group, opening });
            }
            PartitionAction::WithoutNextEvent { count } => {
                effects.outputs.push(Output::WithoutNextEvent { count });
            }
        }
    }
}

impl Hosted for InstanceMachine {
    fn reply(
        group: GroupId,
        me: ReplicaId,
        caller: Caller,
        reply: Reply<InstanceAnswer>,
        effects: &mut Effects,
    ) {
        match reply {
            Reply::NotOwner => effects.reply(me, caller, Answer::NotOwner),
            told @ Reply::Answer(_) => effects.push(Work::InstanceReply(group, caller, told)),
        }
    }

    fn act(group: GroupId, action: InstanceAction, effects: &mut Effects) {
        match action {
            InstanceAction::Write { program, bytes } => {
                effects.outputs.push(Output::ProgramTell { program, bytes });
            }
            InstanceAction::Close { program } => {
                effects.push(Work::ProgramGone(program));
                effects.outputs.push(Output::ProgramClose { program });
            }
            InstanceAction::Peer { to, message } => {
                let message = Box::new(message);
                effects.outbox.send(to, Frame::Peer { group, message });
            }
            InstanceAction::Between { to, message } => {
                effects.push(Work::Between { from: group, to, message });
            }
            InstanceAction::HandOver { to } => {
                effects.push(Work::HandOverInstance { group, to });
            }
            InstanceAction::Accepting => effects.push(Work::Accepts(group)),
            InstanceAction::Repro { name, text } => {
                effects.outputs.push(Output::Repro { name, text });
            }
        }
    }
}

/// What every replica can do, whatever lives in its group.
pub(crate) trait AnyReplica {
    fn consensus(&self) -> &Group;
    fn consensus_mut(&mut self) -> &mut Group;
    /// The term and the number of the leader, while this replica serves as the owner.
    fn serving(&self) -> Option<(Term, u64)>;
    fn is_handing_over(&self) -> bool;
    fn waits_for_the_disk(&self) -> bool;
    fn has_lazy_record(&self) -> bool;
    fn take_lazy_record(&mut self) -> Option<LogRecord>;
    fn persisted_up_to(&self) -> Position;
    fn space(&self) -> Space;
    /// Term and position of the last entry here.
    fn reach(&self) -> (Term, Position);
    /// Term and position of the last entry that was applied.
    fn applied(&self) -> (Term, Position);
    /// Where the state stands in the store.
    fn snapshot_point(&self) -> (Position, Term);
    /// Nothing more goes into the log. False when this replica does not serve as the owner.
    fn hold(&mut self) -> bool;
    /// The log is held, and all of it is applied.
    fn stands_still(&self) -> bool;
    /// The clock may stop: the group rests, and nothing is kept for a time here.
    fn is_asleep(&self) -> bool;
    /// What the answers to refused writes take here, in bytes.
    fn refused_bytes(&self) -> usize;
    /// Forgets the oldest of them until they take at most that many bytes.
    fn shrink_refused(&mut self, bytes: usize);
    fn tick(&mut self, now: u64) -> Touch;
    fn receive(&mut self, message: Message);
    fn log_durable(&mut self, batch: u64, out: &mut Vec<(ReplicaId, PeerMessage)>) -> Touch;
    fn state_persisted(&mut self, mark: u64, batch: u64) -> Vec<LogRecord>;
    fn end_transfer(&mut self, to: ReplicaId, well: bool);
    fn chunk_taken(
        &mut self,
        from: ReplicaId,
        piece: (u64, u32),
        now: u64,
        out: &mut Vec<(ReplicaId, PeerMessage)>,
    ) -> Result<(), StoreError>;
    fn chunk(
        &mut self,
        store: &mut dyn StateStore,
        from: ReplicaId,
        chunk: Chunk,
        out: &mut Vec<(ReplicaId, PeerMessage)>,
    ) -> Result<(), StoreError>;
}

impl<M: Hosted> AnyReplica for Replica<M> {
    fn consensus(&self) -> &Group {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut Group {
        &mut self.consensus
    }

    fn serving(&self) -> Option<(Term, u64)> {
        Self::serving(self)
    }

    fn is_handing_over(&self) -> bool {
        Self::is_handing_over(self)
    }

    fn waits_for_the_disk(&self) -> bool {
        Self::waits_for_the_disk(self)
    }

    fn has_lazy_record(&self) -> bool {
        Self::has_lazy_record(self)
    }

    fn take_lazy_record(&mut self) -> Option<LogRecord> {
        Self::take_lazy_record(self)
    }

    fn persisted_up_to(&self) -> Position {
        Self::persisted_up_to(self)
    }

    fn space(&self) -> Space {
        *Self::space(self)
    }

    fn reach(&self) -> (Term, Position) {
        Self::reach(self)
    }

    fn applied(&self) -> (Term, Position) {
        Self::applied(self)
    }

    fn snapshot_point(&self) -> (Position, Term) {
        Self::snapshot_point(self)
    }

    fn hold(&mut self) -> bool {
        Self::hold(self)
    }

    fn stands_still(&self) -> bool {
        Self::stands_still(self)
    }

    fn is_asleep(&self) -> bool {
        Self::is_asleep(self)
    }

    fn refused_bytes(&self) -> usize {
        Self::refused_bytes(self)
    }

    fn shrink_refused(&mut self, bytes: usize) {
        Self::shrink_refused(self, bytes);
    }

    fn tick(&mut self, now: u64) -> Touch {
        Self::tick(self, now)
    }

    fn receive(&mut self, message: Message) {
        Self::receive(self, message);
    }

    fn log_durable(&mut self, batch: u64, out: &mut Vec<(ReplicaId, PeerMessage)>) -> Touch {
        Self::log_durable(self, batch, out)
    }

    fn state_persisted(&mut self, mark: u64, batch: u64) -> Vec<LogRecord> {
        Self::state_persisted(self, mark, batch)
    }

    fn end_transfer(&mut self, to: ReplicaId, well: bool) {
        Self::end_transfer(self, to, well);
    }

    fn chunk_taken(
        &mut self,
        from: ReplicaId,
        piece: (u64, u32),
        now: u64,
        out: &mut Vec<(ReplicaId, PeerMessage)>,
    ) -> Result<(), StoreError> {
        Self::chunk_taken(self, from, piece, now, out)
    }

    fn chunk(
        &mut self,
        store: &mut dyn StateStore,
        from: ReplicaId,
        chunk: Chunk,
        out: &mut Vec<(ReplicaId, PeerMessage)>,
    ) -> Result<(), StoreError> {
        Self::chunk(self, store, from, chunk, out)
    }
}

/// A group in words, where only its number is known.
pub(crate) fn name_of(group: GroupId) -> String {
    if group.is_directory() {
        "the directory".into()
    } else if group.is_instance() {
        format!("instance {group}")
    } else {
        format!("partition {group}")
    }
}
