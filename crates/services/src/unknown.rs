//! Fields of a stored state that its type does not know, at any depth. A newer version of the
//! service may have written them, and an older one that changes something else must not erase them.
//!
//! Such a field is one that is stored and not written again. Where the new state has an object in
//! the same place, it gets the field back. An item of a list is in the same place if it is the same
//! as before, wherever it stands by now, or else if it stands where one stood that is gone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::{Body, BodyType, Problem};
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::task::take_out;
use crate::{Numbers, Patch, Spec, merge};

/// The new state with the unknown fields of the one before. What a patch replaces or removes goes.
pub(crate) fn kept<S: Serialize + DeserializeOwned>(
    (spec, numbers): (&Spec, &Numbers),
    new: Body,
    current: &Body,
    state: &S,
    patch: &Patch,
) -> Result<Body, Problem> {
    if has_all(&new, current) {
        return Ok(new);
    }
    let known = Known::of(current, state)?;
    if known.0.is_empty() {
        return Ok(new);
    }
    let mut fields = new.to_map();
    let said = Replacing::of((spec, numbers), state, patch, &fields);
    for (name, lost) in &known.0 {
        lost.put_in(&mut fields, name, said.of_field(name));
    }
    Ok(Body::from_map(fields))
}

/// What a patch says of the fields, if its handler has done the usual with it.
struct Replacing<'a> {
    patch: &'a Patch,
    /// The fields that are replaced as a whole.
    whole: BTreeSet<&'a str>,
}

impl<'a> Replacing<'a> {
    /// A handler that made something else of a field may have kept parts of it.
    fn of<S: Serialize + DeserializeOwned>(
        (spec, numbers): (&Spec, &Numbers),
        state: &S,
        patch: &'a Patch,
        new: &Map<String, Value>,
    ) -> Self {
        let mut whole = BTreeSet::new();
        if patch.body_type == BodyType::Json && patch.kind.is_none() {
            let usual = merge::state::<S>(spec, state, patch, numbers);
            let usual = usual.and_then(|usual| Body::from_state(&usual));
            let usual = usual.map_or(Map::new(), |usual| usual.to_map());
            let names = patch.fields.iter().filter(|(_, value)| !value.is_null());
            let names = names.map(|(name, _)| name.as_str()).filter(|name| {
                let unites = spec.field_named(name).is_some_and(|field| field.merge);
                !unites && usual.contains_key(*name) && usual.get(*name) == new.get(*name)
            });
            whole = names.collect();
        }
        Self { patch, whole }
    }

    fn of_field(&self, name: &str) -> Said<'a> {
        match self.patch.fields.get(name) {
            Some(value) if self.patch.body_type == BodyType::MergePatch => Said::Merged(value),
            Some(value) if self.whole.contains(name) => Said::Replaced(value),
            _ => Said::Nothing,
        }
    }
}

/// What a patch says of one place.
#[derive(Clone, Copy)]
enum Said<'a> {
    Nothing,
    /// That is the value, and what it does not repeat is gone.
    Replaced(&'a Value),
    /// By RFC 7396.
    Merged(&'a Value),
}

impl<'a> Said<'a> {
    fn of_field(self, name: &str) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Replaced(value) => Self::Replaced(value.get(name).unwrap_or(&Value::Null)),
            Self::Merged(value) if !value.is_object() => Self::Replaced(&Value::Null),
            Self::Merged(value) => value.get(name).map_or(Self::Nothing, Self::Merged),
        }
    }

    fn of_item(self, number: usize) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Replaced(value) | Self::Merged(value) => {
                Self::Replaced(value.get(number).unwrap_or(&Value::Null))
            }
        }
    }
}

/// What a type has left out in one place of a stored state.
enum Lost {
    Whole(Value),
    Within(BTreeMap<String, Self>),
    Items(Items),
}

/// What it has left out of the items of a list.
struct Items {
    /// The items as the type writes them.
    written: Vec<Value>,
    lost: BTreeMap<usize, Lost>,
}

impl Lost {
    fn put_in(&self, fields: &mut Map<String, Value>, name: &str, said: Said<'_>) {
        match self {
            Self::Whole(value) => {
                let value = match said {
                    Said::Replaced(new) if new != value => return,
                    Said::Merged(Value::Null) => return,
                    Said::Merged(patch) => without_nulls_of(value, patch),
                    Said::Replaced(_) | Said::Nothing => value.clone(),
                };
                fields.entry(name).or_insert(value);
            }
            Self::Within(_) | Self::Items(_) => {
                if let Some(value) = fields.get_mut(name) {
                    self.put_within(value, said);
                }
            }
        }
    }

