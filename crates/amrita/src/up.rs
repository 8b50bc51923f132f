//! `amrita up`: a cluster of real processes on this machine, until Ctrl-C.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use client::Client;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::UpOptions;
use crate::outcome::Outcome;
use crate::screen::{self, say};

/// How long the cluster may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);

/// How long a node may take to end after it was asked to.
const END_MAX: Duration = Duration::from_secs(12);

/// Between two looks at whether a process lives.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Between two looks while something is awaited that takes milliseconds.
const LOOK_SOON: Duration = Duration::from_millis(3);

/// How many of a node's last lines are shown when it ended.
const LINES_SHOWN: usize = 5;

struct Plan {
    program: PathBuf,
    folder: PathBuf,
    peers: Vec<String>,
    base_port: u16,
    extra: Vec<String>,
}

struct Running {
    id: String,
    address: String,
    sandbox: PathBuf,
    log: PathBuf,
    child: Child,
    /// Closing it asks the node to stop.
    stdin: Option<ChildStdin>,
}

pub(crate) async fn run(options: &UpOptions, json: bool) -> Outcome {
    server::keep_files_private();
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut terminate = heard(SignalKind::terminate())?;
    let plan = Plan::new(options)?;
    let begun = Instant::now();
    let mut nodes = plan.start_all()?;
    let ready = tokio::select! {
        ready = wait_until_ready(&mut nodes) => ready,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    };
    if let Err(why) = ready {
        stop_all(&mut nodes).await;
        return Err(why);
    }
    match json {
        true => plan.show_as_json(&nodes, begun.elapsed()),
        false => plan.welcome(&nodes, begun.elapsed()),
    }
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = tokio::time::sleep(LOOK_AGAIN) => plan.tell_of_the_dead(&mut nodes, json),
        }
        if nodes.is_empty() {
            return Err("no node is left; what they had is kept in their sandboxes".into());
        }
    }
    if !json {
        say("\nStopping the nodes, one after the other; Ctrl-C once more kills them.");
    }
    tokio::select! {
        () = stop_all(&mut nodes) => {}
        _ = interrupt.recv() => kill_all(&mut nodes),
    }
    if !json {
        say(&format!("Their data is kept in {}.", plan.folder.display()));
    }
    Ok(())
}

fn heard(kind: SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    signal(kind).map_err(|error| format!("signals cannot be heard: {error}"))
}

impl Plan {
    fn new(options: &UpOptions) -> Result<Self, String> {
        let program = std::env::current_exe()
            .map_err(|error| format!("this program cannot find its own file: {error}"))?;
        let base_port = options.base_port;
        let standard = || server::sandbox_default().join(format!("up-{base_port}"));
        let folder = options.sandbox.clone().unwrap_or_else(standard);
        fs::create_dir_all(&folder)
            .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        let ports = (1..=options.nodes).map(|n| base_port + n);
        let peers: Vec<String> = ports.map(|port| format!("http://127.0.0.1:{port}")).collect();
        let mut extra = vec!["--log-level".to_owned(), options.log_level.clone()];
        if let Some(quorum) = options.membership_quorum {
            extra.extend(["--membership-quorum".to_owned(), quorum.to_string()]);
        }
        let plan = Self { program, folder, peers, base_port, extra };
        plan.check_folder()?;
        Ok(plan)
    }

    /// The folder may hold a cluster already; then it must be the same one.
    fn check_folder(&self) -> Result<(), String> {
        let there: Vec<PathBuf> = (1..=9).map(|n| self.folder.join(format!("n{n}"))).collect();
        for sandbox in there.iter().filter(|sandbox| sandbox.join("node.json").exists()) {
            // What cannot be read is for the node itself to complain about.
            let Some(peers) = peers_of(sandbox) else { continue };
            if peers != self.peers {
                let ports: Vec<&str> =
                    peers.iter().filter_map(|peer| peer.rsplit(':').next()).collect();
                return Err(format!(
                    "{} holds a cluster of {} nodes at the ports {}\n  -> start it with the same \
                     --nodes and --base-port, or name another --sandbox",
                    self.folder.display(),
                    peers.len(),
                    ports.join(", ")
                ));
            }
        }
        Ok(())
    }

