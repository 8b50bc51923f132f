//! What a node says about itself: the root, the management document, the node selector.

use protocol::node_group::{
    LINK, MANAGEMENT_LINK, SELECTOR_LINK, SelectOwnerRequest, SelectOwnerResponse,
};
use protocol::{Address, Code, Method, Problem, Request, Response};
use serde_json::{Value, json};
use services::Catalogue;

use super::instance_state::LINK as IMMORTALS;
use super::plan::Plan;
use crate::io::NodeConfig;
use crate::router::PATIENCE_MICROS;
use crate::view::View;

pub(super) fn root(catalogue: &Catalogue) -> Response {
    let mut links: Vec<&str> = catalogue.specs().map(|spec| spec.factory.as_str()).collect();
    links.push(IMMORTALS);
    Response::json(200, &json!({ "documentLinks": links, "documentCount": links.len() }))
}

/// # Errors
/// What is wrong with the request.
pub(super) fn selector(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    let topology = view.topology();
    if request.method == Method::Get {
        return Ok(Plan::Respond(Response::json(
            200,
            &json!({
                "nodeGroupLink": LINK,
                "membershipQuorum": topology.effective_quorum(),
                "status": if view.majority_is_up() { "AVAILABLE" } else { "UNAVAILABLE" },
                "documentSelfLink": SELECTOR_LINK,
                "documentKind": "com:vmware:xenon:common:NodeSelectorState",
            }),
        )));
    }
    let SelectOwnerRequest { key } = serde_json::from_slice(&request.body).map_err(|error| {
        Problem::new(Code::BadBody, format!("the body must be {{\"key\": LINK}}: {error}"))
    })?;
    if view.partitions() == 0 {
        return Err(Problem::new(Code::NoOwner, "this node is not part of a cluster yet"));
    }
    let group = topology.partition_of(&key);
    let owner = view.owner_of(group);
    let member = owner.and_then(|id| topology.members().get(&id));
    let response = SelectOwnerResponse {
        key,
        owner_node_id: member.map(|member| member.node_id.clone()),
        owner_node_group_reference: member.map(|member| format!("{}{LINK}", member.uri)),
        is_local_host_owner: owner == Some(view.me()),
        available_node_count: view.nodes_up(),
        partition: group.0,
    };
    let body = serde_json::to_value(response).expect("an answer is JSON");
    Ok(Plan::Respond(Response::json(200, &body)))
}

pub(super) fn management(request: &Request, view: &View<'_>) -> Plan {
    if request.method == Method::Delete {
        return Plan::Stop;
    }
    let owned = view.shard.partitions.values().filter(|replica| replica.serving().is_some());
    let mut state = state(view.config);
    state["clusterId"] = json!(view.topology().cluster().map(|id| format!("{id:016x}")));
    state["replicaId"] = json!(view.me().0);
    state["partitionCount"] = json!(view.partitions());
    state["ownedPartitionCount"] = json!(owned.count());
    state["isAuthorizationEnabled"] = json!(view.shard.handlers.guard.is_on);
    state["requestsUnderWay"] = json!(view.in_flight);
    state["serviceCount"] = json!(view.catalogue().specs().count());
    Plan::Respond(Response::json(200, &state))
}

pub(super) fn of_newcomer(request: &Request, config: &NodeConfig) -> Plan {
    if request.method == Method::Delete {
        return Plan::Stop;
    }
    Plan::Respond(Response::json(200, &state(config)))
}

fn state(config: &NodeConfig) -> Value {
    let address = Address::parse(&config.public_uri).ok();
    json!({
        "bindAddress": address.as_ref().map(Address::host),
        "httpPort": address.as_ref().map(Address::port),
        "httpsPort": -1,
        "operationTimeoutMicros": PATIENCE_MICROS,
        "isProcessOwner": true,
        "id": config.node_id,
        "publicUri": config.public_uri,
        "initialPeerNodes": config.peers,
        "isPeerSynchronizationEnabled": true,
        "isAuthorizationEnabled": false,
        "clusterId": null,
        "replicaId": null,
        "bootCount": config.sandbox.boot,
        "partitionCount": 0,
        "ownedPartitionCount": 0,
        "requestsUnderWay": 0,
        "version": env!("CARGO_PKG_VERSION"),
        "documentSelfLink": MANAGEMENT_LINK,
        "documentKind": "com:vmware:xenon:common:ServiceHost:ServiceHostState",
    })
}
