//! What nodes say to one another. A frame on a link is a list of these.
//!
//! The encoding is ours alone (postcard): both ends are this program, and the first message on a
//! link tells the version. Nothing that comes over a link is trusted to be well formed.

use bytes::Bytes;
use documents::{Cursor, Page, RequestKey};
use protocol::{GroupId, Position, ReplicaId, Request, Response, Source, Term};
use replication::{Members, Message};
use serde::{Deserialize, Serialize};

use crate::behind::Committed;
use crate::directory::Charter;
use crate::quorum::Claim;

/// Raised when a frame changes so that an older node could not read it.
pub(crate) const WIRE_VERSION: u32 = 2;

/// The longest frame that is accepted, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// The first on each link, from both ends.
    Hello(Hello),
    /// You are known here: this is your replica id.
    Known {
        replica: ReplicaId,
        charter: Charter,
    },
    /// Your sandbox is not known to this cluster: ask to be admitted.
    Stranger,
    /// You are not welcome; the text says why. The link is closed after it.
    Refused {
        why: String,
    },
    /// A new replica asks to be admitted. Passed on to the directory's owner.
    Admit(Newcomer),
    /// A sign of life.
    Ping(Ping),
    Raft {
        group: GroupId,
        message: Message,
    },
    /// A part of a snapshot.
    Chunk(Chunk),
    /// It was stored; the next may come.
    ChunkTaken {
        group: GroupId,
        transfer: u64,
        number: u32,
    },
    /// Between the replicas of an instance.
    Peer {
        group: GroupId,
        message: Box<immortals::Peer>,
    },
    /// From the owner of one instance to the owner of another.
    Between {
        from: GroupId,
        to: GroupId,
        message: Box<immortals::Between>,
    },
    /// The sender owns an instance, and takes messages for it.
    Owns {
        group: GroupId,
        term: Term,
    },
    /// A request for the owner of a group.
    Ask {
        /// Names the errand: the asking edge's boot, and its number there.
        boot: u64,
        number: u64,
        group: GroupId,
        /// The term of the owner that is asked. One of a later term does not take the request: the
        /// edge may have asked somebody else meanwhile, and have its answer.
        term: Term,
        key: Option<RequestKey>,
        again: bool,
        question: Question,
    },
    /// Its answer.
    Told {
        /// As in the question: an answer for an earlier boot is nobody's any more.
        boot: u64,
        number: u64,
        answer: Told,
    },
}

/// What is said to all others now and then, and when it changes in a way that they must hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// Its disk does.
    pub(crate) takes_writes: bool,
    /// About the membership quorum.
    pub(crate) claim: Claim,
    /// Of the groups that it owns.
    pub(crate) committed: Vec<Committed>,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) wire_version: u32,
    pub(crate) node_id: String,
    pub(crate) uri: String,
    pub(crate) sandbox_id: u64,
    pub(crate) boot: u64,
    /// None until it has one.
    pub(crate) replica: Option<ReplicaId>,
    /// The cluster its sandbox belongs to, if it has a replica id there.
    pub(crate) cluster: Option<u64>,
    /// A digest of its list of peers, to be equal on all while a cluster forms.
    pub(crate) peers_digest: u64,
    /// The partitions it would form a cluster with.
    pub(crate) partitions: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newcomer {
    pub(crate) node_id: String,
    pub(crate) uri: String,
    pub(crate) sandbox_id: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) group: GroupId,
    /// Names one snapshot of one sender.
    pub(crate) transfer: u64,
    /// From 0.
    pub(crate) number: u32,
    pub(crate) pairs: Vec<(Bytes, Bytes)>,
    /// On the last chunk: the offer itself, given to consensus once all is stored.
    pub(crate) last: Option<Message>,
    pub(crate) position: Position,
    pub(crate) term: Term,
    pub(crate) members: Members,
}

/// What the owner of a group is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Question {
    Rest(Request),
    Query {
        specification: Bytes,
        after: Option<Cursor>,
        limit: u64,
    },
    Fence(Source),
    Available,
    /// To the directory: an encoded `DirectoryCommand`.
    Directory(Bytes),
    /// To the owner of an instance.
    Immortal(immortals::Ask),
    /// How an instance is, as its owner knows it.
    ImmortalStatus,
}

impl Question {
    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Rest(request) => request.method.is_write(),
            Self::Query { .. } | Self::Available | Self::ImmortalStatus => false,
            Self::Fence(_) | Self::Directory(_) | Self::Immortal(_) => true,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Response(Response),
    Page(Page),
    /// Not the owner, or no longer: ask again. The request may have been written all the same, so
    /// it must be marked as asked before.
    NotOwner,
}

pub(crate) fn encode(frames: &[Frame]) -> Bytes {
    Bytes::from(postcard::to_stdvec(frames).expect("frames always encode"))
}

/// # Errors
/// A sentence that says what is wrong with the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Frame>, String> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(format!("a frame of {} bytes is over the limit", bytes.len()));
    }
    postcard::from_bytes(bytes).map_err(|error| format!("a frame cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use protocol::Method;

    use super::*;

    fn some_frames() -> Vec<Frame> {
        let mut request = Request::new(Method::Patch, "/core/examples/one");
        request.body = Bytes::from_static(b"{\"name\":\"x\"}");
        let key = RequestKey::Auto { edge: ReplicaId(1), boot: 2, number: 3, minute: 4 };
        vec![
            Frame::Ping(Ping { takes_writes: true, claim: Claim::default(), committed: vec![] }),
            Frame::Refused { why: "no".into() },
            Frame::Ask {
                boot: 2,
                number: 7,
                group: GroupId(3),
                term: Term(4),
                key: Some(key),
                again: false,
                question: Question::Rest(request),
            },
            Frame::Told {
                boot: 2,
                number: 7,
                answer: Told::Response(Response::bytes(200, Bytes::new())),
            },
            Frame::ChunkTaken { group: GroupId(1), transfer: 9, number: 0 },
        ]
    }

    #[test]
    fn frames_come_back_as_they_were_sent() {
        let frames = some_frames();
        let decoded = decode(&encode(&frames)).expect("what was encoded can be read");
        assert_eq!(format!("{decoded:?}"), format!("{frames:?}"));
    }

    #[test]
    fn damaged_frames_are_refused_or_read_but_never_a_panic() {
        let good = encode(&some_frames());
        let mut refused = 0;
        for cut in 0..good.len() {
            refused += usize::from(decode(&good[..cut]).is_err());
        }
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let place = usize::try_from(state % good.len() as u64).expect("a place fits");
                bytes[place] ^= state.to_be_bytes()[0];
            }
            refused += usize::from(decode(&bytes).is_err());
        }
        assert!(refused > 1_000, "damage is mostly noticed: {refused}");
    }
}
