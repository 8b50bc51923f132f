//! Queries: their language, what they mean for one document, and how pages become one.
//!
//! A query comes as a `querySpec` ([`parse_specification`]) or as the parameters of a GET on a
//! factory ([`factory_specification`]). It is checked and compiled once ([`CompiledQuery`]). Every
//! partition then looks at versions of documents ([`Candidate`]) and asks whether they meet it
//! ([`CompiledQuery::evaluate`]), and the pages of all partitions are merged ([`merge`]).
//!
//! For the one who stores documents the query also says where its hits can lie: its
//! [`Constraint`]s are sets of documents that an index can list, in the encoding of values that
//! [`Leaf::encode`] gives, and its [`LinkRange`] is a range of links. Nothing here touches a
//! store: how the sets are listed, and which one is worth listing, is the matter of `documents`.

mod candidate;
mod compiled;
mod constraint;
mod evaluate;
mod filter;
mod filter_of_hits;
mod leaves;
mod listing;
mod ordered;
mod page;
mod predicate;
mod range;
mod specification;

pub use candidate::Candidate;
pub use compiled::{CompiledQuery, PATH_BYTES_MAX, Scope, Sort};
pub use constraint::{Atom, Constraint, KIND_FIELD, UPDATED_FIELD, is_built_in};
pub use evaluate::is_missing;
pub use filter_of_hits::HitFilter;
pub use leaves::{Leaves, walk};
pub use listing::{
    FactoryListing, LIST_PARAMETERS, add_filter, document_query, factory_query,
    factory_specification, is_set, prefix_query,
};
pub use ordered::{Leaf, NumberKey, after_all_with, encoded_bytes};
pub use page::{Cursor, Hit, Page, merge};
pub use range::LinkRange;
pub use specification::parse_specification;
