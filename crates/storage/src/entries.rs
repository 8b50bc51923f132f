//! A map by keys that begin alike, in their order.
//!
//! The links of one factory differ after a dozen bytes or two, so comparing them from their first
//! byte on, each at another place in memory, is most of what a search in an ordinary map costs.
//! Here each key has the eight bytes after what all have in common beside it, as a number.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

/// A map by keys that begin alike.
#[derive(Clone, Debug)]
pub(crate) struct Entries<V> {
    /// What all keys begin with.
    common: Vec<u8>,
    /// **Invariant:** every key begins with `common`, and its head is what comes after that.
    map: BTreeMap<Key<'static>, V>,
}

/// A key. Of keys that begin alike, the order of the heads and then of the bytes is the order of
/// the bytes: heads differ only where the bytes do, and a key that ends sooner comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<'a> {
    head: u64,
    bytes: Cow<'a, [u8]>,
}

/// Where a bound lies.
enum Place<'a> {
    BeforeAll,
    Among(Key<'a>),
    AfterAll,
}

impl<'a> Key<'a> {
    fn of(bytes: Cow<'a, [u8]>, common: usize) -> Self {
        let rest = &bytes[common..];
        let mut head = [0; 8];
        let length = rest.len().min(head.len());
        head[..length].copy_from_slice(&rest[..length]);
        Self { head: u64::from_be_bytes(head), bytes }
    }
}

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self { common: Vec::new(), map: BTreeMap::new() }
    }
}

impl<V> Entries<V> {
    /// The place of a key.
    pub(crate) fn entry(&mut self, key: Vec<u8>) -> Entry<'_, Key<'static>, V> {
        if self.map.is_empty() {
            self.common.clone_from(&key);
        } else if !key.starts_with(&self.common) {
            self.shorten(&key);
        }
        self.map.entry(Key::of(Cow::Owned(key), self.common.len()))
    }

    /// Makes room for a key that has less in common with the others. That happens at most once
    /// for each byte of the first key, and mostly while there are few keys.
    fn shorten(&mut self, key: &[u8]) {
        let pairs = self.common.iter().zip(key);
        self.common.truncate(pairs.take_while(|(one, other)| one == other).count());
        let common = self.common.len();
        let all = std::mem::take(&mut self.map).into_iter();
        self.map = all.map(|(key, value)| (Key::of(key.bytes, common), value)).collect();
    }

    pub(crate) fn get<'a>(&'a self, key: &'a [u8]) -> Option<&'a V> {
        match self.place(key) {
            Place::Among(key) => self.map.get(&key),
            Place::BeforeAll | Place::AfterAll => None,
        }
    }

    /// The keys in `[from, to)`, which must not be empty.
    pub(crate) fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], &'a V)> {
        let map: &BTreeMap<Key<'a>, V> = &self.map;
        let from = match self.place(from) {
            Place::BeforeAll => Some(Bound::Unbounded),
            Place::Among(key) => Some(Bound::Included(key)),
            Place::AfterAll => None,
        };
        let to = match self.place(to) {
            Place::BeforeAll => None,
            Place::Among(key) => Some(Bound::Excluded(key)),
            Place::AfterAll => Some(Bound::Unbounded),
        };
        let range = from.zip(to).map(|bounds| map.range(bounds));
        range.into_iter().flatten().map(|(key, value)| (&*key.bytes, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.map.iter().map(|(key, value)| (&*key.bytes, value))
    }

    fn place<'a>(&self, bound: &'a [u8]) -> Place<'a> {
        let shared = self.common.len().min(bound.len());
        match bound[..shared].cmp(&self.common[..shared]) {
            Ordering::Less => Place::BeforeAll,
            Ordering::Greater => Place::AfterAll,
            Ordering::Equal if shared < self.common.len() => Place::BeforeAll,
            Ordering::Equal => Place::Among(Key::of(Cow::Borrowed(bound), shared)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys with much or little in common, some of them with zeros and some the beginning of
    /// others.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let rest = prop::collection::vec(0..3_u8, 0..12);
        (prop::sample::select(vec!["", "a", "aaaa", "aaaaaaaa", "aab"]), rest)
            .prop_map(|(start, rest)| [start.as_bytes(), &rest].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_has_the_order_of_the_keys(
            keys in prop::collection::vec((key(), any::<bool>()), 0..40),
            bounds in prop::collection::vec((key(), key()), 10),
        ) {
            let (mut entries, mut model) = (Entries::default(), BTreeMap::new());
            for (number, (key, stays)) in keys.into_iter().enumerate() {
                match (entries.entry(key.clone()), stays) {
                    (Entry::Occupied(place), false) => drop(place.remove()),
                    (Entry::Vacant(place), false) => drop(place.into_key()),
                    (place, true) => drop(place.insert_entry(number)),
                }
                if stays { model.insert(key, number) } else { model.remove(&key) };
                prop_assert!(entries.iter().eq(model.iter().map(|(key, value)| (&key[..], value))));
            }
            for (from, to) in bounds.into_iter().filter(|(from, to)| from < to) {
                prop_assert_eq!(entries.get(&from), model.get(&from));
                let expected = model.range(from.clone()..to.clone());
                let expected = expected.map(|(key, it)| (&key[..], it));
                prop_assert!(entries.range(&from, &to).eq(expected.clone()));
                prop_assert!(entries.range(&from, &to).rev().eq(expected.rev()));
            }
        }
    }
}
