//! Tables for `/explain` at a node that hears of no other: nothing has an owner, and what would
//! change that is said, with all that can be amiss at a node and with an instance.

use cluster::{DirectoryCommand, InstanceCommand, InstanceOptions};
use immortals::{Diverged, Held, LetGo, ReplicaStatus};
use protocol::{GroupId, Moment, ReplicaId};

use super::tables::{check, with_an_instance};
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

const NODE: &str = "GET /core/management/explain";
const COUNTER: &str = "GET /core/immortals/counter/explain";

/// Each of these is in the answer.
fn says(world: &World, line: &str, words: &[&str]) {
    for words in words {
        check(world, &[(line, "", &format!("200 .. {words}"))]);
    }
}

#[test]
fn what_is_amiss_at_a_node_is_told_with_its_remedy_and_since_when() {
    let mut world = World::new();
    world.placement.since.quorum = Some(1_000_000);
    says(&world, NODE, &[r#""forMillis":4000,"refusesWrites":true .. 1 of 3 nodes can be"#]);
    let now = world.now.steady_micros;
    world.shard.log.set_full("no space left".into());
    world.shard.log.pace.tick(1, 0);
    world.shard.log.pace.durable(1, 1, 1_500_000);
    world.shard.astray.0.insert(GroupId(2), 1);
    for other in [2, 3] {
        let wall = Moment(world.now.wall.0 - 3_600_000_000);
        world.control.clock.heard(ReplicaId(other), wall, now);
    }
    world.control.clock.tell(world.now, ReplicaId(1), &[1, 2, 3].map(ReplicaId));
    let since = &mut world.placement.since;
    (since.full, since.slow, since.clock) = (Some(2_000_000), Some(3_000_000), Some(4_000_000));
    says(
        &world,
        NODE,
        &[
            r#""forMillis":3000,"remedy":"free space on it","text":"the disk of node n1 takes no"#,
            "takes no writes: no space left",
            r#""forMillis":2000,"remedy":"find out what else uses that disk""#,
            "the disk of node n1 is slow: a write to the log took 1500 ms",
            r#""forMillis":1000,"remedy":"set the clock""#,
            "the clock of node n1 is 3600000 ms off",
            "the state of partition 2 was wrong here, and is being filled anew",
        ],
    );
    says(&world, "GET /core/things/one/explain", &[r#""remedy":"start n2, n3""#]);
}

fn attached(done: u64, inputs: u64, caught_up: bool) -> ReplicaStatus {
    ReplicaStatus { attached: true, caught_up, done, inputs, ..ReplicaStatus::default() }
}

#[test]
fn what_an_instance_waits_for_is_told_of_each_replica() {
    let mut world = with_an_instance();
    let group = world.begin("counter");
    world.hears(group, 2, ReplicaStatus::default());
    world.now.steady_micros += 2_000_000;
    says(
        &world,
        COUNTER,
        &[
            "n2, n3",
            "'counter' has no owner",
            r#""forMillis":2000,"remedy":"start its program beside one of n1, n2""#,
            "no program is attached to 'counter'",
        ],
    );
    let held = Held { input: 8, tries: 3, text: "it ended".into(), message: String::new() };
    world.hears(group, 2, ReplicaStatus { held: Some(held), ..ReplicaStatus::default() });
    let (expected, found) = ("a".into(), "b".into());
    let diverged = Diverged { input: 9, after: 7, expected, found, is_last_copy: false };
    world.hears(group, 3, ReplicaStatus { diverged: Some(diverged), ..attached(9, 9, true) });
    world.now.steady_micros += 1_000_000;
    says(
        &world,
        COUNTER,
        &[
            r#""forMillis":1000 .. or leave that input out: amrita immortal skip counter 8"#,
            "the program on n2 ended 3 times at input 8: it ended",
            "the program on n3 was put aside: after input 9",
        ],
    );
    let gone = LetGo { code: "GONE".into(), text: "it went".into(), input: 3 };
    world.hears(group, 2, ReplicaStatus { let_go: Some(gone), ..ReplicaStatus::default() });
    world.hears(group, 3, attached(3, 9, false));
    world.now.steady_micros += 29_000_000;
    says(
        &world,
        COUNTER,
        &[
            "no program is attached on n2; the last one was let go: it went",
            "the program on n3 catches up: it has done 3 of 9 inputs",
        ],
    );
    world.now.steady_micros += 2_000_000;
    let hangs = "the program on n3 has been at input 4 for 31 s, and there are 9 inputs";
    says(&world, COUNTER, &[hangs]);

    let options = InstanceOptions { paused: true, ..InstanceOptions::default() };
    let (name, version) = ("counter".into(), 0);
    let pause = InstanceCommand::SetOptions { name, version, options };
    world.apply(DirectoryCommand::Instance(pause));
    world.placement.since.paused.insert(group, world.now.steady_micros - 7_000_000);
    let paused = r#""forMillis":7000,"remedy":"amrita immortal set counter --resume""#;
    says(&world, COUNTER, &[paused, "'counter' is paused"]);
}
