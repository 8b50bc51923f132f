//! The groups of a node: their replicas, the store and the log batch that the replicas share, and
//! which of the replicas have something to do.
//!
//! A shard is the unit of a thread: everything that its replicas need is in it, or is lent to it
//! ([`Conditions`]), or comes in and goes out as a message. A node has one at present.
//!
//! A node may have ten thousand replicas, so an event for one of them must not cost a look at all
//! of them.

use std::collections::{BTreeMap, BTreeSet};

use cluster::DirectoryMachine;
use group::{Io, Outputs, PeerMessage, Quorum, Replica, Touch};
use protocol::{GroupId, Now, ReplicaId};
use services::{Handlers, PartitionEvent, PartitionMachine};
use storage::{Space, StateStore, StoreError};

use crate::frame::{Answer, Frame, Question};
use crate::hosted::{AnyReplica, Hosted};
use crate::instance::{InstanceEvent, InstanceMachine, Map};
use crate::io::Level;
use crate::log_batch::{LogBatch, Logs};
use crate::marks::{Marks, Speakers};
use crate::rest::recordings::{Page, page_of};
use crate::work::{Asked, Effects};

/// How much longer a replica of an instance waits for a silent owner when it has no program, in
/// ticks.
const RELUCTANT_TICKS: usize = 200;

/// What the rest of the node knows, lent for one step.
#[derive(Clone, Copy)]
pub(crate) struct Conditions<'a> {
    pub(crate) now: Now,
    pub(crate) me: ReplicaId,
    pub(crate) map: &'a Map,
    /// For writes of documents.
    pub(crate) quorum: Quorum,
    /// Whether groups may be served here: the node is not stopping, and knows what time it is.
    pub(crate) may_lead: bool,
}

impl Conditions<'_> {
    pub(crate) fn may_lead(&self, group: GroupId) -> bool {
        self.may_lead && (!group.is_partition() || self.map.topology.is_formed())
    }

    /// Changes of the directory need the majority only: they are how a quorum is lowered. An
    /// instance's inputs are acknowledged by its own rules.
    pub(crate) fn quorum(&self, group: GroupId) -> Quorum {
        if group.is_partition() { self.quorum } else { Quorum::default() }
    }
}

pub(crate) struct Shard {
    pub(crate) store: Box<dyn StateStore>,
    pub(crate) handlers: Handlers,
    pub(crate) directory: Replica<DirectoryMachine>,
    pub(crate) partitions: BTreeMap<GroupId, Replica<PartitionMachine>>,
    pub(crate) instances: BTreeMap<GroupId, Replica<InstanceMachine>>,
    pub(crate) logs: Logs,
    pub(crate) log: LogBatch,
    pub(crate) marks: Marks,
    pub(crate) speakers: Speakers,
    /// Whether groups might be served here, and partitions too, at the last tick.
    could_lead: (bool, bool),
    /// See [`Self::set_pace`].
    pace: (usize, usize),
    pub(crate) astray: Astray,
}

/// Groups whose state here is not what follows from their log, with the generation that it has.
/// They are not served here before another one has taken its place.
#[derive(Default)]
pub(crate) struct Astray(pub(crate) BTreeMap<GroupId, u32>);

/// Lets one replica do something, and brings what it wants to the rest of the node.
macro_rules! run {
    ($shard:expr, $replica:expr, $around:expr, $conditions:expr, $effects:expr, $work:expr) => {{
        let conditions: &Conditions<'_> = $conditions;
        let replica = $replica;
        let group = replica.id();
        let mut io = Io {
            now: conditions.now,
            store: &mut *$shard.store,
            around: $around,
            batch: $shard.log.next_batch(),
            next_mark: $shard.log.next_mark(),
            quorum: conditions.quorum(group),
            may_lead: conditions.may_lead(group) && !$shard.astray.0.contains_key(&group),
        };
        let mut out = $crate::shard::outputs_of(replica);
        let result = $work(replica, &mut io, &mut out);
        $crate::shard::absorb(&mut $shard.log, group, conditions.me, out, $effects);
        result
    }};
}
pub(crate) use run;

