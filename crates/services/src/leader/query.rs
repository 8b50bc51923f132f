//! A query as it is asked and read, and those that wait to be run.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::Problem;
use query::{CompiledQuery, Cursor, HitFilter, parse_specification};
use serde_json::Value;

use crate::io::Effort;

/// How much work all queries of a partition may be within one step; the others run elsewhere.
const STEP_BYTES_MAX: usize = 128 << 10;

/// A query as it is asked.
pub(super) struct Query {
    pub(super) text: Bytes,
    pub(super) after: Option<Cursor>,
    pub(super) limit: usize,
    pub(super) bytes: usize,
    pub(super) effort: Effort,
    pub(super) left_micros: u64,
    /// What of the hits is shown to whoever asks; `None` for all.
    pub(super) filter: Option<HitFilter>,
}

/// One that was read, if it is to be run within the step.
pub(super) struct Compiled {
    pub(super) query: Option<CompiledQuery>,
    pub(super) asked: Query,
}

/// Reads the text of a query, for somebody who may see what the filter shows.
///
/// # Errors
/// What is wrong with it.
pub fn compile(text: &[u8], filter: Option<&HitFilter>) -> Result<CompiledQuery, Problem> {
    let compiled = serde_json::from_slice::<Value>(text)
        .map_err(|error| Problem::bad_body(format!("the query is not JSON: {error}")))
        .and_then(|value| parse_specification(&value))
        .and_then(|specification| CompiledQuery::new(&specification))?;
    Ok(match filter {
        Some(filter) => compiled.filtered(filter.clone()),
        None => compiled,
    })
}

/// Queries that were confirmed.
#[derive(Default)]
pub(super) struct Searches {
    /// They wait for the index.
    pub(super) waiting: VecDeque<(u64, Compiled)>,
    /// The node was asked to come back.
    pub(super) goes_on: bool,
    pub(super) step: StepBudget,
}

/// What may still be done in the present step.
#[derive(Default)]
pub(super) struct StepBudget {
    /// When the step began.
    at: Option<u64>,
    pub(super) is_indexed: bool,
    pub(super) bytes: usize,
}

impl StepBudget {
    pub(super) fn begin(&mut self, at: u64) {
        if self.at != Some(at) {
            *self = Self { at: Some(at), is_indexed: false, bytes: STEP_BYTES_MAX };
        }
    }
}
