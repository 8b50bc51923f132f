//! Secrets that are compared so that the time does not tell, and what stands for one that is not
//! shown.

use blake2::{Blake2s256, Digest};
use protocol::base64url;

/// In a time that does not tell where the first difference is.
pub(crate) fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// How the hash of a password begins: the method, and what it costs to compare.
const HASH_BEGINNING: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

/// Whether a text may be the hash of a password. One that names another cost is none: with a hash
/// of somebody's own making, a login could take all memory of a node.
pub fn is_password_hash(text: &str) -> bool {
    text.starts_with(HASH_BEGINNING)
}

/// Tells one password from the next, and not what it is. `hash`: as its document has it, with salt,
/// so that also the same password that was set once more has another mark.
pub fn password_mark(hash: &str) -> String {
    base64url::encode(&Blake2s256::digest(hash.as_bytes()))
}
