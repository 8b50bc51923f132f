//! Encryption of what a node writes: AES-256-GCM of the `ring` library, which is nothing but
//! computation. The key and all chance come from the shell.
//!
//! A sandbox has one [`DataKey`]. Nothing is encrypted with it: each file has keys of its own,
//! derived by HKDF-SHA256 from the data key, from a [`Salt`] and from what the file is
//! ([`Purpose`]). The salt is 16 random bytes that a writer ([`Sealer`]) is given when it is made,
//! so at least once in each start of the process. A writer numbers what it seals, and that number
//! is most of the nonce.
//!
//! **Invariant:** no key seals two different texts under one nonce. Within a writer the number
//! never comes twice, whether a write succeeded or not. Another writer, which may write to the same
//! place of the same file (for example where the last write before a crash was torn), has another
//! salt, and so another key. Salt and number stand in front of what was sealed, in the clear.

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::hkdf::{self, HKDF_SHA256, KeyType, Prk};

/// How long a key is, in bytes.
pub const KEY_BYTES: usize = 32;

/// How long a salt is, in bytes: two of them are never the same by chance.
pub const SALT_BYTES: usize = 16;

/// What makes the keys of one writer differ from those of all others.
pub type Salt = [u8; SALT_BYTES];

/// What proves that something is as it was sealed, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// A salt and a number.
pub(crate) const STAMP_BYTES: usize = SALT_BYTES + 8;

/// What is sealed. What was sealed for one purpose is not opened for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A segment of the log, by its number.
    Segment(u64),
    /// A page of the state store.
    Page,
    /// A text for people.
    Text,
    /// A data key, under the key that the user gives.
    Key,
}

impl Purpose {
    fn info(self) -> [u8; 9] {
        let (kind, number) = match self {
            Self::Segment(number) => (1, number),
            Self::Page => (2, 0),
            Self::Text => (3, 0),
            Self::Key => (4, 0),
        };
        let mut info = [kind; 9];
        info[1..].copy_from_slice(&number.to_le_bytes());
        info
    }
}

/// The key from which those of all files of a sandbox are derived.
#[derive(Clone)]
pub struct DataKey(Prk);

impl fmt::Debug for DataKey {
    /// Not the key itself: it must get into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    /// Of random bytes that nobody else knows.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(Prk::new_less_safe(HKDF_SHA256, bytes))
    }

    /// Of a secret of any length that nobody can guess.
    pub fn of_secret(secret: &[u8]) -> Self {
        Self(hkdf::Salt::new(HKDF_SHA256, b"amrita").extract(secret))
    }

    /// By what people tell keys apart. It says nothing of the key itself.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = [0; 8];
        let shown =
            self.0.expand(&[b"fingerprint"], Fingerprint).and_then(|it| it.fill(&mut bytes));
        shown.expect("the length is what is asked for");
        u64::from_be_bytes(bytes)
    }

    /// What was [sealed](Sealer::seal) under this key, for this purpose and about the same thing;
    /// nothing if it was not, or is not what it was.
    pub fn open(&self, purpose: Purpose, about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (stamp, text) = sealed.split_at_checked(STAMP_BYTES)?;
        let stamp = Stamp::read(stamp);
        let key = self.derive(stamp.salt, purpose);
        let mut text = text.to_vec();
        let opened = key.open_in_place(stamp.nonce(0), Aad::from(about), &mut text).ok()?;
        let length = opened.len();
        text.truncate(length);
        Some(text)
    }

    fn derive(&self, salt: Salt, purpose: Purpose) -> LessSafeKey {
        let info = [&salt[..], &purpose.info()[..]];
        let key = self.0.expand(&info, &AES_256_GCM).expect("the length is that of a key");
        LessSafeKey::new(UnboundKey::from(key))
    }
}

struct Fingerprint;

impl KeyType for Fingerprint {
    fn len(&self) -> usize {
        8
    }
}

/// What no two things that were sealed under one data key have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    salt: Salt,
    number: u64,
}

