//! The log of a recording, as inputs to be delivered one at a time.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::immortal::{BlockHead, Message, SourceKind, put_block_head, put_message};
use protocol::{Moment, Position};

use crate::base::record::BaseRecord;
use crate::history::delivery::{one_by_one, without_skipped};
use crate::history::entry::{Lane, Mark};
use crate::history::indexed::{BadEntry, IndexedEntry, OwnInput};
use crate::history::input_state::InputState;
use crate::output::output_state::OutputState;
use crate::recording::Recording;

/// An input to be delivered.
pub(crate) struct Delivery {
    pub(crate) input: u64,
    pub(crate) time: Moment,
    pub(crate) block: Bytes,
    /// What the input is, if it is one of the node's own.
    pub(crate) own: Option<OwnInput>,
}

pub(crate) struct Tape {
    input_state: InputState,
    /// Inputs that were taken out.
    skipped: BTreeSet<u64>,
    /// The position of the last entry that was read.
    pub(crate) position: Position,
    pending: VecDeque<Delivery>,
    is_over: bool,
}

impl Tape {
    pub(crate) fn new(base: &BaseRecord, skipped: BTreeSet<u64>) -> Self {
        Self {
            input_state: base.input_state.clone(),
            skipped,
            position: base.position,
            pending: VecDeque::new(),
            is_over: false,
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
        self.pending.clear();
    }

    /// No more entries come. What was read is still to be delivered.
    pub(crate) fn has_no_more(&mut self) {
        self.is_over = true;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn next(&mut self) -> Option<Delivery> {
        self.pending.pop_front()
    }

    /// Reads an entry. What it confirms is confirmed to `output`. The result is the mark of the
    /// entry.
    ///
    /// # Errors
    /// When the entry cannot be read, or does not fit.
    pub(crate) fn read(
        &mut self,
        position: Position,
        bytes: Bytes,
        recording: &Recording,
        output: &mut OutputState,
    ) -> Result<Option<Mark>, BadEntry> {
        self.position = position;
        let entry = IndexedEntry::read(bytes)?;
        let logged = self.input_state.log(&entry)?;
        for (destination, up_to) in &logged.trims {
            output.confirm(destination, *up_to)?;
        }
        let group = recording.group;
        if entry.has_stream_of(group) {
            let up_to = self.input_state.logged_of(group, Lane::Stream);
            output.confirm(&recording.name, up_to)?;
        }
        if logged.count > 0 {
            let all = without_skipped(&logged, &self.skipped)?;
            for (input, block) in (logged.first..).zip(one_by_one(&all)?) {
                let own = logged.own.iter().find(|(at, _)| *at == input).map(|(_, own)| *own);
                let is_out = self.skipped.contains(&input);
                let own = own.filter(|own| !is_out || matches!(own, OwnInput::Resolved(_)));
                self.pending.push_back(Delivery { input, time: logged.time, block, own });
            }
        }
        Ok(logged.mark)
    }

    /// An upgrade that is not in the log, at the end of a state that has just been loaded. It takes
    /// the number of the last input in the state.
    pub(crate) fn put_upgrade(&mut self, version: u64) {
        let mut body = Vec::new();
        put_message(&mut body, &Message::Upgrade { version });
        let head = BlockHead { kind: SourceKind::Node, name: String::new(), first: 0, count: 1 };
        let mut block = Vec::new();
        put_block_head(&mut block, &head, body.len());
        block.extend_from_slice(&body);
        let (input, time) = (self.input_state.inputs, self.input_state.time);
        self.pending.push_back(Delivery { input, time, block: block.into(), own: None });
    }
}
