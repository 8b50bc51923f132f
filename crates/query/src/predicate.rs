//! What a term of a query asks of one value.

use std::collections::BTreeSet;

use protocol::Problem;
use protocol::query::{MatchType, NumericRange, QueryTerm};
use serde_json::Value;

use crate::decimal::Decimal;
use crate::ordered::{ExactNumber, Leaf, Numeral};
use crate::pattern::{Pattern, Phrase, Token};

/// The longest `matchValue`, in bytes.
const MATCH_VALUE_BYTES_MAX: usize = 4096;

/// How many values a term may compare with.
pub const MATCH_VALUES_MAX: usize = 4096;

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 512;

/// Each word of a text is written anew, in lower case, to look for a phrase: for a byte that is as
/// much work as to read it so often.
const PHRASE_WEIGHT: usize = 4;

/// What `range.type` may be. With limits that are numbers it makes no difference: numbers compare
/// as numbers.
const RANGE_TYPES: [&str; 4] = ["LONG", "DOUBLE", "DATE", "STRING"];

/// With these a limit that is written as text is a number all the same.
const NUMBER_TYPES: [&str; 2] = ["LONG", "DOUBLE"];

/// What `propertyType` may be. It makes no difference: a value has the type that JSON gives it.
const PROPERTY_TYPES: [&str; 13] = [
    "LONG",
    "STRING",
    "BYTES",
    "PODO",
    "COLLECTION",
    "MAP",
    "BOOLEAN",
    "DOUBLE",
    "InternetAddressV4",
    "InternetAddressV6",
    "DATE",
    "URI",
    "ENUM",
];

/// What is asked of a value. A field with many values meets it when one of them does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Predicate {
    /// Any of these. `"5"` asks for the text as well as for the number, and so does `5`.
    Equal {
        text: String,
        number: Option<ExactNumber>,
        boolean: Option<bool>,
    },
    /// One of many values, as `Equal` compares.
    OneOf {
        texts: BTreeSet<String>,
        numbers: Vec<ExactNumber>,
        booleans: Vec<bool>,
    },
    /// Any value at all.
    Present,
    /// Text that begins so.
    Prefix(String),
    /// Text of that form.
    Wildcard(Pattern),
    /// Text with these words in a row.
    Phrase(Phrase),
    Range {
        from: Option<Limit>,
        to: Option<Limit>,
    },
    /// Text from one to another, by the order of its characters.
    TextRange {
        from: Option<TextLimit>,
        to: Option<TextLimit>,
    },
}

/// One end of a range of texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextLimit {
    pub(crate) text: String,
    pub(crate) is_inclusive: bool,
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) number: ExactNumber,
    pub(crate) is_inclusive: bool,
}

impl Predicate {
    /// `at` is the place of the term, for the error.
    pub(crate) fn new(term: &QueryTerm, at: &str) -> Result<Self, Problem> {
        check_property_type(term, at)?;
        if !term.match_values.is_empty() {
            return Self::one_of(term, at);
        }
        match (&term.match_value, &term.range) {
            (Some(_), Some(_)) => {
                wrong(at, "has a 'matchValue' and a 'range'; give one of them, or two terms")
            }
            (None, None) => wrong(at, "needs a 'matchValue' or a 'range'"),
            (None, Some(range)) => match term.match_type {
                None | Some(MatchType::Term) => Self::range(range, &format!("{at}.range")),
                Some(_) => wrong(at, "has a 'range', which goes with no 'matchType'"),
            },
            (Some(value), None) => Self::matching(value, term.match_type.unwrap_or_default(), at),
        }
    }

