//! What a run is made of: how many nodes, how busy, which faults. All of it follows from the seed
//! and the name of a scenario.

use std::collections::BTreeSet;

use node::{KeptLimits, TailLimits, Timing, Upkeep};

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::immortals::instances::Setup;
use crate::network::NetworkSettings;
use random::Random;

/// What can go wrong. Each kind can be turned off to shrink a failing run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies at any point; its machine and what it had written live on.
    Kill,
    /// A process dies when it has carried out only a part of what its node said.
    KillHalfway,
    /// A process dies after a write to the log and before its sync.
    KillBeforeSync,
    /// Two machines' processes die at once.
    KillTwo,
    /// A machine loses power: what was not synced is lost, kept or torn.
    Power,
    /// All machines lose power at once.
    PowerAll,
    /// A process gets nothing for a while (SIGSTOP), then all of it.
    Stall,
    /// A wall clock jumps.
    Clock,
    /// Machines cannot reach each other, in one direction or both.
    Cut,
    /// Connections break, and what was on its way is lost.
    Reset,
    /// A path takes much longer.
    Slow,
    /// A disk is slow to sync.
    SlowDisk,
    /// A disk is full for a while.
    Full,
    /// A disk refuses everything; the node has to stop.
    DiskFails,
    /// A bit in the log decays, and the process dies.
    Decay,
    /// The sandbox, its log or its state is set back to an older copy while the node is down.
    SetBack,
    /// The log is removed while the node is down.
    LoseLog,
    /// The state store is removed while the node is down.
    LoseState,
    /// The state store of a running node cannot be read any more.
    Rot,
    /// The sandbox is removed while the node is down.
    Wipe,
    /// A node is told to stop, and is started again.
    Stop,
    /// An operator changes the membership quorum.
    Quorum,
    /// One more node joins.
    Join,
    /// A machine gets another address while its process is down.
    Readdress,
    /// A person removes a node for good; later it comes back as another one.
    Remove,
    /// The net drops a client's answer.
    LostAnswer,
    /// Two machines do not reach each other for some seconds, and all others do.
    Partial,
    /// Each machine does not reach the next one in a ring, for some seconds.
    Ring,
    /// A part of all packets is lost, for some seconds.
    Loss,
    /// A machine and all others do not reach each other, and its clients do reach it.
    Isolate,
    /// A process ends and does not come back before all faults are over.
    StayDown,
    /// The state of a group changes on one machine, and nothing says so.
    Alter,
    /// All machines are switched off, and on again some hours later.
    Hours,
    /// An immortal's program dies.
    KillProgram,
    /// An immortal's program gets nothing for a while.
    StallProgram,
    /// An instance is moved to another node.
    Move,
    /// An instance gets or loses a replica.
    Replicas,
    /// A program is upgraded.
    Upgrade,
}

impl Fault {
    /// Those of immortals.
    pub const OF_PROGRAMS: [Self; 5] =
        [Self::KillProgram, Self::StallProgram, Self::Move, Self::Replicas, Self::Upgrade];

    /// Those of paths through the network, beside the shorter ones among those of nodes.
    pub const OF_PATHS: [Self; 3] = [Self::Partial, Self::Ring, Self::Loss];

    /// Those that one scenario each is about.
    pub const OF_ONE: [Self; 6] =
        [Self::Isolate, Self::StayDown, Self::Alter, Self::Hours, Self::Remove, Self::Readdress];

    /// Those of nodes.
    pub const ALL: [Self; 24] = [
        Self::Kill,
        Self::KillHalfway,
        Self::KillBeforeSync,
        Self::KillTwo,
        Self::Power,
        Self::PowerAll,
        Self::Stall,
        Self::Clock,
        Self::Cut,
        Self::Reset,
        Self::Slow,
        Self::SlowDisk,
        Self::Full,
        Self::DiskFails,
        Self::Decay,
        Self::SetBack,
        Self::LoseLog,
        Self::LoseState,
        Self::Rot,
        Self::Wipe,
        Self::Stop,
        Self::Quorum,
        Self::Join,
        Self::LostAnswer,
    ];

