//! What nodes say to one another. A frame on a link is a list of these.
//!
//! The encoding is ours alone (postcard): both ends are this program, and the first message on a
//! link tells the version. Nothing that comes over a link is trusted to be well formed.
//!
//! Long fields of bytes (entries, parts of snapshots, messages of programs) follow the encoded
//! frames as they are, so that neither end copies them.

use std::ops::Deref;

use bytes::Bytes;
use cluster::{Candidate, Hello, InitialConfig, Ping};
use group::Chunk;
use protocol::{
    GroupId, Position, Principal, Problem, ReplicaId, Request, RequestKey, Response, Source, Term,
};
use query::{Cursor, Page};
use replication::Message;
use serde::{Deserialize, Serialize};
use services::{Effort, PartitionQuestion};
use storage::Witness;

use crate::backup::words::BackupFrame;
use crate::serving::words::ServiceFrame;

/// From this length on a field of bytes is not copied. A field that is not copied keeps all that
/// came in the same frame in the receiver's memory, so short fields are better copied.
const LONG_BYTES_MIN: usize = 32 << 10;

/// How long a frame is without its fields of bytes, roughly.
const REST_BYTES: usize = 100;

/// How long a hit is without its document and its link, roughly.
const HIT_BYTES: usize = 48;

/// The longest frame that is accepted, in bytes.
pub const FRAME_BYTES_MAX: usize = 72 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// The first on each link, from both ends.
    Hello(Hello),
    /// You are known here: this is your replica id.
    Known {
        replica: ReplicaId,
        initial: InitialConfig,
    },
    /// Your sandbox is not known to this cluster: ask to be admitted.
    Stranger,
    /// From here on the sender knows which replica the receiver is, and takes what it sends. The
    /// sender has ignored what it was told before.
    Recognized,
    /// The answer of a member to the hello of another: what the sender remembers of the receiver.
    Remembered(Witness),
    /// You are not welcome; the text says why. The link is closed after it.
    Refused {
        why: String,
    },
    /// A new replica asks to be admitted.
    Admit(Candidate),
    /// A sign of life.
    Ping(Ping),
    Consensus {
        group: GroupId,
        message: Message,
    },
    /// A piece of a snapshot.
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
    /// For the owner of a group.
    Question {
        /// Names the request: the boot of the node that took it in, and its number there.
        boot: u64,
        number: u64,
        group: GroupId,
        /// The term of the owner that is asked. An owner of a later term does not take the question
        /// on, since another owner may have been asked meanwhile, and may have answered.
        term: Term,
        key: Option<RequestKey>,
        is_retry: bool,
        question: Question,
    },
    Answer {
        /// As in the question. Nobody waits any more for an answer that has an earlier boot.
        boot: u64,
        number: u64,
        answer: Answer,
    },
    Audit(Audit),
    Backup(Box<BackupFrame>),
    /// You are listed among those who ask to be admitted: a person is to decide.
    Listed,
    /// These nodes ask the sender to be admitted.
    Asking(Vec<Candidate>),
    /// You do not belong to the cluster any more: a person has removed you. The link is closed
    /// after it.
    Removed,
    /// About programs that have the handlers of kinds.
    Service(Box<ServiceFrame>),
}

/// The frames' names, in their order.
const NAMES: [&str; 22] = [
    "Hello",
    "Known",
    "Stranger",
    "Recognized",
    "Remembered",
    "Refused",
    "Admit",
    "Ping",
    "Consensus",
    "Chunk",
    "ChunkTaken",
    "Peer",
    "Between",
    "Owns",
    "Question",
    "Answer",
    "Audit",
    "Backup",
    "Listed",
    "Asking",
    "Removed",
    "Service",
];

/// About the states of a group's replicas, see `audit`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Audit {
    /// What is the digest of your state, if it stands at that position?
    Ask(Comparison),
    Answer {
        asked: Comparison,
        found: Option<Found>,
    },
    /// Your state at that position was not that of a majority, when it was of that generation.
    Differs {
        group: GroupId,
        position: Position,
        generation: u32,
    },
    /// My state is wrong: I ask for yours, though I have all entries.
    Refill {
        group: GroupId,
    },
}

/// What is to be compared, and in which round of its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) round: u64,
    pub(crate) group: GroupId,
    pub(crate) position: Position,
}

/// The digest of a state, and the generation that the state has on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) digest: u64,
    pub(crate) generation: u32,
}

