//! Upgrades. A program that can turn the state into the next version becomes the primary, and the
//! input UPGRADE is logged. From there on two things can happen, and the log says which of them
//! did:
//!
//! - A program has turned its state. Then programs that cannot follow are closed.
//! - No program could: programs failed at that input again and again, or no program is left that
//!   could. Then the upgrade is taken out of the log again. Programs of the former version have
//!   waited there, and go on. The upgrade is tried once more when somebody wishes it again.
//!
//! Until the log says which of the two happened, nothing of the new version may outlive the
//! upgrade. No checkpoint is taken after that input. From the moment when the program is told
//! UPGRADE, nothing that the program sends leaves, and no timer, result or message to itself is
//! logged. Before that moment all goes on as usual. It must, because the program may have to wait
//! for receivers to confirm earlier messages before it can be told UPGRADE.

use protocol::ReplicaId;
use protocol::immortal::Message;

use crate::history::entry::{Entry, UpgradeOutcome};
use crate::history::input_state::Upgrading;
use crate::io::{Output, Response};
use crate::lead::leader::{Leader, LeaderView};
use crate::lead::log_queue::Receipt;
use crate::lead::upgrade::Ending;

/// An upgrade that is in the log is given up when there was no program for this long that could
/// make it, in microseconds.
const UPGRADE_MICROS_MAX: u64 = 10_000_000;

impl LeaderView<'_> {
    /// The version that somebody wishes for, if it was not tried in vain.
    fn wished_version(&self) -> Option<u64> {
        let (settings, state) = (&self.machine.settings, &self.machine.history.input_state);
        let wished = settings.upgrade_version?;
        let is_open = settings.upgrade_wish > state.given_up;
        (is_open && wished != state.program_version).then_some(wished)
    }

    /// When an upgrade that no program can make is given up.
    pub(crate) fn gives_up_at(&self) -> Option<u64> {
        let since = self.lead.upgrade.hopeless_since?;
        let is_open = self.machine.history.input_state.upgrading.is_some();
        is_open.then(|| since.saturating_add(UPGRADE_MICROS_MAX + 1))
    }

    /// Whether a program is attached that could make the upgrade, or one has made it.
    fn may_be_made(&self, upgrading: Upgrading) -> bool {
        let machine = self.machine;
        let own = machine.health.is_good() && machine.seat.can_become(upgrading.to);
        own || machine.standbys.statuses().any(|(_, status)| {
            let lives = status.attached && status.is_good();
            status.done.max(status.base_input) >= upgrading.input
                || lives && status.upgrade_to == upgrading.to
        })
    }

    fn has_failed_at(&self, input: u64) -> bool {
        let held = self.machine.standbys.held().chain(self.machine.health.trouble.held.as_ref());
        held.into_iter().any(|held| held.input == input)
    }

    /// Whether the entry that gives the upgrade up is on its way. What a program sends meanwhile
    /// would not fit what will be logged, so no program is let in.
    pub(crate) fn gives_up_upgrade(&self) -> bool {
        let open = self.machine.history.input_state.upgrading;
        open.is_some_and(|open| self.lead.upgrade.is_given_up(open.input))
    }

    /// The replica whose program can turn the state into the version that is wished for, if the
    /// program here cannot; or the replica whose program has made the open upgrade, while the
    /// program here waits for the outcome.
    pub(crate) fn heir_of_upgrade(&self) -> Option<ReplicaId> {
        let machine = self.machine;
        if machine.seat.is_vacant() {
            return None;
        }
        let status = |id: &ReplicaId| machine.standbys.status_of(*id);
        let ready = machine.standbys.ready(&machine.settings, machine.identity.me);
        let mut ready = ready.into_iter();
        if let Some(open) = machine.history.input_state.upgrading {
            let has_done = |id: &ReplicaId| status(id).is_some_and(|it| it.done >= open.input);
            let waits = !machine.seat.can_become(open.to);
            return ready.find(|id| waits && has_done(id));
        }
        let wished = self.wished_version()?;
        if machine.seat.upgrade_to() == wished {
            return None;
        }
        ready.find(|id| status(id).is_some_and(|it| it.upgrade_to == wished))
    }
}

