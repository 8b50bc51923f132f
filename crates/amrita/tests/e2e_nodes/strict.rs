//! What was asked is done, or refused by name: on real nodes, over real HTTP.

use std::thread;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const EXAMPLES: &str = "/core/examples";
const ONE: &str = "/core/examples/one";
const MANAGEMENT: &str = "/core/management";

fn made(cluster: &Cluster, body: &Value) -> Reply {
    let reply = cluster.ask(0, &Ask::new("POST", EXAMPLES).json(body));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply
}

fn refused(cluster: &Cluster, ask: &Ask<'_>, named: &str) {
    let reply = cluster.ask(0, ask);
    assert_eq!(reply.status, 400, "{named}: {}", reply.body);
    assert!(reply.message().contains(named), "{named}: {}", reply.body);
}

#[test]
fn each_path_names_what_it_does_not_know() {
    let cluster = Cluster::started(1);
    made(&cluster, &json!({"documentSelfLink": "one", "name": "one"}));
    for path in [
        "/",
        EXAMPLES,
        ONE,
        "/core/examples/available",
        "/core/examples/template",
        "/core/examples/one/config",
        "/core/examples/one/stats",
        "/core/query-tasks",
        "/core/node-groups",
        "/core/node-groups/default",
        "/core/node-selectors/default",
        MANAGEMENT,
        "/core/immortals",
    ] {
        refused(&cluster, &Ask::get(&format!("{path}?nonsense=1")), "'nonsense'");
        refused(&cluster, &Ask::get(path).header("Pragma", "xn-other"), "'xn-other'");
        refused(&cluster, &Ask::get(path).header("x-xenon-tx-id", "t"), "x-xenon-tx-id");
        let since = "Sat, 29 Oct 1994 19:43:31 GMT";
        refused(&cluster, &Ask::get(path).header("If-Modified-Since", since), "if-modified-since");
    }
    for (method, path) in [("PUT", EXAMPLES), ("POST", ONE), ("PATCH", MANAGEMENT), ("PUT", "/")] {
        let reply = cluster.ask(0, &Ask::new(method, path).json(&json!({})));
        assert_eq!(reply.status, 405, "{method} {path}: {}", reply.body);
        let allow = reply.header("allow").unwrap_or_default();
        assert!(allow.contains("GET") && !allow.contains(method), "{method} {path}: {allow}");
    }
    let patch = |body: &Value| Ask::new("PATCH", ONE).json(body);
    refused(&cluster, &patch(&json!({"documentSourceLink": "/a/b"})), "documentSourceLink");
    let sql = |body: &Value| Ask::new("POST", "/core/sql").json(body);
    let select = json!({"sql": "select name from examples"});
    refused(&cluster, &sql(&json!({"sql": "select name from examples", "limit": 1})), "'limit'");
    refused(&cluster, &sql(&json!({})), "'sql' is needed");
    refused(&cluster, &sql(&select).header("Idempotency-Key", "k"), "Idempotency-Key");
    refused(&cluster, &sql(&json!({"sql": "select upper(a) from examples"})), "upper is not known");
    let by_parameter = Ask::new("POST", "/core/sql?nonsense=1").json(&select);
    refused(&cluster, &by_parameter, "'nonsense'");
    let migrated = Ask::new("POST", EXAMPLES).json(&json!({"name": "m"}));
    refused(&cluster, &migrated.header("Pragma", "xn-from-migration"), "'xn-from-migration'");
}

#[test]
fn conditions_hold_on_reads_and_on_writes() {
    let cluster = Cluster::started(3);
    let body = json!({"documentSelfLink": "one", "name": "one"});
    let first = made(&cluster, &body).header("etag").expect("a tag").to_owned();
    let gone = json!({"documentExpirationTimeMicros": 1});
    assert_eq!(cluster.ask(1, &Ask::new("DELETE", ONE).json(&gone)).status, 200);
    let again = made(&cluster, &body);
    assert_eq!(again.version(), 0, "a new life");
    let tag = again.header("etag").expect("a tag").to_owned();
    assert_ne!(tag, first, "its tag is another one");

    let patch = |name: &str, value: &str| {
        cluster.ask(2, &Ask::new("PATCH", ONE).json(&json!({"counter": 1})).header(name, value))
    };
    assert_eq!(patch("If-Match", &first).status, 412);
    assert_eq!(patch("If-None-Match", &tag).status, 412);
    assert_eq!(patch("If-None-Match", "*").status, 412);
    assert_eq!(patch("If-Match", "nonsense").status, 400);
    let lines = Ask::new("PATCH", ONE).json(&json!({"counter": 2}));
    let lines = lines.header("If-Match", &first).header("If-Match", &tag);
    let changed = cluster.ask(1, &lines);
    assert_eq!(changed.status, 200, "one of two lines is right: {}", changed.body);
    let tag = changed.header("etag").expect("a tag").to_owned();
    assert_eq!(cluster.ask(0, &Ask::get(ONE).header("If-Match", &first)).status, 412);
    assert_eq!(cluster.ask(0, &Ask::get(ONE).header("If-None-Match", &tag)).status, 304);
}

