//! `amrita tutorial ha`: documents stay alive while a node goes and comes back, in twelve steps.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use client::Method;
use serde_json::{Value, json};

use super::ask::{self, Reply, until};
use super::cluster::{Cluster, available};
use super::story::{Story, line, shown};
use super::{By, HaOptions};

const NODE_GROUP: &str = "/core/node-groups/default";
const SELECTOR: &str = "/core/node-selectors/default";
const MANAGEMENT: &str = "/core/management";
const EXAMPLES: &str = "/core/examples";
const TASKS: &str = "/core/example-tasks";
const QUERIES: &str = "/core/query-tasks";
const EXAMPLE_KIND: &str = "com:vmware:xenon:services:common:ExampleService:ExampleServiceState";
const TASK_KIND: &str =
    "com:vmware:xenon:services:common:ExampleTaskService:ExampleTaskServiceState";
const UPDATE_QUORUM_KIND: &str =
    "com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest";

const STEPS: usize = 12;

/// How many tasks the tutorial makes before a node goes.
const TASK_COUNT: usize = 8;

/// "At once": how long a refusal may take.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// How long anything else may take that is awaited.
const DONE_WITHIN: Duration = Duration::from_secs(20);

/// # Errors
/// At the first thing that goes otherwise than told.
pub(super) async fn run(options: &HaOptions) -> Result<(), String> {
    let ways: &[By] = match options.by {
        By::Both => &[By::Delete, By::Kill],
        By::Delete => &[By::Delete],
        By::Kill => &[By::Kill],
    };
    let began = Instant::now();
    for way in ways {
        let mut play = Play {
            story: Story::begin(title(*way), STEPS),
            cluster: Cluster::prepare(&options.place, folder(*way))?,
            way: *way,
            tasks: BTreeMap::new(),
            gone: 0,
        };
        if let Err(why) = play.all().await {
            play.cluster.keep_folder();
            return Err(play.story.where_it_broke(&why));
        }
    }
    line(&format!("\nEverything was as told. It took {}.", shown(began.elapsed())));
    Ok(())
}

fn title(way: By) -> &'static str {
    match way {
        By::Kill => "High availability in twelve steps; the node is killed",
        By::Delete | By::Both => "High availability in twelve steps; the node is asked to stop",
    }
}

fn folder(way: By) -> &'static str {
    match way {
        By::Kill => "ha-kill",
        By::Delete | By::Both => "ha-delete",
    }
}

/// What the tutorial remembers of a task.
struct Task {
    /// Who owned its partition when all nodes were there.
    owner: String,
    version: u64,
}

struct Play {
    story: Story,
    cluster: Cluster,
    way: By,
    tasks: BTreeMap<String, Task>,
    /// The node that goes in step 5.
    gone: usize,
}

impl Play {
    async fn all(&mut self) -> Result<(), String> {
        self.three_nodes_join().await?;
        self.quorum_is_the_majority().await?;
        self.quorum_of_all_at_start().await?;
        self.tasks_run().await?;
        self.a_node_goes().await?;
        self.a_write_is_refused().await?;
        self.quorum_is_lowered().await?;
        self.a_write_works().await?;
        self.owners_are_new().await?;
        self.the_node_is_started_again().await?;
        self.every_task_is_there().await?;
        self.no_task_ran_again().await?;
        self.story.close_step();
        Ok(())
    }

    async fn three_nodes_join(&mut self) -> Result<(), String> {
        self.story.step("three nodes");
        self.story.say(
            "Each node is told the addresses of all, its own included. They need no other \
             introduction, and may be started in any order.",
        );
        for which in 0..self.cluster.len() {
            self.story.shell(&self.cluster.command_line(which));
        }
        let took = self.cluster.start_all().await?;
        self.story.holds(&format!(
            "each node sees all three as AVAILABLE, {} after the start of the first",
            shown(took)
        ));
        self.wait_until_spread(0).await?;
        self.show_nodes(0).await
    }

