//! Every command and subcommand: it ends with a code that says how, prints JSON with `--json` or
//! refuses it, and names what it does not know. Against one real node.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// It was done, it was refused, it was said wrongly.
const DONE: i32 = 0;
const REFUSED: i32 = 1;
const USAGE: i32 = 2;

/// What a command does with `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Json {
    /// Prints lines of JSON and nothing else.
    Lines,
    /// Refuses it by name.
    Refused,
}
use Json::{Lines, Refused as NoJson};

/// In an order in which one can follow the other: how it is said, and how it ends.
const COMMANDS: &[(&str, i32, Json)] = &[
    ("node --port 0", USAGE, NoJson),
    ("tutorial ha", USAGE, NoJson),
    ("tutorial hello", USAGE, NoJson),
    ("unseal /no/such/file", USAGE, NoJson),
    ("tutorial task", USAGE, NoJson),
    ("tutorial orders", USAGE, NoJson),
    ("example hello-server", USAGE, NoJson),
    ("help quorum-not-met", DONE, Lines),
    ("help codes", DONE, Lines),
    ("help backup", USAGE, NoJson),
    ("help nothing", USAGE, NoJson),
    ("completions bash", USAGE, NoJson),
    ("man RECORDING", USAGE, NoJson),
    ("post /core/examples {\"documentSelfLink\":\"one\",\"name\":\"x\"}", DONE, Lines),
    ("get /core/examples/one", DONE, Lines),
    ("put /core/examples/one {\"name\":\"y\"}", DONE, Lines),
    ("patch /core/examples/one {\"name\":\"z\"}", DONE, Lines),
    ("query name=z", DONE, Lines),
    ("query --kind Nobody", REFUSED, Lines),
    ("sql select name from examples", DONE, Lines),
    ("sql select name from nothing", REFUSED, Lines),
    ("export /core/examples", DONE, Lines),
    ("get /core/examples/one --as-of v0", DONE, Lines),
    ("get /core/examples/one --as-of 1970-01-01T00:00:00Z", REFUSED, Lines),
    ("diff /core/examples/one 0", DONE, Lines),
    ("diff /core/examples/one 0 9", REFUSED, Lines),
    ("revert /core/examples/one 0", DONE, Lines),
    ("revert /core/examples/one 9", REFUSED, Lines),
    ("delete /core/examples/one", DONE, Lines),
    ("batch BATCH", DONE, Lines),
    ("batch BATCH", REFUSED, Lines),
    ("batch BATCH --atomic some", USAGE, Lines),
    ("kind create /app/seats --schema {\"type\":\"object\"}", DONE, Lines),
    ("kind create /app/seats --schema {\"type\":\"object\"}", DONE, Lines),
    ("kind list", DONE, Lines),
    ("kind show /app/seats", DONE, Lines),
    ("kind change /app/seats --about Seats", DONE, Lines),
    ("kind remove /app/seats", DONE, Lines),
    ("kind remove /app/seats --confirm", REFUSED, Lines),
    ("nodes", DONE, Lines),
    ("top --count 1 --interval 1", DONE, Lines),
    ("disk", DONE, Lines),
    ("disk nobody", REFUSED, Lines),
    ("explain", DONE, Lines),
    ("explain node", DONE, Lines),
    ("explain /core/examples/none", DONE, Lines),
    ("explain nobody", REFUSED, Lines),
    ("post /core/example-tasks {\"documentSelfLink\":\"t\"}", DONE, Lines),
    ("task hold /core/example-tasks/none", REFUSED, Lines),
    ("task release /core/example-tasks/none", REFUSED, Lines),
    ("task retry /core/example-tasks/none", REFUSED, Lines),
    ("task skip /core/example-tasks/none", REFUSED, Lines),
    ("task cancel --of /core/example-tasks", DONE, Lines),
    ("quorum", DONE, Lines),
    ("admit", DONE, Lines),
    ("admit n9", REFUSED, Lines),
    ("admit --refuse n9", REFUSED, Lines),
    ("remove solo", REFUSED, Lines),
    ("remove n9", REFUSED, Lines),
    ("drain n9", REFUSED, Lines),
    ("drain --undo solo", DONE, Lines),
    ("login --user nobody --password-file PASSWORD", REFUSED, Lines),
    ("logout", DONE, Lines),
    ("whoami", DONE, Lines),
    ("can-i GET /core/examples", DONE, Lines),
    ("user create ann --password-file PASSWORD", DONE, Lines),
    ("user list", DONE, Lines),
    ("user password ann --password-file PASSWORD", DONE, Lines),
    ("role create some --group people --link /core/examples", DONE, Lines),
    ("role list", DONE, Lines),
    ("role grant some ann", DONE, Lines),
    ("role revoke some ann", DONE, Lines),
    ("role delete some", DONE, Lines),
    ("token create --for ann", DONE, Lines),
    ("token list", DONE, Lines),
    ("token revoke nothing", REFUSED, Lines),
    ("audit", DONE, Lines),
    ("immortal register one", DONE, Lines),
    ("immortal owners one", DONE, Lines),
    ("immortal owners one --set ann", DONE, Lines),
    ("immortal owners one", DONE, Lines),
    ("user delete ann", DONE, Lines),
    ("user delete ann", REFUSED, Lines),
    ("role delete some", REFUSED, Lines),
    ("immortal list", DONE, Lines),
    ("immortal show one", DONE, Lines),
    ("immortal set one --log-trigger-size 1", DONE, Lines),
    ("immortal add-replica one --node nobody", REFUSED, Lines),
    ("immortal remove-replica one --node nobody", REFUSED, Lines),
    ("immortal checkpoint one", REFUSED, Lines),
    ("immortal move one nobody", REFUSED, Lines),
    ("immortal skip one 1", REFUSED, Lines),
    ("immortal release one", DONE, Lines),
    ("immortal send one 1", REFUSED, Lines),
    ("immortal record one --to RECORDING --from 99", REFUSED, Lines),
    ("immortal debug one", USAGE, NoJson),
    ("immortal deregister one --yes-remove one", DONE, Lines),
    ("backup --to BACKUP", DONE, Lines),
    ("backup --to BACKUP", REFUSED, Lines),
    ("backup verify BACKUP", DONE, Lines),
    ("backup verify RECORDING", REFUSED, Lines),
    ("restore BACKUP --sandbox RESTORED --id r1", DONE, Lines),
    ("restore BACKUP --sandbox RESTORED --id r1", REFUSED, Lines),
    ("recover --from BACKUP --to RECORDING", REFUSED, Lines),
    ("stop solo", DONE, Lines),
];

