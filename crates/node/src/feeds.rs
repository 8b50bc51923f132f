//! Those who are told of changes: requests that wait for them, and subscribers.

use storage::StoreError;

use crate::subscriptions::Subscriptions;
use crate::view::View;
use crate::watches::Watches;
use crate::work::Effects;

#[derive(Default)]
pub(crate) struct Feeds {
    pub(crate) watches: Watches,
    pub(crate) subscriptions: Subscriptions,
}

impl Feeds {
    /// Entries may have been applied.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn applied(
        &mut self,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        self.watches.applied(view, effects);
        self.subscriptions.applied(view, effects)
    }

    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn tick(
        &mut self,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        self.watches.tick(view, effects);
        self.subscriptions.tick(view, effects)
    }
}