    async fn quorum_is_the_majority(&mut self) -> Result<(), String> {
        self.story.step("the membership quorum");
        let uri = self.cluster.uri(0, NODE_GROUP);
        self.story.curl(Method::Get, &uri, None);
        let quorum = ask::get(&uri).await?.expect(200)?.body["membershipQuorum"].clone();
        self.story.row(&format!("... \"membershipQuorum\": {quorum} ..."));
        if quorum != 2 {
            return Err(format!("expected a quorum of 2 of 3, saw {quorum}"));
        }
        self.story.holds("nobody set it, so it is the majority: 2 of 3");
        self.story.say(
            "A write is acknowledged when that many replicas have it on disk, never fewer than \
             the majority. A new cluster forms only when all its named nodes have met, so half a \
             cluster cannot start by mistake. While it is being set up, all nodes is the safest \
             quorum too: every acknowledged write is then on every disk, and a node that does not \
             keep up is noticed on the first day, not when it is needed.",
        );
        Ok(())
    }

    async fn quorum_of_all_at_start(&mut self) -> Result<(), String> {
        self.story.step("the quorum set at the start");
        self.story.say(
            "So the cluster is made once more from nothing, with a quorum of 3. The flag counts \
             when the cluster forms; later the setting that all nodes share holds.",
        );
        self.cluster.start_over(&["--membership-quorum", "3"])?;
        for which in 0..self.cluster.len() {
            self.story.shell(&self.cluster.command_line(which));
        }
        let took = self.cluster.start_all().await?;
        self.story.row(&format!("ready after {}", shown(took)));
        for which in 0..self.cluster.len() {
            self.quorum_is(which, 3).await?;
        }
        self.story.holds("every node says that the quorum is 3");
        Ok(())
    }

    async fn tasks_run(&mut self) -> Result<(), String> {
        self.story.step("a bunch of tasks");
        self.story.say(
            "An example task deletes all example documents: it looks for them (stage STARTED, \
             QUERY_EXAMPLES), deletes what it found (STARTED, DELETE_EXAMPLES) and is FINISHED. \
             First some documents, so that there is something to do; then the tasks, sent to \
             all three nodes in turn.",
        );
        for number in 0..self.cluster.len() {
            let uri = self.cluster.uri(number, EXAMPLES);
            let body = json!({"name": format!("example {number}"), "counter": number});
            self.story.ask(Method::Post, &uri, Some(&body)).await?.expect(200)?;
        }
        for number in 0..TASK_COUNT {
            let uri = self.cluster.uri(number % self.cluster.len(), TASKS);
            let body = json!({"documentSelfLink": format!("task-{number}")});
            if number == 0 {
                self.story.curl(Method::Post, &uri, Some(&body));
            }
            let reply = ask::post(&uri, &body).await?.expect(202)?;
            let link = link_of(&reply)?;
            self.story.row(&format!("{} after {}: {link}", reply.status, shown(reply.took)));
            let owner = self.owner_of(0, &link).await?;
            self.tasks.insert(link, Task { owner, version: 0 });
        }
        self.wait_until_finished(0).await?;
        self.show_all_versions(0).await?;
        self.no_examples_are_left(0).await
    }

    async fn a_node_goes(&mut self) -> Result<(), String> {
        self.look_who_owns_what().await?;
        self.gone = self.busiest_owner()?;
        let id = self.cluster.id(self.gone).to_owned();
        let tasks = self.tasks.values().filter(|task| task.owner == id).count();
        if self.way == By::Kill {
            self.story.step("one node is killed");
            self.story.say(&format!(
                "{id} owns {tasks} of the {TASK_COUNT} tasks. It gets a SIGKILL, so it cannot \
                 say goodbye: the others notice that its connections broke."
            ));
            self.story.shell(&format!("kill -KILL {}", self.cluster.process(self.gone)?));
            self.cluster.kill(self.gone)?;
        } else {
            self.story.step("one node is stopped");
            self.story.say(&format!(
                "{id} owns {tasks} of the {TASK_COUNT} tasks. It is asked to stop: it hands \
                 its partitions over and its process ends."
            ));
            let uri = self.cluster.uri(self.gone, MANAGEMENT);
            self.story.ask(Method::Delete, &uri, None).await?.expect(202)?;
            let (status, took) = self.cluster.ended(self.gone).await?;
            if !status.success() {
                return Err(format!("the process of {id} ended with {status}"));
            }
            self.story.holds(&format!(
                "its process ended by itself, with success, {} later",
                shown(took)
            ));
        }
        let began = Instant::now();
        for which in self.cluster.running() {
            self.cluster.wait_until_available(which, 2).await?;
        }
        self.story
            .holds(&format!("the two others see it as gone, {} later", shown(began.elapsed())));
        self.show_nodes(self.a_living_node()).await
    }

