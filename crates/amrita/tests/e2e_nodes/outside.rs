//! Users that an outside issuer vouches for: the issuer is this test, which makes the keys, signs
//! the tokens and changes the keys.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::base64url;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};

use crate::http::Reply;
use crate::security::Secured;

const EXAMPLES: &str = "/core/examples";
const JANE: &str = "/core/authz/users/jwt.jane";
const ISSUER: &str = "https://issuer.example";

/// Many enough that both nodes own some of them.
const DOCUMENTS: usize = 12;

struct Key {
    id: &'static str,
    pair: KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate_for(&PKCS_ED25519).expect("a key can be made") }
    }

    fn public(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.id,
            "x": base64url::encode(self.pair.der_bytes())})
    }

    fn sign(&self, claims: &Value) -> String {
        let signed = two(&json!({"alg": "EdDSA", "typ": "JWT", "kid": self.id}), claims);
        let proof = self.pair.sign(signed.as_bytes()).expect("it can sign");
        format!("{signed}.{}", base64url::encode(&proof))
    }
}

fn two(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url::encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs()
}

/// Issued `ago` seconds before now.
fn claims(subject: &str, groups: &[&str], ago: u64) -> Value {
    json!({"iss": ISSUER, "aud": ["other", "amrita-test"], "sub": subject, "groups": groups,
        "iat": now() - ago, "exp": now() + 600})
}

/// Of nodes that take the tokens of this issuer.
fn flags(keys: &Path) -> Vec<String> {
    let flags = [
        ("--jwt-issuer", ISSUER),
        ("--jwt-audience", "amrita-test"),
        ("--jwt-keys", &keys.display().to_string()),
        ("--jwt-groups-claim", "groups"),
        ("--jwt-groups", "staff=writers,ops=operators"),
    ];
    flags.map(|(flag, value)| [flag.to_owned(), value.to_owned()]).concat()
}

struct World {
    secured: Secured,
    keys: std::path::PathBuf,
}

impl World {
    fn new(count: usize, first: &Key) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("amrita-issuer-{}-{number}.json", std::process::id());
        let keys = std::env::temp_dir().join(name);
        fs::write(&keys, json!({"keys": [first.public()]}).to_string()).expect("it can be written");
        let flags = flags(&keys);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Self { secured: Secured::started_with(count, &flags), keys }
    }

    fn with(&self, which: usize, token: &str, verb: &str, path: &str, body: &Value) -> Reply {
        self.secured.with(which, token, verb, path, body)
    }

    fn get(&self, which: usize, token: &str, path: &str) -> Reply {
        self.with(which, token, "GET", path, &Value::Null)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.keys));
    }
}

#[test]
fn a_user_of_an_outside_issuer_is_a_user_like_any_other_at_every_node() {
    let key = Key::new("one");
    let world = World::new(2, &key);
    let mut tokens = Vec::new();
    a_stranger_gets_nowhere_and_leaves_nothing(&world, &key, &mut tokens);
    jane_writes_at_both_nodes(&world, &key, &mut tokens);
    what_does_not_count_is_refused_with_the_reason(&world, &key, &mut tokens);
    she_cannot_make_what_outlives_her_token(&world, &key);
    a_group_that_was_taken_away_is_gone_for_older_tokens_too(&world, &key);
    keys_that_were_changed_count_at_once_and_the_old_ones_no_more(&world, &key);
    the_trail_says_who_it_was_and_no_log_has_a_token(&world, &tokens);
}

fn a_stranger_gets_nowhere_and_leaves_nothing(world: &World, key: &Key, all: &mut Vec<String>) {
    let stranger = key.sign(&claims("joe", &["guests", "admins", "admin"], 50));
    let reply = world.get(0, &stranger, EXAMPLES);
    assert_eq!((reply.status, reply.code()), (403, "ACCESS_DENIED"), "{}", reply.body);
    let path = "/core/authz/users/jwt.joe";
    assert_eq!(world.get(0, &world.secured.admin, path).status, 404);
    // One who calls itself as an admin is called is another one all the same.
    let admin = key.sign(&claims("admin", &["staff"], 50));
    let reply = world.get(0, &admin, "/core/authn/whoami");
    assert_eq!(reply.body["userLink"], "/core/authz/users/jwt.admin", "{}", reply.body);
    assert_eq!(world.get(0, &admin, "/core/authz/users/admin").status, 403);
    all.extend([stranger, admin]);
}

