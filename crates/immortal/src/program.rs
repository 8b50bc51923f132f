//! What a writer of an immortal implements, and what its handlers may do.

use std::io::Write;
use std::time::Duration;

use protocol::Moment;
use protocol::hash::{hash, scatter};
use protocol::immortal::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::book::{Book, WaitId, What};
use crate::format::{self, put_arguments};
use crate::impulses::Impulses;
use crate::incoming::{Incoming, Outcome, Performed, Refused, Reply, Sender};
use crate::outputs::Outputs;

/// A program that does not die: a state that is changed by its inputs and by nothing else.
///
/// Every copy is given the same inputs in the same order, and must reach the same state and say the
/// same things. So a handler has no clock, no random numbers, no files, no sockets and no `HashMap`
/// to iterate over: what it needs of these the [`Context`] gives it.
///
/// `handle` is the raw level: a method's number and bytes. Most programs write
/// `server::dispatch(self, context, incoming)` there, with an [`interface!`](crate::interface) that
/// decodes the arguments and calls a method of the program.
pub trait Immortal: Serialize + DeserializeOwned + Send + Sized + 'static {
    /// What to go on with when an answer comes, a timer fires or an effect is done: an enum, with
    /// what has to be remembered until then. It is kept in the checkpoint. `()` when there is none.
    type Next: Serialize + DeserializeOwned + Send;

    /// What is done outside, once for the whole history: an enum with what it needs to know. It is
    /// kept in the checkpoint until its result has come. `()` when there is none.
    type Effect: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// The very first input of the instance.
    fn start(&mut self, _context: &mut Context<'_, Self>, _initial: &[u8]) {}

    /// A message: a fork, a call or an impulse.
    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>);

    /// The answer to a call, a timer, or the result of an effect.
    fn resume(
        &mut self,
        _context: &mut Context<'_, Self>,
        _next: Self::Next,
        _outcome: Outcome<'_>,
    ) {
    }

    /// Does an effect, on a thread of its own, on the primary only. Here, and only here, a clock,
    /// the network and chance are allowed: what it gives is logged, and every copy gets that.
    ///
    /// When a primary dies in between, the next one does the effect again: what it does outside
    /// must bear to be done twice. Its result is taken once.
    fn perform(_effect: Self::Effect) -> Performed {
        Performed::refused("this program does not say how an effect is performed")
    }

    /// This copy is the primary now. Threads that take in what comes from outside are started here.
    /// The state can be looked at, not changed: the other copies know nothing of this moment.
    fn primary(&self, _impulses: &Impulses) {}

    /// This copy is not the primary any more.
    fn standby(&self) {}

    /// Writes the state for a checkpoint: CBOR unless you do better. The bytes go out as they come.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, to: &mut dyn Write) -> std::io::Result<()> {
        format::save(self, to)
    }

    /// Reads what `save` has written, and not a byte more.
    ///
    /// # Errors
    /// When it is something else.
    fn load(from: &mut dyn std::io::Read) -> std::io::Result<Self> {
        format::load(from)
    }
}

/// What is known of an input beside its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The name of the instance.
    pub(crate) me: &'a str,
    pub(crate) input: u64,
    pub(crate) now: Moment,
    pub(crate) sender: Sender<'a>,
}

/// What a handler may know and do. All of it is the same on every copy and in every replay.
pub struct Context<'a, P: Immortal> {
    place: Place<'a>,
    chance: u64,
    book: &'a mut Book<P::Next, P::Effect>,
    outputs: &'a mut Outputs,
    /// The effects that were asked for since the last DONE.
    effects: &'a mut Vec<u64>,
}

impl<'a, P: Immortal> Context<'a, P> {
    pub(crate) fn new(
        place: Place<'a>,
        book: &'a mut Book<P::Next, P::Effect>,
        outputs: &'a mut Outputs,
        effects: &'a mut Vec<u64>,
    ) -> Self {
        Self { place, chance: 0, book, outputs, effects }
    }

    /// The time of this input: when it was logged. Never goes back, and stands still in a handler.
    pub fn now(&self) -> Moment {
        self.place.now
    }