    async fn a_write_is_refused(&mut self) -> Result<(), String> {
        self.story.step("a write without a quorum");
        self.story.say(
            "The quorum is still 3 and two replicas are up. A write is refused, at once, with \
             the reason, and the answer says that it surely was not done.",
        );
        let uri = self.cluster.uri(self.a_living_node(), TASKS);
        let body = json!({"documentSelfLink": "task-late"});
        let reply = self.story.ask(Method::Post, &uri, Some(&body)).await?.expect(503)?;
        if reply.took > REFUSED_WITHIN {
            return Err(format!("the refusal took {}", shown(reply.took)));
        }
        let message = reply.body["message"].as_str().unwrap_or_default();
        if reply.body["code"] != "QUORUM_NOT_MET"
            || !message.contains('3')
            || !message.contains('2')
        {
            return Err(format!("expected QUORUM_NOT_MET with both numbers, got {}", reply.body));
        }
        if reply.body["outcome"] != "notApplied" || reply.retry_after_seconds.is_none() {
            return Err(format!("expected 'notApplied' and Retry-After, got {}", reply.body));
        }
        self.story.holds(&format!(
            "refused after {}, with both numbers and Retry-After",
            shown(reply.took)
        ));
        let link = self.a_task_of_the_gone_node()?;
        let uri = self.cluster.uri(self.a_living_node(), &link);
        ask::get(&uri).await?.expect(200)?;
        self.story.holds(&format!("reading goes on: {link}, which the gone node owned, answers"));
        Ok(())
    }

    async fn quorum_is_lowered(&mut self) -> Result<(), String> {
        self.story.step("the quorum is lowered");
        self.story.say(
            "Two nodes are a majority of three, so they may change the setting. It is one \
             replicated change, and holds for the whole group. It may not go under the majority.",
        );
        let uri = self.cluster.uri(self.a_living_node(), NODE_GROUP);
        let body =
            json!({"kind": UPDATE_QUORUM_KIND, "isGroupUpdate": true, "membershipQuorum": 2});
        self.story.curl(Method::Patch, &uri, Some(&body));
        let reply = ask::ask(Method::Patch, &uri, Some(&body)).await?.expect(200)?;
        self.story.row(&format!("{} after {}", reply.status, shown(reply.took)));
        for which in self.cluster.running() {
            self.quorum_is(which, 2).await?;
        }
        self.story.holds("both living nodes say that the quorum is 2");
        let too_low =
            json!({"kind": UPDATE_QUORUM_KIND, "isGroupUpdate": true, "membershipQuorum": 1});
        let reply = ask::ask(Method::Patch, &uri, Some(&too_low)).await?.expect(409)?;
        self.story.holds(&format!("1 is refused: {}", reply.body["message"]));
        Ok(())
    }

    async fn a_write_works(&mut self) -> Result<(), String> {
        self.story.step("the same write works");
        let uri = self.cluster.uri(self.a_living_node(), TASKS);
        let body = json!({"documentSelfLink": "task-late"});
        let reply = self.story.ask(Method::Post, &uri, Some(&body)).await?.expect(202)?;
        let link = link_of(&reply)?;
        let owner = self.owner_of(self.a_living_node(), &link).await?;
        self.tasks.insert(link.clone(), Task { owner, version: 0 });
        self.wait_until_finished(self.a_living_node()).await?;
        self.story.holds(&format!("{link} is made, and it is FINISHED"));
        Ok(())
    }

