//! How far a subscriber has been told, and what comes next.
//!
//! Changes are taken from memory ([`documents::Changes`]) as long as they are there, in the order
//! of each partition's log. What is there no more is found in the versions that the store has, in
//! the order of each document. A change that a subscriber has not taken stays the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use documents::{Change, Cursor, Missed, Partition, Place, Since};
use protocol::{GroupId, Moment, Position};
use query::HitFilter;
use storage::{Reader, StoreError};

use super::scope::{News, Scope};
use crate::change_token::Places;
use crate::missed::all_before;
use crate::view::View;

/// How many bytes of documents that were missed are held for one subscription.
const MISSED_BYTES: usize = 64 << 10;

/// How many bytes of a document count as one more change, for a query of little work.
const BYTES_OF_EFFORT: usize = 1 << 10;

/// What may still be done in one step.
pub(crate) struct Effort {
    /// How many changes may be looked at; a large document counts as several.
    pub(crate) changes: usize,
    /// Whether there may be one more look into the store.
    pub(crate) has_look: bool,
}

impl Effort {
    fn is_spent(&self) -> bool {
        self.changes == 0
    }

    fn charge(&mut self, change: &Change, scope: &Scope) {
        let newest = change.after.as_ref().or(change.before.as_ref());
        let is_read = newest.is_some_and(|newest| scope.covers(&newest.link));
        let both = [&change.before, &change.after].into_iter().flatten();
        let bytes: usize = both.filter(|_| is_read).map(|document| document.body.len()).sum();
        let work = bytes.saturating_mul(scope.weight()) / BYTES_OF_EFFORT;
        self.changes = self.changes.saturating_sub(1 + work);
    }
}

/// What happens to a subscription at this node.
pub(crate) struct Telling {
    /// All changes before these places were taken.
    pub(crate) places: Places,
    /// In which partition the next change is looked for first.
    turn: GroupId,
    /// What is looked for in the store, in which partitions.
    catching_up: BTreeMap<GroupId, CatchUp>,
    /// Of these partitions the present state comes first.
    to_replay: BTreeSet<GroupId>,
    /// In these partitions something was missed that is not kept. The next change says so.
    gaps: BTreeSet<GroupId>,
    /// There is nothing to tell up to where the node has looked at all changes.
    pub(crate) is_level: bool,
    pub(crate) under_way: Option<UnderWay>,
    pub(crate) failing: Option<Failing>,
    pub(crate) count: u64,
    pub(crate) saving: Saving,
    /// It is over, and its document is to be deleted.
    pub(crate) is_over: bool,
}

/// A notification that is under way.
pub(crate) struct UnderWay {
    pub(crate) number: u64,
    pub(crate) from: From,
}

/// Where a change was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// In memory; this is the place behind it.
    Memory(GroupId, Place),
    Store(GroupId),
}

/// Since when notifications are not taken.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    pub(crate) count: u64,
    pub(crate) since: Moment,
    pub(crate) again_at_micros: u64,
    pub(crate) why: String,
}

/// When the progress was last written.
pub(crate) struct Saving {
    pub(crate) is_due: bool,
    pub(crate) at_micros: u64,
    /// How many entries all logs had where the places were that were written.
    pub(crate) entries: u64,
}

struct CatchUp {
    from: Position,
    until: Position,
    /// The state as it is at `until`, and no changes.
    replays_at: Option<Moment>,
    after: Option<Cursor>,
    missed: VecDeque<Missed>,
    /// That documents have gone is said already.
    says_gone: bool,
    is_at_end: bool,
}

/// What is to be told next.
pub(crate) struct Found {
    pub(crate) group: GroupId,
    pub(crate) from: From,
    pub(crate) what: What,
    /// There may have been something before it that nobody knows any more.
    pub(crate) is_after_gap: bool,
}

pub(crate) enum What {
    Change(Change, News),
    /// A document as it is.
    State(Change),
    /// Nothing but that something is missing.
    Gap(Position),
}

impl Found {
    /// The query has ended, and the subscription with it.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.what, What::Change(_, News::End))
    }
}

