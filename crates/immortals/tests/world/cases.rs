//! Worlds with one thing wrong: bad programs, upgrades that are killed, inputs that are taken out.

use immortals::{Input, Instance, Request, Response};
use protocol::immortal::Fate;

use crate::base::{Event, Plan, Site, World};
use crate::histories::many;
use crate::program::Manners;
use crate::script::{BOMB, Script, Word};

fn plan(name: &str, friends: &[&str], replicas: usize) -> Plan {
    let friends = friends.iter().map(|friend| (*friend).to_owned()).collect();
    let script = Script { name: name.to_owned(), friends, talk: 8, bytes: 50 };
    Plan { script, replicas, checkpoint_bytes: 0 }
}

/// A client with one replica and a server with three, at rest after some work.
fn pair(seed: u64) -> World {
    let mut world = World::new(seed, vec![plan("client", &["server"], 1), plan("server", &[], 3)]);
    world.calm = true;
    world.impulses_left = 6;
    world.after(1_000_000, Event::Load);
    world.run_for(3_000_000);
    world
}

fn server(world: &World, replica: usize) -> &Instance {
    world.groups[1][replica].instance.as_ref().unwrap()
}

fn drop_a_bomb(world: &mut World) {
    world.watch.pressed(BOMB, "server".to_owned());
    let payload = Word { life: 0, tag: BOMB }.bytes(0);
    let from = "an enemy".to_owned();
    world.ask(1, Request::Impulse { from, method: 666, payload, key: None });
}

#[test]
fn a_program_that_reads_a_clock_is_fenced_and_no_good_one_is() {
    let mut found = 0;
    for seed in 0..3 {
        let mut world =
            World::new(seed, vec![plan("client", &["server"], 2), plan("server", &["client"], 3)]);
        world.manners[1] = Manners::Clock;
        world.after(100_000, Event::Load);
        world.calm = true;
        world.run_for(12_000_000);
        // The watch looks at each error that no good program is fenced.
        found += world.watch.diverged;
        for (at, note) in &world.notes {
            assert!(!note.starts_with("DIVERGED") || at.0 == 1, "{note}");
        }
    }
    assert!(found > 3, "{found} copies with a clock were found");
}

#[test]
fn a_message_that_kills_programs_is_named_and_can_be_taken_out() {
    for seed in 0..2 {
        let mut world = pair(seed);
        world.manners[1] = Manners::Frail;
        for replica in 0..3 {
            world.kill((1, replica));
        }
        world.run_for(2_000_000);
        drop_a_bomb(&mut world);
        world.run_for(15_000_000);
        let inputs = &world.logs[1].inputs;
        let bomb =
            inputs.iter().find(|given| format!("{given:?}").contains("method: 666")).unwrap();
        let bomb = bomb.number;
        for replica in 0..3 {
            let held = server(&world, replica).status().trouble.held.expect("all copies are held");
            assert_eq!((held.input, held.tries), (bomb, 3), "replica {replica}");
            assert!(held.message.contains("impulse of method 666"), "{}", held.message);
            assert!(held.message.contains("client/an enemy"), "{}", held.message);
        }
        // An input that was handled cannot be taken out: programs would differ.
        let ticket = world.ask(1, Request::Skip { input: bomb - 1 });
        world.run_for(100_000);
        let (_, told) = world.told.iter().rev().find(|(of, _)| *of == ticket).unwrap();
        assert!(matches!(told, Response::Refused(_)), "{told:?}");
        let ticket = world.ask(1, Request::Skip { input: bomb });
        world.impulses_left = 6;
        world.after(0, Event::Load);
        world.rest(40_000_000);
        assert!(
            world
                .told
                .iter()
                .any(|(of, told)| *of == ticket && matches!(told, Response::Done { .. }))
        );
        world.check_end();
        assert!((0..3).all(|replica| server(&world, replica).status().trouble.held.is_none()));
    }
}

