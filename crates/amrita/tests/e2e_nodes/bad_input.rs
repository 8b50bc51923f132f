//! Requests that are wrong, each with the answer it must get: a status, a stable code, and words
//! that say what to do. The node serves on after each of them.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const EXAMPLES: &str = "/core/examples";

/// Sends a request that must be refused in this way.
fn refused(cluster: &Cluster, ask: &Ask<'_>, status: u16, code: &str) -> Reply {
    let reply = cluster.ask(0, ask);
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.body);
    assert!(reply.message().len() > 10, "no words: {}", reply.body);
    assert_eq!(reply.body["statusCode"], status);
    reply
}

fn post(body: &Value) -> Ask<'static> {
    Ask::new("POST", EXAMPLES).json(body)
}

#[test]
fn broken_requests_are_refused_with_a_code_and_words() {
    let cluster = Cluster::started(1);
    let made = cluster.ask(0, &post(&json!({"documentSelfLink": "one", "name": "one"})));
    assert_eq!(made.status, 200, "{}", made.body);
    let one = "/core/examples/one";

    for body in [
        "{\"name\":",
        "[1]",
        "\"name\"",
        "{\"name\": {\"a\": 1}}",
        "{\"name\": \"n\", \"counter\": \"x\"}",
    ] {
        let ask = Ask::new("POST", EXAMPLES).raw(body.as_bytes());
        refused(&cluster, &ask, 400, "BAD_BODY");
        let ask = Ask::new("PATCH", one).raw(body.as_bytes());
        refused(&cluster, &ask, 400, "BAD_BODY");
    }
    refused(&cluster, &post(&json!({"counter": 1})), 400, "BAD_REQUEST");
    for link in ["a/../b", "..", "a b", &"x".repeat(2_000)] {
        let body = json!({"documentSelfLink": link, "name": "n"});
        refused(&cluster, &post(&body), 400, "BAD_LINK");
    }
    let long = format!("{EXAMPLES}/{}", "x".repeat(2_000));
    refused(&cluster, &Ask::get(&long), 400, "BAD_LINK");

    let version = format!("{one}?documentVersion=two");
    refused(&cluster, &Ask::get(&version), 400, "BAD_REQUEST");
    let version = format!("{one}?documentVersion=7");
    refused(&cluster, &Ask::get(&version), 404, "NOT_FOUND");
    refused(&cluster, &Ask::get("/core/examples/none"), 404, "NOT_FOUND");
    refused(&cluster, &Ask::get("/core/nothing"), 404, "NOT_FOUND");
    refused(&cluster, &Ask::new("PUT", EXAMPLES).json(&json!({})), 405, "METHOD_NOT_ALLOWED");

    let huge = json!({"name": "x".repeat(65 << 20)});
    refused(&cluster, &post(&huge), 413, "TOO_LARGE");
    assert_eq!(cluster.get(0, one).version(), 0, "nothing of it was written");
}

#[test]
fn conflicts_are_told_apart() {
    let cluster = Cluster::started(1);
    let body = json!({"documentSelfLink": "one", "name": "one"});
    let one = "/core/examples/one";
    let made = cluster.ask(0, &post(&body));
    assert_eq!(made.status, 200, "{}", made.body);

    refused(&cluster, &post(&body), 409, "ALREADY_EXISTS");
    let stale = Ask::new("PATCH", one).json(&json!({"name": "x"})).header("If-Match", "\"9.9\"");
    refused(&cluster, &stale, 412, "PRECONDITION_FAILED");
    let strict = json!({
        "kind": "com:vmware:xenon:services:common:ExampleService:StrictUpdateRequest",
        "name": "x", "documentVersion": 5});
    refused(&cluster, &Ask::new("PATCH", one).json(&strict), 409, "VERSION_MISMATCH");

    let first = Ask::new("PATCH", one).json(&json!({"name": "keyed"})).key("k");
    let (once, again) = (cluster.ask(0, &first), cluster.ask(0, &first));
    assert_eq!((once.version(), again.version()), (1, 1), "the repeat was done twice");
    let other = Ask::new("PATCH", one).json(&json!({"name": "other"})).key("k");
    refused(&cluster, &other, 422, "KEY_REUSED");

    let etag = cluster.get(0, one).header("etag").expect("a document has an entity tag").to_owned();
    let fresh = Ask::new("DELETE", one).header("If-Match", &etag);
    assert_eq!(cluster.ask(0, &fresh).status, 200);
    refused(&cluster, &post(&body), 409, "MARKED_DELETED");
    let reborn = json!({"documentSelfLink": "one", "name": "one", "documentVersion": 9});
    assert_eq!(cluster.ask(0, &post(&reborn)).status, 200, "a new life with a higher version");
}

#[test]
fn wrong_words_to_the_cluster_are_refused() {
    let cluster = Cluster::started(3);
    let group = "/core/node-groups/default";
    let patch = |body: Value| Ask::new("PATCH", group).json(&body);
    let kind = "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest";
    refused(&cluster, &patch(json!({"kind": "Nonsense"})), 400, "UNKNOWN_KIND");
    for quorum in [1, 4] {
        let body = json!({"kind": kind, "isGroupUpdate": true, "membershipQuorum": quorum});
        refused(&cluster, &patch(body), 409, "REFUSED");
    }
    for wrong in [json!("3"), json!(null), json!(-1)] {
        let body = json!({"kind": "UpdateQuorumRequest", "membershipQuorum": wrong});
        let reply = refused(&cluster, &patch(body), 400, "BAD_BODY");
        assert!(reply.message().contains("'membershipQuorum', a whole number"), "{}", reply.body);
    }
    let body = json!({"kind": kind, "membershipQuorum": 3});
    let reply = refused(&cluster, &Ask::new("POST", group).json(&body), 405, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.body["outcome"], "notApplied", "{}", reply.body);
    assert_eq!(cluster.get(0, group).body["membershipQuorum"], 2);
    let selector = Ask::new("POST", "/core/node-selectors/default").json(&json!({}));
    refused(&cluster, &selector, 400, "BAD_BODY");
    let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {"options": ["NO_SUCH"]}});
    refused(&cluster, &Ask::new("POST", "/core/query-tasks").json(&query), 400, "BAD_REQUEST");
    let later = json!({"querySpec": {"quer": {}}});
    refused(&cluster, &Ask::new("POST", "/core/query-tasks").json(&later), 400, "BAD_REQUEST");
}
