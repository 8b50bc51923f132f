//! What a query finds in one partition, where it goes on, and how partitions' pages become one.

use bytes::Bytes;
use protocol::{Code, Moment, Problem, time};
use serde::{Deserialize, Serialize};

use crate::groups::Groups;

/// A document (or one version of it) that was found. Hits are in ascending order of sort key,
/// link and version, whatever order was asked for: the sort key sees to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hit {
    /// Compares as the documents are to be sorted, downward sorts and missing values included.
    pub sort_key: Vec<u8>,
    pub link: String,
    pub version: u64,
    /// The whole document as JSON, when the contents were asked for.
    pub document: Option<Bytes>,
    /// The links in some of its fields, when they were asked for: the name of the field, and the
    /// link. An empty one says that there are too many.
    pub selected: Vec<(String, String)>,
}

/// The hits of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// At most as many as were asked for; none for `COUNT`.
    pub hits: Vec<Hit>,
    /// How many there are in all, for `COUNT`; else the number of hits in this page.
    pub count: u64,
    /// There are hits after these.
    pub more: bool,
    /// What is to be said of all hits together, if that was asked for.
    pub groups: Option<Groups>,
    /// How it was found, if that was asked for.
    pub explained: Option<Explained>,
    /// A version that may be a hit is not kept any more, so nothing is right: the query is to be
    /// refused.
    pub forgotten: Option<Forgotten>,
}

/// A document whose versions do not go back as far as is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    pub link: String,
    /// The oldest version that is kept.
    pub version: u64,
    /// When that was written.
    pub since: Moment,
}

impl Forgotten {
    /// What is said to whoever asks.
    pub fn to_problem(&self) -> Problem {
        let Self { link, version, since } = self;
        let text = format!(
            "{link} has no version before {version} any more, and that one is of {}: ask as of that \
             time or a later one. How many versions are kept is in {link}/config",
            time::shown(*since)
        );
        Problem::new(Code::HistoryGone, text)
    }
}

/// How hits were found in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What led to the documents, in a few words.
    pub way: String,
    /// How many entries of the index were read for links.
    pub entries: u64,
    /// How many documents, and versions of them, were looked at.
    pub documents: u64,
    /// The work that was done, in bytes: of what was read and compared.
    pub bytes: u64,
    /// These numbers are told to nobody, and are zero: they include what the asker may not see.
    pub is_hidden: bool,
}

impl Explained {
    /// Adds what a further piece took.
    pub fn add(&mut self, more: &Self) {
        self.way.clone_from(&more.way);
        self.is_hidden |= more.is_hidden;
        self.entries += more.entries;
        self.documents += more.documents;
        self.bytes += more.bytes;
    }
}

impl Page {
    /// About how many bytes it takes in memory and between nodes.
    pub fn bytes(&self) -> usize {
        let hits: usize = self.hits.iter().map(Hit::bytes).sum();
        hits + self.groups.as_ref().map_or(0, Groups::bytes)
    }
}

/// The last hit of a page: the next page begins after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    pub sort_key: Vec<u8>,
    pub link: String,
    pub version: u64,
}

/// What a hit takes beside its fields of bytes.
const HIT_BYTES: usize = 96;

/// The first byte of a cursor's text, before it is put into letters.
const CURSOR_FORMAT: u8 = 1;

/// The longest text that can be a cursor; longer than any that is made here.
const CURSOR_TEXT_BYTES_MAX: usize = 32 << 10;

