//! The commands of README, played as a newcomer would type them: the ten lines and the five
//! minutes, from the first to the last, with nothing changed but the ports.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long the cluster may take to be there.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a newcomer does between two blocks: read on until the nodes are there again, and until the
/// programs have said what they were told.
///
/// Where a line fails, what was started here ends all the same.
const READ_ON: &str = r#"
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
read_on() {
    for port in BASE1 BASE2 BASE3; do
        until curl -sf "http://127.0.0.1:$port/readyz" > /dev/null; do
            if [ "$SECONDS" -gt 60 ]; then echo "the nodes are not ready" >&2; exit 9; fi
            sleep 0.05
        done
    done
    until [ ! -e two.txt ] || grep -q '#2 .*two' two.txt; do
        if [ "$SECONDS" -gt 60 ]; then echo "the second program is silent" >&2; exit 9; fi
        sleep 0.05
    done
}
"#;

/// The `sh` blocks of a section of README, in their order.
fn blocks(readme: &str, section: &str) -> Vec<String> {
    let heading = format!("\n## {section}\n");
    let begin = readme.find(&heading).unwrap_or_else(|| panic!("README has no '{section}'"));
    let text = &readme[begin + heading.len()..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let parts = text.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A multiple of ten after which the ports 1 to 3 are free: README's `800$N` has one digit behind.
fn base_port() -> u16 {
    let first = 2_000 + u16::try_from(std::process::id() % 1_000).expect("it is under a thousand");
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let tens = (first..first + 200).map(|ten| ten * 10);
    let mut free = tens.filter(|base| (1..=3).all(|port| is_free(base + port)));
    free.next().expect("there are free ports")
}

fn with_ports(text: &str, base: u16) -> String {
    let prefix = (base / 10).to_string();
    ["1", "2", "3", "$"].iter().fold(text.to_owned(), |text, digit| {
        text.replace(&format!("800{digit}"), &format!("{prefix}{digit}"))
    })
}

/// A shell in that folder, where `amrita` is on the path and speaks to this cluster alone.
fn shell(folder: &Path, base: u16, script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_amrita"));
    let bin = program.parent().expect("it lies in a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let addresses: Vec<String> =
        (1..=3).map(|port| format!("http://127.0.0.1:{}", base + port)).collect();
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AMRITA_")) {
        command.env_remove(name);
    }
    command
        .args(["-e", "-c", script])
        .current_dir(folder)
        .env("PATH", format!("{bin}:{path}"))
        .env("XDG_CONFIG_HOME", folder)
        .env("AMRITA_ADDRESS", addresses.join(","))
        .stdin(Stdio::null());
    command
}

/// The first terminal. Ended with the test; its nodes end with it.
struct FirstTerminal(Child);

impl Drop for FirstTerminal {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl FirstTerminal {
    fn open(folder: &Path, base: u16, block: &str) -> Self {
        let command = block.trim().split(" #").next().expect("there is always a first part");
        assert!(!command.contains('\n'), "one command, that is left running: {command}");
        let script = format!("exec {command} --base-port {base}");
        let said = folder.join("first-terminal");
        let out = File::create(&said).expect("a file can be made");
        let child = shell(folder, base, &script).stdout(out).spawn().expect("bash is there");
        let terminal = Self(child);
        let begun = Instant::now();
        while !fs::read_to_string(&said).is_ok_and(|said| said.contains("is ready")) {
            assert!(begun.elapsed() < PATIENCE, "`{command}` does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        terminal
    }
}

/// All the other blocks in one shell, as in the second terminal: how it ended, and what was said.
fn second_terminal(folder: &Path, base: u16, blocks: &[String]) -> (ExitStatus, String) {
    let read_on = READ_ON.replace("BASE", &(base / 10).to_string());
    let script = blocks.iter().fold(read_on, |mut script, block| {
        script.push_str(&with_ports(block, base));
        script.push_str("\nread_on\n");
        script
    });
    // The nodes that this shell has started are gone after the last block.
    let script = script.strip_suffix("\nread_on\n").expect("it was just put there");
    // Into a file: what goes on in the background would hold a pipe open.
    let said = folder.join("second-terminal");
    let out = File::create(&said).expect("a file can be made");
    let err = out.try_clone().expect("a file can be shared");
    let ended = shell(folder, base, script).stdout(out).stderr(err).status();
    (ended.expect("bash is there"), fs::read_to_string(said).expect("it was just written"))
}

#[test]
fn the_five_minutes_hold_from_the_first_line_to_the_last() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("there is a README");
    let mut all = blocks(&readme, "Ten lines");
    all.extend(blocks(&readme, "Five minutes"));
    assert!(all.len() > 4, "the commands were not found: {all:?}");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let base = base_port();
    let _terminal = FirstTerminal::open(folder, base, &all[0]);
    let (ended, out) = second_terminal(folder, base, &all[1..]);
    assert!(ended.success(), "{ended}\n{out}");
    for expected in [
        "/shop/orders is there",
        "2 of 3 nodes are available",
        r#""item":"chair""#,
        r#""count":5"#,
        "0 is less than the minimum of 1",
        "goes on by itself",
        "PATCH  /shop/orders/A17 v2",
        "'counter' has handled",
    ] {
        assert!(out.contains(expected), "'{expected}' is not in\n{out}");
    }
    let counted = fs::read_to_string(folder.join("two.txt")).expect("it was written");
    assert_eq!(counted.lines().count(), 2, "each message once: {counted}");
    // The write that was sent twice under one key was done once.
    assert_eq!(out.matches(r#""count":5,"item":"chair","documentVersion":1"#).count(), 2, "{out}");
}
