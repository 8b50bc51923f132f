//! A switch between the namespaces that treats each direction of each pair as badly as it is told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use random::Random;
use tappers::Tun;

use crate::spaces::{Space, place_of};

/// The longest packet of the devices.
const PACKET_BYTES_MAX: usize = 2_048;

/// How the packets of one direction of one pair fare.
#[derive(Default)]
struct Path {
    /// Lost of a thousand.
    loss: AtomicU64,
    delay_micros: AtomicU64,
    jitter_micros: AtomicU64,
}

struct Waiting {
    at: Instant,
    number: u64,
    to: usize,
    packet: Vec<u8>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Waiting {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// The latest of each direction: packets do not overtake each other.
    last: Vec<Vec<Option<Instant>>>,
    number: u64,
}

struct Shared {
    paths: Vec<Vec<Path>>,
    devices: Vec<Tun>,
    queue: Mutex<Queue>,
    bell: Condvar,
}

pub(crate) struct Switch {
    shared: Arc<Shared>,
}

impl Switch {
    /// The first of the spaces is this program's own.
    pub(crate) fn new(spaces: &[Space]) -> Result<Self, String> {
        let count = spaces.len();
        let made = std::thread::scope(|scope| {
            let made: Vec<_> = spaces
                .iter()
                .enumerate()
                .map(|(place, space)| scope.spawn(move || space.device(place)))
                .collect();
            made.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
        });
        let devices = made.into_iter().collect::<Result<Vec<_>, _>>()?;
        let paths = || (0..count).map(|_| Path::default()).collect();
        let queue = Queue { last: vec![vec![None; count]; count], ..Queue::default() };
        let shared = Arc::new(Shared {
            paths: (0..count).map(|_| paths()).collect(),
            devices,
            queue: Mutex::new(queue),
            bell: Condvar::new(),
        });
        for from in 0..count {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.carry(from));
        }
        let late = Arc::clone(&shared);
        std::thread::spawn(move || late.deliver_late());
        Ok(Self { shared })
    }

    /// How many of a thousand packets are dropped.
    pub(crate) fn lose(&self, from: usize, to: usize, of_thousand: u64) {
        self.shared.paths[from][to].loss.store(of_thousand, Ordering::Relaxed);
    }

    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.lose(from, to, 1_000);
    }

    pub(crate) fn delay(&self, from: usize, to: usize, delay: Duration, jitter: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).expect("it is short");
        let path = &self.shared.paths[from][to];
        path.delay_micros.store(micros(delay), Ordering::Relaxed);
        path.jitter_micros.store(micros(jitter), Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        for path in self.shared.paths.iter().flatten() {
            for value in [&path.loss, &path.delay_micros, &path.jitter_micros] {
                value.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl Shared {
    fn carry(&self, from: usize) {
        let mut random = Random::new(u64::try_from(from).expect("small"), "switch");
        let mut buffer = [0; PACKET_BYTES_MAX];
        loop {
            let Ok(length) = self.devices[from].recv(&mut buffer) else { return };
            let packet = &buffer[..length];
            // Version 4 of the protocol; its destination stands at byte 16.
            let (Some(0x40..=0x4f), Some(to)) = (packet.first(), packet.get(16..20)) else {
                continue;
            };
            let Some(to) = place_of(to.try_into().expect("four bytes")) else { continue };
            if to == from || to >= self.devices.len() {
                continue;
            }
            let path = &self.paths[from][to];
            if random.chance(path.loss.load(Ordering::Relaxed)) {
                continue;
            }
            let jitter = path.jitter_micros.load(Ordering::Relaxed);
            let jitter = if jitter == 0 { 0 } else { random.below(jitter) };
            let delay = Duration::from_micros(path.delay_micros.load(Ordering::Relaxed) + jitter);
            self.send(from, to, packet, delay);
        }
    }

    fn send(&self, from: usize, to: usize, packet: &[u8], delay: Duration) {
        let mut queue = self.queue.lock().expect("no one panics while holding the queue");
        let now = Instant::now();
        let last = queue.last[from][to].filter(|last| *last > now);
        if delay.is_zero() && last.is_none() {
            drop(queue);
            // A device that takes no more loses it, as networks do.
            drop(self.devices[to].send(packet));
            return;
        }
        let at = (now + delay).max(last.unwrap_or(now));
        queue.last[from][to] = Some(at);
        queue.number += 1;
        let waiting = Waiting { at, number: queue.number, to, packet: packet.to_vec() };
        queue.waiting.push(Reverse(waiting));
        self.bell.notify_one();
    }

    fn deliver_late(&self) {
        let mut queue = self.queue.lock().expect("no one panics while holding the queue");
        loop {
            let now = Instant::now();
            let next = queue.waiting.peek().map(|Reverse(first)| first.at);
            queue = match next {
                Some(at) if at <= now => {
                    let Reverse(first) = queue.waiting.pop().expect("it was just seen");
                    drop(self.devices[first.to].send(&first.packet));
                    queue
                }
                Some(at) => {
                    let waited = self.bell.wait_timeout(queue, at - now);
                    waited.expect("no one panics while holding the queue").0
                }
                None => self.bell.wait(queue).expect("no one panics while holding the queue"),
            };
        }
    }
}
