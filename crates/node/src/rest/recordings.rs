//! `/core/immortals/NAME/recording`: a checkpoint of an instance and what was logged since, page by
//! page, from the replica of the node that is asked. A recording changes nothing.

use group::LogView;
use immortals::recording::{PAGE_BYTES, encode_entries};
use protocol::{Code, Position, Problem, Request, Response};
use storage::{Reader, Space, StoreError};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Page {
    Head,
    /// A piece of that checkpoint.
    Chunk(Position, u32),
    /// What was logged after that position, in a recording from that checkpoint on.
    After(Position, Position),
}

impl Page {
    pub(super) fn of(request: &Request) -> Result<Self, Problem> {
        let number = |name: &str| match request.parameter(name) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| Problem::bad_request(format!("'{name}' is a number, not '{text}'"))),
        };
        match (number("base")?, number("chunk")?, number("after")?) {
            (None, None, None) => Ok(Self::Head),
            (Some(base), Some(chunk), None) => {
                Ok(Self::Chunk(Position(base), u32::try_from(chunk).unwrap_or(u32::MAX)))
            }
            (Some(base), None, Some(after)) => Ok(Self::After(Position(base), Position(after))),
            _ => Err(Problem::bad_request(
                "a page of a recording is asked for with 'base' and either 'chunk' or 'after'",
            )),
        }
    }
}

/// The page, from an instance whose base is written.
///
/// # Errors
/// When the store fails.
pub(crate) fn page_of(
    instance: &immortals::Instance,
    log: &LogView<'_>,
    store: &dyn Reader,
    space: &Space,
    page: Page,
) -> Result<Result<Response, Problem>, StoreError> {
    let name = instance.name();
    let base = match page {
        Page::Head => {
            let found = instance.recording(store, space)?;
            let none = || refused(format!("'{name}' has no state yet: no program has begun"));
            return Ok(found.ok_or_else(none).map(|head| Response::bytes(200, head.encode())));
        }
        Page::Chunk(base, _) | Page::After(base, _) => base,
    };
    if instance.base().0 != base {
        let text = format!("the checkpoint of '{name}' was replaced by a later one: begin anew");
        return Ok(Err(refused(text)));
    }
    Ok(match page {
        Page::Chunk(_, number) => {
            let none = || Problem::not_found(format!("the checkpoint has no piece {number}"));
            let found = instance.recorded_chunk(store, space, number)?;
            found.ok_or_else(none).map(|chunk| Response::bytes(200, chunk))
        }
        Page::Head | Page::After(..) => {
            let after = if let Page::After(_, after) = page { after } else { base };
            let entries = log.after(after, PAGE_BYTES).into_iter();
            let entries: Vec<_> = entries.map(|(at, _, bytes)| (at, bytes)).collect();
            Ok(Response::bytes(200, encode_entries(&entries)))
        }
    })
}

pub(super) fn refused(text: String) -> Problem {
    Problem::new(Code::Refused, text)
}
