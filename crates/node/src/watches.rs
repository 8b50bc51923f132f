//! Requests that wait for the next changes of documents.
//!
//! Every node has every document, and applies the same changes in the same order. So a node answers
//! from its own replicas, with what is committed, and a reader can go on at any other node with the
//! token that it was given here: nothing is left out, and nothing comes twice. What a node does not
//! keep any more it says, instead of passing over it.
//!
//! What is in memory comes in the order of each partition's log. What is not any more (see
//! [`crate::missed`]) comes document by document.
//!
//! A reader that asks for more has taken what it got. So there is no queue for it here, however
//! slow it is; it may only fall behind what is kept.

use std::collections::BTreeMap;

use access::Thing;
use documents::{Change, Place};
use protocol::{Code, Document, GroupId, Method, Position, Principal, Problem, Response};
use query::{Candidate, CompiledQuery, HitFilter};
use serde_json::Value;
use services::Spec;

use crate::change_token::{Catching, Places, Reading, encode_reading};
use crate::missed::{self, Brought};
use crate::view::View;
use crate::work::{Effects, Purpose};

/// How many requests of a node may wait for changes; more are told that the node is busy.
pub const WATCHES_MAX: usize = 5_000;

/// How many changes one answer has at most.
const CHANGES_MAX: usize = 1_000;

/// When an answer has this many bytes, the next changes are left for the next answer.
const ANSWER_BYTES: usize = 256 << 10;

/// How many changes are looked at in one step, for all requests that wait; a large document counts
/// as several, and the more so the more work the query is. The rest comes in the next step.
const LOOKED_AT_MAX: usize = 2_000;

/// How many bytes of a document count as one more change.
const BYTES_OF_EFFORT: usize = 1 << 10;

/// What somebody wants to be told of.
pub(crate) struct Watch {
    /// What a document must be like.
    pub(crate) query: CompiledQuery,
    /// All links of such documents begin with this.
    pub(crate) prefix: String,
    /// The version before is shown, too.
    pub(crate) with_before: bool,
    pub(crate) principal: Principal,
    /// Where the reader is; `None`: it begins.
    pub(crate) after: Option<Reading>,
    /// How long to wait for a change, in microseconds.
    pub(crate) wait_micros: u64,
}

struct Waiting {
    purpose: Purpose,
    watch: Watch,
    reading: Reading,
    deadline: u64,
}

/// The requests that wait.
#[derive(Default)]
pub(crate) struct Watches {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// Whose turn it is, and how many are still to be looked after since the last change.
    turn: u64,
    todo: usize,
    /// The newest change of each partition when those who wait were looked after, or where it was
    /// when it has none in memory.
    newest: BTreeMap<GroupId, Place>,
    /// How often the store may still be looked at before the next tick.
    looks: usize,
}

/// Changes for one answer.
#[derive(Default)]
struct Found {
    json: Vec<u8>,
    count: usize,
    /// Not everything was looked at.
    is_cut: bool,
    /// The store was looked at, so the token has moved.
    has_looked: bool,
}

/// How often the store is looked at from one tick to the next, for all requests that have missed
/// something.
const LOOKS_MAX: usize = 2;

/// How much may still be looked at in this step.
struct Effort {
    changes: usize,
    looks: usize,
}

impl Effort {
    fn charge(&mut self, change: &Change, watch: &Watch) {
        let both = [&change.before, &change.after].into_iter().flatten();
        let read = both.filter(|document| document.link.starts_with(&watch.prefix));
        let bytes: usize = read.map(|document| document.body.len()).sum();
        let work = bytes.saturating_mul(watch.query.weight()) / BYTES_OF_EFFORT;
        self.changes = self.changes.saturating_sub(1 + work);
    }
}

impl Watches {
    /// Answers at once, or waits.
    pub(crate) fn begin(
        &mut self,
        purpose: Purpose,
        watch: Watch,
        view: &View<'_>,
        effects: &mut Effects,
    ) {
        let Some(mut reading) = watch.after.clone() else {
            let response = answer(&Found::default(), &now(view).into(), view);
            return effects.respond(&purpose, response);
        };
        let found = match self.look(&watch, &mut reading, &mut { LOOKED_AT_MAX }, view) {
            Ok(found) => found,
            Err(problem) => return effects.respond(&purpose, problem),
        };
        let is_answered = found.count > 0 || found.has_looked;
        if is_answered || watch.wait_micros == 0 || view.is_stopping {
            return effects.respond(&purpose, answer(&found, &reading, view));
        }
        if self.waiting.len() >= WATCHES_MAX {
            let text = format!("{WATCHES_MAX} requests wait for changes here; try another node");
            return effects.respond(&purpose, Problem::new(Code::Busy, text));
        }
        let deadline = view.now.steady_micros + watch.wait_micros;
        self.waiting.insert(self.next, Waiting { purpose, watch, reading, deadline });
        self.next += 1;
        if found.is_cut {
            // It goes on with the next step.
            self.todo = self.waiting.len();
        }
    }

