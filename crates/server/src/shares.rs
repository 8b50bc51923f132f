//! How many places each of many clients takes at a time: so one client leaves room for the others.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts what each has under way.
pub(crate) struct Shares<K: Ord + Clone> {
    /// Nothing for none, so it is as long as there are places.
    of_each: Mutex<BTreeMap<K, usize>>,
    most: usize,
}

/// One place, until the drop.
pub(crate) struct Place<'a, K: Ord + Clone> {
    shares: &'a Shares<K>,
    client: K,
}

impl<K: Ord + Clone> Shares<K> {
    /// `most`: of one client at a time.
    pub(crate) fn of(most: usize) -> Self {
        Self { of_each: Mutex::default(), most }
    }

    /// `None`: the client has as many as it may.
    pub(crate) fn take(&self, client: K) -> Option<Place<'_, K>> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_each.entry(client.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { shares: self, client })
    }
}

impl<K: Ord + Clone> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut of_each = self.shares.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_each.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                of_each.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_its_share_and_nothing_is_left_of_those_who_went() {
        let shares = Shares::of(2);
        let held = [shares.take("one").unwrap(), shares.take("one").unwrap()];
        assert!(shares.take("one").is_none());
        assert!(shares.take("another").is_some());
        drop(held);
        assert!(shares.take("one").is_some());
        assert!(shares.of_each.lock().unwrap().is_empty());
    }
}
