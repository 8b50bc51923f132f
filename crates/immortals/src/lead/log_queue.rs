//! Inputs and entries on their way into the log, and who is told when they are logged.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::immortal::{BlockHead, Message, SourceKind, put_message};
use protocol::{GroupId, Moment};

use crate::history::entry::{ENTRY_BYTES_MAX, Entry, Inputs, Lane, Mark, Origin, encode_inputs};
use crate::io::Output;

/// How many entries of inputs may be on their way into the log. More inputs gather meanwhile.
const IN_FLIGHT_MAX: usize = 4;

/// How many bytes of inputs may be on their way into the log; a single entry may be longer.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// How many bytes of inputs may wait for the log. More are not taken, and their senders try again.
pub(crate) const PENDING_BYTES_MAX: usize = 64 << 20;

/// After this long without inputs, what was confirmed and what the program has sent is logged on
/// its own, in microseconds.
const QUIET_MICROS: u64 = 200_000;

/// Who is told when inputs are logged.
#[derive(Debug)]
pub(crate) enum Receipt {
    None,
    /// The owner of another instance.
    Sender {
        group: GroupId,
        lane: Lane,
    },
    /// The program that gave the impulse.
    Impulse(ImpulseNumber),
    /// A timer, or the result of a side effect.
    Resolved {
        id: u64,
    },
    Upgrade,
    /// Senders are forgotten.
    Forgotten,
    /// A piece of the first state, with its bytes.
    Genesis {
        bytes: usize,
    },
    /// A person who gave an impulse.
    Ticket(u64),
    /// A person who wants an input taken out.
    Skip {
        ticket: u64,
        input: u64,
    },
}

/// An impulse as its program numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImpulseNumber {
    pub(crate) program: u64,
    pub(crate) number: u64,
}

/// Inputs that wait for the log.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) head: BlockHead,
    pub(crate) origin: Origin,
    pub(crate) messages: Bytes,
    pub(crate) receipt: Receipt,
}

/// What waits for the log, in this order.
#[derive(Debug)]
enum Queued {
    Inputs(Pending),
    /// An entry that must be logged between the inputs before it and the inputs after it.
    Between(Entry),
}

/// The receipts of an entry on its way into the log, each with the count of its inputs.
pub(crate) type Receipts = Vec<(u64, Receipt)>;

