//! Secrets that are compared so that the time does not tell, and what stands for one that is not
//! shown.

use blake2::{Blake2s256, Digest};
use protocol::base64url;

/// In a time that does not tell where the first difference is.
pub(crate) fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Tells one password from the next, and not what it is. `hash`: as its document has it, with salt,
/// so that also the same password that was set once more has another mark.
pub fn password_mark(hash: &str) -> String {
    base64url::encode(&Blake2s256::digest(hash.as_bytes()))
}
