//! The sum of the log: how many inputs there are, how far each sender has come, which inputs were
//! taken out, which upgrade is open.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::{GroupId, Moment, Position};
use serde::{Deserialize, Serialize};

use crate::history::entry::{Entry, GenesisEnd, Inputs, Lane, Mark, Origin, UpgradeOutcome};
use crate::history::indexed::{BadEntry, BlockIndex, IndexedEntry, OwnInput};
use crate::history::keys::Keys;

/// How many inputs that were taken out since the checkpoint are remembered. More are refused.
pub(crate) const SKIPPED_MAX: usize = 10_000;

/// From this many senders on, those that are no longer registered are forgotten. No more senders
/// than this can be registered at the same time.
pub(crate) const SENDERS_MANY: usize = 16_384;

/// How many senders are remembered. The messages of one more are not taken, and the sender keeps
/// them.
pub(crate) const SENDERS_MAX: usize = 65_536;

/// How far the impulses of a sender have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpulsesTaken {
    pub session: u64,
    pub last: u64,
}

/// An upgrade that is among the inputs and has no outcome in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrading {
    pub input: u64,
    pub from: u64,
    pub to: u64,
}

/// The sum of a log.
///
/// **Invariant:** replicas at the same position have the same sum, except for `skipped`, which
/// loses the inputs before a replica's checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputState {
    /// The number of the last input.
    pub inputs: u64,
    /// The time of the last input.
    pub time: Moment,
    /// The number of the last message of each instance's stream.
    pub received: BTreeMap<GroupId, u64>,
    pub impulses: BTreeMap<GroupId, ImpulsesTaken>,
    /// The keys of impulses from outside.
    pub keys: Keys,
    pub skipped: BTreeSet<u64>,
    /// The payload of START, once the first state is in the log as a whole. START itself empties
    /// it.
    pub genesis: Option<Bytes>,
    pub program_version: u64,
    /// A primary's program is known to have handled all inputs up to this one.
    pub handled: u64,
    pub upgrading: Option<Upgrading>,
    /// The last wish for an upgrade that was given up.
    pub given_up: u64,
    /// The highest position of the directory's log at which forgotten senders were gone. A replica
    /// that has applied less of the directory may still take such a sender for a registered one.
    pub directory: Position,
}

/// What one entry means for a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// The number of the first input.
    pub first: u64,
    /// How many inputs there are.
    pub count: u64,
    pub time: Moment,
    pub blocks: Bytes,
    pub trims: Vec<(String, u64)>,
    pub mark: Option<Mark>,
    /// The node's own inputs, by input number.
    pub(crate) own: Vec<(u64, OwnInput)>,
}

impl InputState {
    /// Takes in the next entry.
    ///
    /// # Errors
    /// When the entry does not fit what was logged before it. An owner proposes no such entry, so
    /// the replica must stop. The state may have taken in a part of the entry.
    pub fn log(&mut self, indexed: &IndexedEntry) -> Result<Logged, BadEntry> {
        match &indexed.entry {
            Entry::Inputs(inputs) => return self.log_inputs(inputs, indexed),
            Entry::Genesis { last: Some(end), .. } => self.begin(end),
            Entry::Genesis { .. } => {}
            Entry::Skip { input } => drop(self.skipped.insert(*input)),
            Entry::Upgraded { input, outcome } => self.end_upgrade(*input, *outcome),
            Entry::Forget { senders, directory } => {
                self.directory = self.directory.max(*directory);
                for sender in senders {
                    self.received.remove(sender);
                    self.impulses.remove(sender);
                }
            }
            Entry::Lost { sender, lane, up_to } => self.pass_over(*sender, *lane, *up_to),
        }
        Ok(Logged::default())
    }

    /// Counts lost messages as received. A sender that is not known has lost nothing, and a number
    /// never goes back.
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

