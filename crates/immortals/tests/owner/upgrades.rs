//! The outcome of upgrades, and of what is sent and wished meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;
use immortals::{Between, Entry, Input, Lane, Request, Response, UpgradeOutcome};
use protocol::Term;
use protocol::immortal::{Message, Status, ToNode};

use super::quiet::{checkpoint, rpc_with};
use super::{GOOD, Owner, TERM, THEIRS};

#[test]
fn an_upgrade_at_which_programs_fail_is_given_up_and_the_old_version_goes_on() {
    let mut owner = Owner::new();
    owner.comes(1, 1);
    owner.attach(0, 1);
    owner.is_frail = true;
    owner.set_upgrade(1, 1);
    owner.step(Input::Tick);
    for _ in 0..2 {
        assert!(!owner.instance.has_given_up_the_upgrade(), "it is tried three times");
        assert_eq!(owner.instance.version_in_use(), 0, "nobody has made it yet");
        owner.attach(0, 1);
    }
    assert_eq!((owner.instance.status().trouble.held, owner.instance.version_in_use()), (None, 0));
    assert!(owner.instance.has_given_up_the_upgrade());
    owner.attach(0, 0);
    owner.comes(2, 1);
    assert_eq!(owner.inputs.iter().filter(|(_, m)| *m == Message::Skipped).count(), 1);
    assert_eq!(owner.handled().last(), Some(&2));
    owner.waits(1_000_000);
    assert_eq!(owner.instance.version_in_use(), 0, "it is not tried again by itself");

    // Somebody has mended the program, and asks again.
    owner.is_frail = false;
    owner.attach(0, 1);
    owner.set_upgrade(1, 2);
    owner.waits(500_000);
    assert_eq!(owner.instance.version_in_use(), 1);
    assert!(!owner.instance.has_given_up_the_upgrade());
    // The checkpoint is of the new version, and lets programs of the old one begin no more.
    assert_eq!(owner.instance.program_version_at_base(), Some(1));
}

#[test]
fn an_upgrade_that_was_wished_for_before_the_start_comes_after_it() {
    let mut owner = Owner::replica(1, &[1]);
    owner.set_upgrade(1, 1);
    owner.leads(TERM);
    owner.attach(0, 1);
    owner.waits(200_000);
    let inputs: Vec<&Message> = owner.inputs.iter().map(|(_, message)| message).collect();
    assert!(
        matches!(inputs[..], [Message::Start { .. }, Message::Upgrade { version: 1 }]),
        "{inputs:?}"
    );
}

#[test]
fn an_upgrade_whose_program_is_gone_is_given_up_after_a_while() {
    let mut owner = Owner::new();
    owner.attach(0, 1);
    owner.is_frail = true;
    owner.set_upgrade(1, 1);
    owner.step(Input::Tick);
    // The new program has failed once, and only the old one is started again: it waits at the
    // upgrade.
    owner.attach(0, 0);
    owner.comes(1, 1);
    owner.waits(9_000_000);
    assert_eq!(owner.handled(), [0; 0]);
    owner.waits(2_000_000);
    // The old program had to begin anew.
    owner.attach(0, 0);
    assert_eq!((owner.handled().last(), owner.instance.version_in_use()), (Some(&1), 0));
}

#[test]
fn an_upgrade_is_given_up_at_once_when_its_input_is_taken_out() {
    let mut owner = Owner::new();
    owner.attach(0, 1);
    owner.is_frail = true;
    owner.set_upgrade(1, 1);
    owner.step(Input::Tick);
    owner.waiting = Some(VecDeque::new());
    owner.step(Input::Request { ticket: 1, request: Request::Skip { input: 2 } });
    owner.step(Input::Request { ticket: 1, request: Request::Skip { input: 2 } });
    assert_eq!(owner.answers, [], "it is not committed yet");
    owner.waiting.take().expect(GOOD).into_iter().for_each(|entry| drop(owner.commit(entry)));
    assert_eq!(owner.answers, [Response::Done { input: 2 }, Response::Done { input: 2 }]);
    assert_eq!(owner.instance.version_in_use(), 0);
    owner.step(Input::Request { ticket: 2, request: Request::Skip { input: 1 } });
    assert!(matches!(owner.answers[2], Response::Refused(_)), "that is START");
}

#[test]
fn a_second_wish_waits_until_it_is_known_what_becomes_of_the_first() {
    let mut owner = Owner::new();
    owner.attach(0, 1);
    owner.is_frail = true;
    owner.waiting = Some(VecDeque::new());
    owner.set_upgrade(1, 1);
    owner.set_upgrade(1, 2);
    owner.step(Input::Tick);
    let waiting = owner.waiting.take().expect(GOOD);
    assert_eq!(waiting.len(), 1, "the first one has not come into the log");
    waiting.into_iter().for_each(|entry| drop(owner.commit(entry)));
    owner.attach(0, 1);
    owner.attach(0, 1);
    // It is given up, and tried anew for the second wish.
    assert_eq!(owner.instance.version_in_use(), 0);
    assert!(!owner.instance.has_given_up_the_upgrade(), "that was the first wish");
    owner.is_frail = false;
    owner.attach(0, 1);
    owner.waits(500_000);
    assert_eq!(owner.instance.version_in_use(), 1);
}

