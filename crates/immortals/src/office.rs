//! What the owner does: puts inputs into the log, confirms them to their senders, and sends on what
//! the program says, as long as the term lasts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::immortal::{BlockHead, Fate, Message, SourceKind, Status, ToProgram, put_message};
use protocol::{GroupId, Moment, Now, ReplicaId, Term};
use storage::StoreError;

use crate::credit::IMPULSE_BYTES_ALL_MAX;
use crate::door::MESSAGE_BYTES_MAX;
use crate::entry::{ENTRY_BYTES_MAX, Entry, Inputs, Mark, Origin, encode_inputs};
use crate::instance::{Instance, bare};
use crate::io::{Between, Context, Lane, Output, Request, Response};
use crate::ledger::{Logged, SKIPPED_MAX};
use crate::outgoing::{Line, WINDOW_BYTES};
use crate::session::Phase;
use crate::stream::Stream;
use crate::upgrade::upgrade_was_made;
use crate::voice::DESTINATIONS_MAX;

/// So many entries may be on their way into the log; more inputs gather meanwhile.
const FLYING_MAX: usize = 4;

/// So many bytes of inputs may wait for the log; more are not taken, and senders try again.
pub(crate) const PENDING_BYTES_MAX: usize = 64 << 20;

/// A program that is so many bytes of inputs behind gets no more into its log before it has caught up;
/// senders keep what they have.
const BACKLOG_BYTES_MAX: u64 = 32 << 20;

/// An owner may be opened so often in one term, as a power of two, before numbers run into those of
/// the next.
const OPENINGS_BITS: u32 = 20;

/// So long a wish to move the ownership is tried, in microseconds.
const MOVE_MICROS: u64 = 5_000_000;

/// So many bytes of impulses may wait for one destination; more are refused.
pub(crate) const IMPULSE_BYTES_MAX: usize = 4 << 20;

/// After so long without inputs, what was confirmed and said is logged on its own, in microseconds.
const QUIET_MICROS: u64 = 200_000;

/// Who is told when inputs are logged.
#[derive(Debug)]
pub(crate) enum Receipt {
    None,
    Sender {
        group: GroupId,
        lane: Lane,
    },
    /// Of that program, which numbered it.
    Impulse {
        program: u64,
        number: u64,
    },
    /// A timer or a side effect.
    Resolved {
        id: u64,
    },
    Upgrade,
    /// Senders that are forgotten.
    Forgotten,
    Ticket(u64),
    /// Who wants an input taken out.
    Skip {
        ticket: u64,
        input: u64,
    },
}

/// Inputs that wait for the log.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) head: BlockHead,
    pub(crate) origin: Origin,
    pub(crate) messages: Bytes,
    pub(crate) receipt: Receipt,
}

/// What waits for the log, in this order.
#[derive(Debug)]
enum Waiting {
    Inputs(Pending),
    /// Inputs before it and after it would not fit if it were not logged between them.
    Between(Entry),
}

/// An entry on its way into the log.
#[derive(Debug, Default)]
struct Flying {
    /// With the count of the block's messages.
    receipts: Vec<(u64, Receipt)>,
}

/// What only the owner of an instance has, from [`Instance::lead`] to [`Instance::follow`].
pub struct Lead {
    pub(crate) office: Option<Office>,
}

impl Lead {
    /// The names of the instances to which something was sent, or is to be sent, in this ownership.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        let lines = self.office.iter().flat_map(|office| office.lines.keys());
        lines.map(|(name, _)| name.as_str())
    }

    /// Nothing is on its way into the log.
    pub fn is_idle(&self) -> bool {
        self.office.as_ref().is_none_or(Office::is_idle)
    }
}

