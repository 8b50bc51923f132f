//! The node: takes what happened, lets every part of it come to rest, and says what must be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use protocol::{GroupId, Now, ReplicaId, Response};
use replication::WindowBudget;
use services::{Catalogue, DeskInput};
use storage::{LogReader, Recovered, RecoveredGroup, StateStore, StoreError};

use crate::behind::News;
use crate::directory::{Charter, Directory};
use crate::disk::{Disk, record_bytes};
use crate::edge::Edge;
use crate::frame::{self, Frame, Ping, Told};
use crate::immortals::Immortals;
use crate::io::{Input, Level, NodeConfig, Output};
use crate::leaving::Leaving;
use crate::life::{Identity, check_config, read_identity};
use crate::office::Office;
use crate::outbox::Outbox;
use crate::peers::{LINKS_MAX, Peers};
use crate::programs::Programs;
use crate::quorum;
use crate::refusals::Refusals;
use crate::replica::{Around, Findings, Replica};
use crate::replicas::Replicas;
use crate::scatter::Scatters;

/// How much later each next in line asks for votes when the owner's connection broke, in ticks. A
/// pre-vote of another that comes meanwhile puts the own one off by itself.
const HINT_TICKS_PER_RANK: usize = 2;

/// Where a node stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// New, and waits for enough others to form a cluster with.
    Forming,
    /// New, and waits to be admitted to a cluster.
    Joining,
    /// Knows who it is; waits until that is on the disk.
    Settling {
        mark: u64,
    },
    Serving,
    Stopping {
        since: u64,
        mark: Option<u64>,
    },
    /// Takes no more inputs.
    Ended,
}

/// What is to be done before the step is over.
pub(crate) enum Agenda {
    Desk(GroupId, DeskInput),
    Route(u64),
    Told(u64, Told),
    Instance(GroupId, immortals::Input),
    /// A program wants to be a copy of an instance.
    Attach(GroupId, u64, Box<(immortals::Door, protocol::immortal::Hello)>),
    /// Something was proposed: consensus is to be asked again.
    Again,
}

pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) store: Box<dyn StateStore>,
    pub(crate) now: Now,
    pub(crate) stage: Stage,
    pub(crate) me: Option<ReplicaId>,
    pub(crate) identity: Option<Identity>,
    /// The directory as this node knows it.
    pub(crate) map: Directory,
    pub(crate) recovered: BTreeMap<GroupId, RecoveredGroup>,
    /// What the groups do not hold in memory of their logs.
    pub(crate) log: Arc<dyn LogReader>,
    window: WindowBudget,
    pub(crate) replicas: Replicas,
    pub(crate) offices: BTreeMap<GroupId, Office>,
    pub(crate) refusals: Refusals,
    pub(crate) peers: Peers,
    pub(crate) quorum: quorum::Own,
    pub(crate) news: News,
    pub(crate) outbox: Outbox,
    pub(crate) closing: Vec<u64>,
    pub(crate) dialed: Vec<String>,
    pub(crate) edge: Edge,
    pub(crate) scatters: Scatters,
    pub(crate) immortals: Immortals,
    pub(crate) programs: Programs,
    pub(crate) agenda: VecDeque<Agenda>,
    pub(crate) disk: Disk,
    pub(crate) outputs: Vec<Output>,
    owners_known: BTreeMap<GroupId, ReplicaId>,
    edge_stale: bool,
    ticks: u64,
    pub(crate) names: u64,
    pub(crate) openings: u64,
    /// When this node last stood for each group, in steady microseconds.
    pub(crate) stood: BTreeMap<GroupId, u64>,
    pub(crate) moved_last: u64,
    pub(crate) said_flag_differs: bool,
    /// It looks at the cluster that it is to join.
    pub(crate) leaving: Option<Leaving>,
}

