//! JSON as Gson reads it, which is how Xenon reads a body: "5" and 5.0 are whole numbers where one
//! is wanted, 7 and true are texts, "true" is true. Whatever is beyond that is refused.

use std::borrow::Cow;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde_json::{Error, Number, Value};

use crate::digits::decimal;
use crate::{FieldType, Numbers};

/// The whole number that is meant, if one is. `written`: the text of a number in the request, if
/// it is another one than it is kept as.
pub(crate) fn whole(value: &Value, written: Option<&str>) -> Option<Number> {
    match (value, written) {
        (_, Some(number)) => whole_in(number),
        (Value::Number(number), None) if number.is_f64() => whole_in(&number.to_string()),
        (Value::Number(number), None) => Some(number.clone()),
        (Value::String(text), None) if is_number(text) => whole_in(text),
        _ => None,
    }
}

/// 5.0 and 50e-1 are whole. By its text, as a double is not always the number that was written.
fn whole_in(number: &str) -> Option<Number> {
    /// The largest of 64 bits has twenty.
    const DIGITS_OF_64_BITS: usize = 20;
    let exact = decimal(number);
    let Some((digits, power)) = exact.split_once('e') else { return Some(0.into()) };
    let zeros = usize::try_from(power.parse::<i64>().ok()?).ok()?;
    if digits.len() + zeros.min(DIGITS_OF_64_BITS) > DIGITS_OF_64_BITS {
        return None;
    }
    let text = format!("{digits}{}", "0".repeat(zeros));
    let signed = text.parse::<i64>().ok().map(Number::from);
    signed.or_else(|| text.parse::<u64>().ok().map(Number::from))
}

/// Rust reads "inf", "+1" and ".5" as well.
fn is_number(text: &str) -> bool {
    serde_json::from_str::<Number>(text).is_ok()
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if is_number(text) => text.parse().ok(),
        _ => None,
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, written: Option<&'a str>) -> Option<Cow<'a, str>> {
    match value {
        Value::String(text) => Some(written.unwrap_or(text).into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(truth) => Some(truth.to_string().into()),
        _ => None,
    }
}

/// Makes a value one of this type, if it is meant as one. `written`: its text in the request, as a
/// number may have been written in another way than it is kept.
pub(crate) fn coerce(
    value: &mut Value,
    wanted: FieldType,
    written: impl FnOnce() -> Option<String>,
) {
    let meant = match (wanted, &*value) {
        (_, Value::Null) => None,
        // Longer ones than 64 bits stay as they are.
        (FieldType::Long, Value::String(_)) => whole(value, None).map(Value::Number),
        (FieldType::Long, Value::Number(number)) if number.is_f64() => {
            whole(value, written().as_deref()).map(Value::Number)
        }
        (FieldType::Double, Value::String(_)) => double(value).map(Value::from),
        (FieldType::Boolean, Value::String(_)) => truth(value).map(Value::Bool),
        (FieldType::String, Value::Number(number)) => {
            Some(written().unwrap_or_else(|| number.to_string()).into())
        }
        (FieldType::String, Value::Bool(truth)) => Some(truth.to_string().into()),
        _ => None,
    };
    if let Some(meant) = meant {
        *value = meant;
    }
}

/// Reads a value leniently, at any depth.
#[derive(Clone, Copy)]
pub(crate) struct Lenient<'de> {
    value: &'de Value,
    /// What the numbers are that stand in it as texts.
    numbers: &'de Numbers,
}

impl<'de> Lenient<'de> {
    pub(crate) fn new(value: &'de Value, numbers: &'de Numbers) -> Self {
        Self { value, numbers }
    }

    fn written(self) -> Option<&'de str> {
        self.numbers.written(self.value)
    }
}

impl<'de> IntoDeserializer<'de, Error> for Lenient<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! whole_numbers {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match whole(self.value, self.written()) {
                Some(number) => number.deserialize_any(visitor),
                None => self.numbers.plain(self.value).$name(visitor),
            }
        })*
    };
}

macro_rules! doubles {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.numbers.plain(self.value);
            match (&value, double(&value)) {
                (Value::String(_), Some(double)) => visitor.visit_f64(double),
                _ => value.$name(visitor),
            }
        })*
    };
}

