//! The cluster's own map: which nodes there are, how many must hold a write, which group has which
//! slots and replicas. It is the state of group 0, the same on every node, and changes only through
//! that group's log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::{GroupId, ReplicaId, links};
use serde::{Deserialize, Serialize};

use crate::departures::Departures;
use crate::greeting::Candidate;
use crate::identity::{Identity, InitialConfig, Member};
use crate::instance_entry::{InstanceCommand, InstanceEntry};
use crate::instance_index::InstanceIndex;

/// The first byte of every encoded command.
const FORMAT: u8 = 2;

/// The first format that can still be read: later ones only have more commands.
const FORMAT_OLDEST: u8 = 1;

/// What the directory says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub(crate) core: Core,
    /// Every group but the directory itself.
    pub(crate) groups: BTreeMap<GroupId, GroupEntry>,
    pub(crate) index: InstanceIndex,
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
    pub(crate) departures: Departures,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupEntry {
    /// Documents: every node has a replica.
    Partition,
    /// An immortal: the nodes that are named have a replica.
    Instance(InstanceEntry),
}

impl GroupEntry {
    pub(crate) fn instance(&self) -> Option<&InstanceEntry> {
        match self {
            Self::Instance(entry) => Some(entry),
            Self::Partition => None,
        }
    }
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
    /// A person does not want the node with that sandbox in the cluster.
    Refuse {
        sandbox_id: u64,
    },
    /// A person removes a member for good. It counts no more, and leaves one group after the other.
    Remove {
        replica: ReplicaId,
    },
    /// That member has left all groups.
    Removed {
        replica: ReplicaId,
    },
    /// A member is to own nothing, or may own again.
    Drain {
        replica: ReplicaId,
        is_drained: bool,
    },
    /// A member is reached at another address.
    Moved {
        replica: ReplicaId,
        uri: String,
    },
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
            Some((FORMAT_OLDEST..=FORMAT, rest)) => postcard::from_bytes(rest)
                .map_err(|error| format!("a command of the directory cannot be read: {error}")),
            Some((other, _)) => Err(format!(
                "a command of the directory has format {other}; this version knows \
                 {FORMAT_OLDEST} to {FORMAT}: upgrade this node"
            )),
            None => Err("a command of the directory is empty".into()),
        }
    }
}

impl Topology {
    /// The state as it was kept: its core, and the entries of the groups.
    pub(crate) fn restore(core: Core, groups: BTreeMap<GroupId, GroupEntry>) -> Self {
        let index = InstanceIndex::of(groups.values().filter_map(GroupEntry::instance));
        Self { core, groups, index }
    }

