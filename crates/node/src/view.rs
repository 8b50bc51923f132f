//! A read-only view of the node and the cluster, for the resources of the REST surface, the router,
//! and the control of members and owners.

use cluster::{Asking, Links, Topology};
use group::Quorum;
use protocol::{
    Behind, Code, GroupId, Now, Outcome, Position, Problem, ReplicaId, Term, WriteQuorum,
    node_group,
};
use services::Catalogue;

use crate::control::Control;
use crate::frame::Question;
use crate::hosted::{AnyReplica, name_of};
use crate::io::NodeConfig;
use crate::placement::Placement;
use crate::shard::Shard;

/// What a member of a cluster knows, for one step.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) now: Now,
    pub(crate) links: &'a Links,
    pub(crate) control: &'a Control,
    pub(crate) shard: &'a Shard,
    pub(crate) placement: &'a Placement,
    /// Nodes that wait for a person to let them in.
    pub(crate) asking: &'a Asking,
    pub(crate) is_stopping: bool,
    /// How many requests that came in here are not answered.
    pub(crate) in_flight: usize,
}

/// Older news of the directory's owner are ignored, in milliseconds.
const DIRECTORY_MILLIS_MAX: u64 = 1_000;

impl<'a> View<'a> {
    pub(crate) fn me(&self) -> ReplicaId {
        self.control.me
    }