macro_rules! texts {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match text(self.value, self.written()) {
                Some(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
                Some(Cow::Owned(text)) => visitor.visit_string(text),
                None => self.value.$name(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let numbers = self.numbers;
        match self.value {
            Value::Array(items) => {
                let item = |value: &'de Value| Self { value, numbers };
                let mut items = SeqDeserializer::new(items.iter().map(item));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let pair =
                    |(name, value): (&'de String, &'de Value)| (Key(name), Self { value, numbers });
                let mut fields = MapDeserializer::new(fields.iter().map(pair));
                let value = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(value)
            }
            plain if self.written().is_some() => numbers.plain(plain).deserialize_any(visitor),
            plain => plain.deserialize_any(visitor),
        }
    }

    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }
    doubles! { deserialize_f32 deserialize_f64 }
    texts! { deserialize_str deserialize_string }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match truth(self.value) {
            Some(truth) => visitor.visit_bool(truth),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.numbers.is_empty() {
            return self.value.deserialize_enum(name, variants, visitor);
        }
        self.numbers.plain(self.value).deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// The name of a field. Where the type has a map of numbers it is one.
struct Key<'de>(&'de str);

impl<'de> IntoDeserializer<'de, Error> for Key<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbered {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match serde_json::from_str::<Number>(self.0) {
                Ok(number) => number.deserialize_any(visitor),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    numbered! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i128 deserialize_u128 deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => visitor.visit_borrowed_str(other),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct State {
        long: i64,
        small: Option<u8>,
        double: f64,
        truth: bool,
        text: String,
        map: BTreeMap<String, String>,
        list: Vec<u32>,
        #[serde(default)]
        numbered: BTreeMap<u64, String>,
    }

    fn read(value: &Value) -> Result<State, String> {
        State::deserialize(Lenient::new(value, &Numbers::default()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_gson_takes_is_taken_at_any_depth() {
        let state = json!({"long": "5", "small": 5.0, "double": "2.5", "truth": "true", "text": 7,
            "map": {"k": false, "l": 1.5}, "list": ["1", 2, 3.0], "numbered": {"7": 8}});
        let state = read(&state).unwrap();
        assert_eq!((state.long, state.small, state.double, state.truth), (5, Some(5), 2.5, true));
        assert_eq!(state.text, "7");
        assert_eq!((state.map["k"].as_str(), state.map["l"].as_str()), ("false", "1.5"));
        assert_eq!(state.list, [1, 2, 3]);
        assert_eq!(state.numbered[&7], "8", "as serde_json reads the keys of maps");
    }

    #[test]
    fn what_it_does_not_take_is_refused() {
        let good =
            json!({"long": 5, "double": 1, "truth": true, "text": "a", "map": {}, "list": []});
        assert!(read(&good).is_ok());
        for (field, wrong) in [
            ("long", json!("five")),
            ("long", json!(5.5)),
            ("long", json!("+5")),
            ("long", json!(true)),
            ("small", json!(300)),
            ("double", json!("inf")),
            ("truth", json!(1)),
            ("truth", json!("yes")),
            ("text", json!({})),
            ("text", json!([])),
            ("list", json!("1")),
        ] {
            let mut state = good.clone();
            state[field] = wrong;
            assert!(read(&state).is_err(), "{state}");
        }
    }

    #[test]
    fn whole_numbers_are_read_by_their_digits() {
        for (written, number) in [
            ("5.0", json!(5)),
            ("-0.0", json!(0)),
            ("1e3", json!(1000)),
            ("120e-1", json!(12)),
            ("9007199254740993.0", json!(9_007_199_254_740_993_u64)),
            ("-9223372036854775808.00", json!(i64::MIN)),
            ("18446744073709551615.0", json!(u64::MAX)),
        ] {
            assert_eq!(whole_in(written).map(Value::from), Some(number.clone()), "{written}");
            assert_eq!(whole(&written.into(), None).map(Value::from), Some(number), "{written}");
        }
        let others = ["5.00000000000000001", "9007199254740992.5", "18446744073709551616", "1e300"];
        for written in others {
            assert_eq!(whole_in(written), None, "{written}");
            assert_eq!(whole(&written.into(), None), None, "{written}");
        }
    }

    #[test]
    fn numbers_in_place_of_texts_are_as_they_were_written_at_any_depth() {
        let good = r#"{"long":5.00,"double":1.50,"truth":true,"text":1.50,
            "map":{"k":123456789012345678901234567890,"l":"\u00000:7"},"list":[7.00]}"#;
        let read = |text: &str| {
            let fields: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
            let numbers = Numbers::of(None, text.as_bytes(), &fields);
            let fields = Value::Object(numbers.of_patch(fields));
            State::deserialize(Lenient::new(&fields, &numbers)).map_err(|error| error.to_string())
        };
        let state = read(good).unwrap();
        assert_eq!((state.long, state.double, state.text.as_str()), (5, 1.5, "1.50"));
        assert_eq!(state.map["k"], "123456789012345678901234567890");
        assert_eq!(state.map["l"], "\0".to_owned() + "0:7", "that is a text");
        assert_eq!(state.list, [7]);
        let why = read(&good.replace("7.00", "7.00000000000000001")).unwrap_err();
        assert!(why.contains("floating point"), "{why}");
    }

    #[test]
    fn a_value_becomes_one_of_the_declared_type_or_stays() {
        let of = |value: Value, wanted, written: Option<&str>| {
            let mut value = value;
            coerce(&mut value, wanted, || written.map(ToOwned::to_owned));
            value
        };
        assert_eq!(of(json!("5"), FieldType::Long, None), json!(5));
        assert_eq!(of(json!(5.0), FieldType::Long, None), json!(5));
        assert_eq!(of(json!(1.5), FieldType::String, Some("1.50")), json!("1.50"));
        let nearly = of(json!(5.0), FieldType::Long, Some("5.00000000000000001"));
        assert_eq!(nearly, json!(5.0), "it is no whole number");
        let large = of(json!(9_007_199_254_740_992.0), FieldType::Long, Some("9007199254740993.0"));
        assert_eq!(large, json!(9_007_199_254_740_993_u64));
        assert_eq!(of(json!("TRUE"), FieldType::Boolean, None), json!(true));
        for (value, wanted) in [
            (json!("x"), FieldType::Long),
            (json!(5.5), FieldType::Long),
            (json!("5"), FieldType::Any),
            (json!(null), FieldType::String),
            (json!({}), FieldType::String),
        ] {
            assert_eq!(of(value.clone(), wanted, None), value);
        }
    }
}
