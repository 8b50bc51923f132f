//! A member's part in the cluster: its groups, what it knows of the others, and how it hands over
//! what it owns when it stops.

use cluster::{DirectoryCommand, Links, Profile};
use protocol::{GroupId, Now, ReplicaId};
use storage::StoreError;

use crate::control::Control;
use crate::frame::{Frame, Question};
use crate::io::{Level, NodeConfig, Output};
use crate::placement::{self, Placement, Surroundings};
use crate::shard::{Conditions, Shard};
use crate::view::View;
use crate::work::{Effects, Purpose, Work};

/// How long a planned stop may take before the node goes all the same, in microseconds.
const STOP_MICROS_MAX: u64 = 3_000_000;

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
            quorum: $self.control.quorum($host.links, $host.now),
            may_lead: !$self.is_stopping(),
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
        }
    };
}
pub(crate) use surroundings;

pub(crate) struct Membership {
    pub(crate) control: Control,
    pub(crate) shard: Shard,
    pub(crate) placement: Placement,
    stop: Option<Stop>,
}

impl Membership {
    pub(crate) fn new(control: Control, shard: Shard) -> Self {
        Self { control, shard, placement: Placement::default(), stop: None }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
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
        let is_up = |id: &ReplicaId| self.control.is_up(*id, host.links, host.now);
        let up = topology.replicas().into_iter().filter(is_up).collect();
        self.shard.cut_logs(&host.config.upkeep.tail, &up, host.now.steady_micros);
    }

    pub(crate) fn disk_is_full(
        &mut self,
        why: String,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let text = format!("the disk takes no writes ({why}): refusing writes until it does");
        if self.shard.log.set_full(why) {
            host.effects.note(Level::Error, text);
        }
        self.control.ping_all(&self.shard, host.links, host.effects);
        self.hand_over_all(host).map(|_| ())
    }

    // Owners.

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

    /// Not to a replica that could not take it: the leader would be dropped for nothing.
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

    pub(crate) fn send_between(
        &mut self,
        from: GroupId,
        to: GroupId,
        message: immortals::Between,
        host: &mut Host<'_>,
    ) {
        match self.control.owner_of(to, &self.shard) {
            Some(owner) if owner == self.control.me => {
                host.effects.instance(to, immortals::Input::Between { from, message });
            }
            Some(owner) => {
                let frame = Frame::Between { from, to, message: Box::new(message) };
                host.effects.outbox.send(owner, frame);
            }
            // It is asked again, and told when there is one.
            None => {}
        }
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
        self.go_on_stopping(is_idle, host)
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn go_on_stopping(
        &mut self,
        is_idle: bool,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let Some(Stop { since, mark: None }) = self.stop else { return Ok(()) };
        let is_handed_over = self.hand_over_all(host)?;
        let waited = host.now.steady_micros.saturating_sub(since);
        if (is_handed_over && is_idle) || waited > STOP_MICROS_MAX {
            self.stop = Some(Stop { since, mark: Some(self.shard.log.next_mark()) });
            self.shard.log.want_persist = true;
        }
        Ok(())
    }

    // Members.

    pub(crate) fn are_back(&mut self, back: Vec<(u64, ReplicaId)>, host: &mut Host<'_>) {
        if back.is_empty() {
            return;
        }
        for (_, replica) in back {
            for group in self.shard.groups().collect::<Vec<_>>() {
                let here = self.shard.get_mut(group).expect("it was listed");
                here.consensus_mut().peer_back(replica);
            }
            self.control.announce(replica, &self.shard, host.effects);
        }
        self.placement.campaign(&surroundings!(self, host), &mut self.shard);
    }

    pub(crate) fn identify_all(&mut self, host: &mut Host<'_>) {
        let back = self.control.identify_all(host.links, host.effects);
        self.are_back(back, host);
    }

    /// Somebody will not have this node. Who is at home in a working cluster stays there.
    pub(crate) fn was_refused(&mut self, link: u64, why: String, host: &mut Host<'_>) {
        let is_at_home = self.shard.directory.consensus.owner().is_some()
            && self.control.map.topology.replica_of(host.profile.sandbox_id).is_some();
        if is_at_home {
            host.effects.note(Level::Warn, format!("a link was refused: {why}"));
            host.effects.outputs.push(Output::Close { link });
        } else {
            host.effects.halt(why);
        }
    }

    /// A newcomer asks. Its former self, if there is one, must be gone.
    pub(crate) fn admit(&mut self, link: u64, candidate: cluster::Candidate, host: &mut Host<'_>) {
        let topology = &self.control.map.topology;
        if topology.replica_of(candidate.sandbox_id).is_some() || !topology.is_formed() {
            return;
        }
        let now = host.now.steady_micros;
        let twin = topology.members().iter().find(|(id, member)| {
            member.node_id == candidate.node_id
                && member.uri != candidate.uri
                && host.links.is_up(**id, now)
        });
        if let Some((_, twin)) = twin {
            let why = format!(
                "another node is called '{}', at {}; give each its own --id",
                twin.node_id, twin.uri
            );
            return host.effects.refuse(link, why);
        }
        self.change(Purpose::Own, &DirectoryCommand::Admit(candidate), host);
    }

    /// The directory's owner lets the cluster serve when every founder is bound by the initial
    /// configuration: it belongs to this cluster for good, or its sandbox was lost and the one in its place is a
    /// newcomer. If the cluster served earlier, a founder that does not know of it could begin
    /// another one with a founder that lost its disk, and what was acknowledged would be gone.
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