#[test]
fn a_program_that_never_gives_a_checkpoint_is_let_go_and_loses_nothing() {
    let mut world = pair(1);
    world.manners[1] = Manners::NoCheckpoint;
    for replica in 0..3 {
        world.kill((1, replica));
    }
    world.impulses_left = 40;
    world.after(0, Event::Load);
    world.run_for(2_000_000);
    world.ask(1, Request::Checkpoint);
    world.run_for(15_000_000);
    assert!(world.notes.iter().any(|(_, note)| note.contains("has not answered")));
    world.manners[1] = Manners::Good;
    world.rest(40_000_000);
    world.check_end();
    world.check_checkpoints();
}

#[test]
fn a_program_that_sends_broken_frames_is_let_go_and_loses_nothing() {
    for seed in 0..2 {
        let mut world = pair(seed);
        world.manners[1] = Manners::Broken;
        for replica in 0..3 {
            world.kill((1, replica));
        }
        world.impulses_left = 30;
        world.after(0, Event::Load);
        world.run_for(8_000_000);
        assert!(world.watch.errors.get("BAD_FRAME").is_some_and(|count| *count > 0));
        world.manners[1] = Manners::Good;
        world.rest(40_000_000);
        world.check_end();
    }
}

fn set_upgrade(world: &mut World, version: u64) {
    for group in 0..2 {
        world.settings[group].upgrade_version = (group == 1).then_some(version);
        world.settings[group].upgrade_wish += 1;
    }
    for replica in 0..3 {
        let settings = world.settings[1].clone();
        world.input((1, replica), Input::Settings(settings));
    }
}

fn states_version(world: &World) -> Vec<u64> {
    let replicas = world.groups[1].iter();
    replicas.map(|r| r.process.as_ref().unwrap().state.as_ref().unwrap().version).collect()
}

/// An upgrade is asked for. After `steps` events something is killed.
fn upgrade(seed: u64, steps: usize, kill: impl FnOnce(&mut World, Site)) {
    let mut world = pair(seed);
    world.versions[1] = vec![(1, 2), (2, 2)];
    world.impulses_left = 10;
    world.after(0, Event::Load);
    set_upgrade(&mut world, 2);
    let replica = usize::try_from(seed % 3).unwrap();
    world.kill((1, replica));
    for _ in 0..steps {
        let until = world.now + 60_000_000;
        assert!(world.step(until));
    }
    kill(&mut world, (1, replica));
    world.run_for(10_000_000);
    world.rest(100_000_000);
    assert_eq!(world.logs[1].state.program_version, 2);
    assert_eq!(states_version(&world), [2, 2, 2]);
    world.check_end();
    world.check_checkpoints();
}

#[test]
fn an_upgrade_may_be_killed_at_any_step() {
    for step in 0..many(12) {
        let steps = usize::try_from(step).unwrap() * 61;
        upgrade(step, steps, |world, at| match step % 4 {
            0 => world.kill(at),
            1 => world.crash(at, false),
            2 => {
                let owner = world.logs[1].owner.unwrap_or(0);
                world.kill((1, owner));
            }
            _ => {
                let owner = world.logs[1].owner.unwrap_or(0);
                world.crash((1, owner), false);
            }
        });
    }
}

#[test]
fn an_upgrade_that_no_program_can_make_leaves_the_old_version_serving() {
    for seed in 0..many(3) {
        let mut world = pair(seed);
        world.manners[1] = Manners::Stuck;
        world.versions[1] = vec![(1, 2), (1, 1)];
        set_upgrade(&mut world, 2);
        world.impulses_left = 10;
        world.after(0, Event::Load);
        let is_given_up =
            |world: &World| world.notes.iter().any(|(_, note)| note.contains("is given up"));
        // The versions of the programs that are started are drawn.
        for _ in 0..10 {
            if !is_given_up(&world) {
                (0..3).for_each(|replica| world.kill((1, replica)));
                world.run_for(15_000_000);
            }
        }
        assert!(is_given_up(&world), "it was not tried");
        world.rest(60_000_000);
        assert_eq!(states_version(&world), [1; 3]);
        world.check_end();
        // A program that is mended makes the upgrade when somebody asks again.
        world.manners[1] = Manners::Good;
        world.versions[1] = vec![(1, 2), (2, 2)];
        set_upgrade(&mut world, 2);
        for replica in 0..3 {
            world.kill((1, replica));
        }
        world.rest(60_000_000);
        assert_eq!(states_version(&world), [2; 3]);
        world.check_end();
        world.check_checkpoints();
    }
}

