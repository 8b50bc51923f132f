//! Looking at one version of a document: does it meet the query, and where is it in the order?

use serde_json::Number;

use crate::candidate::Candidate;
use crate::compiled::{Clause, CompiledQuery, Sort, TERMS_MAX};
use crate::constraint::is_built_in;
use crate::leaves::{Leaves, walk};
use crate::ordered::{Leaf, NumberKey};

/// The first byte of a sort key: documents without a value come last, upward and downward.
const PRESENT: u8 = 0;
const MISSING: u8 = 1;

impl CompiledQuery {
    /// The sort key, if it meets the query (empty when there is no order but that of the links).
    pub fn evaluate(&self, candidate: &Candidate<'_>) -> Option<Vec<u8>> {
        let mut look = Look { query: self, met: [false; TERMS_MAX], sorted: None };
        for field in protocol::BUILT_IN_FIELDS {
            if look.wants_exactly(field)
                && let Some(leaf) = built_in(field, candidate)
            {
                look.take(field, leaf);
            }
        }
        if look.wants_body() {
            walk(candidate.body, &mut look);
        }
        let is_hit = is_met(&self.clause, &look.met)
            && self.filter.as_ref().is_none_or(|filter| filter.shows(candidate));
        is_hit.then(|| match &self.sort {
            None => Vec::new(),
            Some(sort) => sort.key(look.sorted.as_deref()),
        })
    }
}

impl Sort {
    /// The sort key for an encoded value.
    pub fn key(&self, value: Option<&[u8]>) -> Vec<u8> {
        let Some(value) = value else { return vec![MISSING] };
        let mut key = Vec::with_capacity(value.len() + 1);
        key.push(PRESENT);
        // The encodings are prefix-free, so their complements are in the opposite order.
        let flip = if self.is_descending { 0xff } else { 0 };
        key.extend(value.iter().map(|byte| byte ^ flip));
        key
    }

    /// The encoded value of a sort key; `None` if there is none in it.
    pub fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let value = key.strip_prefix(&[PRESENT])?;
        let flip = if self.is_descending { 0xff } else { 0 };
        Some(value.iter().map(|byte| byte ^ flip).collect())
    }
}

/// What was seen of a document so far.
struct Look<'q> {
    query: &'q CompiledQuery,
    met: [bool; TERMS_MAX],
    /// Of the values to sort by, the first in the order asked for.
    sorted: Option<Vec<u8>>,
}

impl Look<'_> {
    fn paths(&self) -> impl Iterator<Item = &String> {
        let terms = self.query.terms.iter().flat_map(|term| &term.paths);
        terms.chain(self.query.sort.iter().flat_map(|sort| &sort.paths))
    }

    fn wants_exactly(&self, path: &str) -> bool {
        self.paths().any(|wanted| wanted == path)
    }

    fn wants_body(&self) -> bool {
        self.paths().any(|wanted| !is_built_in(wanted))
    }
}

impl Leaves for Look<'_> {
    fn wants(&self, path: &str) -> bool {
        let wanted = self.paths().any(|wanted| {
            wanted.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        wanted && !is_built_in(path)
    }

    fn take(&mut self, path: &str, leaf: Leaf<'_>) {
        for (term, met) in self.query.terms.iter().zip(&mut self.met) {
            if !*met && term.paths.iter().any(|wanted| wanted == path) {
                *met = term.predicate.is_met(leaf);
            }
        }
        if let Some(sort) = &self.query.sort
            && sort.paths.iter().any(|wanted| wanted == path)
        {
            let value = leaf.encoded();
            let is_first = self.sorted.as_ref().is_none_or(|first| {
                if sort.is_descending { value > *first } else { value < *first }
            });
            if is_first {
                self.sorted = Some(value);
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

fn built_in<'a>(field: &str, candidate: &Candidate<'a>) -> Option<Leaf<'a>> {
    let number = |number: u64| Some(Leaf::Number(NumberKey::of(&Number::from(number))));
    match field {
        "documentVersion" => number(candidate.version),
        "documentEpoch" => number(candidate.epoch.0),
        "documentKind" => Some(Leaf::Text(candidate.kind)),
        "documentSelfLink" => Some(Leaf::Text(candidate.link)),
        "documentUpdateTimeMicros" => number(candidate.updated.0),
        "documentUpdateAction" => Some(Leaf::Text(candidate.action.name())),
        "documentExpirationTimeMicros" => number(candidate.expires.0),
        "documentOwner" | "documentUpdateNode" => Some(Leaf::Text(candidate.owner)),
        "documentAuthPrincipalLink" => candidate.author.map(Leaf::Text),
        _ => None,
    }
}

/// Whether a sort key is that of a document with no value to sort by.
pub fn is_missing(sort_key: &[u8]) -> bool {
    sort_key.first() == Some(&MISSING)
}
