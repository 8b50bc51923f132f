//! Numbers that a double cannot hold as they were written, while a body is read and while a PATCH
//! is merged. Two that are one double may be two in the texts: a list that has one of them does
//! not have the other, and only the one that is named is removed. A number that becomes a text is
//! the text that was written, and one that is only nearly whole is no whole number. So where such
//! numbers are about, the merge is made, and the state is read, with their texts in their places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::Body;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::digits::{array, decimal, object, read, survives};

/// Every mark begins with it.
const MARK: char = '\0';

/// The numbers of a stored state and of the body of a request that a double cannot hold as they
/// were written. Nearly always there are none.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Option<Arc<Marked>>);

#[derive(Debug, Default)]
struct Marked {
    /// Stands before the text of a number. No other text of the two begins with it.
    mark: String,
    before: Map<String, Value>,
    patch: Map<String, Value>,
}

impl Numbers {
    /// `before`: the stored state, if it is to be merged. `fields`: what was read of the request.
    pub(crate) fn of(before: Option<&Body>, request: &[u8], fields: &Map<String, Value>) -> Self {
        let before = before.map_or(&b"{}"[..], Body::as_bytes);
        if survives(before) && survives(request) {
            return Self::default();
        }
        let raw = |text| serde_json::from_slice::<&RawValue>(text).ok().and_then(object);
        let before = raw(before).unwrap_or_default();
        let mut taken = BTreeSet::new();
        fields.values().for_each(|value| marks_in(value, &mut taken));
        before.values().filter_map(|it| read(it)).for_each(|it| marks_in(&it, &mut taken));
        let mut marks = (0_usize..).map(|number| format!("{MARK}{number}:"));
        let mark = marks.find(|mark| !taken.contains(mark));
        let mark = mark.expect("there are more numbers than texts in a body");
        let before = before.into_iter();
        let before = before.map(|(name, field)| (name.into_owned(), marked(field, &mark)));
        let mut new = Marked { before: before.collect(), patch: Map::new(), mark };
        let request = raw(request).unwrap_or_default();
        for (name, value) in fields {
            let field = request.get(name.as_str()).map(|raw| marked(raw, &new.mark));
            let field = field.filter(|field| new.plain(field) == *value);
            new.patch.insert(name.clone(), field.unwrap_or_else(|| value.clone()));
        }
        Self(Some(Arc::new(new)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The fields of the state before, with the marks where they have not become something else.
    pub(crate) fn of_state(&self, fields: Map<String, Value>) -> Map<String, Value> {
        match &self.0 {
            Some(marked) => marked.with_marks(fields, &marked.before),
            None => fields,
        }
    }

    /// The same of the fields of the request.
    pub(crate) fn of_patch(&self, fields: Map<String, Value>) -> Map<String, Value> {
        match &self.0 {
            Some(marked) => marked.with_marks(fields, &marked.patch),
            None => fields,
        }
    }

    /// The fields of the state before and of the patch, with the marks.
    pub(crate) fn both(&self) -> Option<(Map<String, Value>, Map<String, Value>)> {
        self.0.as_ref().map(|it| (it.before.clone(), it.patch.clone()))
    }

    /// The text of a number, if a value stands for one.
    pub(crate) fn written<'a>(&self, value: &'a Value) -> Option<&'a str> {
        self.0.as_ref().and_then(|marked| marked.written(value))
    }

    /// A value without marks: as it is read.
    pub(crate) fn plain(&self, value: &Value) -> Value {
        self.0.as_ref().map_or_else(|| value.clone(), |marked| marked.plain(value))
    }

    pub(crate) fn plain_fields(&self, fields: &Map<String, Value>) -> Map<String, Value> {
        fields.iter().map(|(name, value)| (name.clone(), self.plain(value))).collect()
    }

    /// A value with the marks of `marked`, in whole or item by item, where it is the same.
    pub(crate) fn with_marks_of(&self, value: Value, marked: &Value) -> Value {
        if self.plain(marked) == value {
            return marked.clone();
        }
        match (value, marked) {
            (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
                let items = items.into_iter().zip(others);
                items.map(|(item, other)| self.with_marks_of(item, other)).collect()
            }
            // "1.50" is taken where a double is wanted.
            (Value::Number(number), Value::String(text)) if number.is_f64() => {
                let meant = serde_json::from_str::<Number>(text).ok();
                let is_it = meant.is_some_and(|meant| meant.as_f64() == number.as_f64());
                match is_it && !self.is_empty() {
                    true => self.marked(text),
                    false => number.into(),
                }
            }
            (value, _) => value,
        }
    }

    fn marked(&self, number: &str) -> Value {
        let mark = self.0.as_ref().map_or("", |marked| marked.mark.as_str());
        format!("{mark}{number}").into()
    }

    /// One text for each value: 1.50 and 1.5 have the same, and two numbers that are one double do
    /// not.
    pub(crate) fn key(&self, value: &Value) -> String {
        let mut key = String::new();
        self.put_key(&mut key, value);
        key
    }

    fn put_key(&self, key: &mut String, value: &Value) {
        match value {
            Value::Array(items) => {
                key.push('[');
                for item in items {
                    self.put_key(key, item);
                    key.push(',');
                }
                key.push(']');
            }
            Value::Object(fields) => {
                key.push('{');
                for (name, field) in fields.iter().collect::<BTreeMap<_, _>>() {
                    key.push_str(&Value::from(name.as_str()).to_string());
                    key.push(':');
                    self.put_key(key, field);
                    key.push(',');
                }
                key.push('}');
            }
            Value::Number(number) if number.is_f64() => {
                key.push_str("double ");
                key.push_str(&decimal(&number.to_string()));
            }
            Value::String(_) => match self.written(value) {
                Some(number) => {
                    key.push_str("double ");
                    key.push_str(&decimal(number));
                }
                None => key.push_str(&value.to_string()),
            },
            plain => key.push_str(&plain.to_string()),
        }
    }

    /// The new state with the numbers that were merged, where it is what the merge has made.
    pub(crate) fn put_in(&self, new: Body, merged: &Map<String, Value>) -> Body {
        let Some(marked) = &self.0 else { return new };
        let fields = marked.with_marks(new.to_map(), merged);
        let mut text = String::with_capacity(new.len() + 64);
        marked.put(&mut text, &Value::Object(fields));
        Body::from_text(text)
    }
}

impl Marked {
    fn written<'a>(&self, value: &'a Value) -> Option<&'a str> {
        value.as_str()?.strip_prefix(self.mark.as_str())
    }

    fn plain(&self, value: &Value) -> Value {
        match value {
            Value::String(_) => match self.written(value) {
                Some(number) => serde_json::from_str(number).unwrap_or_default(),
                None => value.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.plain(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), self.plain(value))).collect()
            }
            _ => value.clone(),
        }
    }

    fn with_marks(
        &self,
        mut fields: Map<String, Value>,
        marked: &Map<String, Value>,
    ) -> Map<String, Value> {
        for (name, value) in &mut fields {
            if let Some(field) = marked.get(name)
                && self.plain(field) == *value
            {
                *value = field.clone();
            }
        }
        fields
    }

    /// As JSON, with the numbers as they were written.
    fn put(&self, text: &mut String, value: &Value) {
        match value {
            Value::Object(fields) => {
                text.push('{');
                for (number, (name, field)) in fields.iter().enumerate() {
                    text.push_str(if number == 0 { "" } else { "," });
                    text.push_str(&Value::from(name.as_str()).to_string());
                    text.push(':');
                    self.put(text, field);
                }
                text.push('}');
            }
            Value::Array(items) => {
                text.push('[');
                for (number, item) in items.iter().enumerate() {
                    text.push_str(if number == 0 { "" } else { "," });
                    self.put(text, item);
                }
                text.push(']');
            }
            plain => match self.written(plain) {
                Some(number) => text.push_str(number),
                None => text.push_str(&plain.to_string()),
            },
        }
    }
}

/// What looks like a mark in a value.
fn marks_in(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.starts_with(MARK) => {
            if let Some((mark, _)) = text.split_once(':') {
                found.insert(format!("{mark}:"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| marks_in(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| marks_in(field, found)),
        _ => {}
    }
}

/// A value with marks in place of the numbers that are read as doubles.
fn marked(raw: &RawValue, mark: &str) -> Value {
    if let Some(fields) = object(raw) {
        let fields = fields.into_iter();
        let fields = fields.map(|(name, field)| (name.into_owned(), marked(field, mark)));
        return Value::Object(fields.collect());
    }
    if let Some(items) = array(raw) {
        return items.into_iter().map(|item| marked(item, mark)).collect();
    }
    match read(raw) {
        Some(Value::Number(number)) if number.is_f64() => format!("{mark}{}", raw.get()).into(),
        other => other.unwrap_or_default(),
    }
}
