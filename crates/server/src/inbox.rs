//! The one way to the node's thread: everything that happens is put here, and the thread takes all
//! that is there at once.
//!
//! The lock is held for a push or a swap only, and the thread is woken only when it sleeps: at
//! load, a push costs no system call.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use protocol::{GroupId, Request, Response};
use storage::StoreError;
use tokio::sync::{Notify, oneshot};

use crate::budget::{Budget, Held, Purpose};
use crate::carrier::Carrier;
use crate::metrics::Metrics;
use crate::program::Program;

/// The most requests of clients that may wait. More are answered with 503 at once.
const REQUESTS_MAX: usize = 8_192;

/// The most bytes of frames that may wait. When there are more, links are not read from, and their
/// senders have to wait.
const FRAME_BYTES_WAITING_MAX: usize = 64 << 20;

/// The most bytes that programs said and that may wait. When there are more, programs are not read
/// from, and their writes block.
const SAID_BYTES_WAITING_MAX: usize = 16 << 20;

/// Something that happened, outside of the node.
pub(crate) enum Event {
    Request {
        request: Request,
        answer: oneshot::Sender<Response>,
    },
    LinkOpened {
        link: Arc<dyn Carrier>,
        dialed: Option<String>,
        is_detour: bool,
    },
    LinkClosed {
        link: u64,
    },
    /// An attempt to make a link came to nothing.
    DialFailed {
        address: String,
    },
    Received {
        link: u64,
        frames: Vec<Bytes>,
        /// Counts the frames until they are taken.
        _held: Held,
    },
    LogDurable {
        batch: u64,
        frames: u64,
    },
    LogFailed {
        why: String,
        full: bool,
    },
    LogRecovered,
    StatePersisted {
        mark: u64,
    },
    StateFailed(StoreError),
    /// A job of the node of that life has had its turn.
    Ran {
        life: u64,
        done: Box<node::JobDone>,
    },
    /// What became of a notification of the node of that life.
    Notified {
        life: u64,
        number: u64,
        outcome: Result<(), String>,
    },
    /// See [`node::Output::GoOn`].
    GoOn {
        group: GroupId,
        opening: u64,
    },
    /// A slow handler is done.
    Invoked(Box<services::Invoked>),
    ProgramOpened {
        program: Arc<Program>,
    },
    ProgramSaid {
        program: u64,
        bytes: Bytes,
        _held: Held,
    },
    /// So much of what it was told was taken by its socket.
    ProgramDrained {
        program: u64,
        bytes: u64,
    },
    ProgramClosed {
        program: u64,
    },
    Stop,
}

/// A bound is reached.
#[derive(Debug)]
pub(crate) struct Full;

pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Rung when something has come while the node's thread waits.
    bell: Notify,
    /// Rung when frames or bytes of programs were taken, for those who wait to put more.
    room: Notify,
    metrics: Arc<Metrics>,
    /// Of all that strangers make the node hold, also before it is here.
    pub(crate) budget: Arc<Budget>,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    requests: usize,
    frame_bytes: usize,
    said_bytes: usize,
    asleep: bool,
}

