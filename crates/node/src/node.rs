//! The node: takes what happened, lets every part of it come to rest, and says what must be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::{GroupId, Now, ReplicaId, Response};
use replication::{Group, GroupOptions, Members, Restored};
use serde::{Deserialize, Serialize};
use services::{Catalogue, DeskInput};
use storage::{Batch, LogRecord, Recovered, RecoveredGroup, Space, StateStore, StoreError};

use crate::directory::Directory;
use crate::edge::Edge;
use crate::frame::{self, Frame, Told};
use crate::io::{Input, Level, NodeConfig, Output};
use crate::office::Office;
use crate::outbox::Outbox;
use crate::peers::{LINKS_MAX, Peers};
use crate::replica::{self, Around, Findings, Machine, Replica};
use crate::scatter::Scatters;

/// So much log makes the node persist its state and cut the log, in bytes.
const PERSIST_LOG_BYTES: usize = 8 << 20;

/// And so much time, if anything was applied since, in microseconds.
const PERSIST_MICROS: u64 = 30_000_000;

/// How many entries a group keeps for followers that are a little behind.
const TAIL_ENTRIES: u64 = 1_000;

/// How long a planned stop may take before the node goes all the same, in microseconds.
const STOP_MICROS_MAX: u64 = 3_000_000;

/// Under this space the node keeps what it knows about itself.
const SELF: Space = Space { group: GroupId(u32::MAX), generation: 1 };
const FAMILY_IDENTITY: u8 = 1;

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
}

/// Who this sandbox is, kept in the state store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Identity {
    replica: ReplicaId,
    partitions: u32,
    founders: u64,
    /// A digest of the sandboxes that founded the cluster, for a founder; else 0.
    founding: u64,
}

/// What is on its way to the disk.
#[derive(Default)]
pub(crate) struct Disk {
    records: Vec<LogRecord>,
    next_batch: u64,
    next_mark: u64,
    want_persist: bool,
    /// The routine persist that is under way, and what it makes durable.
    routine: Option<u64>,
    bytes_since: usize,
    persisted_at: u64,
    /// Why it takes no writes at the moment.
    pub(crate) full: Option<String>,
}

pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) store: Box<dyn StateStore>,
    pub(crate) now: Now,
    pub(crate) stage: Stage,
    pub(crate) me: Option<ReplicaId>,
    identity: Option<Identity>,
    /// The directory as this node knows it.
    pub(crate) map: Directory,
    pub(crate) partitions_at_start: u32,
    recovered: BTreeMap<GroupId, RecoveredGroup>,
    pub(crate) replicas: BTreeMap<GroupId, Replica>,
    pub(crate) offices: BTreeMap<GroupId, Office>,
    pub(crate) peers: Peers,
    pub(crate) outbox: Outbox,
    pub(crate) closing: Vec<u64>,
    pub(crate) dialed: Vec<String>,
    pub(crate) edge: Edge,
    pub(crate) scatters: Scatters,
    pub(crate) agenda: VecDeque<Agenda>,
    pub(crate) disk: Disk,
    pub(crate) outputs: Vec<Output>,
    owners_known: Vec<Option<ReplicaId>>,
    edge_stale: bool,
    ticks: u64,
    pub(crate) names: u64,
    pub(crate) openings: u64,
    /// When this node last stood for each group, in steady microseconds.
    pub(crate) stood: BTreeMap<GroupId, u64>,
    pub(crate) moved_last: u64,
    pub(crate) said_flag_differs: bool,
}

