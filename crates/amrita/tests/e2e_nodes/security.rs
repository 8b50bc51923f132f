//! Strangers stay out: three nodes that demand a login, asked by everybody there is, on every kind
//! of path, at any node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use protocol::base64url;
use serde_json::{Value, json};

use crate::cluster::{Cluster, available, uri};
use crate::http::{Ask, Reply};

const EXAMPLES: &str = "/core/examples";
const LOGIN: &str = "/core/authn/basic";
const USERS: &str = "/core/authz/users";

/// Planted here, and to be found in no log.
const PASSWORDS: [(&str, &str, &str); 5] = [
    ("rita", "reader-Xq71-secret", "reader"),
    ("walt", "writer-Xq72-secret", "writer"),
    ("olga", "operator-Xq73-secret", "operator"),
    ("tina", "tenant-Xq74-secret", "acme"),
    ("nora", "norole-Xq75-secret", ""),
];

pub(crate) struct Secured {
    pub(crate) cluster: Cluster,
    pub(crate) admin: String,
}

fn secret_in(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).expect("a file can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    file
}

fn flags_of(cluster: &Cluster) -> [String; 3] {
    let secret = cluster.folder().join("link-secret").display().to_string();
    ["--auth".to_owned(), "--link-secret-file".to_owned(), secret]
}

pub(crate) fn basic(name: &str, password: &str) -> String {
    let text = base64url::encode(format!("{name}:{password}").as_bytes());
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    format!("Basic {}{padding}", text.replace('-', "+").replace('_', "/"))
}

impl Secured {
    pub(crate) fn started(count: usize) -> Self {
        Self::started_with(count, &[])
    }

    /// With flags that the nodes do not have otherwise.
    pub(crate) fn started_with(count: usize, flags: &[&str]) -> Self {
        let mut cluster = Cluster::of(count);
        let text = "a-secret-of-all-links-0123456789abcdef";
        secret_in(cluster.folder(), "link-secret", text);
        let usual = flags_of(&cluster);
        let usual: Vec<&str> = usual.iter().map(String::as_str).collect();
        for which in 0..count {
            cluster.start_with(which, &[&usual, flags].concat());
        }
        let password = cluster.wait_for("the first admin", || {
            (0..count).find_map(|which| {
                let log = cluster.log(which);
                let file = cluster.member(which).sandbox.join("first-login");
                log.contains("the first admin is").then(|| fs::read_to_string(file).ok())?
            })
        });
        let admin = log_in(&cluster, 0, "admin", password.trim());
        let token = admin.body["token"].as_str().expect("a token").to_owned();
        let secured = Self { cluster, admin: token };
        for which in 0..count {
            secured.cluster.wait_for("all nodes to be seen", || {
                let ask = bearer(Ask::get("/core/node-groups/default"), &secured.admin);
                let group = ask.send(secured.cluster.port(which)).ok()?;
                (available(&group.body) == count).then_some(())
            });
        }
        secured
    }

    /// With which each node was started.
    pub(crate) fn flags(&self) -> [String; 3] {
        flags_of(&self.cluster)
    }

    pub(crate) fn as_admin(&self, which: usize, verb: &str, path: &str, body: &Value) -> Reply {
        let reply = self.with(which, &self.admin, verb, path, body);
        assert!(reply.is_success(), "{verb} {path}: {} {}", reply.status, reply.body);
        reply
    }

    pub(crate) fn with(
        &self,
        which: usize,
        token: &str,
        verb: &str,
        path: &str,
        body: &Value,
    ) -> Reply {
        let ask = Ask::new(verb, path);
        let ask = if body.is_null() { ask } else { ask.json(body) };
        let ask = if token.is_empty() { ask } else { bearer(ask, token) };
        self.cluster.ask(which, &ask)
    }

    /// A user for each role, and one who may only touch what is named `acme`.
    pub(crate) fn people(&self) -> Vec<(&'static str, String)> {
        let acme = json!({"documentSelfLink": "acme", "query": {"booleanClauses": [
            {"term": {"propertyName": "documentSelfLink", "matchType": "PREFIX",
                "matchValue": "/core/examples/"}},
            {"term": {"propertyName": "name", "matchValue": "acme"}}]}});
        self.as_admin(0, "POST", "/core/authz/resource-groups", &acme);
        let role = json!({"documentSelfLink": "acme", "verbs": ["GET", "POST", "PATCH", "DELETE"],
            "userGroupLink": "/core/authz/user-groups/acme",
            "resourceGroupLink": "/core/authz/resource-groups/acme", "policy": "ALLOW"});
        self.as_admin(1 % self.cluster.len(), "POST", "/core/authz/roles", &role);
        let mut people = vec![("nobody", String::new()), ("admin", self.admin.clone())];
        for (name, password, role) in PASSWORDS {
            let group = match role {
                "" => Vec::new(),
                "acme" => vec!["/core/authz/user-groups/acme".to_owned()],
                role => vec![format!("/core/authz/user-groups/{role}s")],
            };
            let user = json!({"documentSelfLink": name, "email": format!("{name}@example.com"),
                "userGroupLinks": group});
            self.as_admin(0, "POST", USERS, &user);
            let secret = json!({"userEmail": format!("{name}@example.com"),
                "privateKey": password});
            self.as_admin(0, "POST", "/core/auth/credentials", &secret);
            // By the name or by the address, at whatever node.
            let shown =
                if role == "writer" { name.to_owned() } else { format!("{name}@example.com") };
            let reply = log_in(&self.cluster, people.len() % self.cluster.len(), &shown, password);
            let token = reply.body["token"].as_str().expect("a token").to_owned();
            assert_eq!(reply.header("x-xenon-auth-token"), Some(token.as_str()));
            people.push((name, token));
        }
        people
    }
}

