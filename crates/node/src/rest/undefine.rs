//! DELETE of the definition of a kind. Documents of a kind that is not there any more cannot be
//! reached, so they are counted first, whoever may see them, and a kind that has any is kept unless
//! the client says that it means it. What somebody makes between the count and the deletion stays,
//! as all documents of a kind do, and is there again when the kind is defined again.

use protocol::links::KINDS;
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response};

use super::plan::{Plan, below};
use super::who;
use crate::frame::Question;
use crate::view::View;
use crate::work::{Effects, Purpose, Work};

/// The pragma by which a client says that documents of the kind may be left out of reach.
const FORCE: &str = "xn-force-index-update";

/// Looks at a DELETE of a document: what is to be done first, if anything.
///
/// # Errors
/// When it asks for what is for definitions only, or when whoever asks may not delete the
/// definition: whether there are documents is then none of their business.
pub(super) fn plan_as_permitted(
    request: &Request,
    view: &View<'_>,
) -> Result<Option<Plan>, Problem> {
    let planned = plan(request)?;
    let (asker, verb, link) = (&request.principal, request.method, request.path.as_str());
    let is_on = view.shard.handlers.guard.is_on && *asker != Principal::System;
    if is_on && matches!(planned, Some(Plan::Undefine { .. })) {
        let decision = who::on(asker, verb, link, view)?;
        if !decision.is_allowed {
            let refused = access::refused(asker, verb, link, &decision.reason);
            return Err(refused.with_outcome(Outcome::NotApplied));
        }
    }
    Ok(planned)
}

fn plan(request: &Request) -> Result<Option<Plan>, Problem> {
    if request.method != Method::Delete {
        return Ok(None);
    }
    let is_forced = request.has_pragma(FORCE);
    let name = below(&request.path, KINDS).filter(|name| !name.is_empty());
    match name {
        None if is_forced => {
            let text =
                format!("the pragma '{FORCE}' goes with DELETE of the definition of a kind only");
            Err(Problem::bad_request(text))
        }
        Some(name) if !is_forced => {
            let count = Request::get(&format!("{}?$count=true", factory_of(name)));
            let count = Box::new(count.on_behalf_of(Principal::System));
            Ok(Some(Plan::Undefine { count, delete: Box::new(request.clone()) }))
        }
        None | Some(_) => Ok(None),
    }
}

fn factory_of(name: &str) -> String {
    format!("/{}", name.replace(':', "/"))
}

/// The documents were counted.
pub(crate) fn counted(
    (purpose, delete): (Purpose, Request),
    answer: &Response,
    view: &View<'_>,
    effects: &mut Effects,
) {
    let name = below(&delete.path, KINDS).unwrap_or_default();
    let factory = factory_of(name);
    let count = answer.to_json()["documentCount"].as_u64();
    let problem = match count {
        Some(0) => None,
        // There is no such kind, so there is nothing that could be counted.
        _ if answer.status == Code::NotFound.status() => None,
        // How many is not said: the owner of the definition has not looked who asks so far.
        Some(_) => Some(Problem::new(
            Code::Refused,
            format!(
                "{factory} still has documents. They would stay, but nobody could reach them until \
                 it is defined again. If you mean it: Pragma: {FORCE}"
            ),
        )),
        None => Some(Problem::new(
            Code::NoOwner,
            format!(
                "how many documents {factory} has is not known at the moment, as the answer to \
                 that is {}: try again",
                answer.status
            ),
        )),
    };
    match problem {
        Some(problem) => effects.respond(&purpose, problem.with_outcome(Outcome::NotApplied)),
        None => {
            let group = view.topology().partition_of(&delete.path);
            effects.push(Work::Submit(purpose, group, Question::Rest(delete)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::shown;
    use super::*;

    fn planned(path: &str, pragma: Option<&str>) -> String {
        let request = Request {
            pragmas: pragma.map(str::to_owned).into_iter().collect(),
            ..Request::new(Method::Delete, path)
        };
        match plan(&request) {
            Ok(plan) => plan.map_or("as any other".into(), |plan| shown(&plan)),
            Err(problem) => problem.message,
        }
    }

    #[test]
    fn documents_are_counted_before_their_kind_goes() {
        let seats = "/core/factories/app:seats";
        let counted = "count /app/seats?$count=true, then delete /core/factories/app:seats";
        assert_eq!(planned(seats, None), counted);
        assert_eq!(planned(seats, Some(FORCE)), "as any other");
        assert_eq!(planned("/app/seats/A1", None), "as any other");
        assert!(planned("/app/seats/A1", Some(FORCE)).contains("a kind only"));
        let mut other = Request::new(Method::Patch, seats);
        other.pragmas.clear();
        assert!(plan(&other).unwrap().is_none());
    }
}
