//! The REST surface as a client meets it: factories and their utilities, lists, histories,
//! conditional writes, the node selector; asked at any of three nodes.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const EXAMPLES: &str = "/core/examples";
const QUERIES: &str = "/core/query-tasks";
const KIND: &str = "com:vmware:xenon:services:common:ExampleService:ExampleServiceState";

fn ok(reply: Reply) -> Reply {
    assert!(reply.is_success(), "{} {}", reply.status, reply.body);
    reply
}

fn post(cluster: &Cluster, which: usize, path: &str, body: &Value) -> Reply {
    ok(cluster.ask(which, &Ask::new("POST", path).json(body)))
}

fn patch(cluster: &Cluster, which: usize, path: &str, body: &Value) -> Reply {
    ok(cluster.ask(which, &Ask::new("PATCH", path).json(body)))
}

fn get(cluster: &Cluster, which: usize, path: &str) -> Value {
    ok(cluster.get(which, path)).body
}

fn links(body: &Value) -> Vec<&str> {
    body["documentLinks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn refused(cluster: &Cluster, ask: &Ask<'_>, status: u16, code: &str) {
    let reply = cluster.ask(0, ask);
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.body);
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it fits for long")
}

/// A direct query for what has these options and this clause.
fn query(options: &[&str], clause: &Value) -> Value {
    json!({"taskInfo": {"isDirect": true}, "querySpec": {"options": options, "query": clause}})
}

fn of_link(link: &str) -> Value {
    json!({"term": {"propertyName": "documentSelfLink", "matchValue": link}})
}

fn version_count(cluster: &Cluster, which: usize, link: &str) -> u64 {
    let asked = query(&["INCLUDE_ALL_VERSIONS", "COUNT"], &of_link(link));
    let found = post(cluster, which, QUERIES, &asked).body;
    found["results"]["documentCount"].as_u64().expect("a count")
}

#[test]
fn every_utility_of_a_factory_is_answered_by_every_node() {
    let cluster = Cluster::started(3);
    for number in 0..6 {
        let body = json!({"documentSelfLink": format!("u{number}"), "name": "u"});
        post(&cluster, number % 3, EXAMPLES, &body);
    }
    for which in 0..3 {
        for of in [EXAMPLES, "/core/examples/u1"] {
            let available = cluster.get(which, &format!("{of}/available"));
            assert_eq!(available.status, 200, "{}", available.body);
            let template = get(&cluster, which, &format!("{of}/template"));
            let fields = &template["documentDescription"]["propertyDescriptions"];
            assert_eq!(fields["name"]["typeName"], "STRING", "{template}");
            assert_eq!(template["documentKind"], KIND);
            let config = get(&cluster, which, &format!("{of}/config"));
            assert_eq!(
                (&config["versionRetentionLimit"], &config["versionRetentionFloor"]),
                (&json!(100), &json!(20))
            );
        }
        let stats = get(&cluster, which, "/core/examples/stats");
        // Owners count from the beginning of their ownership, and may have changed meanwhile.
        let posts = stats["entries"]["POSTrequestCount"]["latestValue"].as_f64();
        assert!(posts.is_some_and(|posts| (1.0..=6.0).contains(&posts)), "{stats}");
        let roots = get(&cluster, which, "/");
        assert!(links(&roots).contains(&EXAMPLES), "{roots}");
    }
    let config = Ask::new("PATCH", "/core/examples/config").json(&json!({}));
    refused(&cluster, &config, 400, "UNKNOWN_KIND");
    let kind = "com:vmware:xenon:common:ServiceConfigUpdateRequest";
    for (option, status) in [("INSTRUMENTATION", 200), ("PERIODIC_MAINTENANCE", 409)] {
        let body = json!({"kind": kind, "addOptions": [option]});
        for path in ["/core/examples/config", "/core/examples/u1/config"] {
            let reply = cluster.ask(1, &Ask::new("PATCH", path).json(&body));
            assert_eq!(reply.status, status, "{option} at {path}: {}", reply.body);
        }
    }
    refused(&cluster, &Ask::get("/core/examples/none/available"), 404, "NOT_FOUND");
}