    fn matching(value: &Value, match_type: MatchType, at: &str) -> Result<Self, Problem> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(boolean) => boolean.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return wrong(
                    &format!("{at}.matchValue"),
                    "must be a string, a number or a boolean; for several values make a clause \
                     with SHOULD_OCCUR of each",
                );
            }
        };
        let limit = match match_type {
            MatchType::Wildcard => PATTERN_BYTES_MAX,
            _ => MATCH_VALUE_BYTES_MAX,
        };
        if text.len() > limit {
            return wrong(
                &format!("{at}.matchValue"),
                &format!("is {} bytes long; the limit is {limit}", text.len()),
            );
        }
        Ok(match match_type {
            MatchType::Term => Self::equal(text),
            MatchType::Prefix => Self::Prefix(text),
            MatchType::Wildcard => Self::pattern(&text),
            MatchType::Phrase => match Phrase::new(&text) {
                Some(phrase) => Self::Phrase(phrase),
                None => return wrong(&format!("{at}.matchValue"), "has no word to look for"),
            },
        })
    }

    fn one_of(term: &QueryTerm, at: &str) -> Result<Self, Problem> {
        if term.match_value.is_some() || term.range.is_some() {
            return wrong(at, "has 'matchValues' and another comparison; make it two terms");
        }
        let at = format!("{at}.matchValues");
        if !matches!(term.match_type, None | Some(MatchType::Term)) {
            return wrong(&at, "go with the matchType TERM only");
        }
        let count = term.match_values.len();
        if count > MATCH_VALUES_MAX {
            return wrong(&at, &format!("are {count}; the limit is {MATCH_VALUES_MAX}"));
        }
        let (mut texts, mut numbers, mut booleans) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (place, value) in term.match_values.iter().enumerate() {
            let one = Self::matching(value, MatchType::Term, &format!("{at}[{place}]"))?;
            let Self::Equal { text, number, boolean } = one else {
                unreachable!("a TERM is compared for equality")
            };
            texts.insert(text);
            numbers.extend(number);
            booleans.extend(boolean);
        }
        numbers.sort_unstable();
        Ok(Self::OneOf { texts, numbers, booleans })
    }

    pub(crate) fn equal(text: String) -> Self {
        let is_number = Decimal::parse(&text).is_some();
        let number = is_number.then(|| ExactNumber::of(Numeral::Text(&text)));
        Self::Equal { number, boolean: text.parse().ok(), text }
    }

    fn pattern(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let token = match char {
                '*' if tokens.last() == Some(&Token::Many) => continue,
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().unwrap_or('\\')),
                char => Token::Char(char),
            };
            tokens.push(token);
        }
        if tokens == [Token::Many] {
            return Self::Present;
        }
        let pattern = Pattern::new(&tokens);
        let literal = pattern.literal_beginning();
        match &tokens[literal.chars().count()..] {
            [Token::Many] => Self::Prefix(literal),
            _ => Self::Wildcard(pattern),
        }
    }

    fn range(range: &NumericRange, at: &str) -> Result<Self, Problem> {
        if let Some(number_type) = &range.number_type
            && !RANGE_TYPES.contains(&number_type.as_str())
        {
            return wrong(
                &format!("{at}.type"),
                &format!("is '{number_type}'; it may be one of {}", RANGE_TYPES.join(", ")),
            );
        }
        let ends = [
            ("min", &range.min, range.is_min_inclusive),
            ("max", &range.max, range.is_max_inclusive),
        ];
        let is_text = ends.iter().any(|(_, end, _)| matches!(end, Some(Value::String(_))));
        if is_text && !range.number_type.as_deref().is_some_and(|it| NUMBER_TYPES.contains(&it)) {
            return Self::text_range(ends, range.number_type.as_deref(), at);
        }
        let mut limits = [None, None];
        for ((name, end, is_inclusive), limit) in ends.into_iter().zip(&mut limits) {
            let Some(end) = end else { continue };
            let text = match end {
                Value::Number(number) => number.to_string(),
                Value::String(text) if Decimal::parse(text).is_some() => text.clone(),
                _ => return wrong(&format!("{at}.{name}"), "must be a number"),
            };
            let number = ExactNumber::of(Numeral::Text(&text));
            *limit = Some(Limit { number, is_inclusive });
        }
        match limits {
            [None, None] => wrong(at, "needs a 'min', a 'max' or both"),
            [from, to] => Ok(Self::Range { from, to }),
        }
    }

    fn text_range(
        ends: [(&str, &Option<Value>, bool); 2],
        range_type: Option<&str>,
        at: &str,
    ) -> Result<Self, Problem> {
        let mut limits = [None, None];
        for ((name, end, is_inclusive), limit) in ends.into_iter().zip(&mut limits) {
            let at = format!("{at}.{name}");
            let text = match end {
                None => continue,
                Some(Value::String(text)) => text.clone(),
                Some(_) => return wrong(&at, "must be a text, as the other end is one"),
            };
            if text.len() > MATCH_VALUE_BYTES_MAX {
                let length = text.len();
                let why = format!("is {length} bytes long; the limit is {MATCH_VALUE_BYTES_MAX}");
                return wrong(&at, &why);
            }
            *limit = Some(TextLimit { text, is_inclusive });
        }
        if range_type.is_none() {
            return wrong(
                &format!("{at}.type"),
                "is missing: STRING or DATE compares texts, LONG or DOUBLE numbers",
            );
        }
        let [from, to] = limits;
        Ok(Self::TextRange { from, to })
    }

    /// How much more work it is for each byte of a text than to read it.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Wildcard(pattern) => pattern.weight(),
            Self::Phrase(_) => PHRASE_WEIGHT,
            _ => 0,
        }
    }

    pub(crate) fn is_met(&self, leaf: Leaf<'_>) -> bool {
        match (self, leaf) {
            (Self::Present, _) => true,
            (Self::Equal { text, .. }, Leaf::Text(found)) => text == found,
            (Self::Equal { number, .. }, Leaf::Number(found)) => {
                number.as_ref().is_some_and(|number| *number == ExactNumber::of(found))
            }
            (Self::Equal { boolean, .. }, Leaf::Boolean(found)) => *boolean == Some(found),
            (Self::OneOf { texts, .. }, Leaf::Text(found)) => texts.contains(found),
            (Self::OneOf { numbers, .. }, Leaf::Number(found)) => {
                !numbers.is_empty() && numbers.binary_search(&ExactNumber::of(found)).is_ok()
            }
            (Self::OneOf { booleans, .. }, Leaf::Boolean(found)) => booleans.contains(&found),
            (Self::Prefix(prefix), Leaf::Text(found)) => found.starts_with(prefix.as_str()),
            (Self::Wildcard(pattern), Leaf::Text(found)) => pattern.fits(found),
            (Self::Phrase(phrase), Leaf::Text(found)) => phrase.is_in(found),
            (Self::Range { from, to }, Leaf::Number(found)) => {
                let found = ExactNumber::of(found);
                let above = from.as_ref().is_none_or(|from| {
                    found > from.number || from.is_inclusive && found == from.number
                });
                let below = to
                    .as_ref()
                    .is_none_or(|to| found < to.number || to.is_inclusive && found == to.number);
                above && below
            }
            (Self::TextRange { from, to }, Leaf::Text(found)) => {
                let above = from.as_ref().is_none_or(|from| {
                    found > from.text.as_str() || from.is_inclusive && found == from.text
                });
                let below = to.as_ref().is_none_or(|to| {
                    found < to.text.as_str() || to.is_inclusive && found == to.text
                });
                above && below
            }
            _ => false,
        }
    }
}

