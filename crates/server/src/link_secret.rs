//! What all nodes of a cluster know and nobody else: who opens a link proves it, and so does who
//! takes it, before either says anything of the cluster.
//!
//! The secret itself is never sent. The dialer asks, is given a number that the other has made up,
//! and asks again with a proof over that number and one of its own; the answer proves the same the
//! other way round. A proof counts once. What is said over the link afterwards is not protected by
//! this: on a network that others can read, links need TLS beside it.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use blake2::Blake2sMac;
use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, Mac};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use protocol::base64url;

use crate::Failure;
use crate::principal::fill;

/// A number that one side has made up.
pub(crate) const NONCE: HeaderName = HeaderName::from_static("amrita-link-nonce");

/// The other side's number, given back.
const ECHO: HeaderName = HeaderName::from_static("amrita-link-echo");

const PROOF: HeaderName = HeaderName::from_static("amrita-link-proof");

/// A shorter secret can be guessed.
const CHARACTERS_MIN: usize = 32;

/// How long a number that was given out may be used.
const NONCE_AGE_MAX: Duration = Duration::from_secs(10);

/// The first bytes of a number, which say when it was given out.
const TIME_BYTES: usize = 8;

const BYTES: usize = 32;

pub(crate) struct LinkSecret {
    key: [u8; BYTES],
    begun: Instant,
    /// The numbers that were used with a right proof, and when they were given out. Strangers can
    /// put none here; nodes dial a few times in that time.
    used: Mutex<VecDeque<(Instant, String)>>,
}

/// What is to be said to a dialer.
pub(crate) enum Said {
    /// It has proved nothing so far: this number is for its proof.
    Ask(HeaderValue),
    /// It belongs to the cluster; this proves the same of this node.
    Welcome(HeaderValue),
    /// Its proof is none.
    Stranger,
}

