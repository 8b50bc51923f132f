//! `/core/immortals`: instances of immortals as documents. Here they are registered, shown and
//! changed; their messages go another way.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use cluster::{
    DirectoryCommand, InstanceCommand, InstanceEntry, InstanceOptions, InstanceReplica, Member,
    NodeLoad, REPLICAS_MAX, choose_nodes, unknown_instance,
};
use immortals::ImpulseKey;
use protocol::hash::hash_parts;
use protocol::{Code, GroupId, Method, Outcome, Problem, ReplicaId, Request, RequestKey, Response};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::built_in::{BuiltIn, Version};
use super::instance_state::{self, KIND, LINK};
use super::options::{OPTIONS, bad, change_options, check_name, check_registration, number, port};
use super::plan::{Plan, check_fields, parse_body};
use super::recordings;
use crate::frame::Question;
use crate::view::View;

pub(crate) use super::instance_state::{changed, known_without_owner, status, why_no_owner};

/// How many replicas a new instance has, when nothing is said and there are enough nodes.
const REPLICAS_USUAL: usize = 3;

/// `rest` is what comes below [`LINK`].
///
/// # Errors
/// What is wrong with the request.
pub(super) fn plan(request: &Request, rest: &str, view: &View<'_>) -> Result<Plan, Problem> {
    let mut parts = rest.split('/');
    let name = parts.clone().next().unwrap_or_default();
    if !name.is_empty() && parts.clone().count() <= 2 && view.topology().instance(name).is_none() {
        // It may have been registered at another node a moment ago.
        let problem = Problem::not_found(unknown_instance(name));
        return Ok(Plan::Level(Box::new(request.clone()), problem));
    }
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("", None, None) => factory(request, view),
        (name, None, None) => document(request, name, view),
        (name, Some(verb), None) => ask(request, name, verb, view),
        _ => Err(Problem::not_found(format!("there is nothing at {}", request.path))),
    }
}

fn change(command: InstanceCommand) -> Plan {
    Plan::Change(DirectoryCommand::Instance(command))
}

fn factory(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    if request.method == Method::Post {
        return registration(&parse_body(&request.body)?, view).map(change);
    }
    let is_shown =
        |entry: &&InstanceEntry| instance_state::is_shown(entry, &request.principal, view);
    let instances = || view.topology().instances().filter(is_shown);
    let links: Vec<String> = instances().map(|entry| format!("{LINK}/{}", entry.name)).collect();
    let mut body = json!({ "documentCount": links.len(), "documentLinks": links });
    if query::is_set(request, "expand")? {
        let documents: Map<String, Value> = instances()
            .map(|entry| (format!("{LINK}/{}", entry.name), instance_state::state(entry, view)))
            .collect();
        body["documents"] = documents.into();
    }
    Ok(Plan::Respond(Response::json(200, &body)))
}

fn registration(body: &Value, view: &View<'_>) -> Result<InstanceCommand, Problem> {
    let name = body["name"].as_str().ok_or_else(|| bad("'name' is needed: a text"))?;
    check_name(name)?;
    let nodes = nodes_for(name, &body["replicas"], view)?;
    let founders: Vec<ReplicaId> = nodes.iter().map(|(id, _)| *id).collect();
    let ports = (port(body, "receivePort")?, port(body, "sendPort")?);
    check_pair(ports.0, ports.1)?;
    let replicas: Vec<InstanceReplica> = (0..)
        .zip(nodes)
        .map(|(number, (_, node))| InstanceReplica {
            node,
            number,
            receive_port: ports.0.filter(|_| number == 0),
            send_port: ports.1.filter(|_| number == 0),
            upgrade_version: None,
        })
        .collect();
    if let Some(first) = replicas.first() {
        check_ports(first, view)?;
    }
    check_registration(&built_in(name, Version::New, body)?)?;
    let options = change_options(InstanceOptions::default(), body)?;
    Ok(InstanceCommand::Register { name: name.into(), founders, replicas, options })
}

/// A body without the built-in fields, which must say what is so.
fn built_in(name: &str, version: Version, body: &Value) -> Result<Value, Problem> {
    let link = format!("{LINK}/{name}");
    BuiltIn { of: "an instance", link: &link, kind: KIND, version }.take_out(body)
}

/// A program of AMBROSIA's needs both ports: with one of them nobody would ever listen.
fn check_pair(receive: Option<u16>, send: Option<u16>) -> Result<(), Problem> {
    if receive.is_some() == send.is_some() {
        return Ok(());
    }
    Err(bad("'receivePort' and 'sendPort' go together: one of them is missing"))
}

