//! The families of keys that a partition has in its space, and the order of their keys.
//!
//! Those below `storage::DERIVED` are the state: the same bytes on every replica, and what a
//! snapshot carries. The others are the index: each replica makes its own.

/// Link: the latest version (see `record`), with how far its history goes back.
pub(crate) const HEAD: u8 = 0x01;
/// Link, 0, version (see [`put_number`]): a retained version before the latest.
pub(crate) const VERSION: u8 = 0x02;
/// Minute (u32, big endian), edge, boot, number (see [`put_number`]): what was answered to a
/// request.
pub(crate) const AUTO_RECORD: u8 = 0x03;
/// The key that the user gave: when, and what was answered.
pub(crate) const USER_RECORD: u8 = 0x04;
/// When (u64, big endian), the key that the user gave: nothing. For forgetting in order of time.
pub(crate) const USER_RECORD_TIME: u8 = 0x05;
/// Partition (u32, big endian): the epoch that its sources must have at least.
pub(crate) const FENCE: u8 = 0x06;
/// Link: nothing. The tasks in progress.
pub(crate) const TASK: u8 = 0x07;
/// When (u64, big endian), link: nothing. The documents that expire.
pub(crate) const EXPIRATION: u8 = 0x08;
/// Number (u16, big endian): a kind or an owner, written once and then named by its number.
pub(crate) const NAME: u8 = 0x09;
/// No rest: how many documents there are.
pub(crate) const COUNT: u8 = 0x0a;
/// Link: nothing. Documents whose versions are not all of one kind.
pub(crate) const KIND_CHANGED: u8 = 0x0b;
/// Name of an instance, 0, number (see [`put_number`]): a message that the instance has not
/// confirmed.
pub(crate) const OUTBOX: u8 = 0x0c;
/// Name of an instance: how far its messages have come (see `outbox`).
pub(crate) const DESTINATION: u8 = 0x0d;
/// Factory: the position of the last entry with which a document of it went and left no tombstone.
pub(crate) const GONE: u8 = 0x0e;
/// Group of an instance (u32, big endian): the number of its last write (u64, big endian).
pub(crate) const INBOX: u8 = 0x0f;

/// All families of the state, in order.
pub(crate) const STATE: [u8; 15] = [
    HEAD,
    VERSION,
    AUTO_RECORD,
    USER_RECORD,
    USER_RECORD_TIME,
    FENCE,
    TASK,
    EXPIRATION,
    NAME,
    COUNT,
    KIND_CHANGED,
    OUTBOX,
    DESTINATION,
    GONE,
    INBOX,
];

/// Field number (u16, big endian), value (see `ordered`), link: nothing. Latest versions only.
pub(crate) const POSTING: u8 = 0x80;
/// The same for tombstones, and for their kind only.
pub(crate) const DEAD: u8 = 0x81;
/// Link: what the index holds of a document that has changed since (see `index`).
pub(crate) const DIRTY: u8 = 0x82;
/// Field number (u16, big endian): the path of the field.
pub(crate) const FIELD: u8 = 0x83;
/// No rest: how far the index has been built. Absent: it has to be made from nothing.
pub(crate) const INDEX_STATE: u8 = 0x84;

/// The rest of a `VERSION` key. A link has no byte 0, so links that begin alike stay apart.
pub(crate) fn version_rest(link: &str, version: u64) -> Vec<u8> {
    let mut rest = Vec::with_capacity(link.len() + 9);
    rest.extend_from_slice(link.as_bytes());
    rest.push(0);
    put_number(&mut rest, version);
    rest
}

/// A number in as few bytes as it needs, such that the order of the bytes is the order of the
/// numbers: how many bytes, then the bytes, big endian. Short keys differ sooner, and so are found
/// faster (see `storage::entries`).
pub(crate) fn put_number(rest: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    rest.push(u8::try_from(bytes.len() - zeros).expect("there are eight"));
    rest.extend_from_slice(&bytes[zeros..]);
}

/// Takes a number off the front that [`put_number`] has put there.
pub(crate) fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (&length, after) = rest.split_first()?;
    let (number, after) = after.split_at_checked(usize::from(length))?;
    let mut bytes = [0; 8];
    let zeros = bytes.len().checked_sub(number.len())?;
    bytes[zeros..].copy_from_slice(number);
    *rest = after;
    Some(u64::from_be_bytes(bytes))
}

/// The rest of a key that begins with a time.
pub(crate) fn time_rest(at: u64, name: &str) -> Vec<u8> {
    let mut rest = Vec::with_capacity(8 + name.len());
    rest.extend_from_slice(&at.to_be_bytes());
    rest.extend_from_slice(name.as_bytes());
    rest
}

/// The two parts of [`time_rest`].
pub(crate) fn split_time(rest: &[u8]) -> Option<(u64, &str)> {
    let (at, name) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*at), std::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_links_that_begin_alike_stay_apart() {
        assert!(version_rest("/a", u64::MAX) < version_rest("/a-b", 0));
        assert!(version_rest("/a", 255) < version_rest("/a", 256));
    }

    #[test]
    fn the_bytes_of_numbers_have_the_order_of_the_numbers() {
        let mut before = Vec::new();
        for number in [0, 1, 255, 256, 65_535, 65_536, 1 << 40, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert!(before < bytes, "{number}");
            let mut rest = &bytes[..];
            assert_eq!((take_number(&mut rest), rest.len()), (Some(number), 0));
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
            before = bytes;
        }
        assert_eq!(take_number(&mut &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]), None);
    }

    #[test]
    fn a_time_can_be_taken_off_again() {
        assert_eq!(split_time(&time_rest(7, "/a")), Some((7, "/a")));
        assert_eq!(split_time(&[0; 7]), None);
    }
}