/// Lets the replica of a group do something, whatever lives in it, if it has one here.
macro_rules! run_in {
    ($shard:expr, $group:expr, $conditions:expr, $effects:expr, $work:expr) => {{
        let (group, map) = ($group, $conditions.map);
        if group.is_directory() {
            run!($shard, &mut $shard.directory, &(), $conditions, $effects, $work)
        } else if let Some(replica) = $shard.partitions.get_mut(&group) {
            run!($shard, replica, &$shard.handlers, $conditions, $effects, $work)
        } else if let Some(replica) = $shard.instances.get_mut(&group) {
            run!($shard, replica, map, $conditions, $effects, $work)
        } else {
            Ok(())
        }
    }};
}
pub(crate) use run_in;

/// How much longer this replica waits before it campaigns. A replica without a program is of little
/// use as an owner, so an owner that has a program and pauses for a moment should find its place
/// free. (A program that was the primary must end when another replica becomes the owner. If the
/// new owner had no program either, there would be none at all.)
pub(crate) fn reluctance_of(instance: &immortals::Instance) -> usize {
    if instance.has_begun() && !instance.is_served() { RELUCTANT_TICKS } else { 0 }
}

pub(crate) fn outputs_of<M: Hosted>(_: &Replica<M>) -> Outputs<M> {
    Outputs::default()
}

pub(crate) fn absorb<M: Hosted>(
    log: &mut LogBatch,
    group: GroupId,
    me: ReplicaId,
    mut out: Outputs<M>,
    effects: &mut Effects,
) {
    log.records.append(&mut out.records);
    log.want_persist |= out.wants_persist;
    send_all(group, out.messages, effects);
    for (caller, reply) in out.replies {
        M::reply(group, me, caller, reply, effects);
    }
    for action in out.actions {
        M::act(group, action, effects);
    }
    for (level, notes) in [(Level::Info, out.notes), (Level::Debug, out.details)] {
        for note in notes {
            effects.note(level, format!("{}: {note}", crate::hosted::name_of(group)));
        }
    }
}

fn send_all(group: GroupId, messages: Vec<(ReplicaId, PeerMessage)>, effects: &mut Effects) {
    for (to, message) in messages {
        let frame = match message {
            PeerMessage::Consensus(message) => Frame::Consensus { group, message },
            PeerMessage::Chunk(chunk) => Frame::Chunk(chunk),
            PeerMessage::ChunkTaken { transfer, number } => {
                Frame::ChunkTaken { group, transfer, number }
            }
        };
        effects.outbox.send(to, frame);
    }
}

impl Shard {
    pub(crate) fn new(
        store: Box<dyn StateStore>,
        handlers: Handlers,
        directory: Replica<DirectoryMachine>,
        logs: Logs,
        log: LogBatch,
    ) -> Self {
        let mut marks = Marks::default();
        marks.touched.insert(GroupId::DIRECTORY);
        Self {
            store,
            handlers,
            directory,
            partitions: BTreeMap::new(),
            instances: BTreeMap::new(),
            logs,
            log,
            marks,
            speakers: Speakers::default(),
            could_lead: (false, false),
            pace: (0, 0),
            astray: Astray::default(),
        }
    }

    // Looking.

    pub(crate) fn get(&self, group: GroupId) -> Option<&dyn AnyReplica> {
        fn any<M: Hosted>(replica: &Replica<M>) -> &dyn AnyReplica {
            replica
        }
        if group.is_directory() {
            Some(&self.directory)
        } else if group.is_partition() {
            self.partitions.get(&group).map(any)
        } else {
            self.instances.get(&group).map(any)
        }
    }

    pub(crate) fn has(&self, group: GroupId) -> bool {
        self.get(group).is_some()
    }