/// Refuses a port that the node of that replica uses itself. The directory refuses the ports of
/// other instances.
fn check_ports(replica: &InstanceReplica, view: &View<'_>) -> Result<(), Problem> {
    let node = &replica.node;
    let member = view.topology().members().values().find(|member| member.node_id == *node);
    let uri = member.map_or("", |member| member.uri.as_str());
    let port = uri.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    match port {
        Some(port) if [replica.receive_port, replica.send_port].contains(&Some(port)) => {
            let why = format!(
                "port {port} on node '{node}' is the node's own, it answers at {uri}: give another"
            );
            Err(Problem::new(Code::Refused, why))
        }
        _ => Ok(()),
    }
}

/// All nodes, with what decides where replicas are placed.
fn node_loads(view: &View<'_>) -> Vec<NodeLoad> {
    let load = |(id, member): (&ReplicaId, &Member)| NodeLoad {
        id: *id,
        node: member.node_id.clone(),
        up: view.is_up(*id),
        replicas: view.topology().replicas_on(&member.node_id),
    };
    view.topology().members().iter().map(load).collect()
}

/// The nodes of an instance that is already registered with that many replicas. The same
/// registration again is no change, whichever nodes would be chosen today.
fn nodes_of(
    name: &str,
    wanted: Option<usize>,
    view: &View<'_>,
) -> Option<Vec<(ReplicaId, String)>> {
    let nodes = view.topology().instance(name)?.replicas.iter().map(|replica| &replica.node);
    let found: Option<Vec<_>> =
        nodes.map(|node| Some((view.topology().replica_of_node(node)?, node.clone()))).collect();
    found.filter(|found| wanted.is_none_or(|wanted| wanted == found.len()))
}

/// The nodes of a new instance: those named, or a number of them, or as many as is usual.
fn nodes_for(
    name: &str,
    wanted: &Value,
    view: &View<'_>,
) -> Result<Vec<(ReplicaId, String)>, Problem> {
    let most = view.topology().size().min(REPLICAS_MAX);
    let count = match wanted {
        Value::Null => REPLICAS_USUAL.min(view.topology().size()),
        Value::Number(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| {
                bad(&format!("'replicas' may be 1 to {most} here, or a list of nodes"))
            })?,
        Value::Array(nodes) => return named_nodes(nodes, view),
        _ => return Err(bad("'replicas' is a number or a list of nodes")),
    };
    let asked = Some(count).filter(|_| !wanted.is_null());
    let known = nodes_of(name, asked, view);
    Ok(known.unwrap_or_else(|| choose_nodes(node_loads(view), count)))
}

fn named_nodes(nodes: &[Value], view: &View<'_>) -> Result<Vec<(ReplicaId, String)>, Problem> {
    let mut found = Vec::new();
    for node in nodes {
        let name = node.as_str().ok_or_else(|| no_such_node(node, view))?;
        let id = view.topology().replica_of_node(name).ok_or_else(|| no_such_node(node, view))?;
        let one = (id, name.to_owned());
        if found.contains(&one) {
            return Err(bad(&format!("node {node} is named twice in 'replicas'")));
        }
        found.push(one);
    }
    if found.is_empty() || found.len() > REPLICAS_MAX {
        return Err(bad(&format!("'replicas' must name 1 to {REPLICAS_MAX} nodes")));
    }
    Ok(found)
}

fn no_such_node(node: &Value, view: &View<'_>) -> Problem {
    let members = view.topology().members().values();
    let names: Vec<&str> = members.map(|member| member.node_id.as_str()).collect();
    bad(&format!("there is no node {node}; there are {}", names.join(", ")))
}

fn document(request: &Request, name: &str, view: &View<'_>) -> Result<Plan, Problem> {
    let entry = find(name, view)?;
    let group = entry.group;
    match request.method {
        Method::Get if view.shard.has(group) || !view.may_have_owner(group) => {
            let state = instance_state::state(entry, view);
            Ok(Plan::Respond(Response::json(200, &state)))
        }
        Method::Get => Ok(Plan::Ask(group, Question::InstanceStatus)),
        Method::Delete if request.parameter("confirm").as_deref() != Some(name) => {
            Err(bad(&format!(
                "this would remove '{name}' with its log and its checkpoints, for good: say DELETE \
                 {LINK}/{name}?confirm={name} if that is meant"
            )))
        }
        Method::Delete => Ok(change(InstanceCommand::Deregister { name: name.into() })),
        _ => patch(entry, &parse_body(&request.body)?, view).map(change),
    }
}

/// The instance with that name.
///
/// # Errors
/// When there is none.
pub(super) fn find<'a>(name: &str, view: &View<'a>) -> Result<&'a InstanceEntry, Problem> {
    let unknown = || Problem::not_found(unknown_instance(name));
    view.topology().instance(name).ok_or_else(unknown)
}

