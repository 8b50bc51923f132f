//! Requests that concern every partition: `/available`, the statistics of a factory, fences. Each
//! partition's owner answers for its part, and the parts are put together here. (Queries are in
//! `queries`.)

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{Code, GroupId, Principal, Problem, Request, Response, Source};
use serde_json::Value;
use services::PartitionEvent;

use crate::batches::Batches;
use crate::frame::{Answer, Question};
use crate::jobs::Job;
use crate::rest::explained::OfCluster;
use crate::survey::SurveyJob;
use crate::work::{Effects, GatherId, Purpose, Work};

/// A question to all partitions, or to some groups, until the last one has answered.
struct Gathering {
    aim: Aim,
    missing: usize,
    parts: Vec<Response>,
    /// The first error, and whose it is; it becomes the answer.
    failed: Option<(GroupId, Response)>,
}

/// What the parts are for.
enum Aim {
    Available {
        purpose: Purpose,
    },
    Stats {
        purpose: Purpose,
    },
    Fence {
        group: GroupId,
        opening: u64,
        source: Source,
    },
    /// Why the cluster does not go on, told by the node with that id.
    Explain {
        purpose: Purpose,
        known: Box<OfCluster>,
        node_id: String,
    },
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
    pub(crate) batches: Batches,
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
        let groups: Vec<GroupId> = (1..=scope.partitions).map(GroupId).collect();
        self.ask_groups(aim, &groups, effects, question);
    }

    /// There is one at least.
    fn ask_groups(
        &mut self,
        aim: Aim,
        groups: &[GroupId],
        effects: &mut Effects,
        question: impl Fn() -> Question,
    ) {
        self.last += 1;
        let missing = groups.len();
        let gathering = Gathering { aim, missing, parts: Vec::new(), failed: None };
        self.open.insert(self.last, gathering);
        for group in groups.iter().copied() {
            let purpose = Purpose::Part { gather: self.last, group };
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

    /// Asks the owners of instances what those wait for.
    pub(crate) fn explain(
        &mut self,
        (purpose, node_id): (Purpose, &str),
        known: OfCluster,
        effects: &mut Effects,
    ) {
        let groups = known.ask.clone();
        let (known, node_id) = (Box::new(known), node_id.to_owned());
        let aim = Aim::Explain { purpose, known, node_id };
        self.ask_groups(aim, &groups, effects, || Question::InstanceExplained);
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
    pub(crate) fn gathered(
        &mut self,
        (id, group): (GatherId, GroupId),
        answer: Answer,
        effects: &mut Effects,
    ) {
        let Some(gathering) = self.open.get_mut(&id) else { return };
        gathering.missing -= 1;
        let response = answer.into_response();
        if response.is_success() {
            gathering.parts.push(response);
        } else if gathering.failed.is_none() {
            gathering.failed = Some((group, response));
        }
        if gathering.missing == 0 {
            let gathering = self.open.remove(&id).expect("it was there");
            self.finish(gathering, effects);
        }
    }

    fn finish(&mut self, gathering: Gathering, effects: &mut Effects) {
        match (gathering.aim, gathering.failed) {
            (Aim::Available { purpose }, failed) => {
                let all_are = || Response::bytes(200, Bytes::new());
                let response = failed.map_or_else(all_are, |(_, response)| response);
                effects.respond(&purpose, response);
            }
            (Aim::Stats { purpose }, failed) => {
                let parts: Vec<Value> = gathering.parts.iter().map(Response::to_json).collect();
                let merged = || Response::json(200, &services::merge_stats(&parts));
                let response = failed.map_or_else(merged, |(_, response)| response);
                effects.respond(&purpose, response);
            }
            (Aim::Explain { purpose, known, node_id }, _) => {
                effects.respond(&purpose, known.answer(&gathering.parts, &node_id));
            }
            (Aim::Fence { group, opening, .. }, None) => {
                effects.push(Work::Partition(group, PartitionEvent::Fenced { opening }));
            }
            // That partition has no owner at the moment; the tasks of this partition wait for it.
            (Aim::Fence { group, opening, source }, Some((lacking, response))) => {
                let why = response.to_json()["message"].as_str().unwrap_or_default().to_owned();
                let late = PartitionEvent::FenceLate { opening, lacking, why };
                effects.push(Work::Partition(group, late));
                self.late_fences.push(LateFence { group, opening, source });
            }
        }
    }
}
