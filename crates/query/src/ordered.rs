//! Values of fields as bytes that compare as the values do: for the postings of the index, for
//! ranges, and for sorting. Booleans come before numbers, and numbers before text.
//!
//! The encodings are prefix-free, so a link may follow, and so their complement sorts downward.

use crate::decimal::Decimal;

/// Longer text is cut to this many bytes where it is a key: it is found by its beginning and then
/// looked at.
pub(crate) const TEXT_BYTES_MAX: usize = 128;

/// Texts are sorted by this many bytes, and numbers by this many digits; those with the same
/// beginning are sorted by link.
pub(crate) const ORDER_BYTES_MAX: usize = 1024;

/// The first byte of each sort of value.
pub(crate) const TAG_BOOLEAN: u8 = 1;
pub(crate) const TAG_NUMBER: u8 = 2;
pub(crate) const TAG_TEXT: u8 = 3;

/// What a text ends with: a byte 0 inside is followed by 0xff instead.
const END: [u8; 2] = [0, 1];
/// What a text that was cut ends with.
const CUT: [u8; 2] = [0, 2];

/// A number as bytes that compare as numbers do, and are equal when the numbers are, however they
/// are written. Integers of 64 bits are exact, and so is what a floating-point number stands for.
/// Any other number has the key of its own that comes right after the greatest such number below it
/// (by magnitude): of two of these the digits decide, see [`ExactNumber`].
///
/// The top 53 bits lie in the first eight bytes in the form of a float. The others lie in the last
/// two, before the bit that says that there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NumberKey([u8; 10]);

/// Above this a floating-point number does not hold each integer.
const FLOAT_INTEGERS: u64 = 1 << f64::MANTISSA_DIGITS;

/// Numbers with no more digits than this, and exponents well within the range of floating-point
/// numbers, stand for one such number each.
const SURE_DIGITS: usize = 15;

impl NumberKey {
    pub(crate) fn of(number: Numeral<'_>) -> Self {
        match number {
            Numeral::Natural(natural) => Self::of_u64(natural),
            Numeral::Text(text) => Self::of_text(text),
        }
    }

    fn of_text(text: &str) -> Self {
        let (is_negative, size) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let key = match size.parse::<u64>() {
            Ok(natural) => Self::of_u64(natural),
            Err(_) => match Self::of_short(size) {
                Some(key) => key,
                None => Self::of_decimal(&Decimal::parse(size).unwrap_or_default()),
            },
        };
        // Zero has one sign only.
        if is_negative && key != Self::of_u64(0) { key.negated() } else { key }
    }

    /// For a number with few digits, that is not negative.
    fn of_short(size: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        let is_short = size.len() <= SURE_DIGITS && size.bytes().all(is_plain);
        is_short.then(|| size.parse().ok().map(|float| Self::of_parts(float, 0, false)))?
    }

    /// For a number that is not negative.
    fn of_decimal(number: &Decimal) -> Self {
        if let Some(whole) = number.whole()
            && whole >= FLOAT_INTEGERS
        {
            return Self::of_u64(whole).with_more(number.has_fraction());
        }
        let nearest = number.to_f64().min(f64::MAX);
        let is_above = Decimal::of_f64(nearest) > *number;
        let float = if is_above { nearest.next_down() } else { nearest };
        if number.whole().is_none() && float < TWO_TO_64 {
            return Self::of_u64(u64::MAX).with_more(true);
        }
        Self::of_parts(float, 0, is_above || Decimal::of_f64(float) != *number)
    }

    pub(crate) fn of_u64(natural: u64) -> Self {
        let shift = (u64::BITS - natural.leading_zeros()).saturating_sub(f64::MANTISSA_DIGITS);
        let top = natural >> shift;
        let rest = natural - (top << shift);
        // Both factors are exact: 53 bits, and a power of two.
        let float = top as f64 * (1_u64 << shift) as f64;
        let rest = u16::try_from(rest).expect("at most 11 bits are left over");
        Self::of_parts(float, rest, false)
    }

