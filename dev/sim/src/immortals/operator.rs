//! The person who looks after immortals: registers them, pushes them from outside, moves them, adds
//! and removes replicas, upgrades them, and mends what is held. Everything goes by REST, at any
//! node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::{Method, Request};
use serde_json::{Value, json};

use crate::agenda::{MILLISECOND, SECOND};
use crate::checkers::Broken;
use crate::immortals::instances::{Instance, SHORT_LIVED};
use crate::immortals::script::{POISON, Part, Role};
use crate::immortals::short_lived::Coming;
use crate::immortals::talk::Versions;
use crate::workload::Reply;
use crate::world::{Event, World};
use random::Random;

/// Attempts of the operator have numbers from here on.
pub(crate) const FIRST_ATTEMPT: u64 = 1 << 60;

const LINK: &str = "/core/immortals";

/// How long the operator waits for an answer.
const PATIENCE: u64 = 8 * SECOND;

/// What is to be done, or under way.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Register {
        number: usize,
    },
    /// Once only: what becomes of it is told.
    Push {
        id: String,
        instance: String,
    },
    AddReplica {
        instance: String,
        machine: usize,
    },
    RemoveReplica {
        instance: String,
        machine: usize,
    },
    Upgrade {
        instance: String,
        version: u64,
    },
    Skip {
        instance: String,
        input: u64,
    },
    Release {
        instance: String,
    },
    /// If it cannot be done now, never mind.
    Move {
        instance: String,
        machine: usize,
    },
    Checkpoint {
        instance: String,
    },
    /// The short-lived instance is deregistered; later it is registered anew, as the one of that
    /// number.
    Go,
    Come {
        number: usize,
    },
    /// One node's view of one instance.
    Look {
        instance: String,
        machine: usize,
    },
}

impl Task {
    fn request(&self, instances: &[Instance]) -> Request {
        let of = |instance: &str| format!("{LINK}/{instance}");
        let post = |instance: &str, verb: &str, body: Value| {
            Request::new(Method::Post, format!("{LINK}/{instance}/{verb}")).with_json(&body)
        };
        let patch = |instance: &str, body: Value| {
            Request::new(Method::Patch, of(instance)).with_json(&body)
        };
        match self {
            Self::Register { number } | Self::Come { number } => {
                Request::new(Method::Post, LINK).with_json(&registration(&instances[*number]))
            }
            Self::Push { id, instance } => {
                post(instance, "impulses", json!({ "method": 9, "payload": id }))
            }
            Self::AddReplica { instance, machine } => {
                patch(instance, json!({ "addReplica": { "node": node(*machine) } }))
            }
            Self::RemoveReplica { instance, machine } => {
                patch(instance, json!({ "removeReplica": node(*machine) }))
            }
            Self::Upgrade { instance, version } => {
                patch(instance, json!({ "upgradeVersion": version }))
            }
            Self::Skip { instance, input } => post(instance, "skip", json!({ "input": input })),
            Self::Release { instance } => post(instance, "release", json!({})),
            Self::Move { instance, machine } => {
                post(instance, "move", json!({ "node": node(*machine) }))
            }
            Self::Checkpoint { instance } => post(instance, "checkpoint", json!({})),
            Self::Go => Request {
                query: format!("confirm={SHORT_LIVED}"),
                ..Request::new(Method::Delete, of(SHORT_LIVED))
            },
            Self::Look { instance, .. } => Request::new(Method::Get, of(instance)),
        }
    }

    /// Is it tried until it is done?
    fn must_be(&self) -> bool {
        matches!(
            self,
            Self::Register { .. }
                | Self::AddReplica { .. }
                | Self::RemoveReplica { .. }
                | Self::Upgrade { .. }
                | Self::Skip { .. }
                | Self::Go
                | Self::Come { .. }
        )
    }
}

fn node(machine: usize) -> String {
    format!("n{}", machine + 1)
}