#[test]
fn a_list_comes_in_pages_in_order_and_filtered() {
    let cluster = Cluster::started(3);
    for number in 0..7 {
        let body = json!({"documentSelfLink": format!("l{number}"),
            "name": format!("n{}", 9 - number),
            "counter": number});
        post(&cluster, number % 3, EXAMPLES, &body);
    }
    let at = |which, parameters: &str| get(&cluster, which, &format!("{EXAMPLES}?{parameters}"));
    for which in 0..3 {
        let all = get(&cluster, which, EXAMPLES);
        assert_eq!((links(&all).len(), &all["documentCount"]), (7, &json!(7)), "{all}");
        assert!(all["documents"].is_null(), "{all}");
    }
    let expanded = at(1, "expand");
    assert_eq!(expanded["documents"]["/core/examples/l3"]["name"], "n6");
    let mut page = at(0, "$limit=3&$orderby=name%20asc");
    let (mut found, mut which) = (Vec::new(), 0);
    loop {
        found.extend(links(&page).into_iter().map(str::to_owned));
        let Some(next) = page["nextPageLink"].as_str() else { break };
        which += 1;
        page = get(&cluster, which % 3, next);
    }
    let wanted: Vec<String> = (0..7).rev().map(|n| format!("/core/examples/l{n}")).collect();
    assert_eq!(found, wanted, "each page at another node");
    assert_eq!(links(&at(2, "$top=2&$skip=1")), ["/core/examples/l1", "/core/examples/l2"]);
    assert_eq!(at(0, "$count=true")["documentCount"], 7);
    let filter = "$filter=counter%20ge%202%20and%20not%20name%20eq%20'n7'&$orderby=counter%20desc";
    let filtered = at(1, filter);
    assert_eq!(links(&filtered).len(), 4, "{filtered}");
    assert_eq!(links(&filtered)[0], "/core/examples/l6");
    for wrong in ["$top=1&$limit=1", "$filter=counter%20ge", "$limit=0", "$nonsense=1"] {
        let path = format!("{EXAMPLES}?{wrong}");
        refused(&cluster, &Ask::get(&path), 400, "BAD_REQUEST");
    }
}

#[test]
fn old_versions_are_kept_up_to_the_limit_of_the_kind() {
    let cluster = Cluster::started(3);
    let one = "/core/examples/one";
    post(&cluster, 0, EXAMPLES, &json!({"documentSelfLink": "one", "name": "0"}));
    for number in 1..=99 {
        patch(&cluster, number % 3, one, &json!({"name": number.to_string()}));
    }
    assert_eq!(version_count(&cluster, 1, one), 100);
    assert_eq!(get(&cluster, 2, &format!("{one}?documentVersion=7"))["name"], "7");
    patch(&cluster, 0, one, &json!({"name": "100"}));
    assert_eq!(version_count(&cluster, 1, one), 20, "down to the floor");
    let gone = format!("{one}?documentVersion=80");
    refused(&cluster, &Ask::get(&gone), 410, "HISTORY_GONE");
    assert_eq!(get(&cluster, 1, &format!("{one}?documentVersion=81"))["name"], "81");
    assert_eq!(get(&cluster, 2, one)["name"], "100");
}

