//! Messages of the primary leave for their destinations.

use protocol::GroupId;
use protocol::flow::Progress;
use protocol::immortal::{BlockHead, SourceKind};
use storage::StoreError;

use crate::context::Context;
use crate::history::entry::{Lane, Origin};
use crate::io::Output;
use crate::lead::leader::{Leader, Primary, Reach};
use crate::lead::log_queue::{Pending, Receipt};
use crate::lead::outbound::{FlowId, FlowKind, WINDOW_BYTES};
use crate::wire::Between;

impl Primary<'_> {
    /// Sends whatever may go, to every destination for which there may be something.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn send_all(
        &mut self,
        cx: &Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for id in self.lead.outbound.take_touched() {
            self.send_to(cx, &id, outputs)?;
        }
        self.send_to_self(cx)
    }

    /// Sends what may go to one destination.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn send_to(
        &mut self,
        cx: &Context<'_>,
        id: &FlowId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if id.destination == self.identity.name {
            return Ok(());
        }
        let outbound = &mut self.lead.outbound;
        if id.kind == FlowKind::Stream && self.reach != Reach::Everywhere {
            // Messages of the new version leave only when the log says that the upgrade is made.
            outbound.touch(id.clone());
            return Ok(());
        }
        let (session, now) = (outbound.impulses.session, cx.now.steady_micros);
        let (has_some, lane) = match id.kind {
            FlowKind::Impulses => {
                (outbound.impulses.stream(&id.destination), Lane::Impulses { session })
            }
            FlowKind::Stream => (self.running.output.streams.get(&id.destination), Lane::Stream),
        };
        if has_some.is_none_or(|stream| stream.kept.is_empty()) {
            return Ok(());
        }
        outbound.look_later(now);
        let Some(to) = cx.entries.group_of_stream(&id.destination) else { return Ok(()) };
        let flow = outbound.flow(id, to);
        match flow.progress {
            Progress::Unknown => {
                flow.begin_anew(Progress::Asked { at: now });
                outputs.push(Output::Between { to, message: Between::Probe { lane } });
                Ok(())
            }
            Progress::Asked { .. } => Ok(()),
            Progress::Open { next } => self.send_from(cx, id, to, lane, next, outputs),
        }
    }

    /// Sends messages from a number on, as many as may be on their way.
    fn send_from(
        &mut self,
        cx: &Context<'_>,
        id: &FlowId,
        to: GroupId,
        lane: Lane,
        next: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let mut next = next;
        loop {
            let outbound = &mut self.lead.outbound;
            let has_room = outbound.flow(id, to).room() > 0;
            let stream = match id.kind {
                FlowKind::Impulses => outbound.impulses.stream(&id.destination),
                FlowKind::Stream => self.running.output.streams.get(&id.destination),
            };
            let stream = stream.expect("the caller has looked");
            let (floor, name) = (stream.floor(), &id.destination);
            next = next.max(floor);
            let run = match has_room {
                true => self.spill.next_run(cx.store, &cx.space, name, stream, next)?,
                false => None,
            };
            let flow = outbound.flow(id, to);
            let Some(run) = run else {
                flow.progress = Progress::Open { next };
                return Ok(());
            };
            next = run.first + run.count;
            flow.sent(next - 1, run.messages.len(), cx.now.steady_micros);
            let message = Between::Send {
                lane,
                name: self.identity.name.clone(),
                floor,
                first: run.first,
                count: run.count,
                messages: run.messages,
            };
            outputs.push(Output::Between { to, message });
        }
    }

    /// The program's messages to itself go straight into its own log.
    fn send_to_self(&mut self, cx: &Context<'_>) -> Result<(), StoreError> {
        let name = &self.identity.name;
        let Some(stream) = self.running.output.streams.get(name) else { return Ok(()) };
        if self.reach == Reach::Nowhere {
            return Ok(());
        }
        let (queue, own) = (&mut self.lead.queue, &mut self.lead.own);
        while queue.bytes() < WINDOW_BYTES
            && let Some(run) =
                self.spill.next_run(cx.store, &cx.space, name, stream, own.next_to_self)?
        {
            let (kind, name) = (SourceKind::Instance, name.clone());
            let head = BlockHead { kind, name, first: run.first, count: run.count };
            own.next_to_self = run.first + run.count;
            let origin = Origin::Stream { from: self.identity.group };
            queue.put(Pending { head, origin, messages: run.messages, receipt: Receipt::None });
        }
        Ok(())
    }
}

impl Leader<'_> {
    /// A destination has another owner, or its owner is reached again. The destination is asked how
    /// far it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn owner_changed(
        &mut self,
        cx: &Context<'_>,
        group: GroupId,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let is_there = |id: &FlowId| cx.entries.group_of_stream(&id.destination) == Some(group);
        self.lead.outbound.ask_anew(|id, _| is_there(id));
        match self.primary() {
            Some(mut primary) => primary.send_all(cx, outputs),
            None => Ok(()),
        }
    }

    /// Asks the destinations again that do not answer, and looks for those that were not there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn retry(
        &mut self,
        cx: &Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        let Some(mut primary) = self.primary() else { return Ok(()) };
        if primary.lead.outbound.wake.is_none_or(|wake| now < wake) {
            return Ok(());
        }
        primary.lead.outbound.retry(now);
        for destination in primary.running.output.kept_destinations() {
            primary.lead.outbound.touch(FlowId::stream(destination));
        }
        primary.send_all(cx, outputs)
    }
}
