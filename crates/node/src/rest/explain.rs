//! `/explain`: why the cluster, this node, a group of documents or an instance does not go on. What
//! a document waits for is told by its owner (`services`); here is what keeps a document from
//! having one.

use std::collections::BTreeMap;

use access::Thing;
use cluster::{InstanceEntry, Member};
use group::Quorum;
use protocol::explanation::{Finding, WaitsFor, explanation};
use protocol::node_group::{LINK as NODE_GROUP, MANAGEMENT_LINK};
use protocol::{GroupId, Method, ReplicaId, Request, Response, links};

use super::explain_instances::of_instance;
use super::explained::{OfCluster, answer};
use super::instance_state;
use super::plan::Plan;
use crate::hosted::name_of;
use crate::view::View;

/// How many owners of instances are asked when the cluster is explained. Of the others is told what
/// this node knows itself.
const INSTANCES_ASKED_MAX: usize = 100;

/// How many nodes are named in one remedy.
const NODES_NAMED_MAX: usize = 5;

/// A group without an owner for longer, in microseconds, does not get one by itself.
const FREE_MICROS_MAX: u64 = 10_000_000;

/// GET on `/explain` of the node group: what keeps the cluster from serving. The owners of
/// instances know more of those than this node does, and are asked.
pub(super) fn of_cluster(request: &Request, view: &View<'_>) -> Plan {
    let mut findings = nodes(view);
    findings.extend(not_formed(view));
    findings.extend(of_quorum(view));
    findings.extend(unwritable(view));
    findings.extend(owner(GroupId::DIRECTORY, view));
    findings.extend(ownerless(view));
    // Of instances only what the asker may see.
    let is_shown =
        |entry: &&InstanceEntry| instance_state::is_shown(entry, &request.principal, view);
    let is_elsewhere = |entry: &&InstanceEntry| {
        let teller = view.teller_of(entry.group);
        teller.is_some_and(|id| id != view.me() && view.is_up(id))
    };
    let entries = view.topology().instances().filter(is_shown);
    let (mut elsewhere, mut here): (Vec<_>, Vec<_>) = entries.partition(is_elsewhere);
    // First those of which this node knows least.
    elsewhere.sort_by_key(|entry| view.instance(entry.group).is_some());
    let not_asked = elsewhere.split_off(elsewhere.len().min(INSTANCES_ASKED_MAX));
    let blind = not_asked.iter().filter(|entry| view.instance(entry.group).is_none()).count();
    if blind > 0 {
        let text = format!(
            "{blind} more instances have no replica on this node: amrita explain NAME tells of one"
        );
        findings.push(Finding::passing(WaitsFor::Person, text));
    }
    here.extend(not_asked);
    let of_instances = here.into_iter().flat_map(|entry| of_instance(entry, view)).collect();
    let ask: Vec<GroupId> = elsewhere.iter().map(|entry| entry.group).collect();
    let known = OfCluster { findings, of_instances, ask };
    match known.ask.is_empty() {
        true => Plan::Respond(known.answer(&[], &view.config.node_id)),
        false => Plan::Explain(Box::new(known)),
    }
}

/// The answer to GET on `/explain` of the management document: what is wrong with this node.
pub(super) fn of_this_node(view: &View<'_>) -> Response {
    let mut findings = own(view);
    findings.extend(not_formed(view));
    findings.extend(of_quorum(view));
    findings.extend(unwritable(view));
    answer(MANAGEMENT_LINK, findings, &view.config.node_id)
}

/// A cluster that has not formed so far.
fn not_formed(view: &View<'_>) -> Option<Finding> {
    if view.partitions() > 0 {
        return None;
    }
    let nodes = view.control.nodes().filter(|(id, _)| !view.is_up(**id));
    let missing: Vec<&str> = nodes.map(|(_, member)| member.node_id.as_str()).collect();
    let text = format!("the cluster has not formed: {}", view.why_not_serving());
    Some(if missing.is_empty() {
        Finding::passing(WaitsFor::Node, text)
    } else {
        Finding::stuck(WaitsFor::Node, text, format!("start {}", missing.join(", ")))
    })
}

