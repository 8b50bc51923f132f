//! Subscriptions: who is told of changes, by a request to an address outside or to a document of
//! the cluster.
//!
//! A subscription is a document of `/core/subscriptions`, and whoever owns it tells the subscriber.
//! All nodes have all changes, so the owner reads them from its own replicas, and nothing waits in
//! a queue: what is told next is found when the last notification was taken. How far that is, is
//! written into the document now and then. The next owner goes on there, and may tell again what
//! was told already. See `docs/design/0024-subscriptions.md`.

mod known;
mod notice;
mod scope;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use documents::{Change, Place};
use protocol::subscription::{LINK, Progress, split_reference};
use protocol::{
    Address, Code, Document, GroupId, Method, Moment, Outcome, Principal, Problem, Request,
    Response, Term, links,
};
use serde_json::{Value, json};
use storage::StoreError;

use crate::change_token::{Places, Reading, decode, encode};
use crate::io::{Level, Output};
use crate::view::View;
use crate::work::{Effects, Purpose, Work};
use known::Known;
pub(crate) use known::Target;
use notice::Notice;
use scope::Scope;
pub(crate) use scope::{is_query_task, is_subscription, stage_of};
use telling::{Effort, Failing, From, Look, Looking, Saving, Telling, UnderWay, entries};

/// How many subscriptions a cluster has; more are refused.
pub const SUBSCRIPTIONS_MAX: usize = 2_000;

/// How many of them one user has, whoever that is.
pub const SUBSCRIPTIONS_OF_USER_MAX: usize = 200;

/// How many notifications of a node are under way at a time, and how many bytes they have. The
/// others wait, each in its log.
pub const NOTIFICATIONS_MAX: usize = 64;
pub const NOTIFICATIONS_BYTES_MAX: usize = 16 << 20;

/// How many of them are for subscribers that have not taken their last one.
const FAILING_MAX: usize = NOTIFICATIONS_MAX / 2;

/// How many changes are looked at in one step for all subscriptions that are behind.
const EFFORT: usize = 2_000;

/// How many looks into the store there are from one tick to the next, and one in a step: each may
/// read some hundred KiB, and whatever else the node has to do waits for it.
const LOOKS: usize = 4;

/// How often the progress of a subscription is written at most, in microseconds.
const SAVE_MICROS: u64 = 2_000_000;

/// When it is written again if it does not show.
const SAVE_AGAIN_MICROS: u64 = 10_000_000;

/// How often it is written at most if nothing was told, in microseconds, after how many entries of
/// all logs, and for how many subscriptions in one tick: the next owner need not look at all of
/// them again. There must be more entries than subscriptions, as writing it down makes entries,
/// too.
const SAVE_LEVEL_MICROS: u64 = 60_000_000;
const SAVE_LEVEL_ENTRIES: u64 = 5 * SUBSCRIPTIONS_MAX as u64;
const SAVE_LEVEL_MAX: usize = 10;

/// The pause after a notification that was not taken; it doubles each time ...
const PAUSE_FIRST_MICROS: u64 = 100_000;
/// ... up to this.
const PAUSE_MAX_MICROS: u64 = 30_000_000;

/// A subscriber that has taken nothing for this long, in microseconds, is told no more.
pub const FAILING_MICROS_MAX: u64 = 24 * 3_600 * 1_000_000;

/// The longest words about a failure that are kept, in bytes.
const WHY_BYTES_MAX: usize = 300;

/// How long the tombstone of a subscription is kept, in microseconds.
const TOMBSTONE_MICROS: u64 = 60_000_000;

/// All subscriptions, and what happens to those that are owned here.
#[derive(Default)]
pub(crate) struct Subscriptions {
    /// By the link of the document.
    known: BTreeMap<String, Known>,
    /// Which of them concern a link or the documents of a factory, and which look at everything.
    of_links: BTreeMap<String, BTreeSet<String>>,
    of_all: BTreeSet<String>,
    /// How far this node has looked at the changes of each partition.
    looked_at: Places,
    /// Which partitions are owned here, in which life of the owner.
    owned: BTreeMap<GroupId, (Term, u64)>,
    /// Notifications under way.
    under_way: BTreeMap<u64, Sent>,
    bytes: usize,
    /// How many of them go to subscribers that have not taken the last one.
    to_failing: usize,
    last: u64,
    /// Those that are behind, and whose turn it is.
    behind: BTreeSet<String>,
    turn: String,
    /// How many looks into the store there may be until the next tick.
    looks: usize,
}

