//! Where a query task says that it is to be run, and for whom.

use protocol::Problem;
use protocol::query::INDEX_LINK;
use serde_json::Value;

/// What every node selector's link begins with.
const SELECTORS: &str = "/core/node-selectors/";

/// There is one index, and every node has all documents: whatever names these is taken, and what
/// names another index is not. Tenants make no difference to what is found. `at` stands before the
/// name of a field in a refusal.
///
/// # Errors
/// `BAD_REQUEST` that names the field.
pub fn check_places(at: &str, task: &Value) -> Result<(), Problem> {
    let refused = |name: &str, value: &Value, why: &str| {
        Err(Problem::bad_request(format!("{at}{name} is {value}: {why}; leave it out")))
    };
    let index = &task["indexLink"];
    if !index.is_null() && index != INDEX_LINK {
        return refused("indexLink", index, "there is one index, of all documents");
    }
    let selector = &task["nodeSelectorLink"];
    let is_one = |link: &str| link.strip_prefix(SELECTORS).is_some_and(|name| !name.is_empty());
    if !selector.is_null() && !selector.as_str().is_some_and(is_one) {
        let why = "it is no link of a node selector, and every node has all documents";
        return refused("nodeSelectorLink", selector, why);
    }
    check_tenant_links(&format!("{at}tenantLinks"), &task["tenantLinks"])
}

/// In Xenon these links say who may see a task. Here the rights of users do: they are kept, and
/// change nothing.
///
/// # Errors
/// `BAD_REQUEST` when they are no links.
pub fn check_tenant_links(name: &str, links: &Value) -> Result<(), Problem> {
    let is_link = |link: &Value| link.as_str().is_some_and(|link| link.starts_with('/'));
    match links {
        Value::Null => Ok(()),
        Value::Array(links) if links.iter().all(is_link) => Ok(()),
        other => Err(Problem::bad_request(format!(
            "{name} is {other}; it is an array of links, which is kept and changes nothing"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_every_node_has_is_taken_by_any_name() {
        for task in [
            json!({}),
            json!({"indexLink": "/core/document-index"}),
            json!({"nodeSelectorLink": "/core/node-selectors/default"}),
            json!({"nodeSelectorLink": "/core/node-selectors/default-3x", "indexLink": null}),
            json!({"tenantLinks": ["/tenants/a"]}),
        ] {
            check_places("", &task).unwrap();
        }
        for (task, why) in [
            (json!({"indexLink": "/other"}), "x.indexLink is \"/other\""),
            (json!({"nodeSelectorLink": "/core/node-selectors/"}), "x.nodeSelectorLink is"),
            (json!({"nodeSelectorLink": 7}), "x.nodeSelectorLink is 7"),
            (json!({"tenantLinks": ["a"]}), "x.tenantLinks is [\"a\"]"),
        ] {
            let problem = check_places("x.", &task).unwrap_err();
            assert!(problem.message.starts_with(why), "{problem}");
        }
    }
}
