//! The edge: every request that entered the cluster at this node, until it is answered.
//!
//! An errand goes to the owner of its group, wherever that is, and goes again when the owner
//! changes. Each write carries a key, so that going again cannot do it twice. What the edge cannot
//! know it does not guess: an errand that was sent and never answered ends as *unknown*.

use std::collections::BTreeMap;

use documents::RequestKey;
use protocol::{BodyType, Code, GroupId, Outcome, Problem, ReplicaId, Response, Source};
use query::Page;

use crate::frame::{Frame, Question, Told};
use crate::node::{Agenda, Node};
use crate::scatter::ScatterId;

/// How long an errand may take in all, in microseconds.
const PATIENCE_MICROS: u64 = 10_000_000;

/// How long an errand waits for an owner to be known, while a majority of nodes is up.
const OWNER_PATIENCE_MICROS: u64 = 3_000_000;

/// How long it waits when no majority is up: just long enough for news to arrive.
const NO_MAJORITY_PATIENCE_MICROS: u64 = 300_000;

/// An asked owner that has not answered is asked again after this long, in microseconds.
const ASK_AGAIN_MICROS: u64 = 2_000_000;

/// How many errands there may be at one node; more are told that it is busy.
pub const ERRANDS_MAX: usize = 20_000;

/// On whose behalf an errand goes.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A client's request.
    Client { ticket: u64 },
    /// A call of a task that this node's desk runs; of no use once that desk is gone.
    Call { group: GroupId, opening: u64, call: u64 },
    /// One of several that are gathered.
    Part { scatter: ScatterId },
    /// The node's own housekeeping; the answer does not matter.
    Own,
}

/// One request on its way.
pub(crate) struct Errand {
    pub(crate) purpose: Purpose,
    pub(crate) group: GroupId,
    pub(crate) question: Question,
    pub(crate) key: Option<RequestKey>,
    /// Whom it was given to, and when.
    asked: Option<(ReplicaId, u64)>,
    /// It was given to an owner before, so it may have been done.
    again: bool,
    since: u64,
    /// Since when it has had nobody to go to.
    waiting_since: u64,
}

#[derive(Default)]
pub(crate) struct Edge {
    pub(crate) errands: BTreeMap<u64, Errand>,
    next: u64,
}

impl Node {
    /// Sends a question on its way. The answer comes through [`Node::finish`].
    pub(crate) fn submit(&mut self, purpose: Purpose, group: GroupId, question: Question) {
        if self.edge.errands.len() >= ERRANDS_MAX {
            let problem = Problem::new(
                Code::Busy,
                format!("{ERRANDS_MAX} requests are under way at this node; try again"),
            );
            let problem = problem.with_outcome(Outcome::NotApplied);
            self.finish(&purpose, Told::Response(problem.into()));
            return;
        }
        // At once, not when an owner is found that says the same.
        if let Some(problem) = self.refuse_write(group, &question) {
            self.finish(&purpose, Told::Response(problem.into()));
            return;
        }
        self.edge.next += 1;
        let number = self.edge.next;
        let key = self.key_of(&question, number);
        let now = self.now.steady_micros;
        let errand = Errand {
            purpose,
            group,
            question,
            key,
            asked: None,
            again: false,
            since: now,
            waiting_since: now,
        };
        self.edge.errands.insert(number, errand);
        self.agenda.push_back(Agenda::Route(number));
    }

    /// The user's key if there is one; else one of this edge's own for every write.
    fn key_of(&self, question: &Question, number: u64) -> Option<RequestKey> {
        let Question::Rest(request) = question else { return None };
        if !request.method.is_write() {
            return None;
        }
        if let Some(key) = &request.idempotency_key {
            return Some(RequestKey::User { key: key.clone(), digest: digest_of(request) });
        }
        let minute = u32::try_from(self.now.wall.0 / 60_000_000).unwrap_or(u32::MAX);
        let boot = self.config.boot;
        Some(RequestKey::Auto { edge: self.me.unwrap_or_default(), boot, number, minute })
    }

