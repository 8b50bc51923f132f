//! `amrita watch`: the changes of documents, as they happen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{ATTEMPT_MAX, Client, Response};
use protocol::links;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::arguments::{Cluster, WatchOptions};
use crate::outcome::{Outcome, Trouble, refusal, unreachable};
use crate::screen;
use crate::verbs::{aim, client_of};

/// How long one question waits, in seconds; then the next one is asked.
const WAIT_SECONDS: u64 = 8;

// Else the client would give up a node where nothing changes.
const _: () = assert!(WAIT_SECONDS < ATTEMPT_MAX.as_secs());

/// The changes after a token are not kept any more.
const GONE: u16 = 410;

/// The node is stopping, or busy.
const UNAVAILABLE: u16 = 503;

/// The pause when no node answers.
const PAUSE: Duration = Duration::from_secs(1);

/// For how long the nodes may be away before the watch is given up. With its token it can be taken
/// up again.
const AWAY_MAX: Duration = Duration::from_mins(1);

pub(crate) async fn run(cluster: &Cluster, options: &WatchOptions) -> Outcome {
    let (client, path) = aim(cluster, options.path.as_deref().unwrap_or("/core/changes"))?;
    let mut watch = Watch {
        client,
        question: question(&path, options),
        token: options.after.clone(),
        as_json: cluster.json,
        left: options.count,
    };
    if watch.token.is_none() {
        watch.next().await.map_err(Lost::into_trouble)?;
    }
    if watch.left != Some(0) {
        screen::aside(&format!("watching {path}; Ctrl-C ends it"));
    }
    let mut away_since = None;
    while watch.left != Some(0) {
        match watch.next().await {
            Ok(()) => away_since = None,
            Err(Lost::Refused(trouble)) => return Err(trouble),
            Err(Lost::Away(trouble)) => {
                if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_MAX {
                    let token = watch.token.unwrap_or_default();
                    let why = format!("{}\n  -> to go on from here: --after {token}", trouble.why);
                    return Err(Trouble { why, ..trouble });
                }
                screen::aside("no node answers; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

/// Why there is no answer with changes.
enum Lost {
    /// Nobody answers.
    Away(Trouble),
    Refused(Trouble),
}

impl Lost {
    fn into_trouble(self) -> Trouble {
        match self {
            Self::Away(trouble) | Self::Refused(trouble) => trouble,
        }
    }
}

struct Watch {
    client: Client,
    question: String,
    token: Option<String>,
    as_json: bool,
    /// How many changes are still to be shown; `None`: all.
    left: Option<usize>,
}

impl Watch {
    /// Asks for the next changes, shows them, and takes the token that they end with.
    async fn next(&mut self) -> Result<(), Lost> {
        let after = self.token.as_ref().map(|token| format!("&after={token}"));
        let question = format!("{}{}", self.question, after.unwrap_or_default());
        let answer = self.client.get(&question).await;
        let mut answer = answer.map_err(|error| Lost::Away(unreachable(&error)))?;
        if answer.status == GONE {
            let other = ask_the_others(&self.client, &question).await;
            answer = other.map_err(Lost::Refused)?.unwrap_or(answer);
        }
        if answer.status == UNAVAILABLE {
            return Err(Lost::Away(refusal(&answer)));
        }
        if !answer.is_success() {
            return Err(Lost::Refused(refusal(&answer)));
        }
        let told = told(&answer.body).ok_or("the node's answer is not one of changes");
        let (changes, token) = told.map_err(|why| Lost::Refused(why.into()))?;
        for change in changes {
            if self.left == Some(0) {
                break;
            }
            let line = if self.as_json { change.get().to_owned() } else { shown(change.get()) };
            self.left =
                if screen::is_said(&line) { self.left.map(|left| left - 1) } else { Some(0) };
        }
        self.token = Some(token);
        Ok(())
    }
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
        question.push_str(&format!("{name}={}", links::percent_encode(value, b"-._~/")));
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

/// One line: what was done to which document, and what it is like now.
fn shown(json: &str) -> String {
    let change: Value = serde_json::from_str(json).unwrap_or_default();
    let text = |name: &str| change[name].as_str().unwrap_or_default();
    let gone = match (change["isMatch"] == true, text("action")) {
        (true, _) => "",
        (false, "DELETE" | "EXPIRE") => "  (gone)",
        (false, _) => "  (no longer meets the filter)",
    };
    let mut line = format!("{:<6} {} v{}{gone}", text("action"), text("link"), change["version"]);
    let own = own_fields(json).unwrap_or_default();
    if !own.is_empty() {
        line.push_str("  ");
        line.push_str(&serde_json::to_string(&own).expect("what was JSON is JSON"));
    }
    line
}

/// The fields of the document in a change that are not the cluster's, each as the text that came.
fn own_fields(change: &str) -> Option<BTreeMap<String, &RawValue>> {
    let change: BTreeMap<String, &RawValue> = serde_json::from_str(change).ok()?;
    let document: BTreeMap<String, &RawValue> =
        serde_json::from_str(change.get("document")?.get()).ok()?;
    Some(document.into_iter().filter(|(name, _)| !name.starts_with("document")).collect())
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
            "/core/examples?watch=true&wait=8&$filter=counter%20gt%205&before=true"
        );
        let all = WatchOptions { prefix: Some("/core/e".into()), filter: None, ..options };
        assert_eq!(
            question("/core/changes", &all),
            "/core/changes?wait=8&prefix=/core/e&before=true"
        );
    }

    #[test]
    fn a_change_is_one_line() {
        let change = serde_json::json!({"link": "/core/examples/a", "version": 3,
            "action": "PATCH", "isMatch": true,
            "document": {"name": "x", "documentVersion": 3}});
        assert_eq!(shown(&change.to_string()), "PATCH  /core/examples/a v3  {\"name\":\"x\"}");
        let long = r#"{"action":"PUT","link":"/a","version":0,"isMatch":true,"document":
            {"n":123456789012345678901234567890,"documentVersion":0}}"#;
        assert!(shown(long).ends_with(r#"v0  {"n":123456789012345678901234567890}"#));
    }
}
