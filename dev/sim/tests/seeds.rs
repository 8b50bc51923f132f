//! The seeds that belong to every test run, in several tests so that they run side by side. These
//! run with the checks of a debug build; `cargo xtask test` plays 200 of the swarm, and more, in a
//! quick one.

use sim::run::{Report, attempt};
use sim::settings::Settings;
use sim::trace::Trace;

fn run(seed: u64, scenario: &str) -> Report {
    let settings = Settings::new(seed, scenario).expect("the scenario is there");
    match attempt(&settings, Trace::default()) {
        Ok(report) => report,
        Err(failure) => {
            panic!("cargo run -p sim -- --seed {seed} --scenario {scenario}: {failure}")
        }
    }
}

fn run_all(seeds: std::ops::Range<u64>, scenario: &str) {
    for seed in seeds {
        run(seed, scenario);
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 1..4 {
        for scenario in ["everything", "immortals"] {
            assert_eq!(run(seed, scenario), run(seed, scenario), "seed {seed}");
        }
    }
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(run(1, "calm").hash, run(2, "calm").hash);
}

/// A request that is refused each time would let every rule hold.
#[test]
fn an_instance_is_registered_anew_with_programs_in_most_runs() {
    let lives: u64 = (2..5).map(|seed| run(seed, "immortals-power").lives).sum();
    assert!(lives >= 5, "{lives} lives in three runs");
}

/// A node said that its clock shows 0 in the step in which it became a member.
const PINGS_AT_ONCE: u64 = 1_795_992_513_000_001;

macro_rules! seeds {
    ($($name:ident: $scenario:literal $seeds:expr;)*) => {
        $(
            #[test]
            fn $name() {
                run_all($seeds, $scenario);
            }
        )*
    };
}

seeds! {
    the_rules_hold_when_nothing_goes_wrong: "calm" 1..4;
    the_rules_hold_with_some_faults: "swarm" 1..11;
    the_rules_hold_with_all_faults: "everything" 1..9;
    the_rules_hold_when_processes_die: "kills" 1..10;
    the_rules_hold_when_power_fails: "power" 1..7;
    the_rules_hold_when_the_network_breaks: "net" 1..7;
    the_rules_hold_when_there_are_only_ways_round: "detours" 1..5;
    the_rules_hold_when_paths_break_and_processes_die: "paths" 1..5;
    the_rules_hold_when_processes_are_paused: "stalls" 1..7;
    the_rules_hold_when_disks_fail: "disks" 1..7;
    the_rules_hold_when_disks_are_lost: "damage" 1..7;
    the_rules_hold_when_the_quorum_changes: "quorum" 1..7;
    // Findings of long runs; each is a script of its own as well.
    the_rules_hold_when_an_owner_has_not_heard_of_a_raise: "swarm" 2462..2463;
    the_rules_hold_when_founders_see_each_other_late_1: "swarm" 2094..2095;
    the_rules_hold_when_founders_see_each_other_late_2: "swarm" 2421..2422;
    the_rules_hold_when_a_new_member_pings_at_once: "joins" PINGS_AT_ONCE..PINGS_AT_ONCE + 1;
    the_rules_hold_when_nodes_are_stopped: "stops" 1..7;
    the_rules_hold_when_a_node_joins: "joins" 1..7;
    the_rules_hold_when_machines_get_other_addresses: "addresses" 1..4;
    the_rules_hold_when_nodes_are_removed: "removals" 1..4;
    the_rules_hold_when_nodes_are_removed_and_the_network_breaks: "removals-net" 4..7;
    what_is_written_at_once_is_done_all_or_none: "batches" 1..9;
    what_documents_send_comes_once_when_owners_die: "orders" 1..4;
    what_documents_send_comes_once_when_the_network_breaks: "orders-net" 1..4;
    subscribers_are_told_of_everything: "subscriptions" 1..7;
    subscribers_are_told_when_the_network_breaks: "subscriptions-net" 1..5;
    immortals_live_in_peace: "immortals-calm" 1..3;
    immortals_live_when_programs_die: "immortals-programs" 1..3;
    immortals_live_when_nodes_die: "immortals-kills" 1..3;
    immortals_live_when_power_fails: "immortals-power" 1..3;
    immortals_live_when_the_network_breaks: "immortals-net" 1..3;
    immortals_live_when_all_is_paused: "immortals-stalls" 1..3;
    immortals_live_when_disks_fail: "immortals-disks" 1..3;
    immortals_live_when_disks_are_lost: "immortals-damage" 1..3;
    immortals_live_when_they_are_moved_and_upgraded: "immortals-moves" 1..3;
    immortals_live_when_upgrades_are_killed: "immortals-upgrades" 1..5;
    immortals_in_memory_lose_nothing_while_a_majority_lives: "immortals-memory" 1..3;
    // Findings of long runs.
    immortals_are_filled_while_their_programs_are_held: "immortals" 190..191;
    immortals_live_with_some_faults: "immortals" 1..3;
}
