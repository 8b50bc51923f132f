//! The entry of an instance of an immortal in the table of groups.

use protocol::{GroupId, ReplicaId};
use serde::{Deserialize, Serialize};

/// How many replicas an instance may have.
pub const REPLICAS_MAX: usize = 16;

/// What a person sets for an instance. AMBROSIA's names are in `docs/reference-cli.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceOptions {
    pub checkpoint_bytes: u64,
    pub recovery_micros: u64,
    pub program_timeout_micros: u64,
    pub divergence_alarm: bool,
    /// The version of the first program.
    pub current_version: u64,
    pub upgrade_version: Option<u64>,
    /// How often an upgrade was wished for.
    pub upgrade_wish: u64,
    /// For AMBROSIA's door: the primary takes no checkpoint when it becomes one.
    pub active_active: bool,
    /// Programs may attach but are told nothing until this is taken back.
    pub paused: bool,
    /// Inputs are acknowledged when a quorum has them in memory.
    pub memory: bool,
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
pub struct InstanceReplica {
    /// The node, by name: a node whose disk was lost keeps its replicas.
    pub node: String,
    /// AMBROSIA's replica number.
    pub number: u64,
    pub receive_port: Option<u16>,
    pub send_port: Option<u16>,
    /// The version that a program which comes through AMBROSIA's door here can turn the state into.
    pub upgrade_version: Option<u64>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEntry {
    pub name: String,
    pub group: GroupId,
    /// The first members of the group; all begin with the same.
    pub founders: Vec<ReplicaId>,
    pub replicas: Vec<InstanceReplica>,
    pub options: InstanceOptions,
    /// Counts the changes of this entry.
    pub version: u64,
}

/// What has become of an instance's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Registered,
    /// It was registered and is not any more. It never comes back.
    Gone,
    /// It was not heard of so far.
    Unknown,
}

/// A change of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceCommand {
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

impl InstanceCommand {
    /// The instance that the command is about.
    pub fn name(&self) -> &str {
        match self {
            Self::Register { name, .. }
            | Self::PutReplica { name, .. }
            | Self::RemoveReplica { name, .. }
            | Self::SetOptions { name, .. }
            | Self::Deregister { name } => name,
        }
    }
}

pub(crate) fn put_replica(
    entry: &mut InstanceEntry,
    replica: InstanceReplica,
) -> Result<(), String> {
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

pub(crate) fn remove_replica(
    name: &str,
    entry: &mut InstanceEntry,
    node: &str,
) -> Result<(), String> {
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

pub fn unknown_instance(name: &str) -> String {
    format!("there is no instance '{name}': register it with 'amrita immortal register {name}'")
}