/// A notification that is under way.
struct Sent {
    /// Of the subscription.
    link: String,
    bytes: usize,
    is_failing: bool,
}

impl Subscriptions {
    /// Whether one more may be made, as far as this node knows. Who asks again for one that is
    /// there changes that one.
    ///
    /// # Errors
    /// That there are as many as there may be.
    pub(crate) fn check_room(&self, make: &Request) -> Result<(), Problem> {
        let body: Value = serde_json::from_slice(&make.body).unwrap_or_default();
        let link = body["documentSelfLink"].as_str().unwrap_or_default();
        if self.known.contains_key(link) {
            return Ok(());
        }
        if self.known.len() >= SUBSCRIPTIONS_MAX {
            return Err(too_many(&format!("there are {SUBSCRIPTIONS_MAX} subscriptions")));
        }
        let Some(user) = body["principalLink"].as_str() else { return Ok(()) };
        let of_user = |known: &&Known| known.state.principal_link.as_deref() == Some(user);
        if self.known.values().filter(of_user).count() >= SUBSCRIPTIONS_OF_USER_MAX {
            let text = format!("{user} has {SUBSCRIPTIONS_OF_USER_MAX} subscriptions");
            return Err(too_many(&text));
        }
        Ok(())
    }

    /// Entries may have been applied, or groups have got other owners.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn applied(
        &mut self,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        for group in view.shard.partitions.keys().copied() {
            self.follow_owner(group, view, effects);
            self.follow_changes(group, view, effects)?;
        }
        self.go_on(view, effects)
    }

    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn tick(
        &mut self,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let now = view.now.steady_micros;
        self.looks = LOOKS;
        let looked_at = entries(&self.looked_at);
        let mut level_left = SAVE_LEVEL_MAX;
        for (link, known) in &mut self.known {
            let Some(telling) = &mut known.telling else { continue };
            let waits = |failing: &Failing| failing.again_at_micros > now;
            if !telling.is_level && !telling.failing.as_ref().is_some_and(waits) {
                self.behind.insert(link.clone());
            }
            let pause = now.saturating_sub(telling.saving.at_micros);
            // What was written last has come to nothing: nobody was there to take it.
            let is_lost = known.state.progress.notification_count != telling.count;
            telling.saving.is_due |= is_lost && pause >= SAVE_AGAIN_MICROS;
            if level_left > 0 && pause >= SAVE_LEVEL_MICROS {
                let here = if telling.is_level { looked_at } else { entries(&telling.places) };
                if here.saturating_sub(telling.saving.entries) >= SAVE_LEVEL_ENTRIES {
                    telling.saving.is_due = true;
                    level_left -= 1;
                }
            }
            if telling.saving.is_due && pause >= SAVE_MICROS {
                if telling.is_level {
                    telling.move_to(&self.looked_at);
                }
                telling.saving = Saving {
                    is_due: telling.is_over,
                    at_micros: now,
                    entries: entries(&telling.places),
                };
                let request = match telling.is_over {
                    // One that has begun anew meanwhile goes on.
                    true => {
                        let mut request = removal(link, view.now.wall);
                        request.conditions.if_match = known.etag.parse().ok();
                        request
                    }
                    false => progress(link, (telling, known.state.begun_micros), view),
                };
                effects.push(Work::Enter(Purpose::Own, request));
            }
        }
        self.go_on(view, effects)
    }

    /// Somebody outside was told, or could not be.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn notified(
        &mut self,
        number: u64,
        outcome: Result<(), String>,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let Some(Sent { link, bytes, is_failing }) = self.under_way.remove(&number) else {
            return Ok(());
        };
        self.bytes -= bytes;
        self.to_failing -= usize::from(is_failing);
        let Some(known) = self.known.get_mut(&link) else { return Ok(()) };
        let limit = known.state.notification_limit;
        let Some(telling) = &mut known.telling else { return Ok(()) };
        // It may have begun anew meanwhile.
        let Some(UnderWay { from, .. }) =
            telling.under_way.take_if(|under_way| under_way.number == number)
        else {
            return Ok(());
        };
        match outcome {
            Ok(()) => {
                telling.taken(from);
                if limit.is_some_and(|limit| telling.count >= limit) {
                    telling.ends();
                }
            }
            Err(why) => failed(telling, &link, &why, view, effects),
        }
        self.behind.insert(link);
        self.go_on(view, effects)
    }

    /// A document of the cluster was told.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        response: &Response,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let outcome = match response.is_success() {
            true => Ok(()),
            false => {
                let body = response.to_json();
                let words = body["message"].as_str().unwrap_or_default();
                Err(format!("{}: {words}", response.status))
            }
        };
        self.notified(number, outcome, view, effects)
    }

    // What is known.

    /// A new owner tells what the last one has not.
    fn follow_owner(&mut self, group: GroupId, view: &View<'_>, effects: &mut Effects) {
        let replica = &view.shard.partitions[&group];
        let serving = replica.serving().filter(|_| !view.shard.is_astray(group));
        let before = match serving {
            Some(serving) => self.owned.insert(group, serving),
            None => self.owned.remove(&group),
        };
        if before == serving {
            return;
        }
        for (link, known) in self.known.iter_mut().filter(|(_, known)| known.group == group) {
            known.telling = None;
            if serving.is_some() {
                begin(link, known, view, effects);
            }
        }
    }

    fn follow_changes(
        &mut self,
        group: GroupId,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        if view.shard.is_astray(group) {
            return Ok(());
        }
        let replica = &view.shard.partitions[&group];
        let applied = replica.consensus.applied_position();
        let partition = replica.machine().partition();
        let place = self.looked_at.get(&group).copied();
        if place == Some(Place::after(applied)) {
            return Ok(());
        }
        let changes = place.and_then(|place| partition.changes().after(place, applied));
        match changes {
            Some(changes) => {
                for change in changes {
                    self.follow(group, change, view, effects);
                    self.looked_at.insert(group, change.place);
                }
            }
            None => {
                // All of them look for themselves what they have missed.
                for link in self.known.keys().cloned().collect::<Vec<_>>() {
                    self.fall_behind(&link);
                }
                let documents = partition.below(&*view.shard.store, LINK)?;
                let gone = self.known.iter().filter(|(link, known)| {
                    known.group == group && !documents.iter().any(|it| it.link == **link)
                });
                for link in gone.map(|(link, _)| link.clone()).collect::<Vec<_>>() {
                    self.forget(&link);
                }
                for document in documents {
                    self.put(&document, group, view, effects);
                }
            }
        }
        self.looked_at.insert(group, Place::after(applied));
        Ok(())
    }

    fn follow(&mut self, group: GroupId, change: &Change, view: &View<'_>, effects: &mut Effects) {
        let Some(newest) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let link = newest.link.as_str();
        let factory = links::split(link).map_or("", |(factory, _)| factory);
        let concerned = [link, factory].into_iter().filter_map(|key| self.of_links.get(key));
        let concerned: Vec<String> = concerned.flatten().chain(&self.of_all).cloned().collect();
        for subscription in concerned {
            self.fall_behind(&subscription);
        }
        if factory != LINK {
            return;
        }
        match change.after.as_deref().filter(|after| !after.is_deleted()) {
            Some(document) => self.put(document, group, view, effects),
            None => self.forget(link),
        }
    }

    /// There may be something to tell from here on.
    fn fall_behind(&mut self, link: &str) {
        let telling = self.known.get_mut(link).and_then(|known| known.telling.as_mut());
        if let Some(telling) = telling.filter(|telling| telling.is_level) {
            telling.is_level = false;
            telling.move_to(&self.looked_at);
            self.behind.insert(link.to_owned());
        }
    }

    fn put(&mut self, document: &Document, group: GroupId, view: &View<'_>, effects: &mut Effects) {
        let link = document.link.as_str();
        let mut known = match Known::of(document, group) {
            Ok(known) => known,
            Err(problem) => {
                let text = format!("{link} cannot be read, and nobody is told of it: {problem}");
                effects.note(Level::Warn, text);
                return self.forget(link);
            }
        };
        if let Some(before) = self.known.get_mut(link)
            && before.state.begun_micros == known.state.begun_micros
        {
            // Only an owner has written, how far it has come.
            before.state.progress = known.state.progress;
            before.etag = known.etag;
            return;
        }
        self.forget(link);
        if self.owned.contains_key(&group) {
            begin(link, &mut known, view, effects);
        }
        match known.scope.key() {
            Some(key) => {
                self.of_links.entry(key.to_owned()).or_default().insert(link.to_owned());
            }
            None => {
                self.of_all.insert(link.to_owned());
            }
        }
        self.known.insert(link.to_owned(), known);
        self.behind.insert(link.to_owned());
    }

    fn forget(&mut self, link: &str) {
        let Some(known) = self.known.remove(link) else { return };
        self.of_all.remove(link);
        if let Some(key) = known.scope.key()
            && let Some(all) = self.of_links.get_mut(key)
        {
            all.remove(link);
            if all.is_empty() {
                self.of_links.remove(key);
            }
        }
    }

    // Telling.

    /// Tells those that are behind what comes next, as far as there is room.
    fn go_on(&mut self, view: &View<'_>, effects: &mut Effects) -> Result<(), StoreError> {
        let mut effort = Effort { changes: EFFORT, has_look: self.looks > 0 };
        let mut has_looked = None;
        for _ in 0..self.behind.len() {
            let is_full = self.under_way.len() >= NOTIFICATIONS_MAX
                || self.bytes >= NOTIFICATIONS_BYTES_MAX
                || view.is_stopping;
            if is_full || effort.changes == 0 {
                break;
            }
            let next = self.behind.range::<String, _>(&self.turn..).next();
            let Some(link) = next.or_else(|| self.behind.first()).cloned() else { break };
            self.turn = format!("{link}\0");
            let could_look = effort.has_look;
            if self.tell(&link, &mut effort, view, effects)? {
                self.behind.remove(&link);
            }
            if could_look && !effort.has_look {
                has_looked = Some(self.turn.clone());
            }
        }
        if let Some(behind_it) = has_looked {
            self.looks -= 1;
            self.turn = behind_it;
        }
        Ok(())
    }

    /// Tells one subscriber the next change. False when it has not been looked for to the end.
    fn tell(
        &mut self,
        link: &str,
        effort: &mut Effort,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> Result<bool, StoreError> {
        let Some(known) = self.known.get_mut(link) else { return Ok(true) };
        let principal = present(known, view);
        let Known { scope, telling: Some(telling), .. } = known else { return Ok(true) };
        // Those that do not answer leave room for the others; the tick brings them up again.
        let is_late = telling.failing.is_some() && self.to_failing >= FAILING_MAX;
        if is_late || !telling.is_ready(view.now.steady_micros) {
            return Ok(true);
        }
        let filter = view.shard.handlers.guard.filter(&principal);
        let found = match telling.look(&Looking { scope, filter: filter.as_ref(), view }, effort)? {
            Look::Found(found) => found,
            Look::Cut => return Ok(false),
            Look::Level => {
                telling.is_level = true;
                return Ok(true);
            }
        };
        if found.is_end() {
            telling.ends();
            return Ok(true);
        }
        if matches!(found.from, From::Store(_)) {
            effects.note(Level::Debug, format!("what comes next for {link} comes from the store"));
        }
        let name = links::split(link).map_or(link, |(_, name)| name);
        let notice = Notice::of(name, &found, known, view);
        Ok(self.send(link, (notice, found.from), principal, view, effects))
    }

    /// False when there was nothing to be sent.
    fn send(
        &mut self,
        link: &str,
        (notice, from): (Notice, From),
        principal: Principal,
        view: &View<'_>,
        effects: &mut Effects,
    ) -> bool {
        let may_be_told = self.may_be_told(link, &principal, view);
        let Some(known) = self.known.get_mut(link) else { return true };
        let number = self.last + 1;
        match may_be_told {
            Ok(Target::Outside) => {
                let notification = notice.to_outside(number, known, view);
                effects.outputs.push(Output::Notify(notification));
            }
            Ok(Target::Link(to)) => match notice.to_link(&to, principal) {
                Some(request) => effects.push(Work::Enter(Purpose::Notify { number }, request)),
                None => {
                    if let Some(telling) = &mut known.telling {
                        telling.taken(from);
                    }
                    return false;
                }
            },
            Err(why) => {
                if let Some(telling) = &mut known.telling {
                    failed(telling, link, &why, view, effects);
                }
                return true;
            }
        }
        self.last = number;
        let mut is_failing = false;
        if let Some(telling) = &mut known.telling {
            telling.under_way = Some(UnderWay { number, from });
            is_failing = telling.failing.is_some();
        }
        let sent = Sent { link: link.to_owned(), bytes: notice.bytes(), is_failing };
        self.under_way.insert(number, sent);
        self.bytes += notice.bytes();
        self.to_failing += usize::from(is_failing);
        true
    }

    /// # Errors
    /// Why the subscriber may not be told at present.
    fn may_be_told(
        &self,
        link: &str,
        principal: &Principal,
        view: &View<'_>,
    ) -> Result<Target, String> {
        let Some(known) = self.known.get(link) else { return Err("it has ended".into()) };
        let target = target(&known.state.reference, view);
        match &target {
            Target::Link(_) if matches!(known.scope, Scope::Query(_)) => {
                Err("a query tells nobody inside of the cluster".into())
            }
            Target::Link(_) if self.is_in_loop(known, view) => Err(format!(
                "a change of {} would bring about the next one, over and over: one of the \
                 subscriptions of this loop must go",
                known.state.subscribed_link
            )),
            Target::Link(_) => Ok(target),
            Target::Outside => {
                if let Ok((address, _)) = split_reference(&known.state.reference) {
                    check_machine(&address, view)?;
                }
                let guard = &view.shard.handlers.guard;
                let right = guard.check(principal, Method::Post, &access::Thing::Path(LINK));
                right.map(|()| target).map_err(|problem| problem.message)
            }
        }
    }

    /// Whether telling somebody would, over others that are told in turn, bring about a change of
    /// what the subscription is about.
    fn is_in_loop(&self, known: &Known, view: &View<'_>) -> bool {
        let mut told = BTreeSet::new();
        let mut next = vec![known];
        while let Some(one) = next.pop() {
            let Target::Link(target) = target(&one.state.reference, view) else { continue };
            if known.scope.covers(&target) {
                return true;
            }
            if !told.insert(target.clone()) {
                continue;
            }
            let factory = links::split(&target).map_or("", |(factory, _)| factory);
            let of_links = [target.as_str(), factory].into_iter();
            let concerned = of_links.filter_map(|key| self.of_links.get(key)).flatten();
            next.extend(concerned.filter_map(|link| self.known.get(link)));
        }
        false
    }
}

