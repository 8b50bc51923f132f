//! The play: three nodes under load of documents and an immortal, and the power of all of them
//! fails, again and again.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use random::Random;
use serde_json::json;

use super::counter::Counter;
use super::known::{Known, PATIENCE, START_MAX};
use super::restore::{Taken, restore};
use crate::client::Client;

const NODES: usize = 3;

/// Each is written by one client.
const DOCUMENTS: usize = 6;

/// What is played.
pub struct Play {
    pub binary: PathBuf,
    pub folder: PathBuf,
    pub times: usize,
    pub seed: u64,
    /// Nothing is ever synced, whatever is said.
    pub lies: bool,
}

/// What was found in a play in which nothing was lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub losses: usize,
    /// Writes of documents.
    pub acknowledged: u64,
    /// Impulses of an immortal.
    pub counted: u64,
    pub taken: Taken,
    /// How long it took until all was served again, at worst.
    pub slowest: Duration,
}

/// What the clients know.
#[derive(Default)]
struct AllKnown {
    documents: Vec<Known>,
    counter: Known,
}

impl AllKnown {
    fn acknowledged(&self) -> u64 {
        self.documents.iter().map(|known| known.acknowledged).sum()
    }
}

struct Nodes<'a> {
    play: &'a Play,
    library: PathBuf,
    ports: Vec<u16>,
    running: Mutex<Vec<Child>>,
}

impl Play {
    /// Plays it. `say` gets a line now and then.
    ///
    /// # Errors
    /// What was lost, or what does not work.
    pub fn run(&self, say: &mut dyn FnMut(&str)) -> Result<Report, String> {
        let library = super::build(&self.folder)?;
        let mut random = Random::new(self.seed, "power");
        let ports = free_ports()?;
        let nodes = Nodes { play: self, library, ports, running: Mutex::default() };
        let sandboxes: Vec<PathBuf> = (0..NODES).map(|node| self.sandbox(node)).collect();
        let counter = Counter::start(&sandboxes)?;
        let mut known =
            AllKnown { documents: vec![Known::default(); DOCUMENTS], ..AllKnown::default() };
        let mut report = Report::default();
        for time in 1..=self.times {
            let began = Instant::now();
            nodes.start()?;
            let told = nodes.wait().and_then(|()| nodes.check_all(&mut known, &counter));
            told.map_err(|why| format!("after {} losses of power: {why}", report.losses))?;
            report.slowest = report.slowest.max(began.elapsed());
            let lasts = Duration::from_millis(random.between(100, 1_500));
            nodes.load_and_kill(&mut known, &counter, lasts);
            report.losses += 1;
            let mut taken = Taken::default();
            for node in 0..NODES {
                let (root, notes) = (self.sandbox(node), self.notes(node));
                let back = restore(&root, &notes, &mut random);
                taken.add(back.map_err(|error| format!("{}: {error}", root.display()))?);
            }
            report.taken.add(taken);
            (report.acknowledged, report.counted) =
                (known.acknowledged(), known.counter.acknowledged);
            say(&format!(
                "loss {time} of {}: {} bytes and {} names are gone; {} writes and {} impulses were \
                 acknowledged",
                self.times, taken.bytes, taken.names, report.acknowledged, report.counted
            ));
        }
        nodes.start()?;
        nodes.wait().and_then(|()| nodes.check_all(&mut known, &counter))?;
        Ok(report)
    }

    fn sandbox(&self, node: usize) -> PathBuf {
        self.folder.join(format!("n{}", node + 1))
    }

    fn notes(&self, node: usize) -> PathBuf {
        self.folder.join(format!("notes-{}", node + 1))
    }
}

/// Held together, so that no two are the same.
fn free_ports() -> Result<Vec<u16>, String> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string());
    let listeners = (0..NODES).map(bind).collect::<Result<Vec<_>, _>>()?;
    let port = |it: &TcpListener| it.local_addr().map_err(|error| error.to_string());
    listeners.iter().map(|it| port(it).map(|address| address.port())).collect()
}