#[test]
fn nothing_that_a_new_version_says_leaves_before_it_is_logged_that_there_is_one() {
    let mut owner = Owner::new();
    owner.attach(0, 1);
    owner.is_slow_to_upgrade = true;
    owner.set_upgrade(1, 1);
    assert!(owner.inputs.iter().any(|(_, message)| matches!(message, Message::Upgrade { .. })));
    owner.waiting = Some(VecDeque::new());
    // The program is not done with the upgrade, and has a result already.
    let (id, status, payload) = (5, Status::Value, Bytes::new());
    let mut left = owner.says(&ToNode::Result { id, status, payload });
    owner.now.steady_micros += 1_000_000;
    left.extend(owner.step(Input::Tick));
    assert_eq!((owner.waiting.as_ref().map(VecDeque::len), &left[..]), (Some(0), &[][..]));
    // Now the program is done. Until that is committed nothing goes to others, and what is logged
    // comes after the outcome.
    let input = owner.last;
    left.extend(owner.says(&ToNode::Done { input }));
    left.extend(owner.step(Input::Tick));
    assert_eq!(left, []);
    let mut waiting = owner.waiting.take().expect(GOOD).into_iter();
    let first = waiting.next().expect("an outcome");
    let done = Entry::Upgraded { input, outcome: UpgradeOutcome::Done };
    assert_eq!(Entry::decode(first.clone()), Ok(done));
    let left = owner.commit(first);
    assert!(matches!(left[..], [Between::Probe { .. }]), "{left:?}");
    waiting.for_each(|entry| drop(owner.commit(entry)));
    let result = |message: &Message| matches!(message, Message::Result { id: 5, .. });
    assert_eq!(owner.inputs.iter().filter(|(_, message)| result(message)).count(), 1);
}

#[test]
fn before_a_program_is_told_of_an_upgrade_all_goes_on() {
    let mut owner = Owner::new();
    owner.attach(0, 1);
    owner.says(&ToNode::Await { id: 5, due: None });
    owner.says_too_much();
    owner.set_upgrade(1, 1);
    owner.waits(100_000);
    assert_eq!(owner.instance.inputs(), 2, "it is logged, and cannot be told");
    let (id, status, payload) = (5, Status::Value, Bytes::new());
    owner.says(&ToNode::Result { id, status, payload });
    assert_eq!(owner.instance.inputs(), 3);
    // Its messages leave, and when they are confirmed there is room.
    let lane = Lane::Stream;
    let message = Between::Ack { lane, logged: 0, resend_from: Some(1) };
    let said = owner.step(Input::Between { from: THEIRS, message });
    assert!(matches!(said[..], [Between::Send { first: 1, .. }, ..]), "{} said", said.len());
    let message = Between::Ack { lane, logged: 18, resend_from: None };
    owner.step(Input::Between { from: THEIRS, message });
    owner.waits(100_000);
    assert_eq!(owner.instance.version_in_use(), 1);
    let last = owner.inputs.last().map(|(_, message)| message.clone());
    assert!(matches!(last, Some(Message::Result { id: 5, .. })), "{last:?}");
}

/// A program that has been told of an upgrade, is not done with it, and awaits some effects.
fn owner_in_an_upgrade(effects: std::ops::Range<u64>) -> Owner {
    let mut owner = Owner::new();
    owner.attach(0, 1);
    for id in effects {
        owner.says(&ToNode::Await { id, due: None });
    }
    owner.is_slow_to_upgrade = true;
    owner.set_upgrade(1, 1);
    owner
}

fn result(id: u64, payload: Bytes) -> ToNode {
    ToNode::Result { id, status: Status::Value, payload }
}

#[test]
fn of_results_in_an_upgrade_the_first_of_each_that_is_awaited_is_kept() {
    let mut owner = owner_in_an_upgrade(10..12);
    for (id, payload) in [(10, "a"), (10, "b"), (30, "c"), (11, "d")] {
        owner.says(&result(id, payload.into()));
    }
    owner.is_slow_to_upgrade = false;
    owner.says(&ToNode::Done { input: owner.last });
    let results = owner.inputs.iter().filter_map(|(_, message)| match message {
        Message::Result { id, payload, .. } => Some((*id, &payload[..])),
        _ => None,
    });
    assert_eq!(results.collect::<Vec<_>>(), [(10, &b"a"[..]), (11, b"d")]);
}