    pub fn apply(&mut self, command: DirectoryCommand) -> Change {
        match command {
            DirectoryCommand::Form { initial, quorum } => self.form(initial, quorum),
            DirectoryCommand::Admit(candidate) => self.admit(candidate),
            DirectoryCommand::SetQuorum { quorum } => self.set_quorum(quorum),
            DirectoryCommand::Instance(command) => self.change_instance(command),
            DirectoryCommand::Refuse { sandbox_id } => self.refuse(sandbox_id),
            DirectoryCommand::Remove { replica } => self.remove(replica),
            DirectoryCommand::Removed { replica } => self.removed(replica),
            DirectoryCommand::Drain { replica, is_drained } => self.drain(replica, is_drained),
            DirectoryCommand::Moved { replica, uri } => self.moved(replica, uri),
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
        let (retired, kept): (BTreeMap<_, _>, _) = std::mem::take(&mut core.members)
            .into_iter()
            .partition(|(_, member)| candidate.is_like(member));
        core.members = kept;
        core.last_replica += 1;
        let fresh = ReplicaId(core.last_replica);
        retired.keys().for_each(|former| core.departures.is_succeeded(*former, fresh));
        core.retired.extend(retired.into_keys());
        let Candidate { node_id, uri, sandbox_id } = candidate;
        core.members.insert(fresh, Member { node_id, uri, sandbox_id });
        Change::Cluster
    }

    /// Of the same documents and instances another cluster is made, with one node. No replica id
    /// and no group is used a second time.
    ///
    /// # Errors
    /// When there was no cluster so far.
    pub(crate) fn found_anew(&mut self, node: Member) -> Result<Identity, String> {
        if !self.is_formed() {
            return Err("it is of a cluster that was never formed".into());
        }
        let core = &mut self.core;
        core.last_replica += 1;
        let replica = ReplicaId(core.last_replica);
        let name = node.node_id.clone();
        let former = std::mem::replace(&mut core.members, BTreeMap::from([(replica, node)]));
        core.retired.extend(former.into_keys());
        core.quorum = None;
        // Those of the former nodes that are refused stay so; nobody is leaving or rests any more.
        core.departures.leaving.clear();
        core.departures.drained.clear();
        let initial = InitialConfig::new(core.partitions, core.members.clone());
        core.cluster = Some(initial.cluster);
        // Ports were of one node each, and all are on this one now.
        let mut taken = BTreeSet::new();
        for entry in self.groups.values_mut() {
            let GroupEntry::Instance(instance) = entry else { continue };
            instance.founders = vec![replica];
            instance.replicas.truncate(1);
            for first in &mut instance.replicas {
                first.node.clone_from(&name);
                let ports = [first.receive_port, first.send_port].into_iter().flatten();
                if ports.clone().any(|port| taken.contains(&port)) {
                    (first.receive_port, first.send_port) = (None, None);
                } else {
                    taken.extend(ports);
                }
            }
            instance.version += 1;
        }
        self.index = InstanceIndex::of(self.groups.values().filter_map(GroupEntry::instance));
        Ok(Identity { replica, initial })
    }

    /// A member comes back under its name at another address. Nobody takes the address of another.
    fn moved(&mut self, replica: ReplicaId, uri: String) -> Change {
        let is_taken = self.core.members.values().any(|member| member.uri == uri);
        match self.core.members.get_mut(&replica) {
            Some(member) if !is_taken => {
                member.uri = uri;
                Change::Cluster
            }
            _ => Change::Nothing,
        }
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

    /// The membership quorum: with fewer nodes up, writes are refused.
    pub fn effective_quorum(&self) -> usize {
        self.quorum_set().max(self.majority())
    }

    /// The membership quorum as a person has set it; 0 if nobody has.
    pub(crate) fn quorum_set(&self) -> usize {
        self.core.quorum.unwrap_or(0)
    }

    pub fn majority(&self) -> usize {
        self.size() / 2 + 1
    }

    /// How many nodes there are, not counting those that are being removed.
    pub fn size(&self) -> usize {
        self.stays().count()
    }

    fn stays(&self) -> impl Iterator<Item = ReplicaId> {
        self.core.members.keys().copied().filter(|id| !self.is_leaving(*id))
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

    /// The nodes, with those that are being removed.
    pub fn members(&self) -> &BTreeMap<ReplicaId, Member> {
        &self.core.members
    }

    pub fn is_retired(&self, replica: ReplicaId) -> bool {
        self.core.retired.contains(&replica)
    }

    /// All replicas that belong to the cluster for good, in order.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        self.stays().collect()
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
    use crate::instance_entry::{InstanceOptions, InstanceReplica};

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
    fn a_cluster_that_is_made_of_another_has_one_node_and_uses_no_number_twice() {
        let mut topology = three();
        topology.apply(DirectoryCommand::SetQuorum { quorum: 3 });
        let replica = |number: u64| InstanceReplica {
            node: format!("n{number}"),
            number,
            receive_port: None,
            send_port: None,
            upgrade_version: None,
        };
        let register = |name: &str| {
            DirectoryCommand::Instance(InstanceCommand::Register {
                name: name.into(),
                founders: (1..=3).map(ReplicaId).collect(),
                replicas: (1..=3).map(replica).collect(),
                options: InstanceOptions::default(),
            })
        };
        topology.apply(register("one"));
        for (name, node, [receive, send]) in
            [("p", "n1", [2000, 2001]), ("q", "n2", [2002, 2000]), ("r", "n2", [2001, 2003])]
        {
            let at = InstanceReplica {
                node: node.into(),
                receive_port: Some(receive),
                send_port: Some(send),
                ..replica(1)
            };
            topology.apply(DirectoryCommand::Instance(InstanceCommand::Register {
                name: name.into(),
                founders: vec![ReplicaId(1)],
                replicas: vec![at],
                options: InstanceOptions::default(),
            }));
        }
        let group = topology.instance("one").expect("it is registered").group;
        let former = topology.cluster();
        let identity = topology.found_anew(member("new", 77)).expect("there was a cluster");
        assert_eq!((identity.replica, topology.size()), (ReplicaId(4), 1));
        assert_eq!(topology.cluster(), Some(identity.initial.cluster));
        assert!(topology.cluster() != former && topology.effective_quorum() == 1);
        assert!((1..=3).all(|id| topology.is_retired(ReplicaId(id))));
        assert_eq!(topology.replicas_of(group), [ReplicaId(4)]);
        assert_eq!(topology.instance("one").expect("it is there").founders, [ReplicaId(4)]);
        let ports = |name: &str| {
            let first = &topology.instance(name).expect("it is there").replicas[0];
            (first.receive_port, first.send_port)
        };
        assert_eq!(ports("p"), (Some(2000), Some(2001)));
        assert_eq!([ports("q"), ports("r")], [(None, None); 2], "both wanted one of these");
        topology.apply(register("two"));
        assert!(topology.instance("two").expect("it is registered").group > group);
        assert!(Topology::default().found_anew(member("new", 7)).is_err(), "it was never formed");
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
