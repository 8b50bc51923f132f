//! What needs a quorum's word first: documents, utilities, queries, and answers that tell of the
//! state without changing it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use documents::Search;
use group::Output;
use protocol::{Code, Document, Method, Principal, Problem, Request, Response, links};
use query::{CompiledQuery, Cursor, parse_specification};
use serde_json::{Value, json};
use storage::StoreError;

use super::{PartitionLeader, StepContext, answer, nothing};
use crate::body::bad_body;
use crate::machine::PartitionAnswer;
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
    Held(String, Response),
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

impl PartitionLeader {
    pub(super) fn confirm(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        question: Question,
    ) {
        self.questions.insert(ticket, question);
        cx.put(Output::Confirm { ticket });
    }

    pub(super) fn read(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: Arc<Request>,
    ) {
        let (_, utility) = links::split_utility(&request.path);
        if request.method == Method::Get {
            self.confirm(cx, ticket, Question::Read(request));
            return;
        }
        let what = utility.unwrap_or("this document");
        let words = match utility {
            Some("config") => {
                "the configuration is part of the service's program; change it there".to_owned()
            }
            _ => format!("{what} takes no {}; use GET", request.method.name()),
        };
        let problem = Problem::new(Code::MethodNotAllowed, words);
        self.refuse(cx, ticket, &request.path, problem);
    }

    pub(super) fn query(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        (spec_json, principal): (&Bytes, &Principal),
        page: (Option<Cursor>, usize),
    ) {
        let compiled = serde_json::from_slice::<Value>(spec_json)
            .map_err(|error| bad_body(format!("the query is not JSON: {error}")))
            .and_then(|value| parse_specification(&value))
            .and_then(|specification| CompiledQuery::new(&specification));
        match compiled {
            Ok(compiled) => {
                let compiled = match cx.handlers().guard.filter(principal) {
                    Some(filter) => compiled.filtered(filter),
                    None => compiled,
                };
                let (after, limit) = page;
                let query = Query { compiled: Arc::new(compiled), after, limit };
                self.confirm(cx, ticket, Question::Query(query));
            }
            Err(problem) => cx.put(Output::Refuse { ticket, problem }),
        }
    }

    pub(super) fn confirmed(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
    ) -> Result<(), StoreError> {
        match self.questions.remove(&ticket) {
            Some(Question::Read(request)) => {
                let response = self.show(cx, &request)?.unwrap_or_else(Into::into);
                self.respond(cx, ticket, &request.path, response, None);
                Ok(())
            }
            Some(Question::Held(link, response)) => {
                self.respond(cx, ticket, &link, response, None);
                Ok(())
            }
            Some(Question::Query(query)) => {
                self.searches.waiting.push_back(Searching { ticket, query, search: None });
                self.search(cx)
            }
            Some(Question::Available) => {
                answer(cx, ticket, nothing(), None);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A document or one of its utilities, as it is now.
    fn show(
        &self,
        cx: &StepContext<'_, '_>,
        request: &Request,
    ) -> Result<Result<Response, Problem>, StoreError> {
        let (link, utility) = links::split_utility(&request.path);
        let catalogue = &cx.handlers().catalogue;
        if let (Some(utility), Some(spec)) = (utility, catalogue.spec(link)) {
            let permitted = cx.permit_path(request, link);
            return Ok(
                permitted.and_then(|()| self.utility(utility, &request.path, &spec.factory, cx))
            );
        }
        let latest = cx.latest(link)?;
        let is_there = latest.as_deref().is_some_and(|it| !it.is_expired(cx.now().wall));
        if is_there && let Some(version) = request.parameter("documentVersion") {
            return self.show_version(cx, request, link, &version);
        }
        let live = latest.as_deref().filter(|it| is_there && !it.is_deleted());
        if let Err(problem) = cx.permit(request, link, live) {
            return Ok(Err(problem));
        }
        let Some(live) = live else { return Ok(Err(missing(link, latest.as_deref()))) };
        let Some(utility) = utility else {
            return Ok(Ok(Response::document(200, &access::shown(&request.principal, live))));
        };
        let factory = links::split(link).map_or("", |(factory, _)| factory);
        Ok(self.utility(utility, &request.path, factory, cx))
    }

    fn show_version(
        &self,
        cx: &StepContext<'_, '_>,
        request: &Request,
        link: &str,
        version: &str,
    ) -> Result<Result<Response, Problem>, StoreError> {
        let Ok(number) = version.parse::<u64>() else {
            return Ok(Err(Problem::bad_request(format!(
                "documentVersion must be a whole number from 0 up, not '{version}'"
            ))));
        };
        let found: Option<Document> = cx.partition().version(cx.reader(), link, number)?;
        if let Err(problem) = cx.permit(request, link, found.as_ref()) {
            return Ok(Err(problem));
        }
        Ok(match found {
            Some(document) => {
                Ok(Response::document(200, &access::shown(&request.principal, &document)))
            }
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
        cx: &StepContext<'_, '_>,
    ) -> Result<Response, Problem> {
        let Some(spec) = cx.handlers().catalogue.spec(factory) else {
            return Err(cx.handlers().catalogue.unknown_service(path));
        };
        match utility {
            "stats" => {
                Ok(Response::json(200, &self.stats.show(factory, path, &cx.handlers().node_id)))
            }
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

    pub(super) fn tick_index(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        if self.searches.waiting.is_empty() {
            cx.machine.partition.index_at_leisure(cx.at.store, INDEX_BUDGET)?;
            return Ok(());
        }
        self.search(cx)
    }

    /// Takes the queries further, one step's work.
    fn search(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        if !cx.machine.partition.index(cx.at.store, SEARCH_BUDGET)? {
            return Ok(());
        }
        for _ in 0..self.searches.waiting.len() {
            let Some(mut searching) = self.searches.waiting.pop_front() else { break };
            let Searching { ticket, query, search } = &mut searching;
            let partition = &cx.machine.partition;
            let search = search.get_or_insert_with(|| {
                let compiled = Arc::clone(&query.compiled);
                partition.search(compiled, query.after.as_ref(), query.limit, cx.now().wall)
            });
            let ticket = *ticket;
            match partition.step(&*cx.at.store, search, SEARCH_BUDGET)? {
                Some(page) => {
                    let answer = PartitionAnswer::Page(page);
                    cx.put(Output::Answer { ticket, answer, position: None });
                }
                None => self.searches.waiting.push_back(searching),
            }
        }
        Ok(())
    }
}