fn registration(instance: &Instance) -> Value {
    let nodes: Vec<String> = instance.machines.iter().map(|machine| node(*machine)).collect();
    json!({
        "name": instance.role.name,
        "replicas": nodes,
        "logTriggerBytes": instance.checkpoint_bytes,
        "programTimeoutMillis": instance.timeout_millis,
        "recoveryTargetMillis": instance.recovery_millis,
        "durability": if instance.memory { "memory" } else { "disk" },
    })
}

/// State of the operator.
pub(crate) struct Operator {
    pub(crate) rng: Random,
    pub(crate) todo: VecDeque<Task>,
    pub(crate) coming: Coming,
    doing: BTreeMap<u64, Task>,
    attempts: u64,
    pub(crate) registered: BTreeSet<usize>,
    /// The version that was wished for last.
    pub(crate) versions: BTreeMap<String, u64>,
    /// Inputs that were asked to be taken out.
    skipped: BTreeSet<(String, u64)>,
    poisoned: bool,
    /// What nodes have shown since the last question.
    pub(crate) shown: BTreeMap<(String, usize), Value>,
    trouble: String,
}

impl Operator {
    pub(crate) fn new(seed: u64, instances: usize) -> Self {
        Self {
            rng: Random::new(seed, "operator"),
            todo: (0..instances).map(|number| Task::Register { number }).collect(),
            coming: Coming::default(),
            doing: BTreeMap::new(),
            attempts: FIRST_ATTEMPT,
            registered: BTreeSet::new(),
            versions: BTreeMap::new(),
            skipped: BTreeSet::new(),
            poisoned: false,
            shown: BTreeMap::new(),
            trouble: String::new(),
        }
    }

    pub(crate) fn add(&mut self, task: Task) {
        self.todo.push_back(task);
    }

    /// What has to be done and is not yet.
    pub(crate) fn unfinished(&self) -> Option<String> {
        let mut all = self.todo.iter().chain(self.doing.values());
        let open =
            all.find(|task| task.must_be()).map(|task| format!("{task:?}: {}", self.trouble));
        open.or(self.coming.unfinished())
    }

    /// Nothing is being changed about an instance.
    fn is_free(&self, instance: &str) -> bool {
        let mut all = self.todo.iter().chain(self.doing.values());
        !all.any(|task| match task {
            Task::AddReplica { instance: of, .. }
            | Task::RemoveReplica { instance: of, .. }
            | Task::Upgrade { instance: of, .. } => of == instance,
            _ => false,
        })
    }
}

impl World {
    /// The operator does what is to be done, or something that comes to mind.
    pub(crate) fn operate(&mut self) {
        let pause = self.programs.operator.rng.between(20, 400) * MILLISECOND;
        self.agenda.after(pause, Event::Operator);
        if self.programs.operator.todo.is_empty() && !self.programs.is_closing {
            self.think_of_something();
        }
        self.go_on_with_coming();
        for _ in 0..2 {
            if let Some(task) = self.programs.operator.todo.pop_front() {
                self.take_up(task);
            }
        }
    }

    fn think_of_something(&mut self) {
        let operator = &mut self.programs.operator;
        if operator.registered.is_empty() {
            return;
        }
        let known: Vec<usize> = operator.registered.iter().copied().collect();
        let number = *operator.rng.pick(&known);
        let Instance { role, machines, .. } = &self.programs.instances[number];
        let (instance, part, machines) = (role.name.clone(), role.part, machines.clone());
        let machine = *operator.rng.pick(&machines);
        match operator.rng.below(10) {
            0 => operator.add(Task::Checkpoint { instance }),
            1 | 2 => operator.add(Task::Look { instance, machine }),
            3 => self.let_the_short_lived_one_go(),
            _ => {
                let poison =
                    part == Part::Delicate && !operator.poisoned && operator.rng.chance(300);
                operator.poisoned |= poison;
                let kind = if poison { POISON } else { "rest" };
                let id = self.programs.name_impulse(kind, &instance, true);
                self.programs.operator.add(Task::Push { id, instance });
            }
        }
    }

