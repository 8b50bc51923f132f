//! The cluster's own map: which nodes there are and how many must hold a write. It is the state of
//! group 0, the same on every node, and changes only through that group's log.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ReplicaId;
use serde::{Deserialize, Serialize};

use crate::edge::fnv;
use crate::frame::Newcomer;
use crate::registry::{Registry, RegistryCommand};

/// A node that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) node_id: String,
    pub(crate) uri: String,
    pub(crate) sandbox_id: u64,
}

/// What a cluster begins with. It is the same on all its nodes, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charter {
    /// The cluster's name, made of the founders' sandboxes: founders with other sandboxes would be
    /// another cluster.
    pub(crate) cluster: u64,
    pub(crate) partitions: u32,
    /// The nodes of the first peer list, each with the sandbox it came with.
    pub(crate) founders: BTreeMap<ReplicaId, Member>,
}

impl Charter {
    pub(crate) fn new(partitions: u32, founders: BTreeMap<ReplicaId, Member>) -> Self {
        let sandboxes: Vec<[u8; 8]> =
            founders.values().map(|member| member.sandbox_id.to_be_bytes()).collect();
        let cluster = fnv(sandboxes.iter().map(<[u8; 8]>::as_slice));
        Self { cluster, partitions, founders }
    }

    pub(crate) fn founder(&self, sandbox_id: u64) -> Option<ReplicaId> {
        replica_of(&self.founders, sandbox_id)
    }
}

fn replica_of(members: &BTreeMap<ReplicaId, Member>, sandbox_id: u64) -> Option<ReplicaId> {
    members.iter().find(|(_, member)| member.sandbox_id == sandbox_id).map(|(id, _)| *id)
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// None until the cluster is formed.
    pub(crate) cluster: Option<u64>,
    pub(crate) partitions: u32,
    /// As set by a person; None is the majority, whatever the number of nodes.
    pub(crate) quorum: Option<usize>,
    pub(crate) members: BTreeMap<ReplicaId, Member>,
    /// Replicas whose sandbox was lost. Their ids are never used again.
    pub(crate) retired: BTreeSet<ReplicaId>,
    /// The highest replica id ever given away.
    pub(crate) last_replica: u64,
    pub(crate) registry: Registry,
}

/// A change of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DirectoryCommand {
    /// The first: the founders have all shown themselves, and the cluster begins to serve.
    Form {
        charter: Charter,
        quorum: Option<usize>,
    },
    /// A new node, or a known one that comes with an empty sandbox, gets a replica id.
    Admit(Newcomer),
    SetQuorum {
        quorum: usize,
    },
    Immortal(RegistryCommand),
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done,
    Nothing,
    /// Why it was refused.
    Refused(String),
}

impl Directory {
    pub(crate) fn apply(&mut self, command: DirectoryCommand) -> Changed {
        match command {
            DirectoryCommand::Form { charter, quorum } => self.form(charter, quorum),
            DirectoryCommand::Admit(newcomer) => self.admit(newcomer),
            DirectoryCommand::SetQuorum { quorum } => self.set_quorum(quorum),
            DirectoryCommand::Immortal(command) => self.registry.apply(command),
        }
    }

    /// The same without the instances, which are many.
    pub(crate) fn without_instances(&self) -> Self {
        let Self { cluster, partitions, quorum, members, retired, last_replica, registry: _ } =
            self;
        Self {
            cluster: *cluster,
            partitions: *partitions,
            quorum: *quorum,
            members: members.clone(),
            retired: retired.clone(),
            last_replica: *last_replica,
            registry: Registry::default(),
        }
    }

    fn form(&mut self, charter: Charter, quorum: Option<usize>) -> Changed {
        if self.cluster.is_some() {
            return Changed::Nothing;
        }
        let Charter { cluster, partitions, founders } = charter;
        self.last_replica = founders.keys().next_back().map_or(0, |last| last.0);
        self.cluster = Some(cluster);
        self.partitions = partitions;
        self.quorum = quorum;
        self.members = founders;
        Changed::Done
    }

