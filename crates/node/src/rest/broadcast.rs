//! A read that is passed on to all nodes (Xenon's `target=ALL`). In Xenon each node answers from
//! its own copy. Here any node answers for every document with what its owner says, so one read is
//! the answer of all nodes that are up.

use std::collections::BTreeMap;

use protocol::{Code, Problem, Response};
use serde_json::{Map, Value, json};

use crate::pages::ANSWER_BYTES_MAX;

/// What Xenon calls the type of such an answer.
const KIND: &str = "com:vmware:xenon:services:common:NodeGroupBroadcastResponse";

/// Whom a request is passed on to, until it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Receivers {
    /// Of each node: its id, its address, and whether it is up.
    pub(super) nodes: Vec<(String, String, bool)>,
    pub(super) quorum: usize,
    /// The path of the request, with its query.
    pub(super) path: String,
    /// With `OWNER_SELECTION`: the node that answers for all, so that who adds up the answers has
    /// each document once. The others find nothing.
    pub(super) only: Option<String>,
}

impl Receivers {
    /// The answer to the one read, as that of each node.
    pub(crate) fn answer(&self, read: &Response) -> Response {
        let text = String::from_utf8_lossy(&read.body).into_owned();
        let up = self.nodes.iter().filter(|(_, _, is_up)| *is_up).count();
        let copies = if self.only.is_some() { 1 } else { up };
        // Each quote in it is written with another character before it.
        let quotes = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        if (text.len() + quotes).saturating_mul(copies) > ANSWER_BYTES_MAX {
            return Problem::bad_request(format!(
                "the answer has {} bytes, and target=ALL would give it {copies} times, over {} MiB: \
                 ask without target=ALL, as every node has all documents, or for less",
                text.len(),
                ANSWER_BYTES_MAX >> 20
            ))
            .into();
        }
        let mut answers = Map::new();
        let mut failures = Map::new();
        for (node_id, uri, is_up) in &self.nodes {
            let at = format!("{uri}{}", self.path);
            if !is_up {
                let down = Problem::new(Code::NoOwner, format!("node '{node_id}' is down"));
                failures.insert(at, Response::from(down).to_json());
            } else if read.is_success() {
                let is_empty = self.only.as_ref().is_some_and(|only| only != node_id);
                let text = if is_empty { nothing(node_id) } else { text.clone() };
                answers.insert(at, Value::from(text));
            } else {
                failures.insert(at, read.to_json());
            }
        }
        let addresses: BTreeMap<&str, &str> =
            self.nodes.iter().map(|(id, uri, _)| (id.as_str(), uri.as_str())).collect();
        let receivers: Vec<String> =
            self.nodes.iter().map(|(_, uri, _)| format!("{uri}{}", self.path)).collect();
        let body = json!({
            "documentKind": KIND,
            "receivers": receivers,
            "selectedNodes": addresses,
            "jsonResponses": answers,
            "failures": failures,
            "membershipQuorum": self.quorum,
            "nodeCount": self.nodes.len(),
            "availableNodeCount": up,
        });
        Response::json(200, &body)
    }
}

/// A query task that has found nothing.
fn nothing(node_id: &str) -> String {
    let task = json!({
        "taskInfo": {"stage": "FINISHED", "isDirect": true},
        "results": {"documentLinks": [], "documents": {}, "documentCount": 0,
            "documentOwner": node_id},
        "documentKind": protocol::query::KIND,
        "documentOwner": node_id,
    });
    task.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers() -> Receivers {
        let node = |id: &str, port: u16, is_up| (id.into(), format!("http://h:{port}"), is_up);
        let nodes = vec![node("n1", 1, true), node("n2", 2, true), node("n3", 3, false)];
        Receivers { nodes, quorum: 2, path: "/core/things/one?x=1".into(), only: None }
    }

    #[test]
    fn each_node_that_is_up_has_the_answer() {
        let read = Response::json(200, &json!({"name": "a"}));
        let told = receivers().answer(&read).to_json();
        let first = told["jsonResponses"]["http://h:1/core/things/one?x=1"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(first).unwrap(), json!({"name": "a"}));
        assert_eq!(told["jsonResponses"].as_object().unwrap().len(), 2);
        let down = &told["failures"]["http://h:3/core/things/one?x=1"];
        assert!(down["message"].as_str().unwrap().contains("n3"), "{down}");
        assert_eq!(told["selectedNodes"]["n2"], "http://h:2");
        assert_eq!(told["receivers"].as_array().unwrap().len(), 3);
        assert_eq!((&told["nodeCount"], &told["availableNodeCount"]), (&json!(3), &json!(2)));
    }

    #[test]
    fn who_adds_up_what_owners_have_counts_each_document_once() {
        let read = Response::json(200, &json!({"results": {"documentCount": 7}}));
        let told = Receivers { only: Some("n2".into()), ..receivers() }.answer(&read).to_json();
        let answers = told["jsonResponses"].as_object().unwrap().values();
        let count = |text: &Value| {
            let answer: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            answer["results"]["documentCount"].as_u64().unwrap()
        };
        assert_eq!(answers.map(count).collect::<Vec<_>>(), [0, 7]);
    }

    #[test]
    fn what_is_too_long_is_not_copied_for_each_node() {
        let body = vec![b'"'; ANSWER_BYTES_MAX / 4 + 1];
        let read = Response::bytes(200, body.into());
        let told = receivers().answer(&read);
        assert_eq!(told.status, 400);
        assert!(told.to_json()["message"].as_str().unwrap().contains("2 times"));
        let one = Receivers { only: Some("n1".into()), ..receivers() };
        assert_eq!(one.answer(&read).status, 200);
    }

    #[test]
    fn what_fails_fails_at_each() {
        let read = Response::from(Problem::not_found("nothing is there"));
        let told = receivers().answer(&read).to_json();
        assert_eq!(told["jsonResponses"], json!({}));
        let first = &told["failures"]["http://h:1/core/things/one?x=1"];
        assert_eq!(
            (&first["statusCode"], first["message"].as_str()),
            (&json!(404), Some("nothing is there"))
        );
    }
}
