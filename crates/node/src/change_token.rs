//! Where a reader of changes is, as text.

use std::collections::BTreeMap;

use documents::Place;
use protocol::hash::hash;
use protocol::{Code, GroupId, Position, Problem, varint};

/// How far a reader has come in each partition.
pub(crate) type Places = BTreeMap<GroupId, Place>;

/// The first byte of every token.
const VERSION: u8 = 1;

/// The last bytes of a token tell whether it is whole.
const SUM_BYTES: usize = 4;

/// A token holds all that is needed to go on at any node of the cluster with that name.
pub(crate) fn encode(cluster: u64, places: &Places) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&cluster.to_be_bytes());
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
) -> Result<Places, Problem> {
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
    let (of, mut rest) = match bytes.split_first() {
        Some((&VERSION, rest)) => rest.split_first_chunk::<8>().ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    if u64::from_be_bytes(*of) != cluster {
        let text = "the token in 'after' is of another cluster: watch without it";
        return Err(Problem::new(Code::ChangesGone, text));
    }
    let mut places = Places::new();
    while !rest.is_empty() {
        let mut number = || varint::take(&mut rest).map_err(|_| wrong());
        let (group, position, left) = (number()?, number()?, number()?);
        let group = u32::try_from(group).map_err(|_| wrong())?;
        let left = u32::try_from(left).map_err(|_| wrong())?;
        let place = Place { position: Position(position), taken: u32::MAX - left };
        places.insert(GroupId(group), place);
    }
    if !places.keys().copied().eq(partitions) {
        return Err(wrong());
    }
    Ok(places)
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
        assert_eq!(decode(7, groups(), &token).unwrap(), places);
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