#[test]
fn a_program_that_gives_too_much_in_an_upgrade_is_let_go() {
    let mut owner = owner_in_an_upgrade(10..20);
    let payload = Bytes::from(vec![7; 15 << 20]);
    for id in 30..40 {
        owner.says(&result(id, payload.clone()));
        owner.says(&result(10, payload.clone()));
    }
    assert_eq!(owner.told_last, "", "nobody awaits those");
    (11..20).for_each(|id| drop(owner.says(&result(id, payload.clone()))));
    assert_eq!(owner.told_last, "BAD_FRAME");
}

#[test]
fn an_upgrade_whose_outcome_is_on_its_way_is_not_taken_out() {
    let mut owner = owner_in_an_upgrade(0..0);
    owner.waiting = Some(VecDeque::new());
    let input = owner.last;
    owner.says(&ToNode::Done { input });
    // The program that has made the upgrade is gone, and nobody is known to have handled that
    // input.
    owner.step(Input::Detached { program: owner.program });
    owner.step(Input::Request { ticket: 1, request: Request::Skip { input } });
    assert!(matches!(owner.answers[..], [Response::Refused(_)]), "{:?}", owner.answers);
    owner.waiting.take().expect(GOOD).into_iter().for_each(|entry| drop(owner.commit(entry)));
    assert_eq!((owner.instance.version_in_use(), owner.answers.len()), (1, 1));
}

/// An owner that is to be upgraded and has no program.
fn owner_for_ambrosias() -> Owner {
    let mut owner = Owner::new();
    owner.comes(1, 1);
    owner.step(Input::Detached { program: owner.program });
    owner.set_upgrade(1, 1);
    owner
}

#[test]
fn an_upgrade_in_which_a_program_of_ambrosias_ends_again_and_again_is_given_up() {
    let mut owner = owner_for_ambrosias();
    for number in 1..=3 {
        assert!(!owner.instance.has_given_up_the_upgrade(), "it is tried three times");
        let program = owner.attach_ambrosias(number, 1);
        owner.drains(program);
        assert!(owner.instance.status().attached, "try {number}");
        assert_eq!(owner.instance.inputs(), 3, "START, the message and the upgrade");
        owner.step(Input::Detached { program });
    }
    assert_eq!((owner.instance.status().trouble.held, owner.instance.version_in_use()), (None, 0));
    assert!(owner.instance.has_given_up_the_upgrade());
    // The old program goes on.
    owner.attach(0, 0);
    owner.comes(2, 1);
    assert_eq!(owner.handled().last(), Some(&2));
}

#[test]
fn a_program_of_ambrosias_that_makes_an_upgrade_at_last_is_the_new_version() {
    let mut owner = owner_for_ambrosias();
    for number in 1..=2 {
        let program = owner.attach_ambrosias(number, 1);
        owner.drains(program);
        owner.step(Input::Detached { program });
    }
    let program = owner.attach_ambrosias(3, 1);
    owner.drains(program);
    owner.step(Input::Read { program, bytes: checkpoint().into() });
    assert_eq!(owner.instance.version_in_use(), 1);
}

#[test]
fn when_another_copy_has_made_an_upgrade_the_failures_at_it_are_forgotten() {
    let mut owner = owner_for_ambrosias();
    let program = owner.attach_ambrosias(1, 1);
    owner.step(Input::Detached { program });
    let outcome = UpgradeOutcome::Done;
    // Another replica was the owner for a while.
    owner.follows();
    owner.commit_in(Term(2), Entry::Upgraded { input: 3, outcome }.encode());
    owner.term = Term(3);
    owner.leads(owner.term);
    // A program that is handled with care is given one input at a time.
    owner.attach_ambrosias(2, 1);
    assert_eq!(owner.instance.status().done, 3);
}

#[test]
fn what_was_said_in_an_upgrade_that_is_given_up_is_not_compared_with() {
    let mut owner = owner_for_ambrosias();
    let program = owner.attach_ambrosias(1, 1);
    // The program sends something in the upgrade, and meanwhile something is logged.
    owner.step(Input::Read { program, bytes: rpc_with(1, b'n').into() });
    owner.comes(2, 1);
    owner.waits(1_000_000);
    owner.step(Input::Detached { program });
    owner.step(Input::Request { ticket: 1, request: Request::Skip { input: 3 } });
    assert!(owner.instance.has_given_up_the_upgrade());
    // The old program sends something else.
    let program = owner.attach_ambrosias(2, 0);
    owner.drains(program);
    owner.step(Input::Read { program, bytes: rpc_with(1, b'o').into() });
    owner.comes(3, 1);
    // At a checkpoint it is known what the program has handled.
    owner.step(Input::Request { ticket: 2, request: Request::Checkpoint });
    owner.drains(program);
    owner.step(Input::Read { program, bytes: checkpoint().into() });
    let status = owner.instance.status();
    assert_eq!((status.attached, status.trouble.diverged), (true, None));
}
