//! The body of a write, taken apart and checked.

use protocol::{
    BUILT_IN_FIELDS, BodyType, Code, Document, Method, Moment, Problem, Request, json, links,
};
use serde_json::{Map, Value};

use crate::lenient::{coerce, whole};
use crate::state::shorten;
use crate::{Spec, digits, merge};

/// The last part of the `kind` of a PATCH that must carry the current `documentVersion`.
const STRICT_UPDATE: &str = "StrictUpdateRequest";

/// A body, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// What a PATCH asks, when it is not a plain change.
    pub(crate) kind: Option<String>,
    /// `documentVersion`.
    pub(crate) version: Option<u64>,
    /// `documentExpirationTimeMicros`.
    pub(crate) expires: Option<Moment>,
    /// The user's fields; nulls too.
    pub(crate) fields: Map<String, Value>,
    /// There was no body at all.
    pub(crate) is_empty: bool,
}

impl Incoming {
    /// # Errors
    /// Whatever can be wrong with a body before the state of the document matters.
    pub(crate) fn parse(request: &Request, spec: &Spec) -> Result<Self, Problem> {
        if request.body.len() > spec.state_bytes_max {
            return Err(too_large("the body", request.body.len(), spec));
        }
        if request.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { is_empty: true, ..Self::default() });
        }
        let mut fields = match json::parse(&request.body) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(Problem::bad_body("the body must be a JSON object: {...}")),
            Err(error) => return Err(Problem::bad_body(format!("the body is not JSON: {error}"))),
        };
        let version = number(&fields, request, "documentVersion", "a whole number from 0 up")?;
        let expires = expiration(&fields, request)?;
        check_built_in(&fields, &request.path)?;
        check_document_kind(&fields, spec)?;
        // What an action takes is its program's, a field of that name too.
        let kind = match request.action {
            Some(_) => None,
            None => take_kind(&mut fields, spec, request.method)?,
        };
        fields.retain(|name, _| !BUILT_IN_FIELDS.contains(&name.as_str()));
        for field in &spec.fields {
            if field.internal && fields.get(&field.name).is_some_and(|value| !value.is_null()) {
                let name = &field.name;
                return Err(Problem::bad_request(format!(
                    "Do not specify {name}: internal use only"
                )));
            }
            if let Some(value) = fields.get_mut(&field.name) {
                let written = || digits::written(&request.body, &field.name);
                coerce(value, field.field_type, written);
            }
        }
        Ok(Self { kind, version, expires, fields, is_empty: false })
    }

    /// Whether the body must name the version that is current.
    pub(crate) fn is_strict(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| last_part(kind) == STRICT_UPDATE)
    }

    /// # Errors
    /// When the version in the body is not the current one, or is not there.
    pub(crate) fn check_version(&self, current: &Document) -> Result<(), Problem> {
        let Some(expected) = self.version else {
            return Err(Problem::bad_request(format!(
                "this update needs the 'documentVersion' that it changes; the current one is {}",
                current.version
            )));
        };
        if expected == current.version {
            return Ok(());
        }
        let message = format!(
            "{}: expected documentVersion {expected}, found {}; read it again and repeat the \
             change",
            current.link, current.version
        );
        Err(Problem::new(Code::VersionMismatch, message))
    }
}

pub(crate) fn too_large(what: &str, bytes: usize, spec: &Spec) -> Problem {
    let limit = spec.state_bytes_max;
    Problem::new(
        Code::TooLarge,
        format!("{what} is {bytes} bytes long; the limit of {} is {limit}", spec.factory),
    )
}

fn number(
    fields: &Map<String, Value>,
    request: &Request,
    name: &str,
    what: &str,
) -> Result<Option<u64>, Problem> {
    let value = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let written = if value.is_f64() { digits::written(&request.body, name) } else { None };
    let number = whole(value, written.as_deref()).and_then(|it| it.as_u64());
    number.map(Some).ok_or_else(|| {
        let found = written.unwrap_or_else(|| shorten(value));
        Problem::bad_request(format!("'{name}' must be {what}, not {found}"))
    })
}

