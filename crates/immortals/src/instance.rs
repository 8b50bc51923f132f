//! One replica of one instance, as a value: everything but consensus, sockets and disks.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::immortal::{Hello, ToProgram};
use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{Reader, Space, StoreError};

use crate::base::{BaseRecord, BlobWriter, adopt, read_record, sweep};
use crate::checkpoint::{Incoming, Outgoing};
use crate::door::Adapter;
use crate::entry::{Entry, GenesisEnd, Inputs};
use crate::io::{Context, Diverged, Held, Input, Output, Peer, ReplicaStatus, Settings};
use crate::ledger::{InputState, Logged};
use crate::office::{Lead, Office};
use crate::session::{Phase, Session};
use crate::shelf::Shelf;
use crate::stream::KeptLimits;
use crate::voice::OutputState;

/// What an instance is made from.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    pub group: GroupId,
    pub me: ReplicaId,
    /// The name of the node, told to programs.
    pub node: String,
    pub settings: Settings,
    pub limits: KeptLimits,
}

/// What is known of another replica, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) status: ReplicaStatus,
    pub(crate) at: u64,
}

pub struct Instance {
    pub(crate) name: String,
    pub(crate) group: GroupId,
    pub(crate) me: ReplicaId,
    pub(crate) node: String,
    pub(crate) settings: Settings,
    limits: KeptLimits,
    /// As applied.
    pub(crate) ledger: InputState,
    pub(crate) position: Position,
    /// Of the last entry that was applied.
    pub(crate) term: Term,
    pub(crate) base: BaseRecord,
    pub(crate) shelf: Shelf,
    /// The base as it stands in the store.
    base_written: Position,
    /// The state of the first program, on its way through the log.
    genesis: Option<BlobWriter>,
    /// Bytes of log since the base.
    pub(crate) log_bytes: u64,
    pub(crate) session: Option<Session>,
    pub(crate) office: Option<Office>,
    /// How often the office was opened before in that term.
    pub(crate) openings: (Term, u64),
    pub(crate) known: BTreeMap<ReplicaId, Known>,
    pub(crate) held: Option<Held>,
    pub(crate) diverged: Option<Diverged>,
    /// The input at which a program failed, and how often in a row.
    pub(crate) failing: (u64, u32),
    pub(crate) incoming: Option<Incoming>,
    pub(crate) outgoing: BTreeMap<ReplicaId, Outgoing>,
    /// Replicas with an earlier checkpoint than this one, and since when.
    pub(crate) late: BTreeMap<ReplicaId, u64>,
    pub(crate) writing: Option<BlobWriter>,
    /// States that will not be completed; what was written of them is removed at the next chance.
    pub(crate) discarded: Vec<BlobWriter>,
    /// The name that was last given to a state.
    names: u64,
    /// The store holds no pieces of states that nobody knows of.
    swept: bool,
    pub(crate) checkpoint_wanted: bool,
    pub(crate) checkpoint_asked: u64,
    pub(crate) requests: u64,
    pub(crate) told_status: (ReplicaStatus, u64),
}

