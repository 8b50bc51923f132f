//! The built-in `document...` fields in the bodies of what is no document. What a GET has shown may
//! be sent back, as long as it is so; a field that says something else would be passed over.

use protocol::{BUILT_IN_FIELDS, Code, Problem};
use serde_json::{Map, Value};

use super::options::bad;

/// What the built-in fields of something are.
pub(super) struct BuiltIn<'a> {
    /// What it is, as `an instance`.
    pub(super) of: &'a str,
    pub(super) link: &'a str,
    pub(super) kind: &'a str,
    pub(super) version: Version,
}

/// Which version it has.
#[derive(Clone, Copy)]
pub(super) enum Version {
    /// None: there are no versions.
    Without,
    /// It is made by this request.
    New,
    At(u64),
}

impl BuiltIn<'_> {
    /// Takes out the built-in fields, if each of them says what is so.
    ///
    /// # Errors
    /// Which field says something else, or asks for what there is not.
    pub(super) fn take_out(&self, body: &Value) -> Result<Value, Problem> {
        let mut fields = body.as_object().cloned().unwrap_or_default();
        let built_in: Map<String, Value> = BUILT_IN_FIELDS
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), fields.remove(name)?)))
            .filter(|(_, value)| !value.is_null())
            .collect();
        for (name, value) in &built_in {
            self.check(name, value)?;
        }
        Ok(Value::Object(fields))
    }

    fn check(&self, name: &str, said: &Value) -> Result<(), Problem> {
        let Self { of, link, kind, version } = self;
        match (name, version) {
            ("documentSelfLink", _) if said == link => Ok(()),
            ("documentSelfLink", _) => {
                let text = format!("documentSelfLink is {said}, and the request is for {link}");
                Err(Problem::new(Code::BadLink, text))
            }
            ("documentKind", _) if said == kind => Ok(()),
            ("documentKind", _) => {
                let text = format!("documentKind is {said}; that of {of} is {kind}: leave it out");
                Err(Problem::new(Code::UnknownKind, text))
            }
            ("documentVersion", Version::At(found)) if said == found => Ok(()),
            ("documentVersion", Version::New) if *said == 0 => Ok(()),
            ("documentVersion", Version::At(found)) => {
                let text = format!(
                    "{link}: expected documentVersion {said}, found {found}; read it again and \
                     repeat the change"
                );
                Err(Problem::new(Code::VersionMismatch, text))
            }
            ("documentVersion", Version::New) => Err(bad(&format!(
                "documentVersion is {said}: a new {} begins at its own; leave it out",
                of.trim_start_matches("an ").trim_start_matches("a ")
            ))),
            // Typed clients say 0 for a time that is not set.
            ("documentExpirationTimeMicros", _) if *said == 0 => Ok(()),
            _ => Err(bad(&format!("{of} has no {name}, and this is {said}"))),
        }
    }
}