    fn admit(&mut self, newcomer: Newcomer) -> Changed {
        if self.replica_of(newcomer.sandbox_id).is_some() {
            return Changed::Nothing;
        }
        // The same name or address with another sandbox: the old life of that node is over.
        let (retired, kept) =
            std::mem::take(&mut self.members).into_iter().partition(|(_, member)| {
                member.node_id == newcomer.node_id || member.uri == newcomer.uri
            });
        let retired: BTreeMap<ReplicaId, Member> = retired;
        self.members = kept;
        self.retired.extend(retired.into_keys());
        self.last_replica += 1;
        let Newcomer { node_id, uri, sandbox_id } = newcomer;
        self.members.insert(ReplicaId(self.last_replica), Member { node_id, uri, sandbox_id });
        Changed::Done
    }

    fn set_quorum(&mut self, quorum: usize) -> Changed {
        if let Err(why) = self.check_quorum(quorum) {
            return Changed::Refused(why);
        }
        self.quorum = Some(quorum);
        Changed::Done
    }

    /// # Errors
    /// When it is under the majority or over the number of nodes.
    pub(crate) fn check_quorum(&self, quorum: usize) -> Result<(), String> {
        let (least, most) = (self.majority(), self.size());
        if (least..=most).contains(&quorum) {
            return Ok(());
        }
        Err(format!(
            "a membership quorum of {quorum} is not possible: with {most} nodes it may be from {least} \
             (the majority; fewer could lose acknowledged writes) to {most}"
        ))
    }

    /// How many replicas must hold a write before it is acknowledged.
    pub(crate) fn effective_quorum(&self) -> usize {
        self.quorum.unwrap_or(0).max(self.majority())
    }

    pub(crate) fn majority(&self) -> usize {
        self.size() / 2 + 1
    }

    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// All replicas that belong to the cluster, in order.
    pub(crate) fn line(&self) -> Vec<ReplicaId> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn replica_of(&self, sandbox_id: u64) -> Option<ReplicaId> {
        replica_of(&self.members, sandbox_id)
    }

    pub(crate) fn node_id(&self, replica: ReplicaId) -> Option<&str> {
        self.members.get(&replica).map(|member| member.node_id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, sandbox_id: u64) -> Member {
        Member { node_id: name.into(), uri: format!("http://{name}"), sandbox_id }
    }

    fn newcomer(name: &str, sandbox_id: u64) -> Newcomer {
        let Member { node_id, uri, sandbox_id } = member(name, sandbox_id);
        Newcomer { node_id, uri, sandbox_id }
    }

    fn charter() -> Charter {
        let founders = (1..=3).map(|id| (ReplicaId(id), member(&format!("n{id}"), id)));
        Charter::new(4, founders.collect())
    }

    fn three() -> Directory {
        let mut directory = Directory::default();
        let form = DirectoryCommand::Form { charter: charter(), quorum: None };
        assert_eq!(directory.apply(form), Changed::Done);
        directory
    }

    #[test]
    fn a_quorum_under_the_majority_or_over_all_is_refused() {
        let mut directory = three();
        assert_eq!(directory.effective_quorum(), 2);
        for wrong in [0, 1, 4] {
            let changed = directory.apply(DirectoryCommand::SetQuorum { quorum: wrong });
            assert!(matches!(changed, Changed::Refused(_)), "{wrong}");
        }
        assert_eq!(directory.apply(DirectoryCommand::SetQuorum { quorum: 3 }), Changed::Done);
        assert_eq!(directory.effective_quorum(), 3);
    }

    #[test]
    fn a_node_with_an_empty_sandbox_gets_a_new_replica_id_and_loses_the_old() {
        let mut directory = three();
        assert_eq!(directory.apply(DirectoryCommand::Admit(newcomer("n2", 99))), Changed::Done);
        assert_eq!(directory.replica_of(99), Some(ReplicaId(4)));
        assert_eq!(directory.members.len(), 3);
        assert!(!directory.members.contains_key(&ReplicaId(2)));
        assert_eq!(directory.apply(DirectoryCommand::Admit(newcomer("n2", 99))), Changed::Nothing);
    }

    #[test]
    fn a_cluster_is_formed_once() {
        let mut directory = three();
        let mut other = charter();
        other.partitions = 9;
        let form = DirectoryCommand::Form { charter: other, quorum: Some(3) };
        assert_eq!(directory.apply(form), Changed::Nothing);
        assert_eq!(directory, three());
    }

    #[test]
    fn founders_with_another_sandbox_are_another_cluster() {
        let mut founders = charter().founders;
        assert_eq!(Charter::new(4, founders.clone()).cluster, charter().cluster);
        founders.insert(ReplicaId(2), member("n2", 22));
        assert_ne!(Charter::new(4, founders).cluster, charter().cluster);
    }
}
