//! Whose a password or an instance is: which user, and which of all that have had that name. What
//! says so is put in here, where every user can be asked for at its owner: no replica that lags
//! behind decides it.

use access::{
    CREDENTIALS, INSTANCE_OWNERS, MADE, NOBODY_SO_FAR, OWNERS_MADE, USER_MADE, USERS, name_in,
    owner_made,
};
use protocol::query::{LINK as QUERY_TASKS, Query};
use protocol::{Code, Method, Moment, Problem, Request, links};
use serde_json::{Map, Value, json};

use crate::ask::{ask_as_system, problem_of};
use crate::inbox::Inbox;

/// The fields of a PATCH that adds something to lists.
const TO_ADD: &str = "itemsToAdd";

/// The most owners of an instance that one request names: each is looked up.
const OWNERS_MAX: usize = 256;

/// A document that may be there.
pub(crate) async fn read(inbox: &Inbox, link: &str) -> Result<Option<Value>, Problem> {
    if links::check(link).is_err() {
        return Ok(None);
    }
    let answer = ask_as_system(inbox, Request::get(link)).await;
    match answer.status {
        200 => Ok(Some(answer.to_json())),
        404 => Ok(None),
        _ => Err(problem_of(&answer)),
    }
}

/// The user of that name or e-mail address. As many questions are asked for one who is not there.
pub(crate) async fn user_called(inbox: &Inbox, name: &str) -> Result<Option<Value>, Problem> {
    let by_name = read(inbox, &format!("{USERS}/{name}")).await?;
    let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {
        "options": ["EXPAND_CONTENT"], "query": Query::equal("email", name)}});
    let task = Request::new(Method::Post, QUERY_TASKS).with_json(&query);
    let answer = ask_as_system(inbox, task).await;
    if !answer.is_success() {
        return Err(problem_of(&answer));
    }
    let mut found = answer.to_json()["results"]["documents"].take();
    let by_mail = found.as_object_mut().and_then(|documents| {
        let is_user = |link: &&String| link.starts_with(&format!("{USERS}/"));
        let link = documents.keys().find(is_user).cloned()?;
        documents.remove(&link)
    });
    Ok(by_name.or(by_mail))
}

/// When a user was made; `None` for one from before users said it.
pub(crate) fn made_of(user: &Value) -> Option<u64> {
    user[MADE].as_u64()
}

/// Whether a password is this user's, and not that of an earlier one of the name.
pub(crate) fn is_of(password: &Value, user: &Value) -> bool {
    let written = password["documentUpdateTimeMicros"].as_u64().unwrap_or_default();
    access::is_one_of(password[USER_MADE].as_u64(), Moment(written), made_of(user))
}

/// Notes in a new password whose it is.
///
/// # Errors
/// When it cannot be told at this moment, or when the client says something else.
pub(crate) async fn mark_password(
    inbox: &Inbox,
    request: &Request,
    body: &mut Map<String, Value>,
) -> Result<(), Problem> {
    let said = body.remove(USER_MADE).filter(|said| !said.is_null());
    let mut mark = None;
    if body.get("privateKey").is_some_and(|password| !password.is_null())
        && let Some(name) = name_of(request, body)
    {
        mark = match user_called(inbox, &name).await? {
            Some(user) => made_of(&user),
            None => Some(NOBODY_SO_FAR),
        };
    }
    if said.is_some_and(|said| said.as_u64() != mark) {
        let text = format!("{USER_MADE} is given by the cluster: leave it out");
        return Err(Problem::bad_request(text));
    }
    if let Some(mark) = mark {
        body.insert(USER_MADE.into(), mark.into());
    }
    Ok(())
}

/// The name of the password that a request is about.
fn name_of(request: &Request, body: &Map<String, Value>) -> Option<String> {
    let link = match name_in(&request.path, CREDENTIALS) {
        Some(name) => name,
        None => body.get("documentSelfLink").and_then(Value::as_str)?,
    };
    let name = name_in(link, CREDENTIALS).unwrap_or(link);
    Some(name.trim_start_matches('/').to_owned())
}

/// There is a new user: a password that was set before for whoever would have the name is this
/// user's from now on, and no later one's. If that cannot be written now, the user's first login
/// writes it.
pub(crate) async fn bind_passwords(inbox: &Inbox, user: &Value) {
    let Some(made) = made_of(user) else { return };
    let name = user["documentSelfLink"].as_str().and_then(|link| name_in(link, USERS));
    let email = user["email"].as_str().filter(|email| Some(*email) != name);
    for name in name.into_iter().chain(email) {
        let link = format!("{CREDENTIALS}/{name}");
        if let Ok(Some(password)) = read(inbox, &link).await
            && is_unbound(&password)
        {
            bind(inbox, &link, made).await;
        }
    }
}

/// Whether a password was set when there was no such user.
pub(crate) fn is_unbound(password: &Value) -> bool {
    password[USER_MADE].as_u64() == Some(NOBODY_SO_FAR)
}

pub(crate) async fn bind(inbox: &Inbox, link: &str, made: u64) {
    let bind = Request::new(Method::Patch, link).with_json(&json!({ USER_MADE: made }));
    let answer = ask_as_system(inbox, bind).await;
    if !answer.is_success() {
        tracing::warn!(
            target: "amrita",
            "{link} could not be bound to its user ({}); the next login tries it again",
            answer.status
        );
    }
}

/// Notes in the owners of an instance when each of them was made.
///
/// # Errors
/// When one of them is not there, or it cannot be told at this moment.
pub(crate) async fn mark_owners(inbox: &Inbox, request: &mut Request) -> Result<(), Problem> {
    // What cannot be read, the owner of the document refuses.
    let Ok(Value::Object(mut body)) = serde_json::from_slice(&request.body) else { return Ok(()) };
    let mut has_changed = mark_in(inbox, &mut body).await?;
    if let Some(Value::Object(added)) = body.get_mut(TO_ADD) {
        has_changed |= mark_in(inbox, added).await?;
    }
    if has_changed {
        request.body = Value::Object(body).to_string().into();
    }
    Ok(())
}