#[test]
fn an_upgrade_can_be_taken_back() {
    let mut world = pair(3);
    for (version, versions) in [(2, (1, 2)), (1, (2, 1))] {
        world.versions[1] = vec![versions, (version, version)];
        set_upgrade(&mut world, version);
        for replica in 0..3 {
            world.kill((1, replica));
        }
        world.impulses_left = 5;
        world.after(0, Event::Load);
        world.rest(60_000_000);
        assert_eq!(states_version(&world), [version; 3]);
        world.check_end();
        world.check_checkpoints();
    }
}

#[test]
fn impulses_of_an_ownership_that_is_opened_again_in_the_same_term_are_not_taken_for_repetitions() {
    let mut world = World::new(5, vec![plan("client", &[], 1), plan("server", &[], 3)]);
    world.calm = true;
    world.impulses_left = 0;
    world.run_for(3_000_000);
    for tag in 1..=4 {
        world.watch.pressed(tag, "server".to_owned());
        let process = world.groups[0][0].process.as_mut().unwrap();
        assert!(process.primary);
        process.impulse("server", Word { life: 0, tag });
        world.groups[0][0].hearing = true;
        let program = world.groups[0][0].process.as_ref().unwrap().id;
        world.after(10, Event::Hear { at: (0, 0), program });
        world.run_for(1_000_000);
        // The node ends the ownership for a hand-over that comes to nothing.
        let (term, boot) = (world.logs[0].term, world.groups[0][0].boot);
        world.after(0, Event::Closed { at: (0, 0), boot, term });
        world.after(1000, Event::Apply { at: (0, 0), boot });
        world.run_for(1_000_000);
    }
    world.rest(10_000_000);
    world.check_end();
    assert!((1..=4).all(|tag| world.watch.fate_of(tag) == Some(Fate::Logged)));
}

#[test]
fn a_second_checkpoint_at_the_same_place_leaves_the_first_one_whole() {
    for seed in 0..3 {
        let mut world = pair(seed);
        world.run_for(3_000_000);
        for _ in 0..3 {
            world.ask(1, Request::Checkpoint);
            world.run_for(2_000_000);
        }
        for replica in 0..3 {
            world.kill((1, replica));
        }
        world.rest(20_000_000);
        world.check_end();
        world.check_checkpoints();
    }
}

#[test]
fn an_impulse_to_a_destination_that_comes_later_goes_out_and_its_fate_is_told_to_nobody_else() {
    let mut world = World::new(9, vec![plan("client", &[], 1), plan("server", &[], 3)]);
    world.calm = true;
    world.impulses_left = 0;
    world.hide_last(6_000_000);
    world.run_for(3_000_000);
    world.watch.pressed(1, "server".to_owned());
    let process = world.groups[0][0].process.as_mut().unwrap();
    process.impulse("server", Word { life: 0, tag: 1 });
    let program = process.id;
    world.groups[0][0].hearing = true;
    world.after(10, Event::Hear { at: (0, 0), program });
    world.run_for(1_000_000);
    // The next program knows nothing of that impulse. A fate for it would be a mistake.
    world.kill((0, 0));
    world.run_for(4_000_000);
    world.rest(20_000_000);
    world.check_end();
    assert_eq!(world.logs[1].impulses.get(&1), Some(&1));
}
