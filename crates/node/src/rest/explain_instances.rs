//! Why an instance does not go on: its replicas, their programs, and where its messages go. As its
//! owner knows it; any other node with a replica knows less, and one without a replica next to
//! nothing.

use cluster::InstanceEntry;
use immortals::{ReplicaStatus, Since};
use protocol::GroupId;
use protocol::explanation::{Finding, WaitsFor};
use protocol::flow::STANDS_MICROS;
use protocol::instance_write::partition_of_stream;

use super::instance_state;
use crate::view::View;

/// A program that has been at one input for longer, in microseconds, does not come past it by
/// itself, as far as can be told.
const INPUT_MICROS_MAX: u64 = 30_000_000;

/// How a replica is, and since when, as far as this node knows.
struct Known {
    status: ReplicaStatus,
    since: Option<Since>,
}

pub(super) fn of_instance(entry: &InstanceEntry, view: &View<'_>) -> Vec<Finding> {
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
        let since = view.placement.since.paused.get(&entry.group).copied();
        let paused = Finding::stuck(WaitsFor::Person, text, remedy);
        findings.push(paused.for_micros(lasted(since, view)));
    }
    let replicas = replicas(entry, view);
    let is_served = replicas.iter().any(|(_, known)| known.status.attached);
    // One that is held or put aside waits for a person, not for a program.
    let is_free = |status: &ReplicaStatus| {
        status.held.is_none() && status.diverged.as_ref().is_none_or(|it| !it.is_fenced())
    };
    let free = || replicas.iter().filter(|(_, known)| is_free(&known.status));
    let nodes: Vec<&str> = free().map(|(node, _)| *node).collect();
    if !nodes.is_empty() && !is_served && !entry.options.paused {
        let text = format!("no program is attached to '{name}', so its inputs are only logged");
        let remedy = format!("start its program beside one of {}", nodes.join(", "));
        // Since the last of them went.
        let since = free().filter_map(|(_, known)| known.since).map(|since| since.condition).max();
        let none = Finding::stuck(WaitsFor::Program, text, remedy);
        findings.push(none.for_micros(lasted(since, view)));
    }
    let around = Around { name, is_served, is_paused: entry.options.paused, view };
    for (node, known) in &replicas {
        findings.extend(of_replica(node, known, &around));
    }
    if let Some(here) = view.instance(entry.group) {
        // Standbys hear of receipts only with the next inputs.
        if view.owner_of(entry.group) == Some(view.me()) {
            findings.extend(destinations(entry.group, here, view));
        }
        if here.has_given_up_the_upgrade() {
            let text = format!("the upgrade of '{name}' was given up: the new program differed");
            let remedy = format!("amrita immortal show {name} tells where; mend the program");
            findings.push(Finding::stuck(WaitsFor::Person, text, remedy));
        }
    }
    findings
}

/// For how long something has been so that began then.
fn lasted(since: Option<u64>, view: &View<'_>) -> Option<u64> {
    since.map(|since| view.now.steady_micros.saturating_sub(since))
}

/// The replicas of an instance by node, as far as this node knows how each is.
fn replicas<'a>(entry: &'a InstanceEntry, view: &View<'_>) -> Vec<(&'a str, Known)> {
    let Some(here) = view.instance(entry.group) else { return Vec::new() };
    let known = |node: &str| {
        let id = view.topology().replica_of_node(node)?;
        if id == view.me() {
            return Some(Known { status: here.status(), since: here.since() });
        }
        let (_, status) = here.others().find(|(other, _)| *other == id)?;
        Some(Known { status: status.clone(), since: here.since_of(id) })
    };
    let nodes = entry.replicas.iter().map(|it| it.node.as_str());
    nodes.filter_map(|node| Some((node, known(node)?))).collect()
}

/// What is so of the instance as a whole.
struct Around<'a> {
    name: &'a str,
    /// A program is attached to some replica.
    is_served: bool,
    is_paused: bool,
    view: &'a View<'a>,
}

fn of_replica(node: &str, known: &Known, around: &Around<'_>) -> Option<Finding> {
    let (Known { status, since }, Around { name, is_served, view, .. }) = (known, around);
    let condition = lasted(since.map(|since| since.condition), view);
    let release = format!("mend the program, then: amrita immortal release {name}");
    if let Some(diverged) = status.diverged.as_ref().filter(|it| it.is_fenced()) {
        let text = format!(
            "the program on {node} was put aside: after input {} it said something else than the \
             other copies",
            diverged.input
        );
        return Some(Finding::stuck(WaitsFor::Person, text, release).for_micros(condition));
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
        return Some(Finding::stuck(WaitsFor::Person, text, remedy).for_micros(condition));
    }
    if !status.attached {
        let why = match &status.let_go {
            Some(let_go) => format!("; the last one was let go: {}", let_go.text),
            None => String::new(),
        };
        let text = format!("no program is attached on {node}{why}");
        let none = Finding::passing(WaitsFor::Program, text).for_micros(condition);
        return is_served.then_some(none);
    }
    if let Some(hangs) = at_one_input(node, known, around) {
        return Some(hangs);
    }
    let text = format!(
        "the program on {node} catches up: it has done {} of {} inputs",
        status.done, status.inputs
    );
    (!status.caught_up).then(|| Finding::passing(WaitsFor::Program, text).for_micros(condition))
}

/// A program that answers pings, and does not come past an input.
fn at_one_input(node: &str, known: &Known, around: &Around<'_>) -> Option<Finding> {
    let Known { status, since } = known;
    let for_micros = lasted(since.map(|since| since.input), around.view)?;
    if status.done >= status.inputs || around.is_paused || for_micros <= INPUT_MICROS_MAX {
        return None;
    }
    let text = format!(
        "the program on {node} has been at input {} for {} s, and there are {} inputs",
        status.done + 1,
        for_micros / 1_000_000,
        status.inputs
    );
    let remedy = "see what it does there; if it does not end, end the program and start it again: it \
                  goes on from its last checkpoint, and another copy is the primary meanwhile";
    Some(Finding::stuck(WaitsFor::Program, text, remedy).for_micros(Some(for_micros)))
}

/// Messages that their destinations have not confirmed.
fn destinations(group: GroupId, here: &immortals::Instance, view: &View<'_>) -> Vec<Finding> {
    let blocked = here.waits_for();
    let mut findings = Vec::new();
    for outgo in here.destinations() {
        let left = outgo.sent.saturating_sub(outgo.confirmed);
        if left == 0 {
            continue;
        }
        let to = &outgo.to;
        let for_micros = lasted(view.lead(group).and_then(|lead| lead.stands_since(to)), view);
        if let Some(partition) = partition_of_stream(to) {
            let finding = of_writes(&outgo, partition, blocked.contains(to), view);
            findings.push(finding.for_micros(for_micros));
            continue;
        }
        let mut text = format!("{left} messages to '{to}' are not confirmed");
        if blocked.contains(to) {
            text.push_str(", and the program is given no more inputs until some are");
        }
        let stands = for_micros.is_some_and(|micros| micros > STANDS_MICROS);
        let finding = match view.topology().instance(to) {
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
            Some(_) if stands => Finding::stuck(
                WaitsFor::Destination,
                format!("{text}: it takes none of them"),
                format!("see what it waits for: amrita explain {}/{to}", instance_state::LINK),
            ),
            Some(_) => Finding::passing(WaitsFor::Destination, text),
        };
        findings.push(finding.for_micros(for_micros));
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
    if let Some(link) = &outgo.first_link {
        text.push_str(&format!("; the first is for {link}, see: amrita explain {link}"));
    }
    Finding::passing(WaitsFor::Destination, text)
}
