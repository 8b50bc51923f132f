//! The connections of clients: how many there may be, and how long each may do nothing.
//!
//! Whoever connects holds one of the node's file descriptors. So each connection has a deadline for
//! whatever is awaited of it, and when all places are taken, those that have waited longest for
//! nothing make room. A few places more are only for what must always get through: links of peers,
//! and the question whether the node lives.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::budget::{Budget, Held, Purpose};
use crate::caller::network_of;
use crate::metrics::Metrics;

/// The most open connections of clients; fewer where the system gives fewer descriptors. One more
/// takes the place of one that is idle, or is answered with 503 and closed.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;

/// This many connections more are taken for links of peers and for `/livez`.
const VITAL_CONNECTIONS_MAX: usize = 64;

/// How long a connection may be idle after a request.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// The most bytes of a request's head.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long the head of a request may take; of the first one, from the connection on.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// A client must take [`TAKEN_BYTES_MIN`] of what it is sent in this time.
const TAKING_MAX: Duration = Duration::from_secs(30);

pub(crate) const TAKEN_BYTES_MIN: usize = 64 << 10;

/// A connection that has waited for less is not closed to make room for another.
const SPARED: Duration = Duration::from_millis(500);

/// How many idle connections are closed at a time to make room.
const MADE_ROOM_FOR: usize = 32;

pub(crate) struct Connections {
    open: Mutex<Open>,
    places: usize,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct Open {
    meters: BTreeMap<u64, Arc<Meter>>,
    next: u64,
    /// How many there are from one address; this machine's own are not counted.
    of_address: BTreeMap<IpAddr, usize>,
}

/// What a place is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Any,
    /// All other places are taken.
    Vital,
    /// Its address has as many connections as one address may have.
    OneOfMany,
}

/// The place of one connection; free again with the drop.
pub(crate) struct Place {
    id: u64,
    pub(crate) good_for: Use,
    /// Where it comes from.
    pub(crate) address: Option<IpAddr>,
    /// It has shown a certificate of a node of this cluster.
    pub(crate) is_node: bool,
    pub(crate) meter: Arc<Meter>,
    connections: Arc<Connections>,
}

/// What one connection is at, and since when.
pub(crate) struct Meter {
    state: Mutex<State>,
    evicted: Notify,
}

struct State {
    phase: Phase,
    since: Instant,
    /// Bytes that come are not always a head: it speaks HTTP/2.
    in_frames: bool,
    /// Requests that are not answered. More than one at a time has HTTP/2 only.
    under_way: usize,
    /// What was read of a head.
    head: Held,
    /// Since when the client takes nothing, or little.
    blocked: Option<Instant>,
    taken: usize,
    /// Since when no more was taken of answers that are there. In HTTP/2 the client says of each
    /// how much it takes, and a socket that takes everything tells nothing.
    untaken: BTreeMap<u64, Instant>,
    next_answer: u64,
    /// It is to make room, or to go with the answer that is there.
    must_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing came so far.
    New,
    /// A part of a head is there.
    Head,
    /// It is the node's turn, or the body is on its way, which has a deadline of its own.
    Serving,
    /// All that was asked is answered.
    Idle,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing is under way: it can be told.
    Idle,
    /// An answer is not taken. Others on the same connection may still be.
    Untaken,
    /// In the middle of something.
    Stuck,
}

impl Connections {
    pub(crate) fn new(places: usize, metrics: Arc<Metrics>, budget: Arc<Budget>) -> Self {
        Self { open: Mutex::default(), places, metrics, budget }
    }

