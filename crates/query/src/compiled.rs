//! A query, checked and made ready to run.
//!
//! A field's name is a path (see `leaves`). As Xenon writes the items of a collection `tags.item`,
//! a part `item` may stand for the items of an array as well as for a field of that name: the name
//! then stands for several paths.
//!
//! A term on the name of an object (Xenon's map) looks at what lies within it: at the values, at
//! any depth, and at the names of the fields that lead to them. A field name with dots in it cannot
//! be told from fields within fields, and so `a.b` is a name within `m` in both `{"m":{"a.b":1}}`
//! and `{"m":{"a":{"b":1}}}`. A name that leads to no value (to null, to an empty object) is not
//! there.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use protocol::query::{Occurance, Query, QueryOption, QuerySpecification, QueryTerm, SortOrder};
use protocol::{BUILT_IN_FIELDS, Moment, Problem};

use crate::aggregate::Aggregation;
use crate::candidate::Candidate;
use crate::constraint::{Constraint, LINK_FIELD};
use crate::filter_of_hits::{HitFilter, opened};
use crate::grouped;
use crate::groups::Groups;
use crate::links::LinkFields;
use crate::page::Hit;
use crate::paths::paths;
use crate::predicate::{check_property_type, wrong};
use crate::selection::select;
use crate::term::Term;

/// How deep clauses may lie in clauses.
pub(crate) const DEPTH_MAX: usize = 16;

/// How many terms a query may have.
pub(crate) const TERMS_MAX: usize = 256;

/// Each time that a query has this many terms more, a document is as much work once more.
const TERMS_PER_WEIGHT: usize = 8;

/// How heavy a query may be: how much work it is to look at a byte of a document, and 1 is that of
/// one with few plain terms. The heaviest looks at the largest document for a few seconds.
pub(crate) const QUERY_WEIGHT_MAX: usize = 128;

/// How heavy a query may be that is asked of each change as it is made, on the node's own thread.
pub(crate) const STANDING_WEIGHT_MAX: usize = 40;

/// How many fields of its documents a query may select.
pub(crate) const SELECTED_MAX: usize = 256;

/// How many fields hits may be sorted by.
pub(crate) const SORT_FIELDS_MAX: usize = 8;

/// A query, checked and made ready to run in every partition.
#[derive(Clone, Debug)]
pub struct CompiledQuery {
    pub(crate) clause: Clause,
    pub(crate) terms: Vec<Term>,
    pub(crate) sort: Option<Sort>,
    scope: Scope,
    is_count: bool,
    shown: Shown,
    constraints: Vec<Constraint>,
    is_exact: bool,
    pub(crate) filter: Option<HitFilter>,
    aggregation: Option<Arc<Aggregation>>,
    is_explained: bool,
}

/// What a hit carries.
#[derive(Clone, Debug)]
struct Shown {
    is_expanded: bool,
    /// With `EXPAND_SELECTED_FIELDS`: these fields only.
    selected: Option<Vec<String>>,
    links: Option<Arc<LinkFields>>,
}

/// Which versions are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Live,
    LiveAndDeleted,
    AllVersions,
    /// Of each document the version that was the latest then.
    AsOf {
        at: Moment,
        with_deleted: bool,
    },
}

impl Scope {
    /// Versions before the latest are looked at, which the index does not have.
    pub fn is_of_history(self) -> bool {
        matches!(self, Self::AllVersions | Self::AsOf { .. })
    }

