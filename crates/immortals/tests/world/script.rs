//! What the scripted programs do: a deterministic state machine that talks a lot, and notices
//! itself when an input comes twice, too early or not at all.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::Moment;
use protocol::immortal::{Message, SourceKind, Status};
use random::{Random, digest};
use serde::{Deserialize, Serialize};

/// A message with this tag makes a program crash that cannot bear it.
pub(crate) const BOMB: u64 = u64::MAX;

/// What the programs of different instances differ in.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    /// The instances to which it sends.
    pub(crate) friends: Vec<String>,
    /// One input in this many causes no messages.
    pub(crate) talk: u64,
    /// How many bytes longer a message is now and then.
    pub(crate) bytes: usize,
}

/// The state of a program, which all programs of an instance have alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) inputs: u64,
    pub(crate) time: u64,
    /// A digest of all inputs and outputs.
    pub(crate) trail: u64,
    /// How many messages were sent to each, and came from each.
    pub(crate) sent: BTreeMap<String, u64>,
    pub(crate) came: BTreeMap<String, u64>,
    last_id: u64,
    pub(crate) timers: BTreeMap<u64, u64>,
    pub(crate) effects: BTreeSet<u64>,
    cancelled: BTreeSet<u64>,
    pub(crate) calls: BTreeSet<u64>,
    pub(crate) results: u64,
}

/// What a program sends in handling an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecentOutput {
    Send { to: String, message: Message },
    Await { id: u64, due: Option<Moment> },
    Cancel { id: u64 },
}

/// One input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) number: u64,
    pub(crate) time: u64,
    pub(crate) kind: SourceKind,
    pub(crate) name: String,
    /// The place of the message in the sender's stream.
    pub(crate) place: u64,
    pub(crate) message: Message,
}

/// What the scripts' payloads hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// How many answers to answers may follow.
    pub(crate) life: u8,
    /// The sender's own count, or the number of an impulse.
    pub(crate) tag: u64,
}

impl Word {
    pub(crate) fn bytes(self, more: usize) -> Bytes {
        let mut out = vec![self.life];
        out.extend_from_slice(&self.tag.to_le_bytes());
        out.resize(9 + more, 0xee);
        out.into()
    }

    pub(crate) fn of(payload: &Bytes) -> Self {
        let tag = <[u8; 8]>::try_from(&payload[1..9]).expect("nine bytes at least");
        Self { life: payload[0], tag: u64::from_le_bytes(tag) }
    }
}

impl State {
    pub(crate) fn new(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a state encodes")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).expect("a state decodes")
    }

    /// Handles an input; says what is wrong with it.
    pub(crate) fn handle(
        &mut self,
        script: &Script,
        given: &Given,
    ) -> Result<Vec<RecentOutput>, String> {
        if given.number != self.inputs + 1 {
            return Err(format!("input {} after {}", given.number, self.inputs));
        }
        if given.time < self.time {
            return Err(format!("time goes back from {} to {}", self.time, given.time));
        }
        if (given.number == 1) != matches!(given.message, Message::Start { .. }) {
            return Err("START is input 1 and no other".into());
        }
        (self.inputs, self.time) = (given.number, given.time);
        self.trail = digest(&[self.trail, given.number], format!("{given:?}").as_bytes());
        let mut random = Random::of_seed(self.trail);
        let mut said = Vec::new();
        let life = self.take(given, &mut random, &mut said)?;
        for _ in 0..life.min(2) {
            if life > 0 && !random.one_in(script.talk) {
                self.say(script, life - 1, &mut random, &mut said);
            }
        }
        self.trail = digest(&[self.trail], format!("{said:?}").as_bytes());
        Ok(said)
    }

