//! Whether a request may come in: who asks, and what the path needs.

use access::{Guard, Needs, Thing, Unknown};
use cluster::Topology;
use protocol::{Bearer, Code, Method, Moment, Outcome, Principal, Problem, Request, Response};
use services::Catalogue;

use crate::frame::Question;
use crate::rest::{Plan, Resource};
use crate::work::{Effects, Purpose, Work};

/// Why a request does not come in.
pub(crate) enum Refused {
    /// Its token is not known here. It may be too new for the replicas of this node: the owner of
    /// the token's document knows.
    NotKnownHere(Bearer),
    Problem(Box<Problem>),
}

/// Finds out who asks, and decides what is decided by the path alone.
///
/// # Errors
/// Why the request does not come in. Nothing was done for it then.
pub(crate) fn admit(
    request: &mut Request,
    (guard, catalogue): (&Guard, &Catalogue),
    now: Moment,
) -> Result<Option<Needs>, Refused> {
    let needs = Resource::needs(request, catalogue);
    if let Principal::Bearer(bearer) = &request.principal {
        request.principal = match guard.policy.authenticate(bearer, now) {
            Ok(user) => Principal::User(user),
            Err(Unknown::Token) if !bearer.is_checked => {
                return Err(Refused::NotKnownHere(bearer.as_ref().clone()));
            }
            Err(why) if guard.is_on && needs != Some(Needs::Nothing) => {
                return Err(refused(request, not_taken(why)));
            }
            Err(_) => Principal::Anonymous,
        };
    }
    if !guard.is_on || request.principal == Principal::System {
        return Ok(needs);
    }
    let anybody = Thing::Path(access::link_of(&request.path));
    match needs {
        Some(Needs::Nothing) => {}
        Some(Needs::Right) => {
            let checked = guard.check(&request.principal, request.method, &anybody);
            checked.map_err(|problem| refused(request, problem))?;
        }
        // Where nothing answers, only who has logged in is told so.
        Some(Needs::Login | Needs::Document | Needs::Filtered) | None => {
            logged_in(request)?;
        }
        Some(Needs::Link) => {
            logged_in(request)?;
            let text = format!("{} takes no {} from clients", request.path, request.method.name());
            return Err(refused(request, Problem::new(Code::AccessDenied, text)));
        }
    }
    Ok(needs)
}

fn logged_in(request: &Request) -> Result<(), Refused> {
    if request.principal.user().is_some() {
        return Ok(());
    }
    let (verb, path) = (request.method, &request.path);
    let reason = access::Reason::NotLoggedIn;
    let problem = access::refused(&request.principal, verb, path, &reason);
    Err(refused(request, problem))
}

/// A request does not come in, or not so far.
pub(crate) fn turn_away(
    refused: Refused,
    waiting: (Purpose, Request),
    topology: &Topology,
    effects: &mut Effects,
) {
    match refused {
        Refused::Problem(problem) => effects.respond(&waiting.0, *problem),
        Refused::NotKnownHere(bearer) => {
            effects.push(look_up(topology, &bearer, Box::new(waiting)));
        }
    }
}

/// Asks the owner of a token's document who shows it.
fn look_up(topology: &Topology, bearer: &Bearer, waiting: Box<(Purpose, Request)>) -> Work {
    if topology.partitions() == 0 {
        return Work::LookedUp(waiting, Response::from(Code::NoOwner));
    }
    let link = format!("{}/{}", access::TOKENS, bearer.name);
    let group = topology.partition_of(&link);
    let question = Request::new(Method::Get, link).on_behalf_of(Principal::System);
    Work::Submit(Purpose::LookUp(waiting), group, Question::Rest(question))
}

/// The owner of a token's document has said what it is: the request goes on with that.
pub(crate) fn looked_up(request: &mut Request, answer: &Response, guard: &Guard, now: Moment) {
    let Principal::Bearer(bearer) = &mut request.principal else { return };
    bearer.is_checked = true;
    let body = answer.to_json();
    if answer.is_success()
        && let Some(fields) = body.as_object()
        && let Ok(user) = guard.policy.authenticate_by(fields, bearer, now)
    {
        request.principal = Principal::User(user);
    }
}

