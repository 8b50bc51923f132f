//! The part of the node that was asked for a backup: it has all logs of the cluster stand still at
//! one moment, and hands out what the nodes keep of it.
//!
//! First every node holds the logs that it owns. When all of them are held, the positions are
//! known. Then every node keeps what it has there, and says which terms it knows of. If a majority
//! of a group's voters knows of no later term than that of the owner who holds the log, nobody else
//! can have written to it before all logs were held. So there was a moment at which each log ended
//! just there, and the backup is what the cluster was at that moment: whatever was sent by an
//! instance and received by another is in both logs or not in the receiver's, and whatever a task
//! has done is done. When that cannot be shown (an owner died just then), it is tried again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::hash::hash_parts;
use protocol::{Code, GroupId, Problem, ReplicaId, Response};
use serde_json::json;
use storage::StoreError;

use super::keeper::{Around, IDLE_MICROS_MAX, Keeper, send};
use super::words::{BackupFrame, Kept, Stand};
use crate::control::Control;
use crate::hosted::name_of;
use crate::work::{Effects, Purpose};

/// How long an attempt waits until all logs stand still, and then until it is known who keeps what,
/// in microseconds.
const HELD_MICROS_MAX: u64 = 400_000;
const KEPT_MICROS_MAX: u64 = 300_000;

/// How long nodes that are slow to keep the state are waited for, once it is kept somewhere.
const SPARE_MICROS_MAX: u64 = 50_000;

/// How long after an attempt in vain the next one begins, in microseconds.
const PAUSE_MICROS: u64 = 250_000;

/// After this many attempts it is said what was missing.
const ATTEMPTS_MAX: u32 = 12;

/// How long a page of another node is waited for, in microseconds.
const PAGE_MICROS_MAX: u64 = 5_000_000;

/// How many pages of other nodes are waited for at a time.
const PAGES_WAITING_MAX: usize = 64;

/// How many backups a node hands out at a time.
const BACKUPS_MAX: usize = 2;

/// How often the nodes are told that a backup goes on, in microseconds.
const ALIVE_MICROS: u64 = 5_000_000;

/// What the runner looks at, lent for one step.
pub(crate) struct ClusterSeen<'a> {
    pub(crate) control: &'a Control,
    /// The nodes that are up, this one included.
    pub(crate) up: BTreeSet<ReplicaId>,
    pub(crate) node_id: &'a str,
}

impl ClusterSeen<'_> {
    /// The groups that a backup is made of.
    fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        let topology = &self.control.map.topology;
        let instances = topology.instances().map(|entry| entry.group);
        (0..=topology.partitions()).map(GroupId).chain(instances)
    }

    /// For people.
    fn name(&self, group: GroupId) -> String {
        let entry = self.control.map.topology.instance_of(group);
        entry.map_or_else(|| name_of(group), |entry| format!("immortal '{}'", entry.name))
    }

    /// Why it is of no use to hold the logs, as far as that is known here.
    fn ownerless(&self, around: &Around<'_, '_>) -> Option<String> {
        let is_owned = |group: &GroupId| {
            let owner = self.control.owner_of(*group, around.shard);
            owner.is_some_and(|owner| self.up.contains(&owner))
        };
        let group = self.groups().find(|group| !is_owned(group))?;
        Some(format!("{} has no owner that is up", self.name(group)))
    }
}

/// The backups that this node was asked for.
#[derive(Default)]
pub(crate) struct Runner {
    attempt: Option<Attempt>,
    /// Who waits for another attempt, how many there were, and when the next one begins.
    waiting: Option<(Purpose, u32, u64)>,
    running: BTreeMap<u64, Running>,
    pages: BTreeMap<u64, PageAsked>,
    last: u64,
    told_at: u64,
}

