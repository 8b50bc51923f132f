//! `/core/immortals`: instances of immortals as documents. They are registered, seen and changed
//! here; their data goes another way.

use std::collections::BTreeMap;

use protocol::{Code, GroupId, Method, Outcome, Problem, ReplicaId, Request, Response};
use serde_json::{Map, Value, json};

use immortals::ReplicaStatus;

use crate::client::{only, parse_body};
use crate::directory::{DirectoryCommand, Member};
use crate::edge::Purpose;
use crate::frame::{Question, Told};
use crate::node::Node;
use crate::office::Origin;
use crate::placement::{self, Seat};
use crate::registry::{
    InstanceEntry, InstanceOptions, InstanceReplica, REPLICAS_MAX, RegistryCommand, unknown,
};

/// The factory of instances.
pub(crate) const LINK: &str = "/core/immortals";

const KIND: &str = "amrita:ImmortalState";

/// How many replicas a new instance has, when nothing is said and there are so many nodes.
const REPLICAS_USUAL: usize = 3;

impl Node {
    /// # Errors
    /// What is wrong with the request.
    pub(crate) fn immortal_path(
        &mut self,
        purpose: &Purpose,
        request: &Request,
    ) -> Result<(), Problem> {
        let rest = request.path.strip_prefix(LINK).unwrap_or_default();
        let mut parts = rest.split('/').skip(1);
        let answer = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => self.immortal_factory(purpose, request),
            (Some(name), None, _) => self.immortal_document(purpose, request, name),
            (Some(name), Some(verb), None) => self.immortal_verb(purpose, request, name, verb),
            _ => Err(Problem::not_found(format!("there is nothing at {}", request.path))),
        };
        answer.map_err(|problem| {
            let undecided = problem.outcome.is_none() && request.method.is_write();
            if undecided { problem.with_outcome(Outcome::NotApplied) } else { problem }
        })
    }

    fn immortal_factory(&mut self, purpose: &Purpose, request: &Request) -> Result<(), Problem> {
        only(request, &[Method::Get, Method::Post])?;
        if request.method == Method::Post {
            let body = parse_body(&request.body)?;
            let command = self.registration(&body)?;
            self.direct(purpose.clone(), &DirectoryCommand::Immortal(command));
            return Ok(());
        }
        let names: Vec<String> = self.map.registry.instances.keys().cloned().collect();
        let links: Vec<String> = names.iter().map(|name| format!("{LINK}/{name}")).collect();
        let mut body = json!({ "documentCount": links.len(), "documentLinks": links });
        if request.parameter("expand").is_some() {
            let documents: Map<String, Value> = names
                .iter()
                .filter_map(|name| Some((format!("{LINK}/{name}"), self.immortal_state(name)?)))
                .collect();
            body["documents"] = documents.into();
        }
        self.finish(purpose, Told::Response(Response::json(200, &body)));
        Ok(())
    }

    fn registration(&self, body: &Value) -> Result<RegistryCommand, Problem> {
        let name = body["name"].as_str().ok_or_else(|| bad("'name' is needed: a text"))?;
        check_name(name)?;
        let nodes = self.nodes_for(name, &body["replicas"])?;
        let founders: Vec<ReplicaId> = nodes.iter().map(|(id, _)| *id).collect();
        let ports = (port(body, "receivePort")?, port(body, "sendPort")?);
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
            self.check_ports(first)?;
        }
        let options = change_options(InstanceOptions::default(), body)?;
        Ok(RegistryCommand::Register { name: name.into(), founders, replicas, options })
    }

    /// Refuses a port at which the node of that replica answers itself. Those of other instances the
    /// registry refuses.
    fn check_ports(&self, replica: &InstanceReplica) -> Result<(), Problem> {
        let member = self.map.members.values().find(|member| member.node_id == replica.node);
        let uri = member.map_or("", |member| member.uri.as_str());
        let port = uri.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        match port {
            Some(port) if [replica.receive_port, replica.send_port].contains(&Some(port)) => {
                let node = &replica.node;
                let why = format!(
                    "port {port} on node '{node}' is the node's own, it answers at {uri}: give another"
                );
                Err(Problem::new(Code::Refused, why))
            }
            _ => Ok(()),
        }
    }

    /// All nodes, with what counts when replicas are placed.
    fn seats(&self) -> Vec<Seat> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for replica in self.map.registry.instances.values().flat_map(|entry| &entry.replicas) {
            *counts.entry(&replica.node).or_default() += 1;
        }
        let members = self.map.members.iter();
        let seat = |(id, member): (&ReplicaId, &Member)| Seat {
            id: *id,
            node: member.node_id.clone(),
            up: self.is_up(*id),
            replicas: counts.get(member.node_id.as_str()).copied().unwrap_or_default(),
        };
        members.map(seat).collect()
    }

    /// Where an instance is that is registered with so many replicas already: the same again is no
    /// change, whatever would be chosen today.
    fn nodes_of(&self, name: &str, wanted: Option<usize>) -> Option<Vec<(ReplicaId, String)>> {
        let entry = self.map.registry.instances.get(name)?;
        let nodes = entry.replicas.iter().map(|replica| &replica.node);
        let member = |node: &String| self.map.members.iter().find(|(_, m)| m.node_id == *node);
        let found: Option<Vec<_>> =
            nodes.map(|node| member(node).map(|(id, _)| (*id, node.clone()))).collect();
        found.filter(|found| wanted.is_none_or(|wanted| wanted == found.len()))
    }

    /// The nodes of a new instance: those named, or so many, or as many as is usual.
    fn nodes_for(&self, name: &str, wanted: &Value) -> Result<Vec<(ReplicaId, String)>, Problem> {
        let members = || self.map.members.iter().map(|(id, m)| (*id, m.node_id.clone()));
        let count = match wanted {
            Value::Null => REPLICAS_USUAL.min(self.map.members.len()),
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=self.map.members.len().min(REPLICAS_MAX)).contains(number))
                .ok_or_else(|| {
                    bad(&format!(
                        "'replicas' may be 1 to {} here, or a list of nodes",
                        self.map.members.len().min(REPLICAS_MAX)
                    ))
                })?,
            Value::Array(nodes) => {
                let mut found = Vec::new();
                for node in nodes {
                    let one = members().find(|(_, name)| Some(name.as_str()) == node.as_str());
                    let one = one.ok_or_else(|| self.no_such_node(node))?;
                    if found.contains(&one) {
                        return Err(bad(&format!("node {node} is named twice in 'replicas'")));
                    }
                    found.push(one);
                }
                if found.is_empty() || found.len() > REPLICAS_MAX {
                    return Err(bad(&format!("'replicas' must name 1 to {REPLICAS_MAX} nodes")));
                }
                return Ok(found);
            }
            _ => return Err(bad("'replicas' is a number or a list of nodes")),
        };
        let asked = Some(count).filter(|_| !wanted.is_null());
        Ok(self.nodes_of(name, asked).unwrap_or_else(|| placement::seats(self.seats(), count)))
    }

    fn no_such_node(&self, node: &Value) -> Problem {
        let names: Vec<&str> = self.map.members.values().map(|m| m.node_id.as_str()).collect();
        bad(&format!("there is no node {node}; there are {}", names.join(", ")))
    }

    fn immortal_document(
        &mut self,
        purpose: &Purpose,
        request: &Request,
        name: &str,
    ) -> Result<(), Problem> {
        only(request, &[Method::Get, Method::Patch, Method::Delete])?;
        let entry = self.immortal_entry(name)?;
        let group = entry.group;
        match request.method {
            Method::Get if self.replicas.contains_key(&group) || !self.may_have_owner(group) => {
                let state = self.immortal_state(name).expect("it is registered");
                self.finish(purpose, Told::Response(Response::json(200, &state)));
            }
            Method::Get => self.submit(purpose.clone(), group, Question::ImmortalStatus),
            Method::Delete => {
                if request.parameter("confirm").as_deref() != Some(name) {
                    return Err(bad(&format!(
                        "this would remove '{name}' with its log and its checkpoints, for good: say \
                         DELETE {LINK}/{name}?confirm={name} if that is meant"
                    )));
                }
                let command = RegistryCommand::Deregister { name: name.into() };
                self.direct(purpose.clone(), &DirectoryCommand::Immortal(command));
            }
            _ => {
                let body = parse_body(&request.body)?;
                let command = self.immortal_patch(name, &body)?;
                self.direct(purpose.clone(), &DirectoryCommand::Immortal(command));
            }
        }
        Ok(())
    }

    fn immortal_entry(&self, name: &str) -> Result<&InstanceEntry, Problem> {
        self.map.registry.instances.get(name).ok_or_else(|| {
            if self.knows_the_directory() {
                return Problem::not_found(unknown(name));
            }
            let text = format!(
                "node '{}' does not know yet which instances there are",
                self.config.node_id
            );
            Problem::new(Code::NoOwner, text)
        })
    }

    /// `addReplica` and `removeReplica` change where it is, everything else its options.
    fn immortal_patch(&self, name: &str, body: &Value) -> Result<RegistryCommand, Problem> {
        let entry = self.immortal_entry(name)?;
        if let Some(added) = body.get("addReplica") {
            return self.put_replica(name, entry, added);
        }
        if let Some(removed) = body.get("removeReplica") {
            let node = removed.as_str().ok_or_else(|| bad("'removeReplica' is a node"))?;
            return Ok(RegistryCommand::RemoveReplica { name: name.into(), node: node.into() });
        }
        let options = change_options(entry.options.clone(), body)?;
        if options.memory != entry.options.memory {
            return Err(bad("the durability of an instance is set when it is registered"));
        }
        Ok(RegistryCommand::SetOptions { name: name.into(), version: entry.version, options })
    }

    fn put_replica(
        &self,
        name: &str,
        entry: &InstanceEntry,
        added: &Value,
    ) -> Result<RegistryCommand, Problem> {
        let number = number(added, "replicaNumber")?;
        let there = |node: &str| entry.replicas.iter().find(|replica| replica.node == node);
        let of_number =
            number.and_then(|number| entry.replicas.iter().find(|known| known.number == number));
        let node = match (added["node"].as_str(), of_number) {
            (Some(node), _) => node.to_owned(),
            (None, Some(known)) => known.node.clone(),
            (None, None) => {
                let mut free = self.seats();
                free.retain(|seat| there(&seat.node).is_none());
                let chosen = placement::seats(free, 1).into_iter().next();
                chosen.ok_or_else(|| bad("every node has a replica of it already"))?.1
            }
        };
        if !self.map.members.values().any(|member| member.node_id == node) {
            return Err(self.no_such_node(&json!(node)));
        }
        let known = there(&node);
        let free = || (0..).find(|n| !entry.replicas.iter().any(|r| r.number == *n)).unwrap_or(0);
        let number = number.or(known.map(|known| known.number)).unwrap_or_else(free);
        let upgrade = self::number(added, "upgradeVersion")?;
        let replica = InstanceReplica {
            number,
            receive_port: port(added, "receivePort")?.or(known.and_then(|k| k.receive_port)),
            send_port: port(added, "sendPort")?.or(known.and_then(|k| k.send_port)),
            upgrade_version: upgrade.or(known.and_then(|known| known.upgrade_version)),
            node,
        };
        // Of one that is there only new ports are looked at: else nothing of it could be changed.
        if known.is_none_or(|it| {
            (it.receive_port, it.send_port) != (replica.receive_port, replica.send_port)
        }) {
            self.check_ports(&replica)?;
        }
        Ok(RegistryCommand::PutReplica { name: name.into(), replica })
    }

    /// What is asked of the owner: `checkpoint`, `move`, `skip`, `release`, `impulses`.
    fn immortal_verb(
        &mut self,
        purpose: &Purpose,
        request: &Request,
        name: &str,
        verb: &str,
    ) -> Result<(), Problem> {
        let group = self.immortal_entry(name)?.group;
        if verb == "recording" {
            return self.immortal_recording(purpose, request, (name, group));
        }
        only(request, &[Method::Post])?;
        let body = if request.body.is_empty() { json!({}) } else { parse_body(&request.body)? };
        let ask = match verb {
            "checkpoint" => immortals::Request::Checkpoint,
            "release" => return self.release(purpose, group),
            "skip" => {
                let input = number(&body, "input")?.ok_or_else(|| bad("'input' is needed"))?;
                immortals::Request::Skip { input }
            }
            "move" => {
                let node = body["node"].as_str().ok_or_else(|| bad("'node' is needed"))?;
                let members = self.map.members.iter();
                let to = members.filter(|(_, m)| m.node_id == node).map(|(id, _)| *id).next();
                immortals::Request::Move { to: to.ok_or_else(|| self.no_such_node(&body["node"]))? }
            }
            "impulses" => {
                let method = body["method"].as_i64().ok_or_else(|| bad("'method' is a number"))?;
                let payload = match &body["payload"] {
                    Value::Null => Vec::new(),
                    value => serde_json::to_vec(value).expect("a value is JSON"),
                };
                let from = body["from"].as_str().unwrap_or("rest").to_owned();
                immortals::Request::Impulse { from, method, payload: payload.into() }
            }
            _ => {
                return Err(Problem::not_found(format!(
                    "an instance has checkpoint, move, skip, release, impulses and recording, not \
                     '{verb}'"
                )));
            }
        };
        self.submit(purpose.clone(), group, Question::Immortal(ask));
        Ok(())
    }

    /// Each replica holds back its own program, so all are told; the owner answers.
    fn release(&mut self, purpose: &Purpose, group: GroupId) -> Result<(), Problem> {
        for replica in self.line_of(group) {
            let message = immortals::Peer::Release;
            if Some(replica) == self.me {
                self.peer_said(replica, group, message);
            } else {
                let frame = crate::frame::Frame::Peer { group, message: Box::new(message) };
                self.outbox.send(replica, frame);
            }
        }
        self.finish(purpose, Told::Response(Response::json(200, &json!({}))));
        Ok(())
    }

    pub(crate) fn asked_response(&self, group: GroupId, told: immortals::Response) -> Response {
        match told {
            immortals::Response::Done { input } => Response::json(200, &json!({ "input": input })),
            immortals::Response::Refused(why) => {
                let text = format!("{}: {why}", self.name_of_instance(group));
                Problem::new(Code::Refused, text).with_outcome(Outcome::NotApplied).into()
            }
            immortals::Response::NotOwner => Problem::internal("an owner that is none").into(),
            immortals::Response::Unknown => {
                let name = self.name_of_instance(group);
                let text = format!(
                    "{name} got another owner while this was on its way into the log: it may have \
                     happened"
                );
                Problem::new(Code::NoOwner, text).with_outcome(Outcome::Unknown).into()
            }
        }
    }

    /// What a change of an instance is answered with: how it is now.
    pub(crate) fn changed_instance(&self, name: &str) -> Response {
        let gone = || json!({ "name": name, "documentSelfLink": format!("{LINK}/{name}") });
        Response::json(200, &self.immortal_state(name).unwrap_or_else(gone))
    }

    pub(crate) fn ask_status(&mut self, group: GroupId, origin: Origin) {
        let name = self.map.registry.of_group(group).map(|(name, _)| name.clone());
        let state = name.and_then(|name| self.immortal_state(&name));
        let answer = match state {
            Some(state) => Response::json(200, &state),
            None => Problem::not_found("it is not registered any more").into(),
        };
        self.reply(origin, Told::Response(answer));
    }

    /// Whoever said last that it owns it. A node without a replica hears of no election, so it goes by
    /// whether that one is up.
    fn owner_as_seen(&self, group: GroupId) -> Option<ReplicaId> {
        let known = self.owner_of_instance(group);
        known.filter(|owner| self.replicas.contains_key(&group) || self.is_up(*owner))
    }

    /// Whether it is worth to wait for word of an owner: one is there, or so many replicas are that
    /// there could be one soon.
    fn may_have_owner(&self, group: GroupId) -> bool {
        let line = self.line_of(group);
        let up = line.iter().filter(|id| self.is_up(**id)).count();
        up > line.len() / 2 || self.owner_as_seen(group).is_some()
    }

    /// What the directory alone says of an instance whose owner has not told how it is.
    pub(crate) fn known_without_owner(&self, group: GroupId) -> Option<Response> {
        let (name, _) = self.map.registry.of_group(group)?;
        Some(Response::json(200, &self.immortal_state(name)?))
    }

    /// Why an instance has no owner, and which nodes would give it one.
    pub(crate) fn why_no_owner(&self, group: GroupId) -> String {
        let line = self.line_of(group);
        let (all, majority) = (line.len(), line.len() / 2 + 1);
        let away: Vec<&str> = line
            .iter()
            .filter(|id| !self.is_up(**id))
            .filter_map(|id| self.map.members.get(id))
            .map(|member| member.node_id.as_str())
            .collect();
        let name = self.name_of_instance(group);
        let up = all - away.len();
        let start = if up >= majority {
            "It should have one in a moment: try again".to_owned()
        } else {
            let some = if majority - up < away.len() {
                format!("{} of the nodes", majority - up)
            } else {
                format!("the node{}", if away.len() == 1 { "" } else { "s" })
            };
            format!("Start {some} {}, then try again", away.join(", "))
        };
        format!(
            "{name} has no owner: {up} of its {all} replicas are on nodes that are up as seen from here, \
             and a majority ({majority}) is needed. {start}"
        )
    }

    /// An instance as a document.
    fn immortal_state(&self, name: &str) -> Option<Value> {
        let entry = self.map.registry.instances.get(name)?;
        let options = &entry.options;
        let owner = self.owner_as_seen(entry.group);
        let replicas: Vec<Value> = entry
            .replicas
            .iter()
            .map(|replica| self.replica_state(entry, replica, owner))
            .collect();
        let mut state = json!({
            "name": name,
            "owner": owner.and_then(|id| self.map.node_id(id)),
            "replicas": replicas,
            "group": entry.group.0,
            "logTriggerBytes": options.checkpoint_bytes,
            "recoveryTargetMillis": options.recovery_micros / 1_000,
            "programTimeoutMillis": options.program_timeout_micros / 1_000,
            "divergenceAlarm": options.divergence_alarm,
            "currentVersion": options.current_version,
            "upgradeVersion": options.upgrade_version,
            "activeActive": options.active_active,
            "paused": options.paused,
            "durability": if options.memory { "memory" } else { "disk" },
            "documentSelfLink": format!("{LINK}/{name}"),
            "documentKind": KIND,
            "documentVersion": entry.version,
        });
        if owner.is_none() {
            state["missing"] = json!(self.why_no_owner(entry.group));
        }
        if let Some(instance) = self.instance(entry.group) {
            state["inputs"] = json!(instance.inputs());
            state["upgradeGivenUp"] = json!(instance.has_given_up_the_upgrade());
            state["waitsFor"] = json!(instance.waits_for());
            let outputs = instance.destinations();
            let outputs = outputs.iter().map(|outgo| {
                json!({
                    "to": outgo.to,
                    "said": outgo.sent,
                    "confirmed": outgo.confirmed,
                    "keptBytes": outgo.kept_bytes,
                    "onDiskBytes": outgo.on_disk_bytes,
                    "registered": self.map.registry.instances.contains_key(&outgo.to),
                })
            });
            state["outputs"] = outputs.collect();
            let senders = instance.senders().filter_map(|(group, last)| {
                Some(json!({ "from": self.map.registry.of_group(group)?.0, "received": last }))
            });
            state["senders"] = senders.collect();
        }
        Some(state)
    }

    fn replica_state(
        &self,
        entry: &InstanceEntry,
        replica: &InstanceReplica,
        owner: Option<ReplicaId>,
    ) -> Value {
        let members = self.map.members.iter();
        let id = members.filter(|(_, m)| m.node_id == replica.node).map(|(id, _)| *id).next();
        let instance = self.instance(entry.group);
        let status = match (id, instance) {
            (Some(id), Some(instance)) if Some(id) == self.me => Some(instance.status()),
            (Some(id), Some(instance)) => {
                instance.others().find(|(other, _)| *other == id).map(|(_, s)| s.clone())
            }
            _ => None,
        };
        let is_owner = owner.is_some() && owner == id;
        let mut state = json!({
            "node": replica.node,
            "replicaNumber": replica.number,
            "receivePort": replica.receive_port,
            "sendPort": replica.send_port,
            "up": id.is_some_and(|id| self.is_up(id)),
            "role": role(is_owner, status.as_ref()),
        });
        if let Some(version) = replica.upgrade_version {
            state["upgradeVersion"] = json!(version);
        }
        if let Some(status) = status {
            describe(&mut state, &status, instance.map_or(0, immortals::Instance::inputs));
        }
        state
    }
}

