//! What a step wants to tell other nodes, gathered so that each link gets one frame a step.

use std::collections::BTreeMap;

use protocol::ReplicaId;

use crate::frame::{self, Frame};
use crate::io::Output;

#[derive(Default)]
pub(crate) struct Outbox {
    to_replicas: BTreeMap<ReplicaId, Vec<Frame>>,
    to_links: BTreeMap<u64, Vec<Frame>>,
}

impl Outbox {
    /// To a replica, over whatever link leads there; dropped when there is none (all that is sent
    /// this way is either repeated by consensus or watched by a deadline).
    pub(crate) fn send(&mut self, to: ReplicaId, frame: Frame) {
        self.to_replicas.entry(to).or_default().push(frame);
    }

    pub(crate) fn send_on(&mut self, link: u64, frame: Frame) {
        self.to_links.entry(link).or_default().push(frame);
    }

    /// Frames for one link come in the order in which they were given.
    pub(crate) fn flush(
        &mut self,
        link_of: impl Fn(ReplicaId) -> Option<u64>,
        outputs: &mut Vec<Output>,
    ) {
        for (replica, frames) in std::mem::take(&mut self.to_replicas) {
            if let Some(link) = link_of(replica) {
                self.to_links.entry(link).or_default().extend(frames);
            }
        }
        for (link, frames) in std::mem::take(&mut self.to_links) {
            outputs.push(Output::Send { link, frame: frame::encode(&frames) });
        }
    }
}