    /// For numbers that are not negative.
    fn of_parts(float: f64, rest: u16, has_more: bool) -> Self {
        let bits = float.to_bits() | 1 << 63;
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&bits.to_be_bytes());
        bytes[8..].copy_from_slice(&(rest << 1).to_be_bytes());
        Self(bytes).with_more(has_more)
    }

    /// For numbers that are not negative.
    fn with_more(mut self, has_more: bool) -> Self {
        self.0[9] |= u8::from(has_more);
        self
    }

    /// Whether other numbers have this key, too.
    pub(crate) fn is_shared(self) -> bool {
        let is_negative = self.0[0] & 0x80 == 0;
        (self.0[9] & 1 == 1) != is_negative
    }

    fn negated(self) -> Self {
        Self(self.0.map(|byte| !byte))
    }
}

/// The least floating-point number above all integers of 64 bits.
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// A number as it is found: compared by its key first, and by its digits where keys are shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExactNumber {
    pub(crate) key: NumberKey,
    /// Only if the key is shared.
    digits: Option<Decimal>,
}

impl ExactNumber {
    pub(crate) fn of(number: Numeral<'_>) -> Self {
        let key = NumberKey::of(number);
        let digits = match number {
            Numeral::Text(text) if key.is_shared() => Decimal::parse(text),
            _ => None,
        };
        Self { key, digits }
    }
}

/// A number, before anybody asks what it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numeral<'a> {
    Natural(u64),
    /// As JSON writes it.
    Text(&'a str),
}

/// A value that is not made of others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leaf<'a> {
    Boolean(bool),
    Number(Numeral<'a>),
    Text(&'a str),
}

impl Leaf<'_> {
    /// Appends the encoding of the value.
    pub fn encode(self, into: &mut Vec<u8>) {
        match self {
            Self::Boolean(boolean) => into.extend_from_slice(&[TAG_BOOLEAN, u8::from(boolean)]),
            Self::Number(number) => {
                into.push(TAG_NUMBER);
                into.extend_from_slice(&NumberKey::of(number).0);
            }
            Self::Text(text) => {
                encode_text_prefix(text, into);
                into.extend_from_slice(if is_cut(text) { &CUT } else { &END });
            }
        }
    }

    /// What it is sorted by: the encoding, and behind it what tells values apart that have the same
    /// one. So it begins with what the index has for the value.
    pub(crate) fn ordered(self) -> Vec<u8> {
        let mut bytes = self.encoded();
        match self {
            Self::Text(text) if is_cut(text) => {
                let end = text.len().min(ORDER_BYTES_MAX);
                put_text(&text.as_bytes()[TEXT_BYTES_MAX..end], &mut bytes);
                bytes.extend_from_slice(if end < text.len() { &CUT } else { &END });
            }
            Self::Number(number) => {
                let digits = ExactNumber::of(number).digits;
                bytes.extend(digits.iter().flat_map(|it| it.ordered(ORDER_BYTES_MAX)));
            }
            _ => {}
        }
        bytes
    }

    /// The encoding of the value alone.
    pub fn encoded(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.encode(&mut bytes);
        bytes
    }
}

/// The encoding of a number with that key.
pub(crate) fn encoded_number(key: NumberKey) -> Vec<u8> {
    let mut bytes = vec![TAG_NUMBER];
    bytes.extend_from_slice(&key.0);
    bytes
}

/// Whether the text is too long to be encoded whole.
pub(crate) fn is_cut(text: &str) -> bool {
    text.len() > TEXT_BYTES_MAX
}

/// What the encodings of all texts with this beginning begin with.
pub(crate) fn encode_text_prefix(text: &str, into: &mut Vec<u8>) {
    into.push(TAG_TEXT);
    put_text(&text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)], into);
}

fn put_text(bytes: &[u8], into: &mut Vec<u8>) {
    for &byte in bytes {
        into.push(byte);
        if byte == 0 {
            into.push(0xff);
        }
    }
}