/// The known names of types, so that a misspelt one is told.
pub(crate) fn check_property_type(term: &QueryTerm, at: &str) -> Result<(), Problem> {
    match &term.property_type {
        Some(name) if !PROPERTY_TYPES.contains(&name.as_str()) => wrong(
            &format!("{at}.propertyType"),
            &format!("is '{name}'; it may be one of {}", PROPERTY_TYPES.join(", ")),
        ),
        _ => Ok(()),
    }
}

/// The error for a part of a specification.
pub(crate) fn wrong<T>(at: &str, why: &str) -> Result<T, Problem> {
    Err(Problem::bad_request(format!("{at} {why}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wildcard(pattern: &str, text: &str) -> bool {
        Predicate::pattern(pattern).is_met(Leaf::Text(text))
    }

    #[test]
    fn a_star_is_any_characters_and_a_question_mark_one() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c", "abc"),
            ("a*c", "abcabc"),
            ("*b*b*", "abab"),
            ("?", "é"),
            ("a?c*", "abc"),
            ("\\*", "*"),
            ("**a**", "xay"),
            ("a\\", "a\\"),
            ("*aab", "aaaab"),
        ] {
            assert!(wildcard(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a*c", "abd"), ("?", ""), ("?", "ab"), ("a", "A"), ("\\*", "a"), ("*b*b*", "ab")]
        {
            assert!(!wildcard(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_multiply_the_work() {
        let pattern = "*a".repeat(100) + "b";
        assert!(!wildcard(&pattern, &"a".repeat(10_000)));
    }

    #[test]
    fn simple_patterns_become_simple_questions() {
        assert_eq!(Predicate::pattern("**"), Predicate::Present);
        assert_eq!(Predicate::pattern("ab*"), Predicate::Prefix("ab".into()));
        assert!(matches!(Predicate::pattern("ab*c"), Predicate::Wildcard(_)));
        assert!(matches!(Predicate::pattern("ab"), Predicate::Wildcard(_)));
    }

    #[test]
    fn a_value_is_equal_in_any_of_its_types() {
        let five = Predicate::matching(&json!(5), MatchType::Term, "term").unwrap();
        assert_eq!(five, Predicate::matching(&json!("5"), MatchType::Term, "term").unwrap());
        assert!(five.is_met(Leaf::Text("5")) && !five.is_met(Leaf::Text("5.0")));
        assert!(five.is_met(Leaf::Number(Numeral::Natural(5))));
        let yes = Predicate::equal("true".into());
        assert!(yes.is_met(Leaf::Boolean(true)) && yes.is_met(Leaf::Text("true")));
        assert!(!yes.is_met(Leaf::Boolean(false)));
    }

    #[test]
    fn the_words_of_a_phrase_stand_in_a_row() {
        let phrase = Predicate::Phrase(Phrase::new("Quick, brown").unwrap());
        assert!(phrase.is_met(Leaf::Text("the QUICK brown-fox")));
        assert!(!phrase.is_met(Leaf::Text("quick red brown")));
        assert!(!phrase.is_met(Leaf::Text("quick brownish")));
    }

    #[test]
    fn the_ends_of_a_range_belong_to_it_when_told() {
        let limit = |number, is_inclusive| {
            Some(Limit { number: ExactNumber::of(Numeral::Natural(number)), is_inclusive })
        };
        let met = |from, to| {
            let range = Predicate::Range { from, to };
            (0..10).filter(|&n| range.is_met(Leaf::Number(Numeral::Natural(n)))).collect::<Vec<_>>()
        };
        assert_eq!(met(limit(3, true), limit(5, true)), [3, 4, 5]);
        assert_eq!(met(limit(3, false), limit(5, false)), [4]);
        assert_eq!(met(None, limit(1, true)), [0, 1]);
        assert_eq!(met(limit(8, false), None), [9]);
        assert!(met(limit(8, true), limit(2, true)).is_empty());
    }
}
