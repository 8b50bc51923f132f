//! Who sends a request, as its headers say; and what a new token is made of.

use access::Jwt;
use blake2::{Blake2s256, Digest};
use hyper::header::{self, HeaderMap, HeaderName};
use protocol::{
    Bearer, Principal, Problem, TOKEN_NAME_BYTES, TOKEN_SECRET_BYTES, base64url, token_parts,
    token_text,
};

use crate::browsers::only;

/// Xenon's header for a token.
pub(crate) const XENON_TOKEN: HeaderName = HeaderName::from_static("x-xenon-auth-token");

/// Xenon's cookie for a token.
pub(crate) const XENON_COOKIE: &str = "xenon-auth-cookie";

/// A token just made.
pub(crate) struct NewToken {
    /// What its holder keeps; nobody else ever sees it again.
    pub(crate) text: String,
    pub(crate) name: String,
    pub(crate) digest: String,
}

/// Who sends a request. What is no token of ours, nobody knows.
///
/// # Errors
/// When a header stands there twice or is not plain.
pub(crate) fn of(headers: &HeaderMap) -> Result<Principal, Problem> {
    let shown = shown(headers)?;
    Ok(shown.map_or(Principal::Anonymous, |text| Principal::Bearer(Box::new(bearer_of(text)))))
}

/// The token that is shown, if it looks like one of an outside issuer and is none of ours.
pub(crate) fn foreign(headers: &HeaderMap) -> Option<&str> {
    let shown = shown(headers).ok().flatten()?;
    (token_parts(shown).is_none() && Jwt::is_one(shown)).then_some(shown)
}

/// The token that is shown, wherever it stands.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let bearer = only(headers, &header::AUTHORIZATION)?.and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    Ok(match (bearer, only(headers, &XENON_TOKEN)?) {
        (Some(token), _) | (None, Some(token)) => Some(token),
        (None, None) => cookie(headers),
    })
}

fn bearer_of(text: &str) -> Bearer {
    match token_parts(text) {
        Some((name, secret)) => {
            Bearer { name: name.to_owned(), digest: digest(&secret), is_checked: false }
        }
        // Nobody needs to be asked about it.
        None => Bearer { name: String::new(), digest: String::new(), is_checked: true },
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).iter();
    let pairs = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == XENON_COOKIE && !value.is_empty()).then_some(value))
}

/// A fast hash is enough: the secret is random and long, and cannot be guessed.
fn digest(secret: &[u8; TOKEN_SECRET_BYTES]) -> String {
    digest_of(secret)
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    base64url::encode(&Blake2s256::digest(bytes))
}

pub(crate) fn new_token() -> NewToken {
    let (mut name, mut secret) = ([0; TOKEN_NAME_BYTES], [0; TOKEN_SECRET_BYTES]);
    fill(&mut name);
    fill(&mut secret);
    let text = token_text(&name, &secret);
    NewToken { text, name: base64url::encode(&name), digest: digest(&secret) }
}

/// From the system's source of what nobody can foresee.
pub(crate) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a source of random numbers");
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_token_is_found_wherever_it_may_stand() {
        let token = new_token();
        let known = Principal::Bearer(Box::new(Bearer {
            name: token.name.clone(),
            digest: token.digest.clone(),
            is_checked: false,
        }));
        let (bearer, cookies) =
            (format!("bearer {}", token.text), format!("a=b; {XENON_COOKIE}={}", token.text));
        for (name, value) in [
            ("authorization", bearer.as_str()),
            ("x-xenon-auth-token", token.text.as_str()),
            ("cookie", cookies.as_str()),
        ] {
            assert_eq!(of(&headers(&[(name, value)])).unwrap(), known, "{name}");
        }
        assert_eq!(of(&headers(&[("authorization", "Basic YTpi")])).unwrap(), Principal::Anonymous);
        assert!(of(&headers(&[("x-xenon-auth-token", "a"), ("x-xenon-auth-token", "b")])).is_err());
        let garbage = of(&headers(&[("authorization", "Bearer amr_x.y")])).unwrap();
        let Principal::Bearer(garbage) = garbage else { panic!("it is shown as a token") };
        assert!(garbage.is_checked && garbage.name.is_empty());
        assert_ne!(new_token().text, token.text);
    }
}
