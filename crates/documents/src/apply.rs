//! Applying the commands of the log. What is written depends on the store and the command alone,
//! so that it is the same on every replica; only the marks for the index are each replica's own.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{BATCH_LINK, Document, Moment, Position, RequestKey, Source, Term, links};
use storage::{Applied, Batch, Reader, StateStore, StoreError};

use crate::answers::Due;
use crate::cache::Head;
use crate::command::{self, AppliedCommand, BatchHead, Command, Noted, Recorded, Remember, Write};
use crate::family;
use crate::partition::Partition;
use crate::record::Record;

/// How many retained versions one write may remove. If a retention limit is lowered, the history
/// shrinks to it by and by.
const RETENTION_REMOVED_MAX: u64 = 1024;

/// How many retained versions a purge may remove at once. With more of them the document becomes
/// a tombstone that is due, and goes with the next `Command::Expire`.
const PURGE_REMOVED_MAX: u64 = 1024;

/// How many documents, and how many of their versions, one `Command::Expire` may remove. What is
/// left is still due and goes with the next one.
const EXPIRED_LINKS_MAX: usize = 1024;
const EXPIRED_VERSIONS_MAX: u64 = 4096;

impl Partition {
    /// Applies an entry. Deterministic: the same on every replica. Writes its one batch itself,
    /// together with `applied`, whatever the outcome is.
    ///
    /// # Errors
    /// When the store fails, or the command is of a later format: the node cannot go on.
    pub fn apply(
        &mut self,
        store: &mut dyn StateStore,
        applied: Applied,
        command: &[u8],
    ) -> Result<AppliedCommand, StoreError> {
        // Where in the log it is written, as it is noted at rest; 0 for nowhere.
        let place = if Command::is_placed(command) { applied.position } else { Position(0) };
        let command =
            Command::decode(command).map_err(|problem| StoreError::failed(problem.message))?;
        let mut batch = Batch::new();
        self.changes.entry(applied.position);
        if let Some(now) = time_of(&command) {
            let due = Due { position: applied.position, now, keys: keys_of(&command) };
            self.answers.forget(&*store, self.space, &mut batch, due)?;
        }
        let outcome = match command {
            Command::Write(write) => {
                self.write_and_send(&*store, &mut batch, (&applied, place), write)?
            }
            Command::Batch(it) => self.write_all(&*store, &mut batch, (&applied, place), *it)?,
            Command::Fence(source) if self.is_fenced(source) => AppliedCommand::Fenced,
            Command::Fence(source) => {
                self.raise_fence(&mut batch, source);
                AppliedCommand::Other
            }
            Command::Expire { at, links_max } => {
                let gone = self.expire(&*store, &mut batch, (&applied, place, at), links_max)?;
                AppliedCommand::Expired(gone)
            }
            Command::Noop => AppliedCommand::Other,
            Command::Remember(it) => self.remember(&*store, &mut batch, applied.term, it)?,
            Command::Note(epoch, noted) if epoch != applied.term || !self.inbox.fits(&noted) => {
                AppliedCommand::Fenced
            }
            Command::Note(_, noted) => {
                self.note(&mut batch, noted);
                AppliedCommand::Other
            }
            Command::Confirm(confirmed) => {
                self.outbox.confirm(&*store, self.space, &mut batch, &confirmed)?;
                AppliedCommand::Other
            }
        };
        self.space.put_applied(&mut batch, &applied);
        store.write(batch)?;
        Ok(outcome)
    }

    fn remember(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        term: Term,
        Remember { epoch, key, answer, at }: Remember,
    ) -> Result<AppliedCommand, StoreError> {
        if epoch != term || self.answers.recorded(store, self.space, &key)?.is_some() {
            return Ok(AppliedCommand::Fenced);
        }
        self.answers.record(self.space, batch, &key, answer, at);
        Ok(AppliedCommand::Other)
    }

