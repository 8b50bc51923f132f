//! The audit trail: what a node has let happen and what it has refused, each record chained to the
//! one before it by a hash, so that one that is changed or taken out is missed.
//!
//! Each node has a chain of its own, numbered from 1. What writes the records is in the shell.

use std::collections::BTreeMap;

use blake2::{Blake2s256, Digest};
use protocol::{Method, Moment, Problem, base64url, node_group};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::paths::{AMBROSIA, BACKUPS, CAN_I, INSTANCES, JOIN, LOGIN, is_of_rules};

/// The most refusals of strangers that a node records in a minute, and the most of users. Nobody
/// must fill the disks of a cluster by being refused; the next record says how many there were
/// more.
const REFUSALS_MAX: u32 = 60;

/// The most of one user, or of one address. So one that is refused again and again hides nobody
/// else's attempt.
const REFUSALS_OF_ONE_MAX: u32 = 20;
const MINUTE: u64 = 60_000_000;

/// The longest text in a record, in bytes; the rest of a longer one is cut off.
const TEXT_BYTES_MAX: usize = 200;

/// A kind of what is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has logged in, or out, or has tried to.
    Login,
    /// Somebody may not do what was asked.
    Refused,
    /// Users, groups, roles, passwords or tokens have changed.
    Rights,
    /// A node has come, or the quorum is another one.
    Members,
    /// A node is asked to stop.
    Stop,
    /// What an instance has handled was read.
    Recording,
    /// An instance was registered, changed, moved or removed.
    Instance,
    /// A backup of everything was begun.
    Backup,
}

impl Event {
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refused => "refused",
            Self::Rights => "rights",
            Self::Members => "members",
            Self::Stop => "stop",
            Self::Recording => "recording",
            Self::Instance => "instance",
            Self::Backup => "backup",
        }
    }

    /// What is recorded of a request that was answered so, if anything.
    pub fn of(verb: Method, path: &str, status: u16) -> Option<Self> {
        let is_refused = matches!(status, 401 | 403 | 429);
        let is_done = (200..300).contains(&status);
        if path == LOGIN {
            // What was asked of it, its body says.
            return (is_refused || is_done).then_some(Self::Login);
        }
        if is_refused {
            return Some(Self::Refused);
        }
        if !is_done {
            return None;
        }
        let is_instance = path.strip_prefix(INSTANCES).is_some_and(|rest| {
            rest.is_empty() || (rest.starts_with('/') && !rest.ends_with("/impulses"))
        });
        match verb {
            Method::Get if is_instance && path.ends_with("/recording") => Some(Self::Recording),
            Method::Get | Method::Options => None,
            _ if path == JOIN => Some(Self::Members),
            Method::Post if path == CAN_I => None,
            Method::Post if path == BACKUPS => Some(Self::Backup),
            _ if is_of_rules(path) => Some(Self::Rights),
            _ if is_of_members(path) => Some(Self::Members),
            Method::Delete if path == node_group::MANAGEMENT_LINK => Some(Self::Stop),
            _ if is_instance => Some(Self::Instance),
            // What a binding of AMBROSIA's erases is an instance, or a replica of one.
            Method::Delete if path.starts_with(AMBROSIA) => Some(Self::Instance),
            _ => None,
        }
    }

    /// Whether it is recorded before it is done, and not done if it cannot be recorded. The others
    /// must be possible just when nothing can be written: a quorum is lowered so that the cluster
    /// can write again, and a node of such a cluster is stopped.
    pub fn is_recorded_first(self) -> bool {
        match self {
            Self::Rights | Self::Recording | Self::Instance | Self::Backup => true,
            Self::Login | Self::Refused | Self::Members | Self::Stop => false,
        }
    }
}

/// The node group, and what stands below it.
fn is_of_members(path: &str) -> bool {
    let rest = path.strip_prefix(node_group::LINK);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What happened, without its place in the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Happening {
    /// In microseconds since 1970, by the clock of the node.
    pub at: u64,
    pub event: String,
    /// The link of a user, or a word in its place.
    pub who: String,
    /// Where that one is, if that is known.
    pub address: String,
    pub verb: String,
    pub link: String,
    pub status: u16,
    pub note: String,
}

/// One link of a chain: a document of the trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditRecord {
    pub node: String,
    pub sequence: u64,
    #[serde(flatten)]
    pub what: Happening,
    /// The hash of the record before it; empty for the first.
    pub previous: String,
    pub hash: String,
}

impl Happening {
    /// Texts that somebody else has chosen are cut to their bound.
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        for text in [&mut self.who, &mut self.link, &mut self.note] {
            let mut end = text.len().min(TEXT_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        self
    }
}

impl AuditRecord {
    /// The next record of a chain.
    pub fn after(last: Option<&Self>, node: &str, what: Happening) -> Self {
        let mut record = Self {
            node: node.to_owned(),
            sequence: last.map_or(0, |last| last.sequence) + 1,
            what: what.within_bounds(),
            previous: last.map(|last| last.hash.clone()).unwrap_or_default(),
            hash: String::new(),
        };
        record.hash = record.own_hash();
        record
    }