    pub(crate) fn take_up(&mut self, task: Task) {
        let now = self.agenda.now();
        let count = self.machines.len();
        let known: Vec<usize> = (0..count).filter(|n| !self.machines[*n].foreign).collect();
        let operator = &mut self.programs.operator;
        operator.attempts += 1;
        let attempt = operator.attempts;
        let machine = match &task {
            Task::Look { machine, .. } => *machine,
            _ => *operator.rng.pick(&known),
        };
        self.trace.event(now, "", format_args!("operator at n{}: {task:?}", machine + 1));
        let request = Box::new(task.request(&self.programs.instances));
        self.programs.operator.doing.insert(attempt, task);
        let way = self.rng.between(20, 300);
        self.agenda.after(way, Event::Knock { machine, attempt, request });
        self.agenda.after(PATIENCE, Event::Reply { attempt, reply: Reply::TooLate });
    }

    /// Something came back to the operator.
    pub(crate) fn operator_told(&mut self, attempt: u64, reply: &Reply) -> Result<(), Broken> {
        let Some(task) = self.programs.operator.doing.remove(&attempt) else { return Ok(()) };
        let (status, body, well) = match reply {
            Reply::Answer { response, .. } => {
                (response.status, response.to_json(), response.is_success())
            }
            Reply::Refused => (0, json!({ "outcome": "notApplied" }), false),
            Reply::Broken | Reply::TooLate => (0, Value::Null, false),
        };
        let now = self.agenda.now();
        self.trace.event(now, "", format_args!("operator is told {status} {body} to {task:?}"));
        if let Task::Push { id, .. } = &task {
            return self.pushed(id, well, &body);
        }
        if matches!(task, Task::Go | Task::Come { .. }) {
            return self.came_or_went(task, (status, well));
        }
        if status == 404 && matches!(&task, Task::Look { instance, .. } if instance == SHORT_LIVED)
        {
            self.short_lived_is_missed();
        }
        // Refused for good: it is so already.
        let is_so = status == 409 && task.must_be() && !matches!(task, Task::Register { .. });
        if well || is_so || (status == 400 && task.must_be()) {
            self.done(task, &body);
        } else if task.must_be() {
            self.programs.operator.trouble = format!("{status} {body}");
            self.programs.operator.add(task);
        }
        Ok(())
    }

    fn pushed(&mut self, id: &str, well: bool, body: &Value) -> Result<(), Broken> {
        let books = &mut self.programs.books;
        if well {
            return books.impulse_logged(id, body["input"].as_u64().unwrap_or(0));
        }
        if body["outcome"] == "notApplied" {
            return books.impulse_lost(id);
        }
        Ok(())
    }

    fn done(&mut self, task: Task, body: &Value) {
        match task {
            Task::Register { number } if self.programs.operator.registered.insert(number) => {
                let name = self.programs.instances[number].role.name.clone();
                self.start_programs(&name);
            }
            Task::AddReplica { instance, machine } => self.replica_added(&instance, machine),
            Task::RemoveReplica { instance, machine } => self.replica_removed(&instance, machine),
            Task::Look { instance, machine } => self.looked(&instance, machine, body),
            Task::Skip { instance, .. } => {
                self.programs.operator.add(Task::Release { instance });
            }
            _ => {}
        }
    }

    fn start_programs(&mut self, name: &str) {
        for actor in 0..self.programs.actors.len() {
            if self.programs.actors[actor].role.name == name {
                let delay = self.programs.rng.between(1, 500) * MILLISECOND;
                self.start_actor_later(actor, delay);
            }
        }
    }

    fn looked(&mut self, instance: &str, machine: usize, body: &Value) {
        self.programs.operator.shown.insert((instance.to_owned(), machine), body.clone());
        let replicas = body["replicas"].as_array().into_iter().flatten();
        for held in replicas.map(|replica| &replica["held"]).filter(|held| !held.is_null()) {
            let message = held["message"].as_str().unwrap_or_default();
            let Some(input) = held["input"].as_u64() else { continue };
            let operator = &mut self.programs.operator;
            if !message.contains(POISON) {
                operator.add(Task::Release { instance: instance.to_owned() });
            } else if operator.skipped.insert((instance.to_owned(), input)) {
                operator.add(Task::Skip { instance: instance.to_owned(), input });
                self.programs.books.skipped(instance, input);
            }
        }
    }

