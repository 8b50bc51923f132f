//! What a query says about where its documents are found in the index.
//!
//! A [`Constraint`] names postings (or links) such that every document that meets a clause is
//! under at least one of them. It only proposes documents: each is looked at before it is a hit.

use crate::ordered::{
    Leaf, Numeral, TAG_BOOLEAN, TAG_NUMBER, TAG_TEXT, TEXT_BYTES_MAX, after_all_with,
    encode_text_prefix, encoded_number, is_cut,
};
use crate::paths::is_built_in;
use crate::predicate::{Limit, Predicate, TextLimit};
use crate::term::Term;

/// The field that is the key of the documents themselves.
pub(crate) const LINK_FIELD: &str = "documentSelfLink";
pub const KIND_FIELD: &str = "documentKind";
pub const UPDATED_FIELD: &str = "documentUpdateTimeMicros";

/// A term that compares with more values than this does not lead to its documents by the index.
const RANGES_MAX: usize = 256;

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
        /// And those with such a value, or with the name of such a field, within an object there.
        is_within: bool,
    },
}

impl Constraint {
    /// For a term; `None` if the index is no help.
    pub(crate) fn new(term: &Term) -> Option<Self> {
        let Term { paths, is_within, predicate } = term;
        if paths.is_empty() {
            // The index has no posting for any field whatever.
            return None;
        }
        if let [path] = paths.as_slice()
            && path == LINK_FIELD
        {
            return Self::of_links(predicate);
        }
        let (ranges, is_exact) = ranges(predicate);
        if ranges.len() > RANGES_MAX {
            return None;
        }
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
                is_within: *is_within && !is_built_in(path),
            }));
        }
        Some(Self { atoms, is_exact })
    }

    fn of_links(predicate: &Predicate) -> Option<Self> {
        if let Predicate::OneOf { texts, .. } = predicate {
            let atoms = texts.iter().map(|text| Atom::Link(text.clone())).collect();
            return Some(Self { atoms, is_exact: true });
        }
        let (atom, is_exact) = match predicate {
            Predicate::Equal { text, .. } => (Atom::Link(text.clone()), true),
            Predicate::Prefix(prefix) => (Atom::LinkPrefix(prefix.clone()), true),
            Predicate::Wildcard(pattern) => (Atom::LinkPrefix(pattern.literal_beginning()), false),
            Predicate::Present => (Atom::LinkPrefix(String::new()), true),
            Predicate::Phrase(_)
            | Predicate::Range { .. }
            | Predicate::TextRange { .. }
            | Predicate::OneOf { .. } => return None,
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
            ranges
                .extend(number.as_ref().map(|_| Range::single(Leaf::Number(Numeral::Text(text)))));
            ranges.extend(boolean.map(|boolean| Range::single(Leaf::Boolean(boolean))));
            let is_shared = number.as_ref().is_some_and(|number| number.key.is_shared());
            (ranges, !is_cut(text) && !is_shared)
        }
        Predicate::OneOf { texts, numbers, booleans } => {
            let texts = texts.iter().map(|text| (Range::single(Leaf::Text(text)), !is_cut(text)));
            let numbers = numbers.iter().map(|number| {
                let from = encoded_number(number.key);
                let range = Range { to: after_all_with(&from), from, is_single: true };
                (range, !number.key.is_shared())
            });
            let booleans =
                booleans.iter().map(|boolean| (Range::single(Leaf::Boolean(*boolean)), true));
            let (ranges, exact): (Vec<Range>, Vec<bool>) =
                texts.chain(numbers).chain(booleans).unzip();
            (ranges, exact.into_iter().all(|is_exact| is_exact))
        }
        Predicate::Present => {
            let all = Range { from: vec![TAG_BOOLEAN], to: vec![TAG_TEXT + 1], is_single: false };
            (vec![all], true)
        }
        Predicate::Prefix(prefix) => (vec![text_beginning(prefix)], prefix.len() <= TEXT_BYTES_MAX),
        Predicate::Wildcard(pattern) => (vec![text_beginning(&pattern.literal_beginning())], false),
        Predicate::Phrase(_) => (vec![text_beginning("")], false),
        Predicate::Range { from, to } => {
            let end = |limit: &Option<Limit>| {
                limit.as_ref().map(|limit| End {
                    at: encoded_number(limit.number.key),
                    is_inclusive: limit.is_inclusive,
                    is_shared: limit.number.key.is_shared(),
                })
            };
            between(end(from), end(to), TAG_NUMBER)
        }
        Predicate::TextRange { from, to } => {
            let end = |limit: &Option<TextLimit>| {
                limit.as_ref().map(|limit| End {
                    at: Leaf::Text(&limit.text).encoded(),
                    is_inclusive: limit.is_inclusive,
                    is_shared: is_cut(&limit.text),
                })
            };
            between(end(from), end(to), TAG_TEXT)
        }
    }
}

/// Where a range ends.
struct End {
    at: Vec<u8>,
    is_inclusive: bool,
    /// Other values have the same encoding, on both sides of the end.
    is_shared: bool,
}

/// The values of one sort from one end to another.
fn between(from: Option<End>, to: Option<End>, tag: u8) -> (Vec<Range>, bool) {
    let is_exact = [&from, &to].iter().all(|end| !end.as_ref().is_some_and(|it| it.is_shared));
    // Up to and with it, or from behind it: past all postings of the value.
    let from = from.map_or_else(
        || vec![tag],
        |end| match end.is_inclusive || end.is_shared {
            true => end.at,
            false => after_all_with(&end.at),
        },
    );
    let to = to.map_or_else(
        || vec![tag + 1],
        |end| match end.is_inclusive || end.is_shared {
            true => after_all_with(&end.at),
            false => end.at,
        },
    );
    (vec![Range { from, to, is_single: false }], is_exact)
}
