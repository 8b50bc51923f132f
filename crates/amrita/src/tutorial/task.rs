//! `amrita tutorial task`: one job for the whole cluster, done once although its owner is killed
//! twice in mid-work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use client::Method;
use serde_json::{Value, json};

use super::TaskOptions;
use super::ask::{self, until};
use super::cluster::Cluster;
use super::story::{Story, line, shown};

const TASKS: &str = "/core/bootstrap-tasks";
const TASK: &str = "/core/bootstrap-tasks/first";
const TASK_KIND: &str = "amrita:examples:BootstrapTask";
const USERS: &str = "/core/users";
const COUNTER: &str = "/core/counters/first";
const SELECTOR: &str = "/core/node-selectors/default";
const QUERIES: &str = "/core/query-tasks";

const STEPS: usize = 7;

/// How many users the job makes.
const USER_COUNT: u64 = 40;

/// Before each step of the job, so that there is a middle to be killed in: long enough for a node
/// to be started again meanwhile, on a machine that does other things as well.
const PAUSE_MILLIS: u64 = 200;

/// How many users are made when the owner is killed, the first and the second time.
const KILLED_AT: [u64; 2] = [8, 18];

/// How long anything may take that is awaited.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// # Errors
/// At the first thing that goes otherwise than told.
pub(super) async fn run(options: &TaskOptions) -> Result<(), String> {
    let began = Instant::now();
    let title = "One job for the whole cluster, done once";
    let mut play = Play {
        story: Story::begin(title, STEPS),
        cluster: Cluster::prepare(&options.place, "task")?,
    };
    if let Err(why) = play.all().await {
        play.cluster.keep_folder();
        return Err(play.story.where_it_broke(&why));
    }
    line(&format!("\nEverything was as told. It took {}.", shown(began.elapsed())));
    Ok(())
}

struct Play {
    story: Story,
    cluster: Cluster,
}

impl Play {
    async fn all(&mut self) -> Result<(), String> {
        self.nodes_start().await?;
        self.every_node_asks_for_the_job().await?;
        let first = self.owner_is_killed(KILLED_AT[0], "the owner is killed in mid-work").await?;
        self.node_returns(first).await?;
        self.owner_is_killed(KILLED_AT[1], "the next owner is killed too").await?;
        self.the_job_ends().await?;
        self.every_step_was_done_once().await?;
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
        Ok(())
    }

    async fn every_node_asks_for_the_job(&mut self) -> Result<(), String> {
        self.story.step("every node asks for the same job");
        self.story.say(
            "The job makes the first users of a cluster. Each step makes one user and adds one to \
             a counter, and adding twice would show. A program would post it on each of its nodes \
             when it starts; they need not agree who does it, for the name makes it one task: the \
             first POST makes it (202), the others are told how it stands (200).",
        );
        let body = json!({"documentSelfLink": "first", "userCount": USER_COUNT,
            "pauseMillis": PAUSE_MILLIS});
        for which in 0..self.cluster.len() {
            let uri = self.cluster.uri(which, TASKS);
            let wanted = if which == 0 { 202 } else { 200 };
            self.story.ask(Method::Post, &uri, Some(&body)).await?.expect(wanted)?;
        }
        self.story.holds("one task was made");
        Ok(())
    }

    /// Kills whoever owns the task once `made` users are made, and sees another go on.
    async fn owner_is_killed(&mut self, made: u64, title: &str) -> Result<usize, String> {
        self.story.step(title);
        let asked = self.a_node_that_runs(None)?;
        self.wait_until_made(asked, made).await?;
        let owner = self.owner(asked).await?;
        let which = self.cluster.which(&owner);
        let which = which.ok_or_else(|| format!("the task is owned by {owner}"))?;
        let asked = self.a_node_that_runs(Some(which))?;
        self.story.shell(&format!("kill -KILL {}", self.cluster.process(which)?));
        let began = Instant::now();
        self.cluster.kill(which)?;
        let uri = self.cluster.uri(asked, TASK);
        let (task, silence) = until(DONE_WITHIN, async || {
            let task = ask::get(&uri).await?.expect(200)?.body;
            if task["documentUpdateNode"] == owner {
                return Err(format!("nobody has gone on with the task: {task}"));
            }
            Ok((task, began.elapsed()))
        })
        .await?;
        let (by, now) = (&task["documentUpdateNode"], made_of(&task));
        self.story.row(&format!(
            "{} later {} has made user {now}, in epoch {}",
            shown(silence),
            by.as_str().unwrap_or_default(),
            task["documentEpoch"]
        ));
        if now < made || now >= USER_COUNT {
            return Err(format!("the owner was not killed in mid-work: {task}"));
        }
        self.story.holds("another owner went on from the last persisted step");
        Ok(which)
    }

    /// Who owns the task. Nobody does for the few milliseconds in which it is handed over.
    async fn owner(&self, asked: usize) -> Result<String, String> {
        let selector = self.cluster.uri(asked, SELECTOR);
        let body = json!({"key": TASK});
        self.story.curl(Method::Post, &selector, Some(&body));
        let (owner, reply) = until(DONE_WITHIN, async || {
            let reply = ask::post(&selector, &body).await?.expect(200)?;
            match reply.body["ownerNodeId"].as_str().map(str::to_owned) {
                Some(owner) => Ok((owner, reply)),
                None => Err(format!("the task has no owner: {}", reply.body)),
            }
        })
        .await?;
        self.story.answer(reply.status, &reply.body, reply.took);
        Ok(owner)
    }

