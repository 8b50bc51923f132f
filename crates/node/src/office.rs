//! The office of an owner: it takes the requests for one group, has the desk deal with them, and
//! lets the answers go when enough replicas hold what was written.
//!
//! An office is open for one term at most. It is opened when everything before the term is applied,
//! and closed at once when the ownership is gone or about to be handed over; whoever still waits
//! then is told to ask the next owner.

use std::collections::{BTreeMap, VecDeque};

use documents::RequestKey;
use protocol::{Code, GroupId, Outcome, Position, Problem, ReplicaId, Response, Term};
use replication::ProposeError;
use services::{Answer, Desk, DeskInput, DeskOptions, DeskOutput, DeskRequest, Ground};

use crate::directory::{Changed, DirectoryCommand};
use crate::edge::Purpose;
use crate::frame::{Frame, Question, Told};
use crate::io::{Level, Output};
use crate::node::{Agenda, Node};
use crate::refusals::ErrandId;
use crate::replica;

/// How many requests an owner takes on for one group before it says that it is busy.
pub const REQUESTS_PER_GROUP_MAX: usize = 20_000;

/// How long a written answer waits for the membership quorum after too few replicas are left.
const QUORUM_PATIENCE_MICROS: u64 = 1_500_000;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    errand: ErrandId,
    /// An error is the last word on a write, see [`crate::refusals`].
    writes: bool,
}

pub(crate) struct Office {
    pub(crate) term: Term,
    /// Tells this office from others of the same group, even of the same term.
    opening: u64,
    /// None for the directory, which needs no handlers.
    desk: Option<Box<Desk>>,
    origins: BTreeMap<u64, Origin>,
    next_ticket: u64,
    /// The desk's proposals, or the directory's tickets, by the position they will have.
    proposals: BTreeMap<Position, u64>,
    /// Answers that wait for the membership quorum.
    unheld: VecDeque<Unheld>,
    /// Reads that were confirmed and wait for a position to be applied.
    confirmed: Vec<(Position, u64)>,
}

struct Unheld {
    position: Position,
    ticket: u64,
    answer: Told,
    since: u64,
}

impl Node {
    /// Opens and closes offices as ownership comes and goes.
    pub(crate) fn mind_offices(&mut self) {
        let groups: Vec<GroupId> =
            self.replicas.range(..GroupId::INSTANCES).map(|(group, _)| *group).collect();
        for group in groups {
            let consensus = &self.replicas[&group].group;
            let serving = consensus.is_owner() && consensus.ready_to_serve();
            let term = consensus.term();
            match self.offices.get(&group).map(|office| office.term) {
                Some(open) if !serving || open != term => self.close_office(group),
                None if serving
                    && consensus.applied_position() == consensus.last()
                    && (group.is_directory() || self.map.cluster.is_some())
                    && !self.handing_over(group)
                    && !self.is_stopping() =>
                {
                    self.open_office(group, term);
                }
                _ => {}
            }
        }
    }

    fn open_office(&mut self, group: GroupId, term: Term) {
        self.openings += 1;
        let mut options = DeskOptions::new(group, term, self.config.node_id.clone());
        options.opening = self.openings;
        let desk = (!group.is_directory()).then(|| Box::new(Desk::new(options)));
        let with_desk = desk.is_some();
        let office = Office {
            term,
            opening: self.openings,
            desk,
            origins: BTreeMap::new(),
            next_ticket: 0,
            proposals: BTreeMap::new(),
            unheld: VecDeque::new(),
            confirmed: Vec::new(),
        };
        self.offices.insert(group, office);
        self.note(Level::Debug, format!("owner of {} in term {term}", name_of(group)));
        if with_desk {
            self.agenda.push_back(Agenda::Desk(group, DeskInput::Opened));
        } else {
            self.directory_opened();
        }
    }

    /// Everyone who waits is told to ask the next owner.
    pub(crate) fn close_office(&mut self, group: GroupId) {
        let Some(office) = self.offices.remove(&group) else { return };
        self.note(Level::Debug, format!("no longer owner of {}", name_of(group)));
        for origin in office.origins.into_values() {
            self.reply(origin, Told::NotOwner);
        }
    }

    pub(crate) fn reply(&mut self, origin: Origin, answer: Told) {
        let ErrandId { edge, boot, number, .. } = origin.errand;
        if origin.writes {
            self.refusals.remember(origin.errand, &answer, self.now.steady_micros);
        }
        if Some(edge) == self.me {
            self.agenda.push_back(Agenda::Told(number, answer));
        } else {
            self.outbox.send(edge, Frame::Told { boot, number, answer });
        }
    }