    /// Those that take from a node what it promised.
    pub const OF_DISKS_LOST: [Self; 6] =
        [Self::Decay, Self::SetBack, Self::LoseLog, Self::LoseState, Self::Rot, Self::Wipe];

    pub fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::OF_PROGRAMS).chain(Self::OF_PATHS).chain(Self::OF_ONE)
    }

    /// As it is written on the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for (index, letter) in format!("{self:?}").char_indices() {
            if letter.is_uppercase() && index > 0 {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::every().find(|fault| fault.name() == name)
    }
}

/// The scenarios and the faults they are about. `swarm` draws a handful of faults by its seed.
pub const SCENARIOS: [(&str, &[Fault]); 50] = [
    ("swarm", &[]),
    ("calm", &[]),
    ("everything", &Fault::ALL),
    ("kills", &[Fault::Kill, Fault::KillHalfway, Fault::KillBeforeSync, Fault::KillTwo]),
    ("power", &[Fault::Power, Fault::PowerAll, Fault::KillBeforeSync]),
    ("net", &[Fault::Cut, Fault::Reset, Fault::Slow, Fault::LostAnswer]),
    // There is always a way round, so there is always service.
    ("detours", &[Fault::Partial, Fault::Ring]),
    ("paths", &[Fault::Partial, Fault::Ring, Fault::Loss, Fault::Cut, Fault::Kill, Fault::Stall]),
    ("stalls", &[Fault::Stall, Fault::Clock, Fault::Slow]),
    ("disks", &[Fault::SlowDisk, Fault::Full, Fault::DiskFails, Fault::Power]),
    ("damage", &[Fault::Decay, Fault::Wipe, Fault::Kill]),
    (
        "forgotten",
        &[
            Fault::SetBack,
            Fault::LoseLog,
            Fault::LoseState,
            Fault::Rot,
            Fault::KillTwo,
            Fault::Power,
        ],
    ),
    ("quorum", &[Fault::Quorum, Fault::Kill, Fault::Cut]),
    ("stops", &[Fault::Stop, Fault::Reset]),
    ("joins", &[Fault::Join, Fault::Kill, Fault::Stop]),
    ("addresses", &[Fault::Readdress, Fault::Kill, Fault::Reset]),
    ("removals", &[Fault::Remove, Fault::Join, Fault::Kill, Fault::Reset]),
    (
        "removals-net",
        &[Fault::Remove, Fault::Join, Fault::Cut, Fault::Slow, Fault::Stall, Fault::Stop],
    ),
    // Owners that were replaced and do not know it are asked, a lot.
    ("stale", &[Fault::Isolate, Fault::Stall]),
    ("minority", &[Fault::StayDown, Fault::Reset]),
    // Documents that are about to expire are read.
    ("mortals", &[Fault::Kill, Fault::Stall, Fault::Cut]),
    // The same while the clock of one node lies. All are heard: with two of three clocks, one of
    // them behind, nobody knows what time it is.
    ("mortals-clock", &[Fault::Clock, Fault::Slow]),
    // Requests are repeated under their keys hours later.
    ("hours", &[Fault::Hours, Fault::Kill, Fault::Reset]),
    // Backups are made, and restored into a store of their own.
    ("backups", &[Fault::Kill, Fault::Isolate, Fault::Stall, Fault::Cut, Fault::Stop]),
    // A minority runs an older program now and then, which lacks services.
    ("mixed", &[Fault::Kill, Fault::Stop, Fault::Reset, Fault::Cut]),
    ("altered", &[Fault::Alter, Fault::Reset, Fault::Slow, Fault::Stall]),
    // Tasks wait for long before their steps, and are told meanwhile to take other ones.
    ("fences", &[Fault::Stall, Fault::Isolate, Fault::Kill, Fault::Reset]),
    // Entries are added to several tallies at once.
    (
        "batches",
        &[Fault::Kill, Fault::KillTwo, Fault::KillBeforeSync, Fault::Isolate, Fault::LostAnswer],
    ),
    // People hold tasks, release them and skip what they wait for, while their owners change.
    ("holds", &[Fault::Stall, Fault::Isolate, Fault::Kill, Fault::KillTwo, Fault::Reset]),
    // Everybody must log in, and who may do what changes all the time.
    (
        "rights",
        &[Fault::Kill, Fault::KillTwo, Fault::Stall, Fault::Cut, Fault::Isolate, Fault::Reset],
    ),
    // Programs outside have the handlers of what is added to.
    ("services", &[Fault::Kill, Fault::KillTwo, Fault::Stall, Fault::Isolate, Fault::Reset]),
    ("services-net", &[Fault::Cut, Fault::Slow, Fault::Loss, Fault::Stop, Fault::LostAnswer]),
    // What is added to documents is sent to immortals.
    (
        "orders",
        &[
            Fault::Kill,
            Fault::KillTwo,
            Fault::KillBeforeSync,
            Fault::KillProgram,
            Fault::Isolate,
            Fault::Reset,
            Fault::Move,
            Fault::PowerAll,
        ],
    ),
    (
        "orders-net",
        &[
            Fault::Cut,
            Fault::Slow,
            Fault::Loss,
            Fault::Stop,
            Fault::Stall,
            Fault::LostAnswer,
            Fault::StallProgram,
            Fault::Move,
        ],
    ),
    // Somebody outside is told of all changes.
    (
        "subscriptions",
        &[Fault::Kill, Fault::KillTwo, Fault::KillHalfway, Fault::PowerAll, Fault::Isolate],
    ),
    ("subscriptions-net", &[Fault::Cut, Fault::Stall, Fault::Stop, Fault::Wipe, Fault::Kill]),
    // With immortals; the first one draws its faults, as `swarm` does.
    ("immortals", &[]),
    ("immortals-calm", &[]),
    ("immortals-programs", &[Fault::KillProgram, Fault::StallProgram]),
    ("immortals-kills", &[Fault::KillProgram, Fault::Kill, Fault::KillHalfway, Fault::KillTwo]),
    ("immortals-power", &[Fault::Power, Fault::PowerAll, Fault::KillBeforeSync]),
    ("immortals-net", &[Fault::Cut, Fault::Reset, Fault::Slow, Fault::LostAnswer]),
    ("immortals-stalls", &[Fault::Stall, Fault::Clock, Fault::StallProgram]),
    ("immortals-disks", &[Fault::SlowDisk, Fault::Full, Fault::DiskFails, Fault::KillProgram]),
    ("immortals-damage", &[Fault::Decay, Fault::Wipe, Fault::KillProgram]),
    (
        "immortals-forgotten",
        &[Fault::SetBack, Fault::LoseLog, Fault::LoseState, Fault::Rot, Fault::KillProgram],
    ),
    (
        "immortals-upgrades",
        &[
            Fault::Upgrade,
            Fault::KillProgram,
            Fault::StallProgram,
            Fault::Kill,
            Fault::KillHalfway,
            Fault::KillTwo,
            Fault::Power,
            Fault::Move,
        ],
    ),
    // Never more nodes at a time than a minority: so much is promised where durability is in
    // memory.
    ("immortals-memory", &[Fault::Kill, Fault::Power, Fault::KillProgram, Fault::Move]),
    ("immortals-backups", &[Fault::Kill, Fault::Isolate, Fault::KillProgram, Fault::Move]),
    ("immortals-moves", &[Fault::Move, Fault::Replicas, Fault::Upgrade, Fault::Stop, Fault::Kill]),
];

