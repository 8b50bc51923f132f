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
pub const UTILITIES: [&str; 7] =
    ["stats", "config", "template", "available", "explain", "subscriptions", "ui"];

/// The factory of definitions of kinds.
pub const KINDS: &str = "/core/factories";

/// The name of the definition of a factory, and of its kind if nothing else is said: `app:seats`
/// for `/app/seats`.
pub fn kind_name(factory: &str) -> String {
    factory.trim_matches('/').replace('/', ":")
}

/// The link of the definition of a factory: `/core/factories/app:seats` for `/app/seats`.
pub fn definition_of(factory: &str) -> String {
    format!("{KINDS}/{}", kind_name(factory))
}

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

/// The factory of a document and its name: `/core/examples/one` is `(/core/examples, one)`. A part
/// that is a partition key belongs to the name: `/app/orders/{42}/a` is `(/app/orders, {42}/a)`.
pub fn split(link: &str) -> Option<(&str, &str)> {
    let (parent, name) = split_last(link)?;
    match split_last(parent) {
        Some((above, key)) if is_key(key) => Some((above, &link[above.len() + 1..])),
        _ => Some((parent, name)),
    }
}

/// Before and behind the last slash.
fn split_last(link: &str) -> Option<(&str, &str)> {
    let (parent, name) = link.rsplit_once('/')?;
    (!parent.is_empty() && !name.is_empty()).then_some((parent, name))
}

/// Whether a part of a link is a partition key and nothing else: `{42}`.
pub fn is_key(part: &str) -> bool {
    let inner = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.is_empty() && !inner.contains(['{', '}']))
}

/// The partition key of a link: what stands between its first braces, if anything does.
pub fn key(link: &str) -> Option<&str> {
    let (_, rest) = link.split_once('{')?;
    let (key, _) = rest.split_once('}')?;
    (!key.is_empty()).then_some(key)
}

/// Takes a utility's name off the end: `/core/examples/stats` is `(/core/examples, Some(stats))`.
pub fn split_utility(path: &str) -> (&str, Option<&str>) {
    match split_last(path) {
        Some((parent, name)) if UTILITIES.contains(&name) => (parent, Some(name)),
        _ => (path, None),
    }
}

/// The slot of a link: its hash, the same for ever, as stored data depends on it. Links with the
/// same partition key have the same slot.
pub fn slot(link: &str) -> u32 {
    let mut hash = hash(key(link).unwrap_or(link).as_bytes());
    hash ^= hash >> 32;
    u32::try_from(hash % u64::from(SLOTS)).expect("a remainder of SLOTS fits")
}

/// The partition that a link belongs to, when there are `partitions` of them (1 and up).
pub fn partition(link: &str, partitions: u32) -> GroupId {
    GroupId(1 + slot(link) % partitions)
}

/// `%41` is `A`.
///
/// # Errors
/// When an escape is broken, or the bytes are no UTF-8: made fit somehow, two names would become
/// one.
pub fn percent_decode(text: &str) -> Result<String, Problem> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let wrong = |why: &str| {
        let shown: String = text.chars().take(80).collect();
        let why = format!("'{shown}' {why}; percent-encode the bytes of UTF-8");
        Problem::new(Code::BadLink, why)
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let escape =
            digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        decoded.push(escape.ok_or_else(|| wrong("has a '%' without two hex digits"))?);
    }
    String::from_utf8(decoded).map_err(|_| wrong("is not UTF-8 once it is decoded"))
}

/// Percent-encodes what is neither a letter or a digit nor among `plain`.
pub fn percent_encode(text: &str, plain: &[u8]) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to memory cannot fail");
        }
    }
    encoded
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
    fn links_with_one_partition_key_have_one_slot() {
        let slots = ["/app/orders/{42}/a", "/app/orders/{42}", "/app/lines/b{42}c"].map(slot);
        assert_eq!(slots, [slot("42"); 3]);
        assert_ne!(slot("/app/orders/{43}/a"), slots[0]);
        for (link, found) in [
            ("/a/{}/b", None),
            ("/a/{b", None),
            ("/a/b}", None),
            ("/a/{b}{c}", Some("b")),
            ("/a/{x/y}/b", Some("x/y")),
        ] {
            assert_eq!(key(link), found, "{link}");
            assert_eq!(slot(link), slot(found.unwrap_or(link)), "{link}");
        }
    }

    #[test]
    fn a_partition_key_belongs_to_the_name() {
        assert_eq!(split("/app/orders/{42}/a"), Some(("/app/orders", "{42}/a")));
        assert_eq!(split("/app/orders/{42}"), Some(("/app/orders", "{42}")));
        assert_eq!(split("/app/orders/x{42}/a"), Some(("/app/orders/x{42}", "a")));
        assert_eq!(split("/{42}/a"), Some(("/{42}", "a")), "there is no factory above it");
        let stats = split_utility("/app/orders/{42}/stats");
        assert_eq!(stats, ("/app/orders/{42}", Some("stats")));
    }

    #[test]
    fn a_utility_is_told_from_a_document() {
        assert_eq!(split_utility("/core/examples/stats"), ("/core/examples", Some("stats")));
        assert_eq!(split_utility("/core/examples/one"), ("/core/examples/one", None));
    }

    #[test]
    fn escapes_are_decoded_or_refused() {
        assert_eq!(percent_decode("a%20b%C3%a9").unwrap(), "a bé");
        for wrong in ["%", "a%2", "%zz", "%+1", "%ff", "%c3%28"] {
            assert_eq!(percent_decode(wrong).unwrap_err().code, Code::BadLink, "{wrong}");
        }
    }
}
