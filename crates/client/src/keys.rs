//! Which writes take an `Idempotency-Key`: those that a node remembers. It refuses the others that
//! have one, as it would be ignored.

use protocol::{Method, Request, links};

/// Where nothing is a document. To ask for the same twice there is to have it once.
const KEYLESS: [&str; 9] = [
    "/core/ambrosia",
    "/core/authn",
    "/core/authz/can-i",
    "/core/backups",
    "/core/immortals",
    "/core/management",
    "/core/node-groups",
    "/core/node-selectors",
    "/core/sql",
];

/// Passes on what is sent there, to where keys are taken.
const FORWARDING: &str = "/core/node-selectors/default/forwarding";

/// Each POST makes another secret, which is shown once.
const SECRETS: [&str; 2] = ["/core/auth/join-tokens", "/core/auth/tokens"];

const QUERIES: [&str; 2] = ["/core/query-tasks", "/core/local-query-tasks"];

pub(crate) fn are_taken_by(request: &Request) -> bool {
    let path = request.path.trim_end_matches('/');
    let instance =
        path.strip_prefix("/core/immortals/").and_then(|it| it.strip_suffix("/impulses"));
    // An instance may have the name `impulses`, and then it is not meant.
    let is_impulse = instance.is_some_and(|name| !name.is_empty() && !name.contains('/'));
    if is_impulse {
        return true;
    }
    if path == FORWARDING {
        return !forwards_direct_query(request);
    }
    let is_below = |of: &str| {
        let rest = path.strip_prefix(of);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A utility of a service is no document either.
    let is_utility = links::split_utility(path).1.is_some();
    let is_document = !is_utility && !KEYLESS.into_iter().any(is_below);
    is_document && !is_direct_query(request, path) && !makes_secret(request, path)
}

fn makes_secret(request: &Request, path: &str) -> bool {
    request.method == Method::Post && SECRETS.contains(&path)
}

/// Whether a request is done each time that it is sent: it is about the very node that is asked,
/// which stops or joins another cluster, and then the next node would, too; or it makes a secret.
pub(crate) fn is_done_each_time(request: &Request) -> bool {
    let path = request.path.trim_end_matches('/');
    path == "/core/management"
        || makes_secret(request, path)
        || (path == "/core/node-groups/default" && request.method == Method::Post)
}

/// It makes no document.
fn is_direct_query(request: &Request, path: &str) -> bool {
    let is_query = request.method == Method::Post && QUERIES.contains(&path);
    let body = || serde_json::from_slice::<serde_json::Value>(&request.body).unwrap_or_default();
    is_query && body()["taskInfo"]["isDirect"] == true
}

/// A direct query is passed on as it is.
fn forwards_direct_query(request: &Request) -> bool {
    let body = || serde_json::from_slice::<serde_json::Value>(&request.body).unwrap_or_default();
    let is_direct_query = |body: serde_json::Value| {
        body["taskInfo"]["isDirect"] == true && body["querySpec"].is_object()
    };
    request.method == Method::Post && is_direct_query(body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_document_and_no_impulse_gets_no_key() {
        let direct = r#"{"taskInfo":{"isDirect":true}}"#;
        let query = r#"{"taskInfo":{"isDirect":true},"querySpec":{}}"#;
        for (path, body, takes) in [
            ("/core/examples", "{}", true),
            ("/core/examples/immortals", "{}", true),
            ("/core/immortals", "{}", false),
            ("/core/ambrosia/cra/AmbrosiaBinaries/a-a0", "", false),
            ("/core/immortals/a", "{}", false),
            ("/core/immortals/a/skip", "{}", false),
            ("/core/immortals/a/impulses", "{}", true),
            ("/core/immortals/impulses", "{}", false),
            ("/core/immortals/impulses/impulses", "{}", true),
            ("/core/immortalsx", "{}", true),
            ("/core/ambrosia/cra/AmbrosiaBinaries/a-a0", "{}", false),
            ("/core/node-selectors/default", "{}", false),
            ("/core/node-selectors/default/forwarding", "{}", true),
            ("/core/node-selectors/default/forwarding", direct, true),
            ("/core/node-selectors/default/forwarding", query, false),
            ("/core/auth/tokens", "{}", false),
            ("/core/auth/join-tokens/", "{}", false),
            ("/core/auth/tokens/one", "{}", true),
            ("/core/node-groups/default", "{}", false),
            ("/core/authz/can-i", "{}", false),
            ("/core/authz/roles", "{}", true),
            ("/core/query-tasks", "{}", true),
            ("/core/query-tasks", direct, false),
            ("/core/local-query-tasks/", direct, false),
            ("/core/sql", "{}", false),
            ("/core/examples", direct, true),
            ("/core/examples/config", "{}", false),
            ("/core/examples/one/stats", "{}", false),
            ("/core/immortals/config/impulses", "{}", true),
        ] {
            let mut request = Request::new(Method::Post, path);
            request.body = body.into();
            assert_eq!(are_taken_by(&request), takes, "{path} {body}");
        }
    }
}
