//! Scenarios in which documents send to immortals: each entry of a tally is a payment, which is
//! told to a ledger, and some of them to an archive. Both must be told each once, in the order in
//! which the tally has them, whatever dies meanwhile. What they write then stands in
//! [`receipts`](crate::receipts).

use std::collections::BTreeMap;

use protocol::Problem;
use serde_json::Value;
use services::{Context, Patch, Service, Spec};

use crate::agenda::{SECOND, Time};
use crate::checkers::Broken;
use crate::settings::Settings;
use crate::tallies::{Tally, TallyService};
use crate::work::tally_links;
use crate::world::World;

/// The immortal that is told of each entry.
pub(crate) const LEDGER: &str = "ledger";

/// The one that is told of one entry of [`ARCHIVED`].
pub(crate) const ARCHIVE: &str = "archive";

/// Every such entry goes to the archive.
pub(crate) const ARCHIVED: usize = 3;

/// Within this time all must have come, when the faults are over.
const PATIENCE: Time = 60 * SECOND;

const ONCE: &str = "what documents send comes to its immortal once and in order";

/// Whether the tallies of a scenario send what is added to them.
pub(crate) fn sends(settings: &Settings) -> bool {
    settings.scenario.starts_with("orders")
}

/// A tally that sends what is added to it.
pub(crate) struct SendingTallies;

impl Service for SendingTallies {
    type State = Tally;

    fn spec(&self) -> Spec {
        TallyService.spec()
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Tally,
        patch: &Patch,
    ) -> Result<Tally, Problem> {
        let tally = TallyService.patch(context, current, patch)?;
        let number = tally.entries.len();
        let entry = tally.entries.last();
        context.send(LEDGER, 1, &(number, entry))?;
        if number.is_multiple_of(ARCHIVED) {
            context.send(ARCHIVE, 1, &(number, entry))?;
        }
        Ok(tally)
    }
}

/// What an immortal was told of each document, and the number that the node gave the last of it.
pub(crate) type Told = BTreeMap<String, (u64, Vec<String>)>;

/// An immortal is told of an entry. Says which payment it is.
///
/// # Errors
/// When the one before it is missing, or it came before.
pub(crate) fn told(
    all: &mut Told,
    (instance, from): (&str, &str),
    first: u64,
    payload: &[u8],
) -> Result<u64, String> {
    let wrong = |what: &str| format!("{what}: {}", String::from_utf8_lossy(payload));
    let (number, entry): (usize, String) =
        serde_json::from_slice(payload).map_err(|_| wrong("no payment"))?;
    let (last, entries) = all.entry(from.to_owned()).or_default();
    let expected = (entries.len() + 1) * if instance == ARCHIVE { ARCHIVED } else { 1 };
    if number != expected || first <= *last {
        return Err(wrong(&format!(
            "payment {expected} of {from} was to come (the node's number {first} after {last})"
        )));
    }
    *last = first;
    entries.push(entry);
    Ok(number as u64)
}

impl World {
    /// Whether something was sent more than once, and was noticed.
    pub(crate) fn look_at_repeats(&mut self) {
        let running = self.machines.iter().filter_map(|machine| machine.running.as_ref());
        let has_dropped = running.filter(|it| it.node.repeats_dropped() > 0).count();
        self.paths.count("a message that came once more was dropped", has_dropped as u64);
    }

    /// In the end all copies of both immortals have been told what the tallies say.
    pub(crate) fn settle_orders(&mut self) -> Result<(), Broken> {
        if !sends(&self.settings) {
            return Ok(());
        }
        let patience = self.agenda.now() + PATIENCE;
        let sent = |world: &Self| world.unwritten(|tally| world.entries(tally).len());
        while let Some(trouble) = self.untold().or_else(|| sent(self)) {
            if self.agenda.now() > patience {
                return Err(Broken::new(ONCE, trouble));
            }
            let next = self.agenda.now() + SECOND / 10;
            self.run_until(next)?;
        }
        let total = tally_links().iter().map(|link| self.entries(link).len() as u64).sum();
        self.paths.count("a payment came to the ledger", total);
        self.count_writes();
        Ok(())
    }

    fn entries(&self, link: &str) -> Vec<String> {
        let entries = self.referee.shown(link).and_then(|tally| tally["entries"].as_array());
        let text = |entry: &Value| entry.as_str().unwrap_or_default().to_owned();
        entries.into_iter().flatten().map(text).collect()
    }

    fn untold(&self) -> Option<String> {
        for (instance, each) in [(LEDGER, 1), (ARCHIVE, ARCHIVED)] {
            for link in tally_links() {
                let all = self.entries(&link);
                let expected: Vec<&String> = all.iter().skip(each - 1).step_by(each).collect();
                for actor in self.programs.of(instance) {
                    let talk = actor.talk.as_ref();
                    let state = talk.and_then(|talk| talk.program_state.as_ref());
                    let told = state.and_then(|state| state.told.get(&link));
                    let told: Vec<&String> = told.iter().flat_map(|(_, told)| told).collect();
                    if told != expected {
                        return Some(format!(
                            "{instance} on n{} was told {} entries of {link}, which has sent {}",
                            actor.machine + 1,
                            told.len(),
                            expected.len()
                        ));
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_that_is_missing_doubled_or_out_of_order_is_found() {
        let one = |all: &mut Told, instance: &str, first, number: u64| {
            told(all, (instance, "/a"), first, format!("[{number},\"x\"]").as_bytes()).is_ok()
        };
        let mut all = Told::new();
        assert!(one(&mut all, LEDGER, 4, 1) && one(&mut all, LEDGER, 7, 2));
        for (first, number) in [(8, 2), (8, 4), (7, 3), (3, 3), (8, 1)] {
            assert!(!one(&mut all.clone(), LEDGER, first, number), "{first} {number}");
        }
        assert!(one(&mut all, LEDGER, 8, 3));
        let mut all = Told::new();
        assert!(one(&mut all, ARCHIVE, 1, 3) && !one(&mut all, ARCHIVE, 2, 4));
        assert!(one(&mut all, ARCHIVE, 3, 6));
    }
}
