//! Checkpoints of AMBROSIA's programs, and what may still follow them.

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use immortals::{Adapter, Input, Request};
use protocol::immortal::ToNode;

use super::{GOOD, Owner};

/// The size of something short, which has one byte.
fn short(number: usize) -> u8 {
    u8::try_from(number * 2).expect(GOOD)
}

/// A message to the other instance, as an LB writes it. 1 is a fork, 2 an impulse.
fn rpc(kind: u8) -> Vec<u8> {
    rpc_with(kind, b'v')
}

pub(super) fn rpc_with(kind: u8, payload: u8) -> Vec<u8> {
    let body = [&[0, short(6)][..], b"theirs", &[0, short(1), kind, payload]].concat();
    [&[short(body.len())][..], &body].concat()
}

pub(super) fn checkpoint() -> Vec<u8> {
    [&[short(2), 8, short(3)][..], b"abc"].concat()
}

impl Owner {
    /// Attaches a program of AMBROSIA's in the place of the owner's own. What it is told is not for
    /// the owner's program.
    pub(super) fn attach_ambrosias(&mut self, number: u64, upgrade_to: u64) -> u64 {
        self.step(Input::Detached { program: self.program });
        let (instance, active_active) = ("ours".to_owned(), true);
        let (committer_id, program_version) = (7, 0);
        let options =
            AmbrosiaOptions { instance, active_active, committer_id, program_version, upgrade_to };
        let (mut adapter, mut said) = (AmbrosiaAdapter::new(options), Vec::new());
        adapter.hear(Bytes::new(), &mut said).expect(GOOD);
        let Some(ToNode::Hello(hello)) = said.pop() else { panic!("{said:?}") };
        let (program, adapter) = (self.program + number, Adapter::Ambrosia(Box::new(adapter)));
        self.with(|instance, cx, lead, outputs| {
            instance.attach(cx, lead.as_mut(), program, adapter, hello, outputs).expect(GOOD);
        });
        program
    }

    /// All that the program is told leaves its socket, a window at a time.
    pub(super) fn drains(&mut self, program: u64) {
        for _ in 0..10 {
            self.step(Input::Written { program, bytes: u64::MAX });
            self.waits(100_000);
        }
    }
}

/// An owner whose program of AMBROSIA's was asked for a checkpoint and has written all of it.
struct Taken {
    owner: Owner,
    program: u64,
}

impl Taken {
    fn new() -> Self {
        let mut owner = Owner::new();
        let program = owner.attach_ambrosias(1, 0);
        let mut taken = Self { owner, program };
        assert!(taken.owner.instance.is_primary());
        taken.owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
        taken.ticks(1, 10_000);
        taken.writes(checkpoint());
        taken
    }

    fn writes(&mut self, bytes: Vec<u8>) {
        let (program, bytes) = (self.program, bytes.into());
        self.owner.step(Input::Read { program, bytes });
    }

    fn ticks(&mut self, count: u32, micros: u64) {
        for _ in 0..count {
            self.owner.now.steady_micros += micros;
            self.owner.step(Input::Tick);
        }
    }

    /// Whether the checkpoint counts.
    fn counts(&self) -> bool {
        self.owner.instance.status().base_input == 1
    }
}

#[test]
fn a_checkpoint_does_not_count_before_what_came_while_the_node_was_frozen_is_heard() {
    let mut taken = Taken::new();
    taken.ticks(1, 2_000_000);
    assert!(!taken.counts());
    taken.writes(rpc(1));
    taken.ticks(30, 100_000);
    assert!(!taken.counts(), "something was said that is not in it");
    // The program was asked for another checkpoint.
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
