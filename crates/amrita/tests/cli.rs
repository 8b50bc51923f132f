//! The command line against real nodes: `amrita up` and the commands that speak to it, and what is
//! said when something is wrong. Only processes that were started here are ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

fn amrita() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amrita"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AMRITA_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    amrita().args(arguments).output().expect("the program can be run")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed, and gives what it printed.
fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?} failed: {}", err(&output));
    out(&output)
}

/// Runs a command that must fail, and gives what it said.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} went well: {}", out(&output));
    err(&output)
}

fn code(arguments: &[&str]) -> Option<i32> {
    run(arguments).status.code()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.expect("there is a kill command").success());
}

/// A port so that the next `count` ones are free as well, at this moment.
fn base_port(count: u16) -> u16 {
    for _ in 0..100 {
        let Ok(first) = TcpListener::bind("127.0.0.1:0") else { continue };
        let base = first.local_addr().expect("it is bound").port();
        if base > 60_000 {
            continue;
        }
        let next = |n| TcpListener::bind(("127.0.0.1", base + n));
        if (1..=count).map(next).all(|bound| bound.is_ok()) {
            return base;
        }
    }
    panic!("there are no free ports in a row");
}

/// `amrita up`, and the lines it prints.
struct Up {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: String,
    base: u16,
}

impl Up {
    fn start(base: u16, folder: &Path, more: &[&str]) -> Self {
        let mut child = amrita()
            .args(["up", "--base-port", &base.to_string(), "--sandbox"])
            .arg(folder)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let stdout: ChildStdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, said: String::new(), base }
    }

    /// Waits until it has said that.
    fn wait_for(&mut self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.contains(words) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let mut error = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    drop(self.child.kill());
                    drop(stderr.read_to_string(&mut error));
                }
                panic!("'{words}' was not said, but:\n{}\n{error}", self.said);
            };
            self.said.push_str(&line);
            self.said.push('\n');
        }
    }

    fn pid_of(&self, id: &str) -> u32 {
        let mut rows = self.said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&id)).expect("a row of the table");
        row[2].parse().expect("a pid")
    }

    fn addresses(&self) -> String {
        let uri = |n| format!("http://127.0.0.1:{}", self.base + n);
        (1..=3).map(uri).collect::<Vec<_>>().join(",")
    }

    /// Ctrl-C, and waits for the end.
    fn interrupt(mut self) -> String {
        signal("-INT", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("it can be watched").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("it has ended");
        self.said.extend(self.lines.iter().map(|line| line + "\n"));
        assert!(status.success(), "it ended with {status}:\n{}", self.said);
        std::mem::take(&mut self.said)
    }
}

impl Drop for Up {
    /// When a test has failed; its nodes then see that their standard input ends, and stop.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}

#[test]
fn a_cluster_comes_up_serves_loses_a_node_and_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let base = base_port(3);
    let mut up = Up::start(base, folder.path(), &[]);
    up.wait_for("Ctrl-C here stops them all");
    let addresses = up.addresses();
    let address = format!("--address={addresses}");
    let with = |arguments: &[&'static str]| -> Output {
        amrita().arg(&address).args(arguments).output().expect("the program can be run")
    };
    let done_with = |arguments: &[&'static str]| {
        let output = with(arguments);
        assert!(output.status.success(), "{arguments:?} failed: {}", err(&output));
        out(&output)
    };
    let refused_with = |arguments: &[&'static str]| {
        let output = with(arguments);
        assert!(!output.status.success(), "{arguments:?} went well: {}", out(&output));
        err(&output)
    };

    speak(&done_with, &refused_with);

