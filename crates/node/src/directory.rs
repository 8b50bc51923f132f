//! The cluster's own map: which nodes there are and how many must hold a write. It is the state of
//! group 0, the same on every node, and changes only through that group's log.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ReplicaId;
use serde::{Deserialize, Serialize};

use crate::frame::Newcomer;

/// A node that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) node_id: String,
    pub(crate) uri: String,
    pub(crate) sandbox_id: u64,
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
    /// The replicas 1 to this are those of the first peer list, present or not.
    pub(crate) founders: u64,
    /// The highest replica id ever given away.
    pub(crate) last_replica: u64,
}

/// A change of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DirectoryCommand {
    /// The first: the cluster gets its name and the number of its partitions.
    Form {
        cluster: u64,
        partitions: u32,
        quorum: Option<usize>,
        founders: u64,
    },
    /// A founder (a node of the first peer list) has shown itself.
    Register {
        replica: ReplicaId,
        member: Member,
    },
    /// A new node, or a known one that comes with an empty sandbox, gets a replica id.
    Admit(Newcomer),
    SetQuorum {
        quorum: usize,
    },
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
            DirectoryCommand::Form { cluster, partitions, quorum, founders } => {
                if self.cluster.is_some() {
                    return Changed::Nothing;
                }
                self.cluster = Some(cluster);
                self.partitions = partitions;
                self.quorum = quorum;
                self.founders = founders;
                self.last_replica = founders;
                Changed::Done
            }
            DirectoryCommand::Register { replica, member } => self.register(replica, member),
            DirectoryCommand::Admit(newcomer) => self.admit(newcomer),
            DirectoryCommand::SetQuorum { quorum } => self.set_quorum(quorum),
        }
    }

    fn register(&mut self, replica: ReplicaId, member: Member) -> Changed {
        match self.members.get(&replica) {
            _ if self.retired.contains(&replica) => {
                Changed::Refused(format!("replica {replica} was replaced"))
            }
            Some(known) if *known == member => Changed::Nothing,
            Some(known) if known.sandbox_id != member.sandbox_id => {
                Changed::Refused(format!("replica {replica} is another sandbox"))
            }
            _ if self.has_name_of_another(&member.node_id, member.sandbox_id) => {
                Changed::Refused(format!(
                    "another node is already called '{}'; give each its own --id",
                    member.node_id
                ))
            }
            _ => {
                self.members.insert(replica, member);
                Changed::Done
            }
        }
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
        self.retired.extend(newcomer.founder.filter(|founder| self.awaits(*founder)));
        self.last_replica += 1;
        let Newcomer { node_id, uri, sandbox_id, .. } = newcomer;
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

    /// The number of nodes, founders that have never shown themselves included.
    pub(crate) fn size(&self) -> usize {
        self.members.len() + self.absent_founders().count()
    }

    fn absent_founders(&self) -> impl Iterator<Item = ReplicaId> {
        let known = |id: &ReplicaId| self.members.contains_key(id) || self.retired.contains(id);
        (1..=self.founders).map(ReplicaId).filter(move |id| !known(id))
    }

    /// Whether a founder of that rank may still come in.
    pub(crate) fn awaits(&self, replica: ReplicaId) -> bool {
        self.absent_founders().any(|id| id == replica)
    }

    /// All founders have shown themselves at some time. Before that nothing is served: one that
    /// took part and lost its disk could not be told from one that never came.
    pub(crate) fn is_complete(&self) -> bool {
        self.cluster.is_some() && self.absent_founders().next().is_none()
    }

    /// All replicas that belong to the cluster, in order.
    pub(crate) fn line(&self) -> Vec<ReplicaId> {
        let mut line: Vec<ReplicaId> =
            self.members.keys().copied().chain(self.absent_founders()).collect();
        line.sort_unstable();
        line
    }

    pub(crate) fn replica_of(&self, sandbox_id: u64) -> Option<ReplicaId> {
        self.members.iter().find(|(_, member)| member.sandbox_id == sandbox_id).map(|(id, _)| *id)
    }

    pub(crate) fn node_id(&self, replica: ReplicaId) -> Option<&str> {
        self.members.get(&replica).map(|member| member.node_id.as_str())
    }

    fn has_name_of_another(&self, node_id: &str, sandbox_id: u64) -> bool {
        self.members.values().any(|m| m.node_id == node_id && m.sandbox_id != sandbox_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer(name: &str, sandbox_id: u64) -> Newcomer {
        let uri = format!("http://{name}");
        Newcomer { node_id: name.into(), uri, sandbox_id, founder: None }
    }

    fn three() -> Directory {
        let mut directory = Directory::default();
        directory.apply(DirectoryCommand::Form {
            cluster: 7,
            partitions: 4,
            quorum: None,
            founders: 3,
        });
        for (replica, name) in [(1, "n1"), (2, "n2"), (3, "n3")] {
            let Newcomer { node_id, uri, sandbox_id, .. } = newcomer(name, replica);
            let member = Member { node_id, uri, sandbox_id };
            directory.apply(DirectoryCommand::Register { replica: ReplicaId(replica), member });
        }
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
    fn a_founder_that_comes_late_with_an_empty_sandbox_gets_a_new_replica_id() {
        let mut directory = Directory::default();
        let form = DirectoryCommand::Form { cluster: 7, partitions: 4, quorum: None, founders: 3 };
        directory.apply(form);
        let late = Newcomer { founder: Some(ReplicaId(3)), ..newcomer("n3", 30) };
        assert_eq!(directory.apply(DirectoryCommand::Admit(late)), Changed::Done);
        assert_eq!(directory.replica_of(30), Some(ReplicaId(4)));
        assert!(!directory.awaits(ReplicaId(3)));
        assert_eq!(directory.size(), 3);
    }

    #[test]
    fn a_second_node_with_a_name_that_is_taken_is_refused() {
        let mut directory = three();
        let member = Member { node_id: "n1".into(), uri: "http://x".into(), sandbox_id: 50 };
        let changed = directory.apply(DirectoryCommand::Register { replica: ReplicaId(9), member });
        assert!(matches!(changed, Changed::Refused(_)));
    }
}
