//! The beginning and the end of a node: whose sandbox this is, the groups it takes part in, and
//! the stop in good order.

use std::sync::Arc;

use protocol::{GroupId, ReplicaId};
use replication::{Durability, Group, GroupOptions, Members, Restored};
use serde::{Deserialize, Serialize};
use storage::{Batch, Space, StateStore, StoreError};

use crate::directory::Charter;
use crate::io::{Level, NodeConfig};
use crate::node::{Node, Stage};
use crate::replica::{self, Machine, Replica};

/// How long a planned stop may take before the node goes all the same, in microseconds.
const STOP_MICROS_MAX: u64 = 3_000_000;

/// Under this space the node keeps what it knows about itself.
const SELF: Space = Space { group: GroupId(u32::MAX), generation: 1 };
const FAMILY_IDENTITY: u8 = 1;

/// Who this sandbox is, kept in the state store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) replica: ReplicaId,
    pub(crate) charter: Charter,
}

impl Node {
    /// A sandbox that knows who it is goes on as that; a new one alone is a cluster at once.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        if let Some(identity) = self.identity.clone() {
            // It can be read, but a process that was killed may have left it in the page cache only.
            // Were it lost later, with the entries that are logged from here on still there, nobody
            // could tell whose they are.
            self.store.persist().map_err(|error| error.to_string())?;
            self.me = Some(identity.replica);
            self.stage = Stage::Serving;
            self.start_groups(&identity)?;
        } else if !self.recovered.is_empty() {
            return Err(
                "the sandbox has a log but its state store does not know the node: it was \
                        damaged. Put it aside and start with an empty --sandbox; the other nodes \
                        bring it up to date"
                    .into(),
            );
        } else if self.config.peers.len() <= 1 && self.config.join.is_none() {
            self.try_to_form();
        }
        self.dial_all();
        Ok(())
    }

    /// The sandbox gets its replica id, for good. Nothing is done in its name before that is on the
    /// disk.
    pub(crate) fn become_replica(&mut self, replica: ReplicaId, charter: Charter) {
        let identity = Identity { replica, charter };
        let mut batch = Batch::default();
        let bytes = postcard::to_stdvec(&identity).expect("an identity encodes");
        batch.put(SELF.key(FAMILY_IDENTITY, b""), bytes);
        if let Err(error) = self.store.write(batch) {
            return self.halt(error.to_string());
        }
        self.identity = Some(identity);
        self.stage = Stage::Settling { mark: self.disk.next_mark };
        self.disk.want_persist = true;
    }

    pub(crate) fn settled(&mut self) {
        let identity = self.identity.clone().expect("it was set before it was made durable");
        self.me = Some(identity.replica);
        self.stage = Stage::Serving;
        match self.start_groups(&identity) {
            Ok(()) => {
                self.greet_all();
                self.identify_all();
            }
            Err(why) => self.halt(why),
        }
    }

    fn start_groups(&mut self, identity: &Identity) -> Result<(), String> {
        let Charter { partitions, founders, .. } = &identity.charter;
        // Who was admitted learns from a snapshot who votes.
        let founded = founders.contains_key(&identity.replica);
        let first =
            if founded { Members::of_voters(founders.keys().copied()) } else { Members::default() };
        for group in (0..=*partitions).map(GroupId) {
            let replica = self
                .start_group(identity.replica, group, &first)
                .map_err(|why| format!("{}: {why}", crate::office::name_of(group)))?;
            self.replicas.insert(group, replica);
        }
        self.read_map();
        self.mind_registry()?;
        self.say_if_flag_differs();
        self.set_ranks();
        self.dial_all();
        self.mind_elections();
        Ok(())
    }

    pub(crate) fn start_group(
        &mut self,
        me: ReplicaId,
        group: GroupId,
        first: &Members,
    ) -> Result<Replica, String> {
        let text = |error: StoreError| error.to_string();
        let (space, applied) = Space::open(&*self.store, group).map_err(text)?;
        let known = replica::decode_members(&applied.members).map_err(text)?;
        let members = if applied.members.is_empty() { first.clone() } else { known };
        let log = self.recovered.remove(&group).unwrap_or_default();
        let mut options = GroupOptions::new(group, me);
        options.heartbeat_ticks = self.config.timing.heartbeat_ticks;
        options.election_ticks = self.config.timing.election_ticks;
        let restored = Restored::new(log, applied.position, applied.term, members.clone());
        let named = self.map.registry.of_group(group);
        if named.is_some_and(|(_, entry)| entry.options.memory) {
            options.durability = Durability::Memory;
        }
        let log = Arc::clone(&self.log);
        let consensus = Group::new(options, restored, log).map_err(|error| error.to_string())?;
        let machine = if group.is_instance() {
            self.open_resident(me, group, &space, &members).map_err(text)?
        } else {
            replica::open_machine(group, &space, &*self.store).map_err(text)?
        };
        let with = (machine, self.config.upkeep.chunk_bytes);
        let mut replica = Replica::new(group, consensus, space, &applied, members, with);
        if let Machine::Instance(resident) = &mut replica.machine {
            resident.stand(&mut replica.group);
        }
        Ok(replica)
    }

    /// Takes the directory from its replica.
    pub(crate) fn read_map(&mut self) {
        if let Some(Replica { machine: Machine::Directory(directory), .. }) =
            self.replicas.get(&GroupId::DIRECTORY)
        {
            self.map.clone_from(directory);
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.stage, Stage::Stopping { .. } | Stage::Ended)
    }

    pub(crate) fn stop(&mut self) {
        if self.is_stopping() {
            return;
        }
        self.note(Level::Info, "stopping: handing over what is owned here".into());
        self.stage = Stage::Stopping { since: self.now.steady_micros, mark: None };
        self.go_on_stopping();
    }

    pub(crate) fn go_on_stopping(&mut self) {
        let Stage::Stopping { since, mark } = self.stage else { return };
        if mark.is_some() {
            return;
        }
        let handed_over = self.hand_over_all();
        let waited = self.now.steady_micros.saturating_sub(since);
        if (handed_over && self.edge.errands.is_empty()) || waited > STOP_MICROS_MAX {
            self.stage = Stage::Stopping { since, mark: Some(self.disk.next_mark) };
            self.disk.want_persist = true;
        }
    }
}

