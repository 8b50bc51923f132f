//! `amrita watch`: the changes of documents, as they happen.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Response};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::arguments::{Cluster, WatchOptions};
use crate::outcome::{Outcome, Trouble, refusal, unreachable};
use crate::screen;
use crate::verbs::{aim, client_of};

/// How long one question waits, in seconds; then the next one is asked.
const WAIT_SECONDS: u64 = 20;

/// The changes after a token are not kept any more.
const GONE: u16 = 410;

/// For how long the nodes may be away before the watch is given up. With its token it can be taken
/// up again.
const AWAY_MAX: Duration = Duration::from_mins(1);

pub(crate) async fn run(cluster: &Cluster, options: &WatchOptions) -> Outcome {
    let (client, path) = aim(cluster, options.path.as_deref().unwrap_or("/core/changes"))?;
    let client = client.reach_within(AWAY_MAX).patience(AWAY_MAX);
    let question = question(&path, options);
    let mut token = options.after.clone();
    let mut left = options.count;
    if token.is_none() {
        token = Some(next(&client, &question, None, cluster.json, &mut left).await?);
        if !cluster.json {
            screen::aside(&format!("watching {path}; Ctrl-C ends it"));
        }
    }
    while left != Some(0) {
        let told = next(&client, &question, token.as_deref(), cluster.json, &mut left).await;
        match told {
            Ok(next) => token = Some(next),
            Err(trouble) => {
                let token = token.unwrap_or_default();
                let why = format!("{}\n  -> to go on from here: --after {token}", trouble.why);
                return Err(Trouble { why, ..trouble });
            }
        }
    }
    Ok(())
}

/// Asks for the next changes, shows them, and gives the token that they end with.
async fn next(
    client: &Client,
    question: &str,
    after: Option<&str>,
    as_json: bool,
    left: &mut Option<usize>,
) -> Result<String, Trouble> {
    let after = after.map(|token| format!("&after={token}")).unwrap_or_default();
    let question = format!("{question}{after}");
    let mut answer = client.get(&question).await.map_err(|error| unreachable(&error))?;
    if answer.status == GONE {
        answer = ask_the_others(client, &question).await?.unwrap_or(answer);
    }
    if !answer.is_success() {
        return Err(refusal(&answer));
    }
    let told = told(&answer.body);
    let (changes, token) = told.ok_or("the node's answer is not one of changes")?;
    for change in changes {
        if *left == Some(0) {
            break;
        }
        let line = if as_json { change.get().to_owned() } else { shown(change.get()) };
        *left = if screen::is_said(&line) { left.map(|left| left - 1) } else { Some(0) };
    }
    Ok(token)
}

/// A node that has started since does not know what was before; another one may know it still.
async fn ask_the_others(client: &Client, question: &str) -> Result<Option<Response>, Trouble> {
    for address in client.addresses() {
        let one = client_of(&[address.to_string()])?.reach_within(Duration::ZERO);
        if let Ok(answer) = one.get(question).await
            && answer.is_success()
        {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// The changes, as the node wrote them: no digit of a number is lost.
fn told(body: &[u8]) -> Option<(Vec<&RawValue>, String)> {
    let fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(body).ok()?;
    let changes = serde_json::from_str(fields.get("changes")?.get()).ok()?;
    let token = serde_json::from_str(fields.get("token")?.get()).ok()?;
    Some((changes, token))
}

fn question(path: &str, options: &WatchOptions) -> String {
    let mut question = path.to_owned();
    let mut add = |name: &str, value: &str| {
        question.push(if question.contains('?') { '&' } else { '?' });
        question.push_str(&format!("{name}={}", encoded(value)));
    };
    if !path.trim_end_matches('/').ends_with("/core/changes") {
        add("watch", "true");
    }
    add("wait", &WAIT_SECONDS.to_string());
    if let Some(filter) = &options.filter {
        add("$filter", filter);
    }
    if let Some(prefix) = &options.prefix {
        add("prefix", prefix);
    }
    if options.before {
        add("before", "true");
    }
    question
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// One line: what was done to which document, and what it is like now.
fn shown(change: &str) -> String {
    let change: Value = serde_json::from_str(change).unwrap_or_default();
    let text = |name: &str| change[name].as_str().unwrap_or_default();
    let gone = if change["isMatch"] == true { "" } else { "  (no longer there)" };
    let mut line = format!("{:<6} {} v{}{gone}", text("action"), text("link"), change["version"]);
    if let Some(fields) = change["document"].as_object() {
        let own = fields.iter().filter(|(name, _)| !name.starts_with("document"));
        let own: serde_json::Map<_, _> =
            own.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !own.is_empty() {
            line.push_str(&format!("  {}", Value::Object(own)));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_all_that_was_asked() {
        let options = WatchOptions {
            path: None,
            filter: Some("counter gt 5".into()),
            prefix: None,
            before: true,
            after: None,
            count: None,
        };
        assert_eq!(
            question("/core/examples", &options),
            "/core/examples?watch=true&wait=20&$filter=counter%20gt%205&before=true"
        );
        let all = WatchOptions { prefix: Some("/core/e".into()), filter: None, ..options };
        assert_eq!(
            question("/core/changes", &all),
            "/core/changes?wait=20&prefix=/core/e&before=true"
        );
    }

    #[test]
    fn a_change_is_one_line() {
        let change = serde_json::json!({"link": "/core/examples/a", "version": 3,
            "action": "PATCH", "isMatch": true,
            "document": {"name": "x", "documentVersion": 3}});
        assert_eq!(shown(&change.to_string()), "PATCH  /core/examples/a v3  {\"name\":\"x\"}");
    }
}
