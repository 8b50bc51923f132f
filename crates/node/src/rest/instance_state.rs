//! An instance as a document: where its replicas are, how far each has come, what it waits for.

use access::Thing;
use cluster::{InstanceEntry, InstanceReplica};
use immortals::{Diverged, ReplicaStatus};
use protocol::instance_write::partition_of_stream;
use protocol::{GroupId, Method, Principal, Problem, ReplicaId, Response};
use serde_json::{Value, json};

use crate::view::View;

/// The factory of instances.
pub(crate) const LINK: &str = "/core/immortals";

pub(super) const KIND: &str = "amrita:ImmortalState";

/// The answer to a change of an instance: how the instance is now.
pub(crate) fn changed(name: &str, view: &View<'_>) -> Response {
    let gone = || json!({ "name": name, "documentSelfLink": format!("{LINK}/{name}") });
    let present = view.topology().instance(name);
    Response::json(200, &present.map_or_else(gone, |entry| state(entry, view)))
}

/// What its owner says of an instance.
pub(crate) fn status(group: GroupId, view: &View<'_>) -> Response {
    match view.topology().instance_of(group) {
        Some(entry) => Response::json(200, &state(entry, view)),
        None => Problem::not_found("it is not registered any more").into(),
    }
}

/// What the directory alone says of an instance whose owner has not told how it is.
pub(crate) fn known_without_owner(group: GroupId, view: &View<'_>) -> Option<Response> {
    let entry = view.topology().instance_of(group)?;
    Some(Response::json(200, &state(entry, view)))
}

/// Why an instance has no owner, and what would give it one.
pub(crate) fn why_no_owner(group: GroupId, view: &View<'_>) -> String {
    let (text, remedy) = no_owner(group, view);
    format!("{text}. {remedy}")
}

/// The same in two parts.
pub(super) fn no_owner(group: GroupId, view: &View<'_>) -> (String, String) {
    let replicas = view.replicas_of(group);
    let (all, majority) = (replicas.len(), replicas.len() / 2 + 1);
    let away: Vec<&str> =
        replicas.iter().filter(|id| !view.is_up(**id)).filter_map(|id| view.node_id(*id)).collect();
    let name = view.name_of(group);
    let up = all - away.len();
    let start = if up >= majority {
        "It should have one in a moment: try again".to_owned()
    } else {
        let some = if majority - up < away.len() {
            format!("{} of the nodes", majority - up)
        } else {
            format!("the node{}", if away.len() == 1 { "" } else { "s" })
        };
        format!("Start {some} {}, then try again", away.join(", "))
    };
    let text = format!(
        "{name} has no owner: {up} of its {all} replicas are on nodes that are up as seen from \
         here, and a majority ({majority}) is needed"
    );
    (text, start)
}

/// An instance as a document.
/// Whether somebody may see that there is this instance.
pub(super) fn is_shown(entry: &InstanceEntry, who: &Principal, view: &View<'_>) -> bool {
    let path = format!("{LINK}/{}", entry.name);
    view.shard.handlers.guard.check(who, Method::Get, &Thing::Path(&path)).is_ok()
}

