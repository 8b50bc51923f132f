//! Whether somebody may do to a document what is asked, on the state as it is.

use std::sync::Arc;

use access::Thing;
use bytes::Bytes;
use protocol::{
    Code, Document, Method, Moment, Outcome, Principal, Problem, Request, Response, links,
};
use query::Candidate;

use serde_json::{Value, json};

use super::context::StepContext;
use crate::Spec;
use crate::invocation::Verdict;
use crate::invoker::Handlers;
use crate::task::{TaskInfo, asks_no_change};

/// How many tokens of one user count at a time.
const TOKENS_OF_ONE_MAX: usize = 10_000;

impl StepContext<'_, '_> {
    /// # Errors
    /// When a client may not look at what is at this path, which is no document.
    pub(super) fn permit_path(&self, request: &Request, path: &str) -> Result<(), Problem> {
        let guard = &self.handlers().guard;
        guard.check(&request.principal, request.method, &Thing::Path(path))
    }

    /// # Errors
    /// When a client may not look at what tells of all documents of a factory together.
    pub(super) fn permit_all(&self, request: &Request, factory: &Spec) -> Result<(), Problem> {
        let (factory, kind) = (factory.factory.as_str(), factory.kind.as_str());
        let guard = &self.handlers().guard;
        guard.check(&request.principal, request.method, &Thing::All { factory, kind })
    }

    /// # Errors
    /// When a client may not do it to this document, or to one that is not there.
    pub(super) fn permit(
        &self,
        request: &Request,
        link: &str,
        current: Option<&Document>,
    ) -> Result<(), Problem> {
        let guard = &self.handlers().guard;
        if !guard.is_on {
            return Ok(());
        }
        let thing = match current {
            Some(document) => Thing::Document(document.into()),
            None => Thing::Missing { link, kind: self.kind_of(link) },
        };
        guard.check(&request.principal, request.method, &thing)
    }

    /// Before the handler runs: may the document be changed as it is, and may one like the body be
    /// made?
    ///
    /// # Errors
    /// When it may not.
    pub(super) fn permit_write(
        &self,
        request: &Request,
        current: Option<&Document>,
    ) -> Result<(), Problem> {
        let guard = &self.handlers().guard;
        if !guard.is_on {
            return Ok(());
        }
        let link = request.path.as_str();
        let live = current.filter(|it| !it.is_deleted() && !it.is_expired(self.now().wall));
        if live.is_none() && request.method == Method::Post {
            // Nothing is there that could be hidden; what is to be made decides.
            let nothing = Candidate::nothing();
            let (kind, body) = (self.kind_of(link), request.body.as_ref());
            let made = Candidate { link, kind, body, ..nothing };
            guard.check(&request.principal, Method::Post, &Thing::Document(made))?;
            return self.permit_token(request);
        }
        self.permit(request, link, live)?;
        match live {
            Some(task) => self.permit_change_of_task(request, task),
            None => Ok(()),
        }
    }

    /// Everybody may make tokens for themselves, but every node holds all of them.
    fn permit_token(&self, request: &Request) -> Result<(), Problem> {
        if access::name_in(&request.path, access::TOKENS).is_none() {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let user = body["userLink"].as_str().unwrap_or_default();
        if self.handlers().guard.policy.live_tokens_of(user, self.now().wall) < TOKENS_OF_ONE_MAX {
            return Ok(());
        }
        let text = format!(
            "{user} has {TOKENS_OF_ONE_MAX} tokens that count, and no more are made: revoke some \
             (amrita token list, amrita token revoke), or let them expire sooner"
        );
        Err(Problem::new(Code::Refused, text))
    }

    /// When the user who asks was made.
    pub(super) fn made_of(&self, principal: &Principal) -> Option<u64> {
        principal.user().and_then(|user| self.handlers().guard.policy.made_of(user))
    }

    /// On whose behalf a task acts: on its maker's, and on nobody's if that one is gone and another
    /// user has the name.
    pub(super) fn actor(&self, task: &Document) -> Principal {
        let Some(author) = &task.author else { return Principal::Anonymous };
        match self.is_of_life(author, task) {
            true => Principal::User(Arc::clone(author)),
            false => Principal::Anonymous,
        }
    }

    /// Whether the user of that name is the one who has made the task.
    fn is_of_life(&self, author: &str, task: &Document) -> bool {
        let info = TaskInfo::of(&task.body);
        let policy = &self.handlers().guard.policy;
        policy.is_one_of(author, info.author_made_micros, Moment(info.life()))
    }

    /// A task acts with the rights of its maker. Who may change what it does could use them.
    fn permit_change_of_task(&self, request: &Request, task: &Document) -> Result<(), Problem> {
        let catalogue = &self.handlers().catalogue;
        let is_task = catalogue.spec_of(&task.link).is_some_and(|spec| spec.is_task);
        let is_change = matches!(request.method, Method::Patch | Method::Put);
        let maker = request.principal.user().filter(|user| Some(*user) == task.author.as_ref());
        let is_nobodys = request.principal.user().is_none() && task.author.is_none();
        let is_maker = is_nobodys || maker.is_some_and(|maker| self.is_of_life(maker, task));
        let is_system = request.principal == Principal::System;
        if !is_task || !is_change || is_maker || is_system || asks_no_change(&request.body) {
            return Ok(());
        }
        let text = format!(
            "{} was made by another user and acts with the rights of that one: it may be cancelled \
             (by taskInfo.stage alone), held, released, tried again and skipped, or deleted, not \
             changed",
            task.link
        );
        Err(Problem::new(Code::AccessDenied, text))
    }

    /// After the handler has run: may there be what it has made?
    pub(super) fn permit_result(&self, request: &Request, verdict: Verdict) -> Verdict {
        let guard = &self.handlers().guard;
        let Verdict::Write(version) = &verdict else { return verdict };
        if !guard.is_on || request.method == Method::Delete {
            return verdict;
        }
        let thing = Thing::Document((&*version.document).into());
        match guard.check(&request.principal, request.method, &thing) {
            Ok(()) => verdict,
            Err(problem) => Verdict::AsItIs(problem.with_outcome(Outcome::NotApplied).into()),
        }
    }

    /// A document as the answer to a request that has changed it, or would have. The right to
    /// change is not one to read: without that one the answer says which version it is, and no
    /// more.
    pub(super) fn answer_to(
        &self,
        principal: &Principal,
        status: u16,
        document: &Document,
    ) -> Response {
        let Handlers { guard, node_id, .. } = self.handlers();
        let shown = access::shown(principal, document);
        let response = Response::document(status, &shown, node_id);
        if guard.check(principal, Method::Get, &Thing::Document(document.into())).is_ok() {
            return response;
        }
        let version =
            json!({"documentSelfLink": document.link, "documentVersion": document.version});
        Response { body: Bytes::from(version.to_string()), ..response }
    }

    fn kind_of(&self, link: &str) -> &str {
        let (link, _) = links::split_utility(link);
        self.handlers().catalogue.spec_of(link).map_or("", |spec| &spec.kind)
    }
}