/// The answer of a node that belongs to no cluster so far.
pub(super) fn of_newcomer(link: &str, node_id: &str, why: &str) -> Response {
    let remedy = "start the nodes that are missing; the log of this node names them";
    let finding = Finding::stuck(WaitsFor::Node, format!("not part of a cluster: {why}"), remedy);
    Response::json(200, &explanation(link, node_id, &[finding]))
}

/// The answer about an instance, as its owner knows it, or this node if there is no owner.
pub(crate) fn instance(group: GroupId, view: &View<'_>) -> Option<Response> {
    let entry = view.topology().instance_of(group)?;
    let findings = of_instance(entry, view);
    let link = format!("{}/{}", instance_state::LINK, entry.name);
    Some(answer(&link, findings, &view.config.node_id))
}

/// The owner of that group need not be asked: there is none, or it could not answer.
pub(super) fn is_unreachable(group: GroupId, view: &View<'_>) -> bool {
    view.owner_of(group).is_none() || !majority_is_reached(view)
}

/// What this node knows of a document, where that is asked for and the owner does not tell. No
/// owner decides then whether the asker may look at the document; so it says nothing of the
/// document itself, and is told to whoever may look at the nodes.
pub(crate) fn without_owner(
    request: &Request,
    group: GroupId,
    view: &View<'_>,
) -> Option<Response> {
    let (path, utility) = links::split_utility(&request.path);
    let guard = &view.shard.handlers.guard;
    let may_know = guard.check(&request.principal, Method::Get, &Thing::Path(NODE_GROUP)).is_ok();
    if utility != Some("explain") || !may_know {
        return None;
    }
    let mut findings: Vec<Finding> =
        owner(group, view).into_iter().chain(of_quorum(view)).collect();
    if findings.is_empty() {
        findings.push(silent(group, view));
    }
    Some(answer(path, findings, &view.config.node_id))
}

/// The owner was asked, and gave no answer.
fn silent(group: GroupId, view: &View<'_>) -> Finding {
    let owner = view.owner_of(group);
    let Some(Member { node_id, uri, .. }) = owner.and_then(|id| view.topology().members().get(&id))
    else {
        let text = "another node owns it, and does not answer";
        let remedy = format!("look at each node and its log: {}", ask_each(view));
        return Finding::stuck(WaitsFor::Owner, text, remedy);
    };
    let text = format!("node {node_id} owns it, and does not answer");
    let remedy = format!("see what {node_id} waits for: amrita explain node --address {uri}");
    Finding::stuck(WaitsFor::Owner, text, remedy)
}

/// How to ask the nodes one by one.
fn ask_each(view: &View<'_>) -> String {
    let members = view.topology().members().values();
    let asked = members.map(|member| format!("amrita explain node --address {}", member.uri));
    let mut asked: Vec<String> = asked.take(NODES_NAMED_MAX + 1).collect();
    if asked.len() > NODES_NAMED_MAX {
        asked.truncate(NODES_NAMED_MAX);
        asked.push("and so on".to_owned());
    }
    asked.join(", ")
}

/// The partitions of a factory.
pub(super) fn of_factory(path: &str, view: &View<'_>) -> Response {
    let findings = ownerless(view).into_iter().chain(of_quorum(view)).chain(unwritable(view));
    let findings = findings.chain(no_program(path, view)).collect();
    answer(path, findings, &view.config.node_id)
}

/// The handlers of a kind are in a program, and there is none.
fn no_program(factory: &str, view: &View<'_>) -> Option<Finding> {
    view.catalogue().outside(factory)?;
    let is_attached = view.control.services.outside.contains_key(factory);
    (!is_attached).then(|| services::no_program_attached(factory))
}