    /// A place for one more, if there is any.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let mut open = self.lock();
        let programs = self.metrics.programs.open.load(Ordering::Relaxed);
        let taken = open.meters.len() + usize::try_from(programs).unwrap_or(0);
        let is_full = taken >= self.places;
        if is_full {
            open.make_room(Instant::now());
        }
        let of_address = open.of_address(address);
        let most = self.most_of_an_address();
        if taken >= self.places + VITAL_CONNECTIONS_MAX
            || of_address >= most + VITAL_CONNECTIONS_MAX
        {
            return None;
        }
        let good_for = match is_full {
            true => Use::Vital,
            false if of_address >= most => Use::OneOfMany,
            false => Use::Any,
        };
        if let Some(address) = counted(address) {
            *open.of_address.entry(address).or_default() += 1;
        }
        let meter = Arc::new(Meter::new(self.budget.open(Purpose::Head)));
        let id = open.next;
        open.next += 1;
        open.meters.insert(id, Arc::clone(&meter));
        self.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { id, good_for, address, is_node: false, meter, connections: Arc::clone(self) })
    }

    /// One address may have half of all places, so that others get through.
    fn most_of_an_address(&self) -> usize {
        self.places.div_ceil(2)
    }

    /// Closes some that do nothing, as the system has no descriptors left.
    pub(crate) fn make_room(&self) {
        self.lock().make_room(Instant::now());
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().meters.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no one panics while counting connections")
    }
}

/// What the connections of an address are counted by, if they are.
fn counted(address: Option<IpAddr>) -> Option<IpAddr> {
    address.map(network_of).filter(|address| !address.is_loopback())
}

impl Open {
    fn of_address(&self, address: Option<IpAddr>) -> usize {
        counted(address).and_then(|it| self.of_address.get(&it)).copied().unwrap_or(0)
    }

    /// Closes those that have waited longest.
    fn make_room(&self, now: Instant) {
        let waiting = self.meters.values().filter_map(|meter| Some((meter.waits_since()?, meter)));
        let mut waiting: Vec<(Instant, &Arc<Meter>)> =
            waiting.filter(|(since, _)| now.duration_since(*since) >= SPARED).collect();
        waiting.sort_unstable_by_key(|(since, _)| *since);
        waiting.iter().take(MADE_ROOM_FOR).for_each(|(_, meter)| meter.evict());
    }
}

impl Place {
    /// Whether there is a place for any use by now.
    pub(crate) fn serves_all(&self) -> bool {
        let all = &self.connections;
        match self.good_for {
            Use::Any => true,
            Use::Vital => all.count() <= all.places,
            Use::OneOfMany => all.lock().of_address(self.address) <= all.most_of_an_address(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.meters.remove(&self.id);
        if let Some(address) = counted(self.address)
            && let Some(count) = open.of_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.of_address.remove(&address);
            }
        }
        drop(open);
        self.connections.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    fn new(head: Held) -> Self {
        let state = State {
            phase: Phase::New,
            since: Instant::now(),
            in_frames: false,
            under_way: 0,
            head,
            blocked: None,
            taken: 0,
            untaken: BTreeMap::new(),
            next_answer: 0,
            must_end: false,
        };
        Self { state: Mutex::new(state), evicted: Notify::new() }
    }

    pub(crate) fn speaks_in_frames(&self) {
        self.lock().in_frames = true;
    }

    /// At most this many bytes came. Says whether there is room for them: a head that is not whole
    /// is held. What comes at once with its beginning is not counted.
    pub(crate) fn heard(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        match state.phase {
            Phase::Head => {
                let more = bytes.min(HEAD_BYTES_MAX - state.head.bytes());
                return state.head.grow(more);
            }
            Phase::New | Phase::Idle if !state.in_frames => {
                state.phase = Phase::Head;
                state.since = Instant::now();
            }
            _ => {}
        }
        true
    }

    /// A whole head is there. The request is under way until the drop.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = self.lock();
        state.under_way += 1;
        state.phase = Phase::Serving;
        state.blocked = None;
        state.head.give_back_all();
        drop(state);
        UnderWay(Arc::clone(self))
    }

    /// The client took so much.
    pub(crate) fn sent(&self, bytes: usize) {
        let mut state = self.lock();
        state.taken += bytes;
        if state.taken >= TAKEN_BYTES_MIN {
            state.blocked = None;
        }
    }

    /// The client takes nothing for now.
    pub(crate) fn blocked(&self) {
        let mut state = self.lock();
        if state.blocked.is_none() {
            state.blocked = Some(Instant::now());
            state.taken = 0;
        }
    }

    /// An answer is there. Its client must go on to take it until the drop.
    pub(crate) fn offers(self: &Arc<Self>) -> Offer {
        let mut state = self.lock();
        let id = state.next_answer;
        state.next_answer += 1;
        state.untaken.insert(id, Instant::now());
        Offer { meter: Arc::clone(self), id }
    }

