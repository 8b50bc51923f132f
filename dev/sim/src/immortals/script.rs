//! What the programs do: state machines that know how many messages they have had of each sender,
//! so that they notice themselves if one is missing, doubled or out of order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::Moment;
use protocol::immortal::{BlockHead, Message, SourceKind, Status};
use serde::{Deserialize, Serialize};

use crate::immortals::instances::SHORT_LIVED;
use crate::orders::{Told, told};
use crate::receipts::Written;

/// What kind of program an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Counts, answers calls.
    Server,
    /// Sends to its targets by timers, `rounds` times.
    Client { rounds: u64, pace: u64 },
    /// Passes on what it gets.
    Relay,
    /// Reads the clock of its machine, which it must not: its copies differ.
    Clock,
    /// Dies of certain impulses, each time.
    Delicate,
}

/// What is the same for all copies of a program.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) targets: Vec<String>,
    /// Bytes that make its state larger.
    pub(crate) fat: usize,
}

impl Role {
    /// It is deregistered at times and registered again.
    pub(crate) fn is_short_lived(&self) -> bool {
        self.name == SHORT_LIVED
    }

    /// Its copies say the same.
    pub(crate) fn is_deterministic(&self) -> bool {
        self.part != Part::Clock
    }
}

/// The state of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramState {
    /// Which life of its instance it belongs to, if that has more than one: the number of the
    /// group.
    pub(crate) life: u32,
    pub(crate) inputs: u64,
    pub(crate) version: u64,
    /// The input that made it so.
    pub(crate) upgraded_at: u64,
    time: u64,
    /// Of all inputs.
    hash: u64,
    /// The life of each sender that was heard last, and the number of its last message.
    pub(crate) heard: BTreeMap<String, (u32, u64)>,
    /// How many messages were said to each destination.
    pub(crate) said: BTreeMap<String, u64>,
    pub(crate) impulses: BTreeSet<String>,
    awaited: u64,
    /// With the time at which each is due.
    pub(crate) timers: BTreeMap<u64, u64>,
    pub(crate) effects: BTreeSet<u64>,
    /// A timer that will be taken back, unless somebody sets a clock.
    doubtful: Option<(u64, u64)>,
    /// Those that were taken back. One that is due by then may have been on its way already.
    taken_back: BTreeMap<u64, u64>,
    next_call: u64,
    pub(crate) calls: BTreeMap<u64, String>,
    rounds: u64,
    /// By documents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) told: Told,
    /// What it has written to documents.
    #[serde(default, skip_serializing_if = "Written::is_empty")]
    pub(crate) written: Written,
    fat: String,
}

/// One input, as it was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) number: u64,
    pub(crate) time: Moment,
    pub(crate) source: BlockHead,
    pub(crate) message: Message,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Send { destination: String, messages: Vec<Message> },
    Await { id: u64, due: Option<Moment> },
    Cancel { id: u64 },
}

/// What a program dies of.
pub(crate) const POISON: &str = "poison";

pub(crate) fn mix(hash: u64, bytes: &[u8]) -> u64 {
    let start = hash ^ 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
    })
}

impl ProgramState {
    pub(crate) fn new(role: &Role, group: u32) -> Self {
        let rounds = match role.part {
            Part::Client { rounds, .. } => rounds,
            _ => 0,
        };
        let life = if role.is_short_lived() { group } else { 0 };
        // An answer to a call of a former life is none to a call of this one.
        let next_call = u64::from(life) << 32;
        Self { life, rounds, next_call, fat: "x".repeat(role.fat), ..Self::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state is JSON")
    }

    pub(crate) fn digest(&self) -> u64 {
        mix(0, &self.encode())
    }

    /// Nothing is awaited any more.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.timers.is_empty()
            && self.effects.is_empty()
            && self.calls.is_empty()
            && self.written.is_at_rest()
            && self.rounds == 0
    }

    /// What keeps it from rest.
    pub(crate) fn awaits(&self) -> String {
        let Self { timers, effects, calls, rounds, written, .. } = self;
        format!(
            "timers {timers:?}, effects {effects:?}, calls {calls:?}, {rounds} rounds, {written:?}"
        )
    }

    /// Handles one input. `clock` is what the program must not look at.
    ///
    /// # Errors
    /// When something came twice, too early or not at all.
    pub(crate) fn handle(
        &mut self,
        role: &Role,
        heard: &Heard,
        clock: u64,
    ) -> Result<Vec<Said>, String> {
        if heard.number != self.inputs + 1 {
            return Err(format!("input {} came after {}", heard.number, self.inputs));
        }
        if heard.time.0 < self.time {
            return Err(format!("time went back from {} to {}", self.time, heard.time.0));
        }
        self.inputs = heard.number;
        self.time = heard.time.0;
        self.hash = mix(self.hash, format!("{heard:?}").as_bytes());
        let mut says = Vec::new();
        self.take(role, heard, clock, &mut says)?;
        Ok(says)
    }