pub(crate) fn bearer<'a>(ask: Ask<'a>, token: &str) -> Ask<'a> {
    ask.header("Authorization", &format!("Bearer {token}"))
}

pub(crate) fn log_in(cluster: &Cluster, which: usize, name: &str, password: &str) -> Reply {
    let ask = Ask::new("POST", LOGIN).json(&json!({"requestType": "LOGIN"}));
    let reply = cluster.ask(which, &ask.header("Authorization", &basic(name, password)));
    assert_eq!(reply.status, 200, "{name}: {}", reply.body);
    reply
}

/// Who is let through; everybody else gets 401 without a login, and 403 with one.
fn rows() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let all = "admin rita walt olga tina nora";
    let example = |name: &str| json!({ "name": name });
    let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {"query":
        {"term": {"propertyName": "name", "matchValue": "acme"}}}});
    let quorum = json!({"kind": "UpdateQuorumRequest", "membershipQuorum": 2});
    let user = json!({"documentSelfLink": "eve", "email": "eve@example.com"});
    let mail = json!({"email": "nora@example.com"});
    vec![
        ("GET", "/livez", Value::Null, "nobody admin rita walt olga tina nora"),
        ("GET", "/readyz", Value::Null, "nobody admin rita walt olga tina nora"),
        ("GET", "/", Value::Null, all),
        ("GET", "/core/authn/whoami", Value::Null, all),
        ("GET", "/metrics", Value::Null, "admin olga"),
        ("GET", "/core/node-groups/default", Value::Null, "admin olga rita walt"),
        ("PATCH", "/core/node-groups/default", quorum, "admin olga"),
        ("POST", "/core/node-selectors/default", json!({"key": "/x"}), "admin olga"),
        ("GET", "/core/management", Value::Null, "admin olga"),
        ("GET", "/core/management/", Value::Null, "admin olga"),
        ("GET", "/core/%6danagement", Value::Null, "admin olga"),
        ("GET", EXAMPLES, Value::Null, all),
        ("GET", "/core/examples?expand", Value::Null, all),
        ("POST", "/core/query-tasks", query, all),
        ("POST", "/core/sql", json!({"sql": "select name from examples"}), all),
        ("POST", EXAMPLES, example("other"), "admin walt"),
        ("POST", EXAMPLES, example("acme"), "admin walt tina"),
        ("GET", "/core/examples/of-acme", Value::Null, "admin rita walt tina"),
        ("GET", "/core/examples/of-other", Value::Null, "admin rita walt"),
        ("GET", "/core/examples/of-other?documentVersion=0", Value::Null, "admin rita walt"),
        ("GET", "/core/examples/of-other?consistency=local", Value::Null, "admin rita walt"),
        ("GET", "/core/examples/of-other/stats", Value::Null, "admin rita walt"),
        ("GET", "/core/examples/of%2Dother", Value::Null, "admin rita walt"),
        ("PATCH", "/core/examples/of-acme", json!({"counter": 1}), "admin walt tina"),
        ("PATCH", "/core/examples/of-other", example("other"), "admin walt"),
        ("PUT", "/core/examples/of-acme", example("acme"), "admin walt"),
        ("GET", "/core/examples/template", Value::Null, "admin rita walt"),
        ("GET", "/core/examples/stats", Value::Null, "admin rita walt"),
        ("GET", "/core/examples/available", Value::Null, all),
        ("GET", "/core/immortals", Value::Null, "admin rita walt"),
        ("POST", "/core/immortals", json!({}), ""),
        ("GET", "/core/immortals/none/attach", Value::Null, ""),
        ("GET", USERS, Value::Null, all),
        ("POST", USERS, user, "admin"),
        ("PATCH", "/core/authz/users/nora", mail, "admin"),
        ("GET", "/core/auth/credentials/admin", Value::Null, "admin"),
        ("DELETE", "/core/authz/roles/none", Value::Null, "admin"),
        ("POST", "/core/auth/join-tokens", json!({}), "admin"),
        ("GET", "/core/auth/authorities/cluster", Value::Null, "admin"),
        ("DELETE", "/core/auth/authorities/cluster", Value::Null, "-"),
        ("PATCH", "/core/authz/instance-owners/none", json!({}), "admin"),
        ("GET", "/core/audit/none", Value::Null, "admin"),
        ("DELETE", "/core/audit/none", Value::Null, "-"),
        ("GET", "/core/audit-ends/none", Value::Null, "admin"),
        ("PATCH", "/core/audit-ends/none", json!({}), "-"),
    ]
}