#[test]
fn as_many_replicas_hold_a_write_as_its_client_asks_for() {
    let mut cluster = Cluster::started(3);
    made(&cluster, &json!({"documentSelfLink": "one", "name": "one"}));
    let patch = |cluster: &Cluster, quorum: &str| {
        let ask = Ask::new("PATCH", ONE).json(&json!({"counter": 1}));
        cluster.ask(0, &ask.header("x-xenon-rpl-quorum", quorum))
    };
    for quorum in ["x-xenon-all", "3", "1"] {
        let reply = patch(&cluster, quorum);
        assert_eq!(reply.status, 200, "{quorum}: {}", reply.body);
    }
    let nine = patch(&cluster, "9");
    assert_eq!((nine.status, nine.body["outcome"].as_str()), (400, Some("notApplied")));
    cluster.kill(2);
    let all = cluster.wait_for("a refusal", || {
        let reply = patch(&cluster, "x-xenon-all");
        (reply.code() == "QUORUM_NOT_MET").then_some(reply)
    });
    assert!(all.message().contains("asks for 3 replicas"), "{}", all.body);
    cluster.wait_for("two are enough", || (patch(&cluster, "2").status == 200).then_some(()));
}

#[test]
fn the_owner_that_is_shown_is_the_present_one() {
    let mut cluster = Cluster::started(3);
    made(&cluster, &json!({"documentSelfLink": "one", "name": "one"}));
    let owner = cluster.wait_for("an owner", || cluster.owner_of(0, ONE));
    let name = |which: usize| format!("n{}", which + 1);
    let asked = (owner + 1) % 3;
    let before = cluster.get(asked, ONE).body;
    assert_eq!(before["documentOwner"], name(owner), "{before}");
    cluster.kill(owner);
    let after = cluster.wait_for("the next owner", || {
        let reply = cluster.get(asked, ONE);
        (reply.status == 200).then_some(reply.body)
    });
    assert_ne!(after["documentOwner"], name(owner), "{after}");
    assert_eq!(after["documentUpdateNode"], before["documentUpdateNode"], "nobody has written");
    let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {"options": ["EXPAND_CONTENT"],
        "query": {"term": {"propertyName": "documentSelfLink", "matchValue": ONE}}}});
    let found = cluster.ask(asked, &Ask::new("POST", "/core/local-query-tasks").json(&query));
    let shown = &found.body["results"]["documents"][ONE];
    assert_eq!(shown["documentOwner"], after["documentOwner"], "{}", found.body);
}

#[test]
fn one_task_is_one_task_however_often_it_is_posted_with_its_key() {
    let cluster = Cluster::started(3);
    made(&cluster, &json!({"documentSelfLink": "one", "name": "one"}));
    let body = json!({"taskInfo": {"isDirect": true}});
    let answers: Vec<Reply> = thread::scope(|scope| {
        let post = |which: usize| {
            let ask = Ask::new("POST", "/core/example-tasks").json(&body).key("one key");
            cluster.ask(which, &ask)
        };
        let asked: Vec<_> = (0..40).map(|number| scope.spawn(move || post(number % 3))).collect();
        asked.into_iter().map(|it| it.join().expect("it is answered")).collect()
    });
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["taskInfo"]["stage"], "FINISHED", "{}", answer.body);
        assert_eq!(answer.body["documentSelfLink"], answers[0].body["documentSelfLink"]);
    }
}

#[test]
fn what_a_typed_client_sends_is_taken() {
    let cluster = Cluster::started(1);
    let body = json!({"documentSelfLink": "one", "name": 7, "counter": "5", "documentVersion": 0,
        "documentExpirationTimeMicros": 0, "documentSourceLink": null});
    let reply = made(&cluster, &body);
    assert_eq!((&reply.body["name"], &reply.body["counter"]), (&json!("7"), &json!(5)));
    let nothing = json!({"term": {"propertyName": "name", "matchValue": "nobody has it"}});
    let task = json!({"customQueryClause": nothing});
    let task = cluster.ask(0, &Ask::new("POST", "/core/example-tasks").json(&task));
    assert_eq!((task.status, &task.body["taskInfo"]["stage"]), (202, &json!("STARTED")));
    for number in 0..3 {
        let named = format!("t{number}");
        made(&cluster, &json!({"documentSelfLink": named, "name": "t"}));
    }
    let list = cluster.get(0, "/core/examples?$count=true&$limit=2&$filter=name%20eq%20't'");
    assert_eq!((&list.body["totalCount"], &list.body["documentCount"]), (&json!(3), &json!(2)));
    assert!(list.body["nextPageLink"].is_string(), "{}", list.body);
    let next = list.body["nextPageLink"].as_str().unwrap_or_default();
    let page = cluster.get(0, &format!("{next}?expand"));
    assert_eq!(page.body["documents"].as_object().map(serde_json::Map::len), Some(1));
    let groups = cluster.get(0, "/core/node-groups");
    assert_eq!(groups.body["documentLinks"], json!(["/core/node-groups/default"]));
    let forwarded =
        "/core/node-selectors/default/forwarding?path=/core/examples/one&target=KEY_HASH";
    let forwarded = cluster.get(0, &format!("{forwarded}&key=any"));
    assert_eq!(forwarded.body["name"], "7", "{}", forwarded.body);
}

