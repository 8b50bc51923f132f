//! The clients: each does one thing at a time, against whatever node, and takes note of what it was
//! told. A few documents for all of them, so that they get in each other's way.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Principal, Request, Response};
use serde_json::Value;

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::batches::pair_makings;
use crate::checkers::Broken;
use crate::checkers::document::Told;
use crate::controls::{self, ControlWork};
use crate::jobs::{Job, Making};
use crate::referee::Referee;
use crate::rights::RightsWork;
use crate::served::{definition, has_copies};
use crate::settings::Settings;
use crate::tallies::TALLIES;
use crate::work::{Verdict, Work, kind_making, tally_links, tally_makings};
use random::Random;

/// How often a request with an idempotency key is sent before a client gives up.
const TRIES_MAX: u32 = 8;

/// What reaches a client.
pub(crate) enum Reply {
    /// Given by the node at that time.
    Answer { at: Time, response: Response },
    /// Nobody listens there: the request was never sent.
    Refused,
    /// The connection broke.
    Broken,
    /// The client lost patience.
    TooLate,
}

/// A request on its way.
pub(crate) struct Sending {
    pub(crate) attempt: u64,
    pub(crate) machine: usize,
    pub(crate) request: Request,
    /// How long the client waits.
    pub(crate) patience: Time,
    /// For the trace.
    pub(crate) what: String,
}

/// What a client has learnt of a document: for `If-Match` and strict updates.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) version: u64,
    /// `documentUpdateTimeMicros`, which is in the tag.
    pub(crate) updated: u64,
    pub(crate) epoch: u64,
}

/// What clients do a lot of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    Usual,
    /// They make documents that expire, and read them.
    Mortals,
    /// They repeat what they have added before.
    Repeats,
    /// They tell tasks to go another way.
    Reroutes,
    /// They add to several tallies at once.
    Batches,
    /// They hold tasks and release them.
    Holds,
    /// They change who may do what, and put it to the test.
    Rights,
}

impl Habit {
    fn of(scenario: &str) -> Self {
        match scenario {
            "mortals" | "mortals-clock" => Self::Mortals,
            "hours" => Self::Repeats,
            "fences" => Self::Reroutes,
            "batches" => Self::Batches,
            "holds" => Self::Holds,
            "rights" => Self::Rights,
            _ => Self::Usual,
        }
    }
}

/// An entry that a client has added to a tally.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    pub(crate) tally: String,
    pub(crate) entry: String,
    pub(crate) key: String,
    pub(crate) is_hours_ago: bool,
}

pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) rng: Random,
    pub(crate) known: BTreeMap<String, Known>,
    /// A document that it made and that will expire.
    pub(crate) mortal: Option<String>,
    pub(crate) habit: Habit,
    /// A task that it has started for a user.
    pub(crate) walk: Option<String>,
    /// What it has added under keys, as far as that was acknowledged.
    pub(crate) added: Vec<Added>,
    pub(crate) padding: usize,
    /// Counts its requests, so that what it writes can be told from all else.
    pub(crate) made: u64,
    /// What it does before anything else.
    todo: VecDeque<Work>,
    doing: Option<Doing>,
}

/// One thing that a client wants done, until it knows what came of it or gives up.
pub(crate) struct Doing {
    pub(crate) work: Work,
    pub(crate) key: Option<String>,
    attempt: u64,
    /// The only machine to ask, for ever. `None`: any machine, and a limited number of tries.
    machine: Option<usize>,
    tries: u32,
    /// When it first reached a node.
    pub(crate) began: Option<Time>,
    /// An earlier try may have been done.
    pub(crate) unknown: bool,
    /// The number that the referee gave to a change of the quorum, or of a right.
    pub(crate) change: Option<usize>,
    /// What the last failed try was told, for people.
    trouble: String,
}

pub(crate) struct Workload {
    clients: Vec<Client>,
    /// The client of each attempt under way.
    attempts: BTreeMap<u64, usize>,
    made: u64,
    pub(crate) documents: Vec<String>,
    /// Begun, of those that the settings ask for.
    pub(crate) jobs: Vec<Job>,
    jobs_max: usize,
    first_job: usize,
    pause: Time,
    quorum_wanted: bool,
    nodes: usize,
    demands_login: bool,
    /// No new work, but for the auditor's.
    closing: bool,
    audit: VecDeque<(usize, Work)>,
    /// What any client does first.
    first: VecDeque<Work>,
    has_copies: bool,
}

