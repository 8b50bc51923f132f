//! The built-in PATCH: fields that replace, fields that are united, merge patches, and Xenon's
//! requests to add and remove items.

use std::collections::BTreeSet;

use protocol::{BUILT_IN_FIELDS, Body, BodyType, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::state::{check_required, check_types, decode};
use crate::{FieldType, Numbers, Spec};

/// The kinds of PATCH that every service knows.
pub(crate) const KINDS: [&str; 2] = [COLLECTION_UPDATE, MAP_UPDATE];
const COLLECTION_UPDATE: &str = "com:vmware:xenon:common:ServiceStateCollectionUpdateRequest";
const MAP_UPDATE: &str = "com:vmware:xenon:common:ServiceStateMapUpdateRequest";

/// The body of a PATCH.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// `kind`, when the body has one that says what is asked.
    pub kind: Option<String>,
    /// The user's fields, without the built-in ones and `kind`. A merge patch may have nulls.
    pub fields: Map<String, Value>,
    pub body_type: BodyType,
}

/// See [`crate::Context::merge`].
pub(crate) fn state<S: Serialize + DeserializeOwned>(
    spec: &Spec,
    current: &S,
    patch: &Patch,
    numbers: &Numbers,
) -> Result<S, Problem> {
    if is_plain(patch) {
        check_types(spec, &patch.fields)?;
    }
    let current = numbers.of_state(fields_of(current)?);
    let patch = Patch { fields: numbers.of_patch(patch.fields.clone()), ..patch.clone() };
    let as_items = |name: &str, items: &Value| as_kept::<S>(spec, numbers, &current, name, items);
    let merge = Merge { spec, numbers, as_items: &as_items };
    let merged = merge.fields(current.clone(), &patch)?;
    let plain = numbers.plain_fields(&merged);
    check_types(spec, &plain)?;
    check_required(spec, &plain)?;
    decode(spec, merged, numbers)
}

/// The new state with the numbers that the built-in merge keeps, where it has done what that does.
pub(crate) fn with_numbers(spec: &Spec, new: Body, patch: &Patch, numbers: &Numbers) -> Body {
    let Some((before, changes)) = numbers.both() else { return new };
    let marked = Patch { fields: changes, ..patch.clone() };
    let as_items = |_: &str, items: &Value| Ok(items.clone());
    let merge = Merge { spec, numbers, as_items: &as_items };
    match merge.fields(before, &marked) {
        Ok(merged) => numbers.put_in(new, &merged),
        Err(_) => new,
    }
}

/// A list or a map as the state keeps it: 1 is "1" in a list of texts. So it is compared as it
/// would be stored.
fn as_kept<S: Serialize + DeserializeOwned>(
    spec: &Spec,
    numbers: &Numbers,
    current: &Map<String, Value>,
    name: &str,
    items: &Value,
) -> Result<Value, Problem> {
    let mut fields = current.clone();
    fields.insert(name.to_owned(), items.clone());
    let state: S = decode(spec, fields, numbers)?;
    Ok(match fields_of(&state)?.remove(name) {
        Some(kept) if kept.is_array() || kept.is_object() => numbers.with_marks_of(kept, items),
        _ => items.clone(),
    })
}

/// Whether a patch names fields of the state, and not what is to be done with them.
fn is_plain(patch: &Patch) -> bool {
    !patch.kind.as_deref().is_some_and(|kind| KINDS.contains(&kind))
}

/// The fields that are stored of a state.
fn fields_of<S: Serialize>(state: &S) -> Result<Map<String, Value>, Problem> {
    match serde_json::to_value(state) {
        Ok(Value::Object(mut fields)) => {
            fields.retain(|name, value| {
                !value.is_null() && !BUILT_IN_FIELDS.contains(&name.as_str())
            });
            Ok(fields)
        }
        Ok(_) => Err(Problem::internal("a state must be a JSON object")),
        Err(error) => Err(Problem::internal(format!("a state cannot be written: {error}"))),
    }
}

type AsItems<'a> = &'a dyn Fn(&str, &Value) -> Result<Value, Problem>;