/// Those that go on until they are ended, and have tests of their own.
const ENDLESS: [&str; 2] = ["up", "watch"];

fn amrita(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amrita"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AMRITA_")) {
        command.env_remove(name);
    }
    command.env("XDG_CONFIG_HOME", folder).stdin(Stdio::null());
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Ended when a test has failed.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A node that serves, and its address.
fn started(folder: &Path) -> (Node, String) {
    let port = free_port();
    let node = amrita(folder)
        .args(["node", "--id", "solo", "--port", &port.to_string(), "--sandbox"])
        .arg(folder.join("sandbox"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the program can be run");
    let node = Node(node);
    let address = format!("http://127.0.0.1:{port}");
    let ready = format!("{address}/readyz");
    let begun = Instant::now();
    while !amrita(folder).args(["get", &ready]).output().expect("it can be run").status.success() {
        assert!(begun.elapsed() < PATIENCE, "it does not become ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    (node, address)
}

/// Every command that does something, from the help.
fn leaves(folder: &Path, before: &[String]) -> BTreeSet<String> {
    let help = out(&amrita(folder).args(before).arg("--help").output().expect("it can be run"));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        name.split_whitespace().next().map(str::to_owned)
    });
    let names: Vec<String> = names.filter(|name| name != "help").collect();
    if names.is_empty() {
        return BTreeSet::from([before.join(" ")]);
    }
    names.into_iter().flat_map(|name| leaves(folder, &[before, &[name]].concat())).collect()
}

#[test]
fn each_command_says_how_it_ended_and_takes_json_or_refuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_node, address) = started(folder);
    let run = |words: &[&str]| amrita(folder).args(words).output().expect("it can be run");
    let password = folder.join("password");
    std::fs::write(&password, "a long enough password\n").unwrap();
    let recording = folder.join("recording").display().to_string();
    let password = password.display().to_string();
    let backup = folder.join("backup").display().to_string();
    let restored = folder.join("restored").display().to_string();
    let batch = folder.join("batch").display().to_string();
    let made = r#"{"documentSelfLink":"batched","name":"b"}"#;
    let post = format!(r#"{{"method":"POST","path":"/core/examples","body":{made}}}"#);
    std::fs::write(&batch, post).unwrap();
    for (line, code, json) in COMMANDS {
        let words = line.split(' ').map(|word| match word {
            "PASSWORD" => password.as_str(),
            "RECORDING" => recording.as_str(),
            "BACKUP" => backup.as_str(),
            "BATCH" => batch.as_str(),
            "RESTORED" => restored.as_str(),
            word => word,
        });
        let mut words: Vec<&str> = words.collect();
        let own = [
            "node",
            "tutorial",
            "example",
            "unseal",
            "recover",
            "restore",
            "help",
            "completions",
            "man",
        ];
        let asks_a_cluster = !own.contains(&words[0]) && !line.starts_with("backup verify");
        let to = format!("--address={address}");
        if asks_a_cluster {
            words.insert(0, &to);
        }
        words.insert(0, "--json");
        let output = run(&words);
        let said = (out(&output), err(&output));
        assert_eq!(output.status.code(), Some(*code), "{line}: {said:?}");
        match json {
            NoJson => assert!(said.1.contains("--json"), "{line}: {said:?}"),
            Lines => {
                let lines = said.0.lines().filter(|line| !line.is_empty());
                let parsed: Vec<Result<serde_json::Value, _>> =
                    lines.map(serde_json::from_str).collect();
                assert!(parsed.iter().all(Result::is_ok), "{line}: {said:?}");
                assert_eq!(parsed.len(), 1.min(parsed.len()), "{line}: one line: {said:?}");
                assert!(*code != DONE || !parsed.is_empty(), "{line} said nothing");
            }
        }
        if !asks_a_cluster {
            words[0] = &to;
            let output = run(&words);
            assert_eq!(output.status.code(), Some(USAGE), "{line}: {}", err(&output));
            assert!(err(&output).contains("--address"), "{line}: {}", err(&output));
        }
    }
    let known = |leaf: &String| {
        let said = COMMANDS
            .iter()
            .any(|(line, ..)| *line == leaf || line.starts_with(&format!("{leaf} ")));
        said || ENDLESS.contains(&leaf.as_str())
    };
    let unknown: Vec<String> = leaves(folder, &[]).into_iter().filter(|it| !known(it)).collect();
    assert!(unknown.is_empty(), "these commands have no row here: {unknown:?}");
}

/// Nothing is done then: there is not even a node to ask.
#[test]
fn each_command_names_an_option_and_a_word_that_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| amrita(folder.path()).args(words).output().expect("it can be run");
    let refused = |words: &[&str], named: &str| {
        let output = run(words);
        assert_eq!(output.status.code(), Some(USAGE), "{words:?}: {}", err(&output));
        assert!(err(&output).contains(named), "{words:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{words:?}");
    };
    let endless = ENDLESS.map(|line| (line, DONE, NoJson));
    for (line, ..) in COMMANDS.iter().chain(&endless) {
        let words: Vec<&str> = line.split(' ').collect();
        refused(&[&words[..], &["--nonsense"]].concat(), "--nonsense");
        refused(&[&words[..], &["--nonsense=1"]].concat(), "--nonsense");
        refused(&[&["--nonsense"], &words[..]].concat(), "--nonsense");
    }
    refused(&["example", "hello-nobody"], "hello-nobody");
    refused(&["nonsense"], "nonsense");
    let leaves = leaves(folder.path(), &[]);
    let groups = leaves.iter().filter_map(|leaf| Some(leaf.split_once(' ')?.0));
    for group in groups.collect::<BTreeSet<_>>() {
        // `amrita backup --to DIR` is one by itself.
        refused(&[group, "nonsense"], "nonsense");
    }
    // It has no place for a further word.
    for leaf in ["nodes", "whoami", "logout", "up", "role list", "immortal list", "user list"] {
        let words: Vec<&str> = leaf.split(' ').chain(["nonsense"]).collect();
        refused(&words, "nonsense");
    }
}