/// What clients make before anything else.
fn first(settings: &Settings) -> Vec<Making> {
    let users = if settings.demands_login() { RightsWork::makings() } else { Vec::new() };
    let of_tallies = has_copies(settings).then(definition);
    of_tallies
        .into_iter()
        .chain(tally_makings())
        .chain(pair_makings(settings))
        .chain([kind_making()])
        .chain(users)
        .collect()
}

impl Workload {
    pub(crate) fn new(settings: &Settings) -> Self {
        // The last client is the auditor, who has nothing to do before the end.
        let client = |number: usize| Client {
            number,
            rng: Random::new(settings.seed, &format!("client {number}")),
            known: BTreeMap::new(),
            mortal: None,
            habit: Habit::of(&settings.scenario),
            walk: None,
            added: Vec::new(),
            padding: settings.padding,
            made: 0,
            todo: VecDeque::new(),
            doing: None,
        };
        Self {
            clients: (0..=settings.clients).map(client).collect(),
            attempts: BTreeMap::new(),
            made: 0,
            documents: (0..settings.documents).map(|n| format!("/core/examples/d{n}")).collect(),
            jobs: Vec::new(),
            jobs_max: settings.tasks,
            first_job: usize::try_from(settings.seed % 3).expect("small"),
            pause: settings.pause,
            quorum_wanted: false,
            nodes: settings.nodes,
            demands_login: settings.demands_login(),
            closing: false,
            audit: VecDeque::new(),
            first: first(settings).into_iter().map(Work::Make).collect(),
            has_copies: has_copies(settings),
        }
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.len() - 1
    }

    pub(crate) fn auditor(&self) -> usize {
        self.clients.len() - 1
    }

    /// An operator will change the membership quorum.
    pub(crate) fn change_quorum(&mut self) {
        self.quorum_wanted = true;
    }

    /// What was added so far is a thing of the past.
    pub(crate) fn hours_went_by(&mut self) {
        let all = self.clients.iter_mut().flat_map(|client| &mut client.added);
        all.for_each(|added| added.is_hours_ago = true);
    }