fn role(is_owner: bool, status: Option<&ReplicaStatus>) -> &'static str {
    match status {
        Some(status) if status.diverged.is_some() => "DIVERGED",
        Some(status) if status.held.is_some() => "HELD",
        Some(status) if !status.attached => "WAITING",
        Some(status) if is_owner && status.caught_up => "PRIMARY",
        Some(status) if status.caught_up => "STANDBY",
        Some(_) => "RECOVERING",
        None => "UNKNOWN",
    }
}

fn describe(state: &mut Value, status: &ReplicaStatus, inputs: u64) {
    state["attached"] = json!(status.attached);
    state["done"] = json!(status.done);
    state["lag"] = json!(inputs.max(status.inputs).saturating_sub(status.done));
    state["programVersion"] = json!(status.program_version);
    state["checkpoint"] = json!({ "input": status.base_input, "bytes": status.checkpoint_bytes });
    state["logBytes"] = json!(status.log_bytes);
    if let Some(held) = &status.held {
        state["held"] = json!({ "input": held.input, "tries": held.tries, "text": held.text,
                                "message": held.message });
    }
    if let Some(diverged) = &status.diverged {
        state["diverged"] = json!({ "input": diverged.input, "after": diverged.after,
                                    "expected": diverged.expected, "found": diverged.found });
    }
}