fn jane_writes_at_both_nodes(world: &World, key: &Key, all: &mut Vec<String>) {
    let token = key.sign(&claims("jane", &["staff", "guests"], 40));
    for which in 0..DOCUMENTS {
        let body = json!({"documentSelfLink": format!("of-jane-{which}"), "name": "jane"});
        let reply = world.with(which % 2, &token, "POST", EXAMPLES, &body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.body["documentAuthPrincipalLink"], JANE);
    }
    let owners: std::collections::BTreeSet<String> = (0..DOCUMENTS)
        .map(|which| world.get(which % 2, &token, &format!("{EXAMPLES}/of-jane-{which}")))
        .map(|reply| reply.body["documentOwner"].to_string())
        .collect();
    assert_eq!(owners.len(), 2, "both nodes own some: {owners:?}");
    for which in 0..2 {
        let who = world.get(which, &token, "/core/authn/whoami").body;
        assert_eq!((&who["userLink"], &who["builtInRoles"]), (&json!(JANE), &json!(["writer"])));
        let asked = json!({"verb": "PATCH", "link": "/core/node-groups/default"});
        let may = world.with(which, &token, "POST", "/core/authz/can-i", &asked).body;
        assert_eq!(may["isAllowed"], false, "{may}");
        assert_eq!(world.get(which, &token, "/metrics").status, 403);
    }
    // A task acts for its maker, wherever it runs.
    let task = json!({"documentSelfLink": "of-jane"});
    let reply = world.with(1, &token, "POST", "/core/example-tasks", &task);
    assert_eq!(reply.status, 202, "{}", reply.body);
    let path = "/core/example-tasks/of-jane";
    let stage = world.secured.cluster.wait_for("the task to end", || {
        let task = world.get(0, &token, path).body;
        let stage = task["taskInfo"]["stage"].as_str().unwrap_or_default().to_owned();
        ["FINISHED", "FAILED", "CANCELLED"].contains(&stage.as_str()).then_some(stage)
    });
    assert_eq!(stage, "FINISHED");
    let left = world.get(0, &token, EXAMPLES).body;
    assert_eq!(left["documentLinks"], json!([]), "the task deletes all examples");
    all.push(token);
}

fn what_does_not_count_is_refused_with_the_reason(world: &World, key: &Key, all: &mut Vec<String>) {
    let with = |name: &str, value: Value| {
        let mut claims = claims("jane", &["staff"], 30);
        claims[name] = value;
        claims
    };
    let stranger = Key::new("one");
    let unknown = Key::new("none");
    let unsigned = two(&json!({"alg": "none"}), &claims("jane", &["staff"], 30));
    // Who takes the public key for a shared secret could be fooled by this.
    let confused = two(&json!({"alg": "HS256", "kid": "one"}), &claims("jane", &["staff"], 30));
    let usual = claims("jane", &["staff"], 30);
    let cases = [
        ("another audience", key.sign(&with("aud", json!("amrita"))), "for another audience"),
        ("another issuer", key.sign(&with("iss", json!("https://evil"))), "issuer is another"),
        ("expired", key.sign(&with("exp", json!(now() - 61))), "has expired"),
        ("too early", key.sign(&with("nbf", json!(now() + 120))), "counts only later"),
        ("without an end", key.sign(&with("exp", Value::Null)), "no claim 'exp'"),
        ("another's key", stranger.sign(&usual), "signature is not right"),
        ("a key that is not there", unknown.sign(&usual), "no key of that id"),
        ("none", format!("{unsigned}.{}", base64url::encode(b"x")), "its algorithm is none of"),
        ("HS256", format!("{confused}.{}", base64url::encode(b"x")), "its algorithm is none of"),
    ];
    for (what, token, why) in cases {
        for (verb, path) in [("GET", EXAMPLES), ("POST", EXAMPLES), ("GET", "/metrics")] {
            let body = if verb == "POST" { json!({"name": "x"}) } else { Value::Null };
            let reply = world.with(1, &token, verb, path, &body);
            assert_eq!(reply.status, 401, "{what} {verb} {path}: {}", reply.body);
            assert!(reply.message().contains(why), "{what}: {}", reply.message());
            let said = reply.body.to_string();
            assert!(!said.contains(ISSUER) && !said.contains(&token), "{what}: {said}");
        }
        // Who wants to log in with a password may have any token.
        let login = json!({"requestType": "VERIFY"});
        let reply = world.with(0, &token, "POST", "/core/authn/basic", &login);
        assert_eq!(reply.status, 401, "{what}: {}", reply.body);
        all.push(token);
    }
}

