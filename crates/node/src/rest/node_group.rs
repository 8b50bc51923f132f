//! `/core/node-groups/default`: the nodes, and the membership quorum.

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::{Candidate, DirectoryCommand, Member};
use protocol::node_group::{
    ASKING, AskingNode, LINK, NodeGroupRequest, NodeGroupState, NodeState, NodeStatus,
};
use protocol::{Code, GroupId, Method, Outcome, Problem, ReplicaId, Request, Response};

use super::plan::Plan;
use crate::hosted::AnyReplica;
use crate::view::View;

const KIND: &str = "com:vmware:xenon:services:common:NodeGroupService:NodeGroupState";

/// The lowest quorum of a cluster that has two nodes or more: a majority of two.
const QUORUM_OF_TWO: usize = 2;

/// `documentKind` of one node.
pub(super) const NODE_KIND: &str = "com:vmware:xenon:services:common:NodeState";

/// # Errors
/// What is wrong with the request.
pub(super) fn plan(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    if request.method == Method::Get {
        return Ok(Plan::Respond(state(view)));
    }
    match (parse(&request.body)?, request.method) {
        (NodeGroupRequest::Join(join), Method::Post) => {
            let contact = check_contact(&join.member_group_reference, &view.config.public_uri)?;
            let is_member = view.topology().members().values().any(|member| member.uri == contact);
            let quorum = is_member.then(|| view.topology().effective_quorum());
            check_joined_quorum(join.membership_quorum, quorum)?;
            Ok(if is_member { Plan::Respond(state(view)) } else { Plan::Join(contact) })
        }
        (NodeGroupRequest::UpdateQuorum(update), Method::Patch) => {
            let quorum = update.membership_quorum;
            if update.is_group_update == Some(false) && view.topology().size() > 1 {
                return Err(refused(
                    "isGroupUpdate is false, and the quorum is one setting of the whole cluster: \
                     say true, or leave it out"
                        .into(),
                ));
            }
            view.topology().check_quorum(quorum).map_err(refused)?;
            Ok(Plan::Change(DirectoryCommand::SetQuorum { quorum }))
        }
        (NodeGroupRequest::Join(_), _) => {
            Err(Problem::new(Code::MethodNotAllowed, "JoinPeerRequest is sent with POST"))
        }
        (NodeGroupRequest::UpdateQuorum(_), _) => {
            Err(Problem::new(Code::MethodNotAllowed, "UpdateQuorumRequest is sent with PATCH"))
        }
    }
}

/// The factory of node groups, of which there is one.
pub(super) fn factory(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    let mut body = serde_json::json!({ "documentLinks": [LINK], "documentCount": 1 });
    if query::is_set(request, "expand")? {
        body["documents"] = serde_json::json!({ LINK: state(view).to_json() });
    }
    Ok(Plan::Respond(Response::json(200, &body)))
}

fn parse(body: &Bytes) -> Result<NodeGroupRequest, Problem> {
    NodeGroupRequest::parse(body).map_err(|why| {
        let code = if why.starts_with("unknown kind") { Code::UnknownKind } else { Code::BadBody };
        Problem::new(code, why)
    })
}

/// The reference in a request to join.
///
/// # Errors
/// When the body is no such request.
pub(super) fn parse_join(body: &Bytes) -> Result<String, Problem> {
    match parse(body)? {
        NodeGroupRequest::Join(join) => {
            check_joined_quorum(join.membership_quorum, None)?;
            Ok(join.member_group_reference)
        }
        NodeGroupRequest::UpdateQuorum(_) => {
            Err(Problem::new(Code::MethodNotAllowed, "UpdateQuorumRequest is sent with PATCH"))
        }
    }
}

/// A node that joins does not set the quorum of those that are there. `known`: the quorum of the
/// cluster, where this node is in it already. (Xenon's programs ask for 2, so that nothing is
/// written by one node alone; in a cluster that somebody has joined nothing is.)
fn check_joined_quorum(said: Option<usize>, known: Option<usize>) -> Result<(), Problem> {
    let is_met = |said: usize| said <= known.unwrap_or(QUORUM_OF_TWO);
    match said.filter(|said| !is_met(*said)) {
        None => Ok(()),
        Some(said) => Err(refused(format!(
            "membershipQuorum is {said}: the cluster that is joined has its own, and it may be \
             lower. Leave it out, and PATCH an UpdateQuorumRequest when the node has joined"
        ))),
    }
}

