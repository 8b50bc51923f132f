//! The instances of immortals on this node: their groups begin and end as the directory says, what
//! happens is brought to them, and what they want is done.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use immortals::{Between, Entries, Ground, Instance, Peer, Settings, Standing};
use protocol::{GroupId, Now, Position, ReplicaId, Term};
use replication::{CommittedData, Group, Members};
use storage::{Batch, LogRecord, Reader, Space, StateStore, StoreError};

use crate::directory::Directory;
use crate::frame::{Frame, Told};
use crate::io::{Level, Output, ProgramPorts};
use crate::node::{Agenda, Node};
use crate::office::Origin;
use crate::replica::{self, Machine, Replica};

/// An instance and what the node remembers of it.
pub(crate) struct Resident {
    pub(crate) instance: Instance,
    /// Memberships and from where on they are in force; the first is in force at the base.
    members: Vec<(Position, Members)>,
    /// Confirmed when a quorum has it in memory.
    pub(crate) memory: bool,
    /// What the instance wants done.
    pub(crate) outputs: Vec<immortals::Output>,
    /// The snapshot's place as consensus was told.
    stands: Position,
}

/// What the node knows of instances as a whole.
#[derive(Default)]
pub(crate) struct Immortals {
    /// The term for which an instance that is owned here was opened.
    pub(crate) open: BTreeMap<GroupId, Term>,
    /// Who has said last that it owns an instance, and in which term.
    owners: BTreeMap<GroupId, (Term, ReplicaId)>,
    /// Those that take messages now.
    accepting: BTreeMap<GroupId, Term>,
    /// They have another owner, or one that is reached again: who speaks to them is to be told.
    moved: BTreeSet<GroupId>,
    asks: BTreeMap<(GroupId, u64), Origin>,
    next_ask: u64,
    /// How many instances were gone when those that are were looked for last.
    gone: usize,
    ports: Vec<ProgramPorts>,
}

/// The applied log of a group, as an instance reads it.
struct Log<'a> {
    group: &'a Group,
    members: &'a [(Position, Members)],
    /// None while entries are applied: nobody is looked up then.
    map: Option<&'a Directory>,
    /// How far that is.
    directory: Position,
}

impl Entries for Log<'_> {
    fn after(&self, position: Position, bytes_max: usize) -> Vec<(Position, Term, Bytes)> {
        let entries = self.group.applied_after(position, bytes_max).into_iter();
        entries.map(|entry| (entry.position, entry.term, entry.data)).collect()
    }

    fn known_committed(&self) -> Option<Position> {
        self.group.known_committed()
    }

    fn members_at(&self, position: Position) -> Vec<u8> {
        replica::encode(members_at(self.members, position))
    }

    fn resolve(&self, name: &str) -> Option<GroupId> {
        self.map?.registry.instances.get(name).map(|entry| entry.group)
    }

    fn standing(&self, group: GroupId) -> Standing {
        self.map.map_or(Standing::Unknown, |map| map.registry.standing(group))
    }

    fn directory(&self) -> Position {
        self.directory
    }
}

impl<'a> Log<'a> {
    fn without_map(group: &'a Group, members: &'a [(Position, Members)]) -> Self {
        Self { group, members, map: None, directory: Position(0) }
    }
}

fn members_at(history: &[(Position, Members)], position: Position) -> &Members {
    let at = history.iter().rev().find(|(from, _)| *from <= position);
    let (_, members) = at.or(history.first()).expect("the history is never empty");
    members
}

impl Resident {
    pub(crate) fn new(instance: Instance, members: Members, memory: bool) -> Self {
        let base = instance.base().0;
        Self {
            instance,
            members: vec![(base, members)],
            memory,
            outputs: Vec::new(),
            stands: Position(u64::MAX),
        }
    }

