//! The instances of immortals that are registered: a part of the directory.

use std::collections::BTreeMap;

use immortals::Standing;
use protocol::{GroupId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::directory::Changed;

/// How many instances a cluster may have.
pub(crate) const INSTANCES_MAX: usize = 10_000;

/// How many replicas an instance may have.
pub(crate) const REPLICAS_MAX: usize = 16;

/// What a person sets for an instance. AMBROSIA's names are in `docs/reference-cli.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceOptions {
    pub(crate) checkpoint_bytes: u64,
    pub(crate) recovery_micros: u64,
    pub(crate) program_timeout_micros: u64,
    pub(crate) divergence_alarm: bool,
    /// The version of the first program.
    pub(crate) current_version: u64,
    pub(crate) upgrade_version: Option<u64>,
    /// How often an upgrade was wished for.
    pub(crate) upgrade_wish: u64,
    /// For AMBROSIA's door: the primary takes no checkpoint when it becomes one.
    pub(crate) active_active: bool,
    /// Programs may attach but are told nothing until this is taken back.
    pub(crate) paused: bool,
    /// Inputs are acknowledged when a quorum has them in memory.
    pub(crate) memory: bool,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 64 << 20,
            recovery_micros: 10_000_000,
            program_timeout_micros: 1_000_000,
            divergence_alarm: true,
            current_version: 0,
            upgrade_version: None,
            upgrade_wish: 0,
            active_active: true,
            paused: false,
            memory: false,
        }
    }
}

/// A replica and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceReplica {
    /// The node, by name: a node whose disk was lost keeps its replicas.
    pub(crate) node: String,
    /// AMBROSIA's replica number.
    pub(crate) number: u64,
    pub(crate) receive_port: Option<u16>,
    pub(crate) send_port: Option<u16>,
    /// The version that a program which comes through AMBROSIA's door here can turn the state into.
    pub(crate) upgrade_version: Option<u64>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceEntry {
    pub(crate) group: GroupId,
    /// The first members of the group; all begin with the same.
    pub(crate) founders: Vec<ReplicaId>,
    pub(crate) replicas: Vec<InstanceReplica>,
    pub(crate) options: InstanceOptions,
    /// Counts the changes of this entry.
    pub(crate) version: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) struct Registry {
    pub(crate) instances: BTreeMap<String, InstanceEntry>,
    /// How many groups were ever given to instances. They are never used again.
    given: u32,
    /// The names of the groups: not stored, as the instances tell them.
    #[serde(skip)]
    names: BTreeMap<GroupId, String>,
}

/// What is stored of it.
#[derive(Deserialize)]
struct Stored {
    instances: BTreeMap<String, InstanceEntry>,
    given: u32,
}

impl From<Stored> for Registry {
    fn from(Stored { instances, given }: Stored) -> Self {
        let names = instances.iter().map(|(name, entry)| (entry.group, name.clone())).collect();
        Self { instances, given, names }
    }
}

/// A change of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RegistryCommand {
    Register {
        name: String,
        founders: Vec<ReplicaId>,
        replicas: Vec<InstanceReplica>,
        options: InstanceOptions,
    },
    /// Adds a replica, or changes the ports of one that is there.
    PutReplica {
        name: String,
        replica: InstanceReplica,
    },
    RemoveReplica {
        name: String,
        node: String,
    },
    /// Only if the entry is still at that version.
    SetOptions {
        name: String,
        version: u64,
        options: InstanceOptions,
    },
    Deregister {
        name: String,
    },
}

impl RegistryCommand {
    /// The instance that it is about.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Register { name, .. }
            | Self::PutReplica { name, .. }
            | Self::RemoveReplica { name, .. }
            | Self::SetOptions { name, .. }
            | Self::Deregister { name } => name,
        }
    }
}

impl Registry {
    pub(crate) fn apply(&mut self, command: RegistryCommand) -> Changed {
        match command {
            RegistryCommand::Register { name, founders, replicas, options } => {
                self.register(name, founders, replicas, options)
            }
            RegistryCommand::PutReplica { name, replica } => {
                match self.port_clash(&name, &replica) {
                    Some(why) => Changed::Refused(why),
                    None => self.change(&name, |entry| put_replica(entry, replica)),
                }
            }
            RegistryCommand::RemoveReplica { name, node } => {
                self.change(&name, |entry| remove_replica(&name, entry, &node))
            }
            RegistryCommand::SetOptions { name, version, options } => self.change(&name, |entry| {
                if entry.version != version {
                    return Err("it was changed by somebody else meanwhile: try again".into());
                }
                entry.options = options;
                Ok(())
            }),
            RegistryCommand::Deregister { name } => match self.instances.remove(&name) {
                Some(entry) => {
                    self.names.remove(&entry.group);
                    Changed::Done
                }
                None => Changed::Refused(unknown(&name)),
            },
        }
    }

