//! What a step wants to tell other nodes, gathered so that each link gets few frames a step.

use std::collections::BTreeMap;

use protocol::ReplicaId;

use crate::frame::{self, Frame};
use crate::io::Output;

/// A frame on a link that has so many bytes is closed, and another begun: the receiver works on the
/// first while the next is on its way, and no step can make one that is over the limit.
const GATHERED_BYTES: usize = 256 << 10;

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
            for gathered in gather(frames) {
                outputs.push(Output::Send { link, frame: frame::encode(gathered) });
            }
        }
    }
}

/// Parts of about the right length, in order.
fn gather(frames: Vec<Frame>) -> Vec<Vec<Frame>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for mut frame in frames {
        let last = parts.last_mut().expect("there is one from the beginning");
        if bytes >= GATHERED_BYTES {
            bytes = frame.weight();
            parts.push(vec![frame]);
        } else {
            bytes += frame.weight();
            last.push(frame);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::Response;

    use super::*;
    use crate::frame::Answer;

    #[test]
    fn much_goes_out_in_several_frames_in_order() {
        let mut outbox = Outbox::default();
        for number in 0..40 {
            let body = Bytes::from(vec![1; 40_000]);
            let answer = Answer::Response(Response::bytes(200, body));
            outbox.send_on(7, Frame::Answer { boot: 1, number, answer });
        }
        outbox.send_on(8, Frame::Stranger);
        let mut outputs = Vec::new();
        outbox.flush(|_| None, &mut outputs);
        let mut numbers = Vec::new();
        let mut count = 0;
        for output in outputs {
            let Output::Send { link, frame } = output else { panic!("{output:?}") };
            let whole = Bytes::from(frame.concat());
            assert!(whole.len() < GATHERED_BYTES + 50_000);
            count += usize::from(link == 7);
            for frame in frame::decode(&whole).unwrap() {
                if let Frame::Answer { number, .. } = frame {
                    numbers.push(number);
                }
            }
        }
        assert_eq!(numbers, (0..40).collect::<Vec<u64>>());
        assert_eq!(count, 6);
    }
}