    /// Gives an errand to the owner of its group, or lets it wait for one.
    pub(crate) fn route(&mut self, number: u64) {
        let Some(errand) = self.edge.errands.get(&number) else { return };
        let group = errand.group;
        let Some(owner) = self.owner_of(group) else { return };
        let here = Some(owner) == self.me;
        if here && !self.offices.contains_key(&group) && !self.immortals.open.contains_key(&group) {
            return;
        }
        if !here && self.peers.link_to(owner).is_none() {
            return;
        }
        let now = self.now.steady_micros;
        let errand = self.edge.errands.get_mut(&number).expect("it was there");
        let again = errand.again;
        if again && !errand.question.is_repeatable() {
            return; // Whoever has it answers, or the patience ends.
        }
        errand.asked = Some((owner, now));
        errand.again = true;
        let (key, question) = (errand.key.clone(), errand.question.clone());
        if here {
            self.accept_local(group, number, key, again, question);
        } else {
            let (boot, term) = (self.config.boot, self.term_of(group));
            let ask = Frame::Ask { boot, number, group, term, key, again, question };
            self.outbox.send(owner, ask);
        }
    }

    /// An answer has come from an owner.
    pub(crate) fn told(&mut self, from: ReplicaId, number: u64, answer: Told) {
        let Some(errand) = self.edge.errands.get_mut(&number) else { return };
        if errand.asked.map(|(owner, _)| owner) != Some(from) {
            return; // Somebody else has been asked since; that one's answer counts.
        }
        if matches!(answer, Told::NotOwner) {
            errand.asked = None;
            // An instance says so only of what it surely has not taken.
            errand.again &= errand.question.is_repeatable();
            errand.waiting_since = self.now.steady_micros;
            return; // It is routed again as soon as an owner is known, at the end of the step.
        }
        let errand = self.edge.errands.remove(&number).expect("it was there");
        self.finish(&errand.purpose, answer);
    }

    /// Takes back what was given to a replica that cannot answer any more.
    pub(crate) fn take_back(&mut self, lost: ReplicaId) {
        let now = self.now.steady_micros;
        let mut ended = Vec::new();
        for (number, errand) in &mut self.edge.errands {
            if errand.asked.is_none_or(|(owner, _)| owner != lost) {
                continue;
            }
            if !errand.question.is_repeatable() {
                ended.push(*number);
                continue;
            }
            errand.asked = None;
            errand.waiting_since = now;
        }
        for number in ended {
            let errand = self.edge.errands.remove(&number).expect("it was listed");
            let problem = self.gave_up(&errand, Code::NoOwner);
            self.finish(&errand.purpose, Told::Response(problem.into()));
        }
    }

    /// Routes what waits, if an owner is known by now; asks anew where ownership has moved on.
    pub(crate) fn reroute(&mut self) {
        let moved: Vec<u64> = self
            .edge
            .errands
            .iter()
            .filter(|(_, errand)| match (errand.asked, self.owner_of(errand.group)) {
                (None, Some(_)) => true,
                (Some((asked, _)), Some(owner)) => asked != owner,
                (_, None) => false,
            })
            .map(|(number, _)| *number)
            .collect();
        for number in moved {
            self.route(number);
        }
    }

