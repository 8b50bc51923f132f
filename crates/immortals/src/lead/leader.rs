//! A leader at work is the machine and its ownership together. The primary is a live seat inside a
//! leader.

use std::collections::BTreeSet;

use protocol::Term;
use protocol::immortal::{Fate, ToProgram};

use crate::context::Context;
use crate::history::entry::Mark;
use crate::identity::Identity;
use crate::io::{Output, Response};
use crate::lead::clock::Clock;
use crate::lead::inbound::Inbound;
use crate::lead::log_queue::{ImpulseNumber, LogQueue, Receipt};
use crate::lead::outbound::{FlowId, Outbound};
use crate::lead::own_inputs::OwnInputs;
use crate::lead::schedule::{CheckpointSchedule, Succession};
use crate::lead::state::Lead;
use crate::lead::upgrade::UpgradeCourse;
use crate::machine::instance::Instance;
use crate::output::spill::Spill;
use crate::seat::running::{Running, Stage};
use crate::seat::states::Seat;

/// How often a replica may lead in one term, as a power of two, before the sessions of impulses run
/// into those of the next term.
const OWNERSHIPS_BITS: u32 = 20;

pub(crate) struct Leader<'a> {
    pub(crate) machine: &'a mut Instance,
    pub(crate) lead: &'a mut Lead,
}

/// A leader, read-only.
#[derive(Clone, Copy)]
pub(crate) struct LeaderView<'a> {
    pub(crate) machine: &'a Instance,
    pub(crate) lead: &'a Lead,
}

/// The program whose outputs leave.
pub(crate) struct Primary<'a> {
    pub(crate) running: &'a mut Running,
    pub(crate) lead: &'a mut Lead,
    pub(crate) identity: &'a Identity,
    pub(crate) spill: &'a Spill,
    /// How far its outputs may go while an upgrade is open.
    pub(crate) reach: Reach,
}

/// How far what the program says may go while the outcome of an upgrade is not logged. Until then
/// nothing that the new version says may outlive the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// No upgrade is open, or the program was not told of it.
    Everywhere,
    /// The outcome is on its way into the log. What is put behind the outcome there is as certain
    /// as the outcome itself. Nothing leaves the node.
    OwnLog,
    /// Nothing leaves, and nothing is put on its way into the log.
    Nowhere,
}

impl<'a> LeaderView<'a> {
    pub(crate) fn new(machine: &'a Instance, lead: &'a Lead) -> Self {
        Self { machine, lead }
    }

    /// How far what the program here says may go.
    pub(crate) fn reach(&self) -> Reach {
        match self.machine.open_upgrade_told() {
            None => Reach::Everywhere,
            Some(open) if self.lead.upgrade.ends_well(open.input) => Reach::OwnLog,
            Some(_) => Reach::Nowhere,
        }
    }

    /// What the program has sent, as a mark to be logged for others to compare with. None while
    /// nothing may go into the log: programs that send something else later would seem to differ.
    pub(crate) fn mark(&self) -> Option<Mark> {
        if self.reach() == Reach::Nowhere {
            return None;
        }
        self.machine.seat.running()?.mark()
    }
}

impl<'a> Leader<'a> {
    pub(crate) fn new(machine: &'a mut Instance, lead: &'a mut Lead) -> Self {
        Self { machine, lead }
    }