    let victim = up.pid_of("n2");
    signal("-KILL", victim);
    up.wait_for("n2 has ended (it was killed: signal 9)");
    up.wait_for("To start it again: amrita node --id n2");
    let patched = done_with(&["patch", "/core/examples/one", r#"{"name":"after"}"#, "--json"]);
    assert!(patched.contains(r#""documentVersion":2"#), "{patched}");
    assert!(done_with(&["nodes"]).contains("UNAVAILABLE"));

    let nodes = [up.pid_of("n1"), up.pid_of("n3")];
    let said = up.interrupt();
    assert!(said.contains("Their data is kept in"), "{said}");
    assert!(!nodes.iter().any(|pid| is_running(*pid)), "a node outlived its keeper");

    let arguments = ["up", "--nodes", "2", "--base-port", &base.to_string(), "--sandbox"];
    let other = amrita().args(arguments).arg(folder.path()).output().unwrap();
    assert!(err(&other).contains("holds a cluster of 3 nodes"), "{}", err(&other));

    let mut up = Up::start(base, folder.path(), &[]);
    up.wait_for("Ctrl-C here stops them all");
    let kept = done_with(&["get", "/core/examples/one"]);
    assert!(kept.contains(r#""name": "after""#), "{kept}");
    // The nodes that answer at these ports are not those of another keeper.
    for sandbox in [folder.path(), tempfile::tempdir().unwrap().path()] {
        let arguments = ["up", "--base-port", &base.to_string(), "--sandbox"];
        let second = amrita().args(arguments).arg(sandbox).output().unwrap();
        assert!(!second.status.success(), "{}", out(&second));
        let said = err(&second);
        assert!(said.contains("did not start") && said.contains("in use"), "{said}");
        assert!(!out(&second).contains("is ready"), "{}", out(&second));
    }
    up.interrupt();
}

/// Every command once, as people would use it.
fn speak(done: &dyn Fn(&[&'static str]) -> String, refused: &dyn Fn(&[&'static str]) -> String) {
    let one = r#"{"documentSelfLink":"one","name":"first","counter":3}"#;
    let made = done(&["post", "/core/examples", one]);
    assert!(made.contains(r#""documentSelfLink": "/core/examples/one""#), "{made}");
    let again = refused(&["post", "/core/examples", one]);
    assert!(
        again.contains("409 ALREADY_EXISTS") && again.contains("nothing was written"),
        "{again}"
    );
    done(&["post", "core/examples", r#"{"documentSelfLink":"two","name":"second","counter":7}"#]);
    done(&["patch", "/core/examples/one", r#"{"name":"changed"}"#]);
    assert!(done(&["get", "/core/examples/one?documentVersion=0"]).contains("first"));
    assert!(refused(&["get", "/core/examples/none"]).contains("404 NOT_FOUND"));
    let stale = refused(&["put", "/core/examples/one", "{}", "--if-match", "\"9.9\""]);
    assert!(stale.contains("412 PRECONDITION_FAILED"), "{stale}");

    let found = done(&["query", "name=sec*"]);
    assert!(found.contains("/core/examples/two") && found.contains("second"), "{found}");
    assert!(!found.contains("/core/examples/one"), "{found}");
    let versions = done(&["query", "documentSelfLink=*one", "--all-versions", "--show", "name"]);
    assert!(versions.contains("first") && versions.contains("changed"), "{versions}");
    let sorted = ["query", "counter>=0", "--kind", "ExampleServiceState", "--sort", "counter:desc"];
    let sorted = done(&sorted);
    assert!(sorted.find("/two") < sorted.find("/one"), "{sorted}");
    assert_eq!(done(&["query", "counter<5", "--count"]).trim(), "1");
    let limited = done(&["query", "--limit", "1", "--kind", "ExampleServiceState"]);
    assert!(limited.contains("a higher --limit"), "{limited}");

    let nodes = done(&["nodes"]);
    assert_eq!(nodes.matches(" AVAILABLE").count(), 3, "{nodes}");
    let nodes = done(&["nodes", "--json"]);
    assert!(nodes.trim_end().lines().count() == 1 && nodes.starts_with('{'), "{nodes}");
    assert!(done(&["quorum"]).contains("2 of 3"));
    assert!(done(&["quorum", "3"]).contains("when 3 nodes hold it"));
    assert!(refused(&["quorum", "1"]).contains("409 REFUSED"));
    done(&["quorum", "2"]);
    done(&["delete", "/core/examples/two"]);
    assert!(refused(&["get", "/core/examples/two"]).contains("404"));
}

#[test]
fn one_node_is_started_and_stopped_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let port = base_port(1);
    // The file says the sandbox, the environment the id, the flag the port.
    let file = folder.path().join("node.toml");
    let sandbox = folder.path().join("sandbox");
    std::fs::write(&file, format!("port = 1\nid = \"file\"\nsandbox = {sandbox:?}")).unwrap();
    let mut node = amrita()
        .args(["node", "--port", &port.to_string(), "--config"])
        .arg(&file)
        .env("AMRITA_ID", "solo")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let deadline = Instant::now() + PATIENCE;
    while !run(&["get", &format!("{address}/readyz")]).status.success() {
        assert!(Instant::now() < deadline, "it does not become ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    let nodes = done(&["nodes", "--address", &address]);
    assert!(nodes.contains("solo"), "{nodes}");
    assert!(sandbox.join("node.json").exists());
    let stopped = done(&["stop", &address]);
    assert!(stopped.contains("has stopped"), "{stopped}");
    assert!(node.wait().unwrap().success());
}

#[test]
fn a_node_that_is_kept_by_another_process_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = kept_node(folder.path(), "0", &[]);
    drop(node.stdin.take());
    assert!(node.wait().unwrap().success());
}

#[test]
fn a_node_takes_xenons_spellings() {
    let folder = tempfile::tempdir().unwrap();
    let port = base_port(1).to_string();
    let uri = format!("http://127.0.0.1:{port}");
    let (peers, public) = (format!("--peerNodes={uri}"), format!("--publicUri={uri}"));
    let more =
        [peers.as_str(), public.as_str(), "--bindAddress", "127.0.0.1", "--membershipQuorum=1"];
    let mut node = kept_node(folder.path(), &port, &more);
    let deadline = Instant::now() + PATIENCE;
    let host = loop {
        let output = run(&["get", &format!("{uri}/core/management"), "--json"]);
        if output.status.success() {
            break out(&output);
        }
        assert!(Instant::now() < deadline, "{}", err(&output));
    };
    assert!(host.contains(&format!(r#""initialPeerNodes":["{uri}"]"#)), "{host}");
    assert!(host.contains(&format!(r#""publicUri":"{uri}""#)), "{host}");
    drop(node.stdin.take());
    assert!(node.wait().unwrap().success());
}

/// A node alone that ends with its standard input.
fn kept_node(folder: &Path, port: &str, more: &[&str]) -> Child {
    amrita()
        .args(["node", "--port", port, "--stop-with-stdin", "--sandbox"])
        .arg(folder)
        .args(more)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be run")
}

/// Waits for the end of a node that was told to stop.
fn ends_well(mut node: Child) {
    let deadline = Instant::now() + PATIENCE;
    while node.try_wait().expect("it can be watched").is_none() {
        if Instant::now() > deadline {
            drop(node.kill());
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(node.wait().expect("it has ended").success());
}

fn wait_until_ready(address: &str) {
    let deadline = Instant::now() + PATIENCE;
    while code(&["get", &format!("{address}/readyz")]) != Some(0) {
        assert!(Instant::now() < deadline, "it does not become ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_node_whose_standard_error_nobody_reads_serves_and_obeys_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    for reader_is_there in [false, true] {
        let port = base_port(1).to_string();
        let mut node = amrita()
            .args(["node", "--log-level", "debug", "--port", &port, "--sandbox"])
            .arg(folder.path().join(&port))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that is there and does not read is no better than one that has gone.
        let _reader = node.stderr.take().filter(|_| reader_is_there);
        let address = format!("http://127.0.0.1:{port}");
        wait_until_ready(&address);
        if !reader_is_there {
            let metrics = done(&["get", &format!("{address}/metrics")]);
            let mut lines = metrics.lines();
            let dropped = lines.find(|line| line.starts_with("amrita_log_lines_dropped"));
            assert!(dropped.is_some_and(|line| !line.ends_with(" 0")), "{dropped:?}");
        }
        signal("-TERM", node.id());
        ends_well(node);
    }
}

/// A request on a connection of its own, and the status of the answer; 0 without one.
fn ask(port: &str, path: &str) -> u16 {
    let asked = TcpStream::connect(format!("127.0.0.1:{port}")).and_then(|mut socket| {
        socket.set_read_timeout(Some(PATIENCE))?;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let answer = asked.unwrap_or_default();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn silent_clients_neither_end_a_node_with_few_descriptors_nor_shut_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let port = base_port(1).to_string();
    let mut node = Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_amrita")])
        .args(["node", "--stop-with-stdin", "--port", &port, "--sandbox"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = format!("http://127.0.0.1:{port}");
    wait_until_ready(&address);
    // One more descriptor is wanted for each; those that a node has no place for are closed.
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
    }
    let deadline = Instant::now() + PATIENCE;
    for path in ["/livez", "/core/examples"] {
        while ask(&port, path) != 200 {
            assert!(Instant::now() < deadline, "{path} is not answered");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let body = r#"{"documentSelfLink":"one","name":"x"}"#;
    let to = format!("--address={address}");
    while code(&["post", "/core/examples", body, &to]) != Some(0) {
        assert!(Instant::now() < deadline, "it takes no write");
    }
    drop(silent);
    assert!(node.try_wait().unwrap().is_none(), "it has ended");
    drop(node.stdin.take());
    ends_well(node);
}

#[test]
fn each_way_to_end_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let port = base_port(1).to_string();
    let address = format!("http://127.0.0.1:{port}");
    let to = format!("--address={address}");
    let mut node = kept_node(folder.path(), &port, &[]);
    wait_until_ready(&address);
    let made = r#"{"documentSelfLink":"one","name":"x"}"#;
    for (wanted, arguments) in [
        (0, &["post", "/core/examples", made][..]),
        (1, &["post", "/core/examples", made]),
        (1, &["get", "/core/examples/none"]),
        (1, &["query", "--kind", "ExmapleServiceState"]),
        (1, &["query", "name=x", "--sort", "nmae"]),
        (1, &["stop", "nobody"]),
        (1, &["immortal", "show", "nobody"]),
        (1, &["immortal", "send", "nobody", "1"]),
        (2, &["post", "/core/examples"]),
        (2, &["post", "/core/examples", "{name:x}"]),
        (2, &["query", "name"]),
        (2, &["query", "name=x", "--sort", "name,counter"]),
        (2, &["query", "name=x", "--sort", "name:down"]),
        (2, &["immortal", "send", "counter"]),
        (2, &["immortal", "set", "counter"]),
        (2, &["node", "--port", "x"]),
        (2, &["tutorial", "task", "--json"]),
        (2, &["nonsense"]),
        (0, &["query", "name=nothing"]),
    ] {
        let arguments = [arguments, &[&to]].concat();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(wanted), "{arguments:?}: {}", err(&output));
    }
    let kinds = refused(&["query", "--kind", "ExmapleServiceState", &to]);
    assert!(kinds.contains("ExampleServiceState"), "{kinds}");
    drop(node.stdin.take());
    ends_well(node);
    assert_eq!(code(&["get", "/core/examples", &to]), Some(1));
}

#[test]
fn a_write_whose_answer_is_lost_ends_with_the_code_for_that() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("--address=http://{}", listener.local_addr().unwrap());
    // Takes each request, and closes without an answer.
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut taken = [0; 4096];
            drop(socket.and_then(|mut socket| socket.read(&mut taken)));
        }
    });
    assert_eq!(code(&["immortal", "send", "counter", "1", &to]), Some(3));
    assert_eq!(code(&["immortal", "list", &to]), Some(1), "a read changes nothing");
}

#[test]
fn a_node_takes_no_writes_when_its_disk_is_full_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let port = base_port(1).to_string();
    let address = format!("--address=http://127.0.0.1:{port}");
    let mut node = kept_node(folder.path(), &port, &[]);
    let body = r#"{"documentSelfLink":"one","name":"x"}"#;
    let deadline = Instant::now() + PATIENCE;
    while !run(&["post", "/core/examples", body, &address]).status.success() {
        assert!(Instant::now() < deadline, "it takes no write");
    }
    drop(node.stdin.take());
    assert!(node.wait().unwrap().success());

    let mut node = kept_node(folder.path(), &port, &["--free-space-min", "999999999999"]);
    let said = loop {
        let said = refused(&["delete", "/core/examples/one", &address]);
        if said.contains("STORAGE") {
            break said;
        }
        assert!(Instant::now() < deadline, "{said}");
    };
    assert!(said.contains("MiB are free") && said.contains("nothing was written"), "{said}");
    assert!(done(&["get", "/core/examples/one", &address]).contains(r#""name": "x""#));
    drop(node.stdin.take());
    assert!(node.wait().unwrap().success());
}

#[test]
fn what_is_wrong_is_said_in_plain_words() {
    let nowhere = ["--address", "http://127.0.0.1:1"];
    let unreachable = refused(&["get", "/core/examples", nowhere[0], nowhere[1]]);
    assert!(unreachable.contains("no node answers at http://127.0.0.1:1"), "{unreachable}");
    assert!(unreachable.contains("amrita up"), "{unreachable}");
    assert!(refused(&["post", "/core/examples", "{name:foo}"]).contains("single quotes"));
    assert!(refused(&["post", "/core/examples"]).contains("a body is needed"));
    assert!(refused(&["query", "foo"]).contains("write it as name=foo"));
    assert!(refused(&["nodes", "--address", "https://x"]).contains("TLS"));
    assert!(refused(&["node", "--port", "x"]).contains("from 0 to 65535"));
    assert!(refused(&["node", "--log-level", "loud", "--port", "0"]).contains("log level"));
    assert!(refused(&["node", "--config", "/no/such/file"]).contains("cannot be read"));
    assert!(refused(&["nonsense"]).contains("unrecognized subcommand"));
}

#[test]
fn up_says_why_a_node_did_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let base = base_port(3);
    let _taken = TcpListener::bind(("127.0.0.1", base + 2)).unwrap();
    let arguments = ["up", "--base-port", &base.to_string(), "--sandbox"];
    let output = amrita().args(arguments).arg(folder.path()).output().unwrap();
    assert!(!output.status.success());
    let said = err(&output);
    assert!(said.contains("n2 did not start") && said.contains("is in use"), "{said}");
}

#[test]
fn help_names_every_command_and_setting() {
    let help = done(&["--help"]);
    for word in [
        "node", "up", "get", "post", "put", "patch", "delete", "query", "quorum", "stop",
        "tutorial", "example",
    ] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    assert!(help.contains("Exit codes:") && help.contains("is not known"), "{help}");
    let help = done(&["node", "--help"]);
    for setting in server::SETTINGS {
        assert!(help.contains(&format!("--{}", setting.name)), "{} is not in it", setting.name);
    }
}
