//! How a task goes through the documents that a query finds: page by page, with its place in its
//! state, so that the next owner goes on there.

use protocol::query::{self, Query, QueryResult};
use protocol::{Method, Problem, Request, Response};
use serde_json::json;

use crate::succeeded;

/// The request for the links of all documents for which each of these clauses holds, `limit` at a
/// time. What it is answered with is read by [`found`].
pub fn find(clauses: &[Query], limit: usize) -> Request {
    let specification = json!({"resultLimit": limit, "query": {"booleanClauses": clauses}});
    let task = json!({"taskInfo": {"isDirect": true}, "querySpec": specification});
    Request::new(Method::Post, query::LINK).with_json(&task)
}

/// What [`find`] or a page of it was answered with. There may be no links, and yet a
/// `next_page_link`: then these are to be had with [`Request::get`] of that.
///
/// # Errors
/// The answer's own words, when it is an error.
pub fn found(answer: &Response) -> Result<QueryResult, Problem> {
    let mut body = succeeded(answer)?;
    let results = body.get_mut("results").map(serde_json::Value::take).unwrap_or(body);
    serde_json::from_value(results)
        .map_err(|error| Problem::internal(format!("these are no results of a query: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_a_task_and_from_a_page() {
        let results = json!({"documentLinks": ["/a/b"], "nextPageLink": "/p"});
        for body in [json!({"results": results}), results] {
            let found = found(&Response::json(200, &body)).unwrap();
            assert_eq!(found.document_links, ["/a/b"]);
            assert_eq!(found.next_page_link.as_deref(), Some("/p"));
        }
        let failed = Response::from(Problem::bad_request("no such field"));
        assert!(found(&failed).unwrap_err().message.contains("no such field"));
    }
}
