//! `/core/ambrosia`: what is registered, in the places where AMBROSIA's bindings look for it.
//!
//! AMBROSIA keeps its registrations in an account of cloud storage, and its JavaScript binding
//! reads them there before it connects to its coordinator, whatever its configuration says. A node
//! answers those few questions (a blob with the parameters of a replica, rows of tables), so that a
//! program with this binding runs with the node's address as its account. Nothing can be written
//! here but the end of it: what a binding erases is deregistered.

use bytes::Bytes;
use cluster::{InstanceEntry, InstanceReplica, Topology};
use protocol::{EntityTags, Method, Problem, Request, Response};
use serde_json::{Value, json};

use super::instance_state;
use super::plan::Plan;
use crate::frame::Question;
use crate::view::View;

/// What the binding's libraries for cloud storage send with a question: which rows, which of their
/// properties, how many; how long they wait, and that a blob's folder is one. Blobs are not listed
/// here, so that what a listing takes is refused.
pub(super) const PARAMETERS: &[&str] = &["filter", "select", "top", "timeout", "restype"];

/// The address of the account, for blobs and for tables.
pub(crate) const LINK: &str = "/core/ambrosia";

/// Where the blobs with the parameters of replicas are.
const BLOBS: &str = "cra/AmbrosiaBinaries/";

/// The ends of connections that a registered instance has. A binding counts them.
const ENDS: [&str; 4] =
    ["Ambrosiacontrolin", "Ambrosiacontrolout", "Ambrosiadatain", "Ambrosiadataout"];

/// The tables of these ends, and of replicas.
const ENDPOINTS: &str = "craendpointtable";
const VERTICES: &str = "cravertextable";

/// # Errors
/// When there is no such replica, or what is to be deleted is not there.
pub(super) fn plan(request: &Request, rest: &str, view: &View<'_>) -> Result<Plan, Problem> {
    if request.method == Method::Delete {
        return delete(request, rest, view);
    }
    let top = top(request)?;
    let filter = asked_of_rows(request);
    // The version that an instance has come to is known where its replicas are.
    let is_shown =
        |entry: &InstanceEntry| instance_state::is_shown(entry, &request.principal, view);
    match about(rest, view.topology()) {
        Some(entry) if !is_shown(entry) => {
            Err(Problem::not_found(format!("there is nothing at {}", request.path)))
        }
        Some(entry) if !view.shard.has(entry.group) && view.may_have_owner(entry.group) => {
            Ok(Plan::Ask(entry.group, Question::Ambrosia { rest: rest.to_owned(), filter }))
        }
        _ => {
            let answer = answer_with(rest, &filter, &is_shown, view)?;
            Ok(Plan::Respond(first_rows(answer, top)))
        }
    }
}

/// How many rows are wanted at most. (An instance's own table, of which its owner may be asked, has
/// one.)
fn top(request: &Request) -> Result<Option<usize>, Problem> {
    let Some(text) = request.parameter("top") else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number > 0);
    let wrong = || Problem::bad_request(format!("$top is '{text}'; it is a number from 1"));
    number.map(Some).ok_or_else(wrong)
}

fn first_rows(answer: Response, top: Option<usize>) -> Response {
    let Some(top) = top else { return answer };
    let mut body = answer.to_json();
    let Some(rows) = body.get_mut("value").and_then(Value::as_array_mut) else { return answer };
    rows.truncate(top);
    Response::json(answer.status, &body)
}

/// Stands between a filter and the properties that are wanted.
const SELECT: &str = "\n$select=";

/// The filter of a question, and which properties of the rows are wanted, in one text.
fn asked_of_rows(request: &Request) -> String {
    let filter = request.parameter("filter").unwrap_or_default();
    let select = request.parameter("select").filter(|names| !names.trim().is_empty());
    format!("{filter}{}", select.map_or(String::new(), |names| format!("{SELECT}{names}")))
}

/// Leaves of each row the properties that are wanted.
fn selected(mut rows: Vec<Value>, names: Option<&str>) -> Vec<Value> {
    let Some(names) = names.filter(|names| *names != "*") else { return rows };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.retain(|name, _| names.contains(&name.as_str()));
    }
    rows
}

