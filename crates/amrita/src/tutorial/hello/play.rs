//! The steps of the story.

use std::time::{Duration, Instant};

use super::transcript::{Acknowledged, Handled, Life};
use crate::tutorial::ask::until;
use crate::tutorial::cluster::Cluster;
use crate::tutorial::program::Program;
use crate::tutorial::shell::{amrita, instance, primary, replica, standbys};
use crate::tutorial::story::{Story, line, shown};

/// How long anything may take that is awaited.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// This many acknowledged messages show that the next primary serves.
const SERVED_COUNT: usize = 25;

/// How many planned moves there are.
const MOVES: usize = 3;

/// What goes when a primary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    Program,
    Node,
}

pub(super) struct Play {
    story: Story,
    cluster: Cluster,
    failovers: usize,
    /// The server's copy on each node.
    servers: Vec<Option<Program>>,
    /// The copy on each node of the client that keeps sending.
    clients: Vec<Option<Program>>,
    /// The lives of copies of the server that are over.
    lives: Vec<Life>,
    acknowledged: Acknowledged,
    times: Vec<(Goes, Duration)>,
}

impl Play {
    pub(super) fn new(story: Story, cluster: Cluster, failovers: usize) -> Self {
        let none = || (0..cluster.len()).map(|_| None).collect();
        Self {
            story,
            failovers,
            servers: none(),
            clients: none(),
            lives: Vec::new(),
            acknowledged: Acknowledged::default(),
            times: Vec::new(),
            cluster,
        }
    }

    /// The folder stays: what the nodes and programs wrote may tell why.
    pub(super) fn broke(&mut self, why: &str) -> String {
        self.cluster.keep_folder();
        self.story.where_it_broke(why)
    }

    pub(super) async fn all(&mut self) -> Result<(), String> {
        self.nodes_start().await?;
        self.instances_are_registered().await?;
        self.copies_of_the_server_start().await?;
        self.client1_is_killed_at_its_prompt().await?;
        self.client2_reads_the_keyboard().await?;
        self.client3_gets_answers().await?;
        self.a_client_keeps_sending().await?;
        self.primaries_die().await?;
        self.primaries_move().await?;
        self.every_message_was_handled_once().await?;
        self.story.close_step();
        Ok(())
    }

    async fn nodes_start(&mut self) -> Result<(), String> {
        self.story.step("three nodes");
        for which in 0..self.cluster.len() {
            self.story.shell(&self.cluster.command_line(which));
        }
        let took = self.cluster.start_all().await?;
        self.story.holds(&format!("ready after {}", shown(took)));
        self.story.say("From now on the tools know where they are:");
        self.story.shell(&format!("export AMRITA_ADDRESS={}", self.cluster.addresses()));
        Ok(())
    }

    async fn instances_are_registered(&mut self) -> Result<(), String> {
        self.story.step("a server and its clients are registered");
        self.story.say(
            "An instance is a name, a log on several nodes, and a program that can be started \
             beside each of them. The server gets replicas on all three nodes.",
        );
        let nodes = self.node_ids().join(",");
        amrita(
            &self.story,
            &self.cluster,
            &["immortal", "register", "server", "--replicas", &nodes],
        )
        .await?;
        for client in ["client1", "client2", "client3", "client"] {
            amrita(&self.story, &self.cluster, &["immortal", "register", client]).await?;
        }
        let words = amrita(&self.story, &self.cluster, &["immortal", "list"]).await?;
        if words.lines().filter(|row| row.contains("0 of 3 attached")).count() != 5 {
            return Err(format!("expected five instances that wait for programs:\n{words}"));
        }
        self.story.holds("five instances wait for their programs");
        Ok(())
    }

    async fn copies_of_the_server_start(&mut self) -> Result<(), String> {
        self.story.step("three copies of the server");
        self.story.say(
            "The program is examples/hello/src/server.rs: some forty lines, and not one of them is \
             about failures. Each copy connects to the node beside it. All are given the same \
             messages in the same order, so all are equal; one is the primary, the others stand \
             by.",
        );
        for which in 0..self.cluster.len() {
            let program = self.start("hello-server", "server", which)?;
            self.servers[which] = Some(program);
        }
        self.wait_until_served("server", 2).await?;
        amrita(&self.story, &self.cluster, &["immortal", "show", "server"]).await?;
        self.story.holds("one primary, two standbys");
        Ok(())
    }