impl Instance {
    /// # Errors
    /// When the store cannot be read.
    pub fn open(options: Options, store: &dyn Reader, space: &Space) -> Result<Self, StoreError> {
        let Options { name, group, me, node, settings, limits } = options;
        let base = read_record(store, space)?;
        Ok(Self {
            name,
            group,
            me,
            node,
            settings,
            limits,
            ledger: base.ledger.clone(),
            position: base.position,
            term: base.term,
            base_written: base.position,
            names: base.blob.map_or(0, |blob| blob.name),
            base,
            shelf: Shelf::open(store, space)?,
            genesis: None,
            log_bytes: 0,
            session: None,
            office: None,
            openings: (Term(0), 0),
            known: BTreeMap::new(),
            held: None,
            diverged: None,
            failing: (0, 0),
            incoming: None,
            outgoing: BTreeMap::new(),
            late: BTreeMap::new(),
            writing: None,
            discarded: Vec::new(),
            swept: false,
            checkpoint_wanted: false,
            checkpoint_asked: 0,
            requests: 0,
            told_status: (ReplicaStatus::default(), 0),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Where the log may be cut once the state is durable.
    pub fn base(&self) -> (Position, Term) {
        (self.base.position, self.base.term)
    }

    /// None while there is no state.
    pub fn program_version_at_base(&self) -> Option<u64> {
        self.base.blob.map(|_| self.base.ledger.program_version)
    }

    pub fn inputs(&self) -> u64 {
        self.ledger.inputs
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes one thing that happened.
    ///
    /// # Errors
    /// When the store fails.
    pub fn step(
        &mut self,
        ground: &mut Context<'_>,
        lead: Option<&mut Lead>,
        input: Input,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.with_lead(lead, |instance| instance.step_either(ground, input, outputs))
    }

    fn with_lead<T>(&mut self, lead: Option<&mut Lead>, work: impl FnOnce(&mut Self) -> T) -> T {
        let Some(lead) = lead else { return work(self) };
        self.office = lead.office.take();
        let result = work(self);
        lead.office = self.office.take();
        result
    }

    /// This replica owns its group now, and has applied all that was committed before. To be followed by
    /// [`Instance::settle`].
    pub fn lead(
        &mut self,
        ground: &mut Context<'_>,
        term: Term,
        _outputs: &mut Vec<Output>,
    ) -> Lead {
        self.open_office(ground, term);
        Lead { office: self.office.take() }
    }

    /// The ownership has ended: says what became of every request. To be followed by
    /// [`Instance::settle`].
    pub fn follow(&mut self, _ground: &mut Context<'_>, lead: Lead, outputs: &mut Vec<Output>) {
        self.office = lead.office;
        self.close_office(outputs);
    }

    fn step_either(
        &mut self,
        ground: &mut Context<'_>,
        input: Input,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match input {
            Input::Settings(settings) => self.set(settings, outputs),
            Input::Read { program, bytes } => self.heard(ground, program, &bytes, outputs)?,
            Input::Written { program, bytes } => self.drained(program, bytes),
            Input::Detached { program } => {
                self.detached(program, outputs);
            }
            Input::Peer { from, message } => self.peer(ground, from, message, outputs)?,
            Input::PeerReached { replica } => self.tell_status(replica, outputs),
            Input::PeerLost { replica } => drop(self.known.remove(&replica)),
            Input::Between { from, message } => self.between(ground, from, message, outputs)?,
            Input::HandOverFailed => {
                if let Some(office) = &mut self.office {
                    office.handing_since = 0;
                }
            }
            Input::OwnerChanged { group } => self.moved(ground, group, outputs)?,
            Input::Request { ticket, request } => self.ask(ground, ticket, request, outputs),
            Input::Tick => self.tick(ground, outputs)?,
        }
        self.settle_either(ground, outputs)
    }

    /// An entry is committed. To be called for each, in order; [`Instance::settle`] after the last.
    ///
    /// # Errors
    /// When the store fails.
    pub fn apply(
        &mut self,
        ground: &mut Context<'_>,
        lead: Option<&mut Lead>,
        position: Position,
        term: Term,
        data: Option<Bytes>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.with_lead(lead, |instance| {
            instance.apply_either(ground, position, term, data, outputs)
        })
    }

    fn apply_either(
        &mut self,
        ground: &mut Context<'_>,
        position: Position,
        term: Term,
        data: Option<Bytes>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.sweep(ground)?;
        (self.position, self.term) = (position, term);
        let Some(data) = data else {
            self.stay_virgin(position, term);
            return Ok(());
        };
        self.log_bytes += data.len() as u64;
        if let Some(session) = &mut self.session {
            session.backlog += data.len() as u64;
        }
        let entry = match Entry::decode(data) {
            Ok(entry) => entry,
            Err(why) => {
                outputs.push(Output::Note(format!("entry {position} cannot be read: {why}")));
                return Ok(());
            }
        };
        let upgrading = self.ledger.upgrading;
        let logged = self.ledger.log(&entry).unwrap_or_else(|why| {
            outputs.push(Output::Note(format!("entry {position} has inputs astray: {why}")));
            Logged::default()
        });
        match entry {
            Entry::Genesis { first, chunk, last } => {
                self.genesis_came(ground, (position, term), first, chunk, last)?;
            }
            Entry::Skip { input } => self.was_taken_out(input, outputs),
            Entry::Upgraded { .. } => self.upgrade_ended(upgrading, outputs),
            Entry::Inputs(_) | Entry::Forget { .. } | Entry::Lost { .. } => {}
        }
        if self.office.as_ref().is_some_and(|office| office.term == term) {
            self.landed(&logged, outputs);
        }
        Ok(())
    }

    /// A state that is to be written piece by piece.
    pub(crate) fn new_state(&mut self) -> BlobWriter {
        self.names += 1;
        BlobWriter::new(self.names)
    }

    fn sweep(&mut self, ground: &mut Context<'_>) -> Result<(), StoreError> {
        if !std::mem::replace(&mut self.swept, true) {
            sweep(ground.store, &ground.space, self.base.blob)?;
        }
        Ok(())
    }

    /// A person has taken out an input, and this is its place in the log: programs that have seen it
    /// begin anew without it.
    pub(crate) fn was_taken_out(&mut self, input: u64, outputs: &mut Vec<Output>) {
        if self.held.as_ref().is_some_and(|held| held.input == input) {
            self.held = None;
        }
        if self.failing.0 == input {
            self.failing = (0, 0);
        }
        if self.session.as_ref().is_some_and(|session| session.has_read(input)) {
            let text = format!("input {input} was taken out");
            self.close_session("RELOAD", &text, outputs);
        }
    }

    /// Before there is any state, the base goes along with the log.
    fn stay_virgin(&mut self, position: Position, term: Term) {
        if self.ledger.genesis.is_none() && self.genesis.is_none() {
            (self.base.position, self.base.term) = (position, term);
        }
    }

    fn genesis_came(
        &mut self,
        ground: &mut Context<'_>,
        (position, term): (Position, Term),
        first: bool,
        chunk: Bytes,
        last: Option<GenesisEnd>,
    ) -> Result<(), StoreError> {
        if self.base.blob.is_some() {
            return Ok(());
        }
        if first && let Some(former) = self.genesis.take() {
            former.drop_all(ground.store, &ground.space)?;
        }
        if first {
            self.genesis = Some(self.new_state());
        }
        let Some(writer) = &mut self.genesis else { return Ok(()) };
        if !chunk.is_empty() {
            writer.put(ground.store, &ground.space, &chunk)?;
        }
        if last.is_some() {
            let mut writer = self.genesis.take().expect("it is there");
            let blob = Some(writer.blob());
            let said = encode_voice(&OutputState::default());
            let voice = writer.put_voice(ground.store, &ground.space, &said)?;
            let ledger = self.ledger.clone();
            let cells = Vec::new();
            self.adopt(ground, BaseRecord { position, term, ledger, blob, voice, cells })?;
            if let Some(session) = &mut self.session
                && matches!(session.phase, Phase::Genesis(_))
            {
                session.begin(&self.base, 0);
                session.backlog = 0;
            }
        }
        Ok(())
    }

    /// The base moves.
    pub(crate) fn adopt(
        &mut self,
        ground: &mut Context<'_>,
        mut record: BaseRecord,
    ) -> Result<(), StoreError> {
        let members = ground.entries.members_at(record.position);
        // They lie before every state that is ever loaded from here on.
        record.ledger.forget_skipped(record.ledger.inputs);
        self.ledger.forget_skipped(record.ledger.inputs);
        adopt(ground.store, &ground.space, &record, members, &self.base)?;
        self.base_written = record.position;
        self.base = record;
        self.shelf.doubt();
        self.log_bytes = 0;
        if let Some(session) = &mut self.session {
            session.busy_micros = 0;
        }
        Ok(())
    }

    /// To be called before the state is made durable: the store then has the base.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_base(&mut self, ground: &mut Context<'_>) -> Result<Position, StoreError> {
        if self.base_written != self.base.position {
            let record = self.base.clone();
            self.adopt(ground, record)?;
        }
        Ok(self.base.position)
    }

    /// Lets everything come to rest after what happened.
    ///
    /// # Errors
    /// When the store fails.
    pub fn settle(
        &mut self,
        ground: &mut Context<'_>,
        lead: Option<&mut Lead>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.with_lead(lead, |instance| instance.settle_either(ground, outputs))
    }

    fn settle_either(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.sweep(ground)?;
        self.mind_session(ground, outputs)?;
        self.mind_office(ground, outputs)?;
        self.mind_shelf(ground)?;
        if let Some(session) = &mut self.session
            && !session.out.is_empty()
        {
            let bytes = std::mem::take(&mut session.out);
            outputs.push(Output::Write { program: session.program, bytes });
        }
        for state in std::mem::take(&mut self.discarded) {
            state.drop_all(ground.store, &ground.space)?;
        }
        self.mind_status(ground.now.steady_micros, outputs);
        Ok(())
    }

    /// A state came from elsewhere and is in the space now; what was here is of no use any more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn installed(
        &mut self,
        store: &dyn Reader,
        space: &Space,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.close_session("RELOAD", "the state came anew from another replica", outputs);
        self.base = read_record(store, space)?;
        self.shelf = Shelf::open(store, space)?;
        self.base_written = self.base.position;
        self.ledger = self.base.ledger.clone();
        (self.position, self.term) = (self.base.position, self.base.term);
        self.genesis = None;
        self.incoming = None;
        self.writing = None;
        // They lie in the space that was replaced.
        self.discarded.clear();
        self.names = self.names.max(self.base.blob.map_or(0, |blob| blob.name));
        self.swept = false;
        self.log_bytes = 0;
        Ok(())
    }

    /// A program wants to attach. It is told why if it may not.
    pub fn attach(
        &mut self,
        ground: &mut Context<'_>,
        lead: Option<&mut Lead>,
        program: u64,
        door: Adapter,
        hello: Hello,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.with_lead(lead, |i| i.attach_either(ground, program, door, hello, outputs))
    }

    fn attach_either(
        &mut self,
        ground: &mut Context<'_>,
        program: u64,
        door: Adapter,
        hello: Hello,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        let mut session =
            Session::new((self.group, &self.name), program, door, hello, self.limits, now);
        if let Some((code, text)) = self.why_not(&session) {
            self.note_for_ambrosias(&session, "turned away", &text, outputs);
            session.tell(&ToProgram::Error { code: code.into(), text });
            outputs.push(Output::Write { program, bytes: session.out });
            outputs.push(Output::Close { program });
            return Ok(());
        }
        let replica = self.settings.replicas.iter().position(|id| *id == self.me).unwrap_or(0);
        session.welcome(&self.node, replica as u64, self.base.ledger.program_version);
        session.careful = self.failing.1 > 0;
        session.backlog = self.log_bytes;
        self.session = Some(session);
        self.settle_either(ground, outputs)
    }

    /// A replica that was taken away keeps no program: it would be in the way of the next one if the
    /// replica comes back.
    fn set(&mut self, settings: Settings, outputs: &mut Vec<Output>) {
        self.settings = settings;
        if !self.settings.replicas.contains(&self.me) {
            let text = format!("the replica of '{}' on this node was taken away", self.name);
            self.close_session("NOT_HERE", &text, outputs);
        }
    }

    fn why_not(&self, session: &Session) -> Option<(&'static str, String)> {
        let (name, hello) = (&self.name, &session.hello);
        if self.session.is_some() {
            let text = format!(
                "another program is attached to this node's replica of '{name}': end it first"
            );
            return Some(("ATTACHED", text));
        }
        if self.gives_up_an_upgrade() {
            let text = format!("an upgrade of '{name}' is being given up: connect again");
            return Some(("RELOAD", text));
        }
        if let Some(held) = &self.held {
            let text = format!(
                "programs failed {} times on input {} of '{name}' ({}): mend the program, then \
                 'amrita immortal release {name}', or take the input out with 'amrita immortal \
                 skip {name} {}'",
                held.tries, held.input, held.message, held.input
            );
            return Some(("HELD", text));
        }
        if self.diverged.is_some() {
            let text = format!(
                "this replica of '{name}' has diverged; see GET /core/immortals/{name}, then \
                 'amrita immortal release {name}'"
            );
            return Some(("DIVERGED", text));
        }
        if self.ledger.genesis.is_none()
            && session.hello.program_version != self.settings.first_version
        {
            let (wants, has) = (self.settings.first_version, session.hello.program_version);
            let text = format!("'{name}' begins with program version {wants}, not {has}");
            return Some(("PROGRAM_VERSION", text));
        }
        self.ledger.genesis.as_ref()?;
        let (at_base, now) = (self.base.ledger.program_version, self.ledger.program_version);
        let (version, upgrade_to) = (hello.program_version, hello.upgrade_to);
        // While it is open what becomes of an upgrade, both are let in that can go on afterwards.
        let is_open = self.ledger.upgrading.is_some_and(|upgrading| upgrading.from == at_base);
        let fits = version == at_base && (now == at_base || is_open || upgrade_to == now);
        (!fits).then(|| {
            let text = format!(
                "'{name}' is at program version {now} (its last checkpoint at {at_base}), and this \
                 program has version {version}, upgrade to {upgrade_to}"
            );
            ("PROGRAM_VERSION", text)
        })
    }

    pub(crate) fn close_session(&mut self, code: &str, text: &str, outputs: &mut Vec<Output>) {
        let Some(mut session) = self.session.take() else { return };
        self.shelf.doubt();
        self.note_for_ambrosias(&session, "let go", text, outputs);
        session.tell(&ToProgram::Error { code: code.into(), text: text.into() });
        outputs.push(Output::Write { program: session.program, bytes: session.out });
        outputs.push(Output::Close { program: session.program });
        self.discarded.extend(self.writing.take());
        self.forget_primary();
    }

    /// A program of AMBROSIA's ends without knowing why: its protocol cannot tell it.
    fn note_for_ambrosias(
        &self,
        session: &Session,
        what: &str,
        why: &str,
        outputs: &mut Vec<Output>,
    ) {
        if !session.door.confirms() {
            let name = &self.name;
            outputs.push(Output::Note(format!("the program of '{name}' is {what}: {why}")));
        }
    }

    fn peer(
        &mut self,
        ground: &mut Context<'_>,
        from: ReplicaId,
        message: Peer,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match message {
            Peer::Status(status) => {
                self.known.insert(from, Known { status, at: ground.now.steady_micros });
                Ok(())
            }
            Peer::Differs { said } => {
                self.show_difference(from, said, outputs);
                Ok(())
            }
            Peer::Difference { expected, found } => {
                self.difference_shown(expected, found, outputs);
                Ok(())
            }
            Peer::Release => {
                self.held = None;
                self.diverged = None;
                self.failing = (0, 0);
                Ok(())
            }
            Peer::TakeCheckpoint => {
                self.checkpoint_wanted = true;
                Ok(())
            }
            Peer::Chunk { position, number, bytes, last } => {
                self.chunk_came(ground, from, (position, number), &bytes, last, outputs)
            }
            Peer::ChunkStored { position, number } => {
                self.chunk_taken(ground, from, position, number, outputs)
            }
            Peer::WantBlock { position, id } => {
                self.cell_wanted(ground, from, (position, id), outputs)
            }
            Peer::SpillBlock { position, id, run } => {
                self.cell_came(ground, from, (position, id, run), outputs)
            }
        }
    }
}

pub(crate) fn encode_voice(voice: &OutputState) -> Bytes {
    Bytes::from(postcard::to_stdvec(voice).expect("a voice encodes"))
}

/// An entry that has no inputs in it.
pub(crate) fn bare(time: protocol::Moment) -> Inputs {
    Inputs { time, trims: Vec::new(), mark: None, origins: Vec::new(), blocks: Bytes::new() }
}
