//! A partition as one would write it in an afternoon: all versions in memory, and queries that
//! look at each of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use protocol::query::{
    MatchType, NumericRange, Occurance, Query, QueryOption, QuerySpecification, QueryTerm,
    SortOrder,
};
use protocol::{Document, GroupId, Moment, Term};
use serde_json::{Number, Value};

use crate::{Batch, Command, RequestKey, Write};

#[derive(Clone, Default)]
pub(crate) struct Model {
    /// The retained versions of each document, the oldest first.
    pub(crate) documents: BTreeMap<String, Vec<Document>>,
    pub(crate) tasks: BTreeSet<String>,
    fences: BTreeMap<GroupId, Term>,
    /// The keys of answered requests: by partition, and without digests. None is forgotten.
    keys: BTreeSet<(usize, String)>,
    /// The links of documents that have had more than one kind.
    changed_kind: BTreeSet<String>,
}

/// Links fall into two partitions by their length.
pub(crate) fn partition(link: &str) -> usize {
    link.len() % 2
}

/// What a query finds, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) link: String,
    pub(crate) version: u64,
    pub(crate) document: Value,
}

impl Model {
    /// False when the command is refused.
    pub(crate) fn apply(&mut self, term: Term, command: &Command) -> bool {
        match command {
            Command::Write(write) => self.write(term, write),
            Command::Fence(source) => {
                let fence = self.fences.entry(source.partition).or_default();
                let is_new = source.epoch >= *fence;
                *fence = source.epoch.max(*fence);
                is_new
            }
            Command::Expire { at, links_max } => {
                let mut due: Vec<(Moment, String)> = self
                    .documents
                    .iter()
                    .map(|(link, versions)| (versions.last().unwrap().expires, link.clone()))
                    .filter(|(expires, _)| expires.0 != 0 && expires <= at)
                    .collect();
                due.sort();
                for (_, link) in due.into_iter().take(usize::try_from(*links_max).unwrap()) {
                    self.documents.remove(&link);
                    self.tasks.remove(&link);
                    self.changed_kind.remove(&link);
                }
                true
            }
            Command::Batch(batch) => self.write_all(term, batch),
            Command::Noop | Command::Remember(_) | Command::Confirm(_) | Command::Note(..) => true,
        }
    }

    /// All or none: on a copy that is thrown away if one of them is refused.
    fn write_all(&mut self, term: Term, batch: &Batch) -> bool {
        let links: BTreeSet<&String> = batch.writes.iter().map(|it| &it.document.link).collect();
        let mut copy = self.clone();
        let is_done = batch.head.epoch == term
            && links.len() == batch.writes.len()
            && batch.writes.iter().all(|write| copy.write(term, write));
        if is_done {
            *self = copy;
        }
        is_done
    }

    fn write(&mut self, term: Term, write: &Write) -> bool {
        let Write { document, key, retention, source, task, purge, .. } = write;
        let link = &document.link;
        let latest = self.documents.get(link).map(|versions| versions.last().unwrap().version);
        let next = latest.map_or(0, |latest| latest + 1);
        let fence = source.map(|source| self.fences.get(&source.partition).copied());
        let is_late = fence.flatten() > source.map(|source| source.epoch);
        if document.epoch != term || document.version != next || is_late {
            return false;
        }
        if let Some(key) = key {
            let name = match key {
                RequestKey::User { key, .. } => key.clone(),
                auto @ RequestKey::Auto { .. } => format!("{auto:?}"),
            };
            if !self.keys.insert((partition(link), name)) {
                return false;
            }
        }
        if let Some(source) = source {
            self.fences.insert(source.partition, source.epoch);
        }
        if *purge {
            self.documents.remove(link);
            self.tasks.remove(link);
            self.changed_kind.remove(link);
            return true;
        }
        let versions = self.documents.entry(link.clone()).or_default();
        if versions.last().is_some_and(|latest| latest.kind != document.kind) {
            self.changed_kind.insert(link.clone());
        }
        versions.push(document.clone());
        if versions.len() > usize::try_from(retention.limit).unwrap() {
            let floor = usize::try_from(retention.floor.clamp(1, retention.limit)).unwrap();
            versions.drain(..versions.len() - floor);
        }
        if *task == Some(true) && !document.is_deleted() {
            self.tasks.insert(link.clone());
        } else {
            self.tasks.remove(link);
        }
        true
    }

