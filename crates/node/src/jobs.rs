//! Work that takes long and needs nothing of the node but what it is given: queries over many
//! documents, and large answers. The shell runs it on threads of its own and brings back what came
//! of it.

use std::fmt;
use std::sync::Arc;

use documents::{Search, View};
use protocol::{GroupId, Problem, ReplicaId, Response};
use query::Page;
use services::WantedSearch;
use storage::{Digest, Reader, StoreError};

use crate::frame::Comparison;
use crate::pages::{QueryAim, query_answer};
use crate::query_times::Told;
use crate::survey::{Files, SurveyJob};

/// How much work a query may do in the short lane, in bytes (see `documents`), and how much it does
/// in one turn in the long lane.
const TURN_BYTES: usize = 8 << 20;

/// Which threads run a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Short,
    Long,
}

/// To be run anywhere, with [`Job::run`].
pub struct Job(Kind);

/// What came of a [`Job`].
pub struct JobDone(Done);

enum Kind {
    Search(Box<SearchJob>),
    Answer(Box<AnswerJob>),
    Digest(Box<DigestJob>),
    Survey(Box<SurveyJob>),
}

pub(crate) enum Done {
    /// The page, if the query is done.
    Search(Box<SearchJob>, Result<Outcome, StoreError>),
    /// The answer to that query.
    Answer(u64, Response),
    /// The digest, if all of the state was read.
    Digest(Box<DigestJob>, Result<Option<u64>, StoreError>),
    /// The answer, if all of the store was read.
    Survey(Box<SurveyJob>, Result<Option<Response>, StoreError>),
}

/// The state of a group is read through, to be compared with those of other replicas.
pub(crate) struct DigestJob {
    /// Who wants to know, and what.
    pub(crate) asker: ReplicaId,
    pub(crate) asked: Comparison,
    pub(crate) digest: Digest,
    /// The store as it was when that was begun.
    pub(crate) store: Box<dyn Reader + Send>,
}

/// What came of a turn of a query.
#[derive(Debug)]
pub(crate) enum Outcome {
    Found(Page),
    Refused(Problem),
    /// The query is not done.
    Goes,
}

/// A query of a partition that is owned here.
pub(crate) struct Asked {
    pub(crate) group: GroupId,
    pub(crate) wanted: WantedSearch,
    /// Then it is given up.
    pub(crate) until: u64,
}

/// The same under way.
pub(crate) struct SearchJob {
    pub(crate) lane: Lane,
    pub(crate) asked: Asked,
    /// The partition as it was when the search was begun.
    pub(crate) view: View,
    pub(crate) search: Option<Search>,
    /// The store as it was then.
    pub(crate) store: Box<dyn Reader + Send>,
}

/// The parts of an answer, to be put together.
pub(crate) struct AnswerJob {
    /// The number of the query at its node.
    pub(crate) query: u64,
    pub(crate) aim: QueryAim,
    pub(crate) pages: Vec<Page>,
    pub(crate) told: Told,
}

impl Job {
    pub(crate) fn search(job: Box<SearchJob>) -> Self {
        Self(Kind::Search(job))
    }

    pub(crate) fn answer(job: AnswerJob) -> Self {
        Self(Kind::Answer(Box::new(job)))
    }

    pub(crate) fn digest(job: Box<DigestJob>) -> Self {
        Self(Kind::Digest(job))
    }

    pub(crate) fn survey(job: Box<SurveyJob>) -> Self {
        Self(Kind::Survey(job))
    }

    pub fn lane(&self) -> Lane {
        match &self.0 {
            Kind::Search(job) => job.lane,
            Kind::Answer(_) => Lane::Short,
            // It takes turns with long queries.
            Kind::Digest(_) | Kind::Survey(_) => Lane::Long,
        }
    }

    /// `files`: asked when what is on the disk is to be told.
    pub fn run(self, files: &dyn Fn() -> Files) -> JobDone {
        JobDone(match self.0 {
            Kind::Search(mut job) => {
                let outcome = job.take_turn();
                Done::Search(job, outcome)
            }
            Kind::Answer(job) => {
                let AnswerJob { query, aim, pages, told } = *job;
                Done::Answer(query, query_answer(&aim, pages, told))
            }
            Kind::Digest(mut job) => {
                let sum = job.digest.step(&*job.store, TURN_BYTES);
                Done::Digest(job, sum)
            }
            Kind::Survey(mut job) => {
                let answer = job.step(TURN_BYTES, files);
                Done::Survey(job, answer)
            }
        })
    }
}

impl SearchJob {
    fn take_turn(&mut self) -> Result<Outcome, StoreError> {
        let search = match &mut self.search {
            Some(search) => search,
            empty => {
                let WantedSearch { text, wanted, filter, .. } = &self.asked.wanted;
                match services::compile(text, filter.as_ref()) {
                    Ok(query) => {
                        let view = self.view.clone();
                        empty.insert(Search::new(view, Arc::new(query), wanted.clone()))
                    }
                    Err(problem) => return Ok(Outcome::Refused(problem)),
                }
            }
        };
        let page = search.step(&*self.store, TURN_BYTES)?;
        Ok(page.map_or(Outcome::Goes, Outcome::Found))
    }
}

impl JobDone {
    pub(crate) fn into_done(self) -> Done {
        self.0
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Search(job) => write!(f, "Search({}, {:?})", job.asked.group, job.lane),
            Kind::Answer(job) => write!(f, "Answer({})", job.query),
            Kind::Digest(job) => write!(f, "Digest({}, {})", job.asker, job.asked.round),
            Kind::Survey(_) => f.write_str("Survey"),
        }
    }
}

impl fmt::Debug for JobDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Done::Search(job, found) => {
                write!(f, "Search({}, {:?}, {found:?})", job.asked.group, job.lane)
            }
            Done::Answer(query, response) => write!(f, "Answer({query}, {})", response.status),
            Done::Digest(job, sum) => {
                write!(f, "Digest({}, {}, {sum:?})", job.asker, job.asked.round)
            }
            Done::Survey(..) => f.write_str("Survey"),
        }
    }
}