    /// Takes a committed entry. What follows from it is done by [`Node::instance_applied`].
    pub(crate) fn apply(
        &mut self,
        store: &mut dyn StateStore,
        (group, space): (&mut Group, &Space),
        (position, term): (Position, Term),
        data: CommittedData,
    ) -> Result<(), StoreError> {
        let data = match data {
            CommittedData::Normal(data) => Some(data),
            CommittedData::Members(members) => {
                self.members.push((position, members));
                None
            }
            CommittedData::Empty => None,
        };
        let log = Log::without_map(group, &self.members);
        let mut ground = Ground { now: Now::default(), store, space: *space, entries: &log };
        self.instance.apply(&mut ground, position, term, data, &mut self.outputs)?;
        self.stand(group);
        Ok(())
    }

    /// The base is in the store, at this position and with these members.
    pub(crate) fn prepare(
        &mut self,
        store: &mut dyn StateStore,
        group: &Group,
        space: &Space,
    ) -> Result<(Position, Term, Members), StoreError> {
        let log = Log::without_map(group, &self.members);
        let mut ground = Ground { now: Now::default(), store, space: *space, entries: &log };
        self.instance.write_base(&mut ground)?;
        let (position, term) = self.instance.base();
        Ok((position, term, members_at(&self.members, position).clone()))
    }

    /// Another replica's state has taken the place of this one's.
    pub(crate) fn installed(
        &mut self,
        store: &dyn Reader,
        space: &Space,
        members: Members,
    ) -> Result<(), StoreError> {
        self.instance.installed(store, space, &mut self.outputs)?;
        self.members = vec![(self.instance.base().0, members)];
        Ok(())
    }

    /// Consensus is told where a snapshot would stand now.
    pub(crate) fn stand(&mut self, group: &mut Group) {
        let (position, term) = self.instance.base();
        if self.stands == position {
            return;
        }
        self.stands = position;
        while self.members.get(1).is_some_and(|(from, _)| *from <= position) {
            self.members.remove(0);
        }
        group.snapshots_stand_at(position, term, members_at(&self.members, position).clone());
    }
}

impl Node {
    pub(crate) fn instance(&self, group: GroupId) -> Option<&Instance> {
        match &self.replicas.get(&group)?.machine {
            Machine::Instance(resident) => Some(&resident.instance),
            _ => None,
        }
    }

