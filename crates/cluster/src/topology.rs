//! The cluster's own map: which nodes there are, how many must hold a write, which group has which
//! slots and replicas. It is the state of group 0, the same on every node, and changes only through
//! that group's log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::{GroupId, ReplicaId, links};
use serde::{Deserialize, Serialize};

use crate::greeting::Candidate;
use crate::identity::{InitialConfig, Member};
use crate::instance_entry::{InstanceCommand, InstanceEntry};

/// The first byte of every encoded command.
const FORMAT: u8 = 1;

/// What the directory says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub(crate) core: Core,
    /// Every group but the directory itself.
    pub(crate) groups: BTreeMap<GroupId, GroupEntry>,
    /// The group of each instance, by name.
    pub(crate) names: BTreeMap<String, GroupId>,
}

/// What is not about a single group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Core {
    /// The cluster's name; `None` until it is formed.
    pub cluster: Option<u64>,
    /// How many partitions there are; 0 until the cluster is formed.
    pub partitions: u32,
    /// As set by a person; `None` is the majority, whatever the number of nodes.
    pub quorum: Option<usize>,
    pub members: BTreeMap<ReplicaId, Member>,
    /// Replicas whose sandbox was lost. Their ids are never used again.
    pub retired: BTreeSet<ReplicaId>,
    /// The highest replica id ever given away.
    pub last_replica: u64,
    /// How many groups were ever given to instances. They are never used again.
    pub(crate) given: u32,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupEntry {
    /// Documents: every node has a replica.
    Partition,
    /// An immortal: the nodes that are named have a replica.
    Instance(InstanceEntry),
}

/// A change of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryCommand {
    /// The first: the founders have all shown themselves, and the cluster begins to serve.
    Form {
        initial: InitialConfig,
        quorum: Option<usize>,
    },
    /// A new node, or a known one that comes with an empty sandbox, gets a replica id.
    Admit(Candidate),
    SetQuorum {
        quorum: usize,
    },
    Instance(InstanceCommand),
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something about the cluster as a whole.
    Cluster,
    /// The entry of that group, of an instance with that name.
    Group(GroupId, String),
    /// None: the instance with that name is as the command wants it.
    Same(String),
    Nothing,
    /// Why the command was refused.
    Refused(String),
}

impl DirectoryCommand {
    /// The form that goes into the log.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![FORMAT]);
        Bytes::from(bytes.expect("a directory command is plain data"))
    }

    /// # Errors
    /// When the bytes are no command, or one of a later format.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest)
                .map_err(|error| format!("a command of the directory cannot be read: {error}")),
            Some((other, _)) => Err(format!(
                "a command of the directory has format {other}; this version knows {FORMAT}: \
                 upgrade this node"
            )),
            None => Err("a command of the directory is empty".into()),
        }
    }
}

impl Topology {
    /// The state as it was kept: its core, and the entries of the groups.
    pub(crate) fn restore(core: Core, groups: BTreeMap<GroupId, GroupEntry>) -> Self {
        let named = |(group, entry): (&GroupId, &GroupEntry)| match entry {
            GroupEntry::Instance(instance) => Some((instance.name.clone(), *group)),
            GroupEntry::Partition => None,
        };
        let names = groups.iter().filter_map(named).collect();
        Self { core, groups, names }
    }

    pub fn apply(&mut self, command: DirectoryCommand) -> Change {
        match command {
            DirectoryCommand::Form { initial, quorum } => self.form(initial, quorum),
            DirectoryCommand::Admit(candidate) => self.admit(candidate),
            DirectoryCommand::SetQuorum { quorum } => self.set_quorum(quorum),
            DirectoryCommand::Instance(command) => self.change_instance(command),
        }
    }

    /// The same without its groups, which are many.
    pub fn without_groups(&self) -> Self {
        Self { core: self.core.clone(), ..Self::default() }
    }

    fn form(&mut self, initial: InitialConfig, quorum: Option<usize>) -> Change {
        if self.core.cluster.is_some() {
            return Change::Nothing;
        }
        let InitialConfig { cluster, partitions, founders } = initial;
        let core = &mut self.core;
        core.last_replica = founders.keys().next_back().map_or(0, |last| last.0);
        core.cluster = Some(cluster);
        core.partitions = partitions;
        core.quorum = quorum;
        core.members = founders;
        let partitions = (1..=partitions).map(|number| (GroupId(number), GroupEntry::Partition));
        self.groups.extend(partitions);
        Change::Cluster
    }

    fn admit(&mut self, candidate: Candidate) -> Change {
        if self.replica_of(candidate.sandbox_id).is_some() {
            return Change::Nothing;
        }
        let core = &mut self.core;
        // The same name or address with another sandbox: the old life of that node is over.
        let (retired, kept): (BTreeMap<_, _>, _) =
            std::mem::take(&mut core.members).into_iter().partition(|(_, member)| {
                member.node_id == candidate.node_id || member.uri == candidate.uri
            });
        core.members = kept;
        core.retired.extend(retired.into_keys());
        core.last_replica += 1;
        let Candidate { node_id, uri, sandbox_id } = candidate;
        core.members.insert(ReplicaId(core.last_replica), Member { node_id, uri, sandbox_id });
        Change::Cluster
    }

    fn set_quorum(&mut self, quorum: usize) -> Change {
        if let Err(why) = self.check_quorum(quorum) {
            return Change::Refused(why);
        }
        self.core.quorum = Some(quorum);
        Change::Cluster
    }

