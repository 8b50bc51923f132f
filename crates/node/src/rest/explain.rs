//! `/explain`: why the cluster, this node, a group of documents or an instance does not go on. What
//! a document waits for is told by its owner (`services`); here is what keeps a document from
//! having one.

use access::Thing;
use cluster::{InstanceEntry, Member};
use group::Quorum;
use immortals::ReplicaStatus;
use protocol::explanation::{Finding, WaitsFor, explanation};
use protocol::instance_write::partition_of_stream;
use protocol::node_group::{LINK as NODE_GROUP, MANAGEMENT_LINK};
use protocol::{GroupId, Method, ReplicaId, Request, Response, links};

use super::instance_state;
use crate::hosted::name_of;
use crate::view::View;

/// How many findings one answer has. The first ones are named, the others counted.
const FINDINGS_MAX: usize = 100;

/// How many findings about instances are among them.
const OF_INSTANCES_MAX: usize = 50;

/// A group without an owner for longer, in microseconds, does not get one by itself.
const FREE_MICROS_MAX: u64 = 10_000_000;

/// The answer to GET on `/explain` of the node group: what keeps the cluster from serving.
pub(super) fn of_cluster(request: &Request, view: &View<'_>) -> Response {
    let mut findings = nodes(view);
    findings.extend(not_formed(view));
    findings.extend(of_quorum(view));
    findings.extend(owner(GroupId::DIRECTORY, view));
    findings.extend(ownerless(view));
    // Of instances only what the asker may see.
    let guard = &view.shard.handlers.guard;
    let is_shown = |entry: &&InstanceEntry| {
        let path = format!("{}/{}", instance_state::LINK, entry.name);
        guard.check(&request.principal, Method::Get, &Thing::Path(&path)).is_ok()
    };
    let entries = view.topology().instances().filter(is_shown);
    let of_all = entries.flat_map(|entry| of_instance(entry, view));
    let mut stuck = of_all.filter(|finding| finding.remedy.is_some());
    findings.extend(stuck.by_ref().take(OF_INSTANCES_MAX));
    if stuck.next().is_some() {
        let text = "there are more instances that wait: amrita explain NAME tells of one";
        findings.push(Finding::passing(WaitsFor::Person, text));
    }
    answer(NODE_GROUP, findings, view)
}

/// The answer to GET on `/explain` of the management document: what is wrong with this node.
pub(super) fn of_this_node(view: &View<'_>) -> Response {
    let mut findings = own(view);
    findings.extend(not_formed(view));
    findings.extend(of_quorum(view));
    answer(MANAGEMENT_LINK, findings, view)
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
    Some(answer(&format!("{}/{}", instance_state::LINK, entry.name), findings, view))
}

/// The owner of that group need not be asked: there is none, or it could not answer.
pub(super) fn is_unreachable(group: GroupId, view: &View<'_>) -> bool {
    view.owner_of(group).is_none() || !majority_is_reached(view)
}

/// What this node knows of a document, where that is asked for and the owner does not tell. No owner
/// decides then whether the asker may look at the document; so it says nothing of the document
/// itself, and is told to whoever may look at the nodes.
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
        let name = view.owner_of(group).and_then(|id| view.node_id(id)).unwrap_or("another node");
        let text = format!("node {name} owns it, and does not answer");
        let remedy =
            format!("see what {name} waits for: amrita explain node --address its address");
        findings.push(Finding::stuck(WaitsFor::Owner, text, remedy));
    }
    Some(answer(path, findings, view))
}

/// The partitions of a factory.
pub(super) fn of_factory(path: &str, view: &View<'_>) -> Response {
    let findings = ownerless(view).into_iter().chain(of_quorum(view));
    answer(path, findings.chain(no_program(path, view)).collect(), view)
}

