//! For tests of what stands before the node: somebody in the node's place, who answers as the test
//! says and remembers what was asked.

use std::sync::Arc;

use protocol::{Request, Response};
use serde_json::{Value, json};

use crate::inbox::{Event, Inbox};

/// Does the work while all that is asked of the node is answered by `answer`. What that does not
/// answer waits for ever.
pub(crate) async fn with_node<T>(
    inbox: &Arc<Inbox>,
    answer: impl Fn(&Request) -> Option<Response>,
    work: impl Future<Output = T>,
) -> (T, Vec<Request>) {
    let (mut asked, mut unanswered) = (Vec::new(), Vec::new());
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, asked),
            () = inbox.wait() => {}
        }
        let mut events = Vec::new();
        inbox.take(&mut events);
        for event in events {
            let Event::Request { request, answer: sender } = event else { continue };
            match answer(&request) {
                // Who has asked may have gone.
                Some(response) => drop(sender.send(response)),
                None => unanswered.push(sender),
            }
            asked.push(request);
        }
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(crate) fn ok(body: &Value) -> Option<Response> {
    Some(Response::json(200, body))
}

/// An error as a node answers it.
pub(crate) fn failed(status: u16, outcome: &str) -> Option<Response> {
    Some(Response::json(status, &json!({"message": "for a test", "outcome": outcome})))
}