impl Node {
    /// `log` reads what was recovered, and what is written from now on.
    ///
    /// # Errors
    /// Why it cannot start, for people.
    pub fn new(
        config: NodeConfig,
        catalogue: Arc<Catalogue>,
        recovered: Recovered,
        log: Arc<dyn LogReader>,
        store: Box<dyn StateStore>,
    ) -> Result<Self, String> {
        check_config(&config)?;
        let window = WindowBudget::new(config.upkeep.log_memory_bytes);
        let identity = read_identity(store.as_ref()).map_err(|error| error.to_string())?;
        let stage = if config.join.is_some() { Stage::Joining } else { Stage::Forming };
        let mut node = Self {
            config,
            catalogue,
            store,
            now: Now::default(),
            stage,
            me: None,
            identity,
            map: Directory::default(),
            recovered: recovered.groups,
            log,
            window,
            replicas: Replicas::default(),
            offices: BTreeMap::new(),
            refusals: Refusals::default(),
            peers: Peers::default(),
            quorum: quorum::Own::default(),
            news: News::default(),
            outbox: Outbox::default(),
            closing: Vec::new(),
            dialed: Vec::new(),
            edge: Edge::default(),
            scatters: Scatters::default(),
            immortals: Immortals::default(),
            programs: Programs::new(),
            agenda: VecDeque::new(),
            disk: Disk::new(),
            outputs: Vec::new(),
            owners_known: BTreeMap::new(),
            edge_stale: false,
            ticks: 0,
            names: 0,
            openings: 0,
            stood: BTreeMap::new(),
            moved_last: 0,
            said_flag_differs: false,
            leaving: None,
        };
        node.begin()?;
        Ok(node)
    }

    /// Takes everything that happened since the last step and says what must be done.
    pub fn step(&mut self, now: Now, inputs: &mut Vec<Input>, outputs: &mut Vec<Output>) {
        self.now = now;
        for input in inputs.drain(..) {
            if self.stage == Stage::Ended {
                break;
            }
            self.take(input);
        }
        if self.stage != Stage::Ended
            && let Err(error) = self.settle()
        {
            self.halt(error.to_string());
        }
        self.flush();
        outputs.append(&mut self.outputs);
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Request { ticket, request } => {
                self.client_request(crate::edge::Purpose::Client { ticket }, request);
            }
            Input::LinkOpened { link, dialed } => self.link_opened(link, dialed),
            Input::LinkClosed { link } => self.link_closed(link),
            Input::Received { link, frame } => self.received(link, &frame),
            Input::LogDurable { batch } => self.log_durable(batch),
            Input::StatePersisted { mark } => self.state_persisted(mark),
            Input::Invoked(invoked) => {
                self.agenda.push_back(Agenda::Desk(invoked.partition, DeskInput::Invoked(invoked)));
            }
            Input::ProgramOpened { program, door } => self.program_opened(program, door),
            Input::ProgramSaid { program, bytes } => self.program_said(program, bytes),
            Input::ProgramDrained { program, bytes } => self.program_drained(program, bytes),
            Input::ProgramClosed { program } => self.program_closed(program),
            Input::StorageFailed { why, full: true } => self.disk_is_full(why),
            Input::StorageFailed { why, full: false } => {
                self.halt(format!("the disk failed: {why}. The other nodes carry on"));
            }
            Input::StorageRecovered => {
                self.note(Level::Info, "the disk takes writes again".into());
                self.disk.full = None;
            }
            Input::Stop => self.stop(),
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.replicas.each(Replica::tick);
        self.shrink_windows();
        self.check_errands();
        self.mind_leaving();
        self.tick_desks();
        self.tick_instances();
        if self.ticks.is_multiple_of(10) {
            self.ping_all();
            self.mind_directory();
            self.mind_members();
            self.mind_fences();
            self.refusals.forget(self.now.steady_micros);
        }
        if self.ticks.is_multiple_of(1_000) {
            self.cut_logs();
        }
        if self.ticks.is_multiple_of(5) {
            self.mind_elections();
            self.mind_persist();
            if self.stage == Stage::Serving {
                self.mind_placement();
            }
            let now = self.now.steady_micros;
            self.replicas.each(|replica| replica.check_transfers(now));
        }
        match self.stage {
            Stage::Forming if self.ticks % 300 == 50 => self.say_what_is_missing(),
            Stage::Joining if self.ticks % 300 == 50 => self.say_whom_it_joins(),
            Stage::Joining if self.ticks.is_multiple_of(20) => self.ask_to_be_admitted(),
            Stage::Stopping { .. } => self.go_on_stopping(),
            _ => {}
        }
        self.edge_stale |= self.ticks.is_multiple_of(5);
    }

