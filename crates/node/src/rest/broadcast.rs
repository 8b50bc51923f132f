//! A GET that is passed on to all nodes (Xenon's `target=ALL`). In Xenon each node answers from its
//! own copy. Here any node answers for every document with what its owner says, so one read is the
//! answer of all nodes that are up.

use std::collections::BTreeMap;

use protocol::{Code, Problem, Response};
use serde_json::{Map, Value, json};

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
}

impl Receivers {
    /// The answer to the one read, as that of each node.
    pub(crate) fn answer(&self, read: &Response) -> Response {
        let text = String::from_utf8_lossy(&read.body).into_owned();
        let mut answers = Map::new();
        let mut failures = Map::new();
        for (node_id, uri, is_up) in &self.nodes {
            let at = format!("{uri}{}", self.path);
            if !is_up {
                let down = Problem::new(Code::NoOwner, format!("node '{node_id}' is down"));
                failures.insert(at, Response::from(down).to_json());
            } else if read.is_success() {
                answers.insert(at, Value::from(text.clone()));
            } else {
                failures.insert(at, read.to_json());
            }
        }
        let addresses: BTreeMap<&str, &str> =
            self.nodes.iter().map(|(id, uri, _)| (id.as_str(), uri.as_str())).collect();
        let receivers: Vec<String> =
            self.nodes.iter().map(|(_, uri, _)| format!("{uri}{}", self.path)).collect();
        let up = self.nodes.iter().filter(|(_, _, is_up)| *is_up).count();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers() -> Receivers {
        let node = |id: &str, port: u16, is_up| (id.into(), format!("http://h:{port}"), is_up);
        let nodes = vec![node("n1", 1, true), node("n2", 2, true), node("n3", 3, false)];
        Receivers { nodes, quorum: 2, path: "/core/things/one?x=1".into() }
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
