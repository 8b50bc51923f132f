//! A session ends with the password by which it was made: at every node and for good, and a token
//! that was made for a program does not.

use serde_json::{Value, json};

use crate::http::{Ask, Reply};
use crate::security::{Secured, amrita, basic, log_in};

const EXAMPLES: &str = "/core/examples";
const JANE: &str = "/core/auth/credentials/jane";

fn token_of(reply: &Reply) -> String {
    reply.body["token"].as_str().expect("a token").to_owned()
}

/// What a token is answered at that node.
fn status(secured: &Secured, which: usize, token: &str) -> u16 {
    secured.with(which, token, "GET", EXAMPLES, &Value::Null).status
}

/// It counts no more at any node, and says why.
fn has_ended(secured: &Secured, token: &str) {
    for which in 0..secured.cluster.len() {
        secured.cluster.wait_for("the session to end", || {
            (status(secured, which, token) == 401).then_some(())
        });
        let reply = secured.with(which, token, "GET", EXAMPLES, &Value::Null);
        assert_eq!((reply.status, reply.code()), (401, "UNAUTHORIZED"), "{}", reply.body);
        assert!(reply.message().contains("password was changed"), "{}", reply.body);
        let who = secured.with(which, token, "POST", EXAMPLES, &json!({"name": "x"}));
        assert_eq!((who.status, &who.body["outcome"]), (401, &json!("notApplied")));
    }
}

#[test]
fn a_session_ends_with_its_password_everywhere_and_a_token_of_a_program_does_not() {
    let mut secured = Secured::started(3);
    let user = json!({"documentSelfLink": "jane", "email": "jane@example.com",
        "userGroupLinks": ["/core/authz/user-groups/readers"]});
    secured.as_admin(0, "POST", "/core/authz/users", &user);
    let secret = json!({"documentSelfLink": "jane", "userEmail": "jane@example.com",
        "privateKey": "the first one"});
    secured.as_admin(1, "POST", "/core/auth/credentials", &secret);
    let service = json!({"userLink": "/core/authz/users/jane", "about": "a login"});
    let service = token_of(&secured.as_admin(0, "POST", "/core/auth/tokens", &service));
    let first = token_of(&log_in(&secured.cluster, 0, "jane", "the first one"));
    let also = token_of(&log_in(&secured.cluster, 1, "jane@example.com", "the first one"));
    for which in 0..3 {
        assert_eq!((status(&secured, which, &first), status(&secured, which, &also)), (200, 200));
    }
    what_a_session_knows_of_its_password_is_shown_to_nobody(&secured);
    // What is no change of the password ends nothing.
    secured.as_admin(2, "PATCH", JANE, &json!({"userEmail": "jane2@example.com"}));
    for round in 0..5 {
        let password = format!("the next one, {round}");
        assert_eq!(status(&secured, round % 3, &first), if round == 0 { 200 } else { 401 });
        secured.as_admin(round % 3, "PATCH", JANE, &json!({"privateKey": password}));
        // A login counts at once at any node, also at one that has the old password still.
        let next = token_of(&log_in(&secured.cluster, (round + 1) % 3, "jane", &password));
        for which in 0..3 {
            assert_eq!(status(&secured, which, &next), 200, "round {round}, node {which}");
        }
        has_ended(&secured, &first);
        has_ended(&secured, &also);
    }
    let last = token_of(&log_in(&secured.cluster, 2, "jane", "the next one, 4"));
    for which in 0..3 {
        secured.cluster.kill(which);
    }
    let secret = secured.cluster.folder().join("link-secret").display().to_string();
    for which in 0..3 {
        secured.cluster.start_with(which, &["--auth", "--link-secret-file", &secret]);
    }
    for which in 0..3 {
        secured.cluster.wait_for("the node to be ready again", || {
            let answer = Ask::get("/readyz").send(secured.cluster.port(which)).ok()?;
            answer.is_success().then_some(())
        });
        secured.cluster.wait_for("the token of a program to count again", || {
            (status(&secured, which, &service) == 200).then_some(())
        });
        assert_eq!(status(&secured, which, &last), 200);
    }
    has_ended(&secured, &first);
    // Without any password nobody is logged in by one.
    secured.as_admin(0, "DELETE", JANE, &Value::Null);
    has_ended(&secured, &last);
    assert_eq!(status(&secured, 1, &service), 200);
}

