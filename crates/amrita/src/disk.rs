//! `amrita disk`: what takes the room on the disks of the nodes.

use client::Client;
use protocol::node_group::{self, NodeState};
use serde_json::{Value, json};

use crate::access::session;
use crate::admin;
use crate::arguments::Cluster;
use crate::outcome::{Outcome, problem};
use crate::screen::{self, size};
use crate::verbs;

/// Where a node says it.
const LINK: &str = "/core/management/disk";

/// What a node said, or why it did not.
type Said = Result<Value, String>;

pub(crate) async fn run(cluster: &Cluster, named: Option<&str>) -> Outcome {
    let (_, group) = admin::group(&verbs::client(cluster)?).await?;
    let nodes: Vec<&NodeState> = group.nodes.values().collect();
    if let Some(named) = named
        && !nodes.iter().any(|node| node.id == named)
    {
        let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        let why = format!("there is no node '{named}'; there are {}", ids.join(", "));
        return Err(why.into());
    }
    let mut said: Vec<(String, Said)> = Vec::new();
    for node in nodes {
        said.push((node.id.clone(), ask(node).await));
    }
    if cluster.json {
        screen::say(&in_json(&said));
    } else {
        screen::say(&in_words(&said, named));
    }
    let of_interest = |(id, _): &&(String, Said)| named.is_none_or(|named| named == id);
    let mut asked = said.iter().filter(of_interest);
    match asked.clone().find_map(|(_, said)| said.as_ref().err()) {
        Some(why) if asked.all(|(_, said)| said.is_err()) => Err(why.clone().into()),
        _ => Ok(()),
    }
}

async fn ask(node: &NodeState) -> Said {
    let address = node.group_reference.trim_end_matches(node_group::LINK);
    let client: Client = session::client_of(&[address]).map_err(|trouble| trouble.why)?;
    let answer = client.get(LINK).await.map_err(|failure| failure.to_string())?;
    if answer.is_success() { Ok(answer.to_json()) } else { Err(problem(&answer)) }
}

fn in_json(said: &[(String, Said)]) -> String {
    let nodes: Vec<Value> = said
        .iter()
        .map(|(id, said)| match said {
            Ok(value) => value.clone(),
            Err(why) => json!({"id": id, "error": why}),
        })
        .collect();
    json!({ "nodes": nodes }).to_string()
}

fn in_words(said: &[(String, Said)], named: Option<&str>) -> String {
    let rows: Vec<Vec<String>> = said.iter().map(|(id, said)| files(id, said)).collect();
    let mut text = screen::table(&["node", "log", "state", "other files", "free"], &rows);
    for (id, said) in said {
        if let Err(why) = said {
            text.push_str(&format!("\n{id} does not say: {why}"));
        }
    }
    let is_shown =
        |(id, said): &&(String, Said)| said.is_ok() && named.is_none_or(|named| named == id);
    if let Some((id, Ok(value))) = said.iter().find(is_shown) {
        text.push_str(&format!(
            "\n\nIn the state of {id}, before the store packs it:\n\n{}",
            contents(value)
        ));
    }
    text
}

fn files(id: &str, said: &Said) -> Vec<String> {
    let Ok(value) = said else {
        return [id, "", "", "", ""].map(str::to_owned).to_vec();
    };
    let of = |name: &str| value["files"][name].as_u64().unwrap_or_default();
    let all: u64 = value["files"]
        .as_object()
        .into_iter()
        .flat_map(|it| it.values())
        .filter_map(Value::as_u64)
        .sum();
    let (log, state) = (of("log"), of("state"));
    let free = value["freeBytes"].as_u64().map_or_else(String::new, size);
    vec![id.to_owned(), size(log), size(state), size(all - log - state), free]
}

fn contents(value: &Value) -> String {
    let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
    let amount = |it: &Value| {
        let (count, bytes) = (it["count"].as_u64(), it["bytes"].as_u64());
        (count.unwrap_or_default(), bytes.unwrap_or_default())
    };
    for (factory, kind) in value["kinds"].as_object().into_iter().flatten() {
        let mut row = vec![factory.clone()];
        let mut all = 0;
        for part in ["documents", "versions", "tombstones"] {
            let (count, bytes) = amount(&kind[part]);
            row.extend([count.to_string(), size(bytes)]);
            all += bytes;
        }
        rows.push((all, row));
    }
    let instances = value["instances"].as_object().into_iter().flatten();
    let instances = instances.map(|(name, it)| (format!("instance {name}"), it));
    let others = [
        ("index of queries", &value["index"]),
        ("keys of requests", &value["requestKeys"]),
        ("the directory", &value["directory"]),
        ("other", &value["other"]),
    ];
    let others = others.into_iter().map(|(name, it)| (name.to_owned(), it));
    for (name, it) in instances.chain(others) {
        let (count, bytes) = amount(it);
        let mut row = vec![name, count.to_string(), size(bytes)];
        row.resize(7, String::new());
        rows.push((bytes, row));
    }
    // What takes the most stands first.
    rows.sort_by(|(one, _), (other, _)| other.cmp(one));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    let heading = ["what", "entries", "bytes", "older versions", "bytes", "deleted", "bytes"];
    screen::table(&heading, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_the_most_stands_first_and_who_is_away_is_named() {
        let value = json!({
            "files": {"log": 2048, "state": 1024, "node.json": 10},
            "freeBytes": 1 << 30,
            "kinds": {"/a": {
                "documents": {"count": 2, "bytes": 20},
                "versions": {"count": 7, "bytes": 4000},
                "tombstones": {"count": 1, "bytes": 5},
            }},
            "instances": {"ledger": {"count": 1, "bytes": 9000}},
            "index": {"count": 3, "bytes": 30},
        });
        let said = [("n1".to_owned(), Err("it is down".to_owned())), ("n2".to_owned(), Ok(value))];
        let text = in_words(&said, None);
        assert!(text.contains("n1 does not say: it is down"), "{text}");
        assert!(text.contains("In the state of n2"), "{text}");
        assert!(text.contains("1.0 GiB") && text.contains("10 B"), "{text}");
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(place("instance ledger") < place("/a") && place("/a") < place("index of queries"));
        assert!(!in_words(&said, Some("n1")).contains("In the state"));
        assert!(in_json(&said).starts_with(r#"{"nodes":[{"error":"it is down","id":"n1"}"#));
    }
}
