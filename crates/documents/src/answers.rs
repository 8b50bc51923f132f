//! What was answered to which request, and when it is forgotten: in order of time, some at a time,
//! at positions that are the same on every replica.

use std::ops::ControlFlow;

use bytes::Bytes;
use protocol::{Moment, Position};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StoreError};

use crate::command::{AUTO_KEY_MINUTES, Recorded, RequestKey, USER_KEY_HOURS};
use crate::family;

/// Answers are forgotten at every so many positions. Deletions in bulk cost one scan, not one each.
const FORGET_EVERY: u64 = 64;

/// How many answers of each sort are forgotten at once: more than can come in between.
const FORGET_MAX: usize = 256;

const MINUTE_MICROS: u64 = 60_000_000;
const HOUR_MICROS: u64 = 60 * MINUTE_MICROS;

/// An answer at rest.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    link: String,
    version: u64,
    status: u16,
    digest: u64,
    response: Option<Bytes>,
}

/// Where the oldest answers are. Nothing is before these keys; a scan that began earlier would see
/// the same, only wade through what a store remembers of deleted keys.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    auto_from: Vec<u8>,
    user_from: Vec<u8>,
}

impl Answers {
    /// Forgets what is older than it must be, if it is time. Before anything is recorded at that
    /// position: what is forgotten depends on the store and the command alone.
    pub(crate) fn forget(
        &mut self,
        store: &dyn Reader,
        space: Space,
        batch: &mut Batch,
        position: Position,
        now: Moment,
    ) -> Result<(), StoreError> {
        if !position.0.is_multiple_of(FORGET_EVERY) {
            return Ok(());
        }
        let minute = (now.0 / MINUTE_MICROS).saturating_sub(u64::from(AUTO_KEY_MINUTES));
        let minute = u32::try_from(minute).unwrap_or(u32::MAX);
        let range = (self.auto_from.clone(), minute.to_be_bytes().to_vec());
        self.auto_from = forget_range(store, space, family::AUTO_RECORD, range, &mut |rest| {
            batch.delete(space.key(family::AUTO_RECORD, rest));
        })?;
        let before = now.0.saturating_sub(USER_KEY_HOURS * HOUR_MICROS);
        let range = (self.user_from.clone(), before.to_be_bytes().to_vec());
        self.user_from =
            forget_range(store, space, family::USER_RECORD_TIME, range, &mut |rest| {
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
        let Recorded { link, version, status, response, .. } = recorded;
        let (family, rest) = place(key);
        let digest = match key {
            RequestKey::Auto { .. } => {
                lower(&mut self.auto_from, &rest);
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
        let bytes = postcard::to_stdvec(&stored)
            .expect("an answer is made of plain data, which can always be encoded");
        batch.put(space.key(family, &rest), bytes);
    }
}

pub(crate) fn recorded(
    store: &dyn Reader,
    space: Space,
    key: &RequestKey,
) -> Result<Option<Recorded>, StoreError> {
    let (family, rest) = place(key);
    let stored = stored(store, space, family, &rest)?;
    Ok(stored.map(|Stored { link, version, status, digest, response, .. }| Recorded {
        link,
        version,
        status,
        digest,
        response,
    }))
}

fn stored(
    store: &dyn Reader,
    space: Space,
    family: u8,
    rest: &[u8],
) -> Result<Option<Stored>, StoreError> {
    let Some(bytes) = store.get(&space.key(family, rest))? else { return Ok(None) };
    postcard::from_bytes(&bytes)
        .map(Some)
        .map_err(|error| StoreError(format!("a recorded answer cannot be read: {error}")))
}

/// Family and rest of the key under which the answer lies.
fn place(key: &RequestKey) -> (u8, Vec<u8>) {
    match key {
        RequestKey::Auto { edge, boot, number, minute } => {
            let mut rest = Vec::with_capacity(28);
            rest.extend_from_slice(&minute.to_be_bytes());
            rest.extend_from_slice(&edge.0.to_be_bytes());
            rest.extend_from_slice(&boot.to_be_bytes());
            rest.extend_from_slice(&number.to_be_bytes());
            (family::AUTO_RECORD, rest)
        }
        RequestKey::User { key, .. } => (family::USER_RECORD, key.as_bytes().to_vec()),
    }
}

/// Visits up to `FORGET_MAX` keys of a range; gives back where the next visit may begin.
fn forget_range(
    store: &dyn Reader,
    space: Space,
    family: u8,
    (from, to): (Vec<u8>, Vec<u8>),
    forget: &mut dyn FnMut(&[u8]),
) -> Result<Vec<u8>, StoreError> {
    if from >= to {
        return Ok(from);
    }
    let mut rests: Vec<Vec<u8>> = Vec::new();
    store.scan(&space.key(family, &from), &space.key(family, &to), false, &mut |key, _| {
        rests.push(space.rest(key).to_vec());
        if rests.len() < FORGET_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for rest in &rests {
        forget(rest);
    }
    Ok(match rests.pop() {
        Some(last) if rests.len() + 1 == FORGET_MAX => last,
        _ => to,
    })
}

fn lower(from: &mut Vec<u8>, rest: &[u8]) {
    if rest < from.as_slice() {
        *from = rest.to_vec();
    }
}