/// Erases what was registered: a replica, and with the last one that has ports the instance.
fn delete(request: &Request, rest: &str, view: &View<'_>) -> Result<Plan, Problem> {
    if request.conditions.if_match.as_ref().is_some_and(|tags| *tags != EntityTags::Any) {
        let text = format!("{} has no versions: leave If-Match out, or send *", request.path);
        return Err(Problem::bad_request(text));
    }
    let Some(blob) = rest.strip_prefix(BLOBS) else {
        // A binding deletes these beside the blob, in any order. They go with it.
        let is_part = ["Tables(", &format!("{ENDPOINTS}("), &format!("{VERTICES}(")];
        return match is_part.iter().any(|part| rest.starts_with(part)) {
            true => Ok(Plan::Respond(Response::bytes(204, Bytes::new()))),
            false => Err(Problem::not_found(format!("there is nothing at {}", request.path))),
        };
    };
    let asked = erasing(view.topology(), blob)?;
    Ok(Plan::Enter(Box::new(asked.on_behalf_of(request.principal.clone()))))
}

/// What erases the replica of that blob.
fn erasing(topology: &Topology, blob: &str) -> Result<Request, Problem> {
    let (entry, replica) = replica(topology, blob)?;
    // What cannot be read here cannot be erased either: a replica without ports has no blob.
    ports(entry, replica)?;
    let link = format!("{}/{}", instance_state::LINK, entry.name);
    if with_ports(entry).count() > 1 {
        let removed = json!({ "removeReplica": replica.node });
        return Ok(Request::new(Method::Patch, link).with_json(&removed));
    }
    let query = format!("confirm={}", entry.name);
    Ok(Request { query, ..Request::new(Method::Delete, link) })
}

/// The instance whose blob or table that is.
fn about<'a>(rest: &str, topology: &'a Topology) -> Option<&'a InstanceEntry> {
    if let Some(blob) = rest.strip_prefix(BLOBS) {
        return replica(topology, blob).ok().map(|(entry, _)| entry);
    }
    table(rest, topology)
}

/// The instance that has this table. A table's name is looked for without regard to its case.
fn table<'a>(name: &str, topology: &'a Topology) -> Option<&'a InstanceEntry> {
    topology.instances().find(|entry| entry.name.eq_ignore_ascii_case(name))
}

/// For the node that took the request in, which has looked whether it may be answered.
///
/// # Errors
/// When there is no such replica or table.
pub(crate) fn answer(rest: &str, filter: &str, view: &View<'_>) -> Result<Response, Problem> {
    answer_with(rest, filter, &|_| true, view)
}

/// `filter`: with the properties that are wanted behind it, see [`asked_of_rows`]. `is_shown`:
/// whether somebody may see that instance.
fn answer_with(
    rest: &str,
    filter: &str,
    is_shown: &dyn Fn(&InstanceEntry) -> bool,
    view: &View<'_>,
) -> Result<Response, Problem> {
    let topology = view.topology();
    if let Some(blob) = rest.strip_prefix(BLOBS) {
        // A binding looks for the text wherever it stands in the blob.
        let (entry, replica) = replica(topology, blob)?;
        let text = parameters(entry, replica, version(entry, view))?;
        return Ok(Response::json(200, &text.into()));
    }
    if rest.contains('/') {
        return Err(Problem::not_found(format!("there is nothing at {LINK}/{rest}")));
    }
    if let Some(name) = rest.strip_prefix("Tables('").and_then(|it| it.strip_suffix("')")) {
        let missing = || Problem::not_found(format!("there is no table '{name}'"));
        let entry = table(name, topology).filter(|it| is_shown(it)).ok_or_else(missing)?;
        return Ok(Response::json(200, &json!({ "TableName": entry.name })));
    }
    let (filter, names) = match filter.split_once(SELECT) {
        Some((filter, names)) => (filter, Some(names)),
        None => (filter, None),
    };
    let rows = match table(rest, topology) {
        Some(entry) => of_instance(version(entry, view), filter),
        None => rows((topology, is_shown), rest, filter),
    };
    Ok(Response::json(200, &json!({ "value": selected(rows, names) })))
}

