//! `/core/ambrosia`: what is registered, in the places where AMBROSIA's bindings look for it.
//!
//! AMBROSIA keeps its registrations in an account of cloud storage, and its JavaScript binding
//! reads them there before it connects to its coordinator, whatever its configuration says. A node
//! answers those few questions (a blob with the parameters of a replica, rows of tables), so that a
//! program with this binding runs with the node's address as its account. Nothing can be written
//! here.

use cluster::{InstanceEntry, InstanceReplica, Topology};
use protocol::{Problem, Request, Response};
use serde_json::{Value, json};

use super::plan::Plan;
use crate::view::View;

/// What the binding's libraries for cloud storage send with a question. Only the filter has a
/// meaning here.
pub(super) const PARAMETERS: &[&str] =
    &["filter", "select", "top", "timeout", "comp", "restype", "prefix", "delimiter", "maxresults"];

/// The address of the account, for blobs and for tables.
pub(crate) const LINK: &str = "/core/ambrosia";

/// Where the blobs with the parameters of replicas are.
const BLOBS: &str = "cra/AmbrosiaBinaries/";

/// The ends of connections that a registered instance has. A binding counts them.
const ENDPOINTS: [&str; 4] =
    ["Ambrosiacontrolin", "Ambrosiacontrolout", "Ambrosiadatain", "Ambrosiadataout"];

/// Where the version of an instance stands in its table.
const DEFAULT: &str = "(Default)";
const VERSION: &str = "CurrentVersion";

/// # Errors
/// When there is no such replica, or the request wants to change something.
pub(super) fn plan(request: &Request, rest: &str, view: &View<'_>) -> Result<Plan, Problem> {
    let topology = view.topology();
    // Only the nodes with a replica know to which version its state has come.
    let version = |entry: &InstanceEntry| {
        let here = view.instance(entry.group);
        here.map_or(entry.options.current_version, immortals::Instance::version_in_use)
    };
    let response = if let Some(blob) = rest.strip_prefix(BLOBS) {
        // A binding looks for the text wherever it stands in the blob.
        Response::json(200, &parameters(topology, blob, &version)?.into())
    } else if rest.contains('/') {
        return Err(Problem::not_found(format!("there is nothing at {}", request.path)));
    } else {
        let filter = request.parameter("filter").unwrap_or_default();
        Response::json(200, &json!({ "value": rows(topology, rest, &filter, &version) }))
    };
    Ok(Plan::Respond(response))
}

/// The parameters of a replica. Its blob is named after the instance, a dash, and the instance with
/// the number of the replica.
fn parameters(
    topology: &Topology,
    blob: &str,
    version: &dyn Fn(&InstanceEntry) -> u64,
) -> Result<String, Problem> {
    let found = topology.instances().find_map(|entry| {
        let name = entry.name.as_str();
        let number = blob.strip_prefix(name)?.strip_prefix('-')?.strip_prefix(name)?;
        let number: u64 = number.parse().ok()?;
        let replica = entry.replicas.iter().find(|replica| replica.number == number)?;
        Some((name, entry, replica))
    });
    let Some((name, entry, replica)) = found else {
        return Err(Problem::not_found(format!("'{blob}' is no replica of an instance")));
    };
    parameters_of(entry, replica, version(entry)).ok_or_else(|| {
        Problem::not_found(format!(
            "replica {} of '{name}' has no ports for programs of AMBROSIA's: register it with \
             --receive-port and --send-port",
            replica.number
        ))
    })
}

/// `current`: the version that its programs have.
fn parameters_of(entry: &InstanceEntry, replica: &InstanceReplica, current: u64) -> Option<String> {
    let (receive, send) = (replica.receive_port?, replica.send_port?);
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
    Some(format!("<AmbrosiaRuntimeParams>{body}</AmbrosiaRuntimeParams>"))
}