/// The address of the node in a reference to its node group.
///
/// # Errors
/// When it is not such a reference, or is this node's own.
pub(super) fn check_contact(reference: &str, own_uri: &str) -> Result<String, Problem> {
    let contact = reference.trim_end_matches('/');
    let contact = contact.strip_suffix(LINK).unwrap_or(contact).to_owned();
    let is_uri = ["http://", "https://"].iter().any(|scheme| contact.starts_with(scheme));
    if !is_uri || contact == own_uri {
        return Err(refused(format!(
            "memberGroupReference must be the node group of another node, such as \
             http://127.0.0.1:8001{LINK}, not '{reference}'"
        )));
    }
    Ok(contact)
}

pub(super) fn refused(why: String) -> Problem {
    Problem::new(Code::Refused, why).with_outcome(Outcome::NotApplied)
}

fn respond(state: &NodeGroupState) -> Response {
    Response::json(200, &serde_json::to_value(state).expect("a state is JSON"))
}

/// What the directory's owner answers to a change of the quorum.
pub(crate) fn changed(quorum: usize) -> Response {
    let body = serde_json::json!({ "membershipQuorum": quorum, "documentSelfLink": LINK });
    Response::json(200, &body)
}

pub(super) fn of_newcomer() -> Response {
    respond(&NodeGroupState {
        nodes: BTreeMap::new(),
        membership_quorum: 1,
        document_owner: None,
        document_self_link: LINK.into(),
        document_kind: KIND.into(),
        partition_owners: Vec::new(),
        asking: Vec::new(),
    })
}

fn state(view: &View<'_>) -> Response {
    let topology = view.topology();
    let name = |id: ReplicaId| topology.node_id(id).map(str::to_owned);
    let owners: Vec<Option<String>> =
        (1..=view.partitions()).map(|group| view.owner_of(GroupId(group)).and_then(name)).collect();
    let members = topology.members().iter();
    let nodes = members.map(|(id, member)| (member.node_id.clone(), node_state(*id, member, view)));
    respond(&NodeGroupState {
        nodes: nodes.collect(),
        membership_quorum: topology.effective_quorum(),
        document_owner: view.owner_of(GroupId::DIRECTORY).and_then(name),
        document_self_link: LINK.into(),
        document_kind: KIND.into(),
        partition_owners: owners,
        asking: view.asking.all().map(|candidate| asking_node(candidate, view)).collect(),
    })
}

/// One node, as far as it is known here.
pub(super) fn node_state(replica: ReplicaId, member: &Member, view: &View<'_>) -> NodeState {
    let topology = view.topology();
    let owners = (1..=view.partitions()).filter_map(|group| view.owner_of(GroupId(group)));
    NodeState {
        id: member.node_id.clone(),
        group_reference: format!("{}{LINK}", member.uri),
        status: status_of(replica, view),
        options: vec!["PEER".into()],
        membership_quorum: topology.effective_quorum(),
        owned_partitions: owners.filter(|owner| *owner == replica).count(),
        is_drained: topology.is_drained(replica),
        is_leaving: topology.is_leaving(replica),
        missing_services: view.control.services.missing_at(replica, view.me()),
        document_self_link: format!("{LINK}/{}", member.node_id),
        document_kind: NODE_KIND.into(),
    }
}

fn asking_node(candidate: &Candidate, view: &View<'_>) -> AskingNode {
    let Candidate { node_id, uri, .. } = candidate;
    let members = view.topology().members().values();
    let former = members.filter(|member| candidate.is_like(member));
    AskingNode {
        id: node_id.clone(),
        address: uri.clone(),
        replaces: former.map(|member| member.node_id.clone()).collect(),
        document_self_link: format!("{LINK}/{ASKING}/{node_id}"),
    }
}

fn status_of(replica: ReplicaId, view: &View<'_>) -> NodeStatus {
    if !view.is_up(replica) {
        return NodeStatus::Unavailable;
    }
    let is_voter = |group: GroupId| {
        let here = view.replica(group).map(AnyReplica::consensus);
        here.is_some_and(|consensus| consensus.members().voters.contains(&replica))
    };
    let is_filled = if replica == view.me() {
        view.shard.astray().next().is_some()
    } else {
        view.links.is_filled(replica)
    };
    let has_all = view.control.services.missing_at(replica, view.me()).is_empty();
    if view.shard.document_groups().all(is_voter) && !is_filled && has_all {
        NodeStatus::Available
    } else {
        NodeStatus::Synchronizing
    }
}