    fn register(
        &mut self,
        name: String,
        founders: Vec<ReplicaId>,
        replicas: Vec<InstanceReplica>,
        options: InstanceOptions,
    ) -> Changed {
        if let Some(known) = self.instances.get(&name) {
            if known.replicas == replicas && known.options == options {
                return Changed::Nothing;
            }
            return Changed::Refused(format!(
                "an instance '{name}' is registered already, with other replicas or options: 'amrita \
                 immortal set' and 'add-replica', or PATCH /core/immortals/{name}, change them"
            ));
        }
        if self.instances.len() >= INSTANCES_MAX {
            return Changed::Refused(format!("there are {INSTANCES_MAX} instances already"));
        }
        if let Some(why) = replicas.iter().find_map(|replica| self.port_clash(&name, replica)) {
            return Changed::Refused(why);
        }
        let group = GroupId(GroupId::INSTANCES.0 + self.given);
        self.given += 1;
        let entry = InstanceEntry { group, founders, replicas, options, version: 0 };
        self.names.insert(group, name.clone());
        self.instances.insert(name, entry);
        Changed::Done
    }

    fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut InstanceEntry) -> Result<(), String>,
    ) -> Changed {
        let Some(entry) = self.instances.get_mut(name) else {
            return Changed::Refused(unknown(name));
        };
        match change(entry) {
            Ok(()) => {
                entry.version += 1;
                Changed::Done
            }
            Err(why) => Changed::Refused(why),
        }
    }

    /// What has become of a group. Groups are given out in order.
    pub(crate) fn standing(&self, group: GroupId) -> Standing {
        let was_given = group.0 < GroupId::INSTANCES.0 + self.given;
        match self.of_group(group) {
            Some(_) => Standing::Registered,
            None if was_given => Standing::Gone,
            None => Standing::Unknown,
        }
    }

    pub(crate) fn of_group(&self, group: GroupId) -> Option<(&String, &InstanceEntry)> {
        self.instances.get_key_value(self.names.get(&group)?)
    }

    /// Why this replica cannot have its ports: another instance has one on that node.
    fn port_clash(&self, name: &str, replica: &InstanceReplica) -> Option<String> {
        let node = &replica.node;
        let ports = [replica.receive_port, replica.send_port];
        if ports[0].is_some() && ports[0] == ports[1] {
            return Some("receivePort and sendPort are the same: give two".into());
        }
        let others = self.instances.iter().filter(|(other, _)| *other != name);
        let there = others.flat_map(|(other, entry)| {
            let here = entry.replicas.iter().filter(|known| known.node == *node);
            here.map(move |known| (other, known))
        });
        let taken = there.flat_map(|(other, known)| {
            let both = [known.receive_port, known.send_port].into_iter().flatten();
            both.map(move |port| (port, other, known.number))
        });
        let (port, other, number) =
            taken.into_iter().find(|(port, ..)| ports.contains(&Some(*port)))?;
        Some(format!(
            "port {port} on node '{node}' belongs to replica {number} of instance '{other}': give another"
        ))
    }

    /// How many were registered and are not any more.
    pub(crate) fn gone(&self) -> usize {
        usize::try_from(self.given).unwrap_or(usize::MAX) - self.instances.len()
    }
}

fn put_replica(entry: &mut InstanceEntry, replica: InstanceReplica) -> Result<(), String> {
    if let Some(known) = entry.replicas.iter_mut().find(|known| known.node == replica.node) {
        *known = replica;
        return Ok(());
    }
    if entry.replicas.len() >= REPLICAS_MAX {
        return Err(format!("an instance has at most {REPLICAS_MAX} replicas"));
    }
    if let Some(known) = entry.replicas.iter().find(|known| known.number == replica.number) {
        return Err(format!("replica {} is on node '{}' already", known.number, known.node));
    }
    entry.replicas.push(replica);
    entry.replicas.sort_by_key(|replica| replica.number);
    Ok(())
}

fn remove_replica(name: &str, entry: &mut InstanceEntry, node: &str) -> Result<(), String> {
    if entry.replicas.len() == 1 {
        return Err(format!(
            "the last replica goes only with the instance: 'amrita immortal deregister {name} \
             --yes-remove {name}', or DELETE /core/immortals/{name}?confirm={name}, removes both"
        ));
    }
    let before = entry.replicas.len();
    entry.replicas.retain(|replica| replica.node != node);
    if entry.replicas.len() == before {
        return Err(format!("it has no replica on node '{node}'"));
    }
    Ok(())
}

