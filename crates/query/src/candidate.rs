//! What a query looks at.

use protocol::{Action, Document, Epoch, Moment};

use crate::ordered::{Leaf, Numeral};

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

impl<'a> Candidate<'a> {
    /// A field that the system keeps.
    pub(crate) fn built_in(&self, field: &str) -> Option<Leaf<'a>> {
        let number = |number: u64| Some(Leaf::Number(Numeral::Natural(number)));
        match field {
            "documentVersion" => number(self.version),
            "documentEpoch" => number(self.epoch.0),
            "documentKind" => Some(Leaf::Text(self.kind)),
            "documentSelfLink" => Some(Leaf::Text(self.link)),
            "documentUpdateTimeMicros" => number(self.updated.0),
            "documentUpdateAction" => Some(Leaf::Text(self.action.name())),
            "documentExpirationTimeMicros" => number(self.expires.0),
            "documentOwner" | "documentUpdateNode" => Some(Leaf::Text(self.owner)),
            "documentAuthPrincipalLink" => self.author.map(Leaf::Text),
            _ => None,
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
