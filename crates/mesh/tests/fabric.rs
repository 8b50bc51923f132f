//! Several nodes on a network whose paths can be cut one by one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mesh::{Input, Mesh, NodeKey, Output};
use random::Random;

const TICK: u64 = 10_000;

struct Node {
    mesh: Mesh,
    /// Open streams, and the frames that came on each.
    streams: BTreeMap<u64, Vec<Bytes>>,
    ended: usize,
}

struct Fabric {
    nodes: Vec<Node>,
    cuts: BTreeSet<(usize, usize)>,
    /// Pairs with a link, and whether datagrams pass at all.
    linked: BTreeSet<(usize, usize)>,
    datagrams: bool,
    /// How much longer datagrams take than what goes over links, in microseconds.
    lag: u64,
    /// This node takes nothing for now.
    still: Option<usize>,
    loss: u64,
    random: Random,
    now: u64,
    on_way: Vec<(u64, usize, Option<u64>, Bytes)>,
}

fn address(node: usize) -> String {
    format!("http://10.0.0.{node}:8000")
}

impl Fabric {
    fn new(count: usize) -> Self {
        let nodes = (0..count).map(|node| {
            let mut mesh = Mesh::new(&address(node), 1_000);
            mesh.step(0, Input::Keep { addresses: (0..count).map(address).collect() }, &mut vec![]);
            Node { mesh, streams: BTreeMap::new(), ended: 0 }
        });
        Self {
            nodes: nodes.collect(),
            cuts: BTreeSet::new(),
            linked: BTreeSet::new(),
            datagrams: true,
            lag: 0,
            still: None,
            loss: 0,
            random: Random::of_seed(1),
            now: 0,
            on_way: Vec::new(),
        }
    }

    /// A link between two nodes has the same number at both.
    fn link(&mut self, a: usize, b: usize) {
        self.linked.insert((a, b));
        let link = u64::try_from(a * 100 + b).expect("small");
        for node in [a, b] {
            self.input(node, Input::LinkOpened { link });
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        self.linked.remove(&(a, b));
        let link = u64::try_from(a * 100 + b).expect("small");
        for node in [a, b] {
            self.input(node, Input::LinkClosed { link });
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    fn input(&mut self, node: usize, input: Input) {
        let mut outputs = Vec::new();
        self.nodes[node].mesh.step(self.now, input, &mut outputs);
        for output in outputs {
            let this = &mut self.nodes[node];
            match output {
                Output::Datagram { to, packet } => {
                    let is_it = |other: &usize| NodeKey::of(&address(*other)) == to;
                    let to = (0..self.nodes.len()).find(is_it).expect("it is wanted");
                    if self.datagrams && !self.random.chance(self.loss) {
                        self.put((node, to), None, packet);
                    }
                }
                Output::OnLink { link, packet } => {
                    let number = usize::try_from(link).expect("small");
                    let (a, b) = (number / 100, number % 100);
                    let to = if a == node { b } else { a };
                    if self.linked.contains(&(a, b)) {
                        self.put((node, to), Some(link), packet);
                    }
                }
                Output::Opened { stream } => {
                    assert!(this.streams.insert(stream, Vec::new()).is_none());
                }
                Output::Frame { stream, frame } => {
                    this.streams.get_mut(&stream).expect("it is open").push(frame);
                }
                Output::Closed { stream } => {
                    assert!(this.streams.remove(&stream).is_some());
                    this.ended += 1;
                }
            }
        }
    }

    fn put(&mut self, path: (usize, usize), link: Option<u64>, packet: Bytes) {
        if !self.cuts.contains(&path) {
            let lag = if link.is_none() { self.lag } else { 0 };
            let at = self.now + self.random.between(100, 3_000) + lag;
            self.on_way.push((at, path.1, link, packet));
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + millis * 1_000;
        while self.now < end {
            self.now += 500;
            self.on_way.sort_by_key(|(at, ..)| *at);
            let due = self.on_way.partition_point(|(at, ..)| *at <= self.now);
            for (_, to, link, bytes) in self.on_way.drain(..due).collect::<Vec<_>>() {
                if self.still == Some(to) {
                    // It is there when the node goes on.
                    self.on_way.push((self.now + TICK, to, link, bytes));
                } else {
                    self.input(to, Input::Packet { link, bytes });
                }
            }
            if self.now.is_multiple_of(TICK) {
                for node in (0..self.nodes.len())
                    .filter(|node| self.still != Some(*node))
                    .collect::<Vec<_>>()
                {
                    self.input(node, Input::Tick);
                }
            }
        }
    }

    fn streams(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.streams.len()).collect()
    }

    /// Sends frames over every stream and sees them come.
    fn all_streams_carry(&mut self) {
        for node in 0..self.nodes.len() {
            for stream in self.nodes[node].streams.keys().copied().collect::<Vec<_>>() {
                for size in [0, 10, 5_000, 100] {
                    let frame = Bytes::from(vec![7; size]);
                    self.input(node, Input::Send { stream, frame });
                }
            }
        }
        self.run(2_000);
        for node in &self.nodes {
            for frames in node.streams.values() {
                let sizes: Vec<usize> = frames.iter().map(Bytes::len).collect();
                assert_eq!(sizes, [0, 10, 5_000, 100]);
            }
        }
    }
}

#[test]
fn nodes_that_are_linked_have_no_streams() {
    let mut fabric = Fabric::new(3);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        fabric.link(a, b);
    }
    fabric.run(3_000);
    assert_eq!(fabric.streams(), [0, 0, 0]);
}

#[test]
fn two_that_cannot_reach_each_other_have_a_stream_over_the_third_until_they_can() {
    for datagrams in [true, false] {
        let mut fabric = Fabric::new(3);
        fabric.datagrams = datagrams;
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            fabric.link(a, b);
        }
        fabric.run(1_000);
        fabric.cut(0, 1);
        fabric.cut(1, 0);
        fabric.run(700);
        assert_eq!(fabric.streams(), [1, 1, 0], "datagrams: {datagrams}");
        fabric.all_streams_carry();
        fabric.cuts.clear();
        fabric.run(4_000);
        assert_eq!(fabric.streams(), [0, 0, 0], "the link is well again");
    }
}

#[test]
fn a_ring_of_one_way_cuts_leaves_a_stream_between_each_two() {
    let mut fabric = Fabric::new(3);
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        fabric.cut(a, b);
    }
    fabric.run(1_000);
    assert_eq!(fabric.streams(), [2, 2, 2]);
    fabric.all_streams_carry();
}