    /// The messages of a version come into the outbox with it, and not without it; so does the
    /// answer to the instance whose write it is, and that write is taken.
    fn write_and_send(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        entry: (&Applied, Position),
        mut write: Write,
    ) -> Result<AppliedCommand, StoreError> {
        let messages = std::mem::take(&mut write.messages);
        let noted = write.noted.take();
        if noted.as_ref().is_some_and(|noted| !self.inbox.fits(noted)) {
            return Ok(AppliedCommand::Fenced);
        }
        let Some(old) = self.fits(store, entry.0, &write)? else {
            return Ok(AppliedCommand::Fenced);
        };
        let document = self.write(store, batch, entry, (write, old))?;
        self.outbox.put(self.space, batch, &document.link, messages);
        if let Some(noted) = noted {
            self.note(batch, noted);
        }
        Ok(AppliedCommand::Written(document))
    }

    /// The writes of a batch, if each of them can be made.
    ///
    /// **Invariant:** nothing is changed before all of them were looked at.
    fn write_all(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        entry: (&Applied, Position),
        all: command::Batch,
    ) -> Result<AppliedCommand, StoreError> {
        let command::Batch { head: BatchHead { epoch, key, outcomes, at, source }, writes } = all;
        let is_outdated = source.is_some_and(|source| self.is_fenced(source));
        if epoch != entry.0.term || is_outdated || self.is_answered(store, key.as_ref())? {
            return Ok(AppliedCommand::Fenced);
        }
        let mut links = BTreeSet::new();
        let mut fitting = Vec::with_capacity(writes.len());
        for write in &writes {
            // What a second write of a document would build on is not in the store so far.
            let is_first = links.insert(write.document.link.as_str());
            match self.fits(store, entry.0, write)? {
                Some(old) if is_first && write.noted.is_none() => fitting.push(old),
                _ => return Ok(AppliedCommand::Fenced),
            }
        }
        if let Some(source) = source {
            self.raise_fence(batch, source);
        }
        if let Some(key) = &key {
            let recorded = Recorded {
                link: BATCH_LINK.to_owned(),
                version: 0,
                status: 200,
                digest: 0,
                response: Some(outcomes),
                written: None,
            };
            self.answers.record(self.space, batch, key, recorded, at);
        }
        let mut documents = Vec::with_capacity(writes.len());
        for (mut write, old) in writes.into_iter().zip(fitting) {
            let messages = std::mem::take(&mut write.messages);
            let document = self.write(store, batch, entry, (write, old))?;
            self.outbox.put(self.space, batch, &document.link, messages);
            documents.push(document);
        }
        Ok(AppliedCommand::AllWritten(documents))
    }

    fn is_answered(
        &self,
        store: &dyn Reader,
        key: Option<&RequestKey>,
    ) -> Result<bool, StoreError> {
        match key {
            Some(key) => Ok(self.answers.recorded(store, self.space, key)?.is_some()),
            None => Ok(false),
        }
    }

    /// The latest version before a write that can be made. `None`: it cannot.
    fn fits(
        &self,
        store: &dyn Reader,
        applied: &Applied,
        write: &Write,
    ) -> Result<Option<Option<Head>>, StoreError> {
        let Write { document, key, source, .. } = write;
        // A byte 0 would mix up the keys of links; every link was checked before it came here.
        let no_link = document.link.is_empty() || document.link.contains('\0');
        if no_link
            || document.epoch != applied.term
            || source.is_some_and(|source| self.is_fenced(source))
        {
            return Ok(None);
        }
        let old = self.head(store, &document.link)?;
        if document.version != old.as_ref().map_or(0, |old| old.document.version + 1) {
            return Ok(None);
        }
        // A request that was answered already: it raced its own repeat through the log.
        Ok((!self.is_answered(store, key.as_ref())?).then_some(old))
    }

    /// A write of an instance is taken.
    fn note(&mut self, batch: &mut Batch, noted: Noted) {
        self.inbox.note(self.space, batch, &noted);
        if let Some(answer) = noted.answer {
            self.outbox.put_answer(self.space, batch, answer);
        }
    }

