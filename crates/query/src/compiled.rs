//! A query, checked and made ready to run.
//!
//! A field's name is a path (see `leaves`). As Xenon writes the items of a collection `tags.item`,
//! a part `item` may stand for the items of an array as well as for a field of that name: the name
//! then stands for several paths.

use protocol::query::{Occurance, Query, QueryOption, QuerySpecification, SortOrder};
use protocol::{BUILT_IN_FIELDS, Problem};

use crate::constraint::{Constraint, LINK_FIELD};
use crate::filter_of_hits::HitFilter;
use crate::page::Hit;
use crate::predicate::{Predicate, check_property_type, wrong};

/// The longest path of a field that a query can name, and the longest that is worth indexing.
pub const PATH_BYTES_MAX: usize = 512;

/// How deep clauses may lie in clauses.
pub(crate) const DEPTH_MAX: usize = 16;

/// How many terms a query may have.
pub(crate) const TERMS_MAX: usize = 256;

/// How many parts `item` a field's name may have: each doubles the paths it stands for.
const ITEMS_MAX: usize = 3;

/// A query, checked and made ready to run in every partition.
#[derive(Clone, Debug)]
pub struct CompiledQuery {
    pub(crate) clause: Clause,
    pub(crate) terms: Vec<Term>,
    pub(crate) sort: Option<Sort>,
    scope: Scope,
    is_count: bool,
    is_expanded: bool,
    constraints: Vec<Constraint>,
    is_exact: bool,
    pub(crate) filter: Option<HitFilter>,
}

/// Which versions are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Live,
    LiveAndDeleted,
    AllVersions,
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

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub(crate) paths: Vec<String>,
    pub(crate) predicate: Predicate,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    /// All the paths that the field's name stands for.
    pub paths: Vec<String>,
    pub is_descending: bool,
}

impl CompiledQuery {
    /// # Errors
    /// `BAD_REQUEST` that names the part of the specification that is wrong.
    pub fn new(specification: &QuerySpecification) -> Result<Self, Problem> {
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
        let scope = if has(QueryOption::IncludeAllVersions) {
            Scope::AllVersions
        } else if has(QueryOption::IncludeDeleted) {
            Scope::LiveAndDeleted
        } else {
            Scope::Live
        };
        let constraints = constraints(&clause, &terms);
        Ok(Self {
            is_exact: is_exact(&clause, &terms),
            sort: sort(specification)?,
            scope,
            is_count: has(QueryOption::Count),
            is_expanded: has(QueryOption::ExpandContent),
            clause,
            terms,
            constraints,
            filter: None,
        })
    }

    /// How many terms it has.
    pub fn terms(&self) -> usize {
        self.terms.len()
    }

    /// The same query for somebody who may not see everything: what the filter hides is no hit, is
    /// not counted, and has no place in the order.
    #[must_use]
    pub fn filtered(self, filter: HitFilter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Whether no term looks at anything but these fields.
    pub fn names_only(&self, fields: &[&str]) -> bool {
        let mut named = self.terms.iter().flat_map(|term| &term.paths);
        named.all(|path| fields.contains(&path.as_str()))
    }

    /// `COUNT` was asked for: pages have no hits, only a count.
    pub fn is_count(&self) -> bool {
        self.is_count
    }

    /// `EXPAND_CONTENT` was asked for: a hit carries its document.
    pub fn is_expanded(&self) -> bool {
        self.is_expanded
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
            Scope::Live | Scope::LiveAndDeleted => hit.link.clone(),
        }
    }
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
            let at = format!("{at}.term");
            let paths = paths(&term.property_name, &format!("{at}.propertyName"))?;
            terms.push(Term { paths, predicate: Predicate::new(term, &at)? });
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

/// All the paths that a field's name stands for.
fn paths(name: &str, at: &str) -> Result<Vec<String>, Problem> {
    if name.is_empty() {
        return wrong(at, "is empty; name a field, such as 'name', 'keyValues.k' or 'tags.item'");
    }
    if name.len() > PATH_BYTES_MAX {
        return wrong(at, &format!("is {} bytes long; the limit is {PATH_BYTES_MAX}", name.len()));
    }
    let meant = BUILT_IN_FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name));
    if let Some(field) = meant.filter(|&&field| field != name) {
        return wrong(at, &format!("is '{name}'; it is spelled '{field}'"));
    }
    let mut paths = vec![String::new()];
    let mut items = 0;
    for (number, part) in name.split('.').enumerate() {
        let mut longer = Vec::new();
        if part == "item" && number > 0 {
            items += 1;
            if items > ITEMS_MAX {
                return wrong(at, &format!("has over {ITEMS_MAX} parts 'item'; leave them out"));
            }
            longer.clone_from(&paths);
        }
        for path in &mut paths {
            if number > 0 {
                path.push('.');
            }
            path.push_str(part);
        }
        paths.append(&mut longer);
    }
    Ok(paths)
}

fn sort(specification: &QuerySpecification) -> Result<Option<Sort>, Problem> {
    let Some(term) = &specification.sort_term else {
        if specification.has(QueryOption::Sort) {
            return wrong("sortTerm", "is missing; the option SORT needs a 'propertyName' in it");
        }
        return Ok(None);
    };
    check_property_type(term, "sortTerm")?;
    let paths = paths(&term.property_name, "sortTerm.propertyName")?;
    let is_descending = specification.sort_order == Some(SortOrder::Desc);
    // Upward by link is the order that there is anyway.
    let is_natural = !is_descending && paths == [LINK_FIELD];
    Ok((!is_natural).then_some(Sort { paths, is_descending }))
}

/// What surely holds for all that meets the clause.
fn constraints(clause: &Clause, terms: &[Term]) -> Vec<Constraint> {
    match clause {
        Clause::Term(number) => {
            let Term { paths, predicate } = &terms[*number];
            Constraint::new(paths, predicate).into_iter().collect()
        }
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
            let Term { paths, predicate } = &terms[*number];
            Constraint::new(paths, predicate).is_some_and(|constraint| constraint.is_exact)
        }
        Clause::All { must, not, should } => {
            // With a clause that must be met, those that should make no difference.
            not.is_empty()
                && (!must.is_empty() || should.is_empty())
                && must.iter().all(|clause| is_exact(clause, terms))
        }
    }
}