impl Stamp {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let salt = bytes[..SALT_BYTES].try_into().expect("the length is that of a salt");
        let number = bytes[SALT_BYTES..STAMP_BYTES].try_into().expect("eight bytes are left");
        Self { salt, number: u64::from_le_bytes(number) }
    }

    pub(crate) fn write(self, bytes: &mut [u8]) {
        bytes[..SALT_BYTES].copy_from_slice(&self.salt);
        bytes[SALT_BYTES..STAMP_BYTES].copy_from_slice(&self.number.to_le_bytes());
    }

    /// One for each part of what has this stamp.
    fn nonce(self, part: u32) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.number.to_le_bytes());
        nonce[8..].copy_from_slice(&part.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A key as it was last derived, since that takes longer than to seal a little.
type Derived = Option<(Salt, Purpose, Arc<LessSafeKey>)>;

fn derived(key: &DataKey, last: &mut Derived, salt: Salt, purpose: Purpose) -> Arc<LessSafeKey> {
    match last {
        Some((of, for_what, known)) if *of == salt && *for_what == purpose => Arc::clone(known),
        _ => {
            let fresh = Arc::new(key.derive(salt, purpose));
            *last = Some((salt, purpose, Arc::clone(&fresh)));
            fresh
        }
    }
}

/// Seals what one writer writes.
#[derive(Debug)]
pub struct Sealer {
    key: DataKey,
    salt: Salt,
    /// How much was sealed.
    sealed: u64,
    last: Derived,
}

impl Sealer {
    /// `salt`: random, and given to no other sealer.
    pub fn new(key: DataKey, salt: Salt) -> Self {
        Self { key, salt, sealed: 0, last: None }
    }

    pub fn key(&self) -> &DataKey {
        &self.key
    }

    /// Seals a text as a whole. Who opens it must say the same `about`, which is not in it.
    pub fn seal(&mut self, purpose: Purpose, about: &[u8], text: &[u8]) -> Vec<u8> {
        let (key, stamp) = self.next(purpose);
        let mut sealed = Vec::with_capacity(STAMP_BYTES + text.len() + TAG_BYTES);
        sealed.resize(STAMP_BYTES, 0);
        stamp.write(&mut sealed);
        sealed.extend_from_slice(text);
        let body = &mut sealed[STAMP_BYTES..];
        let tag = key.seal_in_place_separate_tag(stamp.nonce(0), Aad::from(about), body);
        sealed.extend_from_slice(tag.expect("it is shorter than AES-GCM takes").as_ref());
        sealed
    }

    fn next(&mut self, purpose: Purpose) -> (Arc<LessSafeKey>, Stamp) {
        let key = derived(&self.key, &mut self.last, self.salt, purpose);
        self.sealed = self.sealed.checked_add(1).expect("nobody seals that much");
        (key, Stamp { salt: self.salt, number: self.sealed })
    }

    /// For the next frame of a segment.
    pub(crate) fn frame(&mut self, segment: u64) -> FrameSeal {
        let (key, stamp) = self.next(Purpose::Segment(segment));
        FrameSeal { key, stamp }
    }
}

/// Finds the keys of frames that are read.
#[derive(Debug)]
pub(crate) struct Opener {
    key: DataKey,
    last: Derived,
}

impl Opener {
    pub(crate) fn new(key: DataKey) -> Self {
        Self { key, last: None }
    }

    pub(crate) fn frame(&mut self, segment: u64, stamp: Stamp) -> FrameSeal {
        let purpose = Purpose::Segment(segment);
        FrameSeal { key: derived(&self.key, &mut self.last, stamp.salt, purpose), stamp }
    }
}

/// Seals or opens the sectors of one frame, each by itself: a reader begins anywhere.
#[derive(Debug)]
pub(crate) struct FrameSeal {
    key: Arc<LessSafeKey>,
    pub(crate) stamp: Stamp,
}

impl FrameSeal {
    /// Seals a sector's part of the payload; the last bytes of `part` are room for the proof.
    pub(crate) fn seal(&self, index: usize, about: &[u8], part: &mut [u8]) {
        let (text, tag) = part.split_at_mut(part.len() - TAG_BYTES);
        let sealed = self.key.seal_in_place_separate_tag(self.nonce(index), Aad::from(about), text);
        tag.copy_from_slice(sealed.expect("it is shorter than AES-GCM takes").as_ref());
    }

    /// The reverse. Nothing when this is not what was sealed.
    pub(crate) fn open<'p>(
        &self,
        index: usize,
        about: &[u8],
        part: &'p mut [u8],
    ) -> Option<&'p [u8]> {
        let (text, tag) = part.split_at_mut(part.len() - TAG_BYTES);
        let tag = Tag::try_from(&*tag).ok()?;
        let nonce = self.nonce(index);
        let opened =
            self.key.open_in_place_separate_tag(nonce, Aad::from(about), tag, text, 0..).ok()?;
        Some(opened)
    }

    fn nonce(&self, index: usize) -> Nonce {
        self.stamp.nonce(u32::try_from(index).expect("FRAME_BYTES_MAX fits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DataKey {
        DataKey::new(&[byte; KEY_BYTES])
    }

    #[test]
    fn only_the_same_key_purpose_and_matter_open_what_was_sealed() {
        let mut sealer = Sealer::new(key(1), [7; SALT_BYTES]);
        let sealed = sealer.seal(Purpose::Page, b"5", b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(key(1).open(Purpose::Page, b"5", &sealed).unwrap(), b"secret");
        assert_eq!(key(2).open(Purpose::Page, b"5", &sealed), None);
        assert_eq!(key(1).open(Purpose::Text, b"5", &sealed), None);
        assert_eq!(key(1).open(Purpose::Page, b"6", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key(1).open(Purpose::Page, b"5", &flipped), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key(1).open(Purpose::Page, b"5", &sealed[..length]), None, "{length}");
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_alike() {
        let mut one = Sealer::new(key(1), [1; SALT_BYTES]);
        let mut other = Sealer::new(key(1), [2; SALT_BYTES]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            for sealer in [&mut one, &mut other] {
                let sealed = sealer.seal(Purpose::Page, b"", &[0; 64]);
                assert!(seen.insert(sealed[STAMP_BYTES..].to_vec()));
            }
        }
    }
}
