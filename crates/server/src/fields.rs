//! The fields of a small body that is answered before the node: what is not of its type, and what
//! would be passed over, is refused.

use protocol::{Code, Problem, Request};
use serde_json::{Map, Value};

pub(crate) fn body_of(request: &Request) -> Result<Map<String, Value>, Problem> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    // The text is not shown: there may be a password in it.
    serde_json::from_slice(&request.body)
        .map_err(|_| Problem::new(Code::BadBody, "the body must be a JSON object"))
}

/// What would be passed over is refused.
pub(crate) fn check_fields(
    body: &Map<String, Value>,
    of: &str,
    known: &[&str],
) -> Result<(), Problem> {
    match body.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let text = format!("{of} has no field '{unknown}'; it has {}", known.join(", "));
            Err(Problem::new(Code::BadBody, text))
        }
    }
}

pub(crate) fn text_of<'a>(
    body: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, Problem> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Problem::new(Code::BadBody, format!("{name} is a text, not {other}"))),
    }
}

pub(crate) fn seconds_of(body: &Map<String, Value>, name: &str) -> Result<Option<u64>, Problem> {
    let wrong = |other: &Value| {
        Problem::new(Code::BadBody, format!("{name} is a number of seconds, not {other}"))
    };
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_of_another_type_is_refused_and_not_passed_over() {
        let body = json!({"about": 5, "expirationSeconds": "60", "nothing": null});
        let body = body.as_object().unwrap();
        assert!(text_of(body, "about").is_err() && seconds_of(body, "expirationSeconds").is_err());
        assert_eq!(text_of(body, "nothing").unwrap(), None);
        assert_eq!(seconds_of(body, "absent").unwrap(), None);
    }
}
