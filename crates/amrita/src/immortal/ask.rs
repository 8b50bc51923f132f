//! What is asked of an instance's owner: `checkpoint`, `move`, `skip`, `release` and `send`.

use std::time::{Duration, Instant};

use client::{Client, Method, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::options::{MoveOptions, SendOptions, SkipOptions};
use super::{instance, link, replicas, text};
use crate::arguments::Cluster;
use crate::outcome::Outcome;
use crate::outcome::{Trouble, unreachable};
use crate::screen::{self, say, size};
use crate::verbs::{body_of, client};

/// How long a checkpoint or a move may take until this command gives up waiting.
const DONE_MAX: Duration = Duration::from_secs(15);

/// Between two looks at whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The body of an impulse; its payload goes as the text that was given.
#[derive(Serialize)]
struct Impulse<'a> {
    method: i64,
    payload: &'a RawValue,
    from: &'a str,
}

async fn ask(
    client: &Client,
    name: &str,
    verb: &str,
    body: &impl Serialize,
) -> Result<Response, Trouble> {
    let path = format!("{}/{verb}", link(name));
    client.post(&path, body).await.map_err(|error| unreachable(&error))
}

pub(super) async fn checkpoint(cluster: &Cluster, name: &str) -> Outcome {
    let client = client(cluster)?;
    let began = Instant::now();
    let answer = ask(&client, name, "checkpoint", &json!({})).await?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    let wanted = answer.to_json()["input"].as_u64().unwrap_or(0);
    loop {
        let (_, state) = instance(&client, name).await?;
        let taken = replicas(&state).find_map(|replica| {
            let at = replica["checkpoint"]["input"].as_u64()?;
            (at >= wanted).then(|| (text(&replica["node"]).to_owned(), at, replica.clone()))
        });
        if let Some((node, at, replica)) = taken {
            let bytes = replica["checkpoint"]["bytes"].as_u64().unwrap_or(0);
            if cluster.json {
                let millis = millis_since(began);
                let taken = json!({ "instance": name, "node": node, "input": at, "bytes": bytes,
                    "tookMillis": millis });
                say(&taken.to_string());
                return Ok(());
            }
            say(&format!(
                "The replica on {node} has a checkpoint of {} at input {at}, after {} ms.",
                size(bytes),
                began.elapsed().as_millis()
            ));
            return Ok(());
        }
        if began.elapsed() > DONE_MAX {
            return Err(Trouble::unknown(format!(
                "a checkpoint at input {wanted} was asked for and is not there after {} s; `amrita \
                 immortal show {name}` shows the replicas",
                DONE_MAX.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_AGAIN * 5).await;
    }
}

pub(super) async fn move_to(cluster: &Cluster, options: &MoveOptions) -> Outcome {
    let (name, node) = options.parts().map_err(Trouble::usage)?;
    let client = client(cluster)?;
    let (_, state) = instance(&client, &name).await?;
    let before = text(&state["owner"]).to_owned();
    let node = match node {
        Some(node) => node,
        None => a_standby(&name, &state)?,
    };
    let began = Instant::now();
    let answer = ask(&client, &name, "move", &json!({ "node": node })).await?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    if node != before {
        wait_until_primary(&client, &name, &node, began).await?;
    }
    let took = millis_since(began);
    say(&match (cluster.json, node == before) {
        (true, _) => {
            json!({ "instance": name, "from": before, "to": node, "tookMillis": took }).to_string()
        }
        (false, true) => format!("The primary of '{name}' is on {node} already."),
        (false, false) => {
            format!("The primary of '{name}' was on {before}, and is on {node} after {took} ms.")
        }
    });
    Ok(())
}

fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn wait_until_primary(client: &Client, name: &str, node: &str, began: Instant) -> Outcome {
    loop {
        // Whoever is asked may be between two owners.
        let state = instance(client, name).await;
        if let Ok((_, state)) = &state
            && replicas(state).any(|r| text(&r["node"]) == node && r["role"] == "PRIMARY")
        {
            return Ok(());
        }
        if began.elapsed() > DONE_MAX {
            return Err(match state {
                Ok((_, state)) => Trouble::unknown(format!(
                    "the owner of '{name}' is {} after {} s, and not {node}; `amrita immortal show \
                     {name}` may tell why",
                    screen::cell(&state["owner"]),
                    DONE_MAX.as_secs()
                )),
                Err(why) => why,
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn a_standby(name: &str, state: &Value) -> Result<String, String> {
    let ready = replicas(state).find(|replica| replica["role"] == "STANDBY");
    let ready = ready.map(|replica| text(&replica["node"]).to_owned());
    ready.ok_or_else(|| {
        format!(
            "no other replica of '{name}' has a program that has caught up: start one; `amrita \
             immortal show {name}` shows them"
        )
    })
}

pub(super) async fn skip(cluster: &Cluster, options: &SkipOptions) -> Outcome {
    let (name, input) = options.parts().map_err(Trouble::usage)?;
    let answer = ask(&client(cluster)?, &name, "skip", &json!({ "input": input })).await?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    say(&format!(
        "Input {input} of '{name}' is taken out: programs get a placeholder in its stead."
    ));
    Ok(())
}

pub(super) async fn release(cluster: &Cluster, name: &str) -> Outcome {
    let answer = ask(&client(cluster)?, name, "release", &json!({})).await?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    say(&format!("Programs of '{name}' that were held or had diverged may attach again."));
    Ok(())
}

pub(super) async fn send(cluster: &Cluster, options: &SendOptions) -> Outcome {
    let (name, method, arguments) = options.parts().map_err(Trouble::usage)?;
    let payload = match &arguments {
        Some(arguments) => body_of(arguments)?,
        None => RawValue::from_string("[]".into()).expect("this is JSON"),
    };
    let body = Impulse { method, payload: &payload, from: &options.from };
    let client = client(cluster)?;
    // By the key the instance knows a repetition, of this command or of the whole command.
    let key = options.idempotency_key.clone().or_else(|| client.next_key()).unwrap_or_default();
    let mut request = client::request(Method::Post, &format!("{}/impulses", link(&name)));
    request.body = serde_json::to_vec(&body).expect("this is JSON").into();
    request.idempotency_key = Some(key.clone());
    let told = |trouble: Trouble| trouble.with_key(&key);
    let answer = client.send(request).await.map_err(|error| told(unreachable(&error)))?;
    if cluster.json || !answer.is_success() {
        screen::show(&answer, cluster.json).map_err(told)?;
        return logged_as(&name, &answer).map(drop).map_err(told);
    }
    let input = logged_as(&name, &answer).map_err(told)?;
    say(&format!("Logged as input {input} of '{name}'."));
    Ok(())
}

/// The input that an impulse has become. Only one that has a number is logged.
fn logged_as(name: &str, answer: &Response) -> Result<u64, Trouble> {
    let body = answer.to_json();
    body["input"].as_u64().filter(|input| *input > 0).ok_or_else(|| {
        Trouble::unknown(format!(
            "the node does not say as which input of '{name}' it was logged, but: {body}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impulse_without_a_number_is_not_said_to_be_logged() {
        let of = |body| logged_as("server", &Response::json(200, &body));
        assert_eq!(of(json!({"input": 7})), Ok(7));
        for other in [json!({}), json!({"input": 0}), json!({"code": "REFUSED"})] {
            assert_eq!(of(other).unwrap_err().ending, crate::outcome::Ending::Unknown);
        }
    }
}
