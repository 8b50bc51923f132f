//! `amrita login`, `logout`, `whoami`, `user`, `token`, `can-i`.

use std::io::BufRead;

use client::{Client, Response};
use serde_json::{Value, json};

use super::nearby::{self, Nearby};
use super::options::{CanI, LoginOptions, PasswordFrom, TokenCommand, UserCommand};
use super::session::{self, Session};
use crate::arguments::Cluster;
use crate::outcome::{Outcome, Trouble, refusal, unreachable};
use crate::screen;
use crate::verbs::client;

const LOGIN: &str = "/core/authn/basic";
const WHO_AM_I: &str = "/core/authn/whoami";
const CAN_I: &str = "/core/authz/can-i";
const CREDENTIALS: &str = "/core/auth/credentials";
const TOKENS: &str = "/core/auth/tokens";
const JOIN_TOKENS: &str = "/core/auth/join-tokens";
const FIRST_ADMIN: &str = "admin";
/// The cluster does not know the token.
const UNKNOWN_TOKEN: u16 = 401;
/// How long a token counts when nothing is said.
const TOKEN_SECONDS: u64 = 90 * 86_400;
const JOIN_TOKEN_SECONDS: u64 = 3_600;
pub(super) const USERS: &str = "/core/authz/users";
pub(super) const USER_GROUPS: &str = "/core/authz/user-groups";

/// The roles that are always there, with the group of users that has each.
pub(super) const BUILT_IN: [(&str, &str); 4] =
    [("admin", "admins"), ("operator", "operators"), ("writer", "writers"), ("reader", "readers")];

pub(crate) async fn login(cluster: &Cluster, options: &LoginOptions) -> Outcome {
    let (addresses, authority) = match &options.sandbox {
        Some(sandbox) => {
            let nearby = Nearby::find(sandbox).await?;
            let authority =
                nearby.authority.map_or_else(session::named_authority, |it| Ok(Some(it)));
            (vec![nearby.address], authority?)
        }
        None => {
            let addresses = session::chosen(&cluster.address);
            let authority = session::authority_at(&addresses)?;
            (addresses, authority)
        }
    };
    let client = session::stranger(&addresses, authority.as_deref())?;
    let user = options.user.as_deref().unwrap_or(FIRST_ADMIN);
    let own = &options.password;
    let client = match &options.sandbox {
        Some(sandbox) if options.user.is_none() && own.password_file.is_none() => {
            client.with_password(user, &nearby::first_password(sandbox).await?)
        }
        _ => client.with_password(user, &password(own)?),
    };
    let said = begin_session(&client, Some(options.expires), authority).await?;
    let user = said["userLink"].as_str().unwrap_or_default();
    if cluster.json {
        // The token is kept, and is nobody else's business.
        let mut shown = said.clone();
        shown.as_object_mut().and_then(|fields| fields.remove("token"));
        screen::say(&shown.to_string());
        return Ok(());
    }
    screen::say(&format!("Logged in as {}.", name_of(user)));
    Ok(())
}

/// Logs in with what the client shows, and keeps the token for the commands that follow.
async fn begin_session(
    client: &Client,
    seconds: Option<u64>,
    authority: Option<String>,
) -> Result<Value, Trouble> {
    let body = json!({"requestType": "LOGIN", "sessionExpirationSeconds": seconds});
    let answer = client.post(LOGIN, &body).await.map_err(|error| unreachable(&error))?;
    let said = told(&answer)?;
    let token = said["token"].as_str().ok_or("the node gave no token")?;
    session::keep(client, &Session { token: token.to_owned(), authority })?;
    Ok(said)
}

pub(crate) async fn logout(cluster: &Cluster) -> Outcome {
    let client = client(cluster)?;
    let asked = client.post(LOGIN, &json!({"requestType": "LOGOUT"})).await;
    let answer = asked.map_err(|error| unreachable(&error))?;
    // A token that lives on is kept, or it could not be ended any more.
    if answer.is_success() || answer.status == UNKNOWN_TOKEN {
        session::forget(&client)?;
    }
    screen::done(&answer, cluster.json, "Logged out.")
}

pub(crate) async fn who_am_i(cluster: &Cluster) -> Outcome {
    let answer = client(cluster)?.get(WHO_AM_I).await.map_err(|error| unreachable(&error))?;
    if cluster.json {
        return screen::show(&answer, true);
    }
    let said = told(&answer)?;
    let Some(user) = said["userLink"].as_str() else {
        screen::say(
            "Nobody is logged in, and nobody has to: this node lets everybody do everything.",
        );
        return Ok(());
    };
    let roles = said["builtInRoles"].as_array().into_iter().chain(said["roleLinks"].as_array());
    let roles: Vec<&str> = roles.flatten().filter_map(Value::as_str).map(name_of).collect();
    let roles = if roles.is_empty() { "no roles".into() } else { roles.join(", ") };
    screen::say(&format!("{}: {roles}", name_of(user)));
    Ok(())
}