fn what_a_session_knows_of_its_password_is_shown_to_nobody(secured: &Secured) {
    let list = secured.as_admin(0, "GET", "/core/auth/tokens?expand", &Value::Null);
    let text = list.body.to_string();
    assert!(text.contains("a login") && text.contains(JANE), "{text}");
    let documents = list.body["documents"].as_object().expect("they are shown");
    for (link, token) in documents {
        let shown = (&token["documentSelfLink"], token["userLink"].is_string());
        assert_eq!(shown, (&json!(link), true), "{token}");
    }
    assert!(!text.contains("passwordMark"), "{text}");
    let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {"options": ["EXPAND_CONTENT"],
        "query": {"term": {"propertyName": "passwordLink", "matchValue": JANE}}}});
    let found = secured.as_admin(0, "POST", "/core/query-tasks", &query).body.to_string();
    assert!(!found.contains("passwordMark"), "{found}");
}

#[test]
fn who_changes_their_own_password_at_the_command_line_stays_logged_in() {
    let secured = Secured::started(1);
    let cluster = &secured.cluster;
    let file = cluster.member(0).sandbox.join("first-login").display().to_string();
    let ok = |input: &str, words: &[&str]| {
        let (is_success, said) = amrita(cluster, input, words);
        assert!(is_success, "{words:?}: {said}");
        said
    };
    ok("", &["login", "--user", "admin", "--password-file", &file]);
    ok("a secret of jane\n", &["user", "create", "jane"]);
    let of_jane = token_of(&log_in(cluster, 0, "jane", "a secret of jane"));
    let said = ok("another secret\n", &["user", "password", "jane"]);
    assert!(said.contains("jane is another one now") && !said.contains("You are"), "{said}");
    has_ended(&secured, &of_jane);
    assert!(ok("", &["whoami"]).contains("admin: admin"));
    let said = ok("a secret of mine\n", &["user", "password", "admin"]);
    assert!(said.contains("You are"), "{said}");
    has_ended(&secured, &secured.admin);
    assert!(ok("", &["whoami"]).contains("admin: admin"));
    log_in(cluster, 0, "admin", "a secret of mine");
}

/// A user who is deleted takes the password along, though its document is still there. A password
/// that has its user's address for a name, as Xenon's clients make it, is changed by that user.
#[test]
fn a_password_is_of_one_user_and_not_of_a_later_one_of_that_name() {
    let secured = Secured::started(1);
    let cluster = &secured.cluster;
    let user = json!({"documentSelfLink": "jane", "email": "jane@example.com",
        "userGroupLinks": ["/core/authz/user-groups/readers"]});
    let log_in_as = |name: &str, password: &str| {
        let ask = Ask::new("POST", "/core/authn/basic").json(&json!({"requestType": "LOGIN"}));
        cluster.ask(0, &ask.header("Authorization", &basic(name, password)))
    };
    // As Xenon's clients do it: the password first, under the address.
    let secret = json!({"userEmail": "jane@example.com", "privateKey": "the first one"});
    secured.as_admin(0, "POST", "/core/auth/credentials", &secret);
    secured.as_admin(0, "POST", "/core/authz/users", &user);
    let first = token_of(&log_in_as("jane", "the first one"));
    let link = "/core/auth/credentials/jane@example.com";
    let change = json!({"privateKey": "the second one"});
    assert_eq!(secured.with(0, &first, "PATCH", link, &change).status, 200);
    let second = token_of(&log_in_as("jane@example.com", "the second one"));
    secured.as_admin(0, "DELETE", "/core/authz/users/jane", &Value::Null);
    assert_eq!(secured.with(0, &second, "GET", EXAMPLES, &Value::Null).status, 401);
    let mut anew = user.clone();
    anew["documentVersion"] = 9.into();
    secured.as_admin(0, "POST", "/core/authz/users", &anew);
    assert_eq!(log_in_as("jane", "the second one").status, 401, "that was another jane's");
    secured.as_admin(0, "PATCH", link, &json!({"privateKey": "the third one"}));
    assert_eq!(log_in_as("jane", "the third one").status, 200);
}