struct Attempt {
    backup: u64,
    purpose: Purpose,
    attempts: u32,
    began_at: u64,
    nodes: BTreeSet<ReplicaId>,
    held: BTreeMap<GroupId, (ReplicaId, Stand)>,
    /// When the positions were told, and what the nodes have said since.
    told_at: Option<u64>,
    kept: BTreeMap<ReplicaId, Vec<Kept>>,
}

/// A backup that is handed out.
struct Running {
    sources: BTreeMap<GroupId, Vec<ReplicaId>>,
    read_at: u64,
}

struct PageAsked {
    purpose: Purpose,
    asked: (u64, GroupId, Bytes),
    of: ReplicaId,
    until: u64,
}

impl Runner {
    /// Somebody asks for a backup.
    pub(crate) fn begin(&mut self, purpose: Purpose, now: u64, effects: &mut Effects) {
        let under_way = self.attempt.is_some() || self.waiting.is_some();
        if under_way || self.running.len() >= BACKUPS_MAX {
            let text = format!(
                "this node hands out {BACKUPS_MAX} backups at a time and begins one at a time: end \
                 one with DELETE, or try again in a minute"
            );
            effects.respond(&purpose, Problem::new(Code::Busy, text));
            return;
        }
        self.waiting = Some((purpose, 0, now));
    }

    pub(crate) fn is_idle(&self) -> bool {
        let waits = self.attempt.is_some() || self.waiting.is_some();
        !waits && self.running.is_empty() && self.pages.is_empty()
    }

    /// It is not read any more.
    pub(crate) fn end(&mut self, purpose: &Purpose, backup: u64, around: &mut Around<'_, '_>) {
        let Some(running) = self.running.remove(&backup) else {
            around.effects.respond(purpose, unknown(backup));
            return;
        };
        let me = around.conditions.me;
        for node in running.nodes() {
            send(me, node, BackupFrame::End { backup }, around.effects);
        }
        around.effects.respond(purpose, Response::bytes(200, Bytes::new()));
    }

    /// Time goes on.
    pub(crate) fn tick(&mut self, at: &ClusterSeen<'_>, around: &mut Around<'_, '_>) {
        let now = around.conditions.now.steady_micros;
        if self.attempt.is_none()
            && let Some((purpose, attempts, _)) = self.waiting.take_if(|(.., when)| *when <= now)
        {
            match at.ownerless(around) {
                // Nothing is to be had by holding the logs of the others.
                Some(why) => {
                    let next = now + HELD_MICROS_MAX + PAUSE_MICROS;
                    self.try_later(purpose, attempts + 1, next, why, around);
                }
                None => self.attempt(purpose, attempts, at, around),
            }
        }
        self.look(at, around);
        let me = around.conditions.me;
        let idle = |running: &Running| now.saturating_sub(running.read_at) > IDLE_MICROS_MAX;
        for (backup, running) in self.running.extract_if(.., |_, running| idle(running)) {
            for node in running.nodes() {
                send(me, node, BackupFrame::End { backup }, around.effects);
            }
        }
        if now.saturating_sub(self.told_at) > ALIVE_MICROS {
            self.told_at = now;
            for (backup, running) in &self.running {
                for node in running.nodes() {
                    let alive = BackupFrame::Alive { backup: *backup };
                    send(me, node, alive, around.effects);
                }
            }
        }
        self.ask_elsewhere(at, around);
    }

    fn attempt(
        &mut self,
        purpose: Purpose,
        attempts: u32,
        at: &ClusterSeen<'_>,
        around: &mut Around<'_, '_>,
    ) {
        let (me, now) = (around.conditions.me, around.conditions.now);
        // Another life of this node, or another node, never gives the same number.
        self.last += 1;
        let parts = [me.0, now.wall.0, self.last].map(u64::to_be_bytes);
        let backup = hash_parts(parts.iter().map(<[u8; 8]>::as_slice));
        for node in &at.up {
            send(me, *node, BackupFrame::Hold { backup }, around.effects);
        }
        self.attempt = Some(Attempt {
            backup,
            purpose,
            attempts: attempts + 1,
            began_at: now.steady_micros,
            nodes: at.up.clone(),
            held: BTreeMap::new(),
            told_at: None,
            kept: BTreeMap::new(),
        });
    }

