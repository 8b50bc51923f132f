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

/// The longest payload of an impulse from outside, so that its message is not longer than one of a
/// program.
const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 100;

fn refused<T>(text: impl Into<String>) -> Result<T, Response> {
    Err(Response::Refused(text.into()))
}

impl LeaderView<'_> {
    /// Why the owner takes no inputs, and what to do.
    fn why_not_accepting(&self) -> String {
        let others = self.machine.standbys.held();
        match others.chain(self.machine.health.trouble.held.as_ref()).next() {
            None => "no program is attached to any replica: start one".to_owned(),
            Some(held) => {
                let (name, input) = (&self.machine.identity.name, held.input);
                format!(
                    "it is held at input {input}, on which its programs fail: mend them and say \
                     'amrita immortal release {name}', or take the input out with 'amrita immortal \
                     skip {name} {input}'"
                )
            }
        }
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
                self.impulse_from_outside(ticket, &from, (method, payload), key)
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
        ticket: u64,
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
            return refused("too much waits for its log already: try again");
        }
        if !self.lead.inbound.is_accepting {
            return refused(self.view().why_not_accepting());
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