    /// Lets an instance do something, with all that it needs of its node.
    pub(crate) fn with_instance(
        &mut self,
        group: GroupId,
        work: impl FnOnce(&mut Instance, &mut Ground<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let directory = self.replicas.get(&GroupId::DIRECTORY);
        let directory = directory.map_or(Position(0), |it| it.group.applied_position());
        let Some(replica) = self.replicas.get_still(group) else { return Ok(()) };
        let Replica { group: consensus, machine, space, .. } = replica;
        let Machine::Instance(resident) = machine else { return Ok(()) };
        let (members, map) = (&resident.members, Some(&self.map));
        let log = Log { group: consensus, members, map, directory };
        let mut ground =
            Ground { now: self.now, store: &mut *self.store, space: *space, entries: &log };
        work(&mut resident.instance, &mut ground)?;
        resident.stand(consensus);
        Ok(())
    }

    pub(crate) fn instance_step(
        &mut self,
        group: GroupId,
        input: immortals::Input,
    ) -> Result<(), StoreError> {
        let mut outputs = Vec::new();
        self.with_instance(group, |instance, ground| instance.step(ground, input, &mut outputs))?;
        self.instance_outputs(group, outputs);
        Ok(())
    }

    /// After entries were applied.
    pub(crate) fn instance_applied(&mut self, group: GroupId) -> Result<(), StoreError> {
        let replica = self.replicas.get_still(group);
        let mut outputs = match replica.map(|replica| &mut replica.machine) {
            Some(Machine::Instance(resident)) => std::mem::take(&mut resident.outputs),
            _ => return Ok(()),
        };
        self.with_instance(group, |instance, ground| instance.settle(ground, &mut outputs))?;
        self.instance_outputs(group, outputs);
        Ok(())
    }

    pub(crate) fn instance_outputs(&mut self, group: GroupId, outputs: Vec<immortals::Output>) {
        for output in outputs {
            self.instance_output(group, output);
        }
    }

    fn instance_output(&mut self, group: GroupId, output: immortals::Output) {
        use immortals::Output as Out;
        match output {
            Out::Propose(entry) => self.propose_input(group, entry),
            Out::Tell { program, bytes } => {
                self.outputs.push(Output::ProgramTell { program, bytes });
            }
            Out::Close { program } => {
                self.programs.remove(&program);
                self.outputs.push(Output::ProgramClose { program });
            }
            Out::Peer { to, message } => {
                self.outbox.send(to, Frame::Peer { group, message: Box::new(message) });
            }
            Out::Between { to, message } => self.send_between(group, to, message),
            Out::HandOver { to } => self.hand_over_instance(group, to),
            Out::Answer { ticket, told } => self.answer_ask(group, ticket, told),
            Out::Accepting => self.accepts(group),
            Out::Repro { name, text } => self.outputs.push(Output::Repro { name, text }),
            Out::Note(text) => self.note(Level::Info, text),
        }
    }

    fn propose_input(&mut self, group: GroupId, entry: Bytes) {
        let open = self.immortals.open.contains_key(&group);
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        if !open || replica.group.propose(entry).is_err() {
            self.close_instance(group);
            return;
        }
        self.agenda.push_back(Agenda::Again);
    }

    pub(crate) fn close_instance(&mut self, group: GroupId) {
        if self.immortals.open.remove(&group).is_some() {
            self.immortals.accepting.remove(&group);
            // The instance itself answers what was asked: it knows what is on its way into the log.
            self.agenda.push_back(Agenda::Instance(group, immortals::Input::Closed));
        }
    }

    /// Nobody is there any more to answer what was asked.
    fn drop_asks(&mut self, group: GroupId) {
        let asks = self.immortals.asks.range((group, 0)..=(group, u64::MAX));
        for number in asks.map(|(number, _)| *number).collect::<Vec<_>>() {
            let origin = self.immortals.asks.remove(&number).expect("it was listed");
            let answer = self.asked_response(group, immortals::Told::Unknown);
            self.reply(origin, Told::Response(answer));
        }
    }

    /// Not to a replica that could not take it: the instance would be closed for nothing.
    fn hand_over_instance(&mut self, group: GroupId, to: ReplicaId) {
        if !self.is_close(group, to) {
            // It is tried again at the next tick.
            let input = immortals::Input::NotHandedOver;
            return self.agenda.push_back(Agenda::Instance(group, input));
        }
        let name = self.map.node_id(to).unwrap_or("?").to_owned();
        self.note(Level::Info, format!("{} goes to node {name}", self.name_of_instance(group)));
        self.close_instance(group);
        if let Some(replica) = self.replicas.get_mut(&group) {
            replica.group.hand_over(to);
        }
        self.agenda.push_back(Agenda::Again);
    }

    pub(crate) fn name_of_instance(&self, group: GroupId) -> String {
        let registered = || self.map.registry.of_group(group).map(|(name, _)| name.as_str());
        match self.instance(group).map(Instance::name).or_else(registered) {
            Some(name) => format!("immortal '{name}'"),
            None => format!("instance {group}"),
        }
    }

    /// Opens and closes instances as the ownership of their groups comes and goes. These are the groups of
    /// which something may have changed.
    pub(crate) fn mind_instances(&mut self, groups: &BTreeSet<GroupId>) {
        for group in groups.range(GroupId::INSTANCES..).copied() {
            let Some(replica) = self.replicas.get(&group) else { continue };
            let consensus = &replica.group;
            let serving = consensus.is_owner() && consensus.ready_to_serve();
            let term = consensus.term();
            match self.immortals.open.get(&group) {
                Some(open) if !serving || *open != term => self.close_instance(group),
                None if serving
                    && consensus.applied_position() == consensus.last()
                    && !self.handing_over(group)
                    && !self.is_stopping() =>
                {
                    self.immortals.open.insert(group, term);
                    let input = immortals::Input::Opened { term };
                    self.agenda.push_back(Agenda::Instance(group, input));
                    let text = format!("owner of {} in term {term}", self.name_of_instance(group));
                    self.note(Level::Debug, text);
                }
                _ => {}
            }
        }
    }

    // Between owners.

    /// The owner of an instance, as far as is known here.
    pub(crate) fn owner_of_instance(&self, group: GroupId) -> Option<ReplicaId> {
        let told = self.immortals.owners.get(&group);
        let Some(replica) = self.replicas.get(&group) else {
            return told.map(|(_, owner)| *owner);
        };
        // A replica that the group has let go hears nothing of its owners any more, and may believe
        // in the last one that it knew.
        let known = replica.group.owner();
        match told {
            Some((term, owner)) if *term > replica.group.term() => Some(*owner),
            Some((term, owner)) if *term == replica.group.term() => known.or(Some(*owner)),
            _ => known,
        }
    }

    fn send_between(&mut self, from: GroupId, to: GroupId, message: Between) {
        match self.owner_of_instance(to) {
            Some(owner) if Some(owner) == self.me => {
                let input = immortals::Input::Between { from, message };
                self.agenda.push_back(Agenda::Instance(to, input));
            }
            Some(owner) => {
                self.outbox.send(owner, Frame::Between { from, to, message: Box::new(message) });
            }
            // It is asked again, and told when there is one.
            None => {}
        }
    }

    /// This node takes messages for an instance from now on.
    fn accepts(&mut self, group: GroupId) {
        let Some(term) = self.immortals.open.get(&group).copied() else { return };
        self.immortals.accepting.insert(group, term);
        for link in self.peers.ids() {
            self.outbox.send_on(link, Frame::Owns { group, term });
        }
        self.instance_moved(group);
    }

    /// A node that is reached (again) learns what is owned here, and how the programs here are.
    pub(crate) fn announce(&mut self, to: ReplicaId) {
        for group in self.replicas.range(GroupId::INSTANCES..).map(|(group, _)| *group) {
            let input = immortals::Input::PeerReached { replica: to };
            self.agenda.push_back(Agenda::Instance(group, input));
        }
        for (group, term) in self.immortals.accepting.clone() {
            self.outbox.send(to, Frame::Owns { group, term });
        }
    }

    pub(crate) fn owns(&mut self, from: ReplicaId, group: GroupId, term: Term) {
        let known = self.immortals.owners.get(&group);
        if known.is_none_or(|(known, _)| *known <= term) {
            self.immortals.owners.insert(group, (term, from));
            self.instance_moved(group);
            self.edge_is_stale();
        }
    }

    fn instance_moved(&mut self, group: GroupId) {
        self.immortals.moved.insert(group);
    }

    /// Tells the instances that are owned here which of those that they speak to have moved. Many move at a
    /// time, when a node is gone.
    pub(crate) fn mind_moved(&mut self) {
        if self.immortals.moved.is_empty() {
            return;
        }
        let moved = std::mem::take(&mut self.immortals.moved);
        for own in self.immortals.open.keys() {
            let Some(instance) = self.instance(*own) else { continue };
            let spoken_to: BTreeSet<GroupId> = instance
                .destinations()
                .filter_map(|name| Some(self.map.registry.instances.get(name)?.group))
                .filter(|group| moved.contains(group))
                .collect();
            for group in spoken_to {
                let input = immortals::Input::Moved { group };
                self.agenda.push_back(Agenda::Instance(*own, input));
            }
        }
    }

    pub(crate) fn peer_said(&mut self, from: ReplicaId, group: GroupId, message: Peer) {
        let input = immortals::Input::Peer { from, message };
        self.agenda.push_back(Agenda::Instance(group, input));
    }

    pub(crate) fn between_said(&mut self, from: GroupId, to: GroupId, message: Between) {
        let input = immortals::Input::Between { from, message };
        self.agenda.push_back(Agenda::Instance(to, input));
    }

    // Asks of people.

    pub(crate) fn ask_instance(&mut self, group: GroupId, origin: Origin, ask: immortals::Ask) {
        if !self.immortals.open.contains_key(&group) {
            return self.reply(origin, Told::NotOwner);
        }
        self.immortals.next_ask += 1;
        let ticket = self.immortals.next_ask;
        self.immortals.asks.insert((group, ticket), origin);
        self.agenda.push_back(Agenda::Instance(group, immortals::Input::Ask { ticket, ask }));
    }

    fn answer_ask(&mut self, group: GroupId, ticket: u64, told: immortals::Told) {
        if let Some(origin) = self.immortals.asks.remove(&(group, ticket)) {
            let answer = match told {
                immortals::Told::NotOwner => Told::NotOwner,
                told => Told::Response(self.asked_response(group, told)),
            };
            self.reply(origin, answer);
        }
    }

    // As the directory says.

    pub(crate) fn settings_of(&self, group: GroupId) -> Option<Settings> {
        let (_, entry) = self.map.registry.of_group(group)?;
        let options = &entry.options;
        Some(Settings {
            replicas: self.line_of(group),
            checkpoint_bytes: options.checkpoint_bytes,
            recovery_micros: options.recovery_micros,
            program_timeout_micros: options.program_timeout_micros,
            divergence_alarm: options.divergence_alarm,
            upgrade_version: options.upgrade_version,
            upgrade_wish: options.upgrade_wish,
            first_version: options.current_version,
            paused: options.paused,
            memory: options.memory,
        })
    }

    /// Begins the groups that the directory gives to this node, and ends those that are gone.
    pub(crate) fn mind_registry(&mut self) -> Result<(), String> {
        if self.me.is_none() {
            return Ok(());
        }
        self.mind_gone();
        let groups: Vec<GroupId> =
            self.map.registry.instances.values().map(|entry| entry.group).collect();
        for group in groups {
            self.mind_registered_group(group)?;
        }
        self.mind_ports();
        Ok(())
    }

    /// The same when that instance was registered, changed or deregistered, and nothing else.
    pub(crate) fn mind_registered(&mut self, name: &str) -> Result<(), String> {
        if self.me.is_none() {
            return Ok(());
        }
        self.mind_gone();
        if let Some(group) = self.map.registry.instances.get(name).map(|entry| entry.group) {
            self.mind_registered_group(group)?;
            self.set_rank(group);
        }
        self.mind_ports();
        Ok(())
    }

    /// Ends what is not registered any more.
    fn mind_gone(&mut self) {
        let gone = self.map.registry.gone();
        if std::mem::replace(&mut self.immortals.gone, gone) == gone {
            return;
        }
        let registry = &self.map.registry;
        let is_gone = |group: &GroupId| registry.standing(*group) == Standing::Gone;
        self.immortals.owners.retain(|group, _| !is_gone(group));
        let here = self.replicas.range(GroupId::INSTANCES..).map(|(group, _)| *group);
        for group in here.filter(is_gone).collect::<Vec<_>>() {
            self.end_instance(group);
        }
        self.forget_remains();
    }

    fn mind_registered_group(&mut self, group: GroupId) -> Result<(), String> {
        let Some(me) = self.me else { return Ok(()) };
        let Some(settings) = self.settings_of(group) else { return Ok(()) };
        if let Some(instance) = self.instance(group) {
            if *instance.settings() != settings {
                let input = immortals::Input::Settings(settings);
                self.agenda.push_back(Agenda::Instance(group, input));
            }
            return Ok(());
        }
        let Some((_, entry)) = self.map.registry.of_group(group) else { return Ok(()) };
        let here = entry.replicas.iter().any(|replica| replica.node == self.config.node_id);
        // A replica that was removed goes on until the group has let it go.
        if here || self.recovered.contains_key(&group) {
            let founders = entry.founders.clone();
            let first = if founders.contains(&me) { founders } else { Vec::new() };
            let first = Members { voters: first, ..Members::default() };
            let replica = self
                .start_group(me, group, &first)
                .map_err(|why| format!("instance {group}: {why}"))?;
            self.replicas.insert(group, replica);
        }
        Ok(())
    }

    /// The machine of an instance's replica.
    pub(crate) fn open_resident(
        &self,
        me: ReplicaId,
        group: GroupId,
        space: &Space,
        members: &Members,
    ) -> Result<Machine, StoreError> {
        let named = self.map.registry.of_group(group);
        let (name, entry) = named.expect("groups are begun for what is registered");
        let options = immortals::Options {
            name: name.clone(),
            group,
            me,
            node: self.config.node_id.clone(),
            settings: self.settings_of(group).expect("it is registered"),
            limits: self.config.kept,
        };
        let memory = entry.options.memory;
        let instance = Instance::open(options, &*self.store, space)?;
        Ok(Machine::Instance(Box::new(Resident::new(instance, members.clone(), memory))))
    }

    /// The instance is not registered any more. What it had is removed.
    fn end_instance(&mut self, group: GroupId) {
        self.close_instance(group);
        let programs: Vec<u64> = self
            .programs
            .iter()
            .filter(|(_, program)| matches!(program, crate::programs::Program::Attached(of) if *of == group))
            .map(|(program, _)| *program)
            .collect();
        for program in programs {
            self.programs.remove(&program);
            self.outputs.push(Output::ProgramClose { program });
        }
        self.drop_asks(group);
        let Some(replica) = self.replicas.remove(group) else { return };
        self.note(Level::Info, format!("instance {group} is not registered any more: removed"));
        let (term, position) = replica.reach();
        self.forget(group, position, term);
    }

    /// Nothing of a group stays here: its state goes, and its log when that is durable.
    fn forget(&mut self, group: GroupId, position: Position, term: Term) {
        let mut batch = Batch::default();
        let gone = Space::remove(group, &*self.store, &mut batch);
        if let Err(error) = gone.and_then(|()| self.store.write(batch)) {
            return self.halt(error.to_string());
        }
        self.disk.ended.push(LogRecord::Base { group, position, term });
    }

    /// What was left of instances that were deregistered while this node was away, or just before it
    /// ended.
    fn forget_remains(&mut self) {
        let remains = self.recovered.range(GroupId::INSTANCES..);
        let gone = |group: &GroupId| self.map.registry.standing(*group) == Standing::Gone;
        let gone: Vec<GroupId> = remains.map(|(group, _)| *group).filter(gone).collect();
        for group in gone {
            let log = self.recovered.remove(&group).expect("it was listed");
            self.forget(group, log.last, log.last_term());
        }
    }

    fn mind_ports(&mut self) {
        let node = &self.config.node_id;
        let entries = self.map.registry.instances.values();
        let ports: Vec<ProgramPorts> = entries
            .flat_map(|entry| entry.replicas.iter().map(move |replica| (entry.group, replica)))
            .filter(|(_, replica)| replica.node == *node)
            .filter_map(|(group, replica)| {
                let (receive, send) = (replica.receive_port?, replica.send_port?);
                Some(ProgramPorts { group, receive, send })
            })
            .collect();
        if ports != self.immortals.ports {
            self.immortals.ports.clone_from(&ports);
            self.outputs.push(Output::ProgramPorts { ports });
        }
    }

    pub(crate) fn tick_instances(&mut self) {
        for group in self.replicas.range(GroupId::INSTANCES..).map(|(group, _)| *group) {
            self.agenda.push_back(Agenda::Instance(group, immortals::Input::Tick));
        }
    }

    /// The replicas of a group in the order in which they should own it. Of an instance those come
    /// first whose program is ready.
    pub(crate) fn order_of(&self, group: GroupId) -> Vec<ReplicaId> {
        let line = self.line_of(group);
        let Some(instance) = self.instance(group) else {
            return crate::placement::order(group, &line);
        };
        let ready = |id: &ReplicaId| {
            if Some(*id) == self.me { instance.is_served() } else { instance.is_ready(*id) }
        };
        let (mut first, last): (Vec<_>, Vec<_>) = line.into_iter().partition(ready);
        first.extend(last);
        first
    }

    /// The replicas that belong to a group.
    pub(crate) fn line_of(&self, group: GroupId) -> Vec<ReplicaId> {
        if !group.is_instance() {
            return self.line();
        }
        let Some((_, entry)) = self.map.registry.of_group(group) else { return Vec::new() };
        let of_node = |node: &str| {
            let members = self.map.members.iter();
            members.filter(|(_, member)| member.node_id == node).map(|(id, _)| *id).next()
        };
        entry.replicas.iter().filter_map(|replica| of_node(&replica.node)).collect()
    }
}
