//! Upgrades: a program that can turn the state into the next version becomes the primary, and the input
//! UPGRADE is logged. From there on two things can happen, and the log says which did:
//!
//! - A program has turned its state. Then programs that cannot follow are let go.
//! - None could: it failed at that input again and again, or there is none any more that could. Then the
//!   upgrade is taken out of the log again, and programs of the former version go on, as they had
//!   waited there. It is tried once more when somebody wishes it again.
//!
//! Until one of the two is logged nothing of the new version may outlive it: no checkpoint is taken after
//! that input, and from when the program is told of it nothing that was said leaves, and no timer, result
//! or message to itself is logged. Before it is told all goes on: it may not be told because receivers
//! have not confirmed what was said.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::ReplicaId;
use protocol::immortal::{Garbled, Status};

use crate::entry::{Entry, UpgradeOutcome};
use crate::instance::Instance;
use crate::io::{Output, Response};
use crate::ledger::Upgrading;
use crate::office::Receipt;
use crate::stream::copied_if_short;

/// An upgrade that stands in the log is given up when for so long there was no program that could make it,
/// in microseconds.
const UPGRADE_MICROS_MAX: u64 = 10_000_000;

/// So many bytes of results may wait for what becomes of an upgrade; a program that gives more is let go.
const RESULTS_BYTES_MAX: usize = 64 << 20;

/// What one takes beside its bytes, roughly.
const RESULT_HEAD_BYTES: usize = 64;

/// What an owner remembers of an upgrade.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The wish for which UPGRADE was put on its way into the log.
    begun: Option<u64>,
    /// That UPGRADE has not come into the log yet.
    pub(crate) is_coming: bool,
    /// The input of an upgrade whose outcome is on its way into the log; true when it is given up.
    ending: Option<(u64, bool)>,
    /// Since when there is no program that could make it.
    hopeless_since: Option<u64>,
    /// Results that the program gave while it was open: one for each effect that it awaits, at the most.
    results: BTreeMap<u64, (Status, Bytes)>,
    results_bytes: usize,
}

impl Course {
    /// The program is gone, and the next one may await something else under the same numbers.
    pub(crate) fn forget_results(&mut self) {
        self.results.clear();
        self.results_bytes = 0;
    }
}

impl Instance {
    pub(crate) fn mind_upgrade(&mut self, now: u64, outputs: &mut Vec<Output>) {
        match self.ledger.upgrading {
            Some(upgrading) => self.mind_upgrading(upgrading, now, outputs),
            None => self.begin_upgrade(),
        }
    }

    /// The program was told of an upgrade, and the log does not say yet what becomes of it: what it has said
    /// may be of a history that will not have been.
    pub(crate) fn open_upgrade_told(&self) -> Option<Upgrading> {
        let told = self.session.as_ref().map_or(0, |session| session.told);
        self.ledger.upgrading.filter(|upgrading| told >= upgrading.input)
    }

    /// Nothing that the program has said leaves.
    pub(crate) fn sends_nothing(&self) -> bool {
        self.open_upgrade_told().is_some()
    }

    /// Nothing that it says is put on its way into the log. After the outcome it is: there it is as sure
    /// as that.
    pub(crate) fn says_nothing_sure(&self) -> bool {
        let Some(upgrading) = self.open_upgrade_told() else { return false };
        let ending = self.office.as_ref().and_then(|office| office.upgrade.ending);
        ending != Some((upgrading.input, false))
    }

    /// A result goes into the log, or is kept until it is known what becomes of the upgrade.
    ///
    /// # Errors
    /// When too much is kept.
    pub(crate) fn take_result(
        &mut self,
        id: u64,
        status: Status,
        payload: Bytes,
    ) -> Result<(), Garbled> {
        if !self.says_nothing_sure() {
            self.result(id, status, payload);
            return Ok(());
        }
        let (Some(office), Some(session)) = (&mut self.office, &self.session) else {
            return Ok(());
        };
        let awaited = session.is_primary && session.voice.awaits.get(&id) == Some(&None);
        let Course { results, results_bytes, .. } = &mut office.upgrade;
        if !awaited || results.contains_key(&id) {
            return Ok(());
        }
        *results_bytes += RESULT_HEAD_BYTES + payload.len();
        if *results_bytes > RESULTS_BYTES_MAX {
            let text = format!("RESULTs of up to {RESULTS_BYTES_MAX} bytes during an upgrade");
            return Err(Garbled(text));
        }
        results.insert(id, (status, copied_if_short(payload)));
        Ok(())
    }

    /// The version that somebody wishes for, if it was not tried in vain.
    fn wished_version(&self) -> Option<u64> {
        let wished = self.settings.upgrade_version?;
        let is_open = self.settings.upgrade_wish > self.ledger.given_up;
        (is_open && wished != self.ledger.program_version).then_some(wished)
    }

    /// The next version of the program takes over, if this one can.
    fn begin_upgrade(&mut self) {
        let Some(version) = self.wished_version() else { return };
        let wish = self.settings.upgrade_wish;
        // START comes first.
        let has_begun = self.ledger.inputs > 0;
        let (Some(office), Some(session)) = (&mut self.office, &self.session) else { return };
        let ready = has_begun
            && office.is_primary
            && session.hello.upgrade_to == version
            && office.upgrade.begun != Some(wish)
            && !office.upgrade.is_coming;
        if ready {
            office.upgrade = Course { begun: Some(wish), is_coming: true, ..Course::default() };
            office.put_upgrade(version);
        }
    }