impl Telling {
    /// There was nothing to tell up to these places.
    fn move_to(&mut self, looked_at: &Places) {
        for (group, place) in &mut self.places {
            *place = looked_at.get(group).copied().unwrap_or(*place).max(*place);
        }
    }

    /// Whether something may be sent.
    fn is_ready(&self, now_micros: u64) -> bool {
        let waits = self.failing.as_ref().is_some_and(|it| it.again_at_micros > now_micros);
        self.under_way.is_none() && !self.is_over && !waits
    }

    fn ends(&mut self) {
        self.is_over = true;
        self.saving.is_due = true;
    }
}

/// This node owns it now.
fn begin(link: &str, known: &mut Known, view: &View<'_>, effects: &mut Effects) {
    let partitions = view.shard.partitions.keys().copied();
    let progress = &known.state.progress;
    match decode(view.topology_name(), partitions, &progress.token) {
        Ok(Reading { places, .. }) => {
            let replays = known.state.replay_state && !progress.is_replayed;
            let mut telling = Telling::new(places, replays, progress.notification_count);
            telling.failing = progress.failed_notification_count.map(|count| Failing {
                count,
                since: Moment(progress.initial_failed_notification_time_micros.unwrap_or(0)),
                again_at_micros: 0,
                why: progress.last_failure.clone().unwrap_or_default(),
            });
            known.telling = Some(telling);
        }
        Err(_) => {
            let text = format!(
                "{link} was made in another cluster, of which this one is a copy: its subscriber is \
                 not told of changes here. Subscribe again"
            );
            effects.note(Level::Warn, text);
        }
    }
}

