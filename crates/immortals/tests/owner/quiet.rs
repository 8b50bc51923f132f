//! The checkpoint of a program of AMBROSIA's: what it may still have to say after it.

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaDoor, AmbrosiaOptions};
use immortals::{Ask, Door, Input};
use protocol::immortal::ToNode;

use super::{GOOD, Owner};

/// Of short messages all sizes are one byte.
fn short(number: usize) -> u8 {
    u8::try_from(number * 2).expect(GOOD)
}

/// A message to the other instance, as an LB writes it. 1 is a fork, 2 an impulse.
fn rpc(kind: u8) -> Vec<u8> {
    let body = [&[0, short(6)][..], b"theirs", &[0, short(1), kind, b'v']].concat();
    [&[short(body.len())][..], &body].concat()
}

fn checkpoint() -> Vec<u8> {
    [&[short(2), 8, short(3)][..], b"abc"].concat()
}

/// An owner with a program of AMBROSIA's that was asked for a checkpoint, and has written all of it.
struct Taken {
    owner: Owner,
    program: u64,
}

impl Taken {
    fn new() -> Self {
        let mut owner = Owner::new();
        owner.step(Input::Detached { program: owner.program });
        let (instance, active_active) = ("ours".to_owned(), true);
        let options = AmbrosiaOptions {
            instance,
            active_active,
            committer_id: 7,
            program_version: 0,
            upgrade_to: 0,
        };
        let (mut door, mut said) = (AmbrosiaDoor::new(options), Vec::new());
        door.hear(Bytes::new(), &mut said).expect(GOOD);
        let Some(ToNode::Hello(hello)) = said.pop() else { panic!("{said:?}") };
        // What it is told is not for the program of the owner.
        let (program, door) = (owner.program + 1, Door::Ambrosia(Box::new(door)));
        owner.with(|instance, ground, outputs| {
            instance.attach(ground, program, door, hello, outputs).expect(GOOD);
        });
        let mut taken = Self { owner, program };
        assert!(taken.owner.instance.is_primary());
        taken.owner.step(Input::Ask { ticket: 1, ask: Ask::Checkpoint });
        taken.ticks(1, 10_000);
        taken.writes(checkpoint());
        taken
    }

    fn writes(&mut self, bytes: Vec<u8>) {
        let (program, bytes) = (self.program, bytes.into());
        self.owner.step(Input::Heard { program, bytes });
    }

    fn ticks(&mut self, count: u32, micros: u64) {
        for _ in 0..count {
            self.owner.now.steady_micros += micros;
            self.owner.step(Input::Tick);
        }
    }

    /// The checkpoint counts.
    fn counts(&self) -> bool {
        self.owner.instance.status().base_input == 1
    }
}

#[test]
fn a_checkpoint_does_not_count_before_what_came_while_the_node_stood_still_is_heard() {
    let mut taken = Taken::new();
    taken.ticks(1, 2_000_000);
    assert!(!taken.counts());
    taken.writes(rpc(1));
    taken.ticks(30, 100_000);
    assert!(!taken.counts(), "something was said that is not in it");
    // It was asked for another one.
    taken.writes(checkpoint());
    taken.ticks(10, 100_000);
    assert!(!taken.counts());
    taken.ticks(1, 100_000);
    assert!(taken.counts());
}

#[test]
fn a_checkpoint_counts_after_a_while_also_when_there_are_always_impulses() {
    let mut taken = Taken::new();
    for _ in 0..50 {
        taken.ticks(1, 20_000);
        assert!(!taken.counts());
        taken.writes(rpc(2));
    }
    taken.ticks(1, 20_000);
    assert!(taken.counts());
}