    pub(crate) fn live(&self) -> usize {
        self.documents.values().filter(|versions| !versions.last().unwrap().is_deleted()).count()
    }

    /// `None` when a version that may be a hit is not kept any more.
    pub(crate) fn query(
        &self,
        specification: &QuerySpecification,
        now: Moment,
    ) -> Option<Vec<Found>> {
        let at = specification.extent.time_snapshot_boundary_micros.map(Moment);
        let all_versions = specification.has(QueryOption::IncludeAllVersions);
        let deleted = all_versions || specification.has(QueryOption::IncludeDeleted);
        let mut found = Vec::new();
        for versions in self.documents.values() {
            let mut latest = versions.last().unwrap();
            if latest.is_expired(now) {
                continue;
            }
            if let Some(at) = at {
                match versions.iter().rfind(|version| version.updated <= at) {
                    Some(then) if then.is_expired(at) => continue,
                    Some(then) => latest = then,
                    None if versions[0].version == 0 => continue,
                    None => {
                        let kind = !self.changed_kind.contains(&latest.link);
                        let kind = kind.then_some(latest.kind.as_str());
                        if may_meet(&specification.query, (&latest.link, kind), true) {
                            return None;
                        }
                        continue;
                    }
                }
            }
            if latest.is_deleted() && !deleted {
                continue;
            }
            let shown =
                if all_versions { versions.as_slice() } else { std::slice::from_ref(latest) };
            for document in shown {
                let json = document.to_json(&document.owner);
                if !meets(&json, &specification.query, true) {
                    continue;
                }
                let terms = specification.sort_term.iter();
                let order: Vec<_> = terms
                    .chain(&specification.additional_sort_terms)
                    .map(|term| {
                        sort_value(&json, &term.property_name, is_down(specification, term))
                    })
                    .collect();
                let (link, version) = (document.link.clone(), document.version);
                found.push((order, Found { link, version, document: json }));
            }
        }
        let terms: Vec<&QueryTerm> =
            specification.sort_term.iter().chain(&specification.additional_sort_terms).collect();
        found.sort_by(|(one, one_found), (other, other_found)| {
            let mut by_value = Ordering::Equal;
            for ((term, one), other) in terms.iter().zip(one).zip(other) {
                by_value = by_value.then(match (one, other) {
                    (Some(one), Some(other)) if is_down(specification, term) => compare(other, one),
                    (Some(one), Some(other)) => compare(one, other),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => Ordering::Equal,
                });
            }
            let by_link = one_found.link.cmp(&other_found.link);
            by_value.then(by_link).then(one_found.version.cmp(&other_found.version))
        });
        Some(found.into_iter().map(|(_, found)| found).collect())
    }
}

/// Whether something with that link, and perhaps of that kind, may be what the clause asks for (or
/// may be something else). Each comparison that nobody can make may come out either way.
fn may_meet(query: &Query, known: (&str, Option<&str>), wanted: bool) -> bool {
    let wanted = wanted == (query.occurance != Occurance::MustNotOccur);
    may_be(query, known, wanted)
}

fn may_be(query: &Query, known: (&str, Option<&str>), wanted: bool) -> bool {
    if let Some(term) = &query.term {
        let value = match term.property_name.as_str() {
            "documentSelfLink" => Some(known.0),
            "documentKind" => known.1,
            _ => None,
        };
        return value.is_none_or(|value| value_meets(&value.into(), term) == wanted);
    }
    let clauses = query.boolean_clauses.as_deref().unwrap_or_default();
    let of = |wanted| clauses.iter().filter(move |clause| clause.occurance == wanted);
    let has_must = of(Occurance::MustOccur).next().is_some();
    let may = |clause: &Query, wanted| may_be(clause, known, wanted);
    let mut one_of = of(Occurance::ShouldOccur).peekable();
    let needs_one = !has_must && one_of.peek().is_some();
    if wanted {
        return of(Occurance::MustOccur).all(|clause| may(clause, true))
            && of(Occurance::MustNotOccur).all(|clause| may(clause, false))
            && (!needs_one || one_of.any(|clause| may(clause, true)));
    }
    of(Occurance::MustOccur).any(|clause| may(clause, false))
        || of(Occurance::MustNotOccur).any(|clause| may(clause, true))
        || needs_one && one_of.all(|clause| may(clause, false))
}

