//! Who a node is, and what a cluster begins with.

use std::collections::BTreeMap;

use protocol::{GroupId, ReplicaId};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StateStore, StoreError, Witness};

use protocol::hash::hash_parts;

/// Under this space a node keeps what it knows about itself.
const SELF: Space = Space { group: GroupId(u32::MAX), generation: 1 };
const FAMILY_IDENTITY: u8 = 1;
const FAMILY_STAMP: u8 = 2;

/// A node that belongs to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node_id: String,
    pub uri: String,
    pub sandbox_id: u64,
}

/// What a cluster begins with. It is the same on all its nodes, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialConfig {
    /// The cluster's name, made of the founders' sandboxes: founders with other sandboxes would be
    /// another cluster.
    pub cluster: u64,
    pub partitions: u32,
    /// The nodes of the first peer list, each with the sandbox it came with.
    pub founders: BTreeMap<ReplicaId, Member>,
}

impl InitialConfig {
    pub fn new(partitions: u32, founders: BTreeMap<ReplicaId, Member>) -> Self {
        let sandboxes: Vec<[u8; 8]> =
            founders.values().map(|member| member.sandbox_id.to_be_bytes()).collect();
        let cluster = hash_parts(sandboxes.iter().map(<[u8; 8]>::as_slice));
        Self { cluster, partitions, founders }
    }

    pub fn founder(&self, sandbox_id: u64) -> Option<ReplicaId> {
        let mut founders = self.founders.iter();
        founders.find(|(_, member)| member.sandbox_id == sandbox_id).map(|(id, _)| *id)
    }
}

/// Who this sandbox is for good, kept in the state store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub replica: ReplicaId,
    pub initial: InitialConfig,
}

impl Identity {
    /// `None`: the sandbox belongs to no cluster so far.
    ///
    /// # Errors
    /// When the store cannot be read, or holds something else there.
    pub fn read(store: &dyn Reader) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = store.get(&SELF.key(FAMILY_IDENTITY, b""))? else { return Ok(None) };
        postcard::from_bytes(&bytes).map(Some).map_err(|error| {
            StoreError::failed(format!("the node's identity cannot be read: {error}"))
        })
    }

    /// Not durable before the store is persisted.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write(&self, store: &mut dyn StateStore) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let bytes = postcard::to_stdvec(self).expect("an identity is plain data");
        batch.put(SELF.key(FAMILY_IDENTITY, b""), bytes);
        store.write(batch)
    }
}

/// What the state store knows of the log that it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub sandbox_id: u64,
    /// How many frames of the log were durable when this was written.
    pub frames: u64,
}

impl Stamp {
    /// # Errors
    /// When the store cannot be read, or holds something else there.
    pub fn read(store: &dyn Reader) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = store.get(&SELF.key(FAMILY_STAMP, b""))? else { return Ok(None) };
        postcard::from_bytes(&bytes)
            .map(Some)
            .map_err(|error| StoreError::failed(format!("the store's stamp: {error}")))
    }

    /// Durable with the next persist.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write(&self, store: &mut dyn StateStore) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let bytes = postcard::to_stdvec(self).expect("a stamp is plain data");
        batch.put(SELF.key(FAMILY_STAMP, b""), bytes);
        store.write(batch)
    }
}

/// Who a node is as it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub node_id: String,
    /// Where the node can be reached.
    pub uri: String,
    /// Made at random with the sandbox.
    pub sandbox_id: u64,
    /// Which start of the sandbox this is, and what its log had then.
    pub start: Witness,
    /// The last start at which a person said that it has all that the node promised; 0 if none.
    pub trusted_boot: u64,
    /// What the node cannot prove to have any more, if its sandbox was begun anew for that.
    pub forgot: Option<String>,
    /// All nodes of a new cluster, this one included; empty when it begins alone.
    pub peers: Vec<String>,
    /// The partitions that the node would form a cluster with.
    pub partitions: u32,
    /// Any node of the cluster that this one is to join.
    pub join: Option<String>,
    /// The factories of the services that its program has, in order.
    pub services: Vec<String>,
}

impl Profile {
    /// The named peers in an order that is the same on all of them; this node alone when none is
    /// named.
    pub fn founder_uris(&self) -> Vec<String> {
        let mut uris = self.peers.clone();
        uris.sort_unstable();
        uris.dedup();
        uris
    }

    /// A digest of the list of peers, to be equal on all while a cluster forms.
    pub fn peers_digest(&self) -> u64 {
        hash_parts(self.founder_uris().iter().map(|uri| uri.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, sandbox_id: u64) -> Member {
        Member { node_id: name.into(), uri: format!("http://{name}"), sandbox_id }
    }

    #[test]
    fn founders_with_another_sandbox_are_another_cluster() {
        let mut founders: BTreeMap<_, _> =
            (1..=3).map(|id| (ReplicaId(id), member(&format!("n{id}"), id))).collect();
        let initial = InitialConfig::new(4, founders.clone());
        assert_eq!(InitialConfig::new(4, founders.clone()).cluster, initial.cluster);
        founders.insert(ReplicaId(2), member("n2", 22));
        assert_ne!(InitialConfig::new(4, founders).cluster, initial.cluster);
    }

    #[test]
    fn an_identity_comes_back_as_it_was_written() {
        let mut store = storage::MemoryStore::new();
        assert_eq!(Identity::read(&store).unwrap(), None);
        let founders = BTreeMap::from([(ReplicaId(1), member("n1", 7))]);
        let identity = Identity { replica: ReplicaId(1), initial: InitialConfig::new(4, founders) };
        identity.write(&mut store).unwrap();
        assert_eq!(Identity::read(&store).unwrap(), Some(identity));
    }
}