/// Of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub scenario: String,
    pub nodes: usize,
    pub partitions: u32,
    pub membership_quorum: Option<usize>,
    /// How long there is load, and there are faults.
    pub busy: Time,
    pub clients: usize,
    /// How many example documents the clients fight over.
    pub documents: usize,
    /// The longest pause of a client between two requests.
    pub pause: Time,
    /// How many bootstrap tasks are started.
    pub tasks: usize,
    pub faults: BTreeSet<Fault>,
    /// The longest pause between two faults.
    pub fault_pause: Time,
    pub network: NetworkSettings,
    /// Of a sync of the log: usual and worst.
    pub sync: (Time, Time),
    /// Of making the state store durable.
    pub persist: (Time, Time),
    /// Of a handler.
    pub handler: (Time, Time),
    /// When logs are cut; mostly often, so that snapshots travel.
    pub upkeep: Upkeep,
    /// How much instances keep for destinations; mostly little, so that the shelf is used.
    pub kept: KeptLimits,
    /// Bytes that make documents fat.
    pub padding: usize,
    /// Small, so that segments come and go.
    pub segment_bytes: u64,
    /// How long a group must be quiet before its replicas' states are compared, in ticks.
    pub audit_ticks: u64,
    /// There are immortals.
    pub setup: Option<Setup>,
}

