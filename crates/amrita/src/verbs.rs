//! `amrita get`, `post`, `put`, `patch` and `delete`: one request each.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use client::{Client, Method, Request, Response};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::access::session;
use crate::arguments::{Cluster, Difference, Revert, Target, Write};
use crate::outcome::Outcome;
use crate::outcome::{Trouble, unreachable};
use crate::screen;

/// How long to look for a node that answers.
const REACH_MAX: Duration = Duration::from_millis(200);

pub(crate) async fn get(cluster: &Cluster, target: &Target) -> Outcome {
    let (client, path) = aim(cluster, &target.path)?;
    let path = match &target.as_of {
        Some(time) => with_parameter(&path, "asOf", time),
        None => path,
    };
    let answer = client.get(&path).await.map_err(|error| unreachable(&error))?;
    screen::show(&answer, cluster.json)
}

/// `amrita diff`: a line for each field that differs.
pub(crate) async fn diff(cluster: &Cluster, asked: &Difference) -> Outcome {
    let (client, path) = aim(cluster, &asked.path)?;
    let to = asked.to.map_or(String::new(), |to| format!(",{to}"));
    let path = with_parameter(&path, "diff", &format!("{}{to}", asked.from));
    let answer = client.get(&path).await.map_err(|error| unreachable(&error))?;
    let found: Option<Differences<'_>> = serde_json::from_slice(&answer.body).ok();
    match found.filter(|_| answer.is_success() && !cluster.json) {
        Some(found) => screen::say(&found.to_string()),
        None => return screen::show(&answer, cluster.json),
    }
    Ok(())
}

/// Values as they came: a number that is read and written again may be another one.
#[derive(Deserialize)]
struct Differences<'a> {
    #[serde(borrow)]
    changes: Vec<ChangedField<'a>>,
}

#[derive(Deserialize)]
struct ChangedField<'a> {
    path: String,
    #[serde(borrow)]
    from: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
}

impl fmt::Display for Differences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("Nothing differs.");
        }
        let shown = |value: Option<&RawValue>| value.map_or("", RawValue::get).to_owned();
        let rows: Vec<Vec<String>> = self
            .changes
            .iter()
            .map(|change| vec![change.path.clone(), shown(change.from), shown(change.to)])
            .collect();
        f.write_str(&screen::table(&["field", "from", "to"], &rows))
    }
}

/// `amrita revert`.
pub(crate) async fn revert(cluster: &Cluster, asked: &Revert) -> Outcome {
    let (client, path) = aim(cluster, &asked.path)?;
    let path = with_parameter(&path, "revert", &asked.version.to_string());
    let if_match = asked.if_match.clone();
    let request = Request {
        conditions: client::Conditions { if_match, if_none_match: None, numbered: None },
        idempotency_key: asked.idempotency_key.clone(),
        ..client::request(Method::Put, &path)
    };
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    screen::show(&answer, cluster.json)
}

/// A path with one parameter more.
fn with_parameter(path: &str, name: &str, value: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    let coded = [('%', "%25"), ('+', "%2B"), ('&', "%26"), ('#', "%23"), (' ', "%20")];
    let value = coded.iter().fold(value.to_owned(), |text, (char, code)| text.replace(*char, code));
    format!("{path}{sign}{name}={value}")
}

pub(crate) async fn write(cluster: &Cluster, method: Method, write: &Write) -> Outcome {
    let (client, path) = aim(cluster, &write.path)?;
    let mut request = client::request(method, &path);
    match (&write.body, method) {
        (Some(body), _) => request.body = body_of(body)?.get().to_owned().into(),
        (None, Method::Delete) => {}
        (None, _) => {
            return Err(Trouble::usage(format!(
                "a body is needed: amrita {} {path} '{{\"name\":\"value\"}}'\n  -> or @FILE, or - \
                 to read it from standard input",
                method.name().to_lowercase()
            )));
        }
    }
    request = Request {
        conditions: client::Conditions {
            if_match: write.if_match.clone(),
            if_none_match: None,
            numbered: None,
        },
        idempotency_key: write.idempotency_key.clone(),
        ..request
    };
    if write.merge_patch {
        request.body_type = client::BodyType::MergePatch;
    }
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    screen::show(&answer, cluster.json)?;
    task_ended_well(&answer)
}

/// A direct task is answered when it has ended, with 200 whatever its end.
fn task_ended_well(answer: &Response) -> Outcome {
    let task = answer.to_json();
    let stage = task["taskInfo"]["stage"].as_str().unwrap_or_default();
    if task["taskInfo"]["isDirect"] != true || !["FAILED", "CANCELLED"].contains(&stage) {
        return Ok(());
    }
    let said = [&task["failureMessage"], &task["taskInfo"]["failure"]["message"]];
    let why = said.iter().find_map(|text| text.as_str()).unwrap_or("the task gives no reason");
    Err(format!("the task is {stage}: {why}").into())
}