/// How the fields of a patch are merged into those of a state.
struct Merge<'a> {
    spec: &'a Spec,
    numbers: &'a Numbers,
    /// What is to be compared with the items of a field, as it would be stored there.
    as_items: AsItems<'a>,
}

impl Merge<'_> {
    fn fields(
        &self,
        mut current: Map<String, Value>,
        patch: &Patch,
    ) -> Result<Map<String, Value>, Problem> {
        match patch.kind.as_deref() {
            Some(kind @ COLLECTION_UPDATE) => {
                check_parts(patch, kind, ["itemsToAdd", "itemsToRemove"])?;
                self.update_each(&mut current, patch, "itemsToRemove", Self::remove_items)?;
                self.update_each(&mut current, patch, "itemsToAdd", Self::unite)?;
            }
            Some(kind @ MAP_UPDATE) => {
                check_parts(patch, kind, ["entriesToAdd", "keysToRemove"])?;
                self.update_each(&mut current, patch, "keysToRemove", Self::remove_keys)?;
                self.update_each(&mut current, patch, "entriesToAdd", Self::unite)?;
            }
            _ if patch.body_type == BodyType::MergePatch => {
                let mut whole = Value::Object(current);
                merge_patch(&mut whole, &Value::Object(patch.fields.clone()));
                let Value::Object(merged) = whole else { return Ok(Map::new()) };
                current = merged;
            }
            _ => {
                for (name, value) in &patch.fields {
                    self.field(&mut current, name, value)?;
                }
            }
        }
        current.retain(|_, value| !value.is_null());
        Ok(current)
    }

    fn field(
        &self,
        current: &mut Map<String, Value>,
        name: &str,
        value: &Value,
    ) -> Result<(), Problem> {
        if value.is_null() {
            return Ok(());
        }
        let unites = self.spec.field_named(name).is_some_and(|field| field.merge);
        if unites && (value.is_array() || value.is_object()) {
            return self.unite(current, name, value);
        }
        current.insert(name.to_owned(), value.clone());
        Ok(())
    }

    /// Adds what is not there: items at the end of a list, entries to a map.
    fn unite(
        &self,
        current: &mut Map<String, Value>,
        name: &str,
        added: &Value,
    ) -> Result<(), Problem> {
        let added = (self.as_items)(name, added)?;
        match (current.get_mut(name), added) {
            (None | Some(Value::Null), Value::Array(more)) => {
                let mut items = Vec::with_capacity(more.len());
                self.add(&mut items, more);
                current.insert(name.to_owned(), items.into());
            }
            (None | Some(Value::Null), entries @ Value::Object(_)) => {
                current.insert(name.to_owned(), entries);
            }
            (Some(Value::Array(items)), Value::Array(more)) => self.add(items, more),
            (Some(Value::Object(entries)), Value::Object(more)) => entries.extend(more),
            _ => return Err(Problem::bad_body(format!("the field '{name}' is not of that type"))),
        }
        Ok(())
    }

    fn add(&self, items: &mut Vec<Value>, more: Vec<Value>) {
        let mut keys: BTreeSet<String> = items.iter().map(|item| self.numbers.key(item)).collect();
        items.extend(more.into_iter().filter(|item| keys.insert(self.numbers.key(item))));
    }

    fn remove_items(
        &self,
        current: &mut Map<String, Value>,
        name: &str,
        out: &Value,
    ) -> Result<(), Problem> {
        if !out.is_array() {
            return Err(Problem::bad_body(format!("itemsToRemove.{name} must be a list")));
        }
        match current.get_mut(name) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Array(items)) => {
                let out = (self.as_items)(name, out)?;
                let out = out.as_array().into_iter().flatten();
                let keys: BTreeSet<String> = out.map(|item| self.numbers.key(item)).collect();
                items.retain(|item| !keys.contains(&self.numbers.key(item)));
                Ok(())
            }
            Some(_) => Err(Problem::bad_body(format!("the field '{name}' is not a list"))),
        }
    }

    fn remove_keys(
        &self,
        current: &mut Map<String, Value>,
        name: &str,
        out: &Value,
    ) -> Result<(), Problem> {
        let Value::Array(out) = out else {
            return Err(Problem::bad_body(format!("keysToRemove.{name} must be a list of keys")));
        };
        let is_text = |key: &Value| key.is_string() && self.numbers.written(key).is_none();
        if let Some(wrong) = out.iter().find(|key| !is_text(key)) {
            let wrong = self.numbers.written(wrong).map_or_else(|| wrong.to_string(), Into::into);
            return Err(Problem::bad_body(format!(
                "keysToRemove.{name} has {wrong}; keys are texts"
            )));
        }
        match current.get_mut(name) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Object(entries)) => {
                entries.retain(|key, _| !out.iter().any(|gone| gone.as_str() == Some(key)));
                Ok(())
            }
            Some(_) => Err(Problem::bad_body(format!("the field '{name}' is not a map"))),
        }
    }

    /// Applies one part of a collection or map request to each field that it names.
    fn update_each(
        &self,
        current: &mut Map<String, Value>,
        patch: &Patch,
        part: &str,
        update: Update<Self>,
    ) -> Result<(), Problem> {
        let named = match patch.fields.get(part) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(named)) => named,
            Some(_) => {
                return Err(Problem::bad_body(format!(
                    "'{part}' must be an object: field -> values"
                )));
            }
        };
        for (name, value) in named {
            check_target(self.spec, current, part, name)?;
            update(self, current, name, value)?;
        }
        Ok(())
    }
}