impl Settings {
    /// What that seed means in that scenario; none if there is no such scenario.
    pub fn new(seed: u64, scenario: &str) -> Option<Self> {
        let (_, faults) = SCENARIOS.iter().find(|(name, _)| *name == scenario)?;
        let mut rng = Random::new(seed, "settings");
        let nodes = match rng.below(20) {
            0 => 1,
            1 | 2 => 5,
            _ => 3,
        };
        let faults: BTreeSet<Fault> = match scenario {
            "swarm" => Fault::ALL.into_iter().filter(|_| rng.chance(300)).collect(),
            "immortals" => {
                // What takes a part of a sandbox away has a scenario of its own.
                let apart = [Fault::SetBack, Fault::LoseLog, Fault::LoseState, Fault::Rot];
                let all = Fault::ALL.into_iter().chain(Fault::OF_PROGRAMS);
                all.filter(|fault| rng.chance(300) && !apart.contains(fault)).collect()
            }
            _ => faults.iter().copied().collect(),
        };
        let everyone = (nodes > 1 && rng.chance(150)).then_some(nodes);
        let settings = Self {
            seed,
            scenario: scenario.to_owned(),
            nodes,
            partitions: *rng
                .pick(&[1, 2, 4, 4, 4, 16])
                .min(&(64 / u32::try_from(nodes).unwrap_or(64))),
            membership_quorum: everyone,
            busy: rng.between(4, 20) * SECOND,
            clients: usize::try_from(rng.between(3, 8)).expect("a few"),
            documents: usize::try_from(rng.between(2, 5)).expect("a few"),
            pause: rng.between(2, 100) * MILLISECOND,
            tasks: usize::try_from(rng.below(3)).expect("a few"),
            faults,
            fault_pause: rng.between(300, 2_500) * MILLISECOND,
            network: NetworkSettings {
                usual_delay: rng.between(100, 2_000),
                worst_delay: rng.between(2, 60) * MILLISECOND,
            },
            sync: (rng.between(100, 4_000), rng.between(4, 80) * MILLISECOND),
            persist: (rng.between(1, 20) * MILLISECOND, rng.between(20, 500) * MILLISECOND),
            handler: (rng.between(5, 500), rng.between(1, 50) * MILLISECOND),
            upkeep: upkeep(&mut rng),
            kept: KeptLimits::default(),
            padding: match rng.below(4) {
                0 => usize::try_from(rng.between(100, 20_000)).expect("small"),
                _ => 0,
            },
            segment_bytes: rng.between(8, 128) * 1024,
            audit_ticks: match scenario {
                "altered" | "everything" | "forgotten" | "kills" | "net" | "power" => 30,
                _ => Timing::default().audit_ticks,
            },
            setup: None,
        };
        Some(if scenario.starts_with("immortals") {
            settings.with_immortals()
        } else {
            settings.with_habits()
        })
    }

    /// Whether somebody makes backups.
    pub(crate) fn makes_backups(&self) -> bool {
        matches!(self.scenario.as_str(), "backups" | "immortals-backups")
    }

    /// Whether that machine may run an older program: at most a minority does.
    pub fn may_be_older(&self, machine: usize) -> bool {
        self.scenario == "mixed" && machine > self.nodes / 2
    }