impl Leader<'_> {
    /// Begins the upgrade that is wished for, or sees to it that the one in the log ends.
    pub(crate) fn drive_upgrade(&mut self, now: u64, outputs: &mut Vec<Output>) {
        match self.machine.history.input_state.upgrading {
            Some(upgrading) => self.watch_upgrade(upgrading, now, outputs),
            None => self.begin_upgrade(),
        }
    }

    /// The next version of the program takes over, if this one can.
    fn begin_upgrade(&mut self) {
        let Some(version) = self.view().wished_version() else { return };
        let wish = self.machine.settings.upgrade_wish;
        let (machine, upgrade) = (&*self.machine, &mut self.lead.upgrade);
        // START comes first.
        let is_ready = machine.inputs() > 0
            && machine.seat.is_primary()
            && machine.seat.upgrade_to() == version
            && upgrade.begun != Some(wish)
            && !upgrade.is_coming;
        if is_ready {
            upgrade.begin(wish);
            self.lead.queue.put_own(&Message::Upgrade { version }, Receipt::Upgrade);
        }
    }

    fn watch_upgrade(&mut self, upgrading: Upgrading, now: u64, outputs: &mut Vec<Output>) {
        if self.lead.upgrade.is_ending(upgrading.input) {
            return;
        }
        let own = self.machine.seat.running().map_or(0, |running| running.output.done);
        if own >= upgrading.input {
            self.end_upgrade(upgrading, UpgradeOutcome::Done, Receipt::None, outputs);
            return;
        }
        if self.view().may_be_made(upgrading) {
            self.lead.upgrade.hopeless_since = None;
            return;
        }
        let has_failed = self.view().has_failed_at(upgrading.input);
        let since = *self.lead.upgrade.hopeless_since.get_or_insert(now);
        if has_failed || now.saturating_sub(since) > UPGRADE_MICROS_MAX {
            self.give_up_upgrade(upgrading, Receipt::None, outputs);
        }
    }

    /// A person wants an upgrade taken out that no program is known to have made.
    pub(crate) fn skip_upgrade(
        &mut self,
        ticket: u64,
        upgrading: Upgrading,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Response> {
        let input = upgrading.input;
        if self.lead.upgrade.ends_well(input) {
            let why = format!("a program has made the upgrade of input {input} already");
            return Err(Response::Refused(why));
        }
        self.give_up_upgrade(upgrading, Receipt::Skip { ticket, input }, outputs);
        Ok(())
    }

    /// Gives the upgrade up. The program here is closed first: what it has handled after that input
    /// is not what will be logged. A program that could make the upgrade is closed, too, even if it
    /// has not been told of it.
    fn give_up_upgrade(
        &mut self,
        upgrading: Upgrading,
        receipt: Receipt,
        outputs: &mut Vec<Output>,
    ) {
        let text = format!(
            "the upgrade of '{}' to version {} (input {}) is given up: no program could make it, and \
             version {} goes on",
            self.machine.identity.name, upgrading.to, upgrading.input, upgrading.from
        );
        let could = self.machine.seat.can_become(upgrading.to);
        if could || self.machine.open_upgrade_told().is_some() {
            self.machine.close_seat("RELOAD", &text, outputs);
        }
        outputs.push(Output::Note(text));
        // A wish that came meanwhile must still be tried. This owner does not know which wish a
        // former owner tried.
        let wish = self.lead.upgrade.begun.unwrap_or(self.machine.settings.upgrade_wish);
        self.end_upgrade(upgrading, UpgradeOutcome::GivenUp { wish }, receipt, outputs);
    }

    fn end_upgrade(
        &mut self,
        upgrading: Upgrading,
        outcome: UpgradeOutcome,
        receipt: Receipt,
        outputs: &mut Vec<Output>,
    ) {
        let (input, is_given_up) = (upgrading.input, outcome != UpgradeOutcome::Done);
        self.lead.upgrade.ending = Some(Ending { input, is_given_up });
        let results = self.lead.upgrade.take_results();
        self.lead.queue.propose(&Entry::Upgraded { input, outcome }, receipt, outputs);
        if is_given_up {
            return;
        }
        if let Some(mut primary) = self.primary() {
            for result in results {
                primary.log_result(result.id, result.status, result.payload);
            }
        }
    }
}
