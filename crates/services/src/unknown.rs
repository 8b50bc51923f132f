//! Fields of a stored state that its type does not know. A newer version of the service may have
//! written them, and an older one that changes something else must not erase them.

use std::borrow::Cow;
use std::fmt;

use protocol::{Body, BodyType, Problem};
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::Patch;
use crate::task::take_out;

/// The new state with the unknown fields of the one before. One that a merge patch removes goes.
pub(crate) fn kept<S: Serialize + DeserializeOwned>(
    new: Body,
    current: &Body,
    state: &S,
    patch: &Patch,
) -> Result<Body, Problem> {
    if has_all(&new, current) {
        return Ok(new);
    }
    let mut known = Known::of(current, state)?;
    if patch.body_type == BodyType::MergePatch {
        known.0.retain(|name, _| !patch.fields.get(name).is_some_and(Value::is_null));
    }
    known.put_in(new)
}

/// The fields of a stored state that its type has left out.
pub(crate) struct Known(Map<String, Value>);

impl Known {
    /// `state` is what the type has read of `current`.
    pub(crate) fn of<S: Serialize + DeserializeOwned>(
        current: &Body,
        state: &S,
    ) -> Result<Self, Problem> {
        let read = Body::from_state(state)?;
        if has_all(&read, current) {
            return Ok(Self(Map::new()));
        }
        let mut all = current.to_map();
        take_out(&mut all);
        let written = read.to_map();
        let mut fields = all.clone();
        fields.retain(|name, _| {
            !written.contains_key(name) && without::<S>(&all, name).as_ref() == Some(&read)
        });
        Ok(Self(fields))
    }

    pub(crate) fn put_in(&self, new: Body) -> Result<Body, Problem> {
        if self.0.is_empty() {
            return Ok(new);
        }
        let mut fields = new.to_map();
        for (name, value) in &self.0 {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Ok(Body::from_map(fields))
    }
}

/// The state that is read when this field is not there. Another one: the type knows the field, and
/// writes it under another name.
fn without<S: Serialize + DeserializeOwned>(all: &Map<String, Value>, name: &str) -> Option<Body> {
    let mut fields = all.clone();
    fields.remove(name);
    let state: S = serde_json::from_value(Value::Object(fields)).ok()?;
    Body::from_state(&state).ok()
}

/// Whether every field of `current` is in `new`, whatever it is there.
fn has_all(new: &Body, current: &Body) -> bool {
    let (new, current) = (names(new), names(current));
    current.iter().all(|name| new.contains(name))
}

fn names(body: &Body) -> Vec<Cow<'_, str>> {
    serde_json::from_slice::<Names<'_>>(body.as_bytes()).map_or(Vec::new(), |names| names.0)
}

/// The names of an object's fields; what they hold is passed over.
struct Names<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names<'de>, A::Error> {
        let mut names = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            map.next_value::<IgnoredAny>()?;
            names.push(name);
        }
        Ok(Names(names))
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

    #[test]
    fn a_field_with_another_name_is_known() {
        let current = Body::from_text(r#"{"title":"a"}"#);
        let state: Old = serde_json::from_slice(current.as_bytes()).unwrap();
        let new = Body::from_state(&state).unwrap();
        let kept = kept(new.clone(), &current, &state, &Patch::default()).unwrap();
        assert_eq!(kept, new, "both names at once could not be read any more");
    }

    #[test]
    fn a_field_that_the_type_does_not_know_survives() {
        let current = Body::from_text(r#"{"name":"a","note":"n","later":{"x":1}}"#);
        let state: Old = serde_json::from_slice(current.as_bytes()).unwrap();
        let after = |new: &Value, patch: &Patch| {
            let Value::Object(new) = new.clone() else { panic!("not an object") };
            kept(Body::from_map(new), &current, &state, patch).unwrap().to_map()
        };
        let plain = Patch::default();
        let kept = after(&json!({"name": "b"}), &plain);
        assert_eq!(Value::from(kept), json!({"name": "b", "later": {"x": 1}}), "the note is gone");
        let Value::Object(fields) = json!({"later": null}) else { panic!("not an object") };
        let removes = Patch { fields, body_type: BodyType::MergePatch, kind: None };
        assert_eq!(Value::from(after(&json!({"name": "b"}), &removes)), json!({"name": "b"}));
    }
}
