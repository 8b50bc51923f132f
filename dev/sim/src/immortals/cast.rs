//! Which instances there are in a run: drawn by its seed.

use crate::agenda::MILLISECOND;
use crate::immortals::script::{Part, Role};
use random::Random;

/// The instance that comes and goes: it is deregistered with its programs attached, and registered
/// again under the same name, with new programs.
pub(crate) const BRIEF: &str = "brief";

/// An instance as it is to be registered.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) role: Role,
    /// The machines with a replica, from 0.
    pub(crate) machines: Vec<usize>,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) timeout_millis: u64,
    pub(crate) recovery_millis: u64,
    pub(crate) memory: bool,
}

/// What a run with immortals is made of.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub seed: u64,
    pub nodes: usize,
    /// Disks are lost: each instance must be on all nodes.
    pub everywhere: bool,
    /// Inputs are acknowledged when a majority has them in memory.
    pub memory: bool,
}

impl Stage {
    pub(crate) fn cast(self) -> Vec<Instance> {
        let mut dice = Random::new(self.seed, "cast");
        let rounds = dice.between(10, 60);
        let pace = dice.between(5, 400) * MILLISECOND;
        let client = Part::Client { rounds, pace };
        let mut cast = vec![
            self.instance(&mut dice, "server", Part::Server, &[], true),
            self.instance(&mut dice, "alice", client, &["server", "relay"], false),
            self.instance(&mut dice, "bob", client, &["server", "alice", "relay"], false),
            self.instance(&mut dice, "relay", Part::Relay, &["server"], false),
        ];
        if dice.chance(300) {
            cast.push(self.instance(&mut dice, "clock", Part::Clock, &["server"], true));
        }
        if dice.chance(300) {
            cast.push(self.instance(&mut dice, "delicate", Part::Delicate, &[], false));
        }
        // In most runs: the others stay as they are without it.
        let mut dice = Random::new(self.seed, BRIEF);
        if dice.chance(700) {
            self.add_the_brief_one(&mut dice, &mut cast);
        }
        cast
    }

    /// Others say messages to it (and no calls, which nobody would answer when it is gone); it
    /// calls them.
    fn add_the_brief_one(self, dice: &mut Random, cast: &mut Vec<Instance>) {
        let rounds = dice.between(5, 30);
        let client = Part::Client { rounds, pace: dice.between(5, 400) * MILLISECOND };
        let brief = self.instance(dice, BRIEF, client, &["server", "alice"], true);
        for one in &mut *cast {
            if matches!(one.role.part, Part::Client { .. } | Part::Relay) && dice.chance(700) {
                one.role.targets.push(BRIEF.to_owned());
            }
        }
        cast.push(brief);
    }

    fn instance(
        self,
        dice: &mut Random,
        name: &str,
        part: Part,
        targets: &[&str],
        many: bool,
    ) -> Instance {
        let mut machines: Vec<usize> = (0..self.nodes).collect();
        if !self.everywhere {
            let wanted = if many || self.memory || dice.chance(500) { 3 } else { 1 };
            while machines.len() > wanted {
                machines.remove(dice.index(machines.len()));
            }
        }
        let fat = if dice.chance(250) { dice.between(1_000, 600_000) } else { 10 };
        Instance {
            role: Role {
                name: name.to_owned(),
                part,
                targets: targets.iter().map(|&target| target.to_owned()).collect(),
                fat: usize::try_from(fat).expect("it is small"),
            },
            machines,
            checkpoint_bytes: *dice.pick(&[0, 300, 1_000, 3_000, 20_000]),
            timeout_millis: dice.between(200, 2_000),
            recovery_millis: *dice.pick(&[0, 5, 100, 10_000]),
            memory: self.memory,
        }
    }
}
