//! `/core/node-selectors/default/forwarding`: a request that asks to be passed on. Every node
//! passes a request on to the owner of its document anyway, so only what a node says about itself
//! makes a difference.

use access::{Event, Thing};
use cluster::Member;
use protocol::node_group::{FACTORY_LINK, FORWARDING_LINK, LINK, MANAGEMENT_LINK, SELECTOR_LINK};
use protocol::query::LINK as QUERY_TASKS;
use protocol::{Code, Method, Problem, Request, links};

use super::broadcast::Receivers;
use super::documents;
use super::instance_state;
use super::plan::{Plan, below, canonical, parse_body};
use crate::view::View;

/// Passes on the request that stands in the query.
///
/// # Errors
/// When the target is missing, or when the request asks for the own state of another node.
pub(super) fn plan(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    let asked = |name: &str| request.parameter(name);
    let needed = |name: &str| {
        let wrong =
            || Problem::bad_request(format!("{FORWARDING_LINK} needs the parameter '{name}'"));
        asked(name).filter(|value| !value.is_empty()).ok_or_else(wrong)
    };
    let path = needed("path")?;
    links::check(&path)?;
    let query = asked("query").unwrap_or_default();
    let mut forwarded = Request { path, query, ..request.clone() };
    canonical(&mut forwarded);
    if forwarded.path == FORWARDING_LINK {
        return Err(Problem::bad_request("'path' cannot be the forwarding itself"));
    }
    if is_recorded(&forwarded) {
        return Err(Problem::bad_request(format!(
            "a {} of {} is not passed on: send it there",
            forwarded.method.name(),
            forwarded.path
        )));
    }
    let only = |target: &str, other: &str| match asked(other) {
        None => Ok(()),
        Some(_) => Err(Problem::bad_request(format!(
            "target={target} does not take the parameter '{other}'; leave it out"
        ))),
    };
    match needed("target")?.as_str() {
        "KEY_HASH" => {
            only("KEY_HASH", "peer")?;
            // As in Xenon's clients, the path is the key where none is named.
            let key = asked("key").filter(|key| !key.is_empty());
            let key = key.unwrap_or_else(|| forwarded.path.clone());
            if is_of_a_node(&forwarded) {
                may_know_nodes(request, view)?;
                check_key(&key, &forwarded.path, view)?;
            }
        }
        "PEER_ID" => {
            only("PEER_ID", "key")?;
            may_know_nodes(request, view)?;
            check_peer(&needed("peer")?, &forwarded, view)?;
        }
        "ALL" => {
            only("ALL", "key")?;
            only("ALL", "peer")?;
            may_know_nodes(request, view)?;
            check_all(&forwarded)?;
            let receivers = receivers(&forwarded, view);
            return Ok(Plan::Broadcast(Box::new(forwarded), receivers));
        }
        other => {
            let text = format!("'target' is KEY_HASH, PEER_ID or ALL, not '{other}'");
            return Err(Problem::bad_request(text));
        }
    }
    Ok(Plan::Enter(Box::new(forwarded)))
}

/// All nodes have the same documents: what is read is read once, and what is written would be
/// written once for each of them.
fn check_all(request: &Request) -> Result<(), Problem> {
    let (verb, path) = (request.method.name(), &request.path);
    let (_, utility) = links::split_utility(path);
    if request.method != Method::Get && !is_direct_query(request)? {
        return Err(Problem::bad_request(format!(
            "target=ALL goes with GET, and with a POST of a direct query task: a {verb} of {path} \
             would be done once for each node"
        )));
    }
    let waits = request.parameter("watch").is_some();
    if waits || is_of_a_node(request) || utility == Some("stats") {
        return Err(Problem::bad_request(format!(
            "target=ALL goes with documents, read once: {path} of each node is at the address that \
             {LINK} gives"
        )));
    }
    Ok(())
}

/// Whether it is a query that makes no document.
fn is_direct_query(request: &Request) -> Result<bool, Problem> {
    if request.method != Method::Post || request.path != QUERY_TASKS {
        return Ok(false);
    }
    Ok(documents::is_direct(&parse_body(&request.body)?))
}

/// Whether each document is wanted from one node only.
fn is_of_owners(request: &Request) -> bool {
    let body = parse_body(&request.body).unwrap_or_default();
    let options = body["querySpec"]["options"].as_array();
    options.is_some_and(|options| options.iter().any(|option| option == "OWNER_SELECTION"))
}

fn receivers(request: &Request, view: &View<'_>) -> Receivers {
    let members = view.topology().members();
    let nodes = members
        .iter()
        .map(|(id, member)| (member.node_id.clone(), member.uri.clone(), view.is_up(*id)))
        .collect();
    let path = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    let only = is_of_owners(request).then(|| view.config.node_id.clone());
    Receivers { nodes, quorum: view.topology().effective_quorum(), path, only }
}

/// What goes into the audit trail is recorded, and some of it made ready (passwords are hashed,
/// tokens made up), before a node has it, by its path. It must not come by another one.
fn is_recorded(request: &Request) -> bool {
    const DONE: u16 = 200;
    Event::of(request.method, &request.path, DONE).is_some()
}

/// Whether each node has an answer of its own to it.
fn is_of_a_node(request: &Request) -> bool {
    let path = request.path.as_str();
    let (of, _) = links::split_utility(path);
    [MANAGEMENT_LINK, FACTORY_LINK, LINK, SELECTOR_LINK].contains(&of)
        || below(path, instance_state::LINK).is_some_and(|rest| rest.ends_with("/recording"))
        || request.parameter("consistency").as_deref() == Some("local")
}

/// Which nodes there are, and where, is told to whoever may look at the node group.
fn may_know_nodes(request: &Request, view: &View<'_>) -> Result<(), Problem> {
    let guard = &view.shard.handlers.guard;
    guard.check(&request.principal, Method::Get, &Thing::Path(LINK))
}

/// What a node says of itself is asked for where the owner of that key is.
fn check_key(key: &str, path: &str, view: &View<'_>) -> Result<(), Problem> {
    let owner = view.owner_of(view.topology().partition_of(key));
    if owner == Some(view.me()) {
        return Ok(());
    }
    let member = owner.and_then(|owner| view.topology().members().get(&owner));
    Err(match member {
        Some(Member { node_id, uri, .. }) => Problem::bad_request(format!(
            "{path} of the owner of '{key}', node '{node_id}', is to be asked at {uri}"
        )),
        None => {
            let text = format!("'{key}' has no owner as seen from here; try again");
            Problem::new(Code::NoOwner, text)
        }
    })
}

fn check_peer(peer: &str, request: &Request, view: &View<'_>) -> Result<(), Problem> {
    let mut members = view.topology().members().values();
    let Some(member) = members.find(|member| member.node_id == peer) else {
        let known = view.topology().members().values().map(|member| member.node_id.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(Problem::bad_request(format!("there is no node '{peer}'; there are {known}")));
    };
    // In Xenon a node counts for itself. Here the counters are of the owners, wherever one asks.
    let (_, utility) = links::split_utility(&request.path);
    let is_of_a_node = is_of_a_node(request) || utility == Some("stats");
    if member.node_id != view.config.node_id && is_of_a_node {
        let text = format!("{} of node '{peer}' is to be asked at {}", request.path, member.uri);
        return Err(Problem::bad_request(text));
    }
    Ok(())
}