#[derive(Debug, Default)]
struct InFlight {
    receipts: Receipts,
    /// The bytes of its inputs.
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct LogQueue {
    queued: VecDeque<Queued>,
    /// The bytes of inputs that wait.
    bytes: usize,
    /// The entries on their way, the oldest first.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// What destinations have confirmed since the last entry.
    trims: BTreeMap<String, u64>,
    mark_logged: Option<Mark>,
    quiet_since: u64,
}

impl LogQueue {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            queued: VecDeque::new(),
            bytes: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            trims: BTreeMap::new(),
            mark_logged: None,
            quiet_since: now,
        }
    }

    /// The bytes of inputs that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes > PENDING_BYTES_MAX
    }

    /// Nothing is on its way into the log.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty()
    }

    pub(crate) fn put(&mut self, pending: Pending) {
        self.bytes += pending.messages.len();
        self.queued.push_back(Queued::Inputs(pending));
    }

    /// Puts an input of the node itself.
    pub(crate) fn put_own(&mut self, message: &Message, receipt: Receipt) {
        let mut messages = Vec::new();
        put_message(&mut messages, message);
        let head = BlockHead { kind: SourceKind::Node, name: String::new(), first: 0, count: 1 };
        let messages = messages.into();
        self.put(Pending { head, origin: Origin::Node, messages, receipt });
    }

    /// Puts an entry that is logged after the inputs that wait now, and before those that come.
    pub(crate) fn put_between(&mut self, entry: Entry) {
        self.queued.push_back(Queued::Between(entry));
    }

    /// Notes what a destination has confirmed, for the standbys.
    pub(crate) fn trim(&mut self, destination: &str, up_to: u64) {
        let trim = self.trims.entry(destination.to_owned()).or_default();
        *trim = (*trim).max(up_to);
    }

    /// Proposes an entry at once.
    pub(crate) fn propose(&mut self, entry: &Entry, receipt: Receipt, outputs: &mut Vec<Output>) {
        self.in_flight.push_back(InFlight { receipts: vec![(0, receipt)], bytes: 0 });
        outputs.push(Output::Propose(entry.encode()));
    }

    /// Proposes what waits, as far as there is room. `mark` is what the program has sent.
    pub(crate) fn flush(
        &mut self,
        time: Moment,
        mark: Option<Mark>,
        now: u64,
        outputs: &mut Vec<Output>,
    ) {
        let mut mark = mark;
        while self.in_flight.len() < IN_FLIGHT_MAX && self.next_fits() {
            match self.queued.pop_front() {
                None => return,
                Some(Queued::Between(entry)) => {
                    outputs.push(Output::Propose(entry.encode()));
                    self.in_flight.push_back(InFlight::default());
                }
                Some(Queued::Inputs(first)) => {
                    let mark = self.new_mark(mark.take());
                    self.propose_inputs(first, time, mark, outputs);
                    self.quiet_since = now;
                }
            }
        }
    }

    /// Whether what comes next may be on its way beside what is.
    fn next_fits(&self) -> bool {
        let next = match self.queued.front() {
            Some(Queued::Inputs(pending)) => pending.messages.len(),
            Some(Queued::Between(_)) | None => 0,
        };
        self.in_flight_bytes == 0 || self.in_flight_bytes + next <= IN_FLIGHT_BYTES_MAX
    }

    fn propose_inputs(
        &mut self,
        first: Pending,
        time: Moment,
        mark: Option<Mark>,
        outputs: &mut Vec<Output>,
    ) {
        let trims = std::mem::take(&mut self.trims).into_iter().collect();
        let mut inputs = Inputs { trims, mark, ..Inputs::none(time) };
        let (mut blocks, mut receipts, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(pending) = next.take() {
            self.bytes -= pending.messages.len();
            bytes += pending.messages.len();
            inputs.origins.push(pending.origin);
            receipts.push((pending.head.count, pending.receipt));
            blocks.push((pending.head, pending.messages));
            // A long input goes alone, so that it fits into a frame.
            next = self.take_if(|next| bytes + next.messages.len() < ENTRY_BYTES_MAX);
        }
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight { receipts, bytes });
        outputs.push(Output::Propose(encode_inputs(&inputs, &blocks)));
    }

    /// The next inputs that wait, if nothing is to be logged before them.
    fn take_if(&mut self, fits: impl FnOnce(&Pending) -> bool) -> Option<Pending> {
        let fits = |next: &mut Queued| matches!(next, Queued::Inputs(pending) if fits(pending));
        match self.queued.pop_front_if(fits) {
            Some(Queued::Inputs(pending)) => Some(pending),
            _ => None,
        }
    }

    /// The mark, if the log does not have it.
    fn new_mark(&mut self, mark: Option<Mark>) -> Option<Mark> {
        let mark = mark.filter(|mark| self.mark_logged.as_ref() != Some(mark))?;
        Some(self.mark_logged.insert(mark).clone())
    }

    /// Proposes what came without inputs, so that standbys forget what is confirmed, and compare
    /// what was sent.
    pub(crate) fn log_quietly(
        &mut self,
        time: Moment,
        mark: Option<Mark>,
        now: u64,
        outputs: &mut Vec<Output>,
    ) {
        if self.quiet_at(mark.as_ref()).is_none_or(|at| now < at) {
            return;
        }
        let mark = self.new_mark(mark);
        let trims = std::mem::take(&mut self.trims).into_iter().collect();
        self.quiet_since = now;
        let inputs = Inputs { trims, mark, ..Inputs::none(time) };
        self.propose(&Entry::Inputs(inputs), Receipt::None, outputs);
    }

    /// When something is to be logged without inputs. Never, when there is nothing to log, or when
    /// inputs are on their way.
    pub(crate) fn quiet_at(&self, mark: Option<&Mark>) -> Option<u64> {
        let is_new = mark.is_some_and(|mark| self.mark_logged.as_ref() != Some(mark));
        let is_due = self.is_idle() && (is_new || !self.trims.is_empty());
        is_due.then(|| self.quiet_since.saturating_add(QUIET_MICROS))
    }

    /// The oldest entry on its way is logged.
    pub(crate) fn landed(&mut self) -> Receipts {
        let landed = self.in_flight.pop_front();
        let InFlight { receipts, bytes } =
            landed.expect("Invariant: every entry of this term was proposed by this ownership");
        self.in_flight_bytes -= bytes;
        receipts
    }

    /// The receipts of what is on its way, and then of what only waits.
    pub(crate) fn into_receipts(self) -> (Vec<Receipt>, Vec<Receipt>) {
        let in_flight = self.in_flight.into_iter().flat_map(|entry| entry.receipts);
        let in_flight = in_flight.map(|(_, receipt)| receipt);
        let waiting = self.queued.into_iter().filter_map(|queued| match queued {
            Queued::Inputs(pending) => Some(pending.receipt),
            Queued::Between(_) => None,
        });
        (in_flight.collect(), waiting.collect())
    }
}