    fn put_within(&self, value: &mut Value, said: Said<'_>) {
        match (self, value) {
            (Self::Within(lost), Value::Object(fields)) => {
                for (name, lost) in lost {
                    lost.put_in(fields, name, said.of_field(name));
                }
            }
            (Self::Items(items), Value::Array(new)) => items.put_in(new, said),
            _ => {}
        }
    }
}

impl Items {
    fn put_in(&self, new: &mut [Value], said: Said<'_>) {
        let is_there: Vec<bool> = self.written.iter().map(|item| new.contains(item)).collect();
        let as_many = new.len() == self.written.len();
        for (number, item) in new.iter_mut().enumerate() {
            let is_here = self.written.get(number) == Some(&*item);
            let was = match self.written.iter().position(|was| was == item) {
                _ if is_here => Some(number),
                Some(was) => Some(was),
                None if as_many && !is_there[number] => Some(number),
                None => None,
            };
            if let Some(lost) = was.and_then(|was| self.lost.get(&was)) {
                lost.put_within(item, said.of_item(number));
            }
        }
    }
}

/// An unknown value, without what a merge patch removes of it.
fn without_nulls_of(value: &Value, patch: &Value) -> Value {
    let (Value::Object(fields), Value::Object(changes)) = (value, patch) else {
        return value.clone();
    };
    let left = fields.iter().filter_map(|(name, value)| match changes.get(name) {
        Some(Value::Null) => None,
        Some(change) => Some((name.clone(), without_nulls_of(value, change))),
        None => Some((name.clone(), value.clone())),
    });
    Value::Object(left.collect())
}

/// The fields of a stored state that its type has left out.
pub(crate) struct Known(BTreeMap<String, Lost>);

impl Known {
    /// `state` is what the type has read of `current`.
    pub(crate) fn of<S: Serialize + DeserializeOwned>(
        current: &Body,
        state: &S,
    ) -> Result<Self, Problem> {
        let read = Body::from_state(state)?;
        if has_all(&read, current) {
            return Ok(Self(BTreeMap::new()));
        }
        let mut all = current.to_map();
        take_out(&mut all);
        let (all, written) = (Value::Object(all), Value::Object(read.to_map()));
        let differences = Differences { all: &all, written: &written };
        let mut places = BTreeSet::new();
        differences.places(&mut places);
        // A field without which another state is read is known, and written under another name.
        let reads_the_same = |gone: &dyn Fn(&str) -> bool| {
            let state: Option<S> = serde_json::from_value(differences.without("", gone)).ok();
            state.and_then(|state| Body::from_state(&state).ok()).as_ref() == Some(&read)
        };
        if !reads_the_same(&|_| true) {
            places.retain(|place| reads_the_same(&|other| other == place));
        }
        Ok(Self(match differences.lost("", &places) {
            Some(Lost::Within(fields)) => fields,
            _ => BTreeMap::new(),
        }))
    }

    pub(crate) fn put_in(&self, new: Body) -> Result<Body, Problem> {
        if self.0.is_empty() {
            return Ok(new);
        }
        let mut fields = new.to_map();
        for (name, lost) in &self.0 {
            lost.put_in(&mut fields, name, Said::Nothing);
        }
        Ok(Body::from_map(fields))
    }
}

/// What is stored, and what the type writes of it. A place is the names on the way there, those of
/// all items of a list alike.
#[derive(Clone, Copy)]
struct Differences<'a> {
    all: &'a Value,
    written: &'a Value,
}

fn place_of(above: &str, name: &str) -> String {
    format!("{above}\0{name}")
}

/// Stands in a place for the items of a list. No field's name has it before the mark of a name.
const ITEM: &str = "[\0]";

impl<'a> Differences<'a> {
    /// The fields that both have; `None` in place of the second: it is not written.
    fn fields(self) -> impl Iterator<Item = (&'a String, &'a Value, Option<&'a Value>)> {
        let (all, written) = (self.all.as_object(), self.written.as_object());
        let both = all.zip(written);
        both.into_iter().flat_map(|(all, written)| {
            all.iter().map(|(name, value)| (name, value, written.get(name)))
        })
    }

    fn items(self) -> impl Iterator<Item = Self> {
        let both = self.all.as_array().zip(self.written.as_array());
        let both = both.filter(|(all, written)| all.len() == written.len());
        both.into_iter()
            .flat_map(|(all, written)| all.iter().zip(written))
            .map(|(all, written)| Self { all, written })
    }

    fn places(self, found: &mut BTreeSet<String>) {
        self.places_at("", found);
    }

    fn places_at(self, at: &str, found: &mut BTreeSet<String>) {
        for (name, value, written) in self.fields() {
            let place = place_of(at, name);
            match written {
                Some(written) => Self { all: value, written }.places_at(&place, found),
                None if value.is_null() => {}
                None => drop(found.insert(place)),
            }
        }
        for item in self.items() {
            item.places_at(&place_of(at, ITEM), found);
        }
    }

