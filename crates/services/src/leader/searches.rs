//! Queries. Whoever asks says how much effort is to be made: a short query is run at once, within
//! the step; one that takes longer runs elsewhere, on a view of the partition, so that nobody waits
//! for it.

use std::sync::Arc;

use documents::{Search, Wanted};
use group::Output;
use protocol::Document;
use query::Page;
use storage::StoreError;

use super::context::StepContext;
use super::query::{Compiled, Query, compile};
use super::question::Question;
use super::state::PartitionLeader;
use crate::io::{Effort, PartitionAction, PartitionAnswer, WantedSearch};

/// How much work a query may be for being run within the step, in bytes (see `documents`): a
/// millisecond or so.
const SHORT_BYTES_MAX: usize = 64 << 10;

/// A query with more terms is not even tried within the step.
const SHORT_TERMS_MAX: usize = 8;

/// How many documents are indexed in one step while a query waits for it.
const INDEX_BUDGET: usize = 128;

/// How many documents are indexed at a tick when no query waits.
const INDEX_IDLE_BUDGET: usize = 64;

/// A longer query is not even read within the step.
const SHORT_TEXT_BYTES_MAX: usize = 4 << 10;

impl PartitionLeader {
    pub(super) fn query(&mut self, cx: &mut StepContext<'_, '_>, ticket: u64, asked: Query) {
        if asked.effort > Effort::Step {
            return self.confirm(cx, ticket, Question::Query(Compiled { query: None, asked }));
        }
        if asked.text.len() > SHORT_TEXT_BYTES_MAX {
            return answer(cx, ticket, None);
        }
        match compile(&asked.text, asked.filter.as_ref()) {
            Ok(query) if query.terms() > SHORT_TERMS_MAX => answer(cx, ticket, None),
            Ok(query) => {
                let compiled = Compiled { query: Some(query), asked };
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
        let Compiled {
            query,
            asked: Query { text, after, limit, bytes, effort, left_micros, filter },
        } = compiled;
        let wanted = Wanted { after, hits: limit, bytes, now: cx.now().wall };
        let Some(query) = query else {
            let opening = self.duty.opening;
            let search =
                WantedSearch { opening, ticket, text, wanted, effort, left_micros, filter };
            cx.put(Output::Do(PartitionAction::Search(Box::new(search))));
            return Ok(());
        };
        let left = self.searches.step.bytes.min(SHORT_BYTES_MAX);
        let view = cx.partition().view().in_a_hurry();
        let mut search = Search::new(view, Arc::new(query), wanted).short();
        let page = if left > 0 { search.step(cx.reader(), left)? } else { None };
        self.searches.step.bytes -= left.min(search.spent());
        answer(cx, ticket, page);
        Ok(())
    }
}

/// What a query has found, if it could be done with its effort.
fn answer(cx: &mut StepContext<'_, '_>, ticket: u64, page: Option<Page>) {
    found(cx, ticket, page.map_or(PartitionAnswer::TooLong, PartitionAnswer::Page));
}

/// Answers with what was found; each document names this node as its owner.
pub(super) fn found(cx: &mut StepContext<'_, '_>, ticket: u64, mut answer: PartitionAnswer) {
    if let PartitionAnswer::Page(page) = &mut answer {
        let owner = &cx.handlers().node_id;
        for hit in &mut page.hits {
            let Some(shown) = hit.document.as_mut() else { continue };
            // Before fields are taken out: that leaves the owner in another place than the last.
            *shown = Document::with_owner(shown, owner);
            if let Some(open) = access::without_secrets(&hit.link, shown) {
                *shown = open.into();
            }
        }
    }
    cx.put(Output::Answer { ticket, answer, position: None });
}
