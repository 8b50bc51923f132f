//! What a query finds in one partition, where it goes on, and how partitions' pages become one.

use bytes::Bytes;
use protocol::Problem;
use serde::{Deserialize, Serialize};

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
}

/// The last hit of a page: the next page begins after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    pub sort_key: Vec<u8>,
    pub link: String,
    pub version: u64,
}

impl Cursor {
    /// For a page link: letters, digits, `-` and `_`.
    pub fn to_text(&self) -> String {
        unimplemented!("to come")
    }

    /// # Errors
    /// When the text is not one made by [`Cursor::to_text`].
    pub fn from_text(_text: &str) -> Result<Self, Problem> {
        unimplemented!("to come")
    }
}

impl Hit {
    pub fn cursor(&self) -> Cursor {
        Cursor { sort_key: self.sort_key.clone(), link: self.link.clone(), version: self.version }
    }
}

/// The first `limit` hits of all pages, and whether there are more. The pages must come from the
/// same query, cursor and limit.
pub fn merge(_pages: Vec<Page>, _limit: usize) -> (Vec<Hit>, bool) {
    unimplemented!("to come")
}
