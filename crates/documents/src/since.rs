//! Changes that are not in memory any more, found in what the store has: each version says where in
//! the log it was written. In order for each document, not for all together.
//!
//! What retention has taken away cannot be told any more, nor what went without a tombstone. Both
//! are said.

use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{Document, Moment, Position};
use storage::{Reader, StoreError};

use crate::changes::{Change, Place};
use crate::family;
use crate::partition::Partition;
use crate::record::Record;

/// How many documents one call looks at.
const HEADS_MAX: usize = 500;

/// When it has read this many bytes of them, it looks at no more: each comes with its state.
pub(crate) const HEADS_BYTES_MAX: usize = 256 << 10;

/// What somebody has missed.
#[derive(Clone, Debug)]
pub struct Since<'a> {
    /// The link of one document, or what the links of all begin with.
    pub prefix: &'a str,
    pub is_one: bool,
    /// All up to here is known already.
    pub from: Position,
    /// What comes later is of no interest.
    pub until: Position,
    /// Only the documents as they are, whenever they were written; without those whose time has
    /// come at that moment, or that were deleted before `from`.
    pub latest_at: Option<Moment>,
    /// Where the last call ended.
    pub after: Option<Cursor>,
    /// When the changes have this many bytes, the others are left for the next call.
    pub bytes_max: usize,
}

/// Where a call has ended: at this version of this document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub link: String,
    pub version: u64,
}

/// A change that was missed.
#[derive(Clone, Debug)]
pub struct Missed {
    pub change: Change,
    /// There may have been more of the same document before it, which are not kept.
    pub is_after_gap: bool,
}

/// What a call has found.
#[derive(Clone, Debug, Default)]
pub struct Caught {
    pub changes: Vec<Missed>,
    /// A version may be missing, and none of these changes says so: it is not behind a gap.
    pub is_broken: bool,
    /// Where the next call goes on; `None` when all was looked at.
    pub next: Option<Cursor>,
}

/// A version with its place.
struct Version {
    document: Arc<Document>,
    position: Position,
}

/// What is known of a document before its versions are read.
struct Head {
    link: String,
    oldest: u64,
    latest: u64,
}