    /// Ends what has waited too long. Called at each tick.
    pub(crate) fn check_errands(&mut self) {
        let now = self.now.steady_micros;
        let owner_patience =
            if self.majority_is_up() { OWNER_PATIENCE_MICROS } else { NO_MAJORITY_PATIENCE_MICROS };
        let (mut ended, mut again) = (Vec::new(), Vec::new());
        for (number, errand) in &self.edge.errands {
            let waits = |since: u64| now.saturating_sub(since);
            match errand.asked {
                _ if waits(errand.since) > PATIENCE_MICROS => ended.push((*number, Code::Timeout)),
                None if waits(errand.waiting_since) > owner_patience => {
                    ended.push((*number, Code::NoOwner));
                }
                Some((owner, at)) if waits(at) > ASK_AGAIN_MICROS && Some(owner) != self.me => {
                    again.push(*number);
                }
                _ => {}
            }
        }
        for number in again {
            self.route(number);
        }
        for (number, code) in ended {
            let errand = self.edge.errands.remove(&number).expect("it was there");
            // What is known of an instance is better than nothing, and says what is missing.
            let known = match errand.question {
                Question::ImmortalStatus => self.known_without_owner(errand.group),
                _ => None,
            };
            let answer = known.unwrap_or_else(|| self.gave_up(&errand, code).into());
            self.finish(&errand.purpose, Told::Response(answer));
        }
    }

    fn gave_up(&self, errand: &Errand, code: Code) -> Problem {
        let (up, all) = (self.nodes_up(), self.directory().members.len());
        let what = if errand.group.is_instance() {
            self.name_of_instance(errand.group)
        } else {
            crate::office::name_of(errand.group)
        };
        let message = match code {
            Code::NoOwner if errand.group.is_instance() => self.why_no_owner(errand.group),
            Code::NoOwner => format!(
                "{what} has no owner: {up} of {all} nodes are up as seen from here, and a majority \
                 ({}) is needed. Start the missing nodes, then try again",
                self.directory().majority()
            ),
            _ => {
                format!("{what} gave no answer within {} s. Try again", PATIENCE_MICROS / 1_000_000)
            }
        };
        let problem = Problem::new(code, message);
        if !errand.question.is_write() {
            return problem;
        }
        if !errand.again {
            return problem.with_outcome(Outcome::NotApplied);
        }
        let mut problem = problem.with_outcome(Outcome::Unknown);
        problem
            .message
            .push_str("; the write may have been done: repeat it with the same Idempotency-Key");
        problem
    }

    /// Brings an answer to whoever waits for it.
    pub(crate) fn finish(&mut self, purpose: &Purpose, answer: Told) {
        match purpose {
            Purpose::Client { ticket } => self.answer(*ticket, response_of(answer)),
            Purpose::Call { group, opening, .. } if *opening != self.opening_of(*group) => {}
            Purpose::Call { group, call, .. } => {
                let input =
                    services::DeskInput::Called { call: *call, response: response_of(answer) };
                self.agenda.push_back(Agenda::Desk(*group, input));
            }
            Purpose::Part { scatter } => self.gathered(*scatter, answer),
            Purpose::Own => {}
        }
    }

    /// Writes a fence into every partition; the desk goes on when all have it.
    pub(crate) fn spread_fence(&mut self, group: GroupId, source: Source) {
        let partitions = self.partitions();
        let scatter = self.scatter_fence(group, source, partitions);
        for partition in (1..=partitions).map(GroupId) {
            self.submit(Purpose::Part { scatter }, partition, Question::Fence(source));
        }
    }
}

/// A page where a response was expected is our own mistake.
pub(crate) fn response_of(answer: Told) -> Response {
    match answer {
        Told::Response(response) => response,
        Told::Page(Page { .. }) | Told::NotOwner => {
            Problem::internal("an answer of the wrong kind").into()
        }
    }
}

/// Tells one request from another under the same key: FNV-1a over all that matters in it.
fn digest_of(request: &protocol::Request) -> u64 {
    let parts: [&[u8]; 4] = [
        request.method.name().as_bytes(),
        request.path.as_bytes(),
        request.query.as_bytes(),
        &request.body,
    ];
    // The same body says something else as a merge patch.
    let merge: &[&[u8]] = match request.body_type {
        BodyType::Json => &[],
        BodyType::MergePatch => &[b"merge-patch"],
    };
    fnv(parts.into_iter().chain(merge.iter().copied()))
}

/// FNV-1a over some parts, with a mark between them.
pub(crate) fn fnv<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().copied().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