pub(crate) struct Office {
    pub(crate) term: Term,
    /// Names the stream of impulses of this opening: higher than those of all before.
    pub(crate) impulse_session: u64,
    /// All that was logged when the office was opened: the program is the primary when it has
    /// handled so much.
    until: u64,
    /// The program knows that it is the primary.
    pub(crate) is_primary: bool,
    pub(crate) accepting: bool,
    pending: VecDeque<Waiting>,
    pub(crate) pending_bytes: usize,
    flying: VecDeque<Flying>,
    /// The next number of each sender's stream, what is on its way included.
    pub(crate) next: BTreeMap<(GroupId, Lane), u64>,
    /// Senders that are gone and are to be forgotten: that is on its way into the log.
    pub(crate) forgetting: BTreeSet<GroupId>,
    /// The next of the program's own messages to itself: all before are on their way, also those of
    /// a program that is gone.
    own_next: u64,
    pub(crate) lines: BTreeMap<(String, bool), Line>,
    /// Impulses to other instances; for each the program that gave it, and its number there.
    pub(crate) impulses: BTreeMap<String, (Stream, VecDeque<(u64, u64)>)>,
    /// Of all of them.
    pub(crate) impulse_bytes: usize,
    /// Destinations to which there may be something to send: impulses, or what is numbered for good.
    pub(crate) touched: BTreeSet<(String, bool)>,
    /// Timers and results that this owner has put on their way into the log, and as which input
    /// they came there. KeptRun until the program is told: only then its voice knows.
    resolved: BTreeMap<u64, Option<u64>>,
    /// The time of the instance, and when it was looked at, in steady microseconds.
    clock: (Moment, u64),
    trims: BTreeMap<String, u64>,
    started: bool,
    pub(crate) upgrade: crate::upgrade::Course,
    /// Destinations for which the program was told that there is no room.
    pub(crate) short: BTreeSet<String>,
    mark_logged: Option<Mark>,
    quiet_since: u64,
    pub(crate) handing_since: u64,
    /// A person wants it to go to that replica, and until when that is tried.
    pub(crate) moving: Option<(ReplicaId, u64)>,
}

impl Instance {
    pub(crate) fn open_office(&mut self, ground: &mut Context<'_>, term: Term) {
        // A hand-over that came to nothing is followed by another opening in the same term.
        let openings = if self.openings.0 == term { self.openings.1 + 1 } else { 0 };
        self.openings = (term, openings);
        self.office = Some(Office {
            term,
            impulse_session: (term.0 << OPENINGS_BITS) + openings,
            until: self.ledger.inputs,
            is_primary: false,
            accepting: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            flying: VecDeque::new(),
            next: BTreeMap::new(),
            forgetting: BTreeSet::new(),
            own_next: 0,
            lines: BTreeMap::new(),
            impulses: BTreeMap::new(),
            impulse_bytes: 0,
            touched: BTreeSet::new(),
            resolved: BTreeMap::new(),
            clock: (self.ledger.time.max(ground.now.wall), ground.now.steady_micros),
            trims: BTreeMap::new(),
            started: false,
            upgrade: crate::upgrade::Course::default(),
            short: BTreeSet::new(),
            mark_logged: None,
            quiet_since: ground.now.steady_micros,
            handing_since: 0,
            moving: None,
        });
    }

    pub(crate) fn close_office(&mut self, outputs: &mut Vec<Output>) {
        self.forget_primary();
        let Some(office) = self.office.take() else { return };
        let flying = office.flying.into_iter().flat_map(|flying| flying.receipts);
        let flying = flying.map(|(_, receipt)| (receipt, Response::Unknown));
        // What was not proposed surely did not happen.
        let waiting = office.pending.into_iter().filter_map(|waiting| match waiting {
            Waiting::Inputs(pending) => Some((pending.receipt, Response::NotOwner)),
            Waiting::Between(_) => None,
        });
        for (receipt, told) in flying.chain(waiting) {
            match receipt {
                Receipt::Ticket(ticket) | Receipt::Skip { ticket, .. } => {
                    outputs.push(Output::Respond { ticket, response: told });
                }
                Receipt::Impulse { program, number } => {
                    self.tell_fate((program, number), Fate::Unknown, 0);
                }
                Receipt::Sender { .. }
                | Receipt::Resolved { .. }
                | Receipt::Upgrade
                | Receipt::Forgotten
                | Receipt::None => {}
            }
        }
        for (_, numbers) in office.impulses.into_values() {
            for number in numbers {
                self.tell_fate(number, Fate::Unknown, 0);
            }
        }
        if let Some(session) = &self.session
            && matches!(session.phase, Phase::Genesis(_))
        {
            let text = "another replica became the owner before the first state was logged";
            self.close_session("RELOAD", text, outputs);
        }
    }

