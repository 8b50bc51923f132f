//! Where handlers run. One that has been quick often enough is run within the node's step, as
//! waking another thread takes longer than a quick handler does; all others run on threads of their
//! own.
//!
//! A handler is code that anybody may have written, and cannot be stopped. One that sleeps within a
//! step stops the whole node, and what it owns goes to the next node. So:
//!
//! - With each ownership every kind of service begins on the other threads, and moves into the step
//!   only after [`QUICK_CALLS_MIN`] calls in a row that were quick.
//! - A request that another owner may have been stopped by is never run within the step.
//! - A kind that was slow once stays on the other threads for a while, each time for longer.
//!
//! So of all calls of a kind that suddenly becomes slow at most the first one holds up a node, and
//! the next owner not at all. The threads of each kind are bounded: one whose handlers never return
//! holds up its own documents alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use protocol::{GroupId, Term};
use services::{Catalogue, Invocation, Invoker, Ran};

use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;
use crate::served::Served;

/// A call that took longer is not quick; if it is so on average, the kind leaves the step.
const QUICK_MAX: Duration = Duration::from_millis(5);

/// A single call that took longer is slow. On a busy machine a thread is put off for some ten
/// milliseconds now and then, whatever it does.
const SLOW_MIN: Duration = Duration::from_millis(50);

/// Each call within the step counts in the average for one part in this many.
const AVERAGE_OF: u32 = 8;

/// How many calls in a row must have been quick before a kind is run within the step.
const QUICK_CALLS_MIN: u32 = 16;

/// How long a kind that was slow once stays out of the step; twice as long each further time.
const AWAY_MIN: Duration = Duration::from_secs(10);
const AWAY_MAX: Duration = Duration::from_secs(3_600);

/// How many handlers of one kind run at a time on other threads; the others of that kind wait.
const RUNNING_PER_KIND_MAX: usize = 32;

/// A handler within the step that has not ended after this long is named in the log.
const STUCK_AFTER: Duration = Duration::from_millis(200);

/// A kind of services, by its factory.
#[derive(Default)]
struct Kind {
    /// How many calls in a row were quick, by the leader that they were for.
    quick: HashMap<GroupId, ((Term, u64), u32)>,
    away_until: Option<Instant>,
    /// How long a call within the step takes, on average of the last ones.
    average: Duration,
    /// How often it was slow within the step.
    times: u32,
    /// The log has named it.
    is_told: bool,
    running: usize,
    waiting: VecDeque<Invocation>,
}

/// The handler that runs within the step at present.
struct Present {
    link: String,
    since: Instant,
    is_told: bool,
}

pub(crate) struct Handlers {
    kinds: Mutex<BTreeMap<String, Kind>>,
    present: Mutex<Option<Present>>,
    served: Arc<Served>,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
}