/// The version that programs of an instance must have now.
fn version(entry: &InstanceEntry, view: &View<'_>) -> u64 {
    let instance = view.instance(entry.group);
    instance.map_or(entry.options.current_version, immortals::Instance::version_in_use)
}

/// A replica by the name of its blob: the instance, a dash, and the instance with the number of the
/// replica.
fn replica<'a>(
    topology: &'a Topology,
    blob: &str,
) -> Result<(&'a InstanceEntry, &'a InstanceReplica), Problem> {
    let found = topology.instances().find_map(|entry| {
        let name = entry.name.as_str();
        let number = blob.strip_prefix(name)?.strip_prefix('-')?.strip_prefix(name)?;
        let number: u64 = number.parse().ok()?;
        let replica = entry.replicas.iter().find(|replica| replica.number == number)?;
        Some((entry, replica))
    });
    found.ok_or_else(|| Problem::not_found(format!("'{blob}' is no replica of an instance")))
}

/// Where a replica receives and sends.
fn ports(entry: &InstanceEntry, replica: &InstanceReplica) -> Result<(u16, u16), Problem> {
    replica.receive_port.zip(replica.send_port).ok_or_else(|| {
        Problem::not_found(format!(
            "replica {} of '{}' has no ports for programs of AMBROSIA's: register it with \
             --receive-port and --send-port",
            replica.number, entry.name
        ))
    })
}

/// The parameters of a replica, for an instance whose programs are of that version now.
fn parameters(
    entry: &InstanceEntry,
    replica: &InstanceReplica,
    current: u64,
) -> Result<String, Problem> {
    let (receive, send) = ports(entry, replica)?;
    let options = &entry.options;
    let upgrade = replica.upgrade_version.or(options.upgrade_version).unwrap_or(current);
    let fields = [
        ("serviceReceiveFromPort", receive.to_string()),
        ("serviceSendToPort", send.to_string()),
        ("serviceLogPath", "/".to_owned()),
        ("activeActive", options.active_active.to_string()),
        ("currentVersion", current.to_string()),
        // A binding would refuse a version below the current one, which is what is registered after
        // an upgrade.
        ("upgradeToVersion", upgrade.max(current).to_string()),
        // A binding cuts this field out before it looks at the rest, and expects the field to be
        // there.
        ("storageConnectionString", "none".to_owned()),
    ];
    let body: String =
        fields.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    Ok(format!("<AmbrosiaRuntimeParams>{body}</AmbrosiaRuntimeParams>"))
}

/// The replicas that AMBROSIA's bindings can know.
fn with_ports(entry: &InstanceEntry) -> impl Iterator<Item = &InstanceReplica> {
    entry.replicas.iter().filter(|replica| replica.receive_port.is_some())
}

/// The rows of an instance's own table that a filter lets through. A binding looks there for the
/// version to which programs were upgraded.
fn of_instance(version: u64, filter: &str) -> Vec<Value> {
    const PARTITION: &str = "(Default)";
    const ROW: &str = "CurrentVersion";
    let is_let_through = |key: &str, wanted: &str| value(filter, key).is_none_or(|it| it == wanted);
    if !is_let_through("PartitionKey eq", PARTITION) || !is_let_through("RowKey eq", ROW) {
        return Vec::new();
    }
    vec![json!({ "PartitionKey": PARTITION, "RowKey": ROW, "value": version.to_string() })]
}

