//! Rules that were taken once go on to hold, whatever is demanded of new ones.

mod documents;

use access::{Policy, RESOURCE_GROUPS, ROLES, Thing, USER_GROUPS, check_user_group, decide};
use protocol::{Method, Principal};
use query::Candidate;
use serde_json::{Value, json};

use documents::document;

const JANE: &str = "/core/authz/users/jane";

/// Everybody whose address has one of these words: too much work for a query that comes in now.
fn heavy() -> Value {
    let clause = |number: usize| {
        json!({"occurance": "SHOULD_OCCUR", "term": {"propertyName": "email",
            "matchType": "PHRASE", "matchValue": format!("jane {number} or else")}})
    };
    let mut clauses: Vec<Value> = (0..99).map(clause).collect();
    clauses.push(json!({"occurance": "SHOULD_OCCUR",
        "term": {"propertyName": "email", "matchValue": "jane@x"}}));
    json!({"query": {"booleanClauses": clauses}})
}

#[test]
fn a_group_of_much_work_is_refused_when_it_comes_and_holds_when_it_is_there() {
    let fields = heavy().as_object().cloned().unwrap();
    let refused = check_user_group(&fields).unwrap_err();
    assert!(refused.message.contains("the limit is"), "{}", refused.message);

    let role = |name: &str, group: &str, policy: &str| {
        document(
            format!("{ROLES}/{name}"),
            &json!({"userGroupLink": format!("{USER_GROUPS}/{group}"), "policy": policy,
                "resourceGroupLink": format!("{RESOURCE_GROUPS}/all"), "verbs": ["GET"]}),
        )
    };
    let all = json!({"query": {"term": {"propertyName": "documentSelfLink",
        "matchType": "PREFIX", "matchValue": "/core/examples/"}}});
    let everybody = json!({"query": {"term": {"propertyName": "email", "matchType": "PREFIX",
        "matchValue": "j"}}});
    let rules = |denies: bool| {
        let usual = [
            document(JANE, &json!({"email": "jane@x", "madeMicros": 3})),
            document(format!("{RESOURCE_GROUPS}/all"), &all),
            document(format!("{USER_GROUPS}/everybody"), &everybody),
            document(format!("{USER_GROUPS}/heavy"), &heavy()),
            role("may", "everybody", "ALLOW"),
        ];
        usual.into_iter().chain(denies.then(|| role("may-not", "heavy", "DENY")))
    };
    let one = document("/core/examples/one", &json!({}));
    let may = |denies: bool| {
        let policy = Policy::of(rules(denies));
        let thing = Thing::Document(Candidate::from(&one));
        decide(&policy, &Principal::User(JANE.into()), Method::Get, &thing).is_allowed
    };
    assert!(may(false));
    assert!(!may(true), "who is denied would be allowed");
}
