//! One node's part in the mesh, as a value: packets, frames and ticks go in, packets and frames
//! come out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::hearing::{Hearing, Over};
use crate::packet::{Body, NodeKey, Packet, Piece};
use crate::stream::{Receiving, Sending};

/// How often a node says whom it hears, in ticks.
const REPORT_TICKS: u64 = 10;

/// A stream begins when a link was not well for this many ticks: a new link is mostly made in
/// less.
const UNLINKED_TICKS: u32 = 20;

/// A stream ends when a link was well for this many ticks.
const LINKED_TICKS: u32 = 300;

/// A stream on which nothing came for this many ticks is closed. Ticks that were missed are not
/// made up, so a pause of this process is never taken for silence of the other.
const SILENT_TICKS_MAX: u32 = 100;

/// How often a stream is asked for, in ticks.
const OPEN_TICKS: u32 = 10;

/// How often both ends of a stream say what has come, though nothing does, in ticks.
const ANSWER_TICKS: u64 = 10;

/// The most streams: more than one for each node there may be.
const STREAMS_MAX: usize = 128;

/// How many streams that are gone are remembered, so that a late packet does not open one again.
const GONE_MAX: usize = 64;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// About 10 ms went by.
    Tick,
    /// Links to these addresses are wanted, and streams while there are none.
    Keep {
        addresses: Vec<String>,
    },
    LinkOpened {
        link: u64,
    },
    LinkClosed {
        link: u64,
    },
    /// A packet came as a datagram, or beside the frames of a link.
    Packet {
        link: Option<u64>,
        bytes: Bytes,
    },
    /// A frame is to go over a stream.
    Send {
        stream: u64,
        frame: Bytes,
    },
    Close {
        stream: u64,
    },
}

/// What must be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A datagram to one of the wanted addresses.
    Datagram {
        to: NodeKey,
        packet: Bytes,
    },
    /// A packet beside the frames of a link.
    OnLink {
        link: u64,
        packet: Bytes,
    },
    /// There is a stream to another node from now on.
    Opened {
        stream: u64,
    },
    Frame {
        stream: u64,
        frame: Bytes,
    },
    /// The stream has ended; also after [`Input::Close`].
    Closed {
        stream: u64,
    },
}

/// A stream's name: the node that asked for it, and its number there.
type Name = (NodeKey, u64);

#[derive(Debug)]
struct Stream {
    peer: NodeKey,
    name: Name,
    is_open: bool,
    silent_ticks: u32,
    sending: Sending,
    receiving: Receiving,
}

/// A node that a link is wanted to.
#[derive(Debug, Default)]
struct Wanted {
    linked_ticks: u32,
    unlinked_ticks: u32,
}

#[derive(Debug)]
pub struct Mesh {
    me: NodeKey,
    hearing: Hearing,
    wanted: BTreeMap<NodeKey, Wanted>,
    links: Vec<u64>,
    streams: BTreeMap<u64, Stream>,
    gone: VecDeque<Name>,
    /// The name of the last stream that was asked for here.
    last: u64,
    /// The last number by which a stream is called here.
    given: u64,
    ticks: u64,
    now: u64,
}

impl Mesh {
    /// `seed` is another number in each life of the node, and higher than in earlier ones, if that
    /// is possible.
    pub fn new(address: &str, seed: u64) -> Self {
        let me = NodeKey::of(address);
        Self {
            me,
            hearing: Hearing::new(me, seed),
            wanted: BTreeMap::new(),
            links: Vec::new(),
            streams: BTreeMap::new(),
            gone: VecDeque::new(),
            last: seed,
            given: 0,
            ticks: 0,
            now: 0,
        }
    }

