//! Repeats of requests that were answered: found in the partition's records, which are written
//! together with the document. (A repeat of a request that is still under way waits with it, see
//! `group::Requests`.)

use documents::Recorded;
use group::key_reused;
use protocol::{BATCH_LINK, Method, Request, RequestKey, Response};
use serde_json::json;
use storage::StoreError;

use super::asked::{Asked, Known};
use super::batches::recorded_batch;
use super::context::StepContext;
use super::state::PartitionLeader;
use crate::task::TaskInfo;

impl PartitionLeader {
    /// Answers a repeat of a request that was answered. False when it is none.
    pub(super) fn repeat(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: &Asked,
    ) -> Result<bool, StoreError> {
        let Asked { ticket, request, known: Known { key, is_retry, .. } } = asked;
        let (ticket, Some(key)) = (*ticket, key) else { return Ok(false) };
        if !is_retry && matches!(key, RequestKey::Auto { .. }) {
            return Ok(false);
        }
        let Some(recorded) = cx.partition().recorded(cx.reader(), key)? else {
            return Ok(false);
        };
        if matches!(key, RequestKey::User { digest, .. } if *digest != recorded.digest) {
            self.refuse(cx, ticket, &request.path, key_reused(key));
            return Ok(true);
        }
        if request.method == Method::Post
            && self.repeat_of_direct(cx, (ticket, request), &recorded)?
        {
            return Ok(true);
        }
        let response = recorded_response(cx, request, &recorded)?;
        let response = with_location(response, request, &recorded.link);
        let position = cx.position(self.duty.partition)?;
        self.respond(cx, ticket, &request.path, response, Some(position));
        Ok(true)
    }

    /// The POST of a direct task is repeated (its owner died): the task's end is the answer.
    fn repeat_of_direct(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        (ticket, request): (u64, &Request),
        recorded: &Recorded,
    ) -> Result<bool, StoreError> {
        let link = &recorded.link;
        if !cx.handlers().catalogue.spec_of(link).is_some_and(|spec| spec.is_task) {
            return Ok(false);
        }
        let Some(task) = cx.latest(link)? else { return Ok(false) };
        let info = TaskInfo::of(&task.body);
        if !info.is_direct || task.is_deleted() {
            return Ok(false);
        }
        if info.stage.is_final() {
            let position = cx.position(self.duty.partition)?;
            let response = cx.answer_to(&request.principal, 200, &task);
            self.respond(cx, ticket, link, response, Some(position));
        } else {
            self.tasks.wait_for_end(link, ticket, task.expires);
        }
        Ok(true)
    }
}

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
