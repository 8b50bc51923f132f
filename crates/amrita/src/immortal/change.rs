//! `register`, `add-replica`, `remove-replica`, `set` and `deregister`.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use client::{Client, Response};
use serde_json::{Map, Value, json};

use super::options::{
    AddReplicaOptions, DeregisterOptions, RegisterOptions, RemoveReplicaOptions, SetOptions, Tuning,
};
use super::{LINK, instance, link, replicas, text};
use crate::admin::address_of;
use crate::arguments::Cluster;
use crate::outcome::Outcome;
use crate::outcome::{Trouble, unreachable};
use crate::screen::{self, say};
use crate::verbs::client;

/// How long the node that is asked may be behind with what was changed.
const SEEN_MAX: Duration = Duration::from_secs(5);

/// How long a node may take until it has opened the ports of a replica.
const PORTS_MAX: Duration = Duration::from_secs(5);

/// Between two looks at whether it is there.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) async fn register(cluster: &Cluster, options: &RegisterOptions) -> Outcome {
    let name = options.named.new_name().map_err(Trouble::usage)?;
    let mut body = json!({ "name": name });
    let fields = body.as_object_mut().expect("it is one");
    if let Some(wanted) = &options.replicas {
        fields.insert("replicas".into(), replicas_wanted(wanted).map_err(Trouble::usage)?);
    }
    let ports = options.ports.checked().map_err(Trouble::usage)?;
    if let Some((receive, send)) = ports {
        fields.insert("receivePort".into(), receive.into());
        fields.insert("sendPort".into(), send.into());
        // As AMBROSIA has it: a program is told of becoming primary only if that was asked for.
        fields.insert("activeActive".into(), false.into());
    }
    tune(&options.tuning, fields).map_err(Trouble::usage)?;
    if let Some(current) = options.current_version {
        fields.insert("currentVersion".into(), current.into());
    }
    let (current, upgrade) =
        (options.current_version.unwrap_or(0), options.tuning.upgrade_version.unwrap_or(u64::MAX));
    if upgrade < current {
        return Err(Trouble::usage(format!(
            "the upgrade version {upgrade} is lower than the current version {current}: a new instance \
             has nothing to go back to"
        )));
    }
    if options.pause_at_start {
        fields.insert("paused".into(), true.into());
    }
    if options.no_persist_logs {
        fields.insert("durability".into(), "memory".into());
    }
    let client = client(cluster)?;
    if let Ok((_, known)) = instance(&client, &name).await {
        return register_again(cluster, &client, options, &known).await;
    }
    let answer = client.post(LINK, &body).await.map_err(|error| unreachable(&error))?;
    let Some(state) = changed(cluster, &client, &name, &answer).await? else {
        wait_for_ports(&client, &answer.to_json()).await;
        return Ok(());
    };
    wait_for_ports(&client, &state).await;
    say(&format!("Instance '{name}' is registered."));
    for replica in replicas(&state) {
        say(&format!("  {}", how_to_attach(&name, replica, ports.is_some())));
    }
    if options.no_persist_logs {
        say(&what_may_be_lost(replicas(&state).count()));
    }
    if options.pause_at_start {
        say(&format!(
            "It is paused: programs may attach and are told nothing until you say\n  \
             amrita immortal set {name} --resume"
        ));
    }
    Ok(())
}