    fn take(
        &mut self,
        role: &Role,
        heard: &Heard,
        clock: u64,
        says: &mut Vec<Said>,
    ) -> Result<(), String> {
        let from = heard.source.name.as_str();
        match &heard.message {
            Message::Start { .. } if heard.number != 1 => return Err("START came late".into()),
            Message::Start { .. } => self.go_on(role, says),
            Message::Fork { payload, .. } if from.starts_with('/') => {
                let place = (role.name.as_str(), from);
                let number = told(&mut self.told, place, heard.source.first, payload)?;
                let is_first = self.told.get(from).is_some_and(|(_, entries)| entries.len() == 1);
                self.written.pay(place, number, is_first, says);
            }
            Message::Answer { id, payload, .. } if from.starts_with('/') => {
                self.written.answered(from, *id, payload)?;
            }
            Message::Fork { payload, .. } => {
                self.check_number(heard, payload)?;
                self.forked(role, from, clock, says);
            }
            Message::Call { id, payload, .. } => {
                self.check_number(heard, payload)?;
                self.called(role, from, *id, says);
            }
            Message::Answer { id, payload, .. } => {
                self.check_number(heard, payload)?;
                let is_mine = self.life == 0 || *id >> 32 == u64::from(self.life);
                if is_mine && self.calls.remove(id).as_deref() != Some(from) {
                    return Err(format!("an answer of {from} to call {id}, which nobody made"));
                }
            }
            Message::Impulse { payload, .. } => {
                let id = String::from_utf8_lossy(payload).into_owned();
                if !self.impulses.insert(id.clone()) {
                    return Err(format!("impulse {id} came twice"));
                }
                self.pushed(role, clock, says);
            }
            Message::Timer { id } => self.timer(role, *id, says)?,
            Message::Result { id, .. } => {
                if !self.effects.remove(id) {
                    return Err(format!("the result of side effect {id}, which nobody awaits"));
                }
            }
            Message::Upgrade { version } => {
                (self.version, self.upgraded_at) = (*version, heard.number);
            }
            Message::Skipped => {}
        }
        Ok(())
    }

    /// What each sender says to this program carries a number; so does the block it comes in. Who
    /// is registered anew begins anew with each destination, and goes on where its senders are.
    fn check_number(&mut self, heard: &Heard, payload: &Bytes) -> Result<(), String> {
        let from = &heard.source.name;
        if heard.source.kind != SourceKind::Instance {
            return Err(format!("a message of kind {:?} from {from}", heard.source.kind));
        }
        let text = String::from_utf8_lossy(payload);
        let (number, life) = numbers(&text).ok_or(format!("a message without numbers: {text}"))?;
        let known = self.heard.get(from);
        let (known_life, last) = known.copied().unwrap_or((life, 0));
        let follows = match known {
            None => number == 1 || self.life > 0,
            Some(_) if life == known_life => number == last + 1,
            Some(_) => life > known_life && number == 1,
        };
        if !follows || heard.source.first != number {
            return Err(format!(
                "message {number} of {from} in life {life} (the node says {}) came after {last} of \
                 life {known_life}",
                heard.source.first
            ));
        }
        self.heard.insert(from.clone(), (life, number));
        Ok(())
    }

    fn forked(&mut self, role: &Role, from: &str, clock: u64, says: &mut Vec<Said>) {
        match role.part {
            Part::Relay if from != role.name => {
                for target in &role.targets {
                    self.fork(target, 1, "passed on", says);
                }
            }
            Part::Clock => self.tell_the_time(role, clock, says),
            _ => {}
        }
        if from != role.name && self.draw(5) == 0 {
            self.fork(&role.name, 1, "note to self", says);
        }
        if self.draw(11) == 0 {
            self.await_effect(says);
        }
    }

    fn called(&mut self, role: &Role, from: &str, id: u64, says: &mut Vec<Said>) {
        if role.part == Part::Relay {
            for target in &role.targets {
                self.fork(target, 1, "of a call", says);
            }
        }
        let (number, status) =
            (self.number(from), if id.is_multiple_of(2) { Status::Value } else { Status::Empty });
        let life = self.life;
        let payload = Bytes::from(format!("{number}|{life}|{} of {}", self.inputs, self.version));
        let messages = vec![Message::Answer { id, status, payload }];
        says.push(Said::Send { destination: from.to_owned(), messages });
    }

