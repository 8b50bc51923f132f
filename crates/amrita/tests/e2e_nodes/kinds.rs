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
    assert!(cluster.ask(0, &Ask::new("DELETE", &definition)).is_success());
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
