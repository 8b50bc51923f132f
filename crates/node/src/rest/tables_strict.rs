//! What was passed over once: built-in fields, fields that stand twice, conditions of what is read
//! in another way.

use protocol::Request;

use super::Plan;
use super::tables::{check, with_an_instance};
use super::world::{World, request};
use crate::frame::Question;

#[test]
fn built_in_fields_say_what_is_so_or_are_refused() {
    let world = with_an_instance();
    let node = "PATCH /core/node-groups/default/n1";
    let drains = |field: &str| format!(r#"{{"isDrained":true,{field}}}"#);
    let at = |verb: &str| format!("POST /core/immortals/counter/{verb}");
    check(
        &world,
        &[
            (node, &drains(r#""documentSelfLink":"/core/node-groups/default/n1""#), "change Drain"),
            (node, &drains(r#""documentKind":null,"documentExpirationTimeMicros":0"#), "change"),
            (
                node,
                &drains(r#""documentSelfLink":"/core/node-groups/default/n2""#),
                "400 documentSelfLink is",
            ),
            (node, &drains(r#""documentKind":"a:B""#), "400 documentKind is"),
            (node, &drains(r#""documentVersion":0"#), "400 a node has no documentVersion"),
            (node, &drains(r#""documentOwner":"n1""#), "400 a node has no documentOwner"),
            (&at("move"), r#"{"node":"n2","documentVersion":4}"#, "400 .. 'documentVersion'"),
            (&at("skip"), r#"{"input":4,"documentSelfLink":"/x"}"#, "400 .. 'documentSelfLink'"),
            (&at("release"), r#"{"documentOwner":"n2"}"#, "400 .. 'documentOwner'"),
            ("POST /core/backups", r#"{"documentKind":"a"}"#, "400 .. 'documentKind'"),
            ("POST /core/authz/can-i", r#"{"documentKind":"a"}"#, "400 .. 'documentKind'"),
            (
                "PATCH /core/immortals/counter",
                r#"{"paused":true,"documentOwner":"n2"}"#,
                "400 an instance has no documentOwner",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"addReplica":{"node":"n3","documentVersion":1}}"#,
                "400 addReplica has no field 'documentVersion'",
            ),
        ],
    );
}

#[test]
fn a_field_that_stands_twice_is_refused_at_any_depth() {
    let world = with_an_instance();
    let kind = r#""kind":"UpdateQuorumRequest""#;
    let quorum = format!(r#"{{{kind},"membershipQuorum":2,"membershipQuorum":3}}"#);
    check(
        &world,
        &[
            (
                "PATCH /core/node-groups/default",
                &quorum,
                "400 .. 'membershipQuorum' is there twice",
            ),
            (
                "PATCH /core/node-groups/default/n1",
                r#"{"isDrained":false,"isDrained":true}"#,
                "400 .. 'isDrained' is there twice",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"addReplica":{"node":"n2","node":"n3"}}"#,
                "400 .. 'node' is there twice",
            ),
            (
                "POST /core/query-tasks",
                r#"{"querySpec":{"query":{"booleanClauses":[{"term":{"propertyName":"a",
                    "matchValue":"b","matchValue":"c"}}]}}}"#,
                "400 .. 'matchValue' is there twice",
            ),
            (
                "POST /core/node-selectors/default",
                r#"{"key":"/a/b","key":"/a/c"}"#,
                "400 .. duplicate field `key`",
            ),
            ("POST /core/things", r#"{"name":"a","name":"b"}"#, "400 .. 'name' is there twice"),
        ],
    );
}

#[test]
fn what_another_way_of_reading_would_pass_over_is_refused_by_name() {
    let world = World::new();
    let with = |line: &str, change: fn(&mut Request)| {
        let mut request = request(line, "");
        change(&mut request);
        world.plan_of(request).err().map(|problem| problem.message)
    };
    let queued = |it: &mut Request| it.pragmas.push("xn-queue".into());
    let if_match = |it: &mut Request| it.conditions.if_match = "\"1\"".parse().ok();
    let if_none_match = |it: &mut Request| it.conditions.if_none_match = "*".parse().ok();
    let watch = "GET /core/things/one?watch=true";
    assert!(with(watch, if_match).is_some_and(|why| why.contains("If-Match")));
    assert!(with(watch, if_none_match).is_some_and(|why| why.contains("If-None-Match")));
    assert!(with(watch, queued).is_some_and(|why| why.contains("'xn-queue'")));
    let local = "GET /core/things/one?consistency=local";
    assert!(with(local, queued).is_some_and(|why| why.contains("'xn-queue'")));
    assert!(with(local, if_match).is_none_or(|why| !why.contains("does not take")));
    assert_eq!(with("GET /core/things/one", queued), None);
    assert_eq!(with("GET /core/things?watch=true", queued), None, "the factory is there");
}

#[test]
fn a_quorum_that_would_be_another_one_is_refused() {
    let world = World::new();
    let path = "/core/node-groups/default";
    let (post, patch) = (format!("POST {path}"), format!("PATCH {path}"));
    let join = |port: u16, quorum: &str| {
        let to = format!(r#""memberGroupReference":"http://127.0.0.1:{port}{path}""#);
        format!(r#"{{"kind":"JoinPeerRequest",{to},"membershipQuorum":{quorum}}}"#)
    };
    let update = |is_group: &str| {
        let kind = r#""kind":"UpdateQuorumRequest""#;
        format!(r#"{{{kind},"membershipQuorum":3,"isGroupUpdate":{is_group}}}"#)
    };
    check(
        &world,
        &[
            (&post, &join(9000, "null"), "join http://127.0.0.1:9000"),
            (&post, &join(9000, "2"), "join http://127.0.0.1:9000"),
            (&post, &join(9000, "3"), "409 membershipQuorum is 3"),
            (&post, &join(8002, "2"), "200 .. \"membershipQuorum\":2"),
            (&post, &join(8002, "3"), "409 membershipQuorum is 3"),
            (&patch, &update("true"), "change SetQuorum { quorum: 3 }"),
            (&patch, &update("null"), "change SetQuorum { quorum: 3 }"),
            (&patch, &update("false"), "409 isGroupUpdate is false"),
        ],
    );
}

#[test]
fn impulses_of_two_users_under_one_key_are_two_and_a_payload_of_null_is_sent() {
    let world = with_an_instance();
    let impulse = |body: &str, user: Option<&str>| {
        let mut request = request("POST /core/immortals/counter/impulses", body);
        request.idempotency_key = Some("k".into());
        if let Some(user) = user {
            request.principal = protocol::Principal::User(user.into());
        }
        match world.plan_of(request) {
            Ok(Plan::Ask(
                _,
                Question::Instance(immortals::Request::Impulse { payload, key, .. }),
            )) => (payload, key.expect("it has a key")),
            other => panic!("{:?}", other.err()),
        }
    };
    let body = r#"{"method":1,"payload":[7]}"#;
    let (jane, joe) = (impulse(body, Some("/u/jane")).1, impulse(body, Some("/u/joe")).1);
    assert_ne!(jane.hash, joe.hash, "joe would be refused for jane's key");
    assert_ne!(jane.digest, joe.digest, "joe would get jane's answer");
    assert_eq!(jane.digest, impulse(body, Some("/u/jane")).1.digest);
    assert_ne!(jane.digest, impulse(body, None).1.digest);
    assert_eq!(&impulse(r#"{"method":1,"payload":null}"#, None).0[..], b"null");
    assert_eq!(&impulse(r#"{"method":1}"#, None).0[..], b"");
}

/// The name of a new document comes from its key: with the same name, a POST of joe's would change
/// what jane has made.
#[test]
fn documents_of_two_users_under_one_key_are_two() {
    let world = World::new();
    let link = |user: &str| {
        let mut request = request("POST /core/things", "{}");
        request.idempotency_key = Some("k".into());
        request.principal = protocol::Principal::User(user.into());
        match world.plan_of(request) {
            Ok(Plan::Ask(_, Question::Rest(request))) => request.path,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(link("/u/jane"), link("/u/jane"));
    assert_ne!(link("/u/jane"), link("/u/joe"));
}

#[test]
fn what_a_library_for_storage_asks_of_rows_is_done_or_refused() {
    let world = World::new();
    let at = |query: &str| format!("GET /core/ambrosia/cravertextable?{query}");
    check(
        &world,
        &[
            (&at("$top=1"), "", "200"),
            (&at("$top=0"), "", "400 $top is '0'"),
            (&at("$top=many"), "", "400 $top is 'many'"),
            (&at("$select=RowKey"), "", "200"),
            (&at("comp=list"), "", "400 .. 'comp'"),
            (&at("prefix=a"), "", "400 .. 'prefix'"),
            (&at("maxresults=1"), "", "400 .. 'maxresults'"),
            (&at("delimiter=/"), "", "400 .. 'delimiter'"),
            ("DELETE /core/ambrosia/cra/AmbrosiaBinaries/a-a0?$filter=x", "", "400 .. 'filter'"),
        ],
    );
}
