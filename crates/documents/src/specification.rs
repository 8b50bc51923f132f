//! Reading a query specification from JSON, with errors that name the wrong part.

use protocol::Problem;
use protocol::query::QuerySpecification;
use serde_json::Value;

/// Reads `querySpec`. Unlike plain serde it refuses misspelt and unsupported parts, says where
/// they are and how they are spelled, and drops Xenon's options that make no difference here.
///
/// # Errors
/// `BAD_REQUEST` that names the wrong part and the right spelling.
pub fn parse_specification(_specification: &Value) -> Result<QuerySpecification, Problem> {
    unimplemented!("to come")
}