    /// `old` is the latest version, on which the write builds.
    fn write(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        (applied, position): (&Applied, Position),
        (write, old): (Write, Option<Head>),
    ) -> Result<Arc<Document>, StoreError> {
        let Write {
            mut document, key, status, retention, source, task, mut purge, response, ..
        } = write;
        if let Some(source) = source {
            self.raise_fence(batch, source);
        }
        if let Some(key) = &key {
            let (link, version) = (document.link.clone(), document.version);
            let written = Some(document.updated);
            let recorded = Recorded { link, version, status, digest: 0, response, written };
            self.answers.record(self.space, batch, key, recorded, document.updated);
        }
        let first = old.as_ref().map_or(document.version, |old| old.oldest);
        if purge && document.version - first > PURGE_REMOVED_MAX {
            purge = false;
            document.expires = Moment(1);
        }
        let document = Arc::new(document);
        let task = task == Some(true) && !document.is_deleted() && !purge;
        let oldest = if purge {
            document.version
        } else {
            let limit = u64::from(retention.limit.max(1));
            let floor = u64::from(retention.floor).clamp(1, limit);
            if document.version - first < limit {
                first
            } else {
                (document.version + 1 - floor).min(first + RETENTION_REMOVED_MAX)
            }
        };
        let new =
            (!purge).then(|| Head { document: Arc::clone(&document), oldest, task, position });
        if purge {
            self.note_gone(batch, &document.link, position);
        }
        let before = old.as_ref().map(|old| Arc::clone(&old.document));
        self.replace(store, batch, &document.link, old, new)?;
        let is_there = !purge || document.is_deleted();
        self.changes.note(applied.position, before, is_there.then(|| Arc::clone(&document)));
        Ok(document)
    }

    /// Everything that follows from one head taking the place of another: the history, the marks
    /// of tasks and expirations, the count, the index and the cache. `None` is no document.
    fn replace(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        link: &str,
        old: Option<Head>,
        new: Option<Head>,
    ) -> Result<(), StoreError> {
        let space = self.space;
        // What is below this goes.
        let oldest = new.as_ref().map_or(u64::MAX, |new| new.oldest);
        if self.index.is_watched(link) {
            self.index_keep(store, batch, link, old.as_ref(), new.as_ref())?;
        }
        if let Some(new) = &new {
            let names = Arc::make_mut(&mut self.names);
            names.learn(&new.document.kind, space, batch);
            names.learn(&new.document.owner, space, batch);
            let record = Record::of(&new.document, new.oldest, new.task).at(new.position);
            let (key, bytes) =
                (space.key(family::HEAD, link.as_bytes()), record.encode(&self.names));
            if old.is_some() { batch.put(key, bytes) } else { batch.put_new(key, bytes) }
        } else {
            batch.delete(space.key(family::HEAD, link.as_bytes()));
            batch.delete(space.key(family::KIND_CHANGED, link.as_bytes()));
        }
        if let Some(old) = &old {
            let latest = old.document.version;
            for version in old.oldest..latest.min(oldest) {
                batch.delete(space.key(family::VERSION, &family::version_rest(link, version)));
            }
            let is_newer = new.as_ref().is_some_and(|new| new.document.version > latest);
            if is_newer && latest >= oldest {
                let record = Record::of(&old.document, latest, false).at(old.position);
                batch.put_new(
                    space.key(family::VERSION, &family::version_rest(link, latest)),
                    record.encode(&self.names),
                );
            }
            if new.as_ref().is_some_and(|new| new.document.kind != old.document.kind) {
                batch.put(space.key(family::KIND_CHANGED, link.as_bytes()), []);
            }
        }
        self.mark(batch, link, old.as_ref(), new.as_ref());
        self.cache.get_mut().put(link, new);
        Ok(())
    }

