//! Numbers come back as they were sent, digit for digit.
//!
//! A state is read into the user's type, or into `serde_json`'s own, and written again. What is in
//! between is a number of 64 bits, so an integer with more digits, or a decimal with more than a
//! double holds, would come back as another text. Keeping all numbers as texts instead
//! (`serde_json`'s `arbitrary_precision`) is no way: it is a switch for the whole program, and with
//! it types that are tagged, untagged or flattened cannot be read any more. So the few numbers that
//! do not survive are put back at the end: where a new state has the same double in the same place
//! as the request or the state before, it gets that text. Nearly all bodies have no such number,
//! and are only looked through.

use std::borrow::Cow;
use std::collections::BTreeMap;

use protocol::Body;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

/// The parts of a request whose fields become fields of the state.
const PARTS: [&str; 2] = ["itemsToAdd", "entriesToAdd"];

/// The new state with the numbers that came from `request` or from the state `before` as they were
/// there.
pub(crate) fn kept(new: Body, request: &[u8], before: Option<&Body>) -> Body {
    let before = before.map_or(&b""[..], Body::as_bytes);
    if survives(request) && survives(before) && !has_text_of_number(request) {
        return new;
    }
    let parts = serde_json::from_slice(request).ok().and_then(object).unwrap_or_default();
    let parts = PARTS.iter().filter_map(|part| parts.get(*part).map(|raw| raw.get().as_bytes()));
    let sources: Vec<&[u8]> = [request].into_iter().chain(parts).chain([before]).collect();
    restored(new.as_bytes(), &sources).map_or(new, Body::from_text)
}

/// What a task has made of these answers and of its state `before`, with their numbers. What a task
/// asks for is such a thing as well: it is made of the state.
pub(crate) fn kept_of<'a>(
    new: &[u8],
    answers: impl Iterator<Item = &'a [u8]>,
    before: &'a Body,
) -> Option<String> {
    let sources: Vec<&[u8]> = answers.chain([before.as_bytes()]).collect();
    let is_lost = sources.iter().any(|source| !survives(source));
    if is_lost { restored(new, &sources) } else { None }
}

fn restored(new: &[u8], sources: &[&[u8]]) -> Option<String> {
    let sources: Vec<&RawValue> =
        sources.iter().filter_map(|source| serde_json::from_slice(source).ok()).collect();
    let new: &RawValue = serde_json::from_slice(new).ok()?;
    let mut text = String::with_capacity(new.get().len() + 64);
    put(&mut text, new, &sources);
    Some(text)
}

/// The text of a field of a JSON object, as it was written.
pub(crate) fn written(object_text: &[u8], name: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_slice(object_text).ok()?;
    field_of(raw, name).map(|field| field.get().to_owned())
}

/// Whether a field is the same in both, numbers by all their digits: 1.50 and 1.5 are the same.
pub(crate) fn have_the_same(one: &Body, other: &Body, name: &str) -> bool {
    let raw = |body| serde_json::from_slice::<&RawValue>(Body::as_bytes(body)).ok();
    let (one, other) = (raw(one), raw(other));
    let of = |raw: Option<&RawValue>| raw.and_then(|raw| field_of(raw, name).map(exact));
    of(one) == of(other)
}

/// A value whose numbers are texts, one for each number, so that it can be compared.
fn exact(raw: &RawValue) -> Value {
    if let Some(fields) = object(raw) {
        let exact = |(name, field): (Cow<'_, str>, &RawValue)| (name.into_owned(), exact(field));
        return Value::Object(fields.into_iter().map(exact).collect());
    }
    if let Some(items) = array(raw) {
        return items.into_iter().map(exact).collect();
    }
    match read(raw) {
        // A text stands in an object as well: so it is no number's.
        Some(Value::Number(_)) => json!({ "number": decimal(raw.get()) }),
        Some(Value::String(text)) => json!({ "text": text }),
        other => other.unwrap_or_default(),
    }
}

/// One text for each number: its digits without zeros around them, and the power of ten.
pub(crate) fn decimal(number: &str) -> String {
    let (rest, power) = match number.split_once(['e', 'E']) {
        Some((rest, power)) => (rest, power.parse::<i64>().unwrap_or(i64::MAX)),
        None => (number, 0),
    };
    let (sign, rest) = rest.strip_prefix('-').map_or(("", rest), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let shift = length(digits) - length(significant) - length(fraction);
    format!("{sign}{significant}e{}", power.saturating_add(shift))
}

/// Whether every number in a JSON text is written as it would be after it was read.
pub(crate) fn survives(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => after_string(after),
            b'-' | b'0'..=b'9' => {
                let end = rest.iter().position(|byte| !is_of_number(*byte)).unwrap_or(rest.len());
                let (number, after) = rest.split_at(end);
                if !number_survives(number) {
                    return false;
                }
                after
            }
            _ => after,
        };
    }
    true
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// What comes after a string of which the first quote was taken.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' => return after,
            b'\\' => rest = after.get(1..).unwrap_or_default(),
            _ => rest = after,
        }
    }
    rest
}

