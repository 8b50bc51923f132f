//! When an instance asks for a tick.

use immortals::{Input, Request};
use protocol::Moment;
use protocol::immortal::{ToNode, ToProgram};

use super::{Owner, TERM};

/// A quarter of the 60 s after which a program without a sign of life is replaced.
const PING_MICROS: u64 = 15_000_000;

/// How often the other replicas hear of a program.
const STATUS_MICROS: u64 = 500_000;

#[test]
fn an_instance_without_a_program_asks_for_no_tick() {
    for replicas in [&[1][..], &[1, 2, 3][..]] {
        let mut follower = Owner::replica(1, replicas);
        follower.step(Input::Tick);
        assert_eq!(follower.next_wake(), None, "{replicas:?}");
        follower.leads(TERM);
        assert_eq!(follower.next_wake(), None, "{replicas:?}");
        // The same when a program was there and has gone.
        follower.attach(0, 0);
        follower.comes(1, 1);
        follower.waits(500_000);
        follower.step(Input::Detached { program: follower.program });
        follower.waits(500_000);
        assert_eq!(follower.next_wake(), None, "{replicas:?}");
        follower.follows();
        assert_eq!(follower.next_wake(), None, "{replicas:?}");
    }
}

#[test]
fn an_instance_whose_program_is_at_rest_asks_for_ticks_for_signs_of_life_alone() {
    let mut owner = Owner::new();
    owner.comes(1, 3);
    owner.waits(1_000_000);
    for _ in 0..100 {
        let wake = owner.next_wake().expect("a program is asked for signs of life");
        let before = owner.now.steady_micros;
        assert!(wake > before && wake <= before + PING_MICROS, "{before} {wake}");
        owner.log.reads.set(0);
        owner.now.steady_micros = wake;
        owner.step(Input::Tick);
        assert_eq!(owner.log.reads.get(), 0);
        assert!(owner.lead.as_ref().is_some_and(immortals::Lead::is_idle));
    }
    let ticks = 100 * STATUS_MICROS;
    assert!(owner.now.steady_micros >= ticks, "no more often than others are told of it");
}

#[test]
fn a_timer_asks_for_a_tick_at_its_time_and_fires_then() {
    let mut owner = Owner::new();
    owner.waits(1_000_000);
    let due = Moment(owner.now.wall.0 + 200_000);
    owner.says(&ToNode::Await { id: 1, due: Some(due) });
    let wake = owner.next_wake().expect("a timer");
    assert_eq!(wake, owner.now.steady_micros + 200_000);
    let before = owner.instance.inputs();
    owner.now.steady_micros = wake;
    owner.step(Input::Tick);
    assert_eq!(owner.instance.inputs(), before + 1);
    assert!(owner.next_wake().is_some_and(|next| next > wake), "it does not ask again");
}

#[test]
fn a_destination_that_does_not_answer_asks_for_ticks_and_is_asked_again() {
    let mut owner = Owner::new();
    owner.waits(1_000_000);
    owner.impulse(1, 10);
    for _ in 0..5 {
        let wake = owner.next_wake().expect("somebody is waited for");
        assert!(wake <= owner.now.steady_micros + 400_000);
        owner.now.steady_micros = wake;
        owner.step(Input::Tick);
    }
    assert!(owner.take_heard().iter().all(|frame| !matches!(frame, ToProgram::Fate { .. })));
}

#[test]
fn the_next_checkpoint_is_asked_for_as_soon_as_the_last_one_is_there() {
    let mut owner = Owner::new();
    let mut settings = owner.instance.settings().clone();
    settings.checkpoint_bytes = 1_000;
    owner.step(Input::Settings(settings));
    let mut bases = Vec::new();
    for round in 0..5 {
        for number in 0..50 {
            owner.comes(round * 50 + number + 1, 1);
        }
        assert_eq!(owner.next_wake(), Some(0), "one is due");
        owner.waits(100_000);
        bases.push(owner.instance.status().base_input);
    }
    assert_eq!(bases, [51, 101, 151, 201, 251], "all within a second");
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    assert_eq!(owner.instance.status().base_input, 251);
}
