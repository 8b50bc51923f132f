//! Requests that concern every partition: queries, the listing of a factory, `/available`, the
//! statistics of a factory, fences. Each partition's owner answers for its part, and the parts are
//! put together here.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::query::{QueryOption, QuerySpecification};
use protocol::{GroupId, Principal, Request, Response, Source};
use query::{CompiledQuery, Cursor, Page};
use serde_json::Value;
use services::PartitionEvent;

use crate::frame::{Answer, Question};
use crate::pages::{
    Form, HITS_MAX, PAGE_LINK, QueryAim, first_page_link, parse_token, query_answer,
};
use crate::work::{Effects, GatherId, Purpose, Work};

/// A question to all partitions, until the last has answered.
struct Gathering {
    aim: Aim,
    missing: u32,
    pages: Vec<Page>,
    /// Answers that are no pages.
    parts: Vec<Response>,
    /// The first error; it becomes the answer.
    failed: Option<Response>,
    since: u64,
}

/// What the parts are for.
enum Aim {
    Query { purpose: Purpose, aim: Box<QueryAim> },
    Available { purpose: Purpose },
    Stats { purpose: Purpose },
    Fence { group: GroupId, opening: u64, source: Source },
}

/// A fence that did not get through everywhere.
pub(crate) struct LateFence {
    pub(crate) group: GroupId,
    pub(crate) opening: u64,
    pub(crate) source: Source,
}

#[derive(Default)]
pub(crate) struct Gather {
    open: BTreeMap<GatherId, Gathering>,
    last: GatherId,
    /// Tried again at a later tick.
    late_fences: Vec<LateFence>,
}

/// How many partitions there are to ask, on whose behalf, and what time it is.
pub(crate) struct Scope {
    pub(crate) principal: Principal,
    pub(crate) partitions: u32,
    pub(crate) now: u64,
}

impl Gather {
    /// Asks every partition.
    fn ask(
        &mut self,
        aim: Aim,
        scope: Scope,
        effects: &mut Effects,
        question: impl Fn() -> Question,
    ) {
        self.last += 1;
        let gathering = Gathering {
            aim,
            missing: scope.partitions,
            pages: Vec::new(),
            parts: Vec::new(),
            failed: None,
            since: scope.now,
        };
        self.open.insert(self.last, gathering);
        for group in (1..=scope.partitions).map(GroupId) {
            let purpose = Purpose::Part { gather: self.last };
            effects.push(Work::Submit(purpose, group, question()));
        }
    }

    /// Writes a fence into every partition; the leader that wants it goes on when all have it.
    pub(crate) fn fence(
        &mut self,
        (group, opening, source): (GroupId, u64, Source),
        scope: Scope,
        effects: &mut Effects,
    ) {
        let aim = Aim::Fence { group, opening, source };
        self.ask(aim, scope, effects, || Question::Fence(source));
    }

    pub(crate) fn take_late_fences(&mut self) -> Vec<LateFence> {
        std::mem::take(&mut self.late_fences)
    }

    /// The statistics of a factory are those of all its partitions, added up.
    pub(crate) fn stats(
        &mut self,
        purpose: Purpose,
        request: &Request,
        scope: Scope,
        effects: &mut Effects,
    ) {
        self.ask(Aim::Stats { purpose }, scope, effects, || Question::Rest(request.clone()));
    }

    /// Asks every partition whether its owner is at work.
    pub(crate) fn available(&mut self, purpose: Purpose, scope: Scope, effects: &mut Effects) {
        self.ask(Aim::Available { purpose }, scope, effects, || Question::Available);
    }

