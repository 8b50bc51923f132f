//! One statement, made ready to run.

use protocol::query::QuerySpecification;
use query::GroupRow;

use crate::groups::GroupShape;
use crate::rows::{DocumentColumn, Rows, TooLong};

/// A statement as a query, and how its rows are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub specification: QuerySpecification,
    /// How many of the first documents are left out.
    pub skip: usize,
    pub(crate) shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Documents(Vec<DocumentColumn>),
    /// Not even one row is wanted.
    Nothing(Vec<DocumentColumn>),
    Groups(GroupShape),
}

impl Statement {
    /// The answer, as JSON, to a statement whose rows are documents. Each is JSON as it is shown.
    ///
    /// # Errors
    /// When the rows would have more than `bytes_max`.
    pub fn rows_of_documents(
        &self,
        documents: &[&[u8]],
        bytes_max: usize,
        took_micros: u64,
    ) -> Result<Vec<u8>, TooLong> {
        let rows = match &self.shape {
            Shape::Documents(columns) => Rows::of_documents(columns, documents, bytes_max)?,
            Shape::Nothing(columns) => Rows::of_documents(columns, &[], bytes_max)?,
            Shape::Groups(_) => Rows::default(),
        };
        Ok(rows.to_json(took_micros))
    }

    /// The same for one whose rows are groups.
    ///
    /// # Errors
    /// When the rows would have more than `bytes_max`.
    pub fn rows_of_groups(
        &self,
        groups: Vec<GroupRow>,
        bytes_max: usize,
        took_micros: u64,
    ) -> Result<Vec<u8>, TooLong> {
        let Shape::Groups(shape) = &self.shape else {
            return Ok(Rows::default().to_json(took_micros));
        };
        Ok(shape.rows(groups, bytes_max)?.to_json(took_micros))
    }
}
