//! A node's copy of one group: consensus, the machine, and the role that this replica has.
//!
//! A replica turns what consensus says must be done into writes, messages and applied entries, and
//! what its leader says into proposals and answers.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::{Code, GroupId, Now, Outcome, Position, Problem, ReplicaId, Term};
use replication::{Committed, CommittedData, Group, Message, MessageKind, ProposeError, Ready};
use storage::{Applied, LogError, LogRecord, Space, StoreError};

use crate::durable::{Durable, Hold};
use crate::io::{Io, Outputs, PeerMessage, Question, Reply, Restart, Touch};
use crate::leading::{Leading, REQUESTS_PER_GROUP_MAX};
use crate::machine::{Context, Entry, Leader, LeaderInput, LogView, Machine, Output};
use crate::members::Members;
use crate::quorum::Verdict;
use crate::refused::{Refusal, Refused};
use crate::requests::{Finished, Opened, Requests, Unheld};
use crate::transfer::{Transfers, Tuning};

/// Which of its group's two roles a replica has. An owner that hands its group over follows: what
/// it is to yield is known to consensus.
enum Role<M: Machine> {
    Following,
    Leading(Box<Leading<M>>),
}

/// How far a replica has come.
pub(crate) struct Progress {
    /// The term of the last applied entry.
    pub(crate) term: Term,
    /// The last routine persist: its mark, and where the state stands in it.
    persisting: (u64, Position),
    /// Where the state stood in the last routine persist that is durable.
    persisted: Position,
    /// Where consensus was told last that snapshots stand.
    snapshot: Position,
}

pub struct Replica<M: Machine> {
    id: GroupId,
    pub consensus: Group,
    pub(crate) machine: M,
    pub(crate) space: Space,
    role: Role<M>,
    durable: Durable,
    pub(crate) transfers: Transfers,
    pub(crate) members: Members,
    refused: Refused<M::Answer>,
    pub(crate) progress: Progress,
    /// How many leaders there were, and the last ticket that one of them has given out.
    openings: (u64, u64),
    pub(crate) tuning: Tuning,
}

