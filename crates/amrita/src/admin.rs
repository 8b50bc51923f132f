//! `amrita nodes`, `quorum` and `stop`: a look at the cluster, and small changes to it.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use client::{Client, ClientError, Response};
use protocol::Address;
use protocol::node_group::{self, AskingNode, NodeGroupState, NodeState, NodeStatus};
use serde_json::json;
use tokio::net::TcpStream;

use crate::access::session;
use crate::arguments::Cluster;
use crate::outcome::{Ending, Outcome, Trouble, refusal, unreachable};
use crate::screen;
use crate::verbs::client;

const UPDATE_QUORUM: &str = "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest";

/// How long a node may take to end after it was asked to stop.
const END_MAX: Duration = Duration::from_secs(15);

/// Between two looks at whether a node has ended, and how long one may take.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn nodes(cluster: &Cluster) -> Outcome {
    let client = client(cluster)?;
    let (answer, group) = group(&client).await?;
    if cluster.json {
        return screen::show(&answer, true);
    }
    let rows: Vec<Vec<String>> = group
        .nodes
        .values()
        .map(|node| {
            vec![
                node.id.clone(),
                status(node.status).into(),
                node.group_reference.trim_end_matches(node_group::LINK).into(),
                node.owned_partitions.to_string(),
                remarks(&group, node),
            ]
        })
        .collect();
    screen::say(&screen::table(&["id", "status", "address", "partitions", ""], &rows));
    screen::say("");
    if !group.asking.is_empty() {
        say_who_asks(&group);
        screen::say("");
    }
    screen::say(&summary(&group));
    if let Some(warning) = how_protected(&client).await {
        screen::say(&warning);
    }
    for warning in others_protected(&client, &group).await {
        screen::say(&warning);
    }
    Ok(())
}

/// As it is shown.
pub(crate) fn status(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Available => "AVAILABLE",
        NodeStatus::Unavailable => "UNAVAILABLE",
        NodeStatus::Synchronizing => "SYNCHRONIZING",
    }
}

fn remarks(group: &NodeGroupState, node: &NodeState) -> String {
    let is_owner = group.document_owner.as_ref() == Some(&node.id);
    let missing = node.missing_services.join(", ");
    let lacks = format!("its program lacks {missing}: run the same one on all nodes");
    let all = [
        (is_owner, "owns the directory"),
        (node.is_drained, "drained: is to own nothing"),
        (node.is_leaving, "leaving: is being removed for good"),
        (!missing.is_empty(), lacks.as_str()),
    ];
    let said = all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, remark)| remark);
    said.collect::<Vec<_>>().join("; ")
}

/// The nodes that wait for a person.
pub(crate) fn say_who_asks(group: &NodeGroupState) {
    let row = |node: &AskingNode| {
        let place = match node.replaces[..] {
            [] => String::new(),
            _ => format!("takes the place of {}", node.replaces.join(", ")),
        };
        vec![node.id.clone(), node.address.clone(), place]
    };
    let rows: Vec<_> = group.asking.iter().map(row).collect();
    screen::say(&screen::table(&["asks to join", "address", ""], &rows));
    screen::say("`amrita admit ID` lets it in, `amrita admit --refuse ID` does not.");
}

/// A warning, when whoever reaches the node that was asked may do everything.
async fn how_protected(client: &Client) -> Option<String> {
    let said = client.get("/readyz").await.ok()?.to_json();
    let security = said["security"].as_str()?;
    security.starts_with("INSECURE").then(|| security.to_owned())
}

/// The same of the other nodes: each decides by its own flags.
async fn others_protected(client: &Client, group: &NodeGroupState) -> Vec<String> {
    let asked: Vec<String> = client.addresses().map(ToString::to_string).collect();
    let mut warnings = Vec::new();
    for node in group.nodes.values().filter(|node| node.status != NodeStatus::Unavailable) {
        let address = node.group_reference.trim_end_matches(node_group::LINK);
        if asked.iter().any(|it| it == address) {
            continue;
        }
        let Ok(other) = session::stranger_at(address) else { continue };
        let other = other.reach_within(LOOK_MAX).patience(LOOK_MAX);
        if let Some(warning) = how_protected(&other).await {
            warnings.push(format!("{}: {warning}", node.id));
        }
    }
    warnings
}

/// The nodes that count: whoever is being removed for good does not.
fn staying(group: &NodeGroupState) -> impl Iterator<Item = &NodeState> {
    group.nodes.values().filter(|node| !node.is_leaving)
}