    /// Takes one thing that happened. `now` is in steady microseconds.
    pub fn step(&mut self, now: u64, input: Input, outputs: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Tick => self.tick(outputs),
            Input::Keep { addresses } => self.keep(&addresses),
            Input::LinkOpened { link } => {
                self.links.push(link);
                self.report_on(link, outputs);
            }
            Input::LinkClosed { link } => {
                self.links.retain(|known| *known != link);
                self.hearing.link_closed(link);
            }
            Input::Packet { link, bytes } => {
                if let Some(packet) = Packet::decode(&bytes) {
                    self.packet(packet, link, outputs);
                }
            }
            Input::Send { stream, frame } => self.send(stream, frame, outputs),
            Input::Close { stream } => self.end(stream, outputs),
        }
    }

    fn keep(&mut self, addresses: &[String]) {
        let keys: Vec<NodeKey> = addresses.iter().map(|address| NodeKey::of(address)).collect();
        self.wanted.retain(|key, _| keys.contains(key));
        for key in keys.into_iter().filter(|key| *key != self.me) {
            self.wanted.entry(key).or_default();
        }
    }

    // Time.

    fn tick(&mut self, outputs: &mut Vec<Output>) {
        self.ticks += 1;
        if self.ticks % REPORT_TICKS == 1 {
            self.report_to_all(outputs);
        }
        self.watch_links(outputs);
        for number in self.streams.keys().copied().collect::<Vec<_>>() {
            self.tick_stream(number, outputs);
        }
    }

    fn report_to_all(&mut self, outputs: &mut Vec<Output>) {
        let reports = self.hearing.report(self.now);
        for to in self.wanted.keys() {
            let packet = self.packet_for(*to, Body::Hearing(reports.clone()));
            outputs.push(Output::Datagram { to: *to, packet });
        }
        // Over a link it is for whoever is at the other end.
        for link in &self.links {
            let packet = self.packet_for(self.me, Body::Hearing(reports.clone()));
            outputs.push(Output::OnLink { link: *link, packet });
        }
    }

    fn report_on(&mut self, link: u64, outputs: &mut Vec<Output>) {
        let reports = self.hearing.report(self.now);
        let packet = self.packet_for(self.me, Body::Hearing(reports));
        outputs.push(Output::OnLink { link, packet });
    }

    fn packet_for(&self, to: NodeKey, body: Body) -> Bytes {
        Packet { from: self.me, way: vec![to], body }.encode()
    }

    /// Asks for streams where links are missing, and ends those that are of no more use.
    fn watch_links(&mut self, outputs: &mut Vec<Output>) {
        let (mut missing, mut well) = (Vec::new(), Vec::new());
        for (peer, wanted) in &mut self.wanted {
            if self.hearing.is_linked(*peer, self.now) {
                wanted.unlinked_ticks = 0;
                wanted.linked_ticks = wanted.linked_ticks.saturating_add(1);
                if wanted.linked_ticks > LINKED_TICKS {
                    well.push(*peer);
                }
            } else {
                wanted.linked_ticks = 0;
                wanted.unlinked_ticks = wanted.unlinked_ticks.saturating_add(1);
                // One of the two asks, the other takes what it is offered.
                if wanted.unlinked_ticks > UNLINKED_TICKS && self.me < *peer {
                    missing.push(*peer);
                }
            }
        }
        let is_ours = |stream: &Stream| stream.name.0 == self.me && well.contains(&stream.peer);
        let streams = self.streams.iter().filter(|(_, stream)| is_ours(stream));
        for number in streams.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end(number, outputs);
        }
        for peer in missing {
            let has_one = self.streams.values().any(|stream| stream.peer == peer);
            let is_reached = self.hearing.lives_without_link(peer, self.now)
                && self.hearing.way_to(peer, self.now).is_some()
                && self.hearing.has_way_from(peer, self.now);
            if !has_one && is_reached {
                self.last += 1;
                self.add(peer, (self.me, self.last));
            }
        }
    }

    fn add(&mut self, peer: NodeKey, name: Name) -> u64 {
        self.given += 1;
        let number = self.given;
        let stream = Stream {
            peer,
            name,
            is_open: false,
            silent_ticks: 0,
            sending: Sending::default(),
            receiving: Receiving::default(),
        };
        self.streams.insert(number, stream);
        number
    }

    fn tick_stream(&mut self, number: u64, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.silent_ticks += 1;
        if stream.silent_ticks > SILENT_TICKS_MAX {
            return self.end(number, outputs);
        }
        if !stream.is_open {
            if stream.silent_ticks % OPEN_TICKS == 1 {
                let (peer, body) = (stream.peer, Body::Open { stream: stream.name.1 });
                self.dispatch(peer, body, outputs);
            }
            return;
        }
        self.flush(number, outputs);
        // A sign of life, and the answer once more if it was lost.
        if self.ticks.is_multiple_of(ANSWER_TICKS) {
            self.answer(number, outputs);
        }
    }

    // Streams.

    fn send(&mut self, number: u64, frame: Bytes, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.sending.put(frame) {
            self.flush(number, outputs);
        } else {
            self.end(number, outputs);
        }
    }

    /// Sends what a stream has to send now.
    fn flush(&mut self, number: u64, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let due = stream.sending.due(self.now);
        if due.is_empty() {
            return;
        }
        let (peer, name) = (stream.peer, stream.name.1);
        let Some(way) = self.hearing.way_to(peer, self.now) else { return };
        for piece in due {
            self.dispatch_along(&way, Body::Piece { stream: name, piece }, outputs);
        }
    }

    fn end(&mut self, number: u64, outputs: &mut Vec<Output>) {
        let Some(stream) = self.streams.remove(&number) else { return };
        self.remember_gone(stream.name);
        self.dispatch(stream.peer, Body::Gone { stream: stream.name.1 }, outputs);
        if stream.is_open {
            outputs.push(Output::Closed { stream: number });
        }
    }

    fn remember_gone(&mut self, name: Name) {
        if self.gone.len() >= GONE_MAX {
            self.gone.pop_front();
        }
        self.gone.push_back(name);
    }

    /// The stream of that name with that node: the number of one is given by either of the two.
    fn find(&self, peer: NodeKey, stream: u64) -> Option<u64> {
        let is_it = |known: &Stream| known.peer == peer && known.name.1 == stream;
        self.streams.iter().find(|(_, known)| is_it(known)).map(|(number, _)| *number)
    }

    // Packets.

    fn packet(&mut self, packet: Packet, link: Option<u64>, outputs: &mut Vec<Output>) {
        let Packet { from, mut way, body } = packet;
        if let Body::Hearing(reports) = body {
            // It comes from the next node, so it says how that one is heard.
            self.hearing.heard(from, link.map_or(Over::Datagram, Over::Link), self.now);
            return self.hearing.learn(reports, self.now);
        }
        if way.first() != Some(&self.me) {
            return;
        }
        way.remove(0);
        if let Some(next) = way.first() {
            let (next, packet) = (*next, Packet { from, way, body });
            return self.hand_on(next, packet.encode(), outputs);
        }
        match body {
            Body::Hearing(_) => {}
            Body::Open { stream } => self.asked_for(from, stream, outputs),
            Body::Piece { stream, piece } => self.piece(from, stream, piece, outputs),
            Body::Taken { stream, taken } => {
                let Some(number) = self.find(from, stream) else { return };
                let stream = self.streams.get_mut(&number).expect("it was just found");
                stream.silent_ticks = 0;
                stream.sending.taken(taken, self.now);
                if !std::mem::replace(&mut stream.is_open, true) {
                    outputs.push(Output::Opened { stream: number });
                }
                self.flush(number, outputs);
            }
            Body::Gone { stream } => {
                if let Some(number) = self.find(from, stream) {
                    self.end(number, outputs);
                }
            }
        }
    }

    /// Another node wants a stream.
    fn asked_for(&mut self, from: NodeKey, stream: u64, outputs: &mut Vec<Output>) {
        let number = match self.find(from, stream) {
            Some(number) => number,
            None if self.gone.contains(&(from, stream)) || self.streams.len() >= STREAMS_MAX => {
                return self.dispatch(from, Body::Gone { stream }, outputs);
            }
            None => {
                // It has begun anew, or has given up the one before.
                let before = self.streams.iter().filter(|(_, known)| known.peer == from);
                for number in before.map(|(number, _)| *number).collect::<Vec<_>>() {
                    self.end(number, outputs);
                }
                let number = self.add(from, (from, stream));
                self.streams.get_mut(&number).expect("it was just added").is_open = true;
                outputs.push(Output::Opened { stream: number });
                number
            }
        };
        self.answer(number, outputs);
    }

    fn piece(&mut self, from: NodeKey, stream: u64, piece: Piece, outputs: &mut Vec<Output>) {
        let Some(number) = self.find(from, stream) else {
            return self.dispatch(from, Body::Gone { stream }, outputs);
        };
        let known = self.streams.get_mut(&number).expect("it was just found");
        known.silent_ticks = 0;
        let Some(frames) = known.receiving.piece(piece) else {
            return self.end(number, outputs);
        };
        if !std::mem::replace(&mut known.is_open, true) {
            outputs.push(Output::Opened { stream: number });
        }
        outputs.extend(frames.into_iter().map(|frame| Output::Frame { stream: number, frame }));
        self.answer(number, outputs);
    }

    fn answer(&mut self, number: u64, outputs: &mut Vec<Output>) {
        let stream = self.streams.get(&number).expect("the caller has it");
        let (peer, name, taken) = (stream.peer, stream.name.1, stream.receiving.taken());
        self.dispatch(peer, Body::Taken { stream: name, taken }, outputs);
    }

    /// Sends along the shortest way, if there is one; all that is sent so is repeated.
    fn dispatch(&self, to: NodeKey, body: Body, outputs: &mut Vec<Output>) {
        if let Some(way) = self.hearing.way_to(to, self.now) {
            self.dispatch_along(&way, body, outputs);
        }
    }

    fn dispatch_along(&self, way: &[NodeKey], body: Body, outputs: &mut Vec<Output>) {
        let packet = Packet { from: self.me, way: way.to_vec(), body }.encode();
        self.hand_on(way[0], packet, outputs);
    }

    fn hand_on(&self, next: NodeKey, packet: Bytes, outputs: &mut Vec<Output>) {
        match self.hearing.step_to(next, self.now) {
            Some(Over::Datagram) => outputs.push(Output::Datagram { to: next, packet }),
            Some(Over::Link(link)) => outputs.push(Output::OnLink { link, packet }),
            None => {}
        }
    }
}
