//! The table of faults: what strikes, how long, and how it ends.

use std::time::{Duration, Instant};

use random::Random;
use rustix::process::Signal;

use crate::check::check;
use crate::cluster::Cluster;
use crate::load::Load;
use crate::machine::{Machine, Wrong};

/// How many documents are written: most partitions have one.
const DOCUMENTS: usize = 12;

/// Between two strikes, beside the time until all is well.
const PAUSE: Duration = Duration::from_millis(2_500);

/// How long it may take until all is well again.
const HEAL_MAX: Duration = Duration::from_secs(200);

/// How long a node may take to end.
const STOP_MAX: Duration = Duration::from_secs(30);

const DAY_SECONDS: i64 = 86_400;

/// How long a client waits for one node, before it tries the next.
const IMPATIENT: Duration = Duration::from_millis(150);
const PATIENT: Duration = Duration::from_secs(4);

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// How often it strikes when nothing else is said.
    pub(crate) times: usize,
    lasts_ms: u64,
    patience: Duration,
    strike: fn(&mut Strike<'_>),
}

/// One strike of a fault.
struct Strike<'a> {
    cluster: &'a mut Cluster,
    /// The node that is struck.
    node: usize,
    nodes: usize,
    lasts: Duration,
    random: &'a mut Random,
}

#[derive(Default)]
pub(crate) struct Outcome {
    /// The longest time without service, of each strike.
    pub(crate) gaps: Vec<Duration>,
    /// How long it took after each strike until all was well.
    pub(crate) heals: Vec<Duration>,
    /// How often a document got another owner, during the strikes.
    pub(crate) owner_changes: usize,
    pub(crate) writes: usize,
    pub(crate) wrong: Vec<String>,
}