    async fn owners_are_new(&mut self) -> Result<(), String> {
        self.story.step("new owners");
        self.story.say(
            "Every document belongs to a partition, and every partition has one owner. What the \
             gone node owned, the two others own now. Nothing was copied: they had it all along.",
        );
        let asked = self.a_living_node();
        let uri = self.cluster.uri(asked, SELECTOR);
        self.story.curl(Method::Post, &uri, Some(&json!({"key": self.a_task_of_the_gone_node()?})));
        let gone = self.cluster.id(self.gone).to_owned();
        for (link, task) in &self.tasks {
            let owner = self.owner_of(asked, link).await?;
            self.story.row(&format!("{link:32} {} -> {owner}", task.owner));
            if owner == gone {
                return Err(format!("{link} is still said to be owned by {gone}"));
            }
        }
        self.story.holds(&format!("no document is left with {gone}"));
        self.wait_until_spread(asked).await?;
        self.show_nodes(asked).await?;
        self.story.holds("the two share all partitions evenly");
        Ok(())
    }

    async fn the_node_is_started_again(&mut self) -> Result<(), String> {
        self.story.step("the node is started again");
        self.story.say("With the same line as before, so with its own data.");
        self.story.shell(&self.cluster.command_line(self.gone));
        let path = self.cluster.log_path(self.gone);
        let length = fs::metadata(&path).map_or(0, |data| data.len());
        let began = Instant::now();
        self.cluster.start(self.gone)?;
        for which in 0..self.cluster.len() {
            self.cluster.wait_until_available(which, 3).await?;
        }
        self.story
            .holds(&format!("all three are AVAILABLE again, {} later", shown(began.elapsed())));
        let log = fs::read(&path).unwrap_or_default();
        let new = log.get(usize::try_from(length).unwrap_or(0)..).unwrap_or_default();
        let new = String::from_utf8_lossy(new);
        if let Some(said) = new.lines().find(|line| line.contains("quorum")) {
            self.story.say("Its line still asks for a quorum of 3. It says what it thinks of it:");
            self.story.row(said.trim());
        }
        self.quorum_is(self.gone, 2).await?;
        self.story.holds("the shared setting holds: the quorum is 2 on the returned node too");
        Ok(())
    }

    async fn every_task_is_there(&mut self) -> Result<(), String> {
        self.story.step("every task is there");
        for which in 0..self.cluster.len() {
            let uri = self.cluster.uri(which, &format!("{TASKS}/available"));
            self.story.curl(Method::Get, &uri, None);
            let began = Instant::now();
            until(DONE_WITHIN, async || ask::get(&uri).await?.expect(200)).await?;
            self.story.row(&format!("200 after {}", shown(began.elapsed())));
        }
        self.story.holds("the factory is available on every node");
        let uri = self.cluster.uri(self.gone, TASKS);
        self.story.curl(Method::Get, &uri, None);
        let found = ask::get(&uri).await?.expect(200)?;
        let links: Vec<&str> = found.body["documentLinks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        self.story.row(&format!("{} links after {}", links.len(), shown(found.took)));
        let missing: Vec<&String> =
            self.tasks.keys().filter(|link| !links.contains(&link.as_str())).collect();
        if !missing.is_empty() || links.len() != self.tasks.len() {
            return Err(format!("expected {} tasks, found {links:?}", self.tasks.len()));
        }
        self.story.holds(&format!("all {} tasks are found by the node that was away", links.len()));
        let finished = self.all_versions(self.gone).await?;
        if finished.len() != self.tasks.len() {
            return Err(format!("the query found {} tasks", finished.len()));
        }
        self.story.holds("a query over all versions, asked there, finds them too");
        let began = Instant::now();
        self.wait_until_spread(self.gone).await?;
        let (id, took) = (self.cluster.id(self.gone), shown(began.elapsed()));
        self.story.holds(&format!("{id} has its share of the partitions again, {took} later"));
        self.show_nodes(self.gone).await
    }

    async fn no_task_ran_again(&mut self) -> Result<(), String> {
        self.story.step("finished is finished");
        self.story.say(
            "A task that is in progress is taken up by the next owner. One that is finished is \
             left alone: its stage and its version are what they were before the node went.",
        );
        for (link, task) in &self.tasks {
            let uri = self.cluster.uri(self.gone, link);
            let found = ask::get(&uri).await?.expect(200)?;
            let (stage, version) = (stage_of(&found.body), version_of(&found.body));
            self.story.row(&format!("{link:32} {stage}, version {version}"));
            if stage != "FINISHED" || version != task.version {
                return Err(format!(
                    "{link} was FINISHED at version {}, now it is {stage} at version {version}",
                    task.version
                ));
            }
        }
        self.story.holds("every task is FINISHED, and none has run again");
        Ok(())
    }
}

/// What several steps need.
impl Play {
    /// The lowest-numbered node that is not the one that went.
    fn a_living_node(&self) -> usize {
        usize::from(self.gone == 0)
    }

