//! Tokens that a login has made. They count while the password by which they were made is their
//! user's.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Document, Moment};
use serde_json::{Map, Value};

use crate::paths::{CREDENTIALS, USERS, name_in};
use crate::secrets::password_mark;

/// A login, and the password by which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub(crate) user: Arc<str>,
    /// The link of the password's document.
    pub(crate) password: String,
    pub(crate) mark: String,
}

/// What becomes of a session by the passwords that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Counts,
    /// The user logs in by another document now.
    Over,
    /// The password is another one here, or there is none. Its owner knows whether that is so.
    InDoubt,
}

/// The marks of all passwords, by the links of their documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passwords(BTreeMap<String, (String, Moment)>);

impl Session {
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// The link of the password's document.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Whether it counts by that document, as its owner has it.
    pub fn counts_by(&self, credentials: &Map<String, Value>) -> bool {
        credentials.get("documentSelfLink").and_then(Value::as_str) == Some(&self.password)
            && mark_of(credentials).as_ref() == Some(&self.mark)
    }
}

impl Passwords {
    pub(crate) fn put(&mut self, document: &Document) {
        let mark = mark_of(&document.body.to_map()).unwrap_or_default();
        self.0.insert(document.link.clone(), (mark, document.expires));
    }

    pub(crate) fn remove(&mut self, link: &str) {
        self.0.remove(link);
    }

    /// `email`: of its user. A password has the name of its user; if there is none of that name, it
    /// may have the user's address for a name.
    pub(crate) fn standing(&self, session: &Session, email: &str, now: Moment) -> Standing {
        let password = |name: &str| format!("{CREDENTIALS}/{name}");
        let own = password(name_in(&session.user, USERS).unwrap_or_default());
        let is_there = |expires: Moment| expires.0 == 0 || expires > now;
        // One that has expired is not there any more for a login either, removed or not.
        let has_own = self.0.get(&own).is_some_and(|(_, expires)| is_there(*expires));
        if session.password != own && (has_own || session.password != password(email)) {
            return Standing::Over;
        }
        match self.0.get(&session.password) {
            Some((mark, expires)) if *mark == session.mark => match is_there(*expires) {
                true => Standing::Counts,
                false => Standing::Over,
            },
            _ => Standing::InDoubt,
        }
    }
}

fn mark_of(credentials: &Map<String, Value>) -> Option<String> {
    credentials.get("privateKey").and_then(Value::as_str).map(password_mark)
}
