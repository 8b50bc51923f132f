//! Holds each document's history against what clients were told.
//!
//! A document has one client that does one thing at a time, so the rules are plain: versions only
//! grow, each value stands at most once, what was acknowledged stands where the answer said, and a
//! read shows the newest version that was known before it began, or a newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use torture::client::Client;

use crate::cluster::address_of;
use crate::load::{History, Operation};

/// How many versions of a document are kept for sure, beside its present one.
const KEPT: u64 = 20;

const PATIENCE: Duration = Duration::from_secs(5);

/// What is wrong, for people.
pub(crate) fn check(history: &History, nodes: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for (link, operations) in history {
        let versions = match versions_of(link, nodes) {
            Ok(versions) => versions,
            Err(why) => {
                wrong.push(why);
                continue;
            }
        };
        wrong.extend(judge(operations, &versions).into_iter().map(|why| format!("{link}: {why}")));
    }
    wrong
}

/// The last versions of a document, as they are read through all nodes in turn.
fn versions_of(link: &str, nodes: usize) -> Result<BTreeMap<u64, String>, String> {
    let read = |path: &str| {
        (0..10 * nodes).find_map(|n| {
            let mut client = Client::new(address_of(1 + n % nodes));
            let answer = client.ask(("GET", path), None, None, PATIENCE)?;
            (answer.status == 200).then_some(answer.body)
        })
    };
    let last = read(link).ok_or(format!("{link} cannot be read in the end"))?;
    let newest = last["documentVersion"].as_u64().ok_or(format!("{link} has no version"))?;
    let mut versions = BTreeMap::new();
    for version in newest.saturating_sub(KEPT - 1)..=newest {
        let path = format!("{link}?documentVersion={version}");
        let body = read(&path).ok_or(format!("{path} cannot be read in the end"))?;
        versions.insert(version, body["name"].as_str().unwrap_or_default().to_owned());
    }
    Ok(versions)
}

fn judge(operations: &[Operation], versions: &BTreeMap<u64, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (oldest, newest) = match (versions.first_key_value(), versions.last_key_value()) {
        (Some((oldest, _)), Some((newest, _))) => (*oldest, *newest),
        _ => return vec!["it has no versions".into()],
    };
    let mut known = 0;
    let mut told: BTreeMap<u64, &str> = BTreeMap::new();
    for operation in operations {
        let Operation { value, is_write, done, .. } = operation;
        let places = || versions.iter().filter(|(_, standing)| *standing == value);
        if *is_write && places().count() > 1 {
            wrong.push(format!("DOUBLED: {value} stands {} times", places().count()));
        }
        let Some(done) = done else { continue };
        let version = done.version;
        if version > newest {
            wrong.push(format!("LOST: {value} was version {version}, and {newest} is the last"));
        }
        if version >= oldest && versions.get(&version).is_some_and(|standing| standing != value) {
            wrong.push(format!("LOST: {value} is not at version {version} any more"));
        }
        if told.insert(version, value).is_some_and(|before| before != value) {
            wrong.push(format!("version {version} was told as two values, one of them {value}"));
        }
        if version < known || (*is_write && version == known && known > 0) {
            wrong.push(format!("STALE: {value} at version {version}, when {known} was known"));
        }
        known = known.max(version);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::load::Done;

    fn operation(value: &str, is_write: bool, version: Option<u64>) -> Operation {
        let now = Instant::now();
        let done = version.map(|version| Done { at: now, version, epoch: 1 });
        Operation { value: value.into(), is_write, done }
    }

    fn versions(values: &[&str]) -> BTreeMap<u64, String> {
        (0..).zip(values.iter().map(|value| (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_stale_is_found() {
        let good = [
            operation("a", true, Some(1)),
            operation("b", true, None),
            operation("b", false, Some(2)),
            operation("c", true, Some(3)),
        ];
        assert_eq!(judge(&good, &versions(&["first", "a", "b", "c"])), Vec::<String>::new());
        for (bad, word) in [
            (versions(&["first", "a", "b"]), "LOST"),
            (versions(&["first", "a", "b", "x"]), "LOST"),
            (versions(&["first", "a", "b", "c", "b"]), "DOUBLED"),
        ] {
            assert!(judge(&good, &bad).iter().any(|why| why.contains(word)), "{bad:?}");
        }
        let stale = [operation("a", true, Some(1)), operation("first", false, Some(0))];
        let wrong = judge(&stale, &versions(&["first", "a"]));
        assert!(wrong.iter().any(|why| why.contains("STALE")), "{wrong:?}");
    }
}