/// When the document is to expire, if the body says so. A 0 is what a typed client sends that has
/// nothing to say, as in Xenon: it is "never" only where a whole state replaces the last one, and
/// in a merge patch, where null says the same.
fn expiration(fields: &Map<String, Value>, request: &Request) -> Result<Option<Moment>, Problem> {
    const NAME: &str = "documentExpirationTimeMicros";
    let is_merge_patch = request.body_type == BodyType::MergePatch;
    if is_merge_patch && fields.get(NAME) == Some(&Value::Null) {
        return Ok(Some(Moment(0)));
    }
    let micros =
        number(fields, request, NAME, "a time in microseconds since 1970, or 0 for never")?;
    let zero_counts = is_merge_patch || request.method == Method::Put;
    Ok(micros.filter(|micros| *micros != 0 || zero_counts).map(Moment))
}

/// Built-in fields that ask for something are done, or refused. Those that only repeat what a GET
/// has shown are dropped.
fn check_built_in(fields: &Map<String, Value>, link: &str) -> Result<(), Problem> {
    let said = |name: &str| fields.get(name).filter(|it| !it.is_null() && it.as_str() != Some(""));
    if let Some(source) = said("documentSourceLink") {
        return Err(Problem::bad_request(format!(
            "documentSourceLink is {}: documents are not cloned here; GET that one and send its \
             fields",
            shorten(source)
        )));
    }
    if let Some(id) = said("documentTransactionId") {
        let id = shorten(id);
        return Err(Problem::bad_request(format!(
            "documentTransactionId is {id}: there are no transactions here; leave it out"
        )));
    }
    let Some(named) = said("documentSelfLink") else { return Ok(()) };
    let name = links::split(link).map_or(link, |(_, name)| name);
    match named.as_str() {
        Some(named) if named == link || named.strip_prefix('/').unwrap_or(named) == name => Ok(()),
        _ => Err(Problem::new(
            Code::BadLink,
            format!("documentSelfLink is {}, and the request is for {link}", shorten(named)),
        )),
    }
}

fn check_document_kind(fields: &Map<String, Value>, spec: &Spec) -> Result<(), Problem> {
    match fields.get("documentKind") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(kind)) if *kind == spec.kind => Ok(()),
        Some(Value::String(kind)) => Err(unknown_kind(spec, kind, "documentKind")),
        Some(other) => Err(unknown_kind(spec, &shorten(other), "documentKind")),
    }
}

/// `kind` says what a PATCH asks, unless the service has a field of that name.
fn take_kind(
    fields: &mut Map<String, Value>,
    spec: &Spec,
    method: Method,
) -> Result<Option<String>, Problem> {
    // A service without described fields takes any, this one included.
    if spec.field_named("kind").is_some() || (spec.fields.is_empty() && method != Method::Patch) {
        return Ok(None);
    }
    let kind = match fields.remove("kind") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(kind)) => kind,
        Some(other) => return Err(unknown_kind(spec, &shorten(&other), "kind")),
    };
    if kind == spec.kind {
        return Ok(None);
    }
    let known = method == Method::Patch
        && (merge::KINDS.contains(&kind.as_str())
            || kind == STRICT_UPDATE
            || kind == strict_kind(spec)
            || spec.patch_kinds.contains(&kind));
    if known { Ok(Some(kind)) } else { Err(unknown_kind(spec, &kind, "kind")) }
}

fn strict_kind(spec: &Spec) -> String {
    let parent = spec.kind.rsplit_once(':').map_or("", |(parent, _)| parent);
    format!("{parent}:{STRICT_UPDATE}")
}

fn unknown_kind(spec: &Spec, found: &str, field: &str) -> Problem {
    let mut known = vec![spec.kind.clone()];
    if field == "kind" {
        known.push(strict_kind(spec));
        known.extend(merge::KINDS.iter().map(ToString::to_string));
        known.extend(spec.patch_kinds.iter().cloned());
    }
    let message = format!(
        "{} does not know the {field} '{found}'; leave it out or use one of: {}",
        spec.factory,
        known.join(", ")
    );
    Problem::new(Code::UnknownKind, message)
}

fn last_part(kind: &str) -> &str {
    kind.rsplit_once(':').map_or(kind, |(_, last)| last)
}
