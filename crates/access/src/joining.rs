//! A node that comes to a cluster which makes its own certificates: with a token of one use, which
//! also says by what the cluster is known. What needs keys, chance or time is in the shell.

use protocol::{Address, Code, Moment, Problem, base64url};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secrets::is_equal;

/// What every such token begins with.
const BEGINNING: &str = "amrj_";

/// The most nodes that one token names.
pub const CONTACTS_MAX: usize = 3;

/// How many bytes prove a token, and how many tell one authority from others.
pub const SECRET_BYTES: usize = 32;
const FINGERPRINT_BYTES: usize = 32;

/// How long a certificate of a node counts, in seconds. It is renewed after half of that.
pub const CERTIFICATE_SECONDS: u64 = 86_400;

/// What a token says to a node that is to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The last part of the link of the token's document.
    pub name: String,
    pub secret: [u8; SECRET_BYTES],
    /// Of the authority of the cluster: the node speaks with nobody else.
    pub fingerprint: [u8; FINGERPRINT_BYTES],
    /// Where nodes of the cluster are.
    pub contacts: Vec<Address>,
}

impl JoinToken {
    /// As somebody keeps it and gives it to the node.
    pub fn text(&self) -> String {
        let contacts: Vec<String> = self.contacts.iter().map(Address::authority).collect();
        format!(
            "{BEGINNING}{}.{}.{}.{}",
            self.name,
            base64url::encode(&self.secret),
            base64url::encode(&self.fingerprint),
            base64url::encode(contacts.join(",").as_bytes())
        )
    }

    /// # Errors
    /// What the text lacks. The text itself is not shown: it is a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cut = || {
            "the token to join with is not whole; it begins with amrj_ and is made by `amrita token \
             create --join`"
                .to_owned()
        };
        let rest = text.trim().strip_prefix(BEGINNING).ok_or_else(cut)?;
        let parts: Vec<&str> = rest.split('.').collect();
        let [name, secret, fingerprint, contacts] = parts[..] else { return Err(cut()) };
        let bytes = |text: &str| base64url::decode(text).ok_or_else(cut);
        let contacts = String::from_utf8(bytes(contacts)?).map_err(|_| cut())?;
        let address = |text: &str| Address::parse(&format!("https://{text}")).map_err(|_| cut());
        let contacts: Vec<Address> = contacts.split(',').map(address).collect::<Result<_, _>>()?;
        if name.is_empty() || bytes(name)?.is_empty() || contacts.len() > CONTACTS_MAX {
            return Err(cut());
        }
        Ok(Self {
            name: name.to_owned(),
            secret: bytes(secret)?.try_into().map_err(|_| cut())?,
            fingerprint: bytes(fingerprint)?.try_into().map_err(|_| cut())?,
            contacts,
        })
    }
}

/// The document of a token to join with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TokenState {
    digest: String,
    /// The digest of the public key that the token was used for.
    used_by: Option<String>,
    /// The id of that node.
    used_for: Option<String>,
    document_expiration_time_micros: u64,
}

/// A node asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Joiner<'a> {
    /// The digest of the secret that it shows.
    pub digest: &'a str,
    /// The digest of the public key that it wants a certificate for.
    pub key: &'a str,
}

/// Why a node is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJoined {
    /// There is no such token, its secret is another one, or it has expired.
    Unknown,
    /// The token was used for another key.
    Used,
}

fn state(fields: &Map<String, Value>) -> Result<TokenState, Problem> {
    serde_json::from_value(Value::Object(fields.clone()))
        .map_err(|error| Problem::bad_request(format!("the token cannot be read: {error}")))
}

/// Whether a token's document lets a node in. The same key may ask again, as an answer may be lost.
///
/// # Errors
/// Why it does not.
pub fn judge(
    fields: &Map<String, Value>,
    joiner: Joiner<'_>,
    now: Moment,
) -> Result<(), NotJoined> {
    let token = state(fields).map_err(|_| NotJoined::Unknown)?;
    let expires = token.document_expiration_time_micros;
    let is_known =
        !token.digest.is_empty() && is_equal(token.digest.as_bytes(), joiner.digest.as_bytes());
    if !is_known || (expires != 0 && expires <= now.0) {
        return Err(NotJoined::Unknown);
    }
    match token.used_by {
        Some(key) if key != joiner.key => Err(NotJoined::Used),
        _ => Ok(()),
    }
}

/// A token to join with is made.
///
/// # Errors
/// What it lacks.
pub fn check_join_token(fields: &Map<String, Value>) -> Result<(), Problem> {
    let token = state(fields)?;
    if token.digest.is_empty() {
        return Err(Problem::bad_request("such a token is made by `amrita token create --join`"));
    }
    Ok(())
}

