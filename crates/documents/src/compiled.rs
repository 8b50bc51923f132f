//! A query, checked and made ready to run.

use protocol::Problem;
use protocol::query::QuerySpecification;

use crate::page::Hit;

/// A query, checked and made ready to run in every partition.
#[derive(Clone, Debug)]
pub struct CompiledQuery {}

impl CompiledQuery {
    /// # Errors
    /// `BAD_REQUEST` that names the part of the specification that is wrong.
    pub fn new(_specification: &QuerySpecification) -> Result<Self, Problem> {
        unimplemented!("to come")
    }

    /// `COUNT` was asked for: pages have no hits, only a count.
    pub fn is_count(&self) -> bool {
        unimplemented!("to come")
    }

    /// The link as shown in `documentLinks`: with all versions, `?documentVersion=N` is added.
    pub fn shown_link(&self, _hit: &Hit) -> String {
        unimplemented!("to come")
    }
}