/// Some are let through and told then that their request is none.
fn is_through(reply: &Reply) -> bool {
    reply.status != 401 && reply.status != 403
}

#[test]
fn everybody_gets_what_a_role_allows_and_nothing_else_on_every_path() {
    let secured = Secured::started(3);
    let people = secured.people();
    for (name, owner) in [("of-acme", "acme"), ("of-other", "other")] {
        let body = json!({"documentSelfLink": name, "name": owner});
        secured.as_admin(0, "POST", EXAMPLES, &body);
    }
    for (number, (verb, path, body, allowed)) in rows().into_iter().enumerate() {
        for (at, (name, token)) in people.iter().enumerate() {
            let reply = secured.with((number + at) % 3, token, verb, path, &body);
            let is_allowed = allowed.split(' ').any(|one| one == *name)
                || (allowed.is_empty() && ["admin", "walt"].contains(name));
            let what = format!("{name} {verb} {path}: {} {}", reply.status, reply.body);
            assert_eq!(is_through(&reply), is_allowed, "{what}");
            if !is_allowed {
                let expected =
                    if *name == "nobody" { (401, "UNAUTHORIZED") } else { (403, "ACCESS_DENIED") };
                assert_eq!((reply.status, reply.code()), expected, "{what}");
                assert!(!reply.message().is_empty(), "{what}");
            }
        }
    }
    each_verb_of_each_path_asks_for_what_the_reference_says(&secured, &people);
    the_verbs_of_a_path_do_not_tell_whether_there_is_something(&secured);
    what_a_query_has_found_is_for_whoever_asked_it(&secured, &people);
    what_is_hidden_is_not_counted_and_looks_as_if_it_were_not_there(&secured, &people);
    who_wrote_a_version_stands_in_it(&secured, &people);
    a_task_does_what_its_maker_may_and_no_more(&secured, &people);
    a_token_that_is_revoked_counts_at_no_node(&secured);
    no_log_has_a_secret(&secured, &people);
}

fn the_verbs_of_a_path_do_not_tell_whether_there_is_something(secured: &Secured) {
    let told = |path: &str| {
        let reply = secured.cluster.ask(0, &Ask::new("OPTIONS", path));
        (reply.status, reply.header("allow").map(str::to_owned))
    };
    assert_eq!(told(EXAMPLES), told("/shop/no-such-kind"));
    assert_eq!(told("/core/examples/of-acme"), told("/core/examples/nothing"));
}

/// A query in the background keeps what it has found in a document.
fn what_a_query_has_found_is_for_whoever_asked_it(
    secured: &Secured,
    people: &[(&'static str, String)],
) {
    let link = "/core/query-tasks/of-admin";
    let query = json!({"documentSelfLink": "of-admin", "querySpec": {
        "options": ["EXPAND_CONTENT"], "query": {"term": {"propertyName": "documentSelfLink",
            "matchType": "PREFIX", "matchValue": "/core/authz"}}}});
    secured.as_admin(0, "POST", "/core/query-tasks", &query);
    secured.cluster.wait_for("the query to end", || {
        let task = secured.with(1, &secured.admin, "GET", link, &Value::Null).body;
        (task["taskInfo"]["stage"] == "FINISHED").then_some(())
    });
    let found = secured.as_admin(1, "GET", link, &Value::Null).body;
    assert!(found["results"]["documentCount"].as_u64() > Some(0), "{found}");
    for name in ["rita", "walt"] {
        let token = token_of(people, name);
        for verb in ["GET", "DELETE"] {
            let reply = secured.with(2, token, verb, link, &Value::Null);
            assert_eq!(reply.status, 403, "{name} {verb}: {}", reply.body);
        }
        let list = secured.with(0, token, "GET", "/core/query-tasks?expand", &Value::Null);
        assert!(list.is_success() && !list.body.to_string().contains("of-admin"), "{}", list.body);
    }
}

/// Each verb of each path, as the reference has them, and what it says that a request needs.
fn reference() -> Vec<(String, String, String)> {
    let text = include_str!("../../../../docs/reference-rest.md");
    let (mut rows, mut path) = (Vec::new(), String::new());
    let verbs = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, place, verb, .., needs, _] = cells[..] else { continue };
        if !verbs.contains(&verb) || cells.len() != 9 {
            continue;
        }
        if !place.is_empty() {
            path = place.trim_matches('`').to_owned();
        }
        let mut whole = "";
        for part in path.split(", ") {
            let place = match part.starts_with(['/', 'F']) {
                true => part.to_owned(),
                false => format!("{}/{part}", whole.rsplit_once('/').expect("a path").0),
            };
            whole = if part.starts_with(['/', 'F']) { part } else { whole };
            let place = place.replace("FACTORY", EXAMPLES).replace("...", "none");
            let names = ["NAME", "NODE", "TOKEN", "ID", "GROUP", "KIND", "ACTION"];
            let place = names.iter().fold(place, |place, name| place.replace(name, "none"));
            rows.push((verb.to_owned(), place, needs.to_owned()));
        }
    }
    rows
}

