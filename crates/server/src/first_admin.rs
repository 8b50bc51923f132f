//! A cluster without users gets one: the first admin. The password is made up, and stands in a file
//! in the sandbox that only the user of the node reads.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::{BuiltInRole, CREDENTIALS, NOBODY_SO_FAR, USER_MADE, USERS};
use protocol::query::LINK as QUERY_TASKS;
use protocol::{Method, Request, base64url};
use serde_json::json;

use crate::ask::ask_as_system;
use crate::lives;
use crate::login::Doorkeeper;
use crate::passwords::Client;
use crate::principal::fill;

/// The name of the file, ...
const FILE: &str = "first-login";

/// ... and while the admin is made: who finds the other one can log in by it.
const FILE_BEFORE: &str = "first-login.new";

const NAME: &str = "admin";

/// Between two looks at whether the cluster serves.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Another node that has begun to make the admin has died if nothing came of it in this time.
const OTHER_MAX: u32 = 100;

/// Makes the first admin unless there are users.
pub(crate) async fn make(keeper: Arc<Doorkeeper>, sandbox: &Path) {
    let mut looks_at_other = 0;
    loop {
        match step(&keeper, sandbox, looks_at_other >= OTHER_MAX).await {
            Step::Done => return drop(show(sandbox)),
            Step::Made => {
                keeper.was_made_by_the_cluster(&format!("{USERS}/{NAME}")).await;
                return say(sandbox);
            }
            Step::NotYet => {}
            Step::AnotherDoes => looks_at_other += 1,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

enum Step {
    Done,
    Made,
    NotYet,
    AnotherDoes,
}

async fn step(keeper: &Doorkeeper, sandbox: &Path, takes_over: bool) -> Step {
    // Users that an outside issuer vouches for come by themselves, and need not be admins.
    let term = |name: &str, value: &str, kind: &str| {
        let (name, value, kind) = (json!(name), json!(value), json!(kind));
        json!({"propertyName": name, "matchValue": value, "matchType": kind})
    };
    let own = json!({"booleanClauses": [
        {"term": term("documentSelfLink", &format!("{USERS}/"), "PREFIX")},
        {"term": term("issuer", "*", "WILDCARD"), "occurance": "MUST_NOT_OCCUR"}]});
    let query = json!({"taskInfo": {"isDirect": true},
        "querySpec": {"query": own, "options": ["TOP_RESULTS"], "resultLimit": 1}});
    let asked = Request::new(Method::Post, QUERY_TASKS).with_json(&query);
    let users = ask_as_system(&keeper.inbox, asked).await;
    if !users.is_success() {
        return Step::NotYet;
    }
    let found = &users.to_json()["results"]["documentLinks"];
    if found.as_array().is_some_and(|links| !links.is_empty()) {
        return Step::Done;
    }
    let Some(hash) = new_password(keeper, sandbox).await else { return Step::NotYet };
    let link = format!("{CREDENTIALS}/{NAME}");
    let body = json!({"documentSelfLink": link, "userEmail": NAME, "privateKey": hash,
        USER_MADE: NOBODY_SO_FAR});
    let (method, path) =
        if takes_over { (Method::Put, link.as_str()) } else { (Method::Post, CREDENTIALS) };
    let made = ask_as_system(&keeper.inbox, Request::new(method, path).with_json(&body)).await;
    match made.status {
        409 => {
            // Its password counts, not the one that was made up here.
            drop(fs::remove_file(sandbox.join(FILE_BEFORE)));
            return Step::AnotherDoes;
        }
        _ if !made.is_success() => return Step::NotYet,
        _ => {}
    }
    let body = json!({"documentSelfLink": NAME, "email": NAME,
        "userGroupLinks": [BuiltInRole::Admin.group_link()]});
    let user = Request::new(Method::Post, USERS).with_json(&body);
    let made = ask_as_system(&keeper.inbox, user).await;
    match made.status {
        200..300 => {
            lives::bind_passwords(&keeper.inbox, &made.to_json()).await;
            Step::Made
        }
        409 => Step::Done,
        // The next try takes over what this one has made.
        _ => Step::AnotherDoes,
    }
}

/// The password is on the disk before it counts.
async fn new_password(keeper: &Doorkeeper, sandbox: &Path) -> Option<String> {
    let mut secret = [0; 18];
    fill(&mut secret);
    let password = base64url::encode(&secret);
    let hash = keeper.passwords.hash(Client::Own, password.clone()).await.ok()?;
    let file = sandbox.join(FILE_BEFORE);
    let write = || {
        // One of an earlier try may be there, and keeps its own permissions.
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&file)?;
        writeln!(file, "{password}")?;
        file.sync_all()
    };
    match write() {
        Ok(()) => Some(hash),
        Err(error) => {
            let shown = file.display();
            let what = "the first password";
            tracing::error!(target: "amrita", "{what} cannot be kept in {shown}: {error}");
            None
        }
    }
}

/// The password counts. There is none to show if another node has made the admin.
fn show(sandbox: &Path) -> std::io::Result<()> {
    fs::rename(sandbox.join(FILE_BEFORE), sandbox.join(FILE))
}

fn say(sandbox: &Path) {
    let file = sandbox.join(FILE);
    if let Err(error) = show(sandbox) {
        tracing::error!(target: "amrita", "{} cannot be written: {error}", file.display());
    }
    let shown = file.display();
    tracing::info!(
        target: "amrita",
        "the first admin is '{NAME}': amrita login --sandbox {}; the password is in {shown}: change it \
         (amrita user password {NAME}) and delete the file",
        sandbox.display()
    );
}
