//! The referee sees everything: each answer, each step of each node, each write to each disk. It
//! keeps the histories and holds them against the rules.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{GroupId, Position, Response, Term};
use serde_json::Value;

use crate::agenda::Time;
use crate::batches::{applied_in_batch, doubts, pair_links};
use crate::checkers::Broken;
use crate::checkers::changes::Reader;
use crate::checkers::document::{Asked, ExampleDocument, Operation, State, Told};
use crate::checkers::ledger::Places;
use crate::checkers::linearizable::{self, Call, NoOrder, STEPS_MAX};
use crate::checkers::listener::{Listener, Notified};
use crate::checkers::moment::Moments;
use crate::checkers::mortals::Mortals;
use crate::checkers::once::Once;
use crate::checkers::promises::Promises;
use crate::checkers::quorum::Quorum;
use crate::checkers::replicas::Digests;
use crate::checkers::rights::{Rights, Seen};
use crate::checkers::versions::Versions;
use crate::jobs::{Job, Making};
use crate::machine::Machine;
use crate::paths::Paths;
use crate::rights::{RightsWork, entries};
use crate::served;
use crate::settings::Settings;
use crate::trace::{Trace, seconds};
use crate::work::{Search, Verdict, Work, is_thing, kind_making, tally_links};
use crate::workload::{Added, Client, Doing, Workload, told_of};

/// The number of versions of an example document that are always kept.
const KEPT: u64 = 20;

pub(crate) struct Referee {
    /// Of each example document.
    history: BTreeMap<String, Vec<Call<Operation>>>,
    versions: Versions,
    pub(crate) reader: Reader,
    pub(crate) places: Places,
    pub(crate) quorum: Quorum,
    pub(crate) promises: Promises,
    digests: Digests,
    pub(crate) moments: Moments,
    pub(crate) once: Once,
    /// What was made: true when that was acknowledged, false when nobody knows.
    made: BTreeMap<String, bool>,
    /// Documents as they were at the end; null for what is not there.
    shown: BTreeMap<String, Value>,
    deleted: BTreeSet<String>,
    mortals: Mortals,
    pub(crate) rights: Rights,
    formed: bool,
    documents: Vec<String>,
    /// How many answers were judged.
    judged: u64,
    pub(crate) paths: Paths,
    /// Programs outside have the handlers of the tallies.
    has_copies: bool,
}

