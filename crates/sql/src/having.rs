//! `HAVING`: which groups become rows.

use protocol::Problem;
use query::{Decimal, GroupRow, Scalar};

use crate::condition::{Asks, Condition, Test};
use crate::group_column::GroupColumn;
use crate::literal::Literal;
use crate::place::unsupported;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Having {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(GroupColumn, Wants),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wants {
    Null,
    AnyOf(Vec<Scalar>),
    Within(Option<(Scalar, bool)>, Option<(Scalar, bool)>),
}

impl Having {
    /// `column` says where in a group an operand is.
    pub(crate) fn of(
        condition: &Condition,
        column: &mut dyn FnMut(&Test) -> Result<GroupColumn, Problem>,
    ) -> Result<Self, Problem> {
        let mut each = |parts: &[Condition]| {
            parts.iter().map(|part| Self::of(part, column)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Condition::All(parts) => Self::All(each(parts)?),
            Condition::Any(parts) => Self::Any(each(parts)?),
            Condition::Not(inner) => Self::Not(Box::new(Self::of(inner, column)?)),
            Condition::Test(test) => Self::Test(column(test)?, wants(test)?),
        })
    }

    pub(crate) fn is_true(&self, row: &GroupRow) -> bool {
        self.holds(row) == Some(true)
    }

    /// `None` if that is not known, as a value is not there.
    fn holds(&self, row: &GroupRow) -> Option<bool> {
        match self {
            Self::All(parts) => joined(parts, row, false),
            Self::Any(parts) => joined(parts, row, true),
            Self::Not(inner) => inner.holds(row).map(|holds| !holds),
            Self::Test(column, Wants::Null) => Some(column.scalar(row).is_none()),
            Self::Test(column, Wants::AnyOf(values)) => {
                column.scalar(row).map(|found| values.contains(found))
            }
            Self::Test(column, Wants::Within(low, high)) => {
                let found = column.scalar(row)?;
                let is_above = |(end, is_inclusive): &(Scalar, bool)| {
                    same_sort(found, end) && (found > end || *is_inclusive && found == end)
                };
                let is_below = |(end, is_inclusive): &(Scalar, bool)| {
                    same_sort(found, end) && (found < end || *is_inclusive && found == end)
                };
                Some(low.as_ref().is_none_or(is_above) && high.as_ref().is_none_or(is_below))
            }
        }
    }
}

/// One of them decides, if it is known and like `decides`.
fn joined(parts: &[Having], row: &GroupRow, decides: bool) -> Option<bool> {
    let mut is_known = true;
    for part in parts {
        match part.holds(row) {
            Some(holds) if holds == decides => return Some(decides),
            Some(_) => {}
            None => is_known = false,
        }
    }
    is_known.then_some(!decides)
}

fn same_sort(one: &Scalar, other: &Scalar) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn wants(test: &Test) -> Result<Wants, Problem> {
    let end = |end: &Option<(Literal, bool)>| {
        end.as_ref().map(|(literal, is_inclusive)| (scalar(literal), *is_inclusive))
    };
    Ok(match &test.asks {
        Asks::Null => Wants::Null,
        Asks::Equal(literal) => Wants::AnyOf(vec![scalar(literal)]),
        Asks::In(literals) => Wants::AnyOf(literals.iter().map(scalar).collect()),
        Asks::Within(low, high) => Wants::Within(end(low), end(high)),
        Asks::Like(_) => return unsupported(test.at, "LIKE in HAVING"),
    })
}

fn scalar(literal: &Literal) -> Scalar {
    match literal {
        Literal::Number(text) => Scalar::Number(Decimal::parse(text).unwrap_or_default()),
        Literal::Text(text) => Scalar::Text(text.clone()),
        Literal::Boolean(boolean) => Scalar::Boolean(*boolean),
    }
}
