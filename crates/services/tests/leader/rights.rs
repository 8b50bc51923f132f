//! The leader where rights count: what it shows, what it refuses, and for whom tasks act.

use access::Policy;
use protocol::Document;
use serde_json::{Value, json};

use crate::rule;
use crate::world::World;

const JANE: &str = "/core/authz/users/jane";

/// A user with the right to these verbs on the documents with a field of that value.
struct Right<'a> {
    verbs: &'a [&'a str],
    field: (&'a str, &'a str),
}

fn only<'a>(verbs: &'a [&'a str], field: (&'a str, &'a str)) -> Right<'a> {
    Right { verbs, field }
}

/// Jane, made then, with these rights.
fn policy(made: u64, rights: &[Right<'_>]) -> Policy {
    let group = format!("{}/own", access::USER_GROUPS);
    let jane = json!({"email": "jane", "madeMicros": made, "userGroupLinks": [group]});
    let mut all: Vec<Document> = vec![rule(JANE.into(), 0, jane)];
    for (number, Right { verbs, field: (name, value) }) in rights.iter().enumerate() {
        let means = json!({"query": {"term": {"propertyName": name, "matchValue": value,
            "matchType": "WILDCARD"}}});
        let resources = format!("{}/r{number}", access::RESOURCE_GROUPS);
        all.push(rule(resources.clone(), 0, means));
        let role = json!({"userGroupLink": group, "resourceGroupLink": resources, "verbs": verbs});
        all.push(rule(format!("{}/x{number}", access::ROLES), 0, role));
    }
    Policy::of(all)
}

fn played(world: &mut World, lines: &[String]) -> String {
    script::play(world, &format!("{}\n---\n", lines.join("\n")))
}

/// The answer to the request of that number.
fn answer(played: &str, number: u32) -> String {
    let start = format!("answer {number}");
    let line = played.lines().rfind(|line| line.starts_with(&start));
    line.unwrap_or_else(|| panic!("no {start} in {played}")).to_owned()
}

/// Whatever way the answer comes: written, not written, given again, and by a program outside.
#[test]
fn who_may_change_a_document_and_not_read_it_is_told_its_version_and_nothing_more() {
    let changes = only(&["POST", "PUT", "PATCH", "DELETE"], ("documentSelfLink", "/*"));
    let reads = || only(&["GET"], ("documentSelfLink", "/*"));
    let definition = json!({"handlers": ["patch"], "actions": ["hold"],
        "schema": {"properties": {"secret": {"type": "string"}}}});
    let by = format!("user={JANE}");
    let lines = [
        format!("define /app/seats {definition}"),
        r#"ask 1 POST /core/idempotent/x system {"secret":"s3cret"}"#.to_owned(),
        r#"ask 2 POST /app/seats/A system {"secret":"s3cret"}"#.to_owned(),
        r#"ask 3 POST /core/walks/w system {"steps":1,"note":"s3cret"}"#.to_owned(),
        format!(r#"ask 10 PATCH /core/idempotent/x {by} key=k/1 {{"a":1}}"#),
        format!(r#"ask 11 PATCH /core/idempotent/x {by} key=k/1 again {{"a":1}}"#),
        format!("ask 12 POST /core/walks/w {by} {{\"steps\":1}}"),
        format!("ask 13 PATCH /app/seats/A {by} action=hold {{}}"),
        "program 1 as-it-is".to_owned(),
        format!("ask 14 DELETE /core/idempotent/x {by}"),
    ];
    for sees in [false, true] {
        let mut world = World::new();
        let rights = if sees { vec![reads()] } else { Vec::new() };
        let rights: Vec<_> =
            rights.into_iter().chain([only(changes.verbs, changes.field)]).collect();
        world.guard(policy(5, &rights));
        let played = played(&mut world, &lines);
        for (number, version) in [(10, 1), (11, 1), (12, 0), (13, 0), (14, 2)] {
            let said = answer(&played, number);
            assert!(said.contains(" 200 "), "{said}");
            assert_eq!(said.contains("s3cret"), sees, "{said}");
            let short = format!("\"documentVersion\":{version}}}");
            assert_eq!(said.contains(&short), !sees, "{said}");
        }
    }
}

/// The second write runs on what the first one made, which is not in the log so far.
#[test]
fn a_right_to_a_document_is_looked_at_on_the_write_ahead_in_the_line() {
    let acme = || only(&["GET", "PATCH"], ("tenant", "acme"));
    let by = format!("user={JANE}");
    let lines = |first: &str, second: &str| {
        [
            r#"ask 1 POST /core/idempotent/x system {"tenant":"acme"}"#.to_owned(),
            r#"ask 2 POST /core/idempotent/y system {"tenant":"other"}"#.to_owned(),
            "hold log".to_owned(),
            format!("ask 3 PATCH /core/idempotent/{first}"),
            format!("ask 4 PATCH /core/idempotent/{second}"),
            "release log".to_owned(),
        ]
    };
    for (first, second, may) in [
        (r#"x system {"tenant":"other"}"#.to_owned(), format!(r#"x {by} {{"a":1}}"#), false),
        (r#"y system {"tenant":"acme"}"#.to_owned(), format!(r#"y {by} {{"a":1}}"#), true),
        // What it becomes counts as what it was.
        (r#"x system {"b":1}"#.to_owned(), format!(r#"x {by} {{"tenant":"other"}}"#), false),
        (r#"y system {"b":1}"#.to_owned(), format!(r#"y {by} {{"tenant":"acme"}}"#), false),
    ] {
        let mut world = World::new();
        world.guard(policy(5, &[acme()]));
        let said = answer(&played(&mut world, &lines(&first, &second)), 4);
        assert_eq!(said.contains(" 200 "), may, "{first} {second}: {said}");
        assert_eq!(said.contains("403 ACCESS_DENIED [notApplied]"), !may, "{said}");
    }
}

#[test]
fn a_task_does_nothing_for_a_later_user_of_its_makers_name() {
    let all = || only(&["GET", "POST", "PATCH"], ("documentSelfLink", "/*"));
    for (later, acts) in [(5, true), (9, false)] {
        let mut world = World::new();
        world.guard(policy(5, &[all()]));
        let make = format!("ask 1 POST /core/walks/w user={JANE} {{\"steps\":2}}");
        let begun = played(&mut world, &[make]);
        let of_jane = format!(" as={JANE}");
        assert!(begun.contains("\"authorMadeMicros\":5") && begun.contains(&of_jane), "{begun}");
        world.guard(policy(later, &[all()]));
        let change = format!("ask 2 PATCH /core/walks/w user={JANE} {{\"note\":\"mine\"}}");
        let then = played(&mut world, &[change, "call 1 200 {}".to_owned()]);
        let call = then.lines().find(|line| line.starts_with("call 2:")).unwrap();
        assert_eq!(call.contains(&of_jane), acts, "{call}");
        let changed = answer(&then, 2);
        assert_eq!(changed.contains(" 200 "), acts, "whose task it is: {changed}");
    }
}

#[test]
fn what_no_rule_has_is_refused_and_not_passed_over() {
    let group = format!("{}/g", access::USER_GROUPS);
    let resources = format!("{}/r", access::RESOURCE_GROUPS);
    let role = json!({"userGroupLink": group, "resourceGroupLink": resources, "verbs": ["DELETE"]});
    let with = |body: &Value, name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        body
    };
    let user = json!({"email": "u"});
    let query = json!({"query": {"term": {"propertyName": "a", "matchValue": "b"}}});
    let owners = json!({"userLinks": [JANE]});
    let key = json!({"privateKey": "$argon2id$v=19$m=19456,t=2,p=1$x"});
    let (users, secrets) = (access::USERS, access::CREDENTIALS);
    let cases = [
        (access::ROLES, role.clone(), ("Policy", json!("DENY"))),
        (access::ROLES, role.clone(), ("priority", json!(7))),
        (users, user.clone(), ("userGroupLink", json!(["x"]))),
        (access::USER_GROUPS, json!({}), ("Query", json!({}))),
        (access::RESOURCE_GROUPS, query.clone(), ("document", json!({}))),
        (access::INSTANCE_OWNERS, owners, ("userLink", json!("x"))),
        (secrets, key.clone(), ("PrivateKey", json!("in the clear"))),
    ];
    for (factory, body, (name, value)) in cases {
        let wrong = with(&body, name, value.clone());
        let patch = json!({ name: value });
        let lines = [
            format!("ask 1 POST {factory}/a {wrong}"),
            format!("ask 2 POST {factory}/b {body}"),
            format!("ask 3 PUT {factory}/b {wrong}"),
            format!("ask 4 PATCH {factory}/b {patch}"),
        ];
        let played = played(&mut World::new(), &lines);
        assert!(answer(&played, 2).contains(" 200 "), "{played}");
        for number in [1, 3, 4] {
            let said = answer(&played, number);
            assert!(said.contains(" 400 ") && said.contains(name), "{said}");
        }
    }
    // Typed clients of Xenon send it.
    let zero = with(&role, "priority", json!(0));
    let lines = [format!("ask 1 POST {}/a {zero}", access::ROLES)];
    let said = answer(&played(&mut World::new(), &lines), 1);
    assert!(said.contains(" 200 ") && !said.contains("priority"), "{said}");
    let kind = "com:vmware:xenon:services:common:ResourceGroupService:PatchQueryRequest";
    let clause = json!({"kind": kind, "clause": {}, "removeClause": "true"});
    let lines =
        [format!("ask 2 POST {resources} {query}"), format!("ask 3 PATCH {resources} {clause}")];
    let said = answer(&played(&mut World::new(), &lines), 3);
    assert!(said.contains(" 400 "), "{said}");
}

#[test]
fn the_numbers_of_a_factory_are_for_who_may_read_all_its_documents() {
    for (rights, sees) in [
        (vec![only(&["GET"], ("documentSelfLink", "/core/things/*"))], true),
        (vec![only(&["GET"], ("documentSelfLink", "/core/things"))], false),
        (vec![only(&["GET"], ("name", "a"))], false),
    ] {
        let mut world = World::new();
        world.guard(policy(5, &rights));
        let asked = format!("ask 1 GET /core/things/stats user={JANE}");
        let said = answer(&played(&mut world, &[asked]), 1);
        assert_eq!(said.contains(" 200 "), sees, "{said}");
    }
}

/// None of it lets them choose what is done with the maker's rights.
#[test]
fn others_may_hold_a_task_and_the_like_and_not_change_it() {
    let mut world = World::new();
    world.guard(policy(5, &[only(&["GET", "PATCH"], ("documentSelfLink", "/*"))]));
    let by = format!("user={JANE}");
    let change = |number: u32, info: &str| {
        format!("ask {number} PATCH /core/walks/w {by} {{\"taskInfo\":{info}}}")
    };
    let lines = [
        r#"ask 1 POST /core/walks/w system {"steps":2}"#.to_owned(),
        "call 1 503 {}".to_owned(),
        change(2, r#"{"retry":true}"#),
        "call 2 503 {}".to_owned(),
        change(3, r#"{"held":true}"#),
        format!("ask 4 PATCH /core/walks/w {by} {{\"steps\":1}}"),
        format!("ask 5 PATCH /core/walks/w {by} {{\"taskInfo\":{{\"skip\":true}},\"steps\":1}}"),
        change(6, r#"{"skip":true}"#),
    ];
    let played = played(&mut world, &lines);
    for (number, status) in [(2, 200), (3, 200), (4, 403), (5, 403), (6, 200)] {
        let said = answer(&played, number);
        assert!(said.contains(&format!(" {status} ")), "{said}");
    }
    let held = answer(&played, 3);
    assert!(held.contains(&format!("\"heldBy\":\"{JANE}\"")), "{held}");
    let refused = answer(&played, 4);
    assert!(refused.contains("held, released, tried again and skipped"), "{refused}");
}
