//! Who should own the instance, and who takes its checkpoints. The owner says when a checkpoint is
//! due. A standby takes it while the primary goes on, and hands it to all others. Without a standby
//! the primary itself takes it. A replica that was away at that time gets the checkpoint from the
//! owner later.

use protocol::ReplicaId;
use storage::StoreError;

use crate::context::Context;
use crate::io::{Output, Settings};
use crate::lead::leader::{Leader, LeaderView};
use crate::seat::states::Seat;
use crate::wire::Peer;

/// Why the ownership should go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// There is no program here that could be the primary, or a person or an upgrade wants it.
    Wanted,
    /// The program here gives no sign of life.
    Silence,
}

impl LeaderView<'_> {
    fn heir(&self, now: u64) -> Option<(ReplicaId, Reason)> {
        let machine = self.machine;
        let timeout = machine.settings.program_timeout_micros;
        let is_silent =
            machine.seat.connection().is_some_and(|connection| connection.is_silent(now, timeout));
        if is_silent {
            return self.any_heir().map(|heir| (heir, Reason::Silence));
        }
        if !self.is_well_served() {
            return self.any_heir().map(|heir| (heir, Reason::Wanted));
        }
        let wish = self.lead.succession.wish(now).filter(|to| machine.standbys.is_ready(*to));
        wish.or_else(|| self.heir_of_upgrade()).map(|heir| (heir, Reason::Wanted))
    }

    /// Whether a program here has ended its replay. A program in replay lets another replica's
    /// program go first that has ended its own.
    fn is_well_served(&self) -> bool {
        let machine = self.machine;
        let has_begun = machine.history.input_state.genesis.is_some();
        machine.is_served() && (machine.seat.is_live() || !has_begun)
    }

    /// The replica whose program is ready and has come furthest. Before any program has begun, any
    /// attached program will do.
    fn any_heir(&self) -> Option<ReplicaId> {
        let machine = self.machine;
        let (standbys, me) = (&machine.standbys, machine.identity.me);
        let ready = standbys.ready(&machine.settings, me).first().copied();
        let has_begun = machine.history.input_state.genesis.is_some();
        ready.or_else(|| {
            let is_attached =
                |id: &ReplicaId| standbys.status_of(*id).is_some_and(|status| status.attached);
            machine.settings.others(me).find(|id| !has_begun && is_attached(id))
        })
    }

    /// When the ownership is to be handed over, as far as it is known now.
    pub(crate) fn hands_over_at(&self) -> Option<u64> {
        let next = self.lead.succession.next_at();
        let any = self.any_heir();
        if !self.is_well_served() {
            return any.map(|_| next);
        }
        let machine = self.machine;
        let wish = self.lead.succession.wish(next).filter(|to| machine.standbys.is_ready(*to));
        if wish.is_some() || self.heir_of_upgrade().is_some() {
            return Some(next);
        }
        let timeout = machine.settings.program_timeout_micros;
        let silent = machine.seat.connection().and_then(|it| it.silent_at(timeout));
        any.and(silent).map(|at| at.saturating_add(1).max(next))
    }

    /// Whether there is so much log that the next recovery would take too long, or whether a
    /// program of another version could not begin from the last checkpoint.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        let machine = self.machine;
        let Settings { checkpoint_bytes, recovery_micros, .. } = machine.settings;
        let busy = machine.seat.running().map_or(0, |running| running.window.busy_micros);
        let state = &machine.history.input_state;
        checkpoint_bytes > 0 && machine.history.log_bytes >= checkpoint_bytes
            || recovery_micros > 0 && busy >= recovery_micros
            || state.upgrading.is_none()
                && machine.base.record.input_state.program_version != state.program_version
    }

    /// The replicas whose checkpoint is an earlier one than the one here.
    pub(crate) fn late(&self) -> Vec<ReplicaId> {
        let machine = self.machine;
        if !machine.base.has_state() {
            return Vec::new();
        }
        let base = machine.base.position();
        let is_late = |id: &ReplicaId| {
            machine.standbys.status_of(*id).is_some_and(|status| status.base < base)
        };
        machine.settings.replicas.iter().copied().filter(is_late).collect()
    }
}

impl Leader<'_> {
    // The owner.

    /// Hands the ownership to a replica whose program is ready, if there is no program here, if the
    /// program here gives no sign of life, or if a hand-over is wished for.
    pub(crate) fn find_successor(&mut self, now: u64, outputs: &mut Vec<Output>) {
        if now < self.lead.succession.next_at() {
            return;
        }
        let Some((heir, reason)) = self.view().heir(now) else { return };
        if reason == Reason::Silence {
            outputs.push(Output::Note(format!(
                "the program of '{}' gives no sign of life: another one takes over",
                self.machine.identity.name
            )));
            // A program that hangs on an input each time is held like one that crashes on it.
            if let Some(input) = self.machine.seat.running().and_then(|it| it.unhandled()) {
                self.machine.program_failed(input, "it gave no sign of life".into(), outputs);
            }
            self.machine.close_seat("RELOAD", "no sign of life from this program", outputs);
        }
        self.lead.succession.hand_over(now);
        outputs.push(Output::HandOver { to: heir });
    }

    // Checkpoints.

    /// Sends the checkpoint to those that lack it, and asks for the next one when it is due.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn schedule_checkpoints(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.send_to_late(cx, outputs)?;
        let (now, base) = (cx.now.steady_micros, self.machine.base.position());
        let waits = self.lead.checkpoints.waits_until(base).is_some_and(|until| now < until);
        let is_wanted =
            self.view().is_checkpoint_due() && !waits || self.machine.checkpoint.is_wanted;
        if !self.machine.base.has_state() || !is_wanted {
            return Ok(());
        }
        self.lead.checkpoints.asked(now, base);
        let me = self.machine.identity.me;
        match self.machine.standbys.ready(&self.machine.settings, me).first() {
            Some(standby) => {
                self.machine.checkpoint.is_wanted = false;
                // The primary may have been told to pause when there was no standby.
                if let Seat::Running(running) = &mut self.machine.seat {
                    running.checkpoint.is_pausing = false;
                }
                outputs.push(Output::Peer { to: *standby, message: Peer::TakeCheckpoint });
                Ok(())
            }
            None => {
                self.machine.checkpoint.is_wanted = true;
                self.machine.ask_for_wanted_checkpoint(cx, outputs)
            }
        }
    }

    /// A replica that was away when the last checkpoint was handed on has a longer log than the
    /// others, and after an upgrade its programs could not begin.
    fn send_to_late(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let (now, late) = (cx.now.steady_micros, self.view().late());
        for to in self.lead.checkpoints.too_late(&late, now) {
            if !self.machine.transfers.is_sending_to(to) {
                self.lead.checkpoints.sent_to(to, now);
                self.machine.send_base_to(cx, to, outputs)?;
            }
        }
        Ok(())
    }
}
