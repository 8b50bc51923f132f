//! The rules as they are asked: at the router, at the owner of a document, for the hits of a query.

use std::borrow::Cow;
use std::sync::Arc;

use protocol::{Body, Code, Document, Method, Outcome, Principal, Problem};
use query::HitFilter;

use crate::decide::{Reason, Thing, decide};
use crate::paths::{AUTHORITY, CREDENTIALS, JOIN_TOKENS, TOKENS, is_secret, name_in};
use crate::policy::Policy;

/// What of a document of the rules is shown to nobody outside: from it a password could be guessed.
const HIDDEN_FIELDS: [&str; 2] = ["privateKey", "digest"];

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
            return hides.then(|| HitFilter::new(|candidate| !is_secret(candidate.link)));
        }
        let (policy, who) = (Arc::clone(&self.policy), who.clone());
        Some(HitFilter::new(move |candidate| {
            !is_secret(candidate.link)
                && decide(&policy, &who, Method::Get, &Thing::Document(*candidate)).is_allowed
        }))
    }
}

/// The words of a refusal. They do not tell whether a document is hidden or not there.
pub fn refused(who: &Principal, verb: Method, link: &str, reason: &Reason) -> Problem {
    let (code, text) = match reason {
        Reason::NotLoggedIn | Reason::NoSuchUser => (Code::Unauthorized, not_logged_in().message),
        Reason::RulesAreForAdmins | Reason::OnlyTheCluster => {
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

/// A document as it is shown to somebody: without what only the cluster itself may read.
pub fn shown<'a>(who: &Principal, document: &'a Document) -> Cow<'a, Document> {
    let link = document.link.as_str();
    let has_secrets = link.starts_with("/core/auth/")
        && [CREDENTIALS, TOKENS, JOIN_TOKENS, AUTHORITY]
            .iter()
            .any(|factory| name_in(link, factory).is_some());
    if *who == Principal::System || !has_secrets {
        return Cow::Borrowed(document);
    }
    let mut fields = document.body.to_map();
    fields.retain(|name, _| !HIDDEN_FIELDS.contains(&name.as_str()));
    Cow::Owned(Document { body: Body::from_map(fields), ..document.clone() })
}
