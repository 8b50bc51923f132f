//! The tasks of a run: how a client gets one going, what has to be looked at when it has ended, and
//! what must be found then.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::agenda::MILLISECOND;
use crate::checkers::Broken;
use crate::tallies::{WALKS, Walk};

const BOOTSTRAPS: &str = "/core/bootstrap-tasks";
const COUNTERS: &str = "/core/counters";
const USERS: &str = "/core/users";
const EXAMPLES: &str = "/core/examples";
const SWEEPS: &str = "/core/example-tasks";

const RULE: &str = "a task does each of its steps once";

/// A task, or rather what it is to bring about.
#[derive(Clone, Debug)]
pub enum Job {
    /// Adds to tallies; the simulator's own.
    Walk { walk: Walk, is_cancelled: bool },
    /// Makes users and counts them (`examples::BootstrapTaskService`).
    Bootstrap { name: String, users: u64 },
    /// Deletes example documents (`examples::ExampleTaskService`).
    Sweep { name: String, victims: usize },
}

/// A document to be made by a POST.
#[derive(Clone, Debug)]
pub struct Making {
    pub factory: String,
    pub name: String,
    pub body: Value,
}

impl Making {
    pub fn new(factory: &str, name: impl Into<String>, body: Value) -> Self {
        let name = name.into();
        let mut body = body;
        body["documentSelfLink"] = name.clone().into();
        Self { factory: factory.to_owned(), name, body }
    }

    pub fn link(&self) -> String {
        format!("{}/{}", self.factory, self.name)
    }
}

impl Job {
    /// The job of that number; every run has the same ones.
    pub fn numbered(number: usize, tallies: &[String]) -> Self {
        let name = format!("j{number}");
        match number % 3 {
            0 => {
                let walk = Walk {
                    name,
                    tallies: tallies.to_vec(),
                    steps: 8 + number * 13 % 17,
                    wide: 1 + number % 4,
                    pause_micros: u64::try_from(number * 7 % 4).expect("small") * 20 * MILLISECOND,
                    step: 0,
                    route: 0,
                    taken: Vec::new(),
                    skipped: Vec::new(),
                };
                Self::Walk { walk, is_cancelled: number % 2 == 1 }
            }
            1 => Self::Bootstrap { name, users: 12 },
            _ => Self::Sweep { name, victims: 5 },
        }
    }

    /// A walk that can be told to go another way. Before its steps it often waits for longer than
    /// clocks differ: then a step that was planned may be planned anew.
    pub fn rerouted(number: usize, tallies: &[String]) -> Self {
        let walk = Walk {
            name: format!("r{number}"),
            tallies: tallies.to_vec(),
            steps: 6,
            wide: 1 + number % 3,
            pause_micros: if number.is_multiple_of(3) { 60 } else { 2_200 } * MILLISECOND,
            step: 0,
            route: 1,
            taken: Vec::new(),
            skipped: Vec::new(),
        };
        Self::Walk { walk, is_cancelled: false }
    }

    /// The link of the task.
    pub fn link(&self) -> String {
        match self {
            Self::Walk { walk, .. } => format!("{WALKS}/{}", walk.name),
            Self::Bootstrap { name, .. } => format!("{BOOTSTRAPS}/{name}"),
            Self::Sweep { name, .. } => format!("{SWEEPS}/{name}"),
        }
    }

    /// What has to be made, in this order; the last is the task itself.
    pub fn makings(&self) -> Vec<Making> {
        match self {
            Self::Walk { walk, .. } => {
                let body = serde_json::to_value(walk).expect("a walk is JSON");
                vec![Making::new(WALKS, &walk.name, body)]
            }
            Self::Bootstrap { name, users } => {
                let body = json!({ "userCount": users, "pauseMillis": 20 });
                vec![Making::new(BOOTSTRAPS, name, body)]
            }
            Self::Sweep { name, victims } => {
                let victim = |number: usize| {
                    let body = json!({ "name": format!("victim of {name}") });
                    Making::new(EXAMPLES, format!("{name}-{number}"), body)
                };
                let clause = json!({
                    "term": { "propertyName": "name", "matchValue": format!("victim of {name}") }
                });
                let task = Making::new(SWEEPS, name, json!({ "customQueryClause": clause }));
                (0..*victims).map(victim).chain([task]).collect()
            }
        }
    }

    /// The links to be looked at when the task has ended.
    pub fn traces(&self) -> Vec<String> {
        match self {
            Self::Walk { walk, .. } => walk.tallies.clone(),
            Self::Bootstrap { name, users } => {
                let user = |number| format!("{USERS}/{name}-{number}");
                let counter = format!("{COUNTERS}/{name}");
                (1..=*users).map(user).chain([counter]).collect()
            }
            Self::Sweep { name, victims } => {
                (0..*victims).map(|number| format!("{EXAMPLES}/{name}-{number}")).collect()
            }
        }
    }