    /// What the load of a scenario is about.
    fn with_habits(self) -> Self {
        match self.scenario.as_str() {
            "stale" => Self {
                clients: 8,
                documents: 1,
                tasks: 0,
                pause: 10 * MILLISECOND,
                membership_quorum: None,
                padding: 0,
                ..self
            },
            "minority" => Self { membership_quorum: None, ..self },
            // There is time between the faults for all to hear where a machine is.
            "addresses" => Self {
                busy: self.busy.max(15 * SECOND),
                fault_pause: self.fault_pause.max(2 * SECOND),
                ..self
            },
            "removals" | "removals-net" => Self {
                membership_quorum: None,
                busy: self.busy.max(12 * SECOND),
                fault_pause: self.fault_pause.min(SECOND),
                ..self
            },
            // With a minority of altered states, and enough documents to be quiet now and then.
            "altered" => Self { pause: 400 * MILLISECOND, clients: 3, ..self },
            "mortals" | "mortals-clock" | "hours" => Self { tasks: 0, ..self },
            "rights" => Self { tasks: 0, partitions: 4, clients: 8, busy: 30 * SECOND, ..self },
            "batches" => Self { tasks: 0, partitions: 4, clients: 6, busy: 20 * SECOND, ..self },
            "services" | "services-net" => {
                Self { tasks: 0, partitions: 4, busy: 30 * SECOND, clients: 8, ..self }
            }
            "orders" | "orders-net" => Self {
                setup: Some(Setup {
                    seed: self.seed,
                    nodes: self.nodes,
                    everywhere: false,
                    memory: false,
                    sends: true,
                }),
                partitions: self.partitions.min(4),
                // With fewer of them the search for an order of one document's calls has no end.
                documents: 4,
                clients: 6,
                pause: self.pause.min(20 * MILLISECOND),
                ..self
            },
            "fences" | "holds" => Self { tasks: 5, partitions: 4, busy: 20 * SECOND, ..self },
            _ => self,
        }
    }

    /// The documents are not what it is about then.
    fn with_immortals(self) -> Self {
        let (nodes, faults) = (self.nodes, self.faults.clone());
        let everywhere = Fault::OF_DISKS_LOST.iter().any(|fault| faults.contains(fault));
        let memory = self.scenario == "immortals-memory";
        let sends = false;
        let setup = Some(Setup { seed: self.seed, nodes, everywhere, memory, sends });
        let partitions = self.partitions.min(2);
        let kept = kept(&mut Random::new(self.seed, "kept"));
        Self { setup, partitions, clients: 1, documents: 1, tasks: 0, kept, ..self }
    }

    /// Clients must log in. Those that the scenario is not about act for the cluster itself.
    pub fn demands_login(&self) -> bool {
        self.scenario == "rights"
    }

    /// Another number of nodes than the seed says.
    pub fn set_nodes(&mut self, nodes: usize) {
        self.nodes = nodes.max(1);
        self.setup = self.setup.map(|setup| Setup { nodes: self.nodes, ..setup });
        self.membership_quorum = self.membership_quorum.map(|_| self.nodes);
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

fn upkeep(rng: &mut Random) -> Upkeep {
    if rng.chance(150) {
        return Upkeep::default();
    }
    let small = |number: u64| usize::try_from(number).expect("it is small");
    Upkeep {
        persist_log_bytes: small(rng.between(2, 200)) << 10,
        persist_micros: rng.between(50, 5_000) * MILLISECOND,
        tail: TailLimits {
            bytes_max: rng.between(100, 50_000),
            micros_min: rng.between(1, 5_000) * MILLISECOND,
        },
        log_memory_bytes: small(rng.below(20_000)),
        log_waiting_bytes: small(rng.between(1_000, 100_000)),
        chunk_bytes: small(rng.between(100, 20_000)),
        changes_bytes: small(rng.between(1, 200)) << 10,
    }
}

fn kept(rng: &mut Random) -> KeptLimits {
    if rng.chance(200) {
        return KeptLimits::default();
    }
    let some = |number: u64| usize::try_from(number).expect("it is small");
    let memory = some(rng.between(100, 5_000));
    // Now and then so little that there is no room.
    let all_max = if rng.chance(200) { 4 * memory } else { 1 << 20 };
    KeptLimits { block: some(rng.between(50, 1_000)), memory, memory_max: 2 * memory, all_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_by_its_name() {
        assert_eq!(Fault::KillBeforeSync.name(), "kill-before-sync");
        for fault in Fault::every() {
            assert_eq!(Fault::named(&fault.name()), Some(fault));
        }
    }

    #[test]
    fn every_scenario_has_settings_and_others_have_none() {
        for (name, _) in SCENARIOS {
            assert!(Settings::new(1, name).is_some());
        }
        assert!(Settings::new(1, "no-such").is_none());
    }
}