impl Node {
    /// # Errors
    /// Why it cannot start, for people.
    pub fn new(
        config: NodeConfig,
        catalogue: Arc<Catalogue>,
        recovered: Recovered,
        store: Box<dyn StateStore>,
    ) -> Result<Self, String> {
        check_config(&config)?;
        let identity = read_identity(store.as_ref()).map_err(|error| error.to_string())?;
        let partitions_at_start = identity.map_or(config.partitions, |known| known.partitions);
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
            partitions_at_start,
            recovered: recovered.groups,
            replicas: BTreeMap::new(),
            offices: BTreeMap::new(),
            peers: Peers::default(),
            outbox: Outbox::default(),
            closing: Vec::new(),
            dialed: Vec::new(),
            edge: Edge::default(),
            scatters: Scatters::default(),
            agenda: VecDeque::new(),
            disk: Disk { next_batch: 1, next_mark: 1, ..Disk::default() },
            outputs: Vec::new(),
            owners_known: Vec::new(),
            edge_stale: false,
            ticks: 0,
            names: 0,
            openings: 0,
            stood: BTreeMap::new(),
            moved_last: 0,
            said_flag_differs: false,
        };
        node.begin()?;
        Ok(node)
    }

    /// A sandbox that knows who it is goes on as that; a new one alone is a cluster at once.
    fn begin(&mut self) -> Result<(), String> {
        if let Some(identity) = self.identity {
            self.me = Some(identity.replica);
            self.stage = Stage::Serving;
            self.start_groups(identity)?;
        } else if !self.recovered.is_empty() {
            return Err(
                "the sandbox has a log but its state store does not know the node: it was \
                        damaged. Put it aside and start with an empty --sandbox; the other nodes \
                        bring it up to date"
                    .into(),
            );
        } else if self.config.peers.len() <= 1 && self.config.join.is_none() {
            self.become_replica(ReplicaId(1), self.config.partitions, 1, 0);
        }
        self.dial_all();
        Ok(())
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
            self.halt(format!("the state store failed: {error}"));
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
        for replica in self.replicas.values_mut() {
            replica.group.tick();
        }
        self.check_errands();
        self.tick_desks();
        if self.ticks.is_multiple_of(10) {
            self.ping_all();
            self.mind_directory();
            self.mind_members();
            self.mind_fences();
        }
        if self.ticks.is_multiple_of(5) {
            self.mind_elections();
            self.mind_persist();
            if self.stage == Stage::Serving {
                self.mind_placement();
            }
            for replica in self.replicas.values_mut() {
                replica.check_transfers(self.now.steady_micros);
            }
        }
        match self.stage {
            Stage::Forming if self.ticks % 300 == 50 => self.say_what_is_missing(),
            Stage::Joining if self.ticks.is_multiple_of(20) => self.ask_to_be_admitted(),
            Stage::Stopping { .. } => self.go_on_stopping(),
            _ => {}
        }
        self.edge_stale |= self.ticks.is_multiple_of(5);
    }

    fn ping_all(&mut self) {
        let takes_writes = self.disk.full.is_none();
        for link in self.peers.ids() {
            self.outbox.send_on(link, Frame::Ping { takes_writes });
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
                }
            }
            let groups: Vec<GroupId> = self.replicas.keys().copied().collect();
            for group in groups {
                let findings = self.settle_group(group)?;
                self.act_on(group, findings);
            }
            self.mind_offices();
            self.release_held();
            self.mind_owners();
            if self.agenda.is_empty() {
                return Ok(());
            }
        }
    }

    fn settle_group(&mut self, group: GroupId) -> Result<Findings, StoreError> {
        let mut findings = Findings::default();
        let (replica, mut around) = self.around(group);
        if let Some(replica) = replica {
            replica.settle(&mut around, &mut findings)?;
        }
        if findings.installed && group.is_directory() {
            self.directory_changed(&crate::directory::Changed::Done);
        }
        Ok(findings)
    }

    /// A replica, and what it needs of the node.
    fn around(&mut self, group: GroupId) -> (Option<&mut Replica>, Around<'_>) {
        let around = Around {
            store: &mut *self.store,
            outbox: &mut self.outbox,
            records: &mut self.disk.records,
            batch: self.disk.next_batch,
            next_mark: self.disk.next_mark,
            persist: &mut self.disk.want_persist,
            steady_micros: self.now.steady_micros,
        };
        (self.replicas.get_mut(&group), around)
    }

    /// Routes what waits at the edge when ownership has moved.
    fn mind_owners(&mut self) {
        let known: Vec<Option<ReplicaId>> =
            self.replicas.values().map(|replica| replica.group.owner()).collect();
        if known != self.owners_known {
            self.owners_known = known;
            self.edge_stale = true;
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
            let lazy = self.replicas.values_mut().filter_map(Replica::take_lazy);
            let mut records: Vec<LogRecord> = lazy.collect();
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

    // The disk.

    fn log_durable(&mut self, batch: u64) {
        for replica in self.replicas.values_mut() {
            replica.release(&mut self.outbox, batch);
        }
    }

    fn state_persisted(&mut self, mark: u64) {
        let groups: Vec<GroupId> = self.replicas.keys().copied().collect();
        for group in groups {
            let (replica, mut around) = self.around(group);
            if let Some(replica) = replica {
                replica.unblock(&mut around, mark);
            }
        }
        if let Stage::Settling { mark: wanted } = self.stage
            && mark >= wanted
        {
            self.settled();
        }
        if let Stage::Stopping { mark: Some(wanted), .. } = self.stage
            && mark >= wanted
        {
            self.stage = Stage::Ended;
            self.outputs.push(Output::Stopped);
        }
        if self.disk.routine.is_some_and(|routine| mark >= routine) {
            self.disk.routine = None;
            self.cut_logs();
        }
    }

    /// Starts a routine persist when there is enough to make it worth while.
    fn mind_persist(&mut self) {
        let waited = self.now.steady_micros.saturating_sub(self.disk.persisted_at);
        let due = self.disk.bytes_since >= PERSIST_LOG_BYTES
            || (self.disk.bytes_since > 0 && waited > PERSIST_MICROS);
        if !due || self.disk.routine.is_some() || self.disk.full.is_some() {
            return;
        }
        self.disk.bytes_since = 0;
        self.disk.persisted_at = self.now.steady_micros;
        self.disk.routine = Some(self.disk.next_mark);
        self.disk.want_persist = true;
        for replica in self.replicas.values_mut() {
            replica.persisted_up_to = replica.group.applied_position();
        }
    }

    /// The state is durable: the log before it is not needed, but for a tail that saves followers
    /// which are a little behind from a snapshot.
    fn cut_logs(&mut self) {
        for replica in self.replicas.values_mut() {
            let up_to = replica.persisted_up_to;
            let quiet = replica.group.last() == up_to;
            let tail = if quiet { 0 } else { TAIL_ENTRIES };
            let up_to = protocol::Position(up_to.0.saturating_sub(tail));
            if let Some(record) = replica.group.compact(up_to) {
                self.disk.records.push(record);
            }
        }
    }

    fn disk_is_full(&mut self, why: String) {
        if self.disk.full.is_none() {
            let text = format!("the disk takes no writes ({why}): refusing writes until it does");
            self.note(Level::Error, text);
        }
        self.disk.full = Some(why);
        self.ping_all();
        self.hand_over_all();
    }

    // Who this node is.

    /// The sandbox gets its replica id, for good. Nothing is done in its name before that is on the
    /// disk.
    pub(crate) fn become_replica(
        &mut self,
        replica: ReplicaId,
        partitions: u32,
        founders: u64,
        founding: u64,
    ) {
        let identity = Identity { replica, partitions, founders, founding };
        let mut batch = Batch::default();
        let bytes = postcard::to_stdvec(&identity).expect("an identity encodes");
        batch.put(SELF.key(FAMILY_IDENTITY, b""), bytes);
        if let Err(error) = self.store.write(batch) {
            return self.halt(format!("the state store failed: {error}"));
        }
        self.identity = Some(identity);
        self.stage = Stage::Settling { mark: self.disk.next_mark };
        self.disk.want_persist = true;
    }

    fn settled(&mut self) {
        let identity = self.identity.expect("it was set before it was made durable");
        self.me = Some(identity.replica);
        self.stage = Stage::Serving;
        match self.start_groups(identity) {
            Ok(()) => self.greet_all(),
            Err(why) => self.halt(why),
        }
    }

    fn start_groups(&mut self, identity: Identity) -> Result<(), String> {
        self.partitions_at_start = identity.partitions;
        let founder = identity.replica.0 <= identity.founders;
        let first = Members {
            voters: if founder { (1..=identity.founders).map(ReplicaId).collect() } else { vec![] },
            ..Members::default()
        };
        for group in (0..=identity.partitions).map(GroupId) {
            let replica = self
                .start_group(identity.replica, group, &first)
                .map_err(|why| format!("{}: {why}", crate::office::name_of(group)))?;
            self.replicas.insert(group, replica);
        }
        self.read_map();
        self.set_ranks();
        self.dial_all();
        self.mind_elections();
        Ok(())
    }

    fn start_group(
        &mut self,
        me: ReplicaId,
        group: GroupId,
        first: &Members,
    ) -> Result<Replica, String> {
        let text = |error: StoreError| error.to_string();
        let (space, applied) = Space::open(&*self.store, group).map_err(text)?;
        let known = replica::decode_members(&applied.members).map_err(text)?;
        let members = if applied.members.is_empty() { first.clone() } else { known };
        let log = self.recovered.remove(&group).unwrap_or_default();
        let mut options = GroupOptions::new(group, me);
        options.heartbeat_ticks = self.config.timing.heartbeat_ticks;
        options.election_ticks = self.config.timing.election_ticks;
        let restored = Restored::new(log, applied.position, applied.term, members.clone());
        let consensus = Group::new(options, restored).map_err(|error| error.to_string())?;
        Replica::new(group, consensus, space, &applied, members, &*self.store).map_err(text)
    }

    /// Takes the directory from its replica.
    pub(crate) fn read_map(&mut self) {
        if let Some(Replica { machine: Machine::Directory(directory), .. }) =
            self.replicas.get(&GroupId::DIRECTORY)
        {
            self.map.clone_from(directory);
        }
    }

    // Links.

    fn link_opened(&mut self, link: u64, dialed: Option<String>) {
        if self.peers.len() >= LINKS_MAX {
            self.outputs.push(Output::Close { link });
            return;
        }
        self.peers.opened(link, dialed, self.now.steady_micros);
        self.outbox.send_on(link, Frame::Hello(self.hello()));
    }

    /// A dead process's sockets are closed by its kernel: the quickest news of a death there is.
    pub(crate) fn link_closed(&mut self, link: u64) {
        let Some(replica) = self.peers.closed(link).and_then(|link| link.replica) else { return };
        if self.peers.link_to(replica).is_none() {
            self.take_back(replica);
        }
        let line = self.line();
        let me = self.me.unwrap_or_default();
        for (group, here) in &mut self.replicas {
            here.end_transfer(replica, false);
            let mut order = crate::placement::order(*group, &line);
            order.retain(|id| *id != replica);
            let rank = order.iter().position(|id| *id == me).unwrap_or(order.len());
            here.group.peer_lost(replica, rank * self.config.timing.heartbeat_ticks);
        }
        self.edge_stale = true;
    }

    fn received(&mut self, link: u64, bytes: &[u8]) {
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
            Frame::Known { replica, partitions, founders } => {
                self.known_as(replica, partitions, founders);
            }
            Frame::Stranger => self.is_stranger(),
            Frame::Refused { why } => self.was_refused(link, why),
            Frame::Admit(newcomer) => self.admit(link, newcomer),
            Frame::Ping { takes_writes } => {
                if let Some(link) = self.peers.get_mut(link) {
                    link.takes_writes = takes_writes;
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
            ask @ Frame::Ask { .. } => {
                self.asked(from, ask);
                Ok(())
            }
            Frame::Told { number, answer } => {
                self.edge_stale |= matches!(answer, Told::NotOwner);
                self.told(from, number, answer);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.halt(format!("the state store failed: {error}"));
        }
    }

    // Stopping.

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. } | Stage::Ended)
    }

    pub(crate) fn stop(&mut self) {
        if self.is_stopping() {
            return;
        }
        self.note(Level::Info, "stopping: handing over what is owned here".into());
        self.stage = Stage::Stopping { since: self.now.steady_micros, mark: None };
        self.go_on_stopping();
    }

    fn go_on_stopping(&mut self) {
        let Stage::Stopping { since, mark } = self.stage else { return };
        if mark.is_some() {
            return;
        }
        let handed_over = self.hand_over_all();
        let waited = self.now.steady_micros.saturating_sub(since);
        if (handed_over && self.edge.errands.is_empty()) || waited > STOP_MICROS_MAX {
            self.stage = Stage::Stopping { since, mark: Some(self.disk.next_mark) };
            self.disk.want_persist = true;
        }
    }

    pub(crate) fn halt(&mut self, why: String) {
        if self.stage != Stage::Ended {
            self.stage = Stage::Ended;
            self.outputs.push(Output::Halt { why });
        }
    }

    // Small questions.

    pub(crate) fn founding(&self) -> u64 {
        self.identity.map_or(0, |identity| identity.founding)
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
        (1..=self.founder_count()).map(ReplicaId).collect()
    }

    pub(crate) fn owner_of(&self, group: GroupId) -> Option<ReplicaId> {
        self.replicas.get(&group)?.group.owner()
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
            Stage::Serving if self.map.cluster.is_some() => "not all of its nodes have registered",
            Stage::Joining => "it has asked to be admitted",
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

fn check_config(config: &NodeConfig) -> Result<(), String> {
    if config.partitions == 0 || config.partitions > protocol::links::SLOTS {
        return Err(format!(
            "--partitions must be from 1 to {}, not {}",
            protocol::links::SLOTS,
            config.partitions
        ));
    }
    if !config.peers.is_empty() && !config.peers.contains(&config.public_uri) {
        return Err(format!(
            "--peer-nodes must name all nodes, this one included: {} is not among {}. Add it, or set \
             --public-uri to the address the others use",
            config.public_uri,
            config.peers.join(", ")
        ));
    }
    let (count, quorum) = (config.peers.len().max(1), config.membership_quorum);
    match quorum {
        // It counts when a cluster forms; who joins one takes what is in force there.
        Some(_) if config.join.is_some() => Ok(()),
        Some(quorum) if quorum < count / 2 + 1 || quorum > count => Err(format!(
            "--membership-quorum {quorum} is not possible with {count} nodes: from {} (the majority) \
             to {count}",
            count / 2 + 1
        )),
        _ => Ok(()),
    }
}

fn read_identity(store: &dyn StateStore) -> Result<Option<Identity>, StoreError> {
    let Some(bytes) = store.get(&SELF.key(FAMILY_IDENTITY, b""))? else { return Ok(None) };
    postcard::from_bytes(&bytes)
        .map(Some)
        .map_err(|error| StoreError(format!("the node's identity cannot be read: {error}")))
}

fn record_bytes(record: &LogRecord) -> usize {
    match record {
        LogRecord::Entry { entry, .. } => entry.data.len() + 32,
        _ => 32,
    }
}
