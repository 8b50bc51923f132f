//! What the documents of a partition have sent to instances and is not confirmed. A message comes
//! into the outbox with the version that it is part of, and goes when its destination has it
//! durable. So does what an instance is told of a write of its own. The numbers of a destination's
//! messages count up by one and never come again: by them the destination knows a message that
//! comes once more.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use protocol::{InstanceMessage, varint};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StoreError};

use crate::command::InstanceAnswer;
use crate::family;

/// How many messages one `Command::Confirm` removes, and about how many bytes of them. The others
/// go with the next one.
const CONFIRMED_REMOVED_MAX: u64 = 4096;
const CONFIRMED_BYTES_MAX: u64 = 4 << 20;

/// What a message takes beside its payload, at least.
const MESSAGE_BYTES: usize = 64;

/// How far one destination has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The number of the last message.
    pub last: u64,
    /// The destination has all messages up to this one.
    pub confirmed: u64,
    /// What the messages take that are not confirmed.
    pub bytes: u64,
}

impl Destination {
    /// How many messages are not confirmed.
    pub fn waiting(&self) -> u64 {
        self.last - self.confirmed
    }
}

/// A message that is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    pub number: u64,
    /// The link of the document that has sent it.
    pub from: String,
    pub method: i64,
    pub payload: Bytes,
    /// It is the answer to that call, and then no method counts.
    pub answers: Option<u64>,
}

/// A message at rest. Behind that of an answer stands the number of the call.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    from: String,
    method: i64,
    payload: Bytes,
}

/// The outbox of a partition. The messages themselves are in the store alone.
#[derive(Debug, Default)]
pub struct Outbox {
    destinations: BTreeMap<String, Destination>,
}

/// How many bytes of the outbox a message takes.
pub fn message_bytes(from: &str, payload: &[u8]) -> usize {
    MESSAGE_BYTES + from.len() + payload.len()
}

impl Outbox {
    pub(crate) fn open(store: &dyn Reader, space: Space) -> Result<Self, StoreError> {
        let mut destinations = Some(BTreeMap::new());
        let (from, to) = space.range(family::DESTINATION);
        store.scan(&from, &to, false, &mut |key, value| {
            let name = std::str::from_utf8(space.rest(key)).ok().map(str::to_owned);
            let read = name.zip(postcard::from_bytes(value).ok());
            destinations = destinations.take().zip(read).map(|(mut all, (name, destination))| {
                all.insert(name, destination);
                all
            });
            ControlFlow::Continue(())
        })?;
        let destinations = destinations.ok_or_else(|| broken(space, "an outbox"))?;
        Ok(Self { destinations })
    }

    /// To how many destinations something was sent, ever.
    pub fn count(&self) -> usize {
        self.destinations.len()
    }

    /// How far each destination has come that was ever sent something, by its name.
    pub fn destinations(&self) -> impl Iterator<Item = (&str, &Destination)> {
        self.destinations.iter().map(|(name, destination)| (name.as_str(), destination))
    }

    pub fn destination(&self, name: &str) -> Option<&Destination> {
        self.destinations.get(name)
    }