    /// All groups with a replica here, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.document_groups().chain(self.instances.keys().copied())
    }

    /// The directory and the partitions.
    pub(crate) fn document_groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        std::iter::once(GroupId::DIRECTORY).chain(self.partitions.keys().copied())
    }

    pub(crate) fn is_serving(&self, group: GroupId) -> bool {
        self.get(group).is_some_and(|replica| replica.serving().is_some())
    }

    pub(crate) fn is_serving_opening(&self, group: GroupId, opening: u64) -> bool {
        let serving = self.get(group).and_then(AnyReplica::serving);
        serving.is_some_and(|(_, present)| present == opening)
    }

    /// The groups that are served here.
    pub(crate) fn served(&self) -> Vec<GroupId> {
        self.groups().filter(|group| self.is_serving(*group)).collect()
    }

    /// The groups whose clock goes on. The others are at rest, so they have an owner, and those
    /// that are served here have the members that they should have.
    pub(crate) fn awake(&self) -> Vec<GroupId> {
        self.marks.awake.union(&self.marks.touched).copied().collect()
    }

    /// Groups at rest need no clock any more, if `has_its_members` says so as well.
    pub(crate) fn doze(&mut self, has_its_members: impl Fn(GroupId, &dyn AnyReplica) -> bool) {
        let awake = std::mem::take(&mut self.marks.awake);
        let stays = |group: &GroupId| {
            self.get(*group).is_some_and(|it| !it.is_asleep() || !has_its_members(*group, it))
        };
        self.marks.awake = awake.into_iter().filter(stays).collect();
    }

    pub(crate) fn instance(&self, group: GroupId) -> Option<&immortals::Instance> {
        self.instances.get(&group).map(|replica| replica.machine().instance())
    }

    pub(crate) fn is_astray(&self, group: GroupId) -> bool {
        self.astray.0.contains_key(&group)
    }

    pub(crate) fn astray(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.astray.0.keys().copied()
    }

    // Changing.

    /// The state of that group, if it has that generation, is not used any more. False when that is
    /// not news.
    pub(crate) fn put_aside(&mut self, group: GroupId, generation: u32) -> bool {
        if self.get(group).is_none_or(|replica| replica.space().generation != generation) {
            return false;
        }
        self.marks.touched.insert(group);
        self.astray.0.insert(group, generation).is_none()
    }

    /// The groups that have another state now than the one that was put aside.
    pub(crate) fn take_filled(&mut self) -> Vec<GroupId> {
        let present = |group: &GroupId| self.get(*group).map(|it| it.space().generation);
        let filled = self.astray.0.iter().filter(|(group, was)| present(group) != Some(**was));
        let filled: Vec<GroupId> = filled.map(|(group, _)| *group).collect();
        for group in &filled {
            self.astray.0.remove(group);
            self.marks.touched.insert(*group);
        }
        filled
    }

    /// A replica for change. It counts as changed, and is settled before the step is over.
    pub(crate) fn get_mut(&mut self, group: GroupId) -> Option<&mut dyn AnyReplica> {
        self.marks.touched.insert(group);
        self.any_mut(group)
    }

    fn any_mut(&mut self, group: GroupId) -> Option<&mut dyn AnyReplica> {
        fn any<M: Hosted>(replica: &mut Replica<M>) -> &mut dyn AnyReplica {
            replica
        }
        if group.is_directory() {
            Some(&mut self.directory)
        } else if group.is_partition() {
            self.partitions.get_mut(&group).map(any)
        } else {
            self.instances.get_mut(&group).map(any)
        }
    }

    /// Runs `work` for all replicas, and marks those as touched for which `work` says so.
    pub(crate) fn each(&mut self, mut work: impl FnMut(GroupId, &mut dyn AnyReplica) -> Touch) {
        let Self { directory, partitions, instances, marks, .. } = self;
        let mut one = |group: GroupId, replica: &mut dyn AnyReplica| {
            if work(group, replica) == Touch::Touched {
                marks.touched.insert(group);
            }
        };
        one(GroupId::DIRECTORY, directory);
        partitions.iter_mut().for_each(|(group, replica)| one(*group, replica));
        instances.iter_mut().for_each(|(group, replica)| one(*group, replica));
    }

    /// Where the keys of all groups lie that have a replica here.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = Space> {
        let Self { directory, partitions, instances, .. } = self;
        let partitions = partitions.values().map(|replica| *replica.space());
        let instances = instances.values().map(|replica| *replica.space());
        [*directory.space()].into_iter().chain(partitions).chain(instances)
    }

    /// How long owners may be silent, and how long a round trip takes, in ticks.
    pub(crate) fn set_pace(&mut self, pace: (usize, usize)) {
        if std::mem::replace(&mut self.pace, pace) == pace {
            return;
        }
        self.each(|_, replica| {
            replica.consensus_mut().set_pace(pace.0, pace.1);
            Touch::Still
        });
    }

    pub(crate) fn add_partition(&mut self, mut replica: Replica<PartitionMachine>) {
        replica.consensus.set_pace(self.pace.0, self.pace.1);
        self.marks.touched.insert(replica.id());
        self.partitions.insert(replica.id(), replica);
    }

    pub(crate) fn add_instance(&mut self, mut replica: Replica<InstanceMachine>) {
        replica.consensus.set_pace(self.pace.0, self.pace.1);
        self.marks.touched.insert(replica.id());
        self.marks.wakes.set(replica.id(), Some(0));
        self.instances.insert(replica.id(), replica);
    }

    pub(crate) fn remove_instance(&mut self, group: GroupId) -> Option<Replica<InstanceMachine>> {
        self.marks.wakes.set(group, None);
        self.speakers.note(group, None, std::iter::empty);
        self.marks.touched.insert(group);
        self.instances.remove(&group)
    }

    // What happens.

    /// That node has been silent for `silent_ticks`.
    pub(crate) fn suspect(&mut self, node: ReplicaId, silent_ticks: usize) {
        self.each(|_, replica| {
            let was_resting = replica.consensus().is_resting();
            replica.consensus_mut().suspect(node, silent_ticks);
            let woke = was_resting && !replica.consensus().is_resting();
            if woke { Touch::Touched } else { Touch::Still }
        });
    }

    /// Time goes on.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn tick(
        &mut self,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let now = conditions.now.steady_micros;
        // More depends on groups than consensus knows: whether they may be led is one thing.
        let may_lead = (conditions.may_lead, conditions.map.topology.is_formed());
        let is_news = std::mem::replace(&mut self.could_lead, may_lead) != may_lead;
        if is_news {
            self.marks.awake = self.groups().collect();
        }
        for group in self.awake() {
            let Some(replica) = self.any_mut(group) else { continue };
            let is_still = match replica.tick(now) {
                Touch::Still => group.is_instance() || replica.consensus().is_resting(),
                Touch::Touched => false,
            };
            if !is_still || is_news {
                self.marks.touched.insert(group);
            }
        }
        for (group, replica) in &mut self.partitions {
            if replica.leader().is_some() {
                let around = &self.handlers;
                run!(self, &mut *replica, around, conditions, effects, Replica::tick_leader)?;
                self.marks.stir(*group, replica);
            }
        }
        self.shrink_windows();
        for group in self.marks.wakes.due(now) {
            // The instance says anew when it wants to be woken.
            self.marks.wakes.set(group, None);
            effects.instance(group, immortals::Input::Tick);
        }
        Ok(())
    }

    /// A frame of another replica that concerns one group.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn received(
        &mut self,
        from: ReplicaId,
        frame: Frame,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let mut messages = Vec::new();
        match frame {
            Frame::Consensus { group, message } => {
                if message.from == from
                    && message.to == conditions.me
                    && let Some(replica) = self.get_mut(group)
                {
                    replica.receive(message);
                }
            }
            Frame::Chunk(chunk) => {
                let group = chunk.group;
                self.marks.touched.insert(group);
                let Self { directory, partitions, instances, store, .. } = self;
                let replica: Option<&mut dyn AnyReplica> = if group.is_directory() {
                    Some(directory)
                } else if group.is_partition() {
                    partitions.get_mut(&group).map(|replica| replica as _)
                } else {
                    instances.get_mut(&group).map(|replica| replica as _)
                };
                if let Some(replica) = replica {
                    replica.chunk(&mut **store, from, chunk, &mut messages)?;
                }
                send_all(group, messages, effects);
            }
            Frame::ChunkTaken { group, transfer, number } => {
                let now = conditions.now.steady_micros;
                if let Some(replica) = self.get_mut(group) {
                    replica.chunk_taken(from, (transfer, number), now, &mut messages)?;
                }
                send_all(group, messages, effects);
            }
            _ => unreachable!("the caller gives only what concerns one group"),
        }
        Ok(())
    }

    /// A question for the owner of a group, which may be this replica. `refusal` says why the node
    /// cannot take the question on.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn ask(
        &mut self,
        group: GroupId,
        asked: Asked,
        refusal: Option<protocol::Problem>,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let Asked { caller, term, key, is_retry, question } = asked;
        let serving = self.get(group).and_then(AnyReplica::serving);
        let is_meant = |(present, _): (protocol::Term, u64)| {
            // A node that asks for an instance may have no replica of it, and then does not know
            // its term.
            term.is_none_or(|term| term == present) || group.is_instance()
        };
        if !serving.is_some_and(is_meant) {
            effects.reply(conditions.me, caller, Answer::NotOwner);
            return Ok(());
        }
        let is_write = question.is_write();
        let replicas = self.get(group).map_or(0, |it| it.consensus().members().voters.len());
        // A quorum of more replicas than there are was refused before.
        let quorum = question.quorum(replicas).unwrap_or(replicas);
        macro_rules! put {
            ($replica:expr, $around:expr, $question:expr) => {{
                self.marks.touched.insert(group);
                let question = group::Question {
                    caller,
                    key,
                    is_retry,
                    is_write,
                    quorum,
                    refusal,
                    question: $question,
                };
                run!(
                    self,
                    $replica,
                    $around,
                    conditions,
                    effects,
                    |replica: &mut Replica<_>, io: &mut Io<'_, _>, out: &mut Outputs<_>| {
                        replica.ask(io, question, out)
                    }
                )
            }};
        }
        if let Some(question) = question.of_directory().filter(|_| group.is_directory()) {
            return put!(&mut self.directory, &(), question);
        }
        let rest = match question {
            Question::Instance(request) => {
                let Some(replica) = self.instances.get_mut(&group) else { return Ok(()) };
                return put!(replica, conditions.map, request);
            }
            other => other.of_partition(is_retry),
        };
        let Some(rest) = rest else {
            let problem = protocol::Problem::internal("a question for another kind of group");
            effects.reply(conditions.me, caller, problem.into());
            return Ok(());
        };
        let Some(replica) = self.partitions.get_mut(&group) else { return Ok(()) };
        put!(replica, &self.handlers, rest)
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn partition_event(
        &mut self,
        group: GroupId,
        event: PartitionEvent,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        self.marks.touched.insert(group);
        let Some(replica) = self.partitions.get_mut(&group) else { return Ok(()) };
        run!(
            self,
            replica,
            &self.handlers,
            conditions,
            effects,
            |replica: &mut Replica<_>, io: &mut Io<'_, _>, out: &mut Outputs<_>| {
                replica.happened(io, event, out)
            }
        )
    }

    /// The partitions owned here that have ever sent something to the instance with that name.
    pub(crate) fn partitions_sending_to(&self, instance: &str) -> impl Iterator<Item = GroupId> {
        let sends = |replica: &Replica<PartitionMachine>| {
            let outbox = replica.machine().partition().outbox();
            replica.leader().is_some() && outbox.destination(instance).is_some()
        };
        let sending = self.partitions.iter().filter(move |(_, replica)| sends(replica));
        sending.map(|(group, _)| *group)
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn instance_event(
        &mut self,
        group: GroupId,
        event: InstanceEvent,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let Some(replica) = self.instances.get_mut(&group) else { return Ok(()) };
        run!(
            self,
            replica,
            conditions.map,
            conditions,
            effects,
            |replica: &mut Replica<_>, io: &mut Io<'_, _>, out: &mut Outputs<_>| {
                replica.happened(io, event, out)
            }
        )?;
        if let Some(replica) = self.instances.get(&group) {
            self.marks.stir(group, replica);
        }
        self.follow_instance(group);
        Ok(())
    }

    /// A page of a recording of an instance.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn record(
        &mut self,
        group: GroupId,
        page: Page,
        conditions: &Conditions<'_>,
    ) -> Result<Answer, StoreError> {
        let Some(replica) = self.instances.get_mut(&group) else {
            return Ok(protocol::Problem::not_found("it is not registered any more").into());
        };
        let mut io = Io {
            now: conditions.now,
            store: &mut *self.store,
            around: conditions.map,
            batch: self.log.next_batch(),
            next_mark: self.log.next_mark(),
            quorum: Quorum::default(),
            may_lead: false,
        };
        replica.write_snapshot(&mut io)?;
        let (store, space) = (&*self.store, replica.space());
        let instance = replica.machine().instance();
        let response = page_of(instance, &replica.log(), store, space, page)?;
        Ok(Answer::Response(response.unwrap_or_else(Into::into)))
    }

    /// An instance that is to be removed has no leader any more; its callers are told.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn resign_instance(
        &mut self,
        group: GroupId,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let Some(replica) = self.instances.get_mut(&group) else { return Ok(()) };
        run!(self, replica, conditions.map, conditions, effects, Replica::resign)
    }

    /// Something was done to an instance: it may want to be woken at another time, or send to
    /// others.
    fn follow_instance(&mut self, group: GroupId) {
        let Some(replica) = self.instances.get_mut(&group) else { return };
        let ticks = reluctance_of(replica.machine().instance());
        replica.consensus.set_reluctance_ticks(ticks);
        let opening = replica.serving().map(|(_, opening)| opening);
        let lead = replica.leader().map(|leader| leader.lead());
        self.marks.wakes.set(group, replica.machine().instance().next_wake(lead));
        let leader = opening.zip(lead).map(|(opening, lead)| (opening, lead.destinations_begun()));
        self.speakers.note(group, leader, || lead.into_iter().flat_map(|lead| lead.destinations()));
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn hand_over(
        &mut self,
        group: GroupId,
        to: ReplicaId,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        self.marks.touched.insert(group);
        run_in!(
            self,
            group,
            conditions,
            effects,
            |replica: &mut Replica<_>, io: &mut Io<'_, _>, out: &mut Outputs<_>| {
                replica.hand_over(io, to, out)
            }
        )
    }

    // Coming to rest.

    pub(crate) fn is_settled(&self) -> bool {
        self.marks.touched.is_empty()
    }

    /// Those that are to be settled now.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.marks.touched)
    }

    /// Does all that consensus asks for in one group.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn settle(
        &mut self,
        group: GroupId,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        run_in!(self, group, conditions, effects, Replica::settle)?;
        self.follow_instance(group);
        let Some(replica) = self.get(group) else {
            self.logs.window.forget(group);
            self.marks.refusals.note(group, 0);
            self.marks.awake.remove(&group);
            return Ok(());
        };
        let held = replica.consensus().log_bytes();
        let (waits, is_lazy) = (replica.waits_for_the_disk(), replica.has_lazy_record());
        let refused = replica.refused_bytes();
        self.logs.window.note(group, held);
        self.marks.refusals.note(group, refused);
        self.shrink_refusals();
        self.marks.awake.insert(group);
        if waits {
            self.marks.waiting.insert(group);
        }
        if is_lazy {
            self.marks.lazy.insert(group);
        }
        Ok(())
    }

    fn shrink_refusals(&mut self) {
        while let Some((group, bytes)) = self.marks.refusals.too_many() {
            if let Some(replica) = self.any_mut(group) {
                replica.shrink_refused(bytes);
            }
            let left = self.get(group).map_or(0, AnyReplica::refused_bytes);
            self.marks.refusals.note(group, left);
        }
    }

    // The disk.

    /// What waited for the log up to that batch is let go.
    pub(crate) fn log_durable(&mut self, batch: u64, effects: &mut Effects) {
        for group in std::mem::take(&mut self.marks.waiting) {
            let touched = self.marks.touched.contains(&group);
            let mut messages = Vec::new();
            let Some(replica) = self.get_mut(group) else { continue };
            let touch = replica.log_durable(batch, &mut messages);
            let waits = replica.waits_for_the_disk();
            if touch == Touch::Still && !touched {
                self.marks.touched.remove(&group);
            }
            if waits {
                self.marks.waiting.insert(group);
            }
            send_all(group, messages, effects);
        }
    }

    /// What waited for the state store goes into the log.
    pub(crate) fn state_persisted(&mut self, mark: u64) {
        let batch = self.log.next_batch();
        let mut records = Vec::new();
        self.each(|_, replica| {
            records.append(&mut replica.state_persisted(mark, batch));
            Touch::Still
        });
        self.log.records.append(&mut records);
    }

    /// The commit positions that go along with other records.
    pub(crate) fn take_lazy(&mut self) -> Vec<storage::LogRecord> {
        let groups = std::mem::take(&mut self.marks.lazy).into_iter();
        let mut records = Vec::new();
        for group in groups {
            let touched = self.marks.touched.contains(&group);
            records.extend(self.get_mut(group).and_then(AnyReplica::take_lazy_record));
            if !touched {
                self.marks.touched.remove(&group);
            }
        }
        records
    }

    /// Before the state is made durable.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn prepare_persist(
        &mut self,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        macro_rules! prepare {
            ($replica:expr, $around:expr) => {
                run!(
                    self,
                    $replica,
                    $around,
                    conditions,
                    effects,
                    |replica: &mut Replica<_>, io: &mut Io<'_, _>, _: &mut Outputs<_>| {
                        replica.prepare_persist(io)
                    }
                )
            };
        }
        prepare!(&mut self.directory, &())?;
        for replica in self.partitions.values_mut() {
            prepare!(replica, &self.handlers)?;
        }
        for replica in self.instances.values_mut() {
            prepare!(replica, conditions.map)?;
        }
        Ok(())
    }
}
