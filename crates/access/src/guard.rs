//! The rules as they are asked: at the router, at the owner of a document, for the hits of a query.

use std::borrow::Cow;
use std::sync::Arc;

use protocol::{Body, Code, Document, Method, Outcome, Principal, Problem};
use query::{Candidate, HitFilter};
use serde_json::{Map, Value};

use crate::decide::{Reason, Thing, decide};
use crate::parsed::PASSWORD_MARK;
use crate::paths::{AUTHORITY, CREDENTIALS, JOIN_TOKENS, TOKENS, is_secret, name_in};
use crate::policy::Policy;
use crate::roles::BuiltInRole;

/// What of a document of the rules is shown to nobody outside: from it a password could be guessed.
const HIDDEN_FIELDS: [&str; 3] = ["privateKey", "digest", PASSWORD_MARK];

/// The rules as one node knows them, and whether they count.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Off, everybody may do everything, and who is logged in is known all the same.
    pub is_on: bool,
    pub policy: Arc<Policy>,
}

impl Guard {
    /// # Errors
    /// 401 when it is not known who asks, 403 when that one may not do it. Nothing was done then.
    pub fn check(&self, who: &Principal, verb: Method, thing: &Thing<'_>) -> Result<(), Problem> {
        if !self.is_on {
            return Ok(());
        }
        let decision = decide(&self.policy, who, verb, thing);
        if decision.is_allowed {
            return Ok(());
        }
        Err(refused(who, verb, thing.link(), &decision.reason))
    }

    /// What a principal may see of the hits of a query; `None` for all of them.
    pub fn filter(&self, who: &Principal) -> Option<HitFilter> {
        if *who == Principal::System {
            return None;
        }
        if !self.is_on {
            let hides = self.policy.has_secrets();
            let shows = |candidate: &Candidate<'_>| !is_secret(candidate.link);
            let filter = || HitFilter::opening(without_secrets, shows);
            return hides.then(|| filter().and_tells_counts(true));
        }
        let (policy, who) = (Arc::clone(&self.policy), who.clone());
        let is_admin = who
            .user()
            .is_some_and(|user| policy.built_in_roles(user).contains(&BuiltInRole::Admin));
        let filter = HitFilter::opening(without_secrets, move |candidate| {
            !is_secret(candidate.link)
                && decide(&policy, &who, Method::Get, &Thing::Document(*candidate)).is_allowed
        });
        Some(filter.and_tells_counts(is_admin))
    }
}

/// The words of a refusal. They do not tell whether a document is hidden or not there.
pub fn refused(who: &Principal, verb: Method, link: &str, reason: &Reason) -> Problem {
    let (code, text) = match reason {
        Reason::NotLoggedIn | Reason::NoSuchUser => (Code::Unauthorized, not_logged_in().message),
        Reason::RulesAreForAdmins | Reason::BackupsAreForAdmins | Reason::OnlyTheCluster => {
            let text = format!("{} may not {} {link}: {reason}", who.shown(), verb.name());
            (Code::AccessDenied, text)
        }
        _ => {
            let text = format!(
                "{} may not {} {link}: no role allows it, or one denies it. An admin sees which: \
                 amrita can-i",
                who.shown(),
                verb.name()
            );
            (Code::AccessDenied, text)
        }
    };
    let mut problem = Problem::new(code, text);
    problem.outcome = verb.is_write().then_some(Outcome::NotApplied);
    problem
}

fn not_logged_in() -> Problem {
    let text = "log in first: POST /core/authn/basic, or `amrita login`; then send the token as \
                'Authorization: Bearer ...'";
    Problem::new(Code::Unauthorized, text)
}

/// The text of a document that a query has found, without what only the cluster itself may read.
/// `None` if it has nothing of that. (The cluster itself asks for such a document by its link.)
pub fn without_secrets(link: &str, text: &[u8]) -> Option<Vec<u8>> {
    if !has_hidden_fields(link) {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(text).unwrap_or_default();
    fields.retain(|name, _| !HIDDEN_FIELDS.contains(&name.as_str()));
    Some(Value::Object(fields).to_string().into_bytes())
}

fn has_hidden_fields(link: &str) -> bool {
    link.starts_with("/core/auth/")
        && [CREDENTIALS, TOKENS, JOIN_TOKENS, AUTHORITY]
            .iter()
            .any(|factory| name_in(link, factory).is_some())
}

/// A document as it is shown to somebody: without what only the cluster itself may read.
pub fn shown<'a>(who: &Principal, document: &'a Document) -> Cow<'a, Document> {
    if *who == Principal::System || !has_hidden_fields(&document.link) {
        return Cow::Borrowed(document);
    }
    let mut fields = document.body.to_map();
    fields.retain(|name, _| !HIDDEN_FIELDS.contains(&name.as_str()));
    Cow::Owned(Document { body: Body::from_map(fields), ..document.clone() })
}
