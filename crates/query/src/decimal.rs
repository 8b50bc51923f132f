//! Numbers as their digits say, without any loss: for sums, for comparisons beyond what a
//! floating-point number can tell apart, and for showing a number as it was written.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// A number nearer to zero than ten to the power of minus this is read as zero, and one as far from
/// zero as ten to the power of it is none.
const EXPONENT_LIMIT: i32 = 400;

/// How many significant digits a quotient has at most; the last one is rounded.
const QUOTIENT_DIGITS: usize = 34;

/// How many significant digits the width of a bucket may have: 64 bits hold them.
const STEP_DIGITS_MAX: usize = 18;

/// A sum is kept in digits to the base of ten to the power of this.
const LIMB_DIGITS: i32 = 9;
const LIMB: i128 = 1_000_000_000;

/// A decimal number of any length: `0.DIGITS` times ten to the power of `exponent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decimal {
    is_negative: bool,
    exponent: i32,
    /// Without zeros at either end; empty for zero.
    digits: String,
}

impl Decimal {
    /// Reads a number as JSON writes it; `None` if it is none, or too large.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Some(power)),
            None => (text, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let is_all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.is_empty() {
            return None;
        }
        if !is_all_digits(whole) || !is_all_digits(fraction) {
            return None;
        }
        let power = power.map_or(Some(0), read_power)?;
        let digits: String = [whole, fraction].concat();
        let trimmed = digits.trim_start_matches('0');
        let leading = i64::try_from(digits.len() - trimmed.len()).ok()?;
        let exponent = i64::try_from(whole.len()).ok()? - leading + power;
        Self::of_parts(is_negative, exponent, trimmed.trim_end_matches('0'))
    }

    fn of_parts(is_negative: bool, exponent: i64, digits: &str) -> Option<Self> {
        if digits.is_empty() || exponent <= -i64::from(EXPONENT_LIMIT) {
            return Some(Self::default());
        }
        let exponent = i32::try_from(exponent).ok().filter(|it| *it <= EXPONENT_LIMIT)?;
        Some(Self { is_negative, exponent, digits: digits.to_owned() })
    }

    /// The shortest decimal number that stands for a floating-point number; zero for what is none.
    pub(crate) fn of_f64(float: f64) -> Self {
        Self::parse(&format!("{float:e}")).unwrap_or_default()
    }

    pub fn of_u64(natural: u64) -> Self {
        Self::parse(&natural.to_string()).expect("the digits of a natural number are a number")
    }

    pub fn to_f64(&self) -> f64 {
        self.to_string().parse().unwrap_or_default()
    }