    /// The program is not the primary any more, or is gone.
    pub(crate) fn forget_primary(&mut self) {
        if let Some(office) = &mut self.office {
            office.is_primary = false;
            office.upgrade.forget_results();
        }
        if let Some(session) = &mut self.session
            && std::mem::take(&mut session.is_primary)
        {
            session.tell(&ToProgram::Standby);
        }
    }

    /// Unless the program is gone: another one has numbers of its own.
    fn tell_fate(&mut self, (program, number): (u64, u64), fate: Fate, input: u64) {
        if let Some(session) = self.session.as_mut().filter(|s| s.program == program) {
            session.tell(&ToProgram::Fate { number, fate, input });
        }
    }

    /// Brings everything on that an owner does.
    pub(crate) fn mind_office(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if self.office.is_none() {
            return Ok(());
        }
        if self.mind_primary(ground) {
            // A door may have kept back what the program said too early.
            let program = self.session.as_ref().map_or(0, |session| session.program);
            self.heard(ground, program, &Bytes::new(), outputs)?;
        }
        self.mind_upgrade(ground.now.steady_micros, outputs);
        self.mind_accepting(outputs);
        self.start();
        self.pump_all(ground, outputs)?;
        self.flush(ground, outputs);
        self.mind_credit();
        Ok(())
    }

    /// True when the program has become the primary just now.
    fn mind_primary(&mut self, ground: &Context<'_>) -> bool {
        let (Some(office), Some(session)) = (&mut self.office, &mut self.session) else {
            return false;
        };
        if office.is_primary || !session.may_become_primary(office.until) {
            return false;
        }
        office.is_primary = true;
        session.is_primary = true;
        office.short.clear();
        session.heard = ground.now.steady_micros;
        session.tell(&ToProgram::Primary { term: office.term });
        let logged = self.ledger.received.get(&self.group).copied().unwrap_or(0);
        office.own_next = office.own_next.max(logged + 1);
        let all = session.voice.streams.keys();
        office.touched.extend(all.map(|name| (name.clone(), false)));
        // Destinations may have confirmed what this program's predecessor said while there was none.
        office.lines.retain(|(_, impulses), _| *impulses);
        // What was confirmed in an earlier office may not have come into the log with it, and here
        // nothing is kept that would be asked for again: the standbys are told once more.
        for (destination, stream) in &session.voice.streams {
            if stream.confirmed > 0 && *destination != self.name {
                let trim = office.trims.entry(destination.clone()).or_default();
                *trim = (*trim).max(stream.confirmed);
            }
        }
        true
    }

    /// Messages of others are taken as soon as there is a program that will handle them.
    fn mind_accepting(&mut self, outputs: &mut Vec<Output>) {
        let Some(office) = &mut self.office else { return };
        let ready = self
            .session
            .as_ref()
            .is_some_and(|s| matches!(s.phase, Phase::Replaying { .. } | Phase::Live));
        if ready && !office.accepting && self.ledger.inputs + u64::from(office.started) > 0 {
            outputs.push(Output::Accepting);
            office.accepting = true;
        } else if !ready {
            office.accepting = false;
        }
    }

    /// The first input of all.
    fn start(&mut self) {
        let Some(office) = &mut self.office else { return };
        if self.ledger.inputs > 0 || office.started || !office.is_primary {
            return;
        }
        office.started = true;
        let payload = self.ledger.genesis.clone().unwrap_or_default();
        office.put_own(&Message::Start { payload }, Receipt::None);
    }

    /// Proposes an entry that carries no inputs.
    pub(crate) fn propose_bare(&mut self, entry: Entry, outputs: &mut Vec<Output>) {
        self.propose_with(entry, Receipt::None, outputs);
    }

    /// The same, and somebody is told when it is logged.
    pub(crate) fn propose_with(
        &mut self,
        entry: Entry,
        receipt: Receipt,
        outputs: &mut Vec<Output>,
    ) {
        let Some(office) = &mut self.office else { return };
        office.flying.push_back(Flying { receipts: vec![(0, receipt)] });
        outputs.push(Output::Propose(entry.encode()));
    }