/// One or two sentences: can the cluster be written to?
pub(crate) fn summary(group: &NodeGroupState) -> String {
    let all = staying(group).count();
    // One whose program lacks services holds what is written all the same.
    let holds = |node: &&NodeState| match node.status {
        NodeStatus::Available => true,
        NodeStatus::Unavailable => false,
        NodeStatus::Synchronizing => !node.missing_services.is_empty(),
    };
    let available = staying(group).filter(holds).count();
    let quorum = group.membership_quorum;
    let partitions = group.partition_owners.len();
    let ownerless = group.partition_owners.iter().filter(|owner| owner.is_none()).count();
    let mut text = format!(
        "{available} of {all} nodes are available; a write is acknowledged when {quorum} hold it."
    );
    let majority = all / 2 + 1;
    if ownerless == 0 {
        text.push_str(&format!(" All {partitions} partitions have an owner."));
    } else if available >= majority {
        text.push_str(&format!(
            "\n{ownerless} of {partitions} partitions have no owner at this moment: one is being \
             elected, and their documents wait for it."
        ));
    } else {
        text.push_str(&format!(
            "\n{ownerless} of {partitions} partitions have no owner: their documents cannot be \
             read or written until a majority of the nodes is there."
        ));
    }
    if available < quorum {
        let missing = quorum - available;
        text.push_str(&format!("\nWrites are refused: {missing} more must be available"));
        if available >= majority {
            text.push_str(&format!(", or lower the quorum: amrita quorum {available}"));
        }
        text.push('.');
    }
    text
}

pub(crate) async fn quorum(cluster: &Cluster, number: Option<usize>) -> Outcome {
    let client = client(cluster)?;
    let Some(number) = number else {
        let (answer, group) = group(&client).await?;
        if cluster.json {
            return screen::show(&answer, true);
        }
        let all = staying(&group).count();
        let quorum = group.membership_quorum;
        let majority = all / 2 + 1;
        screen::say(&format!(
            "A write is acknowledged when {quorum} of {all} nodes hold it; it may be set from \
             {majority} to {all}."
        ));
        return Ok(());
    };
    let body = json!({
        "kind": UPDATE_QUORUM,
        "isGroupUpdate": true,
        "membershipQuorum": number,
    });
    let answer =
        client.patch(node_group::LINK, &body).await.map_err(|error| unreachable(&error))?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    screen::say(&format!("From now on a write is acknowledged when {number} nodes hold it."));
    Ok(())
}