    /// Whether it can be the width of a bucket.
    pub(crate) fn is_step(&self) -> bool {
        !self.is_negative && !self.is_zero() && self.digits.len() <= STEP_DIGITS_MAX
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// What is before the point, without the sign; `None` if 64 bits do not hold it.
    pub(crate) fn whole(&self) -> Option<u64> {
        let Ok(places) = usize::try_from(self.exponent) else { return Some(0) };
        if places > 20 {
            return None;
        }
        let digits = self.digits.bytes().chain(std::iter::repeat(b'0')).take(places);
        digits.map(|digit| u64::from(digit - b'0')).try_fold(0_u64, |number, digit| {
            number.checked_mul(10).and_then(|number| number.checked_add(digit))
        })
    }

    /// It has something behind the point.
    pub(crate) fn has_fraction(&self) -> bool {
        i64::try_from(self.digits.len()).is_ok_and(|length| length > i64::from(self.exponent))
    }

    /// Bytes that compare as numbers of one sign do, and show where they end: the exponent, that
    /// many digits at most, and a byte below each digit.
    pub(crate) fn ordered(&self, digits_max: usize) -> Vec<u8> {
        let exponent = self.exponent.wrapping_sub(i32::MIN).to_be_bytes();
        let size = exponent.into_iter().chain(self.digits.bytes().take(digits_max)).chain([0]);
        // The greater a negative number is, the lower it stands.
        let flip = if self.is_negative { 0xff } else { 0 };
        size.map(|byte| byte ^ flip).collect()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.digits.len()
    }

    /// The greatest multiple of `step` that is not above it. The step must be above zero, and its
    /// digits must fit into 64 bits.
    pub(crate) fn floor_to(&self, step: &Self) -> Self {
        let by: u64 = step.digits.parse().expect("the digits of a step fit into 64 bits");
        let power = i64::from(step.exponent) - length(&step.digits);
        // How many steps: the digits before the point once the step is a whole number.
        let places = i64::from(self.exponent) - power;
        let places = usize::try_from(places).unwrap_or(0);
        let whole: Vec<u8> =
            self.digits.bytes().chain(std::iter::repeat(b'0')).take(places).collect();
        let (mut steps, rest) = divide(&whole, by);
        let is_rounded = rest != 0 || self.digits.len() > places;
        if self.is_negative && is_rounded {
            add_one(&mut steps);
        }
        let product = multiply(&steps, by);
        let leading = product.len() - product.trim_start_matches('0').len();
        let exponent = length(&product) - length(&product[..leading]) + power;
        let digits = product.trim_matches('0');
        Self::of_parts(self.is_negative, exponent, digits).unwrap_or_default()
    }

    /// Divided by a count, to 34 significant digits, and whether that is exact.
    pub(crate) fn divided_by(&self, count: u64) -> (Self, bool) {
        if count == 0 || self.is_zero() {
            return (Self::default(), true);
        }
        let mut digits: Vec<u8> = self.digits.clone().into_bytes();
        // Twenty digits more than the count can take away.
        let wanted = QUOTIENT_DIGITS + 21;
        let padded = digits.len().max(wanted);
        digits.resize(padded, b'0');
        let (quotient, rest) = divide(&digits, count);
        let text: String = quotient.iter().map(|digit| char::from(digit + b'0')).collect();
        let trimmed = text.trim_start_matches('0');
        let lost = length(&text) - length(trimmed);
        let exponent = i64::from(self.exponent) - lost;
        let is_long = trimmed.len() > QUOTIENT_DIGITS
            && trimmed.as_bytes()[QUOTIENT_DIGITS..].iter().any(|digit| *digit != b'0');
        if rest == 0 && !is_long {
            let found = Self::of_parts(self.is_negative, exponent, trimmed.trim_end_matches('0'));
            return (found.unwrap_or_default(), true);
        }
        let mut kept: Vec<u8> =
            trimmed.bytes().take(QUOTIENT_DIGITS).map(|digit| digit - b'0').collect();
        let next = trimmed.as_bytes().get(QUOTIENT_DIGITS).copied().unwrap_or(b'0');
        let before = kept.len();
        if next >= b'5' {
            add_one(&mut kept);
        }
        let carried = i64::try_from(kept.len() - before).expect("one digit at most");
        let text: String = kept.iter().map(|digit| char::from(digit + b'0')).collect();
        let found =
            Self::of_parts(self.is_negative, exponent + carried, text.trim_end_matches('0'));
        (found.unwrap_or_default(), false)
    }
}

/// JSON without any loss: a number with more digits than [`Value`] holds becomes a text.
pub fn exact_value(json: &RawValue) -> Value {
    let text = json.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> =
                serde_json::from_str(text).unwrap_or_default();
            let is_number = |inner: &RawValue| {
                matches!(inner.get().as_bytes().first(), Some(b'-' | b'0'..=b'9'))
            };
            let mut values = Map::new();
            let mut is_long_range = false;
            for (name, inner) in fields {
                let value = exact_value(inner);
                let is_end = ["min", "max"].contains(&name.as_str());
                is_long_range |= is_end && is_number(inner) && value.is_string();
                values.insert(name, value);
            }
            if is_long_range {
                // Of numbers, although its ends are texts now.
                values.insert("type".into(), "DOUBLE".into());
            }
            values.into()
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            items.into_iter().map(exact_value).collect()
        }
        Some(b'-' | b'0'..=b'9') => exact_number(text).unwrap_or_default(),
        _ => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// Whether there may be a number in a text of JSON that [`Value`] does not hold: it has over
/// fifteen digits.
pub fn has_long_number(json: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    json.split(|byte| !is_part(byte)).any(|run| run.len() > 15)
}

/// A number that is written like this: as a text if [`Value`] does not hold all of its digits.
pub fn exact_number(text: &str) -> Option<Value> {
    let decimal = Decimal::parse(text)?;
    let number = serde_json::from_str::<Number>(text).ok();
    let number = number.filter(|it| Decimal::parse(&it.to_string()).as_ref() == Some(&decimal));
    Some(number.map_or_else(|| text.into(), Value::Number))
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).expect("a text in memory")
}

