//! The kinds and owners of documents, each written once and named by a number at rest: a kind is
//! easily longer than the fields of a small document.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use storage::{Batch, Reader, Space, StoreError};

use crate::family;

/// How many names get a number. Those that come later are written out with every document.
const NAMES_MAX: usize = 1024;

/// Longer names get no number.
const NAME_BYTES_MAX: usize = 256;

#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    texts: Vec<Arc<str>>,
    numbers: BTreeMap<Arc<str>, u16>,
}

impl Names {
    pub(crate) fn open(store: &dyn Reader, space: Space) -> Result<Self, StoreError> {
        let mut names = Self::default();
        let (from, to) = space.range(family::NAME);
        let mut broken = false;
        store.scan(&from, &to, false, &mut |key, value| {
            let number = u16::try_from(names.texts.len()).expect("NAMES_MAX fits");
            match std::str::from_utf8(value) {
                Ok(text) if space.rest(key) == number.to_be_bytes() => names.insert(number, text),
                _ => broken = true,
            }
            ControlFlow::Continue(())
        })?;
        if broken {
            return Err(StoreError::failed(format!("group {} has broken names", space.group)));
        }
        Ok(names)
    }

    /// Where the names are not known: each is its number, see [`Self::number_of_unknown`].
    pub(crate) fn unknown() -> Self {
        let mut names = Self::default();
        for number in 0..NAMES_MAX {
            let number = u16::try_from(number).expect("NAMES_MAX fits");
            names.insert(number, &format!("\0{number}"));
        }
        names
    }

    /// The number of a name that is not known. A name that is written out has no byte 0.
    pub(crate) fn number_of_unknown(name: &str) -> Option<usize> {
        name.strip_prefix('\0')?.parse().ok()
    }

    /// Gives the name a number, if it has none and there is one left.
    pub(crate) fn learn(&mut self, text: &str, space: Space, batch: &mut Batch) {
        let full = self.texts.len() >= NAMES_MAX || text.len() > NAME_BYTES_MAX;
        if full || self.numbers.contains_key(text) {
            return;
        }
        let number = u16::try_from(self.texts.len()).expect("NAMES_MAX fits");
        batch.put(space.key(family::NAME, &number.to_be_bytes()), text);
        self.insert(number, text);
    }

    pub(crate) fn number(&self, text: &str) -> Option<u16> {
        self.numbers.get(text).copied()
    }

    pub(crate) fn text(&self, number: usize) -> Option<&str> {
        self.texts.get(number).map(|text| &**text)
    }

    fn insert(&mut self, number: u16, text: &str) {
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
    }
}

#[cfg(test)]
mod tests {
    use protocol::GroupId;
    use storage::{MemoryStore, StateStore};

    use super::*;

    #[test]
    fn names_are_numbered_as_they_come_until_there_are_too_many() {
        let mut store = MemoryStore::new();
        let (space, _) = Space::open(&store, GroupId(1)).unwrap();
        let mut names = Names::default();
        let mut batch = Batch::new();
        for number in 0..NAMES_MAX + 10 {
            names.learn(&format!("name-{}", number % (NAMES_MAX + 1)), space, &mut batch);
        }
        names.learn(&"x".repeat(NAME_BYTES_MAX + 1), space, &mut batch);
        assert_eq!(batch.len(), NAMES_MAX);
        store.write(batch).unwrap();
        let opened = Names::open(&store, space).unwrap();
        assert_eq!(opened.texts, names.texts);
        assert_eq!(opened.number("name-300"), Some(300));
        assert_eq!(opened.text(300), Some("name-300"));
        assert_eq!(opened.number(&format!("name-{NAMES_MAX}")), None);
    }
}
