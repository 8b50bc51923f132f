//! A document is to be again what it was at an old version: a PUT of what that version was.
//!
//! So all the rules of a PUT hold: those of the service's own code, of conditions, of versions and
//! of rights. Whoever asks must be allowed to see the old version, too. When the service's code
//! makes something else of it, nothing is written: that would not be the old version again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{Code, Document, Method, Outcome, Problem, Request};
use serde_json::value::RawValue;
use storage::StoreError;

use super::context::StepContext;
use super::past;
use crate::difference::difference;
use crate::invocation::{Verdict, Work};
use crate::verbs::missing;
use crate::{ServiceOption, Spec};

/// What is to be run in place of the request, if that asks for an old version.
pub(super) fn resolved(
    cx: &StepContext<'_, '_>,
    request: &Request,
    current: Option<&Document>,
) -> Result<Result<Option<Work>, Problem>, StoreError> {
    let asked = request.parameter("revert").filter(|_| request.method == Method::Put);
    let Some(number) = asked.and_then(|text| text.parse::<u64>().ok()) else {
        return Ok(Ok(None));
    };
    let body = body(cx, request, (number, current))?;
    let body = body.map_err(|problem| problem.with_outcome(Outcome::NotApplied));
    Ok(body.map(|body| {
        let query = String::new();
        Some(Work::Update(Arc::new(Request { body, query, ..request.clone() })))
    }))
}

/// What that version was, as the body of a PUT.
fn body(
    cx: &StepContext<'_, '_>,
    request: &Request,
    (number, current): (u64, Option<&Document>),
) -> Result<Result<Bytes, Problem>, StoreError> {
    let link = &request.path;
    let live = current.filter(|it| !it.is_deleted() && !it.is_expired(cx.now().wall));
    let Some(live) = live else { return Ok(Err(missing(link, current))) };
    let old = match past::version(cx, request, number)? {
        Ok(old) => old,
        Err(problem) => return Ok(Err(problem)),
    };
    if old.is_deleted() {
        return Ok(Err(Problem::bad_request(format!(
            "version {number} of {link} is its deletion: revert to {} for what it was before, or \
             DELETE it",
            number.saturating_sub(1)
        ))));
    }
    let Some(spec) = cx.handlers().catalogue.spec_of(link) else {
        return Ok(Err(cx.handlers().catalogue.unknown_service(link)));
    };
    let mut fields = without_internal(spec, &old);
    let version;
    if spec.has(ServiceOption::StrictUpdate) {
        if request.conditions.if_match.is_none() {
            return Ok(Err(unsaid(live)));
        }
        version = RawValue::from_string(live.version.to_string()).expect("a number is JSON");
        fields.insert("documentVersion".into(), &version);
    }
    Ok(Ok(serde_json::to_vec(&fields).expect("what was JSON is JSON").into()))
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// What the service alone writes, its code takes from the version that is there.
fn without_internal<'a>(spec: &Spec, document: &'a Document) -> Fields<'a> {
    let mut fields: Fields<'_> =
        serde_json::from_slice(document.body.as_bytes()).unwrap_or_default();
    for field in spec.fields.iter().filter(|field| field.internal) {
        fields.remove(&field.name);
    }
    fields
}

/// Refuses what a service has made of an old version, if it is something else.
pub(super) fn checked(
    cx: &StepContext<'_, '_>,
    request: &Request,
    verdict: Verdict,
) -> Result<Verdict, StoreError> {
    let asked = request.parameter("revert").filter(|_| request.method == Method::Put);
    let number = asked.and_then(|text| text.parse::<u64>().ok());
    let (Some(number), Verdict::Write(made)) = (number, &verdict) else { return Ok(verdict) };
    let link = &request.path;
    let old = cx.partition().version(cx.reader(), link, number)?;
    let spec = cx.handlers().catalogue.spec_of(link);
    let (Some(old), Some(spec)) = (old, spec) else { return Ok(verdict) };
    let texts = [&old, &*made.document]
        .map(|it| serde_json::to_vec(&without_internal(spec, it)).expect("what was JSON is JSON"));
    if difference(&texts[0], &texts[1]).is_ok_and(|changes| changes == "[]") {
        return Ok(verdict);
    }
    let text = format!(
        "the code of {} makes something else of version {number} of {link}, which would not be that \
         version again: GET it with documentVersion={number}, and PUT what is wanted",
        spec.factory
    );
    let problem = Problem::new(Code::Refused, text).with_outcome(Outcome::NotApplied);
    Ok(Verdict::AsItIs(problem.into()))
}

/// Where every update must name the version that it changes, `If-Match` does it.
fn unsaid(live: &Document) -> Problem {
    Problem::bad_request(format!(
        "each update of {} must say which version it changes: send If-Match with its ETag, which is \
         {} now",
        live.link,
        live.etag()
    ))
}
