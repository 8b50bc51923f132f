//! Looking at one version of a document: does it meet the query, and where is it in the order?

use crate::candidate::Candidate;
use crate::compiled::{Clause, CompiledQuery, Sort, SortField, TERMS_MAX};
use crate::constraint::{KIND_FIELD, LINK_FIELD};
use crate::filter_of_hits::{HitFilter, opened};
use crate::leaves::{Leaves, walk};
use crate::ordered::{Leaf, encoded_bytes};
use crate::paths::is_built_in;
use crate::term::{Term, is_at_or_beneath};

/// The first byte of a sort key: documents without a value come last, upward and downward.
const PRESENT: u8 = 0;
const MISSING: u8 = 1;

impl CompiledQuery {
    /// The sort key, if it meets the query (empty when there is no order but that of the links).
    pub fn evaluate(&self, candidate: &Candidate<'_>) -> Option<Vec<u8>> {
        self.evaluate_for(candidate, self.filter.as_ref())
    }

    /// The same for somebody who may see what that filter shows and opens, whatever filter the
    /// query has: a query that stands is compiled once, and who asked may see other things by now.
    pub fn evaluate_for(
        &self,
        candidate: &Candidate<'_>,
        filter: Option<&HitFilter>,
    ) -> Option<Vec<u8>> {
        let mut look = Look { query: self, met: [false; TERMS_MAX], sorted: Vec::new(), shared: 0 };
        look.sorted.resize(self.sort.as_ref().map_or(0, |sort| sort.fields.len()), None);
        for field in protocol::BUILT_IN_FIELDS {
            if look.wants_exactly(field)
                && let Some(leaf) = candidate.built_in(field)
            {
                look.take(field, leaf);
            }
        }
        if look.wants_body() {
            walk(&opened(candidate, filter), &mut look);
        }
        let is_hit =
            is_met(&self.clause, &look.met) && filter.is_none_or(|filter| filter.shows(candidate));
        is_hit.then(|| match &self.sort {
            None => Vec::new(),
            Some(sort) => sort.key(&look.sorted),
        })
    }
}

impl CompiledQuery {
    /// Whether a version of which nothing but the link and perhaps the kind is known may meet the
    /// query.
    pub fn may_meet(&self, link: &str, kind: Option<&str>) -> bool {
        may_be_met(&self.clause, &self.terms, (link, kind)) != Some(false)
    }
}

impl Sort {
    /// The sort key for the encoded values of its fields, or of the first of them.
    pub fn key(&self, values: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut key = Vec::with_capacity(values.len() * 12);
        for (field, value) in self.fields.iter().zip(values) {
            let Some(value) = value else {
                key.push(MISSING);
                continue;
            };
            key.push(PRESENT);
            // The encodings are prefix-free, so their complements are in the opposite order, and
            // the next field may follow.
            let flip = if field.is_descending { 0xff } else { 0 };
            key.extend(value.iter().map(|byte| byte ^ flip));
        }
        key
    }

    /// The only field, if there is one only.
    pub fn single(&self) -> Option<&SortField> {
        match self.fields.as_slice() {
            [field] => Some(field),
            _ => None,
        }
    }

    /// The encoded value of a sort key of one field, as the index has it; `None` if there is none
    /// in it.
    pub fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let field = self.single()?;
        let value = key.strip_prefix(&[PRESENT])?;
        let flip = if field.is_descending { 0xff } else { 0 };
        let mut value: Vec<u8> = value.iter().map(|byte| byte ^ flip).collect();
        // Behind it may stand what tells values apart that are one to the index.
        value.truncate(encoded_bytes(&value)?);
        Some(value)
    }
}

/// What was seen of a document so far.
struct Look<'q> {
    query: &'q CompiledQuery,
    met: [bool; TERMS_MAX],
    /// For each field to sort by: of its values the first in the order asked for.
    sorted: Vec<Option<Vec<u8>>>,
    /// The names in a path that end before this byte were looked at with a leaf before.
    shared: usize,
}

