//! What a query looks at.

use protocol::{Action, Document, Epoch, Moment};

/// One version of a document, as a query sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub link: &'a str,
    pub version: u64,
    pub epoch: Epoch,
    pub kind: &'a str,
    pub action: Action,
    pub updated: Moment,
    pub expires: Moment,
    pub owner: &'a str,
    pub author: Option<&'a str>,
    /// The JSON object without the fields that the system keeps.
    pub body: &'a [u8],
}

impl<'a> From<&'a Document> for Candidate<'a> {
    fn from(document: &'a Document) -> Self {
        Self {
            link: &document.link,
            version: document.version,
            epoch: document.epoch,
            kind: &document.kind,
            action: document.action,
            updated: document.updated,
            expires: document.expires,
            owner: &document.owner,
            author: document.author.as_deref(),
            body: document.body.as_bytes(),
        }
    }
}

impl Candidate<'_> {
    /// A document with nothing in it, to be filled.
    pub fn nothing() -> Self {
        Self {
            link: "",
            version: 0,
            epoch: Epoch::default(),
            kind: "",
            action: Action::Post,
            updated: Moment(0),
            expires: Moment(0),
            owner: "",
            author: None,
            body: b"{}",
        }
    }
}