pub(crate) async fn can_i(cluster: &Cluster, asked: &CanI) -> Outcome {
    let mut body = json!({"verb": asked.verb, "link": asked.link});
    if let Some(user) = &asked.user {
        body["as"] = user.clone().into();
    }
    let answer = client(cluster)?.post(CAN_I, &body).await.map_err(|error| unreachable(&error))?;
    if cluster.json {
        screen::show(&answer, true)?;
    }
    let said = told(&answer)?;
    let reason = said["reason"].as_str().unwrap_or_default();
    let text = match (said["isAllowed"] == true, said["isSecurityOn"] == false) {
        (true, _) => format!("yes: {reason}"),
        (false, true) => format!("yes, as nobody has to log in; otherwise no: {reason}"),
        (false, false) => return Err(format!("no: {reason}").into()),
    };
    if !cluster.json {
        screen::say(&text);
    }
    Ok(())
}

pub(crate) async fn run_user(cluster: &Cluster, command: &UserCommand) -> Outcome {
    let client = client(cluster)?;
    match command {
        UserCommand::List => {
            let answer = client.get(&format!("{USERS}?expand")).await;
            let answer = answer.map_err(|error| unreachable(&error))?;
            if cluster.json {
                return screen::show(&answer, true);
            }
            let rows = documents(&told(&answer)?).into_iter().map(|(link, user)| {
                let groups = user["userGroupLinks"].as_array().into_iter().flatten();
                let groups: Vec<&str> = groups.filter_map(Value::as_str).map(name_of).collect();
                vec![name_of(&link).to_owned(), screen::cell(&user["email"]), groups.join(", ")]
            });
            screen::say(&screen::table(&["user", "email", "groups"], &rows.collect::<Vec<_>>()));
            Ok(())
        }
        UserCommand::Create { name, email, role, password: from } => {
            let password = password(from)?;
            let groups: Vec<String> = role.iter().map(|role| group_of(role)).collect();
            let email = email.as_deref().unwrap_or(name);
            let user = json!({"documentSelfLink": name, "email": email, "userGroupLinks": groups});
            let secret =
                json!({"documentSelfLink": name, "userEmail": email, "privateKey": password});
            told(&client.post(CREDENTIALS, &secret).await.map_err(|error| unreachable(&error))?)?;
            let made = client.post(USERS, &user).await.map_err(|error| unreachable(&error))?;
            screen::done(&made, cluster.json, &format!("There is a user {name} now."))
        }
        UserCommand::Password { name, password: from } => {
            change_password(cluster, &client, name, &password(from)?).await
        }
        UserCommand::Delete { name } => {
            // The user first: from then on nobody can log in as it.
            let user = delete_both(&client, "user", (USERS, CREDENTIALS), name).await?;
            screen::done(&user, cluster.json, &format!("There is no user {name} any more."))
        }
    }
}

/// Whoever changes their own password is logged in once more: their sessions have ended with it.
async fn change_password(
    cluster: &Cluster,
    client: &Client,
    name: &str,
    password: &str,
) -> Outcome {
    let session = match session::kept(client)? {
        Some(session) => {
            let who = client.get(WHO_AM_I).await.map_err(|error| unreachable(&error))?;
            let is_own = told(&who)?["userLink"] == format!("{USERS}/{name}");
            is_own.then_some(session)
        }
        None => None,
    };
    let answer = set_password(client, name, password).await?;
    let mut sentence = format!(
        "The password of {name} is another one now, and whoever was logged in as {name} is not any \
         more."
    );
    if let Some(session) = session.filter(|_| answer.is_success()) {
        let addresses: Vec<String> = client.addresses().map(ToString::to_string).collect();
        let stranger = session::stranger(&addresses, session.authority.as_deref())?;
        let stranger = stranger.with_password(name, password);
        begin_session(&stranger, None, session.authority).await?;
        sentence.push_str(" You are, by the new one.");
    }
    screen::done(&answer, cluster.json, &sentence)
}

/// The password's document has the name of its user, or else the user's address for a name, as
/// Xenon's clients make it.
async fn set_password(client: &Client, name: &str, password: &str) -> Result<Response, Trouble> {
    const NOT_THERE: u16 = 404;
    let body = json!({"privateKey": password});
    let by_name = client.patch(&format!("{CREDENTIALS}/{name}"), &body).await;
    let by_name = by_name.map_err(|error| unreachable(&error))?;
    if by_name.status != NOT_THERE {
        return Ok(by_name);
    }
    let user = client.get(&format!("{USERS}/{name}")).await.map_err(|error| unreachable(&error))?;
    match user.to_json()["email"].as_str().filter(|email| user.is_success() && *email != name) {
        None => Ok(by_name),
        Some(email) => {
            let by_mail = client.patch(&format!("{CREDENTIALS}/{email}"), &body).await;
            by_mail.map_err(|error| unreachable(&error))
        }
    }
}

