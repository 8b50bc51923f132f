//! `amrita audit`: what was done and what was refused, and whether the record of it is whole.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use client::Client;
use protocol::Moment;
use serde::de::DeserializeOwned;
use serde_json::Value;
use server::{AuditEnd, AuditRecord, verify_audit};

use super::commands::{documents, name_of, told};
use super::options::AuditOptions;
use crate::arguments::Cluster;
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::client;

const AUDIT: &str = "/core/audit";
const AUDIT_ENDS: &str = "/core/audit-ends";

/// How many records are read at a time.
const PAGE: usize = 500;

/// How often it is asked for new records.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Clocks of nodes differ: so much older records may still come, in microseconds.
const LATE_MICROS_MAX: u64 = 10_000_000;

pub(crate) async fn run_audit(cluster: &Cluster, options: &AuditOptions) -> Outcome {
    let client = client(cluster)?;
    if options.verify {
        return verify(cluster, &client).await;
    }
    let newest =
        format!("{AUDIT}?expand&$top={}&$orderby=at%20desc&$orderbytype=LONG", options.limit);
    let answer = client.get(&newest).await.map_err(|error| unreachable(&error))?;
    if cluster.json && !options.follow {
        return screen::show(&answer, true);
    }
    let mut records: Vec<AuditRecord> = records_of(&told(&answer)?)?;
    records.sort_by_key(|record| (record.what.at, record.name()));
    let mut shown = BTreeSet::new();
    let mut latest = 0;
    loop {
        for record in &records {
            latest = latest.max(record.what.at);
            if shown.insert((record.what.at, record.name())) {
                say(cluster, record);
            }
        }
        if !options.follow {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let since = latest.saturating_sub(LATE_MICROS_MAX);
        shown.retain(|(at, _)| *at >= since);
        let newer =
            format!("{AUDIT}?expand&$filter=at%20ge%20{since}&$orderby=at%20asc&$orderbytype=LONG");
        records = all(&client, &newer).await?;
    }
}

/// One line for each.
fn say(cluster: &Cluster, record: &AuditRecord) {
    if cluster.json {
        let text = serde_json::to_string(record).expect("a record is texts and numbers");
        return screen::say(&text);
    }
    let what = &record.what;
    let from =
        if what.address.is_empty() { String::new() } else { format!(" from {}", what.address) };
    let note = if what.note.is_empty() { String::new() } else { format!(" ({})", what.note) };
    screen::say(&format!(
        "{} {} {:<9} {} {} {} {}{from}{note}",
        time(what.at),
        record.node,
        what.event,
        name_of(&what.who),
        what.verb,
        what.link,
        what.status
    ));
}

async fn verify(cluster: &Cluster, client: &Client) -> Outcome {
    // First where the chains end: they may go on meanwhile.
    let ends: Vec<AuditEnd> = all(client, &format!("{AUDIT_ENDS}?expand&$limit={PAGE}")).await?;
    let records = all(client, &format!("{AUDIT}?expand&$limit={PAGE}")).await?;
    let chains = verify_audit(records, &ends, now());
    let mut faults = Vec::new();
    for (node, chain) in &chains {
        let (first, last, hash) = (chain.first, chain.last, &chain.hash);
        if cluster.json {
            let shown = serde_json::json!({"node": node, "first": first, "last": last,
                "hash": hash, "faults": chain.faults});
            screen::say(&shown.to_string());
        } else {
            screen::say(&format!(
                "{node}: records {first} to {last}; the last has the hash {hash}"
            ));
        }
        faults.extend(chain.faults.iter().map(|fault| format!("{node}: {fault}")));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("the trail is not whole: {}", faults.join("; ")).into())
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// All pages of a list.
async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>, Trouble> {
    let mut records = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let answer = client.get(&path).await.map_err(|error| unreachable(&error))?;
        let listing = told(&answer)?;
        let page = if listing["results"].is_object() { &listing["results"] } else { &listing };
        records.extend(records_of(page)?);
        let link = [page, &listing].into_iter().find_map(|it| it["nextPageLink"].as_str());
        next = link.map(str::to_owned);
    }
    Ok(records)
}

fn records_of<T: DeserializeOwned>(listing: &Value) -> Result<Vec<T>, Trouble> {
    let all = documents(listing).into_iter();
    let read = all.map(|(link, document)| {
        serde_json::from_value(document).map_err(|error| format!("{link}: {error}").into())
    });
    read.collect()
}

/// As `2026-11-30T03:47:05Z`.
fn time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, within) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (within / 3_600, within / 60 % 60, within % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day, that many days after the first of 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, u64::try_from(month).unwrap_or(0) + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_people_write_it() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_796_010_425, "2026-11-30T03:47:05Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(time(seconds * 1_000_000), shown);
        }
    }
}