    fn shrink_windows(&mut self) {
        let replicas = &mut self.replicas;
        self.window.shrink(|group, bytes| {
            replicas.get_still(group).map_or(0, |replica| replica.group.shrink_window(bytes))
        });
    }

    pub(crate) fn ping_all(&mut self) {
        let ping = self.ping();
        for link in self.peers.ids() {
            self.outbox.send_on(link, Frame::Ping(ping.clone()));
        }
    }

    fn ping(&self) -> Ping {
        Ping {
            takes_writes: self.disk.full.is_none(),
            claim: self.quorum.claim(),
            committed: self.committed_here(),
        }
    }

    // Coming to rest.

    fn settle(&mut self) -> Result<(), StoreError> {
        loop {
            while let Some(item) = self.agenda.pop_front() {
                match item {
                    Agenda::Desk(group, input) => self.desk_step(group, input)?,
                    Agenda::Route(number) => self.route(number),
                    Agenda::Told(number, answer) => {
                        self.edge_stale = true;
                        self.told(self.me.unwrap_or_default(), number, answer);
                    }
                    Agenda::Instance(group, input) => self.instance_step(group, input)?,
                    Agenda::Attach(group, program, named) => {
                        self.attach(group, program, named.0, named.1)?;
                    }
                    Agenda::Again => {}
                }
            }
            let groups = self.replicas.take_touched();
            for group in &groups {
                let findings = self.settle_group(*group)?;
                self.act_on(*group, findings);
                if group.is_instance() {
                    self.instance_applied(*group)?;
                }
            }
            self.mind_quorum();
            self.mind_offices();
            self.mind_instances(&groups);
            self.mind_moved();
            self.release_held();
            self.mind_owners(&groups);
            if self.agenda.is_empty() && self.replicas.is_settled() {
                return Ok(());
            }
        }
    }

    fn settle_group(&mut self, group: GroupId) -> Result<Findings, StoreError> {
        let mut findings = Findings::default();
        let (replica, mut around) = self.around_still(group);
        if let Some(replica) = replica {
            replica.settle(&mut around, &mut findings)?;
            let held = replica.group.log_bytes();
            self.window.note(group, held);
        } else {
            self.window.forget(group);
        }
        self.replicas.note(group);
        if findings.installed && group.is_directory() {
            self.directory_changed(&crate::directory::Changed::Done, None);
        }
        Ok(findings)
    }

    /// A replica, and what it needs of the node.
    pub(crate) fn around(&mut self, group: GroupId) -> (Option<&mut Replica>, Around<'_>) {
        self.replicas.get_mut(&group);
        self.around_still(group)
    }

    fn around_still(&mut self, group: GroupId) -> (Option<&mut Replica>, Around<'_>) {
        let around = Around {
            store: &mut *self.store,
            outbox: &mut self.outbox,
            records: &mut self.disk.records,
            batch: self.disk.next_batch,
            next_mark: self.disk.next_mark,
            persist: &mut self.disk.want_persist,
            steady_micros: self.now.steady_micros,
        };
        (self.replicas.get_still(group), around)
    }

    /// Routes what waits at the edge when ownership has moved.
    fn mind_owners(&mut self, groups: &BTreeSet<GroupId>) {
        for group in groups {
            let owner = self.replicas.get(group).and_then(|replica| replica.group.owner());
            let known = match owner {
                Some(owner) => self.owners_known.insert(*group, owner),
                None => self.owners_known.remove(group),
            };
            self.edge_stale |= known != owner;
        }
        if std::mem::take(&mut self.edge_stale) {
            self.reroute();
        }
    }