/// Whether other values have the same encoding, so that it does not tell their order.
pub fn is_shared(encoded: &[u8]) -> bool {
    match encoded.split_first() {
        Some((&TAG_TEXT, _)) => encoded.ends_with(&CUT),
        Some((&TAG_NUMBER, rest)) => {
            <[u8; 10]>::try_from(rest).is_ok_and(|key| NumberKey(key).is_shared())
        }
        _ => false,
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
    use super::*;

    fn number(json: &str) -> NumberKey {
        NumberKey::of(Numeral::Text(json))
    }

    fn exact(json: &str) -> ExactNumber {
        ExactNumber::of(Numeral::Text(json))
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
    fn numbers_beyond_64_bits_are_told_apart_by_their_digits() {
        let ordered = [
            "-1e308",
            "-123456789012345678901234567891",
            "-123456789012345678901234567890",
            "-18446744073709551616",
            "-18446744073709551615.5",
            "-18446744073709551615",
            "-5.0000000000000000001",
            "-5",
            "-1e-399",
            "0",
            "1e-399",
            "0.1",
            "0.100000000000000000000000001",
            "0.100000000000000000000000002",
            "0.3",
            "0.30000000000000000000001",
            "0.30000000000000004",
            "4.9999999999999999999",
            "5",
            "5.0000000000000000001",
            "9007199254740991.9",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.5",
            "9007199254740994",
            "18446744073709551615",
            "18446744073709551615.5",
            "18446744073709551616",
            "18446744073709551617",
            "18446744073709552000",
            "1e20",
            "123456789012345678901234567890",
            "123456789012345678901234567891",
            "1e308",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(exact(one).cmp(&exact(other)), at.cmp(&other_at), "{one} {other}");
                let keys = number(one).cmp(&number(other));
                assert!(keys.is_eq() || keys == at.cmp(&other_at), "{one} {other}");
            }
        }
        for (one, same) in [
            ("5", "5.000000000000000000"),
            ("1e2", "100"),
            ("0.1", "0.100000000000000000000"),
            ("18446744073709551616", "18446744073709551616.0"),
            ("9007199254740993", "9007199254740993.0"),
            ("-0.0", "0"),
            ("1e-500", "0"),
        ] {
            assert_eq!(exact(one), exact(same), "{one}");
        }
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
    fn values_with_the_same_key_are_in_order_all_the_same() {
        let long = "x".repeat(TEXT_BYTES_MAX);
        let longer = |end: &str| format!("{long}{end}");
        let at_bound = "y".repeat(ORDER_BYTES_MAX);
        let texts = [
            long.clone(),
            longer("\0"),
            longer("\0a"),
            longer("a"),
            longer("aa"),
            longer("b"),
            "xy".to_owned(),
            at_bound.clone(),
            format!("{at_bound}a"),
        ];
        let ordered: Vec<_> = texts.iter().map(|text| Leaf::Text(text).ordered()).collect();
        assert!(ordered.is_sorted_by(|one, next| one < next), "{ordered:?}");
        let beyond = |end: &str| Leaf::Text(&format!("{at_bound}{end}")).ordered();
        assert_eq!(beyond("a"), beyond("b"), "these are sorted by link");
        let numbers = [
            "-123456789012345678901234567891",
            "-123456789012345678901234567890.5",
            "-123456789012345678901234567890",
            "-0.10000000000000000000000002",
            "-0.10000000000000000000000001",
            "0.10000000000000000000000001",
            "0.100000000000000000000000011",
            "0.10000000000000000000000002",
            "18446744073709551615.5",
            "18446744073709551615.75",
            "123456789012345678901234567890",
            "123456789012345678901234567890.5",
            "123456789012345678901234567891",
        ];
        let ordered: Vec<_> =
            numbers.iter().map(|text| Leaf::Number(Numeral::Text(text)).ordered()).collect();
        assert!(ordered.is_sorted_by(|one, next| one < next), "{ordered:?}");
        let downward: Vec<Vec<u8>> =
            ordered.iter().rev().map(|key| key.iter().map(|byte| !byte).collect()).collect();
        assert!(downward.is_sorted_by(|one, next| one < next), "{downward:?}");
        for value in &ordered {
            let key = &value[..encoded_bytes(value).unwrap()];
            assert_eq!(is_shared(key), key.len() < value.len(), "{value:?}");
        }
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
            Leaf::Number(Numeral::Text("1.5")),
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
