//! Tokens of an outside issuer (JWT, RFC 7519), taken apart and judged by what they say. Whether
//! the signature is right needs the issuer's keys, and is found out in the shell: what is read here
//! is worth nothing before.

use std::fmt;

use protocol::{Moment, base64url};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A longer token is refused before anything of it is read.
const JWT_BYTES_MAX: usize = 16 << 10;

/// How far the clocks of the issuer and of a node may differ: a token counts for this much longer
/// than it says, and may be this much younger than now.
const JWT_LEEWAY_SECONDS: u64 = 60;

/// What may sign a token. With each of these the issuer has a private key, and whoever checks the
/// signature has the public one; so there is none of the algorithms whose one key does both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// Why a token of an outside issuer does not count. No word of the token is in it, and nothing of
/// what the node expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    TooLong,
    /// It does not have the form of a signed token.
    Form,
    /// `none`, one with a shared secret, or one that is not known.
    Algorithm,
    /// It demands that something be understood that is not.
    Critical,
    /// The issuer has no such key, or the key is for another algorithm.
    Key,
    Signature,
    Issuer,
    Audience,
    Expired,
    NotYet,
    /// It lacks this claim, or the claim is of another form.
    Claim(&'static str),
    /// The name of the user is missing, too long, or an address that the issuer does not say it has
    /// verified.
    UserClaim,
    /// No group of it is mapped to one of the cluster, and the user is not known otherwise.
    Stranger,
    /// The user of that name was deleted.
    Deleted,
    /// The user of that name belongs to another issuer, or is another subject.
    OtherUser,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is too long",
            Self::Form => "it is not three parts in base64url, of which the first two are JSON",
            Self::Algorithm => {
                "its algorithm is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 \
                 and EdDSA"
            }
            Self::Critical => "it has 'crit', which is not understood here",
            Self::Key => "the issuer has no key of that id that goes with its algorithm",
            Self::Signature => "its signature is not right",
            Self::Issuer => "its issuer is another one",
            Self::Audience => "it is for another audience",
            Self::Expired => "it has expired",
            Self::NotYet => "it counts only later; are the clocks right?",
            Self::Claim(name) => {
                return write!(f, "it has no claim '{name}', or one of another form");
            }
            Self::UserClaim => "the claim that names its user is missing, too long or not verified",
            Self::Stranger => {
                "none of its groups is one of this cluster, and nobody has made a user for it"
            }
            Self::Deleted => "an admin has deleted its user",
            Self::OtherUser => "its user's document is another issuer's or another subject's",
        })
    }
}