    async fn node_returns(&mut self, which: usize) -> Result<(), String> {
        let id = self.cluster.id(which).to_owned();
        self.story.step("the killed node is started again");
        self.story.say(
            "It comes back as one that follows. What it had under way when it died carries the \
             epoch of its ownership, and that is over: a late effect of it would be refused.",
        );
        self.story.shell(&self.cluster.command_line(which));
        self.cluster.start(which)?;
        for node in 0..self.cluster.len() {
            self.cluster.wait_until_available(node, 3).await?;
        }
        self.story.holds(&format!("{id} is AVAILABLE again"));
        Ok(())
    }

    async fn the_job_ends(&mut self) -> Result<(), String> {
        self.story.step("the job ends");
        let asked = self.a_node_that_runs(None)?;
        let uri = self.cluster.uri(asked, TASK);
        self.story.curl(Method::Get, &uri, None);
        let task = until(DONE_WITHIN, async || {
            let task = ask::get(&uri).await?.expect(200)?.body;
            let stage = task["taskInfo"]["stage"].clone();
            if stage == "FINISHED" { Ok(task) } else { Err(format!("the task is {stage}: {task}")) }
        })
        .await?;
        self.story.row(&format!("{}", task["taskInfo"]));
        if made_of(&task) != USER_COUNT {
            return Err(format!("it is FINISHED with {} users", made_of(&task)));
        }
        self.story.holds(&format!("FINISHED, {USER_COUNT} users made, by {}", task["nodeIds"]));
        Ok(())
    }

    async fn every_step_was_done_once(&mut self) -> Result<(), String> {
        self.story.step("every step was done exactly once");
        let asked = self.a_node_that_runs(None)?;
        let counter = self.cluster.uri(asked, COUNTER);
        let counter = self.story.ask(Method::Get, &counter, None).await?.expect(200)?.body;
        if counter["count"] != USER_COUNT || counter["documentVersion"] != USER_COUNT {
            return Err(format!(
                "the counter should be {USER_COUNT}, after as many writes: {counter}"
            ));
        }
        self.story.holds(&format!("the counter was raised {USER_COUNT} times, by one each time"));

        let users = self.cluster.uri(asked, &format!("{USERS}?expand"));
        self.story.curl(Method::Get, &users, None);
        let users = ask::get(&users).await?.expect(200)?.body;
        let found: BTreeSet<&str> = users["documentLinks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let wanted: Vec<String> = (1..=USER_COUNT).map(|n| format!("{USERS}/first-{n}")).collect();
        if found != wanted.iter().map(String::as_str).collect() {
            return Err(format!("expected {USER_COUNT} users, found {found:?}"));
        }
        let documents = users["documents"].as_object().into_iter().flatten();
        if let Some((_, twice)) =
            documents.into_iter().find(|(_, user)| user["documentVersion"] != 0)
        {
            return Err(format!("a user was written twice: {twice}"));
        }
        self.story.holds(&format!("there are {USER_COUNT} users, each written once"));
        self.show_who_did_what(asked).await
    }

    async fn show_who_did_what(&self, asked: usize) -> Result<(), String> {
        self.story.say("Every version of the task is there, and says who wrote it:");
        let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {
            "options": ["EXPAND_CONTENT", "INCLUDE_ALL_VERSIONS"],
            "query": {"term": {"propertyName": "documentKind", "matchValue": TASK_KIND}}}});
        let uri = self.cluster.uri(asked, QUERIES);
        self.story.curl(Method::Post, &uri, Some(&query));
        let reply = ask::post(&uri, &query).await?.expect(200)?;
        let mut versions = BTreeMap::new();
        for (_, document) in reply.body["results"]["documents"].as_object().into_iter().flatten() {
            let version = document["documentVersion"].as_u64().unwrap_or(u64::MAX);
            versions.insert(version, document);
        }
        let mut terms: Vec<(String, u64, u64, u64)> = Vec::new();
        let mut made_last = 0;
        for (version, document) in &versions {
            let made = made_of(document);
            if made != made_last && made != made_last + 1 {
                return Err(format!("version {version} jumps from {made_last} to {made}"));
            }
            made_last = made;
            let owner = document["documentUpdateNode"].as_str().unwrap_or_default().to_owned();
            let epoch = document["documentEpoch"].as_u64().unwrap_or_default();
            match terms.last_mut().filter(|term| (&term.0, term.1) == (&owner, epoch)) {
                Some(term) => term.3 = *version,
                None => terms.push((owner, epoch, *version, *version)),
            }
        }
        for (owner, epoch, from, to) in &terms {
            self.story.row(&format!("{owner}, epoch {epoch}: versions {from} to {to}"));
        }
        let epochs: BTreeSet<u64> = terms.iter().map(|term| term.1).collect();
        if !versions.keys().copied().eq(0..versions.len() as u64) || epochs.len() < 3 {
            return Err(format!("expected all versions, in at least three epochs: {terms:?}"));
        }
        self.story.holds("no step is missing, and none stands twice");
        Ok(())
    }

    /// The first node that runs and is not `except`.
    fn a_node_that_runs(&self, except: Option<usize>) -> Result<usize, String> {
        let running = self.cluster.running().into_iter().find(|which| Some(*which) != except);
        running.ok_or_else(|| "no node runs".to_owned())
    }

    async fn wait_until_made(&self, asked: usize, wanted: u64) -> Result<(), String> {
        let uri = self.cluster.uri(asked, TASK);
        let task = until(DONE_WITHIN, async || {
            let task = ask::get(&uri).await?.expect(200)?.body;
            if made_of(&task) >= wanted { Ok(task) } else { Err(format!("not there yet: {task}")) }
        })
        .await?;
        let (made, owner) =
            (made_of(&task), task["documentUpdateNode"].as_str().unwrap_or_default());
        self.story.row(&format!("{made} of {USER_COUNT} users are made, by {owner}"));
        Ok(())
    }
}

fn made_of(task: &Value) -> u64 {
    task["madeCount"].as_u64().unwrap_or_default()
}