    /// Runs a query over all partitions. Its first page is not computed when it is to be fetched by
    /// a link of its own, as Xenon's query tasks with a limit have it.
    pub(crate) fn query(
        &mut self,
        purpose: Purpose,
        specification: QuerySpecification,
        after: Option<&Cursor>,
        form: Form,
        scope: Scope,
        effects: &mut Effects,
    ) {
        if let Err(problem) = CompiledQuery::new(&specification) {
            return effects.finish(&purpose, problem.into());
        }
        let counts = specification.has(QueryOption::Count);
        let is_whole = counts || specification.has(QueryOption::TopResults);
        if let Form::Task(task) = &form
            && specification.result_limit.is_some()
            && !is_whole
        {
            return effects.respond(&purpose, first_page_link(task, &specification));
        }
        let skip = match &form {
            Form::Plain { skip, .. } => *skip,
            Form::Task(_) | Form::TaskPage { .. } => 0,
        };
        let shown = specification.result_limit.unwrap_or(HITS_MAX);
        let limit = if counts { 0 } else { shown.saturating_add(skip) };
        let text = serde_json::to_string(&specification).expect("a specification is JSON");
        let text = Bytes::from(text);
        // One more than is shown tells whether there is another page.
        let each = u64::try_from(limit.saturating_add(1)).unwrap_or(u64::MAX);
        let aim = Box::new(QueryAim { specification, limit, skip, form });
        let principal = scope.principal.clone();
        self.ask(Aim::Query { purpose, aim }, scope, effects, || Question::Query {
            specification: text.clone(),
            after: after.cloned(),
            limit: each,
            principal: principal.clone(),
        });
    }

    /// `GET /core/query-page/<token>`.
    pub(crate) fn page(
        &mut self,
        purpose: Purpose,
        token: &str,
        scope: Scope,
        effects: &mut Effects,
    ) {
        match parse_token(token) {
            Ok((is_task, specification, after)) => {
                let link = format!("{PAGE_LINK}/{token}");
                let form =
                    if is_task { Form::TaskPage { link } } else { Form::Plain { link, skip: 0 } };
                self.query(purpose, specification, after.as_ref(), form, scope, effects);
            }
            Err(problem) => effects.finish(&purpose, problem.into()),
        }
    }

    /// A partition's part has come.
    pub(crate) fn gathered(
        &mut self,
        id: GatherId,
        answer: Answer,
        now: u64,
        effects: &mut Effects,
    ) {
        let Some(gathering) = self.open.get_mut(&id) else { return };
        gathering.missing -= 1;
        match answer {
            Answer::Page(page) => gathering.pages.push(page),
            other => {
                let response = other.into_response();
                if response.is_success() {
                    gathering.parts.push(response);
                } else if gathering.failed.is_none() {
                    gathering.failed = Some(response);
                }
            }
        }
        if gathering.missing == 0 {
            let gathering = self.open.remove(&id).expect("it was there");
            self.finish(gathering, now, effects);
        }
    }

    fn finish(&mut self, gathering: Gathering, now: u64, effects: &mut Effects) {
        let took = now.saturating_sub(gathering.since);
        match (gathering.aim, gathering.failed) {
            (Aim::Query { purpose, .. }, Some(failed)) => effects.respond(&purpose, failed),
            (Aim::Query { purpose, aim }, None) => {
                effects.respond(&purpose, query_answer(&aim, gathering.pages, took));
            }
            (Aim::Available { purpose }, failed) => {
                let response = failed.unwrap_or_else(|| Response::bytes(200, Bytes::new()));
                effects.respond(&purpose, response);
            }
            (Aim::Stats { purpose }, failed) => {
                let parts: Vec<Value> = gathering.parts.iter().map(Response::to_json).collect();
                let merged = || Response::json(200, &services::merge_stats(&parts));
                effects.respond(&purpose, failed.unwrap_or_else(merged));
            }
            (Aim::Fence { group, opening, .. }, None) => {
                effects.push(Work::Partition(group, PartitionEvent::Fenced { opening }));
            }
            // A partition without an owner just now; the tasks of this one wait for it.
            (Aim::Fence { group, opening, source }, Some(_)) => {
                self.late_fences.push(LateFence { group, opening, source });
            }
        }
    }
}
