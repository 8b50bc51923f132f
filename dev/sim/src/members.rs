//! People who look after the members: they let in who asks, and remove nodes for good.
//!
//! A machine whose node was removed comes back in the end, so that all of them are members when
//! everything is checked: at times with its old sandbox first, with which it must be told that it
//! was removed, and then with an empty one, with which it asks to be let in.

use std::collections::BTreeMap;

use protocol::node_group::{ASKING, LINK};
use protocol::{Method, Request};
use random::Random;
use serde_json::Value;

use crate::agenda::MILLISECOND;
use crate::faults::NOBODY;
use crate::network::Process;
use crate::world::{Event, World};

/// The chance, in a thousand, that a person who sees a node ask lets it in, or refuses it.
const LETS_IN: u64 = 250;
const REFUSES: u64 = 15;

/// How it stands with a node that is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// Its removal was asked for; that may have been refused, or not have arrived.
    Asked,
    /// Its process has ended because of it.
    Gone,
    /// It has an empty sandbox, and is not back before all say so.
    New,
}

pub(crate) struct Members {
    rng: Random,
    out: BTreeMap<usize, Out>,
    /// How many addresses were given away.
    moves: u64,
}

impl Members {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Random::new(seed, "members"), out: BTreeMap::new(), moves: 0 }
    }

    /// Its node has left the cluster, and is not back so far.
    pub(crate) fn is_gone(&self, machine: usize) -> bool {
        self.out.get(&machine) == Some(&Out::Gone)
    }

    /// It is to join the cluster.
    pub(crate) fn begins_anew(&mut self, machine: usize) {
        self.out.insert(machine, Out::New);
    }
}

impl World {
    /// A person has seen the node group as that machine shows it.
    pub(crate) fn look_at_who_asks(&mut self, machine: usize, group: &Value) {
        for asker in group["asking"].as_array().into_iter().flatten() {
            let Some(id) = asker["id"].as_str() else { continue };
            let link = format!("{LINK}/{ASKING}/{id}");
            let chance = self.faults.members.rng.below(1_000);
            let method = if chance < LETS_IN {
                self.paths.reached("a person let a node in");
                Method::Post
            } else if chance < LETS_IN + REFUSES && self.faults.is_bad() {
                self.paths.reached("a person refused a node");
                Method::Delete
            } else {
                continue;
            };
            self.knock(machine, NOBODY, Box::new(Request::new(method, link)));
        }
    }

    /// Whether it belongs to the cluster, and nobody has asked that it go.
    fn is_in(&self, machine: usize) -> bool {
        !self.machines[machine].foreign && !self.faults.members.out.contains_key(&machine)
    }

    /// A person removes a node for good, whatever it does at that moment. There are always as many
    /// left as the quorum in the beginning needs.
    pub(crate) fn remove_some_node(&mut self, target: usize) {
        let out = &self.faults.members.out;
        let asked = out.iter().find(|(_, out)| **out == Out::Asked).map(|(machine, _)| *machine);
        let again = asked.filter(|_| self.faults.members.rng.chance(500));
        let target = again.unwrap_or(target);
        let staying = (0..self.machines.len()).filter(|machine| self.is_in(*machine)).count();
        let may = self.is_in(target) && staying > (self.settings.nodes - 1).max(1);
        if !self.referee.is_formed() || (again.is_none() && !may) {
            return;
        }
        self.faults.members.out.insert(target, Out::Asked);
        self.paths.reached("a removal was asked for");
        if self.faults.members.rng.chance(300) {
            self.paths.reached("a node was to be removed that is down");
            self.die(target, false, "is down and is to be removed");
            let pause = self.faults.members.rng.between(1_000, 6_000) * MILLISECOND;
            self.agenda.after(pause, Event::Start { machine: target });
        }
        let at = self.faults.members.rng.index(self.machines.len());
        let link = format!("{LINK}/{}", self.machines[target].name);
        self.knock(at, NOBODY, Box::new(Request::new(Method::Delete, link)));
    }

    /// The process ended. True when that is right, as its node was removed.
    pub(crate) fn ended_as_removed(&mut self, process: Process, why: Option<&str>) -> bool {
        let machine = process.machine;
        let out = self.faults.members.out.get(&machine).copied();
        let Some(out) = out.filter(|out| *out != Out::New) else { return false };
        if why.is_some_and(|why| !why.contains("was removed from the cluster")) {
            return false;
        }
        self.paths.reached(match why {
            None => "a node was removed and ended",
            Some(_) => "a removed node was told so",
        });
        self.die(machine, false, "was removed from the cluster");
        let pause = self.faults.members.rng.between(10, 1_500) * MILLISECOND;
        if out == Out::Asked && self.faults.members.rng.chance(500) {
            self.faults.members.out.insert(machine, Out::Gone);
            self.paths.reached("a removed node came back");
            self.agenda.after(pause, Event::Start { machine });
        } else {
            self.begins_anew(machine, pause);
        }
        true
    }

    /// The process ended, as a person has refused it. True when it was that.
    pub(crate) fn ended_as_refused(&mut self, process: Process, why: &str) -> bool {
        let is_refused = why.contains("a person has refused it");
        if is_refused {
            self.die(process.machine, false, "was refused");
            let pause = self.faults.members.rng.between(10, 500) * MILLISECOND;
            self.begins_anew(process.machine, pause);
        }
        is_refused
    }

    /// It asks to join with an empty sandbox.
    fn begins_anew(&mut self, machine: usize, pause: u64) {
        self.faults.members.begins_anew(machine);
        self.faults.whole_since.clear();
        let sandbox = self.faults.members.rng.draw() | 1;
        let contact = (0..self.machines.len()).find(|other| self.is_in(*other));
        let contact = contact.map(|other| self.machines[other].uri.clone());
        self.machines[machine].renew(sandbox, contact);
        self.agenda.after(pause, Event::Start { machine });
    }

    /// A machine comes back at another address. By then it is known where the others are: nobody
    /// finds a majority that has moved at once.
    pub(crate) fn readdress(&mut self, machine: usize) {
        if !self.referee.is_formed() || !self.is_whole() || self.machines.len() < 2 {
            return;
        }
        self.paths.reached("a machine got another address");
        self.die(machine, false, "gets another address");
        self.faults.whole_since.clear();
        self.faults.members.moves += 1;
        let uri = format!("http://10.0.1.{}:8000", self.faults.members.moves);
        self.machines[machine].move_to(uri);
        let pause = self.faults.members.rng.between(1, 2_000) * MILLISECOND;
        self.agenda.after(pause, Event::Start { machine });
    }

    /// Whether every machine has said that all of them are members and vote.
    pub(crate) fn all_are_members(&self) -> bool {
        (0..self.machines.len()).all(|machine| self.faults.whole_since.contains_key(&machine))
    }

    /// Notes who is back.
    pub(crate) fn look_who_is_in(&mut self) {
        if self.all_are_members() {
            self.faults.members.out.retain(|_, out| *out != Out::New);
        }
    }
}
