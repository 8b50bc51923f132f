//! A table for the node selector, and what its forwarding passes on.

use protocol::Principal;

use super::tables::check;
use super::world::{World, request};

fn to(verb: &str, query: &str) -> String {
    format!("{verb} /core/node-selectors/default/forwarding?{query}")
}

#[test]
fn the_selector() {
    check(
        &World::new(),
        &[
            ("GET /core/node-selectors/default", "", r#"200 .. "status":"UNAVAILABLE""#),
            (
                "POST /core/node-selectors/default",
                r#"{"key":"/core/things/one"}"#,
                "200 .. partition",
            ),
            ("POST /core/node-selectors/default", r#"{"key":"a","bogus":1}"#, "400 .. bogus"),
            ("POST /core/node-selectors/default", "{}", "400 .. key"),
            ("PATCH /core/node-selectors/default", "{}", "405"),
        ],
    );
}

#[test]
fn what_is_read_elsewhere() {
    let world = World::new();
    let get = |query: &str| to("GET", query);
    check(
        &world,
        &[
            (&get("path=/core/things/one&target=KEY_HASH&key=a"), "", "ask GET /core/things/one"),
            (&get("path=/core/things/one&target=PEER_ID&peer=n2"), "", "ask GET /core/things/one"),
            (
                &get("path=/core/things/one&query=documentVersion=0&target=KEY_HASH&key=a"),
                "",
                "ask GET /core/things/one?documentVersion=0",
            ),
            (&get("path=/core/management&target=PEER_ID&peer=n1"), "", "200 .. \"id\":\"n1\""),
            (&get("path=/core/management&target=PEER_ID&peer=n2"), "", "400 .. 127.0.0.1:8002"),
            (
                &get("path=/core/things/one&target=KEY_HASH&key=a&peer=n2"),
                "",
                "400 target=KEY_HASH does not take the parameter 'peer'",
            ),
            (
                &get("path=/core/things/one&target=PEER_ID&peer=n2&key=a"),
                "",
                "400 target=PEER_ID does not take the parameter 'key'",
            ),
            (&get("path=/core/management&target=KEY_HASH&key=a"), "", "503 'a' has no owner"),
            (&get("path=/core/management&target=KEY_HASH"), "", "503 '/core/management' has no"),
            (&get("path=/core/things/one&target=KEY_HASH"), "", "ask GET /core/things/one"),
            (&get("path=/core/things/stats&target=PEER_ID&peer=n2"), "", "400 .. 127.0.0.1:8002"),
            (&get("path=/core/things/stats&target=PEER_ID&peer=n1"), "", "stats /core/things"),
            (&get("path=/core/node-groups/&target=PEER_ID&peer=n2"), "", "400"),
            (
                &get("path=/core/things/one&query=consistency=local&target=PEER_ID&peer=n2"),
                "",
                "400 /core/things/one of node 'n2' is to be asked at",
            ),
            (
                &get("path=/core/things/one&query=consistency=local&target=KEY_HASH&key=a"),
                "",
                "503 'a' has no owner",
            ),
            (&get("path=/core/things/one&target=PEER_ID&peer=n9"), "", "400 there is no node 'n9'"),
            (&get("path=/core/things/one&target=ALL"), "", "broadcast /core/things/one"),
            (&get("path=/core/things&query=$limit=5&target=ALL"), "", "broadcast /core/things"),
            (&get("path=/core/things/one&target=ALL&key=a"), "", "400 target=ALL .. 'key'"),
            (&get("path=/core/things/one&target=ALL&peer=n1"), "", "400 target=ALL .. 'peer'"),
            (&get("path=/core/management&target=ALL"), "", "400 target=ALL goes with documents"),
            (&get("path=/core/things/stats&target=ALL"), "", "400 target=ALL goes with documents"),
            (
                &get("path=/core/things/one&query=consistency=local&target=ALL"),
                "",
                "400 target=ALL goes with documents",
            ),
            (
                &get("path=/core/things/one&query=watch=true&target=ALL"),
                "",
                "400 target=ALL goes with documents",
            ),
            (&get("path=/core/things/one&target=SOME"), "", "400 'target' is KEY_HASH, PEER_ID"),
            (&get("path=/core/things/one"), "", "400 .. 'target'"),
            (&get("target=ALL"), "", "400 .. 'path'"),
            (&get("path=/core/things/one?bogus&target=KEY_HASH&key=a"), "", "400"),
            (&get("path=/core/immortals/a/recording&target=PEER_ID&peer=n1"), "", "400 .. there"),
            (&get("path=/core/node-selectors/default/forwarding/&target=ALL"), "", "400 the link"),
        ],
    );
}

#[test]
fn what_is_written_elsewhere() {
    check(
        &World::new(),
        &[
            (&to("POST", "path=/core/things&target=KEY_HASH&key=a"), "{}", "ask POST /core/th"),
            (&to("PUT", "path=/core/things/one&target=KEY_HASH&key=a"), "{}", "ask PUT /core/th"),
            (&to("PATCH", "path=/core/things/one&target=PEER_ID&peer=n2"), "{}", "ask PATCH"),
            (&to("DELETE", "path=/core/things/one&target=KEY_HASH&key=a"), "", "ask DELETE"),
            (&to("PUT", "path=/core/things&target=KEY_HASH&key=a"), "{}", "405 /core/things does"),
            (&to("PUT", "path=/core/things/one&target=ALL"), "{}", "400 target=ALL goes with GET"),
            (&to("POST", "path=/core/things&target=ALL"), "{}", "400 target=ALL goes with GET"),
            (
                &to("POST", "path=/core/local-query-tasks&target=ALL"),
                r#"{"taskInfo":{"isDirect":true},"querySpec":{}}"#,
                "broadcast /core/query-tasks",
            ),
            (
                &to("POST", "path=/core/query-tasks&target=ALL"),
                r#"{"querySpec":{}}"#,
                "400 target=ALL goes with GET, and with a POST of a direct query task",
            ),
            (
                &to("PUT", "path=/core/things/one&query=x=1&target=PEER_ID&peer=n1"),
                "{}",
                "400 .. 'x'",
            ),
            (
                &to("POST", "path=/core/auth/tokens&target=KEY_HASH&key=a"),
                r#"{"digest":"x"}"#,
                "400 a POST of /core/auth/tokens is not passed on",
            ),
            (&to("PATCH", "path=/core/auth/credentials/a&target=KEY_HASH&key=a"), "{}", "400"),
            (&to("POST", "path=/core/authn/basic&target=PEER_ID&peer=n1"), "{}", "400 .. there"),
            (&to("POST", "path=/core/authn/join&target=PEER_ID&peer=n1"), "{}", "400 .. there"),
            (&to("DELETE", "path=/core/management&target=PEER_ID&peer=n1"), "", "400 .. there"),
            (&to("DELETE", "path=/core/authz/roles/a&target=KEY_HASH&key=a"), "", "400 .. there"),
            (&to("POST", "path=/core/immortals&target=KEY_HASH&key=a"), "{}", "400 .. there"),
            (&to("POST", "path=/core/auth/join-tokens&target=KEY_HASH&key=a"), "", "400 .. there"),
        ],
    );
}

#[test]
fn where_logins_are_demanded_a_watch_does_not_wait_long() {
    let line = "GET /core/changes?wait=60";
    let waits = |world: &World| {
        let principal = Principal::User(format!("{}/rita", access::USERS).into());
        match world.plan_of(request(line, "").on_behalf_of(principal)) {
            Ok(super::Plan::Watch(watch)) => watch.wait_micros,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(waits(&World::new()), 60_000_000);
    assert_eq!(waits(&World::with_logins()), 10_000_000, "her token may be revoked meanwhile");
}

#[test]
fn which_nodes_there_are_is_told_to_who_may_look_at_them() {
    let world = World::with_logins();
    let refusal = |user: &str, line: &str| {
        let principal = Principal::User(format!("{}/{user}", access::USERS).into());
        let planned = world.plan_of(request(line, "").on_behalf_of(principal));
        planned.err().map(|problem| (problem.status(), problem.message))
    };
    for query in [
        "path=/core/management&target=PEER_ID&peer=n2",
        "path=/core/management&target=PEER_ID&peer=nobody",
        "path=/core/management&target=KEY_HASH&key=a",
    ] {
        let line = to("GET", query);
        let (status, words) = refusal("nora", &line).expect("she may not");
        assert_eq!(status, 403, "{words}");
        assert!(!words.contains("n2") && !words.contains("127.0.0.1"), "{words}");
        let (status, _) = refusal("rita", &line).expect("it is to be asked elsewhere");
        assert!([400, 503].contains(&status), "{query}");
    }
}
