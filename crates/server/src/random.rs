//! Numbers that nobody can foresee: names of sandboxes, seeds, keys of retries.

/// A number that is unlike on every call, in every process and on every machine; never 0.
///
/// # Panics
/// When the system has no source of random numbers.
pub fn random() -> u64 {
    getrandom::u64().expect("the system has a source of random numbers").max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_numbers_are_alike() {
        assert_ne!(random(), random());
    }
}
