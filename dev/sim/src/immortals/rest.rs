//! Whether everything has come to rest after the faults are over: all programs have handled
//! all inputs, all that was said has come, and every node says so.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::agenda::{SECOND, Time};
use crate::checkers::Broken;
use crate::checkers::immortals::book_of;
use crate::immortals::instances::Instance;
use crate::immortals::operator::Task;
use crate::immortals::programs::Actor;
use crate::immortals::script::Part;
use crate::world::World;

/// Within this time all must be at rest.
const PATIENCE: Time = 120 * SECOND;

const RULE: &str = "when all is well again, immortals come to rest";

impl World {
    /// Waits until all is at rest, and looks at it then.
    ///
    /// # Errors
    /// When it does not come to rest, or something is missing.
    pub(crate) fn settle_immortals(&mut self) -> Result<(), Broken> {
        if self.programs.is_empty() {
            return Ok(());
        }
        let patience = self.agenda.now() + PATIENCE;
        let mut asked = 0;
        loop {
            let trouble = match self.unrest() {
                None if asked > 0 => self.odd_document(),
                None => Some("nobody was asked yet".to_owned()),
                unrest => unrest,
            };
            let Some(trouble) = trouble else { return Ok(()) };
            if self.agenda.now() > patience {
                return Err(Broken::new(RULE, trouble));
            }
            if asked % 10 == 9 {
                self.help_upgrades()?;
            }
            self.ask_all_nodes();
            asked += 1;
            let next = self.agenda.now() + SECOND;
            self.run_until(next)?;
        }
    }

    /// Programs for upgrades that are wished for and not made: those that could make them may have
    /// been turned away meanwhile.
    fn help_upgrades(&mut self) -> Result<(), Broken> {
        let mut open = Vec::new();
        for ((instance, _), shown) in &self.programs.operator.shown {
            if let Some(version) = open_upgrade(shown) {
                open.push((instance.clone(), version));
            }
        }
        open.dedup();
        for (instance, version) in open {
            self.put_upgraders(&instance, version)?;
        }
        Ok(())
    }

    fn ask_all_nodes(&mut self) {
        self.programs.operator.shown.clear();
        for number in 0..self.programs.instances.len() {
            let Instance { role, machines, .. } = &self.programs.instances[number];
            let instance = role.name.clone();
            for machine in machines.clone() {
                self.take_up(Task::Look { instance: instance.clone(), machine });
            }
        }
    }

    /// What is not at rest, if anything is.
    fn unrest(&self) -> Option<String> {
        if let Some(task) = self.programs.operator.unfinished() {
            return Some(task);
        }
        let mut alive = BTreeSet::new();
        for Instance { role, machines, .. } in &self.programs.instances {
            if role.part == Part::Clock {
                if let Some(unseen) = self.unseen_divergence(&role.name) {
                    return Some(unseen);
                }
                continue;
            }
            alive.insert(role.name.clone());
            let primaries = self.programs.of(&role.name).filter(|actor| is_primary(actor)).count();
            if primaries != 1 {
                return Some(format!("{} has {primaries} primaries", role.name));
            }
            for machine in machines {
                let actor = self.programs.of(&role.name).find(|actor| actor.machine == *machine);
                if let Some(trouble) = actor.and_then(|actor| self.restless(actor)) {
                    return Some(format!("{} of n{}: {trouble}", role.name, machine + 1));
                }
            }
        }
        self.programs.books.missing(&alive)
    }

    fn restless(&self, actor: &Actor) -> Option<String> {
        let Some(talk) = actor.talk.as_ref().filter(|talk| talk.is_live) else {
            return Some("no program is attached".into());
        };
        let program_state = talk.program_state.as_ref()?;
        let (book, latest) = (
            book_of(&actor.role.name, program_state.life),
            self.programs.books.latest(&actor.role.name),
        );
        if book != latest {
            return Some(format!("it lives in {book}, others in {latest}"));
        }
        let inputs = self.programs.books.inputs_of(&actor.role.name);
        if program_state.inputs != inputs {
            return Some(format!("it has handled {} of {inputs} inputs", program_state.inputs));
        }
        if !program_state.is_at_rest() {
            return Some(format!("it waits for {}", program_state.awaits()));
        }
        None
    }

    /// Two copies that live and have said different things at one input.
    fn unseen_divergence(&self, instance: &str) -> Option<String> {
        let live = |actor: &&Actor| actor.talk.as_ref().is_some_and(|talk| talk.is_live);
        let actors: Vec<&Actor> = self.programs.of(instance).filter(live).collect();
        for one in &actors {
            for other in &actors {
                let differs = one.times_told.iter().find(|(input, time)| {
                    other.times_told.iter().any(|(at, told)| at == input && told != time)
                });
                if let Some((input, _)) = differs {
                    return Some(format!(
                        "the copies of {instance} on n{} and n{} differ at input {input}, and \
                         nobody has noticed",
                        one.machine + 1,
                        other.machine + 1
                    ));
                }
            }
        }
        None
    }

    /// What a node says of an instance that is at rest, and is not so.
    fn odd_document(&self) -> Option<String> {
        for Instance { role, machines, .. } in &self.programs.instances {
            if role.part == Part::Clock {
                continue;
            }
            for machine in machines {
                let shown = self.programs.operator.shown.get(&(role.name.clone(), *machine));
                let Some(shown) = shown else {
                    return Some(format!("n{} does not show {}", machine + 1, role.name));
                };
                let inputs = self.programs.books.inputs_of(&role.name);
                let odd = oddity(shown, machines.len(), inputs);
                if let Some(odd) = odd.or_else(|| self.odd_version(&role.name, shown)) {
                    return Some(format!("{odd} in {} at n{}: {shown}", role.name, machine + 1));
                }
            }
        }
        None
    }
}

impl World {
    /// All copies are of the version that was wished for last, unless that was given up.
    fn odd_version(&self, instance: &str, shown: &Value) -> Option<&'static str> {
        if open_upgrade(shown).is_some() {
            return Some("an upgrade that is not made");
        }
        let versions = self.programs.of(instance).filter_map(|actor| actor.talk.as_ref());
        let mut versions = versions
            .filter_map(|talk| talk.program_state.as_ref())
            .map(|program_state| program_state.version);
        let told = shown["replicas"][0]["programVersion"].as_u64();
        versions.any(|version| Some(version) != told).then_some("versions")
    }
}

/// The version that is wished for and that the instance has not, unless that was given up.
fn open_upgrade(shown: &Value) -> Option<u64> {
    let wished = shown["upgradeVersion"].as_u64()?;
    let is_there = shown["replicas"][0]["programVersion"].as_u64() == Some(wished);
    (!is_there && shown["upgradeGivenUp"] != true).then_some(wished)
}

fn is_primary(actor: &Actor) -> bool {
    actor.talk.as_ref().is_some_and(|talk| talk.is_primary)
}

fn oddity(shown: &Value, replicas: usize, inputs: u64) -> Option<&'static str> {
    let all = shown["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |role: &str| all.iter().filter(|replica| replica["role"] == role).count();
    if (count("PRIMARY"), count("STANDBY")) != (1, replicas - 1) {
        return Some("roles");
    }
    if all.iter().any(|replica| replica["lag"] != 0 || replica["done"] != inputs) {
        return Some("a lag");
    }
    if shown["inputs"] != inputs {
        return Some("another number of inputs");
    }
    let outputs = shown["outputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kept =
        outputs.iter().any(|output| output["keptBytes"] != 0 || output["registered"] != true);
    kept.then_some("what is kept")
}
