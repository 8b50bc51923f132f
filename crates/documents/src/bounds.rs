//! The bounds of the index.

/// How many documents the index may be behind while the partition is written to. A document that
/// is written again and again is indexed once for all of it, when that ends or a query comes.
const BEHIND_MAX: usize = 4096;

/// The bounds of the index: constants, but for tests. What was indexed under others must be thrown
/// away, so a change needs another `FORMAT` (see `index`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many dirty links are kept in memory. The others are found in the store.
    pub(crate) pending: usize,
    /// How many documents it may be behind while documents are written.
    pub(crate) behind: usize,
    /// How many fields a partition's index knows. Those that come later are not in it: queries
    /// on them look at the documents.
    pub(crate) fields: usize,
    /// How many leaves of a document are in the index. A document with more is listed apart and
    /// looked at by every query.
    pub(crate) leaves: usize,
    /// How many postings are counted of each clause, in turn, to find a short one (see `plan`).
    pub(crate) listed: [usize; 3],
    /// How many lists of postings are looked at to find a way, of all clauses together.
    pub(crate) lists: usize,
}

impl Bounds {
    /// The most postings that are counted of a clause for a query that shall not take long.
    pub(crate) const LISTED_IN_A_HURRY: usize = 256;

    /// The most lists of postings that are looked at for a query that shall not take long.
    pub(crate) const LISTS_IN_A_HURRY: usize = 64;

    pub(crate) const USUAL: Self = Self {
        pending: 65_536,
        behind: BEHIND_MAX,
        fields: 4096,
        leaves: 1024,
        listed: [128, 2048, 32_768],
        lists: 1024,
    };
}