impl Look<'_> {
    fn paths(&self) -> impl Iterator<Item = &String> {
        let terms = self.query.terms.iter().flat_map(|term| &term.paths);
        let sorts = self.query.sort.iter().flat_map(|sort| &sort.fields);
        terms.chain(sorts.flat_map(|field| &field.paths))
    }

    fn wants_exactly(&self, path: &str) -> bool {
        self.paths().any(|wanted| wanted == path)
    }

    fn has_term_of_all_fields(&self) -> bool {
        self.query.terms.iter().any(Term::is_of_all_fields)
    }

    fn wants_body(&self) -> bool {
        self.has_term_of_all_fields() || self.paths().any(|wanted| !is_built_in(wanted))
    }
}

impl Leaves for Look<'_> {
    fn wants(&self, path: &str) -> bool {
        if is_built_in(path) {
            return false;
        }
        let sorts = self.query.sort.iter().flat_map(|sort| &sort.fields);
        let mut sorted = sorts.flat_map(|field| &field.paths);
        self.query.terms.iter().any(|term| term.is_of_all_fields() || term.wants(path))
            || sorted.any(|wanted| is_at_or_beneath(wanted, path))
    }

    fn share(&mut self, bytes: usize) {
        self.shared = bytes;
    }

    fn take(&mut self, path: &str, leaf: Leaf<'_>) {
        for (term, met) in self.query.terms.iter().zip(&mut self.met) {
            *met = *met || term.is_met(path, leaf, self.shared);
        }
        let fields = self.query.sort.iter().flat_map(|sort| &sort.fields);
        for (field, sorted) in fields.zip(&mut self.sorted) {
            if !field.paths.iter().any(|wanted| wanted == path) {
                continue;
            }
            let value = leaf.ordered();
            let is_first = sorted.as_ref().is_none_or(|first| {
                if field.is_descending { value > *first } else { value < *first }
            });
            if is_first {
                *sorted = Some(value);
            }
        }
    }
}

fn is_met(clause: &Clause, met: &[bool]) -> bool {
    match clause {
        Clause::Term(number) => met[*number],
        Clause::All { must, not, should } => {
            must.iter().all(|clause| is_met(clause, met))
                && !not.iter().any(|clause| is_met(clause, met))
                && (!must.is_empty()
                    || should.is_empty()
                    || should.iter().any(|clause| is_met(clause, met)))
        }
    }
}

/// The same of a version of which only the link and perhaps the kind is known; `None` when that
/// does not say.
fn may_be_met(clause: &Clause, terms: &[Term], known: (&str, Option<&str>)) -> Option<bool> {
    let each = |clauses: &[Clause]| -> Vec<Option<bool>> {
        clauses.iter().map(|clause| may_be_met(clause, terms, known)).collect()
    };
    match clause {
        Clause::Term(number) => {
            let Term { paths, predicate, .. } = &terms[*number];
            match paths.as_slice() {
                [path] if path == LINK_FIELD => Some(predicate.is_met(Leaf::Text(known.0))),
                [path] if path == KIND_FIELD => {
                    known.1.map(|kind| predicate.is_met(Leaf::Text(kind)))
                }
                _ => None,
            }
        }
        Clause::All { must, not, should } => {
            let (needed, not, one_of) = (each(must), each(not), each(should));
            let is_one_needed = must.is_empty() && !should.is_empty();
            let is_out = needed.contains(&Some(false))
                || not.contains(&Some(true))
                || is_one_needed && one_of.iter().all(|it| *it == Some(false));
            let is_in = needed.iter().all(|it| *it == Some(true))
                && not.iter().all(|it| *it == Some(false))
                && (!is_one_needed || one_of.contains(&Some(true)));
            if is_out || is_in { Some(is_in) } else { None }
        }
    }
}

/// Whether a sort key is that of a document with no value to sort by.
pub fn is_missing(sort_key: &[u8]) -> bool {
    sort_key.first() == Some(&MISSING)
}