pub(crate) fn check_config(config: &NodeConfig) -> Result<(), String> {
    if config.partitions == 0 || config.partitions > protocol::links::SLOTS {
        return Err(format!(
            "--partitions must be from 1 to {}, not {}",
            protocol::links::SLOTS,
            config.partitions
        ));
    }
    if !config.peers.is_empty() && !config.peers.contains(&config.public_uri) {
        return Err(format!(
            "--peer-nodes must name all nodes, this one included: {} is not among {}. Add it, or set \
             --public-uri to the address the others use",
            config.public_uri,
            config.peers.join(", ")
        ));
    }
    let (count, quorum) = (config.peers.len().max(1), config.membership_quorum);
    match quorum {
        // It counts when a cluster forms; who joins one takes what is in force there.
        Some(_) if config.join.is_some() => Ok(()),
        Some(quorum) if quorum < count / 2 + 1 || quorum > count => Err(format!(
            "--membership-quorum {quorum} is not possible with {count} nodes: from {} (the majority) \
             to {count}",
            count / 2 + 1
        )),
        _ => Ok(()),
    }
}

pub(crate) fn read_identity(store: &dyn StateStore) -> Result<Option<Identity>, StoreError> {
    let Some(bytes) = store.get(&SELF.key(FAMILY_IDENTITY, b""))? else { return Ok(None) };
    postcard::from_bytes(&bytes)
        .map(Some)
        .map_err(|error| StoreError(format!("the node's identity cannot be read: {error}")))
}