    /// Whether a version that is a deletion is shown.
    pub fn shows_deleted(self) -> bool {
        match self {
            Self::Live => false,
            Self::LiveAndDeleted | Self::AllVersions => true,
            Self::AsOf { with_deleted, .. } => with_deleted,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Clause {
    /// The number of a term.
    Term(usize),
    All {
        must: Vec<Self>,
        not: Vec<Self>,
        should: Vec<Self>,
    },
}

/// By which fields hits are sorted, the most important first.
#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    pub fields: Vec<SortField>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SortField {
    /// All the paths that the field's name stands for.
    pub paths: Vec<String>,
    pub is_descending: bool,
}

impl CompiledQuery {
    /// # Errors
    /// `BAD_REQUEST` that names the part of the specification that is wrong.
    pub fn new(specification: &QuerySpecification) -> Result<Self, Problem> {
        let compiled = Self::of_stored(specification)?;
        compiled.check_weight()?;
        Ok(compiled)
    }

    /// # Errors
    /// When it is too much work.
    pub fn check_weight(&self) -> Result<(), Problem> {
        match weight(&self.terms) {
            weight if weight > QUERY_WEIGHT_MAX => {
                wrong("query", &too_heavy(weight, QUERY_WEIGHT_MAX))
            }
            _ => Ok(()),
        }
    }

    /// The same, of whatever weight: a rule that was taken once goes on to hold.
    ///
    /// # Errors
    /// When it is not right.
    pub fn of_stored(specification: &QuerySpecification) -> Result<Self, Problem> {
        let mut terms = Vec::new();
        let clause = compile(&specification.query, "query", 1, &mut terms)?;
        // The outermost clause is as if it were the only one in another.
        let clause = match specification.query.occurance {
            Occurance::MustNotOccur => {
                Clause::All { must: Vec::new(), not: vec![clause], should: Vec::new() }
            }
            Occurance::MustOccur | Occurance::ShouldOccur => clause,
        };
        if specification.result_limit == Some(0) {
            return wrong("resultLimit", "is 0; give at least 1, or the option COUNT");
        }
        let has = |option| specification.has(option);
        grouped::check(specification)?;
        check_offset(specification)?;
        check_expected(specification)?;
        if has(QueryOption::TopResults)
            && has(QueryOption::Sort)
            && specification.result_limit.is_none()
        {
            let why =
                "have TOP_RESULTS, and resultLimit does not say how many; drop one, or add it";
            return wrong("options", why);
        }
        let constraints = constraints(&clause, &terms);
        Ok(Self {
            is_exact: is_exact(&clause, &terms),
            sort: sort(specification)?,
            scope: scope(specification)?,
            is_count: has(QueryOption::Count),
            shown: Shown {
                is_expanded: has(QueryOption::ExpandContent),
                selected: selected(specification)?,
                links: LinkFields::new(specification)?.map(Arc::new),
            },
            clause,
            terms,
            constraints,
            filter: None,
            is_explained: specification.explain,
            aggregation: Aggregation::new(specification)?.map(Arc::new),
        })
    }

    /// How many terms it has.
    pub fn terms(&self) -> usize {
        self.terms.len()
    }

    /// How much work it is to look at a byte of a document: 1 for a query of few plain terms.
    pub fn weight(&self) -> usize {
        weight(&self.terms)
    }

    /// # Errors
    /// When it is too heavy to be asked of each change.
    pub fn check_standing(&self) -> Result<(), Problem> {
        let weight = self.weight();
        if weight > STANDING_WEIGHT_MAX {
            let why = too_heavy(weight, STANDING_WEIGHT_MAX);
            return wrong("query", &format!("{why}; it is asked of each change"));
        }
        Ok(())
    }

    /// The same query for somebody who may not see everything: what the filter hides is no hit, is
    /// not counted, and has no place in the order.
    #[must_use]
    pub fn filtered(self, filter: HitFilter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Whether no term looks at anything but these fields.
    pub fn names_only(&self, fields: &[&str]) -> bool {
        let is_one = |path: &String| fields.contains(&path.as_str());
        self.terms.iter().all(|term| !term.is_of_all_fields() && term.paths.iter().all(is_one))
    }

    /// `COUNT` was asked for: pages have no hits, only a count.
    pub fn is_count(&self) -> bool {
        self.is_count
    }

    /// What is to be said of all hits together; pages have no hits then.
    pub fn aggregation(&self) -> Option<&Arc<Aggregation>> {
        self.aggregation.as_ref()
    }

    /// A hit carries its document, or some fields of it.
    pub fn is_expanded(&self) -> bool {
        self.shown.is_expanded || self.shown.selected.is_some()
    }

    /// What a hit carries of its document, which is whole JSON.
    pub fn expanded(&self, document: Bytes) -> Bytes {
        match &self.shown.selected {
            Some(names) => select(&document, names),
            None => document,
        }
    }

    /// The links in some fields of a document, with the names of the fields, if these are wanted.
    pub fn selected_links(&self, candidate: &Candidate<'_>) -> Vec<(String, String)> {
        let Some(links) = &self.shown.links else { return Vec::new() };
        links.links_of(&Candidate { body: &self.open_body(candidate), ..*candidate })
    }

    /// Adds a hit to what is said of all of them together.
    pub fn add_to(&self, groups: &mut Groups, candidate: &Candidate<'_>) {
        if let Some(aggregation) = &self.aggregation {
            let body = &self.open_body(candidate);
            aggregation.add(groups, &Candidate { body, ..*candidate });
        }
    }

    /// A body without the fields that are hidden from whoever asks.
    pub(crate) fn open_body<'b>(&self, candidate: &Candidate<'b>) -> Cow<'b, [u8]> {
        opened(candidate, self.filter.as_ref())
    }

    /// Whoever asks also wants to know how the hits were found.
    pub fn is_explained(&self) -> bool {
        self.is_explained
    }

    /// Whoever asks may know how many documents were looked at. Others would learn from it how many
    /// there are that they may not see.
    pub fn tells_counts(&self) -> bool {
        self.filter.as_ref().is_none_or(HitFilter::may_be_counted)
    }

    /// Whether whoever asks may see this version.
    pub fn may_show(&self, candidate: &Candidate<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.shows(candidate))
    }