impl Inbox {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            bell: Notify::new(),
            room: Notify::new(),
            metrics,
            budget: Arc::default(),
        }
    }

    /// For events that are bounded by what the node asked for, and by the number of connections.
    pub(crate) fn put(&self, event: Event) {
        let mut waiting = self.lock();
        waiting.events.push(event);
        self.wake(waiting);
    }

    /// A client's request.
    pub(crate) fn request(
        &self,
        request: Request,
        answer: oneshot::Sender<Response>,
    ) -> Result<(), Full> {
        let mut waiting = self.lock();
        if waiting.requests >= REQUESTS_MAX {
            return Err(Full);
        }
        waiting.requests += 1;
        waiting.events.push(Event::Request { request, answer });
        self.wake(waiting);
        Ok(())
    }

    /// Frames of a link. Waits while there are too many.
    pub(crate) async fn received(&self, link: u64, frames: Vec<Bytes>) {
        let bytes = frames.iter().map(Bytes::len).sum::<usize>();
        let mut held = self.budget.open(Purpose::Peer);
        held.grow_anyway(bytes);
        self.put_when_there_is_room(Event::Received { link, frames, _held: held }, |waiting| {
            let has_room = waiting.frame_bytes < FRAME_BYTES_WAITING_MAX;
            waiting.frame_bytes += if has_room { bytes } else { 0 };
            has_room
        })
        .await;
    }

    /// A frame of a stream, whose sender was made to wait before.
    pub(crate) fn received_now(&self, link: u64, frame: Bytes) {
        let bytes = frame.len();
        let mut held = self.budget.open(Purpose::Peer);
        held.grow_anyway(bytes);
        let mut waiting = self.lock();
        waiting.frame_bytes += bytes;
        waiting.events.push(Event::Received { link, frames: vec![frame], _held: held });
        self.wake(waiting);
    }

    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Whether there is room for frames.
    pub(crate) fn takes_frames(&self) -> bool {
        self.lock().frame_bytes < FRAME_BYTES_WAITING_MAX
    }

    /// What a program said. Waits while there is too much.
    pub(crate) async fn said(&self, program: u64, bytes: Bytes) {
        let count = bytes.len();
        let mut held = self.budget.open(Purpose::Program);
        held.grow_anyway(count);
        self.put_when_there_is_room(
            Event::ProgramSaid { program, bytes, _held: held },
            |waiting| {
                let has_room = waiting.said_bytes < SAID_BYTES_WAITING_MAX;
                waiting.said_bytes += if has_room { count } else { 0 };
                has_room
            },
        )
        .await;
    }

    /// `count` adds the event to what waits, if there is room, and says so.
    async fn put_when_there_is_room(&self, event: Event, count: impl Fn(&mut Waiting) -> bool) {
        loop {
            // Must be made before the look at the count, or a ring between the two is missed.
            let room = self.room.notified();
            {
                let mut waiting = self.lock();
                if count(&mut waiting) {
                    waiting.events.push(event);
                    self.wake(waiting);
                    return;
                }
            }
            room.await;
        }
    }

    /// Takes all that is there into `events`, which must be empty.
    pub(crate) fn take(&self, events: &mut Vec<Event>) {
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.events, events);
        waiting.requests = 0;
        let was_full = waiting.frame_bytes >= FRAME_BYTES_WAITING_MAX
            || waiting.said_bytes >= SAID_BYTES_WAITING_MAX;
        waiting.frame_bytes = 0;
        waiting.said_bytes = 0;
        drop(waiting);
        let taken = i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.metrics.thread.queue_depth.fetch_sub(taken, Ordering::Relaxed);
        if was_full {
            self.room.notify_waiters();
        }
    }

    /// Returns when there is something to take. One at a time may wait; it may give up.
    pub(crate) async fn wait(&self) {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.events.is_empty() {
                    return;
                }
                waiting.asleep = true;
            }
            self.bell.notified().await;
        }
    }

    /// Throws away what waits; links and programs among it are closed.
    pub(crate) fn clear(&self) {
        let mut events = Vec::new();
        self.take(&mut events);
        for event in events {
            match event {
                Event::LinkOpened { link, .. } => link.close(),
                Event::ProgramOpened { program } => program.close(),
                _ => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no one panics while holding the inbox")
    }

    fn wake(&self, mut waiting: std::sync::MutexGuard<'_, Waiting>) {
        self.metrics.thread.queue_depth.fetch_add(1, Ordering::Relaxed);
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Method;

    fn inbox() -> Inbox {
        Inbox::new(Arc::default())
    }

    #[test]
    fn requests_over_the_bound_are_refused_until_some_are_taken() {
        let inbox = inbox();
        let ask = || inbox.request(Request::new(Method::Get, "/"), oneshot::channel().0);
        for _ in 0..REQUESTS_MAX {
            ask().unwrap();
        }
        assert!(ask().is_err());
        // What the node itself waits for is never refused.
        inbox.put(Event::LogDurable { batch: 1, frames: 1 });
        let mut events = Vec::new();
        inbox.take(&mut events);
        assert_eq!(events.len(), REQUESTS_MAX + 1);
        ask().unwrap();
    }

    #[test]
    fn frames_over_the_bound_wait_until_some_are_taken() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let inbox = inbox();
        runtime.block_on(async {
            inbox.received(1, vec![Bytes::from(vec![0; FRAME_BYTES_WAITING_MAX])]).await;
            let second = inbox.received(1, vec![Bytes::from_static(b"x")]);
            tokio::pin!(second);
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(second.as_mut().poll(context).is_ready())
            });
            assert!(!polled.await, "the second must wait");
            let mut events = Vec::new();
            inbox.take(&mut events);
            second.await;
            let mut events = Vec::new();
            inbox.take(&mut events);
            assert!(matches!(&events[..], [Event::Received { link: 1, .. }]));
        });
    }

    #[test]
    fn bytes_of_programs_have_a_bound_of_their_own() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let inbox = inbox();
        runtime.block_on(async {
            inbox.said(1, Bytes::from(vec![0; SAID_BYTES_WAITING_MAX])).await;
            inbox.received(1, vec![Bytes::from_static(b"x")]).await;
            let mut second = std::pin::pin!(inbox.said(2, Bytes::from_static(b"x")));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(second.as_mut().poll(context).is_ready())
            });
            assert!(!polled.await, "the second must wait");
            let mut events = Vec::new();
            inbox.take(&mut events);
            assert_eq!(events.len(), 2);
            second.await;
        });
    }

    #[test]
    fn a_sleeper_is_woken_by_what_comes() {
        let inbox = Arc::new(inbox());
        let other = Arc::clone(&inbox);
        let sleeper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(other.wait());
            let mut events = Vec::new();
            other.take(&mut events);
            events.len()
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        inbox.put(Event::Stop);
        assert_eq!(sleeper.join().unwrap(), 1);
    }
}
