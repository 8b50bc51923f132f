//! Documents: the state machine of one partition.
//!
//! A [`Partition`] applies the commands of its log to a storage space: versions of documents,
//! request records, fences, tasks in progress and expirations. The same commands give the same
//! bytes on every replica. Beside these it keeps a derived index of the latest versions, which
//! follows in steps, is part of no snapshot, and may be thrown away and made again at any time.
//!
//! Queries are compiled once ([`CompiledQuery`]), run in every partition, and merged ([`merge`]).

mod answers;
mod apply;
mod cache;
mod command;
mod compiled;
mod constraint;
mod evaluate;
mod family;
mod fields;
mod filter;
mod index;
mod leaves;
mod listing;
mod names;
mod ordered;
mod page;
mod partition;
mod plan;
mod predicate;
mod record;
mod search;
mod specification;
#[cfg(test)]
mod tests;

pub use command::{
    AUTO_KEY_MINUTES, AppliedCommand, Command, Recorded, RequestKey, Retention, USER_KEY_HOURS,
    Write,
};
pub use compiled::CompiledQuery;
pub use listing::{FactoryListing, factory_query, factory_specification};
pub use page::{Cursor, Hit, Page, merge};
pub use partition::Partition;
pub use search::Search;
pub use specification::parse_specification;