/// `addReplica` and `removeReplica` change where the instance is, all other fields change its
/// options.
fn patch(entry: &InstanceEntry, body: &Value, view: &View<'_>) -> Result<InstanceCommand, Problem> {
    let name = entry.name.clone();
    let body = &built_in(&name, Version::At(entry.version), body)?;
    if let Some(added) = body.get("addReplica") {
        check_fields(body, "a PATCH with addReplica", &["addReplica"])?;
        return put_replica(entry, added, view);
    }
    if let Some(removed) = body.get("removeReplica") {
        check_fields(body, "a PATCH with removeReplica", &["removeReplica"])?;
        let node = removed.as_str().ok_or_else(|| bad("'removeReplica' is a node"))?;
        return Ok(InstanceCommand::RemoveReplica { name, node: node.into() });
    }
    check_fields(body, "a PATCH of an instance", &OPTIONS)?;
    let options = change_options(entry.options.clone(), body)?;
    if options.memory != entry.options.memory {
        return Err(bad("the durability of an instance is set when it is registered"));
    }
    Ok(InstanceCommand::SetOptions { name, version: entry.version, options })
}

fn put_replica(
    entry: &InstanceEntry,
    added: &Value,
    view: &View<'_>,
) -> Result<InstanceCommand, Problem> {
    const KNOWN: [&str; 5] = ["node", "replicaNumber", "receivePort", "sendPort", "upgradeVersion"];
    if !added.is_object() {
        return Err(bad(&format!("'addReplica' is an object, not {added}")));
    }
    check_fields(added, "addReplica", &KNOWN)?;
    let number = number(added, "replicaNumber")?;
    let there = |node: &str| entry.replicas.iter().find(|replica| replica.node == node);
    let of_number =
        number.and_then(|number| entry.replicas.iter().find(|known| known.number == number));
    if !added["node"].is_null() && !added["node"].is_string() {
        return Err(no_such_node(&added["node"], view));
    }
    let node = match (added["node"].as_str(), of_number) {
        (Some(node), _) => node.to_owned(),
        (None, Some(known)) => known.node.clone(),
        (None, None) => {
            let mut free = node_loads(view);
            free.retain(|load| there(&load.node).is_none());
            let chosen = choose_nodes(free, 1).into_iter().next();
            chosen.ok_or_else(|| bad("every node has a replica of it already"))?.1
        }
    };
    if view.topology().replica_of_node(&node).is_none() {
        return Err(no_such_node(&json!(node), view));
    }
    let known = there(&node);
    let free = || (0..).find(|n| !entry.replicas.iter().any(|r| r.number == *n)).unwrap_or(0);
    let number = number.or(known.map(|known| known.number)).unwrap_or_else(free);
    let upgrade = super::options::number(added, "upgradeVersion")?;
    check_pair(
        port(added, "receivePort")?.or(known.and_then(|k| k.receive_port)),
        port(added, "sendPort")?.or(known.and_then(|k| k.send_port)),
    )?;
    let replica = InstanceReplica {
        number,
        receive_port: port(added, "receivePort")?.or(known.and_then(|k| k.receive_port)),
        send_port: port(added, "sendPort")?.or(known.and_then(|k| k.send_port)),
        upgrade_version: upgrade.or(known.and_then(|known| known.upgrade_version)),
        node,
    };
    // For a replica that is there already only new ports are checked. Otherwise nothing else of it
    // could be changed.
    let has_new_ports = known.is_none_or(|it| {
        (it.receive_port, it.send_port) != (replica.receive_port, replica.send_port)
    });
    if has_new_ports {
        check_ports(&replica, view)?;
    }
    Ok(InstanceCommand::PutReplica { name: entry.name.clone(), replica })
}

/// What is asked of the owner: `checkpoint`, `move`, `skip`, `release`, `impulses`.
fn ask(request: &Request, name: &str, verb: &str, view: &View<'_>) -> Result<Plan, Problem> {
    let entry = find(name, view)?;
    let group = entry.group;
    if verb == "explain" {
        let is_owned_here = view.owner_of(group) == Some(view.me());
        let is_known_here = is_owned_here || !view.may_have_owner(group);
        return Ok(match super::explain::instance(group, view) {
            Some(answer) if is_known_here => Plan::Respond(answer),
            _ => Plan::Ask(group, Question::InstanceExplained),
        });
    }
    if verb == "recording" {
        let (group, page) = recording(request, entry, view)?;
        return Ok(Plan::Record(group, page));
    }
    if verb == "impulses" {
        return Ok(Plan::Ask(group, Question::Instance(impulse(request)?)));
    }
    let body = if request.body.is_empty() { json!({}) } else { parse_body(&request.body)? };
    let known: &[&str] = match verb {
        "skip" => &["input"],
        "move" => &["node"],
        _ => &[],
    };
    check_fields(&body, &format!("the body of {verb}"), known)?;
    let asked = match verb {
        "checkpoint" => immortals::Request::Checkpoint,
        "release" => return Ok(Plan::Release(group)),
        "skip" => {
            let input = number(&body, "input")?.ok_or_else(|| bad("'input' is needed"))?;
            immortals::Request::Skip { input }
        }
        "move" => {
            let node = body["node"].as_str().ok_or_else(|| bad("'node' is needed"))?;
            let to = view.topology().replica_of_node(node);
            let to = to.ok_or_else(|| no_such_node(&body["node"], view))?;
            immortals::Request::Move { to }
        }
        _ => {
            return Err(Problem::not_found(format!(
                "an instance has checkpoint, move, skip, release, impulses and recording, not \
                 '{verb}'"
            )));
        }
    };
    Ok(Plan::Ask(group, Question::Instance(asked)))
}

