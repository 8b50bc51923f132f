//! What is known so far of one aggregate of one group. Two of them, of different partitions, become
//! one without any loss: a sum is exact, and distinct values and percentiles come of the values
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use protocol::query::AggregateFunction;
use serde::{Deserialize, Serialize};

use crate::decimal::{Decimal, Sum};
use crate::scalar::Scalar;

/// What an entry of a set or a map takes beside the value, in bytes.
const ENTRY_BYTES: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Partial {
    Count(u64),
    /// A sum of numbers, how many these are, and how many other values were left out.
    Sum {
        sum: Sum,
        count: u64,
        left_out: u64,
    },
    Least(Option<Scalar>),
    Greatest(Option<Scalar>),
    Distinct(BTreeSet<Scalar>),
    /// Numbers, or beginnings of buckets, and how often each is there.
    Numbers {
        numbers: BTreeMap<Decimal, u64>,
        left_out: u64,
    },
}

impl Partial {
    pub(crate) fn of(function: AggregateFunction) -> Self {
        match function {
            AggregateFunction::Count => Self::Count(0),
            AggregateFunction::Sum | AggregateFunction::Avg => {
                Self::Sum { sum: Sum::default(), count: 0, left_out: 0 }
            }
            AggregateFunction::Min => Self::Least(None),
            AggregateFunction::Max => Self::Greatest(None),
            AggregateFunction::Distinct | AggregateFunction::CountDistinct => {
                Self::Distinct(BTreeSet::new())
            }
            AggregateFunction::Histogram | AggregateFunction::Percentiles => {
                Self::Numbers { numbers: BTreeMap::new(), left_out: 0 }
            }
        }
    }

    /// Takes the values that one document has; how many bytes more that takes.
    pub(crate) fn take(&mut self, values: &[Scalar], interval: Option<&Decimal>) -> usize {
        let mut bytes = 0;
        match self {
            Self::Count(count) => *count += u64::from(!values.is_empty()),
            Self::Sum { sum, count, left_out } => {
                let before = sum.bytes();
                for value in values {
                    match value {
                        Scalar::Number(number) => (sum.add(number), *count += 1).1,
                        _ => *left_out += 1,
                    }
                }
                bytes += sum.bytes().saturating_sub(before);
            }
            Self::Least(least) => {
                let found = values.iter().min();
                if found.is_some_and(|found| least.as_ref().is_none_or(|least| found < least)) {
                    bytes += more_than(least.as_ref(), found);
                    *least = found.cloned();
                }
            }
            Self::Greatest(greatest) => {
                let found = values.iter().max();
                if found.is_some_and(|found| greatest.as_ref().is_none_or(|best| found > best)) {
                    bytes += more_than(greatest.as_ref(), found);
                    *greatest = found.cloned();
                }
            }
            Self::Distinct(all) => {
                for value in values.iter().filter(|value| !all.contains(value)).collect::<Vec<_>>()
                {
                    if all.insert(value.clone()) {
                        bytes += ENTRY_BYTES + value.bytes();
                    }
                }
            }
            Self::Numbers { numbers, left_out } => {
                for value in values {
                    let Scalar::Number(number) = value else {
                        *left_out += 1;
                        continue;
                    };
                    let number =
                        interval.map_or_else(|| number.clone(), |step| number.floor_to(step));
                    bytes += add_to(numbers, number, 1);
                }
            }
        }
        bytes
    }

    /// Takes what another one of the same sort has; how many bytes more that takes.
    pub(crate) fn merge(&mut self, other: Self) -> usize {
        let mut bytes = 0;
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (
                Self::Sum { sum, count, left_out },
                Self::Sum { sum: more, count: more_count, left_out: more_left_out },
            ) => {
                let before = sum.bytes();
                sum.merge(&more);
                bytes += sum.bytes().saturating_sub(before);
                *count += more_count;
                *left_out += more_left_out;
            }
            (Self::Least(least), Self::Least(Some(found)))
                if least.as_ref().is_none_or(|least| found < *least) =>
            {
                bytes += more_than(least.as_ref(), Some(&found));
                *least = Some(found);
            }
            (Self::Greatest(greatest), Self::Greatest(Some(found)))
                if greatest.as_ref().is_none_or(|greatest| found > *greatest) =>
            {
                bytes += more_than(greatest.as_ref(), Some(&found));
                *greatest = Some(found);
            }
            (Self::Distinct(all), Self::Distinct(more)) => {
                for value in more {
                    let value_bytes = ENTRY_BYTES + value.bytes();
                    bytes += if all.insert(value) { value_bytes } else { 0 };
                }
            }
            (
                Self::Numbers { numbers, left_out },
                Self::Numbers { numbers: more, left_out: more_left_out },
            ) => {
                for (number, times) in more {
                    bytes += add_to(numbers, number, times);
                }
                *left_out += more_left_out;
            }
            // Nothing was found there, nothing that is better, or it is another query's.
            _ => {}
        }
        bytes
    }

    /// How many values were left out, as they are no numbers.
    pub(crate) fn left_out(&self) -> u64 {
        match self {
            Self::Sum { left_out, .. } | Self::Numbers { left_out, .. } => *left_out,
            _ => 0,
        }
    }

    /// About how many bytes its values take.
    pub(crate) fn kept_bytes(&self) -> usize {
        match self {
            Self::Sum { sum, .. } => sum.bytes(),
            Self::Distinct(all) => all.iter().map(|it| ENTRY_BYTES + it.bytes()).sum(),
            Self::Numbers { numbers, .. } => {
                numbers.keys().map(|it| ENTRY_BYTES + it.bytes()).sum()
            }
            Self::Least(found) | Self::Greatest(found) => found.as_ref().map_or(0, Scalar::bytes),
            Self::Count(_) => 0,
        }
    }
}

/// How many bytes more a value takes than the one whose place it takes.
fn more_than(known: Option<&Scalar>, found: Option<&Scalar>) -> usize {
    let bytes = |value: Option<&Scalar>| value.map_or(0, Scalar::bytes);
    bytes(found).saturating_sub(bytes(known))
}

fn add_to(numbers: &mut BTreeMap<Decimal, u64>, number: Decimal, times: u64) -> usize {
    if let Some(known) = numbers.get_mut(&number) {
        *known += times;
        return 0;
    }
    let bytes = ENTRY_BYTES + number.bytes();
    numbers.insert(number, times);
    bytes
}