type Update<M> = fn(&M, &mut Map<String, Value>, &str, &Value) -> Result<(), Problem>;

/// Such a request changes collections or maps, and nothing else.
fn check_parts(patch: &Patch, kind: &str, known: [&str; 2]) -> Result<(), Problem> {
    let said = patch.fields.iter().filter(|(_, value)| !value.is_null());
    let mut names = said.map(|(name, _)| name.as_str());
    match names.find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Problem::bad_body(format!(
            "a PATCH of the kind {kind} has no field '{name}'; it has {}. Send other changes in a \
             PATCH of their own",
            known.join(", ")
        ))),
    }
}

fn check_target(
    spec: &Spec,
    current: &Map<String, Value>,
    part: &str,
    name: &str,
) -> Result<(), Problem> {
    match spec.field_named(name) {
        Some(field) if field.internal => {
            Err(Problem::bad_request(format!("Do not specify {name}: internal use only")))
        }
        Some(field) => match field.field_type {
            FieldType::Collection | FieldType::Map | FieldType::Any | FieldType::Object => Ok(()),
            other => {
                Err(Problem::bad_body(format!("{part}: '{name}' is of type {}", other.name())))
            }
        },
        None if spec.fields.is_empty() || current.contains_key(name) => Ok(()),
        None => Err(Problem::bad_body(format!("{part}: {} has no field '{name}'", spec.kind))),
    }
}

