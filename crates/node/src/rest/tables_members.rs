//! What is planned for one node of the cluster, and for one that asks to join it.

use cluster::{Candidate, DirectoryCommand};
use protocol::ReplicaId;

use super::tables::check;
use super::world::World;

fn candidate(node_id: &str, port: u16, sandbox_id: u64) -> Candidate {
    let uri = format!("http://127.0.0.1:{port}");
    Candidate { node_id: node_id.into(), uri, sandbox_id }
}

#[test]
fn one_node() {
    let mut world = World::new();
    check(
        &world,
        &[
            ("GET /core/node-groups/default/n2", "", r#"200 .. "id":"n2" .. "isDrained":false"#),
            ("GET /core/node-groups/default/n9", "", "404 there is no node 'n9'; there are n1, n2"),
            ("GET /core/node-groups/default/n2?x=1", "", "400 .. no 'x'"),
            ("PATCH /core/node-groups/default/n2", r#"{"isDrained":true}"#, "change Drain"),
            ("PATCH /core/node-groups/default/n2", r#"{"isDrained":1}"#, "400 .. isDrained"),
            ("PATCH /core/node-groups/default/n2", "{}", "400 .. isDrained"),
            ("PATCH /core/node-groups/default/n2", r#"{"drained":true}"#, "400 .. 'drained'"),
            ("PUT /core/node-groups/default/n2", "{}", "405 .. it takes GET, PATCH, DELETE"),
            // This node hears of no other one.
            ("DELETE /core/node-groups/default/n2", "", "409 .. 1 of 2 nodes .. n3 down"),
        ],
    );
    world.apply(DirectoryCommand::Remove { replica: ReplicaId(2) });
    world.apply(DirectoryCommand::Removed { replica: ReplicaId(2) });
    check(&world, &[("DELETE /core/node-groups/default/n2", "", "404 there is no node 'n2'")]);
}

#[test]
fn a_node_that_asks() {
    let mut world = World::new();
    for asker in [
        candidate("n4", 8_004, 4),
        candidate("twice", 8_005, 5),
        candidate("twice", 8_006, 6),
        candidate("n1", 8_007, 7),
        candidate("n2", 8_003, 8),
        candidate("n2", 8_008, 9),
    ] {
        world.asking.asked(asker, 0);
    }
    let path = "/core/node-groups/default/asking";
    let at = |verb: &str, rest: &str| format!("{verb} {path}/{rest}");
    check(
        &world,
        &[
            (&at("POST", "n4"), "", "change Admit"),
            (&at("POST", "n4"), "{}", "change Admit"),
            (&at("POST", "n4"), r#"{"force":true}"#, "400 .. 'force'"),
            (
                &at("POST", "n4?address=http://127.0.0.1:8005"),
                "",
                "404 .. at http://127.0.0.1:8005",
            ),
            (&at("POST", "n9"), "", "404 no node 'n9' asks .. n4"),
            (&at("POST", "twice"), "", "409 .. ?address="),
            (&at("POST", "twice?address=http://127.0.0.1:8006"), "", "change Admit"),
            (&at("POST", "n1"), "", "409 .. which is alive"),
            (&at("POST", "n2?address=http://127.0.0.1:8003"), "", "409 .. the address of another"),
            (&at("POST", "n2?address=http://127.0.0.1:8008"), "", "change Admit"),
            (&at("DELETE", "n4"), "", "change Refuse"),
            (&at("GET", "n4"), "", "405 .. it takes POST, DELETE"),
            ("GET /core/node-groups/default", "", r#"200 .. "asking":[{"address""#),
        ],
    );
}
