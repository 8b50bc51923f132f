//! One replica of one instance: everything but consensus, sockets and disks.

use protocol::immortal::{Message, messages};
use protocol::instance_write::{partition_of_stream, take_link};
use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{Reader, Space, StoreError};

use crate::base::record::BaseRecord;
use crate::base::replica_base::Base;
use crate::context::Context;
use crate::history::applied::History;
use crate::history::delivery::message_at;
use crate::history::indexed::IndexedEntry;
use crate::history::input_state::Upgrading;
use crate::identity::Identity;
use crate::io::{Output, Settings};
use crate::output::spill::Spill;
use crate::output::stream::{Found, KeptLimits, Stream};
use crate::seat::connection::Connection;
use crate::seat::health::Health;
use crate::seat::states::Seat;
use crate::standbys::statuses::{Since, Standbys};
use crate::standbys::transfers::Transfers;
use crate::wire::{LetGo, ReplicaStatus, Sizes};

/// How much of the log is read at a time to find a message, in bytes.
const SEARCH_BYTES: usize = 1 << 20;

/// What an instance is made from.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    pub group: GroupId,
    pub me: ReplicaId,
    /// The name of the node, for programs and people.
    pub node: String,
    pub settings: Settings,
    pub limits: KeptLimits,
}

/// What was sent to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    pub to: String,
    /// How many messages were sent.
    pub sent: u64,
    pub confirmed: u64,
    /// The bytes that are not confirmed.
    pub kept_bytes: usize,
    /// How many of those are in the store and not in memory.
    pub on_disk_bytes: usize,
    /// Of what goes to documents of a partition: where the first write goes that is not confirmed,
    /// if it is in memory.
    pub first_link: Option<String>,
}

/// A replica of an instance.
pub struct Instance {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) limits: KeptLimits,
    pub(crate) history: History,
    pub(crate) base: Base,
    pub(crate) spill: Spill,
    pub(crate) seat: Seat,
    pub(crate) health: Health,
    pub(crate) standbys: Standbys,
    pub(crate) transfers: Transfers,
    pub(crate) checkpoint: CheckpointWish,
    pub(crate) ownerships: Ownerships,
}

/// Whether a checkpoint is wanted of the program here.
#[derive(Debug, Default)]
pub(crate) struct CheckpointWish {
    pub(crate) is_wanted: bool,
    /// The number of the last request to a program.
    pub(crate) requests: u64,
}

/// How often this replica has led in its last term.
#[derive(Debug)]
pub(crate) struct Ownerships {
    term: Term,
    before: u64,
}

impl Ownerships {
    /// Another ownership begins. The result says how many there were before in that term, since a
    /// hand-over that fails is followed by another ownership in the same term.
    pub(crate) fn begin(&mut self, term: Term) -> u64 {
        self.before = if self.term == term { self.before + 1 } else { 0 };
        self.term = term;
        self.before
    }
}

fn first_link(stream: &Stream) -> Option<String> {
    let Ok(Some(Found::InMemory(run))) = stream.find(stream.floor()) else { return None };
    let message = messages(run.messages).next()?.ok()?;
    let (Message::Fork { payload, .. } | Message::Call { payload, .. }) = message else {
        return None;
    };
    take_link(payload).ok().map(|(link, _)| link)
}

impl Instance {
    /// # Errors
    /// When the store cannot be read.
    pub fn open(options: Options, store: &dyn Reader, space: &Space) -> Result<Self, StoreError> {
        let Options { name, group, me, node, settings, limits } = options;
        let base = Base::open(store, space)?;
        Ok(Self {
            identity: Identity { name, group, me, node },
            settings,
            limits,
            history: history_at(&base.record),
            base,
            spill: Spill::open(store, space)?,
            seat: Seat::Vacant,
            health: Health::default(),
            standbys: Standbys::default(),
            transfers: Transfers::default(),
            checkpoint: CheckpointWish::default(),
            ownerships: Ownerships { term: Term(0), before: 0 },
        })
    }

