//! Turns what the owner of the directory, or of an instance, says into an answer to a request.

use cluster::{Change, DirectoryAnswer};
use group::Reply;
use protocol::GroupId;

use crate::frame::Answer;
use crate::rest::{self, instances};
use crate::view::View;
use crate::work::InstanceAnswer;

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
