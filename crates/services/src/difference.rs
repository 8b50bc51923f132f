//! What differs between two JSON objects, field by field.
//!
//! Numbers and texts are shown as they are written, whatever their size. A list is one value: which
//! of its items stands for which of the other is not known.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Code, Problem};
use serde_json::Value;
use serde_json::value::RawValue;

/// How long the differences of two versions may be as text, in bytes.
const DIFFERENCE_BYTES_MAX: usize = 8 << 20;

/// How deep objects are compared field by field; what lies deeper is compared as a whole.
const DEPTH_MAX: usize = 64;

/// The fields that differ, as a JSON array in the order of their names. Each has a `path` (RFC
/// 6901), and what it was (`from`) and is (`to`): without one of them it was not there.
///
/// # Errors
/// When there is too much of it.
pub(crate) fn difference(old: &[u8], new: &[u8]) -> Result<String, Problem> {
    let raw = |bytes| serde_json::from_slice::<&RawValue>(bytes).ok();
    let mut found = Found { json: String::from("["), path: String::new() };
    found.compare(raw(old), raw(new), 0)?;
    found.json.push(']');
    Ok(found.json)
}

struct Found {
    json: String,
    path: String,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn fields(value: Option<&RawValue>) -> Option<Fields<'_>> {
    let text = value?.get();
    text.starts_with('{').then(|| serde_json::from_str(text).ok())?
}

impl Found {
    fn compare(
        &mut self,
        old: Option<&RawValue>,
        new: Option<&RawValue>,
        depth: usize,
    ) -> Result<(), Problem> {
        if old.map(RawValue::get) == new.map(RawValue::get) {
            return Ok(());
        }
        let (Some(before), Some(after)) = (fields(old), fields(new)) else {
            return self.put(old, new);
        };
        if depth == DEPTH_MAX {
            return self.put(old, new);
        }
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let outer = self.path.len();
            self.path.push('/');
            self.path.push_str(&name.replace('~', "~0").replace('/', "~1"));
            self.compare(before.get(name).copied(), after.get(name).copied(), depth + 1)?;
            self.path.truncate(outer);
        }
        Ok(())
    }

    fn put(&mut self, old: Option<&RawValue>, new: Option<&RawValue>) -> Result<(), Problem> {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        self.json.push_str("{\"path\":");
        self.json.push_str(&Value::from(self.path.as_str()).to_string());
        for (name, value) in [("from", old), ("to", new)] {
            let Some(value) = value else { continue };
            self.json.push_str(&format!(",\"{name}\":"));
            self.json.push_str(value.get());
        }
        self.json.push('}');
        if self.json.len() <= DIFFERENCE_BYTES_MAX {
            return Ok(());
        }
        let text = format!(
            "the versions differ in more than {} MiB: GET both with documentVersion and compare",
            DIFFERENCE_BYTES_MAX >> 20
        );
        Err(Problem::new(Code::BadRequest, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(old: &str, new: &str) -> String {
        difference(old.as_bytes(), new.as_bytes()).unwrap()
    }

    #[test]
    fn fields_that_changed_came_or_went_are_named() {
        assert_eq!(of(r#"{"a":1}"#, r#"{"a":1}"#), "[]");
        let old = r#"{"a":1,"b":{"c":"x","d":[1,2]},"gone":true}"#;
        let new = r#"{"a":2,"b":{"c":"x","d":[2]},"new":null}"#;
        let changes = [
            r#"{"path":"/a","from":1,"to":2}"#,
            r#"{"path":"/b/d","from":[1,2],"to":[2]}"#,
            r#"{"path":"/gone","from":true}"#,
            r#"{"path":"/new","to":null}"#,
        ];
        assert_eq!(of(old, new), format!("[{}]", changes.join(",")));
        assert_eq!(
            of(r#"{"a":{"b":1}}"#, r#"{"a":7}"#),
            r#"[{"path":"/a","from":{"b":1},"to":7}]"#
        );
        assert_eq!(of(r#"{"a/b":{"~":1}}"#, r#"{"a/b":{}}"#), r#"[{"path":"/a~1b/~0","from":1}]"#);
    }

    #[test]
    fn digits_are_shown_as_they_are() {
        assert_eq!(
            of(r#"{"n":123456789012345678901234567890}"#, r#"{"n":1.10}"#),
            r#"[{"path":"/n","from":123456789012345678901234567890,"to":1.10}]"#
        );
    }

    #[test]
    fn what_lies_deep_is_compared_as_a_whole() {
        let nested = |inner: &str| format!("{}{inner}{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        let found = of(&nested("1"), &nested("2"));
        assert!(found.starts_with(&format!(r#"[{{"path":"{}","from":{{"a":"#, "/a".repeat(64))));
    }

    #[test]
    fn what_would_be_endless_is_refused() {
        let name = "x".repeat(100_000);
        let many = |value: u8| {
            let fields: Vec<String> = (0..100).map(|n| format!("\"{n}\":{value}")).collect();
            format!(r#"{{"{name}":{{{}}}}}"#, fields.join(","))
        };
        assert!(difference(many(1).as_bytes(), many(2).as_bytes()).is_err());
    }
}
