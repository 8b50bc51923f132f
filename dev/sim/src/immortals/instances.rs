//! Which instances there are in a run: drawn by its seed.

use crate::agenda::MILLISECOND;
use crate::immortals::script::{Part, Role};
use crate::orders::{ARCHIVE, LEDGER};
use random::Random;

/// The instance that comes and goes: it is deregistered with its programs attached, and registered
/// again under the same name, with new programs.
pub(crate) const SHORT_LIVED: &str = "brief";

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
pub struct Setup {
    pub seed: u64,
    pub nodes: usize,
    /// Disks are lost: each instance must be on all nodes.
    pub everywhere: bool,
    /// Inputs are acknowledged when a majority has them in memory.
    pub memory: bool,
    /// Documents send to immortals, and nobody else does.
    pub sends: bool,
}

impl Setup {
    pub(crate) fn instances(self) -> Vec<Instance> {
        // The name of a stream decides what a seed draws from it, so it stays what it was.
        let mut rng = Random::new(self.seed, "cast");
        if self.sends {
            return vec![
                self.instance(&mut rng, LEDGER, Part::Server, &[], true),
                self.instance(&mut rng, ARCHIVE, Part::Server, &[], false),
            ];
        }
        let rounds = rng.between(10, 60);
        let pace = rng.between(5, 400) * MILLISECOND;
        let client = Part::Client { rounds, pace };
        let mut instances = vec![
            self.instance(&mut rng, "server", Part::Server, &[], true),
            self.instance(&mut rng, "alice", client, &["server", "relay"], false),
            self.instance(&mut rng, "bob", client, &["server", "alice", "relay"], false),
            self.instance(&mut rng, "relay", Part::Relay, &["server"], false),
        ];
        if rng.chance(300) {
            instances.push(self.instance(&mut rng, "clock", Part::Clock, &["server"], true));
        }
        if rng.chance(300) {
            instances.push(self.instance(&mut rng, "delicate", Part::Delicate, &[], false));
        }
        // In most runs: the others stay as they are without it.
        let mut rng = Random::new(self.seed, SHORT_LIVED);
        if rng.chance(700) {
            self.add_the_short_lived_one(&mut rng, &mut instances);
        }
        instances
    }

    /// Others say messages to it (and no calls, which nobody would answer when it is gone); it
    /// calls them.
    fn add_the_short_lived_one(self, rng: &mut Random, instances: &mut Vec<Instance>) {
        let rounds = rng.between(5, 30);
        let client = Part::Client { rounds, pace: rng.between(5, 400) * MILLISECOND };
        let short_lived = self.instance(rng, SHORT_LIVED, client, &["server", "alice"], true);
        for one in &mut *instances {
            if matches!(one.role.part, Part::Client { .. } | Part::Relay) && rng.chance(700) {
                one.role.targets.push(SHORT_LIVED.to_owned());
            }
        }
        instances.push(short_lived);
    }

    fn instance(
        self,
        rng: &mut Random,
        name: &str,
        part: Part,
        targets: &[&str],
        many: bool,
    ) -> Instance {
        let mut machines: Vec<usize> = (0..self.nodes).collect();
        if !self.everywhere {
            let wanted = if many || self.memory || rng.chance(500) { 3 } else { 1 };
            while machines.len() > wanted {
                machines.remove(rng.index(machines.len()));
            }
        }
        let fat = if rng.chance(250) { rng.between(1_000, 600_000) } else { 10 };
        Instance {
            role: Role {
                name: name.to_owned(),
                part,
                targets: targets.iter().map(|&target| target.to_owned()).collect(),
                fat: usize::try_from(fat).expect("it is small"),
            },
            machines,
            checkpoint_bytes: *rng.pick(&[0, 300, 1_000, 3_000, 20_000]),
            timeout_millis: rng.between(200, 2_000),
            recovery_millis: *rng.pick(&[0, 5, 100, 10_000]),
            memory: self.memory,
        }
    }
}