    pub(crate) fn accept_local(
        &mut self,
        group: GroupId,
        number: u64,
        key: Option<RequestKey>,
        again: bool,
        question: Question,
    ) {
        let edge = self.me.unwrap_or_default();
        let term = self.term_of(group);
        let errand = ErrandId { edge, boot: self.config.boot, number, term };
        self.accept(group, errand, key, again, question);
    }

    /// A question came from another node's edge.
    pub(crate) fn asked(&mut self, from: ReplicaId, frame: Frame) {
        let Frame::Ask { boot, number, group, term, key, again, question } = frame else { return };
        let errand = ErrandId { edge: from, boot, number, term };
        // Who asks for an instance may have no replica of it, and so does not know its term.
        let present = self.offices.get(&group).map_or(self.term_of(group), |office| office.term);
        if !group.is_instance() && present != term {
            let origin = Origin { errand, writes: false };
            return self.reply(origin, Told::NotOwner);
        }
        self.accept(group, errand, key, again, question);
    }

    fn accept(
        &mut self,
        group: GroupId,
        errand: ErrandId,
        key: Option<RequestKey>,
        again: bool,
        question: Question,
    ) {
        let origin = Origin { errand, writes: question.is_write() };
        if let Some(answer) = self.refusals.find(errand) {
            self.reply(origin, answer);
            return;
        }
        if let Some(mut problem) = self.refuse_write(group, &question) {
            if again {
                // A former owner was asked, and nobody has looked into the records yet.
                problem = problem.with_outcome(Outcome::Unknown);
            }
            self.reply(origin, Told::Response(problem.into()));
            return;
        }
        match question {
            Question::Immortal(ask) => return self.ask_instance(group, origin, ask),
            Question::ImmortalStatus => return self.ask_status(group, origin),
            _ => {}
        }
        let Some(office) = self.offices.get_mut(&group) else {
            self.reply(origin, Told::NotOwner);
            return;
        };
        if office.origins.len() >= REQUESTS_PER_GROUP_MAX {
            let text = format!("{} has {REQUESTS_PER_GROUP_MAX} requests waiting", name_of(group));
            let outcome = if again { Outcome::Unknown } else { Outcome::NotApplied };
            let problem = Problem::new(Code::Busy, text).with_outcome(outcome);
            self.reply(origin, Told::Response(problem.into()));
            return;
        }
        office.next_ticket += 1;
        let ticket = office.next_ticket;
        office.origins.insert(ticket, origin);
        let request = match question {
            Question::Rest(request) => DeskRequest::Rest(request),
            Question::Query { specification, after, limit } => DeskRequest::Query {
                spec_json: specification,
                cursor: after,
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            Question::Fence(source) => DeskRequest::Fence(source),
            Question::Available => DeskRequest::Available,
            Question::Directory(command) => {
                self.propose_to_directory(ticket, &command);
                return;
            }
            Question::Immortal(_) | Question::ImmortalStatus => {
                unreachable!("instances have taken theirs above")
            }
        };
        // Always: the frame may have been on its way since an earlier term of this very node, and
        // have been done by another owner in between.
        let again = true;
        let input = DeskInput::Request { ticket, request, key, again };
        self.agenda.push_back(Agenda::Desk(group, input));
    }

    /// A write is refused at once when it could not be acknowledged. Changes of the directory need
    /// the majority only: they are how a quorum is lowered. A fence changes no document, so the
    /// majority is enough for it, too.
    pub(crate) fn refuse_write(&self, group: GroupId, question: &Question) -> Option<Problem> {
        if !question.is_write() {
            return None;
        }
        if let Some(why) = &self.disk.full
            && self.owner_of(group) == self.me
        {
            let text = format!(
                "the disk of node {} takes no writes: {why}. Free space",
                self.config.node_id
            );
            return Some(Problem::new(Code::Storage, text).with_outcome(Outcome::NotApplied));
        }
        if matches!(question, Question::Fence(_)) {
            return None;
        }
        if group.is_directory() || group.is_instance() {
            return None;
        }
        let quorum = self.quorum_in_force();
        let up = self.nodes_up();
        (up < quorum).then(|| {
            let text = format!(
                "the membership quorum is {quorum}, and {up} of {} nodes are up. Start the missing \
                 nodes, or lower the quorum: PATCH {} {{\"kind\":\"UpdateQuorumRequest\",\
                 \"membershipQuorum\":{}}}",
                self.directory().members.len(),
                protocol::node_group::LINK,
                self.directory().majority().max(up)
            );
            Problem::new(Code::QuorumNotMet, text).with_outcome(Outcome::NotApplied)
        })
    }

    /// Gives the desk of a group an input and carries out what it says.
    pub(crate) fn desk_step(
        &mut self,
        group: GroupId,
        input: DeskInput,
    ) -> Result<(), storage::StoreError> {
        let Some(office) = self.offices.get_mut(&group) else { return Ok(()) };
        let Some(desk) = &mut office.desk else { return Ok(()) };
        let Some(replica) = self.replicas.get_mut(&group) else { return Ok(()) };
        let Some(partition) = replica.partition() else { return Ok(()) };
        let mut ground = Ground { partition, store: &mut *self.store, catalogue: &self.catalogue };
        let mut outputs = Vec::new();
        desk.step(self.now, input, &mut ground, &mut outputs)?;
        for output in outputs {
            self.desk_output(group, output);
        }
        Ok(())
    }

    fn desk_output(&mut self, group: GroupId, output: DeskOutput) {
        match output {
            DeskOutput::Invoke(invocation) => self.outputs.push(Output::Invoke(*invocation)),
            DeskOutput::Propose { proposal, command } => self.propose(group, proposal, command),
            DeskOutput::Confirm { ticket } => self.confirm(group, ticket),
            DeskOutput::Answer { ticket, answer, position } => {
                let answer = match answer {
                    Answer::Response(response) => Told::Response(response),
                    Answer::Page(page) => Told::Page(page),
                };
                self.answer_when_held(group, ticket, answer, position);
            }
            DeskOutput::Call { call, request } => {
                let opening = self.opening_of(group);
                self.client_request(Purpose::Call { group, opening, call }, request);
            }
            DeskOutput::Fence(source) => self.spread_fence(group, source),
            DeskOutput::Note(text) => self.note(Level::Info, text),
        }
    }

    fn propose(&mut self, group: GroupId, proposal: u64, command: bytes::Bytes) {
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        match replica.group.propose(command) {
            Ok(position) => {
                if let Some(office) = self.offices.get_mut(&group) {
                    office.proposals.insert(position, proposal);
                }
            }
            Err(ProposeError::Full) if !group.is_directory() => {
                let text = format!("{} has too many writes under way; try again", name_of(group));
                let problem = Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied);
                let input = DeskInput::Refused { proposal, problem };
                self.agenda.push_back(Agenda::Desk(group, input));
            }
            // Nothing was written. The desk's view is of no use without it, so it is closed, and
            // everyone who waits asks again; the office opens anew when the log has come to rest.
            Err(_) => self.close_office(group),
        }
    }

