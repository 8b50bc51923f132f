//! What one example document does, said a second time and as simply as can be: the model that the
//! linearizability of every document is checked against.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::linearizable::Model;

/// The user's fields of an example document, as far as the workload uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fields {
    pub name: String,
    pub counter: Option<i64>,
    pub key_values: BTreeMap<String, String>,
    pub tags: BTreeSet<String>,
}

impl Fields {
    pub fn to_json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("name".into(), self.name.clone().into());
        if let Some(counter) = self.counter {
            fields.insert("counter".into(), counter.into());
        }
        fields.insert("keyValues".into(), json!(self.key_values));
        fields.insert("tags".into(), json!(self.tags));
        fields
    }

    /// Reads what a node answered.
    pub fn from_json(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or("(not a text)").to_owned();
        let entries = document["keyValues"].as_object();
        let tags = document["tags"].as_array();
        Self {
            name: text(&document["name"]),
            counter: document["counter"].as_i64(),
            key_values: entries
                .map(|map| map.iter().map(|(key, value)| (key.clone(), text(value))).collect())
                .unwrap_or_default(),
            tags: tags.map(|list| list.iter().map(text).collect()).unwrap_or_default(),
        }
    }
}

/// A PATCH. What is none or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub name: Option<String>,
    pub counter: Option<i64>,
    /// In a merge patch, none removes the entry.
    pub key_values: BTreeMap<String, Option<String>>,
    pub tags: BTreeSet<String>,
}

/// What was asked of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// POST to the factory; a re-creation must name a version over that of the tombstone.
    Create {
        fields: Fields,
        version: Option<u64>,
    },
    Put(Fields),
    /// Xenon's PATCH: lists and maps are united, the counter only grows.
    Patch(Change),
    /// RFC 7396, of `keyValues` and `name` only.
    MergePatch(Change),
    /// Changes the name if that is still the version.
    Strict {
        name: String,
        version: u64,
    },
    Delete,
    /// A GET, or a query that would have found it.
    Read,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// The document is this now (for a read: it was this).
    Is {
        version: u64,
        fields: Fields,
    },
    Deleted {
        version: u64,
    },
    /// A repeat was answered, but that version has gone since.
    Was {
        version: u64,
    },
    /// There is no such document: 404, a query did not find it, or a DELETE had nothing to do.
    Missing,
    /// 409: it is there already.
    Exists,
    /// 409: it was deleted.
    MarkedDeleted,
    /// 409: another version than named.
    VersionMismatch,
    /// 412: `If-Match` does not hold.
    PreconditionFailed,
}

impl Told {
    /// The version that was shown or made.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Is { version, .. } | Self::Deleted { version } | Self::Was { version } => {
                Some(*version)
            }
            _ => None,
        }
    }
}

/// A request to one document, with its answer if one came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    pub asked: Asked,
    /// The version in `If-Match`.
    pub if_match: Option<u64>,
    pub told: Option<Told>,
}

/// What a document is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    #[default]
    Never,
    Live {
        version: u64,
        fields: Fields,
    },
    Gone {
        version: u64,
    },
}

/// The rules of `/core/examples`.
#[derive(Clone, Copy, Debug)]
pub struct ExampleDocument;

impl Model for ExampleDocument {
    type State = State;
    type Operation = Operation;

    fn step(&self, state: &State, operation: &Operation) -> Option<State> {
        let right = answer(state, operation);
        match &operation.told {
            Some(Told::Was { version }) => (right.told.version() == Some(*version)
                && right.after != *state)
                .then_some(right.after),
            Some(told) => (*told == right.told).then_some(right.after),
            // Without an answer only those that change something matter.
            None => (right.after != *state).then_some(right.after),
        }
    }

    /// Versions only grow.
    fn is_past(&self, state: &State, operation: &Operation) -> bool {
        let Some(now) = state.version() else { return false };
        let Some(told) = operation.told.as_ref().and_then(Told::version) else { return false };
        if operation.asked == Asked::Read { now > told } else { now >= told }
    }
}

impl State {
    fn version(&self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Live { version, .. } | Self::Gone { version } => Some(*version),
        }
    }
}

struct Right {
    told: Told,
    after: State,
}

/// The one right answer in that state.
fn answer(state: &State, operation: &Operation) -> Right {
    let refuse = |told| Right { told, after: state.clone() };
    if let Asked::Create { fields, version } = &operation.asked {
        return create(state, fields, *version);
    }
    let State::Live { version, fields } = state else {
        let conditional = operation.if_match.is_some();
        return refuse(if conditional { Told::PreconditionFailed } else { Told::Missing });
    };
    if operation.if_match.is_some_and(|wanted| wanted != *version) {
        return refuse(Told::PreconditionFailed);
    }
    let next = version + 1;
    let becomes = |fields: Fields| Right {
        told: Told::Is { version: next, fields: fields.clone() },
        after: State::Live { version: next, fields },
    };
    match &operation.asked {
        Asked::Create { .. } => unreachable!("handled above"),
        Asked::Read => refuse(Told::Is { version: *version, fields: fields.clone() }),
        Asked::Put(new) => {
            becomes(Fields { counter: new.counter.max(fields.counter), ..new.clone() })
        }
        Asked::Patch(change) => becomes(patched(fields, change)),
        Asked::MergePatch(change) => becomes(merge_patched(fields, change)),
        Asked::Strict { version: wanted, .. } if wanted != version => refuse(Told::VersionMismatch),
        Asked::Strict { name, .. } => becomes(Fields { name: name.clone(), ..fields.clone() }),
        Asked::Delete => {
            Right { told: Told::Deleted { version: next }, after: State::Gone { version: next } }
        }
    }
}

