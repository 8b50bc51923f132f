//! A single value of a document, kept whole: to group by it, and to tell values apart.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::ordered::{Leaf, Numeral};

/// In the order in which hits are sorted: booleans, numbers, texts. Numbers are the same when they
/// are worth the same, however they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scalar {
    Boolean(bool),
    Number(Decimal),
    Text(String),
}

impl Scalar {
    pub(crate) fn of(leaf: Leaf<'_>) -> Self {
        match leaf {
            Leaf::Boolean(boolean) => Self::Boolean(boolean),
            Leaf::Number(Numeral::Natural(natural)) => Self::Number(Decimal::of_u64(natural)),
            Leaf::Number(Numeral::Text(text)) => {
                Self::Number(Decimal::parse(text).unwrap_or_default())
            }
            Leaf::Text(text) => Self::Text(text.to_owned()),
        }
    }

    /// As JSON, a number with all its digits.
    pub fn to_json(&self) -> String {
        match self {
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        }
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Boolean(_) => size_of::<Self>(),
            Self::Number(number) => size_of::<Self>() + number.bytes(),
            Self::Text(text) => size_of::<Self>() + text.len(),
        }
    }
}