    /// What is stored, without the fields that are not written and stand in such a place.
    fn without(self, at: &str, gone: &dyn Fn(&str) -> bool) -> Value {
        if self.all.is_object() && self.written.is_object() {
            let left = self.fields().filter_map(|(name, value, written)| {
                let place = place_of(at, name);
                match written {
                    Some(written) => {
                        Some((name.clone(), Self { all: value, written }.without(&place, gone)))
                    }
                    None => (!gone(&place)).then(|| (name.clone(), value.clone())),
                }
            });
            return Value::Object(left.collect());
        }
        let place = place_of(at, ITEM);
        let items: Vec<Value> = self.items().map(|item| item.without(&place, gone)).collect();
        if items.is_empty() { self.all.clone() } else { Value::Array(items) }
    }

    fn lost(self, at: &str, places: &BTreeSet<String>) -> Option<Lost> {
        if self.all.is_object() && self.written.is_object() {
            let lost = self.fields().filter_map(|(name, value, written)| {
                let place = place_of(at, name);
                let lost = match written {
                    Some(written) => Self { all: value, written }.lost(&place, places),
                    None => places.contains(&place).then(|| Lost::Whole(value.clone())),
                };
                Some((name.clone(), lost?))
            });
            let lost: BTreeMap<String, Lost> = lost.collect();
            return (!lost.is_empty()).then_some(Lost::Within(lost));
        }
        let place = place_of(at, ITEM);
        let items = self.items().map(|item| item.lost(&place, places)).enumerate();
        let lost: BTreeMap<usize, Lost> =
            items.filter_map(|(number, lost)| Some((number, lost?))).collect();
        let written = self.written.as_array()?.clone();
        (!lost.is_empty()).then_some(Lost::Items(Items { written, lost }))
    }
}

/// Whether every field of `current` is in `new`, in the same place, whatever it is there.
fn has_all(new: &Body, current: &Body) -> bool {
    match (names(new), names(current)) {
        (Some(new), Some(current)) => new.has_all(&current),
        _ => false,
    }
}

fn names(body: &Body) -> Option<Names<'_>> {
    serde_json::from_slice(body.as_bytes()).ok()
}

/// The names of the fields at all depths; other values are passed over.
enum Names<'a> {
    None,
    Fields(BTreeMap<Cow<'a, str>, Self>),
    Items(Vec<Self>),
}