impl Partition {
    /// Whether documents of such a factory have gone after that position without leaving a
    /// tombstone, so that nothing tells which.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn some_have_gone(
        &self,
        store: &dyn Reader,
        is_meant: &dyn Fn(&str) -> bool,
        after: Position,
    ) -> Result<bool, StoreError> {
        let (mut is_one, mut is_broken) = (false, false);
        let (from, to) = self.space.range(family::GONE);
        store.scan(&from, &to, false, &mut |key, value| {
            if is_meant(&String::from_utf8_lossy(self.space.rest(key))) {
                match value.try_into().map(u64::from_be_bytes) {
                    Ok(gone) => is_one |= gone > after.0,
                    Err(_) => is_broken = true,
                }
            }
            ControlFlow::Continue(())
        })?;
        match is_broken {
            false => Ok(is_one),
            true => Err(StoreError::failed("the position of what has gone is broken")),
        }
    }

    /// # Errors
    /// When the store cannot be read.
    pub fn since(&self, store: &dyn Reader, asked: &Since<'_>) -> Result<Caught, StoreError> {
        let (heads, next) = self.heads_since(store, asked)?;
        let mut caught = Caught { next, ..Caught::default() };
        let mut bytes = 0;
        for head in heads {
            let cut = match asked.latest_at {
                Some(_) => {
                    bytes += self.take_latest(store, &head, asked, &mut caught)?;
                    false
                }
                None => self.take_versions(store, &head, asked, &mut caught, &mut bytes)?,
            };
            if cut || bytes >= asked.bytes_max {
                let version = if cut { last_version(&caught, &head) } else { u64::MAX };
                caught.next = Some(Cursor { link: head.link, version });
                break;
            }
        }
        Ok(caught)
    }

    /// The documents that have something to tell, and where the search for more goes on.
    fn heads_since(
        &self,
        store: &dyn Reader,
        asked: &Since<'_>,
    ) -> Result<(Vec<Head>, Option<Cursor>), StoreError> {
        let (mut from, mut to) = self.space.range_of(family::HEAD, asked.prefix.as_bytes());
        if asked.is_one {
            to = self.space.key(family::HEAD, format!("{}\0", asked.prefix).as_bytes());
        }
        if let Some(cursor) = &asked.after {
            // All of that document is told, or not.
            let first = match cursor.version {
                u64::MAX => format!("{}\0", cursor.link),
                _ => cursor.link.clone(),
            };
            from = self.space.key(family::HEAD, first.as_bytes());
        }
        let (mut heads, mut next, mut broken) = (Vec::new(), None, None);
        let (mut looked, mut bytes) = (0, 0);
        store.scan(&from, &to, false, &mut |key, value| {
            let link = String::from_utf8_lossy(self.space.rest(key)).into_owned();
            let record = match Record::decode(value, &self.names) {
                Ok(record) => record,
                Err(error) => {
                    broken = Some(error);
                    return ControlFlow::Break(());
                }
            };
            looked += 1;
            bytes += value.len();
            if record.position > asked.from || asked.latest_at.is_some() {
                let (oldest, latest) = (record.oldest, record.version);
                heads.push(Head { link: link.clone(), oldest, latest });
            }
            if looked < HEADS_MAX && bytes < HEADS_BYTES_MAX {
                return ControlFlow::Continue(());
            }
            next = Some(Cursor { link, version: u64::MAX });
            ControlFlow::Break(())
        })?;
        broken.map_or(Ok((heads, next)), Err)
    }

    /// The last version up to the end of what is asked for; a later one comes with what follows.
    fn take_latest(
        &self,
        store: &dyn Reader,
        head: &Head,
        asked: &Since<'_>,
        caught: &mut Caught,
    ) -> Result<usize, StoreError> {
        let latest = self.kept(store, &head.link, head.latest)?;
        let mut bytes = latest.as_ref().map_or(0, |latest| latest.document.body.len());
        let found = match latest {
            Some(latest) if latest.position > asked.until => {
                let (later, _) = self.first_since(store, head, asked.until)?;
                let version = later.checked_sub(1).filter(|version| *version >= head.oldest);
                version.map_or(Ok(None), |version| self.kept(store, &head.link, version))?
            }
            latest => latest,
        };
        let Some(Version { document, position }) = found else { return Ok(bytes) };
        bytes += document.body.len();
        let is_expired = asked.latest_at.is_some_and(|at| document.is_expired(at));
        // Who was away may still think that a document is there.
        let is_news = position > asked.from;
        let is_there = if document.is_deleted() { is_news } else { !is_expired };
        if is_there {
            let place = Place { position, taken: 1 };
            let change = Change { place, before: None, after: Some(document) };
            caught.changes.push(Missed { change, is_after_gap: false });
        }
        Ok(bytes)
    }

    /// True when there are more versions than there is room for.
    fn take_versions(
        &self,
        store: &dyn Reader,
        head: &Head,
        asked: &Since<'_>,
        caught: &mut Caught,
        bytes: &mut usize,
    ) -> Result<bool, StoreError> {
        let goes_on = asked.after.as_ref().filter(|after| after.link == head.link);
        let (first, mut is_after_gap) = match goes_on.map(|after| after.version.saturating_add(1)) {
            // What comes behind a version that was found is later still.
            Some(next) => (next.max(head.oldest), head.oldest > next),
            None => self.first_since(store, head, asked.from)?,
        };
        let mut before = match first.checked_sub(1) {
            Some(version) => {
                let before = self.kept(store, &head.link, version)?.map(|it| it.document);
                // What it was before is not known any more.
                caught.is_broken |= before.is_none() && !is_after_gap;
                before
            }
            None => None,
        };
        for version in first..=head.latest {
            let Some(found) = self.kept(store, &head.link, version)? else {
                is_after_gap = true;
                continue;
            };
            let Version { document, position } = found;
            if position > asked.until {
                // There may have been a version up to there that is not kept.
                caught.is_broken |= is_after_gap;
                return Ok(false);
            }
            if *bytes >= asked.bytes_max {
                return Ok(true);
            }
            *bytes += document.body.len();
            let place = Place { position, taken: 1 };
            let change = Change { place, before, after: Some(Arc::clone(&document)) };
            caught.changes.push(Missed { change, is_after_gap });
            (before, is_after_gap) = (Some(document), false);
        }
        Ok(false)
    }

    /// The first version that was written after a position, and whether there may have been others
    /// before it that are not kept.
    fn first_since(
        &self,
        store: &dyn Reader,
        head: &Head,
        from: Position,
    ) -> Result<(u64, bool), StoreError> {
        if let Some(found) = self.halve(store, head, from)? {
            return Ok(found);
        }
        let key =
            |version| self.space.key(family::VERSION, &family::version_rest(&head.link, version));
        let (mut first, mut is_found, mut broken) = (head.latest, false, None);
        store.scan(&key(head.oldest), &key(head.latest), true, &mut |_, value| {
            match Record::decode(value, &self.names) {
                Ok(record) if record.position > from => first = record.version,
                Ok(_) => is_found = true,
                Err(error) => broken = Some(error),
            }
            if is_found || broken.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        broken.map_or(Ok((first, !is_found && first > 0)), Err)
    }

    /// The same, found by halving, as each version comes later in the log than the one before it;
    /// `None` when one that was looked for is not there, so that all must be looked at.
    fn halve(
        &self,
        store: &dyn Reader,
        head: &Head,
        from: Position,
    ) -> Result<Option<(u64, bool)>, StoreError> {
        let (mut low, mut high) = (head.oldest, head.latest);
        while low < high {
            let middle = low + (high - low) / 2;
            let rest = family::version_rest(&head.link, middle);
            let Some(bytes) = store.get(&self.space.key(family::VERSION, &rest))? else {
                return Ok(None);
            };
            match Record::decode(&bytes, &self.names)?.position > from {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Ok(Some((high, high == head.oldest && high > 0)))
    }

    /// A version that is kept.
    fn kept(
        &self,
        store: &dyn Reader,
        link: &str,
        version: u64,
    ) -> Result<Option<Version>, StoreError> {
        let Some(head) = self.head(store, link)? else { return Ok(None) };
        if version == head.document.version {
            let (document, position) = (head.document, head.position);
            return Ok(Some(Version { document, position }));
        }
        let key = self.space.key(family::VERSION, &family::version_rest(link, version));
        let Some(bytes) = store.get(&key)? else { return Ok(None) };
        let record = Record::decode(&bytes, &self.names)?;
        let (document, position) = (Arc::new(record.to_document(link)), record.position);
        Ok(Some(Version { document, position }))
    }
}

/// The last version of a document that was taken.
fn last_version(caught: &Caught, head: &Head) -> u64 {
    let last = caught.changes.last().and_then(|missed| missed.change.after.as_ref());
    match last.filter(|last| last.link == head.link) {
        Some(last) => last.version,
        // Nothing of it was taken so far: the next call begins with the document before it.
        None => u64::MAX,
    }
}
