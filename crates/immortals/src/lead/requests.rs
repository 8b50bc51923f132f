//! What people want of the owner.

use bytes::Bytes;
use protocol::ReplicaId;
use protocol::immortal::{BlockHead, Message, SourceKind, put_message};

use crate::adapter::MESSAGE_BYTES_MAX;
use crate::context::Context;
use crate::history::entry::{Entry, Origin};
use crate::history::input_state::SKIPPED_MAX;
use crate::history::keys::ImpulseKey;
use crate::io::{Output, Request, Response};
use crate::lead::leader::{Leader, LeaderView};
use crate::lead::log_queue::{Pending, Receipt};
use crate::machine::instance::Instance;

/// The longest payload of an impulse from outside, so that its message is not longer than one of a
/// program.
const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 100;

/// After its program has gone, or its owner, an instance is expected to have another one within
/// this time, in microseconds. Until then whoever wants something of it is asked to come again.
const TAKEOVER_MICROS: u64 = 10_000_000;

fn refused<T>(text: impl Into<String>) -> Result<T, Response> {
    Err(Response::Refused(text.into()))
}

impl LeaderView<'_> {
    /// Why the owner takes no inputs: for now, or until a person does something.
    fn why_not_accepting(&self, now: u64) -> Response {
        let Instance { identity, settings, standbys, seat, health, .. } = self.machine;
        let name = &identity.name;
        let not_now = |what: &str| Response::NotNow(format!("{what}: try again"));
        if standbys.has_good_program(settings, identity.me) {
            return not_now("its program on another node takes over");
        }
        if let Some(held) = standbys.held().chain(health.held.as_ref()).next() {
            let input = held.input;
            return Response::Refused(format!(
                "it is held at input {input}, on which its programs fail: mend them and say \
                 'amrita immortal release {name}', or take the input out with 'amrita immortal \
                 skip {name} {input}'"
            ));
        }
        if !seat.is_vacant() {
            return not_now("its program is being given its state");
        }
        let has_begun = self.machine.inputs() > 0;
        if has_begun && now < self.lead.inbound.changed_at.saturating_add(TAKEOVER_MICROS) {
            return not_now("its program has gone just now, or its owner has");
        }
        Response::Refused("no program is attached to any replica: start one".to_owned())
    }

    fn may_skip(&self, cx: &Context<'_>, input: u64, is_upgrade: bool) -> Result<(), Response> {
        let inputs = self.machine.inputs();
        if inputs == 0 {
            return refused("it has no inputs yet");
        }
        if input == 0 || input > inputs {
            return refused(format!("there is no input {input}; it has inputs 1 to {inputs}"));
        }
        let machine = self.machine;
        let handled = [
            machine.seat.done(),
            machine.base.record.input_state.inputs,
            machine.history.input_state.handled,
            machine.standbys.done_max(),
        ];
        if handled.iter().any(|handled| *handled >= input) {
            return refused(format!("a program has handled input {input} already"));
        }
        if is_upgrade {
            return Ok(());
        }
        match machine.logged_message(cx, input) {
            Some((_, Message::Start { .. } | Message::Upgrade { .. })) => {
                refused(format!("without input {input} the programs' states would not fit the log"))
            }
            Some(_) => Ok(()),
            None => refused(format!("input {input} is no longer in the log")),
        }
    }
}

impl Leader<'_> {
    pub(crate) fn request(
        &mut self,
        cx: &Context<'_>,
        ticket: u64,
        request: Request,
        outputs: &mut Vec<Output>,
    ) {
        let done = match request {
            Request::Checkpoint => self.want_checkpoint().map(Some),
            Request::Move { to } => self.move_to(cx, to, outputs).map(Some),
            Request::Skip { input } => self.skip(cx, ticket, input, outputs).map(|()| None),
            Request::Impulse { from, method, payload, key } => {
                let now = cx.now.steady_micros;
                self.impulse_from_outside((ticket, now), &from, (method, payload), key)
            }
        };
        match done {
            Ok(Some(input)) => {
                let response = Response::Done { input };
                outputs.push(Output::Respond { ticket, response });
            }
            // The response comes when the impulse is logged.
            Ok(None) => {}
            Err(response) => outputs.push(Output::Respond { ticket, response }),
        }
    }

    fn want_checkpoint(&mut self) -> Result<u64, Response> {
        if self.machine.seat.is_vacant() {
            return refused(
                "no program is attached to the owner's replica: start one beside that node",
            );
        }
        self.machine.checkpoint.is_wanted = true;
        Ok(self.machine.inputs())
    }

    fn impulse_from_outside(
        &mut self,
        (ticket, now): (u64, u64),
        from: &str,
        (method, payload): (i64, Bytes),
        key: Option<ImpulseKey>,
    ) -> Result<Option<u64>, Response> {
        if let Some(key) = key {
            match self.machine.history.input_state.keys.input(key) {
                Ok(Some(input)) => return Ok(Some(input)),
                Ok(None) => {}
                Err(()) => return Err(Response::KeyReused),
            }
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return refused(format!("an impulse has up to {PAYLOAD_BYTES_MAX} bytes"));
        }
        if self.lead.queue.is_full() {
            let text = "too much waits for its log already: try again";
            return Err(Response::NotNow(text.to_owned()));
        }
        if !self.lead.inbound.is_accepting {
            return Err(self.view().why_not_accepting(now));
        }
        let mut messages = Vec::new();
        put_message(&mut messages, &Message::Impulse { method, payload });
        let name = format!("client/{from}");
        let head = BlockHead { kind: SourceKind::Impulses, name, first: 0, count: 1 };
        let origin = key.map_or(Origin::Outside, Origin::Keyed);
        let receipt = Receipt::Ticket(ticket);
        self.lead.queue.put(Pending { head, origin, messages: messages.into(), receipt });
        Ok(None)
    }

    /// Takes an input out, if no program has handled it. If one had, programs would differ.
    fn skip(
        &mut self,
        cx: &Context<'_>,
        ticket: u64,
        input: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Response> {
        let state = &self.machine.history.input_state;
        if state.skipped.len() >= SKIPPED_MAX {
            return refused(format!(
                "{SKIPPED_MAX} inputs were taken out: take a checkpoint first"
            ));
        }
        let upgrading = state.upgrading.filter(|upgrading| upgrading.input == input);
        self.view().may_skip(cx, input, upgrading.is_some())?;
        match upgrading {
            Some(upgrading) => self.skip_upgrade(ticket, upgrading, outputs),
            None => {
                let (entry, receipt) = (Entry::Skip { input }, Receipt::Skip { ticket, input });
                self.lead.queue.propose(&entry, receipt, outputs);
                Ok(())
            }
        }
    }

    fn move_to(
        &mut self,
        cx: &Context<'_>,
        to: ReplicaId,
        outputs: &mut Vec<Output>,
    ) -> Result<u64, Response> {
        let inputs = self.machine.inputs();
        if to == self.machine.identity.me {
            return Ok(inputs);
        }
        if !self.machine.settings.replicas.contains(&to) {
            return refused("that node has no replica of it");
        }
        if !self.machine.standbys.is_ready(to) {
            return refused("no program that has caught up is attached to that node's replica");
        }
        let now = cx.now.steady_micros;
        self.lead.succession.wish_for(to, now);
        self.lead.succession.hand_over(now);
        outputs.push(Output::HandOver { to });
        Ok(inputs)
    }
}
