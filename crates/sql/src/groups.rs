//! A statement whose rows are groups: what each column is, and in what order they come.

use std::cmp::Ordering;

use protocol::Problem;
use protocol::query::{Aggregate, AggregateFunction};
use query::GroupRow;
use sqlparser::tokenizer::Span;

use crate::group_column::GroupColumn;
use crate::having::Having;
use crate::operand::Operand;
use crate::place::refused;
use crate::rows::{Room, Rows, TooLong};

/// How rows are made of groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupShape {
    pub(crate) columns: Vec<(String, GroupColumn)>,
    pub(crate) having: Option<Having>,
    /// Each with whether it goes downward.
    pub(crate) order: Vec<(GroupColumn, bool)>,
    pub(crate) skip: usize,
    pub(crate) limit: Option<usize>,
}

/// The fields and the aggregates that a statement names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    pub(crate) keys: Vec<String>,
    pub(crate) aggregates: Vec<Aggregate>,
}

impl Named {
    pub(crate) fn column(&mut self, operand: &Operand, at: Span) -> Result<GroupColumn, Problem> {
        match operand {
            Operand::Field(name) => match self.keys.iter().position(|key| key == name) {
                Some(number) => Ok(GroupColumn::Key(number)),
                None => {
                    refused(at, &format!("{name} is neither in GROUP BY nor within an aggregate"))
                }
            },
            Operand::Aggregate(aggregate) => {
                let known = |it: &Aggregate| Aggregate { name: None, ..it.clone() } == *aggregate;
                if let Some(number) = self.aggregates.iter().position(known) {
                    return Ok(GroupColumn::Value(number));
                }
                let number = self.aggregates.len();
                let name = Some(format!("a{number}"));
                self.aggregates.push(Aggregate { name, ..aggregate.clone() });
                Ok(GroupColumn::Value(number))
            }
        }
    }

    /// One that can be compared.
    pub(crate) fn single(&mut self, operand: &Operand, at: Span) -> Result<GroupColumn, Problem> {
        let column = self.column(operand, at)?;
        self.check_single(column, at)?;
        Ok(column)
    }

    pub(crate) fn check_single(&self, column: GroupColumn, at: Span) -> Result<(), Problem> {
        let GroupColumn::Value(number) = column else { return Ok(()) };
        match self.aggregates[number].function {
            AggregateFunction::Distinct | AggregateFunction::Histogram => {
                refused(at, "this is a list, which has no order and equals nothing")
            }
            _ => Ok(()),
        }
    }
}

impl GroupShape {
    /// The rows, in order, and for each column how many values were left out.
    ///
    /// # Errors
    /// When the rows would have more than `bytes_max`.
    pub(crate) fn rows(
        &self,
        mut groups: Vec<GroupRow>,
        bytes_max: usize,
    ) -> Result<Rows, TooLong> {
        if let Some(having) = &self.having {
            groups.retain(|row| having.is_true(row));
        }
        // Groups that are equal here stay in the order of their keys.
        groups.sort_by(|one, other| self.compare(one, other));
        let shown = groups.into_iter().skip(self.skip).take(self.limit.unwrap_or(usize::MAX));
        let shown: Vec<GroupRow> = shown.collect();
        let mut left_out = Vec::new();
        for (name, column) in &self.columns {
            let GroupColumn::Value(number) = column else { continue };
            let count = shown.iter().map(|row| row.values[*number].left_out).sum();
            if count > 0 {
                left_out.push((name.clone(), count));
            }
        }
        let (mut room, mut rows) = (Room(bytes_max), Vec::with_capacity(shown.len()));
        for row in &shown {
            let mut cells = Vec::with_capacity(self.columns.len());
            for (_, column) in &self.columns {
                let cell = column.json(row);
                room.take(&cell)?;
                cells.push(cell);
            }
            rows.push(cells);
        }
        let columns = self.columns.iter().map(|(name, _)| name.clone()).collect();
        Ok(Rows { columns, rows, left_out })
    }

    fn compare(&self, one: &GroupRow, other: &GroupRow) -> Ordering {
        let mut order = Ordering::Equal;
        for (column, is_descending) in &self.order {
            order = order.then(match (column.scalar(one), column.scalar(other)) {
                (Some(one), Some(other)) if *is_descending => other.cmp(one),
                (Some(one), Some(other)) => one.cmp(other),
                // NULL comes last, upward and downward, as in the order of documents.
                (one, other) => one.is_none().cmp(&other.is_none()),
            });
        }
        order
    }
}
