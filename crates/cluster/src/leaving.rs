//! Members that go, and members that rest: who is being removed for good, who was, who is to own
//! nothing, and whom a person has refused.
//!
//! A removal has two entries in the directory's log. With `Remove` the member counts no more: not
//! for the quorum, and not for what a majority is. The owner of each group then lets it go by a
//! change of the group's members. The member goes on voting until that is done, as the change may
//! need its vote: of two voters, both must agree that one goes. With `Removed` no group has it any
//! more, and nobody hears it from then on.

use protocol::ReplicaId;

use crate::greeting::Candidate;
use crate::topology::{Change, Topology};

/// How many refused sandboxes are remembered. One more, and the one refused first may ask again.
const REFUSED_MAX: usize = 64;

/// How many instances a refusal names.
const NAMED_MAX: usize = 3;

/// Whose place a node that asks to be admitted would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody's: it is a new node.
    New,
    /// It has the name and the address of that member: the same node with an empty sandbox.
    Own(ReplicaId),
    /// It has the name or the address of that member, and not both.
    Another(ReplicaId),
    /// It has the name of one member and the address of another.
    Two,
}

impl Topology {
    /// Whether that member is being removed for good.
    pub fn is_leaving(&self, replica: ReplicaId) -> bool {
        self.core.departures.leaving.contains(&replica)
    }

    pub fn leaving(&self) -> impl Iterator<Item = ReplicaId> {
        self.core.departures.leaving.iter().copied()
    }

    /// Whether that replica was removed for good.
    pub fn is_removed(&self, replica: ReplicaId) -> bool {
        self.core.departures.removed.contains(&replica)
    }

    /// Whether that member shall own nothing.
    pub fn is_drained(&self, replica: ReplicaId) -> bool {
        self.core.departures.drained.contains(&replica)
    }

    pub fn is_refused(&self, sandbox_id: u64) -> bool {
        self.core.departures.refused.contains(&sandbox_id)
    }

    /// Whose place that node would take.
    pub fn place_of(&self, candidate: &Candidate) -> Place {
        let Candidate { node_id, uri, .. } = candidate;
        let members = self.core.members.iter();
        let same: Vec<_> = members.filter(|(_, one)| candidate.is_like(one)).collect();
        match same[..] {
            [] => Place::New,
            [(id, one)] if one.node_id == *node_id && one.uri == *uri => Place::Own(*id),
            [(id, _)] => Place::Another(*id),
            _ => Place::Two,
        }
    }

    /// # Errors
    /// Why that member cannot be removed, and what to do about it.
    pub fn check_removal(&self, replica: ReplicaId) -> Result<(), String> {
        let Some(member) = self.core.members.get(&replica) else {
            return Err("that node does not belong to the cluster any more".into());
        };
        if self.is_leaving(replica) {
            return Ok(());
        }
        let (name, size) = (&member.node_id, self.size());
        if size <= 1 {
            return Err(format!("node '{name}' is the last one: what it has would be gone"));
        }
        // A quorum that is no more than the majority follows it.
        let quorum = self.effective_quorum();
        if quorum > size - 1 && quorum > self.majority() {
            return Err(format!(
                "the membership quorum is {quorum}, and without node '{name}' there would be {} \
                 nodes: no write could be acknowledged. Lower the quorum first: amrita quorum {}",
                size - 1,
                size - 1
            ));
        }
        let there = |entry: &&crate::InstanceEntry| {
            entry.replicas.iter().any(|replica| replica.node == *name)
        };
        let names: Vec<&str> =
            self.instances().filter(there).map(|entry| entry.name.as_str()).collect();
        let Some(first) = names.first() else { return Ok(()) };
        let more = match names.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        Err(format!(
            "node '{name}' has replicas of immortals, which would have fewer without it: {shown}\
             {more}. For each of them, give it one on another node if it needs one (amrita \
             immortal add-replica {first} --node NODE), and take this one away: amrita immortal \
             remove-replica {first} --node {name}"
        ))
    }

    pub(crate) fn refuse(&mut self, sandbox_id: u64) -> Change {
        let refused = &mut self.core.departures.refused;
        if refused.contains(&sandbox_id) {
            return Change::Nothing;
        }
        if refused.len() >= REFUSED_MAX {
            refused.remove(0);
        }
        refused.push(sandbox_id);
        Change::Cluster
    }

