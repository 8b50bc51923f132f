//! Whose an instance is: who registers it owns it. The document that says so is there before the
//! instance is, so there is no moment in which the instance is anybody's.

use access::{INSTANCE_OWNERS, INSTANCES, OWNERS_MADE, name_in};
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response};
use serde_json::{Value, json};

use crate::ask::{ask, ask_as_system, may, user_of};
use crate::inbox::Inbox;
use crate::lives;

/// Where AMBROSIA's bindings erase a replica, and with the last one the instance.
const BLOBS: &str = "/core/ambrosia/cra/AmbrosiaBinaries";

/// Whether a request changes whose something is.
pub(crate) fn concerns(request: &Request) -> bool {
    match request.method {
        Method::Post => request.path == INSTANCES,
        Method::Delete => {
            name_in(&request.path, INSTANCES).is_some_and(|name| !name.contains('/'))
                || name_in(&request.path, BLOBS).is_some()
        }
        _ => false,
    }
}

/// Registers an instance or removes one, with what says whose it is.
pub(crate) async fn answer(inbox: &Inbox, request: Request) -> Response {
    if request.method == Method::Delete {
        return remove(inbox, request).await;
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(name) = body["name"].as_str().filter(|name| !name.contains('/')) else {
        return ask(inbox, request).await;
    };
    // Who cannot be told just now is not nobody: the instance would belong to nobody for good.
    let user = match user_of(inbox, &request.principal).await {
        Ok(Some(user)) => user,
        Ok(None) => return ask(inbox, request).await,
        Err(problem) => return problem.with_outcome(Outcome::NotApplied).into(),
    };
    // The node looks at the directory's owner before it says that there is none.
    // The name is a client's: what stands behind a '?' in it is no query.
    let look = Request::new(Method::Get, format!("{INSTANCES}/{name}"));
    let known = ask_as_system(inbox, look).await;
    let is_there = match known.status {
        200..300 => true,
        400 | 404 => false,
        _ => return known,
    };
    let change = (Method::Patch, &*format!("{INSTANCES}/{name}"));
    let may_change = match may(inbox, request.principal.clone(), change).await {
        Ok((is_allowed, _)) => is_allowed,
        Err(problem) => return problem.with_outcome(Outcome::NotApplied).into(),
    };
    if is_there {
        // Who registers again what is there becomes no owner, also of what is nobody's.
        return if may_change { ask(inbox, request).await } else { others(name) };
    }
    let link = format!("{INSTANCE_OWNERS}/{name}");
    let owners = match lives::owners_of(inbox, name, &user).await {
        Ok(owners) => owners,
        Err(problem) => return problem.with_outcome(Outcome::NotApplied).into(),
    };
    let make = Request::new(Method::Post, INSTANCE_OWNERS).with_json(&owners);
    let made = ask_as_system(inbox, make).await;
    let is_new = made.is_success();
    if !is_new {
        match made.status {
            409 => {
                let owner = (&request.principal, &*user);
                if let Err(refused) = take_left_over(inbox, owner, (name, &link), &owners).await {
                    return refused;
                }
            }
            // A name that no document can have, no instance can have: the node says what is wrong.
            400 => return ask(inbox, request).await,
            _ => return made,
        }
    }
    let answer = ask(inbox, request).await;
    // It is surely not there: whoever comes next may have the name.
    if is_new && (400..500).contains(&answer.status) {
        forget(inbox, &link, made.etag.as_deref()).await;
    }
    answer
}

/// What is left of an instance that is gone becomes this user's, or somebody registers that name at
/// this moment. Whose it is, is read at the document's owner: the rules of this node may lag
/// behind. A new version is made of it, so that whoever is still removing the former instance does
/// not take this one's owner away.
///
/// # Errors
/// The answer, when it belongs to others, or cannot be told.
async fn take_left_over(
    inbox: &Inbox,
    (principal, user): (&Principal, &str),
    (name, link): (&str, &str),
    owners: &Value,
) -> Result<(), Response> {
    let kept = ask_as_system(inbox, Request::get(link)).await;
    let write = match kept.status {
        200 if is_of(&kept.to_json(), user, owners) => kept.etag,
        200 => {
            // Only an admin may change who owns what.
            let change = (Method::Patch, link);
            let (is_admin, _) = may(inbox, principal.clone(), change)
                .await
                .map_err(|problem| problem.with_outcome(Outcome::NotApplied))?;
            if !is_admin {
                return Err(others(name));
            }
            kept.etag
        }
        404 => None,
        _ => return Err(kept),
    };
    let request = match write {
        Some(etag) => {
            let mut put = Request::new(Method::Put, link).with_json(owners);
            put.conditions.if_match = etag.parse().ok();
            put
        }
        None => {
            // Somebody has deleted it, with its history left.
            let mut anew = Request::new(Method::Post, INSTANCE_OWNERS).with_json(owners);
            anew.pragmas.push("xn-force-index-update".into());
            anew
        }
    };
    let made = ask_as_system(inbox, request).await;
    match made.status {
        200..300 => Ok(()),
        404 | 409 | 412 => {
            let text = format!("somebody else registers '{name}' at this moment: try again");
            Err(Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied).into())
        }
        _ => Err(made),
    }
}

