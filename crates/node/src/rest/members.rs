//! `/core/node-groups/default/NODE`: one node of the cluster, which can be told to own nothing, and
//! removed for good; and `.../asking/NODE`, one that waits to be let in.

use cluster::{Candidate, DirectoryCommand, Place};
use protocol::node_group::{ASKING, LINK, NodePatch};
use protocol::{Method, Outcome, Problem, ReplicaId, Request, Response};
use serde_json::Value;

use super::built_in::{BuiltIn, Version};
use super::node_group::{NODE_KIND, node_state, refused};
use super::plan::{Plan, below, check_fields, parse_body};
use crate::frame::Question;
use crate::hosted::AnyReplica;
use crate::view::View;

/// `rest`: what comes below the node group.
///
/// # Errors
/// What is wrong with the request.
pub(super) fn plan(request: &Request, rest: &str, view: &View<'_>) -> Result<Plan, Problem> {
    if let Some(name) = below(rest, ASKING).filter(|name| !name.is_empty()) {
        return asking(request, name, view);
    }
    if request.method == Method::Patch {
        check_fields(&patch(request, rest)?, "a PATCH of a node", &["isDrained"])?;
    }
    let topology = view.topology();
    let Some(replica) = topology.replica_of_node(rest) else {
        let members = topology.members().values();
        let known: Vec<&str> = members.map(|member| member.node_id.as_str()).collect();
        let text = format!("there is no node '{rest}'; there are {}", known.join(", "));
        return Err(Problem::not_found(text));
    };
    match request.method {
        Method::Get => {
            let state = node_state(replica, &topology.members()[&replica], view);
            let body = serde_json::to_value(state).expect("a state is JSON");
            Ok(Plan::Respond(Response::json(200, &body)))
        }
        Method::Delete => {
            topology.check_removal(replica).map_err(refused)?;
            check_that_others_go_on(replica, rest, view)?;
            Ok(Plan::Change(DirectoryCommand::Remove { replica }))
        }
        _ => {
            let body = patch(request, rest)?;
            let NodePatch { is_drained } = serde_json::from_value(body).map_err(|error| {
                Problem::bad_request(format!("the body must be {{\"isDrained\": true}}: {error}"))
            })?;
            Ok(Plan::Change(DirectoryCommand::Drain { replica, is_drained }))
        }
    }
}

/// Why the owner of the directory does not take up a removal. Another one may have begun since the
/// node that was asked has looked, and each of the two alone would leave a majority.
pub(crate) fn refuse_removal(question: &Question, view: &View<'_>) -> Option<Problem> {
    let Question::Directory(command) = question else { return None };
    let Ok(DirectoryCommand::Remove { replica }) = DirectoryCommand::decode(command) else {
        return None;
    };
    let topology = view.topology();
    let name = topology.node_id(replica).filter(|_| !topology.is_leaving(replica))?;
    check_that_others_go_on(replica, name, view).err()
}

/// The fields of a PATCH of a node, without those that every node shows.
fn patch(request: &Request, name: &str) -> Result<Value, Problem> {
    let link = format!("{LINK}/{name}");
    let version = Version::Without;
    let built_in = BuiltIn { of: "a node", link: &link, kind: NODE_KIND, version };
    built_in.take_out(&parse_body(&request.body)?)
}

/// Those who stay must be a majority that is up, in each group: otherwise nothing could be written
/// from then on, and no node be brought in or removed.
fn check_that_others_go_on(replica: ReplicaId, name: &str, view: &View<'_>) -> Result<(), Problem> {
    let topology = view.topology();
    for group in view.shard.document_groups() {
        let Some(here) = view.replica(group).map(AnyReplica::consensus) else { continue };
        let voters = here.members().voters.iter().copied();
        let stay: Vec<ReplicaId> =
            voters.filter(|id| *id != replica && !topology.is_leaving(*id)).collect();
        let could = |id: &&ReplicaId| view.is_up(**id) && view.takes_writes(**id);
        let up = stay.iter().filter(could).count();
        if up > stay.len() / 2 {
            continue;
        }
        let down = stay.iter().filter(|id| !could(id));
        let down: Vec<&str> = down.filter_map(|id| topology.node_id(*id)).collect();
        let down = match down[..] {
            [] => String::new(),
            _ => format!(" ({} down, or with a full disk)", down.join(", ")),
        };
        return Err(refused(format!(
            "without node '{name}' {up} of {} nodes that vote in {} would be up{down}, which is no \
             majority: nothing could be written any more. Bring the others back first, wait until \
             new ones are AVAILABLE, or remove one that is down instead",
            stay.len(),
            view.name_of(group),
        )));
    }
    Ok(())
}

fn asking(request: &Request, name: &str, view: &View<'_>) -> Result<Plan, Problem> {
    if !request.body.trim_ascii().is_empty() {
        check_fields(&parse_body(&request.body)?, "an admission", &[])?;
    }
    let candidate = find(request, name, view)?;
    if request.method == Method::Delete {
        let sandbox_id = candidate.sandbox_id;
        return Ok(Plan::Change(DirectoryCommand::Refuse { sandbox_id }));
    }
    match view.topology().place_of(candidate) {
        Place::Two => Err(refused(format!(
            "node '{name}' at {} has the name of one member and the address of another: start it \
             with another --id or --port",
            candidate.uri
        ))),
        Place::Own(former) | Place::Another(former) if view.is_up(former) => {
            let member = &view.topology().members()[&former];
            Err(refused(format!(
                "node '{name}' at {} would take the place of node '{}' at {}, which is alive: start \
                 it with another --id or --port",
                candidate.uri, member.node_id, member.uri
            )))
        }
        _ => Ok(Plan::Change(DirectoryCommand::Admit(candidate.clone()))),
    }
}

/// The node with that name that asks, at the address that is said, if one is.
fn find<'a>(request: &Request, name: &str, view: &View<'a>) -> Result<&'a Candidate, Problem> {
    let address = request.parameter("address");
    let asks = |candidate: &&Candidate| {
        let is_there = address.as_ref().is_none_or(|address| candidate.uri == *address);
        candidate.node_id == name && is_there
    };
    let found: Vec<&Candidate> = view.asking.all().filter(asks).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let names: Vec<&str> =
                view.asking.all().map(|candidate| candidate.node_id.as_str()).collect();
            let others = match names[..] {
                [] => "no node asks at the moment".to_owned(),
                _ => format!("these do: {}", names.join(", ")),
            };
            let at = address.map(|address| format!(" at {address}")).unwrap_or_default();
            let text = format!("no node '{name}'{at} asks to join the cluster; {others}");
            Err(Problem::not_found(text).with_outcome(Outcome::NotApplied))
        }
        _ => {
            let addresses: Vec<&str> =
                found.iter().map(|candidate| candidate.uri.as_str()).collect();
            Err(refused(format!(
                "{} nodes called '{name}' ask to join the cluster, at {}: say which one with \
                 ?address=",
                found.len(),
                addresses.join(", ")
            )))
        }
    }
}