    /// Another node, or this one, says something to the node that runs a backup.
    pub(crate) fn heard(
        &mut self,
        from: ReplicaId,
        frame: BackupFrame,
        at: &ClusterSeen<'_>,
        around: &mut Around<'_, '_>,
    ) {
        match frame {
            BackupFrame::Held { backup, groups } => {
                if let Some(attempt) = self.attempt.as_mut().filter(|it| it.backup == backup) {
                    for standing in groups {
                        attempt.take(from, standing);
                    }
                }
            }
            BackupFrame::Kept { backup, groups } => {
                if let Some(attempt) = self.attempt.as_mut().filter(|it| it.backup == backup) {
                    attempt.kept.insert(from, groups);
                }
            }
            BackupFrame::Busy { backup }
                if self.attempt.as_ref().is_some_and(|it| it.backup == backup) =>
            {
                let node = at.control.map.topology.node_id(from).unwrap_or("?").to_owned();
                let why = format!("node {node} takes part in other backups already");
                self.give_up(why, around);
            }
            BackupFrame::Page { number, page } => self.page_came(number, page, around.effects),
            _ => {}
        }
        self.look(at, around);
    }

    /// Whether the attempt has come further.
    fn look(&mut self, at: &ClusterSeen<'_>, around: &mut Around<'_, '_>) {
        let now = around.conditions.now.steady_micros;
        let Some(attempt) = &mut self.attempt else { return };
        let me = around.conditions.me;
        match attempt.told_at {
            None => match attempt.missing(at, around) {
                None => {
                    attempt.told_at = Some(now);
                    // An instance that is being deregistered may still be held by its owner.
                    let groups: BTreeSet<GroupId> = at.groups().collect();
                    attempt.held.retain(|group, _| groups.contains(group));
                    let cut =
                        || attempt.held.iter().map(|(id, (_, it))| (*id, it.position)).collect();
                    for node in &attempt.nodes {
                        let keep = BackupFrame::Keep { backup: attempt.backup, cut: cut() };
                        send(me, *node, keep, around.effects);
                    }
                }
                Some(why) if now.saturating_sub(attempt.began_at) > HELD_MICROS_MAX => {
                    self.give_up(why, around);
                }
                Some(_) => {}
            },
            Some(told_at) => {
                let took = now.saturating_sub(told_at);
                let all = attempt.nodes.iter().all(|node| attempt.kept.contains_key(node));
                match attempt.sources(&|group| at.name(group)) {
                    Ok(sources) if all || took > SPARE_MICROS_MAX => {
                        self.succeed(sources, at, around);
                    }
                    Err(why) if all || took > KEPT_MICROS_MAX => self.give_up(why, around),
                    _ => {}
                }
            }
        }
    }

    /// The logs go on, and it is tried again later, or said why not.
    fn give_up(&mut self, why: String, around: &mut Around<'_, '_>) {
        let Some(attempt) = self.attempt.take() else { return };
        attempt.release(true, around);
        let next = around.conditions.now.steady_micros + PAUSE_MICROS;
        self.try_later(attempt.purpose, attempt.attempts, next, why, around);
    }

    /// The next attempt comes at that time, unless there were too many.
    fn try_later(
        &mut self,
        purpose: Purpose,
        attempts: u32,
        next: u64,
        why: String,
        around: &mut Around<'_, '_>,
    ) {
        if attempts < ATTEMPTS_MAX {
            self.waiting = Some((purpose, attempts, next));
            return;
        }
        let text = format!(
            "a backup needs all groups at one moment, and after {ATTEMPTS_MAX} attempts that was not \
             to be had: {why}. Try again when it is there"
        );
        // Not `NO_OWNER`: who asks another node would have it all tried again there.
        around.effects.respond(&purpose, Problem::new(Code::Refused, text));
    }