/// The node that is asked may not have heard of it so far. It finds out before it says no.
#[test]
fn an_instance_is_known_everywhere_as_soon_as_it_is_registered() {
    let cluster = Cluster::started(3);
    cluster.wait_for("the directory to be served", || {
        let body = json!({"name": "first"});
        let reply = cluster.ask(0, &Ask::new("POST", "/core/immortals").json(&body));
        reply.is_success().then_some(())
    });
    for number in 0..60 {
        let name = format!("i{number}");
        let at = |offset: usize| (number + offset) % 3;
        let register = Ask::new("POST", "/core/immortals").json(&json!({"name": name}));
        assert_eq!(cluster.ask(at(0), &register).status, 200);
        let path = format!("/core/immortals/{name}");
        let seen = cluster.get(at(1), &path);
        assert_eq!((seen.status, seen.body["name"].as_str()), (200, Some(name.as_str())));
        let change = Ask::new("PATCH", &path).json(&json!({"paused": true}));
        assert_eq!(cluster.ask(at(2), &change).status, 200, "{name}");
    }
    let nobody = cluster.get(1, "/core/immortals/nobody");
    assert_eq!((nobody.status, nobody.code()), (404, "NOT_FOUND"), "{}", nobody.body);
    let gone = cluster.ask(2, &Ask::new("DELETE", "/core/immortals/nobody?confirm=nobody"));
    assert_eq!((gone.status, &gone.body["outcome"]), (404, &json!("notApplied")), "{}", gone.body);
}

/// What is passed on is done where it goes, or refused there by name.
#[test]
fn the_forwarding_passes_writes_on() {
    let cluster = Cluster::started(3);
    let to = |path: &str| {
        format!("/core/node-selectors/default/forwarding?target=KEY_HASH&key={path}&path={path}")
    };
    let factory = to(EXAMPLES);
    let post = Ask::new("POST", &factory).json(&json!({"documentSelfLink": "one", "name": "a"}));
    let first = cluster.ask(0, &post);
    assert_eq!((first.status, first.header("location")), (200, Some(ONE)), "{}", first.body);
    let etag = first.header("etag").expect("a tag").to_owned();
    let patch = to(ONE);
    let patch = Ask::new("PATCH", &patch).json(&json!({"name": "b"})).key("k");
    let patch = patch.header("If-Match", &etag);
    let (one, again) = (cluster.ask(1, &patch), cluster.ask(2, &patch));
    assert_eq!((one.status, one.version()), (200, 1), "{}", one.body);
    assert_eq!((again.status, again.version()), (200, 1), "the same key: {}", again.body);
    let put = to(ONE);
    let put = Ask::new("PUT", &put).json(&json!({"name": "c"})).header("If-Match", &etag);
    assert_eq!(cluster.ask(1, &put).status, 412);
    let peer = "/core/node-selectors/default/forwarding?target=PEER_ID&peer=n3&path=";
    let deleted = cluster.ask(0, &Ask::new("DELETE", &format!("{peer}{ONE}")));
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(cluster.get(2, ONE).status, 404);
    let all = "/core/node-selectors/default/forwarding?target=ALL&path=/core/examples";
    refused(&cluster, &Ask::new("POST", all).json(&json!({"name": "x"})), "target=ALL");
    let told = cluster.get(1, all);
    assert_eq!((told.status, &told.body["nodeCount"]), (200, &json!(3)), "{}", told.body);
    let answers = told.body["jsonResponses"].as_object().expect("one of each node");
    assert_eq!(answers.len(), 3, "{}", told.body);
    for answer in answers.values() {
        let list: Value = serde_json::from_str(answer.as_str().unwrap()).unwrap();
        assert_eq!(list["documentCount"], 0, "{list}");
    }
    let stop = cluster.ask(0, &Ask::new("DELETE", &format!("{peer}/core/management")));
    assert_eq!(stop.status, 400, "a node is stopped at its own address: {}", stop.body);
}
