//! What a leader puts into the log, and what follows when it is there.

use protocol::immortal::{Fate, Message};
use storage::StoreError;

use crate::base::record::read_chunk;
use crate::context::Context;
use crate::history::entry::Entry;
use crate::history::input_state::Logged;
use crate::io::{Output, Response};
use crate::lead::leader::{Leader, Primary};
use crate::lead::log_queue::Receipt;
use crate::seat::states::{GenesisPart, Seat};
use crate::wire::Between;

/// A program that is this many bytes of inputs behind gets no more into its log before it has
/// caught up. Senders keep what they have.
const BACKLOG_BYTES_MAX: u64 = 32 << 20;

/// How many bytes of the first state may be on their way into the log. The rest waits in the store.
const GENESIS_BYTES_IN_FLIGHT_MAX: usize = 8 << 20;

impl Leader<'_> {
    /// An entry of this term is in the log.
    pub(crate) fn landed(&mut self, logged: &Logged, outputs: &mut Vec<Output>) {
        let mut input = logged.first;
        for (count, receipt) in self.lead.queue.landed() {
            self.fulfil(receipt, input, outputs);
            input += count;
        }
    }

    fn fulfil(&mut self, receipt: Receipt, input: u64, outputs: &mut Vec<Output>) {
        match receipt {
            Receipt::None => {}
            Receipt::Sender { group, lane } => {
                let logged = self.machine.history.input_state.logged_of(group, lane);
                let message = Between::Ack { lane, logged, resend_from: None };
                outputs.push(Output::Between { to: group, message });
            }
            Receipt::Impulse(id) => self.tell_fate(id, Fate::Logged, input),
            Receipt::Upgrade => self.lead.upgrade.is_coming = false,
            Receipt::Forgotten => self.lead.inbound.has_forgotten(),
            Receipt::Genesis { bytes } => {
                if let Some(genesis) = &mut self.lead.genesis {
                    genesis.in_flight -= bytes;
                }
            }
            Receipt::Resolved { id } => self.lead.own.landed(id, input),
            Receipt::Ticket(ticket) => {
                let response = Response::Done { input };
                outputs.push(Output::Respond { ticket, response });
            }
            Receipt::Skip { ticket, input } => {
                let response = Response::Done { input };
                outputs.push(Output::Respond { ticket, response });
            }
        }
    }

    /// Proposes the inputs that wait.
    pub(crate) fn flush(&mut self, cx: &Context<'_>, outputs: &mut Vec<Output>) {
        if self.machine.seat.backlog(&self.machine.history) > BACKLOG_BYTES_MAX {
            return;
        }
        let (time, mark) = (self.lead.clock.now(cx.now), self.view().mark());
        self.lead.queue.flush(time, mark, cx.now.steady_micros, outputs);
    }

    /// Proposes what came without inputs, after a while.
    pub(crate) fn log_quietly(&mut self, cx: &Context<'_>, outputs: &mut Vec<Output>) {
        let mark = self.view().mark();
        if self.machine.seat.is_primary() {
            let time = self.lead.clock.now(cx.now);
            self.lead.queue.log_quietly(time, mark, cx.now.steady_micros, outputs);
        }
    }

    /// The first input of all.
    pub(crate) fn start(&mut self) {
        let state = &self.machine.history.input_state;
        let has_begun = state.inputs > 0 || self.lead.own.has_started;
        if has_begun || !self.machine.seat.is_primary() {
            return;
        }
        let payload = state.genesis.clone().unwrap_or_default();
        self.lead.own.has_started = true;
        self.lead.queue.put_own(&Message::Start { payload }, Receipt::None);
    }

    /// Takes messages of others as soon as there is a program that will handle them.
    pub(crate) fn accept(&mut self, now: u64, outputs: &mut Vec<Output>) {
        let inbound = &mut self.lead.inbound;
        let is_there = self.machine.seat.running().is_some();
        let has_begun = self.machine.inputs() > 0 || self.lead.own.has_started;
        // What was accepted once stays so while there is a program.
        let is_accepting = is_there && (has_begun || inbound.is_accepting);
        if inbound.set_accepting(is_accepting, now) {
            outputs.push(Output::Accepting);
        }
    }

    /// Proposes pieces of the first state, as many as may be on their way.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn upload_genesis(
        &mut self,
        cx: &Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(genesis) = &mut self.lead.genesis else { return Ok(()) };
        let is_given = genesis.end.is_some();
        let is_coming = matches!(
            &self.machine.seat,
            Seat::Genesis(seat) if seat.part == GenesisPart::Giving
        );
        if !is_given && !is_coming {
            // The program has gone before it had given all of it.
            let state = self.lead.genesis.take().map(|genesis| genesis.state);
            self.machine.base.discard(state);
            return Ok(());
        }
        let pieces = genesis.state.next();
        while genesis.next < pieces && genesis.in_flight < GENESIS_BYTES_IN_FLIGHT_MAX {
            let blob = genesis.state.blob();
            let chunk = read_chunk(cx.store, &cx.space, &blob, genesis.next)?;
            let chunk = chunk.ok_or_else(|| {
                StoreError::failed(format!("piece {} of the first state is missing", genesis.next))
            })?;
            let bytes = chunk.len();
            let entry = Entry::Genesis { first: genesis.next == 0, chunk, last: None };
            genesis.in_flight += bytes;
            genesis.next += 1;
            self.lead.queue.propose(&entry, Receipt::Genesis { bytes }, outputs);
        }
        if genesis.next < pieces || !is_given {
            return Ok(());
        }
        if let Some(genesis) = self.lead.genesis.take() {
            let chunk = bytes::Bytes::new();
            let entry = Entry::Genesis { first: pieces == 0, chunk, last: genesis.end };
            self.lead.queue.propose(&entry, Receipt::None, outputs);
            self.machine.base.discard(Some(genesis.state));
        }
        Ok(())
    }
}

impl Primary<'_> {
    /// Puts a timer, or the result of a side effect, on its way into the log.
    pub(crate) fn resolve(&mut self, id: u64, message: &Message) {
        self.lead.own.resolve(id);
        self.lead.queue.put_own(message, Receipt::Resolved { id });
    }

    /// Fires the timers whose time has come.
    pub(crate) fn fire_timers(&mut self, cx: &Context<'_>) {
        let now = self.lead.clock.now(cx.now);
        let due = self.running.output.awaits.timers().take_while(|(due, _)| *due <= now);
        let due: Vec<u64> =
            due.map(|(_, id)| id).filter(|id| !self.lead.own.is_resolved(*id)).collect();
        for id in due {
            self.resolve(id, &Message::Timer { id });
        }
        self.lead.own.told(self.running.told);
    }
}