#[test]
fn what_expires_goes_with_its_whole_history() {
    let cluster = Cluster::started(3);
    let one = "/core/examples/one";
    let soon = now_micros() + 1_500_000;
    let body =
        json!({"documentSelfLink": "one", "name": "a", "documentExpirationTimeMicros": soon});
    post(&cluster, 0, EXAMPLES, &body);
    let changed = patch(&cluster, 1, one, &json!({"name": "b"})).body;
    assert_eq!(changed["documentExpirationTimeMicros"], soon);
    cluster
        .wait_for("the document to expire", || (cluster.get(2, one).status == 404).then_some(()));
    let again = post(&cluster, 2, EXAMPLES, &json!({"documentSelfLink": "one", "name": "c"}));
    assert_eq!(again.version(), 0, "a new life");
    assert_eq!(version_count(&cluster, 1, one), 1, "without the old history");

    patch(&cluster, 0, one, &json!({"name": "d"}));
    let past = json!({"documentExpirationTimeMicros": 1});
    ok(cluster.ask(1, &Ask::new("DELETE", one).json(&past)));
    assert_eq!(version_count(&cluster, 2, one), 0, "no tombstone either");
    let again = post(&cluster, 0, EXAMPLES, &json!({"documentSelfLink": "one", "name": "e"}));
    assert_eq!(again.version(), 0);
}

#[test]
fn a_query_sees_what_was_acknowledged_and_shows_it_as_asked() {
    let cluster = Cluster::started(3);
    for number in 0..9 {
        let body = json!({"documentSelfLink": format!("q{number}"),
            "name": format!("name-{number}"),
            "counter": number, "tags": ["all", if number % 2 == 0 { "even" } else { "odd" }],
            "keyValues": {"k": format!("v{number}")}});
        let made = post(&cluster, number % 3, EXAMPLES, &body).body;
        let link = made["documentSelfLink"].as_str().expect("a link");
        let seen = post(&cluster, (number + 1) % 3, QUERIES, &query(&[], &of_link(link))).body;
        assert_eq!(links(&seen["results"]), [link], "at once, at another node");
    }
    let term = |name: &str, kind: &str, value: Value| -> Value {
        json!({"propertyName": name, "matchType": kind, "matchValue": value})
    };
    let range = json!({"type": "LONG", "min": 2, "max": 7, "isMinInclusive": true});
    let clauses = json!({"booleanClauses": [
        {"occurance": "MUST_OCCUR", "term": term("documentKind", "TERM", json!(KIND))},
        {"occurance": "MUST_OCCUR", "term": {"propertyName": "counter", "range": range}},
        {"occurance": "MUST_NOT_OCCUR", "term": term("name", "WILDCARD", json!("*-4"))},
        {"occurance": "MUST_OCCUR", "booleanClauses": [
            {"occurance": "SHOULD_OCCUR", "term": term("tags.item", "TERM", json!("odd"))},
            {"occurance": "SHOULD_OCCUR", "term": term("keyValues.k", "PREFIX", json!("v2"))}]}]});
    let mut sorted = query(&["EXPAND_CONTENT", "SORT"], &clauses);
    sorted["querySpec"]["sortTerm"] = json!({"propertyName": "counter", "propertyType": "LONG"});
    sorted["querySpec"]["sortOrder"] = json!("DESC");
    let found = post(&cluster, 1, QUERIES, &sorted).body;
    let wanted = ["/core/examples/q5", "/core/examples/q3", "/core/examples/q2"];
    assert_eq!(links(&found["results"]), wanted, "{found}");
    assert_eq!(found["results"]["documents"]["/core/examples/q3"]["keyValues"]["k"], "v3");
    assert_eq!(found["taskInfo"]["stage"], "FINISHED");

    let all = json!({"term": term("tags.item", "TERM", json!("all"))});
    let counted = post(&cluster, 2, QUERIES, &query(&["COUNT"], &all)).body;
    assert_eq!(counted["results"]["documentCount"], 9);
    assert!(links(&counted["results"]).is_empty(), "{counted}");
    let mut top = query(&["TOP_RESULTS"], &all);
    top["querySpec"]["resultLimit"] = json!(4);
    let top = post(&cluster, 0, QUERIES, &top).body;
    assert_eq!(links(&top["results"]).len(), 4);
    assert!(top["results"]["nextPageLink"].is_null(), "{top}");

    ok(cluster.ask(0, &Ask::new("DELETE", "/core/examples/q8")));
    let of_name = json!({"term": term("name", "TERM", json!("name-8"))});
    for (options, count) in [(&["COUNT"][..], 0), (&["COUNT", "INCLUDE_DELETED"], 1)] {
        let found = post(&cluster, 1, QUERIES, &query(options, &of_name)).body;
        assert_eq!(found["results"]["documentCount"], count, "{options:?}");
    }
    pages_are_followed(&cluster, &all);
    a_query_in_the_background_keeps_its_results(&cluster, &all);
}