/// As AMBROSIA has it, registering once more changes what was registered. What is not said stays as
/// it is, but for one thing: with ports and without `--active-active` an instance is not
/// active/active.
async fn register_again(
    cluster: &Cluster,
    client: &Client,
    options: &RegisterOptions,
    known: &Value,
) -> Outcome {
    let name = options.named.new_name().map_err(Trouble::usage)?;
    check_same(&name, options, known).map_err(Trouble::usage)?;
    let fields = changes(&name, options, known).map_err(Trouble::usage)?;
    let mut bodies = Vec::new();
    if let Some(replica) = changed_replica(options, known).map_err(Trouble::usage)? {
        bodies.push(json!({ "addReplica": replica }));
    }
    if !fields.is_empty() {
        bodies.push(Value::Object(fields.clone()));
    }
    let mut state = known.clone();
    for body in bodies {
        let answer = patch(client, &name, &body).await?;
        let Some(now) = seen(client, &name, &answer).await? else {
            return screen::show(&answer, cluster.json);
        };
        state = now;
    }
    wait_for_ports(client, &state).await;
    if cluster.json {
        say(&state.to_string());
        return Ok(());
    }
    if state == *known {
        say(&format!("Instance '{name}' is registered already, and is as it was."));
        return Ok(());
    }
    say(&format!("Instance '{name}' was registered already, and is changed."));
    for (field, _) in fields {
        say(&format!("  {field} is {}.", screen::cell(&state[&field])));
    }
    for replica in replicas(&state).filter(|replica| !replica["receivePort"].is_null()) {
        say(&format!("  {}", how_to_attach(&name, replica, true)));
    }
    Ok(())
}

/// The options that registering once more changes.
///
/// # Errors
/// When it is said of another version than the one in use.
fn changes(
    name: &str,
    options: &RegisterOptions,
    known: &Value,
) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    if options.ports.checked()?.is_some() {
        fields.insert("activeActive".into(), false.into());
    }
    tune(&options.tuning, &mut fields)?;
    if let Some(current) = options.current_version {
        let version = version_in_use(known);
        if !has_begun(known) {
            fields.insert("currentVersion".into(), current.into());
        } else if current != version {
            return Err(format!(
                "the programs of '{name}' are at version {version}, and --current-version is \
                 {current}: say {version}, and with --upgrade-version the version to go to"
            ));
        }
        // As AMBROSIA has it: to the current version there is no upgrade.
        if options.tuning.upgrade_version == Some(current) && known["upgradeVersion"].is_null() {
            fields.remove("upgradeVersion");
        }
    }
    if options.pause_at_start {
        fields.insert("paused".into(), true.into());
    }
    // One that was given up is wished for once more.
    let wishes = known["upgradeGivenUp"] == true;
    fields.retain(|field, value| {
        known[field.as_str()] != *value || (wishes && field == "upgradeVersion")
    });
    Ok(fields)
}

/// Replica 0, if registering once more changes something of it.
///
/// # Errors
/// When the two ports are one.
fn changed_replica(options: &RegisterOptions, known: &Value) -> Result<Option<Value>, String> {
    let first = replicas(known).find(|replica| replica["replicaNumber"] == 0);
    let Some(((receive, send), first)) = options.ports.checked()?.zip(first) else {
        return Ok(None);
    };
    let mut wanted = json!({ "replicaNumber": 0, "receivePort": receive, "sendPort": send });
    let own = first["upgradeVersion"].as_u64();
    let upgrade = options.tuning.upgrade_version.filter(|it| own.is_some_and(|own| own != *it));
    if let Some(upgrade) = upgrade {
        wanted["upgradeVersion"] = upgrade.into();
    }
    let is_moved = first["receivePort"] != receive || first["sendPort"] != send;
    Ok((is_moved || upgrade.is_some()).then_some(wanted))
}

/// What cannot be changed by registering once more.
///
/// # Errors
/// What differs, and what to say instead.
fn check_same(name: &str, options: &RegisterOptions, known: &Value) -> Result<(), String> {
    if options.no_persist_logs && known["durability"] != "memory" {
        return Err(format!(
            "'{name}' is registered already, with logs that are persisted, and that cannot be changed"
        ));
    }
    let Some(wanted) = &options.replicas else { return Ok(()) };
    let nodes: Vec<&Value> = replicas(known).map(|replica| &replica["node"]).collect();
    let is_so = match replicas_wanted(wanted)? {
        Value::Number(count) => count.as_u64() == u64::try_from(nodes.len()).ok(),
        Value::Array(named) => {
            named.len() == nodes.len() && named.iter().all(|node| nodes.contains(&node))
        }
        _ => false,
    };
    if is_so {
        return Ok(());
    }
    Err(format!(
        "'{name}' is registered already, with replicas {}: `amrita immortal add-replica` and \
         `remove-replica` change that",
        those_there(known)
    ))
}

