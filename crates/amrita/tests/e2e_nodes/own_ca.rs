//! A cluster that makes the certificates of its nodes: who has a token joins, once; certificates
//! are renewed by themselves; the key that signs them is shown to nobody.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use protocol::base64url;

use crate::cluster::{Cluster, Ended, free_ports, node_arguments};

const EXAMPLES: &str = "/core/examples";
const AUTHORITY: &str = "/core/auth/authorities/cluster";
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Node {
    name: String,
    pub(crate) port: u16,
    child: Option<Child>,
}

/// Nodes of a cluster that makes its own certificates, on loopback.
pub(crate) struct Own {
    folder: tempfile::TempDir,
    pub(crate) nodes: Vec<Node>,
}

impl Own {
    pub(crate) fn begun(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut own = Self { folder, nodes: Vec::new() };
        own.add("n1", &[&["--cluster-ca"], flags].concat());
        own.ok(&["login", "--sandbox", &own.sandbox("n1").display().to_string()]);
        own
    }

    pub(crate) fn sandbox(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    fn arguments(&self, name: &str, port: u16, more: &[&str]) -> Vec<String> {
        let mut arguments = node_arguments(name, port, &self.sandbox(name));
        arguments.push("--auth".into());
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        arguments
    }

    fn add(&mut self, name: &str, more: &[&str]) {
        let port = free_ports(1)[0];
        self.nodes.push(Node { name: name.into(), port, child: None });
        self.start(name, more);
    }

    pub(crate) fn start(&mut self, name: &str, more: &[&str]) {
        let node = self.nodes.iter().position(|node| node.name == name).expect("it was added");
        let log = self.folder.path().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(self.arguments(name, self.nodes[node].port, more))
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program can be started");
        self.nodes[node].child = Some(child);
    }

    pub(crate) fn kill(&mut self, name: &str) {
        let node = self.nodes.iter_mut().find(|node| node.name == name).expect("it was added");
        let mut child = node.child.take().expect("it runs");
        child.kill().expect("a child of ours can be killed");
        child.wait().expect("a child of ours can be awaited");
    }

    /// A node that does not start.
    fn refused(&self, name: &str, more: &[&str]) -> Ended {
        Cluster::run_to_its_end(&self.arguments(name, free_ports(1)[0], more))
    }

    fn amrita(&self, words: &[&str]) -> (bool, String) {
        self.as_user("admin", "", words)
    }

    /// The command line of somebody with a home of its own.
    pub(crate) fn as_user(&self, user: &str, input: &str, words: &[&str]) -> (bool, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_amrita"))
            .args(words)
            .env("XDG_CONFIG_HOME", self.folder.path().join("config").join(user))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let mut stdin = child.stdin.take().expect("it has an input");
        // It may have ended without reading.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let (is_success, said) = self.amrita(words);
        assert!(is_success, "{words:?}: {said}\n{}", self.log("n1"));
        said
    }

    fn tokens(&self, count: usize) -> Vec<String> {
        let said = self.ok(&["token", "create", "--join", "--count", &count.to_string()]);
        let tokens: Vec<String> = said.lines().map(str::to_owned).collect();
        assert_eq!(tokens.len(), count, "{said}");
        tokens
    }

    pub(crate) fn wait_for(&self, what: &str, look: impl Fn() -> bool) {
        let begun = Instant::now();
        while !look() {
            let logs: Vec<String> = self.nodes.iter().map(|it| self.log(&it.name)).collect();
            assert!(begun.elapsed() < PATIENCE, "waited for {what}:\n{}", logs.join("\n--\n"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn available(&self) -> usize {
        let (is_success, said) = self.amrita(&["nodes"]);
        // UNAVAILABLE has the word in it.
        let count = |word: &str| said.matches(word).count();
        if is_success { count("AVAILABLE") - count("UNAVAILABLE") } else { 0 }
    }

    fn certificate(&self, name: &str) -> Vec<u8> {
        fs::read(self.sandbox(name).join("tls/node.pem")).unwrap_or_default()
    }

    fn has(&self, name: &str, file: &str) -> bool {
        self.sandbox(name).join("tls").join(file).exists()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            drop(child.stdin.take());
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A token with another part in place of one of its own.
fn with_part(token: &str, which: usize, part: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[which] = part;
    parts.join(".")
}

#[test]
fn nodes_join_by_tokens_of_one_use_and_renew_their_certificates() {
    let mut own = Own::begun(&[]);
    let tokens = own.tokens(3);
    own.add("n2", &["--join", &tokens[0]]);
    let file = own.folder.path().join("token");
    fs::write(&file, format!("{}\n", tokens[1])).expect("a file can be written");
    own.add("n3", &["--join", &format!("@{}", file.display())]);
    own.wait_for("three nodes", || own.available() == 3);
    own.ok(&["post", EXAMPLES, r#"{"documentSelfLink":"one","name":"one"}"#]);
    for node in &own.nodes {
        let uri = format!("https://127.0.0.1:{}", node.port);
        assert!(own.ok(&["--address", &uri, "get", "/core/examples/one"]).contains("\"one\""));
    }
    a_token_that_does_not_count_lets_nobody_in(&own, &tokens);
    the_key_that_signs_is_nobodys(&own);
    a_token_is_in_no_log(&own, &tokens);

    // The same words start a node again that has joined by them, with a new certificate.
    let before = own.certificate("n2");
    own.kill("n2");
    own.start("n2", &["--join", &tokens[0]]);
    own.wait_for("n2 to be back", || own.available() == 3);
    own.wait_for("a new certificate", || own.certificate("n2") != before);

    // While a node runs as well, when the time has come.
    let before = own.certificate("n3");
    let yesterday = SystemTime::now() - Duration::from_secs(86_000);
    let file = File::options().write(true).open(own.sandbox("n3").join("tls/node.pem"));
    file.and_then(|it| it.set_modified(yesterday)).expect("it is ours");
    own.wait_for("n3 to renew its certificate", || own.certificate("n3") != before);
    assert_eq!(own.available(), 3);

    // One whose certificate no other node takes any more makes itself a new one.
    own.kill("n3");
    let foreign = own.certificate("n1");
    fs::remove_dir_all(own.sandbox("n3").join("tls")).expect("it is ours");
    own.start("n3", &["--cluster-ca"]);
    own.wait_for("n3 to be back", || own.available() == 3);
    let authority = |name: &str| fs::read(own.sandbox(name).join("tls/ca.pem")).ok();
    assert_eq!(authority("n3"), authority("n1"));
    assert_ne!(own.certificate("n3"), foreign);
}

fn a_token_that_does_not_count_lets_nobody_in(own: &Own, tokens: &[String]) {
    let zeros = base64url::encode(&[0; 32]);
    own.refused("n4", &["--join", &tokens[0]]).refused_with(&["was used by another node"]);
    let guessed = with_part(&tokens[2], 1, &zeros);
    own.refused("n4", &["--join", &guessed]).refused_with(&["not one of this cluster"]);
    let elsewhere = with_part(&tokens[2], 2, &zeros);
    own.refused("n4", &["--join", &elsewhere]).refused_with(&["not of the cluster"]);
    own.refused("n4", &["--join", &tokens[2][..40]]).refused_with(&["is not whole"]);
    own.refused("n4", &["--join", &tokens[2], "--insecure"]).refused_with(&["contradict"]);
    let short = own.ok(&["token", "create", "--join", "--expires", "1s"]);
    std::thread::sleep(Duration::from_millis(1_500));
    own.refused("n4", &["--join", short.trim()]).refused_with(&["not one of this cluster"]);
    // A node that has begun belongs where it began.
    let other = Own::begun(&[]);
    let port = other.nodes[0].port;
    let sandbox = other.sandbox("n1");
    drop(other.amrita(&["stop", &format!("https://127.0.0.1:{port}")]));
    std::thread::sleep(Duration::from_millis(500));
    let mut words = node_arguments("n1", port, &sandbox);
    words.extend(["--join".to_owned(), tokens[2].clone()]);
    Cluster::run_to_its_end(&words).refused_with(&["belongs to a node already"]);
}

fn the_key_that_signs_is_nobodys(own: &Own) {
    own.wait_for("the key to be the cluster's", || !own.has("n1", "ca-key.pem"));
    for name in ["n2", "n3"] {
        assert!(!own.has(name, "ca-key.pem") && !own.has(name, "joining-key.pem"), "{name}");
    }
    let shown = own.ok(&["get", AUTHORITY]);
    assert!(shown.contains("CERTIFICATE") && !shown.contains("PRIVATE"), "{shown}");
    let found = own.ok(&["query", "documentSelfLink=/core/auth/*", "--show", "privateKey"]);
    assert!(!found.contains("authorities") && !found.contains("BEGIN"), "{found}");
    for words in [&["delete", AUTHORITY][..], &["post", "/core/auth/authorities", "{}"]] {
        let (is_success, said) = own.amrita(words);
        assert!(!is_success && said.contains("ACCESS_DENIED"), "{words:?}: {said}");
    }
}

fn a_token_is_in_no_log(own: &Own, tokens: &[String]) {
    for node in &own.nodes {
        let log = own.log(&node.name);
        for token in tokens {
            let secret = token.split('.').nth(1).expect("it has parts");
            assert!(!log.contains(secret), "{}", node.name);
        }
        assert!(!log.contains("PRIVATE KEY"), "{}", node.name);
    }
    let nobody = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).expect("it is there").permissions().mode() & 0o077
    };
    for node in &own.nodes {
        let mut left = vec![own.sandbox(&node.name)];
        while let Some(path) = left.pop() {
            assert_eq!(nobody(&path), 0, "others may look into {}", path.display());
            if path.is_dir() {
                let within = fs::read_dir(&path).expect("it is ours");
                left.extend(within.map(|it| it.expect("it is ours").path()));
            }
        }
    }
}
