//! Chance for tests and for the simulated world: a small seeded generator (xoshiro256**), and a
//! digest by which two runs are compared.
//!
//! A seed always gives the same stream. Every part of a world draws from a stream of its own, so
//! that turning one fault off does not shift the numbers of all others: that is what makes a
//! failing seed shrinkable. The product has no use for this; its chance comes from outside.

/// A stream of numbers that depends on nothing but its seed.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

/// One step of splitmix64: spreads a seed over all 64 bits.
fn spread(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The stream of that purpose under that seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut mixed = seed;
        for byte in purpose.bytes() {
            mixed = spread(&mut mixed) ^ u64::from(byte);
        }
        Self { state: std::array::from_fn(|_| spread(&mut mixed)) }
    }

    /// The stream of a test that needs only one.
    pub fn of_seed(seed: u64) -> Self {
        Self::new(seed, "")
    }

    pub fn draw(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// From 0 up to, not including, `limit`. The slight bias of a remainder does not matter here.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "nothing is below 0");
        self.draw() % limit
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in about `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// True in about one of that many cases.
    pub fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    /// An index of a list that is that long; 0 if it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        let limit = u64::try_from(length.max(1)).expect("a length fits in 64 bits");
        usize::try_from(self.below(limit)).expect("it is below a length")
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// One of a list, if it has any.
    pub fn any<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.index(list.len()))
    }

    /// Mostly around `usual`, now and then up to `worst`: how networks and disks behave.
    pub fn delay(&mut self, usual: u64, worst: u64) -> u64 {
        if self.chance(20) {
            self.between(usual, worst.max(usual))
        } else {
            self.between(usual / 2, usual)
        }
    }
}

/// One number for all of that.
pub fn digest(numbers: &[u64], bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let length = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
    let mut sum = length;
    for number in numbers.iter().copied().chain(words) {
        sum ^= number;
        sum = spread(&mut sum);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_stream_again_and_another_purpose_another_stream() {
        let draw = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            (0..8).map(|_| random.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "disk"), draw(7, "disk"));
        assert_ne!(draw(7, "disk"), draw(8, "disk"));
        assert_ne!(draw(7, "disk"), draw(7, "network"));
    }

    #[test]
    fn numbers_are_spread_over_their_range() {
        let mut random = Random::new(1, "test");
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[random.index(10)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_digest_differs_when_anything_differs() {
        let base = digest(&[1, 2], b"ab");
        for (numbers, bytes) in [
            (&[2, 1][..], &b"ab"[..]),
            (&[1, 2], b"ba"),
            (&[1, 2], b"ab\0"),
            (&[1, 2, 0], b"ab"),
            (&[1], b"ab"),
        ] {
            assert_ne!(digest(numbers, bytes), base, "{numbers:?} {bytes:?}");
        }
        assert_eq!(digest(&[1, 2], b"ab"), base);
    }
}
