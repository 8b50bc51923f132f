//! Whether somebody may do to a document what is asked, on the state as it is.

use access::Thing;
use protocol::{Code, Document, Method, Outcome, Principal, Problem, Request, links};
use query::Candidate;

use serde_json::Value;

use super::context::StepContext;
use crate::invocation::Verdict;
use crate::task::asks_only_to_cancel;

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

    /// A task acts with the rights of its maker. Who may change what it does could use them.
    fn permit_change_of_task(&self, request: &Request, task: &Document) -> Result<(), Problem> {
        let catalogue = &self.handlers().catalogue;
        let is_task = catalogue.spec_of(&task.link).is_some_and(|spec| spec.is_task);
        let is_change = matches!(request.method, Method::Patch | Method::Put);
        let is_maker = request.principal.user() == task.author.as_ref();
        let is_system = request.principal == Principal::System;
        if !is_task || !is_change || is_maker || is_system || asks_only_to_cancel(&request.body) {
            return Ok(());
        }
        let text = format!(
            "{} was made by another user and acts with the rights of that one: it may be cancelled \
             (by taskInfo.stage alone) or deleted, not changed",
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

    fn kind_of(&self, link: &str) -> &str {
        let (link, _) = links::split_utility(link);
        self.handlers().catalogue.spec_of(link).map_or("", |spec| &spec.kind)
    }
}