    pub(crate) fn edge_is_stale(&mut self) {
        self.edge_stale = true;
    }

    fn flush(&mut self) {
        if !self.disk.records.is_empty() {
            let mut records = self.replicas.take_lazy();
            records.append(&mut self.disk.records);
            self.disk.bytes_since += records.iter().map(record_bytes).sum::<usize>();
            let batch = self.disk.next_batch;
            self.disk.next_batch += 1;
            self.outputs.push(Output::Append { batch, records });
        }
        if std::mem::take(&mut self.disk.want_persist) {
            let mark = self.disk.next_mark;
            self.disk.next_mark += 1;
            self.outputs.push(Output::Persist { mark });
        }
        let peers = &self.peers;
        self.outbox.flush(|replica| peers.link_to(replica), &mut self.outputs);
        for link in std::mem::take(&mut self.closing) {
            self.outputs.push(Output::Close { link });
        }
    }

    // Links.

    fn link_opened(&mut self, link: u64, dialed: Option<String>) {
        if self.peers.len() >= LINKS_MAX {
            self.outputs.push(Output::Close { link });
            return;
        }
        self.peers.opened(link, dialed, self.now.steady_micros);
        if !self.only_looks(link) {
            self.outbox.send_on(link, Frame::Hello(self.hello()));
            self.outbox.send_on(link, Frame::Ping(self.ping()));
        }
    }

    /// A dead process's sockets are closed by its kernel: the quickest news of a death there is.
    pub(crate) fn link_closed(&mut self, link: u64) {
        let Some(replica) = self.peers.closed(link).and_then(|link| link.replica) else { return };
        if self.peers.link_to(replica).is_none() {
            self.take_back(replica);
            for group in self.replicas.range(GroupId::INSTANCES..).map(|(group, _)| *group) {
                let input = immortals::Input::PeerLost { replica };
                self.agenda.push_back(Agenda::Instance(group, input));
            }
        }
        let me = self.me.unwrap_or_default();
        for group in self.replicas.keys().copied().collect::<Vec<_>>() {
            let mut order = self.order_of(group);
            order.retain(|id| *id != replica);
            let rank = order.iter().position(|id| *id == me).unwrap_or(order.len());
            let here = self.replicas.get_mut(&group).expect("it was listed");
            here.end_transfer(replica, false);
            here.group.peer_lost(replica, rank * HINT_TICKS_PER_RANK);
        }
        self.edge_stale = true;
    }

    fn received(&mut self, link: u64, bytes: &Bytes) {
        if self.peers.get(link).is_none() {
            return;
        }
        self.peers.heard(link, self.now.steady_micros);
        match frame::decode(bytes) {
            Ok(frames) => {
                for frame in frames {
                    self.frame(link, frame);
                }
            }
            Err(why) => {
                self.note(Level::Warn, format!("closing a link: {why}"));
                self.outputs.push(Output::Close { link });
            }
        }
    }

    fn frame(&mut self, link: u64, frame: Frame) {
        match frame {
            Frame::Hello(hello) => self.greeted(link, hello),
            Frame::Known { replica, charter } => self.known_as(replica, charter),
            Frame::Stranger => self.is_stranger(),
            Frame::Refused { why } => self.was_refused(link, why),
            Frame::Admit(newcomer) => self.admit(link, newcomer),
            Frame::Ping(ping) => {
                if let Some(link) = self.peers.get_mut(link) {
                    link.takes_writes = ping.takes_writes;
                    link.claim = ping.claim;
                    if link.replica.is_some() {
                        self.news.heard(&ping.committed, self.now.steady_micros);
                    }
                }
            }
            other => {
                // Only a replica that is known may speak in a group, and only in its own name.
                let from = self.peers.get(link).and_then(|link| link.replica);
                if let (Some(from), Some(_)) = (from, self.me) {
                    self.frame_of_replica(from, other);
                }
            }
        }
    }

