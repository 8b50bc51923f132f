//! What the immortals of the scenarios with orders write: for each payment that one of them is told
//! of it adds the number to a receipt, which is a document. The service of receipts takes what it
//! is given, so a write that is missing, doubled or out of order can be seen in the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use documents::Partition;
use protocol::immortal::Message;
use protocol::instance_write::WriteMethod;
use protocol::{Problem, links};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use services::{Context, Patch, Service, Spec};
use storage::Space;

use crate::immortals::script::Said;
use crate::orders::{ARCHIVE, ARCHIVED, LEDGER};
use crate::work::tally_links;
use crate::world::World;

const RECEIPTS: &str = "/sim/receipts";

/// Before every such payment something is written that is refused.
const WRONG_EACH: u64 = 4;

/// The immortal wants to know what became of every such write.
const ASKED_EACH: u64 = 3;

/// A list that grows.
pub(crate) struct ReceiptService;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Receipt {
    #[serde(default)]
    paid: Vec<u64>,
}

impl Service for ReceiptService {
    type State = Receipt;

    fn spec(&self) -> Spec {
        Spec::new(RECEIPTS, "sim:Receipt")
    }

    /// `{"add": 7}`
    fn patch(
        &self,
        _context: &mut Context<'_>,
        current: &Receipt,
        patch: &Patch,
    ) -> Result<Receipt, Problem> {
        let number = patch.fields.get("add").and_then(Value::as_u64).filter(|number| *number > 0);
        let number = number.ok_or_else(|| Problem::bad_request("'add' must be a number from 1"))?;
        let mut paid = current.paid.clone();
        paid.push(number);
        Ok(Receipt { paid })
    }
}

/// The receipt of an immortal for a tally.
fn receipt_of(instance: &str, tally: &str) -> String {
    let name = links::split(tally).map_or("", |(_, name)| name);
    format!("{RECEIPTS}/{instance}-{name}")
}

/// What an immortal has written, as its program knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    last_call: u64,
    /// Those that are not answered: the receipt, the status that is right, and the number.
    calls: BTreeMap<u64, (String, u16, u64)>,
    /// How many answers there were: to what was taken, and to what was refused.
    taken: u64,
    refused: u64,
}

impl Written {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that was asked was answered.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.calls.is_empty()
    }

    /// A payment has come, the first one of that tally or a later one.
    pub(crate) fn pay(
        &mut self,
        (instance, tally): (&str, &str),
        number: u64,
        is_first: bool,
        says: &mut Vec<Said>,
    ) {
        let link = receipt_of(instance, tally);
        let mut messages = Vec::new();
        if !is_first && number.is_multiple_of(WRONG_EACH) {
            messages.push(self.asked(&link, WriteMethod::Patch, &json!({"add": 0}), (400, 0)));
        }
        let (method, body) = match is_first {
            true => (WriteMethod::Post, json!({"paid": [number]})),
            false => (WriteMethod::Patch, json!({"add": number})),
        };
        messages.push(match number.is_multiple_of(ASKED_EACH) {
            true => self.asked(&link, method, &body, (200, number)),
            false => Message::Fork { method: method.number(), payload: body.to_string().into() },
        });
        says.push(Said::Send { destination: link, messages });
    }

    fn asked(
        &mut self,
        link: &str,
        method: WriteMethod,
        body: &Value,
        (status, number): (u16, u64),
    ) -> Message {
        self.last_call += 1;
        self.calls.insert(self.last_call, (link.to_owned(), status, number));
        let (id, method) = (self.last_call, method.number());
        Message::Call { id, method, payload: body.to_string().into() }
    }

    /// What became of a write.
    ///
    /// # Errors
    /// When nobody has asked, or it is not what must have come of it.
    pub(crate) fn answered(&mut self, from: &str, id: u64, payload: &Bytes) -> Result<(), String> {
        let text = String::from_utf8_lossy(payload);
        let wrong = |why: String| format!("the outcome of write {id} at {from}, {why}: {text}");
        let Some((link, status, number)) = self.calls.remove(&id) else {
            return Err(wrong("for which nobody has asked".into()));
        };
        let outcome: Value = serde_json::from_slice(payload)
            .map_err(|error| wrong(format!("which is no JSON ({error})")))?;
        let last = outcome["body"]["paid"].as_array().and_then(|paid| paid.last());
        let is_right = match status {
            200 => last.and_then(Value::as_u64) == Some(number),
            _ => outcome["body"]["code"] == "BAD_REQUEST",
        };
        if link != from || outcome["status"] != status || !is_right {
            return Err(wrong(format!("which was to be {status} with {number} at {link}")));
        }
        if status == 200 {
            self.taken += 1;
        } else {
            self.refused += 1;
        }
        Ok(())
    }
}

