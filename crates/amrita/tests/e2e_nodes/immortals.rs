//! Immortals that die: programs and nodes are killed, stopped and cut off while numbered messages
//! come. Each message is handled once, in order.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::programs::{
    Program, amrita, example, instance, register, role, wait_until_moved, wait_until_served,
};

/// How many deaths the big test brings about.
const DEATHS: usize = 8;

/// A server and a client that keeps sending to it, with a copy of both beside each node.
struct Stage {
    cluster: Cluster,
    servers: Vec<Option<Program>>,
    clients: Vec<Option<Program>>,
    /// What copies of the server had handled when they died.
    lives: Vec<Vec<u64>>,
    /// How often a living copy had to load anew.
    reloads: usize,
}

/// The numbers of the numbered messages that a server has printed.
fn handled(lines: &[String]) -> Vec<u64> {
    let number = |line: &String| {
        let (_, message) = line.split_once(" client: Number ")?;
        message.trim_end_matches('!').parse().ok()
    };
    lines.iter().filter_map(number).collect()
}

/// How many of its messages a client has seen acknowledged, in order.
fn acknowledged(lines: &[String]) -> Vec<u64> {
    let number = |line: &String| {
        let (_, rest) = line.split_once("Message #")?;
        rest.split(' ').next()?.parse().ok()
    };
    lines.iter().filter_map(number).collect()
}