/// The partitions whose owners' disks are full: writes to them are refused.
fn unwritable(view: &View<'_>) -> Vec<Finding> {
    let mut owners: BTreeMap<ReplicaId, usize> = BTreeMap::new();
    let groups = (1..=view.partitions()).map(GroupId);
    let full = groups.filter_map(|group| view.owner_of(group)).filter(|id| !view.takes_writes(*id));
    full.for_each(|id| *owners.entry(id).or_default() += 1);
    let finding = |(id, count): (ReplicaId, usize)| {
        let (node, all) = (view.node_id(id).unwrap_or("another node"), view.partitions());
        let text = format!(
            "writes to {count} of {all} partitions are refused: node {node} owns those, and its \
             disk takes no writes"
        );
        let remedy = format!("free space on {node}");
        Finding::stuck(WaitsFor::Disk, text, remedy).refusing_writes()
    };
    owners.into_iter().map(finding).collect()
}

/// The partitions without an owner, in one finding.
fn ownerless(view: &View<'_>) -> Option<Finding> {
    let groups = (1..=view.partitions()).map(GroupId);
    let free: Vec<GroupId> = groups.filter(|group| view.owner_of(*group).is_none()).collect();
    let mut finding = owner(*free.first()?, view)?;
    if free.len() > 1 {
        let all = view.partitions();
        finding.text =
            format!("{} of {all} partitions have no owner; {}", free.len(), finding.text);
    }
    Some(finding)
}

/// The nodes that are away, or are not well.
fn nodes(view: &View<'_>) -> Vec<Finding> {
    let members = view.topology().members().iter();
    members
        .filter(|(id, _)| **id != view.me())
        .filter_map(|it| node(it, view))
        .chain(own(view))
        .collect()
}

fn node((id, member): (&ReplicaId, &Member), view: &View<'_>) -> Option<Finding> {
    let Member { node_id, uri, .. } = member;
    if !view.is_up(*id) {
        let heard = view.links.heard_at(*id);
        let silent = heard.map(|at| view.now.steady_micros.saturating_sub(at));
        let text = format!("node {node_id} ({uri}) is away, as seen from here");
        let finding = match view.quorum() {
            Quorum { needed, up, .. } if up >= needed && majority_is_reached(view) => {
                Finding::passing(WaitsFor::Node, format!("{text}; the others go on without it"))
            }
            _ => Finding::stuck(
                WaitsFor::Node,
                text,
                format!("start {node_id}, or mend the network"),
            ),
        };
        return Some(finding.for_micros(silent));
    }
    if !view.links.takes_writes(*id) {
        let text = format!("the disk of node {node_id} takes no writes");
        return Some(Finding::stuck(WaitsFor::Disk, text, format!("free space on {node_id}")));
    }
    if view.links.is_filled(*id) {
        let text = format!("a state of node {node_id} was wrong, and is being filled anew");
        return Some(Finding::passing(WaitsFor::State, text));
    }
    let text = format!(
        "node {node_id} owns nothing as long as others can: its disk is slow, its clock is \
         off, or its program lacks services"
    );
    let remedy = format!("ask it: amrita explain node --address {uri}");
    (!view.links.is_well(*id)).then(|| Finding::stuck(WaitsFor::Disk, text, remedy))
}

