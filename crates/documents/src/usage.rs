//! What a partition takes in the state store, by kind and by what it is for.

use std::collections::BTreeMap;

use protocol::links;
use storage::StoreError;

use crate::family::{
    AUTO_RECORD, DEAD, DIRTY, FIELD, HEAD, INDEX_STATE, POSTING, USER_RECORD, USER_RECORD_TIME,
    VERSION,
};
use crate::record::is_living;

/// Things of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub count: u64,
    /// Of keys and values, before the store packs them.
    pub bytes: u64,
}

/// The documents of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindUsage {
    /// Latest versions of documents that are there.
    pub latest: Amount,
    /// Retained versions before the latest.
    pub versions: Amount,
    /// What is left of deleted documents, so that a name is not taken again by mistake.
    pub tombstones: Amount,
}

/// All that partitions have in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By factory.
    pub kinds: BTreeMap<String, KindUsage>,
    /// What was answered to requests with a key, so that repeating them does nothing.
    pub request_keys: Amount,
    /// What queries look things up in; each replica makes its own.
    pub index: Amount,
    /// Tasks in progress, expirations, names, fences.
    pub other: Amount,
}

impl Amount {
    pub fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += u64::try_from(bytes).expect("a length fits");
    }
}

impl Usage {
    /// Counts a pair of a partition; the key begins with its family.
    ///
    /// # Errors
    /// When it is a document of a later format.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let bytes = key.len() + value.len();
        let Some((family, rest)) = key.split_first() else { return Ok(()) };
        match *family {
            HEAD if is_living(key, value)? => self.kind(rest).latest.add(bytes),
            HEAD => self.kind(rest).tombstones.add(bytes),
            // Behind the link is a byte 0, which is in no link.
            VERSION => self.kind(rest).versions.add(bytes),
            AUTO_RECORD | USER_RECORD | USER_RECORD_TIME => self.request_keys.add(bytes),
            POSTING | DEAD | DIRTY | FIELD | INDEX_STATE => self.index.add(bytes),
            _ => self.other.add(bytes),
        }
        Ok(())
    }

    fn kind(&mut self, rest: &[u8]) -> &mut KindUsage {
        let link = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        let link = std::str::from_utf8(link).unwrap_or_default();
        let factory = links::split(link).map_or(link, |(factory, _)| factory);
        if !self.kinds.contains_key(factory) {
            self.kinds.insert(factory.to_owned(), KindUsage::default());
        }
        self.kinds.get_mut(factory).expect("it is there by now")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{TASK, version_rest};

    fn key(family: u8, rest: &[u8]) -> Vec<u8> {
        [&[family], rest].concat()
    }

    #[test]
    fn each_pair_counts_for_its_kind_and_purpose() {
        let mut usage = Usage::default();
        usage.add(&key(HEAD, b"/a/x"), &[0, 1]).unwrap();
        usage.add(&key(HEAD, b"/a/y"), &[3, 1, 1]).unwrap();
        usage.add(&key(HEAD, b"/b/x"), &[2]).unwrap();
        usage.add(&key(VERSION, &version_rest("/a/x", 7)), &[0; 10]).unwrap();
        usage.add(&key(VERSION, &version_rest("/a/x", 0)), &[0; 10]).unwrap();
        usage.add(&key(USER_RECORD, b"k"), &[0; 3]).unwrap();
        usage.add(&key(POSTING, b"k"), &[]).unwrap();
        usage.add(&key(TASK, b"/b/x"), &[]).unwrap();
        let amount = |count, bytes| Amount { count, bytes };
        let a = KindUsage {
            latest: amount(1, 7),
            versions: amount(2, 5 + 1 + 2 + 10 + 5 + 1 + 1 + 10),
            tombstones: amount(1, 8),
        };
        assert_eq!(usage.kinds["/a"], a);
        assert_eq!(usage.kinds["/b"].latest, amount(1, 6));
        assert_eq!(usage.kinds.len(), 2);
        assert_eq!(usage.request_keys, amount(1, 5));
        assert_eq!(usage.index, amount(1, 2));
        assert_eq!(usage.other, amount(1, 5));
        let later = usage.add(&key(HEAD, b"/a/z"), &[0b1000_0000]);
        assert!(later.is_err(), "a later format is not counted as something else");
    }
}
