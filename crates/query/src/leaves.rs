//! Walking through the leaves of a JSON object without building it in memory.
//!
//! The path of a leaf is made of the names of the objects' fields, with `.` between them. An array
//! adds nothing: the items of `{"a":[{"b":1},{"b":2}]}` are two leaves of the path `a.b`. Queries
//! may write `a.item.b`, see `compiled`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::ordered::{Leaf, NumberKey};

/// Takes the leaves of a body.
pub trait Leaves {
    /// Whether there may be a leaf of interest at this path or beneath it.
    fn wants(&self, path: &str) -> bool;
    fn take(&mut self, path: &str, leaf: Leaf<'_>);
}

/// Shows all leaves of a JSON object, in no particular order. Bodies are JSON by their making; of
/// anything else, what comes before the fault is shown.
pub fn walk(body: &[u8], leaves: &mut dyn Leaves) {
    let mut path = String::with_capacity(64);
    let mut json = serde_json::Deserializer::from_slice(body);
    let walker = Walker { path: &mut path, leaves, is_inner: false };
    // A fault ends the walk; there is nobody to tell.
    drop(walker.deserialize(&mut json));
}

struct Walker<'w> {
    path: &'w mut String,
    leaves: &'w mut dyn Leaves,
    /// The path is that of a field (whose name may be empty).
    is_inner: bool,
}

impl Walker<'_> {
    fn number(&mut self, number: &Number) {
        self.leaves.take(self.path, Leaf::Number(NumberKey::of(number)));
    }
}

impl<'de> DeserializeSeed<'de> for Walker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E: Error>(self, boolean: bool) -> Result<(), E> {
        self.leaves.take(self.path, Leaf::Boolean(boolean));
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<(), E> {
        self.number(&number.into());
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.number(&number.into());
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        if let Some(number) = Number::from_f64(number) {
            self.number(&number);
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.leaves.take(self.path, Leaf::Text(text));
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Walker { path, leaves, is_inner } = self;
        while items.next_element_seed(Walker { path, leaves, is_inner })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Walker { path, leaves, is_inner } = self;
        let outer = path.len();
        if is_inner {
            path.push('.');
        }
        let inner = path.len();
        while fields.next_key_seed(Name(path))?.is_some() {
            if leaves.wants(path) {
                fields.next_value_seed(Walker { path, leaves, is_inner: true })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
            path.truncate(inner);
        }
        path.truncate(outer);
        Ok(())
    }
}

/// Adds the name of a field to the path.
struct Name<'n>(&'n mut String);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        self.0.push_str(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listed(String);

    impl Leaves for Listed {
        fn wants(&self, path: &str) -> bool {
            path != "skipped"
        }

        fn take(&mut self, path: &str, leaf: Leaf<'_>) {
            let shown = match leaf {
                Leaf::Text(text) => text.to_owned(),
                Leaf::Boolean(boolean) => boolean.to_string(),
                Leaf::Number(number) if number == NumberKey::of_u64(1) => "1".into(),
                Leaf::Number(_) => "other".into(),
            };
            self.0.push_str(&format!("{path}={shown} "));
        }
    }

    fn list(body: &str) -> String {
        let mut listed = Listed(String::new());
        walk(body.as_bytes(), &mut listed);
        listed.0
    }

    #[test]
    fn arrays_add_nothing_to_a_path_and_nulls_are_not_there() {
        assert_eq!(
            list(
                r#"{"a":{"b":1,"c":[true,[null,{"d":"x"},1.0]]},"n":null,"":{"e.f":-1},"z":"é\n"}"#
            ),
            "a.b=1 a.c=true a.c.d=x a.c=1 .e.f=other z=é\n "
        );
    }

    #[test]
    fn what_is_not_wanted_is_passed_over() {
        assert_eq!(list(r#"{"skipped":{"a":[1]},"kept":{"skipped":1}}"#), "kept.skipped=1 ");
    }

    #[test]
    fn what_is_broken_ends_the_walk() {
        assert_eq!(list(r#"{"a":1,"b":"#), "a=1 ");
        assert_eq!(list(""), "");
    }
}
