//! A member's part in the cluster: its groups, what it knows of the others, and how it hands over
//! what it owns when it stops.

use std::collections::BTreeMap;

use cluster::{
    Asking, DirectoryCommand, Links, Profile, Stamp, has_gone_back, waits_for_admission, who_forgot,
};
use protocol::{GroupId, Now, ReplicaId, Response};
use storage::{LogRecord, StoreError, Witness};

use crate::audit::{Around, Audits, fill_anew};
use crate::backup::keeper::Keeper;
use crate::backup::runner::Runner;
use crate::control::{Control, nodes_of};
use crate::frame::{Audit, Frame, Question};
use crate::io::{Level, NodeConfig, Output};
use crate::jobs::DigestJob;
use crate::living::Living;
use crate::placement::{self, Placement, Surroundings};
use crate::shard::{Conditions, Shard};
use crate::view::View;
use crate::work::{Effects, Purpose, Work};

/// How long a planned stop may take before the node ends all the same, in microseconds.
const STOP_MICROS_MAX: u64 = 3_000_000;

/// The silence that owners are granted changes in steps of this many ticks, so that it does not
/// change all the time.
const PACE_STEP_TICKS: usize = 5;

/// How often this node looks for groups whose states can be compared.
const AUDIT_EVERY_TICKS: u64 = 50;

/// How often it asks for states in place of wrong ones.
const FILL_EVERY_TICKS: u64 = 5;

/// How often the node's log says which nodes forgot what, while the cluster has no majority.
const FORGOTTEN_EVERY_TICKS: u64 = 300;

/// What a node has whether it is a member of a cluster or not, lent for one step.
pub(crate) struct Host<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) profile: &'a Profile,
    pub(crate) now: Now,
    pub(crate) links: &'a mut Links,
    pub(crate) effects: &'a mut Effects,
}

/// A stop in good order.
struct Stop {
    since: u64,
    /// Everything is handed over when the state is durable up to this mark.
    mark: Option<u64>,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    GoesOn,
    /// It takes no more inputs.
    Ended,
}

/// What can be seen. `$in_flight`: how many requests that came in here are not answered.
macro_rules! view {
    ($self:expr, $host:expr, $in_flight:expr) => {
        View {
            config: $host.config,
            now: $host.now,
            links: &*$host.links,
            control: &$self.control,
            shard: &$self.shard,
            placement: &$self.placement,
            asking: &$self.asking,
            is_stopping: $self.is_stopping(),
            in_flight: $in_flight,
        }
    };
}
pub(crate) use view;

/// What the groups need of the rest of the node.
macro_rules! conditions {
    ($self:expr, $host:expr) => {
        Conditions {
            now: $host.now,
            me: $self.control.me,
            map: &$self.control.map,
            quorum: $self.control.quorum(&$self.shard.log, $host.links, $host.now),
            may_lead: !$self.is_stopping() && $self.control.clock.is_told(),
        }
    };
}
pub(crate) use conditions;

/// What placement looks at.
macro_rules! surroundings {
    ($self:expr, $host:expr) => {
        Surroundings {
            control: &$self.control,
            links: &*$host.links,
            now: $host.now,
            timing: $host.config.timing,
            is_going: $self.is_stopping() || $self.is_leaving(),
        }
    };
}
pub(crate) use surroundings;

/// What an audit works with.
macro_rules! around {
    ($self:expr, $conditions:expr, $host:expr) => {
        Around {
            surroundings: surroundings!($self, $host),
            shard: &mut $self.shard,
            conditions: $conditions,
            effects: &mut *$host.effects,
        }
    };
}