    /// Which versions of a document the query looks at.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The order of the hits, unless it is the order of their links.
    pub fn sort(&self) -> Option<&Sort> {
        self.sort.as_ref()
    }

    /// Each of them holds for every hit, so each of them alone leads to all the hits.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// The constraints say all that the query says: a document that meets each of them is a hit.
    pub fn is_exact(&self) -> bool {
        self.is_exact && self.filter.is_none()
    }

    /// The link as shown in `documentLinks`: with all versions, `?documentVersion=N` is added.
    pub fn shown_link(&self, hit: &Hit) -> String {
        match self.scope {
            Scope::AllVersions => format!("{}?documentVersion={}", hit.link, hit.version),
            Scope::Live | Scope::LiveAndDeleted | Scope::AsOf { .. } => hit.link.clone(),
        }
    }
}

fn weight(terms: &[Term]) -> usize {
    let patterns: usize = terms.iter().map(|term| term.predicate.weight()).sum();
    1 + terms.len() / TERMS_PER_WEIGHT + patterns
}

fn too_heavy(weight: usize, most: usize) -> String {
    format!(
        "is {weight} times the work of a simple one, and the limit is {most}: ask with fewer terms, \
         fewer phrases, and shorter patterns that have a '?' behind a '*'"
    )
}

fn compile(
    query: &Query,
    at: &str,
    depth: usize,
    terms: &mut Vec<Term>,
) -> Result<Clause, Problem> {
    if depth > DEPTH_MAX {
        return wrong(at, &format!("lies deeper than {DEPTH_MAX} clauses; flatten the query"));
    }
    let clauses = match (&query.term, &query.boolean_clauses) {
        (Some(_), Some(clauses)) if !clauses.is_empty() => {
            return wrong(
                at,
                "has a 'term' and 'booleanClauses'; make the term one of the clauses",
            );
        }
        (Some(term), _) => {
            if terms.len() == TERMS_MAX {
                return wrong(at, &format!("is one term too many; the limit is {TERMS_MAX}"));
            }
            terms.push(Term::new(term, &format!("{at}.term"))?);
            return Ok(Clause::Term(terms.len() - 1));
        }
        (None, Some(clauses)) if !clauses.is_empty() => clauses,
        (None, _) => return wrong(at, "is empty; give it a 'term' or 'booleanClauses'"),
    };
    let (mut must, mut not, mut should) = (Vec::new(), Vec::new(), Vec::new());
    for (number, inner) in clauses.iter().enumerate() {
        let clause = compile(inner, &format!("{at}.booleanClauses[{number}]"), depth + 1, terms)?;
        match inner.occurance {
            Occurance::MustOccur => must.push(clause),
            Occurance::MustNotOccur => not.push(clause),
            Occurance::ShouldOccur => should.push(clause),
        }
    }
    Ok(Clause::All { must, not, should })
}

fn check_offset(specification: &QuerySpecification) -> Result<(), Problem> {
    let is_of_hits = !specification.has(QueryOption::Count) && specification.aggregates.is_empty();
    match specification.extent.offset {
        Some(offset) if offset > 0 && !is_of_hits => {
            wrong("offset", "leaves out the first documents, and none is shown; leave it out")
        }
        _ => Ok(()),
    }
}