/// A token to join with changes: once, by its use, and in nothing else. The owner of the document
/// decides this, so of two nodes with one token one is let in.
///
/// # Errors
/// When it was used before, or when it would become another token.
pub fn check_use(before: &Map<String, Value>, after: &Map<String, Value>) -> Result<(), Problem> {
    let (before, after) = (state(before)?, state(after)?);
    let is_same = before.digest == after.digest
        && before.document_expiration_time_micros == after.document_expiration_time_micros;
    if !is_same {
        return Err(Problem::bad_request("a token to join with is not changed; make another one"));
    }
    if before.used_by.is_some() && before != after {
        return Err(Problem::new(
            Code::Refused,
            "this token was used before; make another one: amrita token create --join",
        ));
    }
    Ok(())
}

/// The authority of a cluster: a certificate and its key.
///
/// # Errors
/// What it lacks.
pub fn check_authority(fields: &Map<String, Value>) -> Result<(), Problem> {
    let has =
        |name: &str| fields.get(name).and_then(Value::as_str).is_some_and(|it| !it.is_empty());
    if has("certificate") && has("privateKey") {
        return Ok(());
    }
    Err(Problem::bad_request("an authority has a certificate and a privateKey"))
}

/// Whether a certificate that was made then is to be made anew now. A clock that was put back makes
/// one, too: what counts from tomorrow on counts for nobody today.
pub fn is_renewal_due(made: Option<Moment>, now: Moment) -> bool {
    let half = CERTIFICATE_SECONDS * 1_000_000 / 2;
    made.is_none_or(|made| now < made || now.0 - made.0 >= half)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token() -> JoinToken {
        let contacts = ["https://10.0.0.1:8000", "https://[fe80::1]:9"];
        let contacts = contacts.map(|it| Address::parse(it).unwrap()).to_vec();
        let name = base64url::encode(&[5; 12]);
        JoinToken { name, secret: [1; SECRET_BYTES], fingerprint: [2; FINGERPRINT_BYTES], contacts }
    }

    #[test]
    fn a_token_is_taken_apart_and_a_cut_one_is_not_shown() {
        let text = token().text();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token()));
        for end in 0..text.len() - 1 {
            // A shorter list of nodes may still be one.
            let contacts = text.rfind('.').unwrap();
            if let Err(why) = JoinToken::parse(&text[..end]) {
                assert!(end < 6 || !why.contains(&text[5..end.max(6)]), "{why}");
            } else {
                assert!(end > contacts, "{}", &text[..end]);
            }
        }
        assert!(JoinToken::parse(&text.replace("amrj_", "amr_")).is_err());
    }

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_token_lets_one_key_in_as_often_as_it_asks_and_no_other() {
        let fresh = fields(json!({"digest": "d", "documentExpirationTimeMicros": 9}));
        let used = fields(json!({"digest": "d", "documentExpirationTimeMicros": 9, "usedBy": "k"}));
        let asks = |fields, digest, key, now| judge(fields, Joiner { digest, key }, Moment(now));
        assert_eq!(asks(&fresh, "d", "k", 8), Ok(()));
        assert_eq!(asks(&used, "d", "k", 8), Ok(()));
        assert_eq!(asks(&used, "d", "other", 8), Err(NotJoined::Used));
        assert_eq!(asks(&fresh, "d", "k", 9), Err(NotJoined::Unknown), "it has expired");
        assert_eq!(asks(&fresh, "x", "k", 8), Err(NotJoined::Unknown));
        assert_eq!(asks(&fields(json!({})), "", "k", 8), Err(NotJoined::Unknown));
    }

    #[test]
    fn a_token_changes_by_its_use_and_in_nothing_else() {
        let fresh = fields(json!({"digest": "d", "about": "x"}));
        let of = |key: &str| fields(json!({"digest": "d", "about": "x", "usedBy": key}));
        assert!(check_use(&fresh, &of("k")).is_ok() && check_use(&of("k"), &of("k")).is_ok());
        assert!(check_use(&of("k"), &of("other")).is_err());
        assert!(check_use(&of("k"), &fresh).is_err());
        assert!(check_use(&fresh, &fields(json!({"digest": "e", "usedBy": "k"}))).is_err());
    }

    #[test]
    fn a_certificate_is_renewed_after_half_of_its_life_and_when_the_clock_was_put_back() {
        let half = CERTIFICATE_SECONDS * 500_000;
        let made = Some(Moment(5));
        assert!(is_renewal_due(None, Moment(0)) && is_renewal_due(made, Moment(4)));
        assert!(!is_renewal_due(made, Moment(5)) && !is_renewal_due(made, Moment(4 + half)));
        assert!(is_renewal_due(made, Moment(5 + half)));
    }
}
