//! Followers that are filled from the disk.

mod world;

use protocol::{Position, ReplicaId};
use storage::LogReader;
use world::World;

/// Replica 3 was away for this many entries of a kibibyte, which the owner does not hold in memory.
fn behind(entries: usize, appends_max: usize) -> World {
    let mut world = World::default();
    for id in 1..=3 {
        world.add(id, &[1, 2, 3], |options| {
            options.entry_bytes_per_message_max = 1;
            options.inflight_max = appends_max;
        });
    }
    world.group(1).campaign_if_free();
    world.settle(1);
    run(&mut world, &[1, 2, 3]);
    world.group(1).peer_lost(ReplicaId(3), 0);
    for _ in 0..entries {
        world.propose(1, &"x".repeat(1 << 10));
        run(&mut world, &[1, 2]);
    }
    assert_eq!(world.group(1).shrink_window(usize::MAX), 0);
    world
}

/// Delivers everything between those; the rest is lost.
fn run(world: &mut World, among: &[u64]) {
    for _ in 0..1_000 {
        for packet in std::mem::take(&mut world.network) {
            if among.contains(&packet.message.from.0) && among.contains(&packet.message.to.0) {
                world.deliver(packet);
            }
        }
        for id in world.up() {
            world.sync(id, usize::MAX);
        }
        if world.network.is_empty() {
            return;
        }
    }
    panic!("it is never quiet");
}

#[test]
fn few_appends_are_under_way_to_a_follower_that_is_filled_from_the_disk() {
    let mut world = behind(60, 50);
    let (mut most, mut ticks) = (0, 0);
    while world.replica(3).state().position < Position(61) {
        ticks += 1;
        assert!(ticks < 100, "it is never level");
        world.group(1).tick();
        world.settle(1);
        for _ in 0..10 {
            let appends = world.network.iter().filter(|one| one.message.to.0 == 3);
            most = most.max(appends.filter(|one| !one.message.entries.is_empty()).count());
            for packet in std::mem::take(&mut world.network) {
                world.deliver(packet);
            }
            for id in world.up() {
                world.sync(id, usize::MAX);
            }
        }
    }
    assert!((1..=4).contains(&most), "{most} appends at a time");
    // Each read takes half of what may be read in a tick.
    assert!(ticks > 60 / 2, "{ticks} ticks");
    // Then it is as any other.
    for _ in 0..3 {
        world.group(1).tick();
        run(&mut world, &[1, 2, 3]);
    }
    for _ in 0..20 {
        world.propose(1, "y");
    }
    let appends = world.network.iter().filter(|one| one.message.to.0 == 3).count();
    assert_eq!(appends, 20);
}

#[test]
fn a_window_of_no_bytes_still_serves_everything() {
    let mut world = behind(30, 2);
    assert!(world.replica(1).log.term(world::GROUP, Position(2)).is_some());
    let found = world.group(1).applied_after(Position(1), 3 << 10);
    assert_eq!(found.iter().map(|entry| entry.position.0).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(world.group(1).entries_after(Position(20)).len(), 11);
    assert_eq!(world.group(1).log_bytes(), 0);
}