/// What the client calls its impulse, if it does.
fn impulse_key(request: &Request) -> Option<ImpulseKey> {
    let key = request.idempotency_key.as_ref()?;
    let own = RequestKey::owned_by(key, &request.principal, request.source().is_some());
    let hash = hash_parts([own.as_bytes()]);
    let user = request.principal.user().map(|user| user.as_bytes());
    let digest = hash_parts([&request.body[..]].into_iter().chain(user));
    Some(ImpulseKey { hash, digest })
}

/// An impulse from outside. Its payload is the very text that was sent, since a number that is
/// parsed and written again may become another number. Without a payload nothing is sent; a payload
/// of null is the text `null`.
fn impulse(request: &Request) -> Result<immortals::Request, Problem> {
    const KNOWN: [&str; 3] = ["method", "payload", "from"];
    let Fields(fields) = serde_json::from_slice(&request.body)
        .map_err(|error| bad(&format!("the body is not a JSON object: {error}")))?;
    if let Some(unknown) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let known = KNOWN.join(", ");
        return Err(bad(&format!("an impulse has no field '{unknown}'; it has {known}")));
    }
    let text = |name: &str| fields.get(name).map(|raw| raw.get());
    let said = |name: &str| text(name).filter(|text| *text != "null");
    let method = said("method").and_then(|text| serde_json::from_str(text).ok());
    let method = method.ok_or_else(|| bad("'method' is a number"))?;
    let from = match said("from") {
        None => "rest".to_owned(),
        Some(text) => {
            serde_json::from_str(text).map_err(|_| bad(&format!("'from' is a text, not {text}")))?
        }
    };
    let payload = text("payload").map_or(Bytes::new(), |text| Bytes::from(text.to_owned()));
    let key = impulse_key(request);
    Ok(immortals::Request::Impulse { from, method, payload, key })
}

/// The fields of an object with their text, each of them once.
struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, &RawValue>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("the field '{name}' is there twice")));
            }
            fields.insert(name, text);
        }
        Ok(Fields(fields))
    }
}

/// # Errors
/// What is wrong with the request.
fn recording(
    request: &Request,
    entry: &InstanceEntry,
    view: &View<'_>,
) -> Result<(GroupId, recordings::Page), Problem> {
    let page = recordings::Page::of(request)?;
    let name = &entry.name;
    if !view.shard.has(entry.group) {
        let nodes: Vec<&str> = entry.replicas.iter().map(|r| r.node.as_str()).collect();
        return Err(recordings::refused(format!(
            "node '{}' has no replica of '{name}'; ask one of these: {}",
            view.config.node_id,
            nodes.join(", ")
        )));
    }
    Ok((entry.group, page))
}

/// What the owner of an instance has said, as an answer.
pub(crate) fn response_of(group: GroupId, told: immortals::Response, view: &View<'_>) -> Response {
    match told {
        immortals::Response::Done { input } => Response::json(200, &json!({ "input": input })),
        immortals::Response::Refused(why) => {
            let text = format!("{}: {why}", view.name_of(group));
            Problem::new(Code::Refused, text).with_outcome(Outcome::NotApplied).into()
        }
        immortals::Response::NotNow(why) => {
            let text = format!("{}: {why}", view.name_of(group));
            Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied).into()
        }
        immortals::Response::KeyReused => {
            let text = format!(
                "{}: its Idempotency-Key was used for another impulse; a key is for one impulse \
                 and its repetitions: use a new one",
                view.name_of(group)
            );
            Problem::new(Code::KeyReused, text).with_outcome(Outcome::NotApplied).into()
        }
        immortals::Response::NotOwner => Problem::internal("an owner that is none").into(),
        immortals::Response::Unknown => {
            let name = view.name_of(group);
            let text = format!(
                "{name} got another owner while this was on its way into the log: it may have \
                 happened"
            );
            Problem::new(Code::NoOwner, text).with_outcome(Outcome::Unknown).into()
        }
    }
}