/// What is wrong with this node itself.
fn own(view: &View<'_>) -> Vec<Finding> {
    let (me, since) = (&view.config.node_id, &view.placement.since);
    let lasted = |since: Option<u64>| since.map(|at| view.now.steady_micros.saturating_sub(at));
    let mut findings = Vec::new();
    if view.is_stopping {
        findings.push(Finding::passing(WaitsFor::Node, format!("node {me} is stopping")));
    }
    if let Some(why) = view.shard.log.full() {
        let text = format!("the disk of node {me} takes no writes: {why}");
        let full = Finding::stuck(WaitsFor::Disk, text, "free space on it");
        findings.push(full.for_micros(lasted(since.full)));
    }
    if let Some(millis) = view.shard.log.pace.slow_millis() {
        let text = format!(
            "the disk of node {me} is slow: a write to the log took {millis} ms. Other nodes own \
             what it owned, if their disks are better"
        );
        let slow = Finding::stuck(WaitsFor::Disk, text, "find out what else uses that disk");
        findings.push(slow.for_micros(lasted(since.slow)));
    }
    if let Some(millis) = view.control.clock.off_millis() {
        let text = format!(
            "the clock of node {me} is {millis} ms off from those of a majority, so it owns nothing that another one \
             could own"
        );
        let off = Finding::stuck(WaitsFor::Clock, text, "set the clock");
        findings.push(off.for_micros(lasted(since.clock)));
    }
    if let Some(what) = view.control.lacks() {
        let text = format!("node {me} owns nothing that others can own: {what}");
        let remedy = "run the same program on all nodes";
        let lacks = Finding::stuck(WaitsFor::Service, text, remedy);
        findings.push(lacks.for_micros(lasted(since.services)));
    }
    if !view.control.clock.is_told() {
        let text = format!("node {me} does not know yet what time it is by a majority's clocks");
        findings.push(Finding::passing(WaitsFor::Clock, text));
    }
    if !view.control.proof.is_complete() {
        let text = format!(
            "node {me} has not yet heard from enough others that it still has all that it promised"
        );
        findings.push(Finding::passing(WaitsFor::Node, text));
    }
    findings.extend(view.shard.astray().map(|group| {
        let text =
            format!("the state of {} was wrong here, and is being filled anew", name_of(group));
        Finding::passing(WaitsFor::State, text)
    }));
    findings
}

fn majority_is_reached(view: &View<'_>) -> bool {
    let members = view.members();
    members.iter().filter(|id| view.is_up(**id)).count() > members.len() / 2
}

/// Whether enough nodes are up for writes of documents.
fn of_quorum(view: &View<'_>) -> Option<Finding> {
    let Quorum { needed, up, .. } = view.quorum();
    let since = view.placement.since.quorum;
    let lasted = since.map(|since| view.now.steady_micros.saturating_sub(since));
    let refused = |text: String, remedy: String| {
        Finding::stuck(WaitsFor::Quorum, text, remedy).for_micros(lasted).refusing_writes()
    };
    let (all, majority) = (view.members(), view.members().len() / 2 + 1);
    let named = |which: &dyn Fn(&ReplicaId) -> bool| {
        let nodes = view.control.nodes().filter(|(id, _)| which(id));
        nodes.map(|(_, member)| member.node_id.as_str()).collect::<Vec<_>>().join(", ")
    };
    let away = named(&|id| !view.is_up(*id));
    let full = named(&|id| view.is_up(*id) && !view.takes_writes(*id));
    let reached = all.iter().filter(|id| view.is_up(**id)).count();
    let size = all.len();
    if reached < majority {
        let text = format!(
            "{reached} of {size} nodes can be reached, and nothing is read or written without a \
             majority"
        );
        return Some(refused(text, format!("start {away}")));
    }
    if up >= needed.max(majority) {
        return None;
    }
    let text = format!(
        "documents are not written: the membership quorum is {}, and {up} of {size} nodes can be \
         reached and take writes",
        needed.max(majority)
    );
    let mut remedies = Vec::new();
    if !away.is_empty() {
        remedies.push(format!("start {away}"));
    }
    if !full.is_empty() {
        remedies.push(format!("free space on {full}"));
    }
    if up >= majority {
        remedies.push(format!("lower the quorum: amrita quorum {up}"));
    }
    Some(refused(text, remedies.join(", or ")))
}

/// Why a group of documents has no owner.
fn owner(group: GroupId, view: &View<'_>) -> Option<Finding> {
    if view.owner_of(group).is_some() {
        return None;
    }
    let text = format!("{} has no owner", name_of(group));
    let since = view.placement.free_since(group);
    let free = since.map(|since| view.now.steady_micros.saturating_sub(since));
    let finding = if !majority_is_reached(view) {
        Finding::stuck(WaitsFor::Owner, text, "a majority of the nodes must be up")
    } else if free.is_some_and(|micros| micros > FREE_MICROS_MAX) {
        let remedy = format!("look at each node and its log: {}", ask_each(view));
        Finding::stuck(WaitsFor::Owner, text, remedy)
    } else {
        Finding::passing(WaitsFor::Owner, format!("{text}; it should have one in a moment"))
    };
    Some(finding.for_micros(free))
}