    /// Another replica's state is in the space now, in place of the one that was here. An ownership
    /// must have been given back before.
    ///
    /// # Errors
    /// When the store fails.
    pub fn installed(
        &mut self,
        store: &dyn Reader,
        space: &Space,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        assert!(!self.seat.is_primary(), "Invariant: a leader's state is not replaced");
        self.close_seat("RELOAD", "the state came anew from another replica", outputs);
        self.base.reopen(store, space)?;
        self.spill = Spill::open(store, space)?;
        self.history = history_at(&self.base.record);
        // The checkpoint that came in was being written to the space that was replaced.
        self.transfers.incoming = None;
        Ok(())
    }

    /// Writes the base to the store, if the store does not have it. To be called before the store
    /// is made durable and the log is cut at the base.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_base(&mut self, cx: &mut Context<'_>) -> Result<Position, StoreError> {
        self.base.write(cx)
    }

    /// Brings a base into force.
    pub(crate) fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        mut record: BaseRecord,
    ) -> Result<(), StoreError> {
        // Every state that is loaded from here on is after the inputs that were taken out before
        // it.
        let inputs = record.input_state.inputs;
        record.input_state.forget_skipped(inputs);
        self.history.input_state.forget_skipped(inputs);
        self.base.adopt(cx, record)?;
        self.is_adopted();
        Ok(())
    }

    /// The base has moved.
    pub(crate) fn is_adopted(&mut self) {
        self.spill.look_for_garbage();
        self.history.log_bytes = 0;
        if let Seat::Running(running) = &mut self.seat {
            running.window.busy_micros = 0;
        }
    }

    /// Sends the program away, with a reason.
    pub(crate) fn close_seat(&mut self, code: &str, text: &str, outputs: &mut Vec<Output>) {
        let input = self.seat.done();
        let Some((connection, state)) = self.seat.vacate() else { return };
        self.health.let_go = Some(LetGo { code: code.into(), text: text.into(), input });
        self.spill.look_for_garbage();
        self.base.discard(state);
        self.note_if_it_cannot_be_told(&connection, "let go", text, outputs);
        connection.close(code, text, outputs);
    }

    /// A program of AMBROSIA's ends without knowing why: its protocol has no word for it.
    pub(crate) fn note_if_it_cannot_be_told(
        &self,
        connection: &Connection,
        what: &str,
        why: &str,
        outputs: &mut Vec<Output>,
    ) {
        if !connection.confirms() {
            let name = &self.identity.name;
            outputs.push(Output::Note(format!("the program of '{name}' is {what}: {why}")));
        }
    }

    /// The upgrade that the program was told and that has no outcome in the log. What the program
    /// has sent since then may follow from a history that the log will not have.
    pub(crate) fn open_upgrade_told(&self) -> Option<Upgrading> {
        let told = self.seat.told();
        self.history.input_state.upgrading.filter(|upgrading| told >= upgrading.input)
    }

    /// An input and the name of its sender, if the log still has it.
    pub(crate) fn logged_message(&self, cx: &Context<'_>, input: u64) -> Option<(String, Message)> {
        let mut state = self.base.record.input_state.clone();
        let mut position = self.base.position();
        loop {
            let entries = cx.entries.after(position, SEARCH_BYTES);
            (position, ..) = *entries.last()?;
            for (_, _, bytes) in entries {
                let logged = state.log(&IndexedEntry::read(bytes).ok()?).ok()?;
                if (logged.first..logged.first + logged.count).contains(&input) {
                    let place = usize::try_from(input - logged.first).ok()?;
                    return message_at(&logged.blocks, place);
                }
            }
        }
    }

    // What can be seen of it.

    pub fn name(&self) -> &str {
        &self.identity.name
    }

    pub fn group(&self) -> GroupId {
        self.identity.group
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the log may be cut once the store is durable.
    pub fn base(&self) -> (Position, Term) {
        (self.base.record.position, self.base.record.term)
    }

    /// The version of the program's state at the base. None while there is no state.
    pub fn program_version_at_base(&self) -> Option<u64> {
        self.base.record.blob.map(|_| self.base.record.input_state.program_version)
    }

    pub fn inputs(&self) -> u64 {
        self.history.input_state.inputs
    }

    /// How this replica is.
    pub fn status(&self) -> ReplicaStatus {
        let (running, base) = (self.seat.running(), &self.base.record);
        ReplicaStatus {
            attached: !self.seat.is_vacant(),
            caught_up: running.is_some_and(|running| running.has_caught_up(self.inputs())),
            done: self.seat.done(),
            inputs: self.inputs(),
            program_version: self.version_in_use(),
            upgrade_to: self.seat.upgrade_to(),
            base: base.position,
            base_input: base.input_state.inputs,
            sizes: Sizes {
                checkpoint: base.blob.map_or(0, |blob| blob.bytes),
                log: self.history.log_bytes,
            },
            held: self.health.held.clone(),
            diverged: self.health.diverged.clone(),
            let_go: self.health.let_go.clone(),
        }
    }

    /// How the other replicas are, as far as they were heard of lately.
    pub fn others(&self) -> impl Iterator<Item = (ReplicaId, &ReplicaStatus)> {
        self.standbys.statuses()
    }

    /// Since when this replica has been as it is.
    pub fn since(&self) -> Option<Since> {
        self.standbys.own_since()
    }

    /// Since when another replica has been as it is, as seen from here.
    pub fn since_of(&self, replica: ReplicaId) -> Option<Since> {
        self.standbys.since(replica)
    }

    /// Whether the program on that replica could become the primary now.
    pub fn is_ready(&self, replica: ReplicaId) -> bool {
        self.standbys.is_ready(replica)
    }

    /// Whether a program has ever begun.
    pub fn has_begun(&self) -> bool {
        self.history.input_state.genesis.is_some()
    }

    /// Whether a program is attached here that may be the primary.
    pub fn is_served(&self) -> bool {
        !self.seat.is_vacant() && self.health.is_good()
    }

    /// Whether the program here is the primary.
    pub fn is_primary(&self) -> bool {
        self.seat.is_primary()
    }

    /// The version of the programs that are in use. While an upgrade is open, this is the former
    /// version. Before any program has begun, it is the version that the first program must have.
    pub fn version_in_use(&self) -> u64 {
        let state = &self.history.input_state;
        if state.genesis.is_none() && state.inputs == 0 {
            return self.settings.first_version;
        }
        state.upgrading.map_or(state.program_version, |upgrading| upgrading.from)
    }

    /// Whether the last wish for an upgrade was given up.
    pub fn has_given_up_the_upgrade(&self) -> bool {
        let Settings { upgrade_version, upgrade_wish, .. } = self.settings;
        let given_up = self.history.input_state.given_up;
        upgrade_version.is_some() && upgrade_wish > 0 && upgrade_wish <= given_up
    }

    /// What was sent to each destination.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        let Some(running) = self.seat.running() else { return Vec::new() };
        let streams = running.output.streams.iter().map(|(name, stream)| DestinationStatus {
            to: name.clone(),
            sent: stream.count,
            confirmed: stream.confirmed,
            kept_bytes: stream.kept_bytes,
            on_disk_bytes: stream.spilled_bytes,
            first_link: partition_of_stream(name).and_then(|_| first_link(stream)),
        });
        streams.collect()
    }

    /// The destinations because of which the program is given no more inputs. Empty when the
    /// program is given inputs.
    pub fn waits_for(&self) -> Vec<String> {
        match self.seat.running() {
            Some(running) if running.is_primary() && running.output.is_full() => {
                running.output.kept_destinations().cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// How many bytes are kept in memory for all destinations.
    pub fn memory(&self) -> usize {
        self.seat.running().map_or(0, |running| running.output.memory())
    }

    /// How far each sender has come in the log.
    pub fn senders(&self) -> impl Iterator<Item = (GroupId, u64)> {
        self.history.input_state.received.iter().map(|(group, last)| (*group, *last))
    }
}

fn history_at(base: &BaseRecord) -> History {
    History::new(base.input_state.clone(), base.position, base.term)
}