/// What the owner of a group is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Question {
    Rest(Request),
    Query {
        specification: Bytes,
        after: Option<Cursor>,
        /// How many hits, and how many bytes of them, the answer may have.
        limit: u64,
        bytes: u64,
        effort: Effort,
        /// How much of the query's time is left, in microseconds.
        left_micros: u64,
        principal: Principal,
    },
    Fence(Source),
    Available,
    /// To the directory: an encoded `DirectoryCommand`.
    Directory(Bytes),
    /// To the owner of an instance.
    Instance(immortals::Request),
    /// How an instance is, as its owner knows it.
    InstanceStatus,
    /// Why it does not go on.
    InstanceExplained,
    /// What a binding of AMBROSIA's asks of an instance's registration.
    Ambrosia {
        /// The path below that of the registrations.
        rest: String,
        filter: String,
    },
    /// To the directory's owner: how far the directory is.
    DirectoryLevel,
}

impl Question {
    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Rest(request) => request.method.is_write(),
            Self::Query { .. } | Self::Available | Self::DirectoryLevel => false,
            Self::InstanceStatus | Self::InstanceExplained | Self::Ambrosia { .. } => false,
            Self::Fence(_) | Self::Directory(_) | Self::Instance(_) => true,
        }
    }

    /// How many of `replicas` must hold a write, as its client wishes.
    pub(crate) fn quorum(&self, replicas: usize) -> Result<usize, Problem> {
        match self {
            Self::Rest(Request { quorum: Some(quorum), .. }) => quorum.of(replicas),
            _ => Ok(0),
        }
    }

    /// As the owner of the directory is asked it; `None` if it is for another kind of group.
    pub(crate) fn of_directory(&self) -> Option<Bytes> {
        match self {
            Self::Directory(command) => Some(command.clone()),
            Self::DirectoryLevel => Some(Bytes::new()),
            _ => None,
        }
    }

    /// As the owner of a partition is asked it; `None` if it is for another kind of group.
    pub(crate) fn of_partition(self, is_retry: bool) -> Option<PartitionQuestion> {
        Some(match self {
            Self::Rest(request) if is_retry => PartitionQuestion::Resent(request),
            Self::Rest(request) => PartitionQuestion::Rest(request),
            Self::Query { specification, after, limit, bytes, effort, left_micros, principal } => {
                PartitionQuestion::Query {
                    spec_json: specification,
                    cursor: after,
                    limit: usize::try_from(limit).unwrap_or(usize::MAX),
                    bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                    effort,
                    left_micros,
                    principal,
                }
            }
            Self::Fence(source) => PartitionQuestion::Fence(source),
            Self::Available => PartitionQuestion::Available,
            Self::Directory(_) | Self::DirectoryLevel => return None,
            Self::Instance(_) | Self::InstanceStatus => return None,
            Self::InstanceExplained | Self::Ambrosia { .. } => return None,
        })
    }

    /// Whether it may be asked twice. By its key alone a second impulse from outside is known.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Instance(immortals::Request::Impulse { key: None, .. }))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Response(Response),
    /// The directory was changed, and its owner is at that position. The client is answered when
    /// the node that it asked has come as far, so that this node does not deny what it has just
    /// confirmed.
    Changed {
        response: Response,
        directory: Position,
    },
    Page(Page),
    /// The query takes more effort than the question allowed.
    TooLong,
    /// Not the owner, or no longer: ask again. The request may have been written all the same, so
    /// it must be marked as a retry.
    NotOwner,
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        Self::Response(problem.into())
    }
}

impl Answer {
    /// A page where a response was expected is our own mistake.
    pub(crate) fn into_response(self) -> Response {
        match self {
            Self::Response(response) | Self::Changed { response, .. } => response,
            Self::Page(_) | Self::TooLong | Self::NotOwner => {
                Problem::internal("an answer of the wrong kind").into()
            }
        }
    }
}

impl Frame {
    /// The fields of bytes that may be long, in a fixed order.
    fn bytes_fields(&mut self, visit: &mut dyn FnMut(&mut Bytes)) {
        match self {
            Self::Consensus { message, .. } => {
                message.entries.iter_mut().for_each(|entry| visit(&mut entry.data));
            }
            Self::Chunk(chunk) => chunk.pairs.iter_mut().for_each(|(_, value)| visit(value)),
            Self::Peer { message, .. } => {
                if let immortals::Peer::Chunk { bytes, .. } = &mut **message {
                    visit(bytes);
                }
            }
            Self::Between { message, .. } => {
                if let immortals::Between::Send { messages, .. } = &mut **message {
                    visit(messages);
                }
            }
            Self::Question { question: Question::Rest(request), .. } => visit(&mut request.body),
            Self::Question { question: Question::Query { specification, .. }, .. } => {
                visit(specification);
            }
            Self::Question { question: Question::Directory(command), .. } => visit(command),
            Self::Answer { answer: Answer::Response(response), .. } => visit(&mut response.body),
            Self::Backup(frame) => {
                if let BackupFrame::Page { page: Some(page), .. } = &mut **frame {
                    visit(page);
                }
            }
            Self::Service(frame) => frame.bytes_fields(visit),
            Self::Answer { answer: Answer::Page(page), .. } => {
                page.hits.iter_mut().filter_map(|hit| hit.document.as_mut()).for_each(visit);
            }
            _ => {}
        }
    }

