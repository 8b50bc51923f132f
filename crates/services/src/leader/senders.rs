//! The instances that write to documents of a partition, with what of theirs waits here for its
//! turn.

use std::collections::{BTreeMap, VecDeque};

use protocol::GroupId;
use protocol::immortal::Message;

/// How many bytes of writes may wait here, of all instances together. More are not taken, and come
/// again. One write is always taken of an instance of which none waits.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// What a write takes beside its payload, at least.
const WRITE_BYTES: usize = 64;

/// A write that waits for its turn.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) message: Message,
}

impl Waiting {
    fn bytes(&self) -> usize {
        WRITE_BYTES + self.message.payload_bytes()
    }
}

/// What becomes of the first write that waits of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Idle,
    /// It was asked for, by a call of this number.
    Called(u64),
    /// It is tried again then.
    Again {
        at_micros: u64,
    },
    /// That it was refused, or has changed nothing, is on its way into the log.
    Noting,
}

#[derive(Debug)]
struct Sender {
    name: String,
    waiting: VecDeque<Waiting>,
    turn: Turn,
    tries: u32,
}

/// What has become of writes of instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WritesOfInstances {
    /// How many have come once more, and were dropped.
    pub repeated: u64,
    /// How many were under way twice, and were not taken the second time.
    pub late: u64,
    /// How often an owner that had written before has asked how far it is.
    pub asked: u64,
}

impl std::ops::Add for WritesOfInstances {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            repeated: self.repeated + other.repeated,
            late: self.late + other.late,
            asked: self.asked + other.asked,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    senders: BTreeMap<GroupId, Sender>,
    calls: BTreeMap<u64, GroupId>,
    bytes: usize,
    pub(super) counts: WritesOfInstances,
    /// What was told to the log, once.
    is_told: bool,
}

impl Inbox {
    /// The number that comes next of an instance: after those that are noted and those that wait.
    pub(super) fn next(&self, instance: GroupId, logged: u64) -> u64 {
        let last = self.senders.get(&instance).and_then(|sender| sender.waiting.back());
        last.map_or(logged, |last| last.number.max(logged)) + 1
    }

    /// Writes have come that follow those that wait, as far as there is room.
    pub(super) fn put(
        &mut self,
        instance: GroupId,
        name: &str,
        writes: impl Iterator<Item = Waiting>,
    ) {
        let new = || Sender {
            name: name.to_owned(),
            waiting: VecDeque::new(),
            turn: Turn::Idle,
            tries: 0,
        };
        let sender = self.senders.entry(instance).or_insert_with(new);
        for write in writes {
            if self.bytes + write.bytes() > INBOX_BYTES_MAX && !sender.waiting.is_empty() {
                break;
            }
            self.bytes += write.bytes();
            sender.waiting.push_back(write);
        }
    }

    /// The first write of an instance that is not noted, and the instance's name.
    pub(super) fn first(&mut self, instance: GroupId, logged: u64) -> Option<(String, Waiting)> {
        let sender = self.senders.get_mut(&instance)?;
        while let Some(done) = sender.waiting.pop_front_if(|it| it.number <= logged) {
            self.bytes -= done.bytes();
        }
        Some((sender.name.clone(), sender.waiting.front()?.clone()))
    }

    /// The same, and how often it was tried, if it may be tried now.
    pub(super) fn next_to_take(
        &mut self,
        instance: GroupId,
        logged: u64,
    ) -> Option<(String, Waiting, u32)> {
        let (name, waiting) = self.first(instance, logged)?;
        let sender = self.senders.get(&instance)?;
        (sender.turn == Turn::Idle).then_some((name, waiting, sender.tries))
    }

    /// How often the first write of an instance was tried in vain.
    pub(super) fn tries(&self, instance: GroupId) -> u32 {
        self.senders.get(&instance).map_or(0, |sender| sender.tries)
    }

    pub(super) fn called(&mut self, instance: GroupId, call: u64) {
        self.calls.insert(call, instance);
        self.set_turn(instance, Turn::Called(call));
    }

    /// The instance whose write the call is, if it is under way still.
    pub(super) fn take_call(&mut self, call: u64) -> Option<GroupId> {
        self.calls.remove(&call)
    }

    pub(super) fn set_turn(&mut self, instance: GroupId, turn: Turn) {
        if let Some(sender) = self.senders.get_mut(&instance) {
            sender.turn = turn;
        }
    }

