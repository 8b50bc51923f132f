//! What the program sends to other instances, on its way: one flow to each destination, with a
//! window of its own, so that a destination that is away holds up no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::GroupId;
use protocol::flow::{ASK_AGAIN_MICROS, Flow, Progress};
use protocol::immortal::Garbled;

use crate::lead::log_queue::ImpulseNumber;
use crate::output::output_state::DESTINATIONS_MAX;
use crate::output::stream::{Stream, copied_if_short};

/// How many bytes may be on their way to a destination without being confirmed.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;

/// How many bytes of impulses may wait for one destination. More are refused.
pub(crate) const IMPULSE_BYTES_MAX: usize = 4 << 20;

/// How many bytes of impulses may wait for all destinations together. More are refused.
pub(crate) const IMPULSE_BYTES_ALL_MAX: usize = 128 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlowKind {
    Stream,
    Impulses,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowId {
    pub(crate) destination: String,
    pub(crate) kind: FlowKind,
}

impl FlowId {
    pub(crate) fn stream(destination: &str) -> Self {
        Self { destination: destination.to_owned(), kind: FlowKind::Stream }
    }

    pub(crate) fn impulses(destination: &str) -> Self {
        Self { destination: destination.to_owned(), kind: FlowKind::Impulses }
    }
}

/// Impulses that wait for one destination.
#[derive(Debug, Default)]
struct WaitingImpulses {
    stream: Stream,
    /// One for each message that is kept.
    numbers: VecDeque<ImpulseNumber>,
}

/// Impulses to other instances, numbered within this ownership.
#[derive(Debug)]
pub(crate) struct Impulses {
    /// Names this ownership to the destinations. The number is higher than those of all ownerships
    /// before.
    pub(crate) session: u64,
    waiting: BTreeMap<String, WaitingImpulses>,
    bytes: usize,
}

impl Impulses {
    pub(crate) fn new(session: u64) -> Self {
        Self { session, waiting: BTreeMap::new(), bytes: 0 }
    }

    pub(crate) fn stream(&self, destination: &str) -> Option<&Stream> {
        self.waiting.get(destination).map(|waiting| &waiting.stream)
    }

    /// How many bytes of impulses there is room for on the way to a destination.
    pub(crate) fn room(&self, destination: &str) -> usize {
        let kept = self.stream(destination).map_or(0, |stream| stream.kept_bytes);
        let all = IMPULSE_BYTES_ALL_MAX.saturating_sub(self.bytes);
        all.min(IMPULSE_BYTES_MAX.saturating_sub(kept))
    }

    /// Keeps an impulse. False when there is no room for it.
    pub(crate) fn keep(&mut self, id: ImpulseNumber, destination: &str, message: Bytes) -> bool {
        let bytes = message.len();
        let is_new = !self.waiting.contains_key(destination);
        if self.bytes + bytes > IMPULSE_BYTES_ALL_MAX
            || is_new && self.waiting.len() >= DESTINATIONS_MAX
        {
            return false;
        }
        let waiting = self.waiting.entry(destination.to_owned()).or_default();
        let message = copied_if_short(message);
        if waiting.stream.kept_bytes > IMPULSE_BYTES_MAX
            || waiting.stream.keep(1, message, usize::MAX).is_err()
        {
            return false;
        }
        self.bytes += bytes;
        waiting.numbers.push_back(id);
        true
    }

    /// The impulses to a destination are logged there up to a number. The result names them.
    ///
    /// # Errors
    /// Never for impulses that were kept.
    pub(crate) fn confirm(
        &mut self,
        destination: &str,
        up_to: u64,
    ) -> Result<Vec<ImpulseNumber>, Garbled> {
        let Some(waiting) = self.waiting.get_mut(destination) else { return Ok(Vec::new()) };
        let before = waiting.stream.confirmed;
        if up_to <= before {
            return Ok(Vec::new());
        }
        self.bytes -= waiting.stream.confirm(up_to, &mut Vec::new())?;
        let count = usize::try_from(up_to - before).unwrap_or(usize::MAX);
        Ok(waiting.numbers.drain(..count.min(waiting.numbers.len())).collect())
    }

    /// The destinations for which impulses wait.
    fn destinations(&self) -> impl Iterator<Item = &String> {
        let waiting = self.waiting.iter().filter(|(_, waiting)| !waiting.stream.kept.is_empty());
        waiting.map(|(name, _)| name)
    }

    pub(crate) fn into_numbers(self) -> impl Iterator<Item = ImpulseNumber> {
        self.waiting.into_values().flat_map(|waiting| waiting.numbers)
    }
}

#[derive(Debug)]
pub(crate) struct Outbound {
    flows: BTreeMap<FlowId, Flow>,
    /// How many flows have begun so far.
    flows_begun: u64,
    /// The name that the destination with this group had when something was last sent to it.
    by_group: BTreeMap<(GroupId, FlowKind), String>,
    /// Destinations to which there may be something to send.
    touched: BTreeSet<FlowId>,
    pub(crate) impulses: Impulses,
    /// When destinations that are silent, or were not there, are to be looked at.
    pub(crate) wake: Option<u64>,
}

impl Outbound {
    pub(crate) fn new(session: u64) -> Self {
        Self {
            flows: BTreeMap::new(),
            flows_begun: 0,
            by_group: BTreeMap::new(),
            touched: BTreeSet::new(),
            impulses: Impulses::new(session),
            wake: None,
        }
    }

    pub(crate) fn destinations(&self) -> impl Iterator<Item = &str> {
        self.flows.keys().map(|id| id.destination.as_str())
    }

    /// Since when a destination has taken none of the messages to it, although there were some.
    pub(crate) fn stands_since(&self, destination: &str) -> Option<u64> {
        self.flows.get(&FlowId::stream(destination))?.stands_since()
    }

    pub(crate) fn flows_begun(&self) -> u64 {
        self.flows_begun
    }

    pub(crate) fn touch(&mut self, id: FlowId) {
        self.touched.insert(id);
    }

    pub(crate) fn take_touched(&mut self) -> BTreeSet<FlowId> {
        std::mem::take(&mut self.touched)
    }

    /// The flow to a destination that is that group now.
    pub(crate) fn flow(&mut self, id: &FlowId, group: GroupId) -> &mut Flow {
        if !self.flows.contains_key(id) {
            self.flows.insert(id.clone(), Flow::new(WINDOW_BYTES));
            self.flows_begun += 1;
        }
        let key = (group, id.kind);
        if self.by_group.get(&key).is_none_or(|name| *name != id.destination) {
            self.by_group.insert(key, id.destination.clone());
        }
        self.flows.get_mut(id).expect("it was just made sure")
    }

    /// The flow to which a group answers.
    pub(crate) fn flow_of(
        &mut self,
        group: GroupId,
        kind: FlowKind,
    ) -> Option<(FlowId, &mut Flow)> {
        let destination = self.by_group.get(&(group, kind))?.clone();
        let id = FlowId { destination, kind };
        let flow = self.flows.get_mut(&id)?;
        Some((id, flow))
    }

    /// There is something to look at later, if no answer comes before.
    pub(crate) fn look_later(&mut self, now: u64) {
        let at = now.saturating_add(ASK_AGAIN_MICROS + 1);
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Destinations may have confirmed messages while no program here had sent them, so the
    /// destinations are asked anew.
    pub(crate) fn forget_streams(&mut self) {
        self.flows.retain(|id, _| id.kind == FlowKind::Impulses);
    }

    /// Begins the flows anew for which `which` is true, and touches them.
    pub(crate) fn ask_anew(&mut self, which: impl Fn(&FlowId, &Flow) -> bool) {
        for (id, flow) in &mut self.flows {
            if which(id, flow) {
                flow.begin_anew(Progress::Unknown);
                self.touched.insert(id.clone());
            }
        }
    }

    /// Asks the destinations again that do not answer, and looks again at impulses whose
    /// destination was not there.
    pub(crate) fn retry(&mut self, now: u64) {
        self.wake = None;
        self.ask_anew(|_, flow| flow.is_silent(now));
        let impulses = self.impulses.destinations().map(|name| FlowId::impulses(name));
        self.touched.extend(impulses);
    }
}