/// The handlers of a kind are in a program, and there is none.
fn no_program(factory: &str, view: &View<'_>) -> Option<Finding> {
    view.catalogue().outside(factory)?;
    if view.control.services.outside.contains_key(factory) {
        return None;
    }
    let text = format!("the handlers of {factory} are in a program, and none is attached");
    let remedy = "start one beside a node, and look at what it prints";
    Some(Finding::stuck(WaitsFor::Program, text, remedy))
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

fn answer(link: &str, mut findings: Vec<Finding>, view: &View<'_>) -> Response {
    findings.sort_by_key(|finding| finding.remedy.is_none());
    if findings.len() > FINDINGS_MAX {
        let more = findings.len() - FINDINGS_MAX;
        findings.truncate(FINDINGS_MAX - 1);
        findings.push(Finding::passing(WaitsFor::Person, format!("and {} more", more + 1)));
    }
    Response::json(200, &explanation(link, &view.config.node_id, &findings))
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
            Quorum { needed, up } if up >= needed && majority_is_reached(view) => {
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
    let me = &view.config.node_id;
    let mut findings = Vec::new();
    if view.is_stopping {
        findings.push(Finding::passing(WaitsFor::Node, format!("node {me} is stopping")));
    }
    if let Some(why) = view.shard.log.full() {
        let text = format!("the disk of node {me} takes no writes: {why}");
        findings.push(Finding::stuck(WaitsFor::Disk, text, "free space on it"));
    }
    if let Some(millis) = view.shard.log.pace.slow_millis() {
        let text = format!(
            "the disk of node {me} is slow: a write to the log took {millis} ms. Other nodes own \
             what it owned, if their disks are better"
        );
        findings.push(Finding::stuck(WaitsFor::Disk, text, "find out what else uses that disk"));
    }
    if let Some(millis) = view.control.clock.off_millis() {
        let text = format!(
            "the clock of node {me} is {millis} ms off from those of a majority, so it owns nothing that another one \
             could own"
        );
        findings.push(Finding::stuck(WaitsFor::Clock, text, "set the clock"));
    }
    if let Some(what) = view.control.lacks() {
        let text = format!("node {me} owns nothing that others can own: {what}");
        let remedy = "run the same program on all nodes";
        findings.push(Finding::stuck(WaitsFor::Service, text, remedy));
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
    let Quorum { needed, up } = view.quorum();
    let (all, majority) = (view.members(), view.members().len() / 2 + 1);
    let named = |which: &dyn Fn(&ReplicaId) -> bool| {
        let nodes = view.control.nodes().filter(|(id, _)| which(id));
        nodes.map(|(_, member)| member.node_id.as_str()).collect::<Vec<_>>().join(", ")
    };
    let away = named(&|id| !view.is_up(*id));
    let full = named(&|id| view.is_up(*id) && !view.links.takes_writes(*id));
    let reached = all.iter().filter(|id| view.is_up(**id)).count();
    let size = all.len();
    if reached < majority {
        let text = format!(
            "{reached} of {size} nodes can be reached, and nothing is read or written without a \
             majority"
        );
        return Some(Finding::stuck(WaitsFor::Quorum, text, format!("start {away}")));
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
    Some(Finding::stuck(WaitsFor::Quorum, text, remedies.join(", or ")))
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
        let remedy = "look at each node: amrita explain node --address ADDRESS, and its log";
        Finding::stuck(WaitsFor::Owner, text, remedy)
    } else {
        Finding::passing(WaitsFor::Owner, format!("{text}; it should have one in a moment"))
    };
    Some(finding.for_micros(free))
}

fn of_instance(entry: &InstanceEntry, view: &View<'_>) -> Vec<Finding> {
    let name = &entry.name;
    let mut findings = Vec::new();
    if view.owner_as_seen(entry.group).is_none() {
        let (text, remedy) = instance_state::no_owner(entry.group, view);
        findings.push(match view.may_have_owner(entry.group) {
            true => Finding::passing(WaitsFor::Owner, text),
            false => Finding::stuck(WaitsFor::Owner, text, remedy),
        });
    }
    if entry.options.paused {
        let text = format!("'{name}' is paused: its programs are told nothing");
        let remedy = format!("amrita immortal set {name} --resume");
        findings.push(Finding::stuck(WaitsFor::Person, text, remedy));
    }
    let statuses = statuses(entry, view);
    let is_served =
        statuses.iter().any(|(_, status)| status.as_ref().is_some_and(|it| it.attached));
    // One that is held or put aside waits for a person, not for a program.
    let free = |status: &ReplicaStatus| {
        status.held.is_none() && status.diverged.as_ref().is_none_or(|it| !it.is_fenced())
    };
    let nodes = statuses.iter().filter(|(_, status)| status.as_ref().is_some_and(free));
    let nodes: Vec<&str> = nodes.map(|(node, _)| node.as_str()).collect();
    if !nodes.is_empty() && !is_served && !entry.options.paused {
        let text = format!("no program is attached to '{name}', so its inputs are only logged");
        let remedy = format!("start its program beside one of {}", nodes.join(", "));
        findings.push(Finding::stuck(WaitsFor::Program, text, remedy));
    }
    for (node, status) in &statuses {
        if let Some(status) = status {
            findings.extend(of_replica(name, node, status, is_served));
        }
    }
    if let Some(here) = view.instance(entry.group) {
        // Standbys hear of receipts only with the next inputs.
        if view.owner_of(entry.group) == Some(view.me()) {
            findings.extend(destinations(here, view));
        }
        if here.has_given_up_the_upgrade() {
            let text = format!("the upgrade of '{name}' was given up: the new program differed");
            let remedy = format!("amrita immortal show {name} tells where; mend the program");
            findings.push(Finding::stuck(WaitsFor::Person, text, remedy));
        }
    }
    findings
}

/// The replicas of an instance by node, as far as this node knows how each is.
fn statuses(entry: &InstanceEntry, view: &View<'_>) -> Vec<(String, Option<ReplicaStatus>)> {
    let instance = view.instance(entry.group);
    let status = |node: &str| {
        let (id, here) = (view.topology().replica_of_node(node)?, instance?);
        if id == view.me() {
            return Some(here.status());
        }
        here.others().find(|(other, _)| *other == id).map(|(_, status)| status.clone())
    };
    entry.replicas.iter().map(|it| (it.node.clone(), status(&it.node))).collect()
}

fn of_replica(name: &str, node: &str, status: &ReplicaStatus, is_served: bool) -> Option<Finding> {
    let release = format!("mend the program, then: amrita immortal release {name}");
    if let Some(diverged) = status.diverged.as_ref().filter(|it| it.is_fenced()) {
        let text = format!(
            "the program on {node} was put aside: after input {} it said something else than the \
             other copies",
            diverged.input
        );
        return Some(Finding::stuck(WaitsFor::Person, text, release));
    }
    if let Some(held) = &status.held {
        let text = format!(
            "the program on {node} ended {} times at input {}: {}",
            held.tries, held.input, held.text
        );
        let remedy = format!(
            "{release}; or leave that input out: amrita immortal skip {name} {}",
            held.input
        );
        return Some(Finding::stuck(WaitsFor::Person, text, remedy));
    }
    if !status.attached {
        let why = match &status.let_go {
            Some(let_go) => format!("; the last one was let go: {}", let_go.text),
            None => String::new(),
        };
        let text = format!("no program is attached on {node}{why}");
        return is_served.then(|| Finding::passing(WaitsFor::Program, text));
    }
    let text = format!(
        "the program on {node} catches up: it has done {} of {} inputs",
        status.done, status.inputs
    );
    (!status.caught_up).then(|| Finding::passing(WaitsFor::Program, text))
}

/// Messages that their destinations have not confirmed.
fn destinations(here: &immortals::Instance, view: &View<'_>) -> Vec<Finding> {
    let blocked = here.waits_for();
    let mut findings = Vec::new();
    for outgo in here.destinations() {
        let left = outgo.sent.saturating_sub(outgo.confirmed);
        if left == 0 {
            continue;
        }
        if let Some(partition) = partition_of_stream(&outgo.to) {
            findings.push(of_writes(&outgo, partition, blocked.contains(&outgo.to), view));
            continue;
        }
        let to = &outgo.to;
        let mut text = format!("{left} messages to '{to}' are not confirmed");
        if blocked.contains(to) {
            text.push_str(", and the program is given no more inputs until some are");
        }
        findings.push(match view.topology().instance(to) {
            None => Finding::stuck(
                WaitsFor::Destination,
                format!("{text}: there is no instance of that name"),
                format!("register it: amrita immortal register {to}"),
            ),
            Some(entry) if view.owner_as_seen(entry.group).is_none() => Finding::stuck(
                WaitsFor::Destination,
                format!("{text}: it has no owner"),
                format!("amrita explain {}/{to}", instance_state::LINK),
            ),
            Some(_) => Finding::passing(WaitsFor::Destination, text),
        });
    }
    findings
}

/// Writes to documents of a partition that are not taken.
fn of_writes(
    outgo: &immortals::DestinationStatus,
    partition: GroupId,
    is_blocked: bool,
    view: &View<'_>,
) -> Finding {
    let left = outgo.sent.saturating_sub(outgo.confirmed);
    let mut text =
        format!("{left} writes to documents of {} are not taken", view.name_of(partition));
    if is_blocked {
        text.push_str(", and the program is given no more inputs until some are");
    }
    match &outgo.first_link {
        Some(link) => {
            text.push_str(&format!("; the first is for {link}, see: amrita explain {link}"));
            Finding::passing(WaitsFor::Destination, text)
        }
        None => Finding::passing(WaitsFor::Destination, text),
    }
}