    fn succeed(
        &mut self,
        sources: BTreeMap<GroupId, Vec<ReplicaId>>,
        at: &ClusterSeen<'_>,
        around: &mut Around<'_, '_>,
    ) {
        let Some(attempt) = self.attempt.take() else { return };
        attempt.release(false, around);
        let now = around.conditions.now;
        let me = around.conditions.me;
        // What is here is read here; the others need not keep it.
        let running = Running { sources, read_at: now.steady_micros }.with_own_first(me);
        let needed: BTreeSet<ReplicaId> = running.nodes().into_iter().collect();
        for node in attempt.nodes.difference(&needed) {
            send(me, *node, BackupFrame::End { backup: attempt.backup }, around.effects);
        }
        let topology = &at.control.map.topology;
        let groups: Vec<_> = attempt
            .held
            .values()
            .map(|(_, standing)| {
                let group = standing.group;
                let instance = topology.instance_of(group).map(|entry| entry.name.clone());
                json!({
                    "group": group.0,
                    "instance": instance,
                    "position": standing.position.0,
                    "term": standing.term.0,
                })
            })
            .collect();
        let body = json!({
            "backup": format!("{:016x}", attempt.backup),
            "cluster": topology.cluster().map(|id| format!("{id:016x}")),
            "node": at.node_id,
            "version": env!("CARGO_PKG_VERSION"),
            "format": super::page::PAGE_FORMAT,
            "atMicros": now.wall.0,
            "heldMicros": now.steady_micros.saturating_sub(attempt.began_at),
            "attempts": attempt.attempts,
            "partitions": topology.partitions(),
            "nodes": topology.members().values().map(|it| it.node_id.clone()).collect::<Vec<_>>(),
            "groups": groups,
        });
        around.effects.respond(&attempt.purpose, Response::json(201, &body));
        self.running.insert(attempt.backup, running);
    }

    // Pages.

    /// Somebody wants a page.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn page(
        &mut self,
        purpose: Purpose,
        (backup, group, after): (u64, GroupId, Bytes),
        keeper: &mut Keeper,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let (me, now) = (around.conditions.me, around.conditions.now.steady_micros);
        let Some(running) = self.running.get_mut(&backup) else {
            around.effects.respond(&purpose, unknown(backup));
            return Ok(());
        };
        running.read_at = now;
        match running.sources.get(&group).and_then(|nodes| nodes.first()) {
            None => around.effects.respond(&purpose, unknown(backup)),
            Some(node) if *node == me => {
                let page = keeper.page(backup, group, &after, around)?;
                answer(&purpose, backup, page, around.effects);
            }
            Some(_) if self.pages.len() >= PAGES_WAITING_MAX => {
                let text = format!("{PAGES_WAITING_MAX} pages of backups are waited for already");
                around.effects.respond(&purpose, Problem::new(Code::Busy, text));
            }
            Some(node) => {
                self.last += 1;
                let ask =
                    BackupFrame::Ask { backup, number: self.last, group, after: after.clone() };
                send(me, *node, ask, around.effects);
                let asked = (backup, group, after);
                let waits = PageAsked { purpose, asked, of: *node, until: now + PAGE_MICROS_MAX };
                self.pages.insert(self.last, waits);
            }
        }
        Ok(())
    }

    fn page_came(&mut self, number: u64, page: Option<Bytes>, effects: &mut Effects) {
        if let Some(PageAsked { purpose, asked, .. }) = self.pages.remove(&number) {
            answer(&purpose, asked.0, page, effects);
        }
    }

    /// Pages of nodes that are gone are asked for elsewhere.
    fn ask_elsewhere(&mut self, at: &ClusterSeen<'_>, around: &mut Around<'_, '_>) {
        let (me, now) = (around.conditions.me, around.conditions.now.steady_micros);
        let is_lost = |asked: &PageAsked| now > asked.until || !at.up.contains(&asked.of);
        let lost: Vec<_> = self.pages.extract_if(.., |_, asked| is_lost(asked)).collect();
        for (number, PageAsked { purpose, asked, of, .. }) in lost {
            let (backup, group, after) = asked;
            let nodes = self.running.get_mut(&backup).and_then(|it| it.sources.get_mut(&group));
            let next = nodes.and_then(|nodes| {
                nodes.retain(|node| *node != of);
                nodes.first().copied()
            });
            let Some(node) = next else {
                around.effects.respond(&purpose, unknown(backup));
                continue;
            };
            let ask = BackupFrame::Ask { backup, number, group, after: after.clone() };
            send(me, node, ask, around.effects);
            let (asked, until) = ((backup, group, after), now + PAGE_MICROS_MAX);
            self.pages.insert(number, PageAsked { purpose, asked, of: node, until });
        }
    }
}

