//! What has been logged, as every replica knows it from the log alone: how many inputs there are,
//! how far each sender has come, what was taken out. No program is needed for it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::immortal::{
    Block, BlockHead, Garbled, Message, SourceKind, blocks, messages, put_block_head, put_message,
};
use protocol::{GroupId, Moment, Position};
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, GenesisEnd, Inputs, Mark, Origin, UpgradeOutcome};
use crate::io::Lane;

/// How far the impulses of a sender have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpulsesTaken {
    pub session: u64,
    pub last: u64,
}

/// An upgrade that stands among the inputs, and of which it is not known yet what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrading {
    pub input: u64,
    pub from: u64,
    pub to: u64,
}

/// So many inputs that were taken out, and are not in a checkpoint yet, are remembered.
pub(crate) const SKIPPED_MAX: usize = 10_000;

/// From so many senders on, those that are not registered any more are forgotten. More than can be
/// registered at a time.
pub(crate) const SENDERS_MANY: usize = 16_384;

/// The messages of one more sender are not taken.
pub(crate) const SENDERS_MAX: usize = 65_536;

/// The sum of a log. The same on all replicas at the same position, but for inputs that were taken out
/// and stand before a replica's checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputState {
    /// How many inputs there are; the number of the last one.
    pub inputs: u64,
    /// Of the last inputs.
    pub time: Moment,
    /// The number of the last message of each instance's stream.
    pub received: BTreeMap<GroupId, u64>,
    pub impulses: BTreeMap<GroupId, ImpulsesTaken>,
    pub skipped: BTreeSet<u64>,
    /// The state of the first program is in the log as a whole; what it wants as its first input.
    pub genesis: Option<Bytes>,
    pub program_version: u64,
    /// A primary's program is known to have handled all inputs up to there: what it said is counted.
    pub handled: u64,
    pub upgrading: Option<Upgrading>,
    /// The last wish for an upgrade that came to nothing.
    pub given_up: u64,
    /// Senders were forgotten that were gone at this position of the directory's log. Who has not come so
    /// far there may still know them.
    pub directory: Position,
}

/// What one entry has for a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// The number of the first input; `count` follow from there.
    pub first: u64,
    pub count: u64,
    pub time: Moment,
    pub blocks: Bytes,
    pub trims: Vec<(String, u64)>,
    pub mark: Option<Mark>,
}

/// A message of a stream does not follow the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
}

impl InputState {
    /// Takes an entry in. Blocks that do not fit (they never should come into a log) count for
    /// nothing, on every replica alike.
    ///
    /// # Errors
    /// When the blocks cannot be read; then they count for nothing as well.
    pub fn log(&mut self, entry: &Entry) -> Result<Logged, Garbled> {
        match entry {
            Entry::Inputs(inputs) => self.log_inputs(inputs),
            Entry::Genesis { last: Some(end), .. } => {
                self.begin(end);
                Ok(Logged::default())
            }
            Entry::Genesis { .. } => Ok(Logged::default()),
            Entry::Skip { input } => {
                self.skipped.insert(*input);
                Ok(Logged::default())
            }
            Entry::Upgraded { input, outcome } => {
                self.end_upgrade(*input, *outcome);
                Ok(Logged::default())
            }
            Entry::Forget { senders, directory } => {
                self.directory = self.directory.max(*directory);
                for sender in senders {
                    self.received.remove(sender);
                    self.impulses.remove(sender);
                }
                Ok(Logged::default())
            }
            Entry::Lost { sender, lane, up_to } => {
                self.pass_over(*sender, *lane, *up_to);
                Ok(Logged::default())
            }
        }
    }

    /// Of a sender that is known, as of no other anything can be missing; and never back.
    fn pass_over(&mut self, sender: GroupId, lane: Lane, up_to: u64) {
        let last = match lane {
            Lane::Stream => self.received.get_mut(&sender),
            Lane::Impulses { session } => {
                let taken = self.impulses.get_mut(&sender);
                taken.filter(|taken| taken.session == session).map(|taken| &mut taken.last)
            }
        };
        if let Some(last) = last {
            *last = (*last).max(up_to);
        }
    }