    fn flush(&mut self, ground: &Context<'_>, outputs: &mut Vec<Output>) {
        let says_nothing_sure = self.says_nothing_sure();
        let Some(office) = &mut self.office else { return };
        if self.session.as_ref().is_some_and(|session| session.backlog > BACKLOG_BYTES_MAX) {
            return;
        }
        while office.flying.len() < FLYING_MAX
            && let Some(next) = office.pending.front()
        {
            if let Waiting::Between(entry) = next {
                outputs.push(Output::Propose(entry.encode()));
                office.flying.push_back(Flying::default());
                office.pending.pop_front();
                continue;
            }
            let mut inputs = Inputs {
                trims: std::mem::take(&mut office.trims).into_iter().collect(),
                ..bare(office.time(ground.now))
            };
            let mut flying = Flying::default();
            let (mut blocks, mut bytes) = (Vec::new(), 0);
            // A long one goes alone, so that it fits into a frame.
            while let Some(pending) = office.take_if(|pending| {
                blocks.is_empty() || bytes + pending.messages.len() < ENTRY_BYTES_MAX
            }) {
                office.pending_bytes -= pending.messages.len();
                bytes += pending.messages.len();
                inputs.origins.push(pending.origin);
                flying.receipts.push((pending.head.count, pending.receipt));
                blocks.push((pending.head, pending.messages));
            }
            if !says_nothing_sure {
                inputs.mark = new_mark(&self.session, &mut office.mark_logged);
            }
            office.quiet_since = ground.now.steady_micros;
            office.flying.push_back(flying);
            outputs.push(Output::Propose(encode_inputs(&inputs, &blocks)));
        }
    }

    /// What came without inputs for a while is logged all the same: so that standbys forget what is
    /// confirmed, and compare what was said.
    pub(crate) fn mind_quiet(&mut self, ground: &Context<'_>, outputs: &mut Vec<Output>) {
        let now = ground.now.steady_micros;
        let says_nothing_sure = self.says_nothing_sure();
        let Some(office) = &mut self.office else { return };
        let quiet = office.pending.is_empty() && office.flying.is_empty();
        if !quiet || !office.is_primary || now.saturating_sub(office.quiet_since) < QUIET_MICROS {
            return;
        }
        let mark = match says_nothing_sure {
            true => None,
            false => new_mark(&self.session, &mut office.mark_logged),
        };
        if office.trims.is_empty() && mark.is_none() {
            return;
        }
        let trims = std::mem::take(&mut office.trims).into_iter().collect();
        office.quiet_since = now;
        let inputs = Inputs { trims, mark, ..bare(office.time(ground.now)) };
        self.propose_bare(Entry::Inputs(inputs), outputs);
    }

    /// An entry of this office is in the log.
    pub(crate) fn landed(&mut self, logged: &Logged, outputs: &mut Vec<Output>) {
        let Some(office) = &mut self.office else { return };
        let Some(flying) = office.flying.pop_front() else { return };
        let mut input = logged.first;
        for (count, receipt) in flying.receipts {
            match receipt {
                Receipt::None => {}
                Receipt::Sender { group, lane } => {
                    let logged = self.ledger.logged_of(group, lane);
                    let message = Between::Ack { lane, logged, resend_from: None };
                    outputs.push(Output::Between { to: group, message });
                }
                Receipt::Impulse { program, number } => {
                    if let Some(session) = self.session.as_mut().filter(|s| s.program == program) {
                        session.tell(&ToProgram::Fate { number, fate: Fate::Logged, input });
                    }
                }
                Receipt::Upgrade => office.upgrade.is_coming = false,
                Receipt::Forgotten => office.forgetting.clear(),
                Receipt::Resolved { id } => drop(office.resolved.insert(id, Some(input))),
                Receipt::Ticket(ticket) => {
                    outputs.push(Output::Respond { ticket, response: Response::Done { input } });
                }
                Receipt::Skip { ticket, input } => {
                    // What became of an upgrade may have been logged before.
                    let is_out = self.ledger.skipped.contains(&input);
                    let told =
                        if is_out { Response::Done { input } } else { upgrade_was_made(input) };
                    outputs.push(Output::Respond { ticket, response: told });
                }
            }
            input += count;
        }
    }

    // What comes from other instances.

