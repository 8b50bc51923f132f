//! What a query says about where its documents are found in the index.
//!
//! A [`Constraint`] names postings (or links) such that every document that meets a clause is
//! under at least one of them. It only proposes documents: each is looked at before it is a hit.

use crate::ordered::{
    Leaf, TAG_BOOLEAN, TAG_NUMBER, TAG_TEXT, TEXT_BYTES_MAX, after_all_with, encode_text_prefix,
    is_cut,
};
use crate::predicate::{Limit, Predicate, literal_beginning};

/// The field that is the key of the documents themselves.
pub(crate) const LINK_FIELD: &str = "documentSelfLink";
pub const KIND_FIELD: &str = "documentKind";
pub const UPDATED_FIELD: &str = "documentUpdateTimeMicros";

/// All documents that meet a clause are among these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraint {
    pub atoms: Vec<Atom>,
    /// And all these meet it.
    pub(crate) is_exact: bool,
}

/// A set of documents that the store can list.
#[derive(Clone, Debug, PartialEq)]
pub enum Atom {
    Link(String),
    LinkPrefix(String),
    /// Those with a value in `[from, to)` at that path, by the encodings of `ordered`.
    Values {
        path: String,
        from: Vec<u8>,
        to: Vec<u8>,
        /// It is a single value, so its postings are in order of links.
        is_single: bool,
    },
}

impl Constraint {
    /// For a predicate on a field; `None` if the index is no help. `paths` are all the paths that
    /// the field's name may stand for.
    pub(crate) fn new(paths: &[String], predicate: &Predicate) -> Option<Self> {
        if let [path] = paths
            && path == LINK_FIELD
        {
            return Self::of_links(predicate);
        }
        let (ranges, is_exact) = ranges(predicate);
        let mut atoms = Vec::new();
        for path in paths {
            if is_built_in(path) && path != KIND_FIELD && path != UPDATED_FIELD {
                return None;
            }
            atoms.extend(ranges.iter().map(|range| Atom::Values {
                path: path.clone(),
                from: range.from.clone(),
                to: range.to.clone(),
                is_single: range.is_single,
            }));
        }
        Some(Self { atoms, is_exact })
    }

    fn of_links(predicate: &Predicate) -> Option<Self> {
        let (atom, is_exact) = match predicate {
            Predicate::Equal { text, .. } => (Atom::Link(text.clone()), true),
            Predicate::Prefix(prefix) => (Atom::LinkPrefix(prefix.clone()), true),
            Predicate::Wildcard(tokens) => (Atom::LinkPrefix(literal_beginning(tokens)), false),
            Predicate::Present => (Atom::LinkPrefix(String::new()), true),
            Predicate::Phrase(_) | Predicate::Range { .. } => return None,
        };
        Some(Self { atoms: vec![atom], is_exact })
    }

    /// The beginning that all links have, if that is all it says.
    pub fn link_prefix(&self) -> Option<&str> {
        match self.atoms.as_slice() {
            [Atom::LinkPrefix(prefix)] => Some(prefix),
            _ => None,
        }
    }

    /// It is about the kind, which all versions of a document share (mostly), or about links.
    pub fn holds_for_all_versions(&self) -> bool {
        self.atoms.iter().all(|atom| match atom {
            Atom::Link(_) | Atom::LinkPrefix(_) => true,
            Atom::Values { path, .. } => path == KIND_FIELD,
        })
    }
}

struct Range {
    from: Vec<u8>,
    to: Vec<u8>,
    is_single: bool,
}

impl Range {
    fn single(leaf: Leaf<'_>) -> Self {
        let from = leaf.encoded();
        Self { to: after_all_with(&from), from, is_single: true }
    }

    fn beginning(from: Vec<u8>) -> Self {
        Self { to: after_all_with(&from), from, is_single: false }
    }
}

/// Where the values that meet a predicate are, and whether all that is there meets it.
fn ranges(predicate: &Predicate) -> (Vec<Range>, bool) {
    let text_beginning = |text: &str| {
        let mut from = Vec::with_capacity(text.len() + 1);
        encode_text_prefix(text, &mut from);
        Range::beginning(from)
    };
    match predicate {
        Predicate::Equal { text, number, boolean } => {
            let mut ranges = vec![Range::single(Leaf::Text(text))];
            ranges.extend(number.map(|number| Range::single(Leaf::Number(number))));
            ranges.extend(boolean.map(|boolean| Range::single(Leaf::Boolean(boolean))));
            (ranges, !is_cut(text))
        }
        Predicate::Present => {
            let all = Range { from: vec![TAG_BOOLEAN], to: vec![TAG_TEXT + 1], is_single: false };
            (vec![all], true)
        }
        Predicate::Prefix(prefix) => (vec![text_beginning(prefix)], prefix.len() <= TEXT_BYTES_MAX),
        Predicate::Wildcard(tokens) => (vec![text_beginning(&literal_beginning(tokens))], false),
        Predicate::Phrase(_) => (vec![text_beginning("")], false),
        Predicate::Range { from, to } => {
            let end = |limit: &Option<Limit>, past_when_inclusive: bool, none: u8| match limit {
                None => vec![none],
                Some(limit) => {
                    let at = Leaf::Number(limit.number).encoded();
                    // Up to and with it, or from behind it: past all postings of the number.
                    if limit.is_inclusive == past_when_inclusive { after_all_with(&at) } else { at }
                }
            };
            let from = end(from, false, TAG_NUMBER);
            let to = end(to, true, TAG_NUMBER + 1);
            (vec![Range { from, to, is_single: false }], true)
        }
    }
}

/// A field that the system keeps: it is not in the body.
pub fn is_built_in(path: &str) -> bool {
    protocol::BUILT_IN_FIELDS.contains(&path)
}