/// An exponent; one that has too many digits is far beyond any that counts.
fn read_power(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches(['+', '-']);
    if digits.is_empty() || text.len() > digits.len() + 1 {
        return None;
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A body has at most some megabytes of digits, which such an exponent outweighs.
    let most = i64::from(i32::MAX);
    let power = digits.parse::<i64>().map_or(most, |it| it.min(most));
    Some(if text.starts_with('-') { -power } else { power })
}

/// Divides digits (as text) by a number: the digits of the quotient (as numbers), and the rest.
fn divide(digits: &[u8], by: u64) -> (Vec<u8>, u128) {
    let by = u128::from(by);
    let mut rest = 0_u128;
    let mut quotient = Vec::with_capacity(digits.len() + 1);
    for digit in digits {
        rest = rest * 10 + u128::from(digit - b'0');
        quotient.push(u8::try_from(rest / by).expect("a digit"));
        rest %= by;
    }
    (quotient, rest)
}

fn multiply(digits: &[u8], by: u64) -> String {
    let mut carry = 0_u128;
    let mut product = Vec::with_capacity(digits.len() + 20);
    for digit in digits.iter().rev() {
        carry += u128::from(*digit) * u128::from(by);
        product.push(b'0' + u8::try_from(carry % 10).expect("a digit"));
        carry /= 10;
    }
    while carry > 0 {
        product.push(b'0' + u8::try_from(carry % 10).expect("a digit"));
        carry /= 10;
    }
    product.reverse();
    String::from_utf8(product).expect("digits are text")
}

fn add_one(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            return;
        }
        *digit = 0;
    }
    digits.insert(0, 1);
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |it: &Self| match (it.is_zero(), it.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let by_size = self.exponent.cmp(&other.exponent).then(self.digits.cmp(&other.digits));
        let by_size = if self.is_negative { by_size.reverse() } else { by_size };
        sign(self).cmp(&sign(other)).then(by_size)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As JSON writes a number.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let sign = if self.is_negative { "-" } else { "" };
        let (digits, exponent) = (self.digits.as_str(), self.exponent);
        match usize::try_from(exponent) {
            Ok(places @ 1..=40) if places >= digits.len() => {
                write!(f, "{sign}{digits}{}", "0".repeat(places - digits.len()))
            }
            Ok(places @ 1..=40) => {
                write!(f, "{sign}{}.{}", &digits[..places], &digits[places..])
            }
            _ if (-6..=0).contains(&exponent) => {
                let zeros = usize::try_from(-exponent).expect("it is not above zero");
                write!(f, "{sign}0.{}{digits}", "0".repeat(zeros))
            }
            _ => {
                let (first, rest) = digits.split_at(1);
                let point = if rest.is_empty() { "" } else { "." };
                write!(f, "{sign}{first}{point}{rest}e{}", exponent - 1)
            }
        }
    }
}

/// A sum of decimal numbers, exact whatever they are and in whatever order they come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Each counts times a billion to the power of its key. None overflows: that would take more
    /// numbers than there can be.
    limbs: BTreeMap<i32, i128>,
}