/// With a limit the first answer has a link only, and any node gives the pages.
fn pages_are_followed(cluster: &Cluster, all: &Value) {
    let mut paged = query(&["EXPAND_CONTENT"], all);
    paged["querySpec"]["resultLimit"] = json!(3);
    let first = post(cluster, 0, QUERIES, &paged).body;
    assert!(links(&first["results"]).is_empty(), "{first}");
    let (mut found, mut which) = (BTreeSet::new(), 0);
    let mut next = first["results"]["nextPageLink"].clone();
    while let Some(link) = next.as_str() {
        which += 1;
        let page = get(cluster, which % 3, link);
        let here = links(&page["results"]);
        assert!((1..=3).contains(&here.len()), "{page}");
        found.extend(here.into_iter().map(str::to_owned));
        next = page["results"]["nextPageLink"].clone();
    }
    assert_eq!((found.len(), which), (8, 3), "{found:?}");
    refused(cluster, &Ask::get("/core/query-page/nonsense"), 404, "NOT_FOUND");

    let clause = |n: usize| {
        let value = format!("{n}").repeat(3_000);
        json!({"occurance": "SHOULD_OCCUR", "term": {"propertyName": "name", "matchValue": value}})
    };
    let long = json!({"booleanClauses": (0..10).map(clause).collect::<Vec<_>>()});
    let mut long = query(&[], &long);
    assert!(links(&post(cluster, 0, QUERIES, &long).body["results"]).is_empty());
    long["querySpec"]["resultLimit"] = json!(3);
    // Its pages' links would be too long for any request.
    refused(cluster, &Ask::new("POST", QUERIES).json(&long), 400, "BAD_REQUEST");
}

fn a_query_in_the_background_keeps_its_results(cluster: &Cluster, all: &Value) {
    let task = json!({"querySpec": {"options": ["COUNT"], "query": all}});
    let made = post(cluster, 0, QUERIES, &task);
    assert_eq!(made.status, 202, "{}", made.body);
    let link = made.body["documentSelfLink"].as_str().expect("a link");
    let done = cluster.wait_for("the query to be finished", || {
        let task = get(cluster, 1, link);
        (task["taskInfo"]["stage"] == "FINISHED").then_some(task)
    });
    assert_eq!(done["results"]["documentCount"], 8, "{done}");
    let left =
        done["documentExpirationTimeMicros"].as_u64().unwrap_or(0).saturating_sub(now_micros());
    assert!((500_000_000..=600_000_000).contains(&left), "it goes after ten minutes: {done}");
}