    async fn client1_is_killed_at_its_prompt(&mut self) -> Result<(), String> {
        self.story.step("Client1 is killed at its prompt, and started again");
        self.story.say(
            "It sends one message, waits for Enter, and then sends two more. Killed while it waits \
             and started again, it knows where it was: the server gets three messages in all, not \
             four.",
        );
        let mut client = self.start("hello-client1", "client1", 0)?;
        client.wait_for("Press enter to continue", 1).await?;
        self.servers_have("Hello World 1!", 1).await?;
        self.story.shell(&format!("kill -KILL {}", client.process()));
        client.kill()?;
        client.last_said()?;
        let mut client = self.start("hello-client1", "client1", 0)?;
        client.wait_for("Press enter to continue", 1).await?;
        self.story.row("(Enter)");
        client.type_line("")?;
        client.wait_for("Press enter to shutdown", 1).await?;
        self.servers_have("Hello World 3!", 1).await?;
        self.servers_handled("client1", 3)?;
        self.story.row("(Enter)");
        client.type_line("")?;
        client.ended().await?;
        self.story.holds("every copy of the server has printed Hello World 1, 2 and 3, each once");
        Ok(())
    }

    async fn client2_reads_the_keyboard(&mut self) -> Result<(), String> {
        self.story.step("Client2 sends what is typed");
        self.story.say(
            "What comes from outside is an impulse: it is logged first, and then handled by every \
             copy. Once it is logged, it is not lost.",
        );
        let mut client = self.start("hello-client2", "client2", 1)?;
        client.wait_for("Enter a message", 1).await?;
        for text in ["first line", "second line"] {
            self.story.row(&format!("(typed) {text}"));
            client.type_line(text)?;
            self.servers_have(text, 1).await?;
        }
        self.story.row("(typed) an empty line");
        client.type_line("")?;
        client.ended().await?;
        self.story.holds("every copy of the server has printed both lines, each once");
        Ok(())
    }

    async fn client3_gets_answers(&mut self) -> Result<(), String> {
        self.story.step("Client3 gets an answer to each message");
        let mut client = self.start("hello-client3", "client3", 2)?;
        client.wait_for("Server acknowledges processing", 3).await?;
        for said in client.said().iter().filter(|line| !line.text.is_empty()) {
            self.story.row(&said.text);
        }
        client.ended().await?;
        self.story.holds("three messages, three answers, and its end");
        Ok(())
    }

    async fn a_client_keeps_sending(&mut self) -> Result<(), String> {
        self.story.step("a client that keeps sending numbered messages");
        self.story.say(
            "It has three copies, too, because whole nodes will go. It sends message n+1 when \
             message n is acknowledged, as fast as that goes; the server answers with how many it \
             has handled.",
        );
        for which in 0..self.cluster.len() {
            let program = self.start("hello-numbers", "client", which)?;
            self.clients[which] = Some(program);
        }
        self.wait_until_served("client", 2).await?;
        let began = Instant::now();
        let from = self.acknowledged.count();
        self.wait_for_more(200).await?;
        let rate = (self.acknowledged.count() - from) as f64 / began.elapsed().as_secs_f64();
        self.story.holds(&format!("about {rate:.0} messages a second, each of them acknowledged"));
        Ok(())
    }

    async fn primaries_die(&mut self) -> Result<(), String> {
        self.story.step(&format!("the primary dies, {} times", self.failovers));
        self.story.say(
            "In turn its program is killed with SIGKILL, and its whole node with all programs \
             beside it. The time is from the kill to the first acknowledgement, as the client \
             heard it, of a message that the dead primary had not handled.",
        );
        for time in 0..self.failovers {
            let goes = if time % 2 == 0 { Goes::Program } else { Goes::Node };
            self.primary_dies(time + 1, goes)
                .await
                .map_err(|why| format!("failover {}: {why}", time + 1))?;
        }
        for goes in [Goes::Program, Goes::Node] {
            let mut times: Vec<Duration> = self
                .times
                .iter()
                .filter(|(what, _)| *what == goes)
                .map(|(_, took)| *took)
                .collect();
            times.sort();
            let Some(worst) = times.last() else { continue };
            let middle = times[times.len() / 2];
            let what = if goes == Goes::Program { "program" } else { "whole node" };
            self.story.holds(&format!(
                "death of the {what}, {} times: {} in the middle, {} at worst",
                times.len(),
                shown(middle),
                shown(*worst)
            ));
        }
        Ok(())
    }

