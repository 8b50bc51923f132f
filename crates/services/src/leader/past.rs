//! Documents as they were: at a time, at a version, and what differs between two versions.

use bytes::Bytes;
use documents::VersionAt;
use protocol::{Code, Document, Method, Moment, Problem, Request, Response, time};
use serde_json::{Value, json};
use storage::StoreError;

use super::context::StepContext;
use crate::difference::difference;
use crate::verbs::unmet;

/// The document as it was at a time.
pub(super) fn show(
    cx: &StepContext<'_, '_>,
    request: &Request,
    at: Moment,
) -> Result<Result<Response, Problem>, StoreError> {
    let link = &request.path;
    let then = cx.partition().version_at(cx.reader(), link, at)?;
    let shown = match &then {
        VersionAt::Version(document) => Some(&**document),
        VersionAt::Nothing | VersionAt::Forgotten(_) => None,
    };
    let latest = cx.latest(link)?;
    // Of what is not kept nobody knows whether it may be seen: what is there now decides.
    let decides = match &then {
        VersionAt::Forgotten(_) => latest.as_deref(),
        VersionAt::Nothing | VersionAt::Version(_) => shown,
    };
    if let Err(problem) = cx.permit(request, link, decides) {
        return Ok(Err(problem));
    }
    let moment = time::shown(at);
    Ok(match (&then, shown) {
        (VersionAt::Forgotten(forgotten), _) => Err(forgotten.to_problem()),
        (_, Some(document)) if document.is_deleted() => Err(Problem::not_found(format!(
            "{link} was deleted at version {}, and that is what it was at {moment}",
            document.version
        ))),
        (_, Some(document)) if document.is_expired(at) => {
            Err(Problem::not_found(format!("{link} had expired at {moment}")))
        }
        (_, Some(document)) => found(document, request, &cx.handlers().node_id),
        (_, None) => Err(Problem::not_found(format!("there was no document {link} at {moment}"))),
    })
}

/// What a version of a document lacks that is asked for.
pub(super) fn no_version(
    cx: &StepContext<'_, '_>,
    link: &str,
    number: u64,
) -> Result<Problem, StoreError> {
    let oldest = cx.partition().oldest_version(cx.reader(), link)?;
    Ok(match oldest.filter(|oldest| number < oldest.version) {
        Some(oldest) => Problem::new(
            Code::HistoryGone,
            format!(
                "{link} has no version {number} any more: versions are kept from {} on. How many \
                 are kept is in {link}/config",
                oldest.version
            ),
        ),
        None => Problem::not_found(format!("{link} has no version {number} yet")),
    })
}

/// A version that is named in a request, if whoever asks may see it.
pub(super) fn version(
    cx: &StepContext<'_, '_>,
    request: &Request,
    number: u64,
) -> Result<Result<Document, Problem>, StoreError> {
    let link = &request.path;
    let kept = cx.partition().version(cx.reader(), link, number)?;
    let reads = Request { method: Method::Get, ..Request::new(Method::Get, link.as_str()) };
    let reads = reads.on_behalf_of(request.principal.clone());
    if let Err(problem) = cx.permit(&reads, link, kept.as_ref()) {
        return Ok(Err(problem));
    }
    Ok(match kept {
        Some(document) => Ok(document),
        None => Err(no_version(cx, link, number)?),
    })
}

/// What differs between two versions, or between one and the latest.
pub(super) fn show_difference(
    cx: &StepContext<'_, '_>,
    request: &Request,
    versions: &str,
) -> Result<Result<Response, Problem>, StoreError> {
    let (from, to) = versions.split_once(',').map_or((versions, None), |(a, b)| (a, Some(b)));
    let latest = cx.latest(&request.path)?.map_or(0, |latest| latest.version);
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let from = match version(cx, request, number(from))? {
        Ok(from) => from,
        Err(problem) => return Ok(Err(problem)),
    };
    let to = match version(cx, request, to.map_or(latest, number))? {
        Ok(to) => to,
        Err(problem) => return Ok(Err(problem)),
    };
    let [old, new] = [&from, &to].map(|document| access::shown(&request.principal, document));
    Ok(difference(old.body.as_bytes(), new.body.as_bytes()).map(|changes| {
        let head = json!({
            "documentSelfLink": request.path,
            "from": head_of(&from),
            "to": head_of(&to),
        });
        let mut text = head.to_string();
        text.pop();
        text.push_str(",\"changes\":");
        text.push_str(&changes);
        text.push('}');
        Response::bytes(200, Bytes::from(text))
    }))
}

/// Who made a version, when and how.
fn head_of(document: &Document) -> Value {
    let mut head = json!({
        "documentVersion": document.version,
        "documentUpdateAction": document.action.name(),
        "documentUpdateTimeMicros": document.updated.0,
    });
    if let Some(author) = &document.author {
        head["documentAuthPrincipalLink"] = json!(&**author);
    }
    head
}

/// The document, if the conditions of the request hold.
pub(super) fn found(
    document: &Document,
    request: &Request,
    owner: &str,
) -> Result<Response, Problem> {
    let shown = access::shown(&request.principal, document);
    let response = Response::document(200, &shown, owner);
    let etag = response.etag.as_deref();
    let held = request.conditions.check(etag, false);
    held.map_err(|header| unmet(&document.link, &header, etag))?;
    Ok(response)
}