    pub(crate) fn between(
        &mut self,
        ground: &mut Context<'_>,
        from: GroupId,
        message: Between,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match message {
            Between::Ack { lane, logged, resend_from: again } => {
                self.confirmed_by(ground, from, lane, (logged, again), outputs)?;
            }
            Between::Probe { lane } => {
                let takes = self.takes_from(ground.entries, from);
                let Some(office) = &self.office else { return Ok(()) };
                if office.accepting && takes {
                    let logged = self.ledger.logged_of(from, lane);
                    let next = office.next.get(&(from, lane)).copied().unwrap_or(logged + 1);
                    let message = Between::Ack { lane, logged, resend_from: Some(next) };
                    outputs.push(Output::Between { to: from, message });
                }
            }
            Between::Send { .. } if !self.takes_from(ground.entries, from) => {}
            Between::Send { name, .. }
                if Self::is_of_a_former_life(ground.entries, from, &name) => {}
            Between::Send { lane, name, floor, first, count, messages } => {
                let sent = (first, count, messages);
                if let Ok(Some(message)) = self.take_sent(from, lane, (name, floor), sent, outputs)
                {
                    outputs.push(Output::Between { to: from, message });
                }
            }
        }
        Ok(())
    }

    // What comes from the program itself.

    /// A standby's result, or a second one, is of no use: the log has one already or will.
    pub(crate) fn result(&mut self, id: u64, status: Status, payload: Bytes) {
        let (Some(office), Some(session)) = (&mut self.office, &self.session) else { return };
        let awaited = session.voice.awaits.get(&id) == Some(&None);
        if session.is_primary && awaited && !office.resolved.contains_key(&id) {
            office.resolve(id, &Message::Result { id, status, payload });
        }
    }

    /// Puts an impulse on its way. False when there is no room for it.
    pub(crate) fn take_impulse(
        &mut self,
        (program, number): (u64, u64),
        destination: &str,
        messages: Bytes,
    ) -> bool {
        let Some(office) = &mut self.office else { return false };
        if destination == self.name {
            if office.pending_bytes > PENDING_BYTES_MAX {
                return false;
            }
            let kind = SourceKind::Impulses;
            let head = BlockHead { kind, name: self.name.clone(), first: 0, count: 1 };
            let receipt = Receipt::Impulse { program, number };
            office.put(Pending { head, origin: Origin::Outside, messages, receipt });
            return true;
        }
        let bytes = messages.len();
        let is_new = !office.impulses.contains_key(destination);
        if office.impulse_bytes + bytes > IMPULSE_BYTES_ALL_MAX
            || is_new && office.impulses.len() >= DESTINATIONS_MAX
        {
            return false;
        }
        let (stream, numbers) = office.impulses.entry(destination.to_owned()).or_default();
        if stream.kept_bytes > IMPULSE_BYTES_MAX || stream.keep(1, messages, usize::MAX).is_err() {
            return false;
        }
        office.impulse_bytes += bytes;
        numbers.push_back((program, number));
        office.touched.insert((destination.to_owned(), true));
        true
    }

    /// The impulses to a destination are logged there up to a number.
    pub(crate) fn impulses_confirmed(&mut self, destination: &str, up_to: u64) {
        let Some(office) = &mut self.office else { return };
        let Some((stream, numbers)) = office.impulses.get_mut(destination) else { return };
        let before = stream.confirmed;
        let Some(freed) =
            (up_to > before).then(|| stream.confirm(up_to, &mut Vec::new()).ok()).flatten()
        else {
            return;
        };
        office.impulse_bytes -= freed;
        let count = usize::try_from(up_to - before).unwrap_or(usize::MAX).min(numbers.len());
        let told: Vec<(u64, u64)> = numbers.drain(..count).collect();
        for number in told {
            self.tell_fate(number, Fate::Logged, 0);
        }
    }

    pub(crate) fn note_trim(&mut self, destination: &str, up_to: u64) {
        if let Some(office) = &mut self.office {
            let trim = office.trims.entry(destination.to_owned()).or_default();
            *trim = (*trim).max(up_to);
        }
    }

    /// The program's messages to itself go straight into its own log.
    pub(crate) fn pump_own(&mut self, ground: &Context<'_>) -> Result<(), StoreError> {
        if self.says_nothing_sure() {
            return Ok(());
        }
        let (Some(office), Some(session)) = (&mut self.office, &self.session) else {
            return Ok(());
        };
        if !office.is_primary {
            return Ok(());
        }
        let Some(stream) = session.voice.streams.get(&self.name) else { return Ok(()) };
        let (store, space, own) = (&*ground.store, ground.space, (&*self.name, stream));
        while office.pending_bytes < WINDOW_BYTES
            && let Some(piece) = self.shelf.piece(store, &space, own, office.own_next)?
        {
            let kind = SourceKind::Instance;
            let head =
                BlockHead { kind, name: self.name.clone(), first: piece.first, count: piece.count };
            office.own_next = piece.first + piece.count;
            let origin = Origin::Stream { from: self.group };
            let receipt = Receipt::None;
            office.put(Pending { head, origin, messages: piece.messages, receipt });
        }
        Ok(())
    }