    /// Clients end what they do and begin nothing new.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.clients.iter().all(|client| client.doing.is_none())
    }

    /// Something that the auditor must bring about at that machine.
    pub(crate) fn add_to_audit(&mut self, machine: usize, work: Work) {
        self.audit.push_back((machine, work));
    }

    /// What the auditor has not brought about, and why not.
    pub(crate) fn audit_trouble(&self) -> Option<String> {
        let doing = self.clients[self.auditor()].doing.as_ref();
        match doing {
            Some(doing) => {
                let machine = doing.machine.map_or(0, |machine| machine + 1);
                Some(format!("{} at n{machine}: {}", doing.work, doing.trouble))
            }
            None => self
                .audit
                .front()
                .map(|(machine, work)| format!("{work} at n{}: not begun", machine + 1)),
        }
    }

    /// What a client does next; none if it has nothing to do.
    pub(crate) fn next(
        &mut self,
        now: Time,
        client: usize,
        machines: &[usize],
        referee: &Referee,
    ) -> Option<Sending> {
        let auditor = client == self.auditor();
        if self.clients[client].doing.is_none() {
            let (machine, work) = if auditor {
                let (machine, work) = self.audit.pop_front()?;
                (Some(machine), work)
            } else {
                if self.closing {
                    return None;
                }
                (None, self.choose(client, now, referee))
            };
            self.take_up(client, machine, work);
        }
        self.made += 1;
        let attempt = self.made;
        let one = &mut self.clients[client];
        let doing = one.doing.as_mut().expect("it was just taken up");
        doing.attempt = attempt;
        doing.tries += 1;
        let machine = doing.machine.unwrap_or_else(|| *one.rng.pick(machines));
        let mut request = doing.work.request();
        if self.demands_login && !matches!(doing.work, Work::Rights(_)) {
            request.principal = Principal::System;
        }
        request.idempotency_key.clone_from(&doing.key);
        let patience = one.rng.between(2, 14) * SECOND;
        let key = doing.key.as_deref().unwrap_or("none");
        let what = format!(
            "client {client} asks n{}: {} (key {key}, try {})",
            machine + 1,
            doing.work,
            doing.tries
        );
        self.attempts.insert(attempt, client);
        Some(Sending { attempt, machine, request, patience, what })
    }

    fn take_up(&mut self, client: usize, machine: Option<usize>, work: Work) {
        let one = &mut self.clients[client];
        one.made += 1;
        let is_rights = matches!(work, Work::Rights(_));
        let keyed = work.takes_key() && (machine.is_some() || is_rights || one.rng.chance(500));
        let key = match &work {
            Work::Repeat(added) => Some(added.key.clone()),
            _ => keyed.then(|| format!("c{client}-{}", one.made)),
        };
        one.doing = Some(Doing {
            work,
            key,
            attempt: 0,
            machine,
            tries: 0,
            began: None,
            unknown: false,
            change: None,
            trouble: "no answer yet".into(),
        });
    }

    fn choose(&mut self, client: usize, now: Time, referee: &Referee) -> Work {
        if std::mem::take(&mut self.quorum_wanted) {
            let rng = &mut self.clients[client].rng;
            let (majority, all) = (self.nodes / 2 + 1, self.nodes);
            let low = u64::try_from(majority).expect("a few");
            let high = u64::try_from(all).expect("a few");
            let quorum = usize::try_from(rng.between(low, high)).expect("a few");
            return Work::Quorum(quorum);
        }
        if let Some(work) = self.next_of_first(referee) {
            return work;
        }
        if let Some(work) = self.clients[client].todo.pop_front() {
            return work;
        }
        if now > SECOND && self.clients[client].rng.chance(100) && self.begin_job(client, referee) {
            return self.choose(client, now, referee);
        }
        let one = &mut self.clients[client];
        if one.habit == Habit::Holds && !self.jobs.is_empty() && one.rng.chance(400) {
            let job = one.rng.pick(&self.jobs);
            if !(ControlWork::is_rerouted(job) && one.rng.chance(250)) {
                return Work::Control(ControlWork::choose(&mut one.rng, job));
            }
            let route = one.made * 100 + u64::try_from(client).expect("a few") + 1;
            return Work::Reroute { link: job.link(), route };
        }
        if one.habit == Habit::Reroutes && !self.jobs.is_empty() && one.rng.chance(300) {
            let link = one.rng.pick(&self.jobs).link();
            // Never 0, which is not noted.
            let route = one.made * 100 + u64::try_from(client).expect("a few") + 1;
            return Work::Reroute { link, route };
        }
        let documents = &self.documents;
        Work::choose(&mut self.clients[client], documents, referee, now)
    }

    /// No tally is made before its kind is there.
    fn next_of_first(&mut self, referee: &Referee) -> Option<Work> {
        let is_tally = |work: &Work| matches!(work, Work::Make(it) if it.factory == TALLIES);
        let waits = self.has_copies && !referee.have_kind_of_tallies();
        if waits && self.first.front().is_some_and(is_tally) {
            return None;
        }
        self.first.pop_front()
    }

    /// Takes up a new task, or asks a second time for one that is there.
    fn begin_job(&mut self, client: usize, referee: &Referee) -> bool {
        if self.jobs.len() < self.jobs_max && referee.have_tallies() {
            let number = self.jobs.len() + self.first_job;
            let job = match self.clients[client].habit {
                Habit::Holds if number.is_multiple_of(2) => Job::rerouted(number, &tally_links()),
                Habit::Reroutes => Job::rerouted(number, &tally_links()),
                _ => Job::numbered(number, &tally_links()),
            };
            let todo = &mut self.clients[client].todo;
            todo.extend(job.makings().into_iter().map(Work::Make));
            if let Job::Walk { is_cancelled: true, .. } = job {
                todo.push_back(Work::Cancel { link: job.link() });
            }
            self.jobs.push(job);
            return true;
        }
        if self.jobs.is_empty() {
            return false;
        }
        let job = self.clients[client].rng.pick(&self.jobs).clone();
        if let (Job::Bootstrap { .. }, Some(making)) = (&job, job.makings().pop()) {
            self.clients[client].todo = [Work::Make(making)].into();
            return true;
        }
        false
    }

    /// The attempt has reached a node.
    pub(crate) fn sent(&mut self, attempt: u64, now: Time, referee: &mut Referee) {
        let Some(doing) = self.doing(attempt) else { return };
        doing.began.get_or_insert(now);
        match (&doing.work, doing.change) {
            (Work::Quorum(quorum), None) => {
                doing.change = Some(referee.quorum.asked(*quorum, now));
            }
            (Work::Rights(RightsWork::Change { user, is_given }), None) => {
                doing.change = Some(referee.rights.asked(*user, *is_given, now));
            }
            _ => {}
        }
    }

    fn doing(&mut self, attempt: u64) -> Option<&mut Doing> {
        let client = *self.attempts.get(&attempt)?;
        self.clients[client].doing.as_mut().filter(|doing| doing.attempt == attempt)
    }

    /// What that attempt is about, and when it first reached a node.
    pub(crate) fn about(&self, attempt: u64) -> Option<(&Work, Time)> {
        let client = *self.attempts.get(&attempt)?;
        let doing = self.clients[client].doing.as_ref()?;
        (doing.attempt == attempt).then_some((&doing.work, doing.began?))
    }

    /// A reply; which client goes on, and after what pause.
    ///
    /// # Errors
    /// When the answer breaks a rule.
    pub(crate) fn reply(
        &mut self,
        now: Time,
        attempt: u64,
        reply: Reply,
        referee: &mut Referee,
    ) -> Result<Option<(usize, Time)>, Broken> {
        let Some(client) = self.attempts.remove(&attempt) else { return Ok(None) };
        let auditor = client == self.auditor();
        let one = &mut self.clients[client];
        let Some(mut doing) = one.doing.take_if(|doing| doing.attempt == attempt) else {
            return Ok(None);
        };
        let verdict = match &reply {
            Reply::Answer { at, response } => {
                match controls::judged(one, &mut referee.paths, &mut doing, response) {
                    Some(verdict) => verdict,
                    None => referee.judge(*at, one, &mut doing, response)?,
                }
            }
            Reply::Refused => Verdict::NotApplied("no connection".into()),
            Reply::Broken => Verdict::Unknown("the connection broke".into()),
            Reply::TooLate => Verdict::Unknown("no answer in time".into()),
        };
        let again = Self::conclude(now, doing, verdict, referee);
        let pause = match again {
            Some(doing) => {
                let longest = if doing.machine.is_some() { 100 } else { 300 };
                one.doing = Some(doing);
                one.rng.between(1, longest) * MILLISECOND
            }
            None if auditor => 0,
            None => one.rng.below(self.pause) + 1,
        };
        Ok(Some((client, pause)))
    }

    /// What is to be tried again, if anything is.
    fn conclude(
        now: Time,
        mut doing: Doing,
        verdict: Verdict,
        referee: &mut Referee,
    ) -> Option<Doing> {
        let trouble = match verdict {
            Verdict::Done => return None,
            Verdict::GoOn => return Some(doing),
            Verdict::NotApplied(trouble) => trouble,
            Verdict::Unknown(trouble) => {
                doing.unknown = true;
                trouble
            }
        };
        doing.trouble = trouble;
        let for_ever = doing.machine.is_some();
        let safe = !doing.work.is_write() || doing.key.is_some() || !doing.unknown;
        if for_ever || (safe && doing.tries < TRIES_MAX && doing.work.is_write()) {
            return Some(doing);
        }
        referee.gave_up(now, &doing);
        None
    }

    /// What was under way at the end stays unknown.
    pub(crate) fn abandon(&mut self, now: Time, referee: &mut Referee) {
        for client in &mut self.clients {
            if let Some(doing) = client.doing.take() {
                referee.gave_up(now, &doing);
            }
        }
    }
}

impl Client {
    /// Remembers what a document was.
    pub(crate) fn learn(&mut self, link: &str, document: &Value) {
        let version = document["documentVersion"].as_u64();
        let epoch = document["documentEpoch"].as_u64();
        let updated = document["documentUpdateTimeMicros"].as_u64();
        if let (Some(version), Some(epoch), Some(updated)) = (version, epoch, updated) {
            self.known.insert(link.to_owned(), Known { version, updated, epoch });
        }
    }

    /// Remembers what it has added, if it repeats such requests later.
    pub(crate) fn remember(&mut self, tally: &str, entry: &str, key: Option<&String>) {
        if let (Habit::Repeats, Some(key)) = (self.habit, key.cloned()) {
            let (tally, entry) = (tally.to_owned(), entry.to_owned());
            self.added.push(Added { tally, entry, key, is_hours_ago: false });
        }
    }
}

/// A document as a client was shown it.
pub(crate) fn told_of(document: &Value) -> Option<Told> {
    let version = document["documentVersion"].as_u64()?;
    if document["documentUpdateAction"] == "DELETE" {
        return Some(Told::Deleted { version });
    }
    let fields = crate::checkers::document::Fields::from_json(document);
    Some(Told::Is { version, fields })
}