pub(super) fn state(entry: &InstanceEntry, view: &View<'_>) -> Value {
    let (name, options) = (&entry.name, &entry.options);
    let owner = view.owner_as_seen(entry.group);
    let replicas: Vec<Value> =
        entry.replicas.iter().map(|replica| replica_state(entry, replica, owner, view)).collect();
    let mut state = json!({
        "name": name,
        "owner": owner.and_then(|id| view.node_id(id)),
        "replicas": replicas,
        "group": entry.group.0,
        "logTriggerBytes": options.checkpoint_bytes,
        "recoveryTargetMillis": options.recovery_micros / 1_000,
        "programTimeoutMillis": options.program_timeout_micros / 1_000,
        "divergenceAlarm": options.divergence_alarm,
        "currentVersion": options.current_version,
        "upgradeVersion": options.upgrade_version,
        "activeActive": options.active_active,
        "paused": options.paused,
        "durability": if options.memory { "memory" } else { "disk" },
        "documentSelfLink": format!("{LINK}/{name}"),
        "documentKind": KIND,
        "documentVersion": entry.version,
    });
    if owner.is_none() {
        state["missing"] = json!(why_no_owner(entry.group, view));
    }
    if let Some(instance) = view.instance(entry.group) {
        state["inputs"] = json!(instance.inputs());
        state["upgradeGivenUp"] = json!(instance.has_given_up_the_upgrade());
        state["waitsFor"] = json!(instance.waits_for());
        let outputs = instance.destinations();
        let outputs = outputs.iter().map(|outgo| {
            let partition = partition_of_stream(&outgo.to).map(|it| view.name_of(it));
            json!({
                "to": partition.as_ref().unwrap_or(&outgo.to),
                "said": outgo.sent,
                "confirmed": outgo.confirmed,
                "keptBytes": outgo.kept_bytes,
                "onDiskBytes": outgo.on_disk_bytes,
                "registered": view.topology().instance(&outgo.to).is_some()
                    || partition.is_some(),
            })
        });
        state["outputs"] = outputs.collect();
        let senders = instance.senders().filter_map(|(group, last)| {
            let instance = view.topology().instance_of(group).map(|entry| entry.name.clone());
            let from = instance.or_else(|| group.is_partition().then(|| view.name_of(group)))?;
            Some(json!({ "from": from, "received": last }))
        });
        state["senders"] = senders.collect();
        if let Some(lead) = view.lead(entry.group) {
            state["repeatsDropped"] = json!(lead.repeats());
        }
    }
    state
}

fn replica_state(
    entry: &InstanceEntry,
    replica: &InstanceReplica,
    owner: Option<ReplicaId>,
    view: &View<'_>,
) -> Value {
    let id = view.topology().replica_of_node(&replica.node);
    let instance = view.instance(entry.group);
    let status = match (id, instance) {
        (Some(id), Some(instance)) if id == view.me() => Some(instance.status()),
        (Some(id), Some(instance)) => {
            instance.others().find(|(other, _)| *other == id).map(|(_, s)| s.clone())
        }
        _ => None,
    };
    let is_owner = owner.is_some() && owner == id;
    let mut state = json!({
        "node": replica.node,
        "replicaNumber": replica.number,
        "receivePort": replica.receive_port,
        "sendPort": replica.send_port,
        "up": id.is_some_and(|id| view.is_up(id)),
        "role": role(is_owner, status.as_ref()),
    });
    if let Some(version) = replica.upgrade_version {
        state["upgradeVersion"] = json!(version);
    }
    if let Some(status) = status {
        describe(&mut state, &status, instance.map_or(0, immortals::Instance::inputs));
    }
    state
}

fn role(is_owner: bool, status: Option<&ReplicaStatus>) -> &'static str {
    match status {
        Some(status) if status.diverged.as_ref().is_some_and(Diverged::is_fenced) => "DIVERGED",
        Some(status) if status.held.is_some() => "HELD",
        Some(status) if !status.attached => "WAITING",
        Some(status) if is_owner && status.caught_up => "PRIMARY",
        Some(status) if status.caught_up => "STANDBY",
        Some(_) => "RECOVERING",
        None => "UNKNOWN",
    }
}

fn describe(state: &mut Value, status: &ReplicaStatus, inputs: u64) {
    state["attached"] = json!(status.attached);
    state["done"] = json!(status.done);
    state["lag"] = json!(inputs.max(status.inputs).saturating_sub(status.done));
    state["programVersion"] = json!(status.program_version);
    state["checkpoint"] = json!({ "input": status.base_input, "bytes": status.sizes.checkpoint });
    state["logBytes"] = json!(status.sizes.log);
    if let Some(held) = &status.held {
        state["held"] = json!({ "input": held.input, "tries": held.tries, "text": held.text,
                                "message": held.message });
    }
    if let Some(let_go) = &status.let_go {
        state["letGo"] = json!({ "code": let_go.code, "text": let_go.text, "input": let_go.input });
    }
    if let Some(diverged) = &status.diverged {
        state["diverged"] = json!({ "input": diverged.input, "after": diverged.after,
                                    "expected": diverged.expected, "found": diverged.found,
                                    "isLastCopy": diverged.is_last_copy });
    }
}