/// A token that was taken apart. **Invariant:** nothing of it is believed before its signature was
/// found to be right.
#[derive(Clone, Debug)]
pub struct Jwt<'a> {
    /// What is signed: the first two parts, as they stand there.
    pub signed: &'a str,
    pub signature: Vec<u8>,
    pub algorithm: Algorithm,
    /// Which of the issuer's keys is meant.
    pub key_id: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    /// Whether a text looks like one, at a glance: three parts.
    pub fn is_one(text: &str) -> bool {
        text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// # Errors
    /// When it is none that could count, whoever has signed it.
    pub fn parse(text: &'a str) -> Result<Self, NotTaken> {
        if text.len() > JWT_BYTES_MAX {
            return Err(NotTaken::TooLong);
        }
        if !Self::is_one(text) {
            return Err(NotTaken::Form);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(NotTaken::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(NotTaken::Form)?;
        let bytes = |part: &str| base64url::decode(part).ok_or(NotTaken::Form);
        let Header { alg, kid, crit } =
            serde_json::from_slice(&bytes(header)?).map_err(|_| NotTaken::Form)?;
        let algorithm = Algorithm::named(&alg).ok_or(NotTaken::Algorithm)?;
        if crit.is_some() {
            return Err(NotTaken::Critical);
        }
        let claims = serde_json::from_slice(&bytes(claims)?).map_err(|_| NotTaken::Form)?;
        let signature = bytes(signature)?;
        if signature.is_empty() {
            return Err(NotTaken::Signature);
        }
        Ok(Self { signed, signature, algorithm, key_id: kid, claims })
    }

    /// Whether it is from that issuer, for that audience, and counts now: from when it was issued
    /// and until when it counts, in seconds since 1970.
    ///
    /// # Errors
    /// When it does not count.
    pub(crate) fn check(
        &self,
        issuer: &str,
        audience: &str,
        now: Moment,
    ) -> Result<(u64, u64), NotTaken> {
        if self.claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(NotTaken::Issuer);
        }
        let is_for_us = match self.claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        };
        if !is_for_us {
            return Err(NotTaken::Audience);
        }
        let now = now.0 / 1_000_000;
        let latest = now.saturating_add(JWT_LEEWAY_SECONDS);
        let ends = self.seconds("exp")?.ok_or(NotTaken::Claim("exp"))?;
        let until = ends.saturating_add(JWT_LEEWAY_SECONDS);
        if until <= now {
            return Err(NotTaken::Expired);
        }
        let issued = self.seconds("iat")?.ok_or(NotTaken::Claim("iat"))?;
        let begins = self.seconds("nbf")?.unwrap_or(issued);
        if issued > latest || begins > latest {
            return Err(NotTaken::NotYet);
        }
        Ok((issued, until))
    }

    /// A moment, in whole seconds. One of another form is not passed over as if it were missing.
    fn seconds(&self, name: &'static str) -> Result<Option<u64>, NotTaken> {
        let Some(value) = self.claims.get(name) else { return Ok(None) };
        // With a fraction it is a text of digits without it; what is no such text is no moment.
        let floor = || format!("{:.0}", value.as_f64()?.floor()).parse().ok();
        let whole = value.as_u64().or_else(floor);
        whole.map(Some).ok_or(NotTaken::Claim(name))
    }

    /// A claim by its name, or by the way to it: `realm_access.roles`.
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.claims.get(name) {
            return Some(value);
        }
        let mut parts = name.split('.');
        let first = self.claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Moment = Moment(2_000_000_000 * 1_000_000);

    fn text(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| base64url::encode(value.to_string().as_bytes());
        format!("{}.{}.{}", part(header), part(claims), base64url::encode(b"signature"))
    }

    fn good() -> Value {
        json!({"iss": "https://issuer", "aud": "amrita", "sub": "jane", "iat": 1_999_999_990_u64,
            "exp": 2_000_000_300_u64})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn judged(claims: &Value) -> Result<(u64, u64), NotTaken> {
        let text = text(&json!({"alg": "RS256"}), claims);
        Jwt::parse(&text)?.check("https://issuer", "amrita", NOW)
    }

    #[test]
    fn what_cannot_count_is_refused_whoever_signed_it() {
        let of = |header: Value| Jwt::parse(&text(&header, &good())).err();
        for name in ["none", "None", "HS256", "HS384", "HS512", "ES512", "ES256K", "rs256", ""] {
            assert_eq!(of(json!({ "alg": name })), Some(NotTaken::Algorithm), "{name}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(of(json!({"alg": algorithm.name()})), None);
        }
        assert_eq!(of(json!({"alg": "RS256", "crit": ["b64"]})), Some(NotTaken::Critical));
        assert_eq!(of(json!({"alg": "RS256", "crit": []})), Some(NotTaken::Critical));
        for header in [json!({}), json!({"alg": 1}), json!({"alg": "RS256", "kid": 7}), json!(1)] {
            assert_eq!(of(header.clone()), Some(NotTaken::Form), "{header}");
        }
        let whole = text(&json!({"alg": "RS256"}), &good());
        let (two, _) = whole.rsplit_once('.').unwrap();
        assert_eq!(Jwt::parse(&format!("{two}.")).err(), Some(NotTaken::Signature));
        for wrong in ["", "..", "a.b", "a.b.c.d", two, &format!("{whole}=")] {
            assert_eq!(Jwt::parse(wrong).err(), Some(NotTaken::Form), "{wrong}");
        }
        let long = text(&json!({"alg": "RS256"}), &with("x", "y".repeat(JWT_BYTES_MAX).into()));
        assert_eq!(Jwt::parse(&long).err(), Some(NotTaken::TooLong));
    }

    #[test]
    fn what_a_token_says_decides_whether_it_counts_now() {
        let at = |second: u64| json!(second);
        assert_eq!(judged(&good()), Ok((1_999_999_990, 2_000_000_360)));
        let claim = |name| Err(NotTaken::Claim(name));
        for (claims, expected) in [
            (without("iss"), Err(NotTaken::Issuer)),
            (with("iss", json!("https://issuer/")), Err(NotTaken::Issuer)),
            (with("iss", json!(["https://issuer"])), Err(NotTaken::Issuer)),
            (without("aud"), Err(NotTaken::Audience)),
            (with("aud", json!("amrita2")), Err(NotTaken::Audience)),
            (with("aud", json!([])), Err(NotTaken::Audience)),
            (with("aud", json!({"amrita": true})), Err(NotTaken::Audience)),
            (without("exp"), claim("exp")),
            (with("exp", json!("2000000300")), claim("exp")),
            (with("exp", json!(-1)), claim("exp")),
            (with("exp", json!(null)), claim("exp")),
            (with("exp", at(1_999_999_940)), Err(NotTaken::Expired)),
            (without("iat"), claim("iat")),
            (with("iat", json!(true)), claim("iat")),
            (with("iat", at(2_000_000_061)), Err(NotTaken::NotYet)),
            (with("nbf", at(2_000_000_061)), Err(NotTaken::NotYet)),
            // Of another form it is not as if it were missing.
            (with("nbf", json!("later")), claim("nbf")),
        ] {
            assert_eq!(judged(&claims), expected, "{claims}");
        }
        for claims in [
            with("aud", json!(["other", "amrita"])),
            with("exp", at(1_999_999_941)),
            with("exp", json!(2_000_000_000.5)),
            with("exp", at(u64::MAX)),
            with("iat", at(2_000_000_060)),
            with("nbf", at(2_000_000_060)),
        ] {
            assert!(judged(&claims).is_ok(), "{claims}");
        }
    }

    #[test]
    fn a_claim_is_found_by_its_name_and_by_the_way_to_it() {
        let claims = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}});
        let text = text(&json!({"alg": "EdDSA"}), &claims);
        let jwt = Jwt::parse(&text).unwrap();
        let of = |name: &str| jwt.claim(name).and_then(Value::as_u64);
        assert_eq!((of("a.b"), of("a.c.d"), of("a.c.x"), of("")), (Some(1), Some(3), None, None));
    }
}
