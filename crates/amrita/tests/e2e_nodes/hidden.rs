//! What one may not see does not show, whatever is asked: one who sees the documents of one tenant
//! gets the same answers before and after others have written, changed and deleted theirs.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::http::Ask;
use crate::security::{Secured, bearer};

const EXAMPLES: &str = "/core/examples";
const QUERIES: &str = "/core/query-tasks";

/// What tells when something was, or where a reader is: these differ from answer to answer.
const MOVING: [&str; 5] =
    ["durationMicros", "nextPageLink", "prevPageLink", "queryTimeMicros", "token"];

fn without_moving(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !MOVING.contains(&name.as_str()));
            fields.values_mut().for_each(without_moving);
        }
        Value::Array(values) => values.iter_mut().for_each(without_moving),
        _ => {}
    }
}

/// All that tina can find out: what was asked, and what the answer was.
fn all_answers(secured: &Secured, tina: &str) -> Vec<(String, u16, Value)> {
    let mut answers = Vec::new();
    let mut ask = |verb: &str, path: &str, body: &Value| {
        let reply = secured.with(0, tina, verb, path, body);
        let mut shown = reply.body.clone();
        without_moving(&mut shown);
        answers.push((format!("{verb} {path} {body}"), reply.status, shown));
        reply
    };
    for parameters in [
        "",
        "?expand",
        "?$count=true",
        "?$top=2&$orderby=counter%20desc",
        "?$skip=2",
        "?$top=3&$count=true",
        "?$filter=counter%20ge%203",
        "?$orderby=counter%20asc&expand",
        "?$filter=name%20eq%20'hidden'",
        "?$limit=2&$count=true",
    ] {
        let mut next = Some(format!("{EXAMPLES}{parameters}"));
        while let Some(path) = next {
            let reply = ask("GET", &path, &Value::Null);
            next = reply.body["nextPageLink"].as_str().map(str::to_owned);
        }
    }
    for path in [
        "/core/odata-queries?$filter=counter%20ge%200",
        "/core/odata-queries?$filter=counter%20ge%200&$count=true",
        "/core/document-index?documentSelfLink=/core/examples*",
        "/core/document-index?documentSelfLink=/core/examples*&includeDeleted=true",
    ] {
        ask("GET", path, &Value::Null);
    }
    answers.extend(of_queries(secured, tina));
    answers.extend(of_what_is_hidden(secured, tina));
    answers
}

/// What query tasks find, page by page.
fn of_queries(secured: &Secured, tina: &str) -> Vec<(String, u16, Value)> {
    let mut answers = Vec::new();
    let of_all = json!({"term": {"propertyName": "documentSelfLink", "matchType": "PREFIX",
        "matchValue": "/core/"}});
    let by_counter = json!({"propertyName": "counter", "propertyType": "LONG"});
    for (options, limit) in [
        (&["EXPAND_CONTENT"][..], 0),
        (&["COUNT"], 0),
        (&["COUNT", "INCLUDE_ALL_VERSIONS"], 0),
        (&["COUNT", "INCLUDE_DELETED"], 0),
        (&["COUNT", "INCLUDE_DELETED", "INCLUDE_ALL_VERSIONS"], 0),
        (&["SORT", "EXPAND_CONTENT"], 0),
        (&["SORT", "TOP_RESULTS"], 2),
        (&["SORT"], 2),
        (&["INCLUDE_ALL_VERSIONS"], 3),
        (&["TIME_SNAPSHOT", "EXPAND_CONTENT"], 0),
        (&["TIME_SNAPSHOT", "COUNT", "INCLUDE_DELETED"], 0),
        (&["GROUP_BY"], 2),
        (&["SELECT_LINKS", "EXPAND_LINKS"], 0),
        (&[], 1),
    ] {
        let mut spec = json!({"options": options, "query": of_all});
        if options.contains(&"SORT") {
            spec["sortTerm"] = by_counter.clone();
            spec["sortOrder"] = json!("DESC");
        }
        if options.contains(&"TIME_SNAPSHOT") {
            // The node's clock may be a little behind this one, and nobody knows what will be.
            spec["timeSnapshotBoundaryMicros"] = json!(now_micros() - 5_000);
        }
        if options.contains(&"GROUP_BY") {
            spec["groupByTerm"] = by_counter.clone();
        }
        if options.contains(&"SELECT_LINKS") {
            spec["linkTerms"] = json!([{"propertyName": "documentSelfLink"}]);
        }
        if limit > 0 {
            spec["resultLimit"] = json!(limit);
        }
        let task = json!({"taskInfo": {"isDirect": true}, "querySpec": spec});
        let reply = secured.with(0, tina, "POST", QUERIES, &task);
        let mut results = reply.body["results"].clone();
        let mut next = results["nextPageLink"].as_str().map(str::to_owned);
        let mut pages = Vec::new();
        loop {
            without_moving(&mut results);
            pages.push(results);
            let Some(path) = next else { break };
            let page = secured.with(0, tina, "GET", &path, &Value::Null);
            results = page.body["results"].clone();
            next = results["nextPageLink"].as_str().map(str::to_owned);
        }
        answers.push((format!("query {options:?} {limit}"), reply.status, json!(pages)));
    }
    answers
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it is not so late")
}

