//! A question to the node and its answer, for who stands before it.

use std::time::Duration;

use access::{CAN_I, WHO_AM_I};
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response};
use serde_json::json;
use tokio::sync::oneshot;

use crate::inbox::Inbox;

/// How long an answer may take. The node answers long before; this is for its mistakes.
const ANSWER_MAX: Duration = Duration::from_secs(75);

/// Hands a request to the node and waits for its answer.
pub(crate) async fn ask(inbox: &Inbox, request: Request) -> Response {
    let unknown = request.method.is_write().then_some(Outcome::Unknown);
    let (sender, receiver) = oneshot::channel();
    if inbox.request(request, sender).is_err() {
        let message = "the node has more requests than it can take; try again";
        let problem = Problem::new(Code::Busy, message).with_outcome(Outcome::NotApplied);
        return problem.into();
    }
    let lost = |code, message: &str| {
        let mut problem = Problem::new(code, message);
        problem.outcome = unknown;
        Response::from(problem)
    };
    match tokio::time::timeout(ANSWER_MAX, receiver).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => lost(Code::Stopping, "the node stopped before it could answer"),
        Err(_) => lost(Code::Timeout, "the node did not answer in time"),
    }
}

/// The same, in the name of the cluster itself. Never with what a client may choose freely.
pub(crate) async fn ask_as_system(inbox: &Inbox, request: Request) -> Response {
    ask(inbox, request.on_behalf_of(Principal::System)).await
}

/// The user that shows a token; `None` for one that does not count, and for nobody.
///
/// # Errors
/// When the node cannot tell at this moment.
pub(crate) async fn user_of(
    inbox: &Inbox,
    principal: &Principal,
) -> Result<Option<String>, Problem> {
    let who = Request::new(Method::Get, WHO_AM_I).on_behalf_of(principal.clone());
    let answer = ask(inbox, who).await;
    if answer.status >= 500 {
        return Err(problem_of(&answer));
    }
    Ok(answer.to_json()["userLink"].as_str().map(str::to_owned))
}

/// Whether somebody may do that there, and who the node takes that one for.
///
/// # Errors
/// When the node cannot tell at this moment, or knows nobody by what is shown.
pub(crate) async fn may(
    inbox: &Inbox,
    principal: Principal,
    (verb, link): (Method, &str),
) -> Result<(bool, String), Problem> {
    let body = json!({"verb": verb.name(), "link": link});
    let request = Request::new(Method::Post, CAN_I).with_json(&body).on_behalf_of(principal);
    let answer = ask(inbox, request).await;
    if !answer.is_success() {
        return Err(problem_of(&answer));
    }
    let body = answer.to_json();
    let who = body["as"].as_str().unwrap_or("anonymous").to_owned();
    Ok((body["isAllowed"] == json!(true), who))
}

/// The problem that the node's own answer tells of.
pub(crate) fn problem_of(answer: &Response) -> Problem {
    let body = answer.to_json();
    let text = body["message"].as_str().unwrap_or("the node gave no reason").to_owned();
    let code = match answer.status {
        401 => Code::Unauthorized,
        403 => Code::AccessDenied,
        429 => Code::SlowDown,
        500 => Code::Internal,
        504 => Code::Timeout,
        status if status >= 500 => Code::Busy,
        _ => Code::BadRequest,
    };
    Problem { retry_after_seconds: answer.retry_after_seconds, ..Problem::new(code, text) }
}