    /// About how long the frame is, in bytes.
    pub(crate) fn weight(&mut self) -> usize {
        let mut bytes = REST_BYTES;
        self.bytes_fields(&mut |field| bytes += field.len());
        if let Self::Answer { answer: Answer::Page(page), .. } = self {
            // The documents are counted already.
            bytes += page.hits.iter().map(|hit| HIT_BYTES + hit.link.len()).sum::<usize>();
        }
        bytes
    }

    /// What is sent instead of a frame that is too long: an error for the node that waits for the
    /// answer.
    pub(crate) fn instead(self, bytes: usize) -> Option<Self> {
        let Self::Answer { boot, number, .. } = self else { return None };
        let text = format!(
            "the answer has {bytes} bytes, and nodes send one another at most {FRAME_BYTES_MAX}: \
             ask for less, or in pages"
        );
        let answer = Problem::new(protocol::Code::TooLarge, text).into();
        Some(Self::Answer { boot, number, answer })
    }
}

/// Where a long field behind the frames belongs: the number of the field, and its length.
type Place = (u32, u32);

/// There is room for this many frames at once.
const FRAMES_EXPECTED: usize = 64;

/// Room for a frame without its long fields. Few frames take more, and too little room only costs a
/// copy.
const FRAME_BYTES: usize = 96;

/// A frame on a link, in pieces. The other node gets the pieces one after the other.
///
/// **Invariant:** the frame is not longer than [`FRAME_BYTES_MAX`], so that the other node takes
/// it.
#[derive(Clone, Debug)]
pub struct LinkFrame(Vec<Bytes>);

impl LinkFrame {
    /// # Errors
    /// The pieces, when they are too long together.
    pub fn new(pieces: Vec<Bytes>) -> Result<Self, Vec<Bytes>> {
        let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
        if bytes <= FRAME_BYTES_MAX { Ok(Self(pieces)) } else { Err(pieces) }
    }

    pub fn into_pieces(self) -> Vec<Bytes> {
        self.0
    }
}

impl Deref for LinkFrame {
    type Target = [Bytes];

    fn deref(&self) -> &[Bytes] {
        &self.0
    }
}

/// These frames are too long together. The caller gets them back.
pub(crate) struct TooLong {
    pub(crate) frames: Vec<Frame>,
    pub(crate) bytes: usize,
}

/// # Errors
/// When the frames are longer together than the other node takes.
pub(crate) fn encode(mut frames: Vec<Frame>) -> Result<LinkFrame, TooLong> {
    let mut places: Vec<Place> = Vec::new();
    let mut pieces = vec![Bytes::new()];
    let (mut number, mut room) = (0, 0);
    for frame in &mut frames {
        room += FRAME_BYTES;
        frame.bytes_fields(&mut |field| {
            if field.len() >= LONG_BYTES_MIN {
                // A field whose length does not fit is found to be too long below.
                let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
                places.push((number, length));
                pieces.push(std::mem::take(field));
            }
            room += field.len();
            number += 1;
        });
    }
    let room = Vec::with_capacity(room);
    let encoded = if places.is_empty() {
        postcard::to_extend(&frames, room)
    } else {
        let all = (frames, places);
        let encoded = postcard::to_extend(&all, room);
        (frames, places) = all;
        encoded
    };
    pieces[0] = Bytes::from(encoded.expect("frames always encode"));
    LinkFrame::new(pieces).map_err(|pieces| {
        let bytes = pieces.iter().map(Bytes::len).sum();
        let (mut number, mut places) = (0, places.into_iter().peekable());
        let mut long = pieces.into_iter().skip(1);
        for frame in &mut frames {
            frame.bytes_fields(&mut |field| {
                if places.next_if(|(place, _)| *place == number).is_some() {
                    *field = long.next().expect("each place has its piece");
                }
                number += 1;
            });
        }
        TooLong { frames, bytes }
    })
}

