//! One thing that a client wants done: what it sends, and in words for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::{BodyType, Method, Request, links};
use serde_json::{Value, json};

use crate::agenda::{MILLISECOND, Time};
use crate::batches::Adding;
use crate::checkers::document::{Asked, Change, Fields, Told};
use crate::controls::ControlWork;
use crate::jobs::Making;
use crate::machine::WALL_AT_START;
use crate::referee::Referee;
use crate::rights::RightsWork;
use crate::tallies::TALLIES;
use crate::workload::{Added, Client, Habit, Known};

pub(crate) const EXAMPLES: &str = "/core/examples";
const EXAMPLE_KIND: &str = "com:vmware:xenon:services:common:ExampleService:ExampleServiceState";

/// How many tallies there are.
const TALLY_COUNT: usize = 3;

/// What came of one try.
pub(crate) enum Verdict {
    Done,
    /// There is more to ask, such as the next page.
    GoOn,
    /// It was surely not done.
    NotApplied(String),
    Unknown(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// One request to one example document.
    Document {
        link: String,
        asked: Asked,
        if_match: Option<Known>,
    },
    /// All example documents, in one of several ways, page by page.
    Search(Search),
    /// A version of the past; `must` it still be there?
    OldVersion {
        link: String,
        version: u64,
        must: bool,
    },
    /// What some replica has, perhaps an old version.
    LocalRead {
        link: String,
    },
    /// The next changes of example documents, after that token.
    Watch {
        after: Option<String>,
        seconds: u64,
    },
    /// An operator's change of the membership quorum.
    Quorum(usize),
    /// Entries in several tallies at once.
    Batch(Adding),
    /// One more entry in a tally.
    Add {
        tally: String,
        entry: String,
    },
    /// A new document, or one that is there already.
    Make(Making),
    /// A document goes with its whole history.
    Purge {
        link: String,
    },
    /// A document that was made with an end, before it or after.
    ReadMortal {
        link: String,
    },
    /// An entry that was added before, under the key that it had.
    Repeat(Added),
    /// A task is told to stop.
    Cancel {
        link: String,
    },
    /// A task is told to take its next steps another way.
    Reroute {
        link: String,
        route: u64,
    },
    /// A task is held, released or the like.
    Control(ControlWork),
    /// Wait until a task has come to its end.
    End {
        link: String,
    },
    /// See what a document is at the end.
    Show {
        link: String,
    },
    Available,
    /// Who may do what is changed, or put to the test.
    Rights(RightsWork),
}

/// A query on its way through its pages.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// GET on the factory instead of a query task.
    pub(crate) listing: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) all_versions: bool,
    /// Where to go on.
    pub(crate) page: Option<String>,
    /// By link; with all versions, by link and version.
    pub(crate) found: BTreeMap<(String, Option<u64>), Told>,
}

pub(crate) fn tally_link(number: usize) -> String {
    format!("{TALLIES}/t{number}")
}

pub(crate) fn tally_links() -> Vec<String> {
    (0..TALLY_COUNT).map(tally_link).collect()
}

/// A kind of documents that a client defines while the cluster runs.
const THINGS: &str = "/app/things";

pub(crate) fn kind_making() -> Making {
    let schema = json!({"type": "object", "required": ["name"],
        "properties": {"name": {"type": "string", "pattern": "^t"}}});
    let body = json!({"link": THINGS, "schema": schema});
    Making::new(links::KINDS, links::kind_name(THINGS), body)
}

/// Whether a document is of the kind that is defined by then.
pub(crate) fn is_thing(making: &Making) -> bool {
    making.factory == THINGS
}

pub(crate) fn tally_makings() -> Vec<Making> {
    (0..TALLY_COUNT).map(|number| Making::new(TALLIES, format!("t{number}"), json!({}))).collect()
}