fn in_order(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

impl Stage {
    fn set() -> Self {
        let cluster = Cluster::started(3);
        register(&cluster, "server", &json!({}));
        register(&cluster, "client", &json!({}));
        let mut stage = Self {
            cluster,
            servers: Vec::new(),
            clients: Vec::new(),
            lives: Vec::new(),
            reloads: 0,
        };
        for which in 0..3 {
            stage.servers.push(Some(stage.server(which)));
            stage.clients.push(Some(stage.client(which)));
        }
        stage
    }

    fn server(&self, which: usize) -> Program {
        example(&self.cluster, which, "hello-server", "server")
    }

    fn client(&self, which: usize) -> Program {
        example(&self.cluster, which, "hello-numbers", "client")
    }

    /// The last number that any copy of the client has seen acknowledged.
    fn last(&mut self) -> u64 {
        let clients = self.clients.iter_mut().flatten();
        let lasts = clients.map(|client| acknowledged(client.said()).last().copied().unwrap_or(0));
        lasts.max().unwrap_or(0)
    }

    fn wait_for_more(&mut self, count: u64) {
        let (began, from) = (Instant::now(), self.last());
        while self.last() < from + count {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing more than {}", self.last());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill_server(&mut self, which: usize) {
        let server = self.servers[which].take().expect("it runs");
        self.lives.push(handled(&server.kill()));
    }

    fn kill_all_at(&mut self, which: usize) {
        self.cluster.kill(which);
        self.kill_server(which);
        let client = self.clients[which].take().expect("it runs");
        assert!(in_order(&acknowledged(&client.kill())));
    }

    fn start_all_at(&mut self, which: usize) {
        self.cluster.start(which);
        self.servers[which] = Some(self.server(which));
        self.clients[which] = Some(self.client(which));
    }

    /// No more messages are sent; each was handled once, in order, by every copy in every life.
    fn all_is_well(mut self) {
        let stop = amrita(&self.cluster, &["immortal", "send", "client", "9"]);
        assert!(stop.status.success(), "{}", stop.said);
        let client = self.clients[0].as_mut().expect("it runs");
        client.wait_for("messages in all");
        let last = self.last();
        for server in self.servers.iter_mut().flatten() {
            server.wait_for(&format!("Number {last}!"));
        }
        let state = instance(&self.cluster, 0, "server").expect("it is registered");
        // One more than the numbers: with the first it made itself known.
        assert_eq!(state["senders"][0]["received"], last + 1, "{state}");
        let living = self.servers.iter_mut().flatten().map(|server| handled(server.said()));
        let mut reloads = 0;
        for life in self.lives.drain(..).chain(living) {
            // One that had to load anew prints once more what it replays.
            let sessions: Vec<&[u64]> = life.chunk_by(|one, next| one < next).collect();
            reloads += sessions.len().saturating_sub(1);
            assert!(sessions.into_iter().all(in_order), "{life:?}");
        }
        assert_eq!(reloads, self.reloads);
        for client in self.clients.iter_mut().flatten() {
            // A standby may hear of the last message a moment later.
            client.wait_for(&format!("acknowledges processing {last} messages"));
            let told = acknowledged(client.said());
            assert!(in_order(&told) && told.last() == Some(&last), "{told:?}: {:?}", client.said());
        }
    }
}

#[test]
fn numbered_messages_are_handled_once_whatever_dies() {
    let mut stage = Stage::set();
    for death in 0..DEATHS {
        let primary = wait_until_served(&stage.cluster, death % 3, "server", 2);
        wait_until_served(&stage.cluster, death % 3, "client", 2);
        stage.wait_for_more(10);
        match death % 4 {
            0 => stage.kill_server(primary),
            1 => stage.kill_all_at(primary),
            // A standby.
            2 => stage.kill_all_at((primary + 1) % 3),
            // All of them at once, with everything.
            _ => (0..3).for_each(|which| stage.kill_all_at(which)),
        }
        std::thread::sleep(Duration::from_millis((death as u64 * 37) % 120));
        match death % 4 {
            0 => stage.servers[primary] = Some(stage.server(primary)),
            1 => stage.start_all_at(primary),
            2 => stage.start_all_at((primary + 1) % 3),
            _ => (0..3).for_each(|which| stage.start_all_at(which)),
        }
        stage.cluster.wait_until_whole();
        stage.wait_for_more(10);
    }
    stage.all_is_well();
}

#[test]
fn a_primary_that_hangs_is_replaced_and_a_checkpoint_shortens_the_log() {
    let mut stage = Stage::set();
    let primary = wait_until_served(&stage.cluster, 0, "server", 2);
    stage.wait_for_more(10);
    stage.servers[primary].as_ref().expect("it runs").signal("STOP");
    let next = wait_until_moved(&stage.cluster, 0, "server", Some(primary), 1);
    stage.wait_for_more(10);
    // It wakes, and finds that it is not attached any more; it attaches again, as a standby.
    stage.servers[primary].as_ref().expect("it runs").signal("CONT");
    wait_until_served(&stage.cluster, next, "server", 2);
    let taken = amrita(&stage.cluster, &["immortal", "checkpoint", "server"]);
    assert!(taken.status.success() && taken.said.contains("has a checkpoint"), "{}", taken.said);
    stage.cluster.wait_for("the checkpoint at every replica", || {
        let state = instance(&stage.cluster, next, "server")?;
        let replicas = state["replicas"].as_array()?;
        let has_it = |one: &Value| one["checkpoint"]["input"].as_u64().is_some_and(|at| at > 10);
        replicas.iter().all(has_it).then_some(())
    });
    stage.kill_server(primary);
    let to = format!("n{}", primary + 1);
    // The owner hears of the death a moment later; until then it shows a standby that is none.
    stage.cluster.wait_for("the owner to know that the standby died", || {
        (role(&instance(&stage.cluster, next, "server")?, &to) != "STANDBY").then_some(())
    });
    stage.servers[primary] = Some(stage.server(primary));
    wait_until_served(&stage.cluster, next, "server", 2);
    let moved = amrita(&stage.cluster, &["immortal", "move", "server", &to]);
    assert!(moved.status.success() && moved.said.contains(&to), "{}", moved.said);
    stage.wait_for_more(10);
    let life = handled(stage.servers[primary].as_mut().expect("it runs").said());
    assert!(
        life.first().is_some_and(|first| *first > 10),
        "it began from the checkpoint: {life:?}"
    );
    stage.reloads = 1;
    stage.all_is_well();
}

#[test]
fn a_destination_that_is_registered_later_gets_what_waited_for_it() {
    let cluster = Cluster::started(1);
    register(&cluster, "client", &json!({}));
    let mut client = example(&cluster, 0, "hello-numbers", "client");
    wait_until_served(&cluster, 0, "client", 0);
    cluster.wait_for("the first message to wait", || {
        let state = instance(&cluster, 0, "client")?;
        let output = &state["outputs"][0];
        (output["to"] == "server" && output["said"] == 1 && output["registered"] == false)
            .then_some(())
    });
    let shown = amrita(&cluster, &["immortal", "show", "client"]);
    assert!(shown.said.contains("amrita immortal register server"), "{}", shown.said);
    register(&cluster, "server", &json!({ "paused": true }));
    let mut server = example(&cluster, 0, "hello-server", "server");
    std::thread::sleep(Duration::from_millis(500));
    assert!(handled(server.said()).is_empty(), "it is paused");
    let state = instance(&cluster, 0, "server").expect("it is registered");
    let (role, inputs) = (role(&state, "n1"), &state["inputs"]);
    assert_eq!((role.as_str(), inputs), ("RECOVERING", &json!(0)), "{state}");
    let resumed = amrita(&cluster, &["immortal", "set", "server", "--resume"]);
    assert!(resumed.status.success(), "{}", resumed.said);
    server.wait_for("#1 client: Number 1!");
    client.wait_for("Message #1 completed");
}