/// The rows of a table that a filter lets through. Connections are made by the nodes, and need not
/// be remembered.
fn rows(
    (topology, is_shown): (&Topology, &dyn Fn(&InstanceEntry) -> bool),
    table: &str,
    filter: &str,
) -> Vec<Value> {
    let row = |partition: &str, row: &str| json!({ "PartitionKey": partition, "RowKey": row });
    if table.eq_ignore_ascii_case(ENDPOINTS) {
        let is_there = |it: &&str| topology.instance(it).is_some_and(is_shown);
        let name = value(filter, "PartitionKey eq").filter(is_there);
        return name.map_or_else(Vec::new, |name| ENDS.map(|end| row(name, end)).to_vec());
    }
    // A binding asks so whether an instance was never started.
    if !table.eq_ignore_ascii_case(VERTICES) || filter.contains("IsActive eq false") {
        return Vec::new();
    }
    let all = topology.instances().filter(|it| is_shown(it)).flat_map(|entry| {
        let key = |replica: &InstanceReplica| format!("{}{}", entry.name, replica.number);
        with_ports(entry).map(move |replica| (entry.name.as_str(), key(replica)))
    });
    let (name, one) = (value(filter, "RowKey eq"), value(filter, "PartitionKey eq"));
    let wanted = all.filter(|(instance, key)| {
        name.is_none_or(|it| it == *instance) && one.is_none_or(|it| it == *key)
    });
    wanted.map(|(instance, key)| row(&key, instance)).collect()
}