    fn sandbox(&self, number: usize) -> PathBuf {
        self.folder.join(format!("n{number}"))
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let port = self.peers[number - 1].rsplit(':').next().expect("made above with a port");
        let id = format!("n{number}");
        let sandbox = self.sandbox(number).display().to_string();
        let peers = self.peers.join(",");
        let fixed =
            ["node", "--id", &id, "--port", port, "--peer-nodes", &peers, "--sandbox", &sandbox];
        fixed.iter().map(|text| (*text).to_owned()).chain(self.extra.iter().cloned()).collect()
    }

    fn start_all(&self) -> Result<Vec<Running>, String> {
        let mut nodes = Vec::new();
        for number in 1..=self.peers.len() {
            match self.start(number) {
                Ok(node) => nodes.push(node),
                Err(why) => {
                    kill_all(&mut nodes);
                    return Err(why);
                }
            }
        }
        Ok(nodes)
    }

    fn start(&self, number: usize) -> Result<Running, String> {
        let log = self.folder.join(format!("n{number}.log"));
        let failed = |error: std::io::Error| format!("n{number} cannot be started: {error}");
        let file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let mut child = Command::new(&self.program)
            .args(self.arguments(number))
            // Set for one node alone, they would be wrong for all but one of these.
            .env_remove("AMRITA_PUBLIC_URI")
            .env_remove("AMRITA_BIND_ADDRESS")
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            // Ctrl-C in the terminal is for us alone; we stop the nodes in good order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let (id, address) = (format!("n{number}"), self.peers[number - 1].clone());
        Ok(Running { id, address, sandbox: self.sandbox(number), log, child, stdin })
    }

    fn welcome(&self, nodes: &[Running], took: Duration) {
        let count = nodes.len();
        say(&format!("A cluster of {count} is ready after {} ms.\n", took.as_millis()));
        let rows: Vec<Vec<String>> = nodes
            .iter()
            .map(|node| {
                let pid = node.child.id().to_string();
                vec![node.id.clone(), node.address.clone(), pid, node.log.display().to_string()]
            })
            .collect();
        say(&screen::table(&["node", "address", "pid", "log"], &rows));
        let first = &nodes[0].address;
        say(&format!("\nData: {}\n", self.folder.display()));
        say(&self.next_steps(first));
    }

    /// One line when all are ready, and one for each node that ends before it was asked to.
    fn show_as_json(&self, nodes: &[Running], took: Duration) {
        let one = |node: &Running| {
            json!({ "id": node.id, "address": node.address, "pid": node.child.id(),
                "log": node.log, "sandbox": node.sandbox })
        };
        let nodes: Vec<Value> = nodes.iter().map(one).collect();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let ready = json!({ "nodes": nodes, "sandbox": self.folder, "readyMillis": millis });
        say(&ready.to_string());
    }

    /// Says which nodes have ended since the last look, and takes them off the list.
    fn tell_of_the_dead(&self, nodes: &mut Vec<Running>, json: bool) {
        nodes.retain_mut(|node| {
            let Some(ended) = node.ended() else { return true };
            if json {
                say(&json!({ "ended": node.id, "how": ended }).to_string());
                return false;
            }
            let number: usize = node.id[1..].parse().expect("ids are n1, n2 and so on");
            say(&format!(
                "\n{} has ended ({ended}); the others go on while they are a majority.\n  \
                 To start it again: {}",
                node.id,
                self.typed(number)
            ));
            false
        });
    }

    /// What a person types to start a node.
    fn typed(&self, number: usize) -> String {
        let words: Vec<String> =
            self.arguments(number).iter().map(|word| screen::quoted(word)).collect();
        format!("amrita {}", words.join(" "))
    }

    fn next_steps(&self, first: &str) -> String {
        let option = if self.base_port == 8000 {
            String::new()
        } else {
            format!(" --address {}", screen::quoted(first))
        };
        let list = screen::quoted(&format!("{first}/core/examples?expand"));
        format!(
            "What to do next, in another terminal:\n  \
             amrita{option} post /core/examples '{{\"documentSelfLink\":\"one\",\"name\":\"first\"}}'\n  \
             amrita{option} get /core/examples/one\n  \
             amrita{option} nodes\n  \
             curl {list}\n\n\
             Kill a node (kill -9 PID) and ask again: nothing is lost. Ctrl-C here stops them all."
        )
    }
}