/// The rows of a table that a filter lets through. The table of endpoints has some for each
/// instance, and an instance's own table has its version; connections are made by the nodes, and
/// need not be remembered.
fn rows(
    topology: &Topology,
    table: &str,
    filter: &str,
    version: &dyn Fn(&InstanceEntry) -> u64,
) -> Vec<Value> {
    let row = |key: &str, row: &str| json!({ "PartitionKey": key, "RowKey": row });
    if table.eq_ignore_ascii_case("craendpointtable") {
        let name = key_of(filter, "PartitionKey").filter(|it| topology.instance(it).is_some());
        return name
            .map_or_else(Vec::new, |name| ENDPOINTS.iter().map(|end| row(name, end)).collect());
    }
    let is_asked = |name: &str, value: &str| key_of(filter, name).is_none_or(|it| it == value);
    // The names of tables are the same in capitals.
    let mut named = topology.instances().filter(|entry| table.eq_ignore_ascii_case(&entry.name));
    match named.next() {
        Some(entry) if is_asked("PartitionKey", DEFAULT) && is_asked("RowKey", VERSION) => {
            let mut row = row(DEFAULT, VERSION);
            row["value"] = version(entry).to_string().into();
            vec![row]
        }
        _ => Vec::new(),
    }
}

/// The key that a filter asks for: `PartitionKey eq 'NAME'`.
fn key_of<'a>(filter: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = filter.split_once(&format!("{key} eq '"))?;
    rest.split_once('\'').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use cluster::{DirectoryCommand, InstanceCommand, InstanceOptions};

    use super::*;

    fn replica(number: u64, ports: Option<(u16, u16)>) -> InstanceReplica {
        InstanceReplica {
            node: format!("n{number}"),
            number,
            receive_port: ports.map(|ports| ports.0),
            send_port: ports.map(|ports| ports.1),
            upgrade_version: (number == 2).then_some(4),
        }
    }

    fn topology() -> Topology {
        let replicas =
            vec![replica(0, Some((2000, 2001))), replica(1, None), replica(2, Some((4000, 4001)))];
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
        topology
    }

    #[test]
    fn a_replica_is_found_by_the_name_of_its_blob() {
        let topology = topology();
        let text = parameters(&topology, "server-server0", &registered).unwrap();
        assert_eq!(
            text,
            "<AmbrosiaRuntimeParams><serviceReceiveFromPort>2000</serviceReceiveFromPort>\
             <serviceSendToPort>2001</serviceSendToPort><serviceLogPath>/</serviceLogPath>\
             <activeActive>true</activeActive><currentVersion>0</currentVersion>\
             <upgradeToVersion>0</upgradeToVersion>\
             <storageConnectionString>none</storageConnectionString></AmbrosiaRuntimeParams>"
        );
        let text = parameters(&topology, "a-a1-a-a12", &registered).unwrap();
        assert!(text.contains("<activeActive>false<"), "{text}");
        assert!(text.contains("<currentVersion>3<"), "{text}");
        assert!(text.contains("<upgradeToVersion>4<"), "{text}");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let topology = topology();
        for blob in ["server-server1", "server-server3", "server-server", "client-client0", "", "-"]
        {
            assert_eq!(
                parameters(&topology, blob, &registered).unwrap_err().status(),
                404,
                "{blob}"
            );
        }
    }

    fn registered(entry: &InstanceEntry) -> u64 {
        entry.options.current_version
    }

    #[test]
    fn a_registered_instance_has_its_endpoints() {
        let topology = topology();
        let rows = |table: &str, filter: &str| rows(&topology, table, filter, &registered);
        assert_eq!(rows("craendpointtable", "PartitionKey eq 'server'").len(), 4);
        assert!(rows("craendpointtable", "PartitionKey eq 'client'").is_empty());
        assert!(rows("craconnectiontable", "PartitionKey eq 'server'").is_empty());
        assert!(rows("craendpointtable", "").is_empty());
    }

    /// The JavaScript binding looks there whether its program has the version of the state.
    #[test]
    fn the_version_of_an_instance_stands_in_its_blob_and_in_its_table() {
        let topology = topology();
        let upgraded = |_: &InstanceEntry| 4;
        let filter = "((PartitionKey eq '(Default)') and (RowKey eq 'CurrentVersion'))";
        let found = rows(&topology, "Server", filter, &upgraded);
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["value"], &found[0]["RowKey"]), (&json!("4"), &json!(VERSION)));
        for (table, filter) in [
            ("client", filter),
            ("server", "(PartitionKey eq '(Default)') and (RowKey eq 'LastLogFile')"),
        ] {
            assert!(rows(&topology, table, filter, &upgraded).is_empty(), "{table} {filter}");
        }
        let text = parameters(&topology, "server-server0", &upgraded).unwrap();
        assert!(
            text.contains("<currentVersion>4<") && text.contains("<upgradeToVersion>4<"),
            "{text}"
        );
    }
}
