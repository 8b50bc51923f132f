//! Whether a request may come in: who asks, and what the path needs.

use std::sync::Arc;

use access::{Guard, Needs, Session, Thing, Unknown};
use cluster::Topology;
use protocol::{Code, GroupId, Method, Moment, Outcome, Principal, Problem, Request, Response};
use services::Catalogue;

use crate::frame::Question;
use crate::rest::{Plan, Resource};
use crate::work::{Effects, Purpose, Unproved, Work};

/// Why a request does not come in.
pub(crate) enum Refused {
    /// Its token is not known here, or the password is another one that it was made by. They may be
    /// too new for the replicas of this node: the owner of that document knows.
    NotKnownHere {
        link: String,
        session: Option<Box<Session>>,
    },
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
                return Err(Refused::NotKnownHere { link: link_of(&bearer.name), session: None });
            }
            Err(Unknown::PasswordHere(session)) if !bearer.is_checked => {
                let link = session.password().to_owned();
                return Err(Refused::NotKnownHere { link, session: Some(session) });
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
    if let Principal::User(user) = &request.principal
        && !guard.policy.knows(user)
        && needs != Some(Needs::Nothing)
    {
        return Err(refused(request, not_taken(Unknown::User)));
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
        Refused::NotKnownHere { link, session } => {
            let (purpose, request) = waiting;
            let unproved = Box::new(Unproved { purpose, request, session });
            effects.push(look_up(topology, link, unproved));
        }
    }
}

/// The link of a token's document.
fn link_of(token: &str) -> String {
    format!("{}/{token}", access::TOKENS)
}

/// Asks the owner of a document who shows a token.
fn look_up(topology: &Topology, link: String, waiting: Box<Unproved>) -> Work {
    if topology.partitions() == 0 {
        return Work::LookedUp(waiting, Response::from(Code::NoOwner));
    }
    let group = topology.partition_of(&link);
    let question = Request::new(Method::Get, link).on_behalf_of(Principal::System);
    Work::Submit(Purpose::LookUp(waiting), group, Question::Rest(question))
}

/// The owner of that document has said what it is: the request goes on with that. A token that is
/// known only now may have been made by a password that is not known here either.
/// When the owner does not answer, it is not known whether the token counts.
pub(crate) fn looked_up(
    mut waiting: Box<Unproved>,
    answer: &Response,
    (guard, topology): (&Guard, &Topology),
    now: Moment,
    effects: &mut Effects,
) {
    if guard.is_on && answer.status >= 500 {
        let text = "whether the token is valid is not known: the owner of its document does not \
                    answer; try again, or ask another node";
        let problem = Problem::new(Code::NoOwner, text);
        let outcome = waiting.request.method.is_write().then_some(Outcome::NotApplied);
        return effects.respond(&waiting.purpose, Problem { outcome, ..problem });
    }
    if let Principal::Bearer(bearer) = &mut waiting.request.principal {
        bearer.is_checked = true;
        let body = answer.to_json();
        let fields = body.as_object().filter(|_| answer.is_success());
        let user = match (fields, &waiting.session) {
            (None, _) => None,
            (Some(fields), Some(session)) => {
                session.counts_by(fields).then(|| Arc::clone(session.user()))
            }
            (Some(fields), None) => match guard.policy.authenticate_by(fields, bearer, now) {
                Err(Unknown::PasswordHere(session)) => {
                    let link = session.password().to_owned();
                    waiting.session = Some(session);
                    return effects.push(look_up(topology, link, waiting));
                }
                found => found.ok(),
            },
        };
        if let Some(user) = user {
            waiting.request.principal = Principal::User(user);
        }
    }
    let Unproved { purpose, request, .. } = *waiting;
    effects.push(Work::Enter(purpose, request));
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
            // The owner of the definition is asked, if there are no documents.
            Plan::Undefine { .. } => true,
            // What the router knows of a document, it has checked itself.
            Plan::Respond(_) => verb == Method::Get,
            Plan::Nothing => true,
            Plan::Query(..) | Plan::Counted(..) | Plan::Page { .. } => true,
            // The owner of each document decides.
            Plan::Batch(_) => true,
            Plan::Stats(_) | Plan::Available | Plan::Watch(_) => true,
            // What is to be told is looked at first, and again with each notification.
            Plan::Subscribe { .. } => true,
            // The other task is read with the same rights, and then the request comes in once more.
            Plan::Copy { .. } => true,
            _ => false,
        },
    }
}

