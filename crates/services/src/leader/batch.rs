//! What the leader knows of the batches that are under way. What it does with them is in
//! [`super::batches`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use documents::{KeptOutcome, Recorded, Write};
use protocol::{Document, Moment, Request, RequestKey, Response, Source};

use super::asked::Asked;
use crate::invocation::NewVersion;

/// The batches of a partition that are under way.
#[derive(Default)]
pub(super) struct Batches {
    pub(super) open: BTreeMap<u64, Batch>,
    /// Those that hold their lines, and whose next handler is to run.
    pub(super) due: VecDeque<u64>,
    /// Those that have had their turn.
    pub(super) later: Vec<u64>,
    /// Lines that a batch has let go.
    pub(super) free: VecDeque<String>,
    /// Those with a handler that runs elsewhere, by its number.
    pub(super) elsewhere: BTreeMap<u64, u64>,
}

pub(super) struct Batch {
    pub(super) asked: Asked,
    pub(super) requests: Vec<Part>,
    /// How often it came back without effect.
    pub(super) runs: u8,
    pub(super) stage: Stage,
}

/// One of its writes.
pub(super) struct Part {
    pub(super) request: Arc<Request>,
    pub(super) key: Option<RequestKey>,
}

pub(super) enum Stage {
    /// It is the first in the lines of this many of its documents, at least.
    Waiting {
        ready: usize,
    },
    Running(Run),
    InFlight {
        proposal: u64,
        made: Vec<Made>,
    },
}

#[derive(Default)]
pub(super) struct Run {
    pub(super) made: Vec<Made>,
    pub(super) bytes: usize,
}

/// What came of one write.
pub(super) enum Made {
    New(Box<NewVersion>),
    /// The version is in flight in the line of its document.
    InFlight {
        status: u16,
        written: Moment,
        version: u64,
    },
    /// Nothing is written, and the answer is the document as it is.
    Shown(Arc<Document>),
    Said(Response),
    /// It was done before, under the same key.
    Before(Recorded),
}

impl Batch {
    pub(super) fn links(&self) -> impl Iterator<Item = &str> {
        self.requests.iter().map(|part| part.request.path.as_str())
    }
}

impl Batches {
    pub(super) fn batch_mut(&mut self, id: u64) -> &mut Batch {
        self.open.get_mut(&id).expect("a batch is open until it is answered")
    }

    pub(super) fn run_mut(&mut self, id: u64) -> &mut Run {
        match &mut self.batch_mut(id).stage {
            Stage::Running(run) => run,
            _ => unreachable!("a batch whose handlers run is running"),
        }
    }
}

impl Made {
    pub(super) fn kept(&self) -> KeptOutcome {
        let of = |status, version, written| KeptOutcome { status, version, written, body: None };
        match self {
            Self::New(version) => {
                of(version.status, version.document.version, version.document.updated)
            }
            Self::InFlight { status, written, version } => of(*status, *version, *written),
            Self::Shown(document) => of(200, document.version, document.updated),
            Self::Said(Response { status, body, .. }) => {
                KeptOutcome { body: Some(body.clone()), ..of(*status, 0, Moment(0)) }
            }
            Self::Before(Recorded { status, version, written, response, .. }) => KeptOutcome {
                body: response.clone(),
                ..of(*status, *version, written.unwrap_or_default())
            },
        }
    }

    pub(super) fn write(&self, key: Option<RequestKey>, source: Option<Source>) -> Option<Write> {
        let Self::New(version) = self else { return None };
        Some(version.to_write(key, source, None))
    }
}
