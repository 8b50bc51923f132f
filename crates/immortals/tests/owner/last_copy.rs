//! A program that differs from what was recorded is fenced, but never the last copy.

use bytes::Bytes;
use immortals::{Input, Peer, ReplicaStatus, Request};
use protocol::ReplicaId;
use protocol::immortal::{Message, ToNode, put_message};

use super::Owner;
use super::quiet::{checkpoint, rpc_with};

impl Owner {
    fn speaks(&mut self) {
        let mut bytes = Vec::new();
        put_message(&mut bytes, &Message::Fork { method: 1, payload: Bytes::new() });
        let (destination, messages) = ("theirs".into(), bytes.into());
        self.says(&ToNode::Send { destination, count: 1, messages });
    }

    /// The program said something, which the log has.
    fn has_spoken() -> Self {
        let mut owner = Self::new();
        owner.speaks();
        (1..=3).for_each(|number| drop(owner.comes(number, 1)));
        owner
    }

    /// Another replica with the same log, and without a program.
    pub(super) fn beside(owner: &Self) -> Self {
        let mut other = Self::replica(2, &[1, 2]);
        for (_, _, entry) in owner.log.entries.clone() {
            other.commit(entry);
        }
        other
    }

    pub(super) fn hears_of_a_program_that_has_handled(&mut self, done: u64) {
        let status =
            ReplicaStatus { attached: true, caught_up: true, done, ..ReplicaStatus::default() };
        self.step(Input::Peer { from: ReplicaId(1), message: Peer::Status(status) });
    }
}

#[test]
fn the_last_copy_goes_on_whatever_it_said() {
    let mut owner = Owner::has_spoken();
    owner.attach(0, 0);
    let status = owner.instance.status();
    let diverged = status.diverged.expect("it said nothing this time");
    assert!(diverged.is_last_copy && status.attached && owner.instance.is_primary());
    owner.inputs.clear();
    owner.comes(4, 1);
    assert_eq!(owner.handled(), [4]);
}

#[test]
fn a_copy_that_differs_is_fenced_as_soon_as_another_has_done_better() {
    let owner = Owner::has_spoken();
    let mut other = Owner::beside(&owner);
    other.attach(0, 0);
    let input = other.instance.status().diverged.expect("it said nothing").input;
    other.hears_of_a_program_that_has_handled(input - 1);
    assert!(other.instance.status().attached, "the other one may yet differ, too");
    other.hears_of_a_program_that_has_handled(input);
    let status = other.instance.status();
    let let_go = status.let_go.expect("a program was let go");
    assert_eq!((status.attached, let_go.code.as_str()), (false, "DIVERGED"));
    other.told_last.clear();
    other.attach(0, 0);
    assert_eq!(other.told_last, "DIVERGED", "and it stays so");
}

#[test]
fn a_fenced_copy_is_let_in_again_when_there_is_no_other() {
    let owner = Owner::has_spoken();
    let mut other = Owner::beside(&owner);
    other.attach(0, 0);
    let input = other.instance.status().diverged.expect("it said nothing").input;
    other.hears_of_a_program_that_has_handled(input);
    assert!(!other.instance.status().attached);
    other.waits(2_000_000);
    other.attach(0, 0);
    assert!(other.instance.status().attached, "the other node is not heard of any more");
}

#[test]
fn why_a_program_went_can_be_seen() {
    let mut owner = Owner::new();
    let why = |owner: &Owner| owner.instance.status().let_go.map(|let_go| let_go.code);
    assert_eq!(why(&owner), None);
    owner.attach(1, 1);
    assert_eq!(why(&owner).as_deref(), Some("PROGRAM_VERSION"));
    owner.attach(0, 0);
    owner.says(&ToNode::Done { input: 99 });
    let let_go = owner.instance.status().let_go.expect("it was let go");
    assert_eq!((let_go.code.as_str(), let_go.input), ("BAD_FRAME", 1));
    assert!(let_go.text.contains("DONE 99"), "{}", let_go.text);
    owner.attach(0, 0);
    owner.step(Input::Detached { program: owner.program });
    assert_eq!(why(&owner).as_deref(), Some("GONE"));
}

/// What a program of AMBROSIA's says, once before and once after it was started again.
fn ambrosias(before: &[u8], after: &[u8]) -> Option<bool> {
    let mut owner = Owner::new();
    let program = owner.attach_ambrosias(1, 0);
    let bytes = Bytes::copy_from_slice(before);
    owner.step(Input::Read { program, bytes });
    (1..=3).for_each(|number| drop(owner.comes(number, 1)));
    owner.step(Input::Detached { program });
    let program = owner.attach_ambrosias(2, 0);
    let bytes = Bytes::copy_from_slice(after);
    owner.step(Input::Read { program, bytes });
    owner.drains(program);
    // With a checkpoint it is known which inputs its outputs belong to.
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(100_000);
    owner.step(Input::Read { program, bytes: checkpoint().into() });
    owner.instance.status().diverged.map(|diverged| diverged.is_last_copy)
}

#[test]
fn a_program_of_ambrosias_may_say_the_time() {
    assert_eq!(ambrosias(&rpc_with(1, b'1'), &rpc_with(1, b'2')), None);
    let mut other_method = rpc_with(1, b'1');
    let method = other_method.len() - 3;
    other_method[method] = 4;
    assert_eq!(ambrosias(&rpc_with(1, b'1'), &other_method), Some(true));
    assert_eq!(ambrosias(&rpc_with(1, b'1'), b""), None, "it has not come as far");
}
