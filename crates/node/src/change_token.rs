//! Where a reader of changes is, as text.

use std::collections::BTreeMap;

use documents::{Cursor, Place};
use protocol::hash::hash;
use protocol::{Code, GroupId, Position, Problem, varint};

/// How far a reader has come in each partition.
pub(crate) type Places = BTreeMap<GroupId, Place>;

/// Where a reader of changes is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) places: Places,
    /// In one partition it is being told what it has missed.
    pub(crate) catching: Option<Catching>,
}

/// What was missed in a partition after the reader's place there is told from the store: not in the
/// order of the log, but document by document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Catching {
    pub(crate) group: GroupId,
    /// Up to here. What comes later is told afterwards.
    pub(crate) until: Position,
    /// Stands for what the links of all documents that are told of begin with.
    pub(crate) prefix: u64,
    /// Behind this version of this document; `None`: from the first document on.
    pub(crate) after: Option<Cursor>,
}

impl From<Places> for Reading {
    fn from(places: Places) -> Self {
        Self { places, catching: None }
    }
}

/// The first byte of a token.
const VERSION: u8 = 1;

/// The same, of a reader that is being told what it has missed.
const VERSION_CATCHING: u8 = 2;

/// The last bytes of a token tell whether it is whole.
const SUM_BYTES: usize = 4;

/// A token holds all that is needed to go on at any node of the cluster with that name.
pub(crate) fn encode(cluster: u64, places: &Places) -> String {
    encode_parts(cluster, places, None)
}

pub(crate) fn encode_reading(cluster: u64, reading: &Reading) -> String {
    encode_parts(cluster, &reading.places, reading.catching.as_ref())
}

fn encode_parts(cluster: u64, places: &Places, catching: Option<&Catching>) -> String {
    let mut bytes = vec![if catching.is_some() { VERSION_CATCHING } else { VERSION }];
    bytes.extend_from_slice(&cluster.to_be_bytes());
    if let Some(Catching { group, until, prefix, after }) = catching {
        let (link, version) = after.as_ref().map_or(("", 0), |it| (it.link.as_str(), it.version));
        varint::put(&mut bytes, u64::from(group.0));
        varint::put(&mut bytes, until.0);
        varint::put(&mut bytes, *prefix);
        varint::put(&mut bytes, version);
        varint::put(&mut bytes, u64::try_from(link.len()).expect("a length fits"));
        bytes.extend_from_slice(link.as_bytes());
    }
    for (group, Place { position, taken }) in places {
        varint::put(&mut bytes, u64::from(group.0));
        varint::put(&mut bytes, position.0);
        // Almost always all changes of an entry were taken.
        varint::put(&mut bytes, u64::from(u32::MAX - taken));
    }
    let sum = hash(&bytes).to_be_bytes();
    bytes.extend_from_slice(&sum[..SUM_BYTES]);
    protocol::base64url::encode(&bytes)
}

/// # Errors
/// When it is no token, and when it is one of another cluster.
pub(crate) fn decode(
    cluster: u64,
    partitions: impl Iterator<Item = GroupId>,
    text: &str,
) -> Result<Reading, Problem> {
    let wrong = || {
        let text = "'after' is no token of changes: watch without it, and send the token that is \
                    answered then";
        Problem::bad_request(text)
    };
    let bytes = protocol::base64url::decode(text).ok_or_else(wrong)?;
    let (bytes, sum) =
        bytes.split_at_checked(bytes.len().saturating_sub(SUM_BYTES)).ok_or_else(wrong)?;
    if sum != &hash(bytes).to_be_bytes()[..SUM_BYTES] {
        return Err(wrong());
    }
    let (&version, rest) = bytes.split_first().ok_or_else(wrong)?;
    let (of, mut rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    if ![VERSION, VERSION_CATCHING].contains(&version) {
        return Err(wrong());
    }
    if u64::from_be_bytes(*of) != cluster {
        let text = "the token in 'after' is of another cluster: watch without it";
        return Err(Problem::new(Code::ChangesGone, text));
    }
    let catching = match version {
        VERSION_CATCHING => Some(take_catching(&mut rest).ok_or_else(wrong)?),
        _ => None,
    };
    let mut places = Places::new();
    while !rest.is_empty() {
        let mut number = || varint::take(&mut rest).map_err(|_| wrong());
        let (group, position, left) = (number()?, number()?, number()?);
        let group = u32::try_from(group).map_err(|_| wrong())?;
        let left = u32::try_from(left).map_err(|_| wrong())?;
        let place = Place { position: Position(position), taken: u32::MAX - left };
        places.insert(GroupId(group), place);
    }
    let is_known = |it: &Catching| places.contains_key(&it.group);
    if !places.keys().copied().eq(partitions) || !catching.as_ref().is_none_or(is_known) {
        return Err(wrong());
    }
    Ok(Reading { places, catching })
}

fn take_catching(rest: &mut &[u8]) -> Option<Catching> {
    let mut number = || varint::take(rest).ok();
    let (group, until, prefix) = (number()?, number()?, number()?);
    let (version, length) = (number()?, number()?);
    let (link, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let link = std::str::from_utf8(link).ok()?.to_owned();
    *rest = left;
    let after = (!link.is_empty()).then_some(Cursor { link, version });
    let group = GroupId(u32::try_from(group).ok()?);
    Some(Catching { group, until: Position(until), prefix, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_and_only_to_its_cluster() {
        let groups = || (1..=6).map(GroupId);
        let places: Places = groups()
            .map(|group| (group, Place { position: Position(1 << group.0), taken: group.0 }))
            .chain([(GroupId(6), Place::after(Position(u64::MAX)))])
            .collect();
        let token = encode(7, &places);
        assert_eq!(decode(7, groups(), &token).unwrap(), places.clone().into());
        let cursor = Cursor { link: "/a/ü".into(), version: u64::MAX };
        for after in [None, Some(cursor)] {
            let catching =
                Some(Catching { group: GroupId(3), until: Position(9), prefix: u64::MAX, after });
            let reading = Reading { places: places.clone(), catching };
            let token = encode_reading(7, &reading);
            assert_eq!(decode(7, groups(), &token).unwrap(), reading);
            assert_eq!(decode(7, (1..=2).map(GroupId), &token).unwrap_err().status(), 400);
        }
        assert_eq!(decode(8, groups(), &token).unwrap_err().status(), 410);
        assert_eq!(decode(7, (1..=5).map(GroupId), &token).unwrap_err().status(), 400);
        for at in 0..token.len() {
            let mut broken = token.clone().into_bytes();
            broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
            let broken = String::from_utf8(broken).unwrap();
            assert_eq!(decode(7, groups(), &broken).unwrap_err().status(), 400, "{at}");
        }
        for short in ["", "A", &token[..token.len() - 4]] {
            assert_eq!(decode(7, groups(), short).unwrap_err().status(), 400, "{short}");
        }
    }
}
