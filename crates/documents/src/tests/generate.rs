//! Random documents, commands and queries, with few enough values that they meet.

use bytes::Bytes;
use protocol::query::{
    MatchType, NumericRange, Occurance, Query, QueryOption, QuerySpecification, QueryTerm,
    SortOrder,
};
use protocol::{Action, Body, Document, GroupId, InstanceMessage, Moment, ReplicaId, Source, Term};
use random::Random;
use serde_json::{Map, Value, json};

use super::model::Model;
use crate::{Command, RequestKey, Retention, Write};

const LINKS: u64 = 40;
const KINDS: [&str; 3] = ["com:example:A", "com:example:AB", "com:example:C"];

pub(crate) fn link(random: &mut Random) -> String {
    let folder = *random.pick(&["/core/examples", "/core/examples-two", "/core/examples/deep"]);
    format!("{folder}/{}", random.below(LINKS / 3))
}

fn text(random: &mut Random) -> String {
    match random.below(12) {
        0 => "x".repeat(120 + random.index(20)),
        1 if random.one_in(8) => format!("{}{}", "x".repeat(1024), random.pick(&["", "a", "b"])),
        1 => format!("{}{}", "x".repeat(128), random.pick(&["", "a", "b", "aa", "\0", "x"])),
        2 => (*random.pick(&["", "\0", "\0\0a", "a\0", "5", "5.0", "true", "*"])).to_owned(),
        3 => "Quick brown fox, jumps".to_owned(),
        4 => "the quick-brown fox".to_owned(),
        _ => (*random.pick(&["a", "ab", "abc", "b", "ba", "Über", "über", "z"])).to_owned(),
    }
}

fn number(random: &mut Random) -> Value {
    match random.below(10) {
        0 => json!(9_007_199_254_740_992_u64 + random.below(3)),
        1 => json!(u64::MAX - random.below(2)),
        2 => json!(i64::MIN + i64::from(random.one_in(2))),
        3 => json!(9_007_199_254_740_992.0),
        4 => json!(1e300),
        5 => json!(-0.0),
        6 => json!(f64::from(u32::try_from(random.below(10)).unwrap()) / 2.0),
        _ => json!(i64::try_from(random.below(10)).unwrap() - 4),
    }
}

fn value(random: &mut Random) -> Value {
    match random.below(4) {
        0 => number(random),
        1 => json!(random.one_in(2)),
        _ => text(random).into(),
    }
}

fn list(random: &mut Random, length: u64) -> Value {
    (0..random.below(length)).map(|_| value(random)).collect()
}

fn body(random: &mut Random) -> Map<String, Value> {
    let mut fields = Map::new();
    for name in ["name", "text", "counter", "flag", "tags", "keyValues", "nested", "mixed", "item"]
    {
        if random.one_in(3) {
            continue;
        }
        let value = match name {
            "counter" => number(random),
            "flag" => json!(random.one_in(2)),
            "tags" => list(random, 4),
            "keyValues" => {
                let mut pairs = Map::new();
                for _ in 0..random.below(4) {
                    let key = match random.below(500) {
                        0 => "p".repeat(600),
                        1 => format!("k1.{}", "p".repeat(600)),
                        2..12 => format!("{}{}", "x".repeat(128), random.pick(&["", "a", ".a"])),
                        _ => (*random.pick(&["k1", "k2", "a.b", "item", ""])).to_owned(),
                    };
                    pairs.insert(key, value(random));
                }
                pairs.into()
            }
            "nested" => json!({
                "a": {"b": value(random), "item": value(random), "none": null},
                "list": [{"x": value(random)}, [{"x": value(random)}, list(random, 3)]],
            }),
            "mixed" => value(random),
            _ => text(random).into(),
        };
        fields.insert(name.into(), value);
    }
    if random.one_in(60) {
        fields.insert("many".into(), (0..70).map(|n| json!(n)).collect());
    }
    fields
}

