//! Kinds of documents that are defined while the cluster runs: known everywhere at once, through
//! deaths of nodes and of all of them.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{Ask, Reply};

const KINDS: &str = "/core/factories";
const SEATS: &str = "/app/seats";

fn seats() -> Value {
    json!({"link": SEATS, "merge": ["tags"], "schema": {
        "type": "object",
        "required": ["row"],
        "properties": {
            "row": {"type": "string", "readOnly": true},
            "price": {"type": "number", "minimum": 0, "default": 10},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "additionalProperties": false,
    }})
}

fn post(cluster: &Cluster, which: usize, path: &str, body: &Value) -> Reply {
    cluster.ask(which, &Ask::new("POST", path).json(body))
}

#[test]
fn a_kind_is_there_in_the_whole_cluster_at_once_and_survives_every_death() {
    let mut cluster = Cluster::started(3);
    assert_eq!(post(&cluster, 0, SEATS, &json!({"row": "A"})).status, 404);
    let defined = post(&cluster, 0, KINDS, &seats());
    assert_eq!(defined.status, 200, "{}", defined.body);
    assert_eq!(defined.body["documentSelfLink"], "/core/factories/app:seats");
    assert_eq!(defined.body["kind"], "app:seats");
    for which in [1, 2, 0, 1, 2] {
        let body = json!({"row": format!("R{which}")});
        let made = post(&cluster, which, SEATS, &body);
        assert_eq!(made.status, 200, "at once, at any node: {}", made.body);
        assert_eq!(
            (&made.body["price"], &made.body["documentKind"]),
            (&json!(10), &json!("app:seats"))
        );
    }
    let link = format!("{SEATS}/one");
    post(&cluster, 1, SEATS, &json!({"documentSelfLink": "one", "row": "A", "tags": ["x"]}));
    for (body, why) in [
        (json!({"price": -1}), "'/price': -1 is less than the minimum of 0"),
        (json!({"row": "B"}), "row is readOnly"),
        (json!({"colour": "red"}), "'colour' was unexpected"),
    ] {
        let refused = cluster.ask(2, &Ask::new("PATCH", &link).json(&body));
        assert_eq!((refused.status, refused.body["outcome"].as_str()), (400, Some("notApplied")));
        assert!(refused.message().contains(why), "{}", refused.body);
    }
    cluster.kill(0);
    let patch = json!({"tags": ["y"]});
    let merged = cluster.wait_for("an owner", || {
        let reply = cluster.ask(1, &Ask::new("PATCH", &link).json(&patch).key("merge"));
        reply.is_success().then_some(reply)
    });
    assert_eq!(merged.body["tags"], json!(["x", "y"]));
    cluster.start(0);
    cluster.wait_until_whole();
    for which in 0..3 {
        cluster.kill(which);
    }
    cluster.start_all();
    cluster.wait_until_whole();
    for which in 0..3 {
        let found = cluster.get(which, &format!("{SEATS}?$filter=row%20eq%20A"));
        assert_eq!(found.body["documentLinks"], json!([link]), "{}", found.body);
        let options = cluster.ask(which, &Ask::new("OPTIONS", SEATS));
        assert_eq!(options.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
    }
}

#[test]
fn a_definition_is_changed_and_removed_and_comes_again_with_its_documents() {
    let cluster = Cluster::started(3);
    assert!(post(&cluster, 0, KINDS, &seats()).is_success());
    let one = json!({"documentSelfLink": "one", "row": "A"});
    assert!(post(&cluster, 1, SEATS, &one).is_success());
    let definition = format!("{KINDS}/app:seats");
    let wider = json!({"schema": {"type": "object", "required": ["row"]}});
    let changed = cluster.ask(2, &Ask::new("PATCH", &definition).json(&wider));
    assert_eq!(changed.status, 400, "merge names a field that the schema does not have any more");
    let wider = json!({"schema": {"type": "object", "required": ["row"]}, "merge": []});
    let changed = cluster.ask(2, &Ask::new("PATCH", &definition).json(&wider));
    assert!(changed.is_success(), "{}", changed.body);
    let link = format!("{SEATS}/one");
    let taken = cluster.wait_for("the new schema", || {
        let reply = cluster.ask(0, &Ask::new("PATCH", &link).json(&json!({"colour": "red"})));
        reply.is_success().then_some(reply)
    });
    assert_eq!(taken.body["colour"], "red");
    let refused = cluster.ask(0, &Ask::new("DELETE", &definition));
    assert_eq!((refused.status, refused.code()), (409, "REFUSED"), "{}", refused.body);
    assert_eq!(refused.body["outcome"], "notApplied");
    let remove = Ask::new("DELETE", &definition).header("Pragma", "xn-force-index-update");
    assert!(cluster.ask(0, &remove).is_success());
    cluster.wait_for("the end of the kind", || {
        (cluster.get(1, &link).status == 404 && cluster.get(2, SEATS).status == 404).then_some(())
    });
    let again = Ask::new("POST", KINDS).json(&seats()).header("Pragma", "xn-force-index-update");
    assert!(cluster.ask(1, &again).is_success());
    for which in 0..3 {
        let back = cluster.get(which, &link);
        assert_eq!((back.status, &back.body["row"]), (200, &json!("A")), "{}", back.body);
    }
}

/// OpenAPI, `/template`, SQL and query tasks, at a node that did not take the definition.
#[test]
fn what_describes_and_finds_documents_knows_a_kind_that_was_defined_just_now() {
    let cluster = Cluster::started(3);
    let mut definition = seats();
    definition["actions"] = json!(["hold"]);
    assert!(post(&cluster, 0, KINDS, &definition).is_success());
    for (name, row, price) in [("one", "A", 3), ("two", "B", 7), ("three", "B", 12)] {
        let body = json!({"documentSelfLink": name, "row": row, "price": price, "tags": ["x"]});
        assert!(post(&cluster, 1, SEATS, &body).is_success());
    }
    for which in [2, 1, 0] {
        let described = cluster.get(which, "/core/openapi.json").body;
        let paths = described["paths"].as_object().expect("paths");
        let of_kind: Vec<&String> = paths.keys().filter(|path| path.starts_with(SEATS)).collect();
        assert!(of_kind.len() > 2 && paths.contains_key(SEATS), "{of_kind:?}");
        let schema = &described["components"]["schemas"]["app.seats"];
        let row = &schema["properties"]["row"];
        assert_eq!(*row, json!({"type": "string", "x-amrita-fixed": true}), "{schema}");
        assert_eq!(schema["required"], json!(["row"]));
        assert_eq!(schema["properties"]["price"]["minimum"], 0);

        let template = cluster.get(which, &format!("{SEATS}/template"));
        assert_eq!(template.status, 200, "{}", template.body);
        let names = &template.body["documentDescription"]["propertyDescriptions"];
        assert!(names["tags"].is_object() && names["price"].is_object(), "{}", template.body);

        let select = "select row, count(*), max(price) from seats group by row order by row";
        let rows = post(&cluster, which, "/core/sql", &json!({ "sql": select }));
        assert_eq!(rows.body["rows"], json!([["A", 1, 3], ["B", 2, 12]]), "{}", rows.body);

        let clause = |name: &str, value: &str| {
            let term = json!({"propertyName": name, "matchValue": value});
            json!({"occurance": "MUST_OCCUR", "term": term})
        };
        let both = [clause("documentKind", "app:seats"), clause("row", "B")];
        let task = json!({"taskInfo": {"isDirect": true}, "querySpec": {
            "options": ["COUNT"], "query": {"booleanClauses": both}}});
        let found = post(&cluster, which, "/core/query-tasks", &task);
        assert_eq!(found.body["results"]["documentCount"], 2, "{}", found.body);
    }
}

#[test]
fn the_options_and_the_retention_of_a_defined_kind_hold() {
    let cluster = Cluster::started(3);
    let define = |link: &str, more: &Value| {
        let mut body = json!({"link": link, "schema": {"type": "object"}});
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        let defined = post(&cluster, 0, KINDS, &body);
        assert!(defined.is_success(), "{}", defined.body);
        let made = post(&cluster, 1, link, &json!({"documentSelfLink": "one", "n": 0}));
        assert!(made.is_success(), "{}", made.body);
        format!("{link}/one")
    };
    let change = |link: &str, body: Value| cluster.ask(2, &Ask::new("PATCH", link).json(&body));

    let strict = define("/app/strict", &json!({"options": ["STRICT_UPDATE_CHECKING"]}));
    let refused = change(&strict, json!({"n": 1}));
    assert_eq!((refused.status, &refused.body["outcome"]), (400, &json!("notApplied")));
    let refused = change(&strict, json!({"n": 1, "documentVersion": 7}));
    assert_eq!(refused.code(), "VERSION_MISMATCH", "{}", refused.body);
    assert!(change(&strict, json!({"n": 1, "documentVersion": 0})).is_success());

    let immutable = define("/app/immutable", &json!({"options": ["IMMUTABLE"]}));
    let refused = change(&immutable, json!({"n": 1}));
    assert_eq!((refused.status, refused.code()), (405, "METHOD_NOT_ALLOWED"));
    let put = cluster.ask(0, &Ask::new("PUT", &immutable).json(&json!({"n": 1})));
    assert_eq!(put.status, 405, "{}", put.body);
    assert_eq!(cluster.get(1, &immutable).body["n"], 0);
    let with_actions = json!({"link": "/app/other", "options": ["IMMUTABLE"], "actions": ["hold"]});
    let refused = post(&cluster, 0, KINDS, &with_actions);
    assert!(refused.status == 400 && refused.message().contains("IMMUTABLE"), "{}", refused.body);

    let kept = define("/app/kept", &json!({"retentionLimit": 4, "retentionFloor": 2}));
    for n in 1..=9 {
        assert!(change(&kept, json!({ "n": n })).is_success());
    }
    let at = |version: u64| cluster.get(0, &format!("{kept}?documentVersion={version}"));
    assert_eq!((at(9).status, &at(9).body["n"]), (200, &json!(9)));
    assert_eq!((at(8).status, &at(8).body["n"]), (200, &json!(8)), "the floor stays");
    assert_eq!((at(3).status, at(3).code()), (410, "HISTORY_GONE"), "over the limit");
}

#[test]
fn a_definition_does_not_go_back_to_an_older_version_at_any_node() {
    let cluster = Cluster::started(3);
    let mut definition = seats();
    definition["version"] = json!("2.10");
    assert!(post(&cluster, 0, KINDS, &definition).is_success());
    let link = format!("{KINDS}/app:seats");
    let patch = |which, body: Value| cluster.ask(which, &Ask::new("PATCH", &link).json(&body));
    for which in 0..3 {
        let refused = patch(which, json!({"version": "2.9", "retentionLimit": 5}));
        assert_eq!((refused.status, refused.code()), (409, "OLDER_DEFINITION"));
        assert_eq!(refused.body["outcome"], "notApplied");
    }
    let refused = cluster.ask(1, &Ask::new("PUT", &link).json(&seats()));
    assert_eq!(refused.code(), "OLDER_DEFINITION", "{}", refused.body);
    assert!(patch(2, json!({"version": null})).is_success());
    assert!(patch(2, json!({"version": "1", "retentionLimit": 5})).is_success());
}

#[test]
fn a_wrong_definition_is_refused_with_what_is_wrong() {
    let cluster = Cluster::started(1);
    for (body, code, why) in [
        (json!({"link": "/core/seats"}), "BAD_LINK", "not under /core"),
        (json!({"link": "/app/seats", "fields": []}), "BAD_BODY", "no field 'fields'"),
        (json!({"link": "/app/seats", "schema": {"type": "objct"}}), "BAD_REQUEST", "'/type'"),
        (json!({"schema": {}}), "BAD_REQUEST", "link is required"),
    ] {
        let refused = post(&cluster, 0, KINDS, &body);
        assert_eq!((refused.status, refused.code()), (400, code), "{}", refused.body);
        assert!(refused.message().contains(why), "{}", refused.body);
    }
}
