//! `amrita immortal`: instances of immortals, as people register, see and change them.

mod ask;
mod change;
mod connection;
mod debug;
mod instance;
mod options;
mod owners;
mod record;
mod show;
mod words;

use crate::arguments::Cluster;
use crate::outcome::{Outcome, Trouble};

pub(crate) use instance::link;
use instance::{LINK, OWNER_WITHIN, instance, instance_at_owner, replicas, text};
pub(crate) use options::ImmortalCommand;
pub(crate) use words::translated;

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
        Word::Owners(options) => owners::owners(cluster, &options).await,
        Word::Record(options) => record::record(cluster, &options).await,
        Word::Debug(options) => debug::debug(cluster, &options).await,
        Word::Send(options) => ask::send(cluster, &options).await,
    }
}