    /// # Errors
    /// When it is under the majority or over the number of nodes.
    pub fn check_quorum(&self, quorum: usize) -> Result<(), String> {
        let (least, most) = (self.majority(), self.size());
        if (least..=most).contains(&quorum) {
            return Ok(());
        }
        Err(format!(
            "a membership quorum of {quorum} is not possible: with {most} nodes it may be from \
             {least} (the majority; fewer could lose acknowledged writes) to {most}"
        ))
    }

    /// How many replicas must hold a write before it is acknowledged.
    pub fn effective_quorum(&self) -> usize {
        self.core.quorum.unwrap_or(0).max(self.majority())
    }

    pub fn majority(&self) -> usize {
        self.size() / 2 + 1
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.core.members.len()
    }

    /// The cluster's name; `None` until it is formed.
    pub fn cluster(&self) -> Option<u64> {
        self.core.cluster
    }

    pub fn is_formed(&self) -> bool {
        self.core.cluster.is_some()
    }

    /// The highest replica id ever given away, as far as is known here.
    pub fn last_replica(&self) -> u64 {
        self.core.last_replica
    }

    /// How many partitions there are; 0 while there is no cluster.
    pub fn partitions(&self) -> u32 {
        self.core.partitions
    }

    /// The partition that a document belongs to.
    ///
    /// # Panics
    /// When there is no cluster so far.
    pub fn partition_of(&self, link: &str) -> GroupId {
        links::partition(link, self.core.partitions)
    }

    pub fn members(&self) -> &BTreeMap<ReplicaId, Member> {
        &self.core.members
    }

    pub fn is_retired(&self, replica: ReplicaId) -> bool {
        self.core.retired.contains(&replica)
    }

    /// All replicas that belong to the cluster, in order.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.core.members.keys().copied().collect()
    }

    /// The replicas that should belong to a group, in the order of the directory.
    pub fn replicas_of(&self, group: GroupId) -> Vec<ReplicaId> {
        match self.groups.get(&group) {
            Some(GroupEntry::Instance(entry)) => {
                let nodes = entry.replicas.iter();
                nodes.filter_map(|replica| self.replica_of_node(&replica.node)).collect()
            }
            Some(GroupEntry::Partition) => self.replicas(),
            None if group.is_instance() => Vec::new(),
            None => self.replicas(),
        }
    }

    pub fn replica_of(&self, sandbox_id: u64) -> Option<ReplicaId> {
        self.find(|member| member.sandbox_id == sandbox_id)
    }

    pub fn replica_of_node(&self, node_id: &str) -> Option<ReplicaId> {
        self.find(|member| member.node_id == node_id)
    }

    fn find(&self, is_it: impl Fn(&Member) -> bool) -> Option<ReplicaId> {
        self.core.members.iter().find(|(_, member)| is_it(member)).map(|(id, _)| *id)
    }

    pub fn node_id(&self, replica: ReplicaId) -> Option<&str> {
        self.core.members.get(&replica).map(|member| member.node_id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, sandbox_id: u64) -> Member {
        Member { node_id: name.into(), uri: format!("http://{name}"), sandbox_id }
    }

    fn candidate(name: &str, sandbox_id: u64) -> Candidate {
        let Member { node_id, uri, sandbox_id } = member(name, sandbox_id);
        Candidate { node_id, uri, sandbox_id }
    }

    fn initial() -> InitialConfig {
        let founders = (1..=3).map(|id| (ReplicaId(id), member(&format!("n{id}"), id)));
        InitialConfig::new(4, founders.collect())
    }

    fn three() -> Topology {
        let mut topology = Topology::default();
        let form = DirectoryCommand::Form { initial: initial(), quorum: None };
        assert_eq!(topology.apply(form), Change::Cluster);
        topology
    }

    #[test]
    fn a_quorum_under_the_majority_or_over_all_is_refused() {
        let mut topology = three();
        assert_eq!(topology.effective_quorum(), 2);
        for wrong in [0, 1, 4] {
            let change = topology.apply(DirectoryCommand::SetQuorum { quorum: wrong });
            assert!(matches!(change, Change::Refused(_)), "{wrong}");
        }
        assert_eq!(topology.apply(DirectoryCommand::SetQuorum { quorum: 3 }), Change::Cluster);
        assert_eq!(topology.effective_quorum(), 3);
    }

    #[test]
    fn a_node_with_an_empty_sandbox_gets_a_new_replica_id_and_loses_the_old() {
        let mut topology = three();
        let admit = || DirectoryCommand::Admit(candidate("n2", 99));
        assert_eq!(topology.apply(admit()), Change::Cluster);
        assert_eq!(topology.replica_of(99), Some(ReplicaId(4)));
        assert_eq!(topology.size(), 3);
        assert!(topology.is_retired(ReplicaId(2)));
        assert_eq!(topology.apply(admit()), Change::Nothing);
    }

    #[test]
    fn a_cluster_is_formed_once() {
        let mut topology = three();
        let mut other = initial();
        other.partitions = 9;
        let form = DirectoryCommand::Form { initial: other, quorum: Some(3) };
        assert_eq!(topology.apply(form), Change::Nothing);
        assert_eq!(topology, three());
    }

    #[test]
    fn a_command_of_another_format_is_refused_by_its_number() {
        let good = DirectoryCommand::SetQuorum { quorum: 2 };
        assert_eq!(DirectoryCommand::decode(&good.encode()), Ok(good.clone()));
        let mut later = good.encode().to_vec();
        later[0] = 9;
        let why = DirectoryCommand::decode(&later).unwrap_err();
        assert!(why.contains("format 9"), "{why}");
        assert!(DirectoryCommand::decode(b"").is_err());
    }
}
