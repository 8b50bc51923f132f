//! Numbers that nobody can foresee: names of sandboxes, seeds, keys of retries. Not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number that is unlike on every call, in every process and on every machine; never 0.
pub fn random() -> u64 {
    // Each `RandomState` has its own keys, which come from the system's random source.
    RandomState::new().build_hasher().finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_numbers_are_alike() {
        assert_ne!(random(), random());
    }
}