    /// All senders that are remembered.
    pub(crate) fn senders(&self) -> BTreeSet<GroupId> {
        self.received.keys().chain(self.impulses.keys()).copied().collect()
    }

    /// How many senders of messages or how many senders of impulses are remembered, whichever is
    /// more.
    pub(crate) fn senders_count(&self) -> usize {
        self.received.len().max(self.impulses.len())
    }

    pub(crate) fn knows(&self, sender: GroupId) -> bool {
        self.received.contains_key(&sender) || self.impulses.contains_key(&sender)
    }

    /// Forgets which inputs were taken out up to that input: a checkpoint after it does not contain
    /// them.
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

    fn log_inputs(&mut self, inputs: &Inputs, indexed: &IndexedEntry) -> Result<Logged, BadEntry> {
        self.time = self.time.max(inputs.time);
        if let Some(Mark::Input { input, .. }) = inputs.mark {
            self.handled = self.handled.max(input);
        }
        let (first, count) = (self.inputs + 1, indexed.count());
        let mut input = first;
        for block in &indexed.blocks {
            self.take(*block, input)?;
            input += block.count;
        }
        let own: Vec<_> = indexed.own.iter().map(|(place, own)| (first + place, *own)).collect();
        own.iter().for_each(|(input, own)| self.take_own(*input, *own));
        self.inputs += count;
        Ok(Logged {
            first,
            count,
            time: self.time,
            blocks: inputs.blocks.clone(),
            trims: inputs.trims.clone(),
            mark: inputs.mark.clone(),
            own,
        })
    }

    /// **Invariant:** the blocks of each sender follow one another without a gap.
    fn take(&mut self, block: BlockIndex, input: u64) -> Result<(), BadEntry> {
        match block.origin {
            Origin::Stream { from } => {
                let last = self.received.get(&from).copied();
                if let Some(last) = last.filter(|last| last + 1 != block.first) {
                    return Err(BadEntry(format!(
                        "message {} of group {from} does not follow message {last}",
                        block.first
                    )));
                }
                self.received.insert(from, block.first + block.count.saturating_sub(1));
            }
            Origin::Impulses { from, session, first } => {
                let taken = self.impulses.entry(from).or_default();
                let follows = session == taken.session && first == taken.last + 1;
                // The owner has made sure that a new session begins with what its sender still has.
                if !follows && session <= taken.session {
                    return Err(BadEntry(format!(
                        "impulse {first} of session {session} of group {from} does not follow impulse {} \
                         of session {}",
                        taken.last, taken.session
                    )));
                }
                *taken = ImpulsesTaken { session, last: first + block.count.saturating_sub(1) };
            }
            Origin::Keyed(key) => self.keys.remember(key, input),
            Origin::Node | Origin::Outside => {}
        }
        Ok(())
    }