    /// The last part of the link of its document: in the order of the chain.
    pub fn name(&self) -> String {
        format!("{}-{:012}", self.node, self.sequence)
    }

    fn own_hash(&self) -> String {
        let Happening { at, event, who, address, verb, link, status, note } = &self.what;
        let numbers = [self.sequence, *at, u64::from(*status)];
        let texts = [&self.node, event, who, address, verb, link, note, &self.previous];
        let mut hash = Blake2s256::new();
        numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
        for text in texts {
            // With its length, so that no two rows of texts look alike.
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text.as_bytes());
        }
        base64url::encode(&hash.finalize())
    }
}

/// What is found in the chain of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The numbers of the first and the last record that are there.
    pub first: u64,
    pub last: u64,
    /// Of the last record. Kept elsewhere, it tells later whether the end was cut off.
    pub hash: String,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// Goes through all records and tells of each node's chain. What was before the first that is
/// there has expired.
pub(crate) fn verify(mut records: Vec<AuditRecord>) -> BTreeMap<String, Chain> {
    records.sort_by(|a, b| (&a.node, a.sequence).cmp(&(&b.node, b.sequence)));
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for record in records {
        let number = record.sequence;
        let chain = chains.entry(record.node.clone()).or_insert_with(|| Chain {
            first: number,
            last: number - number.min(1),
            hash: record.previous.clone(),
            faults: Vec::new(),
        });
        if number != chain.last + 1 {
            let from = chain.last + 1;
            chain
                .faults
                .push(format!("records {from} to {} are missing", number.saturating_sub(1)));
        } else if record.previous != chain.hash {
            chain.faults.push(format!("record {number} does not follow the one before it"));
        }
        if record.hash != record.own_hash() {
            chain.faults.push(format!("record {number} was changed"));
        }
        if number == 1 && !record.previous.is_empty() {
            chain.faults.push("record 1 has one before it".to_owned());
        }
        (chain.last, chain.hash) = (number, record.hash);
    }
    chains
}

/// Who is refused, for the bounds of what is recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusee {
    /// Somebody who has proved nothing, by address: a name or a token can be made up.
    Stranger(String),
    /// The link of a user that has logged in.
    User(String),
}

/// Bounds how many refusals are recorded.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    since: Moment,
    strangers: u32,
    users: u32,
    /// Only those of whom something was recorded, so there are few.
    of_one: BTreeMap<Refusee, u32>,
    untold: u64,
}

impl Refusals {
    /// Whether one more is recorded; it is counted otherwise.
    pub fn take(&mut self, who: Refusee, now: Moment) -> bool {
        if now < self.since || now.0 - self.since.0 >= MINUTE {
            *self = Self { since: now, untold: self.untold, ..Self::default() };
        }
        let all = match who {
            Refusee::Stranger(_) => &mut self.strangers,
            Refusee::User(_) => &mut self.users,
        };
        let of_one = self.of_one.get(&who).copied().unwrap_or(0);
        if *all >= REFUSALS_MAX || of_one >= REFUSALS_OF_ONE_MAX {
            self.untold += 1;
            return false;
        }
        *all += 1;
        self.of_one.insert(who, of_one + 1);
        true
    }

    /// How many were not recorded since this was asked last.
    pub fn untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }
}