impl Work {
    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Document { asked, .. } => *asked != Asked::Read,
            Self::Quorum(_)
            | Self::Batch(_)
            | Self::Add { .. }
            | Self::Make(_)
            | Self::Purge { .. }
            | Self::Repeat(_)
            | Self::Reroute { .. }
            | Self::Control(_)
            | Self::Cancel { .. } => true,
            Self::Rights(work) => work.is_write(),
            Self::Search(_)
            | Self::ReadMortal { .. }
            | Self::OldVersion { .. }
            | Self::LocalRead { .. }
            | Self::Watch { .. }
            | Self::End { .. }
            | Self::Show { .. }
            | Self::Available => false,
        }
    }

    /// Only a change of a document is remembered under a key; elsewhere a key is refused.
    pub(crate) fn takes_key(&self) -> bool {
        match self {
            Self::Rights(work) => work.takes_key(),
            _ => self.is_write() && !matches!(self, Self::Quorum(_)),
        }
    }

    /// What a client of many feels like.
    pub(crate) fn choose(
        client: &mut Client,
        documents: &[String],
        referee: &Referee,
        now: Time,
    ) -> Self {
        if let Some(work) = Self::of_habit(client, now) {
            return work;
        }
        if client.habit == Habit::Rights && referee.have_users() {
            let (of, walk) = ((client.number, client.made), client.walk.as_ref());
            if let Some(work) = RightsWork::choose(of, walk, &mut client.rng) {
                return Self::Rights(work);
            }
        }
        let rng = &mut client.rng;
        let link = rng.pick(documents).clone();
        let token = format!("c{}-{}", client.number, client.made);
        match rng.below(100) {
            0..8 => {
                let limit = rng.chance(500).then(|| 1 + rng.index(3));
                let mut search = Search::new(rng.chance(400), limit);
                search.all_versions = !search.listing && rng.chance(300);
                Self::Search(search)
            }
            8..12 => {
                let version = client.known.get(&link).map_or(0, |known| known.version);
                Self::OldVersion { link, version: rng.between(0, version), must: false }
            }
            12..25 => Self::Add { tally: tally_link(rng.index(TALLY_COUNT)), entry: token },
            25..45 => Self::Document { link, asked: Asked::Read, if_match: None },
            45..47 => Self::LocalRead { link },
            47 | 53 | 54 => {
                let after = referee.reader.token().map(str::to_owned);
                Self::Watch { after, seconds: rng.below(3) }
            }
            48..51 if rng.chance(400) && referee.have_kind() => {
                let name = if rng.chance(800) { "thing" } else { "wrong" };
                Self::Make(Making::new(THINGS, token, json!({ "name": name })))
            }
            48..51 => Self::make_mortal(client, now),
            51..53 if client.mortal.is_some() => {
                Self::Purge { link: client.mortal.take().expect("it was just seen") }
            }
            _ => Self::write(client, link, referee),
        }
    }

    /// What clients do a lot of in a scenario that is about it.
    fn of_habit(client: &mut Client, now: Time) -> Option<Self> {
        match (client.habit, client.mortal.clone()) {
            (Habit::Mortals, _) if client.rng.chance(300) => None,
            (Habit::Mortals, Some(link)) => Some(Self::ReadMortal { link }),
            (Habit::Mortals, None) => Some(Self::make_mortal(client, now)),
            (Habit::Batches, _) if client.rng.chance(600) => {
                let token = format!("c{}-{}", client.number, client.made);
                Some(Self::Batch(Adding::choose(token, &mut client.rng)))
            }
            (Habit::Repeats, _) if client.rng.chance(300) && !client.added.is_empty() => {
                Some(Self::Repeat(client.rng.pick(&client.added).clone()))
            }
            _ => None,
        }
    }

    fn make_mortal(client: &mut Client, now: Time) -> Self {
        let name = format!("m-c{}-{}", client.number, client.made);
        let expires = WALL_AT_START + now + client.rng.between(1, 4_000) * MILLISECOND;
        let body = json!({ "name": "mortal", "documentExpirationTimeMicros": expires });
        client.mortal = Some(format!("{EXAMPLES}/{name}"));
        Self::Make(Making::new(EXAMPLES, name, body))
    }

    pub(crate) fn read(link: &str) -> Self {
        Self::Document { link: link.to_owned(), asked: Asked::Read, if_match: None }
    }

    /// A new document in that partition, to see that it takes writes.
    pub(crate) fn probe(machine: usize, partition: u32, partitions: u32) -> Self {
        let link = |number: u32| format!("{EXAMPLES}/probe-{machine}-{partition}-{number}");
        let within = |link: &String| links::partition(link, partitions).0 == partition;
        let link = (0..).map(link).find(within).expect("links fall into every partition");
        let fields = Fields { name: "probe".into(), ..Fields::default() };
        Self::Document { link, asked: Asked::Create { fields, version: None }, if_match: None }
    }

    fn write(client: &mut Client, link: String, referee: &Referee) -> Self {
        let token = format!("c{}-{}", client.number, client.made);
        let known = client.known.get(&link).cloned();
        let rng = &mut client.rng;
        let version = known.as_ref().map_or(0, |known| known.version);
        let counter = i64::try_from(rng.below(1_000)).expect("small");
        let key = format!("k{}", rng.below(4));
        let value = (!rng.chance(300)).then(|| token.clone());
        let tags: BTreeSet<String> = [format!("t{}", rng.below(6))].into();
        let padding = "x".repeat(client.padding);
        let fields = Fields {
            name: token.clone(),
            counter: rng.chance(500).then_some(counter),
            key_values: [(key.clone(), format!("{token}{padding}"))].into(),
            tags: tags.clone(),
        };
        let asked = match rng.below(100) {
            0..22 => {
                let version = referee.was_deleted(&link).then(|| version + rng.below(3));
                Asked::Create { fields, version }
            }
            22..42 => Asked::Put(fields),
            42..62 => Asked::Patch(Change {
                name: rng.chance(300).then(|| token.clone()),
                counter: Some(counter),
                key_values: [(key, Some(token))].into(),
                tags,
            }),
            62..72 => Asked::MergePatch(Change {
                name: rng.chance(300).then_some(token),
                counter: None,
                key_values: [(key, value)].into(),
                tags: BTreeSet::new(),
            }),
            72..88 => Asked::Strict { name: token, version },
            _ => Asked::Delete,
        };
        let plain = matches!(asked, Asked::Create { .. } | Asked::Strict { .. });
        let if_match = if plain || !rng.chance(250) { None } else { known };
        Self::Document { link, asked, if_match }
    }

    pub(crate) fn request(&self) -> Request {
        match self {
            Self::Document { link, asked, if_match } => {
                let mut request = document_request(link, asked);
                if let Some(known) = if_match {
                    let Known { version, updated, epoch } = known;
                    let tag = format!("\"{epoch}.{version}.{updated:x}\"");
                    request.conditions.if_match = Some(tag.parse().expect("it is a tag"));
                }
                request
            }
            Self::Search(search) => search.request(),
            Self::LocalRead { link } => {
                let mut request = Request::new(Method::Get, link.clone());
                request.query = "consistency=local".into();
                request
            }
            Self::Watch { after, seconds } => {
                let mut request = Request::new(Method::Get, EXAMPLES);
                let after = after.as_ref().map(|token| format!("&after={token}"));
                request.query = format!("watch=true&wait={seconds}{}", after.unwrap_or_default());
                request
            }
            Self::OldVersion { link, version, .. } => {
                let mut request = Request::new(Method::Get, link.clone());
                request.query = format!("documentVersion={version}");
                request
            }
            Self::Quorum(quorum) => {
                let body = json!({
                    "kind": "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest",
                    "isGroupUpdate": true,
                    "membershipQuorum": quorum,
                });
                Request::new(Method::Patch, protocol::node_group::LINK).with_json(&body)
            }
            Self::Add { tally, entry } | Self::Repeat(Added { tally, entry, .. }) => {
                Request::new(Method::Patch, tally.clone()).with_json(&json!({ "add": entry }))
            }
            Self::Reroute { link, route } => {
                Request::new(Method::Patch, link.clone()).with_json(&json!({ "route": route }))
            }
            Self::Make(making) => {
                Request::new(Method::Post, making.factory.clone()).with_json(&making.body)
            }
            Self::Purge { link } => {
                let body = json!({ "documentExpirationTimeMicros": 1 });
                Request::new(Method::Delete, link.clone()).with_json(&body)
            }
            Self::Cancel { link } => {
                let body = json!({ "taskInfo": { "stage": "CANCELLED" } });
                Request::new(Method::Patch, link.clone()).with_json(&body)
            }
            Self::Control(work) => work.request(),
            Self::End { link } | Self::Show { link } | Self::ReadMortal { link } => {
                Request::new(Method::Get, link.clone())
            }
            Self::Available => Request::new(Method::Get, format!("{EXAMPLES}/available")),
            Self::Rights(work) => work.request(),
            Self::Batch(adding) => adding.request(),
        }
    }
}

