//! When a leader has something to do that only time brings.

use crate::history::input_state::SENDERS_MANY;
use crate::lead::leader::{LeaderView, Reach};

impl LeaderView<'_> {
    /// In steady microseconds. 0: at the next tick.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let own = [
            self.machine.wakes_at(),
            self.checkpoint_at(),
            self.primary_at(),
            self.senders_at(),
            self.hands_over_at(),
            self.gives_up_at(),
        ];
        own.into_iter().flatten().min()
    }

    fn checkpoint_at(&self) -> Option<u64> {
        let (machine, schedule) = (self.machine, &self.lead.checkpoints);
        if !machine.base.has_state() {
            return None;
        }
        let late = self.late().into_iter().filter(|id| !machine.transfers.is_sending_to(*id));
        let late = late.map(|id| schedule.too_late_at(id)).min();
        let me = machine.identity.me;
        let can_be_taken = machine.seat.running().is_some()
            || !machine.standbys.ready(&machine.settings, me).is_empty();
        let due = match machine.checkpoint.is_wanted {
            true => Some(0),
            false => self
                .is_checkpoint_due()
                .then(|| schedule.waits_until(machine.base.position()).unwrap_or(0)),
        };
        [late, due.filter(|_| can_be_taken)].into_iter().flatten().min()
    }

    /// Timers, destinations that do not answer, what is logged without inputs.
    fn primary_at(&self) -> Option<u64> {
        let running = self.machine.seat.running().filter(|running| running.is_primary())?;
        let lead = self.lead;
        let mut timers = running.output.awaits.timers();
        let timer = timers.find(|(_, id)| !lead.own.is_resolved(*id));
        let timer = timer
            .filter(|_| self.reach() != Reach::Nowhere)
            .map(|(due, _)| lead.clock.steady_at(due));
        let quiet = lead.queue.quiet_at(self.mark().as_ref());
        [timer, lead.outbound.wake, quiet].into_iter().flatten().min()
    }

    fn senders_at(&self) -> Option<u64> {
        let has_many = self.machine.history.input_state.senders_count() >= SENDERS_MANY;
        has_many.then(|| self.lead.inbound.look_at())
    }
}