/// Paths of what is hidden, or is not there.
fn of_what_is_hidden(secured: &Secured, tina: &str) -> Vec<(String, u16, Value)> {
    let mut answers = Vec::new();
    for name in ["h0", "h1", "never"] {
        let link = format!("{EXAMPLES}/{name}");
        for (verb, rest, body) in [
            ("GET", "", Value::Null),
            ("GET", "?documentVersion=0", Value::Null),
            ("GET", "?documentVersion=1", Value::Null),
            ("GET", "?asOf=1", Value::Null),
            ("GET", "?asOf=1790000000000000", Value::Null),
            ("GET", "?asOf=v0", Value::Null),
            ("GET", "?diff=0", Value::Null),
            ("GET", "?diff=0,1", Value::Null),
            ("PUT", "?revert=0", Value::Null),
            ("GET", "?consistency=local", Value::Null),
            ("GET", "/stats", Value::Null),
            ("GET", "/config", Value::Null),
            ("GET", "/template", Value::Null),
            ("GET", "/available", Value::Null),
            ("PATCH", "", json!({"name": "acme"})),
            ("PUT", "", json!({"name": "acme"})),
            ("DELETE", "", Value::Null),
        ] {
            let path = format!("{link}{rest}");
            let reply = secured.with(0, tina, verb, &path, &body);
            answers.push((format!("{verb} {path}"), reply.status, reply.body));
        }
        let forwarded = format!(
            "/core/node-selectors/default/forwarding?path={link}&target=KEY_HASH&key={link}"
        );
        let indexed = format!("/core/document-index?documentSelfLink={link}&documentVersion=0");
        for path in [forwarded, indexed] {
            let reply = secured.with(0, tina, "GET", &path, &Value::Null);
            answers.push((path, reply.status, reply.body));
        }
    }
    for path in [
        "/",
        "/core/examples/stats",
        "/core/examples/available",
        "/core/query-tasks/stats",
        "/core/audit",
        "/core/management",
        "/metrics",
        "/core/node-groups/default",
        "/core/node-selectors/default",
        "/core/authz/users",
        "/core/auth/tokens?$count=true",
    ] {
        let reply = secured.with(0, tina, "GET", path, &Value::Null);
        answers.push((format!("GET {path}"), reply.status, reply.body));
    }
    answers.iter_mut().for_each(|(_, _, body)| without_moving(body));
    answers
}

#[test]
fn whoever_sees_one_tenant_does_not_notice_that_there_is_another() {
    let secured = Secured::started(1);
    let people = secured.people();
    let tina = people.iter().find(|(name, _)| *name == "tina").map(|(_, token)| token.as_str());
    let tina = tina.expect("she is one of them");
    for number in 0..5 {
        let body = json!({"documentSelfLink": format!("v{number}"), "name": "acme",
            "counter": number});
        let made = secured.with(0, tina, "POST", EXAMPLES, &body);
        assert_eq!(made.status, 200, "{}", made.body);
    }
    secured.with(0, tina, "PATCH", "/core/examples/v1", &json!({"counter": 7}));
    secured.with(0, tina, "DELETE", "/core/examples/v4", &Value::Null);
    let (before, of_admin) = (all_answers(&secured, tina), all_answers(&secured, &secured.admin));
    for number in 0..9 {
        let body = json!({"documentSelfLink": format!("h{number}"), "name": "hidden",
            "counter": number});
        secured.as_admin(0, "POST", EXAMPLES, &body);
    }
    for number in 0..4 {
        let link = format!("{EXAMPLES}/h{}", number % 3);
        secured.as_admin(0, "PATCH", &link, &json!({"counter": 100 + number}));
    }
    secured.as_admin(0, "DELETE", "/core/examples/h1", &Value::Null);
    secured.as_admin(0, "DELETE", "/core/examples/h8", &Value::Null);
    let after = all_answers(&secured, tina);
    assert!(before.len() > 60, "she has asked a good deal: {}", before.len());
    // The answers are those of a reader who sees something.
    assert!(before.iter().any(|(_, status, body)| *status == 200 && body["documentCount"] == 4));
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was, is);
    }
    assert_eq!(before.len(), after.len());
    // Who may see all of it sees the difference in most of these answers.
    let of_admin_now = all_answers(&secured, &secured.admin);
    let changed = of_admin.iter().filter(|it| !of_admin_now.contains(it)).count();
    assert!(changed > 30, "the questions would not have told: {changed}");
    // What is hidden is told as what is not there.
    let of = |name: &str| {
        let rows = of_what_is_hidden(&secured, tina).into_iter();
        let of_name = rows.filter(|(asked, ..)| asked.contains(&format!("/{name}")));
        let plain = |(asked, status, body): (String, u16, Value)| {
            (asked.replace(name, "it"), status, body.to_string().replace(name, "it"))
        };
        of_name.map(plain).collect::<Vec<_>>()
    };
    assert_eq!(of("h0"), of("never"));
    assert_eq!(of("h1"), of("never"), "also one that was deleted");
}