/// Whether what says whose an instance is names this user, and none of that name before. `owners`:
/// what would be said now.
fn is_of(kept: &Value, user: &str, owners: &Value) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(str::to_owned).collect()
    };
    let own = texts(&owners[OWNERS_MADE]);
    let is_former = |mark: &String| mark.starts_with(&format!("{user} ")) && !own.contains(mark);
    texts(&kept["userLinks"]).iter().any(|link| link == user)
        && !texts(&kept[OWNERS_MADE]).iter().any(is_former)
}

async fn remove(inbox: &Inbox, request: Request) -> Response {
    let Ok(before) = instances(inbox).await else { return ask(inbox, request).await };
    let Some(name) = removed(&request.path, &before) else { return ask(inbox, request).await };
    let link = format!("{INSTANCE_OWNERS}/{name}");
    let owners = ask_as_system(inbox, Request::get(&link)).await;
    let answer = ask(inbox, request).await;
    let is_gone = instances(inbox).await.is_ok_and(|all| !all.contains(&name));
    if answer.is_success() && is_gone && owners.is_success() {
        forget(inbox, &link, owners.etag.as_deref()).await;
    }
    answer
}

/// The instance that is removed at this path, or of which a replica is.
fn removed(path: &str, all: &[String]) -> Option<String> {
    let Some(blob) = name_in(path, BLOBS) else {
        return name_in(path, INSTANCES).map(str::to_owned);
    };
    let is_of = |name: &&String| {
        let rest = blob.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        let number = rest.and_then(|rest| rest.strip_prefix(name.as_str()));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
    };
    all.iter().find(is_of).cloned()
}

