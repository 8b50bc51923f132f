//! What was answered to which request, and when it is forgotten: in order of time, some at a time,
//! at positions that are the same on every replica.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use protocol::{Moment, Position, ReplicaId};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StoreError};

use crate::command::{AUTO_KEY_MINUTES, Recorded, RequestKey, USER_KEY_HOURS};
use crate::family;

/// Answers are forgotten whenever this many positions have gone by. Deletions in bulk cost one
/// scan, not one each.
const FORGET_EVERY: u64 = 64;

/// How many answers of each sort are forgotten at once: more than can come in between. A batch that
/// records more forgets as many.
const FORGET_MAX: usize = 256;

const MINUTE_MICROS: u64 = 60_000_000;
const HOUR_MICROS: u64 = 60 * MINUTE_MICROS;

/// Few answers at rest take more: a link, and numbers.
const STORED_BYTES: usize = 96;

/// An answer at rest.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    link: String,
    version: u64,
    status: u16,
    digest: u64,
    response: Option<Bytes>,
}

/// When answers are forgotten, and how many keys beside one are about to be recorded.
pub(crate) struct Due {
    pub(crate) position: Position,
    pub(crate) now: Moment,
    pub(crate) keys: usize,
}

/// Where the oldest answers are. Nothing is before these keys; a scan that began earlier would see
/// the same, only wade through what a store remembers of deleted keys.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    auto_from: Vec<u8>,
    user_from: Vec<u8>,
    /// The highest number that is recorded for each start of an edge. Edges count up, so a higher
    /// one is new, and nearly all are: the store is not asked. Looked up when it is first needed.
    highest: RefCell<BTreeMap<(ReplicaId, u64), u64>>,
}

/// More starts of edges than this are forgotten, and looked up again.
const STARTS_MAX: usize = 256;

impl Answers {
    /// Forgets what is older than it must be, if it is time. Before anything is recorded at that
    /// position: what is forgotten depends on the store and the command alone.
    pub(crate) fn forget(
        &mut self,
        store: &dyn Reader,
        space: Space,
        batch: &mut Batch,
        Due { position, now, keys }: Due,
    ) -> Result<(), StoreError> {
        if !position.0.is_multiple_of(FORGET_EVERY) && keys == 0 {
            return Ok(());
        }
        let most = FORGET_MAX.max(keys.saturating_add(1));
        let minute = (now.0 / MINUTE_MICROS).saturating_sub(u64::from(AUTO_KEY_MINUTES));
        let minute = u32::try_from(minute).unwrap_or(u32::MAX);
        let range = (self.auto_from.clone(), minute.to_be_bytes().to_vec());
        self.auto_from =
            forget_range(store, space, (family::AUTO_RECORD, most), range, &mut |rest| {
                batch.delete(space.key(family::AUTO_RECORD, rest));
            })?;
        // Whole minutes: a range that did not move since the last time costs no scan.
        let before = now.0.saturating_sub(USER_KEY_HOURS * HOUR_MICROS);
        let before = before - before % MINUTE_MICROS;
        let range = (self.user_from.clone(), before.to_be_bytes().to_vec());
        self.user_from =
            forget_range(store, space, (family::USER_RECORD_TIME, most), range, &mut |rest| {
                batch.delete(space.key(family::USER_RECORD_TIME, rest));
                // No key is recorded again while it is remembered: this is its answer's time.
                if let Some((_, key)) = family::split_time(rest) {
                    batch.delete(space.key(family::USER_RECORD, key.as_bytes()));
                }
            })?;
        Ok(())
    }

    pub(crate) fn record(
        &mut self,
        space: Space,
        batch: &mut Batch,
        key: &RequestKey,
        recorded: Recorded,
        now: Moment,
    ) {
        let Recorded { link, version, status, response, written, .. } = recorded;
        let (family, rest) = place(key);
        let digest = match key {
            RequestKey::Auto { edge, boot, number, .. } => {
                lower(&mut self.auto_from, &rest);
                if let Some(highest) = self.highest.get_mut().get_mut(&(*edge, *boot)) {
                    *highest = (*highest).max(*number);
                }
                0
            }
            RequestKey::User { key, digest } => {
                let time = family::time_rest(now.0, key);
                lower(&mut self.user_from, &time);
                batch.put(space.key(family::USER_RECORD_TIME, &time), []);
                *digest
            }
        };
        let stored = Stored { link, version, status, digest, response };
        let mut bytes = postcard::to_extend(&stored, Vec::with_capacity(STORED_BYTES))
            .expect("an answer is made of plain data, which can always be encoded");
        if let (RequestKey::User { .. }, Some(written)) = (key, written) {
            bytes.extend_from_slice(&written.0.to_be_bytes());
        }
        batch.put(space.key(family, &rest), bytes);
    }

    pub(crate) fn recorded(
        &self,
        store: &dyn Reader,
        space: Space,
        key: &RequestKey,
    ) -> Result<Option<Recorded>, StoreError> {
        if let RequestKey::Auto { edge, boot, number, .. } = key
            && *number > self.highest(store, space, *edge, *boot)?
        {
            return Ok(None);
        }
        recorded(store, space, key)
    }

