//! Queries: a short one is run at once, within the step; one that takes longer runs elsewhere, on a
//! view of the partition, so that nobody waits for it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use documents::{Search, Wanted};
use group::Output;
use protocol::Problem;
use query::{CompiledQuery, Cursor, Page, parse_specification};
use serde_json::Value;
use storage::StoreError;

use super::reads::Question;
use super::{PartitionLeader, StepContext};
use crate::body::bad_body;
use crate::machine::{PartitionAction, PartitionAnswer, WantedSearch};

/// How much work a query may be for being run within the step, in bytes (see `documents`): a
/// millisecond or so.
const SHORT_BYTES_MAX: usize = 64 << 10;

/// How much work all queries of a partition may be within one step; the others run elsewhere.
const STEP_BYTES_MAX: usize = 128 << 10;

/// A query with more terms is not even tried within the step.
const SHORT_TERMS_MAX: usize = 8;

/// How many documents are indexed in one step while a query waits for it.
const INDEX_BUDGET: usize = 128;

/// How many documents are indexed at a tick when no query waits.
const INDEX_IDLE_BUDGET: usize = 64;

/// A query as it is asked.
pub(super) struct Query {
    pub(super) text: Bytes,
    pub(super) after: Option<Cursor>,
    pub(super) limit: usize,
    pub(super) bytes: usize,
}

/// One that has been understood.
pub(super) struct Compiled {
    query: Arc<CompiledQuery>,
    asked: Query,
}

/// Queries that were confirmed.
#[derive(Default)]
pub(super) struct Searches {
    /// They wait for the index.
    waiting: VecDeque<(u64, Compiled)>,
    /// The node was asked to come back.
    goes_on: bool,
    step: StepBudget,
}

/// What may still be done in the present step.
#[derive(Default)]
struct StepBudget {
    /// When the step began.
    at: Option<u64>,
    is_indexed: bool,
    bytes: usize,
}

impl PartitionLeader {
    pub(super) fn query(&mut self, cx: &mut StepContext<'_, '_>, ticket: u64, asked: Query) {
        let compiled = serde_json::from_slice::<Value>(&asked.text)
            .map_err(|error| bad_body(format!("the query is not JSON: {error}")))
            .and_then(|value| parse_specification(&value))
            .and_then(|specification| CompiledQuery::new(&specification));
        match compiled {
            Ok(query) => {
                let compiled = Compiled { query: Arc::new(query), asked };
                self.confirm(cx, ticket, Question::Query(compiled));
            }
            Err(problem) => cx.put(Output::Refuse { ticket, problem }),
        }
    }

    pub(super) fn begin_search(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        query: Compiled,
    ) -> Result<(), StoreError> {
        self.searches.waiting.push_back((ticket, query));
        self.search(cx)
    }

    /// The node has come back.
    pub(super) fn search_on(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.searches.goes_on = false;
        self.search(cx)
    }

    pub(super) fn tick_index(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        if self.searches.waiting.is_empty() {
            cx.machine.partition.index_at_leisure(cx.at.store, INDEX_IDLE_BUDGET)?;
            return Ok(());
        }
        self.search(cx)
    }

    /// Brings the index up to what was written, a little in each step, then begins what waits. An
    /// index that is being made anew is not waited for.
    fn search(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.searches.step.begin(cx.now().steady_micros);
        let partition = &mut cx.machine.partition;
        if partition.index_follows() && !partition.is_indexed() {
            let was_used = std::mem::replace(&mut self.searches.step.is_indexed, true);
            if was_used || !partition.index(cx.at.store, INDEX_BUDGET)? {
                if !std::mem::replace(&mut self.searches.goes_on, true) {
                    let opening = self.duty.opening;
                    cx.put(Output::Do(PartitionAction::GoOn { opening }));
                }
                return Ok(());
            }
        }
        while let Some((ticket, compiled)) = self.searches.waiting.pop_front() {
            self.run(cx, ticket, compiled)?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        compiled: Compiled,
    ) -> Result<(), StoreError> {
        let Compiled { query, asked: Query { text, after, limit, bytes } } = compiled;
        let wanted = Wanted { after, hits: limit, bytes, now: cx.now().wall };
        let left = self.searches.step.bytes.min(SHORT_BYTES_MAX);
        if query.terms() <= SHORT_TERMS_MAX && left > 0 {
            let view = cx.partition().view().in_a_hurry();
            let mut search = Search::new(view, Arc::clone(&query), wanted.clone());
            let page = search.step(cx.reader(), left)?;
            self.searches.step.bytes -= left.min(search.spent());
            if let Some(page) = page {
                answer(cx, ticket, Ok(page));
                return Ok(());
            }
        }
        let opening = self.duty.opening;
        let text_bytes = text.len();
        let search = WantedSearch { opening, ticket, query, wanted, text_bytes };
        cx.put(Output::Do(PartitionAction::Search(Box::new(search))));
        Ok(())
    }
}

impl StepBudget {
    fn begin(&mut self, at: u64) {
        if self.at != Some(at) {
            *self = Self { at: Some(at), is_indexed: false, bytes: STEP_BYTES_MAX };
        }
    }
}

/// What a query has found, or why it could not.
pub(super) fn answer(cx: &mut StepContext<'_, '_>, ticket: u64, found: Result<Page, Problem>) {
    cx.put(match found {
        Ok(page) => {
            Output::Answer { ticket, answer: PartitionAnswer::Page(page), position: None }
        }
        Err(problem) => Output::Refuse { ticket, problem },
    });
}