    pub(crate) fn topology(&self) -> &'a Topology {
        &self.control.map.topology
    }

    /// The cluster's name.
    pub(crate) fn topology_name(&self) -> u64 {
        self.control.initial.cluster
    }

    pub(crate) fn catalogue(&self) -> &'a Catalogue {
        &self.shard.handlers.catalogue
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.topology().partitions()
    }

    /// The replicas of the directory and of every partition.
    pub(crate) fn members(&self) -> Vec<ReplicaId> {
        self.control.members()
    }

    /// The replicas that belong to a group.
    pub(crate) fn replicas_of(&self, group: GroupId) -> Vec<ReplicaId> {
        self.control.replicas_of(group)
    }

    pub(crate) fn owner_of(&self, group: GroupId) -> Option<ReplicaId> {
        self.control.owner_of(group, self.shard)
    }

    pub(crate) fn term_of(&self, group: GroupId) -> Term {
        self.shard.get(group).map_or(Term(0), |replica| replica.consensus().term())
    }

    pub(crate) fn is_up(&self, replica: ReplicaId) -> bool {
        self.control.is_up(replica, self.links, self.now)
    }

    /// Whether the disk of that node takes writes, as far as is known here.
    pub(crate) fn takes_writes(&self, replica: ReplicaId) -> bool {
        match replica == self.control.me {
            true => self.shard.log.full().is_none(),
            false => self.links.takes_writes(replica),
        }
    }

    pub(crate) fn nodes_up(&self) -> usize {
        self.quorum().up
    }

    pub(crate) fn majority_is_up(&self) -> bool {
        self.nodes_up() > self.members().len() / 2
    }

    pub(crate) fn node_id(&self, replica: ReplicaId) -> Option<&'a str> {
        self.topology().node_id(replica)
    }

    pub(crate) fn quorum(&self) -> Quorum {
        self.control.quorum(&self.shard.log, self.links, self.now)
    }

    pub(crate) fn instance(&self, group: GroupId) -> Option<&'a immortals::Instance> {
        self.shard.instance(group)
    }

    /// What only the owner of an instance has, if that is this node.
    pub(crate) fn lead(&self, group: GroupId) -> Option<&'a immortals::Lead> {
        self.shard.instances.get(&group)?.leader().map(|leader| leader.lead())
    }

    /// A group in words.
    pub(crate) fn name_of(&self, group: GroupId) -> String {
        if !group.is_instance() {
            return name_of(group);
        }
        let registered = self.topology().instance_of(group).map(|entry| entry.name.as_str());
        match self.instance(group).map(immortals::Instance::name).or(registered) {
            Some(name) => format!("immortal '{name}'"),
            None => name_of(group),
        }
    }

    /// Why a write is refused at present: too few nodes are up to acknowledge it. A fence changes
    /// no document, so the majority is enough for a fence, as for the directory and for instances.
    pub(crate) fn refuse_write(&self, group: GroupId, question: &Question) -> Option<Problem> {
        if !question.is_write() {
            return None;
        }
        if let Some(why) = self.shard.log.full()
            && self.owner_of(group) == Some(self.me())
        {
            let text = format!(
                "the disk of node {} takes no writes: {why}. Free space",
                self.config.node_id
            );
            return Some(Problem::new(Code::Storage, text).with_outcome(Outcome::NotApplied));
        }
        if let Some(bytes) = self.shard.log.pace.is_behind()
            && self.owner_of(group) == Some(self.me())
        {
            let text = format!(
                "the disk of node {} has {bytes} bytes of the log still to write; try again when \
                 it has",
                self.config.node_id
            );
            // It may be the repeat of one that is on its way to the disk.
            return Some(Problem::new(Code::Busy, text).with_outcome(Outcome::Unknown));
        }
        if matches!(question, Question::Fence(_)) || !group.is_partition() {
            return None;
        }
        let Quorum { needed, up, .. } = self.quorum();
        if up < needed {
            return Some(self.quorum_not_met(needed, up));
        }
        match question.quorum(self.members().len()) {
            Ok(wished) if up < wished => Some(self.wish_not_met(wished, up)),
            Ok(_) => None,
            Err(problem) => Some(problem.with_outcome(Outcome::NotApplied)),
        }
    }

    fn wish_not_met(&self, wished: usize, up: usize) -> Problem {
        let text = format!(
            "{} asks for {wished} replicas, and {up} of {} nodes are up. Start the missing nodes, or \
             ask for fewer",
            WriteQuorum::HEADER,
            self.topology().size()
        );
        Problem::new(Code::QuorumNotMet, text).with_outcome(Outcome::NotApplied)
    }

    fn quorum_not_met(&self, needed: usize, up: usize) -> Problem {
        let members = self.topology().members().keys();
        let is_full = |id: &&ReplicaId| self.is_up(**id) && !self.takes_writes(**id);
        let full = match members.filter(is_full).count() {
            0 => String::new(),
            full => format!(", not counting {full} whose disks are full"),
        };
        let possible = self.topology().majority().max(up);
        let advice = if up >= self.topology().majority() && possible < needed {
            format!(
                ", or lower the quorum: PATCH {} {{\"kind\":\"UpdateQuorumRequest\",\
                 \"membershipQuorum\":{possible}}}",
                node_group::LINK
            )
        } else {
            String::new()
        };
        let text = format!(
            "the membership quorum is {needed}, and {up} of {} nodes are up{full}. Start the missing \
             nodes{advice}",
            self.topology().size()
        );
        Problem::new(Code::QuorumNotMet, text).with_outcome(Outcome::NotApplied)
    }

    /// How far this node's replica of a group may be behind.
    pub(crate) fn staleness(&self, group: GroupId) -> Behind {
        let Some(replica) = self.shard.get(group) else { return Behind::default() };
        let heard = self.control.staleness.of(group, self.now.steady_micros);
        let (committed, millis) = match heard {
            _ if replica.serving().is_some() => (Position(0), Some(0)),
            Some((position, micros)) => (position, Some(micros.div_ceil(1_000))),
            None => (Position(0), None),
        };
        let consensus = replica.consensus();
        let committed = committed.max(consensus.committed_position());
        let entries = committed.0.saturating_sub(consensus.applied_position().0);
        Behind { entries, millis }
    }

    /// Whether an instance that is not in this node's directory surely is not registered. That is
    /// so when this directory has all that the directory's owner had committed a moment ago.
    pub(crate) fn knows_the_directory(&self) -> bool {
        let Behind { entries, millis, .. } = self.staleness(GroupId::DIRECTORY);
        entries == 0 && millis.is_some_and(|millis| millis < DIRECTORY_MILLIS_MAX)
    }

    /// The node that last said that it owns an instance. A node without a replica hears of no
    /// election, so it only checks whether that owner is up.
    pub(crate) fn owner_as_seen(&self, group: GroupId) -> Option<ReplicaId> {
        let known = self.owner_of(group);
        known.filter(|owner| self.shard.has(group) || self.is_up(*owner))
    }

    /// Who is to be asked how an instance is. A node without a replica hears of an owner when a
    /// program is there; until then any replica that is up can tell that there is none.
    pub(crate) fn teller_of(&self, group: GroupId) -> Option<ReplicaId> {
        match self.owner_as_seen(group) {
            Some(owner) => Some(owner),
            None if self.shard.has(group) => None,
            None => self.replicas_of(group).into_iter().find(|id| self.is_up(*id)),
        }
    }

    /// Whether it is worth waiting for the owner of an instance: there is an owner, or enough
    /// replicas are up that there could be one soon.
    pub(crate) fn may_have_owner(&self, group: GroupId) -> bool {
        let replicas = self.replicas_of(group);
        let up = replicas.iter().filter(|id| self.is_up(**id)).count();
        up > replicas.len() / 2 || self.owner_as_seen(group).is_some()
    }

    /// Why a member does not serve, in a few words.
    pub(crate) fn why_not_serving(&self) -> &'static str {
        if self.owner_of(GroupId::DIRECTORY).is_some() {
            "not all nodes named by --peer-nodes have said that they belong to it"
        } else {
            "its directory has no owner yet"
        }
    }

    /// Whether that replica is a voter and has nearly all of the log, as this owner sees it.
    pub(crate) fn is_close(&self, group: GroupId, replica: ReplicaId) -> bool {
        self.shard.get(group).is_some_and(|here| crate::placement::is_close(here, replica))
    }

    pub(crate) fn replica(&self, group: GroupId) -> Option<&'a dyn AnyReplica> {
        self.shard.get(group)
    }
}
