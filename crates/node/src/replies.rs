//! Turns what the owner of the directory, or of an instance, says into an answer to a request.

use cluster::{Change, DirectoryAnswer};
use group::Reply;
use protocol::{Code, GroupId, Outcome, Problem, Request, Response};

use crate::frame::Answer;
use crate::rest::{self, Plan, instances};
use crate::view::View;
use crate::work::{Effects, InstanceAnswer, Purpose};

pub(crate) fn directory_answer(reply: Reply<DirectoryAnswer>, view: &View<'_>) -> Answer {
    let response = match reply {
        Reply::NotOwner => return Answer::NotOwner,
        Reply::Answer(DirectoryAnswer::Problem(problem)) => return problem.into(),
        Reply::Answer(DirectoryAnswer::Done(Change::Group(_, name) | Change::Same(name))) => {
            instances::changed(&name, view)
        }
        Reply::Answer(DirectoryAnswer::Done(_)) => {
            rest::quorum_changed(view.topology().effective_quorum())
        }
    };
    Answer::Changed { response, directory: view.control.map.applied }
}

pub(crate) fn instance_answer(
    group: GroupId,
    reply: Reply<InstanceAnswer>,
    view: &View<'_>,
) -> Answer {
    match reply {
        Reply::NotOwner => Answer::NotOwner,
        Reply::Answer(InstanceAnswer::Problem(problem)) => problem.into(),
        Reply::Answer(InstanceAnswer::Told(told)) => {
            Answer::Response(instances::response_of(group, told, view))
        }
    }
}

/// This node's directory is level with its owner's, as the answer says, and `plan` is what is to be
/// done now. Gives the request back if that is anything else than to say that nothing is there.
pub(crate) fn leveled(
    (purpose, request): (Purpose, Request),
    answer: &Response,
    plan: Result<Plan, Problem>,
    effects: &mut Effects,
) -> Option<(Purpose, Request)> {
    let outcome = request.method.is_write().then_some(Outcome::NotApplied);
    let problem = match plan {
        _ if !answer.is_success() => {
            let words = answer.to_json();
            let why = words["message"].as_str().unwrap_or("its owner does not answer");
            let text = format!(
                "{} is not known at this node, and whether it is elsewhere cannot be said: {why}",
                request.path
            );
            Problem::new(Code::NoOwner, text)
        }
        Ok(Plan::Level(_, problem)) => problem,
        _ => return Some((purpose, request)),
    };
    effects.respond(&purpose, Problem { outcome, ..problem });
    None
}
