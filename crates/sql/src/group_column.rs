//! A column of rows that are groups.

use query::{AggregateValue, GroupRow, Scalar};

/// Where in a group the value of a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupColumn {
    Key(usize),
    Value(usize),
}

impl GroupColumn {
    pub(crate) fn scalar(self, row: &GroupRow) -> Option<&Scalar> {
        match self {
            Self::Key(number) => row.key.get(number)?.as_ref(),
            Self::Value(number) => row.values.get(number)?.scalar.as_ref(),
        }
    }

    pub(crate) fn json(self, row: &GroupRow) -> String {
        match self {
            Self::Key(_) => self.scalar(row).map_or_else(|| "null".into(), Scalar::to_json),
            Self::Value(number) => {
                let value: &AggregateValue = &row.values[number];
                // A single percentile is a number, as any other aggregate.
                match &value.scalar {
                    Some(scalar) => scalar.to_json(),
                    None if value.json.starts_with('{') => "null".into(),
                    None => value.json.clone(),
                }
            }
        }
    }
}
