//! `/core/backups`: a backup is begun, read page by page, and ended. What is in a backup has the
//! secrets of all users, so only who may do everything may read one, unless a role says otherwise.

use protocol::base64url;
use protocol::{GroupId, Method, Problem, Request};

use super::plan::{Plan, check_fields, parse_body};
use crate::backup::words::BackupWish;

pub(super) const LINK: &str = "/core/backups";

/// `rest` is what comes below [`LINK`].
///
/// # Errors
/// What is wrong with the request.
pub(super) fn plan(request: &Request, rest: &str) -> Result<Plan, Problem> {
    if rest.is_empty() {
        // It is of everything.
        if !request.body.trim_ascii().is_empty() {
            check_fields(&parse_body(&request.body)?, "a backup", &[])?;
        }
        return Ok(Plan::Backup(BackupWish::Begin));
    }
    let (id, group) = rest.split_once('/').unwrap_or((rest, ""));
    let backup = u64::from_str_radix(id, 16)
        .map_err(|_| Problem::not_found(format!("'{id}' is not the id of a backup")))?;
    if request.method == Method::Delete {
        return Ok(Plan::Backup(BackupWish::End(backup)));
    }
    let group = group
        .parse()
        .map_err(|_| Problem::not_found(format!("a backup has groups by number, not '{group}'")))?;
    let after = request.parameter("after").unwrap_or_default();
    let after = base64url::decode(&after)
        .ok_or_else(|| Problem::bad_request("'after' is what the page before said as 'next'"))?;
    Ok(Plan::Backup(BackupWish::Page(backup, GroupId(group), after.into())))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn wish(method: Method, rest: &str, query: &str) -> Result<BackupWish, u16> {
        let request = Request { query: query.into(), ..Request::new(method, LINK) };
        match plan(&request, rest) {
            Ok(Plan::Backup(wish)) => Ok(wish),
            Ok(_) => panic!("it is about backups"),
            Err(problem) => Err(problem.status()),
        }
    }

    #[test]
    fn each_wish_is_understood_and_nonsense_is_refused() {
        assert_eq!(wish(Method::Post, "", ""), Ok(BackupWish::Begin));
        assert_eq!(wish(Method::Delete, "ff", ""), Ok(BackupWish::End(255)));
        let page =
            |after: &'static [u8]| BackupWish::Page(255, GroupId(3), Bytes::from_static(after));
        assert_eq!(wish(Method::Get, "ff/3", ""), Ok(page(b"")));
        let after = format!("after={}", base64url::encode(b"abc"));
        assert_eq!(wish(Method::Get, "ff/3", &after), Ok(page(b"abc")));
        assert_eq!(wish(Method::Get, "ff/3", "after=***"), Err(400));
        assert_eq!(wish(Method::Get, "nothing/3", ""), Err(404));
        assert_eq!(wish(Method::Get, "ff/x", ""), Err(404));
        let body = Request { body: "{\"a\":1}".into(), ..Request::new(Method::Post, LINK) };
        assert!(plan(&body, "").is_err());
    }
}