pub(crate) fn unknown(name: &str) -> String {
    format!("there is no instance '{name}': register it with 'amrita immortal register {name}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: &str, number: u64) -> InstanceReplica {
        InstanceReplica {
            node: node.into(),
            number,
            receive_port: None,
            send_port: None,
            upgrade_version: None,
        }
    }

    fn register(name: &str) -> RegistryCommand {
        RegistryCommand::Register {
            name: name.into(),
            founders: vec![ReplicaId(1)],
            replicas: vec![replica("n1", 0)],
            options: InstanceOptions::default(),
        }
    }

    #[test]
    fn a_group_is_never_given_twice() {
        let mut registry = Registry::default();
        assert_eq!(registry.apply(register("a")), Changed::Done);
        assert_eq!(registry.apply(register("a")), Changed::Nothing);
        let first = registry.instances["a"].group;
        assert_eq!(registry.apply(RegistryCommand::Deregister { name: "a".into() }), Changed::Done);
        assert_eq!(registry.apply(register("a")), Changed::Done);
        let second = registry.instances["a"].group;
        assert_ne!(second, first);
        let standings = [first, second, GroupId(second.0 + 1)].map(|g| registry.standing(g));
        assert_eq!(standings, [Standing::Gone, Standing::Registered, Standing::Unknown]);
    }

    #[test]
    fn a_group_is_found_by_its_number_also_in_a_registry_that_was_stored() {
        let mut registry = Registry::default();
        for name in ["a", "b", "c"] {
            registry.apply(register(name));
        }
        registry.apply(RegistryCommand::Deregister { name: "a".into() });
        let stored = postcard::to_stdvec(&registry).unwrap();
        let read: Registry = postcard::from_bytes(&stored).unwrap();
        assert_eq!(read, registry);
        let found: Vec<_> = (0..3)
            .map(|given| read.of_group(GroupId(GroupId::INSTANCES.0 + given)))
            .map(|found| found.map(|(name, entry)| (name.as_str(), entry.group.0)))
            .collect();
        let first = GroupId::INSTANCES.0;
        assert_eq!(found, [None, Some(("b", first + 1)), Some(("c", first + 2))]);
        assert_eq!(read.gone(), 1);
    }

    #[test]
    fn a_port_belongs_to_one_instance_of_a_node() {
        let mut registry = Registry::default();
        let with = |node: &str, receive: u16, send: u16| InstanceReplica {
            receive_port: Some(receive),
            send_port: Some(send),
            ..replica(node, 0)
        };
        registry.apply(RegistryCommand::Register {
            name: "a".into(),
            founders: vec![ReplicaId(1)],
            replicas: vec![with("n1", 2000, 2001)],
            options: InstanceOptions::default(),
        });
        let (name, own) = ("a".to_owned(), with("n1", 2000, 2001));
        let again = RegistryCommand::PutReplica { name, replica: own };
        assert_eq!(registry.apply(again), Changed::Done, "its own");
        let registered = |registry: &mut Registry, name: &str, replica: InstanceReplica| {
            registry.apply(RegistryCommand::Register {
                name: name.into(),
                founders: vec![ReplicaId(1)],
                replicas: vec![replica],
                options: InstanceOptions::default(),
            })
        };
        let refused = |changed: Changed| match changed {
            Changed::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let said = refused(registered(&mut registry, "b", with("n1", 3000, 2000)));
        assert!(said.contains("2000") && said.contains("instance 'a'"), "{said}");
        refused(registered(&mut registry, "b", with("n1", 3000, 3000)));
        assert_eq!(registered(&mut registry, "b", with("n2", 2000, 2001)), Changed::Done);
        assert_eq!(registered(&mut registry, "c", replica("n1", 0)), Changed::Done);
        let replica = InstanceReplica { number: 1, ..with("n1", 2001, 3000) };
        let name = "b".to_owned();
        refused(registry.apply(RegistryCommand::PutReplica { name, replica }));
    }

    #[test]
    fn a_replica_number_belongs_to_one_node() {
        let mut registry = Registry::default();
        registry.apply(register("a"));
        let put = |node: &str, number| RegistryCommand::PutReplica {
            name: "a".into(),
            replica: replica(node, number),
        };
        assert_eq!(registry.apply(put("n2", 1)), Changed::Done);
        assert!(matches!(registry.apply(put("n3", 1)), Changed::Refused(_)));
        let gone =
            |node: &str| RegistryCommand::RemoveReplica { name: "a".into(), node: node.into() };
        assert_eq!(registry.apply(gone("n1")), Changed::Done);
        assert!(matches!(registry.apply(gone("n2")), Changed::Refused(_)), "the last one stays");
    }
}
