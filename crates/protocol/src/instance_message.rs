//! A message to an instance of an immortal that is part of a document's new version.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a handler or a task sends to an instance. It exists exactly if the version does that it was
/// made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMessage {
    /// The name of the instance.
    pub to: String,
    pub method: i64,
    /// The arguments: of a program in Rust, Python or TypeScript a JSON array.
    pub payload: Bytes,
}

/// The longest name of an instance, in bytes.
pub const INSTANCE_NAME_BYTES_MAX: usize = 100;

/// Whether an instance may have that name.
pub fn is_instance_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_dots = name == "." || name == "..";
    let has_length = (1..=INSTANCE_NAME_BYTES_MAX).contains(&name.len());
    has_length && !is_dots && name.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_no_name_of_an_instance() {
        for good in ["ledger", "a.b-c_9", &"x".repeat(INSTANCE_NAME_BYTES_MAX)] {
            assert!(is_instance_name(good), "{good}");
        }
        let long = "x".repeat(INSTANCE_NAME_BYTES_MAX + 1);
        for bad in ["", ".", "..", "/app/orders/1", "a b", "ä", &long] {
            assert!(!is_instance_name(bad), "{bad}");
        }
    }
}