    // What faults make the operator do.

    fn some_instance(&mut self) -> Option<(usize, Role, Vec<usize>)> {
        let operator = &mut self.programs.operator;
        let known: Vec<usize> = operator.registered.iter().copied().collect();
        if known.is_empty() {
            return None;
        }
        let number = *operator.rng.pick(&known);
        let Instance { role, machines, .. } = &self.programs.instances[number];
        operator.is_free(&role.name).then(|| (number, role.clone(), machines.clone()))
    }

    pub(crate) fn move_some_instance(&mut self) {
        let Some((_, role, machines)) = self.some_instance() else { return };
        let operator = &mut self.programs.operator;
        let machine = *operator.rng.pick(&machines);
        operator.add(Task::Move { instance: role.name, machine });
    }

    /// One replica more or less. Where disks are lost all nodes have one anyway.
    pub(crate) fn change_replicas(&mut self) {
        let nodes = self.settings.nodes;
        let everywhere = self.settings.setup.is_none_or(|setup| setup.everywhere);
        let Some((_, role, machines)) = self.some_instance() else { return };
        // The short-lived one is registered anew with the replicas it had.
        if everywhere || nodes == 1 || role.is_short_lived() {
            return;
        }
        let instance = role.name;
        let operator = &mut self.programs.operator;
        let free: Vec<usize> = (0..nodes).filter(|machine| !machines.contains(machine)).collect();
        if !free.is_empty() && (machines.len() == 1 || operator.rng.chance(500)) {
            let machine = *operator.rng.pick(&free);
            operator.add(Task::AddReplica { instance, machine });
        } else if machines.len() > 1 {
            let machine = *operator.rng.pick(&machines);
            operator.add(Task::RemoveReplica { instance, machine });
        }
    }

    fn replica_added(&mut self, instance: &str, machine: usize) {
        let found = self.programs.instances.iter_mut().find(|one| one.role.name == instance);
        let one = found.expect("what was changed is there");
        if one.machines.contains(&machine) {
            return;
        }
        one.machines.push(machine);
        let role = one.role.clone();
        let actor = self.programs.hire(&role, machine);
        self.start_actor_later(actor, 10 * MILLISECOND);
    }

    fn replica_removed(&mut self, instance: &str, machine: usize) {
        let found = self.programs.instances.iter_mut().find(|one| one.role.name == instance);
        let one = found.expect("what was changed is there");
        one.machines.retain(|known| *known != machine);
        let here = |actor: &crate::immortals::programs::Actor| {
            actor.role.name == instance && actor.machine == machine && !actor.is_gone
        };
        // Its program goes on a little; nobody needs it.
        if let Some(actor) = self.programs.actors.iter().position(here) {
            self.programs.actors[actor].is_gone = true;
        }
    }

    /// New programs are put beside some replicas, then the other version is asked for: up, or back.
    pub(crate) fn upgrade_something(&mut self) -> Result<(), Broken> {
        let Some((_, role, _)) = self.some_instance().filter(|(_, role, _)| !role.is_short_lived())
        else {
            return Ok(());
        };
        let wished = self.programs.operator.versions.entry(role.name.clone()).or_default();
        *wished = 1 - *wished;
        let version = *wished;
        self.put_upgraders(&role.name, version)?;
        self.programs.operator.add(Task::Upgrade { instance: role.name, version });
        Ok(())
    }

    /// At least one program that can make the upgrade.
    pub(crate) fn put_upgraders(&mut self, instance: &str, version: u64) -> Result<(), Broken> {
        let mut new = Vec::new();
        for (actor, one) in self.programs.actors.iter().enumerate() {
            if one.role.name == instance && !one.is_gone {
                new.push(actor);
            }
        }
        let sure = *self.programs.operator.rng.pick(&new);
        for actor in new {
            if actor == sure || self.programs.operator.rng.chance(500) {
                let versions = Versions { program: 1 - version, upgrade_to: version };
                self.programs.actors[actor].versions = versions;
                self.kill_actor(actor)?;
            }
        }
        Ok(())
    }
}