impl<M: Machine> Replica<M>
where
    M::Answer: Refusal,
{
    pub fn new(id: GroupId, restart: Restart<M>) -> Self {
        let Restart { consensus, machine, space, applied, members, tuning } = restart;
        let from = machine.snapshot_point().map_or(applied.position, |(position, _)| position);
        let mut replica = Self {
            id,
            consensus,
            machine,
            space,
            role: Role::Following,
            durable: Durable::default(),
            transfers: Transfers::default(),
            members: Members::new(from, members),
            refused: Refused::default(),
            progress: Progress {
                term: applied.term,
                persisting: (0, Position(0)),
                persisted: Position(0),
                snapshot: Position(u64::MAX),
            },
            openings: (0, 0),
            tuning,
        };
        replica.tell_snapshot_point();
        replica
    }

    pub fn id(&self) -> GroupId {
        self.id
    }

    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// For reading what needs the machine's own caches. Nothing of its state is changed by it.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The log, as far as it is applied.
    pub fn log(&self) -> LogView<'_> {
        LogView::new(&self.consensus, &self.members)
    }

    /// The leader, while this replica serves as the owner.
    pub fn leader(&self) -> Option<&M::Leader> {
        match &self.role {
            Role::Leading(leading) => Some(&leading.leader),
            Role::Following => None,
        }
    }

    /// The term and the number of the leader, while this replica serves as the owner.
    pub fn serving(&self) -> Option<(Term, u64)> {
        match &self.role {
            Role::Leading(leading) => Some((leading.term, leading.opening)),
            Role::Following => None,
        }
    }

    /// Term and position of the last entry here.
    pub fn reach(&self) -> (Term, Position) {
        let last = self.consensus.last();
        (self.consensus.term_at(last).unwrap_or_default(), last)
    }

    /// Term and position of the last entry that was applied.
    pub fn applied(&self) -> (Term, Position) {
        (self.progress.term, self.consensus.applied_position())
    }

    /// Something waits for the disk.
    pub fn waits_for_the_disk(&self) -> bool {
        self.durable.waits()
    }

    pub fn has_lazy_record(&self) -> bool {
        self.durable.has_lazy()
    }

    /// The commit position that was not worth a sync, to go with the next records.
    pub fn take_lazy_record(&mut self) -> Option<LogRecord> {
        self.durable.take_lazy()
    }

    // What happens to a replica.

    /// [`Self::tick`] would do nothing.
    pub fn is_asleep(&self) -> bool {
        self.consensus.is_resting() && self.refused.is_empty()
    }

    /// What the answers to refused writes take here, in bytes.
    pub fn refused_bytes(&self) -> usize {
        self.refused.bytes()
    }

    /// Forgets the oldest of them until they take at most that many bytes.
    pub fn shrink_refused(&mut self, bytes: usize) {
        self.refused.shrink(bytes);
    }

    /// Time goes on.
    pub fn tick(&mut self, now: u64) -> Touch {
        self.refused.forget(now);
        if self.consensus.is_resting() {
            return Touch::Still;
        }
        let was_at_rest = self.consensus.is_at_rest();
        self.consensus.tick();
        for to in self.transfers.stuck(now) {
            self.end_transfer(to, false);
        }
        let is_still = was_at_rest && self.consensus.is_at_rest() && !self.has_unheld();
        if is_still { Touch::Still } else { Touch::Touched }
    }

    fn has_unheld(&self) -> bool {
        matches!(&self.role, Role::Leading(leading) if leading.requests.has_unheld())
    }

    /// Another replica says something. A snapshot's offer is taken only with its chunks.
    pub fn receive(&mut self, message: Message) {
        if message.kind != MessageKind::Snapshot {
            self.consensus.receive(message);
        }
    }

    /// The leader's clock.
    ///
    /// # Errors
    /// When the store fails.
    pub fn tick_leader(
        &mut self,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let outputs = self.lead_step(io, LeaderInput::Tick)?;
        self.carry_out(io, outputs, out)
    }

    /// Something has happened outside of the group.
    ///
    /// # Errors
    /// When the store fails.
    pub fn happened(
        &mut self,
        io: &mut Io<'_, M::Around>,
        event: M::Event,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let mut outputs = Vec::new();
        let (machine, leader, mut at) = self.parts(io);
        machine.happened(leader, &mut at, event, &mut outputs)?;
        self.carry_out(io, outputs, out)
    }

    /// Somebody asks the owner.
    ///
    /// # Errors
    /// When the store fails.
    pub fn ask(
        &mut self,
        io: &mut Io<'_, M::Around>,
        question: Question<M::Question>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let Question { caller, key, is_retry, is_write, quorum, refusal, question } = question;
        let now = io.now.steady_micros;
        let Role::Leading(leading) = &mut self.role else {
            out.replies.push((caller, Reply::NotOwner));
            return Ok(());
        };
        if let Some(answer) = self.refused.find(leading.term, caller) {
            out.replies.push((caller, Reply::Answer(answer)));
            return Ok(());
        }
        let outcome = if is_retry { Outcome::Unknown } else { Outcome::NotApplied };
        let opened = if let Some(problem) = refusal {
            // Of a retry a former owner may have done something, and nobody has looked.
            Opened::Refused(if is_retry { problem.with_outcome(Outcome::Unknown) } else { problem })
        } else if leading.requests.len() >= REQUESTS_PER_GROUP_MAX {
            let text = format!("{REQUESTS_PER_GROUP_MAX} requests wait at this owner already");
            Opened::Refused(Problem::new(Code::Busy, text).with_outcome(outcome))
        } else {
            let opened = leading.requests.open(caller, key.as_ref(), is_write);
            if let Opened::New(ticket) = opened {
                leading.requests.set_quorum(ticket, quorum);
            }
            opened
        };
        match opened {
            Opened::Repeat => Ok(()),
            Opened::Refused(problem) => {
                let outcome = problem.outcome.or(is_write.then_some(outcome));
                let answer = M::Answer::from(Problem { outcome, ..problem });
                if is_write {
                    self.refused.remember(leading.term, caller, &answer, now);
                }
                out.replies.push((caller, Reply::Answer(answer)));
                Ok(())
            }
            Opened::New(ticket) => {
                // Always a retry: the question may have been on its way since an earlier term of
                // this very node, and have been answered by another owner in between.
                let ask = LeaderInput::Ask { ticket, question, key, is_retry: true };
                let outputs = self.lead_step(io, ask)?;
                self.carry_out(io, outputs, out)
            }
        }
    }

    /// All batches of the log up to this one are durable.
    pub fn log_durable(&mut self, batch: u64, out: &mut Vec<(ReplicaId, PeerMessage)>) -> Touch {
        let Some((number, messages)) = self.durable.release(batch) else { return Touch::Still };
        out.extend(messages.into_iter().map(|m| (m.to, PeerMessage::Consensus(m))));
        self.consensus.persisted(number);
        Touch::Touched
    }

    /// The state store is durable up to this mark.
    pub fn state_persisted(&mut self, mark: u64, batch: u64) -> Vec<LogRecord> {
        let (wanted, position) = self.progress.persisting;
        if mark >= wanted {
            self.progress.persisted = position;
        }
        self.durable.unblock(mark, batch)
    }

    /// Everybody who waits is told to ask the next owner, then consensus moves the group.
    ///
    /// # Errors
    /// When the store fails.
    pub fn hand_over(
        &mut self,
        io: &mut Io<'_, M::Around>,
        to: ReplicaId,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        self.resign(io, out)?;
        self.consensus.hand_over(to);
        Ok(())
    }

    pub fn is_handing_over(&self) -> bool {
        self.consensus.status().handing_over.is_some()
    }

    /// Does all that consensus asks for, until it asks for nothing more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn settle(
        &mut self,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        while let Some(ready) = self.consensus.ready() {
            self.carry_out_ready(io, ready, out)?;
        }
        self.transfers.decided();
        self.settle_role(io, out)?;
        self.release_unheld(io, out);
        Ok(())
    }

    fn carry_out_ready(
        &mut self,
        io: &mut Io<'_, M::Around>,
        mut ready: Ready,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        if let Some(damage) = ready.damage.take() {
            let why = format!("this replica's log: {damage}");
            let is_damage = matches!(damage, LogError::Corrupt { .. });
            return Err(StoreError { why, is_damage });
        }
        for message in ready.send_now.drain(..) {
            out.messages.push((message.to, PeerMessage::Consensus(message)));
        }
        let mut mark = 0;
        if let Some(install) = ready.install.take() {
            self.install(io, install, out)?;
            mark = io.next_mark;
            out.wants_persist = true;
        }
        let in_memory = self.machine.is_in_memory();
        let hold = Hold { batch: io.batch, mark, in_memory };
        out.records.append(&mut self.durable.hold(&mut ready, &hold));
        // What waits for nothing leaves at once.
        self.log_durable(0, &mut out.messages);
        if !ready.committed.is_empty() {
            self.apply_all(io, std::mem::take(&mut ready.committed), out)?;
        }
        for offer in ready.send_snapshot.drain(..) {
            self.begin_transfer(io, offer, out)?;
        }
        out.details.append(&mut ready.notes);
        if let Role::Leading(leading) = &mut self.role {
            for (ticket, position) in ready.confirmed.drain(..) {
                leading.requests.confirm(ticket, position);
            }
        }
        if !ready.refused.is_empty() {
            // The leader still thinks that it waits: without the ownership there is no leader.
            self.resign(io, out)?;
        }
        self.confirm_reads(io, out)
    }

    // Applying.

    fn apply_all(
        &mut self,
        io: &mut Io<'_, M::Around>,
        committed: Vec<Committed>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        for committed in committed {
            self.apply(io, committed, out)?;
        }
        let mut outputs = Vec::new();
        let (machine, leader, mut at) = self.parts(io);
        machine.settle(leader, &mut at, &mut outputs)?;
        self.carry_out(io, outputs, out)
    }

    fn apply(
        &mut self,
        io: &mut Io<'_, M::Around>,
        committed: Committed,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let Committed { position, term, data } = committed;
        self.progress.term = term;
        let data = match data {
            CommittedData::Normal(data) => Some(data),
            CommittedData::Members(members) => {
                self.members.change(position, members);
                None
            }
            CommittedData::Empty => None,
        };
        let is_ours = data.is_some();
        let members = self.members.encoded();
        let entry = Entry { position, term, data, applied: Applied { position, term, members } };
        let mut outputs = Vec::new();
        let (machine, leader, mut at) = self.parts_of_term(io, term);
        let effect = machine.apply(leader, &mut at, entry, &mut outputs)?;
        self.consensus.applied(position);
        self.tell_snapshot_point();
        self.carry_out(io, outputs, out)?;
        let Role::Leading(leading) = &mut self.role else { return Ok(()) };
        match leading.take_proposal(position, term) {
            None => Ok(()),
            Some((proposal, true)) if is_ours => {
                let input = LeaderInput::Applied { proposal, position, effect };
                let outputs = self.lead_step(io, input)?;
                self.carry_out(io, outputs, out)
            }
            // Another owner's entry has taken the place of what was proposed here.
            Some(_) => self.resign(io, out),
        }
    }

    // The role.

    fn settle_role(
        &mut self,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let serves = self.consensus.is_owner() && self.consensus.ready_to_serve();
        let term = self.consensus.term();
        match &self.role {
            Role::Leading(leading) if !serves || leading.term != term => {
                self.resign(io, out)?;
            }
            Role::Leading(_) | Role::Following => {}
        }
        let has_settled = self.consensus.applied_position() == self.consensus.last();
        if !matches!(self.role, Role::Following)
            || !serves
            || !has_settled
            || !io.may_lead
            || self.is_handing_over()
        {
            return Ok(());
        }
        self.begin_to_lead(io, term, out)
    }

    fn begin_to_lead(
        &mut self,
        io: &mut Io<'_, M::Around>,
        term: Term,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        self.openings.0 += 1;
        let (opening, last_ticket) = self.openings;
        let mut outputs = Vec::new();
        let (machine, _, mut at) = self.parts(io);
        let leader = machine.lead(&mut at, term, opening, &mut outputs)?;
        self.role = Role::Leading(Box::new(Leading {
            leader,
            term,
            opening,
            requests: Requests::new(last_ticket),
            proposals: VecDeque::new(),
            held: None,
        }));
        out.details.push(format!("owner in term {term}"));
        self.carry_out(io, outputs, out)
    }

    /// The leader is dropped, and whoever waits asks the next owner.
    ///
    /// # Errors
    /// When the store fails.
    pub fn resign(
        &mut self,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let Role::Leading(leading) = std::mem::replace(&mut self.role, Role::Following) else {
            return Ok(());
        };
        out.details.push(format!("no longer the owner of term {}", leading.term));
        let Leading { leader, term, mut requests, .. } = *leading;
        self.openings.1 = requests.last_ticket();
        let mut outputs = Vec::new();
        let (machine, _, mut at) = self.parts(io);
        machine.follow(leader, &mut at, &mut outputs)?;
        let now = io.now.steady_micros;
        for output in outputs {
            match output {
                Output::Answer { ticket, answer, .. } => {
                    let finished = requests.finish(ticket);
                    self.reply_to(finished, term, &Reply::Answer(answer), now, out);
                }
                Output::NotOwner { ticket } => {
                    self.reply_to(requests.finish(ticket), term, &Reply::NotOwner, now, out);
                }
                Output::Do(action) => out.actions.push(action),
                Output::Note(text) => out.notes.push(text),
                Output::Refuse { .. }
                | Output::Propose { .. }
                | Output::Confirm { .. }
                | Output::Resign => {}
            }
        }
        out.replies.extend(requests.into_callers().map(|caller| (caller, Reply::NotOwner)));
        Ok(())
    }

    /// Tells the callers of a request, and remembers a refusal.
    fn reply_to(
        &mut self,
        finished: Option<Finished>,
        term: Term,
        reply: &Reply<M::Answer>,
        now: u64,
        out: &mut Outputs<M>,
    ) {
        let Some(Finished { callers, is_write }) = finished else { return };
        for caller in callers {
            if let Reply::Answer(answer) = reply
                && is_write
            {
                self.refused.remember(term, caller, answer, now);
            }
            out.replies.push((caller, reply.clone()));
        }
    }

    // What the machine and its leader want.

    /// The machine, the leader if there is one, and what both work with.
    pub(crate) fn parts<'a, 'b>(
        &'a mut self,
        io: &'a mut Io<'b, M::Around>,
    ) -> (&'a mut M, Option<&'a mut M::Leader>, Context<'a, M::Around>) {
        let leader = match &mut self.role {
            Role::Leading(leading) => Some(&mut leading.leader),
            Role::Following => None,
        };
        let at = Context {
            now: io.now,
            quorum: io.quorum,
            store: &mut *io.store,
            space: self.space,
            log: LogView { consensus: &self.consensus, members: &self.members },
            around: io.around,
        };
        (&mut self.machine, leader, at)
    }

    /// The same, with the leader only if it is the one of that term.
    fn parts_of_term<'a, 'b>(
        &'a mut self,
        io: &'a mut Io<'b, M::Around>,
        term: Term,
    ) -> (&'a mut M, Option<&'a mut M::Leader>, Context<'a, M::Around>) {
        let is_of_term = self.serving().is_some_and(|(serving, _)| serving == term);
        let (machine, leader, at) = self.parts(io);
        (machine, leader.filter(|_| is_of_term), at)
    }

    pub(crate) fn leading_mut(&mut self) -> Option<&mut Leading<M>> {
        match &mut self.role {
            Role::Leading(leading) => Some(leading),
            Role::Following => None,
        }
    }

    /// Whether what the leader proposes waits.
    pub(crate) fn is_held(&self) -> bool {
        matches!(&self.role, Role::Leading(leading) if leading.held.is_some())
    }

    /// Gives the leader an input, if there is a leader.
    pub(crate) fn lead_step(
        &mut self,
        io: &mut Io<'_, M::Around>,
        input: LeaderInput<M>,
    ) -> Result<Vec<Output<M>>, StoreError> {
        let mut outputs = Vec::new();
        let (machine, leader, mut at) = self.parts(io);
        if let Some(leader) = leader {
            leader.step(machine, &mut at, input, &mut outputs)?;
        }
        Ok(outputs)
    }

    /// Carries out what the machine or its leader said, in order.
    pub(crate) fn carry_out(
        &mut self,
        io: &mut Io<'_, M::Around>,
        outputs: Vec<Output<M>>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let speaker = self.serving();
        let mut waiting: VecDeque<Output<M>> = outputs.into();
        while let Some(output) = waiting.pop_front() {
            // What a leader said that is gone by now is of no use: its callers ask the next owner.
            let is_gone = self.serving() != speaker;
            match output {
                Output::Do(action) => out.actions.push(action),
                Output::Note(text) => out.notes.push(text),
                _ if is_gone => {}
                Output::Propose { proposal, data } => {
                    if !self.propose(proposal, data, io, out)? {
                        waiting.extend(self.lead_step(io, LeaderInput::Refused { proposal })?);
                    }
                }
                Output::Confirm { ticket } => {
                    if self.consensus.confirm(ticket).is_err() {
                        self.resign(io, out)?;
                    }
                }
                Output::Answer { ticket, answer, position } => {
                    self.answer(ticket, answer, position, io, out);
                }
                Output::Refuse { ticket, problem } => self.refuse_ticket(ticket, problem, io, out),
                Output::NotOwner { ticket } => self.reply(ticket, Reply::NotOwner, io.now, out),
                Output::Resign => self.resign(io, out)?,
            }
        }
        self.tell_snapshot_point();
        Ok(())
    }

    /// False when it was surely not put into the log, as too much is under way.
    pub(crate) fn propose(
        &mut self,
        proposal: u64,
        data: Bytes,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<bool, StoreError> {
        if let Some(held) = self.leading_mut().and_then(|leading| leading.held.as_mut()) {
            return Ok(held.put(proposal, data));
        }
        match (self.consensus.propose(data), &mut self.role) {
            (Ok(position), Role::Leading(leading)) => {
                leading.proposals.push_back((position, proposal));
                Ok(true)
            }
            (Err(ProposeError::Full), _) => Ok(false),
            // Nothing was written. The leader's view is of no use without it.
            _ => self.resign(io, out).map(|()| true),
        }
    }

    fn answer(
        &mut self,
        ticket: u64,
        answer: M::Answer,
        position: Option<Position>,
        io: &Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) {
        let least = self.least();
        if let Some(position) = position
            && let Role::Leading(leading) = &mut self.role
            && leading.requests.is_open(ticket)
        {
            let quorum = leading.requests.quorum(ticket);
            if self.consensus.held_by(position) < io.quorum.set.max(quorum).max(least) {
                let since = io.now.steady_micros;
                let unheld = Unheld { ticket, position, answer, quorum, since };
                leading.requests.hold_back(unheld);
                return;
            }
        }
        self.reply(ticket, Reply::Answer(answer), io.now, out);
    }

    /// How many replicas must hold what is answered, whatever is set. The directory needs no more
    /// than consensus does: its commands get a cluster out of trouble.
    fn least(&self) -> usize {
        if self.id.is_directory() { 0 } else { self.consensus.staying_majority() }
    }

    fn refuse_ticket(
        &mut self,
        ticket: u64,
        problem: Problem,
        io: &Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) {
        let Role::Leading(leading) = &self.role else { return };
        let is_write = leading.requests.is_write(ticket);
        let outcome = problem.outcome.or(is_write.then_some(Outcome::NotApplied));
        let answer = M::Answer::from(Problem { outcome, ..problem });
        self.reply(ticket, Reply::Answer(answer), io.now, out);
    }

    fn reply(&mut self, ticket: u64, reply: Reply<M::Answer>, now: Now, out: &mut Outputs<M>) {
        let Role::Leading(leading) = &mut self.role else { return };
        let (term, finished) = (leading.term, leading.requests.finish(ticket));
        self.reply_to(finished, term, &reply, now.steady_micros, out);
    }

    /// Lets go of the answers that enough replicas hold by now, and of those that wait in vain.
    pub fn release_unheld(&mut self, io: &Io<'_, M::Around>, out: &mut Outputs<M>) {
        if !self.has_unheld() {
            return;
        }
        let least = self.least();
        let Role::Leading(leading) = &mut self.role else { return };
        for unheld in leading.requests.take_unheld() {
            let held = self.consensus.held_by(unheld.position);
            match io.quorum.judge(&unheld, (held, least), io.now.steady_micros) {
                Verdict::Release => {
                    self.reply(unheld.ticket, Reply::Answer(unheld.answer), io.now, out);
                }
                Verdict::GiveUp(problem) => {
                    let answer = M::Answer::from(problem);
                    self.reply(unheld.ticket, Reply::Answer(answer), io.now, out);
                }
                Verdict::Wait => {
                    if let Role::Leading(leading) = &mut self.role {
                        leading.requests.hold_back(unheld);
                    }
                }
            }
        }
    }

    fn confirm_reads(
        &mut self,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let Role::Leading(leading) = &mut self.role else { return Ok(()) };
        let applied = self.consensus.applied_position();
        for ticket in leading.requests.take_confirmed(applied) {
            let outputs = self.lead_step(io, LeaderInput::Confirmed { ticket })?;
            self.carry_out(io, outputs, out)?;
        }
        Ok(())
    }

    // Where snapshots stand.

    /// The routine persist with the next mark begins: where the log may be cut once that is
    /// durable.
    ///
    /// # Errors
    /// When the store fails.
    pub fn prepare_persist(&mut self, io: &mut Io<'_, M::Around>) -> Result<(), StoreError> {
        self.write_snapshot(io)?;
        self.progress.persisting = (io.next_mark, self.snapshot_point().0);
        self.tell_snapshot_point();
        Ok(())
    }

    /// Writes what a snapshot of the state needs beside what is in the store already.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_snapshot(&mut self, io: &mut Io<'_, M::Around>) -> Result<(), StoreError> {
        let (machine, _, mut at) = self.parts(io);
        machine.write_snapshot(&mut at)
    }

    /// Up to there the log is not needed here. **Invariant:** never beyond what the state store has
    /// on the disk, or a crash would make the sandbox useless.
    pub fn persisted_up_to(&self) -> Position {
        self.progress.persisted
    }

    /// Where the state stands in the store, once it was written there.
    pub fn snapshot_point(&self) -> (Position, Term) {
        let applied = || (self.consensus.applied_position(), self.progress.term);
        self.machine.snapshot_point().unwrap_or_else(applied)
    }

    /// Consensus is told where a snapshot would stand, where that is not what is applied.
    pub(crate) fn tell_snapshot_point(&mut self) {
        let Some((position, term)) = self.machine.snapshot_point() else {
            // Of members before the last ones nobody asks.
            self.members.forget_before(Position(u64::MAX));
            return;
        };
        if self.progress.snapshot == position {
            return;
        }
        self.progress.snapshot = position;
        self.members.forget_before(position);
        let members = self.members.at(position).clone();
        self.consensus.snapshots_stand_at(position, term, members);
    }
}
