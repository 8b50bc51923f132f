//! The fields that the index knows, each by a number, and the postings of a document.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use protocol::Moment;
use query::{KIND_FIELD, Leaf, Leaves, Numeral, PATH_BYTES_MAX, UPDATED_FIELD, is_built_in, walk};
use storage::{Batch, Reader, Space, StoreError};

use crate::bounds::Bounds;
use crate::family;
use crate::record::Record;

/// Not a field: the documents that are not wholly in the index.
pub(crate) const OVERFULL: u16 = 0;
const KIND: u16 = 1;
const UPDATED: u16 = 2;
/// The number of the first field of bodies.
const FIRST: u16 = 16;

#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    numbers: BTreeMap<Box<str>, u16>,
}

impl Fields {
    pub(crate) fn open(store: &dyn Reader, space: Space) -> Result<Self, StoreError> {
        let mut numbers = BTreeMap::new();
        let (from, to) = space.range(family::FIELD);
        store.scan(&from, &to, false, &mut |key, value| {
            let number = space.rest(key).try_into().map(u16::from_be_bytes);
            if let (Ok(number), Ok(path)) = (number, std::str::from_utf8(value)) {
                numbers.insert(path.into(), number);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Self { numbers })
    }

    pub(crate) fn number(&self, path: &str) -> Option<u16> {
        match path {
            KIND_FIELD => Some(KIND),
            UPDATED_FIELD => Some(UPDATED),
            _ => self.numbers.get(path).copied(),
        }
    }

    /// The fields that lie within an object at that path, each by its path from there.
    pub(crate) fn within(&self, path: &str) -> impl Iterator<Item = (&str, u16)> {
        let from = format!("{path}.");
        // The character after the dot.
        let to = format!("{path}/");
        let length = from.len();
        let range = (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()));
        let found = self.numbers.range::<str, _>(range);
        found.map(move |(path, number)| (&path[length..], *number))
    }

    pub(crate) fn count(&self) -> usize {
        self.numbers.len()
    }

    fn learn(&mut self, path: &str, max: usize, space: Space, batch: &mut Batch) -> Option<u16> {
        if let Some(&number) = self.numbers.get(path) {
            return Some(number);
        }
        if self.numbers.len() >= max {
            return None;
        }
        let number = FIRST + u16::try_from(self.numbers.len()).expect("their bound fits");
        batch.put(space.key(family::FIELD, &number.to_be_bytes()), path);
        self.numbers.insert(path.into(), number);
        Some(number)
    }
}

/// The postings of a document, without its link: family, field and value, sorted, none twice.
pub(crate) fn postings(
    fields: &mut Fields,
    bounds: Bounds,
    space: Space,
    batch: &mut Batch,
    record: &Record<'_>,
) -> Vec<Vec<u8>> {
    let family = if record.is_deleted() { family::DEAD } else { family::POSTING };
    let mut found = Found {
        postings: vec![posting(family, KIND, Leaf::Text(record.kind))],
        fields,
        bounds,
        space,
        batch,
        is_overfull: false,
    };
    if !record.is_deleted() {
        found.postings.push(posting(family, UPDATED, moment(record.updated)));
        walk(record.body, &mut found);
        if found.is_overfull {
            found.postings.truncate(2);
            found.postings.push(beginning(family, OVERFULL, 0));
        }
    }
    let mut postings = found.postings;
    postings.sort_unstable();
    postings.dedup();
    postings
}

/// The beginning of the postings of a field; `more` is how many bytes will follow.
pub(crate) fn beginning(family: u8, field: u16, more: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + more);
    bytes.push(family);
    bytes.extend_from_slice(&field.to_be_bytes());
    bytes
}

fn posting(family: u8, field: u16, leaf: Leaf<'_>) -> Vec<u8> {
    let mut posting = beginning(family, field, 24);
    leaf.encode(&mut posting);
    posting
}

fn moment(moment: Moment) -> Leaf<'static> {
    Leaf::Number(Numeral::Natural(moment.0))
}

struct Found<'f> {
    postings: Vec<Vec<u8>>,
    fields: &'f mut Fields,
    bounds: Bounds,
    space: Space,
    batch: &'f mut Batch,
    is_overfull: bool,
}

impl Leaves for Found<'_> {
    fn wants(&self, path: &str) -> bool {
        !self.is_overfull && !is_built_in(path)
    }

    fn take(&mut self, path: &str, leaf: Leaf<'_>) {
        // A field within an object is found by the object's name, too: whatever of it is not in the
        // index must be looked for in the document.
        let is_inner = path.contains('.');
        if path.len() > PATH_BYTES_MAX {
            self.is_overfull |= is_inner;
            return;
        }
        if self.postings.len() > self.bounds.leaves {
            self.is_overfull = true;
            return;
        }
        let fields_max = self.bounds.fields;
        if let Some(field) = self.fields.learn(path, fields_max, self.space, self.batch) {
            self.postings.push(posting(family::POSTING, field, leaf));
        } else {
            self.is_overfull |= is_inner;
        }
    }
}
