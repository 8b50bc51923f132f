//! Where the chain of a node ends, kept beside the chain: so it is missed when the newest records
//! are taken out, and when old ones are before their time.
//!
//! Records expire. The first of each day is remembered with its hash for as long as it is to be
//! kept, so what is missing at the beginning of a chain is either old enough or found.

use std::collections::BTreeMap;

use protocol::{Moment, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::audit::{AuditRecord, Chain, verify};

const DAY_MICROS: u64 = 86_400_000_000;

/// An old record may be gone this long before another clock says that it has expired.
const CLOCKS_DIFFER_MICROS: u64 = 3_600_000_000;

/// The document of a chain's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditEnd {
    pub node: String,
    /// The number of the last record, and its hash.
    pub sequence: u64,
    pub hash: String,
    /// How long a record is kept.
    pub kept_micros: u64,
    /// The first record of each day, the oldest first.
    pub days: Vec<AuditDay>,
}

/// The first record of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditDay {
    pub at: u64,
    pub sequence: u64,
    pub hash: String,
}

impl AuditEnd {
    pub fn of(node: &str, kept_micros: u64) -> Self {
        Self { node: node.to_owned(), kept_micros, ..Self::default() }
    }

    /// A record was put at the end of the chain.
    pub fn follow(&mut self, record: &AuditRecord) {
        (self.sequence, self.hash) = (record.sequence, record.hash.clone());
        let at = record.what.at;
        if self.days.last().is_none_or(|last| at / DAY_MICROS > last.at / DAY_MICROS) {
            self.days.push(AuditDay { at, sequence: record.sequence, hash: record.hash.clone() });
        }
        let kept = self.kept_micros;
        self.days.retain(|day| day.at.saturating_add(kept) > at);
    }

    /// The last record, as far as the next one needs it.
    pub fn last(&self) -> Option<AuditRecord> {
        let (node, hash) = (self.node.clone(), self.hash.clone());
        (self.sequence > 0).then(|| AuditRecord {
            node,
            hash,
            sequence: self.sequence,
            ..AuditRecord::default()
        })
    }
}

/// Goes through all records and through what is remembered of where chains end. The ends must have
/// been read before the records.
pub fn verify_with_ends(
    records: Vec<AuditRecord>,
    ends: &[AuditEnd],
    now: Moment,
) -> BTreeMap<String, Chain> {
    let mut hashes: BTreeMap<(String, u64), String> = BTreeMap::new();
    for record in &records {
        hashes.insert((record.node.clone(), record.sequence), record.hash.clone());
    }
    let mut chains = verify(records);
    for end in ends {
        let chain = chains.entry(end.node.clone()).or_default();
        let is_another = |sequence: u64, hash: &String| {
            let found = hashes.get(&(end.node.clone(), sequence));
            found.is_some_and(|found| found != hash)
        };
        if end.sequence > chain.last && is_kept(end, last_known(end), now) {
            let from = chain.last + 1;
            let text = format!("records {from} to {} are missing at the end", end.sequence);
            chain.faults.push(text);
        } else if is_another(end.sequence, &end.hash) {
            chain.faults.push(format!("record {} is not the one that was there", end.sequence));
        }
        let kept = end.days.iter().filter(|day| is_kept(end, day.at, now));
        let missing = kept.clone().find(|day| day.sequence < chain.first || chain.last == 0);
        if let Some(day) = missing
            && chain.last > 0
        {
            let to = chain.first.saturating_sub(1);
            let text = format!("records {} to {to} are missing before their time", day.sequence);
            chain.faults.push(text);
        }
        for day in kept.filter(|day| is_another(day.sequence, &day.hash)) {
            chain.faults.push(format!("record {} is not the one that was there", day.sequence));
        }
    }
    chains
}

/// When the last record was written, or before that.
fn last_known(end: &AuditEnd) -> u64 {
    end.days.last().map_or(0, |day| day.at)
}

/// Whether what was written then must still be there.
fn is_kept(end: &AuditEnd, at: u64, now: Moment) -> bool {
    at.saturating_add(end.kept_micros) > now.0.saturating_add(CLOCKS_DIFFER_MICROS)
}

fn end_of(fields: &Map<String, Value>) -> Result<AuditEnd, Problem> {
    serde_json::from_value(Value::Object(fields.clone()))
        .map_err(|error| Problem::bad_request(format!("no end of the trail: {error}")))
}

