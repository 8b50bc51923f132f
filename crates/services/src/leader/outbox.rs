//! What versions send to instances leaves from here. The messages are in the partition's outbox,
//! which is part of its replicated state; the owner sends them in order, and sends them again when
//! no answer comes, or to a new owner of the destination. The destination takes each once, by its
//! number. What it has durable, the owner proposes to remove.

use std::collections::BTreeSet;

use documents::{Command, KeptMessage, message_bytes};
use group::Output;
use protocol::explanation::{Finding, WaitsFor};
use protocol::flow::{Progress, STANDS_MICROS};
use protocol::immortal::{Message, Status, put_message};
use protocol::{Code, InstanceMessage, Problem};
use storage::StoreError;

use super::context::StepContext;
use super::flows::Way;
use super::proposals::Proposed;
use super::runners::Why;
use super::state::PartitionLeader;
use crate::io::{PartitionAction, ToInstance};

/// To how many destinations the documents of a partition may send, ever. A write that sends to one
/// more is refused.
const DESTINATIONS_MAX: usize = 10_000;

/// How many destinations one entry confirms. The others come with the next one.
const CONFIRMED_AT_ONCE_MAX: usize = 256;

impl PartitionLeader {
    /// The last owner has left messages that are not confirmed.
    pub(super) fn open_outbox(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        let destinations = cx.partition().outbox().destinations();
        let waiting = destinations.filter(|(_, it)| it.waiting() > 0);
        let waiting: Vec<String> = waiting.map(|(to, _)| to.to_owned()).collect();
        if !waiting.is_empty() {
            cx.put(Output::Note(format!(
                "partition {}: messages to {} immortals were not confirmed and will be sent",
                self.duty.partition,
                waiting.len()
            )));
        }
        waiting.iter().try_for_each(|to| self.send_to(cx, to))
    }

    /// Why a version with these messages cannot be written now.
    pub(super) fn why_not_sent(
        &self,
        cx: &StepContext<'_, '_>,
        messages: &[InstanceMessage],
    ) -> Option<(Code, Why)> {
        let outbox = cx.partition().outbox();
        let most = self.duty.limits.outbox_of_all_bytes_max;
        if !messages.is_empty() && outbox.bytes() >= most {
            let text = format!(
                "{most} bytes or more of messages to immortals wait in partition {}",
                self.duty.partition
            );
            let remedy = "see which immortals do not take theirs: amrita immortal list";
            return Some((Code::Busy, Why::no_place(text, remedy)));
        }
        messages.iter().find_map(|it| self.no_place_at(cx, &it.to))
    }

    /// Why one more message to that instance has no place.
    fn no_place_at(&self, cx: &StepContext<'_, '_>, to: &str) -> Option<(Code, Why)> {
        let outbox = cx.partition().outbox();
        let Some(destination) = outbox.destination(to) else {
            if outbox.count() < DESTINATIONS_MAX {
                return None;
            }
            let text = format!(
                "documents of partition {} have sent to {DESTINATIONS_MAX} immortals, and to no \
                 more: '{to}' is a new one",
                self.duty.partition
            );
            let remedy = "send to those that were sent to before";
            return Some((Code::Refused, Why::no_place(text, remedy)));
        };
        if destination.bytes < self.duty.limits.outbox_bytes_max {
            return None;
        }
        let text = format!(
            "{} messages wait for the immortal '{to}', which does not take them",
            destination.waiting()
        );
        let remedy = format!("see what it waits for: amrita explain /core/immortals/{to}");
        Some((Code::Busy, Why::no_place(text, remedy)))
    }

    /// Why an instance cannot be told now what became of a write of its own. No other instance
    /// holds up its writes.
    pub(super) fn why_not_told(&self, cx: &StepContext<'_, '_>, to: &str) -> Option<Problem> {
        let (_, why) = self.no_place_at(cx, to)?;
        let text = format!("the outcome of its write has no place: {}; {}", why.text, why.remedy);
        Some(Problem::new(Code::Busy, text))
    }

    /// A version with these messages is applied.
    pub(super) fn send_messages(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        messages: &[InstanceMessage],
    ) -> Result<(), StoreError> {
        let destinations: BTreeSet<&str> = messages.iter().map(|it| it.to.as_str()).collect();
        destinations.into_iter().try_for_each(|to| self.send_to(cx, to))
    }

    /// Sends what may go to one destination.
    pub(super) fn send_to(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        to: &str,
    ) -> Result<(), StoreError> {
        let Some(destination) = cx.partition().outbox().destination(to).copied() else {
            return Ok(());
        };
        if destination.waiting() == 0 {
            return Ok(());
        }
        let now = cx.now().steady_micros;
        let has_turn = self.instances.flows.has_turn(to);
        let way = self.instances.flows.way(to);
        match way.flow.progress {
            Progress::Unknown => {
                way.flow.begin_anew(Progress::Asked { at: now });
                put(cx, to, ToInstance::Probe);
                Ok(())
            }
            Progress::Asked { .. } => Ok(()),
            Progress::Open { .. } if !has_turn => Ok(()),
            Progress::Open { next } => {
                // What the destination has is not sent again, although it is not removed so far:
                // another instance of that name would take it for new.
                let floor = destination.confirmed.max(way.flow.logged()) + 1;
                let next = next.max(floor);
                let room = way.flow.room();
                if room == 0 || next > destination.last {
                    return Ok(());
                }
                let messages = cx.partition().messages(cx.reader(), (to, next), room)?;
                send(cx, (to, floor), way, messages);
                self.instances.flows.note_turn(to);
                Ok(())
            }
        }
    }