    /// The messages to a destination from that number on, at least one if there is one, and then
    /// as long as they have at most that many bytes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(
        &self,
        store: &dyn Reader,
        space: Space,
        (to, first): (&str, u64),
        bytes_max: usize,
    ) -> Result<Vec<KeptMessage>, StoreError> {
        let Some(destination) = self.destinations.get(to) else { return Ok(Vec::new()) };
        let first = first.max(destination.confirmed + 1);
        let (mut messages, mut bytes, mut failed) = (Vec::new(), 0, None);
        let start = space.key(family::OUTBOX, &family::version_rest(to, first));
        let end = space.key(family::OUTBOX, &family::version_rest(to, u64::MAX));
        store.scan(&start, &end, false, &mut |key, value| match kept(space, key, value) {
            Ok(message) => {
                bytes += message_bytes(&message.from, &message.payload);
                if bytes > bytes_max && !messages.is_empty() {
                    return ControlFlow::Break(());
                }
                messages.push(message);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(messages), Err)
    }

    /// A version has come that these messages are part of.
    pub(crate) fn put(
        &mut self,
        space: Space,
        batch: &mut Batch,
        from: &str,
        messages: Vec<InstanceMessage>,
    ) {
        for InstanceMessage { to, method, payload } in messages {
            let stored = Stored { from: from.to_owned(), method, payload };
            self.keep(space, batch, &to, &stored, None);
        }
    }

    /// The outcome of a write of an instance has come.
    pub(crate) fn put_answer(&mut self, space: Space, batch: &mut Batch, answer: InstanceAnswer) {
        let InstanceAnswer { to, from, id, payload } = answer;
        self.keep(space, batch, &to, &Stored { from, method: 0, payload }, Some(id));
    }

    fn keep(
        &mut self,
        space: Space,
        batch: &mut Batch,
        to: &str,
        stored: &Stored,
        answers: Option<u64>,
    ) {
        let destination = self.destinations.entry(to.to_owned()).or_default();
        destination.last += 1;
        let bytes = message_bytes(&stored.from, &stored.payload);
        destination.bytes += u64::try_from(bytes).expect("a length fits");
        let key = space.key(family::OUTBOX, &family::version_rest(to, destination.last));
        let mut value = encode(stored);
        if let Some(id) = answers {
            varint::put(&mut value, id);
        }
        batch.put_new(key, value);
        put_destination(space, batch, to, destination);
    }

    /// These destinations have all messages up to these numbers.
    pub(crate) fn confirm(
        &mut self,
        store: &dyn Reader,
        space: Space,
        batch: &mut Batch,
        confirmed: &[(String, u64)],
    ) -> Result<(), StoreError> {
        let (mut left, mut bytes_left) = (CONFIRMED_REMOVED_MAX, CONFIRMED_BYTES_MAX);
        for (to, up_to) in confirmed {
            let Some(destination) = self.destinations.get_mut(to) else { continue };
            let (before, up_to) = (destination.confirmed, (*up_to).min(destination.last));
            while destination.confirmed < up_to && left > 0 && bytes_left > 0 {
                let number = destination.confirmed + 1;
                let key = space.key(family::OUTBOX, &family::version_rest(to, number));
                let value = store.get(&key)?.ok_or_else(|| broken(space, "an outbox"))?;
                let message = kept(space, &key, &value)?;
                let bytes = message_bytes(&message.from, &message.payload);
                let bytes = u64::try_from(bytes).expect("a length fits");
                batch.delete(key);
                destination.bytes -= bytes;
                destination.confirmed = number;
                (left, bytes_left) = (left - 1, bytes_left.saturating_sub(bytes));
            }
            if destination.confirmed > before {
                put_destination(space, batch, to, destination);
            }
        }
        Ok(())
    }

    /// What all messages take that are not confirmed, in bytes.
    pub fn bytes(&self) -> u64 {
        self.destinations.values().map(|destination| destination.bytes).sum()
    }
}

fn put_destination(space: Space, batch: &mut Batch, name: &str, destination: &Destination) {
    batch.put(space.key(family::DESTINATION, name.as_bytes()), encode(destination));
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("plain data can always be encoded")
}

fn kept(space: Space, key: &[u8], value: &[u8]) -> Result<KeptMessage, StoreError> {
    let rest = space.rest(key);
    let end = rest.iter().position(|byte| *byte == 0);
    let mut number = end.map_or(&[][..], |end| &rest[end + 1..]);
    let number = family::take_number(&mut number).ok_or_else(|| broken(space, "an outbox"))?;
    let (Stored { from, method, payload }, mut rest) =
        postcard::take_from_bytes(value).map_err(|_| broken(space, "an outbox"))?;
    let answers = match rest {
        [] => None,
        _ => Some(varint::take(&mut rest).map_err(|_| broken(space, "an outbox"))?),
    };
    Ok(KeptMessage { number, from, method, payload, answers })
}

fn broken(space: Space, what: &str) -> StoreError {
    StoreError::failed(format!("group {} has {what} that is broken", space.group))
}