/// The next command, mostly one that is accepted.
pub(crate) fn command(random: &mut Random, model: &Model, term: Term, now: Moment) -> Command {
    match random.below(30) {
        0 => return Command::Noop,
        1 => return Command::Fence(source(random)),
        2 | 3 => {
            let links_max = u32::try_from(random.below(5)).unwrap();
            return Command::Expire { at: now, links_max };
        }
        _ => {}
    }
    let link = link(random);
    let latest = model.documents.get(&link).map(|versions| versions.last().unwrap());
    let mut version = latest.map_or(0, |latest| latest.version + 1);
    if random.one_in(20) {
        version += random.below(3);
    }
    let action = match (latest, random.below(8)) {
        (None, _) => Action::Post,
        (Some(_), 0) => Action::Delete,
        (Some(_), 1) => Action::Put,
        (Some(_), _) => Action::Patch,
    };
    let kind = match latest {
        Some(latest) if !random.one_in(25) => latest.kind.clone(),
        _ => (*random.pick(&KINDS)).to_owned(),
    };
    let expires = match random.below(8) {
        0 => Moment(now.0 + random.below(2_000)),
        1 => Moment(now.0.saturating_sub(random.below(2_000))),
        _ => Moment(0),
    };
    let key = match random.below(3) {
        0 => None,
        1 => Some(RequestKey::User {
            key: format!("key-{}", random.below(10_000)),
            digest: random.below(3),
        }),
        _ => Some(RequestKey::Auto {
            edge: ReplicaId(random.below(3)),
            boot: 1,
            number: random.below(10_000),
            // The edge's clock is not the owner's.
            minute: u32::try_from(now.0 / 60_000_000 + 2)
                .unwrap()
                .saturating_sub(u32::try_from(random.below(10)).unwrap()),
        }),
    };
    let limit = u32::try_from(1 + random.below(5)).unwrap();
    Command::Write(Write {
        document: Document {
            link,
            version,
            epoch: if random.one_in(25) { Term(term.0 - 1) } else { term },
            kind,
            action,
            updated: now,
            expires,
            owner: format!("node-{}", random.below(3)),
            author: None,
            body: Body::from_map(body(random)),
        },
        key,
        status: 200,
        retention: Retention { limit, floor: u32::try_from(random.below(6)).unwrap() },
        source: random.one_in(4).then(|| source(random)),
        task: [None, Some(false), Some(true)][random.index(3)],
        purge: random.one_in(25),
        response: random.one_in(5).then(|| Bytes::from_static(b"{\"a\":1}")),
        messages: messages(random),
        noted: None,
    })
}

fn messages(random: &mut Random) -> Vec<InstanceMessage> {
    let count = if random.one_in(4) { random.below(4) } else { 0 };
    let message = |random: &mut Random| InstanceMessage {
        to: (*random.pick(&["ledger", "ledger-2", "l"])).to_owned(),
        method: 3 - i64::try_from(random.below(6)).unwrap(),
        payload: text(random).into(),
    };
    (0..count).map(|_| message(random)).collect()
}

fn source(random: &mut Random) -> Source {
    let partition = GroupId(u32::try_from(1 + random.below(3)).unwrap());
    Source { partition, epoch: Term(1 + random.below(4)) }
}

pub(crate) fn specification(random: &mut Random, now: Moment) -> QuerySpecification {
    let mut specification =
        QuerySpecification { query: query(random, now, 3), ..QuerySpecification::default() };
    if random.one_in(2) {
        let mut field = || {
            random
                .pick(&[
                    "name",
                    "counter",
                    "flag",
                    "tags",
                    "tags.item",
                    "mixed",
                    "nested.list.x",
                    "keyValues.k1",
                    "absent",
                    "documentSelfLink",
                    "documentKind",
                    "documentVersion",
                    "documentUpdateTimeMicros",
                ])
                .to_string()
        };
        let names = [field(), field(), field()];
        specification.sort_term = Some(QueryTerm::field(&names[0]));
        let more = random.index(4).saturating_sub(1);
        for name in &names[1..=more] {
            let sort_order = [None, Some(SortOrder::Asc), Some(SortOrder::Desc)][random.index(3)];
            let term = QueryTerm { sort_order, ..QueryTerm::field(name) };
            specification.additional_sort_terms.push(term);
        }
        specification.options.push(QueryOption::Sort);
        specification.sort_order =
            [None, Some(SortOrder::Asc), Some(SortOrder::Desc)][random.index(3)];
    }
    match random.below(12) {
        0 => specification.options.push(QueryOption::IncludeAllVersions),
        1 => specification.options.push(QueryOption::IncludeDeleted),
        2 | 3 => {
            // Mostly as it was just now, as few versions are kept.
            let ago = if random.one_in(4) { now.0.saturating_sub(1_000_000) } else { 1_000 };
            specification.as_of(Moment(now.0 - random.below(ago.max(1))));
            if random.one_in(3) {
                specification.options.push(QueryOption::IncludeDeleted);
            }
        }
        _ => {}
    }
    if random.one_in(2) {
        specification.options.push(QueryOption::ExpandContent);
    }
    specification
}

