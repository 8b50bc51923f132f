//! The answers to requests that were done before, as far as they are still known: to one write, and
//! to a batch.

use documents::{Atom, KeptOutcome, Recorded};
use protocol::{BATCH_LINK, Method, Moment, Problem, Request, Response};
use serde_json::json;
use storage::StoreError;

use super::context::StepContext;

/// The answer that was given, as far as it is still known.
pub(super) fn recorded_response(
    cx: &StepContext<'_, '_>,
    request: &Request,
    recorded: &Recorded,
) -> Result<Response, StoreError> {
    let Recorded { link, version, status, response, written, .. } = recorded;
    if let Some(outcomes) = response.as_ref().filter(|_| request.path == BATCH_LINK) {
        return recorded_batch(cx, request, outcomes);
    }
    if let Some(body) = response {
        return Ok(Response::bytes(*status, body.clone()));
    }
    let document = cx.partition().version(cx.reader(), link, *version)?;
    // That of another life of the link is not what was answered.
    let document = document.filter(|it| written.is_none_or(|written| written == it.updated));
    Ok(match document {
        Some(document) => cx.answer_to(&request.principal, *status, &document),
        // The version has gone since; that the write was made is what counts.
        None => {
            Response::json(*status, &json!({"documentSelfLink": link, "documentVersion": version}))
        }
    })
}

pub(super) fn with_location(response: Response, request: &Request, link: &str) -> Response {
    let is_one = request.path != BATCH_LINK;
    let made = request.method == Method::Post && response.is_success() && is_one;
    Response { location: made.then(|| link.to_owned()), ..response }
}

/// The outcomes of the writes of a batch, as JSON, in their order.
#[derive(Default)]
pub(super) struct Outcomes(Vec<u8>);

impl Outcomes {
    pub(super) fn push(&mut self, response: &Response) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let mut head = format!("{{\"status\":{},\"outcome\":\"applied\"", response.status);
        for (name, value) in [("etag", &response.etag), ("location", &response.location)] {
            if let Some(value) = value {
                head.push_str(&format!(",\"{name}\":{}", text(value)));
            }
        }
        self.0.extend_from_slice(head.as_bytes());
        if !response.body.is_empty() {
            self.0.extend_from_slice(b",\"body\":");
            self.0.extend_from_slice(&response.body);
        }
        self.0.push(b'}');
    }

    pub(super) fn answer(mut self) -> Response {
        if self.0.is_empty() {
            self.0.push(b'[');
        }
        self.0.push(b']');
        Response::bytes(200, self.0.into())
    }
}

/// The answer to a batch that was done before.
fn recorded_batch(
    cx: &StepContext<'_, '_>,
    asked: &Request,
    recorded: &[u8],
) -> Result<Response, StoreError> {
    let broken = |problem: Problem| StoreError::failed(problem.message);
    let atom = Atom::decode(&asked.body).map_err(broken)?;
    let mut outcomes = Outcomes::default();
    for (kept, part) in
        KeptOutcome::decode(recorded).map_err(broken)?.into_iter().zip(atom.requests)
    {
        let KeptOutcome { status, version, written, body } = kept;
        let request = Request { principal: asked.principal.clone(), ..part.request };
        let recorded = Recorded {
            link: request.path.clone(),
            version,
            status,
            digest: 0,
            response: body,
            written: (written != Moment(0)).then_some(written),
        };
        let response = recorded_response(cx, &request, &recorded)?;
        outcomes.push(&with_location(response, &request, &request.path));
    }
    Ok(outcomes.answer())
}
