//! Requests that concern every partition: `/available`, the statistics of a factory, fences. Each
//! partition's owner answers for its part, and the parts are put together here. (Queries are in
//! `queries`.)

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{Code, GroupId, Principal, Problem, Request, Response, Source};
use serde_json::Value;
use services::PartitionEvent;

use crate::frame::{Answer, Question};
use crate::jobs::Job;
use crate::survey::SurveyJob;
use crate::work::{Effects, GatherId, Purpose, Work};

/// A question to all partitions, until the last one has answered.
struct Gathering {
    aim: Aim,
    missing: u32,
    parts: Vec<Response>,
    /// The first error; it becomes the answer.
    failed: Option<Response>,
}

/// What the parts are for.
enum Aim {
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
    /// Who asked what is on the disk of this node. One at a time: it reads the whole store.
    surveying: Option<Purpose>,
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
        let gathering =
            Gathering { aim, missing: scope.partitions, parts: Vec::new(), failed: None };
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

    /// Has the store of this node read through.
    pub(crate) fn survey(
        &mut self,
        purpose: Purpose,
        job: impl FnOnce() -> SurveyJob,
        effects: &mut Effects,
    ) {
        if self.surveying.is_some() {
            let text = "this node counts what is on its disk for somebody else: ask it again in a \
                        moment";
            return effects.respond(&purpose, Problem::new(Code::Busy, text));
        }
        self.surveying = Some(purpose);
        effects.job(Job::survey(Box::new(job())));
    }

    /// It was read on, to its end if there is an answer.
    pub(crate) fn surveyed(
        &mut self,
        job: Box<SurveyJob>,
        answer: Option<Response>,
        effects: &mut Effects,
    ) {
        match answer {
            None => effects.job(Job::survey(job)),
            Some(answer) => {
                if let Some(purpose) = self.surveying.take() {
                    effects.respond(&purpose, answer);
                }
            }
        }
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

    /// A partition's part has come.
    pub(crate) fn gathered(&mut self, id: GatherId, answer: Answer, effects: &mut Effects) {
        let Some(gathering) = self.open.get_mut(&id) else { return };
        gathering.missing -= 1;
        let response = answer.into_response();
        if response.is_success() {
            gathering.parts.push(response);
        } else if gathering.failed.is_none() {
            gathering.failed = Some(response);
        }
        if gathering.missing == 0 {
            let gathering = self.open.remove(&id).expect("it was there");
            self.finish(gathering, effects);
        }
    }

    fn finish(&mut self, gathering: Gathering, effects: &mut Effects) {
        match (gathering.aim, gathering.failed) {
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
            // That partition has no owner at the moment; the tasks of this partition wait for it.
            (Aim::Fence { group, opening, source }, Some(_)) => {
                self.late_fences.push(LateFence { group, opening, source });
            }
        }
    }
}