    /// Timers whose time has come.
    pub(crate) fn fire_timers(&mut self, ground: &Context<'_>) {
        if self.says_nothing_sure() {
            return;
        }
        let (Some(office), Some(session)) = (&mut self.office, &self.session) else { return };
        if !office.is_primary {
            return;
        }
        let now = office.time(ground.now);
        let due: Vec<u64> = session
            .voice
            .awaits
            .iter()
            .filter(|(id, due)| {
                due.is_some_and(|due| due <= now) && !office.resolved.contains_key(id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            office.resolve(id, &Message::Timer { id });
        }
        let told = session.told;
        office.resolved.retain(|_, input| input.is_none_or(|input| told < input));
    }

    // What people want.

    pub(crate) fn ask(
        &mut self,
        ground: &Context<'_>,
        ticket: u64,
        ask: Request,
        outputs: &mut Vec<Output>,
    ) {
        let refused =
            |text: &str| Output::Respond { ticket, response: Response::Refused(text.into()) };
        let Some(office) = &mut self.office else {
            outputs.push(Output::Respond { ticket, response: Response::NotOwner });
            return;
        };
        match ask {
            Request::Checkpoint if self.session.is_none() => {
                let why =
                    "no program is attached to the owner's replica: start one beside that node";
                outputs.push(refused(why));
            }
            Request::Checkpoint => {
                self.checkpoint_wanted = true;
                let told = Response::Done { input: self.ledger.inputs };
                outputs.push(Output::Respond { ticket, response: told });
            }
            Request::Move { to } => self.move_to(ground, ticket, to, outputs),
            Request::Skip { input } => self.skip(ground, ticket, input, outputs),
            Request::Impulse { payload, .. } if payload.len() > MESSAGE_BYTES_MAX - 100 => {
                let text = format!("an impulse has up to {} bytes", MESSAGE_BYTES_MAX - 100);
                outputs.push(refused(&text));
            }
            Request::Impulse { .. } if office.pending_bytes > PENDING_BYTES_MAX => {
                outputs.push(refused("too much waits for its log already: try again"));
            }
            Request::Impulse { .. } if !office.accepting => {
                outputs.push(refused(&self.why_not_accepting()));
            }
            Request::Impulse { from, method, payload } => {
                let mut messages = Vec::new();
                put_message(&mut messages, &Message::Impulse { method, payload });
                let name = format!("client/{from}");
                let head = BlockHead { kind: SourceKind::Impulses, name, first: 0, count: 1 };
                let (origin, receipt) = (Origin::Outside, Receipt::Ticket(ticket));
                office.put(Pending { head, origin, messages: messages.into(), receipt });
            }
        }
    }

    /// Takes an input out, if no program has handled it: else copies would differ.
    fn skip(&mut self, ground: &Context<'_>, ticket: u64, input: u64, outputs: &mut Vec<Output>) {
        if self.ledger.skipped.len() >= SKIPPED_MAX {
            let why = format!("{SKIPPED_MAX} inputs were taken out: take a checkpoint first");
            outputs.push(Output::Respond { ticket, response: Response::Refused(why) });
        } else if let Some(why) = self.why_not_skip(ground, input) {
            outputs.push(Output::Respond { ticket, response: Response::Refused(why) });
        } else if let Some(upgrading) = self.ledger.upgrading.filter(|u| u.input == input) {
            self.skip_upgrade(ticket, upgrading, outputs);
        } else {
            let receipt = Receipt::Skip { ticket, input };
            self.propose_with(Entry::Skip { input }, receipt, outputs);
        }
    }

    fn why_not_skip(&self, ground: &Context<'_>, input: u64) -> Option<String> {
        if input == 0 || input > self.ledger.inputs {
            return Some(match self.ledger.inputs {
                0 => "it has no inputs yet".to_owned(),
                inputs => format!("there is no input {input}; it has inputs 1 to {inputs}"),
            });
        }
        let own = self.session.as_ref().map_or(0, crate::session::Session::done_input);
        let others =
            self.known.values().map(|known| known.status.done.max(known.status.base_input));
        let own = own.max(self.base.ledger.inputs).max(self.ledger.handled);
        if own >= input || others.max().unwrap_or(0) >= input {
            return Some(format!("a program has handled input {input} already"));
        }
        if self.ledger.upgrading.is_some_and(|upgrading| upgrading.input == input) {
            return None;
        }
        match self.logged_message(ground, input) {
            Some((_, Message::Start { .. } | Message::Upgrade { .. })) => {
                Some(format!("without input {input} the programs' states would not fit the log"))
            }
            Some(_) => None,
            None => Some(format!("input {input} is no longer in the log")),
        }
    }

    fn move_to(
        &mut self,
        ground: &Context<'_>,
        ticket: u64,
        to: ReplicaId,
        outputs: &mut Vec<Output>,
    ) {
        let told = if to == self.me {
            Response::Done { input: self.ledger.inputs }
        } else if !self.settings.replicas.contains(&to) {
            Response::Refused("that node has no replica of it".into())
        } else if !self.is_ready(to) {
            Response::Refused(
                "no program that has caught up is attached to that node's replica".into(),
            )
        } else {
            if let Some(office) = &mut self.office {
                let now = ground.now.steady_micros;
                office.moving = Some((to, now + MOVE_MICROS));
                office.handing_since = now;
            }
            outputs.push(Output::HandOver { to });
            Response::Done { input: self.ledger.inputs }
        };
        outputs.push(Output::Respond { ticket, response: told });
    }
}

impl Office {
    /// The time of the instance: the wall clock, but it never goes back, and goes on when the clock was
    /// set back (or the node that owned before was ahead), so that timers do not wait for it.
    fn time(&mut self, now: Now) -> Moment {
        let (time, at) = self.clock;
        let gone = now.steady_micros.saturating_sub(at);
        let time = Moment(time.0.saturating_add(gone)).max(now.wall);
        self.clock = (time, now.steady_micros);
        time
    }

    pub(crate) fn put(&mut self, pending: Pending) {
        self.pending_bytes += pending.messages.len();
        self.pending.push_back(Waiting::Inputs(pending));
    }

    /// An entry that is logged after the inputs that wait now, and before those that come.
    pub(crate) fn put_between(&mut self, entry: Entry) {
        self.pending.push_back(Waiting::Between(entry));
    }

    /// The next inputs that wait, if nothing is to be logged before them.
    fn take_if(&mut self, fits: impl FnOnce(&Pending) -> bool) -> Option<Pending> {
        let fits = |next: &mut Waiting| matches!(next, Waiting::Inputs(pending) if fits(pending));
        match self.pending.pop_front_if(fits) {
            Some(Waiting::Inputs(pending)) => Some(pending),
            _ => None,
        }
    }

    fn resolve(&mut self, id: u64, message: &Message) {
        self.resolved.insert(id, None);
        self.put_own(message, Receipt::Resolved { id });
    }

    fn put_own(&mut self, message: &Message, receipt: Receipt) {
        let mut messages = Vec::new();
        put_message(&mut messages, message);
        let head = BlockHead { kind: SourceKind::Node, name: String::new(), first: 0, count: 1 };
        let messages = messages.into();
        self.put(Pending { head, origin: Origin::Node, messages, receipt });
    }

    pub(crate) fn put_upgrade(&mut self, version: u64) {
        self.put_own(&Message::Upgrade { version }, Receipt::Upgrade);
    }

    /// Nothing of it is on its way into the log.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.flying.is_empty()
    }
}

/// What the program has said, if the log does not have it yet. Not to be asked for while it is open
/// whether that will have been said: programs that say something else later would seem to differ.
fn new_mark(session: &Option<crate::session::Session>, logged: &mut Option<Mark>) -> Option<Mark> {
    let session = session.as_ref()?;
    let mark = if session.door.confirms() {
        let (input, digest) = session.voice.last_point()?;
        Mark::Input { input, digest }
    } else {
        let (destination, count, crc) = session.voice.last_stream_point()?.clone();
        Mark::Stream { destination, count, crc }
    };
    (logged.as_ref() != Some(&mark)).then(|| logged.insert(mark).clone())
}
