//! Self links: their form, their parts, and the slot they fall into.

use crate::hash::hash;
use crate::{Code, GroupId, Problem};

/// The longest self link, in bytes.
pub const LINK_BYTES_MAX: usize = 1024;

/// How many hash buckets the self links fall into. Partitions are made of slots, so that a later
/// split moves slots and no link is hashed anew.
pub const SLOTS: u32 = 4096;

/// The ends of a path that name a utility of the service, not a document (Xenon's
/// `UtilityService`).
pub const UTILITIES: [&str; 6] =
    ["stats", "config", "template", "available", "subscriptions", "ui"];

/// # Errors
/// When the link is not absolute, is too long, or has an empty, `.` or `..` part or a character
/// that would have to be escaped.
pub fn check(link: &str) -> Result<(), Problem> {
    let wrong = |why: &str| {
        let shown: String = link.chars().take(80).collect();
        Err(Problem::new(Code::BadLink, format!("the link '{shown}' {why}")))
    };
    if link.len() > LINK_BYTES_MAX {
        return wrong(&format!("is {} bytes long; the limit is {LINK_BYTES_MAX}", link.len()));
    }
    let Some(parts) = link.strip_prefix('/') else { return wrong("must begin with '/'") };
    if parts.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return wrong("has an empty, '.' or '..' part; write it without");
    }
    if link.chars().any(|c| c.is_control() || c.is_whitespace() || "?#%\\\"<>".contains(c)) {
        return wrong(
            "has a blank, a control character or one of ? # % \\ \" < >; leave these out",
        );
    }
    Ok(())
}

/// `/core/examples/one` is `(/core/examples, one)`.
pub fn split(link: &str) -> Option<(&str, &str)> {
    let (parent, name) = link.rsplit_once('/')?;
    (!parent.is_empty() && !name.is_empty()).then_some((parent, name))
}

/// Takes a utility's name off the end: `/core/examples/stats` is `(/core/examples, Some(stats))`.
pub fn split_utility(path: &str) -> (&str, Option<&str>) {
    match split(path) {
        Some((parent, name)) if UTILITIES.contains(&name) => (parent, Some(name)),
        _ => (path, None),
    }
}

/// The slot of a link: its hash, the same for ever, as stored data depends on it.
pub fn slot(link: &str) -> u32 {
    let mut hash = hash(link.as_bytes());
    hash ^= hash >> 32;
    u32::try_from(hash % u64::from(SLOTS)).expect("a remainder of SLOTS fits")
}

/// The partition that a link belongs to, when there are `partitions` of them (1 and up).
pub fn partition(link: &str, partitions: u32) -> GroupId {
    GroupId(1 + slot(link) % partitions)
}

/// `%41` is `A`; a broken escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let hex = hex.filter(|_| bytes[at] == b'%');
        let escape = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_dots_or_blanks_is_refused() {
        for wrong in ["core", "/a//b", "/a/../b", "/a/./b", "/a b", "/a?b", "/", "/a/%2e"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check(&format!("/{}", "x".repeat(LINK_BYTES_MAX))).is_err());
        assert!(check("/core/examples/one.two-3").is_ok());
    }

    #[test]
    fn slots_are_what_they_always_were() {
        assert_eq!(slot("/core/examples/one"), 2_904);
        assert_eq!(slot("/core/example-tasks/a"), 2_210);
    }

    #[test]
    fn a_utility_is_told_from_a_document() {
        assert_eq!(split_utility("/core/examples/stats"), ("/core/examples", Some("stats")));
        assert_eq!(split_utility("/core/examples/one"), ("/core/examples/one", None));
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(percent_decode("a%20b%2"), "a b%2");
        assert_eq!(percent_decode("%+1%-1%é"), "%+1%-1%é", "a sign is no digit");
    }
}