/// Whether nothing but a write of a document of that partition can come of it. What an immortal
/// writes is done once only there.
pub(crate) fn is_write_at(partition: GroupId, plan: &Plan) -> bool {
    match plan {
        Plan::Ask(group, Question::Rest(request)) => {
            *group == partition && request.method.is_write()
        }
        // Nothing is done but to look for the factory; then the request comes in once more.
        Plan::Seek(..) => true,
        _ => false,
    }
}

/// A write of the rules comes by a request from outside, and by no other way: there a password is
/// hashed, a token made up, and all of it is recorded. Tasks, immortals and subscriptions would go
/// past that.
///
/// # Errors
/// When somebody else than the cluster itself writes so.
pub(crate) fn check_way(purpose: &Purpose, request: &Request) -> Result<(), Problem> {
    let is_inner = matches!(purpose, Purpose::Call { .. } | Purpose::Notify { .. } | Purpose::Own);
    let is_own = request.principal == Principal::System;
    let path = request.path.as_str();
    let is_of_rules = access::is_of_rules(path) && path != access::CAN_I;
    if !is_inner || is_own || !request.method.is_write() || !is_of_rules {
        return Ok(());
    }
    let text = format!(
        "users, rights and tokens are changed by requests from outside, which are recorded: a \
         task, an immortal and a subscription cannot {} {}",
        request.method.name(),
        request.path
    );
    Err(Problem::new(Code::AccessDenied, text).with_outcome(Outcome::NotApplied))
}

/// An immortal has written to what is no document.
pub(crate) fn no_write_at(path: &str) -> Problem {
    let text = format!(
        "an immortal writes to documents, and {path} is none that is in the partition to which the \
         write was sent; an action is sent as ACT, and a new document to its own link"
    );
    Problem::new(Code::BadLink, text).with_outcome(Outcome::NotApplied)
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
        Unknown::Password | Unknown::PasswordHere(_) => {
            "the password was changed after that login; log in again"
        }
    };
    Problem::new(Code::Unauthorized, text)
}

fn refused(request: &Request, mut problem: Problem) -> Refused {
    problem.outcome = request.method.is_write().then_some(Outcome::NotApplied);
    Refused::Problem(Box::new(problem))
}

#[cfg(test)]
mod tests {
    use access::Policy;
    use protocol::{Action, Bearer, Body, Document, GroupId, Term};
    use serde_json::json;

    use super::*;
    use crate::io::Output;

