//! Connections between the simulated machines: they keep order, take their time, break, and
//! sometimes swallow everything without a word.
//!
//! A connection is two lanes, one each way. What is put on a lane arrives in order. A lane whose
//! path is cut holds what it gets; when the path heals, either all of it arrives late, as TCP sends
//! it again, or the connection breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::agenda::{MILLISECOND, SECOND, Time};
use random::Random;

/// How long a dial waits for its answer.
pub const DIAL_PATIENCE: Time = SECOND;

/// A connection waits for so long before it sends again what was lost; then twice as long.
const FALTER: Time = 200 * MILLISECOND;

/// One process of a machine: a machine that is started again is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub machine: usize,
    pub life: u64,
}

/// Something on its way along a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub connection: u64,
    /// Which end it goes to: 0 dialed, 1 was dialed.
    pub to: usize,
    pub what: Freight,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freight {
    /// The dialing side asks for a connection.
    Knock,
    /// The dialed side took it.
    Accept,
    Frame(Bytes),
    /// A packet of the mesh, beside the frames.
    Aside(Bytes),
    /// The other side is gone.
    End,
}

/// What an arrived packet means for the machine it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    Opened {
        dialed: bool,
    },
    Frame(Bytes),
    Aside(Bytes),
    Closed,
    /// The dial came to nothing.
    Refused,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not opened yet.
    Waiting,
    Open,
    /// Closed here, or its process ended and the other side was told.
    Shut,
    /// Its machine lost power: nobody told the other side.
    Silent,
}

#[derive(Debug, Default)]
struct Lane {
    last_arrival: Time,
    held: VecDeque<Freight>,
}

#[derive(Debug)]
struct Connection {
    processes: [Process; 2],
    ends: [End; 2],
    /// By the end they lead to.
    lanes: [Lane; 2],
    /// Broken by the network: what is on its way is lost.
    reset: bool,
}

/// What the network needs to have done at a time.
pub type Plan = Vec<(Time, Packet)>;

/// How the network behaves; all in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSettings {
    pub usual_delay: Time,
    pub worst_delay: Time,
}

#[derive(Debug)]
pub struct Network {
    settings: NetworkSettings,
    random: Random,
    connections: BTreeMap<u64, Connection>,
    made: u64,
    /// Paths that swallow everything: from, to.
    cuts: BTreeSet<(usize, usize)>,
    /// Paths that take that much longer.
    slow: BTreeMap<(usize, usize), Time>,
    /// How many of a thousand packets are lost everywhere.
    loss: u64,
}

impl Network {
    pub fn new(settings: NetworkSettings, random: Random) -> Self {
        Self {
            settings,
            random,
            connections: BTreeMap::new(),
            made: 0,
            cuts: BTreeSet::new(),
            slow: BTreeMap::new(),
            loss: 0,
        }
    }

    /// Begins a connection; its number is valid at once, its ends open when the packets arrive.
    pub fn dial(&mut self, now: Time, from: Process, to: usize, plan: &mut Plan) -> u64 {
        self.made += 1;
        let target = Process { machine: to, life: 0 };
        let connection = Connection {
            processes: [from, target],
            ends: [End::Waiting; 2],
            lanes: [Lane::default(), Lane::default()],
            reset: false,
        };
        self.connections.insert(self.made, connection);
        self.put(now, self.made, 1, Freight::Knock, plan);
        self.made
    }

    /// The dialing side lost patience. True if the connection had not come about.
    pub fn give_up(&mut self, now: Time, connection: u64, plan: &mut Plan) -> bool {
        let waiting =
            self.connections.get(&connection).is_some_and(|known| known.ends[0] == End::Waiting);
        if waiting {
            self.close(now, connection, 0, plan);
        }
        waiting
    }

    /// A machine puts a frame on its side of a connection.
    pub fn send(&mut self, now: Time, connection: u64, from: usize, frame: Bytes, plan: &mut Plan) {
        let open = |known: &Connection| known.ends[from] == End::Open;
        if self.connections.get(&connection).is_some_and(open) {
            self.put(now, connection, 1 - from, Freight::Frame(frame), plan);
        }
    }

