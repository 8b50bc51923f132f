//! The part of all links, in their order, in which the hits of a query lie.

use crate::compiled::CompiledQuery;
use crate::constraint::Constraint;
use crate::ordered::after_all_with;

/// The links that can be hits at all: from the first, up to before the last.
#[derive(Clone, Debug)]
pub struct LinkRange {
    pub from: Vec<u8>,
    /// No end, if there is none.
    pub to: Option<Vec<u8>>,
}

impl LinkRange {
    /// As the constraints of the query have it.
    pub fn of(query: &CompiledQuery) -> Self {
        let mut range = Self { from: Vec::new(), to: None };
        for prefix in query.constraints().iter().filter_map(Constraint::link_prefix) {
            let prefix = prefix.as_bytes();
            if prefix > range.from.as_slice() {
                range.from = prefix.to_vec();
            }
            let to = after_all_with(prefix);
            if !prefix.is_empty() && range.to.as_ref().is_none_or(|known| to < *known) {
                range.to = Some(to);
            }
        }
        range
    }

    /// Without what is before that link.
    #[must_use]
    pub fn starting(mut self, link: &str) -> Self {
        if link.as_bytes() > self.from.as_slice() {
            self.from = link.as_bytes().to_vec();
        }
        self
    }

    /// Whether the link lies in it.
    pub fn has(&self, link: &str) -> bool {
        let link = link.as_bytes();
        link >= self.from.as_slice() && self.to.as_ref().is_none_or(|to| link < to.as_slice())
    }
}