impl World {
    /// Whether writes have come more than once, and were noticed.
    pub(crate) fn look_at_writes(&mut self) {
        let (mut repeated, mut late, mut asked) = (0, 0, 0);
        for node in self.machines.iter().filter_map(|it| it.running.as_ref()).map(|it| &it.node) {
            let writes = node.writes_of_instances();
            repeated += u64::from(writes.repeated > 0);
            late += u64::from(writes.late > 0);
            asked += u64::from(writes.asked > 0);
        }
        self.paths.count("a write that came once more was dropped", repeated);
        self.paths.count("a write was under way twice and was taken once", late);
        self.paths.count("an owner asked which of its writes are taken", asked);
    }

    /// How many answers the programs have had to what they have written.
    pub(crate) fn count_writes(&mut self) {
        let (mut taken, mut refused) = (0, 0);
        for instance in [LEDGER, ARCHIVE] {
            let written = self.programs.of(instance).next().and_then(|actor| {
                Some(actor.talk.as_ref()?.program_state.as_ref()?.written.clone())
            });
            let written = written.unwrap_or_default();
            (taken, refused) = (taken + written.taken, refused + written.refused);
        }
        self.paths.count("an immortal was told of a write that was made", taken);
        self.paths.count("an immortal was told of a write that was refused", refused);
    }

    /// A receipt that is not what it must be in the end, if there is one. `sent` says how many
    /// payments a tally has sent.
    pub(crate) fn unwritten(&self, sent: impl Fn(&str) -> usize) -> Option<String> {
        for (instance, each) in [(LEDGER, 1), (ARCHIVE, ARCHIVED)] {
            for tally in tally_links() {
                let all = sent(&tally);
                let expected: Vec<u64> =
                    (1..=all as u64).filter(|number| number.is_multiple_of(each as u64)).collect();
                let link = receipt_of(instance, &tally);
                for machine in self.machines.iter().filter(|it| !it.store.is_rotten()) {
                    let found = self.paid(machine, &link);
                    if found != expected {
                        return Some(format!(
                            "{} has {found:?} at {link}, of {all} payments of {tally}",
                            machine.name
                        ));
                    }
                }
            }
        }
        None
    }

    fn paid(&self, machine: &crate::machine::Machine, link: &str) -> Vec<u64> {
        let group = links::partition(link, self.settings.partitions);
        let store = &machine.store;
        let found = Space::open(store, group)
            .and_then(|(space, _)| Partition::open(store, space))
            .and_then(|partition| partition.latest(store, link));
        let Ok(Some(document)) = found else { return Vec::new() };
        let fields = document.body.to_map();
        let paid = fields.get("paid").and_then(Value::as_array);
        paid.into_iter().flatten().filter_map(Value::as_u64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_is_another_one_or_comes_twice_is_found() {
        let mut written = Written::default();
        let mut says = Vec::new();
        for number in [3, 4] {
            written.pay((LEDGER, "/sim/tallies/t0"), number, false, &mut says);
        }
        let link = receipt_of(LEDGER, "/sim/tallies/t0");
        assert_eq!(written.calls.len(), 2, "one of three is asked for, and each wrong one");
        let taken = |number: u64| {
            Bytes::from(json!({"status": 200, "body": {"paid": [1, number]}}).to_string())
        };
        let refused = json!({"status": 400, "body": {"code": "BAD_REQUEST"}}).to_string().into();
        assert!(written.clone().answered(&link, 1, &taken(2)).is_err(), "another number");
        assert!(written.clone().answered(&link, 1, &refused).is_err(), "it was to be taken");
        assert!(written.clone().answered("/x", 1, &taken(3)).is_err(), "of another document");
        written.answered(&link, 1, &taken(3)).unwrap();
        assert!(written.clone().answered(&link, 1, &taken(3)).is_err(), "twice");
        written.answered(&link, 2, &refused).unwrap();
        assert!(written.is_at_rest() && (written.taken, written.refused) == (1, 1));
    }
}
