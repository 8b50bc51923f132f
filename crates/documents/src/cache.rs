//! The latest versions in memory, up to a number of bytes: those that were not used since the
//! hand last passed go first.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use protocol::hash::hash;
use protocol::{Document, Position};

/// How many bytes of documents a partition keeps in memory, unless told otherwise.
pub(crate) const CACHE_BYTES: usize = 4 << 20;

/// What an entry takes beside its texts, about.
const ENTRY_BYTES: usize = 320;

/// The latest version of a document and what the partition keeps with it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) document: Arc<Document>,
    /// The oldest version that is retained.
    pub(crate) oldest: u64,
    /// A task that is in progress.
    pub(crate) task: bool,
    /// Where in the log it was written.
    pub(crate) position: Position,
}

#[derive(Debug)]
struct Entry {
    link: Arc<str>,
    /// `None`: there is no such document.
    head: Option<Head>,
    used: bool,
}

/// Keyed by a hash of the link, as comparing numbers is faster than comparing links that begin
/// alike. Two links of one hash take turns.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    bytes_max: usize,
    /// Where the search for entries to drop goes on.
    hand: u64,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, bytes_max, hand: 0 }
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict();
    }

    /// `Some(None)`: it is known that there is no such document.
    pub(crate) fn get(&mut self, link: &str) -> Option<Option<Head>> {
        let entry =
            self.entries.get_mut(&hash(link.as_bytes())).filter(|entry| &*entry.link == link)?;
        entry.used = true;
        Some(entry.head.clone())
    }

    pub(crate) fn put(&mut self, link: &str, head: Option<Head>) {
        let hash = hash(link.as_bytes());
        self.bytes += bytes_of(link, head.as_ref());
        match self.entries.get_mut(&hash) {
            Some(entry) => {
                self.bytes -= bytes_of(&entry.link, entry.head.as_ref());
                if &*entry.link != link {
                    entry.link = link.into();
                }
                entry.head = head;
            }
            None => {
                self.entries.insert(hash, Entry { link: link.into(), head, used: false });
            }
        }
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let next = self.entries.range_mut((Bound::Excluded(self.hand), Bound::Unbounded));
            let mut unused = None;
            for (&hash, entry) in next {
                if !entry.used {
                    unused = Some(hash);
                    break;
                }
                entry.used = false;
            }
            // Past the last one the hand goes on at the first, whose hash may be 0.
            let Some(hash) = unused.or_else(|| self.unused_first()) else { return };
            self.hand = hash;
            if let Some(entry) = self.entries.remove(&hash) {
                self.bytes -= bytes_of(&entry.link, entry.head.as_ref());
            }
        }
    }

    fn unused_first(&self) -> Option<u64> {
        let unused = self.entries.iter().find(|(_, entry)| !entry.used);
        unused.or_else(|| self.entries.iter().next()).map(|(&hash, _)| hash)
    }
}

fn bytes_of(link: &str, head: Option<&Head>) -> usize {
    let document = head.map_or(0, |head| {
        let document = &head.document;
        document.link.len() + document.kind.len() + document.owner.len() + document.body.len()
    });
    ENTRY_BYTES + link.len() + document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_used() {
        let mut cache = Cache::new(10 * (ENTRY_BYTES + 8));
        for number in 0..100 {
            cache.put(&format!("/{number:07}"), None);
            cache.put("/hot-one", None);
            assert!(cache.get("/hot-one").is_some(), "{number}");
            assert!(cache.bytes <= cache.bytes_max);
            assert_eq!(cache.bytes, cache.entries.len() * (ENTRY_BYTES + 8));
        }
        assert!(cache.entries.len() >= 9);
        cache.set_bytes_max(0);
        assert!(cache.entries.is_empty() && cache.bytes == 0);
    }
}
