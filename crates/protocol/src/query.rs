//! The query language of `/core/query-tasks` (Xenon's `QueryTask`), as JSON says it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Moment;

pub const LINK: &str = "/core/query-tasks";
/// Xenon's name for those that look at one node's documents. Here every node sees all of them.
pub const LOCAL_LINK: &str = "/core/local-query-tasks";
/// A query by `$filter`, without a body.
pub const ODATA_LINK: &str = "/core/odata-queries";
/// A document by its link.
pub const INDEX_LINK: &str = "/core/document-index";
/// Where links are followed from query to query.
pub const GRAPH_LINK: &str = "/core/graph-queries";
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
    /// After the sort term, each with an order of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_sort_terms: Vec<QueryTerm>,
    /// With `EXPAND_SELECTED_FIELDS`: which fields of a document are shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub select_terms: Vec<QueryTerm>,
    /// What is to be said of all that is found, in place of links. (Xenon has nothing like it.)
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<Aggregate>,
    /// The answer also says how it was found.
    #[serde(skip_serializing_if = "is_false")]
    pub explain: bool,
    /// With `SELECT_LINKS`: the fields whose values are links to other documents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_terms: Vec<QueryTerm>,
    #[serde(flatten)]
    pub extent: Extent,
    #[serde(flatten)]
    pub grouping: Grouping,
}

/// Of which time, and from where on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Extent {
    /// With `TIME_SNAPSHOT`: of each document the version that was the latest at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_snapshot_boundary_micros: Option<u64>,
    /// How many of the first are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// The query is asked again until it finds so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_result_count: Option<u64>,
}

/// Which documents belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Grouping {
    /// With aggregates: these are of each group of documents with the same values of these fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_terms: Vec<QueryTerm>,
    /// With `GROUP_BY`: the documents with the same value of this field have pages of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by_term: Option<QueryTerm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_sort_term: Option<QueryTerm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_sort_order: Option<SortOrder>,
    /// How many groups an answer tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_result_limit: Option<usize>,
}

fn is_false(is_set: &bool) -> bool {
    !is_set
}

impl QuerySpecification {
    pub fn has(&self, option: QueryOption) -> bool {
        self.options.contains(&option)
    }

    /// Narrows the query by a further clause.
    pub fn and(&mut self, clause: Query) {
        let mut inner = std::mem::take(&mut self.query);
        if inner.occurance == Occurance::ShouldOccur {
            // As the outermost clause it had to hold.
            inner.occurance = Occurance::MustOccur;
        }
        self.query = Query { boolean_clauses: Some(vec![inner, clause]), ..Query::default() };
    }

    /// Asks for things as they were at that time.
    pub fn as_of(&mut self, at: Moment) {
        self.options.push(QueryOption::TimeSnapshot);
        self.extent.time_snapshot_boundary_micros = Some(at.0);
    }

    /// The same documents, in the same versions, and nothing of how they are shown.
    #[must_use]
    pub fn all_found(&self) -> Self {
        const WHICH: [QueryOption; 3] = [
            QueryOption::IncludeAllVersions,
            QueryOption::IncludeDeleted,
            QueryOption::TimeSnapshot,
        ];
        let options = self.options.iter().copied().filter(|option| WHICH.contains(option));
        Self {
            query: self.query.clone(),
            options: options.collect(),
            extent: Extent { offset: None, expected_result_count: None, ..self.extent.clone() },
            ..Self::default()
        }
    }

    /// The answer has documents, or parts of them.
    pub fn is_expanded(&self) -> bool {
        let expanding = [
            QueryOption::ExpandContent,
            QueryOption::ExpandSelectedFields,
            QueryOption::ExpandBuiltinContentOnly,
        ];
        expanding.iter().any(|option| self.has(*option))
    }
}

/// A clause: a term, or clauses in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct QueryTerm {
    /// A field, or a path into one: `name`, `keyValues.k`, `tags.item`, `taskInfo.stage`.
    pub property_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_value: Option<Value>,
    /// Any of these, as `TERM` compares. (Xenon has nothing like it.)
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_values: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_type: Option<MatchType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<NumericRange>,
    /// Of a term to sort by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_order: Option<SortOrder>,
    /// `false`: only the values of the field itself, and nothing that lies within an object there.
    /// (Xenon has nothing like it.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<bool>,
}

impl QueryTerm {
    /// A field alone, to sort or to group by.
    pub fn field(property_name: &str) -> Self {
        Self { property_name: property_name.to_owned(), ..Self::default() }
    }
}

/// One thing to be said of many documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Aggregate {
    /// How it is called in the results; without one, its function and its field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub function: AggregateFunction,
    /// Of `COUNT` it may be absent: then documents are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property_name: Option<String>,
    /// Of `HISTOGRAM`: how wide a bucket is, as a number or as its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Value>,
    /// Of `PERCENTILES`: above 0, up to 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percents: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AggregateFunction {
    #[default]
    Count,
    CountDistinct,
    Sum,
    Avg,
    Min,
    Max,
    Distinct,
    Histogram,
    Percentiles,
}

impl AggregateFunction {
    pub const NAMES: [&str; 9] = [
        "COUNT",
        "COUNT_DISTINCT",
        "SUM",
        "AVG",
        "MIN",
        "MAX",
        "DISTINCT",
        "HISTOGRAM",
        "PERCENTILES",
    ];
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

/// From `min` to `max`, which are both numbers or both texts. A number may be written as text, for
/// the sake of digits that a client's numbers do not hold; then `number_type` is `LONG` or
/// `DOUBLE`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NumericRange {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub number_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
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
    ExpandSelectedFields,
    /// Of a document only what the system keeps.
    ExpandBuiltinContentOnly,
    IncludeAllVersions,
    IncludeDeleted,
    Count,
    Sort,
    TopResults,
    /// The links that are in some fields, too.
    SelectLinks,
    /// And the documents that these lead to.
    ExpandLinks,
    /// Pages for each group of documents.
    GroupBy,
    /// As things were at `timeSnapshotBoundaryMicros`.
    TimeSnapshot,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A clause that is misspelt would be the opposite of what was meant.
    #[test]
    fn a_clause_has_no_other_fields() {
        for (clause, named) in [
            (json!({"occurence": "MUST_NOT_OCCUR"}), "occurence"),
            (json!({"term": {"propertyName": "a", "matchvalue": 1}}), "matchvalue"),
            (json!({"term": {"propertyName": "a", "range": {"mini": 1}}}), "mini"),
            (json!({"booleanClauses": [{"terms": {}}]}), "terms"),
        ] {
            let refused = serde_json::from_value::<Query>(clause).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
        let both = json!({"occurrence": "MUST_NOT_OCCUR", "term": {"propertyName": "a"}});
        let read: Query = serde_json::from_value(both).unwrap();
        assert_eq!(read.occurance, Occurance::MustNotOccur);
    }
}
