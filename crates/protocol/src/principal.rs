//! On whose behalf a request is made.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base64url;

/// What every token begins with, so that people and scanners for secrets know one when they see it.
const TOKEN_BEGINNING: &str = "amr_";

/// How many bytes name a token, and how many prove it.
pub const TOKEN_NAME_BYTES: usize = 12;
pub const TOKEN_SECRET_BYTES: usize = 32;

/// On whose behalf a request is made. Every request has one from the moment it enters.
///
/// **Invariant:** what a client sent becomes `Anonymous` or `Bearer` and nothing else. `User` is
/// made by the node that looked the token up or has checked the signature of an outside
/// issuer's token, and by the owner of a task for the task's calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Principal {
    /// A client that has shown nothing.
    #[default]
    Anonymous,
    /// A client that has shown a token; nobody has looked it up so far.
    Bearer(Box<Bearer>),
    /// A user, by the link of its document.
    User(Arc<str>),
    /// The cluster's own housekeeping. It may do everything.
    System,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearer {
    /// The last part of the link of the token's document.
    pub name: String,
    /// Of the secret, as the token's document has it.
    pub digest: String,
    /// The token's document was asked for at its owner already.
    pub is_checked: bool,
}

impl Principal {
    /// The link of the user, if it is known who that is.
    pub fn user(&self) -> Option<&Arc<str>> {
        match self {
            Self::User(link) => Some(link),
            Self::Anonymous | Self::Bearer(_) | Self::System => None,
        }
    }

    /// For log lines and answers; no secret is in it.
    pub fn shown(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Bearer(_) => "a token that is not looked up",
            Self::User(link) => link,
            Self::System => "the cluster itself",
        }
    }
}

/// The text of a token, as its holder keeps it.
pub fn token_text(name: &[u8; TOKEN_NAME_BYTES], secret: &[u8; TOKEN_SECRET_BYTES]) -> String {
    format!("{TOKEN_BEGINNING}{}.{}", base64url::encode(name), base64url::encode(secret))
}

/// The name and the secret of a token; `None` when the text is none.
pub fn token_parts(text: &str) -> Option<(&str, [u8; TOKEN_SECRET_BYTES])> {
    let (name, secret) = text.strip_prefix(TOKEN_BEGINNING)?.split_once('.')?;
    (base64url::decode(name)?.len() == TOKEN_NAME_BYTES).then_some(())?;
    Some((name, base64url::decode(secret)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_and_nothing_else_is_one() {
        let (name, secret) = ([7; TOKEN_NAME_BYTES], [9; TOKEN_SECRET_BYTES]);
        let text = token_text(&name, &secret);
        let (shown, proof) = token_parts(&text).unwrap();
        assert_eq!((base64url::decode(shown).unwrap(), proof), (name.to_vec(), secret));
        let cut = &text[..text.len() - 1];
        for wrong in ["", "amr_", "amr_.", cut, &text[1..], &text.replace('.', ""), "amr_a.b"] {
            assert!(token_parts(wrong).is_none(), "{wrong}");
        }
        let longer = format!("{text}A");
        assert!(token_parts(&longer).is_none());
    }
}
