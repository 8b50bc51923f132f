//! What nodes send to one another beside the links, or over a third node: packets that name their
//! whole way. Who passes a packet on takes itself off the way, so no packet can go round in a
//! circle.

use bytes::Bytes;
use protocol::hash::hash;
use serde::{Deserialize, Serialize};

/// The longest packet, in bytes: it fits into one frame of any usual network.
pub const PACKET_BYTES_MAX: usize = 1_400;

/// The most nodes on the way of a packet, its destination counted: longer ways are not taken.
pub(crate) const WAY_NODES_MAX: usize = 4;

/// The first bytes of each packet: whose it is, and the version of the encoding.
const MARK: [u8; 4] = *b"amr\x01";

const HEADER_BYTES: usize = MARK.len() + size_of::<u32>();

/// A node as the mesh knows it: by a hash of its address, which all nodes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeKey(pub u64);

impl NodeKey {
    pub fn of(address: &str) -> Self {
        Self(hash(address.as_bytes()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packet {
    pub(crate) from: NodeKey,
    /// The nodes still to be reached, in order; the last one is the destination.
    pub(crate) way: Vec<NodeKey>,
    pub(crate) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Whom the sender hears, and what it has heard of other nodes' hearing.
    Hearing(Vec<Report>),
    /// The sender wants a stream.
    Open {
        stream: u64,
    },
    Piece {
        stream: u64,
        piece: Piece,
    },
    /// Of the receiver of a stream: what has come.
    Taken {
        stream: u64,
        taken: Taken,
    },
    /// There is no such stream here, or not any more.
    Gone {
        stream: u64,
    },
}

/// Whom a node heard lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) node: NodeKey,
    /// Counts the reports of that node.
    pub(crate) number: u64,
    /// How long ago the report was made, in milliseconds.
    pub(crate) age_ms: u32,
    pub(crate) hears: Vec<Heard>,
}

/// In which ways one node hears another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub(crate) node: NodeKey,
    pub(crate) by_datagram: bool,
    pub(crate) by_link: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) number: u64,
    /// A frame ends with it.
    pub(crate) is_last: bool,
    pub(crate) bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// All pieces before this one have come.
    pub(crate) next: u64,
    /// Which of those behind it have come: bit 0 is `next + 1`.
    pub(crate) beyond: u128,
}

impl Packet {
    pub(crate) fn encode(&self) -> Bytes {
        let body = postcard::to_stdvec(self).expect("a packet always encodes");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&MARK);
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.into()
    }

    /// None for what is no packet of ours, or was damaged on its way.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
        let (mark, sum) = header.split_at(MARK.len());
        if mark != MARK || sum != crc32fast::hash(body).to_le_bytes() {
            return None;
        }
        let packet: Self = postcard::from_bytes(body).ok()?;
        (1..=WAY_NODES_MAX).contains(&packet.way.len()).then_some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest() -> Packet {
        let piece = Piece {
            number: u64::MAX,
            is_last: true,
            bytes: vec![7; crate::stream::PIECE_BYTES_MAX].into(),
        };
        Packet {
            from: NodeKey(u64::MAX),
            way: vec![NodeKey(u64::MAX); WAY_NODES_MAX],
            body: Body::Piece { stream: u64::MAX, piece },
        }
    }

    #[test]
    fn the_longest_piece_fits_into_a_packet_and_comes_back() {
        let bytes = longest().encode();
        assert!(bytes.len() <= PACKET_BYTES_MAX, "{}", bytes.len());
        assert_eq!(Packet::decode(&bytes), Some(longest()));
    }

    #[test]
    fn what_was_damaged_or_is_of_others_is_no_packet() {
        let good = longest().encode();
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(Packet::decode(&bad), None, "{at}");
            assert_eq!(Packet::decode(&good[..at]), None);
        }
    }
}