    /// Past the shell, nobody would have hashed a password or recorded a change of rights.
    #[test]
    fn the_rules_are_written_by_requests_from_outside_alone() {
        let user = Principal::User("/core/authz/users/jane".into());
        let call = Purpose::Call { group: GroupId(1), opening: 1, call: 1 };
        let ways = [(Purpose::Client { ticket: 1 }, true), (call, false)];
        for (way, is_taken) in ways.into_iter().chain([(Purpose::Notify { number: 1 }, false)]) {
            for path in ["/core/auth/credentials/jane", "/core/auth/tokens", "/core/authz/roles/r"]
            {
                let write = Request::new(Method::Patch, path).on_behalf_of(user.clone());
                assert_eq!(check_way(&way, &write).is_ok(), is_taken, "{path} by {way:?}");
                let own = write.on_behalf_of(Principal::System);
                assert!(check_way(&way, &own).is_ok());
                let read = Request::get(path).on_behalf_of(user.clone());
                assert!(check_way(&way, &read).is_ok());
            }
            for path in ["/core/examples/one", access::CAN_I] {
                let write = Request::new(Method::Post, path).on_behalf_of(user.clone());
                assert!(check_way(&way, &write).is_ok(), "{path}");
            }
        }
    }

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
    fn an_immortal_writes_to_a_document_of_the_partition_that_it_has_sent_to_and_to_nothing_else() {
        let ask = |group, verb| {
            let request = Request::new(verb, "/core/x/y");
            Plan::Ask(GroupId(group), Question::Rest(request))
        };
        let here = GroupId(3);
        assert!(is_write_at(here, &ask(3, Method::Patch)));
        assert!(!is_write_at(here, &ask(4, Method::Patch)), "its number is noted elsewhere");
        assert!(!is_write_at(here, &ask(3, Method::Get)));
        let respond = Plan::Respond(Response::json(200, &serde_json::json!({})));
        let level = Plan::Level(Box::new(Request::new(Method::Patch, "/x")), not_covered("/x"));
        for plan in [respond, level, Plan::Stop, Plan::Available, Plan::Release(GroupId(1 << 20))] {
            assert!(!is_write_at(here, &plan), "it is not done once");
        }
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
                Err(Refused::NotKnownHere { .. }) => 0,
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

    fn rule(link: String, body: &serde_json::Value) -> Document {
        Document {
            link,
            version: 0,
            epoch: Term(1),
            kind: String::new(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_text(body.to_string()),
        }
    }

    /// The next thing to do for a request whose token is looked for: what it waits for, or who
    /// asks.
    fn next(work: Work) -> Result<Principal, Box<Unproved>> {
        match work {
            // Without partitions nobody is asked, and here the test answers.
            Work::LookedUp(waiting, _) => Err(waiting),
            Work::Enter(_, request) => Ok(request.principal),
            _ => panic!("nothing else is done"),
        }
    }

    #[test]
    fn a_login_that_is_newer_than_this_replica_is_looked_up_with_its_password() {
        let jane = format!("{}/jane", access::USERS);
        let password = format!("{}/jane", access::CREDENTIALS);
        let token = json!({"userLink": jane, "digest": "d", "passwordLink": password,
            "passwordMark": access::password_mark("new")});
        let credentials = |hash: &str| json!({"documentSelfLink": password, "privateKey": hash});
        let known = [
            rule(jane.clone(), &json!({"email": "jane"})),
            rule(password.clone(), &credentials("old")),
        ];
        let topology = Topology::default();
        let guard = |more: Option<Document>| {
            let policy = Policy::of(known.iter().cloned().chain(more));
            Guard { is_on: true, policy: Arc::new(policy) }
        };
        let asked = || {
            let bearer = Bearer { name: "t".into(), digest: "d".into(), is_checked: false };
            Request::new(Method::Get, "/").on_behalf_of(Principal::Bearer(Box::new(bearer)))
        };
        let answered = |waiting, answer: &serde_json::Value, guard: &Guard| {
            let answer = Response::json(200, answer);
            let mut effects = Effects::default();
            looked_up(waiting, &answer, (guard, &topology), Moment(1), &mut effects);
            next(effects.work.pop_front().expect("it goes on"))
        };
        // The token is not known here: first it, and then its password.
        let guard_of_old = guard(None);
        let unproved =
            |request, session| Box::new(Unproved { purpose: Purpose::Own, request, session });
        for (hash, counts) in [("new", true), ("newer", false)] {
            let waiting = answered(unproved(asked(), None), &token, &guard_of_old).unwrap_err();
            let session = waiting.session.as_ref().expect("its password is looked for");
            assert_eq!(session.password(), password);
            let mut request = waiting.request.clone();
            let who = answered(waiting, &credentials(hash), &guard_of_old);
            let is_jane = who.is_ok_and(|who| who == Principal::User(jane.as_str().into()));
            assert_eq!(is_jane, counts, "{hash}");
            // Who was looked up is not looked up once more.
            let admitted = admit(&mut request, (&guard_of_old, &Catalogue::new()), Moment(1));
            assert!(matches!(admitted, Err(Refused::Problem(_))));
        }
        // The owner of the token's document does not answer.
        let (silent, known) = (Response::from(Code::NoOwner), (&guard_of_old, &topology));
        let mut effects = Effects::default();
        let mut waiting = unproved(asked(), None);
        waiting.purpose = Purpose::Client { ticket: 1 };
        looked_up(waiting, &silent, known, Moment(1), &mut effects);
        assert!(effects.work.is_empty());
        let [Output::Answer { response, .. }] = &effects.outputs[..] else { panic!("no answer") };
        assert_eq!(response.status, 503);
        // The token is known, and the new password is not.
        let link = format!("{}/t", access::TOKENS);
        let guard = guard(Some(rule(link, &token)));
        let mut request = asked();
        let refused = admit(&mut request, (&guard, &Catalogue::new()), Moment(1)).unwrap_err();
        let Refused::NotKnownHere { link, session } = refused else { panic!("it is in doubt") };
        assert_eq!(link, password);
        let who = answered(unproved(request, session), &credentials("new"), &guard);
        assert!(who.is_ok_and(|who| who == Principal::User(jane.as_str().into())));
    }
}