/// Stops the node and waits until nobody listens there any more: a node that is slow to answer has
/// not stopped.
pub(crate) async fn stop(cluster: &Cluster, node: &str) -> Outcome {
    let address = if node.contains([':', '/']) {
        node.to_owned()
    } else {
        address_of(&client(cluster)?, node).await?
    };
    let one = session::client_of(&[&address])?;
    let begun = Instant::now();
    let asked = one.delete(node_group::MANAGEMENT_LINK).await;
    let answer = asked.map_err(|error| not_asked(&address, &error))?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    let place = one.addresses().next().map(Address::authority).unwrap_or_default();
    while !is_gone(&place).await {
        if begun.elapsed() > END_MAX {
            let why = format!(
                "the node at {address} was asked to stop, and after {} s it is not known whether \
                 it has",
                END_MAX.as_secs()
            );
            return Err(Trouble::unknown(why));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let took = begun.elapsed().as_millis();
    if cluster.json {
        screen::say(&format!(r#"{{"stopped":{address:?},"tookMillis":{took}}}"#));
        return Ok(());
    }
    screen::say(&format!("The node at {address} has stopped after {took} ms."));
    Ok(())
}

/// Whether it is known that it was not asked, the ending of the command says.
fn not_asked(address: &str, error: &ClientError) -> Trouble {
    let Trouble { ending, why } = unreachable(error);
    let why = match ending {
        Ending::Unknown => {
            format!("whether the node at {address} was asked to stop is not known: {why}")
        }
        _ => format!("the node at {address} cannot be asked to stop: {why}"),
    };
    Trouble { ending, why }
}

/// Whether it is certain that nobody listens there: a node ends before its socket does. No answer
/// is no certainty.
async fn is_gone(place: &str) -> bool {
    let tried = tokio::time::timeout(LOOK_MAX, TcpStream::connect(place)).await;
    matches!(tried, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
}

/// Where the node with this id is.
pub(crate) async fn address_of(client: &Client, id: &str) -> Result<String, Trouble> {
    let (_, group) = group(client).await?;
    let Some(node) = group.nodes.get(id) else {
        let known: Vec<&str> = group.nodes.keys().map(String::as_str).collect();
        return Err(format!("there is no node '{id}'; there are {}", known.join(", ")).into());
    };
    let address = node.group_reference.trim_end_matches(node_group::LINK);
    check_it_is_no_way_out(client, address)?;
    Ok(address.to_owned())
}

/// A node that is spoken with over TLS does not send anybody to where all can read along.
pub(crate) fn check_it_is_no_way_out(client: &Client, address: &str) -> Result<(), Trouble> {
    let is_tls = |address: &Address| address.is_tls();
    if client.addresses().all(is_tls) && !Address::parse(address).is_ok_and(|it| is_tls(&it)) {
        return Err(format!(
            "the node is said to be at {address}, which is without TLS, and you have asked over TLS: \
             name the node's own address if that is right"
        )
        .into());
    }
    Ok(())
}

pub(crate) async fn group(client: &Client) -> Result<(Response, NodeGroupState), Trouble> {
    let answer = client.get(node_group::LINK).await.map_err(|error| unreachable(&error))?;
    if !answer.is_success() {
        return Err(refusal(&answer));
    }
    let group = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the node's answer is not a node group: {error}"))?;
    Ok((answer, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, status: &str) -> (String, serde_json::Value) {
        let state = json!({
            "id": id, "groupReference": format!("http://{id}:1{}", node_group::LINK),
            "status": status, "options": [], "membershipQuorum": 3, "ownedPartitions": 1,
            "documentSelfLink": "", "documentKind": "",
        });
        (id.into(), state)
    }

    fn group_of(statuses: &[(&str, &str)], owners: serde_json::Value) -> NodeGroupState {
        let nodes: serde_json::Map<_, _> =
            statuses.iter().map(|(id, status)| node(id, status)).collect();
        serde_json::from_value(json!({
            "nodes": nodes, "membershipQuorum": 3, "documentOwner": "n1", "documentSelfLink": "",
            "documentKind": "", "partitionOwners": owners,
        }))
        .unwrap()
    }

    #[test]
    fn a_node_that_does_not_answer_has_not_stopped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        // It listens, and says nothing.
        assert!(!runtime.block_on(is_gone(&place)));
        drop(listener);
        assert!(runtime.block_on(is_gone(&place)));
        assert!(!runtime.block_on(is_gone("no such host.invalid:1")), "it may be anywhere");
    }

    #[test]
    fn whether_a_node_was_asked_to_stop_is_not_guessed() {
        let lost = |outcome_unknown| {
            let (tried, why) = (vec!["http://a:1".to_owned()], "closed".to_owned());
            not_asked("http://a:1", &ClientError::Unreachable { tried, why, outcome_unknown })
        };
        assert_eq!(lost(true).ending, Ending::Unknown);
        assert!(lost(true).why.contains("is not known"));
        assert_eq!(lost(false).ending, Ending::Refused);
    }

    #[test]
    fn who_asks_over_tls_is_sent_nowhere_without_it() {
        let client = Client::new(&["https://10.0.0.1:8000"]).unwrap();
        assert!(check_it_is_no_way_out(&client, "https://10.0.0.2:8000").is_ok());
        for other in ["http://127.0.0.1:8000", "http://10.0.0.2:8000", "nothing at all"] {
            assert!(check_it_is_no_way_out(&client, other).is_err(), "{other}");
        }
        let plain = Client::new(&["http://127.0.0.1:8000"]).unwrap();
        assert!(check_it_is_no_way_out(&plain, "http://127.0.0.1:8001").is_ok());
    }

    #[test]
    fn a_node_whose_program_lacks_services_is_told_and_holds_what_is_written() {
        let statuses = [("n1", "AVAILABLE"), ("n2", "SYNCHRONIZING")];
        let mut group = group_of(&statuses, json!(["n1"]));
        assert!(summary(&group).starts_with("1 of 2"), "it is being filled");
        let node = group.nodes.get_mut("n2").unwrap();
        node.missing_services = vec!["/app/seats".into(), "/app/trips".into()];
        assert!(summary(&group).starts_with("2 of 2"));
        let said = remarks(&group, &group.nodes["n2"]);
        assert_eq!(said, "its program lacks /app/seats, /app/trips: run the same one on all nodes");
    }

    #[test]
    fn the_summary_says_why_writes_are_refused_and_what_to_do() {
        let well = group_of(&[("n1", "AVAILABLE")], json!(["n1"]));
        assert!(summary(&well).contains("All 1 partitions have an owner"));
        let statuses = [("n1", "AVAILABLE"), ("n2", "AVAILABLE"), ("n3", "UNAVAILABLE")];
        let text = summary(&group_of(&statuses, json!(["n1", null])));
        assert!(text.contains("amrita quorum 2"), "{text}");
        assert!(text.contains("1 of 2 partitions have no owner at this moment"), "{text}");
        let statuses = [("n1", "AVAILABLE"), ("n2", "UNAVAILABLE"), ("n3", "UNAVAILABLE")];
        let text = summary(&group_of(&statuses, json!(["n1", null])));
        assert!(text.contains("until a majority of the nodes is there"), "{text}");
    }
}