fn create(state: &State, fields: &Fields, named: Option<u64>) -> Right {
    let refuse = |told| Right { told, after: state.clone() };
    let version = match state {
        State::Never => 0,
        State::Live { .. } => return refuse(Told::Exists),
        State::Gone { version } if named.is_none_or(|named| named <= *version) => {
            return refuse(Told::MarkedDeleted);
        }
        State::Gone { version } => version + 1,
    };
    Right {
        told: Told::Is { version, fields: fields.clone() },
        after: State::Live { version, fields: fields.clone() },
    }
}

fn patched(fields: &Fields, change: &Change) -> Fields {
    let mut after = fields.clone();
    if let Some(name) = &change.name {
        after.name.clone_from(name);
    }
    after.counter = after.counter.max(change.counter);
    for (key, value) in &change.key_values {
        if let Some(value) = value {
            after.key_values.insert(key.clone(), value.clone());
        }
    }
    after.tags.extend(change.tags.iter().cloned());
    after
}

fn merge_patched(fields: &Fields, change: &Change) -> Fields {
    let mut after = fields.clone();
    if let Some(name) = &change.name {
        after.name.clone_from(name);
    }
    for (key, value) in &change.key_values {
        match value {
            Some(value) => after.key_values.insert(key.clone(), value.clone()),
            None => after.key_values.remove(key),
        };
    }
    after
}

#[cfg(test)]
mod tests {
    use super::super::linearizable::{Call, STEPS_MAX, check};
    use super::*;

    fn named(name: &str) -> Fields {
        Fields { name: name.into(), ..Fields::default() }
    }

    fn is(version: u64, name: &str) -> Option<Told> {
        Some(Told::Is { version, fields: named(name) })
    }

    fn history(steps: Vec<(Asked, Option<Told>)>) -> Vec<Call<Operation>> {
        let call = |(index, (asked, told)): (usize, (Asked, Option<Told>))| {
            let began = 10 * u64::try_from(index).unwrap();
            let ended = told.is_some().then_some(began + 5);
            Call { operation: Operation { asked, if_match: None, told }, began, ended }
        };
        steps.into_iter().enumerate().map(call).collect()
    }

    fn holds(steps: Vec<(Asked, Option<Told>)>) -> bool {
        check(&ExampleDocument, State::Never, &history(steps), STEPS_MAX).is_ok()
    }

    fn create(name: &str) -> Asked {
        Asked::Create { fields: named(name), version: None }
    }

    #[test]
    fn a_whole_life_is_right() {
        let again = Asked::Create { fields: named("b"), version: Some(9) };
        assert!(holds(vec![
            (Asked::Read, Some(Told::Missing)),
            (create("a"), is(0, "a")),
            (create("x"), Some(Told::Exists)),
            (Asked::Strict { name: "y".into(), version: 3 }, Some(Told::VersionMismatch)),
            (Asked::Strict { name: "y".into(), version: 0 }, is(1, "y")),
            (Asked::Delete, Some(Told::Deleted { version: 2 })),
            (create("x"), Some(Told::MarkedDeleted)),
            (again, is(3, "b")),
        ]));
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(!holds(vec![
            (create("a"), is(0, "a")),
            (Asked::Put(named("b")), is(1, "b")),
            (Asked::Read, is(0, "a")),
        ]));
    }

    #[test]
    fn a_doubled_write_is_found() {
        let patch = Asked::Patch(Change { name: Some("b".into()), ..Change::default() });
        assert!(!holds(vec![
            (create("a"), is(0, "a")),
            (patch, is(1, "b")),
            (Asked::Read, is(2, "b"))
        ]));
    }

    #[test]
    fn a_strict_update_that_passed_on_an_old_version_is_found() {
        let strict = |name: &str| Asked::Strict { name: name.into(), version: 0 };
        assert!(!holds(vec![
            (create("a"), is(0, "a")),
            (strict("b"), is(1, "b")),
            (strict("c"), is(2, "c")),
        ]));
    }

    #[test]
    fn a_write_that_was_surely_not_applied_and_shows_all_the_same_is_found() {
        // A refused write is not in the history, so nothing explains its effect.
        assert!(!holds(vec![(create("a"), is(0, "a")), (Asked::Read, is(1, "refused"))]));
    }

    #[test]
    fn a_write_without_an_answer_may_show() {
        let put = Asked::Put(named("b"));
        assert!(holds(vec![
            (create("a"), is(0, "a")),
            (put, None),
            (Asked::Read, is(0, "a")),
            (Asked::Read, is(1, "b")),
        ]));
    }

    #[test]
    fn counters_only_grow_and_lists_are_united() {
        let fields = Fields { counter: Some(7), tags: ["a".into()].into(), ..named("x") };
        let change = Change { counter: Some(3), tags: ["b".into()].into(), ..Change::default() };
        let after = patched(&fields, &change);
        assert_eq!(after.counter, Some(7));
        assert_eq!(after.tags.len(), 2);
    }
}
