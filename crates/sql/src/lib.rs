//! SQL that reads: a text becomes a query, and what the query finds becomes rows.
//!
//! [`parse`] reads one `SELECT`. Kinds are its tables, and what is in a document its columns. The
//! statement becomes a [`protocol::query::QuerySpecification`], which runs as any other query does:
//! over the index, at the owners, for whom it is asked. Nothing here finds a document.
//! [`Statement::rows_of_documents`] and [`Statement::rows_of_groups`] make rows of what was found.
//!
//! What cannot be done is refused by name, with its place in the text. Nothing is passed over: each
//! part of what the parser gives is taken apart whole.
//!
//! A field that a document does not have, or that is null there, is NULL. As in SQL nothing is true
//! of NULL: neither `a = 1` nor `not a = 1` finds a document without `a`.

mod condition;
mod dialect;
mod filter;
mod group_column;
mod groups;
mod having;
mod literal;
mod operand;
mod parse;
mod place;
mod rows;
mod select;
mod statement;
mod table;

pub use parse::parse;
pub use place::SQL_BYTES_MAX;
pub use rows::TooLong;
pub use statement::Statement;
pub use table::Tables;
