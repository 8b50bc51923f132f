//! `register`, `add-replica`, `remove-replica`, `set` and `deregister`.

use std::time::{Duration, Instant};

use client::{Client, Response};
use protocol::Address;
use serde_json::{Map, Value, json};

use super::options::{
    AddReplicaOptions, DeregisterOptions, RegisterOptions, RemoveReplicaOptions, SetOptions, Tuning,
};
use super::{LINK, instance, link, replicas, text};
use crate::access::session;
use crate::admin::address_of;
use crate::arguments::Cluster;
use crate::outcome::Outcome;
use crate::outcome::{Trouble, unreachable};
use crate::screen::{self, say};
use crate::verbs::client;

/// How long the node that is asked may be behind with what was changed.
const SEEN_MAX: Duration = Duration::from_secs(5);

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
    let answer = client.post(LINK, &body).await.map_err(|error| unreachable(&error))?;
    if let (Some(ports), 409, None) = (ports, answer.status, &options.replicas)
        && let Ok((_, known)) = instance(&client, &name).await
    {
        return register_again(cluster, &client, (&known, ports), options).await;
    }
    if answer.is_success() {
        until_it_listens(&client, &name, &answer.to_json()).await;
    }
    let Some(state) = changed(cluster, &client, &name, &answer).await? else { return Ok(()) };
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

/// As AMBROSIA has it, a registration of what is there changes what was registered: the ports of
/// replica 0, its versions, and what else was said.
async fn register_again(
    cluster: &Cluster,
    client: &Client,
    (known, (receive, send)): (&Value, (u16, u16)),
    options: &RegisterOptions,
) -> Outcome {
    let name = text(&known["name"]);
    let now = replicas(known).find_map(|replica| replica["programVersion"].as_u64());
    if let (Some(now), Some(current)) = (now, options.current_version)
        && now != current
    {
        return Err(format!(
            "the programs of '{name}' have version {now}, not {current}: say --current-version \
             {now}, or leave it out. Nothing was changed"
        )
        .into());
    }
    let mut fields = Map::new();
    fields.insert("activeActive".into(), false.into());
    tune(&options.tuning, &mut fields).map_err(Trouble::usage)?;
    // One that is no higher wants no upgrade.
    let current = options.current_version.or(now).unwrap_or(0);
    if options.tuning.upgrade_version.is_none_or(|wanted| wanted <= current) {
        fields.remove("upgradeVersion");
    }
    if let Some(current) = options.current_version {
        fields.insert("currentVersion".into(), current.into());
    }
    if options.pause_at_start {
        fields.insert("paused".into(), true.into());
    }
    if options.no_persist_logs {
        fields.insert("durability".into(), "memory".into());
    }
    let version = options.tuning.upgrade_version;
    let added = json!({ "replicaNumber": 0, "receivePort": receive, "sendPort": send,
        "upgradeVersion": version });
    let moved = patch(client, name, &json!({ "addReplica": added })).await?;
    if !moved.is_success() {
        return screen::show(&moved, cluster.json);
    }
    let answer = patch(client, name, &Value::Object(fields)).await?;
    if answer.is_success() {
        until_it_listens(client, name, &answer.to_json()).await;
    }
    if changed(cluster, client, name, &answer).await?.is_some() {
        say(&format!("Instance '{name}' was registered before, and is now as you say."));
    }
    Ok(())
}

/// Waits until the nodes of its replicas know an instance, and listen at its ports: a program that
/// is started next finds them.
async fn until_it_listens(client: &Client, name: &str, state: &Value) {
    let began = Instant::now();
    for replica in replicas(state).filter(|replica| replica["up"] == true) {
        let Ok(address) = address_of(client, text(&replica["node"])).await else { continue };
        let Ok(node) = session::client_of(&[&address]) else { continue };
        let node = node.patience(SEEN_MAX);
        while instance(&node, name).await.is_err() && began.elapsed() < SEEN_MAX {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let Some(port) = replica["receivePort"].as_u64().and_then(|port| port.try_into().ok())
        else {
            continue;
        };
        // Its ports are on the node's own machine, which may be another one.
        if !is_here(&address) {
            continue;
        }
        let listens =
            || std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok();
        while !listens() && began.elapsed() < SEEN_MAX {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Whether a node is surely on this machine.
fn is_here(address: &str) -> bool {
    let Ok(address) = Address::parse(address) else { return false };
    let ip = address.host().trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    address.host() == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
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

fn tune(tuning: &Tuning, fields: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(megabytes) = tuning.log_trigger_size {
        // As AMBROSIA has it: zero or less means only by hand.
        let megabytes = u64::try_from(megabytes).unwrap_or(0);
        let bytes = megabytes.checked_mul(1 << 20);
        let bytes = bytes.ok_or_else(|| {
            format!("--log-trigger-size is in MB; {megabytes} MB are more than can be counted")
        })?;
        fields.insert("logTriggerBytes".into(), bytes.into());
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
    let answer = patch(&client, &name, &json!({ "addReplica": added })).await?;
    let Some(mut state) = changed(cluster, &client, &name, &answer).await? else { return Ok(()) };
    if ports.is_some() && state["activeActive"] == false {
        // AMBROSIA's AddReplica makes an instance active/active, too.
        let answer = patch(&client, &name, &json!({ "activeActive": true })).await?;
        if let Some(now) = changed(cluster, &client, &name, &answer).await? {
            state = now;
        }
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
