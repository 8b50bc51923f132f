//! What is said of all documents of a factory together is for who may read each of them.

mod documents;

use access::{Policy, RESOURCE_GROUPS, ROLES, Thing, USER_GROUPS, USERS, decide};
use protocol::{Method, Principal};
use serde_json::{Value, json};

use documents::document;

fn term(name: &str, value: &str, how: &str) -> Value {
    json!({"term": {"propertyName": name, "matchValue": value, "matchType": how}})
}

/// Whether a user of these groups sees the numbers of /core/examples, where one role more is there.
fn sees(groups: &[&str], policy: &str, means: &Value) -> bool {
    let group = |name: &str| format!("{USER_GROUPS}/{name}");
    let groups: Vec<String> = groups.iter().map(|name| group(name)).collect();
    let role = json!({"userGroupLink": group("own"), "verbs": ["GET"], "policy": policy,
        "resourceGroupLink": format!("{RESOURCE_GROUPS}/r")});
    let rules = Policy::of([
        document(format!("{USERS}/u"), &json!({"email": "u", "userGroupLinks": groups})),
        document(format!("{RESOURCE_GROUPS}/r"), &json!({ "query": means })),
        document(format!("{ROLES}/x"), &role),
    ]);
    let who = Principal::User(format!("{USERS}/u").as_str().into());
    let all = Thing::All { factory: "/core/examples", kind: "a:Examples:State" };
    decide(&rules, &who, Method::Get, &all).is_allowed
}

#[test]
fn a_role_that_denies_some_of_them_denies_what_tells_of_all() {
    let link = "documentSelfLink";
    for (means, is_seen) in [
        (term("tenant", "acme", "TERM"), false),
        (term(link, "/core/examples/secret", "TERM"), false),
        (term(link, "/core/examples/a", "PREFIX"), false),
        (term(link, "/core/*", "WILDCARD"), false),
        (term(link, "*/secret", "WILDCARD"), false),
        (term("documentKind", "a:Examples:State", "TERM"), false),
        (term("documentKind", "a:Other:State", "TERM"), true),
        (term(link, "/core/notes/", "PREFIX"), true),
        (term(link, "/core/examplesx/", "PREFIX"), true),
        (
            json!({"booleanClauses": [term(link, "/core/notes/", "PREFIX"),
                term("tenant", "acme", "TERM")]}),
            true,
        ),
    ] {
        assert_eq!(sees(&["readers", "own"], "DENY", &means), is_seen, "{means}");
        assert!(sees(&["readers"], "DENY", &means), "it is another group's: {means}");
    }
}

#[test]
fn a_role_that_allows_all_of_them_allows_it_and_no_smaller_one() {
    let link = "documentSelfLink";
    let mut except = term(link, "/core/examples/secret", "TERM");
    except["occurance"] = "MUST_NOT_OCCUR".into();
    for (means, is_seen) in [
        (term(link, "/core/examples", "PREFIX"), true),
        (term(link, "/core/examples/", "PREFIX"), true),
        (term("documentKind", "a:Examples:State", "TERM"), true),
        // To make documents, and to list those that may be seen.
        (term(link, "/core/examples", "TERM"), false),
        (term(link, "/core/examples/one", "TERM"), false),
        (term("tenant", "acme", "TERM"), false),
        (json!({"booleanClauses": [term(link, "/core/examples/", "PREFIX"), except]}), false),
    ] {
        assert_eq!(sees(&["own"], "ALLOW", &means), is_seen, "{means}");
    }
}