impl Referee {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            history: BTreeMap::new(),
            versions: Versions::default(),
            reader: Reader::default(),
            places: Places::default(),
            quorum: Quorum::new(settings.nodes, settings.membership_quorum),
            promises: Promises::default(),
            digests: Digests::default(),
            moments: Moments::default(),
            once: Once::default(),
            made: BTreeMap::new(),
            shown: BTreeMap::new(),
            deleted: BTreeSet::new(),
            mortals: Mortals::default(),
            rights: Rights::default(),
            formed: false,
            documents: (0..settings.documents).map(|n| format!("/core/examples/d{n}")).collect(),
            judged: 0,
            paths: Paths::default(),
            has_copies: served::has_copies(settings),
        }
    }

    /// A write was acknowledged, so there is a cluster.
    pub(crate) fn is_formed(&self) -> bool {
        self.formed
    }

    /// All tallies are there for sure.
    pub(crate) fn have_tallies(&self) -> bool {
        tally_links().iter().all(|link| self.made.get(link) == Some(&true))
    }

    /// The kind of the tallies was defined, where it is no service of the nodes, and that was
    /// acknowledged.
    pub(crate) fn have_kind_of_tallies(&self) -> bool {
        self.made.get(&served::definition().link()) == Some(&true)
    }

    /// The kind of things was defined, and that was acknowledged.
    pub(crate) fn have_kind(&self) -> bool {
        self.made.get(&kind_making().link()) == Some(&true)
    }

    /// The users whose rights change are there, with all that they need.
    pub(crate) fn have_users(&self) -> bool {
        RightsWork::makings().iter().all(|it| self.made.get(&it.link()) == Some(&true))
    }

    pub(crate) fn was_deleted(&self, link: &str) -> bool {
        self.deleted.contains(link)
    }

    /// A document as the auditor was shown it.
    pub(crate) fn shown(&self, link: &str) -> Option<&Value> {
        self.shown.get(link)
    }

    /// How many answers were held against the rules.
    pub(crate) fn judged(&self) -> u64 {
        self.judged
    }

    /// # Errors
    /// When a subscriber is told something that breaks a rule.
    pub(crate) fn notified(
        &mut self,
        told: &mut Listener,
        notified: &Notified<'_>,
    ) -> Result<(), Broken> {
        told.notified(notified, &mut self.versions)
    }

    /// What somebody has seen and a subscriber was not told of.
    pub(crate) fn not_told(&self, told: &Listener, links: &[String]) -> Option<String> {
        told.missing(links, &self.versions)
    }

    // While the run goes on.

    /// A node gave an answer: if it acknowledges a write, enough machines must hold it now.
    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        workload: &Workload,
        attempt: u64,
        response: &Response,
        machines: &[Machine],
    ) -> Result<(), Broken> {
        let Some((work, began)) = workload.about(attempt) else { return Ok(()) };
        let body = response.to_json();
        let documents = match work {
            Work::Batch(_) => applied_in_batch(&body),
            Work::Document { .. } | Work::Add { .. } | Work::Make(_) => vec![body],
            _ => return Ok(()),
        };
        if !response.is_success() || !work.is_write() {
            return Ok(());
        }
        self.formed = true;
        // A task that is there already is shown as it stands: that is a read.
        let is_read = |it: &Value| it["taskInfo"].is_object() && response.status == 200;
        let nothing_to_do =
            response.body.is_empty() && matches!(work, Work::Document { asked: Asked::Delete, .. });
        let written = documents.iter().filter(|it| !is_read(it) && !is_outline(it));
        for document in written.filter(|_| !nothing_to_do) {
            self.is_held(work, document, (began, now), machines)?;
        }
        Ok(())
    }

    /// Enough machines hold what was acknowledged.
    fn is_held(
        &self,
        work: &Work,
        document: &Value,
        (began, now): (Time, Time),
        machines: &[Machine],
    ) -> Result<(), Broken> {
        let (Some(link), Some(version), Some(epoch)) = (
            document["documentSelfLink"].as_str(),
            document["documentVersion"].as_u64(),
            document["documentEpoch"].as_u64(),
        ) else {
            let what = format!("{work}: {document}");
            return Err(Broken::new("a write is answered with the document", what));
        };
        let term = Term(epoch);
        let held = |machine: &Machine| {
            let mut ledgers = std::iter::once(&machine.ledger).chain(&machine.lost);
            ledgers.any(|ledger| {
                self.places.holders(link, version, term, std::iter::once(ledger)) == Some(1)
            })
        };
        let holders = machines.iter().filter(|machine| !machine.foreign && held(machine)).count();
        let what = format!("{work}, {link} version {version} epoch {epoch},");
        self.quorum.acknowledged(&what, holders, began, now)
    }

    /// A node has made a step: what it has applied must be what others have.
    pub(crate) fn stepped(&mut self, now: Time, machine: &Machine) -> Result<(), Broken> {
        for group in machine.store.take_touched().into_iter().map(GroupId) {
            // What an instance has in the store depends on where its checkpoint stands.
            let is_well = !machine.store.is_rotten() && machine.store.altered() != Some(group);
            if !group.is_instance() && is_well {
                let at = self.digests.look(&machine.store, group, &machine.name, false)?;
                self.moments.saw(now, group, at);
            }
        }
        Ok(())
    }

    /// What was restored of a backup must be what replicas had at that position.
    pub(crate) fn restored(
        &mut self,
        store: &storage::MemoryStore,
        group: GroupId,
        position: Position,
    ) -> Result<(), Broken> {
        let at = self.digests.look(store, group, "a backup", true)?;
        if at == position {
            return Ok(());
        }
        let what = format!("group {group} is at {at} and not at {position}");
        Err(Broken::new("a backup can be restored", what))
    }

    /// Holds an answer against the rules and takes note of it.
    pub(crate) fn judge(
        &mut self,
        at: Time,
        client: &mut Client,
        doing: &mut Doing,
        response: &Response,
    ) -> Result<Verdict, Broken> {
        self.judged += 1;
        let body = response.to_json();
        if matches!(response.status, 502..=504) {
            return self.not_served(&doing.work, response, &body);
        }
        let began = doing.began.expect("it was sent before it was answered");
        let strange = format!("{}: {} {body}", doing.work, response.status);
        let unexpected = || Broken::new("an answer is one of those that make sense", strange);
        match &mut doing.work {
            Work::Document { link, asked, if_match } => {
                let told =
                    self.told(link, asked, response.status, &body)?.ok_or_else(unexpected)?;
                client.learn(link, &body);
                let if_match = if_match.as_ref().map(|known| known.version);
                let told = (response.status < 400 || !doing.unknown).then_some(told);
                // A refusal says nothing of an earlier try, which may still be under way.
                let ended = told.is_some().then_some(at);
                let operation = Operation { asked: asked.clone(), if_match, told };
                self.note(link.clone(), Call { operation, began, ended });
                Ok(Verdict::Done)
            }
            Work::Search(search) => self.found(search, began, at, response.status, &body),
            Work::OldVersion { link, version, must } => match response.status {
                200 if body["documentVersion"] == *version => {
                    self.versions.saw(&body)?;
                    Ok(Verdict::Done)
                }
                404 | 410 if !*must => Ok(Verdict::Done),
                _ => Err(unexpected_version(link, *version, &body)),
            },
            Work::Quorum(_) => {
                let change = doing.change.expect("it was sent before it was answered");
                let verdict = self.quorum_told(change, at, response.status, doing.unknown);
                verdict.ok_or_else(unexpected)
            }
            Work::LocalRead { .. } => match response.status {
                200 => self.versions.saw(&body).map(|()| Verdict::Done),
                404 => Ok(Verdict::Done),
                _ => Err(unexpected()),
            },
            Work::Watch { after, seconds } => {
                self.watched(response.status, after, *seconds, &body)?.ok_or_else(unexpected)
            }
            Work::Make(making) if is_thing(making) => {
                if !self.fits_the_kind(making, response.status) {
                    return Err(unexpected());
                }
                Ok(match response.status {
                    400 => Verdict::Done,
                    _ => self.plain(&doing.work, began, doing.unknown, response),
                })
            }
            Work::ReadMortal { .. } | Work::Repeat(_) | Work::Batch(_) => {
                let verdict = self.habit(client, doing, (began, at), response)?;
                verdict.ok_or_else(unexpected)
            }
            Work::Rights(work) => self
                .rights_told(client, (work, doing.change), (began, at), response.status, &body)?
                .ok_or_else(unexpected),
            // It has ended already.
            Work::Cancel { .. } | Work::Reroute { .. } if response.status == 400 => {
                Ok(Verdict::Done)
            }
            Work::Add { tally, entry } if response.is_success() => {
                self.added(client, (tally, entry), doing.key.as_ref());
                Ok(self.plain(&doing.work, began, doing.unknown, response))
            }
            other => match response.status {
                200..300 | 404 | 409 => Ok(self.plain(other, began, doing.unknown, response)),
                _ => Err(unexpected()),
            },
        }
    }

    fn not_served(
        &mut self,
        work: &Work,
        response: &Response,
        body: &Value,
    ) -> Result<Verdict, Broken> {
        match body["code"].as_str() {
            Some("PROGRAM_FAILED") => self.paths.reached("programs have failed at a write"),
            Some("NO_PROGRAM") => self.paths.reached("no program was there for a write"),
            _ => {}
        }
        refusal(work, response)
    }

    /// An entry was added to a tally, and that was acknowledged.
    fn added(&mut self, client: &mut Client, (tally, entry): (&str, &str), key: Option<&String>) {
        client.remember(tally, entry, key);
        self.paths.count("an entry was added by a program", u64::from(self.has_copies));
    }

    /// What came of a change of the quorum; none if it makes no sense.
    fn quorum_told(
        &mut self,
        change: usize,
        at: Time,
        status: u16,
        unknown: bool,
    ) -> Option<Verdict> {
        match status {
            200 => self.quorum.confirmed(change, at),
            409 if !unknown => self.quorum.refused(change),
            409 => {}
            _ => return None,
        }
        Some(Verdict::Done)
    }

    /// What a watch was told; none if it makes no sense.
    fn watched(
        &mut self,
        status: u16,
        after: &mut Option<String>,
        seconds: u64,
        body: &Value,
    ) -> Result<Option<Verdict>, Broken> {
        let is_more = match status {
            200 => self.reader.told(after.as_deref(), body, &mut self.versions)?,
            410 => {
                self.reader.fell_behind(after.as_deref());
                true
            }
            _ => return Ok(None),
        };
        Ok(Some(self.watch_on(is_more, after, seconds)))
    }

    /// Who does not wait asks until there is nothing more.
    fn watch_on(&self, is_more: bool, after: &mut Option<String>, seconds: u64) -> Verdict {
        if is_more && seconds == 0 {
            *after = self.reader.token().map(str::to_owned);
            return Verdict::GoOn;
        }
        Verdict::Done
    }

    /// What clients do a lot of in a scenario of its own; none if the answer makes no sense.
    fn habit(
        &mut self,
        client: &mut Client,
        doing: &Doing,
        (began, at): (Time, Time),
        response: &Response,
    ) -> Result<Option<Verdict>, Broken> {
        match (&doing.work, response.status) {
            (Work::Batch(adding), _) => return self.batch_told(adding, doubts(doing), response),
            (Work::ReadMortal { link }, 200) => {
                self.mortals.is_there(link, began)?;
                if self.mortals.is_about_to_end(link, at) {
                    self.paths.reached("a document was read a moment before its end");
                }
            }
            (Work::ReadMortal { link }, 404) => {
                client.mortal = None;
                self.mortals.is_gone(link, at)?;
                if self.mortals.has_ended(link, at) {
                    self.paths.reached("a document was gone after its end");
                }
            }
            (Work::Repeat(Added { entry, is_hours_ago, .. }), 200..300) => {
                self.once.done(entry);
                if *is_hours_ago {
                    self.paths.reached("a request was repeated hours later");
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(Verdict::Done))
    }

    /// The kind was defined before, so every node knows it or asks; and its schema counts.
    fn fits_the_kind(&mut self, making: &Making, status: u16) -> bool {
        self.paths.reached("a document of a defined kind was asked for");
        let is_wrong = making.body["name"] == "wrong";
        matches!((status, is_wrong), (400, true) | (200 | 409, false))
    }

    /// What was told to somebody whose rights change; none if it makes no sense.
    fn rights_told(
        &mut self,
        client: &mut Client,
        (work, change): (&RightsWork, Option<usize>),
        span: (Time, Time),
        status: u16,
        body: &Value,
    ) -> Result<Option<Verdict>, Broken> {
        let is_done = (200..300).contains(&status);
        match work {
            RightsWork::Change { .. } if is_done => {
                let change = change.expect("it was sent before it was answered");
                self.rights.acknowledged(change, span.1);
            }
            RightsWork::Act { user, .. } | RightsWork::Walk { user, .. }
                if is_done || matches!(status, 401 | 403) =>
            {
                self.paths.reached(match self.rights.acted(*user, is_done, span)? {
                    Seen::Honoured => "a right that was given was honoured",
                    Seen::Refused => "a right that was taken away was refused",
                    Seen::Behind => "a right was refused by a node that was behind",
                    Seen::Either if is_done => "a right was honoured while it changed",
                    Seen::Either => "a right was refused while it changed",
                });
                if let (RightsWork::Walk { name, .. }, true) = (work, is_done) {
                    client.walk = Some(name.clone());
                }
            }
            // A walk that was made at an earlier try is shown to its maker by the next one.
            RightsWork::Walk { .. } if status == 409 => {}
            RightsWork::Look { user } if is_done => {
                if self.rights.looked(*user, entries(body), span)? {
                    self.paths.reached("nothing was done for one without a right");
                }
            }
            RightsWork::Task { .. } if is_done || status == 404 => {
                let stage = body["taskInfo"]["stage"].as_str().unwrap_or_default();
                match stage {
                    "FAILED" => self.paths.reached("a task was refused what its maker may not"),
                    "FINISHED" => self.paths.reached("a task of a user came to its end"),
                    _ => return Ok(Some(Verdict::Done)),
                }
                client.walk = None;
            }
            RightsWork::Nobody { .. } if status == 401 => {
                self.paths.reached("nobody was refused");
            }
            RightsWork::Nobody { .. } => {
                let what = format!("{work}: {status} {body}");
                return Err(Broken::new("nobody does anything", what));
            }
            _ => return Ok(None),
        }
        Ok(Some(Verdict::Done))
    }

    /// What an answer says of a document; none if it makes no sense.
    fn told(
        &mut self,
        link: &str,
        asked: &Asked,
        status: u16,
        body: &Value,
    ) -> Result<Option<Told>, Broken> {
        if status < 300 {
            if body.is_null() && *asked == Asked::Delete {
                return Ok(Some(Told::Missing));
            }
            if body["documentSelfLink"] != link {
                return Ok(None);
            }
            if is_outline(body) && *asked != Asked::Read {
                return Ok(body["documentVersion"].as_u64().map(|version| Told::Was { version }));
            }
            self.versions.saw(body)?;
            let told = told_of(body);
            if let Some(Told::Deleted { .. }) = told {
                self.deleted.insert(link.to_owned());
            }
            let fits = matches!(told, Some(Told::Deleted { .. })) == (*asked == Asked::Delete);
            return Ok(told.filter(|_| fits));
        }
        let told = match body["code"].as_str().unwrap_or_default() {
            "NOT_FOUND" => Told::Missing,
            "ALREADY_EXISTS" => Told::Exists,
            "MARKED_DELETED" => {
                self.deleted.insert(link.to_owned());
                Told::MarkedDeleted
            }
            "VERSION_MISMATCH" => Told::VersionMismatch,
            "PRECONDITION_FAILED" => Told::PreconditionFailed,
            _ => return Ok(None),
        };
        Ok(Some(told))
    }

    /// A page of a search. At the last one, each document was found or not: a read of each.
    fn found(
        &mut self,
        search: &mut Search,
        began: Time,
        at: Time,
        status: u16,
        body: &Value,
    ) -> Result<Verdict, Broken> {
        let results = if body["results"].is_object() { &body["results"] } else { body };
        let strange = |what: &str| {
            Broken::new("a search finds what is there", format!("{what}: {status} {body}"))
        };
        if status != 200 {
            return Err(strange("no answer that makes sense"));
        }
        let links = results["documentLinks"].as_array().ok_or_else(|| strange("no links"))?;
        for link in links {
            let link = link.as_str().ok_or_else(|| strange("a link that is no text"))?;
            let document = &results["documents"][link];
            self.versions.saw(document)?;
            let told = told_of(document).ok_or_else(|| strange("a document without version"))?;
            let version = document["documentVersion"].as_u64().filter(|_| search.all_versions);
            let bare = document["documentSelfLink"].as_str().unwrap_or_default().to_owned();
            if search.found.insert((bare, version), told).is_some() {
                return Err(strange(&format!("{link} was found twice")));
            }
        }
        search.page = results["nextPageLink"].as_str().map(str::to_owned);
        if search.page.is_some() {
            return Ok(Verdict::GoOn);
        }
        for link in self.documents.clone() {
            if search.all_versions {
                self.check_versions_found(&link, began, &search.found)?;
                continue;
            }
            let told = search.found.remove(&(link.clone(), None)).unwrap_or(Told::Missing);
            let operation = Operation { asked: Asked::Read, if_match: None, told: Some(told) };
            self.note(link, Call { operation, began, ended: Some(at) });
        }
        Ok(Verdict::Done)
    }

    /// Of a document that was never deleted, a search through all versions finds those that were
    /// acknowledged before it began and are young enough to be kept for sure.
    fn check_versions_found(
        &self,
        link: &str,
        began: Time,
        found: &BTreeMap<(String, Option<u64>), Told>,
    ) -> Result<(), Broken> {
        if self.was_deleted(link) {
            return Ok(());
        }
        let newest = self.versions.of(link).map(|(version, _)| version).max().unwrap_or(0);
        let acknowledged = self.history.get(link).into_iter().flatten().filter_map(|call| {
            let written = call.operation.asked != Asked::Read;
            let version = call.operation.told.as_ref().and_then(Told::version);
            version.filter(|_| written && call.ended.is_some_and(|ended| ended < began))
        });
        let missing = |version: &u64| {
            version + KEPT > newest && !found.contains_key(&(link.to_owned(), Some(*version)))
        };
        match acknowledged.filter(missing).max() {
            None => Ok(()),
            Some(version) => {
                let what = format!("version {version} of {link} was not found");
                Err(Broken::new("a search through all versions finds what is there", what))
            }
        }
    }

    /// What is not about example documents.
    fn plain(&mut self, work: &Work, began: Time, unknown: bool, response: &Response) -> Verdict {
        let body = response.to_json();
        let well = response.is_success();
        match work {
            Work::Add { entry, .. } if well => self.once.done(entry),
            // There is no such tally yet.
            Work::Add { entry, .. } if unknown => self.once.unknown(entry),
            Work::Reroute { .. } if well => self.paths.reached("a task was told to go another way"),
            // 409: it was made before, by this client or another.
            Work::Make(making) => {
                self.mortals.made(&making.link(), &making.body);
                self.made.insert(making.link(), true);
            }
            Work::End { link } => {
                let stage = body["taskInfo"]["stage"].as_str().unwrap_or_default();
                if well && matches!(stage, "CREATED" | "STARTED") {
                    return Verdict::NotApplied(body.to_string());
                }
                self.shown.insert(link.clone(), if well { body } else { Value::Null });
            }
            Work::Show { link } => {
                self.shown.insert(link.clone(), if well { body } else { Value::Null });
            }
            Work::Available if !well => return Verdict::NotApplied(body.to_string()),
            _ => {}
        }
        let _ = began;
        Verdict::Done
    }

    /// A client will never know what became of it.
    pub(crate) fn gave_up(&mut self, _now: Time, doing: &Doing) {
        match (&doing.work, doing.change.filter(|_| !doing.unknown)) {
            (Work::Rights(_), Some(change)) => self.rights.refused(change),
            (_, Some(change)) => self.quorum.refused(change),
            _ => {}
        }
        let Some(began) = doing.began.filter(|_| doing.unknown) else { return };
        match &doing.work {
            Work::Document { link, asked, if_match } if doing.work.is_write() => {
                let if_match = if_match.as_ref().map(|known| known.version);
                let operation = Operation { asked: asked.clone(), if_match, told: None };
                self.note(link.clone(), Call { operation, began, ended: None });
            }
            Work::Add { entry, .. } => self.once.unknown(entry),
            Work::Batch(adding) => self.batch_given_up(adding),
            Work::Make(making) => {
                self.made.entry(making.link()).or_insert(false);
            }
            _ => {}
        }
    }

    fn note(&mut self, link: String, call: Call<Operation>) {
        self.history.entry(link).or_default().push(call);
    }

    // At the end.

    /// The last few versions of a document that anybody saw, which must all still be there.
    pub(crate) fn young_versions(&self, link: &str) -> Vec<u64> {
        let seen = || self.versions.of(link).map(|(version, _)| version);
        let newest = seen().max().unwrap_or(0);
        seen().filter(|version| version + KEPT / 2 > newest).collect()
    }

    /// Compares the state of all groups on all machines, which must have come to rest. True when
    /// they all stand at the same positions.
    ///
    /// # Errors
    /// When states at the same position differ.
    pub(crate) fn compare(&mut self, machines: &[Machine], groups: u32) -> Result<bool, Broken> {
        // Those are found and filled anew, however long it takes within the patience.
        let mut rest = machines.iter().all(|machine| machine.store.altered().is_none());
        if !rest {
            return Ok(false);
        }
        for group in (0..=groups).map(GroupId) {
            let mut positions = BTreeSet::new();
            // What cannot be read is the node's to notice; nothing is compared with it.
            for machine in machines.iter().filter(|machine| !machine.store.is_rotten()) {
                let store = &machine.store;
                positions.insert(self.digests.look(store, group, &machine.name, true)?);
            }
            rest &= positions.len() == 1;
        }
        Ok(rest)
    }

    /// The whole history against the rules that need the whole of it.
    ///
    /// # Errors
    /// When a rule was broken.
    pub(crate) fn conclude(&mut self, jobs: &[Job], trace: &mut Trace) -> Result<(), Broken> {
        for (link, calls) in &self.history {
            check_document(link, calls).inspect_err(|_| show_history(calls, trace))?;
        }
        for job in jobs {
            self.check_job(job)?;
        }
        self.reader.conclude(&self.documents, &self.versions)?;
        self.check_pair()?;
        let tallies = [tally_links(), pair_links()].concat();
        let shown = tallies.iter().filter_map(|link| self.shown.get(link));
        let entries = shown.filter_map(|tally| tally["entries"].as_array()).flatten();
        self.once.check(entries.map(|entry| entry.as_str().unwrap_or("(no text)")))
    }

    fn check_job(&mut self, job: &Job) -> Result<(), Broken> {
        let (sure, perhaps) = job.entries(&self.shown);
        self.paths.count("a step went another way", job.steps_of_other_ways(&self.shown));
        let skipped = job.requests_skipped(&self.shown);
        self.paths.count("a step went on without an answer that was skipped", skipped);
        sure.iter().for_each(|entry| self.once.done(entry));
        perhaps.iter().for_each(|entry| self.once.unknown(entry));
        let made = self.made.get(&job.link());
        let missing = self.shown.get(&job.link()).is_none_or(Value::is_null);
        if missing && made != Some(&true) {
            return Ok(());
        }
        let whole = job.makings().iter().all(|it| self.made.get(&it.link()) == Some(&true));
        if whole {
            job.check(&self.shown)?;
        }
        Ok(())
    }
}

/// A repeat of a request whose version has gone since: only its link and its version are known.
fn is_outline(document: &Value) -> bool {
    document["documentVersion"].is_u64() && document.get("documentEpoch").is_none()
}

fn unexpected_version(link: &str, version: u64, body: &Value) -> Broken {
    let what = format!("version {version} of {link} was asked for, and this came: {body}");
    Broken::new("a version is one thing for ever", what)
}

/// A 503 or 504: for a write it must say what became of it.
fn refusal(work: &Work, response: &Response) -> Result<Verdict, Broken> {
    let body = response.to_json();
    let words = format!("{} {}", response.status, body["message"].as_str().unwrap_or("(no words)"));
    if !work.is_write() {
        return Ok(Verdict::NotApplied(words));
    }
    match body["outcome"].as_str() {
        Some("notApplied") => Ok(Verdict::NotApplied(words)),
        Some("unknown") => Ok(Verdict::Unknown(words)),
        _ => {
            let what = format!("{work}: {body}");
            Err(Broken::new("a failed write says what became of it", what))
        }
    }
}

fn check_document(link: &str, calls: &[Call<Operation>]) -> Result<(), Broken> {
    let found = linearizable::check(&ExampleDocument, State::Never, calls, STEPS_MAX);
    found.map_err(|no_order| {
        let (rule, stuck) = match no_order {
            NoOrder::Impossible(stuck) => ("a document is linearizable", stuck),
            NoOrder::Unknown(stuck) => ("the search for an order comes to an end", stuck),
        };
        let call = &calls[stuck.unexplained];
        let last: Vec<String> =
            stuck.explained.iter().rev().take(3).map(|index| shown(&calls[*index])).collect();
        let what = format!(
            "{link}: of {} calls {} can be explained, but not {}; the last before it: {}",
            calls.len(),
            stuck.explained.len(),
            shown(call),
            last.join("; ")
        );
        Broken::new(rule, what)
    })
}

fn show_history(calls: &[Call<Operation>], trace: &mut Trace) {
    let mut calls: Vec<&Call<Operation>> = calls.iter().collect();
    calls.sort_by_key(|call| call.began);
    for call in calls {
        trace.event(call.began, "", format_args!("history: {}", shown(call)));
    }
}

fn shown(call: &Call<Operation>) -> String {
    let Operation { asked, if_match, told } = &call.operation;
    let ended = call.ended.map_or("never".into(), |ended| format!("{:.6}", seconds(ended)));
    let condition = if_match.map_or(String::new(), |version| format!(" if version {version}"));
    format!("{asked:?}{condition} -> {told:?} ({:.6} to {ended})", seconds(call.began))
}