    fn end_upgrade(&mut self, input: u64, outcome: UpgradeOutcome) {
        let Some(upgrading) = self.upgrading.filter(|upgrading| upgrading.input == input) else {
            return;
        };
        self.upgrading = None;
        if let UpgradeOutcome::GivenUp { wish } = outcome {
            self.skipped.insert(input);
            self.program_version = upgrading.from;
            self.given_up = self.given_up.max(wish);
        }
    }

    /// Who has ever sent something, and is not forgotten.
    pub(crate) fn senders(&self) -> BTreeSet<GroupId> {
        self.received.keys().chain(self.impulses.keys()).copied().collect()
    }

    /// How many have sent messages, or impulses.
    pub(crate) fn senders_count(&self) -> usize {
        self.received.len().max(self.impulses.len())
    }

    pub(crate) fn knows(&self, sender: GroupId) -> bool {
        self.received.contains_key(&sender) || self.impulses.contains_key(&sender)
    }

    /// What was taken out up to that input is in a state already, or rather is not.
    pub(crate) fn forget_skipped(&mut self, up_to: u64) {
        self.skipped = self.skipped.split_off(&(up_to + 1));
    }

    /// The number of the last message of a sender that is logged; 0 when there is none.
    pub fn logged_of(&self, from: GroupId, lane: Lane) -> u64 {
        match lane {
            Lane::Stream => self.received.get(&from).copied().unwrap_or(0),
            Lane::Impulses { session } => {
                let taken = self.impulses.get(&from).filter(|taken| taken.session == session);
                taken.map_or(0, |taken| taken.last)
            }
        }
    }

    fn begin(&mut self, end: &GenesisEnd) {
        if self.genesis.is_none() {
            self.genesis = Some(end.initial.clone());
            self.program_version = end.program_version;
        }
    }

    fn log_inputs(&mut self, inputs: &Inputs) -> Result<Logged, Garbled> {
        self.time = self.time.max(inputs.time);
        if let Some(Mark::Input { input, .. }) = inputs.mark {
            self.handled = self.handled.max(input);
        }
        let mut logged = Logged {
            first: self.inputs + 1,
            time: self.time,
            blocks: inputs.blocks.clone(),
            trims: inputs.trims.clone(),
            mark: inputs.mark.clone(),
            ..Logged::default()
        };
        let all: Vec<Block> = blocks(inputs.blocks.clone()).collect::<Result<_, _>>()?;
        let mut input = logged.first;
        let mut fits = Vec::with_capacity(all.len());
        for (block, origin) in all.iter().zip(&inputs.origins) {
            let found = self.take(block, *origin, input);
            input += if found == Fits::Yes { block.head.count } else { 0 };
            fits.push(found);
        }
        let good = || all.iter().zip(&fits).filter(|(_, fits)| **fits == Fits::Yes);
        if fits.contains(&Fits::No) || fits.len() < all.len() {
            let mut out = Vec::new();
            for (block, _) in good() {
                put_block_head(&mut out, &block.head, block.messages.len());
                out.extend_from_slice(&block.messages);
            }
            logged.blocks = out.into();
        }
        logged.count = good().map(|(block, _)| block.head.count).sum();
        self.inputs += logged.count;
        Ok(logged)
    }

    fn take(&mut self, block: &Block, origin: Origin, input: u64) -> Fits {
        let BlockHead { first, count, .. } = block.head;
        match origin {
            Origin::Stream { from } => {
                if self.received.get(&from).is_some_and(|last| last + 1 != first) {
                    return Fits::No;
                }
                self.received.insert(from, first + count.saturating_sub(1));
            }
            Origin::Impulses { from, session, first } => {
                let taken = self.impulses.entry(from).or_default();
                let follows = session == taken.session && first == taken.last + 1;
                // A new session begins with what its sender still has: the owner has seen to that.
                if !follows && session <= taken.session {
                    return Fits::No;
                }
                *taken = ImpulsesTaken { session, last: first + count.saturating_sub(1) };
            }
            Origin::Node => self.take_own(block, input),
            Origin::Outside => {}
        }
        Fits::Yes
    }

