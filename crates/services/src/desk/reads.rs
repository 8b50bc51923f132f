//! What needs a quorum's word first: documents, utilities, queries, and answers that tell of the
//! state without changing it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use documents::{CompiledQuery, Cursor, Search, parse_specification};
use protocol::{Code, Document, Method, Problem, Request, Response, links};
use serde_json::{Value, json};
use storage::StoreError;

use super::{Answer, Desk, DeskOutput, Turn, nothing};
use crate::body::bad_body;
use crate::utilities;
use crate::verbs::missing;

/// How many documents are indexed, and how many are looked at by queries, in one step.
const SEARCH_BUDGET: usize = 2_000;
/// How many documents are indexed at a tick when no query waits.
const INDEX_BUDGET: usize = 64;

/// What is answered once a quorum has confirmed the ownership.
pub(super) enum Question {
    Read(Arc<Request>),
    /// A write that changes nothing as the state is.
    Held(Response),
    Query(Query),
    Available,
}

pub(super) struct Query {
    compiled: Arc<CompiledQuery>,
    after: Option<Cursor>,
    limit: usize,
}

/// Queries under way.
#[derive(Default)]
pub(super) struct Searches {
    waiting: VecDeque<Searching>,
}

struct Searching {
    ticket: u64,
    query: Query,
    search: Option<Search>,
}

impl Desk {
    pub(super) fn ask(&mut self, turn: &mut Turn<'_, '_>, ticket: u64, question: Question) {
        self.questions.insert(ticket, question);
        turn.put(DeskOutput::Confirm { ticket });
    }

    pub(super) fn read(&mut self, turn: &mut Turn<'_, '_>, ticket: u64, request: Arc<Request>) {
        let (_, utility) = links::split_utility(&request.path);
        if request.method == Method::Get {
            self.ask(turn, ticket, Question::Read(request));
            return;
        }
        let what = utility.unwrap_or("this document");
        let words = match utility {
            Some("config") => {
                "the configuration is part of the service's program; change it there".to_owned()
            }
            _ => format!("{what} takes no {}; use GET", request.method.name()),
        };
        self.refuse(turn, ticket, Problem::new(Code::MethodNotAllowed, words));
    }

    pub(super) fn query(
        &mut self,
        turn: &mut Turn<'_, '_>,
        ticket: u64,
        spec_json: &Bytes,
        page: (Option<Cursor>, usize),
    ) {
        let compiled = serde_json::from_slice::<Value>(spec_json)
            .map_err(|error| bad_body(format!("the query is not JSON: {error}")))
            .and_then(|value| parse_specification(&value))
            .and_then(|specification| CompiledQuery::new(&specification));
        match compiled {
            Ok(compiled) => {
                let (after, limit) = page;
                let query = Query { compiled: Arc::new(compiled), after, limit };
                self.ask(turn, ticket, Question::Query(query));
            }
            Err(problem) => self.respond(turn, ticket, problem.into()),
        }
    }

    pub(super) fn confirmed(
        &mut self,
        turn: &mut Turn<'_, '_>,
        ticket: u64,
    ) -> Result<(), StoreError> {
        match self.questions.remove(&ticket) {
            Some(Question::Read(request)) => {
                let response = self.show(turn, &request)?;
                self.respond(turn, ticket, response.unwrap_or_else(Into::into));
                Ok(())
            }
            Some(Question::Held(response)) => {
                self.respond(turn, ticket, response);
                Ok(())
            }
            Some(Question::Query(query)) => {
                self.searches.waiting.push_back(Searching { ticket, query, search: None });
                self.search(turn)
            }
            Some(Question::Available) => {
                self.respond(turn, ticket, nothing());
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A document or one of its utilities, as it is now.
    fn show(
        &self,
        turn: &Turn<'_, '_>,
        request: &Request,
    ) -> Result<Result<Response, Problem>, StoreError> {
        let (link, utility) = links::split_utility(&request.path);
        let catalogue = turn.at.catalogue;
        if let (Some(utility), Some(spec)) = (utility, catalogue.spec(link)) {
            return Ok(self.utility(utility, &request.path, &spec.factory, turn));
        }
        let latest = turn.latest(link)?;
        let is_there = latest.as_deref().is_some_and(|it| !it.is_expired(turn.now.wall));
        if !is_there {
            return Ok(Err(missing(link, latest.as_deref())));
        }
        let latest = latest.expect("it is there");
        if let Some(version) = request.parameter("documentVersion") {
            return self.show_version(turn, link, &version);
        }
        if latest.is_deleted() {
            return Ok(Err(missing(link, Some(&latest))));
        }
        let Some(utility) = utility else { return Ok(Ok(Response::document(200, &latest))) };
        let factory = links::split(link).map_or("", |(factory, _)| factory);
        Ok(self.utility(utility, &request.path, factory, turn))
    }

    fn show_version(
        &self,
        turn: &Turn<'_, '_>,
        link: &str,
        version: &str,
    ) -> Result<Result<Response, Problem>, StoreError> {
        let Ok(number) = version.parse::<u64>() else {
            return Ok(Err(Problem::bad_request(format!(
                "documentVersion must be a whole number from 0 up, not '{version}'"
            ))));
        };
        let found: Option<Document> = turn.at.partition.version(turn.reader(), link, number)?;
        Ok(match found {
            Some(document) => Ok(Response::document(200, &document)),
            None => {
                Err(Problem::not_found(format!("{link} has no version {number} any more or yet")))
            }
        })
    }

    fn utility(
        &self,
        utility: &str,
        path: &str,
        factory: &str,
        turn: &Turn<'_, '_>,
    ) -> Result<Response, Problem> {
        let Some(spec) = turn.at.catalogue.spec(factory) else {
            return Err(turn.at.catalogue.unknown_service(path));
        };
        match utility {
            "stats" => Ok(Response::json(200, &self.stats.show(factory, path, &self.node_id))),
            "config" => Ok(Response::json(200, &utilities::config(spec))),
            "template" => {
                let mut template = utilities::template(spec);
                template["documentSelfLink"] = json!(path);
                Ok(Response::json(200, &template))
            }
            "available" => Ok(nothing()),
            "subscriptions" => Err(Problem::not_found(
                "subscriptions are not there yet in this version; poll with GET, or query with \
                 INCLUDE_ALL_VERSIONS",
            )),
            other => Err(Problem::not_found(format!("there is no utility '{other}' here"))),
        }
    }

    pub(super) fn tick_index(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), StoreError> {
        if self.searches.waiting.is_empty() {
            turn.at.partition.index_at_leisure(turn.at.store, INDEX_BUDGET)?;
            return Ok(());
        }
        self.search(turn)
    }

    /// Takes the queries further, one step's work.
    fn search(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), StoreError> {
        if !turn.at.partition.index(turn.at.store, SEARCH_BUDGET)? {
            return Ok(());
        }
        for _ in 0..self.searches.waiting.len() {
            let Some(mut searching) = self.searches.waiting.pop_front() else { break };
            let Searching { ticket, query, search } = &mut searching;
            let partition = &*turn.at.partition;
            let search = search.get_or_insert_with(|| {
                let compiled = Arc::clone(&query.compiled);
                partition.search(compiled, query.after.as_ref(), query.limit, turn.now.wall)
            });
            let ticket = *ticket;
            match partition.step(&*turn.at.store, search, SEARCH_BUDGET)? {
                Some(page) => self.answer(turn, ticket, Answer::Page(page), None),
                None => self.searches.waiting.push_back(searching),
            }
        }
        Ok(())
    }
}