fn she_cannot_make_what_outlives_her_token(world: &World, key: &Key) {
    let token = key.sign(&claims("jane", &["staff"], 20));
    for body in [json!({}), json!({"userLink": JANE})] {
        let reply = world.with(0, &token, "POST", "/core/auth/tokens", &body);
        assert_eq!(reply.status, 403, "{}", reply.body);
    }
    let patch = json!({"outsideGroupLinks": ["/core/authz/user-groups/admins"]});
    assert_eq!(world.with(0, &token, "PATCH", JANE, &patch).status, 403);
    let logout = json!({"requestType": "LOGOUT"});
    let reply = world.with(0, &token, "POST", "/core/authn/basic", &logout);
    assert_eq!(reply.status, 400, "it says that it does not end the token: {}", reply.body);
}

fn a_group_that_was_taken_away_is_gone_for_older_tokens_too(world: &World, key: &Key) {
    let (older, newer) =
        (key.sign(&claims("jane", &["staff"], 15)), key.sign(&claims("jane", &["guests"], 10)));
    let body = json!({"documentSelfLink": "last", "name": "jane"});
    assert_eq!(world.with(0, &older, "POST", EXAMPLES, &body).status, 200);
    let path = format!("{EXAMPLES}/last");
    let reply = world.get(1, &newer, &path);
    assert_eq!(reply.status, 403, "{}", reply.body);
    for which in 0..2 {
        world.secured.cluster.wait_for("the older token to lose the group", || {
            (world.get(which, &older, &path).status == 403).then_some(())
        });
    }
    let again = key.sign(&claims("jane", &["staff"], 5));
    assert_eq!(world.get(1, &again, &path).status, 200);
    // A group that an admin has given by hand is not the issuer's to take.
    let groups = json!({"userGroupLinks": ["/core/authz/user-groups/readers"]});
    world.secured.as_admin(0, "PATCH", JANE, &groups);
    let without = key.sign(&claims("jane", &[], 0));
    let who = world.secured.cluster.wait_for("both to count", || {
        let who = world.get(0, &without, "/core/authn/whoami").body;
        (who["builtInRoles"] == json!(["reader"])).then_some(who)
    });
    assert_eq!(who["userLink"], JANE);
}

fn keys_that_were_changed_count_at_once_and_the_old_ones_no_more(world: &World, key: &Key) {
    let old = key.sign(&claims("jane", &["staff"], 0));
    assert_eq!(world.get(0, &old, "/core/authn/whoami").status, 200);
    let next = Key::new("two");
    let both = json!({"keys": [key.public(), next.public()]});
    fs::write(&world.keys, both.to_string()).expect("it can be written");
    // A key that is not known is looked for, but not more often than every ten seconds.
    let token = next.sign(&claims("jane", &["staff"], 0));
    for which in 0..2 {
        world.secured.cluster.wait_for("the new key", || {
            (world.get(which, &token, "/core/authn/whoami").status == 200).then_some(())
        });
        assert_eq!(world.get(which, &old, "/core/authn/whoami").status, 200);
    }
    let only = json!({"keys": [next.public()]});
    fs::write(&world.keys, only.to_string()).expect("it can be written");
    for which in 0..2 {
        world.secured.cluster.wait_for("the old key to be gone", || {
            (world.get(which, &old, "/core/authn/whoami").status == 401).then_some(())
        });
        assert_eq!(world.get(which, &token, "/core/authn/whoami").status, 200);
    }
    // Deleted, the user does not come back with the next token.
    world.secured.as_admin(0, "DELETE", JANE, &Value::Null);
    let newest = next.sign(&claims("jane", &["staff"], 0));
    for token in [token, newest] {
        for which in 0..2 {
            world.secured.cluster.wait_for("the user to be gone", || {
                let status = world.get(which, &token, EXAMPLES).status;
                [401, 403].contains(&status).then_some(())
            });
        }
    }
}

