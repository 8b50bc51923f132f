//! A play: a program alone with a log, where a test is all the rest of the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use protocol::Moment;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Attached, Checkpoint, FakeNode, Input, Message, Output, SourceKind, Status, ToNode, Told,
};
use crate::interface::Outgoing;
use crate::program::Immortal;

/// When a play begins: some day in 2023.
const BEGINNING: Moment = Moment(1_700_000_000_000_000);

/// The check loads this many checkpoints from the middle.
const CHECKPOINTS_MAX: usize = 10;

/// A program under test. Each input is given to it at once, and what it said is kept.
///
/// ```
/// # use immortal::{Context, Immortal, Incoming};
/// # use serde::{Deserialize, Serialize};
/// # immortal::interface! {
/// #     pub trait Counter => CounterProxy { 1 => fn add(number: u64) -> u64; }
/// # }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Sum { sum: u64 }
/// # impl Counter for Sum {
/// #     fn add(&mut self, _: &mut Context<'_, Self>, number: u64) -> u64 {
/// #         self.sum += number;
/// #         self.sum
/// #     }
/// # }
/// # impl Immortal for Sum {
/// #     type Next = ();
/// #     type Effect = ();
/// #     fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
/// #         self.dispatch(context, incoming);
/// #     }
/// # }
/// use immortal::testing::Play;
///
/// let mut play = Play::new("counter", Sum::default);
/// play.call("client", CounterProxy::me().add(2));
/// let call = play.call("client", CounterProxy::me().add(3));
/// assert_eq!(play.answer_to::<u64>("client", call), Ok(5));
/// play.crash();
/// play.check().unwrap();
/// ```
pub struct Play {
    node: FakeNode,
    instance: String,
    attached: Attached,
    now: Moment,
    log: Vec<Logged>,
    /// The state before the first input.
    first: Checkpoint,
    /// What a crash begins with.
    last: Checkpoint,
    given: Given,
    pending: Pending,
    term: u64,
    /// How far [`Play::said`] has told.
    told: usize,
}

/// What others have sent to the program.
#[derive(Default)]
struct Given {
    /// The last number of each stream.
    numbers: BTreeMap<String, u64>,
    calls: u64,
    /// How many came from the program's own threads.
    impulses: u64,
}

/// What the program has asked for, and has not been given.
#[derive(Default)]
struct Pending {
    /// Messages of the program to itself.
    inner: VecDeque<Message>,
    timers: BTreeSet<(Moment, u64)>,
    effects: BTreeSet<u64>,
}

struct Logged {
    time: Moment,
    input: Input,
    said: Vec<Output>,
}

/// What a program said to another instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The input in which it was said.
    pub input: u64,
    pub to: String,
    pub message: Message,
}

impl Said {
    /// The arguments of a fork or a call, or the value of an answer.
    ///
    /// # Panics
    /// When they are of another type.
    pub fn arguments<T: DeserializeOwned>(&self) -> T {
        let (Message::Fork { payload, .. }
        | Message::Call { payload, .. }
        | Message::Answer { payload, .. }) = &self.message
        else {
            panic!("{:?} has no arguments", self.message)
        };
        serde_json::from_slice(payload).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

/// Where the second run went another way than the first.
struct Difference {
    from: u64,
    input: u64,
    expected: String,
    found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, input, expected, found } = self;
        write!(
            f,
            "not deterministic: loaded after input {from}, at input {input}\n  it said first \
             {expected}\n  and now {found}"
        )
    }
}

impl Play {
    /// Starts a program with this first state, and gives it the START input.
    pub fn new<P: Immortal>(instance: &str, fresh: impl Fn() -> P + Send + 'static) -> Self {
        Self::with_node(instance, FakeNode::start(instance, fresh))
    }

    /// The same with arguments for `start`.
    pub fn with_initial<P: Immortal>(
        instance: &str,
        initial: &impl Serialize,
        fresh: impl Fn() -> P + Send + 'static,
    ) -> Self {
        let bytes = serde_json::to_value(initial).expect("the arguments can be JSON");
        let node = FakeNode::start_with(instance, move |options, impulses| {
            crate::run_with(&options.initial(&bytes), fresh, &impulses)
        });
        Self::with_node(instance, node)
    }

