//! One term of a query: which fields it looks at, and what it asks of their values.

use protocol::Problem;
use protocol::query::QueryTerm;

use crate::ordered::Leaf;
use crate::paths::{PATH_BYTES_MAX, is_built_in, paths};
use crate::predicate::{Predicate, wrong};

/// As Xenon calls a field that stands for all of them.
pub const ALL_FIELDS: &str = "ALL_FIELDS";

/// The longest name of a field within an object that a term on the object finds, in bytes. Each
/// name in a body is compared with each such term, and a wildcard takes longer for a longer one.
pub(crate) const NAME_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// All the paths that the field's name stands for; none stands for every field of the body.
    pub(crate) paths: Vec<String>,
    /// What lies within an object at one of the paths counts as well.
    pub(crate) is_within: bool,
    pub(crate) predicate: Predicate,
}

impl Term {
    /// `at` is the place of the term, for the error.
    pub(crate) fn new(term: &QueryTerm, at: &str) -> Result<Self, Problem> {
        let is_all = term.property_name == ALL_FIELDS;
        let paths = match is_all {
            true => Vec::new(),
            false => paths(&term.property_name, &format!("{at}.propertyName"))?,
        };
        if is_all && term.within == Some(false) {
            return wrong(&format!("{at}.within"), "is false, and ALL_FIELDS are at any depth");
        }
        let is_within = !is_all && term.within != Some(false);
        Ok(Self { paths, is_within, predicate: Predicate::new(term, at)? })
    }

    pub(crate) fn is_of_all_fields(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether there may be a value of interest at this path or beneath it.
    pub(crate) fn wants(&self, path: &str) -> bool {
        self.paths.iter().any(|wanted| {
            is_at_or_beneath(wanted, path) || self.is_within && is_at_or_beneath(path, wanted)
        })
    }

    /// Whether a value at this path makes it true. The names that end before the byte `shared` were
    /// looked at before, with another value, and did not.
    pub(crate) fn is_met(&self, path: &str, leaf: Leaf<'_>, shared: usize) -> bool {
        if self.is_of_all_fields() {
            return !is_built_in(path) && self.predicate.is_met(leaf);
        }
        self.paths.iter().any(|wanted| match path.strip_prefix(wanted.as_str()) {
            Some("") => self.predicate.is_met(leaf),
            Some(rest) if self.is_within && rest.starts_with('.') => {
                self.predicate.is_met(leaf)
                    || path.len() <= PATH_BYTES_MAX
                        && names_from(&rest[1..], shared.saturating_sub(wanted.len() + 1))
                            .any(|name| self.predicate.is_met(Leaf::Text(name)))
            }
            _ => false,
        })
    }
}

/// The names of fields within an object that lead to a value with this path from there, but for
/// those that are too long to be found.
pub fn names_within(rest: &str) -> impl Iterator<Item = &str> {
    names_from(rest, 0)
}

/// The same of the names that do not end before the byte `from`.
fn names_from(rest: &str, from: usize) -> impl Iterator<Item = &str> {
    let bytes = rest.bytes().take(NAME_BYTES_MAX + 1).enumerate();
    let inner = bytes.skip(from).filter(|(_, byte)| *byte == b'.').map(|(at, _)| &rest[..at]);
    let is_last_new = (from..=NAME_BYTES_MAX).contains(&rest.len());
    inner.chain(is_last_new.then_some(rest))
}

pub(crate) fn is_at_or_beneath(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn term(name: &str, value: &str, within: Option<bool>) -> Term {
        let match_value = Some(json!(value));
        Term::new(&QueryTerm { match_value, within, ..QueryTerm::field(name) }, "term").unwrap()
    }

    #[test]
    fn a_map_is_found_by_its_keys_and_by_its_values() {
        let leaf = Leaf::Text("Oslo");
        for value in ["Oslo", "home", "home.city"] {
            assert!(
                term("keyValues", value, None).is_met("keyValues.home.city", leaf, 0),
                "{value}"
            );
            let only = term("keyValues", value, Some(false));
            assert!(!only.is_met("keyValues.home.city", leaf, 0), "{value}");
        }
        let other = ["city", "keyValues", "keyValues.home", "home."];
        for value in other {
            assert!(
                !term("keyValues", value, None).is_met("keyValues.home.city", leaf, 0),
                "{value}"
            );
        }
        assert!(!term("keyValues", "Oslo", None).is_met("keyValuesOfOthers.city", leaf, 0));
        assert!(term("keyValues", "Oslo", Some(false)).is_met("keyValues", leaf, 0));
    }

    #[test]
    fn long_names_are_not_found_and_none_is_looked_at_twice() {
        let leaf = Leaf::Text("x");
        let met = |name: &str, path: &str, shared| term("m", name, None).is_met(path, leaf, shared);
        let (longest, longer) = ("n".repeat(NAME_BYTES_MAX), "n".repeat(NAME_BYTES_MAX + 1));
        assert!(met(&longest, &format!("m.{longest}"), 0));
        assert!(met(&longest, &format!("m.{longest}.a"), 0));
        assert!(!met(&longer, &format!("m.{longer}"), 0));
        assert!(!met("a", &format!("m.a.{}", "n".repeat(PATH_BYTES_MAX)), 0));
        // "m.a." is what the path has in common with the one before.
        assert!(met("a", "m.a.b", 0) && !met("a", "m.a.b", 4) && met("a.b", "m.a.b", 4));
        assert!(met("a.b", "m.a.b", 5) && !met("a.b", "m.a.b", 6));
    }

    #[test]
    fn what_is_within_is_walked_through() {
        let open = term("a.b", "x", None);
        assert!(open.wants("a") && open.wants("a.b") && open.wants("a.b.c"));
        assert!(!open.wants("a.c") && !open.wants("a.bc"));
        assert!(!term("a.b", "x", Some(false)).wants("a.b.c"));
    }
}