    /// A machine puts a packet of the mesh beside the frames.
    pub fn aside(
        &mut self,
        now: Time,
        connection: u64,
        from: usize,
        packet: Bytes,
        plan: &mut Plan,
    ) {
        let open = |known: &Connection| known.ends[from] == End::Open;
        if self.connections.get(&connection).is_some_and(open) {
            self.put(now, connection, 1 - from, Freight::Aside(packet), plan);
        }
    }

    /// A machine sends a datagram: when it arrives, perhaps never, perhaps twice.
    pub fn datagram(&mut self, now: Time, from: usize, to: usize) -> Vec<Time> {
        if self.cuts.contains(&(from, to)) || self.random.chance(self.loss) {
            return Vec::new();
        }
        let more = self.slow.get(&(from, to)).copied().unwrap_or(0);
        let settings = self.settings;
        let copies = 1 + usize::from(self.loss > 0 && self.random.chance(20));
        let mut arrive =
            || now + more + self.random.delay(settings.usual_delay, settings.worst_delay);
        (0..copies).map(|_| arrive()).collect()
    }

    /// Of a thousand datagrams, this number is lost from now on; connections falter as often.
    pub fn lose(&mut self, of_thousand: u64) {
        self.loss = of_thousand;
    }

    /// A machine closes its side; the other learns of it after all that was sent before.
    pub fn close(&mut self, now: Time, connection: u64, from: usize, plan: &mut Plan) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if matches!(known.ends[from], End::Open | End::Waiting) {
            known.ends[from] = End::Shut;
            self.put(now, connection, 1 - from, Freight::End, plan);
        }
    }

    /// Which process an end belongs to.
    pub fn process(&self, connection: u64, end: usize) -> Option<Process> {
        self.connections.get(&connection).map(|known| known.processes[end])
    }

    /// Takes a packet at its destination, whose process is `alive` (or none is).
    pub fn arrive(
        &mut self,
        now: Time,
        packet: Packet,
        alive: Option<Process>,
        plan: &mut Plan,
    ) -> Arrival {
        let Packet { connection, to, what } = packet;
        let Some(known) = self.connections.get_mut(&connection) else { return Arrival::Nothing };
        if known.reset && what != Freight::End {
            return Arrival::Nothing;
        }
        if what == Freight::Knock {
            return self.knock(now, connection, alive, plan);
        }
        if alive != Some(known.processes[to]) {
            return Arrival::Nothing;
        }
        match (what, known.ends[to]) {
            (Freight::Accept, End::Waiting) => {
                known.ends[to] = End::Open;
                Arrival::Opened { dialed: true }
            }
            (Freight::Frame(frame), End::Open) => Arrival::Frame(frame),
            (Freight::Aside(packet), End::Open) => Arrival::Aside(packet),
            (Freight::End, End::Open) => {
                self.close(now, connection, to, plan);
                Arrival::Closed
            }
            (Freight::End, End::Waiting) => {
                self.close(now, connection, to, plan);
                Arrival::Refused
            }
            _ => Arrival::Nothing,
        }
    }

    fn knock(
        &mut self,
        now: Time,
        connection: u64,
        alive: Option<Process>,
        plan: &mut Plan,
    ) -> Arrival {
        let known = self.connections.get_mut(&connection).expect("the caller looked it up");
        if known.ends[0] != End::Waiting {
            return Arrival::Nothing;
        }
        let Some(process) = alive else {
            known.ends[1] = End::Shut;
            self.put(now, connection, 0, Freight::End, plan);
            return Arrival::Nothing;
        };
        known.processes[1] = process;
        known.ends[1] = End::Open;
        self.put(now, connection, 0, Freight::Accept, plan);
        Arrival::Opened { dialed: false }
    }

    /// The process ended. What it sent arrives; then the others are told, unless the machine lost
    /// power: then they hear nothing until [`Self::back`].
    pub fn process_ended(
        &mut self,
        now: Time,
        process: Process,
        power_lost: bool,
        plan: &mut Plan,
    ) {
        for (number, end) in self.ends_of(process) {
            if power_lost {
                let known = self.connections.get_mut(&number).expect("it was just listed");
                known.ends[end] = End::Silent;
            } else {
                self.close(now, number, end, plan);
            }
        }
    }

    /// The machine has power again: it answers to old connections that it does not know them.
    pub fn back(&mut self, now: Time, machine: usize, plan: &mut Plan) {
        let silent: Vec<(u64, usize)> = self
            .connections
            .iter()
            .flat_map(|(number, known)| [(*number, 0, known), (*number, 1, known)])
            .filter(|(_, end, known)| {
                known.processes[*end].machine == machine && known.ends[*end] == End::Silent
            })
            .map(|(number, end, _)| (number, end))
            .collect();
        for (number, end) in silent {
            let known = self.connections.get_mut(&number).expect("it was just listed");
            known.ends[end] = End::Shut;
            self.put(now, number, 1 - end, Freight::End, plan);
        }
    }

    /// Breaks every connection between two machines: what is on its way is lost, both are told.
    pub fn reset(&mut self, now: Time, a: usize, b: usize, plan: &mut Plan) {
        let between: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, known)| {
                let machines = known.processes.map(|process| process.machine);
                machines == [a, b] || machines == [b, a]
            })
            .map(|(number, _)| *number)
            .collect();
        for number in between {
            self.break_connection(now, number, plan);
        }
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    pub fn slow_down(&mut self, from: usize, to: usize, more: Time) {
        self.slow.insert((from, to), more);
    }

    /// Every path works again. What was held arrives late, or the connection breaks.
    pub fn heal(&mut self, now: Time, plan: &mut Plan) {
        self.cuts.clear();
        self.slow.clear();
        self.loss = 0;
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            for to in 0..2 {
                let known = self.connections.get_mut(&number).expect("it was just listed");
                let held = std::mem::take(&mut known.lanes[to].held);
                if held.is_empty() {
                    continue;
                }
                if self.random.chance(300) {
                    self.break_connection(now, number, plan);
                    continue;
                }
                let again = now + self.random.below(200 * MILLISECOND);
                for what in held {
                    self.put(again, number, to, what, plan);
                }
            }
        }
        self.forget_dead();
    }

    fn break_connection(&mut self, now: Time, number: u64, plan: &mut Plan) {
        let known = self.connections.get_mut(&number).expect("the caller listed it");
        known.reset = true;
        for to in 0..2 {
            let told = now + self.random.below(50 * MILLISECOND);
            plan.push((told, Packet { connection: number, to, what: Freight::End }));
        }
    }

    /// Puts something on the lane that leads to that end.
    fn put(&mut self, now: Time, connection: u64, to: usize, what: Freight, plan: &mut Plan) {
        let known = self.connections.get_mut(&connection).expect("the caller looked it up");
        if known.reset {
            return;
        }
        let path = (known.processes[1 - to].machine, known.processes[to].machine);
        let lane = &mut known.lanes[to];
        if self.cuts.contains(&path) {
            lane.held.push_back(what);
            return;
        }
        let mut more = self.slow.get(&path).copied().unwrap_or(0);
        // What is lost of a connection is sent again after a while, and later and later.
        let mut pause = FALTER;
        while self.loss > 0 && self.random.chance(self.loss) {
            (more, pause) = (more + pause, 2 * pause);
        }
        let delay = self.random.delay(self.settings.usual_delay, self.settings.worst_delay) + more;
        lane.last_arrival = (lane.last_arrival + 1).max(now + delay);
        plan.push((lane.last_arrival, Packet { connection, to, what }));
    }

    fn ends_of(&self, process: Process) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        for (number, known) in &self.connections {
            for end in 0..2 {
                let live = matches!(known.ends[end], End::Open | End::Waiting);
                if live && known.processes[end] == process {
                    found.push((*number, end));
                }
            }
        }
        found
    }

    /// Connections with both ends shut are of no more use.
    fn forget_dead(&mut self) {
        self.connections.retain(|_, known| known.ends != [End::Shut; 2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Process = Process { machine: 0, life: 1 };
    const B: Process = Process { machine: 1, life: 1 };

    struct Bench {
        network: Network,
        plan: Plan,
        now: Time,
        alive: [Option<Process>; 2],
    }

    impl Bench {
        fn new() -> Self {
            let settings = NetworkSettings { usual_delay: 100, worst_delay: 5_000 };
            let network = Network::new(settings, Random::new(3, "network"));
            Self { network, plan: Vec::new(), now: 0, alive: [Some(A), Some(B)] }
        }

        /// Lets everything arrive; what it meant, by the machine it came to.
        fn settle(&mut self) -> Vec<(usize, Arrival)> {
            let mut seen = Vec::new();
            while !self.plan.is_empty() {
                self.plan.sort_by_key(|(time, _)| *time);
                let (time, packet) = self.plan.remove(0);
                self.now = time;
                let process = self.network.process(packet.connection, packet.to);
                let machine = process.expect("the connection is there").machine;
                let alive = self.alive[machine];
                seen.push((machine, self.network.arrive(time, packet, alive, &mut self.plan)));
            }
            seen
        }

        fn open(&mut self) -> u64 {
            let connection = self.network.dial(self.now, A, 1, &mut self.plan);
            let opened = self.settle();
            let both =
                [(1, Arrival::Opened { dialed: false }), (0, Arrival::Opened { dialed: true })];
            assert_eq!(opened, both);
            connection
        }

        fn send(&mut self, connection: u64, text: &'static str) {
            let frame = Bytes::from_static(text.as_bytes());
            self.network.send(self.now, connection, 0, frame, &mut self.plan);
        }
    }

    fn frame(text: &'static str) -> (usize, Arrival) {
        (1, Arrival::Frame(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn frames_keep_their_order_and_the_end_comes_last() {
        let mut bench = Bench::new();
        let connection = bench.open();
        for text in ["1", "2", "3", "4"] {
            bench.send(connection, text);
        }
        bench.alive[0] = None;
        bench.network.process_ended(bench.now, A, false, &mut bench.plan);
        let expected = vec![frame("1"), frame("2"), frame("3"), frame("4"), (1, Arrival::Closed)];
        assert_eq!(bench.settle()[..5], expected);
    }

    #[test]
    fn a_dial_to_a_machine_without_a_process_is_refused() {
        let mut bench = Bench::new();
        bench.alive[1] = None;
        bench.network.dial(0, A, 1, &mut bench.plan);
        assert!(bench.settle().contains(&(0, Arrival::Refused)));
    }

    #[test]
    fn a_cut_path_is_silent_and_healing_brings_all_or_an_end() {
        let mut late = 0;
        let mut broken = 0;
        for seed in 0..40 {
            let mut bench = Bench::new();
            bench.network.random = Random::new(seed, "network");
            let connection = bench.open();
            bench.network.cut(0, 1);
            bench.send(connection, "1");
            bench.send(connection, "2");
            assert_eq!(bench.settle(), vec![]);
            bench.network.heal(bench.now, &mut bench.plan);
            let seen = bench.settle();
            if seen == vec![frame("1"), frame("2")] {
                late += 1;
            } else {
                assert!(
                    seen.contains(&(0, Arrival::Closed)) && seen.contains(&(1, Arrival::Closed))
                );
                broken += 1;
            }
        }
        assert!(late > 0 && broken > 0, "{late} {broken}");
    }

    #[test]
    fn lost_power_is_not_told_until_the_machine_is_back() {
        let mut bench = Bench::new();
        bench.open();
        bench.alive[0] = None;
        bench.network.process_ended(bench.now, A, true, &mut bench.plan);
        assert_eq!(bench.settle(), vec![]);
        bench.network.back(bench.now, 0, &mut bench.plan);
        assert_eq!(bench.settle()[0], (1, Arrival::Closed));
    }
}
