//! What is asked of the past: a document as it was, the difference of two versions, a version that
//! is to be there again.

use protocol::query::QuerySpecification;
use protocol::{Method, Moment, Problem, Request, links, time};

use crate::view::View;

/// The parameters of a GET of a document that name what is to be shown of it. One at a time.
const SHOWN: [&str; 3] = ["documentVersion", "asOf", "diff"];

/// Of a document: checks what is asked, and gives a version by its number the usual name.
///
/// # Errors
/// What is wrong with it, or what excludes what.
pub(super) fn check_document(request: &mut Request, view: &View<'_>) -> Result<(), Problem> {
    if request.method == Method::Put && request.parameter("revert").is_some() {
        return check_revert(request);
    }
    let named: Vec<&str> =
        SHOWN.into_iter().filter(|name| request.parameter(name).is_some()).collect();
    if let [first, second, ..] = named[..] {
        return Err(Problem::bad_request(format!(
            "{first} and {second} name two different things to show; leave one of them out"
        )));
    }
    if let Some(text) = request.parameter("asOf") {
        if let Some(version) = version_of(&text) {
            name_version(request, version);
            return Ok(());
        }
        let at = query::as_of(request)?;
        return at.map_or(Ok(()), |at| check_time(at, "asOf", view));
    }
    if let Some(text) = request.parameter("diff") {
        check_diff(&text)?;
    }
    Ok(())
}

/// Writes the version in place of `asOf`, and leaves every other parameter as it is.
fn name_version(request: &mut Request, version: u64) {
    let is_of_time = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        links::percent_decode(name).is_ok_and(|name| name.trim_start_matches('$') == "asOf")
    };
    let others = request.query.split('&').filter(|pair| !pair.is_empty() && !is_of_time(pair));
    let named = format!("documentVersion={version}");
    request.query = others.chain([named.as_str()]).collect::<Vec<_>>().join("&");
}

/// `v3` is the version 3.
fn version_of(text: &str) -> Option<u64> {
    let number = text.strip_prefix('v')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

fn check_diff(text: &str) -> Result<(), Problem> {
    let is_number = |part: &str| part.parse::<u64>().is_ok();
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_number(part)) {
        return Ok(());
    }
    Err(Problem::bad_request(format!(
        "diff is '{text}'; write two versions, such as diff=2,5, or one to compare the latest with it"
    )))
}

fn check_revert(request: &Request) -> Result<(), Problem> {
    if !request.body.is_empty() {
        let text = "revert says what the document is to be, and there is a body; leave one of them \
                    out";
        return Err(Problem::bad_request(text));
    }
    let text = request.parameter("revert").unwrap_or_default();
    match text.parse::<u64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::bad_request(format!(
            "revert is '{text}'; write the version that the document is to be again, such as \
             revert=3"
        ))),
    }
}

/// # Errors
/// When a query asks for what is to come.
pub(super) fn check_query(
    specification: &QuerySpecification,
    view: &View<'_>,
) -> Result<(), Problem> {
    match specification.extent.time_snapshot_boundary_micros {
        Some(at) => check_time(Moment(at), "timeSnapshotBoundaryMicros (asOf)", view),
        None => Ok(()),
    }
}

/// The time of a write may be ahead of the clock of another node by so much, in microseconds: an
/// owner whose clock is further off owns nothing. Who has just written may ask for that time.
const AHEAD_MICROS: u64 = 1_000_000;

fn check_time(at: Moment, name: &str, view: &View<'_>) -> Result<(), Problem> {
    let now = view.now.wall;
    if at.0 <= now.0.saturating_add(AHEAD_MICROS) {
        return Ok(());
    }
    Err(Problem::bad_request(format!(
        "{name} is {}, and here it is {}: nobody knows what will be. Leave it out for what is",
        time::shown(at),
        time::shown(now)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_takes_the_place_of_its_own_parameter_only() {
        for (asked, named) in [
            ("asOf=v3", "documentVersion=3"),
            ("asOf=v3&consistency=local", "consistency=local&documentVersion=3"),
            ("consistency=local&%24asOf=v3", "consistency=local&documentVersion=3"),
        ] {
            let mut request = Request::get("/a/1");
            request.query = asked.to_owned();
            name_version(&mut request, 3);
            assert_eq!(request.query, named);
        }
    }
}
