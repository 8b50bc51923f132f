//! What is found among all instances without a look at each: derived from their entries, so that a
//! registration costs the same whether there are ten instances or ten thousand.

use std::collections::BTreeMap;

use protocol::GroupId;

use crate::instance_entry::InstanceEntry;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceIndex {
    /// The group of each instance, by name.
    pub(crate) names: BTreeMap<String, GroupId>,
    /// How many replicas of instances a node has, by its name. A node without any is not here.
    replicas: BTreeMap<String, usize>,
    /// The instance whose replica on a node has a port there.
    ports: BTreeMap<(String, u16), GroupId>,
}

impl InstanceIndex {
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a InstanceEntry>) -> Self {
        let mut index = Self::default();
        entries.for_each(|entry| index.add(entry));
        index
    }

    pub(crate) fn add(&mut self, entry: &InstanceEntry) {
        self.names.insert(entry.name.clone(), entry.group);
        for replica in &entry.replicas {
            *self.replicas.entry(replica.node.clone()).or_default() += 1;
            for port in [replica.receive_port, replica.send_port].into_iter().flatten() {
                self.ports.insert((replica.node.clone(), port), entry.group);
            }
        }
    }

    /// The entry is as it was when it was added.
    pub(crate) fn remove(&mut self, entry: &InstanceEntry) {
        self.names.remove(&entry.name);
        for replica in &entry.replicas {
            if let Some(count) = self.replicas.get_mut(&replica.node) {
                *count -= 1;
                if *count == 0 {
                    self.replicas.remove(&replica.node);
                }
            }
            for port in [replica.receive_port, replica.send_port].into_iter().flatten() {
                self.ports.remove(&(replica.node.clone(), port));
            }
        }
    }

    pub(crate) fn replicas_on(&self, node: &str) -> usize {
        self.replicas.get(node).copied().unwrap_or_default()
    }

    pub(crate) fn group_at(&self, node: &str, port: u16) -> Option<GroupId> {
        self.ports.get(&(node.to_owned(), port)).copied()
    }
}