    /// The side keys: tasks, expirations, the count.
    fn mark(&mut self, batch: &mut Batch, link: &str, old: Option<&Head>, new: Option<&Head>) {
        let space = self.space;
        let is_task = |head: Option<&Head>| head.is_some_and(|head| head.task);
        match (is_task(old), is_task(new)) {
            (false, true) => batch.put_new(space.key(family::TASK, link.as_bytes()), []),
            (true, false) => batch.delete(space.key(family::TASK, link.as_bytes())),
            _ => {}
        }
        let expires = |head: Option<&Head>| head.map_or(Moment(0), |head| head.document.expires);
        let (before, after) = (expires(old), expires(new));
        if before != after {
            if before.0 != 0 {
                let rest = family::time_rest(before.0, link);
                batch.delete(space.key(family::EXPIRATION, &rest));
            }
            if after.0 != 0 {
                let rest = family::time_rest(after.0, link);
                batch.put_new(space.key(family::EXPIRATION, &rest), []);
                self.expires_from.set(self.expires_from.get().min(after));
            }
        }
        let is_live = |head: Option<&Head>| head.is_some_and(|head| !head.document.is_deleted());
        match (is_live(old), is_live(new)) {
            (false, true) => self.live += 1,
            (true, false) => self.live -= 1,
            _ => return,
        }
        batch.put(space.key(family::COUNT, b""), self.live.to_be_bytes());
    }

    fn expire(
        &mut self,
        store: &dyn Reader,
        batch: &mut Batch,
        (applied, place, at): (&Applied, Position, Moment),
        links_max: u32,
    ) -> Result<Vec<Arc<Document>>, StoreError> {
        let mut all_gone = Vec::new();
        let links_max = usize::try_from(links_max)
            .map_or(EXPIRED_LINKS_MAX, |links_max| links_max.min(EXPIRED_LINKS_MAX));
        let mut versions_left = EXPIRED_VERSIONS_MAX;
        for link in self.due(store, at, links_max)? {
            let old = self.head(store, &link)?.ok_or_else(|| {
                StoreError::failed(format!(
                    "the document {link} has an expiration but is not there"
                ))
            })?;
            let history = old.document.version - old.oldest;
            let new = (history > versions_left)
                .then(|| Head { oldest: old.oldest + versions_left, ..old.clone() });
            versions_left = versions_left.saturating_sub(history.saturating_add(1));
            let is_last = new.is_some() || versions_left == 0;
            if new.is_none() {
                self.note_gone(batch, &link, place);
            }
            let gone =
                (new.is_none() && !old.document.is_deleted()).then(|| Arc::clone(&old.document));
            self.replace(store, batch, &link, Some(old), new)?;
            if let Some(gone) = gone {
                self.changes.note(applied.position, Some(Arc::clone(&gone)), None);
                all_gone.push(gone);
            }
            if is_last {
                break;
            }
        }
        Ok(all_gone)
    }

    /// A document goes and leaves no tombstone: its last change cannot be found in the store.
    fn note_gone(&self, batch: &mut Batch, link: &str, position: Position) {
        if position == Position(0) {
            return;
        }
        let (factory, _) = links::split(link).unwrap_or_default();
        batch.put(self.space.key(family::GONE, factory.as_bytes()), position.0.to_be_bytes());
    }

    fn is_fenced(&self, source: Source) -> bool {
        source.epoch < self.fence(source.partition)
    }

    fn raise_fence(&mut self, batch: &mut Batch, source: Source) {
        if source.epoch > self.fence(source.partition) {
            self.fences.insert(source.partition, source.epoch);
            let rest = source.partition.0.to_be_bytes();
            batch.put(self.space.key(family::FENCE, &rest), source.epoch.0.to_be_bytes());
        }
    }
}

/// The owner's wall clock when it made the command.
fn time_of(command: &Command) -> Option<Moment> {
    match command {
        Command::Write(write) => Some(write.document.updated),
        Command::Batch(batch) => Some(batch.head.at),
        Command::Expire { at, .. } | Command::Remember(Remember { at, .. }) => Some(*at),
        Command::Fence(_) | Command::Noop | Command::Confirm(_) | Command::Note(..) => None,
    }
}

/// How many keys beside one are recorded with the command.
fn keys_of(command: &Command) -> usize {
    match command {
        Command::Batch(batch) => batch.writes.iter().filter(|it| it.key.is_some()).count(),
        _ => 0,
    }
}