impl Search {
    pub(crate) fn new(listing: bool, limit: Option<usize>) -> Self {
        Self { listing, limit, all_versions: false, page: None, found: BTreeMap::new() }
    }

    fn request(&self) -> Request {
        if let Some(page) = &self.page {
            let (path, query) = page.split_once('?').unwrap_or((page, ""));
            let mut request = Request::new(Method::Get, path);
            query.clone_into(&mut request.query);
            return request;
        }
        if self.listing {
            let mut request = Request::new(Method::Get, EXAMPLES);
            request.query = match self.limit {
                Some(limit) => format!("expand&$limit={limit}"),
                None => "$expand".into(),
            };
            return request;
        }
        let mut specification = json!({
            "options": ["EXPAND_CONTENT"],
            "query": { "term": { "propertyName": "documentKind", "matchValue": EXAMPLE_KIND } },
        });
        if self.all_versions {
            specification["options"] = json!(["EXPAND_CONTENT", "INCLUDE_ALL_VERSIONS"]);
        }
        if let Some(limit) = self.limit {
            specification["resultLimit"] = limit.into();
        }
        let body = json!({ "taskInfo": { "isDirect": true }, "querySpec": specification });
        Request::new(Method::Post, protocol::query::LINK).with_json(&body)
    }
}