impl Handlers {
    /// With a thread that watches the handlers within the step, as long as this lives.
    pub(crate) fn start(
        served: Arc<Served>,
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Self>> {
        let (kinds, present) = (Mutex::default(), Mutex::default());
        let handlers = Arc::new(Self { kinds, present, served, inbox, metrics });
        let watched = Arc::downgrade(&handlers);
        let thread = std::thread::Builder::new().name("amrita-watch".into());
        thread.spawn(move || watch(&watched))?;
        Ok(handlers)
    }

    /// The services there are from now on.
    pub(crate) fn serve(&self, catalogue: Arc<Catalogue>) {
        self.served.set(catalogue);
    }

    /// Runs a handler on another thread. Comes back as [`Event::Invoked`].
    pub(crate) fn run_elsewhere(self: &Arc<Self>, invocation: Invocation) {
        {
            let mut kinds = self.kinds();
            let kind = kinds.entry(invocation.factory().to_owned()).or_default();
            if kind.running >= RUNNING_PER_KIND_MAX {
                kind.waiting.push_back(invocation);
                return;
            }
            kind.running += 1;
        }
        let handlers = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || {
            let mut next = Some(invocation);
            while let Some(invocation) = next {
                next = handlers.run_one(invocation);
            }
        }));
    }

    /// Gives the next one of the same kind, if one waits.
    fn run_one(&self, invocation: Invocation) -> Option<Invocation> {
        let factory = invocation.factory().to_owned();
        let (partition, leader) = (invocation.partition, invocation.leader());
        let link = invocation.link().to_owned();
        let begun = Instant::now();
        let catalogue = self.served.get();
        let invoked = catalogue.invoke(invocation);
        let took = begun.elapsed();
        self.inbox.put(Event::Invoked(Box::new(invoked)));
        let is_declared = catalogue.spec(&factory).is_none_or(|spec| spec.slow);
        let mut kinds = self.kinds();
        let kind = kinds.entry(factory.clone()).or_default();
        if took <= QUICK_MAX {
            kind.was_quick(partition, leader);
        } else if took <= SLOW_MIN || is_declared {
            kind.quick.clear();
        } else {
            kind.quick.clear();
            self.metrics.handler_was_slow(&factory);
            if !std::mem::replace(&mut kind.is_told, true) {
                tracing::warn!(
                    target: "amrita",
                    "the handler at {link} took {} ms: handlers of {factory} run on other threads, \
                     and each holds up its own document alone",
                    took.as_millis()
                );
            }
        }
        let next = kind.waiting.pop_front();
        kind.running -= usize::from(next.is_none());
        next
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<String, Kind>> {
        self.kinds.lock().expect("no one panics while counting calls")
    }

    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().expect("no one panics while looking at a handler")
    }

    /// Whether it may be run within the step.
    fn is_quick(&self, invocation: &Invocation, now: Instant) -> bool {
        if invocation.is_resent {
            return false;
        }
        let kinds = self.kinds();
        let Some(kind) = kinds.get(invocation.factory()) else { return false };
        let is_away = kind.away_until.is_some_and(|until| now < until);
        let known = kind.quick.get(&invocation.partition);
        !is_away
            && known.is_some_and(|(leader, calls)| {
                *leader == invocation.leader() && *calls >= QUICK_CALLS_MIN
            })
    }

    /// A handler has run within the step.
    fn ran(&self, link: &str, factory: &str, took: Duration, now: Instant) {
        let mut kinds = self.kinds();
        let Some(kind) = kinds.get_mut(factory) else { return };
        kind.average = (kind.average * (AVERAGE_OF - 1) + took) / AVERAGE_OF;
        if took <= SLOW_MIN && kind.average <= QUICK_MAX {
            return;
        }
        kind.average = Duration::ZERO;
        let away = AWAY_MIN.saturating_mul(1 << kind.times.min(16)).min(AWAY_MAX);
        kind.times += 1;
        kind.away_until = Some(now + away);
        kind.quick.clear();
        drop(kinds);
        self.metrics.handler_was_slow(factory);
        tracing::warn!(
            target: "amrita",
            "the handler at {link} held up the node for {} ms: handlers of {factory} run on other \
             threads for the next {} s. Say `slow()` in its spec if it may take long",
            took.as_millis(),
            away.as_secs()
        );
    }
}

impl Kind {
    fn was_quick(&mut self, partition: GroupId, leader: (Term, u64)) {
        let known = self.quick.entry(partition).or_insert((leader, 0));
        if known.0 != leader {
            *known = (leader, 0);
        }
        known.1 = known.1.saturating_add(1);
    }
}

impl Invoker for Handlers {
    fn invoke(&self, catalogue: &Catalogue, invocation: Invocation) -> Ran {
        let begun = Instant::now();
        if catalogue.is_slow(&invocation) || !self.is_quick(&invocation, begun) {
            return Ran::Elsewhere(invocation);
        }
        let link = invocation.link().to_owned();
        *self.present() = Some(Present { link, since: begun, is_told: false });
        let factory_bytes = invocation.factory().len();
        let invoked = catalogue.invoke(invocation);
        let present = self.present().take();
        let took = begun.elapsed();
        let link = present.map(|present| present.link).unwrap_or_default();
        self.ran(&link, link.get(..factory_bytes).unwrap_or_default(), took, begun + took);
        Ran::Done(invoked)
    }
}

/// Names a handler that holds up the node while it does.
fn watch(handlers: &Weak<Handlers>) {
    loop {
        std::thread::sleep(STUCK_AFTER / 2);
        let Some(handlers) = handlers.upgrade() else { return };
        let mut present = handlers.present();
        let Some(present) = present.as_mut() else { continue };
        if present.since.elapsed() > STUCK_AFTER && !std::mem::replace(&mut present.is_told, true) {
            let link = &present.link;
            tracing::warn!(target: "amrita", "the handler at {link} holds up the node");
        }
    }
}