    fn pushed(&mut self, role: &Role, clock: u64, says: &mut Vec<Said>) {
        match role.part {
            Part::Client { .. } => {
                let target = self.target(role);
                self.fork(&target, 1, "pushed", says);
            }
            Part::Clock => self.tell_the_time(role, clock, says),
            _ => {}
        }
    }

    fn timer(&mut self, role: &Role, id: u64, says: &mut Vec<Said>) -> Result<(), String> {
        let doubtful = self.doubtful.take_if(|(doubtful, _)| *doubtful == id).map(|(_, due)| due);
        let known = self.timers.remove(&id);
        let goes_on = known.is_some();
        let due = known.or(doubtful).or_else(|| self.taken_back.remove(&id));
        match due {
            None => return Err(format!("timer {id} fired, which nobody awaits")),
            Some(due) if self.time < due => {
                return Err(format!("timer {id} of {due} fired at {}", self.time));
            }
            Some(_) if goes_on => self.go_on(role, says),
            Some(_) => {}
        }
        Ok(())
    }

    /// A client's round.
    fn go_on(&mut self, role: &Role, says: &mut Vec<Said>) {
        let Part::Client { pace, .. } = role.part else { return };
        if let Some((id, due)) = self.doubtful.take() {
            self.taken_back.insert(id, due);
            says.push(Said::Cancel { id });
        }
        if self.rounds == 0 {
            return;
        }
        self.rounds -= 1;
        for _ in 0..=self.draw(2) {
            let target = self.target(role);
            let count = 1 + self.draw(6);
            self.fork(&target, count, "round", says);
        }
        if self.draw(2) == 0 {
            let target = self.target(role);
            if target == SHORT_LIVED {
                self.fork(&target, 1, "no call", says);
            } else {
                self.call(&target, says);
            }
        }
        if self.draw(4) == 0 {
            self.fork(&role.name, 2, "self", says);
        }
        if self.draw(4) == 0 {
            self.await_effect(says);
        }
        if self.draw(5) == 0 && self.rounds > 0 {
            self.awaited += 1;
            let due = self.time + 3_600_000_000;
            self.doubtful = Some((self.awaited, due));
            says.push(Said::Await { id: self.awaited, due: Some(Moment(due)) });
        }
        self.awaited += 1;
        let due = self.time + 1 + self.draw(pace);
        self.timers.insert(self.awaited, due);
        says.push(Said::Await { id: self.awaited, due: Some(Moment(due)) });
    }

    fn await_effect(&mut self, says: &mut Vec<Said>) {
        self.awaited += 1;
        self.effects.insert(self.awaited);
        says.push(Said::Await { id: self.awaited, due: None });
    }

    fn tell_the_time(&mut self, role: &Role, clock: u64, says: &mut Vec<Said>) {
        let target = self.target(role);
        self.fork(&target, 1, &format!("it is {clock}"), says);
    }

    fn fork(&mut self, target: &str, count: u64, text: &str, says: &mut Vec<Said>) {
        let messages = (0..count)
            .map(|_| {
                let (number, life) = (self.number(target), self.life);
                let payload = format!("{number}|{life}|{text} of {}", role_text(self));
                Message::Fork { method: 1, payload: payload.into() }
            })
            .collect();
        // An empty destination is the program itself.
        says.push(Said::Send { destination: target.to_owned(), messages });
    }

    fn call(&mut self, target: &str, says: &mut Vec<Said>) {
        self.next_call += 1;
        self.calls.insert(self.next_call, target.to_owned());
        let payload = Bytes::from(format!("{}|{}|call", self.number(target), self.life));
        let messages = vec![Message::Call { id: self.next_call, method: 2, payload }];
        says.push(Said::Send { destination: target.to_owned(), messages });
    }

    fn number(&mut self, target: &str) -> u64 {
        let said = self.said.entry(target.to_owned()).or_default();
        *said += 1;
        *said
    }

    fn target(&mut self, role: &Role) -> String {
        let place = self.draw(role.targets.len() as u64);
        let place = usize::try_from(place).expect("there are few targets");
        role.targets.get(place).unwrap_or(&role.name).clone()
    }

    /// A number that follows from all inputs so far.
    fn draw(&mut self, limit: u64) -> u64 {
        self.hash = mix(self.hash, b"draw");
        (self.hash >> 7) % limit.max(1)
    }
}

/// The number and the sender's life that a message begins with.
pub(crate) fn numbers(text: &str) -> Option<(u64, u32)> {
    let mut words = text.split('|');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn role_text(program_state: &ProgramState) -> String {
    format!("input {} at version {}", program_state.inputs, program_state.version)
}