/// Whether what is to be done is covered by what was asked of the request. What the table leaves to
/// the owner of a document must go to one, or be filtered.
pub(crate) fn is_covered(needs: Option<Needs>, verb: Method, plan: &Plan) -> bool {
    match needs {
        // Nothing is done but to look for the factory; then the request comes in once more.
        _ if matches!(plan, Plan::Seek(..)) => true,
        None => false,
        Some(Needs::Right | Needs::Nothing | Needs::Login | Needs::Link) => true,
        Some(Needs::Document | Needs::Filtered) => match plan {
            Plan::Ask(group, Question::Rest(_)) => group.is_partition(),
            // What the router knows of a document, it has checked itself.
            Plan::Respond(_) => verb == Method::Get,
            Plan::Query(..) | Plan::Counted(..) | Plan::Page { .. } => true,
            Plan::Stats(_) | Plan::Available | Plan::Watch(_) => true,
            _ => false,
        },
    }
}

/// To a node that belongs to no cluster so far, no user is known.
pub(crate) fn nobody_is_known(request: &Request) -> Problem {
    let text = "this node is not part of a cluster yet, and so knows no users";
    let outcome = request.method.is_write().then_some(Outcome::NotApplied);
    Problem { outcome, ..Problem::new(Code::NoOwner, text) }
}

/// When the table and the resources do not agree.
pub(crate) fn not_covered(request_path: &str) -> Problem {
    let text = format!("nothing says who may do this at {request_path}, so nobody may");
    Problem::new(Code::AccessDenied, text).with_outcome(Outcome::NotApplied)
}

fn not_taken(why: Unknown) -> Problem {
    let text = match why {
        // The same words, so that nobody learns which tokens there are.
        Unknown::Token | Unknown::Secret => "the token is not valid, or was revoked; log in again",
        Unknown::Expired => "the token has expired; log in again",
        Unknown::User => "the user of the token is gone",
    };
    Problem::new(Code::Unauthorized, text)
}

fn refused(request: &Request, mut problem: Problem) -> Refused {
    problem.outcome = request.method.is_write().then_some(Outcome::NotApplied);
    Refused::Problem(Box::new(problem))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use access::Policy;
    use protocol::GroupId;

    use super::*;

    #[test]
    fn what_is_left_to_the_owner_of_a_document_goes_to_one() {
        let request = || Request::new(Method::Get, "/core/x");
        let ask = |group| Plan::Ask(GroupId(group), Question::Rest(request()));
        for needs in [Some(Needs::Document), Some(Needs::Filtered), None] {
            assert_eq!(is_covered(needs, Method::Post, &ask(1)), needs.is_some());
            for plan in [Plan::Stop, Plan::Join(String::new()), Plan::Release(GroupId(1 << 20))] {
                assert!(!is_covered(needs, Method::Post, &plan));
            }
            let respond = Plan::Respond(Response::json(200, &serde_json::json!({})));
            assert!(!is_covered(needs, Method::Post, &respond));
            assert!(!is_covered(needs, Method::Post, &ask(0)));
            assert!(!is_covered(needs, Method::Post, &ask(1 << 20)));
        }
        assert!(is_covered(Some(Needs::Right), Method::Delete, &Plan::Stop));
    }

    #[test]
    fn who_shows_nothing_gets_nowhere_but_to_the_login() {
        let guard = Guard { is_on: true, policy: Arc::new(Policy::default()) };
        let catalogue = Catalogue::new();
        let status = |verb, path: &str, principal| {
            let mut request = Request::new(verb, path).on_behalf_of(principal);
            match admit(&mut request, (&guard, &catalogue), Moment(1)) {
                Ok(_) => 200,
                Err(Refused::Problem(problem)) => problem.status(),
                Err(Refused::NotKnownHere(_)) => 0,
            }
        };
        let nobody = || Principal::Anonymous;
        assert_eq!(status(Method::Post, access::LOGIN, nobody()), 200);
        for (verb, path) in [
            (Method::Get, "/"),
            (Method::Get, "/core/examples"),
            (Method::Delete, "/core/management"),
            (Method::Post, "/core/query-tasks"),
            (Method::Get, "/core/peer-link"),
        ] {
            let refused = status(verb, path, nobody());
            assert!([401, 403].contains(&refused), "{} {path}: {refused}", verb.name());
            assert_eq!(status(verb, path, Principal::System), 200);
        }
        let bearer = |is_checked| {
            let (name, digest) = ("t".to_owned(), "d".to_owned());
            Principal::Bearer(Box::new(Bearer { name, digest, is_checked }))
        };
        assert_eq!(status(Method::Get, "/", bearer(false)), 0, "its owner is asked");
        assert_eq!(status(Method::Get, "/", bearer(true)), 401);
        let gone = Principal::User("/core/authz/users/gone".into());
        assert_eq!(status(Method::Delete, "/core/management", gone), 401);
    }
}