    /// A number that looks like chance and is the same on every copy. Nothing for keys and
    /// passwords: who knows the instance's name can tell it in advance.
    pub fn random(&mut self) -> u64 {
        if self.chance == 0 {
            let name = hash(self.place.me.as_bytes());
            self.chance = scatter(name ^ scatter(self.place.input)) | 1;
        }
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.chance)
    }

    /// As [`Self::random`], below a bound.
    ///
    /// # Panics
    /// When the bound is 0.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        let wide = u128::from(self.random()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("a product of two 64-bit numbers, shifted by 64")
    }

    /// The name of this instance.
    pub fn me(&self) -> &'a str {
        self.place.me
    }

    /// The number of this input, from 1 over the whole life of the instance.
    pub fn input(&self) -> u64 {
        self.place.input
    }

    /// Who sent this input.
    pub fn sender(&self) -> Sender<'a> {
        self.place.sender
    }

    /// Sends a message that needs no answer. Typed proxies do this with `.fork(context)`.
    ///
    /// # Panics
    /// When it does not fit into a frame (1 MiB unless the node says otherwise).
    pub fn fork(&mut self, to: &str, method: i64, payload: &[u8]) {
        let to = self.whom(to);
        self.outputs.fork(to, method, payload);
    }

    /// Sends a message and goes on with `next` when its answer comes.
    ///
    /// # Panics
    /// As [`Self::fork`].
    pub fn call(&mut self, to: &str, method: i64, payload: &[u8], next: P::Next) -> WaitId {
        let to = self.whom(to);
        let id = self.book.enter(What::Answer { from: to.to_owned() }, next);
        self.outputs.call(to, id, method, payload);
        WaitId(id)
    }

    /// Gives the answer that somebody waits for: a value, or `Err(Refused(..))`.
    ///
    /// # Panics
    /// As [`Self::fork`], and when the value cannot be JSON.
    pub fn answer<T: Serialize>(&mut self, reply: Reply<T>, answer: Result<T, Refused>) {
        if let Some((to, id)) = reply.to {
            self.answer_to(&to, id, &answer);
        }
    }

    /// Answers the message that is being handled; nothing when it wants no answer.
    ///
    /// # Panics
    /// As [`Self::answer`].
    pub fn answer_now<T: Serialize>(
        &mut self,
        incoming: &Incoming<'_>,
        answer: Result<T, Refused>,
    ) {
        if let Some(id) = incoming.call {
            self.answer_to(self.place.sender.name, id, &answer);
        }
    }

    /// A message that makes no sense. A caller is told; of others a line is left on standard error,
    /// and the program goes on: nobody can stop it with a wrong message.
    pub fn refuse(&mut self, incoming: &Incoming<'_>, why: &Refused) {
        if incoming.call.is_some() {
            self.answer_now::<()>(incoming, Err(why.clone()));
        } else {
            let Place { input, sender, .. } = self.place;
            let line = format!("input {input} from '{}' is left out: {why}", sender.name);
            // Nobody may be there to read it.
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    /// Goes on with `next` after this time, measured by the inputs' time.
    pub fn after(&mut self, pause: Duration, next: P::Next) -> WaitId {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.at(Moment(self.place.now.0.saturating_add(micros)), next)
    }

    /// Goes on with `next` at this time, or at once if it is past.
    pub fn at(&mut self, due: Moment, next: P::Next) -> WaitId {
        let id = self.book.enter(What::Timer, next);
        // 0 would be a side effect on the wire.
        self.outputs.wait_for(id, Some(Moment(due.0.max(1))));
        WaitId(id)
    }

    /// Has an effect done by [`Immortal::perform`] on the primary, and goes on with `next` when its
    /// result is logged.
    pub fn effect(&mut self, effect: P::Effect, next: P::Next) -> WaitId {
        let id = self.book.enter(What::Effect(effect), next);
        self.outputs.wait_for(id, None);
        self.effects.push(id);
        WaitId(id)
    }

    /// Waits no more. True if it was still waited for: then `resume` is surely not called for it.
    /// An effect may be done all the same.
    pub fn cancel(&mut self, id: WaitId) -> bool {
        let Some(waiting) = self.book.waiting.remove(&id.0) else { return false };
        if !matches!(waiting.what, What::Answer { .. }) {
            self.outputs.cancel(id.0);
        }
        true
    }

    /// Asks the node to take a checkpoint soon, after a lot of state has gone for example.
    pub fn ask_for_checkpoint(&mut self) {
        self.outputs.frame(&protocol::immortal::ToNode::AskCheckpoint);
    }

    /// Its own name and the empty one are one destination.
    fn whom<'b>(&self, to: &'b str) -> &'b str {
        if to == self.place.me { "" } else { to }
    }

    fn answer_to<T: Serialize>(&mut self, to: &str, id: u64, answer: &Result<T, Refused>) {
        let mut payload = self.outputs.take_scratch();
        let status = match answer {
            Ok(value) => put_value(&mut payload, value),
            Err(why) => {
                payload.extend_from_slice(why.0.as_bytes());
                Status::Error
            }
        };
        let to = self.whom(to);
        self.outputs.answer(to, id, status, &payload);
        self.outputs.give_scratch(payload);
    }

    pub(crate) fn with_arguments<R>(
        &mut self,
        arguments: &impl Serialize,
        send: impl FnOnce(&mut Self, &[u8]) -> R,
    ) -> R {
        let mut payload = self.outputs.take_scratch();
        put_arguments(&mut payload, arguments);
        let sent = send(self, &payload);
        self.outputs.give_scratch(payload);
        sent
    }
}

/// Writes a value as JSON. Null is none: done, and nothing to give back.
fn put_value(out: &mut Vec<u8>, value: &impl Serialize) -> Status {
    serde_json::to_writer(&mut *out, value).expect("an answer can be written as JSON");
    if out == b"null" {
        out.clear();
        return Status::Empty;
    }
    Status::Value
}