/// With whose rights: nobody's, if the user was made anew since.
fn present(known: &Known, view: &View<'_>) -> Principal {
    let policy = &view.shard.handlers.guard.policy;
    match known.principal() {
        Principal::User(user) if policy.made_of(&user) != known.state.principal_made_micros => {
            Principal::Anonymous
        }
        principal => principal,
    }
}

fn is_member(address: &Address, view: &View<'_>) -> bool {
    let mut members = view.topology().members().values();
    members.any(|member| Address::parse(&member.uri).is_ok_and(|uri| uri == *address))
}

/// Nobody is told at a node of this machine under a name that its cluster does not have for it:
/// what that changes would not be known beforehand. And programs of AMBROSIA are no receivers.
///
/// # Errors
/// Which of them it is.
pub(crate) fn check_machine(address: &Address, view: &View<'_>) -> Result<(), String> {
    if !address.is_loopback() {
        return Ok(());
    }
    let (topology, port) = (view.topology(), address.port());
    let is_at = |member: &cluster::Member| {
        let is_me = member.uri == view.config.public_uri;
        Address::parse(&member.uri)
            .is_ok_and(|uri| uri.port() == port && (is_me || uri.is_loopback()))
    };
    if view.config.permits.callbacks.is_own(port) || topology.members().values().any(is_at) {
        return Err(format!(
            "{address} is a node of this cluster: give the link of the document that is to be told, \
             such as /app/mirror/one"
        ));
    }
    let mut replicas = topology.instances().flat_map(|entry| &entry.replicas);
    let has_port = |replica: &cluster::InstanceReplica| {
        [replica.receive_port, replica.send_port].contains(&Some(port))
    };
    match replicas.any(|it| it.node == view.config.node_id && has_port(it)) {
        true => {
            Err(format!("{address} is a port for a program of AMBROSIA, and takes no requests"))
        }
        false => Ok(()),
    }
}