/// Six bits each (RFC 4648, section 5).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Cursor {
    /// For a page link: letters, digits, `-` and `_`.
    pub fn to_text(&self) -> String {
        let bytes = postcard::to_extend(self, vec![CURSOR_FORMAT])
            .expect("a cursor is made of plain data, which can always be encoded");
        let mut text = String::with_capacity(bytes.len() * 4 / 3 + 2);
        for chunk in bytes.chunks(3) {
            let mut bits = [0_u8; 4];
            bits[1..=chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes(bits);
            for sextet in 0..=chunk.len() {
                let letter = bits >> (18 - 6 * sextet) & 0x3f;
                text.push(char::from(LETTERS[usize::try_from(letter).expect("six bits fit")]));
            }
        }
        text
    }

    /// # Errors
    /// When the text is not one made by [`Cursor::to_text`].
    pub fn from_text(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::bad_request(
                "the page link is broken; take it as it came in 'nextPageLink', or run the query \
                 again",
            )
        };
        if text.len() > CURSOR_TEXT_BYTES_MAX {
            return Err(wrong());
        }
        let mut bytes = Vec::with_capacity(text.len());
        for chunk in text.as_bytes().chunks(4) {
            let mut bits = 0_u32;
            for byte in chunk {
                let letter = LETTERS.iter().position(|letter| letter == byte).ok_or_else(wrong)?;
                bits = bits << 6 | u32::try_from(letter).expect("six bits fit");
            }
            bits <<= 6 * (4 - chunk.len());
            bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
        }
        match bytes.split_first() {
            Some((&CURSOR_FORMAT, rest)) => postcard::from_bytes(rest).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl Hit {
    /// About how many bytes it takes in memory and between nodes.
    pub fn bytes(&self) -> usize {
        let document = self.document.as_ref().map_or(0, Bytes::len);
        let selected = self
            .selected
            .iter()
            .map(|(name, link)| name.len() + link.len() + size_of::<(String, String)>());
        HIT_BYTES + self.sort_key.len() + self.link.len() + document + selected.sum::<usize>()
    }

    pub fn cursor(&self) -> Cursor {
        Cursor { sort_key: self.sort_key.clone(), link: self.link.clone(), version: self.version }
    }
}

/// The first `limit` hits of all pages, and whether there are more. The pages must come from the
/// same query and cursor. Behind the last hit of a page that has `more`, others may belong before
/// what the other pages have: the hits end there.
pub fn merge(pages: Vec<Page>, limit: usize) -> (Vec<Hit>, bool) {
    let mut more = pages.iter().any(|page| page.more);
    let ends = pages.iter().filter(|page| page.more).filter_map(|page| page.hits.last());
    let end = ends.min().cloned();
    let mut hits: Vec<Hit> = Vec::with_capacity(pages.iter().map(|page| page.hits.len()).sum());
    hits.extend(pages.into_iter().flat_map(|page| page.hits));
    // Runs that are sorted are found and merged.
    hits.sort();
    if let Some(end) = end {
        hits.truncate(hits.partition_point(|hit| *hit <= end));
    }
    more |= hits.len() > limit;
    hits.truncate(limit);
    (hits, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(sort_key: &[u8], link: &str, version: u64) -> Hit {
        let (sort_key, selected) = (sort_key.to_vec(), Vec::new());
        Hit { sort_key, link: link.into(), version, document: None, selected }
    }

    #[test]
    fn a_cursor_comes_back_from_its_text() {
        for length in 0..9 {
            let sort_key = vec![0xfb; length];
            let cursor = Cursor { sort_key, link: "/a/ü".into(), version: u64::MAX };
            let text = cursor.to_text();
            assert!(text.bytes().all(|byte| LETTERS.contains(&byte)), "{text}");
            assert_eq!(Cursor::from_text(&text).unwrap(), cursor);
        }
    }

    #[test]
    fn a_text_that_is_no_cursor_is_refused() {
        let text = hit(b"k", "/a", 1).cursor().to_text();
        for wrong in ["", "A", "====", "AQ", &text[..text.len() - 2], &"A".repeat(40_000)] {
            assert!(Cursor::from_text(wrong).is_err(), "{wrong}");
        }
        assert!(Cursor::from_text(&text).is_ok());
    }

    #[test]
    fn pages_are_merged_in_order_and_cut() {
        let page = |hits: &[Hit], more| Page { hits: hits.to_vec(), more, ..Page::default() };
        let (a, b, c) = (hit(b"1", "/z", 0), hit(b"2", "/a", 0), hit(b"2", "/a", 1));
        let pages =
            || vec![page(std::slice::from_ref(&b), false), page(&[a.clone(), c.clone()], false)];
        assert_eq!(merge(pages(), 3), (vec![a.clone(), b.clone(), c.clone()], false));
        assert_eq!(merge(pages(), 2), (vec![a.clone(), b.clone()], true));
        assert_eq!(merge(vec![page(std::slice::from_ref(&a), true)], 3), (vec![a.clone()], true));
        // A page that was cut for its bytes: what it left out may come before the other's.
        let cut =
            || vec![page(std::slice::from_ref(&a), true), page(&[b.clone(), c.clone()], false)];
        assert_eq!(merge(cut(), 3), (vec![a.clone()], true));
    }
}
