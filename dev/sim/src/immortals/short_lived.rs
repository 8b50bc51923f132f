//! The instance that comes and goes: it is deregistered while its programs are attached and others
//! speak to it, and registered again under the same name, with new programs.
//!
//! A request that got no answer may still be done later. So it is always registered in the same
//! words: a second life that nobody wished for is like the one that was wished for.

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::checkers::Broken;
use crate::immortals::instances::SHORT_LIVED;
use crate::immortals::operator::Task;
use crate::world::World;

/// A node gives up a request after ten seconds; after so long nothing comes of it any more.
const FORGOTTEN: Time = 15 * SECOND;

/// Where the short-lived instance is on its way.
#[derive(Debug, Default)]
pub(crate) struct Coming {
    /// It is not registered, and will be from then on.
    back_at: Option<Time>,
    /// A request to deregister or to register it is under way.
    is_asked: bool,
    /// Until then something may be done that was asked for and not answered.
    unsure_until: Time,
}

impl Coming {
    pub(crate) fn unfinished(&self) -> Option<String> {
        self.back_at.map(|at| format!("'{SHORT_LIVED}' is to be registered anew at {at}"))
    }
}

impl World {
    /// The number of the short-lived instance among all, when it is registered as far as the
    /// operator knows.
    fn short_lived(&self) -> Option<usize> {
        let operator = &self.programs.operator;
        let known = operator.registered.iter().copied();
        known.into_iter().find(|number| self.programs.instances[*number].role.is_short_lived())
    }

    pub(crate) fn let_the_short_lived_one_go(&mut self) {
        let coming = &self.programs.operator.coming;
        if self.short_lived().is_some() && !coming.is_asked && coming.back_at.is_none() {
            self.programs.operator.coming.is_asked = true;
            self.programs.operator.add(Task::Go);
        }
    }

    /// A node does not know it.
    pub(crate) fn short_lived_is_missed(&mut self) {
        let coming = &mut self.programs.operator.coming;
        if !coming.is_asked && coming.back_at.is_none() {
            coming.back_at = Some(self.agenda.now());
        }
    }

    /// Registers it anew when the time has come.
    pub(crate) fn go_on_with_coming(&mut self) {
        let now = self.agenda.now();
        let operator = &mut self.programs.operator;
        if operator.coming.back_at.is_none_or(|at| at > now) {
            return;
        }
        let mut instances = self.programs.instances.iter();
        let number = instances.position(|one| one.role.is_short_lived()).expect("it was there");
        (operator.coming.back_at, operator.coming.is_asked) = (None, true);
        let sure = operator.coming.unsure_until < now && !operator.registered.contains(&number);
        operator.add(Task::Come { number });
        if sure {
            self.programs.books.seal(SHORT_LIVED);
        }
    }

    /// What became of a request to deregister it, or to register it.
    pub(crate) fn came_or_went(
        &mut self,
        task: Task,
        (status, well): (u16, bool),
    ) -> Result<(), Broken> {
        let now = self.agenda.now();
        let operator = &mut self.programs.operator;
        match &task {
            Task::Go if well || status == 404 => {
                operator.coming.is_asked = false;
                let pause = operator.rng.between(1, 2_000) * MILLISECOND;
                operator.coming.back_at = Some(now + pause);
                let programs = &mut self.programs;
                programs
                    .operator
                    .registered
                    .retain(|number| !programs.instances[*number].role.is_short_lived());
                self.some_programs_go()
            }
            Task::Come { number } if well => {
                operator.coming.is_asked = false;
                let is_new = operator.registered.insert(*number);
                self.programs.books.registered_anew(SHORT_LIVED);
                if is_new { self.new_programs(*number) } else { Ok(()) }
            }
            _ => {
                operator.coming.unsure_until = now + FORGOTTEN;
                operator.add(task);
                Ok(())
            }
        }
    }

    /// Others stay attached to what they know, or try to connect.
    fn some_programs_go(&mut self) -> Result<(), Broken> {
        for actor in self.short_lived_programs() {
            if self.programs.rng.chance(500) {
                self.let_actor_go(actor)?;
            }
        }
        Ok(())
    }

    fn new_programs(&mut self, number: usize) -> Result<(), Broken> {
        for actor in self.short_lived_programs() {
            self.let_actor_go(actor)?;
        }
        let (role, machines) = (
            self.programs.instances[number].role.clone(),
            self.programs.instances[number].machines.clone(),
        );
        for machine in machines {
            let actor = self.programs.hire(&role, machine);
            let delay = self.programs.rng.between(1, 500) * MILLISECOND;
            self.start_actor_later(actor, delay);
        }
        Ok(())
    }

    fn short_lived_programs(&self) -> Vec<usize> {
        let actors = self.programs.actors.iter().enumerate();
        actors
            .filter(|(_, one)| one.role.is_short_lived() && !one.is_gone)
            .map(|(at, _)| at)
            .collect()
    }

    /// Its process ends and is not started again.
    fn let_actor_go(&mut self, actor: usize) -> Result<(), Broken> {
        self.programs.actors[actor].is_gone = true;
        self.kill_actor(actor)
    }
}
