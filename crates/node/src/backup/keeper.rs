//! The part of every node in a backup: the logs that it owns stand still for a moment, and it keeps
//! what it has then.
//!
//! A node that is told to hold lets nothing more into the logs that it owns, and says where they
//! stand when all that is in them is applied. When it is told the positions of all logs, it keeps a
//! view of its store as soon as its replicas stand there. Then the logs go on. What it keeps is
//! read page by page.
//!
//! **Invariant:** a hold ends after [`HOLD_MICROS_MAX`], whoever has died.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{Reader, Space, StoreError};

use super::page::{Block, Cursor, Head, PAGE_BYTES, Page, logged};
use super::words::{BackupFrame, Kept, Stand};
use crate::shard::{Conditions, Shard};
use crate::work::{Effects, Work};

/// How long the logs of a node stand still at most, in microseconds.
const HOLD_MICROS_MAX: u64 = 1_000_000;

/// How long a node waits for its replicas to reach the positions, in microseconds. Then it keeps
/// those that have.
const LEVEL_MICROS_MAX: u64 = 100_000;

/// How many backups a node keeps at a time. It takes no part in one more.
const BACKUPS_KEPT_MAX: usize = 2;

/// A backup that nobody reads for this long, in microseconds, is not kept any longer.
pub(crate) const IDLE_MICROS_MAX: u64 = 60_000_000;

/// What the keeper works with, lent for one step.
pub(crate) struct Around<'a, 'b> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) conditions: &'a Conditions<'b>,
    pub(crate) effects: &'a mut Effects,
}

/// The backups that this node takes part in.
#[derive(Default)]
pub(crate) struct Keeper {
    hold: Option<Hold>,
    kept: BTreeMap<u64, KeptState>,
}

/// While logs stand still.
struct Hold {
    backup: u64,
    runner: ReplicaId,
    since: u64,
    /// The groups that are owned here, with the leader's term and number.
    groups: BTreeMap<GroupId, (Term, u64)>,
    has_said: bool,
    /// The positions of all logs, since when they are known here.
    cut: Option<(BTreeMap<GroupId, Position>, u64)>,
}

/// What is kept of one moment.
struct KeptState {
    store: Box<dyn Reader + Send>,
    groups: BTreeMap<GroupId, (Space, Head)>,
    runner: ReplicaId,
    read_at: u64,
}

/// Brings a frame to another node, or to this one.
pub(super) fn send(me: ReplicaId, to: ReplicaId, frame: BackupFrame, effects: &mut Effects) {
    if to == me {
        effects.push(Work::Backup(me, Box::new(frame)));
    } else {
        effects.outbox.send(to, crate::frame::Frame::Backup(Box::new(frame)));
    }
}

impl Keeper {
    /// The groups whose logs are read for a backup, and so are not cut.
    pub(crate) fn has_use_for(&self, group: GroupId) -> bool {
        group.is_instance() && self.kept.values().any(|view| view.groups.contains_key(&group))
    }

