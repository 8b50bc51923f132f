//! What comes from outside: threads beside the primary hand it in, and learn what became of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::immortal::{Fate as Told, ToNode, put_impulse};
use serde::Serialize;

use crate::format::put_arguments;
use crate::link::Link;

/// At most this many impulses may be on their way; who sends more waits.
const IMPULSES_OPEN_MAX: usize = 1 << 14;

thread_local! {
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
}

/// What became of an impulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is logged: it will be handled, exactly once, whatever dies. If it was for the program
    /// itself, it is this input.
    Logged { input: u64 },
    /// It is surely not logged: this copy is not the primary, or the destination has no room. It
    /// may be sent again.
    Lost,
    /// The connection ended before it was known. Sent again it may be handled twice.
    Unknown,
}

/// Where impulses are handed in. To be cloned into threads; it stays the same when the connection
/// to the node is made anew.
#[derive(Clone, Debug, Default)]
pub struct Impulses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    primary: bool,
    stopped: bool,
    /// The last number given in this connection.
    number: u64,
    open: BTreeMap<u64, SyncSender<Fate>>,
    /// What the node said of each destination's room.
    room: BTreeMap<String, u64>,
}

/// An impulse on its way.
#[must_use = "it tells whether the impulse was logged"]
#[derive(Debug)]
pub struct Ticket(Receiver<Fate>);

impl Ticket {
    /// Waits until it is known.
    pub fn wait(self) -> Fate {
        // The other end is dropped with the connection.
        self.0.recv().unwrap_or(Fate::Unknown)
    }
}

impl Impulses {
    /// Hands in a message and waits until it is known whether it was logged. An empty destination
    /// is the program itself: the usual way, because then its handler decides what to do with it.
    /// Typed proxies do this with `.impulse(&impulses)`.
    ///
    /// # Panics
    /// When a handler calls it: handlers fork. An impulse from a handler would be lost in replay,
    /// or sent twice.
    pub fn send(&self, to: &str, method: i64, arguments: &impl Serialize) -> Fate {
        let mut payload = Vec::new();
        put_arguments(&mut payload, arguments);
        self.post(to, method, &payload).wait()
    }

    /// Hands in a message of bytes, and does not wait for its fate.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub fn post(&self, to: &str, method: i64, payload: &[u8]) -> Ticket {
        assert!(!IN_HANDLER.get(), "an impulse was sent from a handler: handlers fork or call");
        let mut message = Vec::with_capacity(payload.len() + 16);
        put_impulse(&mut message, method, payload);
        let (teller, ticket) = sync_channel(1);
        let Some(link) = self.hand_in(to, message.into(), teller) else { return Ticket(ticket) };
        // If it breaks, the session ends and with it this impulse: unknown.
        drop(link.wait_for_room().and_then(|()| link.write_out()));
        Ticket(ticket)
    }

    /// Gives the impulse its number and adds it to what is to be written.
    fn hand_in(&self, to: &str, message: Bytes, teller: SyncSender<Fate>) -> Option<Link> {
        let mut state = self.state();
        while state.open.len() >= IMPULSES_OPEN_MAX && state.primary {
            state = self.0.changed.wait(state).expect("no one panics while holding it");
        }
        let link = state.link.clone().filter(|_| state.primary);
        let Some(link) = link else {
            teller.try_send(Fate::Lost).expect("the ticket is still here, and empty");
            return None;
        };
        state.number += 1;
        let number = state.number;
        state.open.insert(number, teller);
        let mut frame = Vec::new();
        ToNode::Impulse { number, destination: to.to_owned(), message }.put(&mut frame);
        // Under the lock, so that numbers go out in order; the writing itself comes later.
        link.add(&mut frame);
        Some(link)
    }

    /// Whether impulses are taken now. A thread that finds that they are not may end: `primary` is
    /// called again when they are.
    pub fn is_primary(&self) -> bool {
        self.state().primary
    }

    /// Waits for it, at most so long.
    pub fn wait_until_primary(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut state = self.state();
        while !state.primary && !state.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.expect("no one panics while holding it").0;
        }
        state.primary
    }

    /// How many bytes a destination has room for, as the node said last; None when it said nothing,
    /// and then there is room. The empty destination is the program itself.
    pub fn room(&self, destination: &str) -> Option<u64> {
        self.state().room.get(destination).copied()
    }

    /// Waits until there is room for a destination, at most so long: an impulse of the primary that
    /// is `Lost` found none.
    pub fn wait_for_room(&self, destination: &str, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut state = self.state();
        while state.room.get(destination) == Some(&0) && !state.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.expect("no one panics while holding it").0;
        }
        !state.stopped
    }

    /// Ends the connection, and with it [`run`](crate::run), which returns `Ok`. The instance lives
    /// on: started again, the program goes on from here.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        if let Some(link) = &state.link {
            link.shut();
        }
        self.0.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Waits so long, or until the program is to stop.
    pub(crate) fn pause(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut state = self.state();
        while !state.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.expect("no one panics while holding it").0;
        }
    }

    /// A connection begins. One that was to be stopped in between is ended at once.
    pub(crate) fn connected(&self, link: &Link) {
        let mut state = self.state();
        if state.stopped {
            link.shut();
        }
        state.link = Some(link.clone());
        state.number = 0;
    }

    pub(crate) fn set_primary(&self, primary: bool) {
        let mut state = self.state();
        state.primary = primary;
        // The next term tells anew where there is none.
        state.room.clear();
        drop(state);
        self.0.changed.notify_all();
    }

    /// The connection is over: what was on its way is unknown.
    pub(crate) fn disconnected(&self) {
        let mut state = self.state();
        state.link = None;
        state.primary = false;
        state.open.clear();
        state.room.clear();
        self.0.changed.notify_all();
    }

    pub(crate) fn told(&self, number: u64, fate: Told, input: u64) {
        let fate = match fate {
            Told::Logged => Fate::Logged { input },
            Told::Lost => Fate::Lost,
            Told::Unknown => Fate::Unknown,
        };
        let mut state = self.state();
        let was_full = state.open.len() >= IMPULSES_OPEN_MAX;
        if let Some(teller) = state.open.remove(&number) {
            // Whoever sent it may not want to know.
            let _wanted = teller.try_send(fate);
        }
        if was_full {
            self.0.changed.notify_all();
        }
    }

    pub(crate) fn credit(&self, destination: String, bytes: u64) {
        self.state().room.insert(destination, bytes);
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no one panics while holding it")
    }
}

/// While this lives, its thread runs handlers.
pub(crate) struct InHandler;

impl InHandler {
    pub(crate) fn enter() -> Self {
        IN_HANDLER.set(true);
        Self
    }
}

impl Drop for InHandler {
    fn drop(&mut self) {
        IN_HANDLER.set(false);
    }
}