    fn take_own(&mut self, input: u64, own: OwnInput) {
        match own {
            OwnInput::Start => self.genesis = self.genesis.take().map(|_| Bytes::new()),
            // An owner begins no upgrade before the last one has ended. A second upgrade would hide
            // how to take the first one back, so every replica treats the second one as taken out.
            OwnInput::Upgrade(_) if self.upgrading.is_some() => {
                self.skipped.insert(input);
            }
            OwnInput::Upgrade(to) => {
                let from = std::mem::replace(&mut self.program_version, to);
                self.upgrading = Some(Upgrading { input, from, to });
            }
            OwnInput::Resolved(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::immortal::{
        BlockHead, Message, SourceKind, blocks, messages, put_block_head, put_message,
    };

    use super::*;
    use crate::history::delivery::{one_by_one, without_skipped};

    fn log(state: &mut InputState, entry: &Entry) -> Result<Logged, BadEntry> {
        state.log(&IndexedEntry::read(entry.encode()).unwrap())
    }

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
        let mut state = InputState::default();
        let logged = log(&mut state, &inputs(&[(7, 1, 3), (8, 1, 2)])).unwrap();
        assert_eq!((logged.first, logged.count), (1, 5));
        let logged = log(&mut state, &inputs(&[(7, 4, 1)])).unwrap();
        assert_eq!((logged.first, logged.count), (6, 1));
        assert_eq!(state.received[&GroupId(7)], 4);
    }

    #[test]
    fn a_message_that_came_before_or_too_early_is_refused() {
        let mut state = InputState::default();
        log(&mut state, &inputs(&[(7, 1, 3)])).unwrap();
        for wrong in [1, 3, 5] {
            let why = log(&mut state.clone(), &inputs(&[(8, 1, 1), (7, wrong, 1)])).unwrap_err();
            assert!(why.0.contains("does not follow message 3"), "{why}");
        }
        assert_eq!(log(&mut state, &inputs(&[(7, 4, 1)])).unwrap().count, 1);
    }

    #[test]
    fn the_impulses_of_an_earlier_session_are_refused() {
        let impulse = |session, first| {
            let message = Message::Impulse { method: 1, payload: Bytes::new() };
            let origin = Origin::Impulses { from: GroupId(7), session, first };
            one(SourceKind::Impulses, "a", origin, &message)
        };
        let mut state = InputState::default();
        for (session, first, fits) in [
            (3, 1, true),
            (3, 2, true),
            (3, 2, false),
            (2, 1, false),
            (5, 1, true),
            (3, 3, false),
            (5, 2, true),
            (6, 4, true),
            (6, 6, false),
        ] {
            let mut tried = state.clone();
            let logged = log(&mut tried, &impulse(session, first));
            assert_eq!(logged.is_ok(), fits, "impulse {first} of session {session}");
            state = if fits { tried } else { state };
        }
    }

    #[test]
    fn an_entry_whose_blocks_and_origins_do_not_belong_together_is_refused() {
        let Entry::Inputs(good) = inputs(&[(7, 1, 1), (8, 1, 1)]) else { panic!("inputs") };
        let short = Inputs { origins: good.origins[..1].to_vec(), ..good.clone() };
        let long = Inputs { origins: good.origins.repeat(2), ..good.clone() };
        let wrong = Inputs { origins: vec![Origin::Node; 2], ..good.clone() };
        let cut = Inputs { blocks: good.blocks.slice(..good.blocks.len() - 1), ..good };
        for bad in [short, long, wrong, cut] {
            assert!(IndexedEntry::read(Entry::Inputs(bad).encode()).is_err());
        }
    }

    fn own(message: &Message) -> Entry {
        one(SourceKind::Node, "", Origin::Node, message)
    }

    fn one(kind: SourceKind, name: &str, origin: Origin, message: &Message) -> Entry {
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
            let mut state = InputState { program_version: 2, ..InputState::default() };
            log(&mut state, &inputs(&[(7, 1, 3)])).unwrap();
            let logged = log(&mut state, &own(&Message::Upgrade { version: 5 })).unwrap();
            let upgrading = Upgrading { input: 4, from: 2, to: 5 };
            assert_eq!((state.program_version, state.upgrading), (5, Some(upgrading)));
            log(&mut state, &Entry::Upgraded { input: 3, outcome: second }).unwrap();
            assert!(state.upgrading.is_some(), "that was of another one");
            log(&mut state, &Entry::Upgraded { input: 4, outcome: first }).unwrap();
            log(&mut state, &Entry::Upgraded { input: 4, outcome: second }).unwrap();
            assert_eq!((state.program_version, state.upgrading), (version, None));
            assert_eq!(state.given_up, given_up);
            let taken_out = without_skipped(&logged, &state.skipped).unwrap() != logged.blocks;
            assert_eq!(taken_out, version == 2);
        }
    }

    #[test]
    fn a_second_upgrade_before_the_first_has_ended_is_taken_out() {
        let mut state = InputState { program_version: 2, ..InputState::default() };
        log(&mut state, &own(&Message::Upgrade { version: 5 })).unwrap();
        let second = log(&mut state, &own(&Message::Upgrade { version: 6 })).unwrap();
        let upgrading = Upgrading { input: 1, from: 2, to: 5 };
        assert_eq!((state.program_version, state.upgrading), (5, Some(upgrading)));
        assert_ne!(without_skipped(&second, &state.skipped).unwrap(), second.blocks);
        let outcome = UpgradeOutcome::GivenUp { wish: 3 };
        log(&mut state, &Entry::Upgraded { input: 1, outcome }).unwrap();
        assert_eq!((state.program_version, state.inputs), (2, 2));
    }

    #[test]
    fn a_sender_that_is_forgotten_begins_anew_and_the_others_go_on() {
        let mut state = InputState::default();
        log(&mut state, &inputs(&[(7, 1, 3), (8, 1, 2)])).unwrap();
        let (senders, directory) = (vec![GroupId(7)], Position(40));
        log(&mut state, &Entry::Forget { senders, directory }).unwrap();
        assert_eq!((state.knows(GroupId(7)), state.knows(GroupId(8))), (false, true));
        assert_eq!((state.directory, state.inputs), (Position(40), 5));
        assert_eq!(state.logged_of(GroupId(8), Lane::Stream), 2);
    }

    #[test]
    fn what_was_lost_counts_as_received_and_nothing_else_changes() {
        let mut state = InputState::default();
        log(&mut state, &inputs(&[(7, 1, 3), (8, 1, 2)])).unwrap();
        let impulses = ImpulsesTaken { session: 4, last: 2 };
        state.impulses.insert(GroupId(7), impulses);
        let before = state.clone();
        let lost = |sender, lane, up_to| Entry::Lost { sender: GroupId(sender), lane, up_to };
        for nothing in [
            lost(7, Lane::Stream, 2),
            lost(9, Lane::Stream, 5),
            lost(7, Lane::Impulses { session: 3 }, 9),
        ] {
            log(&mut state, &nothing).unwrap();
            assert_eq!(state, before, "{nothing:?}");
        }
        log(&mut state, &lost(7, Lane::Stream, 5)).unwrap();
        assert_eq!((state.received[&GroupId(7)], state.impulses[&GroupId(7)]), (5, impulses));
        assert!(log(&mut state.clone(), &inputs(&[(7, 4, 1)])).is_err());
        assert_eq!(log(&mut state, &inputs(&[(7, 6, 1)])).unwrap().count, 1);
        log(&mut state, &lost(7, Lane::Impulses { session: 4 }, 6)).unwrap();
        assert_eq!(state.impulses[&GroupId(7)].last, 6);
        assert_eq!((state.received[&GroupId(7)], state.received[&GroupId(8)]), (6, 2));
    }

    #[test]
    fn what_was_taken_out_before_a_checkpoint_is_forgotten() {
        let mut state = InputState::default();
        log(&mut state, &inputs(&[(7, 1, 9)])).unwrap();
        for input in [3, 5, 7] {
            log(&mut state, &Entry::Skip { input }).unwrap();
        }
        state.forget_skipped(5);
        assert_eq!(state.skipped.iter().copied().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn an_input_that_was_taken_out_keeps_its_number() {
        let mut state = InputState::default();
        let logged = log(&mut state, &inputs(&[(7, 1, 2), (8, 1, 2)])).unwrap();
        log(&mut state, &Entry::Skip { input: 3 }).unwrap();
        let kinds: Vec<bool> = blocks(without_skipped(&logged, &state.skipped).unwrap())
            .flat_map(|block| messages(block.unwrap().messages))
            .map(|message| message.unwrap() == Message::Skipped)
            .collect();
        assert_eq!(kinds, [false, false, true, false]);
        assert_eq!(one_by_one(&logged.blocks).unwrap().len(), 4);
    }
}
