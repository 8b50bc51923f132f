//! The nodes: one process each, in a namespace of its own, all behind one switch.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use torture::client::Client;

use crate::machine::Machine;
use crate::spaces::{Space, address};
use crate::switch::Switch;

const PORT: u16 = 8000;

/// How long the nodes may take to serve.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) switch: Switch,
    /// Of the clients, then of the nodes.
    spaces: Vec<Space>,
    nodes: Vec<Option<Child>>,
    machines: Vec<Machine>,
    folder: TempDir,
    binary: PathBuf,
}

/// Where a node takes requests.
pub(crate) fn address_of(node: usize) -> SocketAddr {
    (address(node), PORT).into()
}

/// The program, which stands beside this one unless `AMRITA_BIN` says where.
pub(crate) fn binary() -> Result<PathBuf, String> {
    let ourselves = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = ourselves.with_file_name("amrita");
    Ok(std::env::var_os("AMRITA_BIN").map_or(beside, PathBuf::from))
}

impl Cluster {
    /// Nodes are numbered from 1 on.
    pub(crate) fn start(count: usize) -> Result<Self, String> {
        let mut spaces = vec![Space::own()];
        for _ in 0..count {
            spaces.push(Space::new()?);
        }
        let switch = Switch::new(&spaces)?;
        let binary = binary()?;
        let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
        let nodes = (0..=count).map(|_| None).collect();
        let machine = |number| Machine::new(folder.path(), &format!("n{number}"));
        let machines = (0..=count).map(machine).collect::<Result<_, _>>()?;
        let mut cluster = Self { switch, spaces, nodes, machines, folder, binary };
        for node in cluster.all() {
            cluster.begin(node)?;
        }
        cluster.wait(START_MAX)?;
        Ok(cluster)
    }

    pub(crate) fn all(&self) -> std::ops::Range<usize> {
        1..self.nodes.len()
    }

    pub(crate) fn begin(&mut self, node: usize) -> Result<(), String> {
        let url = |node: usize| format!("http://{}", address_of(node));
        let peers: Vec<String> = self.all().map(url).collect();
        let mut command = self.spaces[node].command(&self.binary.to_string_lossy());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("n{node}.log")))
            .map_err(|error| format!("a node's log: {error}"))?;
        command
            .args(["node", "--id", &format!("n{node}"), "--port", &PORT.to_string()])
            .args(["--bind-address", &address(node).to_string()])
            .args(["--peer-nodes", &peers.join(","), "--insecure"])
            .arg("--sandbox")
            .arg(self.machines[node].sandbox())
            .stdout(Stdio::null())
            .stderr(log);
        self.machines[node].hold(&mut command);
        let child = command.spawn().map_err(|error| format!("a node does not start: {error}"))?;
        self.nodes[node] = Some(child);
        Ok(())
    }

    pub(crate) fn machine(&self, node: usize) -> &Machine {
        &self.machines[node]
    }

    /// Waits until the process of a node has ended by itself.
    pub(crate) fn has_ended(&mut self, node: usize, patience: Duration) -> Result<(), String> {
        let begun = Instant::now();
        while let Some(child) = &mut self.nodes[node] {
            if child.try_wait().map_err(|error| error.to_string())?.is_some() {
                self.nodes[node] = None;
            } else if begun.elapsed() > patience {
                return Err(format!("n{node} does not end within {} s", patience.as_secs()));
            } else {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    pub(crate) fn signal(&mut self, node: usize, signal: Signal) {
        if let Some(child) = &mut self.nodes[node] {
            let process = Pid::from_raw(child.id().cast_signed()).expect("a process has a number");
            kill_process(process, signal).expect("it was not waited for, so it is still known");
            if signal == Signal::KILL {
                drop(child.wait());
                self.nodes[node] = None;
            }
        }
    }

    /// Waits until every node sees every other one.
    pub(crate) fn wait(&self, patience: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        let mut clients: Vec<Client> =
            self.all().map(|node| Client::new(address_of(node))).collect();
        let mut is_whole = |client: &mut Client| {
            let short = Duration::from_millis(500);
            let path = ("GET", "/core/node-groups/default");
            let Some(group) = client.ask(path, None, None, short) else { return false };
            let nodes = group.body["nodes"].as_object().cloned().unwrap_or_default();
            let served = client.ask(("GET", "/core/examples/available"), None, None, short);
            nodes.len() == self.nodes.len() - 1
                && nodes.values().all(|node| node["status"] == "AVAILABLE")
                && served.is_some_and(|served| served.status == 200)
        };
        while !clients.iter_mut().all(&mut is_whole) {
            if begun.elapsed() > patience {
                return Err(format!("the cluster is not whole within {} s", patience.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(begun.elapsed())
    }

    /// How many partitions each node owns, as some node sees it: the busiest one.
    pub(crate) fn busiest(&self) -> usize {
        let short = Duration::from_millis(500);
        let path = ("GET", "/core/node-groups/default");
        let seen =
            self.all().find_map(|node| Client::new(address_of(node)).ask(path, None, None, short));
        let owners = seen.map(|seen| seen.body["partitionOwners"].clone()).unwrap_or_default();
        let owners = owners.as_array().cloned().unwrap_or_default();
        let count = |node: usize| {
            let name = format!("n{node}");
            owners.iter().filter(|owner| **owner == name.as_str()).count()
        };
        self.all().max_by_key(|node| count(*node)).expect("there are nodes")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.all() {
            self.signal(node, Signal::KILL);
        }
        if std::env::var_os("TORTURE_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            crate::say(&format!("kept: {}", self.folder.path().display()));
        }
    }
}