/// Whether a string in a JSON text is a number that would be written in another way.
fn has_text_of_number(mut rest: &[u8]) -> bool {
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        let string = &rest[start + 1..];
        rest = after_string(string);
        let number = &string[..(string.len() - rest.len()).saturating_sub(1)];
        let begins = number.first().is_some_and(|byte| matches!(byte, b'-' | b'0'..=b'9'));
        if begins && !number_survives(number) {
            return true;
        }
    }
    false
}

fn unquoted(source: &str) -> &str {
    source.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(source)
}

/// Whether the number is another one after it was read, and not only written in another way.
pub(crate) fn is_lost(number: &str) -> bool {
    !number_survives(number.as_bytes()) && decimal(number) != decimal(&same_text(number))
}

fn number_survives(number: &[u8]) -> bool {
    // Eighteen digits fit into 64 bits.
    let is_short = number.len() <= 18 && number.iter().all(u8::is_ascii_digit);
    is_short || std::str::from_utf8(number).is_ok_and(|number| same_text(number) == number)
}

/// The number as it would be written after it was read.
fn same_text(number: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Number>(number) {
        Ok(read) => read.to_string().into(),
        Err(_) => number.into(),
    }
}

fn put(text: &mut String, new: &RawValue, sources: &[&RawValue]) {
    if let Some(fields) = object(new) {
        text.push('{');
        for (number, (name, field)) in fields.into_iter().enumerate() {
            let sources: Vec<_> = sources.iter().filter_map(|it| field_of(it, &name)).collect();
            text.push_str(if number == 0 { "" } else { "," });
            text.push_str(&Value::from(&*name).to_string());
            text.push(':');
            put(text, field, &sources);
        }
        text.push('}');
    } else if let Some(items) = array(new) {
        let sources: Vec<Vec<&RawValue>> = sources.iter().filter_map(|it| array(it)).collect();
        text.push('[');
        for (number, item) in items.into_iter().enumerate() {
            text.push_str(if number == 0 { "" } else { "," });
            put(text, item, &of_item(item, number, &sources));
        }
        text.push(']');
    } else {
        // "1.50" is taken where a double is wanted.
        let mut written = sources.iter().map(|source| unquoted(source.get()));
        let written = written.find(|source| is_same_number(new.get(), source));
        text.push_str(written.unwrap_or(new.get()));
    }
}

/// Where an item of a list may have come from: one that is equal, or the one in its place.
fn of_item<'a>(item: &RawValue, number: usize, sources: &[Vec<&'a RawValue>]) -> Vec<&'a RawValue> {
    let value = read(item);
    let mut found = Vec::new();
    for source in sources {
        let here = source.get(number).copied();
        let equal = here.filter(|here| read(here) == value);
        let equal = equal.or_else(|| source.iter().copied().find(|other| read(other) == value));
        found.extend(equal.or(here));
    }
    found
}

pub(crate) fn read(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

/// A double that was written out again, and the text that it was read from. What has more digits
/// than a double was put there as it was written.
fn is_same_number(new: &str, source: &str) -> bool {
    if is_lost(new) {
        return false;
    }
    let Ok(new) = serde_json::from_str::<Number>(new) else { return false };
    let Ok(source) = serde_json::from_str::<Number>(source) else { return false };
    new.is_f64() && new.as_f64() == source.as_f64()
}

pub(crate) fn object(raw: &RawValue) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok())?
}

fn field_of<'a>(raw: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    object(raw)?.remove(name)
}