fn the_trail_says_who_it_was_and_no_log_has_a_token(world: &World, tokens: &[String]) {
    let admin = &world.secured.admin;
    let records = world.get(0, admin, "/core/audit?expand").body;
    let all = records["documents"].as_object().expect("there are records");
    let refused = |who: &str, status: u64| {
        all.values()
            .any(|it| it["event"] == "refused" && it["who"] == who && it["status"] == status)
    };
    assert!(refused("somebody with a token that does not count", 401), "{records}");
    assert!(refused(JANE, 403), "{records}");
    the_trail_says_which_rights_the_issuer_gave_and_took(all.values());
    let said = records.to_string();
    for which in 0..2 {
        let log = world.secured.cluster.log(which);
        for token in tokens {
            assert!(!log.contains(token.as_str()) && !said.contains(token.as_str()));
        }
    }
}

/// When she came and each time her groups became others, and not for each token.
fn the_trail_says_which_rights_the_issuer_gave_and_took<'a>(all: impl Iterator<Item = &'a Value>) {
    let (mut made, mut changed) = (0, 0);
    let is_one = |it: &&Value| it["note"].as_str().is_some_and(|it| it.contains("outside issuer"));
    for one in all.filter(is_one) {
        assert_eq!((&one["event"], &one["status"]), (&json!("rights"), &json!(200)), "{one}");
        assert_eq!(one["who"], one["link"], "{one}");
        assert!(!one["address"].as_str().unwrap_or_default().is_empty(), "{one}");
        made += usize::from(one["verb"] == "POST" && one["who"] == JANE);
        changed += usize::from(one["verb"] == "PATCH" && one["who"] == JANE);
    }
    assert_eq!(made, 1);
    // Taken away, given again, taken away; whether it is given once more in that very second is
    // left to chance.
    assert!((3..=4).contains(&changed), "{changed}");
}

#[test]
fn a_stream_of_events_ends_with_the_token() {
    let key = Key::new("one");
    let world = World::new(1, &key);
    let mut short = claims("jane", &["staff"], 100);
    // With the leeway for clocks, it counts for some seconds more.
    short["exp"] = json!(now() - 54);
    let token = key.sign(&short);
    let path = format!("{EXAMPLES}?watch=true&wait=1");
    let reply = world.get(0, &token, &path);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let begun = std::time::Instant::now();
    let heard = stream(world.secured.cluster.port(0), &token, &path);
    assert!(heard.contains("event: error"), "it says why it ends: {heard}");
    assert!(heard.contains("has expired"), "{heard}");
    assert!(begun.elapsed() < Duration::from_secs(45));
    assert_eq!(world.get(0, &token, &path).status, 401);
}

/// All that is heard of a stream of events until it ends.
fn stream(port: u16, token: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the node listens");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("it can be set");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Accept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("it can be written");
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).expect("the stream ends by itself");
    String::from_utf8_lossy(&heard).into_owned()
}

/// Whoever comes by an issuer may come before there is an admin, and need not be one.
#[test]
fn users_of_an_issuer_do_not_keep_the_first_admin_away() {
    let key = Key::new("one");
    let mut world = World::new(1, &key);
    let token = key.sign(&claims("jane", &["staff"], 10));
    assert_eq!(world.get(0, &token, EXAMPLES).status, 200);
    let admins = json!({"userGroupLinks": ["/core/authz/user-groups/admins"]});
    world.secured.as_admin(0, "PATCH", JANE, &admins);
    let file = world.secured.cluster.member(0).sandbox.join("first-login");
    let first = fs::read_to_string(&file).expect("the first admin has a password");
    // As if nobody else had ever been there.
    let forget = json!({"documentExpirationTimeMicros": 1});
    for link in ["/core/auth/credentials/admin", "/core/authz/users/admin"] {
        world.secured.cluster.wait_for("the admin to be gone", || {
            let gone = world.with(0, &token, "DELETE", link, &forget);
            gone.is_success().then_some(())
        });
    }
    let secret = world.secured.cluster.folder().join("link-secret").display().to_string();
    let mut all = vec!["--auth".to_owned(), "--link-secret-file".to_owned(), secret];
    all.extend(flags(&world.keys));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.secured.cluster.kill(0);
    world.secured.cluster.start_with(0, &all);
    let password = world.secured.cluster.wait_for("another first admin", || {
        fs::read_to_string(&file).ok().filter(|password| *password != first)
    });
    let reply = crate::security::log_in(&world.secured.cluster, 0, "admin", password.trim());
    let admin = reply.body["token"].as_str().expect("a token").to_owned();
    assert_eq!(world.get(0, &admin, JANE).status, 200, "she is there still, and no reason not to");
}
