//! The checkers: what must hold at every step, and at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use immortals::{Between, Lane, Response};
use protocol::GroupId;
use protocol::immortal::{Fate, messages, put_message};

use crate::base::{World, group_id};
use crate::log::Log;
use crate::program::{Manners, Sight};
use crate::script::{Given, State};

#[derive(Default)]
pub(crate) struct Watch {
    /// The digest of the state after each input, by group.
    trails: BTreeMap<(usize, u64), u64>,
    /// The messages of each instance's streams, by sender, destination and number.
    said: BTreeMap<(usize, String, u64), Bytes>,
    /// The destination of each impulse, and its fate.
    pressed: BTreeMap<u64, (String, Option<Fate>)>,
    pub(crate) snapshots: u64,
    pub(crate) hand_overs: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) handled: u64,
    pub(crate) diverged: u64,
}

impl Watch {
    pub(crate) fn see(&mut self, group: usize, log: &Log, exact: bool, sight: Sight) {
        match sight {
            Sight::Handled { given, trail } => {
                self.handled += 1;
                self.is_logged(log, &given);
                self.same_trail(group, given.number, trail);
            }
            Sight::RecentOutput { to, number, message } => {
                let old = self.said.entry((group, to.clone(), number)).or_insert(message.clone());
                assert!(!exact || *old == message, "message {number} of {group} to {to} differs");
            }
            Sight::Fate { tag, fate, input } => self.fate(log, tag, fate, input),
            Sight::Loaded { input, trail } => self.same_trail(group, input, trail),
            Sight::Error { code, text } => {
                assert!(code != "DIVERGED" || !exact, "a good program was fenced: {text}");
                *self.errors.entry(code).or_default() += 1;
            }
            Sight::Wrong(what) => panic!("group {group}: {what}"),
            Sight::Crashed => {}
        }
    }

    /// Nothing is delivered that is not committed, and all get the same.
    fn is_logged(&self, log: &Log, given: &Given) {
        let place = usize::try_from(given.number).expect("small") - 1;
        let logged = log.inputs.get(place).expect("an input is committed before it is delivered");
        let skipped = log.state.skipped.contains(&given.number);
        assert!(skipped || logged == given, "delivered {given:?}, logged {logged:?}");
    }

    fn same_trail(&mut self, group: usize, input: u64, trail: u64) {
        let old = *self.trails.entry((group, input)).or_insert(trail);
        assert_eq!(old, trail, "states of {group} differ after input {input}");
    }

    /// What leaves was sent by a program, under that number.
    pub(crate) fn sent(
        &mut self,
        from: &str,
        names: &BTreeMap<String, GroupId>,
        to: GroupId,
        message: &Between,
    ) {
        let Between::Send { lane: Lane::Stream, name, first, count, messages: bytes, .. } = message
        else {
            return;
        };
        assert_eq!(from, name);
        let group = names[from];
        let (to, _) = names.iter().find(|(_, group)| **group == to).expect("it was resolved");
        let mut number = *first;
        for message in messages(bytes.clone()) {
            let mut bytes = Vec::new();
            put_message(&mut bytes, &message.expect("a good message"));
            let group = (0..).find(|place| group_id(*place) == group).expect("it is there");
            let said = self.said.get(&(group, to.clone(), number));
            assert_eq!(said, Some(&Bytes::from(bytes)), "{from} to {to}, number {number}");
            number += 1;
        }
        assert_eq!(number, first + count);
    }

    pub(crate) fn pressed(&mut self, tag: u64, to: String) {
        self.pressed.insert(tag, (to, None));
    }

    pub(crate) fn fate_of(&self, tag: u64) -> Option<Fate> {
        self.pressed.get(&tag).and_then(|(_, fate)| *fate)
    }

    fn fate(&mut self, log: &Log, tag: u64, fate: Fate, input: u64) {
        let (_, known) = self.pressed.get_mut(&tag).expect("somebody pressed it");
        assert_eq!(*known, None, "impulse {tag} has two fates");
        *known = Some(fate);
        if input > 0 {
            let place = usize::try_from(input).expect("small") - 1;
            let given = format!("{:?}", log.inputs[place].message);
            assert!(given.contains("Impulse"), "impulse {tag} as input {input} is {given}");
        }
    }

    pub(crate) fn answered(&mut self, ticket: u64, told: &Response) {
        if let Some((_, fate)) = self.pressed.get_mut(&ticket) {
            *fate = Some(match told {
                Response::Done { .. } => Fate::Logged,
                Response::Refused(_) | Response::NotNow(_) | Response::KeyReused => Fate::Lost,
                Response::NotOwner | Response::Unknown => Fate::Unknown,
            });
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        for bad in ["cannot be read", "astray", "cannot be delivered"] {
            assert!(!text.contains(bad), "{text}");
        }
        self.diverged += u64::from(text.starts_with("DIVERGED"));
    }
}

impl World {
    fn states(&self, group: usize) -> Vec<Option<&State>> {
        let replicas = self.groups[group].iter();
        replicas.map(|replica| replica.process.as_ref().and_then(|p| p.state.as_ref())).collect()
    }

