//! Values of fields as bytes that compare as the values do: for the postings of the index, for
//! ranges, and for sorting. Booleans come before numbers, and numbers before text.
//!
//! The encodings are prefix-free, so a link may follow, and so their complement sorts downward.

use serde_json::Number;

/// Longer text is cut to this many bytes: it is found by its beginning and then looked at, and
/// sorted by its beginning and then by link.
pub(crate) const TEXT_BYTES_MAX: usize = 128;

/// The first byte of each sort of value.
pub(crate) const TAG_BOOLEAN: u8 = 1;
pub(crate) const TAG_NUMBER: u8 = 2;
pub(crate) const TAG_TEXT: u8 = 3;

/// What a text ends with: a byte 0 inside is followed by 0xff instead.
const END: [u8; 2] = [0, 1];
/// What a text that was cut ends with.
const CUT: [u8; 2] = [0, 2];

/// A number as bytes that compare as numbers do: integers of 64 bits exactly, and equal to a
/// floating-point number that is the same number. The top 53 bits lie in the first eight bytes
/// in the form of a float, the others in the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumberKey([u8; 10]);

impl NumberKey {
    pub fn of(number: &Number) -> Self {
        if let Some(natural) = number.as_u64() {
            Self::of_u64(natural)
        } else if let Some(integer) = number.as_i64() {
            Self::of_u64(integer.unsigned_abs()).negated()
        } else {
            Self::of_f64(number.as_f64().unwrap_or_default())
        }
    }

    pub(crate) fn of_u64(natural: u64) -> Self {
        let shift = (u64::BITS - natural.leading_zeros()).saturating_sub(f64::MANTISSA_DIGITS);
        let top = natural >> shift;
        let rest = natural - (top << shift);
        // Both factors are exact: 53 bits, and a power of two.
        let float = top as f64 * (1_u64 << shift) as f64;
        Self::of_parts(float, u16::try_from(rest).expect("at most 11 bits are left over"))
    }

    fn of_f64(float: f64) -> Self {
        if float < 0.0 { Self::of_parts(-float, 0).negated() } else { Self::of_parts(float, 0) }
    }

    /// For numbers that are not negative.
    fn of_parts(float: f64, rest: u16) -> Self {
        // `abs` for the sake of -0.0.
        let bits = float.abs().to_bits() | 1 << 63;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&bits.to_be_bytes());
        bytes[8..].copy_from_slice(&rest.to_be_bytes());
        Self(bytes)
    }

    fn negated(self) -> Self {
        Self(self.0.map(|byte| !byte))
    }
}

/// A value that is not made of others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leaf<'a> {
    Boolean(bool),
    Number(NumberKey),
    Text(&'a str),
}

impl Leaf<'_> {
    /// Appends the encoding of the value.
    pub fn encode(self, into: &mut Vec<u8>) {
        match self {
            Self::Boolean(boolean) => into.extend_from_slice(&[TAG_BOOLEAN, u8::from(boolean)]),
            Self::Number(number) => {
                into.push(TAG_NUMBER);
                into.extend_from_slice(&number.0);
            }
            Self::Text(text) => {
                encode_text_prefix(text, into);
                into.extend_from_slice(if is_cut(text) { &CUT } else { &END });
            }
        }
    }

    /// The encoding of the value alone.
    pub fn encoded(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.encode(&mut bytes);
        bytes
    }
}

/// Whether the text is too long to be encoded whole.
pub(crate) fn is_cut(text: &str) -> bool {
    text.len() > TEXT_BYTES_MAX
}

/// What the encodings of all texts with this beginning begin with.
pub(crate) fn encode_text_prefix(text: &str, into: &mut Vec<u8>) {
    into.push(TAG_TEXT);
    let bytes = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
    for &byte in bytes {
        into.push(byte);
        if byte == 0 {
            into.push(0xff);
        }
    }
}

/// How many bytes an encoded value at the beginning of `bytes` takes; `None` if there is none.
pub fn encoded_bytes(bytes: &[u8]) -> Option<usize> {
    let length = match *bytes.first()? {
        TAG_BOOLEAN => 2,
        TAG_NUMBER => 11,
        TAG_TEXT => {
            let mut at = 1;
            loop {
                let zero = at + bytes.get(at..)?.iter().position(|&byte| byte == 0)?;
                if *bytes.get(zero + 1)? != 0xff {
                    break zero + 2;
                }
                at = zero + 2;
            }
        }
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

/// The least sequence of bytes after all those that begin with `prefix`.
pub fn after_all_with(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if let Some(next) = last.checked_add(1) {
            key.push(next);
            return key;
        }
    }
    // No link and no value begins with 0xff: tags are below it, and so is UTF-8.
    vec![0xff; prefix.len() + 1]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn number(json: &str) -> NumberKey {
        let value: Value = serde_json::from_str(json).unwrap();
        NumberKey::of(value.as_number().unwrap())
    }

    #[test]
    fn numbers_are_in_order_and_integers_exact() {
        let ordered = [
            "-1e300",
            "-9223372036854775808",
            "-9223372036854775807",
            "-9007199254740993",
            "-9007199254740992",
            "-2.5",
            "-2",
            "-1e-300",
            "0",
            "1e-300",
            "0.5",
            "1",
            "1.0000001",
            "2",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "18446744073709551614",
            "18446744073709551615",
            "1e300",
        ];
        for pair in ordered.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        assert_eq!(number("-0.0"), number("0"));
        assert_eq!(number("5.0"), number("5"));
        assert_eq!(number("-5.0"), number("-5"));
        assert_eq!(number("9007199254740994.0"), number("9007199254740994"));
    }

    #[test]
    fn texts_are_in_order_whatever_is_in_them() {
        let long = "x".repeat(TEXT_BYTES_MAX);
        let longer = format!("{long}a");
        let ordered = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "a\u{1}", "aa", "b", "é"];
        let mut encoded: Vec<_> = ordered.iter().map(|text| Leaf::Text(text).encoded()).collect();
        assert!(encoded.is_sorted());
        encoded.dedup();
        assert_eq!(encoded.len(), ordered.len());
        assert!(Leaf::Text(&long).encoded() < Leaf::Text(&longer).encoded());
        assert!(Leaf::Text(&longer).encoded() < Leaf::Text("y").encoded());
    }

    #[test]
    fn the_least_key_after_a_prefix_carries_over() {
        assert_eq!(after_all_with(&[1, 0xff]), [2]);
        assert_eq!(after_all_with(&[1, 2]), [1, 3]);
    }

    #[test]
    fn the_end_of_a_value_is_found_whatever_follows() {
        let leaves = [
            Leaf::Boolean(true),
            Leaf::Number(number("1.5")),
            Leaf::Text(""),
            Leaf::Text("a\0b\0"),
            Leaf::Text("\0"),
        ];
        for leaf in leaves {
            let mut bytes = leaf.encoded();
            let length = bytes.len();
            bytes.extend_from_slice(b"/link");
            assert_eq!(encoded_bytes(&bytes), Some(length), "{leaf:?}");
            assert_eq!(encoded_bytes(&bytes[..length - 1]), None, "{leaf:?}");
        }
    }
}