/// Who has the right to what is no document, by the roles that come with the cluster.
fn with_right(verb: &str, path: &str) -> &'static str {
    // To be told what something waits for is to look at it.
    let path = path.strip_suffix("/explain").unwrap_or(path);
    let below = |top: &str| path.strip_prefix(top).is_some_and(|rest| !rest.starts_with('-'));
    if below("/core/backups") {
        return "admin";
    }
    if verb == "GET" && path == "/core/node-groups/default" {
        return "admin olga rita walt";
    }
    let of_nodes = ["/core/node-groups", "/core/node-selectors", "/core/management", "/metrics"];
    if of_nodes.into_iter().any(below) {
        return "admin olga";
    }
    // What kinds there are. To attach is a GET by its verb only.
    if below("/core/factories") {
        return "admin olga";
    }
    match verb {
        "GET" if !path.ends_with("/attach") => "admin rita walt",
        _ => "admin walt",
    }
}

fn each_verb_of_each_path_asks_for_what_the_reference_says(
    secured: &Secured,
    people: &[(&'static str, String)],
) {
    let made = |seconds: u64| {
        let body = json!({ "expirationSeconds": seconds });
        let made = secured.as_admin(0, "POST", "/core/auth/tokens", &body).body;
        let text = |field: &str| made[field].as_str().expect("it has one").to_owned();
        (text("token"), text("documentSelfLink"))
    };
    let ((revoked, link), (expired, _)) = (made(600), made(1));
    secured.as_admin(0, "DELETE", &link, &Value::Null);
    secured.cluster.wait_for("the token to be over at all nodes", || {
        let is_over = |which: usize, token: &str| {
            secured.with(which, token, "GET", "/core/authn/whoami", &Value::Null).status == 401
        };
        let all = (0..3).flat_map(|which| [(which, &revoked), (which, &expired)]);
        let mut all = all.into_iter();
        all.all(|(which, token)| is_over(which, token)).then_some(())
    });
    let mut everybody = people.to_vec();
    everybody.extend([("revoked", revoked), ("expired", expired)]);
    let rows = reference();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for (number, (verb, path, needs)) in rows.iter().enumerate() {
        for (at, (name, token)) in everybody.iter().enumerate() {
            // Whoever is let through is told that there is no such parameter, and nothing is done.
            // (What the node's shell answers by itself it looks at before.)
            let is_shells = path == "/metrics" || path.ends_with("/attach");
            let asked = if is_shells { path.clone() } else { format!("{path}?nonsense=1") };
            let reply = secured.with((number + at) % 3, token, verb, &asked, &Value::Null);
            let is_somebody = !["nobody", "revoked", "expired"].contains(name);
            let expected = match needs.as_str() {
                "nothing" => 400,
                "node" => continue,
                _ if !is_somebody => 401,
                // Of documents the owner decides, behind what is wrong with the request.
                "login" | "document" | "filtered" => 400,
                "right" if with_right(verb, path).split(' ').any(|one| one == *name) => 400,
                "right" => 403,
                other => panic!("{path} needs {other}"),
            };
            let what = format!("{name} {verb} {path}: {} {}", reply.status, reply.body);
            if is_shells && expected == 400 {
                assert!(is_through(&reply), "{what}");
                continue;
            }
            assert_eq!(reply.status, expected, "{what}");
            assert_eq!(reply.message().contains("nonsense"), expected == 400, "{what}");
            if verb == "GET" {
                let head = secured.with((number + at) % 3, token, "HEAD", &asked, &Value::Null);
                assert_eq!((head.status, head.body), (expected, Value::Null), "{what}");
            }
        }
    }
}

fn token_of<'a>(people: &'a [(&'static str, String)], name: &str) -> &'a str {
    &people.iter().find(|(known, _)| *known == name).expect("it is there").1
}

fn what_is_hidden_is_not_counted_and_looks_as_if_it_were_not_there(
    secured: &Secured,
    people: &[(&'static str, String)],
) {
    let count = |name: &str, options: &[&str]| {
        let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {"options": options,
            "query": {"term": {"propertyName": "documentSelfLink", "matchType": "PREFIX",
                "matchValue": "/core/"}}}});
        let token = token_of(people, name);
        let reply = secured.with(1, token, "POST", "/core/query-tasks", &query);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body["results"].clone()
    };
    let seen = |results: &Value| {
        let links = results["documentLinks"].as_array().into_iter().flatten();
        links.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let of_tina = seen(&count("tina", &[]));
    assert!(of_tina.contains(&"/core/examples/of-acme".to_owned()), "{of_tina:?}");
    let is_own = |link: &&String| link.starts_with("/core/auth") && !link.contains("/tina");
    let foreign: Vec<&String> = of_tina.iter().filter(is_own).collect();
    // Her own tokens are hers.
    assert!(foreign.iter().all(|link| link.starts_with("/core/auth/tokens/")), "{foreign:?}");
    let counted = count("tina", &["COUNT"])["documentCount"].as_u64();
    assert_eq!(counted, u64::try_from(of_tina.len()).ok(), "a count counts what is shown");
    // Rows and aggregates are of what one may see.
    let sql = |name: &str, statement: &str| {
        let body = json!({ "sql": statement });
        let reply = secured.with(2, token_of(people, name), "POST", "/core/sql", &body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body["rows"].clone()
    };
    let examples = of_tina.iter().filter(|link| link.starts_with("/core/examples/"));
    assert_eq!(sql("tina", "select count(*) from examples"), json!([[examples.count()]]));
    let names = "select name, count(*) from examples group by name having name <> 'acme'";
    assert_eq!(sql("tina", names), json!([]), "no group tells of what is hidden");
    assert_ne!(sql("rita", names), json!([]));
    let told = |name: &str| {
        let body = json!({"sql": "explain select name from examples where name = 'other'"});
        let reply = secured.with(0, token_of(people, name), "POST", "/core/sql", &body);
        reply.body["explained"]["partitions"][0]["documentsRead"].clone()
    };
    assert_eq!(told("tina"), Value::Null, "how many there are is told to admins only");
    assert!(told("admin").is_u64());
    let most = "select max(documentSelfLink) from examples";
    assert_eq!(sql("tina", most), json!([["/core/examples/of-acme"]]));
    for name in ["rita", "walt", "admin"] {
        let of_one = seen(&count(name, &["INCLUDE_ALL_VERSIONS"]));
        let secret = of_one.iter().find(|link| link.starts_with("/core/auth/credentials"));
        assert_eq!(secret, None, "{name}: no query finds a password");
    }
    let tina = token_of(people, "tina");
    let [hidden, missing] = ["of-other", "of-nobody"].map(|name| {
        let path = format!("{EXAMPLES}/{name}");
        let reply = secured.with(2, tina, "GET", &path, &Value::Null);
        (reply.status, reply.message().replace(name, "it"))
    });
    assert_eq!(hidden, missing);
    // Nobody gives away what one may not see afterwards, nor takes what one may not see before.
    for (name, owner) in [("of-acme", "other"), ("of-other", "acme")] {
        let path = format!("{EXAMPLES}/{name}");
        let reply = secured.with(0, tina, "PATCH", &path, &json!({ "name": owner }));
        assert_eq!((reply.status, reply.code()), (403, "ACCESS_DENIED"), "{}", reply.body);
    }
    let shown = secured.as_admin(0, "GET", "/core/auth/credentials/admin", &Value::Null);
    assert_eq!(shown.body["privateKey"], Value::Null, "{}", shown.body);
}

fn who_wrote_a_version_stands_in_it(secured: &Secured, people: &[(&'static str, String)]) {
    let walt = token_of(people, "walt");
    let path = format!("{EXAMPLES}/of-acme");
    let reply = secured.with(1, walt, "PATCH", &path, &json!({"counter": 5}));
    let author = |reply: &Reply| reply.body["documentAuthPrincipalLink"].clone();
    assert_eq!(author(&reply), "/core/authz/users/walt");
    secured.as_admin(2, "PATCH", &path, &json!({"counter": 6}));
    let version = format!("{path}?documentVersion={}", reply.version());
    let before = secured.with(0, walt, "GET", &version, &Value::Null);
    assert_eq!(author(&before), "/core/authz/users/walt");
    let now = secured.with(0, walt, "GET", &path, &Value::Null);
    assert_eq!(author(&now), "/core/authz/users/admin");
}

/// The task deletes all examples that it finds, and it finds what its maker may see.
fn a_task_does_what_its_maker_may_and_no_more(
    secured: &Secured,
    people: &[(&'static str, String)],
) {
    const TASKS: &str = "/core/example-tasks";
    let tasks = json!({"documentSelfLink": "tasks", "query": {"term":
        {"propertyName": "documentSelfLink", "matchType": "PREFIX", "matchValue": TASKS}}});
    secured.as_admin(0, "POST", "/core/authz/resource-groups", &tasks);
    let role = json!({"documentSelfLink": "tasks", "verbs": ["GET", "POST"], "policy": "ALLOW",
        "userGroupLink": "/core/authz/user-groups/acme",
        "resourceGroupLink": "/core/authz/resource-groups/tasks"});
    secured.as_admin(0, "POST", "/core/authz/roles", &role);
    let tina = token_of(people, "tina");
    let task = json!({"documentSelfLink": "of-tina"});
    secured.cluster.wait_for("the role to count", || {
        secured.with(1, tina, "POST", TASKS, &task).is_success().then_some(())
    });
    let path = format!("{TASKS}/of-tina");
    let ended = secured.cluster.wait_for("the task to end", || {
        let task = secured.as_admin(2, "GET", &path, &Value::Null).body;
        let stage = task["taskInfo"]["stage"].as_str().unwrap_or_default().to_owned();
        ["FINISHED", "FAILED", "CANCELLED"].contains(&stage.as_str()).then_some(task)
    });
    assert_eq!(ended["taskInfo"]["stage"], "FINISHED", "{ended}");
    let is_there = |name: &str| {
        let path = format!("{EXAMPLES}/{name}");
        let admin = &secured.admin;
        secured.with(0, admin, "GET", &path, &Value::Null).status
    };
    assert_eq!((is_there("of-acme"), is_there("of-other")), (404, 200));
    // Who could change the task could act with its maker's rights.
    let walt = token_of(people, "walt");
    let cancel = json!({"taskInfo": {"isDirect": true}});
    let changed = secured.with(0, walt, "PATCH", &path, &cancel);
    assert_eq!((changed.status, changed.code()), (403, "ACCESS_DENIED"), "{}", changed.body);
}

fn a_token_that_is_revoked_counts_at_no_node(secured: &Secured) {
    let (name, password, _) = PASSWORDS[0];
    let reply = log_in(&secured.cluster, 1, name, password);
    let token = reply.body["token"].as_str().expect("a token").to_owned();
    let who = |which| secured.with(which, &token, "GET", "/core/authn/whoami", &Value::Null).status;
    assert_eq!([who(0), who(1), who(2)], [200; 3]);
    let out = json!({"requestType": "LOGOUT"});
    assert_eq!(secured.with(2, &token, "POST", LOGIN, &out).status, 200);
    for which in 0..3 {
        secured
            .cluster
            .wait_for("the token to count no more", || (who(which) == 401).then_some(()));
    }
    let short = json!({"userLink": format!("{USERS}/{name}"), "expirationSeconds": 4});
    let made = secured.as_admin(0, "POST", "/core/auth/tokens", &short);
    let token = made.body["token"].as_str().expect("a token").to_owned();
    let who = || secured.with(1, &token, "GET", "/core/authn/whoami", &Value::Null).status;
    assert_eq!(who(), 200);
    secured.cluster.wait_for("the token to expire", || (who() == 401).then_some(()));
    let mut wrong = secured.admin.clone();
    let last = if wrong.ends_with('A') { 'Q' } else { 'A' };
    wrong.pop();
    wrong.push(last);
    for token in [wrong.as_str(), "amr_x.y", "eyJhbGciOiJub25lIn0.e30."] {
        let reply = secured.with(0, token, "GET", EXAMPLES, &Value::Null);
        assert_eq!((reply.status, reply.code()), (401, "UNAUTHORIZED"), "{}", reply.body);
    }
}

fn no_log_has_a_secret(secured: &Secured, people: &[(&'static str, String)]) {
    let mut secrets: Vec<String> =
        PASSWORDS.iter().map(|(_, password, _)| (*password).to_owned()).collect();
    secrets.extend(people.iter().map(|(_, token)| token.clone()).filter(|it| !it.is_empty()));
    let file = (0..3).find_map(|which| {
        let file = secured.cluster.member(which).sandbox.join("first-login");
        fs::read_to_string(file).ok()
    });
    secrets.push(file.expect("the first password is kept").trim().to_owned());
    secrets.push("a-secret-of-all-links".into());
    for which in 0..3 {
        let log = secured.cluster.log(which);
        for secret in &secrets {
            assert!(!log.contains(secret.as_str()), "a secret is in the log of node {which}");
        }
    }
}

#[test]
fn wrong_passwords_are_slowed_down_and_do_not_tell_who_is_there() {
    let secured = Secured::started(1);
    let attempt = |name: &str| {
        let ask = Ask::new("POST", LOGIN).json(&json!({"requestType": "LOGIN"}));
        let ask = ask.header("Authorization", &basic(name, "not the password"));
        let reply = secured.cluster.ask(0, &ask);
        (reply.status, reply.message().to_owned(), reply)
    };
    let (there, not_there) = (attempt("admin"), attempt("nobody-at-all"));
    assert_eq!((there.0, &there.1), (401, &not_there.1));
    let mut last = there.2;
    for _ in 0..12 {
        last = attempt("admin").2;
        if last.status == 429 {
            break;
        }
    }
    assert_eq!((last.status, last.code()), (429, "SLOW_DOWN"), "{}", last.body);
    assert!(last.header("retry-after").is_some());
}

/// A program beside the cluster, with a home of its own.
pub(crate) fn amrita(cluster: &Cluster, input: &str, words: &[&str]) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_amrita"))
        .args(["--address", &uri(cluster.port(0))])
        .args(words)
        .env("XDG_CONFIG_HOME", cluster.folder().join("config"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("it has an input");
    std::io::Write::write_all(&mut stdin, input.as_bytes()).expect("it takes its input");
    drop(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_command_line_logs_in_and_manages_users_roles_and_tokens() {
    let mut secured = Secured::started(1);
    a_token_that_could_not_be_ended_is_kept(&mut secured);
    let cluster = &secured.cluster;
    let ok = |input: &str, words: &[&str]| {
        let (is_success, said) = amrita(cluster, input, words);
        assert!(is_success, "{words:?}: {said}");
        said
    };
    let refused = |words: &[&str]| {
        let (is_success, said) = amrita(cluster, "", words);
        assert!(!is_success, "{words:?}: {said}");
        said
    };
    assert!(refused(&["get", EXAMPLES]).contains("UNAUTHORIZED"));
    let file = cluster.member(0).sandbox.join("first-login").display().to_string();
    ok("", &["login", "--user", "admin", "--password-file", &file]);
    assert!(ok("", &["whoami"]).contains("admin: admin"));
    ok("", &["post", EXAMPLES, r#"{"documentSelfLink":"one","name":"one"}"#]);
    ok("jane's password\n", &["user", "create", "jane", "--email", "jane@example.com"]);
    let link = "/core/examples/one";
    assert!(refused(&["can-i", "GET", link, "--as", "jane"]).contains("no role allows it"));
    ok("", &["role", "grant", "reader", "jane"]);
    assert!(ok("", &["can-i", "GET", link, "--as", "jane"]).contains("the role 'reader' allows"));
    ok("", &["role", "create", "quiet", "--group", "readers", "--link", link, "--deny"]);
    let said = refused(&["can-i", "GET", link, "--as", "jane"]);
    assert!(said.contains("/core/authz/roles/quiet denies it"), "{said}");
    ok("", &["role", "delete", "quiet"]);
    let token = ok("", &["token", "create", "--for", "jane", "--expires", "1h", "--about", "ci"]);
    let of_jane = secured.with(0, token.trim(), "GET", link, &Value::Null);
    assert_eq!(of_jane.status, 200, "{}", of_jane.body);
    assert!(ok("", &["token", "list"]).contains("ci"));
    // Each POST makes another secret, and a repetition could not show the same one.
    for (path, key, named) in [
        ("/core/auth/tokens", Some("k"), "Idempotency-Key"),
        ("/core/auth/tokens?nonsense=1", None, "nonsense"),
    ] {
        let ask = bearer(Ask::new("POST", path).json(&json!({})), &secured.admin);
        let ask = if let Some(key) = key { ask.key(key) } else { ask };
        let reply = cluster.ask(0, &ask);
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.message().contains(named), "{}", reply.body);
    }
    ok("a new password\n", &["user", "password", "jane"]);
    log_in(cluster, 0, "jane", "a new password");
    ok("", &["user", "delete", "jane"]);
    cluster.wait_for("jane's token to count no more", || {
        let reply = secured.with(0, token.trim(), "GET", link, &Value::Null);
        (reply.status == 401).then_some(())
    });
    ok("", &["logout"]);
    assert!(refused(&["get", EXAMPLES]).contains("UNAUTHORIZED"));
}

fn a_token_that_could_not_be_ended_is_kept(secured: &mut Secured) {
    let file = secured.cluster.member(0).sandbox.join("first-login").display().to_string();
    let login = ["login", "--user", "admin", "--password-file", &file];
    let says = |secured: &Secured, words: &[&str]| amrita(&secured.cluster, "", words);
    assert!(says(secured, &login).0);
    secured.cluster.kill(0);
    let (is_success, said) = says(secured, &["logout"]);
    assert!(!is_success, "{said}");
    let secret = secured.cluster.folder().join("link-secret").display().to_string();
    secured.cluster.start_with(0, &["--auth", "--link-secret-file", &secret]);
    let ready = Ask::get("/readyz");
    secured.cluster.wait_for("the node to be ready again", || {
        let answer = ready.send(secured.cluster.port(0)).ok()?;
        answer.is_success().then_some(())
    });
    let (is_success, said) = says(secured, &["whoami"]);
    assert!(is_success && said.contains("admin"), "{said}");
    assert!(says(secured, &["logout"]).0);
    assert!(!says(secured, &["get", EXAMPLES]).0);
}

#[test]
fn a_node_with_another_secret_is_a_stranger_and_learns_nothing() {
    let secured = Secured::started(3);
    let link = |ask: Ask<'_>| {
        let ask = ask.header("Connection", "upgrade").header("Upgrade", "amrita-peer");
        secured.cluster.ask(0, &ask.header("amrita-link-version", "2"))
    };
    let reply = link(Ask::get("/core/peer-link"));
    assert!(![101, 200].contains(&reply.status), "{} {}", reply.status, reply.body);
    assert!(!reply.body.to_string().contains("n1"), "it is not told who is there");
    let reply = link(
        Ask::get("/core/peer-link")
            .header("amrita-link-nonce", &"a".repeat(43))
            .header("amrita-link-echo", &"b".repeat(43))
            .header("amrita-link-proof", &"c".repeat(43)),
    );
    assert!(![101, 200].contains(&reply.status), "{} {}", reply.status, reply.body);
    let folder = secured.cluster.folder();
    let other = secret_in(folder, "other-secret", "another-secret-of-links-0123456789abcd");
    let port = crate::cluster::free_ports(1)[0];
    let mut arguments = crate::cluster::node_arguments("intruder", port, &folder.join("intruder"));
    let peers = format!("{},{}", secured.cluster.peers(), uri(port));
    let file = other.display().to_string();
    let more = ["--auth", "--link-secret-file", &file, "--peer-nodes", &peers, "--stop-with-stdin"];
    arguments.extend(more.map(str::to_owned));
    let mut intruder = Command::new(env!("CARGO_BIN_EXE_amrita"))
        .args(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be started");
    secured.cluster.wait_for("the intruder to listen", || Ask::get("/livez").send(port).ok());
    std::thread::sleep(std::time::Duration::from_secs(2));
    let group = secured.as_admin(0, "GET", "/core/node-groups/default", &Value::Null);
    assert_eq!(available(&group.body), 3, "{}", group.body);
    assert!(!group.body.to_string().contains("intruder"), "{}", group.body);
    let told = Ask::get("/readyz").send(port).map(|reply| reply.status);
    assert_eq!(told, Ok(503), "it belongs to nothing");
    drop(intruder.stdin.take());
    intruder.wait().expect("it ends with its input");
}

#[test]
fn a_node_that_is_bound_to_more_than_loopback_says_what_it_needs() {
    let cluster = Cluster::of(1);
    let sandbox = cluster.member(0).sandbox.display().to_string();
    let ended = |more: &[&str]| {
        let mut arguments = vec!["node", "--port", "0", "--sandbox", &sandbox];
        arguments.extend(more);
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        Cluster::run_to_its_end(&arguments)
    };
    let peers = "http://127.0.0.1:1,http://127.0.0.1:2";
    let needs = ["--public-uri", "--tls-cert", "--insecure"];
    ended(&["--bind-address", "0.0.0.0"]).refused_with(&needs);
    ended(&["--bind-address", "0.0.0.0", "--auth"]).refused_with(&needs);
    let own = ["--bind-address", "0.0.0.0", "--public-uri", "https://127.0.0.1:1"];
    let https = "https://127.0.0.1:1,https://127.0.0.1:2";
    ended(&[&own[..], &["--peer-nodes", https]].concat()).refused_with(&["--join"]);
    ended(&["--cluster-ca", "--insecure"]).refused_with(&["contradict"]);
    ended(&["--cluster-ca", "--tls-cert", "x", "--tls-key", "y"]).refused_with(&["contradict"]);
    ended(&["--join", "amr_x.y"]).refused_with(&["is not whole"]);
    ended(&["--auth", "--peer-nodes", peers]).refused_with(&["--link-secret-file"]);
    ended(&["--tls-cert", "x"]).refused_with(&["--tls-key"]);
    ended(&["--tls-client-ca", "x"]).refused_with(&["--tls-cert"]);
    ended(&["--peer-nodes", "https://127.0.0.1:1"]).refused_with(&["--tls-cert", "http"]);
    let files = ["--tls-cert", "/none.pem", "--tls-key", "/none.pem"];
    ended(&files).refused_with(&["/none.pem"]);
    ended(&[&files[..], &["--peer-nodes", peers]].concat()).refused_with(&["--tls-client-ca"]);
    ended(&["--auth", "--insecure"]).refused_with(&["contradict"]);
    let short = secret_in(cluster.folder(), "short", "too short").display().to_string();
    ended(&["--auth", "--link-secret-file", &short]).refused_with(&["at least 32"]);
}
