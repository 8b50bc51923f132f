//! Programs come, send, are killed, and come again. Faults. What people and keyboards do.

use bytes::Bytes;
use immortals::{Adapter, Input, NativeAdapter, Request};
use protocol::ReplicaId;
use protocol::immortal::{Hello, VERSION};

use crate::base::{Event, Site, World};
use crate::program::{Manners, Process, Sight};
use crate::script::Word;

impl World {
    pub(crate) fn want_program(&mut self, at: Site) {
        let most = if self.random.one_in(4) { 1_000_000 } else { 100_000 };
        let wait = 5_000 + self.below(most);
        let replica = &mut self.groups[at.0][at.1];
        if !replica.attaching {
            replica.attaching = true;
            self.after(wait, Event::Attach { at });
        }
    }

    pub(crate) fn attach(&mut self, at: Site) {
        let replica = &mut self.groups[at.0][at.1];
        replica.attaching = false;
        if replica.instance.is_none() || replica.process.is_some() {
            return;
        }
        let mut manners = self.manners[at.0];
        if manners == Manners::Good && !self.calm && self.random.one_in(25) {
            manners = [Manners::NoCheckpoint, Manners::Broken][self.random.index(2)];
        }
        let versions = *self.random.any(&self.versions[at.0]).expect("there is a version");
        self.programs += 1;
        let program = self.programs;
        let mut process = Process::new(program, manners, self.scripts[at.0].clone(), versions);
        process.slow = if self.random.one_in(6) { self.below(20_000) } else { self.below(1000) };
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            instance: process.script.name.clone(),
            program_version: versions.0,
            upgrade_to: versions.1,
        };
        self.show(&format!("program {program} for {at:?} {manners:?} {versions:?}"));
        self.groups[at.0][at.1].process = Some(process);
        self.with(at, |instance, cx, lead, outputs| {
            let adapter = Adapter::Native(NativeAdapter::default());
            instance
                .attach(cx, lead.as_mut(), program, adapter, hello, outputs)
                .expect("it does not fail");
        });
    }

    pub(crate) fn process(&mut self, at: Site, program: u64) -> Option<&mut Process> {
        self.groups[at.0][at.1].process.as_mut().filter(|process| process.id == program)
    }

    pub(crate) fn tell(&mut self, at: Site, program: u64, bytes: Vec<Bytes>) {
        let Some(process) = self.process(at, program) else { return };
        process.pipe.extend(bytes);
        self.want_wake(at);
    }

    pub(crate) fn closed(&mut self, at: Site, program: u64) {
        let Some(process) = self.process(at, program) else { return };
        process.closed = true;
        self.want_wake(at);
    }

    fn want_wake(&mut self, at: Site) {
        let Some(process) = &self.groups[at.0][at.1].process else { return };
        let (slow, asleep, program) = (process.slow, process.asleep_until, process.id);
        let pace = 50 + self.below(500) + slow;
        let wait = asleep.saturating_sub(self.now).max(pace);
        let replica = &mut self.groups[at.0][at.1];
        if !replica.waking {
            replica.waking = true;
            self.after(wait, Event::Wake { at, program });
        }
    }

    fn want_hear(&mut self, at: Site) {
        let wait = 20 + self.below(400);
        let replica = &mut self.groups[at.0][at.1];
        let Some(process) = &replica.process else { return };
        if !replica.hearing && !process.out.is_empty() {
            replica.hearing = true;
            let program = process.id;
            self.after(wait, Event::Hear { at, program });
        }
    }

    pub(crate) fn hear(&mut self, at: Site, program: u64) {
        let most = self.random.index(3000) + 1;
        let Some(process) = self.process(at, program) else { return };
        let count = most.min(process.out.len());
        let bytes: Vec<u8> = process.out.drain(..count).collect();
        self.groups[at.0][at.1].hearing = false;
        self.input(at, Input::Read { program, bytes: bytes.into() });
        self.want_hear(at);
    }

    pub(crate) fn wake(&mut self, at: Site, program: u64) {
        if self.process(at, program).is_none() {
            return;
        }
        self.groups[at.0][at.1].waking = false;
        let mut random = std::mem::replace(&mut self.random, random::Random::of_seed(0));
        let mut sights = Vec::new();
        let mut drained = 0;
        let (mut gone, now) = (false, self.now);
        if let Some(process) = self.process(at, program) {
            if process.asleep_until <= now {
                drained = process.read(&mut random);
                process.run(&mut random, &mut sights);
            }
            gone = process.closed && process.pipe.is_empty();
        }
        self.random = random;
        if drained > 0 {
            self.input(at, Input::Written { program, bytes: drained });
        }
        for sight in sights {
            self.see(at, program, sight);
        }
        if gone {
            self.kill(at);
        }
        self.want_hear(at);
        let busy = self.groups[at.0][at.1].process.as_ref().is_some_and(Process::is_busy);
        if busy {
            self.want_wake(at);
        }
    }

    fn see(&mut self, at: Site, program: u64, sight: Sight) {
        self.show(&format!("{at:?} program {program} {sight:?}"));
        if matches!(sight, Sight::Crashed) {
            // What the program has sent before still arrives.
            self.kill(at);
            return;
        }
        if let Sight::Error { code, .. } = &sight
            && (code == "HELD" || code == "DIVERGED")
            && self.releases(at)
        {
            let wait = self.below(500_000);
            self.after(wait, Event::Release { at });
        }
        let exact = self.manners[at.0] != Manners::Clock;
        self.watch.see(at.0, &self.logs[at.0], exact, sight);
    }

    /// Programs that are killed by chance may be killed at the same input three times.
    fn releases(&self, at: Site) -> bool {
        self.manners[at.0] == Manners::Good
    }

    /// The program is gone without a word. The node hears of it a little later.
    pub(crate) fn kill(&mut self, at: Site) {
        let replica = &mut self.groups[at.0][at.1];
        let Some(process) = replica.process.take() else { return };
        let (boot, program) = (replica.boot, process.id);
        (replica.waking, replica.hearing) = (false, false);
        let kept = self.random.index(process.out.len() + 1);
        if kept > 0 {
            let bytes: Vec<u8> = process.out.into_iter().take(kept).collect();
            self.input(at, Input::Read { program, bytes: bytes.into() });
        }
        let wait = self.below(3_000);
        self.after(wait, Event::Detached { at, boot, program });
        self.want_program(at);
    }

    // Faults.

    pub(crate) fn any(&mut self) -> Site {
        let group = self.random.index(self.groups.len());
        (group, self.random.index(self.groups[group].len()))
    }

    pub(crate) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let at = self.any();
        match self.random.index(15) {
            0..=3 => self.kill(at),
            4 | 5 => self.crash_one(at),
            6 | 7 => self.hang(at),
            8 | 9 => self.usurp(at.0),
            10 => self.install_one(at),
            11 => drop(self.ask(at.0, Request::Checkpoint)),
            12 => {
                // Somebody sets the clock.
                let skew = self.below(3_000_000);
                self.groups[at.0][at.1].skew = skew;
            }
            _ => {
                let to = ReplicaId(1 + self.below(3));
                self.ask(at.0, Request::Move { to });
            }
        }
        let pause = 1_500_000 / self.rough;
        let wait = self.below(pause);
        self.after(wait, Event::Fault);
    }

    fn crash_one(&mut self, at: Site) {
        if self.groups[at.0][at.1].instance.is_none() {
            return;
        }
        let others_up = self.up(at.0).len() == self.groups[at.0].len();
        let wiped = others_up && self.groups[at.0].len() > 2 && self.random.one_in(3);
        self.crash(at, wiped);
    }

    fn hang(&mut self, at: Site) {
        let until = self.now + self.below(3_000_000);
        if let Some(process) = &mut self.groups[at.0][at.1].process {
            process.asleep_until = until;
        }
    }

    /// The owner is not reached for a while, and another one is elected.
    fn usurp(&mut self, group: usize) {
        let up = self.up(group);
        if up.len() * 2 <= self.groups[group].len() {
            return;
        }
        let term = self.logs[group].term;
        if let Some(place) = self.random.any(&up).copied()
            && self.logs[group].owner.is_some()
            && !self.would_need_snapshot(group, place)
            && term > 0
        {
            self.elect(group, place);
        }
    }

    fn install_one(&mut self, at: Site) {
        if self.groups[at.0][at.1].instance.is_some() && self.logs[at.0].owner.is_some() {
            self.install(at);
        }
    }

    pub(crate) fn ask(&mut self, group: usize, ask: Request) -> u64 {
        self.tags += 1;
        let ticket = self.tags;
        if let Some(owner) = self.logs[group].owner {
            self.input((group, owner), Input::Request { ticket, request: ask });
        }
        ticket
    }

    /// Keys are pressed, and requests come from outside.
    pub(crate) fn load(&mut self) {
        if self.impulses_left == 0 {
            return;
        }
        self.impulses_left -= 1;
        let wait = self.below(250_000);
        self.after(wait, Event::Load);
        let group = self.random.index(self.groups.len());
        let life = u8::try_from(1 + self.random.index(4)).expect("small");
        self.tags += 1;
        let word = Word { life, tag: self.tags };
        if self.random.one_in(3) {
            let to = group;
            self.watch.pressed(word.tag, self.scripts[to].name.clone());
            let payload = word.bytes(0);
            let from = "somebody".to_owned();
            let owner = self.logs[to].owner.unwrap_or(0);
            let ask = Request::Impulse { from, method: 3, payload, key: None };
            self.input((to, owner), Input::Request { ticket: word.tag, request: ask });
            return;
        }
        let primaries = (0..self.groups[group].len()).filter(|place| {
            self.groups[group][*place].process.as_ref().is_some_and(|process| process.primary)
        });
        let primaries: Vec<usize> = primaries.collect();
        let Some(place) = self.random.any(&primaries).copied() else { return };
        let to = self.random.index(self.groups.len());
        let to = if self.random.one_in(4) { group } else { to };
        let name = self.scripts[to].name.clone();
        self.watch.pressed(word.tag, name.clone());
        let process = self.groups[group][place].process.as_mut().expect("it was just looked at");
        let name = if to == group { String::new() } else { name };
        process.impulse(&name, word);
        self.want_hear((group, place));
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn come_to_rest(&mut self) {
        self.calm = true;
        for group in 0..self.groups.len() {
            for replica in 0..self.groups[group].len() {
                let at = (group, replica);
                self.start(at);
                let Some(process) = &mut self.groups[group][replica].process else { continue };
                process.asleep_until = 0;
                let bad = matches!(process.manners, Manners::NoCheckpoint | Manners::Broken);
                if bad && process.manners != self.manners[group] {
                    self.kill(at);
                }
            }
        }
    }
}
