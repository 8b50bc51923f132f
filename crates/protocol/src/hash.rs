//! The one hash of the house: FNV-1a, and a finisher that spreads the bits of a number. Neither
//! withstands someone who chooses the input on purpose. Stored data depends on both, so they stay
//! as they are for ever.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The hash of some bytes that come piece by piece. Where the pieces end makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl Hash {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0 =
            bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    }

    pub fn sum(self) -> u64 {
        self.0
    }
}

/// The hash of some bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = Hash::default();
    hash.add(bytes);
    hash.sum()
}

/// The hash of some parts, with a mark behind each, so that moving a byte from one part to the next
/// gives another hash.
pub fn hash_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Hash::default();
    for part in parts {
        hash.add(part);
        hash.add(&[0xff]);
    }
    hash.sum()
}

/// The finisher of SplitMix64: each bit of the number has its say in each bit of the result.
pub fn scatter(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the makers of FNV publish.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn pieces_give_the_hash_of_the_whole() {
        let mut pieces = Hash::default();
        pieces.add(b"foo");
        pieces.add(b"");
        pieces.add(b"bar");
        assert_eq!(pieces.sum(), hash(b"foobar"));
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(hash_parts([&b"ab"[..], b"c"]), hash_parts([&b"a"[..], b"bc"]));
    }

    /// The first number of the published generator from the seed 0.
    #[test]
    fn the_finisher_is_that_of_splitmix64() {
        assert_eq!(scatter(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
    }
}
