//! The keys of impulses from outside. An impulse that comes again with the same key is not logged a
//! second time, whichever replica owns the instance by then.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// How many keys an instance remembers. Beyond that the oldest is forgotten.
pub const KEYS_MAX: usize = 10_000;

/// The key that a client gave an impulse (`Idempotency-Key`), and the contents of the impulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImpulseKey {
    /// The hash of the key.
    pub hash: u64,
    /// The digest of what is sent under the key.
    pub digest: u64,
}

/// The keys of the last impulses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// By the hash of the key: the digest, and the number of the input.
    known: BTreeMap<u64, (u64, u64)>,
    order: VecDeque<u64>,
}

impl Keys {
    pub(crate) fn remember(&mut self, key: ImpulseKey, input: u64) {
        if self.known.insert(key.hash, (key.digest, input)).is_none() {
            self.order.push_back(key.hash);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The input that was logged under that key. An error: the key was used for something else.
    pub(crate) fn input(&self, key: ImpulseKey) -> Result<Option<u64>, ()> {
        match self.known.get(&key.hash) {
            None => Ok(None),
            Some((digest, input)) if *digest == key.digest => Ok(Some(*input)),
            Some(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_keys_are_remembered() {
        let mut keys = Keys::default();
        let key = |hash: u64| ImpulseKey { hash, digest: 7 };
        for hash in 0..=KEYS_MAX as u64 {
            keys.remember(key(hash), hash + 1);
        }
        assert_eq!(keys.input(key(0)), Ok(None), "the oldest is forgotten");
        assert_eq!(keys.input(key(1)), Ok(Some(2)));
        assert_eq!(keys.input(ImpulseKey { hash: 1, digest: 8 }), Err(()));
    }
}