    /// The owners of a new cluster are spread evenly by and by: those of the tasks may have changed
    /// since they were made.
    async fn look_who_owns_what(&mut self) -> Result<(), String> {
        self.wait_until_spread(0).await?;
        let links: Vec<String> = self.tasks.keys().cloned().collect();
        for link in links {
            let owner = self.owner_of(0, &link).await?;
            if let Some(task) = self.tasks.get_mut(&link) {
                task.owner = owner;
            }
        }
        Ok(())
    }

    fn a_task_of_the_gone_node(&self) -> Result<String, String> {
        let gone = self.cluster.id(self.gone);
        let found = self.tasks.iter().find(|(_, task)| task.owner == gone);
        found.map(|(link, _)| link.clone()).ok_or_else(|| format!("{gone} owned no task"))
    }

    fn busiest_owner(&self) -> Result<usize, String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for task in self.tasks.values() {
            *counts.entry(&task.owner).or_default() += 1;
        }
        let busiest = counts.into_iter().max_by_key(|(_, count)| *count);
        let (id, _) = busiest.ok_or("no task has an owner")?;
        self.cluster.which(id).ok_or_else(|| format!("the owner '{id}' is no node of ours"))
    }

    async fn owner_of(&self, asked: usize, link: &str) -> Result<String, String> {
        let uri = self.cluster.uri(asked, SELECTOR);
        until(DONE_WITHIN, async || {
            let reply = ask::post(&uri, &json!({"key": link})).await?.expect(200)?;
            let owner = reply.body["ownerNodeId"].as_str();
            owner.map(str::to_owned).ok_or_else(|| format!("{link} has no owner"))
        })
        .await
    }

    async fn quorum_is(&self, which: usize, wanted: u64) -> Result<(), String> {
        let uri = self.cluster.uri(which, NODE_GROUP);
        until(DONE_WITHIN, async || {
            let quorum = ask::get(&uri).await?.expect(200)?.body["membershipQuorum"].clone();
            if quorum == wanted { Ok(()) } else { Err(format!("{uri}: the quorum is {quorum}")) }
        })
        .await
    }

    /// The owners are spread evenly: no node that is there has two partitions more than another.
    async fn wait_until_spread(&self, asked: usize) -> Result<(), String> {
        let uri = self.cluster.uri(asked, NODE_GROUP);
        until(DONE_WITHIN, async || {
            let group = ask::get(&uri).await?.expect(200)?.body;
            let owned: Vec<u64> = available(&group)
                .iter()
                .filter_map(|id| group["nodes"][id]["ownedPartitions"].as_u64())
                .collect();
            let (least, most) = (owned.iter().min(), owned.iter().max());
            let even = least.zip(most).is_some_and(|(least, most)| most - least <= 1);
            let all = group["partitionOwners"].as_array().map_or(0, Vec::len) as u64;
            if even && owned.iter().sum::<u64>() == all {
                return Ok(());
            }
            Err(format!("the nodes own {owned:?} of {all} partitions"))
        })
        .await
    }

    async fn show_nodes(&self, asked: usize) -> Result<(), String> {
        let uri = self.cluster.uri(asked, NODE_GROUP);
        self.story.curl(Method::Get, &uri, None);
        let group = ask::get(&uri).await?.expect(200)?.body;
        for (id, node) in group["nodes"].as_object().into_iter().flatten() {
            let status = node["status"].as_str().unwrap_or("?");
            self.story
                .row(&format!("{id}  {status:13} owns {} partitions", node["ownedPartitions"]));
        }
        self.story.row(&format!(
            "{} of {} available, membership quorum {}",
            available(&group).len(),
            self.cluster.len(),
            group["membershipQuorum"]
        ));
        Ok(())
    }