fn is_down(specification: &QuerySpecification, term: &QueryTerm) -> bool {
    term.sort_order.or(specification.sort_order) == Some(SortOrder::Desc)
}

/// Calls for each leaf with its path; arrays are not in it.
fn leaves<'v>(value: &'v Value, path: &str, take: &mut dyn FnMut(&str, &'v Value)) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| leaves(item, path, take)),
        Value::Object(fields) => {
            for (name, inner) in fields {
                let inner_path =
                    if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(inner, &inner_path, take);
            }
        }
        leaf => take(path, leaf),
    }
}

/// Whether a name in a query stands for that path: a part `item` may stand for nothing.
fn stands_for(name: &str, path: &str) -> bool {
    if name == "ALL_FIELDS" {
        return !query::is_built_in(path);
    }
    fn parts(name: &[&str], path: &[&str], is_first: bool) -> bool {
        match (name, path) {
            ([], []) => true,
            ([part, rest @ ..], _) if !is_first && *part == "item" && parts(rest, path, false) => {
                true
            }
            ([part, rest @ ..], [first, path @ ..]) if part == first => parts(rest, path, false),
            _ => false,
        }
    }
    let split = |text: &'_ str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (name, path) = (split(name), split(path));
    let name: Vec<&str> = name.iter().map(String::as_str).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    parts(&name, &path, true)
}

fn meets(document: &Value, query: &Query, is_outermost: bool) -> bool {
    if is_outermost && query.occurance == Occurance::MustNotOccur {
        let inner = Query { occurance: Occurance::MustOccur, ..query.clone() };
        return !meets(document, &inner, true);
    }
    if let Some(term) = &query.term {
        let mut is_met = false;
        leaves(document, "", &mut |path, leaf| {
            is_met |= stands_for(&term.property_name, path) && value_meets(leaf, term);
            is_met |= term.within != Some(false) && meets_within(path, leaf, term);
        });
        return is_met;
    }
    let clauses = query.boolean_clauses.as_deref().unwrap_or_default();
    let of = |wanted| clauses.iter().filter(move |clause| clause.occurance == wanted);
    let met = |clause: &Query| meets(document, clause, false);
    let has_must = of(Occurance::MustOccur).next().is_some();
    let has_should = of(Occurance::ShouldOccur).next().is_some();
    of(Occurance::MustOccur).all(met)
        && !of(Occurance::MustNotOccur).any(met)
        && (has_must || !has_should || of(Occurance::ShouldOccur).any(met))
}

/// Whether the term names an object on the way to the leaf, and asks for the leaf or for a name on
/// the rest of the way.
fn meets_within(path: &str, leaf: &Value, term: &QueryTerm) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    (1..parts.len()).any(|at| {
        let is_named = term.property_name != "ALL_FIELDS"
            && stands_for(&term.property_name, &parts[..at].join("."));
        let names = (at + 1..=parts.len()).map(|end| parts[at..end].join("."));
        let names = names.filter(|name| path.len() <= 512 && name.len() <= 128).map(Value::from);
        is_named && names.chain([leaf.clone()]).any(|value| value_meets(&value, term))
    })
}