    pub(crate) fn remove(&mut self, replica: ReplicaId) -> Change {
        if let Err(why) = self.check_removal(replica) {
            return Change::Refused(why);
        }
        // One that is just the majority follows the size.
        let follows = self.effective_quorum() <= self.majority();
        if !self.core.departures.leaving.insert(replica) {
            return Change::Nothing;
        }
        self.core.quorum = self.core.quorum.filter(|quorum| !follows && *quorum <= self.size());
        Change::Cluster
    }

    pub(crate) fn removed(&mut self, replica: ReplicaId) -> Change {
        let departures = &mut self.core.departures;
        if !departures.leaving.remove(&replica) {
            return Change::Nothing;
        }
        departures.drained.remove(&replica);
        departures.removed.insert(replica);
        self.core.members.remove(&replica);
        self.core.retired.insert(replica);
        Change::Cluster
    }

    pub(crate) fn drain(&mut self, replica: ReplicaId, is_drained: bool) -> Change {
        if !self.core.members.contains_key(&replica) {
            return Change::Refused("that node does not belong to the cluster any more".into());
        }
        let drained = &mut self.core.departures.drained;
        let is_news = if is_drained { drained.insert(replica) } else { drained.remove(&replica) };
        if is_news { Change::Cluster } else { Change::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        DirectoryCommand, InitialConfig, InstanceCommand, InstanceOptions, InstanceReplica, Member,
    };

    fn of(nodes: u64) -> Topology {
        let member = |id: u64| Member {
            node_id: format!("n{id}"),
            uri: format!("http://n{id}"),
            sandbox_id: id,
        };
        let founders: BTreeMap<_, _> = (1..=nodes).map(|id| (ReplicaId(id), member(id))).collect();
        let initial = InitialConfig::new(4, founders);
        let mut topology = Topology::default();
        topology.apply(DirectoryCommand::Form { initial, quorum: None });
        topology
    }

    fn remove(topology: &mut Topology, replica: u64) -> Change {
        topology.apply(DirectoryCommand::Remove { replica: ReplicaId(replica) })
    }

    fn removed(topology: &mut Topology, replica: u64) -> Change {
        topology.apply(DirectoryCommand::Removed { replica: ReplicaId(replica) })
    }

    fn why(change: Change) -> String {
        match change {
            Change::Refused(why) => why,
            other => panic!("it should be refused: {other:?}"),
        }
    }

    #[test]
    fn a_member_that_is_being_removed_counts_no_more_and_is_still_known() {
        let mut topology = of(3);
        assert_eq!(remove(&mut topology, 3), Change::Cluster);
        assert_eq!(remove(&mut topology, 3), Change::Nothing, "it is under way");
        assert_eq!((topology.size(), topology.effective_quorum()), (2, 2));
        assert_eq!(topology.replicas(), [ReplicaId(1), ReplicaId(2)]);
        assert_eq!(topology.replica_of(3), Some(ReplicaId(3)), "it has a vote until it has left");
        assert_eq!(removed(&mut topology, 2), Change::Nothing, "nobody removes it");
        assert_eq!(removed(&mut topology, 3), Change::Cluster);
        assert!(topology.is_removed(ReplicaId(3)) && topology.is_retired(ReplicaId(3)));
        assert_eq!((topology.replica_of(3), topology.members().len()), (None, 2));
        assert_eq!(removed(&mut topology, 3), Change::Nothing);
    }

    #[test]
    fn a_cluster_shrinks_to_one_and_no_further() {
        let mut topology = of(5);
        for (replica, quorum) in [(5, 3), (1, 2), (2, 2), (3, 1)] {
            assert_eq!(remove(&mut topology, replica), Change::Cluster);
            assert_eq!(topology.effective_quorum(), quorum, "without {replica}");
            assert_eq!(removed(&mut topology, replica), Change::Cluster);
        }
        assert!(why(remove(&mut topology, 4)).contains("the last one"));
    }

    #[test]
    fn a_quorum_that_was_set_is_lowered_first_unless_it_is_the_majority() {
        let mut topology = of(3);
        topology.apply(DirectoryCommand::SetQuorum { quorum: 3 });
        assert!(why(remove(&mut topology, 1)).contains("amrita quorum 2"));
        topology.apply(DirectoryCommand::SetQuorum { quorum: 2 });
        assert_eq!(remove(&mut topology, 1), Change::Cluster);
        assert_eq!(topology.effective_quorum(), 2);
        assert_eq!(remove(&mut topology, 2), Change::Cluster, "both at once");
        assert_eq!(topology.effective_quorum(), 1);
    }

    #[test]
    fn a_set_quorum_that_is_just_the_majority_follows_the_size() {
        let mut topology = of(5);
        topology.apply(DirectoryCommand::SetQuorum { quorum: 3 });
        for (replica, quorum) in [(5, 3), (4, 2), (3, 2), (2, 1)] {
            assert_eq!(remove(&mut topology, replica), Change::Cluster);
            assert_eq!(topology.effective_quorum(), quorum, "without {replica}");
            assert_eq!(removed(&mut topology, replica), Change::Cluster);
        }
        let mut topology = of(5);
        topology.apply(DirectoryCommand::SetQuorum { quorum: 4 });
        assert_eq!(remove(&mut topology, 5), Change::Cluster);
        assert_eq!(topology.effective_quorum(), 4, "more than the majority is kept");
    }

    #[test]
    fn replicas_of_immortals_are_moved_first() {
        let mut topology = of(3);
        let replica = |node: &str, number| InstanceReplica {
            node: node.into(),
            number,
            receive_port: None,
            send_port: None,
            upgrade_version: None,
        };
        for name in ["a", "b", "c", "d"] {
            topology.apply(DirectoryCommand::Instance(InstanceCommand::Register {
                name: name.into(),
                founders: vec![ReplicaId(1), ReplicaId(2)],
                replicas: vec![replica("n1", 0), replica("n2", 1)],
                options: InstanceOptions::default(),
            }));
        }
        let said = why(remove(&mut topology, 2));
        assert!(said.contains("a, b, c and 1 more"), "{said}");
        assert!(said.contains("remove-replica a --node n2"), "{said}");
        assert_eq!(remove(&mut topology, 3), Change::Cluster, "it has none");
    }

    #[test]
    fn a_node_that_rests_rests_with_another_disk_too() {
        let mut topology = of(3);
        let drain = |is_drained| DirectoryCommand::Drain { replica: ReplicaId(2), is_drained };
        assert_eq!(topology.apply(drain(true)), Change::Cluster);
        assert_eq!(topology.apply(drain(true)), Change::Nothing);
        assert!(topology.is_drained(ReplicaId(2)) && topology.size() == 3);
        let (node_id, uri) = ("n2".into(), "http://n2".into());
        let candidate = Candidate { node_id, uri, sandbox_id: 22 };
        assert_eq!(topology.place_of(&candidate), Place::Own(ReplicaId(2)));
        topology.apply(DirectoryCommand::Admit(candidate));
        assert!(topology.is_drained(ReplicaId(4)) && !topology.is_drained(ReplicaId(2)));
        let undo = DirectoryCommand::Drain { replica: ReplicaId(4), is_drained: false };
        assert_eq!(topology.apply(undo), Change::Cluster);
        assert!(matches!(topology.apply(drain(false)), Change::Refused(_)), "it is another one");
    }

    #[test]
    fn whose_place_a_node_would_take() {
        let topology = of(3);
        let place = |node: &str, at: &str| {
            let (node_id, uri) = (node.to_owned(), format!("http://{at}"));
            topology.place_of(&Candidate { node_id, uri, sandbox_id: 9 })
        };
        assert_eq!(place("n4", "n4"), Place::New);
        assert_eq!(place("n2", "n2"), Place::Own(ReplicaId(2)));
        assert_eq!(place("n2", "n4"), Place::Another(ReplicaId(2)));
        assert_eq!(place("n4", "n2"), Place::Another(ReplicaId(2)));
        assert_eq!(place("n1", "n2"), Place::Two);
    }

    #[test]
    fn a_member_moves_to_an_address_that_is_free() {
        let mut topology = of(2);
        let moved = |uri: &str| DirectoryCommand::Moved { replica: ReplicaId(2), uri: uri.into() };
        assert_eq!(topology.apply(moved("http://n1")), Change::Nothing);
        assert_eq!(topology.apply(moved("http://n9")), Change::Cluster);
        assert_eq!(topology.members()[&ReplicaId(2)].uri, "http://n9");
    }

    #[test]
    fn some_refusals_are_remembered() {
        let mut topology = of(1);
        for sandbox_id in 0..100 {
            topology.apply(DirectoryCommand::Refuse { sandbox_id });
        }
        assert!(topology.is_refused(99) && !topology.is_refused(35) && topology.is_refused(36));
    }
}
