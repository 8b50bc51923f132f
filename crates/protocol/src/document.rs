//! A document: the state of one service, with a version.
//!
//! The body holds the user's fields only. The built-in `document...` fields live beside it and are
//! joined in when the document is shown, so that a handler can neither lose nor forge them.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Epoch, Moment, Problem};

/// The fields that the system keeps; a body never contains them.
pub const BUILT_IN_FIELDS: [&str; 13] = [
    "documentVersion",
    "documentEpoch",
    "documentKind",
    "documentSelfLink",
    "documentUpdateTimeMicros",
    "documentUpdateAction",
    "documentExpirationTimeMicros",
    "documentOwner",
    "documentDescription",
    "documentSourceLink",
    "documentUpdateNode",
    "documentAuthPrincipalLink",
    "documentTransactionId",
];

/// The verb that made a version (`documentUpdateAction`). A `Delete` is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    Post,
    Put,
    Patch,
    Delete,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A JSON object in text form, without the built-in fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Body(Bytes);

impl Body {
    pub fn empty() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// Takes the user's fields of a JSON object; built-in ones and nulls are left out.
    pub fn from_map(mut fields: Map<String, Value>) -> Self {
        fields.retain(|name, value| !BUILT_IN_FIELDS.contains(&name.as_str()) && !value.is_null());
        let text = serde_json::to_vec(&fields).expect("JSON in memory can be written");
        Self(Bytes::from(text))
    }

    /// # Errors
    /// When the state does not serialize to a JSON object.
    pub fn from_state<S: Serialize>(state: &S) -> Result<Self, Problem> {
        match serde_json::to_value(state) {
            Ok(Value::Object(fields)) => Ok(Self::from_map(fields)),
            Ok(_) => Err(Problem::internal("a state must be a JSON object")),
            Err(error) => Err(Problem::internal(format!("a state cannot be written: {error}"))),
        }
    }

    /// Takes the text of a JSON object as it stands, which has neither built-in fields nor nulls.
    pub fn from_text(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    pub fn to_map(&self) -> Map<String, Value> {
        serde_json::from_slice(&self.0).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() <= 2
    }
}

/// One version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `documentSelfLink`, the key: `/core/examples/one`.
    pub link: String,
    /// `documentVersion`: 0 at creation, one more with each write.
    pub version: u64,
    /// `documentEpoch`: the owner's term when it wrote this version.
    pub epoch: Epoch,
    /// `documentKind`, with `:` between its parts.
    pub kind: String,
    /// `documentUpdateAction`.
    pub action: Action,
    /// `documentUpdateTimeMicros`, by the owner's wall clock.
    pub updated: Moment,
    /// `documentExpirationTimeMicros`; 0 is never.
    pub expires: Moment,
    /// `documentUpdateNode`: the id of the node that wrote this version, as the owner at that time.
    /// (`documentOwner` is whoever owns the document when it is shown.)
    pub owner: String,
    /// `documentAuthPrincipalLink`: the user on whose behalf this version was written. Of a task,
    /// the one who made it, and with whose rights it acts.
    #[serde(skip)]
    pub author: Option<Arc<str>>,
    pub body: Body,
}

impl Document {
    pub fn is_deleted(&self) -> bool {
        self.action == Action::Delete
    }

    pub fn is_expired(&self, at: Moment) -> bool {
        self.expires.0 != 0 && self.expires <= at
    }

    /// The whole document as JSON: the user's fields, then the built-in ones. `owner` is the node
    /// that owns it at present.
    pub fn to_json(&self, owner: &str) -> Value {
        serde_json::from_slice(&self.to_json_bytes(owner)).unwrap_or_default()
    }