    async fn primary_dies(&mut self, time: usize, goes: Goes) -> Result<(), String> {
        let which = self.wait_until_served("server", 2).await?;
        self.wait_until_served("client", 2).await?;
        self.wait_for_more(SERVED_COUNT).await?;
        let id = self.cluster.id(which).to_owned();
        let server = self.servers[which].as_mut().ok_or("the primary has no program")?;
        let process = server.process();
        let before = self.acknowledged.count() as u64;
        let kill = Instant::now();
        let what = match goes {
            Goes::Program => {
                server.kill()?;
                format!("the program on {id} (kill -KILL {process})")
            }
            Goes::Node => {
                let node = self.cluster.process(which)?;
                self.cluster.kill(which)?;
                server.kill()?;
                if let Some(client) = &mut self.clients[which] {
                    client.kill()?;
                }
                format!("node {id} and its programs (kill -KILL {node} ...)")
            }
        };
        let asked = self.a_node_that_runs()?;
        let next = until(DONE_WITHIN, async || {
            let state = instance(&self.cluster, asked, "server").await?;
            let next = primary(&state).filter(|next| *next != id);
            next.ok_or_else(|| format!("no other primary: {state}"))
        })
        .await?;
        self.wait_for_more(SERVED_COUNT).await?;
        let last = self.life_is_over(which)?.unwrap_or(before);
        let took = self.acknowledged.after(last, kill).ok_or("nothing was acknowledged")?;
        self.times.push((goes, took));
        let count = self.acknowledged.count();
        self.story.row(&format!(
            "{time:>2}: {what}; {next} serves after {} ({count} messages so far)",
            shown(took)
        ));
        self.goes_back(which, goes).await
    }

    /// Keeps what a copy of the server that was killed has handled, and gives the last number of
    /// it.
    fn life_is_over(&mut self, which: usize) -> Result<Option<u64>, String> {
        let mut server = self.servers[which].take().ok_or("it has no program")?;
        let life = Life::of(self.cluster.id(which), server.last_said()?);
        let last = life.last_number();
        self.lives.push(life);
        Ok(last)
    }

    /// What was killed is started again, and is a standby.
    async fn goes_back(&mut self, which: usize, goes: Goes) -> Result<(), String> {
        if goes == Goes::Node {
            self.hear_clients()?;
            self.clients[which] = None;
            self.cluster.start(which)?;
            for node in 0..self.cluster.len() {
                self.cluster.wait_until_available(node, self.cluster.len()).await?;
            }
            self.clients[which] = Some(self.start_silently("hello-numbers", "client", which)?);
        }
        self.servers[which] = Some(self.start_silently("hello-server", "server", which)?);
        Ok(())
    }

    async fn primaries_move(&mut self) -> Result<(), String> {
        self.story.step("the primary moves, as planned");
        self.story.say(
            "Before a node is stopped for repair, its primary goes elsewhere by itself; by hand:",
        );
        let mut worst = Duration::ZERO;
        for _ in 0..MOVES {
            let from = self.wait_until_served("server", 2).await?;
            self.wait_until_served("client", 2).await?;
            let to = self.cluster.id((from + 1) % self.cluster.len()).to_owned();
            let began = Instant::now();
            amrita(&self.story, &self.cluster, &["immortal", "move", "server", &to]).await?;
            self.wait_for_more(SERVED_COUNT).await?;
            let silence = self.acknowledged.silence_since(began);
            let took = silence.ok_or("nothing was acknowledged")?;
            self.story.row(&format!("the client heard nothing for {}", shown(took)));
            worst = worst.max(took);
        }
        self.story.holds(&format!("{MOVES} moves, {} of silence at worst", shown(worst)));
        Ok(())
    }

    async fn every_message_was_handled_once(&mut self) -> Result<(), String> {
        self.story.step("every message was handled once, in order");
        amrita(&self.story, &self.cluster, &["immortal", "send", "client", "9"]).await?;
        let last = self.wait_for_the_last().await?;
        for which in 0..self.cluster.len() {
            let Some(server) = &mut self.servers[which] else { continue };
            server.wait_for(&format!("Number {last}!"), 1).await?;
            let life = Life::of(self.cluster.id(which), server.said());
            self.lives.push(life);
        }
        for life in &self.lives {
            life.check()?;
        }
        self.story.holds(&format!(
            "{} lives of copies of the server: in each, message after message, none missing, none \
             twice",
            self.lives.len()
        ));
        self.story
            .holds(&format!("all of the {last} messages were acknowledged with the right count"));
        let asked = self.a_node_that_runs()?;
        let state = until(DONE_WITHIN, async || {
            let state = instance(&self.cluster, asked, "server").await?;
            let behind = self.node_ids().into_iter().find(|id| replica(&state, id)["lag"] != 0);
            match behind {
                None => Ok(state),
                Some(id) => Err(format!("the copy on {id} is behind: {state}")),
            }
        })
        .await?;
        self.story.holds(&format!("all copies have handled all {} inputs", state["inputs"]));
        amrita(&self.story, &self.cluster, &["immortal", "show", "server"]).await?;
        Ok(())
    }