/// A document can go out of sight and come back: then its end is told, and nothing of what it was
/// meanwhile.
#[test]
fn a_watch_tells_nothing_of_what_is_hidden() {
    let mut secured = Secured::started(1);
    let people = secured.people();
    let tina = people.iter().find(|(name, _)| *name == "tina").map(|(_, token)| token.as_str());
    let tina = tina.expect("she is one of them");
    let begin = secured.with(0, tina, "GET", "/core/changes?wait=0", &Value::Null);
    let token = begin.body["token"].as_str().expect("a token").to_owned();
    let hidden = json!({"documentSelfLink": "h0", "name": "hidden", "counter": 1});
    secured.as_admin(0, "POST", EXAMPLES, &hidden);
    let seen = json!({"documentSelfLink": "v0", "name": "acme", "counter": 1});
    assert_eq!(secured.with(0, tina, "POST", EXAMPLES, &seen).status, 200);
    let link = format!("{EXAMPLES}/v0");
    for body in [json!({"name": "hidden"}), json!({"counter": 424_242}), json!({"name": "acme"})] {
        secured.as_admin(0, "PATCH", &link, &body);
    }
    secured.as_admin(0, "DELETE", "/core/examples/h0", &Value::Null);
    let path = format!("/core/changes?prefix={EXAMPLES}/&before=true&wait=0&after={token}");
    let told = |secured: &Secured, who: &str| {
        let reply = secured.with(0, who, "GET", &path, &Value::Null);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body["changes"].as_array().expect("changes").clone()
    };
    let short = |change: &Value| {
        let parts = ["before", "document"].map(|part| change.get(part).is_some());
        let version = change["version"].as_u64().expect("a version");
        (change["link"] == link, version, change["isMatch"] == true, parts)
    };
    let of_tina = told(&secured, tina);
    let expected = [
        (true, 0, true, [false, true]),
        // It has gone out of sight: she sees what it was, and not what it is.
        (true, 1, false, [true, false]),
        // It is back, and what it was before is not shown.
        (true, 3, true, [false, true]),
    ];
    assert_eq!(of_tina.iter().map(short).collect::<Vec<_>>(), expected, "{of_tina:#?}");
    assert_eq!(told(&secured, &secured.admin).len(), 6, "an admin is told of all of it");
    let one = format!("{EXAMPLES}/h0?watch=true&wait=0&after={token}");
    let of_hidden = secured.with(0, tina, "GET", &one, &Value::Null);
    assert_eq!(of_hidden.body["changes"], json!([]), "{}", of_hidden.body);
    assert_eq!(secured.with(0, "", "GET", &path, &Value::Null).status, 401);

    // After a restart changes are found in the store, and the token of one who catches up there
    // names the last document that was looked at. So only who sees all of them catches up.
    // A node that ends in good order has its state on the disk, and nothing comes from its log.
    secured.as_admin(0, "DELETE", "/core/management", &Value::Null);
    secured.cluster.ends(0);
    let flags = secured.flags();
    secured.cluster.start_with(0, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    secured.cluster.wait_for("it to serve", || {
        let reply = bearer(Ask::get(&link), &secured.admin).send(secured.cluster.port(0)).ok()?;
        (reply.status == 200).then_some(())
    });
    let gone = secured.with(0, tina, "GET", &path, &Value::Null);
    assert_eq!((gone.status, gone.code()), (410, "CHANGES_GONE"), "{}", gone.body);
    assert!(!told(&secured, &secured.admin).is_empty(), "an admin is told of what was missed");
}

/// Whether a kind has documents is told to who may delete its definition, and to nobody else.
#[test]
fn who_may_not_delete_a_kind_does_not_learn_whether_it_is_used() {
    let secured = Secured::started(1);
    let people = secured.people();
    let tina = people.iter().find(|(name, _)| *name == "tina").map(|(_, token)| token.as_str());
    let tina = tina.expect("she is one of them");
    for kind in ["core:auth:tokens", "core:auth:join-tokens", "core:examples", "no:such"] {
        let path = format!("/core/factories/{kind}");
        let reply = secured.with(0, tina, "DELETE", &path, &Value::Null);
        assert_eq!((reply.status, reply.code()), (403, "ACCESS_DENIED"), "{path}: {}", reply.body);
    }
}
