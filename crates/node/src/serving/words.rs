//! What the parts of a node, and nodes, say to one another about programs that serve kinds.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::service::{Answer, Call, Has, Serve};
use protocol::{GroupId, Problem, ReplicaId};
use serde::{Deserialize, Serialize};

/// Between nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ServiceFrame {
    /// What the programs at the sender have, by the factories of their kinds.
    Serves(BTreeMap<String, Has>),
    /// For one of these programs.
    Call {
        /// As in a question.
        boot: u64,
        number: u64,
        /// How much of the call's time is left, in microseconds.
        left_micros: u64,
        /// How many copies have failed at it already, at any node.
        tries: u8,
        call: Box<Call>,
    },
    /// What came of it.
    Called { boot: u64, number: u64, outcome: CallOutcome },
}

/// What came of a call at another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum CallOutcome {
    Answer(Answer),
    /// There is no copy there any more. `tries`: how many copies have failed at it by now.
    NoCopy {
        tries: u8,
    },
    Failed(Problem),
}

impl ServiceFrame {
    /// The fields of bytes that may be long, in a fixed order.
    pub(crate) fn bytes_fields(&mut self, visit: &mut dyn FnMut(&mut Bytes)) {
        match self {
            Self::Call { call, .. } => {
                [&mut call.before, &mut call.after, &mut call.body].into_iter().for_each(visit);
            }
            Self::Called { outcome: CallOutcome::Answer(answer), .. } => {
                answer.state_mut().into_iter().for_each(visit);
            }
            Self::Serves(_) | Self::Called { .. } => {}
        }
    }
}

/// The programs that have the handlers of a kind, for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct KindPrograms {
    /// Those that are attached here: the version of each, and how many calls it has.
    pub(crate) here: Vec<(String, usize)>,
    /// Other nodes that have some.
    pub(crate) nodes: Vec<ReplicaId>,
}

/// What is to be done before the step is over.
#[derive(Debug)]
pub(crate) enum ServiceWork {
    /// A program wants to serve a kind; what it has said behind that goes with it.
    Serve(u64, Serve, Bytes),
    /// Bytes of such a program.
    Said(u64, Bytes),
    /// Its connection has ended.
    Closed(u64),
    /// A partition that is owned here asks a program.
    Ask { group: GroupId, opening: u64, number: u64, call: Call },
    /// A call goes to a program at another node.
    PassOn { replica: ReplicaId, number: u64, call: Call },
    /// All other nodes are to know what the programs here have.
    Tell(BTreeMap<String, Has>),
    /// There is a link to a node, which takes what it is sent.
    Reached(ReplicaId),
}