impl LinkSecret {
    /// # Errors
    /// When the file cannot be read, is too short, or others may read it.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::PermissionsExt;
        let shown = file.display();
        let failed =
            |why: String| Failure::new(format!("the secret of the links in {shown} {why}"));
        let text = fs::read_to_string(file).map_err(|error| {
            failed(format!("cannot be read: {error}"))
                .advise("make one: head -c 32 /dev/urandom | base64; the same for all nodes")
        })?;
        let mode = fs::metadata(file).map_err(|error| failed(error.to_string()))?.permissions();
        if mode.mode() & 0o007 != 0 {
            return Err(failed("may be read by everybody on this machine".into())
                .advise(format!("chmod 600 {shown}")));
        }
        let text = text.trim();
        if text.len() < CHARACTERS_MIN {
            return Err(failed(format!("has {} characters", text.len())).advise(format!(
                "use at least {CHARACTERS_MIN}: head -c 32 /dev/urandom | base64"
            )));
        }
        Ok(Self::of(text.as_bytes()))
    }

    pub(crate) fn of(text: &[u8]) -> Self {
        // Secrets of any length become a key.
        let mut mac = Blake2sMac::<U32>::new_from_slice(b"amrita link").expect("it is short");
        mac.update(text);
        let (key, begun) = (mac.finalize_fixed().into(), Instant::now());
        Self { key, begun, used: Mutex::default() }
    }

    fn mac(&self, label: &str, first: &str, second: &str) -> Blake2sMac<U32> {
        let mut mac = Blake2sMac::<U32>::new_from_slice(&self.key).expect("a key has 32 bytes");
        for part in [label, first, second] {
            // With its length, so that no two rows of parts look alike.
            let length = u64::try_from(part.len()).expect("a length fits");
            mac.update(&length.to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    fn proof(&self, label: &str, first: &str, second: &str) -> HeaderValue {
        header(&base64url::encode(&self.mac(label, first, second).finalize_fixed()))
    }

    fn is_proved(&self, label: &str, parts: (&str, &str), proof: &str) -> bool {
        let Some(proof) = base64url::decode(proof) else { return false };
        self.mac(label, parts.0, parts.1).verify_slice(&proof).is_ok()
    }

    /// The accepting side: what a dialer's headers are worth.
    pub(crate) fn judge(&self, headers: &HeaderMap, now: Instant) -> Said {
        let Some(proof) = text(headers, &PROOF) else {
            return Said::Ask(header(&self.give(now)));
        };
        let theirs = text(headers, &NONCE).unwrap_or_default();
        let ours = text(headers, &ECHO).unwrap_or_default();
        let is_proved = theirs.len() >= BYTES && self.is_proved("dial", (ours, theirs), proof);
        if is_proved && self.take(ours, now) {
            return Said::Welcome(self.proof("accept", theirs, ours));
        }
        Said::Stranger
    }

    /// A number that says when it was given out, and that it was given out here: nothing is kept of
    /// it, so strangers who ask for many keep nobody out.
    fn give(&self, now: Instant) -> String {
        let mut bytes = [0; BYTES];
        fill(&mut bytes);
        let at = u64::try_from(now.duration_since(self.begun).as_micros()).unwrap_or(u64::MAX);
        bytes[..TIME_BYTES].copy_from_slice(&at.to_be_bytes());
        let number = base64url::encode(&bytes);
        let mark = self.mac("given", &number, "").finalize_fixed();
        format!("{number}{}", base64url::encode(&mark))
    }

    /// When it was given out here, if it was.
    fn given_at(&self, nonce: &str) -> Option<Instant> {
        let (number, mark) = nonce.split_at_checked(base64url::encode(&[0; BYTES]).len())?;
        if !self.is_proved("given", (number, ""), mark) {
            return None;
        }
        let bytes = base64url::decode(number)?;
        let at = u64::from_be_bytes(bytes.get(..TIME_BYTES)?.try_into().ok()?);
        self.begun.checked_add(Duration::from_micros(at))
    }

    /// Whether the number was given out; it counts once, and only after its proof was looked at.
    fn take(&self, nonce: &str, now: Instant) -> bool {
        let Some(at) = self.given_at(nonce) else { return false };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|(at, _)| now.duration_since(*at) < NONCE_AGE_MAX);
        let is_old = now.duration_since(at) >= NONCE_AGE_MAX;
        if is_old || used.iter().any(|(_, known)| known == nonce) {
            return false;
        }
        used.push_back((at, nonce.to_owned()));
        true
    }

    /// The dialing side: the headers of the second try, and the proof that must come back.
    pub(crate) fn answer(&self, theirs: &str) -> Dialing {
        let ours = nonce();
        let expected = (ours.clone(), theirs.to_owned());
        let headers = [
            (NONCE, header(&ours)),
            (ECHO, header(theirs)),
            (PROOF, self.proof("dial", theirs, &ours)),
        ];
        Dialing { headers, expected }
    }

    /// Whether the node that was dialed belongs to the cluster.
    pub(crate) fn is_member(&self, dialing: &Dialing, headers: &HeaderMap) -> bool {
        let (ours, theirs) = &dialing.expected;
        text(headers, &PROOF).is_some_and(|proof| self.is_proved("accept", (ours, theirs), proof))
    }
}

/// A second try at a link.
pub(crate) struct Dialing {
    pub(crate) headers: [(HeaderName, HeaderValue); 3],
    expected: (String, String),
}

/// Puts the proof of this node into its answer.
pub(crate) fn put_proof(answer: &mut HeaderMap, proof: HeaderValue) {
    answer.insert(PROOF, proof);
}

fn nonce() -> String {
    let mut bytes = [0; BYTES];
    fill(&mut bytes);
    base64url::encode(&bytes)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A number that came from outside may be anything; one that cannot be sent proves nothing.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(secret: &LinkSecret, now: Instant) -> String {
        let Said::Ask(nonce) = secret.judge(&HeaderMap::new(), now) else { panic!("it asks") };
        nonce.to_str().unwrap().to_owned()
    }

    fn second(dialing: &Dialing) -> HeaderMap {
        dialing.headers.iter().cloned().collect()
    }

    #[test]
    fn both_ends_know_each_other_by_the_secret_and_a_proof_counts_once() {
        let (one, other) = (LinkSecret::of(b"same"), LinkSecret::of(b"same"));
        let now = Instant::now();
        let dialing = one.answer(&asked(&other, now));
        let headers = second(&dialing);
        let Said::Welcome(proof) = other.judge(&headers, now) else { panic!("it is a member") };
        let mut answer = HeaderMap::new();
        assert!(!one.is_member(&dialing, &answer), "who proves nothing is a stranger");
        put_proof(&mut answer, proof);
        assert!(one.is_member(&dialing, &answer));
        assert!(!LinkSecret::of(b"another").is_member(&dialing, &answer));
        assert!(matches!(other.judge(&headers, now), Said::Stranger), "a second time");
    }

    #[test]
    fn a_stranger_and_a_late_comer_are_known_for_what_they_are() {
        let (stranger, node) = (LinkSecret::of(b"guessed"), LinkSecret::of(b"same"));
        let now = Instant::now();
        let guess = stranger.answer(&asked(&node, now));
        assert!(matches!(node.judge(&second(&guess), now), Said::Stranger));
        let made_up = node.answer("a number that nobody gave out, long enough");
        assert!(matches!(node.judge(&second(&made_up), now), Said::Stranger));
        let late = node.answer(&asked(&node, now));
        let said = node.judge(&second(&late), now + NONCE_AGE_MAX);
        assert!(matches!(said, Said::Stranger));
        // What a node says as one that accepts is no proof of one that dials.
        let mirrored = node.answer(&asked(&node, now));
        let Said::Welcome(proof) = node.judge(&second(&mirrored), now) else { panic!() };
        let mut headers = second(&node.answer(&asked(&node, now)));
        put_proof(&mut headers, proof);
        assert!(matches!(node.judge(&headers, now), Said::Stranger));
    }

    #[test]
    fn strangers_who_ask_for_many_numbers_keep_nobody_out() {
        let secret = LinkSecret::of(b"same");
        let now = Instant::now();
        let dialing = secret.answer(&asked(&secret, now));
        for _ in 0..5_000 {
            asked(&secret, now);
        }
        assert!(
            secret.used.lock().unwrap().is_empty(),
            "nothing is kept of what is only asked for"
        );
        assert!(matches!(secret.judge(&second(&dialing), now), Said::Welcome(_)));
        // And a number that somebody else has marked was not given out here.
        let elsewhere = LinkSecret::of(b"another");
        let dialing = secret.answer(&asked(&elsewhere, now));
        assert!(matches!(secret.judge(&second(&dialing), now), Said::Stranger));
    }
}
