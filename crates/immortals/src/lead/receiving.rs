//! What other instances send, and which instances have ever sent something. Every sender must be
//! remembered, so that no message is taken twice. Senders that are no longer registered send
//! nothing more, and are forgotten when there are many.
//!
//! A group is never given to a second instance, so a replica that knows that a sender is gone takes
//! nothing more from it. A replica that does not know this could take a late message for a new one.
//! Therefore the log says how far the directory had come when senders were forgotten. An owner
//! whose directory has not come so far takes nothing from senders that the log does not name.

use bytes::Bytes;
use protocol::GroupId;
use protocol::immortal::{BlockHead, Fate, SourceKind, skip_messages};
use storage::StoreError;

use crate::context::{Context, Entries, Standing};
use crate::history::entry::{Entry, Lane, Origin};
use crate::history::input_state::{SENDERS_MANY, SENDERS_MAX};
use crate::io::Output;
use crate::lead::inbound::Sent;
use crate::lead::leader::Leader;
use crate::lead::log_queue::{Pending, Receipt};
use crate::lead::outbound::FlowKind;
use crate::wire::Between;

/// How many senders are forgotten at a time.
const FORGOTTEN_MAX: usize = 10_000;

impl Leader<'_> {
    /// A message of another instance's owner.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn between(
        &mut self,
        cx: &Context<'_>,
        from: GroupId,
        message: Between,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match message {
            Between::Ack { lane, logged, resend_from } => {
                return self.acked(cx, from, lane, logged, resend_from, outputs);
            }
            Between::Probe { lane } => self.probed(cx, from, lane, outputs),
            Between::Send { lane, name, floor, first, count, messages } => {
                if self.takes_from(cx.entries, from)
                    && !is_of_a_former_life(cx.entries, from, &name)
                {
                    let sent = Sent { from, lane, name, floor, first, count, messages };
                    self.take_sent(sent, outputs);
                }
            }
        }
        Ok(())
    }

    /// Another instance's owner asks which of its messages are here.
    fn probed(&mut self, cx: &Context<'_>, from: GroupId, lane: Lane, outputs: &mut Vec<Output>) {
        if self.lead.inbound.is_accepting && self.takes_from(cx.entries, from) {
            let logged = self.machine.history.input_state.logged_of(from, lane);
            let next = self.lead.inbound.next_of(from, lane).unwrap_or(logged + 1);
            let message = Between::Ack { lane, logged, resend_from: Some(next) };
            outputs.push(Output::Between { to: from, message });
        }
    }

    /// Whether something of that sender may be taken.
    fn takes_from(&self, entries: &dyn Entries, from: GroupId) -> bool {
        let (inbound, state) = (&self.lead.inbound, &self.machine.history.input_state);
        // What this sender sends now would be logged after the entry that forgets it, and make the
        // sender known again.
        if inbound.is_forgetting(from) {
            return false;
        }
        if state.knows(from) || inbound.next_of(from, Lane::Stream).is_some() {
            return true;
        }
        entries.directory() >= state.directory
            && entries.standing(from) == Standing::Registered
            && state.senders_count() < SENDERS_MAX
    }

    /// Takes messages of a sender. Those that follow the last one go into the log. When there are
    /// none, or when some are missing before them, the sender is told at once.
    fn take_sent(&mut self, sent: Sent, outputs: &mut Vec<Output>) {
        let (from, lane) = (sent.from, sent.lane);
        let state = &self.machine.history.input_state;
        let logged = state.logged_of(from, lane);
        if !self.lead.inbound.is_accepting || self.lead.queue.is_full() {
            return;
        }
        if let Lane::Impulses { session } = lane {
            // Impulses of an earlier ownership of the sender would not fit into the log.
            let logged_later =
                state.impulses.get(&from).is_some_and(|taken| taken.session > session);
            if logged_later || self.lead.inbound.has_later_session(from, session) {
                return;
            }
            self.lead.inbound.forget_sessions_before(from, session);
        }
        self.pass_over_what_was_lost(&sent, logged, outputs);
        let Sent { name, floor, first, count, messages, .. } = sent;
        let known = self.lead.inbound.next_of(from, lane);
        let next = known.unwrap_or(if logged == 0 { floor } else { logged + 1 });
        let ack = |resend_from| Between::Ack { lane, logged, resend_from };
        if first > next {
            return outputs.push(Output::Between { to: from, message: ack(Some(next)) });
        }
        self.lead.inbound.repeats += next.min(first + count) - first;
        if first + count <= next {
            return outputs.push(Output::Between { to: from, message: ack(None) });
        }
        let skip = next - first;
        // Messages that another owner sends can be cut after `skip` messages. If not, they are not
        // taken, and the sender sends them again.
        let Ok(messages) = skip_messages(&messages, skip) else { return };
        self.lead.inbound.set_next(from, lane, first + count);
        self.put_sent(from, lane, name, next, count - skip, messages);
    }

    fn put_sent(
        &mut self,
        from: GroupId,
        lane: Lane,
        name: String,
        first: u64,
        count: u64,
        messages: Bytes,
    ) {
        let (kind, origin, shown) = match lane {
            Lane::Stream => (SourceKind::Instance, Origin::Stream { from }, first),
            Lane::Impulses { session } => {
                (SourceKind::Impulses, Origin::Impulses { from, session, first }, 0)
            }
        };
        let head = BlockHead { kind, name, first: shown, count };
        let receipt = Receipt::Sender { group: from, lane };
        self.lead.queue.put(Pending { head, origin, messages, receipt });
    }

    /// A sender has forgotten messages that were confirmed to it, and this log does not have them:
    /// they were lost with the memory of a majority. The stream goes on with the first message that
    /// the sender still has. An entry between what came before and what follows says so. If the
    /// ownership is lost before that entry is logged, the next owner finds the same.
    fn pass_over_what_was_lost(&mut self, sent: &Sent, logged: u64, outputs: &mut Vec<Output>) {
        let (from, lane, floor) = (sent.from, sent.lane, sent.floor);
        let known = self.lead.inbound.next_of(from, lane);
        // No message of a sender that is not known can be missing.
        let Some(next) = known.or((logged > 0).then_some(logged + 1)) else { return };
        if !self.machine.settings.memory || floor <= next {
            return;
        }
        let up_to = floor - 1;
        outputs.push(Output::Note(format!(
            "{} {next} to {up_to} of '{}' were confirmed by '{}' and are lost",
            if lane == Lane::Stream { "messages" } else { "impulses" },
            sent.name,
            self.machine.identity.name
        )));
        self.lead.inbound.set_next(from, lane, floor);
        self.lead.queue.put_between(Entry::Lost { sender: from, lane, up_to });
    }

    /// Forgets senders that are gone, when there are many.
    pub(crate) fn forget_senders(&mut self, cx: &Context<'_>, outputs: &mut Vec<Output>) {
        let now = cx.now.steady_micros;
        let state = &self.machine.history.input_state;
        let has_many = state.senders_count() >= SENDERS_MANY;
        if !has_many || !self.lead.queue.is_idle() || now < self.lead.inbound.look_at() {
            return;
        }
        self.lead.inbound.looked(now);
        let known = state.senders().into_iter();
        let gone = known.filter(|group| cx.entries.standing(*group) == Standing::Gone);
        let senders: Vec<GroupId> = gone.take(FORGOTTEN_MAX).collect();
        if senders.is_empty() {
            return;
        }
        self.lead.inbound.forget(&senders);
        let entry = Entry::Forget { senders, directory: cx.entries.directory() };
        self.lead.queue.propose(&entry, Receipt::Forgotten, outputs);
    }

    /// A destination says how far it has come.
    fn acked(
        &mut self,
        cx: &Context<'_>,
        from: GroupId,
        lane: Lane,
        logged: u64,
        resend_from: Option<u64>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let outbound = &mut self.lead.outbound;
        let kind = match lane {
            Lane::Stream => FlowKind::Stream,
            Lane::Impulses { session } if session == outbound.impulses.session => {
                FlowKind::Impulses
            }
            Lane::Impulses { .. } => return Ok(()),
        };
        let Some((id, flow)) = outbound.flow_of(from, kind) else { return Ok(()) };
        if cx.entries.group_of_stream(&id.destination) != Some(from) {
            return Ok(());
        }
        flow.acked(logged, resend_from, cx.now.steady_micros);
        let astray =
            |why| StoreError::failed(format!("what is kept for '{}': {why}", id.destination));
        match kind {
            FlowKind::Impulses => {
                let told = outbound.impulses.confirm(&id.destination, logged).map_err(astray)?;
                for number in told {
                    self.tell_fate(number, Fate::Logged, 0);
                }
                if let Some(mut primary) = self.primary() {
                    primary.send_to(cx, &id, outputs)?;
                }
            }
            FlowKind::Stream => {
                if let Some(running) = self.machine.seat.running_mut() {
                    running.output.confirm(&id.destination, logged).map_err(astray)?;
                    self.lead.queue.trim(&id.destination, logged);
                }
                self.lead.outbound.touch(id);
            }
        }
        Ok(())
    }
}

/// Whether the name of a sender now belongs to another instance. Late messages of the former
/// instance must not be mixed with those of the new one.
fn is_of_a_former_life(entries: &dyn Entries, from: GroupId, name: &str) -> bool {
    match entries.resolve(name) {
        // Groups are given out in order.
        Some(present) => present > from,
        None => entries.standing(from) == Standing::Gone,
    }
}