    /// The node that runs a backup says something.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn heard(
        &mut self,
        from: ReplicaId,
        frame: BackupFrame,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        let now = around.conditions.now.steady_micros;
        match frame {
            BackupFrame::Hold { backup } => self.begin(from, backup, around)?,
            BackupFrame::Keep { backup, cut } => {
                if let Some(hold) = self.hold.as_mut().filter(|hold| hold.backup == backup) {
                    hold.cut = Some((cut.into_iter().collect(), now));
                }
            }
            BackupFrame::Release { backup }
                if self.hold.as_ref().is_some_and(|hold| hold.backup == backup) =>
            {
                self.let_go(around)?;
            }
            BackupFrame::Alive { backup } => {
                if let Some(view) = self.kept.get_mut(&backup) {
                    view.read_at = now;
                }
            }
            BackupFrame::End { backup } => {
                self.kept.remove(&backup);
            }
            BackupFrame::Ask { backup, number, group, after } => {
                let page = self.page(backup, group, &after, around)?;
                send(
                    around.conditions.me,
                    from,
                    BackupFrame::Page { number, page },
                    around.effects,
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        runner: ReplicaId,
        backup: u64,
        around: &mut Around<'_, '_>,
    ) -> Result<(), StoreError> {
        // Its last attempt has ended, and the news of that was lost.
        if self.hold.as_ref().is_some_and(|hold| hold.runner == runner) {
            self.let_go(around)?;
        }
        if self.hold.is_some() || self.kept.len() >= BACKUPS_KEPT_MAX {
            send(around.conditions.me, runner, BackupFrame::Busy { backup }, around.effects);
            return Ok(());
        }
        self.hold = Some(Hold {
            backup,
            runner,
            since: around.conditions.now.steady_micros,
            groups: BTreeMap::new(),
            has_said: false,
            cut: None,
        });
        Ok(())
    }

    /// Looks at the logs again, after each step and each tick.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn go_on(&mut self, around: &mut Around<'_, '_>) -> Result<(), StoreError> {
        let now = around.conditions.now.steady_micros;
        let Some(hold) = &mut self.hold else { return Ok(()) };
        if now.saturating_sub(hold.since) > HOLD_MICROS_MAX {
            return self.let_go(around);
        }
        if !hold.has_said {
            hold.has_said = hold.say_if_still(around);
        }
        let Some((cut, told_at)) = &hold.cut else { return Ok(()) };
        let is_level = |(group, position): (&GroupId, &Position)| {
            let replica = around.shard.get(*group);
            replica.is_none_or(|replica| replica.consensus().applied_position() == *position)
        };
        if cut.iter().all(is_level) || now.saturating_sub(*told_at) > LEVEL_MICROS_MAX {
            self.keep(around)?;
        }
        Ok(())
    }

    /// Time goes on. What nobody reads is not kept any longer, nor what a node asked for that is
    /// gone: who reads it begins anew at another one.
    pub(crate) fn tick(&mut self, now: u64, is_up: &dyn Fn(ReplicaId) -> bool) {
        self.kept.retain(|_, view| {
            now.saturating_sub(view.read_at) <= IDLE_MICROS_MAX && is_up(view.runner)
        });
    }

    /// Keeps the state of the replicas that stand where they should, and says which.
    fn keep(&mut self, around: &mut Around<'_, '_>) -> Result<(), StoreError> {
        let Some(hold) = &mut self.hold else { return Ok(()) };
        let Some((cut, _)) = hold.cut.take() else { return Ok(()) };
        let (mut said, mut groups) = (Vec::new(), BTreeMap::new());
        for (group, position) in cut {
            let Some(replica) = around.shard.get(group) else { continue };
            let term = replica.consensus().term();
            let is_there = replica.consensus().applied_position() == position;
            // A change of members goes into a log that is held, and comes to rest there as well.
            let is_held = is_there && hold.still_holds(group, around.shard);
            let has_state = is_there && !around.shard.is_astray(group);
            if has_state {
                let (space, head) =
                    around.shard.head_for_backup(group, around.conditions, around.effects)?;
                groups.insert(group, (space, head));
            }
            said.push(Kept { group, term, is_held, has_state });
        }
        let read_at = around.conditions.now.steady_micros;
        // After the heads: an instance writes its base only then.
        let store = around.shard.store.view();
        let runner = hold.runner;
        self.kept.insert(hold.backup, KeptState { store, groups, runner, read_at });
        let frame = BackupFrame::Kept { backup: hold.backup, groups: said };
        send(around.conditions.me, hold.runner, frame, around.effects);
        Ok(())
    }

    fn let_go(&mut self, around: &mut Around<'_, '_>) -> Result<(), StoreError> {
        let Some(hold) = self.hold.take() else { return Ok(()) };
        for group in hold.groups.into_keys() {
            around.shard.let_go(group, around.conditions, around.effects)?;
        }
        Ok(())
    }

    /// A page of what is kept here, if it is.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn page(
        &mut self,
        backup: u64,
        group: GroupId,
        after: &[u8],
        around: &Around<'_, '_>,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(view) = self.kept.get_mut(&backup) else { return Ok(None) };
        view.read_at = around.conditions.now.steady_micros;
        let Some((space, head)) = view.groups.get(&group) else { return Ok(None) };
        let base = head.applied.0;
        let page = match Cursor::decode(after) {
            Some(Cursor::Head) => {
                let next = Cursor::State(base, Vec::new()).encode();
                Some(Page { block: Block::Head(*head), next })
            }
            Some(Cursor::State(of, key)) if of == base => {
                let chunk = space.export(&*view.store, &key, PAGE_BYTES)?;
                Some(Page::of_state(chunk, base, head.position.0))
            }
            Some(Cursor::Entries(of, behind)) if of == base => entries(around.shard, head, behind)
                .map(|(entries, next)| Page {
                    block: Block::Entries(entries),
                    next: next.map(|at| Cursor::Entries(base, at).encode()).unwrap_or_default(),
                }),
            _ => None,
        };
        Ok(page.map(|page| page.encode()))
    }
}

type Entries = Vec<(Position, Term, Bytes)>;

/// What was logged behind a position and belongs to the backup, and where to go on. None when the
/// log cannot be read there.
fn entries(shard: &Shard, head: &Head, behind: Position) -> Option<(Entries, Option<Position>)> {
    let consensus = shard.get(head.group)?.consensus();
    let found = consensus.all_applied_after(behind, PAGE_BYTES);
    if found.first()?.position != behind.next() {
        return None;
    }
    let end = head.position.0;
    let within = found.into_iter().filter(|entry| entry.position <= end);
    let entries: Entries = within.map(logged).collect();
    let last = entries.last()?.0;
    Some((entries, (last < end).then_some(last)))
}

impl Hold {
    /// True when the logs that are owned here stand still, which was said then.
    fn say_if_still(&mut self, around: &mut Around<'_, '_>) -> bool {
        let Around { shard, conditions, effects } = around;
        let mut stand_still = true;
        let mut standings = Vec::new();
        self.groups.retain(|group, _| shard.is_serving(*group));
        for group in shard.served() {
            if !self.groups.contains_key(&group) && !shard.hold(group) {
                continue;
            }
            let replica = shard.get(group).expect("it is served here");
            let serving = replica.serving().expect("it is served here");
            self.groups.insert(group, serving);
            stand_still &= replica.stands_still();
            let members = replica.consensus().members();
            let voters = [members.voters.clone(), members.outgoing.clone()];
            standings.push(Stand {
                group,
                term: serving.0,
                position: replica.consensus().applied_position(),
                voters: voters.into_iter().filter(|set| !set.is_empty()).collect(),
            });
        }
        if stand_still {
            let frame = BackupFrame::Held { backup: self.backup, groups: standings };
            send(conditions.me, self.runner, frame, effects);
        }
        stand_still
    }

    /// Whether the log has stood still since that was said.
    fn still_holds(&self, group: GroupId, shard: &Shard) -> bool {
        let Some((_, opening)) = self.groups.get(&group) else { return false };
        let stands = shard.get(group).is_some_and(crate::hosted::AnyReplica::stands_still);
        stands && shard.is_serving_opening(group, *opening)
    }
}
