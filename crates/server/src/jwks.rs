//! The public keys of an outside issuer (JWKS, RFC 7517), and whether one of them has signed a
//! token. The signatures themselves are checked by `ring`, which TLS here uses as well.

use access::{Algorithm, Jwt, NotTaken};
use protocol::base64url;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of an issuer that are kept. A list with more is refused.
const KEYS_MAX: usize = 64;

/// The most keys that are tried for a token that does not say which one has signed it, or whose
/// name for it several keys have.
const KEYS_TRIED_MAX: usize = 4;

/// What an issuer's list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if the list says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct List {
    keys: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl Keys {
    /// Keys for anything but signatures, and of kinds that are not known, are passed over: an
    /// issuer has them for others.
    ///
    /// # Errors
    /// When it is no list of keys, or none of them is one that could sign a token.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let List { keys } = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is no list of keys (JWKS): {error}"))?;
        if keys.len() > KEYS_MAX {
            let count = keys.len();
            return Err(format!("it has {count} keys; at most {KEYS_MAX} are taken"));
        }
        let known: Vec<Key> = keys.into_iter().filter_map(Key::of).collect();
        if known.is_empty() {
            return Err("it has no public key of RSA, P-256, P-384 or Ed25519".to_owned());
        }
        Ok(Self(known))
    }

    /// Whether one of the keys has signed the token.
    ///
    /// # Errors
    /// [`NotTaken::Key`] when there is no key that could have.
    pub(crate) fn check(&self, jwt: &Jwt<'_>) -> Result<(), NotTaken> {
        let is_meant = |key: &&Key| jwt.key_id.is_none() || jwt.key_id == key.id;
        let fitting = self.0.iter().filter(is_meant).filter(|key| key.fits(jwt.algorithm));
        let mut why = NotTaken::Key;
        for key in fitting.take(KEYS_TRIED_MAX) {
            if key.has_signed(jwt) {
                return Ok(());
            }
            why = NotTaken::Signature;
        }
        Err(why)
    }
}

impl Key {
    fn of(value: Value) -> Option<Self> {
        let entry: Entry = serde_json::from_value(value).ok()?;
        if entry.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let material = entry.material()?;
        let algorithm = match &entry.alg {
            None => None,
            // For an algorithm that is not known here it is none of ours.
            Some(name) => Some(Algorithm::named(name)?),
        };
        Some(Self { id: entry.kid, algorithm, material })
    }

    /// **Invariant:** the key says what it may be used for, never the token.
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let is_of_kind = match self.material {
            Material::Rsa { .. } => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
        };
        is_of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    fn has_signed(&self, jwt: &Jwt<'_>) -> bool {
        let (message, proof) = (jwt.signed.as_bytes(), jwt.signature.as_slice());
        let checked = match &self.material {
            Material::Rsa { n, e } => {
                let Some(parameters) = rsa(jwt.algorithm) else { return false };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, proof)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, proof)
            }
            Material::P384(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, proof)
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, proof)
            }
        };
        checked.is_ok()
    }
}

