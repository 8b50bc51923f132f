//! Every request that entered the cluster at this node, until it is answered.
//!
//! The router sends a request to the owner of its group, wherever the owner is, and sends it again
//! when the owner changes. Each write carries a key, so that sending it again cannot do it twice.
//! The router does not guess: a request that was sent and never answered ends as *unknown*.

use std::collections::BTreeMap;

use group::Caller;
use immortals::ImpulseKey;
use protocol::hash::hash_parts;
use protocol::{
    BodyType, Code, Conditions, EntityTags, GroupId, Outcome, Position, Problem, ReplicaId,
    Request, RequestKey, Response,
};

use crate::frame::{Answer, Frame, Question};
use crate::rest::{ambrosia, explain, instances};
use crate::view::View;
use crate::work::{Asked, Effects, Purpose, Work};

/// How long a request may take in all, in microseconds.
pub(crate) const PATIENCE_MICROS: u64 = 10_000_000;

/// How long a request waits for an owner to be known, while a majority of nodes is up.
const OWNER_PATIENCE_MICROS: u64 = 3_000_000;

/// How long it waits when no majority is up: just long enough for news to arrive.
const NO_MAJORITY_PATIENCE_MICROS: u64 = 300_000;

/// An asked owner that has not answered is asked again after this long, in microseconds.
const ASK_AGAIN_MICROS: u64 = 2_000_000;

/// How many requests may be in flight at one node; more are told that it is busy.
pub const IN_FLIGHT_MAX: usize = 20_000;

/// One request on its way.
struct InFlight {
    purpose: Purpose,
    group: GroupId,
    question: Question,
    key: Option<RequestKey>,
    /// To which replica the request was given, and when.
    asked: Option<(ReplicaId, u64)>,
    /// It was given to an owner before, so it may have been done.
    is_retry: bool,
    since: u64,
    /// Since when no owner has been known for the request.
    waiting_since: u64,
    /// The request is done. It is answered when this node's directory has come to that position.
    done: Option<(Position, Response)>,
}

impl InFlight {
    /// The answer that may be given once this node's directory is at `directory`.
    fn told_at(&self, directory: Position) -> Option<&Response> {
        self.done.as_ref().filter(|(done, _)| *done <= directory).map(|(_, response)| response)
    }
}

#[derive(Default)]
pub(crate) struct Router {
    in_flight: BTreeMap<u64, InFlight>,
    /// The last number that was given out.
    last: u64,
    /// Owners may have changed since the requests were routed.
    is_stale: bool,
    /// Where this node's directory was when requests were routed last.
    directory: Position,
}

impl Router {
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Owners may have changed. Before the step is over, the requests that wait are looked at.
    pub(crate) fn owners_changed(&mut self) {
        self.is_stale = true;
    }