pub(crate) struct Membership {
    pub(crate) control: Control,
    pub(crate) shard: Shard,
    pub(crate) placement: Placement,
    /// How long owners may be silent, and how long a round trip takes, in ticks.
    pace: (usize, usize),
    /// The node's log has already said that this node should own nothing.
    said_unfit: bool,
    /// When which member was seen alive.
    pub(crate) living: Living,
    /// Nodes that wait for a person to let them in.
    pub(crate) asking: Asking,
    /// Since when each member that is being removed has been known to be so.
    pub(crate) leaving_since: BTreeMap<ReplicaId, u64>,
    /// Which members are elsewhere than the directory says, as this owner of it has noted or said.
    pub(crate) moves_told: BTreeMap<ReplicaId, String>,
    stop: Option<Stop>,
    audits: Audits,
    pub(crate) backups: (Keeper, Runner),
}

impl Membership {
    pub(crate) fn new(control: Control, shard: Shard) -> Self {
        Self {
            control,
            shard,
            placement: Placement::default(),
            pace: (0, 0),
            said_unfit: false,
            living: Living::default(),
            asking: Asking::default(),
            leaving_since: BTreeMap::new(),
            moves_told: BTreeMap::new(),
            stop: None,
            audits: Audits::default(),
            backups: Default::default(),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// This node is being removed from the cluster.
    pub(crate) fn is_leaving(&self) -> bool {
        self.control.map.topology.is_leaving(self.control.me)
    }

    /// Whether this node should give away all that another one can own.
    fn is_to_own_nothing(&self) -> bool {
        self.is_leaving() || self.control.map.topology.is_drained(self.control.me)
    }

    pub(crate) fn take_topology(&mut self) {
        let directory = &self.shard.directory;
        self.control.map.topology.clone_from(directory.machine().topology());
        self.control.map.applied = directory.consensus.applied_position();
    }

    // The disk.

    pub(crate) fn persist_if_due(&mut self, host: &mut Host<'_>) -> Result<(), StoreError> {
        let upkeep = host.config.upkeep;
        let now = host.now.steady_micros;
        let log = &mut self.shard.log;
        if !log.is_persist_due(now, upkeep.persist_log_bytes, upkeep.persist_micros) {
            return Ok(());
        }
        log.begin_routine(now);
        self.shard.prepare_persist(&conditions!(self, host), host.effects)
    }

    pub(crate) fn state_persisted(&mut self, mark: u64, host: &mut Host<'_>) -> Fate {
        self.shard.state_persisted(mark);
        if self.shard.log.end_routine(mark) {
            let mut ended = self.shard.log.take_ended();
            self.shard.log.records.append(&mut ended);
            self.cut_logs(host);
        }
        match &self.stop {
            Some(Stop { mark: Some(wanted), .. }) if mark >= *wanted => {
                host.effects.outputs.push(Output::Stopped);
                Fate::Ended
            }
            _ => Fate::GoesOn,
        }
    }

    pub(crate) fn cut_logs(&mut self, host: &Host<'_>) {
        let topology = &self.control.map.topology;
        let (tail, now) = (host.config.upkeep.tail, host.now.steady_micros);
        // One that has just come back is not level, and how far it is, only owners know. If an
        // owner dies now, the next one needs what that one still lacks.
        let is_settled = |id: &ReplicaId| {
            let since = host.links.steady_since(*id, now);
            *id == self.control.me
                || (self.control.is_up(*id, host.links, host.now)
                    && since.is_some_and(|since| now.saturating_sub(since) >= tail.micros_min))
        };
        let there = topology.replicas().into_iter().filter(is_settled).collect();
        let is_used = |group: GroupId| self.backups.0.has_use_for(group);
        self.shard.cut_logs(tail, (&there, &is_used), now);
    }

    /// What is kept for others goes first, before this node has to refuse writes.
    pub(crate) fn room_is(&mut self, is_low: bool, host: &mut Host<'_>) {
        if self.shard.log.set_room_low(is_low) {
            let text = "there is little room on the disk: of the logs nothing is kept for nodes that \
                        are away; they get the states instead";
            host.effects.note(Level::Warn, text.into());
            self.cut_logs(host);
        }
    }

    pub(crate) fn disk_is_full(
        &mut self,
        why: String,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let text = format!("the disk takes no writes ({why}): refusing writes until it does");
        if self.shard.log.set_full(why) {
            host.effects.note(Level::Error, text);
            self.cut_logs(host);
        }
        let now = host.now.steady_micros;
        self.control.ping_all(&self.shard, host.links, now, host.effects);
        self.hand_over_all(host).map(|_| ())
    }

    /// A node with a slow disk, or a clock that is off, owns nothing that another one could own,
    /// and says so. One with a full disk has said so; who could take its groups may come later.
    pub(crate) fn watch_its_fitness(&mut self, host: &mut Host<'_>) -> Result<(), StoreError> {
        self.shard.log.tick(host.now.steady_micros);
        let quorum = self.control.quorum(&self.shard.log, host.links, host.now);
        self.placement.since.look(&self.control, quorum, &self.shard, host.now);
        let slow = self
            .shard
            .log
            .pace
            .slow_millis()
            .map(|millis| format!("the disk is slow: a write to the log took {millis} ms"));
        let off = self.control.clock.off_millis().map(|millis| {
            format!("the clock of this node is {millis} ms off from those of a majority: set it")
        });
        self.control.compare_services(host.profile, host.links);
        let unfit = slow.or(off).or_else(|| {
            self.control.lacks().map(|what| format!("{what}: run the same program on all nodes"))
        });
        let is_news = std::mem::replace(&mut self.said_unfit, unfit.is_some()) != unfit.is_some();
        if is_news {
            let (level, text) = match &unfit {
                Some(why) => (
                    Level::Warn,
                    format!(
                        "{why}. What is owned here goes to other nodes, if they are better off"
                    ),
                ),
                None => (Level::Info, "disk, clock and program are well again".to_owned()),
            };
            host.effects.note(level, text);
            let now = host.now.steady_micros;
            self.control.ping_all(&self.shard, host.links, now, host.effects);
        }
        let is_unwell = unfit.is_some() || self.shard.log.full().is_some();
        if (is_unwell || self.is_to_own_nothing()) && self.stop.is_none() {
            self.hand_over_all(host)?;
        }
        Ok(())
    }

    // States that are compared.

    pub(crate) fn tick_audits(
        &mut self,
        ticks: u64,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        if self.stop.is_some() {
            return Ok(());
        }
        self.with_audits(host, |audits, around| {
            if ticks.is_multiple_of(FILL_EVERY_TICKS) {
                fill_anew(around)?;
            }
            if ticks.is_multiple_of(AUDIT_EVERY_TICKS) {
                audits.tick(around)?;
            }
            Ok(())
        })
    }

    pub(crate) fn audit(
        &mut self,
        from: ReplicaId,
        audit: Audit,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        self.with_audits(host, |audits, around| audits.heard(from, audit, around))
    }

    pub(crate) fn digested(
        &mut self,
        job: Box<DigestJob>,
        sum: Option<u64>,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        self.with_audits(host, |audits, around| audits.read_on(job, sum, around))
    }

    fn with_audits(
        &mut self,
        host: &mut Host<'_>,
        work: impl FnOnce(&mut Audits, &mut Around<'_, '_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let before = self.shard.astray().count();
        let conditions = conditions!(self, host);
        let mut around = around!(self, &conditions, host);
        work(&mut self.audits, &mut around)?;
        if self.shard.astray().count() > before {
            // At once: whoever owns the group next should not give it to this node, even if it is
            // the first in line.
            let now = host.now.steady_micros;
            self.control.ping_all(&self.shard, host.links, now, host.effects);
        }
        Ok(())
    }

    // Owners.

    /// Grants owners the silence that the network has caused of late.
    pub(crate) fn set_pace(&mut self, host: &mut Host<'_>) {
        let timing = host.config.timing;
        let patience = host.links.measure(host.now.steady_micros);
        let ticks =
            |micros: u64| usize::try_from(micros / timing.tick_micros).unwrap_or(usize::MAX);
        let silence = ticks(patience.silence_micros).next_multiple_of(PACE_STEP_TICKS);
        let silence = silence.clamp(timing.election_ticks, timing.election_ticks_max);
        let pace = (silence, ticks(patience.round_trip_micros));
        if pace != self.pace {
            self.pace = pace;
            self.shard.set_pace(pace);
        }
    }

    /// Gives one group back to the replica that should own it, if there is one to give.
    pub(crate) fn move_one_group(&mut self, host: &mut Host<'_>) -> Result<(), StoreError> {
        if self.stop.is_some() {
            return Ok(());
        }
        let next = self.placement.next_move(&surroundings!(self, host), &self.shard);
        let Some((group, heir)) = next else { return Ok(()) };
        self.note_move(group, heir, host);
        self.shard.hand_over(group, heir, &conditions!(self, host), host.effects)
    }

    /// Hands an instance over, but not to a replica that could not take it: the leader would be
    /// dropped for nothing.
    pub(crate) fn hand_over_instance(
        &mut self,
        group: GroupId,
        to: ReplicaId,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        if !view!(self, host, 0).is_close(group, to) {
            // It is tried again when the instance asks again.
            host.effects.instance(group, immortals::Input::HandOverFailed);
            return Ok(());
        }
        self.note_move(group, to, host);
        self.shard.hand_over(group, to, &conditions!(self, host), host.effects)
    }

    pub(crate) fn note_move(&self, group: GroupId, to: ReplicaId, host: &mut Host<'_>) {
        let view = view!(self, host, 0);
        let name = view.node_id(to).unwrap_or("?");
        let text = format!("{} goes to node {name}", view.name_of(group));
        host.effects.note(Level::Info, text);
    }

    pub(crate) fn hand_over_all(&mut self, host: &mut Host<'_>) -> Result<bool, StoreError> {
        let surroundings = surroundings!(self, host);
        let conditions = conditions!(self, host);
        placement::hand_over_all(&surroundings, &mut self.shard, &conditions, host.effects)
    }

    /// Each replica holds back its own program, so all are told; the owner answers.
    pub(crate) fn release(&mut self, purpose: &Purpose, group: GroupId, host: &mut Host<'_>) {
        let me = self.control.me;
        for replica in self.control.replicas_of(group) {
            let message = immortals::Peer::Release;
            if replica == me {
                host.effects.instance(group, immortals::Input::Peer { from: me, message });
            } else {
                let frame = Frame::Peer { group, message: Box::new(message) };
                host.effects.outbox.send(replica, frame);
            }
        }
        let nothing = Response::json(200, &serde_json::json!({}));
        host.effects.respond(purpose, nothing);
    }

    // Stopping.

    /// `is_idle`: no request that came in here is in flight.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn stop(&mut self, is_idle: bool, host: &mut Host<'_>) -> Result<(), StoreError> {
        if self.stop.is_some() {
            return Ok(());
        }
        host.effects.note(Level::Info, "stopping: handing over what is owned here".into());
        self.stop = Some(Stop { since: host.now.steady_micros, mark: None });
        self.go_on_stopping(is_idle, host).map(drop)
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn go_on_stopping(
        &mut self,
        is_idle: bool,
        host: &mut Host<'_>,
    ) -> Result<Fate, StoreError> {
        let Some(Stop { since, mark }) = self.stop else { return Ok(Fate::GoesOn) };
        let waited = host.now.steady_micros.saturating_sub(since);
        if mark.is_some() {
            if self.shard.log.full().is_none() || waited < STOP_MICROS_MAX {
                return Ok(Fate::GoesOn);
            }
            // The state gets to the disk when there is room. The next start has it from the log.
            host.effects.outputs.push(Output::Stopped);
            return Ok(Fate::Ended);
        }
        let is_handed_over = self.hand_over_all(host)?;
        if (is_handed_over && is_idle) || waited > STOP_MICROS_MAX {
            self.stop = Some(Stop { since, mark: Some(self.shard.log.next_mark()) });
            self.shard.log.want_persist = true;
        }
        Ok(Fate::GoesOn)
    }

    // What this node promised, and what others did.

    /// Another node has said hello: it is told what is remembered of it here.
    pub(crate) fn answer_greeting(&mut self, link: u64, host: &mut Host<'_>) {
        let Some(hello) = host.links.get(link).and_then(|link| link.hello.as_ref()) else { return };
        let control = &mut self.control;
        if hello.replica.is_none() {
            // A newcomer remembers nothing of this node.
            let members = control.map.topology.members();
            let former = members.iter().find(|(_, member)| member.uri == hello.uri);
            former.into_iter().for_each(|(id, _)| control.proof.heard(*id));
        }
        control.proof.is_reached(&hello.uri);
        if let Some(known) = control.known(hello.sandbox_id) {
            let remembered = control.witnesses.of(known);
            if control.has_gone_back(known, hello) {
                let text = format!(
                    "node {} cannot prove that it still has what it promised: it shows {} writes of \
                     its log at start {}, and had {} at start {}. It does not count here",
                    hello.node_id,
                    hello.start.frames,
                    hello.start.boot,
                    remembered.frames,
                    remembered.boot
                );
                host.effects.note(Level::Error, text);
            }
            host.effects.outbox.send_on(link, Frame::Remembered(remembered));
        }
        self.end_proof(host);
    }

    /// Another node says what it remembers of this one.
    pub(crate) fn remembered(&mut self, link: u64, of_me: Witness, host: &mut Host<'_>) {
        let Some(hello) = host.links.get(link).and_then(|link| link.hello.as_ref()) else { return };
        let start = host.profile.start;
        if has_gone_back(&of_me, &start, host.profile.trusted_boot) {
            let why = format!(
                "node {} remembers that it had {} writes in its log at start {}, and this is start \
                 {} with {}: its sandbox was set back",
                hello.node_id, of_me.frames, of_me.boot, start.boot, start.frames
            );
            let contact = Some(hello.uri.clone());
            return host.effects.renew(why, contact);
        }
        // One that this node does not know so far has taken the place of a former one.
        let replica = self.control.known(hello.sandbox_id).or_else(|| {
            self.control.nodes().find(|(_, node)| node.uri == hello.uri).map(|(id, _)| *id)
        });
        if let Some(replica) = replica {
            self.control.proof.heard(replica);
            self.end_proof(host);
        }
    }

    fn end_proof(&mut self, host: &mut Host<'_>) {
        let Control { me, initial, map, proof, .. } = &mut self.control;
        let others = nodes_of(initial, map).filter(|(id, _)| *id != me);
        if proof.ends_with(others.map(|(id, node)| (*id, node.uri.as_str()))) {
            self.identify_all(host);
        }
    }

    pub(crate) fn tick_proof(&mut self, ticks: u64, host: &mut Host<'_>) {
        if self.control.proof.tick() {
            self.identify_all(host);
        } else {
            self.end_proof(host);
        }
        if ticks % FORGOTTEN_EVERY_TICKS == FORGOTTEN_EVERY_TICKS - 1
            && self.shard.directory.consensus.owner().is_none()
        {
            let forgot: Vec<_> = who_forgot(host.links).collect();
            if !forgot.is_empty() {
                host.effects.note(Level::Error, waits_for_admission(&forgot));
            }
        }
    }

    /// The state store is to know, with each persist, how much log there is.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn stamp_the_state(&mut self, profile: &Profile) -> Result<(), StoreError> {
        if !self.shard.log.want_persist {
            return Ok(());
        }
        let (sandbox_id, frames) = (profile.sandbox_id, self.shard.log.frames);
        Stamp { sandbox_id, frames }.write(&mut *self.shard.store)
    }

    /// What goes along with other records.
    pub(crate) fn take_lazy(&mut self) -> Vec<LogRecord> {
        let mut records = self.shard.take_lazy();
        records.append(&mut self.control.witnesses.take_records());
        records
    }

    // Members.

    pub(crate) fn are_back(&mut self, back: Vec<(u64, ReplicaId)>, host: &mut Host<'_>) {
        if back.is_empty() {
            return;
        }
        for (link, replica) in back {
            if let Some(hello) = host.links.get(link).and_then(|link| link.hello.as_ref()) {
                self.control.witnesses.greeted(replica, hello.start);
            }
            for group in self.shard.groups().collect::<Vec<_>>() {
                let here = self.shard.get_mut(group).expect("it was listed");
                here.consensus_mut().peer_back(replica);
            }
            host.effects.outbox.send_on(link, Frame::Recognized);
            self.control.announce(replica, &self.shard, host.effects);
        }
        let mut heard = self.control.witnesses.take_records();
        self.shard.log.records.append(&mut heard);
        self.placement.campaign(&surroundings!(self, host), &mut self.shard);
    }

    pub(crate) fn identify_all(&mut self, host: &mut Host<'_>) {
        let back = self.control.identify_all(host.links, host.effects);
        self.are_back(back, host);
    }

    /// Has the shell keep where the other members are.
    pub(crate) fn keep_others(&mut self, host: &mut Host<'_>) {
        let is_led = self.shard.directory.consensus.owner().is_some();
        self.control.keep_others(host.config.sandbox.others.as_ref(), is_led, host.effects);
    }

    /// Another node refuses this one. A node that is a member of a working cluster stays there.
    pub(crate) fn was_refused(&mut self, link: u64, why: String, host: &mut Host<'_>) {
        let topology = &self.control.map.topology;
        let is_at_home = self.shard.directory.consensus.owner().is_some()
            && topology.replica_of(host.profile.sandbox_id).is_some();
        // Who is of another cluster or another release, or of none so far, has no say in this; but
        // for those who would form a cluster with this node.
        let (initial, me) = (&self.control.initial, &self.control.me);
        let forms = !topology.is_formed() && initial.founders.contains_key(me);
        let hello = host.links.get(link).and_then(|link| link.hello.as_ref());
        let has_a_say = hello.is_some_and(|hello| match hello.cluster {
            Some(cluster) => cluster == initial.cluster,
            None => forms,
        });
        if is_at_home || !has_a_say {
            host.effects.note(Level::Warn, format!("a link was refused: {why}"));
            host.effects.outputs.push(Output::Close { link });
        } else {
            host.effects.halt(why);
        }
    }

    /// The directory's owner lets the cluster serve when every founder is bound by the initial
    /// configuration: either the founder belongs to this cluster for good, or its sandbox was lost
    /// and the sandbox in its place is a newcomer. If the cluster served earlier, a founder that
    /// does not know of the cluster could begin another one with a founder that lost its disk, and
    /// what was acknowledged would be gone.
    pub(crate) fn form_if_all_are_bound(&mut self, host: &mut Host<'_>) {
        if self.control.map.topology.is_formed() || !self.shard.is_serving(GroupId::DIRECTORY) {
            return;
        }
        let initial = &self.control.initial;
        let is_bound = |founder: &cluster::Member| {
            founder.sandbox_id == host.profile.sandbox_id
                || host.links.hellos().any(|(_, hello)| {
                    let is_same = hello.sandbox_id == founder.sandbox_id;
                    (is_same && hello.cluster == Some(initial.cluster))
                        || (!is_same && hello.uri == founder.uri)
                })
        };
        if initial.founders.values().all(is_bound) {
            let (initial, quorum) = (initial.clone(), host.config.membership_quorum);
            self.change(Purpose::Own, &DirectoryCommand::Form { initial, quorum }, host);
        }
    }

    /// Sends a command to the directory.
    pub(crate) fn change(
        &mut self,
        purpose: Purpose,
        command: &DirectoryCommand,
        host: &mut Host<'_>,
    ) {
        let question = Question::Directory(command.encode());
        host.effects.push(Work::Submit(purpose, GroupId::DIRECTORY, question));
    }
}