/// Who is meant by a reference.
pub(crate) fn target(reference: &str, view: &View<'_>) -> Target {
    Target::of(reference, |address| is_member(address, view))
}

/// It is tried again, later each time.
fn failed(telling: &mut Telling, link: &str, why: &str, view: &View<'_>, effects: &mut Effects) {
    let now = view.now;
    let before = telling.failing.take();
    let count = before.as_ref().map_or(0, |before| before.count).saturating_add(1);
    let since = before.map_or(now.wall, |before| before.since);
    let doubled = PAUSE_FIRST_MICROS.saturating_mul(1 << (count - 1).min(16));
    let again_at_micros = now.steady_micros + doubled.min(PAUSE_MAX_MICROS);
    let end = (0..=WHY_BYTES_MAX).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
    let why = why.get(..end).unwrap_or(why).to_owned();
    if now.wall.0.saturating_sub(since.0) > FAILING_MICROS_MAX {
        effects
            .note(Level::Warn, format!("{link} ends: its subscriber has taken nothing for a day"));
        telling.ends();
    }
    telling.failing = Some(Failing { count, since, again_at_micros, why });
    telling.saving.is_due = true;
}

fn too_many(how_many: &str) -> Problem {
    let text = format!(
        "{how_many}, and no more are made: end some (DELETE {LINK}/ID), \
         or watch changes instead (?watch=true)"
    );
    Problem::new(Code::Refused, text).with_outcome(Outcome::NotApplied)
}

/// What an owner writes into the document.
fn progress(link: &str, (telling, begun): (&Telling, u64), view: &View<'_>) -> Request {
    let failing = telling.failing.as_ref();
    let progress = Progress {
        token: encode(view.topology_name(), &telling.places),
        is_replayed: telling.is_replayed(),
        notification_count: telling.count,
        failed_notification_count: failing.map(|failing| failing.count),
        initial_failed_notification_time_micros: failing.map(|failing| failing.since.0),
        last_failure: failing.map(|failing| failing.why.clone()),
    };
    let mut body: Value = serde_json::to_value(progress).expect("plain fields can be written");
    body["begunMicros"] = begun.into();
    Request::new(Method::Patch, link).with_json(&body).on_behalf_of(Principal::System)
}

/// The request that ends a subscription.
pub(crate) fn removal(link: &str, now: Moment) -> Request {
    let body = json!({"documentExpirationTimeMicros": now.0 + TOMBSTONE_MICROS});
    Request::new(Method::Delete, link).with_json(&body).on_behalf_of(Principal::System)
}