/// What is awaited must be able to come.
fn check_expected(specification: &QuerySpecification) -> Result<(), Problem> {
    const NAME: &str = "expectedResultCount";
    let Some(expected) = specification.extent.expected_result_count else { return Ok(()) };
    let has = |option| specification.has(option);
    let limit = specification.result_limit.filter(|_| !has(QueryOption::Count));
    match limit {
        _ if has(QueryOption::GroupBy) => wrong(NAME, "goes with no pages; drop GROUP_BY"),
        Some(_) if !has(QueryOption::TopResults) => wrong(
            NAME,
            "goes with no pages, which count nothing; drop resultLimit, or count (COUNT)",
        ),
        Some(limit) if u64::try_from(limit).is_ok_and(|limit| limit < expected) => wrong(
            NAME,
            &format!("is {expected}, and resultLimit {limit}: so many would never come"),
        ),
        _ => Ok(()),
    }
}

fn scope(specification: &QuerySpecification) -> Result<Scope, Problem> {
    const BOUNDARY: &str = "timeSnapshotBoundaryMicros";
    let has = |option| specification.has(option);
    let with_deleted = has(QueryOption::IncludeDeleted);
    let is_of_all = has(QueryOption::IncludeAllVersions);
    match (has(QueryOption::TimeSnapshot), specification.extent.time_snapshot_boundary_micros) {
        (true, Some(_)) if is_of_all => {
            let why = "have TIME_SNAPSHOT, which shows one version of a document, and \
                       INCLUDE_ALL_VERSIONS; drop one";
            wrong("options", why)
        }
        (true, Some(at)) => Ok(Scope::AsOf { at: Moment(at), with_deleted }),
        (true, None) => wrong(BOUNDARY, "is missing; the option TIME_SNAPSHOT needs it"),
        (false, Some(_)) => wrong(BOUNDARY, "goes with the option TIME_SNAPSHOT"),
        (false, None) if is_of_all => Ok(Scope::AllVersions),
        (false, None) if with_deleted => Ok(Scope::LiveAndDeleted),
        (false, None) => Ok(Scope::Live),
    }
}

fn selected(specification: &QuerySpecification) -> Result<Option<Vec<String>>, Problem> {
    let terms = &specification.select_terms;
    if specification.has(QueryOption::ExpandBuiltinContentOnly) {
        // With EXPAND_CONTENT it says of these documents how they are shown, as in Xenon.
        if !terms.is_empty() {
            let why = "are EXPAND_BUILTIN_CONTENT_ONLY, and other fields are asked for; drop one";
            return wrong("options", why);
        }
        return Ok(Some(BUILT_IN_FIELDS.iter().map(|name| (*name).to_owned()).collect()));
    }
    match (specification.has(QueryOption::ExpandSelectedFields), terms.len()) {
        (false, 0) => return Ok(None),
        (false, _) => return wrong("selectTerms", "go with the option EXPAND_SELECTED_FIELDS"),
        (true, 0) => return wrong("selectTerms", "are missing; EXPAND_SELECTED_FIELDS needs some"),
        (true, 1..=SELECTED_MAX) => {}
        (true, _) => {
            return wrong("selectTerms", &format!("are too many; the limit is {SELECTED_MAX}"));
        }
    }
    if specification.has(QueryOption::ExpandContent) {
        return wrong("selectTerms", "select fields, and EXPAND_CONTENT shows all; drop one");
    }
    let mut names = Vec::new();
    for (number, term) in terms.iter().enumerate() {
        paths(&term.property_name, &format!("selectTerms[{number}].propertyName"))?;
        names.push(term.property_name.clone());
    }
    Ok(Some(names))
}

fn sort(specification: &QuerySpecification) -> Result<Option<Sort>, Problem> {
    let more = &specification.additional_sort_terms;
    let Some(first) = &specification.sort_term else {
        if specification.has(QueryOption::Sort) {
            return wrong("sortTerm", "is missing; the option SORT needs a 'propertyName' in it");
        }
        if !more.is_empty() {
            return wrong("additionalSortTerms", "go with a sortTerm, which is missing");
        }
        return Ok(None);
    };
    if more.len() >= SORT_FIELDS_MAX {
        let why = format!("are too many; there may be {SORT_FIELDS_MAX} fields to sort by");
        return wrong("additionalSortTerms", &why);
    }
    let order = specification.sort_order;
    let mut fields = vec![sort_field(first, "sortTerm", order)?];
    for (number, term) in more.iter().enumerate() {
        let order = term.sort_order.or(order);
        fields.push(sort_field(term, &format!("additionalSortTerms[{number}]"), order)?);
    }
    // Upward by link is the order that there is anyway. Versions of one document share their link,
    // and what comes behind it sorts them.
    let is_of_one = more.is_empty() || !specification.has(QueryOption::IncludeAllVersions);
    let is_natural = is_of_one && !fields[0].is_descending && fields[0].paths == [LINK_FIELD];
    Ok((!is_natural).then_some(Sort { fields }))
}

