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

mod aggregate;
mod candidate;
mod compiled;
mod constraint;
mod decimal;
mod evaluate;
mod filter;
mod filter_of_hits;
mod grouped;
mod groups;
mod leaves;
mod links;
mod listing;
mod ordered;
mod page;
mod partial;
mod paths;
mod pattern;
mod places;
mod predicate;
mod range;
mod scalar;
mod selection;
mod shape;
mod specification;
mod term;

pub use aggregate::{AggregateValue, Aggregation, GroupRow};
pub use candidate::Candidate;
pub use compiled::{CompiledQuery, Scope, Sort, SortField};
pub use constraint::{Atom, Constraint, KIND_FIELD, UPDATED_FIELD};
pub use decimal::{Decimal, Sum, exact_number, exact_value, has_long_number};
pub use evaluate::is_missing;
pub use filter_of_hits::HitFilter;
pub use grouped::{NamedGroup, groups_of, groups_shown, of_group};
pub use groups::{GROUPS_BYTES_MAX, Groups};
pub use leaves::{Leaves, walk};
pub use links::LINKS_OF_ONE_MAX;
pub use listing::{
    FactoryListing, LIST_PARAMETERS, PAGE_PARAMETERS, PageWish, add_filter, all_specification,
    as_of, document_query, factory_query, factory_specification, is_set, prefix_query,
};
pub use ordered::{Leaf, Numeral, after_all_with, encoded_bytes, is_shared};
pub use page::{Cursor, Explained, Forgotten, Hit, Page, merge};
pub use paths::{PATH_BYTES_MAX, is_built_in};
pub use places::{check_places, check_tenant_links};
pub use predicate::MATCH_VALUES_MAX;
pub use range::LinkRange;
pub use scalar::Scalar;
pub use selection::pick;
pub use shape::shape_of;
pub use specification::parse_specification;
pub use term::{ALL_FIELDS, names_within};
