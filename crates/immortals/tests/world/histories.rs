//! Random histories.

use random::Random;

use crate::base::{Event, Plan, World};
use crate::script::Script;

/// Without optimization they take ten times as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 10 } else { 200 };

/// One seed in this many is run twice.
const TWICE: u64 = 10;

fn plans(seed: u64) -> Vec<Plan> {
    let mut random = Random::of_seed(seed ^ 0xabcd);
    let count = 1 + random.index(3);
    let names: Vec<String> =
        ["alpha", "beta", "gamma"][..count].iter().map(|n| (*n).into()).collect();
    let mut plans = Vec::new();
    for name in &names {
        let friends = match random.index(3) {
            0 => names.iter().filter(|_| random.one_in(2)).cloned().collect(),
            _ => names.iter().filter(|other| *other != name).cloned().collect(),
        };
        plans.push(Plan {
            script: Script {
                name: name.clone(),
                friends,
                talk: 4 + random.below(10),
                bytes: [10, 200, 3000][random.index(3)],
            },
            replicas: [1, 2, 3, 3][random.index(4)],
            checkpoint_bytes: [0, 2_000, 20_000][random.index(3)],
        });
    }
    plans
}

pub(crate) fn history(seed: u64, verbose: bool) -> World {
    let mut world = World::new(seed, plans(seed));
    world.verbose = verbose;
    world.after(100_000, Event::Load);
    if !seed.is_multiple_of(10) {
        world.after(300_000, Event::Fault);
    }
    if seed.is_multiple_of(7) {
        world.hide_last(2_500_000);
    }
    let long = 3_000_000 + world.below(9_000_000);
    world.run_for(long);
    world.rest(60_000_000);
    world.check_end();
    world.check_checkpoints();
    world.check_end();
    world
}

fn number(name: &str) -> Option<u64> {
    std::env::var_os(name).and_then(|word| word.to_str()?.parse::<u64>().ok())
}

/// This many, or as many as the environment says.
pub(crate) fn many(count: u64) -> u64 {
    number("SEEDS").unwrap_or(count)
}

#[test]
fn whatever_happens_all_is_handled_once_and_in_order() {
    let only = number("SEED");
    let from = number("FROM").unwrap_or(0);
    let seeds = only.map_or(from..from + many(SEEDS), |seed| seed..seed + 1);
    let mut failed = Vec::new();
    let mut handled = 0;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let world = history(seed, only.is_some());
            if seed.is_multiple_of(TWICE) {
                let again = history(seed, false).trace;
                assert_eq!(again, world.trace, "the same seed, another history");
            }
            world.watch.handled
        });
        match outcome {
            Ok(count) => handled += count,
            Err(_) => failed.push(seed),
        }
        if failed.len() >= 30 {
            break;
        }
    }
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
    assert!(only.is_some() || handled > 1_000, "too little happens: {handled} inputs");
}
