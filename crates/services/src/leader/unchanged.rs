//! Successful answers to writes that changed nothing. A repeat must change nothing either, though
//! by then there may be something to change: with a key of the client's own the answer goes into
//! the log, so that every later owner knows it too. (Without one it is the memory of the present
//! owner that knows late copies, see [`PartitionAnswer::Unchanged`].)

use documents::{AppliedCommand, Command, Recorded, Remember};
use group::Output;
use protocol::{Code, Method, Position, Problem, RequestKey, Response};
use storage::StoreError;

use super::asked::{Asked, Unchanged};
use super::context::StepContext;
use super::proposals::Proposed;
use super::state::PartitionLeader;
use crate::io::PartitionAnswer;
use crate::task::asks_to_wait;

impl PartitionLeader {
    /// Answers a write that changed nothing. One that was refused may be sent again.
    pub(super) fn leave_unchanged(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        unchanged: Unchanged,
        position: Option<Position>,
    ) {
        let Unchanged { asked: Asked { request, known, .. }, response } = &unchanged;
        let key = known.key.as_ref().filter(|key| matches!(key, RequestKey::User { .. }));
        let Some(key) = key.filter(|_| response.is_success()) else {
            return self.answer_unchanged(cx, unchanged, position);
        };
        let (version, body) = recorded_body(response);
        let answer = Recorded {
            link: request.path.clone(),
            version,
            status: response.status,
            digest: 0,
            response: body,
            written: None,
        };
        let (epoch, at) = (self.duty.epoch, cx.now().wall);
        let remember = Remember { epoch, key: key.clone(), answer, at };
        let proposed = Proposed::Remember(Box::new(unchanged));
        self.propose(cx, proposed, &Command::Remember(remember));
    }

    /// The answer is in the log, or another one to the same request was there before.
    pub(super) fn remembered(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        unchanged: Unchanged,
        (position, effect): (Position, AppliedCommand),
    ) -> Result<(), StoreError> {
        if effect != AppliedCommand::Fenced {
            self.answer_unchanged(cx, unchanged, Some(position));
            return Ok(());
        }
        let mut asked = unchanged.asked;
        asked.known.is_retry = true;
        if !self.repeat(cx, &asked)? {
            let text = "this node is no longer the owner of the document; try again";
            let problem = Problem::new(Code::NoOwner, text);
            self.refuse(cx, asked.ticket, &asked.request.path, problem);
        }
        Ok(())
    }

    fn answer_unchanged(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        Unchanged { asked: Asked { ticket, request, .. }, response }: Unchanged,
        position: Option<Position>,
    ) {
        // The POST of a direct task that is under way: its end is the answer, which is shown as its
        // maker may see it.
        if request.method == Method::Post
            && response.is_success()
            && asks_to_wait(&request.body)
            && self.tasks.runners.contains_key(&request.path)
            && let Ok(Some(task)) = cx.latest(&request.path)
            && task.author.as_ref() == request.principal.user()
        {
            return self.tasks.wait_for_end(&request.path, ticket, task.expires);
        }
        self.count_failure(cx, &request.path, response.status);
        let answer = PartitionAnswer::Unchanged(response);
        cx.put(Output::Answer { ticket, answer, position });
    }
}

/// The version of the document that the answer shows, or else its body.
fn recorded_body(response: &Response) -> (u64, Option<bytes::Bytes>) {
    let shown = response.etag.as_ref().map(|_| response.to_json());
    match shown.and_then(|document| document["documentVersion"].as_u64()) {
        Some(version) => (version, None),
        None => (0, Some(response.body.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_remembered_by_its_version_and_all_else_as_it_is() {
        let empty = Response::bytes(200, bytes::Bytes::new());
        assert_eq!(recorded_body(&empty), (0, Some(bytes::Bytes::new())));
        let shown = Response::json(200, &json!({"documentVersion": 7}));
        assert_eq!(recorded_body(&shown), (0, Some(shown.body.clone())), "it may be anything");
        let document = Response { etag: Some("\"1.7.5\"".into()), ..shown };
        assert_eq!(recorded_body(&document), (7, None));
    }
}