/// Made of the same description as the help, so each command is in all of them.
#[test]
fn each_command_has_a_manual_page_and_is_completed_in_each_shell() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| amrita(folder.path()).args(words).output().expect("it can be run");
    let pages = folder.path().join("man");
    let written = run(&["man", &pages.display().to_string()]);
    assert!(written.status.success(), "{}", err(&written));
    let scripts = ["bash", "zsh", "fish"].map(|shell| (shell, out(&run(&["completions", shell]))));
    for leaf in leaves(folder.path(), &[]) {
        let page = pages.join(format!("amrita-{}.1", leaf.replace(' ', "-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|why| panic!("{leaf}: {why}"));
        assert!(text.contains(".SH SYNOPSIS"), "{leaf}: {text}");
        let last = leaf.rsplit(' ').next().expect("it has a word");
        for (shell, script) in &scripts {
            assert!(script.contains(last), "{shell} does not complete '{leaf}'");
        }
    }
    assert!(run(&["completions", "tcsh"]).status.code() == Some(USAGE));
}

/// What was found, and not where it could be found; each digit as it was said.
#[test]
fn what_is_asked_for_is_shown_whole_and_digit_for_digit() {
    let folder = tempfile::tempdir().unwrap();
    let (_node, address) = started(folder.path());
    let run = |words: &[&str]| {
        let to = format!("--address={address}");
        amrita(folder.path()).arg(to).args(words).output().expect("it can be run")
    };
    const LONG: &str = "123456789012345678901234567890";
    let body = r#"{"type":"object"}"#;
    let made = run(&["kind", "create", "/app/long", "--schema", body]);
    assert!(made.status.success(), "{}", err(&made));
    let links: Vec<String> = (0..5).map(|number| format!("/app/long/{number}")).collect();
    for link in &links {
        let name = link.rsplit('/').next().expect("it has one");
        let body = format!(r#"{{"documentSelfLink":"{name}","n":{LONG},"name":"x"}}"#);
        let made = run(&["post", "/app/long", &body]);
        assert!(made.status.success() && out(&made).contains(LONG), "{}{}", out(&made), err(&made));
    }
    for words in [
        &["get", "/app/long/0"][..],
        &["--json", "get", "/app/long/0"],
        &["patch", "/app/long/0", &format!(r#"{{"n":{LONG}}}"#)],
        &["query", "name=x", "--show", "n"],
    ] {
        let shown = out(&run(words));
        assert!(shown.contains(LONG), "{words:?}: {shown}");
    }
    for (limit, count) in [("3", 3), ("100", 5)] {
        let answer =
            run(&["--json", "query", "name=x", "--sort", "documentSelfLink", "--limit", limit]);
        let shown = out(&answer);
        let body: serde_json::Value = serde_json::from_str(&shown).expect("one line of JSON");
        let results = &body["results"];
        let found: Vec<&str> = results["documentLinks"]
            .as_array()
            .map(|links| links.iter().filter_map(|link| link.as_str()).collect())
            .unwrap_or_default();
        assert_eq!(found, links[..count], "{shown}");
        assert_eq!(results["documents"].as_object().map(|it| it.len()), Some(count), "{shown}");
        assert_eq!(shown.matches(LONG).count(), count, "{shown}");
        assert_eq!(results["nextPageLink"].is_string(), count < links.len(), "{shown}");
    }
}

/// A disk that is full takes nothing, and who reads the file would think that this was all.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let (_node, address) = started(folder.path());
    for words in [&["get", "/"][..], &["--json", "get", "/"], &["nodes"], &["query", "name=x"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("there is one");
        let to = format!("--address={address}");
        let mut command = amrita(folder.path());
        let ended = command.arg(to).args(words).stdout(full).output().expect("it can be run");
        assert_eq!(ended.status.code(), Some(REFUSED), "{words:?}: {}", err(&ended));
        assert!(err(&ended).contains("disk full"), "{words:?}: {}", err(&ended));
    }
}