#[test]
fn a_larger_ring_where_each_hears_one_only_is_whole_as_well() {
    let mut fabric = Fabric::new(4);
    for a in 0..4 {
        for b in 0..4 {
            if b != (a + 1) % 4 {
                fabric.cut(a, b);
            }
        }
    }
    fabric.run(1_500);
    assert_eq!(fabric.streams(), [3, 3, 3, 3]);
    fabric.all_streams_carry();
}

#[test]
fn streams_live_on_when_a_fifth_of_all_packets_is_lost() {
    let mut fabric = Fabric::new(3);
    fabric.loss = 200;
    fabric.run(30_000);
    assert_eq!(fabric.streams(), [2, 2, 2]);
    assert_eq!(fabric.nodes.iter().map(|node| node.ended).sum::<usize>(), 0);
    fabric.all_streams_carry();
}

#[test]
fn a_node_that_stands_still_for_a_while_gets_no_stream() {
    // Of two nodes one asks for streams: each stands still once.
    for still in 0..3 {
        let mut fabric = Fabric::new(3);
        // The last of its datagrams come when its links have been silent for long.
        fabric.lag = 120_000;
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            fabric.link(a, b);
        }
        fabric.run(1_000);
        fabric.still = Some(still);
        for _ in 0..60 {
            fabric.run(10);
            assert_eq!(fabric.streams(), [0, 0, 0]);
        }
        fabric.still = None;
        fabric.run(1_000);
        assert_eq!(fabric.streams(), [0, 0, 0]);
        assert_eq!(fabric.nodes.iter().map(|node| node.ended).sum::<usize>(), 0);
    }
}

#[test]
fn a_stream_to_a_node_that_is_gone_ends() {
    let mut fabric = Fabric::new(3);
    fabric.run(1_000);
    assert_eq!(fabric.streams(), [2, 2, 2]);
    for other in [0, 1] {
        fabric.cut(2, other);
        fabric.cut(other, 2);
    }
    fabric.run(1_500);
    assert_eq!(fabric.streams(), [1, 1, 0]);
}

#[test]
fn a_node_that_begins_anew_gets_a_new_stream() {
    let mut fabric = Fabric::new(2);
    fabric.run(1_000);
    fabric.all_streams_carry();
    let mut mesh = Mesh::new(&address(0), 2_000);
    mesh.step(0, Input::Keep { addresses: vec![address(1)] }, &mut vec![]);
    fabric.nodes[0] = Node { mesh, streams: BTreeMap::new(), ended: 0 };
    fabric.run(2_500);
    assert_eq!(fabric.streams(), [1, 1]);
    fabric.all_streams_carry();
}

#[test]
fn what_is_closed_here_is_closed_there_and_packets_of_it_open_nothing() {
    let mut fabric = Fabric::new(2);
    fabric.run(1_000);
    fabric.unlink(0, 1);
    let stream = *fabric.nodes[0].streams.keys().next().unwrap();
    fabric.input(0, Input::Close { stream });
    fabric.run(50);
    assert_eq!(fabric.nodes.iter().map(|node| node.ended).collect::<Vec<_>>(), [1, 1]);
}