/// The messages of consensus in a frame of [`crate::Output::Send`], for a checker of promises.
pub fn consensus_in(pieces: &[Bytes]) -> Vec<(GroupId, Message)> {
    let frames = decode(&pieces.concat().into()).unwrap_or_default();
    let consensus = |frame| match frame {
        Frame::Consensus { group, message } => Some((group, message)),
        Frame::Chunk(chunk) => chunk.last.map(|offer| (chunk.group, offer)),
        _ => None,
    };
    frames.into_iter().filter_map(consensus).collect()
}

/// # Errors
/// A sentence that says what is wrong with the bytes.
pub(crate) fn decode(bytes: &Bytes) -> Result<Vec<Frame>, String> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(format!("a frame of {} bytes is over the limit", bytes.len()));
    }
    let unreadable = |error: postcard::Error| format!("a frame cannot be read: {error}");
    let (count, mut rest) = postcard::take_from_bytes::<usize>(bytes).map_err(unreadable)?;
    // Each frame has a byte or more.
    let mut frames = Vec::with_capacity(count.min(rest.len()).min(FRAMES_EXPECTED));
    let mut last = "none";
    for _ in 0..count {
        last = name_at(rest)?;
        let read = postcard::take_from_bytes::<Frame>(rest);
        let (frame, behind) =
            read.map_err(|error| format!("a frame {last} cannot be read: {error}"))?;
        frames.push(frame);
        rest = behind;
    }
    if !rest.is_empty() {
        let behind = || {
            format!(
                "behind the frame {last} are {} bytes that it does not have, and that are no long \
                 field of it",
                rest.len()
            )
        };
        let (places, long) = postcard::take_from_bytes::<Vec<Place>>(rest).map_err(|_| behind())?;
        if places.is_empty() {
            return Err(behind());
        }
        put_back(&mut frames, places, bytes.slice_ref(long))?;
    }
    Ok(frames)
}

/// The name of the frame that begins there.
fn name_at(bytes: &[u8]) -> Result<&'static str, String> {
    let read = postcard::take_from_bytes::<usize>(bytes);
    let (number, _) = read.map_err(|error| format!("a frame cannot be read: {error}"))?;
    let name = NAMES.get(number).copied();
    name.ok_or_else(|| format!("frame {number} is not known: the last one is {}", NAMES.len() - 1))
}

