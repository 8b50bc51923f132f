//! Instances belong to somebody, and their programs attach over TLS with a token: who may not, does
//! not.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::own_ca::Own;

struct Program {
    child: Child,
    said: PathBuf,
}

impl Program {
    /// A copy of the instance, which shows a token.
    fn started(own: &Own, name: &str, instance: &str, token: &str) -> Self {
        let uri = format!("https://127.0.0.1:{}", own.nodes[0].port);
        let said = own.sandbox("n1").with_file_name(format!("{name}.txt"));
        let file = File::create(&said).expect("a file can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(["example", "hello-server", "--node", &uri, "--instance", instance])
            .env("AMRITA_TOKEN", token)
            .env("AMRITA_CA_FILE", own.sandbox("n1").join("tls/ca.pem"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a handle can be copied"))
            .stderr(file)
            .spawn()
            .expect("the program can be started");
        Self { child, said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn an_instance_is_its_owners_and_its_programs_attach_over_tls() {
    let own = Own::begun(&[]);
    let sandbox = own.sandbox("n1").display().to_string();
    let mut tokens = Vec::new();
    for user in ["jane", "joe"] {
        let password = format!("{user}'s password\n");
        let make = ["user", "create", user, "--role", "writer"];
        let (is_made, said) = own.as_user("admin", &password, &make);
        assert!(is_made, "{said}");
        let log_in = ["login", "--sandbox", &sandbox, "--user", user];
        let (is_in, said) = own.as_user(user, &password, &log_in);
        assert!(is_in, "{said}");
        tokens.push(own.ok(&["token", "create", "--for", user]).trim().to_owned());
    }
    let ok = |user: &str, words: &[&str]| {
        let (is_success, said) = own.as_user(user, "", words);
        assert!(is_success, "{user} {words:?}: {said}");
        said
    };
    let refused = |user: &str, words: &[&str]| {
        let (is_success, said) = own.as_user(user, "", words);
        assert!(!is_success && said.contains("ACCESS_DENIED"), "{user} {words:?}: {said}");
    };
    ok("jane", &["immortal", "register", "server"]);
    ok("joe", &["immortal", "register", "others"]);
    // Who registers again what is there changes nothing, and becomes no owner.
    ok("joe", &["immortal", "register", "server"]);
    let owners = ok("jane", &["immortal", "owners", "server"]);
    assert!(owners.contains("belongs to jane") && !owners.contains("joe"), "{owners}");
    assert!(ok("joe", &["immortal", "owners", "others"]).contains("belongs to joe"));

    let program = Program::started(&own, "good", "server", &tokens[0]);
    own.wait_for("the program to be attached", || {
        ok("jane", &["immortal", "show", "server"]).contains("PRIMARY")
    });
    // Whoever may write data sends impulses; nothing else of somebody else's instance.
    ok("joe", &["immortal", "send", "server", "1", r#"["Hello over TLS"]"#]);
    own.wait_for("the message", || program.said().contains("Hello over TLS"));
    let big = "x".repeat(300_000);
    ok("joe", &["immortal", "send", "server", "1", &format!(r#"["{}"]"#, &big[..100_000])]);
    own.wait_for("a long message", || program.said().contains(&big[..100_000]));
    for words in [
        &["immortal", "checkpoint", "server"][..],
        &["immortal", "set", "server", "--pause"],
        &["immortal", "deregister", "server", "--yes-remove", "server"],
        &["get", "/core/immortals/server/recording"],
        &["immortal", "owners", "server", "--set", "joe"],
    ] {
        refused("joe", words);
    }
    others_are_turned_away(&own, &tokens[0], &tokens[1]);
    drop(program);
    // It could do then what he may: so he takes it, and she does not give it away.
    refused("jane", &["immortal", "owners", "server", "--set", "joe"]);
    ok("jane", &["immortal", "owners", "server", "--set", "jane,joe"]);
    ok("joe", &["immortal", "owners", "server", "--set", "joe"]);
    refused("jane", &["immortal", "checkpoint", "server"]);
    let program = Program::started(&own, "given", "server", &tokens[1]);
    own.wait_for("the new owner's program to be attached", || {
        ok("joe", &["immortal", "show", "server"]).contains("PRIMARY")
    });
    drop(program);
    ok("joe", &["immortal", "deregister", "server", "--yes-remove", "server"]);
    assert!(own.ok(&["immortal", "owners", "server"]).contains("belongs to nobody"));
    // Another instance of that name is another one's.
    ok("jane", &["immortal", "register", "server"]);
    assert!(ok("jane", &["immortal", "owners", "server"]).contains("belongs to jane"));
    what_is_nobodys_stays_so(&own, &ok);
    what_a_binding_erases_belongs_to_nobody(&own, &ok, &refused);
}

fn others_are_turned_away(own: &Own, of_jane: &str, of_joe: &str) {
    for (name, instance, token) in
        [("not his", "server", of_joe), ("not hers", "others", of_jane), ("nobody's", "server", "")]
    {
        let stranger = Program::started(own, name, instance, token);
        let code = if token.is_empty() { "UNAUTHORIZED" } else { "ACCESS_DENIED" };
        own.wait_for(name, || stranger.said().contains(code));
    }
}

/// It is not taken by registering it once more.
fn what_is_nobodys_stays_so(own: &Own, ok: &dyn Fn(&str, &[&str]) -> String) {
    let link = "/core/authz/instance-owners/server";
    own.ok(&["delete", link, r#"{"documentExpirationTimeMicros":1}"#]);
    for user in ["joe", "jane"] {
        ok(user, &["post", "/core/immortals", r#"{"name":"server"}"#]);
        assert!(own.ok(&["immortal", "owners", "server"]).contains("belongs to nobody"), "{user}");
    }
    // What an admin has deleted does not keep the name from the next one.
    own.ok(&[
        "post",
        "/core/authz/instance-owners",
        &format!(r#"{{"documentSelfLink":"{link}","userLinks":["/core/authz/users/jane"]}}"#),
    ]);
    own.ok(&["delete", link]);
    own.ok(&["immortal", "deregister", "server", "--yes-remove", "server"]);
    ok("joe", &["immortal", "register", "server"]);
    assert!(own.ok(&["immortal", "owners", "server"]).contains("belongs to joe"));
}

/// As AMBROSIA's binding removes an instance: only its owner may, it is in the trail, and the
/// name is free then.
fn what_a_binding_erases_belongs_to_nobody(
    own: &Own,
    ok: &dyn Fn(&str, &[&str]) -> String,
    refused: &dyn Fn(&str, &[&str]),
) {
    let ports = crate::cluster::free_ports(2);
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let register = ["immortal", "register", "door", "--receive-port", &ports[0], "--send-port"];
    ok("jane", &[&register[..], &[&ports[1]]].concat());
    let blob = "/core/ambrosia/cra/AmbrosiaBinaries/door-door0";
    refused("joe", &["delete", blob]);
    assert!(own.ok(&["immortal", "owners", "door"]).contains("belongs to jane"));
    ok("jane", &["delete", blob]);
    let trail = own.ok(&["--json", "audit", "--limit", "20"]);
    assert!(trail.contains(blob), "{trail}");
    ok("joe", &["immortal", "register", "door"]);
    assert!(own.ok(&["immortal", "owners", "door"]).contains("belongs to joe"));
}