    fn with_node(instance: &str, node: FakeNode) -> Self {
        let mut attached = node.accept();
        let (first, payload) = attached.genesis();
        attached.end_of_replay();
        attached.primary(1);
        let mut play = Self {
            node,
            instance: instance.to_owned(),
            attached,
            now: BEGINNING,
            log: Vec::new(),
            last: first.clone(),
            first,
            given: Given::default(),
            pending: Pending::default(),
            term: 1,
            told: 0,
        };
        play.node_says(Message::Start { payload });
        play
    }

    /// Another instance forks.
    pub fn fork<A: Serialize, R>(&mut self, from: &str, message: Outgoing<'_, A, R>) {
        let (method, payload) = (message.method(), message.payload().into());
        self.message_from(from, Message::Fork { method, payload });
    }

    /// Another instance calls. Gives the call's id.
    pub fn call<A: Serialize, R>(&mut self, from: &str, message: Outgoing<'_, A, R>) -> u64 {
        self.given.calls += 1;
        let (id, method, payload) = (self.given.calls, message.method(), message.payload().into());
        self.message_from(from, Message::Call { id, method, payload });
        id
    }

    /// An impulse, from outside.
    pub fn impulse<A: Serialize, R>(&mut self, message: Outgoing<'_, A, R>) {
        let (method, payload) = (message.method(), message.payload().into());
        let message = Message::Impulse { method, payload };
        let name = "client/test".to_owned();
        self.input(Input { kind: SourceKind::Impulses, name, number: 0, message });
        self.settle();
    }

    /// Another instance answers a call that the program made.
    pub fn answer(&mut self, from: &str, id: u64, value: &impl Serialize) {
        let payload = serde_json::to_vec(value).expect("an answer can be JSON").into();
        self.message_from(from, Message::Answer { id, status: Status::Value, payload });
    }

    /// Another instance refuses a call.
    pub fn refuse(&mut self, from: &str, id: u64, why: &str) {
        let payload = Bytes::copy_from_slice(why.as_bytes());
        self.message_from(from, Message::Answer { id, status: Status::Error, payload });
    }

    /// Any message of another instance, as bytes.
    pub fn message_from(&mut self, from: &str, message: Message) {
        let number = self.given.numbers.entry(from.to_owned()).or_default();
        *number += 1;
        let (kind, name, number) = (SourceKind::Instance, from.to_owned(), *number);
        self.input(Input { kind, name, number, message });
        self.settle();
    }

    /// Time passes; timers that are due fire, each at its time.
    pub fn wait(&mut self, pause: Duration) {
        let micros = u64::try_from(pause.as_micros()).expect("a test is not so long");
        let until = Moment(self.now.0 + micros);
        while let Some((due, id)) =
            self.pending.timers.first().copied().filter(|(due, _)| *due <= until)
        {
            self.now = self.now.max(due);
            self.pending.timers.remove(&(due, id));
            self.node_says(Message::Timer { id });
        }
        self.now = self.now.max(until);
    }

    /// Waits until the program's own threads have sent that many impulses since the play began, and
    /// has them handled.
    pub fn wait_for_impulses(&mut self, count: u64) {
        while self.given.impulses < count {
            let frame = self.attached.aside();
            self.take_aside(frame);
            self.settle();
        }
    }

    /// What it said to others since this was asked last.
    pub fn said(&mut self) -> Vec<Said> {
        let from = std::mem::replace(&mut self.told, self.log.len());
        self.said_since(from).collect()
    }

    /// The answer to a call of another instance.
    ///
    /// # Errors
    /// What the program said instead of a value.
    ///
    /// # Panics
    /// When there is none.
    pub fn answer_to<T: DeserializeOwned>(&self, caller: &str, call: u64) -> Result<T, String> {
        let answer = self.said_since(0).find_map(|said| match said.message {
            Message::Answer { id, status, payload } if id == call && said.to == caller => {
                Some((status, payload))
            }
            _ => None,
        });
        let (status, payload) = answer.expect("the call was answered");
        let json = match status {
            Status::Value => &payload[..],
            Status::Empty => b"null",
            Status::Error => return Err(String::from_utf8_lossy(&payload).into()),
        };
        Ok(serde_json::from_slice(json).expect("the answer is of this type"))
    }