fn bad(text: &str) -> Problem {
    Problem::new(Code::BadBody, text)
}

fn check_name(name: &str) -> Result<(), Problem> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > immortals::NAME_BYTES_MAX || !name.chars().all(good) {
        return Err(bad(&format!(
            "an instance's name has 1 to {} letters, digits, '-', '_' and '.', not '{name}'",
            immortals::NAME_BYTES_MAX
        )));
    }
    Ok(())
}

fn number(body: &Value, field: &str) -> Result<Option<u64>, Problem> {
    match &body[field] {
        Value::Null => Ok(None),
        value => {
            let found = value.as_u64();
            found
                .map(Some)
                .ok_or_else(|| bad(&format!("'{field}' is a number from 0, not {value}")))
        }
    }
}

fn port(body: &Value, field: &str) -> Result<Option<u16>, Problem> {
    let Some(found) = number(body, field)? else { return Ok(None) };
    let port = u16::try_from(found).ok().filter(|port| *port > 0);
    port.map(Some).ok_or_else(|| bad(&format!("'{field}' is a port, 1 to 65535, not {found}")))
}

fn flag(body: &Value, field: &str, into: &mut bool) -> Result<(), Problem> {
    match &body[field] {
        Value::Null => Ok(()),
        Value::Bool(found) => {
            *into = *found;
            Ok(())
        }
        other => Err(bad(&format!("'{field}' is true or false, not {other}"))),
    }
}