    pub(crate) fn view(&self) -> LeaderView<'_> {
        LeaderView::new(self.machine, self.lead)
    }

    /// The primary, if there is one.
    pub(crate) fn primary(&mut self) -> Option<Primary<'_>> {
        let reach = self.view().reach();
        let Instance { identity, spill, seat, .. } = &mut *self.machine;
        match seat {
            Seat::Running(running) if running.is_primary() => {
                let lead = &mut *self.lead;
                Some(Primary { running, lead, identity, spill, reach })
            }
            _ => None,
        }
    }

    /// Makes the program the primary, if it has come far enough. True when it has just become the
    /// primary.
    pub(crate) fn make_primary(&mut self, cx: &Context<'_>) -> bool {
        let Instance { identity, history, seat, .. } = &mut *self.machine;
        let Seat::Running(running) = seat else { return false };
        let lead = &mut *self.lead;
        if !running.may_become_primary(lead.began_after) {
            return false;
        }
        running.stage = Stage::Primary;
        running.connection.heard = cx.now.steady_micros;
        running.connection.tell(&ToProgram::Primary { term: lead.term });
        lead.short.clear();
        let logged = history.input_state.received.get(&identity.group).copied().unwrap_or(0);
        lead.own.next_to_self = lead.own.next_to_self.max(logged + 1);
        lead.outbound.forget_streams();
        for (destination, stream) in &running.output.streams {
            lead.outbound.touch(FlowId::stream(destination));
            // What was confirmed in an earlier ownership may not have come into the log before that
            // ownership ended. The messages are not kept here, so no destination will confirm them
            // again. So the standbys are told once more.
            if stream.confirmed > 0 && *destination != identity.name {
                lead.queue.trim(destination, stream.confirmed);
            }
        }
        true
    }

    /// Tells the program what became of an impulse, unless the program is gone: another program has
    /// numbers of its own.
    pub(crate) fn tell_fate(&mut self, id: ImpulseNumber, fate: Fate, input: u64) {
        if let Some(connection) = self.machine.seat.connection_of(id.program) {
            connection.tell(&ToProgram::Fate { number: id.number, fate, input });
        }
    }

    /// The ownership has ended: says what became of each open request and impulse. A request that
    /// was only waiting surely did not happen.
    pub(crate) fn end(machine: &mut Instance, lead: Lead, outputs: &mut Vec<Output>) {
        if let Seat::Running(running) = &mut machine.seat
            && running.is_primary()
        {
            running.stage = Stage::Live;
            running.connection.tell(&ToProgram::Standby);
        }
        let Lead { queue, outbound, genesis, .. } = lead;
        let (in_flight, waiting) = queue.into_receipts();
        let in_flight = in_flight.into_iter().map(|receipt| (receipt, Response::Unknown));
        let waiting = waiting.into_iter().map(|receipt| (receipt, Response::NotOwner));
        let mut open: Vec<ImpulseNumber> = Vec::new();
        for (receipt, response) in in_flight.chain(waiting) {
            match receipt {
                Receipt::Ticket(ticket) | Receipt::Skip { ticket, .. } => {
                    outputs.push(Output::Respond { ticket, response });
                }
                Receipt::Impulse(id) => open.push(id),
                Receipt::None
                | Receipt::Sender { .. }
                | Receipt::Resolved { .. }
                | Receipt::Upgrade
                | Receipt::Forgotten
                | Receipt::Genesis { .. } => {}
            }
        }
        open.extend(outbound.impulses.into_numbers());
        for id in open {
            if let Some(connection) = machine.seat.connection_of(id.program) {
                let fate = ToProgram::Fate { number: id.number, fate: Fate::Unknown, input: 0 };
                connection.tell(&fate);
            }
        }
        machine.base.discard(genesis.map(|genesis| genesis.state));
        if matches!(machine.seat, Seat::Genesis(_)) {
            let text = "another replica became the owner before the first state was logged";
            machine.close_seat("RELOAD", text, outputs);
        }
    }
}

impl Lead {
    pub(crate) fn begin(machine: &mut Instance, cx: &Context<'_>, term: Term) -> Self {
        assert!(!machine.seat.is_primary(), "Invariant: there is one ownership at a time");
        let before = machine.ownerships.begin(term);
        let now = cx.now.steady_micros;
        Self {
            term,
            began_after: machine.inputs(),
            clock: Clock::new(machine.history.input_state.time, cx.now),
            queue: LogQueue::new(now),
            inbound: Inbound::new(now),
            outbound: Outbound::new((term.0 << OWNERSHIPS_BITS) + before),
            own: OwnInputs::default(),
            upgrade: UpgradeCourse::default(),
            genesis: None,
            short: BTreeSet::new(),
            checkpoints: CheckpointSchedule::default(),
            succession: Succession::default(),
        }
    }
}
