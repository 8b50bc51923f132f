//! GET on a factory as a query, with OData's `$filter`, `$orderby`, `$top`, `$skip`, `$limit` and
//! `$count`.

use protocol::query::QuerySpecification;
use protocol::{Problem, Request};

/// What GET on a factory asks.
#[derive(Clone, Debug, PartialEq)]
pub struct FactoryListing {
    /// `EXPAND_CONTENT`, `COUNT`, `SORT`, `TOP_RESULTS` and `result_limit` are set as asked.
    pub specification: QuerySpecification,
    /// `$limit`: the answer comes in pages of this many (`nextPageLink`).
    pub page: Option<usize>,
    /// `$top`: this many at most, with no next page.
    pub top: Option<usize>,
    /// `$skip`: leave out this many of the first (ask for `skip` more and drop them).
    pub skip: usize,
}

/// All latest, undeleted documents of a factory, in order of their links.
pub fn factory_query(_factory: &str, _kind: Option<&str>) -> QuerySpecification {
    unimplemented!("to come")
}

/// The query that a GET on a factory stands for. `kind` narrows it to documents of that kind.
///
/// # Errors
/// `BAD_REQUEST` that says which parameter is wrong, where, and how to write it.
pub fn factory_specification(
    _request: &Request,
    _factory: &str,
    _kind: Option<&str>,
) -> Result<FactoryListing, Problem> {
    unimplemented!("to come")
}
