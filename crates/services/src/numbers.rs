//! Numbers that are compared while a PATCH is merged. Two that are one double may be two in the
//! texts: a list that has one of them does not have the other, and only the one that is named is
//! removed. So where such numbers are about, the merge is made with their texts in their places.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Body;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::digits::{array, decimal, is_lost, object, read, survives};

/// Stands before the text of a number. No other text in a body with such numbers begins with it.
const MARK: &str = "\0number:";

/// How the mark begins in JSON.
const MARK_IN_JSON: &str = "\\u0000";

/// The numbers of a stored state and of the body of a PATCH that a double cannot tell apart, as
/// they were written. Nearly always there are none.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Option<Arc<Marked>>);

#[derive(Debug, Default)]
struct Marked {
    before: Map<String, Value>,
    patch: Map<String, Value>,
    /// How each number was written.
    written: BTreeMap<String, String>,
}

impl Numbers {
    /// `fields`: what was read of the request.
    pub(crate) fn of(before: &Body, request: &[u8], fields: &Map<String, Value>) -> Self {
        let texts = [before.as_bytes(), request];
        let has_mark = |text: &&[u8]| {
            text.windows(MARK_IN_JSON.len()).any(|part| part == MARK_IN_JSON.as_bytes())
        };
        if texts.iter().all(|text| survives(text)) || texts.iter().any(has_mark) {
            return Self::default();
        }
        let mut marked = Marked::default();
        let raw = |text| serde_json::from_slice::<&RawValue>(text).ok().and_then(object);
        for (name, field) in raw(before.as_bytes()).unwrap_or_default() {
            let field = mark(field, &mut marked.written);
            marked.before.insert(name.into_owned(), field);
        }
        let request = raw(request).unwrap_or_default();
        for (name, value) in fields {
            let field = request.get(name.as_str()).map(|raw| mark(raw, &mut marked.written));
            let field = field.filter(|field| plain(field) == *value);
            marked.patch.insert(name.clone(), field.unwrap_or_else(|| value.clone()));
        }
        Self((!marked.written.is_empty()).then(|| Arc::new(marked)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The fields of the state before, with the marks where they have not become something else.
    pub(crate) fn of_state(&self, fields: Map<String, Value>) -> Map<String, Value> {
        with_marks(fields, self.0.as_ref().map(|it| &it.before))
    }

    /// The same of the fields of the patch.
    pub(crate) fn of_patch(&self, fields: Map<String, Value>) -> Map<String, Value> {
        with_marks(fields, self.0.as_ref().map(|it| &it.patch))
    }

    /// The fields of the state before and of the patch, with the marks.
    pub(crate) fn both(&self) -> Option<(Map<String, Value>, Map<String, Value>)> {
        self.0.as_ref().map(|it| (it.before.clone(), it.patch.clone()))
    }

    /// The new state with the numbers that were merged, where it is what the merge has made.
    pub(crate) fn put_in(&self, new: Body, merged: Map<String, Value>) -> Body {
        let Some(marked) = &self.0 else { return new };
        let fields = with_marks(new.to_map(), Some(&merged));
        let text = Value::Object(fields).to_string();
        // As a mark begins in JSON. Each is looked up once, however many there are.
        let begin = Value::from(MARK).to_string();
        let begin = begin.trim_end_matches('"');
        let (mut whole, mut rest) = (String::with_capacity(text.len()), text.as_str());
        while let Some(at) = rest.find(begin) {
            let marked_number = &rest[at + begin.len()..];
            let number = marked_number.split('"').next().unwrap_or_default();
            let Some(written) = marked.written.get(number) else { break };
            whole.push_str(&rest[..at]);
            whole.push_str(written);
            rest = &marked_number[number.len() + 1..];
        }
        whole.push_str(rest);
        Body::from_text(whole)
    }
}

fn with_marks(
    mut fields: Map<String, Value>,
    marked: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    for (name, value) in &mut fields {
        if let Some(field) = marked.and_then(|marked| marked.get(name))
            && plain(field) == *value
        {
            *value = field.clone();
        }
    }
    fields
}

/// A value with marks in place of the numbers that are another one once they are read.
fn mark(raw: &RawValue, written: &mut BTreeMap<String, String>) -> Value {
    if let Some(fields) = object(raw) {
        let fields = fields.into_iter();
        let fields = fields.map(|(name, field)| (name.into_owned(), mark(field, written)));
        return Value::Object(fields.collect());
    }
    if let Some(items) = array(raw) {
        return items.into_iter().map(|item| mark(item, written)).collect();
    }
    match read(raw) {
        Some(Value::Number(_)) if is_lost(raw.get()) => {
            let number = decimal(raw.get());
            let mark = Value::from(format!("{MARK}{number}"));
            written.entry(number).or_insert_with(|| raw.get().to_owned());
            mark
        }
        other => other.unwrap_or_default(),
    }
}

/// Whether a value stands for a number.
pub(crate) fn is_mark(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(MARK))
}

/// A value without marks: as it is read.
pub(crate) fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix(MARK) {
            Some(number) => serde_json::from_str(number).unwrap_or_default(),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => Value::Object(plain_fields(fields)),
        _ => value.clone(),
    }
}

pub(crate) fn plain_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
}