fn document_request(link: &str, asked: &Asked) -> Request {
    let (factory, name) = links::split(link).expect("links of documents have a parent");
    match asked {
        Asked::Read => Request::new(Method::Get, link),
        Asked::Delete => Request::new(Method::Delete, link),
        Asked::Create { fields, version } => {
            let mut body = Value::Object(fields.to_json());
            body["documentSelfLink"] = name.into();
            if let Some(version) = version {
                body["documentVersion"] = (*version).into();
            }
            Request::new(Method::Post, factory).with_json(&body)
        }
        Asked::Put(fields) => {
            Request::new(Method::Put, link).with_json(&Value::Object(fields.to_json()))
        }
        Asked::Patch(change) => Request::new(Method::Patch, link).with_json(&change_body(change)),
        Asked::MergePatch(change) => {
            let mut request = Request::new(Method::Patch, link).with_json(&change_body(change));
            request.body_type = BodyType::MergePatch;
            request
        }
        Asked::Strict { name, version } => {
            let body = json!({
                "kind": "com:vmware:xenon:services:common:ExampleService:StrictUpdateRequest",
                "name": name,
                "documentVersion": version,
            });
            Request::new(Method::Patch, link).with_json(&body)
        }
    }
}

fn change_body(change: &Change) -> Value {
    let mut body = json!({ "keyValues": change.key_values });
    if let Some(name) = &change.name {
        body["name"] = name.clone().into();
    }
    if let Some(counter) = change.counter {
        body["counter"] = counter.into();
    }
    if !change.tags.is_empty() {
        body["tags"] = json!(change.tags);
    }
    body
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document { link, asked, if_match } => {
                write!(f, "{asked:?} {link}")?;
                match if_match {
                    Some(known) => write!(f, " if {}.{}", known.epoch, known.version),
                    None => Ok(()),
                }
            }
            Self::Search(search) => match &search.page {
                None => write!(
                    f,
                    "search, listing: {}, limit {:?}, all versions: {}",
                    search.listing, search.limit, search.all_versions
                ),
                Some(_) => write!(f, "next page, {} found", search.found.len()),
            },
            Self::OldVersion { link, version, .. } => write!(f, "version {version} of {link}"),
            Self::LocalRead { link } => write!(f, "local read of {link}"),
            Self::Watch { after, .. } => write!(f, "watch after {after:?}"),
            Self::Quorum(quorum) => write!(f, "membership quorum {quorum}"),
            Self::Add { tally, entry } => write!(f, "add {entry} to {tally}"),
            Self::Repeat(Added { tally, entry, key, .. }) => {
                write!(f, "add {entry} to {tally} again ({key})")
            }
            Self::ReadMortal { link } => write!(f, "read {link}, which expires"),
            Self::Reroute { link, route } => write!(f, "route {route} for {link}"),
            Self::Make(making) => write!(f, "make {}", making.link()),
            Self::Purge { link } => write!(f, "purge {link}"),
            Self::Cancel { link } => write!(f, "cancel {link}"),
            Self::Control(work) => write!(f, "{work}"),
            Self::End { link } => write!(f, "the end of {link}"),
            Self::Show { link } => write!(f, "show {link}"),
            Self::Available => write!(f, "available"),
            Self::Rights(work) => write!(f, "{work}"),
            Self::Batch(adding) => write!(f, "{adding}"),
        }
    }
}