pub(crate) async fn run_token(cluster: &Cluster, command: &TokenCommand) -> Outcome {
    let client = client(cluster)?;
    match command {
        TokenCommand::Create { join: true, count, expires, about, .. } => {
            let seconds = expires.unwrap_or(JOIN_TOKEN_SECONDS);
            let body = json!({"expirationSeconds": seconds, "about": about});
            for _ in 0..*count {
                let answer = client.post(JOIN_TOKENS, &body).await;
                let answer = answer.map_err(|error| unreachable(&error))?;
                if cluster.json {
                    screen::show(&answer, true)?;
                } else {
                    screen::say(told(&answer)?["token"].as_str().unwrap_or_default());
                }
            }
            Ok(())
        }
        TokenCommand::Create { user, expires, about, .. } => {
            let seconds = expires.unwrap_or(TOKEN_SECONDS);
            let mut body = json!({"expirationSeconds": seconds, "about": about});
            if let Some(user) = user {
                body["userLink"] = format!("{USERS}/{user}").into();
            }
            let answer = client.post(TOKENS, &body).await.map_err(|error| unreachable(&error))?;
            if cluster.json {
                return screen::show(&answer, true);
            }
            screen::say(told(&answer)?["token"].as_str().unwrap_or_default());
            Ok(())
        }
        TokenCommand::List => {
            let answer = client.get(&format!("{TOKENS}?expand")).await;
            let answer = answer.map_err(|error| unreachable(&error))?;
            if cluster.json {
                return screen::show(&answer, true);
            }
            let rows = documents(&told(&answer)?).into_iter().map(|(link, token)| {
                vec![
                    name_of(&link).to_owned(),
                    name_of(token["userLink"].as_str().unwrap_or_default()).to_owned(),
                    screen::cell(&token["about"]),
                ]
            });
            screen::say(&screen::table(&["token", "user", "about"], &rows.collect::<Vec<_>>()));
            Ok(())
        }
        TokenCommand::Revoke { name } => {
            let link = format!("{TOKENS}/{name}");
            let answer = client.delete(&link).await.map_err(|error| unreachable(&error))?;
            was_there(&answer, "token", name)?;
            screen::done(&answer, cluster.json, &format!("The token {name} counts no more."))
        }
    }
}

/// The group of users that has a role; any other name is a group's own.
pub(super) fn group_of(role: &str) -> String {
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == role).map(|(_, group)| *group);
    format!("{USER_GROUPS}/{}", built_in.unwrap_or(role))
}

pub(super) fn told(answer: &Response) -> Result<Value, Trouble> {
    if answer.is_success() { Ok(answer.to_json()) } else { Err(refusal(answer)) }
}

/// To delete what is not there succeeds and says nothing; here it is a slip.
/// Deletes a document and what belongs to it; the answer about the first.
pub(super) async fn delete_both(
    client: &Client,
    what: &str,
    (first, second): (&str, &str),
    name: &str,
) -> Result<Response, Trouble> {
    let deleted = client.delete(&format!("{first}/{name}")).await;
    let deleted = deleted.map_err(|error| unreachable(&error))?;
    told(&deleted)?;
    was_there(&deleted, what, name)?;
    let rest = client.delete(&format!("{second}/{name}")).await;
    told(&rest.map_err(|error| unreachable(&error))?)?;
    Ok(deleted)
}

pub(super) fn was_there(answer: &Response, what: &str, name: &str) -> Outcome {
    match answer.is_success() && answer.body.is_empty() {
        true => Err(format!("there is no {what} '{name}'").into()),
        false => Ok(()),
    }
}

pub(super) fn documents(listing: &Value) -> Vec<(String, Value)> {
    let documents = listing["documents"].as_object().into_iter().flatten();
    documents.map(|(link, document)| (link.clone(), document.clone())).collect()
}

pub(super) fn name_of(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

fn password(from: &PasswordFrom) -> Result<String, Trouble> {
    let wrong = |why: String| Trouble::usage(why);
    let text = match &from.password_file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| wrong(format!("{} cannot be read: {error}", file.display())))?,
        None => {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            read.map_err(|error| wrong(format!("standard input cannot be read: {error}")))?;
            line
        }
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(wrong("a password is needed: --password-file FILE, or a line of input".into())),
    }
}
