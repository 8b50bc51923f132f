//! Requests for a kind of documents that this node does not know. Whoever passed them on knows it,
//! so it was defined just now and the definition is on its way, or it was removed just now.

use protocol::{BATCH_LINK, links};

use super::asked::Asked;
use crate::kinds::may_be_defined;

/// How long a request waits for the definition, in microseconds.
const WAIT_MICROS: u64 = 2_000_000;

pub(super) struct Waiting {
    pub(super) asked: Asked,
    pub(super) until_micros: u64,
}

impl Waiting {
    /// The request again, if its kind could not be defined by anybody.
    pub(super) fn new(asked: Asked, now_micros: u64) -> Result<Self, Asked> {
        let (link, _) = links::split_utility(&asked.request.path);
        // Whoever has passed a batch on knows the kinds of all its documents.
        let is_batch = asked.request.path == BATCH_LINK;
        let of_document = links::split(link).is_some_and(|(at, _)| may_be_defined(at));
        if is_batch || of_document || may_be_defined(link) {
            return Ok(Self { asked, until_micros: now_micros + WAIT_MICROS });
        }
        Err(asked)
    }
}
