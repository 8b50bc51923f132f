//! The query language of `/core/query-tasks` (Xenon's `QueryTask`), as JSON says it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub const LINK: &str = "/core/query-tasks";
/// Xenon's name for those that look at one node's documents. Here every node sees all of them.
pub const LOCAL_LINK: &str = "/core/local-query-tasks";
pub const KIND: &str = "com:vmware:xenon:services:common:QueryTask";

/// What to search and how to show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QuerySpecification {
    pub query: Query,
    pub options: Vec<QueryOption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_term: Option<QueryTerm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_order: Option<SortOrder>,
}

impl QuerySpecification {
    pub fn has(&self, option: QueryOption) -> bool {
        self.options.contains(&option)
    }
}

/// A clause: a term, or clauses in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Query {
    /// Spelled as Xenon spelled it.
    #[serde(alias = "occurrence")]
    pub occurance: Occurance,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<QueryTerm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boolean_clauses: Option<Vec<Self>>,
}

impl Query {
    /// The clause that this field has this value.
    pub fn equal(property_name: &str, value: impl Into<Value>) -> Self {
        let match_value = Some(value.into());
        let term =
            QueryTerm { property_name: property_name.into(), match_value, ..QueryTerm::default() };
        Self { term: Some(term), ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(clippy::enum_variant_names, reason = "Xenon's words on the wire")]
pub enum Occurance {
    #[default]
    MustOccur,
    MustNotOccur,
    ShouldOccur,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryTerm {
    /// A field, or a path into one: `name`, `keyValues.k`, `tags.item`, `taskInfo.stage`.
    pub property_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_type: Option<MatchType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<NumericRange>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MatchType {
    #[default]
    Term,
    Wildcard,
    Phrase,
    Prefix,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NumericRange {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub number_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<serde_json::Number>,
    pub is_min_inclusive: bool,
    pub is_max_inclusive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SortOrder {
    Asc,
    Desc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum QueryOption {
    ExpandContent,
    IncludeAllVersions,
    IncludeDeleted,
    Count,
    Sort,
    TopResults,
    /// Taken for the sake of old clients: every query sees all acknowledged writes anyway.
    ReadAfterWriteConsistency,
    /// The same: every query asks every partition.
    Broadcast,
    /// The same: a document has one owner, so nothing is found twice.
    OwnerSelection,
}

/// `results` of a query task, and the answer to GET on a factory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryResult {
    /// Self links in order; with all versions each is followed by `?documentVersion=N`.
    pub document_links: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<BTreeMap<String, Value>>,
    pub document_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_time_micros: Option<u64>,
    /// Fields that this version does not know, kept as they came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
