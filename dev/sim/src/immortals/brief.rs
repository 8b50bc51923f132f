//! The instance that comes and goes: it is deregistered while its programs are attached and others
//! speak to it, and registered again under the same name, with new programs.
//!
//! A request that got no answer may still be done later. So it is always registered in the same
//! words: a second life that nobody wished for is like the one that was wished for.

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::checkers::Broken;
use crate::immortals::cast::BRIEF;
use crate::immortals::operator::Task;
use crate::world::World;

/// A node gives up a request after ten seconds; after so long nothing comes of it any more.
const FORGOTTEN: Time = 15 * SECOND;

/// Where the brief instance is on its way.
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
        self.back_at.map(|at| format!("'{BRIEF}' is to be registered anew at {at}"))
    }
}

impl World {
    /// The number of the brief instance in the cast, when it is registered as far as the operator
    /// knows.
    fn brief(&self) -> Option<usize> {
        let operator = &self.troupe.operator;
        let known = operator.registered.iter().copied();
        known.into_iter().find(|number| self.troupe.cast[*number].role.is_brief())
    }

    pub(crate) fn let_the_brief_one_go(&mut self) {
        let coming = &self.troupe.operator.coming;
        if self.brief().is_some() && !coming.is_asked && coming.back_at.is_none() {
            self.troupe.operator.coming.is_asked = true;
            self.troupe.operator.add(Task::Go);
        }
    }

    /// A node does not know it.
    pub(crate) fn brief_is_missed(&mut self) {
        let coming = &mut self.troupe.operator.coming;
        if !coming.is_asked && coming.back_at.is_none() {
            coming.back_at = Some(self.agenda.now());
        }
    }

    /// Registers it anew when the time has come.
    pub(crate) fn mind_coming(&mut self) {
        let now = self.agenda.now();
        let operator = &mut self.troupe.operator;
        if operator.coming.back_at.is_none_or(|at| at > now) {
            return;
        }
        let mut cast = self.troupe.cast.iter();
        let number = cast.position(|one| one.role.is_brief()).expect("it was there");
        (operator.coming.back_at, operator.coming.is_asked) = (None, true);
        let sure = operator.coming.unsure_until < now && !operator.registered.contains(&number);
        operator.add(Task::Come { number });
        if sure {
            self.troupe.books.seal(BRIEF);
        }
    }

    /// What became of a request to deregister it, or to register it.
    pub(crate) fn came_or_went(
        &mut self,
        task: Task,
        (status, well): (u16, bool),
    ) -> Result<(), Broken> {
        let now = self.agenda.now();
        let operator = &mut self.troupe.operator;
        match &task {
            Task::Go if well || status == 404 => {
                operator.coming.is_asked = false;
                let pause = operator.dice.between(1, 2_000) * MILLISECOND;
                operator.coming.back_at = Some(now + pause);
                let troupe = &mut self.troupe;
                troupe.operator.registered.retain(|number| !troupe.cast[*number].role.is_brief());
                self.some_programs_go()
            }
            Task::Come { number } if well => {
                operator.coming.is_asked = false;
                let is_new = operator.registered.insert(*number);
                self.troupe.books.registered_anew(BRIEF);
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
        for actor in self.brief_programs() {
            if self.troupe.dice.chance(500) {
                self.let_actor_go(actor)?;
            }
        }
        Ok(())
    }

    fn new_programs(&mut self, number: usize) -> Result<(), Broken> {
        for actor in self.brief_programs() {
            self.let_actor_go(actor)?;
        }
        let (role, machines) =
            (self.troupe.cast[number].role.clone(), self.troupe.cast[number].machines.clone());
        for machine in machines {
            let actor = self.troupe.hire(&role, machine);
            let delay = self.troupe.dice.between(1, 500) * MILLISECOND;
            self.start_actor_later(actor, delay);
        }
        Ok(())
    }

    fn brief_programs(&self) -> Vec<usize> {
        let actors = self.troupe.actors.iter().enumerate();
        actors.filter(|(_, one)| one.role.is_brief() && !one.is_gone).map(|(at, _)| at).collect()
    }

    /// Its process ends and is not started again.
    fn let_actor_go(&mut self, actor: usize) -> Result<(), Broken> {
        self.troupe.actors[actor].is_gone = true;
        self.kill_actor(actor)
    }
}
