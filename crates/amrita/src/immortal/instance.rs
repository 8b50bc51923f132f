//! The document of an instance: where it is, and reading it.

use std::time::Duration;

use client::{Client, Response};
use serde_json::Value;

use crate::access::session;
use crate::admin::address_of;
use crate::outcome::{Trouble, refusal, unreachable};

/// The factory of instances.
pub(super) const LINK: &str = "/core/immortals";

/// How long an owner may take to say how its instance is; then what another node knows is shown.
pub(super) const OWNER_WITHIN: Duration = Duration::from_secs(1);

/// Where the instance of that name is.
pub(crate) fn link(name: &str) -> String {
    format!("{LINK}/{name}")
}

/// The answer and the instance in it, or why there is none.
pub(super) async fn instance(client: &Client, name: &str) -> Result<(Response, Value), Trouble> {
    let answer = client.get(&link(name)).await.map_err(|error| unreachable(&error))?;
    if !answer.is_success() {
        return Err(refusal(&answer));
    }
    let state = answer.to_json();
    Ok((answer, state))
}

/// The instance as its owner sees it, which is nearest to the truth; else as anybody does.
pub(super) async fn instance_at_owner(
    client: &Client,
    name: &str,
) -> Result<(Response, Value), Trouble> {
    let (answer, state) = instance(client, name).await?;
    let Some(owner) = state["owner"].as_str() else { return Ok((answer, state)) };
    let Ok(address) = address_of(client, owner).await else { return Ok((answer, state)) };
    let Ok(owner) = session::client_of(&[address]) else { return Ok((answer, state)) };
    let seen = instance(&owner.patience(OWNER_WITHIN), name).await;
    Ok(seen.unwrap_or((answer, state)))
}

pub(super) fn replicas(state: &Value) -> impl Iterator<Item = &Value> {
    state["replicas"].as_array().into_iter().flatten()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