fn answer(purpose: &Purpose, backup: u64, page: Option<Bytes>, effects: &mut Effects) {
    match page {
        Some(page) => effects.respond(purpose, Response::bytes(200, page)),
        None => effects.respond(purpose, unknown(backup)),
    }
}

/// Whoever reads this begins anew.
fn unknown(backup: u64) -> Problem {
    Problem::not_found(format!(
        "backup {backup:016x} is not kept here, or not any longer (a node that kept it is gone, or nobody \
         read it for a minute): begin a new one"
    ))
}

impl Running {
    /// The nodes that keep something of it which is read there.
    fn nodes(&self) -> Vec<ReplicaId> {
        let all: BTreeSet<ReplicaId> = self.sources.values().flatten().copied().collect();
        all.into_iter().collect()
    }

    fn with_own_first(mut self, me: ReplicaId) -> Self {
        for nodes in self.sources.values_mut() {
            if nodes.contains(&me) {
                *nodes = vec![me];
            }
        }
        self
    }
}

impl Attempt {
    /// An owner says where its log stands still.
    fn take(&mut self, from: ReplicaId, standing: Stand) {
        // The positions were told to all nodes: a later owner's would not be those.
        if self.told_at.is_some() {
            return;
        }
        let known = self.held.get(&standing.group);
        if known.is_none_or(|(_, known)| known.term < standing.term) {
            self.held.insert(standing.group, (from, standing));
        }
    }

    /// What does not stand still so far.
    fn missing(&self, at: &ClusterSeen<'_>, around: &Around<'_, '_>) -> Option<String> {
        if let Some(group) = at.groups().find(|group| !self.held.contains_key(group)) {
            let name = at.name(group);
            return Some(format!("no owner of {name} says that its log stands still"));
        }
        // An instance that was registered just now must not be missing.
        let (_, directory) = &self.held[&GroupId::DIRECTORY];
        let here = around.shard.directory.consensus.applied_position();
        (here != directory.position).then(|| "this node is behind in the directory".to_owned())
    }

    /// Who keeps what, if it is shown that the logs ended there at one moment.
    fn sources(
        &self,
        name: &dyn Fn(GroupId) -> String,
    ) -> Result<BTreeMap<GroupId, Vec<ReplicaId>>, String> {
        let mut sources = BTreeMap::new();
        for (group, (owner, standing)) in &self.held {
            let said = |node: &ReplicaId| {
                self.kept.get(node).and_then(|all| all.iter().find(|kept| kept.group == *group))
            };
            if !said(owner).is_some_and(|kept| kept.is_held && kept.term == standing.term) {
                return Err(format!("{} has got another owner just now", name(*group)));
            }
            let agrees = |node: &&ReplicaId| said(node).is_some_and(|it| it.term == standing.term);
            let is_shown = |set: &Vec<ReplicaId>| set.iter().filter(agrees).count() > set.len() / 2;
            if !standing.voters.iter().all(is_shown) {
                let name = name(*group);
                return Err(format!("no majority of the replicas of {name} confirms its owner"));
            }
            let mut nodes: Vec<ReplicaId> = self.kept.keys().copied().collect();
            nodes.retain(|node| said(node).is_some_and(|kept| kept.has_state));
            if nodes.is_empty() {
                return Err(format!("nobody keeps the state of {}", name(*group)));
            }
            sources.insert(*group, nodes);
        }
        Ok(sources)
    }

