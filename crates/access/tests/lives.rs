//! What belonged to a user does not belong to a later one of that name, and whose a password is.

mod documents;

use access::{INSTANCE_OWNERS, Policy, Thing, USERS, decide, owner_made};
use protocol::{Document, Method, Moment, Principal};
use query::Candidate;
use serde_json::json;

use documents::document;

const JANE: &str = "/core/authz/users/jane";
const HOUR: u64 = 3_600_000_000;

/// Jane, who may read all data and was made then.
fn jane(made: u64) -> Document {
    let groups = [format!("{}/readers", access::USER_GROUPS)];
    let body = json!({"email": "jane@x", "madeMicros": made, "userGroupLinks": groups});
    document(JANE, &body)
}

fn user(name: &str, email: &str) -> Document {
    document(format!("{USERS}/{name}"), &json!({"email": email, "madeMicros": 3}))
}

fn may(policy: &Policy, verb: Method, thing: &Thing<'_>) -> bool {
    decide(policy, &Principal::User(JANE.into()), verb, thing).is_allowed
}

#[test]
fn an_instance_is_not_a_later_users_of_the_owners_name() {
    let owners = |marks: &[String]| {
        let body = json!({"userLinks": [JANE], "userMarks": marks});
        document(format!("{INSTANCE_OWNERS}/a"), &body)
    };
    let of = |made: u64| owner_made(JANE, made);
    for (marks, made, owns) in [
        (vec![of(5)], 5, true),
        (vec![of(5)], 9, false),
        (vec![of(5), of(9)], 9, true),
        // From before such marks were: by when it was written.
        (vec![], 5, true),
        (vec![], 21 + HOUR, false),
    ] {
        let policy = Policy::of([jane(made), owners(&marks)]);
        assert_eq!(policy.owns(JANE, "a"), Some(owns), "{marks:?} {made}");
        assert_eq!(policy.owners_of("a").count(), usize::from(owns), "{marks:?} {made}");
        for (verb, path) in [
            (Method::Post, "/core/immortals/a/attach"),
            (Method::Put, "/core/authz/instance-owners/a"),
        ] {
            assert_eq!(may(&policy, verb, &Thing::Path(path)), owns, "{marks:?} {made} {path}");
        }
    }
}

/// An instance writes with the rights of its owner, so it is taken over and not given away.
#[test]
fn an_owner_stays_among_the_owners_until_another_one_removes_it() {
    let joe = format!("{USERS}/joe");
    let owned =
        |users: &[&str]| document(format!("{INSTANCE_OWNERS}/a"), &json!({"userLinks": users}));
    let policy = Policy::of([jane(5), user("joe", "joe@x"), owned(&[JANE])]);
    for (users, is_allowed) in
        [(&[JANE][..], true), (&[JANE, &joe], true), (&[&joe], false), (&[], false)]
    {
        let owned = owned(users);
        let thing = Thing::Document(Candidate::from(&owned));
        for verb in [Method::Put, Method::Patch] {
            assert_eq!(may(&policy, verb, &thing), is_allowed, "{users:?}");
        }
        assert!(!may(&policy, Method::Delete, &thing));
    }
}

#[test]
fn what_a_query_has_found_and_a_subscription_are_of_one_life() {
    for (mark, made, is_own) in [(Some(5), 5, true), (Some(5), 9, false), (None, 9, true)] {
        let policy = Policy::of([jane(made)]);
        let task = json!({"taskInfo": {"authorMadeMicros": mark, "startTimeMicros": 20},
            "results": {"documentLinks": ["/secret/of/the/first"]}});
        let mut found = document("/core/query-tasks/q", &task);
        found.author = Some(JANE.into());
        let may_read = may(&policy, Method::Get, &Thing::Document(Candidate::from(&found)));
        assert_eq!(may_read, is_own, "{mark:?} {made}");
        let made_by =
            json!({"principalLink": JANE, "principalMadeMicros": mark, "begunMicros": 20});
        let subscription = document("/core/subscriptions/s", &made_by);
        let thing = Thing::Document(Candidate::from(&subscription));
        assert_eq!(may(&policy, Method::Delete, &thing), is_own, "{mark:?} {made}");
    }
}

#[test]
fn a_session_counts_by_a_password_of_its_own_users_life_only() {
    let password = |name: &str, made: u64| {
        let body = json!({"privateKey": "hash", "userMadeMicros": made});
        document(format!("{}/{name}", access::CREDENTIALS), &body)
    };
    let token = json!({"userLink": JANE, "digest": "d", "userMadeMicros": 9,
        "passwordLink": "/core/auth/credentials/jane@x",
        "passwordMark": access::password_mark("hash")});
    let token = document("/core/auth/tokens/t", &token);
    let bearer = protocol::Bearer { name: "t".into(), digest: "d".into(), is_checked: false };
    let counts = |own: u64| {
        let all = [jane(9), token.clone(), password("jane@x", 9), password("jane", own)];
        Policy::of(all).authenticate(&bearer, Moment(60)).is_ok()
    };
    assert!(!counts(9), "a password of her name is hers, and she logs in by that one");
    assert!(counts(5), "the one of an earlier jane is not there for her");
}

#[test]
fn a_user_changes_the_password_that_has_the_users_address() {
    let path = |name: &str| format!("{}/{name}", access::CREDENTIALS);
    let patches =
        |policy: &Policy, name: &str| may(policy, Method::Patch, &Thing::Path(&path(name)));
    let alone = Policy::of([jane(5), user("joe", "joe@x")]);
    assert!(patches(&alone, "jane") && patches(&alone, "jane@x"));
    assert!(!patches(&alone, "joe") && !patches(&alone, "joe@x") && !patches(&alone, ""));
    assert!(!may(&alone, Method::Put, &Thing::Path(&path("jane@x"))));
    // It may be another one's as well: by address, ...
    let shared = Policy::of([jane(5), user("joe", "jane@x")]);
    assert!(patches(&shared, "jane") && !patches(&shared, "jane@x"));
    // ... or by name.
    let named = Policy::of([jane(5), user("jane@x", "other@x")]);
    assert!(!patches(&named, "jane@x"));
}
