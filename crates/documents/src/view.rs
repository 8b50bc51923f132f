//! What a query needs to know of a partition beside the store. With a view of the store of the same
//! moment it is all that a query needs: the partition goes on meanwhile, on another thread.

use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::Moment;
use storage::{Reader, Space, StoreError};

use crate::bounds::Bounds;
use crate::family;
use crate::fields::Fields;
use crate::names::Names;

/// A partition as a query sees it. It does not change.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) space: Space,
    pub(crate) names: Arc<Names>,
    pub(crate) fields: Arc<Fields>,
    pub(crate) bounds: Bounds,
    /// The index reflects all that was applied.
    pub(crate) is_indexed: bool,
    /// How many documents are not deleted.
    pub(crate) live: u64,
    /// No document expires before that.
    pub(crate) expires_from: Moment,
}

impl View {
    /// The same for a query that shall not take long: little is counted to find the best way.
    #[must_use]
    pub fn in_a_hurry(mut self) -> Self {
        self.bounds.listed = self.bounds.listed.map(|listed| listed.min(Bounds::LISTED_IN_A_HURRY));
        self.bounds.lists = self.bounds.lists.min(Bounds::LISTS_IN_A_HURRY);
        self
    }

    /// There may be fields in documents that the index has no number for.
    pub(crate) fn is_short_of_fields(&self) -> bool {
        self.fields.count() >= self.bounds.fields
    }

    /// The links of up to `links_max` documents whose expiration is due at that time, with it.
    pub(crate) fn due(
        &self,
        store: &dyn Reader,
        at: Moment,
        links_max: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut links = Vec::new();
        if at < self.expires_from || links_max == 0 {
            return Ok(links);
        }
        let from = self.space.key(family::EXPIRATION, &self.expires_from.0.to_be_bytes());
        let to = self.space.key(family::EXPIRATION, &at.0.saturating_add(1).to_be_bytes());
        store.scan(&from, &to, false, &mut |key, _| {
            if let Some((_, link)) = family::split_time(self.space.rest(key)) {
                links.push(link.to_owned());
            }
            if links.len() < links_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(links)
    }
}