    fn said_since(&self, from: usize) -> impl Iterator<Item = Said> {
        self.log[from..].iter().zip(from as u64 + 1..).flat_map(|(logged, input)| {
            logged.said.iter().filter_map(move |output| match output {
                Output::Message { to, message } if !to.is_empty() => {
                    Some(Said { input, to: to.clone(), message: message.clone() })
                }
                _ => None,
            })
        })
    }

    /// How many inputs there were.
    pub fn inputs(&self) -> u64 {
        self.log.len() as u64
    }

    /// The state goes into a checkpoint; a crash begins there.
    pub fn checkpoint(&mut self) -> &Checkpoint {
        self.last = self.attached.checkpoint();
        &self.last
    }

    /// The program dies, and is given the last checkpoint and what came after it.
    ///
    /// # Panics
    /// When it does not say the same again.
    pub fn crash(&mut self) {
        let last = self.last.clone();
        let again = self.replay(&last, 1);
        assert!(again.is_ok(), "{}", again.err().map(|why| why.to_string()).unwrap_or_default());
        self.attached.end_of_replay();
        self.term += 1;
        self.attached.primary(self.term);
        self.settle();
    }

    /// Runs all inputs again, from the first state and from checkpoints in the middle, one by one
    /// and many in a frame, and compares what is said and the state at the end.
    ///
    /// # Errors
    /// Where another thing came out.
    pub fn check(&mut self) -> Result<(), String> {
        let expected = self.attached.checkpoint();
        let first = self.first.clone();
        let mut checkpoints = self.checkpoints_on_the_way(&first).map_err(|why| why.to_string())?;
        checkpoints.insert(0, first);
        for checkpoint in &checkpoints {
            for at_once in [1, 7, usize::MAX] {
                self.replay(checkpoint, at_once).map_err(|why| why.to_string())?;
                let found = self.attached.checkpoint();
                if found != expected {
                    return Err(format!(
                        "not deterministic: loaded after input {}, the state at the end is \
                         another\n  first {}\n  and now {}",
                        checkpoint.input,
                        readable(&expected.bytes),
                        readable(&found.bytes)
                    ));
                }
            }
        }
        self.attached.end_of_replay();
        self.term += 1;
        self.attached.primary(self.term);
        self.settle();
        Ok(())
    }

    /// Runs all inputs from the first state, stopping now and then for a checkpoint.
    fn checkpoints_on_the_way(
        &mut self,
        first: &Checkpoint,
    ) -> Result<Vec<Checkpoint>, Difference> {
        self.attach_again(first);
        let mut found = Vec::new();
        let pause = self.log.len().div_ceil(CHECKPOINTS_MAX).max(1);
        for start in (0..self.log.len()).step_by(pause) {
            self.replay_some(first, start..(start + pause).min(self.log.len()), 1)?;
            found.push(self.attached.checkpoint());
        }
        Ok(found)
    }

    fn attach_again(&mut self, checkpoint: &Checkpoint) {
        // The program sees the old connection end and makes another.
        drop(self.attached.socket.shutdown(std::net::Shutdown::Both));
        self.attached = self.node.accept();
        self.attached.load(checkpoint);
    }

    /// Connects again and runs everything after a checkpoint, with that many inputs in a frame.
    fn replay(&mut self, checkpoint: &Checkpoint, at_once: usize) -> Result<(), Difference> {
        self.attach_again(checkpoint);
        let from = usize::try_from(checkpoint.input).expect("the log is in memory");
        self.replay_some(checkpoint, from..self.log.len(), at_once)
    }