    /// What still moves or waits, if anything.
    pub(crate) fn unrest(&self) -> Option<String> {
        for group in 0..self.groups.len() {
            if let Some(why) = self.unrest_of(group) {
                return Some(format!("{}: {why}", self.scripts[group].name));
            }
        }
        let left: u64 = self.impulses_left;
        (left > 0).then(|| format!("{left} impulses are to come"))
    }

    fn unrest_of(&self, group: usize) -> Option<String> {
        let log = &self.logs[group];
        if !log.proposals.is_empty() {
            return Some("proposals".into());
        }
        let inputs = u64::try_from(log.inputs.len()).expect("small");
        let mut primaries = 0;
        for (place, replica) in self.groups[group].iter().enumerate() {
            let Some(instance) = &replica.instance else { return Some(format!("{place} is down")) };
            let Some(process) = &replica.process else {
                return Some(format!("{place} has no program"));
            };
            let handled = process.state.as_ref().map_or(0, |state| state.inputs);
            if handled != inputs || inputs == 0 {
                return Some(format!("{place} has handled {handled} of {inputs}"));
            }
            if !process.open.is_empty() {
                return Some(format!("{place} has impulses without fate: {:?}", process.open));
            }
            if let Some(kept) = instance.destinations().iter().find(|to| to.kept_bytes > 0) {
                return Some(format!("{place} keeps {kept:?}"));
            }
            if !instance.status().caught_up {
                return Some(format!("{place} has not caught up"));
            }
            primaries += u64::from(instance.is_primary());
            if instance.is_primary() != process.primary {
                return Some(format!("{place} and its program do not agree who is primary"));
            }
        }
        let state = self.states(group).into_iter().flatten().next()?;
        let waits = (state.timers.len(), state.effects.len(), state.calls.len());
        match (primaries, waits) {
            (1, (0, 0, 0)) => None,
            (primaries, waits) => Some(format!("{primaries} primaries, waits for {waits:?}")),
        }
    }

    /// Runs until all is done, at most so long.
    pub(crate) fn rest(&mut self, micros_max: u64) {
        self.come_to_rest();
        let until = self.now + micros_max;
        while self.now < until {
            self.run_for(200_000);
            if self.unrest().is_none() {
                return;
            }
        }
        panic!("no rest: {}", self.unrest().expect("else it had come to rest"));
    }

    /// To be looked at when all has come to rest.
    pub(crate) fn check_end(&self) {
        for group in 0..self.groups.len() {
            let states = self.states(group);
            assert!(states.iter().all(|state| *state == states[0]), "states of {group} differ");
            for (other, theirs) in self.scripts.iter().enumerate() {
                let sent = states[0].and_then(|state| state.sent.get(&theirs.name));
                let theirs = self.states(other);
                let came = theirs[0].and_then(|state| state.came.get(&self.scripts[group].name));
                assert_eq!(sent, came, "from {group} to {other}");
            }
        }
        for (tag, (to, fate)) in &self.watch.pressed {
            let group = (0..self.groups.len()).find(|place| self.scripts[*place].name == *to);
            let logged = &self.logs[group.expect("it is there")].impulses;
            let count = logged.get(tag).copied().unwrap_or(0);
            let fits = match fate {
                Some(Fate::Logged) => count == 1,
                Some(Fate::Lost) => count == 0,
                Some(Fate::Unknown) | None => count <= 1,
            };
            assert!(fits, "impulse {tag} to {to}: {fate:?}, logged {count} times");
        }
    }

    /// A checkpoint moves the base of all on, and nothing else is left in the stores.
    pub(crate) fn check_checkpoints(&mut self) {
        let groups: Vec<usize> =
            (0..self.groups.len()).filter(|g| self.manners[*g] == Manners::Good).collect();
        let at: Vec<u64> = groups.iter().map(|g| self.logs[*g].state.inputs).collect();
        for group in &groups {
            self.ask(*group, immortals::Request::Checkpoint);
        }
        let until = self.now + 30_000_000;
        loop {
            self.run_for(500_000);
            let behind = groups.iter().zip(&at).find_map(|(group, at)| {
                let replicas = self.groups[*group].iter().flat_map(|r| r.instance.as_ref());
                let mut bases = replicas.map(|instance| instance.status().base_input);
                bases.find(|base| base < at).map(|base| (*group, base, *at))
            });
            match behind {
                None => break,
                Some(behind) => assert!(self.now < until, "the base stays behind: {behind:?}"),
            }
        }
        self.run_for(12_000_000);
        self.rest(20_000_000);
        for group in groups {
            for replica in 0..self.groups[group].len() {
                self.check_store(group, replica);
            }
        }
    }

    fn check_store(&self, group: usize, replica: usize) {
        let replica = &self.groups[group][replica];
        let (from, to) = replica.space.range(3);
        let mut found = 0;
        let count = &mut |_: &[u8], _: &[u8]| {
            found += 1;
            std::ops::ControlFlow::Continue(())
        };
        storage::Reader::scan(&replica.store, &from, &to, false, count).expect("it can be read");
        let record = immortals::read_record(&replica.store, &replica.space).expect("it is there");
        assert!(record.blob.is_some(), "it has a state");
        assert_eq!(found, record.pieces(), "pieces of states are left in the store of {group}");
    }
}