    /// Every version of every task: from link to stages in order.
    async fn all_versions(
        &self,
        asked: usize,
    ) -> Result<BTreeMap<String, BTreeMap<u64, String>>, String> {
        let uri = self.cluster.uri(asked, QUERIES);
        let reply = ask::post(&uri, &all_versions_query()).await?.expect(200)?;
        let mut found: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
        for document in reply.body["results"]["documents"].as_object().into_iter().flatten() {
            let document = document.1;
            let link = document["documentSelfLink"].as_str().unwrap_or_default().to_owned();
            let mut stage = stage_of(document).to_owned();
            if let Some(sub_stage) = document["subStage"].as_str().filter(|_| stage == "STARTED") {
                stage = format!("{stage} {sub_stage}");
            }
            found.entry(link).or_default().insert(version_of(document), stage);
        }
        Ok(found)
    }

    async fn wait_until_finished(&mut self, asked: usize) -> Result<(), String> {
        let mut versions = BTreeMap::new();
        for link in self.tasks.keys() {
            let uri = self.cluster.uri(asked, link);
            let version = until(DONE_WITHIN, async || {
                let found = ask::get(&uri).await?.expect(200)?.body;
                if stage_of(&found) == "FINISHED" {
                    return Ok(version_of(&found));
                }
                Err(format!("{link} is {}: {}", stage_of(&found), found["failureMessage"]))
            })
            .await?;
            versions.insert(link.clone(), version);
        }
        for (link, task) in &mut self.tasks {
            task.version = versions[link];
        }
        Ok(())
    }

    async fn show_all_versions(&self, asked: usize) -> Result<(), String> {
        self.story.say("A query over all versions shows the stages each of them went through:");
        self.story.curl(
            Method::Post,
            &self.cluster.uri(asked, QUERIES),
            Some(&all_versions_query()),
        );
        let found = self.all_versions(asked).await?;
        for (link, stages) in &found {
            let stages: Vec<&str> = stages.values().map(String::as_str).collect();
            self.story.row(&format!("{link}: {}", stages.join(" > ")));
        }
        for (link, task) in &self.tasks {
            let stages = found.get(link).ok_or_else(|| format!("the query missed {link}"))?;
            let whole = stages.keys().copied().eq(0..=task.version);
            if !whole || stages[&task.version] != "FINISHED" {
                return Err(format!("{link} has the versions {stages:?}"));
            }
        }
        self.story.holds(&format!("all {TASK_COUNT} tasks are FINISHED, with every version there"));
        Ok(())
    }

    async fn no_examples_are_left(&self, asked: usize) -> Result<(), String> {
        let uri = self.cluster.uri(asked, QUERIES);
        let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {
            "options": ["COUNT"],
            "query": {"term": {"propertyName": "documentKind", "matchValue": EXAMPLE_KIND}}}});
        let reply = ask::post(&uri, &query).await?.expect(200)?;
        let count = &reply.body["results"]["documentCount"];
        if *count != 0 {
            return Err(format!("the tasks left {count} example documents"));
        }
        self.story.holds("the example documents are gone, as the tasks were told");
        Ok(())
    }
}

fn all_versions_query() -> Value {
    json!({"taskInfo": {"isDirect": true}, "querySpec": {
        "options": ["EXPAND_CONTENT", "INCLUDE_ALL_VERSIONS"],
        "query": {"term": {"propertyName": "documentKind", "matchValue": TASK_KIND}}}})
}

fn link_of(reply: &Reply) -> Result<String, String> {
    let link = reply.body["documentSelfLink"].as_str();
    link.map(str::to_owned).ok_or_else(|| format!("an answer without a link: {}", reply.body))
}

fn stage_of(document: &Value) -> &str {
    document["taskInfo"]["stage"].as_str().unwrap_or("without a stage")
}

fn version_of(document: &Value) -> u64 {
    document["documentVersion"].as_u64().unwrap_or(u64::MAX)
}
