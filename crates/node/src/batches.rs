//! Batches that came in here: the parts are with the owners of their partitions, and the outcomes
//! are put together in the order of the requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{Code, GroupId, Outcome, Problem, Response};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::frame::{Answer, Question};
use crate::rest::batch_parts::{Batch, Part};
use crate::work::{BatchId, Effects, Purpose, Work};

/// A batch until its last part is answered.
struct Open {
    purpose: Purpose,
    /// The places of the requests of each part.
    places: BTreeMap<GroupId, Vec<usize>>,
    /// As JSON.
    outcomes: Vec<Bytes>,
    tally: Tally,
    /// The first request, by its place, that was not done, and its answer.
    failed: Option<(usize, Response)>,
}

/// How many requests came to which end.
#[derive(Default)]
struct Tally {
    applied: usize,
    not_applied: usize,
    unknown: usize,
}

#[derive(Default)]
pub(crate) struct Batches {
    open: BTreeMap<BatchId, Open>,
    last: BatchId,
}

impl Batches {
    /// Sends the parts of a batch on their way.
    pub(crate) fn begin(&mut self, purpose: Purpose, batch: Batch, effects: &mut Effects) {
        self.last += 1;
        let mut places = BTreeMap::new();
        for Part { group, request, places: of_part } in batch.atoms {
            let purpose = Purpose::Atom { batch: self.last, group };
            effects.push(Work::Submit(purpose, group, Question::Rest(request)));
            places.insert(group, of_part);
        }
        let outcomes = vec![Bytes::new(); batch.count];
        let open = Open { purpose, places, outcomes, tally: Tally::default(), failed: None };
        self.open.insert(self.last, open);
    }

    /// The owner of a partition has answered.
    pub(crate) fn answered(
        &mut self,
        (id, group): (BatchId, GroupId),
        answer: Answer,
        effects: &mut Effects,
    ) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let Some(places) = open.places.remove(&group) else { return };
        open.take(&places, &answer.into_response());
        if open.places.is_empty() {
            let open = self.open.remove(&id).expect("it was there");
            let (purpose, response) = open.answer();
            effects.respond(&purpose, response);
        }
    }
}

impl Open {
    fn take(&mut self, places: &[usize], response: &Response) {
        if response.is_success() {
            let outcomes: Vec<&RawValue> =
                serde_json::from_slice(&response.body).unwrap_or_default();
            if outcomes.len() == places.len() {
                self.tally.applied += places.len();
                for (place, outcome) in places.iter().zip(outcomes) {
                    self.outcomes[*place] = Bytes::copy_from_slice(outcome.get().as_bytes());
                }
                return;
            }
            let text = "the outcomes of a part of the batch cannot be read";
            let problem = Problem::internal(text).with_outcome(Outcome::Unknown);
            return self.refused(places, None, &problem.into());
        }
        let by = response.to_json()["request"].as_u64().and_then(|it| usize::try_from(it).ok());
        self.refused(places, by.and_then(|index| places.get(index).copied()), response);
    }

    /// A part was not done, or nobody knows: because of the request at the place `by`, if it is
    /// said which.
    fn refused(&mut self, places: &[usize], by: Option<usize>, response: &Response) {
        let mut error = response.to_json();
        if let Some(fields) = error.as_object_mut() {
            fields.remove("request");
        }
        // Whoever answers a write with an error says what became of it.
        let is_not_applied = error["outcome"] == "notApplied";
        let outcome = if is_not_applied { "notApplied" } else { "unknown" };
        let count =
            if is_not_applied { &mut self.tally.not_applied } else { &mut self.tally.unknown };
        *count += places.len();
        let other = by.map(|by| {
            let text = format!(
                "request {by} of the batch was refused ({}), and this one is done with it or not \
                 at all",
                error["code"].as_str().unwrap_or_default()
            );
            let problem = Problem::new(Code::BatchFailed, text);
            problem.with_outcome(Outcome::NotApplied).to_json()
        });
        let shown = |error: &Value| {
            let status = error["statusCode"].as_u64().unwrap_or(u64::from(response.status));
            json!({"status": status, "outcome": outcome, "error": error}).to_string()
        };
        let own = Bytes::from(shown(&error));
        let others = other.map_or_else(|| own.clone(), |other| Bytes::from(shown(&other)));
        for place in places {
            let is_own = by.is_none_or(|by| by == *place);
            self.outcomes[*place] = if is_own { own.clone() } else { others.clone() };
        }
        let first = by.or(places.first().copied()).unwrap_or_default();
        if self.failed.as_ref().is_none_or(|(place, _)| first < *place) {
            self.failed = Some((first, response.clone()));
        }
    }

