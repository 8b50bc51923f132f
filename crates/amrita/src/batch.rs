//! `amrita batch`: many writes of documents in one request.

use std::io::Read;

use client::{BatchAnswer, Method, Request, WriteOutcome};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::arguments::{BatchOptions, Cluster};
use crate::outcome::{Ending, Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::client;

/// How many requests that were not done are shown; of the others their number.
const SHOWN_MAX: usize = 20;

pub(crate) async fn run(cluster: &Cluster, options: &BatchOptions) -> Outcome {
    let body = body_of(&read(&options.file)?, options.atomic.as_deref())?;
    let client = client(cluster)?;
    let request = Request {
        body: body.into(),
        idempotency_key: options.idempotency_key.clone(),
        ..client::request(Method::Post, "/core/batch")
    };
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    let answer = BatchAnswer::of(answer);
    if answer.outcomes.is_empty() {
        return screen::show(&answer.response, cluster.json);
    }
    if cluster.json {
        screen::say(&String::from_utf8_lossy(&answer.response.body));
    }
    judged(&answer, cluster.json)
}

fn read(file: &str) -> Result<String, Trouble> {
    if file == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Trouble::usage(format!("standard input cannot be read: {error}")))?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
        .map_err(|error| Trouble::usage(format!("the file {file} cannot be read: {error}")))
}

/// The body of the request, of a batch as it is sent, of a list of requests, or of a request on
/// each line. Bodies are passed on as they stand there.
fn body_of(text: &str, atomic: Option<&str>) -> Result<String, Trouble> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole<'a> {
        #[serde(borrow)]
        requests: Vec<&'a RawValue>,
        atomic: Option<String>,
    }
    let text = text.trim();
    let (requests, said) = if let Ok(whole) = serde_json::from_str::<Whole<'_>>(text) {
        (whole.requests, whole.atomic)
    } else if text.starts_with('[') {
        let requests = serde_json::from_str(text).map_err(|error| {
            Trouble::usage(format!("the list of requests is not JSON: {error}"))
        })?;
        (requests, None)
    } else {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let requests = lines.map(|(line, number)| {
            serde_json::from_str(line).map_err(|error| {
                Trouble::usage(format!(
                    "line {number} is not JSON: {error}\n  -> a batch is {{\"requests\": [...]}}, a \
                     list of requests, or a request on each line"
                ))
            })
        });
        (requests.collect::<Result<Vec<&RawValue>, Trouble>>()?, None)
    };
    if let (Some(said), Some(atomic)) = (&said, atomic)
        && said != atomic
    {
        let text = format!("--atomic {atomic} and \"atomic\": \"{said}\" in the file differ");
        return Err(Trouble::usage(text));
    }
    let atomic = atomic.map(str::to_owned).or(said).unwrap_or_else(|| "partition".into());
    let requests: Vec<&str> = requests.into_iter().map(RawValue::get).collect();
    let atomic = serde_json::Value::from(atomic);
    Ok(format!("{{\"requests\":[{}],\"atomic\":{atomic}}}", requests.join(",")))
}

/// Says what became of it. The exit code is that of the worst.
fn judged(answer: &BatchAnswer, is_json: bool) -> Outcome {
    let count = |outcome: &str| answer.outcomes.iter().filter(|one| one.outcome == outcome).count();
    let (applied, unknown) = (count("applied"), count("unknown"));
    if applied == answer.outcomes.len() {
        if !is_json {
            screen::say(&format!("{applied} requests are done."));
        }
        return Ok(());
    }
    let not_done = |(_, one): &(usize, &WriteOutcome)| one.outcome != "applied";
    let all = || answer.outcomes.iter().enumerate().filter(not_done);
    // Those that are not done because of another one say nothing new.
    let own = |(_, one): &(usize, &WriteOutcome)| one.body["code"] != "BATCH_FAILED";
    let mut why = format!("{applied} of {} requests are done", answer.outcomes.len());
    for (place, one) in all().filter(own).take(SHOWN_MAX) {
        let (code, message) = (&one.body["code"], &one.body["message"]);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let outcome = &one.outcome;
        why.push_str(&format!(
            "\n  request {place}: {} ({} {}, {outcome})",
            text(message),
            one.status,
            text(code)
        ));
    }
    let more = all().filter(own).count().saturating_sub(SHOWN_MAX);
    if more > 0 {
        why.push_str(&format!("\n  and {more} more"));
    }
    let with_others = all().count() - all().filter(own).count();
    if with_others > 0 {
        why.push_str(&format!("\n  {with_others} were not done because of these"));
    }
    if unknown > 0 {
        why.push_str(
            "\n  -> whether some were done is not known: look, or repeat the whole with the same \
             --idempotency-key",
        );
    }
    let ending = if unknown > 0 { Ending::Unknown } else { Ending::Refused };
    Err(Trouble { ending, why })
}

#[cfg(test)]
mod tests {
    use client::Response;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_is_read_in_three_forms_with_all_digits() {
        let one = r#"{"method":"PATCH","path":"/a/b","body":{"n":1.10}}"#;
        let expected = format!(r#"{{"requests":[{one},{one}],"atomic":"partition"}}"#);
        for text in [
            format!(r#"{{"requests": [{one}, {one}]}}"#),
            format!("[{one},\n {one}]"),
            format!("{one}\n\n{one}\n"),
        ] {
            assert_eq!(body_of(&text, None).unwrap(), expected);
        }
        let whole = format!(r#"{{"requests":[{one}],"atomic":"all"}}"#);
        assert_eq!(body_of(&whole, None).unwrap(), whole);
        assert_eq!(body_of(one, Some("all")).unwrap(), whole);
        for (text, atomic, named) in [
            ("{\n{", None, "line 1"),
            ("[", None, "list"),
            (r#"{"requests":[],"atomic":"all"}"#, Some("partition"), "differ"),
        ] {
            let trouble = body_of(text, atomic).unwrap_err();
            assert!(trouble.why.contains(named), "{}", trouble.why);
        }
    }

    #[test]
    fn the_worst_outcome_is_that_of_the_command() {
        let of = |outcomes: &[&str]| {
            let error = json!({"code": "X", "message": "m"});
            let one = |it: &&str| json!({"status": 200, "outcome": it, "error": error});
            let requests: Vec<_> = outcomes.iter().map(one).collect();
            let body = json!({"outcome": "mixed", "requests": requests});
            judged(&BatchAnswer::of(Response::json(207, &body)), false)
        };
        assert!(of(&["applied", "applied"]).is_ok());
        let refused = of(&["applied", "notApplied"]).unwrap_err();
        assert_eq!(refused.ending, Ending::Refused);
        assert!(refused.why.starts_with("1 of 2 requests are done\n  request 1: m"), "{refused:?}");
        assert_eq!(of(&["notApplied", "unknown"]).unwrap_err().ending, Ending::Unknown);
    }
}