fn value_meets(leaf: &Value, term: &QueryTerm) -> bool {
    if !term.match_values.is_empty() {
        return term.match_values.iter().any(|value| {
            let match_value = Some(value.clone());
            let name = term.property_name.clone();
            let one = QueryTerm { property_name: name, match_value, ..QueryTerm::default() };
            value_meets(leaf, &one)
        });
    }
    if let Some(range) = &term.range {
        return in_range(leaf, range);
    }
    let wanted = match term.match_value.as_ref().unwrap() {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = leaf.as_str();
    match term.match_type.unwrap_or_default() {
        MatchType::Term => match leaf {
            Value::Number(number) => serde_json::from_str::<Number>(&wanted)
                .is_ok_and(|wanted| numbers(number, &wanted) == Ordering::Equal),
            Value::Bool(boolean) => boolean.to_string() == wanted,
            _ => text == Some(wanted.as_str()),
        },
        MatchType::Prefix => text.is_some_and(|text| text.starts_with(&wanted)),
        MatchType::Wildcard if wanted.chars().all(|c| c == '*') && !wanted.is_empty() => true,
        MatchType::Wildcard => {
            let pattern: Vec<char> = wanted.chars().collect();
            text.is_some_and(|text| fits(&pattern, &text.chars().collect::<Vec<_>>()))
        }
        MatchType::Phrase => text.is_some_and(|text| spaced(text).contains(&spaced(&wanted))),
    }
}

fn in_range(leaf: &Value, range: &NumericRange) -> bool {
    let is_text = [&range.min, &range.max].into_iter().flatten().all(Value::is_string);
    let (is_same_sort, by): (bool, fn(&Value, &Value) -> Ordering) = match is_text {
        true => (leaf.is_string(), |one, other| one.as_str().cmp(&other.as_str())),
        false => (leaf.is_number(), |one, other| {
            numbers(one.as_number().unwrap(), other.as_number().unwrap())
        }),
    };
    let above = || {
        range.min.as_ref().is_none_or(|min| match by(leaf, min) {
            Ordering::Greater => true,
            Ordering::Equal => range.is_min_inclusive,
            Ordering::Less => false,
        })
    };
    let below = || {
        range.max.as_ref().is_none_or(|max| match by(leaf, max) {
            Ordering::Less => true,
            Ordering::Equal => range.is_max_inclusive,
            Ordering::Greater => false,
        })
    };
    is_same_sort && above() && below()
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['*', rest @ ..], _) if fits(rest, text) => true,
        (['*', ..], [_, text @ ..]) => fits(pattern, text),
        (['\\', wanted, rest @ ..], [first, text @ ..]) => wanted == first && fits(rest, text),
        (['?', rest @ ..], [_, text @ ..]) => fits(rest, text),
        ([wanted, rest @ ..], [first, text @ ..]) if *wanted != '*' => {
            wanted == first && fits(rest, text)
        }
        _ => false,
    }
}

/// The words, each with a blank before and after it.
fn spaced(text: &str) -> String {
    let letters: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words: Vec<String> = letters.split_whitespace().map(str::to_lowercase).collect();
    format!(" {} ", words.join(" "))
}

/// All values that a field's name stands for.
pub(crate) fn values_of<'v>(document: &'v Value, name: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    leaves(document, "", &mut |path, leaf| {
        if stands_for(name, path) {
            found.push(leaf);
        }
    });
    found
}

/// Of many values the least, or downward the greatest.
fn sort_value(document: &Value, name: &str, down: bool) -> Option<Value> {
    let mut best: Option<Value> = None;
    leaves(document, "", &mut |path, leaf| {
        let is_better = |best: &Value| {
            compare(leaf, best) == if down { Ordering::Greater } else { Ordering::Less }
        };
        if stands_for(name, path) && best.as_ref().is_none_or(is_better) {
            best = Some(leaf.clone());
        }
    });
    best
}

fn compare(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Bool(_) => 0,
        Value::Number(_) => 1,
        _ => 2,
    };
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Number(one), Value::Number(other)) => numbers(one, other),
        (Value::String(one), Value::String(other)) => {
            // Beyond 1024 bytes only whether there is more counts.
            let cut =
                |text: &str| (text.as_bytes()[..text.len().min(1024)].to_vec(), text.len() > 1024);
            cut(one).cmp(&cut(other))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

fn numbers(one: &Number, other: &Number) -> Ordering {
    let whole = |number: &Number| -> Option<i128> {
        let float = number.as_f64().unwrap();
        if number.is_f64() {
            (float.fract() == 0.0 && float.abs() < 1e30)
                .then(|| format!("{float:.0}").parse().unwrap())
        } else {
            Some(number.to_string().parse().unwrap())
        }
    };
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.as_f64().partial_cmp(&other.as_f64()).unwrap(),
    }
}
