//! What a node says to the others about the membership quorum; see `claims`.

use protocol::{Position, Term};
use serde::{Deserialize, Serialize};

/// What a node says about the quorum. Compared by how far its log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// The term and the position of the last entry in its log of the directory.
    pub reach: (Term, Position),
    /// No more than this may be in force by an entry up to there.
    pub number: usize,
}