    /// Entries may have been applied: those who wait for what they changed are answered.
    pub(crate) fn applied(&mut self, view: &View<'_>, effects: &mut Effects) {
        let mut has_news = false;
        for (group, replica) in &view.shard.partitions {
            let newest = replica.machine().partition().changes().newest();
            let applied = || Place::after(replica.consensus.applied_position());
            let newest = newest.unwrap_or_else(applied);
            has_news |= self.newest.insert(*group, newest) != Some(newest);
        }
        if has_news {
            self.todo = self.waiting.len();
            self.go_on(view, effects);
        }
    }

    /// Looks after those who had to wait for the next step, and those who have waited long enough.
    pub(crate) fn tick(&mut self, view: &View<'_>, effects: &mut Effects) {
        self.looks = LOOKS_MAX;
        self.go_on(view, effects);
        let now = view.now.steady_micros;
        let overdue: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.deadline <= now || view.is_stopping)
            .map(|(id, _)| *id)
            .collect();
        let mut changes = LOOKED_AT_MAX;
        for id in overdue {
            let Some(mut waiting) = self.waiting.remove(&id) else { continue };
            // There may be nothing to tell, but the token goes behind all that was looked at.
            let Waiting { watch, reading, .. } = &mut waiting;
            let response = match self.look(watch, reading, &mut changes, view) {
                Ok(found) => answer(&found, &waiting.reading, view),
                Err(problem) => problem.into(),
            };
            effects.respond(&waiting.purpose, response);
        }
    }

    fn go_on(&mut self, view: &View<'_>, effects: &mut Effects) {
        if self.todo == 0 {
            return;
        }
        let mut changes = LOOKED_AT_MAX;
        let in_turn = self.waiting.range(self.turn..).chain(self.waiting.range(..self.turn));
        let in_turn: Vec<u64> = in_turn.map(|(id, _)| *id).take(self.todo).collect();
        for id in in_turn {
            self.turn = id;
            if changes == 0 {
                return;
            }
            let Some(mut waiting) = self.waiting.remove(&id) else { return };
            let Waiting { watch, reading, .. } = &mut waiting;
            let response = match self.look(watch, reading, &mut changes, view) {
                // Who catches up asks again at once, and others have their turn meanwhile.
                Ok(found) if found.count > 0 || found.has_looked => {
                    Some(answer(&found, &waiting.reading, view))
                }
                Ok(found) if found.is_cut => {
                    self.waiting.insert(id, waiting);
                    return;
                }
                Ok(_) => None,
                Err(problem) => Some(problem.into()),
            };
            match response {
                Some(response) => effects.respond(&waiting.purpose, response),
                None => drop(self.waiting.insert(id, waiting)),
            }
            self.todo -= 1;
            self.turn = id + 1;
        }
        self.todo = 0;
    }

    fn look(
        &mut self,
        watch: &Watch,
        reading: &mut Reading,
        changes: &mut usize,
        view: &View<'_>,
    ) -> Result<Found, Problem> {
        let mut effort = Effort { changes: *changes, looks: self.looks };
        let found = look(watch, reading, &mut effort, view);
        (*changes, self.looks) = (effort.changes, effort.looks);
        found
    }
}

/// Where the replicas of this node are.
pub(crate) fn now(view: &View<'_>) -> Places {
    let replicas = view.shard.partitions.iter();
    replicas
        .map(|(group, replica)| (*group, Place::after(replica.consensus.applied_position())))
        .collect()
}

/// The changes after these places that concern a watch. The places are moved behind what was looked
/// at.
fn look(
    watch: &Watch,
    reading: &mut Reading,
    effort: &mut Effort,
    view: &View<'_>,
) -> Result<Found, Problem> {
    let filter = view.shard.handlers.guard.filter(&watch.principal);
    let looking = Looking { watch, filter: filter.as_ref(), view };
    let mut found = Found::default();
    // What was begun comes to its end first, or a partition that others write to would begin anew.
    let catching = reading.catching.as_ref().map(|it| it.group);
    if let Some(group) = catching.filter(|group| is_readable(*group, view)) {
        looking.catch_up(group, reading, effort, &mut found)?;
    }
    let groups: Vec<GroupId> = reading.places.keys().copied().collect();
    for group in groups.into_iter().filter(|group| is_readable(*group, view)) {
        if found.is_cut {
            break;
        }
        let applied = view.shard.partitions[&group].consensus.applied_position();
        let place = reading.places[&group];
        if place >= Place::after(applied) || catching == Some(group) {
            continue;
        }
        match view.shard.partitions[&group].machine().partition().changes().after(place, applied) {
            Some(changes) => looking.take(group, changes, applied, reading, effort, &mut found),
            None if reading.catching.is_some() => {}
            None => looking.catch_up(group, reading, effort, &mut found)?,
        }
    }
    Ok(found)
}