    /// Returns when a deadline is over.
    pub(crate) async fn overdue(&self) -> Overdue {
        loop {
            let evicted = self.evicted.notified();
            let until = match self.next_deadline(Instant::now()) {
                Ok(until) => until,
                Err(overdue) => return overdue,
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = evicted => {}
            }
        }
    }

    /// When to look again, or what is over.
    fn next_deadline(&self, now: Instant) -> Result<Instant, Overdue> {
        let state = self.lock();
        if state.must_end {
            return Err(Overdue::Idle);
        }
        let (until, overdue) = match state.phase {
            Phase::New => (state.since + HEAD_MAX, Overdue::Idle),
            Phase::Head => (state.since + HEAD_MAX, Overdue::Stuck),
            Phase::Idle => (state.since + IDLE_MAX, Overdue::Idle),
            // Each request has deadlines of its own; this is when to look again.
            Phase::Serving => (now + IDLE_MAX, Overdue::Stuck),
        };
        let blocked = state.blocked.map(|since| (since + TAKING_MAX, Overdue::Stuck));
        // A client that goes on to take one of them is slow and no more: what it holds is its own.
        let untaken = state.untaken.values().max().map(|at| (*at + TAKING_MAX, Overdue::Untaken));
        let deadlines = [blocked, untaken, Some((until, overdue))];
        // A client that begins to take nothing is noticed in time.
        let mut next = now + TAKING_MAX;
        for (by, overdue) in deadlines.into_iter().flatten() {
            if by <= now {
                return Err(overdue);
            }
            next = next.min(by);
        }
        Ok(next)
    }

    /// Since when nothing is under way.
    fn waits_since(&self) -> Option<Instant> {
        let state = self.lock();
        let waits = matches!(state.phase, Phase::New | Phase::Idle | Phase::Head);
        (waits && !state.must_end && state.blocked.is_none()).then_some(state.since)
    }

    /// The connection is to end with the answer that is there. In HTTP/2 no header can say so.
    pub(crate) fn closes(&self) {
        if self.lock().in_frames {
            self.evict();
        }
    }

    /// The connection ends, with what is answered at once.
    pub(crate) fn evict(&self) {
        self.lock().must_end = true;
        self.evicted.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while metering a connection")
    }
}

/// A request that is not answered.
pub(crate) struct UnderWay(Arc<Meter>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way -= 1;
        if state.under_way == 0 {
            state.phase = Phase::Idle;
            state.since = Instant::now();
        }
    }
}

/// An answer that is not taken whole.
pub(crate) struct Offer {
    meter: Arc<Meter>,
    id: u64,
}

