//! Whose an instance is: who registers it owns it. The document that says so is there before the
//! instance is, so there is no moment in which the instance is anybody's.

use access::{INSTANCE_OWNERS, INSTANCES, WHO_AM_I, name_in};
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response};
use serde_json::{Value, json};

use crate::ask::{ask, ask_as_system};
use crate::inbox::Inbox;

/// Whether a request changes whose something is.
pub(crate) fn concerns(request: &Request) -> bool {
    match request.method {
        Method::Post => request.path == INSTANCES,
        Method::Delete => name_in(&request.path, INSTANCES).is_some_and(|name| !name.contains('/')),
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
    let Some(user) = user(inbox, &request.principal).await else {
        return ask(inbox, request).await;
    };
    let link = format!("{INSTANCE_OWNERS}/{name}");
    let owners = json!({"documentSelfLink": link, "userLinks": [user]});
    let make = Request::new(Method::Post, INSTANCE_OWNERS).with_json(&owners);
    let made = ask_as_system(inbox, make).await;
    let is_new = made.is_success();
    if !is_new {
        match made.status {
            // By whoever may change the instance it is registered once more.
            409 if !may_change(inbox, &request.principal, name).await => return others(name),
            409 => {}
            // A name that no document can have, no instance can have: the node says what is wrong.
            400 => return ask(inbox, request).await,
            _ => return made,
        }
    }
    let answer = ask(inbox, request).await;
    // It is surely not there: whoever comes next may have the name.
    if is_new && (400..500).contains(&answer.status) {
        forget(inbox, &link).await;
    }
    answer
}

async fn remove(inbox: &Inbox, request: Request) -> Response {
    let name = name_in(&request.path, INSTANCES).unwrap_or_default();
    let link = format!("{INSTANCE_OWNERS}/{name}");
    let answer = ask(inbox, request).await;
    if answer.is_success() {
        forget(inbox, &link).await;
    }
    answer
}

/// With its history: another instance of that name may be registered.
async fn forget(inbox: &Inbox, link: &str) {
    let gone = json!({"documentExpirationTimeMicros": 1});
    let answer = ask_as_system(inbox, Request::new(Method::Delete, link).with_json(&gone)).await;
    if !answer.is_success() && answer.status != 404 {
        tracing::warn!(target: "amrita", "{link} is still there; an admin may delete it");
    }
}

async fn user(inbox: &Inbox, principal: &Principal) -> Option<String> {
    let who = Request::new(Method::Get, WHO_AM_I).on_behalf_of(principal.clone());
    ask(inbox, who).await.to_json()["userLink"].as_str().map(str::to_owned)
}

async fn may_change(inbox: &Inbox, principal: &Principal, name: &str) -> bool {
    let asked = json!({"verb": "PATCH", "link": format!("{INSTANCES}/{name}")});
    let asked = Request::new(Method::Post, access::CAN_I).with_json(&asked);
    let answer = ask(inbox, asked.on_behalf_of(principal.clone())).await;
    answer.to_json()["isAllowed"] == json!(true)
}

fn others(name: &str) -> Response {
    let text =
        format!("the name '{name}' belongs to others: {INSTANCE_OWNERS}/{name} says to whom");
    Problem::new(Code::AccessDenied, text).with_outcome(Outcome::NotApplied).into()
}