    fn replay_some(
        &mut self,
        checkpoint: &Checkpoint,
        which: std::ops::Range<usize>,
        at_once: usize,
    ) -> Result<(), Difference> {
        let mut start = which.start;
        while start < which.end {
            let time = self.log[start].time;
            let same_time = |logged: &&Logged| logged.time == time;
            let part = &self.log[start..which.end];
            let count = part.iter().take(at_once).take_while(same_time).count();
            let inputs: Vec<Input> = part[..count].iter().map(|one| one.input.clone()).collect();
            let (first, last) = (start as u64 + 1, (start + count) as u64);
            self.attached.deliver(first, time, &inputs);
            let found = self.attached.done(last);
            let expected: Vec<&Output> = part[..count].iter().flat_map(|one| &one.said).collect();
            if expected != found.iter().collect::<Vec<_>>() {
                return Err(Difference {
                    from: checkpoint.input,
                    input: last,
                    expected: format!("{expected:?}"),
                    found: format!("{found:?}"),
                });
            }
            start += count;
        }
        Ok(())
    }

    fn node_says(&mut self, message: Message) {
        self.input(Input { kind: SourceKind::Node, name: String::new(), number: 0, message });
        self.settle();
    }

    /// Logs and delivers one input, and takes note of what the program says.
    fn input(&mut self, input: Input) {
        let number = self.log.len() as u64 + 1;
        self.attached.deliver(number, self.now, std::slice::from_ref(&input));
        let said = self.attached.done(number);
        for output in &said {
            match output {
                Output::Message { to, message } if to.is_empty() => {
                    self.pending.inner.push_back(message.clone());
                }
                Output::Message { .. } => {}
                Output::Await { id, due: Some(due) } => {
                    self.pending.timers.insert((*due, *id));
                }
                Output::Await { id, due: None } => {
                    self.pending.effects.insert(*id);
                }
                Output::Cancel { id } => {
                    self.pending.effects.remove(id);
                    self.pending.timers.retain(|(_, timer)| timer != id);
                }
            }
        }
        self.log.push(Logged { time: self.now, input, said });
    }

    /// Delivers what the program said to itself, and waits for the results of its effects.
    fn settle(&mut self) {
        loop {
            if let Some(message) = self.pending.inner.pop_front() {
                let name = self.instance.clone();
                let number = self.given.numbers.entry(name.clone()).or_default();
                *number += 1;
                let (kind, number) = (SourceKind::Instance, *number);
                self.input(Input { kind, name, number, message });
            } else if let Some(frame) = self.attached.aside_now() {
                self.take_aside(frame);
            } else if !self.pending.effects.is_empty() {
                let frame = self.attached.aside();
                self.take_aside(frame);
            } else {
                return;
            }
        }
    }

    fn take_aside(&mut self, frame: ToNode) {
        match frame {
            ToNode::Result { id, status, payload } => {
                // Of one that was cancelled, or was done by two primaries, nothing is logged.
                if self.pending.effects.remove(&id) {
                    let message = Message::Result { id, status, payload };
                    let (kind, name) = (SourceKind::Node, String::new());
                    self.input(Input { kind, name, number: 0, message });
                }
            }
            ToNode::Impulse { number, destination, message } => {
                let input = self.log.len() as u64 + 1;
                assert!(destination.is_empty(), "in a play, impulses are for the program itself");
                let message = protocol::immortal::messages(message).next();
                let message = message.expect("an impulse has a message").expect("it can be read");
                let (kind, name) = (SourceKind::Impulses, self.instance.clone());
                self.input(Input { kind, name, number: 0, message });
                self.attached.fate(number, Told::Logged, input);
                self.given.impulses += 1;
            }
            ToNode::AskCheckpoint => {}
            other => panic!("a program does not say this here: {other:?}"),
        }
    }
}

/// A state as text, as far as it can be shown.
fn readable(bytes: &[u8]) -> String {
    let mut from = bytes;
    let mut parts = Vec::new();
    while !from.is_empty() {
        match ciborium::from_reader::<ciborium::Value, _>(&mut from) {
            Ok(value) => parts.push(format!("{value:?}")),
            Err(_) => break,
        }
    }
    parts.pop().unwrap_or_else(|| format!("{} bytes", bytes.len()))
}
