//! `amrita immortal owners`: whose an instance is.

use client::{Client, Response};
use serde_json::{Value, json};

use super::options::OwnersOptions;
use crate::arguments::Cluster;
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::client;

const OWNERS: &str = "/core/authz/instance-owners";
const USERS: &str = "/core/authz/users";

pub(super) async fn owners(cluster: &Cluster, options: &OwnersOptions) -> Outcome {
    let name = options.named.name().map_err(Trouble::usage)?;
    let client = client(cluster)?;
    let link = format!("{OWNERS}/{name}");
    let is_known = client.get(&link).await.map_err(|error| unreachable(&error))?.status == 200;
    if !options.set.is_empty() {
        let answer = change(&client, &link, is_known, &options.set).await?;
        // Who has given it away sees it no more.
        let sentence = format!("Instance '{name}' belongs to {} now.", options.set.join(", "));
        return screen::done(&answer, cluster.json, &sentence);
    }
    if !is_known {
        if cluster.json {
            screen::say(r#"{"userLinks":[]}"#);
            return Ok(());
        }
        screen::say(&format!("Instance '{name}' belongs to nobody: what roles allow counts."));
        return Ok(());
    }
    let answer = client.get(&link).await.map_err(|error| unreachable(&error))?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    let body = answer.to_json();
    let users = body["userLinks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let users: Vec<&str> = users.map(|user| user.rsplit('/').next().unwrap_or(user)).collect();
    screen::say(&format!("Instance '{name}' belongs to {}.", users.join(", ")));
    Ok(())
}

async fn change(
    client: &Client,
    link: &str,
    is_known: bool,
    users: &[String],
) -> Result<Response, Trouble> {
    let users: Vec<String> = users.iter().map(|user| format!("{USERS}/{user}")).collect();
    let body = json!({ "documentSelfLink": link, "userLinks": users });
    let answer = match is_known {
        true => client.put(link, &body).await,
        // One that was registered before anybody had to log in.
        false => client.post(OWNERS, &body).await,
    };
    answer.map_err(|error| unreachable(&error))
}
