//! `amrita immortal`: instances of immortals, as people register, see and change them.

mod ask;
mod change;
mod connection;
mod debug;
mod options;
mod record;
mod show;
mod words;

use std::time::Duration;

use sdk::{Client, Response};
use serde_json::Value;

use crate::Outcome;
use crate::admin::address_of;
use crate::arguments::Cluster;
use crate::outcome::{Trouble, refusal, unreachable};

pub(crate) use options::ImmortalCommand;
pub(crate) use words::translated;

/// The factory of instances.
pub(crate) const LINK: &str = "/core/immortals";

/// How long an owner may take to say how its instance is; then what another node knows is shown.
const OWNER_WITHIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(cluster: &Cluster, command: ImmortalCommand) -> Outcome {
    use ImmortalCommand as Word;
    match command {
        Word::Register(options) => change::register(cluster, &options).await,
        Word::AddReplica(options) => change::add_replica(cluster, &options).await,
        Word::RemoveReplica(options) => change::remove_replica(cluster, &options).await,
        Word::Set(options) => change::set(cluster, &options).await,
        Word::Deregister(options) => change::deregister(cluster, &options).await,
        Word::List => show::list(cluster).await,
        Word::Show(named) => show::show(cluster, &named.name().map_err(Trouble::usage)?).await,
        Word::Checkpoint(named) => {
            ask::checkpoint(cluster, &named.name().map_err(Trouble::usage)?).await
        }
        Word::Move(options) => ask::move_to(cluster, &options).await,
        Word::Skip(options) => ask::skip(cluster, &options).await,
        Word::Release(named) => ask::release(cluster, &named.name().map_err(Trouble::usage)?).await,
        Word::Record(options) => record::record(cluster, &options).await,
        Word::Debug(options) => debug::debug(cluster, &options).await,
        Word::Send(options) => ask::send(cluster, &options).await,
    }
}

fn link(name: &str) -> String {
    format!("{LINK}/{name}")
}

/// The answer and the instance in it, or why there is none.
async fn instance(client: &Client, name: &str) -> Result<(Response, Value), Trouble> {
    let answer = client.get(&link(name)).await.map_err(|error| unreachable(&error))?;
    if !answer.is_success() {
        return Err(refusal(&answer));
    }
    let state = answer.to_json();
    Ok((answer, state))
}

/// The instance as its owner sees it, which is nearest to the truth; else as anybody does.
async fn instance_at_owner(client: &Client, name: &str) -> Result<(Response, Value), Trouble> {
    let (answer, state) = instance(client, name).await?;
    let Some(owner) = state["owner"].as_str() else { return Ok((answer, state)) };
    let Ok(address) = address_of(client, owner).await else { return Ok((answer, state)) };
    let Ok(owner) = Client::new(&[address]) else { return Ok((answer, state)) };
    let seen = instance(&owner.patience(OWNER_WITHIN), name).await;
    Ok(seen.unwrap_or((answer, state)))
}

fn replicas(state: &Value) -> impl Iterator<Item = &Value> {
    state["replicas"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