    async fn wait_for_the_last(&mut self) -> Result<u64, String> {
        let began = Instant::now();
        loop {
            self.hear_clients()?;
            for client in self.clients.iter_mut().flatten() {
                let last =
                    client.said().iter().rev().find(|line| line.text.contains("messages in all"));
                let number = last.and_then(|line| line.text.split(' ').nth(1)?.parse().ok());
                if let Some(number) = number {
                    let number: u64 = number;
                    if self.acknowledged.count() as u64 == number {
                        return Ok(number);
                    }
                }
            }
            if began.elapsed() > DONE_WITHIN {
                return Err("the client has not come to its end".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    // What the steps are made of.

    fn node_ids(&self) -> Vec<String> {
        (0..self.cluster.len()).map(|which| self.cluster.id(which).to_owned()).collect()
    }

    fn start(&self, program: &str, name: &str, which: usize) -> Result<Program, String> {
        self.story.shell(&format!("amrita {}", self.arguments(program, name, which).join(" ")));
        self.start_silently(program, name, which)
    }

    fn arguments(&self, program: &str, name: &str, which: usize) -> Vec<String> {
        let socket = self.cluster.sandbox(which).join("immortals.sock").display().to_string();
        let mut arguments = vec!["example", program, "--node", &socket, "--instance", name];
        if program == "hello-server" {
            arguments.push("--numbers");
        }
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn start_silently(&self, program: &str, name: &str, which: usize) -> Result<Program, String> {
        let id = self.cluster.id(which);
        let log = self.cluster.folder().join(format!("{name}-{id}.log"));
        let arguments = self.arguments(program, name, which);
        Program::start(&format!("{name} on {id}"), self.cluster.program(), &arguments, &log)
    }

    fn a_node_that_runs(&self) -> Result<usize, String> {
        self.cluster.running().first().copied().ok_or_else(|| "no node runs".to_owned())
    }

    /// Until an instance has a primary and that many standbys; gives the node of the primary.
    async fn wait_until_served(&mut self, name: &str, wanted: usize) -> Result<usize, String> {
        let asked = self.a_node_that_runs()?;
        let found = until(DONE_WITHIN, async || {
            let state = instance(&self.cluster, asked, name).await?;
            match primary(&state).and_then(|node| self.cluster.which(&node)) {
                Some(which) if standbys(&state) >= wanted => Ok(which),
                _ => Err(format!("'{name}' has no primary with {wanted} standbys: {state}")),
            }
        })
        .await;
        self.cluster.all_well()?;
        found
    }

    async fn servers_have(&mut self, words: &str, times: usize) -> Result<(), String> {
        for server in self.servers.iter_mut().flatten() {
            server.wait_for(words, times).await?;
        }
        Ok(())
    }

    /// All copies of the server have handled that many messages, all of this sender.
    fn servers_handled(&mut self, sender: &str, count: usize) -> Result<(), String> {
        for server in self.servers.iter_mut().flatten() {
            let lines = server.said().iter();
            let handled: Vec<Handled> =
                lines.filter_map(|line| Handled::read(&line.text)).collect();
            if handled.len() != count || handled.iter().any(|one| one.sender != sender) {
                return Err(format!("{} has handled {handled:?}", server.name));
            }
        }
        Ok(())
    }

    /// Takes in what the client's copies have said.
    fn hear_clients(&mut self) -> Result<(), String> {
        let mut news: Vec<_> = self.clients.iter_mut().flatten().flat_map(Program::news).collect();
        news.sort_by_key(|line| line.at);
        news.iter().try_for_each(|line| self.acknowledged.take(line))
    }

    async fn wait_for_more(&mut self, count: usize) -> Result<(), String> {
        let began = Instant::now();
        self.hear_clients()?;
        let wanted = self.acknowledged.count() + count;
        while self.acknowledged.count() < wanted {
            if began.elapsed() > DONE_WITHIN {
                return Err(format!(
                    "{} messages were acknowledged within {DONE_WITHIN:?}, not {count}",
                    self.acknowledged.count() + count - wanted
                ));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.hear_clients()?;
        }
        Ok(())
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        // The programs go before the nodes: they would complain of a node that is gone.
        for program in self.servers.drain(..).chain(self.clients.drain(..)) {
            drop(program);
        }
        line("");
    }
}