    fn confirm(&mut self, group: GroupId, ticket: u64) {
        let Some(replica) = self.replicas.get_mut(&group) else { return };
        if replica.group.confirm(ticket).is_err() {
            self.close_office(group);
        }
    }

    fn answer_when_held(
        &mut self,
        group: GroupId,
        ticket: u64,
        answer: Told,
        position: Option<Position>,
    ) {
        if let Some(position) = position
            && !self.is_held(group, position)
        {
            let since = self.now.steady_micros;
            if let Some(office) = self.offices.get_mut(&group) {
                office.unheld.push_back(Unheld { position, ticket, answer, since });
            }
            return;
        }
        self.release_answer(group, ticket, answer);
    }

    fn release_answer(&mut self, group: GroupId, ticket: u64, answer: Told) {
        let Some(office) = self.offices.get_mut(&group) else { return };
        if let Some(origin) = office.origins.remove(&ticket) {
            self.reply(origin, answer);
        }
    }

    fn is_held(&self, group: GroupId, position: Position) -> bool {
        let quorum = self.quorum_in_force();
        self.replicas.get(&group).is_some_and(|replica| replica.group.held_by(position) >= quorum)
    }

    /// Lets go of the answers that enough replicas hold by now, and of those that wait in vain.
    pub(crate) fn release_held(&mut self) {
        let groups: Vec<GroupId> =
            self.offices.iter().filter(|(_, o)| !o.unheld.is_empty()).map(|(id, _)| *id).collect();
        for group in groups {
            let waiting = match self.offices.get_mut(&group) {
                Some(office) => std::mem::take(&mut office.unheld),
                None => continue,
            };
            for unheld in waiting {
                if self.is_held(group, unheld.position) {
                    self.release_answer(group, unheld.ticket, unheld.answer);
                } else if self.waits_in_vain(group, &unheld) {
                    let problem = self.not_held(group, unheld.position);
                    self.release_answer(group, unheld.ticket, Told::Response(problem.into()));
                } else if let Some(office) = self.offices.get_mut(&group) {
                    office.unheld.push_back(unheld);
                }
            }
        }
    }