/// The names of all instances, as this node knows them.
async fn instances(inbox: &Inbox) -> Result<Vec<String>, Response> {
    let answer = ask_as_system(inbox, Request::get(INSTANCES)).await;
    if !answer.is_success() {
        return Err(answer);
    }
    let body = answer.to_json();
    let links = body["documentLinks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(links.filter_map(|link| name_in(link, INSTANCES)).map(str::to_owned).collect())
}

/// With its history: another instance of that name may be registered. Only this version of it: a
/// later one is about an instance that was registered since.
async fn forget(inbox: &Inbox, link: &str, version: Option<&str>) {
    let gone = json!({"documentExpirationTimeMicros": 1});
    let mut delete = Request::new(Method::Delete, link).with_json(&gone);
    delete.conditions.if_match = version.and_then(|version| version.parse().ok());
    let answer = ask_as_system(inbox, delete).await;
    if !answer.is_success() && ![404, 412].contains(&answer.status) {
        tracing::warn!(target: "amrita", "{link} is still there; an admin may delete it");
    }
}

fn others(name: &str) -> Response {
    let text =
        format!("the name '{name}' belongs to others: {INSTANCE_OWNERS}/{name} says to whom");
    Problem::new(Code::AccessDenied, text).with_outcome(Outcome::NotApplied).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake_node::{failed, ok, run, with_node};

    #[test]
    fn what_is_removed_is_told_from_the_path() {
        let all: Vec<String> = ["a", "a-a", "server"].map(str::to_owned).to_vec();
        let of = |path: &str| removed(path, &all);
        assert_eq!(of("/core/immortals/server"), Some("server".into()));
        assert_eq!(of(&format!("{BLOBS}/server-server0")), Some("server".into()));
        assert_eq!(of(&format!("{BLOBS}/a-a-a-a12")), Some("a-a".into()));
        assert_eq!(of(&format!("{BLOBS}/a-a1")), Some("a".into()));
        for other in ["server-server", "server-serverx", "others-others0"] {
            assert_eq!(of(&format!("{BLOBS}/{other}")), None, "{other}");
        }
        let asks = |verb, path: &str| concerns(&Request::new(verb, path));
        assert!(asks(Method::Post, INSTANCES) && asks(Method::Delete, "/core/immortals/a"));
        assert!(asks(Method::Delete, &format!("{BLOBS}/a-a1")));
        assert!(!asks(Method::Get, INSTANCES) && !asks(Method::Post, "/core/immortals/a/move"));
    }

    const JANE: &str = "/core/authz/users/jane";

    /// What of a registration reached the node, but for the questions who she is and what she may.
    fn registered(name: &str, look: Option<Response>) -> (Response, Vec<(Method, String, String)>) {
        registered_while("", name, look)
    }

    /// The same while nobody answers at that path.
    fn registered_while(
        silent: &str,
        name: &str,
        look: Option<Response>,
    ) -> (Response, Vec<(Method, String, String)>) {
        let body = json!({ "name": name });
        let user = Principal::User(JANE.into());
        let request = Request::new(Method::Post, INSTANCES).with_json(&body).on_behalf_of(user);
        let look = std::sync::Mutex::new(look);
        let (answer, asked) = run(async {
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let node = |request: &Request| match (request.method, request.path.as_str()) {
                (_, path) if path == silent => failed(503, "unknown"),
                (_, access::WHO_AM_I) => ok(&json!({"isLoggedIn": true, "userLink": JANE})),
                (_, access::CAN_I) => ok(&json!({"isAllowed": false})),
                (Method::Get, JANE) => ok(&json!({access::MADE: 5})),
                (Method::Post, INSTANCES | INSTANCE_OWNERS) => ok(&json!({})),
                (Method::Get, _) => look.lock().unwrap().take(),
                _ => failed(400, "notApplied"),
            };
            with_node(&inbox, node, answer(&inbox, request)).await
        });
        let questions = [access::WHO_AM_I, access::CAN_I, JANE];
        let is_question = |it: &&Request| questions.contains(&&*it.path);
        let of = |it: &Request| (it.method, it.path.clone(), it.query.clone());
        (answer, asked.iter().filter(|it| !is_question(it)).map(of).collect())
    }

    fn step(verb: Method, path: &str) -> (Method, String, String) {
        (verb, path.to_owned(), String::new())
    }

    #[test]
    fn whether_the_instance_is_there_is_asked_before_it_gets_an_owner() {
        let look = step(Method::Get, "/core/immortals/counter");
        let (answer, asked) = registered("counter", failed(404, "notApplied"));
        let (owner, register) =
            (step(Method::Post, INSTANCE_OWNERS), step(Method::Post, INSTANCES));
        assert_eq!((answer.status, asked), (200, vec![look.clone(), owner, register]));
        // It is somebody's, and does not become hers.
        let (answer, asked) = registered("counter", ok(&json!({"name": "counter"})));
        assert_eq!((answer.status, asked), (403, vec![look.clone()]));
        // Nobody knows: then nothing is done.
        let (answer, asked) = registered("counter", failed(503, "unknown"));
        assert_eq!((answer.status, asked), (503, vec![look]));
    }

    /// Two register one name at once. Whether the second may change it was asked before the first
    /// had made it: that yes counts no more.
    #[test]
    fn who_comes_second_does_not_take_an_instance() {
        let joes = json!({"userLinks": ["/core/authz/users/joe"], OWNERS_MADE: []});
        let janes = json!({"userLinks": [JANE], OWNERS_MADE: [access::owner_made(JANE, 5)]});
        let former = json!({"userLinks": [JANE], OWNERS_MADE: [access::owner_made(JANE, 4)]});
        for (kept, is_hers) in [(joes, false), (janes, true), (former, false)] {
            let user = Principal::User(JANE.into());
            let body = json!({"name": "counter"});
            let request = Request::new(Method::Post, INSTANCES).with_json(&body).on_behalf_of(user);
            let link = format!("{INSTANCE_OWNERS}/counter");
            let (answer, asked) = run(async {
                let inbox = Arc::new(Inbox::new(Arc::default()));
                let node = |request: &Request| match (request.method, request.path.as_str()) {
                    (_, access::WHO_AM_I) => ok(&json!({"isLoggedIn": true, "userLink": JANE})),
                    (_, access::CAN_I) => {
                        let body: Value = serde_json::from_slice(&request.body).unwrap();
                        ok(&json!({"isAllowed": body["link"] == "/core/immortals/counter"}))
                    }
                    (Method::Get, JANE) => ok(&json!({access::MADE: 5})),
                    (Method::Post, INSTANCE_OWNERS) => failed(409, "notApplied"),
                    (Method::Get, path) if path == link => {
                        let shown = Response::json(200, &kept);
                        Some(Response { etag: Some("\"1.2.3\"".into()), ..shown })
                    }
                    (Method::Put, path) if path == link => {
                        assert!(request.conditions.if_match.is_some(), "of what was read");
                        ok(&json!({}))
                    }
                    (Method::Post, INSTANCES) => ok(&json!({})),
                    _ => failed(404, "notApplied"),
                };
                with_node(&inbox, node, answer(&inbox, request)).await
            });
            let took = asked.iter().any(|it| it.method == Method::Put);
            assert_eq!((answer.status == 200, took), (is_hers, is_hers), "{kept}");
        }
    }

    #[test]
    fn who_cannot_be_told_just_now_is_neither_nobody_nor_somebody_else() {
        let (answer, asked) = registered_while(access::WHO_AM_I, "a", failed(404, "notApplied"));
        assert_eq!((answer.status, asked), (503, vec![]), "it would belong to nobody");
        let there = ok(&json!({"name": "a"}));
        let (answer, asked) = registered_while(access::CAN_I, "a", there);
        let look = step(Method::Get, "/core/immortals/a");
        assert_eq!((answer.status, asked), (503, vec![look]), "it may be hers");
    }

    #[test]
    fn what_stands_behind_a_question_mark_in_a_name_is_no_query() {
        // As a query, it would be the instance of another name that is looked at.
        let (_, asked) = registered("counter?consistency=local", failed(400, "notApplied"));
        assert_eq!(asked[0], step(Method::Get, "/core/immortals/counter?consistency=local"));
    }
}