impl Nodes<'_> {
    fn address(&self, node: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[node]).into()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Child>> {
        self.running.lock().expect("nobody panics with it")
    }

    fn start(&self) -> Result<(), String> {
        let peers: Vec<String> =
            self.ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        for node in 0..NODES {
            let log = self.play.folder.join(format!("n{}.log", node + 1));
            let log = File::options().create(true).append(true).open(log);
            let log = log.map_err(|error| error.to_string())?;
            let mut command = Command::new(&self.play.binary);
            let sandbox = self.play.sandbox(node);
            super::watch(&mut command, &self.library, &sandbox, &self.play.notes(node))?;
            if self.play.lies {
                command.env("UNSYNCED_LIES", "1");
            }
            command
                .args(["node", "--id", &format!("n{}", node + 1)])
                .args(["--port", &self.ports[node].to_string()])
                .args(["--peer-nodes", &peers.join(",")])
                .arg("--sandbox")
                .arg(sandbox)
                // It ends with this process.
                .arg("--stop-with-stdin")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(log);
            let child = command.spawn().map_err(|error| format!("a node: {error}"))?;
            self.running().push(child);
        }
        Ok(())
    }

    /// All at once.
    fn kill(&self) {
        let mut running = self.running();
        for child in running.iter_mut() {
            // It may have ended by itself, which the next wait will tell.
            drop(child.kill());
        }
        for mut child in running.drain(..) {
            drop(child.wait());
        }
    }

    fn wait(&self) -> Result<(), String> {
        let began = Instant::now();
        let mut clients: Vec<Client> =
            (0..NODES).map(|node| Client::new(self.address(node))).collect();
        let is_served = |client: &mut Client| {
            let path = ("GET", "/core/node-groups/default");
            let Some(group) = client.ask(path, None, None, PATIENCE) else { return false };
            let nodes = group.body["nodes"].as_object().cloned().unwrap_or_default();
            let served = client.ask(("GET", "/core/examples/available"), None, None, PATIENCE);
            nodes.len() == NODES
                && nodes.values().all(|node| node["status"] == "AVAILABLE")
                && served.is_some_and(|served| served.status == 200)
        };
        while !clients.iter_mut().all(is_served) {
            if began.elapsed() > START_MAX {
                return Err(format!("not served within {} s", START_MAX.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn check_all(&self, known: &mut AllKnown, counter: &Counter) -> Result<(), String> {
        self.check(&mut known.documents)?;
        let node = self.address(usize::try_from(known.counter.sent).unwrap_or(0) % NODES);
        counter.register(node)?;
        counter.check(&mut known.counter, node)
    }

    /// What was acknowledged is there, and nothing twice.
    fn check(&self, known: &mut [Known]) -> Result<(), String> {
        for (document, known) in known.iter_mut().enumerate() {
            let path = format!("/core/examples/d{document}");
            let mut client = Client::new(self.address(document % NODES));
            let began = Instant::now();
            let answer = loop {
                match client.ask(("GET", &path), None, None, PATIENCE) {
                    Some(answer) if answer.status < 500 => break answer,
                    _ if began.elapsed() > START_MAX => return Err(format!("no answer to {path}")),
                    _ => std::thread::sleep(Duration::from_millis(20)),
                }
            };
            if answer.status == 404 && !known.is_made {
                continue;
            }
            let version = answer.body["documentVersion"].as_u64();
            let Some(version) = version.filter(|_| answer.status == 200) else {
                return Err(format!("{path} was made, and now: {} {}", answer.status, answer.body));
            };
            let expected = known.acknowledged..=known.sent;
            if !expected.contains(&version) || answer.body["name"] != format!("v{version}") {
                return Err(format!(
                    "{path} was acknowledged up to version {} and sent up to {}, and now it is {}",
                    known.acknowledged, known.sent, answer.body
                ));
            }
            *known = Known { acknowledged: version, is_made: true, ..*known };
        }
        Ok(())
    }

    /// Clients write, and in the middle of it the power goes.
    fn load_and_kill(&self, known: &mut AllKnown, counter: &Counter, lasts: Duration) {
        let is_over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let of_counter = &mut known.counter;
            scope.spawn(move || self.count(counter, of_counter, is_over));
            for (document, known) in known.documents.iter_mut().enumerate() {
                scope.spawn(move || self.write(document, known, is_over));
            }
            std::thread::sleep(lasts);
            self.kill();
            is_over.store(true, Ordering::Relaxed);
        });
    }

    fn count(&self, counter: &Counter, known: &mut Known, is_over: &AtomicBool) {
        let mut clients: Vec<Client> =
            (0..NODES).map(|node| Client::new(self.address(node))).collect();
        let mut node = 0;
        while !is_over.load(Ordering::Relaxed) {
            node = (node + 1) % NODES;
            counter.add(known, &mut clients[node]);
        }
    }

    fn write(&self, document: usize, known: &mut Known, is_over: &AtomicBool) {
        let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
        let mut node = document;
        while !is_over.load(Ordering::Relaxed) {
            let next = if known.is_made { known.acknowledged + 1 } else { 0 };
            known.sent = known.sent.max(next);
            let mut body = json!({ "name": format!("v{next}") });
            let path = format!("/core/examples/d{document}");
            let ask = if next == 0 {
                body["documentSelfLink"] = format!("d{document}").into();
                ("POST", "/core/examples")
            } else {
                ("PATCH", path.as_str())
            };
            node = (node + 1) % NODES;
            let client = clients.entry(node).or_insert_with(|| Client::new(self.address(node)));
            let key = format!("d{document}-{next}");
            let answer = client.ask(ask, Some(&key), Some(&body), PATIENCE);
            if answer.is_some_and(|answer| answer.status == 200) {
                (known.acknowledged, known.is_made) = (next, true);
            }
        }
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// For a play in a folder that goes afterwards.
impl Play {
    pub fn in_folder(binary: &Path, folder: &Path, times: usize, seed: u64) -> Self {
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Self { binary, folder, times, seed, lies: false }
    }
}
