//! How the groups of a node begin and end: those of documents with the cluster, those of instances
//! as the directory says.

use std::sync::Arc;

use cluster::{DirectoryMachine, Identity, InitialConfig, Standing, Topology};
use documents::Partition;
use group::{Replica, Restart, Tuning, decode_members};
use immortals::Input;
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::{Durability, Group, GroupOptions, Members, Restored};
use services::{Handlers, Limits, PartitionMachine};
use storage::{Applied, Batch, LogRecord, Space, StateStore, StoreError};

use crate::hosted::{AnyReplica, name_of};
use crate::instance::{InstanceMachine, settings};
use crate::io::{Level, NodeConfig};
use crate::log_batch::{LogBatch, Logs};
use crate::shard::{Conditions, Shard};
use crate::work::Effects;

/// What every replica of a group is begun with.
struct Beginning {
    consensus: Group,
    space: Space,
    applied: Applied,
    members: Members,
}

fn text(error: StoreError) -> String {
    error.to_string()
}

fn begin(
    me: ReplicaId,
    group: GroupId,
    first: &Members,
    store: &dyn StateStore,
    logs: &mut Logs,
    (config, durability): (&NodeConfig, Durability),
) -> Result<Beginning, String> {
    let (space, applied) = Space::open(store, group).map_err(text)?;
    let known = decode_members(&applied.members).map_err(text)?;
    let members = if applied.members.is_empty() { first.clone() } else { known };
    let log = logs.recovered.remove(&group).unwrap_or_default();
    let mut options = GroupOptions::new(group, me);
    options.heartbeat_ticks = config.timing.heartbeat_ticks;
    options.election_ticks = config.timing.election_ticks;
    options.rest_ticks = config.timing.rest_ticks;
    options.durability = durability;
    let restored = Restored::new(log, applied.position, applied.term, members.clone());
    let reader = Arc::clone(&logs.reader);
    let consensus = Group::new(options, restored, reader).map_err(|error| error.to_string())?;
    Ok(Beginning { consensus, space, applied, members })
}

impl Beginning {
    fn with<M>(self, machine: M, config: &NodeConfig) -> Restart<M> {
        let Self { consensus, space, applied, members } = self;
        let tuning = Tuning { chunk_bytes: config.upkeep.chunk_bytes };
        Restart { consensus, machine, space, applied, members, tuning }
    }
}

/// The groups of documents, as a member of the cluster begins with them.
///
/// # Errors
/// Why it cannot begin, for people.
pub(crate) fn begin_all(
    identity: &Identity,
    store: Box<dyn StateStore>,
    handlers: Handlers,
    mut logs: Logs,
    log: LogBatch,
    config: &NodeConfig,
) -> Result<Shard, String> {
    let Identity { replica: me, initial: InitialConfig { partitions, founders, .. } } = identity;
    // A node that was admitted learns from a snapshot which replicas vote.
    let is_founder = founders.contains_key(me);
    let first =
        if is_founder { Members::of_voters(founders.keys().copied()) } else { Members::default() };
    let named = |group: GroupId, why: String| format!("{}: {why}", name_of(group));
    let mut begin_one = |group| {
        let with = (config, Durability::Disk);
        begin(*me, group, &first, &*store, &mut logs, with).map_err(|why| named(group, why))
    };
    let directory = begin_one(GroupId::DIRECTORY)?;
    let mut of_partitions = Vec::new();
    for group in (1..=*partitions).map(GroupId) {
        of_partitions.push((group, begin_one(group)?));
    }
    let machine = DirectoryMachine::open(&*store, &directory.space).map_err(text)?;
    let directory = Replica::new(GroupId::DIRECTORY, directory.with(machine, config));
    let mut replicas = Vec::new();
    let each = usize::try_from(*partitions)
        .map_or(0, |count| config.upkeep.changes_bytes.checked_div(count).unwrap_or_default());
    for (group, beginning) in of_partitions {
        let partition = Partition::open(&*store, beginning.space).map_err(text)?;
        let machine = PartitionMachine::new(
            partition,
            group,
            Limits { changes_bytes: each, ..Limits::default() },
        );
        replicas.push(Replica::new(group, beginning.with(machine, config)));
    }
    let mut shard = Shard::new(store, handlers, directory, logs, log);
    for replica in replicas {
        shard.add_partition(replica);
    }
    Ok(shard)
}

