//! How the table of groups knows its instances, and how a person changes them.

use protocol::{GroupId, ReplicaId};

use crate::instance_entry::{
    InstanceCommand, InstanceEntry, InstanceOptions, InstanceReplica, Standing, put_replica,
    remove_replica, unknown_instance,
};
use crate::topology::{Change, GroupEntry, Topology};

/// How many instances a cluster may have.
pub(crate) const INSTANCES_MAX: usize = 10_000;

impl Topology {
    pub(crate) fn change_instance(&mut self, command: InstanceCommand) -> Change {
        match command {
            InstanceCommand::Register { name, founders, replicas, options } => {
                self.register(name, founders, replicas, options)
            }
            InstanceCommand::PutReplica { name, replica } => {
                match self.misplaced(&name, &replica) {
                    Some(why) => Change::Refused(why),
                    None => self.change(&name, |entry| put_replica(entry, replica)),
                }
            }
            InstanceCommand::RemoveReplica { name, node } => {
                self.change(&name, |entry| remove_replica(&name, entry, &node))
            }
            InstanceCommand::SetOptions { name, version, options } => self.change(&name, |entry| {
                if entry.version != version {
                    return Err("it was changed by somebody else meanwhile: try again".into());
                }
                entry.options = options;
                Ok(())
            }),
            InstanceCommand::Deregister { name } => self.deregister(name),
        }
    }

    fn deregister(&mut self, name: String) -> Change {
        let Some(entry) = self.instance(&name).cloned() else {
            return Change::Refused(unknown_instance(&name));
        };
        self.index.remove(&entry);
        self.groups.remove(&entry.group);
        Change::Group(entry.group, name)
    }

    fn register(
        &mut self,
        name: String,
        founders: Vec<ReplicaId>,
        replicas: Vec<InstanceReplica>,
        options: InstanceOptions,
    ) -> Change {
        if let Some(known) = self.instance(&name) {
            if known.replicas == replicas && known.options == options {
                return Change::Same(name);
            }
            return Change::Refused(format!(
                "an instance '{name}' is registered already, with other replicas or options: \
                 'amrita immortal set' and 'add-replica', or PATCH /core/immortals/{name}, change \
                 them"
            ));
        }
        if self.instance_count() >= INSTANCES_MAX {
            return Change::Refused(format!("there are {INSTANCES_MAX} instances already"));
        }
        if let Some(why) = replicas.iter().find_map(|replica| self.misplaced(&name, replica)) {
            return Change::Refused(why);
        }
        let group = GroupId(GroupId::INSTANCES.0 + self.core.given);
        self.core.given += 1;
        let entry =
            InstanceEntry { name: name.clone(), group, founders, replicas, options, version: 0 };
        self.index.add(&entry);
        self.groups.insert(group, GroupEntry::Instance(entry));
        Change::Group(group, name)
    }

    fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut InstanceEntry) -> Result<(), String>,
    ) -> Change {
        let entry = self.index.names.get(name).and_then(|group| self.groups.get_mut(group));
        let Some(GroupEntry::Instance(entry)) = entry else {
            return Change::Refused(unknown_instance(name));
        };
        let before = entry.clone();
        match change(entry) {
            Ok(()) => {
                entry.version += 1;
                self.index.remove(&before);
                self.index.add(entry);
                Change::Group(entry.group, entry.name.clone())
            }
            Err(why) => Change::Refused(why),
        }
    }

    /// The instance with that name.
    pub fn instance(&self, name: &str) -> Option<&InstanceEntry> {
        self.instance_of(*self.index.names.get(name)?)
    }

    /// The instance that a group is.
    pub fn instance_of(&self, group: GroupId) -> Option<&InstanceEntry> {
        self.groups.get(&group)?.instance()
    }

    /// All instances, in order of their names.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceEntry> {
        self.index.names.values().filter_map(|group| self.instance_of(*group))
    }

    pub fn instance_count(&self) -> usize {
        self.index.names.len()
    }

    /// How many replicas of instances are on a node, by its name.
    pub fn replicas_on(&self, node: &str) -> usize {
        self.index.replicas_on(node)
    }

    /// What has become of an instance's group. Groups are given out in order.
    pub fn standing(&self, group: GroupId) -> Standing {
        let was_given = group.0 < GroupId::INSTANCES.0 + self.core.given;
        match self.groups.get(&group) {
            Some(_) => Standing::Registered,
            None if was_given => Standing::Gone,
            None => Standing::Unknown,
        }
    }

    /// Why there can be no such replica. A node that is being removed may keep those it has.
    fn misplaced(&self, name: &str, replica: &InstanceReplica) -> Option<String> {
        let node = self.replica_of_node(&replica.node);
        if node.is_some_and(|node| self.is_leaving(node)) {
            return Some(format!("node '{}' is being removed: name another one", replica.node));
        }
        self.port_clash(name, replica)
    }

    /// A port on a node belongs to one replica of one instance.
    fn port_clash(&self, name: &str, replica: &InstanceReplica) -> Option<String> {
        let InstanceReplica { node, receive_port, send_port, .. } = replica;
        if receive_port.is_some() && receive_port == send_port {
            return Some("receivePort and sendPort are the same: give two".into());
        }
        let ports = [*receive_port, *send_port].into_iter().flatten();
        let mut taken = ports.filter_map(|port| {
            let other = self.instance_of(self.index.group_at(node, port)?)?;
            (other.name != name).then_some((port, other))
        });
        let (port, other) = taken.next()?;
        let known = other.replicas.iter().find(|known| known.node == *node)?;
        let (number, other) = (known.number, &other.name);
        Some(format!(
            "port {port} on node '{node}' belongs to replica {number} of instance '{other}': give \
             another"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_done(change: &Change) -> bool {
        matches!(change, Change::Group(..))
    }

    fn replica(node: &str, number: u64) -> InstanceReplica {
        InstanceReplica {
            node: node.into(),
            number,
            receive_port: None,
            send_port: None,
            upgrade_version: None,
        }
    }

    fn register(name: &str) -> InstanceCommand {
        InstanceCommand::Register {
            name: name.into(),
            founders: vec![ReplicaId(1)],
            replicas: vec![replica("n1", 0)],
            options: InstanceOptions::default(),
        }
    }

    #[test]
    fn a_group_is_never_given_twice() {
        let mut topology = Topology::default();
        assert!(is_done(&topology.change_instance(register("a"))));
        assert_eq!(topology.change_instance(register("a")), Change::Same("a".into()));
        let first = topology.instance("a").unwrap().group;
        let gone = InstanceCommand::Deregister { name: "a".into() };
        assert!(is_done(&topology.change_instance(gone)));
        assert!(is_done(&topology.change_instance(register("a"))));
        let second = topology.instance("a").unwrap().group;
        assert_ne!(second, first);
        let standings = [first, second, GroupId(second.0 + 1)].map(|g| topology.standing(g));
        assert_eq!(standings, [Standing::Gone, Standing::Registered, Standing::Unknown]);
    }

    #[test]
    fn a_group_is_found_by_its_number_also_in_a_topology_that_was_restored() {
        let mut topology = Topology::default();
        for name in ["a", "b", "c"] {
            topology.change_instance(register(name));
        }
        topology.change_instance(InstanceCommand::Deregister { name: "a".into() });
        let restored = Topology::restore(topology.core.clone(), topology.groups.clone());
        assert_eq!(restored, topology);
        assert_eq!((topology.replicas_on("n1"), topology.replicas_on("n2")), (2, 0));
        let first = GroupId::INSTANCES.0;
        let found: Vec<_> = (0..3)
            .map(|given| restored.instance_of(GroupId(first + given)))
            .map(|found| found.map(|entry| (entry.name.as_str(), entry.group.0)))
            .collect();
        assert_eq!(found, [None, Some(("b", first + 1)), Some(("c", first + 2))]);
    }

    #[test]
    fn a_port_belongs_to_one_instance_of_a_node() {
        let mut topology = Topology::default();
        let with = |node: &str, receive: u16, send: u16| InstanceReplica {
            receive_port: Some(receive),
            send_port: Some(send),
            ..replica(node, 0)
        };
        topology.change_instance(InstanceCommand::Register {
            name: "a".into(),
            founders: vec![ReplicaId(1)],
            replicas: vec![with("n1", 2000, 2001)],
            options: InstanceOptions::default(),
        });
        let (name, own) = ("a".to_owned(), with("n1", 2000, 2001));
        let again = InstanceCommand::PutReplica { name: name.clone(), replica: own };
        assert!(is_done(&topology.change_instance(again)), "its own");
        for (node, ports) in [("n1", (2002, 2003)), ("n3", (1, 2)), ("n1", (2000, 2001))] {
            let number = u64::from(node == "n3");
            let replica = InstanceReplica { number, ..with(node, ports.0, ports.1) };
            let moved = InstanceCommand::PutReplica { name: name.clone(), replica };
            assert!(is_done(&topology.change_instance(moved)), "{node}");
            let restored = Topology::restore(topology.core.clone(), topology.groups.clone());
            assert_eq!(restored, topology, "what is derived follows");
        }
        let gone = InstanceCommand::RemoveReplica { name, node: "n3".into() };
        assert!(is_done(&topology.change_instance(gone)));
        assert_eq!((topology.replicas_on("n1"), topology.replicas_on("n3")), (1, 0));
        let registered = |topology: &mut Topology, name: &str, replica: InstanceReplica| {
            topology.change_instance(InstanceCommand::Register {
                name: name.into(),
                founders: vec![ReplicaId(1)],
                replicas: vec![replica],
                options: InstanceOptions::default(),
            })
        };
        let refused = |changed: Change| match changed {
            Change::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let said = refused(registered(&mut topology, "b", with("n1", 3000, 2000)));
        assert!(said.contains("2000") && said.contains("instance 'a'"), "{said}");
        refused(registered(&mut topology, "b", with("n1", 3000, 3000)));
        assert!(is_done(&registered(&mut topology, "b", with("n2", 2000, 2001))));
        assert!(is_done(&registered(&mut topology, "c", replica("n1", 0))));
        let replica = InstanceReplica { number: 1, ..with("n1", 2001, 3000) };
        let name = "b".to_owned();
        refused(topology.change_instance(InstanceCommand::PutReplica { name, replica }));
    }

    #[test]
    fn a_replica_number_belongs_to_one_node() {
        let mut topology = Topology::default();
        topology.change_instance(register("a"));
        let put = |node: &str, number| InstanceCommand::PutReplica {
            name: "a".into(),
            replica: replica(node, number),
        };
        assert!(is_done(&topology.change_instance(put("n2", 1))));
        assert!(matches!(topology.change_instance(put("n3", 1)), Change::Refused(_)));
        let gone =
            |node: &str| InstanceCommand::RemoveReplica { name: "a".into(), node: node.into() };
        assert!(is_done(&topology.change_instance(gone("n1"))));
        assert!(
            matches!(topology.change_instance(gone("n2")), Change::Refused(_)),
            "the last one stays"
        );
    }
}