impl Entry {
    fn material(&self) -> Option<Material> {
        let number = |text: &str| {
            let bytes = base64url::decode(text)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            (zeros < bytes.len()).then(|| bytes[zeros..].to_vec())
        };
        match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Some(Material::Rsa { n: number(&self.n)?, e: number(&self.e)? }),
            ("EC", "P-256") => self.point(32).map(Material::P256),
            ("EC", "P-384") => self.point(48).map(Material::P384),
            ("OKP", "Ed25519") => {
                let key = base64url::decode(&self.x)?;
                (key.len() == 32).then_some(Material::Ed25519(key))
            }
            _ => None,
        }
    }

    /// A point of a curve, written without compression.
    fn point(&self, bytes: usize) -> Option<Vec<u8>> {
        let (x, y) = (base64url::decode(&self.x)?, base64url::decode(&self.y)?);
        (x.len() == bytes && y.len() == bytes).then(|| [vec![4], x, y].concat())
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made by another program (the `cryptography` of Python) with keys that nobody has kept.
    const SAMPLES: &str = include_str!("jwks_samples.json");

    fn samples() -> Value {
        serde_json::from_str(SAMPLES).unwrap()
    }

    fn keys() -> Keys {
        Keys::parse(samples()["jwks"].to_string().as_bytes()).unwrap()
    }

    fn check(keys: &Keys, token: &str) -> Result<(), NotTaken> {
        keys.check(&Jwt::parse(token)?)
    }

    fn tokens(of: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        match &samples()[of] {
            Value::Array(all) => all.iter().map(|it| (text(&it[0]), text(&it[1]))).collect(),
            Value::Object(all) => all.iter().map(|(name, it)| (name.clone(), text(it))).collect(),
            _ => panic!("there are no samples of that name"),
        }
    }

    #[test]
    fn what_the_issuer_has_signed_is_taken_by_each_algorithm() {
        let keys = keys();
        let mut seen = std::collections::BTreeSet::new();
        for (algorithm, token) in tokens("good") {
            assert_eq!(check(&keys, &token), Ok(()), "{algorithm}");
            seen.insert(algorithm);
        }
        assert_eq!(seen.len(), Algorithm::ALL.len());
        for (algorithm, token) in tokens("without") {
            assert_eq!(check(&keys, &token), Ok(()), "{algorithm}, without a name of its key");
        }
    }

    #[test]
    fn what_was_changed_is_not_taken() {
        let keys = keys();
        for (algorithm, token) in tokens("good") {
            let parts: Vec<&str> = token.split('.').collect();
            let claims = base64url::encode(br#"{"sub":"joe"}"#);
            let changed = format!("{}.{claims}.{}", parts[0], parts[2]);
            assert_eq!(check(&keys, &changed), Err(NotTaken::Signature), "{algorithm}");
            let mut proof = base64url::decode(parts[2]).unwrap();
            for at in [0, proof.len() / 2, proof.len() - 1] {
                proof[at] ^= 1;
                let changed = format!("{}.{}.{}", parts[0], parts[1], base64url::encode(&proof));
                assert_eq!(check(&keys, &changed), Err(NotTaken::Signature), "{algorithm} {at}");
                proof[at] ^= 1;
            }
            let cut = format!("{}.{}.{}", parts[0], parts[1], base64url::encode(&proof[1..]));
            assert_eq!(check(&keys, &cut), Err(NotTaken::Signature), "{algorithm}");
        }
    }

    #[test]
    fn a_key_is_used_for_nothing_but_what_it_is_for() {
        let keys = keys();
        for (what, token) in tokens("bad") {
            let expected = match what.as_str() {
                "too short" | "PS256 said, RS256 done" | "DER" => NotTaken::Signature,
                _ => NotTaken::Key,
            };
            assert_eq!(check(&keys, &token), Err(expected), "{what}");
        }
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused() {
        let of = |value: &Value| Keys::parse(value.to_string().as_bytes()).map(|keys| keys.0.len());
        // Of the samples, those that could sign something that is taken.
        assert_eq!(of(&samples()["jwks"]), Ok(6));
        let secret = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
        let off = json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"});
        for wrong in [
            json!({"keys": [secret]}),
            json!({"keys": [off]}),
            json!({"keys": [{"kty": "RSA", "n": "", "e": "AQAB"}]}),
            json!({"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}, 7, null]}),
            json!({"keys": []}),
            json!({"keys": {}}),
            json!([]),
            json!({"keys": vec![json!({}); KEYS_MAX + 1]}),
        ] {
            assert!(of(&wrong).is_err(), "{wrong}");
        }
        assert!(Keys::parse(b"<html>").is_err());
    }

    #[test]
    fn no_bytes_bring_it_down() {
        let good = &tokens("good")[0].1;
        let keys = keys();
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..3 {
                // An xorshift: what is changed is the same in each run.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state % u64::try_from(bytes.len()).unwrap()).unwrap();
                bytes[at] = u8::try_from(state >> 32 & 0x7f).unwrap();
            }
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            if changed != *good {
                assert!(check(&keys, &changed).is_err(), "{changed}");
            }
        }
    }
}