    /// All writes of an instance up to that number are noted. Whatever else is answered to them
    /// means nothing any more.
    pub(super) fn taken(&mut self, instance: GroupId, logged: u64) {
        self.first(instance, logged);
        let Some(sender) = self.senders.get_mut(&instance) else { return };
        if let Turn::Called(call) = sender.turn {
            self.calls.remove(&call);
        }
        (sender.turn, sender.tries) = (Turn::Idle, 0);
        if sender.waiting.is_empty() {
            self.senders.remove(&instance);
        }
    }

    /// The first write of an instance is to be tried again. Says how often it was tried, and the
    /// name.
    pub(super) fn fails(
        &mut self,
        instance: GroupId,
        now: u64,
        pause: impl Fn(u32) -> u64,
    ) -> Option<(u32, &str)> {
        let sender = self.senders.get_mut(&instance)?;
        sender.tries = sender.tries.saturating_add(1);
        sender.turn = Turn::Again { at_micros: now.saturating_add(pause(sender.tries)) };
        Some((sender.tries, &sender.name))
    }

    /// Those whose first write is to be tried again now.
    pub(super) fn take_due(&mut self, now: u64) -> Vec<GroupId> {
        let is_due =
            |sender: &Sender| matches!(sender.turn, Turn::Again { at_micros } if at_micros <= now);
        let due = self.senders.iter_mut().filter(|(_, sender)| is_due(sender));
        due.map(|(instance, sender)| {
            sender.turn = Turn::Idle;
            *instance
        })
        .collect()
    }

    pub(super) fn name_of(&self, instance: GroupId) -> &str {
        self.senders.get(&instance).map_or("an instance", |sender| &sender.name)
    }

    /// The text, when it is told for the first time.
    pub(super) fn note_once(&mut self, text: String) -> Option<String> {
        (!std::mem::replace(&mut self.is_told, true)).then_some(text)
    }

    /// The instances of which something waits: the name, how many writes, and how often the first
    /// of them was tried.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&str, &VecDeque<Waiting>, u32)> {
        self.senders.values().map(|it| (it.name.as_str(), &it.waiting, it.tries))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const ONE: GroupId = GroupId(1 << 20);

    fn writes(numbers: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Waiting> {
        let payload = Bytes::from(vec![b' '; bytes]);
        let message = Message::Fork { method: 1, payload };
        numbers.map(|number| Waiting { number, message: message.clone() }).collect()
    }

    #[test]
    fn a_write_waits_until_those_before_it_are_noted() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.next(ONE, 4), 5);
        inbox.put(ONE, "a", writes(5..=7, 1).into_iter());
        assert_eq!(inbox.next(ONE, 4), 8);
        assert_eq!(inbox.next_to_take(ONE, 4).unwrap().1.number, 5);
        inbox.called(ONE, 9);
        assert!(inbox.next_to_take(ONE, 4).is_none(), "one at a time");
        assert_eq!(inbox.fails(ONE, 100, |tries| u64::from(tries) * 10), Some((1, "a")));
        assert!(inbox.take_due(109).is_empty() && inbox.next_to_take(ONE, 4).is_none());
        assert_eq!(inbox.take_due(110), [ONE]);
        assert_eq!(inbox.next_to_take(ONE, 4).unwrap().1.number, 5);
        inbox.called(ONE, 11);
        inbox.taken(ONE, 5);
        assert_eq!(inbox.take_call(11), None, "its answer means nothing any more");
        assert_eq!(inbox.next_to_take(ONE, 5).unwrap().1.number, 6);
        inbox.taken(ONE, 7);
        assert!(inbox.senders.is_empty() && inbox.bytes == 0);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_one_write_is_always_taken() {
        let mut inbox = Inbox::default();
        inbox.put(ONE, "a", writes(1..=9, INBOX_BYTES_MAX / 4).into_iter());
        assert_eq!(inbox.next(ONE, 0), 4);
        let other = GroupId(ONE.0 + 1);
        inbox.put(other, "b", writes(1..=9, INBOX_BYTES_MAX / 2).into_iter());
        assert_eq!(inbox.next(other, 0), 2);
        inbox.taken(ONE, 3);
        inbox.taken(other, 1);
        assert_eq!(inbox.bytes, 0);
    }
}