    fn waits_in_vain(&self, group: GroupId, unheld: &Unheld) -> bool {
        !group.is_directory()
            && self.nodes_up() < self.quorum_in_force()
            && self.now.steady_micros.saturating_sub(unheld.since) > QUORUM_PATIENCE_MICROS
    }

    fn not_held(&self, group: GroupId, position: Position) -> Problem {
        let held = self.replicas.get(&group).map_or(0, |r| r.group.held_by(position));
        let quorum = self.quorum_in_force();
        let text = format!(
            "the write is committed on {held} replicas, but the membership quorum is {quorum} and a \
             node went away meanwhile; it will be seen, and is safe on a majority"
        );
        Problem::new(Code::QuorumNotMet, text).with_outcome(Outcome::Unknown)
    }

    /// What a replica has applied or confirmed goes to the office, if it is open.
    pub(crate) fn act_on(&mut self, group: GroupId, findings: replica::Findings) {
        if findings.installed {
            self.close_office(group);
        }
        for (position, term, outcome) in findings.applied {
            if let replica::Outcome::Directory(changed, about) = &outcome {
                self.directory_changed(changed, about.as_deref());
            }
            let Some(office) = self.offices.get_mut(&group) else { continue };
            let Some(proposal) = office.proposals.remove(&position) else { continue };
            if term != office.term {
                // Another owner's entry has taken the place of what was proposed here.
                self.close_office(group);
                continue;
            }
            match outcome {
                replica::Outcome::Command(outcome) => {
                    let input = DeskInput::Applied { proposal, position, outcome };
                    self.agenda.push_back(Agenda::Desk(group, input));
                }
                replica::Outcome::Directory(changed, about) => {
                    let answer = Told::Response(self.directory_answer(changed, about));
                    self.answer_when_held(group, proposal, answer, None);
                }
                replica::Outcome::Other => self.close_office(group),
            }
        }
        for note in findings.notes {
            self.note(Level::Debug, format!("{}: {note}", name_of(group)));
        }
        for ticket in findings.refused {
            // The desk still thinks it waits: without the ownership there is no desk.
            self.note(Level::Debug, format!("a read (ticket {ticket}) lost its owner"));
            self.close_office(group);
        }
        if let Some(office) = self.offices.get_mut(&group) {
            office.confirmed.extend(findings.confirmed.into_iter().map(|(t, p)| (p, t)));
        }
        self.release_confirmed(group);
    }

    fn release_confirmed(&mut self, group: GroupId) {
        let Some(replica) = self.replicas.get(&group) else { return };
        let Some(office) = self.offices.get_mut(&group) else { return };
        if office.confirmed.is_empty() {
            return;
        }
        let applied = replica.group.applied_position();
        for (_, ticket) in office.confirmed.extract_if(.., |(position, _)| *position <= applied) {
            self.agenda.push_back(Agenda::Desk(group, DeskInput::Confirmed { ticket }));
        }
    }

    fn propose_to_directory(&mut self, ticket: u64, command: &bytes::Bytes) {
        // What cannot be read must not get into the log: no replica could ever apply it.
        if postcard::from_bytes::<DirectoryCommand>(command).is_err() {
            let problem = Problem::bad_request("a directory command that cannot be read");
            return self.release_answer(GroupId::DIRECTORY, ticket, Told::Response(problem.into()));
        }
        self.propose(GroupId::DIRECTORY, ticket, command.clone());
    }

    fn directory_answer(&self, changed: Changed, about: Option<String>) -> Response {
        if let Changed::Refused(why) = changed {
            return Problem::new(Code::Refused, why).with_outcome(Outcome::NotApplied).into();
        }
        if let Some(name) = about {
            return self.changed_instance(&name);
        }
        let body = serde_json::json!({
            "membershipQuorum": self.map.effective_quorum(),
            "documentSelfLink": protocol::node_group::LINK,
        });
        Response::json(200, &body)
    }

    /// Which office of the group is open; 0 when none is.
    pub(crate) fn opening_of(&self, group: GroupId) -> u64 {
        self.offices.get(&group).map_or(0, |office| office.opening)
    }

    pub(crate) fn tick_desks(&mut self) {
        for group in self.offices.keys().filter(|group| !group.is_directory()) {
            self.agenda.push_back(Agenda::Desk(*group, DeskInput::Tick));
        }
    }
}

pub(crate) fn name_of(group: GroupId) -> String {
    if group.is_directory() {
        "the directory".into()
    } else if group.is_instance() {
        format!("instance {group}")
    } else {
        format!("partition {group}")
    }
}