    /// Only an upgrade matters here; and the first input of all, which need not be kept any more.
    fn take_own(&mut self, block: &Block, first: u64) {
        for (input, message) in (first..).zip(messages(block.messages.clone()).flatten()) {
            match message {
                // An owner begins none before the last one has ended. It would hide how to take that one
                // back, so it counts as taken out, on every replica alike.
                Message::Upgrade { .. } if self.upgrading.is_some() => {
                    self.skipped.insert(input);
                }
                Message::Upgrade { version: to } => {
                    let from = std::mem::replace(&mut self.program_version, to);
                    self.upgrading = Some(Upgrading { input, from, to });
                }
                Message::Start { .. } => self.genesis = self.genesis.take().map(|_| Bytes::new()),
                _ => {}
            }
        }
    }

    /// The timers and side effects that were resolved by inputs that were taken out. They stay
    /// resolved: else they would come again.
    pub(crate) fn resolved_by_skipped(&self, logged: &Logged) -> Vec<u64> {
        let inputs = logged.first..logged.first + logged.count;
        if self.skipped.range(inputs.clone()).next().is_none() {
            return Vec::new();
        }
        let all = blocks(logged.blocks.clone()).flatten();
        let all = all.flat_map(|block| messages(block.messages).flatten());
        let skipped = inputs.zip(all).filter(|(input, _)| self.skipped.contains(input));
        skipped
            .filter_map(|(_, message)| match message {
                Message::Timer { id } | Message::Result { id, .. } => Some(id),
                _ => None,
            })
            .collect()
    }

    /// The blocks with a placeholder for each input that was taken out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn without_skipped(&self, logged: &Logged) -> Result<Bytes, Garbled> {
        let last = logged.first + logged.count;
        if self.skipped.range(logged.first..last).next().is_none() {
            return Ok(logged.blocks.clone());
        }
        let mut input = logged.first;
        let mut out = Vec::new();
        for block in blocks(logged.blocks.clone()) {
            let block = block?;
            let mut body = Vec::new();
            for message in messages(block.messages) {
                let skipped = self.skipped.contains(&input);
                put_message(&mut body, &if skipped { Message::Skipped } else { message? });
                input += 1;
            }
            put_block_head(&mut out, &block.head, body.len());
            out.extend_from_slice(&body);
        }
        Ok(out.into())
    }
}

