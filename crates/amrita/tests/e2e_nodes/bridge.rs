//! The five commands of docs/security.md, as they stand there, on three machines: network
//! namespaces that this test makes, with a bridge between them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(40);

/// What stands in the document for the tokens that another command prints.
const PLACES: [&str; 2] = ["FIRST-TOKEN", "SECOND-TOKEN"];

/// A namespace, which lives as long as the process that holds it.
struct Space {
    holder: Child,
    /// How to come in.
    enter: Vec<String>,
}

impl Space {
    /// `before`: how to come into the space that this one is to be in.
    fn made(before: &[String], flags: &[&str]) -> Option<Self> {
        let mut words: Vec<String> = before.to_vec();
        words.push("unshare".into());
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        words.extend(["setpriv", "--pdeathsig", "KILL", "sleep", "1000"].map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut holder = command.stderr(Stdio::null()).spawn().ok()?;
        let begun = Instant::now();
        let program = format!("/proc/{}/comm", holder.id());
        // It sleeps when all that comes before is done.
        while fs::read_to_string(&program).is_ok_and(|name| name.trim() != "sleep") {
            if holder.try_wait().ok()?.is_some() || begun.elapsed() > PATIENCE {
                drop(holder.kill());
                drop(holder.wait());
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut enter = vec!["nsenter".to_owned(), "--preserve-credentials".into()];
        if flags.contains(&"--user") || before.iter().any(|word| word == "--user") {
            enter.push("--user".into());
        }
        enter.extend(["--net".to_owned(), "-t".into(), holder.id().to_string()]);
        Some(Self { holder, enter })
    }

    /// Runs a program there, which ends with this one.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]);
        command.args(["setpriv", "--pdeathsig", "KILL", program]).stdin(Stdio::null());
        command
    }

    fn ip(&self, words: &str) -> bool {
        let done = self.command("ip").args(words.split(' ')).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

struct Machine {
    space: Space,
    folder: PathBuf,
    node: Option<Child>,
}

impl Machine {
    /// The command line of this machine's user.
    fn amrita(&self, words: &[&str]) -> Command {
        let mut command = self.space.command(env!("CARGO_BIN_EXE_amrita"));
        command.args(words).current_dir(&self.folder);
        command.env("XDG_CONFIG_HOME", self.folder.join("config"));
        command
    }

    fn run(&self, words: &[&str]) -> (bool, String) {
        let Output { status, stdout, stderr } =
            self.amrita(words).output().expect("the program can be started");
        (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    fn ok(&self, words: &[&str]) -> String {
        let (is_success, said) = self.run(words);
        assert!(is_success, "{words:?}: {said}\n{}", self.log());
        said
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn start(&mut self, words: &[&str]) {
        let log = fs::File::create(self.folder.join("log")).expect("a log can be made");
        let node = self.amrita(words).stdout(Stdio::null()).stderr(log).spawn();
        self.node = Some(node.expect("the program can be started"));
    }

    fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            drop(node.kill());
            drop(node.wait());
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three machines on one network. None, where the system lets nobody make namespaces.
fn network(folder: &std::path::Path) -> Option<(Space, Vec<Machine>)> {
    let rootless = Space::made(&[], &["--user", "--map-root-user", "--net"]);
    let switch = rootless.filter(|space| space.ip("link add br0 type bridge")).or_else(|| {
        let space = Space::made(&[], &["--net"])?;
        space.ip("link add br0 type bridge").then_some(space)
    })?;
    let mut machines = Vec::new();
    for number in 1..=3 {
        let space = Space::made(&switch.enter, &["--net"])?;
        let pid = space.holder.id();
        let made = switch.ip(&format!("link add v{number} type veth peer name eth0 netns {pid}"))
            && switch.ip(&format!("link set v{number} master br0 up"))
            && space.ip(&format!("addr add 10.0.0.{number}/24 dev eth0"))
            && space.ip("link set eth0 up")
            && space.ip("link set lo up");
        if !made {
            return None;
        }
        let folder = folder.join(format!("machine{number}"));
        fs::create_dir(&folder).expect("a folder can be made");
        machines.push(Machine { space, folder, node: None });
    }
    switch.ip("link set br0 up").then_some((switch, machines))
}

/// The commands, with the machine that each is typed on.
fn commands() -> Vec<(usize, Vec<String>)> {
    let document = include_str!("../../../../docs/security.md");
    let (_, after) = document.split_once("## Five commands").expect("the chapter is there");
    let block = after.split("```").nth(1).expect("it has a block");
    let lines = block.lines().filter(|line| line.starts_with("amrita "));
    let mut machine = 0;
    let commands: Vec<_> = lines
        .map(|line| {
            let words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
            let address = words.iter().find_map(|word| word.strip_prefix("10.0.0."));
            machine = address.map_or(machine, |last| last.parse::<usize>().expect("a number") - 1);
            (machine, words)
        })
        .collect();
    assert_eq!(commands.len(), 5, "five commands: {commands:?}");
    commands
}

fn wait_for(machines: &[Machine], what: &str, look: impl Fn() -> bool) {
    let begun = Instant::now();
    while !look() {
        let logs: Vec<String> = machines.iter().map(Machine::log).collect();
        assert!(begun.elapsed() < PATIENCE, "waited for {what}:\n{}", logs.join("\n--\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_five_commands_of_the_document_make_a_cluster_with_tls_and_logins() {
    // Not beside others, which take the machine's whole attention.
    let turn = Cluster::of(1);
    let Some((_switch, mut machines)) = network(turn.folder()) else {
        // Not by a macro: what those say is shown of tests that fail only.
        let text = b"left out: the five commands of docs/security.md, as this machine lets nobody \
                     make network namespaces (unshare, ip and nsenter are needed, and user \
                     namespaces or root)\n";
        std::io::stdout().write_all(text).expect("standard output takes a line");
        return;
    };
    let mut tokens = Vec::new();
    for (which, words) in commands() {
        let words: Vec<&str> = words
            .iter()
            .map(|word| match PLACES.iter().position(|place| place == word) {
                Some(place) => tokens.get(place).map_or("", String::as_str),
                None => word,
            })
            .collect();
        if words[0] == "node" {
            machines[which].start(&words);
            continue;
        }
        let said = machines[which].ok(&words);
        if words[0] == "token" {
            tokens = said.lines().map(str::to_owned).collect();
        }
    }
    let three = || machines[0].run(&["nodes"]).1.matches(" AVAILABLE").count() == 3;
    wait_for(&machines, "three nodes", three);
    let link = "/core/examples/one";
    machines[0].ok(&["post", "/core/examples", r#"{"documentSelfLink":"one","name":"planted"}"#]);
    for last in 1..=3 {
        let uri = format!("https://10.0.0.{last}:8000");
        assert!(machines[0].ok(&["--address", &uri, "get", link]).contains("planted"));
    }
    strangers_learn_nothing(&machines[1]);
    let uri = "https://10.0.0.3:8000";
    machines[0].kill();
    wait_for(&machines, "the others to go on", || {
        machines[0].run(&["--address", uri, "get", link]).1.contains("planted")
    });
}

/// On the network of the nodes, without a login.
fn strangers_learn_nothing(machine: &Machine) {
    let uri = "https://10.0.0.1:8000";
    let ask = |words: &[&str], authority: &str| {
        let mut command = machine.amrita(words);
        let output = command.env("AMRITA_CA_FILE", machine.folder.join(authority)).output();
        let Output { status, stdout, stderr } = output.expect("the program can be started");
        (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    };
    let (is_success, said) = ask(&["--address", uri, "get", "/core/examples"], "data/tls/ca.pem");
    assert!(!is_success && said.contains("UNAUTHORIZED"), "{said}");
    let (is_success, said) = ask(&["--address", uri, "get", "/core/peer-link"], "data/tls/ca.pem");
    assert!(!is_success && !said.contains("n1"), "{said}");
    // Without TLS, and without anybody to believe.
    for uri in ["http://10.0.0.1:8000", uri] {
        let (is_success, said) = machine.run(&["--address", uri, "get", "/livez"]);
        assert!(!is_success && !said.contains("alive"), "{said}");
    }
}
