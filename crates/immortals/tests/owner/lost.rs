//! What is remembered of senders: when something was lost with the memory of a majority, and when
//! senders are gone.

use std::collections::VecDeque;

use bytes::Bytes;
use immortals::{Between, Input, Lane, Standing};
use protocol::immortal::{Message, put_message};
use protocol::{GroupId, Position};

use super::{Owner, THEIRS};

/// An owner whose inputs may be lost when a majority dies at once.
fn forgetful() -> Owner {
    let mut owner = Owner::new();
    let mut settings = owner.instance.settings().clone();
    settings.memory = true;
    owner.step(Input::Settings(settings));
    owner
}

impl Owner {
    /// The same as [`Owner::comes`], from a sender that still has all messages from `floor` on.
    fn comes_with(&mut self, floor: u64, first: u64, count: u64) -> Vec<Between> {
        self.floor = floor;
        self.comes(first, count)
    }

    /// Impulses of one session of the other instance.
    fn presses(&mut self, floor: u64, first: u64, count: u64) -> Vec<Between> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            put_message(&mut bytes, &Message::Impulse { method: 1, payload: Bytes::new() });
        }
        let (lane, name) = (Lane::Impulses { session: 4 }, "theirs".to_owned());
        let messages = bytes.into();
        let message = Between::Send { lane, name, floor, first, count, messages };
        self.step(Input::Between { from: THEIRS, message })
    }

    fn impulses(&self) -> usize {
        let impulse = |message: &Message| matches!(message, Message::Impulse { .. });
        self.inputs.iter().filter(|(_, message)| impulse(message)).count()
    }
}

#[test]
fn what_was_confirmed_and_lost_is_missing_where_durability_is_in_memory_and_the_rest_comes() {
    for memory in [false, true] {
        let mut owner = Owner::new();
        let mut settings = owner.instance.settings().clone();
        settings.memory = memory;
        owner.step(Input::Settings(settings));
        owner.comes(1, 2);
        // The sender was told that 3 and 4 are logged, by an owner that forgot them.
        owner.floor = 5;
        let said = owner.comes(5, 2);
        if memory {
            assert_eq!(owner.handled(), [1, 2, 5, 6]);
            owner.comes(7, 1);
            owner.comes(6, 2);
            assert_eq!(owner.handled(), [1, 2, 5, 6, 7]);
        } else {
            let again = Between::Ack { lane: Lane::Stream, logged: 2, resend_from: Some(3) };
            assert_eq!((said, owner.handled()), (vec![again], vec![1, 2]));
        }
    }
}

#[test]
fn nothing_is_taken_twice_when_the_owner_changes_after_something_was_lost() {
    for committed in 0..=2 {
        let mut owner = forgetful();
        owner.comes(1, 2);
        owner.presses(1, 1, 2);
        owner.waiting = Some(VecDeque::new());
        owner.comes_with(5, 5, 2);
        assert_eq!(
            owner.waiting.as_ref().map(VecDeque::len),
            Some(2),
            "that it is lost, and inputs"
        );
        owner.changes_owner(committed);
        // Messages that come late, from before the loss.
        owner.comes_with(1, 1, 2);
        owner.comes_with(1, 2, 1);
        owner.presses(1, 1, 2);
        assert_eq!(owner.handled()[..2], [1, 2], "{committed} committed");
        owner.comes_with(5, 5, 3);
        assert_eq!(owner.handled(), [1, 2, 5, 6, 7], "{committed} committed");
        assert_eq!(owner.impulses(), 2, "{committed} committed");
    }
}

#[test]
fn what_was_taken_before_something_was_lost_is_logged_before_it() {
    let mut owner = forgetful();
    owner.comes(1, 1);
    // Four entries may be on their way. The last messages wait for one of them.
    owner.waiting = Some(VecDeque::new());
    (2..8).for_each(|number| drop(owner.comes(number, 1)));
    owner.comes_with(11, 11, 2);
    while let Some(entry) = owner.waiting.as_mut().and_then(VecDeque::pop_front) {
        owner.commit(entry);
    }
    owner.waiting = None;
    owner.comes_with(11, 13, 1);
    assert_eq!(owner.handled(), [1, 2, 3, 4, 5, 6, 7, 11, 12, 13]);
    assert_eq!(owner.instance.senders().collect::<Vec<_>>(), [(THEIRS, 13)]);
}

#[test]
fn impulses_that_were_confirmed_and_lost_do_not_hold_up_those_that_follow() {
    for memory in [false, true] {
        let mut owner = if memory { forgetful() } else { Owner::new() };
        owner.presses(1, 1, 2);
        owner.presses(5, 5, 1);
        owner.presses(5, 6, 1);
        owner.presses(5, 5, 2);
        assert_eq!(owner.impulses(), if memory { 4 } else { 2 });
    }
}

/// An owner with more senders than are remembered when they are gone. All but the first ten are
/// gone.
fn owner_of_many() -> (Owner, fn(u32) -> GroupId) {
    const MANY: u32 = 16_500;
    let mut owner = Owner::new();
    let sender: fn(u32) -> GroupId = |number| GroupId(THEIRS.0 + number);
    for number in 0..MANY {
        owner.comes_from(sender(number), 1, 1);
    }
    assert_eq!(owner.instance.senders().count(), MANY as usize);
    owner.log.standings.extend((10..MANY).map(|number| (sender(number), Standing::Gone)));
    owner.log.directory = Position(300);
    (owner, sender)
}

#[test]
fn senders_that_are_gone_are_forgotten_when_there_are_many_and_nothing_of_them_comes_again() {
    let (mut owner, sender) = owner_of_many();
    owner.step(Input::Tick);
    assert!(owner.instance.senders().count() < 7_000);
    let before = owner.handled().len();
    assert_eq!(owner.comes_from(sender(20), 1, 1), [], "it is gone");
    // An owner that has not heard of it waits with senders that it does not know.
    owner.log.standings.clear();
    owner.log.directory = Position(299);
    assert_eq!(owner.comes_from(sender(20), 1, 1), []);
    assert_eq!(owner.handled().len(), before);
    assert_eq!(owner.comes_from(sender(5), 1, 2).len(), 1, "one that is known goes on");
    assert_eq!(owner.handled().len(), before + 1);
}

#[test]
fn a_sender_that_is_being_forgotten_is_not_heard() {
    let (mut owner, sender) = owner_of_many();
    owner.waiting = Some(VecDeque::new());
    owner.step(Input::Tick);
    let before = owner.handled().len();
    owner.comes_from(sender(20), 2, 1);
    let message = Between::Probe { lane: Lane::Stream };
    assert_eq!(owner.step(Input::Between { from: sender(20), message }), []);
    while let Some(entry) = owner.waiting.as_mut().and_then(VecDeque::pop_front) {
        owner.commit(entry);
    }
    assert_eq!(owner.handled().len(), before);
    assert!(owner.instance.senders().all(|(group, _)| group != sender(20)));
}