fn is_readable(group: GroupId, view: &View<'_>) -> bool {
    view.shard.partitions.contains_key(&group) && !view.shard.is_astray(group)
}

/// The next partition after that one of which the reader has missed something that is not in
/// memory.
fn next_missed(after: GroupId, reading: &Reading, view: &View<'_>) -> Option<(GroupId, Position)> {
    let later = reading.places.range(GroupId(after.0 + 1)..);
    let mut later = later.filter(|(group, _)| is_readable(**group, view));
    later.find_map(|(group, place)| {
        let replica = &view.shard.partitions[group];
        let applied = replica.consensus.applied_position();
        let is_missed = *place < Place::after(applied)
            && replica.machine().partition().changes().after(*place, applied).is_none();
        is_missed.then_some((*group, applied))
    })
}

/// On whose behalf changes are looked at.
struct Looking<'a> {
    watch: &'a Watch,
    filter: Option<&'a HitFilter>,
    view: &'a View<'a>,
}

impl Looking<'_> {
    /// Takes changes of a partition from memory.
    fn take<'c>(
        &self,
        group: GroupId,
        changes: impl Iterator<Item = &'c Change>,
        applied: Position,
        reading: &mut Reading,
        effort: &mut Effort,
        found: &mut Found,
    ) {
        let mut changes = changes.peekable();
        while let Some(change) = changes.next() {
            if effort.changes == 0 || found.is_full() {
                found.is_cut = true;
                return;
            }
            effort.charge(change, self.watch);
            let position = change.place.position;
            let is_last = changes.peek().is_none_or(|next| next.place.position != position);
            let place = if is_last { Place::after(position) } else { change.place };
            reading.places.insert(group, place);
            self.offer(group, change, reading, found);
        }
        reading.places.insert(group, Place::after(applied));
    }

    /// Whether the reader may see all documents that are watched, whichever they are.
    fn sees_all(&self) -> bool {
        let (guard, who) = (&self.view.shard.handlers.guard, &self.watch.principal);
        let specs = self.view.catalogue().specs();
        let mut watched = specs.filter(|it| missed::is_within(&it.factory, &self.watch.prefix));
        self.filter.is_none()
            || watched.all(|Spec { factory, kind, .. }| {
                guard.check(who, Method::Get, &Thing::All { factory, kind }).is_ok()
            })
    }

    /// Takes changes that were missed from the store.
    fn catch_up(
        &self,
        group: GroupId,
        reading: &mut Reading,
        effort: &mut Effort,
        found: &mut Found,
    ) -> Result<(), Problem> {
        if effort.looks == 0 || found.is_full() {
            found.is_cut = true;
            return Ok(());
        }
        if !self.sees_all() {
            // A token says up to which document the store was looked at, and what is missing is
            // told whosever it was: both would tell of documents that this reader may not see.
            return Err(missed::gone());
        }
        let brought = missed::look(reading, group, &self.watch.prefix, self.view)?;
        let Brought::Changes(changes, behind) = brought else { return Ok(()) };
        effort.looks -= 1;
        // There may be more of it, and what came meanwhile.
        (found.is_cut, found.has_looked) = (true, true);
        for (change, at) in changes {
            if found.is_full() {
                return Ok(());
            }
            effort.charge(&change, self.watch);
            *reading = at;
            self.offer(group, &change, reading, found);
        }
        *reading = behind;
        if reading.catching.is_none()
            && let Some((group, until)) = next_missed(group, reading, self.view)
        {
            let prefix = missed::mark_of(&self.watch.prefix);
            reading.catching = Some(Catching { group, until, prefix, after: None });
        }
        Ok(())
    }

    /// Adds a change if it concerns the watch.
    fn offer(&self, group: GroupId, change: &Change, reading: &Reading, found: &mut Found) {
        let Some(mut shown) = shown(self.watch, change, self.filter, (group, self.view)) else {
            return;
        };
        found.count += 1;
        if found.json.last() == Some(&b'}') {
            found.json.push(b',');
        }
        let token = Value::from(encode_reading(self.view.topology_name(), reading));
        shown.extend_from_slice(format!(",\"token\":{token}}}").as_bytes());
        found.json.append(&mut shown);
    }
}

impl Found {
    /// An answer takes no more.
    fn is_full(&self) -> bool {
        self.count >= CHANGES_MAX || self.json.len() >= ANSWER_BYTES
    }
}