    /// How much may follow from it.
    fn take(
        &mut self,
        given: &Given,
        random: &mut Random,
        said: &mut Vec<RecentOutput>,
    ) -> Result<u8, String> {
        match &given.message {
            Message::Fork { payload, .. } => self.count(given, payload),
            Message::Call { id, payload, .. } => {
                let life = self.count(given, payload)?;
                let tag = self.next_to(&given.name);
                let payload = Word { life: 0, tag }.bytes(random.index(5));
                let message = Message::Answer { id: *id, status: Status::Value, payload };
                said.push(RecentOutput::Send { to: given.name.clone(), message });
                Ok(life)
            }
            Message::Answer { id, payload, .. } => {
                self.count(given, payload)?;
                let known = self.calls.remove(id);
                known
                    .then_some(1)
                    .ok_or_else(|| format!("an answer to call {id} that was not asked"))
            }
            Message::Impulse { payload, .. } => Ok(Word::of(payload).life),
            Message::Timer { id } => match self.timers.remove(id) {
                Some(due) if due <= given.time => Ok(1),
                Some(due) => Err(format!("timer {id} of {due} at {}", given.time)),
                None if self.cancelled.remove(id) => Ok(0),
                None => Err(format!("timer {id} is not awaited")),
            },
            Message::Result { id, .. } => {
                self.results += 1;
                let known = self.effects.remove(id);
                known.then_some(1).ok_or_else(|| format!("result {id} is not awaited"))
            }
            Message::Upgrade { version } => {
                self.version = *version;
                Ok(1)
            }
            Message::Start { .. } => Ok(2),
            Message::Skipped => {
                if given.kind == SourceKind::Instance {
                    *self.came.entry(given.name.clone()).or_default() += 1;
                }
                Ok(0)
            }
        }
    }

    /// A message of another instance is the next of its messages.
    fn count(&mut self, given: &Given, payload: &Bytes) -> Result<u8, String> {
        let word = Word::of(payload);
        let came = self.came.entry(given.name.clone()).or_default();
        if word.tag != BOMB && (word.tag != *came + 1 || given.place != word.tag) {
            return Err(format!(
                "message {} (as {}) of {} after {came}",
                word.tag, given.place, given.name
            ));
        }
        *came += 1;
        Ok(word.life)
    }

    fn next_to(&mut self, name: &str) -> u64 {
        let sent = self.sent.entry(name.to_owned()).or_default();
        *sent += 1;
        *sent
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn say(
        &mut self,
        script: &Script,
        life: u8,
        random: &mut Random,
        said: &mut Vec<RecentOutput>,
    ) {
        let to = match random.one_in(4) {
            true => script.name.clone(),
            false => random.any(&script.friends).unwrap_or(&script.name).clone(),
        };
        let bytes = if random.one_in(6) { random.index(script.bytes) } else { 0 };
        match random.index(10) {
            0..=5 => {
                for _ in 0..1 + random.index(3) {
                    let payload = Word { life, tag: self.next_to(&to) }.bytes(bytes);
                    let method = i64::try_from(self.version).expect("small");
                    let message = Message::Fork { method, payload };
                    said.push(RecentOutput::Send { to: to.clone(), message });
                }
            }
            6 => {
                let payload = Word { life, tag: self.next_to(&to) }.bytes(bytes);
                let id = self.next_id();
                self.calls.insert(id);
                said.push(RecentOutput::Send {
                    to,
                    message: Message::Call { id, method: -5, payload },
                });
            }
            7 | 8 => self.wait(random, said),
            _ => {
                let id = self.next_id();
                self.effects.insert(id);
                said.push(RecentOutput::Await { id, due: None });
            }
        }
    }

    fn wait(&mut self, random: &mut Random, said: &mut Vec<RecentOutput>) {
        let oldest = self.timers.keys().next().copied();
        if let Some(id) = oldest
            && random.one_in(4)
        {
            self.timers.remove(&id);
            self.cancelled.insert(id);
            said.push(RecentOutput::Cancel { id });
            return;
        }
        let id = self.next_id();
        let due = self.time + [0, 1000, 100_000, 1_000_000][random.index(4)];
        self.timers.insert(id, due);
        said.push(RecentOutput::Await { id, due: Some(Moment(due)) });
    }
}