/// What a filter compares something with: `PartitionKey eq 'NAME'`.
fn value<'a>(filter: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = filter.split_once(key)?;
    rest.strip_prefix(" '")?.split_once('\'').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use cluster::{DirectoryCommand, InstanceCommand, InstanceOptions};

    use super::*;

    fn one(number: u64, ports: Option<(u16, u16)>) -> InstanceReplica {
        InstanceReplica {
            node: format!("n{number}"),
            number,
            receive_port: ports.map(|ports| ports.0),
            send_port: ports.map(|ports| ports.1),
            upgrade_version: (number == 2).then_some(4),
        }
    }

    fn blob(topology: &Topology, name: &str, version: u64) -> Result<String, Problem> {
        let (entry, replica) = replica(topology, name)?;
        parameters(entry, replica, version)
    }

    fn topology() -> Topology {
        let replicas = vec![one(0, Some((2000, 2001))), one(1, None), one(2, Some((4000, 4001)))];
        let mut topology = Topology::default();
        let mut register = |name: &str, replicas: &[InstanceReplica], options| {
            let (name, replicas) = (name.to_owned(), replicas.to_vec());
            let founders = Vec::new();
            let command = InstanceCommand::Register { name, founders, replicas, options };
            topology.apply(DirectoryCommand::Instance(command));
        };
        let alone =
            InstanceOptions { active_active: false, current_version: 3, ..Default::default() };
        register("server", &replicas, InstanceOptions::default());
        // Ports belong to one instance of a node.
        let elsewhere: Vec<_> = replicas
            .iter()
            .map(|replica| InstanceReplica {
                node: format!("m{}", replica.number),
                ..replica.clone()
            })
            .collect();
        register("a-a1", &elsewhere, alone);
        // One replica with ports beside one without.
        let beside: Vec<_> = [one(0, Some((6000, 6001))), one(1, None)]
            .map(|replica| InstanceReplica { node: format!("o{}", replica.number), ..replica })
            .into();
        register("alone", &beside, InstanceOptions::default());
        topology
    }

    #[test]
    fn a_replica_is_found_by_the_name_of_its_blob() {
        let topology = topology();
        let text = blob(&topology, "server-server0", 0).unwrap();
        assert_eq!(
            text,
            "<AmbrosiaRuntimeParams><serviceReceiveFromPort>2000</serviceReceiveFromPort>\
             <serviceSendToPort>2001</serviceSendToPort><serviceLogPath>/</serviceLogPath>\
             <activeActive>true</activeActive><currentVersion>0</currentVersion>\
             <upgradeToVersion>0</upgradeToVersion>\
             <storageConnectionString>none</storageConnectionString></AmbrosiaRuntimeParams>"
        );
        let text = blob(&topology, "a-a1-a-a12", 3).unwrap();
        assert!(text.contains("<activeActive>false<"), "{text}");
        assert!(text.contains("<currentVersion>3<"), "{text}");
        assert!(text.contains("<upgradeToVersion>4<"), "{text}");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let topology = topology();
        for name in ["server-server1", "server-server3", "server-server", "client-client0", "", "-"]
        {
            assert_eq!(blob(&topology, name, 0).unwrap_err().status(), 404, "{name}");
        }
    }

    #[test]
    fn what_is_erased_is_the_replica_of_the_blob_and_the_last_one_with_the_instance() {
        let topology = topology();
        let asked = erasing(&topology, "server-server2").unwrap();
        assert_eq!((asked.method, asked.path.as_str()), (Method::Patch, "/core/immortals/server"));
        let asked = erasing(&topology, "alone-alone0").unwrap();
        assert_eq!((asked.method, asked.path.as_str()), (Method::Delete, "/core/immortals/alone"));
        assert_eq!(asked.query, "confirm=alone");
    }

    #[test]
    fn the_blob_of_a_replica_without_ports_cannot_be_erased() {
        let topology = topology();
        for name in ["server-server1", "server-server3", "alone-alone1", "client-client0"] {
            let refused = erasing(&topology, name).err().map(|problem| problem.status());
            assert_eq!(refused, Some(404), "{name}");
        }
    }

    #[test]
    fn a_registered_instance_has_its_endpoints() {
        let topology = topology();
        assert_eq!(
            rows((&topology, &|_| true), "craendpointtable", "PartitionKey eq 'server'").len(),
            4
        );
        assert!(
            rows((&topology, &|_| true), "craendpointtable", "PartitionKey eq 'client'").is_empty()
        );
        assert!(
            rows((&topology, &|_| true), "craconnectiontable", "PartitionKey eq 'server'")
                .is_empty()
        );
        assert!(rows((&topology, &|_| true), "craendpointtable", "").is_empty());
    }

    /// What was registered as the version to upgrade to is the current one after the upgrade.
    #[test]
    fn after_an_upgrade_the_blob_and_the_table_have_the_new_version() {
        let topology = topology();
        let text = blob(&topology, "a-a1-a-a12", 4).unwrap();
        assert!(text.contains("<currentVersion>4<"), "{text}");
        assert!(text.contains("<upgradeToVersion>4<"), "{text}");
        let asked = "(PartitionKey eq '(Default)') and (RowKey eq 'CurrentVersion')";
        assert_eq!(of_instance(4, asked)[0]["value"], "4");
        assert!(of_instance(4, "(RowKey eq 'LastLogFile')").is_empty());
    }

    #[test]
    fn only_the_properties_and_the_rows_that_are_wanted_are_answered() {
        let rows = vec![json!({"PartitionKey": "a", "RowKey": "b"}), json!({"RowKey": "c"})];
        let of = |names| selected(rows.clone(), names);
        assert_eq!(of(None), rows);
        assert_eq!(of(Some("*")), rows);
        assert_eq!(of(Some("RowKey, value")), [json!({"RowKey": "b"}), json!({"RowKey": "c"})]);
        let asked = Request::get("/core/ambrosia/a?$filter=RowKey eq 'b'&$select=RowKey&$top=1");
        let text = asked_of_rows(&asked);
        assert_eq!(value(&text, "RowKey eq"), Some("b"));
        assert!(text.ends_with(&format!("{SELECT}RowKey")));
        let answer = Response::json(200, &json!({ "value": rows }));
        let first = first_rows(answer.clone(), top(&asked).unwrap());
        assert_eq!(first.to_json()["value"].as_array().map(Vec::len), Some(1));
        assert_eq!(first_rows(answer.clone(), None), answer);
    }

    #[test]
    fn replicas_with_ports_are_rows_of_their_own() {
        let topology = topology();
        let keys = |filter: &str| -> Vec<String> {
            let rows = rows((&topology, &|_| true), "cravertextable", filter);
            rows.iter().map(|row| row["PartitionKey"].as_str().unwrap().to_owned()).collect()
        };
        let all = "(PartitionKey ge 'server0') and (PartitionKey le 'server999') and (RowKey eq \
                   'server')";
        assert_eq!(keys(all), ["server0", "server2"]);
        assert_eq!(keys("PartitionKey eq 'server2'"), ["server2"]);
        assert!(keys("(RowKey eq 'server') and (IsActive eq false)").is_empty());
    }
}
