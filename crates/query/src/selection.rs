//! Some fields of a document, as they are written in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

/// The last field of a document as it is shown.
const OWNER_FIELD: &str = "documentOwner";

/// What is shown of a document: these fields, each under the name by which it was asked for, and
/// the owner.
pub(crate) fn select(document: &[u8], names: &[String]) -> Bytes {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(document) else {
        return Bytes::copy_from_slice(document);
    };
    let mut json = String::from("{");
    let names = names.iter().map(String::as_str).filter(|name| *name != OWNER_FIELD);
    for name in names.chain([OWNER_FIELD]) {
        let Some(found) = pick(raw, name) else { continue };
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&Value::from(name).to_string());
        json.push(':');
        json.push_str(&found);
    }
    json.push('}');
    json.into()
}

/// The JSON of a field, by its name or by a path: what is in the items of a list comes as a list.
/// `None` where there is nothing.
pub fn pick(json: &RawValue, path: &str) -> Option<String> {
    let text = json.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            if let Some(found) = fields.get(path) {
                return Some(found.get().to_owned());
            }
            // A name may have dots in it.
            let cuts = path.match_indices('.');
            let inner = |at: usize| pick(fields.get(&path[..at])?, &path[at + 1..]);
            cuts.filter_map(|(at, _)| inner(at)).next()
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let inner = match path.strip_prefix("item") {
                Some("") => return Some(text.to_owned()),
                Some(rest) => rest.strip_prefix('.').unwrap_or(path),
                None => path,
            };
            let found: Vec<String> = items.iter().filter_map(|item| pick(item, inner)).collect();
            (!found.is_empty()).then(|| format!("[{}]", found.join(",")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"name":"x","n":123456789012345678901234567890,"a":{"b":1.50,"c.d":2},
        "tags":["p","q"],"list":[{"x":1},{"y":2},{"x":{"z":3}}],"documentOwner":"node-1"}"#;

    fn picked(path: &str) -> Option<String> {
        pick(serde_json::from_str(DOCUMENT).unwrap(), path)
    }

    #[test]
    fn a_field_comes_as_it_is_written() {
        for (path, json) in [
            ("n", "123456789012345678901234567890"),
            ("a.b", "1.50"),
            ("a.c.d", "2"),
            ("tags", r#"["p","q"]"#),
            ("tags.item", r#"["p","q"]"#),
            ("list.x", r#"[1,{"z":3}]"#),
            ("list.item.x.z", "[3]"),
        ] {
            assert_eq!(picked(path).as_deref(), Some(json), "{path}");
        }
        for path in ["absent", "name.x", "a.x", "tags.x", "list.q"] {
            assert_eq!(picked(path), None, "{path}");
        }
    }

    #[test]
    fn what_was_selected_ends_with_the_owner() {
        let names = ["a.b".to_owned(), "absent".to_owned(), "documentOwner".to_owned()];
        let selected = select(DOCUMENT.as_bytes(), &names);
        assert_eq!(selected, r#"{"a.b":1.50,"documentOwner":"node-1"}"#);
    }
}