/// A change as JSON, without the closing brace; `None` if it does not concern the watch.
fn shown(
    watch: &Watch,
    change: &Change,
    filter: Option<&HitFilter>,
    (group, view): (GroupId, &View<'_>),
) -> Option<Vec<u8>> {
    let newest = change.after.as_ref().or(change.before.as_ref())?;
    if !newest.link.starts_with(&watch.prefix) {
        return None;
    }
    let may_see =
        |document: &Document| filter.is_none_or(|filter| filter.shows(&Candidate::from(document)));
    let meets = |document: &Document| {
        !document.is_deleted() && watch.query.evaluate_for(&document.into(), filter).is_some()
    };
    let is_match = change.after.as_deref().is_some_and(meets);
    if !is_match && !change.before.as_deref().is_some_and(meets) {
        return None;
    }
    let owner = view.owner_of(group).and_then(|owner| view.node_id(owner));
    let json = |document: &Document| {
        let document = access::shown(&watch.principal, document);
        document.to_json_bytes(owner.unwrap_or(&document.owner))
    };
    let action = change.after.as_ref().map_or("EXPIRE", |after| after.action.name());
    let mut text = format!(
        "{{\"link\":{},\"version\":{},\"action\":\"{action}\",\"isMatch\":{is_match}",
        Value::from(newest.link.as_str()),
        newest.version
    )
    .into_bytes();
    let mut add = |name: &str, document: &Document| {
        if may_see(document) {
            text.extend_from_slice(format!(",\"{name}\":").as_bytes());
            text.extend_from_slice(&json(document));
        }
    };
    add("document", newest);
    if watch.with_before
        && let (Some(before), Some(_)) = (&change.before, &change.after)
    {
        add("before", before);
    }
    Some(text)
}

fn answer(found: &Found, reading: &Reading, view: &View<'_>) -> Response {
    let token = Value::from(encode_reading(view.topology_name(), reading)).to_string();
    let mut json = Vec::with_capacity(found.json.len() + token.len() + 64);
    json.extend_from_slice(b"{\"changes\":[");
    json.extend_from_slice(&found.json);
    json.extend_from_slice(b"],\"token\":");
    json.extend_from_slice(token.as_bytes());
    json.push(b'}');
    Response::bytes(200, json.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::{Action, Body, Moment, Term};
    use serde_json::json;

    use super::*;

    fn watch(pattern: &str) -> Watch {
        let mut specification = query::prefix_query("/a/");
        let filter = format!("name eq '{pattern}'");
        query::add_filter(&mut specification, &filter).unwrap();
        Watch {
            query: CompiledQuery::new(&specification).unwrap(),
            prefix: "/a/".into(),
            with_before: false,
            principal: Principal::System,
            after: None,
            wait_micros: 0,
        }
    }

    fn change(link: &str, bytes: usize) -> Change {
        let document = Document {
            link: link.into(),
            version: 0,
            epoch: Term(1),
            kind: String::new(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_state(&json!({ "name": "a".repeat(bytes) })).unwrap(),
        };
        let position = Position::default();
        Change { place: Place::after(position), before: None, after: Some(Arc::new(document)) }
    }

    /// Large documents end a step early, and the sooner the more work the query is.
    #[test]
    fn a_step_is_left_after_its_effort() {
        let steps = |watch: &Watch, change: &Change| {
            let mut effort = Effort { changes: LOOKED_AT_MAX, looks: 0 };
            let mut count = 0;
            while effort.changes > 0 {
                effort.charge(change, watch);
                count += 1;
            }
            count
        };
        let plain = watch("a*");
        assert_eq!(steps(&plain, &change("/a/1", 10)), LOOKED_AT_MAX);
        assert_eq!(steps(&plain, &change("/b/1", 1 << 20)), LOOKED_AT_MAX, "it is passed over");
        let large = steps(&plain, &change("/a/1", 1 << 20));
        assert!(large <= 2, "two MiB are enough for a step: {large}");
        let mut heavy = watch("a*");
        heavy.query = {
            let mut specification = query::prefix_query("/a/");
            let term = protocol::query::QueryTerm {
                match_type: Some(protocol::query::MatchType::Wildcard),
                match_value: Some(format!("*?{}b*", "a".repeat(500)).into()),
                ..protocol::query::QueryTerm::field("name")
            };
            let clause = protocol::query::Query { term: Some(term), ..Default::default() };
            specification.query.boolean_clauses.as_mut().unwrap().push(clause);
            CompiledQuery::new(&specification).unwrap()
        };
        let change = change("/a/1", 100 << 10);
        let (few, many) = (steps(&heavy, &change), steps(&plain, &change));
        assert!(few * 5 < many, "{few} {many}");
    }
}