fn query(random: &mut Random, now: Moment, depth: u64) -> Query {
    let occurance = match random.below(6) {
        0 => Occurance::MustNotOccur,
        1 | 2 => Occurance::ShouldOccur,
        _ => Occurance::MustOccur,
    };
    if depth == 0 || random.one_in(3) {
        return Query { occurance, term: Some(term(random, now)), boolean_clauses: None };
    }
    let clauses = (0..1 + random.below(3)).map(|_| query(random, now, depth - 1)).collect();
    Query { occurance, term: None, boolean_clauses: Some(clauses) }
}

/// The fields that terms ask for, some of them more often.
const ASKED: [&str; 34] = [
    "name",
    "name",
    "text",
    "counter",
    "flag",
    "tags",
    "tags.item",
    "keyValues",
    "keyValues",
    "keyValues.k1",
    "keyValues.a",
    "keyValues.a.b",
    "keyValues.item",
    "nested",
    "nested.a",
    "nested.a.b",
    "nested.a.item",
    "nested.list.item.x",
    "nested.list.item.item.x",
    "nested.list",
    "mixed",
    "many.item",
    "ALL_FIELDS",
    "item",
    "absent",
    "documentKind",
    "documentKind",
    "documentSelfLink",
    "documentSelfLink",
    "documentVersion",
    "documentUpdateTimeMicros",
    "documentUpdateAction",
    "documentExpirationTimeMicros",
    "documentOwner",
];

fn term(random: &mut Random, now: Moment) -> QueryTerm {
    let property_name = *random.pick(&ASKED);
    let within = if property_name != "ALL_FIELDS" && random.one_in(8) { Some(false) } else { None };
    let mut made = QueryTerm { within, ..QueryTerm::field(property_name) };
    if random.one_in(3) && property_name != "documentSelfLink" {
        made.range = Some(range(random, now, property_name));
        return made;
    }
    let value = match property_name {
        "documentSelfLink" => link(random).into(),
        "documentKind" => (*random.pick(&KINDS)).into(),
        "documentUpdateAction" => (*random.pick(&["POST", "DELETE"])).into(),
        "documentOwner" => "node-1".into(),
        "keyValues" | "nested" | "nested.a" if random.one_in(3) => {
            (*random.pick(&["k1", "a", "a.b", "b", "", "list", "list.x"])).into()
        }
        _ => value(random),
    };
    let match_type = [MatchType::Term, MatchType::Prefix, MatchType::Wildcard, MatchType::Phrase]
        [if random.one_in(2) { 0 } else { random.index(4) }];
    let text = match &value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if match_type == MatchType::Term && random.one_in(4) {
        let more = random.index(4);
        made.match_values = vec![value];
        for _ in 0..more {
            made.match_values.push(match property_name {
                "documentSelfLink" => link(random).into(),
                "documentKind" => (*random.pick(&KINDS)).into(),
                _ => self::value(random),
            });
        }
        return made;
    }
    made.match_value = Some(match match_type {
        MatchType::Term => value,
        MatchType::Prefix => text.chars().take(random.index(20)).collect::<String>().into(),
        MatchType::Wildcard => pattern(random, &text).into(),
        MatchType::Phrase if text.chars().any(char::is_alphanumeric) => text.into(),
        MatchType::Phrase => "quick brown".into(),
    });
    made.match_type = Some(match_type);
    made
}

fn range(random: &mut Random, now: Moment, property_name: &str) -> NumericRange {
    let is_time = property_name.ends_with("Micros");
    let is_text = !is_time && random.one_in(2);
    let mut end = || match (is_time, is_text) {
        (true, _) => json!(now.0 - random.below(now.0)),
        (_, true) => text(random).into(),
        (_, false) => number(random),
    };
    let (min, max) = (end(), end());
    NumericRange {
        number_type: Some(if is_text { "STRING" } else { "LONG" }.into()),
        is_min_inclusive: random.one_in(2),
        is_max_inclusive: random.one_in(2),
        max: Some(max).filter(|_| random.one_in(2)),
        min: Some(min),
    }
}

/// The text with some of it replaced by stars and question marks.
fn pattern(random: &mut Random, text: &str) -> String {
    let mut pattern = String::new();
    // The model takes exponential time in the stars.
    let mut stars = 0;
    for char in text.chars().take(20) {
        match random.below(6) {
            0 => pattern.push('?'),
            1 if stars < 3 => {
                stars += 1;
                pattern.push('*');
            }
            _ if "*?\\".contains(char) => pattern.extend(['\\', char]),
            _ => pattern.push(char),
        }
    }
    if random.one_in(2) {
        pattern.push('*');
    }
    pattern
}