const fn row(
    name: &'static str,
    what: &'static str,
    (times, lasts_ms): (usize, u64),
    strike: fn(&mut Strike<'_>),
) -> Row {
    Row { name, what, times, lasts_ms, patience: IMPATIENT, strike }
}

const fn slow(row: Row) -> Row {
    Row { patience: PATIENT, ..row }
}

pub(crate) const ROWS: &[Row] = &[
    row("kill", "an owner is killed", (20, 1_000), |strike| strike.kill()),
    row("freeze", "an owner is frozen (SIGSTOP) for 3 s", (20, 3_000), |strike| strike.freeze()),
    row("cut-5", "an owner is cut off for 5 s", (20, 5_000), |strike| strike.cut_off()),
    row("cut-15", "an owner is cut off for 15 s", (5, 15_000), |strike| strike.cut_off()),
    row("cut-60", "an owner is cut off for 60 s", (2, 60_000), |strike| strike.cut_off()),
    row("one-way", "what an owner sends is lost for 5 s", (20, 5_000), |strike| strike.deaf()),
    row("partial", "two nodes do not reach each other for 5 s", (20, 5_000), |strike| {
        strike.partial();
    }),
    row("ring", "a ring of one-way cuts for 5 s", (20, 5_000), |strike| strike.ring()),
    row("flapping", "an owner is cut off and back each 0.3 s, for 5 s", (20, 5_000), |strike| {
        strike.flap();
    }),
    slow(row("delay", "200 ms of delay and as much jitter, for 15 s", (3, 15_000), |strike| {
        strike.delay();
    })),
    row("busy", "all cores are busy twice over for 60 s", (2, 60_000), |strike| strike.busy()),
    row("stop", "an owner is stopped (SIGTERM) and started again", (20, 500), |strike| {
        strike.stop();
    }),
    row("forgotten", "an owner is killed and its log deleted", (20, 500), |strike| {
        strike.restart(|machine, _| machine.forget());
    }),
    row("rotten", "an owner is killed and 50 bits of its state flip", (20, 500), |strike| {
        strike.restart(|machine, random| machine.rot(50, random));
    }),
    row("slow-disk", "each sync of an owner takes 1 s longer, for 10 s", (10, 10_000), |strike| {
        strike.suffer(Wrong { sync: Duration::from_secs(1), ..Wrong::default() });
    }),
    row("full-disk", "an owner's disk takes no writes for 10 s", (10, 10_000), |strike| {
        strike.suffer(Wrong { is_full: true, ..Wrong::default() });
    }),
    row("clock", "an owner's clock is a day ahead or back for 10 s", (10, 10_000), |strike| {
        let ahead_seconds = if strike.random.below(2) == 0 { DAY_SECONDS } else { -DAY_SECONDS };
        strike.suffer(Wrong { ahead_seconds, ..Wrong::default() });
    }),
    row("loss", "a fifth of all packets is lost for 10 s", (5, 10_000), |strike| strike.loss()),
];

impl Row {
    pub(crate) fn run(&self, nodes: usize, times: usize) -> Result<Outcome, String> {
        let mut cluster = Cluster::start(nodes)?;
        let load = Load::begin(nodes, DOCUMENTS)?;
        let mut random = Random::new(1, self.name);
        let mut outcome = Outcome::default();
        for _ in 0..times {
            load.set_patience(IMPATIENT);
            load.wait_for_service(HEAL_MAX)?;
            std::thread::sleep(PAUSE + Duration::from_millis(random.below(100)));
            load.set_patience(self.patience);
            let node = cluster.busiest();
            let since = Instant::now();
            let lasts = Duration::from_millis(self.lasts_ms);
            let (cluster_now, random) = (&mut cluster, &mut random);
            (self.strike)(&mut Strike { cluster: cluster_now, node, nodes, lasts, random });
            let until = Instant::now();
            outcome.owner_changes += load.owner_changes(since);
            cluster.switch.heal();
            let healed = cluster.wait(HEAL_MAX)?;
            load.set_patience(IMPATIENT);
            let served = load.wait_for_service(HEAL_MAX)?;
            outcome.heals.push(healed.max(served));
            outcome.gaps.push(load.without_service(since, until));
        }
        let history = load.end();
        outcome.writes = history.values().map(Vec::len).sum();
        outcome.wrong = check(&history, nodes);
        Ok(outcome)
    }
}

impl Strike<'_> {
    fn others(&self) -> Vec<usize> {
        (1..=self.nodes).filter(|other| *other != self.node).collect()
    }

    fn each_pair(&self) -> Vec<(usize, usize)> {
        let all = 1..=self.nodes;
        let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
        pairs.filter(|(a, b)| a != b).collect()
    }

    fn wait(&self) {
        std::thread::sleep(self.lasts);
    }

    fn kill(&mut self) {
        self.cluster.signal(self.node, Signal::KILL);
        self.wait();
        self.cluster.begin(self.node).expect("it could be started before");
    }

    /// The node goes, something happens to what it left behind, and it comes back.
    fn restart(&mut self, happens: impl FnOnce(&Machine, &mut Random) -> std::io::Result<()>) {
        self.cluster.signal(self.node, Signal::KILL);
        happens(self.cluster.machine(self.node), self.random).expect("its files are there");
        self.wait();
        self.cluster.begin(self.node).expect("it could be started before");
    }

    fn stop(&mut self) {
        self.cluster.signal(self.node, Signal::TERM);
        self.cluster.has_ended(self.node, STOP_MAX).expect("a node ends when it is told");
        self.wait();
        self.cluster.begin(self.node).expect("it could be started before");
    }

    /// For a while something is wrong with the node's machine.
    fn suffer(&mut self, wrong: Wrong) {
        let set = |wrong| self.cluster.machine(self.node).set(wrong).expect("the file is there");
        set(wrong);
        self.wait();
        set(Wrong::default());
    }

    fn freeze(&mut self) {
        self.cluster.signal(self.node, Signal::STOP);
        self.wait();
        self.cluster.signal(self.node, Signal::CONT);
    }

    fn cut_off(&mut self) {
        for other in self.others() {
            self.cluster.switch.cut(self.node, other);
            self.cluster.switch.cut(other, self.node);
        }
        self.wait();
    }

    fn deaf(&mut self) {
        for other in self.others() {
            self.cluster.switch.cut(self.node, other);
        }
        self.wait();
    }

    fn partial(&mut self) {
        let other = self.others()[0];
        self.cluster.switch.cut(self.node, other);
        self.cluster.switch.cut(other, self.node);
        self.wait();
    }

    fn ring(&mut self) {
        for node in 1..=self.nodes {
            self.cluster.switch.cut(node, node % self.nodes + 1);
        }
        self.wait();
    }

    fn flap(&mut self) {
        let end = Instant::now() + self.lasts;
        while Instant::now() < end {
            for other in self.others() {
                self.cluster.switch.cut(self.node, other);
                self.cluster.switch.cut(other, self.node);
            }
            std::thread::sleep(Duration::from_millis(300));
            self.cluster.switch.heal();
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn delay(&mut self) {
        let delay = Duration::from_millis(200);
        for (from, to) in self.each_pair() {
            self.cluster.switch.delay(from, to, delay, delay);
        }
        self.wait();
    }

    fn busy(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let end = Instant::now() + self.lasts;
        std::thread::scope(|scope| {
            for _ in 0..2 * cores {
                scope.spawn(move || {
                    while Instant::now() < end {
                        std::hint::spin_loop();
                    }
                });
            }
        });
    }

    fn loss(&mut self) {
        for (from, to) in self.each_pair() {
            self.cluster.switch.lose(from, to, 200);
        }
        self.wait();
    }
}
