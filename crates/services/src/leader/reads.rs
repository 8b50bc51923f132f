//! What needs a quorum's word first: documents, utilities, queries, and answers that tell of the
//! state without changing it.

use std::sync::Arc;

use group::Output;
use protocol::{Code, Document, Method, Outcome, Problem, Request, Response, links};
use serde_json::json;
use storage::StoreError;

use super::asked::Asked;
use super::context::StepContext;
use super::past::{self, found};
use super::question::Question;
use super::state::{PartitionLeader, nothing};
use crate::utilities::{self, SetStat};
use crate::verbs::missing;

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

    pub(super) fn read(&mut self, cx: &mut StepContext<'_, '_>, asked: Asked) {
        let request = &asked.request;
        let (_, utility) = links::split_utility(&request.path);
        let sets_stat = request.method == Method::Post && utility == Some("stats");
        if request.method == Method::Get || sets_stat {
            return self.confirm(cx, asked.ticket, Question::Read(asked));
        }
        let problem = match utility {
            Some(absent @ ("subscriptions" | "ui")) => no_utility(absent),
            Some("config") => Problem::new(
                Code::MethodNotAllowed,
                "the configuration is part of the service's program; change it there",
            ),
            _ => {
                let what = utility.unwrap_or("this document");
                let words = format!("{what} takes no {}; use GET", request.method.name());
                Problem::new(Code::MethodNotAllowed, words)
            }
        };
        self.refuse(cx, asked.ticket, &request.path, problem);
    }

    pub(super) fn confirmed(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
    ) -> Result<(), StoreError> {
        match self.questions.remove(&ticket) {
            Some(Question::Read(asked)) => self.confirmed_read(cx, asked),
            Some(Question::Held(unchanged)) => {
                self.leave_unchanged(cx, unchanged, None);
                Ok(())
            }
            Some(Question::Query(query)) => self.begin_search(cx, ticket, query),
            Some(Question::Available) => {
                cx.answer(ticket, nothing(), None);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn confirmed_read(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: Asked,
    ) -> Result<(), StoreError> {
        let request = Arc::clone(&asked.request);
        let (link, _) = links::split_utility(&request.path);
        let shown = match request.method {
            Method::Post => {
                let set = self.set_stat(cx, link, &request)?;
                set.map_err(|problem| problem.with_outcome(Outcome::NotApplied))
            }
            _ => self.show(cx, &request)?,
        };
        let response = shown.unwrap_or_else(Into::into);
        let left = self.absent.awaited.add(link, asked, response, cx.now().steady_micros);
        if let Some((asked, response)) = left {
            self.respond(cx, asked.ticket, &request.path, response, None);
        }
        Ok(())
    }

    /// Sets a value in the stats of what is there, and shows them.
    fn set_stat(
        &mut self,
        cx: &StepContext<'_, '_>,
        link: &str,
        request: &Request,
    ) -> Result<Result<Response, Problem>, StoreError> {
        let stat = match SetStat::parse(&request.body) {
            Ok(stat) => stat,
            Err(problem) => return Ok(Err(problem)),
        };
        // What may not be seen, or is not there, has none.
        if let Err(problem) = self.show(cx, request)? {
            return Ok(Err(problem));
        }
        match self.stats.set(link, stat, cx.now().wall) {
            Ok(()) => self.show(cx, request),
            Err(problem) => Ok(Err(problem)),
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
            // The others say nothing of what is in the documents.
            let permitted = match utility {
                "stats" => cx.permit_all(request, spec),
                _ => cx.permit_path(request, link),
            };
            return Ok(
                permitted.and_then(|()| self.utility(utility, &request.path, &spec.factory, cx))
            );
        }
        let latest = cx.latest(link)?;
        let is_there = latest.as_deref().is_some_and(|it| !it.is_expired(cx.now().wall));
        if is_there && utility.is_none() {
            if let Some(version) = request.parameter("documentVersion") {
                return self.show_version(cx, request, &version);
            }
            if let Some(at) = query::as_of(request).unwrap_or_default() {
                return past::show(cx, request, at);
            }
            if let Some(versions) = request.parameter("diff") {
                return past::show_difference(cx, request, &versions);
            }
        }
        let live = latest.as_deref().filter(|it| is_there && !it.is_deleted());
        if let Err(problem) = cx.permit(request, link, live) {
            return Ok(Err(problem));
        }
        let Some(live) = live else { return Ok(Err(missing(link, latest.as_deref()))) };
        let Some(utility) = utility else {
            return Ok(found(live, request, &cx.handlers().node_id));
        };
        let factory = links::split(link).map_or("", |(factory, _)| factory);
        Ok(self.utility(utility, &request.path, factory, cx))
    }

    fn show_version(
        &self,
        cx: &StepContext<'_, '_>,
        request: &Request,
        version: &str,
    ) -> Result<Result<Response, Problem>, StoreError> {
        let Ok(number) = version.parse::<u64>() else {
            return Ok(Err(Problem::bad_request(format!(
                "documentVersion must be a whole number from 0 up, not '{version}'"
            ))));
        };
        let link = &request.path;
        let kept: Option<Document> = cx.partition().version(cx.reader(), link, number)?;
        if let Err(problem) = cx.permit(request, link, kept.as_ref()) {
            return Ok(Err(problem));
        }
        Ok(match kept {
            Some(document) => found(&document, request, &cx.handlers().node_id),
            None => Err(past::no_version(cx, link, number)?),
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
                let (link, _) = links::split_utility(path);
                let document = (link != factory).then_some(link);
                let shown = self.stats.show(factory, document, path, &cx.handlers().node_id);
                Ok(Response::json(200, &shown))
            }
            "config" => Ok(Response::json(200, &utilities::config(spec))),
            "template" => {
                let mut template = utilities::template(spec);
                template["documentSelfLink"] = json!(path);
                Ok(Response::json(200, &template))
            }
            "available" => Ok(nothing()),
            other => Err(no_utility(other)),
        }
    }
}

fn no_utility(name: &str) -> Problem {
    if name == "subscriptions" {
        return Problem::not_found(
            "subscriptions are not there yet in this version; poll with GET, or query with \
             INCLUDE_ALL_VERSIONS",
        );
    }
    Problem::not_found(format!("there is no utility '{name}' here"))
}