    /// Sends a question on its way. The answer comes through [`Effects::finish`].
    pub(crate) fn submit(
        &mut self,
        purpose: Purpose,
        group: GroupId,
        question: Question,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            let text = format!("{IN_FLIGHT_MAX} requests are under way at this node; try again");
            let problem = Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied);
            return effects.finish(&purpose, problem.into());
        }
        // Refused at once, not only when an owner is found that would say the same.
        if let Some(problem) = view.refuse_write(group, &question) {
            return effects.finish(&purpose, problem.into());
        }
        self.last += 1;
        let number = self.last;
        let now = view.now.steady_micros;
        let in_flight = InFlight {
            purpose,
            group,
            key: key_of(&question, number, view),
            question,
            asked: None,
            is_retry: false,
            since: now,
            waiting_since: now,
            done: None,
        };
        self.in_flight.insert(number, in_flight);
        self.route(number, view, effects);
    }

    /// Gives a request to the owner of its group, or lets it wait for one.
    pub(crate) fn route(&mut self, number: u64, view: &View<'_>, effects: &mut Effects) {
        let Some(request) = self.in_flight.get_mut(&number).filter(|it| it.done.is_none()) else {
            return;
        };
        let group = request.group;
        let owner = match &request.question {
            Question::InstanceStatus | Question::InstanceExplained => view.teller_of(group),
            _ => view.owner_of(group),
        };
        let Some(owner) = owner else { return };
        let is_here = owner == view.me();
        let is_reached = if is_here {
            view.shard.is_serving(group)
        } else {
            view.links.link_to(owner).is_some()
        };
        if !is_reached || (request.is_retry && !request.question.is_repeatable()) {
            // The owner that has the request answers, or the patience ends.
            return;
        }
        let is_retry = std::mem::replace(&mut request.is_retry, true);
        request.asked = Some((owner, view.now.steady_micros));
        let (key, question) = (request.key.clone(), request.question.clone());
        let (boot, term) = (view.config.sandbox.boot, view.term_of(group));
        if is_here {
            let caller = Caller { node: owner, boot, number };
            let asked = Asked { caller, term: Some(term), key, is_retry, question };
            effects.push(Work::Ask { group, asked });
        } else {
            let ask = Frame::Question { boot, number, group, term, key, is_retry, question };
            effects.outbox.send(owner, ask);
        }
    }

    /// An answer has come from an owner.
    pub(crate) fn answered(
        &mut self,
        from: ReplicaId,
        number: u64,
        answer: Answer,
        now: u64,
        effects: &mut Effects,
    ) {
        let Some(request) = self.in_flight.get_mut(&number) else { return };
        if request.asked.map(|(owner, _)| owner) != Some(from) {
            return; // Another owner was asked since; its answer counts.
        }
        if matches!(answer, Answer::NotOwner) {
            request.asked = None;
            // An instance gives this answer only for a request that it surely has not taken.
            request.is_retry &= request.question.is_repeatable();
            request.waiting_since = now;
            // The request is routed again as soon as an owner is known, at the end of the step.
            self.is_stale = true;
            return;
        }
        if let Answer::Changed { response, directory } = answer {
            // Answered at the end of the step, if this node's directory has come that far.
            (request.asked, request.done) = (None, Some((directory, response)));
            self.is_stale = true;
            return;
        }
        let request = self.in_flight.remove(&number).expect("it was there");
        effects.finish(&request.purpose, answer);
    }

    /// Answers those who wait for this node's directory to come to a position.
    fn tell_done(&mut self, position: Position, effects: &mut Effects) {
        self.in_flight.retain(|_, request| {
            let told = request.told_at(position);
            told.inspect(|response| effects.respond(&request.purpose, (*response).clone()))
                .is_none()
        });
    }

    /// Takes back what was given to a replica that cannot answer any more.
    pub(crate) fn take_back(&mut self, lost: ReplicaId, view: &View<'_>, effects: &mut Effects) {
        let mut ended = Vec::new();
        for (number, request) in &mut self.in_flight {
            if request.asked.is_none_or(|(owner, _)| owner != lost) {
                continue;
            }
            if !request.question.is_repeatable() {
                ended.push(*number);
                continue;
            }
            request.asked = None;
            request.waiting_since = view.now.steady_micros;
        }
        for number in ended {
            let request = self.in_flight.remove(&number).expect("it was listed");
            let problem = gave_up(&request, Code::NoOwner, view);
            effects.finish(&request.purpose, problem.into());
        }
        self.is_stale = true;
    }

    /// There is a new link to a node. Questions that were sent before may have gone into a dead
    /// link, so they are sent again. The other node recognizes a repeated question by its number.
    pub(crate) fn reached_anew(
        &mut self,
        replica: ReplicaId,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        let is_asked =
            |request: &InFlight| request.asked.is_some_and(|(asked, _)| asked == replica);
        let asked = self.in_flight.iter().filter(|(_, request)| is_asked(request));
        for number in asked.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.route(number, view, effects);
        }
    }

    /// Routes what waits, if an owner is known by now; asks anew where ownership has moved on.
    pub(crate) fn reroute(&mut self, view: &View<'_>, effects: &mut Effects) {
        let directory = view.control.map.applied;
        let has_come_on = std::mem::replace(&mut self.directory, directory) != directory;
        if self.is_stale || has_come_on {
            self.tell_done(directory, effects);
        }
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let has_moved = |request: &InFlight| match (request.asked, view.owner_of(request.group)) {
            (None, Some(_)) => true,
            (Some((asked, _)), Some(owner)) => asked != owner,
            (_, None) => false,
        };
        let moved = self.in_flight.iter().filter(|(_, request)| has_moved(request));
        for number in moved.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.route(number, view, effects);
        }
    }

    /// Ends what has waited too long. Called at each tick.
    pub(crate) fn check_patience(&mut self, view: &View<'_>, effects: &mut Effects) {
        let now = view.now.steady_micros;
        let owner_patience =
            if view.majority_is_up() { OWNER_PATIENCE_MICROS } else { NO_MAJORITY_PATIENCE_MICROS };
        let (mut ended, mut again) = (Vec::new(), Vec::new());
        for (number, request) in &self.in_flight {
            let waits = |since: u64| now.saturating_sub(since);
            match request.asked {
                _ if waits(request.since) > PATIENCE_MICROS => {
                    ended.push((*number, Code::Timeout));
                }
                None if waits(request.waiting_since) > owner_patience => {
                    ended.push((*number, Code::NoOwner));
                }
                // A query that takes long would be run twice.
                Some(_) if matches!(request.question, Question::Query { .. }) => {}
                Some((owner, at)) if waits(at) > ASK_AGAIN_MICROS && owner != view.me() => {
                    again.push(*number);
                }
                _ => {}
            }
        }
        for number in again {
            self.route(number, view, effects);
        }
        for (number, code) in ended {
            let request = self.in_flight.remove(&number).expect("it was there");
            // This node's directory has been behind for too long, but the request is done all the
            // same.
            if let Some((_, response)) = request.done {
                effects.respond(&request.purpose, response);
                continue;
            }
            // Without an owner, the answer is what this node knows of the instance, and what is
            // missing.
            let known = match &request.question {
                Question::InstanceStatus => instances::known_without_owner(request.group, view),
                Question::Rest(asked) => explain::without_owner(asked, request.group, view),
                Question::InstanceExplained => explain::instance(request.group, view),
                Question::Ambrosia { rest, filter } => ambrosia::answer(rest, filter, view).ok(),
                _ => None,
            };
            let answer = known.unwrap_or_else(|| Response::from(gave_up(&request, code, view)));
            effects.respond(&request.purpose, answer);
        }
    }
}

