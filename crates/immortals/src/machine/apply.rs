//! What a committed entry changes on every replica.

use bytes::Bytes;
use protocol::{Position, Term};
use storage::StoreError;

use crate::context::Context;
use crate::history::entry::{Entry, GenesisEnd};
use crate::history::indexed::{BadEntry, IndexedEntry};
use crate::history::input_state::{Logged, Upgrading};
use crate::io::Output;
use crate::machine::instance::Instance;
use crate::seat::states::Seat;

impl Instance {
    /// Applies a committed entry. The result says what it means for programs; an entry without data
    /// means nothing.
    ///
    /// # Errors
    /// When the store fails, or the entry cannot be read or does not fit. The replica must stop
    /// then: a replica that skipped the entry would differ from one that did not.
    pub(crate) fn apply_entry(
        &mut self,
        cx: &mut Context<'_>,
        position: Position,
        term: Term,
        data: Option<Bytes>,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Logged>, StoreError> {
        self.base.sweep(cx)?;
        let Some(data) = data else {
            self.history.advance(position, term, 0);
            self.base.follow_log(position, term, &self.history.input_state);
            self.offer(position, term, None);
            return Ok(None);
        };
        let entry = IndexedEntry::read(data).map_err(|why| self.bad_entry(position, &why))?;
        self.history.advance(position, term, entry.bytes);
        let upgrading = self.history.input_state.upgrading;
        let logged = self.history.input_state.log(&entry);
        let logged = logged.map_err(|why| self.bad_entry(position, &why))?;
        match &entry.entry {
            Entry::Genesis { first, chunk, last } => {
                self.genesis_applied(cx, *first, chunk, last.as_ref())?;
            }
            Entry::Skip { input } => self.was_taken_out(*input, outputs),
            Entry::Upgraded { .. } => self.upgrade_ended(upgrading, outputs),
            Entry::Inputs(_) | Entry::Forget { .. } | Entry::Lost { .. } => {}
        }
        self.offer(position, term, Some(entry));
        Ok(Some(logged))
    }

    pub(crate) fn bad_entry(&self, position: Position, why: &BadEntry) -> StoreError {
        StoreError::failed(format!(
            "the entry at {position} of immortal '{}' cannot be applied: {why}. This replica stops: run \
             the same release on all nodes, or let it be filled from the others",
            self.identity.name
        ))
    }

    /// A program that is level with the log need not read the entry again.
    fn offer(&mut self, position: Position, term: Term, entry: Option<IndexedEntry>) {
        if let Seat::Running(running) = &mut self.seat {
            running.cursor.offer(position, term, entry);
        }
    }

    fn genesis_applied(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        chunk: &Bytes,
        last: Option<&GenesisEnd>,
    ) -> Result<(), StoreError> {
        if self.base.has_state() {
            return Ok(());
        }
        let Some(state) = self.base.take_genesis(cx, first, chunk, last)? else { return Ok(()) };
        let (position, term) = (self.history.position, self.history.term);
        let input_state = self.history.input_state.clone();
        self.base.adopt_genesis(cx, state, position, term, input_state)?;
        self.is_adopted();
        let (care, now) = (self.health.needs_care(), cx.now.steady_micros);
        self.seat.end_genesis(&self.base.record, &self.history, self.limits, care, now);
        Ok(())
    }

    /// The entry that is applied says that an input was taken out. A program that was given the
    /// input begins anew without it.
    fn was_taken_out(&mut self, input: u64, outputs: &mut Vec<Output>) {
        self.health.trouble.held.take_if(|held| held.input == input);
        self.health.forget(input);
        if self.seat.running().is_some_and(|running| running.has_read(input)) {
            let text = format!("input {input} was taken out");
            self.close_seat("RELOAD", &text, outputs);
        }
    }

    /// The log may have the outcome of the upgrade that was open before this entry.
    fn upgrade_ended(&mut self, before: Option<Upgrading>, outputs: &mut Vec<Output>) {
        let Some(Upgrading { input, from, to }) = before else { return };
        let state = &self.history.input_state;
        if state.upgrading.is_some() {
            return;
        }
        let was_given_up = state.program_version == from && from != to;
        // Another replica's program may have made the upgrade. The next program here begins after
        // it.
        self.health.forget(input);
        if was_given_up {
            self.was_taken_out(input, outputs);
        }
    }
}
