//! What `deploy/` says is true of a real node: the metrics that the dashboard and the alerts speak
//! of are there, and the flags that units and charts give are taken. Its log is JSON here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long the node may take to serve.
const PATIENCE: Duration = Duration::from_secs(40);

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Ended with the test.
struct Node {
    process: Child,
    address: String,
    log: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn amrita(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amrita"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AMRITA_")) {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::null());
    command
}

impl Node {
    fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let log = folder.join("log");
        let process = amrita(&["node", "--id", "n1", "--log-format", "json", "--port"])
            .arg(port.to_string())
            .arg("--sandbox")
            .arg(folder.join("sandbox"))
            .stderr(File::create(&log).expect("a file can be made"))
            .spawn()
            .expect("the program can be run");
        let node = Self { process, address: format!("http://127.0.0.1:{port}"), log };
        let begun = Instant::now();
        while node.get("/readyz").is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }

    fn get(&self, path: &str) -> Option<String> {
        let to = format!("--address={}", self.address);
        let output = amrita(&[&to, "get", path]).output().expect("it can be run");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Each name that a page of metrics tells of, with its type.
fn types(page: &str) -> BTreeMap<String, String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types = lines.filter_map(|line| line.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The names of metrics in a text; a comment has none.
fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = lines.flat_map(|line| line.split(move |c| !is_part(c)));
    words.filter(|word| word.starts_with("amrita_")).map(str::to_owned).collect()
}

fn is_told(name: &str, types: &BTreeMap<String, String>) -> bool {
    let parts = ["_bucket", "_sum", "_count"];
    let of_histogram = |end: &str| {
        let of = name.strip_suffix(end);
        of.and_then(|of| types.get(of)).is_some_and(|kind| kind == "histogram")
    };
    types.get(name).is_some_and(|kind| kind != "histogram")
        || parts.iter().any(|end| of_histogram(end))
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_a_node_has() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let node = Node::start(folder.path());
    let types = types(&node.get("/metrics").expect("it is there"));
    assert!(types.len() > 20, "{types:?}");
    for (file, least) in [("grafana/amrita.json", 20), ("prometheus/alerts.yml", 8)] {
        let asked = names(&deploy(file));
        assert!(asked.len() >= least, "{file}: {asked:?}");
        let unknown: Vec<&String> = asked.iter().filter(|name| !is_told(name, &types)).collect();
        assert!(unknown.is_empty(), "{file}: no node has {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&deploy("grafana/amrita.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    assert!(!is_told("amrita_request_seconds", &types), "a histogram is asked for by its parts");
}

#[test]
fn a_log_in_json_has_one_object_in_each_line() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let node = Node::start(folder.path());
    let log = fs::read_to_string(&node.log).expect("the log is there");
    let said: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}")))
        .collect();
    assert!(said.len() > 1, "{log}");
    for line in &said {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
    }
    assert!(said.iter().any(|line| line["message"].as_str().is_some_and(|it| it.contains("n1"))));
}

/// The flags of the chart, the variables of the compose file and of the image, and the settings of
/// systemd's file are some that `amrita node` knows.
#[test]
fn what_is_deployed_is_started_with_settings_that_exist() {
    let help = amrita(&["node", "--help"]).output().expect("it can be run");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let chart = deploy("helm/amrita/templates/statefulset.yaml");
    let flags = chart.lines().filter_map(|line| line.trim().strip_prefix("- --"));
    let flags: BTreeSet<&str> = flags.filter_map(|flag| flag.split('=').next()).collect();
    assert!(flags.contains("tls-client-ca") && flags.len() > 8, "{flags:?}");
    for flag in flags {
        assert!(
            help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}[")),
            "{flag}"
        );
    }
    for file in ["docker/compose.yaml", "docker/Dockerfile"] {
        let text = deploy(file);
        let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
        let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("AMRITA_"));
        let variables: BTreeSet<&str> = words.collect();
        assert!(variables.len() > 2, "{file}: {variables:?}");
        for variable in variables {
            assert!(help.contains(&format!("{variable}]")), "{file}: {variable}");
        }
    }
    for line in deploy("systemd/node.toml").lines() {
        let line = line.trim_start_matches('#').trim();
        let Some((name, _)) = line.split_once(" = ") else { continue };
        assert!(help.contains(&format!("--{} ", name.replace('_', "-"))), "node.toml: {name}");
    }
    let unit = deploy("systemd/amrita.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/amrita "));
    let words: Vec<&str> = start.expect("it starts a node").split(' ').collect();
    assert_eq!((words[0], words[1]), ("node", "--config"));
    assert!(help.contains("--config "));
}