#[test]
fn a_write_may_be_conditional_keyed_and_a_merge_patch() {
    let cluster = Cluster::started(3);
    let one = "/core/examples/one";
    let body = json!({"documentSelfLink": "one", "name": "a", "sortedCounter": 1,
        "tags": ["x", "y"]});
    let made = post(&cluster, 0, EXAMPLES, &body);
    assert_eq!(made.header("location"), Some(one));
    let etag = made.header("etag").expect("a document has an entity tag").to_owned();
    assert_eq!(cluster.get(1, one).header("etag"), Some(etag.as_str()), "the same everywhere");

    let change = json!({"sortedCounter": null, "tags": ["z"]});
    let merged = Ask::new("PATCH", one).merge_patch(&change).header("If-Match", &etag).key("k");
    let (first, again) = (cluster.ask(1, &merged), cluster.ask(2, &merged));
    assert_eq!((first.status, again.status), (200, 200), "{}", again.body);
    assert_eq!(first.body, again.body, "the first answer comes back, whatever has changed since");
    assert!(first.body["sortedCounter"].is_null(), "null removes: {}", first.body);
    assert_eq!(first.body["tags"], json!(["z"]), "a list is replaced");

    let stale = Ask::new("PUT", one).json(&json!({"name": "b"})).header("If-Match", &etag);
    refused(&cluster, &stale, 412, "PRECONDITION_FAILED");
    let plain = Ask::new("PATCH", one).json(&change).key("k");
    refused(&cluster, &plain, 422, "KEY_REUSED");
    let keyless = Ask::new("PATCH", one).json(&change).key("");
    refused(&cluster, &keyless, 400, "BAD_REQUEST");

    let (own, twice) = (json!({"name": "c"}), Ask::new("POST", EXAMPLES));
    let twice = twice.json(&own).key("made once");
    let (one, other) = (ok(cluster.ask(0, &twice)).body, ok(cluster.ask(1, &twice)).body);
    assert_eq!(one["documentSelfLink"], other["documentSelfLink"], "a name made of the key");
}

#[test]
fn every_node_names_the_same_owner_and_tells_no_secrets() {
    let cluster = Cluster::started(3);
    let selector = "/core/node-selectors/default";
    for number in 0..5 {
        let key = json!({"key": format!("/core/examples/o{number}")});
        let told = cluster.wait_for("all nodes to agree", || {
            let told: Vec<Value> =
                (0..3).map(|which| post(&cluster, which, selector, &key).body).collect();
            let owner = &told[0]["ownerNodeId"];
            let agree = owner.is_string() && told.iter().all(|one| one["ownerNodeId"] == *owner);
            let local = told.iter().filter(|one| one["isLocalHostOwner"] == true).count();
            (agree && local == 1).then_some(told)
        });
        assert_eq!(told[0]["availableNodeCount"], 3, "{}", told[0]);
    }
    let state = get(&cluster, 1, selector);
    assert_eq!((&state["status"], &state["membershipQuorum"]), (&json!("AVAILABLE"), &json!(2)));
    refused(&cluster, &Ask::new("PUT", selector).json(&json!({})), 405, "METHOD_NOT_ALLOWED");

    let host = get(&cluster, 2, "/core/management");
    assert_eq!(host["id"], "n3", "{host}");
    let names: Vec<&String> =
        host.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    for secret in ["environment", "passphrase", "key", "properties", "sandbox"] {
        let told = names.iter().find(|name| name.to_lowercase().contains(secret));
        assert_eq!(told, None, "{host}");
    }
    let patch = Ask::new("PATCH", "/core/management").json(&json!({}));
    refused(&cluster, &patch, 405, "METHOD_NOT_ALLOWED");
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let cluster = Cluster::started(1);
    post(&cluster, 0, EXAMPLES, &json!({"documentSelfLink": "one", "name": "a"}));
    for path in ["one/../one", "..", "%2e%2e/examples/one", "a%00b", "a%20b", "a//b", "a%3Fb", "."]
    {
        let path = format!("{EXAMPLES}/{path}");
        refused(&cluster, &Ask::get(&path), 400, "BAD_LINK");
        refused(&cluster, &Ask::new("DELETE", &path), 400, "BAD_LINK");
    }
    refused(&cluster, &Ask::get("/core/examples/one/deeper"), 404, "NOT_FOUND");
    let slow = Ask::get("/core/examples/one").within(Duration::from_secs(5));
    assert_eq!(ok(slow.send(cluster.port(0)).expect("it serves on")).body["name"], "a");
}