    /// The same as [`Self::to_json`], in text, without taking the body apart.
    pub fn to_json_bytes(&self, owner: &str) -> Bytes {
        use std::io::Write;

        /// A string of JSON.
        fn put(text: &mut Vec<u8>, name: &str, value: &str) {
            text.extend_from_slice(name.as_bytes());
            serde_json::to_writer(text, value).expect("writing to memory cannot fail");
        }

        let fields = self.body.as_bytes();
        let mut text = Vec::with_capacity(fields.len() + self.link.len() + self.kind.len() + 320);
        text.extend_from_slice(&fields[..fields.len().saturating_sub(1)]);
        if !self.body.is_empty() {
            text.push(b',');
        }
        let numbers = "writing to memory cannot fail";
        write!(text, "\"documentVersion\":{},\"documentEpoch\":{}", self.version, self.epoch)
            .expect(numbers);
        put(&mut text, ",\"documentKind\":", &self.kind);
        put(&mut text, ",\"documentSelfLink\":", &self.link);
        write!(text, ",\"documentUpdateTimeMicros\":{}", self.updated).expect(numbers);
        put(&mut text, ",\"documentUpdateAction\":", self.action.name());
        put(&mut text, ",\"documentUpdateNode\":", &self.owner);
        write!(text, ",\"documentExpirationTimeMicros\":{}", self.expires).expect(numbers);
        put(&mut text, ",\"documentOwner\":", owner);
        if let Some(author) = &self.author {
            put(&mut text, ",\"documentAuthPrincipalLink\":", author);
        }
        text.push(b'}');
        Bytes::from(text)
    }

    /// A document as JSON, or a part of it, with another node as its owner. One that does not name
    /// its owner stays as it is.
    pub fn with_owner(shown: &[u8], owner: &str) -> Bytes {
        let Some(old) = value_of(shown, "documentOwner") else {
            return Bytes::copy_from_slice(shown);
        };
        let owner = Value::from(owner).to_string();
        Bytes::from([&shown[..old.start], owner.as_bytes(), &shown[old.end..]].concat())
    }

    /// The version as an HTTP entity tag: `"epoch.version.time"`. A link that was removed for good
    /// begins at version 0 again, perhaps in the same epoch; the time of an owner's writes only
    /// goes forward, so that the tag is another one all the same.
    pub fn etag(&self) -> String {
        format!("\"{}.{}.{:x}\"", self.epoch, self.version, self.updated.0)
    }
}

/// Where the value of an object's own field stands in its text, which is valid JSON.
fn value_of(object: &[u8], name: &str) -> Option<std::ops::Range<usize>> {
    let name = format!("\"{name}\"");
    let (mut depth, mut at) = (0_u32, 0);
    // The field whose value is being passed, and where that begins.
    let mut found: Option<usize> = None;
    while let Some(byte) = object.get(at) {
        match byte {
            b'"' => {
                let end = end_of_text(object, at)?;
                let is_name = depth == 1 && found.is_none() && object[at..end] == *name.as_bytes();
                if is_name && object.get(end) == Some(&b':') {
                    found = Some(end + 1);
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 1 => {
                if let Some(start) = found {
                    return Some(start..at);
                }
                depth -= u32::from(*byte != b',');
            }
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Behind the closing quote of the text that begins there.
fn end_of_text(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match json.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Where a task stands (Xenon's `TaskState.TaskStage`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStage {
    #[default]
    Created,
    Started,
    Finished,
    Failed,
    Cancelled,
}

impl TaskStage {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_replaced_wherever_it_stands_and_the_rest_stays() {
        for (shown, expected) in [
            (r#"{"a":1,"documentOwner":"n1"}"#, r#"{"a":1,"documentOwner":"n2"}"#),
            (r#"{"documentOwner":"n1"}"#, r#"{"documentOwner":"n2"}"#),
            (
                r#"{"documentOwner":"n1","a":[1,{"b":"}"}]}"#,
                r#"{"documentOwner":"n2","a":[1,{"b":"}"}]}"#,
            ),
            (
                r#"{"a":1,"documentOwner":"n1","documentAuthPrincipalLink":"/u/jane"}"#,
                r#"{"a":1,"documentOwner":"n2","documentAuthPrincipalLink":"/u/jane"}"#,
            ),
            // Fields of a user's own, and values that look like the field.
            (
                r#"{"x":{"documentOwner":"u"},"documentOwner":"n1","w":{"documentOwner":7}}"#,
                r#"{"x":{"documentOwner":"u"},"documentOwner":"n2","w":{"documentOwner":7}}"#,
            ),
            (
                r#"{"y":"documentOwner","z":"\",\"documentOwner\":","documentOwner":"n1"}"#,
                r#"{"y":"documentOwner","z":"\",\"documentOwner\":","documentOwner":"n2"}"#,
            ),
            (r#"{"x":{"documentOwner":"u"}}"#, r#"{"x":{"documentOwner":"u"}}"#),
            ("{}", "{}"),
        ] {
            let found = Document::with_owner(shown.as_bytes(), "n2");
            assert_eq!(String::from_utf8_lossy(&found), expected);
        }
    }
}