pub(crate) fn array(raw: &RawValue) -> Option<Vec<&RawValue>> {
    raw.get().starts_with('[').then(|| serde_json::from_str(raw.get()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> Body {
        Body::from_text(text)
    }

    /// What is kept of a body that was read and written as it stands.
    fn kept_text(request: &str, before: &'static str) -> String {
        let map = serde_json::from_str(request).unwrap();
        let new = Body::from_map(map);
        let kept = kept(new, request.as_bytes(), Some(&body(before)));
        String::from_utf8(kept.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn numbers_that_do_not_survive_are_noticed() {
        for plain in ["0", "-1", "18446744073709551615", "0.1", "117.63331139400017", "1e+300"] {
            assert!(survives(format!("{{\"a\":[{plain}]}}").as_bytes()), "{plain}");
        }
        for lost in
            ["18446744073709551616", "1.10", "1e2", "-0", "0.12345678901234567890", "1E5", "1e300"]
        {
            assert!(!survives(format!("{{\"a\":[{lost}]}}").as_bytes()), "{lost}");
        }
        assert!(survives(br#"{"a1.10":"1.10 \" 1.10","b":"\\"}"#), "these are no numbers");
        assert!(!survives(br#"{"a":"\\","b":1.10}"#));
    }

    #[test]
    fn a_number_comes_back_as_it_was_sent() {
        for text in [
            r#"{"a":123456789012345678901234567890}"#,
            r#"{"a":-0.10,"b":{"c":[1,1.50,{"d":1.25e1}]}}"#,
            r#"{"a":3.14159265358979323846264338327950288,"b":"1.10"}"#,
        ] {
            assert_eq!(kept_text(text, "{}"), text);
        }
    }

    #[test]
    fn a_number_of_the_state_before_stays_and_another_one_is_as_the_handler_made_it() {
        let before = body(r#"{"a":1.50,"b":{"c":2.50},"d":[7.10,8.10],"e":18446744073709551616}"#);
        let new = r#"{"a":1.5,"b":{"c":3.5},"d":[8.1,9.1,7.1],"e":18446744073709551615}"#;
        let kept = kept(body(new), b"{\"x\":1}", Some(&before));
        let expected = r#"{"a":1.50,"b":{"c":3.5},"d":[8.10,9.1,7.10],"e":18446744073709551615}"#;
        assert_eq!(kept, body(expected));
    }

    #[test]
    fn items_that_are_added_keep_their_digits() {
        let request = br#"{"itemsToAdd":{"a":[2.20]},"entriesToAdd":{"b":{"c":3.30}}}"#;
        let kept = kept(body(r#"{"a":[1,2.2],"b":{"c":3.3}}"#), request, None);
        assert_eq!(kept, body(r#"{"a":[1,2.20],"b":{"c":3.30}}"#));
    }

    #[test]
    fn a_text_that_became_a_number_keeps_its_digits() {
        let long = "0.1234567890123456789";
        let request = format!(r#"{{"a":"1.50","b":["{long}"],"c":"7.10"}}"#);
        let kept = |request: &str| {
            let new = body(r#"{"a":1.5,"b":[0.12345678901234568],"c":"7.10"}"#);
            String::from_utf8(kept(new, request.as_bytes(), None).as_bytes().to_vec()).unwrap()
        };
        assert_eq!(kept(&request), format!(r#"{{"a":1.50,"b":[{long}],"c":"7.10"}}"#));
        for none in [r#"{"a":"2024-01-02","b":"007","c":"7"}"#, "{\"c\":\"7\\\"", "\""] {
            assert!(!has_text_of_number(none.as_bytes()), "{none}");
        }
    }

    #[test]
    fn numbers_are_compared_by_all_their_digits() {
        for same in [("1.50", "1.5"), ("100", "1e2"), ("-0.10", "-1.0E-1"), ("0", "-0.0e5")] {
            assert_eq!(decimal(same.0), decimal(same.1));
        }
        for other in [("123456789012345678901", "123456789012345678902"), ("1", "-1"), ("1", "10")]
        {
            assert_ne!(decimal(other.0), decimal(other.1));
        }
        let before = body(r#"{"a":{"b":[123456789012345678901,1.50,"1"]},"c":1}"#);
        let same = body(r#"{"a":{"b":[123456789012345678901,1.5,"1"]},"c":2}"#);
        let other = body(r#"{"a":{"b":[123456789012345678902,1.5,"1"]},"c":"1"}"#);
        assert!(have_the_same(&before, &same, "a") && !have_the_same(&before, &other, "a"));
        assert!(!have_the_same(&before, &same, "c") && !have_the_same(&before, &other, "c"));
        assert!(have_the_same(&before, &other, "d"));
    }

    #[test]
    fn what_a_task_makes_of_answers_and_of_its_state_keeps_their_digits() {
        let before = body(r#"{"a":1.10,"b":123456789012345678901}"#);
        let answer = br#"{"results":{"c":[2.20]}}"#;
        let new = br#"{"a":1.1,"b":1.2345678901234568e+20,"results":{"c":[2.2]}}"#;
        let kept = kept_of(new, [&answer[..]].into_iter(), &before);
        let expected = r#"{"a":1.10,"b":123456789012345678901,"results":{"c":[2.20]}}"#;
        assert_eq!(kept.as_deref(), Some(expected));
        assert_eq!(kept_of(new, std::iter::empty(), &body("{}")), None, "nothing to keep");
    }
}