/// RFC 7396.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge_patch(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Field, digits};

    fn spec() -> Spec {
        Spec::new("/core/things", "a:Things:Thing")
            .field(Field::new("name", FieldType::String).required().merge())
            .field(Field::new("tags", FieldType::Collection).merge())
            .field(Field::new("list", FieldType::Collection))
            .field(Field::new("map", FieldType::Map).merge())
            .field(Field::new("hidden", FieldType::Collection).internal())
    }

    fn merged(current: Value, patch: Patch) -> Result<Value, String> {
        let Value::Object(current) = current else { panic!("not an object") };
        state(&spec(), &current, &patch, &Numbers::default())
            .map(Value::Object)
            .map_err(|problem| problem.to_string())
    }

    fn patch(kind: Option<&str>, body: Value, body_type: BodyType) -> Patch {
        let Value::Object(fields) = body else { panic!("not an object") };
        Patch { kind: kind.map(ToOwned::to_owned), fields, body_type }
    }

    #[test]
    fn fields_replace_and_merged_fields_are_united() {
        let current = json!({"name": "a", "tags": ["x"], "list": [1], "map": {"k": 1, "l": 2}});
        let change = json!({"name": null, "tags": ["x", "y"], "list": [2], "map": {"k": 3}});
        let after = merged(current, patch(None, change, BodyType::Json)).unwrap();
        let expected = json!({"name": "a", "tags": ["x", "y"], "list": [2],
            "map": {"k": 3, "l": 2}});
        assert_eq!(after, expected);
    }

    #[test]
    fn a_merge_patch_removes_with_null_and_replaces_lists() {
        let current = json!({"name": "a", "tags": ["x"], "map": {"k": {"d": 1}, "l": 2}});
        let change = json!({"tags": ["y"], "map": {"k": {"d": null, "e": 1}, "l": null}});
        let after = merged(current.clone(), patch(None, change, BodyType::MergePatch)).unwrap();
        assert_eq!(after, json!({"name": "a", "tags": ["y"], "map": {"k": {"e": 1}}}));
        let change = patch(None, json!({"name": null}), BodyType::MergePatch);
        assert_eq!(merged(current, change).unwrap_err(), "BAD_REQUEST (400): name is required");
    }

    #[test]
    fn a_collection_request_adds_and_removes_items() {
        let current = json!({"name": "a", "tags": ["x", "y"]});
        let change = json!({"itemsToAdd": {"tags": ["z", "z"]}, "itemsToRemove": {"tags": ["x"]}});
        let after = merged(current.clone(), patch(KINDS.first().copied(), change, BodyType::Json));
        assert_eq!(after.unwrap(), json!({"name": "a", "tags": ["y", "z"]}));
        for wrong in ["hidden", "name", "nothing"] {
            let change = json!({"itemsToAdd": {wrong: ["z"]}});
            assert!(
                merged(current.clone(), patch(Some(KINDS[0]), change, BodyType::Json)).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_map_request_adds_entries_and_removes_keys() {
        let current = json!({"name": "a", "map": {"k": 1, "l": 2}});
        let change = json!({"entriesToAdd": {"map": {"m": 3}}, "keysToRemove": {"map": ["k"]}});
        let after = merged(current, patch(Some(KINDS[1]), change, BodyType::Json)).unwrap();
        assert_eq!(after, json!({"name": "a", "map": {"l": 2, "m": 3}}));
    }

    #[test]
    fn what_such_a_request_does_not_have_is_refused_by_name() {
        let current = json!({"name": "a", "tags": ["x"], "map": {"k": 1}});
        for (kind, change, named) in [
            (KINDS[0], json!({"itemToAdd": {"tags": ["z"]}}), "'itemToAdd'"),
            (KINDS[0], json!({"itemsToAdd": {"tags": ["z"]}, "name": "b"}), "'name'"),
            (KINDS[0], json!({"keysToRemove": {"map": ["k"]}}), "'keysToRemove'"),
            (KINDS[1], json!({"itemsToRemove": {"tags": ["x"]}}), "'itemsToRemove'"),
            (KINDS[1], json!({"keysToRemove": {"map": [5]}}), "keysToRemove.map has 5"),
            (KINDS[1], json!({"keysToRemove": {"map": ["k", null]}}), "map has null"),
        ] {
            let change = patch(Some(kind), change, BodyType::Json);
            let why = merged(current.clone(), change).unwrap_err();
            assert!(why.starts_with("BAD_BODY") && why.contains(named), "{why}");
        }
        let nothing = json!({"itemsToAdd": null, "name": null});
        let after = merged(current.clone(), patch(Some(KINDS[0]), nothing, BodyType::Json));
        assert_eq!(after.unwrap(), current);
    }

    /// What becomes of a stored text by a request's text.
    fn patched(before: &str, kind: Option<&str>, request: &str) -> Result<String, String> {
        let stored = Body::from_text(before.to_owned());
        let patch = patch(kind, serde_json::from_str(request).unwrap(), BodyType::Json);
        let numbers = Numbers::of(Some(&stored), request.as_bytes(), &patch.fields);
        let after = state(&spec(), &stored.to_map(), &patch, &numbers);
        let after = Body::from_map(after.map_err(|problem| problem.message)?);
        let after = with_numbers(&spec(), after, &patch, &numbers);
        let after = digits::kept(after, request.as_bytes(), Some(&stored));
        Ok(String::from_utf8(after.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn numbers_that_are_one_double_are_two_in_a_list() {
        let (one, two) = ("123456789012345678901234567890", "123456789012345678901234567891");
        let of = |tags: &str| format!(r#"{{"name":"a","tags":[{tags}]}}"#);
        let add = format!(r#"{{"tags":[{two},{one}]}}"#);
        let after = patched(&of(&format!("{one},1.50")), None, &add);
        assert_eq!(after.unwrap(), of(&format!("{one},1.50,{two}")));
        let add = format!(r#"{{"itemsToAdd":{{"tags":[{two}]}}}}"#);
        let after = patched(&of(one), Some(KINDS[0]), &add);
        assert_eq!(after.unwrap(), of(&format!("{one},{two}")));
        for (gone, left) in [(one, two), (two, one)] {
            let remove = format!(r#"{{"itemsToRemove":{{"tags":[{gone}]}}}}"#);
            let after = patched(&of(&format!("{one},{two}")), Some(KINDS[0]), &remove);
            assert_eq!(after.unwrap(), of(left));
        }
        let within = |number: &str| format!(r#"{{"id":[{number},"x"]}}"#);
        let add = format!(r#"{{"tags":[{}]}}"#, within(two));
        let after = patched(&of(&within(one)), None, &add);
        assert_eq!(after.unwrap(), of(&format!("{},{}", within(one), within(two))));
    }

    #[test]
    fn numbers_in_other_places_are_as_before() {
        let long = "123456789012345678901234567890";
        let keys = format!(r#"{{"keysToRemove":{{"map":[{long}]}}}}"#);
        let why = patched(r#"{"name":"a","map":{"k":1}}"#, Some(KINDS[1]), &keys).unwrap_err();
        assert!(
            why.contains(&format!("keysToRemove.map has {long}")) && why.contains("keys are texts"),
            "{why}"
        );
        let name = format!(r#"{{"name":{long}}}"#);
        assert!(patched(r#"{"name":"a"}"#, None, &name).unwrap_err().contains("'name'"));
        let text = r#"{"list":["\u00000:1e0"],"tags":[18446744073709551616]}"#;
        let after = patched(r#"{"name":"a"}"#, None, text).unwrap();
        assert!(after.contains(r#""\u00000:1e0""#) && after.contains("18446744073709551616"));
    }

    #[derive(Debug, Serialize, serde::Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Typed {
        name: String,
        tags: Vec<String>,
        list: Vec<f64>,
        map: std::collections::BTreeMap<String, String>,
    }

    fn typed(before: &str, kind: Option<&str>, request: &str) -> Result<Value, String> {
        let stored = Body::from_text(before.to_owned());
        let before: Typed = serde_json::from_str(before).unwrap();
        let patch = patch(kind, serde_json::from_str(request).unwrap(), BodyType::Json);
        let numbers = Numbers::of(Some(&stored), request.as_bytes(), &patch.fields);
        let after = state(&spec(), &before, &patch, &numbers);
        after.map(|after| serde_json::to_value(after).unwrap()).map_err(|it| it.message)
    }

    #[test]
    fn items_are_compared_as_they_are_stored() {
        let long = "123456789012345678901234567890";
        for number in ["1", "1.50", long] {
            let before = format!(r#"{{"name":"a","tags":["{number}"],"list":[{number}]}}"#);
            let tags = format!(r#"{{"tags":[{number},"{number}",{number}]}}"#);
            let none: Value = json!([]);
            let one = json!([number]);
            let after = typed(&before, None, &tags).unwrap();
            assert_eq!(after["tags"], one, "united");
            let after = typed(r#"{"name":"a"}"#, None, &tags).unwrap();
            assert_eq!(after["tags"], one, "once");
            let add = format!(r#"{{"itemsToAdd":{tags}}}"#);
            assert_eq!(typed(&before, Some(KINDS[0]), &add).unwrap()["tags"], one, "added");
            let remove = format!(r#"{{"itemsToRemove":{tags}}}"#);
            let after = typed(&before, Some(KINDS[0]), &remove).unwrap();
            assert_eq!(after["tags"], none, "removed");
            for item in [number.to_owned(), format!("\"{number}\"")] {
                let remove = format!(r#"{{"itemsToRemove":{{"list":[{item}]}}}}"#);
                let after = typed(&before, Some(KINDS[0]), &remove).unwrap();
                assert_eq!(after["list"], none, "removed as a number");
            }
        }
        let after = typed(r#"{"name":"a"}"#, None, r#"{"map":{"k":1.50}}"#).unwrap();
        assert_eq!(after["map"], json!({"k": "1.50"}));
        let wrong = r#"{"itemsToRemove":{"tags":[{}]}}"#;
        let why = typed(r#"{"name":"a","tags":["x"]}"#, Some(KINDS[0]), wrong).unwrap_err();
        assert!(why.contains("'tags'"), "{why}");
    }

    /// JSON whose numbers are the texts they were written as.
    #[derive(Clone, Debug, PartialEq)]
    enum Json {
        Plain(String),
        List(Vec<Self>),
        Object(std::collections::BTreeMap<String, Self>),
    }

    impl Json {
        fn text(&self) -> String {
            let pair = |(name, value): (&String, &Self)| format!("\"{name}\":{}", value.text());
            match self {
                Self::Plain(text) => text.clone(),
                Self::List(items) => {
                    format!("[{}]", items.iter().map(Self::text).collect::<Vec<_>>().join(","))
                }
                Self::Object(fields) => {
                    format!("{{{}}}", fields.iter().map(pair).collect::<Vec<_>>().join(","))
                }
            }
        }

        fn is_null(&self) -> bool {
            *self == Self::Plain("null".into())
        }

        /// A plain PATCH, or RFC 7396.
        fn merge(&mut self, patch: &Self, is_merge_patch: bool) {
            let Self::Object(changes) = patch else {
                *self = patch.clone();
                return;
            };
            if !matches!(self, Self::Object(_)) {
                *self = Self::Object(std::collections::BTreeMap::new());
            }
            let Self::Object(fields) = self else { unreachable!() };
            for (name, change) in changes {
                match (change.is_null(), is_merge_patch) {
                    (true, true) => drop(fields.remove(name)),
                    (true, false) => {}
                    (false, true) => {
                        let field = fields.entry(name.clone());
                        field.or_insert(Self::Plain("null".into())).merge(change, true);
                    }
                    (false, false) => drop(fields.insert(name.clone(), change.clone())),
                }
            }
        }
    }

    fn numbers() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<f64>()
                .prop_filter("JSON has no others", |it| it.is_finite())
                .prop_map(|it| { serde_json::Number::from_f64(it).unwrap().to_string() }),
            any::<i64>().prop_map(|it| it.to_string()),
            "-?[1-9][0-9]{0,40}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?",
            prop::sample::select(vec!["117.63331139400017", "-0", "0", "0.10", "1", "1.0"])
                .prop_map(ToOwned::to_owned),
        ]
    }

    fn objects() -> impl Strategy<Value = Json> {
        let others = prop::sample::select(vec!["null", "true", "\"1.50\"", "\"\\\"7e1\""]);
        let leaf = prop_oneof![3 => numbers(), 1 => others.prop_map(ToOwned::to_owned)];
        let value = leaf.prop_map(Json::Plain).prop_recursive(3, 20, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List);
            let object = prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(Json::Object);
            prop_oneof![list, object]
        });
        prop::collection::btree_map("[a-d]", value, 0..4).prop_map(Json::Object)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_patch_does_what_a_naive_one_does_and_keeps_every_digit(
            mut before in objects(),
            change in objects(),
            is_merge_patch in any::<bool>(),
        ) {
            if let Json::Object(fields) = &mut before {
                fields.retain(|_, value| !value.is_null());
            }
            let (text, request) = (before.text(), change.text());
            let body_type = if is_merge_patch { BodyType::MergePatch } else { BodyType::Json };
            let fields = serde_json::from_str(&request).unwrap();
            let patch = Patch { fields, kind: None, body_type };
            let current: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let spec = Spec::new("/core/things", "a");
            let stored = Body::from_text(text);
            let numbers = Numbers::of(Some(&stored), request.as_bytes(), &patch.fields);
            let after = state(&spec, &current, &patch, &numbers).unwrap();
            let after = with_numbers(&spec, Body::from_map(after), &patch, &numbers);
            let after = digits::kept(after, request.as_bytes(), Some(&stored));
            before.merge(&change, is_merge_patch);
            prop_assert_eq!(std::str::from_utf8(after.as_bytes()).unwrap(), before.text());
        }
    }
}