/// The client and the path. A whole URI names the node itself; a path may lack its first slash.
pub(crate) fn aim(cluster: &Cluster, path: &str) -> Result<(Client, String), Trouble> {
    for scheme in ["http://", "https://"] {
        if let Some(rest) = path.strip_prefix(scheme) {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            if cluster.is_named {
                return Err(Trouble::usage(format!(
                    "{scheme}{authority} and --address both say whom to ask; leave one of them out"
                )));
            }
            return Ok((client_of(&[format!("{scheme}{authority}")])?, format!("/{path}")));
        }
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((client(cluster)?, path))
}

pub(crate) fn client(cluster: &Cluster) -> Result<Client, Trouble> {
    client_of(&session::chosen(&cluster.address))
}

pub(crate) fn client_of(addresses: &[String]) -> Result<Client, Trouble> {
    let client = session::client_of(addresses)?;
    // Someone sits there and waits; when no node is up, they want to know at once.
    Ok(client.reach_within(REACH_MAX))
}

/// The same, for what becomes a part of a body that is made here.
pub(crate) fn value_of(argument: &str) -> Result<Value, Trouble> {
    serde_json::from_str(body_of(argument)?.get())
        .map_err(|error| Trouble::usage(format!("it cannot be read: {error}")))
}

/// JSON text, `@FILE` or `-`, just as it stands there: a number that is read and written again may
/// be another one.
pub(crate) fn body_of(argument: &str) -> Result<Box<RawValue>, Trouble> {
    let (text, place) = if argument == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Trouble::usage(format!("standard input cannot be read: {error}")))?;
        (text, "what came from standard input")
    } else if let Some(file) = argument.strip_prefix('@') {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Trouble::usage(format!("the file {file} cannot be read: {error}")))?;
        (text, "what is in the file")
    } else {
        (argument.to_owned(), "the body")
    };
    serde_json::from_str(&text).map_err(|error| {
        Trouble::usage(format!(
            "{place} is not JSON: {error}\n  -> put it between single quotes, so that the shell \
             leaves its double quotes alone: '{{\"name\":\"value\"}}'"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let address = vec!["http://a:1".into(), "http://b:1".into()];
        Cluster { address, json: false, is_named: false }
    }

    #[test]
    fn a_path_goes_to_the_cluster_and_a_uri_to_its_node() {
        let (client, path) = aim(&cluster(), "core/examples?expand").unwrap();
        assert_eq!((client.addresses().count(), path.as_str()), (2, "/core/examples?expand"));
        let (client, path) = aim(&cluster(), "http://c:9/core/x").unwrap();
        assert_eq!(client.addresses().next().unwrap().to_string(), "http://c:9");
        assert_eq!(path, "/core/x");
        let named = Cluster { is_named: true, ..cluster() };
        let Err(trouble) = aim(&named, "http://c:9/core/x") else { panic!("it says it twice") };
        assert!(trouble.why.contains("--address"), "{}", trouble.why);
    }

    #[test]
    fn a_time_is_one_parameter_more() {
        let path = with_parameter("/core/x", "asOf", "2026-12-01T02:25:20+01:00");
        assert_eq!(path, "/core/x?asOf=2026-12-01T02:25:20%2B01:00");
        assert_eq!(with_parameter("/core/x?expand", "diff", "1,2"), "/core/x?expand&diff=1,2");
    }

    #[test]
    fn differences_are_shown_with_their_digits() {
        let text = r#"{"changes":[{"path":"/n","from":12345678901234567890123},
            {"path":"/a","from":"x","to":1.10}]}"#;
        let found: Differences<'_> = serde_json::from_str(text).unwrap();
        let shown = found.to_string();
        assert!(shown.starts_with("FIELD  FROM"), "{shown}");
        assert!(shown.contains("12345678901234567890123") && shown.contains("1.10"), "{shown}");
        let none: Differences<'_> = serde_json::from_str(r#"{"changes":[]}"#).unwrap();
        assert_eq!(none.to_string(), "Nothing differs.");
    }

    #[test]
    fn a_direct_task_that_failed_is_no_success() {
        let of = |stage: &str, direct: bool| {
            let info = serde_json::json!({"stage": stage, "isDirect": direct});
            let task = serde_json::json!({"taskInfo": info, "failureMessage": "no room"});
            task_ended_well(&Response::json(200, &task)).map_err(|trouble| trouble.why)
        };
        assert_eq!(of("FAILED", true).unwrap_err(), "the task is FAILED: no room");
        assert!(of("FINISHED", true).is_ok() && of("FAILED", false).is_ok());
    }

    #[test]
    fn a_body_that_is_not_json_is_refused_with_a_hint() {
        let message = body_of("{name:foo}").unwrap_err().why;
        assert!(message.contains("not JSON") && message.contains("single quotes"), "{message}");
        let digits = r#"{"a": 123456789012345678901234567890, "b": 1.10}"#;
        assert_eq!(body_of(digits).unwrap().get(), digits);
        assert!(body_of("@/no/such/file").unwrap_err().why.contains("cannot be read"));
    }
}
