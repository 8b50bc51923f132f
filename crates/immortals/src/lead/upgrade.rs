//! What an owner remembers of an upgrade.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::immortal::{Garbled, Status};

use crate::output::stream::copied_if_short;

/// How many bytes of results may wait for the outcome of an upgrade. A program that gives more is
/// closed.
const RESULTS_BYTES_MAX: usize = 128 << 20;

/// How many bytes a result takes in addition to its payload.
const RESULT_HEAD_BYTES: usize = 64;

/// The outcome of an upgrade on its way into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) input: u64,
    pub(crate) is_given_up: bool,
}

/// A result that waits for the outcome of an upgrade.
#[derive(Debug)]
pub(crate) struct WaitingResult {
    pub(crate) id: u64,
    pub(crate) status: Status,
    pub(crate) payload: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct UpgradeCourse {
    /// The wish for which UPGRADE was put on its way into the log.
    pub(crate) begun: Option<u64>,
    /// UPGRADE is on its way and not in the log.
    pub(crate) is_coming: bool,
    pub(crate) ending: Option<Ending>,
    /// Since when there is no program that could make the upgrade.
    pub(crate) hopeless_since: Option<u64>,
    /// Results that the program gave while the upgrade was open, at most one for each effect that
    /// it awaits.
    results: BTreeMap<u64, WaitingResult>,
    results_bytes: usize,
}

impl UpgradeCourse {
    pub(crate) fn begin(&mut self, wish: u64) {
        *self = Self { begun: Some(wish), is_coming: true, ..Self::default() };
    }

    /// Whether the outcome of the upgrade at that input is on its way.
    pub(crate) fn is_ending(&self, input: u64) -> bool {
        self.ending.is_some_and(|ending| ending.input == input)
    }

    pub(crate) fn ends_well(&self, input: u64) -> bool {
        self.ending == Some(Ending { input, is_given_up: false })
    }

    pub(crate) fn is_given_up(&self, input: u64) -> bool {
        self.ending == Some(Ending { input, is_given_up: true })
    }

    /// Keeps a result. Of several for one effect the first one counts.
    ///
    /// # Errors
    /// When too much is kept.
    pub(crate) fn keep_result(
        &mut self,
        id: u64,
        status: Status,
        payload: Bytes,
    ) -> Result<(), Garbled> {
        if self.results.contains_key(&id) {
            return Ok(());
        }
        self.results_bytes += RESULT_HEAD_BYTES + payload.len();
        if self.results_bytes > RESULTS_BYTES_MAX {
            let text = format!("RESULTs of up to {RESULTS_BYTES_MAX} bytes during an upgrade");
            return Err(Garbled(text));
        }
        let payload = copied_if_short(payload);
        self.results.insert(id, WaitingResult { id, status, payload });
        Ok(())
    }

    pub(crate) fn take_results(&mut self) -> Vec<WaitingResult> {
        self.results_bytes = 0;
        std::mem::take(&mut self.results).into_values().collect()
    }

    /// The program is gone, and the next one may await something else under the same numbers.
    pub(crate) fn forget_results(&mut self) {
        self.results.clear();
        self.results_bytes = 0;
    }
}
