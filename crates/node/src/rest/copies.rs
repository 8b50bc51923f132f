//! A query task that asks what another one does (Xenon's `documentSourceLink`).

use protocol::query::LINK as QUERY_TASKS;
use protocol::{Code, Outcome, Problem, Request, Response, links};
use serde_json::{Value, json};

use super::plan::{Plan, canonical, parse_body};
use crate::work::{Effects, Purpose, Work};

const SOURCE: &str = "documentSourceLink";

/// `None` when no other task is named. That one is read with the rights of whoever asks.
///
/// # Errors
/// When it is no query task, or when it is said as well what to ask.
pub(super) fn plan(request: &Request, body: &Value) -> Result<Option<Plan>, Problem> {
    let source = &body[SOURCE];
    if source.is_null() {
        return Ok(None);
    }
    let refused = |text: String| Err(Problem::bad_request(text));
    if !body["querySpec"].is_null() {
        return refused(format!(
            "querySpec is there, and {SOURCE} says whose query is asked; drop one"
        ));
    }
    let mut look = Request::get(source.as_str().unwrap_or_default());
    canonical(&mut look);
    let is_task = links::split(&look.path).is_some_and(|(factory, _)| factory == QUERY_TASKS);
    if !is_task || !look.query.is_empty() || links::check(&look.path).is_err() {
        return refused(format!("{SOURCE} is {source}, which is no link of a query task"));
    }
    let mut body = body.clone();
    if let Value::Object(fields) = &mut body {
        fields.remove(SOURCE);
    }
    let make = Box::new(request.clone().with_json(&body));
    let look = Box::new(look.on_behalf_of(request.principal.clone()));
    Ok(Some(Plan::Copy { look, make }))
}

/// The other task was looked at: its query is asked.
pub(crate) fn seen(
    (purpose, make): (Purpose, Request),
    response: &Response,
    effects: &mut Effects,
) {
    let asked = match response.is_success() {
        true => with_query(make, response),
        false => {
            let why = response.to_json()["message"].clone();
            let text = format!("{SOURCE}: {}", why.as_str().unwrap_or("it cannot be read"));
            let code = match response.status {
                401 => Code::Unauthorized,
                403 => Code::AccessDenied,
                // It may be read in a moment.
                500.. => Code::NoOwner,
                _ => Code::BadRequest,
            };
            Err(Problem::new(code, text))
        }
    };
    match asked {
        Ok(make) => effects.push(Work::Enter(purpose, make)),
        Err(problem) => effects.respond(&purpose, problem.with_outcome(Outcome::NotApplied)),
    }
}

fn with_query(make: Request, response: &Response) -> Result<Request, Problem> {
    let mut body = parse_body(&make.body)?;
    // Its numbers have all the digits that a task keeps.
    let task = parse_body(&response.body)?;
    body["querySpec"] = match &task["querySpec"] {
        Value::Null => json!({}),
        asked => asked.clone(),
    };
    Ok(make.with_json(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_task_asks_is_asked() {
        let make = Request::new(protocol::Method::Post, QUERY_TASKS)
            .with_json(&json!({"taskInfo": {"isDirect": true}}));
        let mut effects = Effects::default();
        let task = json!({"querySpec": {"query": {"a": 1}}, "results": {"documentCount": 3}});
        let waiting = || (Purpose::Client { ticket: 1 }, make.clone());
        seen(waiting(), &Response::json(200, &task), &mut effects);
        let Some(Work::Enter(_, made)) = effects.work.pop_front() else { panic!() };
        let body: Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(body, json!({"taskInfo": {"isDirect": true}, "querySpec": {"query": {"a": 1}}}));
        seen(waiting(), &Problem::not_found("no such task").into(), &mut effects);
        let Some(crate::io::Output::Answer { response, .. }) = effects.outputs.pop() else {
            panic!()
        };
        let body = response.to_json();
        assert_eq!((response.status, &body["outcome"]), (400, &json!("notApplied")));
        assert!(body["message"].as_str().unwrap().contains("no such task"), "{body}");
        // Who may not see it, or asks at a bad moment, is told that.
        for (code, status) in [
            (Code::NoOwner, 503),
            (Code::Timeout, 503),
            (Code::AccessDenied, 403),
            (Code::Unauthorized, 401),
        ] {
            seen(waiting(), &Problem::new(code, "no").into(), &mut effects);
            let Some(crate::io::Output::Answer { response, .. }) = effects.outputs.pop() else {
                panic!()
            };
            assert_eq!(response.status, status, "{code:?}");
        }
    }
}