    /// The whole answer. When nothing was done it is that to the first request that was refused,
    /// with all outcomes beside it.
    fn answer(self) -> (Purpose, Response) {
        let Tally { applied, not_applied, unknown } = self.tally;
        let outcome = match (applied, not_applied, unknown) {
            (_, 0, 0) => "applied",
            (0, _, 0) => "notApplied",
            (0, 0, _) => "unknown",
            _ => "mixed",
        };
        let outcomes = self.outcomes;
        let (status, mut head) = match (outcome, &self.failed) {
            ("applied", _) | (_, None) => (200, json!({})),
            _ if applied > 0 => (207, json!({})),
            (_, Some((_, response))) => (response.status, response.to_json()),
        };
        let retry_after_seconds = match status {
            200 | 207 => None,
            _ => self.failed.as_ref().and_then(|(_, response)| response.retry_after_seconds),
        };
        if let Some((place, _)) = &self.failed {
            head["request"] = json!(place);
        }
        // Where anything may have been done, the whole is not said to be surely undone.
        head["outcome"] = match outcome {
            "mixed" if status != 207 => json!("unknown"),
            outcome => json!(outcome),
        };
        let head = head.to_string();
        let mut body = Vec::with_capacity(outcomes.iter().map(Bytes::len).sum::<usize>() + 1_024);
        body.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
        body.extend_from_slice(b",\"requests\":[");
        for (place, outcome) in outcomes.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            body.extend_from_slice(outcome);
        }
        body.extend_from_slice(b"]}");
        let response = Response::bytes(status, body.into());
        (self.purpose, Response { retry_after_seconds, ..response })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Output;

    /// Two atoms, of three requests and of one.
    fn begun() -> (Batches, Effects) {
        let part = |group, places: &[usize]| Part {
            group: GroupId(group),
            request: protocol::Request::new(protocol::Method::Post, protocol::BATCH_LINK),
            places: places.to_vec(),
        };
        let batch = Batch { atoms: vec![part(1, &[0, 2, 3]), part(2, &[1])], count: 4 };
        let (mut batches, mut effects) = (Batches::default(), Effects::default());
        batches.begin(Purpose::Client { ticket: 1 }, batch, &mut effects);
        assert_eq!(effects.work.len(), 2);
        (batches, effects)
    }

    fn done(count: usize) -> Response {
        let one = json!({"status": 200, "outcome": "applied", "body": {"n": 1}});
        Response::json(200, &Value::from(vec![one; count]))
    }

    fn refused(code: Code, outcome: Outcome, request: Option<usize>) -> Response {
        let mut body = Problem::new(code, "no").with_outcome(outcome).to_json();
        if let Some(request) = request {
            body["request"] = json!(request);
        }
        Response { retry_after_seconds: Some(1), ..Response::json(code.status(), &body) }
    }

    /// The status, the outcome of all, and that of each.
    fn answered(first: Response, second: Response) -> (u16, String, Vec<String>) {
        let (mut batches, mut effects) = begun();
        batches.answered((1, GroupId(2)), Answer::Response(second), &mut effects);
        batches.answered((1, GroupId(2)), Answer::Response(done(1)), &mut effects);
        assert!(effects.outputs.is_empty(), "one of two parts is missing");
        batches.answered((1, GroupId(1)), Answer::Response(first), &mut effects);
        let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
        let body = response.to_json();
        let each = body["requests"].as_array().unwrap().iter().map(|it| {
            let (status, outcome) = (it["status"].as_u64().unwrap(), it["outcome"].as_str());
            let code = it["error"]["code"].as_str().unwrap_or("-");
            format!("{status} {} {code}", outcome.unwrap())
        });
        (response.status, body["outcome"].as_str().unwrap().to_owned(), each.collect())
    }

    #[test]
    fn each_request_has_its_outcome_in_the_order_of_the_requests() {
        let applied = "200 applied -";
        let (status, outcome, each) = answered(done(3), done(1));
        assert_eq!((status, outcome.as_str(), each), (200, "applied", vec![applied.into(); 4]));

        let mismatch = refused(Code::VersionMismatch, Outcome::NotApplied, Some(1));
        let (status, outcome, each) = answered(mismatch.clone(), done(1));
        let other = "424 notApplied BATCH_FAILED";
        assert_eq!((status, outcome.as_str()), (207, "mixed"));
        assert_eq!(each, [other, applied, "409 notApplied VERSION_MISMATCH", other]);

        let quorum = refused(Code::QuorumNotMet, Outcome::NotApplied, None);
        let (status, outcome, each) = answered(mismatch, quorum.clone());
        assert_eq!((status, outcome.as_str()), (503, "notApplied"), "it is the first of them");
        assert_eq!(each[1], "503 notApplied QUORUM_NOT_MET");

        let late = refused(Code::Timeout, Outcome::Unknown, None);
        let (status, outcome, each) = answered(late.clone(), quorum);
        assert_eq!((status, outcome.as_str()), (504, "unknown"), "some may have been done");
        let unknown = "504 unknown TIMEOUT";
        assert_eq!(each, [unknown, "503 notApplied QUORUM_NOT_MET", unknown, unknown]);

        let (status, outcome, _) = answered(late, done(1));
        assert_eq!((status, outcome.as_str()), (207, "mixed"));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_done() {
        for broken in [done(2), Response::bytes(200, Bytes::new())] {
            let (status, _, each) = answered(broken, done(1));
            assert_eq!((status, each[0].as_str()), (207, "500 unknown INTERNAL"));
        }
    }
}