impl Sum {
    pub fn add(&mut self, number: &Decimal) {
        let last = number.exponent - i32::try_from(number.digits.len()).unwrap_or(i32::MAX);
        let mut limb = last.div_euclid(LIMB_DIGITS);
        let zeros = usize::try_from(last.rem_euclid(LIMB_DIGITS)).expect("it is below nine");
        let sign = if number.is_negative { -1 } else { 1 };
        let digits = number.digits.as_bytes();
        let mut end = digits.len();
        let mut taken = zeros;
        while end > 0 {
            let width = 9 - taken;
            let start = end.saturating_sub(width);
            let part = digits[start..end]
                .iter()
                .fold(0, |part: i128, digit| part * 10 + i128::from(digit - b'0'));
            let scale = 10_i128.pow(u32::try_from(taken).expect("it is below nine"));
            *self.limbs.entry(limb).or_default() += sign * part * scale;
            (end, taken, limb) = (start, 0, limb + 1);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (limb, part) in &other.limbs {
            *self.limbs.entry(*limb).or_default() += part;
        }
    }

    pub fn total(&self) -> Decimal {
        let (Some(first), Some(last)) = (self.limbs.keys().next(), self.limbs.keys().last()) else {
            return Decimal::default();
        };
        let carried = |sign: i128| {
            let mut digits = Vec::new();
            let mut carry = 0;
            for limb in *first..=*last {
                carry += sign * self.limbs.get(&limb).copied().unwrap_or(0);
                digits.push(carry.rem_euclid(LIMB));
                carry = carry.div_euclid(LIMB);
            }
            while carry > 0 {
                digits.push(carry % LIMB);
                carry /= LIMB;
            }
            (digits, carry < 0)
        };
        let (digits, is_negative) = match carried(1) {
            (_, true) => (carried(-1).0, true),
            (digits, false) => (digits, false),
        };
        let text: String = digits.iter().rev().map(|limb| format!("{limb:09}")).collect();
        let power = i64::from(*first) * i64::from(LIMB_DIGITS);
        let trimmed = text.trim_start_matches('0');
        let exponent = length(trimmed) + power;
        Decimal::of_parts(is_negative, exponent, trimmed.trim_end_matches('0')).unwrap_or_default()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.limbs.len() * 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    fn sum(numbers: &[&str]) -> String {
        let mut sum = Sum::default();
        numbers.iter().for_each(|number| sum.add(&decimal(number)));
        sum.total().to_string()
    }

    #[test]
    fn a_number_is_shown_as_its_digits_say() {
        for (text, shown) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("5.0", "5"),
            ("-12.50", "-12.5"),
            ("1e3", "1000"),
            ("1E+2", "100"),
            ("0.001", "0.001"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
            ("1e300", "1e300"),
            ("12.5e-20", "1.25e-19"),
            ("1e-999999999999", "0"),
        ] {
            assert_eq!(decimal(text).to_string(), shown, "{text}");
        }
        for text in ["", "-", "1.", ".5", "1e", "1e+-2", "x", "1x", "1e9999", "0x1", "１"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_in_order_to_the_last_digit() {
        let ordered = [
            "-1e300",
            "-123456789012345678901234567891",
            "-123456789012345678901234567890",
            "-1.5",
            "-0.1",
            "0",
            "1e-300",
            "0.1",
            "0.10000000000000000000001",
            "1",
            "9007199254740992.5",
            "123456789012345678901234567890",
            "123456789012345678901234567890.1",
            "1e300",
        ];
        for pair in ordered.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn sums_lose_no_digit() {
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(sum(&["9007199254740993", "1"]), "9007199254740994");
        assert_eq!(sum(&["18446744073709551615"; 3]), "55340232221128654845");
        assert_eq!(sum(&["1e30", "-1e30", "1e-30"]), "1e-30");
        assert_eq!(sum(&["-5", "2"]), "-3");
        assert_eq!(sum(&["-1000000000000", "1", "-0.5"]), "-999999999999.5");
        assert_eq!(sum(&["5", "-5"]), "0");
        assert_eq!(sum(&["999999999.999999999", "0.000000001"]), "1000000000");
    }

    #[test]
    fn a_number_that_json_values_do_not_hold_becomes_a_text() {
        let raw = r#"{"a": [1, 1.50, 123456789012345678901234567890], "b": {"c": "x", "d": null}}"#;
        let raw: &RawValue = serde_json::from_str(raw).unwrap();
        assert_eq!(
            exact_value(raw).to_string(),
            r#"{"a":[1,1.5,"123456789012345678901234567890"],"b":{"c":"x","d":null}}"#
        );
        assert!(has_long_number(raw.get().as_bytes()));
        assert!(!has_long_number(br#"{"a": 123456789012345, "b": [1.5, 2]}"#));
        let range = r#"{"min": 0.30000000000000000001, "max": 4}"#;
        let range: &RawValue = serde_json::from_str(range).unwrap();
        assert_eq!(
            exact_value(range).to_string(),
            r#"{"max":4,"min":"0.30000000000000000001","type":"DOUBLE"}"#
        );
    }

    #[test]
    fn a_quotient_is_exact_or_said_to_be_rounded() {
        let of = |text: &str, count| {
            let (found, is_exact) = decimal(text).divided_by(count);
            (found.to_string(), is_exact)
        };
        assert_eq!(of("10", 4), ("2.5".into(), true));
        assert_eq!(of("-3", 2), ("-1.5".into(), true));
        assert_eq!(of("36893488147419103230", 2), ("18446744073709551615".into(), true));
        assert_eq!(of("1", 3), ("0.3333333333333333333333333333333333".into(), false));
        assert_eq!(of("2", 3), ("0.6666666666666666666666666666666667".into(), false));
        assert_eq!(of("0", 3), ("0".into(), true));
        assert!(!of("1e-10", u64::MAX).1);
    }

    #[test]
    fn the_multiple_of_a_step_is_below_the_number() {
        for (number, step, floor) in [
            ("7", "5", "5"),
            ("5", "5", "5"),
            ("4.9", "5", "0"),
            ("-0.1", "5", "-5"),
            ("-5", "5", "-5"),
            ("0.35", "0.1", "0.3"),
            ("123456789012345678901234567890", "1000", "123456789012345678901234567000"),
            ("1e20", "3", "99999999999999999999"),
            ("0.001", "0.25", "0"),
            ("1250", "500", "1000"),
        ] {
            assert_eq!(decimal(number).floor_to(&decimal(step)).to_string(), floor, "{number}");
        }
    }
}
