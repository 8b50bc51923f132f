//! The audit trail of a node with logins: what it records, that it is whole after a kill, that
//! nobody writes in it, and that no secret is anywhere that it should not be.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::own_ca::Own;

/// Planted in passwords, headers, links and bodies.
const PASSWORD: &str = "planted-password-Qx1";
const WRONG: &str = "planted-wrong-Qx2";
const MISPLACED: &str = "planted-misplaced-Qx6";
const BODY: &str = "planted-body-Qx3";
const QUERY: &str = "planted-query-Qx4";
const HEADER: &str = "planted-header-Qx5";

/// The records, each as its event, who, the link and the status.
fn records(own: &Own) -> Vec<(String, String, String, u64)> {
    let said = own.ok(&["--json", "audit", "--limit", "1000"]);
    let listing: Value = serde_json::from_str(&said).expect("it is JSON");
    let documents = listing["documents"].as_object().expect("it is a list").values();
    let mut all: Vec<&Value> = documents.collect();
    all.sort_by_key(|record| record["sequence"].as_u64());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |it: &&Value| {
        let status = it["status"].as_u64().unwrap_or_default();
        (text(&it["event"]), text(&it["who"]), text(&it["link"]), status)
    };
    all.iter().map(row).collect()
}

/// With secrets in every part of what is said.
fn what_is_said_wrongly_is_refused(own: &Own, uri: &str) {
    let broken = format!(r#"{{"name":"{BODY}"#);
    let badly = [
        &["post", "/core/examples", &broken][..],
        &["get", &format!("/core/examples?password={QUERY}")],
        &["post", "/core/authn/basic", &broken],
        &["post", "/core/auth/credentials", &format!(r#"{{"privateKey":["{BODY}"]}}"#)],
        &["post", "/core/authn/join", &format!(r#"{{"secret":"{BODY}"}}"#)],
    ];
    for words in badly {
        let (is_success, said) = own.as_user("admin", "", words);
        assert!(!is_success, "{words:?}: {said}");
    }
    let stranger = std::process::Command::new(env!("CARGO_BIN_EXE_amrita"))
        .args(["--address", uri, "get", "/core/examples"])
        .env("AMRITA_TOKEN", format!("amr_{HEADER}.{HEADER}"))
        .env("AMRITA_CA_FILE", own.sandbox("n1").join("tls/ca.pem"))
        .output()
        .expect("the program can be started");
    assert!(!stranger.status.success());
}

/// After she is made, has typed a wrong password, and has typed one in the place of her name.
fn jane_logs_in(own: &Own, sandbox: &str) {
    let password = format!("{PASSWORD}\n");
    let (is_made, said) =
        own.as_user("admin", &password, &["user", "create", "jane", "--role", "writer"]);
    assert!(is_made, "{said}");
    let log_in = ["login", "--sandbox", sandbox, "--user", "jane"];
    let (is_in, said) = own.as_user("jane", &format!("{WRONG}\n"), &log_in);
    assert!(!is_in, "{said}");
    // A password typed in the place of the name.
    let typed = ["login", "--sandbox", sandbox, "--user", MISPLACED];
    let (is_in, said) = own.as_user("jane", &password, &typed);
    assert!(!is_in, "{said}");
    let (is_in, said) = own.as_user("jane", &password, &log_in);
    assert!(is_in, "{said}");
}

/// No refusal waits for its record.
fn records_with_the_refusal_at(own: &Own, link: &str) -> Vec<(String, String, String, u64)> {
    own.wait_for("the last refusal to be recorded", || {
        records(own).iter().any(|it| it.0 == "refused" && it.2 == link)
    });
    records(own)
}

#[test]
fn the_trail_has_what_was_done_and_refused_and_no_secret_is_anywhere() {
    let mut own = Own::begun(&["--log-level", "debug"]);
    let uri = format!("https://127.0.0.1:{}", own.nodes[0].port);
    let sandbox = own.sandbox("n1").display().to_string();
    let first = fs::read_to_string(own.sandbox("n1").join("first-login")).expect("it is there");
    jane_logs_in(&own, &sandbox);
    let (is_stopped, said) = own.as_user("jane", "", &["stop", &uri]);
    assert!(!is_stopped && said.contains("ACCESS_DENIED"), "{said}");
    let token = own.ok(&["token", "create", "--for", "jane", "--about", "ci"]);
    let join = own.ok(&["token", "create", "--join"]);
    own.ok(&["role", "grant", "reader", "jane"]);
    own.ok(&["quorum", "1"]);
    own.ok(&["post", "/core/examples", &format!(r#"{{"name":"{BODY}"}}"#)]);
    what_is_said_wrongly_is_refused(&own, &uri);
    let (is_linked, said) = own.as_user("jane", "", &["get", "/core/peer-link"]);
    assert!(!is_linked && said.contains("only nodes"), "{said}");

    let all = records_with_the_refusal_at(&own, "/core/peer-link");
    let has = |event: &str, who: &str, link: &str, status: u64| {
        let is_it = |it: &&(String, String, String, u64)| {
            it.0 == event && it.1.ends_with(who) && it.2 == link && it.3 == status
        };
        assert!(all.iter().any(|it| is_it(&it)), "no {event} {who} {link} {status}: {all:#?}");
    };
    has("login", "/users/admin", "/core/authn/basic", 200);
    has("login", "/users/jane", "/core/authn/basic", 401);
    has("login", "a name that no user has", "/core/authn/basic", 401);
    has("login", "/users/jane", "/core/authn/basic", 200);
    has("rights", "/users/admin", "/core/authz/users", 200);
    has("rights", "/users/admin", "/core/auth/credentials", 200);
    has("rights", "/users/admin", "/core/auth/join-tokens", 200);
    has("rights", "/users/admin", "/core/authz/users/jane", 200);
    has("refused", "/users/jane", "/core/management", 403);
    has("refused", "does not count", "/core/examples", 401);
    has("refused", "", "/core/peer-link", 403);
    has("members", "/users/admin", "/core/node-groups/default", 200);
    has("rights", "the cluster itself", "/core/authz/users/admin", 200);
    // Who did it is there before it was done.
    let places = |status: u64| {
        let is_it = |it: &(String, String, String, u64)| {
            it.0 == "rights" && it.2 == "/core/authz/users/jane" && it.3 == status
        };
        all.iter().position(is_it)
    };
    assert!(places(202).is_some() && places(202) < places(200), "{all:#?}");
    a_stranger_does_not_fill_the_trail(&own, &uri);

    nobody_writes_in_the_trail(&own);
    own.ok(&["audit", "--verify"]);
    own.kill("n1");
    own.start("n1", &["--cluster-ca"]);
    own.wait_for("the node to be back", || own.as_user("admin", "", &["whoami"]).0);
    own.ok(&["role", "revoke", "reader", "jane"]);
    let shown = own.ok(&["audit", "--verify"]);
    let count = records(&own).len();
    assert!(shown.contains(&format!("n1: records 1 to {count};")), "{count}: {shown}");
    let lines = own.ok(&["audit", "--limit", "3"]);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    own.ok(&["logout"]);

    let secrets = [
        PASSWORD,
        WRONG,
        MISPLACED,
        QUERY,
        HEADER,
        first.trim(),
        token.trim(),
        join.trim(),
        "PRIVATE KEY",
    ];
    let secret_of = |token: &str| token.split('.').nth(1).expect("it has parts").trim().to_owned();
    let mut secrets: Vec<String> = secrets.map(str::to_owned).to_vec();
    secrets.extend([secret_of(&token), secret_of(&join)]);
    no_secret_is_anywhere(&own, &secrets);
}

/// With tokens that are made up: logging out with one ends nothing, and the rest has a bound.
fn a_stranger_does_not_fill_the_trail(own: &Own, uri: &str) {
    let before = records(own).len();
    let out = r#"{"requestType":"LOGOUT"}"#;
    for number in 0..40 {
        for words in [&["post", "/core/authn/basic", out][..], &["get", "/core/examples"]] {
            let stranger = std::process::Command::new(env!("CARGO_BIN_EXE_amrita"))
                .args(["--address", uri])
                .args(words)
                .env("AMRITA_TOKEN", made_up(number))
                .env("AMRITA_CA_FILE", own.sandbox("n1").join("tls/ca.pem"))
                .output()
                .expect("the program can be started");
            assert_eq!(stranger.status.success(), words[0] == "post", "{stranger:?}");
        }
    }
    // A minute may have begun meanwhile.
    let all = records(own);
    let more = all.len() - before;
    assert!(more <= 40, "{more}");
    assert!(all[before..].iter().all(|it| it.0 == "refused"), "{all:#?}");
    own.ok(&["quorum", "1"]);
    let told = own.ok(&["--json", "audit", "--limit", "2"]);
    assert!(told.contains("before it are not recorded"), "{told}");
}

/// As a token looks.
fn made_up(number: u8) -> String {
    let (name, secret) = ([number; protocol::TOKEN_NAME_BYTES], [7; protocol::TOKEN_SECRET_BYTES]);
    protocol::token_text(&name, &secret)
}

fn nobody_writes_in_the_trail(own: &Own) {
    let link = "/core/audit/n1-000000000001";
    let record = own.ok(&["get", link]);
    for words in [&["delete", link][..], &["post", "/core/audit", &record]] {
        let (is_success, said) = own.as_user("admin", "", words);
        assert!(!is_success && said.contains("ACCESS_DENIED"), "{words:?}: {said}");
    }
    let (is_success, said) = own.as_user("jane", "", &["get", link]);
    assert!(!is_success && said.contains("ACCESS_DENIED"), "{said}");
    let (_, said) =
        own.as_user("jane", "", &["query", "documentSelfLink=/core/audit/*", "--count"]);
    assert!(said.trim().starts_with('0'), "not even how many there are: {said}");
}

/// In no log, no metric, no record, and no file but those that are there for it.
fn no_secret_is_anywhere(own: &Own, secrets: &[String]) {
    let log = own.log("n1");
    assert!(!log.contains(BODY), "a body is in the log");
    let mut texts = vec![("the log".to_owned(), log.into_bytes())];
    let mut left = vec![own.sandbox("n1")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let within = fs::read_dir(&path).expect("it is ours");
            left.extend(within.map(|it| it.expect("it is ours").path()));
        } else if !is_for_secrets(&path) {
            // A socket has no content.
            let content = fs::read(&path).unwrap_or_default();
            texts.push((path.display().to_string(), content));
        }
    }
    for (name, text) in &texts {
        for secret in secrets.iter().filter(|secret| *secret != "PRIVATE KEY" || !is_state(name)) {
            let is_there = text.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!is_there, "'{secret}' is in {name}");
        }
    }
}

/// What is kept for its owner to read.
fn is_for_secrets(path: &Path) -> bool {
    path.ends_with("first-login") || path.ends_with("tls/node.pem")
}

/// The authority's key is in the state of each node, and only there.
fn is_state(name: &str) -> bool {
    name.contains("/state/") || name.contains("/log/")
}