    fn mind_upgrading(&mut self, upgrading: Upgrading, now: u64, outputs: &mut Vec<Output>) {
        let Some(office) = &self.office else { return };
        if office.upgrade.ending.is_some_and(|(input, _)| input == upgrading.input) {
            return;
        }
        let own = self.session.as_ref().map_or(0, |session| session.voice.done);
        if own >= upgrading.input {
            self.end_upgrade(upgrading, UpgradeOutcome::Done, Receipt::None, outputs);
            return;
        }
        let is_hopeless = !self.may_still_upgrade(upgrading);
        let has_failed = self.has_failed_at(upgrading.input);
        let Some(office) = &mut self.office else { return };
        if !is_hopeless {
            office.upgrade.hopeless_since = None;
            return;
        }
        let since = *office.upgrade.hopeless_since.get_or_insert(now);
        if has_failed || now.saturating_sub(since) > UPGRADE_MICROS_MAX {
            self.give_up_upgrade(upgrading, Receipt::None, outputs);
        }
    }

    /// A person wants the upgrade taken out, which no program is known to have made.
    pub(crate) fn skip_upgrade(
        &mut self,
        ticket: u64,
        upgrading: Upgrading,
        outputs: &mut Vec<Output>,
    ) {
        let input = upgrading.input;
        let ending = self.office.as_ref().and_then(|office| office.upgrade.ending);
        if ending == Some((input, false)) {
            outputs.push(Output::Respond { ticket, response: upgrade_was_made(input) });
            return;
        }
        self.give_up_upgrade(upgrading, Receipt::Skip { ticket, input }, outputs);
    }

    /// A program is attached that could make it, or one has made it.
    fn may_still_upgrade(&self, upgrading: Upgrading) -> bool {
        let own = self.session.as_ref().is_some_and(|session| {
            session.can_become(upgrading.to) && self.held.is_none() && self.diverged.is_none()
        });
        let others = self.known.values().map(|known| &known.status);
        own || others.into_iter().any(|status| {
            let lives = status.attached && status.held.is_none() && status.diverged.is_none();
            status.done.max(status.base_input) >= upgrading.input
                || lives && status.upgrade_to == upgrading.to
        })
    }

    fn has_failed_at(&self, input: u64) -> bool {
        let others = self.known.values().map(|known| known.status.held.as_ref());
        let mut all = others.chain([self.held.as_ref()]).flatten();
        all.any(|held| held.input == input)
    }

    /// Its program goes first: what it has handled after that input was not what will be logged. One that
    /// could make it goes, too, before it is told of it.
    fn give_up_upgrade(
        &mut self,
        upgrading: Upgrading,
        receipt: Receipt,
        outputs: &mut Vec<Output>,
    ) {
        let text = format!(
            "the upgrade of '{}' to version {} (input {}) is given up: no program could make it, and \
             version {} goes on",
            self.name, upgrading.to, upgrading.input, upgrading.from
        );
        let could = self.session.as_ref().is_some_and(|session| session.can_become(upgrading.to));
        if could || self.sends_nothing() {
            self.close_session("RELOAD", &text, outputs);
        }
        outputs.push(Output::Note(text));
        // A wish that came meanwhile is still to be tried. Which one a former owner tried nobody knows.
        let begun = self.office.as_ref().and_then(|office| office.upgrade.begun);
        let wish = begun.unwrap_or(self.settings.upgrade_wish);
        self.end_upgrade(upgrading, UpgradeOutcome::GivenUp { wish }, receipt, outputs);
    }

    fn end_upgrade(
        &mut self,
        upgrading: Upgrading,
        outcome: UpgradeOutcome,
        receipt: Receipt,
        outputs: &mut Vec<Output>,
    ) {
        let Some(office) = &mut self.office else { return };
        let input = upgrading.input;
        let is_done = outcome == UpgradeOutcome::Done;
        office.upgrade.ending = Some((input, !is_done));
        let results = std::mem::take(&mut office.upgrade.results);
        office.upgrade.results_bytes = 0;
        self.propose_with(Entry::Upgraded { input, outcome }, receipt, outputs);
        for (id, (status, payload)) in results.into_iter().filter(|_| is_done) {
            self.result(id, status, payload);
        }
    }

    /// What is said meanwhile would not fit what will be logged, so nobody says anything.
    pub(crate) fn gives_up_an_upgrade(&self) -> bool {
        let Some(upgrading) = self.ledger.upgrading else { return false };
        let ending = self.office.as_ref().and_then(|office| office.upgrade.ending);
        ending == Some((upgrading.input, true))
    }

    /// The log says what became of it; `upgrading` is how it stood before.
    pub(crate) fn upgrade_ended(
        &mut self,
        upgrading: Option<Upgrading>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(Upgrading { input, from, to }) = upgrading else { return };
        if self.ledger.upgrading.is_some() {
            return;
        }
        // Another replica's program may have made it: the next one here begins after it.
        if self.failing.0 == input {
            self.failing = (0, 0);
        }
        if self.ledger.program_version == from && from != to {
            self.was_taken_out(input, outputs);
        }
    }

    /// Whose program can turn the state into the version that is wished for, if this one cannot; or has
    /// done so, while the one here waits for what becomes of it.
    pub(crate) fn heir_of_upgrade(&self) -> Option<ReplicaId> {
        let session = self.session.as_ref()?;
        if let Some(upgrading) = self.ledger.upgrading {
            let has_done = |id: &ReplicaId| self.known[id].status.done >= upgrading.input;
            let waits = !session.can_become(upgrading.to);
            return self.standbys().find(|id| waits && has_done(id));
        }
        let wished = self.wished_version()?;
        if session.hello.upgrade_to == wished {
            return None;
        }
        self.standbys().find(|id| self.known[id].status.upgrade_to == wished)
    }
}

/// Why an upgrade is not taken out.
pub(crate) fn upgrade_was_made(input: u64) -> Response {
    Response::Refused(format!("a program has made the upgrade of input {input} already"))
}