/// Puts the long fields where they belong.
fn put_back(frames: &mut [Frame], places: Vec<Place>, mut long: Bytes) -> Result<(), String> {
    let mut places = places.into_iter().peekable();
    let (mut number, mut missing) = (0, 0);
    for frame in frames {
        frame.bytes_fields(&mut |field| {
            if let Some((_, length)) = places.next_if(|(place, _)| *place == number) {
                let length = usize::try_from(length).expect("a u32 fits");
                // A field that is cut is found below.
                *field = long.split_to(length.min(long.len()));
                missing += length - field.len();
            }
            number += 1;
        });
    }
    if missing > 0 || places.next().is_some() || !long.is_empty() {
        return Err("a frame cannot be read: what stands behind it is not what it tells".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cluster::Claim;
    use protocol::Method;

    use super::*;

    fn some_frames() -> Vec<Frame> {
        let mut request = Request::new(Method::Patch, "/core/examples/one");
        request.body = Bytes::from_static(b"{\"name\":\"x\"}");
        let key = RequestKey::Auto { edge: ReplicaId(1), boot: 2, number: 3, minute: 4 };
        vec![
            Frame::Ping(Ping {
                health: cluster::Health::default(),
                wall: protocol::Moment(5),
                claim: Claim::default(),
                frames: 3,
                committed: vec![],
                sent: 1,
                echo: Some(cluster::Echo { sent: 2, held: 3 }),
            }),
            Frame::Refused { why: "no".into() },
            Frame::Question {
                boot: 2,
                number: 7,
                group: GroupId(3),
                term: Term(4),
                key: Some(key),
                is_retry: false,
                question: Question::Rest(request),
            },
            Frame::Answer {
                boot: 2,
                number: 7,
                answer: Answer::Response(Response::bytes(200, Bytes::new())),
            },
            Frame::ChunkTaken { group: GroupId(1), transfer: 9, number: 0 },
        ]
    }

    #[test]
    fn frames_come_back_as_they_were_sent() {
        let frames = some_frames();
        let decoded = decode(&whole(frames.clone())).expect("what was encoded can be read");
        assert_eq!(format!("{decoded:?}"), format!("{frames:?}"));
    }

    /// As it comes out of a link.
    fn whole(frames: Vec<Frame>) -> Bytes {
        encode(frames).ok().expect("they are short").concat().into()
    }

    fn long_and_short() -> Vec<Frame> {
        let answer = |byte, bytes| Frame::Answer {
            boot: 1,
            number: 2,
            answer: Answer::Response(Response::bytes(200, Bytes::from(vec![byte; bytes]))),
        };
        let (long, short) = (LONG_BYTES_MIN, LONG_BYTES_MIN - 1);
        vec![answer(1, long), answer(2, short), Frame::Stranger, answer(3, 0), answer(4, 2 * long)]
    }

    #[test]
    fn long_fields_are_copied_by_neither_end() {
        let mut frames = long_and_short();
        let Frame::Answer { answer: Answer::Response(first), .. } = &frames[0] else {
            unreachable!()
        };
        let place = first.body.as_ptr();
        let pieces = encode(frames.clone()).ok().expect("they are short");
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), place);
        let whole = Bytes::from(pieces.concat());
        let mut decoded = decode(&whole).expect("what was encoded can be read");
        assert_eq!(format!("{decoded:?}"), format!("{frames:?}"));
        let Frame::Answer { answer: Answer::Response(first), .. } = &decoded[0] else {
            unreachable!()
        };
        assert!(whole.as_ptr_range().contains(&first.body.as_ptr()));
        let weight = |frames: &mut [Frame]| frames.iter_mut().map(Frame::weight).sum::<usize>();
        assert_eq!(weight(&mut decoded), weight(&mut frames));
        assert!(weight(&mut frames) > 4 * LONG_BYTES_MIN);
    }

    #[test]
    fn a_frame_whose_long_fields_are_not_what_it_tells_is_refused() {
        let frames = long_and_short();
        let good = whole(frames.clone());
        for cut in [1, LONG_BYTES_MIN, 2 * LONG_BYTES_MIN, 3 * LONG_BYTES_MIN] {
            assert!(decode(&good.slice(..good.len() - cut)).is_err(), "{cut}");
        }
        assert!(decode(&[&good[..], b"x"].concat().into()).is_err());
        let head = |places: Vec<Place>| {
            Bytes::from(postcard::to_stdvec(&(vec![Frame::Stranger], places)).unwrap())
        };
        assert!(decode(&head(vec![(0, 0)])).is_err());
        assert!(decode(&head(vec![(u32::MAX, u32::MAX)])).is_err());
    }

    /// One of each, of nothing but zeros.
    fn each_frame() -> Vec<Frame> {
        let of = |number: usize| {
            let zeros = [&[u8::try_from(number).unwrap()][..], &[0; 4096]].concat();
            let (frame, _) = postcard::take_from_bytes::<Frame>(&zeros)
                .unwrap_or_else(|error| panic!("{}: {error}", NAMES[number]));
            frame
        };
        (0..NAMES.len()).map(of).collect()
    }

    #[test]
    fn each_frame_names_itself_when_it_has_more_or_less_than_is_known() {
        for (frame, name) in each_frame().into_iter().zip(NAMES) {
            let shown = format!("{frame:?}");
            let end = shown.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(shown.len());
            assert_eq!(&shown[..end], name);
            let good = whole(vec![Frame::Stranger, frame]);
            assert!(decode(&good).is_ok(), "{name}");
            for more in [&b"x"[..], &[0], &[0, 0], &[255; 12]] {
                let why = decode(&[&good[..], more].concat().into()).unwrap_err();
                assert!(why.contains(&format!("the frame {name} ")), "{name} {more:?}: {why}");
            }
            let why = decode(&good.slice(..good.len() - 1)).unwrap_err();
            let is_named = why.contains(&format!("a frame {name} ")) || good.len() == 3;
            assert!(is_named, "{name}: {why}");
        }
        let unknown = u8::try_from(NAMES.len()).unwrap();
        let why = decode(&Bytes::from(vec![1, unknown])).unwrap_err();
        assert!(why.contains(&format!("frame {unknown} is not known")), "{why}");
    }

    #[test]
    fn damaged_frames_are_refused_or_read_but_never_a_panic() {
        let good = whole(some_frames());
        let mut refused = 0;
        for cut in 0..good.len() {
            refused += usize::from(decode(&good.slice(..cut)).is_err());
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
            refused += usize::from(decode(&bytes.into()).is_err());
        }
        assert!(refused > 1_000, "damage is mostly noticed: {refused}");
    }
}