    fn highest(
        &self,
        store: &dyn Reader,
        space: Space,
        edge: ReplicaId,
        boot: u64,
    ) -> Result<u64, StoreError> {
        let mut known = self.highest.borrow_mut();
        if let Some(highest) = known.get(&(edge, boot)) {
            return Ok(*highest);
        }
        if known.len() >= STARTS_MAX {
            known.clear();
        }
        let highest = highest_in_store(store, space, edge, boot)?;
        known.insert((edge, boot), highest);
        Ok(highest)
    }
}

/// Answers lie in the order of their minutes: for each minute, from the last one back, the last of
/// that start of that edge.
fn highest_in_store(
    store: &dyn Reader,
    space: Space,
    edge: ReplicaId,
    boot: u64,
) -> Result<u64, StoreError> {
    let (first, mut to) = space.range(family::AUTO_RECORD);
    let mut highest = 0;
    while let Some(last) = last_in(store, space, &first, &to)? {
        let Some(minute) = last.first_chunk::<4>().map(|minute| u32::from_be_bytes(*minute)) else {
            break;
        };
        let end = |number| place(&RequestKey::Auto { edge, boot, number, minute }).1;
        let from = space.key(family::AUTO_RECORD, &end(0));
        // Numbers do not get near their end, so what ends there leaves none out.
        let past = space.key(family::AUTO_RECORD, &end(u64::MAX));
        let found = last_in(store, space, &from, &past)?;
        highest = highest.max(found.as_deref().and_then(number_of).unwrap_or(0));
        to = space.key(family::AUTO_RECORD, &minute.to_be_bytes());
    }
    Ok(highest)
}

/// The last part of the rest of an `AUTO_RECORD` key.
fn number_of(rest: &[u8]) -> Option<u64> {
    let (_minute, mut rest) = rest.split_first_chunk::<4>()?;
    family::take_number(&mut rest)?;
    family::take_number(&mut rest)?;
    family::take_number(&mut rest)
}

/// The rest of the last key in a range.
fn last_in(
    store: &dyn Reader,
    space: Space,
    from: &[u8],
    to: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut last = None;
    store.scan(from, to, true, &mut |key, _| {
        last = Some(space.rest(key).to_vec());
        ControlFlow::Break(())
    })?;
    Ok(last)
}

fn recorded(
    store: &dyn Reader,
    space: Space,
    key: &RequestKey,
) -> Result<Option<Recorded>, StoreError> {
    let (family, rest) = place(key);
    let stored = stored(store, space, family, &rest)?;
    Ok(stored.map(|(stored, written)| {
        let Stored { link, version, status, digest, response } = stored;
        Recorded { link, version, status, digest, response, written }
    }))
}

fn stored(
    store: &dyn Reader,
    space: Space,
    family: u8,
    rest: &[u8],
) -> Result<Option<(Stored, Option<Moment>)>, StoreError> {
    let Some(bytes) = store.get(&space.key(family, rest))? else { return Ok(None) };
    let (stored, rest) = postcard::take_from_bytes(&bytes).map_err(|error| {
        StoreError::failed(format!("a recorded answer cannot be read: {error}"))
    })?;
    // Only those with a user's key, of builds since 2026-11-30, have a time behind them.
    let written = rest.try_into().ok().map(|time| Moment(u64::from_be_bytes(time)));
    Ok(Some((stored, written)))
}

/// Family and rest of the key under which the answer lies.
fn place(key: &RequestKey) -> (u8, Vec<u8>) {
    match key {
        RequestKey::Auto { edge, boot, number, minute } => {
            let mut rest = Vec::with_capacity(16);
            rest.extend_from_slice(&minute.to_be_bytes());
            for number in [edge.0, *boot, *number] {
                family::put_number(&mut rest, number);
            }
            (family::AUTO_RECORD, rest)
        }
        RequestKey::User { key, .. } => (family::USER_RECORD, key.as_bytes().to_vec()),
    }
}

/// Visits up to `most` keys of a range; gives back where the next visit may begin.
fn forget_range(
    store: &dyn Reader,
    space: Space,
    (family, most): (u8, usize),
    (from, to): (Vec<u8>, Vec<u8>),
    forget: &mut dyn FnMut(&[u8]),
) -> Result<Vec<u8>, StoreError> {
    if from >= to {
        return Ok(from);
    }
    let mut rests: Vec<Vec<u8>> = Vec::new();
    store.scan(&space.key(family, &from), &space.key(family, &to), false, &mut |key, _| {
        rests.push(space.rest(key).to_vec());
        if rests.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for rest in &rests {
        forget(rest);
    }
    Ok(match rests.pop() {
        Some(last) if rests.len() + 1 == most => last,
        _ => to,
    })
}

fn lower(from: &mut Vec<u8>, rest: &[u8]) {
    if rest < from.as_slice() {
        *from = rest.to_vec();
    }
}