/// The user's key if there is one. Without it every write gets a key that this node makes.
fn key_of(question: &Question, number: u64, view: &View<'_>) -> Option<RequestKey> {
    let request = match question {
        Question::Rest(request) => request,
        // Repetitions that come while the first request is under way wait together with it.
        Question::Instance(immortals::Request::Impulse { key: Some(key), .. }) => {
            let ImpulseKey { hash, digest } = *key;
            return Some(RequestKey::User { key: format!("{hash:016x}"), digest });
        }
        _ => return None,
    };
    if !request.method.is_write() {
        return None;
    }
    if let Some(key) = &request.idempotency_key {
        let key = RequestKey::owned_by(key, &request.principal, request.source().is_some());
        return Some(RequestKey::User { key, digest: digest_of(request) });
    }
    let minute = u32::try_from(view.now.wall.0 / 60_000_000).unwrap_or(u32::MAX);
    Some(RequestKey::Auto { edge: view.me(), boot: view.config.sandbox.boot, number, minute })
}

/// Tells one request from another under the same key, by all that matters in it.
pub(crate) fn digest_of(request: &Request) -> u64 {
    let Conditions { if_match, if_none_match } = &request.conditions;
    let shown =
        |tags: &Option<EntityTags>| tags.as_ref().map_or(String::new(), ToString::to_string);
    let quorum = request.quorum.map_or(String::new(), |quorum| quorum.to_string());
    let said = [shown(if_match), shown(if_none_match), quorum, request.pragmas.join(";")];
    let parts: [&[u8]; 4] = [
        request.method.name().as_bytes(),
        request.path.as_bytes(),
        request.query.as_bytes(),
        &request.body,
    ];
    // The same body means something else as a merge patch.
    let merge: &[&[u8]] = match request.body_type {
        BodyType::Json => &[],
        BodyType::MergePatch => &[b"merge-patch"],
    };
    // Nobody gets the answer to a request of somebody else.
    let user = request.principal.user().map(|user| user.as_bytes());
    let action = request.action.as_ref().map(String::as_bytes);
    let said = said.iter().map(String::as_bytes).chain(action);
    hash_parts(parts.into_iter().chain(merge.iter().copied()).chain(said).chain(user))
}

fn gave_up(request: &InFlight, code: Code, view: &View<'_>) -> Problem {
    let what = view.name_of(request.group);
    let message = match code {
        Code::NoOwner if request.group.is_instance() => {
            instances::why_no_owner(request.group, view)
        }
        Code::NoOwner => format!(
            "{what} has no owner: {} of {} nodes are up as seen from here, and a majority ({}) is \
             needed. Start the missing nodes, then try again",
            view.nodes_up(),
            view.topology().size(),
            view.topology().majority()
        ),
        _ => format!("{what} gave no answer within {} s. Try again", PATIENCE_MICROS / 1_000_000),
    };
    let problem = Problem::new(code, message);
    if !request.question.is_write() {
        return problem;
    }
    if !request.is_retry {
        return problem.with_outcome(Outcome::NotApplied);
    }
    let mut problem = problem.with_outcome(Outcome::Unknown);
    problem
        .message
        .push_str("; the write may have been done: repeat it with the same Idempotency-Key");
    problem
}
