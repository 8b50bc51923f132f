//! The first state on its way through the log.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;
use immortals::{Adapter, Input, NativeAdapter};
use protocol::immortal::{Hello, ToNode};
use storage::Reader;

use super::{GOOD, Owner, TERM};

/// How much of the first state may wait for the log at a time, with one piece more.
const IN_FLIGHT_MAX: usize = (8 << 20) + (300 << 10);

impl Owner {
    /// All that the program is told leaves, a window at a time.
    fn is_loaded(&mut self) {
        for _ in 0..20 {
            self.step(Input::Written { program: self.program, bytes: u64::MAX });
        }
    }

    /// How many pieces of states there are in the store.
    fn chunks(&self) -> usize {
        let (from, to) = self.space.range(3);
        let mut count = 0;
        let visit = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        self.store.scan(&from, &to, false, visit).expect(GOOD);
        count
    }
}

fn with_a_state(bytes: usize) -> Owner {
    let mut owner = Owner::replica(1, &[1]);
    owner.state = (0..bytes).map(|place| u8::try_from(place % 251).expect("small")).collect();
    owner.leads(TERM);
    owner
}

#[test]
fn a_first_state_of_any_size_goes_into_the_log_little_by_little() {
    let bytes = 70 << 20;
    let mut owner = with_a_state(bytes);
    owner.waiting = Some(VecDeque::new());
    owner.attach(0, 0);
    let mut entries = 0;
    while let Some(entry) = owner.waiting.as_mut().and_then(VecDeque::pop_front) {
        let waiting = owner.waiting.iter().flatten().map(Bytes::len).sum::<usize>();
        assert!(waiting + entry.len() <= IN_FLIGHT_MAX, "{waiting} bytes wait");
        entries += 1;
        owner.commit(entry);
    }
    assert!(entries > 280, "{entries} entries");
    assert_eq!(owner.instance.status().sizes.checkpoint, bytes as u64);
    assert!(owner.instance.is_primary());
    // Another program is given the same state.
    owner.attach(0, 0);
    owner.is_loaded();
    assert!(owner.instance.is_primary());
    assert_eq!(owner.chunks(), 281, "the pieces of the state, and one of what was sent");
}

#[test]
fn a_program_that_goes_while_its_first_state_is_logged_leaves_nothing_behind() {
    for committed in [0, 3, 100] {
        let mut owner = with_a_state(10 << 20);
        owner.waiting = Some(VecDeque::new());
        owner.attach(0, 0);
        for _ in 0..committed {
            let entry = owner.waiting.as_mut().and_then(VecDeque::pop_front);
            entry.into_iter().for_each(|entry| drop(owner.commit(entry)));
        }
        owner.follows();
        let rest = owner.waiting.take();
        drop(rest);
        owner.term.0 += 1;
        owner.leads(owner.term);
        owner.attach(0, 0);
        owner.is_loaded();
        assert!(owner.instance.is_primary(), "{committed} committed");
        assert_eq!(owner.instance.status().sizes.checkpoint, 10 << 20);
        owner.waits(100_000);
        assert_eq!(owner.chunks(), 41, "{committed} committed");
    }
}

#[test]
fn a_program_that_goes_before_it_has_given_all_of_its_state_is_followed_by_another() {
    let mut owner = with_a_state(1 << 20);
    let (version_min, version_max) = (1, 1);
    let (instance, program_version, upgrade_to) = ("ours".into(), 0, 0);
    let hello = Hello { version_min, version_max, instance, program_version, upgrade_to };
    let (program, adapter) = (99, Adapter::Native(NativeAdapter::default()));
    owner.with(|instance, cx, lead, outputs| {
        instance.attach(cx, lead.as_mut(), program, adapter, hello, outputs).expect(GOOD);
    });
    let mut bytes = Vec::new();
    ToNode::Checkpoint { request: 0 }.put(&mut bytes);
    ToNode::Chunk(Bytes::from_static(b"the beginning")).put(&mut bytes);
    owner.step(Input::Read { program, bytes: bytes.into() });
    assert_eq!(owner.log.entries.len(), 1);
    owner.step(Input::Detached { program });
    owner.attach(0, 0);
    assert!(owner.instance.is_primary());
    assert_eq!(owner.instance.status().sizes.checkpoint, 1 << 20);
    owner.waits(100_000);
    assert_eq!(owner.chunks(), 5);
}