fn sort_field(term: &QueryTerm, at: &str, order: Option<SortOrder>) -> Result<SortField, Problem> {
    check_property_type(term, at)?;
    let paths = paths(&term.property_name, &format!("{at}.propertyName"))?;
    Ok(SortField { paths, is_descending: order == Some(SortOrder::Desc) })
}

/// What surely holds for all that meets the clause.
fn constraints(clause: &Clause, terms: &[Term]) -> Vec<Constraint> {
    match clause {
        Clause::Term(number) => Constraint::new(&terms[*number]).into_iter().collect(),
        Clause::All { must, should, .. } if must.is_empty() && !should.is_empty() => {
            // One of them: the union of what can be said of each, if of all something can.
            let mut union = Constraint::default();
            for clause in should {
                let Some(best) = constraints(clause, terms)
                    .into_iter()
                    .min_by_key(|constraint| constraint.link_prefix().is_some())
                else {
                    return Vec::new();
                };
                union.atoms.extend(best.atoms);
            }
            vec![union]
        }
        Clause::All { must, .. } => {
            must.iter().flat_map(|clause| constraints(clause, terms)).collect()
        }
    }
}

/// Whether the constraints of a clause say all that it says.
fn is_exact(clause: &Clause, terms: &[Term]) -> bool {
    match clause {
        Clause::Term(number) => {
            Constraint::new(&terms[*number]).is_some_and(|constraint| constraint.is_exact)
        }
        Clause::All { must, not, should } => {
            // With a clause that must be met, those that should make no difference.
            not.is_empty()
                && (!must.is_empty() || should.is_empty())
                && must.iter().all(|clause| is_exact(clause, terms))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compiled(terms: Vec<Value>) -> Result<CompiledQuery, Problem> {
        let clauses: Vec<Value> = terms
            .into_iter()
            .map(|term| json!({"occurance": "SHOULD_OCCUR", "term": term}))
            .collect();
        let specification = json!({"query": {"booleanClauses": clauses}});
        CompiledQuery::new(&crate::parse_specification(&specification)?)
    }

    fn term(match_type: &str, value: &str) -> Value {
        json!({"propertyName": "a", "matchType": match_type, "matchValue": value})
    }

    #[test]
    fn terms_and_patterns_have_weight() {
        let of = |terms: Vec<Value>| compiled(terms).unwrap().weight();
        assert_eq!(of(vec![term("TERM", "x")]), 1);
        assert_eq!(of(vec![term("TERM", "x"); 16]), 3);
        assert_eq!(of(vec![term("WILDCARD", "*x*y")]), 1);
        assert_eq!(of(vec![term("WILDCARD", "*x?y*")]), 2);
        let long = format!("*?{}b*", "a".repeat(508));
        assert_eq!(of(vec![term("WILDCARD", &long)]), 9);
        assert_eq!(of(vec![term("PHRASE", "a b")]), 5);
        compiled(vec![term("TERM", "x"); TERMS_MAX]).unwrap().check_standing().unwrap();
        let heavy = compiled(vec![term("WILDCARD", &long); 8]).unwrap();
        let refused = heavy.check_standing().unwrap_err().message;
        assert!(refused.contains("is 66 times the work") && refused.contains("each change"));
        let refused = compiled(vec![term("WILDCARD", &long); 16]).unwrap_err().message;
        assert!(refused.contains("the limit is 128"), "{refused}");
    }

    /// As Xenon's programs send it.
    #[test]
    fn built_in_fields_are_shown_with_and_without_expand_content() {
        for options in [
            json!(["EXPAND_CONTENT", "EXPAND_BUILTIN_CONTENT_ONLY"]),
            json!(["EXPAND_BUILTIN_CONTENT_ONLY"]),
        ] {
            let specification = json!({"options": options, "query": {"term": term("TERM", "x")}});
            let parsed = crate::parse_specification(&specification).unwrap();
            let query = CompiledQuery::new(&parsed).unwrap();
            let shown = query.expanded(Bytes::from_static(br#"{"a":1,"documentVersion":3}"#));
            assert_eq!((query.is_expanded(), &shown[..]), (true, &br#"{"documentVersion":3}"#[..]));
        }
    }
}
