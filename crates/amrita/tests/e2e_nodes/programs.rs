//! Programs of immortals as processes: what they say, what is typed to them, and their end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Ended, SOON, uri};
use crate::http::{Ask, Reply};

pub(crate) struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<String>,
    said: Vec<String>,
}

impl Program {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("the program can be started");
        let (tell, heard) = channel();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let complains = tell.clone();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
        });
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.into_iter().all(|line| complains.send(line).is_ok())
        });
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, heard, said: Vec::new() }
    }

    /// All lines of this life, of both outputs.
    pub(crate) fn said(&mut self) -> &[String] {
        self.said.extend(self.heard.try_iter());
        &self.said
    }

    pub(crate) fn wait_for(&mut self, words: &str) {
        let began = Instant::now();
        while !self.said().iter().any(|line| line.contains(words)) {
            assert!(
                began.elapsed() < SOON,
                "{} did not say '{words}', but {:?}",
                self.name,
                self.said
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn type_line(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it has a keyboard");
        writeln!(stdin, "{text}").expect("it reads its keyboard");
    }

    /// STOP or CONT.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: there need not be a program of that name.
        let line = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &line]).status();
        assert!(status.is_ok_and(|status| status.success()), "{line} failed");
    }

    /// Waits for its end; whether that was a good one, and all that it had said.
    pub(crate) fn ended(mut self) -> (bool, Vec<String>) {
        let began = Instant::now();
        let status = loop {
            let status = self.child.try_wait().expect("a child of ours can be watched");
            if let Some(status) = status {
                break status;
            }
            self.said.extend(self.heard.try_iter());
            assert!(began.elapsed() < SOON, "{} does not end: {:?}", self.name, self.said);
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        self.said.extend(self.heard.iter());
        (status.success(), std::mem::take(&mut self.said))
    }

    /// SIGKILL. Gives all that it had said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        drop(self.child.kill());
        drop(self.child.wait());
        self.said.extend(self.heard.iter());
        std::mem::take(&mut self.said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program of the tutorials, attached to that node.
pub(crate) fn example(cluster: &Cluster, which: usize, program: &str, name: &str) -> Program {
    let socket = cluster.member(which).sandbox.join("immortals.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_amrita"));
    command.args(["example", program, "--instance", name, "--node"]).arg(socket);
    if program == "hello-server" {
        command.arg("--numbers");
    }
    Program::start(&format!("{name} on {}", cluster.member(which).id), &mut command)
}

/// Registers an instance with a replica on every node.
pub(crate) fn register(cluster: &Cluster, name: &str, more: &Value) -> Reply {
    let mut body = json!({ "name": name, "replicas": cluster.len() });
    for (field, value) in more.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    let reply = cluster.ask(0, &Ask::new("POST", "/core/immortals").json(&body));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply
}

/// The instance as a node that runs sees it.
pub(crate) fn instance(cluster: &Cluster, asked: usize, name: &str) -> Option<Value> {
    let reply = Ask::get(&format!("/core/immortals/{name}")).send(cluster.port(asked)).ok()?;
    (reply.status == 200).then_some(reply.body)
}

/// The role of the replica on that node.
pub(crate) fn role(state: &Value, node: &str) -> String {
    let replicas = state["replicas"].as_array().into_iter().flatten();
    let role = replicas.into_iter().find(|replica| replica["node"] == node);
    role.and_then(|replica| replica["role"].as_str()).unwrap_or("NONE").to_owned()
}

/// Waits until there is a primary and that many standbys, and gives the number of the primary's
/// node.
pub(crate) fn wait_until_served(
    cluster: &Cluster,
    asked: usize,
    name: &str,
    standbys: usize,
) -> usize {
    wait_until_moved(cluster, asked, name, None, standbys)
}

/// The same, when the primary is on another node than it was.
pub(crate) fn wait_until_moved(
    cluster: &Cluster,
    asked: usize,
    name: &str,
    from: Option<usize>,
    standbys: usize,
) -> usize {
    cluster.wait_for(&format!("'{name}' to have a primary and {standbys} standbys"), || {
        let state = instance(cluster, asked, name)?;
        let roles = (0..cluster.len()).map(|which| role(&state, &cluster.member(which).id));
        let roles: Vec<String> = roles.collect();
        let ready = roles.iter().filter(|role| *role == "STANDBY").count();
        let primary = roles.iter().position(|role| role == "PRIMARY")?;
        (ready >= standbys && Some(primary) != from).then_some(primary)
    })
}

/// The program as a person runs it, against this cluster.
pub(crate) fn amrita(cluster: &Cluster, words: &[&str]) -> Ended {
    let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let addresses: Vec<String> = cluster.ports().into_iter().map(uri).collect();
    arguments.extend(["--address".to_owned(), addresses.join(",")]);
    Cluster::run_to_its_end(&arguments)
}
