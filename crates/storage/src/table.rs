//! The last values of some keys, in memory and in order.
//!
//! Most of what a node writes is soon replaced or deleted. What comes and goes within one table
//! never reaches the disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::entries::Entries;
use crate::state::{Batch, Write};

/// What an entry takes beside its key and its value, about: its place in the map and what the
/// allocator adds.
const ENTRY_BYTES: usize = 96;

/// What was written to some keys, the last of it.
///
/// The keys that begin alike (one family of one group, see `space`) have a map of their own. So
/// the maps stay small, and what is read and written together lies together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    parts: BTreeMap<Part, Entries<Change>>,
    bytes: usize,
}

/// What became of a key.
#[derive(Clone, Debug)]
enum Change {
    Value(Box<[u8]>),
    /// The same, and there is nothing of the key below this table.
    New(Box<[u8]>),
    Deleted,
}

/// What all keys of one map begin with, padded with zeros, and how many bytes it is, as one number:
/// comparing numbers is faster. The order of parts is the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part(u128);

impl Part {
    /// Group, generation and family.
    const BYTES: usize = 9;

    fn of(key: &[u8]) -> Self {
        let length = key.len().min(Self::BYTES);
        let mut first = [0; 16];
        first[..length].copy_from_slice(&key[..length]);
        first[15] = u8::try_from(length).expect("it is not more than a handful");
        Self(u128::from_be_bytes(first))
    }
}

impl Change {
    fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Value(value) | Self::New(value) => Some(value),
            Self::Deleted => None,
        }
    }
}

impl Table {
    /// How many bytes it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(crate) fn write(&mut self, batch: Batch) {
        for (key, write) in batch.writes {
            let entries = self.parts.entry(Part::of(&key)).or_default();
            let key_bytes = ENTRY_BYTES + key.len();
            self.bytes += key_bytes + write.value().map_or(0, <[u8]>::len);
            match entries.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(Change::first(write));
                }
                Entry::Occupied(mut place) => {
                    let former = place.get_mut();
                    self.bytes -= key_bytes + former.value().map_or(0, <[u8]>::len);
                    if matches!(former, Change::New(_)) && write == Write::Delete {
                        self.bytes -= key_bytes;
                        place.remove();
                    } else {
                        former.replace(write);
                    }
                }
            }
        }
    }

    /// What was last written to the key, if anything was: its value, or `None` for a deletion.
    pub(crate) fn get<'a>(&'a self, key: &'a [u8]) -> Option<Option<&'a [u8]>> {
        self.parts.get(&Part::of(key))?.get(key).map(Change::value)
    }

    /// The keys in `[from, to)`, which must not be empty, with what was last written to them.
    pub(crate) fn range<'a>(
        &'a self,
        from: &'a [u8],
        to: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let parts = self.parts.range(Part::of(from)..=Part::of(to));
        parts
            .flat_map(move |(_, entries)| entries.range(from, to))
            .map(|(key, change)| (key, change.value()))
    }

    /// All its keys in order, with what was last written to them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.parts.values().flat_map(Entries::iter).map(|(key, change)| (key, change.value()))
    }
}

impl Change {
    fn first(write: Write) -> Self {
        match write {
            Write::Put(value) => Self::Value(value.into_boxed_slice()),
            Write::PutNew(value) => Self::New(value.into_boxed_slice()),
            Write::Delete => Self::Deleted,
        }
    }

    /// What is below the table stays what it was, whatever is written.
    fn replace(&mut self, write: Write) {
        let is_new = matches!(self, Self::New(_));
        *self = match write {
            Write::Put(value) | Write::PutNew(value) if is_new => {
                Self::New(value.into_boxed_slice())
            }
            Write::Put(value) | Write::PutNew(value) => Self::Value(value.into_boxed_slice()),
            Write::Delete => Self::Deleted,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a=1` puts, `+a=1` puts what is new, `-a` deletes.
    fn table(text: &str) -> Table {
        let mut table = Table::default();
        write(&mut table, text);
        table
    }

    fn write(table: &mut Table, text: &str) {
        let mut batch = Batch::new();
        for word in text.split_whitespace() {
            match (word.strip_prefix('-'), word.strip_prefix('+')) {
                (Some(key), _) => batch.delete(key),
                (_, Some(pair)) => {
                    let (key, value) = pair.split_once('=').unwrap();
                    batch.put_new(key, value);
                }
                (None, None) => {
                    let (key, value) = word.split_once('=').unwrap();
                    batch.put(key, value);
                }
            }
        }
        table.write(batch);
    }

    fn shown<'a>(pairs: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let words = pairs.map(|(key, value)| match value {
            Some(value) => format!("{}={}", text(key), text(value)),
            None => format!("-{}", text(key)),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn bytes(table: &Table) -> usize {
        let of = |(key, value): (&[u8], Option<&[u8]>)| {
            ENTRY_BYTES + key.len() + value.map_or(0, <[u8]>::len)
        };
        table.iter().map(of).sum()
    }

    #[test]
    fn what_was_new_leaves_nothing_when_it_is_deleted() {
        let table = table("+a=1 -a +b=1 b=22 -b c=1 -c -d +d=1 -d +e=1 e=2 +f=1");
        assert_eq!(shown(table.iter()), "-c -d e=2 f=1");
        assert_eq!(table.get(b"a"), None);
        assert_eq!(table.get(b"c"), Some(None));
        assert_eq!(table.get(b"e"), Some(Some(&b"2"[..])));
        assert_eq!(table.bytes(), bytes(&table));
    }

    #[test]
    fn a_table_from_which_all_went_is_empty() {
        let mut table = table("+a=1 +abcdefghijkl=2");
        write(&mut table, "-abcdefghijkl -a");
        assert!(table.is_empty());
        assert_eq!(shown(table.iter()), "");
    }

    #[test]
    fn a_range_goes_over_the_borders_of_parts_both_ways() {
        let keys = ["12345678", "123456789", "12345678900", "1234567891", "12345678A", "2", "20"];
        let text = keys.map(|key| format!("{key}=v")).join(" ");
        let table = table(&text);
        for (first, from) in keys.iter().enumerate() {
            for (last, to) in keys.iter().enumerate().skip(first + 1) {
                let expected: Vec<&str> = keys[first..last].to_vec();
                let found = |pairs: Vec<(&[u8], _)>| -> Vec<String> {
                    pairs.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
                };
                let range = || table.range(from.as_bytes(), to.as_bytes());
                assert_eq!(found(range().collect()), expected);
                let mut backwards = found(range().rev().collect());
                backwards.reverse();
                assert_eq!(backwards, expected);
            }
        }
    }
}