    /// A destination has said how far it is.
    pub(super) fn acked(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        to: &str,
        logged: u64,
        resend_from: Option<u64>,
    ) -> Result<(), StoreError> {
        self.instances.flows.acked(to, (logged, resend_from), cx.now().steady_micros);
        self.propose_confirm(cx);
        self.send_to(cx, to)
    }

    pub(super) fn instance_moved(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        to: &str,
    ) -> Result<(), StoreError> {
        if cx.partition().outbox().destination(to).is_none() {
            return Ok(());
        }
        self.instances.flows.way(to).flow.begin_anew(Progress::Unknown);
        self.instances.flows.note_turn(to);
        self.send_to(cx, to)
    }

    pub(super) fn tick_outbox(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.propose_confirm(cx);
        let silent = self.instances.flows.take_silent(cx.now().steady_micros);
        silent.iter().try_for_each(|to| self.send_to(cx, to))?;
        // Those that had no turn.
        let turns = self.instances.flows.take_waiting();
        turns.iter().try_for_each(|to| self.send_to(cx, to))
    }

    pub(super) fn confirmed_applied(
        &mut self,
        cx: &mut StepContext<'_, '_>,
    ) -> Result<(), StoreError> {
        self.instances.flows.is_confirming = false;
        self.propose_confirm(cx);
        Ok(())
    }

    /// Proposes to remove what destinations have. One such entry is on its way at a time: what is
    /// confirmed meanwhile goes with the next one.
    fn propose_confirm(&mut self, cx: &mut StepContext<'_, '_>) {
        if self.instances.flows.is_confirming {
            return;
        }
        let outbox = cx.partition().outbox();
        let confirmed = self.instances.flows.take_confirmed(CONFIRMED_AT_ONCE_MAX, |to, logged| {
            let it = outbox.destination(to)?;
            let logged = logged.min(it.last);
            (logged > it.confirmed).then_some(logged)
        });
        if !confirmed.is_empty() {
            self.instances.flows.is_confirming = true;
            self.propose(cx, Proposed::Confirm, &Command::Confirm(confirmed));
        }
    }
}

/// How many bytes of the outbox are looked through for the messages of one document.
const LOOKED_THROUGH_BYTES: usize = 256 << 10;

impl PartitionLeader {
    /// What a document has sent and no instance has confirmed, as far as it is soon found.
    pub(super) fn unconfirmed(
        &self,
        cx: &StepContext<'_, '_>,
        link: &str,
    ) -> Result<Vec<Finding>, StoreError> {
        let (mut findings, mut left) = (Vec::new(), LOOKED_THROUGH_BYTES);
        for (to, destination) in cx.partition().outbox().destinations() {
            if destination.waiting() == 0 || left == 0 {
                continue;
            }
            let messages = cx.partition().messages(cx.reader(), (to, 0), left)?;
            let read = messages.iter().map(|it| message_bytes(&it.from, &it.payload)).sum();
            left = left.saturating_sub(read);
            let count = messages.iter().filter(|message| message.from == link).count();
            if count == 0 {
                continue;
            }
            let way = self.instances.flows.known(to);
            let now = cx.now().steady_micros;
            let since = way.and_then(|way| way.flow.stands_since());
            let what = format!("messages to the immortal '{to}' that are not confirmed: {count}");
            let finding = if way.is_some_and(|way| way.is_absent) {
                let text = format!("{what}. There is no such immortal");
                let remedy = format!("register it: amrita immortal register {to}");
                Finding::stuck(WaitsFor::Destination, text, remedy)
            } else if since.is_some_and(|since| now.saturating_sub(since) > STANDS_MICROS) {
                let remedy = format!("see what it waits for: amrita explain /core/immortals/{to}");
                Finding::stuck(WaitsFor::Destination, what, remedy)
            } else {
                Finding::passing(WaitsFor::Destination, what)
            };
            findings.push(finding.for_micros(since.map(|since| now.saturating_sub(since))));
        }
        Ok(findings)
    }
}

fn put(cx: &mut StepContext<'_, '_>, to: &str, message: ToInstance) {
    let instance = to.to_owned();
    cx.put(Output::Do(PartitionAction::Send { instance, message }));
}

/// Messages of one document that follow one another go together.
fn send(
    cx: &mut StepContext<'_, '_>,
    (to, floor): (&str, u64),
    way: &mut Way,
    messages: Vec<KeptMessage>,
) {
    let now = cx.now().steady_micros;
    for run in messages.chunk_by(|one, next| one.from == next.from) {
        let (mut bytes, mut encoded) = (0, Vec::new());
        for KeptMessage { from, method, payload, answers, .. } in run {
            bytes += message_bytes(from, payload);
            let (method, payload, status) = (*method, payload.clone(), Status::Value);
            let message = match *answers {
                Some(id) => Message::Answer { id, status, payload },
                None => Message::Fork { method, payload },
            };
            put_message(&mut encoded, &message);
        }
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        way.flow.sent(last.number, bytes, now);
        way.flow.progress = Progress::Open { next: last.number + 1 };
        put(
            cx,
            to,
            ToInstance::Send {
                from: first.from.clone(),
                floor,
                first: first.number,
                count: last.number + 1 - first.number,
                messages: encoded.into(),
            },
        );
    }
}