    fn frame_of_replica(&mut self, from: ReplicaId, frame: Frame) {
        let result = match frame {
            Frame::Raft { group, message } => {
                if message.from == from
                    && Some(message.to) == self.me
                    && let Some(replica) = self.replicas.get_mut(&group)
                {
                    replica.group.receive(message);
                }
                Ok(())
            }
            Frame::Chunk(chunk) => {
                let (replica, mut around) = self.around(chunk.group);
                replica.map_or(Ok(()), |replica| replica.chunk(&mut around, from, chunk))
            }
            Frame::ChunkTaken { group, transfer, number } => {
                let (replica, mut around) = self.around(group);
                replica.map_or(Ok(()), |replica| {
                    replica.chunk_taken(&mut around, from, transfer, number)
                })
            }
            Frame::Peer { group, message } => {
                self.peer_said(from, group, *message);
                Ok(())
            }
            Frame::Between { from, to, message } => {
                self.between_said(from, to, *message);
                Ok(())
            }
            Frame::Owns { group, term } => {
                self.owns(from, group, term);
                Ok(())
            }
            ask @ Frame::Ask { .. } => {
                self.asked(from, ask);
                Ok(())
            }
            Frame::Told { boot, number, answer } if boot == self.config.boot => {
                self.edge_stale |= matches!(answer, Told::NotOwner);
                self.told(from, number, answer);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.halt(error.to_string());
        }
    }

    pub(crate) fn halt(&mut self, why: String) {
        if self.stage != Stage::Ended {
            self.stage = Stage::Ended;
            self.outputs.push(Output::Halt { why });
        }
    }

    // Small questions.

    /// What the cluster began with, once this node is one of it for good.
    pub(crate) fn charter(&self) -> Option<&Charter> {
        self.me.and(self.identity.as_ref()).map(|identity| &identity.charter)
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.map
    }

    /// How many partitions the cluster has; 0 while there is no cluster.
    pub(crate) fn partitions(&self) -> u32 {
        self.map.partitions
    }

    pub(crate) fn line(&self) -> Vec<ReplicaId> {
        if self.map.cluster.is_some() {
            return self.map.line();
        }
        let founders = self.charter().map(|charter| &charter.founders);
        founders.into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    pub(crate) fn owner_of(&self, group: GroupId) -> Option<ReplicaId> {
        if group.is_instance() {
            return self.owner_of_instance(group);
        }
        self.replicas.get(&group)?.group.owner()
    }

    pub(crate) fn term_of(&self, group: GroupId) -> protocol::Term {
        self.replicas.get(&group).map_or(protocol::Term(0), |replica| replica.group.term())
    }

    pub(crate) fn is_up(&self, replica: ReplicaId) -> bool {
        Some(replica) == self.me || self.peers.is_up(replica, self.now.steady_micros)
    }

    pub(crate) fn nodes_up(&self) -> usize {
        self.line().into_iter().filter(|id| self.is_up(*id)).count()
    }

    pub(crate) fn majority_is_up(&self) -> bool {
        let line = self.line();
        self.nodes_up() > line.len() / 2
    }

    pub(crate) fn why_not_serving(&self) -> &'static str {
        match self.stage {
            Stage::Forming => "it waits for all nodes named by --peer-nodes",
            Stage::Joining if self.a_member().is_none() => {
                "it is to join another one and has reached no node of that"
            }
            Stage::Joining => "it has asked to be admitted",
            Stage::Serving if self.owner_of(GroupId::DIRECTORY).is_some() => {
                "not all nodes named by --peer-nodes have said that they belong to it"
            }
            _ => "its directory has no owner yet",
        }
    }

    pub(crate) fn note(&mut self, level: Level, text: String) {
        self.outputs.push(Output::Note { level, text });
    }

    pub(crate) fn answer(&mut self, ticket: u64, response: Response) {
        self.outputs.push(Output::Answer { ticket, response });
    }
}