impl Offer {
    /// The client took some of it.
    pub(crate) fn moves(&self) {
        if let Some(since) = self.meter.lock().untaken.get_mut(&self.id) {
            *since = Instant::now();
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.meter.lock().untaken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(places: usize) -> Arc<Connections> {
        Arc::new(Connections::new(places, Arc::default(), Arc::default()))
    }

    #[test]
    fn places_over_the_bound_are_for_what_is_vital_and_then_there_are_none() {
        let all = connections(2);
        let mut places: Vec<Place> = (0..2).map(|_| all.enter(None).unwrap()).collect();
        assert!(places.iter().all(|place| place.good_for == Use::Any));
        let more = (0..VITAL_CONNECTIONS_MAX).map(|_| all.enter(None).unwrap()).collect::<Vec<_>>();
        assert!(more.iter().all(|place| place.good_for == Use::Vital && !place.serves_all()));
        assert!(all.enter(None).is_none());
        drop(more);
        places.pop();
        assert_eq!(all.enter(None).unwrap().good_for, Use::Any);
    }

    #[test]
    fn one_address_takes_no_more_than_half_of_all_places() {
        let all = connections(4);
        let (greedy, other) =
            (Some(IpAddr::from([10, 0, 0, 9])), Some(IpAddr::from([10, 0, 0, 8])));
        let mut places: Vec<Place> = (0..2).map(|_| all.enter(greedy).unwrap()).collect();
        assert!(places.iter().all(Place::serves_all));
        let third = all.enter(greedy).unwrap();
        assert!(third.good_for == Use::OneOfMany && !third.serves_all());
        assert!(all.enter(other).unwrap().serves_all());
        places.pop();
        assert!(third.serves_all(), "there is room by now");
        drop((places, third));
        assert!(all.lock().of_address.is_empty());
        let own = Some(IpAddr::from([127, 0, 0, 1]));
        let own: Vec<Place> = (0..4).map(|_| all.enter(own).unwrap()).collect();
        assert!(own.iter().all(|place| place.good_for == Use::Any), "this machine's own");
    }

    #[test]
    fn those_that_wait_longest_make_room_and_those_that_work_do_not() {
        let all = connections(2);
        let (idle, busy) = (all.enter(None).unwrap(), all.enter(None).unwrap());
        let _under_way = busy.meter.begin();
        all.lock().make_room(Instant::now());
        assert!(idle.meter.next_deadline(Instant::now()).is_ok(), "it came only just now");
        all.lock().make_room(Instant::now() + SPARED);
        assert_eq!(idle.meter.next_deadline(Instant::now()), Err(Overdue::Idle));
        assert!(busy.meter.next_deadline(Instant::now()).is_ok());
    }

    #[test]
    fn each_phase_has_its_deadline() {
        let all = connections(1);
        let place = all.enter(None).unwrap();
        let meter = &place.meter;
        let after = |time: Duration| meter.next_deadline(Instant::now() + time);
        assert_eq!(after(HEAD_MAX), Err(Overdue::Idle), "it said nothing");
        assert!(meter.heard(1));
        assert_eq!(after(HEAD_MAX), Err(Overdue::Stuck), "a byte is no head");
        assert!((0..9).all(|_| meter.heard(HEAD_BYTES_MAX / 8)));
        assert_eq!(all.budget.used(), HEAD_BYTES_MAX);
        let under_way = meter.begin();
        assert_eq!(all.budget.used(), 0);
        assert!(after(HEAD_MAX + IDLE_MAX).is_ok());
        drop(under_way);
        assert!(after(HEAD_MAX).is_ok());
        assert_eq!(after(IDLE_MAX), Err(Overdue::Idle));
        meter.blocked();
        meter.sent(TAKEN_BYTES_MIN - 1);
        assert_eq!(after(TAKING_MAX), Err(Overdue::Stuck), "it takes too little");
        meter.sent(1);
        assert!(after(TAKING_MAX).is_ok());
    }

    #[test]
    fn an_answer_has_its_deadline_whatever_else_is_on_the_connection() {
        let all = connections(1);
        let place = all.enter(None).unwrap();
        let meter = &place.meter;
        let after = |time: Duration| meter.next_deadline(Instant::now() + time);
        let _under_way = meter.begin();
        let offer = meter.offers();
        drop(meter.offers());
        assert!(after(TAKING_MAX - Duration::from_secs(1)).is_ok());
        meter.sent(TAKEN_BYTES_MIN);
        drop(meter.begin());
        assert_eq!(after(TAKING_MAX), Err(Overdue::Untaken));
        std::thread::sleep(Duration::from_millis(20));
        let late = Instant::now() + TAKING_MAX - Duration::from_millis(10);
        assert_eq!(meter.next_deadline(late), Err(Overdue::Untaken));
        offer.moves();
        assert!(meter.next_deadline(late).is_ok(), "it takes some of it");
        drop(offer);
        assert!(after(TAKING_MAX).is_ok());
    }

    /// Many answers at once to one that is slow: each waits for its turn.
    #[test]
    fn who_goes_on_to_take_one_answer_keeps_the_others() {
        let all = connections(1);
        let place = all.enter(None).unwrap();
        let meter = &place.meter;
        let _under_way = meter.begin();
        let (waits, taken) = (meter.offers(), meter.offers());
        std::thread::sleep(Duration::from_millis(20));
        let late = Instant::now() + TAKING_MAX - Duration::from_millis(10);
        assert_eq!(meter.next_deadline(late), Err(Overdue::Untaken), "it takes none");
        taken.moves();
        assert!(meter.next_deadline(late).is_ok());
        drop((waits, taken));
    }
}