    /// What a walk that has ended has added for sure, and what it may have added.
    pub fn entries(&self, shown: &BTreeMap<String, Value>) -> (Vec<String>, Vec<String>) {
        let Self::Walk { walk, .. } = self else { return (Vec::new(), Vec::new()) };
        let step = shown.get(&self.link()).and_then(|task| task["step"].as_u64()).unwrap_or(0);
        let step = usize::try_from(step).expect("a step is small");
        let task = shown.get(&self.link()).unwrap_or(&Value::Null);
        // A step that another way was chosen for must have had no effect the former way.
        let route = |step: usize| task["taken"][step].as_u64().or(task["route"].as_u64());
        let names = |steps: std::ops::Range<usize>| -> Vec<String> {
            let entries = steps.flat_map(|step| walk.entries(step, route(step).unwrap_or(0)));
            entries.map(|(_, entry)| entry).collect()
        };
        let skipped = Self::skipped(task);
        let is_skipped = |entry: &String| skipped.iter().any(|it| entry.ends_with(it));
        let (maybe, done): (Vec<_>, Vec<_>) = names(0..step).into_iter().partition(is_skipped);
        // And the step that was under way when it was cancelled.
        (done, [maybe, names(step..(step + 1).min(walk.steps))].concat())
    }

    /// The ends of the entries of which the walk was not told.
    fn skipped(task: &Value) -> Vec<String> {
        let skipped = task["skipped"].as_array().into_iter().flatten();
        skipped.filter_map(Value::as_str).map(|it| format!("#{it}")).collect()
    }

    /// How many requests of the walk were skipped.
    pub fn requests_skipped(&self, shown: &BTreeMap<String, Value>) -> u64 {
        let Self::Walk { .. } = self else { return 0 };
        let skipped = shown.get(&self.link()).map_or(0, |task| Self::skipped(task).len());
        skipped.try_into().expect("a few")
    }

    /// How many steps of a walk went another way than the one that it had at first.
    pub fn steps_of_other_ways(&self, shown: &BTreeMap<String, Value>) -> u64 {
        let Self::Walk { walk, .. } = self else { return 0 };
        let taken = shown.get(&self.link()).and_then(|task| task["taken"].as_array());
        let is_other = |route: &&Value| **route != walk.route;
        taken.map_or(0, |taken| taken.iter().filter(is_other).count()).try_into().expect("a few")
    }

    /// Holds what was found against what must be. `shown` has the task and its traces; what is not
    /// there is null.
    ///
    /// # Errors
    /// When a step was lost or doubled.
    pub fn check(&self, shown: &BTreeMap<String, Value>) -> Result<(), Broken> {
        let see = |link: &str| shown.get(link).cloned().unwrap_or(Value::Null);
        let wrong = |what: String| Err(Broken::new(RULE, format!("{}: {what}", self.link())));
        let task = see(&self.link());
        let stage = &task["taskInfo"]["stage"];
        if stage == "CANCELLED" && matches!(self, Self::Walk { is_cancelled: true, .. }) {
            return Ok(());
        }
        if stage != "FINISHED" {
            return wrong(format!("it ended as {stage}: {task}"));
        }
        match self {
            // The entries of the tallies are counted together with those of clients.
            Self::Walk { walk, .. } if task["step"] != walk.steps => {
                wrong(format!("it ended at step {} of {}", task["step"], walk.steps))
            }
            Self::Walk { .. } => Ok(()),
            Self::Bootstrap { name, users } => {
                let counter = see(&format!("{COUNTERS}/{name}"));
                if counter["count"] != *users {
                    return wrong(format!("{users} users, and the counter is {counter}"));
                }
                for number in 1..=*users {
                    let user = see(&format!("{USERS}/{name}-{number}"));
                    if user["madeBy"] != self.link() || user["documentVersion"] != 0 {
                        return wrong(format!("user {number} is {user}"));
                    }
                }
                Ok(())
            }
            Self::Sweep { victims, .. } => {
                if let Some(link) = self.traces().iter().find(|link| !see(link).is_null()) {
                    return wrong(format!("{link} was not deleted"));
                }
                if task["deletedCount"] != *victims {
                    return wrong(format!("{} deletions of {victims}", task["deletedCount"]));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(count: u64, users: u64) -> (Job, BTreeMap<String, Value>) {
        let job = Job::Bootstrap { name: "b".into(), users: 2 };
        let link = job.link();
        let mut shown = BTreeMap::new();
        shown.insert(link.clone(), json!({ "taskInfo": { "stage": "FINISHED" } }));
        shown.insert(format!("{COUNTERS}/b"), json!({ "count": count }));
        for number in 1..=users {
            let user = json!({ "madeBy": link, "documentVersion": 0 });
            shown.insert(format!("{USERS}/b-{number}"), user);
        }
        (job, shown)
    }

    #[test]
    fn a_step_that_was_lost_or_doubled_is_found() {
        let (job, shown) = bootstrap(2, 2);
        job.check(&shown).unwrap();
        for (count, users) in [(3, 2), (1, 2), (2, 1)] {
            let (job, shown) = bootstrap(count, users);
            assert!(job.check(&shown).is_err(), "{count} {users}");
        }
    }

    #[test]
    fn a_task_that_did_not_finish_is_found() {
        let (job, mut shown) = bootstrap(2, 2);
        shown.insert(job.link(), json!({ "taskInfo": { "stage": "FAILED" } }));
        assert!(job.check(&shown).is_err());
    }

    #[test]
    fn a_document_that_was_not_swept_is_found() {
        let job = Job::Sweep { name: "s".into(), victims: 1 };
        let task = json!({ "taskInfo": { "stage": "FINISHED" }, "deletedCount": 1 });
        let mut shown: BTreeMap<String, Value> = [(job.link(), task)].into();
        job.check(&shown).unwrap();
        shown.insert(format!("{EXAMPLES}/s-0"), json!({ "name": "victim of s" }));
        assert!(job.check(&shown).is_err());
    }
}
