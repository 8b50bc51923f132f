//! Tokens that a login has made. They count while the password by which they were made is their
//! user's.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Document, Moment};
use serde_json::{Map, Value};

use crate::lives::is_one_of;
use crate::parsed::USER_MADE;
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

/// All passwords, by the links of their documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passwords(BTreeMap<String, Password>);

#[derive(Clone, Debug)]
struct Password {
    mark: String,
    expires: Moment,
    /// When its user was made, and when it was written.
    user_made: Option<u64>,
    written: Moment,
}

impl Password {
    /// One that has expired is not there any more for a login either, removed or not.
    fn is_there(&self, now: Moment) -> bool {
        self.expires.0 == 0 || self.expires > now
    }

    fn is_of(&self, user_made: Option<u64>) -> bool {
        is_one_of(self.user_made, self.written, user_made)
    }
}

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
        let fields = document.body.to_map();
        let password = Password {
            mark: mark_of(&fields).unwrap_or_default(),
            expires: document.expires,
            user_made: fields.get(USER_MADE).and_then(Value::as_u64),
            written: document.updated,
        };
        self.0.insert(document.link.clone(), password);
    }

    pub(crate) fn remove(&mut self, link: &str) {
        self.0.remove(link);
    }

    /// `email`, `made`: of its user. A password has the name of its user; if there is none of that
    /// name, it may have the user's address for a name. One of an earlier user of that name is
    /// none.
    pub(crate) fn standing(
        &self,
        session: &Session,
        (email, made): (&str, Option<u64>),
        now: Moment,
    ) -> Standing {
        let password = |name: &str| format!("{CREDENTIALS}/{name}");
        let own = password(name_in(&session.user, USERS).unwrap_or_default());
        let has_own = self.0.get(&own).is_some_and(|it| it.is_there(now) && it.is_of(made));
        if session.password != own && (has_own || session.password != password(email)) {
            return Standing::Over;
        }
        match self.0.get(&session.password) {
            Some(known) if known.mark == session.mark => match known.is_there(now) {
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
