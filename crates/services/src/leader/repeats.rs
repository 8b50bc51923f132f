//! Repeats of requests that were answered: found in the partition's records, which are written
//! together with the document. (A repeat of a request that is still under way waits with it, see
//! `group::Requests`.)

use documents::Recorded;
use group::key_reused;
use protocol::{Method, Request, RequestKey};
use storage::StoreError;

use super::asked::{Asked, Known};
use super::context::StepContext;
use super::recorded::{recorded_response, with_location};
use super::state::PartitionLeader;
use crate::task::{TaskInfo, asks_to_wait};

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
        // As the first one has waited, see `answer_unchanged`.
        let is_own = task.author.as_ref() == request.principal.user();
        let waits = info.is_direct || (is_own && asks_to_wait(&request.body));
        if !waits || task.is_deleted() {
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