/// The end of a chain is written.
///
/// # Errors
/// When it is none.
pub fn check_audit_end(fields: &Map<String, Value>) -> Result<(), Problem> {
    let end = end_of(fields)?;
    if end.node.is_empty() || end.sequence == 0 || end.hash.is_empty() {
        return Err(Problem::bad_request("the end of a chain has a node, a number and a hash"));
    }
    Ok(())
}

/// The end of a chain goes on: never back.
///
/// # Errors
/// When it would.
pub fn check_audit_goes_on(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Result<(), Problem> {
    let (before, after) = (end_of(before)?, end_of(after)?);
    let is_same = after.sequence == before.sequence && after.hash == before.hash;
    if before.node != after.node || (after.sequence <= before.sequence && !is_same) {
        return Err(Problem::bad_request("the end of a chain does not go back"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::Happening;

    const KEPT: u64 = 10 * DAY_MICROS;

    /// Two records a day, and their end.
    fn chain(days: u64) -> (Vec<AuditRecord>, AuditEnd) {
        let (mut records, mut end) = (Vec::<AuditRecord>::new(), AuditEnd::of("n1", KEPT));
        for half in 2..2 * days + 2 {
            let what = Happening { at: half * DAY_MICROS / 2, ..Happening::default() };
            records.push(AuditRecord::after(records.last(), "n1", what));
            end.follow(records.last().unwrap());
        }
        (records, end)
    }

    fn faults(records: &[AuditRecord], end: &AuditEnd, day: u64) -> Vec<String> {
        let now = Moment(day * DAY_MICROS + DAY_MICROS / 4);
        verify_with_ends(records.to_vec(), std::slice::from_ref(end), now)["n1"].faults.clone()
    }

    #[test]
    fn what_is_taken_from_the_end_is_missed() {
        let (mut records, end) = chain(4);
        assert_eq!(faults(&records, &end, 4), Vec::<String>::new());
        records.truncate(6);
        assert_eq!(faults(&records, &end, 4), ["records 7 to 8 are missing at the end"]);
        // It cannot be made good by others of that number.
        for _ in 0..2 {
            let what = Happening { at: 4 * DAY_MICROS, who: "x".into(), ..Happening::default() };
            records.push(AuditRecord::after(records.last(), "n1", what));
        }
        let found = faults(&records, &end, 4);
        assert!(found.iter().any(|it| it.contains("is not the one that was there")), "{found:?}");
        assert_eq!(faults(&[], &end, 4), ["records 1 to 8 are missing at the end"]);
    }

    #[test]
    fn what_has_expired_is_not_missed_and_what_is_gone_before_its_time_is() {
        let (records, end) = chain(12);
        // On the day 12 those of the first day and of the second are too old.
        assert_eq!(faults(&records[4..], &end, 12), Vec::<String>::new());
        assert_eq!(
            faults(&records[6..], &end, 12),
            ["records 5 to 6 are missing before their time"]
        );
        assert_eq!(faults(&[], &end, 30), Vec::<String>::new(), "a quiet month");
        assert!(end.days.len() <= 11, "what is remembered expires as well");
    }

    #[test]
    fn a_chain_goes_on_behind_its_end_also_when_its_records_are_gone() {
        let (mut records, mut end) = chain(3);
        let next = AuditRecord::after(end.last().as_ref(), "n1", Happening::default());
        assert_eq!((next.sequence, &next.previous), (7, &records[5].hash));
        end.follow(&next);
        records.truncate(4);
        records.push(next);
        let found = faults(&records, &end, 3);
        assert!(found.contains(&"records 5 to 6 are missing".to_owned()), "{found:?}");
        assert_eq!(AuditEnd::of("n1", KEPT).last(), None);
    }

    #[test]
    fn an_end_does_not_go_back() {
        let of = |sequence: u64, hash: &str| {
            let end = json!({"node": "n1", "sequence": sequence, "hash": hash});
            end.as_object().unwrap().clone()
        };
        assert!(check_audit_goes_on(&of(3, "a"), &of(4, "b")).is_ok());
        assert!(check_audit_goes_on(&of(3, "a"), &of(3, "a")).is_ok());
        assert!(check_audit_goes_on(&of(3, "a"), &of(3, "b")).is_err());
        assert!(check_audit_goes_on(&of(3, "a"), &of(2, "b")).is_err());
        assert!(check_audit_end(&of(1, "a")).is_ok() && check_audit_end(&of(0, "a")).is_err());
    }
}
