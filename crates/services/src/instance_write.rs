//! A write of an instance as the request that it is, and what the instance is told of it.

use bytes::Bytes;
use documents::InstanceAnswer;
use protocol::instance_write::{Asker, WriteMethod};
use protocol::{Code, Method, Principal, Problem, Request, Response, json, links};
use serde_json::Value;

/// A longer document, or a longer error, is not part of what an instance is told.
const OUTCOME_BYTES_MAX: usize = 256 << 10;

/// What an instance wants to be done.
pub(crate) struct InstanceWrite {
    pub(crate) method: i64,
    /// As the program gave it.
    pub(crate) link: String,
    pub(crate) body: Bytes,
    /// Who waits for the outcome.
    pub(crate) asker: Option<Asker>,
}

impl InstanceWrite {
    /// # Errors
    /// When nothing can come of it.
    pub(crate) fn into_request(self, principal: Principal) -> Result<Request, Problem> {
        let Self { method, link, body, .. } = self;
        links::check(&link)?;
        let Some(known) = WriteMethod::of(method) else {
            let text = format!(
                "the method of a message to a document is 1 (POST), 2 (PUT), 3 (PATCH), 4 (DELETE) \
                 or 5 (an action), not {method}"
            );
            return Err(Problem::bad_request(text));
        };
        let (method, path, body) = match known {
            WriteMethod::Post => {
                let (factory, name) = links::split(&link).ok_or_else(|| {
                    let text = format!("{link} is no link of a document: it is in no factory");
                    Problem::new(Code::BadLink, text)
                })?;
                (Method::Post, factory.to_owned(), named(&body, &link, name)?)
            }
            WriteMethod::Put => (Method::Put, link, body),
            WriteMethod::Patch => (Method::Patch, link, body),
            WriteMethod::Delete => (Method::Delete, link, body),
            WriteMethod::Act => (Method::Post, link, body),
        };
        Ok(Request { body, ..Request::new(method, path).on_behalf_of(principal) })
    }
}

/// The body of a new document, with its name. All else of it stays as it was written.
fn named(body: &Bytes, link: &str, name: &str) -> Result<Bytes, Problem> {
    let text = if body.is_empty() { "{}" } else { std::str::from_utf8(body).unwrap_or_default() };
    let value: Value = json::parse(text.as_bytes())
        .map_err(|error| Problem::bad_body(format!("the body is not JSON: {error}")))?;
    let Some(fields) = value.as_object() else {
        return Err(Problem::bad_body("the body must be a JSON object"));
    };
    match fields.get("documentSelfLink") {
        None => {}
        Some(Value::String(said)) if said == name || said == link => return Ok(body.clone()),
        Some(other) => {
            let text = format!("documentSelfLink is {other}, and the message is for {link}");
            return Err(Problem::new(Code::BadLink, text));
        }
    }
    let rest = text.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if fields.is_empty() { "" } else { "," };
    let name = Value::from(name);
    Ok(Bytes::from(format!("{{\"documentSelfLink\":{name}{comma}{rest}")))
}

/// What an instance is told: the status, and the body as a client would have got it.
pub(crate) fn answer_to(asker: &Asker, response: &Response) -> InstanceAnswer {
    let Response { status, body, .. } = response;
    let payload = match std::str::from_utf8(body) {
        Ok("") => format!("{{\"status\":{status},\"body\":null}}"),
        Ok(body) if body.len() <= OUTCOME_BYTES_MAX => {
            format!("{{\"status\":{status},\"body\":{body}}}")
        }
        _ => {
            let bytes = body.len();
            format!("{{\"status\":{status},\"body\":null,\"bodyBytes\":{bytes}}}")
        }
    };
    let Asker { instance, link, id } = asker;
    let (to, from, id) = (instance.clone(), link.clone(), *id);
    InstanceAnswer { to, from, id, payload: payload.into() }
}

/// Whether a write that was answered so is to be tried again: nothing came of it, or nobody knows,
/// and that passes by itself. A number is noted once, so nothing can be done twice.
pub(crate) fn is_passing(response: &Response) -> bool {
    matches!(response.status, 503 | 504)
        || (response.status == Code::Fenced.status()
            && response.to_json()["code"] == Code::Fenced.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: i64, link: &str, body: &'static str) -> Result<Request, Problem> {
        let body = Bytes::from_static(body.as_bytes());
        let write = InstanceWrite { method, link: link.to_owned(), body, asker: None };
        write.into_request(Principal::Anonymous)
    }

    #[test]
    fn a_new_document_has_the_name_of_its_link_and_every_digit_of_its_body() {
        let body = |body| {
            let request = request(1, "/app/seats/A1", body).unwrap();
            assert_eq!((request.method, request.path.as_str()), (Method::Post, "/app/seats"));
            String::from_utf8(request.body.to_vec()).unwrap()
        };
        let named = r#"{"documentSelfLink":"A1"}"#;
        assert_eq!((body(""), body("{}")), (named.to_owned(), named.to_owned()));
        let long = r#" {"n":0.10000000000000000000001,"m":[]} "#;
        let expected = r#"{"documentSelfLink":"A1","n":0.10000000000000000000001,"m":[]} "#;
        assert_eq!(body(long), expected);
        for same in [r#"{"documentSelfLink":"A1"}"#, r#"{"documentSelfLink":"/app/seats/A1"}"#] {
            assert_eq!(body(same), same);
        }
        for wrong in ["[]", "{", "\"a\"", r#"{"documentSelfLink":"A2"}"#] {
            assert!(request(1, "/app/seats/A1", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_no_document_takes_is_refused_by_name() {
        let why = |method, link| request(method, link, "{}").unwrap_err();
        assert!(why(6, "/app/seats/A1").message.contains("not 6"));
        assert!(why(0, "/app/seats/A1").message.contains("not 0"));
        assert_eq!(why(3, "/app/seats//A1").code, Code::BadLink);
        assert_eq!(why(1, "/seats").code, Code::BadLink);
    }

    #[test]
    fn an_outcome_is_a_status_and_a_body() {
        let asker = Asker { instance: "a".into(), link: "/x/y".into(), id: 7 };
        let told = |status, body: Bytes| {
            let answer = answer_to(&asker, &Response::bytes(status, body));
            assert_eq!((answer.to.as_str(), answer.from.as_str(), answer.id), ("a", "/x/y", 7));
            serde_json::from_slice::<Value>(&answer.payload).unwrap()
        };
        let empty = serde_json::json!({"status": 200, "body": null});
        assert_eq!(told(200, Bytes::new()), empty);
        assert_eq!(told(409, Bytes::from_static(b"{\"code\":\"X\"}"))["body"]["code"], "X");
        let long = format!("\"{}\"", "x".repeat(OUTCOME_BYTES_MAX));
        let told = told(200, long.clone().into());
        assert!(told["body"].is_null() && told["bodyBytes"] == long.len());
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_nothing_else() {
        let passes = |code| is_passing(&Response::from(code));
        for code in [Code::Busy, Code::NoOwner, Code::QuorumNotMet, Code::NoProgram, Code::Timeout]
        {
            assert!(passes(code), "{}", code.name());
        }
        assert!(passes(Code::Fenced) && passes(Code::Storage) && passes(Code::Stopping));
        for code in [Code::Refused, Code::NotFound, Code::AccessDenied, Code::ProgramFailed] {
            assert!(!passes(code), "{}", code.name());
        }
    }
}
