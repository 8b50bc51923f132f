//! `/readyz`: whether this node serves, and can be written to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Method, Request, Response, node_group};
use tokio::sync::Mutex;

use crate::ask::ask_as_system;
use crate::inbox::Inbox;

/// For so long an answer is given again. Anybody may ask, without a login and as often as it likes,
/// and must not take the places of those who want something of the node.
const KNOWN_FOR: Duration = Duration::from_millis(100);

/// What is told at `/readyz`.
pub(crate) struct Readiness {
    inbox: Arc<Inbox>,
    /// How this node is protected.
    security: &'static str,
    last: Mutex<Option<(Instant, Response)>>,
}

impl Readiness {
    pub(crate) fn new(inbox: Arc<Inbox>, security: &'static str) -> Self {
        Self { inbox, security, last: Mutex::default() }
    }

    /// One asks the node, and the others wait for what it is told.
    pub(crate) async fn answer(&self) -> Response {
        let mut last = self.last.lock().await;
        if let Some((at, response)) = &*last
            && at.elapsed() < KNOWN_FOR
        {
            return response.clone();
        }
        let response = self.look().await;
        *last = Some((Instant::now(), response.clone()));
        response
    }

    /// Ready when every partition has an owner that this node knows, and writes are possible.
    async fn look(&self) -> Response {
        let question = Request::new(Method::Get, node_group::LINK);
        let answer = ask_as_system(&self.inbox, question).await;
        let state = match serde_json::from_slice::<node_group::NodeGroupState>(&answer.body) {
            Ok(state) if answer.is_success() => state,
            _ => return Response { status: 503, ..answer },
        };
        let ownerless = state.partition_owners.iter().filter(|owner| owner.is_none()).count();
        let partitions = state.partition_owners.len();
        let unwritable = self.why_no_writes().await;
        let ready = partitions > 0 && ownerless == 0 && unwritable.is_none();
        let mut body = serde_json::json!({
            "ready": ready,
            "partitions": partitions,
            "partitionsWithoutOwner": ownerless,
            "security": self.security,
        });
        if let Some(why) = unwritable {
            body["noWrites"] = why;
        }
        Response {
            retry_after_seconds: (!ready).then_some(1),
            ..Response::json(if ready { 200 } else { 503 }, &body)
        }
    }

    /// Why documents cannot be written at present, all of them or some.
    async fn why_no_writes(&self) -> Option<serde_json::Value> {
        let path = format!("{}/explain", node_group::MANAGEMENT_LINK);
        let answer = ask_as_system(&self.inbox, Request::new(Method::Get, &path)).await;
        let told: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let findings = told["findings"].as_array()?;
        let refused = findings.iter().find(|finding| finding["refusesWrites"] == true)?;
        Some(refused["text"].clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake_node::{ok, run, with_node};

    #[test]
    fn a_node_that_serves_is_not_ready_while_writes_are_refused() {
        run(async {
            let ready = |findings: serde_json::Value| async move {
                let inbox = Arc::new(Inbox::new(Arc::default()));
                let readiness = Readiness::new(Arc::clone(&inbox), "");
                let told = move |request: &Request| match request.path.as_str() {
                    node_group::LINK => ok(&json!({
                        "nodes": {},
                        "membershipQuorum": 1,
                        "documentOwner": "n1",
                        "documentSelfLink": node_group::LINK,
                        "documentKind": "",
                        "partitionOwners": ["n1"],
                    })),
                    _ => ok(&json!({ "findings": findings })),
                };
                with_node(&inbox, told, readiness.answer()).await.0
            };
            let slow = json!({ "waitsFor": "DISK", "text": "the disk is slow", "remedy": "why" });
            let full = json!({ "waitsFor": "DISK", "text": "full", "refusesWrites": true });
            let answer = ready(json!([slow])).await;
            assert_eq!(answer.status, 200, "{}", answer.to_json());
            let answer = ready(json!([slow, full])).await;
            assert_eq!((answer.status, &answer.to_json()["noWrites"]), (503, &json!("full")));
        });
    }

    #[test]
    fn many_who_ask_cost_the_node_one_look() {
        run(async {
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let readiness = Readiness::new(Arc::clone(&inbox), "");
            let ask_often = async {
                let mut answers = Vec::new();
                for _ in 0..500 {
                    answers.push(readiness.answer().await.status);
                }
                answers
            };
            let (answers, asked) = with_node(&inbox, |_| ok(&json!({})), ask_often).await;
            assert_eq!(answers.len(), 500);
            // One look is two questions; on a slow machine there may be a few looks.
            assert!((1..100).contains(&asked.len()), "{} questions", asked.len());
            tokio::time::sleep(KNOWN_FOR).await;
            let again = with_node(&inbox, |_| ok(&json!({})), readiness.answer()).await;
            assert!(!again.1.is_empty(), "what is known is not known for ever");
        });
    }
}