/// What the client says of the marks it has read: they are found anew.
async fn mark_in(inbox: &Inbox, fields: &mut Map<String, Value>) -> Result<bool, Problem> {
    let Some(Value::Array(users)) = fields.get("userLinks") else {
        if fields.get(OWNERS_MADE).is_some_and(|said| !said.is_null()) {
            let text = format!("{OWNERS_MADE} goes with userLinks: leave it out");
            return Err(Problem::bad_request(text));
        }
        return Ok(false);
    };
    if users.len() > OWNERS_MAX {
        let text = format!("userLinks has {} users; the limit is {OWNERS_MAX}", users.len());
        return Err(Problem::new(Code::TooLarge, text));
    }
    let mut marks = Vec::new();
    for link in users.clone().iter().filter_map(Value::as_str) {
        if name_in(link, USERS).is_none() {
            continue;
        }
        let Some(user) = read(inbox, link).await? else {
            let text = format!("there is no user {link}: make it first");
            return Err(Problem::bad_request(text));
        };
        marks.extend(made_of(&user).map(|made| owner_made(link, made)));
    }
    fields.insert(OWNERS_MADE.into(), marks.into());
    Ok(true)
}

/// The document that says that an instance is this user's.
pub(crate) async fn owners_of(inbox: &Inbox, name: &str, user: &str) -> Result<Value, Problem> {
    let made = read(inbox, user).await?.as_ref().and_then(made_of);
    let marks: Vec<String> = made.map(|made| owner_made(user, made)).into_iter().collect();
    let link = format!("{INSTANCE_OWNERS}/{name}");
    Ok(json!({"documentSelfLink": link, "userLinks": [user], OWNERS_MADE: marks}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake_node::{failed, ok, run, with_node};

    /// What becomes of a password for that name, where jane was made at 5 and nobody else is there.
    fn marked(path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::new(Method::Put, path);
        let Value::Object(mut body) = body.clone() else { panic!("{body}") };
        let jane = json!({"documentSelfLink": "/core/authz/users/jane", "email": "j@x", MADE: 5});
        let (done, _) = run(async {
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let node = |request: &Request| match request.path.as_str() {
                "/core/authz/users/jane" => ok(&jane),
                QUERY_TASKS if String::from_utf8_lossy(&request.body).contains("j@x") => {
                    ok(&json!({"results": {"documents": {"/core/authz/users/jane": jane}}}))
                }
                QUERY_TASKS => ok(&json!({"results": {"documents": {}}})),
                _ => failed(404, "notApplied"),
            };
            let work = mark_password(&inbox, &request, &mut body);
            with_node(&inbox, node, work).await
        });
        done.map(|()| Value::Object(body)).map_err(|problem| problem.message)
    }

    #[test]
    fn a_password_says_whose_it_is_and_no_client_says_otherwise() {
        let key = json!({"privateKey": "p"});
        for (path, name, mark) in [
            ("/core/auth/credentials/jane", None, json!(5)),
            ("/core/auth/credentials/j@x", None, json!(5)),
            ("/core/auth/credentials/joe", None, json!(NOBODY_SO_FAR)),
            ("/core/auth/credentials", Some("jane"), json!(5)),
            ("/core/auth/credentials", Some("/core/auth/credentials/jane"), json!(5)),
            ("/core/auth/credentials", None, Value::Null),
        ] {
            let mut body = key.clone();
            if let Some(name) = name {
                body["documentSelfLink"] = name.into();
            }
            assert_eq!(marked(path, &body).unwrap()[USER_MADE], mark, "{path} {name:?}");
        }
        let path = "/core/auth/credentials/jane";
        let said = |mark: u64| marked(path, &json!({"privateKey": "p", USER_MADE: mark}));
        assert_eq!(said(5).unwrap()[USER_MADE], 5, "as it was read");
        assert!(said(6).unwrap_err().contains("leave it out"));
        assert!(marked(path, &json!({USER_MADE: 5})).is_err(), "without a password");
    }

    /// What becomes of a request for the owners of an instance.
    fn owned(body: &Value) -> Result<Value, String> {
        let mut request = Request::new(Method::Patch, "/core/authz/instance-owners/a");
        request = request.with_json(body);
        let (done, _) = run(async {
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let node = |request: &Request| match request.path.as_str() {
                "/core/authz/users/jane" => ok(&json!({MADE: 5})),
                _ => failed(404, "notApplied"),
            };
            with_node(&inbox, node, mark_owners(&inbox, &mut request)).await
        });
        done.map(|()| serde_json::from_slice(&request.body).unwrap()).map_err(|it| it.message)
    }

    #[test]
    fn owners_say_which_user_of_the_name_they_are() {
        let jane = "/core/authz/users/jane";
        let marks = json!([owner_made(jane, 5)]);
        assert_eq!(owned(&json!({"userLinks": [jane]})).unwrap()[OWNERS_MADE], marks);
        let added = json!({"kind": "com:vmware:xenon:common:ServiceStateCollectionUpdateRequest",
            TO_ADD: {"userLinks": [jane]}});
        assert_eq!(owned(&added).unwrap()[TO_ADD][OWNERS_MADE], marks);
        let gone = json!({"userLinks": [jane, "/core/authz/users/joe"]});
        assert!(owned(&gone).unwrap_err().contains("there is no user /core/authz/users/joe"));
        assert!(owned(&json!({OWNERS_MADE: []})).is_err());
    }
}
