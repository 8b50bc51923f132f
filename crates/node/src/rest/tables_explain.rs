//! A table for `/explain` at a node that hears of no other: nothing has an owner, and what would
//! change that is said.

use super::tables::check;
use super::world::World;

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    check(
        &World::new(),
        &[
            (
                "GET /core/node-groups/default/explain",
                "",
                r#"200 .. "isStuck":true .. "remedy":"start n2, n3""#,
            ),
            ("GET /core/node-groups/default/explain", "", "200 .. node n2 (http://127.0.0.1:8002)"),
            ("GET /core/node-groups/default/explain", "", "200 .. the directory has no owner"),
            ("GET /core/management/explain", "", r#"200 .. "about":"/core/management""#),
            (
                "GET /core/things/one/explain",
                "",
                r#"200 .. "about":"/core/things/one" .. 1 of 3 nodes can be reached"#,
            ),
            ("GET /core/things/explain", "", r#"200 .. "about":"/core/things" .. has no owner"#),
            ("GET /core/immortals/none/explain", "", "level .. 404"),
            ("GET /core/things/one/explain?why", "", "400 .. 'why'"),
            ("GET /core/management/explain?why", "", "400 .. 'why'"),
            ("PATCH /core/node-groups/default/explain", "{}", "405"),
            ("DELETE /core/things/one/explain", "", "405"),
            ("POST /core/things", r#"{"documentSelfLink":"explain","name":"x"}"#, "400 .. explain"),
        ],
    );
}