impl Running {
    /// How the process ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(describe(status)),
            Err(error) => Some(format!("it cannot be watched: {error}")),
        }
    }

    /// A node has its port before it takes the lock of its sandbox, and writes its process id
    /// there. Before that whoever answers at its address is somebody else.
    fn has_its_port(&self) -> bool {
        let lock = fs::read_to_string(self.sandbox.join("lock")).unwrap_or_default();
        lock.trim() == self.child.id().to_string()
    }

    fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n  ")
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "it was stopped".into(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "it was killed: signal 9".into(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn peers_of(sandbox: &Path) -> Option<Vec<String>> {
    let text = fs::read(sandbox.join("node.json")).ok()?;
    let identity: Value = serde_json::from_slice(&text).ok()?;
    serde_json::from_value(identity["peers"].clone()).ok()
}

/// Ready counts only of our own processes, and while all of them live.
async fn wait_until_ready(nodes: &mut [Running]) -> Outcome {
    let begun = Instant::now();
    for which in 0..nodes.len() {
        let address = nodes[which].address.clone();
        let client = Client::new(&[&address]).map_err(|error| error.to_string())?;
        let client = client.patience(LOOK_SOON * 10);
        loop {
            if nodes[which].has_its_port()
                && client.get("/readyz").await.is_ok_and(|answer| answer.status == 200)
            {
                break;
            }
            all_live(nodes)?;
            if begun.elapsed() > READY_MAX {
                let lines = nodes[which].last_lines();
                let seconds = READY_MAX.as_secs();
                return Err(format!("{address} is not ready after {seconds} s:\n  {lines}").into());
            }
            tokio::time::sleep(LOOK_SOON).await;
        }
    }
    all_live(nodes)
}

fn all_live(nodes: &mut [Running]) -> Outcome {
    for node in nodes {
        if let Some(ended) = node.ended() {
            let (id, lines) = (&node.id, node.last_lines());
            return Err(format!("{id} did not start ({ended}):\n  {lines}").into());
        }
    }
    Ok(())
}

/// One after the other, so that each can hand over what it owns.
async fn stop_all(nodes: &mut Vec<Running>) {
    while let Some(node) = nodes.last_mut() {
        drop(node.stdin.take());
        let begun = Instant::now();
        while node.ended().is_none() && begun.elapsed() < END_MAX {
            tokio::time::sleep(LOOK_SOON).await;
        }
        if node.ended().is_none() {
            say(&format!("{} does not stop; it is killed", node.id));
            kill(node);
        }
        nodes.pop();
    }
}

fn kill_all(nodes: &mut Vec<Running>) {
    for mut node in nodes.drain(..) {
        kill(&mut node);
    }
}

/// It may have ended by itself in this moment; then there is nothing to do.
fn kill(node: &mut Running) {
    drop(node.child.kill());
    drop(node.child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that a shell makes of a line.
    fn words(line: &str) -> Vec<String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("printf '%s\\0' {line}")]);
        let said = String::from_utf8(shell.output().expect("there is a shell").stdout).unwrap();
        said.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_printed_to_be_typed_means_the_same_to_a_shell() {
        let folder = PathBuf::from("/tmp/it's a $folder?");
        let plan = Plan {
            program: PathBuf::new(),
            folder,
            peers: (9001..=9003).map(|port| format!("http://127.0.0.1:{port}")).collect(),
            base_port: 9000,
            extra: vec!["--log-level".into(), "node=debug,*".into()],
        };
        let typed = plan.typed(2);
        let again = typed.strip_prefix("amrita ").expect("it begins with the program");
        assert_eq!(words(again), plan.arguments(2));
        let steps = plan.next_steps("http://127.0.0.1:9001");
        let curl = steps.lines().find_map(|line| line.trim().strip_prefix("curl "));
        assert_eq!(words(curl.expect("curl")), ["http://127.0.0.1:9001/core/examples?expand"]);
        for line in steps.lines().filter(|line| line.starts_with("  amrita")) {
            assert!(!words(line.trim()).iter().any(|word| word.contains('\'')), "{line}");
        }
    }
}