/// Begins the groups of instances that the directory gives to this node, and ends those that are
/// gone.
///
/// # Errors
/// Why one of them cannot begin, for people.
pub(crate) fn follow_directory(
    shard: &mut Shard,
    conditions: &Conditions<'_>,
    config: &NodeConfig,
    effects: &mut Effects,
) -> Result<(), String> {
    let topology = &conditions.map.topology;
    let is_gone = |group: &GroupId| topology.standing(*group) == Standing::Gone;
    let here: Vec<GroupId> = shard.instances.keys().copied().collect();
    for group in here.into_iter().filter(is_gone) {
        end(group, shard, conditions, effects).map_err(text)?;
    }
    forget_remains(topology, shard).map_err(text)?;
    let groups: Vec<GroupId> = topology.instances().map(|entry| entry.group).collect();
    for group in groups {
        follow_entry(group, shard, conditions, config, effects)?;
    }
    Ok(())
}

/// Does the same for one instance that was registered, changed or deregistered.
///
/// # Errors
/// Why it cannot begin, for people.
pub(crate) fn follow_entry(
    group: GroupId,
    shard: &mut Shard,
    conditions: &Conditions<'_>,
    config: &NodeConfig,
    effects: &mut Effects,
) -> Result<(), String> {
    let (me, topology) = (conditions.me, &conditions.map.topology);
    let Some(entry) = topology.instance_of(group) else {
        end(group, shard, conditions, effects).map_err(text)?;
        return forget_remains(topology, shard).map_err(text);
    };
    let wanted = settings(topology, entry);
    if let Some(instance) = shard.instance(group) {
        if *instance.settings() != wanted {
            effects.instance(group, Input::Settings(wanted));
        }
        return Ok(());
    }
    let is_here = entry.replicas.iter().any(|replica| replica.node == config.node_id);
    // A replica that was removed goes on until the group has let it go.
    if !is_here && !shard.logs.recovered.contains_key(&group) {
        return Ok(());
    }
    let founders = if entry.founders.contains(&me) { entry.founders.clone() } else { Vec::new() };
    let first = Members { voters: founders, ..Members::default() };
    let named = |why: String| format!("instance '{}': {why}", entry.name);
    let durability = if wanted.memory { Durability::Memory } else { Durability::Disk };
    let with = (config, durability);
    let beginning =
        begin(me, group, &first, &*shard.store, &mut shard.logs, with).map_err(named)?;
    let options = immortals::Options {
        name: entry.name.clone(),
        group,
        me,
        node: config.node_id.clone(),
        settings: wanted,
        limits: config.kept,
    };
    let opened = InstanceMachine::open(options, &*shard.store, &beginning.space);
    let machine = opened.map_err(|error| named(text(error)))?;
    shard.add_instance(Replica::new(group, beginning.with(machine, config)));
    Ok(())
}

/// Removes what an instance had that is not registered any more. The router tells those who wait
/// for its owner, and `programs` tells its programs.
fn end(
    group: GroupId,
    shard: &mut Shard,
    conditions: &Conditions<'_>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    shard.resign_instance(group, conditions, effects)?;
    let Some(replica) = shard.remove_instance(group) else { return Ok(()) };
    let text = format!("instance {group} is not registered any more: removed");
    effects.note(Level::Info, text);
    let (term, position) = AnyReplica::reach(&replica);
    forget(group, position, term, shard)
}

/// Nothing of a group stays here: its state goes, and its log when that is durable.
fn forget(
    group: GroupId,
    position: Position,
    term: Term,
    shard: &mut Shard,
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    Space::remove(group, &*shard.store, &mut batch)?;
    shard.store.write(batch)?;
    shard.log.end_group(LogRecord::Base { group, position, term });
    Ok(())
}

/// Removes what was left of instances that were deregistered while this node was away, or just
/// before it ended.
fn forget_remains(topology: &Topology, shard: &mut Shard) -> Result<(), StoreError> {
    let remains = shard.logs.recovered.range(GroupId::INSTANCES..);
    let is_gone = |group: &GroupId| topology.standing(*group) == Standing::Gone;
    let gone: Vec<GroupId> = remains.map(|(group, _)| *group).filter(is_gone).collect();
    for group in gone {
        let log = shard.logs.recovered.remove(&group).expect("it was listed");
        forget(group, log.last, log.last_term(), shard)?;
    }
    Ok(())
}