/// What a look has led to.
pub(crate) enum Look {
    Found(Box<Found>),
    /// There is nothing to tell.
    Level,
    /// It took too long; there may be more.
    Cut,
}

/// What is looked at, and on whose behalf.
pub(crate) struct Looking<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) filter: Option<&'a HitFilter>,
    pub(crate) view: &'a View<'a>,
}

/// What was done in one partition.
enum Step {
    Found(Box<Found>),
    GoesOn,
    /// For the next look into the store.
    Waits,
    Done,
}

impl Telling {
    pub(crate) fn new(places: Places, replays: bool, count: u64) -> Self {
        let to_replay = if replays { places.keys().copied().collect() } else { BTreeSet::new() };
        Self {
            saving: Saving { is_due: false, at_micros: 0, entries: entries(&places) },
            places,
            turn: GroupId(0),
            catching_up: BTreeMap::new(),
            to_replay,
            gaps: BTreeSet::new(),
            is_level: false,
            under_way: None,
            failing: None,
            count,
            is_over: false,
        }
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.to_replay.is_empty()
    }

    /// The next change that has not been taken.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn look(
        &mut self,
        at: &Looking<'_>,
        effort: &mut Effort,
    ) -> Result<Look, StoreError> {
        // All partitions take turns, so that one with many changes keeps none of the others
        // waiting.
        let groups = self.places.range(self.turn..).chain(self.places.range(..self.turn));
        for group in groups.map(|(group, _)| *group).collect::<Vec<_>>() {
            loop {
                if effort.is_spent() {
                    return Ok(Look::Cut);
                }
                match self.look_in(group, at, effort)? {
                    Step::Found(found) => {
                        // What was missed in one partition comes to its end, and is held for one.
                        let is_missed = matches!(found.from, From::Store(_));
                        self.turn = if is_missed { group } else { GroupId(group.0 + 1) };
                        return Ok(Look::Found(found));
                    }
                    Step::GoesOn => {}
                    Step::Waits => return Ok(Look::Cut),
                    Step::Done => break,
                }
            }
        }
        Ok(Look::Level)
    }

    fn look_in(
        &mut self,
        group: GroupId,
        at: &Looking<'_>,
        effort: &mut Effort,
    ) -> Result<Step, StoreError> {
        let Some(replica) = at.view.shard.partitions.get(&group) else { return Ok(Step::Done) };
        if at.view.shard.is_astray(group) {
            return Ok(Step::Done);
        }
        let (partition, store) = (replica.machine().partition(), &*at.view.shard.store);
        let applied = replica.consensus.applied_position();
        if self.catching_up.contains_key(&group) {
            return self.catch_up(group, (partition, store), at, effort);
        }
        let place = self.places[&group];
        if self.to_replay.contains(&group) {
            let span = (all_before(place), applied, Some(at.view.now.wall));
            let catch_up = CatchUp::new(span, (partition, store), at.scope)?;
            self.catching_up.insert(group, catch_up);
            return Ok(Step::GoesOn);
        }
        if place >= Place::after(applied) {
            return Ok(Step::Done);
        }
        let Some(changes) = partition.changes().after(place, applied) else {
            let span = (all_before(place), applied, None);
            let catch_up = CatchUp::new(span, (partition, store), at.scope)?;
            self.catching_up.insert(group, catch_up);
            return Ok(Step::GoesOn);
        };
        for change in changes {
            if effort.is_spent() {
                return Ok(Step::GoesOn);
            }
            effort.charge(change, at.scope);
            if let Some(news) = at.scope.news(change, at.filter) {
                let (from, what) =
                    (From::Memory(group, change.place), What::Change(change.clone(), news));
                let is_after_gap = self.gaps.contains(&group);
                let found = Found { group, from, what, is_after_gap };
                return Ok(Step::Found(Box::new(found)));
            }
            self.places.insert(group, change.place);
        }
        self.places.insert(group, Place::after(applied));
        Ok(Step::Done)
    }

    fn catch_up(
        &mut self,
        group: GroupId,
        (partition, store): (&Partition, &dyn Reader),
        at: &Looking<'_>,
        effort: &mut Effort,
    ) -> Result<Step, StoreError> {
        let it = self.catching_up.get_mut(&group).expect("the caller has seen it");
        while let Some(Missed { change, is_after_gap }) = it.missed.front() {
            effort.charge(change, at.scope);
            let is_gap = change.before.is_none() && change.after.is_none();
            let what = if is_gap {
                Some(What::Gap(change.place.position))
            } else {
                let news = at.scope.news(change, at.filter);
                news.map(|news| match it.replays_at {
                    // A query that has ended has no state that could be replayed.
                    Some(_) if news != News::End => What::State(change.clone()),
                    _ => What::Change(change.clone(), news),
                })
            };
            if let Some(what) = what {
                let from = From::Store(group);
                let is_after_gap = *is_after_gap || self.gaps.contains(&group);
                let found = Found { group, from, what, is_after_gap };
                return Ok(Step::Found(Box::new(found)));
            }
            it.missed.pop_front();
            if effort.is_spent() {
                return Ok(Step::GoesOn);
            }
        }
        if it.is_at_end {
            self.places.insert(group, Place::after(it.until));
            if it.replays_at.is_some() {
                self.to_replay.remove(&group);
                self.saving.is_due = true;
            }
            self.catching_up.remove(&group);
            return Ok(Step::GoesOn);
        }
        if !std::mem::take(&mut effort.has_look) {
            return Ok(Step::Waits);
        }
        let (prefix, is_one) = at.scope.prefix();
        let asked = Since {
            prefix: &prefix,
            is_one,
            from: it.from,
            until: it.until,
            latest_at: it.replays_at,
            after: it.after.take(),
            bytes_max: MISSED_BYTES,
        };
        let caught = partition.since(store, &asked)?;
        // What goes while the subscriber catches up is missed as well.
        if caught.is_broken || !it.says_gone && has_gone((partition, store), at.scope, it.from)? {
            it.says_gone = true;
            self.gaps.insert(group);
        }
        it.missed.extend(caught.changes);
        it.is_at_end = caught.next.is_none();
        it.after = caught.next;
        Ok(Step::GoesOn)
    }

    /// The subscriber has taken what was under way.
    pub(crate) fn taken(&mut self, from: From) {
        let (From::Memory(group, _) | From::Store(group)) = from;
        self.gaps.remove(&group);
        match from {
            From::Memory(group, place) => {
                self.places.insert(group, place);
            }
            From::Store(group) => {
                if let Some(catch_up) = self.catching_up.get_mut(&group) {
                    catch_up.missed.pop_front();
                }
            }
        }
        self.count += 1;
        self.failing = None;
        self.saving.is_due = true;
    }
}