/// All fields that an instance's body may have beside its name and its replicas.
const OPTIONS: [&str; 9] = [
    "logTriggerBytes",
    "recoveryTargetMillis",
    "programTimeoutMillis",
    "divergenceAlarm",
    "currentVersion",
    "upgradeVersion",
    "activeActive",
    "paused",
    "durability",
];

fn change_options(mut options: InstanceOptions, body: &Value) -> Result<InstanceOptions, Problem> {
    const OTHERS: [&str; 4] = ["name", "replicas", "receivePort", "sendPort"];
    let fields = body.as_object().into_iter().flat_map(Map::keys);
    let known = |field: &str| {
        OPTIONS.contains(&field) || OTHERS.contains(&field) || field.starts_with("document")
    };
    if let Some(unknown) = fields.into_iter().find(|field| !known(field)) {
        return Err(bad(&format!(
            "'{unknown}' is none of {}, {}, addReplica, removeReplica",
            OTHERS.join(", "),
            OPTIONS.join(", ")
        )));
    }
    if let Some(bytes) = number(body, "logTriggerBytes")? {
        options.checkpoint_bytes = bytes;
    }
    if let Some(millis) = number(body, "recoveryTargetMillis")? {
        options.recovery_micros = millis.saturating_mul(1_000);
    }
    if let Some(millis) = number(body, "programTimeoutMillis")? {
        if millis < 50 {
            return Err(bad("'programTimeoutMillis' is at least 50"));
        }
        options.program_timeout_micros = millis.saturating_mul(1_000);
    }
    if let Some(version) = number(body, "currentVersion")? {
        options.current_version = version;
    }
    if let Some(version) = number(body, "upgradeVersion")? {
        options.upgrade_version = Some(version);
        options.upgrade_wish += 1;
    }
    flag(body, "divergenceAlarm", &mut options.divergence_alarm)?;
    flag(body, "activeActive", &mut options.active_active)?;
    flag(body, "paused", &mut options.paused)?;
    match &body["durability"] {
        Value::Null => {}
        Value::String(text) if text == "disk" => options.memory = false,
        Value::String(text) if text == "memory" => options.memory = true,
        other => return Err(bad(&format!("'durability' is \"disk\" or \"memory\", not {other}"))),
    }
    Ok(options)
}