/// The version of the programs, as the replica knows it that has come furthest.
fn version_in_use(state: &Value) -> u64 {
    let versions = replicas(state).filter_map(|replica| replica["programVersion"].as_u64());
    versions.max().or(state["currentVersion"].as_u64()).unwrap_or(0)
}

/// Whether a program has ever begun.
fn has_begun(state: &Value) -> bool {
    state["inputs"].as_u64().is_none_or(|inputs| inputs > 0)
}

/// Waits until the nodes on this machine have opened the ports for programs, so that one may be
/// started at once. A port that can be had is one that no node has.
async fn wait_for_ports(client: &Client, state: &Value) {
    let mut ports = Vec::<u16>::new();
    for replica in replicas(state).filter(|replica| replica["up"] == true) {
        let port = replica["receivePort"].as_u64().and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        if address_of(client, text(&replica["node"])).await.is_ok_and(|address| is_here(&address)) {
            ports.push(port);
        }
    }
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let began = Instant::now();
    while ports.iter().any(is_free) {
        if began.elapsed() > PORTS_MAX {
            let ports: Vec<String> =
                ports.iter().filter(|it| is_free(it)).map(u16::to_string).collect();
            screen::aside(&format!(
                "No node has opened port {} so far; the node's log says if it cannot.",
                ports.join(", ")
            ));
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether that address of a node is one of this machine.
fn is_here(address: &str) -> bool {
    let authority = address.rsplit('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    TcpListener::bind((host.trim_matches(['[', ']']), 0)).is_ok()
}

/// Nodes by name, or a number of them.
fn replicas_wanted(text: &str) -> Result<Value, String> {
    if let Ok(count) = text.trim().parse::<u64>() {
        return Ok(count.into());
    }
    let nodes: Vec<&str> = text.split(',').map(str::trim).collect();
    if nodes.contains(&"") {
        return Err(format!(
            "--replicas is a number, or the ids of nodes with commas between them (n1,n2,n3), not \
             '{text}'; `amrita nodes` shows them"
        ));
    }
    Ok(json!(nodes))
}

fn how_to_attach(name: &str, replica: &Value, with_ports: bool) -> String {
    let node = text(&replica["node"]);
    let number = &replica["replicaNumber"];
    let at = format!("replica {number} on node {node}");
    match (replica["receivePort"].as_u64(), replica["sendPort"].as_u64()) {
        (Some(receive), Some(send)) => {
            format!("{at}: a program of AMBROSIA's connects to the ports {receive} and {send}")
        }
        _ if with_ports => format!(
            "{at}: give it ports with amrita immortal add-replica {name} --replica-num {number} \
             --receive-port ... --send-port ..."
        ),
        _ => format!("{at}: start a program beside that node"),
    }
}

fn what_may_be_lost(count: usize) -> String {
    let majority = count / 2 + 1;
    format!(
        "Its inputs are acknowledged when {majority} of {count} nodes have them in memory. A node \
         that dies forgets what its disk did not have yet, and counts as dead until it has caught \
         up. While fewer than {majority} are so at a time nothing is lost; else inputs that were \
         acknowledged shortly before may be gone, and with them what the program did about them."
    )
}

/// As AMBROSIA has it: zero or less means only by hand.
fn trigger_bytes(megabytes: i64) -> Result<u64, String> {
    let megabytes = u64::try_from(megabytes).unwrap_or(0);
    megabytes.checked_mul(1 << 20).ok_or_else(|| {
        format!("--log-trigger-size is in MB; {megabytes} MB are more than can be counted")
    })
}

fn tune(tuning: &Tuning, fields: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(megabytes) = tuning.log_trigger_size {
        fields.insert("logTriggerBytes".into(), trigger_bytes(megabytes)?.into());
    }
    if let Some(millis) = tuning.recovery_target {
        fields.insert("recoveryTargetMillis".into(), millis.into());
    }
    if let Some(millis) = tuning.program_timeout {
        fields.insert("programTimeoutMillis".into(), millis.into());
    }
    if let Some(alarm) = &tuning.divergence_alarm {
        fields.insert("divergenceAlarm".into(), (alarm == "on").into());
    }
    if let Some(active) = tuning.active_active {
        fields.insert("activeActive".into(), active.into());
    }
    if let Some(version) = tuning.upgrade_version {
        fields.insert("upgradeVersion".into(), version.into());
    }
    Ok(())
}

pub(super) async fn add_replica(cluster: &Cluster, options: &AddReplicaOptions) -> Outcome {
    let name = options.named.name().map_err(Trouble::usage)?;
    let mut added = Map::new();
    if let Some(node) = &options.node {
        added.insert("node".into(), node.as_str().into());
    }
    if let Some(number) = options.replica_num {
        added.insert("replicaNumber".into(), number.into());
    }
    let ports = options.ports.checked().map_err(Trouble::usage)?;
    if let Some((receive, send)) = ports {
        added.insert("receivePort".into(), receive.into());
        added.insert("sendPort".into(), send.into());
    }
    if let Some(version) = options.upgrade_version {
        added.insert("upgradeVersion".into(), version.into());
    }
    let client = client(cluster)?;
    let (_, before) = instance(&client, &name).await?;
    let version = version_in_use(&before);
    if let Some(current) = options.current_version.filter(|it| *it != version) {
        return Err(Trouble::usage(format!(
            "the programs of '{name}' are at version {version}, and --current-version is {current}"
        )));
    }
    let answer = patch(&client, &name, &json!({ "addReplica": added })).await?;
    let Some(mut state) = seen(&client, &name, &answer).await? else {
        return screen::show(&answer, cluster.json);
    };
    let mut fields = Map::new();
    if ports.is_some() && state["activeActive"] == false {
        // AMBROSIA's AddReplica makes an instance active/active, too.
        fields.insert("activeActive".into(), true.into());
    }
    if let Some(megabytes) = options.log_trigger_size {
        let bytes = trigger_bytes(megabytes).map_err(Trouble::usage)?;
        fields.insert("logTriggerBytes".into(), bytes.into());
    }
    if !fields.is_empty() {
        let answer = patch(&client, &name, &Value::Object(fields)).await?;
        let Some(now) = seen(&client, &name, &answer).await? else {
            return screen::show(&answer, cluster.json);
        };
        state = now;
    }
    wait_for_ports(&client, &state).await;
    if cluster.json {
        say(&state.to_string());
        return Ok(());
    }
    let known = |replica: &Value| replicas(&before).any(|known| known == replica);
    let same = |replica: &Value| {
        let number = options.replica_num.is_some_and(|n| replica["replicaNumber"] == n);
        number || options.node.as_deref().is_some_and(|node| text(&replica["node"]) == node)
    };
    let there = |node: &Value| replicas(&before).any(|replica| replica["node"] == *node);
    let new = replicas(&state).find(|replica| !there(&replica["node"]));
    match new.or_else(|| replicas(&state).find(|replica| same(replica) && !known(replica))) {
        Some(replica) => say(&how_to_attach(&name, replica, ports.is_some())),
        None => say("That replica is there already, and is as it was."),
    }
    Ok(())
}

pub(super) async fn remove_replica(cluster: &Cluster, options: &RemoveReplicaOptions) -> Outcome {
    let name = options.named.name().map_err(Trouble::usage)?;
    let client = client(cluster)?;
    let (_, state) = instance(&client, &name).await?;
    let node = match (&options.node, options.replica_num) {
        (Some(node), _) => node.clone(),
        (None, Some(number)) => {
            let found = replicas(&state).find(|replica| replica["replicaNumber"] == number);
            let missing =
                || format!("'{name}' has no replica {number}; there are {}", those_there(&state));
            text(&found.ok_or_else(missing)?["node"]).to_owned()
        }
        (None, None) => {
            return Err(Trouble::usage(format!(
                "which replica? --node NODE or --replica-num N; there are {}",
                those_there(&state)
            )));
        }
    };
    let answer = patch(&client, &name, &json!({ "removeReplica": node })).await?;
    let Some(state) = changed(cluster, &client, &name, &answer).await? else { return Ok(()) };
    say(&format!(
        "The replica of '{name}' on node {node} goes, as soon as the others have let it go; there \
         are {}.",
        those_there(&state)
    ));
    Ok(())
}

fn those_there(state: &Value) -> String {
    let one =
        |replica: &Value| format!("{} on {}", replica["replicaNumber"], text(&replica["node"]));
    replicas(state).map(one).collect::<Vec<_>>().join(", ")
}

pub(super) async fn set(cluster: &Cluster, options: &SetOptions) -> Outcome {
    let name = options.named.name().map_err(Trouble::usage)?;
    if options.no_persist_logs {
        return Err(Trouble::usage(format!(
            "whether the logs of '{name}' are persisted was said when it was registered, and cannot be \
             changed; another instance can be registered with --no-persist-logs"
        )));
    }
    let mut fields = Map::new();
    tune(&options.tuning, &mut fields).map_err(Trouble::usage)?;
    if let Some(current) = options.current_version {
        fields.insert("currentVersion".into(), current.into());
    }
    if options.pause || options.resume {
        fields.insert("paused".into(), options.pause.into());
    }
    if fields.is_empty() {
        let why = "nothing to set is given; `amrita immortal set --help` shows what there is";
        return Err(Trouble::usage(why));
    }
    let client = client(cluster)?;
    let answer = patch(&client, &name, &Value::Object(fields.clone())).await?;
    let Some(state) = changed(cluster, &client, &name, &answer).await? else { return Ok(()) };
    for (field, _) in fields {
        say(&format!("{field} of '{name}' is {}.", screen::cell(&state[&field])));
    }
    Ok(())
}

pub(super) async fn deregister(cluster: &Cluster, options: &DeregisterOptions) -> Outcome {
    let name = options.named.name().map_err(Trouble::usage)?;
    match &options.yes_remove {
        Some(confirmed) if *confirmed == name => {}
        Some(other) => {
            return Err(Trouble::usage(format!(
                "--yes-remove says '{other}', and the instance is '{name}': nothing is removed"
            )));
        }
        None => {
            return Err(Trouble::usage(format!(
                "this would remove '{name}' with its log and its checkpoints on all nodes, for good. If \
                 that is meant:\n  amrita immortal deregister {name} --yes-remove {name}"
            )));
        }
    }
    let client = client(cluster)?;
    let path = format!("{}?confirm={name}", link(&name));
    let answer = client.delete(&path).await.map_err(|error| unreachable(&error))?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    say(&format!("Instance '{name}' is gone; programs that were attached to it are told so."));
    Ok(())
}

async fn patch(client: &Client, name: &str, body: &Value) -> Result<Response, Trouble> {
    client.patch(&link(name), body).await.map_err(|error| unreachable(&error))
}

/// The instance as it is after a change, seen through the node that is asked. None: it was shown.
async fn changed(
    cluster: &Cluster,
    client: &Client,
    name: &str,
    answer: &Response,
) -> Result<Option<Value>, Trouble> {
    if cluster.json || !answer.is_success() {
        screen::show(answer, cluster.json)?;
        return Ok(None);
    }
    seen(client, name, answer).await
}

/// The same. None: the change was refused.
async fn seen(client: &Client, name: &str, answer: &Response) -> Result<Option<Value>, Trouble> {
    if !answer.is_success() {
        return Ok(None);
    }
    let state = answer.to_json();
    if state["name"] == name {
        return Ok(Some(state));
    }
    let began = Instant::now();
    loop {
        match instance(client, name).await {
            Ok((_, state)) => return Ok(Some(state)),
            Err(why) if began.elapsed() > SEEN_MAX => return Err(why),
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_a_number_or_names() {
        assert_eq!(replicas_wanted("3"), Ok(json!(3)));
        assert_eq!(replicas_wanted("n1, n2"), Ok(json!(["n1", "n2"])));
        assert!(replicas_wanted("n1,,n2").unwrap_err().contains("n1,,n2"));
    }

    #[test]
    fn what_may_be_lost_is_said_with_numbers() {
        let text = what_may_be_lost(3);
        assert!(text.contains("2 of 3") && text.contains("may be gone"), "{text}");
    }
}