/// A record is written.
///
/// # Errors
/// When it is none, or its hash is another one's.
pub fn check_audit_record(fields: &Map<String, Value>) -> Result<(), Problem> {
    let record: AuditRecord = serde_json::from_value(Value::Object(fields.clone()))
        .map_err(|error| Problem::bad_request(format!("no record of the trail: {error}")))?;
    if record.hash != record.own_hash() {
        return Err(Problem::bad_request("the hash of the record is not its own"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> Vec<AuditRecord> {
        let mut records: Vec<AuditRecord> = Vec::new();
        for at in 1..=count {
            let what = Happening { at, event: "login".into(), ..Happening::default() };
            records.push(AuditRecord::after(records.last(), "n1", what));
        }
        records
    }

    fn faults(records: Vec<AuditRecord>) -> Vec<String> {
        verify(records)["n1"].faults.clone()
    }

    #[test]
    fn a_chain_is_whole_in_any_order_and_when_its_beginning_has_expired() {
        let mut records = chain(5);
        records.reverse();
        let found = verify(records.clone());
        let last = &records[0];
        let expected = Chain { first: 1, last: 5, hash: last.hash.clone(), faults: vec![] };
        assert_eq!(found["n1"], expected);
        records.truncate(2);
        assert_eq!(verify(records)["n1"].faults, Vec::<String>::new());
    }

    #[test]
    fn what_was_changed_or_taken_out_is_missed() {
        let mut changed = chain(4);
        changed[1].what.who = "somebody else".into();
        assert_eq!(faults(changed.clone()), ["record 2 was changed"]);
        // With a hash that fits, the next one does not follow.
        changed[1].hash = changed[1].own_hash();
        assert_eq!(faults(changed), ["record 3 does not follow the one before it"]);
        let mut cut = chain(4);
        cut.remove(2);
        assert_eq!(faults(cut), ["records 3 to 3 are missing"]);
        let mut other = chain(3);
        other[0] = AuditRecord::after(Some(&other[0].clone()), "n1", Happening::default());
        other[0].sequence = 1;
        assert!(!faults(other).is_empty());
    }

    #[test]
    fn texts_do_not_run_into_one_another() {
        let hash = |who: &str, link: &str| {
            let (who, link) = (who.to_owned(), link.to_owned());
            AuditRecord::after(None, "n", Happening { who, link, ..Happening::default() }).hash
        };
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
        let long = Happening { link: "é".repeat(TEXT_BYTES_MAX), ..Happening::default() };
        assert!(long.within_bounds().link.len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn refusals_have_a_bound_and_the_others_are_counted() {
        let mut refusals = Refusals::default();
        let mut taken = |who: fn(String) -> Refusee, name: &str, now: u64| {
            let all = (0..100).filter(|_| refusals.take(who(name.into()), Moment(now)));
            (all.count(), refusals.untold())
        };
        assert_eq!(taken(Refusee::Stranger, "10.0.0.1", MINUTE), (20, 80), "of one address");
        assert_eq!(taken(Refusee::Stranger, "10.0.0.2", MINUTE), (20, 80), "another is recorded");
        assert_eq!(taken(Refusee::Stranger, "10.0.0.3", MINUTE), (20, 80));
        assert_eq!(taken(Refusee::Stranger, "10.0.0.4", MINUTE), (0, 100), "of all strangers");
        assert_eq!(taken(Refusee::User, "jane", MINUTE), (20, 80), "users have their own bound");
        assert_eq!(taken(Refusee::User, "joe", MINUTE), (20, 80));
        assert_eq!(taken(Refusee::Stranger, "10.0.0.1", 2 * MINUTE), (20, 80), "a minute later");
        assert_eq!(taken(Refusee::Stranger, "10.0.0.1", 0), (20, 80), "the clock was put back");
    }

    #[test]
    fn what_was_not_recorded_is_told_once_and_outlives_the_minute() {
        let mut refusals = Refusals::default();
        let stranger = || Refusee::Stranger("10.0.0.1".into());
        for _ in 0..=REFUSALS_OF_ONE_MAX {
            refusals.take(stranger(), Moment(MINUTE));
        }
        assert!(refusals.take(stranger(), Moment(2 * MINUTE)));
        assert_eq!((refusals.untold(), refusals.untold()), (1, 0));
    }

    #[test]
    fn what_is_recorded() {
        use Method::{Delete, Get, Patch, Post};
        let of = |verb, path, status| Event::of(verb, path, status).map(Event::name);
        assert_eq!(of(Post, LOGIN, 200), Some("login"));
        assert_eq!(of(Post, LOGIN, 401), Some("login"));
        assert_eq!(of(Get, "/core/examples/x", 403), Some("refused"));
        assert_eq!(of(Post, "/core/authz/roles", 200), Some("rights"));
        assert_eq!(of(Delete, "/core/auth/tokens/x", 200), Some("rights"));
        assert_eq!(of(Post, "/core/authz/roles", 503), None);
        assert_eq!(of(Get, "/core/authz/roles", 200), None);
        assert_eq!(of(Patch, node_group::LINK, 200), Some("members"));
        assert_eq!(of(Post, JOIN, 200), Some("members"));
        assert_eq!(of(Delete, "/core/node-groups/default/n4", 200), Some("members"));
        assert_eq!(of(Post, "/core/node-groups/default/asking/n4", 200), Some("members"));
        assert_eq!(of(Get, "/core/node-groups/default/n4", 200), None);
        assert_eq!(of(Delete, node_group::MANAGEMENT_LINK, 202), Some("stop"));
        assert_eq!(of(Get, "/core/immortals/x/recording", 200), Some("recording"));
        assert_eq!(of(Post, "/core/immortals/x/impulses", 200), None);
        assert_eq!(of(Delete, "/core/immortals/x", 200), Some("instance"));
        assert_eq!(of(Post, "/core/examples", 200), None);
        assert_eq!(of(Get, "/core/immortalsx/recording", 200), None);
        assert_eq!(of(Delete, "/core/ambrosia/cra/AmbrosiaBinaries/a-a0", 200), Some("instance"));
        assert_eq!(of(Get, "/core/ambrosia/cra/AmbrosiaBinaries/a-a0", 200), None);
    }
}