impl Names<'_> {
    fn has_all(&self, others: &Self) -> bool {
        match (self, others) {
            (_, Self::None) => true,
            (Self::Fields(fields), Self::Fields(others)) => others
                .iter()
                .all(|(name, other)| fields.get(name).is_some_and(|field| field.has_all(other))),
            (Self::Items(items), Self::Items(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| item.has_all(other))
            }
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Names<'de>, E> {
        Ok(Names::None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Names<'de>, E> {
        Ok(Names::None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Names<'de>, E> {
        Ok(Names::None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Names<'de>, E> {
        Ok(Names::None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Names<'de>, E> {
        Ok(Names::None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Names<'de>, E> {
        Ok(Names::None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        let is_plain = items.iter().all(|item| matches!(item, Names::None));
        Ok(if is_plain { Names::None } else { Names::Items(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names<'de>, A::Error> {
        let mut names = BTreeMap::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            names.insert(name, value);
        }
        Ok(Names::Fields(names))
    }
}

/// A text that is borrowed where it stands in the input as it is.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Old {
        #[serde(alias = "title")]
        name: String,
        note: Option<String>,
    }

    fn spec() -> Spec {
        Spec::new("/core/things", "a:Things:Thing")
    }

    #[test]
    fn a_field_with_another_name_is_known() {
        let current = Body::from_text(r#"{"title":"a"}"#);
        let state: Old = serde_json::from_slice(current.as_bytes()).unwrap();
        let new = Body::from_state(&state).unwrap();
        let kept =
            kept((&spec(), &Numbers::default()), new.clone(), &current, &state, &Patch::default())
                .unwrap();
        assert_eq!(kept, new, "both names at once could not be read any more");
    }

    #[test]
    fn a_field_that_the_type_does_not_know_survives() {
        let current = Body::from_text(r#"{"name":"a","note":"n","later":{"x":1}}"#);
        let state: Old = serde_json::from_slice(current.as_bytes()).unwrap();
        let after = |new: &Value, patch: &Patch| {
            let Value::Object(new) = new.clone() else { panic!("not an object") };
            kept((&spec(), &Numbers::default()), Body::from_map(new), &current, &state, patch)
                .unwrap()
                .to_map()
        };
        let plain = Patch::default();
        let kept = after(&json!({"name": "b"}), &plain);
        assert_eq!(Value::from(kept), json!({"name": "b", "later": {"x": 1}}), "the note is gone");
        let Value::Object(fields) = json!({"later": null}) else { panic!("not an object") };
        let removes = Patch { fields, body_type: BodyType::MergePatch, kind: None };
        assert_eq!(Value::from(after(&json!({"name": "b"}), &removes)), json!({"name": "b"}));
    }

    #[derive(Clone, Serialize, Deserialize)]
    struct Address {
        #[serde(alias = "road")]
        street: String,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Person {
        #[serde(skip_serializing_if = "Option::is_none")]
        home: Option<Address>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        others: Vec<Address>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        named: BTreeMap<String, Address>,
        age: u64,
    }

    const PERSON: &str = r#"{"age":1,"home":{"street":"a","zip":{"x":1,"y":2}},
        "others":[{"street":"b","zip":2},{"street":"c","zip":3},{"road":"d"}],
        "named":{"k":{"street":"e","zip":5},"l":{"street":"f"}}}"#;

    /// The state after a patch, by the usual merge and then by what `change` makes of it.
    fn person(patch: &Patch, change: fn(&mut Person)) -> Value {
        let current = Body::from_text(PERSON);
        let state: Person = serde_json::from_slice(current.as_bytes()).unwrap();
        let mut new: Person = merge::state(&spec(), &state, patch, &Numbers::default()).unwrap();
        change(&mut new);
        let new = Body::from_state(&new).unwrap();
        Value::Object(
            kept((&spec(), &Numbers::default()), new, &current, &state, patch).unwrap().to_map(),
        )
    }

    fn patch(body: Value, body_type: BodyType) -> Patch {
        let Value::Object(fields) = body else { panic!("not an object") };
        Patch { fields, body_type, kind: None }
    }

    #[test]
    fn a_field_within_a_field_survives_and_one_with_another_name_is_known() {
        let after = person(&patch(json!({"age": 2}), BodyType::Json), |_| ());
        let expected = json!({"age": 2, "home": {"street": "a", "zip": {"x": 1, "y": 2}},
            "others": [{"street": "b", "zip": 2}, {"street": "c", "zip": 3}, {"street": "d"}],
            "named": {"k": {"street": "e", "zip": 5}, "l": {"street": "f"}}});
        assert_eq!(after, expected);
    }

    #[test]
    fn what_a_handler_changes_within_keeps_the_rest() {
        let after = person(&Patch::default(), |person| {
            person.home.as_mut().unwrap().street = "z".into();
            person.others[1].street = "y".into();
            person.named.remove("l");
        });
        assert_eq!(after["home"], json!({"street": "z", "zip": {"x": 1, "y": 2}}));
        assert_eq!(after["others"][1], json!({"street": "y", "zip": 3}), "in its place");
        assert_eq!(after["named"], json!({"k": {"street": "e", "zip": 5}}));
    }

    #[test]
    fn an_item_keeps_its_fields_wherever_it_goes_and_no_other_gets_them() {
        let after = person(&Patch::default(), |person| {
            person.others.remove(0);
            person.others.push(Address { street: "new".into() });
        });
        let expected = json!([{"street": "c", "zip": 3}, {"street": "d"}, {"street": "new"}]);
        assert_eq!(after["others"], expected);
        let after = person(&Patch::default(), |person| person.others.truncate(1));
        assert_eq!(after["others"], json!([{"street": "b", "zip": 2}]));
    }

    #[test]
    fn a_patch_that_replaces_keeps_only_what_it_repeats() {
        let change = json!({"home": {"street": "z"},
            "others": [{"street": "c", "zip": 3}, {"street": "b"}]});
        let after = person(&patch(change, BodyType::Json), |_| ());
        assert_eq!(after["home"], json!({"street": "z"}), "no zip of another street");
        assert_eq!(after["others"], json!([{"street": "c", "zip": 3}, {"street": "b"}]));
        assert_eq!(after["named"]["k"]["zip"], 5);
        let change = json!({"home": {"street": "z"}});
        let after = person(&patch(change, BodyType::Json), |person| {
            person.home.as_mut().unwrap().street = "by hand".into();
        });
        assert_eq!(after["home"]["zip"]["x"], 1, "its handler may have kept the rest");
    }

    #[test]
    fn a_merge_patch_removes_within_unknown_fields_too() {
        let change = json!({"home": {"zip": {"x": null}}, "named": {"k": {"zip": null}}});
        let after = person(&patch(change, BodyType::MergePatch), |_| ());
        assert_eq!(after["home"], json!({"street": "a", "zip": {"y": 2}}));
        assert_eq!(after["named"]["k"], json!({"street": "e"}));
        assert_eq!(after["others"][0]["zip"], 2);
    }
}
