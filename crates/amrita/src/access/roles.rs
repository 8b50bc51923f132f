//! `amrita role`: who belongs to which group, and what a group may do.

use client::{Client, Response};
use serde_json::{Value, json};

use super::commands::{USER_GROUPS, USERS, delete_both, documents, group_of, name_of, told};
use super::options::RoleCommand;
use crate::arguments::Cluster;
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::client;

const ROLES: &str = "/core/authz/roles";
const RESOURCE_GROUPS: &str = "/core/authz/resource-groups";

pub(crate) async fn run_role(cluster: &Cluster, command: &RoleCommand) -> Outcome {
    let client = client(cluster)?;
    match command {
        RoleCommand::List => list(cluster, &client).await,
        RoleCommand::Grant { role, user } => change(cluster, &client, (role, user), true).await,
        RoleCommand::Revoke { role, user } => change(cluster, &client, (role, user), false).await,
        RoleCommand::Create { name, group, verbs, link, query, deny } => {
            let query = match (query, link) {
                (Some(text), _) => crate::verbs::value_of(text)?,
                (None, link) => json!({"term": {"propertyName": "documentSelfLink",
                    "matchType": "PREFIX", "matchValue": link}}),
            };
            let resources = json!({"documentSelfLink": name, "query": query});
            told(&post(&client, RESOURCE_GROUPS, &resources).await?)?;
            let role = json!({"documentSelfLink": name, "verbs": verbs,
                "userGroupLink": format!("{USER_GROUPS}/{group}"),
                "resourceGroupLink": format!("{RESOURCE_GROUPS}/{name}"),
                "policy": if *deny { "DENY" } else { "ALLOW" }});
            let made = post(&client, ROLES, &role).await?;
            let sentence = format!("There is a role {name} for the group {group} now.");
            screen::done(&made, cluster.json, &sentence)
        }
        RoleCommand::Delete { name } => {
            let role = delete_both(&client, "role", (ROLES, RESOURCE_GROUPS), name).await?;
            screen::done(&role, cluster.json, &format!("There is no role {name} any more."))
        }
    }
}

async fn post(client: &Client, factory: &str, body: &Value) -> Result<Response, Trouble> {
    client.post(factory, body).await.map_err(|error| unreachable(&error))
}

async fn list(cluster: &Cluster, client: &Client) -> Outcome {
    let answer = client.get(&format!("{ROLES}?expand")).await;
    let answer = answer.map_err(|error| unreachable(&error))?;
    if cluster.json {
        return screen::show(&answer, true);
    }
    let rows = documents(&told(&answer)?).into_iter().map(|(link, role)| {
        let verbs = role["verbs"].as_array().into_iter().flatten();
        let verbs: Vec<&str> = verbs.filter_map(Value::as_str).collect();
        let named = |field: &str| name_of(role[field].as_str().unwrap_or_default()).to_owned();
        let policy = role["policy"].as_str().unwrap_or("ALLOW").to_owned();
        let (users, resources) = (named("userGroupLink"), named("resourceGroupLink"));
        vec![name_of(&link).to_owned(), policy, users, verbs.join(","), resources]
    });
    let heading = ["role", "policy", "users", "verbs", "resources"];
    screen::say(&screen::table(&heading, &rows.collect::<Vec<_>>()));
    Ok(())
}

/// Adds a user to the group of a role, or takes it out.
async fn change(
    cluster: &Cluster,
    client: &Client,
    (role, user): (&str, &str),
    gives: bool,
) -> Outcome {
    let link = format!("{USERS}/{user}");
    let group = group_of(role);
    let answer = client.get(&link).await.map_err(|error| unreachable(&error))?;
    let found = told(&answer)?;
    let links = found["userGroupLinks"].as_array().into_iter().flatten();
    let mut links: Vec<Value> = links.filter(|known| **known != group).cloned().collect();
    if gives {
        links.push(group.into());
    }
    // Only on what was read: another change in between must not be lost.
    let body = json!({"userGroupLinks": links});
    let if_match = answer.etag.as_deref().and_then(|etag| etag.parse().ok());
    let conditions = client::Conditions { if_match, if_none_match: None, numbered: None };
    let request = client::request(client::Method::Patch, &link).with_json(&body);
    let request = client::Request { conditions, ..request };
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    let verb = if gives { "has" } else { "has no longer" };
    screen::done(&answer, cluster.json, &format!("{user} {verb} the role {role}."))
}