    /// The logs go on. What was kept in vain is not kept any longer.
    fn release(&self, in_vain: bool, around: &mut Around<'_, '_>) {
        let (me, backup) = (around.conditions.me, self.backup);
        for node in &self.nodes {
            send(me, *node, BackupFrame::Release { backup }, around.effects);
            if in_vain {
                send(me, *node, BackupFrame::End { backup }, around.effects);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Position, Term};

    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn standing(term: u64, position: u64) -> Stand {
        let voters = vec![(1..=3).map(ReplicaId).collect()];
        Stand { group: GROUP, term: Term(term), position: Position(position), voters }
    }

    fn kept(term: u64, is_held: bool, has_state: bool) -> Vec<Kept> {
        vec![Kept { group: GROUP, term: Term(term), is_held, has_state }]
    }

    fn attempt() -> Attempt {
        Attempt {
            backup: 1,
            purpose: Purpose::Own,
            attempts: 1,
            began_at: 0,
            nodes: (1..=3).map(ReplicaId).collect(),
            held: BTreeMap::new(),
            told_at: None,
            kept: BTreeMap::new(),
        }
    }

    fn why_not(attempt: &Attempt) -> String {
        attempt.sources(&name_of).expect_err("it is not shown that this was one moment")
    }

    #[test]
    fn the_newest_owner_counts_until_the_positions_are_told() {
        let mut attempt = attempt();
        attempt.take(ReplicaId(1), standing(4, 9));
        attempt.take(ReplicaId(2), standing(5, 10));
        attempt.take(ReplicaId(1), standing(4, 9));
        assert_eq!(attempt.held[&GROUP], (ReplicaId(2), standing(5, 10)));
        attempt.told_at = Some(0);
        attempt.take(ReplicaId(3), standing(6, 11));
        assert_eq!(attempt.held[&GROUP], (ReplicaId(2), standing(5, 10)), "10 was told");
    }

    #[test]
    fn a_moment_is_shown_by_an_unbroken_hold_and_a_majority_that_knows_of_no_later_term() {
        let mut attempt = attempt();
        attempt.take(ReplicaId(1), standing(4, 9));
        attempt.kept.insert(ReplicaId(2), kept(4, false, true));
        assert!(why_not(&attempt).contains("another owner"), "the owner has said nothing");
        attempt.kept.insert(ReplicaId(1), kept(4, false, true));
        assert!(why_not(&attempt).contains("another owner"), "it was not held all the time");
        attempt.kept.insert(ReplicaId(1), kept(4, true, true));
        let sources = attempt.sources(&name_of).expect("two of three know of no later term");
        assert_eq!(sources[&GROUP], [ReplicaId(1), ReplicaId(2)]);
        attempt.kept.insert(ReplicaId(2), kept(5, false, true));
        assert!(why_not(&attempt).contains("no majority"), "another was elected");
        attempt.kept.insert(ReplicaId(3), kept(4, false, false));
        let sources = attempt.sources(&name_of).expect("two of three, whoever they are");
        assert_eq!(sources[&GROUP], [ReplicaId(1), ReplicaId(2)], "the third has no state");
        attempt.kept.insert(ReplicaId(1), kept(5, true, true));
        assert!(why_not(&attempt).contains("another owner"), "it owns a later term");
    }
}