impl CatchUp {
    /// From a position on up to another one; or the state as it is there, at that moment.
    fn new(
        (from, until, replays_at): (Position, Position, Option<Moment>),
        (partition, store): (&Partition, &dyn Reader),
        scope: &Scope,
    ) -> Result<Self, StoreError> {
        let mut missed = VecDeque::new();
        let says_gone = has_gone((partition, store), scope, from)?;
        if says_gone {
            let place = Place { position: until, taken: 0 };
            let change = Change { place, before: None, after: None };
            missed.push_back(Missed { change, is_after_gap: true });
        }
        Ok(Self { from, until, replays_at, after: None, missed, says_gone, is_at_end: false })
    }
}

/// Whether documents of that scope have gone since then, and nothing tells which.
fn has_gone(
    (partition, store): (&Partition, &dyn Reader),
    scope: &Scope,
    since: Position,
) -> Result<bool, StoreError> {
    if let Scope::One(link) = scope
        && partition.latest(store, link)?.is_some()
    {
        return Ok(false);
    }
    let is_meant = |factory: &str| scope.factory().is_none_or(|it| it == factory);
    partition.some_have_gone(store, &is_meant, since)
}

/// How many entries come before these places, in all logs together.
pub(crate) fn entries(places: &Places) -> u64 {
    places.values().fold(0, |sum, place| sum.saturating_add(place.position.0))
}
