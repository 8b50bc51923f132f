//! Replicas of a group by scripts: what goes in, what comes out, whatever machine lives in the
//! group. `UPDATE=1 cargo test -p group` rewrites what is under each `---`; read the difference
//! before you keep it.
//!
//! | line | meaning |
//! |---|---|
//! | `partitions`, `memories`, `instances` | three replicas with such machines; 1 is owner |
//! | `spare 4` | one more replica, which waits to be admitted |
//! | `unapplied 2` | before these: how many entries an owner may have taken and not applied |
//! | `uncommitted 60` | the same in bytes that are not committed |
//! | `ask 1 7 add 5` | 7 asks 1 to `add`, `take`, `read`; with `key=k/1`, `retry`, `refuse` |
//! | `ask 1 7 add-much 5` | the same in a long entry |
//! | `run` | delivers, syncs and persists everything that is not held, until it is quiet |
//! | `deliver`, `deliver 2`, `lose`, `lose 2` | what is on its way now (to replica 2) |
//! | `sync 1`, `sync 1 1` | the batches of replica 1's log are durable (the first one of them) |
//! | `persist 1` | what its state store was told to persist is durable |
//! | `hold log 1`, `hold store 1`, `hold Append`, `release Append` | not by `run` |
//! | `cut 1`, `heal 1` | `run` and `deliver` lose what goes to or comes from replica 1 |
//! | `tick 1 20`, `wait 100` | ticks of one replica; microseconds for all |
//! | `burst 2` | what is on its way to replica 2 comes within one step of its node |
//! | `lost 2 1 3` | replica 2 lost its connection to 1, and stands for election in 3 ticks |
//! | `still 1`, `go-on 1` | the log of owner 1 is held, and goes on |
//! | `hand-over 1 2`, `change 1 +4 ^4 -2` | the owner hands over; the members change |
//! | `quorum 2 3` | the membership quorum is 2, and 3 nodes are up |
//! | `may-lead 1 no` | the node of replica 1 may not serve as an owner |
//! | `checkpoint 1`, `compact 1` | an instance writes its state; the log is cut after a persist |
//! | `poke 1` | something happens to the machine |
//! | `forge 1 2 9` | replica 1 gets a snapshot message from 2 for position 9, without its chunks |
//! | `forge-chunk 1 2 9 of 10` | the same for position 9, with an empty chunk of position 10 |
//! | `crash 1`, `start 1` | only what is durable is left |
//! | `network`, `records 1`, `waiting`, `show 1` | what is on its way, written, open, there |

#![expect(clippy::unwrap_used, reason = "a script that cannot be played fails the test")]

mod counter;
mod node;
mod world;

use std::path::Path;

#[test]
fn a_replica_does_what_the_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    script::check_all(&folder, world::World::default);
}