/// One block for each message, to be delivered one at a time.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn one_by_one(logged: &Bytes) -> Result<Vec<Bytes>, Garbled> {
    let mut singles = Vec::new();
    for block in blocks(logged.clone()) {
        let Block { head, messages: bytes } = block?;
        for (place, message) in (0..).zip(messages(bytes)) {
            let mut body = Vec::new();
            put_message(&mut body, &message?);
            let numbered = head.kind == SourceKind::Instance;
            let first = if numbered { head.first + place } else { head.first };
            let single = BlockHead { first, count: 1, ..head.clone() };
            let mut out = Vec::new();
            put_block_head(&mut out, &single, body.len());
            out.extend_from_slice(&body);
            singles.push(out.into());
        }
    }
    Ok(singles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64, count: u64) -> Vec<u8> {
        let mut body = Vec::new();
        for number in first..first + count {
            let payload = Bytes::from(vec![u8::try_from(number).unwrap()]);
            put_message(&mut body, &Message::Fork { method: 1, payload });
        }
        let head = BlockHead { kind: SourceKind::Instance, name: "a".into(), first, count };
        let mut out = Vec::new();
        put_block_head(&mut out, &head, body.len());
        out.extend_from_slice(&body);
        out
    }

    fn inputs(parts: &[(u32, u64, u64)]) -> Entry {
        let origins = parts.iter().map(|(from, ..)| Origin::Stream { from: GroupId(*from) });
        Entry::Inputs(Inputs {
            time: Moment(9),
            trims: Vec::new(),
            mark: None,
            origins: origins.collect(),
            blocks: parts.iter().flat_map(|(_, first, count)| block(*first, *count)).collect(),
        })
    }

    #[test]
    fn inputs_are_numbered_in_the_order_of_the_log() {
        let mut ledger = InputState::default();
        let logged = ledger.log(&inputs(&[(7, 1, 3), (8, 1, 2)])).unwrap();
        assert_eq!((logged.first, logged.count), (1, 5));
        let logged = ledger.log(&inputs(&[(7, 4, 1)])).unwrap();
        assert_eq!((logged.first, logged.count), (6, 1));
        assert_eq!(ledger.received[&GroupId(7)], 4);
    }

    #[test]
    fn a_message_that_came_before_or_too_early_counts_for_nothing() {
        let mut ledger = InputState::default();
        ledger.log(&inputs(&[(7, 1, 3)])).unwrap();
        for wrong in [3, 5] {
            let logged = ledger.log(&inputs(&[(7, wrong, 1), (8, wrong, 1)])).unwrap();
            assert_eq!(logged.count, if wrong == 3 { 1 } else { 0 }, "{wrong}");
            assert_eq!(ledger.received[&GroupId(7)], 3);
        }
        assert_eq!(ledger.inputs, 4);
    }

    #[test]
    fn the_impulses_of_an_earlier_session_are_refused() {
        let impulse = |session, first| {
            let message = Message::Impulse { method: 1, payload: Bytes::new() };
            let origin = Origin::Impulses { from: GroupId(7), session, first };
            one((SourceKind::Impulses, "a"), origin, &message)
        };
        let mut ledger = InputState::default();
        let counts: Vec<u64> =
            [(3, 1), (3, 2), (3, 2), (2, 1), (5, 1), (3, 3), (5, 2), (6, 4), (6, 6)]
                .map(|(session, first)| ledger.log(&impulse(session, first)).unwrap().count)
                .into();
        assert_eq!(counts, [1, 1, 0, 0, 1, 0, 1, 1, 0]);
    }

    fn own(message: &Message) -> Entry {
        one((SourceKind::Node, ""), Origin::Node, message)
    }

    fn one((kind, name): (SourceKind, &str), origin: Origin, message: &Message) -> Entry {
        let mut body = Vec::new();
        put_message(&mut body, message);
        let head = BlockHead { kind, name: name.into(), first: 0, count: 1 };
        let mut out = Vec::new();
        put_block_head(&mut out, &head, body.len());
        out.extend_from_slice(&body);
        Entry::Inputs(Inputs {
            time: Moment(9),
            trims: Vec::new(),
            mark: None,
            origins: vec![origin],
            blocks: out.into(),
        })
    }

    #[test]
    fn of_an_upgrade_the_first_outcome_in_the_log_counts() {
        let outcomes = [UpgradeOutcome::Done, UpgradeOutcome::GivenUp { wish: 3 }];
        for (first, second, version, given_up) in
            [(outcomes[0], outcomes[1], 5, 0), (outcomes[1], outcomes[0], 2, 3)]
        {
            let mut ledger = InputState { program_version: 2, ..InputState::default() };
            ledger.log(&inputs(&[(7, 1, 3)])).unwrap();
            let logged = ledger.log(&own(&Message::Upgrade { version: 5 })).unwrap();
            let upgrading = Upgrading { input: 4, from: 2, to: 5 };
            assert_eq!((ledger.program_version, ledger.upgrading), (5, Some(upgrading)));
            ledger.log(&Entry::Upgraded { input: 3, outcome: second }).unwrap();
            assert!(ledger.upgrading.is_some(), "that was of another one");
            ledger.log(&Entry::Upgraded { input: 4, outcome: first }).unwrap();
            ledger.log(&Entry::Upgraded { input: 4, outcome: second }).unwrap();
            assert_eq!((ledger.program_version, ledger.upgrading), (version, None));
            assert_eq!(ledger.given_up, given_up);
            let taken_out = ledger.without_skipped(&logged).unwrap() != logged.blocks;
            assert_eq!(taken_out, version == 2);
        }
    }

    #[test]
    fn a_second_upgrade_before_the_first_has_ended_is_taken_out() {
        let mut ledger = InputState { program_version: 2, ..InputState::default() };
        ledger.log(&own(&Message::Upgrade { version: 5 })).unwrap();
        let second = ledger.log(&own(&Message::Upgrade { version: 6 })).unwrap();
        let upgrading = Upgrading { input: 1, from: 2, to: 5 };
        assert_eq!((ledger.program_version, ledger.upgrading), (5, Some(upgrading)));
        assert_ne!(ledger.without_skipped(&second).unwrap(), second.blocks);
        let outcome = UpgradeOutcome::GivenUp { wish: 3 };
        ledger.log(&Entry::Upgraded { input: 1, outcome }).unwrap();
        assert_eq!((ledger.program_version, ledger.inputs), (2, 2));
    }

    #[test]
    fn a_sender_that_is_forgotten_begins_anew_and_the_others_go_on() {
        let mut ledger = InputState::default();
        ledger.log(&inputs(&[(7, 1, 3), (8, 1, 2)])).unwrap();
        let (senders, directory) = (vec![GroupId(7)], Position(40));
        ledger.log(&Entry::Forget { senders, directory }).unwrap();
        assert_eq!((ledger.knows(GroupId(7)), ledger.knows(GroupId(8))), (false, true));
        assert_eq!((ledger.directory, ledger.inputs), (Position(40), 5));
        assert_eq!(ledger.logged_of(GroupId(8), Lane::Stream), 2);
    }

    #[test]
    fn what_was_lost_counts_as_received_and_nothing_else_changes() {
        let mut ledger = InputState::default();
        ledger.log(&inputs(&[(7, 1, 3), (8, 1, 2)])).unwrap();
        let impulses = ImpulsesTaken { session: 4, last: 2 };
        ledger.impulses.insert(GroupId(7), impulses);
        let before = ledger.clone();
        let lost = |sender, lane, up_to| Entry::Lost { sender: GroupId(sender), lane, up_to };
        for nothing in [
            lost(7, Lane::Stream, 2),
            lost(9, Lane::Stream, 5),
            lost(7, Lane::Impulses { session: 3 }, 9),
        ] {
            ledger.log(&nothing).unwrap();
            assert_eq!(ledger, before, "{nothing:?}");
        }
        ledger.log(&lost(7, Lane::Stream, 5)).unwrap();
        assert_eq!((ledger.received[&GroupId(7)], ledger.impulses[&GroupId(7)]), (5, impulses));
        assert_eq!(ledger.log(&inputs(&[(7, 4, 2), (7, 6, 1)])).unwrap().count, 1);
        ledger.log(&lost(7, Lane::Impulses { session: 4 }, 6)).unwrap();
        assert_eq!(ledger.impulses[&GroupId(7)].last, 6);
        assert_eq!((ledger.received[&GroupId(7)], ledger.received[&GroupId(8)]), (6, 2));
    }

    #[test]
    fn what_was_taken_out_before_a_checkpoint_is_forgotten() {
        let mut ledger = InputState::default();
        ledger.log(&inputs(&[(7, 1, 9)])).unwrap();
        for input in [3, 5, 7] {
            ledger.log(&Entry::Skip { input }).unwrap();
        }
        ledger.forget_skipped(5);
        assert_eq!(ledger.skipped.iter().copied().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn an_input_that_was_taken_out_keeps_its_number() {
        let mut ledger = InputState::default();
        let logged = ledger.log(&inputs(&[(7, 1, 2), (8, 1, 2)])).unwrap();
        ledger.log(&Entry::Skip { input: 3 }).unwrap();
        let kinds: Vec<bool> = blocks(ledger.without_skipped(&logged).unwrap())
            .flat_map(|block| messages(block.unwrap().messages))
            .map(|message| message.unwrap() == Message::Skipped)
            .collect();
        assert_eq!(kinds, [false, false, true, false]);
        assert_eq!(one_by_one(&logged.blocks).unwrap().len(), 4);
    }
}
